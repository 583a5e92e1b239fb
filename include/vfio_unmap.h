/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * UNMAP_DMA (vfio_unmap.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_UNMAP_H
#define _VFIO_UNMAP_H

#include <linux/types.h>

struct vfio_dirty_request;
struct vfio_type1_container;

/**
 * struct vfio_unmap_request - what UNMAP_DMA is asked for
 * @iova: first byte of the range
 * @size: bytes
 * @all: everything; @iova and @size are zero
 * @dirty: where to report dirty pages, or NULL
 */
struct vfio_unmap_request {
	u64 iova;
	u64 size;
	bool all;
	const struct vfio_dirty_request *dirty;
};

int vfio_unmap_dma(struct vfio_type1_container *container,
		   const struct vfio_unmap_request *request, u64 *unmapped);
unsigned long vfio_unmap_all(struct vfio_type1_container *container);
int vfio_unmap_check(struct vfio_type1_container *container,
		     const struct vfio_unmap_request *request);

#endif /* _VFIO_UNMAP_H */
