# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What the tests that run clients share inside the VM: in the Debian of
# tests/clients/root, where this file is /vm/lib.sh, and tests/lib.sh is /vm/results.sh. And
# 'figure CASE WHAT VALUE' lines, which tests/clients/run makes its table of.

# shellcheck source=tests/lib.sh
. /vm/results.sh

figure() { echo "figure $1 $2 $3"; }

# give_to_vfio ADDRESS: bind a PCI device, 0000:00:03.0, to vfio-pci.
give_to_vfio()
{
	local dev=/sys/bus/pci/devices/$1

	[ ! -e "$dev/driver" ] || echo "$1" > "$dev/driver/unbind"
	echo vfio-pci > "$dev/driver_override"
	echo "$1" > /sys/bus/pci/drivers_probe
}

# devices VENDOR:DEVICE: addresses of the PCI devices with these IDs.
devices() { lspci -Dnd "$1" | cut -d ' ' -f 1; }

# pages_pinned: by all users of long-term pins in the kernel.
pages_pinned()
{
	echo 1 > /proc/sys/vm/stat_refresh
	awk '/^nr_foll_pin_acquired/ { n += $2 } /^nr_foll_pin_released/ { n -= $2 } END { print n }' /proc/vmstat
}

# charged CASE PID: what is pinned is what the process pays for.
charged()
{
	local kib
	kib=$(locked_kib "$2")
	expect "$1: what is pinned is charged" \
		test "$kib" -gt 0 -a "$kib" -eq $((4 * ($(pages_pinned) - pinned_at_start)))
	figure "$1" locked_kib "$kib"
}

# given_back: no page is pinned that wasn't at the start, and the module has no user.
pinned_at_start=$(pages_pinned)
given_back()
{
	local pinned users
	pinned=$(pages_pinned) users=$(cat /sys/module/vfio_iommu_type1/refcnt)
	echo "$pinned pages are pinned, were $pinned_at_start; $users users"
	[ "$pinned" -eq "$pinned_at_start" ] && [ "$users" -eq 0 ]
}

# log_is_silent: since it was asked last, neither the module nor the IOMMU, which would
# tell of faults, has said a word. What they said of being loaded goes here.
log_is_silent()
{
	dmesg -c > /tmp/log
	! grep -iE 'vfio|dmar|amd-vi|iommu|fault' /tmp/log
}
log_is_silent > /dev/null

# locked_kib PID: memory charged to a process, in KiB.
locked_kib() { awk '/^VmLck/ { print $2 }' "/proc/$1/status"; }

# instructions_of PID: that all threads of a process have run, in a VM whose clock counts
# them; the time that they slept is not in it.
instructions_of() { awk '{ n += $1 } END { printf "%d", n }' /proc/"$1"/task/*/schedstat; }

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

readonly TRACE=/sys/kernel/tracing
trace_nothing()
{
	echo 0 > $TRACE/events/enable
	echo > $TRACE/trace
}

# maps_count: every iommu_map() and iommu_unmap() is seen by the kernel's own tracepoints,
# whatever module calls it.
maps_count()
{
	trace_nothing
	echo 65536 > $TRACE/buffer_size_kb
	echo 1 > $TRACE/events/iommu/map/enable
	echo 1 > $TRACE/events/iommu/unmap/enable
}

# maps_counted: 'CALLS IOPTES UNMAPS' since maps_count. An IOPTE is 4K, 2M or 1G,
# the largest that IOVA, physical address and what is left allow.
maps_counted()
{
	perl -ne '
		sub ioptes {
			my ($iova, $paddr, $size) = @_;

			for my $page (1 << 30, 1 << 21) {
				my $first = $iova + -$iova % $page;
				my $end = $iova + $size - ($iova + $size) % $page;

				next if ($iova ^ $paddr) % $page || $first >= $end;
				return ioptes($iova, $paddr, $first - $iova) + ($end - $first) / $page +
					ioptes($end, $paddr + $end - $iova, $iova + $size - $end);
			}
			return $size >> 12;
		}
		$unmaps++ if / unmap: /;
		next if !/ map: .* iova=0x(\w+) - 0x\w+ paddr=0x(\w+) size=(\d+)/;
		$calls++;
		$ioptes += ioptes(hex $1, hex $2, $3);
		END { printf "%d %d %d\n", $calls, $ioptes, $unmaps }' $TRACE/trace
}

# maps_time: also see when the ioctl MAP_DMA begins and ends.
maps_time()
{
	local events=$TRACE/events/syscalls

	echo 'cmd == 0x3b71' > $events/sys_enter_ioctl/filter
	echo 1 > $events/sys_enter_ioctl/enable
	echo 1 > $events/sys_exit_ioctl/enable
}

# maps_timed: instructions between entry and exit of MAP_DMA, since maps_time.
maps_timed()
{
	perl -ne '
		next if !/-(\d+) .* (\d+)\.(\d{6}): sys_ioctl(.*)/;
		my ($pid, $us, $rest) = ($1, $2 * 1e6 + $3, $4);
		if ($rest =~ /cmd: 3b71/) { $since{$pid} = $us }
		elsif ($rest =~ /->/ && $since{$pid}) { $sum += $us - delete $since{$pid} }
		END { printf "%d\n", $sum * 1000 }' $TRACE/trace
}

# The module that the figures are said to be of.
expect "version $VERSION of the module is loaded" \
	grep -x "$VERSION" /sys/module/vfio_iommu_type1/version
