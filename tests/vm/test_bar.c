// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mapping a device's BAR, which is no RAM: it has to work, to cost nothing,
 * and to let one device reach the other's registers.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <linux/pci_regs.h>

#include "testlib.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

/* edu's register that answers each write with the inverted value. */
#define EDU_LIVENESS	0x04

/* The big BAR of pci-testdev, mapped into this process. */
struct bar {
	struct vu_pci pci;
	char *mem;
	size_t size;
};

static void bar_open(struct fixture *f, struct bar *bar)
{
	assert_ok(vu_pci_find(&bar->pci, VU_TESTDEV_VENDOR, VU_TESTDEV_DEVICE, 0));
	assert_ok(vu_pci_bind(&bar->pci));
	assert_ok(vu_group_open(&bar->pci));
	assert_ok(vu_group_attach(&bar->pci, f->container));
	assert_ok(vu_device_open(&bar->pci));
	bar->mem = vu_region_mmap(&bar->pci, VFIO_PCI_BAR2_REGION_INDEX, &bar->size);
	assert_non_null(bar->mem);
	assert_true(bar->size >= 64 * MIB);
}

static void bar_close(struct bar *bar)
{
	munmap(bar->mem, bar->size);
	vu_pci_close(&bar->pci);
}

static void a_whole_bar_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct bar bar;

	bar_open(f, &bar);
	assert_ok(vu_map_rw(f->container, bar.mem, BASE, bar.size));
	assert_nothing_held(f);
	assert_int_equal(dma_avail(f->container), 65534);
	assert_unmaps(f->container, BASE, bar.size, bar.size);
	assert_nothing_held(f);

	/* Pieces of it, at addresses of any alignment. */
	assert_ok(vu_map_rw(f->container, bar.mem + PAGES(3), BASE + PAGES(7), PAGES(1)));
	assert_ok(vu_map_rw(f->container, bar.mem + PAGES(511), BASE + PAGES(8), PAGES(1000)));
	assert_nothing_held(f);
	assert_unmaps_all(f->container, PAGES(1001));
	bar_close(&bar);
}

/* Only the RAM of a mapping counts, wherever in it the BAR is. */
static void ram_around_a_bar(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_pages(1024);
	struct bar bar;

	bar_open(f, &bar);
	assert_ptr_equal(mremap(bar.mem, PAGES(300), PAGES(300), MREMAP_MAYMOVE | MREMAP_FIXED,
				mem + PAGES(100)), mem + PAGES(100));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1024)));
	assert_charged(f, 724);
	assert_pinned(f, 724);
	/* The RAM on both sides is reached. */
	assert_dma_reaches(f, 0, mem, BASE);
	assert_dma_reaches(f, 0, mem + PAGES(99), BASE + PAGES(99));
	assert_dma_reaches(f, 0, mem + PAGES(400), BASE + PAGES(400));
	assert_dma_reaches(f, 0, mem + PAGES(1023), BASE + PAGES(1023));
	assert_unmaps(f->container, BASE, PAGES(1024), PAGES(1024));
	assert_nothing_held(f);

	/* BAR first, RAM first. */
	assert_ok(vu_map_rw(f->container, mem + PAGES(399), BASE, PAGES(3)));
	assert_ok(vu_map_rw(f->container, mem + PAGES(98), 0, PAGES(3)));
	assert_charged(f, 4);
	assert_unmaps_all(f->container, PAGES(6));

	/* The hole after the BAR is found, and the RAM before it is given back. */
	assert_int_equal(munmap(mem + PAGES(400), PAGES(1)), 0);
	assert_ret(vu_map_rw(f->container, mem, BASE, PAGES(1024)), -EFAULT);
	assert_nothing_held(f);
	vu_free(mem, PAGES(1024));
	bar_close(&bar);
}

/* A BAR whose device does not answer to memory accesses can't be mapped. */
static void a_bar_that_is_switched_off(void **state)
{
	struct fixture *f = *state;
	__u16 on, off;
	struct bar bar;

	bar_open(f, &bar);
	assert_ok(vu_config_read(&bar.pci, PCI_COMMAND, &on, sizeof(on)));
	off = on & ~PCI_COMMAND_MEMORY;
	assert_ok(vu_config_write(&bar.pci, PCI_COMMAND, &off, sizeof(off)));
	assert_ret(vu_map_rw(f->container, bar.mem, BASE, PAGES(16)), -EFAULT);
	assert_unmaps_all(f->container, 0);
	assert_ok(vu_config_write(&bar.pci, PCI_COMMAND, &on, sizeof(on)));
	assert_ok(vu_map_rw(f->container, bar.mem, BASE, PAGES(16)));
	assert_unmaps_all(f->container, PAGES(16));
	bar_close(&bar);
}

struct memlock_case {
	const struct fixture *f;
	const struct bar *bar;
	void *ram;
};

/* Runs with a limit of one page. */
static void map_much_bar_and_little_ram(void *arg)
{
	const struct memlock_case *c = arg;
	const int container = c->f->container;

	child_check(!vu_map_rw(container, c->bar->mem, BASE, 16 * MIB));
	child_check(!vu_locked_kib());
	child_check(!vu_map_rw(container, c->ram, 0, PAGES(1)));
	child_check(vu_map_rw(container, c->ram, GIB, PAGES(1)) == -ENOMEM);
	child_check(!vu_map_rw(container, c->bar->mem, BASE + GIB, 16 * MIB));
	child_check(!vu_unmap(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
}

static void a_bar_needs_no_memlock(void **state)
{
	struct fixture *f = *state;
	struct memlock_case c = { .f = f, .ram = mem_pages(1) };
	struct bar bar;

	bar_open(f, &bar);
	c.bar = &bar;
	in_child_nobody(PAGES(1), map_much_bar_and_little_ram, &c);
	bar_close(&bar);
	vu_free(c.ram, PAGES(1));
}

/* ---- Peer to peer ---- */

static __u32 liveness(const struct vu_edu *edu)
{
	return __atomic_load_n((__u32 *)(edu->regs + EDU_LIVENESS), __ATOMIC_ACQUIRE);
}

/* Let the first edu write val to the second one's register through iova. */
static void poke(const struct fixture *f, __u32 *ram, __u32 val, __u64 iova)
{
	*ram = val;
	assert_ok(vu_edu_copy(&f->edu[0], iova + EDU_LIVENESS, 0, sizeof(*ram)));
}

static void one_device_reaches_the_bar_of_another(void **state)
{
	const struct fixture *f = *state;
	const struct vu_edu *target = &f->edu[1];
	__u32 *ram = mem_pages(1);

	assert_ok(vu_map_rw(f->container, ram, 0, VU_PAGE));
	assert_ok(vu_map_rw(f->container, target->regs, BASE, target->size));
	assert_charged(f, 1);

	poke(f, ram, 0x12345678, BASE);
	assert_int_equal(liveness(target), ~0x12345678U);
	/* And reads it. */
	assert_ok(vu_edu_copy(&f->edu[0], 0, BASE + EDU_LIVENESS, sizeof(*ram)));
	assert_int_equal(*ram, ~0x12345678U);

	assert_unmaps(f->container, BASE, target->size, target->size);
	poke(f, ram, 0x9abcdef0, BASE);
	assert_int_equal(liveness(target), ~0x12345678U);
	assert_unmaps_all(f->container, VU_PAGE);
	vu_free(ram, VU_PAGE);
}

/* The same where the BAR comes amid RAM, in one mapping. */
static void a_bar_amid_ram_is_reached(void **state)
{
	const struct fixture *f = *state;
	const struct vu_edu *target = &f->edu[1];
	char *mem = mem_pages(24);
	void *window;

	window = mmap(mem + PAGES(8), PAGES(8), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		      f->pci[1].device_fd, 0);
	assert_ptr_equal(window, mem + PAGES(8));
	assert_ok(vu_map_rw(f->container, mem, 0, PAGES(24)));
	assert_charged(f, 16);

	poke(f, (__u32 *)mem, 0x600df00d, PAGES(8));
	assert_int_equal(liveness(target), ~0x600df00dU);
	assert_dma_reaches(f, 0, mem + PAGES(7), PAGES(7));
	assert_dma_reaches(f, 0, mem + PAGES(16), PAGES(16));
	assert_unmaps_all(f->container, PAGES(24));
	vu_free(mem, PAGES(24));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(a_whole_bar_costs_nothing),
		TEST_V2(ram_around_a_bar),
		TEST_V2(a_bar_that_is_switched_off),
		TEST_V2(a_bar_needs_no_memlock),
		TEST_TWO(one_device_reaches_the_bar_of_another),
		TEST_TWO(a_bar_amid_ram_is_reached),
	};

	return cmocka_run_group_tests_name("bar", tests, NULL, NULL);
}
