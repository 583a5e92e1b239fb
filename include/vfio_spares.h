/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that is nice to have, and kept for who needs it next.
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_SPARES_H
#define _VFIO_SPARES_H

#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/mm.h>

/* For memory that is nice to have: rather go without than have anybody killed. */
#define VFIO_GFP_OPTIONAL	(GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_NORETRY)

/**
 * struct vfio_spares - memory that was allocated once, kept for who needs it next
 * @slots: pieces of one kind from kvmalloc(), as many as threads work at a time;
 *	exchanged atomically
 */
struct vfio_spares {
	void *slots[4];
};

/**
 * vfio_spares_take() - take memory that is kept
 * @spares: where to look
 *
 * Return: the memory, or NULL.
 */
static inline void *vfio_spares_take(struct vfio_spares *spares)
{
	void *spare = NULL;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(spares->slots) && !spare; i++)
		if (READ_ONCE(spares->slots[i]))
			spare = xchg(&spares->slots[i], NULL);
	return spare;
}

/**
 * vfio_spares_keep() - keep memory, or free it if enough is kept already
 * @spares: where to put it
 * @spare: from kvmalloc()
 *
 * Context: may sleep.
 */
static inline void vfio_spares_keep(struct vfio_spares *spares, void *spare)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(spares->slots); i++)
		if (!READ_ONCE(spares->slots[i]) && !cmpxchg(&spares->slots[i], NULL, spare))
			return;
	kvfree(spare);
}

#endif /* _VFIO_SPARES_H */
