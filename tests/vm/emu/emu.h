/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a test program says to an emulated device (emu.c), by ioctl on its vfio
 * device. The device does nothing by itself.
 */
#ifndef VFIO_TYPE1_EMU_H
#define VFIO_TYPE1_EMU_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Devices vfio-emu.0 and so on, each in a group of its own. */
#define EMU_NAME	"vfio-emu"
#define EMU_DEVICES	3
/* The last one has no dma_unmap callback. */
#define EMU_DEAF	(EMU_DEVICES - 1)

/* struct emu_op.flags */
#define EMU_WRITE	1	/* of EMU_RW: to the memory */
#define EMU_KTHREAD	2	/* work in a kernel thread instead of in the caller */
#define EMU_UNLOCKED	4	/* of EMU_PIN: the device can be told of an unmap meanwhile */
#define EMU_NOT_PINNED	8	/* of EMU_UNPIN: do it all the same */

struct emu_op {
	__u64 iova;
	__u64 len;	/* bytes; EMU_PIN and EMU_UNPIN: pages */
	__u64 data;	/* user address: EMU_RW: len bytes; EMU_PIN: len frame numbers, or 0 */
	__u32 prot;	/* EMU_PIN: IOMMU_READ 1, IOMMU_WRITE 2 */
	__u32 flags;
};

struct emu_state {
	__u64 held;		/* pages that are pinned, each counted as often as it is */
	__u64 notified;		/* calls of dma_unmap since EMU_PATIENCE */
	__u64 iova;		/* of the last call */
	__u64 len;
};

/* struct emu_area.flags */
#define EMU_AREA_IO		1	/* VM_IO, as for a device's registers */
#define EMU_AREA_RESERVED	2	/* the device's own pages are PageReserved */

#define EMU_AREA_MAX		16

/* What mmap() of the device at offset 0 is to be made of, page by page. */
struct emu_area {
	__u32 npages;
	__u32 flags;
	/* Addresses of pages of the caller's, or 0 for a page of the device's own. */
	__u64 pages[EMU_AREA_MAX];
};

/* How many references each page has, or the folio that it is of. */
struct emu_refs {
	__u64 refs[EMU_AREA_MAX];
};

#define EMU_TYPE	0xe7

/* vfio_pin_pages(), vfio_unpin_pages() and vfio_dma_rw(). */
#define EMU_PIN		_IOW(EMU_TYPE, 0, struct emu_op)
#define EMU_UNPIN	_IOW(EMU_TYPE, 1, struct emu_op)
#define EMU_RW		_IOW(EMU_TYPE, 2, struct emu_op)
/* Let this many dma_unmap pass before unpinning what they ask for; 0 to begin with. */
#define EMU_PATIENCE	_IO(EMU_TYPE, 3)
#define EMU_STATE	_IOR(EMU_TYPE, 4, struct emu_state)
/* Milliseconds between pinning with EMU_UNLOCKED and noting it; 0 to begin with. */
#define EMU_SLOW	_IO(EMU_TYPE, 5)
/* Unpin so many milliseconds after being told, not at once; 0 to begin with. */
#define EMU_LATE	_IO(EMU_TYPE, 6)
/* Forget what is pinned: never unpin it. */
#define EMU_FORGET	_IO(EMU_TYPE, 7)
/* An area, in place of the one before, until the device is closed. */
#define EMU_AREA	_IOW(EMU_TYPE, 8, struct emu_area)
#define EMU_REFS	_IOR(EMU_TYPE, 9, struct emu_refs)

#endif
