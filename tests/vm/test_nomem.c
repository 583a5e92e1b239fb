// SPDX-License-Identifier: GPL-2.0-only
/*
 * No memory for the IOMMU's page tables, in the middle of a MAP: it fails, and the
 * device reaches nothing of what it should have been given, although a driver may have
 * put part of it into its tables and say that it did not.
 *
 * /vfio_type1_nomem.ko (emu/nomem.c) lets the allocation of one table fail.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "testlib.h"

#define NOMEM_KO	"/vfio_type1_nomem.ko"
#define NTH		"/sys/module/vfio_type1_nomem/parameters/nth"
/* Half a table's reach off: a huge page has no large IOPTE, and takes two tables. */
#define OFFSET		(VU_2M / 2)
/* A GiB, and so tables, of its own for each MAP. */
#define IOVA(n)		((8 + (n)) * GIB + OFFSET)
#define PAGES_MAX	4U

static void not_on_intree(void)
{
	if (is_intree()) {
		print_message("not with the in-tree module: the device reaches what is freed\n");
		skip();
	}
}

static void nth_write(unsigned int n)
{
	FILE *f = fopen(NTH, "w");

	assert_non_null(f);
	assert_true(fprintf(f, "%u", n) > 0);
	assert_int_equal(fclose(f), 0);
}

static unsigned int nth_read(void)
{
	FILE *f = fopen(NTH, "r");
	unsigned int n;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	fclose(f);
	return n;
}

/* So many huge pages, in several runs if they are several: every other one of a file. */
static char *mem_runs(unsigned int nr)
{
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	char *mem = mem_reserve((nr + 1) * VU_2M), *at;
	struct vu_layout layout;
	unsigned int i;

	mem = (char *)(((uintptr_t)mem + VU_2M - 1) & ~(VU_2M - 1));
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 * nr * VU_2M), 0);
	/* One after the other is how they come out of the pool. */
	at = mmap(NULL, 2 * nr * VU_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	for (i = 0; i < nr; i++)
		assert_ptr_not_equal(mmap(mem + i * VU_2M, VU_2M, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 2 * i * VU_2M),
				     MAP_FAILED);
	munmap(at, 2 * nr * VU_2M);
	close(fd);
	assert_ok(vu_layout(mem, nr * VU_2M, 0, &layout));
	assert_true(nr == 1 || layout.nruns > 1);
	return mem;
}

/* The device reaches none of a mapping of so many huge pages that is not there. */
static void assert_all_blocked(const struct fixture *f, char *mem, __u64 iova, unsigned int nr)
{
	size_t at;

	/* Once below, and once above each border between two tables. */
	for (at = 0; at < nr * VU_2M; at += OFFSET)
		assert_dma_blocked(f, 0, mem + at, iova + at);
}

/* Whichever table cannot be had, MAP leaves nothing; with all of them it works there. */
static void check_each_table(const struct fixture *f, char *mem, unsigned int nr, bool registered)
{
	const size_t held = registered ? nr * (VU_2M / VU_PAGE) : 0;
	unsigned int nth;
	int ret;

	for (nth = 1; ; nth++) {
		/* No table is there yet. */
		const __u64 iova = IOVA(16 * nr + nth);

		at_step("%u huge pages%s, without table %u", nr, registered ? " registered" : "",
			nth);
		nth_write(nth);
		ret = vu_map_rw(f->container, mem, iova, nr * VU_2M);
		if (!ret && nth_read()) {
			nth_write(0);
			assert_unmaps(f->container, iova, nr * VU_2M, nr * VU_2M);
			break;
		}
		assert_int_equal(nth_read(), 0);
		assert_ret(ret, -ENOMEM);
		assert_pinned(f, held);
		assert_charged(f, held);
		assert_all_blocked(f, mem, iova, nr);

		assert_ok(vu_map_rw(f->container, mem, iova, nr * VU_2M));
		assert_dma_reaches(f, 0, mem, iova);
		assert_dma_reaches(f, 0, mem + nr * VU_2M - VU_PAGE,
				   iova + nr * VU_2M - VU_PAGE);
		assert_unmaps(f->container, iova, nr * VU_2M, nr * VU_2M);
	}
	/* The one for the GiB, those for each huge page, and one more for its end. */
	assert_true(nth > nr + 2);
}

static void failed_map_leaves_nothing_to_a_device(void **state)
{
	unsigned int nr;

	not_on_intree();
	module_load(NOMEM_KO);
	for (nr = 1; nr <= PAGES_MAX; nr *= 4) {
		char *mem = mem_runs(nr);

		check_each_table(*state, mem, nr, false);
		munmap(mem, nr * VU_2M);
	}
}

static void failed_map_leaves_nothing_of_registered_memory(void **state)
{
	const struct fixture *f = *state;
	char *mem;

	not_on_intree();
	module_load(NOMEM_KO);
	mem = mem_runs(2);
	assert_ok(vu_register(f->container, mem, 2 * VU_2M, 0));
	check_each_table(f, mem, 2, true);
	assert_ok(vu_unregister(f->container, mem, 2 * VU_2M));
	assert_nothing_held(f);
	munmap(mem, 2 * VU_2M);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(failed_map_leaves_nothing_to_a_device),
		TEST_V2(failed_map_leaves_nothing_of_registered_memory),
	};

	return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
}
