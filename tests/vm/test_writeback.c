// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is a file's: what a device wrote is on disk once it was unmapped, or
 * unpinned, and the file written back, whether the memory is registered or not. From
 * Linux 6.5 on nobody gets such memory.
 *
 * VM: --smp 2 --append memmap=256M!1G
 * VM: --modules zram --modules zsmalloc --modules lz4_compress --modules lz4hc_compress
 * VM: --modules brd --modules ext4 --modules jbd2 --modules mbcache
 * VM: --modules crc16 --modules crc32c_generic
 * VM: --modules nd_e820 --modules libnvdimm --modules device_dax --modules dax_pmem
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "emu/emu_user.h"

#define IOVA		(5 * GIB)
#define NPAGES		16UL
#define SIZE		(NPAGES * VU_PAGE)
/* What is mapped lies in the middle of it. */
#define AT		(3 * VU_PAGE)
#define LEN		(4 * VU_PAGE)
#define MOUNT		"/tmp/writeback"
#define FILE_NAME	MOUNT "/file"

/* Of <linux/kernel-page-flags.h>: a bit. */
#define KPF_DIRTY	4

struct disk_file {
	int fd;
	char *mem;
};

static void open_file(struct disk_file *d)
{
	d->fd = open(FILE_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(d->fd >= 0);
	assert_int_equal(ftruncate(d->fd, SIZE), 0);
	d->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
	assert_ptr_not_equal(d->mem, MAP_FAILED);
	memset(d->mem, 1, SIZE);
}

static void close_file(struct disk_file *d)
{
	munmap(d->mem, SIZE);
	close(d->fd);
}

/* All of it is written to disk. */
static void write_back(const struct disk_file *d)
{
	assert_int_equal(msync(d->mem, SIZE, MS_SYNC), 0);
	assert_int_equal(fsync(d->fd), 0);
	sync();
}

static bool page_is_dirty(const char *mem)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	__u64 flags;

	assert_true(fd >= 0);
	__atomic_load_n(mem, __ATOMIC_RELAXED);
	assert_int_equal(pread(fd, &flags, sizeof(flags), pfn_of(mem) * sizeof(flags)),
			 sizeof(flags));
	close(fd);
	return flags >> KPF_DIRTY & 1;
}

/* These pages of the file are dirty, and none else. */
static void assert_dirty(const struct disk_file *d, unsigned long first, unsigned long n)
{
	unsigned long page;

	for (page = 0; page < NPAGES; page++) {
		const bool want = page >= first && page < first + n;

		if (page_is_dirty(d->mem + page * VU_PAGE) != want)
			fail_msg("page %lu is %s", page, want ? "clean" : "dirty");
	}
}

/* What the disk has there, which need not be what the page cache has. */
static void assert_on_disk(off_t offset, const void *want, size_t len)
{
	int fd = open(FILE_NAME, O_RDONLY | O_DIRECT | O_CLOEXEC);
	char *buf = aligned_alloc(VU_PAGE, VU_PAGE);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, VU_PAGE, offset & ~(VU_PAGE - 1)), VU_PAGE);
	assert_memory_equal(buf + offset % VU_PAGE, want, len);
	free(buf);
	close(fd);
}

/* Nobody may pin it for long, so there is nothing that could be lost. */
static bool is_refused(int container)
{
	struct disk_file d;
	int kmsg;

	if (!kernel_at_least(6, 5))
		return false;
	open_file(&d);
	kmsg = kmsg_open();
	assert_ret(vu_register(container, d.mem, SIZE, 0), -EFAULT);
	assert_int_equal(kmsg_count(kmsg, "REGISTER_MEMORY .*: it is a file's, .*: error -14"), 1);
	close(kmsg);
	assert_ok(vu_register(container, d.mem, SIZE, VFIO_TYPE1_MEMORY_READ_ONLY));
	assert_ok(vu_unregister(container, d.mem, SIZE));
	close_file(&d);
	return true;
}

static void begin(struct disk_file *d, int container, bool registered)
{
	at_step("%sregistered", registered ? "" : "not ");
	open_file(d);
	if (registered)
		assert_ok(vu_register(container, d->mem, SIZE, 0));
	assert_ok(vu_map_rw(container, d->mem + AT, IOVA, LEN));
}

static void end(struct disk_file *d, int container, bool registered)
{
	if (registered)
		assert_ok(vu_unregister(container, d->mem, SIZE));
	close_file(d);
}

static void what_a_device_wrote_is_on_disk(void **state)
{
	const struct fixture *f = *state;
	const size_t len = 512;
	char *pattern = mem_pages(1), *page;
	unsigned int registered;
	struct disk_file d;

	if (is_refused(f->container)) {
		open_file(&d);
		assert_ret(vu_map_rw(f->container, d.mem, IOVA, SIZE), -EFAULT);
		close_file(&d);
		return;
	}
	assert_ok(vu_map_rw(f->container, pattern, 0, VU_PAGE));
	for (registered = 0; registered < 2; registered++) {
		begin(&d, f->container, registered);
		page = d.mem + AT + VU_PAGE;
		pattern_fill(pattern, VU_PAGE, pattern_new_seed());
		write_back(&d);
		assert_dirty(&d, 0, 0);
		assert_ok(vu_edu_copy(&f->edu[0], IOVA + VU_PAGE, 0, len));
		assert_unmaps(f->container, IOVA, LEN, LEN);
		assert_dirty(&d, AT / VU_PAGE, LEN / VU_PAGE);
		write_back(&d);
		assert_dirty(&d, 0, 0);
		assert_memory_equal(page, pattern, len);
		assert_on_disk(page - d.mem, pattern, len);

		/* What a device only reads it cannot have changed. */
		assert_ok(vu_map(f->container, d.mem + AT, IOVA, LEN, VFIO_DMA_MAP_FLAG_READ));
		write_back(&d);
		assert_unmaps(f->container, IOVA, LEN, LEN);
		assert_dirty(&d, 0, 0);
		end(&d, f->container, registered);
	}
	assert_unmaps(f->container, 0, VU_PAGE, VU_PAGE);
	vu_free(pattern, VU_PAGE);
}

/* In-kernel users: what they pinned is dirty when they let go, what they copied at once. */
static void what_an_in_kernel_user_wrote_is_on_disk(void **state)
{
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	const int container = e->f->container;
	static const char text[] = "written by the kernel";
	unsigned int registered;
	struct disk_file d;

	if (is_refused(container)) {
		open_file(&d);
		if (e->f->pci[0].device_fd >= 0) {
			assert_ret(vu_map_rw(container, d.mem, IOVA, SIZE), -EFAULT);
		} else {
			/* Without an IOMMU MAP pins nothing. */
			assert_ok(vu_map_rw(container, d.mem, IOVA, SIZE));
			assert_ret(emu_pin(dev, IOVA, 1), -EFAULT);
			assert_unmaps(container, IOVA, SIZE, SIZE);
		}
		close_file(&d);
		return;
	}
	for (registered = 0; registered < 2; registered++) {
		begin(&d, container, registered);
		assert_ret(emu_pin(dev, IOVA + VU_PAGE, 2), 2);
		write_back(&d);
		assert_dirty(&d, 0, 0);
		assert_ok(emu_unpin(dev, IOVA + VU_PAGE, 2));
		assert_dirty(&d, AT / VU_PAGE + 1, 2);

		write_back(&d);
		assert_ok(emu_rw(dev, IOVA + 100, (char *)text, sizeof(text), EMU_WRITE));
		write_back(&d);
		assert_on_disk(AT + 100, text, sizeof(text));
		assert_unmaps(container, IOVA, LEN, LEN);
		end(&d, container, registered);
	}
}

static int mount_disk(void **state)
{
	(void)state;
	/* Newer kernels have the first one built in. */
	assert_int_equal(system("modprobe -q crc32c_generic; modprobe ext4"), 0);
	assert_int_equal(system("modprobe brd rd_nr=1 rd_size=16384"), 0);
	assert_int_equal(system("mke2fs -F /dev/ram0 >/dev/null 2>&1"), 0);
	mkdir(MOUNT, 0700);
	assert_int_equal(mount("/dev/ram0", MOUNT, "ext4", 0, NULL), 0);
	return 0;
}

static int unmount_disk(void **state)
{
	(void)state;
	return umount(MOUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(what_a_device_wrote_is_on_disk),
		TEST_EMU(what_an_in_kernel_user_wrote_is_on_disk),
		TEST_MIXED(what_an_in_kernel_user_wrote_is_on_disk),
	};

	return cmocka_run_group_tests_name("writeback", tests, mount_disk, unmount_disk);
}
