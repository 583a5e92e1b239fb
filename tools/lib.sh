# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the project's scripts share: where the cache is, and how they speak.
# All downloads and builds that outlive a checkout are below $CACHE, which
# 'make clean-cache' empties.

CACHE=${VFIO_TYPE1_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfio-type1}
# shellcheck disable=SC2034	# used by the scripts that source this file
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin	# depmod and mkfs, for those who aren't root

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

# copy_sources DIR: Kbuild puts objects beside sources, so that each kernel needs
# its own copy. Times are kept, and so is what was built before.
copy_sources()
{
	mkdir -p "$1"
	rsync -a --delete --filter='P *.o' --filter='P *.ko' --filter='P *.mod*' --filter='P .*' \
		--filter='P modules.order' --filter='P Module.symvers' \
		--exclude=.git --include='*/' --include='Kbuild*' --include='*.mk' --include='*.[ch]' --include=probe.sh --exclude='*' \
		"$TOP/" "$1/"
}

# lock DIR: until the end of this (sub)shell, no other one gets beyond this line.
lock()
{
	mkdir -p "${1%/*}"
	exec 9> "$1.lock"
	flock 9
}

# make_programs FOLDER OUT [MAKE ARGUMENT]...: build a folder's programs into OUT.
# What two jobs need at the same time is built by the first of them.
make_programs()
{
	local folder=$1 out=$2

	shift 2
	(lock "$out" && make -s -C "$TOP/$folder" OUT="$out" "$@")
}

# release_of SUITE: the release of Debian that it belongs to.
release_of()
{
	[ "$1" != unstable ] || { echo sid; return; }
	echo "${1%%-*}"
}

# this_release: of the machine that we run on.
this_release() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true; }

# mirrors FORMAT...: what this machine's apt knows of Debian's archives.
mirrors()
{
	env -u APT_CONFIG apt-get indextargets --format "$1" 'Created-By: Packages' 'Origin: Debian' \
		'Component: main' "${@:2}"
}

# sources SUITE: lines of a sources.list with all that SUITE needs, from the mirrors that
# this machine's own apt uses.
sources()
{
	local main security release signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'

	release=$(release_of "$1")
	# shellcheck disable=SC2016	# apt's own variables
	{
		main=$(mirrors '$(REPO_URI)' "Codename: $(this_release)" | head -n 1)
		security=$(mirrors '$(REPO_URI)' "Codename: $(this_release)-security" | head -n 1)
	}
	[ -n "$main" ] || die "apt knows no mirror of Debian; run 'apt-get update' as root"
	echo "deb $signed $main $release main"
	[ "$release" = sid ] || [ -z "$security" ] ||
		echo "deb $signed $security $release-security main"
	[ "$release" = sid ] || [ "$release" = "$1" ] || echo "deb $signed $main $1 main"
}

# debian_image FOLDER SUITE PACKAGES [MMDEBSTRAP-OPTION]...: make an ext4 file system with a
# Debian that has PACKAGES, from where this machine's apt gets its own, unless it is in
# FOLDER. Those that were made otherwise go. Prints its path.
debian_image()
(
	local dir=$1 suite=$2 packages=$3 image tmp

	shift 3
	image=$dir/$(printf '%s' "$packages$*" | sha256sum | cut -c 1-12).img
	echo "$image"
	need mmdebstrap mmdebstrap; need mkfs.ext4 e2fsprogs
	lock "$dir/image"
	[ ! -e "$image" ] || exit 0
	tmp=$dir/image.tmp
	rm -rf "$tmp"	# of one that could not clean up
	trap 'rm -rf "$tmp"' EXIT
	mkdir "$tmp"
	note "making a Debian ($suite) for the VM (once per machine)"
	sources "$suite" > "$tmp/sources.list" || exit 1
	mmdebstrap --variant=minbase --dpkgopt=force-unsafe-io --include="$packages" "$@" "$(release_of "$suite")" "$tmp/root" \
		"$tmp/sources.list" > "$dir/log" 2>&1 ||
		{ tail -n 20 "$dir/log" >&2; die "mmdebstrap failed: $dir/log"; }
	rm -f "$dir"/*.img
	truncate -s 3G "$tmp/img"
	mkfs.ext4 -q -d "$tmp/root" "$tmp/img"
	mv "$tmp/img" "$image"
)

# kernels: the series of tools/kernels.
kernels() { sed 's/#.*//' "$TOP/tools/kernels" | awk 'NF { print $1 }'; }

# kernel_suite SERIES, kernel_iommus SERIES: what it says of one.
kernel_suite() { awk -v series="$1" '$1 == series { print $2 }' "$TOP/tools/kernels"; }
kernel_iommus() { awk -v series="$1" '$1 == series { $1 = $2 = ""; print }' "$TOP/tools/kernels"; }

# kernel_make SERIES DIR [ARGUMENT]...: build the modules of DIR, which is in a
# build_dir, for a cached kernel. One that came with a root directory of its own is built
# in there: in a mount namespace of its own, of which nothing can be left behind.
kernel_make()
{
	local kernel dir=$2 cross=()

	need make make; need gcc gcc
	kernel=$("$TOP/tools/fetch" kernel "$1") || return 1
	if [ -e "$kernel/usr/bin/make" ]; then
		[ "$(id -u)" -eq 0 ] || die "building for Linux $1 needs root, for a chroot"
		shift 2
		mkdir -p "$kernel/$CACHE/build"
		# shellcheck disable=SC2016	# for the inner shell
		unshare --mount sh -ec '
			root=$0 build=$1
			shift
			mount -t proc proc "$root/proc"
			mount --bind "$build" "$root/$build"
			exec chroot "$root" make --no-print-directory "$@" modules
		' "$kernel" "$CACHE/build" -C "/lib/modules/$(cat "$kernel/release")/build" M="$dir" "$@"
		return
	fi
	if [[ $1 == *-arm64 ]]; then
		need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
		cross=(ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-)
	fi
	shift 2
	make --no-print-directory -C "$kernel/build" M="$dir" "${cross[@]}" "$@" modules
}
