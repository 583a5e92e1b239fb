// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups that are refused, and attach that fails: nothing of it is left.
 */

#include "attach_fixture.h"
#include "fault.h"
#include "user_mem.h"

/* What is known of why a driver refuses a group is told, beside the number. */
static void who_refuses_a_group_is_asked_why(struct kunit *test)
{
	static const struct fake_traits with_rmrr = {
		.name = "with a region of the firmware", .pgsize_bitmap = SZ_4K,
		.regions = {
			{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
			{ 0x7b800000, 0x200000, IOMMU_RESV_DIRECT },
		},
	};
	static const struct fake_traits relaxable = {
		.name = "with a region that may go", .pgsize_bitmap = SZ_4K,
		.regions = { { 0x7b800000, 0x200000, IOMMU_RESV_DIRECT_RELAXABLE } },
	};
	static const struct {
		const struct fake_traits *traits;
		int error;
		const char *why;
	} cases[] = {
		{ &with_rmrr, -EPERM,
		  "firmware goes on using its direct region 0x7b800000-0x7b9fffff: error -1" },
		{ &with_rmrr, -ENOMEM, "no memory for its tables: error -12" },
		{ &with_rmrr, -EBUSY, "its devices are in another domain: error -16" },
		{ &relaxable, -EPERM, "see the lines of its driver before this one: error -1" },
		{ &plain, -EINVAL, "see the lines of its driver before this one: error -22" },
	};
	struct fixture *fx = test->priv;
	unsigned int i;
	char want[160];

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		klog_begin(&fx->log);
		fake_iommu.fail_attach = 1;
		fake_iommu.attach_error = cases[i].error;
		KUNIT_EXPECT_EQ(test, attach(test, 0, cases[i].traits), cases[i].error);
		snprintf(want, sizeof(want), "attach of group %d: the IOMMU refused it: %s",
			 iommu_group_id(group(0)), cases[i].why);
		KUNIT_EXPECT_EQ_MSG(test, klog_count(&fx->log, want), 1U, "%s", want);
	}
}

/* ---- groups that are refused ---- */

static void group_can_be_attached_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 0, &plain));
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &incoherent));
	KUNIT_EXPECT_EQ(test, -EINVAL, attach_emulated(test));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			vfio_container_attach_emulated(fx->container, group(1)));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_container_attach(fx->container, fx->emulated));
	expect_state(test, &before, "attach");
	expect_both_in_two_domains(test);
}

/* A group that is not there can't leave. */
static void detach_of_a_stranger_does_nothing(struct kunit *test)
{
	struct state before;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);
	detach(test, 1);
	detach_emulated(test);
	expect_state(test, &before, "detach");
	expect_contents(test, mock(0));
}

/* A group without a device has no IOMMU. */
static void group_without_devices_stays_out(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before = state_of(test);

	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_container_attach(fx->container, fx->emulated));
	expect_state(test, &before, "attach");
}

/* Who asks for nesting gets it from each IOMMU, or not that IOMMU. */
static void nesting_is_for_all_domains(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before = state_of(test);

	fx->container->nesting = true;
	KUNIT_EXPECT_EQ(test, -ENODEV, attach(test, 0, &plain));
	expect_state(test, &before, "attach");
	fake_iommu.nesting = true;
	must_attach(test, 0, &plain);
	before = state_of(test);
	fake_iommu.nesting = false;
	KUNIT_EXPECT_EQ(test, -ENODEV, attach(test, 1, &plain));
	expect_state(test, &before, "second attach");
}

/* UML isolates no interrupts: without the administrator's word there is no attach. */
static void unsafe_interrupts_need_permission(struct kunit *test)
{
	struct state before;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	before = state_of(test);
	vfio_type1_params.allow_unsafe_interrupts = false;
	KUNIT_EXPECT_EQ(test, -EPERM, attach(test, 0, &plain));
	expect_state(test, &before, "attach");
	expect_iommu_pins(test, 0, 0);
	vfio_type1_params.allow_unsafe_interrupts = true;
	must_attach(test, 0, &plain);
	before = state_of(test);
	vfio_type1_params.allow_unsafe_interrupts = false;
	KUNIT_EXPECT_EQ_MSG(test, -EPERM, attach(test, 1, &plain), "a domain to join is no excuse");
	expect_state(test, &before, "second attach");
}

/* Nor is it asked for where the IOMMU isolates them. Since 6.3 that is not for UML's to say. */
static void isolated_interrupts_need_no_permission(struct kunit *test)
{
	int want;

	vfio_type1_params.allow_unsafe_interrupts = false;
	fake_iommu.capable = true;
	want = iommu_group_has_isolated_msi(group(0)) ? 0 : -EPERM;
	KUNIT_EXPECT_EQ(test, want, attach(test, 0, &plain));
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, want ? 0U : 1U);
}

/* While an address is unknown, nobody comes who may need it. */
static void no_attach_while_addresses_are_exchanged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	u64 size;

	must_attach(test, 0, &plain);
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, call_vaddr_invalidate(fx->container, HIGH_IOVA,
						       HIGH_PAGES * PAGE_SIZE, false, &size));
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EBUSY, attach(test, 1, &plain));
	KUNIT_EXPECT_EQ(test, -EBUSY, attach(test, 1, &incoherent));
	KUNIT_EXPECT_EQ(test, -EBUSY, attach_emulated(test));
	expect_state(test, &before, "attach");
	KUNIT_ASSERT_EQ(test, 0, call_vaddr_update(fx->container, HIGH_IOVA,
						   fx->vaddr + LOW_PAGES * PAGE_SIZE, size));
	must_attach(test, 1, &incoherent);
	expect_both_in_two_domains(test);
	KUNIT_EXPECT_EQ(test, 0, attach_emulated(test));
}

/* ---- attach that fails ---- */

/* Whichever run cannot be copied, the group stays out and the container as it was. */
static void failed_replay_changes_nothing(struct kunit *test)
{
	struct state before;
	unsigned int nth;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);
	for (nth = PROBE_CALLS + 1; nth <= PROBE_CALLS + RUNS; nth++) {
		fake_iommu.fail_map = nth;
		KUNIT_ASSERT_EQ_MSG(test, -ENOMEM, attach(test, 1, param(test)), "call %u", nth);
		expect_state(test, &before, "attach");
	}
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
	must_attach(test, 1, param(test));
	expect_both_in_two_domains(test);
}

/* The probe is dispensable. */
static void failed_probe_does_not_keep_a_group_out(struct kunit *test)
{
	must_attach(test, 0, &plain);
	map_both(test);
	fake_iommu.fail_map = PROBE_CALLS;
	must_attach(test, 1, param(test));
	expect_both_in_two_domains(test);
	unmap_both(test);
	expect_no_mappings(test);
}

/*
 * A group is first attached to a domain of its own, then tried in one that looks
 * alike, and goes back if that fails.
 */
static void failed_join_goes_back_or_changes_nothing(struct kunit *test)
{
	struct state before;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);

	fake_iommu.fail_attach = BIT(0);
	KUNIT_EXPECT_EQ(test, -ENOMEM, attach(test, 1, &plain));
	expect_state(test, &before, "its own domain refuses");

	fake_iommu.fail_attach = BIT(1) | BIT(2);
	KUNIT_EXPECT_EQ(test, -ENOMEM, attach(test, 1, &plain));
	expect_state(test, &before, "both domains refuse");

	fake_iommu.fail_attach = BIT(1);
	must_attach(test, 1, &plain);
	KUNIT_EXPECT_EQ(test, fake_iommu.fail_attach, 0UL);
	expect_both_in_two_domains(test);
}

/* Let each allocation of an attach fail. Both groups get a domain of their own. */
static void fail_each_allocation(struct kunit *test, const struct fake_traits *first,
				 const struct fake_traits *second)
{
	unsigned int nth, failed = 0, refused = 0;
	bool came = true;

	must_attach(test, 0, first);
	map_both(test);
	for (nth = 1; came; nth++) {
		struct state before = state_of(test);
		int ret;

		fault_nth(nth);
		ret = attach(test, 1, second);
		came = fault_end();
		failed += came;
		refused += !!ret;
		if (ret) {
			KUNIT_ASSERT_TRUE_MSG(test, came, "error %d", ret);
			expect_state(test, &before, "attach");
		} else {
			expect_both_in_two_domains(test);
			detach(test, 1);
		}
		expect_contents(test, mock(0));
	}
	/* At least each IOPTE is an allocation. */
	KUNIT_EXPECT_GT(test, failed, (unsigned int)NPAGES);
	KUNIT_EXPECT_GE(test, refused, (unsigned int)NPAGES);
}

/* Whichever allocation fails, attach works without it or changes nothing. */
static void failed_allocation_changes_nothing(struct kunit *test)
{
	fail_each_allocation(test, &plain, param(test));
}

/* So it is with those that reserved regions need. */
static void failed_allocation_of_regions_changes_nothing(struct kunit *test)
{
	static const struct fake_traits many_regions = {
		.name = "many regions", .pgsize_bitmap = SZ_4K, .driver = 1,
		.regions = {
			{ 0x200000, 0x1000, IOMMU_RESV_RESERVED },
			{ 0x300000, 0x1000, IOMMU_RESV_DIRECT },
			{ 0x8000000, 0x100000, IOMMU_RESV_SW_MSI },
			{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
		},
	};

	fail_each_allocation(test, &x86_like, &many_regions);
}

static int attach_next(void *data)
{
	struct fixture *fx = data;

	return vfio_container_attach(fx->container, group(fx->next));
}

/* A killed caller's attach ends, as the first group or a later one, and changes nothing. */
static void killed_attach_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	fake_iommu.devices[0].traits = &plain;
	fake_iommu.devices[1].traits = &incoherent;
	for (i = 0; i < 2; i++) {
		before = state_of(test);
		fx->next = i;
		KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, attach_next, fx));
		expect_state(test, &before, "attach");
		expect_iommu_pins(test, i ? NPAGES : 0, i ? NPAGES : 0);
		KUNIT_ASSERT_EQ(test, 0, attach_next(fx));
	}
	expect_both_in_two_domains(test);
}

/* What the primary domain has lost cannot be copied from it. */
static void replay_of_a_hole_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	struct vfio_dma *dma;
	struct mock_iommu *primary;

	must_attach(test, 0, &plain);
	map_both(test);
	primary = mock(0);
	dma = vfio_dma_tree_first(&fx->container->tree, LOW_IOVA, LOW_IOVA);
	vfio_runs_free(&dma->runs);
	dma->runs.lost = true;
	mock_iommu_lose(primary, LOW_IOVA + RUN_PAGES * PAGE_SIZE);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EIO, attach(test, 1, &incoherent));
	expect_state(test, &before, "attach");
	/* Put it back, for the rest of the case. */
	KUNIT_ASSERT_EQ(test, 0, iommu_map(&primary->domain, LOW_IOVA + RUN_PAGES * PAGE_SIZE,
					   page_to_phys(fx->pages[RUN_PAGES]), PAGE_SIZE,
					   RW | IOMMU_CACHE, GFP_KERNEL));
	must_attach(test, 1, &incoherent);
	expect_both_in_two_domains(test);
}

/* Whichever allocation fails, dirty tracking is off, and can be started later. */
static void failed_dirty_start_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int nth, failed = 0;
	struct vfio_dma *dma;
	bool came = true;

	must_attach(test, 0, &plain);
	map_both(test);
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = vfio_dirty_start(fx->container);
		came = fault_end();
		failed += !!ret;
		if (FAULT_IS_EXACT || !came)
			KUNIT_ASSERT_EQ_MSG(test, ret, came ? -ENOMEM : 0, "allocation %u", nth);
		KUNIT_ASSERT_EQ(test, fx->container->dirty_tracking, !ret);
		for (dma = vfio_dma_tree_first(&fx->container->tree, 0, U64_MAX); dma;
		     dma = vfio_dma_tree_next(dma))
			KUNIT_ASSERT_EQ_MSG(test, !!dma->dirty, !ret, "allocation %u", nth);
		vfio_dirty_stop(fx->container);
		expect_contents(test, mock(0));
		expect_iommu_pins(test, NPAGES, NPAGES);
	}
	KUNIT_EXPECT_EQ_MSG(test, failed, 2U, "a bitmap for each mapping");
}

/* Whichever allocation fails, in-kernel users have pinned nothing. */
static void failed_pin_changes_nothing(struct kunit *test)
{
	struct page *pages[LOW_PAGES];
	struct fixture *fx = test->priv;
	unsigned int nth, failed = 0, i;
	bool came = true;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = call_external_pin(fx->container, fx->emulated, LOW_IOVA, LOW_PAGES, RW,
					pages);
		came = fault_end();
		failed += ret < 0;
		if (FAULT_IS_EXACT || !came)
			KUNIT_ASSERT_EQ_MSG(test, ret, came ? -ENOMEM : LOW_PAGES,
					    "allocation %u", nth);
		fx->pinned = ret < 0 ? 0 : LOW_PAGES;
		expect_iommu_pins(test, 0, fx->pinned);
		for (i = 0; ret < 0 && i < failed; i++)
			KUNIT_ASSERT_NULL(test, pages[i]);
		if (fx->pinned)
			unpin(fx);
	}
	KUNIT_EXPECT_EQ_MSG(test, failed, (unsigned int)LOW_PAGES, "a record for each page");
}

/* Taking addresses back, giving them, and detaching need no memory at all. */
static void vaddr_and_detach_need_no_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int taken, given, without;
	u64 size;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	map_both(test);
	fault_all();
	taken = call_vaddr_invalidate(fx->container, 0, 0, true, &size);
	given = call_vaddr_update(fx->container, LOW_IOVA, fx->vaddr, LOW_PAGES * PAGE_SIZE);
	without = fx->container->tree.vaddr_invalid;
	detach(test, 0);
	detach(test, 1);
	fault_end();
	KUNIT_EXPECT_EQ(test, taken, 0);
	KUNIT_EXPECT_EQ(test, size, (u64)NPAGES * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, given, 0);
	KUNIT_EXPECT_EQ(test, without, 1);
	expect_no_mappings(test);
}

static struct kunit_case attach_fail_cases[] = {
	KUNIT_CASE(who_refuses_a_group_is_asked_why),
	KUNIT_CASE(group_can_be_attached_once),
	KUNIT_CASE(detach_of_a_stranger_does_nothing),
	KUNIT_CASE(group_without_devices_stays_out),
	KUNIT_CASE(nesting_is_for_all_domains),
	KUNIT_CASE(unsafe_interrupts_need_permission),
	KUNIT_CASE(isolated_interrupts_need_no_permission),
	KUNIT_CASE(no_attach_while_addresses_are_exchanged),
	KUNIT_CASE_PARAM(failed_replay_changes_nothing, unlike_gen),
	KUNIT_CASE_PARAM(failed_probe_does_not_keep_a_group_out, unlike_gen),
	KUNIT_CASE(failed_join_goes_back_or_changes_nothing),
	KUNIT_CASE_PARAM(failed_allocation_changes_nothing, unlike_gen),
	KUNIT_CASE(failed_allocation_of_regions_changes_nothing),
	KUNIT_CASE(killed_attach_changes_nothing),
	KUNIT_CASE(replay_of_a_hole_changes_nothing),
	KUNIT_CASE(failed_dirty_start_changes_nothing),
	KUNIT_CASE(failed_pin_changes_nothing),
	KUNIT_CASE(vaddr_and_detach_need_no_memory),
	{}
};

SUITE("vfio_attach_fail", attach_fail_cases, ATTACH_SUITE);
