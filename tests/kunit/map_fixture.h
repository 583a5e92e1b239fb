/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * MAP and UNMAP on mock IOMMUs, with user memory of chosen layouts.
 *
 * The memory is a block of physically contiguous pages, mapped to user space in some order, so
 * that a case knows the runs that must come out.
 */
#ifndef _TESTS_KUNIT_MAP_FIXTURE_H
#define _TESTS_KUNIT_MAP_FIXTURE_H

#include <linux/mman.h>

#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define DOMAINS_MAX	2
#define ENTRIES		16

/**
 * struct fixture - what each case starts with
 * @container: v2, without domains
 * @domain: the container's domains
 * @mock: and the mocks in them
 * @nr: how many there are
 * @block: USER_BLOCK_PAGES contiguous pages
 * @pages: pages of @block in the order of the user mapping
 * @npages: how many of them are mapped
 * @vaddr: where
 * @locked_vm: before anything was charged
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain[DOMAINS_MAX];
	struct mock_iommu *mock[DOMAINS_MAX];
	unsigned int nr;
	struct page *block;
	struct page *pages[USER_BLOCK_PAGES];
	unsigned int npages;
	unsigned long vaddr;
	unsigned long locked_vm;
};

/*
 * A layout cuts the block into chunks and lines these up in reverse, so that
 * every chunk is a run.
 */
enum layout {
	SEQUENTIAL,	/* one chunk */
	OFF_BY_ONE,	/* one chunk from the block's second page on, then the first page */
	SINGLES,
	EIGHTS,
	RANDOM,		/* of 1 to 64 pages */
	NR_LAYOUTS,
};

#define NR_WALKS	3
extern const enum vfio_unmap_walk walks[NR_WALKS];

/* Of mappings, in pages. */
#define NR_SIZES	9
extern const unsigned int sizes[NR_SIZES];

int map_case_init(struct kunit *test);
void map_case_exit(struct kunit *test);
struct mock_iommu *add_domain(struct kunit *test, const struct mock_flavour *flavour);
unsigned int make_user_memory(struct kunit *test, enum layout layout, unsigned int npages);
void expect_run_lengths(struct kunit *test, u64 iova, const unsigned int *npages,
			unsigned int nr);
void expect_mapped(struct kunit *test, u64 iova, int prot);
void expect_nothing(struct kunit *test);

/* For SUITE(): one whose cases begin with a fixture. */
#define MAP_SUITE	USER_MEM_SUITE, .init = map_case_init, .exit = map_case_exit

static inline void drop_user_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;

	user_unmap(fx->vaddr, fx->npages);
}

static inline struct vfio_dma *find_mapping(struct fixture *fx, u64 iova)
{
	return suite_mapping(fx->container, iova);
}

/* As if there had been no memory for the run list. */
static inline void lose_runs(struct vfio_dma *dma)
{
	vfio_runs_free(&dma->runs);
	dma->runs.lost = true;
}

static inline int map(struct kunit *test, u64 iova, unsigned long vaddr, unsigned int npages,
		      int prot)
{
	struct fixture *fx = test->priv;

	return call_map_dma(fx->container, iova, vaddr, (u64)npages << PAGE_SHIFT, prot, false);
}

static inline int map_all(struct kunit *test, u64 iova, int prot)
{
	struct fixture *fx = test->priv;

	return map(test, iova, fx->vaddr, fx->npages, prot);
}

static inline int unmap(struct kunit *test, u64 iova, u64 size, bool all, u64 *unmapped)
{
	struct fixture *fx = test->priv;

	return call_unmap_dma(fx->container, iova, size, all, NULL, unmapped);
}

static inline void expect_unmap(struct kunit *test, u64 iova, unsigned int npages)
{
	u64 size = (u64)npages << PAGE_SHIFT, unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, unmap(test, iova, size, false, &unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, size);
}

#endif /* _TESTS_KUNIT_MAP_FIXTURE_H */
