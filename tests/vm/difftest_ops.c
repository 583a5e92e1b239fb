// SPDX-License-Identifier: GPL-2.0-only
/*
 * The differential test: operations.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "difftest.h"

/* ---- Operations ---- */

static void op_map(void)
{
	struct call *c = call_new(VFIO_IOMMU_MAP_DMA);
	struct vfio_iommu_type1_dma_map *map = &c->in.map;
	unsigned int npages = some_pages();

	map->argsz = sizeof(*map);
	map->flags = chance(60) ? READ | WRITE : chance(50) ? READ : WRITE;
	map->iova = some_window() + rnd(WINDOW_PAGES) * PAGE;
	map->size = npages * PAGE;
	map->vaddr = some_vaddr(npages);
	if (nmappings && chance(25)) {
		/* Right behind another one, or not quite. */
		const struct mapping *m = &mappings[rnd(nmappings)];

		map->iova = m->iova + m->size + rnd(5) * PAGE - 3 * PAGE;
	}
	choose_place(c, sizeof(*map));
	switch (rnd(60)) {
	case 0:
		map->argsz = some_bad_argsz(map->argsz);
		break;
	case 1:
		map->flags = chance(50) ? rnd(16) : rnd64();
		break;
	case 2:
		map->iova = some_bad_value(map->iova);
		break;
	case 3:
		map->size = some_bad_value(map->size);
		break;
	case 4:
		map->vaddr = some_bad_vaddr(map->vaddr);
		break;
	case 5:
		map->iova = some_bad_value(map->iova);
		map->size = some_bad_value(map->size);
		map->flags = rnd(8);
		break;
	}
	avoid_last_page(&map->iova, &map->size);
	say("map argsz %x flags %x iova %llx size %llx", map->argsz, map->flags, map->iova,
	    map->size);
	say_vaddr(map->vaddr);
	call_issue(c);
	if (!c->ret && map->flags != VADDR)
		mapping_add(map->iova, map->size);
}

/* Nobody knows what is left: start anew. */
static void unmap_rest(void)
{
	__u64 unmapped;

	say(", then all");
	say_result(vu_unmap(container, 0, 0, UNMAP_ALL, &unmapped));
	say(" size %llx", unmapped);
	nmappings = 0;
}

static void op_unmap(void)
{
	struct call *c = call_new(VFIO_IOMMU_UNMAP_DMA);
	struct vfio_iommu_type1_dma_unmap *unmap = &c->in.unmap.head;
	unsigned int percent = rnd(100);

	unmap->argsz = sizeof(*unmap);
	unmap->flags = 0;
	some_range(&unmap->iova, &unmap->size);
	if (percent < 20) {
		unmap->argsz = sizeof(c->in.unmap);
		unmap->flags = UNMAP_DIRTY;
	} else if (percent < 40) {
		unmap->flags = UNMAP_VADDR;
	}
	if (chance(1)) {
		unmap->flags |= UNMAP_ALL;
		unmap->iova = 0;
		unmap->size = 0;
	}
	choose_place(c, unmap->argsz);
	switch (rnd(60)) {
	case 0:
		unmap->argsz = some_bad_argsz(unmap->argsz);
		break;
	case 1:
		unmap->flags = chance(50) ? rnd(16) : rnd64();
		break;
	case 2:
		unmap->iova = some_bad_value(unmap->iova);
		break;
	case 3:
		unmap->size = some_bad_value(unmap->size);
		break;
	case 4:
		unmap->iova = some_bad_value(unmap->iova);
		unmap->size = some_bad_value(unmap->size);
		break;
	}
	avoid_last_page(&unmap->iova, &unmap->size);
	say("unmap argsz %x flags %x iova %llx size %llx", unmap->argsz, unmap->flags, unmap->iova,
	    unmap->size);
	if (unmap->flags & UNMAP_DIRTY)
		some_bitmap(c, &c->in.unmap.bitmap, unmap->iova, unmap->size);
	call_issue(c);
	if (!c->ret) {
		say(" size %llx", c->out.unmap.head.size);
		mappings_remove(unmap->iova, unmap->flags & UNMAP_ALL ? ~0ULL :
				unmap->iova + unmap->size - 1, unmap->flags & UNMAP_VADDR);
	} else if (c->ret == -EFAULT && c->place != NULL_POINTER && c->place != KERNEL_POINTER) {
		unmap_rest();
	}
}

/* The index of a mapping without an address, if there is any; else of any. */
static unsigned int some_without_vaddr(void)
{
	unsigned int start = rnd(nmappings), i = start;

	while (!mappings[i].no_vaddr && (i + 1) % nmappings != start)
		i = (i + 1) % nmappings;
	return i;
}

/* Give an address back that UNMAP has taken; sometimes it never did. */
static void op_vaddr(void)
{
	struct call *c = call_new(VFIO_IOMMU_MAP_DMA);
	struct vfio_iommu_type1_dma_map *map = &c->in.map;
	struct mapping *m;

	if (!nmappings)
		return op_map();
	m = &mappings[some_without_vaddr()];
	map->argsz = sizeof(*map);
	map->flags = VADDR;
	map->iova = m->iova;
	map->size = m->size;
	map->vaddr = some_vaddr(m->size / PAGE);
	choose_place(c, sizeof(*map));
	switch (rnd(15)) {
	case 0:
		map->iova = some_bad_value(map->iova);
		break;
	case 1:
		map->size = some_bad_value(map->size);
		break;
	case 2:
		map->vaddr = some_bad_vaddr(map->vaddr);
		break;
	case 3:
		map->flags |= rnd(8);
		break;
	case 4:
		map->iova = some_window() + rnd(WINDOW_PAGES) * PAGE;
		break;
	}
	avoid_last_page(&map->iova, &map->size);
	say("vaddr flags %x iova %llx size %llx", map->flags, map->iova, map->size);
	say_vaddr(map->vaddr);
	call_issue(c);
	if (!c->ret)
		m->no_vaddr = false;
}

/* The same in a child, which then owns the mapping, and dies. */
static void op_vaddr_child(void)
{
	struct mapping *m;
	int status;
	pid_t pid;

	if (!nmappings)
		return op_map();
	m = &mappings[some_without_vaddr()];
	say("child vaddr iova %llx size %llx", m->iova, m->size);
	pid = fork();
	require(pid >= 0);
	if (!pid)
		_exit(-vu_map(container, ARENA, m->iova, m->size, VADDR));
	require(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	say_result(-WEXITSTATUS(status));
	if (!WEXITSTATUS(status))
		m->no_vaddr = false;
}

static void op_dirty(void)
{
	struct call *c = call_new(VFIO_IOMMU_DIRTY_PAGES);
	struct vfio_iommu_type1_dirty_bitmap *dirty = &c->in.dirty.head;
	struct vfio_iommu_type1_dirty_bitmap_get *get = &c->in.dirty.get;
	unsigned int percent = rnd(100);

	dirty->argsz = sizeof(*dirty);
	if (percent < (dirty_on ? 5 : 40)) {
		dirty->flags = DIRTY_START;
	} else if (percent < (dirty_on ? 10 : 45)) {
		dirty->flags = DIRTY_STOP;
	} else if (percent < 95) {
		dirty->argsz = sizeof(c->in.dirty);
		dirty->flags = DIRTY_GET;
	} else {
		dirty->flags = chance(80) ? rnd(9) : rnd64();
	}
	some_range(&get->iova, &get->size);
	choose_place(c, sizeof(c->in.dirty));
	switch (rnd(50)) {
	case 0:
		dirty->argsz = some_bad_argsz(dirty->argsz);
		break;
	case 1:
		get->iova = some_bad_value(get->iova);
		break;
	case 2:
		get->size = some_bad_value(get->size);
		break;
	case 3:
		/* As many pages as a bitmap can hold. */
		get->iova = 0;
		get->size = BITMAP_MAX * 8 * PAGE + (chance(20) ? PAGE : 0);
		break;
	}
	avoid_last_page(&get->iova, &get->size);
	say("dirty argsz %x flags %x", dirty->argsz, dirty->flags);
	if (dirty->flags & DIRTY_GET) {
		say(" iova %llx size %llx", get->iova, get->size);
		some_bitmap(c, &get->bitmap, get->iova, get->size);
	}
	call_issue(c);
	if (!c->ret && dirty->flags & (DIRTY_START | DIRTY_STOP))
		dirty_on = dirty->flags & DIRTY_START;
}

static void say_capabilities(const unsigned char *raw, __u32 offset)
{
	const struct vfio_iommu_type1_info_cap_iova_range *iova = (void *)(raw + offset);
	const struct vfio_iommu_type1_info_dma_avail *avail = (void *)(raw + offset);
	const struct vfio_info_cap_header *header = (void *)(raw + offset);
	__u32 i;

	for (; offset && offset + sizeof(*header) < ARG_MAX; offset = header->next) {
		header = (void *)(raw + offset);
		say(" cap %u.%u", header->id, header->version);
		if (header->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
			avail = (void *)header;
			say(" %u", avail->avail);
		}
		if (header->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
			iova = (void *)header;
			for (i = 0; i < iova->nr_iovas && i < 8; i++)
				say(" %llx-%llx", iova->iova_ranges[i].start,
				    iova->iova_ranges[i].end);
		}
	}
}

static void op_info(void)
{
	static const __u32 argsz[] = {
		0, 8, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 64, 100, 170, 200, 0xffffffff,
	};
	struct call *c = call_new(VFIO_IOMMU_GET_INFO);
	struct vfio_iommu_type1_info *info = &c->in.info;

	info->argsz = chance(50) ? ARG_MAX : ONE_OF(argsz);
	/* Who says that he has room for capabilities, and has not, sees that ours are longer. */
	choose_place(c, info->argsz > 64 ? sizeof(*info) : 256);
	say("info argsz %x", info->argsz);
	call_issue(c);
	if (!c->ret && c->place == FINE) {
		info = &c->out.info;
		say(" argsz %x flags %x pgsizes %llx", info->argsz, info->flags,
		    info->iova_pgsizes);
		if (c->in.info.argsz >= 200)
			say_capabilities(c->out.raw, info->cap_offset);
	}
}

static void op_extension(void)
{
	unsigned long arg = chance(80) ? rnd(16) : rnd64();
	int ret = ioctl(container, VFIO_CHECK_EXTENSION, arg);

	say("extension %lx", arg);
	say_result(ret < 0 ? -errno : ret);
}

/* Not an ioctl of ours, or not one at all. */
static void op_garbage(void)
{
	unsigned int cmd = chance(80) ? _IO(VFIO_TYPE, VFIO_BASE + rnd(50)) : rnd64();
	struct call *c;

	switch (cmd) {
	case VFIO_IOMMU_GET_INFO:
	case VFIO_IOMMU_MAP_DMA:
	case VFIO_IOMMU_UNMAP_DMA:
	case VFIO_IOMMU_DIRTY_PAGES:
		cmd |= _IOC(_IOC_READ | _IOC_WRITE, 0, 0, 16);	/* which is another one */
	}
	c = call_new(cmd);
	choose_place(c, ARG_MAX);
	say("ioctl %x", cmd);
	call_issue(c);
}

void write_param(const char *name, const char *val)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/vfio_iommu_type1/parameters/%s", name);
	f = fopen(path, "w");
	require(f && fputs(val, f) >= 0 && !fclose(f));
}

int limit_locked(size_t size)
{
	const struct rlimit limit = { .rlim_cur = size, .rlim_max = RLIM_INFINITY };

	return setrlimit(RLIMIT_MEMLOCK, &limit);
}

/* What the process does to itself, and the administrator to the module. */
static void op_surroundings(void)
{
	static const unsigned int limits[] = { 0, 16, 256, 1024, 4096, 16384, 65536 };
	char *seq = part_addr(SEQUENTIAL) + rnd(500) * PAGE;
	char *scattered = part_addr(SCATTERED) + rnd(900) * PAGE;
	size_t size = (1 + rnd(100)) * PAGE;
	const char *what;
	int ret;

	switch (rnd(7)) {
	case 0:
	case 1:
		size = ONE_OF(limits) * PAGE;
		ret = limit_locked(size);
		what = "setrlimit";
		break;
	case 2:
		ret = mlock(seq, min(size, 10 * PAGE));
		what = "mlock";
		break;
	case 3:
		ret = munlock(part_addr(SEQUENTIAL), part_size(SEQUENTIAL));
		what = "munlock";
		break;
	case 4:
		/* Mapped pages stay, and new ones come under the same address. */
		ret = madvise(scattered, size, MADV_DONTNEED) ?:
		      madvise(scattered, size, MADV_POPULATE_WRITE);
		what = "madvise";
		break;
	case 5:
		if (chance(50))
			ret = mprotect(seq, 10 * PAGE, PROT_READ);
		else
			ret = mprotect(part_addr(SEQUENTIAL), part_size(SEQUENTIAL),
				       PROT_READ | PROT_WRITE);
		what = "mprotect";
		break;
	default:
		ret = chance(20);
		write_param("disable_hugepages", ret ? "Y" : "N");
		what = "disable_hugepages";
	}
	say("%s size %zx", what, size);
	say_result(ret < 0 ? -errno : ret);
}

/* Another group comes to the container, or leaves. */
static void op_second_group(void)
{
	int ret;

	/* Up to 6.1 who attaches may have to wait until all addresses are back. */
	if (!second_attached && kernel_6_1 && any_without_vaddr())
		return op_map();
	say("second group %s", second_attached ? "detach" : "attach");
	ret = second_attached ? vu_group_detach(&edu[1]) : vu_group_attach(&edu[1], container);
	say_result(ret);
	if (!ret)
		second_attached = !second_attached;
}

void container_begin(void)
{
	static const char * const limits[] = {
		"65535", "65535", "65535", "65535", "100", "1",
	};
	const char *limit = ONE_OF(limits);

	write_param("dma_entry_limit", limit);
	container = vu_container_open();
	require(container >= 0);
	require(!vu_group_attach(&edu[0], container));
	require(!vu_set_iommu(container, v2 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU));
	say("open with dma_entry_limit %s; ", limit);
}

void container_end(void)
{
	if (second_attached)
		require(!vu_group_detach(&edu[1]));
	if (chance(50)) {
		require(!vu_group_detach(&edu[0]));
		close(container);
	} else {
		close(container);
		require(!vu_group_detach(&edu[0]));
	}
	second_attached = false;
	dirty_on = false;
	nmappings = 0;
}

static void op_reopen(void)
{
	container_end();
	container_begin();
}

static const struct op {
	void (*run)(void);
	unsigned int weight;	/* of 1000 */
} ops[] = {
	{ op_map, 450 },
	{ op_unmap, 280 },
	{ op_vaddr, 45 },
	{ op_vaddr_child, 1 },
	{ op_dirty, 100 },
	{ op_info, 50 },
	{ op_extension, 20 },
	{ op_garbage, 25 },
	{ op_surroundings, 20 },
	{ op_second_group, 6 },
	{ op_reopen, 3 },
};

void some_op(void)
{
	unsigned int at = rnd(1000);
	const struct op *op = ops;

	while (at >= op->weight)
		at -= op++->weight;
	op->run();
}
