/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Changes of user memory (vfio_watch.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_WATCH_H
#define _VFIO_WATCH_H

#include <linux/mmu_notifier.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct mm_struct;

/**
 * struct vfio_watch - user memory whose changes somebody wants to know
 * @changed: called for each change that may take pages out of the process's page table,
 *	with the bytes @vaddr to @last; returns true, with @vaddr set to where to go on, if it
 *	wants to be called once more, as soon as @lock was let go.  @lock held: must not sleep
 * @gone: queued when the process is gone
 * @lock: what @changed needs
 * @hugetlb: some of the memory is, or may be hugetlb memory
 * @notifier: the kernel's
 *
 * Who watches sets all but @notifier before vfio_watch_start(); @hugetlb may change later.
 */
struct vfio_watch {
	bool (*changed)(struct vfio_watch *watch, unsigned long *vaddr, unsigned long last);
	struct work_struct *gone;
	spinlock_t *lock; /* of who watches */
	bool hugetlb;
#ifdef CONFIG_MMU_NOTIFIER
	struct mmu_interval_notifier notifier;
#endif
};

extern const bool vfio_watch_supported;

int vfio_watch_start(struct vfio_watch *watch, struct mm_struct *mm, unsigned long vaddr,
		     unsigned long size);
void vfio_watch_stop(struct vfio_watch *watch);
unsigned long vfio_watch_read(struct vfio_watch *watch);
bool vfio_watch_changed(struct vfio_watch *watch, unsigned long seq);

#endif /* _VFIO_WATCH_H */
