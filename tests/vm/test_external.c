// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users of a container: what they may pin, read and write, alone in a container or
 * beside a device with an IOMMU, and what a container with them says. What of it is dirty is
 * in test_dirty_pins.c.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "external.h"

/* ---- Pinning ---- */

/* Each page of the mapping is the page that the process sees there. */
static void pins_are_the_pages_of_the_mapping(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_scattered(PAGES(512));
	__u64 pfns[512];
	unsigned int i;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(512)));
	assert_ret(emu_pin_at(&e->emu[0], BASE, 512, EMU_PROT_RW, 0, pfns), 512);
	for (i = 0; i < 512; i++)
		assert_int_equal(pfns[i], pfn_of(mem + PAGES(i)));
	assert_ok(emu_unpin(&e->emu[0], BASE, 512));
	assert_unmaps_all(e->f->container, PAGES(512));
	vu_free(mem, PAGES(512));
}

static void a_pin_may_span_mappings(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(8);
	__u64 pfns[8];
	unsigned int i;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(3)));
	assert_ok(vu_map_rw(e->f->container, mem + PAGES(3), BASE + PAGES(3), PAGES(5)));
	assert_ret(emu_pin_at(&e->emu[0], BASE, 8, EMU_PROT_RW, 0, pfns), 8);
	for (i = 0; i < 8; i++)
		assert_int_equal(pfns[i], pfn_of(mem + PAGES(i)));
	assert_ok(emu_unpin(&e->emu[0], BASE, 8));
	vu_free(mem, PAGES(8));
}

/* The process may exchange the page; who pinned it keeps it, and pins it again. */
static void a_pinned_page_stays_the_same(void **state)
{
	const struct emu_fixture *e = *state;
	__u64 before, again, after;
	char *mem = mem_pages(1);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	assert_ret(emu_pin_at(&e->emu[0], BASE, 1, EMU_PROT_RW, 0, &before), 1);
	assert_int_equal(madvise(mem, PAGES(1), MADV_DONTNEED), 0);
	mem[0] = 1;
	assert_int_not_equal(pfn_of(mem), before);
	assert_ret(emu_pin_at(&e->emu[0], BASE, 1, EMU_PROT_RW, 0, &again), 1);
	assert_int_equal(again, before);
	assert_charged(e->f, 1);

	assert_ok(emu_unpin(&e->emu[0], BASE, 1));
	assert_pinned(e->f, 1);
	assert_ok(emu_unpin(&e->emu[0], BASE, 1));
	assert_nothing_held(e->f);

	/* With the last pin the page is let go. */
	assert_ret(emu_pin_at(&e->emu[0], BASE, 1, EMU_PROT_RW, 0, &after), 1);
	assert_int_equal(after, pfn_of(mem));
	vu_free(mem, PAGES(1));
}

/* Pinning from a kernel thread, or from another process, is of the owner's memory. */
static void pin_in_a_child(void *arg)
{
	const struct emu_fixture *e = arg;
	__u64 pfn;

	child_check(emu_pin_at(&e->emu[0], BASE, 1, EMU_PROT_RW, 0, &pfn) == 1);
	child_check(!vu_locked_kib());
}

static void whoever_asks_the_owners_page_is_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_memfd(PAGES(1));
	__u64 pfn;

	mem[0] = 1;
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	assert_ret(emu_pin_at(&e->emu[0], BASE, 1, EMU_PROT_RW, EMU_KTHREAD, &pfn), 1);
	assert_int_equal(pfn, pfn_of(mem));
	assert_charged(e->f, 1);
	assert_ok(emu_unpin(&e->emu[0], BASE, 1));

	in_child(pin_in_a_child, *state);
	assert_charged(e->f, 1);
	assert_ok(emu_unpin(&e->emu[0], BASE, 1));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(1));
}

static void a_pin_that_fails_in_the_middle_pins_nothing(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(100);

	assert_int_equal(munmap(mem + PAGES(70), PAGES(1)), 0);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ret(emu_pin(&e->emu[0], BASE, 100), -EFAULT);
	assert_nothing_held(e->f);
	/* What was pinned before is not undone. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(10), 5), 5);
	assert_ret(emu_pin(&e->emu[0], BASE, 100), -EFAULT);
	assert_charged(e->f, 5);
	assert_pinned(e->f, 5);
	/* Beyond the mapping there is nothing to pin. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(71), 30), -EINVAL);
	assert_charged(e->f, 5);
	assert_pinned(e->f, 5);
	vu_free(mem, PAGES(100));
}

static void what_is_not_mapped_is_not_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(2);

	assert_ret(emu_pin(&e->emu[0], BASE, 1), -EINVAL);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	assert_ok(vu_map_rw(e->f->container, mem, BASE + PAGES(2), PAGES(1)));
	assert_ret(emu_pin(&e->emu[0], BASE - PAGES(1), 2), -EINVAL);
	assert_ret(emu_pin(&e->emu[0], BASE, 3), -EINVAL);
	assert_ret(emu_pin(&e->emu[0], BASE, 0), -EINVAL);
	assert_ret(emu_pin(&e->emu[0], BASE, 513), -E2BIG);
	assert_nothing_held(e->f);
	assert_unmaps_all(e->f->container, PAGES(2));
	assert_ret(emu_pin(&e->emu[0], BASE, 1), -EINVAL);
	vu_free(mem, PAGES(2));
}

static void a_pin_beyond_the_address_space(void **state)
{
	const struct emu_fixture *e = *state;

	not_on_intree("no such check before 7.1, and no page is mapped here: EINVAL");
	assert_ret(emu_pin(&e->emu[0], -PAGES(1), 2), -EOVERFLOW);
}

static void unpinning_what_is_not_pinned_does_nothing(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(4);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(4)));
	assert_ok(emu_unpin_not_pinned(&e->emu[0], BASE, 4));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(1), 1), 1);
	assert_ok(emu_unpin_not_pinned(&e->emu[0], BASE, 1));
	assert_ok(emu_unpin_not_pinned(&e->emu[0], BASE + PAGES(2), 2));
	assert_charged(e->f, 1);
	assert_pinned(e->f, 1);
	vu_free(mem, PAGES(4));
}

static void the_mapping_has_to_allow_it(void **state)
{
	static const struct {
		__u32 mapped, asked;
		int ret;
	} cases[] = {
		{ EMU_PROT_READ, EMU_PROT_READ, 1 },
		{ EMU_PROT_READ, EMU_PROT_WRITE, -EPERM },
		{ EMU_PROT_READ, EMU_PROT_RW, -EPERM },
		{ EMU_PROT_WRITE, EMU_PROT_WRITE, 1 },
		{ EMU_PROT_WRITE, EMU_PROT_READ, -EPERM },
		{ EMU_PROT_RW, EMU_PROT_READ, 1 },
		{ EMU_PROT_RW, EMU_PROT_WRITE, 1 },
		{ EMU_PROT_RW, 0, 1 },
	};
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(1);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_ok(vu_map(e->f->container, mem, BASE, PAGES(1), cases[i].mapped));
		assert_ret(emu_pin_at(&e->emu[0], BASE, 1, cases[i].asked, 0, NULL),
			   cases[i].ret);
		assert_unmaps_all(e->f->container, PAGES(1));
		assert_nothing_held(e->f);
	}
	vu_free(mem, PAGES(1));
}

/* A device that could not be told of an unmap must not pin. */
static void a_deaf_device_pins_nothing(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(1), copy[8] = "";

	fixture_open_container(e->f);
	emu_attach(e, EMU_DEAF);
	assert_ok(vu_set_iommu(e->f->container, VFIO_TYPE1v2_IOMMU));
	emu_open_device(e, EMU_DEAF);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	assert_ret(emu_pin(&e->emu[EMU_DEAF], BASE, 1), -EINVAL);
	/* dma_rw needs no pins. */
	memcpy(mem, "deaf", sizeof("deaf"));
	assert_ok(emu_rw(&e->emu[EMU_DEAF], BASE, copy, sizeof(copy), 0));
	assert_string_equal(copy, "deaf");
	vu_free(mem, PAGES(1));
}

static void v1_containers_do_not_pin(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(1), copy[8] = "";

	fixture_open_container(e->f);
	emu_attach(e, 0);
	assert_ok(vu_set_iommu(e->f->container, VFIO_TYPE1_IOMMU));
	emu_open_device(e, 0);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	assert_ret(emu_pin(&e->emu[0], BASE, 1), -EACCES);
	memcpy(mem, "v1", sizeof("v1"));
	assert_ok(emu_rw(&e->emu[0], BASE, copy, sizeof(copy), 0));
	assert_string_equal(copy, "v1");
	vu_free(mem, PAGES(1));
}

/* ---- Reading and writing ---- */

/* Sizes and offsets that cross pages and mappings. */
static void dma_rw_reaches_every_byte(void **state)
{
	static const size_t offsets[] = { 0, 1, VU_PAGE - 1, VU_PAGE, 3 * VU_PAGE - 5, 0x1234 };
	static const size_t sizes[] = { 1, 7, VU_PAGE, VU_PAGE + 1, 5 * VU_PAGE };
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(16), *model = mem_pages(16), *buf = mem_pages(16);
	unsigned int i, j, flags;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(3)));
	assert_ok(vu_map_rw(e->f->container, mem + PAGES(3), BASE + PAGES(3), PAGES(13)));
	pattern_fill(mem, PAGES(16), pattern_new_seed());
	memcpy(model, mem, PAGES(16));
	for (flags = 0; flags <= EMU_KTHREAD; flags += EMU_KTHREAD) {
		for (i = 0; i < ARRAY_SIZE(offsets); i++) {
			for (j = 0; j < ARRAY_SIZE(sizes); j++) {
				const __u64 at = BASE + offsets[i];

				assert_ok(emu_rw(&e->emu[0], at, buf, sizes[j], flags));
				assert_memory_equal(buf, model + offsets[i], sizes[j]);
				pattern_fill(buf, PAGES(16), pattern_new_seed());
				memcpy(model + offsets[i], buf, sizes[j]);
				assert_ok(emu_rw(&e->emu[0], at, buf, sizes[j],
						 flags | EMU_WRITE));
				assert_memory_equal(mem, model, PAGES(16));
			}
		}
	}
	assert_int_equal(held_by(&e->emu[0]), 0);
	vu_free(mem, PAGES(16));
	vu_free(model, PAGES(16));
	vu_free(buf, PAGES(16));
}

static void dma_rw_stops_where_nothing_is_mapped(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(1), buf[200];

	assert_ret(emu_rw(&e->emu[0], BASE, buf, 1, 0), -EINVAL);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	memset(buf, 0xaa, sizeof(buf));
	assert_ret(emu_rw(&e->emu[0], BASE + PAGES(1) - 100, buf, 200, EMU_WRITE), -EINVAL);
	/* What comes before the end has been written. */
	assert_memory_equal(mem + PAGES(1) - 100, buf, 100);
	assert_int_equal(mem[PAGES(1) - 101], 0);
	vu_free(mem, PAGES(1));
}

/* Writing takes a mapping that may be read, too. */
static void dma_rw_asks_what_the_mapping_allows(void **state)
{
	static const struct {
		__u32 mapped;
		int read, write;
	} cases[] = {
		{ EMU_PROT_READ, 0, -EPERM },
		{ EMU_PROT_WRITE, -EPERM, -EPERM },
		{ EMU_PROT_RW, 0, 0 },
	};
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(1), buf[8] = "";
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_ok(vu_map(e->f->container, mem, BASE, PAGES(1), cases[i].mapped));
		assert_ret(emu_rw(&e->emu[0], BASE, buf, 8, 0), cases[i].read);
		assert_ret(emu_rw(&e->emu[0], BASE, buf, 8, EMU_WRITE), cases[i].write);
		assert_unmaps_all(e->f->container, PAGES(1));
	}
	vu_free(mem, PAGES(1));
}

static void dma_rw_of_a_hole_faults(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(2), buf[8] = "";

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(2)));
	assert_int_equal(munmap(mem + PAGES(1), PAGES(1)), 0);
	assert_ok(emu_rw(&e->emu[0], BASE, buf, 8, 0));
	assert_ret(emu_rw(&e->emu[0], BASE + PAGES(1), buf, 8, 0), -EFAULT);
	assert_ret(emu_rw(&e->emu[0], BASE + PAGES(1), buf, 8, EMU_KTHREAD), -EFAULT);
	vu_free(mem, PAGES(1));
}

static void rw_in_a_child(void *arg)
{
	const struct emu_fixture *e = arg;
	char buf[8] = "child";

	/* The addresses mean another memory here. */
	child_check(emu_rw(&e->emu[0], BASE, buf, 8, EMU_WRITE) == -EFAULT);
	child_check(!emu_rw(&e->emu[0], BASE, buf, 8, EMU_WRITE | EMU_KTHREAD));
}

static void dma_rw_is_the_owners_or_a_kernel_threads(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(1);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(1)));
	in_child(rw_in_a_child, *state);
	assert_string_equal(mem, "child");
	vu_free(mem, PAGES(1));
}

static void map_pin_and_die(void *arg)
{
	const struct emu_fixture *e = arg;

	child_check(!vu_map_rw(e->f->container, mem_pages(4), BASE, PAGES(4)));
	child_check(emu_pin(&e->emu[0], BASE + PAGES(3), 1) == 1);
}

static void of_a_dead_owner_only_pins_are_left(void **state)
{
	const struct emu_fixture *e = *state;
	char buf[8] = "";

	in_child(map_pin_and_die, *state);
	assert_ret(emu_pin(&e->emu[0], BASE, 1), -ENODEV);
	assert_ret(emu_rw(&e->emu[0], BASE, buf, 8, EMU_KTHREAD), -EPERM);
	assert_ret(emu_rw(&e->emu[0], BASE, buf, 8, 0), -EPERM);
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(3), 1), 1);
	assert_pinned(e->f, 1);
	assert_unmaps_all(e->f->container, PAGES(4));
}

/* ---- What a container with an in-kernel user says ---- */

static void update_vaddr_is_not_offered(void **state)
{
	struct emu_fixture *e = *state;

	assert_int_equal(ioctl(e->f->container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 0);
	emu_close(e, 0);
	assert_int_equal(ioctl(e->f->container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 1);
}

static void addresses_cannot_be_taken_back(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(4);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(4)));
	assert_ret(vu_unmap(e->f->container, BASE, PAGES(4), VFIO_DMA_UNMAP_FLAG_VADDR, NULL),
		   -EBUSY);
	assert_ret(vu_unmap(e->f->container, 0, 0,
			    VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL, NULL), -EBUSY);
	/* Before anything else is looked at. */
	assert_ret(vu_unmap(e->f->container, 1, 1, VFIO_DMA_UNMAP_FLAG_VADDR, NULL), -EBUSY);
	assert_ret(emu_pin(&e->emu[0], BASE, 1), 1);
	vu_free(mem, PAGES(4));
}

static void without_an_iommu_any_iova_is_valid(void **state)
{
	static const __u64 iovas[] = { 0, 0xfee00000, 0xfd00000000, 1ULL << 48, 1ULL << 63,
				       -2 * VU_PAGE };
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(1);
	struct info info;
	unsigned int i;

	info_get(e->f->container, &info);
	assert_null(info.iova);
	assert_non_null(info.migration);
	assert_non_null(info.dma_avail);
	assert_int_equal(info.head.iova_pgsizes, ~(VU_PAGE - 1));
	assert_int_equal(info.migration->pgsize_bitmap, VU_PAGE);
	for (i = 0; i < ARRAY_SIZE(iovas); i++) {
		assert_ok(vu_map_rw(e->f->container, mem, iovas[i], PAGES(1)));
		assert_ret(emu_pin(&e->emu[0], iovas[i], 1), 1);
		assert_unmaps(e->f->container, iovas[i], PAGES(1), PAGES(1));
	}
	vu_free(mem, PAGES(1));
}

static void the_last_page_of_the_address_space(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(1), buf[8] = "";

	not_on_intree("loses the last page of the IOVA space");
	assert_ok(vu_map_rw(e->f->container, mem, -PAGES(1), PAGES(1)));
	assert_ret(emu_pin(&e->emu[0], -PAGES(1), 1), 1);
	memcpy(mem, "last", sizeof("last"));
	assert_ok(emu_rw(&e->emu[0], -PAGES(1), buf, 8, 0));
	assert_string_equal(buf, "last");
	assert_unmaps(e->f->container, -PAGES(1), PAGES(1), PAGES(1));
	assert_told(&e->emu[0], 1, -PAGES(1), PAGES(1));
	vu_free(mem, PAGES(1));
}

/* What lies outside of an IOMMU's valid ranges keeps it out. */
static void attach_is_refused_where_a_mapping_is_not_valid(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(4);
	struct info info;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(2)));
	assert_ok(vu_map_rw(e->f->container, mem + PAGES(2), 0xfee00000, PAGES(2)));
	assert_ret(emu_pin(&e->emu[0], 0xfee00000, 2), 2);
	assert_ok(vu_group_open(&e->f->pci[0]));
	assert_ret(vu_group_attach(&e->f->pci[0], e->f->container), -EINVAL);
	assert_charged(e->f, 2);
	assert_pinned(e->f, 2);
	info_get(e->f->container, &info);
	assert_null(info.iova);

	assert_unmaps(e->f->container, 0xfee00000, PAGES(2), PAGES(2));
	assert_ok(vu_group_attach(&e->f->pci[0], e->f->container));
	info_get(e->f->container, &info);
	assert_non_null(info.iova);
	assert_ret(vu_map_rw(e->f->container, mem, 0xfee00000, PAGES(2)), -EINVAL);
	assert_charged(e->f, 2);

	/* Without it, as before, which is now said as one range. */
	vu_pci_close(&e->f->pci[0]);
	info_get(e->f->container, &info);
	assert_non_null(info.iova);
	assert_int_equal(info.iova->nr_iovas, 1);
	assert_int_equal(info.iova->iova_ranges[0].start, 0);
	assert_int_equal(info.iova->iova_ranges[0].end, UINT64_MAX);
	assert_ok(vu_map_rw(e->f->container, mem, 0xfee00000, PAGES(2)));
	vu_free(mem, PAGES(4));
}

/* Whatever is there: memory is looked at when it is pinned. */
static void without_an_iommu_map_looks_at_no_memory(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_reserve(PAGES(4));

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(4)));
	assert_ret(emu_pin(&e->emu[0], BASE, 1), -EFAULT);
	assert_int_equal(mprotect(mem, PAGES(4), PROT_READ | PROT_WRITE), 0);
	assert_ret(emu_pin(&e->emu[0], BASE, 1), 1);
	vu_free(mem, PAGES(4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_EMU(pins_are_the_pages_of_the_mapping),
		TEST_EMU(a_pin_may_span_mappings),
		TEST_EMU(a_pinned_page_stays_the_same),
		TEST_EMU(whoever_asks_the_owners_page_is_pinned),
		TEST_EMU(a_pin_that_fails_in_the_middle_pins_nothing),
		TEST_EMU(what_is_not_mapped_is_not_pinned),
		TEST_EMU(a_pin_beyond_the_address_space),
		TEST_EMU(unpinning_what_is_not_pinned_does_nothing),
		TEST_EMU(the_mapping_has_to_allow_it),
		TEST_EMU_CLOSED(a_deaf_device_pins_nothing),
		TEST_EMU_CLOSED(v1_containers_do_not_pin),
		TEST_EMU(dma_rw_reaches_every_byte),
		TEST_MIXED(dma_rw_reaches_every_byte),
		TEST_EMU(dma_rw_stops_where_nothing_is_mapped),
		TEST_EMU(dma_rw_asks_what_the_mapping_allows),
		TEST_EMU(dma_rw_of_a_hole_faults),
		TEST_EMU(dma_rw_is_the_owners_or_a_kernel_threads),
		TEST_EMU(of_a_dead_owner_only_pins_are_left),
		TEST_MIXED(update_vaddr_is_not_offered),
		TEST_EMU(addresses_cannot_be_taken_back),
		TEST_EMU(without_an_iommu_any_iova_is_valid),
		TEST_EMU(the_last_page_of_the_address_space),
		TEST_EMU(attach_is_refused_where_a_mapping_is_not_valid),
		TEST_EMU(without_an_iommu_map_looks_at_no_memory),
	};

	return cmocka_run_group_tests_name("external", tests, NULL, NULL);
}
