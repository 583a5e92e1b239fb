/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In-kernel users: pin_pages, unpin_pages, dma_rw (vfio_external.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_EXTERNAL_H
#define _VFIO_EXTERNAL_H

#include <linux/types.h>

struct iommu_group;
struct page;
struct vfio_type1_container;

/**
 * struct vfio_external_want - what pin_pages is asked for
 * @iova: in the first page
 * @npages: pages to pin
 * @prot: IOMMU_READ, IOMMU_WRITE or both; what the mappings have to allow
 * @pages: set to the pages
 */
struct vfio_external_want {
	u64 iova;
	int npages;
	int prot;
	struct page **pages;
};

int vfio_external_pin(struct vfio_type1_container *container, struct iommu_group *group,
		      const struct vfio_external_want *request);
void vfio_external_unpin(struct vfio_type1_container *container, u64 iova, int npages);
int vfio_external_rw(struct vfio_type1_container *container, u64 iova, void *data,
		     size_t count, bool write);

#endif /* _VFIO_EXTERNAL_H */
