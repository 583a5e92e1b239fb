// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO_UPDATE_VADDR: a VMM that replaces itself (exec) takes the user addresses
 * of its mappings back, and gives new ones for the same memory, possibly in a
 * new mm.  Translations and pins stay; the charge moves to the new owner.
 *
 * While an address is missing nothing that needs it is allowed: attach, and
 * in-kernel users, which exclude this altogether.
 *
 * A MAP in the range is waited for: its mapping keeps its address and its owner while
 * its memory is pinned, which is done without container->lock.
 *
 * A mapping of registered memory keeps its region, which stays the process's that
 * registered it; another process that is given the mapping is charged for it.
 */

#include <linux/sched.h>

#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_dma_tree.h"
#include "vfio_group.h"
#include "vfio_map.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_type1.h"
#include "vfio_unmap.h"
#include "vfio_vaddr.h"

/* Forget what vfio_vaddr_invalidate() did to the mappings from @iova up to @stop. */
static void vaddr_restore(struct vfio_dma_tree *tree, u64 iova, struct vfio_dma *stop)
{
	struct vfio_dma *dma;

	for (dma = vfio_dma_tree_first(tree, iova, U64_MAX); dma != stop;
	     dma = vfio_dma_tree_next(dma)) {
		dma->vaddr_invalid = false;
		WRITE_ONCE(tree->vaddr_invalid, tree->vaddr_invalid - 1);
		cond_resched();
	}
}

/*
 * Is a MAP under way in a range?  Then @changes is set, for vfio_dma_tree_wait() once
 * container->lock, which is held for write, was dropped.
 */
static bool vaddr_pending(struct vfio_dma_tree *tree, u64 iova, u64 last, unsigned long *changes)
{
	struct vfio_dma *dma;

	*changes = tree->changes;
	for (dma = vfio_dma_tree_first(tree, iova, last); dma && dma->iova <= last;
	     dma = vfio_dma_tree_next(dma)) {
		if (dma->state == VFIO_DMA_PENDING)
			return true;
		cond_resched();
	}
	return false;
}

/* Return: 0, an errno, or 1 with @changes set if a MAP is under way in the range. */
static int vaddr_invalidate(struct vfio_type1_container *container,
			    const struct vfio_unmap_request *request, u64 *invalidated,
			    unsigned long *changes)
{
	u64 iova = request->iova, size = request->size;
	struct vfio_dma_tree *tree = &container->tree;
	u64 last = request->all ? U64_MAX : iova + size - 1;
	struct vfio_dma *dma, *cut;
	int ret;

	*invalidated = 0;
	if (!list_empty(&container->emulated)) {
		vfio_refuse(container, VFIO_REFUSE_VADDR,
			    "UNMAP_DMA with VADDR: not with in-kernel users, which need addresses at any time");
		return -EBUSY;
	}
	ret = vfio_unmap_check(container, request);
	if (ret)
		return ret;
	if (vaddr_pending(tree, iova, last, changes))
		return 1;
	dma = vfio_dma_tree_range(tree, iova, last, &cut);
	if (container->v2 && !request->all && cut) {
		vfio_refuse(container, VFIO_REFUSE_BISECT,
			    "UNMAP_DMA with VADDR iova 0x%llx size 0x%llx: cuts the mapping 0x%llx-0x%llx in two",
			    iova, size, (u64)cut->iova, (u64)cut->last);
		return -EINVAL;
	}

	for (; dma && dma->iova <= last; dma = vfio_dma_tree_next(dma)) {
		if (dma->iova < iova)
			break;
		if (dma->vaddr_invalid) {
			vfio_refuse(container, VFIO_REFUSE_VADDR,
				    "UNMAP_DMA with VADDR iova 0x%llx size 0x%llx: the mapping 0x%llx-0x%llx has no address already",
				    iova, size, (u64)dma->iova, (u64)dma->last);
			vaddr_restore(tree, iova, dma);
			*invalidated = 0;
			return -EINVAL;
		}
		dma->vaddr_invalid = true;
		WRITE_ONCE(tree->vaddr_invalid, tree->vaddr_invalid + 1);
		*invalidated += dma->last - dma->iova + 1;
		cond_resched();
	}
	return 0;
}

/**
 * vfio_vaddr_invalidate() - VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_VADDR
 * @container: the container
 * @request: what is asked for, without dirty pages
 * @invalidated: set to the bytes whose addresses were taken back
 *
 * Context: takes container->lock for writing.
 * Return: 0; -EBUSY if there are in-kernel users; -EINVAL if the address of a
 * mapping was taken back before; -EINTR on a fatal signal while waiting for a MAP in the
 * range; else as vfio_unmap_dma().  On failure nothing has changed.
 */
int vfio_vaddr_invalidate(struct vfio_type1_container *container,
			  const struct vfio_unmap_request *request, u64 *invalidated)
{
	unsigned long changes;
	int ret;

	do {
		down_write(&container->lock);
		ret = vaddr_invalidate(container, request, invalidated, &changes);
		up_write(&container->lock);
		if (ret <= 0)
			return ret;
		ret = vfio_dma_tree_wait(&container->tree, changes);
	} while (!ret);
	return ret;
}

/* Pages of a mapping that its owner, if that were the caller, would be charged for. */
static unsigned long vaddr_count_charge(const struct vfio_dma *dma)
{
	if (!dma->region)
		return dma->locked_vm;
	if (dma->region->owner.mm == current->mm)
		return 0;
	return vfio_region_count_ram(dma->region, dma->region_page, vfio_dma_npages(dma));
}

/* Let the caller own a mapping: its mm is charged instead of the old one. */
static int vaddr_change_owner(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	unsigned long npages = vaddr_count_charge(dma);
	struct vfio_owner owner;
	int ret;

	if (current->mm == dma->owner.mm)
		return 0;
	ret = vfio_owner_init(&owner);
	if (ret)
		return ret;
	vfio_owner_init_limit(&owner);
	ret = vfio_account_charge(&owner, npages);
	if (ret == -ENOMEM)
		vfio_refuse_memlock(container, &owner, "MAP_DMA with VADDR iova", dma->iova,
				    npages);
	if (!ret) {
		vfio_account_refund(&dma->owner, dma->locked_vm);
		vfio_dma_note_charge(container, dma, npages - dma->locked_vm);
		swap(owner, dma->owner);
	}
	vfio_owner_put(&owner);
	return ret;
}

/* Return: 0, an errno, or 1 with @changes set if a MAP is under way in the range. */
static int vaddr_update(struct vfio_type1_container *container,
			const struct vfio_map_request *request, unsigned long *changes)
{
	u64 iova = request->iova, vaddr = request->vaddr, size = request->size;
	unsigned long pgsize = vfio_container_pgsize(container);
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma;
	int ret;

	if ((iova | vaddr | size) & (pgsize - 1)) {
		vfio_refuse(container, VFIO_REFUSE_ALIGN,
			    "MAP_DMA with VADDR iova 0x%llx vaddr 0x%llx size 0x%llx: not all aligned to the IOMMU's smallest page, 0x%lx",
			    iova, vaddr, size, pgsize);
		return -EINVAL;
	}
	if (vaddr_pending(tree, iova, iova + size - 1, changes))
		return 1;
	dma = vfio_dma_tree_first(tree, iova, iova + size - 1);
	if (!dma) {
		vfio_refuse(container, VFIO_REFUSE_VADDR,
			    "MAP_DMA with VADDR iova 0x%llx size 0x%llx: nothing is mapped there",
			    iova, size);
		return -ENOENT;
	}
	if (!dma->vaddr_invalid || dma->iova != iova || dma->last != iova + size - 1) {
		vfio_refuse(container, VFIO_REFUSE_VADDR,
			    "MAP_DMA with VADDR iova 0x%llx size 0x%llx: the mapping 0x%llx-0x%llx is %s",
			    iova, size, (u64)dma->iova, (u64)dma->last,
			    dma->vaddr_invalid ? "another one" : "not without an address");
		return -EINVAL;
	}
	ret = vaddr_change_owner(container, dma);
	if (!ret) {
		dma->vaddr = vaddr;
		dma->vaddr_invalid = false;
		WRITE_ONCE(tree->vaddr_invalid, tree->vaddr_invalid - 1);
	}
	return ret;
}

/**
 * vfio_vaddr_update() - VFIO_IOMMU_MAP_DMA with VFIO_DMA_MAP_FLAG_VADDR
 * @container: the container
 * @request: with set_vaddr: a mapping whose address was taken back, and where its memory
 *	is now, in the caller's mm
 *
 * Context: process context; takes container->lock for writing.
 * Return: 0; -ENOENT if nothing is mapped there; -EINVAL if it is not one whole
 * mapping, it has an address, or a value is unaligned; -ENODEV for a kernel
 * thread; -ENOMEM if RLIMIT_MEMLOCK would be exceeded; -EINTR on a fatal signal, also
 * while waiting for a MAP in the range; else as vfio_map_check().
 */
int vfio_vaddr_update(struct vfio_type1_container *container,
		      const struct vfio_map_request *request)
{
	unsigned long changes;
	int ret = vfio_map_check(container, request);

	if (ret)
		return ret;
	do {
		down_write(&container->lock);
		ret = vaddr_update(container, request, &changes);
		up_write(&container->lock);
		if (ret <= 0)
			return ret;
		ret = vfio_dma_tree_wait(&container->tree, changes);
	} while (!ret);
	return ret;
}
