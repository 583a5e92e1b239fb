/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registered memory: the life of registries and regions, and whether a mapping is of the
 * memory that the process has.  tests/model/run has what is run of it.
 *
 * Each inline and proctype stands for the functions that its comment names.  What is done
 * under a spinlock is one atomic step.
 *
 * A process has one range of two pages, which is one slot of a region, and registers it,
 * changes what memory is there, maps it, and ends.  Memory is never used again for
 * something else, so that a use after the free is seen.
 *
 * Left out: more than one slot or range, read-only regions, hugetlb memory and what
 * watch_marks() says of it, marks that take several steps, tables of frames, pages that an
 * IOMMU kept.  The states of mappings, and what waits for them, are in container.pml.
 */

#define NR_REGISTRIES	2
#define NR_REGIONS	2
#define NR_MAPPINGS	2
#define NO		7
#define ME		(_pid + 1)

#define NEVER(what, condition) assert(!(condition) || what)
bool use_of_freed_registry, use_of_freed_region, use_of_freed_mapping, stale_memory,
     unpinned_while_reachable, unpinned_twice, refunded_twice, notified_after_the_end,
     freed_while_in_use, deadlock, left_behind;

mtype = { OK, ERROR, AGAIN, NONE, PENDING, LIVE, DYING };

/* struct vfio_type1_container: its lock, and what it has to do with registries */
typedef a_container {
	byte readers;
	byte writers_waiting;
	byte writer;
	bool closed;
	bool used;		/* tree.changes || registers */
	byte generation;
	byte registry;		/* NO: none */
}
a_container containers[2];

/* struct vfio_registry */
typedef a_registry {
	bool exists;
	bool listed;
	byte mm;		/* whose */
	byte users;
	byte nr_containers;
	byte mutex;
	bool closed;
	byte readers;		/* registry->lock */
	byte writer;
	byte region;		/* in the tree, or NO */
	bool orphaned_queued, orphaned_runs;
	bool closing_queued;
}
a_registry registries[NR_REGISTRIES];

/* struct vfio_region */
typedef a_region {
	bool exists;
	byte registry;
	byte users;
	byte registered;
	bool orphaned;
	byte mapped_lock;
	byte locked_vm;
	byte pinned;		/* bits of pages */
	byte frame[2];
	bool marked;		/* SLOT_MARK, and nr_marked */
	bool tried;		/* SLOT_TRIED */
	bool watched;		/* the notifier is known to the mm */
	byte seq;		/* mmu_interval_notifier.invalidate_seq */
}
a_region regions[NR_REGIONS];

/* struct vfio_dma */
typedef a_mapping {
	mtype state;
	byte container;
	byte pages;		/* bits of pages of the region */
	byte region;
	bool listed;		/* in region->mappings */
	bool in_tree;		/* in region->mapped */
	bool reachable;		/* in a domain, or known to an IOTLB */
}
a_mapping mappings[NR_MAPPINGS];

/* The process: what memory it has at each page, by age; 0 is none. */
byte memory[2], newest;
bool moving[2];			/* the kernel has taken it out for a while */
byte at_least[2];		/* nothing older is what the process sees */
byte threads;			/* in calls */
bool dead;
/* struct mmu_notifier_subscriptions */
byte invalidate_seq = 2, active_ranges;

byte locked;			/* mm->locked_vm, if the process lived */
byte ended, working;

/* ---- locks ---- */

#define C	containers[c]
#define G	registries[g]
#define R	regions[r]
#define M	mappings[m]

inline down_read(c) { atomic { !C.writer && !C.writers_waiting -> C.readers++ } }
inline up_read(c) { C.readers-- }
inline down_write(c)
{
	C.writers_waiting++;
	atomic { !C.writer && !C.readers -> C.writers_waiting--; C.writer = ME }
}
inline up_write(c) { C.writer = 0 }

inline lock_registry(g)
{
	atomic { !G.mutex -> NEVER(use_of_freed_registry, !G.exists); G.mutex = ME }
}
inline unlock_registry(g)
{
	atomic { NEVER(use_of_freed_registry, !G.exists); G.mutex = 0 }
}

/* ---- regions: vfio_region.c, vfio_watch.c ---- */

/* vfio_watch_start(): the kernel's mmu_interval_notifier_insert() */
inline watch_start(r)
{
	atomic {
		NEVER(notified_after_the_end, dead);
		if
		:: active_ranges ->
			invalidate_seq = invalidate_seq | 1;
			R.seq = invalidate_seq
		:: else -> R.seq = invalidate_seq - 1
		fi;
		R.watched = true
	}
}

/* vfio_watch_stop(): the kernel's mmu_interval_notifier_remove(), which waits for who calls it now. */
inline watch_stop(r)
{
	atomic {
		NEVER(use_of_freed_region, !R.exists);
		R.watched = false;
		seq = (invalidate_seq & 1 -> invalidate_seq : 0)
	}
	invalidate_seq != seq;
	seq = 0
}

/* vfio_watch_read(): the kernel's mmu_interval_read_begin() */
inline watch_read(r)
{
	atomic { NEVER(use_of_freed_region, !R.exists); seq = R.seq }
	seq != invalidate_seq
}

/* region_unpin(); the lock of the slots is not needed for it. */
inline region_unpin(r, which)
{
	atomic {
		NEVER(use_of_freed_region, !R.exists);
		NEVER(unpinned_while_reachable,
		      mappings[0].region == r && mappings[0].reachable &&
		      mappings[0].pages & (which));
		NEVER(unpinned_while_reachable,
		      mappings[1].region == r && mappings[1].reachable &&
		      mappings[1].pages & (which));
		NEVER(unpinned_twice, (which) & ~R.pinned);
		R.pinned = R.pinned & ~(which)
	}
}

/* vfio_account_refund() */
inline refund(n)
{
	atomic { NEVER(refunded_twice, locked < n); locked = locked - (n) }
}

/* region_free() */
inline region_free(r)
{
	refund(R.locked_vm);
	atomic {
		NEVER(freed_while_in_use, R.watched || R.users || R.pinned);
		NEVER(freed_while_in_use, mappings[0].region == r || mappings[1].region == r);
		R.exists = false
	}
}

/* vfio_region_put() */
inline region_put(r)
{
	atomic {
		NEVER(use_of_freed_region, !R.exists || !R.users);
		R.users--;
		last = !R.users
	}
	if
	:: last && !R.orphaned -> region_unpin(r, 3); region_free(r)
	:: last && R.orphaned -> region_free(r)
	:: else
	fi;
	last = false
}

/* GUP of one page: what is not there is faulted in, and is new memory. */
inline get_user_page(p)
{
	!moving[p] ->
	if
	:: memory[p]
	:: else -> newest++; memory[p] = newest
	fi
}

/* region_fill(), fill_batch(), fill_slot(): a failure is any. */
inline region_fill(r)
{
	p = 0;
	do
	:: p < 2 && ret == OK ->
		if
		:: atomic {
			get_user_page(p);
			R.pinned = R.pinned | (1 << p);
			R.frame[p] = memory[p]
		   }
		   atomic { locked++; R.locked_vm++; p++ }
		:: ret = ERROR
		fi
	:: else -> break
	od;
	p = 0;
	if
	:: ret != OK -> region_unpin(r, R.pinned)
	:: else
	fi
}

/* vfio_region_create(): R.registry and users are set, and nobody else knows of it. */
inline region_create(r, g)
{
	atomic {
		if
		:: !regions[0].registered -> r = 0
		:: else -> assert(!regions[1].registered); r = 1
		fi;
		R.exists = true;
		R.registry = g;
		R.users = 1;
		R.registered = 1
	}
	watch_start(r);
	watch_read(r);
	seq = 0;
	region_fill(r);
	if
	:: ret != OK ->
		watch_stop(r);
		R.users = 0;
		region_free(r)
	:: else
	fi
}

/* region_compared() */
inline region_compared(r, same)
{
	atomic {
		NEVER(use_of_freed_region, !R.exists);
		if
		:: R.seq == seq && R.marked ->
			R.marked = !(same);
			R.tried = !(same)
		:: else
		fi
	}
}

/* region_same_fast(): what is not there now is not the same. */
inline region_same_fast(r)
{
	whole = true;
	p = 0;
	do
	:: p < 2 && whole ->
		atomic { whole = (!moving[p] && memory[p] == R.frame[p]); p++ }
	:: else -> break
	od;
	p = 0
}

/* region_compare() */
inline region_compare(r, which)
{
	p = 0;
	do
	:: p < 2 && ret == OK ->
		if
		:: (which) & (1 << p) ->
			if
			:: atomic { get_user_page(p); ret = (memory[p] == R.frame[p] -> OK : ERROR) }
			:: ret = ERROR
			fi
		:: else
		fi;
		p++
	:: else -> break
	od;
	p = 0
}

/* vfio_region_check_marked(), region_check_slot() */
inline check_marked(r, which)
{
	NEVER(use_of_freed_region, !R.exists);
	if
	:: R.marked ->
		watch_read(r);
		whole = ((which) == 3);
		if
		:: !whole && !R.tried ->
			region_same_fast(r);
			region_compared(r, whole);
			if
			:: !whole -> region_compare(r, which)
			:: else
			fi
		:: else ->
			region_compare(r, which);
			if
			:: ret == OK && whole -> region_compared(r, true)
			:: else
			fi
		fi;
		whole = false;
		seq = 0
	:: else
	fi
}

/* ---- mappings of a region ---- */

/* vfio_region_join() */
inline region_join(r, m)
{
	atomic {
		NEVER(use_of_freed_region, !R.exists || !R.users);
		R.users++;
		M.region = r;
		M.listed = true
	}
}

/* What no mapping covers of an orphaned region. */
#define COVERED(m)	(mappings[m].in_tree && mappings[m].region == r -> mappings[m].pages : 0)

/* orphan_unpin() */
inline orphan_unpin(r, which)
{
	atomic { covered = (COVERED(0)) | (COVERED(1)) }
	covered = (which) & ~covered;
	if
	:: covered -> region_unpin(r, covered)
	:: else
	fi;
	back = (covered & 1) + (covered >> 1);
	covered = 0;
	R.locked_vm = R.locked_vm - back
}

/* vfio_region_leave(), orphan_leave() */
inline region_leave(m)
{
	r = M.region;
	atomic {
		NEVER(use_of_freed_region, !R.exists);
		was_orphaned = R.orphaned;
		if
		:: !R.orphaned -> M.listed = false
		:: else
		fi
	}
	if
	:: was_orphaned ->
		atomic { !R.mapped_lock -> R.mapped_lock = ME }
		NEVER(use_of_freed_mapping, !M.in_tree);
		M.in_tree = false;
		orphan_unpin(r, M.pages);
		R.mapped_lock = 0;
		refund(back);
		back = 0
	:: else
	fi;
	was_orphaned = false;
	M.region = NO;
	region_put(r);
	r = NO
}

/* vfio_region_orphan() */
inline region_orphan(r)
{
	atomic { !R.mapped_lock -> R.mapped_lock = ME }
	atomic {
		R.orphaned = true;
		moved = (mappings[0].listed && mappings[0].region == r) |
			((mappings[1].listed && mappings[1].region == r) << 1);
		mappings[0].listed = (moved & 1 -> false : mappings[0].listed);
		mappings[1].listed = (moved & 2 -> false : mappings[1].listed)
	}
	do
	:: moved & 1 ->
		NEVER(use_of_freed_mapping, mappings[0].region != r);
		mappings[0].in_tree = true;
		moved = moved & 2
	:: moved == 2 ->
		NEVER(use_of_freed_mapping, mappings[1].region != r);
		mappings[1].in_tree = true;
		moved = 0
	:: else -> break
	od;
	orphan_unpin(r, 3);
	R.mapped_lock = 0;
	refund(back);
	back = 0
}

/* ---- registries: vfio_registry.c ---- */

/* registry_free() by the kernel's kref_put() */
inline registry_kref_put(g)
{
	atomic {
		NEVER(use_of_freed_registry, !G.exists || !G.users);
		G.users--;
		if
		:: !G.users ->
			NEVER(freed_while_in_use, G.mutex || G.readers || G.writer || G.listed);
			NEVER(freed_while_in_use, G.orphaned_queued || G.orphaned_runs || G.closing_queued);
			NEVER(left_behind, G.region != NO);
			G.exists = false
		:: else
		fi
	}
}

/* vfio_registry_insert() */
inline registry_insert(g, r)
{
	atomic { !G.readers && !G.writer -> G.writer = ME }
	G.region = r;
	G.writer = 0
}

/* vfio_registry_remove(): unless it is mapped, and who asks wants to know that. */
inline registry_remove(g, r, ask)
{
	atomic { !G.readers && !G.writer -> G.writer = ME }
	/* vfio_region_busy() */
	atomic {
		if
		:: ask && (mappings[0].listed && mappings[0].region == r ||
			   mappings[1].listed && mappings[1].region == r) -> ret = ERROR
		:: else
		fi
	}
	if
	:: ret == OK -> G.region = NO
	:: else
	fi;
	G.writer = 0;
	if
	:: ret == OK -> watch_stop(r)
	:: else
	fi
}

/* registry_empty() */
inline registry_empty(g)
{
	if
	:: G.region != NO ->
		r = G.region;
		ret = OK;
		registry_remove(g, r, false);
		region_orphan(r);
		region_put(r);
		r = NO
	:: else
	fi
}

/* registry_close() */
inline registry_close(g)
{
	lock_registry(g);
	G.closed = true;
	registry_empty(g);
	unlock_registry(g);
	/* the kernel's cancel_work_sync() */
	G.orphaned_queued = false;
	!G.orphaned_runs;
	registry_kref_put(g)
}

/* registry_put() */
inline registry_put(g, now)
{
	atomic {
		NEVER(use_of_freed_registry, !G.exists);
		G.nr_containers--;
		last = !G.nr_containers;
		if
		:: last -> G.listed = false
		:: else
		fi
	}
	if
	:: !last -> registry_kref_put(g)
	:: last && now -> last = false; registry_close(g)
	:: else -> last = false; G.closing_queued = true
	fi
}

/* registry_get(), registry_create() */
inline registry_get(g, whose)
{
	atomic {
		if
		:: registries[0].listed && registries[0].mm == whose -> g = 0
		:: else ->
			if
			:: registries[1].listed && registries[1].mm == whose -> g = 1
			:: else -> g = NO
			fi
		fi;
		if
		:: g != NO -> G.users++; G.nr_containers++
		:: g == NO && !registries[1].exists && !registries[1].nr_containers ->
			g = 1;
			G.exists = true;
			G.listed = true;
			G.mm = whose;
			G.users = 1;
			G.nr_containers = 1;
			G.region = NO
		:: else			/* no memory */
		fi
	}
}

/* vfio_registry_join(), registry_may_adopt() */
inline registry_join(c, whose)
{
	g = C.registry;
	if
	:: g != NO && G.mm == whose
	:: C.closed -> ret = ERROR
	:: !C.closed && g != NO && G.mm != whose && G.region != NO && !dead -> ret = ERROR
	:: else ->
		if
		:: g != NO -> C.registry = NO; registry_put(g, true); ret = OK
		:: else
		fi;
		registry_get(g, whose);
		C.registry = g;
		ret = (g == NO -> ERROR : OK)
	fi
}

/* registry_hold(): by who has container->lock. */
inline registry_hold(c, whose)
{
	g = C.registry;
	if
	:: !C.closed && g != NO && G.mm == whose ->
		atomic { NEVER(use_of_freed_registry, !G.exists); G.users++ }
	:: else -> ret = ERROR
	fi
}

/* vfio_registry_enter(), registry_adopt() */
inline registry_enter(c, whose, adopt)
{
	C.used = true;
	down_read(c);
	registry_hold(c, whose);
	up_read(c);
	if
	:: ret == ERROR && adopt ->
		ret = OK;
		down_write(c);
		registry_join(c, whose);
		if
		:: ret == OK -> registry_hold(c, whose)
		:: else
		fi;
		up_write(c)
	:: else
	fi;
	if
	:: ret == OK ->
		lock_registry(g);
		if
		:: G.closed ->
			unlock_registry(g);
			registry_kref_put(g);
			ret = ERROR
		:: else
		fi
	:: else
	fi
}

/* vfio_registry_exit() */
inline registry_exit(g)
{
	unlock_registry(g);
	registry_kref_put(g)
}

#define STALE(which) \
	((which) & 1 && R.frame[0] < began[0] || (which) & 2 && R.frame[1] < began[1])

inline begin()
{
	atomic { began[0] = at_least[0]; began[1] = at_least[1] }
}

/* registry_again(), registry_compare() */
inline registry_again(g, r)
{
	if
	:: R.marked ->
		atomic { NEVER(use_of_freed_region, !R.exists); R.users++ }
		unlock_registry(g);
		check_marked(r, 3);
		lock_registry(g);
		if
		:: G.region != r -> ret = AGAIN
		:: else
		fi;
		mine = r;
		region_put(mine)
	:: else
	fi;
	if
	:: ret == OK ->
		NEVER(use_of_freed_region, !R.exists);
		R.registered++;
		NEVER(stale_memory, STALE(3))
	:: else
	fi
}

/* registry_register(), registry_add() */
inline registry_register(g)
{
	r = G.region;
	if
	:: r != NO -> registry_again(g, r)
	:: else ->
		unlock_registry(g);
		region_create(r, g);
		lock_registry(g);
		if
		:: ret == OK ->
			mine = r;
			r = G.region;
			if
			:: r != NO -> other = mine; registry_again(g, r); mine = other
			:: r == NO && G.closed -> ret = ERROR
			:: else ->
				r = mine;
				mine = NO;
				registry_insert(g, r);
				NEVER(stale_memory, STALE(3))
			fi;
			if
			:: mine != NO ->
				watch_stop(mine);
				region_put(mine)
			:: else
			fi
		:: else
		fi
	fi;
	mine = NO;
	other = NO;
	r = NO
}

/* vfio_registry_register() by a thread of the process */
proctype registers(byte c)
{
	mtype ret = OK;
	byte g = NO, r = NO, mine = NO, other = NO, p, seq, began[2], covered, moved, back;
	bool last, whole, was_orphaned;

	begin();
	registry_enter(c, 0, true);
	if
	:: ret == OK ->
		do
		:: ret = OK;
		   registry_register(g);
		   if
		   :: ret != AGAIN -> break
		   :: else
		   fi
		od;
		registry_exit(g)
	:: else
	fi;
	atomic { threads--; ended++ }
}

/* vfio_registry_unregister(), registry_unregister() */
proctype unregisters(byte c)
{
	mtype ret = OK;
	byte g = NO, r = NO, seq, covered, moved, back;
	bool last;

	registry_enter(c, 0, false);
	if
	:: ret == OK ->
		r = G.region;
		if
		:: r != NO && R.registered > 1 -> R.registered--
		:: r != NO && R.registered == 1 ->
			registry_remove(g, r, true);
			if
			:: ret == OK -> region_put(r)
			:: else
			fi
		:: else
		fi;
		registry_exit(g)
	:: else
	fi;
	atomic { threads--; ended++ }
}

/* Another process that was given the container: it may become its. */
proctype adopts(byte c)
{
	mtype ret = OK;
	byte g = NO, r = NO, seq, covered, moved, back;
	bool last;

	registry_enter(c, 1, true);
	if
	:: ret == OK -> registry_exit(g)
	:: else
	fi;
	ended++
}

/* ---- MAP and UNMAP ---- */

/* vfio_map_dma(), map_make(), vfio_registry_take_region(), registry_take() */
proctype maps(byte m, c, which)
{
	mtype ret = AGAIN;
	byte g, r = NO, p, seq, before, began[2], covered, back;
	bool last, whole, was_orphaned;

	begin();
	do
	:: ret == AGAIN ->
		down_read(c);
		ret = OK;
		if
		:: C.closed -> ret = ERROR
		:: else ->
			M.state = PENDING;
			M.container = c;
			C.used = true;
			M.pages = which;
			before = C.generation;
			g = C.registry;
			if
			:: g != NO && G.mm == 0 ->
				atomic { !G.writer -> NEVER(use_of_freed_registry, !G.exists); G.readers++ }
				r = G.region;
				if
				:: r != NO -> region_join(r, m)
				:: else
				fi;
				G.readers--
			:: else
			fi;
			if
			:: r == NO	/* pinned for this mapping alone: see container.pml */
			:: r != NO && !R.marked
			:: else ->
				up_read(c);
				check_marked(r, which);
				down_read(c)
			fi;
			if
			:: ret == OK && C.generation != before -> ret = AGAIN
			:: else
			fi;
			if
			:: r != NO && ret == OK ->
				NEVER(stale_memory, STALE(which));
				NEVER(unpinned_while_reachable, which & ~R.pinned);
				M.reachable = true
			:: r != NO && ret != OK -> region_leave(m)
			:: else
			fi;
			M.state = (ret == OK -> LIVE : NONE)
		fi;
		up_read(c)
	:: else -> break
	od;
	atomic { threads--; ended++ }
}

/* window_empty(), vfio_dma_free() */
inline unmap_one(m)
{
	M.reachable = false;
	if
	:: M.region != NO -> region_leave(m)
	:: else
	fi
}

/* vfio_unmap_dma() by whoever has the container, which may be another process. */
proctype unmaps(byte m, c)
{
	byte r = NO, covered, back;
	bool mine, last, was_orphaned;

	down_read(c);
	atomic {
		mine = (M.state == LIVE);
		M.state = (mine -> DYING : M.state)
	}
	if
	:: mine -> unmap_one(m); M.state = NONE
	:: else
	fi;
	up_read(c);
	ended++
}

/* ---- the process changes its memory: watch_invalidate(), vfio_region_mark() ---- */

inline notify(r, mark, end)
{
	if
	:: called & (1 << r) ->
		if
		:: end ->
			/* vfio_type1_queue() of registry->orphaned */
			g = R.registry;
			atomic {
				NEVER(use_of_freed_region, !R.exists);
				NEVER(use_of_freed_registry, !G.exists);
				G.orphaned_queued = true
			}
		:: else
		fi;
		atomic {
			NEVER(use_of_freed_region, !R.exists);
			R.seq = now;
			if
			:: mark -> R.marked = true; R.tried = false
			:: else
			fi
		}
	:: else
	fi
}

/* the kernel's mmu_notifier_invalidate_range_start(), or the kernel's mn_itree_release() */
inline invalidate_start(mark, end)
{
	atomic {
		active_ranges++;
		called = 0;
		for (r : 0 .. NR_REGIONS - 1) {
			called = called | ((R.watched && R.exists) << r)
		}
		if
		:: called -> invalidate_seq = invalidate_seq | 1
		:: else
		fi;
		now = invalidate_seq
	}
	for (r : 0 .. NR_REGIONS - 1) {
		notify(r, mark, end)
	}
}

/* the kernel's mmu_notifier_invalidate_range_end() */
inline invalidate_end()
{
	atomic {
		active_ranges--;
		if
		:: !active_ranges && invalidate_seq & 1 -> invalidate_seq++
		:: else
		fi
	}
}

/* What becomes of one of the pages: a kind of change that tells, as watch_marks() has them. */
proctype changes(byte page)
{
	byte r, g, called, now, next;

	if
	:: invalidate_start(true, false);	/* munmap, MADV_DONTNEED: gone */
	   atomic { memory[page] = 0; next = newest + 1 }
	   atomic { invalidate_end(); at_least[page] = next }
	:: invalidate_start(true, false);	/* migration of what is pinned fails */
	   moving[page] = true;
	   moving[page] = false;
	   invalidate_end()
	:: invalidate_start(false, false);	/* MMU_NOTIFY_PROTECTION_PAGE and others */
	   invalidate_end()
	fi;
	atomic { threads--; ended++ }
}

/* What has no mark is what the process has. */
#define UNMARKED(g) \
	r = registries[g].region; \
	NEVER(stale_memory, r != NO && !R.marked && (R.frame[0] != memory[0] || R.frame[1] != memory[1])); \
	r = 0

/* The end of its address space. */
proctype ends()
{
	byte r, g, called, now;

	!threads;
	atomic {
		UNMARKED(0);
		UNMARKED(1);
		dead = true
	}
	invalidate_start(false, true);
	invalidate_end();
	ended++
}

/* ---- the module's queue of work ---- */

/* registry_orphaned() */
active proctype orphans()
{
	mtype ret;
	byte g, r = NO, seq, covered, moved, back;
	bool last;

end:	do
	:: atomic {
		(registries[0].orphaned_queued || registries[1].orphaned_queued) ->
		g = (registries[0].orphaned_queued -> 0 : 1);
		NEVER(use_of_freed_registry, !G.exists);
		G.orphaned_queued = false;
		G.orphaned_runs = true;
		working++
	   }
	   lock_registry(g);
	   registry_empty(g);
	   unlock_registry(g);
	   atomic { G.orphaned_runs = false; working-- }
	od
}

/* registry_closing() */
active proctype closes_later()
{
	mtype ret;
	byte g, r = NO, seq, covered, moved, back;
	bool last;

end:	do
	:: atomic {
		(registries[0].closing_queued || registries[1].closing_queued) ->
		g = (registries[0].closing_queued -> 0 : 1);
		NEVER(use_of_freed_registry, !G.exists);
		G.closing_queued = false;
		working++
	   }
	   registry_close(g);
	   working--
	od
}

/* ---- containers ---- */

/* vfio_container_destroy(), vfio_registry_leave() */
inline container_destroy(c)
{
	down_write(c);
	C.closed = true;
	C.generation++;
	for (m : 0 .. NR_MAPPINGS - 1) {
		if
		:: M.state == LIVE && M.container == c -> unmap_one(m); M.state = NONE
		:: else
		fi
	}
	g = C.registry;
	C.registry = NO;
	if
	:: g != NO -> registry_put(g, C.used)
	:: else
	fi;
	up_write(c)
}

/* By whoever had it last. */
proctype closes(byte c)
{
	mtype ret;
	byte g, r = NO, m, seq, covered, moved, back;
	bool last, was_orphaned;

	container_destroy(c);
	ended++
}

/* vfio_container_create() by the process, which does no more with it. */
proctype opens_and_closes(byte c)
{
	mtype ret;
	byte g, r = NO, m, seq, covered, moved, back;
	bool last, was_orphaned;

	registry_get(g, 0);
	C.registry = g;
	atomic { threads--; }
	container_destroy(c);
	ended++
}

/* ---- the start, and the end ---- */

/* Container 0 is the process's, which has a registry. */
inline with_registry()
{
	registries[0].exists = true;
	registries[0].listed = true;
	registries[0].users = 1;
	registries[0].nr_containers = 1;
	containers[0].registry = 0
}

/* And has registered its memory. */
inline with_region()
{
	registries[0].region = 0;
	regions[0].exists = true;
	regions[0].registry = 0;
	regions[0].users = 1;
	regions[0].registered = 1;
	regions[0].locked_vm = 2;
	regions[0].pinned = 3;
	regions[0].frame[0] = 1;
	regions[0].frame[1] = 2;
	regions[0].watched = true;
	regions[0].seq = 1;
	locked = 2
}

/* Something touched it, and it is what it was. */
inline with_marks() { regions[0].marked = true }

/* And mapped it. */
inline with_mapping(m, which)
{
	M.state = LIVE;
	M.container = 0;
	M.pages = which;
	M.region = 0;
	M.listed = true;
	M.reachable = true;
	containers[0].used = true;
	regions[0].users++
}

init
{
	byte m, actors;

	atomic {
		registries[0].region = NO;
		registries[1].region = NO;
		containers[0].registry = NO;
		containers[1].registry = NO;
		for (m : 0 .. NR_MAPPINGS - 1) {
			M.state = NONE;
			M.region = NO
		}
		m = 0;
		newest = 2;
		memory[0] = 1;
		memory[1] = 2;
		START;
		actors = _nr_pr - 3
	}
	/* Nobody can go on. */
	timeout ->
	NEVER(deadlock, ended != actors || working);
	NEVER(left_behind, locked || regions[0].exists || regions[1].exists);
	NEVER(left_behind, registries[0].exists || registries[1].exists)
}
