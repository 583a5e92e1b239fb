# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Runs jobs, one more at a time than there are CPUs, as they also wait; each ends with a
# line 'N passed, N failed, N skipped'. Prints a line for each and adds up. The output of
# each job is kept in a folder below the cache, $logs, and the lines in $logs/results; the
# output of a failed job is shown. Sourced after tools/lib.sh by scripts that call
# jobs_start, job as often as they like, and jobs_end.

PARALLEL=$(($(nproc) + 1))
passed=0 failed=0 skipped=0 running=0
declare -A name_of began

# finish: wait for a job, and add its counts to ours. One without tests failed.
finish()
{
	local pid status counts name verdict=ok p f s

	wait -n -p pid
	status=$?
	running=$((running - 1))
	name=${name_of[$pid]}
	counts=$(tail -n 1 "$logs/$name" | grep -xE '[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped')
	read -r p _ f _ s _ <<< "${counts:-0 passed, 1 failed, 0 skipped}"
	if [ "$f" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$p" -eq 0 ]; }; then
		f=1
	fi
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	[ "$f" -eq 0 ] || verdict=FAILED
	printf '%-7s %-24s %4d passed %3d failed %3d skipped %5d s\n' \
		$verdict "$name" "$p" "$f" "$s" $((SECONDS - began[$pid])) | tee -a "$logs/results"
	[ "$f" -eq 0 ] || sed "s/^/        /" "$logs/$name"
}

# job NAME COMMAND...: run a command when there is a place for it.
job()
{
	local name=$1
	shift
	[ $running -lt $PARALLEL ] || finish
	"$@" > "$logs/$name" 2>&1 </dev/null &
	name_of[$!]=$name began[$!]=$SECONDS
	running=$((running + 1))
}

# jobs_start FOLDER: where the output goes, below this checkout's part of the cache.
jobs_start()
{
	logs=$(build_dir "$1")
	rm -rf "$logs"
	mkdir -p "$logs"
}

# jobs_wait: until no job runs any more.
jobs_wait()
{
	while [ $running -gt 0 ]; do
		finish
	done
}

# jobs_end: say what came of all of them. Return: 1 if any failed.
jobs_end()
{
	jobs_wait
	echo "logs: $logs, $SECONDS s"
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
