// SPDX-License-Identifier: GPL-2.0-only
/*
 * Do MAPs and UNMAPs of one container run in parallel? Runs in a VM with two CPUs
 * and prints throughput by the wall clock with one thread and with two, whose
 * memory and IOVA are disjoint.
 *
 *	scale [ROUNDS]
 *
 *	scale MEMORY TARGET THREADS RATE
 *
 * RATE is pages mapped and unmapped per second, the most of all rounds: the figures
 * of one VM may be compared, those of two may not.
 */
#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../vm/vfio_user.h"
#include "lib.h"

#define THREADS		2
#define SIZE		(32 * MIB)	/* that a thread maps and unmaps at a time */
#define ROUND_US	500000
#define IOVA		(4 * VU_1G)

struct thread {
	pthread_t id;
	int container;
	char *mem;
	__u64 iova;
	const bool *stop;
	pthread_barrier_t *start;
	double rate;		/* pages per second */
};

static void *map_and_unmap(void *arg)
{
	struct thread *t = arg;
	__u64 ns, pages = 0;

	pthread_barrier_wait(t->start);
	ns = vu_now();
	while (!__atomic_load_n(t->stop, __ATOMIC_RELAXED)) {
		must("map", vu_map_rw(t->container, t->mem, t->iova, SIZE));
		must("unmap", vu_unmap(t->container, t->iova, SIZE, 0, NULL));
		pages += SIZE / VU_PAGE;
	}
	ns = vu_now() - ns;
	t->rate = pages * 1e9 / ns;
	return NULL;
}

/* Pages per second of so many threads together. */
static double do_round(struct thread *threads, int nr)
{
	pthread_barrier_t start;
	bool stop = false;
	double rate = 0;
	int i;

	pthread_barrier_init(&start, NULL, nr);
	for (i = 0; i < nr; i++) {
		threads[i].start = &start;
		threads[i].stop = &stop;
		if (pthread_create(&threads[i].id, NULL, map_and_unmap, &threads[i]))
			errx(1, "no thread");
	}
	usleep(ROUND_US);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < nr; i++) {
		pthread_join(threads[i].id, NULL);
		rate += threads[i].rate;
	}
	pthread_barrier_destroy(&start);
	return rate;
}

static void measure(const char *memory, const char *target, struct thread *threads, int rounds)
{
	double best[THREADS + 1] = {}, rate;
	int i, nr;

	/* One thread and two by turns: what else the machine does hits both. */
	for (i = 0; i < rounds; i++) {
		for (nr = 1; nr <= THREADS; nr++) {
			rate = do_round(threads, nr);
			if (rate > best[nr])
				best[nr] = rate;
		}
	}
	for (nr = 1; nr <= THREADS; nr++)
		printf("scale %s %s %d %.0f\n", memory, target, nr, best[nr]);
}

static void run(const char *memory, enum vu_backing backing, int rounds)
{
	static const struct {
		const char *name;
		const char *module;
	} targets[] = { { "intree", TYPE1_INTREE }, { "ours", TYPE1_OURS } };
	struct thread threads[THREADS];
	struct vu_pci edu;
	int container, i;
	size_t target;

	for (i = 0; i < THREADS; i++) {
		threads[i].mem = vu_alloc(backing, SIZE);
		threads[i].iova = IOVA + i * VU_1G;
		if (!threads[i].mem)
			err(1, "%s: no memory", memory);
	}
	for (target = 0; target < ARRAY_SIZE(targets); target++) {
		type1_select(targets[target].module);
		container = must("edu", vu_open(&edu, VU_EDU_VENDOR, VU_EDU_DEVICE, 0,
						VFIO_TYPE1v2_IOMMU));
		for (i = 0; i < THREADS; i++)
			threads[i].container = container;
		measure(memory, targets[target].name, threads, rounds);
		vu_pci_close(&edu);
		close(container);
	}
	for (i = 0; i < THREADS; i++)
		vu_free(threads[i].mem, SIZE);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 5;

	setvbuf(stdout, NULL, _IOLBF, 0);
	run("4k-fragmented", VU_SCATTERED, rounds);
	run("thp", VU_THP, rounds);
	return 0;
}
