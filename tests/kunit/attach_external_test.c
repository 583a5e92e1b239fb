// SPDX-License-Identifier: GPL-2.0-only
/*
 * Containers with in-kernel users, and what attach and detach mean to addresses that are
 * exchanged and to dirty bitmaps.
 */

#include <linux/bitmap.h>
#include <linux/cred.h>
#include <linux/sched/signal.h>

#include "attach_fixture.h"
#include "fault.h"
#include "user_mem.h"

/* ---- addresses are exchanged ---- */

static int take_vaddr(struct kunit *test, u64 iova, unsigned int npages, u64 *size)
{
	struct fixture *fx = test->priv;

	return call_vaddr_invalidate(fx->container, iova, npages * PAGE_SIZE, false, size);
}

static int give_vaddr(struct kunit *test, u64 iova, u64 size)
{
	struct fixture *fx = test->priv;

	return call_map_dma(fx->container, iova, fx->vaddr, size, 0, true);
}

/* All addresses of a range go at once, or none; mappings are not cut. */
static void addresses_are_taken_all_or_none(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 all = HIGH_IOVA + HIGH_PAGES * PAGE_SIZE - LOW_IOVA, size;

	must_attach(test, 0, &plain);
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, take_vaddr(test, LOW_IOVA, 1, &size));
	KUNIT_EXPECT_EQ(test, size, 0ULL);
	KUNIT_EXPECT_EQ(test, -EINVAL, take_vaddr(test, LOW_IOVA + 1, 1, &size));
	KUNIT_EXPECT_EQ(test, 0, take_vaddr(test, HIGH_IOVA, HIGH_PAGES, &size));
	KUNIT_EXPECT_EQ(test, size, (u64)HIGH_PAGES * PAGE_SIZE);
	/* The lower one keeps its address, for the higher one has none to take. */
	KUNIT_EXPECT_EQ(test, -EINVAL, call_vaddr_invalidate(fx->container, LOW_IOVA, all, false,
							     &size));
	KUNIT_EXPECT_EQ(test, size, 0ULL);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 1U);
	KUNIT_EXPECT_EQ(test, 0, take_vaddr(test, LOW_IOVA, LOW_PAGES, &size));
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 2U);
	/* A mapping without an address can still go. */
	unmap_both(test);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 0U);
	expect_no_mappings(test);
}

/* An address is given to one whole mapping that has none. */
static void addresses_are_given_to_whole_mappings(struct kunit *test)
{
	u64 size = LOW_PAGES * PAGE_SIZE, taken;

	must_attach(test, 0, &plain);
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size));
	KUNIT_ASSERT_EQ(test, 0, take_vaddr(test, LOW_IOVA, LOW_PAGES, &taken));
	KUNIT_EXPECT_EQ(test, -ENOENT, give_vaddr(test, LOW_IOVA - PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size - PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA + PAGE_SIZE, size - PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size - 1));
	KUNIT_EXPECT_EQ(test, 0, give_vaddr(test, LOW_IOVA, size));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size));
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* In-kernel users may need an address at any time. */
static void addresses_stay_with_in_kernel_users(struct kunit *test)
{
	u64 size;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EBUSY, take_vaddr(test, LOW_IOVA, LOW_PAGES, &size));
}

/* ---- in-kernel users copy ---- */

/* Across runs and pages, and what is written is dirty. */
static void copies_go_through_the_mapping(struct kunit *test)
{
	struct fixture *fx = test->priv;
	char out[300], in[300];
	struct vfio_dma *dma;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (i = 0; i < sizeof(out); i++)
		out[i] = i;
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container, LOW_IOVA + 8 * PAGE_SIZE - 100,
						  out, sizeof(out), true));
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container, LOW_IOVA + 8 * PAGE_SIZE - 100,
						  in, sizeof(in), false));
	KUNIT_EXPECT_EQ(test, memcmp(in, out, sizeof(in)), 0);
	KUNIT_EXPECT_EQ(test, memcmp(page_address(fx->pages[8]), out + 100, 200), 0);
	dma = vfio_dma_tree_first(&fx->container->tree, LOW_IOVA, LOW_IOVA);
	KUNIT_EXPECT_EQ(test, dma->dirty[0], 0x180UL);
}

/* What is not mapped, or not so, is not copied. */
static void copies_mind_mappings_and_protection(struct kunit *test)
{
	u64 end = LOW_IOVA + LOW_PAGES * PAGE_SIZE, nowhere = SZ_64M;
	struct fixture *fx = test->priv;
	char data[16] = {};

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_rw(fx->container, end, data, 1, false));
	/* The first half is there. */
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_rw(fx->container, end - 8, data,
							sizeof(data), false));
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container, HIGH_IOVA, data, 1, false));
	KUNIT_EXPECT_EQ(test, -EPERM, vfio_external_rw(fx->container, HIGH_IOVA, data, 1, true));
	/* There is no memory behind it. */
	KUNIT_ASSERT_EQ(test, 0, map_bytes(test, nowhere, PAGE_SIZE, PAGE_SIZE, RW));
	KUNIT_EXPECT_EQ(test, -EFAULT, vfio_external_rw(fx->container, nowhere, data, 1, false));
}

/* Requests that make no sense pin nothing. */
static void bad_pins_are_refused(struct kunit *test)
{
	struct page *pages[LOW_PAGES];
	struct fixture *fx = test->priv;
	u64 end = LOW_IOVA + LOW_PAGES * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, call_external_pin(fx->container, fx->emulated, LOW_IOVA, 0,
							 RW, pages));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_external_pin(fx->container, fx->emulated, LOW_IOVA, 1,
							 RW, NULL));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW, call_external_pin(fx->container, fx->emulated,
							    U64_MAX - PAGE_SIZE + 1, 2, RW,
							    pages));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_external_pin(fx->container, fx->emulated,
							 end - PAGE_SIZE, 2, RW, pages));
	KUNIT_EXPECT_EQ(test, -EPERM, call_external_pin(fx->container, fx->emulated, HIGH_IOVA, 1,
							RW, pages));
	expect_iommu_pins(test, 0, 0);
	/* Who could not be told of an unmap may not pin. */
	vfio_external_unregister(fx->container, &fx->device);
	KUNIT_EXPECT_EQ(test, -EINVAL, call_external_pin(fx->container, fx->emulated, LOW_IOVA, 1,
							 RW, pages));
	vfio_external_register(fx->container, &fx->device);
	expect_iommu_pins(test, 0, 0);
}

/* MAP may have gone without remembering the runs: replay can do that, too. */
static void replay_copies_what_map_made_without_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int nth, survived = 0;
	bool came = true;

	must_attach(test, 0, &plain);
	KUNIT_ASSERT_EQ(test, 0, map_high(test));
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = map_low(test);
		came = fault_end();
		if (ret)
			continue;
		survived += came;
		must_attach(test, 1, param(test));
		expect_both_in_two_domains(test);
		detach(test, 0);
		must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
		KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm + HIGH_PAGES);
		must_attach(test, 0, &plain);
		detach(test, 1);
	}
	KUNIT_EXPECT_GT_MSG(test, survived, 0U, "no allocation of MAP is dispensable");
}

/* ---- in-kernel users ---- */

/* Without an IOMMU nothing is pinned or charged but what a driver asks for. */
static void emulated_group_pins_only_what_it_uses(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	expect_iommu_pins(test, 0, 0);
	pin_low(test, fx->emulated, 5);
	expect_iommu_pins(test, 0, 5);
	must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
	KUNIT_EXPECT_EQ_MSG(test, fx->pinned, 0U, "the device was not told");
	must_unmap(test, HIGH_IOVA, HIGH_PAGES * PAGE_SIZE);
	expect_no_mappings(test);
}

/* With the last group, emulated or not, the mappings go. */
static void last_emulated_group_takes_the_mappings_along(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	detach_emulated(test);
	expect_no_mappings(test);

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	map_both(test);
	detach_emulated(test);
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
	detach(test, 0);
	expect_no_mappings(test);
}

/* As long as one of them stays, the mappings do. */
static void other_emulated_group_keeps_the_mappings(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct iommu_group *other = iommu_group_alloc();

	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container, other));
	map_both(test);
	detach_emulated(test);
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 2U);
	pin_low(test, other, 5);
	expect_iommu_pins(test, 0, 5);
	unpin(fx);
	vfio_container_detach(fx->container, other);
	expect_no_mappings(test);
	iommu_group_put(other);
}

/*
 * The last group may leave while its device is told of an unmap: what that unmap owns
 * is left to it, all else goes.
 */
static void group_may_leave_while_its_device_is_told(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	pin_low(test, fx->emulated, 5);
	fx->leaves = true;
	must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
	expect_no_mappings(test);
}

/* The first IOMMU has all memory pinned and charged; what is charged is not charged again. */
static void first_iommu_group_has_everything_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	pin_low(test, fx->emulated, 5);
	must_attach(test, 0, &plain);
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
	must_attach(test, 1, &incoherent);
	expect_both_in_two_domains(test);
	/* Its pages stay pinned without it. */
	unpin(fx);
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* When the last IOMMU leaves, in-kernel users keep the mappings, their pins, and no more. */
static void last_domain_leaves_the_mappings_to_in_kernel_users(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int round;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	map_both(test);
	pin_low(test, fx->emulated, 5);
	for (round = 0; round < 2; round++) {
		detach(test, 0);
		expect_contents(test, mock(1));
		expect_iommu_pins(test, NPAGES, NPAGES);
		detach(test, 1);
		KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
		KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 2U);
		expect_iommu_pins(test, 0, 5);
		/* And an IOMMU can come back. */
		must_attach(test, 0, &plain);
		must_attach(test, 1, &incoherent);
		expect_both_in_two_domains(test);
	}
	unmap_both(test);
	expect_no_mappings(test);
}

/* Whichever run fails, only what in-kernel users have pinned is pinned and charged. */
static void failed_first_iommu_group_unpins_everything(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	unsigned int nth;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	pin_low(test, fx->emulated, 11);
	before = state_of(test);
	for (nth = PROBE_CALLS + 1; nth <= PROBE_CALLS + RUNS; nth++) {
		fake_iommu.fail_map = nth;
		KUNIT_ASSERT_EQ_MSG(test, -ENOMEM, attach(test, 0, &plain), "call %u", nth);
		expect_state(test, &before, "attach");
		expect_iommu_pins(test, 0, 11);
	}
	must_attach(test, 0, &plain);
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* The limit counts when memory is pinned, which may be long after MAP. */
static void first_iommu_group_minds_the_memlock_limit(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct cred *unprivileged = prepare_creds();
	struct fixture *fx = test->priv;
	int too_low[3], enough, mapped;
	const struct cred *old;
	struct state before;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	limit->rlim_cur = fx->locked_vm << PAGE_SHIFT;
	old = override_creds(unprivileged);
	mapped = map_low(test) ?: map_high(test);
	revert_creds(old);
	put_cred(unprivileged);
	before = state_of(test);
	for (i = 0; i < ARRAY_SIZE(too_low); i++) {
		static const unsigned int pages[] = { 0, LOW_PAGES, NPAGES - 1 };

		limit->rlim_cur = (fx->locked_vm + pages[i]) << PAGE_SHIFT;
		too_low[i] = attach(test, 0, &plain);
		expect_state(test, &before, "attach");
		expect_iommu_pins(test, 0, 0);
	}
	limit->rlim_cur = (fx->locked_vm + NPAGES) << PAGE_SHIFT;
	enough = attach(test, 0, &plain);
	*limit = old_limit;
	KUNIT_ASSERT_EQ(test, 0, mapped);
	for (i = 0; i < ARRAY_SIZE(too_low); i++)
		KUNIT_EXPECT_EQ_MSG(test, -ENOMEM, too_low[i], "limit %u", i);
	KUNIT_ASSERT_EQ(test, 0, enough);
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* ---- dirty bitmaps ---- */

/* How many pages of the lower mapping its bitmap calls dirty. */
static unsigned int dirty_bits(struct kunit *test)
{
	struct vfio_type1_container *container = ((struct fixture *)test->priv)->container;

	return bitmap_weight(suite_mapping(container, LOW_IOVA)->dirty, LOW_PAGES);
}

/* Groups that may write anywhere are counted, until they show that they pin. */
static void groups_that_write_anywhere_are_counted(struct kunit *test)
{
	struct fixture *fx = test->priv;
	const unsigned int *nr = &fx->container->dirty_groups;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	KUNIT_EXPECT_EQ(test, *nr, 0U);
	must_attach(test, 0, &plain);
	must_attach(test, 1, &plain);
	must_attach(test, 2, &incoherent);
	KUNIT_EXPECT_EQ(test, *nr, 3U);
	map_both(test);
	pin_low(test, group(1), 5);
	KUNIT_EXPECT_EQ(test, *nr, 2U);
	detach(test, 1);
	KUNIT_EXPECT_EQ_MSG(test, *nr, 2U, "it was not counted any more");
	detach(test, 2);
	KUNIT_EXPECT_EQ(test, *nr, 1U);
	detach_emulated(test);
	KUNIT_EXPECT_EQ(test, *nr, 1U);
	/* Before the last group leaves, and the mappings with it. */
	unpin(fx);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, *nr, 0U);
}

/* What a group wrote stays dirty when it has left. */
static void group_that_leaves_has_dirtied_everything(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	pin_low(test, fx->emulated, 5);
	KUNIT_EXPECT_EQ(test, dirty_bits(test), 5U);
	must_attach(test, 0, &plain);
	pin_low(test, group(0), 5);
	detach(test, 0);
	KUNIT_EXPECT_EQ_MSG(test, dirty_bits(test), 5U, "it wrote only what it had pinned");
	must_attach(test, 0, &plain);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, dirty_bits(test), (unsigned int)LOW_PAGES);
	/* Pinned twice. */
	vfio_external_unpin(fx->container, LOW_IOVA, 5);
}

/* A bitmap is made for the smallest page of its time. */
static void dirty_bitmap_is_void_when_the_smallest_page_changes(struct kunit *test)
{
	const struct vfio_dirty_request by_4k = { .pgsize = SZ_4K };
	struct fixture *fx = test->priv;
	u64 unmapped;

	must_attach(test, 0, &more_sizes);
	must_attach(test, 1, &large_pages);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	detach(test, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, 0, SZ_4K, &by_4k));
	KUNIT_EXPECT_EQ(test, -EINVAL, call_unmap_dma(fx->container, 0, SZ_4K, false, &by_4k,
						      &unmapped));
	vfio_dirty_stop(fx->container);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_EXPECT_EQ(test, 0, vfio_dirty_get(fx->container, 0, SZ_4K, &by_4k));
}

static struct kunit_case attach_external_cases[] = {
	KUNIT_CASE(addresses_are_taken_all_or_none),
	KUNIT_CASE(addresses_are_given_to_whole_mappings),
	KUNIT_CASE(addresses_stay_with_in_kernel_users),
	KUNIT_CASE(copies_go_through_the_mapping),
	KUNIT_CASE(copies_mind_mappings_and_protection),
	KUNIT_CASE(bad_pins_are_refused),
	KUNIT_CASE_PARAM(replay_copies_what_map_made_without_memory, unlike_gen),
	KUNIT_CASE(emulated_group_pins_only_what_it_uses),
	KUNIT_CASE(last_emulated_group_takes_the_mappings_along),
	KUNIT_CASE(other_emulated_group_keeps_the_mappings),
	KUNIT_CASE(group_may_leave_while_its_device_is_told),
	KUNIT_CASE(first_iommu_group_has_everything_pinned),
	KUNIT_CASE(last_domain_leaves_the_mappings_to_in_kernel_users),
	KUNIT_CASE(failed_first_iommu_group_unpins_everything),
	KUNIT_CASE(first_iommu_group_minds_the_memlock_limit),
	KUNIT_CASE(groups_that_write_anywhere_are_counted),
	KUNIT_CASE(group_that_leaves_has_dirtied_everything),
	KUNIT_CASE(dirty_bitmap_is_void_when_the_smallest_page_changes),
	{}
};

SUITE("vfio_attach_external", attach_external_cases, ATTACH_SUITE);
