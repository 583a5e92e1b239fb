// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process, or the kernel, can do to memory that is registered: see stale.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "stale.h"

static unsigned long read_from(const char *path)
{
	unsigned long val;
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &val), 1);
	fclose(f);
	return val;
}

static void nothing(struct ground *g, long arg)
{
	(void)g;
	(void)arg;
}

void advise(struct ground *g, long advice)
{
	assert_int_equal(madvise(g->at, g->unit, advice), 0);
}

/* Of what is pinned the kernel may say that it can't. */
static void ask_for(struct ground *g, long advice)
{
	madvise(g->at, g->unit, advice);
}

static void ask_for_all(struct ground *g, long advice)
{
	madvise(g->mem, SIZE, advice);
}

static void survive(int sig)
{
	(void)sig;
}

/* Who asks for it is told by a signal, too, since 6.11. */
static void poison(struct ground *g, long advice)
{
	const struct sigaction action = { .sa_handler = survive };
	struct sigaction old;

	assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
	ask_for(g, advice);
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
	g->lost = true;
}

static void guard(struct ground *g, long arg)
{
	(void)arg;
	advise(g, MADV_GUARD_INSTALL);
	advise(g, MADV_GUARD_REMOVE);
}

static void page_out_and_swap_off(struct ground *g, long arg)
{
	(void)arg;
	ask_for_all(g, MADV_PAGEOUT);
	assert_int_equal(swapoff("/dev/zram0"), 0);
	assert_int_equal(swapon("/dev/zram0", 0), 0);
}

static void merge(struct ground *g, long arg)
{
	static const char run[] = "/sys/kernel/mm/ksm/run";
	static const char scans[] = "/sys/kernel/mm/ksm/full_scans";
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;
	unsigned long before;

	(void)arg;
	/* All that it has are the same but for the first bytes. */
	memset(g->mem, 1, SIZE);
	assert_int_equal(madvise(g->mem, SIZE, MADV_MERGEABLE), 0);
	assert_ok(vu_write_file("/sys/kernel/mm/ksm/sleep_millisecs", "1"));
	assert_ok(vu_write_file("/sys/kernel/mm/ksm/pages_to_scan", "4096"));
	assert_ok(vu_write_file(run, "1"));
	before = read_from(scans);
	while (read_from(scans) < before + 3 && vu_now() < deadline)
		usleep(10000);
	assert_true(read_from(scans) >= before + 3);
	assert_ok(vu_write_file(run, "0"));
	assert_int_equal(madvise(g->mem, SIZE, MADV_UNMERGEABLE), 0);
}

static void compact(struct ground *g, long arg)
{
	(void)g;
	(void)arg;
	assert_ok(vu_write_file("/proc/sys/vm/compact_memory", "1"));
}

static void drop_all_caches(struct ground *g, long arg)
{
	(void)g;
	(void)arg;
	assert_ok(vu_write_file("/proc/sys/vm/drop_caches", "3"));
}

static void clear_bits(struct ground *g, long what)
{
	const char text[] = { '0' + what, '\0' };

	(void)g;
	assert_ok(vu_write_file("/proc/self/clear_refs", text));
}

static void bind_to_node(struct ground *g, long flags)
{
	unsigned long nodes = 1;

	syscall(SYS_mbind, g->at, g->unit, MPOL_BIND, &nodes, 8 * sizeof(nodes), flags);
}

static void unmap(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(munmap(g->at, g->unit), 0);
	g->lost = true;
}

/* Something is mapped over it: arg says from where in the file, or -1: anonymous memory. */
static void map_over(struct ground *g, long offset)
{
	const int flags = offset < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	assert_ptr_equal(mmap(g->at, g->unit, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
			      offset < 0 ? -1 : g->fd, offset < 0 ? 0 : offset_of(g) + offset),
			 g->at);
}

static void unmap_and_map(struct ground *g, long offset)
{
	assert_int_equal(munmap(g->at, g->unit), 0);
	map_over(g, offset);
}

static void remap_file(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(remap_file_pages(g->at, g->unit, 0, (offset_of(g) + SIZE) / VU_PAGE, 0),
			 0);
}

char *move(struct ground *g, char *from, int flags, char *to)
{
	char *mem = mremap(from, g->unit, g->unit, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to);

	assert_ptr_equal(mem, to);
	return mem;
}

static void move_away(struct ground *g, long flags)
{
	g->extra = reserve_aligned(SIZE, VU_2M);
	move(g, g->at, flags, g->extra);
	g->lost = !flags;
}

static void move_and_back(struct ground *g, long arg)
{
	(void)arg;
	move_away(g, 0);
	move(g, g->extra, 0, g->at);
	g->lost = false;
}

/* Its neighbour comes in its place. */
static void move_over(struct ground *g, long arg)
{
	(void)arg;
	move(g, g->mem, 0, g->at);
}

static void move_all_and_back(struct ground *g, long arg)
{
	(void)arg;
	g->extra = reserve_aligned(SIZE, VU_2M);
	assert_ptr_equal(mremap(g->mem, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, g->extra),
			 g->extra);
	assert_ptr_equal(mremap(g->extra, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, g->mem),
			 g->mem);
}

static void show_twice(struct ground *g, long arg)
{
	(void)arg;
	g->extra = reserve_aligned(SIZE, VU_2M);
	assert_ptr_equal(mremap(g->mem, 0, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, g->extra),
			 g->extra);
	memset(g->extra, 2, SIZE);
}

static void shrink(struct ground *g, long arg)
{
	(void)arg;
	assert_ptr_equal(mremap(g->mem, SIZE, g->at - g->mem, 0), g->mem);
	g->lost = true;
}

static void protect(struct ground *g, long prot)
{
	assert_int_equal(mprotect(g->at, g->unit, prot), 0);
	assert_int_equal(mprotect(g->at, g->unit, PROT_READ | PROT_WRITE), 0);
}

void protect_all(struct ground *g, long prot)
{
	assert_int_equal(mprotect(g->mem, SIZE, prot), 0);
	assert_int_equal(mprotect(g->mem, SIZE, PROT_READ | PROT_WRITE), 0);
}

void lock(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(mlock(g->at, g->unit), 0);
	assert_int_equal(munlock(g->at, g->unit), 0);
}

static void lock_and_advise(struct ground *g, long advice)
{
	assert_int_equal(mlock(g->at, g->unit), 0);
	advise(g, advice);
}

static void lock_everything(struct ground *g, long arg)
{
	(void)g;
	(void)arg;
	assert_int_equal(mlockall(MCL_CURRENT), 0);
}

static void punch(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(fallocate(g->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   offset_of(g), g->unit), 0);
}

/* Where the file is cut, counted from the page; it gets its size back. */
static void cut(struct ground *g, long where)
{
	assert_int_equal(ftruncate(g->fd, offset_of(g) + where), 0);
	assert_int_equal(ftruncate(g->fd, 2 * SIZE), 0);
}

static void cut_off(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(ftruncate(g->fd, offset_of(g)), 0);
	g->lost = true;
}

static void write_file(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(pwrite(g->fd, "test", 4, offset_of(g)), 4);
}

static void write_page(struct ground *g, long arg)
{
	(void)arg;
	put(g->at, 1);
}

/* As a debugger does, who alone may on every kernel write to what is read-only. */
static void poke_parent(void *arg)
{
	const unsigned long at = (unsigned long)arg;
	const pid_t parent = getppid();
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", parent);
	fd = open(path, O_RDWR | O_CLOEXEC);
	child_check(fd >= 0);
	child_check(!ptrace(PTRACE_ATTACH, parent, NULL, NULL));
	child_check(waitpid(parent, NULL, 0) == parent);
	child_check(pwrite(fd, "test", 4, at) == 4);
	child_check(!ptrace(PTRACE_DETACH, parent, NULL, NULL));
}

static void write_by_debugger(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(mprotect(g->at, g->unit, PROT_READ), 0);
	in_child(poke_parent, g->at);
	assert_int_equal(mprotect(g->at, g->unit, PROT_READ | PROT_WRITE), 0);
}

static void write_by_other(struct ground *g, long arg)
{
	char text[] = "test";
	struct iovec from = { text, 4 }, to = { g->at, 4 };

	(void)arg;
	assert_int_equal(process_vm_writev(getpid(), &from, 1, &to, 1, 0), 4);
}

enum { PARENT = 1, CHILD = 2, VFORK = 4 };

/* Who writes to the page after a fork(), and before the child's end. */
static void fork_and_write(struct ground *g, long who)
{
	int go[2], status;
	char byte = 0;
	pid_t child;

	assert_int_equal(pipe(go), 0);
	child = who & VFORK ? vfork() : fork();
	assert_true(child >= 0);
	if (!child) {
		if (who & CHILD)
			put(g->at, 2);
		if (!(who & VFORK) && read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(0);
	}
	if (who & PARENT)
		put(g->at, 3);
	assert_int_equal(write(go[1], &byte, 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(go[0]);
	close(go[1]);
}

static void fork_with_advice(struct ground *g, long advice)
{
	advise(g, advice);
	fork_and_write(g, PARENT);
}

/* ---- System V and the heap ---- */

static void attach_again(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(shmdt(g->mem), 0);
	assert_ptr_equal(shmat(g->shm, g->mem, 0), g->mem);
}

static void attach_other(struct ground *g, long arg)
{
	int shm = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);

	(void)arg;
	assert_true(shm >= 0);
	assert_int_equal(shmdt(g->mem), 0);
	assert_ptr_equal(shmat(shm, g->mem, 0), g->mem);
	shmctl(shm, IPC_RMID, NULL);
}

static void end_heap_and_go_on(struct ground *g, long arg)
{
	(void)arg;
	assert_int_equal(brk(g->at), 0);
	assert_int_equal(brk(g->mem + SIZE), 0);
}

/* ---- The table ---- */

const struct way ways[] = {
	{ "nothing", ANON, nothing, 0, SAME },
	{ "MADV_DONTNEED", ANON, advise, MADV_DONTNEED, OTHER },
	{ "MADV_DONTNEED of a part of a huge page", THP, advise, MADV_DONTNEED, OTHER },
	{ "MADV_DONTNEED of hugetlb memory", HUGE, advise, MADV_DONTNEED, OTHER },
	{ "MADV_DONTNEED of shared hugetlb memory", HUGE_SHARED, advise, MADV_DONTNEED, SAME },
	{ "MADV_DONTNEED of a memfd", MEMFD, advise, MADV_DONTNEED, SAME },
	{ "MADV_DONTNEED of a private file", MEMFD_COPY, advise, MADV_DONTNEED, OTHER },
	{ "MADV_DONTNEED of the zero page", ZERO, advise, MADV_DONTNEED, EITHER },
	{ "MADV_DONTNEED of locked memory", ANON, lock_and_advise, MADV_DONTNEED_LOCKED, OTHER },
	{ "MADV_FREE", ANON, advise, MADV_FREE, SAME },
	{ "MADV_FREE of a part of a huge page", THP, advise, MADV_FREE, SAME },
	{ "MADV_COLD", ANON, advise, MADV_COLD, SAME },
	{ "MADV_PAGEOUT", ANON, ask_for_all, MADV_PAGEOUT, SAME },
	{ "MADV_PAGEOUT of huge pages", THP, ask_for_all, MADV_PAGEOUT, SAME },
	{ "MADV_PAGEOUT of a memfd", MEMFD, ask_for_all, MADV_PAGEOUT, SAME },
	{ "MADV_PAGEOUT, and swapoff", ANON, page_out_and_swap_off, 0, SAME },
	{ "MADV_REMOVE", MEMFD, advise, MADV_REMOVE, OTHER },
	{ "MADV_REMOVE of hugetlb memory", HUGE_SHARED, advise, MADV_REMOVE, OTHER },
	{ "MADV_COLLAPSE", ANON, ask_for_all, MADV_COLLAPSE, SAME },
	{ "MADV_COLLAPSE of a memfd", MEMFD, ask_for_all, MADV_COLLAPSE, SAME },
	{ "MADV_MERGEABLE", ANON, merge, 0, SAME },
	{ "MADV_WILLNEED", MEMFD, advise, MADV_WILLNEED, SAME },
	{ "MADV_POPULATE_WRITE", ANON, advise, MADV_POPULATE_WRITE, SAME },
	{ "MADV_NOHUGEPAGE", THP, advise, MADV_NOHUGEPAGE, SAME },
	{ "MADV_DONTFORK", ANON, fork_with_advice, MADV_DONTFORK, SAME },
	{ "MADV_WIPEONFORK", ANON, fork_with_advice, MADV_WIPEONFORK, SAME },
	{ "MADV_SOFT_OFFLINE", ANON, ask_for, MADV_SOFT_OFFLINE, SAME },
	{ "MADV_HWPOISON", ANON, poison, MADV_HWPOISON, OTHER },
	{ "MADV_HWPOISON of a memfd", MEMFD, poison, MADV_HWPOISON, OTHER },
	{ "munmap()", ANON, unmap, 0, OTHER },
	{ "munmap() of hugetlb memory", HUGE_SHARED, unmap, 0, OTHER },
	{ "munmap(), and mmap()", ANON, unmap_and_map, -1, OTHER },
	{ "munmap(), and mmap() of the same file", MEMFD, unmap_and_map, 0, SAME },
	{ "MAP_FIXED", ANON, map_over, -1, OTHER },
	{ "MAP_FIXED over a part of a huge page", THP, map_over, -1, OTHER },
	{ "MAP_FIXED of the same page", MEMFD, map_over, 0, SAME },
	{ "MAP_FIXED of another page of the file", MEMFD, map_over, SIZE, OTHER },
	{ "MAP_FIXED of the same hugetlb page", HUGE_SHARED, map_over, 0, SAME },
	{ "MAP_FIXED of another hugetlb page", HUGE_SHARED, map_over, SIZE, OTHER },
	{ "remap_file_pages()", MEMFD, remap_file, 0, OTHER },
	{ "mremap() away", ANON, move_away, 0, OTHER },
	{ "mremap() away of a part of a huge page", THP, move_away, 0, OTHER },
	{ "mremap() away of a hugetlb page", HUGE, move_away, 0, OTHER },
	{ "mremap() away, the area stays", ANON, move_away, MREMAP_DONTUNMAP, OTHER },
	{ "mremap() away and back", ANON, move_and_back, 0, SAME },
	{ "mremap() of huge pages away and back", THP, move_all_and_back, 0, SAME },
	{ "mremap() of hugetlb pages away and back", HUGE_SHARED, move_all_and_back, 0, SAME },
	{ "mremap() over it", ANON, move_over, 0, OTHER },
	{ "mremap() over a hugetlb page", HUGE, move_over, 0, OTHER },
	{ "mremap() of a shared area to a second place", MEMFD, show_twice, 0, SAME },
	{ "mremap() to a smaller size", ANON, shrink, 0, OTHER },
	{ "mprotect() to PROT_READ and back", ANON, protect, PROT_READ, SAME },
	{ "mprotect() to PROT_NONE and back", ANON, protect, PROT_NONE, SAME },
	{ "mprotect() of a part of a huge page", THP, protect, PROT_NONE, SAME },
	{ "mprotect() of a memfd", MEMFD, protect_all, PROT_NONE, SAME },
	{ "mprotect() of hugetlb memory", HUGE, protect_all, PROT_READ, SAME },
	{ "mprotect() of shared hugetlb memory", HUGE_SHARED, protect_all, PROT_READ, SAME },
	{ "mlock() and munlock()", ANON, lock, 0, SAME },
	{ "mlockall()", THP, lock_everything, 0, SAME },
	{ "mbind() to another place", ANON, bind_to_node, MPOL_MF_MOVE, SAME },
	{ "a hole", MEMFD, punch, 0, OTHER },
	{ "a hole in hugetlb memory", HUGE_SHARED, punch, 0, OTHER },
	{ "a hole in a file behind a copy", MEMFD_COPY, punch, 0, SAME },
	{ "a hole in a file that was read", MEMFD_READ, punch, 0, EITHER },
	{ "ftruncate() before it, and more again", MEMFD, cut, 0, OTHER },
	{ "ftruncate() before a hugetlb page, and more again", HUGE_SHARED, cut, 0, OTHER },
	{ "ftruncate() before a copy, and more again", MEMFD_COPY, cut, 0, OTHER },
	{ "ftruncate() in the middle, and more again", MEMFD, cut, 100, SAME },
	{ "ftruncate() behind it, and more again", MEMFD, cut, VU_PAGE, SAME },
	{ "ftruncate() before it", MEMFD, cut_off, 0, OTHER },
	{ "write() to the file", MEMFD, write_file, 0, SAME },
	{ "write() to the file behind a copy", MEMFD_COPY, write_file, 0, SAME },
	{ "a write to a page of a file that was read", MEMFD_READ, write_page, 0, EITHER },
	{ "a write to the zero page", ZERO, write_page, 0, EITHER },
	{ "a write to the huge zero page", ZERO_THP, write_page, 0, EITHER },
	{ "/proc/pid/mem", ANON, write_by_debugger, 0, SAME },
	{ "process_vm_writev()", MEMFD_COPY, write_by_other, 0, SAME },
	{ "fork()", ANON, fork_and_write, 0, SAME },
	{ "fork(), the parent writes", ANON, fork_and_write, PARENT, SAME },
	{ "fork(), the child writes", ANON, fork_and_write, CHILD, SAME },
	{ "fork(), both write", ANON, fork_and_write, PARENT | CHILD, SAME },
	{ "fork(), both write to a huge page", THP, fork_and_write, PARENT | CHILD, SAME },
	{ "fork(), both write to a hugetlb page", HUGE, fork_and_write, PARENT | CHILD, SAME },
	{ "fork(), both write to shared memory", MEMFD, fork_and_write, PARENT | CHILD, SAME },
	{ "fork(), both write to a copy", MEMFD_COPY, fork_and_write, PARENT | CHILD, SAME },
	{ "fork(), the parent writes to a zero page", ZERO, fork_and_write, PARENT, EITHER },
	{ "vfork()", ANON, fork_and_write, VFORK | CHILD, SAME },
	{ "UFFDIO_COPY", ANON, drop_and_copy, MADV_DONTNEED, OTHER },
	{ "UFFDIO_COPY to a hole", MEMFD, drop_and_copy, MADV_REMOVE, OTHER },
	{ "UFFDIO_COPY to a hugetlb hole", HUGE_SHARED, drop_and_copy, MADV_REMOVE, OTHER },
	{ "UFFDIO_ZEROPAGE", ANON, drop_and_zero, MADV_DONTNEED, OTHER },
	{ "UFFDIO_CONTINUE", MEMFD, drop_and_continue, MADV_DONTNEED, SAME },
	{ "UFFDIO_CONTINUE, hugetlb page", HUGE_SHARED, drop_and_continue, MADV_DONTNEED, SAME },
	{ "UFFDIO_WRITEPROTECT", ANON, write_protect, 0, SAME },
	{ "UFFDIO_WRITEPROTECT of huge pages", THP, write_protect, 0, SAME },
	{ "/proc/self/clear_refs: referenced", ANON, clear_bits, 1, SAME },
	{ "/proc/self/clear_refs: soft-dirty", ANON, clear_bits, 4, SAME },
	{ "compaction", ANON, compact, 0, SAME },
	{ "drop_caches", MEMFD, drop_all_caches, 0, SAME },
	{ "shmdt() and shmat()", SHM, attach_again, 0, SAME },
	{ "shmdt() and shmat() of another segment", SHM, attach_other, 0, OTHER },
	{ "brk() down and up", HEAP, end_heap_and_go_on, 0, OTHER },
};

const unsigned int nr_ways = ARRAY_SIZE(ways);

const struct newer_way newer_ways[] = {
	{ 6, 13, { "MADV_GUARD_INSTALL", ANON, guard, 0, OTHER } },
	{ 6, 8, { "UFFDIO_MOVE to it", ANON, drop_and_move, MADV_DONTNEED, OTHER } },
	{ 6, 8, { "UFFDIO_MOVE of it", ANON, move_pinned, 0, SAME } },
	{ 6, 7, { "PAGEMAP_SCAN that protects", ANON, scan_and_protect, 0, SAME } },
	{ 6, 7, { "PAGEMAP_SCAN that protects huge pages", THP, scan_and_protect, 0, SAME } },
};

const unsigned int nr_newer_ways = ARRAY_SIZE(newer_ways);
