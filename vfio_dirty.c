// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty bitmaps: which pages a device may have written.
 *
 * While tracking is on, every mapping has a bitmap with a bit per smallest
 * IOMMU page.  No IOMMU is asked what it wrote, so there are two cases:
 *
 *  - Some group can write wherever it likes: all of a mapping that is in the
 *    IOMMU is dirty, always.
 *  - All groups write only what they have pinned (see
 *    vfio_group_entry.pins_only): dirty is what is pinned now, was pinned since
 *    the last report, or was written through vfio_dma_rw().
 *
 * User space gets the bits of a range whose first page is bit 0, in words of 64
 * bits.  A mapping may start in the middle of a word, which then belongs to its
 * lower neighbour as well: bits below are kept as they are in user memory.
 *
 * Bits are copied under the locks that keep them as they are, but without faults,
 * which may wait for as long as whoever provides the user memory likes.  If that
 * fails, all locks are dropped, the memory is faulted in, and everything is looked
 * at anew.  Only when all was copied is anything clean.
 */

#include <linux/bitmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat/compiler.h"
#include "vfio_dirty.h"
#include "vfio_dma_tree.h"
#include "vfio_group.h"
#include "vfio_pin.h"
#include "vfio_pinned.h"
#include "vfio_refuse.h"
#include "vfio_type1.h"

/* Words copied to user space at a time. */
#define REPORT_WORDS	64

/*
 * A mapping that MAP is filling gets its bitmap last, if tracking is on then.  Up to then
 * it is as if it was not there.
 */
static bool dirty_ignores(const struct vfio_dma *dma)
{
	return dma->state == VFIO_DMA_PENDING;
}

static unsigned long dirty_nbits(const struct vfio_type1_container *container,
				 const struct vfio_dma *dma)
{
	return ((dma->last - dma->iova) >> container->dirty_shift) + 1;
}

/**
 * vfio_dirty_init() - give a mapping a clean bitmap
 * @container: a container whose dirty_shift is set
 * @dma: mapping without one, owned by the caller
 *
 * Context: may sleep; container->lock held.
 * Return: 0; -ENOMEM; -EINVAL if the mapping has too many pages.
 */
int vfio_dirty_init(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	unsigned long nbits = dirty_nbits(container, dma);

	if (nbits > VFIO_DIRTY_PAGES_MAX) {
		vfio_refuse(container, VFIO_REFUSE_DIRTY,
			    "dirty tracking of the mapping 0x%llx-0x%llx: %lu pages are too many, %llu is the limit",
			    (u64)dma->iova, (u64)dma->last, nbits, VFIO_DIRTY_PAGES_MAX);
		return -EINVAL;
	}
	dma->dirty = kvcalloc(BITS_TO_LONGS(nbits), sizeof(unsigned long), GFP_KERNEL_ACCOUNT);
	return dma->dirty ? 0 : -ENOMEM;
}

/**
 * vfio_dirty_mark() - a device may have written to memory
 * @container: the container
 * @dma: the mapping; nothing happens if it has no bitmap
 * @iova: first byte, in @dma
 * @size: bytes, at least one
 *
 * Context: container->external_lock held, or container->lock for write.
 */
void vfio_dirty_mark(struct vfio_type1_container *container, struct vfio_dma *dma, u64 iova,
		     u64 size)
{
	unsigned long first = (iova - dma->iova) >> container->dirty_shift;
	unsigned long last = (iova - dma->iova + size - 1) >> container->dirty_shift;

	if (dma->dirty)
		bitmap_set(dma->dirty, first, last - first + 1);
}

/**
 * vfio_dirty_mark_all() - a device may have written to any mapping
 * @container: the container
 *
 * Context: container->lock held for write.
 */
void vfio_dirty_mark_all(struct vfio_type1_container *container)
{
	struct vfio_dma *dma;

	lockdep_assert_held_write(&container->lock);
	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma;
	     dma = vfio_dma_tree_next(dma)) {
		vfio_dirty_mark(container, dma, dma->iova, dma->last - dma->iova + 1);
		cond_resched();
	}
}

/* What is pinned now stays dirty. */
static void dirty_mark_pinned(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_pinned_page *pin;

	for (pin = vfio_pinned_first(dma); pin; pin = vfio_pinned_next(pin))
		vfio_dirty_mark(container, dma, pin->iova, PAGE_SIZE);
}

static void dirty_free_all(struct vfio_type1_container *container)
{
	struct vfio_dma *dma;

	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma;
	     dma = vfio_dma_tree_next(dma)) {
		kvfree(dma->dirty);
		dma->dirty = NULL;
		cond_resched();
	}
}

/**
 * vfio_dirty_start() - VFIO_IOMMU_DIRTY_PAGES_FLAG_START
 * @container: the container
 *
 * Nothing happens if tracking is on already.
 *
 * Context: may sleep; takes container->lock for writing.
 * Return: 0; -ENOMEM; -EINVAL if a mapping has too many pages; -EINTR on a fatal
 * signal.  On failure tracking is off.
 */
int vfio_dirty_start(struct vfio_type1_container *container)
{
	struct vfio_dma *dma;
	int ret = 0;

	down_write(&container->lock);
	if (container->dirty_tracking)
		goto unlock;
	container->dirty_shift = __ffs(container->pgsize_bitmap);
	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma && !ret;
	     dma = vfio_dma_tree_next(dma)) {
		if (dirty_ignores(dma))
			continue;
		ret = fatal_signal_pending(current) ? -EINTR : vfio_dirty_init(container, dma);
		if (!ret)
			dirty_mark_pinned(container, dma);
		cond_resched();
	}
	if (ret)
		dirty_free_all(container);
	else
		WRITE_ONCE(container->dirty_tracking, true);
unlock:
	up_write(&container->lock);
	return ret;
}

/**
 * vfio_dirty_stop() - VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
 * @container: the container
 *
 * Nothing happens if tracking is off already.
 *
 * Context: may sleep; takes container->lock for writing.
 */
void vfio_dirty_stop(struct vfio_type1_container *container)
{
	down_write(&container->lock);
	WRITE_ONCE(container->dirty_tracking, false);
	dirty_free_all(container);
	up_write(&container->lock);
}

/* Word @w of a mapping's bitmap; none but the mapping's own bits are set. */
static u64 dirty_word(const struct vfio_dma *dma, unsigned long nbits, unsigned long w, bool all)
{
	if (w >= BITS_TO_LONGS(nbits))
		return 0;
	if (!all)
		return dma->dirty[w];
	return w == BITS_TO_LONGS(nbits) - 1 ? BITMAP_LAST_WORD_MASK(nbits) : ~0ULL;
}

/**
 * struct dirty_words - the words of user space's bitmap that a mapping has bits in
 * @at: the first one
 * @nr: how many
 * @shift: bits of the first one that belong to others
 */
struct dirty_words {
	u64 __user *at;
	unsigned long nr;
	unsigned int shift;
};

static struct dirty_words dirty_words_of(const struct vfio_dma *dma, u64 base,
					 const struct vfio_dirty_request *request)
{
	unsigned int page_shift = __ffs64(request->pgsize);
	unsigned long nbits = ((dma->last - dma->iova) >> page_shift) + 1;
	u64 offset = (dma->iova - base) >> page_shift;
	unsigned int shift = offset % BITS_PER_TYPE(u64);

	return (struct dirty_words) {
		.at = request->bitmap + offset / BITS_PER_TYPE(u64),
		.nr = BITS_TO_U64(nbits + shift),
		.shift = shift,
	};
}

/*
 * Copy words to user space that share none with another mapping.  Return: whether they got
 * there.
 */
static bool report_words(u64 __user *to, const struct vfio_dma *dma, unsigned long nbits, bool all)
{
	unsigned long w, n, nwords = BITS_TO_LONGS(nbits);
	u64 ones[REPORT_WORDS] __uninitialized;
	const u64 *from;

	if (all)
		memset(ones, 0xff, sizeof(ones));
	for (w = 0; w < nwords; w += n) {
		n = min(nwords - w, (unsigned long)REPORT_WORDS);
		from = all ? ones : (u64 *)dma->dirty + w;
		if (all && w + n == nwords)
			ones[n - 1] = BITMAP_LAST_WORD_MASK(nbits);
		if (copy_to_user_nofault(to + w, from, n * sizeof(*from)))
			return false;
		cond_resched();
	}
	return true;
}

/* The same for words of which the first has bits of another mapping. */
static bool report_shifted(const struct dirty_words *to, const struct vfio_dma *dma,
			   unsigned long nbits, bool all)
{
	u64 words[REPORT_WORDS] __uninitialized, below;
	unsigned long w, done = 0;
	unsigned int n = 0;

	if (copy_from_user_nofault(&below, to->at, sizeof(below)))
		return false;
	for (w = 0; w < to->nr; w++) {
		words[n] = dirty_word(dma, nbits, w, all) << to->shift;
		if (w)
			words[n] |= dirty_word(dma, nbits, w - 1, all) >> (64 - to->shift);
		else
			words[n] |= below & (BIT_ULL(to->shift) - 1);
		if (++n < REPORT_WORDS && w + 1 < to->nr)
			continue;
		if (copy_to_user_nofault(to->at + done, words, n * sizeof(*words)))
			return false;
		done += n;
		n = 0;
		cond_resched();
	}
	return true;
}

/**
 * vfio_dirty_report() - tell user space which pages of a mapping are dirty
 * @container: a container with dirty tracking on, by pages of @request->pgsize
 * @dma: the mapping
 * @base: IOVA of bit 0 of the bitmap, at or below the mapping
 * @request: where to
 *
 * Context: container->lock held, and the caller owns @dma.
 * Return: false if user memory has to be faulted in first: see vfio_dirty_fault_in().
 */
bool vfio_dirty_report(struct vfio_type1_container *container, const struct vfio_dma *dma,
		       u64 base, const struct vfio_dirty_request *request)
{
	struct dirty_words to = dirty_words_of(dma, base, request);
	bool all = READ_ONCE(container->dirty_groups) && dma->mapped;
	unsigned long nbits = dirty_nbits(container, dma);

	return to.shift ? report_shifted(&to, dma, nbits, all) :
			  report_words(to.at, dma, nbits, all);
}

static int words_fault_in(const struct dirty_words *words)
{
	return vfio_user_fault_in(words->at, words->nr * sizeof(*words->at), true);
}

/**
 * vfio_dirty_fault_in() - have user memory at hand that a mapping is reported to
 * @dma: the mapping
 * @base: IOVA of bit 0 of the bitmap, at or below the mapping
 * @request: where the bitmap is
 *
 * Context: the caller owns @dma; no lock held.
 * Return: as vfio_user_fault_in().
 */
int vfio_dirty_fault_in(const struct vfio_dma *dma, u64 base,
			const struct vfio_dirty_request *request)
{
	struct dirty_words words = dirty_words_of(dma, base, request);

	return words_fault_in(&words);
}

/*
 * The same for all mappings of a range from @iova on.  They may come and go meanwhile:
 * what is reported in the end is decided later.
 */
static int dirty_fault_in_range(struct vfio_dma_tree *tree, u64 base, u64 iova, u64 last,
				const struct vfio_dirty_request *request)
{
	struct dirty_words words;
	struct vfio_dma *dma;
	bool more = true;
	int ret = 0;

	while (more && !ret) {
		words.nr = 0;
		spin_lock(&tree->lock);
		dma = vfio_dma_tree_first(tree, iova, last);
		if (dma && dma->iova >= base && dma->last <= last && !dirty_ignores(dma))
			words = dirty_words_of(dma, base, request);
		more = dma && dma->last < last;
		if (more)
			iova = dma->last + 1;
		spin_unlock(&tree->lock);
		if (words.nr)
			ret = words_fault_in(&words);
	}
	return ret;
}

/* A mapping that a range cuts in two, or NULL. */
static struct vfio_dma *dirty_find_cut(struct vfio_dma_tree *tree, u64 iova, u64 last)
{
	struct vfio_dma *dma = vfio_dma_tree_first(tree, iova, iova);

	if (dma && !dirty_ignores(dma) && (dma->iova < iova || dma->last > last))
		return dma;
	dma = vfio_dma_tree_first(tree, last, last);
	return dma && !dirty_ignores(dma) && dma->last > last ? dma : NULL;
}

/* Can this be asked for? */
static int dirty_get_check(struct vfio_type1_container *container, u64 iova, u64 size,
			   const struct vfio_dirty_request *request)
{
	u64 pgsize = vfio_container_pgsize(container);
	struct vfio_dma *cut;

	if (request->pgsize != pgsize || (iova | size) & (pgsize - 1)) {
		vfio_refuse(container, VFIO_REFUSE_DIRTY,
			    "DIRTY_PAGES iova 0x%llx size 0x%llx pgsize 0x%llx: not all aligned to the IOMMU's smallest page, 0x%llx, which pgsize has to be",
			    iova, size, request->pgsize, pgsize);
		return -EINVAL;
	}
	/* The bitmaps were made for another page size if a group came or went. */
	if (!container->dirty_tracking || BIT_ULL(container->dirty_shift) != pgsize) {
		vfio_refuse(container, VFIO_REFUSE_DIRTY,
			    "DIRTY_PAGES: no dirty bitmap for pages of 0x%llx bytes: tracking is %s",
			    pgsize, container->dirty_tracking ? "on for others" : "off");
		return -EINVAL;
	}
	cut = dirty_find_cut(&container->tree, iova, iova + size - 1);
	if (cut) {
		vfio_refuse(container, VFIO_REFUSE_BISECT,
			    "DIRTY_PAGES iova 0x%llx size 0x%llx: cuts the mapping 0x%llx-0x%llx in two",
			    iova, size, (u64)cut->iova, (u64)cut->last);
		return -EINVAL;
	}
	return 0;
}

/*
 * Report all mappings of a range.  Return: 0; -EINTR; or 1 with @missing set to the first
 * byte of the mapping for which user memory has to be faulted in.
 */
static int dirty_report_range(struct vfio_type1_container *container, u64 iova, u64 last,
			      const struct vfio_dirty_request *request, u64 *missing)
{
	struct vfio_dma *dma;

	for (dma = vfio_dma_tree_first(&container->tree, iova, last); dma && dma->iova <= last;
	     dma = vfio_dma_tree_next(dma)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (dirty_ignores(dma))
			continue;
		if (!vfio_dirty_report(container, dma, iova, request)) {
			*missing = dma->iova;
			return 1;
		}
	}
	return 0;
}

/* What was reported is clean. */
static void dirty_clean_range(struct vfio_type1_container *container, u64 iova, u64 last)
{
	struct vfio_dma *dma;

	for (dma = vfio_dma_tree_first(&container->tree, iova, last); dma && dma->iova <= last;
	     dma = vfio_dma_tree_next(dma)) {
		if (dirty_ignores(dma))
			continue;
		bitmap_zero(dma->dirty, dirty_nbits(container, dma));
		dirty_mark_pinned(container, dma);
		cond_resched();
	}
}

/**
 * vfio_dirty_get() - VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
 * @container: the container
 * @iova: first byte of the range
 * @size: bytes
 * @request: where to report
 *
 * What was reported is clean afterwards, but for what is pinned.  On failure nothing is
 * clean that was not, whatever was copied to user space.
 *
 * Context: may sleep and fault user memory in; takes container->lock for writing.
 * Return: 0; -EINVAL if tracking is off, a value is not aligned to the smallest
 * page, @request->pgsize is not that page, or the range cuts a mapping in two;
 * -EFAULT; -EINTR on a fatal signal.
 */
int vfio_dirty_get(struct vfio_type1_container *container, u64 iova, u64 size,
		   const struct vfio_dirty_request *request)
{
	u64 last = iova + size - 1, missing;
	unsigned int n;
	int ret;

	for (n = 0; n < VFIO_FAULT_IN_MAX; n++) {
		down_write(&container->lock);
		ret = dirty_get_check(container, iova, size, request) ?:
		      dirty_report_range(container, iova, last, request, &missing);
		if (!ret)
			dirty_clean_range(container, iova, last);
		up_write(&container->lock);
		if (ret > 0)
			ret = dirty_fault_in_range(&container->tree, iova, missing, last, request);
		else
			return ret;
		if (ret)
			return ret;
	}
	return -EFAULT;
}
