/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Valid IOVA ranges (vfio_iova.c): pure.
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_IOVA_H
#define _VFIO_IOVA_H

#include <linux/types.h>

/**
 * struct vfio_iova_span - a stretch of IOVA
 * @first: first byte
 * @last: last byte
 */
struct vfio_iova_span {
	u64 first;
	u64 last;
};

/**
 * struct vfio_iova_set - sorted, disjoint, non-adjacent valid ranges
 * @nr: how many there are
 * @capacity: how many fit
 * @ranges: the ranges
 *
 * In a container that never had a domain the set is empty, and any IOVA is valid.
 */
struct vfio_iova_set {
	unsigned int nr;
	unsigned int capacity;
	struct vfio_iova_span *ranges;
};

void vfio_iova_init(struct vfio_iova_set *set);
void vfio_iova_destroy(struct vfio_iova_set *set);
int vfio_iova_reset(struct vfio_iova_set *set, u64 first, u64 last);
int vfio_iova_exclude(struct vfio_iova_set *set, u64 first, u64 last);
bool vfio_iova_contains(const struct vfio_iova_set *set, u64 first, u64 last);
const struct vfio_iova_span *vfio_iova_nearest(const struct vfio_iova_set *set, u64 iova);

#endif /* _VFIO_IOVA_H */
