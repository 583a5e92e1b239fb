/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU API differences, bridged towards the newest kernel.
 */
#ifndef _VFIO_TYPE1_COMPAT_IOMMU_H
#define _VFIO_TYPE1_COMPAT_IOMMU_H

#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/version.h>

/*
 * 6.3 gave iommu_map() and iommu_map_sg() a gfp argument ("iommu: Add a gfp parameter to
 * iommu_map()").  Before, the tables are always GFP_KERNEL and not charged to
 * a memory cgroup.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline int vfio_compat_iommu_map(struct iommu_domain *domain, unsigned long iova,
					phys_addr_t phys, size_t size, int prot, gfp_t gfp)
{
	return iommu_map(domain, iova, phys, size, prot);
}

#define iommu_map vfio_compat_iommu_map

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
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
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
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
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
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define VFIO_COMPAT_HAS_NESTING 1
#else
#define VFIO_COMPAT_HAS_NESTING 0

static inline int iommu_enable_nesting(struct iommu_domain *domain)
{
	return -EINVAL;
}
#endif

/*
 * 7.0: VT-d has its tables from generic_pt there, for certain ("iommu/vt-d: Use the generic
 * iommu page table"), whose unmap flushes what was gathered before it adds the tables that it
 * emptied.  Before, a call of VT-d's unmap may free these with the flush of what an earlier call
 * unmapped: see Documentation/internals.rst.
 */
#define VFIO_COMPAT_UNMAP_FREES_EARLY (LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0))

/*
 * The same of a map that finds a table in a superpage's way; AMD-Vi's v2 tables, too.  SMMUv3's
 * driver flushes first.
 */
#define VFIO_COMPAT_MAP_FREES_EARLY (VFIO_COMPAT_UNMAP_FREES_EARLY && !IS_ENABLED(CONFIG_ARM64))

/*
 * 6.16 made a structure of the list of what is freed with a sync ("iommu/pages: Formalize the
 * freelist API").
 */
static inline struct list_head *vfio_compat_freelist(struct iommu_iotlb_gather *gather)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
	return &gather->freelist;
#else
	return &gather->freelist.pages;
#endif
}

#endif /* _VFIO_TYPE1_COMPAT_IOMMU_H */
