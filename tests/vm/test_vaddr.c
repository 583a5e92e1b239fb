// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO_UPDATE_VADDR: the addresses of mappings are taken back and given anew, by
 * the same process, by a child, or after an exec; devices go on all the time, and
 * what a mapping costs moves with it.
 *
 * The program executes itself for some tests; main() says with what arguments.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		64UL
#define SIZE		PAGES(NPAGES)

#define INVALIDATE	VFIO_DMA_UNMAP_FLAG_VADDR
#define UPDATE		VFIO_DMA_MAP_FLAG_VADDR

static int memfd_new(void)
{
	int fd = memfd_create("test", 0);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	return fd;
}

/* The memory at one more address. */
static char *memfd_map(int fd)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

#define assert_invalidates(container, iova, size, want) \
	assert_unmaps_at(container, iova, size, INVALIDATE, want, __FILE__, __LINE__)

static void assert_dma_works(const struct fixture *f, char *mem)
{
	assert_dma_reaches(f, 0, mem, BASE);
	assert_dma_reaches(f, 0, mem + SIZE - VU_PAGE, BASE + SIZE - VU_PAGE);
}

/* ---- The same process ---- */

static void the_device_goes_on_without_an_address(void **state)
{
	const struct fixture *f = *state;
	int fd = memfd_new();
	char *before = memfd_map(fd), *after = memfd_map(fd);

	assert_int_equal(ioctl(f->container, VFIO_CHECK_EXTENSION, VFIO_UPDATE_VADDR), 1);
	assert_ok(vu_map_rw(f->container, before, BASE, SIZE));
	assert_dma_works(f, before);
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	vu_free(before, SIZE);
	assert_dma_works(f, after);
	assert_ok(vu_map(f->container, after, BASE, SIZE, UPDATE));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_dma_works(f, after);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_nothing_held(f);
	assert_dma_blocked(f, 0, after, BASE);
	vu_free(after, SIZE);
	close(fd);
}

/* It may be the old one again, and again. */
static void the_same_address_is_as_good(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);
	unsigned int i;

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	for (i = 0; i < 3; i++) {
		assert_invalidates(f->container, BASE, SIZE, SIZE);
		assert_ok(vu_map(f->container, mem, BASE, SIZE, UPDATE));
	}
	assert_charged(f, NPAGES);
	vu_free(mem, SIZE);
}

/* The device's memory is not looked at: the address is all that changes. */
static void the_new_address_is_where_in_kernel_users_go(void **state)
{
	struct emu_fixture *e = *state;
	struct fixture *f = e->f;
	int fd = memfd_new();
	char *before = memfd_map(fd), *after = memfd_map(fd), buf[8] = "";
	__u64 pfn;

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	assert_ok(vu_map_rw(f->container, before, BASE, SIZE));
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	assert_ok(vu_map(f->container, after, BASE, SIZE, UPDATE));
	vu_free(before, SIZE);

	emu_attach(e, 0);
	emu_open_device(e, 0);
	memcpy(after + PAGES(3), "moved", sizeof("moved"));
	assert_ok(emu_rw(&e->emu[0], BASE + PAGES(3), buf, sizeof(buf), 0));
	assert_string_equal(buf, "moved");
	assert_ret(emu_pin_at(&e->emu[0], BASE + PAGES(3), 1, EMU_PROT_RW, 0, &pfn), 1);
	assert_int_equal(pfn, pfn_of(after + PAGES(3)));
	vu_free(after, SIZE);
	close(fd);
}

static void unmap_takes_mappings_without_an_address(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_charged(f, NPAGES);
	/* None is left: groups may come. */
	fixture_attach(f, 1);
	assert_ret(vu_map(f->container, mem, BASE, SIZE, UPDATE), -ENOENT);
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_unmaps_all(f->container, 2 * SIZE);
	vu_free(mem, SIZE);
}

static void close_takes_mappings_without_an_address(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	fixture_close(f);
	assert_nothing_held(f);
	vu_free(mem, SIZE);
}

/* ---- What is refused ---- */

static void no_address_without_a_mapping_that_lacks_it(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);
	const struct {
		__u64 iova, size, offset;
		__u32 flags;
		int ret;
	} cases[] = {
		/* Nothing there. */
		{ BASE - SIZE, SIZE, 0, UPDATE, -ENOENT },
		{ BASE + 2 * SIZE, SIZE, 0, UPDATE, -ENOENT },
		{ 0, PAGES(1), 0, UPDATE, -ENOENT },
		/* It has one. */
		{ BASE + SIZE, SIZE, 0, UPDATE, -EINVAL },
		/* Not this one as a whole. */
		{ BASE, SIZE - PAGES(1), 0, UPDATE, -EINVAL },
		{ BASE, SIZE + PAGES(1), 0, UPDATE, -EINVAL },
		{ BASE + PAGES(1), SIZE - PAGES(1), 0, UPDATE, -EINVAL },
		{ BASE + PAGES(1), SIZE, 0, UPDATE, -EINVAL },
		{ BASE - PAGES(1), SIZE + PAGES(1), 0, UPDATE, -EINVAL },
		{ BASE, 2 * SIZE, 0, UPDATE, -EINVAL },
		{ BASE + PAGES(3), PAGES(1), 0, UPDATE, -EINVAL },
		/* Not together with anything. */
		{ BASE, SIZE, 0, UPDATE | VFIO_DMA_MAP_FLAG_READ, -EINVAL },
		{ BASE, SIZE, 0, UPDATE | RW, -EINVAL },
		/* Whole pages. */
		{ BASE, 0, 0, UPDATE, -EINVAL },
		{ BASE, SIZE - 1, 0, UPDATE, -EINVAL },
		{ BASE + 1, SIZE, 0, UPDATE, -EINVAL },
		{ BASE, SIZE, 1, UPDATE, -EINVAL },
		/* It does not make room, either. */
		{ BASE, SIZE, 0, RW, -EEXIST },
	};
	unsigned int i;

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_ok(vu_map_rw(f->container, mem, BASE + SIZE, SIZE));
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		print_message("case %u\n", i);
		assert_ret(vu_map(f->container, mem + cases[i].offset, cases[i].iova,
				  cases[i].size, cases[i].flags), cases[i].ret);
	}
	assert_charged(f, 2 * NPAGES);
	assert_ok(vu_map(f->container, mem, BASE, SIZE, UPDATE));
	assert_ret(vu_map(f->container, mem, BASE, SIZE, UPDATE), -EINVAL);
	vu_free(mem, SIZE);
}

static void an_address_that_wraps(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);

	not_on_intree("EINVAL up to 7.0");
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	assert_ret(vu_map(f->container, (void *)-PAGES(1), BASE, SIZE, UPDATE), -EOVERFLOW);
	assert_ok(vu_map(f->container, mem, BASE, SIZE, UPDATE));
	vu_free(mem, SIZE);
}

/* Of several mappings all or none lose their address. */
static void an_address_can_be_taken_back_once(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);
	unsigned int i;
	__u64 size;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * SIZE, SIZE));
	assert_invalidates(f->container, BASE + SIZE, SIZE, SIZE);
	assert_ret(vu_unmap(f->container, BASE + SIZE, SIZE, INVALIDATE, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE, 3 * SIZE, INVALIDATE, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, 0, 0, INVALIDATE | VFIO_DMA_UNMAP_FLAG_ALL, &size),
		   -EINVAL);
	/* Still only the second one. */
	assert_ret(vu_map(f->container, mem, BASE, SIZE, UPDATE), -EINVAL);
	assert_ret(vu_map(f->container, mem, BASE + 2 * SIZE, SIZE, UPDATE), -EINVAL);
	assert_ok(vu_map(f->container, mem, BASE + SIZE, SIZE, UPDATE));
	/* The count is right, too. */
	assert_invalidates(f->container, BASE, 3 * SIZE, 3 * SIZE);
	for (i = 0; i < 3; i++)
		assert_ok(vu_map(f->container, mem, BASE + i * SIZE, SIZE, UPDATE));
	fixture_attach(*state, 1);
	vu_free(mem, SIZE);
}

static void ranges_as_for_any_unmap(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_ok(vu_map_rw(f->container, mem, BASE + 2 * SIZE, SIZE));
	assert_ret(vu_unmap(f->container, BASE, SIZE / 2, INVALIDATE, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE + PAGES(1), SIZE, INVALIDATE, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE, 0, INVALIDATE, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE + 1, SIZE, INVALIDATE, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE, SIZE,
			    INVALIDATE | VFIO_DMA_UNMAP_FLAG_ALL, NULL), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE, SIZE,
			    INVALIDATE | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, NULL), -EINVAL);
	/* Nothing there is no mistake, nor is a hole. */
	assert_invalidates(f->container, 0, SIZE, 0);
	assert_invalidates(f->container, BASE + SIZE, SIZE, 0);
	assert_invalidates(f->container, BASE, 3 * SIZE, 2 * SIZE);
	vu_free(mem, SIZE);
}

static void all_at_once(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);
	static const __u64 iovas[] = { 0, BASE, 64 * GIB };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		assert_ok(vu_map_rw(f->container, mem, iovas[i], SIZE));
	assert_unmaps_at(f->container, 0, 0, INVALIDATE | VFIO_DMA_UNMAP_FLAG_ALL, 3 * SIZE,
			 __FILE__, __LINE__);
	for (i = 0; i < ARRAY_SIZE(iovas); i++)
		assert_ok(vu_map(f->container, mem, iovas[i], SIZE, UPDATE));
	assert_unmaps_all(f->container, 3 * SIZE);
	assert_unmaps_at(f->container, 0, 0, INVALIDATE | VFIO_DMA_UNMAP_FLAG_ALL, 0,
			 __FILE__, __LINE__);
	vu_free(mem, SIZE);
}

/* v1: a mapping whose first page is in the range, and none that began before it. */
static void v1_rules(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_invalidates(f->container, BASE + PAGES(1), SIZE, 0);
	assert_ret(vu_map(f->container, mem, BASE, SIZE, UPDATE), -EINVAL);
	assert_invalidates(f->container, BASE, PAGES(1), SIZE);
	assert_ok(vu_map(f->container, mem, BASE, SIZE, UPDATE));
	vu_free(mem, SIZE);
}

static void no_group_comes_while_an_address_is_missing(void **state)
{
	struct emu_fixture *e = *state;
	struct fixture *f = e->f;
	char *mem = mem_pages(NPAGES);

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	assert_ok(vu_group_open(&f->pci[1]));
	assert_ok(vu_group_open(&e->emu[0]));
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	assert_invalidates(f->container, 0, SIZE, SIZE);
	assert_ret(vu_group_attach(&f->pci[1], f->container), -EBUSY);
	assert_ret(vu_group_attach(&e->emu[0], f->container), -EBUSY);
	assert_ok(vu_map(f->container, mem, 0, SIZE, UPDATE));
	assert_ok(vu_group_attach(&f->pci[1], f->container));
	assert_ok(vu_group_attach(&e->emu[0], f->container));
	/* And now the other way round. */
	assert_ret(vu_unmap(f->container, 0, SIZE, INVALIDATE, NULL), -EBUSY);
	vu_free(mem, SIZE);
}

/* Maps and reports do not need addresses. */
static void other_mappings_come_and_go_meanwhile(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(NPAGES);
	struct info info;

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	info_get(f->container, &info);
	assert_unmaps(f->container, 0, SIZE, SIZE);
	assert_ok(vu_map(f->container, mem, BASE, SIZE, UPDATE));
	vu_free(mem, SIZE);
}

/* A device that pins behind a real IOMMU has to do without for a while. */
static void a_device_cannot_pin_meanwhile(void **state)
{
	const struct emu_fixture *e = *state;
	const struct fixture *f = e->f;
	char *mem = mem_pages(NPAGES), buf[8] = "";

	not_on_intree("warns about the device");
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	assert_ret(emu_pin(&f->pci[0], BASE, 2), 2);
	assert_invalidates(f->container, 0, SIZE, SIZE);
	assert_ret(emu_pin(&f->pci[0], BASE + PAGES(2), 1), -EBUSY);
	assert_ret(emu_rw(&f->pci[0], BASE, buf, 8, 0), -EBUSY);
	/* It may let go. */
	assert_ok(emu_unpin(&f->pci[0], BASE, 1));
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_ok(vu_map(f->container, mem, 0, SIZE, UPDATE));
	assert_ret(emu_pin(&f->pci[0], 0, 1), 1);
	vu_free(mem, SIZE);
}

/* ---- Another process ---- */

struct child_case {
	const struct fixture *f;
	int fd;
};

static void take_over(void *arg)
{
	const struct child_case *c = arg;
	char *mem = memfd_map(c->fd);

	child_check(mem && !vu_locked_kib());
	child_check(!vu_map(c->f->container, mem, BASE, SIZE, UPDATE));
	child_check(vu_locked_kib() == KIB(NPAGES));
}

static void take_over_and_unmap(void *arg)
{
	const struct child_case *c = arg;

	take_over(arg);
	child_check(!vu_unmap(c->f->container, BASE, SIZE, 0, NULL));
	child_check(!vu_locked_kib());
}

/* The parent gets its charge back, and the mapping outlives the child. */
static void the_charge_moves_to_a_child(void **state)
{
	struct child_case c = { .f = *state, .fd = memfd_new() };
	char *mem = memfd_map(c.fd);

	assert_ok(vu_map_rw(c.f->container, mem, BASE, SIZE));
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	assert_charged(c.f, NPAGES);
	in_child(take_over, &c);
	assert_charged(c.f, 0);
	assert_pinned(c.f, NPAGES);
	assert_dma_works(c.f, mem);

	/* It comes back from the dead. */
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	assert_ok(vu_map(c.f->container, mem, BASE, SIZE, UPDATE));
	assert_charged(c.f, NPAGES);
	assert_unmaps(c.f->container, BASE, SIZE, SIZE);
	assert_nothing_held(c.f);
	vu_free(mem, SIZE);
	close(c.fd);
}

static void a_child_that_unmaps_gets_its_charge_back(void **state)
{
	struct child_case c = { .f = *state, .fd = memfd_new() };
	char *mem = memfd_map(c.fd);

	assert_ok(vu_map_rw(c.f->container, mem, BASE, SIZE));
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	in_child(take_over_and_unmap, &c);
	assert_nothing_held(c.f);
	vu_free(mem, SIZE);
	close(c.fd);
}

static void fail_to_take_over(void *arg)
{
	const struct child_case *c = arg;
	char *mem = memfd_map(c->fd);

	child_check(mem && !vu_locked_kib());
	child_check(vu_map(c->f->container, mem, BASE, SIZE, UPDATE) == -ENOMEM);
	child_check(!vu_locked_kib());
}

static void the_new_owners_limit_counts(void **state)
{
	struct child_case c = { .f = *state, .fd = memfd_new() };
	char *mem = memfd_map(c.fd);

	assert_ok(vu_map_rw(c.f->container, mem, BASE, SIZE));
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	in_child_nobody(SIZE - PAGES(1), fail_to_take_over, &c);
	/* Nothing has changed. */
	assert_charged(c.f, NPAGES);
	assert_ret(vu_group_attach(&c.f->pci[0], c.f->container), -EINVAL);
	assert_dma_works(c.f, mem);
	in_child_nobody(SIZE, take_over, &c);
	assert_charged(c.f, 0);
	/* Unlimited, as the parent is. */
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	assert_ok(vu_map(c.f->container, mem, BASE, SIZE, UPDATE));
	assert_unmaps(c.f->container, BASE, SIZE, SIZE);
	assert_nothing_held(c.f);
	vu_free(mem, SIZE);
	close(c.fd);
}

/* ---- The same process with a new program ---- */

/* Replace the program by itself with these arguments; see main(). */
static void exec_self(const char *what, const struct child_case *c)
{
	char container[16], memfd[16];

	child_check(!fcntl(c->f->container, F_SETFD, 0));
	snprintf(container, sizeof(container), "%d", c->f->container);
	snprintf(memfd, sizeof(memfd), "%d", c->fd);
	execl("/proc/self/exe", "test_vaddr", what, container, memfd, NULL);
	child_check(false);
}

static void map_and_exec(void *arg)
{
	const struct child_case *c = arg;
	char *mem = memfd_map(c->fd);

	child_check(mem && !vu_map_rw(c->f->container, mem, BASE, SIZE));
	child_check(vu_locked_kib() == KIB(NPAGES));
	child_check(!vu_unmap(c->f->container, BASE, SIZE, INVALIDATE, NULL));
	exec_self("stay", c);
}

static void map_and_exec_to_unmap(void *arg)
{
	const struct child_case *c = arg;
	char *mem = memfd_map(c->fd);

	child_check(mem && !vu_map_rw(c->f->container, mem, BASE, SIZE));
	child_check(!vu_unmap(c->f->container, BASE, SIZE, INVALIDATE, NULL));
	exec_self("unmap", c);
}

static void exec_only(void *arg)
{
	exec_self("stay", arg);
}

/* What the executed program does. */
static int after_exec(const char *what, int container, int fd)
{
	const struct fixture f = { .container = container };
	struct child_case c = { .f = &f, .fd = fd };

	if (!strcmp(what, "unmap"))
		take_over_and_unmap(&c);
	else
		take_over(&c);
	return 0;
}

static void the_charge_moves_across_exec(void **state)
{
	struct child_case c = { .f = *state, .fd = memfd_new() };
	char *mem = memfd_map(c.fd);

	in_child(map_and_exec, &c);
	/* The program has ended, the mapping goes on. */
	assert_charged(c.f, 0);
	assert_pinned(c.f, NPAGES);
	assert_dma_works(c.f, mem);
	assert_unmaps(c.f->container, BASE, SIZE, SIZE);
	assert_nothing_held(c.f);

	in_child(map_and_exec_to_unmap, &c);
	assert_nothing_held(c.f);
	vu_free(mem, SIZE);
	close(c.fd);
}

/* As an update of a VMM does it: another program in another process. */
static void the_charge_moves_to_a_new_program(void **state)
{
	struct child_case c = { .f = *state, .fd = memfd_new() };
	char *mem = memfd_map(c.fd);

	assert_ok(vu_map_rw(c.f->container, mem, BASE, SIZE));
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	in_child(exec_only, &c);
	assert_charged(c.f, 0);
	assert_dma_works(c.f, mem);
	assert_unmaps(c.f->container, BASE, SIZE, SIZE);
	assert_nothing_held(c.f);
	vu_free(mem, SIZE);
	close(c.fd);
}

/* While the process changes there is a device at work; each transfer arrives. */
static void the_device_works_all_the_time(void **state)
{
	struct child_case c = { .f = *state, .fd = memfd_new() };
	char *mem = memfd_map(c.fd);
	unsigned int transfers = 0;
	pid_t pid;
	int status;

	assert_ok(vu_map_rw(c.f->container, mem, BASE, SIZE));
	assert_invalidates(c.f->container, BASE, SIZE, SIZE);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		exec_self("stay", &c);
	do {
		assert_dma_works(c.f, mem);
		transfers++;
	} while (!waitpid(pid, &status, WNOHANG));
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_true(transfers);
	assert_dma_works(c.f, mem);
	assert_charged(c.f, 0);
	vu_free(mem, SIZE);
	close(c.fd);
}

/* What nobody has touched yet is the process's own, and charged, once it is mapped. */
static void untouched_memory_is_charged_and_moves(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_reserve(SIZE);

	assert_int_equal(mprotect(mem, SIZE, PROT_READ), 0);
	assert_int_equal(madvise(mem, SIZE, MADV_NOHUGEPAGE), 0);
	assert_ok(vu_map(f->container, mem, BASE, SIZE, VFIO_DMA_MAP_FLAG_READ));
	assert_charged(f, NPAGES);
	assert_invalidates(f->container, BASE, SIZE, SIZE);
	assert_ok(vu_map(f->container, mem, BASE, SIZE, UPDATE));
	assert_charged(f, NPAGES);
	assert_unmaps_all(f->container, SIZE);
	assert_nothing_held(f);
	vu_free(mem, SIZE);
}

/* test_vaddr [stay|unmap CONTAINER MEMFD]: with arguments, what after_exec() does. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(the_device_goes_on_without_an_address),
		TEST_V1(the_device_goes_on_without_an_address),
		TEST_V2(the_same_address_is_as_good),
		TEST_EMU_CLOSED(the_new_address_is_where_in_kernel_users_go),
		TEST_V2(unmap_takes_mappings_without_an_address),
		TEST_V2(close_takes_mappings_without_an_address),
		TEST_V2(no_address_without_a_mapping_that_lacks_it),
		TEST_V2(an_address_that_wraps),
		TEST_V2(an_address_can_be_taken_back_once),
		TEST_V2(ranges_as_for_any_unmap),
		TEST_V2(all_at_once),
		TEST_V1(v1_rules),
		TEST_EMU_CLOSED(no_group_comes_while_an_address_is_missing),
		TEST_V2(other_mappings_come_and_go_meanwhile),
		TEST_EMU_EDU(a_device_cannot_pin_meanwhile),
		TEST_V2(the_charge_moves_to_a_child),
		TEST_V2(a_child_that_unmaps_gets_its_charge_back),
		TEST_V2(the_new_owners_limit_counts),
		TEST_V2(the_charge_moves_across_exec),
		TEST_V2(the_charge_moves_to_a_new_program),
		TEST_V2(the_device_works_all_the_time),
		TEST_V2(untouched_memory_is_charged_and_moves),
	};

	if (argc == 4)
		return after_exec(argv[1], atoi(argv[2]), atoi(argv[3]));
	return cmocka_run_group_tests_name("vaddr", tests, NULL, NULL);
}
