// SPDX-License-Identifier: GPL-2.0-only
/* The FGSP probe, and finding chunks by asking the IOMMU, on mock IOMMUs. */

#include <linux/gfp.h>
#include <linux/mm.h>

#include "fault.h"
#include "mock_iommu.h"
#include "suite.h"

/* Probe a new domain of the case's flavour with valid IOVA @first to @last. */
static void probe(struct kunit *test, struct vfio_domain *domain, struct mock_iommu *mock,
		  u64 first, u64 last)
{
	struct vfio_iova_set iova;

	vfio_iova_init(&iova);
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(&iova, first, last));
	domain->domain = &mock->domain;
	vfio_tables_init(domain);
	vfio_fgsp_probe(domain, &iova);
	vfio_tables_destroy(domain);
	vfio_iova_destroy(&iova);
}

/* Fine-grained is found on AMD-Vi and only there, wherever IOVA is valid. */
static void probe_tells_fine_from_coarse(struct kunit *test)
{
	static const struct vfio_iova_span valid[] = {
		{ 0, U64_MAX },
		{ PAGE_SIZE, U64_MAX },			/* not aligned to two pages */
		{ 0xfee00001, U64_MAX },		/* not aligned to anything */
		{ 1ULL << 40, (1ULL << 40) + 2 * PAGE_SIZE - 1 },
		{ U64_MAX - 2 * PAGE_SIZE + 1, U64_MAX },
	};
	const struct mock_flavour *flavour = test->param_value;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(valid); i++) {
		struct mock_iommu *mock = mock_iommu_create(test, flavour);
		struct vfio_domain domain = {};

		probe(test, &domain, mock, valid[i].first, valid[i].last);
		KUNIT_EXPECT_EQ_MSG(test, domain.fgsp, flavour->fgsp, "valid from %#llx",
				    valid[i].first);
		KUNIT_EXPECT_GT(test, mock->nr_map, 0U);
		mock_iommu_expect_empty(test, mock);
		mock_iommu_destroy(mock);
	}
}

/* Without room for two aligned pages nothing is mapped, not even outside. */
static void probe_stays_within_valid_iova(struct kunit *test)
{
	static const struct vfio_iova_span too_small[] = {
		{ 0, PAGE_SIZE - 1 },
		{ 0, 2 * PAGE_SIZE - 2 },
		{ PAGE_SIZE, 2 * PAGE_SIZE - 1 },	/* ends before what is aligned */
		{ PAGE_SIZE, 3 * PAGE_SIZE - 1 },	/* large enough, but not aligned */
		{ PAGE_SIZE, 4 * PAGE_SIZE - 2 },
		{ U64_MAX - PAGE_SIZE + 1, U64_MAX },
		{ U64_MAX, U64_MAX },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(too_small); i++) {
		struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
		struct vfio_domain domain = { .fgsp = true };

		probe(test, &domain, mock, too_small[i].first, too_small[i].last);
		KUNIT_EXPECT_FALSE(test, domain.fgsp);
		KUNIT_EXPECT_EQ_MSG(test, mock->nr_map, 0U, "mapped outside %#llx-%#llx",
				    too_small[i].first, too_small[i].last);
		mock_iommu_expect_empty(test, mock);
		mock_iommu_destroy(mock);
	}
}

/* The first range that has room is taken, not just the first range. */
static void probe_skips_small_ranges(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = mock_iommu_create(test, flavour);
	struct vfio_domain domain = { .domain = &mock->domain };
	struct vfio_iova_set iova;

	vfio_iova_init(&iova);
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(&iova, 0, SZ_1M - 1));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&iova, PAGE_SIZE, 5 * PAGE_SIZE - 1));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&iova, 7 * PAGE_SIZE, 9 * PAGE_SIZE - 1));
	vfio_tables_init(&domain);
	vfio_fgsp_probe(&domain, &iova);
	vfio_tables_destroy(&domain);
	KUNIT_EXPECT_EQ(test, domain.fgsp, flavour->fgsp);
	mock_iommu_expect_empty(test, mock);
	vfio_iova_destroy(&iova);
	mock_iommu_destroy(mock);
}

/* Whatever fails, the domain counts as coarse and is left empty. */
static void failed_probe_means_coarse(struct kunit *test)
{
	unsigned int nth;

	for (nth = 1; nth <= 2; nth++) {
		struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
		struct vfio_domain domain = { .fgsp = true };

		mock->fail_map = nth;
		probe(test, &domain, mock, 0, U64_MAX);
		/* One IOPTE or one call was enough: the second never failed. */
		if (!mock->fail_map)
			KUNIT_EXPECT_FALSE(test, domain.fgsp);
		mock_iommu_expect_empty(test, mock);
		mock_iommu_destroy(mock);
	}
}

/* A page that the IOMMU keeps is lost, but not given to somebody else. */
static void probe_page_that_stays_is_lost(struct kunit *test)
{
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
	struct vfio_domain domain = { .fgsp = true };
	struct page *page;

	mock->stuck = 0;
	probe(test, &domain, mock, 0, U64_MAX);
	KUNIT_EXPECT_FALSE(test, domain.fgsp);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	KUNIT_ASSERT_GT(test, mock->nr_ptes, 0U);
	page = pfn_to_page(PHYS_PFN(iommu_iova_to_phys(&mock->domain, 0)));
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	__free_pages(page, 1);
	mock_iommu_destroy(mock);
}

static void expect_chunk(struct kunit *test, struct mock_iommu *mock, u64 iova,
			 unsigned long max, phys_addr_t phys, unsigned int npages)
{
	struct vfio_run run = vfio_fgsp_chunk(&mock->domain, iova, max, IOMMU_READ | IOMMU_WRITE);

	KUNIT_EXPECT_EQ(test, vfio_run_pfn(run), (unsigned long)PHYS_PFN(phys));
	KUNIT_EXPECT_EQ_MSG(test, vfio_run_npages(run), (unsigned long)npages,
			    "IOVA %#llx, of %lu pages", iova, max);
	KUNIT_EXPECT_EQ(test, vfio_run_charged(run), !vfio_pfn_is_reserved(PHYS_PFN(phys)));
	KUNIT_EXPECT_EQ(test, vfio_run_pinned(run), vfio_run_charged(run));
	KUNIT_EXPECT_TRUE(test, vfio_run_write(run));
	run = vfio_fgsp_chunk(&mock->domain, iova, max, IOMMU_READ);
	KUNIT_EXPECT_FALSE(test, vfio_run_write(run));
}

/* A chunk ends where physical addresses do, at @max, or at a hole. */
static void chunk_ends_where_contiguity_does(struct kunit *test)
{
	struct page *pages = alloc_pages(GFP_KERNEL, 4);
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
	struct iommu_domain *domain = &mock->domain;
	struct vfio_run run;
	phys_addr_t phys;

	KUNIT_ASSERT_NOT_NULL(test, pages);
	phys = page_to_phys(pages);
	/* Pages 0-6, then 8-15, then a hole. */
	KUNIT_ASSERT_EQ(test, 0, iommu_map(domain, SZ_1M, phys, 7 * PAGE_SIZE, IOMMU_READ,
					   GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, iommu_map(domain, SZ_1M + 7 * PAGE_SIZE, phys + 8 * PAGE_SIZE,
					   8 * PAGE_SIZE, IOMMU_READ, GFP_KERNEL));

	expect_chunk(test, mock, SZ_1M, 15, phys, 7);
	expect_chunk(test, mock, SZ_1M, 3, phys, 3);
	expect_chunk(test, mock, SZ_1M, 1, phys, 1);
	expect_chunk(test, mock, SZ_1M + 2 * PAGE_SIZE, 15, phys + 2 * PAGE_SIZE, 5);
	expect_chunk(test, mock, SZ_1M + 7 * PAGE_SIZE, 100, phys + 8 * PAGE_SIZE, 8);
	run = vfio_fgsp_chunk(domain, SZ_1M + 15 * PAGE_SIZE, 1, IOMMU_READ);
	KUNIT_EXPECT_EQ(test, vfio_run_npages(run), 0UL);

	iommu_unmap(domain, SZ_1M, 15 * PAGE_SIZE);
	mock_iommu_expect_empty(test, mock);
	mock_iommu_destroy(mock);
	__free_pages(pages, 4);
}

/* Like a run, a chunk ends where RAM does, and at multiples of VFIO_RUN_BYTES_MAX of IOVA. */
static void chunk_ends_where_a_run_would(struct kunit *test)
{
	u64 size = 16 * PAGE_SIZE, iova = 3ULL * VFIO_RUN_BYTES_MAX - 12 * PAGE_SIZE;
	struct page *pages = alloc_pages(GFP_KERNEL, 4);
	struct mock_iommu *mock = mock_iommu_create(test, test->param_value);
	phys_addr_t phys;

	KUNIT_ASSERT_NOT_NULL(test, pages);
	phys = page_to_phys(pages);
	KUNIT_ASSERT_EQ(test, 0, iommu_map(&mock->domain, iova, phys, size, IOMMU_READ,
					   GFP_KERNEL));
	SetPageReserved(pages + 5);
	SetPageReserved(pages + 6);

	expect_chunk(test, mock, iova, 16, phys, 5);
	expect_chunk(test, mock, iova + 5 * PAGE_SIZE, 11, phys + 5 * PAGE_SIZE, 2);
	expect_chunk(test, mock, iova + 7 * PAGE_SIZE, 9, phys + 7 * PAGE_SIZE, 5);
	expect_chunk(test, mock, iova + 12 * PAGE_SIZE, 4, phys + 12 * PAGE_SIZE, 4);

	ClearPageReserved(pages + 5);
	ClearPageReserved(pages + 6);
	iommu_unmap(&mock->domain, iova, size);
	mock_iommu_expect_empty(test, mock);
	mock_iommu_destroy(mock);
	__free_pages(pages, 4);
}

static struct kunit_case fgsp_cases[] = {
	KUNIT_CASE_PARAM(probe_tells_fine_from_coarse, mock_flavour_gen),
	KUNIT_CASE_PARAM(probe_stays_within_valid_iova, mock_flavour_gen),
	KUNIT_CASE_PARAM(probe_skips_small_ranges, mock_flavour_gen),
	KUNIT_CASE_PARAM(failed_probe_means_coarse, mock_flavour_gen),
	KUNIT_CASE_PARAM(probe_page_that_stays_is_lost, mock_flavour_gen),
	KUNIT_CASE_PARAM(chunk_ends_where_contiguity_does, mock_flavour_gen),
	KUNIT_CASE_PARAM(chunk_ends_where_a_run_would, mock_flavour_gen),
	{}
};

SUITE("vfio_fgsp", fgsp_cases);
