/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An IOMMU that is known to the kernel, with devices behind it, so that the
 * kernel's own iommu_attach_group() and so on run on real groups.
 *
 * Each device has a group of its own, which is claimed for user space, and traits
 * that a case chooses: the IOMMU in front of it. A domain takes the traits of the
 * first device that is attached to it, as VT-d's do, and refuses devices whose
 * page sizes or aperture are not the same. Its page table is a mock_iommu.
 *
 * Noted as violations, beside those of the mock: devices of different coherency or
 * drivers in one domain, and a domain that is freed while a device uses it, or
 * without having been synced.
 */
#ifndef _TESTS_KUNIT_FAKE_IOMMU_H
#define _TESTS_KUNIT_FAKE_IOMMU_H

#include <linux/iommu.h>
#include <linux/platform_device.h>

#include "mock_iommu.h"

/* A reserved region. */
struct fake_region {
	u64 start;
	u64 length;
	enum iommu_resv_type type;
};

#define FAKE_DRIVERS	3
/* Does not know of cache coherency. */
#define FAKE_SILENT	2
#define FAKE_DEVICES	4
#define FAKE_REGIONS	4

/**
 * struct fake_traits - what the IOMMU in front of a device is like
 * @name: for people
 * @pgsize_bitmap: IOPTE sizes
 * @incoherent: cannot enforce cache coherency
 * @hides: mock_iommu.hides
 * @driver: below FAKE_DRIVERS; each has operations of its own
 * @aperture_first: lowest IOVA
 * @aperture_last: highest IOVA; 0 for 48 bits
 * @regions: those that start somewhere, or have a length
 */
struct fake_traits {
	const char *name;
	unsigned long pgsize_bitmap;
	bool incoherent;
	bool hides;
	unsigned int driver;
	u64 aperture_first;
	u64 aperture_last;
	struct fake_region regions[FAKE_REGIONS];
};

/**
 * struct fake_device - a device, and its group
 * @pdev: the device
 * @group: which has no other device
 * @traits: read when the device is attached, and when regions are asked for
 * @domain: paging domain that it is attached to, or NULL
 */
struct fake_device {
	struct platform_device *pdev;
	struct iommu_group *group;
	const struct fake_traits *traits;
	struct iommu_domain *domain;
};

/**
 * struct fake_iommu - the IOMMU
 * @iommu: what the kernel knows
 * @devices: the devices
 * @nr_domains: paging domains that were not freed yet
 * @fail_attach: bit n set: the n-th attach to a paging domain from now on fails
 * @attach_error: what it says then; 0: ENOMEM
 * @fail_map: mock_iommu.fail_map for the next domain that gets its first device
 * @nesting: domains can be nested
 * @capable: it can do whatever the kernel asks for, isolate interrupts among it
 * @violation: the first one of any domain, freed or not; empty if there was none
 */
struct fake_iommu {
	struct iommu_device iommu;
	struct fake_device devices[FAKE_DEVICES];
	unsigned int nr_domains;
	unsigned long fail_attach;
	int attach_error;
	unsigned int fail_map;
	bool nesting;
	bool capable;
	char violation[128];
};

extern struct fake_iommu fake_iommu;

int fake_iommu_suite_init(struct kunit_suite *suite);
void fake_iommu_suite_exit(struct kunit_suite *suite);

/* For SUITE(): one whose cases have this IOMMU, and user memory. */
#define FAKE_IOMMU_SUITE	\
	.suite_init = fake_iommu_suite_init, .suite_exit = fake_iommu_suite_exit

void fake_iommu_reset(void);
struct mock_iommu *fake_mock(struct iommu_domain *domain);

#endif /* _TESTS_KUNIT_FAKE_IOMMU_H */
