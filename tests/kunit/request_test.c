// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which requests MAP_DMA and UNMAP_DMA take, and what they apply to.
 */

#include <linux/mman.h>
#include <linux/sizes.h>

#include "request_fixture.h"
#include "user_mem.h"

static const struct {
	unsigned int first;
	unsigned int npages;
} three[] = { { 2, 2 }, { 4, 1 }, { 6, 3 } };

#define THREE_PAGES	6	/* of all three */
#define SPACE_PAGES	11

/* What a range takes out of @three, in pages; negative if it is refused. */
static int expected_unmap(bool v2, unsigned int from, unsigned int to, bool *takes)
{
	int pages = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(three); i++) {
		unsigned int first = three[i].first, end = first + three[i].npages;

		takes[i] = first < to && end > from;
		if (!takes[i])
			continue;
		if (v2 && (first < from || end > to))
			return -EINVAL;
		/* v1: a range that starts inside a mapping takes nothing at all. */
		if (!v2 && first < from) {
			memset(takes, 0, ARRAY_SIZE(three) * sizeof(*takes));
			return 0;
		}
		pages += three[i].npages;
	}
	return pages;
}

/* Every range over three mappings: v1 takes what it touches, v2 does not bisect. */
static void every_range_over_three_mappings(struct kunit *test, bool v2)
{
	struct fixture *fx = test->priv;
	unsigned int from, to, i;

	fx->container->v2 = v2;
	for (from = 0; from < SPACE_PAGES; from++) {
		for (to = from + 1; to <= SPACE_PAGES; to++) {
			bool takes[ARRAY_SIZE(three)] = {};
			int pages = expected_unmap(v2, from, to, takes), ret;
			u64 unmapped = 1;

			for (i = 0; i < ARRAY_SIZE(three); i++)
				KUNIT_ASSERT_EQ(test, 0, map_pages(fx, three[i].first,
								   three[i].npages));
			ret = unmap_bytes(fx, from * PAGE_SIZE, (to - from) * PAGE_SIZE,
					  &unmapped);
			KUNIT_ASSERT_EQ_MSG(test, ret, min(pages, 0), "pages %u to %u", from, to);
			pages = max(pages, 0);
			KUNIT_ASSERT_EQ_MSG(test, unmapped, (u64)pages * PAGE_SIZE,
					    "pages %u to %u", from, to);
			KUNIT_ASSERT_EQ(test, fx->mock->nr_ptes, THREE_PAGES - pages);
			for (i = 0; i < ARRAY_SIZE(three) && !ret; i++)
				KUNIT_ASSERT_EQ(test, takes[i],
						mock_iommu_prot(fx->mock,
								three[i].first * PAGE_SIZE) < 0);
			KUNIT_ASSERT_EQ(test, 0, unmap_all(fx, &unmapped));
			KUNIT_ASSERT_EQ(test, unmapped, (u64)(THREE_PAGES - pages) * PAGE_SIZE);
			mock_iommu_expect_empty(test, fx->mock);
		}
	}
}

static void v1_unmap_takes_what_it_touches(struct kunit *test)
{
	every_range_over_three_mappings(test, false);
}

static void v2_unmap_does_not_bisect(struct kunit *test)
{
	every_range_over_three_mappings(test, true);
}

/* The last page of IOVA space is a page like any other. */
static void last_page_of_iova_space(struct kunit *test)
{
	u64 top = U64_MAX - PAGE_SIZE + 1, unmapped = 0;
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, map_bytes(fx, top, fx->vaddr, PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, 0, map_bytes(fx, 0, fx->vaddr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EEXIST, map_bytes(fx, top - PAGE_SIZE, fx->vaddr, 2 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, unmap_bytes(fx, top, PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, unmapped, (u64)PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 1U);

	KUNIT_ASSERT_EQ(test, 0, map_bytes(fx, top, fx->vaddr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, unmap_all(fx, &unmapped));
	KUNIT_EXPECT_EQ(test, unmapped, (u64)2 * PAGE_SIZE);
	mock_iommu_expect_empty(test, fx->mock);
}

/* ---- requests that are refused ---- */

/* How often requests were refused for any reason but one. */
static long refused_otherwise(struct fixture *fx, enum vfio_refusal reason)
{
	enum vfio_refusal i;
	long sum = 0;

	for (i = 0; i < VFIO_REFUSE_NR; i++)
		sum += i == reason ? 0 : atomic_long_read(&fx->container->refused[i]);
	return sum;
}

static long refused(struct fixture *fx, enum vfio_refusal reason)
{
	return atomic_long_read(&fx->container->refused[reason]);
}

/* The right errno and reason, and nothing has changed, not even for a moment. */
static void bad_map_is_refused(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 va = fx->vaddr, wrap = U64_MAX - 2 * PAGE_SIZE + 1;
	const struct {
		const char *what;
		u64 iova, vaddr, size;
		int ret;
		enum vfio_refusal reason;
	} bad[] = {
		{ "zero size", 0x100000, va, 0, -EINVAL, VFIO_REFUSE_SIZE },
		{ "unaligned IOVA", 0x100800, va, PAGE_SIZE, -EINVAL, VFIO_REFUSE_ALIGN },
		{ "unaligned vaddr", 0x100000, va + 0x800, PAGE_SIZE, -EINVAL, VFIO_REFUSE_ALIGN },
		{ "unaligned size", 0x100000, va, PAGE_SIZE + 0x800, -EINVAL, VFIO_REFUSE_ALIGN },
		{ "IOVA wraps around", wrap, va, 3 * PAGE_SIZE, -EOVERFLOW, VFIO_REFUSE_SIZE },
		{ "vaddr wraps around", 0x100000, wrap, 3 * PAGE_SIZE,
		  -EOVERFLOW, VFIO_REFUSE_SIZE },
		{ "overlap at the start", 0x1000, va, 3 * PAGE_SIZE, -EEXIST, VFIO_REFUSE_OVERLAP },
		{ "overlap at the end", 0x4000, va, PAGE_SIZE, -EEXIST, VFIO_REFUSE_OVERLAP },
		{ "the same again", 0x2000, va, 3 * PAGE_SIZE, -EEXIST, VFIO_REFUSE_OVERLAP },
		{ "below the valid range", 0, va, 2 * PAGE_SIZE, -EINVAL, VFIO_REFUSE_RANGE },
		{ "across a reserved region", 0xfedff000, va, 2 * PAGE_SIZE,
		  -EINVAL, VFIO_REFUSE_RANGE },
		{ "inside a reserved region", 0xfee00000, va, PAGE_SIZE,
		  -EINVAL, VFIO_REFUSE_RANGE },
		{ "beyond the aperture", BIT_ULL(48) - PAGE_SIZE, va, 2 * PAGE_SIZE,
		  -EINVAL, VFIO_REFUSE_RANGE },
		{ "no memory there", 0x100000, va + MMIO_PAGES * PAGE_SIZE, PAGE_SIZE,
		  -EFAULT, VFIO_REFUSE_PIN },
	};
	unsigned int i, avail, calls;

	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&fx->container->iova, 0, PAGE_SIZE - 1));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&fx->container->iova, BIT_ULL(48), U64_MAX));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&fx->container->iova, 0xfee00000, 0xfeefffff));
	KUNIT_ASSERT_EQ(test, 0, map_bytes(fx, 0x2000, va, 3 * PAGE_SIZE));
	avail = fx->container->tree.avail;
	calls = fx->mock->nr_map;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		long count = refused(fx, bad[i].reason);
		long others = refused_otherwise(fx, bad[i].reason);

		KUNIT_EXPECT_EQ_MSG(test, bad[i].ret,
				    map_bytes(fx, bad[i].iova, bad[i].vaddr, bad[i].size),
				    "%s", bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, refused(fx, bad[i].reason), count + 1, "%s",
				    bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, refused_otherwise(fx, bad[i].reason), others, "%s",
				    bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, fx->container->tree.avail, avail, "%s", bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, fx->mock->nr_map, calls, "%s", bad[i].what);
	}
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 3U);
}

static void bad_unmap_is_refused(struct kunit *test)
{
	struct fixture *fx = test->priv;
	static const struct {
		const char *what;
		u64 iova, size;
		bool all;
		int ret;
		enum vfio_refusal reason;
	} bad[] = {
		{ "zero size", 0x2000, 0, false, -EINVAL, VFIO_REFUSE_SIZE },
		{ "unaligned IOVA", 0x2800, PAGE_SIZE, false, -EINVAL, VFIO_REFUSE_ALIGN },
		{ "unaligned size", 0x2000, PAGE_SIZE + 0x800, false, -EINVAL, VFIO_REFUSE_ALIGN },
		{ "wraps around", U64_MAX - 2 * PAGE_SIZE + 1, 3 * PAGE_SIZE, false,
		  -EOVERFLOW, VFIO_REFUSE_SIZE },
		{ "all, with an IOVA", 0x2000, 0, true, -EINVAL, VFIO_REFUSE_SIZE },
		{ "all, with a size", 0, PAGE_SIZE, true, -EINVAL, VFIO_REFUSE_SIZE },
	};
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 2, 3));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		long count = refused(fx, bad[i].reason);
		long others = refused_otherwise(fx, bad[i].reason);
		u64 unmapped = 1;

		KUNIT_EXPECT_EQ_MSG(test, bad[i].ret,
				    call_unmap_dma(fx->container, bad[i].iova, bad[i].size,
						   bad[i].all, NULL, &unmapped),
				    "%s", bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, refused(fx, bad[i].reason), count + 1, "%s",
				    bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, refused_otherwise(fx, bad[i].reason), others, "%s",
				    bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, unmapped, 0ULL, "%s", bad[i].what);
		KUNIT_EXPECT_EQ_MSG(test, fx->mock->nr_ptes, 3U, "%s", bad[i].what);
	}
}

/* UNMAP on v1 succeeds whatever it finds, and mentions it if that is nothing. */
static void v1_unmap_of_nothing_is_counted(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 unmapped;

	fx->container->v2 = false;
	KUNIT_ASSERT_EQ(test, 0, unmap_all(fx, &unmapped));
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 2, 3));
	KUNIT_EXPECT_EQ(test, refused(fx, VFIO_REFUSE_V1_NONE), 0L);
	KUNIT_ASSERT_EQ(test, 0, unmap_bytes(fx, 0, 2 * PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, refused(fx, VFIO_REFUSE_V1_NONE), 1L);
	KUNIT_ASSERT_EQ(test, 0, unmap_bytes(fx, 3 * PAGE_SIZE, 9 * PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, refused(fx, VFIO_REFUSE_V1_NONE), 2L);
	KUNIT_ASSERT_EQ(test, 0, unmap_bytes(fx, 0, 9 * PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, unmapped, 3 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, refused(fx, VFIO_REFUSE_V1_NONE), 2L);

	fx->container->v2 = true;
	KUNIT_ASSERT_EQ(test, 0, unmap_bytes(fx, 0, 9 * PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, refused(fx, VFIO_REFUSE_V1_NONE), 2L);
	KUNIT_EXPECT_EQ(test, refused_otherwise(fx, VFIO_REFUSE_V1_NONE), 0L);
}

/* dma_entry_limit counts mappings; each that goes makes room for one. */
static void entry_limit_is_exact(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;
	u64 unmapped;

	for (i = 0; i < ENTRIES; i++)
		KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 2 * i, 1));
	KUNIT_EXPECT_EQ(test, -ENOSPC, map_pages(fx, 2 * ENTRIES, 1));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, (unsigned int)ENTRIES);
	KUNIT_ASSERT_EQ(test, 0, unmap_bytes(fx, 4 * PAGE_SIZE, PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, 0, map_pages(fx, 2 * ENTRIES, 1));
	KUNIT_EXPECT_EQ(test, -ENOSPC, map_pages(fx, 4, 1));
	KUNIT_EXPECT_EQ(test, refused(fx, VFIO_REFUSE_ENTRIES), 2L);
	KUNIT_EXPECT_EQ(test, refused_otherwise(fx, VFIO_REFUSE_ENTRIES), 0L);
	KUNIT_ASSERT_EQ(test, 0, unmap_all(fx, &unmapped));
	mock_iommu_expect_empty(test, fx->mock);
}

/* A MAP asks for an access, or, alone, for a new address. */
static void map_asks_for_one_thing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_EXPECT_EQ(test, -EINVAL, call_map_dma(fx->container, 0x2000, fx->vaddr, PAGE_SIZE, 0,
						    false));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_map_dma(fx->container, 0x2000, fx->vaddr, PAGE_SIZE,
						    IOMMU_READ, true));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 0U);
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&fx->container->tree.root));
}

/* More mappings than are claimed at a time. */
static void hundreds_of_mappings_go_at_once(struct kunit *test)
{
	unsigned int i, nr = 1200;
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	fx->container->tree.avail = nr;
	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(test, 0, map_pages(fx, i, 1));
	KUNIT_ASSERT_EQ(test, -ENOSPC, map_pages(fx, nr, 1));
	KUNIT_EXPECT_EQ(test, 0, unmap_bytes(fx, PAGE_SIZE, (nr - 1) * PAGE_SIZE, &unmapped));
	KUNIT_EXPECT_EQ(test, unmapped, (u64)(nr - 1) * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 1U);
	KUNIT_EXPECT_EQ(test, 0, unmap_all(fx, &unmapped));
	mock_iommu_expect_empty(test, fx->mock);
	fx->container->tree.avail -= nr - ENTRIES;
}

/* ---- v1 and addresses ---- */

/* Taking addresses back on v1 goes by mappings as UNMAP does. */
static void v1_takes_addresses_of_what_it_touches(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 taken = 1, unmapped;

	fx->container->v2 = false;
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 2, 4));
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 6, 4));
	/* Starts inside: nothing. */
	KUNIT_EXPECT_EQ(test, 0, call_vaddr_invalidate(fx->container, 3 * PAGE_SIZE, 7 * PAGE_SIZE,
						       false, &taken));
	KUNIT_EXPECT_EQ(test, taken, 0ULL);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 0U);
	/* Ends inside: whole. */
	KUNIT_EXPECT_EQ(test, 0, call_vaddr_invalidate(fx->container, PAGE_SIZE, 2 * PAGE_SIZE,
						       false, &taken));
	KUNIT_EXPECT_EQ(test, taken, 4 * (u64)PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 1U);
	KUNIT_EXPECT_EQ(test, 0, unmap_all(fx, &unmapped));
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 0U);
}

/* Whoever asks for all addresses on either version gets all, in any place. */
static void all_addresses_are_all(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 taken = 1;

	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 2, 4));
	KUNIT_ASSERT_EQ(test, 0, map_bytes(fx, U64_MAX - PAGE_SIZE + 1, fx->vaddr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_vaddr_invalidate(fx->container, 0, PAGE_SIZE, true,
							     &taken));
	KUNIT_EXPECT_EQ(test, taken, 0ULL);
	KUNIT_EXPECT_EQ(test, 0, call_vaddr_invalidate(fx->container, 0, 0, true, &taken));
	KUNIT_EXPECT_EQ(test, taken, 5 * (u64)PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 2U);
}

/* ---- tables that grow ---- */

static int map_far(struct fixture *fx, unsigned int nr, u64 size)
{
	return map_bytes(fx, BIT_ULL(45) + nr * SZ_1M, fx->vaddr, size);
}

/* The first MAP far up makes tables reach it by a page that goes at once; the next need not. */
static void tables_are_made_to_reach_once(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 2, 1));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 1U);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_unmap, 0U);
	KUNIT_ASSERT_EQ(test, 0, map_far(fx, 0, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 3U);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_unmap, 1U);
	KUNIT_ASSERT_EQ(test, 0, map_far(fx, 1, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 4U);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_unmap, 1U);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 3U);
	KUNIT_EXPECT_STREQ(test, fx->mock->violation, "");
}

/* What cannot be mapped anyway is not tried: it is refused for what is wrong with it. */
static void tables_do_not_grow_for_what_is_refused(struct kunit *test)
{
	unsigned long hole = user_map_anon(test, 2 * SZ_64K / PAGE_SIZE, PROT_READ);
	struct fixture *fx = test->priv;
	u64 unmapped;
	int mapped;

	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&fx->container->iova, BIT_ULL(45) + SZ_4M + 1,
						   U64_MAX));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_far(fx, 8, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 0U);
	KUNIT_ASSERT_EQ(test, 0, map_far(fx, 0, 2 * PAGE_SIZE));
	fx->container->table_last = SZ_1G;
	fx->mock->nr_map = 0;
	KUNIT_EXPECT_EQ(test, -EEXIST, map_far(fx, 0, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 0U);
	KUNIT_EXPECT_EQ(test, 0, unmap_all(fx, &unmapped));
	/* Without single pages there is nothing to try it with, nor AMD-Vi's tables. */
	fx->mock->domain.pgsize_bitmap = SZ_64K;
	fx->container->pgsize_bitmap = SZ_64K;
	/* MMIO, whose frames are aligned as its addresses. */
	user_map_pfns(test, ALIGN(hole, SZ_64K), MMIO_PFN, SZ_64K / PAGE_SIZE);
	mapped = map_bytes(fx, BIT_ULL(45) + SZ_1M, ALIGN(hole, SZ_64K), SZ_64K);
	user_unmap(hole, 2 * SZ_64K / PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, mapped, 0);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_map, 1U);
}

/* If the table does not reach, or keeps the page, MAP fails and leaves nothing. */
static void table_that_does_not_grow_takes_no_mapping(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fx->mock->fail_map = 1;
	KUNIT_EXPECT_EQ(test, -ENOMEM, map_far(fx, 0, PAGE_SIZE));
	mock_iommu_expect_empty(test, fx->mock);
	fx->mock->stuck = BIT_ULL(45);
	KUNIT_EXPECT_EQ(test, -EIO, map_far(fx, 0, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	fx->mock->stuck = MOCK_NOT_STUCK;
	mock_iommu_lose(fx->mock, BIT_ULL(45));
	KUNIT_EXPECT_EQ(test, 0, map_far(fx, 0, PAGE_SIZE));
	KUNIT_EXPECT_STREQ(test, fx->mock->violation, "");
}

static struct kunit_case request_cases[] = {
	KUNIT_CASE(v1_unmap_takes_what_it_touches),
	KUNIT_CASE(v2_unmap_does_not_bisect),
	KUNIT_CASE(last_page_of_iova_space),
	KUNIT_CASE(bad_map_is_refused),
	KUNIT_CASE(bad_unmap_is_refused),
	KUNIT_CASE(v1_unmap_of_nothing_is_counted),
	KUNIT_CASE(entry_limit_is_exact),
	KUNIT_CASE(map_asks_for_one_thing),
	KUNIT_CASE(hundreds_of_mappings_go_at_once),
	KUNIT_CASE(v1_takes_addresses_of_what_it_touches),
	KUNIT_CASE(all_addresses_are_all),
	KUNIT_CASE(tables_are_made_to_reach_once),
	KUNIT_CASE(tables_do_not_grow_for_what_is_refused),
	KUNIT_CASE(table_that_does_not_grow_takes_no_mapping),
	{}
};

SUITE("vfio_requests", request_cases, REQUEST_SUITE);
