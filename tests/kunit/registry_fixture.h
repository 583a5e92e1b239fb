/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registered memory, as its suites want it.
 *
 * The memory is a block of physically contiguous pages, mapped to user space in some order.
 * Cases run on behalf of one process, with two containers; changes of its memory are told by
 * the fake watch.
 */
#ifndef _TESTS_KUNIT_REGISTRY_FIXTURE_H
#define _TESTS_KUNIT_REGISTRY_FIXTURE_H

#include <linux/vfio.h>

#include "fake_iommu.h"
#include "fake_watch.h"
#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16
#define CONTAINERS	2U
#define NPAGES		USER_BLOCK_PAGES

/**
 * struct fixture - what each case starts with
 * @container: v2; number n has group n, unless closed or detached
 * @emulated: a group without an IOMMU
 * @device: its in-kernel user
 * @block: USER_BLOCK_PAGES contiguous pages
 * @pages: pages of @block in the order of the user mapping
 * @vaddr: where
 * @mapped: there is a user mapping
 * @locked_vm: before anything was charged
 */
struct fixture {
	struct vfio_type1_container *container[CONTAINERS];
	struct iommu_group *emulated;
	struct vfio_device device;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	bool mapped;
	unsigned long locked_vm;
};

/* A layout cuts the block into chunks and lines these up in reverse. */
enum layout { SEQUENTIAL, SINGLES, EIGHTS, RANDOM, NR_LAYOUTS };

extern const struct fake_traits vtd;
extern const struct fake_traits amdvi;

struct vfio_type1_container *open_container(struct kunit *test, bool strict);
void close_container(struct kunit *test, unsigned int c);
void reopen_containers(struct kunit *test);
int registry_case_init(struct kunit *test);
void drop_memory(struct fixture *fx);
void registry_case_exit(struct kunit *test);
void make_memory(struct kunit *test, enum layout layout);
void expect_region_pins(struct kunit *test, unsigned int first, unsigned int npages,
			unsigned int pins);
void expect_no_region(struct kunit *test);
void expect_mapped_at(struct kunit *test, unsigned int group, u64 iova, unsigned int page,
		      unsigned int npages, int prot);

/* For SUITE(): one whose cases begin with a fixture. */
#define REGISTRY_SUITE	\
	FAKE_IOMMU_SUITE, .init = registry_case_init, .exit = registry_case_exit

/* The page table that a group's device uses. */
static inline struct mock_iommu *mock(unsigned int group)
{
	return fake_mock(fake_iommu.devices[group].domain);
}

static inline void attach(struct kunit *test, unsigned int c, unsigned int group,
			  const struct fake_traits *traits)
{
	struct fixture *fx = test->priv;

	fake_iommu.devices[group].traits = traits;
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach(fx->container[c],
						       fake_iommu.devices[group].group));
}

static inline void detach(struct kunit *test, unsigned int c, unsigned int group)
{
	struct fixture *fx = test->priv;

	vfio_container_detach(fx->container[c], fake_iommu.devices[group].group);
}

static inline unsigned long vaddr_of(struct kunit *test, unsigned int page)
{
	struct fixture *fx = test->priv;

	return fx->vaddr + page * PAGE_SIZE;
}

static inline int reg(struct kunit *test, unsigned int c, unsigned int page, unsigned int npages,
		      bool read_only)
{
	struct fixture *fx = test->priv;

	return vfio_registry_register(fx->container[c], vaddr_of(test, page),
				      (u64)npages * PAGE_SIZE, read_only);
}

static inline int unreg(struct kunit *test, unsigned int c, unsigned int page, unsigned int npages)
{
	struct fixture *fx = test->priv;

	return vfio_registry_unregister(fx->container[c], vaddr_of(test, page),
					(u64)npages * PAGE_SIZE);
}

static inline int map_prot(struct kunit *test, unsigned int c, u64 iova, unsigned int page,
			   unsigned int npages, int prot)
{
	struct fixture *fx = test->priv;

	return call_map_dma(fx->container[c], iova, vaddr_of(test, page), (u64)npages * PAGE_SIZE,
			    prot, false);
}

static inline int map(struct kunit *test, unsigned int c, u64 iova, unsigned int page,
		      unsigned int npages)
{
	return map_prot(test, c, iova, page, npages, RW);
}

static inline void must_unmap(struct kunit *test, unsigned int c, u64 iova, unsigned int npages)
{
	u64 size = (u64)npages * PAGE_SIZE, unmapped = 0;
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, call_unmap_dma(fx->container[c], iova, size, false, NULL,
						&unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, size);
}

static inline void expect_charge(struct kunit *test, unsigned int npages)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm + npages);
}

static inline struct vfio_dma *mapping(struct kunit *test, unsigned int c, u64 iova)
{
	struct fixture *fx = test->priv;
	struct vfio_dma *dma = suite_mapping(fx->container[c], iova);

	KUNIT_ASSERT_NOT_NULL(test, dma);
	return dma;
}

static inline struct vfio_region *only_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct rb_node *node = rb_first(&fx->container[0]->registry->regions);

	KUNIT_ASSERT_NOT_NULL(test, node);
	KUNIT_ASSERT_NULL(test, rb_next(node));
	return rb_entry(node, struct vfio_region, node);
}

/* The process is gone, and all is done about it. */
static inline void process_dies(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fake_watch_release();
	flush_work(&fx->container[0]->registry->orphaned);
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);
}

#endif /* _TESTS_KUNIT_REGISTRY_FIXTURE_H */
