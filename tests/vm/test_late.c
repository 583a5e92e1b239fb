// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ioctls that come late: on a container whose last group is leaving, or has left, or
 * that is only being set up, by threads that do not wait for each other. They get what
 * a container without a driver gives, or what a whole one does; and memory that was
 * freed is not touched, which slub_debug tells. Also as the module goes.
 *
 * VM: --smp 2 --append slub_debug=FZPU
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define NTHREADS	3
#define NPAGES		4UL
#define SIZE		(NPAGES * VU_PAGE)
#define UNLOADS		5

/**
 * struct caller - a thread that makes one call after the other
 * @mem: memory of its own
 * @iova: where it maps that
 * @loaded: the module stays loaded, so that the core knows what it can do
 * @calls: how many were made
 * @served: how many of them had a container behind them
 * @odd: the first answer that nothing explains, and @odd_call which call gave it
 */
struct caller {
	pthread_t thread;
	int container;
	char *mem;
	__u64 iova;
	bool loaded;
	unsigned long calls;
	unsigned long served;
	int odd;
	const char *odd_call;
};

static bool stop;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/*
 * EINVAL is without a driver, ENODEV of a container that was closed after the call had
 * found it, EEXIST and EBUSY if what the call before mapped or registered is still there.
 */
static void note(struct caller *c, const char *call, int ret, int busy)
{
	c->calls++;
	c->served += !ret;
	if (ret && ret != -EINVAL && ret != -ENODEV && ret != busy && !c->odd) {
		c->odd = ret;
		c->odd_call = call;
	}
}

static int dirty_pages(int container, __u32 flags)
{
	struct vfio_iommu_type1_dirty_bitmap dirty = { .argsz = sizeof(dirty), .flags = flags };

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &dirty) ? -errno : 0;
}

static int get_info(int container)
{
	struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };

	return ioctl(container, VFIO_IOMMU_GET_INFO, &info) ? -errno : 0;
}

static void *call_all(void *arg)
{
	struct caller *c = arg;
	int i;

	while (!stopped()) {
		for (i = 0; i < 8; i++)
			note(c, "GET_INFO", get_info(c->container), 0);
		note(c, "MAP_DMA", vu_map_rw(c->container, c->mem, c->iova, SIZE), -EEXIST);
		note(c, "UNMAP_DMA", vu_unmap(c->container, c->iova, SIZE, 0, NULL), 0);
		note(c, "DIRTY_PAGES START", dirty_pages(c->container, 1), 0);
		note(c, "REGISTER_MEMORY", vu_register(c->container, c->mem, SIZE, 0), 0);
		note(c, "MAP_DMA of it", vu_map_rw(c->container, c->mem, c->iova, SIZE), -EEXIST);
		note(c, "UNMAP_DMA of it", vu_unmap(c->container, c->iova, SIZE, 0, NULL), 0);
		note(c, "UNREGISTER_MEMORY", vu_unregister(c->container, c->mem, SIZE), -ENOENT);
		note(c, "DIRTY_PAGES STOP", dirty_pages(c->container, 2), 0);
		if (ioctl(c->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1 &&
		    c->loaded)
			note(c, "CHECK_EXTENSION", -EIO, 0);
	}
	return NULL;
}

/* Nothing but the shortest call, as often as it goes. */
static void *call_get_info(void *arg)
{
	struct caller *c = arg;

	while (!stopped())
		note(c, "GET_INFO", get_info(c->container), 0);
	return NULL;
}

static void callers_start(struct caller *callers, int container, bool loaded)
{
	unsigned int i;

	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	for (i = 0; i < NTHREADS; i++) {
		callers[i] = (struct caller) {
			.container = container, .iova = BASE + i * GIB, .mem = mem_pages(NPAGES),
			.loaded = loaded,
		};
		assert_int_equal(pthread_create(&callers[i].thread, NULL,
						i ? call_get_info : call_all, &callers[i]), 0);
	}
}

/* Return: calls that had a container behind them. */
static unsigned long callers_stop(struct caller *callers)
{
	unsigned long served = 0, calls = 0;
	unsigned int i;

	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < NTHREADS; i++) {
		assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
		vu_free(callers[i].mem, SIZE);
		served += callers[i].served;
		calls += callers[i].calls;
	}
	for (i = 0; i < NTHREADS; i++)
		if (callers[i].odd)
			fail_msg("%s: error %d", callers[i].odd_call, -callers[i].odd);
	printf("# %lu calls, %lu of them of a container\n", calls, served);
	/* Some came in time, and some did not. */
	assert_true(served > 0 && served < calls);
	return served;
}

static void come_and_go(struct fixture *f)
{
	assert_ok(vu_group_attach(&f->pci[0], f->container));
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	assert_ok(vu_group_detach(&f->pci[0]));
}

static void containers_come_and_go_amid_all_calls(void **state)
{
	const char *seconds = getenv("LATE_SECONDS");	/* of tests/vm/check */
	const __u64 end = vu_now() + (atoi(seconds ?: "") ?: 15) * 1000000000ULL;
	struct caller callers[NTHREADS];
	struct fixture *f = *state;
	unsigned int rounds = 0;

	f->container = vu_container_open();
	assert_true(f->container >= 0);
	assert_ok(vu_group_open(&f->pci[0]));
	callers_start(callers, f->container, true);
	for (; vu_now() < end; rounds++)
		come_and_go(f);
	callers_stop(callers);
	printf("# %u containers\n", rounds);
	assert_true(rounds > 10);
}

static void load(void)
{
	struct utsname uts;
	char path[256];

	assert_int_equal(uname(&uts), 0);
	snprintf(path, sizeof(path), "/lib/modules/%s/updates/vfio_iommu_type1.ko", uts.release);
	module_load(path);
}

/*
 * The module goes at once after the container, as the callers go on: some of them have still
 * the last reference to that, and are on their way out of the module when they drop it.
 */
static void the_module_goes_amid_calls(void **state)
{
	struct caller callers[NTHREADS];
	struct fixture *f = *state;
	unsigned int i;

	f->container = vu_container_open();
	assert_true(f->container >= 0);
	assert_ok(vu_group_open(&f->pci[0]));
	callers_start(callers, f->container, false);
	for (i = 0; i < UNLOADS; i++) {
		come_and_go(f);
		while (syscall(SYS_delete_module, "vfio_iommu_type1", O_NONBLOCK))
			assert_int_equal(errno, EWOULDBLOCK);
		load();
	}
	callers_stop(callers);
}

/* ---- Who pays for containers that cannot go ---- */

#define NSTOPPED	64
/*
 * What a container takes, with slub_debug and two CPUs, at least: 12800 bytes of spare memory,
 * and some 6800 of its own and of its counters, which make the difference.
 */
#define CONTAINER_BYTES	16000

/* Each thread waits in its call for memory that does not come. */
struct stopped {
	pthread_t thread;
	int container;
	void *page;
};

static void *stop_in_call(void *arg)
{
	struct stopped *s = arg;

	ioctl(s->container, VFIO_IOMMU_GET_INFO, s->page);
	return NULL;
}

/* The cgroup's charge, without what is only waiting to be freed. */
static long settled_charge(void)
{
	sleep(1);
	child_check(!vu_write_file("/proc/sys/vm/drop_caches", "2"));
	return cgroup_kernel();
}

static void child_attach(const struct fixture *f)
{
	child_check(!vu_group_attach(&f->pci[0], f->container));
	child_check(!vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
}

/*
 * What it takes the cgroup to stop threads in a call, each of a container of its own, or all
 * of one, which have been released then.
 */
static long cost_of_stopped(const struct fixture *f, char *mem, bool each)
{
	static struct stopped threads[NSTOPPED];
	struct late late;
	unsigned int i;
	long before;

	child_check(late_begin(&late, mem, NSTOPPED * VU_PAGE));
	before = settled_charge();
	/* Both open as many. */
	for (i = 1; i < NSTOPPED && !each; i++) {
		child_attach(f);
		child_check(!vu_group_detach(&f->pci[0]));
	}
	for (i = 0; i < NSTOPPED; i++) {
		threads[i] = (struct stopped) {
			.container = f->container, .page = mem + i * VU_PAGE,
		};
		if (each || !i)
			child_attach(f);
		child_check(!pthread_create(&threads[i].thread, NULL, stop_in_call, &threads[i]));
		child_check(late_wait(&late));
		if (each || i == NSTOPPED - 1)
			child_check(!vu_group_detach(&f->pci[0]));
	}
	return settled_charge() - before;
}

static void stop_threads(void *arg)
{
	const size_t size = 2 * NSTOPPED * VU_PAGE;
	const struct fixture *f = arg;
	long each, one;
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	child_check(mem != MAP_FAILED);
	cgroup_enter();
	one = cost_of_stopped(f, mem, false);
	each = cost_of_stopped(f, mem + size / 2, true);
	fprintf(stderr, "# %d threads cost %ld bytes, with a container each %ld\n", NSTOPPED, one,
		each);
	child_check(each - one >= (NSTOPPED - 1) * CONTAINER_BYTES);
}

/* A container lives as long as a call of it, and is its opener's to pay for. */
static void containers_that_cannot_go_are_charged(void **state)
{
	struct fixture *f = *state;

	f->container = vu_container_open();
	assert_true(f->container >= 0);
	assert_ok(vu_group_open(&f->pci[0]));
	cgroup_begin(NULL);
	in_child(stop_threads, f);
	cgroup_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CLOSED(containers_come_and_go_amid_all_calls),
		TEST_CLOSED(containers_that_cannot_go_are_charged),
		TEST_CLOSED(the_module_goes_amid_calls),
	};

	return cmocka_run_group_tests_name("late", tests, NULL, NULL);
}
