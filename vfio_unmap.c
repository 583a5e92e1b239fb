// SPDX-License-Identifier: GPL-2.0-only
/*
 * UNMAP_DMA: claim mappings, take their runs out of every domain window by
 * window, unpin, give the charge back, let go of the IOVA.
 *
 * A window is a number of whole runs, of one or more mappings, that are taken
 * out of the primary domain before one IOTLB sync; only then are their pages
 * unpinned.  Within a window, runs that follow each other in IOVA are a span,
 * and go at a time: one call of the IOMMU then clears as much as it can, and
 * frees the page tables it empties, which takes a sync by itself (vfio_domain.c).
 *
 * What the runs are, the run list knows; where it was lost the IOMMU is asked,
 * page by page or by unmapping one page and looking what comes back (see
 * vfio_fgsp.c).
 *
 * Nothing here can fail for lack of memory.  A driver that gives back less than
 * asked, or has no address for what was mapped, is answered with a message and
 * by leaving the pages concerned pinned for ever; nothing else would be safe.
 */

#include <linux/slab.h>

#include "trace/vfio_trace.h"
#include "vfio_type1.h"

/* Runs of a window that needs no allocated memory. */
#define WINDOW_ONSTACK		16
/*
 * Pages of a window at most, unless a single run is larger, so that the time
 * between two scheduling points is bounded.
 */
#define WINDOW_PAGES		VFIO_RUN_PAGES_MAX
/* Mappings claimed at a time, so that the tree's lock is not held for long. */
#define CLAIM_MAX		512

/**
 * struct vfio_window - runs on their way out
 * @container: the container
 * @domain: primary domain
 * @gather: what to sync, and calls of the IOMMU since the window was empty
 * @runs: runs gathered so far
 * @capacity: how many fit
 * @nr: how many there are
 * @npages: pages in @runs
 * @kept: some run was not given back
 * @owner: who is to get @refund, or NULL
 * @refund: charged pages to give back after the next sync
 * @span_nr: first run in @runs that is still mapped
 * @span_npages: pages in @runs before it
 * @span_iova: IOVA of that run
 * @onstack: memory for @runs that is always there
 */
struct vfio_window {
	struct vfio_type1_container *container;
	struct vfio_domain *domain;
	struct vfio_gather gather;
	struct vfio_run *runs;
	unsigned int capacity;
	unsigned int nr;
	unsigned long npages;
	bool kept;
	const struct vfio_owner *owner;
	unsigned long refund;
	unsigned int span_nr;
	unsigned long span_npages;
	u64 span_iova;
	struct vfio_run onstack[WINDOW_ONSTACK];
};

static void unmap_complain(u64 iova, size_t size)
{
	pr_err_ratelimited("IOMMU lost or kept IOVA 0x%llx size 0x%zx; its pages stay pinned\n",
			   iova, size);
}

/* Bytes of the open span. */
static size_t window_span(const struct vfio_window *w)
{
	return (size_t)(w->npages - w->span_npages) << PAGE_SHIFT;
}

/* Unmap the open span.  Runs that the driver did not give back are forgotten. */
static void window_close_span(struct vfio_window *w)
{
	size_t unmapped, size = window_span(w);

	if (!size)
		return;
	unmapped = vfio_gather_unmap(&w->gather, w->domain, w->span_iova, size);
	if (unmapped < size) {
		unmap_complain(w->span_iova + unmapped, size - unmapped);
		w->kept = true;
		unmapped >>= PAGE_SHIFT;
		while (w->span_nr < w->nr && vfio_run_npages(w->runs[w->span_nr]) <= unmapped)
			unmapped -= vfio_run_npages(w->runs[w->span_nr++]);
		if (w->span_nr < w->nr && unmapped) {
			w->runs[w->span_nr].word -= vfio_run_npages(w->runs[w->span_nr]) - unmapped;
			w->span_nr++;
		}
		w->nr = w->span_nr;
	}
	w->span_nr = w->nr;
	w->span_npages = w->npages;
}

/* Sync, then unpin. */
static void window_flush(struct vfio_window *w)
{
	window_close_span(w);
	if (w->gather.calls) {
		vfio_gather_sync(&w->gather, w->domain);
		vfio_count(w->container, VFIO_COUNT_WINDOWS, 1);
		vfio_count(w->container, VFIO_COUNT_SYNCS, w->gather.syncs);
		vfio_count(w->container, VFIO_COUNT_IOMMU_UNMAPS, w->gather.calls);
		trace_window(w->container, w->nr, PFN_PHYS(w->npages), w->gather.calls);
	}
	w->gather.calls = 0;
	w->gather.syncs = 0;
	vfio_container_flush(w->container, w->runs, w->nr);
	vfio_unpin_runs(w->runs, w->nr);
	w->nr = 0;
	w->npages = 0;
	w->span_nr = 0;
	w->span_npages = 0;
	cond_resched();
}

/* Put a run into the window.  If a span is open, the run follows it in IOVA. */
static inline void window_add(struct vfio_window *w, u64 iova, struct vfio_run run)
{
	unsigned long npages = vfio_run_npages(run);

	if (w->nr == w->capacity || w->npages + npages > WINDOW_PAGES)
		window_flush(w);
	if (w->span_nr == w->nr)
		w->span_iova = iova;
	w->runs[w->nr++] = run;
	w->npages += npages;
}

/* How to find the runs of a mapping that is not of registered memory. */
static enum vfio_unmap_walk unmap_walk(const struct vfio_dma *dma,
				       const struct vfio_domain *primary)
{
	unsigned int forced = READ_ONCE(vfio_type1_params.unmap_walk);

	if (dma->runs.exact)
		return VFIO_UNMAP_RUNS;
	if (forced == VFIO_UNMAP_FGSP || forced == VFIO_UNMAP_COARSE)
		return forced;
	if (!dma->runs.lost)
		return VFIO_UNMAP_RUNS;
	return primary->fgsp ? VFIO_UNMAP_FGSP : VFIO_UNMAP_COARSE;
}

/* Unmap and sync a mapping, without looking at its runs.  Return: whether it is gone. */
static bool unmap_blind(struct vfio_type1_container *container, struct vfio_domain *domain,
			const struct vfio_dma *dma)
{
	u64 iova = dma->iova, left = (u64)dma->mapped << PAGE_SHIFT;
	size_t size;
	bool gone = true;

	for (; left; left -= size, iova += size) {
		size = min_t(u64, left, VFIO_RUN_BYTES_MAX - (iova & (VFIO_RUN_BYTES_MAX - 1)));
		if (vfio_domain_unmap(container, domain, iova, size) < size) {
			unmap_complain(iova, size);
			gone = false;
		}
		cond_resched();
	}
	return gone;
}

/*
 * Take a mapping out of every domain but the primary.  Return: whether all of
 * them let go.
 */
static bool unmap_others(struct vfio_type1_container *container, const struct vfio_dma *dma)
{
	struct vfio_domain *domain = vfio_container_primary(container);
	bool gone = true;

	list_for_each_entry_continue(domain, &container->domains, next)
		gone &= unmap_blind(container, domain, dma);
	return gone;
}

/*
 * Unmap one page, and see how much comes back: an IOPTE's worth, all contiguous.
 * Return: a run without pages if there was nothing.
 */
static struct vfio_run window_unmap_page(struct vfio_window *w, u64 iova, unsigned long max,
					 int prot)
{
	phys_addr_t phys = iommu_iova_to_phys(w->domain->domain, iova);
	unsigned long pfn = PHYS_PFN(phys);
	u64 flags = vfio_run_flags(prot) | vfio_pfn_kind(pfn);
	size_t size;

	if (!phys)
		return vfio_run_make(0, 0, 0);
	size = vfio_gather_unmap(&w->gather, w->domain, iova, PAGE_SIZE);
	return vfio_run_make(pfn, min(max, size >> PAGE_SHIFT), flags);
}

/* Gather the runs of a mapping that lost its run list. */
static void window_walk(struct vfio_window *w, const struct vfio_dma *dma,
			enum vfio_unmap_walk walk)
{
	unsigned long page, npages;
	struct vfio_run run;

	for (page = 0; page < dma->mapped; page += npages) {
		u64 iova = dma->iova + ((u64)page << PAGE_SHIFT);
		unsigned long left = dma->mapped - page;

		if (walk == VFIO_UNMAP_FGSP)
			run = window_unmap_page(w, iova, left, dma->prot);
		else
			run = vfio_fgsp_chunk(w->domain->domain, iova, left, dma->prot);
		npages = vfio_run_npages(run);
		if (npages) {
			window_add(w, iova, run);
		} else {
			/* Look at the next page. */
			window_close_span(w);
			unmap_complain(iova, PAGE_SIZE);
			npages = 1;
		}
		if (walk == VFIO_UNMAP_FGSP) {
			/* It is unmapped already. */
			w->span_nr = w->nr;
			w->span_npages = w->npages;
		}
	}
}

/*
 * Gather a mapping of registered memory, whose pins are not ours: only where runs have
 * to end matters.
 */
static void window_add_region(struct vfio_window *w, const struct vfio_dma *dma)
{
	unsigned long page, npages;

	for (page = 0; page < dma->mapped; page += npages) {
		u64 iova = dma->iova + ((u64)page << PAGE_SHIFT);

		npages = (VFIO_RUN_BYTES_MAX - (iova & (VFIO_RUN_BYTES_MAX - 1))) >> PAGE_SHIFT;
		npages = min(npages, dma->mapped - page);
		window_add(w, iova, vfio_run_make(0, npages, 0));
	}
}

/* Gather all runs of a mapping, flushing the window as it gets full. */
static void window_add_mapping(struct vfio_type1_container *container, struct vfio_window *w,
			       const struct vfio_dma *dma)
{
	const struct vfio_run *run, *end;
	struct vfio_runs_iter iter;
	enum vfio_unmap_walk walk;
	u64 iova = dma->iova;

	if (w->span_iova + window_span(w) != iova)
		window_close_span(w);
	if (dma->region) {
		window_add_region(w, dma);
		return;
	}
	walk = unmap_walk(dma, vfio_container_primary(container));
	if (walk == VFIO_UNMAP_FGSP)
		window_close_span(w);
	if (walk != VFIO_UNMAP_RUNS) {
		window_walk(w, dma, walk);
		return;
	}
	vfio_runs_begin(&dma->runs, &iter);
	do {
		for (run = iter.at, end = run + iter.nr; run < end; run++) {
			window_add(w, iova, *run);
			iova += (u64)vfio_run_npages(*run) << PAGE_SHIFT;
		}
	} while (vfio_runs_more(&iter));
}

/* Flush the window, and give back what its owner was charged. */
static void window_settle(struct vfio_window *w)
{
	window_flush(w);
	if (w->owner)
		vfio_account_refund(w->owner, w->refund);
	w->refund = 0;
}

/*
 * Begin to empty mappings: with room for a few runs on the caller's stack, or,
 * if @many, for more, which is nice to have: it makes for fewer syncs.
 */
static void window_begin(struct vfio_type1_container *container, struct vfio_window *w,
			 bool many)
{
	struct vfio_run *spare = NULL;

	/* Field by field: the stack need not be cleared. */
	w->container = container;
	w->runs = w->onstack;
	w->capacity = WINDOW_ONSTACK;
	w->nr = 0;
	w->npages = 0;
	w->kept = false;
	w->owner = NULL;
	w->refund = 0;
	w->span_nr = 0;
	w->span_npages = 0;
	w->span_iova = 0;
	/* Without a domain no mapping is mapped, and none is looked up. */
	if (vfio_container_has_iommu(container))
		w->domain = vfio_container_primary(container);
	if (many) {
		spare = vfio_spares_take(&container->window_runs);
		if (!spare)
			spare = kvmalloc_array(VFIO_WINDOW_RUNS, sizeof(*spare),
					       VFIO_GFP_OPTIONAL);
	}
	if (spare) {
		w->runs = spare;
		w->capacity = VFIO_WINDOW_RUNS;
	}
	vfio_gather_begin(&w->gather);
}

/*
 * A mapping is in no domain any more.  Return: pages that it is no longer charged for,
 * which are all but those that in-kernel users have pinned.  If somebody else's MAP is
 * @filling it, that has pages pinned, and charged, which are in no domain yet: then it is
 * none, for the MAP starts over, or fails, and then gives back what it was charged.
 */
static unsigned long window_uncharge(struct vfio_type1_container *container,
				     struct vfio_dma *dma, bool filling)
{
	unsigned long external, refund = 0;
	bool late = READ_ONCE(dma->late);

	/* They may unpin right now, and look whose charge is whose. */
	if (late)
		mutex_lock(&container->external_lock);
	dma->mapped = 0;
	/* Registered memory is charged for as long as it holds the region. */
	if (!dma->region && !filling) {
		external = vfio_external_count(dma, dma->iova, vfio_dma_npages(dma));
		external = min(external, dma->locked_vm);
		refund = dma->locked_vm - external;
		vfio_dma_note_charge(container, dma, -refund);
	}
	if (late)
		mutex_unlock(&container->external_lock);
	return refund;
}

/* Empty one mapping; it is done when the window was settled.  @filling as above. */
static void window_empty(struct vfio_type1_container *container, struct vfio_window *w,
			 struct vfio_dma *dma, bool filling)
{
	/* Neighbours mostly have one owner. */
	if (w->owner && w->owner->mm != dma->owner.mm)
		window_settle(w);
	w->owner = &dma->owner;

	if (dma->mapped && unmap_others(container, dma)) {
		window_add_mapping(container, w, dma);
	} else if (dma->mapped) {
		window_close_span(w);
		unmap_blind(container, w->domain, dma);
		vfio_dma_keep(dma);
	}
	if (dma->mapped && vfio_dma_writeback(dma)) {
		window_flush(w);
		vfio_region_dirty(dma->region, dma->region_page, dma->mapped);
	}
	if (!dma->region)
		vfio_runs_free(&dma->runs);
	w->refund += window_uncharge(container, dma, filling);
}

/* May a mapping have more runs than fit on the stack? */
static bool unmap_takes_many(const struct vfio_dma *dma)
{
	return dma->mapped > WINDOW_ONSTACK && !dma->region &&
	       (dma->runs.first || dma->runs.lost);
}

/* Return: whether some page was not given back. */
static bool window_end(struct vfio_type1_container *container, struct vfio_window *w)
{
	window_settle(w);
	if (w->runs != w->onstack)
		vfio_spares_keep(&container->window_runs, w->runs);
	return w->kept;
}

/**
 * vfio_unmap_empty() - take all pages out of a mapping
 * @container: the container
 * @dma: mapping owned by the caller
 *
 * Afterwards the mapping is in no domain, and has no pages and no charge but for
 * what in-kernel users have pinned.
 *
 * Context: may sleep; container->lock held.
 */
void vfio_unmap_empty(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_window w __uninitialized;

	lockdep_assert_held(&container->lock);
	window_begin(container, &w, unmap_takes_many(dma));
	window_empty(container, &w, dma, false);
	if (window_end(container, &w))
		vfio_dma_keep(dma);
}

/**
 * vfio_unmap_empty_all() - take all pages out of all mappings
 * @container: the container
 *
 * Context: may sleep; container->lock held for write.
 */
void vfio_unmap_empty_all(struct vfio_type1_container *container)
{
	struct vfio_window w __uninitialized;
	struct vfio_dma *dma;

	lockdep_assert_held_write(&container->lock);
	window_begin(container, &w, true);
	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma;
	     dma = vfio_dma_tree_next(dma)) {
		window_empty(container, &w, dma, dma->state == VFIO_DMA_PENDING);
		cond_resched();
	}
	if (!window_end(container, &w))
		return;
	/* Which of them, nobody knows any more. */
	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma;
	     dma = vfio_dma_tree_next(dma))
		vfio_dma_keep(dma);
}

/**
 * vfio_dma_free() - free a mapping that is in no tree and was emptied
 * @container: the container that it was of
 * @dma: the mapping, of which in-kernel users have nothing pinned
 *
 * Context: may sleep: registered memory may go with its last mapping.
 */
void vfio_dma_free(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	kvfree(dma->dirty);
	if (dma->region) {
		vfio_account_refund(&dma->owner, dma->locked_vm);
		vfio_region_leave(dma);
	}
	/* What others hold of it stays charged, but to no mapping. */
	vfio_dma_note_charge(container, dma, -dma->locked_vm);
	vfio_owner_put(&dma->owner);
	kfree(dma);
}

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
	struct vfio_window w __uninitialized;
	u64 unmapped;

	dma = list_first_entry(claimed, struct vfio_dma, claim);
	window_begin(container, &w, !list_is_singular(claimed) || unmap_takes_many(dma));
	list_for_each_entry(dma, claimed, claim)
		window_empty(container, &w, dma, false);
	if (window_end(container, &w))
		list_for_each_entry(dma, claimed, claim)
			vfio_dma_keep(dma);

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
 * @iova: first byte of the range
 * @size: bytes
 * @all: everything
 *
 * Context: container->lock held.
 * Return: 0; -EINVAL if a value is unaligned or zero, or, with @all, not zero;
 * -EOVERFLOW if the range wraps around.
 */
int vfio_unmap_check(struct vfio_type1_container *container, u64 iova, u64 size, bool all)
{
	unsigned long pgsize = vfio_container_pgsize(container);

	if (all && (iova || size)) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "UNMAP_DMA iova 0x%llx size 0x%llx: with VFIO_DMA_UNMAP_FLAG_ALL both must be zero",
			    iova, size);
		return -EINVAL;
	}
	if (!all && !size) {
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
	if (!all && iova + size - 1 < iova) {
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
 * @iova: first byte of the range
 * @size: bytes
 * @all: everything; @iova and @size are zero
 * @dirty: where to report dirty pages, or NULL
 * @unmapped: set to the bytes that were unmapped, also on failure
 *
 * Context: process context; takes container->lock.
 * Return: 0; -EINVAL if a value is unaligned or zero, or, on v2, if the range
 * cuts a mapping in two, or dirty pages cannot be reported so; -EOVERFLOW if the
 * range wraps around; -EFAULT if there is no memory for the dirty bitmap; -EINTR
 * on a fatal signal while waiting for a MAP in the range, or for that memory.
 */
int vfio_unmap_dma(struct vfio_type1_container *container, u64 iova, u64 size, bool all,
		   const struct vfio_dirty_request *dirty, u64 *unmapped)
{
	struct vfio_unmap u = {
		.base = iova,
		.iova = iova,
		.last = all ? U64_MAX : iova + size - 1,
		.v1 = !container->v2,
		.dirty = dirty,
		.claimed = LIST_HEAD_INIT(u.claimed),
	};
	enum unmap_next next = UNMAP_MORE;
	struct vfio_iova_span cut;
	u64 begun = vfio_clock(), cycles;
	int ret = 0;

	trace_unmap_begin(container, iova, size, all);
	*unmapped = 0;
	down_read(&container->lock);
	while (!ret && next != UNMAP_DONE) {
		/* Again after each wait, in which groups may have come or gone. */
		if (!u.begun)
			ret = vfio_unmap_check(container, iova, size, all) ?:
			      unmap_check_dirty(container, dirty);
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
			else if (u.v1 && !u.begun && !all && !ret)
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

	vfio_unmap_empty_all(container);
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
