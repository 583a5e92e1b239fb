// SPDX-License-Identifier: GPL-2.0-only
/*
 * REGISTER_MEMORY and UNREGISTER_MEMORY.
 *
 * Pinning, and comparing what changed, wait for whoever provides the memory: so neither is
 * done with the registry locked, and what was decided before is looked at again.
 */

#include <linux/uaccess.h>

#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_register.h"
#include "vfio_registry.h"
#include "vfio_type1.h"
#include "vfio_watch.h"

/* Check what does not depend on the registry. */
static int registry_check(struct vfio_type1_container *container, const char *request, u64 vaddr,
			  u64 size)
{
	if (!size) {
		vfio_refuse(container, VFIO_REFUSE_SIZE, "%s vaddr 0x%llx: zero size", request,
			    vaddr);
		return -EINVAL;
	}
	if (vaddr + size - 1 < vaddr) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "%s vaddr 0x%llx size 0x%llx: wraps around the end of the address space",
			    request, vaddr, size);
		return -EOVERFLOW;
	}
	if ((vaddr | size) & ~PAGE_MASK) {
		vfio_refuse(container, VFIO_REFUSE_ALIGN,
			    "%s vaddr 0x%llx size 0x%llx: not all multiples of 0x%lx", request,
			    vaddr, size, PAGE_SIZE);
		return -EINVAL;
	}
	if (!access_ok((void __user *)(unsigned long)vaddr, size)) {
		vfio_refuse(container, VFIO_REFUSE_PIN,
			    "%s vaddr 0x%llx size 0x%llx: not user memory", request, vaddr, size);
		return -EFAULT;
	}
	return 0;
}

/*
 * Does the process still have the memory of a region?  That is found out without the lock,
 * for it may wait for the process.  Return: 0; an errno; or 1 if others unregistered the
 * region meanwhile, so that nothing is known of what would be registered now.
 */
static int registry_compare(struct vfio_type1_container *container,
			    struct vfio_registry *registry, struct vfio_region *region)
{
	unsigned long changed;
	int ret;

	refcount_inc(&region->users);
	mutex_unlock(&registry->mutex);
	ret = vfio_region_check_marked(region, 0, region->npages, &changed);
	mutex_lock(&registry->mutex);
	if (vfio_registry_find(registry, region->vaddr, vfio_region_last(region)) != region)
		ret = 1;
	if (ret == -ESTALE)
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx: it is registered, but memory at vaddr 0x%lx is not what it was then; unregister it first",
			    region->vaddr, region->npages << PAGE_SHIFT,
			    region->vaddr + (changed << PAGE_SHIFT));
	vfio_region_put(region);
	return ret;
}

/* Register what is registered already.  Return: as registry_compare(). */
static int registry_again(struct vfio_type1_container *container,
			  struct vfio_registry *registry, struct vfio_region *region)
{
	int ret = 0;

	if (unlikely(READ_ONCE(region->nr_marked)))
		ret = registry_compare(container, registry, region);
	/* Not before: who compares has nothing that others could unregister. */
	if (!ret)
		WRITE_ONCE(region->registered, region->registered + 1);
	return ret;
}

/*
 * Register memory that overlaps a region: it has to be the same.  Return: as
 * registry_compare(), or -EINVAL.
 */
static int registry_overlap(struct vfio_type1_container *container,
			    struct vfio_registry *registry, struct vfio_region *region,
			    const struct vfio_region_request *request)
{
	if (region->vaddr == request->vaddr && region->npages == request->npages &&
	    region->read_only == request->read_only)
		return registry_again(container, registry, region);
	vfio_refuse(container, VFIO_REFUSE_REGISTRY,
		    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx for %s: overlaps what is registered at vaddr 0x%lx size 0x%lx for %s, and is not the same",
		    request->vaddr, request->npages << PAGE_SHIFT,
		    request->read_only ? "reading" : "writing", region->vaddr,
		    region->npages << PAGE_SHIFT, region->read_only ? "reading" : "writing");
	return -EINVAL;
}

/*
 * Put a new region into the registry, or let go of it if somebody was faster, or it is
 * full.  Return: as registry_overlap(); -ENOSPC; -ENODEV if the registry was closed.
 */
static int registry_add(struct vfio_type1_container *container, struct vfio_registry *registry,
			struct vfio_region *region, const struct vfio_region_request *request)
{
	struct vfio_region *other;
	int ret;

	other = vfio_registry_find(registry, region->vaddr, vfio_region_last(region));
	if (other) {
		ret = registry_overlap(container, registry, other, request);
	} else if (registry->closed) {
		ret = -ENODEV;
	} else if (registry->nr_regions >= container->entry_limit) {
		vfio_refuse(container, VFIO_REFUSE_ENTRIES,
			    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx: the process has registered %u ranges: dma_entry_limit was %u when the container was opened; register fewer and larger ones, or raise the module parameter, and open it again",
			    region->vaddr, region->npages << PAGE_SHIFT, registry->nr_regions,
			    container->entry_limit);
		ret = -ENOSPC;
	} else {
		vfio_registry_insert(registry, region);
		return 0;
	}
	vfio_watch_stop(&region->watch);
	vfio_region_put(region);
	return ret;
}

/* Return: 0; an errno; or 1 if that was decided about a region that is gone. */
static int registry_register(struct vfio_type1_container *container,
			     struct vfio_registry *registry,
			     const struct vfio_region_request *request)
{
	unsigned long last = request->vaddr + (request->npages << PAGE_SHIFT) - 1;
	struct vfio_region *region = vfio_registry_find(registry, request->vaddr, last);

	if (region)
		return registry_overlap(container, registry, region, request);
	/* Pinning waits for whoever provides the memory; nobody has to wait with it. */
	mutex_unlock(&registry->mutex);
	region = vfio_region_create(container, request, &registry->orphaned);
	mutex_lock(&registry->mutex);
	return IS_ERR(region) ? PTR_ERR(region) : registry_add(container, registry, region,
								  request);
}

/**
 * vfio_registry_register() - VFIO_TYPE1_REGISTER_MEMORY
 * @container: a container of the calling process
 * @vaddr: first byte of the caller's memory
 * @size: bytes
 * @read_only: devices may only read it
 *
 * Context: process context; takes container->lock.
 * Return: 0; -EINVAL if a value is unaligned or @size zero, or something else is
 * registered there; -EOVERFLOW if the range wraps around; -EPERM if the container is
 * another process's; -ESTALE if the same is registered, but the process has other memory
 * there now; -ENOSPC if as many regions are registered as @container may have mappings;
 * -ENODEV for a kernel thread, or if the container was closed, or taken by
 * another process, meanwhile; -EINTR on a fatal signal; else as vfio_region_create()
 * and vfio_region_check_marked().  On failure nothing has changed.
 */
int vfio_registry_register(struct vfio_type1_container *container, u64 vaddr, u64 size,
			   bool read_only)
{
	struct vfio_region_request request;
	struct vfio_registry *registry;
	int ret;

	ret = registry_check(container, "REGISTER_MEMORY", vaddr, size);
	if (ret)
		return ret;
	registry = vfio_registry_enter_adopt(container, "REGISTER_MEMORY");
	if (IS_ERR(registry))
		return PTR_ERR(registry);
	request = (struct vfio_region_request) {
		.vaddr = untagged_addr(vaddr),
		.npages = size >> PAGE_SHIFT,
		.read_only = read_only,
	};
	do
		ret = registry_register(container, registry, &request);
	while (ret > 0);
	vfio_registry_exit(registry);
	return ret;
}

static int registry_unregister(struct vfio_type1_container *container,
			       struct vfio_registry *registry, u64 vaddr, u64 size)
{
	struct vfio_region *region = NULL;
	struct vfio_region_busy busy;

	if (size && vaddr + size - 1 >= vaddr)
		region = vfio_registry_find(registry, vaddr, vaddr + size - 1);
	if (!region || region->vaddr != vaddr || vfio_region_last(region) != vaddr + size - 1)
		return -ENOENT;
	if (region->registered > 1) {
		WRITE_ONCE(region->registered, region->registered - 1);
		return 0;
	}
	if (!vfio_registry_remove(registry, region, &busy)) {
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "UNREGISTER_MEMORY vaddr 0x%llx size 0x%llx: %u mappings use it, one of them 0x%llx-0x%llx of %s",
			    vaddr, size, busy.nr_mappings, busy.iova.first, busy.iova.last,
			    busy.container == container ? "this container" : "another container");
		return -EBUSY;
	}
	vfio_region_put(region);
	return 0;
}

/**
 * vfio_registry_unregister() - VFIO_TYPE1_UNREGISTER_MEMORY
 * @container: a container of the calling process; in any other one it has nothing
 *	registered, and the container stays whose it is
 * @vaddr: first byte
 * @size: bytes
 *
 * Context: process context; takes container->lock.
 * Return: 0; -ENOENT if nothing is registered with these values; -EBUSY if it would be
 * the last time, and there are mappings of it; -EPERM, -ENODEV, -EINTR as
 * vfio_registry_register().
 */
int vfio_registry_unregister(struct vfio_type1_container *container, u64 vaddr, u64 size)
{
	struct vfio_registry *registry = vfio_registry_enter(container, "UNREGISTER_MEMORY");
	int ret = PTR_ERR_OR_ZERO(registry);

	vaddr = untagged_addr(vaddr);
	if (!ret) {
		ret = registry_unregister(container, registry, vaddr, size);
		vfio_registry_exit(registry);
	}
	if (ret == -ENOENT)
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "UNREGISTER_MEMORY vaddr 0x%llx size 0x%llx: no such range is registered by this process",
			    vaddr, size);
	return ret;
}
