/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The words and the locks of vfio_iommu_type1, and a container.  Each room has a header of its
 * own, and Documentation/internals.rst says which room is where.
 *
 * Words:
 *
 *  - IOVA: an address as the device sees it.  @last is inclusive, @end is
 *    exclusive; an IOVA may reach U64_MAX, so ranges are kept as first and last.
 *  - mapping (struct vfio_dma): what one VFIO_IOMMU_MAP_DMA made.
 *  - run: a stretch of a mapping given to iommu_map() in one call: physically
 *    contiguous and of one kind: pinned or not, charged or not.
 *  - RAM: pages that are pinned and charged.
 *  - reserved: page frames without a struct page, or with PageReserved.  They are not
 *    charged; whether they are pinned depends on how they were found.
 *  - run list: the runs of a mapping, a word each.
 *  - window: whole runs taken out of the primary domain before one IOTLB sync.
 *  - primary domain: the first one of a container; where a run list was lost,
 *    physical addresses are read back from it.
 *
 * Locks, outermost first:
 *
 *  container->lock (rw_semaphore)
 *	write: the list of domains and their groups, the valid IOVA ranges,
 *	pgsize_bitmap.  read: everything that maps, unmaps or looks.  Its writer
 *	owns the inside of every mapping, whatever the mapping's state.  Not held
 *	while MAP pins, or anybody waits for user memory to be copied from or to;
 *	Documentation/internals.rst says what is looked at again afterwards.
 *  mapping state (PENDING, LIVE, HELD, DYING, KEPT)
 *	whoever moved a mapping to PENDING or DYING owns its inside: pages,
 *	run list, IOPTEs, charge.  Whoever moved it to HELD may read it, and
 *	keeps container->lock until it is LIVE again.  Nobody waits for a state with
 *	container->lock held: the owner may need that lock to get on.  A KEPT one is
 *	external_lock's.
 *  container->external_lock (mutex)
 *	what in-kernel users have pinned, and the dirty bits they set.  UNMAP
 *	passes through it between claiming a mapping and emptying it, so that a
 *	mapping that was LIVE under it stays until it is dropped.  Also, while in-kernel
 *	users are late (vfio_dma.late), a mapping's charge.
 *  registry->mutex
 *	which regions a registry has.  Never held across a look at user memory, which
 *	may wait for as long as the process likes.
 *  registries_lock (spinlock, in vfio_registry.c)
 *	the set of registries, and how many containers each has.  All processes wait for
 *	it, and it is taken inside the VFIO core's own lock of that kind: held for no
 *	longer than it takes to find a registry.
 *  registry->lock (rw_semaphore)
 *	the tree of regions; held for as long as it takes to change the tree, or to
 *	look for one region in it, as MAP does, which takes a reference to it.
 *  region->mapped_lock (mutex)
 *	what is mapped, and so stays pinned, of a region that left its registry.
 *  mmap_lock of the mapping's mm
 *	taken by pinning and by accounting.
 *  region->lock (spinlock)
 *	the marks of a region, and its mappings while it is in its registry.  The
 *	process's memory changes under it, with any lock of the memory management
 *	held: nothing else is taken inside.
 *  tree->lock (spinlock)
 *	the set of mappings, their states and the entry budget.  Never held
 *	across anything that sleeps.
 *
 * and, outside of all of these, container->device_lock (mutex): the list of
 * in-kernel devices, also while they are told of an unmap; being told, they
 * unpin, which takes container->lock; and container->debugfs_lock (mutex): one
 * reader at a time makes mappings HELD.
 *
 * Invariants:
 *
 *  - A page is unpinned only after no domain can reach it: all domains
 *    unmapped and IOTLB synced.
 *  - Every charge to locked_vm is refunded once, to the mm it was charged to.
 *  - Only whole runs are unmapped, and never an IOVA that is not mapped: VT-d
 *    up to 6.12 unmaps too much, or walks into guest memory, otherwise.
 *  - When a call of an IOMMU driver may free page tables, nothing waits for a sync,
 *    and a sync comes next (vfio_gather_unmap()).  No call that maps frees one
 *    (vfio_domain_map()).
 *  - If a domain gives back fewer bytes than asked, the pins past that point
 *    are leaked, never unpinned.
 *  - What failed to be mapped may be there all the same: nothing of it is given back
 *    before vfio_domain_sweep() has looked.
 *  - The pages of a region are unpinned once, after the last mapping of them is
 *	in no domain: as long as it is registered all of them stay, and when it no longer
 *	is, those of its mappings.
 *  - IOVA that an in-kernel user has pinned is no other memory's before it unpins.
 *  - A failed MAP leaves nothing behind.  UNMAP, detach and release never fail
 *    and never allocate what they cannot do without.
 */
#ifndef _VFIO_TYPE1_H
#define _VFIO_TYPE1_H

#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "vfio_dma_tree.h"
#include "vfio_iova.h"
#include "vfio_spares.h"

struct dentry;
struct ratelimit_state;
struct vfio_counters;
struct vfio_registry;

/* Run maps, dirty bitmaps and IOVA are all handled in words of 64 bits. */
static_assert(BITS_PER_LONG == 64);

#undef pr_fmt
#define pr_fmt(fmt) "vfio_iommu_type1: " fmt

/**
 * struct vfio_type1_container - one open container that uses this backend
 * @users: until it is released, and each call that is under way
 * @published: in the set of containers by number, until it is released; RCU
 * @rcu: frees it, when nobody looks at @users any more
 * @closed: destroyed, waiting for @users; @lock
 * @lock: see the top of this file
 * @generation: grows whenever domains, or what IOVA is valid, may have changed; @lock
 * @domains: struct vfio_domain, the primary first; @lock
 * @emulated: struct vfio_group_entry of groups without an IOMMU (mdev); @lock
 * @external_lock: see the top of this file
 * @device_lock: see the top of this file
 * @devices: struct vfio_device by iommu_entry; @device_lock, but for a device
 *	that looks whether it is registered itself
 * @iova: valid ranges, meaningful while there is a domain; @lock
 * @pgsize_bitmap: page sizes that all domains have; @lock
 * @table_last: highest IOVA that page tables reach without growing; @lock, see
 *	vfio_container_lock_reach()
 * @noncoherent: some domain does not enforce cache coherency, or did not; set only, @lock
 * @dirty_tracking: each mapping has a dirty bitmap; @lock
 * @dirty_shift: page size that a bit of them stands for; @lock
 * @dirty_groups: groups without vfio_group_entry.pins_only; @lock and
 *	@external_lock
 * @tree: the mappings
 * @entry_limit: how many mappings @tree was made for, constant
 * @evict_waits: how often an UNMAP waits for in-kernel users to unpin: for 1 ms, then for
 *	twice as long as the time before; constant
 * @map_scratch: struct vfio_map_scratch that no MAP uses now
 * @window_runs: arrays of VFIO_WINDOW_RUNS runs that no UNMAP uses now
 * @refused: how often each enum vfio_refusal was given
 * @refuse_limit: limits the rate of messages, per enum vfio_refusal
 * @registry: what the process that this container belongs to has registered, or
 *	NULL; @lock
 * @registers: memory was registered through it, or that was asked for; set once
 * @v2: VFIO_TYPE1v2_IOMMU semantics, constant
 * @strict: only registered memory can be mapped, constant
 * @nesting: VFIO_TYPE1_NESTING_IOMMU, constant
 * @id: number, in the order in which containers were opened, constant; what the VFIO
 *	core knows the container by
 * @opener_pid: thread group that opened the container, constant
 * @opener_comm: its name then, constant
 * @opened: vfio_clock() then, constant
 * @opened_ns: ktime_get_ns() then, constant
 * @counters: see enum vfio_count
 * @debugfs: directory in debugfs, or an ERR_PTR, or NULL; constant
 * @debugfs_lock: see the top of this file
 */
struct vfio_type1_container {
	struct kref users;
	struct hlist_node published;
	struct rcu_head rcu;
	bool closed;
	struct rw_semaphore lock;
	unsigned long generation;
	struct list_head domains;
	struct list_head emulated;
	struct mutex external_lock; /* external pins, dirty bits */
	struct mutex device_lock; /* devices */
	struct list_head devices;
	struct vfio_iova_set iova;
	unsigned long pgsize_bitmap;
	u64 table_last;
	bool noncoherent;
	bool dirty_tracking;
	unsigned int dirty_shift;
	unsigned int dirty_groups;
	struct vfio_dma_tree tree;
	unsigned int entry_limit;
	unsigned int evict_waits;
	struct vfio_spares map_scratch;
	struct vfio_spares window_runs;
	atomic_long_t *refused;
	struct ratelimit_state *refuse_limit;
	struct vfio_registry *registry;
	bool registers;
	bool v2;
	bool strict;
	bool nesting;
	u64 id;
	pid_t opener_pid;
	char opener_comm[TASK_COMM_LEN];
	u64 opened;
	u64 opened_ns;
	struct vfio_counters __percpu *counters;
	struct dentry *debugfs;
	struct mutex debugfs_lock; /* one reader of the mappings */
};

#endif /* _VFIO_TYPE1_H */
