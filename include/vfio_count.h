/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a container counts, and how long things take (vfio_count.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_COUNT_H
#define _VFIO_COUNT_H

#include <linux/kconfig.h>
#include <linux/percpu.h>
#include <linux/timex.h>
#include <linux/types.h>

#include "vfio_dma_tree.h"
#include "vfio_type1.h"

/* What a container counts; Documentation/debugfs.rst says what each means. */
enum vfio_count {
	VFIO_COUNT_MAPS,
	VFIO_COUNT_UNMAPS,
	VFIO_COUNT_MAPPED_PAGES,
	VFIO_COUNT_UNMAPPED_PAGES,
	VFIO_COUNT_PIN_CALLS,
	VFIO_COUNT_PINNED_PAGES,
	VFIO_COUNT_IOMMU_MAPS,
	VFIO_COUNT_IOMMU_UNMAPS,
	VFIO_COUNT_SYNCS,
	VFIO_COUNT_WINDOWS,
	VFIO_COUNT_ATTACHES,
	VFIO_COUNT_DETACHES,
	VFIO_COUNT_FLUSHED_PAGES,
	VFIO_COUNT_PIN_CYCLES,
	VFIO_COUNT_MAP_CYCLES,
	VFIO_COUNT_UNMAP_CYCLES,
	/* What follows goes down, too, and is not in counters. */
	VFIO_COUNT_LOCKED_PAGES,
	VFIO_COUNT_NR
};

/* What one CPU has counted. */
struct vfio_counters {
	u64 value[VFIO_COUNT_NR];
};

/**
 * vfio_clock() - the time, for differences
 *
 * The CPU's own counter: any clock that knows of seconds takes as long to read as
 * a hundredth of the shortest request.
 *
 * Return: cycles, for vfio_count_ns().
 */
static inline u64 vfio_clock(void)
{
	return get_cycles();
}

/**
 * vfio_clock_since() - how long ago was that?
 * @begun: from vfio_clock(), possibly on another CPU
 *
 * Return: cycles.
 */
static inline u64 vfio_clock_since(u64 begun)
{
	u64 now = vfio_clock();

	/* CPUs may differ by a little. */
	return now > begun ? now - begun : 0;
}

/**
 * vfio_count() - count something
 * @container: the container
 * @which: what
 * @n: how much of it
 *
 * A single instruction on most machines, so that it may stand in any request.
 */
static inline void vfio_count(struct vfio_type1_container *container, enum vfio_count which, u64 n)
{
	if (IS_ENABLED(CONFIG_DEBUG_FS))
		this_cpu_add(container->counters->value[which], n);
}

/**
 * vfio_dma_note_charge() - a mapping's owner was charged, or got a charge back
 * @container: the container
 * @dma: the mapping
 * @npages: pages; negative if they were given back
 *
 * Every change of vfio_dma.locked_vm goes through here, so that there is a sum of all of
 * them at any time.
 *
 * Context: the caller owns @dma.
 */
static inline void vfio_dma_note_charge(struct vfio_type1_container *container,
					struct vfio_dma *dma, long npages)
{
	WRITE_ONCE(dma->locked_vm, dma->locked_vm + npages);
	vfio_count(container, VFIO_COUNT_LOCKED_PAGES, npages);
}

int vfio_count_init(struct vfio_type1_container *container);
void vfio_count_free(struct vfio_type1_container *container);
u64 vfio_count_sum(const struct vfio_type1_container *container, enum vfio_count which);
u64 vfio_count_ns(const struct vfio_type1_container *container, u64 cycles);
void vfio_count_lost(unsigned long nr);
unsigned long vfio_count_lost_sum(void);

#endif /* _VFIO_COUNT_H */
