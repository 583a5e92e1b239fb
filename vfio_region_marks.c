// SPDX-License-Identifier: GPL-2.0-only
/*
 * What changed of registered memory since.
 *
 * The process may change its memory later: unmap it, throw it away, put something
 * else in its place.  The region stays what it was, and so do its mappings, but a
 * new mapping has to be of what the process sees, or it would be given what it
 * does not know of.  So a change marks the slots that it touches, and who wants
 * to map a marked slot first compares the process's memory with the region's.
 * A mark means no more than that: reclaim, compaction and others touch pages that
 * are pinned, too, and put them back.  A mark goes when all of its slot was compared;
 * who maps only a part of it tries that once, as far as nothing has to be faulted in.
 */

#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "compat/compiler.h"
#include "vfio_region.h"
#include "vfio_slots.h"
#include "vfio_watch.h"

/* Pages compared, or slots marked, at a time. */
#define CHECK_BATCH	64
#define MARK_BATCH	4096

/**
 * vfio_region_mark() - the process changes its memory
 * @region: the region
 * @vaddr: first byte that changes; set to where to go on, if there is more to mark
 * @last: last byte
 *
 * Does not take long: a region may be large.
 *
 * Context: region->lock held; must not sleep.
 * Return: true if there is more to mark, as soon as the lock was let go.
 */
bool vfio_region_mark(struct vfio_region *region, unsigned long *vaddr, unsigned long last)
{
	unsigned long first = max(*vaddr, region->vaddr), slot, end, stop;

	lockdep_assert_held(&region->lock);
	last = min(last, region->vaddr + (region->npages << PAGE_SHIFT) - 1);
	if (first > last)
		return false;
	slot = slot_of(region, (first - region->vaddr) >> PAGE_SHIFT);
	end = slot_of(region, (last - region->vaddr) >> PAGE_SHIFT);
	stop = min(end, slot + MARK_BATCH - 1);
	for (; slot <= stop; slot++) {
		u64 word = region->slots[slot];

		if (!(word & SLOT_MARK))
			WRITE_ONCE(region->nr_marked, region->nr_marked + 1);
		WRITE_ONCE(region->slots[slot], (word | SLOT_MARK) & ~SLOT_TRIED);
	}
	*vaddr = region->vaddr + (slot_first(region, slot) << PAGE_SHIFT);
	return stop < end;
}

/* Let go of pages that were looked up.  Return: how many of them are the region's from @page on. */
static int region_compare_pages(const struct vfio_region *region, unsigned long page,
				struct page **pages, int nr)
{
	int same = nr, i;
	unsigned long n;

	for (i = 0; i < nr; i++) {
		if (same == nr && region_entry(region, page + i, 1, &n) >> ENTRY_PFN_SHIFT !=
				  page_to_pfn(pages[i]))
			same = i;
		put_page(pages[i]);
	}
	return same;
}

/* Is all of a slot the process's memory?  False also if some of it is not at hand. */
static bool region_same_fast(const struct vfio_region *region, unsigned long slot)
{
	struct page *pages[CHECK_BATCH] __uninitialized;
	unsigned long page, end = slot_end(region, slot);
	int got;

	for (page = slot_first(region, slot); page < end; page += got) {
		got = get_user_pages_fast_only(region->vaddr + (page << PAGE_SHIFT),
					       min_t(unsigned long, end - page, CHECK_BATCH), 0,
					       pages);
		if (got <= 0 || region_compare_pages(region, page, pages, got) < got)
			return false;
	}
	return true;
}

/*
 * Compare pages of a region with the process's memory.  Return: 0 if they are the
 * same; -ESTALE with @changed set to the first that is not, or is not there; -ENOMEM;
 * -EINTR.
 *
 * What the process itself may do there now (FOLL_FORCE) does not matter, only which
 * page it is.
 */
static int region_compare(const struct vfio_region *region, unsigned long page,
			  unsigned long end, unsigned long *changed)
{
	struct page *pages[CHECK_BATCH] __uninitialized;
	int got, same;

	for (; page < end; page += got) {
		if (fatal_signal_pending(current))
			return -EINTR;
		got = get_user_pages_fast(region->vaddr + (page << PAGE_SHIFT),
					  min_t(unsigned long, end - page, CHECK_BATCH),
					  FOLL_FORCE, pages);
		if (got <= 0 && fatal_signal_pending(current))
			return -EINTR;
		/* What is not at hand for want of memory is not lost. */
		if (got == -ENOMEM)
			return got;
		same = got > 0 ? region_compare_pages(region, page, pages, got) : 0;
		if (got <= 0 || same < got) {
			*changed = page + same;
			return -ESTALE;
		}
		cond_resched();
	}
	return 0;
}

/* A marked slot was compared as a whole, unless there was a change since @seq. */
static void region_compared(struct vfio_region *region, unsigned long slot, unsigned long seq,
			    bool same)
{
	u64 word;

	spin_lock(&region->lock);
	word = region->slots[slot];
	if (!vfio_watch_changed(&region->watch, seq) && word & SLOT_MARK) {
		if (same)
			WRITE_ONCE(region->nr_marked, region->nr_marked - 1);
		word = same ? word & ~(SLOT_MARK | SLOT_TRIED) : word | SLOT_TRIED;
		WRITE_ONCE(region->slots[slot], word);
	}
	spin_unlock(&region->lock);
}

/* Compare pages of one marked slot, and all of it, if that was not done. */
static int region_check_slot(struct vfio_region *region, unsigned long slot, unsigned long page,
			     unsigned long end, unsigned long *changed)
{
	bool whole = page == slot_first(region, slot) && end == slot_end(region, slot);
	unsigned long seq = vfio_watch_read(&region->watch);
	int ret;

	if (!whole && !(READ_ONCE(region->slots[slot]) & SLOT_TRIED)) {
		whole = region_same_fast(region, slot);
		region_compared(region, slot, seq, whole);
		if (whole)
			return 0;
	}
	ret = region_compare(region, page, end, changed);
	if (!ret && whole)
		region_compared(region, slot, seq, true);
	return ret;
}

/**
 * vfio_region_check_marked() - are pages of a region with marks still the process's?
 * @region: a region in its registry's tree, of the calling process
 * @page: first page, counted from the start of the region
 * @npages: how many
 * @changed: set to the first page that is not
 *
 * Looks at user memory only where a change left a mark.
 *
 * Context: may sleep; takes mmap_lock; a reference to the region is held.  If it leaves
 * the tree meanwhile it is watched no more, and the answer means nothing.
 * Return: 0; -ESTALE if the process has other memory there, or none; -ENOMEM if
 * there was no memory to fault its own in; -EINTR on a fatal signal.
 */
int vfio_region_check_marked(struct vfio_region *region, unsigned long page,
			     unsigned long npages, unsigned long *changed)
{
	unsigned long end = page + npages, slot, next;
	int ret = 0;

	for (; page < end && !ret; page = next) {
		slot = slot_of(region, page);
		next = min(slot_end(region, slot), end);
		if (READ_ONCE(region->slots[slot]) & SLOT_MARK)
			ret = region_check_slot(region, slot, page, next, changed);
	}
	return ret;
}
