// SPDX-License-Identifier: GPL-2.0-only
/*
 * The KUnit module: all rooms of vfio_iommu_type1 but its front door, its
 * parameters, and its queue, which stand here, and the suites.
 *
 * Linked into one module because 6.1 runs suites before module_init(), when no
 * other initialisation of the module has happened.
 */

#include <linux/module.h>

#include "vfio_params.h"
#include "queue.h"

struct vfio_type1_params vfio_type1_params = {
	.dma_entry_limit = 65535,
};

/* Made when it is first needed: see above. */
static struct workqueue_struct *queue;

void vfio_type1_queue(struct work_struct *work)
{
	if (!queue)
		queue = alloc_workqueue("vfio_kunit", WQ_UNBOUND, 0);
	queue_work(queue ?: system_unbound_wq, work);
}

void queue_flush(void)
{
	if (queue)
		flush_workqueue(queue);
}

static void __exit queue_exit(void)
{
	if (queue)
		destroy_workqueue(queue);
}

module_exit(queue_exit);

MODULE_DESCRIPTION("KUnit suites of vfio_iommu_type1");
MODULE_LICENSE("GPL");
