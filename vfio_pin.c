// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory to runs of page frames, and back.
 *
 * Memory is pinned in batches of many pages per GUP call, and a batch is cut
 * into runs: physically contiguous and of one kind.  There are two kinds:
 *
 *  - RAM is pinned, counts as locked memory, and is unpinned when its run is.
 *  - Reserved frames (the zero page, MMIO in VM_PFNMAP areas, frames without a
 *    struct page) are neither counted nor unpinned.
 *
 * The kind can be told from a frame at any time, and does not change while the
 * frame is mapped.
 */

#include <linux/sched/signal.h>

#include "vfio_type1.h"

/* Pages unpinned between two scheduling points. */
#define UNPIN_STEP	8192UL

/**
 * vfio_pfn_is_reserved() - is a frame of the kind that is not pinned?
 * @pfn: page frame number
 *
 * Return: true if it is not RAM that somebody could pin.
 */
bool vfio_pfn_is_reserved(unsigned long pfn)
{
	return !pfn_valid(pfn) || PageReserved(pfn_to_page(pfn));
}

/*
 * Look up one frame of a VM_PFNMAP area, faulting it in if it is not there.
 * Return: 0; -EAGAIN if the mmap_lock was dropped on the way and the area has to
 * be looked up again; another errno.
 */
static int pfnmap_lookup(struct vm_area_struct *vma, unsigned long vaddr, bool write,
			 bool fault, unsigned long *pfn)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = vaddr };
	int ret = follow_pfnmap_start(&args);

	if (ret && fault) {
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

/* Fill @batch with consecutive frames from one VM_PFNMAP area. */
static int pfnmap_fill(struct vfio_pin_batch *batch, struct mm_struct *mm, unsigned long vaddr,
		       unsigned long npages, bool write, int gup_error)
{
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
			ret = pfnmap_lookup(vma, vaddr, write, true, &batch->pfn);
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
		if (pfnmap_lookup(vma, vaddr + n * PAGE_SIZE, write, false, &pfn) ||
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

/**
 * vfio_pin_fill() - pin the next pages
 * @batch: a batch whose pages were all taken or dropped
 * @mm: whose memory; the caller's own, or one that cannot go away
 * @vaddr: user address of the first page
 * @npages: pages wanted
 * @prot: IOMMU_WRITE if the device may write
 *
 * Context: may sleep and take mm's mmap_lock.
 * Return: pages got, at least one; -EFAULT if there is no memory at @vaddr, or
 * none that may be accessed so; -ENOMEM; -EINTR on a fatal signal.
 */
int vfio_pin_fill(struct vfio_pin_batch *batch, struct mm_struct *mm, unsigned long vaddr,
		  unsigned long npages, int prot)
{
	unsigned int flags = FOLL_LONGTERM | (prot & IOMMU_WRITE ? FOLL_WRITE : 0);
	int want = min_t(unsigned long, npages, batch->capacity);
	long got;

	if (fatal_signal_pending(current))
		return -EINTR;

	batch->pos = 0;
	batch->size = 0;
	batch->pfnmap = false;
	if (mm == current->mm) {
		/* Lockless where it can be, and by whole huge pages (on 6.1, only here). */
		got = pin_user_pages_fast(vaddr, want, flags, batch->pages);
		if (got == -EOVERFLOW)
			got = -EFAULT; /* at the end of all addresses; what the others say */
	} else {
		mmap_read_lock(mm);
		got = pin_user_pages_remote(mm, vaddr, want, flags, batch->pages, NULL);
		mmap_read_unlock(mm);
	}
	if (got > 0) {
		batch->size = got;
		return got;
	}
	return pfnmap_fill(batch, mm, vaddr, npages, prot & IOMMU_WRITE, got ?: -EFAULT);
}

/* How many of the pages from @pages[0] on are one run; @npages at most. */
static unsigned long pages_run(struct page **pages, unsigned long npages)
{
	unsigned long pfn = page_to_pfn(pages[0]);
	bool reserved = PageReserved(pages[0]);
	unsigned long n = 0;

	while (n < npages) {
		struct folio *folio = page_folio(pages[n]);
		unsigned long stop = n + 1;

		if (PageReserved(pages[n]) != reserved)
			return n;
		/* All pages of a folio are of one kind: only their order matters. */
		if (folio_test_large(folio))
			stop = n + folio_nr_pages(folio) - folio_page_idx(folio, pages[n]);
		for (stop = min(stop, npages); n < stop; n++) {
			if (page_to_pfn(pages[n]) != pfn + n)
				return n;
		}
	}
	return n;
}

/**
 * vfio_pin_take() - take the next run out of a batch
 * @batch: a batch with pages left
 * @run: where to store the run
 * @max: pages to take at most
 * @prot: IOMMU_WRITE if the device may write
 *
 * The zero page's pin is given back here: every hole of a read-only mapping
 * would hold one, and they are not worth an overflow of its reference count
 * (since 6.5 GUP itself does not take them).
 */
void vfio_pin_take(struct vfio_pin_batch *batch, struct vfio_run *run, unsigned long max,
		   int prot)
{
	unsigned long left = min_t(unsigned long, batch->size - batch->pos, max);
	struct page **pages = &batch->pages[batch->pos];

	run->write = prot & IOMMU_WRITE;
	if (batch->pfnmap) {
		run->pfn = batch->pfn + batch->pos;
		run->npages = left;
		run->reserved = true;
	} else {
		run->pfn = page_to_pfn(pages[0]);
		run->reserved = PageReserved(pages[0]);
		if (is_zero_pfn(run->pfn)) {
			run->npages = 1;
			unpin_user_page(pages[0]);
		} else {
			run->npages = pages_run(pages, left);
		}
	}
	batch->pos += run->npages;
}

/**
 * vfio_pin_drop() - unpin what was not taken out of a batch
 * @batch: the batch
 * @prot: IOMMU_WRITE if the device may write
 *
 * Context: may sleep.
 */
void vfio_pin_drop(struct vfio_pin_batch *batch, int prot)
{
	struct vfio_run run;

	while (batch->pos < batch->size) {
		vfio_pin_take(batch, &run, VFIO_RUN_PAGES_MAX, prot);
		vfio_unpin_run(&run);
	}
}

/**
 * vfio_unpin_run() - let go of a run's pages
 * @run: a run that no device can reach any more
 *
 * Context: may sleep.
 */
void vfio_unpin_run(const struct vfio_run *run)
{
	unsigned long pfn = run->pfn, left = run->npages;

	if (run->reserved)
		return;
	for (; left > UNPIN_STEP; left -= UNPIN_STEP, pfn += UNPIN_STEP) {
		unpin_user_page_range_dirty_lock(pfn_to_page(pfn), UNPIN_STEP, run->write);
		cond_resched();
	}
	unpin_user_page_range_dirty_lock(pfn_to_page(pfn), left, run->write);
}
