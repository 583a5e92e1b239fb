/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Containers: open and release, by number (vfio_container.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_CONTAINER_H
#define _VFIO_CONTAINER_H

#include <linux/bits.h>
#include <linux/types.h>

struct vfio_type1_container;

/* What kind of container user space asked for. */
#define VFIO_CONTAINER_V2	BIT(0)	/* VFIO_TYPE1v2_IOMMU semantics */
#define VFIO_CONTAINER_NESTING	BIT(1)	/* nested translation in each domain */
#define VFIO_CONTAINER_STRICT	BIT(2)	/* only registered memory can be mapped */

struct vfio_type1_container *vfio_container_create(unsigned int flags);
void vfio_container_destroy(struct vfio_type1_container *container);
struct vfio_type1_container *vfio_container_get(u64 id);
void vfio_container_put(struct vfio_type1_container *container);

#endif /* _VFIO_CONTAINER_H */
