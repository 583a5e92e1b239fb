// SPDX-License-Identifier: GPL-2.0-only
/*
 * The differential test: values that are often good, and often nearly so.
 */
#define _GNU_SOURCE
#include <string.h>

#include "difftest.h"

/* ---- Values that are often good, and often nearly so ---- */

static const __u64 windows[] = {
	0,
	0xfee00000 - 0x800000,		/* MSIs; and 4 GiB is behind them */
	0x100000000 - 0x800000,
	0xfd00000000 - 0x800000,	/* AMD's HyperTransport: first page */
	0x10000000000 - 0x800000,	/* and the one behind */
	0x1000000000000 - 0x800000,	/* 48 bits */
	-0x1000000ULL,			/* 64 bits */
};

__u64 some_window(void)
{
	return chance(50) ? windows[0] : ONE_OF(windows);
}

unsigned int some_pages(void)
{
	unsigned int percent = rnd(100);

	if (percent < 60)
		return 1 + rnd(4);
	if (percent < 95)
		return 1 + rnd(percent < 85 ? 16 : 64);
	return percent < 98 ? 512 : 1 + rnd(percent < 99 ? 512 : 3000);
}

__u64 some_bad_value(__u64 good)
{
	switch (rnd(8)) {
	case 0:
		return 0;
	case 1:
		return good + 1 + rnd(PAGE - 1);
	case 2:
		return good + PAGE / 2;
	case 3:
		return rnd64();
	case 4:
		return rnd64() & ~(PAGE - 1);
	case 5:
		return -PAGE * (1 + rnd(3));
	case 6:
		return good ^ 1ULL << (12 + rnd(52));
	default:
		return good + PAGE;
	}
}

__u32 some_bad_argsz(__u32 good)
{
	static const __u32 sizes[] = { 0, 4, 8, 15, 16, 24, 0xffffffff };

	return chance(50) ? good - 1 - rnd(8) : ONE_OF(sizes);
}

/* The kernel's pages that every process sees, somewhere else in each. */
__u64 vvar;

__u64 some_bad_vaddr(__u64 good)
{
	return some_bad_value(good == vvar ? (__u64)ARENA : good);
}

__u64 some_vaddr(unsigned int npages)
{
	static const enum part good[] = { SCATTERED, THP, HUGETLB, MEMFD, SEQUENTIAL, BAR };
	static const __u64 odd[] = {
		0, 0x7ffffffff000, 0x800000000000, 0xffff888000000000, 0xffffffffff600000,
		-PAGE, -2 * PAGE,
	};
	unsigned int percent = rnd(100);
	enum part part = ONE_OF(good);
	char *addr;

	if (percent < 2)
		return npages > 2 || chance(50) ? ONE_OF(odd) : vvar;
	if (percent < 12)
		addr = ARENA + rnd(ARENA_PAGES) * PAGE;
	else if (npages > 256)
		addr = ARENA + rnd(part_start[FILE_RO] - min(npages, 3000)) * PAGE;
	else
		addr = part_addr(part) + rnd(part_size(part) / PAGE) * PAGE;
	return (__u64)addr;
}

void say_vaddr(__u64 vaddr)
{
	if (vaddr == vvar)
		say(" vaddr vvar");
	else if (vaddr - (__u64)ARENA < ARENA_PAGES * PAGE)
		say(" vaddr arena+%llx", vaddr - (__u64)ARENA);
	else
		say(" vaddr %llx", vaddr);
}

void some_range(__u64 *iova, __u64 *size)
{
	unsigned int percent = rnd(100);
	unsigned int i = nmappings ? rnd(nmappings) : 0, j = min(i + rnd(6), nmappings - 1);
	const struct mapping *m = &mappings[i];

	if (!nmappings || percent < 15) {
		*iova = some_window() + rnd(WINDOW_PAGES) * PAGE;
		*size = some_pages() * PAGE;
	} else if (percent < 70) {
		*iova = m->iova;
		*size = m->size;
	} else if (percent < 85) {
		/* From here to there, and into the holes around. */
		*iova = m->iova;
		if (i ? mappings[i - 1].iova + mappings[i - 1].size <= *iova - PAGE : !!*iova)
			*iova -= PAGE;
		*size = mappings[j].iova + mappings[j].size - *iova;
		if (j + 1 < nmappings && mappings[j + 1].iova >= *iova + *size + PAGE)
			*size += PAGE;
	} else if (percent < 96) {
		*iova = m->iova + (rnd(5) - 2) * PAGE;
		*size = m->size + (rnd(5) - 2) * PAGE;
	} else {
		*iova = some_window();
		*size = WINDOW_PAGES * PAGE;
	}
	avoid_last_page(iova, size);
}

void some_bitmap(struct call *c, struct vfio_bitmap *bitmap, __u64 iova, __u64 size)
{
	static const __u64 pgsizes[] = { 1, 2048, 8192, 3 * PAGE, 1 << 21, 1ULL << 63, ~0ULL };
	static const __u64 sizes[] = { 0, 1, BITMAP_MAX, BITMAP_MAX + 8, ~0ULL };
	char *data = (char *)(BITMAP + rnd(4));

	bitmap->pgsize = PAGE;
	bitmap->size = (size / PAGE + 63) / 64 * 8;
	switch (rnd(40)) {
	case 0:
		bitmap->pgsize = ONE_OF(pgsizes);
		break;
	case 1:
		bitmap->size = ONE_OF(sizes);
		break;
	case 2:
		bitmap->size += chance(50) ? 8 : -8;
		break;
	case 3:
		data += 4;
		break;
	case 4:
		/* The last words are missing. */
		data = (char *)BITMAP + BITMAP_MAX - rnd(4) * sizeof(__u64);
		break;
	case 5:
		data = chance(50) ? NULL : (char *)0xffff888000000000UL;
		break;
	}
	bitmap->data = (void *)data;
	c->bitmap = bitmap;
	c->bitmap_iova = iova;
	c->bitmap_size = size;
	c->fill = rnd(3) - 1ULL;
	say(" bitmap size %llx pgsize %llx at %lx fill %llx", bitmap->size, bitmap->pgsize,
	    (unsigned long)data, c->fill);
}
