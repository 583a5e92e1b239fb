/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dirty tracking: its ioctls, and bitmaps as the programs about them compare them.
 */
#ifndef DIRTY_H
#define DIRTY_H

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define BITS		64UL			/* of a word */
#define PAGES_MAX	0x80000000ULL		/* that one bitmap can have */
#define WORDS(npages)	(((npages) + BITS - 1) / BITS)

#define START		VFIO_IOMMU_DIRTY_PAGES_FLAG_START
#define STOP		VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
#define GET		VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP

struct get_bitmap {
	__u32 argsz;	/* as in struct vfio_iommu_type1_dirty_bitmap */
	__u32 flags;
	struct vfio_iommu_type1_dirty_bitmap_get range;
};

struct unmap_bitmap {
	__u32 argsz;	/* as in struct vfio_iommu_type1_dma_unmap */
	__u32 flags;
	__u64 iova;
	__u64 size;
	struct vfio_bitmap bitmap;
};

#define GARBAGE	0xa5		/* each byte of it */

/* What user memory is after a report of full mappings: a list of first page and count. */
struct extent {
	size_t first, npages;
};

int dirty_ioctl(int container, __u32 flags);
struct get_bitmap get_request(__u64 iova, __u64 size, void *words, __u64 nbytes);
int get_ioctl(int container, struct get_bitmap *get);
/* GET_BITMAP with just the room it needs. */
int get_dirty(int container, __u64 iova, __u64 npages, __u64 *words);
struct unmap_bitmap unmap_request(__u64 iova, __u64 size, void *words, __u64 nbytes);
int unmap_ioctl(int container, struct unmap_bitmap *unmap);
/* UNMAP with a bitmap that has just the room it needs; all of it was mapped. */
void unmap_dirty(int container, __u64 iova, __u64 npages, __u64 *words);
bool bit(const __u64 *words, size_t i);
void set_bits(__u64 *words, size_t first, size_t n);
void assert_words_at(const __u64 *words, const __u64 *want, size_t nwords,
		     const char *file, int line);
/*
 * The in-tree module sets bits at random that belong to no mapping, and does not
 * clear those of one that starts inside a word: memory has to be clear before,
 * and bits of no mapping are ignored.
 */
int what_was_there(void);
void ignore_on_intree(__u64 *words, const __u64 *mapped, size_t nwords);
/* The npages bits from iova on, all of mappings, are these: a list of pages, from the lowest up. */
void assert_dirty_at(int container, __u64 iova, size_t npages, const size_t *pages,
		     size_t n, const char *file, int line);
void assert_all_dirty_at(int container, __u64 iova, size_t npages, const char *file,
			 int line);

#define assert_words(words, want, nwords) \
	assert_words_at(words, want, nwords, __FILE__, __LINE__)

#define assert_dirty(container, iova, npages, ...) do { \
	const size_t list_[] = { __VA_ARGS__ }; \
	assert_dirty_at(container, iova, npages, list_, ARRAY_SIZE(list_), __FILE__, __LINE__); \
} while (0)
#define assert_clean(container, iova, npages) \
	assert_dirty_at(container, iova, npages, NULL, 0, __FILE__, __LINE__)

#define assert_all_dirty(container, iova, npages) \
	assert_all_dirty_at(container, iova, npages, __FILE__, __LINE__)

#endif /* DIRTY_H */
