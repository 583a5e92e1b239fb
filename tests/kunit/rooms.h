/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All rooms, for suites that go through many of them, and requests in a line.
 */
#ifndef _TESTS_KUNIT_ROOMS_H
#define _TESTS_KUNIT_ROOMS_H

#include "compat/compiler.h"
#include "compat/iommu.h"
#include "compat/mm.h"
#include "vfio_account.h"
#include "vfio_attach.h"
#include "vfio_cache.h"
#include "vfio_container.h"
#include "vfio_count.h"
#include "vfio_cut.h"
#include "vfio_debugfs.h"
#include "vfio_dirty.h"
#include "vfio_dma_tree.h"
#include "vfio_domain.h"
#include "vfio_empty.h"
#include "vfio_evict.h"
#include "vfio_external.h"
#include "vfio_fgsp.h"
#include "vfio_fill.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_map.h"
#include "vfio_params.h"
#include "vfio_pin.h"
#include "vfio_pinned.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_register.h"
#include "vfio_registry.h"
#include "vfio_runs.h"
#include "vfio_survey.h"
#include "vfio_tables.h"
#include "vfio_type1.h"
#include "vfio_unmap.h"
#include "vfio_vaddr.h"
#include "vfio_watch.h"

/* As the front door does it, which is not in the KUnit module. */
static inline int call_map_dma(struct vfio_type1_container *container, u64 iova, u64 vaddr,
			       u64 size, int prot, bool set_vaddr)
{
	const struct vfio_map_request request = {
		.iova = iova, .vaddr = vaddr, .size = size, .prot = prot, .set_vaddr = set_vaddr,
	};

	return set_vaddr ? vfio_vaddr_update(container, &request) :
			   vfio_map_dma(container, &request);
}

static inline int call_vaddr_update(struct vfio_type1_container *container, u64 iova, u64 vaddr,
				    u64 size)
{
	return call_map_dma(container, iova, vaddr, size, 0, true);
}

static inline int call_unmap_dma(struct vfio_type1_container *container, u64 iova, u64 size,
				 bool all, const struct vfio_dirty_request *dirty, u64 *unmapped)
{
	const struct vfio_unmap_request request = {
		.iova = iova, .size = size, .all = all, .dirty = dirty,
	};

	return vfio_unmap_dma(container, &request, unmapped);
}

static inline int call_vaddr_invalidate(struct vfio_type1_container *container, u64 iova,
					u64 size, bool all, u64 *invalidated)
{
	const struct vfio_unmap_request request = { .iova = iova, .size = size, .all = all };

	return vfio_vaddr_invalidate(container, &request, invalidated);
}

static inline int call_domain_map(struct vfio_type1_container *container,
				  struct vfio_domain *domain, u64 iova, phys_addr_t phys,
				  size_t size, int prot)
{
	const struct vfio_domain_piece piece = {
		.iova = iova, .phys = phys, .size = size, .prot = prot,
	};

	return vfio_domain_map(container, domain, &piece);
}

static inline void call_cut_describe(struct vfio_type1_container *container, u64 first,
				     u64 last, struct vfio_cut_text *text)
{
	vfio_cut_describe(container, NULL, (struct vfio_iova_span) { first, last }, text);
}

static inline int call_external_pin(struct vfio_type1_container *container,
				    struct iommu_group *group, u64 iova, int npages, int prot,
				    struct page **pages)
{
	const struct vfio_external_want want = {
		.iova = iova, .npages = npages, .prot = prot, .pages = pages,
	};

	return vfio_external_pin(container, group, &want);
}

#endif /* _TESTS_KUNIT_ROOMS_H */
