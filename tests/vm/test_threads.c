// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several threads on one container: disjoint requests don't disturb each
 * other, and those that collide come out as if one had come after the other.
 *
 * Threads only collect results: cmocka's assertions belong to the main thread.
 */
#include <pthread.h>
#include <stdlib.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define ROUNDS		50

/* One request, made by a thread once all threads of the race are there. */
struct racer {
	int container;
	pthread_barrier_t *start;
	const void *vaddr;	/* NULL: unmap */
	__u64 iova, size;
	int ret;
	__u64 unmapped;
};

static void *race_one(void *arg)
{
	struct racer *r = arg;

	pthread_barrier_wait(r->start);
	if (r->vaddr)
		r->ret = vu_map_rw(r->container, r->vaddr, r->iova, r->size);
	else
		r->ret = vu_unmap(r->container, r->iova, r->size, 0, &r->unmapped);
	return NULL;
}

static void race(struct racer *racers, unsigned int n)
{
	pthread_barrier_t start;
	pthread_t threads[8];
	unsigned int i;

	assert_true(n <= ARRAY_SIZE(threads));
	assert_int_equal(pthread_barrier_init(&start, NULL, n), 0);
	for (i = 0; i < n; i++) {
		racers[i].start = &start;
		assert_int_equal(pthread_create(&threads[i], NULL, race_one, &racers[i]), 0);
	}
	for (i = 0; i < n; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);
}

/* ---- Collisions ---- */

static void assert_one_map_wins(const struct fixture *f, __u64 iova, __u64 size,
				__u64 other_iova, __u64 other_size)
{
	char *mem = mem_pages(1024), *other_mem = mem_pages(1024);
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		struct racer r[2] = {
			{ .container = f->container, .vaddr = mem, .iova = iova, .size = size },
			{ .container = f->container, .vaddr = other_mem, .iova = other_iova,
			  .size = other_size },
		};
		unsigned int winner;

		race(r, 2);
		winner = r[0].ret ? 1 : 0;
		assert_ok(r[winner].ret);
		assert_ret(r[!winner].ret, -EEXIST);
		assert_charged(f, r[winner].size / VU_PAGE);
		assert_unmaps_all(f->container, r[winner].size);
	}
	assert_nothing_held(f);
	vu_free(mem, PAGES(1024));
	vu_free(other_mem, PAGES(1024));
}

static void of_two_maps_of_one_range_one_wins(void **state)
{
	assert_one_map_wins(*state, BASE, PAGES(1024), BASE, PAGES(1024));
}

static void of_two_maps_that_overlap_one_wins(void **state)
{
	assert_one_map_wins(*state, BASE, PAGES(1024), BASE + PAGES(1023), PAGES(100));
}

/*
 * An unmap either comes before the map and finds nothing, or after it and
 * takes all: it never sees a part, and never is told to come again.
 */
static void unmap_comes_before_or_after_a_map(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1024);
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		/* Each has its turn to be made first. */
		struct racer r[2], *map = &r[i % 2], *unmap = &r[(i + 1) % 2];

		*map = (struct racer) { .container = f->container, .vaddr = mem, .iova = BASE,
					.size = PAGES(1024) };
		*unmap = (struct racer) { .container = f->container, .iova = BASE,
					  .size = PAGES(1024) };
		race(r, 2);
		assert_ok(map->ret);
		assert_ok(unmap->ret);
		if (unmap->unmapped) {
			assert_int_equal(unmap->unmapped, PAGES(1024));
			assert_nothing_held(f);
		} else {
			assert_charged(f, 1024);
		}
		assert_unmaps_all(f->container, PAGES(1024) - unmap->unmapped);
	}
	vu_free(mem, PAGES(1024));
}

/* An unmap that would cut the mapping comes too early, or is refused. */
static void unmap_of_a_part_comes_before_a_map_or_is_refused(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1024);
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		struct racer r[2], *map = &r[i % 2], *unmap = &r[(i + 1) % 2];

		*map = (struct racer) { .container = f->container, .vaddr = mem, .iova = BASE,
					.size = PAGES(1024) };
		*unmap = (struct racer) { .container = f->container, .iova = BASE + PAGES(i),
					  .size = PAGES(1) };
		race(r, 2);
		assert_ok(map->ret);
		if (unmap->ret)
			assert_ret(unmap->ret, -EINVAL);
		else
			assert_int_equal(unmap->unmapped, 0);
		assert_charged(f, 1024);
		assert_unmaps_all(f->container, PAGES(1024));
	}
	vu_free(mem, PAGES(1024));
}

/* What fails after much work might as well have failed before the other came. */
static void a_map_that_fails_is_in_nobodys_way(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1024), *broken = mem_pages(1024);
	unsigned int i;

	vu_free(broken + PAGES(1023), VU_PAGE);
	for (i = 0; i < ROUNDS; i++) {
		struct racer r[2], *bad = &r[i % 2], *good = &r[(i + 1) % 2];

		*bad = (struct racer) { .container = f->container, .vaddr = broken, .iova = BASE,
					.size = PAGES(1024) };
		*good = (struct racer) { .container = f->container, .vaddr = mem,
					 .iova = BASE + PAGES(7), .size = PAGES(64) };
		race(r, 2);
		assert_ok(good->ret);
		assert_true(bad->ret == -EFAULT || bad->ret == -EEXIST);
		assert_charged(f, 64);
		assert_unmaps_all(f->container, PAGES(64));
		assert_nothing_held(f);
	}
	vu_free(mem, PAGES(1024));
	vu_free(broken, PAGES(1023));
}

struct limit_race {
	int container;
	char *mem;
};

/* Runs in a child whose limit is 1024 pages. */
static void race_for_memlock(void *arg)
{
	const struct limit_race *l = arg;
	unsigned int i, j;

	for (i = 0; i < ROUNDS; i++) {
		struct racer r[2];
		pthread_barrier_t start;
		pthread_t thread;
		unsigned int wins;

		child_check(!pthread_barrier_init(&start, NULL, 2));
		for (j = 0; j < 2; j++)
			r[j] = (struct racer) {
				.container = l->container, .start = &start, .vaddr = l->mem,
				.iova = BASE + j * PAGES(1024), .size = PAGES(600),
			};
		child_check(!pthread_create(&thread, NULL, race_one, &r[0]));
		race_one(&r[1]);
		child_check(!pthread_join(thread, NULL));
		pthread_barrier_destroy(&start);

		wins = !r[0].ret + !r[1].ret;
		child_check(wins <= 1);
		for (j = 0; j < 2; j++)
			child_check(!r[j].ret || r[j].ret == -ENOMEM);
		child_check(vu_locked_kib() == KIB(600 * wins));
		child_check(!vu_unmap(l->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
		child_check(!vu_locked_kib());
	}
}

static void rlimit_memlock_holds_in_a_race(void **state)
{
	const struct fixture *f = *state;
	struct limit_race l = { f->container, mem_pages(600) };

	in_child_nobody(PAGES(1024), race_for_memlock, &l);
	assert_nothing_held(f);
	vu_free(l.mem, PAGES(600));
}

static void of_two_unmaps_one_takes_all(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1024);
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		struct racer r[2] = {
			{ .container = f->container, .iova = BASE, .size = PAGES(1024) },
			{ .container = f->container, .iova = BASE, .size = PAGES(1024) },
		};

		assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1024)));
		race(r, 2);
		assert_ok(r[0].ret);
		assert_ok(r[1].ret);
		assert_true(!r[0].unmapped || !r[1].unmapped);
		assert_int_equal(r[0].unmapped + r[1].unmapped, PAGES(1024));
		assert_nothing_held(f);
	}
	vu_free(mem, PAGES(1024));
}

static void the_entry_limit_holds_in_a_race(void **state)
{
	enum { NRACERS = 8, LIMIT = 5 };
	const unsigned int old = module_param_read("dma_entry_limit");
	struct fixture *f = *state;
	char *mem = mem_pages(64);
	unsigned int i, j;

	module_param_write("dma_entry_limit", LIMIT);
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	module_param_write("dma_entry_limit", old);

	for (i = 0; i < ROUNDS / 5; i++) {
		struct racer r[NRACERS];
		unsigned int wins = 0;

		for (j = 0; j < NRACERS; j++)
			r[j] = (struct racer) {
				.container = f->container, .vaddr = mem,
				.iova = BASE + j * PAGES(64), .size = PAGES(64),
			};
		race(r, NRACERS);
		for (j = 0; j < NRACERS; j++) {
			wins += !r[j].ret;
			assert_true(!r[j].ret || r[j].ret == -ENOSPC);
		}
		assert_int_equal(wins, LIMIT);
		assert_int_equal(dma_avail(f->container), 0);
		assert_unmaps_all(f->container, LIMIT * PAGES(64));
		assert_int_equal(dma_avail(f->container), LIMIT);
	}
	vu_free(mem, PAGES(64));
}

/* ---- Disjoint work, while the main thread does something else ---- */

#define NWORKERS	3
#define WORKER_PAGES	600UL

struct worker {
	int container;
	char *mem;
	__u64 iova;	/* WORKER_PAGES of its own */
	unsigned int seed;
	unsigned int errors;
	pthread_t thread;
};

static unsigned int nworking;

/* Map and unmap ranges of many sizes, next to those of the other threads. */
static void *map_and_unmap(void *arg)
{
	struct worker *w = arg;
	unsigned int i;

	for (i = 0; i < 2 * ROUNDS; i++) {
		__u64 size = PAGES(1 + rand_r(&w->seed) % WORKER_PAGES), unmapped = 0;

		w->errors += !!vu_map_rw(w->container, w->mem, w->iova, size);
		w->errors += !!vu_unmap(w->container, w->iova, size, 0, &unmapped);
		w->errors += unmapped != size;
	}
	__atomic_fetch_sub(&nworking, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Map one page after the other, and leave the unmapping to the main thread. */
static void *map_only(void *arg)
{
	struct worker *w = arg;
	unsigned int i;

	for (i = 0; i < WORKER_PAGES; i++)
		w->errors += !!vu_map_rw(w->container, w->mem, w->iova + PAGES(i), VU_PAGE);
	__atomic_fetch_sub(&nworking, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void workers_start(const struct fixture *f, struct worker *workers, void *(*work)(void *))
{
	unsigned int i;

	nworking = NWORKERS;
	for (i = 0; i < NWORKERS; i++) {
		workers[i] = (struct worker) {
			.container = f->container, .mem = mem_pages(WORKER_PAGES),
			.iova = BASE + i * PAGES(WORKER_PAGES), .seed = i,
		};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
}

static bool workers_busy(void)
{
	return __atomic_load_n(&nworking, __ATOMIC_ACQUIRE);
}

static void workers_join(struct worker *workers)
{
	unsigned int i;

	for (i = 0; i < NWORKERS; i++) {
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
		assert_int_equal(workers[i].errors, 0);
		vu_free(workers[i].mem, PAGES(WORKER_PAGES));
	}
}

static void disjoint_ranges_do_not_disturb_each_other(void **state)
{
	const struct fixture *f = *state;
	struct worker workers[NWORKERS];

	workers_start(f, workers, map_and_unmap);
	while (workers_busy()) {
		__u32 avail = dma_avail(f->container);

		assert_in_range(avail, 65535 - NWORKERS, 65535);
	}
	workers_join(workers);
	assert_int_equal(dma_avail(f->container), 65535);
	assert_nothing_held(f);
}

static void unmap_all_amid_maps_loses_nothing(void **state)
{
	const struct fixture *f = *state;
	struct worker workers[NWORKERS];
	__u64 size, sum = 0;
	bool busy;

	workers_start(f, workers, map_only);
	do {
		busy = workers_busy();
		assert_ok(vu_unmap(f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, &size));
		sum += size;
	} while (busy);
	workers_join(workers);
	assert_int_equal(sum, NWORKERS * PAGES(WORKER_PAGES));
	assert_nothing_held(f);
}

static void groups_come_and_go_amid_maps(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_pages(512);
	struct worker workers[NWORKERS];
	unsigned int rounds = 0;

	assert_ok(vu_map_rw(f->container, mem, 0, PAGES(512)));
	workers_start(f, workers, map_and_unmap);
	while (workers_busy()) {
		fixture_attach(f, 1);
		fixture_open_device(f, 1);
		fixture_close_device(f, 1);
		rounds++;
	}
	workers_join(workers);
	assert_true(rounds > 0);

	fixture_attach(f, 1);
	fixture_open_device(f, 1);
	assert_charged(f, 512);
	assert_dma_reaches(f, 1, mem + PAGES(511), PAGES(511));
	assert_dma_reaches(f, 0, mem, 0);
	assert_unmaps_all(f->container, PAGES(512));
	vu_free(mem, PAGES(512));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(of_two_maps_of_one_range_one_wins),
		TEST_V2(of_two_maps_that_overlap_one_wins),
		TEST_V2(unmap_comes_before_or_after_a_map),
		TEST_V2(unmap_of_a_part_comes_before_a_map_or_is_refused),
		TEST_V2(a_map_that_fails_is_in_nobodys_way),
		TEST_V2(rlimit_memlock_holds_in_a_race),
		TEST_V2(of_two_unmaps_one_takes_all),
		TEST_CLOSED(the_entry_limit_holds_in_a_race),
		TEST_V2(disjoint_ranges_do_not_disturb_each_other),
		TEST_V2(unmap_all_amid_maps_loses_nothing),
		TEST_V2(groups_come_and_go_amid_maps),
	};

	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
