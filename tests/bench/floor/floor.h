/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ioctls of /dev/vfio_type1_floor, between floor.c and the benchmark. Ranges
 * are told to FLOOR_KNOW, mapped, and unmapped in the same order. FLOOR_NO_SHARING
 * is for tests, too.
 */
#ifndef VFIO_TYPE1_FLOOR_H
#define VFIO_TYPE1_FLOOR_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct floor_range - what is mapped where
 * @vaddr: caller's memory, writable
 * @iova: as the device would see it
 * @size: in bytes, whole pages
 */
struct floor_range {
	__u64 vaddr;
	__u64 iova;
	__u64 size;
};

/* Look where the runs of a range are, so that FLOOR_MAP need not. */
#define FLOOR_KNOW		_IOW('F', 0, struct floor_range)
#define FLOOR_MAP		_IOW('F', 1, struct floor_range)
#define FLOOR_UNMAP		_IOW('F', 2, struct floor_range)
/* Everything is unmapped: forget what was told to FLOOR_KNOW. */
#define FLOOR_FORGET		_IO('F', 3)
/*
 * Until the file is closed: no IOMMU domain that a group was attached to takes
 * another group, so that VFIO has to give each group of a container its own.
 */
#define FLOOR_NO_SHARING	_IO('F', 4)

#endif /* VFIO_TYPE1_FLOOR_H */
