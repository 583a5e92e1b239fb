// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables are freed after a sync of all that they translated, and what a failed map left
 * in a domain is taken out: on mock IOMMUs, which have tables like VT-d.
 */

#include <linux/kmsg_dump.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "mock_iommu.h"
#include "suite.h"

/* Above all RAM: frames without a struct page. */
#define MMIO		(64ULL << 30)
/* The range that was asked for, within what the neighbours have. */
#define FIRST		((u64)SZ_1G - 16 * PAGE_SIZE)
#define LAST		((u64)SZ_1G + SZ_4M + 16 * PAGE_SIZE - 1)
#define SIZE		((size_t)(LAST - FIRST + 1))

/* Map some IOVA, each byte @shift above MMIO. */
static void map(struct kunit *test, struct mock_iommu *mock, u64 iova, size_t size, u64 shift)
{
	KUNIT_ASSERT_EQ(test, 0, iommu_map(&mock->domain, iova, MMIO + shift + iova, size,
					   IOMMU_READ, GFP_KERNEL));
}

static void forget_calls(struct mock_iommu *mock)
{
	mock->nr_unmap = 0;
	mock->nr_sync = 0;
	mock->nr_to_phys = 0;
}

/* Where nothing is, nothing is unmapped or synced: also up to the end of all IOVA. */
static void nothing_is_left_alone(struct kunit *test)
{
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);

	KUNIT_EXPECT_TRUE(test, vfio_domain_sweep(&mock->domain, FIRST, SIZE));
	KUNIT_EXPECT_TRUE(test, vfio_domain_sweep(&mock->domain, U64_MAX - SZ_64K + 1, SZ_64K));
	KUNIT_EXPECT_EQ(test, mock->nr_unmap, 0U);
	KUNIT_EXPECT_EQ(test, mock->nr_sync, 0U);
	KUNIT_EXPECT_EQ(test, mock->nr_to_phys, (SIZE + SZ_64K) >> PAGE_SHIFT);
	mock_iommu_expect_empty(test, mock);
	mock_iommu_destroy(mock);
}

/*
 * Whatever is in the range goes, wherever in it and in IOPTEs of whatever size, in a
 * call for each, and is synced; the neighbours stay.
 */
static void all_of_the_range_goes_and_nothing_else(struct kunit *test)
{
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
	unsigned int neighbours, ptes;

	map(test, mock, FIRST - SZ_1M, SZ_1M, 0);
	map(test, mock, LAST + 1, SZ_1M, 0);
	neighbours = mock->nr_ptes;
	/* The first page, large pages if there are any, small ones, and the last page. */
	map(test, mock, FIRST, PAGE_SIZE, 0);
	map(test, mock, SZ_1G, SZ_2M, 0);
	map(test, mock, (u64)SZ_1G + SZ_2M + 7 * PAGE_SIZE, 40 * PAGE_SIZE, PAGE_SIZE);
	map(test, mock, LAST + 1 - PAGE_SIZE, PAGE_SIZE, 0);
	ptes = mock->nr_ptes - neighbours;
	forget_calls(mock);

	KUNIT_EXPECT_TRUE(test, vfio_domain_sweep(&mock->domain, FIRST, SIZE));
	KUNIT_EXPECT_EQ(test, mock->nr_unmap, ptes);
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, neighbours);
	KUNIT_EXPECT_TRUE(test, list_empty(&mock->stale));
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	/* It is free for the next one. */
	map(test, mock, FIRST, SIZE, 0);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	mock_iommu_destroy(mock);
}

/* Lines of the log, from where @log is, that contain a text. */
static unsigned int log_count(struct kmsg_dump_iter *log, const char *text)
{
	unsigned int count = 0;
	static char line[512];
	size_t len;

	while (kmsg_dump_get_line(log, false, line, sizeof(line) - 1, &len)) {
		line[len] = '\0';
		count += !!strstr(line, text);
	}
	return count;
}

/*
 * Where the driver does not let go, which is said once, what lies behind stays, too:
 * inside of an IOPTE, nothing may be unmapped. What lies before it goes, and is synced.
 */
static void stuck_page_ends_it(struct kunit *test)
{
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
	struct kmsg_dump_iter log = {};
	char said[80];

	map(test, mock, FIRST, SIZE, 0);
	mock->stuck = SZ_1G;
	forget_calls(mock);
	kmsg_dump_rewind(&log);
	log_count(&log, "");
	KUNIT_EXPECT_FALSE(test, vfio_domain_sweep(&mock->domain, FIRST, SIZE));
	snprintf(said, sizeof(said), "IOMMU kept IOVA 0x%llx size 0x%llx; its pages stay pinned\n",
		 (u64)SZ_1G, LAST + 1 - SZ_1G);
	KUNIT_EXPECT_EQ(test, log_count(&log, said), 1U);
	KUNIT_EXPECT_LT(test, mock_iommu_prot(mock, SZ_1G - PAGE_SIZE), 0);
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock, SZ_1G), 0);
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock, LAST), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&mock->stale));
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	mock_iommu_destroy(mock);
}

/* If that is the first page, nothing was unmapped, and there is nothing to sync. */
static void stuck_first_page_needs_no_sync(struct kunit *test)
{
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);

	map(test, mock, FIRST, SIZE, 0);
	mock->stuck = FIRST;
	forget_calls(mock);
	KUNIT_EXPECT_FALSE(test, vfio_domain_sweep(&mock->domain, FIRST, SIZE));
	KUNIT_EXPECT_EQ(test, mock->nr_unmap, 1U);
	KUNIT_EXPECT_EQ(test, mock->nr_sync, 0U);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	mock_iommu_destroy(mock);
}

/* An IOMMU whose pages are larger is asked for those. */
static void steps_are_the_smallest_pages(struct kunit *test)
{
	static const struct mock_flavour large = { "64K", SZ_64K | SZ_2M, false, false, true };
	struct mock_iommu *mock = mock_iommu_create(test, &large);

	map(test, mock, SZ_1G + SZ_64K, 3 * SZ_64K, 0);
	forget_calls(mock);
	KUNIT_EXPECT_TRUE(test, vfio_domain_sweep(&mock->domain, SZ_1G, SZ_1M));
	KUNIT_EXPECT_EQ(test, mock->nr_to_phys, (unsigned int)(SZ_1M / SZ_64K));
	mock_iommu_expect_empty(test, mock);
	mock_iommu_destroy(mock);
}

/* ---- page tables ---- */

/* Pages of which none can be part of a larger one, each in a table. */
static void map_small(struct kunit *test, struct mock_iommu *mock, u64 iova, size_t size)
{
	map(test, mock, iova, size, PAGE_SIZE);
}

static const struct stretch {
	u64 iova;
	size_t size;
} stretches[] = {
	{ SZ_1M, SZ_8M },
	{ SZ_1M, SZ_1M },
	{ 0, SZ_8M },
	{ SZ_2M, SZ_2M },
	{ SZ_2M, SZ_1M + PAGE_SIZE },
	{ PAGE_SIZE, SZ_4M - PAGE_SIZE },
	{ PAGE_SIZE, SZ_4M - 2 * PAGE_SIZE },
	{ SZ_1M, SZ_2M },
	{ SZ_1G - SZ_4M - SZ_1M, SZ_8M },
	{ (3ULL << 30) - SZ_2M, SZ_2M + SZ_4M },
	{ BIT_ULL(48) - SZ_8M + PAGE_SIZE, SZ_8M - PAGE_SIZE },
};

/*
 * Each piece that the kernel gives to the driver as a call is one of ours, and no more
 * calls reach the driver than if all was asked for at once.
 */
static void tables_are_freed_after_their_sync(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain = { .domain = &mock->domain, .fgsp = flavour->fgsp };
	struct vfio_gather gather;
	unsigned int i, calls;

	for (i = 0; i < ARRAY_SIZE(stretches); i++) {
		const u64 iova = stretches[i].iova;
		const size_t size = stretches[i].size;

		map_small(test, mock, iova, size);
		forget_calls(mock);
		KUNIT_ASSERT_EQ(test, iommu_unmap(&mock->domain, iova, size), size);
		calls = mock->nr_unmap;
		mock->violation[0] = '\0';

		map_small(test, mock, iova, size);
		forget_calls(mock);
		vfio_gather_begin(&gather);
		KUNIT_EXPECT_EQ_MSG(test, vfio_gather_unmap(&gather, &domain, iova, size), size,
				    "stretch %u", i);
		vfio_gather_sync(&gather, &domain);
		KUNIT_EXPECT_EQ_MSG(test, mock->nr_unmap, calls, "stretch %u", i);
		KUNIT_EXPECT_LE_MSG(test, gather.calls, calls, "stretch %u", i);
		KUNIT_EXPECT_LE_MSG(test, gather.syncs, mock->nr_sync, "stretch %u", i);
		KUNIT_EXPECT_FALSE(test, gather.pending);
		mock_iommu_expect_empty(test, mock);
	}
	mock_iommu_destroy(mock);
}

/* A stretch that was unmapped before, wherever it is, waits for no sync when tables go. */
static void nothing_waits_for_a_sync_when_tables_go(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain = { .domain = &mock->domain, .fgsp = flavour->fgsp };
	struct vfio_gather gather;
	unsigned int first, second;

	for (first = 0; first < ARRAY_SIZE(stretches); first++) {
		for (second = 0; second < ARRAY_SIZE(stretches); second++) {
			/* The second one a TiB above, or right behind the first one. */
			const u64 above = stretches[second].iova + (second & 1 ? SZ_1T : 0);
			const u64 after = second & 1 ? above : stretches[first].iova +
							      stretches[first].size;

			map_small(test, mock, stretches[first].iova, stretches[first].size);
			map_small(test, mock, after, stretches[second].size);
			vfio_gather_begin(&gather);
			vfio_gather_unmap(&gather, &domain, stretches[first].iova,
					  stretches[first].size);
			vfio_gather_unmap(&gather, &domain, after, stretches[second].size);
			vfio_gather_sync(&gather, &domain);
			mock_iommu_expect_empty(test, mock);
		}
	}
	mock_iommu_destroy(mock);
}

/* Stretches without a whole table share a sync, as far as the driver can do that. */
static void small_stretches_share_a_sync(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain = { .domain = &mock->domain, .fgsp = flavour->fgsp };
	struct vfio_gather gather;
	unsigned int i;

	map_small(test, mock, SZ_1M, 16 * SZ_64K);
	vfio_gather_begin(&gather);
	for (i = 0; i < 16; i++)
		vfio_gather_unmap(&gather, &domain, SZ_1M + i * SZ_64K, SZ_64K);
	KUNIT_EXPECT_TRUE(test, gather.pending);
	KUNIT_EXPECT_EQ(test, gather.syncs, 0U);
	vfio_gather_sync(&gather, &domain);
	KUNIT_EXPECT_EQ(test, gather.calls, 16U);
	KUNIT_EXPECT_EQ(test, gather.syncs, 1U);
	KUNIT_EXPECT_EQ(test, mock->nr_sync, 1U);
	/* And where nothing was unmapped, there is nothing to sync. */
	vfio_gather_sync(&gather, &domain);
	KUNIT_EXPECT_EQ(test, mock->nr_sync, 1U);
	mock_iommu_expect_empty(test, mock);
	mock_iommu_destroy(mock);
}

/* A page that the driver keeps ends it; what lies before it is synced all the same. */
static void stuck_page_ends_a_stretch(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain = { .domain = &mock->domain, .fgsp = flavour->fgsp };
	struct vfio_gather gather;

	map_small(test, mock, SZ_1M, SZ_8M);
	mock->stuck = SZ_4M + SZ_64K;
	vfio_gather_begin(&gather);
	KUNIT_EXPECT_EQ(test, vfio_gather_unmap(&gather, &domain, SZ_1M, SZ_8M),
			(size_t)(SZ_4M + SZ_64K - SZ_1M));
	vfio_gather_sync(&gather, &domain);
	KUNIT_EXPECT_TRUE(test, list_empty(&mock->stale));
	KUNIT_EXPECT_TRUE(test, list_empty(&mock->unlinked));
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock, SZ_4M + SZ_64K), 0);
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock, SZ_8M), 0);
	mock_iommu_destroy(mock);
}

/*
 * The mock is as bad as VT-d: what the kernel itself makes of an unaligned stretch frees
 * tables before their sync.
 */
static void mock_frees_as_early_as_vtd(struct kunit *test)
{
	static const struct mock_flavour vtd = { "VT-d", SZ_4K | SZ_2M | SZ_1G, false, false };
	struct mock_iommu *mock = mock_iommu_create(test, &vtd);

	map_small(test, mock, 0, SZ_8M);
	KUNIT_EXPECT_EQ(test, iommu_unmap(&mock->domain, 0, SZ_8M), (size_t)SZ_8M);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	KUNIT_EXPECT_EQ(test, mock->nr_freed, 4U);
	map_small(test, mock, SZ_1M, SZ_8M);
	KUNIT_EXPECT_EQ(test, iommu_unmap(&mock->domain, SZ_1M, SZ_8M), (size_t)SZ_8M);
	KUNIT_EXPECT_STRNEQ(test, mock->violation, "");
	KUNIT_EXPECT_EQ(test, mock->nr_freed, 7U);
	mock_iommu_destroy(mock);
}

static struct kunit_case domain_cases[] = {
	/* First: the driver's failures are said only so often. */
	KUNIT_CASE_PARAM(stuck_page_ends_it, mock_flavour_gen),
	KUNIT_CASE(steps_are_the_smallest_pages),
	KUNIT_CASE_PARAM(nothing_is_left_alone, mock_flavour_gen),
	KUNIT_CASE_PARAM(all_of_the_range_goes_and_nothing_else, mock_flavour_gen),
	KUNIT_CASE_PARAM(stuck_first_page_needs_no_sync, mock_flavour_gen),
	KUNIT_CASE(mock_frees_as_early_as_vtd),
	KUNIT_CASE_PARAM(tables_are_freed_after_their_sync, mock_flavour_gen),
	KUNIT_CASE_PARAM(nothing_waits_for_a_sync_when_tables_go, mock_flavour_gen),
	KUNIT_CASE_PARAM(small_stretches_share_a_sync, mock_flavour_gen),
	KUNIT_CASE_PARAM(stuck_page_ends_a_stretch, mock_flavour_gen),
	{}
};

SUITE("vfio_domain", domain_cases);
