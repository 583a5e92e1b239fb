// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users of registered memory: they get the pages that were registered,
 * whatever the process has at their addresses now, at no further cost; alone in a
 * container, and where a device with an IOMMU comes and goes.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
/* Two slots at least; what is mapped begins somewhere in the first one. */
#define NPAGES		600UL
#define SIZE		PAGES(NPAGES)
#define SKIP		PAGES(7)
/* What the process changes, counted from where the mapping begins. */
#define DROPPED		100UL
#define UNMAPPED	505UL
#define CHANGED		10UL

/* Registered memory that is mapped, and what is known of it. */
struct known {
	char *mem;		/* of the first page that is mapped */
	char *contents;
	__u64 pfns[NPAGES];
};

static size_t mapped_pages(void)
{
	return NPAGES - SKIP / VU_PAGE;
}

static void known_init(struct known *k)
{
	unsigned int i;

	k->mem = mem_scattered(SIZE) + SKIP;
	k->contents = malloc(SIZE);
	assert_non_null(k->contents);
	pattern_fill(k->mem, SIZE - SKIP, pattern_new_seed());
	memcpy(k->contents, k->mem, SIZE - SKIP);
	for (i = 0; i < mapped_pages(); i++)
		k->pfns[i] = pfn_of(k->mem + PAGES(i));
}

static void known_register(struct known *k, const struct fixture *f)
{
	assert_ok(vu_register(f->container, k->mem - SKIP, SIZE, 0));
	assert_ok(vu_map_rw(f->container, k->mem, BASE, SIZE - SKIP));
}

/* The process throws some pages away, and has none where others were. */
static void known_change(struct known *k)
{
	assert_int_equal(madvise(k->mem + PAGES(DROPPED), PAGES(CHANGED), MADV_DONTNEED), 0);
	assert_int_equal(munmap(k->mem + PAGES(UNMAPPED), PAGES(CHANGED)), 0);
}

static void known_end(struct known *k)
{
	free(k->contents);
	vu_free(k->mem - SKIP, SIZE);
}

/* All of it, read by the device, is what was registered. */
static void assert_reads(const struct known *k, const struct vu_pci *dev, __u32 flags)
{
	/* Not from the beginning of a page to the end of one. */
	const size_t from = 123, len = SIZE - SKIP - 2 * from;
	char *buf = malloc(len);

	assert_non_null(buf);
	/* A request of the device is this long at most. */
	assert_true(len > MIB && len < 3 * MIB);
	assert_ok(emu_rw(dev, BASE + from, buf, MIB, flags));
	assert_ok(emu_rw(dev, BASE + from + MIB, buf + MIB, MIB, flags));
	assert_ok(emu_rw(dev, BASE + from + 2 * MIB, buf + 2 * MIB, len - 2 * MIB, flags));
	assert_memory_equal(buf, k->contents + from, len);
	free(buf);
}

/* The device writes across the end of a page. */
static void assert_writes(struct known *k, const struct vu_pci *dev, unsigned long page,
			  __u32 flags)
{
	char *at = k->contents + PAGES(page + 1) - 8;

	memset(at, 0x5a + page, 16);
	assert_ok(emu_rw(dev, BASE + (at - k->contents), at, 16, EMU_WRITE | flags));
}

/* Pins are the pages that were registered, and are not charged or pinned once more. */
static void assert_pins(const struct known *k, const struct fixture *f, const struct vu_pci *dev)
{
	const unsigned long first = mapped_pages() - 512;
	__u64 pfns[512];

	assert_ret(emu_pin_at(dev, BASE + PAGES(first), 512, EMU_PROT_RW, 0, pfns), 512);
	assert_memory_equal(pfns, k->pfns + first, sizeof(pfns));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
}

/* ---- Without an IOMMU ---- */

static void they_get_what_was_registered(void **state)
{
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	const struct fixture *f = e->f;
	struct known k;

	known_init(&k);
	known_register(&k, f);
	assert_reads(&k, dev, 0);
	assert_pins(&k, f, dev);
	/* It is the process's memory. */
	assert_writes(&k, dev, DROPPED - 2, 0);
	assert_memory_equal(k.mem, k.contents, SIZE - SKIP);

	known_change(&k);
	assert_reads(&k, dev, 0);
	assert_reads(&k, dev, EMU_KTHREAD);
	assert_pins(&k, f, dev);
	assert_writes(&k, dev, DROPPED, 0);
	assert_writes(&k, dev, DROPPED + 3, EMU_KTHREAD);
	assert_writes(&k, dev, UNMAPPED, 0);
	assert_writes(&k, dev, UNMAPPED + 3, EMU_KTHREAD);
	assert_reads(&k, dev, 0);
	/* What the process has there now is another page, and nobody wrote to it. */
	assert_int_equal(k.mem[PAGES(DROPPED + 1) - 1], 0);
	assert_int_not_equal(pfn_of(k.mem + PAGES(DROPPED)), k.pfns[DROPPED]);
	assert_ret(vu_map_rw(f->container, k.mem + PAGES(DROPPED), 0, PAGES(1)), -ESTALE);
	assert_ret(vu_map_rw(f->container, k.mem + PAGES(UNMAPPED), 0, PAGES(1)), -ESTALE);
	/* Pinned twice, the last 512 pages; unpinned once they stay. */
	assert_ok(emu_unpin(dev, BASE + PAGES(mapped_pages() - 512), 512));
	assert_pins(&k, f, dev);
	known_end(&k);
}

/* A device reads what it may not write to. */
static void they_may_do_what_was_registered(void **state)
{
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	const int container = e->f->container;
	char *mem = mem_pages(4), buf[8] = "";

	memcpy(mem + PAGES(2), "readable", sizeof(buf));
	assert_ok(vu_register(container, mem, PAGES(4), VFIO_TYPE1_MEMORY_READ_ONLY));
	assert_ok(vu_map(container, mem, BASE, PAGES(4), VFIO_DMA_MAP_FLAG_READ));
	assert_ok(emu_rw(dev, BASE + PAGES(2), buf, sizeof(buf), 0));
	assert_memory_equal(buf, "readable", sizeof(buf));
	assert_ret(emu_rw(dev, BASE + PAGES(2), buf, sizeof(buf), EMU_WRITE), -EPERM);
	assert_ret(emu_pin(dev, BASE, 1), -EPERM);
	assert_ret(emu_pin_at(dev, BASE, 1, EMU_PROT_READ, 0, NULL), 1);
	assert_charged(e->f, 4);
	vu_free(mem, PAGES(4));
}

struct child_case {
	const struct emu_fixture *e;
	struct known k;
};

/* In a child, which the container belongs to from now on. */
static void register_and_die(void *arg)
{
	struct child_case *c = arg;
	const int container = c->e->f->container;

	child_check(!vu_register(container, c->k.mem - SKIP, SIZE, 0));
	child_check(!vu_map_rw(container, c->k.mem, BASE, SIZE - SKIP));
	child_check(emu_pin(&c->e->emu[0], BASE, 3) == 3);
}

/* Of memory that is not registered nothing can be read then, and nothing pinned. */
static void they_go_on_without_the_process(void **state)
{
	struct child_case c = { .e = *state };
	const struct vu_pci *dev = &c.e->emu[0];

	known_init(&c.k);
	in_child(register_and_die, &c);
	assert_charged(c.e->f, 0);
	/* What was not mapped has gone with the process. */
	wait_pinned(c.e->f, mapped_pages());
	assert_reads(&c.k, dev, 0);
	assert_writes(&c.k, dev, 5, 0);
	assert_writes(&c.k, dev, UNMAPPED, EMU_KTHREAD);
	assert_reads(&c.k, dev, EMU_KTHREAD);
	assert_ret(emu_pin(dev, BASE, 512), 512);
	assert_charged(c.e->f, 0);
	assert_pinned(c.e->f, mapped_pages());
	assert_unmaps_all(c.e->f->container, SIZE - SKIP);
	wait_pinned(c.e->f, 0);
	known_end(&c.k);
}

/* ---- The end ---- */

static void unmap_then_unregister(struct emu_fixture *e, const struct known *k)
{
	assert_ret(vu_unregister(e->f->container, k->mem - SKIP, SIZE), -EBUSY);
	/* The device is told, and unpins. */
	assert_unmaps_all(e->f->container, SIZE - SKIP);
	assert_charged(e->f, NPAGES);
	assert_ok(vu_unregister(e->f->container, k->mem - SKIP, SIZE));
	assert_nothing_held(e->f);
	emu_close(e, 0);
	fixture_close_container(e->f);
}

static void close_the_device_first(struct emu_fixture *e, const struct known *k)
{
	(void)k;
	emu_close(e, 0);
	assert_nothing_held(e->f);
	fixture_close_container(e->f);
}

static void close_the_container_first(struct emu_fixture *e, const struct known *k)
{
	(void)k;
	fixture_close_container(e->f);
	assert_charged(e->f, NPAGES);
	assert_pinned(e->f, NPAGES);
	emu_close(e, 0);
}

static void everything_is_given_back_in_any_order(void **state)
{
	static void (*const orders[])(struct emu_fixture *e, const struct known *k) = {
		unmap_then_unregister, close_the_device_first, close_the_container_first,
	};
	struct emu_fixture *e = *state;
	unsigned int i;

	for (i = 0; i < 2 * ARRAY_SIZE(orders); i++) {
		struct known k;

		at_step("order %u", i);
		fixture_open_container(e->f);
		emu_attach(e, 0);
		assert_ok(vu_set_iommu(e->f->container, VFIO_TYPE1v2_IOMMU));
		emu_open_device(e, 0);
		known_init(&k);
		known_register(&k, e->f);
		assert_pins(&k, e->f, &e->emu[0]);
		if (i % 2)
			known_change(&k);
		orders[i / 2](e, &k);
		assert_nothing_held(e->f);
		known_end(&k);
	}
}

/* ---- With an IOMMU ---- */

/*
 * The first domain is given what was mapped without one, though the process has
 * something else there by now, and takes nothing along when it goes.
 */
static void an_iommu_comes_and_goes(void **state)
{
	struct emu_fixture *e = *state;
	struct vu_pci *dev = &e->emu[0];
	struct fixture *f = e->f;
	unsigned int nth;
	char *other;
	struct known k;

	known_init(&k);
	known_register(&k, f);
	/* The same pages once more, where a device's writes can be seen. */
	assert_ok(vu_map_rw(f->container, k.mem + PAGES(200), 0, PAGES(100)));
	other = k.mem + PAGES(200);
	assert_pins(&k, f, dev);
	known_change(&k);
	for (nth = 0; nth < 2; nth++) {
		at_step("device %u", nth);
		fixture_attach(f, nth);
		fixture_open_device(f, nth);
		assert_charged(f, NPAGES);
		assert_pinned(f, NPAGES);
		assert_dma_reaches(f, nth, other, 0);
		assert_dma_reaches(f, nth, other, BASE + PAGES(200));
		assert_dma_reaches(f, nth, other + PAGES(99), PAGES(99));
		memcpy(k.contents, k.mem, PAGES(DROPPED));
		memcpy(k.contents + PAGES(200), other, PAGES(100));
		/* From a page that the process has no more. */
		assert_ok(vu_edu_copy(&f->edu[nth], BASE + PAGES(UNMAPPED) + 2048,
				      BASE + PAGES(DROPPED), 1024));
		memcpy(k.contents + PAGES(UNMAPPED) + 2048, k.contents + PAGES(DROPPED), 1024);
		assert_reads(&k, dev, 0);
		assert_pins(&k, f, dev);
		fixture_close_device(f, nth);
		assert_reads(&k, dev, 0);
		assert_pins(&k, f, dev);
	}
	fixture_attach(f, 0);
	assert_unmaps_all(f->container, SIZE - SKIP + PAGES(100));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_ok(vu_unregister(f->container, k.mem - SKIP, SIZE));
	assert_nothing_held(f);
	known_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_EMU(they_get_what_was_registered),
		TEST_MIXED(they_get_what_was_registered),
		TEST_EMU(they_may_do_what_was_registered),
		TEST_MIXED(they_may_do_what_was_registered),
		TEST_EMU(they_go_on_without_the_process),
		TEST_MIXED(they_go_on_without_the_process),
		TEST_EMU_CLOSED(everything_is_given_back_in_any_order),
		TEST_EMU(an_iommu_comes_and_goes),
	};

	return cmocka_run_group_tests_name("registry_external", tests, NULL, NULL);
}
