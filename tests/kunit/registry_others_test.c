// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: attach, in-kernel users, dirty bitmaps, exchange of addresses.
 */

#include <linux/mman.h>
#include <linux/sched/mm.h>

#include "registry_fixture.h"

/* An attach copies the region's frames; the IOMMU is asked for none. */
static void attach_replays_from_the_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		/* As a further domain. */
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		mock(0)->nr_to_phys = 0;
		attach(test, 0, 2, &amdvi);
		KUNIT_EXPECT_EQ(test, mock(0)->nr_to_phys, 0U);
		KUNIT_ASSERT_PTR_NE(test, mock(0), mock(2));
		expect_mapped_at(test, 2, 0, 0, NPAGES, RW);
		must_unmap(test, 0, 0, NPAGES);
		mock_iommu_expect_empty(test, mock(2));
		detach(test, 0, 2);

		/* As the first one, which has to pin nothing. */
		detach(test, 0, 0);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		expect_charge(test, NPAGES);
		user_unmap(fx->vaddr, NPAGES);
		fx->mapped = false;
		attach(test, 0, 0, &vtd);
		expect_mapped_at(test, 0, 0, 0, NPAGES, RW);
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		expect_charge(test, 0);
		mock_iommu_expect_empty(test, mock(0));
	}
}

static void clean(struct kunit *test, unsigned int npages)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < npages; i++)
		ClearPageDirty(fx->pages[i]);
}

static void expect_dirty(struct kunit *test, unsigned int first, unsigned int npages, bool dirty)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = first; i < first + npages; i++)
		KUNIT_ASSERT_EQ_MSG(test, (bool)PageDirty(fx->pages[i]), dirty, "page %u", i);
}

/* The memory is a file's: whoever writes it back hears of what devices wrote at UNMAP. */
static void written_pages_are_dirty_when_unmapped(struct kunit *test)
{
	static const enum layout layouts[] = { SEQUENTIAL, SINGLES };
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		make_memory(test, layouts[i]);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		/* Pinning for writing may say so, too. */
		clean(test, NPAGES);
		KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, 0, 4, 10, IOMMU_READ));
		must_unmap(test, 0, 0, 10);
		expect_dirty(test, 0, NPAGES, false);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
		expect_dirty(test, 0, NPAGES, false);
		mock(0)->clean = fx->pages[4];
		must_unmap(test, 0, 0, 10);
		mock(0)->clean = NULL;
		expect_dirty(test, 4, 10, true);
		/* While another mapping is written to, and when the last group goes. */
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
		KUNIT_ASSERT_EQ(test, 0, map(test, 1, 0, 4, 10));
		clean(test, NPAGES);
		must_unmap(test, 0, 0, 10);
		expect_dirty(test, 4, 10, true);
		clean(test, NPAGES);
		detach(test, 1, 1);
		expect_dirty(test, 4, 10, true);
		attach(test, 1, 1, &vtd);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		/* Registered for reading, none can be written to. */
		clean(test, NPAGES);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, true));
		KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, 0, 4, 10, IOMMU_READ));
		must_unmap(test, 0, 0, 10);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		expect_dirty(test, 0, NPAGES, false);
		expect_no_region(test);
		drop_memory(fx);
	}
}

/* Some registered pages in a container that an in-kernel user has to itself. */
static void map_for_user(struct kunit *test)
{
	struct fixture *fx = test->priv;

	detach(test, 0, 0);
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container[0], fx->emulated));
	vfio_external_register(fx->container[0], &fx->device);
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
}

/* In-kernel users write to registered pages, too: when they unpin, or at once. */
static void pages_that_users_wrote_are_dirty(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	u64 word = 7;

	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	clean(test, NPAGES);
	map_for_user(test);
	KUNIT_ASSERT_EQ(test, 1, call_external_pin(fx->container[0], fx->emulated, 0, 1, RW,
						   &page));
	expect_dirty(test, 0, NPAGES, false);
	vfio_external_unpin(fx->container[0], 0, 1);
	expect_dirty(test, 4, 1, true);
	clean(test, NPAGES);
	KUNIT_ASSERT_EQ(test, 0, vfio_external_rw(fx->container[0], 0, &word, sizeof(word),
						  false));
	expect_dirty(test, 0, NPAGES, false);
	KUNIT_ASSERT_EQ(test, 0, vfio_external_rw(fx->container[0], 0, &word, sizeof(word), true));
	expect_dirty(test, 4, 1, true);
	must_unmap(test, 0, 0, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_charge(test, 0);
	vfio_external_unregister(fx->container[0], &fx->device);
	vfio_container_detach(fx->container[0], fx->emulated);
}

/* In-kernel users get the region's pages; not pinned or charged again. */
static void in_kernel_users_share_pins_and_charge(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	u64 word = 0;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	map_for_user(test);
	KUNIT_ASSERT_EQ(test, 1, call_external_pin(fx->container[0], fx->emulated, 0, 1, RW,
						   &page));
	KUNIT_EXPECT_PTR_EQ(test, page, fx->pages[4]);
	expect_region_pins(test, 0, 20, 1);
	expect_charge(test, 20);
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));

	/* They see what was registered, also if the process does not any more. */
	fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
	get_page(fx->pages[4]);
	user_remap_page(test, vaddr_of(test, 4), fx->pages[500], PROT_READ | PROT_WRITE);
	*(u64 *)page_address(fx->pages[4]) = 0x0123456789abcdef;
	*(u64 *)page_address(fx->pages[500]) = 1;
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container[0], 0, &word, sizeof(word), false));
	KUNIT_EXPECT_EQ(test, word, 0x0123456789abcdefULL);
	word = 7;
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container[0], PAGE_SIZE - 4, &word,
						  sizeof(word), true));
	KUNIT_EXPECT_EQ(test, *(u32 *)(page_address(fx->pages[4]) + PAGE_SIZE - 4), 7U);
	KUNIT_EXPECT_EQ(test, *(u32 *)page_address(fx->pages[5]), 0U);

	/* Unmapping tells the device, which unpins. */
	must_unmap(test, 0, 0, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	user_unmap(vaddr_of(test, 4), 1);
	expect_region_pins(test, 0, 20, 0);
	expect_charge(test, 0);
	put_page(fx->pages[4]);
	vfio_external_unregister(fx->container[0], &fx->device);
	vfio_container_detach(fx->container[0], fx->emulated);
}

static void addresses_can_be_exchanged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 bytes;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
	KUNIT_ASSERT_EQ(test, 0, call_vaddr_invalidate(fx->container[0], 0, 10 * PAGE_SIZE, false,
						       &bytes));
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));
	KUNIT_ASSERT_EQ(test, 0, call_map_dma(fx->container[0], 0, vaddr_of(test, 500),
					      10 * PAGE_SIZE, 0, true));
	/* The memory is what it was, and charged once. */
	expect_charge(test, 20);
	attach(test, 0, 2, &amdvi);
	expect_mapped_at(test, 2, 0, 4, 10, RW);
	detach(test, 0, 2);
	must_unmap(test, 0, 0, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

/* Who is given a mapping of what another process has registered is charged for it, too. */
static void a_new_owner_is_charged_for_a_mapping(struct kunit *test)
{
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[0];
	struct mm_struct *mine = current->mm;
	struct vfio_dma *dma;
	u64 bytes;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
	KUNIT_ASSERT_EQ(test, 0, call_vaddr_invalidate(container, 0, 10 * PAGE_SIZE, false,
						       &bytes));
	/* As if the other process had done that. */
	dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX);
	mmdrop(dma->owner.mm);
	dma->owner.mm = other;
	only_region(test)->owner.mm = other;
	KUNIT_EXPECT_EQ(test, 0, call_map_dma(container, 0, vaddr_of(test, 4), 10 * PAGE_SIZE, 0,
					      true));
	only_region(test)->owner.mm = mine;
	KUNIT_EXPECT_PTR_EQ(test, dma->owner.mm, mine);
	expect_charge(test, 30);
	KUNIT_EXPECT_EQ(test, vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES), 10ULL);
	must_unmap(test, 0, 0, 10);
	expect_charge(test, 20);
	KUNIT_EXPECT_EQ(test, vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES), 0ULL);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

static struct kunit_case registry_others_cases[] = {
	KUNIT_CASE(attach_replays_from_the_region),
	KUNIT_CASE(written_pages_are_dirty_when_unmapped),
	KUNIT_CASE(pages_that_users_wrote_are_dirty),
	KUNIT_CASE(in_kernel_users_share_pins_and_charge),
	KUNIT_CASE(addresses_can_be_exchanged),
	KUNIT_CASE(a_new_owner_is_charged_for_a_mapping),
	{}
};

SUITE("vfio_registered_with_others", registry_others_cases, REGISTRY_SUITE);
