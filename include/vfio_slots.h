/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How a region keeps which page frames it consists of.
 *
 * Frames are kept by slots of VFIO_SLOT_BYTES of user addresses.  The frames of a
 * slot mostly follow each other, and all are of one kind: then a word says it all.
 * Else the slot points to a table with a word per page.  The first and the last
 * slot of a region may be there only in part; entries count from the first page
 * that is.
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_SLOTS_H
#define _VFIO_SLOTS_H

#include <linux/bits.h>
#include <linux/minmax.h>
#include <linux/types.h>

#include "vfio_region.h"
#include "vfio_runs.h"

/* Of the word of a slot. */
#define SLOT_TABLE	BIT_ULL(0)	/* points to a table */
#define SLOT_MARK	BIT_ULL(1)	/* memory may have changed */
#define SLOT_TRIED	BIT_ULL(2)	/* with a mark: and it was not the same, or not all there */
/* Of the word of a page, or of a slot without a table: the kind, as a run has it. */
#define ENTRY_KIND_SHIFT	(VFIO_RUN_NPAGES_BITS + 1 - 3)
#define ENTRY_KIND	(VFIO_RUN_KIND >> ENTRY_KIND_SHIFT)
#define ENTRY_FLAGS	(SLOT_TABLE | SLOT_MARK | SLOT_TRIED | ENTRY_KIND)
#define ENTRY_PFN_SHIFT	5
/* From the word of a page to that of the next one, if it follows. */
#define ENTRY_NEXT	BIT_ULL(ENTRY_PFN_SHIFT)

/* Pages of the first slot that lie before the region. */
static inline unsigned long region_lead(const struct vfio_region *region)
{
	return (region->vaddr >> PAGE_SHIFT) % VFIO_SLOT_PAGES;
}

static inline unsigned long slot_of(const struct vfio_region *region, unsigned long page)
{
	return (page + region_lead(region)) / VFIO_SLOT_PAGES;
}

/* First page of a slot. */
static inline unsigned long slot_first(const struct vfio_region *region, unsigned long slot)
{
	return slot ? slot * VFIO_SLOT_PAGES - region_lead(region) : 0;
}

/* First page after a slot. */
static inline unsigned long slot_end(const struct vfio_region *region, unsigned long slot)
{
	return min((slot + 1) * VFIO_SLOT_PAGES - region_lead(region), region->npages);
}

static inline u64 *slot_table(u64 word)
{
	return (u64 *)(unsigned long)(word & ~ENTRY_FLAGS);
}

/* The kind of a page, as a run has it. */
static inline u64 entry_kind(u64 entry)
{
	return (entry & ENTRY_KIND) << ENTRY_KIND_SHIFT;
}

/*
 * The word of a page, and, in @n, how many pages of its slot follow it, itself
 * counted; not more than @max are looked at.
 */
static __always_inline u64 region_entry(const struct vfio_region *region, unsigned long page,
					unsigned long max, unsigned long *n)
{
	unsigned long slot = slot_of(region, page);
	u64 word = READ_ONCE(region->slots[slot]);
	const u64 *entry;

	max = min(max, slot_end(region, slot) - page);
	page -= slot_first(region, slot);
	if (!(word & SLOT_TABLE)) {
		*n = max;
		return (word & ~(SLOT_MARK | SLOT_TRIED)) + page * ENTRY_NEXT;
	}
	entry = slot_table(word) + page;
	for (*n = 1; *n < max && entry[*n] == entry[0] + *n * ENTRY_NEXT; )
		(*n)++;
	return entry[0];
}

#endif /* _VFIO_SLOTS_H */
