// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that wait for user memory, which comes when the test says so: meanwhile
 * groups come and go, others map, read bitmaps and debugfs, the container is closed or
 * the process killed, and none of it waits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "debugfs.h"

#define BASE		(5 * GIB)
#define OTHER		(6 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		64UL
#define SIZE		PAGES(NPAGES)
/* What nobody has to wait for takes no longer, also in an emulated machine. */
#define SOON_NS		2000000000ULL

/* ---- Requests ---- */

static int dirty_ioctl(int container, __u32 flags)
{
	struct vfio_iommu_type1_dirty_bitmap head = { .argsz = sizeof(head), .flags = flags };

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &head) ? -errno : 0;
}

static int dirty_get(int container, __u64 iova, void *words)
{
	struct {
		__u32 argsz, flags;
		struct vfio_iommu_type1_dirty_bitmap_get range;
	} get = {
		.argsz = sizeof(get), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		.range = {
			.iova = iova, .size = SIZE,
			.bitmap = { .pgsize = VU_PAGE, .size = NPAGES / 8, .data = words },
		},
	};

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &get) ? -errno : 0;
}

static int dirty_unmap(int container, __u64 iova, void *words)
{
	struct {
		__u32 argsz, flags;
		__u64 iova, size;
		struct vfio_bitmap bitmap;
	} unmap = {
		.argsz = sizeof(unmap), .flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
		.iova = iova, .size = SIZE,
		.bitmap = { .pgsize = VU_PAGE, .size = NPAGES / 8, .data = words },
	};

	return ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
}

/* A request at BASE that needs late memory. */
struct request {
	const char *name;
	int (*call)(int container, void *mem);
	bool maps;	/* what the others are for: there is a mapping at BASE already */
	int stopped;	/* what comes of it if tracking stops meanwhile */
	int closed;	/* and if the container is closed */
};

static int request_get(int container, void *mem)
{
	return dirty_get(container, BASE, mem);
}

static int request_unmap(int container, void *mem)
{
	return dirty_unmap(container, BASE, mem);
}

static int request_map(int container, void *mem)
{
	return vu_map_rw(container, mem, BASE, SIZE);
}

static const struct request requests[] = {
	{ "GET_BITMAP", request_get, false, -EINVAL, 0 },
	{ "UNMAP with a bitmap", request_unmap, false, -EINVAL, 0 },
	{ "MAP", request_map, true, 0, -ENODEV },
};

/* Up to 6.2 pinning does not wait for it, but fails. */
static unsigned int nrequests(void)
{
	return kernel_at_least(6, 3) ? 3 : 2;
}

struct waiter {
	const struct request *request;
	int container;
	struct late late;
	char *mem;	/* what is mapped, but for MAP */
	pthread_t thread;
	int ret;
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;

	w->ret = w->request->call(w->container, w->late.mem);
	return NULL;
}

/* Up to where it waits; false if something went wrong. */
static bool waiter_start(struct waiter *w, const struct request *request, int container)
{
	void *late = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*w = (struct waiter) { .request = request, .container = container };
	w->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return w->mem != MAP_FAILED && late != MAP_FAILED && late_begin(&w->late, late, SIZE) &&
	       (request->maps || !vu_map_rw(container, w->mem, BASE, SIZE)) &&
	       !dirty_ioctl(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START) &&
	       !pthread_create(&w->thread, NULL, waiter_thread, w) && late_wait(&w->late);
}

static int waiter_result(struct waiter *w)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += TEST_TIMEOUT;
	assert_int_equal(pthread_timedjoin_np(w->thread, NULL, &deadline), 0);
	return w->ret;
}

static void waiter_free(struct waiter *w)
{
	late_end(&w->late);
	vu_free(w->mem, SIZE);
}

/* ---- What others do meanwhile ---- */

/* Each file of each container, as root reads them. */
static int read_debugfs(void)
{
	unsigned int ids[DEBUGFS_IDS], n = debugfs_ids(ids, DEBUGFS_IDS), k, nr = 0;
	char buf[4096];
	int fd;

	for (k = 0; k < n * DEBUGFS_FILES; k++) {
		fd = debugfs_open(ids[k / DEBUGFS_FILES], debugfs_files[k % DEBUGFS_FILES]);
		if (fd < 0)
			continue;
		nr += read(fd, buf, sizeof(buf)) >= 0;
		close(fd);
	}
	return nr ? 0 : -ENOENT;
}

struct others {
	struct fixture *f;
	void (*body)(struct others *o);
	char *mem;
	const char *failed;	/* the first that failed or took too long */
	int ret;
	__u64 ns;
	pthread_t thread;
};

static void others_did(struct others *o, const char *what, int ret, __u64 begun)
{
	__u64 ns = vu_now() - begun;

	if (o->failed || (!ret && ns < SOON_NS))
		return;
	o->failed = what;
	o->ret = ret;
	o->ns = ns;
}

#define others_do(o, call) do { \
	__u64 begun_ = vu_now(); \
	others_did(o, #call, call, begun_); \
} while (0)

static void come_and_go(struct others *o)
{
	int container = o->f->container;
	struct vu_pci *pci = &o->f->pci[1];
	__u64 word;

	others_do(o, vu_group_open(pci));
	others_do(o, vu_group_attach(pci, container));
	others_do(o, vu_map_rw(container, o->mem, OTHER, SIZE));
	others_do(o, dirty_ioctl(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START));
	others_do(o, dirty_get(container, OTHER, &word));
	others_do(o, vu_unmap(container, OTHER, SIZE, 0, NULL));
	others_do(o, read_debugfs());
	others_do(o, vu_group_detach(pci));
	others_do(o, vu_group_attach(pci, container));
}

static void stop_and_close(struct others *o)
{
	others_do(o, dirty_ioctl(o->f->container, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP));
	others_do(o, vu_group_detach(&o->f->pci[1]));
}

static void close_all(struct others *o)
{
	fixture_close_device(o->f, 0);
	others_do(o, close(o->f->container));
}

static void *others_thread(void *arg)
{
	struct others *o = arg;
	__u64 begun = vu_now();

	o->body(o);
	others_did(o, "all together", 0, begun);
	return NULL;
}

/*
 * Others do something while a request waits.  If they have to wait, too, the memory comes,
 * so that the test goes on; and fails.
 */
static void meanwhile(struct fixture *f, const struct waiter *w, void (*body)(struct others *o))
{
	struct others o = { .f = f, .body = body, .mem = mem_pages(NPAGES) };
	struct timespec deadline;
	bool hangs;

	assert_int_equal(pthread_create(&o.thread, NULL, others_thread, &o), 0);
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += TEST_TIMEOUT;
	hangs = pthread_timedjoin_np(o.thread, NULL, &deadline);
	if (hangs) {
		late_come(&w->late, 0, SIZE);
		pthread_join(o.thread, NULL);
	}
	if (o.failed)
		print_error("%s waits: %s: %d, after %llu ms\n", w->request->name, o.failed,
			    o.ret, o.ns / 1000000);
	vu_free(o.mem, SIZE);
	assert_false(hangs);
	assert_null(o.failed);
}

/* ---- Tests ---- */

static void nobody_waits_with_it(void **state)
{
	struct fixture *f = *state;
	struct waiter w;
	unsigned int i;

	for (i = 0; i < nrequests(); i++) {
		at_step("%s", requests[i].name);
		assert_true(waiter_start(&w, &requests[i], f->container));
		meanwhile(f, &w, come_and_go);
		late_come(&w.late, 0, SIZE);
		assert_ok(waiter_result(&w));
		fixture_open_device(f, 1);
		if (requests[i].maps) {
			assert_charged(f, NPAGES);
			assert_dma_reaches(f, 0, w.late.mem, BASE);
			assert_dma_reaches(f, 1, w.late.mem + SIZE - VU_PAGE,
					   BASE + SIZE - VU_PAGE);
		} else {
			/* Both devices write wherever they like. */
			assert_int_equal(*(__u64 *)w.late.mem, ~0ULL);
		}
		assert_int_equal(vu_unmap(f->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL), 0);
		assert_nothing_held(f);
		fixture_close_device(f, 1);
		waiter_free(&w);
	}
}

static void tracking_may_stop(void **state)
{
	struct fixture *f = *state;
	struct waiter w;
	unsigned int i;

	for (i = 0; i < nrequests(); i++) {
		at_step("%s", requests[i].name);
		fixture_attach(f, 1);
		assert_true(waiter_start(&w, &requests[i], f->container));
		meanwhile(f, &w, stop_and_close);
		late_come(&w.late, 0, SIZE);
		assert_ret(waiter_result(&w), requests[i].stopped);
		/* What was mapped still is. */
		assert_charged(f, NPAGES);
		assert_dma_reaches(f, 0, requests[i].maps ? w.late.mem : w.mem, BASE);
		assert_unmaps_all(f->container, SIZE);
		fixture_close_device(f, 1);
		waiter_free(&w);
	}
}

static void the_container_may_be_closed(void **state)
{
	struct fixture *f = *state;
	struct waiter w;
	unsigned int i;

	for (i = 0; i < nrequests(); i++) {
		at_step("%s", requests[i].name);
		assert_true(waiter_start(&w, &requests[i], f->container));
		meanwhile(f, &w, close_all);
		f->container = -1;
		late_come(&w.late, 0, SIZE);
		assert_ret(waiter_result(&w), requests[i].closed);
		wait_pinned(f, 0);
		assert_nothing_held(f);
		waiter_free(&w);
		fixture_open_container(f);
		fixture_attach(f, 0);
		assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
		fixture_open_device(f, 0);
	}
}

/* In a child: let a request wait for ever. */
static void wait_for_ever(const struct request *request, int says)
{
	struct vu_pci pci;
	int container = vu_open(&pci, VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);
	struct waiter w;

	child_check(container >= 0);
	child_check(waiter_start(&w, request, container));
	child_check(write(says, "", 1) == 1);
	pause();
}

static void a_kill_ends_it(void **state)
{
	const struct fixture *f = *state;
	int ends[2], status, i;
	char byte;
	pid_t pid;

	for (i = 0; i < (int)nrequests(); i++) {
		__u64 begun;

		at_step("%s", requests[i].name);
		assert_int_equal(pipe(ends), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			wait_for_ever(&requests[i], ends[1]);
			_exit(1);
		}
		close(ends[1]);
		assert_int_equal(read(ends[0], &byte, 1), 1);
		close(ends[0]);
		begun = vu_now();
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(vu_now() - begun < SOON_NS);
		assert_true(WIFSIGNALED(status));
		wait_pinned(f, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(nobody_waits_with_it),
		TEST_V2(tracking_may_stop),
		TEST_V2(the_container_may_be_closed),
		TEST_CLOSED(a_kill_ends_it),
	};

	return cmocka_run_group_tests_name("waits", tests, NULL, NULL);
}
