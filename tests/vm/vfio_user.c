// SPDX-License-Identifier: GPL-2.0-only
/*
 * The user-space VFIO library of the VM tests; vfio_user.h says what it does.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <linux/mman.h>
#include <linux/pci_regs.h>

#include "vfio_user.h"

#define PCI_DEVICES	"/sys/bus/pci/devices"

/* ---- Small files of sysfs and procfs ---- */

int vu_write_file(const char *path, const char *text)
{
	size_t len = strlen(text);
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		ret = -errno;
	close(fd);
	return ret;
}

/* The number behind @key, which starts a line of @path; -1 if there is none. */
static long read_number(const char *path, const char *key, int base)
{
	size_t len = strlen(key);
	char line[256];
	long val = -1;
	FILE *f;

	f = fopen(path, "r");
	if (!f)
		return -1;
	while (val < 0 && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len))
			val = strtol(line + len, NULL, base);
	}
	fclose(f);
	return val;
}

/* ---- PCI devices ---- */

static bool pci_is(const char *bdf, __u16 vendor, __u16 device)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/vendor", bdf);
	if (read_number(path, "", 16) != vendor)
		return false;
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/device", bdf);
	return read_number(path, "", 16) == device;
}

/* The last part of where a device's symbolic link @link points to. */
static int pci_link(const char *bdf, const char *link, char name[NAME_MAX + 1])
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", bdf, link);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return -errno;
	target[len] = '\0';
	snprintf(name, NAME_MAX + 1, "%s", strrchr(target, '/') + 1);
	return 0;
}

static int pci_group(const char *bdf)
{
	char name[NAME_MAX + 1];
	int ret = pci_link(bdf, "iommu_group", name);

	return ret ? ret : atoi(name);
}

int vu_pci_find(struct vu_pci *pci, __u16 vendor, __u16 device, unsigned int nth)
{
	struct dirent **names;
	int i, n, ret = -ENODEV;

	/* Sorted, so that nth means the same at each call. */
	n = scandir(PCI_DEVICES, &names, NULL, alphasort);
	if (n < 0)
		return -errno;
	for (i = 0; i < n; i++) {
		const char *bdf = names[i]->d_name;

		if (ret != -ENODEV || !pci_is(bdf, vendor, device) || nth--)
			continue;
		snprintf(pci->bdf, sizeof(pci->bdf), "%.15s", bdf);
		pci->group = pci_group(bdf);
		pci->group_fd = -1;
		pci->device_fd = -1;
		/* On arm64 the group comes with the first driver. */
		if (pci->group < 0 && !vu_pci_bind(pci))
			pci->group = pci_group(bdf);
		ret = pci->group < 0 ? pci->group : 0;
	}
	for (i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return ret;
}

int vu_pci_bind(const struct vu_pci *pci)
{
	char path[PATH_MAX], driver[NAME_MAX + 1];
	int ret;

	ret = pci_link(pci->bdf, "driver", driver);
	if (!ret && !strcmp(driver, "vfio-pci"))
		return 0;
	if (!ret) {
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", pci->bdf);
		ret = vu_write_file(path, pci->bdf);
		if (ret)
			return ret;
	}
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", pci->bdf);
	ret = vu_write_file(path, "vfio-pci");
	if (ret)
		return ret;
	return vu_write_file("/sys/bus/pci/drivers_probe", pci->bdf);
}

int vu_group_open(struct vu_pci *pci)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vfio/%d", pci->group);
	pci->group_fd = open(path, O_RDWR | O_CLOEXEC);
	return pci->group_fd < 0 ? -errno : 0;
}

int vu_group_attach(const struct vu_pci *pci, int container)
{
	return ioctl(pci->group_fd, VFIO_GROUP_SET_CONTAINER, &container) ? -errno : 0;
}

int vu_group_detach(const struct vu_pci *pci)
{
	return ioctl(pci->group_fd, VFIO_GROUP_UNSET_CONTAINER) ? -errno : 0;
}

int vu_device_open(struct vu_pci *pci)
{
	pci->device_fd = ioctl(pci->group_fd, VFIO_GROUP_GET_DEVICE_FD, pci->bdf);
	return pci->device_fd < 0 ? -errno : vu_bus_master(pci, true);
}

void vu_pci_close(struct vu_pci *pci)
{
	if (pci->device_fd >= 0)
		close(pci->device_fd);
	if (pci->group_fd >= 0)
		close(pci->group_fd);
	pci->device_fd = -1;
	pci->group_fd = -1;
}

int vu_region_info(const struct vu_pci *pci, __u32 index, struct vfio_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	info->index = index;
	return ioctl(pci->device_fd, VFIO_DEVICE_GET_REGION_INFO, info) ? -errno : 0;
}

void *vu_region_mmap(const struct vu_pci *pci, __u32 index, size_t *size)
{
	struct vfio_region_info info;
	void *mem;
	int ret;

	ret = vu_region_info(pci, index, &info);
	if (ret) {
		errno = -ret;
		return NULL;
	}
	mem = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   pci->device_fd, info.offset);
	if (mem == MAP_FAILED)
		return NULL;
	*size = info.size;
	return mem;
}

/* Where @offset of config space is in the device's file. */
static int config_pos(const struct vu_pci *pci, unsigned int offset, off_t *pos)
{
	struct vfio_region_info info;
	int ret;

	ret = vu_region_info(pci, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	*pos = info.offset + offset;
	return ret;
}

int vu_config_read(const struct vu_pci *pci, unsigned int offset, void *buf, size_t len)
{
	off_t pos;
	int ret;

	ret = config_pos(pci, offset, &pos);
	if (ret)
		return ret;
	return pread(pci->device_fd, buf, len, pos) == (ssize_t)len ? 0 : -EIO;
}

int vu_config_write(const struct vu_pci *pci, unsigned int offset, const void *buf, size_t len)
{
	off_t pos;
	int ret;

	ret = config_pos(pci, offset, &pos);
	if (ret)
		return ret;
	return pwrite(pci->device_fd, buf, len, pos) == (ssize_t)len ? 0 : -EIO;
}

int vu_bus_master(const struct vu_pci *pci, bool on)
{
	__u16 command;
	int ret;

	ret = vu_config_read(pci, PCI_COMMAND, &command, sizeof(command));
	if (ret)
		return ret;
	command = le16toh(command) & ~PCI_COMMAND_MASTER;
	command = htole16(command | (on ? PCI_COMMAND_MASTER : 0));
	return vu_config_write(pci, PCI_COMMAND, &command, sizeof(command));
}

/* ---- Containers ---- */

int vu_container_open(void)
{
	int fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int vu_set_iommu(int container, int type)
{
	return ioctl(container, VFIO_SET_IOMMU, type) ? -errno : 0;
}

int vu_open(struct vu_pci *pci, __u16 vendor, __u16 device, unsigned int nth, int type)
{
	int container, ret;

	ret = vu_pci_find(pci, vendor, device, nth);
	if (ret)
		return ret;
	container = vu_container_open();
	if (container < 0)
		return container;

	ret = vu_pci_bind(pci);
	if (!ret)
		ret = vu_group_open(pci);
	if (!ret)
		ret = vu_group_attach(pci, container);
	if (!ret)
		ret = vu_set_iommu(container, type);
	if (!ret)
		ret = vu_device_open(pci);
	if (!ret)
		return container;

	vu_pci_close(pci);
	close(container);
	return ret;
}

int vu_map(int container, const void *vaddr, __u64 iova, __u64 size, __u32 flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (unsigned long)vaddr,
		.iova = iova,
		.size = size,
	};

	return ioctl(container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

int vu_map_rw(int container, const void *vaddr, __u64 iova, __u64 size)
{
	return vu_map(container, vaddr, iova, size,
		      VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
}

static int memory_ioctl(int container, unsigned long request, const void *vaddr, __u64 size,
			__u32 flags)
{
	const struct vfio_type1_memory memory = {
		.argsz = sizeof(memory),
		.flags = flags,
		.vaddr = (unsigned long)vaddr,
		.size = size,
	};

	return ioctl(container, request, &memory) ? -errno : 0;
}

int vu_register(int container, const void *vaddr, __u64 size, __u32 flags)
{
	return memory_ioctl(container, VFIO_TYPE1_REGISTER_MEMORY, vaddr, size, flags);
}

int vu_unregister(int container, const void *vaddr, __u64 size)
{
	return memory_ioctl(container, VFIO_TYPE1_UNREGISTER_MEMORY, vaddr, size, 0);
}

int vu_unmap(int container, __u64 iova, __u64 size, __u32 flags, __u64 *unmapped)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.flags = flags,
		.iova = iova,
		.size = size,
	};
	int ret;

	ret = ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) ? -errno : 0;
	if (unmapped)
		*unmapped = unmap.size;
	return ret;
}

/* ---- edu, as QEMU's docs/specs/edu describes it ---- */

#define EDU_BUFFER	0x40000		/* the engine's address of its own buffer */
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND	0x98
#define EDU_DMA_START	1
#define EDU_DMA_TO_RAM	2

/*
 * Registers are 64 bits wide and have to be accessed as such. Atomic accesses
 * are neither torn nor left out; on x86 these two are plain moves.
 */
static void edu_write(const struct vu_edu *edu, size_t offset, __u64 val)
{
	__atomic_store_n((__u64 *)(edu->regs + offset), htole64(val), __ATOMIC_RELEASE);
}

static __u64 edu_read(const struct vu_edu *edu, size_t offset)
{
	return le64toh(__atomic_load_n((__u64 *)(edu->regs + offset), __ATOMIC_ACQUIRE));
}

int vu_edu_open(struct vu_edu *edu, const struct vu_pci *pci)
{
	edu->regs = vu_region_mmap(pci, VFIO_PCI_BAR0_REGION_INDEX, &edu->size);
	return edu->regs ? 0 : -errno;
}

void vu_edu_close(struct vu_edu *edu)
{
	munmap(edu->regs, edu->size);
	edu->regs = NULL;
}

static int edu_transfer(const struct vu_edu *edu, __u64 src, __u64 dst, size_t len, __u64 command)
{
	const struct timespec poll = { .tv_nsec = 5000000 };
	const __u64 deadline = vu_now() + 10000000000ULL;

	if (len > VU_EDU_MAX)
		return -EINVAL;
	edu_write(edu, EDU_DMA_SRC, src);
	edu_write(edu, EDU_DMA_DST, dst);
	edu_write(edu, EDU_DMA_COUNT, len);
	edu_write(edu, EDU_DMA_COMMAND, command | EDU_DMA_START);
	while (edu_read(edu, EDU_DMA_COMMAND) & EDU_DMA_START) {
		if (vu_now() > deadline)
			return -ETIMEDOUT;
		nanosleep(&poll, NULL);
	}
	return 0;
}

int vu_edu_load(const struct vu_edu *edu, __u64 iova, size_t len)
{
	return edu_transfer(edu, iova, EDU_BUFFER, len, 0);
}

int vu_edu_store(const struct vu_edu *edu, __u64 iova, size_t len)
{
	return edu_transfer(edu, EDU_BUFFER, iova, len, EDU_DMA_TO_RAM);
}

int vu_edu_copy(const struct vu_edu *edu, __u64 dst, __u64 src, size_t len)
{
	int ret = vu_edu_load(edu, src, len);

	return ret ? ret : vu_edu_store(edu, dst, len);
}

/* ---- Memory ---- */

/*
 * The allocator hands out pages in rising order, so neighbours that are first
 * touched far apart in time are far apart in memory: touch all even pages in
 * a random order, then all odd ones.
 */
static int touch_scattered(char *mem, size_t npages)
{
	size_t *order = calloc(npages, sizeof(*order));
	size_t i, half = (npages + 1) / 2;

	if (!order)
		return -ENOMEM;
	for (i = 0; i < npages; i++)
		order[i] = i < half ? 2 * i : 2 * (i - half) + 1;
	for (i = npages; i-- > 1; ) {
		size_t base = i < half ? 0 : half;
		size_t other = base + random() % (i - base + 1), tmp = order[i];

		order[i] = order[other];
		order[other] = tmp;
	}
	for (i = 0; i < npages; i++)
		mem[order[i] * VU_PAGE] = 0;
	free(order);
	return 0;
}

/*
 * Where the kernel gives out pages that were freed just before, in any order, one
 * try in three leaves no neighbours.
 */
static int populate_scattered(char *mem, size_t size)
{
	struct vu_layout layout;
	int ret, tries;

	if (madvise(mem, size, MADV_NOHUGEPAGE))
		return -errno;
	for (tries = 0; tries < 100; tries++) {
		ret = touch_scattered(mem, size / VU_PAGE);
		if (!ret)
			ret = vu_layout(mem, size, 0, &layout);
		if (ret || layout.nruns == size / VU_PAGE)
			return ret;
		if (madvise(mem, size, MADV_DONTNEED))
			return -errno;
	}
	return -EAGAIN;
}

static int populate_thp(char *mem, size_t size)
{
	size_t offset;

	if (madvise(mem, size, MADV_HUGEPAGE))
		return -errno;
	for (offset = 0; offset < size; offset += VU_PAGE)
		mem[offset] = 0;
	return 0;
}

/* Anonymous memory that starts on a 2M boundary; the slack is given back. */
static char *mmap_aligned(size_t size)
{
	char *raw, *mem;

	raw = mmap(NULL, size + VU_2M, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	mem = (char *)(((unsigned long)raw + VU_2M - 1) & ~(VU_2M - 1));
	if (mem > raw)
		munmap(raw, mem - raw);
	if (raw + VU_2M > mem)
		munmap(mem + size, raw + VU_2M - mem);
	return mem;
}

void *vu_alloc(enum vu_backing backing, size_t size)
{
	char *mem;
	int ret;

	if (backing == VU_HUGETLB) {
		mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			   MAP_HUGETLB | MAP_HUGE_2MB | MAP_POPULATE, -1, 0);
		return mem == MAP_FAILED ? NULL : mem;
	}
	mem = mmap_aligned(size);
	if (!mem)
		return NULL;
	ret = backing == VU_THP ? populate_thp(mem, size) : populate_scattered(mem, size);
	if (ret) {
		munmap(mem, size);
		errno = -ret;
		return NULL;
	}
	return mem;
}

void vu_free(void *mem, size_t size)
{
	munmap(mem, size);
}

/* Whether an aligned block of @size fits the run of @len bytes at @phys, mapped at @iova. */
static bool iopte_fits(__u64 iova, __u64 phys, __u64 len, __u64 size)
{
	__u64 skip = -iova & (size - 1);

	return !((iova ^ phys) & (size - 1)) && len >= skip && len - skip >= size;
}

static void layout_add_run(struct vu_layout *layout, __u64 iova, __u64 phys, __u64 len)
{
	size_t size;

	layout->nruns++;
	for (size = VU_PAGE; size <= VU_1G; size *= 512) {
		if (size > layout->largest_iopte && iopte_fits(iova, phys, len, size))
			layout->largest_iopte = size;
	}
}

int vu_layout(const void *mem, size_t size, __u64 iova, struct vu_layout *layout)
{
	const __u64 present = 1ULL << 63, pfn_mask = (1ULL << 55) - 1;
	size_t i, start = 0, npages = size / VU_PAGE;
	__u64 *map;
	int fd, ret = 0;

	memset(layout, 0, sizeof(*layout));
	fd = open("/proc/self/pagemap", O_RDONLY);
	if (fd < 0)
		return -errno;
	map = malloc(npages * sizeof(*map));
	if (!map) {
		ret = -ENOMEM;
		goto out_close;
	}
	if (pread(fd, map, npages * sizeof(*map), (unsigned long)mem / VU_PAGE * sizeof(*map)) !=
	    (ssize_t)(npages * sizeof(*map))) {
		ret = -EIO;
		goto out_free;
	}
	for (i = 0; i < npages; i++) {
		/* Without CAP_SYS_ADMIN all frame numbers read as 0. */
		if (!(map[i] & present) || !(map[i] & pfn_mask)) {
			ret = -EFAULT;
			goto out_free;
		}
		map[i] &= pfn_mask;
		if (i && map[i] != map[i - 1] + 1) {
			layout_add_run(layout, iova + start * VU_PAGE, map[start] * VU_PAGE,
				       (i - start) * VU_PAGE);
			start = i;
		}
	}
	layout_add_run(layout, iova + start * VU_PAGE, map[start] * VU_PAGE,
		       (npages - start) * VU_PAGE);
out_free:
	free(map);
out_close:
	close(fd);
	return ret;
}

/* ---- What the kernel counts ---- */

long vu_locked_kib(void)
{
	return read_number("/proc/self/status", "VmLck:", 10);
}

long vu_pinned_kib(void)
{
	return read_number("/proc/self/status", "VmPin:", 10);
}

long vu_vmstat(const char *name)
{
	char key[64];

	/* The counters are per CPU and lag behind until they are folded. */
	if (vu_write_file("/proc/sys/vm/stat_refresh", "1"))
		return -1;
	snprintf(key, sizeof(key), "%s ", name);
	return read_number("/proc/vmstat", key, 10);
}

long vu_foll_pinned(void)
{
	long acquired = vu_vmstat("nr_foll_pin_acquired");
	long released = vu_vmstat("nr_foll_pin_released");

	return acquired < 0 || released < 0 ? -1 : acquired - released;
}

__u64 vu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}
