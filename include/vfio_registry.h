/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which memory a process has registered (vfio_registry.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_REGISTRY_H
#define _VFIO_REGISTRY_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "vfio_region.h"
#include "vfio_type1.h"

/**
 * struct vfio_registry - the memory that a process has registered
 * @users: containers, and calls under way
 * @next: in the list of all registries; registries_lock
 * @nr_containers: containers of the process; registries_lock
 * @mm: the process's memory, grabbed
 * @mutex: see vfio_type1.h
 * @closed: the last container is gone; @mutex
 * @lock: see vfio_type1.h
 * @regions: struct vfio_region by vaddr, which do not overlap; changes take @mutex
 *	and @lock for write
 * @nr_regions: how many there are; like @regions
 * @npages: pages of them; like @regions
 * @orphaned: empties the registry when the process has died
 * @closing: closes it, where that must not be waited for; has a reference
 */
struct vfio_registry {
	struct kref users;
	struct list_head next;
	unsigned int nr_containers;
	struct mm_struct *mm;
	struct mutex mutex; /* which regions there are */
	bool closed;
	struct rw_semaphore lock;
	struct rb_root regions;
	unsigned int nr_regions;
	unsigned long npages;
	struct work_struct orphaned;
	struct work_struct closing;
};

struct vfio_region *vfio_registry_find(const struct vfio_registry *registry,
				       unsigned long vaddr, unsigned long last);
void vfio_registry_insert(struct vfio_registry *registry, struct vfio_region *region);
bool vfio_registry_remove(struct vfio_registry *registry, struct vfio_region *region,
			  struct vfio_region_busy *busy);
int vfio_registry_join(struct vfio_type1_container *container);
void vfio_registry_leave(struct vfio_type1_container *container);
struct vfio_registry *vfio_registry_enter(struct vfio_type1_container *container,
					  const char *request);
struct vfio_registry *vfio_registry_enter_adopt(struct vfio_type1_container *container,
						const char *request);
void vfio_registry_exit(struct vfio_registry *registry);
void vfio_registry_count(struct vfio_type1_container *container, u32 *regions, u64 *size);
bool vfio_registry_look(struct vfio_type1_container *container, unsigned long vaddr,
			struct vfio_region_view *view);
int vfio_registry_take_region(struct vfio_type1_container *container, struct vfio_dma *dma);

/**
 * vfio_registry_take() - let a mapping use registered memory, if it is some
 * @container: the container
 * @dma: mapping without pages, owned by the caller, of the caller's memory
 *
 * Costs next to nothing where nothing is registered.
 *
 * Context: as vfio_registry_take_region().
 * Return: as vfio_registry_take_region().
 */
static inline int vfio_registry_take(struct vfio_type1_container *container, struct vfio_dma *dma)
{
	const struct vfio_registry *registry = container->registry;

	if (likely((!registry || !READ_ONCE(registry->nr_regions)) && !container->strict))
		return 0;
	return vfio_registry_take_region(container, dma);
}

#endif /* _VFIO_REGISTRY_H */
