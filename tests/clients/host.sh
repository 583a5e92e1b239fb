# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the tests that run clients share outside of the VM, beside tests/lib.sh.

# run_in_vm PLANNED CLIENT CASES SECONDS [OPTION VALUE]...: boot a VM with options for
# tests/vm/run, let CLIENT_in_vm run CASES there, and count its results: as many as planned.
run_in_vm()
{
	local planned=$1 client=$2 cases=$3 name=$2_in_vm line status options version=0.2 before

	# shellcheck disable=SC2154	# tests/lib.sh has them
	before=$((passed + failed))
	[ "${DRIVER:-ours}" = intree ] || version=$("$TOP/tools/version")
	options=(--kernel "${KERNEL:-6.1}" --iommu "${IOMMU:-intel}" --driver "${DRIVER:-ours}" --mem 3G
		--timeout "$4" "${@:5}")
	exec 3< <("$TOP/tests/clients/boot" "${options[@]}" --file "$TOP/tests/lib.sh:results.sh" \
		--file "$TOP/tests/clients/lib.sh:lib.sh" --file "$TOP/tests/clients/$name:$name" -- \
		env VERSION="$version" bash "/vm/$name" "$cases" 2>&1)
	while read -r line <&3; do
		line=${line%$'\r'}
		echo "$line"
		case $line in
		'ok '*)		passed=$((passed + 1)) ;;
		'FAILED '*)	failed=$((failed + 1)) ;;
		esac
	done
	wait "$!" && status=0 || status=$?
	exec 3<&-
	expect "$client, $cases: to the end" test "$status" -eq 0
	expect "$client, $cases: $planned results" test $((passed + failed - before - 1)) -eq "$planned"
}
