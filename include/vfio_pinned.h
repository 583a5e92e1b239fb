/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which pages of a mapping in-kernel users have pinned (vfio_pinned.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_PINNED_H
#define _VFIO_PINNED_H

#include <linux/rbtree.h>
#include <linux/types.h>

struct vfio_dma;

/**
 * struct vfio_pinned_page - a page that in-kernel users have pinned
 * @node: in vfio_dma.external; container->external_lock
 * @iova: first byte of the page
 * @pfn: page frame
 * @refs: times it was pinned
 * @kind: VFIO_RUN_PINNED, VFIO_RUN_CHARGED: what was done, here or by its region
 * @own: the page is registered memory's, which was unmapped; a reference to it is held
 */
struct vfio_pinned_page {
	struct rb_node node;
	u64 iova;
	unsigned long pfn;
	unsigned int refs;
	u64 kind;
	bool own;
};

struct vfio_pinned_page *vfio_pinned_find(const struct vfio_dma *dma, u64 iova);
void vfio_pinned_insert(struct vfio_dma *dma, struct vfio_pinned_page *pin);
struct vfio_pinned_page *vfio_pinned_first(const struct vfio_dma *dma);
struct vfio_pinned_page *vfio_pinned_next(struct vfio_pinned_page *pin);
unsigned long vfio_pinned_count(const struct vfio_dma *dma, u64 iova, unsigned long npages);

#endif /* _VFIO_PINNED_H */
