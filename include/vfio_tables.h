/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Page tables in a superpage's way (vfio_tables.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_TABLES_H
#define _VFIO_TABLES_H

#include <linux/iommu.h>
#include <linux/sizes.h>
#include <linux/types.h>

#include "compat/iommu.h"
#include "vfio_domain.h"

/* What a table of 4K IOPTEs translates, and the smallest superpage maps. */
#define VFIO_TABLE_BYTES	((size_t)SZ_2M)

/**
 * vfio_tables_matter() - may a map free a page table of the domain too early?
 * @domain: the domain
 *
 * Not where there are no superpages; nor fine-grained ones: AMD-Vi's v1 tables, whose driver
 * flushes first.
 *
 * Context: any.
 * Return: whether its tables have to be known.
 */
static inline bool vfio_tables_matter(const struct vfio_domain *domain)
{
	return VFIO_COMPAT_MAP_FREES_EARLY && !domain->fgsp &&
	       domain->domain->pgsize_bitmap & SZ_4K &&
	       domain->domain->pgsize_bitmap & VFIO_TABLE_BYTES;
}

void vfio_tables_init(struct vfio_domain *domain);
void vfio_tables_destroy(struct vfio_domain *domain);
int vfio_tables_note(struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t size);
int vfio_tables_note_small(struct vfio_domain *domain, u64 iova, size_t size);
size_t vfio_tables_cut(struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t size);
void vfio_tables_freed(struct vfio_domain *domain, u64 iova, size_t size);

#endif /* _VFIO_TABLES_H */
