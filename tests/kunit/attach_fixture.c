// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups that come and go, with the kernel's own iommu_group and a fake IOMMU: see
 * attach_fixture.h.
 */

#include <linux/mman.h>

#include "attach_fixture.h"
#include "fake_cache.h"
#include "user_mem.h"

/* Ways to be unlike the first one, each of which takes a domain of its own. */
const struct fake_traits plain = {
	.name = "plain", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .hides = true,
};

const struct fake_traits incoherent = {
	.name = "incoherent", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .incoherent = true,
	.hides = true,
};

const struct fake_traits foreign = {
	.name = "another driver's", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .driver = 1,
};

const struct fake_traits more_sizes = {
	.name = "of other page sizes", .pgsize_bitmap = SZ_4K | SZ_64K | SZ_2M,
};

const struct fake_traits large_pages = {
	.name = "of large pages only", .pgsize_bitmap = SZ_64K | SZ_2M,
};

/* One like VT-d's, with what it keeps for itself. */
const struct fake_traits x86_like = {
	.name = "x86-like", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G,
	.regions = {
		{ 0x100000, 0x10000, IOMMU_RESV_DIRECT_RELAXABLE },
		{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
	},
};

static const struct fake_traits *const unlike[] = { &incoherent, &foreign, &more_sizes };

static void unlike_desc(const struct fake_traits *const *traits, char *desc)
{
	strscpy(desc, (*traits)->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(unlike, unlike, unlike_desc);

const void *unlike_gen(const void *prev, char *desc)
{
	return unlike_gen_params(prev, desc);
}

static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
	struct fixture *fx = container_of(device, struct fixture, device);

	if (fx->pinned && iova <= LOW_IOVA && LOW_IOVA - iova < length)
		unpin(fx);
	if (fx->leaves)
		vfio_container_detach(fx->container, fx->emulated);
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

/* Have @group's driver pin the first @npages of the lower mapping. */
void pin_low(struct kunit *test, struct iommu_group *group, unsigned int npages)
{
	struct page *pages[LOW_PAGES];
	struct fixture *fx = test->priv;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, (int)npages,
			call_external_pin(fx->container, group, LOW_IOVA, npages, RW, pages));
	fx->pinned = npages;
	for (i = 0; i < npages; i++)
		KUNIT_ASSERT_PTR_EQ(test, pages[i], fx->pages[i]);
}

/* The first @npages are pinned for the IOMMU, others are not; and @charged are charged. */
void expect_iommu_pins(struct kunit *test, unsigned int npages, unsigned int charged)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < NPAGES; i++) {
		int pins = (i < npages) + (i < fx->pinned);

		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]),
				    REFS_UNPINNED + pins * GUP_PIN_COUNTING_BIAS, "page %u", i);
	}
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + charged);
}

/* A domain's page table has both mappings, and nothing else. */
void expect_contents(struct kunit *test, struct mock_iommu *mock)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < NPAGES; i++) {
		bool low = i < LOW_PAGES;
		u64 iova = low ? LOW_IOVA + i * PAGE_SIZE :
				 HIGH_IOVA + (i - LOW_PAGES) * PAGE_SIZE;

		KUNIT_ASSERT_EQ_MSG(test, iommu_iova_to_phys(&mock->domain, iova),
				    page_to_phys(fx->pages[i]), "page %u", i);
		KUNIT_ASSERT_EQ(test, mock_iommu_prot(mock, iova),
				(low ? RW : IOMMU_READ) | IOMMU_CACHE);
	}
	/* No run is as large as the second page size of any kind. */
	KUNIT_EXPECT_EQ(test, mock->nr_ptes, (unsigned int)NPAGES);
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	KUNIT_EXPECT_TRUE(test, list_empty(&mock->stale));
}

/* Both mappings are pinned, charged, and in the domains of groups 0 and 1. */
void expect_both_in_two_domains(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, fake_iommu.nr_domains, 2U);
	KUNIT_ASSERT_PTR_NE(test, mock(0), mock(1));
	expect_contents(test, mock(0));
	expect_contents(test, mock(1));
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* Nothing is mapped in any domain of the container, and nothing pinned for them. */
void expect_no_mappings(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &fx->container->domains, next)
		mock_iommu_expect_empty(test, fake_mock(domain->domain));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&fx->container->tree.root));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	expect_iommu_pins(test, 0, 0);
}

struct state state_of(struct kunit *test)
{
	struct vfio_type1_container *container = ((struct fixture *)test->priv)->container;
	struct state s = {
		.pgsizes = container->pgsize_bitmap,
		.dirty_groups = container->dirty_groups,
		.avail = container->tree.avail,
		.ranges = container->iova.nr,
		.coherent = vfio_container_coherent(container),
	};
	struct vfio_group_entry *entry;
	struct vfio_domain *domain;
	unsigned int i;

	list_for_each_entry(domain, &container->domains, next) {
		s.primary = s.primary ?: domain;
		s.domains++;
		s.ptes += fake_mock(domain->domain)->nr_ptes;
		list_for_each_entry(entry, &domain->groups, next)
			s.groups++;
	}
	list_for_each_entry(entry, &container->emulated, next)
		s.emulated++;
	for (i = 0; i < container->iova.nr; i++)
		s.range_sum += (i + 1) * (container->iova.ranges[i].first +
					  2 * container->iova.ranges[i].last);
	return s;
}

/* The container is as it was, and no domain, IOPTE or use of a device is left over. */
void expect_state(struct kunit *test, const struct state *was, const char *what)
{
	struct state is = state_of(test);
	unsigned int i, used = 0;

	for (i = 0; i < FAKE_DEVICES; i++)
		used += !!fake_iommu.devices[i].domain;
	KUNIT_EXPECT_PTR_EQ_MSG(test, is.primary, was->primary, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.domains, was->domains, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, fake_iommu.nr_domains, was->domains, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.groups, was->groups, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, used, was->groups, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.emulated, was->emulated, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.ptes, was->ptes, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.pgsizes, was->pgsizes, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.dirty_groups, was->dirty_groups, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.avail, was->avail, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.ranges, was->ranges, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.range_sum, was->range_sum, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, is.coherent, was->coherent, "%s", what);
	KUNIT_EXPECT_STREQ_MSG(test, fake_iommu.violation, "", "%s", what);
}

/* Cut the block into runs and line these up in reverse. */
static void make_user_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	fx->block = user_block_alloc(test);
	for (i = 0; i < NPAGES; i++)
		fx->pages[i] = fx->block + (RUNS - 1 - i / RUN_PAGES) * RUN_PAGES + i % RUN_PAGES;
	fx->vaddr = user_map_pages(test, fx->pages, NPAGES, PROT_READ | PROT_WRITE);
}

int attach_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fake_iommu_reset();
	vfio_type1_params.allow_unsafe_interrupts = true;
	suite_set_params(ENTRIES);
	vfio_type1_params.flush_noncoherent = true;
	fake_cache = (struct fake_cache) {};
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->emulated = iommu_group_alloc();
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->emulated));
	fx->device.ops = &device_ops;
	vfio_external_register(fx->container, &fx->device);
	fx->locked_vm = user_locked_vm();
	test->priv = fx;
	make_user_memory(test);
	return 0;
}

/* Destroy the container. Nothing of it is left: no domain, IOPTE, pin or charge. */
void attach_destroy(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	/* Devices are closed, and have unpinned, before their groups leave. */
	if (fx->pinned)
		unpin(fx);
	vfio_external_unregister(fx->container, &fx->device);
	vfio_container_destroy(fx->container);
	fx->container = NULL;
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
	KUNIT_EXPECT_STREQ(test, fake_iommu.violation, "");
	for (i = 0; i < FAKE_DEVICES; i++)
		KUNIT_EXPECT_NULL(test, fake_iommu.devices[i].domain);
	expect_iommu_pins(test, 0, 0);
}

void attach_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	if (fx->container)
		attach_destroy(test);
	vfio_type1_params.allow_unsafe_interrupts = false;
	iommu_group_put(fx->emulated);
	user_unmap(fx->vaddr, NPAGES);
	user_block_free(fx->block);
	user_mem_detach();
}
