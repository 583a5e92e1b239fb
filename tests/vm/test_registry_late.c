// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory, and memory that takes its time: nobody waits for who waits for it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "registered.h"

/* ---- Memory that takes its time ---- */

#define LATE_IOVA	(7 * GIB)

/* A request of a thread that has to wait for a page. */
struct late_request {
	int container;
	char *mem;
	int ret;
	pthread_t thread;
};

static void *late_register(void *arg)
{
	struct late_request *l = arg;

	l->ret = vu_register(l->container, l->mem, SIZE, 0);
	return NULL;
}

static void *late_map(void *arg)
{
	struct late_request *l = arg;

	l->ret = vu_map_rw(l->container, l->mem, LATE_IOVA, SIZE);
	return NULL;
}

/* Start one of them, up to where it waits. */
static bool late_start(struct late_request *l, void *(*request)(void *arg), int container,
		       const struct late *late)
{
	l->container = container;
	l->mem = late->mem;
	return !pthread_create(&l->thread, NULL, request, l) && late_wait(late);
}

static int late_result(struct late_request *l)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += TEST_TIMEOUT;
	assert_int_equal(pthread_timedjoin_np(l->thread, NULL, &deadline), 0);
	return l->ret;
}

/* Other requests, of the same process and container. */
static void assert_goes_on(const struct fixture *f, int container)
{
	char *mem = private_memory();

	assert_ok(vu_register(container, mem, SIZE, 0));
	assert_ok(vu_map_rw(container, mem, BASE, SIZE));
	assert_dma_reaches(f, 0, mem, BASE);
	assert_ret(vu_unregister(container, mem, SIZE), -EBUSY);
	assert_unmaps(container, BASE, SIZE, SIZE);
	assert_ok(vu_unregister(container, mem, SIZE));
	vu_free(mem, SIZE);
}

static void register_by_its_container(void *arg)
{
	struct child_case *c = arg;

	child_check(!vu_register(c->f->container, c->mem, SIZE, 0));
	child_check(!vu_map_rw(c->f->container, c->mem, BASE, SIZE));
	child_check(!vu_unmap(c->f->container, BASE, SIZE, 0, NULL));
	child_check(!vu_unregister(c->f->container, c->mem, SIZE));
}

/* While a REGISTER waits for memory others go on: the process's, and others'. */
static void registering_keeps_nobody_waiting(void **state)
{
	struct late_request first, second;
	struct fixture *f = *state;
	struct child_case c;
	struct late late;

	child_case_init(&c, f);
	assert_true(late_begin(&late, mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE));
	if (!kernel_at_least(6, 3)) {
		static const char why[] = "page 0.*: its userfaultfd has yet to provide it";
		int log = kmsg_open();

		/* Pinning can't wait there, and says what for. */
		assert_ret(vu_register(f->container, late.mem, SIZE, 0), -EFAULT);
		assert_ret(vu_map_rw(f->container, late.mem, BASE, SIZE), -EFAULT);
		assert_int_equal(kmsg_count(log, why), 2);
		close(log);
		late_end(&late);
		child_case_end(&c);
		return;
	}
	assert_true(late_start(&first, late_register, f->container, &late));
	assert_goes_on(f, f->container);
	/* Both wait for the same memory: it is registered twice, and charged once. */
	assert_true(late_start(&second, late_register, f->container, &late));
	late_come(&late, 0, SIZE);
	assert_ok(late_result(&first));
	assert_ok(late_result(&second));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_charged(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_nothing_held(f);

	/* Nothing is registered yet: another process may have the container. */
	assert_int_equal(madvise(late.mem, SIZE, MADV_DONTNEED), 0);
	assert_true(late_start(&first, late_register, f->container, &late));
	in_child(register_by_its_container, &c);
	late_come(&late, 0, SIZE);
	assert_ret(late_result(&first), -ENODEV);
	assert_nothing_held(f);
	late_end(&late);
	child_case_end(&c);
}

/* The same where it waits to see whether what is registered is still the same. */
static void registering_again_keeps_nobody_waiting(void **state)
{
	struct late_request again;
	struct fixture *f = *state;
	struct late late;

	assert_true(late_begin(&late, private_memory(), SIZE));
	assert_ok(vu_register(f->container, late.mem, SIZE, 0));
	assert_int_equal(madvise(late.mem + PAGES(100), PAGES(10), MADV_DONTNEED), 0);
	assert_true(late_start(&again, late_register, f->container, &late));
	assert_goes_on(f, f->container);
	/* Without the region there is nothing left to be the same: it registers what is there. */
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_charged(f, NPAGES);
	late_come(&late, PAGES(100), PAGES(10));
	assert_ok(late_result(&again));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_nothing_held(f);
	assert_ret(vu_unregister(f->container, late.mem, SIZE), -ENOENT);

	/* The last container goes at once, and so does the memory, whoever looks at it. */
	assert_ok(vu_register(f->container, late.mem, SIZE, 0));
	assert_int_equal(madvise(late.mem + PAGES(100), PAGES(10), MADV_DONTNEED), 0);
	assert_true(late_start(&again, late_register, f->container, &late));
	fixture_close_device(f, 0);
	assert_nothing_held(f);
	late_come(&late, PAGES(100), PAGES(10));
	assert_ret(late_result(&again), -ENODEV);
	assert_nothing_held(f);
	late_end(&late);
}

/* Registered memory of which pages 100 to 109 have gone, and do not come. */
static bool late_missing(const struct late *late, int container)
{
	return !vu_register(container, late->mem, SIZE, 0) &&
	       !madvise(late->mem + PAGES(100), PAGES(10), MADV_DONTNEED);
}

/* The same where a MAP waits for that, and has begun to use the region. */
static void mapping_keeps_nobody_waiting(void **state)
{
	struct fixture *f = *state;
	struct late_request map;
	int fd = kmsg_open();
	struct late late;

	assert_true(late_begin(&late, private_memory(), SIZE));
	assert_true(late_missing(&late, f->container));
	assert_true(late_start(&map, late_map, f->container, &late));
	assert_ret(vu_unregister(f->container, late.mem, SIZE), -EBUSY);
	assert_logged(fd, "1 mappings use it, one of them 0x1c0000000-0x1c04affff of this");
	assert_goes_on(f, f->container);
	/* Of the same region, too: where nothing changed, and beside what did. */
	assert_ok(vu_map_rw(f->container, late.mem + SIZE - VU_PAGE, 0, VU_PAGE));
	assert_ok(vu_map_rw(f->container, late.mem + PAGES(90), PAGES(1), PAGES(10)));
	assert_dma_reaches(f, 0, late.mem + PAGES(99), PAGES(10));
	assert_unmaps(f->container, 0, PAGES(11), PAGES(11));
	assert_ret(vu_unregister(f->container, late.mem, SIZE), -EBUSY);

	late_come(&late, PAGES(100), PAGES(10));
	assert_ret(late_result(&map), -ESTALE);
	assert_logged(fd, "MAP_DMA iova 0x1c0000000 .* is not what was registered at vaddr");
	assert_charged(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_nothing_held(f);
	assert_ok(vu_map_rw(f->container, late.mem, LATE_IOVA, SIZE));
	assert_dma_reaches(f, 0, late.mem + PAGES(100), LATE_IOVA + PAGES(100));
	assert_unmaps_all(f->container, SIZE);
	late_end(&late);
	close(fd);
}

/* In a child: begin a MAP that nobody ends. */
static void map_for_ever(struct child_case *c)
{
	struct late_request map;
	struct late late;

	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	child_check(late_begin(&late, c->mem, SIZE) && late_missing(&late, c->second));
	child_check(late_start(&map, late_map, c->second, &late));
	child_check(write(c->to_parent[1], "", 1) == 1);
	pthread_join(map.thread, NULL);
}

/* A fatal signal ends it, and leaves nothing of it, nor of the region. */
static void a_kill_ends_a_map_that_waits(void **state)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;
	int fd = kmsg_open(), status;
	struct child_case c;
	pid_t pid, ended;
	char byte;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		map_for_ever(&c);
		_exit(1);
	}
	assert_int_equal(read(c.to_parent[0], &byte, 1), 1);
	assert_pinned(c.f, NPAGES);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	do {
		ended = waitpid(pid, &status, WNOHANG);
		usleep(10000);
	} while (!ended && vu_now() < deadline);
	assert_int_equal(ended, pid);
	assert_true(WIFSIGNALED(status));
	wait_pinned(c.f, 0);
	/* It was ended, not answered. */
	assert_int_equal(kmsg_count(fd, "is not what was registered"), 0);
	/* The container is as good as new. */
	assert_ok(vu_register(c.second, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.second, c.mem, LATE_IOVA, SIZE));
	fixture_open_device(c.f, 1);
	assert_dma_reaches(c.f, 1, c.mem + PAGES(100), LATE_IOVA + PAGES(100));
	fixture_close_device(c.f, 1);
	close(c.second);
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	child_case_end(&c);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(registering_keeps_nobody_waiting),
		TEST_V2(registering_again_keeps_nobody_waiting),
		TEST_V2(mapping_keeps_nobody_waiting),
		TEST_V2(a_kill_ends_a_map_that_waits),
	};

	return cmocka_run_group_tests_name("registry_late", tests, NULL, NULL);
}
