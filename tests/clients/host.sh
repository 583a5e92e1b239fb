# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the tests that run clients share outside of the VM, beside tests/lib.sh.

# run_in_vm CLIENT CASES SECONDS [OPTION VALUE]...: boot a VM with options for
# tests/vm/run, let CLIENT_in_vm run CASES there, and count its results.
run_in_vm()
{
	local name=$1_in_vm line status options

	options=(--kernel "${KERNEL:-6.1}" --iommu "${IOMMU:-intel}" --driver "${DRIVER:-ours}" --mem 3G
		--timeout "$3" "${@:4}")
	exec 3< <("$TOP/tests/clients/boot" "${options[@]}" --file "$TOP/tests/clients/lib.sh:lib.sh" \
		--file "$TOP/tests/clients/$name:$name" -- bash "/vm/$name" "$2" 2>&1)
	while read -r line <&3; do
		line=${line%$'\r'}
		echo "$line"
		# shellcheck disable=SC2154	# tests/lib.sh has them
		case $line in
		'ok '*)		passed=$((passed + 1)) ;;
		'FAILED '*)	failed=$((failed + 1)) ;;
		esac
	done
	wait "$!" && status=0 || status=$?
	exec 3<&-
	if [ "$status" -eq 0 ]; then
		pass "$1${2:+, $2}: to the end"
	else
		fail "$1${2:+, $2}: to the end" "status $status"
	fi
}
