// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a mapping costs its owner: VmLck at each step, whose VmLck it is, and
 * RLIMIT_MEMLOCK, exact to the page, for a user without privileges. MMIO, which
 * costs nothing, is in test_bar.c.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

/* What a child needs to know; it has no use for cmocka's assertions. */
struct child_case {
	const struct fixture *f;
	char *mem;
	size_t npages;	/* RLIMIT_MEMLOCK, where it matters */
};

/* ---- VmLck step by step ---- */

static void each_map_adds_and_each_unmap_takes_away(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(10)));
	assert_charged(f, 10);
	assert_ok(vu_map_rw(f->container, mem + PAGES(10), BASE + PAGES(10), PAGES(90)));
	assert_charged(f, 100);
	assert_unmaps(f->container, BASE, PAGES(10), PAGES(10));
	assert_charged(f, 90);
	assert_pinned(f, 90);
	assert_unmaps(f->container, BASE + PAGES(10), PAGES(90), PAGES(90));
	assert_nothing_held(f);
	vu_free(mem, PAGES(100));
}

static void a_page_at_two_iovas_counts_twice(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(1);

	assert_ok(vu_map_rw(f->container, mem, 0, PAGES(1)));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	assert_charged(f, 2);
	assert_pinned(f, 2);
	assert_unmaps(f->container, 0, PAGES(1), PAGES(1));
	assert_charged(f, 1);
	assert_unmaps(f->container, BASE, PAGES(1), PAGES(1));
	vu_free(mem, PAGES(1));
}

/* mlock() and MAP_DMA lock for different reasons: both count. */
static void locked_memory_counts_again(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(8);

	assert_int_equal(mlock(mem, PAGES(8)), 0);
	assert_charged(f, 8);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(8)));
	assert_charged(f, 16);
	assert_int_equal(munlock(mem, PAGES(8)), 0);
	assert_charged(f, 8);
	assert_unmaps(f->container, BASE, PAGES(8), PAGES(8));
	vu_free(mem, PAGES(8));
}

/* The device keeps the pages; the charge and the pins stay until the unmap. */
static void munmap_changes_nothing(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(64);

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(64)));
	vu_free(mem, PAGES(64));
	assert_charged(f, 64);
	assert_pinned(f, 64);
	assert_unmaps(f->container, BASE, PAGES(64), PAGES(64));
	assert_nothing_held(f);
}

/*
 * The in-tree module of 6.1 gives the device the shared zero page, which is nobody's RAM,
 * where private memory is mapped for reading that nobody has touched.
 */
static bool gets_zero_pages(void)
{
	return is_intree() && !kernel_at_least(6, 2);
}

/* Else such memory gets pages of its own, and they are charged. */
static void untouched_memory_costs_what_it_is(void **state)
{
	const struct fixture *f = *state;
	const size_t want = gets_zero_pages() ? 0 : 16;
	char *mem = mem_reserve(PAGES(16));
	char *copy = mem_pages(1);

	assert_int_equal(mprotect(mem, PAGES(16), PROT_READ), 0);
	assert_int_equal(madvise(mem, PAGES(16), MADV_NOHUGEPAGE), 0);
	assert_ok(vu_map(f->container, mem, BASE, PAGES(16), VFIO_DMA_MAP_FLAG_READ));
	assert_charged(f, want);
	assert_pinned(f, want);

	/* What the device reads are zeroes in any case. */
	memset(copy, 0xee, VU_PAGE);
	assert_ok(vu_map_rw(f->container, copy, 0, PAGES(1)));
	assert_ok(vu_edu_copy(&f->edu[0], 0, BASE + PAGES(7), VU_EDU_MAX));
	assert_memory_equal(copy, mem + PAGES(7), VU_EDU_MAX);

	assert_unmaps_all(f->container, PAGES(17));
	assert_nothing_held(f);
	vu_free(mem, PAGES(16));
	vu_free(copy, PAGES(1));
}

/* Run with a limit of npages, which is what the memory costs, and of one less. */
static void map_what_the_limit_allows(void *arg)
{
	const struct child_case *c = arg;

	child_check(!vu_map(c->f->container, c->mem, BASE, PAGES(1024), VFIO_DMA_MAP_FLAG_READ));
	child_check(vu_locked_kib() == KIB(c->npages));
	child_check(!vu_unmap(c->f->container, BASE, PAGES(1024), 0, NULL));
	child_check(!vu_locked_kib());
}

static void map_more_than_the_limit_allows(void *arg)
{
	const struct child_case *c = arg;

	child_check(vu_map(c->f->container, c->mem, BASE, PAGES(1024), VFIO_DMA_MAP_FLAG_READ) ==
		    -ENOMEM);
	child_check(!vu_locked_kib());
}

/* Untouched pages here and there: what is RAM counts, and needs a limit. */
static void untouched_pages_amid_ram(void **state)
{
	const struct fixture *f = *state;
	struct child_case c = { .f = f, .mem = mem_reserve(PAGES(1024)) };
	size_t i;

	c.npages = gets_zero_pages() ? 0 : 1024;
	assert_int_equal(mprotect(c.mem, PAGES(1024), PROT_READ | PROT_WRITE), 0);
	assert_int_equal(madvise(c.mem, PAGES(1024), MADV_NOHUGEPAGE), 0);
	for (i = 0; i < 1024; i++) {
		if (i % 5 < 2 && i % 100) {
			c.mem[PAGES(i)] = 1;
			c.npages += gets_zero_pages();
		}
	}
	in_child_nobody(PAGES(c.npages), map_what_the_limit_allows, &c);
	in_child_nobody(PAGES(c.npages) - 1, map_more_than_the_limit_allows, &c);
	assert_nothing_held(f);

	assert_ok(vu_map(f->container, c.mem, BASE, PAGES(1024), VFIO_DMA_MAP_FLAG_READ));
	assert_charged(f, c.npages);
	assert_pinned(f, c.npages);
	assert_unmaps_all(f->container, PAGES(1024));
	assert_nothing_held(f);
	vu_free(c.mem, PAGES(1024));
}

/* Far into the mapping: pages are pinned by the hundred, and all go back. */
static void a_map_that_fails_late_costs_nothing(void **state)
{
	static const size_t holes[] = { 1, 511, 512, 513, 3000, 4095 };
	const struct fixture *f = *state;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(holes); i++) {
		char *mem = mem_pages(4096);
		__u32 avail = dma_avail(f->container);

		assert_int_equal(munmap(mem + PAGES(holes[i]), PAGES(1)), 0);
		assert_ret(vu_map_rw(f->container, mem, BASE, PAGES(4096)), -EFAULT);
		assert_nothing_held(f);
		assert_int_equal(dma_avail(f->container), avail);
		assert_unmaps_all(f->container, 0);
		/* The IOVA is free. */
		assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(holes[i])));
		assert_unmaps_all(f->container, PAGES(holes[i]));
		vu_free(mem, PAGES(4096));
	}
}

/* ---- Whose VmLck ---- */

static void map_ten(void *arg)
{
	const struct child_case *c = arg;

	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(10)));
	child_check(vu_locked_kib() == KIB(10));
}

/* A child's mapping is the child's cost, and outlives it. */
static void the_caller_of_map_is_charged(void **state)
{
	const struct fixture *f = *state;
	struct child_case c = { .f = f, .mem = mem_pages(10) };

	in_child(map_ten, &c);
	assert_charged(f, 0);
	assert_pinned(f, 10);
	assert_unmaps(f->container, BASE, PAGES(10), PAGES(10));
	assert_nothing_held(f);
	vu_free(c.mem, PAGES(10));
}

static void unmap_what_the_parent_mapped(void *arg)
{
	const struct fixture *f = arg;

	child_check(!vu_locked_kib());
	child_check(!vu_unmap(f->container, BASE, PAGES(10), 0, NULL));
	child_check(!vu_locked_kib());
}

static void the_owner_is_refunded_whoever_unmaps(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(10);

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(10)));
	assert_charged(f, 10);
	in_child(unmap_what_the_parent_mapped, *state);
	assert_nothing_held(f);
	vu_free(mem, PAGES(10));
}

static void do_nothing(void *arg)
{
	(void)arg;
}

static void a_child_that_exits_takes_nothing_along(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(10);

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(10)));
	in_child(do_nothing, NULL);
	assert_charged(f, 10);
	assert_pinned(f, 10);
	assert_dma_reaches(f, 0, mem, BASE);
	assert_unmaps(f->container, BASE, PAGES(10), PAGES(10));
	vu_free(mem, PAGES(10));
}

/* ---- RLIMIT_MEMLOCK ---- */

/*
 * Runs in a child whose limit is npages: all of it can be had, in one mapping
 * or in two, and not a page more.
 */
static void use_the_limit(void *arg)
{
	const struct child_case *c = arg;
	const int container = c->f->container;
	const size_t n = c->npages;

	child_check(!vu_locked_kib());

	child_check(!vu_map_rw(container, c->mem, BASE, PAGES(n)));
	child_check(vu_locked_kib() == KIB(n));
	child_check(vu_map_rw(container, c->mem, 0, PAGES(1)) == -ENOMEM);
	child_check(vu_locked_kib() == KIB(n));
	child_check(!vu_unmap(container, BASE, PAGES(n), 0, NULL));
	child_check(!vu_locked_kib());

	/* Too much in one go leaves nothing behind ... */
	child_check(vu_map_rw(container, c->mem, BASE, PAGES(n + 1)) == -ENOMEM);
	child_check(!vu_locked_kib());
	child_check(vu_map_rw(container, c->mem, BASE, PAGES(2 * n)) == -ENOMEM);
	child_check(!vu_locked_kib());

	/* ... and takes nothing away: the same again, now in two pieces. */
	child_check(!vu_map_rw(container, c->mem, BASE, PAGES(n - 1)));
	child_check(vu_map_rw(container, c->mem, 0, PAGES(2)) == -ENOMEM);
	child_check(!vu_map_rw(container, c->mem, 0, PAGES(1)));
	child_check(vu_map_rw(container, c->mem, GIB, PAGES(1)) == -ENOMEM);
	child_check(!vu_unmap(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
	child_check(!vu_locked_kib());
}

static void the_limit_is_exact(void **state)
{
	/* On, before and after the sizes that memory comes and is handled in. */
	static const size_t limits[] = { 2, 511, 512, 513, 1000, 2048, 4097 };
	static const struct backing kinds[] = {
		{ "scattered 4K", mem_scattered },
		{ "transparent huge pages", mem_thp },
		{ "2M hugetlb, shared", mem_hugetlb_shared },
	};
	const struct fixture *f = *state;
	unsigned int i, kind;

	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		struct child_case c = { .f = f, .mem = kinds[kind].alloc(40 * MIB) };

		at_step("%s", kinds[kind].name);
		for (i = 0; i < ARRAY_SIZE(limits); i++) {
			c.npages = limits[i];
			in_child_nobody(PAGES(c.npages), use_the_limit, &c);
			assert_nothing_held(f);
		}
		vu_free(c.mem, 40 * MIB);
	}
}

/* Runs with a limit of 10 pages less a byte: 9 whole ones. */
static void use_nine(void *arg)
{
	const struct child_case *c = arg;

	child_check(vu_map_rw(c->f->container, c->mem, BASE, PAGES(10)) == -ENOMEM);
	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(9)));
	child_check(vu_map_rw(c->f->container, c->mem, 0, PAGES(1)) == -ENOMEM);
	child_check(!vu_unmap(c->f->container, BASE, PAGES(9), 0, NULL));
}

static void a_limit_of_part_of_a_page(void **state)
{
	struct child_case c = { .f = *state, .mem = mem_pages(10) };

	in_child_nobody(PAGES(10) - 1, use_nine, &c);
	vu_free(c.mem, PAGES(10));
}

/* Runs with a limit of 10 pages. */
static void share_it_with_mlock(void *arg)
{
	const struct child_case *c = arg;

	child_check(!mlock(c->mem, PAGES(6)));
	child_check(vu_map_rw(c->f->container, c->mem, BASE, PAGES(5)) == -ENOMEM);
	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(4)));
	child_check(vu_locked_kib() == KIB(10));
	child_check(!munlock(c->mem, PAGES(6)));
	child_check(!vu_map_rw(c->f->container, c->mem, 0, PAGES(6)));
	child_check(mlock(c->mem, PAGES(1)));
	child_check(!vu_unmap(c->f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
}

static void mlock_and_map_share_the_limit(void **state)
{
	struct child_case c = { .f = *state, .mem = mem_pages(10) };

	in_child_nobody(PAGES(10), share_it_with_mlock, &c);
	vu_free(c.mem, PAGES(10));
}

/* Runs with a limit of 10 pages. */
static void lower_it_while_mapped(void *arg)
{
	const struct rlimit lower = { PAGES(5), PAGES(5) };
	const struct child_case *c = arg;

	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(8)));
	child_check(!setrlimit(RLIMIT_MEMLOCK, &lower));
	child_check(vu_map_rw(c->f->container, c->mem, 0, PAGES(1)) == -ENOMEM);
	child_check(vu_locked_kib() == KIB(8));
	child_check(!vu_unmap(c->f->container, BASE, PAGES(8), 0, NULL));
	child_check(!vu_locked_kib());
	child_check(vu_map_rw(c->f->container, c->mem, BASE, PAGES(6)) == -ENOMEM);
	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(5)));
	child_check(!vu_unmap(c->f->container, BASE, PAGES(5), 0, NULL));
}

static void a_lowered_limit_binds_new_mappings_only(void **state)
{
	struct child_case c = { .f = *state, .mem = mem_pages(10) };

	in_child_nobody(PAGES(10), lower_it_while_mapped, &c);
	vu_free(c.mem, PAGES(10));
}

/* Runs as root. */
static void map_without_a_limit(void *arg)
{
	const struct rlimit none = { 0, 0 };
	const struct child_case *c = arg;

	child_check(!setrlimit(RLIMIT_MEMLOCK, &none));
	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(10)));
	child_check(vu_locked_kib() == KIB(10));
	child_check(!vu_unmap(c->f->container, BASE, PAGES(10), 0, NULL));
	child_check(!vu_locked_kib());
}

static void cap_ipc_lock_is_charged_but_not_limited(void **state)
{
	struct child_case c = { .f = *state, .mem = mem_pages(10) };

	in_child(map_without_a_limit, &c);
	vu_free(c.mem, PAGES(10));
}

/* ---- Who is told of what a process lacks ---- */

#define TRACEFS		"/sys/kernel/tracing/"
#define PROBE		TRACEFS "events/kprobes/ask_capability/"

/* Open the list of probes to add one, or to take one out. */
static void set_probe(const char *text)
{
	int fd = open(TRACEFS "kprobe_events", O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* How often it was asked whether somebody has CAP_IPC_LOCK; and how often with an audit. */
static void count_asked(unsigned int *asked, unsigned int *audited)
{
	FILE *trace = fopen(TRACEFS "trace", "r");
	char line[512];

	assert_non_null(trace);
	*asked = 0;
	*audited = 0;
	while (fgets(line, sizeof(line), trace)) {
		if (!strstr(line, " cap=14 "))
			continue;
		++*asked;
		*audited += !!strstr(line, " opts=0x0");
	}
	fclose(trace);
}

/* Runs with a limit of 10 pages. */
static void map_and_register(void *arg)
{
	const struct child_case *c = arg;

	child_check(!vu_map_rw(c->f->container, c->mem, BASE, PAGES(8)));
	child_check(vu_map_rw(c->f->container, c->mem, 0, PAGES(8)) == -ENOMEM);
	child_check(!vu_unmap(c->f->container, BASE, PAGES(8), 0, NULL));
	if (is_intree())
		return;
	child_check(!vu_register(c->f->container, c->mem, PAGES(8), 0));
	child_check(!vu_unregister(c->f->container, c->mem, PAGES(8)));
}

/* Most processes lack CAP_IPC_LOCK, and need it not: that is nothing for the audit log. */
static void the_limit_is_asked_about_without_audit(void **state)
{
	struct child_case c = { .f = *state, .mem = mem_pages(10) };
	unsigned int asked, audited;

	set_probe("p:ask_capability security_capable cap=$arg3:s32 opts=$arg4:x32\n");
	assert_int_equal(vu_write_file(PROBE "filter", "cap == 14"), 0);
	assert_int_equal(vu_write_file(TRACEFS "trace", "\n"), 0);
	assert_int_equal(vu_write_file(PROBE "enable", "1"), 0);
	in_child_nobody(PAGES(10), map_and_register, &c);
	assert_int_equal(vu_write_file(PROBE "enable", "0"), 0);
	count_asked(&asked, &audited);
	set_probe("-:ask_capability\n");
	/* In-tree, with an audit each time. */
	if (!is_intree())
		assert_int_equal(audited, 0);
	assert_true(asked >= 2);
	vu_free(c.mem, PAGES(10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(each_map_adds_and_each_unmap_takes_away),
		TEST_V2(a_page_at_two_iovas_counts_twice),
		TEST_V2(locked_memory_counts_again),
		TEST_V2(munmap_changes_nothing),
		TEST_V2(untouched_memory_costs_what_it_is),
		TEST_V2(untouched_pages_amid_ram),
		TEST_V2(a_map_that_fails_late_costs_nothing),
		TEST_V2(the_caller_of_map_is_charged),
		TEST_V2(the_owner_is_refunded_whoever_unmaps),
		TEST_V2(a_child_that_exits_takes_nothing_along),
		TEST_V2(the_limit_is_exact),
		TEST_V2(a_limit_of_part_of_a_page),
		TEST_V2(mlock_and_map_share_the_limit),
		TEST_V2(a_lowered_limit_binds_new_mappings_only),
		TEST_V2(cap_ipc_lock_is_charged_but_not_limited),
		TEST_V2(the_limit_is_asked_about_without_audit),
	};

	return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
