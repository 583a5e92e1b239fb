// SPDX-License-Identifier: GPL-2.0-only
/*
 * What follows from a container's groups and domains: which group is where, page sizes,
 * coherency, and how far page tables reach.
 */

#include <linux/iommu.h>
#include <linux/mm.h>

#include "compat/iommu.h"
#include "vfio_count.h"
#include "vfio_domain.h"
#include "vfio_dma_tree.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_refuse.h"
#include "vfio_type1.h"

/* What a page table of the smallest depth in use reaches: three levels. */
#define TABLE_LAST_MIN	(BIT_ULL(39) - 1)

/**
 * vfio_container_find_group() - is a group attached?
 * @container: the container
 * @group: the group
 * @found: set to the group's domain, or to NULL if it is an emulated group
 *
 * Context: container->lock held.
 * Return: the group's entry, or NULL.
 */
struct vfio_group_entry *vfio_container_find_group(struct vfio_type1_container *container,
						   struct iommu_group *group,
						   struct vfio_domain **found)
{
	struct vfio_group_entry *entry;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &container->domains, next) {
		list_for_each_entry(entry, &domain->groups, next) {
			if (entry->group == group) {
				*found = domain;
				return entry;
			}
		}
	}
	*found = NULL;
	list_for_each_entry(entry, &container->emulated, next)
		if (entry->group == group)
			return entry;
	return NULL;
}

/**
 * vfio_container_has_emulated() - are there in-kernel users?
 * @container: the container
 *
 * Context: takes container->lock.
 * Return: true if an emulated group is attached.
 */
bool vfio_container_has_emulated(struct vfio_type1_container *container)
{
	bool emulated;

	down_read(&container->lock);
	emulated = !list_empty(&container->emulated);
	up_read(&container->lock);
	return emulated;
}

/**
 * vfio_container_coherent() - do all domains enforce cache coherency?
 * @container: the container
 *
 * Context: takes container->lock.
 * Return: true also if there is no domain.
 */
bool vfio_container_coherent(struct vfio_type1_container *container)
{
	struct vfio_domain *domain;
	bool coherent = true;

	down_read(&container->lock);
	list_for_each_entry(domain, &container->domains, next)
		coherent &= domain->coherent;
	up_read(&container->lock);
	return coherent;
}

/**
 * vfio_container_common_pgsizes() - page sizes that all domains have
 * @container: the container
 * @extra: a domain that is not in the list yet, or NULL
 *
 * Sizes below PAGE_SIZE are hidden behind PAGE_SIZE: memory is pinned by
 * pages, and a page can be mapped by any of them.
 *
 * Context: container->lock held.
 * Return: the sizes, as a bitmap.
 */
unsigned long vfio_container_common_pgsizes(struct vfio_type1_container *container,
					    const struct vfio_domain *extra)
{
	unsigned long pgsizes = extra ? extra->domain->pgsize_bitmap : ULONG_MAX;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &container->domains, next)
		pgsizes &= domain->domain->pgsize_bitmap;
	if (pgsizes & ~PAGE_MASK)
		pgsizes = (pgsizes & PAGE_MASK) | PAGE_SIZE;
	return pgsizes;
}

/* ---- page table depth ---- */

/**
 * vfio_container_forget_reach() - some domain's page table may be new
 * @container: the container
 *
 * Context: container->lock held for write, or the container is new.
 */
void vfio_container_forget_reach(struct vfio_type1_container *container)
{
	container->table_last = TABLE_LAST_MIN;
}

/*
 * Let every domain's page table reach @last, by mapping the page there for a
 * moment.  Only needed for IOVA that is valid and where nothing is mapped; anything else
 * fails later anyway.
 */
static int container_grow_tables(struct vfio_type1_container *container, u64 last)
{
	u64 iova = last & PAGE_MASK;
	struct vfio_dma *dma = vfio_dma_tree_first(&container->tree, iova, last);
	struct vfio_domain *domain;
	unsigned int bits;
	const struct vfio_domain_piece piece = {
		.iova = iova, .phys = page_to_phys(ZERO_PAGE(0)), .size = PAGE_SIZE,
		.prot = IOMMU_READ | IOMMU_CACHE,
	};
	int ret;

	/* What is mapped there is within reach; what a MAP has yet to map need not be. */
	if (dma && (iova - dma->iova) >> PAGE_SHIFT < dma->mapped)
		return 0;
	if (!vfio_iova_contains(&container->iova, iova, last) ||
	    !(container->pgsize_bitmap & PAGE_SIZE))
		return 0;
	list_for_each_entry(domain, &container->domains, next) {
		ret = vfio_domain_map(container, domain, &piece);
		if (!ret) {
			vfio_count(container, VFIO_COUNT_IOMMU_UNMAPS, 1);
			if (iommu_unmap(domain->domain, iova, PAGE_SIZE) != PAGE_SIZE)
				ret = -EIO;
		}
		if (ret) {
			vfio_domain_sweep(domain->domain, iova, PAGE_SIZE);
			return ret;
		}
	}
	/* Each level adds nine bits to the twelve of a page. */
	bits = roundup(fls64(last) - 12, 9) + 12;
	container->table_last = bits < 64 ? BIT_ULL(bits) - 1 : U64_MAX;
	return 0;
}

/**
 * vfio_container_lock_reach() - lock a container in order to map into it
 * @container: the container
 * @last: highest IOVA that will be mapped, not validated yet
 *
 * AMD-Vi's v1 page table grows a level when an IOVA above its reach is mapped.
 * Before "iommu/amd/pgtbl: Fix possible race while increase page table level"
 * (6.17, and some releases of older series), a walk that runs at the same time
 * may combine the old root with the new level.  So tables are made to reach @last
 * while nobody else walks them.
 *
 * Context: may sleep; takes container->lock for reading, unless it fails.
 * Return: 0; -ENODEV if the container was closed; whatever iommu_map() says.
 */
int vfio_container_lock_reach(struct vfio_type1_container *container, u64 last)
{
	int ret = 0;

	down_read(&container->lock);
	if (last > container->table_last) {
		up_read(&container->lock);
		down_write(&container->lock);
		if (last > container->table_last)
			ret = container_grow_tables(container, last);
		if (ret)
			vfio_refuse(container, VFIO_REFUSE_IOMMU,
				    "MAP_DMA up to iova 0x%llx: the IOMMU's page table does not reach it: error %d",
				    last, ret);
		downgrade_write(&container->lock);
	}
	if (container->closed)
		ret = -ENODEV;
	if (ret)
		up_read(&container->lock);
	return ret;
}
