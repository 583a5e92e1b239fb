// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of user memory that is registered, told by MMU notifiers: munmap(),
 * madvise(MADV_DONTNEED), mremap(), a hole punched into the file behind it, the end
 * of the process.
 *
 * What is pinned stays where it is, so a notifier has nothing to wait for, and only
 * leaves a mark.  Changes of protection leave none: fork() and NUMA balancing make
 * them all the time, and the pages stay the same.
 */

#include <linux/signal.h>

#include "vfio_type1.h"

#ifdef CONFIG_MMU_NOTIFIER

const bool vfio_watch_supported = true;

static bool watch_invalidate(struct mmu_interval_notifier *notifier,
			     const struct mmu_notifier_range *range, unsigned long seq)
{
	struct vfio_region *region = container_of(notifier, struct vfio_region, notifier);
	unsigned long vaddr = range->start;
	bool mark = true;

	switch (range->event) {
	case MMU_NOTIFY_PROTECTION_VMA:
	case MMU_NOTIFY_PROTECTION_PAGE:
	case MMU_NOTIFY_SOFT_DIRTY:
		mark = false;
		break;
	case MMU_NOTIFY_RELEASE:
		/* Nobody is left who could map it. */
		vfio_registry_orphan(region->registry);
		mark = false;
		break;
	default:
		break;
	}
	spin_lock(&region->lock);
	mmu_interval_set_seq(notifier, seq);
	/* Who looks at the memory waits for the end of the change, not for the lock. */
	while (mark && vfio_region_mark(region, &vaddr, range->end - 1)) {
		spin_unlock(&region->lock);
		if (mmu_notifier_range_blockable(range))
			cond_resched();
		spin_lock(&region->lock);
	}
	spin_unlock(&region->lock);
	return true;
}

static const struct mmu_interval_notifier_ops watch_ops = {
	.invalidate = watch_invalidate,
};

/**
 * vfio_watch_start() - begin to watch a region
 * @region: region of the calling process, without marks
 *
 * The first one of a process takes every lock that its memory has, and gives that up
 * for any signal.  So none comes through but what stops or ends the process: a timer
 * could keep it from ever getting done.
 *
 * Context: process context; may sleep; takes mmap_lock.
 * Return: 0; -ENOMEM; -EINTR on a signal, also on one that is not fatal; -EOPNOTSUPP if
 * the kernel has no MMU notifiers.
 */
int vfio_watch_start(struct vfio_region *region)
{
	sigset_t most, old;
	int ret;

	siginitsetinv(&most, sigmask(SIGKILL) | sigmask(SIGSTOP));
	sigprocmask(SIG_BLOCK, &most, &old);
	ret = mmu_interval_notifier_insert(&region->notifier, region->owner.mm, region->vaddr,
					   region->npages << PAGE_SHIFT, &watch_ops);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return ret;
}

/**
 * vfio_watch_stop() - watch a region no longer
 * @region: the region
 *
 * Context: may sleep.
 */
void vfio_watch_stop(struct vfio_region *region)
{
	mmu_interval_notifier_remove(&region->notifier);
}

/**
 * vfio_watch_read() - begin to look at a region's user memory
 * @region: the region
 *
 * Waits for the end of a change that is under way.
 *
 * Context: may sleep; mmap_lock not held.
 * Return: for vfio_watch_changed().
 */
unsigned long vfio_watch_read(struct vfio_region *region)
{
	return mmu_interval_read_begin(&region->notifier);
}

/**
 * vfio_watch_changed() - was there a change while somebody looked?
 * @region: the region
 * @seq: from vfio_watch_read()
 *
 * Context: region->lock held.
 * Return: true also if one has only begun.
 */
bool vfio_watch_changed(struct vfio_region *region, unsigned long seq)
{
	lockdep_assert_held(&region->lock);
	return mmu_interval_read_retry(&region->notifier, seq);
}

#else

const bool vfio_watch_supported;

int vfio_watch_start(struct vfio_region *region)
{
	return -EOPNOTSUPP;
}

void vfio_watch_stop(struct vfio_region *region)
{
}

unsigned long vfio_watch_read(struct vfio_region *region)
{
	return 0;
}

bool vfio_watch_changed(struct vfio_region *region, unsigned long seq)
{
	return false;
}

#endif
