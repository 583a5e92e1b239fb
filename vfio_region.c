// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region: user memory that was pinned and charged once, and which page frames it
 * consists of, so that a page can be mapped without being looked up in user memory,
 * and unmapped without being unpinned.
 *
 * Each frame has a struct page, and stays: it is pinned, or the zero page.  Device
 * memory (VM_PFNMAP), which nobody can pin, is refused: a region would go on giving
 * out frames that may be somebody else's by then.
 */

#include <linux/interval_tree_generic.h>
#include <linux/log2.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_dma_tree.h"
#include "vfio_params.h"
#include "vfio_pin.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_slots.h"
#include "vfio_type1.h"
#include "vfio_watch.h"

/* Runs unpinned at a time. */
#define UNPIN_BATCH	64

/**
 * vfio_region_run() - the frames from a page on
 * @region: the region
 * @page: first page, counted from the start of the region
 * @max: pages wanted at most
 *
 * Takes the same time for any page; pages that follow are looked at once.
 *
 * Context: a reference to the region is held.
 * Return: a run, @max pages long if all of them follow each other; not one that was
 * written to, whatever devices did.
 */
struct vfio_run vfio_region_run(const struct vfio_region *region, unsigned long page,
				unsigned long max)
{
	unsigned long n, more;
	u64 entry;

	max = min3(max, region->npages - page, VFIO_RUN_PAGES_MAX);
	entry = region_entry(region, page, max, &n);
	while (n < max && region_entry(region, page + n, max - n, &more) == entry + n * ENTRY_NEXT)
		n += more;
	return vfio_run_make(entry >> ENTRY_PFN_SHIFT, n, entry_kind(entry));
}

/**
 * vfio_region_count_ram() - count pages of the kind that is charged
 * @region: the region
 * @page: first page, counted from the start of the region
 * @npages: how many to look at
 *
 * Context: may sleep; a reference to the region is held.
 * Return: pages that are charged.
 */
unsigned long vfio_region_count_ram(const struct vfio_region *region, unsigned long page,
				    unsigned long npages)
{
	unsigned long end = page + npages, ram = 0;
	struct vfio_run run;

	for (; page < end; page += vfio_run_npages(run)) {
		run = vfio_region_run(region, page, end - page);
		if (vfio_run_charged(run))
			ram += vfio_run_npages(run);
		cond_resched();
	}
	return ram;
}

/**
 * vfio_region_mapping_run() - the run that a mapping of registered memory has somewhere
 * @dma: the mapping
 * @page: where the run starts
 *
 * Context: the caller owns @dma.
 * Return: the run, which ends where it has to.
 */
struct vfio_run vfio_region_mapping_run(const struct vfio_dma *dma, unsigned long page)
{
	return vfio_region_run(dma->region, dma->region_page + page,
			       min(vfio_dma_npages(dma) - page, vfio_dma_run_limit(dma, page)));
}

/* ---- pinning and unpinning ---- */

static int region_prot(const struct vfio_region *region)
{
	return region->read_only ? IOMMU_READ : IOMMU_READ | IOMMU_WRITE;
}

/**
 * struct region_fill - a region being filled
 * @region: the region
 * @batch: pages pinned last
 * @npages: pages of complete slots
 * @hugetlb: some pages so far are hugetlb memory
 * @nr: pages in @entries
 * @entries: words of the pages of the next slot
 * @pages: memory for @batch
 */
struct region_fill {
	struct vfio_region *region;
	struct vfio_pin_batch batch;
	unsigned long npages;
	bool hugetlb;
	unsigned int nr;
	u64 entries[VFIO_SLOT_PAGES];
	struct page *pages[VFIO_PIN_BATCH_MAX];
};

/* A copy of the words of a slot's pages, aligned so that a pointer to it has room for flags. */
static u64 *table_create(const u64 *entries, unsigned int nr)
{
	size_t size = max_t(size_t, nr * sizeof(*entries), ENTRY_FLAGS + 1);
	u64 *table = kmalloc(roundup_pow_of_two(size), GFP_KERNEL_ACCOUNT);

	if (table)
		memcpy(table, entries, nr * sizeof(*entries));
	return table;
}

/* All pages of a slot are known: keep them, in a word if that is possible. */
static int fill_slot(struct region_fill *fill)
{
	struct vfio_region *region = fill->region;
	unsigned long slot = slot_of(region, fill->npages);
	u64 word = fill->entries[0];
	unsigned int n = 1;
	u64 *table;

	while (n < fill->nr && fill->entries[n] == word + n * ENTRY_NEXT)
		n++;
	if (n < fill->nr) {
		table = table_create(fill->entries, fill->nr);
		if (!table)
			return -ENOMEM;
		word = (unsigned long)table | SLOT_TABLE;
	}
	/* It may have got a mark already. */
	spin_lock(&region->lock);
	WRITE_ONCE(region->slots[slot], region->slots[slot] | word);
	spin_unlock(&region->lock);
	fill->npages += fill->nr;
	fill->nr = 0;
	return 0;
}

/* Keep all pages of a run. */
static int fill_run(struct region_fill *fill, struct vfio_run run)
{
	u64 entry = ((u64)vfio_run_pfn(run) << ENTRY_PFN_SHIFT) |
		    ((run.word & VFIO_RUN_KIND) >> ENTRY_KIND_SHIFT);
	unsigned long npages = vfio_run_npages(run), first = fill->npages;
	int ret = 0;

	for (; npages; npages--, entry += ENTRY_NEXT) {
		/* Also after a failure: what is in @entries will be unpinned. */
		fill->entries[fill->nr++] = entry;
		if (first + fill->nr < slot_end(fill->region, slot_of(fill->region, first)))
			continue;
		ret = fill_slot(fill);
		if (ret)
			break;
		first = fill->npages;
	}
	if (!ret)
		return 0;
	/* The rest of the run has no place. */
	run = vfio_run_make((entry >> ENTRY_PFN_SHIFT) + 1, npages - 1,
			    run.word & (VFIO_RUN_WRITE | VFIO_RUN_KIND));
	if (vfio_run_npages(run))
		vfio_unpin_runs(&run, 1);
	return ret;
}

static unsigned long batch_count_ram(const struct vfio_pin_batch *batch)
{
	unsigned int i, ram = 0;

	for (i = 0; i < batch->size; i++)
		ram += !PageReserved(batch->pages[i]);
	return ram;
}

/* Of what kinds the pages are that were pinned last: what a region has to know of them. */
static void fill_note_kinds(struct region_fill *fill)
{
	struct vfio_region *region = fill->region;
	struct folio *folio, *last = NULL;
	unsigned int i;

	for (i = 0; i < fill->batch.size; i++) {
		folio = page_folio(fill->batch.pages[i]);
		if (folio == last)
			continue;
		last = folio;
		if (folio_test_hugetlb(folio))
			fill->hugetlb = true;
		/* What has no file, or only swap behind it, is safe for as long as it is pinned. */
		else if (!folio_test_anon(folio) && !folio_test_swapbacked(folio) &&
			 !folio_test_reserved(folio))
			region->writeback |= !region->read_only;
	}
}

/* Pin, charge, and keep the next pages, and tell why if that is not possible. */
static int fill_batch(struct vfio_type1_container *container, struct region_fill *fill)
{
	struct vfio_region *region = fill->region;
	unsigned long page = fill->npages + fill->nr, ram, npages = region->npages - page;
	unsigned long vaddr = region->vaddr + (page << PAGE_SHIFT);
	int ret;

	ret = vfio_pin_fill(&fill->batch, vaddr, npages);
	vfio_count(container, VFIO_COUNT_PIN_CALLS, 1);
	if (ret < 0) {
		if (ret != -EINTR)
			vfio_refuse(container, VFIO_REFUSE_PIN,
				    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx: cannot pin page %lu, memory at vaddr 0x%lx, for %s: %s: error %d",
				    region->vaddr, region->npages << PAGE_SHIFT, page, vaddr,
				    region->read_only ? "reading" : "writing",
				    vfio_pin_why_not(region->owner.mm, vaddr, fill->batch.prot,
						     ret), ret);
		return ret;
	}
	if (fill->batch.pfnmap) {
		vfio_refuse(container, VFIO_REFUSE_PIN,
			    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx: memory at vaddr 0x%lx is a device's, which cannot be pinned; leave it out, and map it the ordinary way",
			    region->vaddr, region->npages << PAGE_SHIFT, vaddr);
		return -EFAULT;
	}
	vfio_count(container, VFIO_COUNT_PINNED_PAGES, ret);
	fill_note_kinds(fill);
	ram = batch_count_ram(&fill->batch);
	ret = vfio_account_charge(&region->owner, ram);
	if (ret == -ENOMEM)
		vfio_refuse_memlock(container, &region->owner, "REGISTER_MEMORY vaddr",
				    region->vaddr, npages);
	if (ret)
		return ret;
	region->locked_vm += ram;

	while (fill->batch.pos < fill->batch.size) {
		struct vfio_run run;
		struct vfio_run_queue queue = { .runs = &run, .capacity = 1 };

		vfio_pin_cut(&fill->batch, &queue, VFIO_RUN_PAGES_MAX);
		ret = fill_run(fill, run);
		if (ret)
			return ret;
	}
	cond_resched();
	return 0;
}

/* Unpin runs of a region, which no device can reach any more. */
static void region_unpin_runs(const struct vfio_region *region, const struct vfio_run *runs,
			      unsigned int nr)
{
	if (unlikely(READ_ONCE(region->flush)) && READ_ONCE(vfio_type1_params.flush_noncoherent))
		vfio_pin_flush(runs, nr);
	vfio_unpin_runs(runs, nr);
}

/* Unpin pages up to @end, unless all have to stay.  Return: how many of them are charged. */
static unsigned long region_unpin(struct vfio_region *region, unsigned long page,
				  unsigned long end)
{
	u64 flags = vfio_run_flags(region_prot(region));
	struct vfio_run runs[UNPIN_BATCH];
	unsigned long ram = 0;
	unsigned int nr = 0;

	for (; page < end && !READ_ONCE(region->kept); page += vfio_run_npages(runs[nr++])) {
		if (nr == UNPIN_BATCH) {
			region_unpin_runs(region, runs, nr);
			nr = 0;
			cond_resched();
		}
		runs[nr] = vfio_region_run(region, page, end - page);
		runs[nr].word |= flags;
		if (vfio_run_charged(runs[nr]))
			ram += vfio_run_npages(runs[nr]);
	}
	region_unpin_runs(region, runs, nr);
	return ram;
}

/* Undo a registration that failed half-way. */
static void fill_undo(struct region_fill *fill)
{
	u64 flags = vfio_run_flags(region_prot(fill->region));
	unsigned int i;

	vfio_pin_drop(&fill->batch);
	for (i = 0; i < fill->nr; i++) {
		u64 entry = fill->entries[i];
		struct vfio_run run = vfio_run_make(entry >> ENTRY_PFN_SHIFT, 1,
						    flags | entry_kind(entry));

		vfio_unpin_runs(&run, 1);
	}
	region_unpin(fill->region, 0, fill->npages);
}

/* Pin all pages of a new region, or none. */
static int region_fill(struct vfio_type1_container *container, struct vfio_region *region)
{
	struct region_fill *fill = kvmalloc(sizeof(*fill), GFP_KERNEL_ACCOUNT);
	int ret = 0;

	if (!fill)
		return -ENOMEM;
	fill->region = region;
	fill->batch.mm = region->owner.mm;
	fill->batch.prot = region_prot(region);
	fill->batch.pages = fill->pages;
	fill->batch.capacity = VFIO_PIN_BATCH_MAX;
	fill->batch.size = 0;
	fill->batch.pos = 0;
	fill->npages = 0;
	fill->hugetlb = false;
	fill->nr = 0;
	while (!ret && fill->npages < region->npages)
		ret = fill_batch(container, fill);
	if (ret)
		fill_undo(fill);
	/* Only now: a page may be parted from the process as soon as it is pinned. */
	WRITE_ONCE(region->watch.hugetlb, fill->hugetlb);
	kvfree(fill);
	return ret;
}

/* Free a region without pins. */
static void region_free(struct vfio_region *region)
{
	unsigned long slot;

	for (slot = 0; slot <= slot_of(region, region->npages - 1); slot++) {
		if (region->slots[slot] & SLOT_TABLE)
			kfree(slot_table(region->slots[slot]));
		cond_resched();
	}
	vfio_account_refund(&region->owner, region->locked_vm);
	vfio_owner_put(&region->owner);
	kvfree(region);
}

static bool region_changed(struct vfio_watch *watch, unsigned long *vaddr, unsigned long last)
{
	return vfio_region_mark(container_of(watch, struct vfio_region, watch), vaddr, last);
}

/**
 * vfio_region_create() - pin and charge memory of the calling process
 * @container: where messages are counted
 * @request: the memory
 * @gone: queued when the process is gone, as long as the region is watched
 *
 * Context: process context, for as long as the region is in no tree: so the process, whose
 * end would queue @gone, does not end before.  May sleep; takes mmap_lock.
 * Return: the region, watched, with one reference; or an ERR_PTR: as vfio_pin_fill()
 * and vfio_account_charge(), -ENOMEM also if the limit does not allow for all of the
 * range, whatever part of it is charged, -EFAULT also for device memory, -ERESTARTNOINTR
 * if a signal has to be handled first, -EOPNOTSUPP without MMU notifiers.
 */
struct vfio_region *vfio_region_create(struct vfio_type1_container *container,
				       const struct vfio_region_request *request,
				       struct work_struct *gone)
{
	unsigned long vaddr = request->vaddr, npages = request->npages;
	unsigned long lead = (vaddr >> PAGE_SHIFT) % VFIO_SLOT_PAGES;
	unsigned long total = READ_ONCE(current->mm->total_vm);
	struct vfio_region *region;
	struct vfio_owner owner;
	int ret;

	/* Before memory is allocated for a region that cannot be. */
	if (npages > total) {
		vfio_refuse(container, VFIO_REFUSE_PIN,
			    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx: the process has 0x%lx bytes of memory",
			    vaddr, npages << PAGE_SHIFT, total << PAGE_SHIFT);
		return ERR_PTR(-EFAULT);
	}
	ret = vfio_owner_init(&owner);
	if (ret)
		return ERR_PTR(ret);
	vfio_owner_init_limit(&owner);
	ret = vfio_account_check(&owner, npages);
	if (ret) {
		vfio_refuse_memlock(container, &owner, "REGISTER_MEMORY vaddr", vaddr, npages);
		goto put_owner;
	}
	ret = -ENOMEM;
	region = kvzalloc(struct_size(region, slots, DIV_ROUND_UP(lead + npages, VFIO_SLOT_PAGES)),
			  GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region)
		goto put_owner;
	refcount_set(&region->users, 1);
	region->vaddr = vaddr;
	region->npages = npages;
	region->read_only = request->read_only;
	region->registered = 1;
	region->owner = owner;
	mutex_init(&region->mapped_lock);
	region->mapped = RB_ROOT_CACHED;
	spin_lock_init(&region->lock);
	INIT_HLIST_HEAD(&region->mappings);
	region->watch.changed = region_changed;
	region->watch.gone = gone;
	region->watch.lock = &region->lock;
	region->watch.hugetlb = true;
	ret = vfio_watch_start(&region->watch, owner.mm, vaddr, npages << PAGE_SHIFT);
	/* The process has to look at its signal, and then begins again. */
	if (ret == -EINTR && !fatal_signal_pending(current))
		ret = -ERESTARTNOINTR;
	if (!ret) {
		/* What began to change before cannot leave a mark. */
		vfio_watch_read(&region->watch);
		ret = region_fill(container, region);
		if (ret)
			vfio_watch_stop(&region->watch);
	}
	if (ret) {
		region_free(region);
		return ERR_PTR(ret);
	}
	return region;

put_owner:
	vfio_owner_put(&owner);
	return ERR_PTR(ret);
}

/**
 * vfio_region_put() - drop a reference to a region
 * @region: the region; with the last one, its pages are unpinned and no longer
 *	charged.  It is in no tree any more then
 *
 * Context: may sleep.
 */
void vfio_region_put(struct vfio_region *region)
{
	if (!refcount_dec_and_test(&region->users))
		return;
	if (region->kept)
		pr_err_ratelimited("registered memory at vaddr 0x%lx size 0x%lx stays pinned\n",
				   region->vaddr, region->npages << PAGE_SHIFT);
	/* An orphan's pins went with its mappings. */
	if (!region->orphaned)
		region_unpin(region, 0, region->npages);
	region_free(region);
}

/**
 * vfio_region_dirty() - devices may have written to pages of a region
 * @region: a region with vfio_region.writeback
 * @page: first page, counted from the start of the region
 * @npages: how many, in a mapping that no device writes to any more
 *
 * What the process has written to disk from now on has what they wrote, as if the
 * pages had been unpinned.
 *
 * Context: may sleep; a reference to the region is held.
 */
void vfio_region_dirty(const struct vfio_region *region, unsigned long page,
		       unsigned long npages)
{
	unsigned long end = page + npages;
	struct vfio_run run;

	for (; page < end; page += vfio_run_npages(run)) {
		run = vfio_region_run(region, page, end - page);
		vfio_pin_dirty(run);
	}
}

/* ---- mappings ---- */

static unsigned long use_first(const struct vfio_dma *dma)
{
	return dma->region_page;
}

static unsigned long use_last(const struct vfio_dma *dma)
{
	return dma->region_page + vfio_dma_npages(dma) - 1;
}

/* Mappings by their pages of a region: mapped_insert(), mapped_remove(), mapped_iter_first(). */
INTERVAL_TREE_DEFINE(struct vfio_dma, use.rb, unsigned long, use.subtree_last, use_first, use_last,
		     static inline, mapped)

/**
 * vfio_region_join() - let a mapping use a region
 * @region: a region in its registry's tree
 * @dma: mapping without pages, owned by the caller; gets a reference to @region
 * @container: whose mapping it is
 * @page: first page of the mapping, counted from the start of the region
 *
 * Context: registry->lock held.
 */
void vfio_region_join(struct vfio_region *region, struct vfio_dma *dma,
		      const struct vfio_type1_container *container, unsigned long page)
{
	refcount_inc(&region->users);
	dma->region = region;
	dma->region_page = page;
	dma->use.container = container;
	spin_lock(&region->lock);
	hlist_add_head(&dma->use.next, &region->mappings);
	WRITE_ONCE(region->nr_mappings, region->nr_mappings + 1);
	spin_unlock(&region->lock);
}

/*
 * Unpin what no mapping covers of the pages up to @end of an orphaned region.  Return: pages to
 * refund.
 */
static unsigned long orphan_unpin(struct vfio_region *region, unsigned long page,
				  unsigned long end)
{
	unsigned long ram = 0, next;
	const struct vfio_dma *dma;

	lockdep_assert_held(&region->mapped_lock);
	while (page < end) {
		/* That which begins first of those that cover anything from here on. */
		dma = mapped_iter_first(&region->mapped, page, end - 1);
		next = dma ? use_first(dma) : end;
		if (next > page)
			ram += region_unpin(region, page, next);
		page = dma ? use_last(dma) + 1 : end;
		cond_resched();
	}
	region->locked_vm -= ram;
	return ram;
}

/* A mapping of an orphaned region lets go of it. */
static void orphan_leave(struct vfio_region *region, struct vfio_dma *dma)
{
	unsigned long ram;

	mutex_lock(&region->mapped_lock);
	mapped_remove(dma, &region->mapped);
	ram = orphan_unpin(region, use_first(dma), use_last(dma) + 1);
	mutex_unlock(&region->mapped_lock);
	vfio_account_refund(&region->owner, ram);
}

/**
 * vfio_region_leave() - let a mapping no longer use its region
 * @dma: mapping without pages, owned by the caller; its reference is gone afterwards
 *
 * What nobody else needs is unpinned.
 *
 * Context: may sleep.
 */
void vfio_region_leave(struct vfio_dma *dma)
{
	struct vfio_region *region = dma->region;
	bool orphaned;

	spin_lock(&region->lock);
	orphaned = region->orphaned;
	if (!orphaned)
		__hlist_del(&dma->use.next);
	WRITE_ONCE(region->nr_mappings, region->nr_mappings - 1);
	spin_unlock(&region->lock);
	if (unlikely(orphaned))
		orphan_leave(region, dma);
	vfio_region_put(region);
}

/**
 * vfio_region_orphan() - unpin what is not mapped of a region that nobody can map any more
 * @region: a region that was taken out of its registry; the caller has a reference
 *
 * Its mappings can only let go, each of them after it was moved from the list to the tree.
 * Nothing is allocated.
 *
 * Context: may sleep.
 */
void vfio_region_orphan(struct vfio_region *region)
{
	struct hlist_node *next;
	HLIST_HEAD(mappings);
	struct vfio_dma *dma;
	unsigned long ram;

	mutex_lock(&region->mapped_lock);
	spin_lock(&region->lock);
	region->orphaned = true;
	hlist_move_list(&region->mappings, &mappings);
	spin_unlock(&region->lock);
	hlist_for_each_entry_safe(dma, next, &mappings, use.next) {
		mapped_insert(dma, &region->mapped);
		cond_resched();
	}
	ram = orphan_unpin(region, 0, region->npages);
	mutex_unlock(&region->mapped_lock);
	vfio_account_refund(&region->owner, ram);
}

/**
 * vfio_region_busy() - do mappings use a region?
 * @region: a region in its registry's tree
 * @busy: set to how many, and where one of them is, if there are any
 *
 * Context: the answer stays false with registry->lock held for write.
 * Return: whether there are any.
 */
bool vfio_region_busy(struct vfio_region *region, struct vfio_region_busy *busy)
{
	const struct vfio_dma *dma;

	spin_lock(&region->lock);
	dma = hlist_entry_safe(region->mappings.first, struct vfio_dma, use.next);
	if (dma)
		*busy = (struct vfio_region_busy) {
			.nr_mappings = region->nr_mappings,
			.iova = { dma->iova, dma->last },
			.container = dma->use.container,
		};
	spin_unlock(&region->lock);
	return !!dma;
}
