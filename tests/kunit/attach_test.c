// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach of groups, with the kernel's own iommu_group and a fake IOMMU:
 * containers with several domains of different kinds, with in-kernel users only,
 * and with both.
 *
 * Most cases start with two mappings of fragmented memory, so that each has several
 * runs. Whatever a case leaves attached or mapped, its exit destroys the container
 * and checks that nothing of it is left.
 */

#include <linux/bitmap.h>
#include <linux/cred.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vfio.h>

#include "fake_cache.h"
#include "fake_iommu.h"
#include "fault.h"
#include "klog.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16

/* Two mappings of one stretch of user memory, which is made of runs. */
#define RUN_PAGES	8
#define NPAGES		128
#define RUNS		(NPAGES / RUN_PAGES)
#define LOW_IOVA	((u64)SZ_1M)
#define LOW_PAGES	96
#define HIGH_IOVA	((u64)SZ_4G)
#define HIGH_PAGES	(NPAGES - LOW_PAGES)

/* What the probe maps in a domain, before anything else. */
#define PROBE_CALLS	1

/* Ways to be unlike the first one, each of which takes a domain of its own. */
static const struct fake_traits plain = {
	.name = "plain", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .hides = true,
};

static const struct fake_traits incoherent = {
	.name = "incoherent", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .incoherent = true,
	.hides = true,
};

static const struct fake_traits foreign = {
	.name = "another driver's", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .driver = 1,
};

static const struct fake_traits more_sizes = {
	.name = "of other page sizes", .pgsize_bitmap = SZ_4K | SZ_64K | SZ_2M,
};

static const struct fake_traits large_pages = {
	.name = "of large pages only", .pgsize_bitmap = SZ_64K | SZ_2M,
};

static const struct fake_traits *const unlike[] = { &incoherent, &foreign, &more_sizes };

static void unlike_desc(const struct fake_traits *const *traits, char *desc)
{
	strscpy(desc, (*traits)->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(unlike, unlike, unlike_desc);

static const struct fake_traits *param(struct kunit *test)
{
	return *(const struct fake_traits *const *)test->param_value;
}

/**
 * struct fixture - what each case starts with
 * @container: v2, without groups; NULL once it was destroyed
 * @block: USER_BLOCK_PAGES contiguous pages
 * @pages: NPAGES of them in the order of the user mapping
 * @vaddr: where they are
 * @locked_vm: before anything was charged
 * @emulated: a group without an IOMMU
 * @device: an in-kernel user in it, which unpins when it is told to
 * @pinned: pages from @pages[0] on that @device has pinned at LOW_IOVA
 * @leaves: @emulated leaves when @device is told of an unmap
 * @next: device that a thread attaches
 * @log: what was logged, from where a case says
 */
struct fixture {
	struct vfio_type1_container *container;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	unsigned long locked_vm;
	struct iommu_group *emulated;
	struct vfio_device device;
	unsigned int pinned;
	bool leaves;
	unsigned int next;
	struct klog log;
};

/* ---- in-kernel users ---- */

static void unpin(struct fixture *fx)
{
	vfio_external_unpin(fx->container, LOW_IOVA, fx->pinned);
	fx->pinned = 0;
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

static int attach_emulated(struct kunit *test)
{
	struct fixture *fx = test->priv;

	return vfio_container_attach_emulated(fx->container, fx->emulated);
}

static void detach_emulated(struct kunit *test)
{
	struct fixture *fx = test->priv;

	vfio_container_detach(fx->container, fx->emulated);
}

/* Have @group's driver pin the first @npages of the lower mapping. */
static void pin(struct kunit *test, struct iommu_group *group, unsigned int npages)
{
	struct page *pages[LOW_PAGES];
	struct fixture *fx = test->priv;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, (int)npages,
			vfio_external_pin(fx->container, group, LOW_IOVA, npages, RW, pages));
	fx->pinned = npages;
	for (i = 0; i < npages; i++)
		KUNIT_ASSERT_PTR_EQ(test, pages[i], fx->pages[i]);
}

/* ---- groups behind the IOMMU ---- */

static struct iommu_group *group(unsigned int nr)
{
	return fake_iommu.devices[nr].group;
}

static int attach(struct kunit *test, unsigned int nr, const struct fake_traits *traits)
{
	struct fixture *fx = test->priv;

	fake_iommu.devices[nr].traits = traits;
	return vfio_container_attach(fx->container, group(nr));
}

static void detach(struct kunit *test, unsigned int nr)
{
	struct fixture *fx = test->priv;

	vfio_container_detach(fx->container, group(nr));
}

static void must_attach(struct kunit *test, unsigned int nr, const struct fake_traits *traits)
{
	KUNIT_ASSERT_EQ_MSG(test, 0, attach(test, nr, traits), "group %u, %s", nr, traits->name);
}

/* The page table that a group's device uses. */
static struct mock_iommu *mock(unsigned int nr)
{
	return fake_mock(fake_iommu.devices[nr].domain);
}

/* ---- mappings ---- */

static int map_bytes(struct kunit *test, u64 iova, unsigned long vaddr, u64 size, int prot)
{
	struct fixture *fx = test->priv;

	return vfio_map_dma(fx->container, iova, vaddr, size, prot, false);
}

static int map_low(struct kunit *test)
{
	struct fixture *fx = test->priv;

	return map_bytes(test, LOW_IOVA, fx->vaddr, LOW_PAGES * PAGE_SIZE, RW);
}

static int map_high(struct kunit *test)
{
	struct fixture *fx = test->priv;

	return map_bytes(test, HIGH_IOVA, fx->vaddr + LOW_PAGES * PAGE_SIZE,
			 HIGH_PAGES * PAGE_SIZE, IOMMU_READ);
}

static void map_both(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, map_low(test));
	KUNIT_ASSERT_EQ(test, 0, map_high(test));
}

static void must_unmap(struct kunit *test, u64 iova, u64 size)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, vfio_unmap_dma(fx->container, iova, size, false, NULL,
						&unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, size);
}

static void unmap_both(struct kunit *test)
{
	must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
	must_unmap(test, HIGH_IOVA, HIGH_PAGES * PAGE_SIZE);
}

/* ---- what is expected ---- */

/* The first @npages are pinned for the IOMMU, others are not; and @charged are charged. */
static void expect_pins(struct kunit *test, unsigned int npages, unsigned int charged)
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
static void expect_contents(struct kunit *test, struct mock_iommu *mock)
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
static void expect_both_in_two_domains(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, fake_iommu.nr_domains, 2U);
	KUNIT_ASSERT_PTR_NE(test, mock(0), mock(1));
	expect_contents(test, mock(0));
	expect_contents(test, mock(1));
	expect_pins(test, NPAGES, NPAGES);
}

/* Nothing is mapped in any domain of the container, and nothing pinned for them. */
static void expect_no_mappings(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &fx->container->domains, next)
		mock_iommu_expect_empty(test, fake_mock(domain->domain));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&fx->container->tree.root));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, (unsigned int)ENTRIES);
	expect_pins(test, 0, 0);
}

/* What an attach that fails must not change. */
struct state {
	const struct vfio_domain *primary;
	unsigned int domains;
	unsigned int groups;
	unsigned int emulated;
	unsigned int ptes;
	unsigned long pgsizes;
	unsigned int dirty_groups;
	unsigned int avail;
	unsigned int ranges;
	u64 range_sum;
	bool coherent;
};

static struct state state_of(struct kunit *test)
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
static void expect_state(struct kunit *test, const struct state *was, const char *what)
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

/* ---- each case ---- */

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

static int attach_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fake_iommu_reset();
	vfio_type1_params.allow_unsafe_interrupts = true;
	suite_set_params(ENTRIES);
	vfio_type1_params.flush_noncoherent = true;
	fake_cache = (struct fake_cache) {};
	fx->container = vfio_container_create(true, false, false);
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
static void destroy(struct kunit *test)
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
	expect_pins(test, 0, 0);
}

static void attach_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	if (fx->container)
		destroy(test);
	vfio_type1_params.allow_unsafe_interrupts = false;
	iommu_group_put(fx->emulated);
	user_unmap(fx->vaddr, NPAGES);
	user_block_free(fx->block);
	user_mem_detach();
}

/* ---- which domain a group gets ---- */

static void alike_group_joins_the_domain(struct kunit *test)
{
	struct mock_iommu *shared;
	unsigned int calls;

	must_attach(test, 0, &plain);
	map_both(test);
	shared = mock(0);
	calls = shared->nr_map;
	must_attach(test, 1, &plain);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 1U);
	KUNIT_EXPECT_PTR_EQ(test, mock(1), shared);
	KUNIT_EXPECT_EQ_MSG(test, shared->nr_map, calls, "mapped something");

	/* Whoever stays keeps everything. */
	detach(test, 0);
	KUNIT_ASSERT_PTR_EQ(test, mock(1), shared);
	expect_contents(test, shared);
	expect_pins(test, NPAGES, NPAGES);
	unmap_both(test);
	expect_no_mappings(test);
}

/* It gets what is mapped, in one call for each run. */
static void unlike_group_gets_a_domain_of_the_same_contents(struct kunit *test)
{
	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, param(test));
	expect_both_in_two_domains(test);
	KUNIT_EXPECT_EQ(test, mock(1)->nr_map, (unsigned int)PROBE_CALLS + RUNS);
}

/* Not only the first domain can be joined, whether the others are known or found to be unlike. */
static void group_joins_whichever_domain_is_alike(struct kunit *test)
{
	const struct fake_traits *second = param(test);

	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, second);
	must_attach(test, 2, second);
	must_attach(test, 3, &plain);
	expect_both_in_two_domains(test);
	KUNIT_EXPECT_PTR_EQ(test, mock(2), mock(1));
	KUNIT_EXPECT_PTR_EQ(test, mock(3), mock(0));
}

/* A container enforces coherency if all of its domains do. */
static void coherency_is_that_of_all_domains(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_EXPECT_TRUE(test, vfio_container_coherent(fx->container));
	must_attach(test, 0, &incoherent);
	KUNIT_EXPECT_FALSE(test, vfio_container_coherent(fx->container));
	must_attach(test, 1, &plain);
	KUNIT_EXPECT_FALSE(test, vfio_container_coherent(fx->container));
	detach(test, 0);
	KUNIT_EXPECT_TRUE(test, vfio_container_coherent(fx->container));
}

/* An IOMMU whose driver does not know of coherency does not enforce it. */
static void silent_iommu_is_not_coherent(struct kunit *test)
{
	static const struct fake_traits silent = {
		.name = "silent", .pgsize_bitmap = SZ_4K, .driver = FAKE_SILENT,
	};
	struct fixture *fx = test->priv;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &silent);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 2U);
	KUNIT_EXPECT_FALSE(test, vfio_container_coherent(fx->container));
}

/* Domains refuse to enforce coherency once they had a mapping. */
static void probe_runs_after_coherency_and_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &foreign);
	KUNIT_EXPECT_EQ(test, mock(0)->nr_map, (unsigned int)PROBE_CALLS);
	KUNIT_EXPECT_EQ(test, mock(1)->nr_map, (unsigned int)PROBE_CALLS);
	KUNIT_EXPECT_TRUE(test, vfio_container_coherent(fx->container));
	expect_no_mappings(test);
}

/* ---- mapping and unmapping in two domains ---- */

static void map_and_unmap_reach_both_domains(struct kunit *test)
{
	unsigned int syncs[2];

	must_attach(test, 0, &plain);
	must_attach(test, 1, param(test));
	map_both(test);
	expect_both_in_two_domains(test);
	syncs[0] = mock(0)->nr_sync;
	syncs[1] = mock(1)->nr_sync;
	unmap_both(test);
	KUNIT_EXPECT_GT(test, mock(0)->nr_sync, syncs[0]);
	KUNIT_EXPECT_GT(test, mock(1)->nr_sync, syncs[1]);
	/* The mocks have seen whether a page was unpinned before its sync. */
	expect_no_mappings(test);
}

/*
 * A new domain has tables of its own, which do not reach as far as the others' by now. They
 * are made to, by a page that goes at once, whether or not there is something to copy.
 */
static void tables_of_a_new_domain_are_made_to_reach(struct kunit *test)
{
	const u64 far = BIT_ULL(45), farther = far + SZ_1M;
	struct fixture *fx = test->priv;
	unsigned int copies, unmaps;

	for (copies = 0; copies < 2; copies++) {
		must_attach(test, 0, &plain);
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, far, fx->vaddr, PAGE_SIZE, RW));
		if (!copies)
			must_unmap(test, far, PAGE_SIZE);
		must_attach(test, 1, param(test));
		KUNIT_ASSERT_PTR_NE(test, mock(0), mock(1));
		KUNIT_EXPECT_EQ(test, mock(1)->nr_ptes, copies);
		unmaps = mock(1)->nr_unmap;
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, farther, fx->vaddr + PAGE_SIZE, PAGE_SIZE,
						   RW));
		KUNIT_EXPECT_EQ(test, mock(1)->nr_unmap, unmaps + 1);
		/* Once. */
		must_unmap(test, farther, PAGE_SIZE);
		unmaps = mock(1)->nr_unmap;
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, farther, fx->vaddr + PAGE_SIZE, PAGE_SIZE,
						   RW));
		KUNIT_EXPECT_EQ(test, mock(1)->nr_unmap, unmaps);
		must_unmap(test, farther, PAGE_SIZE);
		if (copies)
			must_unmap(test, far, PAGE_SIZE);
		expect_no_mappings(test);
		detach(test, 1);
		detach(test, 0);
	}
}

/* Whichever call to whichever domain fails, MAP leaves nothing in either. */
static void map_failure_unwinds_both_domains(struct kunit *test)
{
	unsigned int nr, nth;

	must_attach(test, 0, &plain);
	must_attach(test, 1, param(test));
	KUNIT_ASSERT_EQ(test, 0, map_high(test));
	for (nr = 0; nr < 2; nr++) {
		for (nth = 1; nth <= LOW_PAGES / RUN_PAGES; nth++) {
			struct state before = state_of(test);

			mock(nr)->fail_map = nth;
			KUNIT_ASSERT_EQ(test, -ENOMEM, map_low(test));
			KUNIT_ASSERT_EQ(test, mock(nr)->fail_map, 0U);
			expect_state(test, &before, "failed MAP");
		}
	}
	KUNIT_ASSERT_EQ(test, 0, map_low(test));
	expect_both_in_two_domains(test);
	unmap_both(test);
	expect_no_mappings(test);
}

/*
 * When the primary domain goes, addresses are read back from another one: UNMAP,
 * in each of its ways, still finds and unpins everything, and MAP goes on.
 */
static void primary_domain_can_leave(struct kunit *test)
{
	static const enum vfio_unmap_walk walks[] = {
		VFIO_UNMAP_RUNS, VFIO_UNMAP_FGSP, VFIO_UNMAP_COARSE,
	};
	unsigned int w;

	for (w = 0; w < ARRAY_SIZE(walks); w++) {
		vfio_type1_params.unmap_walk = walks[w];
		must_attach(test, 0, &plain);
		KUNIT_ASSERT_EQ(test, 0, map_low(test));
		must_attach(test, 1, param(test));
		KUNIT_ASSERT_EQ(test, 0, map_high(test));
		detach(test, 0);
		KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 1U);
		expect_contents(test, mock(1));
		expect_pins(test, NPAGES, NPAGES);

		/* The one that stays is what the next is filled from. */
		must_attach(test, 2, &plain);
		expect_contents(test, mock(2));
		detach(test, 2);

		unmap_both(test);
		expect_no_mappings(test);
		map_both(test);
		expect_contents(test, mock(1));
		detach(test, 1);
		expect_no_mappings(test);
	}
}

/* The other one leaves without a trace. */
static void second_domain_can_leave(struct kunit *test)
{
	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, param(test));
	detach(test, 1);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 1U);
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
	unmap_both(test);
	expect_no_mappings(test);
}

/* With the last group all mappings go, and the container can be used again. */
static void last_group_takes_the_mappings_along(struct kunit *test)
{
	must_attach(test, 0, &plain);
	must_attach(test, 1, &plain);
	must_attach(test, 2, &incoherent);
	map_both(test);
	detach(test, 1);
	detach(test, 0);
	expect_contents(test, mock(2));
	detach(test, 2);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
	expect_no_mappings(test);

	must_attach(test, 0, &plain);
	map_both(test);
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
}

/* Who goes on is told, and is told nothing if there was nothing to lose. */
static void what_the_last_group_takes_along_is_told(struct kunit *test)
{
	struct fixture *fx = test->priv;
	atomic_long_t *told = &fx->container->refused[VFIO_REFUSE_LAST_GROUP];
	char want[64];

	klog_begin(&fx->log);
	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	map_both(test);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 0L);
	detach(test, 1);
	snprintf(want, sizeof(want), "detach of group %d: it was the last one: 2 mappings removed",
		 iommu_group_id(group(1)));
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, want), 1U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 1L);

	/* In-kernel users keep the mappings, until they leave, too. */
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	map_both(test);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 1L);
	vfio_container_detach(fx->container, fx->emulated);
	snprintf(want, sizeof(want), "detach of group %d: it was the last one: 2 mappings removed",
		 iommu_group_id(fx->emulated));
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, want), 1U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 2L);

	must_attach(test, 0, &plain);
	map_both(test);
	unmap_both(test);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, "mappings removed"), 0U);
	KUNIT_EXPECT_EQ(test, atomic_long_read(told), 2L);
}

/* A process that ends needs not be told. */
static void what_goes_with_a_process_is_not_told(struct kunit *test)
{
	struct fixture *fx = test->priv;

	must_attach(test, 0, &plain);
	map_both(test);
	current->flags |= PF_EXITING;
	detach(test, 0);
	current->flags &= ~PF_EXITING;
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container->refused[VFIO_REFUSE_LAST_GROUP]),
			0L);
	expect_no_mappings(test);
}

/* ---- the CPU's caches ---- */

/* What the probe has in a domain, before and after. */
#define PROBE_FLUSHES	4UL

/* A page of ours is pinned when it is flushed, and in no domain that is not coherent. */
static void look_at_flushed(unsigned long pfn, void *data)
{
	struct kunit *test = data;
	struct fixture *fx = test->priv;
	unsigned int i, nr;
	u64 iova;

	for (i = 0; i < NPAGES && page_to_pfn(fx->pages[i]) != pfn; i++)
		;
	if (i == NPAGES)
		return;
	KUNIT_EXPECT_NE_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED, "page %u", i);
	iova = i < LOW_PAGES ? LOW_IOVA + i * PAGE_SIZE :
			       HIGH_IOVA + (i - LOW_PAGES) * PAGE_SIZE;
	for (nr = 0; nr < FAKE_DEVICES; nr++) {
		const struct fake_device *device = &fake_iommu.devices[nr];

		if (device->domain && device->traits->incoherent)
			KUNIT_EXPECT_EQ_MSG(test, iommu_iova_to_phys(device->domain, iova),
					    (phys_addr_t)0, "page %u, group %u", i, nr);
	}
}

static void expect_flushed(struct kunit *test, unsigned long npages, const char *when)
{
	struct fixture *fx = test->priv;

	KUNIT_EXPECT_EQ_MSG(test, fake_cache.npages, npages, "%s", when);
	KUNIT_EXPECT_EQ_MSG(test, READ_ONCE(fake_cache.npages),
			    (unsigned long)vfio_count_sum(fx->container, VFIO_COUNT_FLUSHED_PAGES),
			    "%s", when);
	fake_cache.npages = 0;
	for_each_possible_cpu(npages)
		per_cpu_ptr(fx->container->counters,
			    npages)->value[VFIO_COUNT_FLUSHED_PAGES] = 0;
}

/* Attach, without what the probe flushes. */
static void attach_and_look(struct kunit *test, unsigned int nr, const struct fake_traits *traits)
{
	must_attach(test, nr, traits);
	if (traits->incoherent)
		fake_cache.npages -= PROBE_FLUSHES;
	fake_cache.look = look_at_flushed;
	fake_cache.data = test;
}

/* Where all devices look into the caches there is nothing to do. */
static void coherent_domains_need_no_flush(struct kunit *test)
{
	attach_and_look(test, 0, &plain);
	attach_and_look(test, 1, &more_sizes);
	map_both(test);
	unmap_both(test);
	map_both(test);
	detach(test, 0);
	detach(test, 1);
	expect_flushed(test, 0, "coherent");
}

/* Else before a device reaches a page, and when it does not any more, but is still pinned. */
static void pages_are_flushed_for_who_snoops_not(struct kunit *test)
{
	attach_and_look(test, 0, &incoherent);
	map_both(test);
	expect_flushed(test, NPAGES, "MAP");
	unmap_both(test);
	expect_flushed(test, NPAGES, "UNMAP");
	map_both(test);
	expect_flushed(test, NPAGES, "MAP again");
	detach(test, 0);
	expect_flushed(test, NPAGES, "detach");
}

/* Memory that others reach already is flushed for the first that passes the caches by. */
static void what_is_mapped_is_flushed_for_a_new_domain(struct kunit *test)
{
	attach_and_look(test, 0, &plain);
	map_both(test);
	expect_flushed(test, 0, "MAP");
	attach_and_look(test, 1, &incoherent);
	expect_flushed(test, NPAGES, "attach");
	attach_and_look(test, 2, &more_sizes);
	expect_flushed(test, 0, "attach of one that is coherent");
	/* It has reached these pages, and may have written there. */
	detach(test, 1);
	expect_flushed(test, 0, "detach");
	unmap_both(test);
	expect_flushed(test, NPAGES, "UNMAP");
}

/* With the first domain memory is pinned, and flushed. */
static void what_is_pinned_for_a_first_domain_is_flushed(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	expect_flushed(test, 0, "MAP without an IOMMU");
	attach_and_look(test, 0, &incoherent);
	expect_flushed(test, NPAGES, "attach");
	detach(test, 0);
	expect_flushed(test, NPAGES, "detach");
}

/* A MAP that fails may have shown pages to the device for a moment. */
static void what_a_failed_map_showed_is_flushed(struct kunit *test)
{
	attach_and_look(test, 0, &incoherent);
	mock(0)->fail_map = 1;
	KUNIT_EXPECT_EQ(test, map_low(test), -ENOMEM);
	expect_flushed(test, 2 * LOW_PAGES, "MAP");
	expect_no_mappings(test);
}

/* Registered memory is flushed before each MAP, and before it is unpinned. */
static void registered_memory_is_flushed(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 size = NPAGES * PAGE_SIZE;

	attach_and_look(test, 0, &incoherent);
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_register(fx->container, fx->vaddr, size, false));
	expect_flushed(test, 0, "REGISTER");
	map_both(test);
	expect_flushed(test, NPAGES, "MAP");
	unmap_both(test);
	expect_flushed(test, 0, "UNMAP");
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_unregister(fx->container, fx->vaddr, size));
	/* That is nobody's container's. */
	KUNIT_EXPECT_EQ(test, fake_cache.npages, (unsigned long)NPAGES);

	/* What no such device reached need not be. */
	fake_cache.npages = 0;
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_register(fx->container, fx->vaddr, size, false));
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_unregister(fx->container, fx->vaddr, size));
	KUNIT_EXPECT_EQ(test, fake_cache.npages, 0UL);
}

static void flushing_can_be_switched_off(struct kunit *test)
{
	vfio_type1_params.flush_noncoherent = false;
	must_attach(test, 0, &incoherent);
	map_both(test);
	unmap_both(test);
	KUNIT_EXPECT_EQ(test, fake_cache.npages, 0UL);
}

/* What is known of why a driver refuses a group is told, beside the number. */
static void who_refuses_a_group_is_asked_why(struct kunit *test)
{
	static const struct fake_traits with_rmrr = {
		.name = "with a region of the firmware", .pgsize_bitmap = SZ_4K,
		.regions = {
			{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
			{ 0x7b800000, 0x200000, IOMMU_RESV_DIRECT },
		},
	};
	static const struct fake_traits relaxable = {
		.name = "with a region that may go", .pgsize_bitmap = SZ_4K,
		.regions = { { 0x7b800000, 0x200000, IOMMU_RESV_DIRECT_RELAXABLE } },
	};
	static const struct {
		const struct fake_traits *traits;
		int error;
		const char *why;
	} cases[] = {
		{ &with_rmrr, -EPERM,
		  "firmware goes on using its direct region 0x7b800000-0x7b9fffff: error -1" },
		{ &with_rmrr, -ENOMEM, "no memory for its tables: error -12" },
		{ &with_rmrr, -EBUSY, "its devices are in another domain: error -16" },
		{ &relaxable, -EPERM, "see the lines of its driver before this one: error -1" },
		{ &plain, -EINVAL, "see the lines of its driver before this one: error -22" },
	};
	struct fixture *fx = test->priv;
	unsigned int i;
	char want[160];

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		klog_begin(&fx->log);
		fake_iommu.fail_attach = 1;
		fake_iommu.attach_error = cases[i].error;
		KUNIT_EXPECT_EQ(test, attach(test, 0, cases[i].traits), cases[i].error);
		snprintf(want, sizeof(want), "attach of group %d: the IOMMU refused it: %s",
			 iommu_group_id(group(0)), cases[i].why);
		KUNIT_EXPECT_EQ_MSG(test, klog_count(&fx->log, want), 1U, "%s", want);
	}
}

static void destroy_with_everything_attached(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	must_attach(test, 2, &foreign);
	must_attach(test, 3, &plain);
	map_both(test);
	pin(test, fx->emulated, 3);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 3U);
	expect_pins(test, NPAGES, NPAGES);
	destroy(test);
}

/* ---- page sizes ---- */

static void page_sizes_are_those_of_all_domains(struct kunit *test)
{
	static const struct fake_traits small = {
		.name = "smaller than a page", .pgsize_bitmap = SZ_1K | SZ_64K | SZ_2M,
	};
	const unsigned long *pgsizes =
		&((struct fixture *)test->priv)->container->pgsize_bitmap;

	KUNIT_EXPECT_EQ_MSG(test, *pgsizes, PAGE_MASK, "without a domain any will do");
	must_attach(test, 0, &plain);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_4K | SZ_2M | SZ_1G));
	must_attach(test, 1, &more_sizes);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_4K | SZ_2M));
	must_attach(test, 2, &large_pages);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)SZ_2M);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_64K | SZ_2M));
	detach(test, 2);
	KUNIT_EXPECT_EQ(test, *pgsizes, (unsigned long)(SZ_4K | SZ_64K | SZ_2M));
	detach(test, 1);
	KUNIT_EXPECT_EQ(test, *pgsizes, PAGE_MASK);
	must_attach(test, 0, &small);
	KUNIT_EXPECT_EQ_MSG(test, *pgsizes, (unsigned long)(SZ_4K | SZ_64K | SZ_2M),
			    "memory is pinned by pages");
}

/* The largest of the smallest pages is what requests must be aligned to. */
static void smallest_page_is_that_of_all_domains(struct kunit *test)
{
	unsigned int reserve = 3 * SZ_64K / PAGE_SIZE;
	unsigned long hole = user_map_anon(test, reserve, PROT_READ);
	unsigned long vaddr = ALIGN(hole, SZ_64K);
	int unaligned[3], aligned;

	must_attach(test, 0, &more_sizes);
	must_attach(test, 1, &large_pages);
	/* MMIO, whose frames are aligned as its addresses. */
	user_map_pfns(test, vaddr, MMIO_PFN, 2 * SZ_64K / PAGE_SIZE);
	unaligned[0] = map_bytes(test, SZ_1M + SZ_4K, vaddr, SZ_64K, RW);
	unaligned[1] = map_bytes(test, SZ_1M, vaddr + SZ_4K, SZ_64K, RW);
	unaligned[2] = map_bytes(test, SZ_1M, vaddr, SZ_4K, RW);
	aligned = map_bytes(test, SZ_1M, vaddr, 2 * SZ_64K, RW);
	user_unmap(hole, reserve);
	KUNIT_EXPECT_EQ(test, -EINVAL, unaligned[0]);
	KUNIT_EXPECT_EQ(test, -EINVAL, unaligned[1]);
	KUNIT_EXPECT_EQ(test, -EINVAL, unaligned[2]);
	KUNIT_ASSERT_EQ(test, 0, aligned);
	KUNIT_EXPECT_EQ(test, mock(0)->nr_ptes, 2U);
	KUNIT_EXPECT_EQ(test, mock(1)->nr_ptes, 2U);
	must_unmap(test, SZ_1M, 2 * SZ_64K);
	expect_no_mappings(test);
}

/* An IOMMU that cannot hold the mappings that are there is not let in. */
static void mappings_too_small_for_a_group_keep_it_out(struct kunit *test)
{
	struct state before;

	must_attach(test, 0, &more_sizes);
	map_both(test);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &large_pages));
	expect_state(test, &before, "attach");
	expect_contents(test, mock(0));
	unmap_both(test);
	must_attach(test, 1, &large_pages);
}

/* Without a page size in common nothing could ever be mapped. */
static void page_sizes_must_have_one_in_common(struct kunit *test)
{
	static const struct fake_traits others = {
		.name = "of other page sizes only", .pgsize_bitmap = SZ_64K | SZ_512M,
	};
	struct state before;

	must_attach(test, 0, &plain);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &others));
	expect_state(test, &before, "attach");
}

/* ---- valid IOVA ---- */

static void expect_ranges(struct kunit *test, const struct vfio_iova_span *ranges,
			  unsigned int nr, const char *when)
{
	const struct vfio_iova_set *iova = &((struct fixture *)test->priv)->container->iova;
	unsigned int i;

	KUNIT_ASSERT_EQ_MSG(test, iova->nr, nr, "%s", when);
	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_EQ_MSG(test, iova->ranges[i].first, ranges[i].first, "%s, %u", when,
				    i);
		KUNIT_EXPECT_EQ_MSG(test, iova->ranges[i].last, ranges[i].last, "%s, %u", when, i);
	}
}

#define EXPECT_RANGES(test, when, ...) do {						\
	static const struct vfio_iova_span expected[] = { __VA_ARGS__ };		\
	expect_ranges(test, expected, ARRAY_SIZE(expected), when);			\
} while (0)

/* An IOMMU like VT-d's, one like an SMMU, and another device behind the first. */
static const struct fake_traits x86_like = {
	.name = "x86-like", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G,
	.regions = {
		{ 0x100000, 0x10000, IOMMU_RESV_DIRECT_RELAXABLE },
		{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
	},
};

static const struct fake_traits arm_like = {
	.name = "Arm-like", .pgsize_bitmap = SZ_4K | SZ_64K | SZ_2M,
	.aperture_first = 0x1000, .aperture_last = BIT_ULL(39) - 1,
	.regions = {
		{ 0xc0000000, 0x10000, IOMMU_RESV_RESERVED },
		{ 0x8000000, 0x100000, IOMMU_RESV_SW_MSI },
	},
};

static const struct fake_traits x86_like_too = {
	.name = "x86-like, another", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G,
	.regions = {
		{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
		{ 0x200000, 0x1000, IOMMU_RESV_DIRECT },
	},
};

/* Valid is what lies in all apertures and in no group's reserved regions, at any time. */
static void valid_iova_is_what_all_groups_allow(struct kunit *test)
{
	must_attach(test, 0, &x86_like);
	EXPECT_RANGES(test, "the first", { 0, 0xfedfffff }, { 0xfef00000, BIT_ULL(48) - 1 });
	must_attach(test, 1, &arm_like);
	EXPECT_RANGES(test, "another domain",
		      { 0x1000, 0x7ffffff }, { 0x8100000, 0xbfffffff },
		      { 0xc0010000, 0xfedfffff }, { 0xfef00000, BIT_ULL(39) - 1 });
	must_attach(test, 2, &x86_like_too);
	KUNIT_EXPECT_PTR_EQ(test, mock(2), mock(0));
	EXPECT_RANGES(test, "another group of the first domain",
		      { 0x1000, 0x1fffff }, { 0x201000, 0x7ffffff }, { 0x8100000, 0xbfffffff },
		      { 0xc0010000, 0xfedfffff }, { 0xfef00000, BIT_ULL(39) - 1 });
	detach(test, 1);
	EXPECT_RANGES(test, "the other domain left", { 0, 0x1fffff }, { 0x201000, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
	detach(test, 2);
	EXPECT_RANGES(test, "one group left", { 0, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
	detach(test, 0);
	EXPECT_RANGES(test, "all left", { 0, U64_MAX });
}

/* What cuts() noted. */
struct cut_list {
	struct vfio_iova_cut cuts[8];
	unsigned int nr;
	unsigned int stop_at;
};

static int note_cut(const struct vfio_iova_cut *cut, void *data)
{
	struct cut_list *list = data;

	if (list->nr == ARRAY_SIZE(list->cuts))
		return -E2BIG;
	list->cuts[list->nr++] = *cut;
	return list->nr == list->stop_at;
}

static int cuts(struct kunit *test, struct cut_list *list)
{
	struct fixture *fx = test->priv;
	int ret;

	list->nr = 0;
	down_read(&fx->container->lock);
	ret = vfio_container_walk_cuts(fx->container, note_cut, list);
	up_read(&fx->container->lock);
	return ret;
}

/* Each piece of invalid IOVA has somebody who is to blame. */
static void each_cut_has_an_owner(struct kunit *test)
{
	struct cut_list list = {};
	const struct {
		struct vfio_iova_span range;
		enum vfio_cut_kind kind;
		int nr;
	} want[] = {
		{ { BIT_ULL(48), U64_MAX }, VFIO_CUT_APERTURE, 0 },
		{ { 0xfee00000, 0xfeefffff }, VFIO_CUT_MSI, iommu_group_id(group(0)) },
		{ { 0x200000, 0x200fff }, VFIO_CUT_DIRECT, iommu_group_id(group(2)) },
		{ { 0xfee00000, 0xfeefffff }, VFIO_CUT_MSI, iommu_group_id(group(2)) },
		{ { 0, 0xfff }, VFIO_CUT_APERTURE, 1 },
		{ { BIT_ULL(39), U64_MAX }, VFIO_CUT_APERTURE, 1 },
		{ { 0x8000000, 0x80fffff }, VFIO_CUT_SW_MSI, iommu_group_id(group(1)) },
		{ { 0xc0000000, 0xc000ffff }, VFIO_CUT_RESERVED, iommu_group_id(group(1)) },
	};
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 0, cuts(test, &list));
	KUNIT_EXPECT_EQ(test, list.nr, 0U);
	must_attach(test, 0, &x86_like);
	must_attach(test, 1, &arm_like);
	must_attach(test, 2, &x86_like_too);
	KUNIT_EXPECT_EQ(test, 0, cuts(test, &list));
	KUNIT_ASSERT_EQ(test, list.nr, (unsigned int)ARRAY_SIZE(want));
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].range.first, want[i].range.first, "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].range.last, want[i].range.last, "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].kind, want[i].kind, "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].nr, want[i].nr, "%u", i);
	}
	for (i = 1; i <= ARRAY_SIZE(want); i++) {
		list.stop_at = i;
		KUNIT_EXPECT_EQ(test, 1, cuts(test, &list));
		KUNIT_EXPECT_EQ(test, list.nr, i);
	}
	list.stop_at = 0;
	fault_all();
	i = cuts(test, &list);
	fault_end();
	KUNIT_EXPECT_EQ(test, (int)i, -ENOMEM);
}

/* In words: the lowest piece that a range touches. */
static void cuts_are_described(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_cut_text text;
	char msi[sizeof(text.s)], direct[sizeof(text.s)];
	const struct {
		u64 first, last;
		const char *want;
	} ranges[] = {
		{ 0xfee00000, 0xfee00fff, msi },
		{ 0xfeeff000, 0xfef00fff, msi },
		{ 0xfed00000, 0xfee00000, msi },
		{ 0x200fff, U64_MAX, direct },
		{ BIT_ULL(48), BIT_ULL(48),
		  "outside the aperture of domain 0: 0x1000000000000-0xffffffffffffffff" },
		{ 0xfef00000, BIT_ULL(48) - 1, "unknown, memory is short" },
	};
	unsigned int i;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &x86_like_too);
	snprintf(msi, sizeof(msi), "MSI window of group %d: 0xfee00000-0xfeefffff",
		 iommu_group_id(group(1)));
	snprintf(direct, sizeof(direct), "direct region of group %d: 0x200000-0x200fff",
		 iommu_group_id(group(1)));
	down_read(&fx->container->lock);
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		vfio_container_describe_cut(fx->container, ranges[i].first, ranges[i].last, &text);
		KUNIT_EXPECT_STREQ(test, text.s, ranges[i].want);
	}
	up_read(&fx->container->lock);
}

/* An aperture may be all there is, and a reserved region nothing at all. */
static void all_iova_may_be_valid(struct kunit *test)
{
	static const struct fake_traits all = {
		.name = "all IOVA", .pgsize_bitmap = SZ_4K, .aperture_last = U64_MAX,
		.regions = { { 0x5000, 0, IOMMU_RESV_RESERVED } },
	};
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, map_bytes(test, U64_MAX - PAGE_SIZE + 1, fx->vaddr, PAGE_SIZE,
					   RW));
	must_attach(test, 0, &all);
	EXPECT_RANGES(test, "all", { 0, U64_MAX });
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(&mock(0)->domain, U64_MAX - PAGE_SIZE + 1),
			page_to_phys(fx->pages[0]));
}

/* MAP minds what the last attach and detach have said. */
static void map_minds_the_valid_iova(struct kunit *test)
{
	struct fixture *fx = test->priv;
	static const u64 iova[] = { 0, 0x8000000, 0xc0000000, BIT_ULL(39) };
	unsigned int i;

	must_attach(test, 0, &x86_like);
	must_attach(test, 1, &arm_like);
	for (i = 0; i < ARRAY_SIZE(iova); i++)
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    map_bytes(test, iova[i], fx->vaddr, PAGE_SIZE, RW),
				    "%#llx", iova[i]);
	expect_no_mappings(test);
	detach(test, 1);
	for (i = 0; i < ARRAY_SIZE(iova); i++)
		KUNIT_EXPECT_EQ_MSG(test, 0,
				    map_bytes(test, iova[i], fx->vaddr, PAGE_SIZE, RW),
				    "%#llx", iova[i]);
	KUNIT_EXPECT_EQ(test, -EINVAL, map_bytes(test, 0xfee00000, fx->vaddr, PAGE_SIZE, RW));
}

/* Detach cannot fail: without memory for new ranges the old ones stay. */
static void detach_without_memory_keeps_the_ranges(struct kunit *test)
{
	must_attach(test, 0, &x86_like);
	must_attach(test, 1, &x86_like_too);
	map_both(test);
	fault_all();
	detach(test, 1);
	fault_end();
	EXPECT_RANGES(test, "no memory", { 0, 0x1fffff }, { 0x201000, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
	expect_contents(test, mock(0));
	must_attach(test, 1, &plain);
	EXPECT_RANGES(test, "the next attach", { 0, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
}

#define ROOM_FOR_LOW	(LOW_IOVA + LOW_PAGES * PAGE_SIZE)

/* Groups whose IOMMU could not hold what is mapped. */
static const struct fake_traits conflicting[] = {
	{ "reserved: the first page", SZ_4K,
	  .regions = { { LOW_IOVA, PAGE_SIZE, IOMMU_RESV_DIRECT } } },
	{ "reserved: a page inside", SZ_4K,
	  .regions = { { LOW_IOVA + 5 * PAGE_SIZE, PAGE_SIZE, IOMMU_RESV_RESERVED } } },
	{ "reserved: the last page", SZ_4K,
	  .regions = { { ROOM_FOR_LOW - PAGE_SIZE, PAGE_SIZE, IOMMU_RESV_RESERVED } } },
	{ "reserved: the last byte", SZ_4K,
	  .regions = { { ROOM_FOR_LOW - 1, SZ_1M, IOMMU_RESV_MSI } } },
	{ "reserved: everything around", SZ_4K,
	  .regions = { { 0, SZ_16M, IOMMU_RESV_SW_MSI } } },
	{ "reserved: the higher mapping", SZ_4K,
	  .regions = { { HIGH_IOVA, SZ_2M, IOMMU_RESV_RESERVED } } },
	{ "aperture starts too late", SZ_4K, .aperture_first = LOW_IOVA + PAGE_SIZE },
	{ "aperture ends too early", SZ_4K,
	  .aperture_last = HIGH_IOVA + (HIGH_PAGES - 1) * PAGE_SIZE - 1 },
	{ "aperture ends before the higher mapping", SZ_4K, .aperture_last = SZ_4G - 1 },
	{ "no room at all", SZ_4K, .aperture_last = SZ_2M,
	  .regions = { { 0, SZ_1G, IOMMU_RESV_RESERVED } } },
};

static void mappings_in_the_way_keep_a_group_out(struct kunit *test)
{
	struct state before;
	unsigned int i;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);
	for (i = 0; i < ARRAY_SIZE(conflicting); i++) {
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, attach(test, 1, &conflicting[i]), "%s",
				    conflicting[i].name);
		expect_state(test, &before, conflicting[i].name);
	}
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
}

/* Also if nothing of them is in an IOMMU yet. */
static void mappings_in_the_way_keep_the_first_group_out(struct kunit *test)
{
	struct state before;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	before = state_of(test);
	for (i = 0; i < ARRAY_SIZE(conflicting); i++) {
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, attach(test, 0, &conflicting[i]), "%s",
				    conflicting[i].name);
		expect_state(test, &before, conflicting[i].name);
	}
	expect_pins(test, 0, 0);
}

/* Right beside a reserved region, and as far as the aperture goes, there is room. */
static void mappings_just_beside_let_a_group_in(struct kunit *test)
{
	static const struct fake_traits tight = {
		.name = "tight", .pgsize_bitmap = SZ_4K,
		.aperture_first = LOW_IOVA,
		.aperture_last = HIGH_IOVA + HIGH_PAGES * PAGE_SIZE - 1,
		.regions = { { ROOM_FOR_LOW, HIGH_IOVA - ROOM_FOR_LOW, IOMMU_RESV_RESERVED } },
	};

	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, &tight);
	expect_both_in_two_domains(test);
}

/* ---- groups that are refused ---- */

static void group_can_be_attached_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 0, &plain));
	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &incoherent));
	KUNIT_EXPECT_EQ(test, -EINVAL, attach_emulated(test));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			vfio_container_attach_emulated(fx->container, group(1)));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_container_attach(fx->container, fx->emulated));
	expect_state(test, &before, "attach");
	expect_both_in_two_domains(test);
}

/* A group that is not there can't leave. */
static void detach_of_a_stranger_does_nothing(struct kunit *test)
{
	struct state before;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);
	detach(test, 1);
	detach_emulated(test);
	expect_state(test, &before, "detach");
	expect_contents(test, mock(0));
}

/* A group without a device has no IOMMU. */
static void group_without_devices_stays_out(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before = state_of(test);

	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_container_attach(fx->container, fx->emulated));
	expect_state(test, &before, "attach");
}

/* Who asks for nesting gets it from each IOMMU, or not that IOMMU. */
static void nesting_is_for_all_domains(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before = state_of(test);

	fx->container->nesting = true;
	KUNIT_EXPECT_EQ(test, -ENODEV, attach(test, 0, &plain));
	expect_state(test, &before, "attach");
	fake_iommu.nesting = true;
	must_attach(test, 0, &plain);
	before = state_of(test);
	fake_iommu.nesting = false;
	KUNIT_EXPECT_EQ(test, -ENODEV, attach(test, 1, &plain));
	expect_state(test, &before, "second attach");
}

/* UML isolates no interrupts: without the administrator's word there is no attach. */
static void unsafe_interrupts_need_permission(struct kunit *test)
{
	struct state before;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	before = state_of(test);
	vfio_type1_params.allow_unsafe_interrupts = false;
	KUNIT_EXPECT_EQ(test, -EPERM, attach(test, 0, &plain));
	expect_state(test, &before, "attach");
	expect_pins(test, 0, 0);
	vfio_type1_params.allow_unsafe_interrupts = true;
	must_attach(test, 0, &plain);
	before = state_of(test);
	vfio_type1_params.allow_unsafe_interrupts = false;
	KUNIT_EXPECT_EQ_MSG(test, -EPERM, attach(test, 1, &plain), "a domain to join is no excuse");
	expect_state(test, &before, "second attach");
}

/* Nor is it asked for where the IOMMU isolates them. Since 6.3 that is not for UML's to say. */
static void isolated_interrupts_need_no_permission(struct kunit *test)
{
	int want;

	vfio_type1_params.allow_unsafe_interrupts = false;
	fake_iommu.capable = true;
	want = iommu_group_has_isolated_msi(group(0)) ? 0 : -EPERM;
	KUNIT_EXPECT_EQ(test, want, attach(test, 0, &plain));
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, want ? 0U : 1U);
}

/* While an address is unknown, nobody comes who may need it. */
static void no_attach_while_addresses_are_exchanged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	u64 size;

	must_attach(test, 0, &plain);
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_invalidate(fx->container, HIGH_IOVA,
						       HIGH_PAGES * PAGE_SIZE, false, &size));
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EBUSY, attach(test, 1, &plain));
	KUNIT_EXPECT_EQ(test, -EBUSY, attach(test, 1, &incoherent));
	KUNIT_EXPECT_EQ(test, -EBUSY, attach_emulated(test));
	expect_state(test, &before, "attach");
	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_update(fx->container, HIGH_IOVA,
						   fx->vaddr + LOW_PAGES * PAGE_SIZE, size));
	must_attach(test, 1, &incoherent);
	expect_both_in_two_domains(test);
	KUNIT_EXPECT_EQ(test, 0, attach_emulated(test));
}

/* ---- attach that fails ---- */

/* Whichever run cannot be copied, the group stays out and the container as it was. */
static void failed_replay_changes_nothing(struct kunit *test)
{
	struct state before;
	unsigned int nth;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);
	for (nth = PROBE_CALLS + 1; nth <= PROBE_CALLS + RUNS; nth++) {
		fake_iommu.fail_map = nth;
		KUNIT_ASSERT_EQ_MSG(test, -ENOMEM, attach(test, 1, param(test)), "call %u", nth);
		expect_state(test, &before, "attach");
	}
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
	must_attach(test, 1, param(test));
	expect_both_in_two_domains(test);
}

/* The probe is dispensable. */
static void failed_probe_does_not_keep_a_group_out(struct kunit *test)
{
	must_attach(test, 0, &plain);
	map_both(test);
	fake_iommu.fail_map = PROBE_CALLS;
	must_attach(test, 1, param(test));
	expect_both_in_two_domains(test);
	unmap_both(test);
	expect_no_mappings(test);
}

/*
 * A group is first attached to a domain of its own, then tried in one that looks
 * alike, and goes back if that fails.
 */
static void failed_join_goes_back_or_changes_nothing(struct kunit *test)
{
	struct state before;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);

	fake_iommu.fail_attach = BIT(0);
	KUNIT_EXPECT_EQ(test, -ENOMEM, attach(test, 1, &plain));
	expect_state(test, &before, "its own domain refuses");

	fake_iommu.fail_attach = BIT(1) | BIT(2);
	KUNIT_EXPECT_EQ(test, -ENOMEM, attach(test, 1, &plain));
	expect_state(test, &before, "both domains refuse");

	fake_iommu.fail_attach = BIT(1);
	must_attach(test, 1, &plain);
	KUNIT_EXPECT_EQ(test, fake_iommu.fail_attach, 0UL);
	expect_both_in_two_domains(test);
}

/* Let each allocation of an attach fail. Both groups get a domain of their own. */
static void fail_each_allocation(struct kunit *test, const struct fake_traits *first,
				 const struct fake_traits *second)
{
	unsigned int nth, failed = 0, refused = 0;
	bool came = true;

	must_attach(test, 0, first);
	map_both(test);
	for (nth = 1; came; nth++) {
		struct state before = state_of(test);
		int ret;

		fault_nth(nth);
		ret = attach(test, 1, second);
		came = fault_end();
		failed += came;
		refused += !!ret;
		if (ret) {
			KUNIT_ASSERT_TRUE_MSG(test, came, "error %d", ret);
			expect_state(test, &before, "attach");
		} else {
			expect_both_in_two_domains(test);
			detach(test, 1);
		}
		expect_contents(test, mock(0));
	}
	/* At least each IOPTE is an allocation. */
	KUNIT_EXPECT_GT(test, failed, (unsigned int)NPAGES);
	KUNIT_EXPECT_GE(test, refused, (unsigned int)NPAGES);
}

/* Whichever allocation fails, attach works without it or changes nothing. */
static void failed_allocation_changes_nothing(struct kunit *test)
{
	fail_each_allocation(test, &plain, param(test));
}

/* So it is with those that reserved regions need. */
static void failed_allocation_of_regions_changes_nothing(struct kunit *test)
{
	static const struct fake_traits many_regions = {
		.name = "many regions", .pgsize_bitmap = SZ_4K, .driver = 1,
		.regions = {
			{ 0x200000, 0x1000, IOMMU_RESV_RESERVED },
			{ 0x300000, 0x1000, IOMMU_RESV_DIRECT },
			{ 0x8000000, 0x100000, IOMMU_RESV_SW_MSI },
			{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
		},
	};

	fail_each_allocation(test, &x86_like, &many_regions);
}

static int attach_next(void *data)
{
	struct fixture *fx = data;

	return vfio_container_attach(fx->container, group(fx->next));
}

/* A killed caller's attach ends, as the first group or a later one, and changes nothing. */
static void killed_attach_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	fake_iommu.devices[0].traits = &plain;
	fake_iommu.devices[1].traits = &incoherent;
	for (i = 0; i < 2; i++) {
		before = state_of(test);
		fx->next = i;
		KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, attach_next, fx));
		expect_state(test, &before, "attach");
		expect_pins(test, i ? NPAGES : 0, i ? NPAGES : 0);
		KUNIT_ASSERT_EQ(test, 0, attach_next(fx));
	}
	expect_both_in_two_domains(test);
}

/* What the primary domain has lost cannot be copied from it. */
static void replay_of_a_hole_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	struct vfio_dma *dma;
	struct mock_iommu *primary;

	must_attach(test, 0, &plain);
	map_both(test);
	primary = mock(0);
	dma = vfio_dma_tree_first(&fx->container->tree, LOW_IOVA, LOW_IOVA);
	vfio_runs_free(&dma->runs);
	dma->runs.lost = true;
	mock_iommu_lose(primary, LOW_IOVA + RUN_PAGES * PAGE_SIZE);
	before = state_of(test);
	KUNIT_EXPECT_EQ(test, -EIO, attach(test, 1, &incoherent));
	expect_state(test, &before, "attach");
	/* Put it back, for the rest of the case. */
	KUNIT_ASSERT_EQ(test, 0, iommu_map(&primary->domain, LOW_IOVA + RUN_PAGES * PAGE_SIZE,
					   page_to_phys(fx->pages[RUN_PAGES]), PAGE_SIZE,
					   RW | IOMMU_CACHE, GFP_KERNEL));
	must_attach(test, 1, &incoherent);
	expect_both_in_two_domains(test);
}

/* Whichever allocation fails, dirty tracking is off, and can be started later. */
static void failed_dirty_start_changes_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int nth, failed = 0;
	struct vfio_dma *dma;
	bool came = true;

	must_attach(test, 0, &plain);
	map_both(test);
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = vfio_dirty_start(fx->container);
		came = fault_end();
		failed += !!ret;
		if (FAULT_IS_EXACT || !came)
			KUNIT_ASSERT_EQ_MSG(test, ret, came ? -ENOMEM : 0, "allocation %u", nth);
		KUNIT_ASSERT_EQ(test, fx->container->dirty_tracking, !ret);
		for (dma = vfio_dma_tree_first(&fx->container->tree, 0, U64_MAX); dma;
		     dma = vfio_dma_tree_next(dma))
			KUNIT_ASSERT_EQ_MSG(test, !!dma->dirty, !ret, "allocation %u", nth);
		vfio_dirty_stop(fx->container);
		expect_contents(test, mock(0));
		expect_pins(test, NPAGES, NPAGES);
	}
	KUNIT_EXPECT_EQ_MSG(test, failed, 2U, "a bitmap for each mapping");
}

/* Whichever allocation fails, in-kernel users have pinned nothing. */
static void failed_pin_changes_nothing(struct kunit *test)
{
	struct page *pages[LOW_PAGES];
	struct fixture *fx = test->priv;
	unsigned int nth, failed = 0, i;
	bool came = true;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = vfio_external_pin(fx->container, fx->emulated, LOW_IOVA, LOW_PAGES, RW,
					pages);
		came = fault_end();
		failed += ret < 0;
		if (FAULT_IS_EXACT || !came)
			KUNIT_ASSERT_EQ_MSG(test, ret, came ? -ENOMEM : LOW_PAGES,
					    "allocation %u", nth);
		fx->pinned = ret < 0 ? 0 : LOW_PAGES;
		expect_pins(test, 0, fx->pinned);
		for (i = 0; ret < 0 && i < failed; i++)
			KUNIT_ASSERT_NULL(test, pages[i]);
		if (fx->pinned)
			unpin(fx);
	}
	KUNIT_EXPECT_EQ_MSG(test, failed, (unsigned int)LOW_PAGES, "a record for each page");
}

/* Taking addresses back, giving them, and detaching need no memory at all. */
static void vaddr_and_detach_need_no_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int taken, given, without;
	u64 size;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	map_both(test);
	fault_all();
	taken = vfio_vaddr_invalidate(fx->container, 0, 0, true, &size);
	given = vfio_vaddr_update(fx->container, LOW_IOVA, fx->vaddr, LOW_PAGES * PAGE_SIZE);
	without = fx->container->tree.vaddr_invalid;
	detach(test, 0);
	detach(test, 1);
	fault_end();
	KUNIT_EXPECT_EQ(test, taken, 0);
	KUNIT_EXPECT_EQ(test, size, (u64)NPAGES * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, given, 0);
	KUNIT_EXPECT_EQ(test, without, 1);
	expect_no_mappings(test);
}

/* ---- addresses are exchanged ---- */

static int take_vaddr(struct kunit *test, u64 iova, unsigned int npages, u64 *size)
{
	struct fixture *fx = test->priv;

	return vfio_vaddr_invalidate(fx->container, iova, npages * PAGE_SIZE, false, size);
}

static int give_vaddr(struct kunit *test, u64 iova, u64 size)
{
	struct fixture *fx = test->priv;

	return vfio_map_dma(fx->container, iova, fx->vaddr, size, 0, true);
}

/* All addresses of a range go at once, or none; mappings are not cut. */
static void addresses_are_taken_all_or_none(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 all = HIGH_IOVA + HIGH_PAGES * PAGE_SIZE - LOW_IOVA, size;

	must_attach(test, 0, &plain);
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, take_vaddr(test, LOW_IOVA, 1, &size));
	KUNIT_EXPECT_EQ(test, size, 0ULL);
	KUNIT_EXPECT_EQ(test, -EINVAL, take_vaddr(test, LOW_IOVA + 1, 1, &size));
	KUNIT_EXPECT_EQ(test, 0, take_vaddr(test, HIGH_IOVA, HIGH_PAGES, &size));
	KUNIT_EXPECT_EQ(test, size, (u64)HIGH_PAGES * PAGE_SIZE);
	/* The lower one keeps its address, for the higher one has none to take. */
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_vaddr_invalidate(fx->container, LOW_IOVA, all, false,
							     &size));
	KUNIT_EXPECT_EQ(test, size, 0ULL);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 1U);
	KUNIT_EXPECT_EQ(test, 0, take_vaddr(test, LOW_IOVA, LOW_PAGES, &size));
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 2U);
	/* A mapping without an address can still go. */
	unmap_both(test);
	KUNIT_EXPECT_EQ(test, fx->container->tree.vaddr_invalid, 0U);
	expect_no_mappings(test);
}

/* An address is given to one whole mapping that has none. */
static void addresses_are_given_to_whole_mappings(struct kunit *test)
{
	u64 size = LOW_PAGES * PAGE_SIZE, taken;

	must_attach(test, 0, &plain);
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size));
	KUNIT_ASSERT_EQ(test, 0, take_vaddr(test, LOW_IOVA, LOW_PAGES, &taken));
	KUNIT_EXPECT_EQ(test, -ENOENT, give_vaddr(test, LOW_IOVA - PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size - PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA + PAGE_SIZE, size - PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size - 1));
	KUNIT_EXPECT_EQ(test, 0, give_vaddr(test, LOW_IOVA, size));
	KUNIT_EXPECT_EQ(test, -EINVAL, give_vaddr(test, LOW_IOVA, size));
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
}

/* In-kernel users may need an address at any time. */
static void addresses_stay_with_in_kernel_users(struct kunit *test)
{
	u64 size;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EBUSY, take_vaddr(test, LOW_IOVA, LOW_PAGES, &size));
}

/* ---- in-kernel users copy ---- */

/* Across runs and pages, and what is written is dirty. */
static void copies_go_through_the_mapping(struct kunit *test)
{
	struct fixture *fx = test->priv;
	char out[300], in[300];
	struct vfio_dma *dma;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	for (i = 0; i < sizeof(out); i++)
		out[i] = i;
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container, LOW_IOVA + 8 * PAGE_SIZE - 100,
						  out, sizeof(out), true));
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container, LOW_IOVA + 8 * PAGE_SIZE - 100,
						  in, sizeof(in), false));
	KUNIT_EXPECT_EQ(test, memcmp(in, out, sizeof(in)), 0);
	KUNIT_EXPECT_EQ(test, memcmp(page_address(fx->pages[8]), out + 100, 200), 0);
	dma = vfio_dma_tree_first(&fx->container->tree, LOW_IOVA, LOW_IOVA);
	KUNIT_EXPECT_EQ(test, dma->dirty[0], 0x180UL);
}

/* What is not mapped, or not so, is not copied. */
static void copies_mind_mappings_and_protection(struct kunit *test)
{
	u64 end = LOW_IOVA + LOW_PAGES * PAGE_SIZE, nowhere = SZ_64M;
	struct fixture *fx = test->priv;
	char data[16] = {};

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_rw(fx->container, end, data, 1, false));
	/* The first half is there. */
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_rw(fx->container, end - 8, data,
							sizeof(data), false));
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container, HIGH_IOVA, data, 1, false));
	KUNIT_EXPECT_EQ(test, -EPERM, vfio_external_rw(fx->container, HIGH_IOVA, data, 1, true));
	/* There is no memory behind it. */
	KUNIT_ASSERT_EQ(test, 0, map_bytes(test, nowhere, PAGE_SIZE, PAGE_SIZE, RW));
	KUNIT_EXPECT_EQ(test, -EFAULT, vfio_external_rw(fx->container, nowhere, data, 1, false));
}

/* Requests that make no sense pin nothing. */
static void bad_pins_are_refused(struct kunit *test)
{
	struct page *pages[LOW_PAGES];
	struct fixture *fx = test->priv;
	u64 end = LOW_IOVA + LOW_PAGES * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_pin(fx->container, fx->emulated, LOW_IOVA, 0,
							 RW, pages));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_pin(fx->container, fx->emulated, LOW_IOVA, 1,
							 RW, NULL));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW, vfio_external_pin(fx->container, fx->emulated,
							    U64_MAX - PAGE_SIZE + 1, 2, RW,
							    pages));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_pin(fx->container, fx->emulated,
							 end - PAGE_SIZE, 2, RW, pages));
	KUNIT_EXPECT_EQ(test, -EPERM, vfio_external_pin(fx->container, fx->emulated, HIGH_IOVA, 1,
							RW, pages));
	expect_pins(test, 0, 0);
	/* Who could not be told of an unmap may not pin. */
	vfio_external_unregister(fx->container, &fx->device);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_pin(fx->container, fx->emulated, LOW_IOVA, 1,
							 RW, pages));
	vfio_external_register(fx->container, &fx->device);
	expect_pins(test, 0, 0);
}

/* MAP may have gone without remembering the runs: replay can do that, too. */
static void replay_copies_what_map_made_without_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int nth, survived = 0;
	bool came = true;

	must_attach(test, 0, &plain);
	KUNIT_ASSERT_EQ(test, 0, map_high(test));
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = map_low(test);
		came = fault_end();
		if (ret)
			continue;
		survived += came;
		must_attach(test, 1, param(test));
		expect_both_in_two_domains(test);
		detach(test, 0);
		must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
		KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm + HIGH_PAGES);
		must_attach(test, 0, &plain);
		detach(test, 1);
	}
	KUNIT_EXPECT_GT_MSG(test, survived, 0U, "no allocation of MAP is dispensable");
}

/* ---- in-kernel users ---- */

/* Without an IOMMU nothing is pinned or charged but what a driver asks for. */
static void emulated_group_pins_only_what_it_uses(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	expect_pins(test, 0, 0);
	pin(test, fx->emulated, 5);
	expect_pins(test, 0, 5);
	must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
	KUNIT_EXPECT_EQ_MSG(test, fx->pinned, 0U, "the device was not told");
	must_unmap(test, HIGH_IOVA, HIGH_PAGES * PAGE_SIZE);
	expect_no_mappings(test);
}

/* With the last group, emulated or not, the mappings go. */
static void last_emulated_group_takes_the_mappings_along(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	detach_emulated(test);
	expect_no_mappings(test);

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	map_both(test);
	detach_emulated(test);
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
	detach(test, 0);
	expect_no_mappings(test);
}

/* As long as one of them stays, the mappings do. */
static void other_emulated_group_keeps_the_mappings(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct iommu_group *other = iommu_group_alloc();

	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container, other));
	map_both(test);
	detach_emulated(test);
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 2U);
	pin(test, other, 5);
	expect_pins(test, 0, 5);
	unpin(fx);
	vfio_container_detach(fx->container, other);
	expect_no_mappings(test);
	iommu_group_put(other);
}

/*
 * The last group may leave while its device is told of an unmap: what that unmap owns
 * is left to it, all else goes.
 */
static void group_may_leave_while_its_device_is_told(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	pin(test, fx->emulated, 5);
	fx->leaves = true;
	must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
	expect_no_mappings(test);
}

/* The first IOMMU has all memory pinned and charged; what is charged is not charged again. */
static void first_iommu_group_has_everything_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	pin(test, fx->emulated, 5);
	must_attach(test, 0, &plain);
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
	must_attach(test, 1, &incoherent);
	expect_both_in_two_domains(test);
	/* Its pages stay pinned without it. */
	unpin(fx);
	expect_pins(test, NPAGES, NPAGES);
}

/* When the last IOMMU leaves, in-kernel users keep the mappings, their pins, and no more. */
static void last_domain_leaves_the_mappings_to_in_kernel_users(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int round;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	must_attach(test, 0, &plain);
	must_attach(test, 1, &incoherent);
	map_both(test);
	pin(test, fx->emulated, 5);
	for (round = 0; round < 2; round++) {
		detach(test, 0);
		expect_contents(test, mock(1));
		expect_pins(test, NPAGES, NPAGES);
		detach(test, 1);
		KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
		KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 2U);
		expect_pins(test, 0, 5);
		/* And an IOMMU can come back. */
		must_attach(test, 0, &plain);
		must_attach(test, 1, &incoherent);
		expect_both_in_two_domains(test);
	}
	unmap_both(test);
	expect_no_mappings(test);
}

/* Whichever run fails, only what in-kernel users have pinned is pinned and charged. */
static void failed_first_iommu_group_unpins_everything(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct state before;
	unsigned int nth;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	pin(test, fx->emulated, 11);
	before = state_of(test);
	for (nth = PROBE_CALLS + 1; nth <= PROBE_CALLS + RUNS; nth++) {
		fake_iommu.fail_map = nth;
		KUNIT_ASSERT_EQ_MSG(test, -ENOMEM, attach(test, 0, &plain), "call %u", nth);
		expect_state(test, &before, "attach");
		expect_pins(test, 0, 11);
	}
	must_attach(test, 0, &plain);
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
}

/* The limit counts when memory is pinned, which may be long after MAP. */
static void first_iommu_group_minds_the_memlock_limit(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct cred *unprivileged = prepare_creds();
	struct fixture *fx = test->priv;
	int too_low[3], enough, mapped;
	const struct cred *old;
	struct state before;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	limit->rlim_cur = fx->locked_vm << PAGE_SHIFT;
	old = override_creds(unprivileged);
	mapped = map_low(test) ?: map_high(test);
	revert_creds(old);
	put_cred(unprivileged);
	before = state_of(test);
	for (i = 0; i < ARRAY_SIZE(too_low); i++) {
		static const unsigned int pages[] = { 0, LOW_PAGES, NPAGES - 1 };

		limit->rlim_cur = (fx->locked_vm + pages[i]) << PAGE_SHIFT;
		too_low[i] = attach(test, 0, &plain);
		expect_state(test, &before, "attach");
		expect_pins(test, 0, 0);
	}
	limit->rlim_cur = (fx->locked_vm + NPAGES) << PAGE_SHIFT;
	enough = attach(test, 0, &plain);
	*limit = old_limit;
	KUNIT_ASSERT_EQ(test, 0, mapped);
	for (i = 0; i < ARRAY_SIZE(too_low); i++)
		KUNIT_EXPECT_EQ_MSG(test, -ENOMEM, too_low[i], "limit %u", i);
	KUNIT_ASSERT_EQ(test, 0, enough);
	expect_contents(test, mock(0));
	expect_pins(test, NPAGES, NPAGES);
}

/* ---- dirty bitmaps ---- */

/* How many pages of the lower mapping its bitmap calls dirty. */
static unsigned int dirty_bits(struct kunit *test)
{
	struct vfio_type1_container *container = ((struct fixture *)test->priv)->container;

	return bitmap_weight(suite_mapping(container, LOW_IOVA)->dirty, LOW_PAGES);
}

/* Groups that may write anywhere are counted, until they show that they pin. */
static void groups_that_write_anywhere_are_counted(struct kunit *test)
{
	struct fixture *fx = test->priv;
	const unsigned int *nr = &fx->container->dirty_groups;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	KUNIT_EXPECT_EQ(test, *nr, 0U);
	must_attach(test, 0, &plain);
	must_attach(test, 1, &plain);
	must_attach(test, 2, &incoherent);
	KUNIT_EXPECT_EQ(test, *nr, 3U);
	map_both(test);
	pin(test, group(1), 5);
	KUNIT_EXPECT_EQ(test, *nr, 2U);
	detach(test, 1);
	KUNIT_EXPECT_EQ_MSG(test, *nr, 2U, "it was not counted any more");
	detach(test, 2);
	KUNIT_EXPECT_EQ(test, *nr, 1U);
	detach_emulated(test);
	KUNIT_EXPECT_EQ(test, *nr, 1U);
	/* Before the last group leaves, and the mappings with it. */
	unpin(fx);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, *nr, 0U);
}

/* What a group wrote stays dirty when it has left. */
static void group_that_leaves_has_dirtied_everything(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	pin(test, fx->emulated, 5);
	KUNIT_EXPECT_EQ(test, dirty_bits(test), 5U);
	must_attach(test, 0, &plain);
	pin(test, group(0), 5);
	detach(test, 0);
	KUNIT_EXPECT_EQ_MSG(test, dirty_bits(test), 5U, "it wrote only what it had pinned");
	must_attach(test, 0, &plain);
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, dirty_bits(test), (unsigned int)LOW_PAGES);
	/* Pinned twice. */
	vfio_external_unpin(fx->container, LOW_IOVA, 5);
}

/* A bitmap is made for the smallest page of its time. */
static void dirty_bitmap_is_void_when_the_smallest_page_changes(struct kunit *test)
{
	const struct vfio_dirty_request by_4k = { .pgsize = SZ_4K };
	struct fixture *fx = test->priv;
	u64 unmapped;

	must_attach(test, 0, &more_sizes);
	must_attach(test, 1, &large_pages);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	detach(test, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_dirty_get(fx->container, 0, SZ_4K, &by_4k));
	KUNIT_EXPECT_EQ(test, -EINVAL, vfio_unmap_dma(fx->container, 0, SZ_4K, false, &by_4k,
						      &unmapped));
	vfio_dirty_stop(fx->container);
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_EXPECT_EQ(test, 0, vfio_dirty_get(fx->container, 0, SZ_4K, &by_4k));
}

/* ---- what comes amid a MAP ---- */

struct amid_case;

/**
 * struct amid_event - what others do while a MAP waits for the last of its pages
 * @name: for people
 * @groups: how many are attached before, each in a domain of its own
 * @emulated: an emulated group is, too
 * @happens: what they do
 * @ret: what MAP returns
 * @domains: that the mapping is in afterwards
 */
struct amid_event {
	const char *name;
	unsigned int groups;
	bool emulated;
	void (*happens)(struct kunit *test);
	int ret;
	unsigned int domains;
};

/**
 * struct amid_case - a MAP of all pages, of which the last takes its time
 * @test: the case
 * @event: what happens then
 * @faults: the last page
 * @nr: how often it happened
 */
struct amid_case {
	struct kunit *test;
	const struct amid_event *event;
	struct user_faults faults;
	unsigned int nr;
};

static void amid_map(void *data)
{
	struct amid_case *amid = data;
	struct fixture *fx = amid->test->priv;
	unsigned int i, pinned = 0;

	amid->nr++;
	if (!down_write_trylock(&fx->container->lock)) {
		KUNIT_FAIL(amid->test, "%s: container->lock is held", amid->event->name);
		return;
	}
	up_write(&fx->container->lock);
	amid->event->happens(amid->test);
	/* What is pinned stays charged, whatever they did. */
	for (i = 0; i < NPAGES - 1; i++)
		pinned += page_ref_count(fx->pages[i]) > REFS_UNPINNED;
	KUNIT_EXPECT_GE_MSG(amid->test, user_locked_vm(), fx->locked_vm + pinned, "%s",
			    amid->event->name);
}

static void nothing_happens(struct kunit *test)
{
}

static void group_joins(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 0, attach(test, 1, &plain));
}

static void group_with_a_domain_comes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 0, attach(test, 1, &incoherent));
}

/* What is mapped so far, if anything is, cannot be put into its domain. */
static void group_does_not_stay(struct kunit *test)
{
	fake_iommu.fail_map = PROBE_CALLS + 1;
	if (!attach(test, 1, &incoherent))
		detach(test, 1);
	fake_iommu.fail_map = 0;
}

static void mapping_is_in_the_way(struct kunit *test)
{
	static const struct fake_traits cut = {
		.name = "cut", .pgsize_bitmap = SZ_4K, .incoherent = true,
		.regions = { { LOW_IOVA, SZ_4K, IOMMU_RESV_RESERVED } },
	};

	KUNIT_EXPECT_EQ(test, -EINVAL, attach(test, 1, &cut));
}

static void primary_goes(struct kunit *test)
{
	detach(test, 0);
}

static void primary_is_replaced(struct kunit *test)
{
	detach(test, 0);
	KUNIT_EXPECT_EQ(test, 0, attach(test, 0, &foreign));
}

static void tracking_starts(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_EXPECT_EQ(test, 0, vfio_dirty_start(fx->container));
}

static void bitmap_is_read(struct kunit *test)
{
	struct vfio_dirty_request request = { .pgsize = SZ_4K };
	struct fixture *fx = test->priv;

	tracking_starts(test);
	/* Nothing is mapped, nor cut, yet: user memory, which there is none of, is not touched. */
	KUNIT_EXPECT_EQ(test, 0, vfio_dirty_get(fx->container, LOW_IOVA, SZ_8K, &request));
	KUNIT_EXPECT_EQ(test, 0, vfio_dirty_get(fx->container, 0, SZ_1G, &request));
}

static void others_map(struct kunit *test)
{
	struct fixture *fx = test->priv;

	KUNIT_EXPECT_EQ(test, 0, map_bytes(test, HIGH_IOVA, fx->vaddr, SZ_4K, RW));
	must_unmap(test, HIGH_IOVA, SZ_4K);
}

static void container_is_closed(struct kunit *test)
{
	struct fixture *fx = test->priv;

	vfio_external_unregister(fx->container, &fx->device);
	vfio_container_destroy(fx->container);
}

static const struct amid_event amid_events[] = {
	{ "nothing", 1, false, nothing_happens, 0, 1 },
	{ "others map", 1, false, others_map, 0, 1 },
	{ "a group joins", 1, false, group_joins, 0, 1 },
	{ "a domain comes", 1, false, group_with_a_domain_comes, 0, 2 },
	{ "a domain does not stay", 1, false, group_does_not_stay, 0, 1 },
	{ "it is in the way", 1, false, mapping_is_in_the_way, 0, 1 },
	{ "the primary goes", 2, false, primary_goes, 0, 1 },
	{ "the primary is replaced", 2, false, primary_is_replaced, 0, 2 },
	{ "the only domain goes", 1, false, primary_goes, 0, 0 },
	{ "it goes, users stay", 1, true, primary_goes, 0, 0 },
	{ "it is replaced, users stay", 1, true, primary_is_replaced, 0, 1 },
	{ "tracking starts", 1, false, tracking_starts, 0, 1 },
	{ "the bitmap is read", 1, false, bitmap_is_read, 0, 1 },
	{ "it is closed", 1, false, container_is_closed, -ENODEV, 0 },
};

/* The mapping is whole in so many domains, and in nothing else; or there is none. */
static void expect_amid(struct kunit *test, const struct amid_event *event)
{
	unsigned int i, domains = 0, npages = event->domains ? NPAGES - 1 : 0;
	struct fixture *fx = test->priv;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &fx->container->domains, next) {
		struct mock_iommu *mock = fake_mock(domain->domain);

		domains++;
		KUNIT_EXPECT_STREQ(test, mock->violation, "");
		KUNIT_EXPECT_EQ_MSG(test, mock->nr_ptes, (unsigned int)NPAGES, "%s",
				    event->name);
		for (i = 0; i < npages; i++)
			KUNIT_EXPECT_EQ(test, page_to_phys(fx->pages[i]),
					iommu_iova_to_phys(&mock->domain,
							   LOW_IOVA + i * PAGE_SIZE));
	}
	KUNIT_EXPECT_EQ_MSG(test, domains, event->domains, "%s", event->name);
	for (i = 0; i < NPAGES - 1; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]),
				    REFS_UNPINNED + (npages ? GUP_PIN_COUNTING_BIAS : 0),
				    "%s: page %u", event->name, i);
	KUNIT_EXPECT_EQ_MSG(test, user_locked_vm(), fx->locked_vm + npages, "%s", event->name);
}

/*
 * MAP holds no lock while it waits for memory.  Whatever others do then, it is whole in
 * the end, in the domains that there are, and pinned and charged once.
 */
static void map_amid(struct kunit *test, const struct amid_event *event)
{
	struct amid_case amid = {
		.test = test, .event = event,
		.faults = {
			.pfn = MMIO_PFN, .missing = 1, .retry = true, .amid = amid_map,
			.data = &amid,
		},
	};
	struct vfio_type1_container *container;
	static const struct fake_traits *const traits[] = { &plain, &incoherent };
	struct fixture *fx = test->priv;
	unsigned int i;

	amid.faults.at = fx->vaddr + (NPAGES - 1) * PAGE_SIZE;
	if (event->emulated)
		KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	for (i = 0; i < event->groups; i++)
		must_attach(test, i, traits[i]);
	user_map_faults(test, &amid.faults, 1, PROT_READ | PROT_WRITE);
	container = fx->container;
	kref_get(&container->users);
	KUNIT_EXPECT_EQ_MSG(test, event->ret,
			    map_bytes(test, LOW_IOVA, fx->vaddr, NPAGES * PAGE_SIZE, RW), "%s",
			    event->name);
	KUNIT_EXPECT_EQ(test, amid.nr, 1U);
	expect_amid(test, event);
	if (!container->closed) {
		must_unmap(test, LOW_IOVA, NPAGES * PAGE_SIZE);
		vfio_dirty_stop(container);
		container_is_closed(test);
	}
	vfio_container_put(container);
	fx->container = vfio_container_create(true, false, false);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	vfio_external_register(fx->container, &fx->device);
	user_remap_page(test, amid.faults.at, fx->pages[NPAGES - 1], PROT_READ | PROT_WRITE);
	expect_pins(test, 0, 0);
}

/* A copy that waits for memory, of a mapping that somebody takes meanwhile, or nobody. */
struct late_copy {
	struct kunit *test;
	bool unmap;
	unsigned int nr;
};

static void amid_copy(void *data)
{
	struct late_copy *late = data;
	struct fixture *fx = late->test->priv;

	late->nr++;
	if (!down_write_trylock(&fx->container->lock)) {
		KUNIT_FAIL(late->test, "container->lock is held");
		return;
	}
	up_write(&fx->container->lock);
	KUNIT_EXPECT_FALSE(late->test, mutex_is_locked(&fx->container->external_lock));
	if (late->unmap)
		must_unmap(late->test, HIGH_IOVA, SZ_8K);
}

/* In-kernel users hold no lock while they wait for user memory, and copy what is mapped then. */
static void copy_waits_without_a_lock(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	for (i = 0; i < 4; i++) {
		struct late_copy late = { .test = test, .unmap = i & 1 };
		struct user_faults faults = {
			.pfn = page_to_pfn(fx->block), .missing = 2, .retry = true,
			.amid = amid_copy, .data = &late,
		};
		bool write = i & 2;
		char *at = (char *)page_address(fx->block) + PAGE_SIZE - 4, buf[8] = "copied.";
		unsigned long vaddr = user_map_faults(test, &faults, 2, PROT_READ | PROT_WRITE);

		memcpy(at, write ? "nothing" : "at hand", sizeof(buf));
		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, HIGH_IOVA, vaddr, SZ_8K, RW));
		KUNIT_EXPECT_EQ(test, late.unmap ? -EINVAL : 0,
				vfio_external_rw(fx->container, HIGH_IOVA + PAGE_SIZE - 4, buf,
						 sizeof(buf), write));
		KUNIT_EXPECT_EQ(test, late.nr, 1U);
		KUNIT_EXPECT_STREQ(test, write ? at : buf,
				   write ? (late.unmap ? "nothing" : "copied.") :
					   (late.unmap ? "copied." : "at hand"));
		if (!late.unmap)
			must_unmap(test, HIGH_IOVA, SZ_8K);
		user_unmap(vaddr, 2);
	}
	memset(page_address(fx->block), 0, 2 * PAGE_SIZE);
}

/* Nor do they while they wait for what they pin. */
static void pin_waits_without_a_lock(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	for (i = 0; i < 2; i++) {
		struct late_copy late = { .test = test, .unmap = i };
		struct user_faults faults = {
			.pfn = MMIO_PFN, .missing = 2, .retry = true, .amid = amid_copy,
			.data = &late,
		};
		unsigned long vaddr = user_map_faults(test, &faults, 2, PROT_READ | PROT_WRITE);

		KUNIT_ASSERT_EQ(test, 0, map_bytes(test, HIGH_IOVA, vaddr, SZ_8K, RW));
		/* It is not mapped any more, or not described by a struct page. */
		KUNIT_EXPECT_EQ(test, -EINVAL, vfio_external_pin(fx->container, fx->emulated,
								 HIGH_IOVA, 1, RW, &page));
		KUNIT_EXPECT_EQ(test, late.nr, 1U);
		if (!late.unmap)
			must_unmap(test, HIGH_IOVA, SZ_8K);
		user_unmap(vaddr, 2);
	}
}

/* Pages that nobody has touched come as they are pinned, some at a time. */
static void untouched_pages_are_pinned(struct kunit *test)
{
	struct page **pages = kunit_kcalloc(test, 100, sizeof(*pages), GFP_KERNEL);
	struct fixture *fx = test->priv;
	unsigned long vaddr;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, pages);
	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	vaddr = vm_mmap(NULL, 0, 100 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(vaddr));
	KUNIT_ASSERT_EQ(test, 0, map_bytes(test, HIGH_IOVA, vaddr, 40 * PAGE_SIZE, RW));
	KUNIT_ASSERT_EQ(test, 0, map_bytes(test, HIGH_IOVA + 40 * PAGE_SIZE,
					   vaddr + 40 * PAGE_SIZE, 60 * PAGE_SIZE, RW));
	KUNIT_ASSERT_EQ(test, 100, vfio_external_pin(fx->container, fx->emulated, HIGH_IOVA, 100,
						     RW, pages));
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 100);
	for (i = 0; i < 100; i++)
		KUNIT_EXPECT_GE(test, page_ref_count(pages[i]), GUP_PIN_COUNTING_BIAS);
	vfio_external_unpin(fx->container, HIGH_IOVA, 100);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	must_unmap(test, HIGH_IOVA, 100 * PAGE_SIZE);
	user_unmap(vaddr, 100);
}

static void map_waits_without_a_lock(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < 2 * ARRAY_SIZE(amid_events); i++) {
		/* Then each page is mapped by itself, before the next one is waited for. */
		vfio_type1_params.disable_hugepages = i % 2;
		map_amid(test, &amid_events[i / 2]);
	}
	vfio_type1_params.disable_hugepages = false;
}

static struct kunit_case attach_cases[] = {
	KUNIT_CASE(alike_group_joins_the_domain),
	KUNIT_CASE_PARAM(unlike_group_gets_a_domain_of_the_same_contents, unlike_gen_params),
	KUNIT_CASE_PARAM(group_joins_whichever_domain_is_alike, unlike_gen_params),
	KUNIT_CASE(coherency_is_that_of_all_domains),
	KUNIT_CASE(silent_iommu_is_not_coherent),
	KUNIT_CASE(probe_runs_after_coherency_and_leaves_nothing),
	KUNIT_CASE_PARAM(map_and_unmap_reach_both_domains, unlike_gen_params),
	KUNIT_CASE_PARAM(tables_of_a_new_domain_are_made_to_reach, unlike_gen_params),
	KUNIT_CASE_PARAM(map_failure_unwinds_both_domains, unlike_gen_params),
	KUNIT_CASE_PARAM(primary_domain_can_leave, unlike_gen_params),
	KUNIT_CASE_PARAM(second_domain_can_leave, unlike_gen_params),
	KUNIT_CASE(last_group_takes_the_mappings_along),
	KUNIT_CASE(what_the_last_group_takes_along_is_told),
	KUNIT_CASE(what_goes_with_a_process_is_not_told),
	KUNIT_CASE(who_refuses_a_group_is_asked_why),
	KUNIT_CASE(coherent_domains_need_no_flush),
	KUNIT_CASE(pages_are_flushed_for_who_snoops_not),
	KUNIT_CASE(what_is_mapped_is_flushed_for_a_new_domain),
	KUNIT_CASE(what_is_pinned_for_a_first_domain_is_flushed),
	KUNIT_CASE(what_a_failed_map_showed_is_flushed),
	KUNIT_CASE(registered_memory_is_flushed),
	KUNIT_CASE(flushing_can_be_switched_off),
	KUNIT_CASE(destroy_with_everything_attached),
	KUNIT_CASE(page_sizes_are_those_of_all_domains),
	KUNIT_CASE(smallest_page_is_that_of_all_domains),
	KUNIT_CASE(mappings_too_small_for_a_group_keep_it_out),
	KUNIT_CASE(page_sizes_must_have_one_in_common),
	KUNIT_CASE(valid_iova_is_what_all_groups_allow),
	KUNIT_CASE(each_cut_has_an_owner),
	KUNIT_CASE(cuts_are_described),
	KUNIT_CASE(all_iova_may_be_valid),
	KUNIT_CASE(map_minds_the_valid_iova),
	KUNIT_CASE(detach_without_memory_keeps_the_ranges),
	KUNIT_CASE(mappings_in_the_way_keep_a_group_out),
	KUNIT_CASE(mappings_in_the_way_keep_the_first_group_out),
	KUNIT_CASE(mappings_just_beside_let_a_group_in),
	KUNIT_CASE(group_can_be_attached_once),
	KUNIT_CASE(detach_of_a_stranger_does_nothing),
	KUNIT_CASE(group_without_devices_stays_out),
	KUNIT_CASE(nesting_is_for_all_domains),
	KUNIT_CASE(unsafe_interrupts_need_permission),
	KUNIT_CASE(isolated_interrupts_need_no_permission),
	KUNIT_CASE(no_attach_while_addresses_are_exchanged),
	KUNIT_CASE_PARAM(failed_replay_changes_nothing, unlike_gen_params),
	KUNIT_CASE_PARAM(failed_probe_does_not_keep_a_group_out, unlike_gen_params),
	KUNIT_CASE(failed_join_goes_back_or_changes_nothing),
	KUNIT_CASE_PARAM(failed_allocation_changes_nothing, unlike_gen_params),
	KUNIT_CASE(failed_allocation_of_regions_changes_nothing),
	KUNIT_CASE(killed_attach_changes_nothing),
	KUNIT_CASE(replay_of_a_hole_changes_nothing),
	KUNIT_CASE(failed_dirty_start_changes_nothing),
	KUNIT_CASE(failed_pin_changes_nothing),
	KUNIT_CASE(vaddr_and_detach_need_no_memory),
	KUNIT_CASE(addresses_are_taken_all_or_none),
	KUNIT_CASE(addresses_are_given_to_whole_mappings),
	KUNIT_CASE(addresses_stay_with_in_kernel_users),
	KUNIT_CASE(copies_go_through_the_mapping),
	KUNIT_CASE(copies_mind_mappings_and_protection),
	KUNIT_CASE(bad_pins_are_refused),
	KUNIT_CASE_PARAM(replay_copies_what_map_made_without_memory, unlike_gen_params),
	KUNIT_CASE(emulated_group_pins_only_what_it_uses),
	KUNIT_CASE(last_emulated_group_takes_the_mappings_along),
	KUNIT_CASE(other_emulated_group_keeps_the_mappings),
	KUNIT_CASE(group_may_leave_while_its_device_is_told),
	KUNIT_CASE(first_iommu_group_has_everything_pinned),
	KUNIT_CASE(last_domain_leaves_the_mappings_to_in_kernel_users),
	KUNIT_CASE(failed_first_iommu_group_unpins_everything),
	KUNIT_CASE(first_iommu_group_minds_the_memlock_limit),
	KUNIT_CASE(groups_that_write_anywhere_are_counted),
	KUNIT_CASE(group_that_leaves_has_dirtied_everything),
	KUNIT_CASE(dirty_bitmap_is_void_when_the_smallest_page_changes),
	KUNIT_CASE(map_waits_without_a_lock),
	KUNIT_CASE(copy_waits_without_a_lock),
	KUNIT_CASE(pin_waits_without_a_lock),
	KUNIT_CASE(untouched_pages_are_pinned),
	{}
};

SUITE("vfio_attach_detach", attach_cases,
	FAKE_IOMMU_SUITE, .init = attach_case_init, .exit = attach_case_exit);
