// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a run list amounts to: how many runs, and what pages the IOMMU can use for them.
 */

#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "vfio_dma_tree.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_survey.h"

/* Bytes of a run that pages of @size can hold, if the IOMMU has them. */
static u64 survey_fit(u64 iova, u64 phys, u64 bytes, u64 size, unsigned long pgsizes)
{
	u64 before = -iova & (size - 1);

	if (!(pgsizes & size) || (iova ^ phys) & (size - 1) || bytes < before)
		return 0;
	return ALIGN_DOWN(bytes - before, size);
}

static void survey_run(struct vfio_survey *survey, struct vfio_run run, u64 iova,
		       unsigned long pgsizes)
{
	u64 phys = PFN_PHYS(vfio_run_pfn(run)), bytes = PFN_PHYS(vfio_run_npages(run));
	u64 in_1g = survey_fit(iova, phys, bytes, SZ_1G, pgsizes);
	/* A page of 1 GiB is one that 2 MiB would fit into, too. */
	u64 in_2m = max(survey_fit(iova, phys, bytes, SZ_2M, pgsizes), in_1g) - in_1g;

	survey->runs++;
	survey->hist[ilog2(vfio_run_npages(run))]++;
	survey->bytes_1g += in_1g;
	survey->bytes_2m += in_2m;
	survey->bytes_4k += bytes - in_1g - in_2m;
}

/**
 * vfio_survey() - what does a run list amount to?
 * @runs: run list, which stays as it is
 * @iova: where its first page is mapped
 * @pgsizes: the IOMMU's page sizes, as a bitmap
 * @survey: set to the answer
 *
 * Context: may sleep.
 */
void vfio_survey(const struct vfio_runs *runs, u64 iova, unsigned long pgsizes,
		 struct vfio_survey *survey)
{
	const struct vfio_run *run, *end;
	struct vfio_runs_iter iter;

	*survey = (struct vfio_survey) {};
	vfio_runs_begin(runs, &iter);
	do {
		for (run = iter.at, end = run + iter.nr; run < end; run++) {
			survey_run(survey, *run, iova, pgsizes);
			iova += PFN_PHYS(vfio_run_npages(*run));
		}
		cond_resched();
	} while (vfio_runs_more(&iter));
}

/* The same for a mapping of registered memory, which has no run list of its own. */
static void survey_registered(const struct vfio_dma *dma, unsigned long pgsizes,
			      struct vfio_survey *survey)
{
	unsigned long page;
	struct vfio_run run;

	*survey = (struct vfio_survey) {};
	for (page = 0; page < dma->mapped; page += vfio_run_npages(run)) {
		run = vfio_region_mapping_run(dma, page);
		survey_run(survey, run, dma->iova + PFN_PHYS(page), pgsizes);
		cond_resched();
	}
}

/**
 * vfio_survey_mapping() - what do the runs of a mapping amount to?
 * @dma: the mapping, which stays as it is
 * @pgsizes: the IOMMU's page sizes, as a bitmap
 * @survey: set to the answer
 *
 * Context: may sleep.
 */
void vfio_survey_mapping(const struct vfio_dma *dma, unsigned long pgsizes,
			 struct vfio_survey *survey)
{
	if (dma->region)
		survey_registered(dma, pgsizes, survey);
	else
		vfio_survey(&dma->runs, dma->iova, pgsizes, survey);
}
