// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: changes of the process's memory.
 */

#include <linux/mman.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "registry_fixture.h"

/* Other memory than was registered is not mapped; the same is, and so is the rest. */
static void changed_memory_is_refused(struct kunit *test)
{
	static const unsigned int at[] = { 0, 1, 300, 511, 512, NPAGES - 2 };
	struct fixture *fx = test->priv;
	unsigned int layout, i, other = NPAGES - 1;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			unsigned long vaddr;

			make_memory(test, layout);
			vaddr = vaddr_of(test, at[i]);
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, other, false));
			KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, other));
			fake_watch_change(vaddr, vaddr + PAGE_SIZE - 1);
			/* The region has a reference to the page that goes. */
			get_page(fx->pages[at[i]]);
			user_remap_page(test, vaddr, fx->pages[other], PROT_READ | PROT_WRITE);
			KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 1, 0, at[i], 1));
			KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 1, 0, 0, other));
			if (at[i])
				KUNIT_EXPECT_EQ(test, 0, map(test, 1, 0, 0, at[i]));
			if (at[i] + 1 < other)
				KUNIT_EXPECT_EQ(test, 0, map(test, 1, SZ_1G, at[i] + 1,
							     other - at[i] - 1));
			/* What is mapped stays what it was. */
			expect_mapped_at(test, 0, 0, 0, other, RW);
			expect_charge(test, other);
			must_unmap(test, 0, 0, other);
			if (at[i])
				must_unmap(test, 1, 0, at[i]);
			if (at[i] + 1 < other)
				must_unmap(test, 1, SZ_1G, other - at[i] - 1);
			KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 1, 0, at[i], 1));
			KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, other));
			user_unmap(vaddr, 1);
			expect_no_region(test);
			put_page(fx->pages[at[i]]);
			drop_memory(fx);
		}
	}
}

/* Memory that is gone. */
static void lost_memory_is_refused(struct kunit *test)
{
	struct fixture *fx = test->priv;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
	user_unmap(vaddr_of(test, 7), 1);
	get_page(fx->pages[7]);
	KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 0, 20));
	KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 7, 1));
	KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 8, 12));
	must_unmap(test, 0, 0, 12);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
	put_page(fx->pages[7]);
}

/* Who has no memory to look with has not lost what he would look at. */
static void shortage_of_memory_is_no_change(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int at;

	for (at = 0; at < 20; at += 7) {
		make_memory(test, EIGHTS);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
		get_page(fx->pages[at]);
		user_remap_short(test, vaddr_of(test, at));
		KUNIT_EXPECT_EQ(test, -ENOMEM, map(test, 0, 0, 0, 20));
		KUNIT_EXPECT_EQ(test, -ENOMEM, map(test, 0, 0, at, 1));
		KUNIT_EXPECT_EQ(test, -ENOMEM, reg(test, 0, 0, 20, false));
		KUNIT_EXPECT_EQ(test, 0L,
				atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_REGISTRY]));
		KUNIT_EXPECT_EQ(test, only_region(test)->registered, 1UL);
		/* With memory again, it is what it was. */
		user_remap_page(test, vaddr_of(test, at), fx->pages[at], PROT_READ | PROT_WRITE);
		put_page(fx->pages[at]);
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 0, 20));
		must_unmap(test, 0, 0, 20);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		expect_no_region(test);
		drop_memory(fx);
	}
}

/* The process took access from itself: it is the same memory, for who looks. */
static void memory_of_other_access_is_the_same(struct kunit *test)
{
	static const unsigned long prot[] = { PROT_READ, PROT_NONE };
	struct fixture *fx = test->priv;
	unsigned int i, page;

	for (i = 0; i < ARRAY_SIZE(prot); i++) {
		make_memory(test, EIGHTS);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		for (page = 0; page < 20; page++)
			user_remap_page(test, vaddr_of(test, page), fx->pages[page], prot[i]);
		fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 7, 3));
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, SZ_1G, 0, 20));
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		expect_mapped_at(test, 0, SZ_1G, 0, 20, RW);
		must_unmap(test, 0, 0, 3);
		must_unmap(test, 0, SZ_1G, 20);
		/* Other memory is not. */
		fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
		get_page(fx->pages[7]);
		user_remap_page(test, vaddr_of(test, 7), fx->pages[500], prot[i]);
		KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 7, 3));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		put_page(fx->pages[7]);
		drop_memory(fx);
	}
}

/* Who touched memory and put it back has cost a look, once. */
static void unchanged_memory_is_looked_at_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		fake_watch_looks();
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
		/* What lies outside does not matter. */
		fake_watch_change(0, fx->vaddr - 1);
		fake_watch_change(fx->vaddr + NPAGES * PAGE_SIZE, ULONG_MAX);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		fake_watch_change(0, fx->vaddr);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
		/* Nor does another slot, but for a test. */
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, VFIO_SLOT_PAGES, 1));
		must_unmap(test, 0, 0, 1);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 1U);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
		expect_region_pins(test, 0, NPAGES, 1);

		/* A change during the look leaves the mark. */
		fake_watch_change(fx->vaddr, fx->vaddr);
		fake_watch_collide();
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		expect_no_region(test);
		drop_memory(fx);
	}
}

/* However large a region is, its marks are set a few at a time, and none is left out. */
static void large_regions_are_marked_in_pieces(struct kunit *test)
{
	const unsigned long slots = 10000, base = SZ_1G + PAGE_SIZE, end = SZ_1G + slots * SZ_2M;
	static const unsigned long skip[] = { 0, SZ_2M - PAGE_SIZE, 5 * SZ_2M + 5 };
	struct vfio_region *region;
	unsigned long vaddr, first;
	unsigned int i, holds, before;
	bool more;

	for (i = 0; i < ARRAY_SIZE(skip); i++) {
		region = kvzalloc(struct_size(region, slots, slots), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, region);
		region->vaddr = base;
		region->npages = (end - base) >> PAGE_SHIFT;
		spin_lock_init(&region->lock);
		vaddr = base + skip[i];
		first = slots - (vaddr - SZ_1G) / SZ_2M;
		for (holds = 0, more = true; more && holds < 10; holds++) {
			before = region->nr_marked;
			spin_lock(&region->lock);
			more = vfio_region_mark(region, &vaddr, i ? end : ULONG_MAX);
			spin_unlock(&region->lock);
			KUNIT_EXPECT_LE(test, region->nr_marked - before, 5000U);
			/* It goes on with the first that has none. */
			if (more)
				KUNIT_EXPECT_EQ(test, vaddr, end - (first - region->nr_marked) *
						SZ_2M);
		}
		KUNIT_EXPECT_FALSE(test, more);
		KUNIT_EXPECT_EQ(test, region->nr_marked, (unsigned int)first);
		kvfree(region);
	}
}

static struct kunit_case registry_change_cases[] = {
	KUNIT_CASE(changed_memory_is_refused),
	KUNIT_CASE(lost_memory_is_refused),
	KUNIT_CASE(shortage_of_memory_is_no_change),
	KUNIT_CASE(memory_of_other_access_is_the_same),
	KUNIT_CASE(unchanged_memory_is_looked_at_once),
	KUNIT_CASE(large_regions_are_marked_in_pieces),
	{}
};

SUITE("vfio_registered_changes", registry_change_cases, REGISTRY_SUITE);
