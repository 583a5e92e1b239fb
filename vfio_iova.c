// SPDX-License-Identifier: GPL-2.0-only
/*
 * Valid IOVA ranges: the apertures of all domains minus the reserved regions of
 * all groups.
 *
 * A set is a sorted array of ranges that neither overlap nor touch, both ends
 * inclusive so that U64_MAX is an address like any other.  A set is built for
 * the groups that will be attached, and replaces the old one as a whole.
 *
 * Pure: knows nothing of domains or groups.
 */

#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/slab.h>

#include "vfio_iova.h"

/**
 * vfio_iova_init() - make a set without ranges
 * @set: what to initialise
 */
void vfio_iova_init(struct vfio_iova_set *set)
{
	set->nr = 0;
	set->capacity = 0;
	set->ranges = NULL;
}

/**
 * vfio_iova_destroy() - give the memory back
 * @set: the set, empty afterwards
 */
void vfio_iova_destroy(struct vfio_iova_set *set)
{
	kfree(set->ranges);
	vfio_iova_init(set);
}

/* Make room for one more range. */
static int iova_grow(struct vfio_iova_set *set)
{
	unsigned int capacity = max(8U, set->capacity * 2);
	struct vfio_iova_span *ranges;

	if (set->nr < set->capacity)
		return 0;
	ranges = krealloc_array(set->ranges, capacity, sizeof(*ranges), GFP_KERNEL_ACCOUNT);
	if (!ranges)
		return -ENOMEM;
	set->ranges = ranges;
	set->capacity = capacity;
	return 0;
}

/**
 * vfio_iova_reset() - make a set of one range
 * @set: the set; what it held is forgotten
 * @first: first valid byte
 * @last: last valid byte
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM with the set unchanged.
 */
int vfio_iova_reset(struct vfio_iova_set *set, u64 first, u64 last)
{
	int ret = iova_grow(set);

	if (ret)
		return ret;
	set->ranges[0] = (struct vfio_iova_span) { .first = first, .last = last };
	set->nr = 1;
	return 0;
}

/**
 * vfio_iova_exclude() - take what is not valid out of a set
 * @set: the set
 * @first: first invalid byte
 * @last: last invalid byte
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM with the set unchanged.
 */
int vfio_iova_exclude(struct vfio_iova_set *set, u64 first, u64 last)
{
	unsigned int i, kept = 0;
	int ret;

	/* A region inside a range leaves one range more than there was. */
	ret = iova_grow(set);
	if (ret)
		return ret;

	for (i = 0; i < set->nr; i++) {
		struct vfio_iova_span r = set->ranges[i];

		if (r.last < first || r.first > last) {
			set->ranges[kept++] = r;
			continue;
		}
		if (r.first < first && r.last > last) {
			/* Only one range can hold the whole region. */
			memmove(&set->ranges[i + 2], &set->ranges[i + 1],
				(set->nr - i - 1) * sizeof(r));
			set->ranges[i].last = first - 1;
			set->ranges[i + 1].first = last + 1;
			set->ranges[i + 1].last = r.last;
			set->nr++;
			return 0;
		}
		if (r.first < first) {
			r.last = first - 1;
			set->ranges[kept++] = r;
		} else if (r.last > last) {
			r.first = last + 1;
			set->ranges[kept++] = r;
		}
	}
	set->nr = kept;
	return 0;
}

/**
 * vfio_iova_nearest() - the valid range at or nearest to an address
 * @set: the set
 * @iova: address
 *
 * Return: the range that holds @iova, else the one with the smallest distance,
 * or NULL if there is no valid range.
 */
const struct vfio_iova_span *vfio_iova_nearest(const struct vfio_iova_set *set, u64 iova)
{
	const struct vfio_iova_span *below = NULL;
	unsigned int i;

	for (i = 0; i < set->nr; i++) {
		const struct vfio_iova_span *r = &set->ranges[i];

		if (iova > r->last) {
			below = r;
			continue;
		}
		if (below && r->first > iova && iova - below->last < r->first - iova)
			return below;
		return r;
	}
	return below;
}

/**
 * vfio_iova_contains() - is all of a range valid?
 * @set: the set
 * @first: first byte
 * @last: last byte
 *
 * Return: true if one valid range holds it.
 */
bool vfio_iova_contains(const struct vfio_iova_set *set, u64 first, u64 last)
{
	const struct vfio_iova_span *r = vfio_iova_nearest(set, first);

	return r && first >= r->first && last <= r->last;
}
