// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP_DMA: take the IOVA, and have the mapping filled.
 *
 * Pinning waits for user memory, for as long as whoever provides it likes, so
 * container->lock is not held meanwhile.  Nothing of the mapping changes without it.  If
 * groups came or went, MAP takes all back that it did, and starts over.
 */

#include <linux/iommu.h>
#include <linux/slab.h>

#include "trace/vfio_trace.h"
#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_cut.h"
#include "vfio_dirty.h"
#include "vfio_dma_tree.h"
#include "vfio_empty.h"
#include "vfio_fill.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_map.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_registry.h"
#include "vfio_runs.h"
#include "vfio_type1.h"

/* Beside 0 and errnos: what MAP_DMA has to do before it tries again. */
enum map_again {
	MAP_RESTART = VFIO_FILL_RESTART,	/* nothing: groups came or went */
	MAP_WAIT,	/* until somebody else's mapping is settled */
};

/**
 * vfio_map_check() - check a MAP as far as that needs no container
 * @container: the container, which counts refusals
 * @request: what is asked for
 *
 * Return: 0; -EINVAL if the size is zero, or the protection does not go with set_vaddr;
 * -EOVERFLOW if a range wraps around.
 */
int vfio_map_check(struct vfio_type1_container *container, const struct vfio_map_request *request)
{
	u64 iova = request->iova, vaddr = request->vaddr, size = request->size;

	if (!size) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "MAP_DMA iova 0x%llx vaddr 0x%llx: zero size", iova, vaddr);
		return -EINVAL;
	}
	if (iova + size - 1 < iova || vaddr + size - 1 < vaddr) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "MAP_DMA iova 0x%llx vaddr 0x%llx size 0x%llx: wraps around the end of the address space",
			    iova, vaddr, size);
		return -EOVERFLOW;
	}
	if (!request->prot == !request->set_vaddr) {
		vfio_refuse(container, VFIO_REFUSE_FLAGS,
			    "MAP_DMA iova 0x%llx vaddr 0x%llx size 0x%llx: flags have to ask for READ or WRITE, or for VADDR alone",
			    iova, vaddr, size);
		return -EINVAL;
	}
	return 0;
}

/* Check what depends on the domains. */
static int map_check_aligned(struct vfio_type1_container *container, const struct vfio_dma *dma)
{
	unsigned long pgsize = vfio_container_pgsize(container);
	u64 size = dma->last - dma->iova + 1;

	if (!((dma->iova | dma->vaddr | size) & (pgsize - 1)))
		return 0;
	vfio_refuse(container, VFIO_REFUSE_ALIGN,
		    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: not all aligned to the IOMMU's smallest page, 0x%lx",
		    (u64)dma->iova, dma->vaddr, size, pgsize);
	return -EINVAL;
}

/* The mapping in the way of another one, while tree->lock keeps it there. */
struct map_overlap {
	struct vfio_iova_span range;
	const char *kind;
};

/* How much alike are the mapping in the way, @old, and the new one? */
static const char *map_overlap_kind(const struct vfio_dma *old, const struct vfio_dma *new)
{
	if (old->iova != new->iova || old->last != new->last)
		return "covers other IOVA";
	if (old->owner.mm != new->owner.mm || old->vaddr != new->vaddr || old->prot != new->prot)
		return "covers the same IOVA with other memory or access";
	return "is identical";
}

/* Tell why the IOVA could not be taken. */
static __cold
void map_refuse_insert(struct vfio_type1_container *container, const struct vfio_dma *dma,
		       const struct map_overlap *overlap, const struct vfio_iova_span *nearest,
		       int error)
{
	u64 iova = dma->iova, size = dma->last - dma->iova + 1;
	struct vfio_cut_text cut;

	switch (error) {
	case -EEXIST:
		vfio_refuse(container, VFIO_REFUSE_OVERLAP,
			    "MAP_DMA iova 0x%llx size 0x%llx: overlaps the mapping 0x%llx-0x%llx, which %s",
			    iova, size, overlap->range.first, overlap->range.last, overlap->kind);
		break;
	case -EBUSY:
		vfio_refuse(container, VFIO_REFUSE_OVERLAP,
			    "MAP_DMA iova 0x%llx size 0x%llx: 0x%llx-0x%llx was unmapped, but a device's driver has not unpinned all of it yet",
			    iova, size, overlap->range.first, overlap->range.last);
		break;
	case -ENOSPC:
		vfio_refuse(container, VFIO_REFUSE_ENTRIES,
			    "MAP_DMA iova 0x%llx size 0x%llx: no mappings left: dma_entry_limit was %u when the container was opened; raise the module parameter, and open it again",
			    iova, size, container->entry_limit);
		break;
	case -EINVAL:
		vfio_cut_describe(container, NULL, (struct vfio_iova_span) { iova, dma->last },
				  &cut);
		vfio_refuse(container, VFIO_REFUSE_RANGE,
			    "MAP_DMA iova 0x%llx size 0x%llx: not within a valid IOVA range (%s); the nearest is 0x%llx-0x%llx",
			    iova, size, cut.s, nearest->first, nearest->last);
		break;
	}
}

/*
 * Take the mapping's IOVA.  Return: 0, an errno, or MAP_WAIT with @changes set if
 * somebody else's unsettled mapping is in the way.
 */
static int map_reserve(struct vfio_type1_container *container, struct vfio_dma *dma,
		       unsigned long *changes)
{
	const struct vfio_iova_span *nearest = NULL;
	struct vfio_dma_tree *tree = &container->tree;
	struct map_overlap in_the_way;
	struct vfio_dma *overlap;
	int ret;

	if (container->iova.nr && !vfio_iova_contains(&container->iova, dma->iova, dma->last))
		nearest = vfio_iova_nearest(&container->iova, dma->iova);

	spin_lock(&tree->lock);
	ret = vfio_dma_tree_insert(tree, dma, &overlap);
	if (ret == -EEXIST || ret == -EBUSY) {
		*changes = tree->changes;
		if (ret == -EEXIST && overlap->state != VFIO_DMA_LIVE)
			ret = MAP_WAIT;
		in_the_way.range = (struct vfio_iova_span) { overlap->iova, overlap->last };
		in_the_way.kind = map_overlap_kind(overlap, dma);
	} else if (!ret && nearest) {
		/* Only now: an overlap or a full tree is the better answer. */
		vfio_dma_tree_remove(tree, dma);
		ret = -EINVAL;
	}
	spin_unlock(&tree->lock);

	if (ret < 0)
		map_refuse_insert(container, dma, &in_the_way, nearest, ret);
	return ret;
}

/* Pin it, or find it registered, map it, and track what is written. */
static int map_make(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	unsigned long generation = container->generation;
	int ret = vfio_registry_take(container, dma);

	if (!ret && container->generation != generation)
		ret = MAP_RESTART;
	/* Registered memory is charged already. */
	if (!dma->region)
		vfio_owner_init_limit(&dma->owner);
	if (!ret && vfio_container_has_iommu(container))
		ret = vfio_fill(container, dma);
	/* Last: what cannot be pinned should not cost a large bitmap. */
	if (!ret && container->dirty_tracking) {
		ret = vfio_dirty_init(container, dma);
		if (ret)
			vfio_empty(container, dma);
	}
	return ret;
}

/* Make the mapping whole, or take it back.  Return: 0, an errno, or MAP_RESTART. */
static int map_complete(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_dma_tree *tree = &container->tree;
	int ret = map_make(container, dma);

	if (ret) {
		/* Who looks for a mapping in order to unpin from it holds this lock. */
		mutex_lock(&container->external_lock);
		spin_lock(&tree->lock);
		vfio_dma_tree_remove(tree, dma);
		spin_unlock(&tree->lock);
		mutex_unlock(&container->external_lock);
	} else {
		spin_lock(&tree->lock);
		vfio_dma_tree_settle(tree, dma);
		spin_unlock(&tree->lock);
	}
	vfio_dma_tree_wake(tree);
	if (ret == MAP_RESTART && dma->region) {
		vfio_region_leave(dma);
		dma->region = NULL;
		vfio_runs_init(&dma->runs);
	}
	return ret;
}

/* A mapping without pages, in no tree, owned by the caller.  Or an ERR_PTR. */
static struct vfio_dma *map_create(const struct vfio_map_request *request)
{
	struct vfio_dma *dma = kmalloc(sizeof(*dma), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!dma)
		return ERR_PTR(-ENOMEM);
	ret = vfio_owner_init(&dma->owner);
	if (ret) {
		kfree(dma);
		return ERR_PTR(ret);
	}
	/* Field by field: clearing all of it first takes longer than the rest. */
	dma->iova = request->iova;
	dma->last = request->iova + request->size - 1;
	dma->vaddr = request->vaddr;
	dma->prot = request->prot;
	dma->mapped = 0;
	dma->locked_vm = 0;
	vfio_runs_init(&dma->runs);
	dma->vaddr_invalid = false;
	dma->late = false;
	dma->orphaned = false;
	dma->region = NULL;
	dma->external = RB_ROOT;
	dma->dirty = NULL;
	dma->begun = vfio_clock();
	return dma;
}

/**
 * vfio_map_dma() - VFIO_IOMMU_MAP_DMA
 * @container: the container
 * @request: what is asked for, without set_vaddr
 *
 * Context: process context; takes container->lock.
 * Return: 0; -EINVAL if a value is unaligned, the size or the protection zero, or the IOVA
 * not valid; -EOVERFLOW if a range wraps around; -EEXIST if a mapping overlaps; -EBUSY if
 * what was mapped there has been unmapped, but not unpinned by an
 * in-kernel user; -ENOSPC if there are too many mappings; -ENODEV for a kernel thread;
 * -EINTR on a fatal signal; else as vfio_fill().  On failure nothing has
 * changed.
 */
int vfio_map_dma(struct vfio_type1_container *container, const struct vfio_map_request *request)
{
	unsigned long changes;
	struct vfio_dma *dma;
	u64 begun, cycles;
	int ret;

	ret = vfio_map_check(container, request);
	if (ret)
		return ret;
	dma = map_create(request);
	if (IS_ERR(dma))
		return PTR_ERR(dma);
	begun = dma->begun;
	trace_map_begin(container, request->iova, request->vaddr, request->size, request->prot);

	for (;;) {
		ret = vfio_container_lock_reach(container, dma->last);
		if (ret)
			break;
		ret = map_check_aligned(container, dma) ?:
		      map_reserve(container, dma, &changes) ?:
		      map_complete(container, dma);
		up_read(&container->lock);
		if (ret <= 0)
			break;
		ret = ret == MAP_WAIT ? vfio_dma_tree_wait(&container->tree, changes) : 0;
		if (ret)
			break;
	}
	/* From here on somebody else may unmap it. */
	if (ret) {
		vfio_dma_free(container, dma);
	} else {
		vfio_count(container, VFIO_COUNT_MAPS, 1);
		vfio_count(container, VFIO_COUNT_MAPPED_PAGES, request->size >> PAGE_SHIFT);
	}
	cycles = vfio_clock_since(begun);
	vfio_count(container, VFIO_COUNT_MAP_CYCLES, cycles);
	trace_map_end(container, request->iova, ret, ret ? 0 : request->size >> PAGE_SHIFT, cycles);
	return ret;
}
