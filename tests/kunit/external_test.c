// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users: what they pin, count and copy, and how they let go.
 *
 * Memory is a block of pages; the first half of it is mapped as LOW, for reading and
 * writing, the second as HIGH, right behind it in IOVA, for reading only. There is no
 * IOMMU, unless a case adds one, so that nothing is pinned but what a case asks for.
 */

#include <linux/cred.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/prandom.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vfio.h>

#include "klog.h"
#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16

#define NPAGES		64U
#define LOW_PAGES	32U
#define LOW_IOVA	((u64)SZ_1M)
#define LOW_SIZE	(LOW_PAGES * PAGE_SIZE)
#define HIGH_IOVA	(LOW_IOVA + LOW_SIZE)
#define BEHIND		(LOW_IOVA + NPAGES * PAGE_SIZE)

static const struct mock_flavour small_pages = { "4K only", PAGE_SIZE, false, false };

/**
 * struct fixture - what each case starts with
 * @container: v2
 * @domain: not in the container, see add_iommu()
 * @mock: its page table, if it is
 * @group: an emulated group, which is attached
 * @device: its device, which is registered
 * @dev: what gives it a name
 * @told: how often it was told of an unmap
 * @patience: how often it wants to be told before it unpins
 * @until: it does not unpin before this time (jiffies), if not 0
 * @pinned: pages it has pinned from LOW_IOVA on
 * @block: memory
 * @pages: NPAGES of it
 * @vaddr: where they are
 * @hole: page whose place in the user mapping was taken, or NULL
 * @locked_vm: before anything was charged
 * @result: what @device saw when it tried something as it was told
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain;
	struct mock_iommu *mock;
	struct iommu_group *group;
	struct vfio_device device;
	struct device dev;
	unsigned int told;
	unsigned int patience;
	unsigned long until;
	unsigned int pinned;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	struct page *hole;
	unsigned long locked_vm;
	int result[2];
};

static int pin_at(struct fixture *fx, u64 iova, int npages, int prot, struct page **pages)
{
	return vfio_external_pin(fx->container, fx->group, iova, npages, prot, pages);
}

static int copy_at(struct fixture *fx, u64 iova, void *data, size_t count, bool write)
{
	return vfio_external_rw(fx->container, iova, data, count, write);
}

/* Tries to pin and copy, in vain, and unpins if it was told often enough. */
static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
	struct fixture *fx = container_of(device, struct fixture, device);
	struct page *page;
	char byte;

	fx->told++;
	fx->result[0] = pin_at(fx, LOW_IOVA + fx->pinned * PAGE_SIZE, 1, RW, &page);
	fx->result[1] = copy_at(fx, LOW_IOVA, &byte, 1, false);
	if (fx->told >= fx->patience && (!fx->until || time_after(jiffies, fx->until))) {
		vfio_external_unpin(fx->container, LOW_IOVA, fx->pinned);
		fx->pinned = 0;
	}
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

/* A driver that only copies has no need to be told. */
static const struct vfio_device_ops deaf_ops = {};

static int map_pages(struct fixture *fx, u64 iova, unsigned int first, unsigned int npages,
		     int prot)
{
	return vfio_map_dma(fx->container, iova, fx->vaddr + first * PAGE_SIZE,
			    npages * PAGE_SIZE, prot, false);
}

static void must_unmap_only(struct kunit *test, u64 iova, u64 size, u64 want)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, vfio_unmap_dma(fx->container, iova, size, !size, NULL,
						&unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, want);
}

static void must_unmap(struct kunit *test, u64 iova, u64 size)
{
	must_unmap_only(test, iova, size, size);
}

static void new_container(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fx->container = vfio_container_create(true, false, false);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container, fx->group));
	vfio_external_register(fx->container, &fx->device);
}

static int external_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	suite_set_params(ENTRIES);
	fx->group = iommu_group_alloc();
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->group));
	fx->device.ops = &device_ops;
	fx->dev.init_name = "late-device";
	fx->device.dev = &fx->dev;
	test->priv = fx;
	new_container(test);
	fx->patience = 1;
	fx->block = user_block_alloc(test);
	for (i = 0; i < NPAGES; i++)
		fx->pages[i] = fx->block + NPAGES - 1 - i;
	fx->vaddr = user_map_pages(test, fx->pages, NPAGES, PROT_READ | PROT_WRITE);
	fx->locked_vm = user_locked_vm();
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, HIGH_IOVA, LOW_PAGES, LOW_PAGES, IOMMU_READ));
	return 0;
}

/* Let an IOMMU in, as attaching a group would. */
static void add_iommu(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fx->mock = mock_iommu_create(test, &small_pages);
	mock_iommu_join(test, fx->mock, &fx->domain, fx->container);
}

static void external_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	vfio_external_unregister(fx->container, &fx->device);
	mock_iommu_release(fx->container);
	if (fx->mock)
		mock_iommu_destroy(fx->mock);
	iommu_group_put(fx->group);
	user_expect_unpinned(test, fx->pages, NPAGES);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	user_unmap(fx->vaddr, NPAGES);
	if (fx->hole)
		put_page(fx->hole);
	user_block_free(fx->block);
	user_mem_detach();
}

/* Where page @nr was, there is nothing any more. Its reference is kept. */
static void make_hole(struct fixture *fx, unsigned int nr)
{
	fx->hole = fx->pages[nr];
	get_page(fx->hole);
	user_unmap(fx->vaddr + nr * PAGE_SIZE, 1);
}

static struct vfio_dma *low(struct fixture *fx)
{
	return rb_entry(rb_first(&fx->container->tree.root), struct vfio_dma, node);
}

/* Of the memory's pages, those from @first up to @end are pinned, and so many are charged. */
static void expect_pins(struct kunit *test, unsigned int first, unsigned int end,
			unsigned int charged)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED +
				    (i >= first && i < end ? GUP_PIN_COUNTING_BIAS : 0),
				    "page %u", i);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + charged);
}

/* ---- pinning ---- */

/* A page is pinned and charged once, however often it is asked for. */
static void page_stays_until_its_last_unpin(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[4];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		memset(pages, 0, sizeof(pages));
		KUNIT_ASSERT_EQ(test, 4, pin_at(fx, LOW_IOVA + PAGE_SIZE, 4, RW, pages));
		KUNIT_EXPECT_EQ(test, memcmp(pages, &fx->pages[1], sizeof(pages)), 0);
		expect_pins(test, 1, 5, 4);
	}
	for (i = 0; i < 2; i++) {
		vfio_external_unpin(fx->container, LOW_IOVA + PAGE_SIZE, 4);
		expect_pins(test, 1, 5, 4);
	}
	vfio_external_unpin(fx->container, LOW_IOVA + PAGE_SIZE, 4);
	expect_pins(test, 0, 0, 0);
	/* Once too often, or never pinned: a driver's mistake costs nobody anything. */
	vfio_external_unpin(fx->container, LOW_IOVA, 6);
	expect_pins(test, 0, 0, 0);
}

/* Pages of several mappings in one call; what the mappings allow is minded. */
static void pins_cross_mappings(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, HIGH_IOVA - 4 * PAGE_SIZE, 8, IOMMU_READ, pages));
	KUNIT_EXPECT_EQ(test, memcmp(pages, &fx->pages[LOW_PAGES - 4], sizeof(pages)), 0);
	expect_pins(test, LOW_PAGES - 4, LOW_PAGES + 4, 8);
	vfio_external_unpin(fx->container, HIGH_IOVA - 4 * PAGE_SIZE, 8);
	expect_pins(test, 0, 0, 0);
}

/*
 * Drivers pass the address of what they want, which may be anywhere in its page: that page
 * is what is pinned, counted, dirty and unpinned.
 */
static void an_offset_into_a_page_means_the_page(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 last = HIGH_IOVA - PAGE_SIZE;
	struct page *pages[2];
	u64 dirty[3];

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, LOW_IOVA + 0x10, 1, RW, pages));
	KUNIT_EXPECT_PTR_EQ(test, pages[0], fx->pages[0]);
	dirty[0] = *low(fx)->dirty;
	/* The same page by another address, or by all of it, is no other pin. */
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, LOW_IOVA + 0xff8, 1, RW, pages));
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, LOW_IOVA, 1, RW, pages));
	expect_pins(test, 0, 1, 1);
	vfio_external_unpin(fx->container, LOW_IOVA + 0x20, 1);
	vfio_external_unpin(fx->container, LOW_IOVA, 1);
	expect_pins(test, 0, 1, 1);
	vfio_external_unpin(fx->container, LOW_IOVA + 0xfff, 1);
	expect_pins(test, 0, 0, 0);

	/* In the last page; and two pages from there, of which one is the next mapping's. */
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, last + 0x10, 1, RW, pages));
	dirty[1] = *low(fx)->dirty;
	KUNIT_ASSERT_EQ(test, 2, pin_at(fx, last + 0x10, 2, IOMMU_READ, pages));
	KUNIT_EXPECT_EQ(test, memcmp(pages, &fx->pages[LOW_PAGES - 1], sizeof(pages)), 0);
	dirty[2] = *low(fx)->dirty;
	expect_pins(test, LOW_PAGES - 1, LOW_PAGES + 1, 2);
	vfio_external_unpin(fx->container, last + 0x30, 2);
	vfio_external_unpin(fx->container, last, 1);
	expect_pins(test, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, dirty[0], BIT_ULL(0));
	KUNIT_EXPECT_EQ(test, dirty[1], BIT_ULL(0) | BIT_ULL(LOW_PAGES - 1));
	KUNIT_EXPECT_EQ(test, dirty[2], dirty[1]);
}

/* A bitmap that has no bit to spare is not written behind. */
static void an_offset_into_the_last_page_stays_in_its_bitmap(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long dirty;
	struct page *page;

	must_unmap(test, HIGH_IOVA, LOW_SIZE);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, NPAGES, RW));
	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, BEHIND - PAGE_SIZE + 0x10, 1, RW, &page));
	dirty = *low(fx)->dirty;
	vfio_external_unpin(fx->container, BEHIND - PAGE_SIZE + 0x10, 1);
	KUNIT_EXPECT_EQ(test, dirty, BIT(NPAGES - 1));
	/* Up to the end of the address space, which is no range that wraps around. */
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, U64_MAX - 0xf, 1, RW, &page));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW, pin_at(fx, U64_MAX - 0xf, 2, RW, &page));
}

/* If one page cannot be had, none is, and the caller is left no pointers. */
static void pins_are_all_or_none(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8], *kept;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, HIGH_IOVA - PAGE_SIZE, 1, RW, &kept));
	memset(pages, 0xff, sizeof(pages));
	KUNIT_EXPECT_EQ(test, -EPERM, pin_at(fx, HIGH_IOVA - 4 * PAGE_SIZE, 8, RW, pages));
	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_NULL(test, pages[i]);
	/* Pinned before, it stays so. */
	expect_pins(test, LOW_PAGES - 1, LOW_PAGES, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, BEHIND - PAGE_SIZE, 2, IOMMU_READ, pages));
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA - PAGE_SIZE, 2, IOMMU_READ, pages));
	expect_pins(test, LOW_PAGES - 1, LOW_PAGES, 1);
	vfio_external_unpin(fx->container, HIGH_IOVA - PAGE_SIZE, 1);
}

/* Memory that is gone, and who must not ask. */
static void pins_that_cannot_be_had(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	fx->container->v2 = false;
	KUNIT_EXPECT_EQ(test, -EACCES, pin_at(fx, LOW_IOVA, 1, RW, pages));
	fx->container->v2 = true;
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA, -1, RW, pages));
	make_hole(fx, 3);
	KUNIT_EXPECT_EQ(test, -EFAULT, pin_at(fx, LOW_IOVA, 8, RW, pages));
	expect_pins(test, 0, 0, 0);
	/* Where it is, no struct page describes it. */
	user_map_pfns(test, fx->vaddr + 3 * PAGE_SIZE, MMIO_PFN, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA, 8, RW, pages));
	expect_pins(test, 0, 0, 0);
}

/* Reserved pages are handed out, but belong to nobody: no pin, no charge, no refund. */
static void reserved_pages_are_not_charged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	make_hole(fx, 3);
	SetPageReserved(fx->hole);
	user_map_pfns(test, fx->vaddr + 3 * PAGE_SIZE, page_to_pfn(fx->pages[3]), 1);
	KUNIT_EXPECT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	KUNIT_EXPECT_PTR_EQ(test, pages[3], fx->pages[3]);
	KUNIT_EXPECT_EQ(test, page_ref_count(fx->pages[3]), REFS_UNPINNED);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + 7);
	KUNIT_EXPECT_EQ(test, vfio_external_count(low(fx), LOW_IOVA, 8), 7UL);
	vfio_external_unpin(fx->container, LOW_IOVA, 8);
	expect_pins(test, 0, 0, 0);
	user_unmap(fx->vaddr + 3 * PAGE_SIZE, 1);
	ClearPageReserved(fx->hole);
}

/* In an ordinary area they are pinned all the same, also if the mapping goes first. */
static void reserved_pages_are_unpinned_if_they_were_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	SetPageReserved(fx->pages[3]);
	SetPageReserved(fx->pages[7]);
	KUNIT_EXPECT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	KUNIT_EXPECT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	KUNIT_EXPECT_PTR_EQ(test, pages[3], fx->pages[3]);
	expect_pins(test, 0, 8, 6);
	KUNIT_EXPECT_EQ(test, vfio_external_count(low(fx), LOW_IOVA, 8), 6UL);
	vfio_external_unpin(fx->container, LOW_IOVA, 8);
	expect_pins(test, 0, 8, 6);
	vfio_external_unpin(fx->container, LOW_IOVA, 7);
	expect_pins(test, 7, 8, 0);
	/* What it is told to unpin: of these only the last one is pinned. */
	fx->pinned = 8;
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_pins(test, 0, 0, 0);
	ClearPageReserved(fx->pages[3]);
	ClearPageReserved(fx->pages[7]);
}

/* RLIMIT_MEMLOCK is exact to the page, also here. */
static void pins_mind_the_memlock_limit(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct fixture *fx = test->priv;
	struct page *pages[8];
	int too_low, enough, more;
	bool lock_cap = low(fx)->owner.lock_cap;
	struct klog *log = kunit_kzalloc(test, sizeof(*log), GFP_KERNEL);
	char want[160];

	KUNIT_ASSERT_NOT_NULL(test, log);
	klog_begin(log);

	/* As if MAP had been called without CAP_IPC_LOCK. */
	low(fx)->owner.lock_cap = false;
	limit->rlim_cur = (fx->locked_vm + 7) << PAGE_SHIFT;
	too_low = pin_at(fx, LOW_IOVA, 8, RW, pages);
	limit->rlim_cur = (fx->locked_vm + 8) << PAGE_SHIFT;
	enough = pin_at(fx, LOW_IOVA, 8, RW, pages);
	more = pin_at(fx, LOW_IOVA + 8 * PAGE_SIZE, 1, RW, pages);
	*limit = old_limit;
	low(fx)->owner.lock_cap = lock_cap;
	KUNIT_EXPECT_EQ(test, too_low, -ENOMEM);
	KUNIT_EXPECT_EQ(test, enough, 8);
	KUNIT_EXPECT_EQ(test, more, -ENOMEM);
	/* Told is what all that is mapped needs, for one page more would be refused next. */
	snprintf(want, sizeof(want),
		 "locked %lu KiB, up to %lu KiB more needed; raise the limit to %lu KiB ",
		 (fx->locked_vm + 8) * 4, (NPAGES - 8) * 4UL, (fx->locked_vm + NPAGES) * 4);
	KUNIT_EXPECT_EQ_MSG(test, klog_count(log, want), 1U, "%s", want);
	expect_pins(test, 0, 8, 8);
	vfio_external_unpin(fx->container, LOW_IOVA, 8);
}

/* No limit is high enough for less than nothing: to raise it is no advice. */
static void a_charge_below_zero_is_called_so(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct fixture *fx = test->priv;
	struct mm_struct *mm = low(fx)->owner.mm;
	struct klog *log = kunit_kzalloc(test, sizeof(*log), GFP_KERNEL);
	unsigned long locked_vm = mm->locked_vm;
	bool lock_cap = low(fx)->owner.lock_cap;
	struct page *page;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, log);
	klog_begin(log);
	low(fx)->owner.lock_cap = false;
	limit->rlim_cur = SZ_1M;
	mm->locked_vm = -100UL;
	ret = pin_at(fx, LOW_IOVA, 1, RW, &page);
	mm->locked_vm = locked_vm;
	*limit = old_limit;
	low(fx)->owner.lock_cap = lock_cap;
	KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
	KUNIT_EXPECT_EQ(test, klog_count(log, "counted as less than nothing, -100 pages: "), 1U);
}

/* What a driver in the kernel is refused is told, and counted, once. */
static void each_refusal_of_a_pin_is_told(struct kunit *test)
{
	static const struct {
		u64 iova;
		int prot, ret;
		const char *text;
	} pins[] = {
		{ BEHIND, RW, -EINVAL, ": nothing is mapped there: error -22" },
		{ HIGH_IOVA, RW, -EPERM, ": its mapping does not allow that access: error -1" },
	};
	struct fixture *fx = test->priv;
	atomic_long_t *refused = &fx->container->refused[VFIO_REFUSE_PIN];
	struct klog *log = kunit_kzalloc(test, sizeof(*log), GFP_KERNEL);
	char want[128], byte;
	struct page *page;
	unsigned int i;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, log);
	/* Other cases may have used up what all containers may say of this reason. */
	schedule_timeout_uninterruptible(DEFAULT_RATELIMIT_INTERVAL + 1);
	klog_begin(log);
	for (i = 0; i < ARRAY_SIZE(pins); i++) {
		KUNIT_EXPECT_EQ(test, pins[i].ret,
				pin_at(fx, pins[i].iova, 1, pins[i].prot, &page));
		snprintf(want, sizeof(want), "pin_pages iova 0x%llx%s", pins[i].iova, pins[i].text);
		KUNIT_EXPECT_EQ_MSG(test, klog_count(log, want), 1U, "%s", want);
		KUNIT_EXPECT_EQ(test, atomic_long_read(refused), 2 * i + 1L);

		ret = copy_at(fx, pins[i].iova, &byte, 1, true);
		KUNIT_EXPECT_EQ(test, ret, pins[i].ret);
		snprintf(want, sizeof(want), "dma_rw iova 0x%llx%s", pins[i].iova, pins[i].text);
		KUNIT_EXPECT_EQ_MSG(test, klog_count(log, want), 1U, "%s", want);
		KUNIT_EXPECT_EQ(test, atomic_long_read(refused), 2 * i + 2L);
	}

	vfio_external_unregister(fx->container, &fx->device);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA, 1, RW, &page));
	KUNIT_EXPECT_EQ(test, klog_count(log, ": no device of the container wants to be told"), 1U);
	vfio_external_register(fx->container, &fx->device);
}

/* Whatever is pinned, in any order, each range counts what is pinned in it. */
static void count_is_that_of_the_range(struct kunit *test)
{
	DECLARE_BITMAP(pinned, LOW_PAGES) = {};
	struct fixture *fx = test->priv;
	unsigned int round, from, to, i;
	struct page *page;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 3);
	for (round = 0; round < 60; round++) {
		i = prandom_u32_state(&rnd) % LOW_PAGES;
		if (test_and_change_bit(i, pinned))
			vfio_external_unpin(fx->container, LOW_IOVA + i * PAGE_SIZE, 1);
		else
			KUNIT_ASSERT_EQ(test, 1, pin_at(fx, LOW_IOVA + i * PAGE_SIZE, 1, RW,
							&page));
		for (from = 0; from < LOW_PAGES; from++) {
			unsigned long count = 0;

			for (to = from; to < LOW_PAGES; to++) {
				count += test_bit(to, pinned);
				KUNIT_ASSERT_EQ_MSG(test, count,
						    vfio_external_count(low(fx), LOW_IOVA +
									from * PAGE_SIZE,
									to - from + 1),
						    "pages %u to %u", from, to);
			}
		}
	}
	for_each_set_bit(i, pinned, LOW_PAGES)
		vfio_external_unpin(fx->container, LOW_IOVA + i * PAGE_SIZE, 1);
}

/* While addresses are exchanged nobody pins or copies; then it goes on. */
static void nobody_pins_while_addresses_are_exchanged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	char byte = 0;
	u64 size;

	vfio_container_detach(fx->container, fx->group);
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_invalidate(fx->container, LOW_IOVA, LOW_SIZE, false,
						       &size));
	KUNIT_EXPECT_EQ(test, -EBUSY, pin_at(fx, LOW_IOVA, 1, RW, &page));
	KUNIT_EXPECT_EQ(test, -EBUSY, copy_at(fx, LOW_IOVA, &byte, 1, true));
	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_update(fx->container, LOW_IOVA, fx->vaddr, LOW_SIZE));
	KUNIT_EXPECT_EQ(test, 0, copy_at(fx, LOW_IOVA, &byte, 1, true));
	KUNIT_EXPECT_EQ(test, 1, pin_at(fx, LOW_IOVA, 1, RW, &page));
	vfio_external_unpin(fx->container, LOW_IOVA, 1);
}

/* ---- copying ---- */

/* From one mapping into the next; up to where it may be written. */
static void copies_cross_mappings(struct kunit *test)
{
	u8 *out = kunit_kmalloc(test, 3 * PAGE_SIZE, GFP_KERNEL);
	u8 *in = kunit_kzalloc(test, 3 * PAGE_SIZE, GFP_KERNEL);
	u64 at = HIGH_IOVA - PAGE_SIZE - 100;
	struct fixture *fx = test->priv;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, out);
	KUNIT_ASSERT_NOT_NULL(test, in);
	for (i = 0; i < 3 * PAGE_SIZE; i++)
		out[i] = i * 7 + i / 256;
	KUNIT_EXPECT_EQ(test, 0, copy_at(fx, at, out, 0, true));
	KUNIT_EXPECT_EQ(test, -EPERM, copy_at(fx, at, out, 3 * PAGE_SIZE, true));
	KUNIT_EXPECT_EQ(test, 0, copy_at(fx, at, in, 3 * PAGE_SIZE, false));
	KUNIT_EXPECT_EQ(test, memcmp(in, out, PAGE_SIZE + 100), 0);
	/* Nothing was written where that is not allowed. */
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(in + PAGE_SIZE + 100, 0, 2 * PAGE_SIZE - 100), NULL);
}

/* A kernel thread borrows the memory, and has none afterwards. */
static void kernel_threads_copy_as_the_owner(struct kunit *test)
{
	struct fixture *fx = test->priv;
	char out[] = "in-kernel user", in[sizeof(out)] = {};
	struct mm_struct *mm;
	int written, read;

	user_mem_return();
	written = copy_at(fx, LOW_IOVA + 5, out, sizeof(out), true);
	read = copy_at(fx, LOW_IOVA + 5, in, sizeof(in), false);
	mm = current->mm;
	user_mem_borrow();
	KUNIT_EXPECT_NULL(test, mm);
	KUNIT_EXPECT_EQ(test, written, 0);
	KUNIT_EXPECT_EQ(test, read, 0);
	KUNIT_EXPECT_STREQ(test, in, out);
	KUNIT_EXPECT_STREQ(test, page_address(fx->pages[0]) + 5, out);
}

/* ---- eviction ---- */

/* Who is told of an unmap can't pin or copy there any more, and may take its time. */
static void devices_are_told_until_they_unpin(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	fx->patience = 10;
	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_EXPECT_EQ(test, fx->told, 10U);
	KUNIT_EXPECT_EQ(test, fx->result[0], -EINVAL);
	KUNIT_EXPECT_EQ(test, fx->result[1], -EINVAL);
	expect_pins(test, 0, 0, 0);
	/* Nothing is pinned there: nobody needs to know. */
	must_unmap(test, HIGH_IOVA, LOW_SIZE);
	KUNIT_EXPECT_EQ(test, fx->told, 10U);
}

/* A device that does not want to hear is not told, and does not make pinning possible. */
static void devices_without_dma_unmap_are_not_told(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_device *deaf = kunit_kzalloc(test, sizeof(*deaf), GFP_KERNEL);
	struct page *pages[8];

	KUNIT_ASSERT_NOT_NULL(test, deaf);
	deaf->ops = &deaf_ops;
	vfio_external_register(fx->container, deaf);
	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_EXPECT_EQ(test, fx->told, 1U);
	vfio_external_unregister(fx->container, &fx->device);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, HIGH_IOVA, 1, IOMMU_READ, pages));
	vfio_external_unregister(fx->container, deaf);
	vfio_external_register(fx->container, &fx->device);
}

/* What is charged for pins is not charged by MAP again, nor refunded by UNMAP too early. */
static void pins_and_mappings_share_their_charge(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long charged;
	struct page *pages[8];
	int filled[2];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA + 3 * PAGE_SIZE, 8, RW, pages));
	expect_pins(test, 3, 11, 8);
	add_iommu(test);
	/* As attach and detach do with each mapping. */
	down_write(&fx->container->lock);
	filled[0] = vfio_map_fill(fx->container, low(fx));
	charged = user_locked_vm();
	vfio_unmap_empty(fx->container, low(fx));
	up_write(&fx->container->lock);
	KUNIT_ASSERT_EQ(test, filled[0], 0);
	KUNIT_EXPECT_EQ(test, charged, fx->locked_vm + LOW_PAGES);
	expect_pins(test, 3, 11, 8);

	down_write(&fx->container->lock);
	filled[1] = vfio_map_fill(fx->container, low(fx));
	up_write(&fx->container->lock);
	KUNIT_ASSERT_EQ(test, filled[1], 0);
	/* With an IOMMU the charge of a page is the mapping's. */
	vfio_external_unpin(fx->container, LOW_IOVA + 3 * PAGE_SIZE, 8);
	expect_pins(test, 0, LOW_PAGES, LOW_PAGES);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_pins(test, 0, 0, 0);
}

/* At the limit, too: what in-kernel users have pinned needs no more room. */
static void pins_need_no_room_twice(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	bool lock_cap = low(test->priv)->owner.lock_cap;
	struct fixture *fx = test->priv;
	int filled[3], i;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA + 3 * PAGE_SIZE, 8, RW, pages));
	add_iommu(test);
	low(fx)->owner.lock_cap = false;
	for (i = 0; i < 3; i++) {
		static const unsigned int room[] = { 0, LOW_PAGES - 1, LOW_PAGES };

		limit->rlim_cur = (fx->locked_vm + room[i]) << PAGE_SHIFT;
		down_write(&fx->container->lock);
		filled[i] = vfio_map_fill(fx->container, low(fx));
		up_write(&fx->container->lock);
		KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm +
				(filled[i] ? 8 : LOW_PAGES));
	}
	*limit = old_limit;
	low(fx)->owner.lock_cap = lock_cap;
	KUNIT_EXPECT_EQ(test, filled[0], -ENOMEM);
	KUNIT_EXPECT_EQ(test, filled[1], -ENOMEM);
	KUNIT_EXPECT_EQ(test, filled[2], 0);
	vfio_external_unpin(fx->container, LOW_IOVA + 3 * PAGE_SIZE, 8);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_pins(test, 0, 0, 0);
}

/* ---- who waits for a MAP under way ---- */

/*
 * A request in a thread of its own: to MAP, or what an in-kernel user wants meanwhile; to
 * UNMAP all, or to UNMAP all while killed.
 */
struct request {
	struct fixture *fx;
	enum { MAP, PIN, COPY, UNMAP, UNMAP_KILLED } what;
	struct user_call thread;
	u64 unmapped;
	int ret;
};

#define NEW_IOVA	((u64)SZ_1G)

static int request_call(void *data)
{
	struct request *r = data;
	struct vfio_type1_container *container = r->fx->container;
	struct page *page;
	char byte;

	if (r->what >= UNMAP)
		r->ret = vfio_unmap_dma(container, 0, 0, true, NULL, &r->unmapped);
	else if (r->what == MAP)
		r->ret = map_pages(r->fx, NEW_IOVA, 0, 4, RW);
	else if (r->what == PIN)
		r->ret = pin_at(r->fx, NEW_IOVA, 1, RW, &page);
	else
		r->ret = copy_at(r->fx, NEW_IOVA, &byte, 1, false);
	return r->ret;
}

static void start(struct kunit *test, struct request *r)
{
	r->fx = test->priv;
	r->thread = (struct user_call) {
		.call = request_call, .data = r, .killed = r->what == UNMAP_KILLED,
	};
	user_call_start(test, &r->thread);
}

/* Returns whether it still waits. */
static bool waits(struct request *r)
{
	return user_call_waits(&r->thread);
}

static void finish(struct request *r)
{
	wait_for_completion(&r->thread.done);
	kthread_stop(r->thread.task);
}

/*
 * A mapping that is being made is not there in part: who wants it waits, and if killed
 * goes without; in the end all have it, or none if it failed.
 */
static void in_kernel_users_wait_for_a_map_under_way(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int round;

	add_iommu(test);
	for (round = 0; round < 2; round++) {
		struct request map = { .what = MAP }, others[] = {
			{ .what = PIN }, { .what = COPY }, { .what = PIN }, { .what = COPY },
		};
		bool fails = round, waited = true;
		struct completion gate;
		unsigned int i;

		init_completion(&gate);
		fx->mock->gate = &gate;
		fx->mock->fail_map = fails;
		start(test, &map);
		wait_for_completion(&fx->mock->entered);
		for (i = 0; i < ARRAY_SIZE(others); i++)
			start(test, &others[i]);
		for (i = 0; i < ARRAY_SIZE(others); i++)
			waited &= waits(&others[i]);
		for (i = 2; i < ARRAY_SIZE(others) && waited; i++) {
			send_sig(SIGKILL, others[i].thread.task, 1);
			finish(&others[i]);
			KUNIT_EXPECT_EQ(test, others[i].ret, -EINTR);
		}
		complete(&gate);
		finish(&map);
		KUNIT_EXPECT_EQ(test, map.ret, fails ? -ENOMEM : 0);
		KUNIT_ASSERT_TRUE(test, waited);
		finish(&others[0]);
		finish(&others[1]);
		KUNIT_EXPECT_EQ(test, others[0].ret, fails ? -EINVAL : 1);
		KUNIT_EXPECT_EQ(test, others[1].ret, fails ? -EINVAL : 0);
		if (!fails) {
			vfio_external_unpin(fx->container, NEW_IOVA, 1);
			must_unmap(test, NEW_IOVA, 4 * PAGE_SIZE);
		}
	}
}

/* ---- what is not unpinned ---- */

#define LATE_FIRST	5U
#define LATE_PAGES	3U
#define LATE_IOVA	(LOW_IOVA + LATE_FIRST * PAGE_SIZE)

static struct vfio_dma *kept(struct fixture *fx)
{
	struct vfio_dma *dma;

	spin_lock(&fx->container->tree.lock);
	dma = vfio_dma_tree_first_kept(&fx->container->tree, 0, U64_MAX);
	spin_unlock(&fx->container->tree.lock);
	return dma;
}

/* The device pins three pages of LOW, and does not unpin when told. */
static void pin_for_good(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[LATE_PAGES];

	fx->container->evict_waits = 2;
	fx->patience = UINT_MAX;
	KUNIT_ASSERT_EQ(test, (int)LATE_PAGES, pin_at(fx, LATE_IOVA, LATE_PAGES, RW, pages));
}

/* LOW is not mapped, and none of it can be, while all that is beside it can. */
static void expect_kept(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	char byte;

	KUNIT_EXPECT_NOT_NULL(test, kept(fx));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, LOW_IOVA, 40, 1, RW));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, HIGH_IOVA - PAGE_SIZE, 40, 1, RW));
	KUNIT_EXPECT_EQ(test, -EBUSY, map_pages(fx, LOW_IOVA - PAGE_SIZE, 40, 2, RW));
	/* What is mapped is the better answer. */
	KUNIT_EXPECT_EQ(test, -EEXIST, map_pages(fx, HIGH_IOVA - PAGE_SIZE, 40, 2, RW));
	KUNIT_EXPECT_EQ(test, 0, map_pages(fx, LOW_IOVA - PAGE_SIZE, 40, 1, RW));
	must_unmap(test, LOW_IOVA - PAGE_SIZE, PAGE_SIZE);
	must_unmap_only(test, LOW_IOVA, LOW_SIZE, 0);
	must_unmap_only(test, LATE_IOVA, PAGE_SIZE, 0);
	must_unmap_only(test, LOW_IOVA - PAGE_SIZE, 2 * PAGE_SIZE, 0);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LATE_IOVA, 1, IOMMU_READ, &page));
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA, 1, IOMMU_READ, &page));
	KUNIT_EXPECT_EQ(test, -EINVAL, copy_at(fx, LATE_IOVA, &byte, 1, false));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 2U);
}

/* LOW's IOVA is free: map the other half of the memory there, which is all one's own. */
static void expect_free(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;

	KUNIT_EXPECT_NULL(test, kept(fx));
	KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES - 1U);
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, LOW_PAGES, LOW_PAGES, RW));
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, LATE_IOVA, 1, RW, &page));
	KUNIT_EXPECT_PTR_EQ(test, page, fx->pages[LOW_PAGES + LATE_FIRST]);
	vfio_external_unpin(fx->container, LATE_IOVA, 1);
}

/*
 * After some time UNMAP goes on. The pages stay pinned and charged, and their IOVA is no
 * other memory's, until they are unpinned; then all is as if it had been unpinned in time.
 */
static void what_is_pinned_is_kept(struct kunit *test)
{
	struct fixture *fx = test->priv;

	pin_for_good(test);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	/* At once, and after each of two waits. */
	KUNIT_EXPECT_EQ(test, fx->told, 3U);
	expect_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, LATE_PAGES);
	expect_kept(test);
	/* Nobody waits for it again. */
	KUNIT_EXPECT_EQ(test, fx->told, 3U);
	vfio_external_unpin(fx->container, LATE_IOVA + PAGE_SIZE, LATE_PAGES - 1);
	expect_pins(test, LATE_FIRST, LATE_FIRST + 1, 1);
	expect_kept(test);
	vfio_external_unpin(fx->container, LATE_IOVA, 1);
	expect_pins(test, 0, 0, 0);
	expect_free(test);
}

/* The same with an IOMMU, out of which all of it goes. */
static void what_is_pinned_is_kept_in_no_domain(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int filled;

	add_iommu(test);
	down_write(&fx->container->lock);
	filled = vfio_map_fill(fx->container, low(fx));
	up_write(&fx->container->lock);
	KUNIT_ASSERT_EQ(test, filled, 0);
	pin_for_good(test);
	/* Pinned twice, charged once. */
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + LOW_PAGES);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	mock_iommu_expect_empty(test, fx->mock);
	expect_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, LATE_PAGES);
	expect_kept(test);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	expect_pins(test, 0, 0, 0);
	KUNIT_EXPECT_NULL(test, kept(fx));
}

/* Of registered memory, too, only the pages themselves. */
static void of_registered_memory_pages_are_kept(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_register(fx->container, fx->vaddr,
							NPAGES * PAGE_SIZE, false));
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	pin_for_good(test);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_kept(test);
	KUNIT_ASSERT_EQ(test, 0, vfio_registry_unregister(fx->container, fx->vaddr,
							  NPAGES * PAGE_SIZE));
	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED +
				    (i >= LATE_FIRST && i < LATE_FIRST + LATE_PAGES),
				    "page %u", i);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	expect_kept(test);
	/* What the device wrote meanwhile is not lost. */
	ClearPageDirty(fx->pages[LATE_FIRST]);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	KUNIT_EXPECT_TRUE(test, PageDirty(fx->pages[LATE_FIRST]));
	expect_pins(test, 0, 0, 0);
	expect_free(test);
}

/* Pages that were left pinned for ever; give them back, for the cases to come. */
static void unpin_lost(struct kunit *test, unsigned int charged)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	expect_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, charged);
	for (i = 0; i < LATE_PAGES; i++)
		unpin_user_page(fx->pages[LATE_FIRST + i]);
	expect_pins(test, 0, 0, charged);
}

/* Without any device left nobody waits for anything: kept or not, it is forgotten. */
static void the_last_group_takes_all_along(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int round;

	for (round = 0; round < 2; round++) {
		pin_for_good(test);
		if (round)
			must_unmap(test, LOW_IOVA, LOW_SIZE);
		vfio_container_detach(fx->container, fx->group);
		unpin_lost(test, 0);
		KUNIT_EXPECT_NULL(test, kept(fx));
		KUNIT_EXPECT_EQ(test, fx->container->tree.avail, ENTRIES);
		KUNIT_EXPECT_EQ(test, 0, vfio_container_attach_emulated(fx->container,
									fx->group));
		KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	}
}

/* Of a container that is closed while UNMAP waits, nothing is kept. */
static void the_end_comes_while_unmap_waits(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container;
	struct request unmap = { .what = UNMAP };

	pin_for_good(test);
	container->evict_waits = 7;
	/* As each call under way. */
	kref_get(&container->users);
	start(test, &unmap);
	while (!READ_ONCE(fx->told))
		schedule_timeout_uninterruptible(1);
	vfio_external_unregister(container, &fx->device);
	vfio_container_destroy(container);
	finish(&unmap);
	KUNIT_EXPECT_EQ(test, unmap.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, 2 * LOW_SIZE);
	KUNIT_EXPECT_NULL(test, kept(fx));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&container->tree.root));
	vfio_container_put(container);
	unpin_lost(test, 0);
	new_container(test);
}

/* A driver that unpins by itself, as it had not noted in time what it pinned, is late. */
static void a_moment_late_is_in_time(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	fx->until = jiffies + msecs_to_jiffies(100);
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	KUNIT_EXPECT_TRUE(test, time_after(jiffies, fx->until));
	expect_pins(test, 0, 0, 0);
	KUNIT_EXPECT_NULL(test, kept(fx));
	KUNIT_EXPECT_LT(test, fx->told, 12U);
	expect_free(test);
}

/* What becomes of it does not depend on whether the caller was killed. */
static void a_signal_does_not_make_unmap_impatient(struct kunit *test)
{
	struct request unmap = { .what = UNMAP_KILLED };
	struct fixture *fx = test->priv;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, LOW_IOVA, 8, RW, pages));
	fx->pinned = 8;
	fx->until = jiffies + msecs_to_jiffies(100);
	start(test, &unmap);
	finish(&unmap);
	KUNIT_EXPECT_EQ(test, unmap.ret, 0);
	KUNIT_EXPECT_EQ(test, unmap.unmapped, 2 * LOW_SIZE);
	KUNIT_EXPECT_NULL(test, kept(fx));
	expect_pins(test, 0, 0, 0);
}

/* Claim LOW, as an UNMAP would, and have it evicted after @waits waits. */
static void evict_low(struct fixture *fx, unsigned int *waits)
{
	struct vfio_dma *dma = low(fx);
	LIST_HEAD(claimed);

	spin_lock(&fx->container->tree.lock);
	dma->state = VFIO_DMA_DYING;
	spin_unlock(&fx->container->tree.lock);
	list_add(&dma->claim, &claimed);
	down_read(&fx->container->lock);
	vfio_external_evict(fx->container, &claimed, waits);
	up_read(&fx->container->lock);
	spin_lock(&fx->container->tree.lock);
	vfio_dma_tree_settle(&fx->container->tree, dma);
	spin_unlock(&fx->container->tree.lock);
}

/* However many mappings a request has, it waits no longer than for one. */
static void a_request_waits_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int waits = 0;

	pin_for_good(test);
	evict_low(fx, &waits);
	KUNIT_EXPECT_EQ(test, fx->told, 3U);
	KUNIT_EXPECT_TRUE(test, low(fx)->late);
	evict_low(fx, &waits);
	KUNIT_EXPECT_EQ(test, fx->told, 4U);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	evict_low(fx, &waits);
	KUNIT_EXPECT_FALSE(test, low(fx)->late);
	KUNIT_EXPECT_EQ(test, fx->told, 4U);
}

static int unpin_soon(void *data)
{
	struct fixture *fx = data;

	schedule_timeout_uninterruptible(msecs_to_jiffies(50));
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* UNMAP goes on as soon as the last page is unpinned, not when its time is up. */
static void the_last_unpin_ends_the_wait(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long begun = jiffies;
	struct task_struct *task;
	unsigned int waits = 12;

	pin_for_good(test);
	fx->container->evict_waits = waits + 1;
	task = kthread_run(unpin_soon, fx, "vfio-unpin");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	evict_low(fx, &waits);
	kthread_stop(task);
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, begun + 2 * HZ));
	KUNIT_EXPECT_FALSE(test, low(fx)->late);
}

/* If the dirty pages cannot be told, the mapping is what it was, pins and all. */
static void what_is_not_unmapped_is_not_kept(struct kunit *test)
{
	struct vfio_dirty_request nowhere = { NULL, PAGE_SIZE };
	struct fixture *fx = test->priv;
	struct page *page;
	u64 unmapped;

	KUNIT_ASSERT_EQ(test, 0, vfio_dirty_start(fx->container));
	pin_for_good(test);
	KUNIT_EXPECT_EQ(test, -EFAULT, vfio_unmap_dma(fx->container, LOW_IOVA, LOW_SIZE, false,
						      &nowhere, &unmapped));
	KUNIT_EXPECT_NULL(test, kept(fx));
	expect_pins(test, LATE_FIRST, LATE_FIRST + LATE_PAGES, LATE_PAGES);
	KUNIT_EXPECT_EQ(test, 1, pin_at(fx, LATE_IOVA, 1, RW, &page));
	vfio_external_unpin(fx->container, LATE_IOVA, 1);
	vfio_external_unpin(fx->container, LATE_IOVA, LATE_PAGES);
	expect_pins(test, 0, 0, 0);
}

/*
 * An IOMMU does not let go of pages that it failed to map: they stay charged, but not
 * those that in-kernel users have pinned, which are charged already and until unpinned.
 */
static void kept_pages_are_charged_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[2];
	unsigned int i, lost = 0;

	KUNIT_ASSERT_EQ(test, 2, pin_at(fx, LOW_IOVA, 2, RW, pages));
	add_iommu(test);
	fx->mock->hides = true;
	fx->mock->fail_map = 1;
	fx->mock->stuck = LOW_IOVA;
	down_write(&fx->container->lock);
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			vfio_map_fill(fx->container, vfio_dma_tree_first(&fx->container->tree,
									 LOW_IOVA, LOW_IOVA)));
	/* So the group stays out. */
	list_del(&fx->domain.next);
	up_write(&fx->container->lock);
	vfio_external_unpin(fx->container, LOW_IOVA, 2);
	for (i = 0; i < NPAGES; i++)
		lost += page_ref_count(fx->pages[i]) != REFS_UNPINNED;
	KUNIT_EXPECT_GT(test, lost, 2U);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + lost - 2);

	mock_iommu_lose(fx->mock, LOW_IOVA);
	for (i = 0; i < lost; i++)
		unpin_user_page(fx->pages[i]);
	mmap_write_lock(current->mm);
	current->mm->locked_vm -= lost - 2;
	mmap_write_unlock(current->mm);
}

static struct kunit_case external_cases[] = {
	KUNIT_CASE(page_stays_until_its_last_unpin),
	KUNIT_CASE(pins_cross_mappings),
	KUNIT_CASE(an_offset_into_a_page_means_the_page),
	KUNIT_CASE(an_offset_into_the_last_page_stays_in_its_bitmap),
	KUNIT_CASE(pins_are_all_or_none),
	KUNIT_CASE(pins_that_cannot_be_had),
	KUNIT_CASE(reserved_pages_are_not_charged),
	KUNIT_CASE(reserved_pages_are_unpinned_if_they_were_pinned),
	KUNIT_CASE(pins_mind_the_memlock_limit),
	KUNIT_CASE(a_charge_below_zero_is_called_so),
	KUNIT_CASE(each_refusal_of_a_pin_is_told),
	KUNIT_CASE(count_is_that_of_the_range),
	KUNIT_CASE(kept_pages_are_charged_once),
	KUNIT_CASE(nobody_pins_while_addresses_are_exchanged),
	KUNIT_CASE(copies_cross_mappings),
	KUNIT_CASE(kernel_threads_copy_as_the_owner),
	KUNIT_CASE(devices_are_told_until_they_unpin),
	KUNIT_CASE(devices_without_dma_unmap_are_not_told),
	KUNIT_CASE(pins_and_mappings_share_their_charge),
	KUNIT_CASE(pins_need_no_room_twice),
	KUNIT_CASE(in_kernel_users_wait_for_a_map_under_way),
	KUNIT_CASE(what_is_pinned_is_kept),
	KUNIT_CASE(what_is_pinned_is_kept_in_no_domain),
	KUNIT_CASE(of_registered_memory_pages_are_kept),
	KUNIT_CASE(the_last_group_takes_all_along),
	KUNIT_CASE(the_end_comes_while_unmap_waits),
	KUNIT_CASE(a_moment_late_is_in_time),
	KUNIT_CASE(a_signal_does_not_make_unmap_impatient),
	KUNIT_CASE(a_request_waits_once),
	KUNIT_CASE(the_last_unpin_ends_the_wait),
	KUNIT_CASE(what_is_not_unmapped_is_not_kept),
	{}
};

SUITE("vfio_in_kernel_users", external_cases,
	USER_MEM_SUITE, .init = external_case_init, .exit = external_case_exit);
