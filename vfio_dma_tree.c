// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ordered set of mappings of a container, and their states.
 *
 * Mappings never overlap, whatever their state: a mapping is in the tree, and
 * its IOVA taken, from before its first page is pinned until after its last
 * one is unpinned.  States:
 *
 *	(insert) --> PENDING --settle--> LIVE --claim--> DYING --remove--> gone
 *	                \______________________remove_________________/ \        \
 *	                                                                keep--> KEPT
 *
 * What was unmapped while in-kernel users had pages of it pinned is KEPT until they
 * unpin: in a tree of its own, since to all but a new mapping it is not there.
 *
 * While debugfs reads the run list of a LIVE mapping it is HELD, and then settled
 * again.
 *
 * Who meets somebody else's PENDING, HELD or DYING mapping notes tree->changes,
 * drops all locks, and calls vfio_dma_tree_wait().
 *
 * Pure: knows nothing of the IOMMU or of user memory.
 */

#include <linux/lockdep.h>

#include "vfio_dma_tree.h"

/**
 * vfio_dma_tree_init() - make an empty set
 * @tree: what to initialise
 * @avail: how many mappings it may hold
 */
void vfio_dma_tree_init(struct vfio_dma_tree *tree, unsigned int avail)
{
	spin_lock_init(&tree->lock);
	tree->root = RB_ROOT;
	tree->kept = RB_ROOT;
	tree->avail = avail;
	tree->bytes = 0;
	tree->vaddr_invalid = 0;
	tree->changes = 0;
	init_waitqueue_head(&tree->wait);
}

static struct vfio_dma *tree_first(struct rb_root *root, u64 iova, u64 last)
{
	struct rb_node *node = root->rb_node;
	struct vfio_dma *first = NULL;

	while (node) {
		struct vfio_dma *dma = rb_entry(node, struct vfio_dma, node);

		if (dma->last < iova) {
			node = node->rb_right;
		} else {
			first = dma;
			if (dma->iova <= iova)
				break;
			node = node->rb_left;
		}
	}
	return first && first->iova <= last ? first : NULL;
}

/**
 * vfio_dma_tree_first() - the lowest mapping that touches a range
 * @tree: the set
 * @iova: first byte of the range
 * @last: last byte of the range
 *
 * Context: tree->lock held, or container->lock held for write.
 * Return: the mapping, or NULL.
 */
struct vfio_dma *vfio_dma_tree_first(struct vfio_dma_tree *tree, u64 iova, u64 last)
{
	return tree_first(&tree->root, iova, last);
}

/**
 * vfio_dma_tree_first_kept() - the lowest KEPT mapping that touches a range
 * @tree: the set
 * @iova: first byte of the range
 * @last: last byte of the range
 *
 * Context: tree->lock held, or container->lock held for write.
 * Return: the mapping, or NULL.
 */
struct vfio_dma *vfio_dma_tree_first_kept(struct vfio_dma_tree *tree, u64 iova, u64 last)
{
	return tree_first(&tree->kept, iova, last);
}

/**
 * vfio_dma_tree_next() - the mapping after another one
 * @dma: a mapping in the tree
 *
 * Context: tree->lock held, or container->lock held for write.
 * Return: the next mapping by IOVA, or NULL; after a KEPT one, the next KEPT one.
 */
struct vfio_dma *vfio_dma_tree_next(struct vfio_dma *dma)
{
	struct rb_node *node = rb_next(&dma->node);

	return node ? rb_entry(node, struct vfio_dma, node) : NULL;
}

/**
 * vfio_dma_tree_range() - what a range touches, and what it cuts in two
 * @tree: the set
 * @iova: first byte of the range
 * @last: last byte of the range
 * @cut: set to a mapping that is partly inside and partly outside, or NULL
 *
 * Context: tree->lock held, or container->lock held for write.
 * Return: the lowest mapping that touches the range, or NULL.
 */
struct vfio_dma *vfio_dma_tree_range(struct vfio_dma_tree *tree, u64 iova, u64 last,
				     struct vfio_dma **cut)
{
	struct vfio_dma *first = vfio_dma_tree_first(tree, iova, last), *end = first;

	*cut = NULL;
	if (!first)
		return NULL;
	if (first->last < last)
		end = vfio_dma_tree_first(tree, last, last);
	if (first->iova < iova)
		*cut = first;
	else if (end && end->last > last)
		*cut = end;
	return first;
}

/**
 * vfio_dma_tree_insert() - take the IOVA of a new mapping
 * @tree: the set
 * @dma: mapping with @iova and @last set; becomes PENDING, owned by the caller
 * @overlap: set to a mapping in the way, when there is one
 *
 * Context: tree->lock held.
 * Return: 0; -EEXIST if another mapping overlaps; -EBUSY if none does but one that is
 * KEPT; -ENOSPC if the set is full.
 */
int vfio_dma_tree_insert(struct vfio_dma_tree *tree, struct vfio_dma *dma,
			 struct vfio_dma **overlap)
{
	struct rb_node **link = &tree->root.rb_node, *parent = NULL;

	lockdep_assert_held(&tree->lock);
	while (*link) {
		struct vfio_dma *other = rb_entry(*link, struct vfio_dma, node);

		parent = *link;
		if (dma->last < other->iova) {
			link = &parent->rb_left;
		} else if (dma->iova > other->last) {
			link = &parent->rb_right;
		} else {
			*overlap = other;
			return -EEXIST;
		}
	}
	if (!RB_EMPTY_ROOT(&tree->kept)) {
		struct vfio_dma *kept = vfio_dma_tree_first_kept(tree, dma->iova, dma->last);

		if (kept) {
			*overlap = kept;
			return -EBUSY;
		}
	}
	if (!tree->avail)
		return -ENOSPC;
	WRITE_ONCE(tree->avail, tree->avail - 1);
	WRITE_ONCE(tree->bytes, tree->bytes + (dma->last - dma->iova + 1));
	dma->state = VFIO_DMA_PENDING;
	rb_link_node(&dma->node, parent, link);
	rb_insert_color(&dma->node, &tree->root);
	return 0;
}

/**
 * vfio_dma_tree_settle() - hand a mapping back: it is whole and nobody's
 * @tree: the set
 * @dma: mapping owned by the caller; becomes LIVE
 *
 * Call vfio_dma_tree_wake() once tree->lock is dropped.
 *
 * Context: tree->lock held.
 */
void vfio_dma_tree_settle(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	lockdep_assert_held(&tree->lock);
	dma->state = VFIO_DMA_LIVE;
	WRITE_ONCE(tree->changes, tree->changes + 1);
}

/**
 * vfio_dma_tree_keep() - let a mapping be gone, but for its IOVA and its entry
 * @tree: the set
 * @dma: DYING mapping owned by the caller, in no domain; becomes KEPT
 *
 * Call vfio_dma_tree_wake() once tree->lock is dropped.
 *
 * Context: tree->lock held.
 */
void vfio_dma_tree_keep(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	struct rb_node **link = &tree->kept.rb_node, *parent = NULL;

	lockdep_assert_held(&tree->lock);
	rb_erase(&dma->node, &tree->root);
	WRITE_ONCE(tree->vaddr_invalid, tree->vaddr_invalid - dma->vaddr_invalid);
	dma->vaddr_invalid = false;
	while (*link) {
		parent = *link;
		if (dma->iova < rb_entry(parent, struct vfio_dma, node)->iova)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	dma->state = VFIO_DMA_KEPT;
	rb_link_node(&dma->node, parent, link);
	rb_insert_color(&dma->node, &tree->kept);
	WRITE_ONCE(tree->changes, tree->changes + 1);
}

/**
 * vfio_dma_tree_remove() - give the IOVA of a mapping back
 * @tree: the set
 * @dma: mapping owned by the caller, without pages
 *
 * Call vfio_dma_tree_wake() once tree->lock is dropped, if anybody can have seen
 * @dma unsettled.
 *
 * Context: tree->lock held.
 */
void vfio_dma_tree_remove(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	lockdep_assert_held(&tree->lock);
	rb_erase(&dma->node, dma->state == VFIO_DMA_KEPT ? &tree->kept : &tree->root);
	WRITE_ONCE(tree->vaddr_invalid, tree->vaddr_invalid - dma->vaddr_invalid);
	WRITE_ONCE(tree->avail, tree->avail + 1);
	WRITE_ONCE(tree->bytes, tree->bytes - (dma->last - dma->iova + 1));
	WRITE_ONCE(tree->changes, tree->changes + 1);
}

/**
 * vfio_dma_tree_wait() - wait until some mapping was settled or removed
 * @tree: the set
 * @changes: tree->changes, read under the tree->lock under which the mapping in
 *	the way was seen
 *
 * Context: may sleep; no lock held, for the mapping's owner may need any.
 * Return: 0; -EINTR if a fatal signal came first.
 */
int vfio_dma_tree_wait(struct vfio_dma_tree *tree, unsigned long changes)
{
	if (wait_event_killable(tree->wait, READ_ONCE(tree->changes) != changes))
		return -EINTR;
	return 0;
}

/**
 * vfio_dma_tree_wake() - wake those who wait for a change
 * @tree: the set
 *
 * Context: tree->lock not held.
 */
void vfio_dma_tree_wake(struct vfio_dma_tree *tree)
{
	if (wq_has_sleeper(&tree->wait))
		wake_up_all(&tree->wait);
}
