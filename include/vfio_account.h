/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * locked_vm: who owns memory, and what he is charged (vfio_account.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_ACCOUNT_H
#define _VFIO_ACCOUNT_H

#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/user_namespace.h>

struct mm_struct;

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

int vfio_owner_init(struct vfio_owner *owner);
void vfio_owner_put(struct vfio_owner *owner);
int vfio_account_check(const struct vfio_owner *owner, unsigned long npages);
int vfio_account_charge(const struct vfio_owner *owner, unsigned long npages);
void vfio_account_refund(const struct vfio_owner *owner, unsigned long npages);

/**
 * vfio_owner_init_limit() - note whether RLIMIT_MEMLOCK applies to an owner
 * @owner: owner that the calling process is
 *
 * Not part of vfio_owner_init(), as asking takes several times as long as that.
 *
 * It has to be asked while the process is here: what a later attach or pin_pages charges goes
 * by it, too.  Most have no need of it, so that to lack it is nothing for the audit log;
 * vfio_refuse_memlock() says when it was.
 *
 * Context: process context.
 */
static inline void vfio_owner_init_limit(struct vfio_owner *owner)
{
	owner->lock_cap = ns_capable_noaudit(&init_user_ns, CAP_IPC_LOCK);
}

#endif /* _VFIO_ACCOUNT_H */
