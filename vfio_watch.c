// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of user memory, told by MMU notifiers: munmap(),
 * madvise(MADV_DONTNEED), mremap(), a hole punched into the file behind it, the end
 * of the process.
 *
 * What is pinned stays where it is, so a notifier has nothing to wait for, and only
 * leaves a mark.
 *
 * A page that has no mark has to be in the process's page table: it was there when it
 * was pinned, or compared, and whatever takes it out leaves a mark.  That is all there is
 * to rely on.  What takes a page out of its file (truncation, a hole, reclaim, collapse,
 * a memory error) only tells those who have it in their page table then, and what puts
 * another page in only finds an empty entry, or takes the old one out first.
 *
 * So an event may go without a mark if it leaves all entries where they are.  Each
 * place that sends one of these was looked at, in 6.1, 6.12 and 7.2:
 *
 *  - MMU_NOTIFY_PROTECTION_VMA: mprotect(), userfaultfd's write protection, PAGEMAP_SCAN
 *    and NUMA balancing change the access, and convert entries that are not there
 *    (migration, swap), which had a mark before.  A transparent huge page that has to be
 *    split for that, and then is not mapped any more if it is a file's, says so by an
 *    event of its own, MMU_NOTIFY_CLEAR.  But hugetlb memory whose page table is shared
 *    with another mapping loses that table, empty entries and all, and has no event of
 *    its own: regions with such memory get a mark.  (All else that parts them, munmap(),
 *    mremap(), userfaultfd, a split area, reverse mapping, sends one that leaves a mark.)
 *  - MMU_NOTIFY_PROTECTION_PAGE: write-back, and drivers that track what is dirty, make
 *    entries read-only or clean.  So does fork(), to the parent's, of pages that are
 *    not pinned; for a huge page that it can't share it sends MMU_NOTIFY_CLEAR as well.
 *  - MMU_NOTIFY_SOFT_DIRTY: the same, for /proc/PID/clear_refs.
 *  - MMU_NOTIFY_RELEASE: nobody is left who could map it.
 *
 * Events of kinds that are not known here leave a mark.
 */

#include <linux/mmu_notifier.h>
#include <linux/sched.h>
#include <linux/signal.h>

#include "vfio_queue.h"
#include "vfio_watch.h"

#ifdef CONFIG_MMU_NOTIFIER

const bool vfio_watch_supported = true;

/* May a page not be in the process's page table after this? */
static bool watch_marks(const struct vfio_watch *watch, enum mmu_notifier_event event)
{
	switch (event) {
	case MMU_NOTIFY_PROTECTION_VMA:
		return READ_ONCE(watch->hugetlb);
	case MMU_NOTIFY_PROTECTION_PAGE:
	case MMU_NOTIFY_SOFT_DIRTY:
	case MMU_NOTIFY_RELEASE:
		return false;
	default:
		return true;
	}
}

static bool watch_invalidate(struct mmu_interval_notifier *notifier,
			     const struct mmu_notifier_range *range, unsigned long seq)
{
	struct vfio_watch *watch = container_of(notifier, struct vfio_watch, notifier);
	bool mark = watch_marks(watch, range->event);
	unsigned long vaddr = range->start;

	if (range->event == MMU_NOTIFY_RELEASE)
		vfio_type1_queue(watch->gone);
	spin_lock(watch->lock);
	mmu_interval_set_seq(notifier, seq);
	/* Who looks at the memory waits for the end of the change, not for the lock. */
	while (mark && watch->changed(watch, &vaddr, range->end - 1)) {
		spin_unlock(watch->lock);
		if (mmu_notifier_range_blockable(range))
			cond_resched();
		spin_lock(watch->lock);
	}
	spin_unlock(watch->lock);
	return true;
}

static const struct mmu_interval_notifier_ops watch_ops = {
	.invalidate = watch_invalidate,
};

/**
 * vfio_watch_start() - begin to watch memory
 * @watch: what to do when it changes
 * @mm: whose memory: the calling process's
 * @vaddr: first byte
 * @size: bytes
 *
 * The first one of a process takes every lock that its memory has, and gives that up
 * for any signal.  So none comes through but what stops or ends the process: a timer
 * could keep it from ever getting done.
 *
 * Context: process context; may sleep; takes mmap_lock.
 * Return: 0; -ENOMEM; -EINTR on a signal, also on one that is not fatal; -EOPNOTSUPP if
 * the kernel has no MMU notifiers.
 */
int vfio_watch_start(struct vfio_watch *watch, struct mm_struct *mm, unsigned long vaddr,
		     unsigned long size)
{
	sigset_t most, old;
	int ret;

	siginitsetinv(&most, sigmask(SIGKILL) | sigmask(SIGSTOP));
	sigprocmask(SIG_BLOCK, &most, &old);
	ret = mmu_interval_notifier_insert(&watch->notifier, mm, vaddr, size, &watch_ops);
	sigprocmask(SIG_SETMASK, &old, NULL);
	/* What it was may be over; but who is to begin again has to pass by the signals. */
	if (ret == -EINTR)
		set_thread_flag(TIF_SIGPENDING);
	return ret;
}

/**
 * vfio_watch_stop() - watch memory no longer
 * @watch: what was started
 *
 * Context: may sleep.
 */
void vfio_watch_stop(struct vfio_watch *watch)
{
	mmu_interval_notifier_remove(&watch->notifier);
}

/**
 * vfio_watch_read() - begin to look at watched memory
 * @watch: what was started
 *
 * Waits for the end of a change that is under way.
 *
 * Context: may sleep; mmap_lock not held.
 * Return: for vfio_watch_changed().
 */
unsigned long vfio_watch_read(struct vfio_watch *watch)
{
	return mmu_interval_read_begin(&watch->notifier);
}

/**
 * vfio_watch_changed() - was there a change while somebody looked?
 * @watch: what was started
 * @seq: from vfio_watch_read()
 *
 * Context: the lock of @watch held.
 * Return: true also if one has only begun.
 */
bool vfio_watch_changed(struct vfio_watch *watch, unsigned long seq)
{
	lockdep_assert_held(watch->lock);
	return mmu_interval_read_retry(&watch->notifier, seq);
}

#else

const bool vfio_watch_supported;

int vfio_watch_start(struct vfio_watch *watch, struct mm_struct *mm, unsigned long vaddr,
		     unsigned long size)
{
	return -EOPNOTSUPP;
}

void vfio_watch_stop(struct vfio_watch *watch)
{
}

unsigned long vfio_watch_read(struct vfio_watch *watch)
{
	return 0;
}

bool vfio_watch_changed(struct vfio_watch *watch, unsigned long seq)
{
	return false;
}

#endif
