// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of each kind, aligned to 2 MiB: see stale.h.
 */
#define _GNU_SOURCE
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "stale.h"

void *reserve_aligned(size_t size, size_t align)
{
	char *area = mem_reserve(size + align), *mem;

	mem = (char *)(((unsigned long)area + align - 1) & ~(align - 1));
	munmap(area, mem - area);
	munmap(mem + size, align - (mem - area));
	return mem;
}

char *place(struct ground *g, int flags, int fd, off_t offset)
{
	char *mem = mmap(g->mem, SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, offset);

	assert_ptr_equal(mem, g->mem);
	return mem;
}

static void touch_all(struct ground *g, bool write)
{
	size_t i;

	for (i = 0; i < SIZE; i += VU_PAGE) {
		if (write)
			put(g->mem + i, i / VU_PAGE);
		else
			look(g->mem + i);
	}
}

static void make_file(struct ground *g, unsigned int memfd_flags, int map_flags)
{
	g->fd = memfd_create("test", MFD_CLOEXEC | memfd_flags);
	assert_true(g->fd >= 0);
	/* The second half is for those who want another page. */
	assert_int_equal(ftruncate(g->fd, 2 * SIZE), 0);
	place(g, map_flags, g->fd, 0);
}

static void make_heap(struct ground *g)
{
	char *end = sbrk(0), *mem;

	mem = (char *)(((unsigned long)end + VU_2M - 1) & ~(VU_2M - 1));
	assert_int_equal(brk(mem + SIZE), 0);
	munmap(g->mem, SIZE);
	g->mem = mem;
}

void make_memory(struct ground *g, enum kind kind)
{
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS;

	g->fd = -1;
	g->shm = -1;
	g->mem = reserve_aligned(SIZE, VU_2M);
	g->unit = kind == HUGE || kind == HUGE_SHARED ? VU_2M : VU_PAGE;
	switch (kind) {
	case ANON:
	case ZERO:
		place(g, anon, -1, 0);
		assert_int_equal(madvise(g->mem, SIZE, MADV_NOHUGEPAGE), 0);
		break;
	case THP:
	case ZERO_THP:
		place(g, anon, -1, 0);
		assert_int_equal(madvise(g->mem, SIZE, MADV_HUGEPAGE), 0);
		break;
	case HUGE:
		place(g, anon | MAP_HUGETLB, -1, 0);
		break;
	case HUGE_SHARED:
		make_file(g, MFD_HUGETLB | MFD_HUGE_2MB, MAP_SHARED);
		break;
	case MEMFD:
		make_file(g, 0, MAP_SHARED);
		break;
	case MEMFD_COPY:
	case MEMFD_READ:
		make_file(g, 0, MAP_PRIVATE);
		break;
	case SHM:
		g->shm = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
		assert_true(g->shm >= 0);
		assert_ptr_equal(shmat(g->shm, g->mem, SHM_REMAP), g->mem);
		break;
	case HEAP:
		make_heap(g);
	}
	if (kind == ZERO || kind == ZERO_THP || kind == MEMFD_READ)
		g->flags = RO;
	touch_all(g, !g->flags);
	g->at = g->mem + VU_2M + (g->unit == VU_PAGE ? 7 * VU_PAGE : 0);
}

void end_memory(struct ground *g)
{
	munlockall();
	munmap(g->mem, SIZE);
	if (g->extra)
		munmap(g->extra, SIZE);
	if (g->fd >= 0)
		close(g->fd);
	if (g->shm >= 0)
		shmctl(g->shm, IPC_RMID, NULL);
}

off_t offset_of(const struct ground *g)
{
	return g->at - g->mem;
}
