// SPDX-License-Identifier: GPL-2.0-only
/*
 * The run map, against lists of run starts.
 */

#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/slab.h>

#include "vfio_type1.h"
#include "fault.h"

/* Pages that one page of run map describes: where the map first has to grow. */
#define MAP_PAGE	(PAGE_SIZE * BITS_PER_BYTE)

/* Walk the map from page 0 to @mapped and compare with the sorted @starts. */
static void expect_runs(struct kunit *test, const struct vfio_runs *runs,
			const unsigned long *starts, unsigned int nr, unsigned long mapped)
{
	unsigned long page = 0;
	unsigned int i;

	KUNIT_ASSERT_TRUE(test, vfio_runs_known(runs));
	for (i = 0; i < nr && starts[i] < mapped; i++) {
		unsigned long end = i + 1 < nr ? min(starts[i + 1], mapped) : mapped;

		KUNIT_ASSERT_EQ_MSG(test, page, starts[i], "run %u of %lu pages", i, runs->npages);
		page = vfio_runs_end(runs, page, mapped);
		KUNIT_ASSERT_EQ_MSG(test, page, end, "run %u of %lu pages", i, runs->npages);
	}
	KUNIT_ASSERT_EQ(test, page, mapped);
}

/* Up to a word the map takes no memory of its own. */
static void small_map_is_inline(struct kunit *test)
{
	struct vfio_runs runs;
	unsigned long n;

	for (n = 1; n <= 200; n++) {
		bool known;

		fault_all();
		vfio_runs_init(&runs, n);
		fault_end();
		known = vfio_runs_known(&runs);
		vfio_runs_free(&runs);
		KUNIT_EXPECT_EQ_MSG(test, known, n <= BITS_PER_LONG, "%lu pages", n);
	}
}

/* A mapping of each size, as a single run, as all single pages, and in pairs. */
static void every_size_to_200(struct kunit *test)
{
	unsigned long *starts = kunit_kcalloc(test, 200, sizeof(*starts), GFP_KERNEL);
	unsigned long n, step, mapped;

	KUNIT_ASSERT_NOT_NULL(test, starts);
	for (n = 1; n <= 200; n++) {
		for (step = 1; step <= n; step++) {
			struct vfio_runs runs;
			unsigned int nr = 0;
			unsigned long page;

			vfio_runs_init(&runs, n);
			for (page = 0; page < n; page += step) {
				vfio_runs_start(&runs, page);
				starts[nr++] = page;
			}
			for (mapped = n; mapped && mapped + 3 > n; mapped--)
				expect_runs(test, &runs, starts, nr, mapped);
			vfio_runs_free(&runs);
		}
	}
}

/* Every pattern of up to 12 pages, mapped to every length. */
static void every_pattern_of_12_pages(struct kunit *test)
{
	unsigned long starts[12], n, pattern, page, mapped;

	for (n = 1; n <= 12; n++) {
		for (pattern = 1; pattern < 1UL << n; pattern += 2) {
			struct vfio_runs runs;
			unsigned int nr = 0;

			vfio_runs_init(&runs, n);
			for (page = 0; page < n; page++) {
				if (pattern & BIT(page)) {
					vfio_runs_start(&runs, page);
					starts[nr++] = page;
				}
			}
			for (mapped = 1; mapped <= n; mapped++)
				expect_runs(test, &runs, starts, nr, mapped);
			vfio_runs_free(&runs);
		}
	}
}

/* A run may start anywhere past what the map describes so far. */
static void map_grows_to_any_page(struct kunit *test)
{
	static const unsigned long sizes[] = {
		MAP_PAGE - 1, MAP_PAGE, MAP_PAGE + 1, 2 * MAP_PAGE - 1, 2 * MAP_PAGE,
		2 * MAP_PAGE + 1, 3 * MAP_PAGE + 5, 64 * MAP_PAGE + 63,
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned long n = sizes[i];
		unsigned long at[] = {
			BITS_PER_LONG, n / 2, MAP_PAGE - 1, MAP_PAGE, MAP_PAGE + 1,
			2 * MAP_PAGE - 1, 2 * MAP_PAGE, n - 1,
		};

		for (j = 0; j < ARRAY_SIZE(at); j++) {
			unsigned long starts[2] = { 0, at[j] };
			struct vfio_runs runs;

			if (at[j] >= n)
				continue;
			vfio_runs_init(&runs, n);
			vfio_runs_start(&runs, 0);
			expect_runs(test, &runs, starts, 1, n);
			vfio_runs_start(&runs, at[j]);
			expect_runs(test, &runs, starts, 2, n);
			vfio_runs_free(&runs);
		}
	}
}

/* A mapping of one run needs no more map than its first page, however large it is. */
static void one_run_of_16_tib(struct kunit *test)
{
	unsigned long n = (16UL << 40) >> PAGE_SHIFT, starts[] = { 0 };
	struct vfio_runs runs;

	vfio_runs_init(&runs, n);
	vfio_runs_start(&runs, 0);
	KUNIT_EXPECT_LE(test, runs.capacity, MAP_PAGE);
	expect_runs(test, &runs, starts, 1, n);
	vfio_runs_free(&runs);
}

#define WALK_STARTS	20000

/* Long walks over mappings of some million pages, with runs of 1 to 4096 pages. */
static void random_walk(struct kunit *test)
{
	unsigned long *starts = kvmalloc_array(WALK_STARTS, sizeof(*starts), GFP_KERNEL);
	struct rnd_state rnd;
	unsigned int seed;

	KUNIT_ASSERT_NOT_NULL(test, starts);
	for (seed = 1; seed <= 24; seed++) {
		unsigned int i, nr = 1 + seed * (WALK_STARTS / 24 - 1), order = seed % 13;
		struct vfio_runs runs;
		unsigned long n = 0;

		prandom_seed_state(&rnd, seed);
		for (i = 0; i < nr; i++) {
			starts[i] = n;
			n += 1 + (prandom_u32_state(&rnd) & (BIT(order) - 1));
		}
		vfio_runs_init(&runs, n);
		for (i = 0; i < nr; i++)
			vfio_runs_start(&runs, starts[i]);
		expect_runs(test, &runs, starts, nr, n);
		expect_runs(test, &runs, starts, nr, n / 2 + 1);
		vfio_runs_free(&runs);
	}
	kvfree(starts);
}

/* Without memory the map is lost, quietly, and stays lost. */
static void map_without_memory_is_lost(struct kunit *test)
{
	struct vfio_runs runs;
	bool known[4];

	fault_all();
	vfio_runs_init(&runs, 1000);
	known[0] = vfio_runs_known(&runs);
	fault_end();
	vfio_runs_start(&runs, 0);
	vfio_runs_start(&runs, 999);
	known[1] = vfio_runs_known(&runs);
	vfio_runs_free(&runs);

	vfio_runs_init(&runs, 4 * MAP_PAGE);
	vfio_runs_start(&runs, 0);
	known[2] = vfio_runs_known(&runs);
	fault_all();
	vfio_runs_start(&runs, MAP_PAGE);
	fault_end();
	known[3] = vfio_runs_known(&runs);
	vfio_runs_start(&runs, MAP_PAGE + 1);

	KUNIT_EXPECT_FALSE_MSG(test, known[0], "known although its memory was refused");
	KUNIT_EXPECT_FALSE_MSG(test, known[1], "known again although starts were missed");
	KUNIT_EXPECT_TRUE(test, known[2]);
	KUNIT_EXPECT_FALSE_MSG(test, known[3], "known although it could not grow");
	KUNIT_EXPECT_FALSE(test, vfio_runs_known(&runs));
	vfio_runs_free(&runs);
	KUNIT_EXPECT_FALSE_MSG(test, vfio_runs_known(&runs), "known although it was freed");
}

/* Only growing past what the map describes can lose it. */
static void filled_map_needs_no_memory(struct kunit *test)
{
	unsigned long starts[] = { 0, 1, MAP_PAGE - 1 };
	struct vfio_runs runs;
	unsigned int i;

	vfio_runs_init(&runs, 2 * MAP_PAGE);
	fault_all();
	for (i = 0; i < ARRAY_SIZE(starts); i++)
		vfio_runs_start(&runs, starts[i]);
	fault_end();
	expect_runs(test, &runs, starts, ARRAY_SIZE(starts), 2 * MAP_PAGE);
	vfio_runs_free(&runs);
}

static struct kunit_case runs_cases[] = {
	KUNIT_CASE(small_map_is_inline),
	KUNIT_CASE(every_size_to_200),
	KUNIT_CASE(every_pattern_of_12_pages),
	KUNIT_CASE(map_grows_to_any_page),
	KUNIT_CASE(one_run_of_16_tib),
	KUNIT_CASE(random_walk),
	KUNIT_CASE(map_without_memory_is_lost),
	KUNIT_CASE(filled_map_needs_no_memory),
	{}
};

static struct kunit_suite runs_suite = {
	.name = "vfio_runs",
	.test_cases = runs_cases,
};

kunit_test_suite(runs_suite);
