// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of all kinds, and what it costs a cgroup, for the cmocka programs: see testlib.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>

#include "testlib.h"

/* ---- Memory ---- */

static void *mem_backed(enum vu_backing backing, size_t size)
{
	void *mem = vu_alloc(backing, size);

	if (!mem)
		fail_msg("no memory of kind %d: %s", backing, strerror(errno));
	return mem;
}

static void *mem_mmap(size_t size, int prot, int flags, int fd)
{
	void *mem = mmap(NULL, size, prot, flags, fd, 0);

	if (mem == MAP_FAILED)
		fail_msg("mmap: %s", strerror(errno));
	return mem;
}

static void *mem_fd_open(int fd, size_t size)
{
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return mem_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd);
}

/* The file's only user is the mapping that it returns. */
static void *mem_fd(int fd, size_t size)
{
	void *mem = mem_fd_open(fd, size);

	close(fd);
	return mem;
}

void *mem_scattered(size_t size)
{
	return mem_backed(VU_SCATTERED, size);
}

void *mem_sequential(size_t size)
{
	char *mem = mem_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	assert_int_equal(madvise(mem, size, MADV_NOHUGEPAGE), 0);
	assert_int_equal(madvise(mem, size, MADV_POPULATE_WRITE), 0);
	return mem;
}

void *mem_pages(size_t npages)
{
	return mem_sequential(npages * VU_PAGE);
}

void *mem_thp(size_t size)
{
	return mem_backed(VU_THP, size);
}

void *mem_hugetlb(size_t size)
{
	return mem_backed(VU_HUGETLB, size);
}

void *mem_hugetlb_shared(size_t size)
{
	return mem_fd(memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB), size);
}

void *mem_memfd(size_t size)
{
	return mem_fd(memfd_create("test", MFD_CLOEXEC), size);
}

char *mem_huge_runs(unsigned int nr)
{
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	char *mem = mem_reserve((nr + 1) * VU_2M), *at;
	struct vu_layout layout;
	unsigned int i;

	mem = (char *)(((uintptr_t)mem + VU_2M - 1) & ~(VU_2M - 1));
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 2 * nr * VU_2M), 0);
	/* One after the other is how they come out of the pool. */
	at = mmap(NULL, 2 * nr * VU_2M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	for (i = 0; i < nr; i++)
		assert_ptr_not_equal(mmap(mem + i * VU_2M, VU_2M, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 2 * i * VU_2M),
				     MAP_FAILED);
	munmap(at, 2 * nr * VU_2M);
	close(fd);
	assert_ok(vu_layout(mem, nr * VU_2M, 0, &layout));
	assert_true(nr == 1 || layout.nruns > 1);
	return mem;
}

void *mem_memfd_open(size_t size, int *fd)
{
	*fd = memfd_create("test", MFD_CLOEXEC);
	return mem_fd_open(*fd, size);
}

void *mem_file(size_t size)
{
	char path[] = "/tmp/test.XXXXXX";
	int fd = mkstemp(path);

	unlink(path);
	return mem_fd(fd, size);
}

void *mem_reserve(size_t size)
{
	return mem_mmap(size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

const struct backing backings[NBACKINGS] = {
	{ "scattered 4K", mem_scattered },
	{ "sequential 4K", mem_sequential },
	{ "transparent huge pages", mem_thp },
	{ "2M hugetlb", mem_hugetlb },
	{ "2M hugetlb, shared", mem_hugetlb_shared },
	{ "memfd", mem_memfd },
	{ "file", mem_file },
};

bool late_begin(struct late *late, void *mem, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (unsigned long)mem, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	*late = (struct late) {
		.mem = mem, .size = size, .uffd = syscall(SYS_userfaultfd, O_CLOEXEC),
	};
	return late->uffd >= 0 && !ioctl(late->uffd, UFFDIO_API, &api) &&
	       !ioctl(late->uffd, UFFDIO_REGISTER, &reg);
}

bool late_wait(const struct late *late)
{
	struct pollfd poll_fd = { .fd = late->uffd, .events = POLLIN };
	struct uffd_msg msg;

	return poll(&poll_fd, 1, TEST_TIMEOUT * 1000) == 1 &&
	       read(late->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
	       msg.event == UFFD_EVENT_PAGEFAULT;
}

void late_come(const struct late *late, size_t offset, size_t size)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (unsigned long)late->mem + offset, .len = size },
	};

	assert_int_equal(ioctl(late->uffd, UFFDIO_ZEROPAGE, &zero), 0);
}

void late_end(struct late *late)
{
	close(late->uffd);
	vu_free(late->mem, late->size);
}

#define CGROUPS		"/tmp/cgroup2"
#define CGROUP		CGROUPS "/test"

void cgroup_begin(const char *max)
{
	assert_int_equal(mkdir(CGROUPS, 0755), 0);
	assert_int_equal(mount("cgroup2", CGROUPS, "cgroup2", 0, NULL), 0);
	assert_ok(vu_write_file(CGROUPS "/cgroup.subtree_control", "+memory"));
	assert_int_equal(mkdir(CGROUP, 0755), 0);
	if (max)
		assert_ok(vu_write_file(CGROUP "/memory.max", max));
}

void cgroup_end(void)
{
	assert_int_equal(rmdir(CGROUP), 0);
	assert_int_equal(umount(CGROUPS), 0);
	assert_int_equal(rmdir(CGROUPS), 0);
}

void cgroup_enter(void)
{
	child_check(!vu_write_file(CGROUP "/cgroup.procs", "0"));
}

long cgroup_kernel(void)
{
	/* Since 6.8 it is added up only if much has changed. */
	void *mem = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	char line[128];
	long bytes = -1;
	FILE *file;

	child_check(mem != MAP_FAILED);
	munmap(mem, 16 * MIB);
	file = fopen(CGROUP "/memory.stat", "re");
	child_check(file);
	while (bytes < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "kernel %ld", &bytes) != 1)
			bytes = -1;
	fclose(file);
	child_check(bytes >= 0);
	return bytes;
}
