// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory, by each rule of Documentation/registered-memory.rst: with real
 * page tables, two containers, several processes, and what a process does to memory
 * that it has registered.
 *
 * The program executes itself for some tests; main() says with what arguments.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../bench/floor/floor.h"
#include "testlib.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		1200UL	/* two slots at least, and unaligned */
#define SIZE		PAGES(NPAGES)
#define RO		VFIO_TYPE1_MEMORY_READ_ONLY

/* A second container, with the second edu in it. */
static int second_container(struct fixture *f, int type)
{
	int container = vu_container_open();

	assert_true(container >= 0);
	assert_ok(vu_group_open(&f->pci[1]));
	assert_ok(vu_group_attach(&f->pci[1], container));
	if (type) {
		assert_ok(vu_set_iommu(container, type));
		fixture_open_device(f, 1);
	}
	return container;
}

static char *memory(void)
{
	return mem_scattered(SIZE);
}

/* One line that matches was logged since the last look. */
static void assert_logged(int fd, const char *regex)
{
	assert_int_equal(kmsg_count(fd, regex), 1);
}

/* ---- The interface ---- */

static void it_can_be_found(void **state)
{
	struct fixture *f = *state;
	const struct vfio_type1_info_cap_memory *cap;
	char *mem = memory();
	struct info info;
	int fresh, strict;

	assert_int_equal(ioctl(f->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1_MEMORY), 1);
	fresh = vu_container_open();
	assert_int_equal(ioctl(fresh, VFIO_CHECK_EXTENSION, VFIO_TYPE1_MEMORY), 1);
	assert_int_equal(ioctl(fresh, VFIO_CHECK_EXTENSION, VFIO_TYPE1_STRICT_IOMMU), 1);
	close(fresh);

	info_get(f->container, &info);
	cap = info.memory;
	assert_non_null(cap);
	assert_int_equal(cap->header.version, 1);
	assert_int_equal(cap->flags, 0);
	assert_int_equal(cap->regions, 0);
	assert_int_equal(cap->size, 0);
	assert_ok(vu_register(f->container, mem, PAGES(3), 0));
	assert_ok(vu_register(f->container, mem + PAGES(5), PAGES(4), RO));
	strict = second_container(f, VFIO_TYPE1_STRICT_IOMMU);
	info_get(strict, &info);
	cap = info.memory;
	assert_int_equal(cap->flags, VFIO_TYPE1_INFO_MEMORY_STRICT);
	assert_int_equal(cap->regions, 2);
	assert_int_equal(cap->size, PAGES(7));
	fixture_close_device(f, 1);
	close(strict);
	vu_free(mem, SIZE);
}

static int raw(int container, unsigned long request, __u32 argsz, __u32 flags, __u64 vaddr,
	       __u64 size)
{
	struct vfio_type1_memory memory = {
		.argsz = argsz, .flags = flags, .vaddr = vaddr, .size = size,
	};

	return ioctl(container, request, &memory) ? -errno : 0;
}

static void wrong_values_are_refused(void **state)
{
	const struct fixture *f = *state;
	char *mem = memory();
	const __u64 vaddr = (unsigned long)mem;
	const struct {
		__u32 argsz, flags;
		__u64 vaddr, size;
		int reg, unreg;
	} cases[] = {
		{ 23, 0, vaddr, PAGES(1), -EINVAL, -EINVAL },
		{ 0, 0, vaddr, PAGES(1), -EINVAL, -EINVAL },
		{ 24, 2, vaddr, PAGES(1), -EINVAL, -EINVAL },
		{ 24, 1U << 31, vaddr, PAGES(1), -EINVAL, -EINVAL },
		{ 24, 0, vaddr, 0, -EINVAL, -ENOENT },
		{ 24, 0, vaddr + 1, PAGES(1), -EINVAL, -ENOENT },
		{ 24, 0, vaddr, PAGES(1) - 1, -EINVAL, -ENOENT },
		{ 24, 0, vaddr, -PAGES(1), -EOVERFLOW, -ENOENT },
		{ 24, 0, -PAGES(1), PAGES(2), -EOVERFLOW, -ENOENT },
		{ 24, 0, -PAGES(2), PAGES(1), -EFAULT, -ENOENT },
		{ 24, 0, 0, PAGES(1), -EFAULT, -ENOENT },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		at_step("case %u", i);
		assert_ret(raw(f->container, VFIO_TYPE1_REGISTER_MEMORY, cases[i].argsz,
			       cases[i].flags, cases[i].vaddr, cases[i].size), cases[i].reg);
		assert_ret(raw(f->container, VFIO_TYPE1_UNREGISTER_MEMORY, cases[i].argsz,
			       cases[i].flags, cases[i].vaddr, cases[i].size), cases[i].unreg);
	}
	/* A caller may know a longer structure; flags are for registering. */
	assert_ok(raw(f->container, VFIO_TYPE1_REGISTER_MEMORY, 4096, RO, vaddr, PAGES(1)));
	assert_ret(raw(f->container, VFIO_TYPE1_UNREGISTER_MEMORY, 24, RO, vaddr, PAGES(1)),
		   -EINVAL);
	assert_ok(raw(f->container, VFIO_TYPE1_UNREGISTER_MEMORY, 4096, 0, vaddr, PAGES(1)));
	assert_int_equal(ioctl(f->container, VFIO_TYPE1_REGISTER_MEMORY, NULL), -1);
	assert_int_equal(errno, EFAULT);
	assert_nothing_held(f);
	vu_free(mem, SIZE);
}

/* ---- Pinned once, charged once ---- */

/* Every kind of memory, registered once, in two containers, at several IOVA. */
static void one_pin_for_all_containers(void **state)
{
	struct fixture *f = *state;
	int second = second_container(f, VFIO_TYPE1v2_IOMMU);
	const size_t size = 8 * MIB, npages = size / VU_PAGE;
	unsigned int i;

	for (i = 0; i < NBACKINGS; i++) {
		char *mem = backings[i].alloc(size);

		at_step("%s", backings[i].name);
		assert_ok(vu_register(f->container, mem, size, 0));
		assert_charged(f, npages);
		assert_pinned(f, npages);
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		assert_ok(vu_map_rw(f->container, mem + PAGES(1), 0, PAGES(5)));
		assert_ok(vu_map_rw(second, mem, BASE + PAGES(3), size));
		assert_charged(f, npages);
		assert_pinned(f, npages);
		assert_dma_reaches(f, 0, mem + size - VU_PAGE, BASE + size - VU_PAGE);
		assert_dma_reaches(f, 0, mem + PAGES(3), PAGES(2));
		assert_dma_reaches(f, 1, mem, BASE + PAGES(3));
		assert_unmaps(f->container, BASE, size, size);
		assert_unmaps(f->container, 0, PAGES(5), PAGES(5));
		assert_dma_blocked(f, 0, mem, BASE);
		assert_dma_reaches(f, 1, mem + PAGES(2), BASE + PAGES(5));
		assert_unmaps(second, BASE + PAGES(3), size, size);
		assert_pinned(f, npages);
		/* By way of the other container. */
		assert_ok(vu_unregister(second, mem, size));
		assert_nothing_held(f);
		vu_free(mem, size);
	}
	fixture_close_device(f, 1);
	close(second);
}

static void again_takes_a_reference(void **state)
{
	const struct fixture *f = *state;
	char *mem = memory();

	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ret(vu_register(f->container, mem, SIZE, RO), -EINVAL);
	assert_ret(vu_register(f->container, mem, SIZE - VU_PAGE, 0), -EINVAL);
	assert_ret(vu_register(f->container, mem + VU_PAGE, SIZE, 0), -EINVAL);
	assert_ret(vu_unregister(f->container, mem, SIZE - VU_PAGE), -ENOENT);
	assert_charged(f, NPAGES);
	assert_ok(vu_unregister(f->container, mem, SIZE));
	assert_charged(f, NPAGES);
	assert_ok(vu_unregister(f->container, mem, SIZE));
	assert_nothing_held(f);
	assert_ret(vu_unregister(f->container, mem, SIZE), -ENOENT);
	vu_free(mem, SIZE);
}

static void partly_inside_is_pinned_as_ever(void **state)
{
	const struct fixture *f = *state;
	char *mem = memory();

	assert_ok(vu_register(f->container, mem, PAGES(10), 0));
	assert_ok(vu_register(f->container, mem + PAGES(10), PAGES(10), RO));
	assert_ok(vu_map_rw(f->container, mem + PAGES(5), BASE, PAGES(10)));
	assert_charged(f, 30);
	assert_ok(vu_map_rw(f->container, mem + PAGES(12), 0, PAGES(2)));
	assert_charged(f, 32);
	assert_ok(vu_map(f->container, mem + PAGES(12), PAGES(2), PAGES(2),
			 VFIO_DMA_MAP_FLAG_READ));
	assert_charged(f, 32);
	assert_dma_reaches(f, 0, mem + PAGES(12), 0);
	assert_unmaps_all(f->container, PAGES(14));
	assert_charged(f, 20);
	vu_free(mem, SIZE);
}

/* Nobody can pin a BAR: alone, or amid RAM. It is mapped the ordinary way. */
static void device_memory_is_not_registered(void **state)
{
	struct fixture *f = *state;
	int second = second_container(f, VFIO_TYPE1v2_IOMMU), fd = kmsg_open();
	char *mem = memory(), *bar = f->edu[1].regs;
	const size_t size = f->edu[1].size;

	assert_ret(vu_register(f->container, bar, size, 0), -EFAULT);
	assert_logged(fd, "REGISTER_MEMORY .* is a device's, which cannot be pinned");
	assert_ret(vu_register(f->container, bar, size, RO), -EFAULT);
	assert_logged(fd, "REGISTER_MEMORY .* is a device's, which cannot be pinned");
	assert_ptr_equal(mmap(mem + PAGES(600), size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, f->pci[1].device_fd, 0), mem + PAGES(600));
	assert_ret(vu_register(f->container, mem, SIZE, 0), -EFAULT);
	assert_nothing_held(f);
	assert_ok(vu_register(f->container, mem, PAGES(600), 0));
	assert_ok(vu_map_rw(f->container, mem + PAGES(600), BASE, size));
	assert_charged(f, 600);
	assert_unmaps(f->container, BASE, size, size);
	fixture_close_device(f, 1);
	close(second);
	vu_free(mem, SIZE);
	close(fd);
}

/* ---- Users ---- */

static void a_mapping_keeps_its_region(void **state)
{
	struct fixture *f = *state;
	int second = second_container(f, VFIO_TYPE1v2_IOMMU), fd = kmsg_open();
	char *mem = memory();

	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(7)));
	assert_ok(vu_map_rw(second, mem, BASE + GIB, PAGES(7)));
	assert_ret(vu_unregister(f->container, mem, SIZE), -EBUSY);
	assert_logged(fd, "2 mappings use it, one of them 0x180000000-0x180006fff of another");
	assert_ret(vu_unregister(second, mem, SIZE), -EBUSY);
	assert_logged(fd, "2 mappings use it, one of them 0x180000000-0x180006fff of this");
	assert_dma_reaches(f, 1, mem, BASE + GIB);
	assert_unmaps(second, BASE + GIB, PAGES(7), PAGES(7));
	assert_ret(vu_unregister(f->container, mem, SIZE), -EBUSY);
	assert_logged(fd, "1 mappings use it, .* 0x140000000-0x140006fff of this container");
	assert_unmaps(f->container, BASE, PAGES(7), PAGES(7));
	assert_ok(vu_unregister(f->container, mem, SIZE));
	assert_nothing_held(f);
	vu_free(mem, SIZE);
	close(fd);
	fixture_close_device(f, 1);
	close(second);
}

/* In any order: whatever is there goes when the process has no container any more. */
static void the_last_container_takes_everything(void **state)
{
	struct fixture *f = *state;
	unsigned int order;

	for (order = 0; order < 2; order++) {
		char *mem = memory();
		int second = second_container(f, VFIO_TYPE1v2_IOMMU);

		at_step("order %u", order);
		assert_ok(vu_register(f->container, mem, SIZE / 2, 0));
		assert_ok(vu_register(second, mem + SIZE / 2, SIZE / 2, RO));
		assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(7)));
		assert_ok(vu_map_rw(second, mem, BASE, PAGES(7)));
		if (order) {
			fixture_close_device(f, 0);
			fixture_close_container(f);
		} else {
			fixture_close_device(f, 1);
			close(second);
		}
		assert_charged(f, NPAGES);
		assert_pinned(f, NPAGES);
		if (order) {
			assert_dma_reaches(f, 1, mem, BASE);
			fixture_close_device(f, 1);
			close(second);
		} else {
			assert_dma_reaches(f, 0, mem, BASE);
			fixture_close_device(f, 0);
			fixture_close_container(f);
		}
		assert_nothing_held(f);
		vu_free(mem, SIZE);
		fixture_open_container(f);
		fixture_attach(f, 0);
		assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
		fixture_open_device(f, 0);
	}
}

/* Where tests/vm/check puts it. */
#define FLOOR_KO	"/vfio_type1_floor.ko"

/* Until the descriptor is closed no two groups share a domain. */
static int domains_are_not_shared(void)
{
	int fd;

	module_load(FLOOR_KO);
	fd = open("/dev/vfio_type1_floor", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, FLOOR_NO_SHARING), 0);
	return fd;
}

/* IOMMU domains of the only container that is open. */
static unsigned int count_domains(void)
{
	unsigned int n = 0;
	char line[256];
	glob_t found;
	FILE *file;

	assert_int_equal(glob("/sys/kernel/debug/vfio_type1/*/domains", 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	file = fopen(found.gl_pathv[0], "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		n += !strncmp(line, "domain ", 7);
	fclose(file);
	globfree(&found);
	return n;
}

/*
 * A group that comes later, and has to have a domain of its own, gets what is mapped,
 * also if that is not memory any more.
 */
static void attach_replays_registered_memory(void **state)
{
	static const unsigned long at[] = { 0, 511, 512, 1023, NPAGES - 8 };
	const int unshared = domains_are_not_shared();
	char *mem, *alias, *huge = mem_hugetlb(2 * VU_2M);
	struct fixture *f = *state;
	unsigned int i;
	int fd;

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	fixture_open_device(f, 0);
	mem = mem_memfd_open(SIZE, &fd);
	alias = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(alias, MAP_FAILED);
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ok(vu_register(f->container, huge, 2 * VU_2M, 0));
	assert_ok(vu_map_rw(f->container, mem + PAGES(7), BASE, SIZE - PAGES(7)));
	assert_ok(vu_map_rw(f->container, huge + PAGES(7), 0, 2 * VU_2M - PAGES(7)));
	vu_free(mem, SIZE);
	assert_int_equal(count_domains(), 1);
	fixture_attach(f, 1);
	assert_int_equal(count_domains(), 2);
	fixture_open_device(f, 1);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		at_step("page %lu", at[i]);
		assert_dma_reaches(f, 1, alias + PAGES(7 + at[i]), BASE + PAGES(at[i]));
	}
	assert_dma_reaches(f, 1, huge + PAGES(7), 0);
	assert_dma_reaches(f, 1, huge + 2 * VU_2M - VU_PAGE, 2 * VU_2M - PAGES(8));
	assert_dma_reaches(f, 0, alias + PAGES(7), BASE);
	assert_charged(f, NPAGES + 1024);
	assert_pinned(f, NPAGES + 1024);
	/* It goes on alone. */
	fixture_close_device(f, 0);
	assert_int_equal(count_domains(), 1);
	assert_dma_reaches(f, 1, alias + PAGES(7 + at[2]), BASE + PAGES(at[2]));
	assert_unmaps_all(f->container, SIZE + 2 * VU_2M - PAGES(14));
	assert_dma_blocked(f, 1, alias + PAGES(7), BASE);
	assert_dma_blocked(f, 1, huge + PAGES(7), 0);
	assert_ok(vu_unregister(f->container, mem, SIZE));
	assert_ok(vu_unregister(f->container, huge, 2 * VU_2M));
	assert_nothing_held(f);
	vu_free(alias, SIZE);
	vu_free(huge, 2 * VU_2M);
	close(fd);
	close(unshared);
}

/* ---- Strict containers ---- */

static void strict_containers_want_registered_memory(void **state)
{
	struct fixture *f = *state;
	int strict = second_container(f, VFIO_TYPE1_STRICT_IOMMU), fd = kmsg_open();
	char *mem = memory();

	assert_ret(vu_map_rw(strict, mem, BASE, PAGES(1)), -EPERM);
	assert_logged(fd, "only registered memory can be mapped here, and none of it is");
	assert_ok(vu_register(f->container, mem, PAGES(10), 0));
	assert_ok(vu_register(strict, mem + PAGES(10), PAGES(10), RO));
	assert_ret(vu_map_rw(strict, mem + PAGES(5), BASE, PAGES(10)), -EPERM);
	assert_logged(fd, "here, and not all of it is, in one piece");
	assert_ret(vu_map_rw(strict, mem + PAGES(10), BASE, PAGES(1)), -EPERM);
	assert_logged(fd, "here, and it is, but read-only");
	assert_ok(vu_map_rw(strict, mem, BASE, PAGES(10)));
	assert_ok(vu_map(strict, mem + PAGES(10), BASE + PAGES(10), PAGES(10),
			 VFIO_DMA_MAP_FLAG_READ));
	assert_dma_reaches(f, 1, mem, BASE);
	/* Otherwise it is a v2 container. */
	assert_ret(vu_unmap(strict, BASE, PAGES(5), 0, NULL), -EINVAL);
	assert_unmaps(strict, BASE, PAGES(20), PAGES(20));
	/* A BAR can't be registered, and so not be mapped. */
	assert_ret(vu_map_rw(strict, f->edu[1].regs, BASE, PAGES(1)), -EPERM);
	assert_charged(f, 20);
	fixture_close_device(f, 1);
	close(strict);
	vu_free(mem, SIZE);
	close(fd);
}

/* ---- What a process does to its memory ---- */

static char *private_memory(void)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	assert_ptr_not_equal(mem, MAP_FAILED);
	return mem;
}

/*
 * The process did something to its pages 100 to 109. Mappings stay; what it has other
 * memory at is not mapped; all else is.
 */
static void assert_changed(const struct fixture *f, char *mem, const char *what)
{
	int fd = kmsg_open();

	at_step("%s", what);
	assert_ret(vu_map_rw(f->container, mem + PAGES(100), 0, PAGES(1)), -ESTALE);
	assert_logged(fd, "is not what was registered at vaddr");
	assert_ret(vu_map_rw(f->container, mem + PAGES(109), 0, PAGES(1)), -ESTALE);
	assert_ret(vu_map_rw(f->container, mem, 0, SIZE), -ESTALE);
	assert_ret(vu_register(f->container, mem, SIZE, 0), -ESTALE);
	assert_logged(fd, "REGISTER_MEMORY .*is registered, but memory at vaddr");
	assert_ok(vu_map_rw(f->container, mem, 0, PAGES(100)));
	assert_ok(vu_map_rw(f->container, mem + PAGES(110), PAGES(110), SIZE - PAGES(110)));
	assert_dma_reaches(f, 0, mem + PAGES(99), PAGES(99));
	assert_dma_reaches(f, 0, mem + PAGES(110), PAGES(110));
	assert_unmaps(f->container, 0, SIZE, SIZE - PAGES(10));
	/* Still mapped: the old pages, of which the device makes what it likes. */
	assert_dma_reaches(f, 0, mem + PAGES(110), BASE + PAGES(110));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_ret(vu_map_rw(f->container, mem + PAGES(100), 0, PAGES(1)), -ESTALE);
	assert_ok(vu_unregister(f->container, mem, SIZE));
	assert_nothing_held(f);
	close(fd);
}

static char *registered(const struct fixture *f, char *mem)
{
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	return mem;
}

static void unmapped_memory_is_stale(void **state)
{
	const struct fixture *f = *state;
	char *mem = registered(f, private_memory());

	assert_int_equal(munmap(mem + PAGES(100), PAGES(10)), 0);
	assert_changed(f, mem, "munmap");
	vu_free(mem, SIZE);

	/* Also if something new is there, which can be registered then. */
	mem = registered(f, private_memory());
	assert_ptr_equal(mmap(mem + PAGES(100), PAGES(10), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0),
			 mem + PAGES(100));
	assert_changed(f, mem, "mmap");
	registered(f, mem);
	assert_dma_reaches(f, 0, mem + PAGES(100), BASE + PAGES(100));
	vu_free(mem, SIZE);
}

static void dropped_memory_is_stale(void **state)
{
	const struct fixture *f = *state;
	char *mem = registered(f, private_memory());

	assert_int_equal(madvise(mem + PAGES(100), PAGES(10), MADV_DONTNEED), 0);
	assert_changed(f, mem, "MADV_DONTNEED");
	vu_free(mem, SIZE);
}

static void moved_memory_is_stale(void **state)
{
	const struct fixture *f = *state;
	char *mem = registered(f, private_memory()), *moved;

	moved = mremap(mem + PAGES(100), PAGES(10), PAGES(10), MREMAP_MAYMOVE | MREMAP_FIXED,
		       mem_reserve(PAGES(10)));
	assert_ptr_not_equal(moved, MAP_FAILED);
	/* It is still what is mapped. */
	assert_dma_reaches(f, 0, moved, BASE + PAGES(100));
	assert_dma_reaches(f, 0, moved + PAGES(9), BASE + PAGES(109));
	assert_changed(f, mem, "mremap");
	vu_free(moved, PAGES(10));
	vu_free(mem, SIZE);
}

static void punched_memory_is_stale(void **state)
{
	const struct fixture *f = *state;
	char *mem;
	int fd;

	mem = mem_memfd_open(SIZE, &fd);
	registered(f, mem);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGES(100),
				   PAGES(10)), 0);
	assert_changed(f, mem, "punched a hole");
	vu_free(mem, SIZE);
	close(fd);
}

/* The same page is at the same address: it may be mapped, whatever happened meanwhile. */
static void the_same_memory_again_is_not_stale(void **state)
{
	const int prot[] = { PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE };
	const struct fixture *f = *state;
	unsigned int i;
	char *mem;
	int fd;

	mem = mem_memfd_open(SIZE, &fd);
	registered(f, mem);
	/* Shared memory is not lost by that, nor by coming and going, nor by reclaim. */
	assert_int_equal(madvise(mem, SIZE, MADV_DONTNEED), 0);
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	assert_dma_reaches(f, 0, mem + PAGES(100), PAGES(100));
	assert_unmaps(f->container, 0, SIZE, SIZE);
	assert_int_equal(munmap(mem, SIZE), 0);
	assert_ret(vu_map_rw(f->container, mem, 0, SIZE), -ESTALE);
	assert_ptr_equal(mmap(mem, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
			 mem);
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	assert_unmaps(f->container, 0, SIZE, SIZE);
	assert_int_equal(madvise(mem, SIZE, MADV_PAGEOUT), 0);
	assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
	assert_unmaps(f->container, 0, SIZE, SIZE);
	/* Protection is nobody's business, whether or not the kernel touches the pages. */
	for (i = 0; i < ARRAY_SIZE(prot); i++) {
		at_step("protection %d", prot[i]);
		assert_int_equal(mprotect(mem, SIZE, prot[i]), 0);
		assert_ok(vu_map_rw(f->container, mem, GIB, SIZE));
		assert_unmaps(f->container, GIB, SIZE, SIZE);
		assert_int_equal(madvise(mem, SIZE, MADV_DONTNEED), 0);
		assert_ok(vu_map_rw(f->container, mem + PAGES(300), 0, PAGES(1)));
		assert_ok(vu_map_rw(f->container, mem, GIB, SIZE));
		assert_ok(vu_register(f->container, mem, SIZE, 0));
		assert_ok(vu_unregister(f->container, mem, SIZE));
		assert_unmaps(f->container, GIB, SIZE, SIZE);
		assert_unmaps(f->container, 0, PAGES(1), PAGES(1));
	}
	assert_charged(f, NPAGES);
	vu_free(mem, SIZE);
	close(fd);
}

/* ---- Other processes ---- */

struct child_case {
	struct fixture *f;
	char *mem;
	int second;
	int to_child[2], to_parent[2];
};

static void child_case_init(struct child_case *c, struct fixture *f)
{
	c->f = f;
	c->mem = private_memory();
	assert_int_equal(pipe(c->to_child), 0);
	assert_int_equal(pipe(c->to_parent), 0);
}

static void child_case_end(struct child_case *c)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		close(c->to_child[i]);
		close(c->to_parent[i]);
	}
	vu_free(c->mem, SIZE);
}

static void register_within_a_limit(void *arg)
{
	const struct child_case *c = arg;
	const int container = c->second;
	char *mem = c->mem;

	child_check(!vu_set_iommu(container, VFIO_TYPE1v2_IOMMU));
	child_check(vu_register(container, mem, SIZE, 0) == -ENOMEM);
	child_check(!vu_locked_kib());
	child_check(!vu_register(container, mem, SIZE - VU_PAGE, 0));
	child_check(vu_locked_kib() == KIB(NPAGES - 1));
	child_check(!vu_map_rw(container, mem, BASE, SIZE - VU_PAGE));
	child_check(!vu_map_rw(container, mem, 0, SIZE - VU_PAGE));
	child_check(vu_map_rw(container, mem + PAGES(1), 2 * BASE, SIZE - VU_PAGE) == -ENOMEM);
	child_check(vu_locked_kib() == KIB(NPAGES - 1));
	child_check(vu_unregister(container, mem, SIZE - VU_PAGE) == -EBUSY);
	child_check(!vu_unmap(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
	child_check(!vu_unregister(container, mem, SIZE - VU_PAGE));
	child_check(!vu_locked_kib());
}

static void the_limit_counts_once(void **state)
{
	struct child_case c;
	int fd = kmsg_open();

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child_nobody(SIZE - VU_PAGE, register_within_a_limit, &c);
	assert_logged(fd, "REGISTER_MEMORY vaddr 0x[0-9a-f]+: RLIMIT_MEMLOCK .*exceeded");
	close(fd);
	wait_pinned(c.f, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

/* In a child that shares the parent's container. */
static void try_to_use_the_parents(void *arg)
{
	struct child_case *c = arg;

	/* The same addresses, but not the same memory. */
	memset(c->mem, 0x11, SIZE);
	child_check(!vu_locked_kib());
	child_check(vu_unregister(c->f->container, c->mem, SIZE) == -EPERM);
	child_check(vu_register(c->f->container, c->mem, SIZE, 0) == -EPERM);
	/* Its own memory is pinned, and charged to it. */
	child_check(!vu_map_rw(c->f->container, c->mem, 0, SIZE));
	child_check(vu_locked_kib() == KIB(NPAGES));
	child_check(vu_map_rw(c->second, c->mem, 0, PAGES(1)) == -EPERM);
	child_check(!vu_unmap(c->f->container, 0, SIZE, 0, NULL));
	child_check(!vu_locked_kib());
}

static void what_a_process_registers_is_its_own(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, VFIO_TYPE1_STRICT_IOMMU);
	registered(c.f, c.mem);
	in_child(try_to_use_the_parents, &c);
	/* Of fork() the parent notices nothing: its pages are its own. */
	assert_dma_reaches(c.f, 0, c.mem + PAGES(100), BASE + PAGES(100));
	assert_ok(vu_map_rw(c.f->container, c.mem, 0, SIZE));
	assert_dma_reaches(c.f, 0, c.mem + PAGES(7), PAGES(7));
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

static void fork_and_wait(void *arg)
{
	struct child_case *c = arg;
	char byte;

	memset(c->mem, 0x22, SIZE);
	child_check(write(c->to_parent[1], "", 1) == 1);
	child_check(read(c->to_child[0], &byte, 1) == 1);
}

/* The parent writes while a child has a copy: it must not be the parent that gets one. */
static void fork_does_not_part_memory_from_the_device(void **state)
{
	struct child_case c;
	int status;
	char byte;
	pid_t pid;

	child_case_init(&c, *state);
	registered(c.f, c.mem);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fork_and_wait(&c);
		_exit(0);
	}
	memset(c.mem, 0x33, SIZE);
	assert_int_equal(read(c.to_parent[0], &byte, 1), 1);
	assert_ok(vu_map_rw(c.f->container, c.mem, 0, SIZE));
	assert_dma_reaches(c.f, 0, c.mem + PAGES(100), PAGES(100));
	assert_dma_reaches(c.f, 0, c.mem, BASE);
	assert_int_equal(write(c.to_child[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	child_case_end(&c);
}

/* In a child, which the second container belongs to. */
static void register_and_map(void *arg)
{
	struct child_case *c = arg;

	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	child_check(!vu_register(c->second, c->mem, SIZE / 2, 0));
	child_check(!vu_register(c->second, c->mem, SIZE / 2, 0));
	child_check(!vu_register(c->second, c->mem + SIZE / 2, SIZE / 2, 0));
	child_check(!vu_map_rw(c->second, c->mem, BASE, PAGES(10)));
	child_check(vu_locked_kib() == KIB(NPAGES));
}

/* A container may outlive its process, and so may what is mapped in it. */
static void exit_leaves_what_is_mapped(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child(register_and_map, &c);
	wait_pinned(c.f, 10);
	/* The container is free for somebody else. */
	assert_ok(vu_register(c.second, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.second, c.mem, 0, SIZE));
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES + 10);
	assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
	wait_pinned(c.f, NPAGES);
	fixture_open_device(c.f, 1);
	assert_dma_reaches(c.f, 1, c.mem, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	/* This process still has the other one. */
	assert_pinned(c.f, NPAGES);
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	child_case_end(&c);
}

#define LARGE		PAGES(16384)

/* In a child: memory of its own kind, mapped here and there, and twice in part. */
static void register_much_and_wait(struct child_case *c)
{
	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	child_check(!vu_register(c->second, c->mem, LARGE, 0));
	child_check(!vu_map_rw(c->second, c->mem + PAGES(5), BASE, PAGES(10)));
	child_check(!vu_map_rw(c->second, c->mem + PAGES(10), 0, PAGES(10)));
	child_check(!vu_map_rw(c->second, c->mem + LARGE - PAGES(1), GIB, PAGES(1)));
	child_check(write(c->to_parent[1], "", 1) == 1);
	pause();
}

/* A few mapped pages keep no more than themselves of all that a dead process registered. */
static void a_kill_leaves_what_is_mapped(void **state)
{
	const struct backing kinds[] = {
		{ "memfd", mem_memfd }, { "hugetlb", mem_hugetlb_shared },
	};
	struct fixture *f = *state;
	struct child_case c;
	unsigned int i;
	int status;
	pid_t pid;
	char byte;

	child_case_init(&c, f);
	vu_free(c.mem, SIZE);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		at_step("%s", kinds[i].name);
		c.mem = kinds[i].alloc(LARGE);
		c.second = second_container(f, 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			register_much_and_wait(&c);
			_exit(1);
		}
		assert_int_equal(read(c.to_parent[0], &byte, 1), 1);
		assert_pinned(f, LARGE / VU_PAGE);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		wait_pinned(f, 16);
		fixture_open_device(f, 1);
		assert_dma_reaches(f, 1, c.mem + PAGES(5), BASE);
		assert_dma_reaches(f, 1, c.mem + LARGE - PAGES(1), GIB);
		/* What two mappings share stays for the other. */
		assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
		assert_pinned(f, 11);
		assert_dma_reaches(f, 1, c.mem + PAGES(10), 0);
		assert_dma_blocked(f, 1, c.mem + PAGES(5), BASE);
		assert_unmaps(c.second, GIB, PAGES(1), PAGES(1));
		assert_pinned(f, 10);
		assert_unmaps(c.second, 0, PAGES(10), PAGES(10));
		assert_nothing_held(f);
		fixture_close_device(f, 1);
		close(c.second);
		vu_free(c.mem, LARGE);
	}
	c.mem = private_memory();
	child_case_end(&c);
}

/* Replace the program by itself, with the second container; main() says what WHAT is. */
static void exec_with_container(const char *what, const struct child_case *c)
{
	char second[16];

	child_check(!fcntl(c->second, F_SETFD, 0));
	snprintf(second, sizeof(second), "%d", c->second);
	execl("/proc/self/exe", "test_registry", what, second, NULL);
	child_check(false);
}

static void register_map_and_exec(void *arg)
{
	register_and_map(arg);
	exec_with_container("exec", arg);
}

/* What the executed program does, with the container. */
static int after_exec(int container)
{
	char *mem = private_memory();

	child_check(!vu_locked_kib());
	/* What was mapped is there, what was registered is not. */
	child_check(vu_map_rw(container, mem, BASE, PAGES(10)) == -EEXIST);
	child_check(vu_unregister(container, mem, SIZE) == -ENOENT);
	child_check(!vu_register(container, mem, SIZE, 0));
	child_check(!vu_map_rw(container, mem, 0, SIZE));
	child_check(vu_locked_kib() == KIB(NPAGES));
	child_check(!vu_unmap(container, 0, SIZE, 0, NULL));
	child_check(!vu_unregister(container, mem, SIZE));
	child_check(!vu_locked_kib());
	return 0;
}

static void exec_leaves_what_is_mapped(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child(register_map_and_exec, &c);
	wait_pinned(c.f, 10);
	assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
	wait_pinned(c.f, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

/* In a child that has the only descriptor of its container. */
static void register_map_and_exec_without(void *arg)
{
	struct child_case *c = arg;
	char pinned[16];

	c->second = vu_container_open();
	child_check(!vu_group_open(&c->f->pci[0]) && !vu_group_attach(&c->f->pci[0], c->second));
	register_and_map(arg);
	child_check(fcntl(c->second, F_GETFD) == FD_CLOEXEC);
	snprintf(pinned, sizeof(pinned), "%ld", c->f->pinned);
	execl("/proc/self/exe", "test_registry", "exec-without", pinned, NULL);
	child_check(false);
}

/* What the executed program does, without: all is gone as long as it lives. */
static int after_exec_without(long pinned)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;

	while (vu_foll_pinned() != pinned && vu_now() < deadline)
		usleep(10000);
	child_check(vu_foll_pinned() == pinned);
	child_check(!vu_locked_kib());
	return 0;
}

static void exec_closes_the_container(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	in_child(register_map_and_exec_without, &c);
	assert_nothing_held(c.f);
	child_case_end(&c);
}

static int give_address(int container, char *mem)
{
	return vu_map(container, mem, BASE, PAGES(10), VFIO_DMA_MAP_FLAG_VADDR);
}

static int take_address(int container)
{
	return vu_unmap(container, BASE, PAGES(10), VFIO_DMA_UNMAP_FLAG_VADDR, NULL);
}

/* In a child. */
static void take_over(void *arg)
{
	struct child_case *c = arg;

	child_check(!vu_locked_kib());
	child_check(!give_address(c->f->container, c->mem));
	child_check(vu_locked_kib() == KIB(10));
}

/* A mapping that another process is given is charged to it; the region stays. */
static void a_mapping_can_be_handed_over(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	assert_ok(vu_register(c.f->container, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.f->container, c.mem, BASE, PAGES(10)));
	assert_ok(take_address(c.f->container));
	in_child(take_over, &c);
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES);
	assert_dma_reaches(c.f, 0, c.mem, BASE);
	assert_ret(vu_unregister(c.f->container, c.mem, SIZE), -EBUSY);
	/* And back. */
	assert_ok(take_address(c.f->container));
	assert_ok(give_address(c.f->container, c.mem));
	assert_charged(c.f, NPAGES);
	assert_unmaps(c.f->container, BASE, PAGES(10), PAGES(10));
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	child_case_end(&c);
}

/* In a child: take a mapping over, and say what is charged for it, whenever asked. */
static void take_over_and_stay(void *arg)
{
	struct child_case *c = arg;
	long kib;
	char byte;

	take_over(arg);
	/* If the test fails, this is not what keeps the container from the next one. */
	fixture_close(c->f);
	do {
		kib = vu_locked_kib();
		child_check(write(c->to_parent[1], &kib, sizeof(kib)) == sizeof(kib));
	} while (read(c->to_child[0], &byte, 1) == 1 && byte);
}

static long charged_to_child(const struct child_case *c)
{
	long kib = -1;

	assert_int_equal(read(c->to_parent[0], &kib, sizeof(kib)), (int)sizeof(kib));
	return kib;
}

static void fail_to_take_over(void *arg)
{
	struct child_case *c = arg;

	child_check(give_address(c->f->container, c->mem) == -ENOMEM);
	child_check(!vu_locked_kib());
}

/* The limit is raised to what it may be only when it was too low. */
static void fail_to_take_over_once(void *arg)
{
	const struct rlimit low = { PAGES(9), PAGES(10) }, enough = { PAGES(10), PAGES(10) };

	child_check(!setrlimit(RLIMIT_MEMLOCK, &low));
	fail_to_take_over(arg);
	child_check(!setrlimit(RLIMIT_MEMLOCK, &enough));
	take_over(arg);
}

/* Who may not be charged is not given the mapping; it stays as it was. */
static void taking_over_may_be_too_much(void **state)
{
	int fd = kmsg_open(), status;
	struct child_case c;
	pid_t pid;

	child_case_init(&c, *state);
	assert_ok(vu_register(c.f->container, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.f->container, c.mem, BASE, PAGES(10)));
	assert_ok(take_address(c.f->container));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		take_over_and_stay(&c);
		_exit(0);
	}
	assert_int_equal(charged_to_child(&c), KIB(10));

	assert_ok(take_address(c.f->container));
	in_child_nobody(PAGES(9), fail_to_take_over, &c);
	assert_logged(fd, "MAP_DMA with VADDR iova 0x140000000: RLIMIT_MEMLOCK .*exceeded");
	assert_int_equal(write(c.to_child[1], "1", 1), 1);
	assert_int_equal(charged_to_child(&c), KIB(10));
	assert_ret(take_address(c.f->container), -EINVAL);
	assert_ok(vu_group_open(&c.f->pci[1]));
	assert_ret(vu_group_attach(&c.f->pci[1], c.f->container), -EBUSY);
	assert_dma_reaches(c.f, 0, c.mem, BASE);

	in_child_nobody(PAGES(10), fail_to_take_over_once, &c);
	assert_int_equal(write(c.to_child[1], "1", 1), 1);
	assert_int_equal(charged_to_child(&c), 0);
	assert_ok(vu_group_attach(&c.f->pci[1], c.f->container));
	assert_ret(give_address(c.f->container, c.mem), -EINVAL);
	assert_dma_reaches(c.f, 0, c.mem, BASE);
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES);
	assert_unmaps(c.f->container, BASE, PAGES(10), PAGES(10));
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	assert_int_equal(write(c.to_child[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	child_case_end(&c);
	close(fd);
}

static void register_map_and_leave(void *arg)
{
	struct child_case *c = arg;

	register_and_map(arg);
	child_check(!take_address(c->second));
}

/* The process that registered it is gone: who takes it over is charged for the mapping. */
static void a_mapping_can_be_handed_over_by_the_dead(void **state)
{
	struct child_case c;
	int fd;

	child_case_init(&c, *state);
	vu_free(c.mem, SIZE);
	c.mem = mem_memfd_open(SIZE, &fd);
	c.second = second_container(*state, 0);
	in_child(register_map_and_leave, &c);
	wait_pinned(c.f, 10);
	assert_charged(c.f, 0);
	assert_ret(take_address(c.second), -EINVAL);
	assert_ok(give_address(c.second, c.mem));
	assert_charged(c.f, 10);
	fixture_open_device(c.f, 1);
	assert_dma_reaches(c.f, 1, c.mem, BASE);
	/* What is registered now has nothing to do with it. */
	assert_ok(vu_register(c.second, c.mem, SIZE, 0));
	assert_charged(c.f, NPAGES + 10);
	assert_ok(vu_unregister(c.second, c.mem, SIZE));
	assert_dma_reaches(c.f, 1, c.mem + PAGES(9), BASE + PAGES(9));
	assert_charged(c.f, 10);
	assert_pinned(c.f, 10);
	assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
	assert_nothing_held(c.f);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
	close(fd);
}

static void register_map_leave_and_exec(void *arg)
{
	register_map_and_leave(arg);
	exec_with_container("exec-vaddr", arg);
}

/* What the executed program does, with the container. */
static int after_exec_vaddr(int container)
{
	char *mem = private_memory();

	child_check(!vu_locked_kib());
	child_check(!give_address(container, mem));
	child_check(vu_locked_kib() == KIB(10));
	child_check(!vu_unmap(container, BASE, PAGES(10), 0, NULL));
	child_check(!vu_locked_kib());
	return 0;
}

/* As a VMM that replaces itself does it: nothing is registered any more, and it pays. */
static void a_mapping_can_be_handed_over_by_exec(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child(register_map_leave_and_exec, &c);
	wait_pinned(c.f, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

/* ---- Memory that takes its time ---- */

#define LATE_IOVA	(7 * GIB)

/* A request of a thread that has to wait for a page. */
struct late_request {
	int container;
	char *mem;
	int ret;
	pthread_t thread;
};

static void *late_register(void *arg)
{
	struct late_request *l = arg;

	l->ret = vu_register(l->container, l->mem, SIZE, 0);
	return NULL;
}

static void *late_map(void *arg)
{
	struct late_request *l = arg;

	l->ret = vu_map_rw(l->container, l->mem, LATE_IOVA, SIZE);
	return NULL;
}

/* Start one of them, up to where it waits. */
static bool late_start(struct late_request *l, void *(*request)(void *arg), int container,
		       const struct late *late)
{
	l->container = container;
	l->mem = late->mem;
	return !pthread_create(&l->thread, NULL, request, l) && late_wait(late);
}

static int late_result(struct late_request *l)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += TEST_TIMEOUT;
	assert_int_equal(pthread_timedjoin_np(l->thread, NULL, &deadline), 0);
	return l->ret;
}

/* Other requests, of the same process and container. */
static void assert_goes_on(const struct fixture *f, int container)
{
	char *mem = private_memory();

	assert_ok(vu_register(container, mem, SIZE, 0));
	assert_ok(vu_map_rw(container, mem, BASE, SIZE));
	assert_dma_reaches(f, 0, mem, BASE);
	assert_ret(vu_unregister(container, mem, SIZE), -EBUSY);
	assert_unmaps(container, BASE, SIZE, SIZE);
	assert_ok(vu_unregister(container, mem, SIZE));
	vu_free(mem, SIZE);
}

static void register_by_its_container(void *arg)
{
	struct child_case *c = arg;

	child_check(!vu_register(c->f->container, c->mem, SIZE, 0));
	child_check(!vu_map_rw(c->f->container, c->mem, BASE, SIZE));
	child_check(!vu_unmap(c->f->container, BASE, SIZE, 0, NULL));
	child_check(!vu_unregister(c->f->container, c->mem, SIZE));
}

/* While a REGISTER waits for memory others go on: the process's, and others'. */
static void registering_keeps_nobody_waiting(void **state)
{
	struct late_request first, second;
	struct fixture *f = *state;
	struct child_case c;
	struct late late;

	child_case_init(&c, f);
	assert_true(late_begin(&late, mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), SIZE));
	if (!kernel_at_least(6, 3)) {
		static const char why[] = "page 0.*: its userfaultfd has yet to provide it";
		int log = kmsg_open();

		/* Pinning can't wait there, and says what for. */
		assert_ret(vu_register(f->container, late.mem, SIZE, 0), -EFAULT);
		assert_ret(vu_map_rw(f->container, late.mem, BASE, SIZE), -EFAULT);
		assert_int_equal(kmsg_count(log, why), 2);
		close(log);
		late_end(&late);
		child_case_end(&c);
		return;
	}
	assert_true(late_start(&first, late_register, f->container, &late));
	assert_goes_on(f, f->container);
	/* Both wait for the same memory: it is registered twice, and charged once. */
	assert_true(late_start(&second, late_register, f->container, &late));
	late_come(&late, 0, SIZE);
	assert_ok(late_result(&first));
	assert_ok(late_result(&second));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_charged(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_nothing_held(f);

	/* Nothing is registered yet: another process may have the container. */
	assert_int_equal(madvise(late.mem, SIZE, MADV_DONTNEED), 0);
	assert_true(late_start(&first, late_register, f->container, &late));
	in_child(register_by_its_container, &c);
	late_come(&late, 0, SIZE);
	assert_ret(late_result(&first), -ENODEV);
	assert_nothing_held(f);
	late_end(&late);
	child_case_end(&c);
}

/* The same where it waits to see whether what is registered is still the same. */
static void registering_again_keeps_nobody_waiting(void **state)
{
	struct late_request again;
	struct fixture *f = *state;
	struct late late;

	assert_true(late_begin(&late, private_memory(), SIZE));
	assert_ok(vu_register(f->container, late.mem, SIZE, 0));
	assert_int_equal(madvise(late.mem + PAGES(100), PAGES(10), MADV_DONTNEED), 0);
	assert_true(late_start(&again, late_register, f->container, &late));
	assert_goes_on(f, f->container);
	/* Without the region there is nothing left to be the same: it registers what is there. */
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_charged(f, NPAGES);
	late_come(&late, PAGES(100), PAGES(10));
	assert_ok(late_result(&again));
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_nothing_held(f);
	assert_ret(vu_unregister(f->container, late.mem, SIZE), -ENOENT);

	/* The last container goes at once, and so does the memory, whoever looks at it. */
	assert_ok(vu_register(f->container, late.mem, SIZE, 0));
	assert_int_equal(madvise(late.mem + PAGES(100), PAGES(10), MADV_DONTNEED), 0);
	assert_true(late_start(&again, late_register, f->container, &late));
	fixture_close_device(f, 0);
	assert_nothing_held(f);
	late_come(&late, PAGES(100), PAGES(10));
	assert_ret(late_result(&again), -ENODEV);
	assert_nothing_held(f);
	late_end(&late);
}

/* Registered memory of which pages 100 to 109 have gone, and do not come. */
static bool late_missing(const struct late *late, int container)
{
	return !vu_register(container, late->mem, SIZE, 0) &&
	       !madvise(late->mem + PAGES(100), PAGES(10), MADV_DONTNEED);
}

/* The same where a MAP waits for that, and has begun to use the region. */
static void mapping_keeps_nobody_waiting(void **state)
{
	struct fixture *f = *state;
	struct late_request map;
	int fd = kmsg_open();
	struct late late;

	assert_true(late_begin(&late, private_memory(), SIZE));
	assert_true(late_missing(&late, f->container));
	assert_true(late_start(&map, late_map, f->container, &late));
	assert_ret(vu_unregister(f->container, late.mem, SIZE), -EBUSY);
	assert_logged(fd, "1 mappings use it, one of them 0x1c0000000-0x1c04affff of this");
	assert_goes_on(f, f->container);
	/* Of the same region, too: where nothing changed, and beside what did. */
	assert_ok(vu_map_rw(f->container, late.mem + SIZE - VU_PAGE, 0, VU_PAGE));
	assert_ok(vu_map_rw(f->container, late.mem + PAGES(90), PAGES(1), PAGES(10)));
	assert_dma_reaches(f, 0, late.mem + PAGES(99), PAGES(10));
	assert_unmaps(f->container, 0, PAGES(11), PAGES(11));
	assert_ret(vu_unregister(f->container, late.mem, SIZE), -EBUSY);

	late_come(&late, PAGES(100), PAGES(10));
	assert_ret(late_result(&map), -ESTALE);
	assert_logged(fd, "MAP_DMA iova 0x1c0000000 .* is not what was registered at vaddr");
	assert_charged(f, NPAGES);
	assert_ok(vu_unregister(f->container, late.mem, SIZE));
	assert_nothing_held(f);
	assert_ok(vu_map_rw(f->container, late.mem, LATE_IOVA, SIZE));
	assert_dma_reaches(f, 0, late.mem + PAGES(100), LATE_IOVA + PAGES(100));
	assert_unmaps_all(f->container, SIZE);
	late_end(&late);
	close(fd);
}

/* In a child: begin a MAP that nobody ends. */
static void map_for_ever(struct child_case *c)
{
	struct late_request map;
	struct late late;

	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	child_check(late_begin(&late, c->mem, SIZE) && late_missing(&late, c->second));
	child_check(late_start(&map, late_map, c->second, &late));
	child_check(write(c->to_parent[1], "", 1) == 1);
	pthread_join(map.thread, NULL);
}

/* A fatal signal ends it, and leaves nothing of it, nor of the region. */
static void a_kill_ends_a_map_that_waits(void **state)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;
	int fd = kmsg_open(), status;
	struct child_case c;
	pid_t pid, ended;
	char byte;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		map_for_ever(&c);
		_exit(1);
	}
	assert_int_equal(read(c.to_parent[0], &byte, 1), 1);
	assert_pinned(c.f, NPAGES);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	do {
		ended = waitpid(pid, &status, WNOHANG);
		usleep(10000);
	} while (!ended && vu_now() < deadline);
	assert_int_equal(ended, pid);
	assert_true(WIFSIGNALED(status));
	wait_pinned(c.f, 0);
	/* It was ended, not answered. */
	assert_int_equal(kmsg_count(fd, "is not what was registered"), 0);
	/* The container is as good as new. */
	assert_ok(vu_register(c.second, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.second, c.mem, LATE_IOVA, SIZE));
	fixture_open_device(c.f, 1);
	assert_dma_reaches(c.f, 1, c.mem + PAGES(100), LATE_IOVA + PAGES(100));
	fixture_close_device(c.f, 1);
	close(c.second);
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	child_case_end(&c);
	close(fd);
}

/* ---- What it costs ---- */

#define COST_SIZE	(64 * MIB)

/* What registering costs the cgroup lies between these; unregistering gives it back. */
static void check_cost(int container, char *mem, long at_least, long at_most)
{
	const long before = cgroup_kernel();
	long cost;

	child_check(!vu_register(container, mem, COST_SIZE, 0));
	cost = cgroup_kernel() - before;
	fprintf(stderr, "# registering %lu pages costs %ld bytes\n", COST_SIZE / VU_PAGE, cost);
	child_check(cost >= at_least && cost <= at_most);
	child_check(!vu_unregister(container, mem, COST_SIZE));
	cost = cgroup_kernel() - before;
	child_check(cost <= at_most / 4);
	vu_free(mem, COST_SIZE);
}

static void register_in_a_cgroup(void *arg)
{
	/* Something else comes and goes meanwhile, like page tables. */
	const long tables = COST_SIZE / VU_PAGE * 8, other = 48 * 1024;
	struct child_case *c = arg;

	cgroup_enter();
	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	check_cost(c->second, vu_alloc(VU_SCATTERED, COST_SIZE), tables - other,
		   tables + other);
	check_cost(c->second, vu_alloc(VU_HUGETLB, COST_SIZE), -other, other);
}

/* 8 bytes a page if no two follow each other, next to nothing if they do; to the cgroup. */
static void frames_are_charged_to_the_cgroup(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	cgroup_begin(NULL);
	in_child(register_in_a_cgroup, &c);
	cgroup_end();
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

/* ---- Dirty pages ---- */

static void dirty_tracking_is_the_same(void **state)
{
	const struct fixture *f = *state;
	struct {
		struct vfio_iommu_type1_dirty_bitmap head;
		struct vfio_iommu_type1_dirty_bitmap_get range;
	} get = {
		.head = { .argsz = sizeof(get), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START },
		.range = { .iova = BASE, .size = PAGES(100) },
	};
	char *mem = memory();
	__u64 bits[2] = {};

	get.range.bitmap.pgsize = VU_PAGE;
	get.range.bitmap.size = sizeof(bits);
	get.range.bitmap.data = bits;
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DIRTY_PAGES, &get), 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(100)));
	get.head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DIRTY_PAGES, &get), 0);
	assert_true(bits[0] == ~0ULL && bits[1] == (1ULL << 36) - 1);
	vu_free(mem, SIZE);
}

/* ---- The example of the documentation ---- */

/* Where tests/vm/check puts it. */
#define EXAMPLE	"/registered-memory"

/* Runs in a child. */
static void exec_example(void *arg)
{
	const struct child_case *c = arg;
	char group[16];

	snprintf(group, sizeof(group), "%d", c->f->pci[0].group);
	child_check(dup2(c->to_parent[1], STDOUT_FILENO) >= 0);
	execl(EXAMPLE, EXAMPLE, group, NULL);
	child_check(false);
}

static void the_example_does_what_it_says(void **state)
{
	char out[4096] = "", *line;
	struct child_case c;
	unsigned int lines = 0;

	child_case_init(&c, *state);
	in_child(exec_example, &c);
	assert_true(read(c.to_parent[0], out, sizeof(out) - 1) > 0);
	for (line = strtok(out, "\n"); line; line = strtok(NULL, "\n"), lines++)
		print_message("%s\n", line);
	assert_int_equal(lines, 16);
	assert_nothing_held(c.f);
	child_case_end(&c);
}

/* ---- Races ---- */

#define RACE_US		2000000
#define RACE_PAGES	300UL
#define RACE_THREADS	6

/* What all threads work on: three regions side by side, two containers. */
struct race {
	int container[2];
	char *mem;
	bool stop;
	unsigned int done[RACE_THREADS];
	int odd;
};

struct racer {
	struct race *race;
	unsigned int nr;
	pthread_t thread;
};

static bool race_on(struct race *r)
{
	return !__atomic_load_n(&r->stop, __ATOMIC_RELAXED);
}

/*
 * One of the answers that the others can cause. There is always memory at every
 * address, and enough of it, and no limit.
 */
static void race_answer(struct race *r, int ret, int a, int b)
{
	if (ret && ret != a && ret != b)
		__atomic_store_n(&r->odd, ret, __ATOMIC_RELAXED);
}

static void *race_thread(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->race;
	unsigned int seed = me->nr, turn;

	for (turn = 0; race_on(r); turn++) {
		const unsigned int which = rand_r(&seed) % 3;
		char *mem = r->mem + which * PAGES(RACE_PAGES);
		const int container = r->container[rand_r(&seed) % 2];
		const __u64 iova = BASE + me->nr * GIB, size = PAGES(1 + rand_r(&seed) % 50);
		int ret;

		switch (me->nr) {
		case 0:	/* registers, as often as others unregister */
			ret = vu_register(container, mem, PAGES(RACE_PAGES), 0);
			race_answer(r, ret, -ESTALE, 0);
			break;
		case 1:	/* unregisters */
			ret = vu_unregister(container, mem, PAGES(RACE_PAGES));
			race_answer(r, ret, -ENOENT, -EBUSY);
			break;
		case 2:	/* changes memory */
			mem += PAGES(rand_r(&seed) % RACE_PAGES);
			if (turn % 2)
				ret = madvise(mem, VU_PAGE, MADV_DONTNEED);
			else
				ret = mmap(mem, VU_PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
				      mem;
			break;
		default: /* map and unmap */
			mem += PAGES(rand_r(&seed) % (RACE_PAGES - 50));
			ret = vu_map_rw(container, mem, iova, size);
			race_answer(r, ret, -ESTALE, 0);
			if (!ret)
				ret = vu_unmap(container, iova, size, 0, NULL);
		}
		r->done[me->nr] += !ret;
	}
	return NULL;
}

static void race_start(struct race *r, struct racer *racers, int first, int second)
{
	unsigned int i;

	memset(r, 0, sizeof(*r));
	r->container[0] = first;
	r->container[1] = second;
	r->mem = mmap(NULL, PAGES(3 * RACE_PAGES), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < RACE_THREADS; i++) {
		racers[i] = (struct racer) { .race = r, .nr = i };
		if (r->mem == MAP_FAILED ||
		    pthread_create(&racers[i].thread, NULL, race_thread, &racers[i]))
			abort();
	}
}

static void everything_at_once(void **state)
{
	struct fixture *f = *state;
	int second = second_container(f, VFIO_TYPE1v2_IOMMU);
	struct racer racers[RACE_THREADS];
	struct race r;
	unsigned int i, left = 0;

	race_start(&r, racers, f->container, second);
	usleep(RACE_US);
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < RACE_THREADS; i++) {
		assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
		at_step("thread %u", i);
		assert_true(r.done[i] > 0);
	}
	assert_int_equal(r.odd, 0);
	for (i = 0; i < 3; i++)
		while (!vu_unregister(second, r.mem + i * PAGES(RACE_PAGES), PAGES(RACE_PAGES)))
			left++;
	assert_nothing_held(f);
	print_message("%u registered, %u of them left\n", r.done[0], left);
	vu_free(r.mem, PAGES(3 * RACE_PAGES));
	fixture_close_device(f, 1);
	close(second);
}

/* In a child, until it is killed, or, if it is to end by exec, for a while. */
static void race_until_the_end(struct child_case *c, useconds_t us, bool exec)
{
	struct racer racers[RACE_THREADS];
	int first = vu_container_open();
	struct race r;

	child_check(!vu_group_open(&c->f->pci[0]) && !vu_group_attach(&c->f->pci[0], first));
	child_check(!vu_set_iommu(first, VFIO_TYPE1v2_IOMMU));
	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	race_start(&r, racers, first, c->second);
	if (exec) {
		usleep(us);
		execl("/proc/self/exe", "test_registry", "exec-nothing", "", NULL);
		child_check(false);
	}
	pause();
}

/*
 * The process dies, or becomes another one, in the middle of everything; one container
 * outlives that, one does not.
 */
static void gone_at_any_time(void **state)
{
	struct child_case c;
	unsigned int i;

	child_case_init(&c, *state);
	for (i = 0; i < 24; i++) {
		const useconds_t us = 20000 + 25000 * i;
		const bool exec = i & 2;
		int status;
		pid_t pid;

		at_step("turn %u", i);
		c.second = second_container(c.f, 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			race_until_the_end(&c, us, exec);
			_exit(1);
		}
		if (!exec) {
			usleep(us);
			assert_int_equal(kill(pid, SIGKILL), 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(exec ? WIFEXITED(status) && !WEXITSTATUS(status) : WIFSIGNALED(status));
		/* What was mapped in the one that is left goes with it. */
		if (i % 2)
			vu_unmap(c.second, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL);
		else
			close(c.second);
		fixture_close_device(c.f, 1);
		wait_pinned(c.f, 0);
		if (i % 2)
			close(c.second);
	}
	child_case_end(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(it_can_be_found),
		TEST_V2(wrong_values_are_refused),
		TEST_V2(one_pin_for_all_containers),
		TEST_V1(again_takes_a_reference),
		TEST_V2(partly_inside_is_pinned_as_ever),
		TEST_V2(device_memory_is_not_registered),
		TEST_V2(the_limit_counts_once),
		TEST_V2(a_mapping_keeps_its_region),
		TEST_V2(the_last_container_takes_everything),
		TEST_CLOSED(attach_replays_registered_memory),
		TEST_V2(strict_containers_want_registered_memory),
		TEST_V2(unmapped_memory_is_stale),
		TEST_V2(dropped_memory_is_stale),
		TEST_V2(moved_memory_is_stale),
		TEST_V2(punched_memory_is_stale),
		TEST_V2(the_same_memory_again_is_not_stale),
		TEST_V2(what_a_process_registers_is_its_own),
		TEST_V2(fork_does_not_part_memory_from_the_device),
		TEST_V2(exit_leaves_what_is_mapped),
		TEST_V2(a_kill_leaves_what_is_mapped),
		TEST_V2(exec_leaves_what_is_mapped),
		TEST_CLOSED(exec_closes_the_container),
		TEST_V2(a_mapping_can_be_handed_over),
		TEST_V2(taking_over_may_be_too_much),
		TEST_V2(a_mapping_can_be_handed_over_by_the_dead),
		TEST_V2(a_mapping_can_be_handed_over_by_exec),
		TEST_V2(registering_keeps_nobody_waiting),
		TEST_V2(registering_again_keeps_nobody_waiting),
		TEST_V2(mapping_keeps_nobody_waiting),
		TEST_V2(a_kill_ends_a_map_that_waits),
		TEST_V2(frames_are_charged_to_the_cgroup),
		TEST_V2(dirty_tracking_is_the_same),
		TEST_CLOSED(the_example_does_what_it_says),
		TEST_V2(everything_at_once),
		TEST_CLOSED(gone_at_any_time),
	};

	/* What tests of exec() go on with: exec[-vaddr] CONTAINER, exec-without PINNED. */
	if (argc == 3 && !strcmp(argv[1], "exec"))
		return after_exec(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "exec-vaddr"))
		return after_exec_vaddr(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "exec-without"))
		return after_exec_without(atol(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "exec-nothing"))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
