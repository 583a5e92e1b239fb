/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The internal types of vfio_iommu_type1, each field with its lock.
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
#include <linux/capability.h>
#include <linux/iommu.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/rbtree.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timex.h>
#include <linux/types.h>
#include <linux/user_namespace.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "compat/compiler.h"
#include "compat/iommu.h"
#include "compat/mm.h"
#include "vfio_driver_abi.h"

struct vfio_device;
struct vfio_region;

/* Run maps, dirty bitmaps and IOVA are all handled in words of 64 bits. */
static_assert(BITS_PER_LONG == 64);

#undef pr_fmt
#define pr_fmt(fmt) "vfio_iommu_type1: " fmt

struct vfio_type1_container;

/* ---- parameters (vfio_iommu_type1.c) ---- */

/* How UNMAP finds the physically contiguous stretches of a mapping. */
enum vfio_unmap_walk {
	VFIO_UNMAP_RUNS,	/* run list; where it was lost, by what the probe found */
	VFIO_UNMAP_FGSP,	/* unmap one page, take what comes back */
	VFIO_UNMAP_COARSE,	/* walk iova_to_phys() to the end of the chunk */
};

/**
 * struct vfio_type1_params - the module's parameters
 * @allow_unsafe_interrupts: attach groups without MSI isolation
 * @disable_hugepages: make every page a run of its own
 * @dma_entry_limit: mappings per container, read when a container is opened
 * @unmap_walk: enum vfio_unmap_walk, for tests and comparison
 * @flush_noncoherent: keep the CPU's caches out of the way of devices that do not look there
 */
struct vfio_type1_params {
	bool allow_unsafe_interrupts;
	bool disable_hugepages;
	unsigned int dma_entry_limit;
	unsigned int unmap_walk;
	bool flush_noncoherent;
};

extern struct vfio_type1_params vfio_type1_params;

void vfio_type1_queue(struct work_struct *work);

/* ---- runs (vfio_runs.c): pure ---- */

/*
 * Pages of a run at most.  Runs also end at multiples of as many bytes of IOVA,
 * so that neither mapping nor unmapping one takes long without a scheduling
 * point, and a mapping may be cut there.  It is the largest common IOPTE: no
 * superpage is lost.
 */
#define VFIO_RUN_BYTES_MAX	SZ_1G
#define VFIO_RUN_PAGES_MAX	(VFIO_RUN_BYTES_MAX >> PAGE_SHIFT)

/**
 * struct vfio_run - physically contiguous pages of one kind
 * @word: length in pages, VFIO_RUN_WRITE, VFIO_RUN_PINNED, VFIO_RUN_CHARGED, first page
 *	frame
 *
 * A word, since there may be one for each page; use the functions below.
 */
struct vfio_run {
	u64 word;
};

#define VFIO_RUN_NPAGES_BITS	20
/* The device may have written to the pages. */
#define VFIO_RUN_WRITE		BIT_ULL(VFIO_RUN_NPAGES_BITS)
/* The pages are pinned, once each. */
#define VFIO_RUN_PINNED		BIT_ULL(VFIO_RUN_NPAGES_BITS + 1)
/* The pages count as locked memory.  All that do are pinned. */
#define VFIO_RUN_CHARGED	BIT_ULL(VFIO_RUN_NPAGES_BITS + 2)
#define VFIO_RUN_PFN_SHIFT	(VFIO_RUN_NPAGES_BITS + 3)

#define VFIO_RUN_RAM		(VFIO_RUN_PINNED | VFIO_RUN_CHARGED)
#define VFIO_RUN_KIND		VFIO_RUN_RAM

static_assert(VFIO_RUN_PAGES_MAX < BIT_ULL(VFIO_RUN_NPAGES_BITS));

/**
 * vfio_run_make() - describe a run
 * @pfn: first page frame
 * @npages: how many pages, VFIO_RUN_PAGES_MAX at most
 * @flags: VFIO_RUN_WRITE, VFIO_RUN_PINNED, VFIO_RUN_CHARGED
 *
 * Return: the run.
 */
static inline struct vfio_run vfio_run_make(unsigned long pfn, unsigned long npages, u64 flags)
{
	return (struct vfio_run) { (u64)pfn << VFIO_RUN_PFN_SHIFT | flags | npages };
}

static inline unsigned long vfio_run_pfn(struct vfio_run run)
{
	return run.word >> VFIO_RUN_PFN_SHIFT;
}

static inline unsigned long vfio_run_npages(struct vfio_run run)
{
	return run.word & (VFIO_RUN_WRITE - 1);
}

static inline bool vfio_run_write(struct vfio_run run)
{
	return run.word & VFIO_RUN_WRITE;
}

static inline bool vfio_run_pinned(struct vfio_run run)
{
	return run.word & VFIO_RUN_PINNED;
}

static inline bool vfio_run_charged(struct vfio_run run)
{
	return run.word & VFIO_RUN_CHARGED;
}

struct vfio_runs_chunk;

/**
 * struct vfio_runs - the runs of a mapping, from its first page on
 * @inplace: the first runs
 * @ninplace: how many of them there are
 * @nchunks: chunks, up to the number of different sizes less one
 * @lost: there was no memory to go on
 * @exact: pages are pinned that are not charged: no page frame shows that, so that this
 *	list must not get lost
 * @first: chunks with the further runs
 * @last: the last chunk
 *
 * Owned by whoever owns the mapping.
 */
struct vfio_runs {
	struct vfio_run inplace[2];
	u8 ninplace;
	u8 nchunks;
	bool lost;
	bool exact;
	struct vfio_runs_chunk *first;
	struct vfio_runs_chunk *last;
};

/**
 * struct vfio_runs_iter - where a reader of a run list is
 * @at: next run
 * @nr: runs from there on that lie next to each other
 * @chunk: what to read after them
 */
struct vfio_runs_iter {
	const struct vfio_run *at;
	unsigned int nr;
	const struct vfio_runs_chunk *chunk;
};

void vfio_runs_init(struct vfio_runs *runs);
void vfio_runs_free(struct vfio_runs *runs);
int vfio_runs_append(struct vfio_runs *runs, const struct vfio_run *run, unsigned int nr);
void vfio_runs_begin(const struct vfio_runs *runs, struct vfio_runs_iter *iter);
bool vfio_runs_more(struct vfio_runs_iter *iter);

/**
 * vfio_runs_next() - read a run list front to back
 * @iter: where the reader is, see vfio_runs_begin()
 * @run: set to the next run
 *
 * Return: false after the last run.
 */
static inline bool vfio_runs_next(struct vfio_runs_iter *iter, struct vfio_run *run)
{
	if (!iter->nr && !vfio_runs_more(iter))
		return false;
	iter->nr--;
	*run = *iter->at++;
	return true;
}

/* ---- valid IOVA ranges (vfio_iova.c): pure ---- */

/**
 * struct vfio_iova_span - a stretch of IOVA
 * @first: first byte
 * @last: last byte
 */
struct vfio_iova_span {
	u64 first;
	u64 last;
};

/**
 * struct vfio_iova_set - sorted, disjoint, non-adjacent valid ranges
 * @nr: how many there are
 * @capacity: how many fit
 * @ranges: the ranges
 *
 * In a container that never had a domain the set is empty, and any IOVA is valid.
 */
struct vfio_iova_set {
	unsigned int nr;
	unsigned int capacity;
	struct vfio_iova_span *ranges;
};

void vfio_iova_init(struct vfio_iova_set *set);
void vfio_iova_destroy(struct vfio_iova_set *set);
int vfio_iova_reset(struct vfio_iova_set *set, u64 first, u64 last);
int vfio_iova_exclude(struct vfio_iova_set *set, u64 first, u64 last);
bool vfio_iova_contains(const struct vfio_iova_set *set, u64 first, u64 last);
const struct vfio_iova_span *vfio_iova_nearest(const struct vfio_iova_set *set, u64 iova);

/* ---- mappings ---- */

enum vfio_dma_state {
	VFIO_DMA_PENDING,	/* MAP is filling it */
	VFIO_DMA_LIVE,		/* nobody's: may be claimed */
	VFIO_DMA_HELD,		/* LIVE, and its run list is being read (debugfs) */
	VFIO_DMA_DYING,		/* UNMAP is emptying it */
	VFIO_DMA_KEPT,		/* unmapped, but in-kernel users have not unpinned all */
};

/**
 * struct vfio_owner - whose memory a mapping pins, and who is charged
 * @task: thread group leader, whose RLIMIT_MEMLOCK counts; a reference is held
 * @mm: whose pages are pinned and whose locked_vm is charged; grabbed, not got,
 *	so that a mapping does not keep a dead process's memory
 * @lock_cap: had CAP_IPC_LOCK at MAP, so that no limit applies; meaningful if there is
 *	something to charge
 */
struct vfio_owner {
	struct task_struct *task;
	struct mm_struct *mm;
	bool lock_cap;
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

/* A region has a slot for each of these of user addresses, aligned to them. */
#define VFIO_SLOT_BYTES		SZ_2M
#define VFIO_SLOT_PAGES		(VFIO_SLOT_BYTES >> PAGE_SHIFT)

/**
 * struct vfio_region - registered memory
 * @node: in the registry's tree
 * @registry: the registry, while in its tree
 * @users: being registered, each mapping of it, and each call that wants to register it
 *	again, and looks whether the process still has this memory
 * @vaddr: first byte, constant
 * @npages: pages, constant
 * @read_only: devices may only read it, constant
 * @kept: an IOMMU did not let go of a page: all stay pinned
 * @orphaned: it left its registry with the process or its last container, and no more is
 *	pinned than what is mapped; set once, under @lock
 * @hugetlb: some of it is, or, while it is being filled, may be hugetlb memory
 * @writeback: devices may write to some of it that a file system writes back; constant
 *	while in the tree
 * @flush: some of it was mapped where devices may pass by the CPU's caches; set only
 * @registered: how often it was registered; registry->mutex
 * @owner: whose memory this is, and who is charged
 * @locked_vm: pages charged to @owner, constant while in the tree, then @mapped_lock
 * @mapped_lock: see the top of this file
 * @mapped: vfio_region_use.rb of all mappings, once @orphaned; @mapped_lock
 * @lock: see the top of this file
 * @mappings: vfio_region_use.next of all mappings, until @orphaned; @lock
 * @nr_mappings: how many mappings there are; changes under @lock
 * @nr_marked: slots with a mark; changes under @lock
 * @notifier: tells of changes of the process's memory, while in the tree
 * @slots: which page frames there are: see vfio_region.c.  Marks change under
 *	@lock, the rest is constant
 */
struct vfio_region {
	struct rb_node node;
	struct vfio_registry *registry;
	refcount_t users;
	unsigned long vaddr;
	unsigned long npages;
	bool read_only;
	bool kept;
	bool orphaned;
	bool hugetlb;
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
#ifdef CONFIG_MMU_NOTIFIER
	struct mmu_interval_notifier notifier;
#endif
	u64 slots[];
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
 * @external: struct vfio_external_pin by IOVA; container->external_lock
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

/* ---- the set of mappings (vfio_dma_tree.c): pure ---- */

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

/* ---- locked_vm (vfio_account.c) ---- */

int vfio_owner_init(struct vfio_owner *owner);
void vfio_owner_put(struct vfio_owner *owner);
int vfio_account_check(const struct vfio_owner *owner, unsigned long npages);
int vfio_account_charge(const struct vfio_owner *owner, unsigned long npages);
void vfio_account_refund(const struct vfio_owner *owner, unsigned long npages);
void vfio_account_refuse(struct vfio_type1_container *container, const struct vfio_owner *owner,
			 const char *request, u64 at, unsigned long npages);

/**
 * vfio_owner_init_limit() - note whether RLIMIT_MEMLOCK applies to an owner
 * @owner: owner that the calling process is
 *
 * Not part of vfio_owner_init(), as asking takes several times as long as that.
 *
 * It has to be asked while the process is here: what a later attach or pin_pages charges goes
 * by it, too.  Most have no need of it, so that to lack it is nothing for the audit log;
 * vfio_account_refuse() says when it was.
 *
 * Context: process context.
 */
static inline void vfio_owner_init_limit(struct vfio_owner *owner)
{
	owner->lock_cap = ns_capable_noaudit(&init_user_ns, CAP_IPC_LOCK);
}

/* ---- pages (vfio_pin.c) ---- */

/*
 * Pages of one GUP call: GUP keeps interrupts off while it walks, so keep this
 * to some tens of microseconds.
 */
#define VFIO_PIN_BATCH_MAX	2048
/* For memory that is nice to have: rather go without than have anybody killed. */
#define VFIO_GFP_OPTIONAL	(GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_NORETRY)

/**
 * struct vfio_pin_batch - the pages of one GUP call, as they become runs
 * @pages: pinned pages; not used while @pfnmap
 * @capacity: how many fit into @pages
 * @size: pages got by the last fill
 * @pos: pages of them already taken as runs
 * @pfn: first frame, when @pfnmap
 * @pfnmap: the last fill found frames without pinnable pages behind them
 */
struct vfio_pin_batch {
	struct page **pages;
	unsigned int capacity;
	unsigned int size;
	unsigned int pos;
	unsigned long pfn;
	bool pfnmap;
};

bool vfio_pfn_is_reserved(unsigned long pfn);
int vfio_pin_fill(struct vfio_pin_batch *batch, struct mm_struct *mm, unsigned long vaddr,
		  unsigned long npages, int prot);
int vfio_pin_fill_at_hand(struct vfio_pin_batch *batch, struct mm_struct *mm,
			  unsigned long vaddr, unsigned long npages, int prot);
const char *vfio_pin_why_not(struct mm_struct *mm, unsigned long vaddr, int prot, int error);
unsigned long vfio_pin_cut(struct vfio_pin_batch *batch, struct vfio_run *runs, unsigned int *nr,
			   unsigned int capacity, unsigned long max, int prot);
void vfio_pin_drop(struct vfio_pin_batch *batch, int prot);
void vfio_unpin_runs(const struct vfio_run *run, unsigned int nr);
void vfio_pin_dirty(struct vfio_run run);
unsigned long vfio_pin_flush(const struct vfio_run *run, unsigned int nr);

/*
 * Memory that was faulted in as often as this, and still cannot be copied, never can: its
 * tags, say, are not those of the address.
 */
#define VFIO_FAULT_IN_MAX	1000

int vfio_user_fault_in(const void __user *at, unsigned long size, bool write);

/**
 * vfio_pfn_kind() - what was done to a frame, for all that the frame shows
 * @pfn: page frame number, mapped for a mapping whose run list needs not be exact
 *
 * Return: VFIO_RUN_RAM, or 0.
 */
static inline u64 vfio_pfn_kind(unsigned long pfn)
{
	return vfio_pfn_is_reserved(pfn) ? 0 : VFIO_RUN_RAM;
}

/**
 * vfio_run_flags() - what the protection of a mapping means for its runs
 * @prot: IOMMU_READ, IOMMU_WRITE
 *
 * Return: VFIO_RUN_WRITE, or 0.
 */
static inline u64 vfio_run_flags(int prot)
{
	return prot & IOMMU_WRITE ? VFIO_RUN_WRITE : 0;
}

/* ---- refusals (vfio_refuse.c) ---- */

/* Why a request is refused; Documentation/messages.rst has the messages of each. */
enum vfio_refusal {
	VFIO_REFUSE_ARGSZ,	/* argsz too small */
	VFIO_REFUSE_FLAGS,	/* unknown or contradicting flags */
	VFIO_REFUSE_SIZE,	/* zero size, wrap around, ALL with a range */
	VFIO_REFUSE_ALIGN,	/* not aligned to the smallest page */
	VFIO_REFUSE_RANGE,	/* not within a valid IOVA range */
	VFIO_REFUSE_OVERLAP,	/* a mapping is there */
	VFIO_REFUSE_ENTRIES,	/* dma_entry_limit */
	VFIO_REFUSE_MEMLOCK,	/* RLIMIT_MEMLOCK */
	VFIO_REFUSE_PIN,	/* memory could not be pinned */
	VFIO_REFUSE_IOMMU,	/* the IOMMU driver refused */
	VFIO_REFUSE_BISECT,	/* cuts a mapping in two */
	VFIO_REFUSE_V1_NONE,	/* a v1 UNMAP that removed nothing; no error, size is 0 */
	VFIO_REFUSE_DIRTY,	/* dirty tracking is off, a bad bitmap, too many pages */
	VFIO_REFUSE_VADDR,	/* the rules of VFIO_UPDATE_VADDR */
	VFIO_REFUSE_IOCTL,	/* unknown, or not for this type of container */
	VFIO_REFUSE_ATTACH,	/* a group that cannot be attached, or not now */
	VFIO_REFUSE_MSI,	/* a group without MSI isolation */
	VFIO_REFUSE_REGISTRY,	/* the rules of registered memory */
	VFIO_REFUSE_LAST_GROUP,	/* mappings went with the last group; no error */
	VFIO_REFUSE_NR
};

extern const char *const vfio_refusal_names[VFIO_REFUSE_NR];

void vfio_refuse_init(struct vfio_type1_container *container);
__printf(3, 4) __cold
void vfio_refuse(struct vfio_type1_container *container, enum vfio_refusal reason,
		 const char *fmt, ...);

/* ---- registered memory (vfio_region.c, vfio_registry.c) ---- */

/**
 * struct vfio_registry - the memory that a process has registered
 * @users: containers, and calls under way
 * @next: in the list of all registries; registries_lock
 * @nr_containers: containers of the process; registries_lock
 * @mm: the process's memory, grabbed
 * @mutex: see the top of this file
 * @closed: the last container is gone; @mutex
 * @lock: see the top of this file
 * @regions: struct vfio_region by vaddr, which do not overlap; changes take @mutex
 *	and @lock for write
 * @nr_regions: how many there are; like @regions
 * @npages: pages of them; like @regions
 * @orphaned: empties the registry when the process has died
 * @closing: closes it, where that must not be waited for; has a reference
 */
struct vfio_registry {
	struct kref users;
	struct list_head next;
	unsigned int nr_containers;
	struct mm_struct *mm;
	struct mutex mutex; /* which regions there are */
	bool closed;
	struct rw_semaphore lock;
	struct rb_root regions;
	unsigned int nr_regions;
	unsigned long npages;
	struct work_struct orphaned;
	struct work_struct closing;
};

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
				       struct vfio_registry *registry, unsigned long vaddr,
				       unsigned long npages, bool read_only);
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

int vfio_registry_join(struct vfio_type1_container *container);
void vfio_registry_leave(struct vfio_type1_container *container);
int vfio_registry_register(struct vfio_type1_container *container, u64 vaddr, u64 size,
			   bool read_only);
int vfio_registry_unregister(struct vfio_type1_container *container, u64 vaddr, u64 size);
void vfio_registry_count(struct vfio_type1_container *container, u32 *regions, u64 *size);
bool vfio_registry_look(struct vfio_type1_container *container, unsigned long vaddr,
			struct vfio_region_view *view);
int vfio_registry_take_region(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_registry_orphan(struct vfio_registry *registry);

/* ---- changes of user memory (vfio_watch.c) ---- */

extern const bool vfio_watch_supported;

int vfio_watch_start(struct vfio_region *region);
void vfio_watch_stop(struct vfio_region *region);
unsigned long vfio_watch_read(struct vfio_region *region);
bool vfio_watch_changed(struct vfio_region *region, unsigned long seq);

/* ---- the CPU's caches (vfio_cache.c) ---- */

extern const bool vfio_cache_can_flush;

void vfio_cache_flush(unsigned long pfn, unsigned long npages);

/* ---- counters (vfio_debugfs.c) ---- */

/* What a container counts; Documentation/debugfs.rst says what each means. */
enum vfio_count {
	VFIO_COUNT_MAPS,
	VFIO_COUNT_UNMAPS,
	VFIO_COUNT_MAPPED_PAGES,
	VFIO_COUNT_UNMAPPED_PAGES,
	VFIO_COUNT_PIN_CALLS,
	VFIO_COUNT_PINNED_PAGES,
	VFIO_COUNT_IOMMU_MAPS,
	VFIO_COUNT_IOMMU_UNMAPS,
	VFIO_COUNT_SYNCS,
	VFIO_COUNT_WINDOWS,
	VFIO_COUNT_ATTACHES,
	VFIO_COUNT_DETACHES,
	VFIO_COUNT_FLUSHED_PAGES,
	VFIO_COUNT_PIN_CYCLES,
	VFIO_COUNT_MAP_CYCLES,
	VFIO_COUNT_UNMAP_CYCLES,
	/* What follows goes down, too, and is not in counters. */
	VFIO_COUNT_LOCKED_PAGES,
	VFIO_COUNT_NR
};

/* What one CPU has counted. */
struct vfio_counters {
	u64 value[VFIO_COUNT_NR];
};

/**
 * vfio_clock() - the time, for differences
 *
 * The CPU's own counter: any clock that knows of seconds takes as long to read as
 * a hundredth of the shortest request.
 *
 * Return: cycles, for vfio_container_ns().
 */
static inline u64 vfio_clock(void)
{
	return get_cycles();
}

/**
 * vfio_clock_since() - how long ago was that?
 * @begun: from vfio_clock(), possibly on another CPU
 *
 * Return: cycles.
 */
static inline u64 vfio_clock_since(u64 begun)
{
	u64 now = vfio_clock();

	/* CPUs may differ by a little. */
	return now > begun ? now - begun : 0;
}

/* ---- containers (vfio_container.c) ---- */

/**
 * struct vfio_group_entry - a group attached to a container
 * @next: in its domain's list, or in the container's of emulated groups;
 *	container->lock
 * @group: the group
 * @pins_only: its devices write only what they pinned through pin_pages, so that
 *	pages may be clean; container->lock and container->external_lock
 */
struct vfio_group_entry {
	struct list_head next;
	struct iommu_group *group;
	bool pins_only;
};

/**
 * struct vfio_domain - an IOMMU domain and the groups that share it
 * @next: in the container's list; container->lock
 * @groups: struct vfio_group_entry; container->lock
 * @domain: the IOMMU's
 * @tables: page tables that it may have, a bitmap for each GiB: see vfio_tables.c
 * @fgsp: the probe found fine-grained superpages
 * @coherent: the IOMMU enforces cache coherency
 */
struct vfio_domain {
	struct list_head next;
	struct list_head groups;
	struct iommu_domain *domain;
	struct xarray tables;
	bool fgsp;
	bool coherent;
};

/* Why IOVA is not valid. */
enum vfio_cut_kind {
	VFIO_CUT_APERTURE,	/* a domain cannot translate it */
	VFIO_CUT_DIRECT,	/* firmware uses it through the IOMMU */
	VFIO_CUT_RESERVED,	/* the IOMMU or the platform does not translate it */
	VFIO_CUT_MSI,		/* writing there is an interrupt */
	VFIO_CUT_SW_MSI,	/* the kernel maps the MSI doorbell there */
};

extern const char *const vfio_cut_names[];

/**
 * struct vfio_iova_cut - a piece of IOVA that is not valid
 * @range: the piece
 * @kind: why
 * @nr: VFIO_CUT_APERTURE: number of the domain, the primary is 0; else of the
 *	IOMMU group
 */
struct vfio_iova_cut {
	struct vfio_iova_span range;
	enum vfio_cut_kind kind;
	int nr;
};

typedef int (*vfio_cut_fn_t)(const struct vfio_iova_cut *cut, void *data);

/* A piece in words. */
struct vfio_cut_text {
	char s[96];
};

/**
 * struct vfio_spares - memory that was allocated once, kept for who needs it next
 * @slots: pieces of one kind from kvmalloc(), as many as threads work at a time;
 *	exchanged atomically
 */
struct vfio_spares {
	void *slots[4];
};

/**
 * vfio_spares_take() - take memory that is kept
 * @spares: where to look
 *
 * Return: the memory, or NULL.
 */
static inline void *vfio_spares_take(struct vfio_spares *spares)
{
	void *spare = NULL;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(spares->slots) && !spare; i++)
		if (READ_ONCE(spares->slots[i]))
			spare = xchg(&spares->slots[i], NULL);
	return spare;
}

/**
 * vfio_spares_keep() - keep memory, or free it if enough is kept already
 * @spares: where to put it
 * @spare: from kvmalloc()
 *
 * Context: may sleep.
 */
static inline void vfio_spares_keep(struct vfio_spares *spares, void *spare)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(spares->slots); i++)
		if (!READ_ONCE(spares->slots[i]) && !cmpxchg(&spares->slots[i], NULL, spare))
			return;
	kvfree(spare);
}

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
	atomic_long_t refused[VFIO_REFUSE_NR];
	struct ratelimit_state refuse_limit[VFIO_REFUSE_NR];
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

/**
 * vfio_count() - count something
 * @container: the container
 * @which: what
 * @n: how much of it
 *
 * A single instruction on most machines, so that it may stand in any request.
 */
static inline void vfio_count(struct vfio_type1_container *container, enum vfio_count which, u64 n)
{
	if (IS_ENABLED(CONFIG_DEBUG_FS))
		this_cpu_add(container->counters->value[which], n);
}

/**
 * vfio_container_flush() - keep the CPU's caches out of the way of devices that pass them by
 * @container: the container
 * @run: runs that no device reaches yet, or, pinned still, none any more
 * @nr: how many
 *
 * Nothing happens as long as all domains enforce cache coherency.
 *
 * Context: may sleep; container->lock held.
 */
static inline void vfio_container_flush(struct vfio_type1_container *container,
					const struct vfio_run *run, unsigned int nr)
{
	if (unlikely(container->noncoherent) && READ_ONCE(vfio_type1_params.flush_noncoherent))
		vfio_count(container, VFIO_COUNT_FLUSHED_PAGES, vfio_pin_flush(run, nr));
}

/**
 * vfio_dma_note_charge() - a mapping's owner was charged, or got a charge back
 * @container: the container
 * @dma: the mapping
 * @npages: pages; negative if they were given back
 *
 * Every change of vfio_dma.locked_vm goes through here, so that there is a sum of all of
 * them at any time.
 *
 * Context: the caller owns @dma.
 */
static inline void vfio_dma_note_charge(struct vfio_type1_container *container,
					struct vfio_dma *dma, long npages)
{
	dma->locked_vm += npages;
	vfio_count(container, VFIO_COUNT_LOCKED_PAGES, npages);
}

struct vfio_type1_container *vfio_container_create(bool v2, bool nesting, bool strict);
void vfio_container_destroy(struct vfio_type1_container *container);
struct vfio_type1_container *vfio_container_get(u64 id);
void vfio_container_put(struct vfio_type1_container *container);
u64 vfio_container_ns(const struct vfio_type1_container *container, u64 cycles);
int vfio_container_attach(struct vfio_type1_container *container, struct iommu_group *group);
int vfio_container_attach_emulated(struct vfio_type1_container *container,
				   struct iommu_group *group);
void vfio_container_detach(struct vfio_type1_container *container, struct iommu_group *group);
bool vfio_container_coherent(struct vfio_type1_container *container);
int vfio_container_lock_reach(struct vfio_type1_container *container, u64 last);
int vfio_container_walk_cuts(struct vfio_type1_container *container, vfio_cut_fn_t fn,
			     void *data);
void vfio_container_describe_cut(struct vfio_type1_container *container, u64 first, u64 last,
				 struct vfio_cut_text *text);

struct vfio_group_entry *vfio_container_find_group(struct vfio_type1_container *container,
						   struct iommu_group *group,
						   struct vfio_domain **domain);
bool vfio_container_has_emulated(struct vfio_type1_container *container);

/**
 * vfio_container_pgsize() - the IOMMU's smallest page
 * @container: the container
 *
 * Context: container->lock held.
 * Return: bytes; a multiple of PAGE_SIZE.
 */
static inline unsigned long vfio_container_pgsize(const struct vfio_type1_container *container)
{
	return 1UL << __ffs(container->pgsize_bitmap);
}

/**
 * vfio_container_has_iommu() - is there a domain to map into?
 * @container: the container
 *
 * Context: container->lock held.
 * Return: false if all IOVA are valid and memory is not pinned.
 */
static inline bool vfio_container_has_iommu(struct vfio_type1_container *container)
{
	return !list_empty(&container->domains);
}

/**
 * vfio_container_primary() - the domain that addresses are read back from
 * @container: a container with at least one domain
 *
 * Context: container->lock held.
 * Return: the domain.
 */
static inline struct vfio_domain *vfio_container_primary(struct vfio_type1_container *container)
{
	return list_first_entry(&container->domains, struct vfio_domain, next);
}

/**
 * vfio_registry_take() - let a mapping use registered memory, if it is some
 * @container: the container
 * @dma: mapping without pages, owned by the caller, of the caller's memory
 *
 * Costs next to nothing where nothing is registered.
 *
 * Context: as vfio_registry_take_region().
 * Return: as vfio_registry_take_region().
 */
static inline int vfio_registry_take(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	const struct vfio_registry *registry = container->registry;

	if (likely((!registry || !READ_ONCE(registry->nr_regions)) && !container->strict))
		return 0;
	return vfio_registry_take_region(container, dma);
}

/* ---- MAP (vfio_map.c) ---- */

int vfio_map_dma(struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size,
		 int prot, bool set_vaddr);
int vfio_map_fill(struct vfio_type1_container *container, struct vfio_dma *dma);
struct vfio_run vfio_map_region_run(const struct vfio_dma *dma, unsigned long page);

/* ---- UNMAP (vfio_unmap.c) ---- */

/* Runs taken out of the primary domain before one IOTLB sync. */
#define VFIO_WINDOW_RUNS	512

/**
 * struct vfio_dirty_request - where a caller wants to know which pages were dirty
 * @bitmap: bit 0 is the first page of the range
 * @pgsize: bytes that a bit stands for
 */
struct vfio_dirty_request {
	u64 __user *bitmap;
	u64 pgsize;
};

int vfio_unmap_dma(struct vfio_type1_container *container, u64 iova, u64 size, bool all,
		   const struct vfio_dirty_request *dirty, u64 *unmapped);
void vfio_unmap_empty(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_unmap_empty_all(struct vfio_type1_container *container);
unsigned long vfio_unmap_all(struct vfio_type1_container *container);
int vfio_unmap_check(struct vfio_type1_container *container, u64 iova, u64 size, bool all);
void vfio_dma_free(struct vfio_type1_container *container, struct vfio_dma *dma);

/* ---- new addresses for old memory (vfio_vaddr.c) ---- */

int vfio_vaddr_invalidate(struct vfio_type1_container *container, u64 iova, u64 size, bool all,
			  u64 *invalidated);
int vfio_vaddr_update(struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size);

/* ---- in-kernel users (vfio_external.c) ---- */

/**
 * struct vfio_external_pin - a page that in-kernel users have pinned
 * @node: in vfio_dma.external; container->external_lock
 * @iova: first byte of the page
 * @pfn: page frame
 * @refs: times it was pinned
 * @kind: VFIO_RUN_PINNED, VFIO_RUN_CHARGED: what was done, here or by its region
 * @own: the page is registered memory's, which was unmapped; a reference to it is held
 */
struct vfio_external_pin {
	struct rb_node node;
	u64 iova;
	unsigned long pfn;
	unsigned int refs;
	u64 kind;
	bool own;
};

/* vfio_type1_container.evict_waits: 4 seconds. */
#define VFIO_EVICT_WAITS	12

int vfio_external_pin(struct vfio_type1_container *container, struct iommu_group *group,
		      u64 iova, int npages, int prot, struct page **pages);
void vfio_external_unpin(struct vfio_type1_container *container, u64 iova, int npages);
int vfio_external_rw(struct vfio_type1_container *container, u64 iova, void *data,
		     size_t count, bool write);
void vfio_external_register(struct vfio_type1_container *container, struct vfio_device *device);
void vfio_external_unregister(struct vfio_type1_container *container,
			      struct vfio_device *device);
void vfio_external_evict(struct vfio_type1_container *container, struct list_head *claimed,
			 unsigned int *waits);
bool vfio_external_keep(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_external_abandon(struct vfio_type1_container *container, struct vfio_dma *dma);
unsigned long vfio_external_count(const struct vfio_dma *dma, u64 iova, unsigned long npages);

/* ---- dirty bitmaps (vfio_dirty.c) ---- */

/* Pages in a mapping's bitmap at most: bitmap_set() counts them in an int. */
#define VFIO_DIRTY_PAGES_MAX	((u64)INT_MAX)

int vfio_dirty_start(struct vfio_type1_container *container);
void vfio_dirty_stop(struct vfio_type1_container *container);
int vfio_dirty_get(struct vfio_type1_container *container, u64 iova, u64 size,
		   const struct vfio_dirty_request *request);
int vfio_dirty_init(struct vfio_type1_container *container, struct vfio_dma *dma);
void vfio_dirty_mark(struct vfio_type1_container *container, struct vfio_dma *dma, u64 iova,
		     u64 size);
void vfio_dirty_mark_all(struct vfio_type1_container *container);
bool vfio_dirty_report(struct vfio_type1_container *container, const struct vfio_dma *dma,
		       u64 base, const struct vfio_dirty_request *request);
int vfio_dirty_fault_in(const struct vfio_dma *dma, u64 base,
			const struct vfio_dirty_request *request);

/* ---- what debugfs shows (vfio_debugfs.c) ---- */

/* Classes of runs, by length: 2^k to 2^(k+1)-1 pages. */
#define VFIO_SURVEY_CLASSES	19

static_assert(VFIO_RUN_PAGES_MAX < BIT_ULL(VFIO_SURVEY_CLASSES));

/**
 * struct vfio_survey - what a run list amounts to
 * @runs: how many there are
 * @bytes_4k: bytes that the IOMMU can map with smaller pages only
 * @bytes_2m: bytes that it can map with pages of 2 MiB
 * @bytes_1g: bytes that it can map with pages of 1 GiB
 * @hist: runs by length
 */
struct vfio_survey {
	unsigned long runs;
	u64 bytes_4k;
	u64 bytes_2m;
	u64 bytes_1g;
	unsigned long hist[VFIO_SURVEY_CLASSES];
};

#if IS_ENABLED(CONFIG_DEBUG_FS)
u64 vfio_count_sum(const struct vfio_type1_container *container, enum vfio_count which);
void vfio_survey(const struct vfio_runs *runs, u64 iova, unsigned long pgsizes,
		 struct vfio_survey *survey);
void vfio_debugfs_lost(unsigned long nr);
void vfio_debugfs_init(void);
void vfio_debugfs_exit(void);
int vfio_debugfs_add(struct vfio_type1_container *container);
void vfio_debugfs_remove(struct vfio_type1_container *container);
#else
static inline u64 vfio_count_sum(const struct vfio_type1_container *container,
				 enum vfio_count which)
{
	return 0;
}

static inline void vfio_debugfs_lost(unsigned long nr) {}
static inline void vfio_debugfs_init(void) {}
static inline void vfio_debugfs_exit(void) {}
static inline int vfio_debugfs_add(struct vfio_type1_container *container) { return 0; }
static inline void vfio_debugfs_remove(struct vfio_type1_container *container) {}
#endif

/* ---- what drivers do not see to (vfio_domain.c) ---- */

/**
 * struct vfio_gather - IOVA on their way out of a domain
 * @iotlb: what the driver gathered since the last sync
 * @pending: something was unmapped since
 * @calls: calls of iommu_unmap_fast()
 * @syncs: IOTLB syncs
 */
struct vfio_gather {
	struct iommu_iotlb_gather iotlb;
	bool pending;
	unsigned int calls;
	unsigned int syncs;
};

void vfio_gather_begin(struct vfio_gather *gather);
size_t vfio_gather_unmap(struct vfio_gather *gather, struct vfio_domain *domain, u64 iova,
			 size_t size);
void vfio_gather_sync(struct vfio_gather *gather, const struct vfio_domain *domain);
size_t vfio_domain_unmap(struct vfio_type1_container *container, struct vfio_domain *domain,
			 u64 iova, size_t size);
int vfio_domain_map(struct vfio_type1_container *container, struct vfio_domain *domain, u64 iova,
		    phys_addr_t phys, size_t size, int prot);
size_t vfio_domain_undo_head(const struct vfio_domain *domain, u64 iova, size_t size);
bool vfio_domain_sweep(struct iommu_domain *domain, u64 iova, size_t size);

/* ---- page tables in a superpage's way (vfio_tables.c) ---- */

/* What a table of 4K IOPTEs translates, and the smallest superpage maps. */
#define VFIO_TABLE_BYTES	((size_t)SZ_2M)

/**
 * vfio_tables_matter() - may a map free a page table of the domain too early?
 * @domain: the domain
 *
 * Not where there are no superpages; nor fine-grained ones: AMD-Vi's v1 tables, whose driver
 * flushes first.
 *
 * Context: any.
 * Return: whether its tables have to be known.
 */
static inline bool vfio_tables_matter(const struct vfio_domain *domain)
{
	return VFIO_COMPAT_MAP_FREES_EARLY && !domain->fgsp &&
	       domain->domain->pgsize_bitmap & SZ_4K &&
	       domain->domain->pgsize_bitmap & VFIO_TABLE_BYTES;
}

void vfio_tables_init(struct vfio_domain *domain);
void vfio_tables_destroy(struct vfio_domain *domain);
int vfio_tables_note(struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t size);
int vfio_tables_note_small(struct vfio_domain *domain, u64 iova, size_t size);
size_t vfio_tables_cut(struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t size);
void vfio_tables_freed(struct vfio_domain *domain, u64 iova, size_t size);

/* ---- chunks without a run list (vfio_fgsp.c) ---- */

void vfio_fgsp_probe(struct vfio_domain *domain, const struct vfio_iova_set *iova);
struct vfio_run vfio_fgsp_chunk(struct iommu_domain *domain, u64 iova, unsigned long max,
				int prot);

#endif /* _VFIO_TYPE1_H */
