// SPDX-License-Identifier: GPL-2.0-only
/*
 * The differential test: a call, its argument, and how answers may differ.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "difftest.h"

/* ---- The ioctl and its argument ---- */

static const char * const place_name[] = { "", " at-end", " null", " kernel", " read-only" };

/* Pages for the argument: the second one can't be accessed. */
static unsigned char *arg_page;
static const unsigned char *arg_page_ro;	/* the same memory */

void make_argument_memory(void)
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

void avoid_last_page(__u64 *iova, const __u64 *size)
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

struct call *call_new(unsigned int cmd)
{
	static struct call c;

	memset(&c, 0, sizeof(c));
	memset(&c.in, 0xa5, sizeof(c.in));
	c.cmd = cmd;
	return &c;
}

void choose_place(struct call *c, size_t size)
{
	if (chance(3)) {
		c->place = 1 + rnd(READ_ONLY);
		c->edge = 1 + rnd(size + 8);
	}
}

void call_issue(struct call *c)
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
