// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP: memory of all kinds, in runs, reserved, dirty, and frames that come by a
 * fault.
 */

#include <linux/cred.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>

#include "fault.h"
#include "map_fixture.h"

/* A device's writes mark pages dirty, its reads do not. */
static void written_pages_are_dirty(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	add_domain(test, test->param_value);
	make_user_memory(test, EIGHTS, 100);
	for (i = 0; i < 100; i++)
		ClearPageDirty(fx->pages[i]);
	KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, IOMMU_READ));
	expect_mapped(test, 0, IOMMU_READ);
	expect_unmap(test, 0, 100);
	for (i = 0; i < 100; i++)
		KUNIT_ASSERT_FALSE(test, PageDirty(fx->pages[i]));
	KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, IOMMU_WRITE));
	expect_mapped(test, 0, IOMMU_WRITE);
	expect_unmap(test, 0, 100);
	for (i = 0; i < 100; i++)
		KUNIT_ASSERT_TRUE(test, PageDirty(fx->pages[i]));
	expect_nothing(test);
	drop_user_memory(test);
}

/* Also where both kinds of pages go at once, in any order. */
static void read_pages_stay_clean_among_written_ones(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int odd, i;

	add_domain(test, test->param_value);
	make_user_memory(test, SINGLES, ENTRIES);
	for (odd = 0; odd < 2; odd++) {
		for (i = 0; i < ENTRIES; i++) {
			ClearPageDirty(fx->pages[i]);
			KUNIT_ASSERT_EQ(test, 0, map(test, i * PAGE_SIZE,
						     fx->vaddr + i * PAGE_SIZE, 1,
						     i % 2 == odd ? RW : IOMMU_READ));
		}
		expect_unmap(test, 0, ENTRIES);
		for (i = 0; i < ENTRIES; i++)
			KUNIT_EXPECT_EQ_MSG(test, PageDirty(fx->pages[i]), i % 2 == odd,
					    "page %u", i);
	}
	expect_nothing(test);
	drop_user_memory(test);
}

/*
 * Runs go on across the batches in which memory is pinned. There is less memory
 * than a batch holds: the block repeats itself.
 */
static void runs_of_ram_cross_batches(struct kunit *test)
{
	static const unsigned int npages[] = { USER_BLOCK_PAGES - 100, USER_BLOCK_PAGES,
					       USER_BLOCK_PAGES, 200 };
	unsigned int total = 3 * USER_BLOCK_PAGES + 100, w, i;
	struct fixture *fx = test->priv;
	struct page **pages;
	unsigned long vaddr;

	pages = kunit_kmalloc_array(test, total, sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	for (i = 0; i < total; i++)
		pages[i] = fx->block + (i + 100) % USER_BLOCK_PAGES;
	add_domain(test, test->param_value);
	vaddr = user_map_pages(test, pages, total, PROT_READ | PROT_WRITE);
	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, vaddr, total, RW));
		expect_run_lengths(test, 0, npages, ARRAY_SIZE(npages));
		for (i = 0; i < total; i++)
			KUNIT_ASSERT_EQ_MSG(test, page_to_phys(pages[i]),
					    iommu_iova_to_phys(&fx->mock[0]->domain,
							       i * PAGE_SIZE), "page %u", i);
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + total);
		expect_unmap(test, 0, total);
		expect_nothing(test);
	}
	user_unmap(vaddr, total);
	for (i = 0; i < USER_BLOCK_PAGES; i++)
		KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->block + i), 1, "page %u", i);
}

/* So they do where frames are not pinned, but looked up. */
static void runs_of_mmio_cross_batches(struct kunit *test)
{
	unsigned long pfn = MMIO_PFN, page;
	unsigned int npages = 2 * VFIO_PIN_BATCH_MAX + 1000, w;
	struct fixture *fx = test->priv;
	unsigned long vaddr;

	add_domain(test, test->param_value);
	vaddr = user_map_pfns(test, 0, pfn, npages);
	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, vaddr, npages, RW));
		expect_run_lengths(test, 0, &npages, 1);
		for (page = 0; page < npages; page++)
			KUNIT_ASSERT_EQ(test, PFN_PHYS(pfn + page),
					iommu_iova_to_phys(&fx->mock[0]->domain,
							   page * PAGE_SIZE));
		KUNIT_EXPECT_EQ_MSG(test, user_locked_vm(), fx->locked_vm,
				    "MMIO counts as locked memory");
		expect_unmap(test, 0, npages);
		expect_nothing(test);
	}
	user_unmap(vaddr, npages);
}

static const struct mock_flavour granules[] = {
	{ "16K granule", SZ_16K | SZ_32M, false, false },
	{ "64K granule", SZ_64K | SZ_512M, false, false },
	{ "1K granule", SZ_1K | SZ_4K | SZ_2M, false, false },
};

static void granule_desc(const struct mock_flavour *flavour, char *desc)
{
	strscpy(desc, flavour->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(granule, granules, granule_desc);

/* What is contiguous fits into an IOPTE of any size; single pages not into a larger one. */
static void granules_take_what_is_contiguous(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	unsigned long granule = 1UL << __ffs(flavour->pgsize_bitmap);
	struct fixture *fx = test->priv;
	unsigned int npages;

	add_domain(test, flavour);
	npages = max(granule, PAGE_SIZE) * 4 / PAGE_SIZE;
	make_user_memory(test, SEQUENTIAL, npages);
	KUNIT_ASSERT_EQ(test, 0, map_all(test, SZ_1G, RW));
	expect_mapped(test, SZ_1G, RW);
	expect_unmap(test, SZ_1G, npages);
	expect_nothing(test);
	if (granule > PAGE_SIZE)
		KUNIT_EXPECT_EQ(test, -EINVAL, map(test, SZ_1G, fx->vaddr, 1, RW));
	drop_user_memory(test);

	make_user_memory(test, SINGLES, npages);
	KUNIT_EXPECT_EQ(test, granule > PAGE_SIZE ? -EINVAL : 0, map_all(test, SZ_1G, RW));
	if (granule <= PAGE_SIZE)
		expect_unmap(test, SZ_1G, npages);
	expect_nothing(test);
	drop_user_memory(test);
}

/* Pages of a large folio are a run as far as they are in order, wherever that begins or ends. */
static void large_folios_are_runs_as_far_as_in_order(struct kunit *test)
{
	/* Of a folio of 64 pages: all but the first, some of each length, the end, the start. */
	static const unsigned int starts[] = { 1, 10, 40, 20, 30, 59, 0 };
	static const unsigned int lengths[] = { 63, 7, 1, 6, 8, 5, 4 };
	struct page *folio = alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_ZERO, 6);
	struct fixture *fx = test->priv;
	unsigned int npages = 0, i, j;

	KUNIT_ASSERT_NOT_NULL(test, folio);
	add_domain(test, test->param_value);
	for (i = 0; i < ARRAY_SIZE(starts); i++)
		for (j = 0; j < lengths[i]; j++)
			fx->pages[npages++] = folio + starts[i] + j;
	fx->vaddr = user_map_pages(test, fx->pages, npages, PROT_READ | PROT_WRITE);

	KUNIT_ASSERT_EQ(test, 0, map(test, SZ_16M, fx->vaddr, npages, RW));
	expect_run_lengths(test, SZ_16M, lengths, ARRAY_SIZE(lengths));
	for (i = 0; i < npages; i++)
		KUNIT_ASSERT_EQ_MSG(test, iommu_iova_to_phys(&fx->mock[0]->domain,
							     SZ_16M + i * PAGE_SIZE),
				    page_to_phys(fx->pages[i]), "page %u", i);
	/* A pin for each page and time that it is there. */
	KUNIT_EXPECT_TRUE(test, folio_maybe_dma_pinned(page_folio(folio)));
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + npages);
	expect_unmap(test, SZ_16M, npages);
	KUNIT_EXPECT_FALSE(test, folio_maybe_dma_pinned(page_folio(folio)));
	user_unmap(fx->vaddr, npages);
	expect_nothing(test);
	KUNIT_EXPECT_EQ(test, page_ref_count(folio), 1);
	__free_pages(folio, 6);
}

/*
 * RAM, a device's reserved frames, RAM in one mapping: never in one run, although here
 * they are neighbours in physical memory, and only RAM is pinned and charged.
 */
static void ram_and_reserved_are_told_apart(struct kunit *test)
{
	static const unsigned int npages[] = { 20, 24, 20 };
	struct fixture *fx = test->priv;
	unsigned int w, i;

	add_domain(test, test->param_value);
	make_user_memory(test, SEQUENTIAL, 64);
	for (i = 20; i < 44; i++)
		SetPageReserved(fx->pages[i]);
	user_map_pfns(test, fx->vaddr + 20 * PAGE_SIZE, page_to_pfn(fx->pages[20]), 24);

	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
		expect_run_lengths(test, 0, npages, ARRAY_SIZE(npages));
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 40);
		for (i = 0; i < 64; i++)
			KUNIT_ASSERT_EQ(test, page_to_phys(fx->pages[i]),
					iommu_iova_to_phys(&fx->mock[0]->domain, i * PAGE_SIZE));
		expect_unmap(test, 0, 64);
		for (i = 0; i < 64; i++)
			KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->pages[i]),
					    PageReserved(fx->pages[i]) ? 1 : REFS_UNPINNED,
					    "page %u", i);
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
		mock_iommu_expect_empty(test, fx->mock[0]);
	}
	for (i = 20; i < 44; i++)
		ClearPageReserved(fx->pages[i]);
	drop_user_memory(test);
}

/* Reserved frames never continue runs of RAM, however many there are already. */
static void reserved_frames_do_not_continue_ram(struct kunit *test)
{
	static const unsigned int order[] = { 9, 5, 3, 4, 20, 21 };
	static const unsigned int npages[] = { 1, 1, 1, 1, 2 };
	struct fixture *fx = test->priv;
	unsigned int i;

	add_domain(test, test->param_value);
	make_user_memory(test, SEQUENTIAL, 0x20);
	drop_user_memory(test);
	for (i = 0; i < ARRAY_SIZE(order); i++)
		fx->pages[i] = fx->block + order[i];
	fx->npages = ARRAY_SIZE(order);
	fx->vaddr = user_map_pages(test, fx->pages, fx->npages, PROT_READ | PROT_WRITE);
	SetPageReserved(fx->pages[3]);
	user_map_pfns(test, fx->vaddr + 3 * PAGE_SIZE, page_to_pfn(fx->pages[3]), 1);
	KUNIT_ASSERT_EQ(test, 0, map_all(test, SZ_1M, RW));
	expect_run_lengths(test, SZ_1M, npages, ARRAY_SIZE(npages));
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 5);
	for (i = 0; i < ARRAY_SIZE(order); i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), i == 3 ? 1 : REFS_PINNED,
				    "page %u", order[i]);
	expect_unmap(test, SZ_1M, ARRAY_SIZE(order));
	ClearPageReserved(fx->pages[3]);
	drop_user_memory(test);
	for (i = 0; i < ARRAY_SIZE(order); i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), 1, "page %u", order[i]);
}

/* Some of the pages are reserved from here on, or are not any more. */
static void set_reserved(struct fixture *fx, unsigned int first, unsigned int end, bool reserved)
{
	for (; first < end; first++) {
		if (reserved)
			SetPageReserved(fx->pages[first]);
		else
			ClearPageReserved(fx->pages[first]);
	}
}

/*
 * Reserved pages that are in an ordinary area are pinned, and unpinned, but not charged.  In
 * the area of a device they are not pinned.  To the IOMMU both are the same.
 */
static void reserved_pages_are_unpinned_if_they_were_pinned(struct kunit *test)
{
	static const unsigned int npages[] = { 20, 12, 12, 20 };
	struct fixture *fx = test->priv;
	unsigned int w, i;

	add_domain(test, test->param_value);
	make_user_memory(test, SEQUENTIAL, 64);
	set_reserved(fx, 20, 44, true);
	user_map_pfns(test, fx->vaddr + 32 * PAGE_SIZE, page_to_pfn(fx->pages[32]), 12);

	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
		expect_run_lengths(test, 0, npages, ARRAY_SIZE(npages));
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 40);
		for (i = 0; i < 64; i++) {
			KUNIT_ASSERT_EQ(test, page_to_phys(fx->pages[i]),
					iommu_iova_to_phys(&fx->mock[0]->domain, i * PAGE_SIZE));
			KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->pages[i]),
					    i >= 32 && i < 44 ? 1 : REFS_PINNED, "page %u", i);
		}
		expect_unmap(test, 0, 64);
		for (i = 0; i < 64; i++)
			KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->pages[i]),
					    i >= 32 && i < 44 ? 1 : REFS_UNPINNED, "page %u", i);
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
		mock_iommu_expect_empty(test, fx->mock[0]);
	}
	set_reserved(fx, 20, 44, false);
	drop_user_memory(test);
}

/*
 * A run list that says which reserved pages are pinned is not lost for want of memory, and
 * such pages do not come into one that was: MAP fails rather.  Then nothing is left of it.
 */
static void no_pin_is_lost_with_the_run_list(struct kunit *test)
{
	/* In a list that has to grow later, has grown before, or fails to grow with them. */
	static const unsigned int firsts[] = { 0, 1, 10, 30, 63 };
	struct fixture *fx = test->priv;
	unsigned int f, w, nth;
	bool came;
	int ret;

	add_domain(test, test->param_value);
	make_user_memory(test, SINGLES, 64);
	for (f = 0; f < ARRAY_SIZE(firsts); f++) {
		unsigned int end = min(firsts[f] + 3, 64U);

		set_reserved(fx, firsts[f], end, true);
		for (w = 0; w < ARRAY_SIZE(walks); w++) {
			unsigned int failed = 0, charged;

			vfio_type1_params.unmap_walk = walks[w];
			came = true;
			for (nth = 1; came && nth <= 1000; nth++) {
				fault_nth(nth);
				ret = map_all(test, 0, RW);
				came = fault_end();
				if (ret) {
					KUNIT_ASSERT_EQ(test, -ENOMEM, ret);
					expect_nothing(test);
					failed++;
					continue;
				}
				charged = user_locked_vm() - fx->locked_vm;
				KUNIT_ASSERT_EQ(test, charged, 64 - (end - firsts[f]));
				KUNIT_ASSERT_FALSE(test, find_mapping(fx, 0)->runs.lost);
				expect_unmap(test, 0, 64);
				expect_nothing(test);
			}
			KUNIT_EXPECT_FALSE(test, came);
			KUNIT_EXPECT_GT(test, failed, 0U);
		}
		set_reserved(fx, firsts[f], end, false);
	}
	drop_user_memory(test);
}

/* ---- areas whose frames come by a fault ---- */

/* Frames are asked for as they are needed, in any order, once each. */
static void missing_frames_are_faulted_in(struct kunit *test)
{
	struct user_faults faults = { .pfn = MMIO_PFN, .missing = 64 };
	static const unsigned int one_by_one[] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	static const unsigned int eight = 8;
	struct fixture *fx = test->priv;
	unsigned int scattered, i;

	add_domain(test, test->param_value);
	for (scattered = 0; scattered < 2; scattered++) {
		unsigned long vaddr;

		faults.scattered = scattered;
		faults.nr = 0;
		/* Somebody may drop the lock on the way. */
		faults.retry = true;
		vaddr = user_map_faults(test, &faults, 8, PROT_READ | PROT_WRITE);
		KUNIT_ASSERT_EQ(test, 0, map(test, SZ_1M, vaddr, 8, RW));
		KUNIT_EXPECT_EQ(test, faults.nr, 8U + 1);
		if (scattered)
			expect_run_lengths(test, SZ_1M, one_by_one, 8);
		else
			expect_run_lengths(test, SZ_1M, &eight, 1);
		for (i = 0; i < 8; i++)
			KUNIT_ASSERT_EQ_MSG(test, PFN_PHYS(MMIO_PFN + (scattered ? i ^ 1 : i)),
					    iommu_iova_to_phys(&fx->mock[0]->domain,
							       SZ_1M + i * PAGE_SIZE),
					    "page %u", i);
		expect_unmap(test, SZ_1M, 8);
		expect_nothing(test);
		/* They are there now. */
		KUNIT_ASSERT_EQ(test, 0, map(test, SZ_1M, vaddr, 8, RW));
		KUNIT_EXPECT_EQ(test, faults.nr, 8U + 1);
		expect_unmap(test, SZ_1M, 8);
		user_unmap(vaddr, 8);
	}
	expect_nothing(test);
}

/* Frames that do not come, may not be written, or are somebody's RAM cannot be mapped. */
static void frames_that_cannot_be_had(struct kunit *test)
{
	struct user_faults faults = { .pfn = MMIO_PFN, .missing = 5 };
	struct fixture *fx = test->priv;
	unsigned long vaddr;

	add_domain(test, test->param_value);
	vaddr = user_map_faults(test, &faults, 8, PROT_READ | PROT_WRITE);
	KUNIT_EXPECT_EQ(test, -EFAULT, map(test, SZ_1M, vaddr, 8, RW));
	expect_nothing(test);
	KUNIT_EXPECT_EQ(test, 0, map(test, SZ_1M, vaddr, 5, RW));
	expect_unmap(test, SZ_1M, 5);
	user_unmap(vaddr, 8);

	vaddr = user_map_faults(test, &faults, 5, PROT_READ);
	KUNIT_EXPECT_EQ(test, -EFAULT, map(test, SZ_1M, vaddr, 5, RW));
	KUNIT_EXPECT_EQ(test, 0, map(test, SZ_1M, vaddr, 5, IOMMU_READ));
	/* Also now that they are there. */
	KUNIT_EXPECT_EQ(test, -EFAULT, map(test, SZ_16M, vaddr, 5, RW));
	expect_unmap(test, SZ_1M, 5);
	user_unmap(vaddr, 5);

	vaddr = user_map_pfns(test, 0, page_to_pfn(fx->block), 4);
	KUNIT_EXPECT_EQ(test, -EFAULT, map(test, SZ_1M, vaddr, 4, RW));
	user_unmap(vaddr, 4);
	KUNIT_EXPECT_EQ(test, -EFAULT, map(test, SZ_1M, vaddr, 4, IOMMU_READ));
	expect_nothing(test);
}

/* The last page of all addresses is nobody's, although its end is zero. */
static void last_page_of_addresses_is_no_memory(struct kunit *test)
{
	add_domain(test, test->param_value);
	KUNIT_EXPECT_EQ(test, -EFAULT, map(test, SZ_1M, -PAGE_SIZE, 1, RW));
	expect_nothing(test);
}

struct killed_map {
	struct kunit *test;
	unsigned long vaddr;
};

static int map_killed(void *data)
{
	struct killed_map *killed = data;

	/* Only the fault kills. */
	flush_signals(current);
	return map(killed->test, SZ_1M, killed->vaddr, 8, RW);
}

/* Who is killed while frames are faulted in does not try again. */
static void killed_map_does_not_repeat_a_fault(struct kunit *test)
{
	struct user_faults faults = { .pfn = MMIO_PFN, .missing = 8, .retry = true, .kill = true };
	struct killed_map killed = {
		.test = test, .vaddr = user_map_faults(test, &faults, 8, PROT_READ | PROT_WRITE),
	};

	add_domain(test, test->param_value);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, map_killed, &killed));
	KUNIT_EXPECT_EQ(test, faults.nr, 1U);
	user_unmap(killed.vaddr, 8);
	expect_nothing(test);
}

/*
 * Memory that nobody has touched, for reading: the zero page on kernels before
 * 6.2, new pages later. Neither may leave a charge or an IOPTE behind.
 */
static void untouched_memory_maps_and_unmaps(struct kunit *test)
{
	unsigned long vaddr = user_map_anon(test, 300, PROT_READ);
	struct fixture *fx = test->priv;
	unsigned int w, i;

	add_domain(test, test->param_value);
	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		unsigned int ram = 0;

		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, vaddr, 300, IOMMU_READ));
		for (i = 0; i < 300; i++) {
			phys_addr_t phys = iommu_iova_to_phys(&fx->mock[0]->domain,
							      i * PAGE_SIZE);

			KUNIT_ASSERT_NE(test, phys, 0ULL);
			ram += !is_zero_pfn(PHYS_PFN(phys));
		}
		KUNIT_EXPECT_EQ_MSG(test, user_locked_vm(), fx->locked_vm + ram,
				    "%u pages are not the zero page", ram);
		expect_unmap(test, 0, 300);
		expect_nothing(test);
	}
	user_unmap(vaddr, 300);
}

/* It takes as much room below the limit as it has RAM: the zero page takes none. */
static void zero_page_needs_no_room(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	unsigned long vaddr = user_map_anon(test, 300, PROT_READ), ram;
	struct cred *unprivileged = prepare_creds();
	struct fixture *fx = test->priv;
	const struct cred *old;
	int fits, too_much;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	add_domain(test, test->param_value);
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, vaddr, 300, IOMMU_READ));
	ram = user_locked_vm() - fx->locked_vm;
	expect_unmap(test, 0, 300);
	make_user_memory(test, SINGLES, 1);

	old = override_creds(unprivileged);
	limit->rlim_cur = (fx->locked_vm + ram) << PAGE_SHIFT;
	fits = map(test, 0, vaddr, 300, IOMMU_READ);
	too_much = map_all(test, SZ_1G, RW);
	*limit = old_limit;
	revert_creds(old);
	put_cred(unprivileged);
	KUNIT_EXPECT_EQ(test, fits, 0);
	KUNIT_EXPECT_EQ_MSG(test, too_much, -ENOMEM, "a page more, of RAM");
	expect_unmap(test, 0, 300);
	expect_nothing(test);
	drop_user_memory(test);
	user_unmap(vaddr, 300);
}

static struct kunit_case map_memory_cases[] = {
	KUNIT_CASE_PARAM(written_pages_are_dirty, mock_flavour_gen),
	KUNIT_CASE_PARAM(read_pages_stay_clean_among_written_ones, mock_flavour_gen),
	KUNIT_CASE_PARAM(runs_of_ram_cross_batches, mock_flavour_gen),
	KUNIT_CASE_PARAM(granules_take_what_is_contiguous, granule_gen_params),
	KUNIT_CASE_PARAM(large_folios_are_runs_as_far_as_in_order, mock_flavour_gen),
	KUNIT_CASE_PARAM(runs_of_mmio_cross_batches, mock_flavour_gen),
	KUNIT_CASE_PARAM(ram_and_reserved_are_told_apart, mock_flavour_gen),
	KUNIT_CASE_PARAM(reserved_frames_do_not_continue_ram, mock_flavour_gen),
	KUNIT_CASE_PARAM(reserved_pages_are_unpinned_if_they_were_pinned, mock_flavour_gen),
	KUNIT_CASE_PARAM(no_pin_is_lost_with_the_run_list, mock_flavour_gen),
	KUNIT_CASE_PARAM(missing_frames_are_faulted_in, mock_flavour_gen),
	KUNIT_CASE_PARAM(frames_that_cannot_be_had, mock_flavour_gen),
	KUNIT_CASE_PARAM(last_page_of_addresses_is_no_memory, mock_flavour_gen),
	KUNIT_CASE_PARAM(killed_map_does_not_repeat_a_fault, mock_flavour_gen),
	KUNIT_CASE_PARAM(untouched_memory_maps_and_unmaps, mock_flavour_gen),
	KUNIT_CASE_PARAM(zero_page_needs_no_room, mock_flavour_gen),
	{}
};

SUITE("vfio_map_memory", map_memory_cases, MAP_SUITE);
