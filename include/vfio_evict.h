/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In-kernel users that have to unpin (vfio_evict.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_EVICT_H
#define _VFIO_EVICT_H

#include <linux/list.h>
#include <linux/types.h>

struct vfio_device;
struct vfio_dma;
struct vfio_type1_container;

/* vfio_type1_container.evict_waits: 4 seconds. */
#define VFIO_EVICT_WAITS	12

void vfio_external_register(struct vfio_type1_container *container, struct vfio_device *device);
void vfio_external_unregister(struct vfio_type1_container *container,
			      struct vfio_device *device);
void vfio_external_evict(struct vfio_type1_container *container, struct list_head *claimed,
			 unsigned int *waits);
bool vfio_external_keep(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_external_abandon(struct vfio_type1_container *container, struct vfio_dma *dma);

#endif /* _VFIO_EVICT_H */
