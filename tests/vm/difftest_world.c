// SPDX-License-Identifier: GPL-2.0-only
/*
 * The differential test: chance, what is said, the state of a run, and memory.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "difftest.h"

/* ---- Chance ---- */

__u64 rng;

__u64 rnd64(void)
{
	__u64 z;

	rng += 0x9e3779b97f4a7c15ULL;
	z = rng;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

unsigned int rnd(unsigned int n)
{
	return (rnd64() >> 32) * n >> 32;
}

bool chance(unsigned int percent)
{
	return rnd(100) < percent;
}

/* ---- What is said ---- */

char line[1024];
size_t line_len;

__u64 hash(__u64 h, const void *data, size_t len)
{
	const unsigned char *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

unsigned int nsuccesses;

void say_result(long ret)
{
	nsuccesses += ret >= 0;
	if (ret < 0)
		say(" = %s", strerrorname_np(-ret) ?: "?");
	else
		say(" = %ld", ret);
}

/* ---- The state of the run ---- */

bool v2;
bool kernel_6_1;
int container;
struct vu_pci edu[2];
bool second_attached;
bool dirty_on;
struct mapping mappings[NMAPPINGS];	/* by IOVA */
unsigned int nmappings;

unsigned int mapping_at(__u64 iova)
{
	unsigned int low = 0, high = nmappings;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (mappings[mid].iova + mappings[mid].size - 1 < iova)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void mapping_add(__u64 iova, __u64 size)
{
	unsigned int i = mapping_at(iova);

	require(nmappings < NMAPPINGS);
	memmove(&mappings[i + 1], &mappings[i], (nmappings - i) * sizeof(*mappings));
	mappings[i] = (struct mapping){ iova, size, false };
	nmappings++;
}

void mappings_remove(__u64 iova, __u64 last, bool vaddr_only)
{
	unsigned int i = mapping_at(iova), end = i;

	if (i < nmappings && mappings[i].iova < iova)
		return;
	while (end < nmappings && mappings[end].iova <= last)
		mappings[end++].no_vaddr = true;
	if (vaddr_only)
		return;
	memmove(&mappings[i], &mappings[end], (nmappings - end) * sizeof(*mappings));
	nmappings -= end - i;
}

bool any_without_vaddr(void)
{
	unsigned int i;

	for (i = 0; i < nmappings; i++) {
		if (mappings[i].no_vaddr)
			return true;
	}
	return false;
}

/* ---- Memory ---- */

/* First page of each part; huge pages want 2 MiB. */
const unsigned int part_start[] = {
	[SCATTERED] = 0,
	[THP] = 1024,
	[HUGETLB] = 2048,
	[MEMFD] = 2560,
	[FILE_RO] = 3072,
	[UNTOUCHED_RO] = 3136,
	[NO_ACCESS] = 3200,
	[HOLE] = 3232,
	[SHORT_FILE] = 3264,	/* and half of it is behind its end */
	[BAR] = 3328,
	[BEHIND_BAR] = 3456,
	[SEQUENTIAL] = 3584,
	[ARENA_END] = 4096,
};

char *part_addr(enum part part)
{
	return ARENA + part_start[part] * PAGE;
}

size_t part_size(enum part part)
{
	return (part_start[part + 1] - part_start[part]) * PAGE;
}

static void part_mmap(enum part part, int prot, int flags, int fd, off_t offset)
{
	require(mmap(part_addr(part), part_size(part), prot, flags | MAP_FIXED, fd, offset) !=
		MAP_FAILED);
}

/* Pages that are touched in a random order mostly have strangers for neighbours. */
static void make_scattered(void)
{
	char *mem = part_addr(SCATTERED);
	size_t i, npages = part_size(SCATTERED) / PAGE;

	part_mmap(SCATTERED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(!madvise(mem, npages * PAGE, MADV_NOHUGEPAGE));
	for (i = 0; i < 4 * npages; i++)
		mem[rnd(npages) * PAGE] = 0;
	require(!madvise(mem, npages * PAGE, MADV_POPULATE_WRITE));
}

static void make_thp(void)
{
	part_mmap(THP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(!madvise(part_addr(THP), part_size(THP), MADV_HUGEPAGE));
	require(!madvise(part_addr(THP), part_size(THP), MADV_POPULATE_WRITE));
}

int file_of(size_t size)
{
	int fd = memfd_create("difftest", 0);

	require(fd >= 0 && !ftruncate(fd, size));
	return fd;
}

/* The BAR is that of a device in a container of its own, which stays open. */
static void make_bar(void)
{
	static struct vu_pci testdev;
	struct vfio_region_info info;

	require(vu_open(&testdev, VU_TESTDEV_VENDOR, VU_TESTDEV_DEVICE, 0,
			VFIO_TYPE1v2_IOMMU) >= 0);
	require(!vu_region_info(&testdev, VFIO_PCI_BAR2_REGION_INDEX, &info));
	part_mmap(BAR, PROT_READ | PROT_WRITE, MAP_SHARED, testdev.device_fd, info.offset);
}

void make_arena(void)
{
	const int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;

	make_scattered();
	make_thp();
	part_mmap(HUGETLB, rw, anon | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	part_mmap(MEMFD, rw, MAP_SHARED, file_of(part_size(MEMFD)), 0);
	part_mmap(FILE_RO, PROT_READ, MAP_SHARED, file_of(part_size(FILE_RO)), 0);
	/* Of private memory the in-tree module of 6.1 takes the zero page, uncharged. */
	part_mmap(UNTOUCHED_RO, PROT_READ,
		  kernel_6_1 ? MAP_SHARED | MAP_ANONYMOUS : anon, -1, 0);
	part_mmap(NO_ACCESS, PROT_NONE, anon, -1, 0);
	part_mmap(SHORT_FILE, rw, MAP_SHARED, file_of(part_size(SHORT_FILE) / 2), 0);
	make_bar();
	part_mmap(BEHIND_BAR, rw, anon | MAP_POPULATE, -1, 0);
	part_mmap(SEQUENTIAL, rw, anon | MAP_POPULATE, -1, 0);
	/* Children don't need it, and to copy pinned pages takes long. */
	require(!madvise(part_addr(SCATTERED), part_start[FILE_RO] * PAGE, MADV_DONTFORK));
}
