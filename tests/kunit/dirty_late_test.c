// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty bitmaps in user memory that takes its time.
 */

#include <linux/mman.h>
#include <linux/uaccess.h>

#include "dirty_fixture.h"
#include "user_mem.h"

/* ---- user memory that takes its time ---- */

/* Pages whose bits fill a page of the bitmap. */
#define LATE_PAGES	(PAGE_SIZE * 8)

struct late_case;

/**
 * struct late_event - what others do while a request waits for user memory
 * @name: for people
 * @happens: what they do
 * @ret: what GET returns then
 * @unmap_ret: what UNMAP returns then
 * @left: pages that are mapped after that UNMAP
 */
struct late_event {
	const char *name;
	void (*happens)(struct late_case *late);
	int ret;
	int unmap_ret;
	unsigned int left;
};

/**
 * struct late_case - a bitmap of two pages, of which the first access to either waits
 * @test: the case
 * @event: what happens then
 * @faults: the bitmap
 * @block: what it consists of
 * @vaddr: where it is
 * @nr: how often it happened
 */
struct late_case {
	struct kunit *test;
	const struct late_event *event;
	struct user_faults faults;
	struct page *block;
	unsigned long vaddr;
	unsigned int nr;
};

static void late_amid(void *data)
{
	struct late_case *late = data;
	struct fixture *fx = late->test->priv;

	late->nr++;
	/* Anybody may have to wait for these. */
	if (!down_write_trylock(&fx->container->lock)) {
		KUNIT_FAIL(late->test, "%s: container->lock is held", late->event->name);
		return;
	}
	up_write(&fx->container->lock);
	KUNIT_EXPECT_FALSE(late->test, mutex_is_locked(&fx->container->external_lock));
	late->event->happens(late);
}

static void late_begin(struct kunit *test, struct late_case *late, const struct late_event *event)
{
	*late = (struct late_case) {
		.test = test,
		.event = event,
		.block = user_block_alloc(test),
		.faults = { .missing = 2, .retry = true, .amid = late_amid, .data = late },
	};
	late->faults.pfn = page_to_pfn(late->block);
	late->vaddr = user_map_faults(test, &late->faults, 2, PROT_READ | PROT_WRITE);
}

static void late_end(struct late_case *late)
{
	user_unmap(late->vaddr, 2);
	user_block_free(late->block);
}

static struct vfio_dirty_request late_request(const struct late_case *late)
{
	return (struct vfio_dirty_request) {
		.bitmap = (u64 __user *)late->vaddr, .pgsize = PAGE_SIZE,
	};
}

static int late_get(const struct late_case *late)
{
	struct vfio_dirty_request request = late_request(late);
	struct fixture *fx = late->test->priv;

	return vfio_dirty_get(fx->container, BASE, 2 * LATE_PAGES << PAGE_SHIFT, &request);
}

static u64 late_word(const struct late_case *late, unsigned int w)
{
	return ((u64 *)page_address(late->block))[w];
}

static void nothing_happens(struct late_case *late)
{
}

static void page_is_written(struct late_case *late)
{
	mark(late->test, 1, 1);
}

static void mapping_goes(struct late_case *late)
{
	struct fixture *fx = late->test->priv;
	u64 unmapped;

	/* Not the one that an UNMAP owns. */
	KUNIT_EXPECT_EQ(late->test, 0, call_unmap_dma(fx->container, page_iova(64), SZ_4K, false,
						      NULL, &unmapped));
	KUNIT_EXPECT_EQ(late->test, unmapped, (u64)SZ_4K);
}

static void mapping_is_replaced(struct late_case *late)
{
	mapping_goes(late);
	KUNIT_EXPECT_EQ(late->test, 0, map(late->test, 64, 1));
}

static void tracking_stops(struct late_case *late)
{
	struct fixture *fx = late->test->priv;

	vfio_dirty_stop(fx->container);
}

static void tracking_starts_anew(struct late_case *late)
{
	struct fixture *fx = late->test->priv;

	tracking_stops(late);
	KUNIT_EXPECT_EQ(late->test, 0, vfio_dirty_start(fx->container));
}

static void others_read(struct late_case *late)
{
	KUNIT_EXPECT_EQ(late->test, 0, get(late->test, 0, 128));
}

/* As with the last group. */
static void all_mappings_go(struct late_case *late)
{
	struct fixture *fx = late->test->priv;

	down_write(&fx->container->lock);
	vfio_unmap_all(fx->container);
	up_write(&fx->container->lock);
}

static const struct late_event late_events[] = {
	{ "nothing", nothing_happens, 0, 0, 1 },
	{ "a page is written", page_is_written, 0, 0, 1 },
	{ "a mapping goes", mapping_goes, 0, 0, 0 },
	{ "a mapping is replaced", mapping_is_replaced, 0, 0, 1 },
	{ "tracking stops", tracking_stops, -EINVAL, -EINVAL, 4 },
	{ "tracking starts anew", tracking_starts_anew, 0, 0, 1 },
	{ "others read", others_read, 0, 0, 1 },
	{ "all mappings go", all_mappings_go, 0, 0, 0 },
};

/* A mapping of three pages, one of which is dirty, and one of a dirty page in the next word. */
static void map_late(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 3));
	KUNIT_ASSERT_EQ(test, 0, map(test, 64, 1));
	mark(test, 0, 1);
	mark(test, 64, 1);
}

/*
 * GET holds no lock while it waits for user memory, and answers as if it had come after
 * what happened meanwhile: also once more, when all is clean.
 */
static void get_waits_without_a_lock(struct kunit *test)
{
	static const u64 want[ARRAY_SIZE(late_events)][2] = {
		{ 1, 1 }, { 3, 1 }, { 1, 0 }, { 1, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 },
	};
	struct fixture *fx = test->priv;
	struct late_case late;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(late_events); i++) {
		KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
		map_late(test);
		late_begin(test, &late, &late_events[i]);
		KUNIT_EXPECT_EQ_MSG(test, late_events[i].ret, late_get(&late), "%s",
				    late_events[i].name);
		KUNIT_EXPECT_EQ(test, late.nr, 1U);
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 0), want[i][0], "%s",
				    late_events[i].name);
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 1), want[i][1], "%s",
				    late_events[i].name);
		memset(page_address(late.block), 0, PAGE_SIZE);
		if (!late_events[i].ret)
			KUNIT_EXPECT_EQ(test, 0, late_get(&late));
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 0) | late_word(&late, 1), 0ULL,
				    "%s, again", late_events[i].name);
		late_end(&late);
		unmap_all(test);
		vfio_dirty_stop(fx->container);
	}
}

/*
 * UNMAP owns what it reports, and nothing else: what happens to it meanwhile is either
 * before it, or after.  The mapping that another one shares a word with stays.
 */
static void unmap_waits_without_a_lock(struct kunit *test)
{
	static const u64 want[ARRAY_SIZE(late_events)] = { 1, 3, 1, 1, 0, 0, 0, 1 };
	struct fixture *fx = test->priv;
	struct late_case late;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(late_events); i++) {
		const struct late_event *event = &late_events[i];
		struct vfio_dirty_request request;
		u64 unmapped = 0;

		KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
		map_late(test);
		late_begin(test, &late, event);
		request = late_request(&late);
		KUNIT_EXPECT_EQ_MSG(test, event->unmap_ret,
				    call_unmap_dma(fx->container, BASE, SZ_64K, false, &request,
						   &unmapped), "%s", event->name);
		KUNIT_EXPECT_EQ(test, late.nr, 1U);
		KUNIT_EXPECT_EQ_MSG(test, unmapped, event->unmap_ret ? 0 : 3 * (u64)PAGE_SIZE,
				    "%s", event->name);
		KUNIT_EXPECT_EQ_MSG(test, late_word(&late, 0), want[i], "%s", event->name);
		late_end(&late);
		KUNIT_EXPECT_EQ_MSG(test, unmap_all(test), (u64)event->left << PAGE_SHIFT, "%s",
				    event->name);
		vfio_dirty_stop(fx->container);
	}
}

/* What could not be reported in a container that has lost all of its mappings goes as well. */
static void unmap_that_fails_brings_no_mapping_back(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_dirty_request request;
	struct late_case late;
	u64 unmapped;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	map_late(test);
	late_begin(test, &late, &late_events[ARRAY_SIZE(late_events) - 1]);
	late.faults.missing = 0;
	request = late_request(&late);
	KUNIT_EXPECT_EQ(test, -EFAULT, call_unmap_dma(fx->container, BASE, SZ_64K, false,
						      &request, &unmapped));
	KUNIT_EXPECT_EQ(test, late.nr, 1U);
	late_end(&late);
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	mock_iommu_expect_empty(test, fx->mock);
}

/* As many mappings as can be reported before memory is missing: all is as dirty as before. */
static void get_that_fails_cleans_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct late_case late;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	map_late(test);
	list_del_init(&fx->domain.next);
	KUNIT_ASSERT_EQ(test, 0, map(test, LATE_PAGES - 70, 80));
	list_add(&fx->domain.next, &fx->container->domains);
	late_begin(test, &late, &late_events[0]);
	late.faults.missing = 1;
	/* The first page of the bitmap is at hand: what has its bits there is copied. */
	KUNIT_ASSERT_EQ(test, 0, put_user(0ULL, (u64 __user *)late.vaddr));
	KUNIT_EXPECT_EQ(test, -EFAULT, late_get(&late));
	KUNIT_EXPECT_EQ(test, late_word(&late, 0), 1ULL);
	late.faults.missing = 2;
	memset(page_address(late.block), 0, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 0, late_get(&late));
	KUNIT_EXPECT_EQ(test, late_word(&late, 0), 1ULL);
	KUNIT_EXPECT_EQ(test, late_word(&late, 1), 1ULL);
	late_end(&late);
	unmap_all(test);
}

static struct kunit_case dirty_late_cases[] = {
	KUNIT_CASE(get_waits_without_a_lock),
	KUNIT_CASE(unmap_waits_without_a_lock),
	KUNIT_CASE(unmap_that_fails_brings_no_mapping_back),
	KUNIT_CASE(get_that_fails_cleans_nothing),
	{}
};

SUITE("vfio_dirty_late", dirty_late_cases, DIRTY_SUITE);
