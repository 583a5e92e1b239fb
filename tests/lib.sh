# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What tests written in shell share: results, their counts, and a folder, $tmp, that
# is gone at the end. The last line of a test is 'results', its status the test's.

passed=0 failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

pass() { echo "ok      $1"; passed=$((passed + 1)); }

# fail NAME [WHAT WAS SEEN]
fail()
{
	echo "FAILED  $1"
	[ -z "${2:-}" ] || printf '        %s\n' "${2//$'\n'/$'\n        '}"
	failed=$((failed + 1))
}

# expect NAME COMMAND...: the test passes if the command succeeds.
expect()
{
	local name=$1
	shift
	if "$@" > "$tmp/said" 2>&1; then
		pass "$name"
	else
		fail "$name" "$(tail -n 100 "$tmp/said")"
	fi
}

results()
{
	echo "$passed passed, $failed failed, 0 skipped"
	[ "$failed" -eq 0 ]
}
