# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the project's scripts share: where the cache is, and how they speak.
# All downloads and builds that outlive a checkout are below $CACHE, which
# 'make clean-cache' empties.

CACHE=${VFIO_TYPE1_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfio-type1}
# shellcheck disable=SC2034	# used by the scripts that source this file
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

note() { echo "${0##*/}: $*" >&2; }
die() { note "$*"; exit 1; }

# need COMMAND PACKAGE: give up, in one sentence, if COMMAND is not there.
need()
{
	command -v "$1" >/dev/null 2>&1 ||
		die "'$1' is missing: install Debian's package '$2' (as root: apt-get install $2)"
}

# build_dir NAME: where this checkout builds NAME.
build_dir()
{
	echo "$CACHE/build/$(echo "$TOP" | sha1sum | cut -c1-12)/$1"
}

# make_programs FOLDER OUT [MAKE ARGUMENT]...: build a folder's programs into OUT.
# What two jobs need at the same time is built by the first of them.
make_programs()
{
	local folder=$1 out=$2

	shift 2
	mkdir -p "$out"
	(flock 9 && make -s -C "$TOP/$folder" OUT="$out" "$@") 9> "$out.lock"
}

# copy_sources DIR: Kbuild puts objects beside sources, so that each kernel needs
# its own copy. Times are kept, and so is what was built before.
copy_sources()
{
	mkdir -p "$1"
	rsync -a --delete --filter='P *.o' --filter='P *.ko' --filter='P *.mod*' --filter='P .*' \
		--filter='P modules.order' --filter='P Module.symvers' \
		--exclude=.git --include='*/' --include='Kbuild*' --include='*.[ch]' --exclude='*' \
		"$TOP/" "$1/"
}
