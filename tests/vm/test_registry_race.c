// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: everything at once, and processes that go at any time.
 *
 * The program executes itself; main() says with what arguments.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "registered.h"

/* ---- Races ---- */

#define RACE_US		2000000
#define RACE_PAGES	300UL
#define RACE_THREADS	6

/* What all threads work on: three regions side by side, two containers. */
struct race {
	int container[2];
	char *mem;
	bool stop;
	unsigned int done[RACE_THREADS];
	int odd;
};

struct racer {
	struct race *race;
	unsigned int nr;
	pthread_t thread;
};

static bool race_on(struct race *r)
{
	return !__atomic_load_n(&r->stop, __ATOMIC_RELAXED);
}

/*
 * One of the answers that the others can cause. There is always memory at every
 * address, and enough of it, and no limit.
 */
static void race_answer(struct race *r, int ret, int a, int b)
{
	if (ret && ret != a && ret != b)
		__atomic_store_n(&r->odd, ret, __ATOMIC_RELAXED);
}

static void *race_thread(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->race;
	unsigned int seed = me->nr, turn;

	for (turn = 0; race_on(r); turn++) {
		const unsigned int which = rand_r(&seed) % 3;
		char *mem = r->mem + which * PAGES(RACE_PAGES);
		const int container = r->container[rand_r(&seed) % 2];
		const __u64 iova = BASE + me->nr * GIB, size = PAGES(1 + rand_r(&seed) % 50);
		int ret;

		switch (me->nr) {
		case 0:	/* registers, as often as others unregister */
			ret = vu_register(container, mem, PAGES(RACE_PAGES), 0);
			race_answer(r, ret, -ESTALE, 0);
			break;
		case 1:	/* unregisters */
			ret = vu_unregister(container, mem, PAGES(RACE_PAGES));
			race_answer(r, ret, -ENOENT, -EBUSY);
			break;
		case 2:	/* changes memory */
			mem += PAGES(rand_r(&seed) % RACE_PAGES);
			if (turn % 2)
				ret = madvise(mem, VU_PAGE, MADV_DONTNEED);
			else
				ret = mmap(mem, VU_PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
				      mem;
			break;
		default: /* map and unmap */
			mem += PAGES(rand_r(&seed) % (RACE_PAGES - 50));
			ret = vu_map_rw(container, mem, iova, size);
			race_answer(r, ret, -ESTALE, 0);
			if (!ret)
				ret = vu_unmap(container, iova, size, 0, NULL);
		}
		r->done[me->nr] += !ret;
	}
	return NULL;
}

static void race_start(struct race *r, struct racer *racers, int first, int second)
{
	unsigned int i;

	memset(r, 0, sizeof(*r));
	r->container[0] = first;
	r->container[1] = second;
	r->mem = mmap(NULL, PAGES(3 * RACE_PAGES), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < RACE_THREADS; i++) {
		racers[i] = (struct racer) { .race = r, .nr = i };
		if (r->mem == MAP_FAILED ||
		    pthread_create(&racers[i].thread, NULL, race_thread, &racers[i]))
			abort();
	}
}

static void everything_at_once(void **state)
{
	struct fixture *f = *state;
	int second = second_container(f, VFIO_TYPE1v2_IOMMU);
	struct racer racers[RACE_THREADS];
	struct race r;
	unsigned int i, left = 0;

	race_start(&r, racers, f->container, second);
	usleep(RACE_US);
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < RACE_THREADS; i++) {
		assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
		at_step("thread %u", i);
		assert_true(r.done[i] > 0);
	}
	assert_int_equal(r.odd, 0);
	for (i = 0; i < 3; i++)
		while (!vu_unregister(second, r.mem + i * PAGES(RACE_PAGES), PAGES(RACE_PAGES)))
			left++;
	assert_nothing_held(f);
	print_message("%u registered, %u of them left\n", r.done[0], left);
	vu_free(r.mem, PAGES(3 * RACE_PAGES));
	fixture_close_device(f, 1);
	close(second);
}

/* In a child, until it is killed, or, if it is to end by exec, for a while. */
static void race_until_the_end(struct child_case *c, useconds_t us, bool exec)
{
	struct racer racers[RACE_THREADS];
	int first = vu_container_open();
	struct race r;

	child_check(!vu_group_open(&c->f->pci[0]) && !vu_group_attach(&c->f->pci[0], first));
	child_check(!vu_set_iommu(first, VFIO_TYPE1v2_IOMMU));
	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	race_start(&r, racers, first, c->second);
	if (exec) {
		usleep(us);
		execl("/proc/self/exe", "test_registry_race", "exec-nothing", "", NULL);
		child_check(false);
	}
	pause();
}

/*
 * The process dies, or becomes another one, in the middle of everything; one container
 * outlives that, one does not.
 */
static void gone_at_any_time(void **state)
{
	struct child_case c;
	unsigned int i;

	child_case_init(&c, *state);
	for (i = 0; i < 24; i++) {
		const useconds_t us = 20000 + 25000 * i;
		const bool exec = i & 2;
		int status;
		pid_t pid;

		at_step("turn %u", i);
		c.second = second_container(c.f, 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			race_until_the_end(&c, us, exec);
			_exit(1);
		}
		if (!exec) {
			usleep(us);
			assert_int_equal(kill(pid, SIGKILL), 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(exec ? WIFEXITED(status) && !WEXITSTATUS(status) : WIFSIGNALED(status));
		/* What was mapped in the one that is left goes with it. */
		if (i % 2)
			vu_unmap(c.second, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL);
		else
			close(c.second);
		fixture_close_device(c.f, 1);
		wait_pinned(c.f, 0);
		if (i % 2)
			close(c.second);
	}
	child_case_end(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(everything_at_once),
		TEST_CLOSED(gone_at_any_time),
	};

	/* What a test of exec() goes on with. */
	if (argc == 3 && !strcmp(argv[1], "exec-nothing"))
		return 0;
	return cmocka_run_group_tests_name("registry_race", tests, NULL, NULL);
}
