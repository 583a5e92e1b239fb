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

#include "vfio_dma_tree.h"
#include "vfio_queue.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_registry.h"
#include "vfio_runs.h"
#include "vfio_type1.h"
#include "vfio_watch.h"

static DEFINE_SPINLOCK(registries_lock);
static LIST_HEAD(registries);

/* ---- the set of regions ---- */

/**
 * vfio_registry_find() - find a region by address
 * @registry: the registry
 * @vaddr: first byte of a range
 * @last: last byte
 *
 * Context: registry->mutex or registry->lock held.
 * Return: the lowest region that touches the range, or NULL.
 */
struct vfio_region *vfio_registry_find(const struct vfio_registry *registry,
				       unsigned long vaddr, unsigned long last)
{
	struct rb_node *node = registry->regions.rb_node;
	struct vfio_region *found = NULL;

	while (node) {
		struct vfio_region *region = rb_entry(node, struct vfio_region, node);

		if (vfio_region_last(region) < vaddr) {
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

/**
 * vfio_registry_insert() - put a region into the set
 * @registry: the registry
 * @region: the region, which is whole, and overlaps none
 *
 * Context: registry->mutex held.
 */
void vfio_registry_insert(struct vfio_registry *registry, struct vfio_region *region)
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

/**
 * vfio_registry_remove() - take a region out of the set, and watch it no longer
 * @registry: the registry
 * @region: a region in it; its reference is the caller's then
 * @busy: NULL; or, if it may only go if it is not mapped, set to what uses it
 *
 * Context: may sleep; registry->mutex held.
 * Return: whether it is out.
 */
bool vfio_registry_remove(struct vfio_registry *registry, struct vfio_region *region,
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
	vfio_watch_stop(&region->watch);
	return true;
}

static void registry_empty(struct vfio_registry *registry)
{
	struct vfio_region *region;
	struct rb_node *node;

	lockdep_assert_held(&registry->mutex);
	while ((node = rb_first(&registry->regions))) {
		region = rb_entry(node, struct vfio_region, node);
		vfio_registry_remove(registry, region, NULL);
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

/*
 * A container that was counted in is gone.  Return: whether it was the last one, so that all
 * has to go.
 */
static bool registry_put(struct vfio_registry *registry)
{
	bool last;

	spin_lock(&registries_lock);
	last = !--registry->nr_containers;
	if (last)
		list_del(&registry->next);
	spin_unlock(&registries_lock);
	if (!last)
		kref_put(&registry->users, registry_free);
	return last;
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
		if (registry_put(old))
			registry_close(old);
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
	if (!registry_put(registry))
		return;
	if (container->tree.changes || container->registers)
		registry_close(registry);
	else
		vfio_type1_queue(&registry->closing);
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

/* The caller's registry, if the container is the caller's.  Return: as vfio_registry_enter(). */
static int registry_find_own(struct vfio_type1_container *container,
			     struct vfio_registry **registry)
{
	int ret = 0;

	WRITE_ONCE(container->registers, true);
	down_read(&container->lock);
	if (!registry_hold(container, registry))
		ret = registry_may_adopt(container) ?: -ENOENT;
	up_read(&container->lock);
	return ret;
}

/* Lock a registry that was found, or tell why there is none, which is @ret. */
static struct vfio_registry *registry_lock(struct vfio_type1_container *container,
					   const char *request, struct vfio_registry *registry,
					   int ret)
{
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

/**
 * vfio_registry_enter() - the caller's registry, locked
 * @container: a container of the caller
 * @request: what for, in a message
 *
 * Context: process context; takes container->lock.
 * Return: the registry, for vfio_registry_exit(); or an ERR_PTR: -ENOENT if the container
 * is nobody's; -ENODEV for a kernel thread, or if it was closed; -EPERM if it is another
 * process's; -EINTR.
 */
struct vfio_registry *vfio_registry_enter(struct vfio_type1_container *container,
					  const char *request)
{
	struct vfio_registry *registry;
	int ret = registry_find_own(container, &registry);

	return registry_lock(container, request, registry, ret);
}

/**
 * vfio_registry_enter_adopt() - the same, and a container that is free becomes the caller's
 * @container: as for vfio_registry_enter()
 * @request: as for vfio_registry_enter()
 *
 * Context: process context; takes container->lock.
 * Return: as vfio_registry_enter(); -ENOMEM.
 */
struct vfio_registry *vfio_registry_enter_adopt(struct vfio_type1_container *container,
						const char *request)
{
	struct vfio_registry *registry;
	int ret = registry_find_own(container, &registry);

	if (ret == -ENOENT)
		ret = registry_adopt(container, &registry);
	return registry_lock(container, request, registry, ret);
}

/**
 * vfio_registry_exit() - let go of a registry
 * @registry: from vfio_registry_enter()
 */
void vfio_registry_exit(struct vfio_registry *registry)
{
	mutex_unlock(&registry->mutex);
	kref_put(&registry->users, registry_free);
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
	region = vfio_registry_find(registry, vaddr, ULONG_MAX);
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
	region = vfio_registry_find(registry, vaddr, last);
	if (!region)
		why = "none of it is";
	else if (region->vaddr > vaddr || vfio_region_last(region) < last)
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
