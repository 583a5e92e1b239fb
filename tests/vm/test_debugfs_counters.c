// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs shows of containers: counters and progress.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "debugfs.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

/* ---- counters ---- */

static void counters_count_requests_pages_and_calls(void **state)
{
	static const char *const names[] = {
		"maps", "unmaps", "mapped_pages", "unmapped_pages", "pin_calls",
		"pinned_pages", "iommu_maps", "iommu_unmaps", "syncs", "windows",
		"flushed_pages",
	};
	/* The IOMMU enforces cache coherency. */
	static const __u64 want[] = { 2, 1, 4097, 4097, 3, 4097, 9, 9, 9, 9, 0 };
	const struct fixture *f = *state;
	char *mem = mem_scattered(PAGES(4097));
	__u64 before[ARRAY_SIZE(names)], got;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		before[i] = debugfs_counter(names[i]);
	/* By batches of 2048 pages, queues and windows of 512 runs. */
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(4096)));
	assert_ok(vu_map_rw(f->container, mem + PAGES(4096), BASE + GIB, PAGES(1)));
	assert_unmaps_all(f->container, PAGES(4097));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		got = debugfs_counter(names[i]) - before[i];
		if (got != want[i])
			fail_msg("%s rose by %llu, want %llu", names[i], got, want[i]);
	}
	vu_free(mem, PAGES(4097));
}

static bool within_a_tenth(__u64 value, __u64 of)
{
	return value >= of - of / 10 && value <= of + of / 10;
}

/*
 * To a tenth of what this process measures, unless it lost the CPU between its own look
 * at the clock and the module's: so in one round of many.
 */
static void counters_measure_time(void **state)
{
	const struct fixture *f = *state;
	const size_t size = 64 * MIB;
	void *mem = mem_scattered(size);
	bool map_right = false, unmap_right = false;
	__u64 map_ns, unmap_ns, pin_ns, start, mapped, unmapped;
	unsigned int round;

	for (round = 0; round < 50 && !(map_right && unmap_right); round++) {
		map_ns = debugfs_counter("map_ns");
		unmap_ns = debugfs_counter("unmap_ns");
		pin_ns = debugfs_counter("pin_ns");
		start = vu_now();
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		mapped = vu_now() - start;
		start = vu_now();
		assert_unmaps_all(f->container, size);
		unmapped = vu_now() - start;
		map_ns = debugfs_counter("map_ns") - map_ns;
		unmap_ns = debugfs_counter("unmap_ns") - unmap_ns;
		pin_ns = debugfs_counter("pin_ns") - pin_ns;
		map_right |= within_a_tenth(map_ns, mapped);
		unmap_right |= within_a_tenth(unmap_ns, unmapped);
		assert_in_range(pin_ns, 1, map_ns);
	}
	if (!map_right || !unmap_right)
		fail_msg("map_ns rose by %llu of %llu, unmap_ns by %llu of %llu", map_ns, mapped,
			 unmap_ns, unmapped);
	vu_free(mem, size);
}

static void counters_count_groups(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(debugfs_counter("attaches"), 2);
	assert_int_equal(debugfs_counter("detaches"), 0);
	fixture_close_device(f, 1);
	assert_int_equal(debugfs_counter("attaches"), 2);
	assert_int_equal(debugfs_counter("detaches"), 1);
}

static void counters_count_refusals(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(2);
	char *text;

	text = debugfs_read("counters");
	assert_int_equal(debugfs_number(text, "refused_overlap"), 0);
	assert_int_equal(debugfs_number(text, "refused_v1_none"), 0);
	free(text);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(2)));
	assert_ret(vu_map_rw(f->container, mem, BASE, PAGES(1)), -EEXIST);
	assert_ret(vu_map_rw(f->container, mem, BASE + 1, PAGES(1)), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE, PAGES(1), 0, NULL), -EINVAL);
	text = debugfs_read("counters");
	assert_int_equal(debugfs_number(text, "refused_overlap"), 1);
	assert_int_equal(debugfs_number(text, "refused_align"), 1);
	assert_int_equal(debugfs_number(text, "refused_bisect"), 1);
	assert_int_equal(debugfs_number(text, "refused_pin"), 0);
	/* The refused ones are not requests that were served. */
	assert_int_equal(debugfs_number(text, "maps"), 1);
	assert_int_equal(debugfs_number(text, "unmaps"), 0);
	free(text);
	vu_free(mem, PAGES(2));
}

/* ---- progress ---- */

struct request {
	int container;
	void *mem;
	size_t size;
	int ret;
	atomic_bool done;
};

static void *map_it(void *arg)
{
	struct request *r = arg;

	r->ret = vu_map_rw(r->container, r->mem, BASE, r->size);
	atomic_store(&r->done, true);
	return NULL;
}

/* Memory that was never touched: it is found while MAP goes. */
static void progress_shows_a_map_under_way(void **state)
{
	const struct fixture *f = *state;
	struct request r = { .container = f->container, .size = GIB };
	__u64 iova, size, done, ms, last_done = 0, last_ms = 0, start;
	unsigned int seen = 0, pending = 0;
	char before[16], *text;
	struct debugfs_mapping m;
	pthread_t thread;
	int n, pid;

	r.mem = mmap(NULL, r.size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(r.mem != MAP_FAILED);
	assert_int_equal(madvise(r.mem, r.size, MADV_NOHUGEPAGE), 0);
	text = debugfs_read("progress");
	assert_string_equal(text, "");
	free(text);

	/* The process's name, which may be anything, ends the line. */
	assert_int_equal(prctl(PR_GET_NAME, before), 0);
	assert_int_equal(prctl(PR_SET_NAME, " ns=9\n\033[31m\xff"), 0);
	start = vu_now();
	assert_int_equal(pthread_create(&thread, NULL, map_it, &r), 0);
	while (!atomic_load(&r.done)) {
		text = debugfs_read("progress");
		if (*text) {
			n = sscanf(text, "map %llx size %llu done %llu ms %llu pid %d comm ",
				   &iova, &size, &done, &ms, &pid);
			assert_int_equal(n, 5);
			assert_string_equal(strstr(text, " comm "), " comm  ns=9??[31m?\n");
			assert_int_equal(iova, BASE);
			assert_int_equal(size, r.size);
			assert_int_equal(pid, getpid());
			assert_in_range(done, last_done, r.size);
			assert_in_range(ms, last_ms, (vu_now() - start) / 1000000 + 50);
			last_done = done;
			last_ms = ms;
			seen += done > 0 && done < r.size;
		}
		free(text);
		text = debugfs_read("mappings");
		if (debugfs_parse_mapping(text, &m) && !strcmp(m.state, "pending")) {
			/* Its run list is still being made. */
			assert_int_equal(m.runs, 0);
			pending++;
		}
		free(text);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(prctl(PR_SET_NAME, before), 0);
	assert_ok(r.ret);
	assert_true(seen > 2 && pending > 2);
	assert_true(last_ms > 0);
	text = debugfs_read("progress");
	assert_string_equal(text, "");
	free(text);
	assert_unmaps_all(f->container, r.size);
	munmap(r.mem, r.size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(counters_count_requests_pages_and_calls),
		TEST_V2(counters_measure_time),
		TEST_TWO(counters_count_groups),
		TEST_V2(counters_count_refusals),
		TEST_V2(progress_shows_a_map_under_way),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module has no debugfs");
		return 0;
	}
	return cmocka_run_group_tests_name("debugfs_counters", tests, NULL, NULL);
}
