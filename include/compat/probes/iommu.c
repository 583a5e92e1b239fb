// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the IOMMU API looks like.  Each answer names the commit that it asks for.
 */
#include <linux/iommu.h>
#include "probe.h"

/* 1369459b2e21, 6.3: "iommu: Add a gfp parameter to iommu_map()" */
ANSWER(IOMMU_MAP, GFP)
IS(iommu_map, int (struct iommu_domain *, unsigned long, phys_addr_t, size_t, int, gfp_t));
ANSWER(IOMMU_MAP, NO_GFP)
IS(iommu_map, int (struct iommu_domain *, unsigned long, phys_addr_t, size_t, int));

/* f2b2c051be62, 6.3: "iommu: Add a gfp parameter to iommu_map_sg()" */
ANSWER(IOMMU_MAP_SG, GFP)
IS(iommu_map_sg, ssize_t (struct iommu_domain *, unsigned long, struct scatterlist *,
			  unsigned int, int, gfp_t));
ANSWER(IOMMU_MAP_SG, NO_GFP)
IS(iommu_map_sg, ssize_t (struct iommu_domain *, unsigned long, struct scatterlist *,
			  unsigned int, int));

/* a27bf2743cb8, 6.11: "iommu: Add iommu_paging_domain_alloc() interface" */
ANSWER(PAGING_DOMAIN_ALLOC, THERE)
IS(iommu_paging_domain_alloc, struct iommu_domain *(struct device *));
ANSWER(PAGING_DOMAIN_ALLOC, NOT_THERE)
IS_NOT_THERE(iommu_paging_domain_alloc);

/* efc30a8f15a7, 6.3: "iommu: Add iommu_group_has_isolated_msi()" */
ANSWER(ISOLATED_MSI, THERE)
IS(iommu_group_has_isolated_msi, bool (struct iommu_group *));
ANSWER(ISOLATED_MSI, NOT_THERE)
IS_NOT_THERE(iommu_group_has_isolated_msi);

/* 35890f85573c, 6.13: "vfio: Remove VFIO_TYPE1_NESTING_IOMMU" */
ANSWER(ENABLE_NESTING, THERE)
IS(iommu_enable_nesting, int (struct iommu_domain *));
ANSWER(ENABLE_NESTING, NOT_THERE)
IS_NOT_THERE(iommu_enable_nesting);

/* 6.16: "iommu/pages: Formalize the freelist API" */
ANSWER(GATHER_FREELIST, PAGES)
IS(((struct iommu_iotlb_gather *)0)->freelist.pages, struct list_head);
ANSWER(GATHER_FREELIST, LIST)
IS(((struct iommu_iotlb_gather *)0)->freelist, struct list_head);
