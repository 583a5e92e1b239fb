// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users of a container: what they may pin, read and write, what that
 * costs whom, alone in a container or beside a device with an IOMMU, and that
 * they are told before a mapping goes. What of it is dirty is in test_dirty.c.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

static __u64 held_by(const struct vu_pci *dev)
{
	struct emu_state s;

	emu_state(dev, &s);
	return s.held;
}

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

/* ---- What pins cost ---- */

static void without_an_iommu_only_pins_cost(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(64);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(64)));
	assert_nothing_held(e->f);
	assert_ret(emu_pin(&e->emu[0], BASE, 10), 10);
	assert_charged(e->f, 10);
	assert_pinned(e->f, 10);
	/* A page costs once, however often it is pinned. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(5), 10), 10);
	assert_charged(e->f, 15);
	assert_pinned(e->f, 15);
	assert_ok(emu_unpin(&e->emu[0], BASE, 10));
	assert_charged(e->f, 10);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(5), 10));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(64));
}

static void with_an_iommu_pins_cost_nothing_more(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(64);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(64)));
	assert_charged(e->f, 64);
	assert_ret(emu_pin(&e->emu[0], BASE, 10), 10);
	assert_charged(e->f, 64);
	assert_pinned(e->f, 74);
	assert_ok(emu_unpin(&e->emu[0], BASE, 10));
	assert_charged(e->f, 64);
	assert_pinned(e->f, 64);
	assert_unmaps_all(e->f->container, PAGES(64));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(64));
}

static void what_was_pinned_is_not_charged_again_by_attach(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(64);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(64)));
	assert_ret(emu_pin(&e->emu[0], BASE, 1), 1);
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(20), 9), 9);
	fixture_attach(e->f, 0);
	assert_charged(e->f, 64);
	assert_pinned(e->f, 74);
	fixture_open_device(e->f, 0);
	assert_dma_reaches(e->f, 0, mem, BASE);
	assert_dma_reaches(e->f, 0, mem + PAGES(20), BASE + PAGES(20));
	assert_dma_reaches(e->f, 0, mem + PAGES(63), BASE + PAGES(63));
	/* Unpinned now, it is still charged for the IOMMU. */
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(20), 9));
	assert_charged(e->f, 64);
	assert_pinned(e->f, 65);
	assert_unmaps_all(e->f->container, PAGES(64));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(64));
}

static void after_the_last_iommu_only_pins_cost(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(64), buf[8] = "";

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(64)));
	assert_ok(vu_map_rw(e->f->container, mem, BASE + PAGES(64), PAGES(64)));
	assert_ret(emu_pin(&e->emu[0], BASE, 10), 10);
	assert_charged(e->f, 128);
	fixture_close_device(e->f, 0);
	assert_charged(e->f, 10);
	assert_pinned(e->f, 10);
	/* The mappings are there. */
	assert_ret(vu_map_rw(e->f->container, mem, BASE + PAGES(64), PAGES(64)), -EEXIST);
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(64), buf, 8, 0));
	assert_ok(emu_unpin(&e->emu[0], BASE, 3));
	assert_charged(e->f, 7);

	/* And again with an IOMMU, which finds them. */
	fixture_attach(e->f, 0);
	assert_charged(e->f, 128);
	fixture_open_device(e->f, 0);
	assert_dma_reaches(e->f, 0, mem + PAGES(1), BASE + PAGES(1));
	assert_dma_reaches(e->f, 0, mem + PAGES(63), BASE + PAGES(127));
	assert_unmaps_all(e->f->container, PAGES(128));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(64));
}

/* The device keeps what it pinned, though the process has another page there now. */
static void a_pin_of_another_page_than_the_iommus(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(2);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(2)));
	assert_ret(emu_pin(&e->emu[0], BASE, 1), 1);
	assert_int_equal(madvise(mem, PAGES(2), MADV_DONTNEED), 0);
	memset(mem, 0, PAGES(2));
	fixture_attach(e->f, 0);
	assert_charged(e->f, 2);
	assert_pinned(e->f, 3);
	fixture_close_device(e->f, 0);
	assert_charged(e->f, 1);
	assert_pinned(e->f, 1);
	assert_unmaps_all(e->f->container, PAGES(2));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(2));
}

/* If the last in-kernel user goes, and there is no IOMMU, nobody uses any mapping. */
static void mappings_go_with_the_last_group(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(4);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(4)));
	assert_ret(emu_pin(&e->emu[0], BASE, 4), 4);
	fixture_close_device(e->f, 0);
	emu_close(e, 0);
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(4));
}

struct limit_case {
	const struct emu_fixture *e;
	char *mem;
};

/* Runs with a limit of 10 pages. */
static void pin_up_to_the_limit(void *arg)
{
	const struct limit_case *c = arg;
	const struct vu_pci *dev = &c->e->emu[0];

	child_check(!vu_map_rw(c->e->f->container, c->mem, BASE, PAGES(64)));
	child_check(!vu_locked_kib());
	child_check(emu_pin(dev, BASE, 11) == -ENOMEM);
	child_check(!vu_locked_kib());
	child_check(emu_pin(dev, BASE, 10) == 10);
	child_check(vu_locked_kib() == KIB(10));
	child_check(emu_pin(dev, BASE + PAGES(9), 2) == -ENOMEM);
	/* Pinned pages are paid for. */
	child_check(emu_pin(dev, BASE, 10) == 10);
	child_check(!emu_unpin(dev, BASE, 10));
	child_check(vu_locked_kib() == KIB(10));
	child_check(!emu_unpin(dev, BASE, 10));
	child_check(!vu_locked_kib());
	child_check(emu_pin(dev, BASE + PAGES(30), 10) == 10);
}

/* The process is dead then, and its pages are still pinned. */
static void pins_obey_the_owners_limit(void **state)
{
	struct limit_case c = { .e = *state, .mem = mem_pages(64) };

	in_child_nobody(PAGES(10), pin_up_to_the_limit, &c);
	assert_charged(c.e->f, 0);
	assert_pinned(c.e->f, 10);
	assert_unmaps_all(c.e->f->container, PAGES(64));
	assert_nothing_held(c.e->f);
	vu_free(c.mem, PAGES(64));
}

/* Runs with a limit of 10 pages. */
static void map_twenty_and_attach(void *arg)
{
	const struct limit_case *c = arg;
	struct fixture *f = c->e->f;

	child_check(!vu_map_rw(f->container, c->mem, BASE, PAGES(20)));
	child_check(emu_pin(&c->e->emu[0], BASE, 4) == 4);
	child_check(vu_group_attach(&f->pci[0], f->container) == -ENOMEM);
	child_check(vu_locked_kib() == KIB(4));
	child_check(!vu_unmap(f->container, BASE, PAGES(20), 0, NULL));
	child_check(!vu_locked_kib());
	child_check(!vu_map_rw(f->container, c->mem, BASE, PAGES(10)));
	child_check(emu_pin(&c->e->emu[0], BASE, 4) == 4);
	child_check(!vu_group_attach(&f->pci[0], f->container));
	child_check(vu_locked_kib() == KIB(10));
}

static void attach_that_costs_too_much_changes_nothing(void **state)
{
	struct limit_case c = { .e = *state, .mem = mem_pages(20) };
	struct emu_fixture *e = *state;

	assert_ok(vu_group_open(&e->f->pci[0]));
	in_child_nobody(PAGES(10), map_twenty_and_attach, &c);
	assert_unmaps_all(e->f->container, PAGES(10));
	assert_nothing_held(e->f);
	vu_free(c.mem, PAGES(20));
}

/* Runs with a limit of 2 pages: one is RAM, the other was when it was pinned. */
static void attach_with_a_zero_page(void *arg)
{
	const struct limit_case *c = arg;
	struct fixture *f = c->e->f;

	child_check(!vu_map(f->container, c->mem, BASE, PAGES(2), VFIO_DMA_MAP_FLAG_READ));
	child_check(emu_pin_at(&c->e->emu[0], BASE + PAGES(1), 1, EMU_PROT_READ, 0, NULL) == 1);
	child_check(!madvise(c->mem + PAGES(1), PAGES(1), MADV_DONTNEED));
	child_check(!vu_group_attach(&f->pci[0], f->container));
	child_check(vu_locked_kib() == KIB(2));
	child_check(!vu_group_detach(&f->pci[0]));
	child_check(vu_locked_kib() == KIB(1));
	child_check(!vu_unmap(f->container, BASE, PAGES(2), 0, NULL));
	child_check(!vu_locked_kib());
}

static void a_pin_is_paid_for_once_whatever_is_there_now(void **state)
{
	struct limit_case c = { .e = *state, .mem = mem_pages(2) };
	struct emu_fixture *e = *state;

	/* Only there the page is the zero page at last: here it is another one. */
	if (!kernel_at_least(6, 2))
		not_on_intree("charges a page too much when the IOMMU goes");
	assert_ok(vu_group_open(&e->f->pci[0]));
	in_child_nobody(PAGES(2), attach_with_a_zero_page, &c);
	assert_nothing_held(e->f);
	vu_free(c.mem, PAGES(2));
}

static long kernel_memory_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/meminfo", "r");

	assert_non_null(f);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "SUnreclaim: %ld", &kib);
	fclose(f);
	assert_true(kib >= 0);
	return kib;
}

#define COMINGS		200

/* Each round would leave four lists of 256 runs if it did: 18 KiB. */
static void groups_that_come_and_go_leave_nothing(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_scattered(MIB);
	long before = 0, after;
	unsigned int i;

	for (i = 0; i < 4; i++)
		assert_ok(vu_map_rw(e->f->container, mem, BASE + i * MIB, MIB));
	for (i = 0; i < COMINGS; i++) {
		/* The first ones fill caches. */
		if (i == COMINGS / 4)
			before = kernel_memory_kib();
		fixture_attach(e->f, 0);
		vu_pci_close(&e->f->pci[0]);
	}
	after = kernel_memory_kib();
	print_message("%ld KiB more\n", after - before);
	assert_true(after - before < COMINGS * 3 / 4 * 8);
	assert_nothing_held(e->f);
	vu_free(mem, MIB);
}

static void attach_in_a_child(void *arg)
{
	const struct fixture *f = arg;

	child_check(!vu_group_attach(&f->pci[0], f->container));
	child_check(!vu_locked_kib());
}

/* Whoever attaches: the memory that is pinned is the one that is charged. */
static void attach_pins_the_owners_memory(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(16);

	not_on_intree("pins the memory of the process that attaches");
	pattern_fill(mem, PAGES(16), pattern_new_seed());
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(16)));
	assert_ok(vu_group_open(&e->f->pci[0]));
	in_child(attach_in_a_child, e->f);
	assert_charged(e->f, 16);
	fixture_open_device(e->f, 0);
	assert_dma_reaches(e->f, 0, mem, BASE);
	assert_dma_reaches(e->f, 0, mem + PAGES(15), BASE + PAGES(15));
	assert_unmaps_all(e->f->container, PAGES(16));
	vu_free(mem, PAGES(16));
}

/* ---- Unmapping what is pinned ---- */

static void assert_told(const struct vu_pci *dev, __u64 times, __u64 iova, __u64 len)
{
	struct emu_state s;

	emu_state(dev, &s);
	assert_int_equal(s.notified, times);
	if (times) {
		assert_int_equal(s.iova, iova);
		assert_int_equal(s.len, len);
	}
}

static void told_until_it_unpins(struct emu_fixture *e, unsigned int times)
{
	const struct vu_pci *dev = &e->emu[0];
	const size_t charged = e->f->edu[0].regs ? 64 : 10;
	char *mem = mem_pages(64);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(64)));
	assert_ret(emu_pin(dev, BASE + PAGES(5), 10), 10);
	assert_ret(emu_pin(dev, BASE + PAGES(7), 1), 1);
	assert_charged(e->f, charged);
	emu_unpin_when_told(dev, times);
	assert_unmaps(e->f->container, BASE, PAGES(64), PAGES(64));
	assert_told(dev, times, BASE, PAGES(64));
	assert_int_equal(held_by(dev), 0);
	assert_nothing_held(e->f);
	/* The IOVA is free. */
	assert_ret(emu_pin(dev, BASE, 1), -EINVAL);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(64)));
	assert_unmaps_all(e->f->container, PAGES(64));
	/* Nothing was pinned this time. */
	assert_told(dev, times, BASE, PAGES(64));
	vu_free(mem, PAGES(64));
}

static void unmap_tells_the_device(void **state)
{
	told_until_it_unpins(*state, 1);
}

static void unmap_tells_the_device_again(void **state)
{
	told_until_it_unpins(*state, 3);
}

/* Each mapping by itself, and only those that something is pinned of. */
static void unmap_tells_of_pinned_mappings(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(30);
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(e->f->container, mem + PAGES(10 * i), BASE + PAGES(10 * i),
				    PAGES(10)));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(12), 1), 1);
	assert_unmaps(e->f->container, BASE, PAGES(30), PAGES(30));
	assert_told(&e->emu[0], 1, BASE + PAGES(10), PAGES(10));
	vu_free(mem, PAGES(30));
}

static void unmap_of_one_mapping_leaves_the_pins_of_others(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(20);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ok(vu_map_rw(e->f->container, mem, BASE + PAGES(10), PAGES(10)));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(5), 10), 10);
	assert_unmaps(e->f->container, BASE, PAGES(10), PAGES(10));
	assert_int_equal(held_by(&e->emu[0]), 5);
	assert_charged(e->f, 5);
	assert_pinned(e->f, 5);
	assert_unmaps_all(e->f->container, PAGES(10));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(20));
}

static void unmap_that_is_refused_tells_nobody(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(10);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ret(emu_pin(&e->emu[0], BASE, 10), 10);
	assert_ret(vu_unmap(e->f->container, BASE, PAGES(5), 0, NULL), -EINVAL);
	assert_told(&e->emu[0], 0, 0, 0);
	assert_int_equal(held_by(&e->emu[0]), 10);
	assert_charged(e->f, 10);
	vu_free(mem, PAGES(10));
}

/* Each is told as long as anyone holds a page. */
static void all_devices_are_told(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(10);

	emu_attach(e, 1);
	emu_open_device(e, 1);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ret(emu_pin(&e->emu[0], BASE, 6), 6);
	assert_ret(emu_pin(&e->emu[1], BASE + PAGES(4), 6), 6);
	assert_charged(e->f, 10);
	emu_unpin_when_told(&e->emu[1], 2);
	assert_unmaps(e->f->container, BASE, PAGES(10), PAGES(10));
	assert_told(&e->emu[0], 2, BASE, PAGES(10));
	assert_told(&e->emu[1], 2, BASE, PAGES(10));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(10));
}

static void a_closed_device_is_told_nothing(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(10);

	emu_attach(e, 1);
	emu_open_device(e, 1);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ret(emu_pin(&e->emu[1], BASE, 10), 10);
	emu_close(e, 1);
	assert_nothing_held(e->f);
	assert_ret(emu_pin(&e->emu[0], BASE, 10), 10);
	assert_unmaps(e->f->container, BASE, PAGES(10), PAGES(10));
	assert_told(&e->emu[0], 1, BASE, PAGES(10));
	vu_free(mem, PAGES(10));
}

/* A device behind a real IOMMU may pin, too, and has to be told as well. */
static void a_device_with_an_iommu_is_told(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(10);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ret(emu_pin(&e->f->pci[0], BASE, 4), 4);
	assert_charged(e->f, 10);
	assert_pinned(e->f, 14);
	emu_unpin_when_told(&e->f->pci[0], 2);
	assert_unmaps(e->f->container, BASE, PAGES(10), PAGES(10));
	assert_told(&e->f->pci[0], 2, BASE, PAGES(10));
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(10));
}

/* ---- Closing ---- */

/* The four descriptors of a mixed container, closed in the order of nth of all 24. */
static void close_in_order(struct emu_fixture *e, unsigned int nth)
{
	int *left[4] = { &e->emu[0].device_fd, &e->emu[0].group_fd, &e->f->pci[0].group_fd,
			 &e->f->container };
	unsigned int n;

	for (n = ARRAY_SIZE(left); n; n--) {
		unsigned int i = nth % n;

		close(*left[i]);
		*left[i] = -1;
		memmove(&left[i], &left[i + 1], (n - i - 1) * sizeof(left[0]));
		nth /= n;
	}
}

static void everything_is_released_in_any_order(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(64);
	unsigned int nth;

	for (nth = 0; nth < 24; nth++) {
		fixture_open_container(e->f);
		emu_attach(e, 0);
		fixture_attach(e->f, 0);
		assert_ok(vu_set_iommu(e->f->container, VFIO_TYPE1v2_IOMMU));
		emu_open_device(e, 0);
		assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(32)));
		assert_ok(vu_map_rw(e->f->container, mem + PAGES(32), 0, PAGES(32)));
		assert_ret(emu_pin(&e->emu[0], BASE, 32), 32);
		assert_charged(e->f, 64);
		close_in_order(e, nth);
		assert_nothing_held(e->f);
	}
	vu_free(mem, PAGES(64));
}

/* ---- Maps, unmaps and pins at the same time ---- */

/* What one thread does; the main thread maps and unmaps. */
struct racer {
	struct fixture *f;
	const struct vu_pci *dev;
	atomic_bool stop;
	atomic_ulong done;	/* what it can do while something is mapped */
	atomic_ulong refused;	/* because nothing is */
	atomic_ulong wrong;
};

#define RACE_PAGES	512UL

/* A pin gets all of its pages, or the mapping is not there. */
static void *pin_and_unpin(void *arg)
{
	struct racer *r = arg;
	unsigned int seed = 1;

	while (!r->stop) {
		const __u64 iova = BASE + PAGES(rand_r(&seed) % (RACE_PAGES - 16));
		const __u32 flags = rand_r(&seed) % 2 ? EMU_KTHREAD : 0;
		int ret = emu_pin_at(r->dev, iova, 16, EMU_PROT_RW, flags, NULL);

		r->done += ret == 16;
		r->refused += ret == -EINVAL;
		r->wrong += ret != 16 && ret != -EINVAL;
		/* An unmap may have come first. */
		if (ret == 16)
			emu_unpin(r->dev, iova, 16);
	}
	return NULL;
}

static void *read_and_write(void *arg)
{
	struct racer *r = arg;
	char buf[64] = "";

	while (!r->stop) {
		int ret = emu_rw(r->dev, BASE + 4000, buf, sizeof(buf), EMU_KTHREAD | EMU_WRITE);

		r->done += !ret;
		r->refused += ret == -EINVAL;
		r->wrong += ret && ret != -EINVAL;
	}
	return NULL;
}

/* Another IOMMU group, which is never refused. */
static void *come_and_go(void *arg)
{
	struct racer *r = arg;

	while (!r->stop) {
		int ret = vu_group_open(&r->f->pci[1]);

		if (!ret)
			ret = vu_group_attach(&r->f->pci[1], r->f->container);
		r->done += !ret;
		r->refused += !ret;
		r->wrong += !!ret;
		vu_pci_close(&r->f->pci[1]);
	}
	return NULL;
}

static bool raced_enough(const struct racer *r)
{
	return r->done > 50 && r->refused > 50;
}

static void race(struct fixture *f, const struct vu_pci *dev1, void *(*first)(void *),
		 const struct vu_pci *dev2, void *(*second)(void *))
{
	struct racer r[2] = { { .f = f, .dev = dev1 }, { .f = f, .dev = dev2 } };
	char *mem = mem_scattered(PAGES(RACE_PAGES));
	const time_t end = time(NULL) + TEST_TIMEOUT;
	unsigned long rounds = 0;
	pthread_t thread[2];
	unsigned int i;

	assert_int_equal(pthread_create(&thread[0], NULL, first, &r[0]), 0);
	assert_int_equal(pthread_create(&thread[1], NULL, second, &r[1]), 0);
	while ((rounds < 500 || !raced_enough(&r[0]) || !raced_enough(&r[1])) &&
	       time(NULL) < end) {
		assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(RACE_PAGES)));
		/* Let them find it, most of the time. */
		if (rounds++ % 4)
			usleep(200);
		assert_unmaps(f->container, BASE, PAGES(RACE_PAGES), PAGES(RACE_PAGES));
	}
	for (i = 0; i < 2; i++) {
		r[i].stop = true;
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		print_message("%lu done, %lu refused, %lu wrong in %lu rounds\n",
			      r[i].done, r[i].refused, r[i].wrong, rounds);
	}
	for (i = 0; i < 2; i++) {
		assert_int_equal(r[i].wrong, 0);
		assert_true(raced_enough(&r[i]));
		assert_int_equal(held_by(r[i].dev), 0);
	}
	assert_nothing_held(f);
	vu_free(mem, PAGES(RACE_PAGES));
}

static void map_and_unmap_race_with_pins_of_two(void **state)
{
	struct emu_fixture *e = *state;

	emu_attach(e, 1);
	emu_open_device(e, 1);
	race(e->f, &e->emu[0], pin_and_unpin, &e->emu[1], pin_and_unpin);
}

static void map_and_unmap_race_with_pins_and_dma_rw(void **state)
{
	struct emu_fixture *e = *state;

	race(e->f, &e->emu[0], pin_and_unpin, &e->emu[0], read_and_write);
}

/* The device sits behind an IOMMU, and no other is there. */
static void map_and_unmap_race_with_an_iommu_devices_pins(void **state)
{
	struct emu_fixture *e = *state;

	race(e->f, &e->f->pci[0], pin_and_unpin, &e->f->pci[0], read_and_write);
}

static void map_and_unmap_race_with_pins_and_attach(void **state)
{
	struct emu_fixture *e = *state;

	race(e->f, &e->emu[0], pin_and_unpin, &e->emu[0], come_and_go);
}

/* A map that takes long: of memory that is not there yet. */
struct long_map {
	const struct emu_fixture *e;
	char *mem;
	atomic_bool done;
	int map, pin;
};

#define LONG_SIZE	(512 * MIB)

static void *map_slowly(void *arg)
{
	struct long_map *m = arg;

	m->map = vu_map_rw(m->e->f->container, m->mem, BASE + PAGES(1), LONG_SIZE);
	m->done = true;
	return NULL;
}

static void *pin_across(void *arg)
{
	struct long_map *m = arg;

	m->pin = emu_pin_at(&m->e->emu[0], BASE, 2, EMU_PROT_RW, EMU_UNLOCKED, NULL);
	return NULL;
}

/*
 * A pin of two pages waits for the second one to be mapped. Meanwhile the first
 * one goes, although the device knows of no pin that it could give back.
 */
static void a_pin_that_waits_holds_nothing(void **state)
{
	struct long_map m = { .e = *state };
	struct fixture *f = m.e->f;
	char *mem = mem_pages(1);
	pthread_t thread[2];

	not_on_intree("an unmap waits for any map");
	m.mem = mmap(NULL, LONG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(m.mem != MAP_FAILED);
	assert_int_equal(madvise(m.mem, LONG_SIZE, MADV_NOHUGEPAGE), 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	assert_int_equal(pthread_create(&thread[0], NULL, map_slowly, &m), 0);
	while (vu_locked_kib() - f->locked_kib == KIB(1) && !m.done)
		sched_yield();
	assert_int_equal(pthread_create(&thread[1], NULL, pin_across, &m), 0);
	usleep(50000);
	assert_unmaps(f->container, BASE, PAGES(1), PAGES(1));
	/* Else it was no test. */
	assert_false(m.done);
	assert_int_equal(pthread_join(thread[0], NULL), 0);
	assert_int_equal(pthread_join(thread[1], NULL), 0);
	assert_ok(m.map);
	assert_ret(m.pin, -EINVAL);
	assert_int_equal(held_by(&m.e->emu[0]), 0);
	assert_pinned(f, LONG_SIZE / VU_PAGE);
	assert_unmaps_all(f->container, LONG_SIZE);
	assert_nothing_held(f);
	vu_free(m.mem, LONG_SIZE);
	vu_free(mem, PAGES(1));
}

/* A pin in a mapping that is being made gets it when it is whole. */
static void a_pin_waits_for_the_map(void **state)
{
	struct long_map m = { .e = *state };
	struct fixture *f = m.e->f;
	pthread_t thread;

	m.mem = mmap(NULL, LONG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(m.mem != MAP_FAILED);
	assert_int_equal(madvise(m.mem, LONG_SIZE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(pthread_create(&thread, NULL, map_slowly, &m), 0);
	while (vu_locked_kib() == f->locked_kib && !m.done)
		sched_yield();
	assert_false(m.done);
	assert_ret(emu_pin(&m.e->emu[0], BASE + LONG_SIZE, 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_ok(m.map);
	assert_pinned(f, LONG_SIZE / VU_PAGE + 1);
	assert_unmaps_all(f->container, LONG_SIZE);
	vu_free(m.mem, LONG_SIZE);
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
		TEST_EMU(without_an_iommu_only_pins_cost),
		TEST_MIXED(with_an_iommu_pins_cost_nothing_more),
		TEST_EMU(what_was_pinned_is_not_charged_again_by_attach),
		TEST_MIXED(after_the_last_iommu_only_pins_cost),
		TEST_EMU(a_pin_of_another_page_than_the_iommus),
		TEST_MIXED(mappings_go_with_the_last_group),
		TEST_EMU(pins_obey_the_owners_limit),
		TEST_EMU(attach_that_costs_too_much_changes_nothing),
		TEST_EMU(a_pin_is_paid_for_once_whatever_is_there_now),
		TEST_EMU(groups_that_come_and_go_leave_nothing),
		TEST_EMU(attach_pins_the_owners_memory),
		TEST_EMU(unmap_tells_the_device),
		TEST_MIXED(unmap_tells_the_device),
		TEST_EMU(unmap_tells_the_device_again),
		TEST_MIXED(unmap_tells_the_device_again),
		TEST_EMU(unmap_tells_of_pinned_mappings),
		TEST_EMU(unmap_of_one_mapping_leaves_the_pins_of_others),
		TEST_EMU(unmap_that_is_refused_tells_nobody),
		TEST_EMU(all_devices_are_told),
		TEST_EMU(a_closed_device_is_told_nothing),
		TEST_EMU_EDU(a_device_with_an_iommu_is_told),
		TEST_EMU_CLOSED(everything_is_released_in_any_order),
		TEST_EMU(map_and_unmap_race_with_pins_of_two),
		TEST_MIXED(map_and_unmap_race_with_pins_of_two),
		TEST_EMU(map_and_unmap_race_with_pins_and_dma_rw),
		TEST_EMU_EDU(map_and_unmap_race_with_an_iommu_devices_pins),
		TEST_EMU(map_and_unmap_race_with_pins_and_attach),
		TEST_MIXED(a_pin_that_waits_holds_nothing),
		TEST_MIXED(a_pin_waits_for_the_map),
		TEST_MIXED(update_vaddr_is_not_offered),
		TEST_EMU(addresses_cannot_be_taken_back),
		TEST_EMU(without_an_iommu_any_iova_is_valid),
		TEST_EMU(the_last_page_of_the_address_space),
		TEST_EMU(attach_is_refused_where_a_mapping_is_not_valid),
		TEST_EMU(without_an_iommu_map_looks_at_no_memory),
	};

	return cmocka_run_group_tests_name("external", tests, NULL, NULL);
}
