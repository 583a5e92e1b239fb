// SPDX-License-Identifier: GPL-2.0-only
/*
 * What IOMMU drivers do not see to: to undo a map that failed.
 *
 * A driver that fails on the way tells how far it got, and the kernel takes out so
 * much.  VT-d up to 6.12 tells that it did nothing, when it ran out of memory for its
 * tables halfway.  The device then reaches pages that whoever asked for the map is
 * about to give back: from the first page on, or, of many runs mapped at a time,
 * somewhere in the middle.  So who fails to map looks.
 */

#include <linux/iommu.h>
#include <linux/sched.h>

#include "vfio_type1.h"

/**
 * vfio_domain_sweep() - take out of a domain what a failed map left there
 * @domain: the IOMMU's domain
 * @iova: first byte that was to be mapped, with nothing mapped before the attempt
 * @size: bytes, VFIO_RUN_BYTES_MAX at most, as each page is looked at
 *
 * Only what is found is unmapped, as nothing else may be (see the top of
 * vfio_type1.h), and each time from where an IOPTE starts, for then all of it comes
 * back.  Where a driver does not let go the rest is left alone: who goes on inside of
 * a superpage makes VT-d take the page behind it for a table.
 *
 * Page frame 0, which looks like nothing, is reserved, and nobody's to give back.
 *
 * Context: may sleep; nobody else maps or unmaps there.
 * Return: true if nothing is there any more and no IOTLB has it; false if something
 * stays, which was said, and may never be given back.
 */
bool vfio_domain_sweep(struct iommu_domain *domain, u64 iova, size_t size)
{
	size_t done, unmapped, step = 1UL << __ffs(domain->pgsize_bitmap);
	struct iommu_iotlb_gather gather;
	bool found = false;

	iommu_iotlb_gather_init(&gather);
	for (done = 0; done < size; done += unmapped) {
		cond_resched();
		unmapped = step;
		if (!iommu_iova_to_phys(domain, iova + done))
			continue;
		unmapped = iommu_unmap_fast(domain, iova + done, step, &gather);
		found |= unmapped > 0;
		if (unmapped < step)
			break;
	}
	if (found)
		iommu_iotlb_sync(domain, &gather);
	if (done >= size)
		return true;
	pr_err_ratelimited("IOMMU kept IOVA 0x%llx size 0x%zx; its pages stay pinned\n",
			   iova + done, size - done);
	return false;
}
