// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: what MAP takes of it.
 */

#include <linux/mman.h>
#include <linux/sizes.h>

#include "fault.h"
#include "registry_fixture.h"

/* From the region's frames, whatever they are; without a pin or a charge. */
static void mapping_takes_the_regions_frames(struct kunit *test)
{
	static const struct { unsigned int page, npages; u64 iova; } part[] = {
		{ 10, 1, 0 }, { 10, 2, PAGE_SIZE }, { 11, 16, SZ_2M - PAGE_SIZE },
		{ 500, 33, SZ_1G - 8 * PAGE_SIZE }, { 10, NPAGES - 10, SZ_2M },
		{ 512, 512, SZ_4G }, { NPAGES - 1, 1, 0 },
	};
	struct fixture *fx = test->priv;
	unsigned int layout, i, huge;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 10, NPAGES - 10, false));
		for (i = 0; i < ARRAY_SIZE(part); i++) {
			for (huge = 0; huge < 2; huge++) {
				vfio_type1_params.disable_hugepages = !huge;
				KUNIT_ASSERT_EQ(test, 0, map(test, 1, part[i].iova, part[i].page,
							     part[i].npages));
				vfio_type1_params.disable_hugepages = false;
				expect_mapped_at(test, 1, part[i].iova, part[i].page,
						 part[i].npages, RW);
				expect_region_pins(test, 0, 10, 0);
				expect_region_pins(test, 10, NPAGES - 10, 1);
				expect_charge(test, NPAGES - 10);
				must_unmap(test, 1, part[i].iova, part[i].npages);
				mock_iommu_expect_empty(test, mock(1));
				expect_region_pins(test, 10, NPAGES - 10, 1);
				expect_charge(test, NPAGES - 10);
			}
		}
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 10, NPAGES - 10));
		expect_no_region(test);
		drop_memory(fx);
	}
}

/* As many containers as there are: one pin, one charge. */
static void containers_share_pins_and_charge(struct kunit *test)
{
	make_memory(test, RANDOM);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, SZ_1G, 0, NPAGES));
	KUNIT_ASSERT_EQ(test, 0, map(test, 1, 0, 0, NPAGES));
	expect_region_pins(test, 0, NPAGES, 1);
	expect_charge(test, NPAGES);
	expect_mapped_at(test, 0, SZ_1G, 0, NPAGES, RW);
	expect_mapped_at(test, 1, 0, 0, NPAGES, RW);
	must_unmap(test, 0, SZ_1G, NPAGES);
	must_unmap(test, 0, 0, NPAGES);
	must_unmap(test, 1, 0, NPAGES);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 1, 0, NPAGES));
	expect_no_region(test);
}

/* What lies partly outside of a region, or in two, is pinned as ever. */
static void memory_partly_inside_is_pinned(struct kunit *test)
{
	static const struct { unsigned int page, npages; } part[] = {
		{ 9, 1 }, { 9, 2 }, { 19, 2 }, { 9, 12 }, { 20, 1 }, { 15, 10 }, { 29, 5 },
	};
	unsigned int i;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 10, 10, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 20, 10, true));
	for (i = 0; i < ARRAY_SIZE(part); i++) {
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, part[i].page, part[i].npages));
		KUNIT_EXPECT_NULL(test, mapping(test, 0, 0)->region);
		expect_charge(test, 20 + part[i].npages);
		expect_mapped_at(test, 0, 0, part[i].page, part[i].npages, RW);
		must_unmap(test, 0, 0, part[i].npages);
		expect_charge(test, 20);
	}
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 10, 10));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 20, 10));
	expect_no_region(test);
}

static void read_only_regions_are_not_written(struct kunit *test)
{
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, true));
	KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, 0, 0, 20, IOMMU_READ));
	KUNIT_EXPECT_NOT_NULL(test, mapping(test, 0, 0)->region);
	expect_mapped_at(test, 0, 0, 0, 20, IOMMU_READ);
	expect_charge(test, 20);
	KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, SZ_1G, 0, 20, IOMMU_WRITE));
	KUNIT_EXPECT_NULL(test, mapping(test, 0, SZ_1G)->region);
	expect_charge(test, 40);
	must_unmap(test, 0, 0, 20);
	must_unmap(test, 0, SZ_1G, 20);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
	/* Memory that the process may only read can be registered so, and not otherwise. */
	drop_memory(test->priv);
	((struct fixture *)test->priv)->vaddr =
		user_map_pages(test, ((struct fixture *)test->priv)->pages, NPAGES, PROT_READ);
	((struct fixture *)test->priv)->mapped = true;
	KUNIT_EXPECT_EQ(test, -EFAULT, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 0, 20, true));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

/*
 * Nobody can pin it, so nobody could promise that it stays. It is mapped the ordinary
 * way, but not where only registered memory is.
 */
static void mmio_is_not_registered(struct kunit *test)
{
	static const unsigned int at[] = { 0, 20, 500, NPAGES - 24 };
	struct fixture *fx = test->priv;
	unsigned int i, page, end;

	close_container(test, 1);
	fx->container[1] = open_container(test, true);
	attach(test, 1, 1, &vtd);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		make_memory(test, SEQUENTIAL);
		end = at[i] + 24;
		user_map_pfns(test, vaddr_of(test, at[i]), MMIO_PFN, 24);
		KUNIT_ASSERT_EQ(test, -EFAULT, reg(test, 0, 0, NPAGES, false));
		KUNIT_ASSERT_EQ(test, -EFAULT, reg(test, 0, 0, NPAGES, true));
		KUNIT_ASSERT_EQ(test, -EFAULT, reg(test, 0, at[i], 24, false));
		KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_PIN]),
				3L * (i + 1));
		expect_charge(test, 0);
		expect_region_pins(test, 0, at[i], 0);
		expect_region_pins(test, end, NPAGES - end, 0);
		KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);

		if (at[i])
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, at[i], false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, at[i], 24));
		KUNIT_ASSERT_EQ(test, -EPERM, map(test, 1, 0, at[i], 24));
		expect_charge(test, at[i]);
		for (page = 0; page < 24; page++)
			KUNIT_ASSERT_EQ(test, iommu_iova_to_phys(&mock(0)->domain,
								 page * PAGE_SIZE),
					PFN_PHYS(MMIO_PFN + page));
		must_unmap(test, 0, 0, 24);
		if (at[i])
			KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, at[i]));
		expect_charge(test, 0);
		drop_memory(fx);
	}
}

/* Nothing is left of a mapping, in whichever call the IOMMU fails. */
static void failed_map_call_leaves_the_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, nth, calls;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 200, false));
		calls = mock(0)->nr_map;
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 200));
		calls = mock(0)->nr_map - calls;
		must_unmap(test, 0, 0, 200);
		for (nth = 1; nth <= calls; nth++) {
			mock(0)->fail_map = nth;
			KUNIT_ASSERT_EQ(test, -ENOMEM, map(test, 0, 0, 0, 200));
			KUNIT_ASSERT_EQ(test, mock(0)->fail_map, 0U);
			mock_iommu_expect_empty(test, mock(0));
			KUNIT_ASSERT_EQ(test, refcount_read(&only_region(test)->users), 1U);
		}
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 200));
		expect_no_region(test);
		drop_memory(fx);
	}
}

/* Whichever allocation of MAP fails, the use of the region goes with the mapping. */
static void failed_map_allocation_leaves_the_region(struct kunit *test)
{
	bool came = true;
	unsigned int nth;

	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 200, false));
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = map(test, 0, 0, 0, 200);
		came = fault_end();
		if (!ret)
			must_unmap(test, 0, 0, 200);
		else
			KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
		mock_iommu_expect_empty(test, mock(0));
		KUNIT_ASSERT_EQ(test, refcount_read(&only_region(test)->users), 1U);
	}
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 200));
	expect_no_region(test);
}

/* What an IOMMU does not give back stays pinned, with all that was registered with it. */
static void what_an_iommu_keeps_stays_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 64, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 64));
	mock(0)->stuck = 8 * PAGE_SIZE;
	must_unmap(test, 0, 0, 64);
	mock(0)->stuck = MOCK_NOT_STUCK;
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 64));
	expect_region_pins(test, 0, 64, 1);
	expect_charge(test, 0);
	for (i = 0; i < 64; i++) {
		unpin_user_page(fx->pages[i]);
		if (mock_iommu_prot(mock(0), i * PAGE_SIZE) >= 0)
			mock_iommu_lose(mock(0), i * PAGE_SIZE);
	}
	expect_no_region(test);
}

/* Nor does what it failed to map, and kept. */
static void what_a_failed_map_keeps_stays_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 64, false));
	/* Of eight runs, the second one: half of it is there then, and is said not to be. */
	mock(0)->fail_map = 2;
	mock(0)->stuck = 8 * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, -ENOMEM, map(test, 0, 0, 0, 64));
	mock(0)->stuck = MOCK_NOT_STUCK;
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock(0), 8 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 64));
	expect_region_pins(test, 0, 64, 1);
	for (i = 0; i < 64; i++) {
		unpin_user_page(fx->pages[i]);
		if (mock_iommu_prot(mock(0), i * PAGE_SIZE) >= 0)
			mock_iommu_lose(mock(0), i * PAGE_SIZE);
	}
	expect_no_region(test);
}

static void strict_containers_map_registered_memory_only(struct kunit *test)
{
	struct fixture *fx = test->priv;

	close_container(test, 1);
	fx->container[1] = open_container(test, true);
	attach(test, 1, 1, &vtd);
	make_memory(test, EIGHTS);
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 0, 1));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 10, 10, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 20, 10, true));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 0, 1));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 9, 2));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 19, 2));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 20, 1));
	KUNIT_EXPECT_EQ(test, 0, map_prot(test, 1, 0, 20, 1, IOMMU_READ));
	KUNIT_EXPECT_EQ(test, 0, map(test, 1, SZ_1G, 10, 10));
	expect_charge(test, 20);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[1]->refused[VFIO_REFUSE_REGISTRY]),
			5L);
	must_unmap(test, 1, 0, 1);
	must_unmap(test, 1, SZ_1G, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 10, 10));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 20, 10));
	expect_no_region(test);
}

static struct kunit_case registry_map_cases[] = {
	KUNIT_CASE(mapping_takes_the_regions_frames),
	KUNIT_CASE(containers_share_pins_and_charge),
	KUNIT_CASE(memory_partly_inside_is_pinned),
	KUNIT_CASE(read_only_regions_are_not_written),
	KUNIT_CASE(mmio_is_not_registered),
	KUNIT_CASE(failed_map_call_leaves_the_region),
	KUNIT_CASE(failed_map_allocation_leaves_the_region),
	KUNIT_CASE(what_an_iommu_keeps_stays_pinned),
	KUNIT_CASE(what_a_failed_map_keeps_stays_pinned),
	KUNIT_CASE(strict_containers_map_registered_memory_only),
	{}
};

SUITE("vfio_registered_maps", registry_map_cases, REGISTRY_SUITE);
