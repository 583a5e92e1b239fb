// SPDX-License-Identifier: GPL-2.0-only
/*
 * What userfaultfd can do to registered memory: see stale.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "stale.h"

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

void drop_and_copy(struct ground *g, long advice)
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

void drop_and_zero(struct ground *g, long advice)
{
	int fd = uffd_open(g, UFFDIO_REGISTER_MODE_MISSING, 0);
	struct uffdio_zeropage zero = { .range = { (unsigned long)g->at, g->unit } };

	advise(g, advice);
	assert_int_equal(ioctl(fd, UFFDIO_ZEROPAGE, &zero), 0);
	close(fd);
}

void drop_and_continue(struct ground *g, long advice)
{
	const __u64 feature = g->way->kind == MEMFD ? UFFD_FEATURE_MINOR_SHMEM :
						      UFFD_FEATURE_MINOR_HUGETLBFS;
	int fd = uffd_open(g, UFFDIO_REGISTER_MODE_MINOR, feature);
	struct uffdio_continue go_on = { .range = { (unsigned long)g->at, g->unit } };

	advise(g, advice);
	assert_int_equal(ioctl(fd, UFFDIO_CONTINUE, &go_on), 0);
	close(fd);
}

void write_protect(struct ground *g, long arg)
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

void drop_and_move(struct ground *g, long advice)
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

void move_pinned(struct ground *g, long arg)
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

void scan_and_protect(struct ground *g, long arg)
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
