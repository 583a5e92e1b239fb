// SPDX-License-Identifier: GPL-2.0-only
/*
 * UNMAP_DMA: which mappings a range takes, under the rules of v1 and of v2,
 * and the size that comes back.
 */
#include "testlib.h"

#define BASE	(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

/* Map npages from the start of mem at the given page after BASE. */
static void map_at(const struct fixture *f, void *mem, unsigned int page, unsigned int npages)
{
	assert_ok(vu_map_rw(f->container, mem, BASE + PAGES(page), PAGES(npages)));
}

static void assert_takes(const struct fixture *f, unsigned int page, unsigned int npages,
			 unsigned int want_npages)
{
	assert_unmaps(f->container, BASE + PAGES(page), PAGES(npages), PAGES(want_npages));
}

/* ---- Where v1 and v2 agree ---- */

static void nothing_there_is_success_with_size_0(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(1);

	assert_takes(f, 0, 1, 0);
	assert_unmaps_all(f->container, 0);
	map_at(f, mem, 10, 1);
	assert_takes(f, 9, 1, 0);
	assert_takes(f, 11, 1, 0);
	/* Not even inside the valid ranges. */
	assert_unmaps(f->container, 0xfee00000, PAGES(1), 0);
	assert_takes(f, 10, 1, 1);
	/* A second time there is nothing left. */
	assert_takes(f, 10, 1, 0);
	vu_free(mem, PAGES(1));
}

static void one_range_takes_many_mappings_and_skips_holes(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(8);

	map_at(f, mem, 0, 4);
	map_at(f, mem, 4, 1);
	map_at(f, mem, 10, 8);
	map_at(f, mem, 30, 2);
	map_at(f, mem, 100, 1);
	assert_charged(f, 16);

	/* A range may begin and end in holes. */
	assert_takes(f, 6, 20, 8);
	assert_charged(f, 8);
	assert_takes(f, 0, 50, 7);
	assert_charged(f, 1);
	assert_takes(f, 0, 101, 1);
	assert_nothing_held(f);
	vu_free(mem, PAGES(8));
}

static void neighbours_stay(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_hugetlb(VU_2M);
	unsigned int i;

	/* Adjacent in IOVA and in memory, and still three mappings. */
	for (i = 0; i < 3; i++)
		map_at(f, mem + PAGES(4 * i), 4 * i, 4);
	assert_takes(f, 4, 4, 4);
	assert_charged(f, 8);
	/* The hole can be filled again. */
	map_at(f, mem, 4, 4);
	assert_takes(f, 0, 12, 12);
	vu_free(mem, VU_2M);
}

static void the_whole_space_in_one_range(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(4);

	map_at(f, mem, 0, 4);
	assert_ok(vu_map_rw(f->container, mem, 0, PAGES(2)));
	/* The largest range that doesn't wrap around. */
	assert_unmaps(f->container, 0, ~(VU_PAGE - 1), PAGES(6));
	assert_nothing_held(f);
	vu_free(mem, PAGES(4));
}

static void unmap_all_takes_everything(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(16);
	unsigned int i;

	for (i = 0; i < 50; i++)
		map_at(f, mem, 20 * i, 1 + i % 16);
	assert_ok(vu_map_rw(f->container, mem, 0, PAGES(1)));
	assert_ok(vu_map_rw(f->container, mem, 1ULL << 46, PAGES(1)));
	i = (vu_locked_kib() - f->locked_kib) / KIB(1);
	assert_unmaps_all(f->container, PAGES(i));
	assert_nothing_held(f);
	assert_unmaps_all(f->container, 0);
	vu_free(mem, PAGES(16));
}

/* What is unmapped was mapped with other sizes than what is mapped next. */
static void the_same_iova_again_and_again(void **state)
{
	const struct fixture *f = *state;
	char *huge = mem_hugetlb(VU_2M), *small = mem_scattered(VU_2M);
	unsigned int i;

	for (i = 0; i < 20; i++) {
		map_at(f, i % 2 ? small : huge, 0, 512);
		assert_takes(f, 0, 512, 512);
		map_at(f, small, i, 1);
		assert_takes(f, i, 1, 1);
	}
	assert_nothing_held(f);
	vu_free(huge, VU_2M);
	vu_free(small, VU_2M);
}

/* The order in which mappings go has nothing to do with the order they came in. */
static void in_any_order(void **state)
{
	enum { N = 101, STEP = 37 };
	const struct fixture *f = *state;
	void *mem = mem_pages(1);
	unsigned int i;

	for (i = 0; i < N; i++)
		map_at(f, mem, i * STEP % N, 1);
	for (i = 0; i < N; i++) {
		assert_takes(f, i * (STEP + 5) % N, 1, 1);
		assert_charged(f, N - 1 - i);
	}
	vu_free(mem, PAGES(1));
}

/* ---- v2: a range must not cut a mapping ---- */

static void v2_refuses_to_cut_a_mapping(void **state)
{
	static const struct {
		const char *how;
		unsigned int page, npages;
	} cuts[] = {
		{ "its first page", 8, 1 },
		{ "all but its last page", 8, 7 },
		{ "its last page", 15, 1 },
		{ "all but its first page", 9, 7 },
		{ "out of its middle", 10, 2 },
		{ "from before it into it", 0, 9 },
		{ "from inside it to beyond it", 15, 10 },
		{ "from inside it into the next", 12, 10 },
		{ "all of it and part of the next", 8, 13 },
		{ "part of it and all of the next", 9, 15 },
	};
	const struct fixture *f = *state;
	void *mem = mem_pages(8);
	unsigned int i;
	__u64 size;

	map_at(f, mem, 8, 8);
	map_at(f, mem, 20, 4);
	for (i = 0; i < ARRAY_SIZE(cuts); i++) {
		at_step("%s", cuts[i].how);
		assert_ret(vu_unmap(f->container, BASE + PAGES(cuts[i].page),
				    PAGES(cuts[i].npages), 0, &size), -EINVAL);
		/* The caller's struct is as it was. */
		assert_int_equal(size, PAGES(cuts[i].npages));
		assert_charged(f, 12);
	}
	assert_takes(f, 8, 8, 8);
	assert_takes(f, 20, 4, 4);
	vu_free(mem, PAGES(8));
}

/* ---- v1: a mapping goes whole, or not at all ---- */

static void v1_takes_a_mapping_whole_if_its_first_page_is_covered(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(8);

	map_at(f, mem, 8, 8);
	assert_takes(f, 8, 1, 8);
	map_at(f, mem, 8, 8);
	assert_takes(f, 0, 9, 8);
	map_at(f, mem, 8, 8);
	map_at(f, mem, 20, 4);
	assert_takes(f, 8, 13, 12);
	assert_nothing_held(f);
	vu_free(mem, PAGES(8));
}

static void v1_takes_nothing_if_the_range_begins_inside_a_mapping(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(8);

	map_at(f, mem, 8, 8);
	map_at(f, mem, 20, 4);
	assert_takes(f, 9, 1, 0);
	assert_takes(f, 9, 7, 0);
	assert_takes(f, 15, 1, 0);
	/* Not even what comes after it and is covered. */
	assert_takes(f, 15, 20, 0);
	assert_charged(f, 12);
	assert_takes(f, 16, 20, 4);
	assert_takes(f, 8, 8, 8);
	vu_free(mem, PAGES(8));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V1(nothing_there_is_success_with_size_0),
		TEST_V2(nothing_there_is_success_with_size_0),
		TEST_V1(one_range_takes_many_mappings_and_skips_holes),
		TEST_V2(one_range_takes_many_mappings_and_skips_holes),
		TEST_V1(neighbours_stay),
		TEST_V2(neighbours_stay),
		TEST_V1(the_whole_space_in_one_range),
		TEST_V2(the_whole_space_in_one_range),
		TEST_V1(unmap_all_takes_everything),
		TEST_V2(unmap_all_takes_everything),
		TEST_V1(the_same_iova_again_and_again),
		TEST_V2(the_same_iova_again_and_again),
		TEST_V1(in_any_order),
		TEST_V2(in_any_order),
		TEST_V2(v2_refuses_to_cut_a_mapping),
		TEST_V1(v1_takes_a_mapping_whole_if_its_first_page_is_covered),
		TEST_V1(v1_takes_nothing_if_the_range_begins_inside_a_mapping),
	};

	return cmocka_run_group_tests_name("unmap", tests, NULL, NULL);
}
