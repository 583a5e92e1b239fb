// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach of groups: which domain they get, and what is mapped in it.
 */

#include <linux/mman.h>

#include "attach_fixture.h"
#include "user_mem.h"

static void alike_group_joins_the_domain(struct kunit *test)
{
	struct mock_iommu *shared;
	unsigned int calls;

	must_attach(test, 0, &plain);
	map_both(test);
	shared = mock(0);
	calls = shared->nr_map;
	must_attach(test, 1, &plain);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 1U);
	KUNIT_EXPECT_PTR_EQ(test, mock(1), shared);
	KUNIT_EXPECT_EQ_MSG(test, shared->nr_map, calls, "mapped something");

	/* Whoever stays keeps everything. */
	detach(test, 0);
	KUNIT_ASSERT_PTR_EQ(test, mock(1), shared);
	expect_contents(test, shared);
	expect_iommu_pins(test, NPAGES, NPAGES);
	unmap_both(test);
	expect_no_mappings(test);
}

/* It gets what is mapped, in one call for each run. */
static void unlike_group_gets_a_domain_of_the_same_contents(struct kunit *test)
{
	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, param(test));
	expect_both_in_two_domains(test);
	KUNIT_EXPECT_EQ(test, mock(1)->nr_map, (unsigned int)PROBE_CALLS + RUNS);
}

/* Not only the first domain can be joined, whether the others are known or found to be unlike. */
static void group_joins_whichever_domain_is_alike(struct kunit *test)
{
	const struct fake_traits *second = param(test);

	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, second);
	must_attach(test, 2, second);
	must_attach(test, 3, &plain);
	expect_both_in_two_domains(test);
	KUNIT_EXPECT_PTR_EQ(test, mock(2), mock(1));
	KUNIT_EXPECT_PTR_EQ(test, mock(3), mock(0));
}

/* A container enforces coherency if all of its domains do. */
static void coherency_is_that_of_all_domains(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_EXPECT_TRUE(test, vfio_container_coherent(fx->container));
	must_attach(test, 0, &incoherent);
	KUNIT_EXPECT_FALSE(test, vfio_container_coherent(fx->container));
	must_attach(test, 1, &plain);
	KUNIT_EXPECT_FALSE(test, vfio_container_coherent(fx->container));
	detach(test, 0);
	KUNIT_EXPECT_TRUE(test, vfio_container_coherent(fx->container));
}

/* An IOMMU whose driver does not know of coherency does not enforce it. */
static void silent_iommu_is_not_coherent(struct kunit *test)
{
	static const struct fake_traits silent = {
		.name = "silent", .pgsize_bitmap = SZ_4K, .driver = FAKE_SILENT,
	};
	struct fixture *fx = test->priv;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &silent);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 2U);
	KUNIT_EXPECT_FALSE(test, vfio_container_coherent(fx->container));
}

/* Domains refuse to enforce coherency once they had a mapping. */
static void probe_runs_after_coherency_and_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &foreign);
	KUNIT_EXPECT_EQ(test, mock(0)->nr_map, (unsigned int)PROBE_CALLS);
	KUNIT_EXPECT_EQ(test, mock(1)->nr_map, (unsigned int)PROBE_CALLS);
	KUNIT_EXPECT_TRUE(test, vfio_container_coherent(fx->container));
	expect_no_mappings(test);
}

/* ---- mapping and unmapping in two domains ---- */

static void map_and_unmap_reach_both_domains(struct kunit *test)
{
	unsigned int syncs[2];

	must_attach(test, 0, &plain);
	must_attach(test, 1, param(test));
	map_both(test);
	expect_both_in_two_domains(test);
	syncs[0] = mock(0)->nr_sync;
	syncs[1] = mock(1)->nr_sync;
	unmap_both(test);
	KUNIT_EXPECT_GT(test, mock(0)->nr_sync, syncs[0]);
	KUNIT_EXPECT_GT(test, mock(1)->nr_sync, syncs[1]);
	/* The mocks have seen whether a page was unpinned before its sync. */
	expect_no_mappings(test);
}

/*
 * A new domain has tables of its own, which do not reach as far as the others' by now. They
 * are made to, by a page that goes at once, whether or not there is something to copy.
 */
static void tables_of_a_new_domain_are_made_to_reach(struct kunit *test)
{
	const u64 far = BIT_ULL(45), farther = far + SZ_1M;
	struct fixture *fx = test->priv;
	unsigned int copies, unmaps;

	for (copies = 0; copies < 2; copies++) {
		must_attach(test, 0, &plain);
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, far, fx->vaddr, PAGE_SIZE, RW));
		if (!copies)
			must_unmap(test, far, PAGE_SIZE);
		must_attach(test, 1, param(test));
		KUNIT_ASSERT_PTR_NE(test, mock(0), mock(1));
		KUNIT_EXPECT_EQ(test, mock(1)->nr_ptes, copies);
		unmaps = mock(1)->nr_unmap;
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, farther, fx->vaddr + PAGE_SIZE, PAGE_SIZE,
						   RW));
		KUNIT_EXPECT_EQ(test, mock(1)->nr_unmap, unmaps + 1);
		/* Once. */
		must_unmap(test, farther, PAGE_SIZE);
		unmaps = mock(1)->nr_unmap;
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, farther, fx->vaddr + PAGE_SIZE, PAGE_SIZE,
						   RW));
		KUNIT_EXPECT_EQ(test, mock(1)->nr_unmap, unmaps);
		must_unmap(test, farther, PAGE_SIZE);
		if (copies)
			must_unmap(test, far, PAGE_SIZE);
		expect_no_mappings(test);
		detach(test, 1);
		detach(test, 0);
	}
}

/* Whichever call to whichever domain fails, MAP leaves nothing in either. */
static void map_failure_unwinds_both_domains(struct kunit *test)
{
	unsigned int nr, nth;

	must_attach(test, 0, &plain);
	must_attach(test, 1, param(test));
	KUNIT_ASSERT_EQ(test, 0, map_high(test));
	for (nr = 0; nr < 2; nr++) {
		for (nth = 1; nth <= LOW_PAGES / RUN_PAGES; nth++) {
			struct state before = state_of(test);

			mock(nr)->fail_map = nth;
			KUNIT_ASSERT_EQ(test, -ENOMEM, map_low(test));
			KUNIT_ASSERT_EQ(test, mock(nr)->fail_map, 0U);
			expect_state(test, &before, "failed MAP");
		}
	}
	KUNIT_ASSERT_EQ(test, 0, map_low(test));
	expect_both_in_two_domains(test);
	unmap_both(test);
	expect_no_mappings(test);
}

/*
 * When the primary domain goes, addresses are read back from another one: UNMAP,
 * in each of its ways, still finds and unpins everything, and MAP goes on.
 */
static void primary_domain_can_leave(struct kunit *test)
{
	static const enum vfio_unmap_walk walks[] = {
		VFIO_UNMAP_RUNS, VFIO_UNMAP_FGSP, VFIO_UNMAP_COARSE,
	};
	unsigned int w;

	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		must_attach(test, 0, &plain);
		KUNIT_ASSERT_EQ(test, 0, map_low(test));
		must_attach(test, 1, param(test));
		KUNIT_ASSERT_EQ(test, 0, map_high(test));
		detach(test, 0);
		KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 1U);
		expect_contents(test, mock(1));
		expect_iommu_pins(test, NPAGES, NPAGES);

		/* The one that stays is what the next is filled from. */
		must_attach(test, 2, &plain);
		expect_contents(test, mock(2));
		detach(test, 2);

		unmap_both(test);
		expect_no_mappings(test);
		map_both(test);
		expect_contents(test, mock(1));
		detach(test, 1);
		expect_no_mappings(test);
	}
}

/* The other one leaves without a trace. */
static void second_domain_can_leave(struct kunit *test)
{
	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, param(test));
	detach(test, 1);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 1U);
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
	unmap_both(test);
	expect_no_mappings(test);
}

/* With the last group all mappings go, and the container can be used again. */
static void last_group_takes_the_mappings_along(struct kunit *test)
{
	must_attach(test, 0, &plain);
	must_attach(test, 1, &plain);
	must_attach(test, 2, &incoherent);
	map_both(test);
	detach(test, 1);
	detach(test, 0);
	expect_contents(test, mock(2));
	detach(test, 2);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
	expect_no_mappings(test);

	must_attach(test, 0, &plain);
	map_both(test);
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* Who goes on is told, and is told nothing if there was nothing to lose. */
static void what_the_last_group_takes_along_is_told(struct kunit *test)
{
	struct fixture *fx = test->priv;
	atomic_long_t *told = &fx->container->refused[VFIO_REFUSE_LAST_GROUP];
	char want[64];

	klog_begin(&fx->log);
	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	map_both(test);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 0L);
	detach(test, 1);
	snprintf(want, sizeof(want), "detach of group %d: it was the last one: 2 mappings removed",
		 iommu_group_id(group(1)));
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, want), 1U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 1L);

	/* In-kernel users keep the mappings, until they leave, too. */
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	map_both(test);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 1L);
	vfio_container_detach(fx->container, fx->emulated);
	snprintf(want, sizeof(want), "detach of group %d: it was the last one: 2 mappings removed",
		 iommu_group_id(fx->emulated));
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, want), 1U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 2L);

	must_attach(test, 0, &plain);
	map_both(test);
	unmap_both(test);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, "mappings removed"), 0U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 2L);
}

/* A process that ends needs not be told. */
static void what_goes_with_a_process_is_not_told(struct kunit *test)
{
	struct fixture *fx = test->priv;

	must_attach(test, 0, &plain);
	map_both(test);
	current->flags |= PF_EXITING;
	detach(test, 0);
	current->flags &= ~PF_EXITING;
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container->refused[VFIO_REFUSE_LAST_GROUP]),
			0L);
	expect_no_mappings(test);
}

static void destroy_with_everything_attached(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	must_attach(test, 2, &foreign);
	must_attach(test, 3, &plain);
	map_both(test);
	pin_low(test, fx->emulated, 3);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 3U);
	expect_iommu_pins(test, NPAGES, NPAGES);
	attach_destroy(test);
}

static void page_sizes_are_those_of_all_domains(struct kunit *test)
{
	static const struct fake_traits small = {
		.name = "smaller than a page", .pgsize_bitmap = SZ_1K | SZ_64K | SZ_2M,
	};
	const unsigned long *pgsizes =
		&((struct fixture *)test->priv)->container->pgsize_bitmap;

	KUNIT_EXPECT_EQ_MSG(test, *pgsizes, PAGE_MASK, "without a domain any will do");
	must_attach(test, 0, &plain);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_4K | SZ_2M | SZ_1G));
	must_attach(test, 1, &more_sizes);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_4K | SZ_2M));
	must_attach(test, 2, &large_pages);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)SZ_2M);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_64K | SZ_2M));
	detach(test, 2);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_4K | SZ_64K | SZ_2M));
	detach(test, 1);
	KUNIT_EXPECT_EQ(test, *pgsizes, PAGE_MASK);
	must_attach(test, 0, &small);
	KUNIT_EXPECT_EQ_MSG(test, *pgsizes, (unsigned long)(SZ_4K | SZ_64K | SZ_2M),
			    "memory is pinned by pages");
}

/* The largest of the smallest pages is what requests must be aligned to. */
static void smallest_page_is_that_of_all_domains(struct kunit *test)
{
	unsigned int reserve = 3 * SZ_64K / PAGE_SIZE;
	unsigned long hole = user_map_anon(test, reserve, PROT_READ);
	unsigned long vaddr = ALIGN(hole, SZ_64K);
	int unaligned[3], aligned;

	must_attach(test, 0, &more_sizes);
	must_attach(test, 1, &large_pages);
	/* MMIO, whose frames are aligned as its addresses. */
	user_map_pfns(test, vaddr, MMIO_PFN, 2 * SZ_64K / PAGE_SIZE);
	unaligned[0] = map_bytes(test, SZ_1M + SZ_4K, vaddr, SZ_64K, RW);
	unaligned[1] = map_bytes(test, SZ_1M, vaddr + SZ_4K, SZ_64K, RW);
	unaligned[2] = map_bytes(test, SZ_1M, vaddr, SZ_4K, RW);
	aligned = map_bytes(test, SZ_1M, vaddr, 2 * SZ_64K, RW);
	user_unmap(hole, reserve);
	KUNIT_EXPECT_EQ(test, -EINVAL, unaligned[0]);
	KUNIT_EXPECT_EQ(test, -EINVAL, unaligned[1]);
	KUNIT_EXPECT_EQ(test, -EINVAL, unaligned[2]);
	KUNIT_ASSERT_EQ(test, 0, aligned);
	KUNIT_EXPECT_EQ(test, mock(0)->nr_ptes, 2U);
	KUNIT_EXPECT_EQ(test, mock(1)->nr_ptes, 2U);
	must_unmap(test, SZ_1M, 2 * SZ_64K);
	expect_no_mappings(test);
}

/* An IOMMU that cannot hold the mappings that are there is not let in. */
static void mappings_too_small_for_a_group_keep_it_out(struct kunit *test)
{
	struct state before;

	must_attach(test, 0, &more_sizes);
	map_both(test);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &large_pages));
	expect_state(test, &before, "attach");
	expect_contents(test, mock(0));
	unmap_both(test);
	must_attach(test, 1, &large_pages);
}

/* Without a page size in common nothing could ever be mapped. */
static void page_sizes_must_have_one_in_common(struct kunit *test)
{
	static const struct fake_traits others = {
		.name = "of other page sizes only", .pgsize_bitmap = SZ_64K | SZ_512M,
	};
	struct state before;

	must_attach(test, 0, &plain);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &others));
	expect_state(test, &before, "attach");
}

static struct kunit_case attach_cases[] = {
	KUNIT_CASE(alike_group_joins_the_domain),
	KUNIT_CASE_PARAM(unlike_group_gets_a_domain_of_the_same_contents, unlike_gen),
	KUNIT_CASE_PARAM(group_joins_whichever_domain_is_alike, unlike_gen),
	KUNIT_CASE(coherency_is_that_of_all_domains),
	KUNIT_CASE(silent_iommu_is_not_coherent),
	KUNIT_CASE(probe_runs_after_coherency_and_leaves_nothing),
	KUNIT_CASE_PARAM(map_and_unmap_reach_both_domains, unlike_gen),
	KUNIT_CASE_PARAM(tables_of_a_new_domain_are_made_to_reach, unlike_gen),
	KUNIT_CASE_PARAM(map_failure_unwinds_both_domains, unlike_gen),
	KUNIT_CASE_PARAM(primary_domain_can_leave, unlike_gen),
	KUNIT_CASE_PARAM(second_domain_can_leave, unlike_gen),
	KUNIT_CASE(last_group_takes_the_mappings_along),
	KUNIT_CASE(what_the_last_group_takes_along_is_told),
	KUNIT_CASE(what_goes_with_a_process_is_not_told),
	KUNIT_CASE(destroy_with_everything_attached),
	KUNIT_CASE(page_sizes_are_those_of_all_domains),
	KUNIT_CASE(smallest_page_is_that_of_all_domains),
	KUNIT_CASE(mappings_too_small_for_a_group_keep_it_out),
	KUNIT_CASE(page_sizes_must_have_one_in_common),
	{}
};

SUITE("vfio_attach_detach", attach_cases, ATTACH_SUITE);
