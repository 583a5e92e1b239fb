// SPDX-License-Identifier: GPL-2.0-only
/*
 * A container with a million mappings: what each costs, and that nothing done
 * to all of them keeps the CPU from others for long.
 *
 * VM: --clock instructions
 *
 * The kernel preempts itself only where it says so (Debian's preempt=voluntary),
 * so a thread that outranks ours on the only CPU and wants to run each
 * millisecond sees every stretch without such a scheduling point. From 7.0 on the
 * choice is gone, and it sees less: only where preemption is off. The same goes for
 * debugging kernels, where full preemption is built in, and said nowhere. With the
 * clock counting instructions, times don't depend on the machine: a
 * nanosecond is an instruction.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "testlib.h"

#define NMAPPINGS	1000000U	/* a multiple of 64, for the dirty bitmap */
#define BASE		(4 * GIB)
#define TOTAL		(NMAPPINGS * VU_PAGE)

#define MSEC		1000000ULL
#define STALL_MAX	(100 * MSEC)
#define WATCH_PRIO	10

/* ---- Watching for stalls ---- */

struct watch {
	pthread_t thread;
	atomic_bool stop;
	__u64 longest;	/* that the thread was kept from running, in ns */
};

static void set_priority(int policy, int priority)
{
	const struct sched_param param = { .sched_priority = priority };

	assert_int_equal(pthread_setschedparam(pthread_self(), policy, &param), 0);
}

static void *watch_thread(void *arg)
{
	struct watch *w = arg;
	struct timespec ts;
	__u64 due, late;

	set_priority(SCHED_FIFO, WATCH_PRIO);
	while (!atomic_load(&w->stop)) {
		due = vu_now() + MSEC;
		ts.tv_sec = due / (1000 * MSEC);
		ts.tv_nsec = due % (1000 * MSEC);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		late = vu_now() - due;
		if (late > w->longest)
			w->longest = late;
	}
	return NULL;
}

static void watch_start(struct watch *w)
{
	*w = (struct watch){};
	assert_int_equal(pthread_create(&w->thread, NULL, watch_thread, w), 0);
	/* From now on it outranks us. */
	usleep(10000);
}

static void watch_stop(struct watch *w)
{
	atomic_store(&w->stop, true);
	assert_int_equal(pthread_join(w->thread, NULL), 0);
}

/* Print what was seen, and judge it. */
static void assert_no_stall(struct watch *w, const char *what)
{
	watch_stop(w);
	printf("# %-44s longest stall %5llu us\n", what, w->longest / 1000);
	if (w->longest > STALL_MAX)
		fail_msg("%s: %llu us without a scheduling point", what, w->longest / 1000);
}

/* ---- A container with room for a million ---- */

static int setup_million(void **state)
{
	const unsigned int old = module_param_read("dma_entry_limit");
	struct fixture *f;

	module_param_write("dma_entry_limit", NMAPPINGS);
	test_setup_v2(state);
	module_param_write("dma_entry_limit", old);
	f = *state;
	assert_int_equal(dma_avail(f->container), NMAPPINGS);
	return 0;
}

static __u64 iova_of(unsigned int i)
{
	return BASE + i * VU_PAGE;
}

/* Every mapping is of the same page, which can be pinned 2^21 times. */
static void map_range(const struct fixture *f, const void *page, unsigned int from,
		      unsigned int to)
{
	unsigned int i;

	for (i = from; i < to; i++)
		assert_ok(vu_map_rw(f->container, page, iova_of(i), VU_PAGE));
}

static unsigned int *random_order(unsigned int n)
{
	unsigned int i, other, *order = calloc(n, sizeof(*order));

	assert_non_null(order);
	for (i = 0; i < n; i++) {
		other = random() % (i + 1);
		order[i] = order[other];
		order[other] = i;
	}
	return order;
}

/* ---- What a mapping costs ---- */

#define NSAMPLES 1000U

/* Nanoseconds of mapping, and of unmapping, one more page, when about n are mapped. */
struct cost {
	double map, unmap;
};

/* What this thread has used of the CPU, in ns. */
static __u64 cpu_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000 * MSEC + ts.tv_nsec;
}

/* Map numbers n - NSAMPLES to n - 1; unmap as many anywhere, and map them again. */
static struct cost cost_at(const struct fixture *f, const void *page, unsigned int n)
{
	unsigned int i, *order = random_order(n);
	struct cost cost;
	__u64 start;

	start = cpu_time();
	map_range(f, page, n - NSAMPLES, n);
	cost.map = (double)(cpu_time() - start) / NSAMPLES;

	start = cpu_time();
	for (i = 0; i < NSAMPLES; i++)
		assert_unmaps(f->container, iova_of(order[i]), VU_PAGE, VU_PAGE);
	cost.unmap = (double)(cpu_time() - start) / NSAMPLES;

	for (i = 0; i < NSAMPLES; i++)
		assert_ok(vu_map_rw(f->container, page, iova_of(order[i]), VU_PAGE));
	free(order);
	return cost;
}

/* Map all, and look in between. */
static void map_million(const struct fixture *f, const void *page)
{
	struct cost cost, first = {};
	unsigned int n, mapped = 0;
	double growth;

	printf("# %8s %9s %9s\n", "mappings", "map", "unmap");
	for (n = NSAMPLES; n <= NMAPPINGS; mapped = n, n *= 10) {
		map_range(f, page, mapped, n - NSAMPLES);
		cost = cost_at(f, page, n);
		printf("# %8u %6.0f ns %6.0f ns\n", n, cost.map, cost.unmap);
		if (n == NSAMPLES)
			first = cost;
		growth = log(n) / log(NSAMPLES);
		if (cost.map > first.map * growth || cost.unmap > first.unmap * growth)
			fail_msg("with %u mappings one costs more than log n times as much", n);
	}
}

/* ---- Tests ---- */

static void the_kernel_preempts_itself_as_little_as_it_can(void **state)
{
	char line[64] = "";
	FILE *f = fopen("/sys/kernel/debug/sched/preempt", "r");

	(void)state;
	if (kernel_debugs()) {
		assert_null(f);
		assert_int_equal(sysconf(_SC_NPROCESSORS_ONLN), 1);
		return;
	}
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_non_null(strstr(line, kernel_at_least(7, 0) ? "(lazy)" : "(voluntary)"));
	assert_int_equal(sysconf(_SC_NPROCESSORS_ONLN), 1);
}

/* The watch is worth nothing if it overlooks who really keeps the CPU. */
static void the_watch_sees_a_stall(void **state)
{
	struct watch w;
	__u64 end;

	(void)state;
	watch_start(&w);
	set_priority(SCHED_FIFO, WATCH_PRIO + 1);
	end = vu_now() + STALL_MAX + 10 * MSEC;
	while (vu_now() < end)
		;
	set_priority(SCHED_OTHER, 0);
	watch_stop(&w);
	assert_in_range(w.longest, STALL_MAX, STALL_MAX + 20 * MSEC);
}

/* The last place is taken. */
static void assert_full(const struct fixture *f, const void *page)
{
	assert_int_equal(dma_avail(f->container), 0);
	assert_ret(vu_map_rw(f->container, page, 0, VU_PAGE), -ENOSPC);
	assert_charged(f, NMAPPINGS);
	assert_pinned(f, NMAPPINGS);
}

/* At a cost that grows no faster than log n, and without a stall. */
static void a_million_come_and_go(void **state)
{
	const struct fixture *f = *state;
	unsigned int i, *order = random_order(NMAPPINGS);
	void *page = mem_pages(1);
	struct watch w;

	watch_start(&w);
	map_million(f, page);
	assert_no_stall(&w, "map 1000000");
	assert_full(f, page);

	watch_start(&w);
	for (i = 0; i < NMAPPINGS / 2; i++)
		assert_unmaps(f->container, iova_of(order[i]), VU_PAGE, VU_PAGE);
	assert_no_stall(&w, "unmap 500000 one by one in random order");
	assert_charged(f, NMAPPINGS / 2);
	assert_pinned(f, NMAPPINGS / 2);
	assert_int_equal(dma_avail(f->container), NMAPPINGS / 2);

	watch_start(&w);
	assert_unmaps_all(f->container, TOTAL / 2);
	assert_no_stall(&w, "unmap the other 500000 with one UNMAP_ALL");
	assert_nothing_held(f);
	assert_int_equal(dma_avail(f->container), NMAPPINGS);
	vu_free(page, VU_PAGE);
	free(order);
}

static void dirty_pages(const struct fixture *f, __u32 flags, const struct vfio_bitmap *bitmap)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} arg = {
		.head.argsz = sizeof(arg),
		.head.flags = flags,
		.get.iova = BASE,
		.get.size = TOTAL,
	};

	if (bitmap)
		arg.get.bitmap = *bitmap;
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DIRTY_PAGES, &arg), 0);
}

/*
 * With all mapped: dirty tracking, addresses taken back, and the end. The in-tree
 * module reports all dirty pages without a scheduling point (390 ms).
 */
static void a_million_are_closed_with_the_container(void **state)
{
	const size_t bitmap_size = NMAPPINGS / 8;
	struct fixture *f = *state;
	void *page = mem_pages(1);
	struct vfio_bitmap bitmap = {
		.pgsize = VU_PAGE,
		.size = bitmap_size,
		.data = calloc(1, bitmap_size),
	};
	struct watch w;
	size_t i;

	map_range(f, page, 0, NMAPPINGS);
	assert_full(f, page);

	watch_start(&w);
	dirty_pages(f, VFIO_IOMMU_DIRTY_PAGES_FLAG_START, NULL);
	assert_no_stall(&w, "track dirty pages of 1000000");
	watch_start(&w);
	dirty_pages(f, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, &bitmap);
	assert_no_stall(&w, "report dirty pages of 1000000");
	for (i = 0; i < bitmap_size; i++)
		assert_int_equal(((const unsigned char *)bitmap.data)[i], 0xff);
	watch_start(&w);
	dirty_pages(f, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP, NULL);
	assert_no_stall(&w, "stop tracking dirty pages of 1000000");

	watch_start(&w);
	assert_ok(vu_unmap(f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL,
			   NULL));
	assert_no_stall(&w, "take the addresses of 1000000 back");

	watch_start(&w);
	fixture_close(f);
	assert_no_stall(&w, "close a container with 1000000");
	assert_nothing_held(f);
	vu_free(page, VU_PAGE);
	free(bitmap.data);
}

#define TEST_MILLION(name) cmocka_unit_test_setup_teardown(name, setup_million, test_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_preempts_itself_as_little_as_it_can),
		cmocka_unit_test(the_watch_sees_a_stall),
		TEST_MILLION(a_million_come_and_go),
		TEST_MILLION(a_million_are_closed_with_the_container),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
