/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The CPU's caches (vfio_cache.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_CACHE_H
#define _VFIO_CACHE_H

#include <linux/types.h>

extern const bool vfio_cache_can_flush;

void vfio_cache_flush(unsigned long pfn, unsigned long npages);

#endif /* _VFIO_CACHE_H */
