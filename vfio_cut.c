// SPDX-License-Identifier: GPL-2.0-only
/*
 * What makes IOVA invalid: the apertures of domains, and the reserved regions of groups.
 */

#include <linux/iommu.h>
#include <linux/slab.h>

#include "vfio_cut.h"
#include "vfio_dma_tree.h"
#include "vfio_domain.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_type1.h"

/* What people call each kind of cut. */
const char *const vfio_cut_names[] = {
	[VFIO_CUT_APERTURE] = "outside the aperture",
	[VFIO_CUT_DIRECT] = "direct region",
	[VFIO_CUT_RESERVED] = "reserved region",
	[VFIO_CUT_MSI] = "MSI window",
	[VFIO_CUT_SW_MSI] = "software MSI window",
};

/**
 * vfio_cut_free_regions() - free what iommu_get_group_resv_regions() gave
 * @regions: struct iommu_resv_region; empty afterwards
 */
void vfio_cut_free_regions(struct list_head *regions)
{
	struct iommu_resv_region *region, *next;

	list_for_each_entry_safe(region, next, regions, list)
		kfree(region);
	INIT_LIST_HEAD(regions);
}

/* Tell @fn of a reserved region, if it is one that nothing may be mapped in. */
static int cut_tell_region(const struct iommu_resv_region *region, int group,
			   vfio_cut_fn_t fn, void *data)
{
	struct vfio_iova_cut cut = {
		.range = { region->start, region->start + region->length - 1 },
		.nr = group,
	};

	switch (region->type) {
	case IOMMU_RESV_DIRECT_RELAXABLE:
		/* Firmware used these before the driver took over; they may be remapped. */
		return 0;
	case IOMMU_RESV_DIRECT:
		cut.kind = VFIO_CUT_DIRECT;
		break;
	case IOMMU_RESV_MSI:
		cut.kind = VFIO_CUT_MSI;
		break;
	case IOMMU_RESV_SW_MSI:
		cut.kind = VFIO_CUT_SW_MSI;
		break;
	default:
		cut.kind = VFIO_CUT_RESERVED;
	}
	return region->length ? fn(&cut, data) : 0;
}

/**
 * vfio_cut_walk_group() - what one group cuts
 * @group: the group
 * @fn: as for vfio_cut_walk()
 * @data: for @fn
 *
 * Context: may sleep.
 * Return: as vfio_cut_walk().
 */
int vfio_cut_walk_group(struct iommu_group *group, vfio_cut_fn_t fn, void *data)
{
	struct iommu_resv_region *region;
	LIST_HEAD(regions);
	int ret = iommu_get_group_resv_regions(group, &regions);

	list_for_each_entry(region, &regions, list)
		ret = ret ?: cut_tell_region(region, iommu_group_id(group), fn, data);
	vfio_cut_free_regions(&regions);
	return ret;
}

/* Tell @fn what domain number @nr and its groups cut. */
static int domain_walk_cuts(const struct vfio_domain *domain, int nr, vfio_cut_fn_t fn,
			    void *data)
{
	const struct iommu_domain_geometry *geometry = &domain->domain->geometry;
	struct vfio_iova_cut cut = { .kind = VFIO_CUT_APERTURE, .nr = nr };
	struct vfio_group_entry *entry;
	int ret = 0;

	if (geometry->aperture_start) {
		cut.range = (struct vfio_iova_span) { 0, geometry->aperture_start - 1 };
		ret = fn(&cut, data);
	}
	if (geometry->aperture_end < U64_MAX) {
		cut.range = (struct vfio_iova_span) { geometry->aperture_end + 1, U64_MAX };
		ret = ret ?: fn(&cut, data);
	}
	list_for_each_entry(entry, &domain->groups, next)
		ret = ret ?: vfio_cut_walk_group(entry->group, fn, data);
	return ret;
}

/* The same for all domains, and for @extra, if not NULL, which is not in the list yet. */
static int container_walk_cuts(struct vfio_type1_container *container,
			       const struct vfio_domain *extra, vfio_cut_fn_t fn, void *data)
{
	struct vfio_domain *domain;
	int nr = 0, ret = 0;

	list_for_each_entry(domain, &container->domains, next)
		ret = ret ?: domain_walk_cuts(domain, nr++, fn, data);
	if (extra)
		ret = ret ?: domain_walk_cuts(extra, nr, fn, data);
	return ret;
}

/**
 * vfio_cut_walk() - what makes IOVA invalid, piece by piece
 * @container: the container
 * @fn: called for each piece, in no order, and possibly for overlapping ones; by
 *	returning other than 0 it ends the walk
 * @data: for @fn
 *
 * What is valid is all IOVA without these pieces.
 *
 * Context: may sleep; container->lock held.
 * Return: 0; -ENOMEM; whatever @fn returned.
 */
int vfio_cut_walk(struct vfio_type1_container *container, vfio_cut_fn_t fn, void *data)
{
	return container_walk_cuts(container, NULL, fn, data);
}

/* The lowest piece so far that a range touches. */
struct cut_search {
	struct vfio_iova_span range;
	struct vfio_iova_cut lowest;
	bool found;
};

static int cut_compare(const struct vfio_iova_cut *cut, void *data)
{
	struct cut_search *search = data;

	if (cut->range.first > search->range.last || cut->range.last < search->range.first ||
	    (search->found && cut->range.first >= search->lowest.range.first))
		return 0;
	search->lowest = *cut;
	search->found = true;
	return 0;
}

/**
 * vfio_cut_describe() - say what makes a range invalid
 * @container: the container
 * @extra: a domain that is not in the list yet, or NULL
 * @range: the range
 * @text: set to what the lowest piece in it is, whose, and where
 *
 * Context: may sleep; container->lock held.
 */
void vfio_cut_describe(struct vfio_type1_container *container, const struct vfio_domain *extra,
		       struct vfio_iova_span range, struct vfio_cut_text *text)
{
	struct cut_search search = { .range = range };
	const struct vfio_iova_cut *cut = &search.lowest;

	container_walk_cuts(container, extra, cut_compare, &search);
	if (search.found)
		snprintf(text->s, sizeof(text->s), "%s of %s %d: 0x%llx-0x%llx",
			 vfio_cut_names[cut->kind],
			 cut->kind == VFIO_CUT_APERTURE ? "domain" : "group", cut->nr,
			 cut->range.first, cut->range.last);
	else
		strscpy(text->s, "unknown, memory is short", sizeof(text->s));
}

static int iova_take_out(const struct vfio_iova_cut *cut, void *data)
{
	return vfio_iova_exclude(data, cut->range.first, cut->range.last);
}

/**
 * vfio_cut_build_iova() - build the ranges that are valid for all domains
 * @container: the container
 * @iova: set to the ranges
 * @extra: a domain that is not in the list yet, or NULL
 *
 * Context: may sleep; container->lock held.
 * Return: 0, or -ENOMEM.
 */
int vfio_cut_build_iova(struct vfio_type1_container *container, struct vfio_iova_set *iova,
			const struct vfio_domain *extra)
{
	return vfio_iova_reset(iova, 0, U64_MAX) ?:
	       container_walk_cuts(container, extra, iova_take_out, iova);
}

/**
 * vfio_cut_find_conflict() - is there a mapping between the valid ranges?
 * @container: the container
 * @iova: the ranges
 *
 * Context: container->lock held for write.
 * Return: the mapping, or NULL.
 */
struct vfio_dma *vfio_cut_find_conflict(struct vfio_type1_container *container,
					const struct vfio_iova_set *iova)
{
	u64 gap = 0;
	unsigned int i;

	for (i = 0; i < iova->nr; i++) {
		const struct vfio_iova_span *r = &iova->ranges[i];
		struct vfio_dma *dma = NULL;

		if (r->first > gap)
			dma = vfio_dma_tree_first(&container->tree, gap, r->first - 1);
		if (dma)
			return dma;
		if (r->last == U64_MAX)
			return NULL;
		gap = r->last + 1;
	}
	return vfio_dma_tree_first(&container->tree, gap, U64_MAX);
}
