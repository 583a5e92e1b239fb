// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parameters that change how mappings are made and taken apart, but not
 * what comes of it: disable_hugepages, and unmap_walk, which chooses between
 * this project's three ways to find physically contiguous memory.
 */
#include <sys/mman.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define SIZE		(8 * MIB)

/* Values of the parameter unmap_walk. */
enum walk { WALK_RUNS, WALK_SINGLE_PAGES, WALK_IOMMU };

/* The in-tree module has but one way, which has to pass the same tests. */
static void use_walk(enum walk walk)
{
	if (!is_intree())
		module_param_write("unmap_walk", walk);
}

static int modes_teardown(void **state)
{
	use_walk(WALK_RUNS);
	module_param_write("disable_hugepages", 0);
	return test_teardown(state);
}

/* All kinds of memory, with IOVA and memory aligned alike, and not. */
static void map_every_backing(const struct fixture *f)
{
	const __u64 iovas[] = { BASE, BASE + PAGES(1) };
	unsigned int i, j;

	for (i = 0; i < NBACKINGS; i++) {
		char *mem = backings[i].alloc(SIZE);

		at_step("%s", backings[i].name);
		for (j = 0; j < ARRAY_SIZE(iovas); j++) {
			assert_ok(vu_map_rw(f->container, mem, iovas[j], SIZE));
			assert_charged(f, SIZE / VU_PAGE);
			assert_unmaps(f->container, iovas[j], SIZE, SIZE);
			assert_nothing_held(f);
		}
		vu_free(mem, SIZE);
	}
}

/* DMA works before, and is blocked after, at both ends. */
static void reach_and_block(const struct fixture *f)
{
	char *mem = mem_hugetlb(SIZE);
	const size_t size = SIZE - PAGES(5), last = size - PAGES(1);
	char *start = mem + PAGES(2);
	const __u64 iova = BASE + PAGES(2);

	assert_ok(vu_map_rw(f->container, start, iova, size));
	assert_dma_reaches(f, 0, start, iova);
	assert_dma_reaches(f, 0, start + last, iova + last);
	assert_unmaps(f->container, iova, size, size);
	assert_nothing_held(f);
	assert_dma_blocked(f, 0, start, iova);
	assert_dma_blocked(f, 0, start + last, iova + last);
	vu_free(mem, SIZE);
}

/* Of mappings that follow each other in all respects, only one goes. */
static void part_neighbours(const struct fixture *f, size_t each)
{
	char *mem = mem_hugetlb(SIZE);
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(f->container, mem + i * each, BASE + i * each, each));
	assert_unmaps(f->container, BASE + each, each, each);
	assert_charged(f, 2 * each / VU_PAGE);
	assert_dma_reaches(f, 0, mem + each - PAGES(1), BASE + each - PAGES(1));
	assert_dma_reaches(f, 0, mem + 2 * each, BASE + 2 * each);
	assert_dma_blocked(f, 0, mem + each, BASE + each);
	assert_unmaps_all(f->container, 2 * each);
	assert_nothing_held(f);
	vu_free(mem, SIZE);
}

/* RAM, a BAR, RAM and, in-tree on 6.1, the zero page. */
static void mix_kinds(const struct fixture *f)
{
	const size_t zeroes = is_intree() && !kernel_at_least(6, 2) ? 100 : 0;
	char *mem = mem_pages(600);
	void *bar;

	bar = mmap(mem + PAGES(100), PAGES(200), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		   f->pci[0].device_fd, 0);
	assert_ptr_equal(bar, mem + PAGES(100));
	assert_int_equal(madvise(mem + PAGES(400), PAGES(100), MADV_DONTNEED), 0);
	assert_ok(vu_map(f->container, mem, BASE, PAGES(600), VFIO_DMA_MAP_FLAG_READ));
	assert_charged(f, 400 - zeroes);
	assert_pinned(f, 400 - zeroes);
	assert_unmaps(f->container, BASE, PAGES(600), PAGES(600));
	assert_nothing_held(f);
	vu_free(mem, PAGES(600));
}

static void unmap_all_and_close(const struct fixture *f)
{
	char *mem = mem_hugetlb(SIZE);
	unsigned int i;

	for (i = 0; i < 100; i++)
		assert_ok(vu_map_rw(f->container, mem + PAGES(3 * i), BASE + PAGES(3 * i),
				    PAGES(1 + i % 3)));
	assert_unmaps_all(f->container, PAGES(33 * (1 + 2 + 3) + 1));
	assert_nothing_held(f);

	/* What is still mapped when the test ends goes with the container. */
	assert_ok(vu_map_rw(f->container, mem + PAGES(7), BASE, SIZE - PAGES(7)));
	vu_free(mem, SIZE);
}

static void do_everything(const struct fixture *f)
{
	map_every_backing(f);
	reach_and_block(f);
	part_neighbours(f, PAGES(1));
	part_neighbours(f, VU_2M);
	mix_kinds(f);
	unmap_all_and_close(f);
}

static void unmap_by_the_run_map(void **state)
{
	use_walk(WALK_RUNS);
	do_everything(*state);
}

static void unmap_by_single_pages(void **state)
{
	use_walk(WALK_SINGLE_PAGES);
	do_everything(*state);
}

static void unmap_by_reading_the_iommu(void **state)
{
	use_walk(WALK_IOMMU);
	do_everything(*state);
}

static void without_huge_pages(void **state)
{
	module_param_write("disable_hugepages", 1);
	do_everything(*state);
}

/* Mapped page by page, and taken apart after the parameter was changed back. */
static void huge_pages_come_back_in_between(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_hugetlb(SIZE);

	module_param_write("disable_hugepages", 1);
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	module_param_write("disable_hugepages", 0);
	assert_ok(vu_map_rw(f->container, mem, BASE + SIZE, SIZE));
	module_param_write("disable_hugepages", 1);
	assert_unmaps(f->container, BASE + SIZE, SIZE, SIZE);
	module_param_write("disable_hugepages", 0);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_nothing_held(f);
	vu_free(mem, SIZE);
}

#define TEST_MODE(name)	cmocka_unit_test_setup_teardown(name, test_setup_v2, modes_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_MODE(unmap_by_the_run_map),
		TEST_MODE(unmap_by_single_pages),
		TEST_MODE(unmap_by_reading_the_iommu),
		TEST_MODE(without_huge_pages),
		TEST_MODE(huge_pages_come_back_in_between),
	};

	return cmocka_run_group_tests_name("modes", tests, NULL, NULL);
}
