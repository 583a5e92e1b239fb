// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private memory that a device only reads: it sees what the process writes, also if the
 * process has written nothing when it is mapped, whoever pins it. Since 6.2 the kernel sees
 * to that; before, this module does.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define BUF		(6 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		4U
#define SIZE		PAGES(NPAGES)
#define READ		VFIO_DMA_MAP_FLAG_READ

static void intree_shares(void)
{
	if (!kernel_at_least(6, 2))
		not_on_intree("gives the device the zero page, or the file's");
}

/* A file in memory, with a pattern by seed; the descriptor is closed with close(). */
static int file_of(unsigned int seed)
{
	int fd = memfd_create("private", MFD_CLOEXEC);
	char *all;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	all = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(all, MAP_FAILED);
	pattern_fill(all, SIZE, seed);
	munmap(all, SIZE);
	return fd;
}

/* The device finds in page nr what the process has there, by way of a buffer at BUF. */
static void assert_device_reads(const struct fixture *f, const char *mem, unsigned int nr,
				char *buf)
{
	memset(buf, 0x5a, VU_PAGE);
	assert_ok(vu_edu_copy(&f->edu[0], BUF, BASE + PAGES(nr), VU_EDU_MAX));
	at_step("page %u", nr);
	assert_memory_equal(buf, mem + PAGES(nr), VU_EDU_MAX);
}

/* Every other page is written after it was mapped; mem may be written by now. */
static void write_and_read(const struct fixture *f, char *mem)
{
	char *buf = mem_pages(1);
	unsigned int i;

	assert_ok(vu_map_rw(f->container, buf, BUF, PAGES(1)));
	for (i = 0; i < NPAGES; i += 2)
		memset(mem + PAGES(i), 0xa5 + i, VU_PAGE);
	for (i = 0; i < NPAGES; i++)
		assert_device_reads(f, mem, i, buf);
	assert_unmaps(f->container, BUF, PAGES(1), PAGES(1));
	vu_free(buf, PAGES(1));
}

static void map_write_read_unmap(const struct fixture *f, char *mem, bool protected)
{
	assert_ok(vu_map(f->container, mem, BASE, SIZE, READ));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	if (protected)
		assert_int_equal(mprotect(mem, SIZE, PROT_READ | PROT_WRITE), 0);
	write_and_read(f, mem);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_nothing_held(f);
}

/* ---- MAP ---- */

static void untouched_anonymous_memory(void **state)
{
	const struct emu_fixture *e = *state;
	unsigned int protected;
	char *mem;

	intree_shares();
	for (protected = 0; protected < 2; protected++) {
		at_step("protected %u", protected);
		mem = mmap(NULL, SIZE, protected ? PROT_READ : PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(mem, MAP_FAILED);
		map_write_read_unmap(e->f, mem, protected);
		munmap(mem, SIZE);
	}
}

static void a_private_file_that_was_read(void **state)
{
	const struct emu_fixture *e = *state;
	unsigned int seed = pattern_new_seed(), protected;
	int fd = file_of(seed);
	char *mem, *file;

	intree_shares();
	for (protected = 0; protected < 2; protected++) {
		at_step("protected %u", protected);
		mem = mmap(NULL, SIZE, protected ? PROT_READ : PROT_READ | PROT_WRITE,
			   MAP_PRIVATE, fd, 0);
		assert_ptr_not_equal(mem, MAP_FAILED);
		assert_true(pattern_matches(mem, SIZE, seed));
		map_write_read_unmap(e->f, mem, protected);
		munmap(mem, SIZE);
	}
	/* Nobody has written to the file. */
	file = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(file, MAP_FAILED);
	assert_true(pattern_matches(file, SIZE, seed));
	munmap(file, SIZE);
	close(fd);
}

/* Of what is shared the device reads the file's own pages, also where it may not be written. */
static void a_shared_file_stays_shared(void **state)
{
	const struct emu_fixture *e = *state;
	int fd = file_of(pattern_new_seed());
	char *mem, *file;
	unsigned int i;

	file = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(file, MAP_FAILED);
	mem = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_ok(vu_map(e->f->container, mem, BASE, SIZE, READ));
	write_and_read(e->f, file);
	for (i = 0; i < NPAGES; i++)
		assert_int_equal(pfn_of(mem + PAGES(i)), pfn_of(file + PAGES(i)));
	assert_unmaps(e->f->container, BASE, SIZE, SIZE);
	munmap(mem, SIZE);
	munmap(file, SIZE);
	close(fd);
}

/* A mapping of several areas, of which some are private, and one is a huge page. */
static void areas_of_many_kinds_in_a_row(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_reserve(3 * VU_2M), *at, *huge;
	int fd = file_of(pattern_new_seed());

	intree_shares();
	at = (char *)(((unsigned long)mem + VU_2M - 1) & -VU_2M) + VU_2M - SIZE;
	assert_ptr_equal(mmap(at, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 at);
	huge = at + SIZE;
	assert_ptr_equal(mmap(huge, VU_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			      MAP_HUGETLB | MAP_FIXED, -1, 0), huge);
	assert_ok(vu_map(e->f->container, at, BASE, SIZE + VU_2M, READ));
	assert_charged(e->f, NPAGES + VU_2M / VU_PAGE);
	write_and_read(e->f, at);
	assert_unmaps_all(e->f->container, SIZE + VU_2M);
	assert_ok(vu_map(e->f->container, huge, BASE, SIZE, READ));
	write_and_read(e->f, huge);
	assert_unmaps_all(e->f->container, SIZE);
	assert_nothing_held(e->f);
	vu_free(mem, 3 * VU_2M);
	close(fd);
}

/* Nobody may read it, so nobody can let a device read it. */
static void memory_without_access(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_reserve(SIZE);

	assert_ret(vu_map(e->f->container, mem, BASE, SIZE, READ), -EFAULT);
	assert_nothing_held(e->f);
	vu_free(mem, SIZE);
}

/* ---- In-kernel users, registered memory ---- */

static void registered_memory(void **state)
{
	const struct emu_fixture *e = *state;
	const struct fixture *f = e->f;
	int fd = file_of(pattern_new_seed());
	unsigned int i;
	char *mem[2];

	not_on_intree("it has nothing like that");
	mem[0] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem[1] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	for (i = 0; i < ARRAY_SIZE(mem); i++) {
		at_step("memory %u", i);
		assert_ptr_not_equal(mem[i], MAP_FAILED);
		assert_ok(vu_register(f->container, mem[i], SIZE, VFIO_TYPE1_MEMORY_READ_ONLY));
		assert_charged(f, NPAGES);
		assert_ok(vu_map(f->container, mem[i], BASE, SIZE, READ));
		write_and_read(f, mem[i]);
		/* It is the process's own, so it is the same when it is mapped again. */
		assert_ok(vu_map(f->container, mem[i], BASE + GIB, SIZE, READ));
		assert_unmaps_all(f->container, 2 * SIZE);
		assert_ok(vu_unregister(f->container, mem[i], SIZE));
		assert_nothing_held(f);
		munmap(mem[i], SIZE);
	}
	close(fd);
}

static void in_kernel_users(void **state)
{
	static const __u32 flags[] = { 0, EMU_KTHREAD };
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	__u64 pfns[NPAGES];
	unsigned int i, n;
	char *mem;

	intree_shares();
	for (n = 0; n < ARRAY_SIZE(flags); n++) {
		at_step("flags %u", flags[n]);
		mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(mem, MAP_FAILED);
		assert_ok(vu_map(e->f->container, mem, BASE, SIZE, READ));
		assert_ret(emu_pin_at(dev, BASE, NPAGES, EMU_PROT_READ, flags[n], pfns), NPAGES);
		assert_charged(e->f, NPAGES);
		for (i = 0; i < NPAGES; i++) {
			mem[PAGES(i)] = 0xa5;
			assert_int_equal(pfns[i], pfn_of(mem + PAGES(i)));
		}
		assert_ok(emu_unpin(dev, BASE, NPAGES));
		assert_unmaps_all(e->f->container, SIZE);
		assert_nothing_held(e->f);
		munmap(mem, SIZE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_MIXED(untouched_anonymous_memory),
		TEST_MIXED(a_private_file_that_was_read),
		TEST_MIXED(a_shared_file_stays_shared),
		TEST_MIXED(areas_of_many_kinds_in_a_row),
		TEST_MIXED(memory_without_access),
		TEST_MIXED(registered_memory),
		TEST_EMU(in_kernel_users),
	};

	return cmocka_run_group_tests_name("private memory", tests, NULL, NULL);
}
