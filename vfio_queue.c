// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's queue of work that must not be waited for.
 */

#include <linux/errno.h>
#include <linux/workqueue.h>

#include "vfio_queue.h"

static struct workqueue_struct *type1_queue;

/**
 * vfio_type1_queue() - have something done that must not be waited for
 * @work: what; done before the module goes
 *
 * Context: any.
 */
void vfio_type1_queue(struct work_struct *work)
{
	queue_work(type1_queue, work);
}

/**
 * vfio_queue_init() - make the queue
 *
 * Context: process context.
 * Return: 0, or -ENOMEM.
 */
int vfio_queue_init(void)
{
	type1_queue = alloc_workqueue("vfio_type1", WQ_UNBOUND, 0);
	return type1_queue ? 0 : -ENOMEM;
}

/**
 * vfio_queue_exit() - have all that is queued done, and remove the queue
 *
 * Work that is done may queue more, as long as there is some.
 *
 * Context: process context; nobody else queues any more.
 */
void vfio_queue_exit(void)
{
	/* First: a process that ends meanwhile may queue more, as long as there is some. */
	flush_workqueue(type1_queue);
	destroy_workqueue(type1_queue);
}
