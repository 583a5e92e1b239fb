// SPDX-License-Identifier: GPL-2.0-only
/*
 * UNMAP_DMA: claim mappings, have in-kernel users let go of them, report what is dirty, have
 * them emptied, let go of the IOVA.
 *
 * Nothing here can fail for lack of memory.
 */

#include <linux/iommu.h>

#include "trace/vfio_trace.h"
#include "vfio_count.h"
#include "vfio_dirty.h"
#include "vfio_dma_tree.h"
#include "vfio_empty.h"
#include "vfio_evict.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_pin.h"
#include "vfio_refuse.h"
#include "vfio_type1.h"
#include "vfio_unmap.h"

/* Mappings claimed at a time, so that the tree's lock is not held for long. */
#define CLAIM_MAX		512

/*
 * Take those mappings out of the list that in-kernel users have still pages of.  Return:
 * bytes of them.
 */
static u64 unmap_keep_late(struct vfio_type1_container *container, struct list_head *claimed)
{
	struct vfio_dma *dma, *next;
	u64 kept = 0;

	list_for_each_entry_safe(dma, next, claimed, claim) {
		if (!dma->late)
			continue;
		if (container->closed) {
			vfio_external_abandon(container, dma);
		} else if (vfio_external_keep(container, dma)) {
			kept += dma->last - dma->iova + 1;
			list_del(&dma->claim);
		}
	}
	return kept;
}

/* Empty claimed mappings, let go of their IOVA, free them.  Return: bytes. */
static u64 unmap_claimed(struct vfio_type1_container *container, struct list_head *claimed)
{
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma, *next;
	u64 unmapped;

	vfio_empty_list(container, claimed);

	/* Who looks for a mapping in order to unpin from it holds this lock. */
	mutex_lock(&container->external_lock);
	unmapped = unmap_keep_late(container, claimed);
	spin_lock(&tree->lock);
	list_for_each_entry(dma, claimed, claim)
		vfio_dma_tree_remove(tree, dma);
	spin_unlock(&tree->lock);
	mutex_unlock(&container->external_lock);
	vfio_dma_tree_wake(tree);

	list_for_each_entry_safe(dma, next, claimed, claim) {
		unmapped += dma->last - dma->iova + 1;
		vfio_dma_free(container, dma);
	}
	cond_resched();
	return unmapped;
}

/**
 * struct vfio_unmap - an UNMAP under way
 * @base: first byte of the range
 * @iova: first byte that was not looked at yet
 * @last: last byte
 * @v1: take a mapping whose first byte is in the range, and none after one that
 *	the range starts inside of; else take mappings that lie inside the range
 * @begun: some were taken
 * @dirty: where to report dirty pages, or NULL
 * @changes: tree->changes when an unsettled mapping was met
 * @waits: how often in-kernel users were waited for
 * @claimed: mappings owned by this UNMAP
 */
struct vfio_unmap {
	u64 base;
	u64 iova;
	u64 last;
	bool v1;
	bool begun;
	const struct vfio_dirty_request *dirty;
	unsigned long changes;
	unsigned int waits;
	struct list_head claimed;
};

enum unmap_next { UNMAP_DONE, UNMAP_MORE, UNMAP_WAIT, UNMAP_CUT };

/*
 * Claim the next mappings of the range.  Return: UNMAP_MORE if there may be
 * further ones; UNMAP_WAIT if none was claimed as somebody else owns the next;
 * UNMAP_CUT with @cut set if, on v2, the range cuts a mapping in two, which is
 * looked for only as long as nothing was claimed.
 */
static enum unmap_next unmap_claim(struct vfio_dma_tree *tree, struct vfio_unmap *u,
				   struct vfio_iova_span *cut)
{
	struct vfio_dma *dma, *cut_dma;
	unsigned int nr = 0;

	lockdep_assert_held(&tree->lock);
	dma = vfio_dma_tree_range(tree, u->iova, u->last, &cut_dma);
	if (cut_dma && !u->v1 && !u->begun) {
		u->changes = tree->changes;
		*cut = (struct vfio_iova_span) { cut_dma->iova, cut_dma->last };
		return cut_dma->state == VFIO_DMA_LIVE ? UNMAP_CUT : UNMAP_WAIT;
	}
	for (; dma && dma->iova <= u->last; dma = vfio_dma_tree_next(dma)) {
		if (dma->state != VFIO_DMA_LIVE) {
			u->changes = tree->changes;
			return nr ? UNMAP_MORE : UNMAP_WAIT;
		}
		if (dma->iova < u->iova) {
			if (u->v1)
				return UNMAP_DONE;
			continue;
		}
		if (!u->v1 && dma->last > u->last)
			return UNMAP_DONE;
		u->begun = true;
		dma->state = VFIO_DMA_DYING;
		list_add_tail(&dma->claim, &u->claimed);
		if (dma->last >= u->last)
			return UNMAP_DONE;
		u->iova = dma->last + 1;
		if (++nr == CLAIM_MAX)
			return UNMAP_MORE;
	}
	return UNMAP_DONE;
}

/**
 * vfio_unmap_check() - check an UNMAP as far as that needs no mappings
 * @container: the container
 * @request: what is asked for
 *
 * Context: container->lock held.
 * Return: 0; -EINVAL if a value is unaligned or zero, or, with all of it, not zero;
 * -EOVERFLOW if the range wraps around.
 */
int vfio_unmap_check(struct vfio_type1_container *container,
		     const struct vfio_unmap_request *request)
{
	u64 iova = request->iova, size = request->size;
	unsigned long pgsize = vfio_container_pgsize(container);

	if (request->all && (iova || size)) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "UNMAP_DMA iova 0x%llx size 0x%llx: with VFIO_DMA_UNMAP_FLAG_ALL both must be zero",
			    iova, size);
		return -EINVAL;
	}
	if (!request->all && !size) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "UNMAP_DMA iova 0x%llx: zero size, without VFIO_DMA_UNMAP_FLAG_ALL",
			    iova);
		return -EINVAL;
	}
	if ((iova | size) & (pgsize - 1)) {
		vfio_refuse(container, VFIO_REFUSE_ALIGN,
			    "UNMAP_DMA iova 0x%llx size 0x%llx: not all aligned to the IOMMU's smallest page, 0x%lx",
			    iova, size, pgsize);
		return -EINVAL;
	}
	if (!request->all && iova + size - 1 < iova) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "UNMAP_DMA iova 0x%llx size 0x%llx: wraps around the end of the address space",
			    iova, size);
		return -EOVERFLOW;
	}
	return 0;
}

/* Dirty pages can be reported while they are tracked, and by the smallest page. */
static int unmap_check_dirty(struct vfio_type1_container *container,
			     const struct vfio_dirty_request *dirty)
{
	unsigned long pgsize = vfio_container_pgsize(container);

	if (!dirty || (container->dirty_tracking && dirty->pgsize == pgsize &&
		       pgsize == 1UL << container->dirty_shift))
		return 0;
	vfio_refuse(container, VFIO_REFUSE_DIRTY,
		    "UNMAP_DMA: no dirty bitmap for pages of 0x%llx bytes: tracking is %s, the smallest page 0x%lx",
		    dirty->pgsize, container->dirty_tracking ? "on" : "off", pgsize);
	return -EINVAL;
}

/*
 * Report a claimed mapping.  Return: 0; an errno; or 1 after user memory was faulted in, without
 * the lock, so that all have to be looked at anew: a device may have come that writes.
 */
static int unmap_report(struct vfio_type1_container *container, const struct vfio_unmap *u,
			const struct vfio_dma *dma)
{
	int ret = unmap_check_dirty(container, u->dirty);

	if (ret || vfio_dirty_report(container, dma, u->base, u->dirty))
		return ret;
	up_read(&container->lock);
	ret = vfio_dirty_fault_in(dma, u->base, u->dirty);
	down_read(&container->lock);
	return ret ?: 1;
}

/* Report all claimed mappings.  On failure @failed is set to the one that it ended at. */
static int unmap_report_all(struct vfio_type1_container *container, struct vfio_unmap *u,
			    struct vfio_dma **failed)
{
	struct vfio_dma *dma;
	unsigned int n;
	int ret = 1;

	for (n = 0; ret > 0 && n < VFIO_FAULT_IN_MAX; n++) {
		ret = 0;
		list_for_each_entry(dma, &u->claimed, claim) {
			ret = unmap_report(container, u, dma);
			*failed = dma;
			if (ret)
				break;
		}
	}
	return ret > 0 ? -EFAULT : ret;
}

/*
 * Have in-kernel users let go of claimed mappings, and report what is dirty.
 * Mappings that cannot be reported are nobody's again, and not in the list, unless all
 * mappings were removed meanwhile.
 */
static int unmap_prepare(struct vfio_type1_container *container, struct vfio_unmap *u)
{
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma, *next;
	int ret;

	vfio_external_evict(container, &u->claimed, &u->waits);
	if (!u->dirty)
		return 0;
	ret = unmap_report_all(container, u, &dma);
	if (!ret)
		return 0;
	list_for_each_entry_safe_from(dma, next, &u->claimed, claim) {
		if (dma->orphaned)
			continue;
		list_del(&dma->claim);
		spin_lock(&tree->lock);
		vfio_dma_tree_settle(tree, dma);
		spin_unlock(&tree->lock);
	}
	vfio_dma_tree_wake(tree);
	return ret;
}

/* Tell of an UNMAP on v1 that found nothing to remove: no error, but seldom meant so. */
static __cold
void unmap_refuse_nothing(struct vfio_type1_container *container, u64 iova, u64 size)
{
	struct vfio_iova_span inside = {};
	struct vfio_dma *dma;

	spin_lock(&container->tree.lock);
	dma = vfio_dma_tree_first(&container->tree, iova, iova);
	if (dma)
		inside = (struct vfio_iova_span) { dma->iova, dma->last };
	spin_unlock(&container->tree.lock);
	if (inside.last)
		vfio_refuse(container, VFIO_REFUSE_V1_NONE,
			    "UNMAP_DMA iova 0x%llx size 0x%llx: removed nothing: it starts inside the mapping 0x%llx-0x%llx",
			    iova, size, inside.first, inside.last);
	else
		vfio_refuse(container, VFIO_REFUSE_V1_NONE,
			    "UNMAP_DMA iova 0x%llx size 0x%llx: removed nothing: nothing is mapped there",
			    iova, size);
}

/* Drop container->lock until the tree has changed. */
static int unmap_wait(struct vfio_type1_container *container, unsigned long changes)
{
	int ret;

	up_read(&container->lock);
	ret = vfio_dma_tree_wait(&container->tree, changes);
	down_read(&container->lock);
	return ret;
}

/**
 * vfio_unmap_dma() - VFIO_IOMMU_UNMAP_DMA
 * @container: the container
 * @request: what is asked for
 * @unmapped: set to the bytes that were unmapped, also on failure
 *
 * Context: process context; takes container->lock.
 * Return: 0; -EINVAL if a value is unaligned or zero, or, on v2, if the range
 * cuts a mapping in two, or dirty pages cannot be reported so; -EOVERFLOW if the
 * range wraps around; -EFAULT if there is no memory for the dirty bitmap; -EINTR
 * on a fatal signal while waiting for a MAP in the range, or for that memory.
 */
int vfio_unmap_dma(struct vfio_type1_container *container,
		   const struct vfio_unmap_request *request, u64 *unmapped)
{
	u64 iova = request->iova, size = request->size;
	struct vfio_unmap u = {
		.base = iova,
		.iova = iova,
		.last = request->all ? U64_MAX : iova + size - 1,
		.v1 = !container->v2,
		.dirty = request->dirty,
		.claimed = LIST_HEAD_INIT(u.claimed),
	};
	enum unmap_next next = UNMAP_MORE;
	struct vfio_iova_span cut;
	u64 begun = vfio_clock(), cycles;
	int ret = 0;

	trace_unmap_begin(container, iova, size, request->all);
	*unmapped = 0;
	down_read(&container->lock);
	while (!ret && next != UNMAP_DONE) {
		/* Again after each wait, in which groups may have come or gone. */
		if (!u.begun)
			ret = vfio_unmap_check(container, request) ?:
			      unmap_check_dirty(container, request->dirty);
		if (ret)
			break;
		spin_lock(&container->tree.lock);
		next = unmap_claim(&container->tree, &u, &cut);
		spin_unlock(&container->tree.lock);
		switch (next) {
		case UNMAP_CUT:
			vfio_refuse(container, VFIO_REFUSE_BISECT,
				    "UNMAP_DMA iova 0x%llx size 0x%llx: cuts the mapping 0x%llx-0x%llx in two",
				    iova, size, cut.first, cut.last);
			ret = -EINVAL;
			break;
		case UNMAP_WAIT:
			ret = unmap_wait(container, u.changes);
			break;
		default:
			ret = unmap_prepare(container, &u);
			if (!list_empty(&u.claimed))
				*unmapped += unmap_claimed(container, &u.claimed);
			else if (u.v1 && !u.begun && !request->all && !ret)
				unmap_refuse_nothing(container, iova, size);
			INIT_LIST_HEAD(&u.claimed);
		}
	}
	up_read(&container->lock);
	if (!ret)
		vfio_count(container, VFIO_COUNT_UNMAPS, 1);
	vfio_count(container, VFIO_COUNT_UNMAPPED_PAGES, *unmapped >> PAGE_SHIFT);
	cycles = vfio_clock_since(begun);
	vfio_count(container, VFIO_COUNT_UNMAP_CYCLES, cycles);
	trace_unmap_end(container, iova, ret, *unmapped >> PAGE_SHIFT, cycles);
	return ret;
}

/* Remove a mapping that was emptied, whoever has pages of it pinned. */
static void unmap_forget(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_dma_tree *tree = &container->tree;

	vfio_external_abandon(container, dma);
	spin_lock(&tree->lock);
	vfio_dma_tree_remove(tree, dma);
	spin_unlock(&tree->lock);
	vfio_dma_free(container, dma);
	cond_resched();
}

/**
 * vfio_unmap_all() - remove every mapping
 * @container: the container
 *
 * A mapping that an UNMAP is evicting in-kernel users from, or reporting, is emptied,
 * but left to it: it will remove it, whatever else it does.  So is one that a MAP is
 * filling, which starts over.
 * Nobody is left who could unpin what in-kernel users have pinned.
 *
 * Context: may sleep; container->lock held for write.
 * Return: mappings that were removed and had not been asked to.
 */
unsigned long vfio_unmap_all(struct vfio_type1_container *container)
{
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma, *next;
	unsigned long nr = 0;

	vfio_empty_all(container);
	for (dma = vfio_dma_tree_first(tree, 0, U64_MAX); dma; dma = next) {
		next = vfio_dma_tree_next(dma);
		if (dma->state == VFIO_DMA_LIVE) {
			unmap_forget(container, dma);
			nr++;
		} else {
			dma->orphaned = dma->state == VFIO_DMA_DYING;
		}
	}
	while ((dma = vfio_dma_tree_first_kept(tree, 0, U64_MAX)))
		unmap_forget(container, dma);
	return nr;
}
