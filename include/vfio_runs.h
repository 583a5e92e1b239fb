/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs, and the run list (vfio_runs.c): pure.
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_RUNS_H
#define _VFIO_RUNS_H

#include <linux/build_bug.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/types.h>

/*
 * Pages of a run at most.  Runs also end at multiples of as many bytes of IOVA,
 * so that neither mapping nor unmapping one takes long without a scheduling
 * point, and a mapping may be cut there.  It is the largest common IOPTE: no
 * superpage is lost.
 */
#define VFIO_RUN_BYTES_MAX	SZ_1G
#define VFIO_RUN_PAGES_MAX	(VFIO_RUN_BYTES_MAX >> PAGE_SHIFT)

/**
 * struct vfio_run - physically contiguous pages of one kind
 * @word: length in pages, VFIO_RUN_WRITE, VFIO_RUN_PINNED, VFIO_RUN_CHARGED, first page
 *	frame
 *
 * A word, since there may be one for each page; use the functions below.
 */
struct vfio_run {
	u64 word;
};

#define VFIO_RUN_NPAGES_BITS	20
/* The device may have written to the pages. */
#define VFIO_RUN_WRITE		BIT_ULL(VFIO_RUN_NPAGES_BITS)
/* The pages are pinned, once each. */
#define VFIO_RUN_PINNED		BIT_ULL(VFIO_RUN_NPAGES_BITS + 1)
/* The pages count as locked memory.  All that do are pinned. */
#define VFIO_RUN_CHARGED	BIT_ULL(VFIO_RUN_NPAGES_BITS + 2)
#define VFIO_RUN_PFN_SHIFT	(VFIO_RUN_NPAGES_BITS + 3)

#define VFIO_RUN_RAM		(VFIO_RUN_PINNED | VFIO_RUN_CHARGED)
#define VFIO_RUN_KIND		VFIO_RUN_RAM

static_assert(VFIO_RUN_PAGES_MAX < BIT_ULL(VFIO_RUN_NPAGES_BITS));

/**
 * vfio_run_make() - describe a run
 * @pfn: first page frame
 * @npages: how many pages, VFIO_RUN_PAGES_MAX at most
 * @flags: VFIO_RUN_WRITE, VFIO_RUN_PINNED, VFIO_RUN_CHARGED
 *
 * Return: the run.
 */
static inline struct vfio_run vfio_run_make(unsigned long pfn, unsigned long npages, u64 flags)
{
	return (struct vfio_run) { (u64)pfn << VFIO_RUN_PFN_SHIFT | flags | npages };
}

static inline unsigned long vfio_run_pfn(struct vfio_run run)
{
	return run.word >> VFIO_RUN_PFN_SHIFT;
}

static inline unsigned long vfio_run_npages(struct vfio_run run)
{
	return run.word & (VFIO_RUN_WRITE - 1);
}

static inline bool vfio_run_write(struct vfio_run run)
{
	return run.word & VFIO_RUN_WRITE;
}

static inline bool vfio_run_pinned(struct vfio_run run)
{
	return run.word & VFIO_RUN_PINNED;
}

static inline bool vfio_run_charged(struct vfio_run run)
{
	return run.word & VFIO_RUN_CHARGED;
}

/**
 * vfio_run_flags() - what the protection of a mapping means for its runs
 * @prot: IOMMU_READ, IOMMU_WRITE
 *
 * Return: VFIO_RUN_WRITE, or 0.
 */
static inline u64 vfio_run_flags(int prot)
{
	return prot & IOMMU_WRITE ? VFIO_RUN_WRITE : 0;
}

struct vfio_runs_chunk;

/**
 * struct vfio_runs - the runs of a mapping, from its first page on
 * @inplace: the first runs
 * @ninplace: how many of them there are
 * @nchunks: chunks, up to the number of different sizes less one
 * @lost: there was no memory to go on
 * @exact: pages are pinned that are not charged: no page frame shows that, so that this
 *	list must not get lost
 * @first: chunks with the further runs
 * @last: the last chunk
 *
 * Owned by whoever owns the mapping.
 */
struct vfio_runs {
	struct vfio_run inplace[2];
	u8 ninplace;
	u8 nchunks;
	bool lost;
	bool exact;
	struct vfio_runs_chunk *first;
	struct vfio_runs_chunk *last;
};

/**
 * struct vfio_runs_iter - where a reader of a run list is
 * @at: next run
 * @nr: runs from there on that lie next to each other
 * @chunk: what to read after them
 */
struct vfio_runs_iter {
	const struct vfio_run *at;
	unsigned int nr;
	const struct vfio_runs_chunk *chunk;
};

void vfio_runs_init(struct vfio_runs *runs);
void vfio_runs_free(struct vfio_runs *runs);
int vfio_runs_append(struct vfio_runs *runs, const struct vfio_run *run, unsigned int nr);
void vfio_runs_begin(const struct vfio_runs *runs, struct vfio_runs_iter *iter);
bool vfio_runs_more(struct vfio_runs_iter *iter);

/**
 * vfio_runs_next() - read a run list front to back
 * @iter: where the reader is, see vfio_runs_begin()
 * @run: set to the next run
 *
 * Return: false after the last run.
 */
static inline bool vfio_runs_next(struct vfio_runs_iter *iter, struct vfio_run *run)
{
	if (!iter->nr && !vfio_runs_more(iter))
		return false;
	iter->nr--;
	*run = *iter->at++;
	return true;
}

#endif /* _VFIO_RUNS_H */
