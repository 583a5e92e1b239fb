// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users: what they pin, count and copy.
 */

#include <linux/bitmap.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>

#include "external_fixture.h"
#include "klog.h"

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
		expect_user_pins(test, 1, 5, 4);
	}
	for (i = 0; i < 2; i++) {
		vfio_external_unpin(fx->container, LOW_IOVA + PAGE_SIZE, 4);
		expect_user_pins(test, 1, 5, 4);
	}
	vfio_external_unpin(fx->container, LOW_IOVA + PAGE_SIZE, 4);
	expect_user_pins(test, 0, 0, 0);
	/* Once too often, or never pinned: a driver's mistake costs nobody anything. */
	vfio_external_unpin(fx->container, LOW_IOVA, 6);
	expect_user_pins(test, 0, 0, 0);
}

/* Pages of several mappings in one call; what the mappings allow is minded. */
static void pins_cross_mappings(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *pages[8];

	KUNIT_ASSERT_EQ(test, 8, pin_at(fx, HIGH_IOVA - 4 * PAGE_SIZE, 8, IOMMU_READ, pages));
	KUNIT_EXPECT_EQ(test, memcmp(pages, &fx->pages[LOW_PAGES - 4], sizeof(pages)), 0);
	expect_user_pins(test, LOW_PAGES - 4, LOW_PAGES + 4, 8);
	vfio_external_unpin(fx->container, HIGH_IOVA - 4 * PAGE_SIZE, 8);
	expect_user_pins(test, 0, 0, 0);
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
	expect_user_pins(test, 0, 1, 1);
	vfio_external_unpin(fx->container, LOW_IOVA + 0x20, 1);
	vfio_external_unpin(fx->container, LOW_IOVA, 1);
	expect_user_pins(test, 0, 1, 1);
	vfio_external_unpin(fx->container, LOW_IOVA + 0xfff, 1);
	expect_user_pins(test, 0, 0, 0);

	/* In the last page; and two pages from there, of which one is the next mapping's. */
	KUNIT_ASSERT_EQ(test, 1, pin_at(fx, last + 0x10, 1, RW, pages));
	dirty[1] = *low(fx)->dirty;
	KUNIT_ASSERT_EQ(test, 2, pin_at(fx, last + 0x10, 2, IOMMU_READ, pages));
	KUNIT_EXPECT_EQ(test, memcmp(pages, &fx->pages[LOW_PAGES - 1], sizeof(pages)), 0);
	dirty[2] = *low(fx)->dirty;
	expect_user_pins(test, LOW_PAGES - 1, LOW_PAGES + 1, 2);
	vfio_external_unpin(fx->container, last + 0x30, 2);
	vfio_external_unpin(fx->container, last, 1);
	expect_user_pins(test, 0, 0, 0);
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
	expect_user_pins(test, LOW_PAGES - 1, LOW_PAGES, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, BEHIND - PAGE_SIZE, 2, IOMMU_READ, pages));
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA - PAGE_SIZE, 2, IOMMU_READ, pages));
	expect_user_pins(test, LOW_PAGES - 1, LOW_PAGES, 1);
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
	expect_user_pins(test, 0, 0, 0);
	/* Where it is, no struct page describes it. */
	user_map_pfns(test, fx->vaddr + 3 * PAGE_SIZE, MMIO_PFN, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, pin_at(fx, LOW_IOVA, 8, RW, pages));
	expect_user_pins(test, 0, 0, 0);
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
	KUNIT_EXPECT_EQ(test, vfio_pinned_count(low(fx), LOW_IOVA, 8), 7UL);
	vfio_external_unpin(fx->container, LOW_IOVA, 8);
	expect_user_pins(test, 0, 0, 0);
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
	expect_user_pins(test, 0, 8, 6);
	KUNIT_EXPECT_EQ(test, vfio_pinned_count(low(fx), LOW_IOVA, 8), 6UL);
	vfio_external_unpin(fx->container, LOW_IOVA, 8);
	expect_user_pins(test, 0, 8, 6);
	vfio_external_unpin(fx->container, LOW_IOVA, 7);
	expect_user_pins(test, 7, 8, 0);
	/* What it is told to unpin: of these only the last one is pinned. */
	fx->pinned = 8;
	must_unmap(test, LOW_IOVA, LOW_SIZE);
	expect_user_pins(test, 0, 0, 0);
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
	expect_user_pins(test, 0, 8, 8);
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
						    vfio_pinned_count(low(fx), LOW_IOVA +
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
	KUNIT_ASSERT_EQ(test, 0, call_vaddr_invalidate(fx->container, LOW_IOVA, LOW_SIZE, false,
						       &size));
	KUNIT_EXPECT_EQ(test, -EBUSY, pin_at(fx, LOW_IOVA, 1, RW, &page));
	KUNIT_EXPECT_EQ(test, -EBUSY, copy_at(fx, LOW_IOVA, &byte, 1, true));
	KUNIT_ASSERT_EQ(test, 0, call_vaddr_update(fx->container, LOW_IOVA, fx->vaddr, LOW_SIZE));
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
	KUNIT_CASE(nobody_pins_while_addresses_are_exchanged),
	KUNIT_CASE(copies_cross_mappings),
	KUNIT_CASE(kernel_threads_copy_as_the_owner),
	{}
};

SUITE("vfio_in_kernel_users", external_cases, EXTERNAL_SUITE);
