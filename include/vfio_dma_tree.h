/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Mappings, and the set of them (vfio_dma_tree.c): pure.
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_DMA_TREE_H
#define _VFIO_DMA_TREE_H

#include <linux/build_bug.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/rbtree.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "vfio_account.h"
#include "vfio_runs.h"

struct vfio_region;
struct vfio_type1_container;

enum vfio_dma_state {
	VFIO_DMA_PENDING,	/* MAP is filling it */
	VFIO_DMA_LIVE,		/* nobody's: may be claimed */
	VFIO_DMA_HELD,		/* LIVE, and its run list is being read (debugfs) */
	VFIO_DMA_DYING,		/* UNMAP is emptying it */
	VFIO_DMA_KEPT,		/* unmapped, but in-kernel users have not unpinned all */
};

/**
 * struct vfio_region_use - a mapping of registered memory among those of its region
 * @next: in the region's list, while the region is in its registry; region->lock
 * @rb: in the region's tree by pages, once it is orphaned; region->mapped_lock
 * @subtree_last: last page of the mappings at and below @rb; region->mapped_lock
 * @container: whose mapping it is, only to be compared, constant
 */
struct vfio_region_use {
	union {
		struct hlist_node next;
		struct {
			struct rb_node rb;
			unsigned long subtree_last;
		};
	};
	const struct vfio_type1_container *container;
};

/**
 * struct vfio_dma - one mapping
 * @node: in the tree; tree->lock
 * @claim: in the list of the UNMAP that owns it, while DYING; the owner
 * @begun: vfio_clock() when MAP began, while PENDING; constant
 * @iova: first byte, constant
 * @last: last byte, constant
 * @vaddr: user address of the first byte; container->lock for write
 * @prot: IOMMU_READ, IOMMU_WRITE, constant
 * @state: who owns the inside; tree->lock
 * @mapped: pages, from the first on, that are pinned and in every domain;
 *	the owner, or container->lock for write
 * @locked_vm: pages charged to @owner; the owner, or container->lock for write
 * @runs: run list, without @region; the owner, or container->lock for write
 * @use: with @region
 * @owner: whose memory this is; the owner, or container->lock for write
 * @vaddr_invalid: user space took @vaddr back (VFIO_DMA_UNMAP_FLAG_VADDR);
 *	container->lock for write
 * @late: in-kernel users have been told of an UNMAP, and did not unpin all; the owner
 * @orphaned: all mappings were removed while an UNMAP owned this one;
 *	container->lock for write
 * @region: registered memory that the pages belong to, which has them pinned and
 *	charged; a reference is held; or NULL.  Set by the owner, before the first page.
 *	Then there is no run list, and @locked_vm is zero, unless another process than
 *	the region's was given the mapping
 * @region_page: first page of the mapping in @region, constant
 * @external: struct vfio_pinned_page by IOVA; container->external_lock
 * @dirty: one bit per page of container->dirty_shift, while dirty tracking is
 *	on; allocated and freed like @runs.  Bits: container->external_lock, or
 *	the owner, once it has passed through that lock
 */
struct vfio_dma {
	struct rb_node node;
	union {
		struct list_head claim;
		u64 begun;
	};
	dma_addr_t iova;
	dma_addr_t last;
	unsigned long vaddr;
	int prot;
	enum vfio_dma_state state;
	unsigned long mapped;
	unsigned long locked_vm;
	union {
		struct vfio_runs runs;
		struct vfio_region_use use;
	};
	struct vfio_owner owner;
	bool vaddr_invalid;
	bool late;
	bool orphaned;
	struct vfio_region *region;
	unsigned long region_page;
	struct rb_root external;
	unsigned long *dirty;
};

/* There may be very many, so what each takes is documented; a byte more takes 256. */
static_assert(sizeof(struct vfio_dma) <= 192);

/**
 * vfio_dma_npages() - size of a mapping
 * @dma: the mapping
 *
 * Return: pages.
 */
static inline unsigned long vfio_dma_npages(const struct vfio_dma *dma)
{
	return ((dma->last - dma->iova) >> PAGE_SHIFT) + 1;
}

/**
 * struct vfio_dma_tree - the mappings of a container, ordered by IOVA
 * @lock: protects everything here, and the state of each mapping
 * @root: mappings, which never overlap
 * @kept: mappings that are KEPT, which overlap neither each other nor those in @root
 * @avail: mappings that may still be made
 * @bytes: IOVA of all mappings, in @root and @kept
 * @vaddr_invalid: mappings in @root with vfio_dma.vaddr_invalid; changes also
 *	need container->lock, so that its writer sees a stable number
 * @changes: counts settled and removed mappings, for those who wait
 * @wait: where they wait
 */
struct vfio_dma_tree {
	spinlock_t lock; /* the set, the states */
	struct rb_root root;
	struct rb_root kept;
	unsigned int avail;
	u64 bytes;
	unsigned int vaddr_invalid;
	unsigned long changes;
	wait_queue_head_t wait;
};

void vfio_dma_tree_init(struct vfio_dma_tree *tree, unsigned int avail);
struct vfio_dma *vfio_dma_tree_first(struct vfio_dma_tree *tree, u64 iova, u64 last);
struct vfio_dma *vfio_dma_tree_first_kept(struct vfio_dma_tree *tree, u64 iova, u64 last);
struct vfio_dma *vfio_dma_tree_next(struct vfio_dma *dma);
struct vfio_dma *vfio_dma_tree_range(struct vfio_dma_tree *tree, u64 iova, u64 last,
				     struct vfio_dma **cut);
int vfio_dma_tree_insert(struct vfio_dma_tree *tree, struct vfio_dma *dma,
			 struct vfio_dma **overlap);
void vfio_dma_tree_settle(struct vfio_dma_tree *tree, struct vfio_dma *dma);
void vfio_dma_tree_keep(struct vfio_dma_tree *tree, struct vfio_dma *dma);
void vfio_dma_tree_remove(struct vfio_dma_tree *tree, struct vfio_dma *dma);
int vfio_dma_tree_wait(struct vfio_dma_tree *tree, unsigned long changes);
void vfio_dma_tree_wake(struct vfio_dma_tree *tree);

#endif /* _VFIO_DMA_TREE_H */
