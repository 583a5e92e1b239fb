// SPDX-License-Identifier: GPL-2.0-only
/*
 * locked_vm: who is charged for pinned memory, and how much.
 *
 * A mapping charges the mm whose pages it pins, against the RLIMIT_MEMLOCK of
 * the thread group that mapped it.  locked_vm is shared with mlock(), so it
 * changes under the mmap_lock, held for writing; callers charge many pages at a
 * time.  What is charged is given back once, if the mm still lives.
 */

#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "vfio_account.h"

/**
 * vfio_owner_init() - note the calling process as the owner of a mapping
 * @owner: what to fill in
 *
 * Takes references that vfio_owner_put() drops.  Who is going to charge the owner calls
 * vfio_owner_init_limit(), too.
 *
 * Context: process context.
 * Return: 0; -ENODEV if the caller has no memory of its own (a kernel thread).
 */
int vfio_owner_init(struct vfio_owner *owner)
{
	if (!current->mm)
		return -ENODEV;
	owner->task = get_task_struct(current->group_leader);
	owner->mm = current->mm;
	mmgrab(owner->mm);
	owner->lock_cap = false;
	return 0;
}

/**
 * vfio_owner_put() - drop the references of vfio_owner_init()
 * @owner: an owner with nothing charged any more
 */
void vfio_owner_put(struct vfio_owner *owner)
{
	mmdrop(owner->mm);
	put_task_struct(owner->task);
}

/**
 * vfio_account_check() - could pages be charged now?
 * @owner: whom
 * @npages: how many pages
 *
 * For who wants to know before there is anything to charge; it promises nothing.
 *
 * Return: 0; -ENOMEM if RLIMIT_MEMLOCK would be exceeded.
 */
int vfio_account_check(const struct vfio_owner *owner, unsigned long npages)
{
	unsigned long limit = task_rlimit(owner->task, RLIMIT_MEMLOCK) >> PAGE_SHIFT;

	if (owner->lock_cap || READ_ONCE(owner->mm->locked_vm) + npages <= limit)
		return 0;
	return -ENOMEM;
}

/**
 * vfio_account_charge() - count pages as locked
 * @owner: whom to charge; its mm must not be able to go away
 * @npages: how many pages
 *
 * Context: may sleep; takes the mm's mmap_lock.
 * Return: 0; -ENOMEM if RLIMIT_MEMLOCK would be exceeded; -EINTR if a fatal
 * signal came first.  Nothing is charged on failure.
 */
int vfio_account_charge(const struct vfio_owner *owner, unsigned long npages)
{
	int ret;

	if (!npages)
		return 0;
	ret = mmap_write_lock_killable(owner->mm);
	if (ret)
		return ret;
	ret = __account_locked_vm(owner->mm, npages, true, owner->task, owner->lock_cap);
	mmap_write_unlock(owner->mm);
	return ret;
}

/**
 * vfio_account_refund() - give charged pages back
 * @owner: who was charged
 * @npages: how many pages
 *
 * If the mm is dead there is nobody to give them back to.  Not killable, unlike
 * charging: the mm may outlive a killed caller.
 *
 * Context: may sleep; takes the mm's mmap_lock.
 */
void vfio_account_refund(const struct vfio_owner *owner, unsigned long npages)
{
	if (!npages || !mmget_not_zero(owner->mm))
		return;
	mmap_write_lock(owner->mm);
	__account_locked_vm(owner->mm, npages, false, owner->task, owner->lock_cap);
	mmap_write_unlock(owner->mm);
	mmput(owner->mm);
}
