// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is short at any one place: each request is made again and again, and the
 * first, the second, the third and so on of the allocations that it makes in the kernel
 * fails, be it the module's, VFIO's, or the IOMMU driver's. It fails and leaves nothing
 * pinned, charged or mapped, so that it can be made again at once, or does all it should;
 * UNMAP and what else gives back does not fail.
 *
 * The kernel complains if a page is mapped where another one still is.
 *
 * Only on debugging kernels, which have fail-nth: see fault-injection.rst of the kernel's
 * documentation.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../bench/floor/floor.h"
#include "testlib.h"

#define FLOOR_KO	"/vfio_type1_floor.ko"
#define FAULTS_KO	"/vfio_type1_faults.ko"	/* where none fails: emu/faults.c */
#define FAULTS_MAX	2000U
#define NPAGES		700UL		/* more than two tables' worth, with OFFSET */
#define SIZE		(NPAGES * VU_PAGE)
#define NHUGE		4UL
#define HUGE_SIZE	(NHUGE * VU_2M)
#define HUGE_PAGES	(HUGE_SIZE / VU_PAGE)
/* Half a table's reach off: a huge page has no large IOPTE, and takes two tables. */
#define OFFSET		(VU_2M / 2)
/* Each request has IOVA, and so tables, of its own. */
#define IOVA(n)		((8 + (n)) * GIB + OFFSET)
#define ALL		VFIO_DMA_UNMAP_FLAG_ALL
/* What prepare_many() maps, beside huge pages. */
#define MANY_SIZE	(NPAGES / 8 * VU_PAGE)
#define MANY_PAGES	(8 * (NPAGES / 8))

/* ---- Which allocation fails ---- */

static int fail_nth = -1;

/* The nth allocation of this thread from here on fails; with 0, none. */
static void fault_begin(unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	assert_int_equal(pwrite(fail_nth, text, len, 0), len);
}

/* No more. Return: whether it has failed. */
static bool fault_end(void)
{
	char text[16] = "";

	assert_true(pread(fail_nth, text, sizeof(text) - 1, 0) > 0);
	fault_begin(0);
	return !atoi(text);
}

/* All that allocates can fail, also who may wait, and without a word in the log. */
static int faults_setup(void **state)
{
	static const char *const all[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
	};
	char path[128];
	unsigned int i;

	(void)state;
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_nth < 0) {
		print_error("no fail-nth: not a debugging kernel\n");
		return -1;
	}
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", all[i][0]);
		assert_ok(vu_write_file(path, all[i][1]));
	}
	module_load(FLOOR_KO);
	module_load(FAULTS_KO);
	return 0;
}

/* ---- Requests ---- */

struct request;

/**
 * struct work - one request
 * @iova: where to map
 * @mem: memory for that, of @size
 * @second: more of it, SIZE
 * @words: room for a dirty bitmap
 */
struct work {
	struct fixture *f;
	const struct request *r;
	__u64 iova;
	char *mem;
	size_t size;
	char *second;
	__u64 words[HUGE_PAGES / 64];
};

/**
 * struct request - a kind of it
 * @name: for who reads the results
 * @alloc: @size of memory that is mapped
 * @prepare: what is there before, which does not fail
 * @make: the request. Return: 0 or a negative errno
 * @check: it was made
 * @undo: back to where @prepare began
 * @held: pages that are held while it was not made
 * @faults: it allocates so often, at least
 * @certain: it does not fail
 * @any_error: it need not be ENOMEM
 */
struct request {
	const char *name;
	void *(*alloc)(size_t size);
	size_t size;
	void (*prepare)(struct work *w);
	int (*make)(struct work *w);
	void (*check)(struct work *w);
	void (*undo)(struct work *w);
	size_t held;
	unsigned int faults;
	bool certain;
	bool any_error;
};

static void *huge(size_t size)
{
	return mem_huge_runs(size / VU_2M);
}

static void assert_held(const struct work *w, size_t npages)
{
	assert_pinned(w->f, npages);
	assert_charged(w->f, npages);
}

static int make_map(struct work *w)
{
	return vu_map_rw(w->f->container, w->mem, w->iova, w->size);
}

static void prepare_map(struct work *w)
{
	assert_ok(make_map(w));
}

static void check_map(struct work *w)
{
	assert_held(w, w->size / VU_PAGE);
	assert_dma_reaches(w->f, 0, w->mem, w->iova);
	assert_dma_reaches(w->f, 0, w->mem + w->size - VU_PAGE, w->iova + w->size - VU_PAGE);
}

static void undo_map(struct work *w)
{
	assert_unmaps(w->f->container, w->iova, w->size, w->size);
}

static int make_register(struct work *w)
{
	return vu_register(w->f->container, w->mem, w->size, 0);
}

static int make_unregister(struct work *w)
{
	return vu_unregister(w->f->container, w->mem, w->size);
}

static void prepare_register(struct work *w)
{
	assert_ok(make_register(w));
}

static void check_register(struct work *w)
{
	prepare_map(w);
	check_map(w);
	undo_map(w);
	assert_held(w, w->size / VU_PAGE);
}

static void undo_register(struct work *w)
{
	assert_ok(make_unregister(w));
}

static void undo_map_registered(struct work *w)
{
	undo_map(w);
	undo_register(w);
}

static int dirty_pages(struct work *w, __u32 flags)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get range;
	} dirty = {
		.head = { .argsz = sizeof(dirty), .flags = flags },
		.range = {
			.iova = w->iova,
			.size = w->size,
			.bitmap = {
				.pgsize = VU_PAGE,
				.size = (w->size / VU_PAGE + 63) / 64 * 8,
				.data = w->words,
			},
		},
	};

	if (flags != VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP)
		dirty.head.argsz = sizeof(dirty.head);
	return ioctl(w->f->container, VFIO_IOMMU_DIRTY_PAGES, &dirty) ? -errno : 0;
}

static int make_start(struct work *w)
{
	return dirty_pages(w, VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
}

static int make_stop(struct work *w)
{
	return dirty_pages(w, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
}

static int make_get_bitmap(struct work *w)
{
	memset(w->words, 0, sizeof(w->words));
	return dirty_pages(w, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP);
}

static void check_words(struct work *w)
{
	size_t i;

	for (i = 0; i < w->size / VU_PAGE / 64; i++)
		assert_int_equal(w->words[i], ~0ULL);
}

static void prepare_start(struct work *w)
{
	assert_ok(make_start(w));
}

static void prepare_tracked_map(struct work *w)
{
	prepare_map(w);
	prepare_start(w);
}

static void check_start(struct work *w)
{
	assert_ok(make_get_bitmap(w));
	check_words(w);
}

static void check_tracked_map(struct work *w)
{
	check_map(w);
	check_start(w);
}

static void check_stop(struct work *w)
{
	assert_ret(make_get_bitmap(w), -EINVAL);
	assert_held(w, w->size / VU_PAGE);
}

static void undo_tracked_map(struct work *w)
{
	assert_ok(make_stop(w));
	undo_map(w);
}

static void undo_start(struct work *w)
{
	assert_ok(make_stop(w));
}

static int make_unmap(struct work *w)
{
	__u64 unmapped = 0;
	int ret = vu_unmap(w->f->container, w->iova, w->size, 0, &unmapped);

	assert_true(ret || unmapped == w->size);
	return ret;
}

static int make_unmap_bitmap(struct work *w)
{
	struct {
		struct vfio_iommu_type1_dma_unmap head;
		struct vfio_bitmap bitmap;
	} unmap = {
		.head = {
			.argsz = sizeof(unmap),
			.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			.iova = w->iova,
			.size = w->size,
		},
		.bitmap = {
			.pgsize = VU_PAGE,
			.size = (w->size / VU_PAGE + 63) / 64 * 8,
			.data = w->words,
		},
	};

	memset(w->words, 0, sizeof(w->words));
	return ioctl(w->f->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
}

static void check_unmap(struct work *w)
{
	assert_held(w, 0);
	assert_dma_blocked(w->f, 0, w->mem + OFFSET, w->iova + OFFSET);
}

static void check_unmap_bitmap(struct work *w)
{
	check_unmap(w);
	check_words(w);
}

/* What is scattered, and what is not, in many places. */
static void prepare_many(struct work *w)
{
	unsigned int i;

	prepare_map(w);
	for (i = 0; i < 8; i++)
		assert_ok(vu_map_rw(w->f->container, w->second, i * VU_2M, MANY_SIZE));
}

static int make_unmap_all(struct work *w)
{
	return vu_unmap(w->f->container, 0, 0, ALL, NULL);
}

static int make_invalidate(struct work *w)
{
	return vu_unmap(w->f->container, w->iova, w->size, VFIO_DMA_UNMAP_FLAG_VADDR, NULL);
}

static int make_update(struct work *w)
{
	return vu_map(w->f->container, w->mem, w->iova, w->size, VFIO_DMA_MAP_FLAG_VADDR);
}

static void prepare_invalidated(struct work *w)
{
	prepare_map(w);
	assert_ok(make_invalidate(w));
}

static void check_invalidated(struct work *w)
{
	check_map(w);
	assert_ret(make_invalidate(w), -EINVAL);
}

static void undo_invalidated(struct work *w)
{
	assert_ok(make_update(w));
	undo_map(w);
}

static int make_set_iommu(struct work *w)
{
	return vu_set_iommu(w->f->container, VFIO_TYPE1v2_IOMMU);
}

static void prepare_attach(struct work *w)
{
	prepare_many(w);
	assert_ok(vu_group_open(&w->f->pci[1]));
}

/* While this is open no domain takes a second group, which gets one of its own. */
static int not_sharing = -1;

static void attach_first(struct work *w)
{
	fixture_attach(w->f, 0);
	assert_ok(make_set_iommu(w));
	fixture_open_device(w->f, 0);
}

static void prepare_replay(struct work *w)
{
	fixture_close_device(w->f, 0);
	not_sharing = open("/dev/vfio_type1_floor", O_RDWR | O_CLOEXEC);
	assert_true(not_sharing >= 0);
	assert_int_equal(ioctl(not_sharing, FLOOR_NO_SHARING), 0);
	attach_first(w);
	prepare_attach(w);
}

static int make_attach(struct work *w)
{
	return vu_group_attach(&w->f->pci[1], w->f->container);
}

static void check_attach(struct work *w)
{
	fixture_open_device(w->f, 1);
	assert_dma_reaches(w->f, 1, w->mem, w->iova);
	assert_dma_reaches(w->f, 1, w->mem + w->size - VU_PAGE, w->iova + w->size - VU_PAGE);
	assert_dma_reaches(w->f, 0, w->second, 7 * VU_2M);
}

static void undo_attach(struct work *w)
{
	fixture_close_device(w->f, 1);
	if (not_sharing >= 0)
		close(not_sharing);
	not_sharing = -1;
	assert_ok(make_unmap_all(w));
}

static void prepare_set_iommu(struct work *w)
{
	fixture_close_device(w->f, 0);
	fixture_attach(w->f, 0);
}

static void check_set_iommu(struct work *w)
{
	fixture_open_device(w->f, 0);
	prepare_map(w);
	check_map(w);
	undo_map(w);
}

static void undo_nothing(struct work *w)
{
	(void)w;
}

static void prepare_release(struct work *w)
{
	prepare_many(w);
	assert_ok(vu_register(w->f->container, w->second, SIZE, 0));
	assert_ok(vu_map_rw(w->f->container, w->second, GIB, SIZE));
	prepare_start(w);
	vu_edu_close(&w->f->edu[0]);
	close(w->f->pci[0].device_fd);
	w->f->pci[0].device_fd = -1;
}

static int make_release(struct work *w)
{
	return vu_group_detach(&w->f->pci[0]);
}

static void check_release(struct work *w)
{
	assert_held(w, 0);
}

static void undo_release(struct work *w)
{
	assert_ok(vu_group_attach(&w->f->pci[0], w->f->container));
	assert_ok(make_set_iommu(w));
	fixture_open_device(w->f, 0);
}

static const struct request requests[] = {
	{
		.name = "MAP scattered pages", .alloc = mem_scattered, .size = SIZE,
		.make = make_map, .check = check_map, .undo = undo_map, .faults = 5,
	}, {
		.name = "MAP huge pages", .alloc = huge, .size = HUGE_SIZE,
		.make = make_map, .check = check_map, .undo = undo_map, .faults = 5,
	}, {
		.name = "MAP registered pages", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_register, .make = make_map, .check = check_map,
		.undo = undo_map_registered, .held = NPAGES, .faults = 3,
	}, {
		.name = "MAP tracked pages", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_start, .make = make_map, .check = check_tracked_map,
		.undo = undo_tracked_map, .faults = 5,
	}, {
		.name = "REGISTER scattered pages", .alloc = mem_scattered, .size = SIZE,
		.make = make_register, .check = check_register, .undo = undo_register,
		.faults = 3,
	}, {
		.name = "REGISTER huge pages", .alloc = huge, .size = HUGE_SIZE,
		.make = make_register, .check = check_register, .undo = undo_register,
		.faults = 3,
	}, {
		.name = "UNREGISTER", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_register, .make = make_unregister, .check = check_release,
		.undo = undo_nothing, .certain = true,
	}, {
		.name = "UNMAP scattered pages", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_map, .make = make_unmap, .check = check_unmap,
		.undo = undo_nothing, .certain = true, .faults = 1,
	}, {
		.name = "UNMAP huge pages", .alloc = huge, .size = HUGE_SIZE,
		.prepare = prepare_map, .make = make_unmap, .check = check_unmap,
		.undo = undo_nothing, .certain = true,
	}, {
		.name = "UNMAP with a bitmap", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_tracked_map, .make = make_unmap_bitmap,
		.check = check_unmap_bitmap, .undo = undo_start, .certain = true,
	}, {
		.name = "UNMAP of all", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_many, .make = make_unmap_all, .check = check_unmap,
		.undo = undo_nothing, .certain = true, .faults = 1,
	}, {
		.name = "DIRTY_PAGES START", .alloc = huge, .size = HUGE_SIZE,
		.prepare = prepare_map, .make = make_start, .check = check_start,
		.undo = undo_tracked_map, .held = HUGE_PAGES, .faults = 1,
	}, {
		.name = "DIRTY_PAGES GET_BITMAP", .alloc = huge, .size = HUGE_SIZE,
		.prepare = prepare_tracked_map, .make = make_get_bitmap, .check = check_words,
		.undo = undo_tracked_map, .held = HUGE_PAGES, .certain = true,
	}, {
		.name = "DIRTY_PAGES STOP", .alloc = huge, .size = HUGE_SIZE,
		.prepare = prepare_tracked_map, .make = make_stop, .check = check_stop,
		.undo = undo_map, .held = HUGE_PAGES, .certain = true,
	}, {
		.name = "UNMAP of an address", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_map, .make = make_invalidate, .check = check_invalidated,
		.undo = undo_invalidated, .held = NPAGES,
	}, {
		.name = "MAP of an address", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_invalidated, .make = make_update, .check = check_map,
		.undo = undo_map, .held = NPAGES,
	}, {
		.name = "attach to a domain", .alloc = huge, .size = HUGE_SIZE,
		.prepare = prepare_attach, .make = make_attach, .check = check_attach,
		.undo = undo_attach, .held = HUGE_PAGES + MANY_PAGES, .faults = 5,
		.any_error = true,
	}, {
		.name = "attach to a new domain", .alloc = huge, .size = HUGE_SIZE,
		.prepare = prepare_replay, .make = make_attach, .check = check_attach,
		.undo = undo_attach, .held = HUGE_PAGES + MANY_PAGES, .faults = 10,
		.any_error = true,
	}, {
		.name = "SET_IOMMU", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_set_iommu, .make = make_set_iommu, .check = check_set_iommu,
		.undo = undo_nothing, .faults = 5, .any_error = true,
	}, {
		.name = "release", .alloc = mem_scattered, .size = SIZE,
		.prepare = prepare_release, .make = make_release, .check = check_release,
		.undo = undo_release, .certain = true,
	},
};

/* ---- The test ---- */

/* What fails has done nothing, and can be made again at once: as if it had not been made. */
static void check_failed(struct work *w, int ret)
{
	if (w->r->certain || (ret != -ENOMEM && !w->r->any_error))
		fail_msg("%s failed: %s", w->r->name, strerror(-ret));
	assert_held(w, w->r->held);
	assert_ok(w->r->make(w));
}

static void each_allocation_may_fail(void **state)
{
	struct work w = { .r = *state };
	unsigned int nth, refused = 0;
	const struct request *r = w.r;
	void *fixture;
	bool failed;
	int ret;

	test_setup_v2(&fixture);
	w.f = fixture;
	w.size = r->size;
	w.mem = r->alloc(r->size);
	w.second = mem_scattered(SIZE);
	for (nth = 1; nth < FAULTS_MAX; nth++) {
		at_step("%s, without allocation %u", r->name, nth);
		w.iova = IOVA(nth);
		if (r->prepare)
			r->prepare(&w);
		fault_begin(nth);
		ret = r->make(&w);
		failed = fault_end();
		if (ret && !failed)
			fail_msg("%s failed by itself: %s", r->name, strerror(-ret));
		if (ret) {
			refused++;
			check_failed(&w, ret);
		}
		r->check(&w);
		r->undo(&w);
		assert_nothing_held(w.f);
		if (!failed)
			break;
	}
	printf("# %s: %u allocations, %u of them indispensable\n", r->name, nth - 1, refused);
	assert_true(nth < FAULTS_MAX && nth > r->faults);
	vu_free(w.second, SIZE);
	vu_free(w.mem, r->size);
	test_teardown(&fixture);
}

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(requests)];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++)
		tests[i] = (struct CMUnitTest) {
			.name = requests[i].name,
			.test_func = each_allocation_may_fail,
			.initial_state = (void *)&requests[i],
		};
	setvbuf(stdout, NULL, _IOLBF, 0);
	return _cmocka_run_group_tests("faults", tests, ARRAY_SIZE(tests), faults_setup, NULL);
}
