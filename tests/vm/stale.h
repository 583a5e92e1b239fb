/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What can be done to registered memory, for test_stale.c.
 */
#ifndef STALE_H
#define STALE_H

#include "emu/emu_user.h"

/* Newer than the headers of the oldest system that builds this. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define IOVA		(5 * GIB)
#define SIZE		(2 * VU_2M)
#define RO		VFIO_TYPE1_MEMORY_READ_ONLY
#define SWAP_BYTES	(64 * MIB)

enum kind {
	ANON,		/* 4K pages */
	THP,
	HUGE,		/* hugetlb memory */
	HUGE_SHARED,
	MEMFD,
	MEMFD_COPY,	/* private, written to */
	MEMFD_READ,	/* private, only read so far, and registered for reading */
	ZERO,		/* only read so far, and registered for reading */
	ZERO_THP,
	SHM,
	HEAP,
};

/* What a MAP of the page says then. */
enum answer {
	SAME,	/* 0: it is the one that was registered */
	OTHER,	/* ESTALE: it is another, or none */
	EITHER,	/* depends on what pinning did to it; never a page that the process hasn't got */
};

struct ground;

struct way {
	const char *name;
	enum kind kind;
	void (*change)(struct ground *g, long arg);
	long arg;
	enum answer answer;
};

/* Registered memory, and the page in the middle of it that something is done to. */
struct ground {
	const struct emu_fixture *e;
	const struct way *way;
	char *mem;
	int fd;		/* of the file, from its start on, or -1 */
	int shm;
	__u32 flags;	/* of REGISTER */
	char *at;
	size_t unit;	/* the size of a page there */
	char *extra;	/* to be unmapped at the end, of SIZE, or NULL */
	bool lost;	/* there is no memory that the process could look at any more */
};

/* What older kernels do not know. */
struct newer_way {
	unsigned int major, minor;
	struct way way;
};

extern const struct way ways[];
extern const unsigned int nr_ways;
extern const struct newer_way newer_ways[];
extern const unsigned int nr_newer_ways;

/* ---- Memory ---- */

void *reserve_aligned(size_t size, size_t align);
char *place(struct ground *g, int flags, int fd, off_t offset);
void make_memory(struct ground *g, enum kind kind);
void end_memory(struct ground *g);
off_t offset_of(const struct ground *g);

/* ---- What is done to it: by name of what does it ---- */

void advise(struct ground *g, long advice);
char *move(struct ground *g, char *from, int flags, char *to);
void protect_all(struct ground *g, long prot);
void lock(struct ground *g, long arg);
/* Dropped by this advice, and another page put there. */
void drop_and_copy(struct ground *g, long advice);
void drop_and_zero(struct ground *g, long advice);
/* The file still has it. */
void drop_and_continue(struct ground *g, long advice);
void write_protect(struct ground *g, long arg);
/* Another page comes in its place. */
void drop_and_move(struct ground *g, long advice);
/* What is pinned does not move. */
void move_pinned(struct ground *g, long arg);
void scan_and_protect(struct ground *g, long arg);

/* Accesses that the compiler must not leave out. */
static inline char look(const char *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline void put(char *at, char val)
{
	__atomic_store_n(at, val, __ATOMIC_RELAXED);
}

#endif /* STALE_H */
