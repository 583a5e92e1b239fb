// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users, as their suites want them: see external_fixture.h.
 */

#include <linux/mman.h>

#include "external_fixture.h"

static const struct mock_flavour small_pages = { "4K only", PAGE_SIZE, false, false };

/* Tries to pin and copy, in vain, and unpins if it was told often enough. */
static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
	struct fixture *fx = container_of(device, struct fixture, device);
	struct page *page;
	char byte;

	fx->told++;
	fx->result[0] = pin_at(fx, LOW_IOVA + fx->pinned * PAGE_SIZE, 1, RW, &page);
	fx->result[1] = copy_at(fx, LOW_IOVA, &byte, 1, false);
	if (fx->told >= fx->patience && (!fx->until || time_after(jiffies, fx->until))) {
		vfio_external_unpin(fx->container, LOW_IOVA, fx->pinned);
		fx->pinned = 0;
	}
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

void new_container(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container, fx->group));
	vfio_external_register(fx->container, &fx->device);
}

int external_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	suite_set_params(ENTRIES);
	fx->group = iommu_group_alloc();
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->group));
	fx->device.ops = &device_ops;
	fx->dev.init_name = "late-device";
	fx->device.dev = &fx->dev;
	test->priv = fx;
	new_container(test);
	fx->patience = 1;
	fx->block = user_block_alloc(test);
	for (i = 0; i < NPAGES; i++)
		fx->pages[i] = fx->block + NPAGES - 1 - i;
	fx->vaddr = user_map_pages(test, fx->pages, NPAGES, PROT_READ | PROT_WRITE);
	fx->locked_vm = user_locked_vm();
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, LOW_IOVA, 0, LOW_PAGES, RW));
	KUNIT_ASSERT_EQ(test, 0, map_pages(fx, HIGH_IOVA, LOW_PAGES, LOW_PAGES, IOMMU_READ));
	return 0;
}

/* Let an IOMMU in, as attaching a group would. */
void add_iommu(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fx->mock = mock_iommu_create(test, &small_pages);
	mock_iommu_join(test, fx->mock, &fx->domain, fx->container);
}

void external_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	vfio_external_unregister(fx->container, &fx->device);
	mock_iommu_release(fx->container);
	if (fx->mock)
		mock_iommu_destroy(fx->mock);
	iommu_group_put(fx->group);
	user_expect_unpinned(test, fx->pages, NPAGES);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	user_unmap(fx->vaddr, NPAGES);
	if (fx->hole)
		put_page(fx->hole);
	user_block_free(fx->block);
	user_mem_detach();
}

/* Of the memory's pages, those from @first up to @end are pinned, and so many are charged. */
void expect_user_pins(struct kunit *test, unsigned int first, unsigned int end,
		      unsigned int charged)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(fx->pages[i]), REFS_UNPINNED +
				    (i >= first && i < end ? GUP_PIN_COUNTING_BIAS : 0),
				    "page %u", i);
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm + charged);
}

static int request_call(void *data)
{
	struct request *r = data;
	struct vfio_type1_container *container = r->fx->container;
	struct page *page;
	char byte;

	if (r->what >= UNMAP)
		r->ret = call_unmap_dma(container, 0, 0, true, NULL, &r->unmapped);
	else if (r->what == MAP)
		r->ret = map_pages(r->fx, NEW_IOVA, 0, 4, RW);
	else if (r->what == PIN)
		r->ret = pin_at(r->fx, NEW_IOVA, 1, RW, &page);
	else
		r->ret = copy_at(r->fx, NEW_IOVA, &byte, 1, false);
	return r->ret;
}

void start(struct kunit *test, struct request *r)
{
	r->fx = test->priv;
	r->thread = (struct user_call) {
		.call = request_call, .data = r, .killed = r->what == UNMAP_KILLED,
	};
	user_call_start(test, &r->thread);
}
