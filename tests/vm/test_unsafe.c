// SPDX-License-Identifier: GPL-2.0-only
/*
 * Without interrupt remapping a device can inject any interrupt, so that none
 * is attached unless the administrator allows it: allow_unsafe_interrupts.
 *
 * VM: --append intremap=off
 */
#include "testlib.h"

#define PARAMETER	"allow_unsafe_interrupts"
#define BASE		(5 * GIB)

static void allow(bool yes)
{
	module_param_write(PARAMETER, yes);
}

static int unsafe_teardown(void **state)
{
	allow(false);
	return test_teardown(state);
}

static void the_first_group_is_refused(void **state)
{
	struct fixture *f = *state;
	void *mem = mem_pages(1);
	int kmsg = kmsg_open();

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ret(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU), -EPERM);
	assert_ret(vu_set_iommu(f->container, VFIO_TYPE1_IOMMU), -EPERM);
	/* The message says what would help. */
	assert_int_equal(kmsg_count(kmsg, PARAMETER), 2);
	close(kmsg);

	/* There is no IOMMU yet to map anything. */
	assert_ret(vu_map_rw(f->container, mem, BASE, VU_PAGE), -EINVAL);
	assert_ret(vu_device_open(&f->pci[0]), -EINVAL);
	vu_free(mem, VU_PAGE);
}

static void it_is_attached_when_allowed(void **state)
{
	struct fixture *f = *state;
	void *mem = mem_pages(1);

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ret(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU), -EPERM);
	allow(true);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	/* From then on it is the usual container. */
	allow(false);
	fixture_open_device(f, 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, VU_PAGE));
	assert_dma_reaches(f, 0, mem, BASE);
	assert_unmaps_all(f->container, VU_PAGE);
	assert_dma_blocked(f, 0, mem, BASE);
	vu_free(mem, VU_PAGE);
}

static void a_late_group_is_refused_and_the_first_goes_on(void **state)
{
	struct fixture *f = *state;
	void *mem = mem_pages(1);

	allow(true);
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	fixture_open_device(f, 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, VU_PAGE));

	allow(false);
	assert_ok(vu_group_open(&f->pci[1]));
	assert_ret(vu_group_attach(&f->pci[1], f->container), -EPERM);
	assert_ret(vu_device_open(&f->pci[1]), -EINVAL);
	assert_charged(f, 1);
	assert_dma_reaches(f, 0, mem, BASE);

	/* Its failure has not spoilt it for later. */
	allow(true);
	assert_ok(vu_group_attach(&f->pci[1], f->container));
	fixture_open_device(f, 1);
	assert_dma_reaches(f, 1, mem, BASE);
	assert_unmaps_all(f->container, VU_PAGE);
	vu_free(mem, VU_PAGE);
}

#define TEST_UNSAFE(name) \
	cmocka_unit_test_setup_teardown(name, test_setup_closed, unsafe_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_UNSAFE(the_first_group_is_refused),
		TEST_UNSAFE(it_is_attached_when_allowed),
		TEST_UNSAFE(a_late_group_is_refused_and_the_first_goes_on),
	};

	return cmocka_run_group_tests_name("unsafe", tests, NULL, NULL);
}
