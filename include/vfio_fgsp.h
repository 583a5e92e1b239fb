/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Chunks without a run list (vfio_fgsp.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_FGSP_H
#define _VFIO_FGSP_H

#include <linux/types.h>

#include "vfio_iova.h"
#include "vfio_runs.h"

struct iommu_domain;
struct vfio_domain;

void vfio_fgsp_probe(struct vfio_domain *domain, const struct vfio_iova_set *iova);
struct vfio_run vfio_fgsp_chunk(struct iommu_domain *domain, u64 iova, unsigned long max,
				int prot);

#endif /* _VFIO_FGSP_H */
