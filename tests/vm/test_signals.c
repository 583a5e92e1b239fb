// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs that get a signal every millisecond, as from a profiler: no request ends
 * because of one.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define SIZE		(4 * VU_2M)
#define PERIOD_US	1000

/*
 * A process that has so many areas of memory, and a container of its parent, which it tells
 * whether a signal came.
 */
struct profiled {
	int container;
	unsigned long areas;
	unsigned int *interrupted;
};

static unsigned int ticks;

static void tick(int sig)
{
	(void)sig;
	/* What begins again for ever would never come to an end. */
	if (__atomic_add_fetch(&ticks, 1, __ATOMIC_RELAXED) > 60 * 1000000 / PERIOD_US)
		_exit(1);
}

static unsigned int count_ticks(void)
{
	return __atomic_load_n(&ticks, __ATOMIC_RELAXED);
}

static void set_timer(unsigned int period_us)
{
	const struct itimerval timer = {
		.it_interval.tv_usec = period_us, .it_value.tv_usec = period_us,
	};

	child_check(!setitimer(ITIMER_REAL, &timer, NULL));
}

/* Neighbours that are accessed in different ways do not become one. */
static void make_areas(unsigned long n)
{
	char *mem = mmap(NULL, n * VU_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	unsigned long i;

	child_check(mem != MAP_FAILED);
	for (i = 0; i < n; i += 2) {
		mem[i * VU_PAGE] = 1;
		child_check(!mprotect(mem + i * VU_PAGE, VU_PAGE, PROT_READ));
	}
}

static char *child_memory(void)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	child_check(mem != MAP_FAILED);
	return mem;
}

static void begin_profile(const struct profiled *p)
{
	const struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };

	make_areas(p->areas);
	child_check(!sigaction(SIGALRM, &action, NULL));
	set_timer(PERIOD_US);
}

static void register_and_unregister(void *arg)
{
	const struct profiled *p = arg;
	char *mem = child_memory();
	int ret;

	begin_profile(p);
	ret = vu_register(p->container, mem, SIZE, 0);
	if (ret)
		fprintf(stderr, "# REGISTER: %s\n", strerror(-ret));
	child_check(!ret);
	child_check(!vu_unregister(p->container, mem, SIZE));
	set_timer(0);
	*p->interrupted += count_ticks() > 0;
}

static void map_and_unmap(void *arg)
{
	const struct profiled *p = arg;
	char *mem = child_memory();
	unsigned int n;

	begin_profile(p);
	/* As many of them as it takes to be interrupted for certain. */
	for (n = 0; count_ticks() < 500 || n < 20; n++) {
		__u64 unmapped = 0;

		child_check(!vu_map_rw(p->container, mem, BASE, SIZE));
		child_check(!vu_unmap(p->container, BASE, SIZE, 0, &unmapped));
		child_check(unmapped == SIZE);
	}
	set_timer(0);
}

/* The first time of a process takes longer than the time between two signals. */
static void registering_goes_on(void **state)
{
	static const struct {
		unsigned long areas, times;
	} cases[] = { { 2000, 20 }, { 30000, 3 } };
	const struct fixture *f = *state;
	unsigned int i, n, *interrupted;

	interrupted = mmap(NULL, VU_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			   0);
	assert_ptr_not_equal(interrupted, MAP_FAILED);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct profiled p = { f->container, cases[i].areas, interrupted };

		*interrupted = 0;
		for (n = 0; n < cases[i].times; n++) {
			at_step("%lu areas, time %u", p.areas, n);
			in_child(register_and_unregister, &p);
		}
		/* A fast machine may be done before the first signal, but not each time. */
		assert_true(*interrupted > 0);
	}
	munmap(interrupted, VU_PAGE);
}

static void mapping_goes_on(void **state)
{
	const struct fixture *f = *state;
	struct profiled p = { f->container, 2000, NULL };

	in_child(map_and_unmap, &p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(registering_goes_on),
		TEST_V2(mapping_goes_on),
	};

	return cmocka_run_group_tests_name("signals", tests, NULL, NULL);
}
