/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IOMMU domains without an IOMMU, to be used through the kernel's own
 * iommu_map(), iommu_unmap_fast(), iommu_iova_to_phys().
 *
 * A mock behaves like a driver where that is well defined, and notes a
 * violation where a real one would do harm:
 *
 *  - mapping what is mapped already;
 *  - unmapping a hole (VT-d skips as much as the hole's level covers);
 *  - unmapping that starts or ends inside an IOPTE, unless the range lies
 *    inside of that one IOPTE and starts with it: then, as on VT-d and AMD-Vi,
 *    all of the IOPTE goes and its size comes back;
 *  - pages that were pinned when they were mapped, but are no longer when they
 *    are unmapped or when the IOTLB is synced;
 *  - leaving unmapped IOVA unsynced;
 *  - freeing a page table before a sync of all IOVA that it translated, where unmapping
 *    does with tables what VT-d's before 7.0 does: those that a call empties are freed
 *    with the next sync, which is the call's own, and comes before its IOVA are gathered,
 *    if these do not go with what was gathered before;
 *  - mapping an IOPTE where a table is, which frees that, as VT-d and AMD-Vi's v2 do.
 */
#ifndef _TESTS_KUNIT_MOCK_IOMMU_H
#define _TESTS_KUNIT_MOCK_IOMMU_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/iommu.h>
#include <linux/rbtree.h>
#include <linux/xarray.h>

struct vfio_domain;
struct vfio_type1_container;

/**
 * struct mock_flavour - a kind of IOMMU
 * @name: for people
 * @pgsize_bitmap: IOPTE sizes
 * @fgsp: what the probe should find
 * @single: has the single-page operations
 * @hides: a map that fails says that it did nothing, whatever it did
 * @keeps_tables: unmapping frees no table
 */
struct mock_flavour {
	const char *name;
	unsigned long pgsize_bitmap;
	bool fgsp;
	bool single;
	bool hides;
	bool keeps_tables;
};

const void *mock_flavour_gen(const void *prev, char *desc);

/* Tables of 4K and of 2M IOPTEs. */
#define MOCK_LEVELS	2

/**
 * struct mock_iommu - a domain
 * @domain: what the module sees
 * @ptes: struct mock_pte by IOVA
 * @nr_ptes: how many there are
 * @stale: struct mock_pte unmapped since the last sync
 * @tables: struct mock_table by IOVA, for each level, if there are any
 * @unlinked: struct mock_table that the next sync of the same gather frees
 * @nr_freed: tables that a sync freed
 * @nr_map: calls to the driver's map operation, likewise for the others
 * @nr_unmap: calls
 * @nr_sync: calls
 * @nr_sync_map: calls
 * @nr_to_phys: calls
 * @fail_map: count down to the call of map that fails half-way; 0: none does
 * @hides: a call of map that fails says that it did nothing, as VT-d up to 6.12 does, and
 *	has mapped one IOPTE at least
 * @keeps_tables: unmapping frees no table
 * @stuck: IOVA of an IOPTE that never goes away
 * @clean: page that is not to be dirty before the IOTLB is synced, or NULL
 * @entered: completed by the call of map that waits for @gate
 * @gate: the next call of map waits for it, if not NULL
 * @violation: the first one, empty if there was none
 */
struct mock_iommu {
	struct iommu_domain domain;
	struct rb_root ptes;
	unsigned int nr_ptes;
	struct list_head stale;
	struct xarray tables[MOCK_LEVELS];
	struct list_head unlinked;
	unsigned int nr_freed;
	unsigned int nr_map;
	unsigned int nr_unmap;
	unsigned int nr_sync;
	unsigned int nr_sync_map;
	unsigned int nr_to_phys;
	unsigned int fail_map;
	bool hides;
	bool keeps_tables;
	u64 stuck;
	struct page *clean;
	struct completion entered;
	struct completion *gate;
	char violation[128];
};

#define MOCK_NOT_STUCK	U64_MAX	/* not page-aligned, so no IOPTE starts there */

/* For a driver whose domains are made of mocks: see fake_iommu.h. */
extern const struct iommu_domain_ops mock_iommu_ops;
void mock_iommu_init(struct mock_iommu *mock);
void mock_iommu_fini(struct mock_iommu *mock);

struct mock_iommu *mock_iommu_create(struct kunit *test, const struct mock_flavour *flavour);
void mock_iommu_destroy(struct mock_iommu *mock);
void mock_iommu_lose(struct mock_iommu *mock, u64 iova);
int mock_iommu_prot(struct mock_iommu *mock, u64 iova);

/* Make a mock's domain one of the container's, as attaching a group would. */
void mock_iommu_join(struct kunit *test, struct mock_iommu *mock, struct vfio_domain *domain,
		     struct vfio_type1_container *container);

/* Unmap all and release a container whose domains, which are mocks, are not its own. */
void mock_iommu_release(struct vfio_type1_container *container);

/* No violation, nothing mapped, nothing unsynced. */
void mock_iommu_expect_empty(struct kunit *test, struct mock_iommu *mock);

#endif /* _TESTS_KUNIT_MOCK_IOMMU_H */
