// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the IOMMU driver is asked to map, seen through the kernel's tracepoints:
 * contiguous memory in one call, so that it can use superpages, and with
 * disable_hugepages single pages only. That nothing else changes is in
 * test_modes.c.
 */
#include <stdlib.h>

#include "testlib.h"

#define TRACING		"/sys/kernel/tracing/"
#define BASE		(6 * GIB)
#define SIZE		(2 * VU_2M)

static void write_tracing(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Calls of the IOMMU API since trace_start(): how many, and of which sizes. */
struct trace {
	unsigned int calls;
	size_t smallest, largest, total;
};

static void trace_start(void)
{
	write_tracing(TRACING "trace", "");
	write_tracing(TRACING "events/iommu/map/enable", "1");
}

/* A line ends in "IOMMU: iova=... paddr=... size=4096". */
static void trace_stop(struct trace *t)
{
	const char *field;
	char line[512];
	size_t size;
	FILE *f;

	write_tracing(TRACING "events/iommu/map/enable", "0");
	*t = (struct trace){ .smallest = SIZE_MAX };
	f = fopen(TRACING "trace", "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		field = strstr(line, " size=");
		if (line[0] == '#' || !field)
			continue;
		size = strtoul(field + strlen(" size="), NULL, 0);
		t->calls++;
		t->total += size;
		if (size < t->smallest)
			t->smallest = size;
		if (size > t->largest)
			t->largest = size;
	}
	fclose(f);
}

static void map_traced(const struct fixture *f, void *mem, struct trace *t)
{
	trace_start();
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	trace_stop(t);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_int_equal(t->total, SIZE);
}

static int hugepages_teardown(void **state)
{
	module_param_write("disable_hugepages", 0);
	return test_teardown(state);
}

static void huge_pages_are_mapped_in_one_piece(void **state)
{
	void *mem = mem_hugetlb(SIZE);
	struct trace t;

	map_traced(*state, mem, &t);
	assert_true(t.smallest >= VU_2M);
	vu_free(mem, SIZE);
}

static void disable_hugepages_maps_single_pages(void **state)
{
	void *mem = mem_hugetlb(SIZE);
	struct trace t;

	module_param_write("disable_hugepages", 1);
	map_traced(*state, mem, &t);
	assert_int_equal(t.calls, SIZE / VU_PAGE);
	assert_int_equal(t.largest, VU_PAGE);

	/* It counts for each mapping when that is made. */
	module_param_write("disable_hugepages", 0);
	map_traced(*state, mem, &t);
	assert_true(t.smallest >= VU_2M);
	vu_free(mem, SIZE);
}

#define TEST_HUGEPAGES(name) \
	cmocka_unit_test_setup_teardown(name, test_setup_v2, hugepages_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_HUGEPAGES(huge_pages_are_mapped_in_one_piece),
		TEST_HUGEPAGES(disable_hugepages_maps_single_pages),
	};

	return cmocka_run_group_tests_name("hugepages", tests, NULL, NULL);
}
