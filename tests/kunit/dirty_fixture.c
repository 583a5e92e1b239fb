// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty bitmaps, as their suites want them: see dirty_fixture.h.
 */

#include <linux/mman.h>
#include <linux/uaccess.h>

#include "dirty_fixture.h"
#include "user_mem.h"

static const struct mock_flavour any_size = { "any size", PAGE_MASK, true, false };

int dirty_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fx->vaddr = user_map_pfns(test, 0, MMIO_PFN, MMIO_PAGES);
	fx->bitmap = user_map_anon(test, BITMAP_PAGES + 1, PROT_READ | PROT_WRITE);
	user_unmap(fx->bitmap + BITMAP_PAGES * PAGE_SIZE, 1);
	suite_set_params(ENTRIES);
	fx->container = vfio_container_create(VFIO_CONTAINER_V2);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->container));
	fx->mock = mock_iommu_create(test, &any_size);
	mock_iommu_join(test, fx->mock, &fx->domain, fx->container);
	test->priv = fx;
	return 0;
}

void dirty_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;

	if (!fx)
		return;
	mock_iommu_release(fx->container);
	mock_iommu_destroy(fx->mock);
	user_unmap(fx->bitmap, BITMAP_PAGES);
	user_unmap(fx->vaddr, MMIO_PAGES);
	user_mem_detach();
}

/* As a device that pins, or dma_rw, would do, and note it. */
void mark(struct kunit *test, unsigned int first, unsigned int npages)
{
	struct fixture *fx = test->priv;
	struct vfio_dma *dma;

	down_write(&fx->container->lock);
	dma = vfio_dma_tree_first(&fx->container->tree, page_iova(first), page_iova(first));
	/* Not by whole pages: the bytes at either end count as their pages. */
	vfio_dirty_mark(fx->container, dma, page_iova(first) + PAGE_SIZE - 1,
			(u64)(npages - 1) * PAGE_SIZE + 1);
	up_write(&fx->container->lock);
	bitmap_set(fx->dirty, first, npages);
}

/* User space clears nothing before it asks. */
void fill_bitmap(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int w;

	for (w = 0; w < WORDS; w++)
		fx->want[w] = OLD_WORD;
	KUNIT_ASSERT_EQ(test, 0UL, copy_to_user((void __user *)fx->bitmap, fx->want,
						sizeof(fx->want)));
}

/*
 * Bits of a mapping are what they are, those between it and the end of the word that
 * it ends in are zero, and no others are touched. @base is the page of bit 0.
 */
void want_mapping(struct fixture *fx, unsigned int base, unsigned int first,
		  unsigned int npages, bool all)
{
	unsigned int bit, end = first - base + npages;

	for (bit = first - base; bit < round_up(end, 64); bit++) {
		bool set = bit < end && (all || test_bit(bit + base, fx->dirty));

		fx->want[bit / 64] &= ~BIT_ULL(bit % 64);
		fx->want[bit / 64] |= (u64)set << bit % 64;
	}
}

void expect_bitmap(struct kunit *test, const char *what, unsigned int a, unsigned int b)
{
	struct fixture *fx = test->priv;
	unsigned int w;

	KUNIT_ASSERT_EQ(test, 0UL, copy_from_user(fx->got, (void __user *)fx->bitmap,
						  sizeof(fx->got)));
	for (w = 0; w < WORDS; w++)
		KUNIT_ASSERT_EQ_MSG(test, fx->got[w], fx->want[w], "%s %u, %u: word %u", what, a,
				    b, w);
}
