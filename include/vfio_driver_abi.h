/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The VFIO core's private declarations that an IOMMU backend needs.
 *
 * The core exports vfio_register_iommu_driver(), but declares it, and the
 * operations it takes, in drivers/vfio/vfio.h, which no headers package ships.
 * They are mirrored here, so their layout must match the running kernel's:
 * symbol versions do not compare this copy with the kernel's own.
 * tools/check-abi does, and fails the build if they differ.  The layout of 7.2
 * is that of 6.3; 6.1 and 6.2 have one more operation at the end.
 */
#ifndef _VFIO_DRIVER_ABI_H
#define _VFIO_DRIVER_ABI_H

#include <linux/module.h>
#include <linux/types.h>

#include "compat/versions.h"

struct iommu_domain;
struct iommu_group;
struct page;
struct vfio_device;

/* What stands behind a group: an IOMMU, a driver that mediates DMA, or nothing. */
enum vfio_group_type {
	VFIO_IOMMU,
	VFIO_EMULATED_IOMMU,
	VFIO_NO_IOMMU,
};

#if VFIO_COMPAT_HAS_NOTIFY
enum vfio_iommu_notify_type {
	VFIO_IOMMU_CONTAINER_CLOSE = 0,
};
#endif

struct vfio_iommu_driver_ops {
	char *name;
	struct module *owner;
	void *(*open)(unsigned long arg);
	void (*release)(void *iommu_data);
	long (*ioctl)(void *iommu_data, unsigned int cmd, unsigned long arg);
	int (*attach_group)(void *iommu_data, struct iommu_group *group,
			    enum vfio_group_type type);
	void (*detach_group)(void *iommu_data, struct iommu_group *group);
	int (*pin_pages)(void *iommu_data, struct iommu_group *group, dma_addr_t user_iova,
			 int npage, int prot, struct page **pages);
	void (*unpin_pages)(void *iommu_data, dma_addr_t user_iova, int npage);
	void (*register_device)(void *iommu_data, struct vfio_device *vdev);
	void (*unregister_device)(void *iommu_data, struct vfio_device *vdev);
	int (*dma_rw)(void *iommu_data, dma_addr_t user_iova, void *data, size_t count,
		      bool write);
	struct iommu_domain *(*group_iommu_domain)(void *iommu_data, struct iommu_group *group);
#if VFIO_COMPAT_HAS_NOTIFY
	void (*notify)(void *iommu_data, enum vfio_iommu_notify_type event);
#endif
};

int vfio_register_iommu_driver(const struct vfio_iommu_driver_ops *ops);
void vfio_unregister_iommu_driver(const struct vfio_iommu_driver_ops *ops);

#endif /* _VFIO_DRIVER_ABI_H */
