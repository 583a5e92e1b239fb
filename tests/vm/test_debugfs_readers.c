// SPDX-License-Identifier: GPL-2.0-only
/*
 * Readers of debugfs beside everything else, how long others wait for them, and what they read
 * of a container that somebody keeps locked.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "emu/emu_user.h"
#include "debugfs.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

/* ---- Readers beside everything else ---- */

struct crowd {
	const struct fixture *f;
	unsigned int nth;
	char *mem;
	atomic_bool *stop;
	unsigned int rounds;
	int ret;
};

static void *map_and_unmap(void *arg)
{
	struct crowd *c = arg;
	const __u64 iova = BASE + c->nth * GIB, size = PAGES(2048);
	__u64 unmapped;

	for (; !atomic_load(c->stop) && !c->ret; c->rounds++) {
		c->ret = vu_map_rw(c->f->container, c->mem, iova, size);
		if (!c->ret)
			c->ret = vu_unmap(c->f->container, iova, size, 0, &unmapped);
		if (!c->ret && unmapped != size)
			c->ret = -ENODATA;
	}
	return NULL;
}

/* A container of its own, which comes and goes. */
static void *open_and_close(void *arg)
{
	struct crowd *c = arg;
	struct vu_pci pci = c->f->pci[1];
	int container;

	for (; !atomic_load(c->stop) && !c->ret; c->rounds++) {
		container = vu_container_open();
		c->ret = vu_group_open(&pci);
		if (!c->ret)
			c->ret = vu_group_attach(&pci, container);
		if (!c->ret)
			c->ret = vu_set_iommu(container, VFIO_TYPE1v2_IOMMU);
		if (!c->ret)
			c->ret = vu_map_rw(container, c->mem, BASE, PAGES(2048));
		vu_pci_close(&pci);
		close(container);
	}
	return NULL;
}

/* Every file of whatever container is there; one that goes away ends with EIO. */
static void *read_all(void *arg)
{
	unsigned int ids[DEBUGFS_IDS], n, k;
	struct crowd *c = arg;
	char buf[3000];
	ssize_t got;
	int fd;

	for (; !atomic_load(c->stop) && !c->ret; c->rounds++) {
		n = debugfs_ids(ids, DEBUGFS_IDS);
		for (k = 0; k < n * DEBUGFS_FILES; k++) {
			fd = debugfs_open(ids[k / DEBUGFS_FILES],
					  debugfs_files[k % DEBUGFS_FILES]);
			if (fd < 0)
				continue;
			while ((got = read(fd, buf, sizeof(buf))) > 0)
				;
			if (got < 0 && errno != EIO)
				c->ret = -errno;
			close(fd);
		}
	}
	return NULL;
}

static void reading_disturbs_nobody(void **state)
{
	static void *(*const bodies[])(void *arg) = {
		map_and_unmap, map_and_unmap, open_and_close, read_all, read_all,
	};
	const struct fixture *f = *state;
	const size_t size = PAGES(2048);
	pthread_t threads[ARRAY_SIZE(bodies)];
	struct crowd crowd[ARRAY_SIZE(bodies)];
	const struct timespec length = { .tv_sec = 8 };
	char *still = mem_scattered(size);
	atomic_bool stop = false;
	unsigned int i;

	/* One with a run list that is always there to be read. */
	assert_ok(vu_map_rw(f->container, still, BASE - GIB, size));
	for (i = 0; i < ARRAY_SIZE(bodies); i++) {
		crowd[i] = (struct crowd) {
			.f = f, .nth = i, .mem = mem_scattered(size), .stop = &stop,
		};
		assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], &crowd[i]), 0);
	}
	nanosleep(&length, NULL);
	atomic_store(&stop, true);
	for (i = 0; i < ARRAY_SIZE(bodies); i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		at_step("thread %u after %u rounds", i, crowd[i].rounds);
		assert_ok(crowd[i].ret);
		assert_true(crowd[i].rounds > 3);
	}
	assert_charged(f, 2048);
	assert_unmaps_all(f->container, size);
	assert_nothing_held(f);
	for (i = 0; i < ARRAY_SIZE(bodies); i++)
		vu_free(crowd[i].mem, size);
	vu_free(still, size);
}

/* ---- How long others wait for a reader ---- */

#define SAMPLES		1000
/* One round of so many has to be right: the machine has other things to do, too. */
#define ROUNDS		5
#define MANY_MAPS	20000U
#define MANY_REGIONS	5000U

/* From the shortest to the longest, what is in the middle, and where the last tenth begins. */
struct times {
	__u64 half;
	__u64 most;
};

static int compare_ns(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static struct times times_of(__u64 ns[SAMPLES])
{
	qsort(ns, SAMPLES, sizeof(ns[0]), compare_ns);
	return (struct times) { ns[SAMPLES / 2], ns[SAMPLES - SAMPLES / 10] };
}

/* As many mappings of one page, from BASE on. */
static void map_many(const struct fixture *f, char *mem)
{
	unsigned int i;

	for (i = 0; i < MANY_MAPS; i++)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * PAGES(1), PAGES(1)));
}

static __u64 time_to_read_status(void)
{
	int fd = debugfs_open(debugfs_newest(NULL), "status");
	__u64 ns[SAMPLES];
	unsigned int i;
	char buf[1024];

	assert_true(fd >= 0);
	for (i = 0; i < SAMPLES; i++) {
		__u64 start = vu_now();

		assert_true(pread(fd, buf, sizeof(buf), 0) > 0);
		ns[i] = vu_now() - start;
	}
	close(fd);
	return times_of(ns).half;
}

/* Its sums are kept, not counted. */
static void status_does_not_look_at_mappings(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1);
	__u64 few, many;
	unsigned int i;

	few = time_to_read_status();
	map_many(f, mem);
	many = time_to_read_status();
	for (i = 1; i < ROUNDS && many > 3 * few; i++)
		many = time_to_read_status();
	if (many > 3 * few)
		fail_msg("%llu ns without mappings, %llu ns with many", few, many);
	assert_unmaps_all(f->container, MANY_MAPS * PAGES(1));
	vu_free(mem, PAGES(1));
}

/* Reads a file of the newest container, again and again. */
struct reading {
	const char *name;
	atomic_bool stop;
};

static void *read_again(void *arg)
{
	struct reading *r = arg;

	while (!atomic_load(&r->stop))
		free(debugfs_read(r->name));
	return NULL;
}

/* Requests about a page that undo each other. */
typedef void (*requests_fn_t)(const struct fixture *f, char *mem);

static void map_one(const struct fixture *f, char *mem)
{
	assert_ok(vu_map_rw(f->container, mem, BASE - GIB, PAGES(1)));
	assert_unmaps(f->container, BASE - GIB, PAGES(1), PAGES(1));
}

static void register_one(const struct fixture *f, char *mem)
{
	assert_ok(vu_register(f->container, mem, PAGES(1), 0));
	map_one(f, mem);
	assert_ok(vu_unregister(f->container, mem, PAGES(1)));
}

/* How long requests take while a file is read. */
static struct times time_requests(const struct fixture *f, requests_fn_t requests, char *mem,
				  const char *name)
{
	struct reading reading = { .name = name };
	__u64 ns[SAMPLES];
	pthread_t thread;
	unsigned int i;

	assert_int_equal(pthread_create(&thread, NULL, read_again, &reading), 0);
	for (i = 0; i < SAMPLES; i++) {
		__u64 start = vu_now();

		requests(f, mem);
		ns[i] = vu_now() - start;
	}
	atomic_store(&reading.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return times_of(ns);
}

/*
 * Against who reads what needs no lock and is as busy. One request in ten may find a lock
 * held by a CPU of this VM that the host has stopped, for so long.
 */
#define STOPPED_NS	5000000ULL

static void assert_does_not_wait(const struct fixture *f, requests_fn_t requests, char *mem,
				 const char *name)
{
	struct times without, with;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		without = time_requests(f, requests, mem, "counters");
		with = time_requests(f, requests, mem, name);
		if (with.half <= 2 * without.half && with.most <= 4 * without.most + STOPPED_NS)
			return;
	}
	fail_msg("%s: half take up to %llu ns instead of %llu, most up to %llu instead of %llu",
		 name, with.half, without.half, with.most, without.most);
}

static void nobody_waits_for_a_reader(void **state)
{
	static const char *const names[] = { "status", "domains", "iova", "mappings", "progress" };
	const struct fixture *f = *state;
	char *mem = mem_pages(1), *more = mem_pages(MANY_REGIONS + 1);
	unsigned int i;

	map_many(f, mem);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		assert_does_not_wait(f, map_one, mem, names[i]);
	assert_unmaps_all(f->container, MANY_MAPS * PAGES(1));
	for (i = 0; i < MANY_REGIONS; i++)
		assert_ok(vu_register(f->container, more + PAGES(i), PAGES(1), 0));
	assert_does_not_wait(f, register_one, more + PAGES(MANY_REGIONS), "regions");
	for (i = 0; i < MANY_REGIONS; i++)
		assert_ok(vu_unregister(f->container, more + PAGES(i), PAGES(1)));
	vu_free(mem, PAGES(1));
	vu_free(more, PAGES(MANY_REGIONS + 1));
}

/* ---- A container that somebody keeps locked ---- */

#define TOOL		"vfio-type1-stat"
/* Files wait for a second; the rest is for a slow machine. */
#define FILE_NS		(5 * 1000000000ULL / 2)
#define LOCKED_SIZE	(64 * MIB)
/* Below what AMD-Vi can't map; longer than any test takes. */
#define LOCKED_MAPS	12000U

/*
 * A child attaches a group to a container with mappings and no IOMMU yet: all of them are
 * pinned and mapped then, and nobody has the container's lock meanwhile. Returns the child.
 */
static pid_t lock_container(const struct emu_fixture *e, unsigned int id)
{
	unsigned int i;
	__u64 pin_calls = 0;
	pid_t pid;

	assert_ok(vu_group_open(&e->f->pci[0]));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* It is killed before it is done. */
		vu_group_attach(&e->f->pci[0], e->f->container);
		_exit(1);
	}
	for (i = 0; i < TEST_TIMEOUT * 100 && !pin_calls; i++) {
		int fd = debugfs_open(id, "counters");
		char *text = debugfs_read_fd(fd, 1 << 15);

		pin_calls = debugfs_number(text, "pin_calls");
		free(text);
		close(fd);
		usleep(10000);
	}
	assert_true(pin_calls > 0);
	return pid;
}

static void unlock_container(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Not before: all that was said is of a container that was locked. */
	assert_true(WIFSIGNALED(status));
}

/* What the tool says; to be freed. *ns gets how long it takes. */
static char *run_tool(const char *args, __u64 *ns)
{
	__u64 start = vu_now();
	char command[64], *text;
	FILE *f;

	snprintf(command, sizeof(command), TOOL " %s", args);
	f = popen(command, "r");
	assert_non_null(f);
	text = debugfs_read_fd(fileno(f), 1 << 15);
	assert_int_equal(pclose(f), 0);
	*ns = vu_now() - start;
	return text;
}

static void assert_file_ends(unsigned int id, const char *name, bool busy)
{
	int fd = debugfs_open(id, name);
	__u64 start = vu_now();
	char *text;

	assert_true(fd >= 0);
	text = debugfs_read_fd(fd, 1 << 15);
	if (vu_now() - start > FILE_NS)
		fail_msg("%s took %llu ms", name, (vu_now() - start) / 1000000);
	if (busy != !strcmp(text, "busy\n"))
		fail_msg("%s says:\n%s", name, text);
	free(text);
	close(fd);
}

/* Who maps for long keeps no reader waiting, and no tool from the next container. */
static void a_locked_container_is_busy(void **state)
{
	static const char *const locked[] = { "domains", "iova", "mappings", "regions" };
	static const char *const free_ones[] = { "status", "counters", "progress" };
	const struct emu_fixture *e = *state;
	struct fixture *f = e->f;
	char *mem = mem_scattered(LOCKED_SIZE), *text;
	unsigned int id = debugfs_newest(NULL), i;
	__u64 before, ns;
	int container;
	pid_t pid;

	/* Who hangs is killed. */
	alarm(4 * TEST_TIMEOUT);
	container = vu_container_open();
	assert_true(container >= 0);
	assert_ok(vu_group_open(&f->pci[1]));
	assert_ok(vu_group_attach(&f->pci[1], container));
	assert_ok(vu_set_iommu(container, VFIO_TYPE1v2_IOMMU));
	assert_ok(vu_map_rw(container, mem, BASE, PAGES(1)));
	free(run_tool("", &before));

	for (i = 0; i < LOCKED_MAPS; i++)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * LOCKED_SIZE, LOCKED_SIZE));
	pid = lock_container(e, id);
	for (i = 0; i < ARRAY_SIZE(locked); i++)
		assert_file_ends(id, locked[i], true);
	for (i = 0; i < ARRAY_SIZE(free_ones); i++)
		assert_file_ends(id, free_ones[i], false);
	text = run_tool("--json", &ns);
	assert_non_null(strstr(text, "\"busy\": true"));
	assert_non_null(strstr(text, "\"busy\": false"));
	assert_non_null(strstr(strstr(text, "\"busy\": false"), "\"mapping\": \"0x140000000\""));
	free(text);
	text = run_tool("", &ns);
	assert_non_null(strstr(text, " busy    -    - "));
	assert_non_null(strstr(text, " 4K      4K  100    0    0 "));
	free(text);
	/* It waits for one file. */
	if (ns > 2 * before + FILE_NS)
		fail_msg("%s took %llu ms, and %llu before", TOOL, ns / 1000000, before / 1000000);
	unlock_container(pid);
	alarm(0);
	vu_pci_close(&f->pci[1]);
	close(container);
	for (i = 0; i < ARRAY_SIZE(locked); i++)
		assert_file_ends(id, locked[i], false);
	vu_free(mem, LOCKED_SIZE);
}

/* An unmap of what a reader is looking at waits for it, and succeeds. */
static void unmap_waits_for_a_reader(void **state)
{
	const struct fixture *f = *state;
	const size_t size = 256 * MIB;
	char *mem = mem_scattered(size);
	atomic_bool stop = false;
	struct crowd reader = { .f = f, .stop = &stop };
	pthread_t thread;
	unsigned int i;

	assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
	for (i = 0; i < 4; i++) {
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		assert_ret(vu_map_rw(f->container, mem, BASE, size), -EEXIST);
		debugfs_assert_only_mapping(mem, BASE, size);
		assert_unmaps(f->container, BASE, size, size);
		assert_nothing_held(f);
	}
	atomic_store(&stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_ok(reader.ret);
	vu_free(mem, size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(reading_disturbs_nobody),
		TEST_V2(unmap_waits_for_a_reader),
		TEST_V2(status_does_not_look_at_mappings),
		TEST_V2(nobody_waits_for_a_reader),
		TEST_EMU(a_locked_container_is_busy),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module has no debugfs");
		return 0;
	}
	return cmocka_run_group_tests_name("debugfs_readers", tests, NULL, NULL);
}
