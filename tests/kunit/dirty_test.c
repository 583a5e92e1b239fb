// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty bitmaps: what user space reads, bit by bit, and what it reads next time.
 */

#include <linux/mman.h>
#include <linux/prandom.h>

#include "dirty_fixture.h"
#include "fault.h"
#include "user_mem.h"

/* ---- what is reported ---- */

/* Below, at and above the ends of words, and of what is copied at a time. */
static const unsigned int offsets[] = { 0, 1, 31, 63, 64, 65, 130 };
static const unsigned int lengths[] = { 1, 2, 62, 63, 64, 65, 128, 1000, 4031, 4096, 4097, 8192 };

/* One mapping anywhere in the words of the bitmap, of any length. */
static void mapping_is_reported_where_it_is(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct rnd_state rnd;
	unsigned int o, l, i;

	prandom_seed_state(&rnd, 1);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (o = 0; o < ARRAY_SIZE(offsets); o++) {
		for (l = 0; l < ARRAY_SIZE(lengths); l++) {
			unsigned int npages = lengths[l];

			KUNIT_ASSERT_EQ(test, 0, map(test, offsets[o], npages));
			bitmap_zero(fx->dirty, SPACE_PAGES);
			mark(test, offsets[o], 1);
			mark(test, offsets[o] + npages - 1, 1);
			for (i = 0; i < npages / 3; i++)
				mark(test, offsets[o] + prandom_u32_state(&rnd) % npages, 1);

			fill_bitmap(test);
			want_mapping(fx, 0, offsets[o], npages, false);
			KUNIT_ASSERT_EQ(test, 0, get(test, 0, SPACE_PAGES));
			expect_bitmap(test, "marked pages at", offsets[o], npages);

			/* A group that writes anywhere makes all of it dirty, always. */
			fx->container->dirty_groups = 1;
			want_mapping(fx, 0, offsets[o], npages, true);
			KUNIT_ASSERT_EQ(test, 0, get(test, 0, SPACE_PAGES));
			expect_bitmap(test, "all pages at", offsets[o], npages);
			fx->container->dirty_groups = 0;
			unmap_all(test);
		}
	}
}

/* Some mappings, in order, with and without room between them. */
static unsigned int map_some(struct kunit *test, struct rnd_state *rnd, unsigned int *first,
			     unsigned int *npages)
{
	unsigned int nr, at = prandom_u32_state(rnd) % 100;

	for (nr = 0; nr < 8; nr++) {
		first[nr] = at;
		npages[nr] = 1 + prandom_u32_state(rnd) % 200;
		KUNIT_ASSERT_EQ(test, 0, map(test, first[nr], npages[nr]));
		at += npages[nr] + prandom_u32_state(rnd) % 3 * (prandom_u32_state(rnd) % 100);
	}
	return nr;
}

/*
 * Any range over several mappings, which share words: it reports those that lie in it,
 * none if it cuts one, and does not touch what belongs to no mapping. What was reported
 * is clean the next time, what was not is still dirty.
 */
static void range_reports_its_mappings_once(struct kunit *test)
{
	unsigned int round, nr, i, j, first[8], npages[8], cuts = 0;
	struct fixture *fx = test->priv;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 2);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (round = 0; round < 150; round++) {
		unsigned int from, to;
		bool cut = false;

		nr = map_some(test, &rnd, first, npages);
		bitmap_zero(fx->dirty, SPACE_PAGES);
		for (i = 0; i < nr; i++)
			for (j = 0; j < 5; j++)
				mark(test, first[i] + prandom_u32_state(&rnd) % npages[i], 1);
		from = prandom_u32_state(&rnd) % (first[nr - 1] + 1);
		/* Mostly where a mapping starts, and to where one ends. */
		if (round % 4)
			from = first[prandom_u32_state(&rnd) % nr];
		i = prandom_u32_state(&rnd) % nr;
		to = max(from + 1, first[i] + npages[i]);

		fill_bitmap(test);
		for (i = 0; i < nr; i++)
			cut |= first[i] < to && first[i] + npages[i] > from &&
			       (first[i] < from || first[i] + npages[i] > to);
		for (i = 0; i < nr && !cut; i++)
			if (first[i] >= from && first[i] < to)
				want_mapping(fx, from, first[i], npages[i], false);
		KUNIT_ASSERT_EQ(test, cut ? -EINVAL : 0, get(test, from, to - from));
		expect_bitmap(test, "range", from, to);
		cuts += cut;

		if (!cut)
			bitmap_clear(fx->dirty, from, to - from);
		fill_bitmap(test);
		for (i = 0; i < nr; i++)
			want_mapping(fx, 0, first[i], npages[i], false);
		KUNIT_ASSERT_EQ(test, 0, get(test, 0, SPACE_PAGES));
		expect_bitmap(test, "everything, after range", from, to);
		unmap_all(test);
	}
	KUNIT_EXPECT_GT(test, cuts, 5U);
	KUNIT_EXPECT_LT(test, cuts, 100U);
}

/* UNMAP tells what was dirty for the last time, in the bitmap of its own range. */
static void unmap_reports_what_it_takes(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_dirty_request request = request_at(fx, 0);
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_ASSERT_EQ(test, 0, map(test, 10, 100));
	KUNIT_ASSERT_EQ(test, 0, map(test, 110, 7));
	KUNIT_ASSERT_EQ(test, 0, map(test, 200, 64));
	mark(test, 11, 3);
	mark(test, 116, 1);
	mark(test, 200, 1);
	fill_bitmap(test);
	want_mapping(fx, 5, 10, 100, false);
	want_mapping(fx, 5, 110, 7, false);
	KUNIT_ASSERT_EQ(test, 0, call_unmap_dma(fx->container, page_iova(5), 150 * PAGE_SIZE, false,
						&request, &unmapped));
	KUNIT_EXPECT_EQ(test, unmapped, 107 * (u64)PAGE_SIZE);
	expect_bitmap(test, "unmap", 0, 0);
}

/* What is made while tracking is on starts clean. */
static void new_mapping_is_clean(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_ASSERT_EQ(test, 0, map(test, 3, 70));
	fill_bitmap(test);
	want_mapping(fx, 0, 3, 70, false);
	KUNIT_ASSERT_EQ(test, 0, get(test, 0, SPACE_PAGES));
	expect_bitmap(test, "new mapping", 3, 70);
}

/* To start again, or to stop what does not run, changes nothing; after a stop all is clean. */
static void start_and_stop_may_be_repeated(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 64));
	vfio_dirty_stop(fx->container);
	KUNIT_EXPECT_EQ(test, -EINVAL, get(test, 0, 64));
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	mark(test, 7, 2);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	fill_bitmap(test);
	want_mapping(fx, 0, 0, 64, false);
	KUNIT_ASSERT_EQ(test, 0, get(test, 0, 64));
	expect_bitmap(test, "started twice", 0, 0);

	mark(test, 7, 2);
	vfio_dirty_stop(fx->container);
	KUNIT_EXPECT_EQ(test, -EINVAL, get(test, 0, 64));
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	bitmap_zero(fx->dirty, SPACE_PAGES);
	want_mapping(fx, 0, 0, 64, false);
	KUNIT_ASSERT_EQ(test, 0, get(test, 0, 64));
	expect_bitmap(test, "stopped and started", 0, 0);
}

/* ---- what is refused ---- */

/* Alignment, page size, tracking: nothing is reported, and what is dirty stays so. */
static void bad_requests_report_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_dirty_request good = request_at(fx, 0), large = good, small = good;
	u64 iova = page_iova(0), size = 64 * PAGE_SIZE, unmapped = 1;

	large.pgsize = SZ_2M;
	small.pgsize = SZ_1K;
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 64));
	fill_bitmap(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size, &good));
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, call_unmap_dma(fx->container, iova, size, false, &good,
							  &unmapped), "tracking is off");
	KUNIT_EXPECT_EQ(test, unmapped, 0ULL);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	mark(test, 5, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size, &large));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size, &small));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova + 1, size, &good));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size - 1, &good));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_unmap_dma(fx->container, iova, size, false, &large,
						      &unmapped));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_unmap_dma(fx->container, iova, size, false, &small,
						      &unmapped));
	expect_bitmap(test, "refused", 0, 0);
	want_mapping(fx, 0, 0, 64, false);
	KUNIT_EXPECT_EQ(test, 0, get(test, 0, 64));
	expect_bitmap(test, "afterwards", 0, 0);
}

/*
 * User memory that ends too early, in the first word or a later one, of a mapping that
 * shares its first word or does not: what could not be reported is as dirty as it was,
 * and UNMAP takes only what it could report.
 */
static void missing_user_memory_loses_no_dirty_page(struct kunit *test)
{
	static const struct {
		unsigned int first, npages, words;
	} cases[] = {
		{ 64, 64, 1 }, { 64, 300, 3 }, { 64, 8000, 70 },
		{ 70, 10, 1 }, { 70, 300, 3 }, { 70, 8000, 70 },
	};
	struct fixture *fx = test->priv;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (i = 0; i < ARRAY_SIZE(cases) * 2; i++) {
		unsigned int first = cases[i / 2].first, npages = cases[i / 2].npages;
		unsigned int end = first + npages;
		unsigned int offset = BITMAP_PAGES * PAGE_SIZE / sizeof(u64) - cases[i / 2].words;
		struct vfio_dirty_request request = request_at(fx, offset);
		u64 unmapped = 0;

		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 1));
		KUNIT_ASSERT_EQ(test, 0, map(test, first, npages));
		KUNIT_ASSERT_EQ(test, 0, map(test, end, 1));
		bitmap_zero(fx->dirty, SPACE_PAGES);
		mark(test, end - 1, 1);
		mark(test, end, 1);
		fx->container->dirty_groups = i % 2;
		KUNIT_EXPECT_EQ_MSG(test, -EFAULT, get_at(test, 0, SPACE_PAGES, offset),
				    "round %u", i);
		KUNIT_EXPECT_EQ_MSG(test, -EFAULT,
				    call_unmap_dma(fx->container, BASE,
						   (u64)SPACE_PAGES << PAGE_SHIFT, false,
						   &request, &unmapped), "round %u", i);
		KUNIT_EXPECT_EQ(test, unmapped, (u64)PAGE_SIZE);

		fx->container->dirty_groups = 0;
		fill_bitmap(test);
		want_mapping(fx, 0, first, npages, false);
		want_mapping(fx, 0, end, 1, false);
		KUNIT_ASSERT_EQ(test, 0, get(test, 0, SPACE_PAGES));
		expect_bitmap(test, "mapping at", first, npages);
		KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)(npages + 1) << PAGE_SHIFT);
	}
}

/*
 * The memory ends between the words of two mappings: nothing of the first one is lost either,
 * though its words were copied, and the call says that they were not.
 */
static void what_was_copied_before_a_fault_is_still_dirty(struct kunit *test)
{
	static const struct {
		unsigned int first, second;
	} cases[] = {
		{ 0, 64 }, { 3, 64 }, { 3, 70 }, { 0, 128 },
	};
	unsigned int i, end = BITMAP_PAGES * PAGE_SIZE / sizeof(u64);
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned int first = cases[i].first, second = cases[i].second;
		unsigned int words = second / 64;

		KUNIT_ASSERT_EQ(test, 0, map(test, first, 50));
		KUNIT_ASSERT_EQ(test, 0, map(test, second, 50));
		bitmap_zero(fx->dirty, SPACE_PAGES);
		mark(test, first + 7, 3);
		mark(test, second + 1, 1);
		KUNIT_EXPECT_EQ_MSG(test, -EFAULT, get_at(test, 0, 1000, end - words),
				    "round %u", i);

		fill_bitmap(test);
		want_mapping(fx, 0, first, 50, false);
		want_mapping(fx, 0, second, 50, false);
		KUNIT_ASSERT_EQ(test, 0, get(test, 0, 1000));
		expect_bitmap(test, "mappings at", first, second);
		unmap_all(test);
	}
}

/* A bitmap that may be read, but not written. */
static void read_only_user_memory_loses_no_dirty_page(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long vaddr = user_map_anon(test, 1, PROT_READ);
	struct vfio_dirty_request request = {
		.bitmap = (u64 __user *)vaddr, .pgsize = PAGE_SIZE,
	};
	unsigned int i, at[] = { 0, 3 };

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		KUNIT_ASSERT_EQ(test, 0, map(test, at[i], 10));
		bitmap_zero(fx->dirty, SPACE_PAGES);
		mark(test, at[i] + 2, 1);
		KUNIT_EXPECT_EQ(test, -EFAULT, vfio_dirty_get(fx->container, BASE, SZ_1M,
							      &request));
		fill_bitmap(test);
		want_mapping(fx, 0, at[i], 10, false);
		KUNIT_ASSERT_EQ(test, 0, get(test, 0, 256));
		expect_bitmap(test, "at", at[i], 0);
		unmap_all(test);
	}
	user_unmap(vaddr, 1);
}

/* A bitmap's pages are counted in an int. */
static void mapping_of_too_many_pages_is_not_tracked(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 size = (VFIO_DIRTY_PAGES_MAX + 1) << PAGE_SHIFT;

	/* Without a domain, so that nobody asks for its memory. */
	list_del_init(&fx->domain.next);
	KUNIT_ASSERT_EQ(test, 0, call_map_dma(fx->container, SZ_1T, SZ_4K, size, RW, false));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_start(fx->container));
	KUNIT_EXPECT_FALSE(test, fx->container->dirty_tracking);
	KUNIT_EXPECT_EQ(test, unmap_all(test), size);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_map_dma(fx->container, SZ_1T, SZ_4K, size, RW, false));
	KUNIT_EXPECT_EQ(test, unmap_all(test), 0ULL);
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	list_add(&fx->domain.next, &fx->container->domains);
}

/* A MAP whose bitmap cannot be had leaves nothing. */
static void map_without_a_bitmap_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int nth, failed = 0;
	bool came = true;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = map(test, 0, 64);
		came = fault_end();
		failed += !!ret;
		KUNIT_ASSERT_EQ(test, unmap_all(test), ret ? 0 : 64 * (u64)PAGE_SIZE);
		mock_iommu_expect_empty(test, fx->mock);
		KUNIT_ASSERT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	}
	KUNIT_EXPECT_GE_MSG(test, failed, 3U, "the mapping, its bitmap, its IOPTE");
}

/* ---- killed ---- */

static int start_tracking(void *data)
{
	struct fixture *fx = data;

	return vfio_dirty_start(fx->container);
}

static int get_everything(void *data)
{
	struct fixture *fx = data;
	struct vfio_dirty_request request = request_at(fx, 0);

	return vfio_dirty_get(fx->container, BASE, (u64)SPACE_PAGES << PAGE_SHIFT, &request);
}

/* Who is killed gets no bitmap, and has not made anything clean. */
static void killed_caller_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, map(test, 6, 100));
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, start_tracking, fx));
	KUNIT_EXPECT_FALSE(test, fx->container->dirty_tracking);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	mark(test, 50, 9);
	fill_bitmap(test);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, get_everything, fx));
	expect_bitmap(test, "killed", 0, 0);
	want_mapping(fx, 0, 6, 100, false);
	KUNIT_ASSERT_EQ(test, 0, get(test, 0, SPACE_PAGES));
	expect_bitmap(test, "afterwards", 0, 0);
}

static struct kunit_case dirty_cases[] = {
	KUNIT_CASE(mapping_is_reported_where_it_is),
	KUNIT_CASE(range_reports_its_mappings_once),
	KUNIT_CASE(unmap_reports_what_it_takes),
	KUNIT_CASE(new_mapping_is_clean),
	KUNIT_CASE(start_and_stop_may_be_repeated),
	KUNIT_CASE(bad_requests_report_nothing),
	KUNIT_CASE(missing_user_memory_loses_no_dirty_page),
	KUNIT_CASE(what_was_copied_before_a_fault_is_still_dirty),
	KUNIT_CASE(read_only_user_memory_loses_no_dirty_page),
	KUNIT_CASE(mapping_of_too_many_pages_is_not_tracked),
	KUNIT_CASE(map_without_a_bitmap_leaves_nothing),
	KUNIT_CASE(killed_caller_changes_nothing),
	{}
};

SUITE("vfio_dirty_bitmaps", dirty_cases, DIRTY_SUITE);
