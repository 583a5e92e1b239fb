// SPDX-License-Identifier: GPL-2.0-only
/*
 * The differential test's program: a long, seeded, random stream of requests,
 * good and bad, to one container. It says what came of each, so that what two
 * modules say of the same stream can be compared (tests/vm/difftest does):
 *
 *	difftest SEED COMBINATION OPS		a hash of every 1000 operations
 *	difftest SEED COMBINATION OPS FROM TO	in words, operations FROM to TO
 *
 * A COMBINATION is a container type and whether the process has CAP_IPC_LOCK.
 *
 * Nothing random but the seed gets into the stream or into what is said: memory
 * is at fixed addresses, and results that may differ between correct modules
 * are made equal in one place, "The listed differences" below.
 *
 * A list of the mappings that should be there is kept on the way. It only
 * guides the stream; nothing is checked against it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>

#include "vfio_user.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE		VU_PAGE

#define READ		VFIO_DMA_MAP_FLAG_READ
#define WRITE		VFIO_DMA_MAP_FLAG_WRITE
#define VADDR		VFIO_DMA_MAP_FLAG_VADDR
#define UNMAP_DIRTY	VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
#define UNMAP_ALL	VFIO_DMA_UNMAP_FLAG_ALL
#define UNMAP_VADDR	VFIO_DMA_UNMAP_FLAG_VADDR
#define DIRTY_START	VFIO_IOMMU_DIRTY_PAGES_FLAG_START
#define DIRTY_STOP	VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
#define DIRTY_GET	VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP

/* What can't go wrong, and would make the run meaningless. */
#define require(cond) do { \
	if (!(cond)) { \
		fprintf(stderr, "difftest:%d: %s: %m\n", __LINE__, #cond); \
		exit(2); \
	} \
} while (0)

/* ---- Chance ---- */

static __u64 rng;

/* splitmix64: any seed is as good as any other. */
static __u64 rnd64(void)
{
	__u64 z;

	rng += 0x9e3779b97f4a7c15ULL;
	z = rng;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* 0 to n - 1. */
static unsigned int rnd(unsigned int n)
{
	return (rnd64() >> 32) * n >> 32;
}

/* True in percent of all calls. */
static bool chance(unsigned int percent)
{
	return rnd(100) < percent;
}

#define ONE_OF(array)	((array)[rnd(sizeof(array) / sizeof((array)[0]))])

static __u64 min(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

/* ---- What is said ---- */

static char line[1024];
static size_t line_len;

/* Like printf(). */
#define say(...) do { \
	line_len += snprintf(line + line_len, sizeof(line) - line_len, __VA_ARGS__); \
	require(line_len < sizeof(line)); \
} while (0)

/* FNV-1a. */
static __u64 hash(__u64 h, const void *data, size_t len)
{
	const unsigned char *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

#define HASH_INIT	0xcbf29ce484222325ULL

static unsigned int nsuccesses;

static void say_result(long ret)
{
	nsuccesses += ret >= 0;
	if (ret < 0)
		say(" = %s", strerrorname_np(-ret) ?: "?");
	else
		say(" = %ld", ret);
}

/* ---- The state of the run ---- */

struct mapping {
	__u64 iova, size;
	bool no_vaddr;		/* taken back with UNMAP_VADDR */
};

#define NMAPPINGS	4096

static bool v2;
static bool kernel_6_1;
static int container;
static struct vu_pci edu[2];
static bool second_attached;
static bool dirty_on;
static struct mapping mappings[NMAPPINGS];	/* by IOVA */
static unsigned int nmappings;

/* The first mapping that ends above iova. */
static unsigned int mapping_at(__u64 iova)
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

static void mapping_add(__u64 iova, __u64 size)
{
	unsigned int i = mapping_at(iova);

	require(nmappings < NMAPPINGS);
	memmove(&mappings[i + 1], &mappings[i], (nmappings - i) * sizeof(*mappings));
	mappings[i] = (struct mapping){ iova, size, false };
	nmappings++;
}

/* What UNMAP does to the mappings, or, if vaddr_only, to their addresses. */
static void mappings_remove(__u64 iova, __u64 last, bool vaddr_only)
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

static bool any_without_vaddr(void)
{
	unsigned int i;

	for (i = 0; i < nmappings; i++) {
		if (mappings[i].no_vaddr)
			return true;
	}
	return false;
}

/* ---- Memory ---- */

/*
 * Where the memory that gets mapped is. Its parts follow each other, so that a
 * range may begin in one and end, or fail, in another.
 */
#define ARENA		((char *)0x100000000000UL)

enum part {
	SCATTERED, THP, HUGETLB, MEMFD, FILE_RO, UNTOUCHED_RO, NO_ACCESS, HOLE,
	SHORT_FILE, BAR, BEHIND_BAR, SEQUENTIAL, ARENA_END
};

/* First page of each part; huge pages want 2 MiB. */
static const unsigned int part_start[] = {
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

#define ARENA_PAGES	4096

static char *part_addr(enum part part)
{
	return ARENA + part_start[part] * PAGE;
}

static size_t part_size(enum part part)
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

static int file_of(size_t size)
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

static void make_arena(void)
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

/* ---- The ioctl and its argument ---- */

/* Where the argument is. */
enum place { FINE, AT_END_OF_MEMORY, NULL_POINTER, KERNEL_POINTER, READ_ONLY };

static const char * const place_name[] = { "", " at-end", " null", " kernel", " read-only" };

/* Pages for the argument: the second one can't be accessed. */
static unsigned char *arg_page;
static const unsigned char *arg_page_ro;	/* the same memory */

#define ARG_MAX		512	/* looked at for what the kernel wrote */

/*
 * Bitmaps lie here, where no page is before it is used. 2^31 bits, the most
 * there may be, and more space that can't be accessed behind them.
 */
#define BITMAP		((__u64 *)0x200000000000UL)
#define BITMAP_MAX	(256UL << 20)

static void make_argument_memory(void)
{
	int fd = file_of(PAGE);

	arg_page = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(arg_page != MAP_FAILED);
	require(mmap(arg_page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		arg_page);
	arg_page_ro = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	require(arg_page_ro != MAP_FAILED);
	require(mmap(BITMAP, BITMAP_MAX, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE |
		     MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == BITMAP);
	require(mmap((char *)BITMAP + BITMAP_MAX, PAGE, PROT_NONE, MAP_FIXED | MAP_PRIVATE |
		     MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* One ioctl: what went in, and what came out. */
struct call {
	unsigned int cmd;
	union {
		struct vfio_iommu_type1_info info;
		struct vfio_iommu_type1_dma_map map;
		struct {
			struct vfio_iommu_type1_dma_unmap head;
			struct vfio_bitmap bitmap;
		} unmap;
		struct {
			struct vfio_iommu_type1_dirty_bitmap head;
			struct vfio_iommu_type1_dirty_bitmap_get get;
		} dirty;
		unsigned char raw[ARG_MAX];
	} in, out;
	size_t in_size;
	enum place place;
	unsigned int edge;		/* bytes before the end, for AT_END_OF_MEMORY */

	const struct vfio_bitmap *bitmap;	/* in the argument, NULL if there is none */
	__u64 bitmap_iova, bitmap_size;	/* its first byte of IOVA, and how many */
	__u64 fill;			/* what its words were before; 1: each another */
	__u64 bitmap_hash;		/* what they were afterwards */

	long ret;
};

/* ---- The listed differences ---- */

/*
 * All that a stream may meet and two correct modules may answer differently.
 * Each function makes such an answer equal on both sides, and no other one.
 *
 * Not made equal but left out of the stream, as the modules would go separate
 * ways after it:
 *  - the last page of all addresses: see avoid_last_page();
 *  - a dirty bitmap with pgsize 0, which is undefined up to 7.2, and whose kernel
 *    has UBSAN complain;
 *  - on 6.1, attaching while addresses are taken back: see op_second_group();
 *  - how much memory a MAP has faulted in before it is refused, which shows when
 *    it is mapped for reading: zero pages aren't charged. So all writable memory
 *    is there from the beginning;
 *  - on 6.1, private memory that nobody has touched, mapped for reading: see
 *    make_arena().
 */

/* Up to 6.12 EINVAL, later, and in this project, EOVERFLOW. */
static bool wraps(__u64 start, __u64 size)
{
	return size && start + size - 1 < start;
}

static void wrap_is_einval(struct call *c)
{
	bool wrap = false;

	if (c->cmd == VFIO_IOMMU_MAP_DMA)
		wrap = wraps(c->in.map.iova, c->in.map.size) ||
		       wraps(c->in.map.vaddr, c->in.map.size);
	else if (c->cmd == VFIO_IOMMU_UNMAP_DMA)
		wrap = wraps(c->in.unmap.head.iova, c->in.unmap.head.size);
	else if (c->cmd == VFIO_IOMMU_DIRTY_PAGES)
		wrap = wraps(c->in.dirty.get.iova, c->in.dirty.get.size);
	if (wrap && c->ret == -EOVERFLOW)
		c->ret = -EINVAL;
}

/* Without any flag, up to 7.2: the number of the lowest bit of 0, which is undefined. */
static void no_dirty_flag_is_einval(struct call *c)
{
	if (c->cmd == VFIO_IOMMU_DIRTY_PAGES && !c->in.dirty.head.flags && !c->ret)
		c->ret = -EINVAL;
}

/*
 * The 4 bytes that fill up struct vfio_iommu_type1_info: 6.1 leaves them alone,
 * 6.12 clears them. And where argsz ends inside cap_offset, 6.1 stops before it.
 */
static void info_padding_is_untouched(struct call *c)
{
	size_t from = offsetof(struct vfio_iommu_type1_info, cap_offset);

	if (c->cmd != VFIO_IOMMU_GET_INFO)
		return;
	if (c->in.info.argsz >= from + sizeof(__u32))
		from += sizeof(__u32);
	memcpy(c->out.raw + from, c->in.raw + from, sizeof(c->in.info) - from);
}

/* What this project adds, at the end of the chain: see Documentation/registered-memory.rst. */
static void info_without_registered_memory(struct call *c)
{
	const size_t size = sizeof(struct vfio_type1_info_cap_memory);
	struct vfio_iommu_type1_info *info = &c->out.info;
	struct vfio_info_cap_header *header;
	__u32 *next = &info->cap_offset;

	if (c->cmd != VFIO_IOMMU_GET_INFO || c->ret ||
	    ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1_MEMORY) <= 0)
		return;
	if (info->argsz > c->in.info.argsz) {
		info->argsz -= size;
		return;
	}
	if (c->in.info.argsz < sizeof(*info))
		return;
	for (; *next && *next + size <= ARG_MAX; next = &header->next) {
		header = (void *)(c->out.raw + *next);
		if (header->id == VFIO_TYPE1_INFO_CAP_MEMORY) {
			memcpy(header, c->in.raw + *next, size);
			*next = 0;
			return;
		}
	}
}

static void bitmap_tails_are_zero(struct call *c);

static void (* const listed_differences[])(struct call *c) = {
	wrap_is_einval,
	no_dirty_flag_is_einval,
	info_padding_is_untouched,
	info_without_registered_memory,
	bitmap_tails_are_zero,
};

/*
 * On AMD-Vi the last page of the 64-bit space can be mapped, but up to 6.12 not
 * unmapped: its pins leak, and a range that ends there finds no mapping.
 */
static void avoid_last_page(__u64 *iova, const __u64 *size)
{
	if (*size && *iova + *size == 0)
		*iova -= PAGE;
}

/* ---- Dirty bitmaps ---- */

/* A bitmap of more words is looked at only where there are mappings. */
#define WORDS_MAX	80

/* Where word w of the bitmap is; NULL if it isn't in our memory. */
static char *bitmap_word(const struct call *c, __u64 w)
{
	unsigned long at = (unsigned long)c->bitmap->data - (unsigned long)BITMAP;

	return at < BITMAP_MAX && w < (BITMAP_MAX - at) / sizeof(w) ?
	       (char *)BITMAP + at + w * sizeof(w) : NULL;
}

typedef void (*word_fn)(struct call *c, __u64 w, __u64 *word);

static void call_for_words(struct call *c, __u64 w, __u64 last, word_fn fn)
{
	for (; w <= last; w++) {
		__u64 word;
		char *at = bitmap_word(c, w);

		if (!at)
			return;
		/* It need not be aligned. */
		memcpy(&word, at, sizeof(word));
		fn(c, w, &word);
		memcpy(at, &word, sizeof(word));
	}
}

/* Call fn for each word that may change, and some more. */
static void call_for_all_words(struct call *c, word_fn fn)
{
	__u64 nwords = c->bitmap_size / PAGE / 64 + 1;
	unsigned int i;

	call_for_words(c, 0, min(nwords, WORDS_MAX), fn);
	for (i = mapping_at(c->bitmap_iova); nwords > WORDS_MAX && i < nmappings; i++) {
		__u64 first = (mappings[i].iova - c->bitmap_iova) / PAGE;

		if (mappings[i].iova >= c->bitmap_iova)
			call_for_words(c, first / 64, (first + mappings[i].size / PAGE - 1) / 64,
				       fn);
	}
}

static void word_fill(struct call *c, __u64 w, __u64 *word)
{
	*word = c->fill == 1 ? w * 0x9e3779b97f4a7c15ULL : c->fill;
}

static void word_hash(struct call *c, __u64 w, __u64 *word)
{
	c->bitmap_hash = hash(hash(c->bitmap_hash, &w, sizeof(w)), word, sizeof(*word));
	if (w < 3)
		say(" %llx", *word);
}

/*
 * A mapping's bitmap is copied out in whole words. Up to 7.2, what follows its
 * last page in the last word is whatever earlier reports have left there, also
 * where a later mapping has pages, if the range doesn't go so far.
 */
static void word_clear_tails(struct call *c, __u64 w, __u64 *word)
{
	__u64 skip = w * 64 * PAGE, first = c->bitmap_iova + skip, last, mapped = 0;
	unsigned int i;

	if (skip >= c->bitmap_size)
		return;
	last = first + min(64 * PAGE, c->bitmap_size - skip) - 1;
	for (i = mapping_at(first); i < nmappings && mappings[i].iova <= last; i++) {
		const struct mapping *m = &mappings[i];
		unsigned int from = m->iova > first ? (m->iova - first) / PAGE : 0;
		unsigned int to = min((m->iova + m->size - 1 - first) / PAGE, 63);

		mapped |= ~0ULL << from & ~0ULL >> (63 - to);
	}
	/* Below the word's first mapping, and where there is none, nobody writes. */
	if (mapped)
		*word &= mapped | ((mapped & -mapped) - 1);
}

static void bitmap_tails_are_zero(struct call *c)
{
	if (c->bitmap && (!c->ret || c->ret == -EFAULT))
		call_for_all_words(c, word_clear_tails);
}

/* ---- Making a call ---- */

static struct call *call_new(unsigned int cmd)
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	memset(&c.in, 0xa5, sizeof(c.in));
	c.cmd = cmd;
	return &c;
}

/* Mostly a fine place. */
static void choose_place(struct call *c, size_t size)
{
	if (chance(3)) {
		c->place = 1 + rnd(READ_ONLY);
		c->edge = 1 + rnd(size + 8);
	}
}

static void call_issue(struct call *c)
{
	size_t len = c->place == AT_END_OF_MEMORY ? c->edge : ARG_MAX, i;
	unsigned char *at = arg_page;
	__u64 changes = HASH_INIT;
	const void *arg;

	if (c->place == AT_END_OF_MEMORY)
		at += PAGE - len;
	arg = at;
	if (c->place == NULL_POINTER)
		arg = NULL;
	else if (c->place == KERNEL_POINTER)
		arg = (void *)0xffff888000000000UL;
	else if (c->place == READ_ONLY)
		arg = arg_page_ro;

	memcpy(at, c->in.raw, len);
	if (c->bitmap)
		call_for_all_words(c, word_fill);
	c->ret = ioctl(container, c->cmd, arg);
	if (c->ret < 0)
		c->ret = -errno;
	c->out = c->in;
	memcpy(c->out.raw, at, len);

	for (i = 0; i < ARRAY_SIZE(listed_differences); i++)
		listed_differences[i](c);

	say("%s%s", c->place == FINE ? "" : " argument ", place_name[c->place]);
	if (c->place == AT_END_OF_MEMORY)
		say("-%u", c->edge);
	say_result(c->ret);
	for (i = 0; i < len; i++) {
		if (c->out.raw[i] != c->in.raw[i])
			changes = hash(hash(changes, &i, sizeof(i)), &c->out.raw[i], 1);
	}
	if (changes != HASH_INIT)
		say(" written %08x", (unsigned int)changes);
	if (c->bitmap) {
		say(" bitmap");
		c->bitmap_hash = HASH_INIT;
		call_for_all_words(c, word_hash);
		say(" hash %08x", (unsigned int)c->bitmap_hash);
	}
}

/* ---- Values that are often good, and often nearly so ---- */

/* Where things happen, 16 MiB each: around all that makes an IOVA special. */
#define WINDOW_PAGES	4096

static const __u64 windows[] = {
	0,
	0xfee00000 - 0x800000,		/* MSIs; and 4 GiB is behind them */
	0x100000000 - 0x800000,
	0xfd00000000 - 0x800000,	/* AMD's HyperTransport: first page */
	0x10000000000 - 0x800000,	/* and the one behind */
	0x1000000000000 - 0x800000,	/* 48 bits */
	-0x1000000ULL,			/* 64 bits */
};

static __u64 some_window(void)
{
	return chance(50) ? windows[0] : ONE_OF(windows);
}

static unsigned int some_pages(void)
{
	unsigned int percent = rnd(100);

	if (percent < 60)
		return 1 + rnd(4);
	if (percent < 95)
		return 1 + rnd(percent < 85 ? 16 : 64);
	return percent < 98 ? 512 : 1 + rnd(percent < 99 ? 512 : 3000);
}

/* Misaligned, absurd, or off by one. */
static __u64 some_bad_value(__u64 good)
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

static __u32 some_bad_argsz(__u32 good)
{
	static const __u32 sizes[] = { 0, 4, 8, 15, 16, 24, 0xffffffff };

	return chance(50) ? good - 1 - rnd(8) : ONE_OF(sizes);
}

/* The kernel's pages that every process sees, somewhere else in each. */
static __u64 vvar;

static __u64 some_bad_vaddr(__u64 good)
{
	return some_bad_value(good == vvar ? (__u64)ARENA : good);
}

static __u64 some_vaddr(unsigned int npages)
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

static void say_vaddr(__u64 vaddr)
{
	if (vaddr == vvar)
		say(" vaddr vvar");
	else if (vaddr - (__u64)ARENA < ARENA_PAGES * PAGE)
		say(" vaddr arena+%llx", vaddr - (__u64)ARENA);
	else
		say(" vaddr %llx", vaddr);
}

/* A range of IOVA, mostly one whose ends cut no mapping in two. */
static void some_range(__u64 *iova, __u64 *size)
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

/* Give a call a bitmap for this range. */
static void some_bitmap(struct call *c, struct vfio_bitmap *bitmap, __u64 iova, __u64 size)
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

/* ---- Operations ---- */

static void op_map(void)
{
	struct call *c = call_new(VFIO_IOMMU_MAP_DMA);
	struct vfio_iommu_type1_dma_map *map = &c->in.map;
	unsigned int npages = some_pages();

	map->argsz = sizeof(*map);
	map->flags = chance(60) ? READ | WRITE : chance(50) ? READ : WRITE;
	map->iova = some_window() + rnd(WINDOW_PAGES) * PAGE;
	map->size = npages * PAGE;
	map->vaddr = some_vaddr(npages);
	if (nmappings && chance(25)) {
		/* Right behind another one, or not quite. */
		const struct mapping *m = &mappings[rnd(nmappings)];

		map->iova = m->iova + m->size + rnd(5) * PAGE - 3 * PAGE;
	}
	choose_place(c, sizeof(*map));
	switch (rnd(60)) {
	case 0:
		map->argsz = some_bad_argsz(map->argsz);
		break;
	case 1:
		map->flags = chance(50) ? rnd(16) : rnd64();
		break;
	case 2:
		map->iova = some_bad_value(map->iova);
		break;
	case 3:
		map->size = some_bad_value(map->size);
		break;
	case 4:
		map->vaddr = some_bad_vaddr(map->vaddr);
		break;
	case 5:
		map->iova = some_bad_value(map->iova);
		map->size = some_bad_value(map->size);
		map->flags = rnd(8);
		break;
	}
	avoid_last_page(&map->iova, &map->size);
	say("map argsz %x flags %x iova %llx size %llx", map->argsz, map->flags, map->iova,
	    map->size);
	say_vaddr(map->vaddr);
	call_issue(c);
	if (!c->ret && map->flags != VADDR)
		mapping_add(map->iova, map->size);
}

/* Nobody knows what is left: start anew. */
static void unmap_rest(void)
{
	__u64 unmapped;

	say(", then all");
	say_result(vu_unmap(container, 0, 0, UNMAP_ALL, &unmapped));
	say(" size %llx", unmapped);
	nmappings = 0;
}

static void op_unmap(void)
{
	struct call *c = call_new(VFIO_IOMMU_UNMAP_DMA);
	struct vfio_iommu_type1_dma_unmap *unmap = &c->in.unmap.head;
	unsigned int percent = rnd(100);

	unmap->argsz = sizeof(*unmap);
	unmap->flags = 0;
	some_range(&unmap->iova, &unmap->size);
	if (percent < 20) {
		unmap->argsz = sizeof(c->in.unmap);
		unmap->flags = UNMAP_DIRTY;
	} else if (percent < 40) {
		unmap->flags = UNMAP_VADDR;
	}
	if (chance(1)) {
		unmap->flags |= UNMAP_ALL;
		unmap->iova = 0;
		unmap->size = 0;
	}
	choose_place(c, unmap->argsz);
	switch (rnd(60)) {
	case 0:
		unmap->argsz = some_bad_argsz(unmap->argsz);
		break;
	case 1:
		unmap->flags = chance(50) ? rnd(16) : rnd64();
		break;
	case 2:
		unmap->iova = some_bad_value(unmap->iova);
		break;
	case 3:
		unmap->size = some_bad_value(unmap->size);
		break;
	case 4:
		unmap->iova = some_bad_value(unmap->iova);
		unmap->size = some_bad_value(unmap->size);
		break;
	}
	avoid_last_page(&unmap->iova, &unmap->size);
	say("unmap argsz %x flags %x iova %llx size %llx", unmap->argsz, unmap->flags, unmap->iova,
	    unmap->size);
	if (unmap->flags & UNMAP_DIRTY)
		some_bitmap(c, &c->in.unmap.bitmap, unmap->iova, unmap->size);
	call_issue(c);
	if (!c->ret) {
		say(" size %llx", c->out.unmap.head.size);
		mappings_remove(unmap->iova, unmap->flags & UNMAP_ALL ? ~0ULL :
				unmap->iova + unmap->size - 1, unmap->flags & UNMAP_VADDR);
	} else if (c->ret == -EFAULT && c->place != NULL_POINTER && c->place != KERNEL_POINTER) {
		unmap_rest();
	}
}

/* The index of a mapping without an address, if there is any; else of any. */
static unsigned int some_without_vaddr(void)
{
	unsigned int start = rnd(nmappings), i = start;

	while (!mappings[i].no_vaddr && (i + 1) % nmappings != start)
		i = (i + 1) % nmappings;
	return i;
}

/* Give an address back that UNMAP has taken; sometimes it never did. */
static void op_vaddr(void)
{
	struct call *c = call_new(VFIO_IOMMU_MAP_DMA);
	struct vfio_iommu_type1_dma_map *map = &c->in.map;
	struct mapping *m;

	if (!nmappings)
		return op_map();
	m = &mappings[some_without_vaddr()];
	map->argsz = sizeof(*map);
	map->flags = VADDR;
	map->iova = m->iova;
	map->size = m->size;
	map->vaddr = some_vaddr(m->size / PAGE);
	choose_place(c, sizeof(*map));
	switch (rnd(15)) {
	case 0:
		map->iova = some_bad_value(map->iova);
		break;
	case 1:
		map->size = some_bad_value(map->size);
		break;
	case 2:
		map->vaddr = some_bad_vaddr(map->vaddr);
		break;
	case 3:
		map->flags |= rnd(8);
		break;
	case 4:
		map->iova = some_window() + rnd(WINDOW_PAGES) * PAGE;
		break;
	}
	avoid_last_page(&map->iova, &map->size);
	say("vaddr flags %x iova %llx size %llx", map->flags, map->iova, map->size);
	say_vaddr(map->vaddr);
	call_issue(c);
	if (!c->ret)
		m->no_vaddr = false;
}

/* The same in a child, which then owns the mapping, and dies. */
static void op_vaddr_child(void)
{
	struct mapping *m;
	int status;
	pid_t pid;

	if (!nmappings)
		return op_map();
	m = &mappings[some_without_vaddr()];
	say("child vaddr iova %llx size %llx", m->iova, m->size);
	pid = fork();
	require(pid >= 0);
	if (!pid)
		_exit(-vu_map(container, ARENA, m->iova, m->size, VADDR));
	require(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	say_result(-WEXITSTATUS(status));
	if (!WEXITSTATUS(status))
		m->no_vaddr = false;
}

static void op_dirty(void)
{
	struct call *c = call_new(VFIO_IOMMU_DIRTY_PAGES);
	struct vfio_iommu_type1_dirty_bitmap *dirty = &c->in.dirty.head;
	struct vfio_iommu_type1_dirty_bitmap_get *get = &c->in.dirty.get;
	unsigned int percent = rnd(100);

	dirty->argsz = sizeof(*dirty);
	if (percent < (dirty_on ? 5 : 40)) {
		dirty->flags = DIRTY_START;
	} else if (percent < (dirty_on ? 10 : 45)) {
		dirty->flags = DIRTY_STOP;
	} else if (percent < 95) {
		dirty->argsz = sizeof(c->in.dirty);
		dirty->flags = DIRTY_GET;
	} else {
		dirty->flags = chance(80) ? rnd(9) : rnd64();
	}
	some_range(&get->iova, &get->size);
	choose_place(c, sizeof(c->in.dirty));
	switch (rnd(50)) {
	case 0:
		dirty->argsz = some_bad_argsz(dirty->argsz);
		break;
	case 1:
		get->iova = some_bad_value(get->iova);
		break;
	case 2:
		get->size = some_bad_value(get->size);
		break;
	case 3:
		/* As many pages as a bitmap can hold. */
		get->iova = 0;
		get->size = BITMAP_MAX * 8 * PAGE + (chance(20) ? PAGE : 0);
		break;
	}
	avoid_last_page(&get->iova, &get->size);
	say("dirty argsz %x flags %x", dirty->argsz, dirty->flags);
	if (dirty->flags & DIRTY_GET) {
		say(" iova %llx size %llx", get->iova, get->size);
		some_bitmap(c, &get->bitmap, get->iova, get->size);
	}
	call_issue(c);
	if (!c->ret && dirty->flags & (DIRTY_START | DIRTY_STOP))
		dirty_on = dirty->flags & DIRTY_START;
}

static void say_capabilities(const unsigned char *raw, __u32 offset)
{
	const struct vfio_iommu_type1_info_cap_iova_range *iova = (void *)(raw + offset);
	const struct vfio_iommu_type1_info_dma_avail *avail = (void *)(raw + offset);
	const struct vfio_info_cap_header *header = (void *)(raw + offset);
	__u32 i;

	for (; offset && offset + sizeof(*header) < ARG_MAX; offset = header->next) {
		header = (void *)(raw + offset);
		say(" cap %u.%u", header->id, header->version);
		if (header->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
			avail = (void *)header;
			say(" %u", avail->avail);
		}
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			iova = (void *)header;
			for (i = 0; i < iova->nr_iovas && i < 8; i++)
				say(" %llx-%llx", iova->iova_ranges[i].start,
				    iova->iova_ranges[i].end);
		}
	}
}

static void op_info(void)
{
	static const __u32 argsz[] = {
		0, 8, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 64, 100, 170, 200, 0xffffffff,
	};
	struct call *c = call_new(VFIO_IOMMU_GET_INFO);
	struct vfio_iommu_type1_info *info = &c->in.info;

	info->argsz = chance(50) ? ARG_MAX : ONE_OF(argsz);
	/* Who says that he has room for capabilities, and has not, sees that ours are longer. */
	choose_place(c, info->argsz > 64 ? sizeof(*info) : 256);
	say("info argsz %x", info->argsz);
	call_issue(c);
	if (!c->ret && c->place == FINE) {
		info = &c->out.info;
		say(" argsz %x flags %x pgsizes %llx", info->argsz, info->flags,
		    info->iova_pgsizes);
		if (c->in.info.argsz >= 200)
			say_capabilities(c->out.raw, info->cap_offset);
	}
}

static void op_extension(void)
{
	unsigned long arg = chance(80) ? rnd(16) : rnd64();
	int ret = ioctl(container, VFIO_CHECK_EXTENSION, arg);

	say("extension %lx", arg);
	say_result(ret < 0 ? -errno : ret);
}

/* Not an ioctl of ours, or not one at all. */
static void op_garbage(void)
{
	unsigned int cmd = chance(80) ? _IO(VFIO_TYPE, VFIO_BASE + rnd(50)) : rnd64();
	struct call *c;

	switch (cmd) {
	case VFIO_IOMMU_GET_INFO:
	case VFIO_IOMMU_MAP_DMA:
	case VFIO_IOMMU_UNMAP_DMA:
	case VFIO_IOMMU_DIRTY_PAGES:
		cmd |= _IOC(_IOC_READ | _IOC_WRITE, 0, 0, 16);	/* which is another one */
	}
	c = call_new(cmd);
	choose_place(c, ARG_MAX);
	say("ioctl %x", cmd);
	call_issue(c);
}

static void write_param(const char *name, const char *val)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/vfio_iommu_type1/parameters/%s", name);
	f = fopen(path, "w");
	require(f && fputs(val, f) >= 0 && !fclose(f));
}

static int limit_locked(size_t size)
{
	const struct rlimit limit = { .rlim_cur = size, .rlim_max = RLIM_INFINITY };

	return setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* What the process does to itself, and the administrator to the module. */
static void op_surroundings(void)
{
	static const unsigned int limits[] = { 0, 16, 256, 1024, 4096, 16384, 65536 };
	char *seq = part_addr(SEQUENTIAL) + rnd(500) * PAGE;
	char *scattered = part_addr(SCATTERED) + rnd(900) * PAGE;
	size_t size = (1 + rnd(100)) * PAGE;
	const char *what;
	int ret;

	switch (rnd(7)) {
	case 0:
	case 1:
		size = ONE_OF(limits) * PAGE;
		ret = limit_locked(size);
		what = "setrlimit";
		break;
	case 2:
		ret = mlock(seq, min(size, 10 * PAGE));
		what = "mlock";
		break;
	case 3:
		ret = munlock(part_addr(SEQUENTIAL), part_size(SEQUENTIAL));
		what = "munlock";
		break;
	case 4:
		/* Mapped pages stay, and new ones come under the same address. */
		ret = madvise(scattered, size, MADV_DONTNEED) ?:
		      madvise(scattered, size, MADV_POPULATE_WRITE);
		what = "madvise";
		break;
	case 5:
		if (chance(50))
			ret = mprotect(seq, 10 * PAGE, PROT_READ);
		else
			ret = mprotect(part_addr(SEQUENTIAL), part_size(SEQUENTIAL),
				       PROT_READ | PROT_WRITE);
		what = "mprotect";
		break;
	default:
		ret = chance(20);
		write_param("disable_hugepages", ret ? "Y" : "N");
		what = "disable_hugepages";
	}
	say("%s size %zx", what, size);
	say_result(ret < 0 ? -errno : ret);
}

/* Another group comes to the container, or leaves. */
static void op_second_group(void)
{
	int ret;

	/* Up to 6.1 who attaches may have to wait until all addresses are back. */
	if (!second_attached && kernel_6_1 && any_without_vaddr())
		return op_map();
	say("second group %s", second_attached ? "detach" : "attach");
	ret = second_attached ? vu_group_detach(&edu[1]) : vu_group_attach(&edu[1], container);
	say_result(ret);
	if (!ret)
		second_attached = !second_attached;
}

static void container_begin(void)
{
	static const char * const limits[] = {
		"65535", "65535", "65535", "65535", "100", "1",
	};
	const char *limit = ONE_OF(limits);

	write_param("dma_entry_limit", limit);
	container = vu_container_open();
	require(container >= 0);
	require(!vu_group_attach(&edu[0], container));
	require(!vu_set_iommu(container, v2 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU));
	say("open with dma_entry_limit %s; ", limit);
}

/* Groups leave first, or their container goes with all that is mapped. */
static void container_end(void)
{
	if (second_attached)
		require(!vu_group_detach(&edu[1]));
	if (chance(50)) {
		require(!vu_group_detach(&edu[0]));
		close(container);
	} else {
		close(container);
		require(!vu_group_detach(&edu[0]));
	}
	second_attached = false;
	dirty_on = false;
	nmappings = 0;
}

static void op_reopen(void)
{
	container_end();
	container_begin();
}

static const struct op {
	void (*run)(void);
	unsigned int weight;	/* of 1000 */
} ops[] = {
	{ op_map, 450 },
	{ op_unmap, 280 },
	{ op_vaddr, 45 },
	{ op_vaddr_child, 1 },
	{ op_dirty, 100 },
	{ op_info, 50 },
	{ op_extension, 20 },
	{ op_garbage, 25 },
	{ op_surroundings, 20 },
	{ op_second_group, 6 },
	{ op_reopen, 3 },
};

/* ---- The stream ---- */

static const struct combination {
	const char *name;
	bool v2;
	bool ipc_lock;
} combinations[] = {
	{ "v1-locked", false, true },
	{ "v1-limited", false, false },
	{ "v2-locked", true, true },
	{ "v2-limited", true, false },
};

/* VmLck, from a file that stays open. */
static long locked_kib(int status_fd)
{
	char buf[2048], *at;
	ssize_t len = pread(status_fd, buf, sizeof(buf) - 1, 0);

	require(len > 0);
	buf[len] = '\0';
	at = strstr(buf, "VmLck:");
	require(at);
	return strtol(at + strlen("VmLck:"), NULL, 10);
}

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	require(!syscall(SYS_capget, &header, data));
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	data[0].permitted &= ~(1U << CAP_IPC_LOCK);
	require(!syscall(SYS_capset, &header, data));
}

static __u64 find_vvar(void)
{
	__u64 addr = 0;
	char buf[256];
	FILE *f = fopen("/proc/self/maps", "r");

	require(f);
	while (fgets(buf, sizeof(buf), f)) {
		if (strstr(buf, "[vvar]"))
			addr = strtoull(buf, NULL, 16);
	}
	fclose(f);
	require(addr);
	return addr;
}

static void setup(const struct combination *comb)
{
	unsigned int i;

	v2 = comb->v2;
	make_arena();
	make_argument_memory();
	vvar = find_vvar();
	for (i = 0; i < ARRAY_SIZE(edu); i++) {
		require(!vu_pci_find(&edu[i], VU_EDU_VENDOR, VU_EDU_DEVICE, i));
		require(!vu_pci_bind(&edu[i]));
		require(!vu_group_open(&edu[i]));
	}
	require(!limit_locked(1024 * PAGE));
	if (!comb->ipc_lock)
		drop_ipc_lock();
	write_param("disable_hugepages", "N");
}

static const struct op *some_op(void)
{
	unsigned int at = rnd(1000);
	const struct op *op = ops;

	while (at >= op->weight)
		at -= op++->weight;
	return op;
}

/* Say operations @from to @to in words, or else a hash of every 1000. */
static void stream(const char *name, unsigned int nops, unsigned int from, unsigned int to)
{
	int status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	__u64 h = HASH_INIT;
	unsigned int n;

	require(status_fd >= 0);
	container_begin();
	for (n = 1; n <= nops; n++) {
		some_op()->run();
		say("; %ld kB locked", locked_kib(status_fd));
		h = hash(h, line, line_len);
		if (n >= from && n <= to)
			printf("%s %u %s\n", name, n, line);
		if (!to && (n % 1000 == 0 || n == nops)) {
			printf("%s %u %016llx\n", name, n, h);
			fflush(stdout);
		}
		line_len = 0;
	}
	container_end();
	printf("%s end: %u operations, %u of them successful; %ld kB locked\n", name, nops,
	       nsuccesses, locked_kib(status_fd));
	/* There is little to see in a stream that is mostly refused. */
	require(nsuccesses > nops / 3);
}

int main(int argc, char **argv)
{
	const struct combination *comb = combinations;
	struct utsname uts;
	unsigned int nops;

	if (argc != 4 && argc != 6)
		return 2;
	while (strcmp(comb->name, argv[2])) {
		if (++comb == combinations + ARRAY_SIZE(combinations))
			return 2;
	}
	nops = strtoul(argv[3], NULL, 0);
	rng = strtoull(argv[1], NULL, 0) * ARRAY_SIZE(combinations) + (comb - combinations);

	/* The in-tree module logs each time a limit is hit; the VM's serial port is slow. */
	klogctl(8, NULL, 4);
	uname(&uts);
	kernel_6_1 = !strncmp(uts.release, "6.1.", 4);
	setup(comb);
	stream(comb->name, nops, argc > 4 ? strtoul(argv[4], NULL, 0) : 0,
	       argc > 4 ? strtoul(argv[5], NULL, 0) : 0);
	return 0;
}
