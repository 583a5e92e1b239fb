// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: whose it is, and callers that were killed or have none.
 */

#include <linux/sched/mm.h>

#include "fault.h"
#include "registry_fixture.h"

/* Make all that is registered another process's, which lives. */
static struct mm_struct *give_away(struct kunit *test)
{
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;

	mmdrop(fx->container[0]->registry->mm);
	fx->container[0]->registry->mm = other;
	return other;
}

static void expect_count(struct kunit *test, unsigned int c, u32 regions, unsigned int npages)
{
	struct fixture *fx = test->priv;
	u32 nr = U32_MAX;
	u64 size = 1;

	vfio_registry_count(fx->container[c], &nr, &size);
	KUNIT_EXPECT_EQ(test, nr, regions);
	KUNIT_EXPECT_EQ(test, size, (u64)npages * PAGE_SIZE);
}

/* As long as it lives, and has something registered, its containers are its own. */
static void memory_of_others_is_not_used(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_registry *others = fx->container[0]->registry;
	struct mm_struct *other;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 30, 10, true));
	expect_count(test, 0, 2, 30);
	other = give_away(test);
	expect_count(test, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, -EPERM, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, -EPERM, reg(test, 0, 50, 20, false));
	KUNIT_EXPECT_EQ(test, -EPERM, unreg(test, 1, 0, 20));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 20));
	KUNIT_EXPECT_NULL(test, mapping(test, 0, 0)->region);
	expect_charge(test, 50);
	must_unmap(test, 0, 0, 20);

	/* When it is gone they are the next one's, one by one. */
	atomic_set(&other->mm_users, 0);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 50, 20, false));
	KUNIT_EXPECT_PTR_NE(test, fx->container[0]->registry, others);
	KUNIT_EXPECT_PTR_EQ(test, fx->container[1]->registry, others);
	expect_count(test, 0, 1, 20);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 0, 20));
	expect_region_pins(test, 0, 20, 1);
	expect_region_pins(test, 30, 10, 1);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 50, 20, false));
	KUNIT_EXPECT_PTR_EQ(test, fx->container[0]->registry, fx->container[1]->registry);
	/* With its last container, what it had registered is gone. */
	expect_region_pins(test, 0, 40, 0);
	expect_charge(test, 20);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 50, 20));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 50, 20));
	expect_no_region(test);
}

/* Who has nothing registered does not keep a container; nor does a failure lose it. */
static void container_without_registrations_is_free(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int ret;

	make_memory(test, EIGHTS);
	give_away(test);
	fault_nth(1);
	ret = reg(test, 0, 0, 20, false);
	KUNIT_ASSERT_TRUE(test, fault_end());
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	/* It is nobody's: all are pinned as ever. */
	KUNIT_EXPECT_NULL(test, fx->container[0]->registry);
	expect_count(test, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 0, 20));
	must_unmap(test, 0, 0, 20);
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

/* Nor does who asks for what is not there get it. */
static void unregistering_takes_no_container(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_registry *others = fx->container[0]->registry;
	int ret;

	make_memory(test, EIGHTS);
	give_away(test);
	fault_all();
	ret = unreg(test, 0, 0, 20);
	fault_end();
	KUNIT_EXPECT_EQ(test, -ENOENT, ret);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 1, 0, 20));
	KUNIT_EXPECT_PTR_EQ(test, fx->container[0]->registry, others);
	KUNIT_EXPECT_PTR_EQ(test, fx->container[1]->registry, others);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_REGISTRY]),
			1L);
	/* Also if it is nobody's. */
	down_write(&fx->container[0]->lock);
	vfio_registry_leave(fx->container[0]);
	up_write(&fx->container[0]->lock);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 0, 20));
	KUNIT_EXPECT_NULL(test, fx->container[0]->registry);
}

static void strict_containers_of_others_map_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	make_memory(test, EIGHTS);
	close_container(test, 1);
	fx->container[1] = open_container(test, true);
	attach(test, 1, 1, &vtd);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	give_away(test);
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 0, 20));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 50, 20));
	expect_charge(test, 20);
}

static void kernel_threads_register_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long vaddr;
	int ret[2];

	make_memory(test, EIGHTS);
	vaddr = fx->vaddr;
	user_mem_return();
	ret[0] = vfio_registry_register(fx->container[0], vaddr, PAGE_SIZE, false);
	ret[1] = vfio_registry_unregister(fx->container[0], vaddr, PAGE_SIZE);
	user_mem_borrow();
	KUNIT_EXPECT_EQ(test, -ENODEV, ret[0]);
	KUNIT_EXPECT_EQ(test, -ENODEV, ret[1]);
	expect_no_region(test);
}

/* A call that is under way as the container is closed. */
static void closed_containers_register_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *closed = fx->container[0];

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	kref_get(&closed->users);
	close_container(test, 0);
	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_registry_register(closed, fx->vaddr, PAGE_SIZE, false));
	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_registry_unregister(closed, fx->vaddr,
								20 * PAGE_SIZE));
	vfio_container_put(closed);
	expect_charge(test, 20);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 1, 0, 20));
	expect_charge(test, 0);
}

static int register_first_pages(void *data)
{
	struct kunit *test = data;

	return reg(test, 0, 0, 20, false);
}

static int map_first_pages(void *data)
{
	struct kunit *test = data;

	return map(test, 0, 0, 0, 20);
}

/* Wherever it is: at the lock, at the first page, at the look whether it is the same. */
static void killed_callers_leave_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_registry *registry = fx->container[0]->registry;
	int ret;

	make_memory(test, EIGHTS);
	mutex_lock(&registry->mutex);
	ret = user_call_killed(test, register_first_pages, test);
	mutex_unlock(&registry->mutex);
	KUNIT_EXPECT_EQ(test, -EINTR, ret);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, register_first_pages, test));
	expect_no_region(test);

	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	fake_watch_change(fx->vaddr, fx->vaddr);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, register_first_pages, test));
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, map_first_pages, test));
	KUNIT_EXPECT_EQ(test, only_region(test)->registered, 1UL);
	KUNIT_EXPECT_EQ(test, refcount_read(&only_region(test)->users), 1U);
	KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

/* What a signal keeps from being watched is registered once the signal was handled. */
static void signals_put_registering_off(struct kunit *test)
{
	make_memory(test, EIGHTS);
	fake_watch_interrupt();
	KUNIT_EXPECT_EQ(test, -ERESTARTNOINTR, reg(test, 0, 0, 20, false));
	expect_no_region(test);
	fake_watch_interrupt();
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, register_first_pages, test));
	expect_no_region(test);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

static int map_all_pages(void *data)
{
	struct kunit *test = data;

	return map(test, 0, 0, 0, NPAGES);
}

/* A killed caller's MAP of much registered memory ends, without a look at the memory. */
static void killed_map_of_a_region_leaves_nothing(struct kunit *test)
{
	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
	fake_watch_looks();
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, map_all_pages, test));
	KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
	KUNIT_EXPECT_EQ(test, refcount_read(&only_region(test)->users), 1U);
	expect_region_pins(test, 0, NPAGES, 1);
	expect_charge(test, NPAGES);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
	expect_no_region(test);
}

static struct kunit_case registry_owner_cases[] = {
	KUNIT_CASE(memory_of_others_is_not_used),
	KUNIT_CASE(container_without_registrations_is_free),
	KUNIT_CASE(unregistering_takes_no_container),
	KUNIT_CASE(strict_containers_of_others_map_nothing),
	KUNIT_CASE(kernel_threads_register_nothing),
	KUNIT_CASE(closed_containers_register_nothing),
	KUNIT_CASE(killed_callers_leave_nothing),
	KUNIT_CASE(killed_map_of_a_region_leaves_nothing),
	KUNIT_CASE(signals_put_registering_off),
	{}
};

SUITE("vfio_registered_owners", registry_owner_cases, REGISTRY_SUITE);
