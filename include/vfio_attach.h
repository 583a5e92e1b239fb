/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Groups come and go (vfio_attach.c, vfio_replay.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_ATTACH_H
#define _VFIO_ATTACH_H

struct iommu_group;
struct vfio_type1_container;

int vfio_container_attach(struct vfio_type1_container *container, struct iommu_group *group);
int vfio_container_attach_emulated(struct vfio_type1_container *container,
				   struct iommu_group *group);
void vfio_container_detach(struct vfio_type1_container *container, struct iommu_group *group);
void vfio_container_detach_all(struct vfio_type1_container *container);

#endif /* _VFIO_ATTACH_H */
