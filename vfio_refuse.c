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

#include <linux/sched.h>
#include <linux/string.h>

#include "trace/vfio_trace.h"
#include "vfio_type1.h"

/* Lines of one reason per DEFAULT_RATELIMIT_INTERVAL: by a container, and in all. */
#define LINES_CONTAINER	DEFAULT_RATELIMIT_BURST
#define LINES_ALL	50

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
 */
void vfio_refuse_init(struct vfio_type1_container *container)
{
	unsigned int i;

	for (i = 0; i < VFIO_REFUSE_NR; i++)
		ratelimit_state_init(&container->refuse_limit[i], DEFAULT_RATELIMIT_INTERVAL,
				     LINES_CONTAINER);
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
