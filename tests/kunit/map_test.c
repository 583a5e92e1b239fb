// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP: which runs and IOPTEs, in how many calls, and when page tables are freed.
 */

#include <linux/sizes.h>

#include "map_fixture.h"

/* What the run list says: runs that follow each other as the user's pages do. */
static unsigned int count_runs(struct kunit *test, u64 iova)
{
	struct fixture *fx = test->priv;
	struct vfio_dma *dma = find_mapping(fx, iova);
	unsigned int nr = 0, page = 0, npages, i;
	struct vfio_runs_iter iter;
	struct vfio_run run;

	KUNIT_ASSERT_NOT_NULL(test, dma);
	KUNIT_ASSERT_EQ(test, dma->mapped, (unsigned long)fx->npages);
	vfio_runs_begin(&dma->runs, &iter);
	for (; vfio_runs_next(&iter, &run); nr++, page += npages) {
		npages = vfio_run_npages(run);
		KUNIT_ASSERT_LE(test, page + npages, fx->npages);
		for (i = 0; i < npages; i++)
			KUNIT_ASSERT_EQ_MSG(test, vfio_run_pfn(run) + i,
					    page_to_pfn(fx->pages[page + i]), "page %u", page + i);
	}
	KUNIT_ASSERT_EQ(test, page, fx->npages);
	return nr;
}

static void expect_unmap_all(struct kunit *test, unsigned int npages)
{
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, unmap(test, 0, 0, true, &unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, (u64)npages << PAGE_SHIFT);
}

/* ---- mapping and unmapping ---- */

/* Where a mapping of @npages goes: aligned as its block, off by a page, across 2M, at the end. */
static u64 place(unsigned int which, unsigned int npages)
{
	switch (which) {
	case 0:
		return SZ_1G;
	case 1:
		return PAGE_SIZE;
	case 2:
		return SZ_4G - PAGE_SIZE;
	default:
		return U64_MAX - ((u64)npages << PAGE_SHIFT) + 1;
	}
}

#define NR_PLACES	4

/*
 * A table that an UNMAP has left is in the way of a superpage: of a run that is mapped by
 * itself, and of one among others, in each domain. It is not freed, and in its place, once the
 * driver has freed it, there are superpages again.
 */
static void tables_stay_until_they_are_flushed(struct kunit *test)
{
	static const unsigned int runs[] = { 0, 512 };
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = add_domain(test, flavour);
	struct fixture *fx = test->priv;
	unsigned int i, n, ptes;

	add_domain(test, flavour);
	for (n = 0; n < ARRAY_SIZE(runs); n++) {
		/* One run of 2M, and the other 2M in two halves that do not follow. */
		const unsigned int start = runs[n];
		const u64 iova = (n + 1) * (u64)SZ_1G, table = iova + start * PAGE_SIZE;

		fx->npages = USER_BLOCK_PAGES;
		for (i = 0; i < 512; i++) {
			fx->pages[start + i] = fx->block + start + i;
			fx->pages[(start ^ 512) + i] =
				fx->block + ((start ^ 512) + (i ^ 256));
		}
		fx->vaddr = user_map_pages(test, fx->pages, fx->npages, PROT_READ | PROT_WRITE);
		KUNIT_ASSERT_EQ(test, 0, map_all(test, iova, RW));
		ptes = mock->nr_ptes;
		expect_unmap(test, iova, fx->npages);

		KUNIT_ASSERT_EQ(test, 0, map(test, table + SZ_64K, fx->vaddr, 1, RW));
		expect_unmap(test, table + SZ_64K, 1);
		KUNIT_ASSERT_EQ(test, 0, map_all(test, iova, RW));
		expect_mapped(test, iova, RW);
		expect_unmap(test, iova, fx->npages);
		expect_nothing(test);
		KUNIT_ASSERT_EQ(test, 0, map_all(test, iova, RW));
		expect_mapped(test, iova, RW);
		if (!flavour->keeps_tables && !flavour->single)
			KUNIT_EXPECT_EQ(test, mock->nr_ptes, ptes);
		expect_unmap(test, iova, fx->npages);

		/* By itself. */
		KUNIT_ASSERT_EQ(test, 0, map(test, table + SZ_64K, fx->vaddr, 1, RW));
		expect_unmap(test, table + SZ_64K, 1);
		KUNIT_ASSERT_EQ(test, 0, map(test, table, fx->vaddr + (start << PAGE_SHIFT), 512,
					     RW));
		expect_unmap(test, table, 512);
		expect_nothing(test);
		drop_user_memory(test);
	}
}

/* Each layout, size and place, unmapped in each of the three ways: the same comes out. */
static void every_layout_by_every_walk(struct kunit *test)
{
	unsigned int layout, s, w, p;

	add_domain(test, test->param_value);
	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (s = 0; s < ARRAY_SIZE(sizes); s++) {
			make_user_memory(test, layout, sizes[s]);
			for (w = 0; w < ARRAY_SIZE(walks); w++) {
				for (p = 0; p < NR_PLACES; p++) {
					u64 iova = place(p, sizes[s]);

					vfio_type1_params.unmap_walk = walks[w];
					KUNIT_ASSERT_EQ(test, 0, map_all(test, iova, RW));
					expect_mapped(test, iova, RW);
					expect_unmap(test, iova, sizes[s]);
					expect_nothing(test);
				}
			}
			drop_user_memory(test);
		}
	}
}

/* The run list holds the physical runs, neither more nor fewer. */
static void run_list_holds_the_physical_runs(struct kunit *test)
{
	unsigned int layout, s;

	add_domain(test, test->param_value);
	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (s = 0; s < ARRAY_SIZE(sizes); s++) {
			unsigned int runs = make_user_memory(test, layout, sizes[s]);

			KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
			KUNIT_EXPECT_EQ_MSG(test, count_runs(test, 0), runs,
					    "layout %u, %u pages", layout, sizes[s]);
			expect_unmap(test, 0, sizes[s]);
			drop_user_memory(test);
		}
	}
}

/*
 * What disable_hugepages promises: no run, and so no IOPTE, is larger than a page,
 * although all of them continue each other.
 */
static void disable_hugepages_maps_single_pages(struct kunit *test)
{
	struct mock_iommu *mock = add_domain(test, test->param_value);

	vfio_type1_params.disable_hugepages = true;
	make_user_memory(test, SEQUENTIAL, USER_BLOCK_PAGES);
	KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
	expect_mapped(test, 0, RW);
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, USER_BLOCK_PAGES);
	KUNIT_EXPECT_EQ(test, count_runs(test, 0), USER_BLOCK_PAGES);
	expect_unmap(test, 0, USER_BLOCK_PAGES);
	expect_nothing(test);
	drop_user_memory(test);
}

/*
 * A run that is aligned like its IOVA gets the largest IOPTEs there are, also if
 * it is larger than the largest; one that is not aligned gets what its
 * alignment allows; and neither costs more calls than the driver's kind needs.
 */
static void runs_get_the_largest_ioptes(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = add_domain(test, flavour);
	size_t size = USER_BLOCK_PAGES * PAGE_SIZE;
	unsigned int largest = rounddown_pow_of_two(flavour->pgsize_bitmap & (2 * size - 1));
	unsigned int ptes = size / largest;

	make_user_memory(test, SEQUENTIAL, USER_BLOCK_PAGES);
	KUNIT_ASSERT_EQ(test, 0, map_all(test, SZ_1G, RW));
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, ptes);
	KUNIT_EXPECT_EQ(test, mock->nr_map, flavour->single ? ptes : 1);
	expect_unmap(test, SZ_1G, USER_BLOCK_PAGES);
	KUNIT_EXPECT_EQ(test, mock->nr_sync, 1U);
	KUNIT_EXPECT_EQ_MSG(test, mock->nr_to_phys, 0U, "the IOMMU was asked for a known run");
	if (!flavour->single)
		KUNIT_EXPECT_EQ(test, mock->nr_unmap, 1U);

	/* IOVA and physical address differ in the last bit of the page number. */
	KUNIT_ASSERT_EQ(test, 0, map_all(test, SZ_1G + PAGE_SIZE, RW));
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, USER_BLOCK_PAGES);
	expect_mapped(test, SZ_1G + PAGE_SIZE, RW);
	expect_unmap(test, SZ_1G + PAGE_SIZE, USER_BLOCK_PAGES);
	expect_nothing(test);
	drop_user_memory(test);
}

/* A run ends at a multiple of its largest size in IOVA, although its memory goes on. */
static void runs_end_at_multiples_of_the_largest(struct kunit *test)
{
	static const unsigned int npages[] = { 300, USER_BLOCK_PAGES - 300 };
	u64 iova = 3ULL * VFIO_RUN_BYTES_MAX - 300 * PAGE_SIZE;
	unsigned int w;

	add_domain(test, test->param_value);
	make_user_memory(test, SEQUENTIAL, USER_BLOCK_PAGES);
	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map_all(test, iova, RW));
		expect_mapped(test, iova, RW);
		expect_run_lengths(test, iova, npages, ARRAY_SIZE(npages));
		expect_unmap(test, iova, USER_BLOCK_PAGES);
		expect_nothing(test);
	}
	drop_user_memory(test);
}

/*
 * Two of the largest runs that continue each other, aligned so that an IOMMU
 * with IOPTEs of every size could do with a single one: each run gets its own.
 */
static void largest_runs_do_not_share_an_iopte(struct kunit *test)
{
	static const struct mock_flavour any_size = { "any size", PAGE_MASK, true, false };
	static const unsigned int npages[] = { VFIO_RUN_PAGES_MAX, VFIO_RUN_PAGES_MAX };
	struct mock_iommu *mock = add_domain(test, &any_size);
	unsigned long vaddr = user_map_pfns(test, 0, MMIO_PFN, 2 * VFIO_RUN_PAGES_MAX);
	u64 iova = 2ULL * VFIO_RUN_BYTES_MAX;
	unsigned int w;

	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		KUNIT_ASSERT_EQ(test, 0, map(test, iova, vaddr, 2 * VFIO_RUN_PAGES_MAX, RW));
		expect_run_lengths(test, iova, npages, ARRAY_SIZE(npages));
		KUNIT_EXPECT_EQ(test, mock->nr_ptes, 2U);
		expect_unmap(test, iova, 2 * VFIO_RUN_PAGES_MAX);
		expect_nothing(test);
	}
	user_unmap(vaddr, 2 * VFIO_RUN_PAGES_MAX);
}

/*
 * A hundred runs and more are mapped before the IOMMU is told to look, where no table is in the
 * way.
 */
static void map_costs_a_sync_per_hundred_runs(struct kunit *test)
{
	struct mock_iommu *mock = add_domain(test, test->param_value);
	unsigned int layout, runs;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		runs = make_user_memory(test, layout, USER_BLOCK_PAGES);
		mock->nr_sync_map = 0;
		KUNIT_ASSERT_EQ(test, 0, map_all(test, SZ_1G, RW));
		KUNIT_EXPECT_GT(test, mock->nr_sync_map, 0U);
		KUNIT_EXPECT_LE_MSG(test, mock->nr_sync_map, DIV_ROUND_UP(runs, 100),
				    "for %u runs", runs);
		expect_unmap(test, SZ_1G, USER_BLOCK_PAGES);
		expect_nothing(test);
		drop_user_memory(test);
	}
}

/* Fragmented memory costs no look-up, and one sync per window. */
static void unmap_costs_a_sync_per_window(struct kunit *test)
{
	const struct mock_flavour *flavour = test->param_value;
	struct mock_iommu *mock = add_domain(test, flavour);
	unsigned int layout, runs, syncs;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		runs = make_user_memory(test, layout, USER_BLOCK_PAGES);
		KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
		mock->nr_unmap = 0;
		mock->nr_sync = 0;
		expect_unmap(test, 0, USER_BLOCK_PAGES);
		syncs = DIV_ROUND_UP(runs, VFIO_WINDOW_RUNS);
		KUNIT_EXPECT_EQ(test, mock->nr_to_phys, 0U);
		KUNIT_EXPECT_EQ_MSG(test, mock->nr_sync, syncs, "for %u runs", runs);
		/* All runs follow each other in IOVA: one call for a window. */
		if (!flavour->single)
			KUNIT_EXPECT_EQ(test, mock->nr_unmap, syncs);
		expect_nothing(test);
		drop_user_memory(test);
	}
}

/* Pages of a stretch of user memory that takes several page tables. */
#define TABLES_PAGES	(5 * 512)

/* The block again and again, in runs of as many pages, of which none follows the other. */
static unsigned long map_tables(struct kunit *test, unsigned int run)
{
	struct fixture *fx = test->priv;
	struct page **pages;
	unsigned int i;

	pages = kunit_kmalloc_array(test, TABLES_PAGES, sizeof(*pages), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	for (i = 0; i < TABLES_PAGES; i++)
		pages[i] = fx->block + (2 * run * (i / run) + i % run) % USER_BLOCK_PAGES;
	return user_map_pages(test, pages, TABLES_PAGES, PROT_READ | PROT_WRITE);
}

/*
 * No page table is freed before a sync of all that it translated: for one mapping, aligned
 * or not, and for several in one UNMAP, in every domain, however runs are found.
 */
static void unmap_frees_tables_after_their_sync(struct kunit *test)
{
	static const unsigned int run_pages[] = { 1, 3, 200 };
	static const u64 places[] = { SZ_1M, SZ_2M, SZ_1G - SZ_4M + PAGE_SIZE };
	unsigned int r, w, p;

	add_domain(test, test->param_value);
	add_domain(test, test->param_value);
	for (r = 0; r < ARRAY_SIZE(run_pages); r++) {
		unsigned long vaddr = map_tables(test, run_pages[r]);

		for (w = 0; w < ARRAY_SIZE(walks); w++) {
			vfio_type1_params.unmap_walk = walks[w];
			for (p = 0; p < ARRAY_SIZE(places); p++) {
				KUNIT_ASSERT_EQ(test, 0, map(test, places[p], vaddr,
							     TABLES_PAGES, RW));
				expect_unmap(test, places[p], TABLES_PAGES);
				expect_nothing(test);
			}
			/* Of 2M each, with as much between them; then with a page before each. */
			for (p = 0; p < 4; p++)
				KUNIT_ASSERT_EQ(test, 0, map(test, SZ_16M + p * SZ_4M, vaddr, 512,
							     RW));
			for (p = 0; p < 4; p++)
				KUNIT_ASSERT_EQ(test, 0, map(test, SZ_32M + p * SZ_4M - PAGE_SIZE,
							     vaddr, 513, RW));
			expect_unmap_all(test, 4 * 512 + 4 * 513);
			expect_nothing(test);
		}
		user_unmap(vaddr, TABLES_PAGES);
	}
}

/* So it is when the IOMMU refuses a MAP, whoever takes out what was mapped before. */
static void failed_map_frees_tables_after_their_sync(struct kunit *test)
{
	static const unsigned int run_pages[] = { 3, 200 };
	static const u64 places[] = { SZ_1M, SZ_2M, SZ_2M - PAGE_SIZE };
	struct fixture *fx = test->priv;
	unsigned int r, p, d, nth, calls;

	for (d = 0; d < DOMAINS_MAX; d++)
		add_domain(test, test->param_value);
	for (r = 0; r < ARRAY_SIZE(run_pages); r++) {
		unsigned long vaddr = map_tables(test, run_pages[r]);

		for (p = 0; p < ARRAY_SIZE(places); p++) {
			calls = fx->mock[0]->nr_map;
			KUNIT_ASSERT_EQ(test, 0, map(test, places[p], vaddr, TABLES_PAGES, RW));
			calls = fx->mock[0]->nr_map - calls;
			expect_unmap(test, places[p], TABLES_PAGES);
			for (nth = 1; nth <= calls; nth += 1 + calls / 12) {
				fx->mock[nth % DOMAINS_MAX]->fail_map = nth;
				KUNIT_ASSERT_EQ(test, -ENOMEM, map(test, places[p], vaddr,
								   TABLES_PAGES, RW));
				expect_nothing(test);
			}
		}
		user_unmap(vaddr, TABLES_PAGES);
	}
}

static struct kunit_case map_cases[] = {
	KUNIT_CASE_PARAM(every_layout_by_every_walk, mock_flavour_gen),
	KUNIT_CASE_PARAM(run_list_holds_the_physical_runs, mock_flavour_gen),
	KUNIT_CASE_PARAM(disable_hugepages_maps_single_pages, mock_flavour_gen),
	KUNIT_CASE_PARAM(runs_get_the_largest_ioptes, mock_flavour_gen),
	KUNIT_CASE_PARAM(runs_end_at_multiples_of_the_largest, mock_flavour_gen),
	KUNIT_CASE(largest_runs_do_not_share_an_iopte),
	KUNIT_CASE_PARAM(tables_stay_until_they_are_flushed, mock_flavour_gen),
	KUNIT_CASE_PARAM(map_costs_a_sync_per_hundred_runs, mock_flavour_gen),
	KUNIT_CASE_PARAM(unmap_costs_a_sync_per_window, mock_flavour_gen),
	KUNIT_CASE_PARAM(unmap_frees_tables_after_their_sync, mock_flavour_gen),
	KUNIT_CASE_PARAM(failed_map_frees_tables_after_their_sync, mock_flavour_gen),
	{}
};

SUITE("vfio_map_unmap", map_cases, MAP_SUITE);
