// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: random requests against a model.
 */

#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "registry_fixture.h"

#define WALK_REGIONS	6
#define WALK_MAPS	8
#define WALK_PAGES	1000U
#define WALK_STEPS	3000
#define OTHER_PAGE	(NPAGES - 1)

struct model_region {
	unsigned int page, npages, registered, users;
	bool read_only;
	unsigned int frame[WALK_PAGES];
};

struct model_map {
	bool used;
	unsigned int c, page, npages;
	u64 iova;
	struct model_region *region;
};

/**
 * struct model - what has to be there
 * @regions: those that are registered
 * @maps: mappings; number n is at IOVA n GiB
 * @frame: number of the block page that the process has at each address
 */
struct model {
	struct model_region regions[WALK_REGIONS];
	struct model_map maps[WALK_MAPS];
	unsigned int frame[WALK_PAGES];
};

static struct model_region *model_touched(struct model *m, unsigned int page, unsigned int npages)
{
	unsigned int i;

	for (i = 0; i < WALK_REGIONS; i++) {
		struct model_region *r = &m->regions[i];

		if (r->registered && page < r->page + r->npages && r->page < page + npages)
			return r;
	}
	return NULL;
}

static void walk_register(struct kunit *test, struct model *m, unsigned int c, unsigned int page,
			  unsigned int npages, bool read_only)
{
	struct model_region *r = model_touched(m, page, npages);
	unsigned int i;

	if (r) {
		bool same = r->page == page && r->npages == npages && r->read_only == read_only;
		int want = !same ? -EINVAL :
			   memcmp(r->frame, m->frame + page, npages * sizeof(*r->frame)) ? -ESTALE :
			   0;

		KUNIT_ASSERT_EQ(test, want, reg(test, c, page, npages, read_only));
		r->registered += !want;
		return;
	}
	for (i = 0; i < WALK_REGIONS && m->regions[i].registered; i++)
		;
	if (i == WALK_REGIONS)
		return;
	r = &m->regions[i];
	KUNIT_ASSERT_EQ(test, 0, reg(test, c, page, npages, read_only));
	r->page = page;
	r->npages = npages;
	r->registered = 1;
	r->users = 0;
	r->read_only = read_only;
	memcpy(r->frame, m->frame + page, npages * sizeof(*r->frame));
}

static void walk_unregister(struct kunit *test, struct model_region *r, unsigned int c)
{
	int want = !r->registered ? -ENOENT : r->registered == 1 && r->users ? -EBUSY : 0;

	if (!r->npages)
		return;
	KUNIT_ASSERT_EQ(test, want, unreg(test, c, r->page, r->npages));
	if (!want)
		r->registered--;
}

static void walk_map(struct kunit *test, struct model *m, unsigned int n, unsigned int c,
		     unsigned int page, unsigned int npages, int prot)
{
	struct model_region *r = model_touched(m, page, npages);
	struct model_map *map = &m->maps[n];
	int want = 0;

	if (map->used) {
		must_unmap(test, map->c, map->iova, map->npages);
		if (map->region)
			map->region->users--;
		map->used = false;
		return;
	}
	if (r && (page < r->page || page + npages > r->page + r->npages ||
		  (r->read_only && prot & IOMMU_WRITE)))
		r = NULL;
	if (r && memcmp(&r->frame[page - r->page], &m->frame[page], npages * sizeof(*m->frame)))
		want = -ESTALE;
	KUNIT_ASSERT_EQ(test, want, map_prot(test, c, (u64)n * SZ_1G, page, npages, prot));
	if (want)
		return;
	*map = (struct model_map) { true, c, page, npages, (u64)n * SZ_1G, r };
	if (r)
		r->users++;
}

/* Put page @frame of the block where @page is, or touch it only. */
static void walk_change(struct kunit *test, struct model *m, unsigned int page, unsigned int frame)
{
	struct fixture *fx = test->priv;
	unsigned long vaddr = vaddr_of(test, page);

	fake_watch_change(vaddr, vaddr + PAGE_SIZE - 1);
	if (frame == m->frame[page])
		return;
	user_remap_page(test, vaddr, fx->block + frame, PROT_READ | PROT_WRITE);
	m->frame[page] = frame;
}

static unsigned int model_charge(const struct model *m)
{
	unsigned int n, charge = 0;

	for (n = 0; n < WALK_REGIONS; n++)
		if (m->regions[n].registered)
			charge += m->regions[n].npages;
	for (n = 0; n < WALK_MAPS; n++)
		if (m->maps[n].used && !m->maps[n].region)
			charge += m->maps[n].npages;
	return charge;
}

static void random_requests_match_a_model(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct fixture *fx = test->priv;
	unsigned int step, i, n, refused = 0, used = 0;
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, m);
	make_memory(test, RANDOM);
	for (i = 0; i < WALK_PAGES; i++)
		m->frame[i] = fx->pages[i] - fx->block;
	prandom_seed_state(&rnd, 7);
	for (step = 0; step < WALK_STEPS; step++) {
		unsigned int page = prandom_u32_state(&rnd) % WALK_PAGES;
		unsigned int npages = 1 + prandom_u32_state(&rnd) % min(WALK_PAGES - page, 400U);
		struct model_region *r = &m->regions[prandom_u32_state(&rnd) % WALK_REGIONS];
		unsigned int c = prandom_u32_state(&rnd) % CONTAINERS;
		int prot = prandom_u32_state(&rnd) % 4 ? RW : IOMMU_READ;

		switch (prandom_u32_state(&rnd) % 8) {
		case 0:
			walk_register(test, m, c, page, npages, prot == IOMMU_READ);
			break;
		case 1:
			if (r->registered)
				walk_register(test, m, c, r->page, r->npages, r->read_only);
			break;
		case 2:
		case 3:
			walk_unregister(test, r, c);
			break;
		case 4:
			walk_change(test, m, page, prandom_u32_state(&rnd) % 2 ? m->frame[page] :
				    fx->pages[OTHER_PAGE] - fx->block);
			break;
		default:
			if (r->registered && prandom_u32_state(&rnd) % 4) {
				page = r->page + page % r->npages;
				npages = 1 + npages % (r->page + r->npages - page);
			}
			walk_map(test, m, prandom_u32_state(&rnd) % WALK_MAPS, c, page, npages,
				 prot);
		}

		KUNIT_ASSERT_EQ_MSG(test, user_locked_vm() - fx->locked_vm,
				    (unsigned long)model_charge(m), "step %u", step);
		n = prandom_u32_state(&rnd) % WALK_MAPS;
		for (i = 0; m->maps[n].used && m->maps[n].region && i < m->maps[n].npages; i++) {
			const struct model_map *map = &m->maps[n];
			unsigned int frame = map->region->frame[map->page - map->region->page + i];

			KUNIT_ASSERT_EQ_MSG(test, page_to_phys(fx->block + frame),
					    iommu_iova_to_phys(&mock(map->c)->domain,
							       map->iova + i * PAGE_SIZE),
					    "step %u", step);
			used++;
		}
	}
	refused = atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_REGISTRY]);
	KUNIT_EXPECT_GT(test, used, 1000U);
	KUNIT_EXPECT_GT(test, refused, 50U);
	for (n = 0; n < WALK_MAPS; n++)
		if (m->maps[n].used)
			walk_map(test, m, n, 0, 0, 1, RW);
	for (n = 0; n < WALK_REGIONS; n++)
		while (m->regions[n].registered)
			walk_unregister(test, &m->regions[n], 0);
	expect_charge(test, 0);
	/* Pages that the process has lost have one reference less. */
	drop_memory(fx);
	for (i = 0; i < NPAGES; i++)
		KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->block + i), 1, "page %u", i);
}

static struct kunit_case registry_random_cases[] = {
	KUNIT_CASE(random_requests_match_a_model),
	{}
};

SUITE("vfio_registered_random", registry_random_cases, REGISTRY_SUITE);
