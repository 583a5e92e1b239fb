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
 */

#include <linux/bitmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vfio_type1.h"

/* Words copied to user space at a time. */
#define REPORT_WORDS	64

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
	struct rb_node *node;

	for (node = rb_first(&dma->external); node; node = rb_next(node)) {
		struct vfio_external_pin *pin = rb_entry(node, struct vfio_external_pin, node);

		vfio_dirty_mark(container, dma, pin->iova, PAGE_SIZE);
	}
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
		ret = fatal_signal_pending(current) ? -EINTR : vfio_dirty_init(container, dma);
		if (!ret)
			dirty_mark_pinned(container, dma);
		cond_resched();
	}
	if (ret)
		dirty_free_all(container);
	else
		container->dirty_tracking = true;
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
	container->dirty_tracking = false;
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

/* Copy words to user space that share none with another mapping. */
static int report_words(u64 __user *to, const struct vfio_dma *dma, unsigned long nbits, bool all)
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
		if (copy_to_user(to + w, from, n * sizeof(*from)))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

/**
 * vfio_dirty_report() - tell user space which pages of a mapping are dirty
 * @container: a container with dirty tracking on
 * @dma: the mapping
 * @base: IOVA of bit 0 of the bitmap, at or below the mapping
 * @request: where to
 *
 * Context: may fault user memory in; the caller owns @dma.
 * Return: 0; -EFAULT.
 */
int vfio_dirty_report(struct vfio_type1_container *container, struct vfio_dma *dma, u64 base,
		      const struct vfio_dirty_request *request)
{
	unsigned long nbits = dirty_nbits(container, dma);
	unsigned long offset = (dma->iova - base) >> container->dirty_shift;
	u64 __user *to = request->bitmap + offset / BITS_PER_TYPE(u64);
	unsigned int shift = offset % BITS_PER_TYPE(u64);
	unsigned long w, nwords = BITS_TO_U64(nbits + shift);
	bool all = READ_ONCE(container->dirty_groups) && dma->mapped;
	u64 words[REPORT_WORDS] __uninitialized;
	unsigned int n = 0;

	if (!shift)
		return report_words(to, dma, nbits, all);
	for (w = 0; w < nwords; w++) {
		words[n] = dirty_word(dma, nbits, w, all) << shift;
		if (w) {
			words[n] |= dirty_word(dma, nbits, w - 1, all) >> (64 - shift);
		} else {
			u64 below;

			if (copy_from_user(&below, to, sizeof(below)))
				return -EFAULT;
			words[n] |= below & (BIT_ULL(shift) - 1);
		}
		if (++n < REPORT_WORDS && w + 1 < nwords)
			continue;
		if (copy_to_user(to, words, n * sizeof(*words)))
			return -EFAULT;
		to += n;
		n = 0;
		cond_resched();
	}
	return 0;
}

/**
 * vfio_dirty_get() - VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
 * @container: the container
 * @iova: first byte of the range
 * @size: bytes
 * @request: where to report
 *
 * What was reported is clean afterwards, but for what is pinned.
 *
 * Context: may sleep and fault user memory in; takes container->lock for writing.
 * Return: 0; -EINVAL if tracking is off, a value is not aligned to the smallest
 * page, @request->pgsize is not that page, or the range cuts a mapping in two;
 * -EFAULT; -EINTR on a fatal signal.
 */
int vfio_dirty_get(struct vfio_type1_container *container, u64 iova, u64 size,
		   const struct vfio_dirty_request *request)
{
	struct vfio_dma_tree *tree = &container->tree;
	u64 last = iova + size - 1;
	struct vfio_dma *dma, *cut;
	u64 pgsize;
	int ret = -EINVAL;

	down_write(&container->lock);
	pgsize = vfio_container_pgsize(container);
	if (request->pgsize != pgsize || (iova | size) & (pgsize - 1)) {
		vfio_refuse(container, VFIO_REFUSE_DIRTY,
			    "DIRTY_PAGES iova 0x%llx size 0x%llx pgsize 0x%llx: not all aligned to the IOMMU's smallest page, 0x%llx, which pgsize has to be",
			    iova, size, request->pgsize, pgsize);
		goto unlock;
	}
	/* The bitmaps were made for another page size if a group came or went. */
	if (!container->dirty_tracking || BIT_ULL(container->dirty_shift) != pgsize) {
		vfio_refuse(container, VFIO_REFUSE_DIRTY,
			    "DIRTY_PAGES: no dirty bitmap for pages of 0x%llx bytes: tracking is %s",
			    pgsize, container->dirty_tracking ? "on for others" : "off");
		goto unlock;
	}
	dma = vfio_dma_tree_range(tree, iova, last, &cut);
	if (cut) {
		vfio_refuse(container, VFIO_REFUSE_BISECT,
			    "DIRTY_PAGES iova 0x%llx size 0x%llx: cuts the mapping 0x%llx-0x%llx in two",
			    iova, size, (u64)cut->iova, (u64)cut->last);
		goto unlock;
	}

	ret = 0;
	for (; dma && dma->iova <= last; dma = vfio_dma_tree_next(dma)) {
		ret = fatal_signal_pending(current) ? -EINTR :
		      vfio_dirty_report(container, dma, iova, request);
		if (ret)
			break;
		bitmap_zero(dma->dirty, dirty_nbits(container, dma));
		dirty_mark_pinned(container, dma);
	}
unlock:
	up_write(&container->lock);
	return ret;
}
