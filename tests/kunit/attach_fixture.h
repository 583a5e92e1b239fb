/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Groups that come and go, with the kernel's own iommu_group and a fake IOMMU.
 *
 * Most cases start with two mappings of fragmented memory, so that each has several runs.
 * Whatever a case leaves attached or mapped, its exit destroys the container and checks that
 * nothing of it is left.
 */
#ifndef _TESTS_KUNIT_ATTACH_FIXTURE_H
#define _TESTS_KUNIT_ATTACH_FIXTURE_H

#include <linux/sizes.h>
#include <linux/vfio.h>

#include "fake_iommu.h"
#include "klog.h"
#include "mock_iommu.h"
#include "suite.h"

#define ENTRIES		16

/* Two mappings of one stretch of user memory, which is made of runs. */
#define RUN_PAGES	8
#define NPAGES		128
#define RUNS		(NPAGES / RUN_PAGES)
#define LOW_IOVA	((u64)SZ_1M)
#define LOW_PAGES	96
#define HIGH_IOVA	((u64)SZ_4G)
#define HIGH_PAGES	(NPAGES - LOW_PAGES)

/* What the probe maps in a domain, before anything else. */
#define PROBE_CALLS	1

/**
 * struct fixture - what each case starts with
 * @container: v2, without groups; NULL once it was destroyed
 * @block: USER_BLOCK_PAGES contiguous pages
 * @pages: NPAGES of them in the order of the user mapping
 * @vaddr: where they are
 * @locked_vm: before anything was charged
 * @emulated: a group without an IOMMU
 * @device: an in-kernel user in it, which unpins when it is told to
 * @pinned: pages from @pages[0] on that @device has pinned at LOW_IOVA
 * @leaves: @emulated leaves when @device is told of an unmap
 * @next: device that a thread attaches
 * @log: what was logged, from where a case says
 */
struct fixture {
	struct vfio_type1_container *container;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	unsigned long locked_vm;
	struct iommu_group *emulated;
	struct vfio_device device;
	unsigned int pinned;
	bool leaves;
	unsigned int next;
	struct klog log;
};

/* What an attach that fails must not change. */
struct state {
	const struct vfio_domain *primary;
	unsigned int domains;
	unsigned int groups;
	unsigned int emulated;
	unsigned int ptes;
	unsigned long pgsizes;
	unsigned int dirty_groups;
	unsigned int avail;
	unsigned int ranges;
	u64 range_sum;
	bool coherent;
};

/* Kinds of IOMMU: a plain one, and some that are unlike it. */
extern const struct fake_traits plain;
extern const struct fake_traits incoherent;
extern const struct fake_traits foreign;
extern const struct fake_traits more_sizes;
extern const struct fake_traits large_pages;
extern const struct fake_traits x86_like;

/* A KUnit parameter for each way to be unlike @plain; param() is which. */
const void *unlike_gen(const void *prev, char *desc);

void pin_low(struct kunit *test, struct iommu_group *group, unsigned int npages);
void expect_iommu_pins(struct kunit *test, unsigned int npages, unsigned int charged);
void expect_contents(struct kunit *test, struct mock_iommu *mock);
void expect_both_in_two_domains(struct kunit *test);
void expect_no_mappings(struct kunit *test);
struct state state_of(struct kunit *test);
void expect_state(struct kunit *test, const struct state *was, const char *what);
int attach_case_init(struct kunit *test);
void attach_destroy(struct kunit *test);
void attach_case_exit(struct kunit *test);

/* For SUITE(): one whose cases begin with a fixture. */
#define ATTACH_SUITE	\
	FAKE_IOMMU_SUITE, .init = attach_case_init, .exit = attach_case_exit

static inline const struct fake_traits *param(struct kunit *test)
{
	return *(const struct fake_traits *const *)test->param_value;
}

static inline int attach_emulated(struct kunit *test)
{
	struct fixture *fx = test->priv;

	return vfio_container_attach_emulated(fx->container, fx->emulated);
}

static inline void detach_emulated(struct kunit *test)
{
	struct fixture *fx = test->priv;

	vfio_container_detach(fx->container, fx->emulated);
}

static inline void unpin(struct fixture *fx)
{
	vfio_external_unpin(fx->container, LOW_IOVA, fx->pinned);
	fx->pinned = 0;
}

static inline struct iommu_group *group(unsigned int nr)
{
	return fake_iommu.devices[nr].group;
}

static inline int attach(struct kunit *test, unsigned int nr, const struct fake_traits *traits)
{
	struct fixture *fx = test->priv;

	fake_iommu.devices[nr].traits = traits;
	return vfio_container_attach(fx->container, group(nr));
}

static inline void detach(struct kunit *test, unsigned int nr)
{
	struct fixture *fx = test->priv;

	vfio_container_detach(fx->container, group(nr));
}

static inline void must_attach(struct kunit *test, unsigned int nr,
			       const struct fake_traits *traits)
{
	KUNIT_ASSERT_EQ_MSG(test, 0, attach(test, nr, traits), "group %u, %s", nr, traits->name);
}

/* The page table that a group's device uses. */
static inline struct mock_iommu *mock(unsigned int nr)
{
	return fake_mock(fake_iommu.devices[nr].domain);
}

static inline int map_bytes(struct kunit *test, u64 iova, unsigned long vaddr, u64 size, int prot)
{
	struct fixture *fx = test->priv;

	return call_map_dma(fx->container, iova, vaddr, size, prot, false);
}

static inline int map_low(struct kunit *test)
{
	struct fixture *fx = test->priv;

	return map_bytes(test, LOW_IOVA, fx->vaddr, LOW_PAGES * PAGE_SIZE, RW);
}

static inline int map_high(struct kunit *test)
{
	struct fixture *fx = test->priv;

	return map_bytes(test, HIGH_IOVA, fx->vaddr + LOW_PAGES * PAGE_SIZE,
			 HIGH_PAGES * PAGE_SIZE, IOMMU_READ);
}

static inline void map_both(struct kunit *test)
{
	KUNIT_ASSERT_EQ(test, 0, map_low(test));
	KUNIT_ASSERT_EQ(test, 0, map_high(test));
}

static inline void must_unmap(struct kunit *test, u64 iova, u64 size)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, call_unmap_dma(fx->container, iova, size, false, NULL,
						&unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, size);
}

static inline void unmap_both(struct kunit *test)
{
	must_unmap(test, LOW_IOVA, LOW_PAGES * PAGE_SIZE);
	must_unmap(test, HIGH_IOVA, HIGH_PAGES * PAGE_SIZE);
}

#endif /* _TESTS_KUNIT_ATTACH_FIXTURE_H */
