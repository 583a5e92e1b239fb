/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The front door's queue of work, which main.c stands in for.
 */
#ifndef _TESTS_KUNIT_QUEUE_H
#define _TESTS_KUNIT_QUEUE_H

#include "vfio_queue.h"

/* Wait until all is done that vfio_type1_queue() was given. */
void queue_flush(void);

#endif /* _TESTS_KUNIT_QUEUE_H */
