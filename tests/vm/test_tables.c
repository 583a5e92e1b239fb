// SPDX-License-Identifier: GPL-2.0-only
/*
 * No page table of the IOMMU is freed before all IOVA that it translated are flushed, without
 * the hint that no table changed: until then the IOMMU may walk it, whoever has that memory.
 * So none is freed by a map, either.
 *
 * /vfio_type1_tables.ko (emu/tables.c) sees VT-d free tables and flush.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "testlib.h"

#define TABLES_KO	"/vfio_type1_tables.ko"
#define TABLES		"vfio_type1_tables"
#define NOMEM_KO	"/vfio_type1_nomem.ko"
#define NOMEM		"vfio_type1_nomem"

/* Other drivers, and later kernels, see to it: only that nothing is reached is looked at. */
static bool watching;

static int tables_setup(void **state)
{
	watching = iommu_kind() == IOMMU_VTD && !kernel_at_least(7, 0) && !is_intree();
	if (watching)
		module_load(TABLES_KO);
	return test_setup_v2(state);
}

static unsigned int counter(const char *name)
{
	return param_read(TABLES, name);
}

static void watch(void)
{
	if (watching)
		param_write(TABLES, "watch", 1);
}

/*
 * What was freed since watch(): so many tables at least, and none too early.
 * Returns how many.
 */
static unsigned int assert_freed_late(unsigned int tables)
{
	unsigned int early, freed;

	if (!watching)
		return 0;
	early = counter("early");
	freed = counter("freed");
	if (early || freed < tables)
		fail_msg("tables: %u freed of %u, %u early, %u by a map; %u flushes, %u with hint",
			 freed, tables, early, counter("replaced"), counter("flushes"),
			 counter("hinted"));
	return freed;
}

/* UNMAP all of that at once. */
static void check_unmap(const struct fixture *f, __u64 iova, __u64 size, __u64 mapped,
			unsigned int tables)
{
	watch();
	assert_unmaps(f->container, iova, size, mapped);
	assert_freed_late(tables);
	assert_true(!watching || counter("flushes") > 0);
}

/* A GiB of IOVA that no other test uses, so that it has no tables. */
static __u64 fresh(void)
{
	static __u64 next = 8 * GIB;

	next += GIB;
	return next;
}

static int tables_teardown(void **state)
{
	module_param_write("unmap_walk", 0);
	return test_teardown(state);
}

/* In each way to find runs; single pages that are unmapped by themselves free no table. */
static void in_each_way(void (*check)(const struct fixture *f, char *mem, unsigned int factor),
			const struct fixture *f, char *mem)
{
	unsigned int walk;

	for (walk = 0; walk < 3; walk++) {
		at_step("unmap_walk=%u", walk);
		module_param_write("unmap_walk", walk);
		check(f, mem, walk != 1);
	}
}

/* Huge pages that are not as aligned as their IOVA, so that they have tables of 4K pages. */
static void check_unaligned(const struct fixture *f, char *mem, unsigned int factor)
{
	const __u64 iova = fresh() + MIB;

	assert_ok(vu_map_rw(f->container, mem, iova, 8 * MIB));
	assert_dma_reaches(f, 0, mem + 7 * MIB, iova + 7 * MIB);
	check_unmap(f, iova, 8 * MIB, 8 * MIB, 3 * factor);
	assert_dma_blocked(f, 0, mem + 4 * MIB, iova + 4 * MIB);
}

static void unaligned_mapping(void **state)
{
	char *mem = mem_hugetlb(8 * MIB);

	in_each_way(check_unaligned, *state, mem);
	vu_free(mem, 8 * MIB);
}

static void check_two(const struct fixture *f, char *mem, unsigned int factor)
{
	const __u64 iova = fresh();

	assert_ok(vu_map_rw(f->container, mem + MIB, iova + 16 * MIB, 2 * MIB));
	assert_ok(vu_map_rw(f->container, mem + MIB, iova + 32 * MIB, 2 * MIB));
	check_unmap(f, iova, GIB, 4 * MIB, 2 * factor);
	assert_dma_blocked(f, 0, mem + MIB, iova + 16 * MIB);
	assert_dma_blocked(f, 0, mem + 2 * MIB, iova + 33 * MIB);
}

static void two_mappings(void **state)
{
	char *mem = mem_hugetlb(4 * MIB);

	in_each_way(check_two, *state, mem);
	vu_free(mem, 4 * MIB);
}

/* Mappings of a whole table and two pages, and of three pages, in turns. */
static void check_large_and_small(const struct fixture *f, char *mem, unsigned int factor)
{
	const __u64 iova = fresh();
	__u64 size, mapped = 0;
	unsigned int i;

	for (i = 1; i <= 8; i++) {
		size = i & 1 ? 3 * VU_PAGE : 2 * MIB + 2 * VU_PAGE;
		assert_ok(vu_map_rw(f->container, mem + MIB, iova + i * 8 * MIB - VU_PAGE, size));
		mapped += size;
	}
	check_unmap(f, iova, GIB, mapped, 4 * factor);
	assert_dma_blocked(f, 0, mem + MIB, iova + 8 * MIB - VU_PAGE);
	assert_dma_blocked(f, 0, mem + MIB, iova + 64 * MIB - VU_PAGE);
}

static void large_and_small_mappings(void **state)
{
	char *mem = mem_hugetlb(4 * MIB);

	in_each_way(check_large_and_small, *state, mem);
	vu_free(mem, 4 * MIB);
}

/* Memory in runs of four pages. */
static char *mem_in_fours(size_t size)
{
	char *huge = mem_thp(size), *mem = mem_reserve(size);
	const size_t run = 4 * VU_PAGE;
	size_t at;

	for (at = 0; at < size; at += run)
		assert_ptr_equal(mremap(huge + size - run - at, run, run,
					MREMAP_MAYMOVE | MREMAP_FIXED, mem + at), mem + at);
	return mem;
}

static void check_fragmented(const struct fixture *f, char *mem, unsigned int factor)
{
	static const __u64 offsets[] = { 0, MIB, VU_PAGE };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		const __u64 iova = fresh() + offsets[i];

		assert_ok(vu_map_rw(f->container, mem, iova, 12 * MIB));
		/* Where windows of single pages end, one table at most. */
		check_unmap(f, iova, 12 * MIB, 12 * MIB, offsets[i] ? 0 : 6 * factor);
		assert_dma_blocked(f, 0, mem + 6 * MIB, iova + 6 * MIB);
	}
}

static void fragmented_memory(void **state)
{
	char *mem = mem_scattered(12 * MIB);

	in_each_way(check_fragmented, *state, mem);
	vu_free(mem, 12 * MIB);
	mem = mem_in_fours(12 * MIB);
	in_each_way(check_fragmented, *state, mem);
	vu_free(mem, 12 * MIB);
}

/* Many mappings side by side, of memory that does not follow: a window takes several tables. */
static void check_neighbours(const struct fixture *f, char *mem, unsigned int factor)
{
	const unsigned int nr = 500;
	const size_t size = 4 * VU_PAGE;
	const __u64 iova = fresh() + MIB;
	unsigned int i;

	for (i = 0; i < nr; i++)
		assert_ok(vu_map_rw(f->container, mem + (nr - 1 - i) * size, iova + i * size,
				    size));
	check_unmap(f, iova, nr * size, nr * size, 3 * factor);
	assert_dma_blocked(f, 0, mem, iova + (nr - 1) * size);
	assert_dma_blocked(f, 0, mem + (nr - 1) * size, iova);
}

static void neighbours(void **state)
{
	char *mem = mem_hugetlb(8 * MIB);

	in_each_way(check_neighbours, *state, mem);
	vu_free(mem, 8 * MIB);
}

/* Whoever takes out what was mapped before the memory for a table was missing. */
static void failed_map(void **state)
{
	const struct fixture *f = *state;
	unsigned int nth, freed = 0;
	char *mem = mem_huge_runs(6);
	int ret;

	not_on_intree("the device reaches what is freed");
	module_load(NOMEM_KO);
	for (nth = 1; ; nth++) {
		const __u64 iova = fresh() + MIB;

		at_step("without table %u", nth);
		param_write(NOMEM, "nth", nth);
		watch();
		ret = vu_map_rw(f->container, mem, iova, 6 * VU_2M);
		freed += assert_freed_late(0);
		if (!ret) {
			param_write(NOMEM, "nth", 0);
			check_unmap(f, iova, 6 * VU_2M, 6 * VU_2M, 5);
			break;
		}
		assert_ret(ret, -ENOMEM);
	}
	/* The one for the GiB, and those for seven times 2M. */
	assert_true(nth > 8);
	assert_true(!watching || freed > 0);
	munmap(mem, 6 * VU_2M);
}

/* Map, look, unmap: all of it is watched, so that tables may go with UNMAP alone. */
static void check_in_its_place(const struct fixture *f, char *mem, __u64 iova, __u64 size,
			       unsigned int tables)
{
	watch();
	assert_ok(vu_map_rw(f->container, mem, iova, size));
	assert_freed_late(0);
	assert_dma_reaches(f, 0, mem, iova);
	assert_dma_reaches(f, 0, mem + size - VU_PAGE, iova + size - VU_PAGE);
	assert_unmaps(f->container, iova, size, size);
	assert_freed_late(tables);
	assert_dma_blocked(f, 0, mem, iova);
}

/* IOVA that were mapped and unmapped in pieces get huge pages, twice. */
static void superpages_over_tables(void **state)
{
	static const struct {
		__u64 offset;
		__u64 size;
	} left[] = {
		{ 0, VU_PAGE },
		{ VU_2M - VU_PAGE, VU_PAGE },
		{ MIB, MIB },
		{ VU_2M - VU_PAGE, 2 * VU_PAGE },
		{ VU_2M + MIB, VU_2M },
	};
	const struct fixture *f = *state;
	char *mem = mem_hugetlb(4 * VU_2M);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(left); i++) {
		const __u64 iova = fresh(), at = iova + left[i].offset;

		at_step("left by 0x%llx-0x%llx", left[i].offset, left[i].offset + left[i].size);
		assert_ok(vu_map_rw(f->container, mem + left[i].offset + VU_PAGE, at,
				    left[i].size));
		assert_unmaps(f->container, at, left[i].size, left[i].size);
		check_in_its_place(f, mem, iova, 4 * VU_2M, 1);
		check_in_its_place(f, mem, iova, 4 * VU_2M, 0);
	}
	vu_free(mem, 4 * VU_2M);
}

/* The same where huge pages are mapped with others. */
static void superpages_among_others(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_huge_runs(6);
	const __u64 iova = fresh();
	unsigned int i;

	for (i = 0; i < 6; i++) {
		assert_ok(vu_map_rw(f->container, mem, iova + i * VU_2M, VU_PAGE));
		assert_unmaps(f->container, iova + i * VU_2M, VU_PAGE, VU_PAGE);
	}
	check_in_its_place(f, mem, iova, 6 * VU_2M, 6);
	check_in_its_place(f, mem, iova, 6 * VU_2M, 0);
	munmap(mem, 6 * VU_2M);
}

/* What the probe has left at the first valid IOVA when the group was attached. */
static void superpage_over_the_probe(void **state)
{
	char *mem = mem_hugetlb(VU_2M);

	check_in_its_place(*state, mem, 0, VU_2M, 1);
	vu_free(mem, VU_2M);
}

/* A MAP that failed, for want of memory for a table, has left those that it made. */
static void superpages_over_a_failed_map(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_hugetlb(4 * VU_2M);
	unsigned int nth;
	int ret;

	not_on_intree("the device reaches what is freed");
	module_load(NOMEM_KO);
	for (nth = 1; ; nth++) {
		const __u64 iova = fresh();

		at_step("without table %u", nth);
		param_write(NOMEM, "nth", nth);
		ret = vu_map_rw(f->container, mem, iova + MIB, 2 * VU_2M);
		param_write(NOMEM, "nth", 0);
		if (!ret) {
			assert_unmaps(f->container, iova + MIB, 2 * VU_2M, 2 * VU_2M);
			break;
		}
		assert_ret(ret, -ENOMEM);
		check_in_its_place(f, mem, iova, 4 * VU_2M, 0);
	}
	assert_true(nth > 2);
	vu_free(mem, 4 * VU_2M);
}

#define TEST_TABLES(name) cmocka_unit_test_setup_teardown(name, tables_setup, tables_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_TABLES(unaligned_mapping),
		TEST_TABLES(two_mappings),
		TEST_TABLES(large_and_small_mappings),
		TEST_TABLES(fragmented_memory),
		TEST_TABLES(neighbours),
		TEST_TABLES(failed_map),
		TEST_TABLES(superpages_over_tables),
		TEST_TABLES(superpages_among_others),
		TEST_TABLES(superpage_over_the_probe),
		TEST_TABLES(superpages_over_a_failed_map),
	};

	return cmocka_run_group_tests_name("tables", tests, NULL, NULL);
}
