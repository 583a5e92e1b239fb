// SPDX-License-Identifier: GPL-2.0-only
/*
 * Caches, as the suites want them: see fake_cache.h.
 */

#include "vfio_cache.h"
#include "fake_cache.h"

struct fake_cache fake_cache;

const bool vfio_cache_can_flush = true;

void vfio_cache_flush(unsigned long pfn, unsigned long npages)
{
	for (; npages; npages--, pfn++) {
		fake_cache.npages++;
		if (fake_cache.look)
			fake_cache.look(pfn, fake_cache.data);
	}
}
