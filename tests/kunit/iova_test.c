// SPDX-License-Identifier: GPL-2.0-only
/*
 * Valid IOVA ranges, against a bitmap with one bit per cell of IOVA space.
 */

#include <linux/bitmap.h>
#include <linux/prandom.h>

#include "fault.h"
#include "suite.h"

#define CELLS_MAX	512

/*
 * Cells from @base on, each of 1 << @shift bytes. The last one may end at
 * U64_MAX, so never ask for the end of a cell as the start of the next one.
 */
struct model {
	u64 base;
	unsigned int shift;
	unsigned int cells;
	DECLARE_BITMAP(valid, CELLS_MAX);
};

static u64 cell_first(const struct model *m, unsigned int cell)
{
	return m->base + ((u64)cell << m->shift);
}

static u64 cell_last(const struct model *m, unsigned int cell)
{
	return cell_first(m, cell) + (BIT_ULL(m->shift) - 1);
}

/* The set holds exactly the model's cells, sorted, and no two ranges touch. */
static void expect_model(struct kunit *test, const struct vfio_iova_set *set,
			 const struct model *m)
{
	unsigned int i = 0, from, to;

	for_each_set_bitrange(from, to, m->valid, m->cells) {
		KUNIT_ASSERT_LT_MSG(test, i, set->nr, "a valid range is missing");
		KUNIT_ASSERT_EQ(test, set->ranges[i].first, cell_first(m, from));
		KUNIT_ASSERT_EQ(test, set->ranges[i].last, cell_last(m, to - 1));
		i++;
	}
	KUNIT_ASSERT_EQ_MSG(test, set->nr, i, "a range too much");
	KUNIT_ASSERT_LE(test, set->nr, set->capacity);
}

static void build(struct kunit *test, struct vfio_iova_set *set, const struct model *m)
{
	unsigned int from, to;

	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(set, m->base, cell_last(m, m->cells - 1)));
	for_each_clear_bitrange(from, to, m->valid, m->cells)
		KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(set, cell_first(m, from),
							   cell_last(m, to - 1)));
	expect_model(test, set, m);
}

static bool all_valid(const struct model *m, unsigned int from, unsigned int to)
{
	return find_next_zero_bit(m->valid, m->cells, from) > to;
}

/* Distance of a cell's first byte from the nearest valid byte; U64_MAX: there is none. */
static u64 distance(const struct model *m, unsigned int cell)
{
	unsigned int up = find_next_bit(m->valid, m->cells, cell), down;
	u64 d = up < m->cells ? cell_first(m, up) - cell_first(m, cell) : U64_MAX;

	if (test_bit(cell, m->valid))
		return 0;
	for (down = cell; down--; ) {
		if (test_bit(down, m->valid))
			return min(d, cell_first(m, cell) - cell_last(m, down));
	}
	return d;
}

static void expect_nearest(struct kunit *test, const struct vfio_iova_set *set,
			   const struct model *m, unsigned int cell)
{
	const struct vfio_iova_span *r = vfio_iova_nearest(set, cell_first(m, cell));
	u64 iova = cell_first(m, cell), d;

	if (bitmap_empty(m->valid, m->cells)) {
		KUNIT_ASSERT_NULL(test, r);
		return;
	}
	KUNIT_ASSERT_NOT_NULL(test, r);
	d = iova < r->first ? r->first - iova : iova > r->last ? iova - r->last : 0;
	KUNIT_ASSERT_EQ(test, d, distance(m, cell));
}

/* The same cases at the bottom, in the middle and at the very top of IOVA space. */
static const struct model small[] = {
	{ .base = 0, .shift = 0, .cells = 7 },
	{ .base = 0, .shift = 12, .cells = 7 },
	{ .base = 0xfee00000 - 3 * 4096, .shift = 12, .cells = 7 },
	{ .base = U64_MAX - 6, .shift = 0, .cells = 7 },
	{ .base = U64_MAX - (7 * 4096 - 1), .shift = 12, .cells = 7 },
	{ .base = 0, .shift = 61, .cells = 8 },
};

static void small_desc(const struct model *m, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u cells of %llu bytes at %#llx", m->cells,
		 BIT_ULL(m->shift), m->base);
}

KUNIT_ARRAY_PARAM(small, small, small_desc);

/* Every set of cells, every range: contains, exclude, nearest. */
static void every_small_set(struct kunit *test)
{
	struct model m = *(const struct model *)test->param_value, want;
	struct vfio_iova_set set;
	unsigned long pattern;
	unsigned int from, to;

	vfio_iova_init(&set);
	for (pattern = 0; pattern < BIT(m.cells); pattern++) {
		m.valid[0] = pattern;
		build(test, &set, &m);
		for (from = 0; from < m.cells; from++) {
			expect_nearest(test, &set, &m, from);
			for (to = from; to < m.cells; to++) {
				u64 first = cell_first(&m, from), last = cell_last(&m, to);

				KUNIT_ASSERT_EQ(test, vfio_iova_contains(&set, first, last),
						all_valid(&m, from, to));

				want = m;
				bitmap_clear(want.valid, from, to - from + 1);
				KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&set, first, last));
				expect_model(test, &set, &want);

				build(test, &set, &m);
			}
		}
	}
	vfio_iova_destroy(&set);
}

/* A range that misses one byte at either end is not valid. */
static void one_byte_outside_is_outside(struct kunit *test)
{
	struct vfio_iova_set set;

	vfio_iova_init(&set);
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(&set, 0, U64_MAX));
	KUNIT_EXPECT_TRUE(test, vfio_iova_contains(&set, 0, U64_MAX));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&set, 0xfee00000, 0xfeefffff));
	KUNIT_EXPECT_TRUE(test, vfio_iova_contains(&set, 0, 0xfedfffff));
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 0, 0xfee00000));
	KUNIT_EXPECT_TRUE(test, vfio_iova_contains(&set, 0xfef00000, U64_MAX));
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 0xfeefffff, U64_MAX));
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 0, U64_MAX));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&set, 0, 0xfff));
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&set, 1ULL << 48, U64_MAX));
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 0xfff, 0x1fff));
	KUNIT_EXPECT_TRUE(test, vfio_iova_contains(&set, 1ULL << 47, (1ULL << 48) - 1));
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 1ULL << 47, 1ULL << 48));
	vfio_iova_destroy(&set);
}

/* An empty set allows nothing, unlike no set at all. */
static void empty_set_contains_nothing(struct kunit *test)
{
	struct vfio_iova_set set;

	vfio_iova_init(&set);
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 0, U64_MAX));
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, 0, 0));
	KUNIT_EXPECT_NULL(test, vfio_iova_nearest(&set, 0));
	KUNIT_EXPECT_EQ(test, 0, vfio_iova_exclude(&set, 0, U64_MAX));
	KUNIT_EXPECT_EQ(test, set.nr, 0);

	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(&set, 0, U64_MAX));
	KUNIT_EXPECT_EQ(test, 0, vfio_iova_exclude(&set, 0, U64_MAX));
	KUNIT_EXPECT_EQ(test, set.nr, 0);
	KUNIT_EXPECT_FALSE(test, vfio_iova_contains(&set, U64_MAX, U64_MAX));
	vfio_iova_destroy(&set);
	KUNIT_EXPECT_NULL(test, set.ranges);
}

/* A request that finds no memory changes nothing. */
static void failure_leaves_the_set_alone(struct kunit *test)
{
	struct vfio_iova_span *before;
	struct vfio_iova_set set;
	unsigned int i, nr;
	int ret;

	vfio_iova_init(&set);
	fault_all();
	ret = vfio_iova_reset(&set, 0, U64_MAX);
	fault_end();
	KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
	KUNIT_EXPECT_EQ(test, set.nr, 0);

	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(&set, 0, U64_MAX));
	before = kunit_kcalloc(test, 1000, sizeof(*before), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	for (i = 0; i < 1000; i++) {
		nr = set.nr;
		memcpy(before, set.ranges, nr * sizeof(*before));
		fault_all();
		ret = vfio_iova_exclude(&set, i * 16, i * 16 + 7);
		fault_end();
		if (ret)
			break;
	}
	KUNIT_ASSERT_EQ_MSG(test, ret, -ENOMEM, "no allocation was made for %u ranges", i);
	KUNIT_EXPECT_EQ(test, set.nr, nr);
	KUNIT_EXPECT_EQ(test, 0, memcmp(before, set.ranges, nr * sizeof(*before)));
	KUNIT_EXPECT_EQ(test, 0, vfio_iova_exclude(&set, i * 16, i * 16 + 7));
	vfio_iova_destroy(&set);
}

/* Long walks of excluding over the whole of IOVA space. */
static void random_walk(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct vfio_iova_set set;
	struct rnd_state rnd;
	unsigned int seed, step;

	KUNIT_ASSERT_NOT_NULL(test, m);
	m->shift = 55;
	m->cells = CELLS_MAX;
	vfio_iova_init(&set);
	for (seed = 1; seed <= 100; seed++) {
		prandom_seed_state(&rnd, seed);
		bitmap_fill(m->valid, m->cells);
		build(test, &set, m);
		for (step = 0; step < 300; step++) {
			unsigned int from = prandom_u32_state(&rnd) % m->cells;
			unsigned int len = 1 + prandom_u32_state(&rnd) % 8;
			unsigned int to = min(from + len, m->cells) - 1;

			KUNIT_ASSERT_EQ(test, 0, vfio_iova_exclude(&set, cell_first(m, from),
								   cell_last(m, to)));
			bitmap_clear(m->valid, from, to - from + 1);
			expect_model(test, &set, m);
			from = prandom_u32_state(&rnd) % m->cells;
			to = min(from + prandom_u32_state(&rnd) % 4, m->cells - 1);
			KUNIT_ASSERT_EQ(test, all_valid(m, from, to),
					vfio_iova_contains(&set, cell_first(m, from),
							   cell_last(m, to)));
			expect_nearest(test, &set, m, from);
		}
	}
	vfio_iova_destroy(&set);
}

static struct kunit_case iova_cases[] = {
	KUNIT_CASE_PARAM(every_small_set, small_gen_params),
	KUNIT_CASE(one_byte_outside_is_outside),
	KUNIT_CASE(empty_set_contains_nothing),
	KUNIT_CASE(failure_leaves_the_set_alone),
	KUNIT_CASE(random_walk),
	{}
};

SUITE("vfio_iova", iova_cases, FAULT_SUITE);
