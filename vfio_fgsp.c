// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the IOMMU can tell about contiguity: the probe for fine-grained
 * superpages (FGSP), and the walk that finds a contiguous chunk when there is
 * no run list.
 *
 * An IOMMU with FGSP uses one IOPTE for practically any naturally aligned
 * power of two of pages, and unmapping one page of it gives all of them back:
 * unmapping page by page is then as good as knowing the runs (AMD-Vi's v1
 * tables; see 6fe1010d6d9c, "vfio/type1: DMA unmap chunking").  Others, VT-d
 * with its 2M and 1G among them, want to be asked for large chunks.
 */

#include <linux/gfp.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "compat/iommu.h"
#include "vfio_cache.h"
#include "vfio_domain.h"
#include "vfio_fgsp.h"
#include "vfio_iova.h"
#include "vfio_params.h"
#include "vfio_pin.h"
#include "vfio_runs.h"
#include "vfio_tables.h"

/* Find room for two naturally aligned pages at the first valid IOVA. */
static bool fgsp_room(const struct vfio_iova_set *iova, u64 *room)
{
	unsigned int i;

	for (i = 0; i < iova->nr; i++) {
		const struct vfio_iova_span *r = &iova->ranges[i];
		u64 first = ALIGN(r->first, 2 * PAGE_SIZE);

		if (first >= r->first && r->last - r->first >= first - r->first &&
		    r->last - first >= 2 * PAGE_SIZE - 1) {
			*room = first;
			return true;
		}
	}
	return false;
}

/**
 * vfio_fgsp_probe() - find out whether a domain has fine-grained superpages
 * @domain: domain without mappings, with cache coherency already enforced:
 *	VT-d of 6.12 refuses to enforce it once there was a mapping
 * @iova: IOVA ranges that are valid for it
 *
 * Maps two physically contiguous pages at once, unmaps one, and sees how much
 * comes back.  Whatever fails, the domain counts as coarse, and is left empty.
 *
 * Context: may sleep; container->lock held for write, so that nobody else maps.
 */
void vfio_fgsp_probe(struct vfio_domain *domain, const struct vfio_iova_set *iova)
{
	struct page *pages;
	bool flush;
	u64 room;

	domain->fgsp = false;
	/* Larger pages only, or no room: one page cannot be unmapped by itself. */
	if (!(domain->domain->pgsize_bitmap & (2 * PAGE_SIZE - 1)) || !fgsp_room(iova, &room))
		return;
	pages = alloc_pages(GFP_KERNEL_ACCOUNT | __GFP_ZERO, 1);
	if (!pages)
		return;
	/* A device may see what was in it before it was cleared, and leave there what it likes. */
	flush = !domain->coherent && READ_ONCE(vfio_type1_params.flush_noncoherent);
	if (flush)
		vfio_cache_flush(page_to_pfn(pages), 2);

	/* If it is coarse a table stays behind. */
	if (!(vfio_tables_matter(domain) && vfio_tables_note_small(domain, room, 2 * PAGE_SIZE)) &&
	    !iommu_map(domain->domain, room, page_to_phys(pages), 2 * PAGE_SIZE,
		       IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE, GFP_KERNEL_ACCOUNT))
		domain->fgsp = iommu_unmap(domain->domain, room, PAGE_SIZE) >= 2 * PAGE_SIZE;
	/* The second page is there yet, or what a failed map left. Else they are lost. */
	if (domain->fgsp || vfio_domain_sweep(domain->domain, room, 2 * PAGE_SIZE)) {
		if (flush)
			vfio_cache_flush(page_to_pfn(pages), 2);
		__free_pages(pages, 1);
	}
}

/**
 * vfio_fgsp_chunk() - a contiguous chunk, read from the IOMMU
 * @domain: domain to read
 * @iova: start of the chunk, mapped
 * @max: pages to look at, all mapped
 * @prot: IOMMU_READ, IOMMU_WRITE
 *
 * Context: may sleep.
 * Return: what is there, which is pinned if it is RAM; a run without pages if the IOMMU has
 * no translation for @iova.
 */
struct vfio_run vfio_fgsp_chunk(struct iommu_domain *domain, u64 iova, unsigned long max,
				int prot)
{
	phys_addr_t phys = iommu_iova_to_phys(domain, iova);
	unsigned long n, pfn = PHYS_PFN(phys);
	u64 kind = vfio_pfn_kind(pfn);

	if (!phys)
		return vfio_run_make(0, 0, 0);
	/* As MAP cuts them, so that no chunk begins or ends inside of a superpage. */
	max = min_t(u64, max, (VFIO_RUN_BYTES_MAX - (iova & (VFIO_RUN_BYTES_MAX - 1))) >>
			      PAGE_SHIFT);
	for (n = 1; n < max; n++) {
		if (iommu_iova_to_phys(domain, iova + n * PAGE_SIZE) != phys + n * PAGE_SIZE ||
		    vfio_pfn_kind(pfn + n) != kind)
			break;
		if (!(n & 0x3fff))
			cond_resched();
	}
	return vfio_run_make(pfn, n, vfio_run_flags(prot) | kind);
}
