/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What makes IOVA invalid (vfio_cut.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_CUT_H
#define _VFIO_CUT_H

#include <linux/types.h>

#include "vfio_iova.h"

struct iommu_group;
struct list_head;
struct vfio_dma;
struct vfio_domain;
struct vfio_type1_container;

/* Why IOVA is not valid. */
enum vfio_cut_kind {
	VFIO_CUT_APERTURE,	/* a domain cannot translate it */
	VFIO_CUT_DIRECT,	/* firmware uses it through the IOMMU */
	VFIO_CUT_RESERVED,	/* the IOMMU or the platform does not translate it */
	VFIO_CUT_MSI,		/* writing there is an interrupt */
	VFIO_CUT_SW_MSI,	/* the kernel maps the MSI doorbell there */
};

extern const char *const vfio_cut_names[];

/**
 * struct vfio_iova_cut - a piece of IOVA that is not valid
 * @range: the piece
 * @kind: why
 * @nr: VFIO_CUT_APERTURE: number of the domain, the primary is 0; else of the
 *	IOMMU group
 */
struct vfio_iova_cut {
	struct vfio_iova_span range;
	enum vfio_cut_kind kind;
	int nr;
};

typedef int (*vfio_cut_fn_t)(const struct vfio_iova_cut *cut, void *data);

/* A piece in words. */
struct vfio_cut_text {
	char s[96];
};

int vfio_cut_walk(struct vfio_type1_container *container, vfio_cut_fn_t fn, void *data);
int vfio_cut_walk_group(struct iommu_group *group, vfio_cut_fn_t fn, void *data);
void vfio_cut_describe(struct vfio_type1_container *container, const struct vfio_domain *extra,
		       struct vfio_iova_span range, struct vfio_cut_text *text);
void vfio_cut_free_regions(struct list_head *regions);
int vfio_cut_build_iova(struct vfio_type1_container *container, struct vfio_iova_set *iova,
			const struct vfio_domain *extra);
struct vfio_dma *vfio_cut_find_conflict(struct vfio_type1_container *container,
					const struct vfio_iova_set *iova);

#endif /* _VFIO_CUT_H */
