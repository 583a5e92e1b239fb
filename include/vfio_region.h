/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registered memory (vfio_region.c, vfio_region_marks.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_REGION_H
#define _VFIO_REGION_H

#include <linux/interval_tree_generic.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "vfio_account.h"
#include "vfio_dma_tree.h"
#include "vfio_iova.h"
#include "vfio_params.h"
#include "vfio_runs.h"
#include "vfio_watch.h"

struct vfio_type1_container;

/**
 * struct vfio_region_request - memory that is to be registered
 * @vaddr: first byte, page aligned, without a tag
 * @npages: pages, at least one
 * @read_only: devices may only read it
 */
struct vfio_region_request {
	unsigned long vaddr;
	unsigned long npages;
	bool read_only;
};

/* A region has a slot for each of these of user addresses, aligned to them. */
#define VFIO_SLOT_BYTES		SZ_2M
#define VFIO_SLOT_PAGES		(VFIO_SLOT_BYTES >> PAGE_SHIFT)

/**
 * struct vfio_region - registered memory
 * @node: in the registry's tree
 * @users: being registered, each mapping of it, and each call that wants to register it
 *	again, and looks whether the process still has this memory
 * @vaddr: first byte, constant
 * @npages: pages, constant
 * @read_only: devices may only read it, constant
 * @kept: an IOMMU did not let go of a page: all stay pinned
 * @orphaned: it left its registry with the process or its last container, and no more is
 *	pinned than what is mapped; set once, under @lock
 * @writeback: devices may write to some of it that a file system writes back; constant
 *	while in the tree
 * @flush: some of it was mapped where devices may pass by the CPU's caches; set only
 * @registered: how often it was registered; registry->mutex
 * @owner: whose memory this is, and who is charged
 * @locked_vm: pages charged to @owner, constant while in the tree, then @mapped_lock
 * @mapped_lock: see vfio_type1.h
 * @mapped: vfio_region_use.rb of all mappings, once @orphaned; @mapped_lock
 * @lock: see vfio_type1.h
 * @mappings: vfio_region_use.next of all mappings, until @orphaned; @lock
 * @nr_mappings: how many mappings there are; changes under @lock
 * @nr_marked: slots with a mark; changes under @lock
 * @watch: tells of changes of the process's memory, while in the tree; also whether some of
 *	it is, or, while it is being filled, may be hugetlb memory
 * @slots: which page frames there are: see vfio_slots.h.  Marks change under
 *	@lock, the rest is constant
 */
struct vfio_region {
	struct rb_node node;
	refcount_t users;
	unsigned long vaddr;
	unsigned long npages;
	bool read_only;
	bool kept;
	bool orphaned;
	bool writeback;
	bool flush;
	unsigned long registered;
	struct vfio_owner owner;
	unsigned long locked_vm;
	struct mutex mapped_lock; /* an orphan's mappings and pins */
	struct rb_root_cached mapped;
	spinlock_t lock; /* marks, mappings */
	struct hlist_head mappings;
	unsigned int nr_mappings;
	unsigned int nr_marked;
	struct vfio_watch watch;
	u64 slots[];
};

/**
 * vfio_dma_run_limit() - how long may a run of a mapping be?
 * @dma: the mapping
 * @page: where the run starts
 *
 * Return: pages from there on up to where a run has to end.
 */
static inline unsigned long vfio_dma_run_limit(const struct vfio_dma *dma, unsigned long page)
{
	u64 iova = dma->iova + ((u64)page << PAGE_SHIFT);

	if (READ_ONCE(vfio_type1_params.disable_hugepages))
		return 1;
	return (VFIO_RUN_BYTES_MAX - (iova & (VFIO_RUN_BYTES_MAX - 1))) >> PAGE_SHIFT;
}

/**
 * vfio_dma_keep() - an IOMMU did not let go of a mapping's pages
 * @dma: the mapping
 *
 * Registered memory then stays pinned for ever.  Other memory is up to the caller.
 *
 * Context: the caller owns @dma.
 */
static inline void vfio_dma_keep(struct vfio_dma *dma)
{
	if (dma->region)
		WRITE_ONCE(dma->region->kept, true);
}

/**
 * vfio_dma_writeback() - does a file system have to hear of what devices write?
 * @dma: the mapping
 *
 * Unpinning tells it; but registered memory is not unpinned with its mappings.
 *
 * Return: true if vfio_region_dirty() has to tell, once no device writes any more.
 */
static inline bool vfio_dma_writeback(const struct vfio_dma *dma)
{
	return dma->region && dma->region->writeback && dma->prot & IOMMU_WRITE;
}

/**
 * vfio_region_last() - where a region ends
 * @region: a region
 *
 * Return: user address of the last byte.
 */
static inline unsigned long vfio_region_last(const struct vfio_region *region)
{
	return region->vaddr + (region->npages << PAGE_SHIFT) - 1;
}

/**
 * vfio_region_mappings() - how many mappings use a region
 * @region: a region
 *
 * Return: mappings, just now.
 */
static inline unsigned int vfio_region_mappings(const struct vfio_region *region)
{
	return READ_ONCE(region->nr_mappings);
}

/**
 * struct vfio_region_busy - why a region cannot be unregistered
 * @nr_mappings: how many mappings use it
 * @iova: where one of them is
 * @container: whose that is, only to be compared
 */
struct vfio_region_busy {
	unsigned int nr_mappings;
	struct vfio_iova_span iova;
	const struct vfio_type1_container *container;
};

/**
 * struct vfio_region_view - what a region was like at some time
 * @vaddr: first byte
 * @npages: pages
 * @read_only: devices may only read it
 * @pid: thread group that registered it
 * @registered: how often it was registered
 * @mappings: mappings of it
 * @locked_vm: pages charged
 * @nr_marked: slots with a mark
 * @kept: all pages stay pinned
 */
struct vfio_region_view {
	unsigned long vaddr;
	unsigned long npages;
	bool read_only;
	pid_t pid;
	unsigned long registered;
	unsigned int mappings;
	unsigned long locked_vm;
	unsigned int nr_marked;
	bool kept;
};

struct vfio_region *vfio_region_create(struct vfio_type1_container *container,
				       const struct vfio_region_request *request,
				       struct work_struct *gone);
void vfio_region_put(struct vfio_region *region);
void vfio_region_join(struct vfio_region *region, struct vfio_dma *dma,
		      const struct vfio_type1_container *container, unsigned long page);
void vfio_region_leave(struct vfio_dma *dma);
void vfio_region_orphan(struct vfio_region *region);
bool vfio_region_busy(struct vfio_region *region, struct vfio_region_busy *busy);
bool vfio_region_mark(struct vfio_region *region, unsigned long *vaddr, unsigned long last);
int vfio_region_check_marked(struct vfio_region *region, unsigned long page,
			     unsigned long npages, unsigned long *changed);
struct vfio_run vfio_region_run(const struct vfio_region *region, unsigned long page,
				unsigned long max);
unsigned long vfio_region_count_ram(const struct vfio_region *region, unsigned long page,
				    unsigned long npages);
void vfio_region_dirty(const struct vfio_region *region, unsigned long page,
		       unsigned long npages);
struct vfio_run vfio_region_mapping_run(const struct vfio_dma *dma, unsigned long page);

#endif /* _VFIO_REGION_H */
