// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: what REGISTER makes of it, what it refuses, and what it takes.
 */

#include <linux/cred.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>

#include "fault.h"
#include "queue.h"
#include "registry_fixture.h"

/* The run from @page on is right, and ends where the next page does not follow. */
static void expect_run(struct kunit *test, unsigned int first, unsigned int npages,
		       unsigned int page)
{
	struct vfio_run run = vfio_region_run(only_region(test), page, NPAGES);
	unsigned int len = vfio_run_npages(run), i;
	struct fixture *fx = test->priv;
	struct page **pages = &fx->pages[first + page];

	KUNIT_ASSERT_GE(test, len, 1U);
	KUNIT_ASSERT_LE(test, page + len, npages);
	for (i = 0; i < len; i++)
		KUNIT_ASSERT_EQ(test, vfio_run_pfn(run) + i, page_to_pfn(pages[i]));
	if (page + len < npages)
		KUNIT_ASSERT_NE(test, vfio_run_pfn(run) + len, page_to_pfn(pages[len]));
}

/* Whatever the layout, and wherever the region starts, each page is found from each. */
static void every_page_of_every_layout_is_found(struct kunit *test)
{
	static const unsigned int firsts[] = { 0, 1, 7, 300, 511, 512, 513, NPAGES - 1 };
	static const unsigned int sizes[] = { 1, 2, 9, 511, 512, 513, NPAGES };
	struct fixture *fx = test->priv;
	unsigned int layout, f, s, page, npages;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		for (f = 0; f < ARRAY_SIZE(firsts); f++) {
			for (s = 0; s < ARRAY_SIZE(sizes); s++) {
				npages = min(sizes[s], NPAGES - firsts[f]);
				KUNIT_ASSERT_EQ(test, 0, reg(test, 0, firsts[f], npages, false));
				for (page = 0; page < npages; page++)
					expect_run(test, firsts[f], npages, page);
				expect_region_pins(test, firsts[f], npages, 1);
				expect_charge(test, npages);
				KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, firsts[f], npages));
				expect_no_region(test);
			}
		}
		drop_memory(fx);
	}
}

/* Reserved pages are pinned, and unpinned, but not charged, also as the region's end comes. */
static void reserved_pages_are_unpinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, i;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		for (i = 100; i < 120; i++)
			SetPageReserved(fx->pages[i]);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		expect_region_pins(test, 0, NPAGES, 1);
		expect_charge(test, NPAGES - 20);
		KUNIT_EXPECT_EQ(test, vfio_region_count_ram(only_region(test), 0, NPAGES),
				NPAGES - 20UL);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 90, 30));
		expect_mapped_at(test, 0, 0, 90, 30, RW);
		must_unmap(test, 0, 0, 30);
		expect_region_pins(test, 0, NPAGES, 1);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		expect_no_region(test);

		/* What is mapped stays longer. */
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 110, 30));
		vfio_type1_queue(&fx->container[0]->registry->orphaned);
		queue_flush();
		expect_region_pins(test, 0, 110, 0);
		expect_region_pins(test, 110, 30, 1);
		expect_region_pins(test, 140, NPAGES - 140, 0);
		expect_charge(test, 20);
		must_unmap(test, 0, 0, 30);
		expect_no_region(test);
		for (i = 100; i < 120; i++)
			ClearPageReserved(fx->pages[i]);
		drop_memory(fx);
	}
}

/* No more than a word per slot where frames follow each other, and one per page else. */
static void contiguous_memory_needs_a_word_per_slot(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, slot, slots, tables;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		slots = DIV_ROUND_UP(((fx->vaddr >> PAGE_SHIFT) % VFIO_SLOT_PAGES) + NPAGES,
				     VFIO_SLOT_PAGES);
		for (slot = 0, tables = 0; slot < slots; slot++)
			tables += only_region(test)->slots[slot] & 1;
		if (layout == SEQUENTIAL)
			KUNIT_EXPECT_EQ(test, tables, 0U);
		else if (layout != RANDOM)
			KUNIT_EXPECT_EQ(test, tables, slots);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		drop_memory(fx);
	}
}

static void same_region_again_takes_a_reference(struct kunit *test)
{
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
	/* By way of any container of the process. */
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 3, 40, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
	expect_region_pins(test, 3, 40, 1);
	expect_charge(test, 40);
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 1U);
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 1, 3, 40));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 1, 3, 40));
	expect_region_pins(test, 3, 40, 1);
	expect_charge(test, 40);
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 1, 3, 40));
	expect_no_region(test);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 1, 3, 40));
}

/* Who registers what was registered learns if it is something else now. */
static void changed_memory_is_not_registered_again(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int page;

	make_memory(test, EIGHTS);
	for (page = 3; page < 43; page += 13) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		/* Touched only. */
		fake_watch_change(vaddr_of(test, page), vaddr_of(test, page));
		KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 3, 40, false));
		KUNIT_ASSERT_EQ(test, only_region(test)->nr_marked, 0U);

		fake_watch_change(vaddr_of(test, page), vaddr_of(test, page));
		get_page(fx->pages[page]);
		user_remap_page(test, vaddr_of(test, page), fx->pages[500],
				PROT_READ | PROT_WRITE);
		KUNIT_EXPECT_EQ(test, -ESTALE, reg(test, 1, 3, 40, false));
		/* It was not counted. */
		KUNIT_EXPECT_EQ(test, only_region(test)->registered, 2UL);
		expect_charge(test, 40);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		/* Anew, it is what is there now. */
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, page, 1));
		KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 3, 40, false));
		must_unmap(test, 0, 0, 1);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		user_remap_page(test, vaddr_of(test, page), fx->pages[page],
				PROT_READ | PROT_WRITE);
		put_page(fx->pages[page]);
		expect_no_region(test);
	}
}

/* ---- requests that meet in the middle ---- */

/* All pairs of small regions. */
static void regions_do_not_overlap(struct kunit *test)
{
	unsigned int a, na, b, nb;

	make_memory(test, SINGLES);
	for (a = 0; a < 5; a++) {
		for (na = 1; a + na <= 5; na++) {
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, a, na, false));
			for (b = 0; b < 5; b++) {
				for (nb = 1; b + nb <= 5; nb++) {
					bool same = a == b && na == nb;
					bool apart = b >= a + na || a >= b + nb;

					KUNIT_ASSERT_EQ_MSG(test, same || apart ? 0 : -EINVAL,
							    reg(test, 1, b, nb, false),
							    "%u+%u %u+%u", a, na, b, nb);
					KUNIT_ASSERT_EQ(test, same || apart ? 0 : -ENOENT,
							unreg(test, 1, b, nb));
				}
			}
			/* The same range, but for other access. */
			KUNIT_ASSERT_EQ(test, -EINVAL, reg(test, 0, a, na, true));
			KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, a, na));
		}
	}
	expect_no_region(test);
}

static void wrong_values_are_refused(struct kunit *test)
{
	static const struct { u64 vaddr, size; int error; } wrong[] = {
		{ PAGE_SIZE, 0, -EINVAL },
		{ PAGE_SIZE + 1, PAGE_SIZE, -EINVAL },
		{ PAGE_SIZE, PAGE_SIZE + 1, -EINVAL },
		{ 0, 0, -EINVAL },
		{ U64_MAX - PAGE_SIZE + 1, 2 * PAGE_SIZE, -EOVERFLOW },
		{ 2 * PAGE_SIZE, U64_MAX - PAGE_SIZE + 1, -EOVERFLOW },
		/* Not user memory. */
		{ PAGE_SIZE, U64_MAX - 2 * PAGE_SIZE + 1, -EFAULT },
		{ U64_MAX - PAGE_SIZE + 1, PAGE_SIZE, -EFAULT },
	};
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		KUNIT_EXPECT_EQ_MSG(test, wrong[i].error,
				    vfio_registry_register(fx->container[0], wrong[i].vaddr,
							   wrong[i].size, false), "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, -ENOENT,
				    vfio_registry_unregister(fx->container[0], wrong[i].vaddr,
							     wrong[i].size), "%u", i);
	}
	make_memory(test, SEQUENTIAL);
	expect_no_region(test);
}

/* A region of any size may be asked for, but that alone costs nothing. */
static void more_than_there_is_costs_no_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int ret;

	make_memory(test, SEQUENTIAL);
	fault_all();
	ret = vfio_registry_register(fx->container[0], SZ_4K, SZ_128M, false);
	fault_end();
	KUNIT_EXPECT_EQ(test, -EFAULT, ret);
	expect_no_region(test);
}

/* As many regions as the container that is asked may have mappings; then pages are let go. */
static void number_of_regions_is_limited(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	close_container(test, 1);
	vfio_type1_params.dma_entry_limit = ENTRIES + 1;
	fx->container[1] = open_container(test, false);
	attach(test, 1, 1, &vtd);
	make_memory(test, EIGHTS);
	for (i = 0; i < ENTRIES; i++)
		KUNIT_ASSERT_EQ(test, 0, reg(test, i % 2, i, 1, false));
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, -ENOSPC, reg(test, 0, 500, 10, false));
		KUNIT_EXPECT_EQ(test, fake_watch_count(), (unsigned int)ENTRIES);
		expect_region_pins(test, 500, 10, 0);
		expect_charge(test, ENTRIES);
	}
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_ENTRIES]),
			2L);
	/* What is there already is no more. */
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 3, 1, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 1));
	/* The other one may have one more. */
	KUNIT_EXPECT_EQ(test, 0, reg(test, 1, 500, 10, false));
	KUNIT_EXPECT_EQ(test, -ENOSPC, reg(test, 1, 600, 10, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 1));
	KUNIT_EXPECT_EQ(test, -ENOSPC, reg(test, 0, 600, 10, false));
	KUNIT_EXPECT_EQ(test, 0, reg(test, 1, 600, 10, false));
	expect_charge(test, ENTRIES - 1 + 20);
	close_container(test, 1);
	close_container(test, 0);
	expect_no_region(test);
}

/* Memory that is missing anywhere. */
static void hole_leaves_nothing(struct kunit *test)
{
	static const unsigned int hole_at[] = { 0, 1, 511, 512, 600, NPAGES - 1 };
	struct fixture *fx = test->priv;
	unsigned int i, layout;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (i = 0; i < ARRAY_SIZE(hole_at); i++) {
			make_memory(test, layout);
			user_unmap(vaddr_of(test, hole_at[i]), 1);
			get_page(fx->pages[hole_at[i]]);
			KUNIT_EXPECT_EQ(test, -EFAULT, reg(test, 0, 0, NPAGES, false));
			expect_no_region(test);
			put_page(fx->pages[hole_at[i]]);
			drop_memory(fx);
		}
	}
}

/* Whichever allocation fails, nothing is left. */
static void failed_allocation_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, nth, failed;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		bool came = true;

		make_memory(test, layout);
		for (nth = 1, failed = 0; came; nth++) {
			int ret;

			fault_nth(nth);
			ret = reg(test, 0, 5, NPAGES - 5, false);
			came = fault_end();
			if (ret) {
				KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
				KUNIT_ASSERT_TRUE(test, came);
				failed++;
			} else {
				KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 5, NPAGES - 5));
			}
			expect_no_region(test);
		}
		/* The region, and tables. */
		KUNIT_EXPECT_GE(test, failed, layout == SEQUENTIAL ? 1U : 2U);
		fake_watch_fail();
		KUNIT_EXPECT_EQ(test, -ENOMEM, reg(test, 0, 0, 4, false));
		expect_no_region(test);
		drop_memory(fx);
	}
}

/* Registering and unregistering take no page for another. */
static void memlock_limit_is_exact(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct cred *unprivileged = prepare_creds();
	struct fixture *fx = test->priv;
	const struct cred *old;
	int ret[3], again, i;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	make_memory(test, EIGHTS);
	old = override_creds(unprivileged);
	for (i = 0; i < 3; i++) {
		limit->rlim_cur = (fx->locked_vm + 99 + i) << PAGE_SHIFT;
		ret[i] = reg(test, 0, 0, 100, false);
		again = ret[i] ?: reg(test, 0, 0, 100, false);
		if (!again)
			unreg(test, 0, 0, 100);
		/* Mapping it needs nothing. */
		if (!ret[i])
			ret[i] = map(test, 0, 0, 0, 100) ?: map(test, 1, 0, 0, 100);
		if (!ret[i]) {
			must_unmap(test, 0, 0, 100);
			must_unmap(test, 1, 0, 100);
			ret[i] = unreg(test, 0, 0, 100);
		}
	}
	*limit = old_limit;
	revert_creds(old);
	put_cred(unprivileged);
	KUNIT_EXPECT_EQ(test, ret[0], -ENOMEM);
	KUNIT_EXPECT_EQ(test, ret[1], 0);
	KUNIT_EXPECT_EQ(test, ret[2], 0);
	expect_no_region(test);
}

/*
 * Register the first pages without CAP_IPC_LOCK, where @limit_pages more may be locked, and
 * with no kernel memory left, if @starved.
 */
static int reg_within(struct kunit *test, unsigned int limit_pages, unsigned int npages,
		      bool read_only, bool starved)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct cred *unprivileged = prepare_creds();
	const struct cred *old;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	limit->rlim_cur = (user_locked_vm() + limit_pages) << PAGE_SHIFT;
	old = override_creds(unprivileged);
	if (starved)
		fault_all();
	ret = reg(test, 0, 0, npages, read_only);
	fault_end();
	revert_creds(old);
	put_cred(unprivileged);
	*limit = old_limit;
	return ret;
}

/*
 * What a range costs before its memory is looked at goes by its size, so it is the limit
 * that has to bound it.
 */
static void memlock_limit_comes_before_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int read_only;
	int ret;

	make_memory(test, EIGHTS);
	for (read_only = 0; read_only < 2; read_only++) {
		long refused = atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_MEMLOCK]);

		KUNIT_EXPECT_EQ(test, -ENOMEM, reg_within(test, 99, 100, read_only, true));
		KUNIT_EXPECT_EQ(test, refused + 1,
				atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_MEMLOCK]));
		KUNIT_EXPECT_EQ(test, 0, reg_within(test, 100, 100, read_only, false));
		expect_charge(test, 100);
		KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 100));
	}
	/* Who may lock memory has no limit. */
	fault_all();
	ret = reg(test, 0, 0, 100, false);
	fault_end();
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	KUNIT_EXPECT_EQ(test, 2L,
			atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_MEMLOCK]));
	expect_no_region(test);
}

static struct kunit_case registry_cases[] = {
	KUNIT_CASE(every_page_of_every_layout_is_found),
	KUNIT_CASE(contiguous_memory_needs_a_word_per_slot),
	KUNIT_CASE(reserved_pages_are_unpinned),
	KUNIT_CASE(same_region_again_takes_a_reference),
	KUNIT_CASE(changed_memory_is_not_registered_again),
	KUNIT_CASE(regions_do_not_overlap),
	KUNIT_CASE(wrong_values_are_refused),
	KUNIT_CASE(more_than_there_is_costs_no_memory),
	KUNIT_CASE(number_of_regions_is_limited),
	KUNIT_CASE(hole_leaves_nothing),
	KUNIT_CASE(failed_allocation_leaves_nothing),
	KUNIT_CASE(memlock_limit_is_exact),
	KUNIT_CASE(memlock_limit_comes_before_memory),
	{}
};

SUITE("vfio_registered_memory", registry_cases, REGISTRY_SUITE);
