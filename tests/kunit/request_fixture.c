// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP and UNMAP requests of MMIO: see request_fixture.h.
 */

#include "request_fixture.h"
#include "user_mem.h"

static const struct mock_flavour small_pages = { "4K only", PAGE_SIZE, false, false, true };

int request_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fx->vaddr = user_map_pfns(test, 0, MMIO_PFN, MMIO_PAGES);
	suite_set_params(ENTRIES);
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->mock = mock_iommu_create(test, &small_pages);
	mock_iommu_join(test, fx->mock, &fx->domain, fx->container);
	test->priv = fx;
	return 0;
}

void request_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	mock_iommu_release(fx->container);
	mock_iommu_destroy(fx->mock);
	user_unmap(fx->vaddr, MMIO_PAGES);
	user_mem_detach();
}
