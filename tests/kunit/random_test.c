// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random requests to a container, against a model that is too simple to be wrong:
 * for each page of a small stretch of IOVA, which mapping it is in, how often
 * in-kernel users have pinned it, and whether it is dirty.
 *
 * Requests are MAP, UNMAP, attach and detach of groups with four kinds of IOMMU and
 * of an emulated one, pinning by an in-kernel user, dirty tracking, and exchange of
 * addresses; valid or not; some with an allocation or a call of the IOMMU that fails.
 * After each, every page table, pin count, charge and the entry budget must be what
 * the model says: one that failed has changed nothing.
 *
 * RANDOM_STEPS requests per seed; a failure names its seed and step.
 */

#include <linux/mman.h>
#include <linux/uaccess.h>

#include "fake_iommu.h"
#include "fault.h"
#include "mock_iommu.h"
#include "random_model.h"
#include "user_mem.h"

static const struct fake_traits kinds[] = {
	{ .name = "VT-d", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .hides = true },
	{ .name = "AMD-Vi", .pgsize_bitmap = ~0xfffUL },
	{ .name = "4K only", .pgsize_bitmap = SZ_4K, .driver = 1 },
	{ .name = "incoherent", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .incoherent = true },
};

/* ---- the in-kernel user ---- */

static void unpin_cell(struct walk *w, unsigned int cell)
{
	for (; w->pins[cell]; w->pins[cell]--)
		vfio_external_unpin(w->container, cell_iova(cell), 1);
}

static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
	struct walk *w = container_of(device, struct walk, device);
	unsigned int i;

	for (i = 0; i < CELLS; i++)
		if (cell_iova(i) >= iova && cell_iova(i) - iova < length)
			unpin_cell(w, i);
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

static struct vfio_dirty_request clean_bitmap(struct walk *w)
{
	struct vfio_dirty_request request = {
		.bitmap = (u64 __user *)w->bitmap,
		.pgsize = PAGE_SIZE,
	};

	WALK_EQ(w, clear_user(request.bitmap, CELLS / BITS_PER_BYTE), 0);
	return request;
}

/* ---- requests ---- */

/* A range of cells; often exactly a mapping. */
static void any_range(struct walk *w, unsigned int *first, unsigned int *npages)
{
	const struct model_map *m = &w->maps[below(w, ENTRIES)];

	if (m->used && one_in(w, 2)) {
		*first = m->first;
		*npages = m->npages;
		return;
	}
	*first = below(w, CELLS);
	*npages = 1 + below(w, min(CELLS - *first, MEM_PAGES));
}

/* Let a call of an IOMMU fail in one MAP of two.  Return: the mock, or NULL. */
static struct mock_iommu *break_iommu(struct walk *w)
{
	unsigned int nr = below(w, GROUPS);
	struct mock_iommu *mock;

	if (!w->attached[nr] || one_in(w, 2))
		return NULL;
	mock = fake_mock(fake_iommu.devices[nr].domain);
	mock->fail_map = 1 + below(w, 12);
	return mock;
}

static void try_map(struct walk *w)
{
	unsigned int first, npages, mem, nr, i;
	struct mock_iommu *broken;
	int ret, expected = 0, prot;
	bool failed;

	any_range(w, &first, &npages);
	mem = below(w, MEM_PAGES - npages + 1);
	prot = 1 + below(w, RW);
	for (i = first; i < first + npages; i++)
		if (w->owner[i] != NOBODY)
			expected = -EEXIST;
	if (!expected && nr_maps(w) == ENTRIES)
		expected = -ENOSPC;

	broken = break_iommu(w);
	fault_nth(one_in(w, 3) ? 1 + below(w, 8) : 0);
	ret = call_map_dma(w->container, cell_iova(first), w->vaddr + mem * PAGE_SIZE,
			   (u64)npages * PAGE_SIZE, prot, false);
	failed = fault_end();
	if (broken) {
		failed |= !broken->fail_map;
		broken->fail_map = 0;
	}
	if (failed && ret == -ENOMEM)
		return;
	WALK_EQ(w, ret, expected);
	if (ret)
		return;
	for (nr = 0; w->maps[nr].used; nr++)
		;
	w->maps[nr] = (struct model_map) {
		.used = true, .first = first, .npages = npages, .mem = mem, .prot = prot,
	};
	for (i = first; i < first + npages; i++) {
		w->owner[i] = nr;
		clear_bit(i, w->dirty);
	}
}

static void try_unmap(struct walk *w)
{
	bool all = one_in(w, 20), cut, with_bitmap = !all && one_in(w, 3);
	DECLARE_BITMAP(dirty, CELLS);
	struct vfio_dirty_request request = clean_bitmap(w);
	unsigned int first, npages, i;
	u64 unmapped, expected = 0;
	int ret;

	any_range(w, &first, &npages);
	if (all) {
		first = 0;
		npages = CELLS;
	}
	/* An end of the range is inside of a mapping. */
	cut = (first && w->owner[first] != NOBODY && w->owner[first] == w->owner[first - 1]) ||
	      (first + npages < CELLS && w->owner[first + npages] != NOBODY &&
	       w->owner[first + npages] == w->owner[first + npages - 1]);
	snapshot_dirty(w, dirty);

	fault_nth(one_in(w, 3) ? 1 + below(w, 4) : 0);
	ret = call_unmap_dma(w->container, all ? 0 : cell_iova(first),
			     all ? 0 : (u64)npages * PAGE_SIZE, all,
			     with_bitmap ? &request : NULL, &unmapped);
	fault_end();
	if (cut || (with_bitmap && !w->tracking)) {
		WALK_EQ(w, ret, -EINVAL);
		return;
	}
	WALK_EQ(w, ret, 0);
	if (with_bitmap)
		expect_model_bitmap(w, first, npages, dirty);
	for (i = first; i < first + npages; i++) {
		if (w->owner[i] == NOBODY)
			continue;
		expected += w->maps[w->owner[i]].npages * PAGE_SIZE;
		forget_map(w, w->owner[i]);
	}
	WALK_EQ(w, unmapped, expected);
}

static void try_attach(struct walk *w, unsigned int nr)
{
	bool failed, broken = one_in(w, 4);
	int ret;

	fake_iommu.devices[nr].traits = &kinds[below(w, ARRAY_SIZE(kinds))];
	fake_iommu.fail_map = broken ? 1 + below(w, 20) : 0;
	fault_nth(one_in(w, 3) ? 1 + below(w, 20) : 0);
	ret = vfio_container_attach(w->container, fake_iommu.devices[nr].group);
	failed = fault_end();
	/* What of it was not passed on to a domain did not fail. */
	failed |= broken && !fake_iommu.fail_map;
	fake_iommu.fail_map = 0;
	/* 6.1 does not say why there is no domain: EIO. */
	if (failed && (ret == -ENOMEM || ret == -EIO))
		return;
	WALK_EQ(w, ret, any_without_vaddr(w) ? -EBUSY : 0);
	w->attached[nr] = !ret;
	if (!ret)
		fake_mock(fake_iommu.devices[nr].domain)->fail_map = 0;
}

/* With the last group all mappings go; what a group may have written is dirty. */
static void detached(struct walk *w, bool writes)
{
	if (!nr_attached(w) && !w->has_emulated)
		forget_all_maps(w);
	else if (writes && w->tracking)
		bitmap_fill(w->dirty, CELLS);
}

static void try_group(struct walk *w)
{
	unsigned int nr = below(w, GROUPS);

	if (!w->attached[nr]) {
		try_attach(w, nr);
		return;
	}
	/* A device is closed, and has unpinned, before mappings go that way. */
	fault_nth(one_in(w, 2) ? 1 + below(w, 4) : 0);
	vfio_container_detach(w->container, fake_iommu.devices[nr].group);
	fault_end();
	w->attached[nr] = false;
	detached(w, true);
}

static void try_emulated(struct walk *w)
{
	unsigned int i;
	int ret;

	if (w->has_emulated) {
		for (i = 0; i < CELLS; i++)
			unpin_cell(w, i);
		vfio_container_detach(w->container, w->emulated);
		w->has_emulated = false;
		detached(w, false);
		return;
	}
	ret = vfio_container_attach_emulated(w->container, w->emulated);
	WALK_EQ(w, ret, any_without_vaddr(w) ? -EBUSY : 0);
	w->has_emulated = !ret;
}

/* Fetch the bitmap: what is not pinned is clean from now on. */
static void fetch_bitmap(struct walk *w)
{
	struct vfio_dirty_request request = clean_bitmap(w);
	int ret = vfio_dirty_get(w->container, BASE, CELLS * PAGE_SIZE, &request);

	WALK_EQ(w, ret, w->tracking ? 0 : -EINVAL);
	if (ret)
		return;
	bitmap_zero(w->dirty, CELLS);
	mark_pinned(w);
}

static void try_pin(struct walk *w)
{
	unsigned int first = below(w, CELLS), npages = 1 + below(w, min(CELLS - first, 12U)), i;
	int prot = 1 + below(w, RW), ret, expected = npages;
	struct page *pages[12];
	bool failed;

	/* A driver whose group is not there is not asked for anything. */
	if (!w->has_emulated)
		return;
	for (i = 0; i < npages && expected > 0; i++) {
		if (w->owner[first + i] == NOBODY)
			expected = -EINVAL;
		else if ((w->maps[w->owner[first + i]].prot & prot) != prot)
			expected = -EPERM;
	}
	fault_nth(one_in(w, 3) ? 1 + below(w, 8) : 0);
	ret = call_external_pin(w->container, w->emulated, cell_iova(first), npages, prot, pages);
	failed = fault_end();
	if (failed && ret == -ENOMEM)
		expected = ret;
	WALK_EQ(w, ret, expected);
	for (i = 0; ret > 0 && i < npages; i++) {
		WALK_EQ(w, pages[i] == cell_page(w, first + i), true);
		w->pins[first + i]++;
		set_bit(first + i, w->dirty);
	}
	/* If it failed, some pages were pinned for a moment, and are dirty: start afresh. */
	if (ret < 0)
		fetch_bitmap(w);
}

static void try_unpin(struct walk *w)
{
	unsigned int cell = below(w, CELLS);

	if (!w->pins[cell])
		return;
	vfio_external_unpin(w->container, cell_iova(cell), 1);
	w->pins[cell]--;
}

static void try_dirty(struct walk *w)
{
	DECLARE_BITMAP(dirty, CELLS);
	bool failed;
	int ret;

	switch (below(w, 4)) {
	case 0:
		fault_nth(one_in(w, 2) ? 1 + below(w, ENTRIES) : 0);
		ret = vfio_dirty_start(w->container);
		failed = fault_end();
		if (failed && ret == -ENOMEM)
			return;
		WALK_EQ(w, ret, 0);
		if (!w->tracking) {
			bitmap_zero(w->dirty, CELLS);
			mark_pinned(w);
		}
		w->tracking = true;
		break;
	case 1:
		if (one_in(w, 2)) {
			vfio_dirty_stop(w->container);
			w->tracking = false;
		}
		break;
	default:
		snapshot_dirty(w, dirty);
		fetch_bitmap(w);
		if (w->tracking)
			expect_model_bitmap(w, 0, CELLS, dirty);
	}
}

/* Take addresses back, or give them. */
static void try_vaddr(struct walk *w)
{
	unsigned int first, npages, nr = below(w, ENTRIES);
	struct model_map *m = &w->maps[nr];
	u64 size;
	int ret, expected;

	if (!m->used)
		return;
	first = m->first;
	npages = m->npages;
	fault_nth(one_in(w, 3) ? 1 : 0);
	if (m->no_vaddr || one_in(w, 4)) {
		ret = call_vaddr_update(w->container, cell_iova(first),
					w->vaddr + m->mem * PAGE_SIZE, (u64)npages * PAGE_SIZE);
		expected = m->no_vaddr ? 0 : -EINVAL;
		m->no_vaddr = false;
	} else {
		ret = call_vaddr_invalidate(w->container, cell_iova(first),
					    (u64)npages * PAGE_SIZE, false, &size);
		expected = w->has_emulated ? -EBUSY : 0;
		m->no_vaddr = !expected;
	}
	fault_end();
	WALK_EQ(w, ret, expected);
}

static void take_step(struct walk *w)
{
	static void (*const requests[])(struct walk *w) = {
		try_map, try_map, try_map, try_map, try_unmap, try_unmap, try_unmap, try_group,
		try_emulated, try_pin, try_pin, try_unpin, try_dirty, try_vaddr,
	};

	/* Without any group there is nothing to ask. */
	if (!nr_attached(w) && !w->has_emulated)
		try_group(w);
	else
		requests[below(w, ARRAY_SIZE(requests))](w);
}

/* ---- the walk ---- */

static void seed_desc(const unsigned int *seed, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "seed %u", *seed);
}

static const unsigned int seeds[SEEDS] = { 1, 2, 3, 4 };

KUNIT_ARRAY_PARAM(seed, seeds, seed_desc);

static int walk_init(struct kunit *test)
{
	struct walk *w = kunit_kzalloc(test, sizeof(*w), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, w);
	user_mem_attach(test);
	fake_iommu_reset();
	vfio_type1_params.allow_unsafe_interrupts = true;
	vfio_type1_params.dma_entry_limit = ENTRIES;
	vfio_type1_params.disable_hugepages = false;
	w->test = test;
	for (i = 0; i < CELLS; i++)
		w->owner[i] = NOBODY;
	w->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(w->container));
	w->emulated = iommu_group_alloc();
	KUNIT_ASSERT_FALSE(test, IS_ERR(w->emulated));
	w->device.ops = &device_ops;
	vfio_external_register(w->container, &w->device);
	w->locked_vm = user_locked_vm();
	/* Runs of one to four pages, in reverse. */
	w->block = user_block_alloc(test);
	for (i = 0; i < MEM_PAGES; i++)
		w->pages[i] = w->block + (MEM_PAGES - 1 - i) / 4 * 4 +
			      (i / 16 % 4 ? i % 4 : 3 - i % 4);
	w->vaddr = user_map_pages(test, w->pages, MEM_PAGES, PROT_READ | PROT_WRITE);
	w->bitmap = user_map_anon(test, 1, PROT_READ | PROT_WRITE);
	test->priv = w;
	return 0;
}

static void walk_exit(struct kunit *test)
{
	struct walk *w = test->priv;
	unsigned int i;

	if (!w)
		return;
	for (i = 0; i < CELLS; i++)
		unpin_cell(w, i);
	vfio_external_unregister(w->container, &w->device);
	vfio_container_destroy(w->container);
	forget_all_maps(w);
	memset(w->attached, 0, sizeof(w->attached));
	for (i = 0; i < MEM_PAGES; i++)
		KUNIT_EXPECT_EQ(test, page_ref_count(w->pages[i]), REFS_UNPINNED);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), w->locked_vm);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
	vfio_type1_params.allow_unsafe_interrupts = false;
	vfio_type1_params.unmap_walk = VFIO_UNMAP_RUNS;
	iommu_group_put(w->emulated);
	user_unmap(w->vaddr, MEM_PAGES);
	user_unmap(w->bitmap, 1);
	user_block_free(w->block);
	user_mem_detach();
}

static void container_does_what_the_model_says(struct kunit *test)
{
	struct walk *w = test->priv;

	w->seed = *(const unsigned int *)test->param_value;
	prandom_seed_state(&w->rnd, w->seed);
	/* Each seed another walk, and one that changes it as it goes. */
	for (w->step = 0; w->step < RANDOM_STEPS; w->step++) {
		vfio_type1_params.unmap_walk = w->seed < SEEDS ? w->seed - 1 : w->step / 64 % 3;
		take_step(w);
		expect_model(w);
		cond_resched();
	}
}

static struct kunit_case random_cases[] = {
	KUNIT_CASE_PARAM(container_does_what_the_model_says, seed_gen_params),
	{}
};

SUITE("vfio_random", random_cases, FAKE_IOMMU_SUITE, .init = walk_init, .exit = walk_exit);
