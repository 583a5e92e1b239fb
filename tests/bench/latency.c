// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long do MAP and UNMAP keep the CPU from others, and how long does a MAP go on
 * after it was killed? Runs in a VM with one CPU, whose clock counts instructions.
 *
 * A thread of real-time priority wants to run every tick; how late it gets to is the
 * longest stretch without a scheduling point, and a few microseconds for the switch.
 * For the second question a child, which shares this process's memory but not its
 * signals, is killed while it maps; what it had done until then has to be undone.
 *
 *	late MEMORY TARGET OPERATION NS TOTAL_NS
 *	killed MEMORY TARGET AFTER_NS NS
 */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../vm/vfio_user.h"
#include "lib.h"

#define SIZE		(512 * MIB)
#define IOVA		(4 * VU_1G)
#define TICK_NS		100000
#define CHILD_STACK	65536

static struct {
	int container;
	char *mem;
} job;

/* ---- Who wants the CPU ---- */

static __u64 latest;
static bool stop;

static void sleep_until(__u64 ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void *watch(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		err(1, "SCHED_FIFO");
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		__u64 due = vu_now() + TICK_NS, late;

		sleep_until(due);
		late = vu_now() - due;
		if (late > latest)
			latest = late;
	}
	return arg;
}

/* ---- What is measured ---- */

static void do_map(void)
{
	must("map", vu_map_rw(job.container, job.mem, IOVA, SIZE));
}

static void do_unmap(void)
{
	must("unmap", vu_unmap(job.container, IOVA, SIZE, 0, NULL));
}

static void measure(const char *memory, const char *target, const char *operation,
		    void (*run)(void))
{
	__u64 start = vu_now();

	latest = 0;
	run();
	printf("late %s %s %s %llu %llu\n", memory, target, operation, latest, vu_now() - start);
}

static int map_in_child(void *arg)
{
	(void)arg;
	vu_map_rw(job.container, job.mem, IOVA, SIZE);
	_exit(0);
}

/* Kill a MAP some time after it began; nothing may be left of it. */
static void kill_map(const char *memory, const char *target, __u64 after)
{
	static _Alignas(16) char stack[CHILD_STACK];
	long locked = vu_locked_kib(), pinned = vu_foll_pinned();
	__u64 start = vu_now();
	int status;
	pid_t pid;

	pid = clone(map_in_child, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	if (pid < 0)
		err(1, "clone");
	sleep_until(start + after);
	start = vu_now();
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		err(1, "waitpid");
	if (!WIFSIGNALED(status))
		errx(1, "the MAP of %s was over after %llu ns", memory, after);
	printf("killed %s %s %llu %llu\n", memory, target, after, vu_now() - start);
	if (vu_locked_kib() != locked || vu_foll_pinned() != pinned)
		errx(1, "a killed MAP left %ld KiB locked, %ld pages pinned",
		     vu_locked_kib() - locked, vu_foll_pinned() - pinned);
	/* Nor is the IOVA taken. */
	do_map();
	do_unmap();
}

static void run(const char *memory, enum vu_backing backing, const __u64 *kill_after)
{
	static const struct {
		const char *name;
		const char *module;
	} targets[] = { { "intree", TYPE1_INTREE }, { "ours", TYPE1_OURS } };
	pthread_t thread;
	struct vu_pci edu;
	const __u64 *after;
	size_t i;

	job.mem = vu_alloc(backing, SIZE);
	if (!job.mem)
		err(1, "%s: no memory", memory);
	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		type1_select(targets[i].module);
		job.container = must("edu", vu_open(&edu, VU_EDU_VENDOR, VU_EDU_DEVICE, 0,
						    VFIO_TYPE1v2_IOMMU));
		stop = false;
		if (pthread_create(&thread, NULL, watch, NULL))
			errx(1, "no thread");
		measure(memory, targets[i].name, "map", do_map);
		measure(memory, targets[i].name, "unmap", do_unmap);
		stop = true;
		pthread_join(thread, NULL);
		for (after = kill_after; *after; after++)
			kill_map(memory, targets[i].name, *after);
		vu_pci_close(&edu);
		close(job.container);
	}
	vu_free(job.mem, SIZE);
}

int main(void)
{
	static const __u64 after[] = { 5000000, 20000000, 80000000, 0 };
	static const __u64 never[] = { 0 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	run("4k-fragmented", VU_SCATTERED, after);
	/* Is over too soon to be killed. */
	run("thp", VU_THP, never);
	return 0;
}
