/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dirty bitmaps, as their suites want them.
 *
 * Mappings are of MMIO, in a domain whose IOPTEs have any size, so that large ones cost
 * little. No group is attached: a case says itself whether there is one that writes wherever
 * it likes.
 */
#ifndef _TESTS_KUNIT_DIRTY_FIXTURE_H
#define _TESTS_KUNIT_DIRTY_FIXTURE_H

#include <linux/bitmap.h>
#include <linux/sizes.h>

#include "mock_iommu.h"
#include "suite.h"

#define ENTRIES		16
#define MMIO_PAGES	8192U

/* Ranges start here: nothing says that they are aligned to a word of the bitmap. */
#define BASE		((u64)SZ_1G + 5 * PAGE_SIZE)
#define SPACE_PAGES	9000U
#define WORDS		DIV_ROUND_UP(SPACE_PAGES, 64)
#define BITMAP_PAGES	DIV_ROUND_UP(WORDS * sizeof(u64), PAGE_SIZE)
/* What user space has in its bitmap before. */
#define OLD_WORD	0xa5a5a5a5a5a5a5a5ULL

/**
 * struct fixture - what each case starts with
 * @container: v2, with one domain
 * @domain: the domain
 * @mock: its page table
 * @vaddr: MMIO_PAGES of MMIO
 * @bitmap: BITMAP_PAGES of user memory, with nothing behind them
 * @dirty: pages from BASE on that were marked
 * @want: what user space should read
 * @got: what it reads
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain;
	struct mock_iommu *mock;
	unsigned long vaddr;
	unsigned long bitmap;
	DECLARE_BITMAP(dirty, SPACE_PAGES);
	u64 want[WORDS];
	u64 got[WORDS];
};

int dirty_case_init(struct kunit *test);
void dirty_case_exit(struct kunit *test);
void mark(struct kunit *test, unsigned int first, unsigned int npages);
void fill_bitmap(struct kunit *test);
void want_mapping(struct fixture *fx, unsigned int base, unsigned int first,
		  unsigned int npages, bool all);
void expect_bitmap(struct kunit *test, const char *what, unsigned int a, unsigned int b);

/* For SUITE(): one whose cases begin with a fixture. */
#define DIRTY_SUITE	USER_MEM_SUITE, .init = dirty_case_init, .exit = dirty_case_exit

static inline u64 page_iova(unsigned int page)
{
	return BASE + (u64)page * PAGE_SIZE;
}

static inline int map(struct kunit *test, unsigned int first, unsigned int npages)
{
	struct fixture *fx = test->priv;

	return call_map_dma(fx->container, page_iova(first), fx->vaddr, (u64)npages << PAGE_SHIFT,
			    RW, false);
}

static inline u64 unmap_all(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, call_unmap_dma(fx->container, 0, 0, true, NULL, &unmapped));
	return unmapped;
}

/* A request for a bitmap at @offset words into the user memory. */
static inline struct vfio_dirty_request request_at(const struct fixture *fx, unsigned int offset)
{
	return (struct vfio_dirty_request) {
		.bitmap = (u64 __user *)fx->bitmap + offset,
		.pgsize = PAGE_SIZE,
	};
}

static inline int get_at(struct kunit *test, unsigned int first, unsigned int npages,
			 unsigned int offset)
{
	struct fixture *fx = test->priv;
	struct vfio_dirty_request request = request_at(fx, offset);

	return vfio_dirty_get(fx->container, page_iova(first), (u64)npages << PAGE_SHIFT,
			      &request);
}

static inline int get(struct kunit *test, unsigned int first, unsigned int npages)
{
	return get_at(test, first, npages, 0);
}

#endif /* _TESTS_KUNIT_DIRTY_FIXTURE_H */
