// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whose memory a mapping is: owners that died, other processes, kernel threads,
 * callers that were killed, and containers that were closed.
 *
 * Two mappings of one stretch of fragmented memory lie side by side. An owner other
 * than the process that runs the suites is put into a mapping by hand.
 */

#include <linux/cred.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vfio.h>

#include "fault.h"
#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16

#define NPAGES		64U
#define LOW_PAGES	40U
#define LOW_SIZE	(LOW_PAGES * PAGE_SIZE)
#define HIGH_PAGES	(NPAGES - LOW_PAGES)
#define LOW_IOVA	((u64)SZ_1M)
#define HIGH_IOVA	(LOW_IOVA + LOW_SIZE)

static const struct mock_flavour small_pages = { "4K only", PAGE_SIZE, false, false };

/**
 * struct fixture - what each case starts with
 * @container: v2
 * @domain: in the container after add_iommu()
 * @mock: its page table
 * @device: an in-kernel user, so that pages can be pinned
 * @block: memory
 * @pages: NPAGES of it
 * @vaddr: where they are
 * @locked_vm: before anything was charged
 * @mm: what the mapping lent to another owner had
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain;
	struct mock_iommu *mock;
	struct vfio_device device;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	unsigned long locked_vm;
	struct mm_struct *mm;
};

static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

static int owner_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	suite_set_params(ENTRIES);
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->device.ops = &device_ops;
	vfio_external_register(fx->container, &fx->device);
	fx->mock = mock_iommu_create(test, &small_pages);
	fx->block = user_block_alloc(test);
	for (i = 0; i < NPAGES; i++)
		fx->pages[i] = fx->block + NPAGES - 1 - i;
	fx->vaddr = user_map_pages(test, fx->pages, NPAGES, PROT_READ | PROT_WRITE);
	fx->locked_vm = user_locked_vm();
	test->priv = fx;
	return 0;
}

static void owner_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	vfio_external_unregister(fx->container, &fx->device);
	mock_iommu_release(fx->container);
	mock_iommu_expect_empty(test, fx->mock);
	mock_iommu_destroy(fx->mock);
	user_expect_unpinned(test, fx->pages, NPAGES);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	user_unmap(fx->vaddr, NPAGES);
	user_block_free(fx->block);
	user_mem_detach();
}

static void add_iommu(struct kunit *test)
{
	struct fixture *fx = test->priv;

	mock_iommu_join(test, fx->mock, &fx->domain, fx->container);
}

static int map_low(void *data)
{
	struct fixture *fx = data;

	return call_map_dma(fx->container, LOW_IOVA, fx->vaddr, LOW_SIZE, RW, false);
}

static int map_high(void *data)
{
	struct fixture *fx = data;

	return call_map_dma(fx->container, HIGH_IOVA, fx->vaddr + LOW_SIZE,
			    HIGH_PAGES * PAGE_SIZE, RW, false);
}

static u64 unmap_all(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, call_unmap_dma(fx->container, 0, 0, true, NULL, &unmapped));
	return unmapped;
}

static struct vfio_dma *find(struct fixture *fx, u64 iova)
{
	return suite_mapping(fx->container, iova);
}

/* From here on a mapping belongs to @mm, which has its charge. */
static void lend(struct fixture *fx, struct vfio_dma *dma, struct mm_struct *mm)
{
	fx->mm = dma->owner.mm;
	dma->owner.mm = mm;
	mm->locked_vm = 100 + dma->locked_vm;
}

/* It belongs to nobody any more, or to its own owner again: drop what lend() kept. */
static void lend_end(struct fixture *fx, unsigned long refund)
{
	fx->mm->locked_vm -= refund;
	mmdrop(fx->mm);
}

static void expect_pinned(struct kunit *test, unsigned int npages)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED +
				    (i < npages ? GUP_PIN_COUNTING_BIAS : 0), "page %u", i);
}

/* ---- owners that died, other processes ---- */

/* There is nothing to pin or to copy to in memory that has gone; and nothing is changed. */
static void nothing_is_pinned_of_a_dead_owner(struct kunit *test)
{
	struct mm_struct *dead = user_other_mm(test, false);
	struct fixture *fx = test->priv;
	struct vfio_dma *dma;
	struct page *page;
	char byte = 1;
	int filled;

	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	dma = find(fx, LOW_IOVA);
	lend(fx, dma, dead);
	KUNIT_EXPECT_EQ(test, -ENODEV, call_external_pin(fx->container, NULL, LOW_IOVA, 1, RW,
							 &page));
	KUNIT_EXPECT_EQ(test, -EPERM, vfio_external_rw(fx->container, LOW_IOVA, &byte, 1, true));
	add_iommu(test);
	down_write(&fx->container->lock);
	filled = vfio_fill_locked(fx->container, dma);
	up_write(&fx->container->lock);
	KUNIT_EXPECT_EQ(test, filled, -ESRCH);
	KUNIT_EXPECT_EQ(test, dma->mapped, 0UL);
	KUNIT_EXPECT_EQ(test, dead->locked_vm, 100UL);
	KUNIT_EXPECT_EQ(test, atomic_read(&dead->mm_users), 0);
	expect_pinned(test, 0);
	KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)LOW_SIZE);
	lend_end(fx, 0);
}

/* The pages of a dead owner are unpinned all the same; there is no charge to give back. */
static void unmap_works_for_a_dead_owner(struct kunit *test)
{
	struct mm_struct *dead = user_other_mm(test, false);
	struct fixture *fx = test->priv;

	add_iommu(test);
	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	lend(fx, find(fx, LOW_IOVA), dead);
	expect_pinned(test, LOW_PAGES);
	KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)LOW_SIZE);
	expect_pinned(test, 0);
	KUNIT_EXPECT_EQ(test, dead->locked_vm, 100UL + LOW_PAGES);
	lend_end(fx, LOW_PAGES);
}

/* Mappings of two owners that go at once: each owner gets back what it was charged. */
static void each_owner_is_refunded_its_own(struct kunit *test)
{
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;

	add_iommu(test);
	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	KUNIT_ASSERT_EQ(test, 0, map_high(fx));
	lend(fx, find(fx, HIGH_IOVA), other);
	KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)NPAGES * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, other->locked_vm, 100UL);
	KUNIT_EXPECT_EQ(test, atomic_read(&other->mm_users), 1);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + HIGH_PAGES);
	expect_pinned(test, 0);
	lend_end(fx, HIGH_PAGES);
}

/* Copying is for kernel threads and the owner: nobody else's memory is written. */
static void another_process_does_not_copy(struct kunit *test)
{
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;
	char byte = 1;

	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	lend(fx, find(fx, LOW_IOVA), other);
	KUNIT_EXPECT_EQ(test, -EFAULT, vfio_external_rw(fx->container, LOW_IOVA, &byte, 1, true));
	KUNIT_EXPECT_EQ(test, *(char *)page_address(fx->pages[0]), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&other->mm_users), 1);
	unmap_all(test);
	lend_end(fx, 0);
}

/* ---- new owners ---- */

static int give_low(void *data)
{
	struct fixture *fx = data;

	return call_map_dma(fx->container, LOW_IOVA, fx->vaddr, LOW_SIZE, 0, true);
}

static void take_low(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 size = 0;

	KUNIT_ASSERT_EQ(test, 0, call_vaddr_invalidate(fx->container, LOW_IOVA, LOW_SIZE, false,
						       &size));
	KUNIT_ASSERT_EQ(test, size, (u64)LOW_SIZE);
}

/* Who gives a new address is charged instead of the old owner, dead or alive. */
static void new_address_moves_the_charge(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int alive;

	add_iommu(test);
	for (alive = 0; alive < 2; alive++) {
		struct mm_struct *other = user_other_mm(test, alive);
		struct vfio_dma *dma;

		KUNIT_ASSERT_EQ(test, 0, map_low(fx));
		dma = find(fx, LOW_IOVA);
		lend(fx, dma, other);
		take_low(test);
		KUNIT_EXPECT_EQ(test, 0, give_low(fx));
		KUNIT_EXPECT_PTR_EQ(test, dma->owner.mm, fx->mm);
		KUNIT_EXPECT_EQ(test, other->locked_vm, 100UL + (alive ? 0 : LOW_PAGES));
		KUNIT_EXPECT_EQ(test, atomic_read(&other->mm_users), (int)alive);
		/* That of lend(), and the new one. */
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 2 * LOW_PAGES);
		KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)LOW_SIZE);
		lend_end(fx, LOW_PAGES);
	}
}

/* Who may not lock so much does not get the mapping, and it can still be had by others. */
static void new_owner_needs_room_for_the_charge(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct mm_struct *other = user_other_mm(test, true);
	struct cred *unprivileged = prepare_creds();
	struct fixture *fx = test->priv;
	const struct cred *old;
	int too_low, enough;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	add_iommu(test);
	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	lend(fx, find(fx, LOW_IOVA), other);
	take_low(test);
	old = override_creds(unprivileged);
	limit->rlim_cur = (user_locked_vm() + LOW_PAGES - 1) << PAGE_SHIFT;
	too_low = give_low(fx);
	KUNIT_EXPECT_PTR_EQ(test, find(fx, LOW_IOVA)->owner.mm, other);
	KUNIT_EXPECT_EQ(test, other->locked_vm, 100UL + LOW_PAGES);
	KUNIT_EXPECT_TRUE(test, find(fx, LOW_IOVA)->vaddr_invalid);
	limit->rlim_cur = (user_locked_vm() + LOW_PAGES) << PAGE_SHIFT;
	enough = give_low(fx);
	*limit = old_limit;
	revert_creds(old);
	put_cred(unprivileged);
	KUNIT_EXPECT_EQ(test, too_low, -ENOMEM);
	KUNIT_EXPECT_EQ(test, enough, 0);
	KUNIT_EXPECT_EQ(test, other->locked_vm, 100UL);
	KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)LOW_SIZE);
	lend_end(fx, LOW_PAGES);
}

/* Who may lock as much as it likes gets it, whatever its limit. */
static void privileged_new_owner_needs_no_room(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;
	int given;

	add_iommu(test);
	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	lend(fx, find(fx, LOW_IOVA), other);
	take_low(test);
	limit->rlim_cur = 0;
	given = give_low(fx);
	*limit = old_limit;
	KUNIT_EXPECT_EQ(test, given, 0);
	KUNIT_EXPECT_EQ(test, other->locked_vm, 100UL);
	/* That of lend(), and the new one. */
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 2 * LOW_PAGES);
	KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)LOW_SIZE);
	lend_end(fx, LOW_PAGES);
}

/* ---- kernel threads ---- */

/* Who has no memory of its own can neither map nor take over a mapping. */
static void kernel_threads_own_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int mapped, given;

	add_iommu(test);
	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	take_low(test);
	user_mem_return();
	mapped = map_high(fx);
	given = give_low(fx);
	user_mem_borrow();
	KUNIT_EXPECT_EQ(test, mapped, -ENODEV);
	KUNIT_EXPECT_EQ(test, given, -ENODEV);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 1U);
	expect_pinned(test, LOW_PAGES);
}

/* Who pins for a mapping, in whatever thread, pins its owner's memory. */
static void memory_is_the_owners_in_any_thread(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[4];
	struct vfio_dma *dma;
	int pinned, filled;

	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	dma = find(fx, LOW_IOVA);
	user_mem_return();
	pinned = call_external_pin(fx->container, NULL, LOW_IOVA, 4, RW, pages);
	user_mem_borrow();
	KUNIT_ASSERT_EQ(test, pinned, 4);
	KUNIT_EXPECT_EQ(test, memcmp(pages, fx->pages, sizeof(pages)), 0);
	vfio_external_unpin(fx->container, LOW_IOVA, 4);
	expect_pinned(test, 0);

	add_iommu(test);
	user_mem_return();
	down_write(&fx->container->lock);
	filled = vfio_fill_locked(fx->container, dma);
	up_write(&fx->container->lock);
	user_mem_borrow();
	KUNIT_EXPECT_EQ(test, filled, 0);
	expect_pinned(test, LOW_PAGES);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + LOW_PAGES);
	KUNIT_EXPECT_EQ(test, unmap_all(test), (u64)LOW_SIZE);
}

/* ---- killed ---- */

static int charge(void *data)
{
	return vfio_account_charge(data, 1);
}

/* A killed caller's MAP ends, and leaves nothing. */
static void killed_map_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	add_iommu(test);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, map_low, fx));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&fx->container->tree.root));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	expect_pinned(test, 0);
}

/* It does not wait for the owner's memory, and is not charged. */
static void killed_caller_does_not_wait_to_be_charged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_owner owner;
	int ret;

	KUNIT_ASSERT_EQ(test, 0, vfio_owner_init(&owner));
	mmap_read_lock(owner.mm);
	ret = user_call_killed(test, charge, &owner);
	mmap_read_unlock(owner.mm);
	vfio_owner_put(&owner);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
}

/* ---- containers ---- */

/* A call that is under way as the container is closed finds it closed, wherever it maps. */
static void closed_container_takes_no_mapping(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *closed = fx->container;
	u64 unmapped = 1;

	KUNIT_ASSERT_EQ(test, 0, map_low(fx));
	kref_get(&closed->users);
	vfio_external_unregister(closed, &fx->device);
	vfio_container_destroy(closed);
	KUNIT_EXPECT_EQ(test, -ENODEV, map_low(fx));
	KUNIT_EXPECT_EQ(test, -ENODEV, call_map_dma(closed, BIT_ULL(50), fx->vaddr, LOW_SIZE, RW,
						    false));
	KUNIT_EXPECT_EQ(test, 0, call_unmap_dma(closed, 0, 0, true, NULL, &unmapped));
	KUNIT_EXPECT_EQ(test, unmapped, 0ULL);
	vfio_container_put(closed);

	/* For the end of the case. */
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	vfio_external_register(fx->container, &fx->device);
}

/* A number finds its container, and no other one ever, until that was released. */
static void number_is_of_one_container(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *second = vfio_container_create(VFIO_CONTAINER_V2), *found;
	u64 id;

	KUNIT_ASSERT_FALSE(test, IS_ERR(second));
	id = second->id;
	KUNIT_EXPECT_NE(test, id, fx->container->id);
	/* The VFIO core takes these for an error, or for no container. */
	KUNIT_EXPECT_FALSE(test, IS_ERR_OR_NULL((void *)(unsigned long)id));

	found = vfio_container_get(id);
	KUNIT_EXPECT_PTR_EQ(test, found, second);
	if (found)
		vfio_container_put(found);
	KUNIT_EXPECT_NULL(test, vfio_container_get(0));
	KUNIT_EXPECT_NULL(test, vfio_container_get(id + 1));
	KUNIT_EXPECT_NULL(test, vfio_container_get(U64_MAX));

	vfio_container_destroy(second);
	KUNIT_EXPECT_NULL(test, vfio_container_get(id));
	second = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(second));
	KUNIT_EXPECT_GT(test, second->id, id);
	KUNIT_EXPECT_NULL(test, vfio_container_get(id));
	vfio_container_destroy(second);
}

/* Who found a container in time keeps it, closed; who is late does not find it. */
static void late_call_finds_no_container(struct kunit *test)
{
	struct vfio_type1_container *container = vfio_container_create(VFIO_CONTAINER_V2);
	struct vfio_type1_container *in_time;
	u64 id;

	KUNIT_ASSERT_FALSE(test, IS_ERR(container));
	id = container->id;
	in_time = vfio_container_get(id);
	KUNIT_ASSERT_PTR_EQ(test, in_time, container);
	vfio_container_destroy(container);
	KUNIT_EXPECT_TRUE(test, in_time->closed);
	KUNIT_EXPECT_EQ(test, kref_read(&in_time->users), 1U);
	KUNIT_EXPECT_NULL(test, vfio_container_get(id));
	vfio_container_put(in_time);
}

/* The last reference may be gone before the number is: that is no container any more. */
static void container_without_users_is_not_found(struct kunit *test)
{
	struct vfio_type1_container *container = vfio_container_create(VFIO_CONTAINER_V2);

	KUNIT_ASSERT_FALSE(test, IS_ERR(container));
	refcount_set(&container->users.refcount, 0);
	KUNIT_EXPECT_NULL(test, vfio_container_get(container->id));
	kref_init(&container->users);
	vfio_container_destroy(container);
}

/* Nothing is there if memory is short, neither a container nor a group in it. */
static void container_takes_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *none;
	unsigned int nth = 0;
	int attached;
	bool came;

	/* One allocation after the other, until all that it takes are there. */
	do {
		fault_nth(++nth);
		none = vfio_container_create(VFIO_CONTAINER_V2);
		came = fault_end();
		if (IS_ERR(none))
			KUNIT_EXPECT_EQ(test, PTR_ERR(none), -ENOMEM);
		else
			vfio_container_destroy(none);
	} while (came);
	KUNIT_EXPECT_GT(test, nth, 2U);

	fault_all();
	none = vfio_container_create(VFIO_CONTAINER_V2);
	attached = vfio_container_attach_emulated(fx->container, NULL);
	fault_end();
	KUNIT_EXPECT_PTR_EQ(test, none, (struct vfio_type1_container *)ERR_PTR(-ENOMEM));
	KUNIT_EXPECT_EQ(test, attached, -ENOMEM);
	KUNIT_EXPECT_FALSE(test, vfio_container_has_emulated(fx->container));
}

/* Spare memory is kept for as many threads as work at a time, and no more. */
static void spares_are_kept_while_there_is_room(struct kunit *test)
{
	struct vfio_spares spares = {};
	void *kept[ARRAY_SIZE(spares.slots)];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kept); i++) {
		kept[i] = kvmalloc(100, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, kept[i]);
		vfio_spares_keep(&spares, kept[i]);
	}
	/* Freed. */
	vfio_spares_keep(&spares, kvmalloc(100, GFP_KERNEL));
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		KUNIT_EXPECT_PTR_EQ(test, vfio_spares_take(&spares), kept[i]);
	KUNIT_EXPECT_NULL(test, vfio_spares_take(&spares));
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		kvfree(kept[i]);
}

static struct kunit_case owner_cases[] = {
	KUNIT_CASE(nothing_is_pinned_of_a_dead_owner),
	KUNIT_CASE(unmap_works_for_a_dead_owner),
	KUNIT_CASE(each_owner_is_refunded_its_own),
	KUNIT_CASE(another_process_does_not_copy),
	KUNIT_CASE(new_address_moves_the_charge),
	KUNIT_CASE(new_owner_needs_room_for_the_charge),
	KUNIT_CASE(privileged_new_owner_needs_no_room),
	KUNIT_CASE(kernel_threads_own_nothing),
	KUNIT_CASE(memory_is_the_owners_in_any_thread),
	KUNIT_CASE(killed_map_leaves_nothing),
	KUNIT_CASE(killed_caller_does_not_wait_to_be_charged),
	KUNIT_CASE(closed_container_takes_no_mapping),
	KUNIT_CASE(number_is_of_one_container),
	KUNIT_CASE(late_call_finds_no_container),
	KUNIT_CASE(container_without_users_is_not_found),
	KUNIT_CASE(container_takes_memory),
	KUNIT_CASE(spares_are_kept_while_there_is_room),
	{}
};

SUITE("vfio_owners", owner_cases, USER_MEM_SUITE, .init = owner_init, .exit = owner_exit);
