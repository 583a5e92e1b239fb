// SPDX-License-Identifier: GPL-2.0-only
/*
 * The CPU's caches, for devices that do not look into them.
 *
 * A device may ask for memory past the caches (PCIe no-snoop), and an IOMMU that does
 * not enforce coherency lets it.  Then it reads what was in a page before the kernel
 * cleared it, which is another process's, for as long as the zeroes are in a cache only;
 * and what it writes may be overwritten, once the page is somebody else's, by what a
 * cache still has of it.  So on such domains pages are written back, and dropped from
 * the caches, before the first IOMMU maps them, and again before they are unpinned.
 *
 * In between they are the process's own: what of it is where is up to its driver.
 */

#ifdef CONFIG_X86
#include <asm/cacheflush.h>
#endif
#include <linux/mm.h>

#include "vfio_cache.h"

const bool vfio_cache_can_flush = IS_ENABLED(CONFIG_X86);

/**
 * vfio_cache_flush() - write pages back, and drop them from all CPUs' caches
 * @pfn: first page frame, RAM
 * @npages: pages
 *
 * Nothing happens where the architecture has no way that a module may use.
 *
 * Context: any; takes some microseconds a page.
 */
void vfio_cache_flush(unsigned long pfn, unsigned long npages)
{
#ifdef CONFIG_X86
	clflush_cache_range(page_address(pfn_to_page(pfn)), npages << PAGE_SHIFT);
#endif
}
