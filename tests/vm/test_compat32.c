// SPDX-License-Identifier: GPL-2.0-only
/*
 * 32-bit processes on a 64-bit kernel. What they do is in compat32/compat32.c;
 * here it is run, with a container that it may do anything with.
 */
#include <fcntl.h>

#include "testlib.h"

/* Where tests/vm/check puts it, and what its file descriptors are. */
#define COMPAT32		"/compat32"
#define COMPAT32_CONTAINER	3
#define COMPAT32_DEVICE		4

struct compat32 {
	const struct fixture *f;
	const char *name;
};

/* Runs in a child. Copies of descriptors are not closed by exec. */
static void exec_compat32(void *arg)
{
	const struct compat32 *c = arg;
	const int container = fcntl(c->f->container, F_DUPFD, 10);
	const int device = fcntl(c->f->pci[0].device_fd, F_DUPFD, 10);

	child_check(dup2(container, COMPAT32_CONTAINER) >= 0);
	child_check(dup2(device, COMPAT32_DEVICE) >= 0);
	execl(COMPAT32, COMPAT32, c->name, NULL);
	fprintf(stderr, "# child: exec of %s: %s\n", COMPAT32, strerror(errno));
	_exit(1);
}

static void run_compat32(void **state, const char *name)
{
	struct compat32 c = { *state, name };

	in_child(exec_compat32, &c);
	assert_nothing_held(c.f);
}

static void extensions(void **state)
{
	run_compat32(state, "extensions");
}

static void info_fits_the_smaller_structure(void **state)
{
	run_compat32(state, "info");
}

static void map_and_unmap(void **state)
{
	run_compat32(state, "map_and_unmap");
}

static void there_is_no_memory_above_4g(void **state)
{
	run_compat32(state, "addresses");
}

static void a_device_reaches_the_memory(void **state)
{
	run_compat32(state, "dma");
}

static void a_dirty_bitmap_wants_a_64_bit_pointer(void **state)
{
	run_compat32(state, "dirty");
}

static void addresses_are_exchanged(void **state)
{
	run_compat32(state, "vaddr");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(extensions),
		TEST_V2(info_fits_the_smaller_structure),
		TEST_V2(map_and_unmap),
		TEST_V2(there_is_no_memory_above_4g),
		TEST_V2(a_device_reaches_the_memory),
		TEST_V2(a_dirty_bitmap_wants_a_64_bit_pointer),
		TEST_V2(addresses_are_exchanged),
	};

	return cmocka_run_group_tests_name("compat32", tests, NULL, NULL);
}
