// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables are freed after a sync of all that they translated, and never by a map; and what
 * a failed map left in a domain is taken out: on mock IOMMUs, which have tables like VT-d, or
 * AMD-Vi's v2.
 */

#include <linux/kmsg_dump.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "fault.h"
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

/* A domain of a mock, which the probe did not look at. */
static void domain_init(struct vfio_domain *domain, struct mock_iommu *mock,
			const struct mock_flavour *flavour)
{
	domain->domain = &mock->domain;
	domain->fgsp = flavour->fgsp;
	vfio_tables_init(domain);
}

static void domain_map(struct kunit *test, struct vfio_domain *domain, u64 iova, size_t size,
		       u64 shift)
{
	KUNIT_ASSERT_EQ(test, 0, call_domain_map(test->priv, domain, iova, MMIO + shift + iova,
						 size, IOMMU_READ));
}

static void domain_unmap(struct kunit *test, struct vfio_domain *domain, u64 iova, size_t size)
{
	KUNIT_ASSERT_EQ(test, vfio_domain_unmap(test->priv, domain, iova, size), size);
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
	struct vfio_domain domain;

	domain_init(&domain, mock, test->param_value);
	domain_map(test, &domain, FIRST - SZ_1M, SZ_1M, 0);
	domain_map(test, &domain, LAST + 1, SZ_1M, 0);
	neighbours = mock->nr_ptes;
	/* The first page, large pages if there are any, small ones, and the last page. */
	domain_map(test, &domain, FIRST, PAGE_SIZE, 0);
	domain_map(test, &domain, SZ_1G, SZ_2M, 0);
	domain_map(test, &domain, (u64)SZ_1G + SZ_2M + 7 * PAGE_SIZE, 40 * PAGE_SIZE, PAGE_SIZE);
	domain_map(test, &domain, LAST + 1 - PAGE_SIZE, PAGE_SIZE, 0);
	ptes = mock->nr_ptes - neighbours;
	forget_calls(mock);

	KUNIT_EXPECT_TRUE(test, vfio_domain_sweep(&mock->domain, FIRST, SIZE));
	KUNIT_EXPECT_EQ(test, mock->nr_unmap, ptes);
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, neighbours);
	KUNIT_EXPECT_TRUE(test, list_empty(&mock->stale));
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	/* It is free for the next one. */
	domain_map(test, &domain, FIRST, SIZE, 0);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	vfio_tables_destroy(&domain);
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
	struct vfio_domain domain;
	struct vfio_gather gather;
	unsigned int i, calls;

	domain_init(&domain, mock, flavour);
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
	vfio_tables_destroy(&domain);
	mock_iommu_destroy(mock);
}

/* A stretch that was unmapped before, wherever it is, waits for no sync when tables go. */
static void nothing_waits_for_a_sync_when_tables_go(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain;
	struct vfio_gather gather;
	unsigned int first, second;

	domain_init(&domain, mock, flavour);
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
	vfio_tables_destroy(&domain);
	mock_iommu_destroy(mock);
}

/* Stretches without a whole table share a sync, as far as the driver can do that. */
static void small_stretches_share_a_sync(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain;
	struct vfio_gather gather;
	unsigned int i;

	domain_init(&domain, mock, flavour);
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
	vfio_tables_destroy(&domain);
	mock_iommu_destroy(mock);
}

/* A page that the driver keeps ends it; what lies before it is synced all the same. */
static void stuck_page_ends_a_stretch(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain;
	struct vfio_gather gather;

	domain_init(&domain, mock, flavour);
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
	vfio_tables_destroy(&domain);
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

/* ---- tables in the way of superpages ---- */

/* IOVA that were mapped and unmapped, which may leave tables. */
static const struct stretch leftovers[] = {
	{ SZ_1G, PAGE_SIZE },
	{ SZ_1G + SZ_4M - PAGE_SIZE, PAGE_SIZE },
	{ SZ_1G + SZ_1M, SZ_1M + SZ_2M + PAGE_SIZE },
	{ SZ_1G + SZ_2M, SZ_2M },
	{ SZ_1G + SZ_512M + SZ_64K, PAGE_SIZE },
	{ SZ_2G - PAGE_SIZE, 2 * PAGE_SIZE },
};

/* And what is mapped there then. */
static const struct stretch in_their_place[] = {
	{ SZ_1G, SZ_2M },
	{ SZ_1G - SZ_1M, SZ_8M },
	{ SZ_1G, SZ_4M },
	{ SZ_1G + SZ_512M - SZ_2M, SZ_512M + SZ_4M },
	{ SZ_1G, SZ_1G },
};

static void expect_all_mapped(struct kunit *test, const struct vfio_domain *domain, u64 iova,
			      size_t size)
{
	size_t at;

	for (at = 0; at < size; at += SZ_64K)
		KUNIT_ASSERT_EQ(test, iommu_iova_to_phys(domain->domain, iova + at),
				MMIO + iova + at);
	KUNIT_ASSERT_EQ(test, iommu_iova_to_phys(domain->domain, iova + size - PAGE_SIZE),
			MMIO + iova + size - PAGE_SIZE);
}

/* IOPTEs of a stretch in a domain without any tables. */
static unsigned int count_ptes(struct kunit *test, const struct mock_flavour *flavour,
			       const struct stretch *stretch)
{
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	unsigned int ptes;

	map(test, mock, stretch->iova, stretch->size, 0);
	KUNIT_ASSERT_STREQ(test, mock->violation, "");
	ptes = mock->nr_ptes;
	mock_iommu_destroy(mock);
	return ptes;
}

static void check_in_their_place(struct kunit *test, const struct stretch *left, u64 shift,
				 const struct stretch *stretch, unsigned int ptes)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain;

	domain_init(&domain, mock, flavour);
	domain_map(test, &domain, left->iova, left->size, shift);
	domain_unmap(test, &domain, left->iova, left->size);
	domain_map(test, &domain, stretch->iova, stretch->size, 0);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	expect_all_mapped(test, &domain, stretch->iova, stretch->size);
	domain_unmap(test, &domain, stretch->iova, stretch->size);
	mock_iommu_expect_empty(test, mock);

	/* Where the driver has freed the tables, they are in nobody's way any more. */
	domain_map(test, &domain, stretch->iova, stretch->size, 0);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	if (!flavour->keeps_tables && !flavour->single)
		KUNIT_EXPECT_EQ(test, mock->nr_ptes, ptes);
	expect_all_mapped(test, &domain, stretch->iova, stretch->size);
	domain_unmap(test, &domain, stretch->iova, stretch->size);
	mock_iommu_expect_empty(test, mock);
	vfio_tables_destroy(&domain);
	mock_iommu_destroy(mock);
}

/* Whatever was left by what was mapped there before, a map frees no table. */
static void no_map_frees_a_table(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	unsigned int i, left, ptes;

	for (i = 0; i < ARRAY_SIZE(in_their_place); i++) {
		/* A quarter of a million IOPTEs show nothing new. */
		if (in_their_place[i].size > SZ_8M && !(flavour->pgsize_bitmap & SZ_2M))
			continue;
		ptes = count_ptes(test, flavour, &in_their_place[i]);
		for (left = 0; left < ARRAY_SIZE(leftovers); left++) {
			check_in_their_place(test, &leftovers[left], 0, &in_their_place[i], ptes);
			check_in_their_place(test, &leftovers[left], PAGE_SIZE, &in_their_place[i],
					     ptes);
		}
	}
}

/* Many tables are in the way; and where none is, superpages are used all the same. */
static void superpages_are_used_beside_tables(struct kunit *test)
{
	static const struct mock_flavour vtd = { "VT-d", SZ_4K | SZ_2M | SZ_1G, false, false };
	struct mock_iommu *mock = mock_iommu_create(test, &vtd);
	struct vfio_domain domain;
	unsigned int i;

	domain_init(&domain, mock, &vtd);
	for (i = 0; i < 512; i += 3) {
		domain_map(test, &domain, SZ_1G + i * SZ_2M, PAGE_SIZE, 0);
		domain_unmap(test, &domain, SZ_1G + i * SZ_2M, PAGE_SIZE);
	}
	mock->nr_map = 0;
	domain_map(test, &domain, SZ_1G, SZ_1G, 0);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, 171U * 512 + 341);
	expect_all_mapped(test, &domain, SZ_1G, SZ_1G);
	domain_unmap(test, &domain, SZ_1G, SZ_1G);
	mock_iommu_expect_empty(test, mock);
	domain_map(test, &domain, SZ_1G, SZ_1G, 0);
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, 1U);
	domain_unmap(test, &domain, SZ_1G, SZ_1G);
	mock_iommu_expect_empty(test, mock);
	vfio_tables_destroy(&domain);
	mock_iommu_destroy(mock);
}

/* Without memory to note a table nothing is mapped, and what was noted before stays so. */
static void tables_are_noted_or_not_made(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain;
	unsigned int nth, failed = 0;
	bool came = true;
	int ret;

	domain_init(&domain, mock, flavour);
	for (nth = 1; came; nth++) {
		fault_nth(nth);
		ret = call_domain_map(test->priv, &domain, SZ_1G - SZ_1M, MMIO + SZ_1G - SZ_1M,
				      SZ_4M, IOMMU_READ);
		came = fault_end();
		if (!ret) {
			/* An xarray asks a second time. */
			domain_unmap(test, &domain, SZ_1G - SZ_1M, SZ_4M);
		} else {
			failed++;
			KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
			KUNIT_ASSERT_TRUE(test, vfio_domain_sweep(&mock->domain, SZ_1G - SZ_1M,
								  SZ_4M));
		}
		mock_iommu_expect_empty(test, mock);
	}
	KUNIT_EXPECT_GT(test, failed, 1U);
	domain_map(test, &domain, SZ_1G - SZ_2M, SZ_8M, 0);
	domain_unmap(test, &domain, SZ_1G - SZ_2M, SZ_8M);
	mock_iommu_expect_empty(test, mock);
	vfio_tables_destroy(&domain);
	mock_iommu_destroy(mock);
}

/* The mock is as bad as VT-d, and AMD-Vi's v2. */
static void mock_frees_what_is_in_the_way(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);

	map(test, mock, SZ_1G, PAGE_SIZE, 0);
	KUNIT_EXPECT_EQ(test, iommu_unmap(&mock->domain, SZ_1G, PAGE_SIZE), PAGE_SIZE);
	map(test, mock, SZ_1G, SZ_2M, 0);
	KUNIT_EXPECT_EQ(test, mock->violation[0] != '\0',
			!flavour->fgsp && !flavour->single && flavour->pgsize_bitmap & SZ_2M);
	mock_iommu_destroy(mock);
}

/* Counts calls; the domains are not its own. */
static int domain_case_init(struct kunit *test)
{
	struct vfio_type1_container *container = vfio_container_create(VFIO_CONTAINER_V2);

	KUNIT_ASSERT_FALSE(test, IS_ERR(container));
	test->priv = container;
	return 0;
}

static void domain_case_exit(struct kunit *test)
{
	if (test->priv)
		vfio_container_destroy(test->priv);
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
	KUNIT_CASE_PARAM(mock_frees_what_is_in_the_way, mock_flavour_gen),
	KUNIT_CASE_PARAM(no_map_frees_a_table, mock_flavour_gen),
	KUNIT_CASE(superpages_are_used_beside_tables),
	KUNIT_CASE_PARAM(tables_are_noted_or_not_made, mock_flavour_gen),
	{}
};

SUITE("vfio_domain", domain_cases, FAULT_SUITE, .init = domain_case_init, .exit = domain_case_exit);
