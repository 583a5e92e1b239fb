// SPDX-License-Identifier: GPL-2.0-only
/*
 * Empty mappings: take their runs out of every domain window by window, unpin, give the
 * charge back.
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

#include "compat/compiler.h"
#include "trace/vfio_trace.h"
#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_dma_tree.h"
#include "vfio_domain.h"
#include "vfio_empty.h"
#include "vfio_fgsp.h"
#include "vfio_group.h"
#include "vfio_params.h"
#include "vfio_pin.h"
#include "vfio_pinned.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_spares.h"
#include "vfio_type1.h"

/* Runs of a window that needs no allocated memory. */
#define WINDOW_ONSTACK		16
/*
 * Pages of a window at most, unless a single run is larger, so that the time
 * between two scheduling points is bounded.
 */
#define WINDOW_PAGES		VFIO_RUN_PAGES_MAX

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

/* Begin to empty mappings, with room for a few runs on the caller's stack. */
static void window_begin(struct vfio_type1_container *container, struct vfio_window *w)
{
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
	vfio_gather_begin(&w->gather);
}

/* The same with room for more, which is nice to have: it makes for fewer syncs. */
static void window_begin_many(struct vfio_type1_container *container, struct vfio_window *w)
{
	struct vfio_run *spare = vfio_spares_take(&container->window_runs);

	window_begin(container, w);
	if (!spare)
		spare = kvmalloc_array(VFIO_WINDOW_RUNS, sizeof(*spare), VFIO_GFP_OPTIONAL);
	if (!spare)
		return;
	w->runs = spare;
	w->capacity = VFIO_WINDOW_RUNS;
}

/*
 * A mapping is in no domain any more.  Return: pages that it is no longer charged for,
 * which are all but those that in-kernel users have pinned.
 */
static unsigned long window_uncharge(struct vfio_type1_container *container,
				     struct vfio_dma *dma)
{
	unsigned long external, refund = 0;
	bool late = READ_ONCE(dma->late);

	/* They may unpin right now, and look whose charge is whose. */
	if (late)
		mutex_lock(&container->external_lock);
	WRITE_ONCE(dma->mapped, 0);
	/* Registered memory is charged for as long as it holds the region. */
	if (!dma->region) {
		external = vfio_pinned_count(dma, dma->iova, vfio_dma_npages(dma));
		external = min(external, dma->locked_vm);
		refund = dma->locked_vm - external;
		vfio_dma_note_charge(container, dma, -refund);
	}
	if (late)
		mutex_unlock(&container->external_lock);
	return refund;
}

/* Take one mapping out of all domains; it is done when the window was settled. */
static void window_take_out(struct vfio_type1_container *container, struct vfio_window *w,
			    struct vfio_dma *dma)
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
}

/* Empty one mapping. */
static void window_empty(struct vfio_type1_container *container, struct vfio_window *w,
			 struct vfio_dma *dma)
{
	window_take_out(container, w, dma);
	w->refund += window_uncharge(container, dma);
}

/*
 * Empty a mapping that somebody else's MAP is filling.  That has pages pinned, and charged, which
 * are in no domain yet, so that its charge stays: the MAP starts over, or fails, and then gives
 * back what it was charged.
 */
static void window_take_back(struct vfio_type1_container *container, struct vfio_window *w,
			     struct vfio_dma *dma)
{
	window_take_out(container, w, dma);
	WRITE_ONCE(dma->mapped, 0);
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
 * vfio_empty() - take all pages out of a mapping
 * @container: the container
 * @dma: mapping owned by the caller
 *
 * Afterwards the mapping is in no domain, and has no pages and no charge but for
 * what in-kernel users have pinned.
 *
 * Context: may sleep; container->lock held.
 */
void vfio_empty(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_window w __uninitialized;

	lockdep_assert_held(&container->lock);
	if (unmap_takes_many(dma))
		window_begin_many(container, &w);
	else
		window_begin(container, &w);
	window_empty(container, &w, dma);
	if (window_end(container, &w))
		vfio_dma_keep(dma);
}

/**
 * vfio_empty_list() - take all pages out of mappings
 * @container: the container
 * @claimed: list of mappings by vfio_dma.claim that the caller owns, at least one
 *
 * As vfio_empty(), but with fewer syncs.
 *
 * Context: may sleep; container->lock held.
 */
void vfio_empty_list(struct vfio_type1_container *container, struct list_head *claimed)
{
	struct vfio_window w __uninitialized;
	struct vfio_dma *dma;

	dma = list_first_entry(claimed, struct vfio_dma, claim);
	if (!list_is_singular(claimed) || unmap_takes_many(dma))
		window_begin_many(container, &w);
	else
		window_begin(container, &w);
	list_for_each_entry(dma, claimed, claim)
		window_empty(container, &w, dma);
	if (window_end(container, &w))
		list_for_each_entry(dma, claimed, claim)
			vfio_dma_keep(dma);
}

/**
 * vfio_empty_all() - take all pages out of all mappings
 * @container: the container
 *
 * Context: may sleep; container->lock held for write.
 */
void vfio_empty_all(struct vfio_type1_container *container)
{
	struct vfio_window w __uninitialized;
	struct vfio_dma *dma;

	lockdep_assert_held_write(&container->lock);
	window_begin_many(container, &w);
	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma;
	     dma = vfio_dma_tree_next(dma)) {
		if (dma->state == VFIO_DMA_PENDING)
			window_take_back(container, &w, dma);
		else
			window_empty(container, &w, dma);
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
