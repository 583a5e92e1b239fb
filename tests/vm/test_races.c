// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process does to itself, and the kernel to it, while its memory is being
 * mapped: it changes its address space, forks, executes another program, runs out of
 * memory, is asked for GET_INFO and dirty pages. Nothing leaks, nothing hangs; and
 * the module can't be unloaded meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "testlib.h"

#define BASE		(6 * GIB)
#define SIZE		(16 * MIB)
#define ROUND_US	800000

/**
 * struct churn - a thread that maps and unmaps one range, again and again
 * @mappings: MAPs that succeeded
 * @odd: the first result that no race explains
 */
struct churn {
	pthread_t thread;
	int container;
	char *mem;
	__u64 iova;
	unsigned int mappings;
	int odd;
};

static bool stop;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/* Memory that is not there, or not all, is what the other thread is for. */
static void *map_and_unmap(void *arg)
{
	struct churn *c = arg;

	while (!stopped()) {
		int ret = vu_map_rw(c->container, c->mem, c->iova, SIZE);

		if (!ret) {
			c->mappings++;
			ret = vu_unmap(c->container, c->iova, SIZE, 0, NULL);
		}
		if (ret && ret != -EFAULT && ret != -ENOMEM && !c->odd)
			c->odd = ret;
	}
	return NULL;
}

static void churn_start(struct churn *c, const struct fixture *f, unsigned int nth)
{
	*c = (struct churn) { .container = f->container, .iova = BASE + nth * GIB };
	c->mem = mem_reserve(SIZE);
	assert_ptr_not_equal(mmap(c->mem, SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED);
	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&c->thread, NULL, map_and_unmap, c), 0);
}

static void churn_stop(struct churn *c)
{
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(c->thread, NULL), 0);
	assert_int_equal(c->odd, 0);
	assert_true(c->mappings > 0);
	vu_free(c->mem, SIZE);
}

/* Do @disturb(c) for a while, as another thread maps. */
static void disturb(void **state, void (*disturb_once)(struct churn *c))
{
	const struct fixture *f = *state;
	const __u64 deadline = vu_now() + ROUND_US * 1000ULL;
	struct churn c;

	churn_start(&c, f, 0);
	while (vu_now() < deadline)
		disturb_once(&c);
	churn_stop(&c);
	assert_nothing_held(f);
}

static void drop_pages(struct churn *c)
{
	madvise(c->mem + SIZE / 4, SIZE / 2, MADV_DONTNEED);
}

static void pages_are_dropped_under_a_map(void **state)
{
	disturb(state, drop_pages);
}

static void replace_memory(struct churn *c)
{
	munmap(c->mem, SIZE / 2);
	mmap(c->mem, SIZE / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
	     -1, 0);
}

static void memory_is_replaced_under_a_map(void **state)
{
	disturb(state, replace_memory);
}

static void move_memory(struct churn *c)
{
	static char *elsewhere;

	if (!elsewhere)
		elsewhere = mem_reserve(SIZE);
	mremap(c->mem + SIZE / 2, SIZE / 4, SIZE / 4, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
	mremap(elsewhere, SIZE / 4, SIZE / 4, MREMAP_MAYMOVE | MREMAP_FIXED, c->mem + SIZE / 2);
}

static void memory_is_moved_under_a_map(void **state)
{
	disturb(state, move_memory);
}

static void protect_memory(struct churn *c)
{
	mprotect(c->mem, SIZE / 2, PROT_READ);
	mprotect(c->mem, SIZE / 2, PROT_READ | PROT_WRITE);
}

static void memory_is_protected_under_a_map(void **state)
{
	disturb(state, protect_memory);
}

/* A child that writes takes copies of pages that are pinned, or does not. */
static void fork_and_write(struct churn *c)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		memset(c->mem, 1, SIZE / 8);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void the_process_forks_under_a_map(void **state)
{
	disturb(state, fork_and_write);
}

/* Everything that looks, as others map and unmap. */
static void look(struct churn *c)
{
	struct vfio_iommu_type1_dirty_bitmap dirty = {
		.argsz = sizeof(dirty), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
	};
	struct info info;

	info_get(c->container, &info);
	assert_int_equal(ioctl(c->container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 1);
	assert_int_equal(ioctl(c->container, VFIO_IOMMU_DIRTY_PAGES, &dirty), 0);
	dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
	assert_int_equal(ioctl(c->container, VFIO_IOMMU_DIRTY_PAGES, &dirty), 0);
}

static void looking_is_safe_under_a_map(void **state)
{
	disturb(state, look);
}

/* The container outlives exec; the memory that was mapped does not. */
static void exec_amid_a_map(void **state)
{
	const struct fixture *f = *state;
	int round, status;
	pid_t pid;

	for (round = 0; round < 10; round++) {
		pid = fork();
		if (!pid) {
			struct churn c = { .container = f->container, .iova = BASE };

			c.mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
			child_check(!pthread_create(&c.thread, NULL, map_and_unmap, &c));
			usleep(2000 * round);
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
		/* What it had mapped is the container's. */
		vu_unmap(f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL);
		assert_nothing_held(f);
	}
}

#define CGROUP_BYTES	"67108864"

/* Who has mapped memory and is killed for want of more leaves nothing behind. */
static void the_owner_is_killed_for_want_of_memory(void **state)
{
	const struct fixture *f = *state;
	int status;
	pid_t pid;

	kmsg_hush(true);
	cgroup_begin(CGROUP_BYTES);
	pid = fork();
	if (!pid) {
		struct churn c = { .container = f->container, .iova = BASE };
		char *more;

		cgroup_enter();
		c.mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
		__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
		child_check(!pthread_create(&c.thread, NULL, map_and_unmap, &c));
		more = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		child_check(more != MAP_FAILED);
		memset(more, 1, GIB);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	cgroup_end();
	kmsg_hush(false);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	vu_unmap(f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL);
	assert_nothing_held(f);
}

static void the_module_stays_while_it_is_used(void **state)
{
	(void)state;
	assert_int_equal(syscall(SYS_delete_module, "vfio_iommu_type1", O_NONBLOCK), -1);
	assert_int_equal(errno, EWOULDBLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(pages_are_dropped_under_a_map),
		TEST_V2(memory_is_replaced_under_a_map),
		TEST_V2(memory_is_moved_under_a_map),
		TEST_V2(memory_is_protected_under_a_map),
		TEST_V2(the_process_forks_under_a_map),
		TEST_V2(looking_is_safe_under_a_map),
		TEST_V2(exec_amid_a_map),
		TEST_V2(the_owner_is_killed_for_want_of_memory),
		TEST_V2(the_module_stays_while_it_is_used),
	};

	return cmocka_run_group_tests_name("races", tests, NULL, NULL);
}
