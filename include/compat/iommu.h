/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU API differences, bridged towards the newest kernel.
 */
#ifndef _VFIO_TYPE1_COMPAT_IOMMU_H
#define _VFIO_TYPE1_COMPAT_IOMMU_H

#include <linux/iommu.h>
#include <linux/irqdomain.h>

#include "vfio_answers.h"
#include "versions.h"

/*
 * 6.3 gave iommu_map() and iommu_map_sg() a gfp argument ("iommu: Add a gfp parameter to
 * iommu_map()").  Before, the tables are always GFP_KERNEL and not charged to
 * a memory cgroup.
 */
#if VFIO_PROBE_IOMMU_MAP_NO_GFP
static inline int vfio_compat_iommu_map(struct iommu_domain *domain, unsigned long iova,
					phys_addr_t phys, size_t size, int prot, gfp_t gfp)
{
	return iommu_map(domain, iova, phys, size, prot);
}

#define iommu_map vfio_compat_iommu_map
#endif

#if VFIO_PROBE_IOMMU_MAP_SG_NO_GFP
static inline ssize_t vfio_compat_iommu_map_sg(struct iommu_domain *domain, unsigned long iova,
					       struct scatterlist *sg, unsigned int nents, int prot,
					       gfp_t gfp)
{
	return iommu_map_sg(domain, iova, sg, nents, prot);
}

#define iommu_map_sg vfio_compat_iommu_map_sg
#endif

/*
 * 6.11 added iommu_paging_domain_alloc() ("iommu: Add
 * iommu_paging_domain_alloc() interface"), which takes the device and returns
 * an ERR_PTR.  Before, there is a domain per bus, and NULL for any failure.
 */
#if VFIO_PROBE_PAGING_DOMAIN_ALLOC_NOT_THERE
static inline struct iommu_domain *vfio_compat_paging_domain_alloc(struct device *dev)
{
	struct iommu_domain *domain = iommu_domain_alloc(dev->bus);

	return domain ?: ERR_PTR(-EIO);
}

#define iommu_paging_domain_alloc vfio_compat_paging_domain_alloc
#endif

/*
 * 6.3 added iommu_group_has_isolated_msi() ("iommu: Add
 * iommu_group_has_isolated_msi()").  Before, isolation is a property of the
 * MSI domains of the whole system, or a capability of each device.
 */
#if VFIO_PROBE_ISOLATED_MSI_NOT_THERE
static inline int vfio_compat_dev_remaps_irqs(struct device *dev, void *unused)
{
	return device_iommu_capable(dev, IOMMU_CAP_INTR_REMAP);
}

static inline bool vfio_compat_group_has_isolated_msi(struct iommu_group *group)
{
	return irq_domain_check_msi_remap() ||
	       iommu_group_for_each_dev(group, NULL, vfio_compat_dev_remaps_irqs);
}

#define iommu_group_has_isolated_msi vfio_compat_group_has_isolated_msi
#endif

/*
 * 6.13 removed nested translation by way of VFIO ("vfio: Remove
 * VFIO_TYPE1_NESTING_IOMMU"), and iommu_enable_nesting() with it.  There the
 * VFIO core finds that nobody offers it, and never opens such a container.
 */
#define VFIO_COMPAT_HAS_NESTING VFIO_PROBE_ENABLE_NESTING_THERE
#if !VFIO_COMPAT_HAS_NESTING
static inline int iommu_enable_nesting(struct iommu_domain *domain)
{
	return -EINVAL;
}
#endif

/*
 * 6.16 made a structure of the list of what is freed with a sync ("iommu/pages: Formalize the
 * freelist API").
 */
static inline struct list_head *vfio_compat_freelist(struct iommu_iotlb_gather *gather)
{
#if VFIO_PROBE_GATHER_FREELIST_LIST
	return &gather->freelist;
#else
	return &gather->freelist.pages;
#endif
}

#endif /* _VFIO_TYPE1_COMPAT_IOMMU_H */
