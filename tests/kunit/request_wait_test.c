// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who waits for whom: requests that meet a MAP under way.
 */

#include <linux/completion.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>

#include "request_fixture.h"
#include "user_mem.h"

/* ---- who waits for whom ---- */

/* A request in a thread of its own. */
struct request {
	struct fixture *fx;
	enum { MAP, UNMAP, UNMAP_ALL } op;
	u64 first;
	unsigned int npages;
	unsigned long bitmap;	/* of UNMAP, unless 0 */
	struct user_call thread;
	int ret;
	u64 unmapped;
};

static int request_call(void *data)
{
	struct request *r = data;
	struct vfio_dirty_request dirty = {
		.bitmap = (u64 __user *)r->bitmap, .pgsize = PAGE_SIZE,
	};

	if (r->op == MAP)
		r->ret = map_pages(r->fx, r->first, r->npages);
	else if (r->op == UNMAP)
		r->ret = call_unmap_dma(r->fx->container, r->first * PAGE_SIZE,
					r->npages * PAGE_SIZE, false, r->bitmap ? &dirty : NULL,
					&r->unmapped);
	else
		r->ret = unmap_all(r->fx, &r->unmapped);
	return r->ret;
}

static void start(struct kunit *test, struct request *r)
{
	r->fx = test->priv;
	r->ret = 1;
	r->thread = (struct user_call) { .call = request_call, .data = r };
	user_call_start(test, &r->thread);
}

static bool waits(struct request *r)
{
	return user_call_waits(&r->thread);
}

/* Collect a thread. Returns whether it came to its end. */
static bool finish(struct request *r)
{
	return user_call_finish(&r->thread);
}

/* Start to MAP, and hold it where it maps its first run. */
static void start_held_map(struct kunit *test, struct request *r, struct completion *gate)
{
	struct fixture *fx = test->priv;

	init_completion(gate);
	fx->mock->gate = gate;
	start(test, r);
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&fx->mock->entered, 10 * HZ));
}

/* What is disjoint goes on while a MAP is under way. */
static void disjoint_requests_do_not_wait(struct kunit *test)
{
	struct request slow = { .op = MAP, .first = 10, .npages = 4 };
	struct request map = { .op = MAP, .first = 20, .npages = 4 };
	struct request unmap = { .op = UNMAP, .first = 20, .npages = 4 };
	struct completion gate;
	bool map_done, unmap_done;

	start_held_map(test, &slow, &gate);
	start(test, &map);
	map_done = finish(&map);
	start(test, &unmap);
	unmap_done = finish(&unmap);
	complete(&gate);
	KUNIT_ASSERT_TRUE(test, finish(&slow));
	KUNIT_ASSERT_TRUE_MSG(test, map_done && unmap_done, "waited for a MAP elsewhere");
	KUNIT_EXPECT_EQ(test, slow.ret, 0);
	KUNIT_EXPECT_EQ(test, map.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, (u64)4 * PAGE_SIZE);
}

/* What meets a MAP under way waits for it, and then sees it whole: never EBUSY. */
static void requests_wait_for_a_map_under_way(struct kunit *test)
{
	struct request others[] = {
		{ .op = MAP, .first = 12, .npages = 4 },
		{ .op = UNMAP, .first = 8, .npages = 10 },
		{ .op = UNMAP, .first = 10, .npages = 4 },
		{ .op = UNMAP, .first = 11, .npages = 1 },
		{ .op = UNMAP_ALL },
	};
	static const struct {
		int ret;
		u64 pages;
	} want[] = { { -EEXIST, 0 }, { 0, 4 }, { 0, 4 }, { -EINVAL, 0 }, { 0, 4 } };
	struct fixture *fx = test->priv;
	unsigned int i;
	u64 unmapped;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		struct request slow = { .op = MAP, .first = 10, .npages = 4 };
		struct completion gate;
		bool waited;

		start_held_map(test, &slow, &gate);
		start(test, &others[i]);
		waited = waits(&others[i]);
		complete(&gate);
		KUNIT_ASSERT_TRUE(test, finish(&slow));
		KUNIT_EXPECT_TRUE_MSG(test, waited, "request %u", i);
		if (waited)
			KUNIT_ASSERT_TRUE_MSG(test, finish(&others[i]), "request %u", i);
		KUNIT_EXPECT_EQ(test, slow.ret, 0);
		KUNIT_EXPECT_EQ_MSG(test, others[i].ret, want[i].ret, "request %u", i);
		KUNIT_EXPECT_EQ_MSG(test, others[i].unmapped, want[i].pages * PAGE_SIZE,
				    "request %u", i);
		KUNIT_ASSERT_EQ(test, 0, unmap_all(fx, &unmapped));
		mock_iommu_expect_empty(test, fx->mock);
	}
}

/* If the MAP under way fails, who waited finds the IOVA free. */
static void waiters_go_on_after_a_failed_map(struct kunit *test)
{
	struct request slow = { .op = MAP, .first = 10, .npages = 4 };
	struct request map = { .op = MAP, .first = 12, .npages = 4 };
	struct fixture *fx = test->priv;
	struct completion gate;
	bool waited;

	fx->mock->fail_map = 1;
	start_held_map(test, &slow, &gate);
	start(test, &map);
	waited = waits(&map);
	complete(&gate);
	KUNIT_ASSERT_TRUE(test, finish(&slow));
	KUNIT_ASSERT_TRUE(test, waited);
	KUNIT_ASSERT_TRUE(test, finish(&map));
	KUNIT_EXPECT_EQ(test, slow.ret, -ENOMEM);
	KUNIT_EXPECT_EQ(test, map.ret, 0);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 4U);
}

/*
 * UNMAP waits for the memory that it reports dirty pages to, which then is not there: the
 * mapping stays, and who waited for it goes on.
 */
static void waiters_go_on_after_a_failed_report(struct kunit *test)
{
	struct request others[] = {
		{ .op = MAP, .first = 12, .npages = 4 },
		{ .op = UNMAP, .first = 10, .npages = 4 },
		{ .op = UNMAP_ALL },
	};
	static const int want[] = { -EEXIST, 0, 0 };
	struct fixture *fx = test->priv;
	unsigned int i;
	u64 unmapped;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		struct request slow = { .op = UNMAP, .first = 10, .npages = 4 };
		struct user_faults faults = { .pfn = MMIO_PFN };
		struct completion gate;
		bool waited, done;

		KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 10, 4));
		slow.bitmap = user_map_faults(test, &faults, 1, PROT_READ | PROT_WRITE);
		init_completion(&faults.entered);
		init_completion(&gate);
		faults.gate = &gate;
		start(test, &slow);
		KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&faults.entered, 10 * HZ));
		start(test, &others[i]);
		waited = waits(&others[i]);
		complete(&gate);
		KUNIT_ASSERT_TRUE(test, finish(&slow));
		done = waited && finish(&others[i]);
		if (!done) {
			/* Rather fail than leave it behind. */
			send_sig(SIGKILL, others[i].thread.task, 1);
			KUNIT_ASSERT_TRUE(test, finish(&others[i]));
		}
		user_unmap(slow.bitmap, 1);
		KUNIT_EXPECT_EQ(test, slow.ret, -EFAULT);
		KUNIT_EXPECT_EQ(test, slow.unmapped, 0ULL);
		KUNIT_EXPECT_TRUE_MSG(test, waited, "request %u", i);
		KUNIT_ASSERT_TRUE_MSG(test, done, "request %u still waits", i);
		KUNIT_EXPECT_EQ_MSG(test, others[i].ret, want[i], "request %u", i);
		KUNIT_ASSERT_EQ(test, 0, unmap_all(fx, &unmapped));
		KUNIT_EXPECT_EQ_MSG(test, others[i].unmapped + unmapped, 4 * (u64)PAGE_SIZE,
				    "request %u", i);
	}
}

/* A killed process stops to wait, and has done nothing. */
static void killed_waiter_has_done_nothing(struct kunit *test)
{
	struct request slow = { .op = MAP, .first = 10, .npages = 4 };
	struct request unmap = { .op = UNMAP, .first = 10, .npages = 4 };
	struct request map = { .op = MAP, .first = 12, .npages = 4 };
	struct fixture *fx = test->priv;
	struct completion gate;
	bool ended;

	start_held_map(test, &slow, &gate);
	start(test, &unmap);
	start(test, &map);
	ended = !waits(&unmap) || !waits(&map);
	send_sig(SIGKILL, unmap.thread.task, 1);
	send_sig(SIGKILL, map.thread.task, 1);
	ended |= !finish(&unmap) || !finish(&map);
	complete(&gate);
	KUNIT_ASSERT_TRUE(test, finish(&slow));
	KUNIT_ASSERT_FALSE(test, ended);
	KUNIT_EXPECT_EQ(test, unmap.ret, -EINTR);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, 0ULL);
	KUNIT_EXPECT_EQ(test, map.ret, -EINTR);
	KUNIT_EXPECT_EQ(test, slow.ret, 0);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 4U);
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 1U);
}

/*
 * While UNMAP waits for a MAP, others may take IOVA that its range cuts. It has begun,
 * and can refuse no more: on v2 it takes what lies in the range, and leaves those.
 */
static void unmap_that_has_begun_goes_on(struct kunit *test)
{
	struct request unmap = { .op = UNMAP, .first = 0, .npages = 10 };
	struct request slow = { .op = MAP, .first = 6, .npages = 2 };
	struct fixture *fx = test->priv;
	struct completion gate;
	int below, above;
	bool waited;

	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, 0, 4));
	start_held_map(test, &slow, &gate);
	start(test, &unmap);
	waited = waits(&unmap);
	/* Pages 0 to 3 are free again: one lies across where UNMAP has got to. */
	below = map_pages(fx, 3, 3);
	above = map_pages(fx, 8, 4);
	complete(&gate);
	KUNIT_ASSERT_TRUE(test, finish(&slow));
	KUNIT_ASSERT_TRUE(test, waited);
	KUNIT_ASSERT_TRUE(test, finish(&unmap));
	KUNIT_EXPECT_EQ(test, below, 0);
	KUNIT_EXPECT_EQ(test, above, 0);
	KUNIT_EXPECT_EQ(test, unmap.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, 6 * (u64)PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 7U);
	KUNIT_EXPECT_GE(test, mock_iommu_prot(fx->mock, 3 * PAGE_SIZE), 0);
	KUNIT_EXPECT_GE(test, mock_iommu_prot(fx->mock, 11 * PAGE_SIZE), 0);
}

/* Two that find that tables must reach further: one does it, for both. */
static void tables_grow_once_for_all_who_wait(struct kunit *test)
{
	struct request far[] = {
		{ .op = MAP, .first = FAR_PAGE, .npages = 1 },
		{ .op = MAP, .first = FAR_PAGE + 1, .npages = 1 },
	};
	struct fixture *fx = test->priv;
	bool waited;

	/* Both are let in at once, as readers are, and have a look before one can write. */
	down_write(&fx->container->lock);
	start(test, &far[0]);
	start(test, &far[1]);
	waited = waits(&far[0]) && waits(&far[1]);
	up_write(&fx->container->lock);
	KUNIT_ASSERT_TRUE(test, waited);
	KUNIT_ASSERT_TRUE(test, finish(&far[0]) && finish(&far[1]));
	KUNIT_EXPECT_EQ(test, far[0].ret, 0);
	KUNIT_EXPECT_EQ(test, far[1].ret, 0);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_unmap, 1U);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 2U);
}

/* Nobody walks a table while it is made to reach further. */
static void tables_do_not_grow_under_a_map(struct kunit *test)
{
	struct request slow = { .op = MAP, .first = 6, .npages = 2 };
	struct request far = { .op = MAP, .first = FAR_PAGE, .npages = 1 };
	struct fixture *fx = test->priv;
	struct completion gate;
	bool waited;

	start_held_map(test, &slow, &gate);
	start(test, &far);
	waited = waits(&far);
	complete(&gate);
	KUNIT_ASSERT_TRUE(test, finish(&slow));
	KUNIT_ASSERT_TRUE(test, waited);
	KUNIT_ASSERT_TRUE(test, finish(&far));
	KUNIT_EXPECT_EQ(test, slow.ret, 0);
	KUNIT_EXPECT_EQ(test, far.ret, 0);
	KUNIT_EXPECT_EQ(test, fx->mock->nr_ptes, 3U);
}

static struct kunit_case request_wait_cases[] = {
	KUNIT_CASE(disjoint_requests_do_not_wait),
	KUNIT_CASE(requests_wait_for_a_map_under_way),
	KUNIT_CASE(waiters_go_on_after_a_failed_map),
	KUNIT_CASE(waiters_go_on_after_a_failed_report),
	KUNIT_CASE(killed_waiter_has_done_nothing),
	KUNIT_CASE(unmap_that_has_begun_goes_on),
	KUNIT_CASE(tables_grow_once_for_all_who_wait),
	KUNIT_CASE(tables_do_not_grow_under_a_map),
	{}
};

SUITE("vfio_requests_wait", request_wait_cases, REQUEST_SUITE);
