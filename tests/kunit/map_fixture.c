// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP on mock IOMMUs, with user memory of chosen layouts: see map_fixture.h.
 */

#include <linux/prandom.h>

#include "map_fixture.h"

const enum vfio_unmap_walk walks[NR_WALKS] = {
	VFIO_UNMAP_RUNS, VFIO_UNMAP_FGSP, VFIO_UNMAP_COARSE,
};

const unsigned int sizes[NR_SIZES] = { 1, 2, 31, 32, 33, 511, 512, 513, USER_BLOCK_PAGES };

int map_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	suite_set_params(ENTRIES);
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->block = user_block_alloc(test);
	fx->locked_vm = user_locked_vm();
	test->priv = fx;
	return 0;
}

void map_case_exit(struct kunit *test)
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
struct mock_iommu *add_domain(struct kunit *test, const struct mock_flavour *flavour)
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
unsigned int make_user_memory(struct kunit *test, enum layout layout, unsigned int npages)
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

/* The run list consists of runs of these lengths. */
void expect_run_lengths(struct kunit *test, u64 iova, const unsigned int *npages,
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

/* Every page is pinned and mapped to where it belongs, in every domain, and charged. */
void expect_mapped(struct kunit *test, u64 iova, int prot)
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
void expect_nothing(struct kunit *test)
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
