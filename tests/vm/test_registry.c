// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory, by the rules of Documentation/registered-memory.rst: with real page
 * tables, two containers, and what a process does to memory that it has registered.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../bench/floor/floor.h"
#include "debugfs.h"
#include "registered.h"

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
	unsigned int containers, n;
	char *text;

	debugfs_newest(&containers);
	assert_int_equal(containers, 1);
	text = debugfs_read("domains");
	n = debugfs_count(text, "domain");
	free(text);
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

	if (kernel_debugs()) {
		print_message("what a detector keeps of page tables and objects is charged, too\n");
		skip();
	}
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(it_can_be_found),
		TEST_V2(wrong_values_are_refused),
		TEST_V2(one_pin_for_all_containers),
		TEST_V1(again_takes_a_reference),
		TEST_V2(partly_inside_is_pinned_as_ever),
		TEST_V2(device_memory_is_not_registered),
		TEST_V2(a_mapping_keeps_its_region),
		TEST_V2(the_last_container_takes_everything),
		TEST_CLOSED(attach_replays_registered_memory),
		TEST_V2(strict_containers_want_registered_memory),
		TEST_V2(unmapped_memory_is_stale),
		TEST_V2(dropped_memory_is_stale),
		TEST_V2(moved_memory_is_stale),
		TEST_V2(punched_memory_is_stale),
		TEST_V2(the_same_memory_again_is_not_stale),
		TEST_V2(frames_are_charged_to_the_cgroup),
		TEST_V2(dirty_tracking_is_the_same),
		TEST_CLOSED(the_example_does_what_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
