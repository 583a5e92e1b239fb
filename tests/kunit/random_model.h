/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of a container that is too simple to be wrong, for random requests.
 *
 * For each page of a small stretch of IOVA it knows which mapping it is in, how often in-
 * kernel users have pinned it, and whether it is dirty.
 */
#ifndef _TESTS_KUNIT_RANDOM_MODEL_H
#define _TESTS_KUNIT_RANDOM_MODEL_H

#include <linux/bitmap.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include "suite.h"

#define ENTRIES		10
#define SEEDS		4

/* The IOVA that requests are about, and the memory that they map. */
#define BASE		((u64)SZ_2M - 40 * PAGE_SIZE)
#define CELLS		192U
#define MEM_PAGES	128U
#define NOBODY		(-1)

/* Groups that come and go. */
#define GROUPS		3U

/**
 * struct model_map - a mapping
 * @used: it is there
 * @no_vaddr: its address was taken back
 * @first: its first cell
 * @npages: cells
 * @mem: page of the memory that its first cell shows
 * @prot: IOMMU_READ, IOMMU_WRITE
 */
struct model_map {
	bool used;
	bool no_vaddr;
	unsigned int first;
	unsigned int npages;
	unsigned int mem;
	int prot;
};

/**
 * struct walk - a random walk, and what the model knows
 * @test: the case
 * @rnd: where requests come from
 * @seed: that it began with
 * @step: requests so far
 * @container: what is tested
 * @emulated: a group without an IOMMU
 * @device: its in-kernel user
 * @block: memory
 * @pages: the memory's pages in the order of the user mapping
 * @vaddr: where they are
 * @bitmap: user memory for dirty bitmaps
 * @locked_vm: before anything was charged
 * @maps: mappings
 * @owner: mapping of each cell, or NOBODY
 * @pins: times that each cell was pinned by the in-kernel user
 * @dirty: cells that are dirty even if no group writes wherever it likes
 * @tracking: dirty tracking is on
 * @attached: groups that are
 * @has_emulated: the emulated one is
 */
struct walk {
	struct kunit *test;
	struct rnd_state rnd;
	unsigned int seed;
	unsigned int step;
	struct vfio_type1_container *container;
	struct iommu_group *emulated;
	struct vfio_device device;
	struct page *block;
	struct page *pages[MEM_PAGES];
	unsigned long vaddr;
	unsigned long bitmap;
	unsigned long locked_vm;
	struct model_map maps[ENTRIES];
	int owner[CELLS];
	unsigned int pins[CELLS];
	DECLARE_BITMAP(dirty, CELLS);
	bool tracking;
	bool attached[GROUPS];
	bool has_emulated;
};

void walk_eq(struct walk *w, const char *what, long long left, long long right);
unsigned int nr_attached(const struct walk *w);
unsigned int nr_maps(const struct walk *w);
bool any_without_vaddr(const struct walk *w);
struct page *cell_page(const struct walk *w, unsigned int cell);
void forget_map(struct walk *w, unsigned int nr);
void forget_all_maps(struct walk *w);
void mark_pinned(struct walk *w);
void expect_model(struct walk *w);
void expect_model_bitmap(struct walk *w, unsigned int first, unsigned int npages,
			 const unsigned long *expected);
void snapshot_dirty(const struct walk *w, unsigned long *dirty);

#define WALK_EQ(w, left, right)	walk_eq(w, #left, left, right)

static inline unsigned int below(struct walk *w, unsigned int limit)
{
	return prandom_u32_state(&w->rnd) % limit;
}

static inline bool one_in(struct walk *w, unsigned int n)
{
	return !below(w, n);
}

static inline u64 cell_iova(unsigned int cell)
{
	return BASE + (u64)cell * PAGE_SIZE;
}

#endif /* _TESTS_KUNIT_RANDOM_MODEL_H */
