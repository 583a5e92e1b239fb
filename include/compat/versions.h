/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What goes by the version that a kernel says it has, as its headers do not show it; all else
 * goes by the probes.  A distributor may have taken a change back to a kernel that is older, so
 * each of these says what comes of it then.
 */
#ifndef _VFIO_TYPE1_COMPAT_VERSIONS_H
#define _VFIO_TYPE1_COMPAT_VERSIONS_H

#include <linux/version.h>

/*
 * 7.0: VT-d has its tables from generic_pt there, for certain ("iommu/vt-d: Use the generic
 * iommu page table"), whose unmap flushes what was gathered before it adds the tables that it
 * emptied.  Before, a call of VT-d's unmap may free these with the flush of what an earlier call
 * unmapped: see Documentation/internals.rst.  The headers have the format of the tables, and not
 * whether the driver uses it.  Taken back: the IOMMU is flushed where it need not be.
 */
#define VFIO_COMPAT_UNMAP_FREES_EARLY (LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0))

/*
 * The same of a map that finds a table in a superpage's way; AMD-Vi's v2 tables, too.  SMMUv3's
 * driver flushes first.  Taken back: superpages are split where they need not be.
 */
#define VFIO_COMPAT_MAP_FREES_EARLY (VFIO_COMPAT_UNMAP_FREES_EARLY && !IS_ENABLED(CONFIG_ARM64))

/*
 * 6.5 keeps pages that a file system tracks the writes of from being pinned for long and for
 * writing ("mm/gup: disallow FOLL_LONGTERM GUP-nonfast writing to file-backed mappings"), in
 * mm/gup.c alone.  Taken back: a message does not name this as the reason for a refusal.
 */
#define VFIO_COMPAT_TRACKS_WRITES (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0))

/*
 * 6.3 removed vfio_iommu_driver_ops.notify, which nobody needed any more ("vfio: revert 'iommu
 * driver notify callback'"), and which only the core's private header has.  Taken back:
 * tools/check-abi finds it, and the build fails.
 */
#define VFIO_COMPAT_HAS_NOTIFY (LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0))

#endif /* _VFIO_TYPE1_COMPAT_VERSIONS_H */
