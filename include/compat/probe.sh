#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Ask a kernel's headers what its API looks like. For Kbuild, by way of probes.mk:
#
#	probe.sh HEADER COMPILER FLAGS...
#
# Each probe in probes/*.c has several answers; just one of them must compile. All those of a
# file are compiled at once, and judged by the lines that the compiler finds errors in. Then
# those that compiled are compiled by themselves, without any error: so no answer can come
# from what went wrong elsewhere. HEADER gets a line for each,
#
#	#define VFIO_PROBE_ANSWER	1, or 0
#
# and is left alone if nothing that the answers came from has changed: compiler, flags, probes,
# and the contents of all headers.

set -eu
LC_ALL=C
export LC_ALL
header=$1
shift
probes=$(dirname "$0")/probes
dir=$(dirname "$header")

give_up()
{
	echo "vfio-type1: the probes of this kernel's headers failed: $*" >&2
	exit 1
}

# What Kbuild notes down about its own objects is none of ours.
for flag; do
	shift
	case $flag in
	-Wp,-MMD,* | -Wp,-MD,*) ;;
	*)	set -- "$@" "$flag" ;;
	esac
done

# key: of all that an answer depends on. The list of headers is that of the last time.
key()
{
	{
		printf '%s\n' "$@"
		"$1" --version
		cat "$0" "$probes"/*.[ch]
		xargs cat < "$dir/headers"
	} 2>&1 | sha256sum
}

if [ -e "$header" ] && [ -e "$dir/headers" ] && [ "$(key "$@")" = "$(cat "$dir/key" 2>/dev/null)" ]; then
	exit 0
fi
echo "  PROBE   $header"
mkdir -p "$dir"
rm -f "$dir/key"

# compile NAME FLAGS...: $dir/NAME.c, and keep what the compiler says.
compile()
(
	name=$1
	shift
	"$@" -I"$probes" -Wno-error -fsyntax-only "$dir/$name.c" > "$dir/$name.said" 2>&1
)

# errors FILE: what they were found in.
errors() { sed -nE 's/^([^:]*):[0-9]+(:[0-9]+)?: (fatal )?error: .*/\1/p' "$1" | sort -u; }

# ask NAME FLAGS...: the answers of a file, into $dir/NAME.answers.
ask()
{
	name=$1
	shift
	# Errors in an answer are found in a file called as the answer is.
	awk -v "file=$name" '
		/^$/ {
			print
			if (inside)
				print "#line " NR + 1 " \"" file "\""
			inside = 0
			next
		}
		/^ANSWER\(/ {
			split($0, word, /[(), ]+/)
			print "#line 1 \"" word[2] "." word[3] "\""
			inside = 1
		}
		{ print }' "$probes/$name.c" > "$dir/$name.c"
	sed -nE 's/^ANSWER\((.*), (.*)\)$/\1.\2/p' "$probes/$name.c" | sort > "$dir/$name.all"
	compile "$name" "$@" && give_up "all of $name.c compiles"
	errors "$dir/$name.said" > "$dir/$name.wrong"
	stray=$(comm -13 "$dir/$name.all" "$dir/$name.wrong")
	if [ -n "$stray" ] || [ ! -s "$dir/$name.wrong" ]; then
		head -n 20 "$dir/$name.said" >&2
		give_up "what all of $name.c has in common does not compile (see above)"
	fi
	comm -23 "$dir/$name.all" "$dir/$name.wrong" > "$dir/$name.right"

	for probe in $(sed 's/\..*//' "$dir/$name.all" | uniq); do
		right=$(sed -n "s/^$probe\.//p" "$dir/$name.right" | tr '\n' ' ')
		case $right in
		'')	grep "^$probe\." "$dir/$name.said" >&2
			give_up "no answer to $probe in $name.c compiles (see above)" ;;
		*' '?*)	give_up "more than one answer to $probe in $name.c compiles: $right" ;;
		esac
	done

	awk -v "right=$dir/$name.right" '
		BEGIN { while ((getline line < right) > 0) wanted[line] }
		/^$/ { skip = 0 }
		/^ANSWER\(/ { split($0, word, /[(), ]+/); skip = !((word[2] "." word[3]) in wanted) }
		!skip' "$probes/$name.c" > "$dir/$name.right.c"
	if ! compile "$name.right" "$@" -MD -MF "$dir/$name.d" -MT headers; then
		head -n 20 "$dir/$name.right.said" >&2
		give_up "the right answers of $name.c do not compile (see above)"
	fi
	while read -r answer; do
		grep -qx "$answer" "$dir/$name.right" && value=1 || value=0
		echo "#define VFIO_PROBE_$answer $value" | tr . _
	done < "$dir/$name.all" > "$dir/$name.answers"
}

pids=
for file in "$probes"/*.c; do
	ask "$(basename "$file" .c)" "$@" &
	pids="$pids $!"
done
for pid in $pids; do
	wait "$pid" || exit 1
done
sed 's/^headers://; s/\\$//' "$dir"/*.d | tr -s ' ' '\n' | grep -vF "$dir/" | sort -u > "$dir/headers"
{
	echo "/* What include/compat/probe.sh found in this kernel's headers. */"
	cat "$dir"/*.answers
} > "$dir/new"
cmp -s "$dir/new" "$header" || mv "$dir/new" "$header"
key "$@" > "$dir/key"
