# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# bash completion for vfio-type1-stat: options, and the containers that are open.

_vfio_type1_stat()
{
	local debugfs=/sys/kernel/debug dir i words

	for ((i = 1; i < COMP_CWORD; i++)); do
		if [ "${COMP_WORDS[i]}" = --debugfs ]; then
			debugfs=${COMP_WORDS[i + 1]}
		fi
	done
	COMPREPLY=()
	case $3 in
	--debugfs)
		mapfile -t COMPREPLY < <(compgen -d -- "$2")
		return ;;
	--count)
		return ;;
	esac
	words="--explain --json --watch --count --debugfs --help --version"
	if [[ $2 != -* ]]; then
		words=
		for dir in "$debugfs"/vfio_type1/*/; do
			dir=${dir%/}
			words+=" ${dir##*/}"
		done
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$2")
}
complete -F _vfio_type1_stat vfio-type1-stat
