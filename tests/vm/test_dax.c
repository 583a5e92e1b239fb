// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of a DAX device: mapped for DMA and unmapped, registered and unregistered; then its
 * driver can be unbound, which waits for the last reference to any page.  The memory is RAM
 * that the kernel was told to take for a persistent one.
 *
 * VM: --smp 2 --append memmap=256M!1G
 * VM: --modules zram --modules zsmalloc --modules lz4_compress --modules lz4hc_compress
 * VM: --modules brd --modules ext4 --modules jbd2 --modules mbcache
 * VM: --modules crc16 --modules crc32c_generic
 * VM: --modules nd_e820 --modules libnvdimm --modules device_dax --modules dax_pmem
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "testlib.h"

#define BASE	(5 * GIB)
#define SIZE	(4 * MIB)
#define NPAGES	(SIZE / VU_PAGE)
#define ND	"/sys/bus/nd/"
#define DRIVER	"/sys/bus/dax/drivers/device_dax/"
/* Seconds that unbinding may take. */
#define PATIENCE 10

/* What ndctl create-namespace --mode=devdax does. */
static int dax_setup(void **state)
{
	(void)state;
	if (system("modprobe nd_e820 && modprobe device_dax && modprobe dax_pmem"))
		return -1;
	return vu_write_file(ND "devices/dax0.0/mode", "ram") ?:
	       vu_write_file(ND "devices/dax0.0/align", "2097152") ?:
	       vu_write_file(ND "devices/dax0.0/uuid", "0f9a1b52-6a1f-4c0e-9d2c-1d3c5f7a9b11") ?:
	       vu_write_file(ND "devices/dax0.0/namespace", "namespace0.0") ?:
	       vu_write_file(ND "drivers/dax_pmem/bind", "dax0.0");
}

static char *dax_mmap(void)
{
	int fd = open("/dev/dax0.0", O_RDWR | O_CLOEXEC);
	char *mem;

	assert_true(fd >= 0);
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	memset(mem, 1, SIZE);
	close(fd);
	return mem;
}

/* Take the device from its driver, and give it back. */
static void assert_unbinds(void)
{
	unsigned int tenths;
	int status = -1;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(!!vu_write_file(DRIVER "unbind", "dax0.0"));
	for (tenths = 0; !waitpid(pid, &status, WNOHANG); tenths++) {
		if (tenths == PATIENCE * 10)
			fail_msg("the driver cannot be unbound: somebody holds a page");
		usleep(100000);
	}
	assert_int_equal(status, 0);
	assert_ok(vu_write_file(DRIVER "bind", "dax0.0"));
}

static void assert_dma(const struct fixture *f, char *mem)
{
	assert_dma_reaches(f, 0, mem, BASE);
	assert_dma_reaches(f, 0, mem + SIZE - VU_PAGE, BASE + SIZE - VU_PAGE);
}

static void what_was_unmapped_can_be_unbound(void **state)
{
	const struct fixture *f = *state;
	char *mem;

	not_on_intree("its pins stay");
	mem = dax_mmap();
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_pinned(f, NPAGES);
	assert_dma(f, mem);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_nothing_held(f);
	assert_dma_blocked(f, 0, mem, BASE);
	munmap(mem, SIZE);
	assert_unbinds();
}

static void what_was_unregistered_can_be_unbound(void **state)
{
	const struct fixture *f = *state;
	char *mem;

	if (is_intree())
		skip();
	mem = dax_mmap();
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_pinned(f, NPAGES);
	assert_dma(f, mem);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_ok(vu_unregister(f->container, mem, SIZE));
	assert_nothing_held(f);
	munmap(mem, SIZE);
	assert_unbinds();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(what_was_unmapped_can_be_unbound),
		TEST_V2(what_was_unregistered_can_be_unbound),
	};

	return cmocka_run_group_tests_name("DAX", tests, dax_setup, NULL);
}
