/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages out of mappings (vfio_empty.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_EMPTY_H
#define _VFIO_EMPTY_H

#include <linux/list.h>

struct vfio_dma;
struct vfio_type1_container;

/* Runs taken out of the primary domain before one IOTLB sync. */
#define VFIO_WINDOW_RUNS	512

void vfio_empty(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_empty_list(struct vfio_type1_container *container, struct list_head *claimed);
void vfio_empty_all(struct vfio_type1_container *container);
void vfio_dma_free(struct vfio_type1_container *container, struct vfio_dma *dma);

#endif /* _VFIO_EMPTY_H */
