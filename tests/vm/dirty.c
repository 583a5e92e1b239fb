// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty tracking: see dirty.h.
 */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "dirty.h"

/* ---- The ioctls ---- */

int dirty_ioctl(int container, __u32 flags)
{
	struct vfio_iommu_type1_dirty_bitmap head = { .argsz = sizeof(head), .flags = flags };

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &head) ? -errno : 0;
}

struct get_bitmap get_request(__u64 iova, __u64 size, void *words, __u64 nbytes)
{
	return (struct get_bitmap) {
		.argsz = sizeof(struct get_bitmap),
		.flags = GET,
		.range.iova = iova,
		.range.size = size,
		.range.bitmap.pgsize = VU_PAGE,
		.range.bitmap.size = nbytes,
		.range.bitmap.data = words,
	};
}

int get_ioctl(int container, struct get_bitmap *get)
{
	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, get) ? -errno : 0;
}

int get_dirty(int container, __u64 iova, __u64 npages, __u64 *words)
{
	struct get_bitmap get = get_request(iova, PAGES(npages), words, WORDS(npages) * 8);

	return get_ioctl(container, &get);
}

struct unmap_bitmap unmap_request(__u64 iova, __u64 size, void *words, __u64 nbytes)
{
	return (struct unmap_bitmap) {
		.argsz = sizeof(struct unmap_bitmap),
		.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
		.iova = iova,
		.size = size,
		.bitmap.pgsize = VU_PAGE,
		.bitmap.size = nbytes,
		.bitmap.data = words,
	};
}

int unmap_ioctl(int container, struct unmap_bitmap *unmap)
{
	return ioctl(container, VFIO_IOMMU_UNMAP_DMA, unmap) ? -errno : 0;
}

void unmap_dirty(int container, __u64 iova, __u64 npages, __u64 *words)
{
	struct unmap_bitmap unmap = unmap_request(iova, PAGES(npages), words, WORDS(npages) * 8);

	assert_ok(unmap_ioctl(container, &unmap));
	assert_int_equal(unmap.size, PAGES(npages));
}

/* ---- Bitmaps ---- */

bool bit(const __u64 *words, size_t i)
{
	return words[i / BITS] >> (i % BITS) & 1;
}

void set_bits(__u64 *words, size_t first, size_t n)
{
	for (; n--; first++)
		words[first / BITS] |= 1ULL << (first % BITS);
}

void assert_words_at(const __u64 *words, const __u64 *want, size_t nwords,
		     const char *file, int line)
{
	size_t i;

	for (i = 0; i < nwords; i++) {
		if (words[i] == want[i])
			continue;
		print_error("word %zu is %016llx, want %016llx\n", i, words[i], want[i]);
		_fail(file, line);
	}
}

int what_was_there(void)
{
	return is_intree() ? 0 : GARBAGE;
}

void ignore_on_intree(__u64 *words, const __u64 *mapped, size_t nwords)
{
	size_t i;

	for (i = 0; i < nwords && is_intree(); i++)
		words[i] &= mapped[i];
}

void assert_dirty_at(int container, __u64 iova, size_t npages, const size_t *pages,
		     size_t n, const char *file, int line)
{
	__u64 *words = calloc(WORDS(npages), sizeof(*words));
	__u64 *want = calloc(WORDS(npages), sizeof(*want));
	__u64 *mapped = calloc(WORDS(npages), sizeof(*mapped));
	size_t i;

	assert_ret_at("GET_BITMAP", get_dirty(container, iova, npages, words), 0, file, line);
	set_bits(mapped, 0, npages);
	ignore_on_intree(words, mapped, WORDS(npages));
	for (i = 0; i < n; i++)
		set_bits(want, pages[i], 1);
	assert_words_at(words, want, WORDS(npages), file, line);
	free(words);
	free(want);
	free(mapped);
}

void assert_all_dirty_at(int container, __u64 iova, size_t npages, const char *file,
			 int line)
{
	size_t *pages = calloc(npages, sizeof(*pages)), i;

	for (i = 0; i < npages; i++)
		pages[i] = i;
	assert_dirty_at(container, iova, npages, pages, npages, file, line);
	free(pages);
}
