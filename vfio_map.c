// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP_DMA: take the IOVA, pin the memory, map it into every domain.
 *
 * Pages are pinned and charged batch by batch and cut into runs; a run goes on
 * across batches and is mapped when the next page does not continue it.  At any
 * time a mapping is, from its first page on:
 *
 *	[0, dma->mapped)		pinned, in every domain, starts in the run map
 *	the open run			pinned, in no domain
 *	the rest of the batch		pinned, in no domain
 *	up to vfio_dma_npages()		not pinned
 *
 * so that a failure at any point knows what to undo.
 */

#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "vfio_type1.h"

/*
 * Runs end at multiples of this IOVA, so that neither mapping nor unmapping one
 * takes long without a scheduling point.  It is the largest common IOPTE: no
 * superpage is lost.
 */
#define MAP_RUN_ALIGN	SZ_1G

/* Give @batch room for @npages pages, without allocating if that can be helped. */
static void map_batch_init(struct vfio_type1_container *container, struct vfio_pin_batch *batch,
			   struct page **onstack, unsigned long npages)
{
	*batch = (struct vfio_pin_batch) {
		.pages = onstack,
		.capacity = VFIO_PIN_BATCH_ONSTACK,
	};
	if (npages > VFIO_PIN_BATCH_ONSTACK) {
		struct page **pages = xchg(&container->pin_pages, NULL);

		if (!pages)
			pages = kvmalloc_array(VFIO_PIN_BATCH_MAX, sizeof(*pages),
					       VFIO_GFP_OPTIONAL);
		if (pages) {
			batch->pages = pages;
			batch->capacity = VFIO_PIN_BATCH_MAX;
		}
	}
}

/* Keep the batch's memory for the next MAP, if nobody else's is kept already. */
static void map_batch_fini(struct vfio_type1_container *container, struct vfio_pin_batch *batch,
			   struct page **onstack)
{
	if (batch->pages != onstack && cmpxchg(&container->pin_pages, NULL, batch->pages))
		kvfree(batch->pages);
}

/* RAM pages of a mapping that in-kernel users have pinned, and so are charged already. */
static unsigned long map_count_external(const struct vfio_dma *dma, unsigned long page,
					unsigned long npages)
{
	if (likely(RB_EMPTY_ROOT(&dma->external)))
		return 0;
	return vfio_external_count(dma, dma->iova + ((u64)page << PAGE_SHIFT), npages);
}

/* Pages of a batch, which starts at page @page of the mapping, that have to be charged. */
static unsigned long map_count_ram(const struct vfio_dma *dma, unsigned long page,
				   const struct vfio_pin_batch *batch)
{
	unsigned long i, ram = 0;

	for (i = 0; i < batch->size; i++)
		ram += !PageReserved(batch->pages[i]) && !map_count_external(dma, page + i, 1);
	return ram;
}

/**
 * struct map_charge - what was charged for a batch
 * @charged: pages charged
 * @ram: pages of it that turned out to be due
 */
struct map_charge {
	unsigned long charged;
	unsigned long ram;
};

/*
 * Charge a batch before any of it is mapped: as if all of it was RAM, which is
 * quick, and page by page only if that is too much.
 */
static int map_charge(struct vfio_type1_container *container, struct vfio_dma *dma,
		      struct map_charge *charge, unsigned long page,
		      const struct vfio_pin_batch *batch)
{
	unsigned long npages = batch->pfnmap ? 0 : batch->size;
	int ret = vfio_account_charge(&dma->owner, npages);

	if (ret == -ENOMEM) {
		npages = map_count_ram(dma, page, batch);
		if (npages < batch->size)
			ret = vfio_account_charge(&dma->owner, npages);
	}
	if (ret == -ENOMEM)
		vfio_refuse(container,
			    "MAP_DMA iova 0x%llx size 0x%llx: RLIMIT_MEMLOCK exceeded: %lu KiB locked, %lu KiB more needed for the next %lu KiB, limit %lu KiB",
			    (u64)dma->iova, (u64)(dma->last - dma->iova) + 1,
			    dma->owner.mm->locked_vm << (PAGE_SHIFT - 10),
			    npages << (PAGE_SHIFT - 10),
			    (unsigned long)batch->size << (PAGE_SHIFT - 10),
			    task_rlimit(dma->owner.task, RLIMIT_MEMLOCK) >> 10);
	if (ret)
		return ret;
	dma->locked_vm += npages;
	charge->charged = npages;
	charge->ram = 0;
	return 0;
}

/* All of a batch was looked at: give back what was charged only for speed. */
static void map_charge_settle(struct vfio_dma *dma, struct map_charge *charge)
{
	vfio_account_refund(&dma->owner, charge->charged - charge->ram);
	dma->locked_vm -= charge->charged - charge->ram;
	charge->charged = charge->ram;
}

/* Tell which page could not be pinned. */
static void map_refuse_pin(struct vfio_type1_container *container, const struct vfio_dma *dma,
			   unsigned long vaddr, int error)
{
	const char *prot = dma->prot & IOMMU_WRITE ? "writable" : "readable";

	vfio_refuse(container,
		    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: %s %s memory at vaddr 0x%lx: error %d",
		    (u64)dma->iova, dma->vaddr, (u64)(dma->last - dma->iova) + 1,
		    error == -EFAULT ? "no" : "could not pin", prot, vaddr, error);
}

/*
 * Map the open run into every domain.  On failure it is in none of them again,
 * or, if a domain would not let go of it, its pins are lost with it.
 */
static int map_run(struct vfio_type1_container *container, struct vfio_dma *dma,
		   struct vfio_run *run)
{
	u64 iova = dma->iova + ((u64)dma->mapped << PAGE_SHIFT);
	size_t size = (size_t)run->npages << PAGE_SHIFT;
	struct vfio_domain *domain;
	int ret;

	list_for_each_entry(domain, &container->domains, next) {
		ret = iommu_map(domain->domain, iova, PFN_PHYS(run->pfn), size,
				dma->prot | IOMMU_CACHE, GFP_KERNEL_ACCOUNT);
		if (ret)
			goto undo;
	}
	vfio_runs_start(&dma->runs, dma->mapped);
	dma->mapped += run->npages;
	run->npages = 0;
	return 0;

undo:
	vfio_refuse(container,
		    "MAP_DMA iova 0x%llx: the IOMMU refused a run of 0x%zx bytes: error %d", iova,
		    size, ret);
	list_for_each_entry_continue_reverse(domain, &container->domains, next) {
		if (iommu_unmap(domain->domain, iova, size) < size) {
			pr_err_ratelimited("IOMMU kept IOVA 0x%llx size 0x%zx; its pages stay pinned\n",
					   iova, size);
			run->npages = 0;
		}
	}
	return ret;
}

/* Pages from page @page of a mapping on that may still be one run. */
static unsigned long map_run_limit(const struct vfio_dma *dma, unsigned long page)
{
	u64 iova = dma->iova + ((u64)page << PAGE_SHIFT);

	if (READ_ONCE(vfio_type1_params.disable_hugepages))
		return 1;
	return (MAP_RUN_ALIGN - (iova & (MAP_RUN_ALIGN - 1))) >> PAGE_SHIFT;
}

/* Does @next continue the open run @run, which starts at page dma->mapped? */
static bool map_run_goes_on(const struct vfio_dma *dma, const struct vfio_run *run, bool run_ram,
			    const struct vfio_run *next, bool next_ram)
{
	return run->npages && run->pfn + run->npages == next->pfn && run_ram == next_ram &&
	       run->npages + next->npages <= map_run_limit(dma, dma->mapped);
}

/**
 * vfio_map_fill() - pin a mapping's memory and map it into every domain
 * @container: a container with at least one domain
 * @dma: mapping without pages, owned by the caller, except for what in-kernel
 *	users have pinned, which cannot change meanwhile
 *
 * Context: may sleep; container->lock held.
 * Return: 0; -EFAULT if there is no memory somewhere, or none that may be
 * accessed so; -ENOMEM if RLIMIT_MEMLOCK is exceeded or memory is short; -EINTR
 * on a fatal signal; -ESRCH if the owner is dead; whatever iommu_map() says.
 * On failure the mapping is as empty as before.
 */
int vfio_map_fill(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct page *onstack[VFIO_PIN_BATCH_ONSTACK];
	unsigned long page, npages = vfio_dma_npages(dma);
	struct mm_struct *mm = dma->owner.mm;
	struct vfio_pin_batch batch;
	struct vfio_run run = {}, next;
	struct map_charge charge = {};
	bool run_ram = false, next_ram;
	int ret = 0;

	lockdep_assert_held(&container->lock);
	if (mm != current->mm && !mmget_not_zero(mm))
		return -ESRCH;
	vfio_runs_init(&dma->runs, npages);
	map_batch_init(container, &batch, onstack, npages);

	for (page = 0; page < npages; page += next.npages) {
		if (batch.pos == batch.size) {
			unsigned long vaddr = dma->vaddr + (page << PAGE_SHIFT);

			cond_resched();
			map_charge_settle(dma, &charge);
			ret = vfio_pin_fill(&batch, mm, vaddr, npages - page, dma->prot);
			if (ret < 0) {
				map_refuse_pin(container, dma, vaddr, ret);
				goto undo;
			}
			ret = map_charge(container, dma, &charge, page, &batch);
			if (ret)
				goto undo;
		}
		next_ram = vfio_pin_take(&batch, &next, map_run_limit(dma, page), dma->prot);
		if (next_ram)
			charge.ram += next.npages - map_count_external(dma, page, next.npages);
		if (map_run_goes_on(dma, &run, run_ram, &next, next_ram)) {
			run.npages += next.npages;
			continue;
		}
		ret = run.npages ? map_run(container, dma, &run) : 0;
		if (ret) {
			vfio_unpin_run(&next);
			goto undo;
		}
		run = next;
		run_ram = next_ram;
	}
	ret = map_run(container, dma, &run);
	if (ret)
		goto undo;

	map_charge_settle(dma, &charge);
	goto out;

undo:
	vfio_pin_drop(&batch, dma->prot);
	vfio_unpin_run(&run);
	vfio_unmap_empty(container, dma);
out:
	map_batch_fini(container, &batch, onstack);
	if (mm != current->mm)
		mmput(mm);
	return ret;
}

/* Check what does not depend on the container. */
static int map_check(struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size,
		     int prot, bool set_vaddr)
{
	if (!size) {
		vfio_refuse(container, "MAP_DMA iova 0x%llx vaddr 0x%llx: zero size", iova, vaddr);
		return -EINVAL;
	}
	if (iova + size - 1 < iova || vaddr + size - 1 < vaddr) {
		vfio_refuse(container,
			    "MAP_DMA iova 0x%llx vaddr 0x%llx size 0x%llx: wraps around the end of the address space",
			    iova, vaddr, size);
		return -EOVERFLOW;
	}
	if (!prot == !set_vaddr) {
		vfio_refuse(container,
			    "MAP_DMA iova 0x%llx vaddr 0x%llx size 0x%llx: flags have to ask for READ or WRITE, or for VADDR alone",
			    iova, vaddr, size);
		return -EINVAL;
	}
	return 0;
}

/* Check what depends on the domains. */
static int map_check_aligned(struct vfio_type1_container *container, const struct vfio_dma *dma)
{
	unsigned long pgsize = vfio_container_pgsize(container);
	u64 size = dma->last - dma->iova + 1;

	if (!((dma->iova | dma->vaddr | size) & (pgsize - 1)))
		return 0;
	vfio_refuse(container,
		    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: not all aligned to the IOMMU's smallest page, 0x%lx",
		    (u64)dma->iova, dma->vaddr, size, pgsize);
	return -EINVAL;
}

/* Tell why the IOVA could not be taken. */
static void map_refuse_insert(struct vfio_type1_container *container, const struct vfio_dma *dma,
			      const struct vfio_iova_span *overlap,
			      const struct vfio_iova_span *nearest, int error)
{
	u64 iova = dma->iova, size = dma->last - dma->iova + 1;

	switch (error) {
	case -EEXIST:
		vfio_refuse(container,
			    "MAP_DMA iova 0x%llx size 0x%llx: overlaps the mapping 0x%llx-0x%llx",
			    iova, size, overlap->first, overlap->last);
		break;
	case -ENOSPC:
		vfio_refuse(container,
			    "MAP_DMA iova 0x%llx size 0x%llx: no mappings left; dma_entry_limit was %u when the container was opened",
			    iova, size, container->entry_limit);
		break;
	case -EINVAL:
		vfio_refuse(container,
			    "MAP_DMA iova 0x%llx size 0x%llx: not within a valid IOVA range; the nearest is 0x%llx-0x%llx",
			    iova, size, nearest->first, nearest->last);
		break;
	}
}

/*
 * Take the mapping's IOVA.  Return: 0, an errno, or 1 with @changes set if
 * somebody else's unsettled mapping is in the way.
 */
static int map_reserve(struct vfio_type1_container *container, struct vfio_dma *dma,
		       unsigned long *changes)
{
	const struct vfio_iova_span *nearest = NULL;
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_iova_span range = {};
	struct vfio_dma *overlap;
	int ret;

	if (container->iova.nr && !vfio_iova_contains(&container->iova, dma->iova, dma->last))
		nearest = vfio_iova_nearest(&container->iova, dma->iova);

	spin_lock(&tree->lock);
	ret = vfio_dma_tree_insert(tree, dma, &overlap);
	if (ret == -EEXIST) {
		*changes = tree->changes;
		if (overlap->state != VFIO_DMA_LIVE)
			ret = 1;
		range.first = overlap->iova;
		range.last = overlap->last;
	} else if (!ret && nearest) {
		/* Only now: an overlap or a full tree is the better answer. */
		vfio_dma_tree_remove(tree, dma);
		ret = -EINVAL;
	}
	spin_unlock(&tree->lock);

	map_refuse_insert(container, dma, &range, nearest, ret);
	return ret;
}

/* Make the mapping whole, or take it back. */
static int map_complete(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_dma_tree *tree = &container->tree;
	int ret = 0;

	if (vfio_container_has_iommu(container))
		ret = vfio_map_fill(container, dma);
	/* Last: what cannot be pinned should not cost a large bitmap. */
	if (!ret && container->dirty_tracking) {
		ret = vfio_dirty_init(container, dma);
		if (ret)
			vfio_unmap_empty(container, dma);
	}
	if (ret) {
		/* Who looks for a mapping in order to unpin from it holds this lock. */
		mutex_lock(&container->external_lock);
		spin_lock(&tree->lock);
		vfio_dma_tree_remove(tree, dma);
		spin_unlock(&tree->lock);
		mutex_unlock(&container->external_lock);
	} else {
		spin_lock(&tree->lock);
		vfio_dma_tree_settle(tree, dma);
		spin_unlock(&tree->lock);
	}
	vfio_dma_tree_wake(tree);
	return ret;
}

/**
 * vfio_map_dma() - VFIO_IOMMU_MAP_DMA
 * @container: the container
 * @iova: first byte, as the device will see it
 * @vaddr: first byte of the caller's memory
 * @size: bytes
 * @prot: IOMMU_READ, IOMMU_WRITE or both; 0 for @set_vaddr
 * @set_vaddr: give a mapping that is there a new address, see
 *	vfio_vaddr_update() for what else may be returned then
 *
 * Context: process context; takes container->lock.
 * Return: 0; -EINVAL if a value is unaligned or @size zero, @prot does not go with
 * @set_vaddr, or the IOVA is not valid; -EOVERFLOW if a range wraps around; -EEXIST if a mapping
 * overlaps; -ENOSPC if there are too many mappings; -ENODEV for a kernel thread;
 * -EINTR on a fatal signal; else as vfio_map_fill().  On failure nothing has
 * changed.
 */
int vfio_map_dma(struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size,
		 int prot, bool set_vaddr)
{
	unsigned long changes;
	struct vfio_dma *dma;
	int ret;

	ret = map_check(container, iova, vaddr, size, prot, set_vaddr);
	if (ret)
		return ret;
	if (set_vaddr)
		return vfio_vaddr_update(container, iova, vaddr, size);
	dma = kzalloc(sizeof(*dma), GFP_KERNEL_ACCOUNT);
	if (!dma)
		return -ENOMEM;
	dma->iova = iova;
	dma->last = iova + size - 1;
	dma->vaddr = vaddr;
	dma->prot = prot;
	dma->external = RB_ROOT;
	ret = vfio_owner_init(&dma->owner);
	if (ret) {
		kfree(dma);
		return ret;
	}

	for (;;) {
		ret = vfio_container_lock_reach(container, dma->last);
		if (ret)
			break;
		ret = map_check_aligned(container, dma) ?:
		      map_reserve(container, dma, &changes) ?:
		      map_complete(container, dma);
		up_read(&container->lock);
		if (ret <= 0)
			break;
		ret = vfio_dma_tree_wait(&container->tree, changes);
		if (ret)
			break;
	}
	if (ret)
		vfio_dma_free(dma);
	return ret;
}
