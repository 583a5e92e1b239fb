/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * MAP_DMA (vfio_map.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_MAP_H
#define _VFIO_MAP_H

#include <linux/types.h>

struct vfio_type1_container;

/**
 * struct vfio_map_request - what MAP_DMA is asked for
 * @iova: first byte, as the device will see it
 * @vaddr: first byte of the caller's memory
 * @size: bytes
 * @prot: IOMMU_READ, IOMMU_WRITE or both; 0 for @set_vaddr
 * @set_vaddr: give a mapping that is there a new address: see vfio_vaddr_update()
 */
struct vfio_map_request {
	u64 iova;
	u64 vaddr;
	u64 size;
	int prot;
	bool set_vaddr;
};

int vfio_map_check(struct vfio_type1_container *container,
		   const struct vfio_map_request *request);
int vfio_map_dma(struct vfio_type1_container *container, const struct vfio_map_request *request);

#endif /* _VFIO_MAP_H */
