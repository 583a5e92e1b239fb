// SPDX-License-Identifier: GPL-2.0-only
/*
 * No memory for the IOMMU's page tables, in the middle of a MAP: it fails, and the
 * device reaches nothing of what it should have been given, although a driver may have
 * put part of it into its tables and say that it did not.
 *
 * /vfio_type1_nomem.ko (emu/nomem.c) lets the allocation of one table fail. Where tables
 * are charged to the caller's memory cgroup, its limit does that, too.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "testlib.h"

#define NOMEM_KO	"/vfio_type1_nomem.ko"
#define NOMEM		"vfio_type1_nomem"
#define REACHES		"the device reaches what is freed"
/* Half a table's reach off: a huge page has no large IOPTE, and takes two tables. */
#define OFFSET		(VU_2M / 2)
/* A GiB, and so tables, of its own for each MAP. */
#define IOVA(n)		((8 + (n)) * GIB + OFFSET)
#define PAGES_MAX	4U

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
		param_write(NOMEM, "nth", nth);
		ret = vu_map_rw(f->container, mem, iova, nr * VU_2M);
		if (!ret && param_read(NOMEM, "nth")) {
			param_write(NOMEM, "nth", 0);
			assert_unmaps(f->container, iova, nr * VU_2M, nr * VU_2M);
			break;
		}
		assert_int_equal(param_read(NOMEM, "nth"), 0);
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

	not_on_intree(REACHES);
	module_load(NOMEM_KO);
	for (nr = 1; nr <= PAGES_MAX; nr *= 4) {
		char *mem = mem_huge_runs(nr);

		check_each_table(*state, mem, nr, false);
		munmap(mem, nr * VU_2M);
	}
}

static void failed_map_leaves_nothing_of_registered_memory(void **state)
{
	const struct fixture *f = *state;
	char *mem;

	not_on_intree(REACHES);
	module_load(NOMEM_KO);
	mem = mem_huge_runs(2);
	assert_ok(vu_register(f->container, mem, 2 * VU_2M, 0));
	check_each_table(f, mem, 2, true);
	assert_ok(vu_unregister(f->container, mem, 2 * VU_2M));
	assert_nothing_held(f);
	munmap(mem, 2 * VU_2M);
}

/* ---- a memory cgroup ---- */

/* Enough for all but some hundred tables. */
#define CGROUP_BYTES	"1048576"
/* So many huge pages, which mostly follow each other, so many times. */
#define SECRETS		32U
#define TIMES		16U

/* The same huge pages again and again, so that they take many tables; or NULL. */
static char *secrets(void)
{
	char *mem = mmap(NULL, (TIMES * SECRETS + 1) * VU_2M, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fd = memfd_create("secrets", MFD_HUGETLB | MFD_CLOEXEC);
	unsigned int i;

	if (mem == MAP_FAILED || fd < 0 || ftruncate(fd, SECRETS * VU_2M))
		return NULL;
	mem = (char *)(((uintptr_t)mem + VU_2M - 1) & ~(VU_2M - 1));
	for (i = 0; i < TIMES; i++)
		if (mmap(mem + i * SECRETS * VU_2M, SECRETS * VU_2M, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED)
			return NULL;
	close(fd);
	return mem;
}

/* All huge pages that are left, so those that were another process's, too. */
static char *all_huge_pages(size_t *npages)
{
	char *mem = MAP_FAILED;

	for (*npages = 96; *npages > SECRETS && mem == MAP_FAILED; --*npages)
		mem = mmap(NULL, *npages * VU_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	++*npages;
	memset(mem, 's', *npages * VU_2M);
	return mem;
}

/*
 * A process is killed for want of memory in the middle of a MAP, and its pages become
 * another one's: a device does not write there.
 */
static void killed_map_leaves_nothing_to_a_device(void **state)
{
	const __u64 size = TIMES * SECRETS * VU_2M, iova = IOVA(200);
	const struct fixture *f = *state;
	int status, kills, complaints;
	size_t i, npages;
	char *mem;
	pid_t pid;

	not_on_intree(REACHES);
	kmsg_hush(true);
	cgroup_begin(CGROUP_BYTES);
	kills = kmsg_open();
	complaints = kmsg_open();
	pid = fork();
	if (!pid) {
		mem = secrets();
		child_check(mem);
		cgroup_enter();
		vu_map_rw(f->container, mem, iova, size);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	cgroup_end();
	kmsg_hush(false);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(kmsg_count(kills, "Killed process"), 1);
	assert_int_equal(kmsg_count(complaints, "WARNING:|BUG:|IOMMU kept"), 0);
	close(kills);
	close(complaints);
	wait_pinned(f, 0);

	mem = all_huge_pages(&npages);
	for (i = 0; i < TIMES * SECRETS / 2; i += 16)
		assert_ok(vu_edu_store(&f->edu[0], iova + i * VU_2M, VU_PAGE / 4));
	for (i = 0; i < npages * VU_2M; i++)
		if (mem[i] != 's')
			fail_msg("the device wrote into another process's page %zu", i / VU_2M);

	munmap(mem, npages * VU_2M);

	/* Nothing is in the way of the next one, or the kernel complains. */
	mem = secrets();
	assert_non_null(mem);
	assert_ok(vu_map_rw(f->container, mem, iova, size));
	assert_dma_reaches(f, 0, mem, iova);
	assert_unmaps(f->container, iova, size, size);
	munmap(mem, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(failed_map_leaves_nothing_to_a_device),
		TEST_V2(failed_map_leaves_nothing_of_registered_memory),
	};
	/* Before, tables are not charged, and a limit does not make a MAP fail. */
	const struct CMUnitTest charged[] = {
		TEST_V2(failed_map_leaves_nothing_to_a_device),
		TEST_V2(failed_map_leaves_nothing_of_registered_memory),
		TEST_V2(killed_map_leaves_nothing_to_a_device),
	};

	if (!kernel_at_least(6, 12))
		return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
	return cmocka_run_group_tests_name("nomem", charged, NULL, NULL);
}
