// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which memory a process has registered, for all of its containers.
 *
 * A registry belongs to an mm.  A container belongs to one process: the one that
 * opened it, or, once that one is gone or has nothing registered, whoever registers
 * memory through it.  The registry goes with the process's last container, and its
 * regions go with the process, or with the registry, or as they are unregistered,
 * whatever comes first.
 *
 * A region that has left the registry cannot be mapped any more, but lives until its
 * last mapping is gone: a mapping may outlive its process.  Only unregistering is
 * refused while there are mappings.
 */

#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vfio_type1.h"

static DEFINE_SPINLOCK(registries_lock);
static LIST_HEAD(registries);

/* ---- the set of regions ---- */

static unsigned long region_last(const struct vfio_region *region)
{
	return region->vaddr + (region->npages << PAGE_SHIFT) - 1;
}

/* The lowest region that touches a range, or NULL. */
static struct vfio_region *registry_find(const struct vfio_registry *registry,
					 unsigned long vaddr, unsigned long last)
{
	struct rb_node *node = registry->regions.rb_node;
	struct vfio_region *found = NULL;

	while (node) {
		struct vfio_region *region = rb_entry(node, struct vfio_region, node);

		if (region_last(region) < vaddr) {
			node = node->rb_right;
		} else {
			found = region;
			if (region->vaddr <= vaddr)
				break;
			node = node->rb_left;
		}
	}
	return found && found->vaddr <= last ? found : NULL;
}

/* The region is whole, and overlaps none. */
static void registry_insert(struct vfio_registry *registry, struct vfio_region *region)
{
	struct rb_node **link = &registry->regions.rb_node, *parent = NULL;

	lockdep_assert_held(&registry->mutex);
	down_write(&registry->lock);
	while (*link) {
		parent = *link;
		if (region->vaddr < rb_entry(parent, struct vfio_region, node)->vaddr)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&region->node, parent, link);
	rb_insert_color(&region->node, &registry->regions);
	WRITE_ONCE(registry->nr_regions, registry->nr_regions + 1);
	registry->npages += region->npages;
	up_write(&registry->lock);
}

/*
 * Take a region out, unless it is mapped, and who asks wants to know that (@busy).  Return:
 * whether it is out.
 */
static bool registry_remove(struct vfio_registry *registry, struct vfio_region *region,
			    struct vfio_region_busy *busy)
{
	lockdep_assert_held(&registry->mutex);
	down_write(&registry->lock);
	if (busy && vfio_region_busy(region, busy)) {
		up_write(&registry->lock);
		return false;
	}
	rb_erase(&region->node, &registry->regions);
	WRITE_ONCE(registry->nr_regions, registry->nr_regions - 1);
	registry->npages -= region->npages;
	up_write(&registry->lock);
	vfio_watch_stop(region);
	return true;
}

static void registry_empty(struct vfio_registry *registry)
{
	struct vfio_region *region;
	struct rb_node *node;

	lockdep_assert_held(&registry->mutex);
	while ((node = rb_first(&registry->regions))) {
		region = rb_entry(node, struct vfio_region, node);
		registry_remove(registry, region, NULL);
		vfio_region_orphan(region);
		vfio_region_put(region);
	}
}

/* ---- registries ---- */

static void registry_orphaned(struct work_struct *work)
{
	struct vfio_registry *registry = container_of(work, struct vfio_registry, orphaned);

	mutex_lock(&registry->mutex);
	registry_empty(registry);
	mutex_unlock(&registry->mutex);
}

/**
 * vfio_registry_orphan() - the process of a registry is gone
 * @registry: the registry, which has regions in it
 *
 * Empties it soon: from the end of an address space that cannot be done at once.
 *
 * Context: any.
 */
void vfio_registry_orphan(struct vfio_registry *registry)
{
	vfio_type1_queue(&registry->orphaned);
}

static void registry_free(struct kref *users)
{
	struct vfio_registry *registry = container_of(users, struct vfio_registry, users);

	mmdrop(registry->mm);
	kfree(registry);
}

/* The last container is gone, and nobody finds the registry any more. */
static void registry_close(struct vfio_registry *registry)
{
	mutex_lock(&registry->mutex);
	registry->closed = true;
	registry_empty(registry);
	mutex_unlock(&registry->mutex);
	/* Without regions nobody queues it again. */
	cancel_work_sync(&registry->orphaned);
	kref_put(&registry->users, registry_free);
}

static void registry_closing(struct work_struct *work)
{
	registry_close(container_of(work, struct vfio_registry, closing));
}

/* A registry for the caller that nobody knows of yet, or NULL. */
static struct vfio_registry *registry_create(void)
{
	struct vfio_registry *registry = kzalloc(sizeof(*registry), GFP_KERNEL_ACCOUNT);

	if (!registry)
		return NULL;
	kref_init(&registry->users);
	mmgrab(current->mm);
	registry->mm = current->mm;
	mutex_init(&registry->mutex);
	init_rwsem(&registry->lock);
	registry->regions = RB_ROOT;
	INIT_WORK(&registry->orphaned, registry_orphaned);
	INIT_WORK(&registry->closing, registry_closing);
	return registry;
}

/* Find the caller's registry, or make one, and count a container in. */
static struct vfio_registry *registry_get(void)
{
	/* All processes share the lock: what may wait for memory comes before. */
	struct vfio_registry *registry, *spare = registry_create();

	spin_lock(&registries_lock);
	list_for_each_entry(registry, &registries, next) {
		if (registry->mm == current->mm) {
			kref_get(&registry->users);
			goto found;
		}
	}
	registry = spare;
	spare = NULL;
	if (!registry)
		goto unlock;
	list_add(&registry->next, &registries);
found:
	registry->nr_containers++;
unlock:
	spin_unlock(&registries_lock);
	if (spare)
		kref_put(&spare->users, registry_free);
	return registry;
}

/* A container that was counted in is gone; with the last one all goes, or soon, if not @now. */
static void registry_put(struct vfio_registry *registry, bool now)
{
	bool last;

	spin_lock(&registries_lock);
	last = !--registry->nr_containers;
	if (last)
		list_del(&registry->next);
	spin_unlock(&registries_lock);
	if (!last)
		kref_put(&registry->users, registry_free);
	else if (now)
		registry_close(registry);
	else
		vfio_type1_queue(&registry->closing);
}

/*
 * May a container that is not the caller's become the caller's?  Return: 0; -ENODEV if
 * it was closed, or the caller is a kernel thread; -EPERM if it stays another process's.
 */
static int registry_may_adopt(const struct vfio_type1_container *container)
{
	const struct vfio_registry *registry = container->registry;

	if (container->closed || !current->mm)
		return -ENODEV;
	if (registry && READ_ONCE(registry->nr_regions) && atomic_read(&registry->mm->mm_users))
		return -EPERM;
	return 0;
}

/**
 * vfio_registry_join() - let a container belong to the calling process
 * @container: the container; one that belongs to another process that lives, and
 *	has memory registered, stays with it
 *
 * Context: may sleep; container->lock held for write, or the container is new.
 * Return: 0; -ENODEV for a kernel thread, or if the container was closed; -EPERM if it
 * stays another process's; -ENOMEM.
 */
int vfio_registry_join(struct vfio_type1_container *container)
{
	struct vfio_registry *registry, *old = container->registry;
	int ret;

	if (old && old->mm == current->mm)
		return 0;
	ret = registry_may_adopt(container);
	if (ret)
		return ret;
	if (old) {
		container->registry = NULL;
		registry_put(old, true);
	}
	registry = registry_get();
	container->registry = registry;
	return registry ? 0 : -ENOMEM;
}

/**
 * vfio_registry_leave() - a container is being closed
 * @container: a container without mappings; belongs to nobody afterwards
 *
 * With the process's last container all that it has registered goes: at once if this one
 * was used, so that who closes it finds its memory unpinned.  One that nothing was mapped or
 * registered through may be one that the VFIO core could not open to the end, and releases
 * under a lock that all processes share: then nobody waits for that.
 *
 * Context: may sleep; container->lock held for write.
 */
void vfio_registry_leave(struct vfio_type1_container *container)
{
	struct vfio_registry *registry = container->registry;

	if (!registry)
		return;
	container->registry = NULL;
	registry_put(registry, container->tree.changes || container->registers);
}

/* Take a reference to a container's registry, if it is the caller's. */
static bool registry_hold(struct vfio_type1_container *container, struct vfio_registry **registry)
{
	*registry = container->registry;
	if (container->closed || !*registry || (*registry)->mm != current->mm)
		return false;
	kref_get(&(*registry)->users);
	return true;
}

/* The same; a container that is free becomes the caller's. */
static int registry_adopt(struct vfio_type1_container *container, struct vfio_registry **registry)
{
	int ret;

	down_write(&container->lock);
	ret = vfio_registry_join(container);
	if (!ret)
		registry_hold(container, registry);
	up_write(&container->lock);
	return ret;
}

/*
 * The caller's registry, locked, by way of a container of the caller, or an ERR_PTR.  A
 * container that is free becomes the caller's with @adopt, and is -ENOENT without.
 */
static struct vfio_registry *registry_enter(struct vfio_type1_container *container,
					    const char *request, bool adopt)
{
	struct vfio_registry *registry;
	int ret = 0;

	WRITE_ONCE(container->registers, true);
	down_read(&container->lock);
	if (!registry_hold(container, &registry))
		ret = registry_may_adopt(container) ?: -ENOENT;
	up_read(&container->lock);
	if (ret == -ENOENT && adopt)
		ret = registry_adopt(container, &registry);
	if (ret == -EPERM)
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "%s: the container belongs to another process, which has memory registered",
			    request);
	if (ret)
		return ERR_PTR(ret);
	ret = mutex_lock_killable(&registry->mutex);
	if (!ret && registry->closed) {
		mutex_unlock(&registry->mutex);
		ret = -ENODEV;
	}
	if (ret) {
		kref_put(&registry->users, registry_free);
		return ERR_PTR(ret);
	}
	return registry;
}

static void registry_exit(struct vfio_registry *registry)
{
	mutex_unlock(&registry->mutex);
	kref_put(&registry->users, registry_free);
}

/* ---- register and unregister ---- */

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
	if (registry_find(registry, region->vaddr, region_last(region)) != region)
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
		region->registered++;
	return ret;
}

/*
 * Register memory that overlaps a region: it has to be the same.  Return: as
 * registry_compare(), or -EINVAL.
 */
static int registry_overlap(struct vfio_type1_container *container,
			    struct vfio_registry *registry, struct vfio_region *region,
			    unsigned long vaddr, unsigned long npages, bool read_only)
{
	if (region->vaddr == vaddr && region->npages == npages && region->read_only == read_only)
		return registry_again(container, registry, region);
	vfio_refuse(container, VFIO_REFUSE_REGISTRY,
		    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx for %s: overlaps what is registered at vaddr 0x%lx size 0x%lx for %s, and is not the same",
		    vaddr, npages << PAGE_SHIFT, read_only ? "reading" : "writing", region->vaddr,
		    region->npages << PAGE_SHIFT, region->read_only ? "reading" : "writing");
	return -EINVAL;
}

/*
 * Put a new region into the registry, or let go of it if somebody was faster, or it is
 * full.  Return: as registry_overlap(); -ENOSPC; -ENODEV if the registry was closed.
 */
static int registry_add(struct vfio_type1_container *container, struct vfio_registry *registry,
			struct vfio_region *region)
{
	struct vfio_region *other = registry_find(registry, region->vaddr, region_last(region));
	int ret;

	if (other) {
		ret = registry_overlap(container, registry, other, region->vaddr,
				       region->npages, region->read_only);
	} else if (registry->closed) {
		ret = -ENODEV;
	} else if (registry->nr_regions >= container->entry_limit) {
		vfio_refuse(container, VFIO_REFUSE_ENTRIES,
			    "REGISTER_MEMORY vaddr 0x%lx size 0x%lx: the process has registered %u ranges: dma_entry_limit was %u when the container was opened; register fewer and larger ones, or raise the module parameter, and open it again",
			    region->vaddr, region->npages << PAGE_SHIFT, registry->nr_regions,
			    container->entry_limit);
		ret = -ENOSPC;
	} else {
		registry_insert(registry, region);
		return 0;
	}
	vfio_watch_stop(region);
	vfio_region_put(region);
	return ret;
}

/* Return: 0; an errno; or 1 if that was decided about a region that is gone. */
static int registry_register(struct vfio_type1_container *container,
			     struct vfio_registry *registry, unsigned long vaddr,
			     unsigned long npages, bool read_only)
{
	struct vfio_region *region;

	region = registry_find(registry, vaddr, vaddr + (npages << PAGE_SHIFT) - 1);
	if (region)
		return registry_overlap(container, registry, region, vaddr, npages, read_only);
	/* Pinning waits for whoever provides the memory; nobody has to wait with it. */
	mutex_unlock(&registry->mutex);
	region = vfio_region_create(container, registry, vaddr, npages, read_only);
	mutex_lock(&registry->mutex);
	return IS_ERR(region) ? PTR_ERR(region) : registry_add(container, registry, region);
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
	struct vfio_registry *registry;
	int ret;

	ret = registry_check(container, "REGISTER_MEMORY", vaddr, size);
	if (ret)
		return ret;
	registry = registry_enter(container, "REGISTER_MEMORY", true);
	if (IS_ERR(registry))
		return PTR_ERR(registry);
	vaddr = untagged_addr(vaddr);
	do
		ret = registry_register(container, registry, vaddr, size >> PAGE_SHIFT, read_only);
	while (ret > 0);
	registry_exit(registry);
	return ret;
}

static int registry_unregister(struct vfio_type1_container *container,
			       struct vfio_registry *registry, u64 vaddr, u64 size)
{
	struct vfio_region *region = NULL;
	struct vfio_region_busy busy;

	if (size && vaddr + size - 1 >= vaddr)
		region = registry_find(registry, vaddr, vaddr + size - 1);
	if (!region || region->vaddr != vaddr || region_last(region) != vaddr + size - 1)
		return -ENOENT;
	if (region->registered > 1) {
		region->registered--;
		return 0;
	}
	if (!registry_remove(registry, region, &busy)) {
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
	struct vfio_registry *registry = registry_enter(container, "UNREGISTER_MEMORY", false);
	int ret = PTR_ERR_OR_ZERO(registry);

	vaddr = untagged_addr(vaddr);
	if (!ret) {
		ret = registry_unregister(container, registry, vaddr, size);
		registry_exit(registry);
	}
	if (ret == -ENOENT)
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "UNREGISTER_MEMORY vaddr 0x%llx size 0x%llx: no such range is registered by this process",
			    vaddr, size);
	return ret;
}

/**
 * vfio_registry_count() - how much the calling process has registered
 * @container: a container
 * @regions: set to the number of regions; 0 if the container is another process's
 * @size: set to the bytes of them
 *
 * Context: may sleep; container->lock held.
 */
void vfio_registry_count(struct vfio_type1_container *container, u32 *regions, u64 *size)
{
	struct vfio_registry *registry = container->registry;

	*regions = 0;
	*size = 0;
	if (!registry || registry->mm != current->mm)
		return;
	down_read(&registry->lock);
	*regions = registry->nr_regions;
	*size = (u64)registry->npages << PAGE_SHIFT;
	up_read(&registry->lock);
}

/**
 * vfio_registry_look() - look at one of the regions
 * @container: a container
 * @vaddr: user address
 * @view: set to what the first region is like that begins there or after it, of those of
 *	the process that the container belongs to
 *
 * Context: container->lock and, if there is a registry, registry->lock held.
 * Return: false if there is none.
 */
bool vfio_registry_look(struct vfio_type1_container *container, unsigned long vaddr,
			struct vfio_region_view *view)
{
	struct vfio_registry *registry = container->registry;
	const struct vfio_region *region;

	if (!registry)
		return false;
	region = registry_find(registry, vaddr, ULONG_MAX);
	/* One that came after a part of it was seen. */
	if (region && region->vaddr < vaddr)
		region = rb_entry_safe(rb_next(&region->node), struct vfio_region, node);
	if (region)
		*view = (struct vfio_region_view) {
			.vaddr = region->vaddr,
			.npages = region->npages,
			.read_only = region->read_only,
			.pid = region->owner.task->tgid,
			.registered = READ_ONCE(region->registered),
			.mappings = vfio_region_mappings(region),
			.locked_vm = region->locked_vm,
			.nr_marked = READ_ONCE(region->nr_marked),
			.kept = READ_ONCE(region->kept),
		};
	return region;
}

/* ---- mapping ---- */

/*
 * Let a mapping use the region that all of it lies in, if there is one.  Return: NULL,
 * or why there is none.
 */
static const char *registry_take(const struct vfio_type1_container *container,
				 struct vfio_dma *dma)
{
	struct vfio_registry *registry = container->registry;
	unsigned long vaddr = untagged_addr(dma->vaddr), last = vaddr + (dma->last - dma->iova);
	struct vfio_region *region;
	const char *why = NULL;

	if (!registry || registry->mm != current->mm)
		return "the container is not this process's";
	down_read(&registry->lock);
	region = registry_find(registry, vaddr, last);
	if (!region)
		why = "none of it is";
	else if (region->vaddr > vaddr || region_last(region) < last)
		why = "not all of it is, in one piece";
	else if (region->read_only && dma->prot & IOMMU_WRITE)
		why = "it is, but read-only";
	else
		vfio_region_join(region, dma, container, (vaddr - region->vaddr) >> PAGE_SHIFT);
	up_read(&registry->lock);
	return why;
}

/**
 * vfio_registry_take_region() - let a mapping use registered memory, if it is some
 * @container: the container
 * @dma: mapping without pages, owned by the caller, of the caller's memory; gets a
 *	reference to a region, which goes with it
 *
 * Context: may sleep; container->lock held for reading.  Drops and takes it while marked
 * memory is compared, so what it protects may be different afterwards.
 * Return: 0, also if the memory is to be pinned for this mapping alone; -EPERM if it is
 * not registered in a strict container; else as vfio_region_check_marked().
 */
int vfio_registry_take_region(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	u64 size = dma->last - dma->iova + 1;
	struct vfio_region *region;
	unsigned long changed;
	const char *why;
	int ret;

	why = registry_take(container, dma);
	if (why && container->strict) {
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: only registered memory can be mapped here, and %s",
			    (u64)dma->iova, dma->vaddr, size, why);
		return -EPERM;
	}
	if (why)
		return 0;

	region = dma->region;
	if (likely(!READ_ONCE(region->nr_marked)))
		return 0;
	up_read(&container->lock);
	ret = vfio_region_check_marked(region, dma->region_page, vfio_dma_npages(dma), &changed);
	down_read(&container->lock);
	if (!ret)
		return 0;
	if (ret == -ESTALE)
		vfio_refuse(container, VFIO_REFUSE_REGISTRY,
			    "MAP_DMA iova 0x%llx vaddr 0x%lx size 0x%llx: memory at vaddr 0x%lx is not what was registered at vaddr 0x%lx size 0x%lx; unregister that, and register it anew",
			    (u64)dma->iova, dma->vaddr, size,
			    region->vaddr + (changed << PAGE_SHIFT), region->vaddr,
			    region->npages << PAGE_SHIFT);
	vfio_region_leave(dma);
	dma->region = NULL;
	vfio_runs_init(&dma->runs);
	return ret;
}
