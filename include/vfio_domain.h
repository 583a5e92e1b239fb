/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A domain, and what drivers do not see to (vfio_domain.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_DOMAIN_H
#define _VFIO_DOMAIN_H

#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct vfio_type1_container;

/**
 * struct vfio_domain - an IOMMU domain and the groups that share it
 * @next: in the container's list; container->lock
 * @groups: struct vfio_group_entry; container->lock
 * @domain: the IOMMU's
 * @tables: page tables that it may have, a bitmap for each GiB: see vfio_tables.c
 * @fgsp: the probe found fine-grained superpages
 * @coherent: the IOMMU enforces cache coherency
 */
struct vfio_domain {
	struct list_head next;
	struct list_head groups;
	struct iommu_domain *domain;
	struct xarray tables;
	bool fgsp;
	bool coherent;
};

/**
 * struct vfio_gather - IOVA on their way out of a domain
 * @iotlb: what the driver gathered since the last sync
 * @pending: something was unmapped since
 * @calls: calls of iommu_unmap_fast()
 * @syncs: IOTLB syncs
 */
struct vfio_gather {
	struct iommu_iotlb_gather iotlb;
	bool pending;
	unsigned int calls;
	unsigned int syncs;
};

/**
 * struct vfio_domain_piece - contiguous memory to be mapped
 * @iova: first byte
 * @phys: where it is to point
 * @size: bytes
 * @prot: IOMMU_READ and so on
 */
struct vfio_domain_piece {
	u64 iova;
	phys_addr_t phys;
	size_t size;
	int prot;
};

void vfio_gather_begin(struct vfio_gather *gather);
size_t vfio_gather_unmap(struct vfio_gather *gather, struct vfio_domain *domain, u64 iova,
			 size_t size);
void vfio_gather_sync(struct vfio_gather *gather, const struct vfio_domain *domain);
size_t vfio_domain_unmap(struct vfio_type1_container *container, struct vfio_domain *domain,
			 u64 iova, size_t size);
int vfio_domain_map(struct vfio_type1_container *container, struct vfio_domain *domain,
		    const struct vfio_domain_piece *piece);
size_t vfio_domain_undo_head(const struct vfio_domain *domain, u64 iova, size_t size);
bool vfio_domain_sweep(struct iommu_domain *domain, u64 iova, size_t size);

#endif /* _VFIO_DOMAIN_H */
