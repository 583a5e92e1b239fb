/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A container: mappings and who may touch them, its locks, those who wait, domains, and
 * in-kernel users.  tests/model/run has what is run of it.
 *
 * Each inline and proctype stands for the functions that its comment names.  What is done
 * under tree->lock is one atomic step, and so is what only its owner can see.
 *
 * IOVA are 0 and 1.  A mapping has two pages, whatever IOVA it has, and is made by one
 * MAP: its memory is never used again, so that a use after the free is seen.  A page may
 * be known to an IOTLB whenever it was mapped.
 *
 * Left out: v1 containers, VFIO_UPDATE_VADDR, the bits of dirty bitmaps, pages that are not
 * charged, charging ahead, registered memory (registry.pml), page tables that grow, groups
 * that share a domain, what a driver keeps though it was to give it back, lost run lists.  All that is
 * done is seen by all at once, as if CPUs had no caches: barriers are not tried.
 */

#define NR	3		/* mappings */
#define PAGES	2		/* of a mapping */
#define NO	NR		/* no mapping */
#define ME	(_pid + 1)
#define MYBIT	(1 << _pid)

/* Bits of pages: the first n of mapping i. */
#define FIRST(i, n)	(((1 << (n)) - 1) << ((i) * PAGES))
#define PAGE(i, n)	(1 << ((i) * PAGES + (n)))

/* What may never be.  Each is false for ever; the name is for who reads what spin says. */
#define NEVER(what, condition) assert(!(condition) || what)
bool use_of_freed_mapping, use_of_freed_container, use_of_freed_domain, not_the_owner,
     unpinned_while_reachable, unpinned_twice, unpinned_for_another, iova_mapped_twice, refunded_twice, held_uncharged,
     unsettled_under_write_lock, freed_while_in_use, lost_wakeup, deadlock, left_behind;

mtype = { NONE, PENDING, LIVE, HELD, DYING, KEPT };
mtype = { OK, ERROR, RESTART, WAIT, DONE, MORE, CUT };

typedef mapping {
	bool exists;
	byte first;
	byte last;
	mtype state;		/* NONE: in no tree */
	byte owner;		/* who made it PENDING, HELD or DYING; nothing in the code */
	byte mapped;
	byte locked_vm;
	byte external;		/* bits of pages */
	bool late;
	bool orphaned;
}
mapping dma[NR];

/* struct vfio_type1_container */
byte users = 1;
bool published = true, container_freed;
bool closed, emulated;
byte generation;
byte nr_domains;
byte domains[2];		/* in the order of the list */
byte changes;			/* tree->changes */

/* Pages: pinned by their mappings, by in-kernel users, for ever. */
byte pinned, user_pinned, lost;
/* mm->locked_vm */
byte locked;
/* What each domain translates, and what an IOTLB still knows of. */
bool domain_exists[2];
byte pte[2], tlb[2];
#define REACHABLE	(pte[0] | pte[1] | tlb[0] | tlb[1])

/* ---- locks ---- */

/* container->lock.  A reader waits behind a writer that waits. */
byte readers, writers_waiting, writer;

inline down_read()
{
	atomic {
		!writer && !writers_waiting ->
		NEVER(use_of_freed_container, container_freed);
		readers++
	}
}

inline up_read() { atomic { NEVER(use_of_freed_container, container_freed); readers-- } }

inline down_write()
{
	atomic { NEVER(use_of_freed_container, container_freed); writers_waiting++ }
	atomic {
		!readers && !writer ->
		NEVER(use_of_freed_container, container_freed);
		writers_waiting--;
		writer = ME
	}
}

inline up_write() { atomic { NEVER(use_of_freed_container, container_freed); writer = 0 } }

byte external_lock, device_lock, debugfs_lock;

inline lock(mutex)
{
	atomic { !mutex -> NEVER(use_of_freed_container, container_freed); mutex = ME }
}

inline unlock(mutex) { mutex = 0 }

/* The inside of a mapping is its owner's, or whoever's who holds the lock for writing. */
#define TOUCH(i) \
	NEVER(use_of_freed_mapping, !dma[i].exists); \
	NEVER(not_the_owner, dma[i].owner != ME && writer != ME)

/* ---- waiting: vfio_dma_tree_wait(), vfio_dma_tree_wake() ---- */

byte queue;			/* who is in it */
byte noted[8];			/* tree->changes as each of them saw it */

/* The result is ERROR if a fatal signal ends the wait, whenever it comes. */
inline wait(result)
{
	if
	:: result = ERROR
	:: do
	   :: queue = queue | MYBIT;
	      if
	      :: atomic { changes != noted[_pid] -> queue = queue & ~MYBIT; break }
	      :: changes == noted[_pid] -> !(queue & MYBIT)
	      fi
	   od
	fi
}

inline wake() { queue = 0 }

/* ---- IOMMU ---- */

/* What else is mapped, or known to an IOTLB, where mapping i lies? */
#define OTHERS(i, j, d) \
	(i != j && dma[i].first <= dma[j].last && dma[j].first <= dma[i].last && \
	 (pte[d] | tlb[d]) & FIRST(j, PAGES))

/* the kernel's iommu_map() */
inline iommu_map(d, i, pages)
{
	NEVER(use_of_freed_domain, !domain_exists[d]);
	NEVER(iova_mapped_twice, OTHERS(i, 0, d) || OTHERS(i, 1, d) || OTHERS(i, 2, d));
	NEVER(unpinned_while_reachable, (pages) & ~pinned);
	pte[d] = pte[d] | (pages)
}

/* the kernel's iommu_unmap_fast() */
inline iommu_unmap(d, pages)
{
	NEVER(use_of_freed_domain, !domain_exists[d]);
	tlb[d] = tlb[d] | (pte[d] & (pages));
	pte[d] = pte[d] & ~(pages)
}

/* the kernel's iommu_iotlb_sync() */
inline iotlb_sync(d, pages) { tlb[d] = tlb[d] & ~(pages) }

/* vfio_unpin_runs(), vfio_pin_drop() */
inline unpin(pages)
{
	NEVER(unpinned_while_reachable, (pages) & REACHABLE);
	NEVER(unpinned_twice, (pages) & ~pinned);
	pinned = pinned & ~(pages)
}

/* vfio_account_refund() */
inline refund(n)
{
	NEVER(refunded_twice, locked < n);
	locked = locked - (n)
}

/* ---- emptying: vfio_unmap.c ---- */

#define COUNT(i)	((dma[i].external & 1) + (dma[i].external >> 1))

/* window_uncharge() */
inline window_uncharge(i, filling)
{
	late = dma[i].late;
	if
	:: late -> lock(external_lock)
	:: else
	fi;
	TOUCH(i);
	dma[i].mapped = 0;
	if
	:: !(filling) ->
		n = (COUNT(i) < dma[i].locked_vm -> COUNT(i) : dma[i].locked_vm);
		w_refund = w_refund + dma[i].locked_vm - n;
		dma[i].locked_vm = n;
		n = 0
	:: else
	fi;
	if
	:: late -> unlock(external_lock)
	:: else
	fi;
	late = false
}

/* window_empty(): out of all other domains, with a sync, then out of the primary one. */
inline window_empty(i, filling)
{
	TOUCH(i);
	if
	:: dma[i].mapped && nr_domains > 1 ->
		atomic {
			iommu_unmap(domains[1], FIRST(i, dma[i].mapped));
			iotlb_sync(domains[1], FIRST(i, dma[i].mapped))
		}
	:: else
	fi;
	if
	:: dma[i].mapped ->
		atomic {
			w_pages = w_pages | FIRST(i, dma[i].mapped);
			iommu_unmap(domains[0], FIRST(i, dma[i].mapped))
		}
	:: else
	fi;
	window_uncharge(i, filling)
}

/* window_settle(), window_flush() */
inline window_settle()
{
	if
	:: w_pages ->
		iotlb_sync(domains[0], w_pages);
		atomic { unpin(w_pages); w_pages = 0 }
	:: else
	fi;
	if
	:: w_refund -> atomic { refund(w_refund); w_refund = 0 }
	:: else
	fi
}

/* vfio_empty() */
inline unmap_empty(i)
{
	window_empty(i, false);
	window_settle()
}

/* vfio_empty_all(): those in the tree, whatever their state. */
inline unmap_empty_all()
{
	for (k : 0 .. NR - 1) {
		if
		:: dma[k].state != NONE && dma[k].state != KEPT ->
			NEVER(unsettled_under_write_lock, dma[k].state == HELD);
			window_empty(k, dma[k].state == PENDING)
		:: else
		fi
	}
	k = 0;
	window_settle()
}

/* vfio_dma_free() */
inline dma_free(i)
{
	atomic {
		NEVER(use_of_freed_mapping, !dma[i].exists);
		NEVER(freed_while_in_use, dma[i].state != NONE || dma[i].mapped || dma[i].external);
		NEVER(left_behind, dma[i].locked_vm);
		dma[i].exists = false;
		dma[i].owner = 0;
		dma[i].late = false;
		dma[i].orphaned = false
	}
}

/* vfio_external_abandon() */
inline external_abandon(i)
{
	if
	:: dma[i].external ->
		atomic {
			lost = lost | (dma[i].external << (i * PAGES));
			dma[i].external = 0;
			refund(dma[i].locked_vm);
			dma[i].locked_vm = 0
		}
	:: else
	fi
}

/* unmap_forget() */
inline unmap_forget(i)
{
	external_abandon(i);
	atomic { dma[i].state = NONE; changes++ }
	dma_free(i)
}

/* vfio_unmap_all() */
inline unmap_all()
{
	unmap_empty_all();
	for (k : 0 .. NR - 1) {
		if
		:: dma[k].state == LIVE || dma[k].state == KEPT -> unmap_forget(k)
		:: dma[k].state == NONE
		:: else -> dma[k].orphaned = (dma[k].state == DYING)
		fi
	}
	k = 0
}

/* ---- calls: vfio_container_get(), vfio_container_put() ---- */

inline container_get()
{
	atomic {
		if
		:: published && users -> users++
		:: else -> goto out
		fi
	}
}

inline container_put()
{
	atomic {
		NEVER(use_of_freed_container, container_freed);
		users--;
		if
		:: !users ->
			container_freed = true;
			NEVER(left_behind, dma[0].state != NONE || dma[1].state != NONE ||
					   dma[2].state != NONE)
		:: else
		fi
	}
}

/* A device that is open, and what its driver has noted that it pinned. */
bool registered, driver_noted;
byte driver_dma, driver_iova;

byte ended;			/* actors */

/* ---- MAP: vfio_map.c ---- */

#define HIT(i, j) \
	(i != j && dma[j].first <= dma[i].last && dma[i].first <= dma[j].last)
#define IN_TREE(j)	(dma[j].state != NONE && dma[j].state != KEPT)

/* map_reserve(): an overlap that is unsettled is waited for. */
inline map_reserve(i)
{
	atomic {
		if
		:: HIT(i, 0) && IN_TREE(0) -> k = 0
		:: HIT(i, 1) && IN_TREE(1) -> k = 1
		:: HIT(i, 2) && IN_TREE(2) -> k = 2
		:: else -> k = NO
		fi;
		if
		:: k != NO ->
			noted[_pid] = changes;
			ret = (dma[k].state == LIVE -> ERROR : WAIT)
		:: k == NO && ((HIT(i, 0) && dma[0].state == KEPT) ||
			       (HIT(i, 1) && dma[1].state == KEPT) ||
			       (HIT(i, 2) && dma[2].state == KEPT)) -> ret = ERROR
		:: else ->
			dma[i].state = PENDING;
			dma[i].owner = ME;
			ret = OK
		fi;
		k = 0
	}
}

/* map_flush(): the queue into each domain, or, if one fails, into none. */
inline map_flush(i, may_fail)
{
	d = 0;
	do
	:: d < nr_domains ->
		if
		:: atomic { iommu_map(domains[d], i, waiting); d++ }
		:: may_fail -> ret = ERROR; break
		fi
	:: else -> break
	od;
	if
	:: ret == OK ->
		atomic {
			TOUCH(i);
			dma[i].mapped = dma[i].mapped + ((waiting >> (i * PAGES)) & 1) +
					((waiting >> (i * PAGES)) >> 1);
			waiting = 0
		}
	:: else ->
		/* map_undo() */
		do
		:: d > 0 ->
			d--;
			iommu_unmap(domains[d], waiting);
			iotlb_sync(domains[d], waiting)
		:: else -> break
		od
	fi;
	d = 0
}

/* map_pin(): without the lock, unless it is an attach's. */
inline map_pin(i, page, keep_lock)
{
	before = generation;
	if
	:: !keep_lock -> up_read()
	:: else
	fi;
	if
	:: atomic { batch = PAGE(i, page); pinned = pinned | batch }
	:: ret = ERROR
	fi;
	if
	:: !keep_lock -> down_read()
	:: else
	fi;
	if
	:: ret == OK && generation != before -> ret = RESTART
	:: else
	fi;
	before = 0
}

/* map_charge() */
inline map_charge(i)
{
	if
	:: atomic {
		TOUCH(i);
		/* What in-kernel users have pinned is charged already: map_charge_settle(). */
		if
		:: !((dma[i].external << (i * PAGES)) & batch) ->
			locked++;
			dma[i].locked_vm++
		:: else
		fi
	   }
	:: ret = ERROR
	fi
}

/* map_fill(), map_memory(), map_pages(), map_next_batch() */
inline map_fill(i, keep_lock)
{
	page = 0;
	do
	:: page < PAGES && ret == OK ->
		map_pin(i, page, keep_lock);
		if
		:: ret == OK -> map_charge(i)
		:: else
		fi;
		if
		:: ret == OK ->
			atomic { waiting = waiting | batch; batch = 0; page++ }
			/* The queue may go on across batches. */
			if
			:: map_flush(i, true)
			:: page < PAGES
			fi
		:: else
		fi
	:: else -> break
	od;
	page = 0;
	if
	:: ret != OK ->
		atomic { unpin(batch | waiting); batch = 0; waiting = 0 }
		unmap_empty(i)
	:: else
	fi
}

/* map_complete() */
inline map_complete(i)
{
	if
	:: nr_domains -> map_fill(i, false)
	:: else
	fi;
	if
	:: ret != OK ->
		lock(external_lock);
		atomic { dma[i].state = NONE; changes++ }
		unlock(external_lock)
	:: else -> atomic { dma[i].state = LIVE; dma[i].owner = 0; changes++ }
	fi;
	wake()
}

/* vfio_map_dma() */
proctype map(byte i, from, to)
{
	mtype ret = OK;
	byte k, d, n, page, batch, waiting, before, w_pages, w_refund;
	bool late;

	container_get();
	atomic { dma[i].exists = true; dma[i].first = from; dma[i].last = to; dma[i].owner = ME }
	do
	:: down_read();			/* vfio_container_lock_reach() */
	   if
	   :: closed -> ret = ERROR
	   :: else ->
		map_reserve(i);
		if
		:: ret == OK -> map_complete(i)
		:: else
		fi
	   fi;
	   up_read();
	   if
	   :: ret == WAIT -> ret = OK; wait(ret)
	   :: ret == RESTART -> ret = OK
	   :: else -> break
	   fi;
	   if
	   :: ret != OK -> break
	   :: else
	   fi
	od;
	if
	:: ret != OK -> dma_free(i)
	:: else
	fi;
	container_put();
out:	ended++
}

/* ---- UNMAP: vfio_unmap.c ---- */

/* vfio_dma_tree_first() at one IOVA */
#define AT(j, p)	(IN_TREE(j) && dma[j].first <= p && p <= dma[j].last)
inline at(p, j)
{
	if
	:: p < 2 && AT(0, p) -> j = 0
	:: p < 2 && AT(1, p) -> j = 1
	:: p < 2 && AT(2, p) -> j = 2
	:: else -> j = NO
	fi
}

/* The lowest of a range: vfio_dma_tree_first(). */
inline first_of(p, end, j)
{
	at(p, j);
	if
	:: j == NO && p < end -> at((p + 1), j)
	:: else
	fi
}

/* unmap_claim().  CLAIM_MAX is any number. */
inline unmap_claim()
{
	atomic {
		/* vfio_dma_tree_range() */
		first_of(iova, to, k);
		n = NO;
		if
		:: k != NO && dma[k].first < iova -> n = k
		:: k != NO && dma[k].first >= iova ->
			at(to, n);
			if
			:: n != NO && dma[n].last <= to -> n = NO
			:: else
			fi
		:: else
		fi;
		next = DONE;
		if
		:: n != NO && !begun ->
			noted[_pid] = changes;
			next = (dma[n].state == LIVE -> CUT : WAIT);
			n = 0
		:: else ->
			n = 0;
			do
			:: k == NO || dma[k].first > to -> break
			:: else ->
				if
				:: dma[k].state != LIVE ->
					noted[_pid] = changes;
					next = (n -> MORE : WAIT);
					break
				:: dma[k].state == LIVE && dma[k].first >= iova && dma[k].last > to ->
					break
				:: dma[k].state == LIVE && dma[k].first < iova
				:: else ->
					begun = true;
					NEVER(use_of_freed_mapping, !dma[k].exists);
					dma[k].state = DYING;
					dma[k].owner = ME;
					claimed = claimed | (1 << k);
					n++;
					if
					:: dma[k].last >= to -> break
					:: else -> iova = dma[k].last + 1
					fi;
					if
					:: next = MORE; break
					:: true
					fi
				fi;
				at((dma[k].last + 1), k)
			od
		fi;
		n = 0;
		k = 0
	}
}

/* vfio_external_unpin(), external_unpin_page(), external_put_page(), external_free_kept() */
inline external_unpin()
{
	down_read();
	lock(external_lock);
	atomic {
		/* external_unpin_pages(): whose IOVA it is now, or else was, its pin it is. */
		at(driver_iova, k);
		NEVER(unpinned_for_another, k != NO && k != driver_dma);
		k = 0;
		NEVER(use_of_freed_mapping, !dma[driver_dma].exists || dma[driver_dma].state == NONE);
		NEVER(unpinned_twice, !(dma[driver_dma].external & 1))
	}
	dma[driver_dma].external = 0;
	if
	:: !dma[driver_dma].mapped && dma[driver_dma].locked_vm ->
		dma[driver_dma].locked_vm--;
		atomic { refund(1) }
	:: else
	fi;
	user_pinned = user_pinned & ~PAGE(driver_dma, 0);
	wake();
	if
	:: dma[driver_dma].state == KEPT ->
		atomic { dma[driver_dma].state = NONE; changes++ }
		dma_free(driver_dma)
	:: else
	fi;
	unlock(external_lock);
	up_read()
}

#define CLAIMED(j)	(claimed & (1 << (j)))

/* evict_look() */
inline evict_look()
{
	lock(external_lock);
	atomic {
		late = false;
		for (k : 0 .. NR - 1) {
			if
			:: CLAIMED(k) ->
				TOUCH(k);
				dma[k].late = (dma[k].external != 0);
				late = late || dma[k].late
			:: else
			fi
		}
		k = 0
	}
	unlock(external_lock)
}

/* evict_tell(): what the driver has noted it unpins from within the call. */
inline evict_tell()
{
	lock(device_lock);
	if
	:: atomic { registered && driver_noted && CLAIMED(driver_dma) -> driver_noted = false }
	   external_unpin()
	:: else
	fi;
	unlock(device_lock)
}

/* vfio_external_evict(): the number of waits is any, here one. */
inline external_evict()
{
	evict_look();
	if
	:: late ->
		up_read();
		evict_tell();
		evict_look();
		if
		:: late -> evict_tell(); evict_look()
		:: else
		fi;
		down_read()
	:: else
	fi;
	late = false
}

/* unmap_prepare(), unmap_report_all(): what cannot be reported is nobody's again. */
inline unmap_report()
{
	if
	:: true				/* the bitmap was at hand */
	:: up_read();			/* vfio_dirty_fault_in() */
	   down_read();
	   if
	   :: true
	   :: ret = ERROR;		/* from any of them on */
	      for (k : 0 .. NR - 1) {
		if
		:: CLAIMED(k) -> late = true
		:: CLAIMED(k)
		:: else
		fi;
		if
		:: CLAIMED(k) && late && !dma[k].orphaned ->
			claimed = claimed & ~(1 << k);
			atomic { dma[k].state = LIVE; dma[k].owner = 0; changes++ }
		:: else
		fi
	      }
	      late = false;
	      k = 0;
	      wake()
	   fi
	fi
}

/* vfio_external_keep() */
inline external_keep(i)
{
	if
	:: dma[i].external ->
		atomic {
			NEVER(held_uncharged, dma[i].locked_vm != COUNT(i));
			dma[i].state = KEPT;
			dma[i].owner = 0;
			changes++;
			claimed = claimed & ~(1 << i)
		}
	:: else
	fi
}

/* unmap_claimed(), unmap_keep_late() */
inline unmap_claimed()
{
	for (k : 0 .. NR - 1) {
		if
		:: CLAIMED(k) -> window_empty(k, false)
		:: else
		fi
	}
	window_settle();
	lock(external_lock);
	for (k : 0 .. NR - 1) {
		if
		:: CLAIMED(k) && dma[k].late && closed -> external_abandon(k)
		:: CLAIMED(k) && dma[k].late && !closed -> external_keep(k)
		:: else
		fi
	}
	atomic {
		for (k : 0 .. NR - 1) {
			if
			:: CLAIMED(k) -> TOUCH(k); dma[k].state = NONE; changes++
			:: else
			fi
		}
	}
	unlock(external_lock);
	wake();
	for (k : 0 .. NR - 1) {
		if
		:: CLAIMED(k) -> dma_free(k)
		:: else
		fi
	}
	k = 0;
	claimed = 0
}

/* vfio_unmap_dma() */
proctype unmap(byte from, to; bool dirty)
{
	mtype ret = OK, next = MORE;
	byte k, n, iova = from, claimed, w_pages, w_refund;
	bool begun, late;

	container_get();
	down_read();
	do
	:: ret == OK && next != DONE ->
		unmap_claim();
		if
		:: next == CUT -> ret = ERROR
		:: next == WAIT -> up_read(); wait(ret); down_read()
		:: else ->
			if
			:: claimed -> external_evict()
			:: else
			fi;
			if
			:: claimed && dirty -> unmap_report()
			:: else
			fi;
			if
			:: claimed -> unmap_claimed()
			:: else
			fi
		fi
	:: else -> break
	od;
	up_read();
	container_put();
out:	ended++
}

/* ---- in-kernel users: vfio_external.c ---- */

/*
 * vfio_external_pin(), external_get_dma(), external_pin_page(): a driver that pins the
 * first page at an IOVA.  It unpins it by itself, as it is told to, or never.
 */
proctype driver(byte iova)
{
	mtype ret = WAIT;
	byte k;

	do
	:: ret == WAIT ->
		down_read();
		lock(external_lock);
		atomic {
			at(iova, k);
			if
			:: k == NO || dma[k].state == DYING -> ret = ERROR
			:: k != NO && dma[k].state == PENDING -> noted[_pid] = changes; ret = WAIT
			:: else -> ret = OK
			fi
		}
		if
		:: ret == OK && nr_domains ->
			atomic {
				NEVER(use_of_freed_mapping, !dma[k].exists);
				user_pinned = user_pinned | PAGE(k, 0);
				dma[k].external = 1
			}
		:: ret == OK && !nr_domains ->
			atomic {
				NEVER(use_of_freed_mapping, !dma[k].exists);
				user_pinned = user_pinned | PAGE(k, 0);
				dma[k].external = 1;
				locked++;
				dma[k].locked_vm++
			}
		:: else
		fi;
		unlock(external_lock);
		up_read();
		if
		:: ret == WAIT ->
			wait(ret)
		:: ret == OK ->
			atomic { driver_dma = k; driver_iova = iova; driver_noted = true }
			break
		:: else
		fi
	:: else -> break
	od;
	if
	:: atomic { driver_noted -> driver_noted = false }
	   external_unpin()
	:: true
	fi;
	/* vfio_external_unregister() */
	lock(device_lock);
	registered = false;
	unlock(device_lock);
	ended++
}

/* ---- debugfs: vfio_debugfs.c ---- */

bool removed;
byte reading;

/* mappings_look(), mappings_find() from IOVA 0 on.  It gives up where a lock is taken. */
proctype reader()
{
	byte k, iova;
	bool found;

	do
	:: iova < 2 ->
		atomic {
			if
			:: !removed -> reading++
			:: else -> goto out
			fi
		}
		if
		:: atomic { !debugfs_lock -> debugfs_lock = ME }
		   if
		   :: atomic { !writer && !writers_waiting ->
				NEVER(use_of_freed_container, container_freed);
				readers++ }
			atomic {
				first_of(iova, 1, k);
				found = (k != NO && dma[k].state == LIVE);
				if
				:: found ->
					dma[k].state = HELD;
					dma[k].owner = ME
				:: else
				fi
			}
			if
			:: found ->
				/* vfio_survey() */
				TOUCH(k);
				TOUCH(k);
				atomic { dma[k].state = LIVE; dma[k].owner = 0; changes++ }
				wake()
			:: else
			fi;
			iova = (k == NO -> 2 : dma[k].last + 1);
			up_read()
		   :: iova = 2
		   fi;
		   debugfs_lock = 0
		:: iova = 2
		fi;
		reading--
	:: else -> break
	od;
out:	ended++
}

/* ---- groups, and the end: vfio_container.c; the VFIO core has them one at a time ---- */

/* replay_copy() */
inline replay_copy(i, to)
{
	if
	:: dma[i].mapped -> atomic { iommu_map(to, i, FIRST(i, dma[i].mapped)) }
	:: dma[i].mapped -> ret = ERROR
	:: else
	fi
}

inline domain_free(to) { atomic { domain_exists[to] = false; pte[to] = 0; tlb[to] = 0 } }

/* vfio_container_attach(), container_add_domain() */
inline attach(to)
{
	down_write();
	ret = OK;
	domain_exists[to] = true;
	generation++;
	first = !nr_domains;
	if
	:: first -> domains[0] = to; nr_domains = 1
	:: else
	fi;
	for (i : 0 .. NR - 1) {
		if
		:: ret == OK && IN_TREE(i) && !first -> replay_copy(i, to)
		:: ret == OK && IN_TREE(i) && first && dma[i].state != PENDING -> map_fill(i, true)
		:: else
		fi
	}
	i = 0;
	if
	:: ret == OK && !first -> atomic { domains[1] = to; nr_domains = 2 }
	:: ret != OK && first -> unmap_empty_all(); nr_domains = 0
	:: else
	fi;
	if
	:: ret == OK -> generation++
	:: else -> domain_free(to)
	fi;
	up_write()
}

/* vfio_container_detach(), container_remove_domain(), container_lose_all() */
inline detach(from)
{
	down_write();
	generation++;
	if
	:: domain_exists[from] && nr_domains == 1 && emulated -> unmap_empty_all()
	:: domain_exists[from] && nr_domains == 1 && !emulated -> unmap_all()
	:: else
	fi;
	if
	:: domain_exists[from] ->
		if
		:: domains[0] == from -> domains[0] = domains[1]
		:: else
		fi;
		nr_domains--;
		domain_free(from)
	:: else
	fi;
	up_write()
}

/* vfio_container_destroy(), type1_release().  No device is open. */
inline release()
{
	!registered;
	atomic { assert(published && users); users++ }
	published = false;
	removed = true;			/* vfio_debugfs_remove() */
	!reading;
	down_write();
	closed = true;
	generation++;
	unmap_all();
	do
	:: nr_domains ->
		nr_domains--;
		domain_free(domains[nr_domains])
	:: else -> break
	od;
	up_write();
	container_put();
	container_put()
}

proctype core()
{
	mtype ret = OK;
	byte i, k, d, n, page, batch, waiting, before, w_pages, w_refund;
	bool first, late;

	CORE;
	ended++
}

/* ---- the start, and the end ---- */

/* A mapping that was made before. */
inline made(i, from, to)
{
	dma[i].exists = true;
	dma[i].first = from;
	dma[i].last = to;
	dma[i].state = LIVE;
	if
	:: nr_domains ->
		dma[i].mapped = PAGES;
		dma[i].locked_vm = PAGES;
		locked = locked + PAGES;
		pinned = pinned | FIRST(i, PAGES);
		for (j : 0 .. nr_domains - 1) {
			pte[domains[j]] = pte[domains[j]] | FIRST(i, PAGES)
		}
	:: else
	fi
}

/* And a device that has no IOMMU, whose driver pins. */
inline with_user(nr)
{
	with_domains(nr);
	emulated = true;
	registered = true
}

inline with_domains(nr)
{
	nr_domains = nr;
	for (j : 0 .. 1) {
		domains[j] = j;
		domain_exists[j] = (j < nr)
	}
}

#define SETTLED(j)	(dma[j].state == NONE || dma[j].state == LIVE || dma[j].state == KEPT)

init
{
	byte j, actors;

	atomic {
		for (j : 0 .. NR - 1) {
			dma[j].state = NONE
		}
		START;
		run core();
		actors = _nr_pr - 1;
		j = 0
	}
	/* Nobody can go on. */
	timeout ->
	for (j : 0 .. 7) {
		NEVER(lost_wakeup, queue & (1 << j) &&
				   (noted[j] != changes || SETTLED(0) && SETTLED(1) && SETTLED(2)))
	}
	NEVER(deadlock, ended != actors);
	NEVER(left_behind, locked || pinned || user_pinned & ~lost || REACHABLE);
	NEVER(left_behind, dma[0].exists || dma[1].exists || dma[2].exists);
	NEVER(left_behind, !container_freed)
}
