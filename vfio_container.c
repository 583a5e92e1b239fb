// SPDX-License-Identifier: GPL-2.0-only
/*
 * Containers: open and release.
 *
 * The VFIO core does not keep a pointer to a container, but its number.  The core reads
 * what it keeps without a lock, in each ioctl: it may be about to call us with what it
 * read before the container was released, or with the driver that it has stored already
 * and the data that it has not (vfio_fops_unl_ioctl() in drivers/vfio/container.c, up to
 * 7.3).  A reference that is taken at the entry comes too late for a pointer; a number is
 * looked up.  Numbers count up and are 64 bits wide, so that none is ever used again while
 * somebody could still hold it, however long he was stopped.
 */

#include <linux/hashtable.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "vfio_attach.h"
#include "vfio_container.h"
#include "vfio_count.h"
#include "vfio_debugfs.h"
#include "vfio_dma_tree.h"
#include "vfio_evict.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_params.h"
#include "vfio_refuse.h"
#include "vfio_registry.h"
#include "vfio_spares.h"
#include "vfio_type1.h"
#include "vfio_unmap.h"

static atomic64_t last_id = ATOMIC64_INIT(0);

/*
 * The containers that were not released, by number; each has a group, so that there are
 * not many.  What is not there, or has no reference left, can't be found; what was found
 * under RCU stays for a grace period.
 */
static DEFINE_HASHTABLE(containers, 6);
static DEFINE_SPINLOCK(containers_lock);

static void container_publish(struct vfio_type1_container *container)
{
	spin_lock(&containers_lock);
	hash_add_rcu(containers, &container->published, container->id);
	spin_unlock(&containers_lock);
}

static void container_unpublish(struct vfio_type1_container *container)
{
	spin_lock(&containers_lock);
	hash_del_rcu(&container->published);
	spin_unlock(&containers_lock);
}

/**
 * vfio_container_create() - make a container
 * @flags: VFIO_CONTAINER_V2, VFIO_CONTAINER_NESTING, VFIO_CONTAINER_STRICT
 *
 * Return: the container, or an ERR_PTR with -ENOMEM.
 */
struct vfio_type1_container *vfio_container_create(unsigned int flags)
{
	struct vfio_type1_container *container = kzalloc(sizeof(*container), GFP_KERNEL_ACCOUNT);

	if (!container)
		return ERR_PTR(-ENOMEM);
	kref_init(&container->users);
	init_rwsem(&container->lock);
	INIT_LIST_HEAD(&container->domains);
	INIT_LIST_HEAD(&container->emulated);
	INIT_LIST_HEAD(&container->devices);
	mutex_init(&container->external_lock);
	mutex_init(&container->device_lock);
	vfio_iova_init(&container->iova);
	container->pgsize_bitmap = PAGE_MASK;
	vfio_container_forget_reach(container);
	container->entry_limit = READ_ONCE(vfio_type1_params.dma_entry_limit);
	container->evict_waits = VFIO_EVICT_WAITS;
	vfio_dma_tree_init(&container->tree, container->entry_limit);
	container->v2 = flags & VFIO_CONTAINER_V2;
	container->nesting = flags & VFIO_CONTAINER_NESTING;
	container->strict = flags & VFIO_CONTAINER_STRICT;
	container->id = atomic64_inc_return(&last_id);
	container->opener_pid = current->tgid;
	get_task_comm(container->opener_comm, current->group_leader);
	container->opened = vfio_clock();
	container->opened_ns = ktime_get_ns();
	if (vfio_refuse_init(container) || vfio_count_init(container))
		goto free;
	/* A kernel thread has no memory to register. */
	if (current->mm && vfio_registry_join(container))
		goto free;
	vfio_debugfs_add(container);
	/* A call may outlast the core's interest in the container, and its reference. */
	__module_get(THIS_MODULE);
	container_publish(container);
	return container;

free:
	vfio_count_free(container);
	vfio_refuse_free(container);
	kfree(container);
	return ERR_PTR(-ENOMEM);
}

/**
 * vfio_container_get() - find a container by its number, and take a reference
 * @id: any number
 *
 * Context: any.
 * Return: the container, for vfio_container_put(); it may be closed at any time.  NULL if
 * there is none of this number, or it was released.
 */
struct vfio_type1_container *vfio_container_get(u64 id)
{
	struct vfio_type1_container *container, *found = NULL;

	rcu_read_lock();
	hash_for_each_possible_rcu(containers, container, published, id) {
		if (container->id == id && kref_get_unless_zero(&container->users)) {
			found = container;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

static void container_free(struct kref *users)
{
	struct vfio_type1_container *container =
		container_of(users, struct vfio_type1_container, users);
	void *spare;

	while ((spare = vfio_spares_take(&container->map_scratch)))
		kvfree(spare);
	while ((spare = vfio_spares_take(&container->window_runs)))
		kvfree(spare);
	vfio_iova_destroy(&container->iova);
	vfio_count_free(container);
	vfio_refuse_free(container);
	/* Somebody may be looking at @users. */
	kfree_rcu(container, rcu);
	/*
	 * Last, and only once: the core's own reference may be gone since it released the
	 * container.  There is some way to go from here out of the module, on which nobody
	 * sleeps: see type1_exit().
	 */
	module_put(THIS_MODULE);
}

/**
 * vfio_container_put() - let go of a container
 * @container: the container, freed by its last user
 */
void vfio_container_put(struct vfio_type1_container *container)
{
	kref_put(&container->users, container_free);
}

/**
 * vfio_container_destroy() - remove all mappings, domains and groups
 * @container: the container; calls still under way find it empty and closed, and new ones
 *	do not find it
 *
 * Context: may sleep; takes container->lock for writing.
 */
void vfio_container_destroy(struct vfio_type1_container *container)
{
	container_unpublish(container);
	vfio_debugfs_remove(container);
	down_write(&container->lock);
	container->closed = true;
	container->generation++;
	vfio_unmap_all(container);
	vfio_container_detach_all(container);
	vfio_registry_leave(container);
	up_write(&container->lock);
	vfio_container_put(container);
}
