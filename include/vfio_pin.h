/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * User pages to runs, and back (vfio_pin.c, vfio_pin_why.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_PIN_H
#define _VFIO_PIN_H

#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/types.h>

#include "vfio_runs.h"

/*
 * Pages of one GUP call: GUP keeps interrupts off while it walks, so keep this
 * to some tens of microseconds.
 */
#define VFIO_PIN_BATCH_MAX	2048

/**
 * struct vfio_run_queue - room for runs
 * @runs: the runs
 * @nr: how many there are
 * @capacity: how many fit
 */
struct vfio_run_queue {
	struct vfio_run *runs;
	unsigned int nr;
	unsigned int capacity;
};

/**
 * struct vfio_pin_batch - the pages of one GUP call, as they become runs
 * @mm: whose memory; the caller's own, or one that cannot go away
 * @prot: IOMMU_WRITE if the device may write
 * @pages: pinned pages; not used while @pfnmap
 * @capacity: how many fit into @pages
 * @size: pages got by the last fill
 * @pos: pages of them already taken as runs
 * @pfn: first frame, when @pfnmap
 * @pfnmap: the last fill found frames without pinnable pages behind them
 */
struct vfio_pin_batch {
	struct mm_struct *mm;
	int prot;
	struct page **pages;
	unsigned int capacity;
	unsigned int size;
	unsigned int pos;
	unsigned long pfn;
	bool pfnmap;
};

bool vfio_pfn_is_reserved(unsigned long pfn);
int vfio_pin_fill(struct vfio_pin_batch *batch, unsigned long vaddr, unsigned long npages);
int vfio_pin_fill_at_hand(struct vfio_pin_batch *batch, unsigned long vaddr,
			  unsigned long npages);
const char *vfio_pin_why_not(struct mm_struct *mm, unsigned long vaddr, int prot, int error);
unsigned long vfio_pin_cut(struct vfio_pin_batch *batch, struct vfio_run_queue *queue,
			   unsigned long max);
void vfio_pin_drop(struct vfio_pin_batch *batch);
void vfio_unpin_runs(const struct vfio_run *run, unsigned int nr);
void vfio_pin_dirty(struct vfio_run run);
unsigned long vfio_pin_flush(const struct vfio_run *run, unsigned int nr);

/*
 * Memory that was faulted in as often as this, and still cannot be copied, never can: its
 * tags, say, are not those of the address.
 */
#define VFIO_FAULT_IN_MAX	1000

int vfio_user_fault_in(const void __user *at, unsigned long size, bool write);

/**
 * vfio_pfn_kind() - what was done to a frame, for all that the frame shows
 * @pfn: page frame number, mapped for a mapping whose run list needs not be exact
 *
 * Return: VFIO_RUN_RAM, or 0.
 */
static inline u64 vfio_pfn_kind(unsigned long pfn)
{
	return vfio_pfn_is_reserved(pfn) ? 0 : VFIO_RUN_RAM;
}

#endif /* _VFIO_PIN_H */
