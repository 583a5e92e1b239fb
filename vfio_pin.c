// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory to runs of page frames, and back.
 *
 * Memory is pinned in batches of many pages per GUP call, and a batch is cut
 * into runs: physically contiguous and of one kind.  There are three kinds:
 *
 *  - RAM is pinned, and counts as locked memory.
 *  - Pages that GUP found, and that are PageReserved (of a DAX device, of the kernel itself,
 *    whatever else a driver puts into an area), are pinned, but not counted.
 *  - Frames of VM_PFNMAP areas, which may have no struct page, and the zero page are
 *    neither.
 *
 * What is pinned is unpinned with its run: whoever takes his memory away, such as the
 * driver of a DAX device, waits for the last pin.  The second kind looks like the third,
 * so that a run has to say what it is.
 */

#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "compat/compiler.h"
#include "compat/mm.h"
#include "vfio_cache.h"
#include "vfio_pin.h"
#include "vfio_runs.h"

/* Pages unpinned between two scheduling points. */
#define UNPIN_STEP	8192UL
/* Pages flushed between two scheduling points: it takes longer. */
#define FLUSH_STEP	512UL
/* Single pages unpinned in one call. */
#define UNPIN_SINGLE	32
/* How long to wait for others who move the same page, in milliseconds: the last time. */
#define PIN_AGAIN_MAX	16

/**
 * vfio_pfn_is_reserved() - is a frame of a kind that is not charged?
 * @pfn: page frame number
 *
 * Return: true if it has no struct page, or PageReserved.
 */
bool vfio_pfn_is_reserved(unsigned long pfn)
{
	return !pfn_valid(pfn) || PageReserved(pfn_to_page(pfn));
}

/*
 * Look up one frame of a VM_PFNMAP area for @flags, FOLL_WRITE and FOLL_NOFAULT: else it is
 * faulted in if it is not there.
 * Return: 0; -EAGAIN if the mmap_lock was dropped on the way and the area has to
 * be looked up again; another errno.
 */
static int pfnmap_lookup(struct vm_area_struct *vma, unsigned long vaddr, unsigned int flags,
			 unsigned long *pfn)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = vaddr };
	bool write = flags & FOLL_WRITE;
	int ret = follow_pfnmap_start(&args);

	if (ret && !(flags & FOLL_NOFAULT)) {
		bool unlocked = false;

		ret = fixup_user_fault(vma->vm_mm, vaddr,
				       FAULT_FLAG_REMOTE | (write ? FAULT_FLAG_WRITE : 0),
				       &unlocked);
		if (unlocked)
			return -EAGAIN;
		if (!ret)
			ret = follow_pfnmap_start(&args);
	}
	if (ret)
		return ret;

	*pfn = args.pfn;
	if (write && !args.writable)
		ret = -EFAULT;
	follow_pfnmap_end(&args);
	return ret ?: vfio_pfn_is_reserved(*pfn) ? 0 : -EFAULT;
}

/* Fill @batch with consecutive frames from one VM_PFNMAP area; @flags as above. */
static int pfnmap_fill(struct vfio_pin_batch *batch, unsigned long vaddr, unsigned long npages,
		       unsigned int flags, int gup_error)
{
	struct mm_struct *mm = batch->mm;
	struct vm_area_struct *vma;
	unsigned long pfn;
	unsigned int n;
	int ret;

	mmap_read_lock(mm);
	vaddr = untagged_addr_remote(mm, vaddr);
	do {
		vma = vma_lookup(mm, vaddr);
		if (!vma || !(vma->vm_flags & VM_PFNMAP))
			ret = gup_error;
		else
			ret = pfnmap_lookup(vma, vaddr, flags, &batch->pfn);
	} while (ret == -EAGAIN && !fatal_signal_pending(current));
	if (ret == -EAGAIN)
		ret = -EINTR;
	if (ret)
		goto unlock;

	/*
	 * Go on while frames are at hand; whatever needs a fault, or is wrong,
	 * is left to the next call, which starts with it.
	 */
	npages = min3(npages, (unsigned long)VFIO_PIN_BATCH_MAX,
		      (vma->vm_end - vaddr) >> PAGE_SHIFT);
	for (n = 1; n < npages; n++) {
		if (pfnmap_lookup(vma, vaddr + n * PAGE_SIZE, flags | FOLL_NOFAULT, &pfn) ||
		    pfn != batch->pfn + n)
			break;
	}
	batch->pfnmap = true;
	batch->size = n;
	ret = n;
unlock:
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Look at the area that memory to be read is of, on a kernel that does not unshare private
 * memory of its own accord: so that the device sees what the process writes later, it is
 * pinned as if the device wrote, too.  Not if nobody may read it, and not hugetlb memory that
 * may not be written, where GUP will not.
 *
 * @want is cut where the area ends.  Return: flags for GUP, or -EFAULT for a device's area.
 */
static int pin_unshare(struct mm_struct *mm, unsigned long vaddr, int *want)
{
	struct vm_area_struct *vma;
	bool private;
	int ret = 0;

	mmap_read_lock(mm);
	vaddr = untagged_addr_remote(mm, vaddr);
	vma = vma_lookup(mm, vaddr);
	if (vma) {
		private = (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE;
		*want = min_t(unsigned long, *want, (vma->vm_end - vaddr) >> PAGE_SHIFT);
		if (vma->vm_flags & (VM_IO | VM_PFNMAP))
			ret = -EFAULT;
		else if (!private || !(vma->vm_flags & VM_READ))
			ret = 0;
		else if (vma->vm_flags & VM_WRITE)
			ret = FOLL_WRITE;
		else if (!is_vm_hugetlb_page(vma))
			ret = FOLL_WRITE | FOLL_FORCE;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* Pages that are quicker looked at than their area. */
#define FEW_PAGES	16

/* Are all pages of a batch anonymous?  That is a process's own memory, in any area. */
static bool pin_few_anon(const struct vfio_pin_batch *batch, long got)
{
	if (got > FEW_PAGES)
		return false;
	while (got--) {
		if (!PageAnon(batch->pages[got]))
			return false;
	}
	return true;
}

/*
 * GUP pins nothing of a device's area, unless it finds the page in the page table, without a
 * look at the area.  So look at the areas of @got pages afterwards, and give back what comes
 * from the first one of a device on.  Return: pages left; -EFAULT if that is none.
 *
 * Who exchanges the area meanwhile gets pages that were in his page table, and are pinned.
 */
static long pin_check_areas(struct vfio_pin_batch *batch, unsigned long vaddr, long got)
{
	struct mm_struct *mm = batch->mm;
	const struct vm_area_struct *vma;
	unsigned long at, end;
	long left = got;

	if (pin_few_anon(batch, got))
		return got;
	mmap_read_lock(mm);
	at = untagged_addr_remote(mm, vaddr);
	for (end = at + (got << PAGE_SHIFT); at < end; at = vma->vm_end) {
		vma = vma_lookup(mm, at);
		if (!vma)
			break;
		if (vma->vm_flags & (VM_IO | VM_PFNMAP)) {
			left = got - ((end - at) >> PAGE_SHIFT);
			break;
		}
	}
	mmap_read_unlock(mm);
	if (unlikely(left < got))
		unpin_user_pages(batch->pages + left, got - left);
	return left ?: -EFAULT;
}

/* @flags: FOLL_NOFAULT, for who cannot wait. */
static int pin_fill(struct vfio_pin_batch *batch, unsigned long vaddr, unsigned long npages,
		    unsigned int flags)
{
	bool look = !VFIO_COMPAT_PIN_UNSHARES && !(batch->prot & IOMMU_WRITE);
	struct mm_struct *mm = batch->mm;
	int want = min_t(unsigned long, npages, batch->capacity);
	unsigned int gup;
	long got = 0;

	if (fatal_signal_pending(current))
		return -EINTR;

	batch->pos = 0;
	batch->size = 0;
	batch->pfnmap = false;
	if (look)
		got = pin_unshare(mm, vaddr, &want);
	if (got < 0)
		return pfnmap_fill(batch, vaddr, npages, flags, got);
	if (batch->prot & IOMMU_WRITE)
		flags |= FOLL_WRITE;
	gup = flags | got | FOLL_LONGTERM;
	if (mm == current->mm) {
		/* Lockless where it can be, and by whole huge pages (on 6.1, only here). */
		got = pin_user_pages_fast(vaddr, want, gup, batch->pages);
		if (got == -EOVERFLOW)
			got = -EFAULT; /* at the end of all addresses; what the others say */
		if (got > 0 && !look)
			got = pin_check_areas(batch, vaddr, got);
	} else {
		mmap_read_lock(mm);
		got = pin_user_pages_remote(mm, vaddr, want, gup, batch->pages, NULL);
		mmap_read_unlock(mm);
	}
	if (got > 0) {
		batch->size = got;
		return got;
	}
	return pfnmap_fill(batch, vaddr, npages, flags, got ?: -EFAULT);
}

/**
 * vfio_pin_fill() - pin the next pages
 * @batch: a batch whose pages were all taken or dropped
 * @vaddr: user address of the first page
 * @npages: pages wanted
 *
 * Movable memory (ZONE_MOVABLE, CMA) has to be moved to be pinned for long. While somebody
 * else does the same with the same page, be it by another MAP, KVM or io_uring, it can't be
 * moved, and migrate_longterm_unpinnable_pages() says -ENOMEM: so that is asked again, a few
 * times.
 *
 * Context: may sleep and take mm's mmap_lock.
 * Return: pages got, at least one; -EFAULT if there is no memory at @vaddr, or
 * none that may be accessed so; -ENOMEM; -EINTR on a fatal signal.
 */
int vfio_pin_fill(struct vfio_pin_batch *batch, unsigned long vaddr, unsigned long npages)
{
	unsigned int delay;
	int ret = pin_fill(batch, vaddr, npages, 0);

	for (delay = 1; ret == -ENOMEM && delay <= PIN_AGAIN_MAX; delay *= 2) {
		schedule_timeout_killable(msecs_to_jiffies(delay));
		ret = pin_fill(batch, vaddr, npages, 0);
	}
	return ret;
}

/**
 * vfio_pin_fill_at_hand() - pin the next pages, without waiting for them
 * @batch: as vfio_pin_fill()
 * @vaddr: as vfio_pin_fill()
 * @npages: as vfio_pin_fill()
 *
 * For who holds a lock that others should not have to wait for.
 *
 * Context: may sleep and take mm's mmap_lock.
 * Return: as vfio_pin_fill(), but any errno may also mean that the memory has to be faulted in
 * first.
 */
int vfio_pin_fill_at_hand(struct vfio_pin_batch *batch, unsigned long vaddr,
			  unsigned long npages)
{
	return pin_fill(batch, vaddr, npages, FOLL_NOFAULT);
}

/*
 * How many of the pages from @pages[0] on, which belongs to a large folio, are in
 * this folio and in order; @max at most.
 */
static unsigned long pages_in_order(struct page **pages, unsigned long max)
{
	struct page *page = pages[0], **at = pages + 1, **end;
	struct folio *folio = page_folio(page);

	end = pages + min_t(unsigned long, max,
			    folio_nr_pages(folio) - folio_page_idx(folio, page));
	page++;
	/*
	 * Page tables may have them in any order, also those of a hugetlb folio, which drivers
	 * take apart. This loop is all that is done per page.
	 */
	for (; end - at >= 8; at += 8, page += 8) {
		if (at[0] != page || at[1] != page + 1 || at[2] != page + 2 ||
		    at[3] != page + 3 || at[4] != page + 4 || at[5] != page + 5 ||
		    at[6] != page + 6 || at[7] != page + 7)
			break;
	}
	while (at < end && *at == page) {
		at++;
		page++;
	}
	return at - pages;
}

/*
 * Take reserved pages: alone, for frames without a struct page are not mapped
 * together with others.
 */
static unsigned long cut_reserved(struct vfio_pin_batch *batch, struct vfio_run_queue *queue,
				  unsigned long max)
{
	struct vfio_run *runs = queue->runs;
	struct page **pages = batch->pfnmap ? NULL : &batch->pages[batch->pos];
	unsigned long pfn = pages ? page_to_pfn(pages[0]) : batch->pfn + batch->pos;
	unsigned long npages = pages ? 1 : max;
	u64 kind = pages && !is_zero_pfn(pfn) ? VFIO_RUN_PINNED : 0;

	if (kind)
		while (npages < max && pages[npages] == pages[0] + npages &&
		       PageReserved(pages[npages]) && !is_zero_pfn(pfn + npages))
			npages++;
	if (!queue->nr)
		runs[queue->nr++] = vfio_run_make(pfn, npages, vfio_run_flags(batch->prot) | kind);
	else if (queue->nr == 1 && (runs[0].word & VFIO_RUN_KIND) == kind &&
		 vfio_run_pfn(runs[0]) + vfio_run_npages(runs[0]) == pfn)
		runs[0].word += npages;
	else
		return 0;
	if (pages && !kind)
		unpin_user_page(pages[0]);
	return npages;
}

/* Take pages of RAM. */
static unsigned long cut_ram(struct vfio_pin_batch *batch, struct vfio_run_queue *queue,
			     unsigned long max)
{
	struct page **pages = &batch->pages[batch->pos];
	struct vfio_run *run = queue->runs + queue->nr, *end = queue->runs + queue->capacity;
	/* Where the last run would go on; if there is none, no page frame. */
	unsigned long next = ULONG_MAX, n, npages;
	u64 flags = vfio_run_flags(batch->prot) | VFIO_RUN_RAM;

	if (queue->nr) {
		if (!vfio_run_charged(run[-1]))
			return 0;
		next = vfio_run_pfn(run[-1]) + vfio_run_npages(run[-1]);
	}
	for (n = 0; n < max; n += npages) {
		struct page *page = pages[n];
		unsigned long pfn = page_to_pfn(page);

		if (PageReserved(page))
			break;
		npages = PageCompound(page) ? pages_in_order(&pages[n], max - n) : 1;
		if (pfn == next)
			run[-1].word += npages;
		else if (run < end)
			*run++ = vfio_run_make(pfn, npages, flags);
		else
			break;
		next = pfn + npages;
	}
	queue->nr = run - queue->runs;
	return n;
}

/**
 * vfio_pin_cut() - cut pages of a batch into runs
 * @batch: a batch with pages left
 * @queue: where to; the last run there may go on.  All are of one kind, and if they are not
 *	RAM there is only one
 * @max: pages to take at most
 *
 * Takes pages of one kind. The zero page's pin is given back here: every hole of a
 * read-only mapping would hold one, and they are not worth an overflow of its
 * reference count (since 6.5 GUP itself does not take them).
 *
 * Return: pages taken; 0 if the next ones do not go with @queue. Always more if
 * there are none yet.
 */
unsigned long vfio_pin_cut(struct vfio_pin_batch *batch, struct vfio_run_queue *queue,
			   unsigned long max)
{
	unsigned long taken;

	max = min_t(unsigned long, max, batch->size - batch->pos);
	if (batch->pfnmap || PageReserved(batch->pages[batch->pos]))
		taken = cut_reserved(batch, queue, max);
	else
		taken = cut_ram(batch, queue, max);
	batch->pos += taken;
	return taken;
}

/**
 * vfio_pin_drop() - unpin what was not taken out of a batch
 * @batch: the batch
 *
 * Context: may sleep.
 */
void vfio_pin_drop(struct vfio_pin_batch *batch)
{
	struct vfio_run run;
	struct vfio_run_queue queue = { .runs = &run, .capacity = 1 };

	while (batch->pos < batch->size) {
		queue.nr = 0;
		vfio_pin_cut(batch, &queue, VFIO_RUN_PAGES_MAX);
		vfio_unpin_runs(&run, 1);
	}
}

/* Unpin pages that follow each other. */
static void unpin_long_run(struct vfio_run run)
{
	unsigned long pfn = vfio_run_pfn(run), left = vfio_run_npages(run), n;

	for (; left; left -= n, pfn += n) {
		n = min(left, UNPIN_STEP);
		unpin_user_page_range_dirty_lock(pfn_to_page(pfn), n, vfio_run_write(run));
		cond_resched();
	}
}

/**
 * vfio_unpin_runs() - let go of runs' pages
 * @run: runs that no device can reach any more
 * @nr: how many
 *
 * Context: may sleep.
 */
void vfio_unpin_runs(const struct vfio_run *run, unsigned int nr)
{
	const struct vfio_run *end = run + nr;
	struct page *pages[UNPIN_SINGLE] __uninitialized;
	bool write = false;
	unsigned int n = 0;

	if (nr == 1 && vfio_run_pinned(*run)) {
		unpin_long_run(*run);
		return;
	}
	/* Single pages go many at a time, which takes less than one by one. */
	for (; run < end; run++) {
		if (!vfio_run_pinned(*run))
			continue;
		if (vfio_run_npages(*run) > 1) {
			unpin_long_run(*run);
			continue;
		}
		if (n == UNPIN_SINGLE || write != vfio_run_write(*run)) {
			unpin_user_pages_dirty_lock(pages, n, write);
			write = vfio_run_write(*run);
			n = 0;
		}
		pages[n++] = pfn_to_page(vfio_run_pfn(*run));
	}
	unpin_user_pages_dirty_lock(pages, n, write);
}

/*
 * Flush pages but those with a memory error, which the kernel's own map of memory may not
 * have any more.  Return: pages flushed.
 */
static unsigned long flush_whole_pages(unsigned long pfn, unsigned long n)
{
	unsigned long end = pfn + n, npages = 0, start;

	while (pfn < end) {
		for (start = pfn; pfn < end && !is_page_hwpoison(pfn_to_page(pfn)); pfn++)
			;
		if (pfn > start)
			vfio_cache_flush(start, pfn - start);
		npages += pfn - start;
		if (pfn < end)
			pfn++;
	}
	return npages;
}

/**
 * vfio_pin_flush() - take runs' pages out of the CPU's caches
 * @run: runs, pinned
 * @nr: how many
 *
 * Reserved ones need not be ours to touch: nobody else gets, or had, what is in them.
 *
 * Context: may sleep.
 * Return: pages flushed.
 */
unsigned long vfio_pin_flush(const struct vfio_run *run, unsigned int nr)
{
	const struct vfio_run *end = run + nr;
	unsigned long pfn, left, n, npages = 0;

	for (; run < end; run++) {
		if (!vfio_run_charged(*run))
			continue;
		pfn = vfio_run_pfn(*run);
		for (left = vfio_run_npages(*run); left; left -= n, pfn += n) {
			n = min(left, FLUSH_STEP);
			npages += flush_whole_pages(pfn, n);
			cond_resched();
		}
	}
	return npages;
}

/**
 * vfio_pin_dirty() - tell that pages were written to, and keep them pinned
 * @run: a run that no device writes to any more
 *
 * Context: may sleep.
 */
void vfio_pin_dirty(struct vfio_run run)
{
	unsigned long pfn = vfio_run_pfn(run), end = pfn + vfio_run_npages(run);
	struct folio *folio;
	struct page *page;

	if (!vfio_run_charged(run))
		return;
	for (; pfn < end; pfn += folio_nr_pages(folio) - folio_page_idx(folio, page)) {
		page = pfn_to_page(pfn);
		folio = page_folio(page);
		/* Who cleans it at this moment has yet to look at what is in it. */
		if (!folio_test_dirty(folio)) {
			folio_lock(folio);
			folio_mark_dirty(folio);
			folio_unlock(folio);
		}
		cond_resched();
	}
}
