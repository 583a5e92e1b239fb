/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What follows from a container's groups and domains (vfio_group.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_GROUP_H
#define _VFIO_GROUP_H

#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/types.h>

#include "vfio_count.h"
#include "vfio_domain.h"
#include "vfio_params.h"
#include "vfio_pin.h"
#include "vfio_type1.h"

/**
 * struct vfio_group_entry - a group attached to a container
 * @next: in its domain's list, or in the container's of emulated groups;
 *	container->lock
 * @group: the group
 * @pins_only: its devices write only what they pinned through pin_pages, so that
 *	pages may be clean; container->lock and container->external_lock
 */
struct vfio_group_entry {
	struct list_head next;
	struct iommu_group *group;
	bool pins_only;
};

struct vfio_group_entry *vfio_container_find_group(struct vfio_type1_container *container,
						   struct iommu_group *group,
						   struct vfio_domain **domain);
bool vfio_container_has_emulated(struct vfio_type1_container *container);
bool vfio_container_coherent(struct vfio_type1_container *container);
unsigned long vfio_container_common_pgsizes(struct vfio_type1_container *container,
					    const struct vfio_domain *extra);
int vfio_container_lock_reach(struct vfio_type1_container *container, u64 last);
void vfio_container_forget_reach(struct vfio_type1_container *container);

/**
 * vfio_container_flush() - keep the CPU's caches out of the way of devices that pass them by
 * @container: the container
 * @run: runs that no device reaches yet, or, pinned still, none any more
 * @nr: how many
 *
 * Nothing happens as long as all domains enforce cache coherency.
 *
 * Context: may sleep; container->lock held.
 */
static inline void vfio_container_flush(struct vfio_type1_container *container,
					const struct vfio_run *run, unsigned int nr)
{
	if (unlikely(container->noncoherent) && READ_ONCE(vfio_type1_params.flush_noncoherent))
		vfio_count(container, VFIO_COUNT_FLUSHED_PAGES, vfio_pin_flush(run, nr));
}

/**
 * vfio_container_pgsize() - the IOMMU's smallest page
 * @container: the container
 *
 * Context: container->lock held.
 * Return: bytes; a multiple of PAGE_SIZE.
 */
static inline unsigned long vfio_container_pgsize(const struct vfio_type1_container *container)
{
	return 1UL << __ffs(container->pgsize_bitmap);
}

/**
 * vfio_container_has_iommu() - is there a domain to map into?
 * @container: the container
 *
 * Context: container->lock held.
 * Return: false if all IOVA are valid and memory is not pinned.
 */
static inline bool vfio_container_has_iommu(struct vfio_type1_container *container)
{
	return !list_empty(&container->domains);
}

/**
 * vfio_container_primary() - the domain that addresses are read back from
 * @container: a container with at least one domain
 *
 * Context: container->lock held.
 * Return: the domain.
 */
static inline struct vfio_domain *vfio_container_primary(struct vfio_type1_container *container)
{
	return list_first_entry(&container->domains, struct vfio_domain, next);
}

#endif /* _VFIO_GROUP_H */
