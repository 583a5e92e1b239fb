// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users of a container: what pins cost whom.
 */
#include <sys/mman.h>

#include "external.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("external_cost", tests, NULL, NULL);
}
