// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages of a mapping in-kernel users have pinned, by IOVA.
 *
 * Pure: knows nothing of the IOMMU or of user memory.
 */

#include <linux/iommu.h>

#include "vfio_dma_tree.h"
#include "vfio_pinned.h"
#include "vfio_runs.h"

/**
 * vfio_pinned_find() - is a page pinned?
 * @dma: the mapping
 * @iova: first byte of the page
 *
 * Context: container->external_lock held, or the caller owns @dma.
 * Return: the page, or NULL.
 */
struct vfio_pinned_page *vfio_pinned_find(const struct vfio_dma *dma, u64 iova)
{
	struct rb_node *node = dma->external.rb_node;

	while (node) {
		struct vfio_pinned_page *pin = rb_entry(node, struct vfio_pinned_page, node);

		if (iova == pin->iova)
			return pin;
		node = iova < pin->iova ? node->rb_left : node->rb_right;
	}
	return NULL;
}

/**
 * vfio_pinned_insert() - remember a page
 * @dma: the mapping
 * @pin: the page, which is not pinned yet
 *
 * Context: container->external_lock held.
 */
void vfio_pinned_insert(struct vfio_dma *dma, struct vfio_pinned_page *pin)
{
	struct rb_node **link = &dma->external.rb_node, *parent = NULL;

	while (*link) {
		parent = *link;
		if (pin->iova < rb_entry(parent, struct vfio_pinned_page, node)->iova)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&pin->node, parent, link);
	rb_insert_color(&pin->node, &dma->external);
}

/**
 * vfio_pinned_first() - the page with the lowest IOVA
 * @dma: the mapping
 *
 * Context: as vfio_pinned_find().
 * Return: the page, or NULL.
 */
struct vfio_pinned_page *vfio_pinned_first(const struct vfio_dma *dma)
{
	return rb_entry_safe(rb_first(&dma->external), struct vfio_pinned_page, node);
}

/**
 * vfio_pinned_next() - the page after another
 * @pin: the page before it
 *
 * Context: as vfio_pinned_find().
 * Return: the page, or NULL.
 */
struct vfio_pinned_page *vfio_pinned_next(struct vfio_pinned_page *pin)
{
	return rb_entry_safe(rb_next(&pin->node), struct vfio_pinned_page, node);
}

/**
 * vfio_pinned_count() - charged pages of a range that in-kernel users have pinned
 * @dma: the mapping
 * @iova: first byte of the range
 * @npages: pages of the range
 *
 * These are what is charged for a range that is in no domain.
 *
 * Context: container->external_lock held, or the caller owns @dma.
 * Return: pages.
 */
unsigned long vfio_pinned_count(const struct vfio_dma *dma, u64 iova, unsigned long npages)
{
	struct rb_node *node = dma->external.rb_node, *first = NULL;
	u64 last = iova + (((u64)npages << PAGE_SHIFT) - 1);
	unsigned long count = 0;

	while (node) {
		if (rb_entry(node, struct vfio_pinned_page, node)->iova < iova) {
			node = node->rb_right;
		} else {
			first = node;
			node = node->rb_left;
		}
	}
	for (node = first; node; node = rb_next(node)) {
		struct vfio_pinned_page *pin = rb_entry(node, struct vfio_pinned_page, node);

		if (pin->iova > last)
			break;
		count += !!(pin->kind & VFIO_RUN_CHARGED);
	}
	return count;
}
