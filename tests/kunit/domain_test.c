// SPDX-License-Identifier: GPL-2.0-only
/* What a failed map left in a domain is taken out, on mock IOMMUs. */

#include <kunit/test.h>
#include <linux/kmsg_dump.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "vfio_type1.h"
#include "mock_iommu.h"

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

static struct kunit_case domain_cases[] = {
	/* First: the driver's failures are said only so often. */
	KUNIT_CASE_PARAM(stuck_page_ends_it, mock_flavour_gen),
	KUNIT_CASE(steps_are_the_smallest_pages),
	KUNIT_CASE_PARAM(nothing_is_left_alone, mock_flavour_gen),
	KUNIT_CASE_PARAM(all_of_the_range_goes_and_nothing_else, mock_flavour_gen),
	KUNIT_CASE_PARAM(stuck_first_page_needs_no_sync, mock_flavour_gen),
	{}
};

static struct kunit_suite domain_suite = {
	.name = "vfio_domain",
	.test_cases = domain_cases,
};

kunit_test_suite(domain_suite);
