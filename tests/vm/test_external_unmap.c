// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users of a container: that they are told before a mapping goes, and that all goes
 * with them.
 */
#include "external.h"

/* ---- Unmapping what is pinned ---- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("external_unmap", tests, NULL, NULL);
}
