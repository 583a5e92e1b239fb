// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users that unpin late, or never: what is kept for them.
 */

#include "external_fixture.h"

/* ---- what is not unpinned ---- */

#define LATE_FIRST	5U
#define LATE_PAGES	3U
#define LATE_IOVA	(LOW_IOVA + LATE_FIRST * PAGE_SIZE)

static struct vfio_dma *kept(struct fixture *fx)
{
	struct vfio_dma *dma;

	spin_lock(&fx->container->tree.lock);
	dma = vfio_dma_tree_first_kept(&fx->container->tree, 0, U64_MAX);
	spin_unlock(&fx->container->tree.lock);
	return dma;
}

/* The device pins three pages of LOW, and does not unpin when told. */
static void pin_for_good(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[LATE_PAGES];

	fx->container->evict_waits = 2;
	fx->patience = UINT_MAX;
	KUNIT_ASSERT_EQ(test, (int)LATE_PAGES, pin_at(fx, LATE_IOVA, LATE_PAGES, RW, pages));
}

/* LOW is not mapped, and none of it can be, while all that is beside it can. */
static void expect_kept(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	char byte;

	KUNIT_EXPECT_NOT_NULL(test, kept(fx));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, LOW_IOVA, 40, 1, RW));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, HIGH_IOVA - PAGE_SIZE, 40, 1, RW));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, LOW_IOVA - PAGE_SIZE, 40, 2, RW));
	/* What is mapped is the better answer. */
	KUNIT_EXPECT_EQ(test, -EEXIST, map_pages(fx, HIGH_IOVA - PAGE_SIZE, 40, 2, RW));
	KUNIT_EXPECT_EQ(test, 0, map_pages(fx, LOW_IOVA - PAGE_SIZE, 40, 1, RW));
	must_unmap(test, LOW_IOVA - PAGE_SIZE, PAGE_SIZE);
	must_unmap_only(test, LOW_IOVA, LOW_SIZE, 0);
	must_unmap_only(test, LATE_IOVA, PAGE_SIZE, 0);
	must_unmap_only(test, LOW_IOVA - PAGE_SIZE, 2 * PAGE_SIZE, 0);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LATE_IOVA, 1, IOMMU_READ, &page));
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA, 1, IOMMU_READ, &page));
	KUNIT_EXPECT_EQ(test, -EINVAL, copy_at(fx, LATE_IOVA, &byte, 1, false));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 2U);
}

/* LOW's IOVA is free: map the other half of the memory there, which is all one's own. */
static void expect_free(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;

	KUNIT_EXPECT_NULL(test, kept(fx));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 1U);
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, LOW_PAGES, LOW_PAGES, RW));
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, LATE_IOVA, 1, RW, &page));
	KUNIT_EXPECT_PTR_EQ(test, page, fx->pages[LOW_PAGES + LATE_FIRST]);
	vfio_external_unpin(fx->container, LATE_IOVA, 1);
}

/*
 * After some time UNMAP goes on. The pages stay pinned and charged, and their IOVA is no
 * other memory's, until they are unpinned; then all is as if it had been unpinned in time.
 */
static void what_is_pinned_is_kept(struct kunit *test)
{
	struct fixture *fx = test->priv;

	pin_for_good(test);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	/* At once, and after each of two waits. */
	KUNIT_EXPECT_EQ(test, fx->told, 3U);
	expect_user_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, LATE_PAGES);
	expect_kept(test);
	/* Nobody waits for it again. */
	KUNIT_EXPECT_EQ(test, fx->told, 3U);
	vfio_external_unpin(fx->container, LATE_IOVA + PAGE_SIZE, LATE_PAGES - 1);
	expect_user_pins(test, LATE_FIRST, LATE_FIRST + 1, 1);
	expect_kept(test);
	vfio_external_unpin(fx->container, LATE_IOVA, 1);
	expect_user_pins(test, 0, 0, 0);
	expect_free(test);
}

/* The same with an IOMMU, out of which all of it goes. */
static void what_is_pinned_is_kept_in_no_domain(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int filled;

	add_iommu(test);
	down_write(&fx->container->lock);
	filled = vfio_fill_locked(fx->container, low(fx));
	up_write(&fx->container->lock);
	KUNIT_ASSERT_EQ(test, filled, 0);
	pin_for_good(test);
	/* Pinned twice, charged once. */
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + LOW_PAGES);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	mock_iommu_expect_empty(test, fx->mock);
	expect_user_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, LATE_PAGES);
	expect_kept(test);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	expect_user_pins(test, 0, 0, 0);
	KUNIT_EXPECT_NULL(test, kept(fx));
}

/* Of registered memory, too, only the pages themselves. */
static void of_registered_memory_pages_are_kept(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_register(fx->container, fx->vaddr,
							NPAGES * PAGE_SIZE, false));
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	pin_for_good(test);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_kept(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_unregister(fx->container, fx->vaddr,
							  NPAGES * PAGE_SIZE));
	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED +
				    (i >= LATE_FIRST && i < LATE_FIRST + LATE_PAGES),
				    "page %u", i);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	expect_kept(test);
	/* What the device wrote meanwhile is not lost. */
	ClearPageDirty(fx->pages[LATE_FIRST]);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	KUNIT_EXPECT_TRUE(test, PageDirty(fx->pages[LATE_FIRST]));
	expect_user_pins(test, 0, 0, 0);
	expect_free(test);
}

/* Pages that were left pinned for ever; give them back, for the cases to come. */
static void unpin_lost(struct kunit *test, unsigned int charged)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	expect_user_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, charged);
	for (i = 0; i < LATE_PAGES; i++)
		unpin_user_page(fx->pages[LATE_FIRST + i]);
	expect_user_pins(test, 0, 0, charged);
}

/* Without any device left nobody waits for anything: kept or not, it is forgotten. */
static void the_last_group_takes_all_along(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int round;

	for (round = 0; round < 2; round++) {
		pin_for_good(test);
		if (round)
			must_unmap(test, LOW_IOVA, LOW_SIZE);
		vfio_container_detach(fx->container, fx->group);
		unpin_lost(test, 0);
		KUNIT_EXPECT_NULL(test, kept(fx));
		KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES);
		KUNIT_EXPECT_EQ(test, 0, vfio_container_attach_emulated(fx->container,
									fx->group));
		KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	}
}

/* Of a container that is closed while UNMAP waits, nothing is kept. */
static void the_end_comes_while_unmap_waits(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container;
	struct request unmap = { .what = UNMAP };

	pin_for_good(test);
	container->evict_waits = 7;
	/* As each call under way. */
	kref_get(&container->users);
	start(test, &unmap);
	while (!READ_ONCE(fx->told))
		schedule_timeout_uninterruptible(1);
	vfio_external_unregister(container, &fx->device);
	vfio_container_destroy(container);
	finish(&unmap);
	KUNIT_EXPECT_EQ(test, unmap.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, 2 * LOW_SIZE);
	KUNIT_EXPECT_NULL(test, kept(fx));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&container->tree.root));
	vfio_container_put(container);
	unpin_lost(test, 0);
	new_container(test);
}

/* A driver that unpins by itself, as it had not noted in time what it pinned, is late. */
static void a_moment_late_is_in_time(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	fx->until = jiffies + msecs_to_jiffies(100);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_EXPECT_TRUE(test, time_after(jiffies, fx->until));
	expect_user_pins(test, 0, 0, 0);
	KUNIT_EXPECT_NULL(test, kept(fx));
	KUNIT_EXPECT_LT(test, fx->told, 12U);
	expect_free(test);
}

/* What becomes of it does not depend on whether the caller was killed. */
static void a_signal_does_not_make_unmap_impatient(struct kunit *test)
{
	struct request unmap = { .what = UNMAP_KILLED };
	struct fixture *fx = test->priv;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	fx->until = jiffies + msecs_to_jiffies(100);
	start(test, &unmap);
	finish(&unmap);
	KUNIT_EXPECT_EQ(test, unmap.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, 2 * LOW_SIZE);
	KUNIT_EXPECT_NULL(test, kept(fx));
	expect_user_pins(test, 0, 0, 0);
}

/* Claim LOW, as an UNMAP would, and have it evicted after @waits waits. */
static void evict_low(struct fixture *fx, unsigned int *waits)
{
	struct vfio_dma *dma = low(fx);
	LIST_HEAD(claimed);

	spin_lock(&fx->container->tree.lock);
	dma->state = VFIO_DMA_DYING;
	spin_unlock(&fx->container->tree.lock);
	list_add(&dma->claim, &claimed);
	down_read(&fx->container->lock);
	vfio_external_evict(fx->container, &claimed, waits);
	up_read(&fx->container->lock);
	spin_lock(&fx->container->tree.lock);
	vfio_dma_tree_settle(&fx->container->tree, dma);
	spin_unlock(&fx->container->tree.lock);
}

/* However many mappings a request has, it waits no longer than for one. */
static void a_request_waits_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int waits = 0;

	pin_for_good(test);
	evict_low(fx, &waits);
	KUNIT_EXPECT_EQ(test, fx->told, 3U);
	KUNIT_EXPECT_TRUE(test, low(fx)->late);
	evict_low(fx, &waits);
	KUNIT_EXPECT_EQ(test, fx->told, 4U);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	evict_low(fx, &waits);
	KUNIT_EXPECT_FALSE(test, low(fx)->late);
	KUNIT_EXPECT_EQ(test, fx->told, 4U);
}

static int unpin_soon(void *data)
{
	struct fixture *fx = data;

	schedule_timeout_uninterruptible(msecs_to_jiffies(50));
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* UNMAP goes on as soon as the last page is unpinned, not when its time is up. */
static void the_last_unpin_ends_the_wait(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long begun = jiffies;
	struct task_struct *task;
	unsigned int waits = 12;

	pin_for_good(test);
	fx->container->evict_waits = waits + 1;
	task = kthread_run(unpin_soon, fx, "vfio-unpin");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	evict_low(fx, &waits);
	kthread_stop(task);
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, begun + 2 * HZ));
	KUNIT_EXPECT_FALSE(test, low(fx)->late);
}

/* If the dirty pages cannot be told, the mapping is what it was, pins and all. */
static void what_is_not_unmapped_is_not_kept(struct kunit *test)
{
	struct vfio_dirty_request nowhere = { NULL, PAGE_SIZE };
	struct fixture *fx = test->priv;
	struct page *page;
	u64 unmapped;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	pin_for_good(test);
	KUNIT_EXPECT_EQ(test, -EFAULT, call_unmap_dma(fx->container, LOW_IOVA, LOW_SIZE, false,
						      &nowhere, &unmapped));
	KUNIT_EXPECT_NULL(test, kept(fx));
	expect_user_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, LATE_PAGES);
	KUNIT_EXPECT_EQ(test, 1, pin_at(fx, LATE_IOVA, 1, RW, &page));
	vfio_external_unpin(fx->container, LATE_IOVA, 1);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	expect_user_pins(test, 0, 0, 0);
}

/*
 * An IOMMU does not let go of pages that it failed to map: they stay charged, but not
 * those that in-kernel users have pinned, which are charged already and until unpinned.
 */
static void kept_pages_are_charged_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[2];
	unsigned int i, lost = 0;

	KUNIT_ASSERT_EQ(test, 2, pin_at(fx, LOW_IOVA, 2, RW, pages));
	add_iommu(test);
	fx->mock->hides = true;
	fx->mock->fail_map = 1;
	fx->mock->stuck = LOW_IOVA;
	down_write(&fx->container->lock);
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			vfio_fill_locked(fx->container, vfio_dma_tree_first(&fx->container->tree,
									    LOW_IOVA, LOW_IOVA)));
	/* So the group stays out. */
	list_del(&fx->domain.next);
	up_write(&fx->container->lock);
	vfio_external_unpin(fx->container, LOW_IOVA, 2);
	for (i = 0; i < NPAGES; i++)
		lost += page_ref_count(fx->pages[i]) != REFS_UNPINNED;
	KUNIT_EXPECT_GT(test, lost, 2U);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + lost - 2);

	mock_iommu_lose(fx->mock, LOW_IOVA);
	for (i = 0; i < lost; i++)
		unpin_user_page(fx->pages[i]);
	mmap_write_lock(current->mm);
	current->mm->locked_vm -= lost - 2;
	mmap_write_unlock(current->mm);
}

static struct kunit_case external_kept_cases[] = {
	KUNIT_CASE(kept_pages_are_charged_once),
	KUNIT_CASE(what_is_pinned_is_kept),
	KUNIT_CASE(what_is_pinned_is_kept_in_no_domain),
	KUNIT_CASE(of_registered_memory_pages_are_kept),
	KUNIT_CASE(the_last_group_takes_all_along),
	KUNIT_CASE(the_end_comes_while_unmap_waits),
	KUNIT_CASE(a_moment_late_is_in_time),
	KUNIT_CASE(a_signal_does_not_make_unmap_impatient),
	KUNIT_CASE(a_request_waits_once),
	KUNIT_CASE(the_last_unpin_ends_the_wait),
	KUNIT_CASE(what_is_not_unmapped_is_not_kept),
	{}
};

SUITE("vfio_in_kernel_users_late", external_kept_cases, EXTERNAL_SUITE);
