// SPDX-License-Identifier: GPL-2.0-only
/*
 * What comes while a MAP, a copy or a pin waits for user memory.
 */

#include <linux/bitmap.h>
#include <linux/mman.h>

#include "attach_fixture.h"
#include "user_mem.h"

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
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	vfio_external_register(fx->container, &fx->device);
	user_remap_page(test, amid.faults.at, fx->pages[NPAGES - 1], PROT_READ | PROT_WRITE);
	expect_iommu_pins(test, 0, 0);
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
		KUNIT_EXPECT_EQ(test, -EINVAL, call_external_pin(fx->container, fx->emulated,
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
	KUNIT_ASSERT_EQ(test, 100, call_external_pin(fx->container, fx->emulated, HIGH_IOVA, 100,
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

static struct kunit_case attach_amid_cases[] = {
	KUNIT_CASE(map_waits_without_a_lock),
	KUNIT_CASE(copy_waits_without_a_lock),
	KUNIT_CASE(pin_waits_without_a_lock),
	KUNIT_CASE(untouched_pages_are_pinned),
	{}
};

SUITE("vfio_attach_amid", attach_amid_cases, ATTACH_SUITE);
