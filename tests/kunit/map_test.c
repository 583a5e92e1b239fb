// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP_DMA and UNMAP_DMA on mock IOMMUs, with user memory of chosen layouts.
 *
 * The memory is a block of physically contiguous pages, mapped to user space in
 * some order, so that a case knows the runs that must come out.
 */

#include <linux/cred.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "fault.h"
#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define DOMAINS_MAX	2
#define ENTRIES		16

/**
 * struct fixture - what each case starts with
 * @container: v2, without domains
 * @domain: the container's domains
 * @mock: and the mocks in them
 * @nr: how many there are
 * @block: USER_BLOCK_PAGES contiguous pages
 * @pages: pages of @block in the order of the user mapping
 * @npages: how many of them are mapped
 * @vaddr: where
 * @locked_vm: before anything was charged
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain[DOMAINS_MAX];
	struct mock_iommu *mock[DOMAINS_MAX];
	unsigned int nr;
	struct page *block;
	struct page *pages[USER_BLOCK_PAGES];
	unsigned int npages;
	unsigned long vaddr;
	unsigned long locked_vm;
};

static int map_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	suite_set_params(ENTRIES);
	fx->container = vfio_container_create(true, false, false);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->block = user_block_alloc(test);
	fx->locked_vm = user_locked_vm();
	test->priv = fx;
	return 0;
}

static void map_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	if (!fx)
		return;
	mock_iommu_release(fx->container);
	for (i = 0; i < fx->nr; i++)
		mock_iommu_destroy(fx->mock[i]);
	user_block_free(fx->block);
	user_mem_detach();
}

/* Add a domain as attaching a group would. */
static struct mock_iommu *add_domain(struct kunit *test, const struct mock_flavour *flavour)
{
	struct fixture *fx = test->priv;
	struct vfio_domain *domain = &fx->domain[fx->nr];
	struct mock_iommu *mock = mock_iommu_create(test, flavour);

	fx->mock[fx->nr++] = mock;
	mock_iommu_join(test, mock, domain, fx->container);
	vfio_fgsp_probe(domain, &fx->container->iova);
	mock->nr_map = 0;
	mock->nr_unmap = 0;
	mock->nr_sync = 0;
	mock->nr_sync_map = 0;
	mock->nr_to_phys = 0;
	return mock;
}

/* ---- layouts ---- */

/*
 * A layout cuts the block into chunks and lines these up in reverse, so that
 * every chunk is a run.
 */
enum layout {
	SEQUENTIAL,	/* one chunk */
	OFF_BY_ONE,	/* one chunk from the block's second page on, then the first page */
	SINGLES,
	EIGHTS,
	RANDOM,		/* of 1 to 64 pages */
	NR_LAYOUTS,
};

static unsigned int chunk_len(enum layout layout, unsigned int start, struct rnd_state *rnd)
{
	switch (layout) {
	case SEQUENTIAL:
		return USER_BLOCK_PAGES;
	case OFF_BY_ONE:
		return start ? USER_BLOCK_PAGES : 1;
	case SINGLES:
		return 1;
	case EIGHTS:
		return 8;
	default:
		return 1 + prandom_u32_state(rnd) % 64;
	}
}

/* Make user memory of @npages in a layout. Returns the number of runs. */
static unsigned int make_user_memory(struct kunit *test, enum layout layout, unsigned int npages)
{
	unsigned int start, len, i, runs = 0, at = npages;
	struct fixture *fx = test->priv;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, npages);
	for (start = 0; start < npages; start += len) {
		len = min(chunk_len(layout, start, &rnd), npages - start);
		at -= len;
		for (i = 0; i < len; i++)
			fx->pages[at + i] = fx->block + start + i;
		runs++;
	}
	fx->npages = npages;
	fx->vaddr = user_map_pages(test, fx->pages, npages, PROT_READ | PROT_WRITE);
	return runs;
}

static void drop_user_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;

	user_unmap(fx->vaddr, fx->npages);
}

/* ---- what is expected ---- */

static struct vfio_dma *find_mapping(struct fixture *fx, u64 iova)
{
	return suite_mapping(fx->container, iova);
}

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

/* The run list consists of runs of these lengths. */
static void expect_run_lengths(struct kunit *test, u64 iova, const unsigned int *npages,
			       unsigned int nr)
{
	struct vfio_dma *dma = find_mapping(test->priv, iova);
	struct vfio_runs_iter iter;
	struct vfio_run run;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, dma);
	vfio_runs_begin(&dma->runs, &iter);
	for (i = 0; i < nr; i++) {
		KUNIT_ASSERT_TRUE_MSG(test, vfio_runs_next(&iter, &run), "no run %u", i);
		KUNIT_ASSERT_EQ_MSG(test, vfio_run_npages(run), (unsigned long)npages[i], "run %u",
				    i);
	}
	KUNIT_ASSERT_FALSE_MSG(test, vfio_runs_next(&iter, &run), "more than %u runs", nr);
}

/* As if there had been no memory for the run list. */
static void lose_runs(struct vfio_dma *dma)
{
	vfio_runs_free(&dma->runs);
	dma->runs.lost = true;
}

/* Every page is pinned and mapped to where it belongs, in every domain, and charged. */
static void expect_mapped(struct kunit *test, u64 iova, int prot)
{
	struct fixture *fx = test->priv;
	unsigned int i, d;

	for (i = 0; i < fx->npages; i++) {
		KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_PINNED,
				    "page %u of %u", i, fx->npages);
		for (d = 0; d < fx->nr; d++) {
			KUNIT_ASSERT_EQ_MSG(test,
					    iommu_iova_to_phys(&fx->mock[d]->domain,
							       iova + i * PAGE_SIZE),
					    page_to_phys(fx->pages[i]),
					    "page %u of %u", i, fx->npages);
			KUNIT_ASSERT_EQ(test, mock_iommu_prot(fx->mock[d], iova + i * PAGE_SIZE),
					prot | IOMMU_CACHE);
		}
	}
	for (d = 0; d < fx->nr; d++)
		KUNIT_ASSERT_STREQ(test, fx->mock[d]->violation, "");
	KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm + fx->npages);
}

/* Nothing is left of any mapping: no IOPTE, no pin, no charge, no entry used. */
static void expect_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i, d;

	for (d = 0; d < fx->nr; d++)
		mock_iommu_expect_empty(test, fx->mock[d]);
	for (i = 0; i < fx->npages; i++)
		KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED,
				    "page %u of %u", i, fx->npages);
	KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm);
	KUNIT_ASSERT_TRUE(test, RB_EMPTY_ROOT(&fx->container->tree.root));
	KUNIT_ASSERT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
}

static int map(struct kunit *test, u64 iova, unsigned long vaddr, unsigned int npages, int prot)
{
	struct fixture *fx = test->priv;

	return vfio_map_dma(fx->container, iova, vaddr, (u64)npages << PAGE_SHIFT, prot, false);
}

static int map_all(struct kunit *test, u64 iova, int prot)
{
	struct fixture *fx = test->priv;

	return map(test, iova, fx->vaddr, fx->npages, prot);
}

static int unmap(struct kunit *test, u64 iova, u64 size, bool all, u64 *unmapped)
{
	struct fixture *fx = test->priv;

	return vfio_unmap_dma(fx->container, iova, size, all, NULL, unmapped);
}

static void expect_unmap(struct kunit *test, u64 iova, unsigned int npages)
{
	u64 size = (u64)npages << PAGE_SHIFT, unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, unmap(test, iova, size, false, &unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, size);
}

static void expect_unmap_all(struct kunit *test, unsigned int npages)
{
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, unmap(test, 0, 0, true, &unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, (u64)npages << PAGE_SHIFT);
}

static const enum vfio_unmap_walk walks[] = {
	VFIO_UNMAP_RUNS, VFIO_UNMAP_FGSP, VFIO_UNMAP_COARSE,
};

/* ---- mapping and unmapping ---- */

static const unsigned int sizes[] = { 1, 2, 31, 32, 33, 511, 512, 513, USER_BLOCK_PAGES };

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

/* A hundred runs and more are mapped before the IOMMU is told to look. */
static void map_costs_a_sync_per_hundred_runs(struct kunit *test)
{
	struct mock_iommu *mock = add_domain(test, test->param_value);
	unsigned int layout, runs;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		runs = make_user_memory(test, layout, USER_BLOCK_PAGES);
		mock->nr_sync_map = 0;
		KUNIT_ASSERT_EQ(test, 0, map_all(test, 0, RW));
		KUNIT_EXPECT_GT(test, mock->nr_sync_map, 0U);
		KUNIT_EXPECT_LE_MSG(test, mock->nr_sync_map, DIV_ROUND_UP(runs, 100),
				    "for %u runs", runs);
		expect_unmap(test, 0, USER_BLOCK_PAGES);
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

static struct kunit_case map_cases[] = {
	KUNIT_CASE_PARAM(every_layout_by_every_walk, mock_flavour_gen),
	KUNIT_CASE_PARAM(run_list_holds_the_physical_runs, mock_flavour_gen),
	KUNIT_CASE_PARAM(disable_hugepages_maps_single_pages, mock_flavour_gen),
	KUNIT_CASE_PARAM(runs_get_the_largest_ioptes, mock_flavour_gen),
	KUNIT_CASE_PARAM(runs_end_at_multiples_of_the_largest, mock_flavour_gen),
	KUNIT_CASE(largest_runs_do_not_share_an_iopte),
	KUNIT_CASE_PARAM(map_costs_a_sync_per_hundred_runs, mock_flavour_gen),
	KUNIT_CASE_PARAM(unmap_costs_a_sync_per_window, mock_flavour_gen),
	KUNIT_CASE_PARAM(unmap_frees_tables_after_their_sync, mock_flavour_gen),
	KUNIT_CASE_PARAM(failed_map_frees_tables_after_their_sync, mock_flavour_gen),
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

SUITE("vfio_map_unmap", map_cases,
	USER_MEM_SUITE, .init = map_case_init, .exit = map_case_exit);
