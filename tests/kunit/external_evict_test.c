// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users that are told to unpin, and who waits for a MAP under way.
 */

#include <linux/sched/signal.h>

#include "external_fixture.h"

/* A driver that only copies has no need to be told. */
static const struct vfio_device_ops deaf_ops = {};

/* ---- eviction ---- */

/* Who is told of an unmap can't pin or copy there any more, and may take its time. */
static void devices_are_told_until_they_unpin(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	fx->patience = 10;
	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_EXPECT_EQ(test, fx->told, 10U);
	KUNIT_EXPECT_EQ(test, fx->result[0], -EINVAL);
	KUNIT_EXPECT_EQ(test, fx->result[1], -EINVAL);
	expect_user_pins(test, 0, 0, 0);
	/* Nothing is pinned there: nobody needs to know. */
	must_unmap(test, HIGH_IOVA, LOW_SIZE);
	KUNIT_EXPECT_EQ(test, fx->told, 10U);
}

/* A device that does not want to hear is not told, and does not make pinning possible. */
static void devices_without_dma_unmap_are_not_told(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_device *deaf = kunit_kzalloc(test, sizeof(*deaf), GFP_KERNEL);
	struct page *pages[8];

	KUNIT_ASSERT_NOT_NULL(test, deaf);
	deaf->ops = &deaf_ops;
	vfio_external_register(fx->container, deaf);
	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_EXPECT_EQ(test, fx->told, 1U);
	vfio_external_unregister(fx->container, &fx->device);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, HIGH_IOVA, 1, IOMMU_READ, pages));
	vfio_external_unregister(fx->container, deaf);
	vfio_external_register(fx->container, &fx->device);
}

/* What is charged for pins is not charged by MAP again, nor refunded by UNMAP too early. */
static void pins_and_mappings_share_their_charge(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long charged;
	struct page *pages[8];
	int filled[2];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA + 3 * PAGE_SIZE, 8, RW, pages));
	expect_user_pins(test, 3, 11, 8);
	add_iommu(test);
	/* As attach and detach do with each mapping. */
	down_write(&fx->container->lock);
	filled[0] = vfio_fill_locked(fx->container, low(fx));
	charged = user_locked_vm();
	vfio_empty(fx->container, low(fx));
	up_write(&fx->container->lock);
	KUNIT_ASSERT_EQ(test, filled[0], 0);
	KUNIT_EXPECT_EQ(test, charged, fx->locked_vm + LOW_PAGES);
	expect_user_pins(test, 3, 11, 8);

	down_write(&fx->container->lock);
	filled[1] = vfio_fill_locked(fx->container, low(fx));
	up_write(&fx->container->lock);
	KUNIT_ASSERT_EQ(test, filled[1], 0);
	/* With an IOMMU the charge of a page is the mapping's. */
	vfio_external_unpin(fx->container, LOW_IOVA + 3 * PAGE_SIZE, 8);
	expect_user_pins(test, 0, LOW_PAGES, LOW_PAGES);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_user_pins(test, 0, 0, 0);
}

/* At the limit, too: what in-kernel users have pinned needs no more room. */
static void pins_need_no_room_twice(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	bool lock_cap = low(test->priv)->owner.lock_cap;
	struct fixture *fx = test->priv;
	int filled[3], i;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA + 3 * PAGE_SIZE, 8, RW, pages));
	add_iommu(test);
	low(fx)->owner.lock_cap = false;
	for (i = 0; i < 3; i++) {
		static const unsigned int room[] = { 0, LOW_PAGES - 1, LOW_PAGES };

		limit->rlim_cur = (fx->locked_vm + room[i]) << PAGE_SHIFT;
		down_write(&fx->container->lock);
		filled[i] = vfio_fill_locked(fx->container, low(fx));
		up_write(&fx->container->lock);
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm +
				(filled[i] ? 8 : LOW_PAGES));
	}
	*limit = old_limit;
	low(fx)->owner.lock_cap = lock_cap;
	KUNIT_EXPECT_EQ(test, filled[0], -ENOMEM);
	KUNIT_EXPECT_EQ(test, filled[1], -ENOMEM);
	KUNIT_EXPECT_EQ(test, filled[2], 0);
	vfio_external_unpin(fx->container, LOW_IOVA + 3 * PAGE_SIZE, 8);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_user_pins(test, 0, 0, 0);
}

/* ---- who waits for a MAP under way ---- */

/*
 * A mapping that is being made is not there in part: who wants it waits, and if killed
 * goes without; in the end all have it, or none if it failed.
 */
static void in_kernel_users_wait_for_a_map_under_way(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int round;

	add_iommu(test);
	for (round = 0; round < 2; round++) {
		struct request map = { .what = MAP }, others[] = {
			{ .what = PIN }, { .what = COPY }, { .what = PIN }, { .what = COPY },
		};
		bool fails = round, waited = true;
		struct completion gate;
		unsigned int i;

		init_completion(&gate);
		fx->mock->gate = &gate;
		fx->mock->fail_map = fails;
		start(test, &map);
		wait_for_completion(&fx->mock->entered);
		for (i = 0; i < ARRAY_SIZE(others); i++)
			start(test, &others[i]);
		for (i = 0; i < ARRAY_SIZE(others); i++)
			waited &= waits(&others[i]);
		for (i = 2; i < ARRAY_SIZE(others) && waited; i++) {
			send_sig(SIGKILL, others[i].thread.task, 1);
			finish(&others[i]);
			KUNIT_EXPECT_EQ(test, others[i].ret, -EINTR);
		}
		complete(&gate);
		finish(&map);
		KUNIT_EXPECT_EQ(test, map.ret, fails ? -ENOMEM : 0);
		KUNIT_ASSERT_TRUE(test, waited);
		finish(&others[0]);
		finish(&others[1]);
		KUNIT_EXPECT_EQ(test, others[0].ret, fails ? -EINVAL : 1);
		KUNIT_EXPECT_EQ(test, others[1].ret, fails ? -EINVAL : 0);
		if (!fails) {
			vfio_external_unpin(fx->container, NEW_IOVA, 1);
			must_unmap(test, NEW_IOVA, 4 * PAGE_SIZE);
		}
	}
}

static struct kunit_case external_evict_cases[] = {
	KUNIT_CASE(devices_are_told_until_they_unpin),
	KUNIT_CASE(devices_without_dma_unmap_are_not_told),
	KUNIT_CASE(pins_and_mappings_share_their_charge),
	KUNIT_CASE(pins_need_no_room_twice),
	KUNIT_CASE(in_kernel_users_wait_for_a_map_under_way),
	{}
};

SUITE("vfio_in_kernel_users_told", external_evict_cases, EXTERNAL_SUITE);
