// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device's side of a mapping: edu reads and writes memory of every kind
 * through it, byte for byte, as long as it is mapped and no longer.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "testlib.h"

#define SIZE		(64 * MIB)
#define HIGH		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

static void assert_page_reached(const struct fixture *f, char *mem, __u64 iova, size_t offset)
{
	assert_dma_reaches(f, 0, mem + offset, iova + offset);
}

/* First, middle and last page of each kind of memory, while mapped and after. */
static void every_backing_in_and_out(void **state)
{
	const size_t offsets[] = { 0, SIZE / 2 - VU_PAGE, SIZE - VU_PAGE };
	const struct fixture *f = *state;
	unsigned int i, j;

	for (i = 0; i < NBACKINGS; i++) {
		char *mem = backings[i].alloc(SIZE);

		at_step("%s", backings[i].name);
		assert_ok(vu_map_rw(f->container, mem, HIGH, SIZE));
		for (j = 0; j < ARRAY_SIZE(offsets); j++)
			assert_page_reached(f, mem, HIGH, offsets[j]);
		assert_unmaps(f->container, HIGH, SIZE, SIZE);
		for (j = 0; j < ARRAY_SIZE(offsets); j++)
			assert_dma_blocked(f, 0, mem + offsets[j], HIGH + offsets[j]);
		vu_free(mem, SIZE);
	}
}

/* Where runs of memory end and a new one begins, and huge pages that are cut. */
static void misaligned_huge_pages(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_hugetlb(3 * VU_2M);
	const size_t size = 2 * VU_2M + PAGES(9);
	char *start = mem + PAGES(5);

	assert_ok(vu_map_rw(f->container, start, HIGH + PAGES(3), size));
	assert_page_reached(f, start, HIGH + PAGES(3), 0);
	assert_page_reached(f, start, HIGH + PAGES(3), VU_2M - PAGES(6));
	assert_page_reached(f, start, HIGH + PAGES(3), VU_2M - PAGES(5));
	assert_page_reached(f, start, HIGH + PAGES(3), size - PAGES(1));
	assert_dma_blocked(f, 0, start - PAGES(1), HIGH + PAGES(2));
	assert_dma_blocked(f, 0, start + size, HIGH + PAGES(3) + size);
	assert_unmaps_all(f->container, size);
	vu_free(mem, 3 * VU_2M);
}

static void at_far_places_of_the_iova_space(void **state)
{
	static const __u64 iovas[] = {
		0, 0xfedff000, 0xfef00000, 4 * GIB - VU_PAGE, 4 * GIB, 1ULL << 39, 1ULL << 46,
	};
	const struct fixture *f = *state;
	char *mem = mem_pages(ARRAY_SIZE(iovas));
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		assert_ok(vu_map_rw(f->container, mem + PAGES(i), iovas[i], VU_PAGE));
	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		assert_page_reached(f, mem + PAGES(i), iovas[i], 0);
	assert_unmaps_all(f->container, PAGES(i));
	vu_free(mem, PAGES(i));
}

/* ---- Permissions ---- */

static void write_through_a_read_only_mapping(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(2);

	assert_ok(vu_map(f->container, mem, HIGH, VU_PAGE, VFIO_DMA_MAP_FLAG_READ));
	assert_ok(vu_map_rw(f->container, mem + VU_PAGE, 0, VU_PAGE));
	assert_dma_blocked(f, 0, mem, HIGH);

	/* Reading works. */
	pattern_fill(mem, VU_PAGE, pattern_new_seed());
	memset(mem + VU_PAGE, 0xee, VU_PAGE);
	assert_ok(vu_edu_copy(&f->edu[0], 0, HIGH, VU_EDU_MAX));
	assert_memory_equal(mem + VU_PAGE, mem, VU_EDU_MAX);
	assert_unmaps_all(f->container, PAGES(2));
	vu_free(mem, PAGES(2));
}

static void read_through_a_write_only_mapping(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(2);

	assert_ok(vu_map(f->container, mem, HIGH, VU_PAGE, VFIO_DMA_MAP_FLAG_WRITE));
	assert_ok(vu_map_rw(f->container, mem + VU_PAGE, 0, VU_PAGE));

	/* QEMU's VT-d lets a device read where it may write. */
	pattern_fill(mem, VU_PAGE, pattern_new_seed());
	memset(mem + VU_PAGE, 0xee, VU_PAGE);
	assert_ok(vu_edu_copy(&f->edu[0], 0, HIGH, VU_EDU_MAX));
	if (iommu_kind() == IOMMU_AMD)
		assert_memory_not_equal(mem + VU_PAGE, mem, VU_EDU_MAX);

	/* Writing works. */
	pattern_fill(mem + VU_PAGE, VU_PAGE, pattern_new_seed());
	assert_ok(vu_edu_copy(&f->edu[0], HIGH, 0, VU_EDU_MAX));
	assert_memory_equal(mem, mem + VU_PAGE, VU_EDU_MAX);
	assert_unmaps_all(f->container, PAGES(2));
	vu_free(mem, PAGES(2));
}

/* The device reads the bytes of a file that the process can't write either. */
static void read_a_read_only_file(void **state)
{
	const struct fixture *f = *state;
	const int flags[] = { MAP_SHARED, MAP_PRIVATE };
	int fd = open("/proc/self/exe", O_RDONLY);
	char *copy = mem_pages(1);
	unsigned int i;

	assert_true(fd >= 0);
	assert_ok(vu_map_rw(f->container, copy, 0, VU_PAGE));
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		char *file = mmap(NULL, PAGES(4), PROT_READ, flags[i], fd, 0);

		assert_ptr_not_equal(file, MAP_FAILED);
		assert_ok(vu_map(f->container, file, HIGH, PAGES(4), VFIO_DMA_MAP_FLAG_READ));
		memset(copy, 0xee, VU_PAGE);
		assert_ok(vu_edu_copy(&f->edu[0], 0, HIGH + PAGES(3), VU_EDU_MAX));
		assert_memory_equal(copy, file + PAGES(3), VU_EDU_MAX);
		assert_unmaps(f->container, HIGH, PAGES(4), PAGES(4));
		vu_free(file, PAGES(4));
	}
	assert_unmaps_all(f->container, PAGES(1));
	vu_free(copy, PAGES(1));
	close(fd);
}

/* ---- Neighbours ---- */

/*
 * Three mappings that follow each other in IOVA and in physical memory, so
 * that their page table entries could be one: the middle one goes alone.
 */
static void assert_middle_goes_alone(const struct fixture *f, size_t each)
{
	const size_t size = 3 * each < VU_2M ? VU_2M : 3 * each;
	char *mem = mem_hugetlb(size);
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(f->container, mem + i * each, HIGH + i * each, each));
	/* It is in the IOTLB, too. */
	assert_page_reached(f, mem, HIGH, each);
	assert_unmaps(f->container, HIGH + each, each, each);
	assert_page_reached(f, mem, HIGH, 0);
	assert_page_reached(f, mem, HIGH, each - VU_PAGE);
	assert_dma_blocked(f, 0, mem + each, HIGH + each);
	assert_dma_blocked(f, 0, mem + 2 * each - VU_PAGE, HIGH + 2 * each - VU_PAGE);
	assert_page_reached(f, mem, HIGH, 2 * each);
	assert_page_reached(f, mem, HIGH, 3 * each - VU_PAGE);
	assert_unmaps_all(f->container, 2 * each);
	vu_free(mem, size);
}

static void neighbours_of_one_page(void **state)
{
	assert_middle_goes_alone(*state, VU_PAGE);
}

static void neighbours_of_2m(void **state)
{
	assert_middle_goes_alone(*state, VU_2M);
}

/* After an unmap the IOVA can lead elsewhere, and does so at once. */
static void a_reused_iova_leads_to_the_new_memory(void **state)
{
	const struct fixture *f = *state;
	char *old = mem_pages(1), *new = mem_pages(1);

	assert_ok(vu_map_rw(f->container, old, HIGH, VU_PAGE));
	assert_dma_reaches(f, 0, old, HIGH);
	assert_unmaps(f->container, HIGH, VU_PAGE, VU_PAGE);
	assert_ok(vu_map_rw(f->container, new, HIGH, VU_PAGE));
	assert_dma_reaches(f, 0, new, HIGH);
	assert_dma_blocked(f, 0, old, HIGH);
	assert_unmaps(f->container, HIGH, VU_PAGE, VU_PAGE);
	vu_free(old, VU_PAGE);
	vu_free(new, VU_PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(every_backing_in_and_out),
		TEST_V2(misaligned_huge_pages),
		TEST_V2(at_far_places_of_the_iova_space),
		TEST_V2(write_through_a_read_only_mapping),
		TEST_V2(read_through_a_write_only_mapping),
		TEST_V2(read_a_read_only_file),
		TEST_V2(neighbours_of_one_page),
		TEST_V2(neighbours_of_2m),
		TEST_V2(a_reused_iova_leads_to_the_new_memory),
	};

	return cmocka_run_group_tests_name("dma", tests, NULL, NULL);
}
