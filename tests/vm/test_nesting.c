// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO_TYPE1_NESTING_IOMMU: a v2 container whose domains shall be prepared for
 * nested translation. Up to 6.12 only Arm's SMMUs could do that; VT-d and AMD-Vi
 * refuse, so that all it can be used for here are in-kernel users. 6.13 removed
 * it.
 */
#include "emu/emu_user.h"

/* Called VFIO_TYPE1_NESTING_IOMMU by the headers of these kernels. */
#define TYPE_NESTING	6

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

/* As if it had not been tried. */
static void refused_without_support_by_the_iommu(void **state)
{
	struct fixture *f = *state;
	void *mem = mem_pages(1);

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ret(vu_set_iommu(f->container, TYPE_NESTING), -EINVAL);
	assert_ret(vu_map_rw(f->container, mem, BASE, VU_PAGE), -EINVAL);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	fixture_open_device(f, 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, VU_PAGE));
	assert_dma_reaches(f, 0, mem, BASE);
	assert_unmaps_all(f->container, VU_PAGE);
	vu_free(mem, VU_PAGE);
}

static void open_with_in_kernel_users_only(struct emu_fixture *e)
{
	fixture_open_container(e->f);
	emu_attach(e, 0);
	assert_ok(vu_set_iommu(e->f->container, TYPE_NESTING));
	emu_open_device(e, 0);
}

static void has_the_rules_of_v2(void **state)
{
	struct emu_fixture *e = *state;
	void *mem = mem_pages(4);

	open_with_in_kernel_users_only(e);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(4)));
	/* Neither v1's pins (none), nor its unmaps (the whole mapping, or nothing). */
	assert_ret(emu_pin(&e->emu[0], BASE, 2), 2);
	assert_charged(e->f, 2);
	assert_ret(vu_unmap(e->f->container, BASE, PAGES(2), 0, NULL), -EINVAL);
	assert_ok(emu_unpin(&e->emu[0], BASE, 2));
	assert_unmaps(e->f->container, BASE, PAGES(4), PAGES(4));
	vu_free(mem, PAGES(4));
}

static void a_late_group_is_refused_and_the_rest_goes_on(void **state)
{
	struct emu_fixture *e = *state;
	struct fixture *f = e->f;
	void *mem = mem_pages(1);

	open_with_in_kernel_users_only(e);
	assert_ok(vu_map_rw(f->container, mem, BASE, VU_PAGE));
	assert_ok(vu_group_open(&f->pci[0]));
	assert_ret(vu_group_attach(&f->pci[0], f->container), -EINVAL);
	assert_nothing_held(f);
	assert_ret(emu_pin(&e->emu[0], BASE, 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE, 1));
	assert_unmaps_all(f->container, VU_PAGE);
	vu_free(mem, VU_PAGE);
}

static void removed_from_the_kernel(void **state)
{
	struct fixture *f = *state;

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ret(vu_set_iommu(f->container, TYPE_NESTING), -ENODEV);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
}

int main(void)
{
	const struct CMUnitTest removed[] = {
		TEST_CLOSED(removed_from_the_kernel),
	};
	const struct CMUnitTest tests[] = {
		TEST_CLOSED(refused_without_support_by_the_iommu),
		TEST_EMU_CLOSED(has_the_rules_of_v2),
		TEST_EMU_CLOSED(a_late_group_is_refused_and_the_rest_goes_on),
	};

	if (kernel_at_least(6, 13))
		return cmocka_run_group_tests_name("nesting", removed, NULL, NULL);
	return cmocka_run_group_tests_name("nesting", tests, NULL, NULL);
}
