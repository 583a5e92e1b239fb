/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * New addresses for old memory (vfio_vaddr.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_VADDR_H
#define _VFIO_VADDR_H

#include <linux/types.h>

struct vfio_map_request;
struct vfio_type1_container;
struct vfio_unmap_request;

int vfio_vaddr_invalidate(struct vfio_type1_container *container,
			  const struct vfio_unmap_request *request, u64 *invalidated);
int vfio_vaddr_update(struct vfio_type1_container *container,
		      const struct vfio_map_request *request);

#endif /* _VFIO_VADDR_H */
