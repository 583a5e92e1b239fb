/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a run list amounts to (vfio_survey.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_SURVEY_H
#define _VFIO_SURVEY_H

#include <linux/build_bug.h>
#include <linux/types.h>

#include "vfio_runs.h"

struct vfio_dma;

/* Classes of runs, by length: 2^k to 2^(k+1)-1 pages. */
#define VFIO_SURVEY_CLASSES	19

static_assert(VFIO_RUN_PAGES_MAX < BIT_ULL(VFIO_SURVEY_CLASSES));

/**
 * struct vfio_survey - what a run list amounts to
 * @runs: how many there are
 * @bytes_4k: bytes that the IOMMU can map with smaller pages only
 * @bytes_2m: bytes that it can map with pages of 2 MiB
 * @bytes_1g: bytes that it can map with pages of 1 GiB
 * @hist: runs by length
 */
struct vfio_survey {
	unsigned long runs;
	u64 bytes_4k;
	u64 bytes_2m;
	u64 bytes_1g;
	unsigned long hist[VFIO_SURVEY_CLASSES];
};

void vfio_survey(const struct vfio_runs *runs, u64 iova, unsigned long pgsizes,
		 struct vfio_survey *survey);
void vfio_survey_mapping(const struct vfio_dma *dma, unsigned long pgsizes,
			 struct vfio_survey *survey);

#endif /* _VFIO_SURVEY_H */
