// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty tracking: devices that only write what they have pinned, who is in the container, and
 * bitmaps that cannot be written.
 */
#include <sys/mman.h>

#include "dirty.h"

/* ---- Bitmaps that cannot be written ---- */

/* Two pages of bitmap, the second of which is not there; page_words words before it. */
static __u64 *bitmap_half_there(void)
{
	char *mem = mem_pages(2);

	assert_int_equal(munmap(mem + PAGES(1), PAGES(1)), 0);
	return (__u64 *)(mem + PAGES(1));
}

static void a_mapping_that_cannot_be_reported_stays(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(128);
	struct unmap_bitmap unmap;
	__u64 *end = bitmap_half_there();

	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(64)));
	unmap = unmap_request(BASE, PAGES(64), end, 8);
	assert_ret(unmap_ioctl(f->container, &unmap), -EFAULT);
	assert_charged(f, 64);
	assert_ret(get_dirty(f->container, BASE, 64, end), -EFAULT);
	assert_dma_reaches(f, 0, mem, BASE);

	/* Of two, the one that could be reported is gone. */
	assert_ok(vu_map_rw(f->container, mem + PAGES(64), BASE + PAGES(64), PAGES(64)));
	unmap = unmap_request(BASE, PAGES(128), end - 1, 16);
	assert_ret(unmap_ioctl(f->container, &unmap), -EFAULT);
	assert_int_equal(end[-1], UINT64_MAX);
	assert_charged(f, 64);
	assert_unmaps(f->container, BASE, PAGES(64), 0);
	assert_dma_reaches(f, 0, mem + PAGES(64), BASE + PAGES(64));
	unmap_dirty(f->container, BASE + PAGES(64), 64, end - 1);
	vu_free(mem, PAGES(128));
	vu_free((char *)end - PAGES(1), PAGES(1));
}

/* A report that fails forgets nothing, wherever in a word the mapping starts. */
static void a_failed_report_forgets_nothing(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(100);
	struct unmap_bitmap unmap;
	__u64 *end = bitmap_half_there();

	not_on_intree("shifts its bitmap before it copies");
	assert_ok(vu_map_rw(container, mem, BASE + PAGES(30), PAGES(100)));
	assert_ok(dirty_ioctl(container, START));
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(30 + 3), mem, 1, EMU_WRITE));
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(30 + 99), mem, 1, EMU_WRITE));
	/* No word of it, and all but the last one. */
	assert_ret(get_dirty(container, BASE, 130, end), -EFAULT);
	assert_ret(get_dirty(container, BASE, 130, end - 2), -EFAULT);
	unmap = unmap_request(BASE, PAGES(130), end - 2, 24);
	assert_ret(unmap_ioctl(container, &unmap), -EFAULT);
	assert_dirty(container, BASE, 130, 33, 129);
	assert_clean(container, BASE, 130);
	vu_free(mem, PAGES(100));
	vu_free((char *)end - PAGES(1), PAGES(1));
}

/* ---- Devices that only write what they have pinned ---- */

static void nothing_is_dirty_that_nobody_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(60)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ok(vu_map_rw(e->f->container, mem, BASE + PAGES(60), PAGES(40)));
	memset(mem, 1, PAGES(100));
	assert_clean(e->f->container, BASE, 100);
	vu_free(mem, PAGES(100));
}

static void pinned_pages_are_dirty_until_a_report_after_the_unpin(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(container, mem, BASE, PAGES(100)));
	/* Pinned before tracking began, and unpinned before. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(3), 2), 2);
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(70), 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(70), 1));
	assert_ok(dirty_ioctl(container, START));
	assert_dirty(container, BASE, 100, 3, 4);
	/* Still pinned: still dirty. */
	assert_dirty(container, BASE, 100, 3, 4);
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(64), 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(3), 1));
	assert_dirty(container, BASE, 100, 3, 4, 64);
	assert_dirty(container, BASE, 100, 4, 64);
	/* Pinned and unpinned between two reports. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(99), 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(99), 1));
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(64), 1));
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(4), 1));
	assert_dirty(container, BASE, 100, 4, 64, 99);
	assert_clean(container, BASE, 100);
	vu_free(mem, PAGES(100));
}

static void a_pin_that_failed_leaves_at_most_its_pages_dirty(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(100);
	__u64 words[2] = { 0 };
	size_t i;

	assert_int_equal(munmap(mem + PAGES(20), PAGES(1)), 0);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(10), 30), -EFAULT);
	assert_ok(get_dirty(e->f->container, BASE, 100, words));
	for (i = 0; i < 100; i++)
		assert_true(!bit(words, i) || (i >= 10 && i < 20));
	assert_clean(e->f->container, BASE, 100);
	vu_free(mem, PAGES(100));
}

static void dma_rw_writes_are_dirty_once(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	const struct vu_pci *dev = &e->emu[0];
	char *mem = mem_pages(100), *buf = mem_pages(4);

	assert_ok(vu_map_rw(container, mem, BASE, PAGES(50)));
	assert_ok(vu_map_rw(container, mem + PAGES(50), BASE + PAGES(50), PAGES(50)));
	assert_ok(emu_rw(dev, BASE, buf, 1, EMU_WRITE));
	assert_ok(dirty_ioctl(container, START));
	assert_clean(container, BASE, 100);
	assert_ok(emu_rw(dev, BASE + PAGES(7), buf, PAGES(4), 0));
	assert_clean(container, BASE, 100);

	assert_ok(emu_rw(dev, BASE + PAGES(2), buf, 1, EMU_WRITE));
	assert_ok(emu_rw(dev, BASE + PAGES(11) - 1, buf, 2, EMU_WRITE | EMU_KTHREAD));
	assert_ok(emu_rw(dev, BASE + PAGES(20), buf, PAGES(1), EMU_WRITE));
	assert_ok(emu_rw(dev, BASE + PAGES(49) + 17, buf, PAGES(2), EMU_WRITE));
	assert_dirty(container, BASE, 100, 2, 10, 11, 20, 49, 50, 51);
	assert_clean(container, BASE, 100);

	/* A write that fails half way has written the first half. */
	assert_ret(emu_rw(dev, BASE + PAGES(99), buf, PAGES(2), EMU_WRITE), -EINVAL);
	assert_dirty(container, BASE, 100, 99);
	vu_free(mem, PAGES(100));
	vu_free(buf, PAGES(4));
}

/* A report cleans what it reports, and not what lies beyond the range. */
static void a_report_cleans_its_range(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(30), byte = 1;
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(container, mem + PAGES(10 * i), BASE + PAGES(10 * i),
				    PAGES(10)));
	assert_ok(dirty_ioctl(container, START));
	for (i = 0; i < 3; i++)
		assert_ok(emu_rw(&e->emu[0], BASE + PAGES(10 * i + i), &byte, 1, EMU_WRITE));
	assert_dirty(container, BASE + PAGES(10), 10, 1);
	assert_dirty(container, BASE, 30, 0, 22);
	assert_clean(container, BASE, 30);
	vu_free(mem, PAGES(30));
}

static void unmap_reports_what_was_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(100), byte = 1;
	__u64 words[2] = { 0 }, want[2] = { 0 };

	assert_ok(vu_map_rw(container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(container, START));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(60), 10), 10);
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(5), &byte, 1, EMU_WRITE));
	/* The device is told, and unpins, before the report. */
	emu_unpin_when_told(&e->emu[0], 2);
	unmap_dirty(container, BASE, 100, words);
	set_bits(want, 60, 10);
	set_bits(want, 5, 1);
	assert_words(words, want, 2);
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(100));
}

static void tracking_starts_anew(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(10), byte = 1;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ok(emu_rw(&e->emu[0], BASE, &byte, 1, EMU_WRITE));
	/* A second START forgets nothing, but STOP does. */
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_dirty(e->f->container, BASE, 10, 0);
	assert_ok(emu_rw(&e->emu[0], BASE, &byte, 1, EMU_WRITE));
	assert_ok(dirty_ioctl(e->f->container, STOP));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_clean(e->f->container, BASE, 10);
	vu_free(mem, PAGES(10));
}

/* Without an IOMMU nothing is pinned: huge ranges cost nothing but their bitmap. */
static void mappings_too_large_to_track(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	struct unmap_bitmap unmap;
	__u64 word = 0;

	assert_ok(vu_map_rw(container, NULL, BASE, PAGES(PAGES_MAX)));
	assert_ret(dirty_ioctl(container, START), -EINVAL);
	/* It is off, then. */
	unmap = unmap_request(BASE, PAGES(1), &word, 8);
	assert_ret(unmap_ioctl(container, &unmap), -EINVAL);
	assert_unmaps_all(container, PAGES(PAGES_MAX));
	assert_ok(dirty_ioctl(container, START));
	assert_ret(vu_map_rw(container, NULL, BASE, PAGES(PAGES_MAX)), -EINVAL);
	assert_unmaps_all(container, 0);
}

/* ---- Who is in the container ---- */

/* One device that writes wherever it likes is enough. */
static void an_iommu_group_makes_all_dirty(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(9), 1), 1);
	assert_dirty(e->f->container, BASE, 100, 9);
	fixture_attach(e->f, 0);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_all_dirty(e->f->container, BASE, 100);

	/* It goes: all may have been written by it, for the last time. */
	vu_pci_close(&e->f->pci[0]);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_dirty(e->f->container, BASE, 100, 9);
	vu_free(mem, PAGES(100));
}

/* What it wrote before tracking began is not asked for. */
static void an_iommu_group_that_went_before_start(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(10);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_charged(e->f, 10);
	fixture_close_device(e->f, 0);
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_clean(e->f->container, BASE, 10);
	vu_free(mem, PAGES(10));
}

static void an_emulated_group_that_goes_changes_nothing(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(10), byte = 1;

	emu_attach(e, 1);
	emu_open_device(e, 1);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ret(emu_pin(&e->emu[1], BASE + PAGES(2), 1), 1);
	assert_ok(emu_rw(&e->emu[1], BASE + PAGES(4), &byte, 1, EMU_WRITE));
	emu_close(e, 1);
	assert_dirty(e->f->container, BASE, 10, 2, 4);
	assert_clean(e->f->container, BASE, 10);
	vu_free(mem, PAGES(10));
}

/* A group behind an IOMMU that pins says by this that it writes nothing else. */
static void an_iommu_group_that_pins_is_trusted(void **state)
{
	struct emu_fixture *e = *state;
	const struct vu_pci *edu = &e->f->pci[0];
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_all_dirty(e->f->container, BASE, 100);
	/* A pin that fails says nothing. */
	assert_ret(emu_pin(edu, BASE + PAGES(100), 1), -EINVAL);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_ret(emu_pin(edu, BASE + PAGES(50), 2), 2);
	assert_dirty(e->f->container, BASE, 100, 50, 51);
	assert_ok(emu_unpin(edu, BASE + PAGES(50), 1));
	assert_dirty(e->f->container, BASE, 100, 50, 51);
	/* For good. */
	assert_ok(emu_unpin(edu, BASE + PAGES(51), 1));
	assert_dirty(e->f->container, BASE, 100, 51);
	assert_clean(e->f->container, BASE, 100);

	/* Not so the next one, as long as it is there. */
	fixture_attach(e->f, 1);
	assert_all_dirty(e->f->container, BASE, 100);
	fixture_close_device(e->f, 1);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_clean(e->f->container, BASE, 100);
	vu_free(mem, PAGES(100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(a_mapping_that_cannot_be_reported_stays),
		TEST_EMU(a_failed_report_forgets_nothing),
		TEST_EMU(nothing_is_dirty_that_nobody_pinned),
		TEST_EMU(pinned_pages_are_dirty_until_a_report_after_the_unpin),
		TEST_EMU(a_pin_that_failed_leaves_at_most_its_pages_dirty),
		TEST_EMU(dma_rw_writes_are_dirty_once),
		TEST_EMU(a_report_cleans_its_range),
		TEST_EMU(unmap_reports_what_was_pinned),
		TEST_EMU(tracking_starts_anew),
		TEST_EMU(mappings_too_large_to_track),
		TEST_EMU(an_iommu_group_makes_all_dirty),
		TEST_MIXED(an_iommu_group_that_went_before_start),
		TEST_EMU(an_emulated_group_that_goes_changes_nothing),
		TEST_EMU_EDU(an_iommu_group_that_pins_is_trusted),
	};

	return cmocka_run_group_tests_name("dirty_pins", tests, NULL, NULL);
}
