// SPDX-License-Identifier: GPL-2.0-only
/*
 * Emulated devices for test programs; emu_user.h says what it does.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "emu_user.h"

#define PLATFORM_DEVICES	"/sys/bus/platform/devices/"
#define PCI			"/sys/bus/pci/"

/* ---- The state of a test ---- */

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void find_device(struct vu_pci *dev, unsigned int nth)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	snprintf(dev->bdf, sizeof(dev->bdf), EMU_NAME ".%u", nth);
	snprintf(path, sizeof(path), PLATFORM_DEVICES "%s/iommu_group", dev->bdf);
	len = readlink(path, target, sizeof(target) - 1);
	assert_true(len > 0);
	target[len] = '\0';
	dev->group = atoi(strrchr(target, '/') + 1);
	dev->group_fd = -1;
	dev->device_fd = -1;
}

int emu_setup_closed(void **state)
{
	struct emu_fixture *e = calloc(1, sizeof(*e));
	unsigned int i;

	assert_non_null(e);
	module_load(EMU_KO);
	for (i = 0; i < EMU_DEVICES; i++)
		find_device(&e->emu[i], i);
	test_setup_closed(state);
	e->f = *state;
	*state = e;
	return 0;
}

/* GET_DEVICE_FD; vu_device_open() is for PCI devices that vfio-pci has. */
static void open_device(struct vu_pci *dev)
{
	dev->device_fd = ioctl(dev->group_fd, VFIO_GROUP_GET_DEVICE_FD, dev->bdf);
	assert_true(dev->device_fd >= 0);
}

void emu_attach(struct emu_fixture *e, unsigned int nth)
{
	assert_ok(vu_group_open(&e->emu[nth]));
	assert_ok(vu_group_attach(&e->emu[nth], e->f->container));
}

void emu_open_device(struct emu_fixture *e, unsigned int nth)
{
	open_device(&e->emu[nth]);
}

void emu_close(struct emu_fixture *e, unsigned int nth)
{
	vu_pci_close(&e->emu[nth]);
}

int emu_setup_only(void **state)
{
	struct emu_fixture *e;

	emu_setup_closed(state);
	e = *state;
	fixture_open_container(e->f);
	emu_attach(e, 0);
	assert_ok(vu_set_iommu(e->f->container, VFIO_TYPE1v2_IOMMU));
	emu_open_device(e, 0);
	return 0;
}

int emu_setup_mixed(void **state)
{
	struct emu_fixture *e;

	emu_setup_only(state);
	e = *state;
	fixture_attach(e->f, 0);
	fixture_open_device(e->f, 0);
	return 0;
}

/* test_setup_closed() gives the device back to vfio-pci. */
static void bind_edu(const struct vu_pci *edu)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI "devices/%s/driver/unbind", edu->bdf);
	write_text(path, edu->bdf);
	snprintf(path, sizeof(path), PCI "devices/%s/driver_override", edu->bdf);
	write_text(path, EMU_NAME);
	write_text(PCI "drivers_probe", edu->bdf);
}

int emu_setup_edu(void **state)
{
	struct emu_fixture *e;
	struct fixture *f;

	emu_setup_closed(state);
	e = *state;
	f = e->f;
	bind_edu(&f->pci[0]);
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	open_device(&f->pci[0]);
	return 0;
}

int emu_teardown(void **state)
{
	struct emu_fixture *e = *state;
	unsigned int i;

	emu_area_unmap();
	for (i = 0; i < EMU_DEVICES; i++)
		emu_close(e, i);
	*state = e->f;
	free(e);
	return test_teardown(state);
}

/* ---- What a device does ---- */

static int do_op(const struct vu_pci *dev, unsigned long cmd, struct emu_op *op)
{
	int ret = ioctl(dev->device_fd, cmd, op);

	return ret < 0 ? -errno : ret;
}

int emu_pin_at(const struct vu_pci *dev, __u64 iova, __u64 npages, __u32 prot, __u32 flags,
	       __u64 *pfns)
{
	struct emu_op op = {
		.iova = iova,
		.len = npages,
		.prot = prot,
		.flags = flags,
		.data = (unsigned long)pfns,
	};

	return do_op(dev, EMU_PIN, &op);
}

int emu_pin(const struct vu_pci *dev, __u64 iova, __u64 npages)
{
	return emu_pin_at(dev, iova, npages, EMU_PROT_RW, 0, NULL);
}

int emu_unpin(const struct vu_pci *dev, __u64 iova, __u64 npages)
{
	struct emu_op op = { .iova = iova, .len = npages };

	return do_op(dev, EMU_UNPIN, &op);
}

int emu_unpin_not_pinned(const struct vu_pci *dev, __u64 iova, __u64 npages)
{
	struct emu_op op = { .iova = iova, .len = npages, .flags = EMU_NOT_PINNED };

	return do_op(dev, EMU_UNPIN, &op);
}

int emu_rw(const struct vu_pci *dev, __u64 iova, void *data, size_t len, __u32 flags)
{
	struct emu_op op = {
		.iova = iova,
		.len = len,
		.data = (unsigned long)data,
		.flags = flags,
	};

	return do_op(dev, EMU_RW, &op);
}

void emu_unpin_when_told(const struct vu_pci *dev, unsigned int nth)
{
	assert_int_equal(ioctl(dev->device_fd, EMU_PATIENCE, (unsigned long)nth - 1), 0);
}

void emu_state(const struct vu_pci *dev, struct emu_state *state)
{
	assert_int_equal(ioctl(dev->device_fd, EMU_STATE, state), 0);
}

void emu_never_unpin(const struct vu_pci *dev)
{
	emu_unpin_when_told(dev, UINT_MAX);
}

void emu_forget(const struct vu_pci *dev)
{
	assert_int_equal(ioctl(dev->device_fd, EMU_FORGET), 0);
}

void emu_unpin_late(const struct vu_pci *dev, unsigned int ms)
{
	assert_int_equal(ioctl(dev->device_fd, EMU_LATE, (unsigned long)ms), 0);
}

void emu_note_late(const struct vu_pci *dev, unsigned int ms)
{
	assert_int_equal(ioctl(dev->device_fd, EMU_SLOW, (unsigned long)ms), 0);
}

static struct {
	char *mem;
	size_t size;
} area_mapped;

void emu_area_unmap(void)
{
	if (area_mapped.mem)
		munmap(area_mapped.mem, area_mapped.size);
	area_mapped.mem = NULL;
}

char *emu_area(const struct vu_pci *dev, void *at, unsigned int npages, void *const *from,
	       __u32 flags)
{
	struct emu_area area = { .npages = npages, .flags = flags };
	const size_t size = npages * VU_PAGE;
	unsigned int i;
	char *mem;

	for (i = 0; from && i < npages; i++)
		area.pages[i] = (unsigned long)from[i];
	assert_int_equal(ioctl(dev->device_fd, EMU_AREA, &area), 0);
	emu_area_unmap();
	mem = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0),
		   dev->device_fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	area_mapped.mem = mem;
	area_mapped.size = size;
	for (i = 0; i < npages; i++)
		mem[i * VU_PAGE] = i + 1;
	return mem;
}

void emu_refs(const struct vu_pci *dev, struct emu_refs *refs)
{
	assert_int_equal(ioctl(dev->device_fd, EMU_REFS, refs), 0);
}

__u64 pfn_of(const void *mem)
{
	const __u64 present = 1ULL << 63, pfn_mask = (1ULL << 55) - 1;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, sizeof(entry),
			       (unsigned long)mem / VU_PAGE * sizeof(entry)), sizeof(entry));
	close(fd);
	assert_true(entry & present);
	return entry & pfn_mask;
}

