// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fill mappings: pin their memory, charge it, and map it into every domain.
 *
 * Pages are pinned and charged batch by batch and cut into runs.  Runs are queued,
 * and mapped many at a time: that takes one sync of the IOMMU instead of one per
 * run.  The last run in the queue is open: it goes on across batches, until a page
 * does not continue it, or it has to end.  At any time a mapping is, from its first
 * page on:
 *
 *	[0, dma->mapped)		pinned, in every domain, in the run list
 *	the queue			pinned, in no domain
 *	the rest of the batch		pinned, in no domain
 *	up to vfio_dma_npages()		not pinned
 *
 * so that a failure at any point knows what to undo.
 */

#include <linux/scatterlist.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat/compiler.h"
#include "compat/iommu.h"
#include "trace/vfio_trace.h"
#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_dma_tree.h"
#include "vfio_domain.h"
#include "vfio_empty.h"
#include "vfio_fill.h"
#include "vfio_group.h"
#include "vfio_pin.h"
#include "vfio_pinned.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_spares.h"
#include "vfio_tables.h"
#include "vfio_type1.h"

/* Runs mapped at a time. */
#define MAP_QUEUE_MAX		512
/* A mapping of up to this many pages needs no allocated memory. */
#define MAP_BATCH_ONSTACK	32
#define MAP_QUEUE_ONSTACK	4

/* Memory that a larger MAP borrows from the container. */
struct vfio_map_scratch {
	struct page *pages[VFIO_PIN_BATCH_MAX];
	struct vfio_run runs[MAP_QUEUE_MAX];
	struct scatterlist sg[MAP_QUEUE_MAX];
};

/**
 * struct map_work - a mapping being filled
 * @container: the container
 * @dma: the mapping
 * @keep_lock: container->lock is an attach's, which holds it for write
 * @batch: pages pinned last
 * @charged: pages charged for them
 * @ram: pages of @charged that turned out to be due
 * @queue: the queue, all of one kind; what is not RAM is alone in it
 * @sg: room for the queue as iommu_map_sg() wants it
 * @npages: pages in the queue; VFIO_RUN_PAGES_MAX at most, as the queue is mapped where
 *	a run has to end
 * @scratch: borrowed memory, or NULL
 * @onstack_pages: memory for @batch that is always there
 * @onstack_runs: memory for @queue that is always there
 * @onstack_sg: memory for @sg that is always there
 */
struct map_work {
	struct vfio_type1_container *container;
	struct vfio_dma *dma;
	bool keep_lock;
	struct vfio_pin_batch batch;
	unsigned long charged;
	unsigned long ram;
	struct vfio_run_queue queue;
	struct scatterlist *sg;
	unsigned long npages;
	struct vfio_map_scratch *scratch;
	struct page *onstack_pages[MAP_BATCH_ONSTACK];
	struct vfio_run onstack_runs[MAP_QUEUE_ONSTACK];
	struct scatterlist onstack_sg[MAP_QUEUE_ONSTACK];
};

static struct vfio_map_scratch *map_scratch_get(struct vfio_type1_container *container)
{
	struct vfio_map_scratch *scratch = vfio_spares_take(&container->map_scratch);

	if (!scratch) {
		scratch = kvmalloc(sizeof(*scratch), VFIO_GFP_OPTIONAL);
		if (scratch)
			sg_init_table(scratch->sg, MAP_QUEUE_MAX);
	}
	return scratch;
}

/* Begin, without allocating anything if that can be helped. */
static void map_begin(struct map_work *work, struct vfio_type1_container *container,
		      struct vfio_dma *dma)
{
	work->container = container;
	work->dma = dma;
	work->charged = 0;
	work->ram = 0;
	work->queue.nr = 0;
	work->npages = 0;
	work->batch.mm = dma->owner.mm;
	work->batch.prot = dma->prot;
	work->batch.size = 0;
	work->batch.pos = 0;
	work->scratch = NULL;
	if (vfio_dma_npages(dma) > MAP_BATCH_ONSTACK)
		work->scratch = map_scratch_get(container);

	if (work->scratch) {
		work->batch.pages = work->scratch->pages;
		work->batch.capacity = VFIO_PIN_BATCH_MAX;
		work->sg = work->scratch->sg;
		work->queue.runs = work->scratch->runs;
		work->queue.capacity = MAP_QUEUE_MAX;
	} else {
		work->batch.pages = work->onstack_pages;
		work->batch.capacity = MAP_BATCH_ONSTACK;
		work->sg = work->onstack_sg;
		work->queue.runs = work->onstack_runs;
		work->queue.capacity = MAP_QUEUE_ONSTACK;
	}
}

/* Keep borrowed memory for the next MAP. */
static void map_end(struct map_work *work)
{
	if (work->scratch)
		vfio_spares_keep(&work->container->map_scratch, work->scratch);
}

/* RAM pages of a mapping that in-kernel users have pinned, and so are charged already. */
static unsigned long map_count_external(const struct vfio_dma *dma, unsigned long page,
					unsigned long npages)
{
	if (likely(RB_EMPTY_ROOT(&dma->external)))
		return 0;
	return vfio_pinned_count(dma, dma->iova + ((u64)page << PAGE_SHIFT), npages);
}

/* Pages of a batch, which starts at page @page of the mapping, that have to be charged. */
static unsigned long map_count_ram(const struct vfio_dma *dma, unsigned long page,
				   const struct vfio_pin_batch *batch)
{
	unsigned long i, ram = 0;

	for (i = 0; i < batch->size; i++)
		ram += !PageReserved(batch->pages[i]) && !map_count_external(dma, page + i, 1);
	return ram;
}

/*
 * Charge a batch before any of it is mapped: as if all of it was RAM, which is
 * quick, and page by page only if that is too much.
 */
static int map_charge(struct map_work *work, unsigned long page)
{
	const struct vfio_pin_batch *batch = &work->batch;
	unsigned long npages = batch->pfnmap ? 0 : batch->size;
	struct vfio_dma *dma = work->dma;
	int ret = vfio_account_charge(&dma->owner, npages);

	if (ret == -ENOMEM) {
		npages = map_count_ram(dma, page, batch);
		if (npages < batch->size)
			ret = vfio_account_charge(&dma->owner, npages);
	}
	if (ret == -ENOMEM)
		vfio_refuse_memlock(work->container, &dma->owner, "MAP_DMA iova", dma->iova,
				    npages + vfio_dma_npages(dma) - page - batch->size);
	if (ret)
		return ret;
	vfio_dma_note_charge(work->container, dma, npages);
	work->charged = npages;
	work->ram = 0;
	return 0;
}

/* All of a batch was looked at: give back what was charged only for speed. */
static void map_charge_settle(struct map_work *work)
{
	if (likely(work->charged == work->ram))
		return;
	vfio_account_refund(&work->dma->owner, work->charged - work->ram);
	vfio_dma_note_charge(work->container, work->dma, work->ram - work->charged);
	work->charged = work->ram;
}

/*
 * Tell which page, the first one of a batch, could not be pinned. That may ask a file
 * system, so container->lock is held only if it was for pinning.
 */
static __cold
void map_refuse_pin(struct vfio_type1_container *container, const struct vfio_dma *dma,
		    unsigned long vaddr, int error)
{
	unsigned long page = (vaddr - dma->vaddr) >> PAGE_SHIFT;

	vfio_refuse(container, VFIO_REFUSE_PIN,
		    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: cannot pin page %lu, memory at vaddr 0x%lx, for %s: %s: error %d",
		    (u64)dma->iova, dma->vaddr, (u64)(dma->last - dma->iova) + 1, page, vaddr,
		    dma->prot & IOMMU_WRITE ? "writing" : "reading",
		    vfio_pin_why_not(dma->owner.mm, vaddr, dma->prot, error), error);
}

/* Describe a queue of several runs to iommu_map_sg(); they are RAM. */
static void map_queue_to_sg(struct map_work *work)
{
	struct scatterlist *sg = work->sg;
	const struct vfio_run *run;

	if (!work->scratch)
		sg_init_table(sg, work->queue.nr);
	for (run = work->queue.runs; run < work->queue.runs + work->queue.nr; run++)
		sg_set_page(sg++, pfn_to_page(vfio_run_pfn(*run)),
			    vfio_run_npages(*run) << PAGE_SHIFT, 0);
}

/**
 * struct map_piece - some of the queue, for iommu_map_sg()
 * @iova: where it goes
 * @size: bytes
 * @sg: the runs
 * @nr: how many
 */
struct map_piece {
	u64 iova;
	size_t size;
	struct scatterlist *sg;
	unsigned int nr;
};

static int map_sg(struct iommu_domain *domain, const struct map_piece *piece, int prot)
{
	ssize_t mapped = iommu_map_sg(domain, piece->iova, piece->sg, piece->nr, prot,
				      GFP_KERNEL_ACCOUNT);

	if (mapped < 0)
		return mapped;
	return mapped == piece->size ? 0 : -EIO;
}

/*
 * Map the queue in two parts, of which the first one has @head bytes: see
 * vfio_domain_undo_head().  The run that lies in both is cut for as long as that takes.
 */
static int map_queue_cut(struct map_work *work, struct iommu_domain *domain, u64 iova, size_t head,
			 int prot)
{
	struct map_piece piece = { .iova = iova, .size = head, .sg = work->sg };
	size_t length, left = head;
	unsigned long pfn;
	unsigned int i;
	int ret;

	for (i = 0; left >= work->sg[i].length; i++)
		left -= work->sg[i].length;
	pfn = vfio_run_pfn(work->queue.runs[i]);
	length = work->sg[i].length;
	work->sg[i].length = left;
	piece.nr = left ? i + 1 : i;
	ret = map_sg(domain, &piece, prot);
	if (!ret) {
		vfio_count(work->container, VFIO_COUNT_IOMMU_MAPS, 1);
		sg_set_page(&work->sg[i], pfn_to_page(pfn + PHYS_PFN(left)), length - left, 0);
		piece.iova += head;
		piece.size = ((size_t)work->npages << PAGE_SHIFT) - head;
		piece.sg = &work->sg[i];
		piece.nr = work->queue.nr - i;
		ret = map_sg(domain, &piece, prot);
	}
	sg_set_page(&work->sg[i], pfn_to_page(pfn), length, 0);
	return ret;
}

/*
 * Note the page tables that the queue needs in a domain.  Runs are looked at as
 * iommu_map_sg() joins them, which are of different kinds, and the small ones together.
 * @cut is set if some run has to be mapped by vfio_domain_map().
 */
static int map_note_tables(const struct map_work *work, struct vfio_domain *domain, u64 iova,
			   bool *cut)
{
	const struct vfio_run *run = work->queue.runs, *end = run + work->queue.nr;
	size_t size, small = 0;
	unsigned long pfn;
	int ret = 0;

	while (run < end && !ret) {
		pfn = vfio_run_pfn(*run);
		size = 0;
		do {
			size += vfio_run_npages(*run++) << PAGE_SHIFT;
		} while (run < end && vfio_run_pfn(*run) == pfn + PHYS_PFN(size));
		if (size < VFIO_TABLE_BYTES) {
			small += size;
		} else {
			ret = vfio_tables_note_small(domain, iova - small, small) ?:
			      vfio_tables_note(domain, iova, PFN_PHYS(pfn), size);
			*cut |= vfio_tables_cut(domain, iova, PFN_PHYS(pfn), size) < size;
			small = 0;
		}
		iova += size;
	}
	return ret ?: vfio_tables_note_small(domain, iova - small, small);
}

/* Map the queue run by run: a single one, or where a superpage would come where a table is. */
static int map_queue_singly(struct map_work *work, struct vfio_domain *domain, u64 iova, int prot)
{
	struct vfio_domain_piece piece = { .iova = iova, .prot = prot };
	const struct vfio_run *run = work->queue.runs, *end = run + work->queue.nr;
	int ret = 0;

	for (; run < end && !ret; run++, piece.iova += piece.size) {
		piece.phys = PFN_PHYS(vfio_run_pfn(*run));
		piece.size = vfio_run_npages(*run) << PAGE_SHIFT;
		ret = vfio_domain_map(work->container, domain, &piece);
	}
	return ret;
}

/* Map the queue into one domain.  On failure some of it may be there. */
static int map_queue_to(struct map_work *work, struct vfio_domain *domain, u64 iova)
{
	size_t head, size = (size_t)work->npages << PAGE_SHIFT;
	int ret, prot = work->dma->prot | IOMMU_CACHE;
	struct map_piece piece;
	bool cut = false;

	if (work->queue.nr == 1)
		return map_queue_singly(work, domain, iova, prot);
	if (vfio_tables_matter(domain)) {
		ret = map_note_tables(work, domain, iova, &cut);
		if (ret)
			return ret;
		if (cut)
			return map_queue_singly(work, domain, iova, prot);
	}
	vfio_count(work->container, VFIO_COUNT_IOMMU_MAPS, 1);
	head = vfio_domain_undo_head(domain, iova, size);
	if (head)
		return map_queue_cut(work, domain->domain, iova, head, prot);
	piece = (struct map_piece) { iova, size, work->sg, work->queue.nr };
	return map_sg(domain->domain, &piece, prot);
}

/* For each run of the queue, which may be a page: only if somebody wants to know. */
static noinline void map_trace_runs(const struct map_work *work, u64 iova)
{
	const struct vfio_run *run;

	for (run = work->queue.runs; run < work->queue.runs + work->queue.nr; run++) {
		trace_run(work->container, iova, vfio_run_pfn(*run), vfio_run_npages(*run));
		iova += PFN_PHYS(vfio_run_npages(*run));
	}
}

/*
 * Take the queue out of the domains up to @failed, the one that it could not be mapped
 * into; or out of all, if it is NULL.  Return: whether it is in none of them.
 */
static bool map_undo(struct map_work *work, struct vfio_domain *failed, u64 iova)
{
	struct vfio_domain *domain = list_prepare_entry(failed, &work->container->domains, next);
	size_t size = (size_t)work->npages << PAGE_SHIFT;
	bool gone = !failed || vfio_domain_sweep(failed->domain, iova, size);

	list_for_each_entry_continue_reverse(domain, &work->container->domains, next) {
		if (vfio_domain_unmap(work->container, domain, iova, size) < size)
			gone &= vfio_domain_sweep(domain->domain, iova, size);
	}
	return gone;
}

/*
 * A device may reach the queue for ever, so its pages stay pinned, and charged: the
 * mapping, which goes, must not refund them.
 */
static __cold void map_lose_queue(struct map_work *work)
{
	struct vfio_dma *dma = work->dma;
	unsigned long lost;

	if (!dma->region && vfio_run_charged(work->queue.runs[0])) {
		lost = work->npages - map_count_external(dma, dma->mapped, work->npages);
		vfio_dma_note_charge(work->container, dma, -lost);
	}
	vfio_dma_keep(dma);
	work->queue.nr = 0;
}

/*
 * Map the queue into every domain.  On failure it is in none of them again, or,
 * if a domain would not let go of it, its pins are lost with it.
 */
static int map_flush(struct map_work *work)
{
	u64 iova = work->dma->iova + ((u64)work->dma->mapped << PAGE_SHIFT);
	size_t size = (size_t)work->npages << PAGE_SHIFT;
	struct vfio_domain *domain;
	int ret;

	if (!work->queue.nr)
		return 0;
	vfio_container_flush(work->container, work->queue.runs, work->queue.nr);
	/* Registered memory is unpinned some other time. */
	if (unlikely(work->container->noncoherent) && work->dma->region)
		WRITE_ONCE(work->dma->region->flush, true);
	if (work->queue.nr > 1)
		map_queue_to_sg(work);
	list_for_each_entry(domain, &work->container->domains, next) {
		ret = map_queue_to(work, domain, iova);
		if (ret)
			goto undo;
	}
	if (!work->dma->region) {
		ret = vfio_runs_append(&work->dma->runs, work->queue.runs, work->queue.nr);
		if (ret) {
			domain = NULL;
			goto undo_silently;
		}
	}
	if (trace_run_enabled())
		map_trace_runs(work, iova);
	WRITE_ONCE(work->dma->mapped, work->dma->mapped + work->npages);
	work->queue.nr = 0;
	work->npages = 0;
	return 0;

undo:
	vfio_refuse(work->container, VFIO_REFUSE_IOMMU,
		    "MAP_DMA iova 0x%llx: the IOMMU refused 0x%zx bytes in %u runs: error %d",
		    iova, size, work->queue.nr, ret);
undo_silently:
	if (!map_undo(work, domain, iova))
		map_lose_queue(work);
	return ret;
}

/*
 * Pin the next batch, without container->lock.  Return: pages, an errno, or 0 if MAP
 * has to start over.
 */
static int map_pin(struct map_work *work, unsigned long vaddr, unsigned long wanted)
{
	struct vfio_type1_container *container = work->container;
	unsigned long generation = container->generation;
	int ret;

	if (!work->keep_lock)
		up_read(&container->lock);
	ret = vfio_pin_fill(&work->batch, vaddr, wanted);
	if (ret < 0 && ret != -EINTR)
		map_refuse_pin(container, work->dma, vaddr, ret);
	if (!work->keep_lock)
		down_read(&container->lock);
	return ret > 0 && container->generation != generation ? 0 : ret;
}

/* Pin and charge the next batch, which starts at page @page. */
static int map_next_batch(struct map_work *work, unsigned long page)
{
	struct vfio_dma *dma = work->dma;
	unsigned long vaddr = dma->vaddr + (page << PAGE_SHIFT);
	unsigned long wanted = vfio_dma_npages(dma) - page;
	u64 begun, cycles;
	int ret;

	cond_resched();
	map_charge_settle(work);
	begun = vfio_clock();
	ret = map_pin(work, vaddr, wanted);
	cycles = vfio_clock_since(begun);
	vfio_count(work->container, VFIO_COUNT_PIN_CALLS, 1);
	vfio_count(work->container, VFIO_COUNT_PIN_CYCLES, cycles);
	trace_pin_batch(work->container, vaddr, wanted, ret, cycles);
	if (ret < 0)
		return ret;
	if (!ret)
		return VFIO_FILL_RESTART;
	vfio_count(work->container, VFIO_COUNT_PINNED_PAGES, ret);
	return map_charge(work, page);
}

/*
 * Pin, cut into runs, and map.  Where a run has to end the queue is mapped, as
 * iommu_map_sg() would join it with the next one, if that is contiguous.
 */
static int map_pages(struct map_work *work)
{
	unsigned long page, taken, limit, npages = vfio_dma_npages(work->dma);
	struct vfio_dma *dma = work->dma;
	int ret;

	for (page = 0; page < npages; page += taken) {
		if (work->batch.pos == work->batch.size) {
			ret = map_next_batch(work, page);
			if (ret)
				return ret;
		}
		limit = vfio_dma_run_limit(dma, page);
		taken = vfio_pin_cut(&work->batch, &work->queue, limit);
		work->npages += taken;
		if (taken && vfio_run_charged(work->queue.runs[0]))
			work->ram += taken - map_count_external(dma, page, taken);
		if (!taken || taken == limit) {
			ret = map_flush(work);
			if (ret)
				return ret;
		}
	}
	return map_flush(work);
}

/* Pin a mapping's memory and map it. */
static int map_memory(struct map_work *work)
{
	const struct vfio_dma *dma = work->dma;
	struct mm_struct *mm = dma->owner.mm;
	int ret;

	if (mm != current->mm && !mmget_not_zero(mm)) {
		vfio_refuse(work->container, VFIO_REFUSE_PIN,
			    "attach: process %d, which made the mapping 0x%llx-0x%llx, has exited: no memory to pin",
			    task_pid_nr(dma->owner.task), (u64)dma->iova, (u64)dma->last);
		return -ESRCH;
	}
	ret = map_pages(work);
	if (ret) {
		vfio_pin_drop(&work->batch);
		/* It may have been mapped for a moment. */
		vfio_container_flush(work->container, work->queue.runs, work->queue.nr);
		vfio_unpin_runs(work->queue.runs, work->queue.nr);
	} else {
		map_charge_settle(work);
	}
	if (mm != current->mm)
		mmput(mm);
	return ret;
}

/* Map the queue between two looks at the world. */
static int map_region_flush(struct map_work *work)
{
	int ret = map_flush(work);

	cond_resched();
	return ret ?: fatal_signal_pending(current) ? -EINTR : 0;
}

/* Map registered memory: it is pinned and charged. */
static int map_region(struct map_work *work)
{
	unsigned long page, limit, npages = vfio_dma_npages(work->dma);
	const struct vfio_dma *dma = work->dma;
	struct vfio_run run;
	int ret = 0;

	for (page = 0; page < npages && !ret; page += vfio_run_npages(run)) {
		limit = vfio_dma_run_limit(dma, page);
		run = vfio_region_run(dma->region, dma->region_page + page,
				      min(npages - page, limit));
		/* As in map_pages(). */
		if (work->queue.nr == work->queue.capacity) {
			ret = map_region_flush(work);
			if (ret)
				break;
		}
		work->queue.runs[work->queue.nr++] = run;
		work->npages += vfio_run_npages(run);
		if (vfio_run_npages(run) == limit)
			ret = map_region_flush(work);
	}
	return ret ?: map_flush(work);
}

/* Pin and map, or leave the mapping as empty as before. */
static int map_fill(struct map_work *work)
{
	int ret;

	lockdep_assert_held(&work->container->lock);
	ret = work->dma->region ? map_region(work) : map_memory(work);
	if (ret)
		vfio_empty(work->container, work->dma);
	map_end(work);
	return ret;
}

/**
 * vfio_fill() - pin a mapping's memory and map it into every domain
 * @container: a container with at least one domain
 * @dma: mapping without pages, owned by the caller, except for what in-kernel
 *	users have pinned, which cannot change meanwhile
 *
 * Registered memory is pinned already.
 *
 * Context: may sleep, also for as long as who provides the memory likes; container->lock
 * held for read, but dropped while memory is pinned.
 * Return: 0; -EFAULT if there is no memory somewhere, or none that may be
 * accessed so; -ENOMEM if RLIMIT_MEMLOCK is exceeded or memory is short; -EINTR
 * on a fatal signal; -ESRCH if the owner is dead; whatever iommu_map() says;
 * VFIO_FILL_RESTART if groups came or went meanwhile.
 * On failure the mapping is as empty as before.
 */
int vfio_fill(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct map_work work __uninitialized;

	map_begin(&work, container, dma);
	work.keep_lock = false;
	return map_fill(&work);
}

/**
 * vfio_fill_locked() - the same with the lock held throughout
 * @container: as for vfio_fill()
 * @dma: as for vfio_fill()
 *
 * Context: may sleep, also for as long as who provides the memory likes; container->lock
 * held for write: so it is for an attach, which finds mappings that no domain was for.
 * Return: as vfio_fill(), but not VFIO_FILL_RESTART.
 */
int vfio_fill_locked(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct map_work work __uninitialized;

	map_begin(&work, container, dma);
	work.keep_lock = true;
	return map_fill(&work);
}
