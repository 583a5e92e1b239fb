// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty page tracking: START, STOP, GET_BITMAP and UNMAP with a bitmap; how the
 * bits lie in user memory; what is dirty with devices that write wherever they
 * like, and with those that only write what they have pinned.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define BITS		64UL			/* of a word */
#define PAGES_MAX	0x80000000ULL		/* that one bitmap can have */
#define WORDS(npages)	(((npages) + BITS - 1) / BITS)

#define START		VFIO_IOMMU_DIRTY_PAGES_FLAG_START
#define STOP		VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
#define GET		VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP

/* ---- The ioctls ---- */

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

static int dirty_ioctl(int container, __u32 flags)
{
	struct vfio_iommu_type1_dirty_bitmap head = { .argsz = sizeof(head), .flags = flags };

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &head) ? -errno : 0;
}

static struct get_bitmap get_request(__u64 iova, __u64 size, void *words, __u64 nbytes)
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

static int get_ioctl(int container, struct get_bitmap *get)
{
	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, get) ? -errno : 0;
}

/* GET_BITMAP with just the room it needs. */
static int get_dirty(int container, __u64 iova, __u64 npages, __u64 *words)
{
	struct get_bitmap get = get_request(iova, PAGES(npages), words, WORDS(npages) * 8);

	return get_ioctl(container, &get);
}

static struct unmap_bitmap unmap_request(__u64 iova, __u64 size, void *words, __u64 nbytes)
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

static int unmap_ioctl(int container, struct unmap_bitmap *unmap)
{
	return ioctl(container, VFIO_IOMMU_UNMAP_DMA, unmap) ? -errno : 0;
}

/* UNMAP with a bitmap that has just the room it needs; all of it was mapped. */
static void unmap_dirty(int container, __u64 iova, __u64 npages, __u64 *words)
{
	struct unmap_bitmap unmap = unmap_request(iova, PAGES(npages), words, WORDS(npages) * 8);

	assert_ok(unmap_ioctl(container, &unmap));
	assert_int_equal(unmap.size, PAGES(npages));
}

/* ---- Bitmaps ---- */

#define GARBAGE	0xa5		/* each byte of it */

static bool bit(const __u64 *words, size_t i)
{
	return words[i / BITS] >> (i % BITS) & 1;
}

static void set_bits(__u64 *words, size_t first, size_t n)
{
	for (; n--; first++)
		words[first / BITS] |= 1ULL << (first % BITS);
}

static void assert_words_at(const __u64 *words, const __u64 *want, size_t nwords,
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

#define assert_words(words, want, nwords) \
	assert_words_at(words, want, nwords, __FILE__, __LINE__)

/*
 * The in-tree module sets bits at random that belong to no mapping, and does not
 * clear those of one that starts inside a word: memory has to be clear before,
 * and bits of no mapping are ignored.
 */
static int what_was_there(void)
{
	return is_intree() ? 0 : GARBAGE;
}

static void ignore_on_intree(__u64 *words, const __u64 *mapped, size_t nwords)
{
	size_t i;

	for (i = 0; i < nwords && is_intree(); i++)
		words[i] &= mapped[i];
}

/* The npages bits from iova on, all of mappings, are these: a list of pages, from the lowest up. */
static void assert_dirty_at(int container, __u64 iova, size_t npages, const size_t *pages,
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

#define assert_dirty(container, iova, npages, ...) do { \
	const size_t list_[] = { __VA_ARGS__ }; \
	assert_dirty_at(container, iova, npages, list_, ARRAY_SIZE(list_), __FILE__, __LINE__); \
} while (0)
#define assert_clean(container, iova, npages) \
	assert_dirty_at(container, iova, npages, NULL, 0, __FILE__, __LINE__)

static void assert_all_dirty_at(int container, __u64 iova, size_t npages, const char *file,
				int line)
{
	size_t *pages = calloc(npages, sizeof(*pages)), i;

	for (i = 0; i < npages; i++)
		pages[i] = i;
	assert_dirty_at(container, iova, npages, pages, npages, file, line);
	free(pages);
}

#define assert_all_dirty(container, iova, npages) \
	assert_all_dirty_at(container, iova, npages, __FILE__, __LINE__)

/* ---- Good and bad requests; with a device that writes wherever it likes ---- */

static void start_and_stop_may_be_repeated(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(4);
	__u64 word;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(4)));
	assert_ok(dirty_ioctl(f->container, STOP));
	assert_ret(get_dirty(f->container, BASE, 4, &word), -EINVAL);
	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(dirty_ioctl(f->container, START));
	assert_all_dirty(f->container, BASE, 4);
	assert_ok(dirty_ioctl(f->container, STOP));
	assert_ret(get_dirty(f->container, BASE, 4, &word), -EINVAL);
	assert_ok(dirty_ioctl(f->container, STOP));
	assert_ok(dirty_ioctl(f->container, START));
	assert_all_dirty(f->container, BASE, 4);
	vu_free(mem, PAGES(4));
}

static void an_empty_container_is_clean(void **state)
{
	const struct fixture *f = *state;
	__u64 words[2] = { 0x1111, 0x2222 };

	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(get_dirty(f->container, BASE, 128, words));
	/* There is no mapping that these belong to. */
	assert_int_equal(words[0], 0x1111);
	assert_int_equal(words[1], 0x2222);
}

/* The device could write at any time, and nobody would know: always all of it. */
static void all_that_an_iommu_device_reaches_is_dirty(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(200);
	unsigned int i;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(vu_map_rw(f->container, mem + PAGES(100), BASE + PAGES(100), PAGES(50)));
	for (i = 0; i < 3; i++)
		assert_all_dirty(f->container, BASE, 150);
	/* Even if it may only read. */
	assert_ok(vu_map(f->container, mem + PAGES(150), BASE + PAGES(150), PAGES(50),
			 VFIO_DMA_MAP_FLAG_READ));
	assert_all_dirty(f->container, BASE, 200);
	vu_free(mem, PAGES(200));
}

static void v1_containers_do_not_track(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1);
	struct unmap_bitmap unmap;
	__u64 word;

	assert_ret(dirty_ioctl(f->container, START), -EACCES);
	assert_ret(dirty_ioctl(f->container, STOP), -EACCES);
	assert_ret(get_dirty(f->container, BASE, 1, &word), -EACCES);
	/* Before anything is looked at. */
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DIRTY_PAGES, NULL), -1);
	assert_int_equal(errno, EACCES);

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	unmap = unmap_request(BASE, PAGES(1), &word, 8);
	assert_ret(unmap_ioctl(f->container, &unmap), -EINVAL);
	assert_charged(f, 1);
	vu_free(mem, PAGES(1));
}

static void flags_and_argsz(void **state)
{
	static const struct {
		__u32 argsz, flags;
		int ret;
	} cases[] = {
		{ 0, START, -EINVAL },
		{ 7, START, -EINVAL },
		{ 8, START, 0 },
		{ 1000, START, 0 },
		{ 8, 0, -EINVAL },
		{ 8, START | STOP, -EINVAL },
		{ 48, START | GET, -EINVAL },
		{ 48, STOP | GET, -EINVAL },
		{ 48, START | STOP | GET, -EINVAL },
		{ 48, 8, -EINVAL },
		{ 48, GET | 0x80000000, -EINVAL },
		{ 8, GET, -EINVAL },
		{ 47, GET, -EINVAL },
		{ 48, GET, 0 },
		{ 1000, GET, 0 },
		{ 7, STOP, -EINVAL },
		{ 48, GET, 0 },
		{ 8, STOP, 0 },
		{ 48, GET, -EINVAL },
	};
	const struct fixture *f = *state;
	struct get_bitmap get;
	unsigned int i;
	__u64 word;

	assert_int_equal(sizeof(get), 48);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		get = get_request(BASE, PAGES(1), &word, 8);
		get.argsz = cases[i].argsz;
		get.flags = cases[i].flags;
		print_message("argsz %u flags %#x\n", cases[i].argsz, cases[i].flags);
		assert_ret(get_ioctl(f->container, &get), cases[i].ret);
	}
}

/* A structure that cannot be read whole. */
static void structures_in_bad_memory(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(2), *end = mem + PAGES(1);
	struct unmap_bitmap unmap;
	struct get_bitmap get;
	__u64 word;

	assert_int_equal(munmap(end, PAGES(1)), 0);
	assert_ok(dirty_ioctl(f->container, START));
	assert_ret(get_ioctl(f->container, NULL), -EFAULT);
	get = get_request(BASE, PAGES(1), &word, 8);
	memcpy(end - 40, &get, 40);
	assert_ret(get_ioctl(f->container, (void *)(end - 40)), -EFAULT);
	memcpy(end - sizeof(get), &get, sizeof(get));
	assert_ok(get_ioctl(f->container, (void *)(end - sizeof(get))));

	unmap = unmap_request(BASE, PAGES(1), &word, 8);
	memcpy(end - 40, &unmap, 40);
	assert_ret(unmap_ioctl(f->container, (void *)(end - 40)), -EFAULT);
	vu_free(mem, PAGES(1));
}

struct bad_range {
	__u64 iova, size, pgsize, nbytes, data;
	int ret;
};

/* A bitmap that is never looked at, and one that user space cannot have. */
#define SOMEWHERE	0x10000
#define KERNEL		0xffff888000000000

/*
 * GET_BITMAP and UNMAP agree in all of these. The range is empty, so that what
 * is right does nothing.
 */
static const struct bad_range bad_ranges[] = {
	{ BASE, PAGES(64), PAGES(1), 8, SOMEWHERE, 0 },
	/* The range: whole pages, at least one. */
	{ BASE, 0, PAGES(1), 8, SOMEWHERE, -EINVAL },
	{ BASE, 1, PAGES(1), 8, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(1) - 1, PAGES(1), 8, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(1) + 1, PAGES(1), 8, SOMEWHERE, -EINVAL },
	{ BASE + 1, PAGES(1), PAGES(1), 8, SOMEWHERE, -EINVAL },
	{ BASE + PAGES(1) / 2, PAGES(1), PAGES(1), 8, SOMEWHERE, -EINVAL },
	/* The page size: the smallest of the IOMMU. */
	{ BASE, PAGES(64), 1, 32768, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(64), 2048, 16, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(64), PAGES(2), 8, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(64), PAGES(3), 8, SOMEWHERE, -EINVAL },
	{ BASE, VU_2M, VU_2M, 8, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(64), 1ULL << 63, 8, SOMEWHERE, -EINVAL },
	/* The bitmap: a bit for each page, in whole words, 256 MiB at most. */
	{ BASE, PAGES(64), PAGES(1), 0, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(64), PAGES(1), 7, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(64), PAGES(1), 9, SOMEWHERE, 0 },
	{ BASE, PAGES(65), PAGES(1), 15, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(65), PAGES(1), 16, SOMEWHERE, 0 },
	{ BASE, PAGES(1), PAGES(1), 1, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(1), PAGES(1), PAGES_MAX / 8, SOMEWHERE, 0 },
	{ BASE, PAGES(1), PAGES(1), PAGES_MAX / 8 + 1, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(1), PAGES(1), UINT64_MAX, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(PAGES_MAX - 1), PAGES(1), PAGES_MAX / 8, SOMEWHERE, 0 },
	{ BASE, PAGES(PAGES_MAX), PAGES(1), PAGES_MAX / 8, SOMEWHERE, 0 },
	{ BASE, PAGES(PAGES_MAX), PAGES(1), PAGES_MAX / 8 - 1, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(PAGES_MAX + 1), PAGES(1), PAGES_MAX / 8, SOMEWHERE, -EINVAL },
	{ BASE, PAGES(PAGES_MAX + 1), PAGES(1), PAGES_MAX / 8 + 8, SOMEWHERE, -EINVAL },
	{ 0, -PAGES(1), PAGES(1), PAGES_MAX / 8, SOMEWHERE, -EINVAL },
	/* The address. */
	{ BASE, PAGES(64), PAGES(1), 8, KERNEL, -EINVAL },
};

static void ranges_and_bitmaps_have_to_fit(void **state)
{
	const struct fixture *f = *state;
	struct unmap_bitmap unmap;
	struct get_bitmap get;
	unsigned int i;

	assert_ok(dirty_ioctl(f->container, START));
	for (i = 0; i < ARRAY_SIZE(bad_ranges); i++) {
		const struct bad_range *c = &bad_ranges[i];

		print_message("%u: iova %#llx size %#llx pgsize %#llx, bitmap %#llx at %#llx\n", i,
			      c->iova, c->size, c->pgsize, c->nbytes, c->data);
		get = get_request(c->iova, c->size, (void *)c->data, c->nbytes);
		get.range.bitmap.pgsize = c->pgsize;
		assert_ret(get_ioctl(f->container, &get), c->ret);
		unmap = unmap_request(c->iova, c->size, (void *)c->data, c->nbytes);
		unmap.bitmap.pgsize = c->pgsize;
		assert_ret(unmap_ioctl(f->container, &unmap), c->ret);
	}
}

static void a_page_size_of_zero(void **state)
{
	const struct fixture *f = *state;
	struct unmap_bitmap unmap = unmap_request(BASE, PAGES(1), (void *)SOMEWHERE, 8);
	struct get_bitmap get = get_request(BASE, PAGES(1), (void *)SOMEWHERE, 8);

	not_on_intree("shifts by an undefined number");
	assert_ok(dirty_ioctl(f->container, START));
	get.range.bitmap.pgsize = 0;
	assert_ret(get_ioctl(f->container, &get), -EINVAL);
	unmap.bitmap.pgsize = 0;
	assert_ret(unmap_ioctl(f->container, &unmap), -EINVAL);
}

static void ranges_at_the_end_of_the_address_space(void **state)
{
	const struct fixture *f = *state;
	struct unmap_bitmap unmap;
	struct get_bitmap get;
	__u64 word = 0;

	not_on_intree("EINVAL for all of these up to 7.0");
	assert_ok(dirty_ioctl(f->container, START));
	get = get_request(-PAGES(2), PAGES(2), &word, 8);
	assert_ok(get_ioctl(f->container, &get));
	get = get_request(-PAGES(2), PAGES(3), &word, 8);
	assert_ret(get_ioctl(f->container, &get), -EOVERFLOW);
	get = get_request(PAGES(1), -PAGES(1), &word, 8);
	assert_ret(get_ioctl(f->container, &get), -EINVAL);
	get = get_request(PAGES(2), -PAGES(1), &word, 8);
	assert_ret(get_ioctl(f->container, &get), -EOVERFLOW);
	unmap = unmap_request(-PAGES(2), PAGES(2), &word, 8);
	assert_ok(unmap_ioctl(f->container, &unmap));
	unmap = unmap_request(-PAGES(2), PAGES(3), &word, 8);
	assert_ret(unmap_ioctl(f->container, &unmap), -EOVERFLOW);
}

static void unmap_flags_and_argsz(void **state)
{
	static const struct {
		__u32 argsz, flags;
		int ret;
	} cases[] = {
		{ 24, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, -EINVAL },
		{ 47, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, -EINVAL },
		{ 48, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_VADDR, -EINVAL },
		{ 48, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL, -EINVAL },
		{ 48, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | 8, -EINVAL },
		{ 48, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, 0 },
	};
	const struct fixture *f = *state;
	char *mem = mem_pages(1);
	struct unmap_bitmap unmap;
	unsigned int i;
	__u64 word;

	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unmap = unmap_request(BASE, PAGES(1), &word, 8);
		unmap.argsz = cases[i].argsz;
		unmap.flags = cases[i].flags;
		assert_charged(f, 1);
		assert_ret(unmap_ioctl(f->container, &unmap), cases[i].ret);
	}
	assert_int_equal(unmap.size, PAGES(1));
	assert_nothing_held(f);
	vu_free(mem, PAGES(1));
}

static void unmap_with_a_bitmap_takes_tracking(void **state)
{
	const struct fixture *f = *state;
	struct unmap_bitmap unmap;
	char *mem = mem_pages(1);
	__u64 word = 0x5555;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	unmap = unmap_request(BASE, PAGES(1), &word, 8);
	assert_ret(unmap_ioctl(f->container, &unmap), -EINVAL);
	assert_charged(f, 1);
	assert_int_equal(word, 0x5555);
	assert_ok(dirty_ioctl(f->container, START));
	unmap_dirty(f->container, BASE, 1, &word);
	assert_int_equal(word, 1);
	vu_free(mem, PAGES(1));
}

static void the_range_must_not_cut_a_mapping(void **state)
{
	static const struct {
		__u64 first, npages;	/* of the mapping 10-19, or 30-39 */
		int ret;
	} cases[] = {
		{ 10, 10, 0 }, { 0, 20, 0 }, { 10, 20, 0 }, { 0, 50, 0 }, { 20, 10, 0 },
		{ 10, 30, 0 }, { 10, 9, -EINVAL }, { 11, 9, -EINVAL }, { 12, 3, -EINVAL },
		{ 0, 11, -EINVAL }, { 19, 11, -EINVAL }, { 10, 25, -EINVAL }, { 15, 25, -EINVAL },
	};
	const struct fixture *f = *state;
	char *mem = mem_pages(20);
	struct unmap_bitmap unmap;
	unsigned int i;
	__u64 word;

	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(vu_map_rw(f->container, mem, BASE + PAGES(10), PAGES(10)));
	assert_ok(vu_map_rw(f->container, mem + PAGES(10), BASE + PAGES(30), PAGES(10)));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		const __u64 iova = BASE + PAGES(cases[i].first);

		print_message("pages %llu+%llu\n", cases[i].first, cases[i].npages);
		assert_ret(get_dirty(f->container, iova, cases[i].npages, &word), cases[i].ret);
		if (!cases[i].ret)
			continue;
		unmap = unmap_request(iova, PAGES(cases[i].npages), &word, 8);
		assert_ret(unmap_ioctl(f->container, &unmap), -EINVAL);
	}
	assert_charged(f, 20);
	vu_free(mem, PAGES(20));
}

/* ---- How the bits lie ---- */

/* What user memory is after a report of full mappings: a list of first page and count. */
struct extent {
	size_t first, npages;
};

static void model_report(__u64 *words, const struct extent *extents, unsigned int n)
{
	unsigned int i;
	size_t b;

	for (i = 0; i < n; i++) {
		const size_t first = extents[i].first, end = first + extents[i].npages;

		/* From the mapping on, its last word is the mapping's own. */
		for (b = first; b < WORDS(end) * BITS; b++)
			words[b / BITS] &= ~(1ULL << (b % BITS));
		set_bits(words, first, extents[i].npages);
	}
}

/*
 * Mappings of these pages of a range: the words that they touch say so, bits
 * below a mapping's start are kept, other words are untouched. By GET_BITMAP,
 * then by UNMAP.
 */
static void report_extents(const struct fixture *f, char *mem, size_t npages,
			   const struct extent *extents, unsigned int n)
{
	const size_t nwords = WORDS(npages) + 1;
	__u64 *words = calloc(nwords, 8), *want = calloc(nwords, 8), *own = calloc(nwords, 8);
	struct unmap_bitmap unmap;
	size_t mapped = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		assert_ok(vu_map_rw(f->container, mem, BASE + PAGES(extents[i].first),
				    PAGES(extents[i].npages)));
		mapped += extents[i].npages;
		set_bits(own, extents[i].first, extents[i].npages);
	}
	memset(words, what_was_there(), nwords * 8);
	memcpy(want, words, nwords * 8);
	model_report(want, extents, n);
	assert_ok(get_dirty(f->container, BASE, npages, words));
	ignore_on_intree(words, own, nwords);
	assert_words(words, want, nwords);

	memset(words, what_was_there(), nwords * 8);
	unmap = unmap_request(BASE, PAGES(npages), words, WORDS(npages) * 8);
	assert_ok(unmap_ioctl(f->container, &unmap));
	assert_int_equal(unmap.size, PAGES(mapped));
	ignore_on_intree(words, own, nwords);
	assert_words(words, want, nwords);
	free(words);
	free(want);
	free(own);
}

static void bits_of_several_mappings(void **state)
{
	static const struct {
		size_t npages;
		unsigned int n;
		struct extent extents[5];
	} cases[] = {
		/* On word boundaries, and all around them. */
		{ 64, 1, { { 0, 64 } } },
		{ 64, 1, { { 63, 1 } } },
		{ 128, 1, { { 63, 2 } } },
		{ 128, 1, { { 64, 64 } } },
		{ 200, 1, { { 1, 63 } } },
		{ 200, 1, { { 1, 64 } } },
		{ 200, 1, { { 5, 150 } } },
		{ 200, 2, { { 0, 1 }, { 199, 1 } } },
		/* Neighbours in a word, with and without a gap. */
		{ 64, 3, { { 0, 1 }, { 1, 1 }, { 2, 1 } } },
		{ 64, 3, { { 3, 10 }, { 13, 1 }, { 20, 30 } } },
		{ 128, 2, { { 0, 70 }, { 70, 58 } } },
		{ 200, 3, { { 10, 60 }, { 70, 60 }, { 130, 60 } } },
		/* Words that no mapping touches. */
		{ 1000, 2, { { 30, 10 }, { 900, 70 } } },
		{ 1000, 4, { { 0, 64 }, { 192, 1 }, { 400, 128 }, { 999, 1 } } },
		/* More words than are copied at a time, in the middle of one. */
		{ 20000, 2, { { 17, 64 * 64 }, { 5000, 64 * 64 * 2 + 3 } } },
		{ 20000, 2, { { 64, 64 * 64 }, { 64 * 65, 64 * 128 } } },
		{ 20000, 3, { { 1, 64 * 64 - 1 }, { 64 * 64, 1 }, { 4097, 15000 } } },
	};
	const struct fixture *f = *state;
	char *mem = mem_pages(20000);
	unsigned int i;

	assert_ok(dirty_ioctl(f->container, START));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		print_message("case %u\n", i);
		report_extents(f, mem, cases[i].npages, cases[i].extents, cases[i].n);
		assert_nothing_held(f);
	}
	vu_free(mem, PAGES(20000));
}

#define RANDOM_PAGES	1000
#define RANDOM_ROUNDS	100

/* Mappings and gaps of random length. */
static void bits_of_random_mappings(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(RANDOM_PAGES);
	struct extent extents[RANDOM_PAGES];
	unsigned int round, n, seed = 7;
	size_t page;

	assert_ok(dirty_ioctl(f->container, START));
	for (round = 0; round < RANDOM_ROUNDS; round++) {
		const unsigned int longest = 1 + rand_r(&seed) % 200;

		for (n = 0, page = rand_r(&seed) % 70; page < RANDOM_PAGES; n++) {
			size_t len = 1 + rand_r(&seed) % longest;

			if (len > RANDOM_PAGES - page)
				len = RANDOM_PAGES - page;
			extents[n] = (struct extent) { page, len };
			page += len + (rand_r(&seed) % 2 ? rand_r(&seed) % longest : 0);
		}
		print_message("round %u: %u mappings\n", round, n);
		report_extents(f, mem, RANDOM_PAGES, extents, n);
	}
	vu_free(mem, PAGES(RANDOM_PAGES));
}

/* ---- Bitmaps that cannot be written ---- */

/* Two pages of bitmap, the second of which is not there; page_words words before it. */
static __u64 *bitmap_half_there(void)
{
	char *mem = mem_pages(2);

	assert_int_equal(munmap(mem + PAGES(1), PAGES(1)), 0);
	return (__u64 *)(mem + PAGES(1));
}

static void a_mapping_that_cannot_be_reported_stays(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(128);
	struct unmap_bitmap unmap;
	__u64 *end = bitmap_half_there();

	assert_ok(dirty_ioctl(f->container, START));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(64)));
	unmap = unmap_request(BASE, PAGES(64), end, 8);
	assert_ret(unmap_ioctl(f->container, &unmap), -EFAULT);
	assert_charged(f, 64);
	assert_ret(get_dirty(f->container, BASE, 64, end), -EFAULT);
	assert_dma_reaches(f, 0, mem, BASE);

	/* Of two, the one that could be reported is gone. */
	assert_ok(vu_map_rw(f->container, mem + PAGES(64), BASE + PAGES(64), PAGES(64)));
	unmap = unmap_request(BASE, PAGES(128), end - 1, 16);
	assert_ret(unmap_ioctl(f->container, &unmap), -EFAULT);
	assert_int_equal(end[-1], UINT64_MAX);
	assert_charged(f, 64);
	assert_unmaps(f->container, BASE, PAGES(64), 0);
	assert_dma_reaches(f, 0, mem + PAGES(64), BASE + PAGES(64));
	unmap_dirty(f->container, BASE + PAGES(64), 64, end - 1);
	vu_free(mem, PAGES(128));
	vu_free((char *)end - PAGES(1), PAGES(1));
}

/* A report that fails forgets nothing, wherever in a word the mapping starts. */
static void a_failed_report_forgets_nothing(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(100);
	struct unmap_bitmap unmap;
	__u64 *end = bitmap_half_there();

	not_on_intree("shifts its bitmap before it copies");
	assert_ok(vu_map_rw(container, mem, BASE + PAGES(30), PAGES(100)));
	assert_ok(dirty_ioctl(container, START));
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(30 + 3), mem, 1, EMU_WRITE));
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(30 + 99), mem, 1, EMU_WRITE));
	/* No word of it, and all but the last one. */
	assert_ret(get_dirty(container, BASE, 130, end), -EFAULT);
	assert_ret(get_dirty(container, BASE, 130, end - 2), -EFAULT);
	unmap = unmap_request(BASE, PAGES(130), end - 2, 24);
	assert_ret(unmap_ioctl(container, &unmap), -EFAULT);
	assert_dirty(container, BASE, 130, 33, 129);
	assert_clean(container, BASE, 130);
	vu_free(mem, PAGES(100));
	vu_free((char *)end - PAGES(1), PAGES(1));
}

/* ---- Devices that only write what they have pinned ---- */

static void nothing_is_dirty_that_nobody_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(60)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ok(vu_map_rw(e->f->container, mem, BASE + PAGES(60), PAGES(40)));
	memset(mem, 1, PAGES(100));
	assert_clean(e->f->container, BASE, 100);
	vu_free(mem, PAGES(100));
}

static void pinned_pages_are_dirty_until_a_report_after_the_unpin(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(container, mem, BASE, PAGES(100)));
	/* Pinned before tracking began, and unpinned before. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(3), 2), 2);
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(70), 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(70), 1));
	assert_ok(dirty_ioctl(container, START));
	assert_dirty(container, BASE, 100, 3, 4);
	/* Still pinned: still dirty. */
	assert_dirty(container, BASE, 100, 3, 4);
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(64), 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(3), 1));
	assert_dirty(container, BASE, 100, 3, 4, 64);
	assert_dirty(container, BASE, 100, 4, 64);
	/* Pinned and unpinned between two reports. */
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(99), 1), 1);
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(99), 1));
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(64), 1));
	assert_ok(emu_unpin(&e->emu[0], BASE + PAGES(4), 1));
	assert_dirty(container, BASE, 100, 4, 64, 99);
	assert_clean(container, BASE, 100);
	vu_free(mem, PAGES(100));
}

static void a_pin_that_failed_leaves_at_most_its_pages_dirty(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(100);
	__u64 words[2] = { 0 };
	size_t i;

	assert_int_equal(munmap(mem + PAGES(20), PAGES(1)), 0);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(10), 30), -EFAULT);
	assert_ok(get_dirty(e->f->container, BASE, 100, words));
	for (i = 0; i < 100; i++)
		assert_true(!bit(words, i) || (i >= 10 && i < 20));
	assert_clean(e->f->container, BASE, 100);
	vu_free(mem, PAGES(100));
}

static void dma_rw_writes_are_dirty_once(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	const struct vu_pci *dev = &e->emu[0];
	char *mem = mem_pages(100), *buf = mem_pages(4);

	assert_ok(vu_map_rw(container, mem, BASE, PAGES(50)));
	assert_ok(vu_map_rw(container, mem + PAGES(50), BASE + PAGES(50), PAGES(50)));
	assert_ok(emu_rw(dev, BASE, buf, 1, EMU_WRITE));
	assert_ok(dirty_ioctl(container, START));
	assert_clean(container, BASE, 100);
	assert_ok(emu_rw(dev, BASE + PAGES(7), buf, PAGES(4), 0));
	assert_clean(container, BASE, 100);

	assert_ok(emu_rw(dev, BASE + PAGES(2), buf, 1, EMU_WRITE));
	assert_ok(emu_rw(dev, BASE + PAGES(11) - 1, buf, 2, EMU_WRITE | EMU_KTHREAD));
	assert_ok(emu_rw(dev, BASE + PAGES(20), buf, PAGES(1), EMU_WRITE));
	assert_ok(emu_rw(dev, BASE + PAGES(49) + 17, buf, PAGES(2), EMU_WRITE));
	assert_dirty(container, BASE, 100, 2, 10, 11, 20, 49, 50, 51);
	assert_clean(container, BASE, 100);

	/* A write that fails half way has written the first half. */
	assert_ret(emu_rw(dev, BASE + PAGES(99), buf, PAGES(2), EMU_WRITE), -EINVAL);
	assert_dirty(container, BASE, 100, 99);
	vu_free(mem, PAGES(100));
	vu_free(buf, PAGES(4));
}

/* A report cleans what it reports, and not what lies beyond the range. */
static void a_report_cleans_its_range(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(30), byte = 1;
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(container, mem + PAGES(10 * i), BASE + PAGES(10 * i),
				    PAGES(10)));
	assert_ok(dirty_ioctl(container, START));
	for (i = 0; i < 3; i++)
		assert_ok(emu_rw(&e->emu[0], BASE + PAGES(10 * i + i), &byte, 1, EMU_WRITE));
	assert_dirty(container, BASE + PAGES(10), 10, 1);
	assert_dirty(container, BASE, 30, 0, 22);
	assert_clean(container, BASE, 30);
	vu_free(mem, PAGES(30));
}

static void unmap_reports_what_was_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	char *mem = mem_pages(100), byte = 1;
	__u64 words[2] = { 0 }, want[2] = { 0 };

	assert_ok(vu_map_rw(container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(container, START));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(60), 10), 10);
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(5), &byte, 1, EMU_WRITE));
	/* The device is told, and unpins, before the report. */
	emu_unpin_when_told(&e->emu[0], 2);
	unmap_dirty(container, BASE, 100, words);
	set_bits(want, 60, 10);
	set_bits(want, 5, 1);
	assert_words(words, want, 2);
	assert_nothing_held(e->f);
	vu_free(mem, PAGES(100));
}

static void tracking_starts_anew(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(10), byte = 1;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ok(emu_rw(&e->emu[0], BASE, &byte, 1, EMU_WRITE));
	/* A second START forgets nothing, but STOP does. */
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_dirty(e->f->container, BASE, 10, 0);
	assert_ok(emu_rw(&e->emu[0], BASE, &byte, 1, EMU_WRITE));
	assert_ok(dirty_ioctl(e->f->container, STOP));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_clean(e->f->container, BASE, 10);
	vu_free(mem, PAGES(10));
}

/* Without an IOMMU nothing is pinned: huge ranges cost nothing but their bitmap. */
static void mappings_too_large_to_track(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	struct unmap_bitmap unmap;
	__u64 word = 0;

	assert_ok(vu_map_rw(container, NULL, BASE, PAGES(PAGES_MAX)));
	assert_ret(dirty_ioctl(container, START), -EINVAL);
	/* It is off, then. */
	unmap = unmap_request(BASE, PAGES(1), &word, 8);
	assert_ret(unmap_ioctl(container, &unmap), -EINVAL);
	assert_unmaps_all(container, PAGES(PAGES_MAX));
	assert_ok(dirty_ioctl(container, START));
	assert_ret(vu_map_rw(container, NULL, BASE, PAGES(PAGES_MAX)), -EINVAL);
	assert_unmaps_all(container, 0);
}

/* ---- Who is in the container ---- */

/* One device that writes wherever it likes is enough. */
static void an_iommu_group_makes_all_dirty(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ret(emu_pin(&e->emu[0], BASE + PAGES(9), 1), 1);
	assert_dirty(e->f->container, BASE, 100, 9);
	fixture_attach(e->f, 0);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_all_dirty(e->f->container, BASE, 100);

	/* It goes: all may have been written by it, for the last time. */
	vu_pci_close(&e->f->pci[0]);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_dirty(e->f->container, BASE, 100, 9);
	vu_free(mem, PAGES(100));
}

/* What it wrote before tracking began is not asked for. */
static void an_iommu_group_that_went_before_start(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(10);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_charged(e->f, 10);
	fixture_close_device(e->f, 0);
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_clean(e->f->container, BASE, 10);
	vu_free(mem, PAGES(10));
}

static void an_emulated_group_that_goes_changes_nothing(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(10), byte = 1;

	emu_attach(e, 1);
	emu_open_device(e, 1);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(10)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_ret(emu_pin(&e->emu[1], BASE + PAGES(2), 1), 1);
	assert_ok(emu_rw(&e->emu[1], BASE + PAGES(4), &byte, 1, EMU_WRITE));
	emu_close(e, 1);
	assert_dirty(e->f->container, BASE, 10, 2, 4);
	assert_clean(e->f->container, BASE, 10);
	vu_free(mem, PAGES(10));
}

/* A group behind an IOMMU that pins says by this that it writes nothing else. */
static void an_iommu_group_that_pins_is_trusted(void **state)
{
	struct emu_fixture *e = *state;
	const struct vu_pci *edu = &e->f->pci[0];
	char *mem = mem_pages(100);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(100)));
	assert_ok(dirty_ioctl(e->f->container, START));
	assert_all_dirty(e->f->container, BASE, 100);
	/* A pin that fails says nothing. */
	assert_ret(emu_pin(edu, BASE + PAGES(100), 1), -EINVAL);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_ret(emu_pin(edu, BASE + PAGES(50), 2), 2);
	assert_dirty(e->f->container, BASE, 100, 50, 51);
	assert_ok(emu_unpin(edu, BASE + PAGES(50), 1));
	assert_dirty(e->f->container, BASE, 100, 50, 51);
	/* For good. */
	assert_ok(emu_unpin(edu, BASE + PAGES(51), 1));
	assert_dirty(e->f->container, BASE, 100, 51);
	assert_clean(e->f->container, BASE, 100);

	/* Not so the next one, as long as it is there. */
	fixture_attach(e->f, 1);
	assert_all_dirty(e->f->container, BASE, 100);
	fixture_close_device(e->f, 1);
	assert_all_dirty(e->f->container, BASE, 100);
	assert_clean(e->f->container, BASE, 100);
	vu_free(mem, PAGES(100));
}

/* ---- Against a model ---- */

#define ORACLE_PAGES	300UL
#define ORACLE_MAX	8	/* mappings */
#define ORACLE_STEPS	20000

struct oracle {
	const struct emu_fixture *e;
	char *mem;
	unsigned int seed;
	bool tracking;
	struct extent mappings[ORACLE_MAX];	/* npages 0: not mapped */
	unsigned int pins[ORACLE_PAGES];	/* of each page, by the device */
	bool dirty[ORACLE_PAGES];
};

static size_t below(struct oracle *o, size_t n)
{
	return rand_r(&o->seed) % n;
}

static bool oracle_mapped(const struct oracle *o, size_t page)
{
	unsigned int i;

	for (i = 0; i < ORACLE_MAX; i++) {
		if (page - o->mappings[i].first < o->mappings[i].npages)
			return true;
	}
	return false;
}

/* How many of n pages from first on are mapped before the first that is not. */
static size_t oracle_reach(const struct oracle *o, size_t first, size_t n)
{
	size_t i;

	for (i = 0; i < n && first + i < ORACLE_PAGES && oracle_mapped(o, first + i); i++)
		;
	return i;
}

static void oracle_map(struct oracle *o)
{
	struct extent *m = &o->mappings[below(o, ORACLE_MAX)];
	struct extent new = { below(o, ORACLE_PAGES), 1 + below(o, 100) };
	size_t i;
	int ret = 0;

	if (m->npages)
		return;
	if (new.npages > ORACLE_PAGES - new.first)
		new.npages = ORACLE_PAGES - new.first;
	for (i = 0; i < new.npages; i++) {
		if (oracle_mapped(o, new.first + i))
			ret = -EEXIST;
	}
	assert_ret(vu_map_rw(o->e->f->container, o->mem + PAGES(new.first),
			     BASE + PAGES(new.first), PAGES(new.npages)), ret);
	if (ret)
		return;
	*m = new;
	for (i = 0; i < new.npages; i++) {
		o->dirty[new.first + i] = false;
		assert_int_equal(o->pins[new.first + i], 0);
	}
}

/* The words of a range whose mappings are those of the model. */
static void oracle_words(const struct oracle *o, size_t first, size_t npages, __u64 *want)
{
	size_t page, b;
	unsigned int i;

	/* Bits that belong to no mapping are cleared where a mapping's last word has them. */
	for (page = first; page < first + npages; page++) {
		for (i = 0; i < ORACLE_MAX; i++) {
			const struct extent *m = &o->mappings[i];

			if (!m->npages || m->first != page)
				continue;
			for (b = page - first; b < WORDS(page - first + m->npages) * BITS; b++)
				want[b / BITS] &= ~(1ULL << (b % BITS));
		}
		if (oracle_mapped(o, page) && o->dirty[page])
			set_bits(want, page - first, 1);
	}
}

/* Of all, or of one mapping and the gap before it. */
static void oracle_range(struct oracle *o, size_t *first, size_t *npages)
{
	const struct extent *m = &o->mappings[below(o, ORACLE_MAX)];

	*first = 0;
	*npages = ORACLE_PAGES;
	if (!m->npages || below(o, 2))
		return;
	*first = m->first;
	while (*first && !oracle_mapped(o, *first - 1) && below(o, 40))
		(*first)--;
	*npages = m->first + m->npages - *first;
}

/* In the in-tree module a mapping's random bits end up in the next one, too. */
static void oracle_compare(__u64 *words, const __u64 *want)
{
	ignore_on_intree(words, want, WORDS(ORACLE_PAGES));
	assert_words(words, want, WORDS(ORACLE_PAGES));
}

static void oracle_get(struct oracle *o)
{
	__u64 words[WORDS(ORACLE_PAGES)], want[WORDS(ORACLE_PAGES)];
	size_t first, npages, page;

	oracle_range(o, &first, &npages);
	memset(words, what_was_there(), sizeof(words));
	memcpy(want, words, sizeof(want));
	assert_ret(get_dirty(o->e->f->container, BASE + PAGES(first), npages, words),
		   o->tracking ? 0 : -EINVAL);
	if (o->tracking) {
		oracle_words(o, first, npages, want);
		for (page = first; page < first + npages; page++)
			o->dirty[page] = o->pins[page];
	}
	oracle_compare(words, want);
}

static void oracle_unmap(struct oracle *o)
{
	__u64 words[WORDS(ORACLE_PAGES)], want[WORDS(ORACLE_PAGES)];
	size_t first, npages, page, mapped = 0;
	struct unmap_bitmap unmap;
	unsigned int i;

	oracle_range(o, &first, &npages);
	for (page = first; page < first + npages; page++)
		mapped += oracle_mapped(o, page);
	memset(words, what_was_there(), sizeof(words));
	memcpy(want, words, sizeof(want));
	emu_unpin_when_told(&o->e->emu[0], 1 + below(o, 3));
	unmap = unmap_request(BASE + PAGES(first), PAGES(npages), words, WORDS(npages) * 8);
	if (o->tracking)
		oracle_words(o, first, npages, want);
	else
		unmap.flags = 0;
	assert_ok(unmap_ioctl(o->e->f->container, &unmap));
	assert_int_equal(unmap.size, PAGES(mapped));
	oracle_compare(words, want);

	for (i = 0; i < ORACLE_MAX; i++) {
		if (o->mappings[i].first - first < npages)
			o->mappings[i].npages = 0;
	}
	memset(o->pins + first, 0, npages * sizeof(o->pins[0]));
}

static void oracle_pin(struct oracle *o)
{
	const size_t first = below(o, ORACLE_PAGES), n = 1 + below(o, 20);
	const size_t reach = oracle_reach(o, first, n);
	size_t i;

	assert_ret(emu_pin_at(&o->e->emu[0], BASE + PAGES(first), n, EMU_PROT_RW,
			      below(o, 2) ? EMU_KTHREAD : 0, NULL),
		   reach == n ? (int)n : -EINVAL);
	for (i = 0; i < reach; i++) {
		o->dirty[first + i] |= !o->pins[first + i];
		o->pins[first + i] += reach == n;
	}
}

static void oracle_unpin(struct oracle *o)
{
	const size_t first = below(o, ORACLE_PAGES);
	size_t n = 0;

	while (first + n < ORACLE_PAGES && n < 20 && o->pins[first + n])
		o->pins[first + n++]--;
	if (n)
		assert_ok(emu_unpin(&o->e->emu[0], BASE + PAGES(first), n));
}

static void oracle_write(struct oracle *o)
{
	const size_t at = below(o, ORACLE_PAGES * VU_PAGE), len = 1 + below(o, PAGES(5));
	const size_t first = at / VU_PAGE, n = (at + len - 1) / VU_PAGE - first + 1;
	const size_t reach = oracle_reach(o, first, n);
	const __u32 flags = (below(o, 2) ? EMU_WRITE : 0) | (below(o, 2) ? EMU_KTHREAD : 0);
	char buf[PAGES(5)] = "";
	size_t i;

	assert_ret(emu_rw(&o->e->emu[0], BASE + at, buf, len, flags), reach == n ? 0 : -EINVAL);
	for (i = 0; i < reach && flags & EMU_WRITE; i++)
		o->dirty[first + i] = true;
}

static void oracle_start_or_stop(struct oracle *o)
{
	const bool start = below(o, 2);
	size_t page;

	assert_ok(dirty_ioctl(o->e->f->container, start ? START : STOP));
	for (page = 0; page < ORACLE_PAGES && start && !o->tracking; page++)
		o->dirty[page] = o->pins[page];
	o->tracking = start;
}

/* What is charged are the pages that are pinned. */
static void oracle_check(const struct oracle *o)
{
	size_t page, pinned = 0;

	for (page = 0; page < ORACLE_PAGES; page++)
		pinned += !!o->pins[page];
	assert_charged(o->e->f, pinned);
}

static void bitmaps_agree_with_a_model(void **state)
{
	static void (*const steps[])(struct oracle *o) = {
		oracle_map, oracle_map, oracle_unmap, oracle_pin, oracle_pin, oracle_pin,
		oracle_unpin, oracle_unpin, oracle_write, oracle_write, oracle_get, oracle_get,
	};
	struct oracle o = { .e = *state, .mem = mem_pages(ORACLE_PAGES), .seed = 20 };
	size_t page, mapped = 0;
	unsigned int step;

	for (step = 0; step < ORACLE_STEPS; step++) {
		if (step % 50 == 10)
			oracle_start_or_stop(&o);
		steps[below(&o, ARRAY_SIZE(steps))](&o);
		oracle_check(&o);
	}
	for (page = 0; page < ORACLE_PAGES; page++)
		mapped += oracle_mapped(&o, page);
	assert_unmaps_all(o.e->f->container, PAGES(mapped));
	assert_nothing_held(o.e->f);
	vu_free(o.mem, PAGES(ORACLE_PAGES));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(start_and_stop_may_be_repeated),
		TEST_V2(an_empty_container_is_clean),
		TEST_V2(all_that_an_iommu_device_reaches_is_dirty),
		TEST_V1(v1_containers_do_not_track),
		TEST_V2(flags_and_argsz),
		TEST_V2(structures_in_bad_memory),
		TEST_V2(ranges_and_bitmaps_have_to_fit),
		TEST_V2(a_page_size_of_zero),
		TEST_V2(ranges_at_the_end_of_the_address_space),
		TEST_V2(unmap_flags_and_argsz),
		TEST_V2(unmap_with_a_bitmap_takes_tracking),
		TEST_V2(the_range_must_not_cut_a_mapping),
		TEST_V2(bits_of_several_mappings),
		TEST_V2(bits_of_random_mappings),
		TEST_V2(a_mapping_that_cannot_be_reported_stays),
		TEST_EMU(a_failed_report_forgets_nothing),
		TEST_EMU(nothing_is_dirty_that_nobody_pinned),
		TEST_EMU(pinned_pages_are_dirty_until_a_report_after_the_unpin),
		TEST_EMU(a_pin_that_failed_leaves_at_most_its_pages_dirty),
		TEST_EMU(dma_rw_writes_are_dirty_once),
		TEST_EMU(a_report_cleans_its_range),
		TEST_EMU(unmap_reports_what_was_pinned),
		TEST_EMU(tracking_starts_anew),
		TEST_EMU(mappings_too_large_to_track),
		TEST_EMU(an_iommu_group_makes_all_dirty),
		TEST_MIXED(an_iommu_group_that_went_before_start),
		TEST_EMU(an_emulated_group_that_goes_changes_nothing),
		TEST_EMU_EDU(an_iommu_group_that_pins_is_trusted),
		TEST_EMU(bitmaps_agree_with_a_model),
	};

	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
