// SPDX-License-Identifier: GPL-2.0-only
/*
 * The whole life of registered memory, for programs that map and unmap all the time:
 * register it once, map pieces of it as often as needed, unregister it.
 *
 *	cc -o example -Iinclude/uapi THIS FILE
 *	./example GROUP
 *
 * GROUP is the number of an IOMMU group whose devices are bound to vfio-pci. Says what
 * it does, and ends with status 1 where something is not as this file says.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/vfio.h>
#include <linux/vfio_type1.h>

#define PAGE		4096UL
#define SIZE		(1024 * PAGE)
#define IOVA		0x100000000ULL

static int container, group;

/* Memory of this process that counts against RLIMIT_MEMLOCK. */
static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kib);
	if (f)
		fclose(f);
	return kib;
}

/* Say what was done, and whether it ended as it should: with errno want, or 0. */
static void step(const char *what, int ret, int want)
{
	const int error = ret < 0 ? errno : 0;

	printf("%-52s %-28s %5ld KiB locked\n", what, error ? strerror(error) : "done",
	       locked_kib());
	if (error != want)
		exit(1);
}

static int open_container(const char *group_number)
{
	char path[64];

	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "/dev/vfio/%s", group_number);
	group = open(path, O_RDWR | O_CLOEXEC);
	if (container < 0 || group < 0)
		return -1;
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		return -1;
	return ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
}

static int memory(unsigned long request, const void *at, size_t size)
{
	struct vfio_type1_memory arg = {
		.argsz = sizeof(arg),
		.vaddr = (unsigned long)at,
		.size = size,
	};

	return ioctl(container, request, &arg);
}

static int map(__u64 iova, const void *at, size_t size)
{
	struct vfio_iommu_type1_dma_map arg = {
		.argsz = sizeof(arg),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (unsigned long)at,
		.iova = iova,
		.size = size,
	};

	return ioctl(container, VFIO_IOMMU_MAP_DMA, &arg);
}

static int unmap(__u64 iova, size_t size)
{
	struct vfio_iommu_type1_dma_unmap arg = {
		.argsz = sizeof(arg),
		.iova = iova,
		.size = size,
	};

	return ioctl(container, VFIO_IOMMU_UNMAP_DMA, &arg);
}

/* What a virtual IOMMU does all day. */
static int map_and_unmap(const char *at)
{
	unsigned int i;

	for (i = 0; i < 10000; i++) {
		const __u64 page = rand() % (SIZE / PAGE);

		if (map(IOVA + page * PAGE, at + page * PAGE, PAGE) ||
		    unmap(IOVA + page * PAGE, PAGE))
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	char *mem;

	if (argc != 2) {
		fprintf(stderr, "usage: %s GROUP\n", argv[0]);
		return 2;
	}
	step("open a container", open_container(argv[1]), 0);
	if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1_MEMORY) < 1) {
		fprintf(stderr, "memory cannot be registered here: map it as ever\n");
		return 1;
	}

	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	step("get 4 MiB of memory", mem == MAP_FAILED ? -1 : 0, 0);
	step("register it", memory(VFIO_TYPE1_REGISTER_MEMORY, mem, SIZE), 0);
	step("map and unmap pages of it, 10000 times", map_and_unmap(mem), 0);
	step("map all of it", map(IOVA, mem, SIZE), 0);
	step("map all of it a second time", map(2 * IOVA, mem, SIZE), 0);
	step("unregister it, which is too early",
	     memory(VFIO_TYPE1_UNREGISTER_MEMORY, mem, SIZE), EBUSY);
	step("unmap it", unmap(IOVA, SIZE) ?: unmap(2 * IOVA, SIZE), 0);

	step("throw a page away", madvise(mem + 7 * PAGE, PAGE, MADV_DONTNEED), 0);
	step("map that page, which is another one now", map(IOVA, mem + 7 * PAGE, PAGE), ESTALE);
	step("map the one before it", map(IOVA, mem + 6 * PAGE, PAGE), 0);
	step("unmap it", unmap(IOVA, PAGE), 0);
	step("unregister", memory(VFIO_TYPE1_UNREGISTER_MEMORY, mem, SIZE), 0);
	step("register what is there now", memory(VFIO_TYPE1_REGISTER_MEMORY, mem, SIZE), 0);
	step("map all of it", map(IOVA, mem, SIZE), 0);
	step("close everything", close(group) ?: close(container), 0);
	return locked_kib() ? 1 : 0;
}
