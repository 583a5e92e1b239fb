// SPDX-License-Identifier: GPL-2.0-only
/*
 * An IOMMU that cannot keep devices from passing by the CPU's caches: pages are flushed
 * before they are mapped, and before they are unpinned; what devices see is the same.
 * That caches hold what memory does not is nothing that QEMU emulates: here it is seen
 * that the kernel's way to flush runs on memory of any kind, and how often.
 *
 * VM: --iommu intel-nc
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "debugfs.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define SIZE		(4 * MIB)

static void the_domain_is_not_coherent(void **state)
{
	const struct fixture *f = *state;
	char *text;

	assert_int_equal(ioctl(f->container, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU), 0);
	if (is_intree())
		return;
	text = debugfs_read("domains");
	assert_non_null(strstr(text, " coherent 0 "));
	free(text);
}

/* Map, let the device use, and unmap memory of each kind; @each is what is flushed each time. */
static void use_all_memory(const struct fixture *f, unsigned long each)
{
	unsigned long before;
	unsigned int i;

	for (i = 0; i < NBACKINGS; i++) {
		char *mem = backings[i].alloc(SIZE);

		at_step("%s", backings[i].name);
		before = is_intree() ? 0 : debugfs_counter("flushed_pages");
		assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
		if (!is_intree())
			assert_int_equal(debugfs_counter("flushed_pages") - before, each);
		assert_dma_reaches(f, 0, mem + SIZE - PAGES(1), BASE + SIZE - PAGES(1));
		assert_unmaps(f->container, BASE, SIZE, SIZE);
		if (!is_intree())
			assert_int_equal(debugfs_counter("flushed_pages") - before, 2 * each);
		assert_nothing_held(f);
		vu_free(mem, SIZE);
	}
}

static void all_memory_is_flushed_twice(void **state)
{
	use_all_memory(*state, SIZE / VU_PAGE);
}

static void none_is_if_that_is_switched_off(void **state)
{
	if (is_intree())
		return;
	module_param_write("flush_noncoherent", 0);
	use_all_memory(*state, 0);
	module_param_write("flush_noncoherent", 1);
}

static void each_mapping_of_registered_memory_is_flushed(void **state)
{
	const struct fixture *f = *state;
	unsigned long before;
	char *mem;

	if (is_intree())
		return;
	mem = mem_thp(SIZE);
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	before = debugfs_counter("flushed_pages");
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_int_equal(debugfs_counter("flushed_pages") - before, SIZE / VU_PAGE);
	assert_dma_reaches(f, 0, mem, BASE);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_int_equal(debugfs_counter("flushed_pages") - before, SIZE / VU_PAGE);
	assert_ok(vu_unregister(f->container, mem, SIZE));
	vu_free(mem, SIZE);
}

static void survive(int sig)
{
	(void)sig;
}

/* After an error in memory the kernel takes a page out of its own map: nothing to touch. */
static void a_broken_page_is_not_flushed(void **state)
{
	const struct sigaction action = { .sa_handler = survive };
	const struct fixture *f = *state;
	char *mem = mem_scattered(SIZE);
	struct sigaction old;
	unsigned long before;

	if (is_intree())
		return;
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
	assert_int_equal(madvise(mem + PAGES(3), PAGES(1), MADV_HWPOISON), 0);
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
	before = debugfs_counter("flushed_pages");
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_int_equal(debugfs_counter("flushed_pages") - before, SIZE / VU_PAGE - 1);
	vu_free(mem, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(the_domain_is_not_coherent),
		TEST_V2(all_memory_is_flushed_twice),
		TEST_V2(none_is_if_that_is_switched_off),
		TEST_V2(each_mapping_of_registered_memory_is_flushed),
		TEST_V2(a_broken_page_is_not_flushed),
	};

	return cmocka_run_group_tests_name("noncoherent", tests, NULL, NULL);
}
