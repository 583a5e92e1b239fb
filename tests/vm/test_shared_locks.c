// SPDX-License-Identifier: GPL-2.0-only
/*
 * What all processes share: whatever one of them does, and however little of the CPU it has
 * for that, another one can open a container (see "Locks that processes share" in
 * Documentation/internals.rst).
 *
 * The first process has very many mappings of registered memory, and one thread that is
 * refused, again and again. That thread has what others that spin leave over of the first CPU,
 * so what it does takes it very long, and who waits for it waits as long. Meanwhile, on the
 * second CPU, the process opens and closes containers, and so does the one that is watched.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "testlib.h"

#define MANY		40000U
#define BASE		(4 * GIB)
#define SPINNERS	2
/* For how long containers are opened. */
#define OPEN_NS		8000000000ULL
/* How long one may take, as a multiple of what it takes if nobody is refused: on average, ... */
#define SLOWER_MAX	6
/* ... and at most, where this is what a host that has much to do explains. */
#define LONGEST_MAX	20
#define LONGEST_US	1000000

/**
 * struct hog - the process that has much to do
 * @container: with MANY mappings of the first page of @mem, then one of the second
 * @other: an edu's group, to open containers with
 * @refused: how often
 */
struct hog {
	int container;
	struct vu_pci *other;
	char *mem;
	unsigned int refused;
};

/* Open a container, with a group in it, and close it: how long that took, in ns, or 0. */
static __u64 open_and_close(struct vu_pci *pci)
{
	const __u64 begun = vu_now();
	int container = vu_container_open();
	bool opened;

	if (container < 0)
		return 0;
	opened = !vu_group_open(pci) && !vu_group_attach(pci, container) &&
		 !vu_set_iommu(container, VFIO_TYPE1v2_IOMMU);
	vu_pci_close(pci);
	close(container);
	return opened ? vu_now() - begun : 0;
}

static bool run_on(unsigned int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return !sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *keep_opening(void *arg)
{
	struct hog *hog = arg;

	for (;;)
		child_check(open_and_close(hog->other));
	return NULL;
}

static void *keep_spinning(void *arg)
{
	child_check(run_on(0));
	for (;;)
		;
	return arg;
}

static void *be_refused(void *arg)
{
	const struct sched_param param = {};
	struct hog *hog = arg;

	child_check(run_on(0) && !sched_setscheduler(0, SCHED_IDLE, &param));
	for (;;) {
		child_check(vu_unregister(hog->container, hog->mem + VU_PAGE, VU_PAGE) == -EBUSY);
		__atomic_add_fetch(&hog->refused, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void start(void *(*fn)(void *arg), void *arg)
{
	pthread_t thread;

	child_check(!pthread_create(&thread, NULL, fn, arg));
}

/* In a child, until it is killed. */
static void hog(struct fixture *f, int ready, bool refused)
{
	struct hog hog = { .other = &f->pci[1] };
	unsigned int i;

	hog.container = vu_container_open();
	child_check(!vu_group_open(&f->pci[0]) && !vu_group_attach(&f->pci[0], hog.container));
	child_check(!vu_set_iommu(hog.container, VFIO_TYPE1v2_IOMMU));
	hog.mem = mmap(NULL, 2 * VU_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	child_check(hog.mem != MAP_FAILED);
	for (i = 0; i < 2; i++)
		child_check(!vu_register(hog.container, hog.mem + i * VU_PAGE, VU_PAGE, 0));
	for (i = 0; i < MANY; i++)
		child_check(!vu_map_rw(hog.container, hog.mem, BASE + i * VU_PAGE, VU_PAGE));
	child_check(!vu_map_rw(hog.container, hog.mem + VU_PAGE, BASE + i * VU_PAGE, VU_PAGE));
	if (refused) {
		start(be_refused, &hog);
		while (!__atomic_load_n(&hog.refused, __ATOMIC_RELAXED))
			usleep(1000);
	}
	start(keep_opening, &hog);
	for (i = 0; i < SPINNERS; i++)
		start(keep_spinning, &hog);
	child_check(write(ready, "", 1) == 1);
	pause();
}

/* Times to open and close a container, in us. */
struct opened {
	__u64 mean;
	__u64 longest;
};

/* The same, while another process has much to do. */
static struct opened open_beside(struct fixture *f, bool refused)
{
	__u64 begun, ns, sum = 0;
	struct opened times = {};
	unsigned int opens = 0;
	struct vu_pci pci;
	int ready[2], status;
	char byte;
	pid_t pid;

	assert_ok(vu_pci_find(&pci, VU_TESTDEV_VENDOR, VU_TESTDEV_DEVICE, 0));
	assert_ok(vu_pci_bind(&pci));
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		hog(f, ready[1], refused);
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	for (begun = vu_now(); !opens || vu_now() - begun < OPEN_NS; opens++) {
		ns = open_and_close(&pci);
		assert_true(ns);
		sum += ns;
		if (ns / 1000 > times.longest)
			times.longest = ns / 1000;
	}
	times.mean = sum / opens / 1000;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	wait_pinned(f, 0);
	print_message("%s: %u opened, mean %llu us, longest %llu us\n",
		      refused ? "refused" : "not refused", opens, times.mean, times.longest);
	return times;
}

/* An UNREGISTER that is refused keeps no other process waiting. */
static void a_refusal_keeps_no_other_process_waiting(void **state)
{
	struct opened alone, beside;

	assert_true(sysconf(_SC_NPROCESSORS_ONLN) > 1);
	assert_true(run_on(1));
	alone = open_beside(*state, false);
	beside = open_beside(*state, true);
	if (beside.mean > SLOWER_MAX * alone.mean ||
	    beside.longest > LONGEST_MAX * alone.longest + LONGEST_US)
		fail_msg("%llu us, at most %llu; while others are refused %llu, %llu",
			 alone.mean, alone.longest, beside.mean, beside.longest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CLOSED(a_refusal_keeps_no_other_process_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
