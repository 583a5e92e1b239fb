/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * MAP and UNMAP requests of MMIO: cheap, and of no interest to their suites.
 */
#ifndef _TESTS_KUNIT_REQUEST_FIXTURE_H
#define _TESTS_KUNIT_REQUEST_FIXTURE_H

#include "mock_iommu.h"
#include "suite.h"

#define ENTRIES		8
#define MMIO_PAGES	64
#define FAR_PAGE	(BIT_ULL(45) / PAGE_SIZE)

/**
 * struct fixture - what each case starts with
 * @container: v2, with one domain
 * @domain: that domain
 * @mock: the mock in it, with 4K IOPTEs, to be counted as pages
 * @vaddr: MMIO_PAGES of user memory
 */
struct fixture {
	struct vfio_type1_container *container;
	struct vfio_domain domain;
	struct mock_iommu *mock;
	unsigned long vaddr;
};

int request_case_init(struct kunit *test);
void request_case_exit(struct kunit *test);

/* For SUITE(): one whose cases begin with a fixture. */
#define REQUEST_SUITE	\
	USER_MEM_SUITE, .init = request_case_init, .exit = request_case_exit

static inline int map_bytes(struct fixture *fx, u64 iova, u64 vaddr, u64 size)
{
	return call_map_dma(fx->container, iova, vaddr, size, RW, false);
}

static inline int map_pages(struct fixture *fx, u64 first, unsigned int npages)
{
	return map_bytes(fx, first * PAGE_SIZE, fx->vaddr, npages * PAGE_SIZE);
}

static inline int unmap_bytes(struct fixture *fx, u64 iova, u64 size, u64 *unmapped)
{
	return call_unmap_dma(fx->container, iova, size, false, NULL, unmapped);
}

static inline int unmap_all(struct fixture *fx, u64 *unmapped)
{
	return call_unmap_dma(fx->container, 0, 0, true, NULL, unmapped);
}

#endif /* _TESTS_KUNIT_REQUEST_FIXTURE_H */
