// SPDX-License-Identifier: GPL-2.0-only
/*
 * A model of a container that is too simple to be wrong, for random requests: see
 * random_model.h.
 */

#include <linux/uaccess.h>

#include "fake_iommu.h"
#include "mock_iommu.h"
#include "random_model.h"
#include "user_mem.h"

/* Say where the walk is if @left, which is called @what, is not @right. */
void walk_eq(struct walk *w, const char *what, long long left, long long right)
{
	KUNIT_ASSERT_EQ_MSG(w->test, left, right, "seed %u step %u: %s", w->seed, w->step, what);
}

/* ---- what the model knows ---- */

unsigned int nr_attached(const struct walk *w)
{
	unsigned int i, nr = 0;

	for (i = 0; i < GROUPS; i++)
		nr += w->attached[i];
	return nr;
}

unsigned int nr_maps(const struct walk *w)
{
	unsigned int i, nr = 0;

	for (i = 0; i < ENTRIES; i++)
		nr += w->maps[i].used;
	return nr;
}

bool any_without_vaddr(const struct walk *w)
{
	unsigned int i;

	for (i = 0; i < ENTRIES; i++)
		if (w->maps[i].used && w->maps[i].no_vaddr)
			return true;
	return false;
}

/* The page that a cell shows, or NULL. */
struct page *cell_page(const struct walk *w, unsigned int cell)
{
	const struct model_map *m;

	if (w->owner[cell] == NOBODY)
		return NULL;
	m = &w->maps[w->owner[cell]];
	return w->pages[m->mem + cell - m->first];
}

static bool cell_is_dirty(const struct walk *w, unsigned int cell)
{
	return w->owner[cell] != NOBODY && (nr_attached(w) || test_bit(cell, w->dirty));
}

void forget_map(struct walk *w, unsigned int nr)
{
	struct model_map *m = &w->maps[nr];
	unsigned int i;

	for (i = m->first; i < m->first + m->npages; i++) {
		w->owner[i] = NOBODY;
		clear_bit(i, w->dirty);
	}
	m->used = false;
}

void forget_all_maps(struct walk *w)
{
	unsigned int i;

	for (i = 0; i < ENTRIES; i++)
		if (w->maps[i].used)
			forget_map(w, i);
}

/* What was pinned is dirty. */
void mark_pinned(struct walk *w)
{
	unsigned int i;

	for (i = 0; i < CELLS; i++)
		if (w->pins[i])
			set_bit(i, w->dirty);
}

/* ---- is it so? ---- */

static void expect_page_table(struct walk *w, struct mock_iommu *mock)
{
	unsigned int i;

	WALK_EQ(w, mock->violation[0], 0);
	WALK_EQ(w, list_empty(&mock->stale), true);
	for (i = 0; i < CELLS; i++) {
		struct page *page = cell_page(w, i);
		phys_addr_t phys = iommu_iova_to_phys(&mock->domain, cell_iova(i));

		WALK_EQ(w, phys, page ? page_to_phys(page) : 0);
		if (page)
			WALK_EQ(w, mock_iommu_prot(mock, cell_iova(i)),
				w->maps[w->owner[i]].prot | IOMMU_CACHE);
	}
}

void expect_model(struct walk *w)
{
	unsigned int pins[MEM_PAGES] = {}, charged = 0, mapped = 0, i;
	bool iommu = nr_attached(w);

	for (i = 0; i < CELLS; i++) {
		const struct model_map *m = &w->maps[w->owner[i]];

		if (w->owner[i] == NOBODY) {
			WALK_EQ(w, w->pins[i], 0);
			continue;
		}
		mapped++;
		pins[m->mem + i - m->first] += iommu + !!w->pins[i];
		charged += iommu || w->pins[i];
	}
	for (i = 0; i < MEM_PAGES; i++)
		WALK_EQ(w, page_ref_count(w->pages[i]),
			REFS_UNPINNED + pins[i] * GUP_PIN_COUNTING_BIAS);
	WALK_EQ(w, user_locked_vm() - w->locked_vm, charged);
	WALK_EQ(w, vfio_count_sum(w->container, VFIO_COUNT_LOCKED_PAGES), charged);
	WALK_EQ(w, w->container->tree.avail, ENTRIES - nr_maps(w));
	WALK_EQ(w, w->container->tree.bytes, (u64)mapped * PAGE_SIZE);
	WALK_EQ(w, fake_iommu.violation[0], 0);
	for (i = 0; i < GROUPS; i++) {
		WALK_EQ(w, !!fake_iommu.devices[i].domain, w->attached[i]);
		if (w->attached[i])
			expect_page_table(w, fake_mock(fake_iommu.devices[i].domain));
	}
	if (!iommu)
		WALK_EQ(w, fake_iommu.nr_domains, 0);
}

/* The bitmap that user space got for @npages cells from @first on. */
void expect_model_bitmap(struct walk *w, unsigned int first, unsigned int npages,
			 const unsigned long *expected)
{
	DECLARE_BITMAP(got, CELLS) = {};
	unsigned int i;

	WALK_EQ(w, copy_from_user(got, (void __user *)w->bitmap, sizeof(got)), 0);
	for (i = 0; i < npages; i++)
		WALK_EQ(w, test_bit(i, got), test_bit(first + i, expected));
}

void snapshot_dirty(const struct walk *w, unsigned long *dirty)
{
	unsigned int i;

	bitmap_zero(dirty, CELLS);
	for (i = 0; i < CELLS; i++)
		if (cell_is_dirty(w, i))
			set_bit(i, dirty);
}
