/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Refusals: why, how often, and a line in the log (vfio_refuse.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_REFUSE_H
#define _VFIO_REFUSE_H

#include <linux/compiler.h>
#include <linux/types.h>

struct vfio_owner;
struct vfio_type1_container;

/* Why a request is refused; Documentation/messages.rst has the messages of each. */
enum vfio_refusal {
	VFIO_REFUSE_ARGSZ,	/* argsz too small */
	VFIO_REFUSE_FLAGS,	/* unknown or contradicting flags */
	VFIO_REFUSE_SIZE,	/* zero size, wrap around, ALL with a range */
	VFIO_REFUSE_ALIGN,	/* not aligned to the smallest page */
	VFIO_REFUSE_RANGE,	/* not within a valid IOVA range */
	VFIO_REFUSE_OVERLAP,	/* a mapping is there */
	VFIO_REFUSE_ENTRIES,	/* dma_entry_limit */
	VFIO_REFUSE_MEMLOCK,	/* RLIMIT_MEMLOCK */
	VFIO_REFUSE_PIN,	/* memory could not be pinned */
	VFIO_REFUSE_IOMMU,	/* the IOMMU driver refused */
	VFIO_REFUSE_BISECT,	/* cuts a mapping in two */
	VFIO_REFUSE_V1_NONE,	/* a v1 UNMAP that removed nothing; no error, size is 0 */
	VFIO_REFUSE_DIRTY,	/* dirty tracking is off, a bad bitmap, too many pages */
	VFIO_REFUSE_VADDR,	/* the rules of VFIO_UPDATE_VADDR */
	VFIO_REFUSE_IOCTL,	/* unknown, or not for this type of container */
	VFIO_REFUSE_ATTACH,	/* a group that cannot be attached, or not now */
	VFIO_REFUSE_MSI,	/* a group without MSI isolation */
	VFIO_REFUSE_REGISTRY,	/* the rules of registered memory */
	VFIO_REFUSE_LAST_GROUP,	/* mappings went with the last group; no error */
	VFIO_REFUSE_NR
};

extern const char *const vfio_refusal_names[VFIO_REFUSE_NR];

int vfio_refuse_init(struct vfio_type1_container *container);
void vfio_refuse_free(struct vfio_type1_container *container);
__printf(3, 4) __cold
void vfio_refuse(struct vfio_type1_container *container, enum vfio_refusal reason,
		 const char *fmt, ...);
void vfio_refuse_memlock(struct vfio_type1_container *container, const struct vfio_owner *owner,
			 const char *request, u64 at, unsigned long npages);

#endif /* _VFIO_REFUSE_H */
