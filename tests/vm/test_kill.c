// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals: a process that is killed amid a long MAP or UNMAP leaves no pinned
 * page behind, and other signals don't disturb either.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "testlib.h"

#define BASE	(5 * GIB)

/* The child with a container of its own, and what it says about its progress. */
static pid_t victim;
static int victim_pipe, victim_says;

static int victim_open(void)
{
	struct vu_pci pci;
	int container = vu_open(&pci, VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);

	child_check(container >= 0);
	return container;
}

/* Untouched 4K pages, so that a map has all the work of getting them. */
static char *victim_memory(size_t size)
{
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	child_check(mem != MAP_FAILED);
	child_check(!madvise(mem, size, MADV_NOHUGEPAGE));
	return mem;
}

static void victim_say(void)
{
	child_check(write(victim_says, "", 1) == 1);
}

/* True if the child has said something since the last call. */
static bool victim_has_said(void)
{
	char byte;

	return read(victim_pipe, &byte, 1) == 1;
}

/* Let body() run in a child; at its end the child says so, and waits. */
static void victim_start(void (*body)(void))
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	victim_pipe = ends[0];
	victim_says = ends[1];
	victim = fork();
	assert_true(victim >= 0);
	if (!victim) {
		body();
		victim_say();
		pause();
		_exit(1);
	}
	close(victim_says);
}

/* Kill it; true if body() was still running. */
static bool victim_kill(void)
{
	bool amid;
	int status;

	assert_int_equal(kill(victim, SIGKILL), 0);
	assert_int_equal(waitpid(victim, &status, 0), victim);
	victim = 0;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	amid = !victim_has_said();
	close(victim_pipe);
	return amid;
}

/* A victim that a failed test has left would keep its group. */
static int kill_teardown(void **state)
{
	if (victim)
		victim_kill();
	return test_teardown(state);
}

static void wait_until_pinned(const struct fixture *f, long at_least)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;
	long pinned;

	do {
		usleep(5000);
		pinned = vu_foll_pinned() - f->pinned;
		if (vu_now() > deadline)
			fail_msg("%ld pages are pinned, waiting for %ld", pinned, at_least);
	} while (pinned < at_least);
}

static void wait_until_said(void)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;

	while (!victim_has_said()) {
		usleep(1000);
		if (vu_now() > deadline)
			fail_msg("the child does not get on");
	}
}

static void map_2g(void)
{
	vu_map_rw(victim_open(), victim_memory(2 * GIB), BASE, 2 * GIB);
}

static void killed_amid_a_map(void **state)
{
	const long npages = 2 * GIB / VU_PAGE;
	const long kill_at[] = { 1, npages / 32, npages / 8 };
	const struct fixture *f = *state;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kill_at); i++) {
		victim_start(map_2g);
		wait_until_pinned(f, kill_at[i]);
		assert_true(victim_kill());
		assert_nothing_held(f);
	}
}

static void *map_256m(void *arg)
{
	static unsigned int nth;
	const int *container = arg;
	__u64 iova = BASE + __atomic_fetch_add(&nth, 1, __ATOMIC_RELAXED) * GIB;

	vu_map_rw(*container, victim_memory(256 * MIB), iova, 256 * MIB);
	return NULL;
}

static void map_in_two_threads(void)
{
	int container = victim_open();
	pthread_t thread;

	child_check(!pthread_create(&thread, NULL, map_256m, &container));
	map_256m(&container);
	child_check(!pthread_join(thread, NULL));
}

static void killed_amid_two_maps_at_once(void **state)
{
	const struct fixture *f = *state;

	victim_start(map_in_two_threads);
	wait_until_pinned(f, 20000);
	assert_true(victim_kill());
	assert_nothing_held(f);
}

static void map_and_unmap_256m(void)
{
	int container = victim_open();

	child_check(!vu_map_rw(container, victim_memory(256 * MIB), BASE, 256 * MIB));
	victim_say();
	child_check(!vu_unmap(container, BASE, 256 * MIB, 0, NULL));
}

/* An unmap isn't cut short; it is over before the process is gone. */
static void killed_amid_an_unmap(void **state)
{
	const struct fixture *f = *state;
	unsigned int i;
	bool amid;

	/* Now and then the unmap is over before the signal comes. */
	for (i = 0, amid = false; i < 10 && !amid; i++) {
		victim_start(map_and_unmap_256m);
		wait_until_said();
		amid = victim_kill();
		assert_nothing_held(f);
	}
	assert_true(amid);
}

static void map_64m_and_stay(void)
{
	child_check(!vu_map_rw(victim_open(), victim_memory(64 * MIB), BASE, 64 * MIB));
}

static void killed_with_a_mapping(void **state)
{
	const struct fixture *f = *state;

	victim_start(map_64m_and_stay);
	wait_until_said();
	assert_pinned(f, 64 * MIB / VU_PAGE);
	victim_kill();
	assert_nothing_held(f);
}

static unsigned int nalarms;

static void count_alarm(int sig)
{
	(void)sig;
	__atomic_fetch_add(&nalarms, 1, __ATOMIC_RELAXED);
}

static void a_handled_signal_does_not_disturb(void **state)
{
	const struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { 0 };
	const size_t size = 64 * MIB;
	const struct fixture *f = *state;
	unsigned int rounds = 0;
	char *mem;

	assert_true(signal(SIGALRM, count_alarm) != SIG_ERR);
	nalarms = 0;
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	/* Until some have come, and most of the time is spent in the kernel. */
	while (__atomic_load_n(&nalarms, __ATOMIC_RELAXED) < 20) {
		mem = mem_reserve(size);
		assert_int_equal(mprotect(mem, size, PROT_READ | PROT_WRITE), 0);
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		assert_unmaps(f->container, BASE, size, size);
		vu_free(mem, size);
		rounds++;
	}
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_true(rounds > 0);
}

#define TEST_KILL(name) cmocka_unit_test_setup_teardown(name, test_setup_closed, kill_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_KILL(killed_amid_a_map),
		TEST_KILL(killed_amid_two_maps_at_once),
		TEST_KILL(killed_amid_an_unmap),
		TEST_KILL(killed_with_a_mapping),
		TEST_V2(a_handled_signal_does_not_disturb),
	};

	return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
