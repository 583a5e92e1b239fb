/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the suites share: how one gets known to KUnit, and what its cases start with.
 */
#ifndef _TESTS_KUNIT_SUITE_H
#define _TESTS_KUNIT_SUITE_H

#include <kunit/test.h>
#include <linux/iommu.h>

#include "rooms.h"

/* Of mappings and pins. */
#define RW	(IOMMU_READ | IOMMU_WRITE)

/**
 * SUITE() - have KUnit run the cases of a file
 * @title: name of the suite
 * @cases: array of struct kunit_case
 * @...: other members of struct kunit_suite, with their values
 */
#define SUITE(title, cases, ...)	\
static struct kunit_suite suite = {	\
	.name = title,			\
	.test_cases = cases,		\
	__VA_ARGS__			\
};					\
kunit_test_suite(suite)

/* Module parameters are what they are by default, with room for so many mappings. */
static inline void suite_set_params(unsigned int entries)
{
	vfio_type1_params.dma_entry_limit = entries;
	vfio_type1_params.unmap_walk = VFIO_UNMAP_RUNS;
	vfio_type1_params.disable_hugepages = false;
}

/* The mapping that @iova is in, or NULL. */
static inline struct vfio_dma *suite_mapping(struct vfio_type1_container *container, u64 iova)
{
	struct vfio_dma *dma;

	spin_lock(&container->tree.lock);
	dma = vfio_dma_tree_first(&container->tree, iova, iova);
	spin_unlock(&container->tree.lock);
	return dma;
}

#endif /* _TESTS_KUNIT_SUITE_H */
