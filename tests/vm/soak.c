// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two devices copy data for minutes while mappings around theirs come and go.
 *
 *	soak MINUTES
 *
 * Each device moves a fresh pattern from one place to another of a mapping that is
 * made, and replaced, by its own thread; two further threads map and unmap memory of
 * all kinds in between. Some of it is registered, and then mapped twice.
 *
 * Once a minute everything stops for a moment: every byte must have been right, nothing
 * but the devices' own mappings pinned or charged, and the kernel's own memory no larger
 * than after the first minute, give or take SLACK_KIB.
 *
 * Prints a line a minute; exits with status 1 at the first thing that is wrong.
 */
#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio_user.h"

#define DEVICES		2
#define CHURNERS	2
#define MIB		1048576UL
#define BUFFER		(2 * MIB)
#define BUFFER_IOVA	(4 * VU_1G)
#define CHURN_IOVA	(64 * VU_1G)
#define CHURN		(32 * MIB)
#define LENGTH		VU_EDU_MAX
#define SLACK_KIB	4096

struct device {
	pthread_t thread;
	unsigned int nr;
	struct vu_edu edu;
	char *mem;
	unsigned long copies;
};

struct churner {
	pthread_t thread;
	unsigned int nr;
	char *mem;
	unsigned long maps;
	unsigned long registered;
	__u64 slowest;	/* nanoseconds of a request */
};

static int container;
static bool stop;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void check(int ret, const char *what)
{
	if (ret)
		errx(1, "%s: %s", what, strerror(-ret));
}

/* Where the n-th copy goes: another mapping every time. */
static __u64 buffer_iova(const struct device *d, unsigned long n)
{
	return BUFFER_IOVA + d->nr * VU_1G + n % 7 * BUFFER;
}

static void *copy_data(void *arg)
{
	struct device *d = arg;

	for (; !stopped(); d->copies++) {
		__u64 iova = buffer_iova(d, d->copies);
		size_t from = d->copies * 3 * VU_PAGE % (BUFFER / 2);
		size_t to = BUFFER / 2 + d->copies * 5 * VU_PAGE % (BUFFER / 2);
		size_t i;

		for (i = 0; i < LENGTH; i++)
			d->mem[from + i] = d->copies * 7 + i * 13 + d->nr;
		memset(d->mem + to, 0, LENGTH);
		if (d->copies % 2)
			check(vu_register(container, d->mem, BUFFER, 0), "register a buffer");
		check(vu_map_rw(container, d->mem, iova, BUFFER), "map of a buffer");
		check(vu_edu_copy(&d->edu, iova + to, iova + from, LENGTH), "copy");
		check(vu_unmap(container, iova, BUFFER, 0, NULL), "unmap of a buffer");
		if (d->copies % 2)
			check(vu_unregister(container, d->mem, BUFFER), "unregister a buffer");
		if (memcmp(d->mem + to, d->mem + from, LENGTH))
			errx(1, "device %u: copy %lu arrived wrong", d->nr, d->copies);
	}
	return NULL;
}

static void timed(struct churner *c, int ret, const char *what, __u64 start)
{
	__u64 ns = vu_now() - start;

	check(ret, what);
	if (ns > c->slowest)
		c->slowest = ns;
}

/* Where a churner maps what it maps a second time. */
#define AGAIN	(8 * VU_1G)

/* Map registered memory twice, and not just at its beginning. */
static void churn_registered(struct churner *c, char *mem, __u64 iova, size_t size)
{
	const size_t skip = size / 2 / VU_PAGE * VU_PAGE;
	__u64 start = vu_now();

	timed(c, vu_register(container, mem, size, 0), "register", start);
	start = vu_now();
	timed(c, vu_map_rw(container, mem, iova, size), "map of a region", start);
	start = vu_now();
	timed(c, vu_map_rw(container, mem + skip, iova + AGAIN, size - skip),
	      "second map of a region", start);
	start = vu_now();
	timed(c, vu_unmap(container, iova, AGAIN + size, 0, NULL), "unmap of a region", start);
	start = vu_now();
	timed(c, vu_unregister(container, mem, size), "unregister", start);
	c->registered++;
}

static void *churn(void *arg)
{
	struct churner *c = arg;
	unsigned int seed = c->nr;

	while (!stopped()) {
		__u64 iova = CHURN_IOVA + c->nr * 16 * VU_1G + rand_r(&seed) % 4096 * VU_PAGE;
		size_t offset = rand_r(&seed) % (CHURN / VU_PAGE) * VU_PAGE;
		size_t size = (1 + rand_r(&seed) % ((CHURN - offset) / VU_PAGE)) * VU_PAGE;
		__u64 start;

		if (rand_r(&seed) % 4 == 0) {
			churn_registered(c, c->mem + offset, iova, size);
			continue;
		}
		start = vu_now();
		timed(c, vu_map_rw(container, c->mem + offset, iova, size), "map", start);
		start = vu_now();
		timed(c, vu_unmap(container, iova, size, 0, NULL), "unmap", start);
		c->maps++;
	}
	return NULL;
}

/* What the kernel has allocated for itself and can't just drop. */
static long kernel_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];
	long kib, sum = 0;

	if (!f)
		err(1, "/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "SUnreclaim: %ld", &kib) == 1 ||
		    sscanf(line, "VmallocUsed: %ld", &kib) == 1)
			sum += kib;
	fclose(f);
	return sum;
}

static void run(struct device *devices, struct churner *churners, unsigned int seconds)
{
	unsigned int i;

	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	for (i = 0; i < DEVICES; i++)
		if (pthread_create(&devices[i].thread, NULL, copy_data, &devices[i]))
			errx(1, "no thread");
	for (i = 0; i < CHURNERS; i++)
		if (pthread_create(&churners[i].thread, NULL, churn, &churners[i]))
			errx(1, "no thread");
	sleep(seconds);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < DEVICES; i++)
		pthread_join(devices[i].thread, NULL);
	for (i = 0; i < CHURNERS; i++)
		pthread_join(churners[i].thread, NULL);
}

int main(int argc, char **argv)
{
	unsigned int minutes = argc > 1 ? atoi(argv[1]) : 1, minute, i;
	static const enum vu_backing backings[CHURNERS] = { VU_SCATTERED, VU_THP };
	struct device devices[DEVICES] = {};
	struct churner churners[CHURNERS] = {};
	struct vu_pci pci[DEVICES];
	long locked, pinned, kernel = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < CHURNERS; i++) {
		churners[i].nr = i;
		churners[i].mem = vu_alloc(backings[i], CHURN);
		if (!churners[i].mem)
			err(1, "no memory");
	}
	container = vu_open(&pci[0], VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);
	if (container < 0)
		check(container, "edu");
	check(vu_pci_find(&pci[1], VU_EDU_VENDOR, VU_EDU_DEVICE, 1), "second edu");
	check(vu_pci_bind(&pci[1]), "second edu");
	check(vu_group_open(&pci[1]), "second edu");
	check(vu_group_attach(&pci[1], container), "second edu");
	check(vu_device_open(&pci[1]), "second edu");
	for (i = 0; i < DEVICES; i++) {
		devices[i].nr = i;
		devices[i].mem = vu_alloc(i ? VU_THP : VU_SCATTERED, BUFFER);
		if (!devices[i].mem)
			err(1, "no memory");
		check(vu_edu_open(&devices[i].edu, &pci[i]), "edu's registers");
	}
	locked = vu_locked_kib();
	pinned = vu_foll_pinned();

	for (minute = 1; minute <= minutes; minute++) {
		run(devices, churners, 60);
		if (vu_locked_kib() != locked || vu_foll_pinned() != pinned)
			errx(1, "%ld KiB locked and %ld pages pinned are left",
			     vu_locked_kib() - locked, vu_foll_pinned() - pinned);
		if (minute == 1)
			kernel = kernel_kib();
		if (kernel_kib() > kernel + SLACK_KIB)
			errx(1, "the kernel's memory has grown by %ld KiB", kernel_kib() - kernel);
		printf("minute %u: %lu + %lu copies, all right; ", minute, devices[0].copies,
		       devices[1].copies);
		printf("%lu + %lu mappings and %lu + %lu regions came and went, ",
		       churners[0].maps, churners[1].maps, churners[0].registered,
		       churners[1].registered);
		printf("the slowest request in %llu ms; ",
		       (churners[0].slowest > churners[1].slowest ? churners[0].slowest :
			churners[1].slowest) / 1000000);
		printf("kernel memory %+ld KiB\n", kernel_kib() - kernel);
	}
	return 0;
}
