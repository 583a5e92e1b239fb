/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Work that must not be waited for (vfio_queue.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_QUEUE_H
#define _VFIO_QUEUE_H

#include <linux/workqueue.h>

int vfio_queue_init(void);
void vfio_queue_exit(void);
void vfio_type1_queue(struct work_struct *work);

#endif /* _VFIO_QUEUE_H */
