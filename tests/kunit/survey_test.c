// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs says a run list amounts to, against a model that goes page by page.
 */

#include <linux/prandom.h>

#include "fault.h"
#include "suite.h"

#define BOTH_LARGE	(SZ_4K | SZ_2M | SZ_1G)
#define NR_RUNS		40

/* Page by page, the largest page of the IOMMU that may start there and fits. */
static void model_add(struct vfio_survey *want, struct vfio_run run, u64 iova,
		      unsigned long pgsizes)
{
	u64 phys = PFN_PHYS(vfio_run_pfn(run)), left = PFN_PHYS(vfio_run_npages(run)), size;
	unsigned int class = 0;

	while (vfio_run_npages(run) >= 2UL << class)
		class++;
	want->runs++;
	want->hist[class]++;
	for (; left; left -= size, iova += size, phys += size) {
		size = SZ_1G;
		if (pgsizes & size && !((iova | phys) & (size - 1)) && left >= size) {
			want->bytes_1g += size;
			continue;
		}
		size = SZ_2M;
		if (pgsizes & size && !((iova | phys) & (size - 1)) && left >= size) {
			want->bytes_2m += size;
			continue;
		}
		size = PAGE_SIZE;
		want->bytes_4k += size;
	}
}

static void expect_survey(struct kunit *test, const struct vfio_runs *runs, u64 iova,
			  unsigned long pgsizes, const struct vfio_survey *want)
{
	struct vfio_survey got;
	unsigned int i;

	vfio_survey(runs, iova, pgsizes, &got);
	KUNIT_EXPECT_EQ_MSG(test, got.runs, want->runs, "pgsizes 0x%lx", pgsizes);
	KUNIT_EXPECT_EQ_MSG(test, got.bytes_4k, want->bytes_4k, "iova 0x%llx pgsizes 0x%lx", iova,
			    pgsizes);
	KUNIT_EXPECT_EQ_MSG(test, got.bytes_2m, want->bytes_2m, "iova 0x%llx pgsizes 0x%lx", iova,
			    pgsizes);
	KUNIT_EXPECT_EQ_MSG(test, got.bytes_1g, want->bytes_1g, "iova 0x%llx pgsizes 0x%lx", iova,
			    pgsizes);
	for (i = 0; i < VFIO_SURVEY_CLASSES; i++)
		KUNIT_EXPECT_EQ_MSG(test, got.hist[i], want->hist[i], "class %u", i);
}

static void one_run(struct kunit *test, u64 iova, unsigned long pfn, unsigned long npages,
		    unsigned long pgsizes)
{
	struct vfio_run run = vfio_run_make(pfn, npages, VFIO_RUN_WRITE);
	struct vfio_survey want = {};
	struct vfio_runs runs;

	vfio_runs_init(&runs);
	vfio_runs_append(&runs, &run, 1);
	model_add(&want, run, iova, pgsizes);
	expect_survey(test, &runs, iova, pgsizes, &want);
	vfio_runs_free(&runs);
}

/* Each length near a power of two is counted in its class. */
static void runs_are_classed_by_length(struct kunit *test)
{
	unsigned long n;

	for (n = 1; n <= VFIO_RUN_PAGES_MAX; n <<= 1) {
		one_run(test, 0, 1, n, SZ_4K);
		one_run(test, 0, 1, n - (n > 1), SZ_4K);
		one_run(test, 0, 1, min(n + 1, VFIO_RUN_PAGES_MAX), SZ_4K);
	}
}

/* Every way to be aligned, or not, at both ends, for IOMMUs with and without large pages. */
static void superpages_need_alignment_length_and_an_iommu(struct kunit *test)
{
	static const unsigned long pgsizes[] = { SZ_4K, SZ_4K | SZ_2M, SZ_4K | SZ_1G, BOTH_LARGE };
	static const unsigned long offsets[] = { 0, 1, 511, 512, 513, 262143 };
	static const unsigned long lengths[] = {
		1, 511, 512, 513, 1023, 1024, 261632, 262143, 262144,
	};
	unsigned int i, j, k, l;

	for (i = 0; i < ARRAY_SIZE(pgsizes); i++)
		for (j = 0; j < ARRAY_SIZE(offsets); j++)
			for (k = 0; k < ARRAY_SIZE(offsets); k++)
				for (l = 0; l < ARRAY_SIZE(lengths); l++)
					one_run(test, SZ_4G + PFN_PHYS(offsets[j]),
						offsets[k], lengths[l], pgsizes[i]);
}

/* Up to the last byte of all. */
static void the_end_of_iova_is_like_the_rest(struct kunit *test)
{
	one_run(test, 0 - (u64)SZ_1G, 0, VFIO_RUN_PAGES_MAX, BOTH_LARGE);
	one_run(test, 0 - (u64)SZ_2M, 512, 512, BOTH_LARGE);
	one_run(test, 0 - (u64)PAGE_SIZE, 0, 1, BOTH_LARGE);
}

/* Many runs, in chunks of all sizes: each is measured where it is. */
static void lists_add_up(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned int round, i;

	prandom_seed_state(&rnd, 20250101);
	for (round = 0; round < 50; round++) {
		u64 first = PFN_PHYS(prandom_u32_state(&rnd)), iova = first;
		struct vfio_survey want = {};
		struct vfio_runs runs;

		vfio_runs_init(&runs);
		for (i = 0; i < NR_RUNS * round / 10; i++) {
			unsigned long npages = 1 + prandom_u32_state(&rnd) %
					       (1U << prandom_u32_state(&rnd) % 19);
			unsigned long pfn = prandom_u32_state(&rnd) & ~511UL;
			struct vfio_run run;

			/* As often as not, aligned like the IOVA. */
			if (prandom_u32_state(&rnd) & 1)
				pfn |= iova >> PAGE_SHIFT & 511;
			run = vfio_run_make(pfn, npages, 0);
			vfio_runs_append(&runs, &run, 1);
			model_add(&want, run, iova, BOTH_LARGE);
			iova += PFN_PHYS(npages);
		}
		expect_survey(test, &runs, first, BOTH_LARGE, &want);
		vfio_runs_free(&runs);
	}
}

static void a_lost_list_amounts_to_nothing(struct kunit *test)
{
	struct vfio_run run = vfio_run_make(1, 1, 0);
	struct vfio_survey want = {};
	struct vfio_runs runs;
	unsigned int i;

	vfio_runs_init(&runs);
	fault_all();
	for (i = 0; i < 3; i++)
		vfio_runs_append(&runs, &run, 1);
	fault_end();
	KUNIT_ASSERT_TRUE(test, runs.lost);
	expect_survey(test, &runs, 0, BOTH_LARGE, &want);
	vfio_runs_free(&runs);
}

static struct kunit_case survey_cases[] = {
	KUNIT_CASE(runs_are_classed_by_length),
	KUNIT_CASE(superpages_need_alignment_length_and_an_iommu),
	KUNIT_CASE(the_end_of_iova_is_like_the_rest),
	KUNIT_CASE(lists_add_up),
	KUNIT_CASE(a_lost_list_amounts_to_nothing),
	{}
};

SUITE("vfio_survey", survey_cases, FAULT_SUITE);
