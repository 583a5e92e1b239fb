// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process, or the kernel, can do to memory that is registered, a line each: a
 * device that is given it by a later MAP gets the page that the process has there, or
 * the MAP is refused.
 *
 * Which page a device gets is asked by an in-kernel user, which has its frame number.
 *
 * VM: --smp 2 --append memmap=256M!1G
 * VM: --modules zram --modules zsmalloc --modules lz4_compress --modules lz4hc_compress
 * VM: --modules brd --modules ext4 --modules jbd2 --modules mbcache
 * VM: --modules crc16 --modules crc32c_generic
 * VM: --modules nd_e820 --modules libnvdimm --modules device_dax --modules dax_pmem
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/swap.h>

#include "debugfs.h"
#include "stale.h"

/* What a device gets there, if anything, is what the process has. */
static void check(const struct ground *g, enum answer want, const char *when)
{
	const struct vu_pci *dev = &g->e->emu[0];
	const int container = g->e->f->container;
	const __u32 prot = g->flags ? EMU_PROT_READ : EMU_PROT_RW;
	__u64 pfn;
	int ret;

	ret = vu_map(container, g->at, IOVA, VU_PAGE, g->flags ? VFIO_DMA_MAP_FLAG_READ : RW);
	if (ret && ret != -ESTALE)
		fail_msg("%s: MAP says %s", when, strerror(-ret));
	if (want != EITHER && want != (ret ? OTHER : SAME))
		fail_msg("%s: MAP says %s", when, ret ? "ESTALE" : "0");
	if (ret)
		return;
	assert_ret(emu_pin_at(dev, IOVA, 1, prot, 0, &pfn), 1);
	look(g->at);
	if (pfn != pfn_of(g->at))
		fail_msg("%s: STALE: the device has page frame %#llx, the process %#llx", when,
			 pfn, pfn_of(g->at));
	assert_ok(emu_unpin(dev, IOVA, 1));
	assert_unmaps(container, IOVA, VU_PAGE, VU_PAGE);
}

static void no_stale_page(void **state)
{
	struct ground *g = *state;
	const struct way *way = g->way;
	const int container = g->e->f->container;

	make_memory(g, way->kind);
	assert_ok(vu_register(container, g->mem, SIZE, g->flags));
	check(g, SAME, "before");
	way->change(g, way->arg);
	check(g, way->answer, "after");
	if (!g->lost) {
		if (g->flags)
			look(g->at);
		else
			put(g->at, 4);
		check(g, way->answer, "after the process had a look");
	}
	assert_ok(vu_unregister(container, g->mem, SIZE));
	if (!g->lost) {
		assert_ok(vu_register(container, g->at, VU_PAGE, g->flags));
		check(g, SAME, "registered anew");
		assert_ok(vu_unregister(container, g->at, VU_PAGE));
	}
	end_memory(g);
}

static int setup_way(void **state)
{
	struct ground *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->way = *state;
	emu_setup_only(state);
	g->e = *state;
	*state = g;
	return 0;
}

static int teardown_way(void **state)
{
	struct ground *g = *state;

	*state = (void *)g->e;
	free(g);
	return emu_teardown(state);
}

/* ---- Hugetlb memory that shares its page table ---- */

#define SPARSE		(2 * VU_1G)
/* Hugetlb pages from the page that is registered to those that others fault in. */
#define FAR		(VU_1G / VU_2M)
#define FAULTS		40
#define ROUNDS		15

struct sharing {
	char *mem;
	int fd;
	bool go;
};

static char *map_sparse(int fd)
{
	char *mem = reserve_aligned(SPARSE, VU_1G);

	assert_ptr_equal(mmap(mem, SPARSE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0), mem);
	return mem;
}

static void punch_sparse(int fd, off_t offset, size_t size)
{
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size),
			 0);
}

/* As long as a fault takes, nobody else has the lock that a hole wants to have. */
static void *fault_in(void *arg)
{
	struct sharing *s = arg;
	unsigned int i;

	for (i = 0; i < FAULTS; i++) {
		put(s->mem + (FAR + i) * VU_2M, 1);
		__atomic_store_n(&s->go, true, __ATOMIC_RELEASE);
	}
	return NULL;
}

/*
 * A change of access parts the process from a page table that two mappings share, and
 * with it from all pages; a hole in the file then has nobody to tell.
 */
static void shared_page_tables_hide_nothing(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	struct sharing s = { .fd = memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB |
						MFD_HUGE_2MB) };
	char *other;
	pthread_t thread;
	unsigned int round, refused = 0;

	assert_true(s.fd >= 0);
	assert_int_equal(ftruncate(s.fd, SPARSE), 0);
	s.mem = map_sparse(s.fd);
	other = map_sparse(s.fd);
	for (round = 0; round < ROUNDS; round++) {
		put(other, 1);
		assert_int_equal(look(s.mem), 1);
		assert_ok(vu_register(container, s.mem, VU_2M, 0));
		assert_int_equal(mprotect(s.mem, SPARSE, PROT_READ), 0);
		assert_int_equal(mprotect(s.mem, SPARSE, PROT_READ | PROT_WRITE), 0);
		s.go = false;
		assert_int_equal(pthread_create(&thread, NULL, fault_in, &s), 0);
		while (!__atomic_load_n(&s.go, __ATOMIC_ACQUIRE))
			;
		punch_sparse(s.fd, 0, VU_2M);
		put(s.mem, 2);
		refused += vu_map_rw(container, s.mem, IOVA, VU_2M) == -ESTALE;
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (refused == round)
			assert_unmaps(container, IOVA, VU_2M, VU_2M);
		assert_ok(vu_unregister(container, s.mem, VU_2M));
		punch_sparse(s.fd, 0, SPARSE);
		if (refused == round)
			break;
	}
	munmap(s.mem, SPARSE);
	munmap(other, SPARSE);
	close(s.fd);
	if (refused < ROUNDS)
		fail_msg("round %u: a device was given a page that the process has not got", round);
}

/* Slots with a mark, of the only region of the only container. */
static unsigned long count_marked(void)
{
	unsigned long marked;
	unsigned int containers;
	char *text, *at;

	debugfs_newest(&containers);
	assert_int_equal(containers, 1);
	text = debugfs_read("regions");
	at = strstr(text, " marked ");
	assert_non_null(at);
	marked = strtoul(at + strlen(" marked "), NULL, 10);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	free(text);
	return marked;
}

/* Hugetlb memory is looked at after a change of access, all other memory need not be. */
static void change_of_access_marks_hugetlb_memory(void **state)
{
	static const enum kind kinds[] = { HUGE, HUGE_SHARED, ANON, THP, MEMFD };
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		const bool huge = kinds[i] == HUGE || kinds[i] == HUGE_SHARED;
		struct ground g = { .e = e };

		at_step("kind %u", kinds[i]);
		make_memory(&g, kinds[i]);
		assert_ok(vu_register(container, g.mem, SIZE, 0));
		check(&g, SAME, "before");
		assert_int_equal(count_marked(), 0);
		protect_all(&g, PROT_READ);
		assert_int_equal(count_marked(), huge ? 2 : 0);
		assert_ok(vu_map_rw(container, g.mem, IOVA, SIZE));
		assert_int_equal(count_marked(), 0);
		assert_unmaps(container, IOVA, SIZE, SIZE);
		check(&g, SAME, "after");
		assert_ok(vu_unregister(container, g.mem, SIZE));
		end_memory(&g);
	}
}

static void swap_on_zram(void)
{
	char size[32];

	assert_int_equal(system("modprobe zram"), 0);
	snprintf(size, sizeof(size), "%lu", SWAP_BYTES);
	assert_ok(vu_write_file("/sys/block/zram0/disksize", size));
	assert_int_equal(system("mkswap /dev/zram0 >/dev/null"), 0);
	assert_int_equal(swapon("/dev/zram0", 0), 0);
}

static int group_setup(void **state)
{
	(void)state;
	swap_on_zram();
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	return swapoff("/dev/zram0");
}

static struct CMUnitTest test_of(const struct way *way)
{
	return (struct CMUnitTest) {
		.name = way->name, .test_func = no_stale_page,
		.setup_func = setup_way, .teardown_func = teardown_way,
		.initial_state = (void *)way,
	};
}

int main(void)
{
	const struct CMUnitTest others[] = {
		TEST_EMU(change_of_access_marks_hugetlb_memory),
		TEST_EMU(shared_page_tables_hide_nothing),
	};
	struct CMUnitTest tests[ARRAY_SIZE(others) + nr_ways + nr_newer_ways];
	unsigned int i, n = ARRAY_SIZE(others);

	memset(tests, 0, sizeof(tests));
	memcpy(tests, others, sizeof(others));
	for (i = 0; i < nr_ways; i++)
		tests[n++] = test_of(&ways[i]);
	/* A test without a function is none. */
	for (i = 0; i < nr_newer_ways; i++)
		if (kernel_at_least(newer_ways[i].major, newer_ways[i].minor))
			tests[n++] = test_of(&newer_ways[i].way);
	return cmocka_run_group_tests_name("stale", tests, group_setup, group_teardown);
}
