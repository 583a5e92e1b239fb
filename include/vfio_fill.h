/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages into mappings (vfio_fill.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_FILL_H
#define _VFIO_FILL_H

struct vfio_dma;
struct vfio_type1_container;

/* Beside 0 and errnos: groups came or went, so that MAP has to start over. */
#define VFIO_FILL_RESTART	1

int vfio_fill(struct vfio_type1_container *container, struct vfio_dma *dma);
int vfio_fill_locked(struct vfio_type1_container *container, struct vfio_dma *dma);

#endif /* _VFIO_FILL_H */
