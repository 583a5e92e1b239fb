// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users that have to unpin.
 *
 * Before a mapping goes away, the devices are told, and have to unpin.  A driver may
 * be late: it has pinned a page, and not noted it yet.  So it is told again and again,
 * for seconds.  Then the mapping goes, and what is pinned of it stays pinned; until
 * it is unpinned, or nobody is left who could, the mapping is KEPT: were other memory
 * mapped and pinned there, a late unpin would take a pin of that.
 */

#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vfio.h>

#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_dma_tree.h"
#include "vfio_evict.h"
#include "vfio_pinned.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_type1.h"

/* Room for names of devices, in a message. */
#define NAMES_MAX	128

/**
 * vfio_external_register() - vfio_iommu_driver_ops.register_device
 * @container: the container
 * @device: a device that was opened; of interest if it wants to hear of unmaps
 *
 * Context: takes container->device_lock.
 */
void vfio_external_register(struct vfio_type1_container *container, struct vfio_device *device)
{
	if (!device->ops->dma_unmap)
		return;
	mutex_lock(&container->device_lock);
	list_add(&device->iommu_entry, &container->devices);
	mutex_unlock(&container->device_lock);
}

/**
 * vfio_external_unregister() - vfio_iommu_driver_ops.unregister_device
 * @container: the container
 * @device: a device that is being closed; afterwards it is told nothing more
 *
 * Context: takes container->device_lock.
 */
void vfio_external_unregister(struct vfio_type1_container *container,
			      struct vfio_device *device)
{
	if (!device->ops->dma_unmap)
		return;
	mutex_lock(&container->device_lock);
	list_del(&device->iommu_entry);
	mutex_unlock(&container->device_lock);
}

/*
 * Look which claimed mappings in-kernel users have pages of: they are late.  Return:
 * whether there are any.
 */
static bool evict_look(struct vfio_type1_container *container, struct list_head *claimed)
{
	bool late, any = false;
	struct vfio_dma *dma;

	mutex_lock(&container->external_lock);
	list_for_each_entry(dma, claimed, claim) {
		late = !RB_EMPTY_ROOT(&dma->external);
		/* Who closes the container may look at it meanwhile. */
		WRITE_ONCE(dma->late, late);
		any |= late;
	}
	mutex_unlock(&container->external_lock);
	return any;
}

/* Tell the devices what is being unmapped, with no lock that they may need. */
static void evict_tell(struct vfio_type1_container *container, const struct list_head *claimed)
{
	struct vfio_device *device;
	const struct vfio_dma *dma;

	mutex_lock(&container->device_lock);
	list_for_each_entry(dma, claimed, claim) {
		/* Told of another mapping they may have let go of this one, too. */
		if (RB_EMPTY_ROOT(&dma->external))
			continue;
		list_for_each_entry(device, &container->devices, iommu_entry)
			device->ops->dma_unmap(device, dma->iova, dma->last - dma->iova + 1);
	}
	mutex_unlock(&container->device_lock);
}

/* Nobody pins more: what was seen empty, without a lock, stays so. */
static bool evict_done(const struct list_head *claimed)
{
	const struct vfio_dma *dma;

	list_for_each_entry(dma, claimed, claim) {
		if (!RB_EMPTY_ROOT(&dma->external))
			return false;
	}
	return true;
}

/* Say what stays pinned, and whose it may be. */
static __cold
void evict_complain(struct vfio_type1_container *container, const struct list_head *claimed)
{
	struct vfio_device *device;
	const struct vfio_dma *dma;
	char names[NAMES_MAX] = "";
	size_t len = 0;

	mutex_lock(&container->device_lock);
	list_for_each_entry(device, &container->devices, iommu_entry)
		len += scnprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "",
				 dev_name(device->dev));
	mutex_unlock(&container->device_lock);

	list_for_each_entry(dma, claimed, claim) {
		if (dma->late)
			pr_err_ratelimited("IOVA 0x%llx-0x%llx: a driver (%s) was told of UNMAP_DMA, and has not unpinned all of it; nothing can be mapped or pinned there until it does\n",
					   (u64)dma->iova, (u64)dma->last,
					   len ? names : "its device is closed");
	}
}

/**
 * vfio_external_evict() - have in-kernel users unpin mappings
 * @container: the container
 * @claimed: list of mappings by vfio_dma.claim that the caller is unmapping
 * @waits: how often the caller's request has waited already; counted on
 *
 * Tells the devices, and again after waits that grow, until all is unpinned, or the
 * request has waited for as long as container->evict_waits says.  Mappings of which
 * something is still pinned then are vfio_dma.late: the driver has a bug, or is very
 * slow, and they are for vfio_external_keep().
 *
 * No signal shortens this, not even a fatal one: a range that is kept can be seen by
 * other processes that have the container, and should not depend on who is killed when.
 * It takes a few seconds at most, and only once in a request.
 *
 * Context: may sleep; container->lock held for reading.  Drops and takes it if
 * something is pinned, so what it protects may be different afterwards.
 */
void vfio_external_evict(struct vfio_type1_container *container, struct list_head *claimed,
			 unsigned int *waits)
{
	unsigned long patience;
	bool late;

	/* From here on nobody pins more, or writes, in the claimed mappings. */
	if (!evict_look(container, claimed))
		return;
	up_read(&container->lock);
	evict_tell(container, claimed);
	while ((late = evict_look(container, claimed)) && *waits < container->evict_waits) {
		patience = msecs_to_jiffies(1U << (*waits)++);
		wait_event_timeout(container->tree.wait, evict_done(claimed), patience);
		evict_tell(container, claimed);
	}
	if (late)
		evict_complain(container, claimed);
	down_read(&container->lock);
}

/* Take references to what is pinned of registered memory, which may be unpinned itself. */
static void external_get_own(struct vfio_dma *dma)
{
	struct vfio_pinned_page *pin;

	for (pin = vfio_pinned_first(dma); pin; pin = vfio_pinned_next(pin)) {
		pin->own = pin->kind & VFIO_RUN_PINNED;
		if (pin->own)
			get_page(pfn_to_page(pin->pfn));
		cond_resched();
	}
}

/**
 * vfio_external_keep() - leave a mapping to those who have not unpinned it
 * @container: the container
 * @dma: DYING mapping owned by the caller, which was emptied; belongs to
 *	container->external_lock afterwards, if it is kept
 *
 * It is charged for what is pinned; registered memory, which its region is charged for,
 * goes on uncharged.
 *
 * Context: may sleep; container->lock held for reading, and container->external_lock.
 * Return: true if the mapping is KEPT; false if all of it was unpinned.
 */
bool vfio_external_keep(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_dma_tree *tree = &container->tree;

	lockdep_assert_held(&container->external_lock);
	if (RB_EMPTY_ROOT(&dma->external))
		return false;
	kvfree(dma->dirty);
	dma->dirty = NULL;
	if (dma->region) {
		external_get_own(dma);
		vfio_account_refund(&dma->owner, dma->locked_vm);
		vfio_dma_note_charge(container, dma, -dma->locked_vm);
		vfio_region_leave(dma);
		dma->region = NULL;
		vfio_runs_init(&dma->runs);
	}
	spin_lock(&tree->lock);
	vfio_dma_tree_keep(tree, dma);
	spin_unlock(&tree->lock);
	return true;
}

/**
 * vfio_external_abandon() - forget what in-kernel users did not unpin
 * @container: the container
 * @dma: a mapping that was emptied, owned by the caller, or KEPT
 *
 * For when nobody is left who could unpin.  The pages stay pinned for ever, and are no
 * longer charged.
 *
 * Context: may sleep; container->lock held for writing, or container->external_lock.
 */
void vfio_external_abandon(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	struct vfio_pinned_page *pin, *next;
	unsigned long npages = 0;

	if (RB_EMPTY_ROOT(&dma->external))
		return;
	if (dma->region)
		external_get_own(dma);
	rbtree_postorder_for_each_entry_safe(pin, next, &dma->external, node) {
		kfree(pin);
		npages++;
		cond_resched();
	}
	dma->external = RB_ROOT;
	vfio_account_refund(&dma->owner, dma->locked_vm);
	vfio_dma_note_charge(container, dma, -dma->locked_vm);
	pr_err_ratelimited("IOVA 0x%llx-0x%llx: %lu pages were pinned by drivers, and not unpinned before their devices were gone; they stay pinned\n",
			   (u64)dma->iova, (u64)dma->last, npages);
}
