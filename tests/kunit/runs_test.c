// SPDX-License-Identifier: GPL-2.0-only
/*
 * The run list, against an array of the runs that were put into it.
 */

#include <linux/prandom.h>

#include "fault.h"
#include "suite.h"

/* Enough to get past the in-place runs and into chunks of every size. */
#define LIST_MAX	700
/* Enough for several chunks of the largest size. */
#define LONG_LIST	20000
/* The highest frame of any architecture: 52 bits of physical address. */
#define PFN_MAX		(BIT_ULL(52 - PAGE_SHIFT) - 1)

static struct vfio_run *alloc_model(struct kunit *test, unsigned int nr)
{
	struct vfio_run *model = kunit_kmalloc_array(test, nr, sizeof(*model), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, model);
	return model;
}

/* Every combination of extremes, in an order that has each as a neighbour of others. */
static struct vfio_run extreme_run(unsigned int i)
{
	static const u32 npages[] = { 1, VFIO_RUN_PAGES_MAX, 2, VFIO_RUN_PAGES_MAX - 1 };
	static const u64 pfns[] = { 0, PFN_MAX, 1 };

	return vfio_run_make(pfns[i % 3], npages[i % 4],
			     (i / 12 % 2 ? 0 : VFIO_RUN_RAM) | (i & 1 ? VFIO_RUN_WRITE : 0));
}

#define NR_EXTREMES	24

static void add_runs(struct vfio_runs *runs, const struct vfio_run *model, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		vfio_runs_append(runs, &model[i], 1);
}

static void expect_run(struct kunit *test, struct vfio_runs_iter *iter,
		       const struct vfio_run *want, unsigned int i)
{
	/* No run of the model is like this one. */
	struct vfio_run run = vfio_run_make(~0UL >> VFIO_RUN_PFN_SHIFT, 0, 0);

	KUNIT_ASSERT_TRUE_MSG(test, vfio_runs_next(iter, &run), "ends before run %u", i);
	KUNIT_ASSERT_EQ_MSG(test, run.word, want->word, "run %u", i);
}

static void expect_end(struct kunit *test, struct vfio_runs_iter *iter, unsigned int nr)
{
	struct vfio_run run;

	KUNIT_ASSERT_FALSE_MSG(test, vfio_runs_next(iter, &run), "more than %u runs", nr);
}

/* The list holds exactly the model's runs, in their order. */
static void expect_runs(struct kunit *test, const struct vfio_runs *runs,
			const struct vfio_run *model, unsigned int nr)
{
	struct vfio_runs_iter iter;
	unsigned int i;

	KUNIT_ASSERT_FALSE_MSG(test, runs->lost, "a list of %u runs", nr);
	vfio_runs_begin(runs, &iter);
	for (i = 0; i < nr; i++)
		expect_run(test, &iter, &model[i], i);
	expect_end(test, &iter, nr);
}

/* What a run is made of comes out again. */
static void run_keeps_what_it_is_made_of(struct kunit *test)
{
	static const u64 flags[] = {
		0, VFIO_RUN_WRITE, VFIO_RUN_PINNED, VFIO_RUN_WRITE | VFIO_RUN_PINNED,
		VFIO_RUN_CHARGED, VFIO_RUN_RAM, VFIO_RUN_WRITE | VFIO_RUN_RAM,
	};
	static const unsigned long npages[] = { 0, 1, VFIO_RUN_PAGES_MAX - 1, VFIO_RUN_PAGES_MAX };
	static const unsigned long pfns[] = { 0, 1, PFN_MAX - 1, PFN_MAX };
	unsigned int f, n, p;

	for (f = 0; f < ARRAY_SIZE(flags); f++)
		for (n = 0; n < ARRAY_SIZE(npages); n++)
			for (p = 0; p < ARRAY_SIZE(pfns); p++) {
				struct vfio_run run = vfio_run_make(pfns[p], npages[n], flags[f]);

				KUNIT_EXPECT_EQ(test, vfio_run_pfn(run), pfns[p]);
				KUNIT_EXPECT_EQ(test, vfio_run_npages(run), npages[n]);
				KUNIT_EXPECT_EQ(test, vfio_run_write(run),
						!!(flags[f] & VFIO_RUN_WRITE));
				KUNIT_EXPECT_EQ(test, vfio_run_pinned(run),
						!!(flags[f] & VFIO_RUN_PINNED));
				KUNIT_EXPECT_EQ(test, vfio_run_charged(run),
						!!(flags[f] & VFIO_RUN_CHARGED));
			}
}

/* A run that goes on takes more pages, up to the longest, and stays what it was. */
static void run_grows_in_place(struct kunit *test)
{
	struct vfio_run run = vfio_run_make(PFN_MAX, 1, VFIO_RUN_WRITE);

	run.word += VFIO_RUN_PAGES_MAX - 1;
	KUNIT_EXPECT_EQ(test, run.word,
			vfio_run_make(PFN_MAX, VFIO_RUN_PAGES_MAX, VFIO_RUN_WRITE).word);
}

/* Appended many at a time, the list is the same. */
static void runs_come_in_any_number(struct kunit *test)
{
	struct vfio_run *model = alloc_model(test, LIST_MAX);
	unsigned int at_once, nr;
	struct vfio_runs runs;

	for (nr = 0; nr < LIST_MAX; nr++)
		model[nr] = extreme_run(nr);
	for (at_once = 1; at_once <= LIST_MAX; at_once++) {
		vfio_runs_init(&runs);
		for (nr = 0; nr < LIST_MAX; nr += min(at_once, LIST_MAX - nr))
			vfio_runs_append(&runs, &model[nr], min(at_once, LIST_MAX - nr));
		expect_runs(test, &runs, model, LIST_MAX);
		vfio_runs_free(&runs);
	}
}

/* Lists of each length, read twice, and between one run and the next. */
static void every_length_to_700(struct kunit *test)
{
	struct vfio_run *model = alloc_model(test, LIST_MAX);
	struct vfio_runs runs, grown;
	unsigned int nr;

	for (nr = 0; nr < LIST_MAX; nr++)
		model[nr] = extreme_run(nr);
	vfio_runs_init(&grown);
	for (nr = 0; nr <= LIST_MAX; nr++) {
		vfio_runs_init(&runs);
		add_runs(&runs, model, nr);
		expect_runs(test, &runs, model, nr);
		expect_runs(test, &runs, model, nr);
		vfio_runs_free(&runs);

		expect_runs(test, &grown, model, nr);
		if (nr < LIST_MAX)
			vfio_runs_append(&grown, &model[nr], 1);
	}
	vfio_runs_free(&grown);
}

/* No run is too large, too high or too small for any place in the list. */
static void every_extreme_run_in_every_place(struct kunit *test)
{
	struct vfio_run *model = alloc_model(test, LIST_MAX);
	struct vfio_runs runs;
	unsigned int shift, i;

	vfio_runs_init(&runs);
	for (shift = 0; shift < NR_EXTREMES; shift++) {
		for (i = 0; i < LIST_MAX; i++)
			model[i] = extreme_run(i + shift);
		add_runs(&runs, model, LIST_MAX);
		expect_runs(test, &runs, model, LIST_MAX);
		/* What is freed can be filled again. */
		vfio_runs_free(&runs);
		expect_runs(test, &runs, model, 0);
	}
}

/* Random runs of all magnitudes. */
static void random_long_lists(struct kunit *test)
{
	struct vfio_run *model = alloc_model(test, LONG_LIST);
	struct vfio_runs runs;
	struct rnd_state rnd;
	unsigned int seed, i;

	for (seed = 1; seed <= 20; seed++) {
		unsigned int nr = seed * (LONG_LIST / 20);

		prandom_seed_state(&rnd, seed);
		for (i = 0; i < nr; i++) {
			u64 pfn = (u64)prandom_u32_state(&rnd) << 32 | prandom_u32_state(&rnd);

			u32 npages = 1 + prandom_u32_state(&rnd) %
				     (VFIO_RUN_PAGES_MAX >> prandom_u32_state(&rnd) % 18);

			model[i] = vfio_run_make((pfn & PFN_MAX) >> prandom_u32_state(&rnd) % 40,
						 npages, prandom_u32_state(&rnd) & 1 ?
						 VFIO_RUN_RAM : VFIO_RUN_WRITE);
		}
		vfio_runs_init(&runs);
		add_runs(&runs, model, nr);
		expect_runs(test, &runs, model, nr);
		vfio_runs_free(&runs);
	}
}

/* Where one reader is, is nothing to another. */
static void readers_are_independent(struct kunit *test)
{
	struct vfio_run *model = alloc_model(test, LIST_MAX);
	struct vfio_runs_iter ahead, behind;
	const unsigned int distance = 100;
	struct vfio_runs runs;
	unsigned int i;

	for (i = 0; i < LIST_MAX; i++)
		model[i] = extreme_run(i);
	vfio_runs_init(&runs);
	add_runs(&runs, model, LIST_MAX);
	vfio_runs_begin(&runs, &ahead);
	vfio_runs_begin(&runs, &behind);
	for (i = 0; i < LIST_MAX + distance; i++) {
		if (i < LIST_MAX)
			expect_run(test, &ahead, &model[i], i);
		if (i >= distance)
			expect_run(test, &behind, &model[i - distance], i - distance);
	}
	expect_end(test, &ahead, LIST_MAX);
	expect_end(test, &behind, LIST_MAX);
	vfio_runs_free(&runs);
}

/* Who reads on after the last run does not begin again. */
static void end_of_list_stays_the_end(struct kunit *test)
{
	struct vfio_run run = extreme_run(0);
	struct vfio_runs runs;
	unsigned int nr, i;

	vfio_runs_init(&runs);
	for (nr = 0; nr <= LIST_MAX; nr++) {
		struct vfio_runs_iter iter;

		vfio_runs_begin(&runs, &iter);
		for (i = 0; i < nr; i++)
			expect_run(test, &iter, &run, i);
		for (i = 0; i < 3; i++)
			expect_end(test, &iter, nr);
		vfio_runs_append(&runs, &run, 1);
	}
	vfio_runs_free(&runs);
}

/* One or two runs are a mapping's usual: they need no memory of their own. */
static void two_runs_need_no_memory(struct kunit *test)
{
	struct vfio_run model[] = { extreme_run(1), extreme_run(0), extreme_run(2) };
	bool lost_by_two, lost_by_three;
	struct vfio_runs runs;

	vfio_runs_init(&runs);
	fault_all();
	add_runs(&runs, model, 2);
	lost_by_two = runs.lost;
	fault_end();
	KUNIT_ASSERT_FALSE(test, lost_by_two);
	expect_runs(test, &runs, model, 2);

	/* The third does, or the above shows nothing. */
	fault_all();
	vfio_runs_append(&runs, &model[2], 1);
	lost_by_three = runs.lost;
	fault_end();
	KUNIT_EXPECT_TRUE(test, lost_by_three);
	vfio_runs_free(&runs);
}

/*
 * Whichever allocation fails, the list is lost from there on: it is empty, and
 * takes nothing until it was freed. There are few allocations that could fail.
 */
static void list_without_memory_is_lost(struct kunit *test)
{
	struct vfio_run *model = alloc_model(test, LIST_MAX);
	unsigned int nth, nr;
	struct vfio_runs runs;
	bool came = true;

	for (nr = 0; nr < LIST_MAX; nr++)
		model[nr] = extreme_run(nr);
	for (nth = 1; came; nth++) {
		struct vfio_runs_iter iter;

		vfio_runs_init(&runs);
		fault_nth(nth);
		for (nr = 0; nr < LIST_MAX && !runs.lost; nr++)
			vfio_runs_append(&runs, &model[nr], 1);
		came = fault_end();
		if (FAULT_IS_EXACT || !came)
			KUNIT_ASSERT_EQ_MSG(test, runs.lost, came, "allocation %u, run %u", nth,
					    nr);
		if (runs.lost) {
			vfio_runs_begin(&runs, &iter);
			expect_end(test, &iter, 0);
			/* Now there is memory again. */
			add_runs(&runs, model, LIST_MAX);
			KUNIT_ASSERT_TRUE_MSG(test, runs.lost, "allocation %u", nth);
			vfio_runs_begin(&runs, &iter);
			expect_end(test, &iter, 0);
			vfio_runs_free(&runs);
			add_runs(&runs, model, LIST_MAX);
		}
		expect_runs(test, &runs, model, LIST_MAX);
		vfio_runs_free(&runs);
	}
	KUNIT_EXPECT_GT(test, nth, 3U);
	KUNIT_EXPECT_LT_MSG(test, nth, FAULT_IS_EXACT ? 10U : 20U, "%u allocations for %u runs",
			    nth - 2, LIST_MAX);
}

/* With an exact run in it, at @at, the list stays what it was whenever memory is short. */
static void expect_kept(struct kunit *test, const struct vfio_run *model, unsigned int at,
			unsigned int nr, unsigned int at_once)
{
	unsigned int nth, n, had;
	struct vfio_runs runs;
	bool came = true;
	int ret = 0;

	for (nth = 1; came; nth++) {
		vfio_runs_init(&runs);
		fault_nth(nth);
		for (had = 0; had < nr && !ret; had += n) {
			/* Runs of one kind at a time. */
			n = had == at ? 1 : min(had < at ? at - had : nr - had, at_once);
			ret = vfio_runs_append(&runs, &model[had], n);
			if (ret)
				break;
		}
		came = fault_end();
		KUNIT_ASSERT_TRUE(test, !ret || ret == -ENOMEM);
		if (ret && runs.lost) {
			/* Lost before: then nothing exact gets into it. */
			KUNIT_ASSERT_EQ(test, had, at);
		} else {
			KUNIT_ASSERT_FALSE(test, runs.lost);
			expect_runs(test, &runs, model, had);
			/* It can go on. */
			for (; had < nr; had++)
				KUNIT_ASSERT_EQ(test, 0, vfio_runs_append(&runs, &model[had], 1));
			expect_runs(test, &runs, model, nr);
		}
		ret = 0;
		vfio_runs_free(&runs);
	}
}

/* A list that has to be exact is not lost, and one that was lost cannot become exact. */
static void exact_list_is_not_lost(struct kunit *test)
{
	static const unsigned int ats[] = { 0, 1, 2, 3, 15, 16, 17, 300, LIST_MAX - 1 };
	struct vfio_run *model = alloc_model(test, LIST_MAX);
	unsigned int a, nr;

	for (a = 0; a < ARRAY_SIZE(ats); a++) {
		for (nr = 0; nr < LIST_MAX; nr++)
			model[nr] = vfio_run_make(nr, 1, nr == ats[a] ? VFIO_RUN_PINNED :
								       VFIO_RUN_RAM);
		expect_kept(test, model, ats[a], LIST_MAX, 1);
		expect_kept(test, model, ats[a], LIST_MAX, 37);
		expect_kept(test, model, ats[a], LIST_MAX, LIST_MAX);
	}
}

static struct kunit_case runs_cases[] = {
	KUNIT_CASE(run_keeps_what_it_is_made_of),
	KUNIT_CASE(run_grows_in_place),
	KUNIT_CASE(runs_come_in_any_number),
	KUNIT_CASE(every_length_to_700),
	KUNIT_CASE(every_extreme_run_in_every_place),
	KUNIT_CASE(random_long_lists),
	KUNIT_CASE(readers_are_independent),
	KUNIT_CASE(end_of_list_stays_the_end),
	KUNIT_CASE(two_runs_need_no_memory),
	KUNIT_CASE(list_without_memory_is_lost),
	KUNIT_CASE(exact_list_is_not_lost),
	{}
};

SUITE("vfio_runs", runs_cases, FAULT_SUITE);
