// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty tracking: good and bad requests, and how the bits of a report lie.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dirty.h"

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
	};

	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
