// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty bitmaps: what user space reads, bit by bit, and what it reads next time.
 *
 * Mappings are of MMIO, in a domain whose IOPTEs have any size, so that large ones
 * cost little. No group is attached: a case says itself whether there is one that
 * writes wherever it likes.
 */

#include <linux/bitmap.h>
#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "fault.h"
#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16
#define MMIO_PAGES	8192U

/* Ranges start here: nothing says that they are aligned to a word of the bitmap. */
#define BASE		((u64)SZ_1G + 5 * PAGE_SIZE)
#define SPACE_PAGES	9000U
#define WORDS		DIV_ROUND_UP(SPACE_PAGES, 64)
#define BITMAP_PAGES	DIV_ROUND_UP(WORDS * sizeof(u64), PAGE_SIZE)
/* What user space has in its bitmap before. */
#define OLD_WORD	0xa5a5a5a5a5a5a5a5ULL

static const struct mock_flavour any_size = { "any size", PAGE_MASK, true, false };

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

static int dirty_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fx->vaddr = user_map_pfns(test, 0, MMIO_PFN, MMIO_PAGES);
	fx->bitmap = user_map_anon(test, BITMAP_PAGES + 1, PROT_READ | PROT_WRITE);
	user_unmap(fx->bitmap + BITMAP_PAGES * PAGE_SIZE, 1);
	suite_set_params(ENTRIES);
	fx->container = vfio_container_create(true, false, false);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->mock = mock_iommu_create(test, &any_size);
	mock_iommu_join(test, fx->mock, &fx->domain, fx->container);
	test->priv = fx;
	return 0;
}

static void dirty_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	mock_iommu_release(fx->container);
	mock_iommu_destroy(fx->mock);
	user_unmap(fx->bitmap, BITMAP_PAGES);
	user_unmap(fx->vaddr, MMIO_PAGES);
	user_mem_detach();
}

/* ---- requests ---- */

static u64 page_iova(unsigned int page)
{
	return BASE + (u64)page * PAGE_SIZE;
}

static int map(struct kunit *test, unsigned int first, unsigned int npages)
{
	struct fixture *fx = test->priv;

	return vfio_map_dma(fx->container, page_iova(first), fx->vaddr, (u64)npages << PAGE_SHIFT,
			    RW, false);
}

static u64 unmap_all(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, vfio_unmap_dma(fx->container, 0, 0, true, NULL, &unmapped));
	return unmapped;
}

/* A request for a bitmap at @offset words into the user memory. */
static struct vfio_dirty_request request_at(const struct fixture *fx, unsigned int offset)
{
	return (struct vfio_dirty_request) {
		.bitmap = (u64 __user *)fx->bitmap + offset,
		.pgsize = PAGE_SIZE,
	};
}

static int get_at(struct kunit *test, unsigned int first, unsigned int npages, unsigned int offset)
{
	struct fixture *fx = test->priv;
	struct vfio_dirty_request request = request_at(fx, offset);

	return vfio_dirty_get(fx->container, page_iova(first), (u64)npages << PAGE_SHIFT,
			      &request);
}

static int get(struct kunit *test, unsigned int first, unsigned int npages)
{
	return get_at(test, first, npages, 0);
}

/* As a device that pins, or dma_rw, would do, and note it. */
static void mark(struct kunit *test, unsigned int first, unsigned int npages)
{
	struct fixture *fx = test->priv;
	struct vfio_dma *dma;

	down_write(&fx->container->lock);
	dma = vfio_dma_tree_first(&fx->container->tree, page_iova(first), page_iova(first));
	/* Not by whole pages: the bytes at either end count as their pages. */
	vfio_dirty_mark(fx->container, dma, page_iova(first) + PAGE_SIZE - 1,
			(u64)(npages - 1) * PAGE_SIZE + 1);
	up_write(&fx->container->lock);
	bitmap_set(fx->dirty, first, npages);
}

/* ---- what user space reads ---- */

/* User space clears nothing before it asks. */
static void fill_bitmap(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int w;

	for (w = 0; w < WORDS; w++)
		fx->want[w] = OLD_WORD;
	KUNIT_ASSERT_EQ(test, 0UL, copy_to_user((void __user *)fx->bitmap, fx->want,
						sizeof(fx->want)));
}

/*
 * Bits of a mapping are what they are, those between it and the end of the word that
 * it ends in are zero, and no others are touched. @base is the page of bit 0.
 */
static void want_mapping(struct fixture *fx, unsigned int base, unsigned int first,
			 unsigned int npages, bool all)
{
	unsigned int bit, end = first - base + npages;

	for (bit = first - base; bit < round_up(end, 64); bit++) {
		bool set = bit < end && (all || test_bit(bit + base, fx->dirty));

		fx->want[bit / 64] &= ~BIT_ULL(bit % 64);
		fx->want[bit / 64] |= (u64)set << bit % 64;
	}
}

static void expect_bitmap(struct kunit *test, const char *what, unsigned int a, unsigned int b)
{
	struct fixture *fx = test->priv;
	unsigned int w;

	KUNIT_ASSERT_EQ(test, 0UL, copy_from_user(fx->got, (void __user *)fx->bitmap,
						  sizeof(fx->got)));
	for (w = 0; w < WORDS; w++)
		KUNIT_ASSERT_EQ_MSG(test, fx->got[w], fx->want[w], "%s %u, %u: word %u", what, a,
				    b, w);
}

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
	KUNIT_ASSERT_EQ(test, 0, vfio_unmap_dma(fx->container, page_iova(5), 150 * PAGE_SIZE, false,
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
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, vfio_unmap_dma(fx->container, iova, size, false, &good,
							  &unmapped), "tracking is off");
	KUNIT_EXPECT_EQ(test, unmapped, 0ULL);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	mark(test, 5, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size, &large));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size, &small));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova + 1, size, &good));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, iova, size - 1, &good));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_unmap_dma(fx->container, iova, size, false, &large,
						      &unmapped));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_unmap_dma(fx->container, iova, size, false, &small,
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
				    vfio_unmap_dma(fx->container, BASE,
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
	KUNIT_ASSERT_EQ(test, 0, vfio_map_dma(fx->container, SZ_1T, SZ_4K, size, RW, false));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_start(fx->container));
	KUNIT_EXPECT_FALSE(test, fx->container->dirty_tracking);
	KUNIT_EXPECT_EQ(test, unmap_all(test), size);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_map_dma(fx->container, SZ_1T, SZ_4K, size, RW, false));
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

/* ---- user memory that takes its time ---- */

/* Pages whose bits fill a page of the bitmap. */
#define LATE_PAGES	(PAGE_SIZE * 8)

struct late_case;

/**
 * struct late_event - what others do while a request waits for user memory
 * @name: for people
 * @happens: what they do
 * @ret: what GET returns then
 * @unmap_ret: what UNMAP returns then
 * @left: pages that are mapped after that UNMAP
 */
struct late_event {
	const char *name;
	void (*happens)(struct late_case *late);
	int ret;
	int unmap_ret;
	unsigned int left;
};

/**
 * struct late_case - a bitmap of two pages, of which the first access to either waits
 * @test: the case
 * @event: what happens then
 * @faults: the bitmap
 * @block: what it consists of
 * @vaddr: where it is
 * @nr: how often it happened
 */
struct late_case {
	struct kunit *test;
	const struct late_event *event;
	struct user_faults faults;
	struct page *block;
	unsigned long vaddr;
	unsigned int nr;
};

static void late_amid(void *data)
{
	struct late_case *late = data;
	struct fixture *fx = late->test->priv;

	late->nr++;
	/* Anybody may have to wait for these. */
	if (!down_write_trylock(&fx->container->lock)) {
		KUNIT_FAIL(late->test, "%s: container->lock is held", late->event->name);
		return;
	}
	up_write(&fx->container->lock);
	KUNIT_EXPECT_FALSE(late->test, mutex_is_locked(&fx->container->external_lock));
	late->event->happens(late);
}

static void late_begin(struct kunit *test, struct late_case *late, const struct late_event *event)
{
	*late = (struct late_case) {
		.test = test,
		.event = event,
		.block = user_block_alloc(test),
		.faults = { .missing = 2, .retry = true, .amid = late_amid, .data = late },
	};
	late->faults.pfn = page_to_pfn(late->block);
	late->vaddr = user_map_faults(test, &late->faults, 2, PROT_READ | PROT_WRITE);
}

static void late_end(struct late_case *late)
{
	user_unmap(late->vaddr, 2);
	user_block_free(late->block);
}

static struct vfio_dirty_request late_request(const struct late_case *late)
{
	return (struct vfio_dirty_request) {
		.bitmap = (u64 __user *)late->vaddr, .pgsize = PAGE_SIZE,
	};
}

static int late_get(const struct late_case *late)
{
	struct vfio_dirty_request request = late_request(late);
	struct fixture *fx = late->test->priv;

	return vfio_dirty_get(fx->container, BASE, 2 * LATE_PAGES << PAGE_SHIFT, &request);
}

static u64 late_word(const struct late_case *late, unsigned int w)
{
	return ((u64 *)page_address(late->block))[w];
}

static void nothing_happens(struct late_case *late)
{
}

static void page_is_written(struct late_case *late)
{
	mark(late->test, 1, 1);
}

static void mapping_goes(struct late_case *late)
{
	struct fixture *fx = late->test->priv;
	u64 unmapped;

	/* Not the one that an UNMAP owns. */
	KUNIT_EXPECT_EQ(late->test, 0, vfio_unmap_dma(fx->container, page_iova(64), SZ_4K, false,
						      NULL, &unmapped));
	KUNIT_EXPECT_EQ(late->test, unmapped, (u64)SZ_4K);
}

static void mapping_is_replaced(struct late_case *late)
{
	mapping_goes(late);
	KUNIT_EXPECT_EQ(late->test, 0, map(late->test, 64, 1));
}

static void tracking_stops(struct late_case *late)
{
	struct fixture *fx = late->test->priv;

	vfio_dirty_stop(fx->container);
}

static void tracking_starts_anew(struct late_case *late)
{
	struct fixture *fx = late->test->priv;

	tracking_stops(late);
	KUNIT_EXPECT_EQ(late->test, 0, vfio_dirty_start(fx->container));
}

static void others_read(struct late_case *late)
{
	KUNIT_EXPECT_EQ(late->test, 0, get(late->test, 0, 128));
}

/* As with the last group. */
static void all_mappings_go(struct late_case *late)
{
	struct fixture *fx = late->test->priv;

	down_write(&fx->container->lock);
	vfio_unmap_all(fx->container);
	up_write(&fx->container->lock);
}

static const struct late_event late_events[] = {
	{ "nothing", nothing_happens, 0, 0, 1 },
	{ "a page is written", page_is_written, 0, 0, 1 },
	{ "a mapping goes", mapping_goes, 0, 0, 0 },
	{ "a mapping is replaced", mapping_is_replaced, 0, 0, 1 },
	{ "tracking stops", tracking_stops, -EINVAL, -EINVAL, 4 },
	{ "tracking starts anew", tracking_starts_anew, 0, 0, 1 },
	{ "others read", others_read, 0, 0, 1 },
	{ "all mappings go", all_mappings_go, 0, 0, 0 },
};

/* A mapping of three pages, one of which is dirty, and one of a dirty page in the next word. */
static void map_late(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 3));
	KUNIT_ASSERT_EQ(test, 0, map(test, 64, 1));
	mark(test, 0, 1);
	mark(test, 64, 1);
}

/*
 * GET holds no lock while it waits for user memory, and answers as if it had come after
 * what happened meanwhile: also once more, when all is clean.
 */
static void get_waits_without_a_lock(struct kunit *test)
{
	static const u64 want[ARRAY_SIZE(late_events)][2] = {
		{ 1, 1 }, { 3, 1 }, { 1, 0 }, { 1, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 },
	};
	struct fixture *fx = test->priv;
	struct late_case late;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(late_events); i++) {
		KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
		map_late(test);
		late_begin(test, &late, &late_events[i]);
		KUNIT_EXPECT_EQ_MSG(test, late_events[i].ret, late_get(&late), "%s",
				    late_events[i].name);
		KUNIT_EXPECT_EQ(test, late.nr, 1U);
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 0), want[i][0], "%s",
				    late_events[i].name);
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 1), want[i][1], "%s",
				    late_events[i].name);
		memset(page_address(late.block), 0, PAGE_SIZE);
		if (!late_events[i].ret)
			KUNIT_EXPECT_EQ(test, 0, late_get(&late));
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 0) | late_word(&late, 1), 0ULL,
				    "%s, again", late_events[i].name);
		late_end(&late);
		unmap_all(test);
		vfio_dirty_stop(fx->container);
	}
}

/*
 * UNMAP owns what it reports, and nothing else: what happens to it meanwhile is either
 * before it, or after.  The mapping that another one shares a word with stays.
 */
static void unmap_waits_without_a_lock(struct kunit *test)
{
	static const u64 want[ARRAY_SIZE(late_events)] = { 1, 3, 1, 1, 0, 0, 0, 1 };
	struct fixture *fx = test->priv;
	struct late_case late;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(late_events); i++) {
		const struct late_event *event = &late_events[i];
		struct vfio_dirty_request request;
		u64 unmapped = 0;

		KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
		map_late(test);
		late_begin(test, &late, event);
		request = late_request(&late);
		KUNIT_EXPECT_EQ_MSG(test, event->unmap_ret,
				    vfio_unmap_dma(fx->container, BASE, SZ_64K, false, &request,
						   &unmapped), "%s", event->name);
		KUNIT_EXPECT_EQ(test, late.nr, 1U);
		KUNIT_EXPECT_EQ_MSG(test, unmapped, event->unmap_ret ? 0 : 3 * (u64)PAGE_SIZE,
				    "%s", event->name);
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 0), want[i], "%s", event->name);
		late_end(&late);
		KUNIT_EXPECT_EQ_MSG(test, unmap_all(test), (u64)event->left << PAGE_SHIFT, "%s",
				    event->name);
		vfio_dirty_stop(fx->container);
	}
}

/* What could not be reported in a container that has lost all of its mappings goes as well. */
static void unmap_that_fails_brings_no_mapping_back(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_dirty_request request;
	struct late_case late;
	u64 unmapped;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	map_late(test);
	late_begin(test, &late, &late_events[ARRAY_SIZE(late_events) - 1]);
	late.faults.missing = 0;
	request = late_request(&late);
	KUNIT_EXPECT_EQ(test, -EFAULT, vfio_unmap_dma(fx->container, BASE, SZ_64K, false,
						      &request, &unmapped));
	KUNIT_EXPECT_EQ(test, late.nr, 1U);
	late_end(&late);
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	mock_iommu_expect_empty(test, fx->mock);
}

/* As many mappings as can be reported before memory is missing: all is as dirty as before. */
static void get_that_fails_cleans_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct late_case late;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	map_late(test);
	list_del_init(&fx->domain.next);
	KUNIT_ASSERT_EQ(test, 0, map(test, LATE_PAGES - 70, 80));
	list_add(&fx->domain.next, &fx->container->domains);
	late_begin(test, &late, &late_events[0]);
	late.faults.missing = 1;
	/* The first page of the bitmap is at hand: what has its bits there is copied. */
	KUNIT_ASSERT_EQ(test, 0, put_user(0ULL, (u64 __user *)late.vaddr));
	KUNIT_EXPECT_EQ(test, -EFAULT, late_get(&late));
	KUNIT_EXPECT_EQ(test, late_word(&late, 0), 1ULL);
	late.faults.missing = 2;
	memset(page_address(late.block), 0, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 0, late_get(&late));
	KUNIT_EXPECT_EQ(test, late_word(&late, 0), 1ULL);
	KUNIT_EXPECT_EQ(test, late_word(&late, 1), 1ULL);
	late_end(&late);
	unmap_all(test);
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
	KUNIT_CASE(get_waits_without_a_lock),
	KUNIT_CASE(unmap_waits_without_a_lock),
	KUNIT_CASE(unmap_that_fails_brings_no_mapping_back),
	KUNIT_CASE(get_that_fails_cleans_nothing),
	KUNIT_CASE(killed_caller_changes_nothing),
	{}
};

SUITE("vfio_dirty_bitmaps", dirty_cases,
	USER_MEM_SUITE, .init = dirty_case_init, .exit = dirty_case_exit);
