/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dirty bitmaps (vfio_dirty.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_DIRTY_H
#define _VFIO_DIRTY_H

#include <linux/compiler_types.h>
#include <linux/limits.h>
#include <linux/types.h>

struct vfio_dma;
struct vfio_type1_container;

/**
 * struct vfio_dirty_request - where a caller wants to know which pages were dirty
 * @bitmap: bit 0 is the first page of the range
 * @pgsize: bytes that a bit stands for
 */
struct vfio_dirty_request {
	u64 __user *bitmap;
	u64 pgsize;
};

/* Pages in a mapping's bitmap at most: bitmap_set() counts them in an int. */
#define VFIO_DIRTY_PAGES_MAX	((u64)INT_MAX)

int vfio_dirty_start(struct vfio_type1_container *container);
void vfio_dirty_stop(struct vfio_type1_container *container);
int vfio_dirty_get(struct vfio_type1_container *container, u64 iova, u64 size,
		   const struct vfio_dirty_request *request);
int vfio_dirty_init(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_dirty_mark(struct vfio_type1_container *container, struct vfio_dma *dma, u64 iova,
		     u64 size);
void vfio_dirty_mark_all(struct vfio_type1_container *container);
bool vfio_dirty_report(struct vfio_type1_container *container, const struct vfio_dma *dma,
		       u64 base, const struct vfio_dirty_request *request);
int vfio_dirty_fault_in(const struct vfio_dma *dma, u64 base,
			const struct vfio_dirty_request *request);

#endif /* _VFIO_DIRTY_H */
