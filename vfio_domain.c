// SPDX-License-Identifier: GPL-2.0-only
/*
 * What IOMMU drivers do not see to: that page tables outlive what caches know of them,
 * and to undo a map that failed.
 *
 * VT-d before 7.0 puts the tables that a call of its unmap empties to what was gathered
 * before it looks whether the call's IOVA go with that.  If not, it syncs first: that
 * frees the new tables with the flush of the old IOVA, and as none are left then, the
 * flush of theirs tells the hardware that it may keep what it knows of tables.  So a
 * call that may free tables gets a sync of its own.  And it frees a table that is in a
 * superpage's way before it flushes at all: see vfio_tables.c.
 *
 * A driver that fails on the way tells how far it got, and the kernel takes out so
 * much.  VT-d up to 6.12 tells that it did nothing, when it ran out of memory for its
 * tables halfway.  The device then reaches pages that whoever asked for the map is
 * about to give back: from the first page on, or, of many runs mapped at a time,
 * somewhere in the middle.  So who fails to map looks.
 */

#include <linux/iommu.h>
#include <linux/sched.h>

#include "compat/iommu.h"
#include "vfio_count.h"
#include "vfio_domain.h"
#include "vfio_tables.h"
#include "vfio_type1.h"

/*
 * Bytes of IOVA that a table of the lowest level translates.  0: unmapping frees none too
 * early, as in a domain with fine-grained superpages: AMD-Vi's have these, and its driver
 * frees no table there up to 6.18, and from then on as it should; and virtio-iommu's, which
 * has no tables.
 */
static size_t domain_table_bytes(const struct vfio_domain *domain)
{
	size_t page = 1UL << __ffs(domain->domain->pgsize_bitmap);

	if (!VFIO_COMPAT_UNMAP_FREES_EARLY || domain->fgsp)
		return 0;
	return page / sizeof(u64) * page;
}

/* Is there all of what a table translates in a stretch? */
static bool covers_table(u64 iova, size_t size, size_t table)
{
	return size >= table && (-iova & (table - 1)) <= size - table;
}

/*
 * What the kernel's iommu_unmap_fast() asks the driver for in its first call: as many of
 * the largest pages that fit there as come before larger ones would fit.
 */
static size_t domain_first_call(const struct iommu_domain *domain, u64 iova, size_t size)
{
	unsigned long larger, next, fit = __fls(size);

	if (iova)
		fit = min(fit, __ffs64(iova));
	fit = __fls(domain->pgsize_bitmap & GENMASK(fit, 0));
	larger = domain->pgsize_bitmap & ~GENMASK(fit, 0);
	if (larger) {
		next = 1UL << __ffs(larger);
		/* Where @iova is on such a border, @size is less than that. */
		if (covers_table(iova, size, next))
			return -iova & (next - 1);
	}
	return size & ~((1UL << fit) - 1);
}

/**
 * vfio_gather_begin() - nothing was gathered yet
 * @gather: what to initialize
 *
 * Context: any.
 */
void vfio_gather_begin(struct vfio_gather *gather)
{
	iommu_iotlb_gather_init(&gather->iotlb);
	gather->pending = false;
	gather->calls = 0;
	gather->syncs = 0;
}

/**
 * vfio_gather_sync() - sync what was gathered, if anything was
 * @gather: what was gathered
 * @domain: the domain it was unmapped from
 *
 * Context: as iommu_iotlb_sync().
 */
void vfio_gather_sync(struct vfio_gather *gather, const struct vfio_domain *domain)
{
	if (!gather->pending)
		return;
	iommu_iotlb_sync(domain->domain, &gather->iotlb);
	gather->pending = false;
	gather->syncs++;
}

static size_t gather_call(struct vfio_gather *gather, const struct vfio_domain *domain, u64 iova,
			  size_t size)
{
	gather->calls++;
	gather->pending = true;
	return iommu_unmap_fast(domain->domain, iova, size, &gather->iotlb);
}

/**
 * vfio_gather_unmap() - iommu_unmap_fast() that frees no page table too early
 * @gather: what is to be synced, by vfio_gather_sync(); some of it may be synced at once
 * @domain: the domain
 * @iova: first byte
 * @size: bytes
 *
 * The kernel cuts a stretch where the size of the pages that fit changes, and gives each
 * piece to the driver as a call.  So it is cut here, and what may free a table is synced
 * by itself.
 *
 * Context: as iommu_unmap_fast().
 * Return: as iommu_unmap_fast(): bytes, from @iova on, that came back.
 */
size_t vfio_gather_unmap(struct vfio_gather *gather, struct vfio_domain *domain, u64 iova,
			 size_t size)
{
	size_t done, piece, unmapped, table = domain_table_bytes(domain);

	if (!table || !covers_table(iova, size, table))
		return gather_call(gather, domain, iova, size);
	for (done = 0; done < size; done += unmapped) {
		piece = domain_first_call(domain->domain, iova + done, size - done);
		if (covers_table(iova + done, piece, table)) {
			vfio_gather_sync(gather, domain);
			unmapped = gather_call(gather, domain, iova + done, piece);
			if (!list_empty(vfio_compat_freelist(&gather->iotlb)))
				vfio_tables_freed(domain, iova + done, unmapped);
			vfio_gather_sync(gather, domain);
		} else {
			unmapped = gather_call(gather, domain, iova + done, piece);
		}
		if (unmapped < piece)
			return done + unmapped;
	}
	return done;
}

/**
 * vfio_domain_unmap() - iommu_unmap() that frees no page table too early
 * @container: the container, which counts it
 * @domain: the domain
 * @iova: first byte
 * @size: bytes
 *
 * Context: as iommu_unmap().
 * Return: as iommu_unmap(): bytes, from @iova on, that came back.
 */
size_t vfio_domain_unmap(struct vfio_type1_container *container, struct vfio_domain *domain,
			 u64 iova, size_t size)
{
	struct vfio_gather gather;
	size_t unmapped;

	vfio_gather_begin(&gather);
	unmapped = vfio_gather_unmap(&gather, domain, iova, size);
	vfio_gather_sync(&gather, domain);
	vfio_count(container, VFIO_COUNT_IOMMU_UNMAPS, gather.calls);
	vfio_count(container, VFIO_COUNT_SYNCS, gather.syncs);
	return unmapped;
}

/**
 * vfio_domain_map() - iommu_map() that frees no page table too early
 * @container: the container, which counts it
 * @domain: the domain
 * @piece: what to map
 *
 * Context: as iommu_map(); the caller owns the IOVA.
 * Return: as iommu_map(); but if it fails some of it may be there.
 */
int vfio_domain_map(struct vfio_type1_container *container, struct vfio_domain *domain,
		    const struct vfio_domain_piece *piece)
{
	phys_addr_t phys = piece->phys;
	size_t part, left = piece->size;
	u64 iova = piece->iova;
	bool cut = false;
	int ret = 0;

	if (vfio_tables_matter(domain)) {
		/* Most are small. */
		cut = left >= VFIO_TABLE_BYTES;
		ret = cut ? vfio_tables_note(domain, iova, phys, left) :
			    vfio_tables_note_small(domain, iova, left);
	}
	for (; !ret && left; iova += part, phys += part, left -= part) {
		part = cut ? vfio_tables_cut(domain, iova, phys, left) : left;
		vfio_count(container, VFIO_COUNT_IOMMU_MAPS, 1);
		ret = iommu_map(domain->domain, iova, phys, part, piece->prot,
				GFP_KERNEL_ACCOUNT);
	}
	return ret;
}

/**
 * vfio_domain_undo_head() - where to cut what iommu_map_sg() is to map
 * @domain: the domain
 * @iova: first byte
 * @size: bytes, not across a multiple of VFIO_RUN_BYTES_MAX
 *
 * When iommu_map_sg() fails it calls iommu_unmap() for what it had mapped before.  That
 * is right if the first call of the driver is the one that frees tables.
 *
 * Context: any.
 * Return: bytes to be mapped by themselves, before the rest; 0 if none have to.
 */
size_t vfio_domain_undo_head(const struct vfio_domain *domain, u64 iova, size_t size)
{
	size_t table = domain_table_bytes(domain);

	return table && covers_table(iova, size, table) ? -iova & (table - 1) : 0;
}

/**
 * vfio_domain_sweep() - take out of a domain what a failed map left there
 * @domain: the IOMMU's domain
 * @iova: first byte that was to be mapped, with nothing mapped before the attempt
 * @size: bytes, VFIO_RUN_BYTES_MAX at most, as each page is looked at
 *
 * Only what is found is unmapped, as nothing else may be (see the top of
 * vfio_type1.h), and each time from where an IOPTE starts, for then VT-d and AMD-Vi
 * give back all of it; SMMUv3 splits it, or, from 6.13 on, refuses.  Where a driver does
 * not let go the rest is left alone: who goes on inside of a superpage makes VT-d take
 * the page behind it for a table.
 *
 * As these are single pages, no call can free a page table.
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
