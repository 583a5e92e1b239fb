// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory, as its suites want it: see registry_fixture.h.
 */

#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "queue.h"
#include "registry_fixture.h"

const struct fake_traits vtd = {
	.name = "VT-d", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .hides = true,
};

const struct fake_traits amdvi = {
	.name = "AMD-Vi", .pgsize_bitmap = ~0xfffUL,
};

static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
	struct fixture *fx = container_of(device, struct fixture, device);

	/* Cases pin the first page of what they map, once. */
	vfio_external_unpin(fx->container[0], iova, 1);
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

struct vfio_type1_container *open_container(struct kunit *test, bool strict)
{
	struct vfio_type1_container *container =
		vfio_container_create(VFIO_CONTAINER_V2 | (strict ? VFIO_CONTAINER_STRICT : 0));

	KUNIT_ASSERT_FALSE(test, IS_ERR(container));
	return container;
}

void close_container(struct kunit *test, unsigned int c)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[c];

	kref_get(&container->users);
	vfio_container_destroy(container);
	fx->container[c] = NULL;
	/* No mapping, and nothing charged for any. */
	KUNIT_EXPECT_EQ(test, container->tree.bytes, 0ULL);
	KUNIT_EXPECT_EQ(test, vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES), 0ULL);
	vfio_container_put(container);
}

void reopen_containers(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int c;

	for (c = 0; c < CONTAINERS; c++) {
		fx->container[c] = open_container(test, false);
		attach(test, c, c, &vtd);
	}
}

int registry_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);
	unsigned int c;

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fake_iommu_reset();
	vfio_type1_params.allow_unsafe_interrupts = true;
	suite_set_params(ENTRIES);
	test->priv = fx;
	fx->block = user_block_alloc(test);
	fx->emulated = iommu_group_alloc();
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->emulated));
	fx->device.ops = &device_ops;
	fx->locked_vm = user_locked_vm();
	for (c = 0; c < CONTAINERS; c++) {
		fx->container[c] = open_container(test, false);
		attach(test, c, c, &vtd);
	}
	return 0;
}

void drop_memory(struct fixture *fx)
{
	if (fx->mapped)
		user_unmap(fx->vaddr, NPAGES);
	fx->mapped = false;
}

void registry_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int c;

	if (!fx)
		return;
	for (c = 0; c < CONTAINERS; c++)
		if (fx->container[c])
			close_container(test, c);
	/* What goes with the process's last container may go later, if that was not used. */
	queue_flush();
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
	KUNIT_EXPECT_STREQ(test, fake_iommu.violation, "");
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	vfio_type1_params.allow_unsafe_interrupts = false;
	drop_memory(fx);
	iommu_group_put(fx->emulated);
	user_block_free(fx->block);
	user_mem_detach();
}

static unsigned int chunk_len(enum layout layout, struct rnd_state *rnd)
{
	switch (layout) {
	case SEQUENTIAL:
		return NPAGES;
	case SINGLES:
		return 1;
	case EIGHTS:
		return 8;
	default:
		return 1 + prandom_u32_state(rnd) % 600;
	}
}

void make_memory(struct kunit *test, enum layout layout)
{
	unsigned int start, len, i, at = NPAGES;
	struct fixture *fx = test->priv;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 9);
	for (start = 0; start < NPAGES; start += len) {
		len = min(chunk_len(layout, &rnd), NPAGES - start);
		at -= len;
		for (i = 0; i < len; i++)
			fx->pages[at + i] = fx->block + start + i;
	}
	fx->vaddr = user_map_pages(test, fx->pages, NPAGES, PROT_READ | PROT_WRITE);
	fx->mapped = true;
}

/* The pages from @first on have @pins pins each. */
void expect_region_pins(struct kunit *test, unsigned int first, unsigned int npages,
			unsigned int pins)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = first; i < first + npages; i++)
		KUNIT_ASSERT_EQ_MSG(test, (page_ref_count(fx->pages[i]) - REFS_UNPINNED) /
				    GUP_PIN_COUNTING_BIAS, (int)pins, "page %u", i);
}

/* Nothing is registered or mapped: no pin, no charge, no watch. */
void expect_no_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int c;

	expect_region_pins(test, 0, NPAGES, 0);
	expect_charge(test, 0);
	KUNIT_ASSERT_EQ(test, fake_watch_count(), 0U);
	for (c = 0; c < CONTAINERS; c++) {
		if (!fx->container[c])
			continue;
		KUNIT_ASSERT_TRUE(test, RB_EMPTY_ROOT(&fx->container[c]->tree.root));
		KUNIT_ASSERT_EQ(test, fx->container[c]->tree.avail, (unsigned int)ENTRIES);
		mock_iommu_expect_empty(test, mock(c));
	}
}

void expect_mapped_at(struct kunit *test, unsigned int group, u64 iova, unsigned int page,
		      unsigned int npages, int prot)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < npages; i++) {
		KUNIT_ASSERT_EQ_MSG(test, iommu_iova_to_phys(&mock(group)->domain,
							     iova + i * PAGE_SIZE),
				    page_to_phys(fx->pages[page + i]), "page %u of %u", i, npages);
		KUNIT_ASSERT_EQ(test, mock_iommu_prot(mock(group), iova + i * PAGE_SIZE),
				prot | IOMMU_CACHE);
	}
	KUNIT_ASSERT_STREQ(test, mock(group)->violation, "");
}
