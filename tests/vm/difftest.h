/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the differential test know of each other; difftest.c says what it is.
 */
#ifndef DIFFTEST_H
#define DIFFTEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

#define ONE_OF(array)	((array)[rnd(sizeof(array) / sizeof((array)[0]))])

static inline __u64 min(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

/* Like printf(). */
#define say(...) do { \
	line_len += snprintf(line + line_len, sizeof(line) - line_len, __VA_ARGS__); \
	require(line_len < sizeof(line)); \
} while (0)

#define HASH_INIT	0xcbf29ce484222325ULL

struct mapping {
	__u64 iova, size;
	bool no_vaddr;		/* taken back with UNMAP_VADDR */
};

#define NMAPPINGS	4096

/*
 * Where the memory that gets mapped is. Its parts follow each other, so that a
 * range may begin in one and end, or fail, in another.
 */
#define ARENA		((char *)0x100000000000UL)

enum part {
	SCATTERED, THP, HUGETLB, MEMFD, FILE_RO, UNTOUCHED_RO, NO_ACCESS, HOLE,
	SHORT_FILE, BAR, BEHIND_BAR, SEQUENTIAL, ARENA_END
};

#define ARENA_PAGES	4096

/* Where the argument is. */
enum place { FINE, AT_END_OF_MEMORY, NULL_POINTER, KERNEL_POINTER, READ_ONLY };

#define ARG_MAX		512	/* looked at for what the kernel wrote */

/*
 * Bitmaps lie here, where no page is before it is used. 2^31 bits, the most
 * there may be, and more space that can't be accessed behind them.
 */
#define BITMAP		((__u64 *)0x200000000000UL)
#define BITMAP_MAX	(256UL << 20)

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

/* Where things happen, 16 MiB each: around all that makes an IOVA special. */
#define WINDOW_PAGES	4096

/* ---- difftest_world.c ---- */

extern __u64 rng;
/* splitmix64: any seed is as good as any other. */
__u64 rnd64(void);
/* 0 to n - 1. */
unsigned int rnd(unsigned int n);
/* True in percent of all calls. */
bool chance(unsigned int percent);
extern char line[1024];
extern size_t line_len;
/* FNV-1a. */
__u64 hash(__u64 h, const void *data, size_t len);
extern unsigned int nsuccesses;
void say_result(long ret);
extern bool v2;
extern bool kernel_6_1;
extern int container;
extern struct vu_pci edu[2];
extern bool second_attached;
extern bool dirty_on;
extern struct mapping mappings[NMAPPINGS];
extern unsigned int nmappings;
/* The first mapping that ends above iova. */
unsigned int mapping_at(__u64 iova);
void mapping_add(__u64 iova, __u64 size);
/* What UNMAP does to the mappings, or, if vaddr_only, to their addresses. */
void mappings_remove(__u64 iova, __u64 last, bool vaddr_only);
bool any_without_vaddr(void);
extern const unsigned int part_start[];
char *part_addr(enum part part);
size_t part_size(enum part part);
int file_of(size_t size);
void make_arena(void);

/* ---- difftest_call.c ---- */

void make_argument_memory(void);
/*
 * On AMD-Vi the last page of the 64-bit space can be mapped, but up to 6.12 not
 * unmapped: its pins leak, and a range that ends there finds no mapping.
 */
void avoid_last_page(__u64 *iova, const __u64 *size);
struct call *call_new(unsigned int cmd);
/* Mostly a fine place. */
void choose_place(struct call *c, size_t size);
void call_issue(struct call *c);

/* ---- difftest_values.c ---- */

__u64 some_window(void);
unsigned int some_pages(void);
/* Misaligned, absurd, or off by one. */
__u64 some_bad_value(__u64 good);
__u32 some_bad_argsz(__u32 good);
/* The kernel's pages that every process sees, somewhere else in each. */
extern __u64 vvar;
__u64 some_bad_vaddr(__u64 good);
__u64 some_vaddr(unsigned int npages);
void say_vaddr(__u64 vaddr);
/* A range of IOVA, mostly one whose ends cut no mapping in two. */
void some_range(__u64 *iova, __u64 *size);
/* Give a call a bitmap for this range. */
void some_bitmap(struct call *c, struct vfio_bitmap *bitmap, __u64 iova, __u64 size);

/* ---- difftest_ops.c ---- */

void write_param(const char *name, const char *val);
int limit_locked(size_t size);
void container_begin(void);
/* Groups leave first, or their container goes with all that is mapped. */
void container_end(void);
/* One operation, as chance wants it. */
void some_op(void);

#endif /* DIFFTEST_H */
