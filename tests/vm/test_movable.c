// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that has to be moved before it can be pinned for long, as what lies in
 * ZONE_MOVABLE has, while another thread pins, and so moves, the same huge page.
 *
 * VM: --smp 2 --append movablecore=1G
 *
 * Threads only collect results: cmocka's assertions belong to the main thread.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define NHUGE		16UL
#define SIZE		(NHUGE * VU_2M)
#define ROUNDS		25

/* Maps every half of a huge page that comes at this offset. */
struct mapper {
	pthread_barrier_t *start;
	int container;
	char *mem;
	size_t offset;
	unsigned int failed;
	int error;
};

static void *map_halves(void *arg)
{
	struct mapper *m = arg;
	size_t at;
	int ret;

	pthread_barrier_wait(m->start);
	for (at = m->offset; at < SIZE; at += VU_2M) {
		ret = vu_map_rw(m->container, m->mem + at, BASE + at, VU_2M / 2);
		if (ret) {
			m->failed++;
			m->error = ret;
		}
	}
	return NULL;
}

static unsigned long pages_moved(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long n = 0;
	char line[128];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "pgmigrate_success %lu", &n) == 1)
			break;
	fclose(f);
	return n;
}

/* Nothing is short but patience: who comes while a page is moved has to come again. */
static void two_threads_pin_one_huge_page(void **state)
{
	const struct fixture *f = *state;
	const unsigned long moved = pages_moved();
	unsigned int i, round, failed = 0;
	pthread_barrier_t start;
	int error = 0;

	assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
	for (round = 0; round < ROUNDS; round++) {
		char *mem = mem_thp(SIZE);
		struct mapper m[2];
		pthread_t threads[2];

		for (i = 0; i < 2; i++) {
			m[i] = (struct mapper) {
				.start = &start, .container = f->container, .mem = mem,
				.offset = i * VU_2M / 2,
			};
			assert_int_equal(pthread_create(&threads[i], NULL, map_halves, &m[i]), 0);
		}
		for (i = 0; i < 2; i++) {
			assert_int_equal(pthread_join(threads[i], NULL), 0);
			failed += m[i].failed;
			error = error ?: m[i].error;
		}
		assert_ok(vu_unmap(f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
		vu_free(mem, SIZE);
	}
	pthread_barrier_destroy(&start);
	print_message("%u of %lu failed: %s; %lu pages moved\n", failed, 2 * NHUGE * ROUNDS,
		      strerror(-error), pages_moved() - moved);
	assert_int_equal(failed, 0);
	/* Or it was no test. */
	assert_true(pages_moved() - moved >= ROUNDS * SIZE / VU_PAGE / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(two_threads_pin_one_huge_page),
	};

	return cmocka_run_group_tests_name("movable", tests, NULL, NULL);
}
