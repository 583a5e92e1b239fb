// SPDX-License-Identifier: GPL-2.0-only
/*
 * The benchmark that runs in the VM: what MAP_DMA and UNMAP_DMA cost, for memory
 * of various kinds, with the in-tree module, with ours, and on the floor.
 *
 *	bench [OPTION]... CASE...
 *
 *	-t TARGET	only intree, ours or floor
 *	-r RUNS		of which the best counts; default 3
 *	-c		count calls, too
 *	-k		print the symbols of the kernel's code, for a profile
 *
 * CASE may be NAME=SIZE, with K, M or G, to map another size: where one MAP takes
 * all of the memory, there is as much memory; else it is mapped again and again.
 *
 * All targets see the same memory: modules are exchanged while it is there.
 * One line for each case, target and operation:
 *
 *	result CASE TARGET OPERATION NS PAGES RUNS
 *	count CASE TARGET OPERATION FUNCTION CALLS
 *
 * NS is for all pages, in nanoseconds, which are instructions in a VM whose
 * clock is made of them; RUNS are physically contiguous stretches, 0 if not known.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/mman.h>

#include "../vm/vfio_user.h"
#include "floor/floor.h"
#include "lib.h"

#define IOVA		(4 * VU_1G)
#define FLOOR_DEVICE	"/dev/vfio_type1_floor"
#define FLOOR_KO	"/vfio_type1_floor.ko"
#define TESTDEV		1	/* the pci-testdev whose BAR 2 is large */
#define TESTDEV_BAR	VFIO_PCI_BAR2_REGION_INDEX

/*
 * Markers for the profiler (profile.c): nops with a number, before and after what
 * is measured.
 */
#define SECTION_MAP	1
#define SECTION_UNMAP	2
#define MARKER(section, kind)	\
	({ asm volatile(".byte 0x0f, 0x1f, 0x84, 0x00, %c0, 0x00, " kind ", 0x56" \
			:: "i"(section) : "memory"); })
#define section_start(section)	MARKER(section, "0x51")
#define section_stop(section)	MARKER(section, "0x52")

/* Nanoseconds; what takes longer isn't measured again: whatever is first is little of it. */
#define LONG	1000000000ULL

static int runs = 3;
static bool count_calls;

/* What reading the clock costs. */
static __u64 clock_cost;

/* ---- What is measured ---- */

enum memory {
	MEM_SEQUENTIAL,		/* 4K pages, touched one after the other */
	MEM_RUNS_OF_8,		/* 4K pages in runs of eight */
	MEM_SCATTERED,		/* 4K pages, each a run of its own */
	MEM_THP,
	MEM_2M,			/* hugetlb */
	MEM_1G,
	MEM_SHMEM,		/* a memfd, shared, each page a run of its own */
	MEM_COLD,		/* 4K pages that nobody has touched yet */
	MEM_BAR,		/* of a device */
};

struct bench;

struct bench_case {
	const char *name;
	enum memory memory;
	__u64 mem_size;		/* bytes of memory */
	__u64 size;		/* bytes mapped, the memory again and again; 0: once */
	__u64 map_step;		/* bytes per ioctl; 0: all of the memory */
	__u64 unmap_step;	/* bytes per ioctl; 0: all that is mapped */
	void (*run)(struct bench *b); /* if it is not just MAP and UNMAP */
	bool registered;	/* with ours, the memory is registered before */
};

struct bench {
	const struct bench_case *c;
	const struct target *target;
	char *mem;
	__u64 size;		/* bytes to map */
	size_t nruns;		/* 0: not known */
	struct vu_pci edu;	/* that the memory is mapped for */
	struct vu_pci testdev;	/* whose BAR the memory is, if it is one */
	int fd;			/* container, or the floor's device */
};

struct target {
	const char *name;
	const char *module;	/* of the two type1 modules: below lib/modules/RELEASE */
	void (*open)(struct bench *b);
	void (*prepare)(struct bench *b);	/* may be NULL */
	void (*close)(struct bench *b);
	int (*map)(struct bench *b, __u64 offset, __u64 size);
	int (*unmap)(struct bench *b, __u64 offset, __u64 size);
};

static char *bench_vaddr(const struct bench *b, __u64 offset)
{
	return b->mem + offset % b->c->mem_size;
}

/* ---- Memory ---- */

static void *alloc_anonymous(__u64 size, int flags)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static void *alloc_4k(__u64 size, bool touch)
{
	char *mem = alloc_anonymous(size, 0);

	if (!mem || madvise(mem, size, MADV_NOHUGEPAGE))
		return NULL;
	if (touch)
		memset(mem, 1, size);
	return mem;
}

/*
 * Touch memory so that each block of so many bytes becomes a run: the kernel hands
 * out pages in rising order, so take every second block, then the others. 37 is
 * prime to their number, and blocks that are neighbours get far apart.
 */
static void touch_blocks(char *mem, __u64 size, __u64 block)
{
	const __u64 half = size / block / 2;
	__u64 i;

	for (i = 0; i < 2 * half; i++)
		memset(mem + (2 * (i * 37 % half) + i / half) * block, 1, block);
}

static void *alloc_runs_of_8(__u64 size)
{
	char *mem = alloc_4k(size, false);

	if (mem)
		touch_blocks(mem, size, 8 * VU_PAGE);
	return mem;
}

static void *alloc_shmem(__u64 size)
{
	int fd = memfd_create("bench", 0);
	char *mem;

	if (fd < 0 || ftruncate(fd, size))
		return NULL;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	touch_blocks(mem, size, VU_PAGE);
	return mem;
}

/* Not a BAR, which only an open device has. */
static void *alloc_ram(enum memory memory, __u64 size)
{
	switch (memory) {
	case MEM_SEQUENTIAL:
		return alloc_4k(size, true);
	case MEM_COLD:
		return alloc_4k(size, false);
	case MEM_RUNS_OF_8:
		return alloc_runs_of_8(size);
	case MEM_SCATTERED:
		return vu_alloc(VU_SCATTERED, size);
	case MEM_THP:
		return vu_alloc(VU_THP, size);
	case MEM_2M:
		return vu_alloc(VU_HUGETLB, size);
	case MEM_1G:
		return alloc_anonymous(size, MAP_HUGETLB | MAP_HUGE_1GB | MAP_POPULATE);
	case MEM_SHMEM:
		return alloc_shmem(size);
	case MEM_BAR:
		break;
	}
	return NULL;
}

static void alloc(struct bench *b)
{
	struct vu_layout layout;

	if (b->c->memory == MEM_BAR)
		return;
	b->mem = alloc_ram(b->c->memory, b->c->mem_size);
	if (!b->mem)
		err(1, "%s: no memory", b->c->name);
	if (b->c->memory == MEM_COLD)
		return;
	must("pagemap", vu_layout(b->mem, b->c->mem_size, IOVA, &layout));
	b->nruns = layout.nruns * (b->size / b->c->mem_size);
}

/* ---- The two type1 modules ---- */

/* Add a device to the container. */
static void type1_add(struct bench *b, struct vu_pci *pci, __u16 vendor, __u16 device,
		      unsigned int nth)
{
	must("find", vu_pci_find(pci, vendor, device, nth));
	must(pci->bdf, vu_pci_bind(pci));
	must(pci->bdf, vu_group_open(pci));
	must(pci->bdf, vu_group_attach(pci, b->fd));
	must(pci->bdf, vu_device_open(pci));
}

/* Register the memory, if the case is about that and the module can. */
static void type1_register(struct bench *b)
{
	if (b->c->registered && ioctl(b->fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1_MEMORY) == 1)
		must("register", vu_register(b->fd, b->mem, b->c->mem_size, 0));
}

static void type1_open(struct bench *b)
{
	size_t size;

	type1_select(b->target->module);
	b->fd = must("edu", vu_open(&b->edu, VU_EDU_VENDOR, VU_EDU_DEVICE, 0,
				    VFIO_TYPE1v2_IOMMU));
	type1_register(b);
	if (b->c->memory != MEM_BAR)
		return;
	type1_add(b, &b->testdev, VU_TESTDEV_VENDOR, VU_TESTDEV_DEVICE, TESTDEV);
	b->mem = vu_region_mmap(&b->testdev, TESTDEV_BAR, &size);
	if (!b->mem || size != b->c->mem_size)
		err(1, "mapping the BAR");
}

static void type1_close(struct bench *b)
{
	if (b->c->memory == MEM_BAR) {
		munmap(b->mem, b->c->mem_size);
		vu_pci_close(&b->testdev);
	}
	vu_pci_close(&b->edu);
	close(b->fd);
}

static int type1_map(struct bench *b, __u64 offset, __u64 size)
{
	return vu_map_rw(b->fd, bench_vaddr(b, offset), IOVA + offset, size);
}

static int type1_unmap(struct bench *b, __u64 offset, __u64 size)
{
	__u64 unmapped;
	int ret = vu_unmap(b->fd, IOVA + offset, size, 0, &unmapped);

	return ret ?: unmapped == size ? 0 : -EIO;
}

/* ---- The floor ---- */

static __u64 map_step(const struct bench *b)
{
	return b->c->map_step ?: b->c->mem_size;
}

static int floor_open_file(void)
{
	int fd = open(FLOOR_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		module_load(FLOOR_KO, "");
		fd = open(FLOOR_DEVICE, O_RDWR | O_CLOEXEC);
	}
	return fd < 0 ? must(FLOOR_DEVICE, -errno) : fd;
}

static int floor_ioctl(struct bench *b, unsigned long cmd, __u64 offset, __u64 size)
{
	struct floor_range range = {
		.vaddr = (unsigned long)bench_vaddr(b, offset),
		.iova = IOVA + offset,
		.size = size,
	};

	return ioctl(b->fd, cmd, &range) ? -errno : 0;
}

static void floor_open(struct bench *b)
{
	b->fd = floor_open_file();
}

/* What is first touched when it is pinned can't be known before. */
static void floor_prepare(struct bench *b)
{
	__u64 offset;

	must("FLOOR_FORGET", floor_ioctl(b, FLOOR_FORGET, 0, 0));
	if (b->c->memory == MEM_COLD)
		return;
	for (offset = 0; offset < b->size; offset += map_step(b))
		must("FLOOR_KNOW", floor_ioctl(b, FLOOR_KNOW, offset, map_step(b)));
}

static void floor_close(struct bench *b)
{
	close(b->fd);
}

static int floor_map(struct bench *b, __u64 offset, __u64 size)
{
	return floor_ioctl(b, FLOOR_MAP, offset, size);
}

static int floor_unmap(struct bench *b, __u64 offset, __u64 size)
{
	return floor_ioctl(b, FLOOR_UNMAP, offset, size);
}

static const struct target targets[] = {
	{ "intree", TYPE1_INTREE, type1_open, NULL, type1_close, type1_map, type1_unmap },
	{ "ours", TYPE1_OURS, type1_open, NULL, type1_close, type1_map, type1_unmap },
	{ "floor", NULL, floor_open, floor_prepare, floor_close, floor_map, floor_unmap },
};

/* ---- Counting calls ---- */

#define TRACING	"/sys/kernel/tracing/"

/* Of the functions that one kind of IOMMU or kernel does not have, none is counted. */
static const char * const counted[] = {
	"iommu_map", "iommu_map_sg", "iommu_unmap", "iommu_unmap_fast", "iommu_iova_to_phys",
	"pin_user_pages_fast", "pin_user_pages_remote",
	"qi_submit_sync",		/* VT-d: wait until commands are done */
	"iommu_completion_wait",	/* AMD-Vi: the same */
};

static bool counting;

static bool write_file(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) > 0;

	close(fd);
	return ok;
}

static void count_init(void)
{
	/* The compiler renames functions that it has made simpler. */
	static const char * const suffixes[] = { "", ".isra.0" };
	char probe[128];
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(counted); i++) {
		for (j = 0; j < ARRAY_SIZE(suffixes); j++) {
			snprintf(probe, sizeof(probe), "p:bench/%s %s%s", counted[i], counted[i],
				 suffixes[j]);
			if (write_file(TRACING "kprobe_events", probe))
				break;
		}
	}
}

static void count_switch(bool on)
{
	if (!write_file(TRACING "events/bench/enable", on ? "1" : "0"))
		err(1, "kprobes");
	counting = on;
}

/* How often each function was called since the VM was booted. */
static void count_read(unsigned long calls[ARRAY_SIZE(counted)])
{
	char line[256], name[128];
	unsigned long hits;
	FILE *f;
	size_t i;

	memset(calls, 0, ARRAY_SIZE(counted) * sizeof(*calls));
	f = fopen(TRACING "kprobe_profile", "r");
	if (!f)
		err(1, "kprobe_profile");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%127s %lu", name, &hits) != 2)
			continue;
		for (i = 0; i < ARRAY_SIZE(counted); i++) {
			if (!strcmp(counted[i], name))
				calls[i] = hits;
		}
	}
	fclose(f);
}

/* ---- Measuring ---- */

static void clock_init(void)
{
	__u64 start;
	int i;

	clock_cost = -1;
	for (i = 0; i < 10; i++) {
		start = vu_now();
		start = vu_now() - start;
		if (start < clock_cost)
			clock_cost = start;
	}
}

static void do_map(struct bench *b)
{
	__u64 offset, step = map_step(b);

	section_start(SECTION_MAP);
	for (offset = 0; offset < b->size; offset += step)
		must(b->c->name, b->target->map(b, offset, step));
	section_stop(SECTION_MAP);
}

static void do_unmap(struct bench *b)
{
	__u64 offset, step = b->c->unmap_step ?: b->size;

	section_start(SECTION_UNMAP);
	for (offset = 0; offset < b->size; offset += step)
		must(b->c->name, b->target->unmap(b, offset, step));
	section_stop(SECTION_UNMAP);
}

/*
 * Do it, and keep in *best how long it took if that's less than ever; while calls
 * are counted time means nothing, so print how many there were.
 */
static void measure(struct bench *b, const char *op, void (*what)(struct bench *b), __u64 *best)
{
	unsigned long before[ARRAY_SIZE(counted)], after[ARRAY_SIZE(counted)];
	__u64 ns;
	size_t i;

	if (!counting) {
		ns = vu_now();
		what(b);
		ns = vu_now() - ns - clock_cost;
		if (!*best || ns < *best)
			*best = ns;
		return;
	}
	count_read(before);
	what(b);
	count_read(after);
	for (i = 0; i < ARRAY_SIZE(counted); i++) {
		if (after[i] != before[i])
			printf("count %s %s %s %s %lu\n", b->c->name, b->target->name, op,
			       counted[i], after[i] - before[i]);
	}
}

static void print_result(const struct bench *b, const char *op, __u64 ns)
{
	printf("result %s %s %s %llu %llu %zu\n", b->c->name, b->target->name, op, ns,
	       b->size / VU_PAGE, b->nruns);
}

/* MAP and UNMAP all: what most cases are about. */
static void run_map_unmap(struct bench *b)
{
	__u64 map_ns = 0, unmap_ns = 0;
	int i;

	b->target->open(b);
	for (i = 0; i < runs + count_calls; i++) {
		if (i < runs && map_ns + unmap_ns > LONG)
			continue;
		if (b->c->memory == MEM_COLD)
			alloc(b);
		if (b->target->prepare)
			b->target->prepare(b);
		if (i == runs)
			count_switch(true);
		measure(b, "map", do_map, &map_ns);
		measure(b, "unmap", do_unmap, &unmap_ns);
	}
	if (counting)
		count_switch(false);
	b->target->close(b);
	print_result(b, "map", map_ns);
	print_result(b, "unmap", unmap_ns);
}

static struct vu_pci late;

static void attach_late(struct bench *b)
{
	must("attach", vu_group_attach(&late, b->fd));
}

/*
 * A group comes late, into a container with mappings, and needs a domain of its
 * own. What it would cost without mappings is subtracted.
 */
static void run_replay(struct bench *b)
{
	__u64 empty_ns = 0, full_ns = 0;
	int i, floor;

	floor = floor_open_file();
	if (ioctl(floor, FLOOR_NO_SHARING))
		err(1, "FLOOR_NO_SHARING");
	b->target->open(b);
	must("find", vu_pci_find(&late, VU_EDU_VENDOR, VU_EDU_DEVICE, 1));
	must("bind", vu_pci_bind(&late));
	must("group", vu_group_open(&late));
	for (i = 0; i < runs; i++) {
		measure(b, "replay", attach_late, &empty_ns);
		must("detach", vu_group_detach(&late));
	}
	do_map(b);
	for (i = 0; i < runs + count_calls; i++) {
		if (i == runs)
			count_switch(true);
		measure(b, "replay", attach_late, &full_ns);
		must("detach", vu_group_detach(&late));
	}
	if (counting)
		count_switch(false);
	do_unmap(b);
	vu_pci_close(&late);
	b->target->close(b);
	close(floor);
	print_result(b, "replay", full_ns - empty_ns);
}

/* Like a VM of so much memory: map it, and never unmap, but go. */
static void run_guest(struct bench *b)
{
	__u64 map_ns = 0, shutdown_ns = 0;

	b->target->open(b);
	measure(b, "map", do_map, &map_ns);
	measure(b, "shutdown", b->target->close, &shutdown_ns);
	print_result(b, "map", map_ns);
	print_result(b, "shutdown", shutdown_ns);
}

static void dirty_ioctl(struct bench *b, __u32 flags, void *bitmap)
{
	struct {
		struct vfio_iommu_type1_dirty_bitmap op;
		struct vfio_iommu_type1_dirty_bitmap_get get;
	} arg = {
		.op = { .argsz = bitmap ? sizeof(arg) : sizeof(arg.op), .flags = flags },
		.get = {
			.iova = IOVA,
			.size = b->size,
			.bitmap = {
				.pgsize = VU_PAGE,
				.size = b->size / VU_PAGE / 8,
				.data = bitmap,
			},
		},
	};

	if (ioctl(b->fd, VFIO_IOMMU_DIRTY_PAGES, &arg))
		err(1, "DIRTY_PAGES");
}

static void *bitmap;

static void get_bitmap(struct bench *b)
{
	dirty_ioctl(b, VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, bitmap);
}

static void run_bitmap(struct bench *b)
{
	__u64 ns = 0;
	int i;

	bitmap = alloc_4k(b->size / VU_PAGE / 8, true);
	if (!bitmap)
		err(1, "no memory");
	b->target->open(b);
	do_map(b);
	dirty_ioctl(b, VFIO_IOMMU_DIRTY_PAGES_FLAG_START, NULL);
	for (i = 0; i < runs; i++)
		measure(b, "get-bitmap", get_bitmap, &ns);
	dirty_ioctl(b, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP, NULL);
	b->target->close(b);
	munmap(bitmap, b->size / VU_PAGE / 8);
	print_result(b, "get-bitmap", ns);
}

/*
 * A virtual IOMMU: so many mappings live at a time, and random ones are replaced by
 * others of 4K to 64K. Each has a slot of IOVA for the largest.
 */
#define VIOMMU_LIVE	100000U
#define VIOMMU_REPLACED	20000U
#define VIOMMU_SLOT	(16 * VU_PAGE)

static __u64 viommu_size[VIOMMU_LIVE];
static unsigned int viommu_seed;

static void viommu_map_slot(struct bench *b, unsigned int slot)
{
	const __u64 size = (1 + rand_r(&viommu_seed) % 16) * VU_PAGE;
	const __u64 at = rand_r(&viommu_seed) % ((b->c->mem_size - VIOMMU_SLOT) / VU_PAGE);

	viommu_size[slot] = size;
	must("map", vu_map_rw(b->fd, b->mem + at * VU_PAGE, IOVA + slot * VIOMMU_SLOT, size));
}

static void viommu_replace(struct bench *b)
{
	unsigned int i, slot;

	for (i = 0; i < VIOMMU_REPLACED; i++) {
		slot = rand_r(&viommu_seed) % VIOMMU_LIVE;
		must("unmap", type1_unmap(b, slot * VIOMMU_SLOT, viommu_size[slot]));
		viommu_map_slot(b, slot);
	}
}

static void run_viommu(struct bench *b)
{
	const char *limit = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
	__u64 ns = 0;
	unsigned int i;

	type1_select(b->target->module);
	if (!write_file(limit, "200000"))
		err(1, "%s", limit);
	b->target->open(b);
	viommu_seed = 1;
	for (i = 0; i < VIOMMU_LIVE; i++)
		viommu_map_slot(b, i);
	measure(b, "replace", viommu_replace, &ns);
	b->target->close(b);
	if (!write_file(limit, "65535"))
		err(1, "%s", limit);
	b->size = VIOMMU_REPLACED * VU_PAGE;
	print_result(b, "replace", ns);
}

/* A virtual IOMMU gives each device a container: all of them map the same memory. */
#define CONTAINERS	4

struct start {
	struct vu_pci pci[CONTAINERS];
	int fd[CONTAINERS];
};

static struct start start;

static void start_map(struct bench *b)
{
	unsigned int i;

	b->fd = start.fd[0];
	type1_register(b);
	for (i = 0; i < CONTAINERS; i++)
		must("map", vu_map_rw(start.fd[i], b->mem, IOVA, b->c->mem_size));
}

static void run_start(struct bench *b)
{
	static const __u16 devices[CONTAINERS][3] = {
		{ VU_EDU_VENDOR, VU_EDU_DEVICE, 0 }, { VU_EDU_VENDOR, VU_EDU_DEVICE, 1 },
		{ VU_TESTDEV_VENDOR, VU_TESTDEV_DEVICE, 0 },
		{ VU_TESTDEV_VENDOR, VU_TESTDEV_DEVICE, 1 },
	};
	long before = vu_locked_kib();
	__u64 charged, ns = 0;
	unsigned int i;

	type1_select(b->target->module);
	for (i = 0; i < CONTAINERS; i++)
		start.fd[i] = must("container", vu_open(&start.pci[i], devices[i][0], devices[i][1],
							devices[i][2], VFIO_TYPE1v2_IOMMU));
	measure(b, "start", start_map, &ns);
	charged = (vu_locked_kib() - before) * 1024 / VU_PAGE;
	for (i = 0; i < CONTAINERS; i++) {
		vu_pci_close(&start.pci[i]);
		close(start.fd[i]);
	}
	print_result(b, "start", ns);
	print_result(b, "charged", charged);
}

static const struct bench_case cases[] = {
	{ "4k-sequential", MEM_SEQUENTIAL, .mem_size = 64 * MIB },
	{ "4k-runs-of-8", MEM_RUNS_OF_8, .mem_size = 64 * MIB },
	{ "4k-fragmented", MEM_SCATTERED, .mem_size = 64 * MIB },
	{ "thp", MEM_THP, .mem_size = 256 * MIB },
	{ "hugetlb-2m", MEM_2M, .mem_size = 128 * MIB },
	{ "hugetlb-1g", MEM_1G, .mem_size = VU_1G },
	{ "shmem", MEM_SHMEM, .mem_size = 64 * MIB },
	{ "one-page", MEM_SEQUENTIAL, .mem_size = MIB, .map_step = VU_PAGE, .unmap_step = VU_PAGE },
	{ "60000-one-page", MEM_SEQUENTIAL, .mem_size = 60000 * VU_PAGE, .map_step = VU_PAGE },
	{ "2m-each", MEM_2M, .mem_size = 128 * MIB, .map_step = VU_2M, .unmap_step = VU_2M },
	{ "cold", MEM_COLD, .mem_size = 32 * MIB },
	{ "bar", MEM_BAR, .mem_size = 2 * VU_1G },
	{ "guest", MEM_2M, .mem_size = 128 * MIB, .size = 32 * VU_1G, .run = run_guest },
	{ "replay", MEM_2M, .mem_size = 128 * MIB, .size = VU_1G, .run = run_replay },
	{ "registered-one-page", MEM_SEQUENTIAL, .mem_size = MIB, .map_step = VU_PAGE,
	  .unmap_step = VU_PAGE, .registered = true },
	{ "viommu", MEM_SEQUENTIAL, .mem_size = 64 * MIB, .run = run_viommu, .registered = true },
	{ "4-containers", MEM_THP, .mem_size = 2 * VU_1G, .run = run_start, .registered = true },
	{ "get-bitmap", MEM_1G, .mem_size = VU_1G, .size = 16 * VU_1G, .run = run_bitmap },
};

static void run_case(const struct bench_case *c, const char *only)
{
	struct bench b = { .c = c, .size = c->size ?: c->mem_size };
	size_t i;

	alloc(&b);
	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		if (only && strcmp(only, targets[i].name))
			continue;
		/* The floor has none but RAM, and does nothing but MAP and UNMAP. */
		if (!targets[i].module && (c->run || c->memory == MEM_BAR))
			continue;
		b.target = &targets[i];
		(c->run ?: run_map_unmap)(&b);
	}
	/*
	 * Small pages are kept: given back, they would come to the next case in
	 * the order of this one, not as fresh ones.
	 */
	if (c->memory == MEM_THP || c->memory == MEM_2M || c->memory == MEM_1G)
		munmap(b.mem, c->mem_size);
}

static __u64 parse_size(const char *text)
{
	static const char units[] = "KMG";
	char *end;
	__u64 size = strtoull(text, &end, 0);
	const char *unit = *end ? strchr(units, *end) : NULL;

	if (!unit || end[1])
		errx(1, "no size '%s'", text);
	return size << (10 * (unit - units + 1));
}

/* The case that is called so, or its variant of another size. */
static struct bench_case find_case(const char *name)
{
	const char *size = strchr(name, '=');
	size_t i, len = size ? (size_t)(size - name) : strlen(name);

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bench_case c = cases[i];

		if (strlen(c.name) != len || strncmp(c.name, name, len))
			continue;
		c.name = name;
		if (size && (c.map_step || c.size))
			c.size = parse_size(size + 1);
		else if (size)
			c.mem_size = parse_size(size + 1);
		return c;
	}
	errx(1, "no case '%s'", name);
}

/* What the kernel's code is called; the rest of its symbols would take long to print. */
static void print_symbols(void)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[512], type;

	if (!f)
		err(1, "/proc/kallsyms");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*x %c", &type) == 1 && strchr("tTwW", type))
			fputs(line, stdout);
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	bool symbols = false;
	int opt;

	while ((opt = getopt(argc, argv, "t:r:ck")) != -1) {
		switch (opt) {
		case 't':
			only = optarg;
			break;
		case 'r':
			runs = atoi(optarg);
			break;
		case 'c':
			count_calls = true;
			break;
		case 'k':
			symbols = true;
			break;
		default:
			errx(1, "usage: bench [-t TARGET] [-r RUNS] [-c] [-k] CASE...");
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	clock_init();
	if (count_calls)
		count_init();
	for (; optind < argc; optind++) {
		struct bench_case c = find_case(argv[optind]);

		run_case(&c, only);
	}
	if (symbols)
		print_symbols();
	return 0;
}
