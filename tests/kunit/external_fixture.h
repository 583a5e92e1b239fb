/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In-kernel users, as their suites want them.
 *
 * Memory is a block of pages; the first half of it is mapped as LOW, for reading and writing,
 * the second as HIGH, right behind it in IOVA, for reading only. There is no IOMMU, unless a
 * case adds one, so that nothing is pinned but what a case asks for.
 */
#ifndef _TESTS_KUNIT_EXTERNAL_FIXTURE_H
#define _TESTS_KUNIT_EXTERNAL_FIXTURE_H

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/sizes.h>
#include <linux/vfio.h>

#include "mock_iommu.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16

#define NPAGES		64U
#define LOW_PAGES	32U
#define LOW_IOVA	((u64)SZ_1M)
#define LOW_SIZE	(LOW_PAGES * PAGE_SIZE)
#define HIGH_IOVA	(LOW_IOVA + LOW_SIZE)
#define BEHIND		(LOW_IOVA + NPAGES * PAGE_SIZE)
/* Where a request maps, pins and copies. */
#define NEW_IOVA	((u64)SZ_1G)

/**
 * struct fixture - what each case starts with
 * @container: v2
 * @domain: not in the container, see add_iommu()
 * @mock: its page table, if it is
 * @group: an emulated group, which is attached
 * @device: its device, which is registered
 * @dev: what gives it a name
 * @told: how often it was told of an unmap
 * @patience: how often it wants to be told before it unpins
 * @until: it does not unpin before this time (jiffies), if not 0
 * @pinned: pages it has pinned from LOW_IOVA on
 * @block: memory
 * @pages: NPAGES of it
 * @vaddr: where they are
 * @hole: page whose place in the user mapping was taken, or NULL
 * @locked_vm: before anything was charged
 * @result: what @device saw when it tried something as it was told
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain;
	struct mock_iommu *mock;
	struct iommu_group *group;
	struct vfio_device device;
	struct device dev;
	unsigned int told;
	unsigned int patience;
	unsigned long until;
	unsigned int pinned;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	struct page *hole;
	unsigned long locked_vm;
	int result[2];
};

/*
 * A request in a thread of its own: to MAP, or what an in-kernel user wants meanwhile; to
 * UNMAP all, or to UNMAP all while killed.
 */
struct request {
	struct fixture *fx;
	enum { MAP, PIN, COPY, UNMAP, UNMAP_KILLED } what;
	struct user_call thread;
	u64 unmapped;
	int ret;
};

void new_container(struct kunit *test);
int external_case_init(struct kunit *test);
void add_iommu(struct kunit *test);
void external_case_exit(struct kunit *test);
void expect_user_pins(struct kunit *test, unsigned int first, unsigned int end,
		      unsigned int charged);
void start(struct kunit *test, struct request *r);

/* For SUITE(): one whose cases begin with a fixture. */
#define EXTERNAL_SUITE	\
	USER_MEM_SUITE, .init = external_case_init, .exit = external_case_exit

static inline int pin_at(struct fixture *fx, u64 iova, int npages, int prot, struct page **pages)
{
	return call_external_pin(fx->container, fx->group, iova, npages, prot, pages);
}

static inline int copy_at(struct fixture *fx, u64 iova, void *data, size_t count, bool write)
{
	return vfio_external_rw(fx->container, iova, data, count, write);
}

static inline int map_pages(struct fixture *fx, u64 iova, unsigned int first, unsigned int npages,
			    int prot)
{
	return call_map_dma(fx->container, iova, fx->vaddr + first * PAGE_SIZE,
			    npages * PAGE_SIZE, prot, false);
}

static inline void must_unmap_only(struct kunit *test, u64 iova, u64 size, u64 want)
{
	struct fixture *fx = test->priv;
	u64 unmapped = 0;

	KUNIT_ASSERT_EQ(test, 0, call_unmap_dma(fx->container, iova, size, !size, NULL,
						&unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, want);
}

static inline void must_unmap(struct kunit *test, u64 iova, u64 size)
{
	must_unmap_only(test, iova, size, size);
}

/* Where page @nr was, there is nothing any more. Its reference is kept. */
static inline void make_hole(struct fixture *fx, unsigned int nr)
{
	fx->hole = fx->pages[nr];
	get_page(fx->hole);
	user_unmap(fx->vaddr + nr * PAGE_SIZE, 1);
}

static inline struct vfio_dma *low(struct fixture *fx)
{
	return rb_entry(rb_first(&fx->container->tree.root), struct vfio_dma, node);
}

/* Returns whether it still waits. */
static inline bool waits(struct request *r)
{
	return user_call_waits(&r->thread);
}

static inline void finish(struct request *r)
{
	wait_for_completion(&r->thread.done);
	kthread_stop(r->thread.task);
}

#endif /* _TESTS_KUNIT_EXTERNAL_FIXTURE_H */
