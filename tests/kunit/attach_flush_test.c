// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups that do not snoop the CPU's caches: what is flushed for them.
 */

#include "attach_fixture.h"
#include "fake_cache.h"
#include "user_mem.h"

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

static struct kunit_case attach_flush_cases[] = {
	KUNIT_CASE(coherent_domains_need_no_flush),
	KUNIT_CASE(pages_are_flushed_for_who_snoops_not),
	KUNIT_CASE(what_is_mapped_is_flushed_for_a_new_domain),
	KUNIT_CASE(what_is_pinned_for_a_first_domain_is_flushed),
	KUNIT_CASE(what_a_failed_map_showed_is_flushed),
	KUNIT_CASE(registered_memory_is_flushed),
	KUNIT_CASE(flushing_can_be_switched_off),
	{}
};

SUITE("vfio_attach_flush", attach_flush_cases, ATTACH_SUITE);
