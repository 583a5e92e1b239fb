/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences of the VFIO core, bridged towards the newest kernel.
 */
#ifndef _VFIO_TYPE1_COMPAT_VFIO_H
#define _VFIO_TYPE1_COMPAT_VFIO_H

#include <linux/version.h>

/*
 * 6.3 removed vfio_iommu_driver_ops.notify, which nobody needed any more ("vfio:
 * revert 'iommu driver notify callback'").
 */
#define VFIO_COMPAT_HAS_NOTIFY (LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0))

#endif /* _VFIO_TYPE1_COMPAT_VFIO_H */
