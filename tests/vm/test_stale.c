// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process, or the kernel, can do to memory that is registered, a line each: a
 * device that is given it by a later MAP gets the page that the process has there, or
 * the MAP is refused.
 *
 * Which page a device gets is asked by an in-kernel user, which has its frame number.
 *
 * VM: --smp 2 --append memmap=256M!1G
 * VM: --modules zram --modules zsmalloc --modules lz4_compress --modules lz4hc_compress
 * VM: --modules brd --modules ext4 --modules jbd2 --modules mbcache
 * VM: --modules crc16 --modules crc32c_generic
 * VM: --modules nd_e820 --modules libnvdimm --modules device_dax --modules dax_pmem
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

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

/* Accesses that the compiler must not leave out. */
static char look(const char *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void put(char *at, char val)
{
	__atomic_store_n(at, val, __ATOMIC_RELAXED);
}

/* ---- Memory of each kind, aligned to 2 MiB ---- */

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

static void *reserve_aligned(size_t size, size_t align)
{
	char *area = mem_reserve(size + align), *mem;

	mem = (char *)(((unsigned long)area + align - 1) & ~(align - 1));
	munmap(area, mem - area);
	munmap(mem + size, align - (mem - area));
	return mem;
}

static char *place(struct ground *g, int flags, int fd, off_t offset)
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

static void make_memory(struct ground *g, enum kind kind)
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

static void end_memory(struct ground *g)
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

static off_t offset_of(const struct ground *g)
{
	return g->at - g->mem;
}

/* ---- What is done: by name of what does it ---- */

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

static void advise(struct ground *g, long advice)
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

static char *move(struct ground *g, char *from, int flags, char *to)
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

static void protect_all(struct ground *g, long prot)
{
	assert_int_equal(mprotect(g->mem, SIZE, prot), 0);
	assert_int_equal(mprotect(g->mem, SIZE, PROT_READ | PROT_WRITE), 0);
}

static void lock(struct ground *g, long arg)
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

/* ---- userfaultfd ---- */

static int uffd_open(const struct ground *g, __u64 mode, __u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)g->mem, .len = SIZE },
		.mode = mode,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	return fd;
}

/* Dropped by this advice, and another page put there. */
static void drop_and_copy(struct ground *g, long advice)
{
	int fd = uffd_open(g, UFFDIO_REGISTER_MODE_MISSING, 0);
	struct uffdio_copy copy = { .dst = (unsigned long)g->at, .len = g->unit };
	char *from = reserve_aligned(VU_2M, VU_2M);

	assert_int_equal(mprotect(from, VU_2M, PROT_READ | PROT_WRITE), 0);
	memset(from, 5, VU_2M);
	copy.src = (unsigned long)from;
	advise(g, advice);
	assert_int_equal(ioctl(fd, UFFDIO_COPY, &copy), 0);
	munmap(from, VU_2M);
	close(fd);
}

static void drop_and_zero(struct ground *g, long advice)
{
	int fd = uffd_open(g, UFFDIO_REGISTER_MODE_MISSING, 0);
	struct uffdio_zeropage zero = { .range = { (unsigned long)g->at, g->unit } };

	advise(g, advice);
	assert_int_equal(ioctl(fd, UFFDIO_ZEROPAGE, &zero), 0);
	close(fd);
}

/* The file still has it. */
static void drop_and_continue(struct ground *g, long advice)
{
	const __u64 feature = g->way->kind == MEMFD ? UFFD_FEATURE_MINOR_SHMEM :
						      UFFD_FEATURE_MINOR_HUGETLBFS;
	int fd = uffd_open(g, UFFDIO_REGISTER_MODE_MINOR, feature);
	struct uffdio_continue go_on = { .range = { (unsigned long)g->at, g->unit } };

	advise(g, advice);
	assert_int_equal(ioctl(fd, UFFDIO_CONTINUE, &go_on), 0);
	close(fd);
}

static void write_protect(struct ground *g, long arg)
{
	int fd = uffd_open(g, UFFDIO_REGISTER_MODE_WP, 0);
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)g->at, g->unit },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	(void)arg;
	assert_int_equal(ioctl(fd, UFFDIO_WRITEPROTECT, &wp), 0);
	wp.mode = 0;
	assert_int_equal(ioctl(fd, UFFDIO_WRITEPROTECT, &wp), 0);
	close(fd);
}

/* As <linux/userfaultfd.h> of 6.8 has it. */
struct uffd_move {
	__u64 dst, src, len, mode;
	__s64 move;
};

#define UFFD_MOVE	_IOWR(UFFDIO, 0x05, struct uffd_move)
#define FEATURE_MOVE	0x10000

/* Another page comes in its place. */
static void drop_and_move(struct ground *g, long advice)
{
	char *from = mem_pages(1);
	struct uffd_move mv = {
		.dst = (unsigned long)g->at, .src = (unsigned long)from, .len = VU_PAGE,
	};
	int fd;

	fd = uffd_open(g, UFFDIO_REGISTER_MODE_MISSING, FEATURE_MOVE);
	*from = 7;
	advise(g, advice);
	assert_int_equal(ioctl(fd, UFFD_MOVE, &mv), 0);
	munmap(from, VU_PAGE);
	close(fd);
}

/* What is pinned does not move. */
static void move_pinned(struct ground *g, long arg)
{
	char *to = reserve_aligned(VU_2M, VU_2M);
	struct ground there = { .mem = to };
	struct uffd_move mv = {
		.dst = (unsigned long)to, .src = (unsigned long)g->at, .len = VU_PAGE,
	};
	int fd;

	(void)arg;
	munmap(to, VU_2M);
	assert_ptr_equal(mmap(to, SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), to);
	fd = uffd_open(&there, UFFDIO_REGISTER_MODE_MISSING, FEATURE_MOVE);
	assert_int_equal(ioctl(fd, UFFD_MOVE, &mv), -1);
	munmap(to, SIZE);
	close(fd);
}

/* As <linux/fs.h> of 6.7 has it. */
struct scan {
	__u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	__u64 inverted, mask, anyof, returned;
};

#define SCAN		_IOWR('f', 16, struct scan)
#define SCAN_PROTECT	1
#define FEATURE_ASYNC		0x8000
#define FEATURE_UNPOPULATED	0x2000	/* which it needs */

static void scan_and_protect(struct ground *g, long arg)
{
	int uffd, fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct scan scan = {
		.size = sizeof(scan), .flags = SCAN_PROTECT,
		.start = (unsigned long)g->mem, .end = (unsigned long)g->mem + SIZE,
		.mask = 2, .returned = 2,
	};

	(void)arg;
	uffd = uffd_open(g, UFFDIO_REGISTER_MODE_WP, FEATURE_ASYNC | FEATURE_UNPOPULATED);
	assert_true(ioctl(fd, SCAN, &scan) >= 0);
	put(g->at, 9);
	close(fd);
	close(uffd);
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

static const struct way ways[] = {
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

/* What older kernels do not know. */
static const struct {
	unsigned int major, minor;
	struct way way;
} newer_ways[] = {
	{ 6, 13, { "MADV_GUARD_INSTALL", ANON, guard, 0, OTHER } },
	{ 6, 8, { "UFFDIO_MOVE to it", ANON, drop_and_move, MADV_DONTNEED, OTHER } },
	{ 6, 8, { "UFFDIO_MOVE of it", ANON, move_pinned, 0, SAME } },
	{ 6, 7, { "PAGEMAP_SCAN that protects", ANON, scan_and_protect, 0, SAME } },
	{ 6, 7, { "PAGEMAP_SCAN that protects huge pages", THP, scan_and_protect, 0, SAME } },
};

/* What a device gets there, if anything, is what the process has. */
static void check(const struct ground *g, enum answer want, const char *when)
{
	const struct vu_pci *dev = &g->e->emu[0];
	const int container = g->e->f->container;
	const __u32 prot = g->flags ? EMU_PROT_READ : EMU_PROT_RW;
	__u64 pfn;
	int ret;

	ret = vu_map(container, g->at, IOVA, VU_PAGE, g->flags ? VFIO_DMA_MAP_FLAG_READ : RW);
	if (ret && ret != -ESTALE)
		fail_msg("%s: MAP says %s", when, strerror(-ret));
	if (want != EITHER && want != (ret ? OTHER : SAME))
		fail_msg("%s: MAP says %s", when, ret ? "ESTALE" : "0");
	if (ret)
		return;
	assert_ret(emu_pin_at(dev, IOVA, 1, prot, 0, &pfn), 1);
	look(g->at);
	if (pfn != pfn_of(g->at))
		fail_msg("%s: STALE: the device has page frame %#llx, the process %#llx", when,
			 pfn, pfn_of(g->at));
	assert_ok(emu_unpin(dev, IOVA, 1));
	assert_unmaps(container, IOVA, VU_PAGE, VU_PAGE);
}

static void no_stale_page(void **state)
{
	struct ground *g = *state;
	const struct way *way = g->way;
	const int container = g->e->f->container;

	make_memory(g, way->kind);
	assert_ok(vu_register(container, g->mem, SIZE, g->flags));
	check(g, SAME, "before");
	way->change(g, way->arg);
	check(g, way->answer, "after");
	if (!g->lost) {
		if (g->flags)
			look(g->at);
		else
			put(g->at, 4);
		check(g, way->answer, "after the process had a look");
	}
	assert_ok(vu_unregister(container, g->mem, SIZE));
	if (!g->lost) {
		assert_ok(vu_register(container, g->at, VU_PAGE, g->flags));
		check(g, SAME, "registered anew");
		assert_ok(vu_unregister(container, g->at, VU_PAGE));
	}
	end_memory(g);
}

static int setup_way(void **state)
{
	struct ground *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	g->way = *state;
	emu_setup_only(state);
	g->e = *state;
	*state = g;
	return 0;
}

static int teardown_way(void **state)
{
	struct ground *g = *state;

	*state = (void *)g->e;
	free(g);
	return emu_teardown(state);
}

/* ---- Hugetlb memory that shares its page table ---- */

#define SPARSE		(2 * VU_1G)
/* Hugetlb pages from the page that is registered to those that others fault in. */
#define FAR		(VU_1G / VU_2M)
#define FAULTS		40
#define ROUNDS		15

struct sharing {
	char *mem;
	int fd;
	bool go;
};

static char *map_sparse(int fd)
{
	char *mem = reserve_aligned(SPARSE, VU_1G);

	assert_ptr_equal(mmap(mem, SPARSE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0), mem);
	return mem;
}

static void punch_sparse(int fd, off_t offset, size_t size)
{
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size),
			 0);
}

/* As long as a fault takes, nobody else has the lock that a hole wants to have. */
static void *fault_in(void *arg)
{
	struct sharing *s = arg;
	unsigned int i;

	for (i = 0; i < FAULTS; i++) {
		put(s->mem + (FAR + i) * VU_2M, 1);
		__atomic_store_n(&s->go, true, __ATOMIC_RELEASE);
	}
	return NULL;
}

/*
 * A change of access parts the process from a page table that two mappings share, and
 * with it from all pages; a hole in the file then has nobody to tell.
 */
static void shared_page_tables_hide_nothing(void **state)
{
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	struct sharing s = { .fd = memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB |
						MFD_HUGE_2MB) };
	char *other;
	pthread_t thread;
	unsigned int round, refused = 0;

	assert_true(s.fd >= 0);
	assert_int_equal(ftruncate(s.fd, SPARSE), 0);
	s.mem = map_sparse(s.fd);
	other = map_sparse(s.fd);
	for (round = 0; round < ROUNDS; round++) {
		put(other, 1);
		assert_int_equal(look(s.mem), 1);
		assert_ok(vu_register(container, s.mem, VU_2M, 0));
		assert_int_equal(mprotect(s.mem, SPARSE, PROT_READ), 0);
		assert_int_equal(mprotect(s.mem, SPARSE, PROT_READ | PROT_WRITE), 0);
		s.go = false;
		assert_int_equal(pthread_create(&thread, NULL, fault_in, &s), 0);
		while (!__atomic_load_n(&s.go, __ATOMIC_ACQUIRE))
			;
		punch_sparse(s.fd, 0, VU_2M);
		put(s.mem, 2);
		refused += vu_map_rw(container, s.mem, IOVA, VU_2M) == -ESTALE;
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (refused == round)
			assert_unmaps(container, IOVA, VU_2M, VU_2M);
		assert_ok(vu_unregister(container, s.mem, VU_2M));
		punch_sparse(s.fd, 0, SPARSE);
		if (refused == round)
			break;
	}
	munmap(s.mem, SPARSE);
	munmap(other, SPARSE);
	close(s.fd);
	if (refused < ROUNDS)
		fail_msg("round %u: a device was given a page that the process has not got", round);
}

/* Slots with a mark, of the only region of the only container. */
static unsigned long count_marked(void)
{
	unsigned long marked;
	char line[256], *at;
	glob_t found;
	FILE *file;

	assert_int_equal(glob("/sys/kernel/debug/vfio_type1/*/regions", 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	file = fopen(found.gl_pathv[0], "re");
	assert_non_null(file);
	assert_non_null(fgets(line, sizeof(line), file));
	at = strstr(line, " marked ");
	assert_non_null(at);
	marked = strtoul(at + strlen(" marked "), NULL, 10);
	assert_null(fgets(line, sizeof(line), file));
	fclose(file);
	globfree(&found);
	return marked;
}

/* Hugetlb memory is looked at after a change of access, all other memory need not be. */
static void change_of_access_marks_hugetlb_memory(void **state)
{
	static const enum kind kinds[] = { HUGE, HUGE_SHARED, ANON, THP, MEMFD };
	const struct emu_fixture *e = *state;
	const int container = e->f->container;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		const bool huge = kinds[i] == HUGE || kinds[i] == HUGE_SHARED;
		struct ground g = { .e = e };

		at_step("kind %u", kinds[i]);
		make_memory(&g, kinds[i]);
		assert_ok(vu_register(container, g.mem, SIZE, 0));
		check(&g, SAME, "before");
		assert_int_equal(count_marked(), 0);
		protect_all(&g, PROT_READ);
		assert_int_equal(count_marked(), huge ? 2 : 0);
		assert_ok(vu_map_rw(container, g.mem, IOVA, SIZE));
		assert_int_equal(count_marked(), 0);
		assert_unmaps(container, IOVA, SIZE, SIZE);
		check(&g, SAME, "after");
		assert_ok(vu_unregister(container, g.mem, SIZE));
		end_memory(&g);
	}
}

static void swap_on_zram(void)
{
	char size[32];

	assert_int_equal(system("modprobe zram"), 0);
	snprintf(size, sizeof(size), "%lu", SWAP_BYTES);
	assert_ok(vu_write_file("/sys/block/zram0/disksize", size));
	assert_int_equal(system("mkswap /dev/zram0 >/dev/null"), 0);
	assert_int_equal(swapon("/dev/zram0", 0), 0);
}

static int group_setup(void **state)
{
	(void)state;
	swap_on_zram();
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	return swapoff("/dev/zram0");
}

static struct CMUnitTest test_of(const struct way *way)
{
	return (struct CMUnitTest) {
		.name = way->name, .test_func = no_stale_page,
		.setup_func = setup_way, .teardown_func = teardown_way,
		.initial_state = (void *)way,
	};
}

int main(void)
{
	struct CMUnitTest tests[2 + ARRAY_SIZE(ways) + ARRAY_SIZE(newer_ways)] = {
		TEST_EMU(change_of_access_marks_hugetlb_memory),
		TEST_EMU(shared_page_tables_hide_nothing),
	};
	unsigned int i, n = 2;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		tests[n++] = test_of(&ways[i]);
	/* A test without a function is none. */
	for (i = 0; i < ARRAY_SIZE(newer_ways); i++)
		if (kernel_at_least(newer_ways[i].major, newer_ways[i].minor))
			tests[n++] = test_of(&newer_ways[i].way);
	return cmocka_run_group_tests_name("stale", tests, group_setup, group_teardown);
}
