// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP that fail, limits, and drivers gone wrong.
 */

#include <linux/cred.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>

#include "fault.h"
#include "map_fixture.h"

/* ---- failures ---- */

/* Whichever call into the driver fails, in whichever domain, nothing is left. */
static void failed_map_call_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, d, nth;

	add_domain(test, test->param_value);
	add_domain(test, test->param_value);
	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		/* As single pages too many to be mapped at once. */
		make_user_memory(test, layout, 150);
		for (d = 0; d < DOMAINS_MAX; d++) {
			unsigned int before = fx->mock[d]->nr_map, calls;

			KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
			calls = fx->mock[d]->nr_map - before;
			expect_unmap(test, 0, 150);
			KUNIT_ASSERT_GT(test, calls, 0U);
			for (nth = 1; nth <= calls; nth++) {
				fx->mock[d]->fail_map = nth;
				KUNIT_ASSERT_EQ(test, -ENOMEM, map_all(test, 0, RW));
				KUNIT_ASSERT_EQ(test, fx->mock[d]->fail_map, 0U);
				expect_nothing(test);
			}
			/* Nothing is in the way of the next one. */
			KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
			expect_mapped(test, 0, RW);
			expect_unmap(test, 0, 150);
			expect_nothing(test);
		}
		drop_user_memory(test);
	}
}

/*
 * Whichever allocation fails, MAP either works without it or leaves nothing.
 * Among those that it works without are those of the run list.
 */
static void failed_allocation_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int nth, lost = 0, failed = 0;
	bool came = true;

	add_domain(test, test->param_value);
	make_user_memory(test, EIGHTS, 200);
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = map_all(test, 0, RW);
		came = fault_end();
		if (ret) {
			KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
			KUNIT_ASSERT_TRUE(test, came);
			failed++;
		} else {
			expect_mapped(test, 0, RW);
			lost += find_mapping(fx, 0)->runs.lost;
			expect_unmap(test, 0, 200);
		}
		expect_nothing(test);
	}
	KUNIT_EXPECT_GT(test, failed, 0U);
	KUNIT_EXPECT_GT_MSG(test, lost, 0U, "no allocation was the run list's");
	drop_user_memory(test);
}

/* UNMAP works without memory, with and without a run list. */
static void unmap_needs_no_memory(struct kunit *test)
{
	unsigned int layout, w;

	add_domain(test, test->param_value);
	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_user_memory(test, layout, 700);
		for (w = 0; w < ARRAY_SIZE(walks); w++) {
			u64 unmapped = 0;
			int ret;

			vfio_type1_params.unmap_walk = walks[w];
			KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
			fault_all();
			ret = unmap(test, 0, 700 * PAGE_SIZE, false, &unmapped);
			fault_end();
			KUNIT_ASSERT_EQ(test, ret, 0);
			KUNIT_ASSERT_EQ(test, unmapped, (u64)700 * PAGE_SIZE);
			expect_nothing(test);
		}
		drop_user_memory(test);
	}
}

/* A mapping that lost its run list is unmapped as the probe's finding says. */
static void lost_run_list_is_done_without(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, s;

	add_domain(test, test->param_value);
	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (s = 0; s < ARRAY_SIZE(sizes); s++) {
			make_user_memory(test, layout, sizes[s]);
			KUNIT_ASSERT_EQ(test, 0, map_all(test, SZ_1G, RW));
			lose_runs(find_mapping(fx, SZ_1G));
			fx->mock[0]->nr_to_phys = 0;
			expect_unmap(test, SZ_1G, sizes[s]);
			KUNIT_EXPECT_GT_MSG(test, fx->mock[0]->nr_to_phys, 0U,
					    "nobody asked the IOMMU");
			expect_nothing(test);
			drop_user_memory(test);
		}
	}
}

/* Memory that is missing, or may not be written, anywhere in the range. */
static void bad_memory_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	static const unsigned int hole_at[] = { 0, 1, 31, 32, 63 };
	unsigned int i;

	add_domain(test, test->param_value);
	for (i = 0; i < ARRAY_SIZE(hole_at); i++) {
		make_user_memory(test, EIGHTS, 64);
		user_unmap(fx->vaddr + hole_at[i] * PAGE_SIZE, 1);
		/* Its page has lost the reference of the user mapping. */
		get_page(fx->pages[hole_at[i]]);
		KUNIT_EXPECT_EQ(test, -EFAULT, map_all(test, 0, RW));
		expect_nothing(test);
		put_page(fx->pages[hole_at[i]]);
		drop_user_memory(test);
	}

	make_user_memory(test, EIGHTS, 64);
	drop_user_memory(test);
	fx->vaddr = user_map_pages(test, fx->pages, 64, PROT_READ);
	KUNIT_EXPECT_EQ(test, -EFAULT, map_all(test, 0, IOMMU_WRITE));
	expect_nothing(test);
	KUNIT_EXPECT_EQ(test, 0, map_all(test, 0, IOMMU_READ));
	expect_unmap(test, 0, 64);
	expect_nothing(test);
	drop_user_memory(test);
}

/* RLIMIT_MEMLOCK is exact: a page too much fails, and leaves nothing. */
static void memlock_limit_is_exact(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct fixture *fx = test->priv;
	const struct cred *old;
	struct cred *unprivileged = prepare_creds();
	int ret[4], i;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	add_domain(test, test->param_value);
	make_user_memory(test, EIGHTS, 100);
	/* The last 40 pages are MMIO, which is free. */
	user_map_pfns(test, fx->vaddr + 60 * PAGE_SIZE, MMIO_PFN, 40);
	fx->npages = 60;

	old = override_creds(unprivileged);
	for (i = 0; i < 4; i++) {
		static const unsigned int pages[] = { 0, 59, 60, 61 };

		limit->rlim_cur = (fx->locked_vm + pages[i]) << PAGE_SHIFT;
		ret[i] = map(test, 0, fx->vaddr, 100, RW);
		if (ret[i])
			expect_nothing(test);
		else
			expect_unmap(test, 0, 100);
	}
	*limit = old_limit;
	revert_creds(old);
	put_cred(unprivileged);
	expect_nothing(test);
	KUNIT_EXPECT_EQ(test, ret[0], -ENOMEM);
	KUNIT_EXPECT_EQ(test, ret[1], -ENOMEM);
	KUNIT_EXPECT_EQ(test, ret[2], 0);
	KUNIT_EXPECT_EQ(test, ret[3], 0);
	user_unmap(fx->vaddr, 100);
}

/* Who may lock memory without a limit may map without one. */
static void cap_ipc_lock_lifts_the_limit(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	int ret;

	add_domain(test, test->param_value);
	make_user_memory(test, EIGHTS, 100);
	limit->rlim_cur = 0;
	ret = map_all(test, 0, RW);
	*limit = old_limit;
	KUNIT_ASSERT_EQ(test, ret, 0);
	expect_mapped(test, 0, RW);
	expect_unmap(test, 0, 100);
	expect_nothing(test);
	drop_user_memory(test);
}

/* ---- drivers gone wrong ---- */

/* Pages that an IOMMU may still reach are pinned. Counts all that are. */
static void expect_reachable_pages_pinned(struct kunit *test, unsigned int *pinned)
{
	struct fixture *fx = test->priv;
	unsigned int i, d;

	*pinned = 0;
	for (i = 0; i < fx->npages; i++) {
		bool reachable = false, is_pinned = page_ref_count(fx->pages[i]) == REFS_PINNED;

		for (d = 0; d < fx->nr; d++)
			reachable |= mock_iommu_prot(fx->mock[d], i * PAGE_SIZE) >= 0;
		if (reachable)
			KUNIT_ASSERT_TRUE_MSG(test, is_pinned, "page %u is mapped, not pinned", i);
		*pinned += is_pinned;
	}
}

/* Clean up after a case that leaked on purpose. */
static void unpin_leaked(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < fx->npages; i++) {
		if (page_ref_count(fx->pages[i]) == REFS_PINNED)
			unpin_user_page(fx->pages[i]);
		KUNIT_ASSERT_EQ(test, page_ref_count(fx->pages[i]), REFS_UNPINNED);
	}
}

/* Forget the IOPTEs of some pages, which are whole runs. */
static void lose_pages(struct mock_iommu *mock, unsigned int first, unsigned int npages)
{
	unsigned int i;

	for (i = first; i < first + npages; i++) {
		if (mock_iommu_prot(mock, i * PAGE_SIZE) >= 0)
			mock_iommu_lose(mock, i * PAGE_SIZE);
	}
}

/* If less comes back than was asked, what lies past that point is never unpinned. */
static void short_unmap_leaks_pins(struct kunit *test)
{
	/* Where runs start. */
	static const unsigned int stuck_at[] = { 0, 8, 24, 56 };
	struct fixture *fx = test->priv;
	struct mock_iommu *mock;
	unsigned int w, s, pinned;

	mock = add_domain(test, test->param_value);
	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		for (s = 0; s < ARRAY_SIZE(stuck_at); s++) {
			make_user_memory(test, EIGHTS, 64);
			vfio_type1_params.unmap_walk = walks[w];
			KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
			mock->stuck = stuck_at[s] * PAGE_SIZE;
			expect_unmap(test, 0, 64);
			expect_reachable_pages_pinned(test, &pinned);
			KUNIT_EXPECT_GT(test, pinned, 0U);
			KUNIT_EXPECT_LE_MSG(test, pinned, 64 - stuck_at[s],
					    "pages before the stuck one were leaked");
			KUNIT_EXPECT_STREQ(test, mock->violation, "");
			KUNIT_EXPECT_TRUE(test, list_empty(&mock->stale));
			KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);

			/* Let the IOMMU recover, for the next round. */
			mock->stuck = MOCK_NOT_STUCK;
			lose_pages(mock, 0, 64);
			unpin_leaked(test);
			drop_user_memory(test);
		}
	}
}

/* Also if that is inside of a run: the pages before it are unpinned, exactly. */
static void short_unmap_cuts_a_run(struct kunit *test)
{
	/* In the middle of a run, its last page, the first of all and the last. */
	static const unsigned int stuck_at[] = { 12, 15, 0, 63 };
	struct fixture *fx = test->priv;
	struct mock_iommu *mock;
	unsigned int s, i;

	mock = add_domain(test, test->param_value);
	for (s = 0; s < ARRAY_SIZE(stuck_at); s++) {
		make_user_memory(test, EIGHTS, 64);
		/* Off by a page, so that each has an IOPTE of its own. */
		KUNIT_ASSERT_EQ(test, 0, map_all(test, PAGE_SIZE, RW));
		KUNIT_ASSERT_EQ(test, mock->nr_ptes, 64U);
		mock->stuck = (1 + stuck_at[s]) * PAGE_SIZE;
		expect_unmap(test, PAGE_SIZE, 64);
		for (i = 0; i < 64; i++)
			KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]),
					    i < stuck_at[s] ? REFS_UNPINNED : REFS_PINNED,
					    "page %u, stuck at %u", i, stuck_at[s]);
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
		mock->stuck = MOCK_NOT_STUCK;
		lose_pages(mock, 1, 64);
		unpin_leaked(test);
		drop_user_memory(test);
	}
}

/* What one domain keeps stays pinned, although the others let go of it. */
static void page_kept_by_another_domain_stays_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int pinned;

	add_domain(test, test->param_value);
	add_domain(test, test->param_value);
	make_user_memory(test, EIGHTS, 64);
	KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
	fx->mock[1]->stuck = 16 * PAGE_SIZE;
	expect_unmap(test, 0, 64);
	expect_reachable_pages_pinned(test, &pinned);
	KUNIT_EXPECT_GT(test, pinned, 0U);
	mock_iommu_expect_empty(test, fx->mock[0]);
	KUNIT_EXPECT_STREQ(test, fx->mock[1]->violation, "");
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	unpin_leaked(test);
	drop_user_memory(test);
}

/* Forget what a case left charged on purpose. */
static void refund_leaked(struct kunit *test, unsigned int npages)
{
	struct fixture *fx = test->priv;

	mmap_write_lock(current->mm);
	current->mm->locked_vm -= npages;
	mmap_write_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm);
}

/*
 * What a domain keeps of a MAP that failed, in it or in another one, stays pinned, and
 * charged. In it means: a page that it said it had not mapped.
 */
static void page_kept_by_a_failed_map_stays_pinned(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct fixture *fx = test->priv;
	unsigned int keeps, pinned;

	add_domain(test, flavour);
	add_domain(test, flavour);
	for (keeps = 0; keeps < (flavour->hides ? 2 : 1); keeps++) {
		struct mock_iommu *mock = fx->mock[keeps];

		make_user_memory(test, EIGHTS, 64);
		mock->stuck = 16 * PAGE_SIZE;
		/* Of eight runs, the third one: half of it is there then, if it hides. */
		fx->mock[1]->fail_map = 3;
		KUNIT_ASSERT_EQ(test, -ENOMEM, map_all(test, 0, RW));
		expect_reachable_pages_pinned(test, &pinned);
		KUNIT_EXPECT_GT(test, pinned, 0U);
		KUNIT_EXPECT_GE(test, mock_iommu_prot(mock, 16 * PAGE_SIZE), 0);
		mock_iommu_expect_empty(test, fx->mock[!keeps]);
		KUNIT_EXPECT_STREQ(test, mock->violation, "");
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + pinned);
		KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&fx->container->tree.root));
		KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container->refused[VFIO_REFUSE_IOMMU]),
				(long)keeps + 1);

		mock->stuck = MOCK_NOT_STUCK;
		lose_pages(mock, 0, 64);
		unpin_leaked(test);
		refund_leaked(test, pinned);
		/* The IOMMU has recovered: nothing of it is in the way. */
		KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
		expect_mapped(test, 0, RW);
		expect_unmap(test, 0, 64);
		expect_nothing(test);
		drop_user_memory(test);
	}
}

/*
 * Reserved pages that a domain keeps are charged no more than any others that are
 * reserved.
 */
static void kept_reserved_pages_are_not_charged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct mock_iommu *mock = add_domain(test, test->param_value);
	unsigned long vaddr = user_map_pfns(test, 0, MMIO_PFN, 64);

	/* A domain before it, to keep something, whatever the other one hides. */
	add_domain(test, test->param_value);
	mock->stuck = 0;
	fx->mock[1]->fail_map = 1;
	KUNIT_ASSERT_EQ(test, -ENOMEM, map(test, 0, vaddr, 64, RW));
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock, 0), 0);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	mock->stuck = MOCK_NOT_STUCK;
	lose_pages(mock, 0, 64);
	expect_nothing(test);
	user_unmap(vaddr, 64);
}

/*
 * Who reads runs from the IOMMU, as told to or for want of a run list, may find
 * that the translation of one is gone: that leaks its pins, and costs no other
 * run anything.
 */
static void missing_translation_leaks_one_run(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct mock_iommu *mock;
	unsigned int w, r, i;

	mock = add_domain(test, test->param_value);
	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		for (r = 0; r < 8; r++) {
			make_user_memory(test, EIGHTS, 64);
			vfio_type1_params.unmap_walk = walks[w];
			KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
			lose_runs(find_mapping(fx, 0));
			lose_pages(mock, 8 * r, 8);
			expect_unmap(test, 0, 64);
			for (i = 0; i < 64; i++)
				KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->pages[i]),
						    i / 8 == r ? REFS_PINNED : REFS_UNPINNED,
						    "page %u, run %u lost", i, r);
			mock_iommu_expect_empty(test, mock);
			KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
			unpin_leaked(test);
			drop_user_memory(test);
		}
	}
}

static struct kunit_case map_fail_cases[] = {
	KUNIT_CASE_PARAM(failed_map_call_leaves_nothing, mock_flavour_gen),
	KUNIT_CASE_PARAM(failed_allocation_leaves_nothing, mock_flavour_gen),
	KUNIT_CASE_PARAM(unmap_needs_no_memory, mock_flavour_gen),
	KUNIT_CASE_PARAM(lost_run_list_is_done_without, mock_flavour_gen),
	KUNIT_CASE_PARAM(bad_memory_leaves_nothing, mock_flavour_gen),
	KUNIT_CASE_PARAM(memlock_limit_is_exact, mock_flavour_gen),
	KUNIT_CASE_PARAM(cap_ipc_lock_lifts_the_limit, mock_flavour_gen),
	KUNIT_CASE_PARAM(short_unmap_leaks_pins, mock_flavour_gen),
	KUNIT_CASE_PARAM(short_unmap_cuts_a_run, mock_flavour_gen),
	KUNIT_CASE_PARAM(page_kept_by_another_domain_stays_pinned, mock_flavour_gen),
	KUNIT_CASE_PARAM(page_kept_by_a_failed_map_stays_pinned, mock_flavour_gen),
	KUNIT_CASE_PARAM(kept_reserved_pages_are_not_charged, mock_flavour_gen),
	KUNIT_CASE_PARAM(missing_translation_leaks_one_run, mock_flavour_gen),
	{}
};

SUITE("vfio_map_fail", map_fail_cases, MAP_SUITE);
