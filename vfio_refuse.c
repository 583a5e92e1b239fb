// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refusals: each is counted, and told in one line of the kernel log, which says
 * who asked for what, which check failed, and what would have been right.
 *
 * Whoever can open a group can be refused as often as he likes, so the lines are
 * limited: per container and reason, so that a flood of one kind hides neither
 * another kind nor another container; and, much higher, per reason for all
 * containers, as a container with fresh limits is quickly opened.  The counters
 * count what the log leaves out, too.
 *
 * Texts are documented in Documentation/messages.rst, where tests look for them.
 */

#include <linux/atomic.h>
#include <linux/container_of.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "trace/vfio_trace.h"
#include "vfio_account.h"
#include "vfio_refuse.h"
#include "vfio_type1.h"

#define PAGES_TO_KIB(npages)	((npages) << (PAGE_SHIFT - 10))

/* Lines of one reason per DEFAULT_RATELIMIT_INTERVAL: by a container, and in all. */
#define LINES_CONTAINER	DEFAULT_RATELIMIT_BURST
#define LINES_ALL	50

/**
 * struct refusals - what a container was refused
 * @count: how often, per enum vfio_refusal
 * @limit: limits the rate of messages, per enum vfio_refusal
 */
struct refusals {
	atomic_long_t count[VFIO_REFUSE_NR];
	struct ratelimit_state limit[VFIO_REFUSE_NR];
};

static struct ratelimit_state refuse_limit_all[VFIO_REFUSE_NR] = {
	[0 ... VFIO_REFUSE_NR - 1] =
		RATELIMIT_STATE_INIT("vfio_refuse", DEFAULT_RATELIMIT_INTERVAL, LINES_ALL),
};

/* What counters and tracepoints call each reason. */
const char *const vfio_refusal_names[VFIO_REFUSE_NR] = {
	[VFIO_REFUSE_ARGSZ] = "argsz",
	[VFIO_REFUSE_FLAGS] = "flags",
	[VFIO_REFUSE_SIZE] = "size",
	[VFIO_REFUSE_ALIGN] = "align",
	[VFIO_REFUSE_RANGE] = "range",
	[VFIO_REFUSE_OVERLAP] = "overlap",
	[VFIO_REFUSE_ENTRIES] = "entries",
	[VFIO_REFUSE_MEMLOCK] = "memlock",
	[VFIO_REFUSE_PIN] = "pin",
	[VFIO_REFUSE_IOMMU] = "iommu",
	[VFIO_REFUSE_BISECT] = "bisect",
	[VFIO_REFUSE_V1_NONE] = "v1-none",
	[VFIO_REFUSE_DIRTY] = "dirty",
	[VFIO_REFUSE_VADDR] = "vaddr",
	[VFIO_REFUSE_IOCTL] = "ioctl",
	[VFIO_REFUSE_ATTACH] = "attach",
	[VFIO_REFUSE_MSI] = "msi",
	[VFIO_REFUSE_REGISTRY] = "registry",
	[VFIO_REFUSE_LAST_GROUP] = "last-group",
};

/**
 * vfio_refuse_init() - make a container's counters and limits
 * @container: a new container, zeroed
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM.
 */
int vfio_refuse_init(struct vfio_type1_container *container)
{
	struct refusals *refusals = kzalloc(sizeof(*refusals), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!refusals)
		return -ENOMEM;
	container->refused = refusals->count;
	container->refuse_limit = refusals->limit;
	for (i = 0; i < VFIO_REFUSE_NR; i++)
		ratelimit_state_init(&refusals->limit[i], DEFAULT_RATELIMIT_INTERVAL,
				     LINES_CONTAINER);
	return 0;
}

/**
 * vfio_refuse_free() - nobody is refused any more
 * @container: a container that is being freed
 */
void vfio_refuse_free(struct vfio_type1_container *container)
{
	if (container->refused)
		kfree(container_of(container->refused, struct refusals, count[0]));
}

/**
 * vfio_refuse() - count a refusal, and tell why, at a limited rate
 * @container: whose request
 * @reason: why, in a word
 * @fmt: the request and its values, the check that failed, and what would have
 *	been right; no newline
 *
 * Out of the way of what is not refused.
 *
 * Context: any; the caller of the request is current.
 */
void vfio_refuse(struct vfio_type1_container *container, enum vfio_refusal reason,
		 const char *fmt, ...)
{
	struct va_format text = { .fmt = fmt };
	va_list args;

	atomic_long_inc(&container->refused[reason]);
	va_start(args, fmt);
	text.va = &args;
	trace_refusal(container, vfio_refusal_names[reason], &text);
	/* A process names itself: its name may hold a newline, and forge a line. */
	if (__ratelimit(&container->refuse_limit[reason]) &&
	    __ratelimit(&refuse_limit_all[reason]))
		pr_notice("%*pE[%d]: %pV\n", (int)strlen(current->comm), current->comm,
			  task_pid_nr(current), &text);
	va_end(args);
}

/**
 * vfio_refuse_memlock() - tell of an exceeded RLIMIT_MEMLOCK
 * @container: whose request it was
 * @owner: whose limit
 * @request: what was asked for, and the kind of @at
 * @at: first byte that it was asked for
 * @npages: pages that have to be charged yet, if all of them are RAM
 */
void vfio_refuse_memlock(struct vfio_type1_container *container, const struct vfio_owner *owner,
			 const char *request, u64 at, unsigned long npages)
{
	unsigned long locked = READ_ONCE(owner->mm->locked_vm);

	/* As io_uring of 5.8 did: no limit is high enough. */
	if ((long)locked < 0) {
		vfio_refuse(container, VFIO_REFUSE_MEMLOCK,
			    "%s 0x%llx: locked memory of process %d is counted as less than nothing, %ld pages: something in the kernel gave back more than it had charged; CAP_IPC_LOCK lifts the limit",
			    request, at, task_pid_nr(owner->task), (long)locked);
		return;
	}
	vfio_refuse(container, VFIO_REFUSE_MEMLOCK,
		    "%s 0x%llx: RLIMIT_MEMLOCK of process %d exceeded: limit %lu KiB, locked %lu KiB, up to %lu KiB more needed; raise the limit to %lu KiB (ulimit -l, LimitMEMLOCK=), or lift it with CAP_IPC_LOCK",
		    request, at, task_pid_nr(owner->task),
		    task_rlimit(owner->task, RLIMIT_MEMLOCK) >> 10, PAGES_TO_KIB(locked),
		    PAGES_TO_KIB(npages), PAGES_TO_KIB(locked + npages));
}
