// SPDX-License-Identifier: GPL-2.0-only
/*
 * The run map: one bit per page of a mapping, set where a run starts.
 *
 * The IOMMU keeps the addresses, the run map keeps the boundaries, so that
 * UNMAP and replay take one step per run instead of one per page.  It is filled
 * front to back while MAP maps run after run; UNMAP only reads it.
 *
 * Losing the map is allowed at any time (there was no memory): the runs are
 * then found by walking the IOMMU.  A map that was lost never comes back.
 *
 * Pure: knows nothing of the IOMMU or of user memory.
 */

#include <linux/bitmap.h>
#include <linux/slab.h>

#include "vfio_type1.h"

/* Pages that the first allocation describes at most: one page of map. */
#define RUNS_FIRST	(PAGE_SIZE * BITS_PER_BYTE)

static unsigned long *runs_alloc(unsigned long npages)
{
	return kvcalloc(BITS_TO_LONGS(npages), sizeof(unsigned long), VFIO_GFP_OPTIONAL);
}

/**
 * vfio_runs_init() - make an empty run map
 * @runs: what to initialise
 * @npages: pages in the mapping, at least 1
 *
 * If there is no memory the map is lost from the start, which is no error.
 *
 * Context: may sleep.
 */
void vfio_runs_init(struct vfio_runs *runs, unsigned long npages)
{
	runs->npages = npages;
	runs->word = 0;
	if (npages <= BITS_PER_LONG) {
		runs->map = &runs->word;
		runs->capacity = npages;
		return;
	}
	runs->capacity = min(npages, RUNS_FIRST);
	runs->map = runs_alloc(runs->capacity);
	if (!runs->map)
		runs->capacity = 0;
}

/**
 * vfio_runs_free() - give the memory back
 * @runs: run map; it counts as lost from now on
 */
void vfio_runs_free(struct vfio_runs *runs)
{
	if (runs->map != &runs->word)
		kvfree(runs->map);
	runs->map = NULL;
	runs->capacity = 0;
}

/* Double the capacity until @page fits. */
static void runs_grow(struct vfio_runs *runs, unsigned long page)
{
	unsigned long capacity = runs->capacity;
	unsigned long *map;

	while (capacity <= page)
		capacity = capacity > runs->npages / 2 ? runs->npages : capacity * 2;
	map = runs_alloc(capacity);
	if (map)
		bitmap_copy(map, runs->map, runs->capacity);
	vfio_runs_free(runs);
	runs->map = map;
	runs->capacity = map ? capacity : 0;
}

/**
 * vfio_runs_start() - mark the start of a run
 * @runs: run map; nothing happens if it is lost
 * @page: first page of the run, as an index into the mapping
 *
 * Context: may sleep; may lose the map.
 */
void vfio_runs_start(struct vfio_runs *runs, unsigned long page)
{
	if (runs->capacity && page >= runs->capacity)
		runs_grow(runs, page);
	if (runs->capacity)
		__set_bit(page, runs->map);
}

/**
 * vfio_runs_end() - where the run that starts at a page ends
 * @runs: run map, not lost
 * @page: first page of a run
 * @npages: pages of the mapping that are mapped: where the last run ends
 *
 * Return: the first page after the run.
 */
unsigned long vfio_runs_end(const struct vfio_runs *runs, unsigned long page,
			    unsigned long npages)
{
	unsigned long known = min(runs->capacity, npages);
	unsigned long next = find_next_bit(runs->map, known, page + 1);

	return next < known ? next : npages;
}
