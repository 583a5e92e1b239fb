// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP_DMA: take the IOVA, pin the memory, map it into every domain.
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
 *
 * Pinning waits for user memory, for as long as whoever provides it likes, so
 * container->lock is not held meanwhile.  Nothing of the mapping changes without it.  If
 * groups came or went, MAP takes all back that it did, and starts over.
 */

#include <linux/scatterlist.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "trace/vfio_trace.h"
#include "vfio_type1.h"

/* Beside 0 and errnos: what MAP_DMA has to do before it tries again. */
enum map_again {
	MAP_WAIT = 1,	/* until somebody else's mapping is settled */
	MAP_RESTART,	/* nothing: groups came or went */
};

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
 * @runs: the queue, all of one kind; what is not RAM is alone in it
 * @sg: room for the queue as iommu_map_sg() wants it
 * @capacity: runs that fit
 * @nr: runs in the queue
 * @npages: pages in the queue; VFIO_RUN_PAGES_MAX at most, as the queue is mapped where
 *	a run has to end
 * @scratch: borrowed memory, or NULL
 * @onstack_pages: memory for @batch that is always there
 * @onstack_runs: memory for @runs that is always there
 * @onstack_sg: memory for @sg that is always there
 */
struct map_work {
	struct vfio_type1_container *container;
	struct vfio_dma *dma;
	bool keep_lock;
	struct vfio_pin_batch batch;
	unsigned long charged;
	unsigned long ram;
	struct vfio_run *runs;
	struct scatterlist *sg;
	unsigned int capacity;
	unsigned int nr;
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
	work->nr = 0;
	work->npages = 0;
	work->batch.size = 0;
	work->batch.pos = 0;
	work->scratch = NULL;
	if (vfio_dma_npages(dma) > MAP_BATCH_ONSTACK)
		work->scratch = map_scratch_get(container);

	if (work->scratch) {
		work->batch.pages = work->scratch->pages;
		work->batch.capacity = VFIO_PIN_BATCH_MAX;
		work->sg = work->scratch->sg;
		work->runs = work->scratch->runs;
		work->capacity = MAP_QUEUE_MAX;
	} else {
		work->batch.pages = work->onstack_pages;
		work->batch.capacity = MAP_BATCH_ONSTACK;
		work->sg = work->onstack_sg;
		work->runs = work->onstack_runs;
		work->capacity = MAP_QUEUE_ONSTACK;
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
	return vfio_external_count(dma, dma->iova + ((u64)page << PAGE_SHIFT), npages);
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
		vfio_account_refuse(work->container, &dma->owner, "MAP_DMA iova", dma->iova,
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
		    struct mm_struct *mm, unsigned long vaddr, int error)
{
	unsigned long page = (vaddr - dma->vaddr) >> PAGE_SHIFT;

	vfio_refuse(container, VFIO_REFUSE_PIN,
		    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: cannot pin page %lu, memory at vaddr 0x%lx, for %s: %s: error %d",
		    (u64)dma->iova, dma->vaddr, (u64)(dma->last - dma->iova) + 1, page, vaddr,
		    dma->prot & IOMMU_WRITE ? "writing" : "reading",
		    vfio_pin_why_not(mm, vaddr, dma->prot, error), error);
}

/* Describe a queue of several runs to iommu_map_sg(); they are RAM. */
static void map_queue_to_sg(struct map_work *work)
{
	struct scatterlist *sg = work->sg;
	const struct vfio_run *run;

	if (!work->scratch)
		sg_init_table(sg, work->nr);
	for (run = work->runs; run < work->runs + work->nr; run++)
		sg_set_page(sg++, pfn_to_page(vfio_run_pfn(*run)),
			    vfio_run_npages(*run) << PAGE_SHIFT, 0);
}

static int map_sg(struct iommu_domain *domain, u64 iova, struct scatterlist *sg, unsigned int nr,
		  size_t size, int prot)
{
	ssize_t mapped = iommu_map_sg(domain, iova, sg, nr, prot, GFP_KERNEL_ACCOUNT);

	if (mapped < 0)
		return mapped;
	return mapped == size ? 0 : -EIO;
}

/*
 * Map the queue in two parts, of which the first one has @head bytes: see
 * vfio_domain_undo_head().  The run that lies in both is cut for as long as that takes.
 */
static int map_queue_cut(struct map_work *work, struct iommu_domain *domain, u64 iova, size_t head,
			 int prot)
{
	size_t length, left = head, size = (size_t)work->npages << PAGE_SHIFT;
	unsigned long pfn;
	unsigned int i;
	int ret;

	for (i = 0; left >= work->sg[i].length; i++)
		left -= work->sg[i].length;
	pfn = vfio_run_pfn(work->runs[i]);
	length = work->sg[i].length;
	work->sg[i].length = left;
	ret = map_sg(domain, iova, work->sg, left ? i + 1 : i, head, prot);
	if (!ret) {
		vfio_count(work->container, VFIO_COUNT_IOMMU_MAPS, 1);
		sg_set_page(&work->sg[i], pfn_to_page(pfn + PHYS_PFN(left)), length - left, 0);
		ret = map_sg(domain, iova + head, &work->sg[i], work->nr - i, size - head, prot);
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
	const struct vfio_run *run = work->runs, *end = run + work->nr;
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

/* Map the queue run by run: seldom, where a superpage would come where a table is. */
static int map_queue_singly(struct map_work *work, struct vfio_domain *domain, u64 iova, int prot)
{
	const struct vfio_run *run;
	size_t size;
	int ret = 0;

	for (run = work->runs; run < work->runs + work->nr && !ret; run++, iova += size) {
		size = vfio_run_npages(*run) << PAGE_SHIFT;
		ret = vfio_domain_map(work->container, domain, iova, PFN_PHYS(vfio_run_pfn(*run)),
				      size, prot);
	}
	return ret;
}

/* Map the queue into one domain.  On failure some of it may be there. */
static int map_queue_to(struct map_work *work, struct vfio_domain *domain, u64 iova)
{
	size_t head, size = (size_t)work->npages << PAGE_SHIFT;
	int ret, prot = work->dma->prot | IOMMU_CACHE;
	bool cut = false;

	if (work->nr == 1)
		return vfio_domain_map(work->container, domain, iova,
				       PFN_PHYS(vfio_run_pfn(work->runs[0])), size, prot);
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
	return map_sg(domain->domain, iova, work->sg, work->nr, size, prot);
}

/* For each run of the queue, which may be a page: only if somebody wants to know. */
static noinline void map_trace_runs(const struct map_work *work, u64 iova)
{
	const struct vfio_run *run;

	for (run = work->runs; run < work->runs + work->nr; run++) {
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

	if (!dma->region && vfio_run_charged(work->runs[0])) {
		lost = work->npages - map_count_external(dma, dma->mapped, work->npages);
		vfio_dma_note_charge(work->container, dma, -lost);
	}
	vfio_dma_keep(dma);
	work->nr = 0;
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

	if (!work->nr)
		return 0;
	vfio_container_flush(work->container, work->runs, work->nr);
	/* Registered memory is unpinned some other time. */
	if (unlikely(work->container->noncoherent) && work->dma->region)
		WRITE_ONCE(work->dma->region->flush, true);
	if (work->nr > 1)
		map_queue_to_sg(work);
	list_for_each_entry(domain, &work->container->domains, next) {
		ret = map_queue_to(work, domain, iova);
		if (ret)
			goto undo;
	}
	if (!work->dma->region) {
		ret = vfio_runs_append(&work->dma->runs, work->runs, work->nr);
		if (ret) {
			domain = NULL;
			goto undo_silently;
		}
	}
	if (trace_run_enabled())
		map_trace_runs(work, iova);
	work->dma->mapped += work->npages;
	work->nr = 0;
	work->npages = 0;
	return 0;

undo:
	vfio_refuse(work->container, VFIO_REFUSE_IOMMU,
		    "MAP_DMA iova 0x%llx: the IOMMU refused 0x%zx bytes in %u runs: error %d",
		    iova, size, work->nr, ret);
undo_silently:
	if (!map_undo(work, domain, iova))
		map_lose_queue(work);
	return ret;
}

/* Pages from page @page of a mapping on up to where a run has to end. */
static unsigned long map_run_limit(const struct vfio_dma *dma, unsigned long page)
{
	u64 iova = dma->iova + ((u64)page << PAGE_SHIFT);

	if (READ_ONCE(vfio_type1_params.disable_hugepages))
		return 1;
	return (VFIO_RUN_BYTES_MAX - (iova & (VFIO_RUN_BYTES_MAX - 1))) >> PAGE_SHIFT;
}

/*
 * Pin the next batch, without container->lock.  Return: pages, an errno, or 0 if MAP
 * has to start over.
 */
static int map_pin(struct map_work *work, struct mm_struct *mm, unsigned long vaddr,
		   unsigned long wanted)
{
	struct vfio_type1_container *container = work->container;
	unsigned long generation = container->generation;
	int ret;

	if (!work->keep_lock)
		up_read(&container->lock);
	ret = vfio_pin_fill(&work->batch, mm, vaddr, wanted, work->dma->prot);
	if (ret < 0 && ret != -EINTR)
		map_refuse_pin(container, work->dma, mm, vaddr, ret);
	if (!work->keep_lock)
		down_read(&container->lock);
	return ret > 0 && container->generation != generation ? 0 : ret;
}

/* Pin and charge the next batch, which starts at page @page. */
static int map_next_batch(struct map_work *work, struct mm_struct *mm, unsigned long page)
{
	struct vfio_dma *dma = work->dma;
	unsigned long vaddr = dma->vaddr + (page << PAGE_SHIFT);
	unsigned long wanted = vfio_dma_npages(dma) - page;
	u64 begun, cycles;
	int ret;

	cond_resched();
	map_charge_settle(work);
	begun = vfio_clock();
	ret = map_pin(work, mm, vaddr, wanted);
	cycles = vfio_clock_since(begun);
	vfio_count(work->container, VFIO_COUNT_PIN_CALLS, 1);
	vfio_count(work->container, VFIO_COUNT_PIN_CYCLES, cycles);
	trace_pin_batch(work->container, vaddr, wanted, ret, cycles);
	if (ret < 0)
		return ret;
	if (!ret)
		return MAP_RESTART;
	vfio_count(work->container, VFIO_COUNT_PINNED_PAGES, ret);
	return map_charge(work, page);
}

/*
 * Pin, cut into runs, and map.  Where a run has to end the queue is mapped, as
 * iommu_map_sg() would join it with the next one, if that is contiguous.
 */
static int map_pages(struct map_work *work, struct mm_struct *mm)
{
	unsigned long page, taken, limit, npages = vfio_dma_npages(work->dma);
	struct vfio_dma *dma = work->dma;
	int ret;

	for (page = 0; page < npages; page += taken) {
		if (work->batch.pos == work->batch.size) {
			ret = map_next_batch(work, mm, page);
			if (ret)
				return ret;
		}
		limit = map_run_limit(dma, page);
		taken = vfio_pin_cut(&work->batch, work->runs, &work->nr, work->capacity, limit,
				     dma->prot);
		work->npages += taken;
		if (taken && vfio_run_charged(work->runs[0]))
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
	ret = map_pages(work, mm);
	if (ret) {
		vfio_pin_drop(&work->batch, dma->prot);
		/* It may have been mapped for a moment. */
		vfio_container_flush(work->container, work->runs, work->nr);
		vfio_unpin_runs(work->runs, work->nr);
	} else {
		map_charge_settle(work);
	}
	if (mm != current->mm)
		mmput(mm);
	return ret;
}

/**
 * vfio_map_region_run() - the run that a mapping of registered memory has somewhere
 * @dma: the mapping
 * @page: where the run starts
 *
 * Context: the caller owns @dma.
 * Return: the run, which ends where it has to.
 */
struct vfio_run vfio_map_region_run(const struct vfio_dma *dma, unsigned long page)
{
	return vfio_region_run(dma->region, dma->region_page + page,
			       min(vfio_dma_npages(dma) - page, map_run_limit(dma, page)));
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
		limit = map_run_limit(dma, page);
		run = vfio_region_run(dma->region, dma->region_page + page,
				      min(npages - page, limit));
		/* As in map_pages(). */
		if (work->nr == work->capacity) {
			ret = map_region_flush(work);
			if (ret)
				break;
		}
		work->runs[work->nr++] = run;
		work->npages += vfio_run_npages(run);
		if (vfio_run_npages(run) == limit)
			ret = map_region_flush(work);
	}
	return ret ?: map_flush(work);
}

/* Pin and map, or leave the mapping as empty as before. */
static int map_fill(struct vfio_type1_container *container, struct vfio_dma *dma, bool keep_lock)
{
	struct map_work work __uninitialized;
	int ret;

	lockdep_assert_held(&container->lock);
	map_begin(&work, container, dma);
	work.keep_lock = keep_lock;
	ret = dma->region ? map_region(&work) : map_memory(&work);
	if (ret)
		vfio_unmap_empty(container, dma);
	map_end(&work);
	return ret;
}

/**
 * vfio_map_fill() - pin a mapping's memory and map it into every domain
 * @container: a container with at least one domain
 * @dma: mapping without pages, owned by the caller, except for what in-kernel
 *	users have pinned, which cannot change meanwhile
 *
 * Registered memory is pinned already.
 *
 * Context: may sleep, also for as long as who provides the memory likes; container->lock
 * held for write: so it is for an attach, which finds mappings that no domain was for.
 * Return: 0; -EFAULT if there is no memory somewhere, or none that may be
 * accessed so; -ENOMEM if RLIMIT_MEMLOCK is exceeded or memory is short; -EINTR
 * on a fatal signal; -ESRCH if the owner is dead; whatever iommu_map() says.
 * On failure the mapping is as empty as before.
 */
int vfio_map_fill(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	return map_fill(container, dma, true);
}

/* Check what does not depend on the container. */
static int map_check(struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size,
		     int prot, bool set_vaddr)
{
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
	if (!prot == !set_vaddr) {
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
		vfio_container_describe_cut(container, iova, dma->last, &cut);
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
		ret = map_fill(container, dma, false);
	/* Last: what cannot be pinned should not cost a large bitmap. */
	if (!ret && container->dirty_tracking) {
		ret = vfio_dirty_init(container, dma);
		if (ret)
			vfio_unmap_empty(container, dma);
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
static struct vfio_dma *map_create(u64 iova, u64 vaddr, u64 size, int prot)
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
	dma->iova = iova;
	dma->last = iova + size - 1;
	dma->vaddr = vaddr;
	dma->prot = prot;
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
 * @iova: first byte, as the device will see it
 * @vaddr: first byte of the caller's memory
 * @size: bytes
 * @prot: IOMMU_READ, IOMMU_WRITE or both; 0 for @set_vaddr
 * @set_vaddr: give a mapping that is there a new address, see
 *	vfio_vaddr_update() for what else may be returned then
 *
 * Context: process context; takes container->lock.
 * Return: 0; -EINVAL if a value is unaligned or @size zero, @prot does not go with
 * @set_vaddr, or the IOVA is not valid; -EOVERFLOW if a range wraps around; -EEXIST if a mapping
 * overlaps; -EBUSY if what was mapped there has been unmapped, but not unpinned by an
 * in-kernel user; -ENOSPC if there are too many mappings; -ENODEV for a kernel thread;
 * -EINTR on a fatal signal; else as vfio_map_fill().  On failure nothing has
 * changed.
 */
int vfio_map_dma(struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size,
		 int prot, bool set_vaddr)
{
	unsigned long changes;
	struct vfio_dma *dma;
	u64 begun, cycles;
	int ret;

	ret = map_check(container, iova, vaddr, size, prot, set_vaddr);
	if (ret)
		return ret;
	if (set_vaddr)
		return vfio_vaddr_update(container, iova, vaddr, size);
	dma = map_create(iova, vaddr, size, prot);
	if (IS_ERR(dma))
		return PTR_ERR(dma);
	begun = dma->begun;
	trace_map_begin(container, iova, vaddr, size, prot);

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
		vfio_count(container, VFIO_COUNT_MAPPED_PAGES, size >> PAGE_SHIFT);
	}
	cycles = vfio_clock_since(begun);
	vfio_count(container, VFIO_COUNT_MAP_CYCLES, cycles);
	trace_map_end(container, iova, ret, ret ? 0 : size >> PAGE_SHIFT, cycles);
	return ret;
}
