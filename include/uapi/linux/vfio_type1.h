/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What this backend adds to <linux/vfio.h>: memory that is registered once, and
 * then mapped and unmapped at little cost.  See Documentation/registered-memory.rst.
 *
 * The numbers are far from those of <linux/vfio.h>, which counts up from 1 and
 * from VFIO_BASE: 0x5431 is "T1".  Fields may be added at the ends of structures;
 * argsz tells which of them a caller knows.
 */
#ifndef _UAPI_LINUX_VFIO_TYPE1_H
#define _UAPI_LINUX_VFIO_TYPE1_H

#include <linux/types.h>
#include <linux/vfio.h>

/*
 * VFIO_CHECK_EXTENSION: memory can be registered.  The answer is the version of
 * this interface, 1, or 0 if it is not there.
 */
#define VFIO_TYPE1_MEMORY		0x54310001

/*
 * VFIO_SET_IOMMU: VFIO_TYPE1v2_IOMMU in which only registered memory can be
 * mapped.  VFIO_IOMMU_MAP_DMA of anything else fails with EPERM.
 */
#define VFIO_TYPE1_STRICT_IOMMU		0x54310002

/**
 * struct vfio_type1_memory - a range of the calling process's memory
 * @argsz: size of this structure, as the caller knows it
 * @flags: VFIO_TYPE1_MEMORY_READ_ONLY or 0; 0 to unregister
 * @vaddr: first byte
 * @size: bytes
 *
 * @vaddr and @size are multiples of the system's page size.
 */
struct vfio_type1_memory {
	__u32	argsz;
	__u32	flags;
#define VFIO_TYPE1_MEMORY_READ_ONLY	(1 << 0)
	__u64	vaddr;
	__u64	size;
};

/*
 * VFIO_TYPE1_REGISTER_MEMORY - _IOW(VFIO_TYPE, VFIO_BASE + 100,
 *				     struct vfio_type1_memory)
 *
 * Pin a range of the calling process's memory, and charge it as locked memory,
 * once.  From then on a VFIO_IOMMU_MAP_DMA of any part of it, in any container of
 * this process, uses the pages that were registered and charges nothing.  It fails
 * with ESTALE if the process has other memory there now, and with ENOMEM if memory
 * was short in finding that out: then it may be tried again.
 *
 * A range may be registered again with the same values, as long as the process has
 * the same memory there, and then has to be unregistered as often; it may not overlap
 * another one otherwise.  Memory of a device (a BAR) cannot be registered.
 *
 * With VFIO_TYPE1_MEMORY_READ_ONLY the memory need not be writable, and devices
 * can be given nothing but read access to it.
 *
 * Errors: EINVAL: argsz, flags, vaddr, or size are wrong, or the range overlaps
 * another one.  EOVERFLOW: the range wraps around.  EFAULT: there is no memory,
 * none that may be accessed so, or a device's.  ESTALE: it is registered, but the
 * process has other memory there now.  ENOMEM: RLIMIT_MEMLOCK is exceeded, or memory
 * is short.  ENOSPC: too many ranges are registered.  EINTR: a fatal signal; after any
 * other one the call begins again by itself.  EPERM: the container is another
 * process's.  ENODEV: the container was closed, or became another process's, meanwhile.
 * EOPNOTSUPP: the kernel was built without what this needs.
 */
#define VFIO_TYPE1_REGISTER_MEMORY	_IO(VFIO_TYPE, VFIO_BASE + 100)

/*
 * VFIO_TYPE1_UNREGISTER_MEMORY - _IOW(VFIO_TYPE, VFIO_BASE + 101,
 *				       struct vfio_type1_memory)
 *
 * Undo one VFIO_TYPE1_REGISTER_MEMORY of the same vaddr and size.  flags are 0.
 * With the last one the memory is unpinned, and is no longer charged.
 *
 * Errors: EINVAL: argsz or flags are wrong.  ENOENT: nothing of this vaddr and size
 * is registered by this process.  EBUSY: it would be the last one, and something
 * of the range is mapped.  EINTR: a fatal signal.  EPERM: the container is another
 * process's.  ENODEV: it was closed, or became another process's, meanwhile.
 */
#define VFIO_TYPE1_UNREGISTER_MEMORY	_IO(VFIO_TYPE, VFIO_BASE + 101)

#define VFIO_TYPE1_INFO_CAP_MEMORY	0x5431

/**
 * struct vfio_type1_info_cap_memory - VFIO_TYPE1_INFO_CAP_MEMORY
 * @header: version 1
 * @flags: VFIO_TYPE1_INFO_MEMORY_STRICT: only registered memory can be mapped
 * @regions: ranges that the calling process has registered
 * @size: bytes of them
 *
 * A capability in the chain of VFIO_IOMMU_GET_INFO.
 */
struct vfio_type1_info_cap_memory {
	struct	vfio_info_cap_header header;
	__u32	flags;
#define VFIO_TYPE1_INFO_MEMORY_STRICT	(1 << 0)
	__u32	regions;
	__u64	size;
};

#endif /* _UAPI_LINUX_VFIO_TYPE1_H */
