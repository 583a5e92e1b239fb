// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device's MSIs arrive while the IOMMU is ours. On x86 they are remapped before they
 * get there. On arm64 they are writes that the IOMMU translates, to an address that a
 * reserved region names, and where the domain has to map the doorbell (an MSI cookie).
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "testlib.h"

/* The edu device raises an interrupt for what is written to this register. */
#define EDU_RAISE	0x60
#define EDU_ACK		0x64

static void set_msi(const struct fixture *f, int eventfd)
{
	struct vfio_irq_set *set = calloc(1, sizeof(*set) + sizeof(int));

	assert_non_null(set);
	set->argsz = sizeof(*set) + sizeof(int);
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = VFIO_PCI_MSI_IRQ_INDEX;
	set->count = 1;
	memcpy(set->data, &eventfd, sizeof(eventfd));
	assert_int_equal(ioctl(f->pci[0].device_fd, VFIO_DEVICE_SET_IRQS, set), 0);
	free(set);
}

static void raise_one(const struct fixture *f)
{
	char *regs = f->edu[0].regs;

	__atomic_store_n((__u32 *)(regs + EDU_RAISE), 1, __ATOMIC_RELEASE);
	__atomic_store_n((__u32 *)(regs + EDU_ACK), 1, __ATOMIC_RELEASE);
}

static void assert_arrives(int eventfd)
{
	struct pollfd pollfd = { .fd = eventfd, .events = POLLIN };
	__u64 count;

	assert_int_equal(poll(&pollfd, 1, TEST_TIMEOUT * 1000), 1);
	assert_int_equal(read(eventfd, &count, sizeof(count)), sizeof(count));
}

static void interrupts_arrive_amid_mappings(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(16);
	int fd = eventfd(0, EFD_CLOEXEC), round;

	set_msi(f, fd);
	for (round = 0; round < 3; round++) {
		raise_one(f);
		assert_arrives(fd);
		assert_ok(vu_map_rw(f->container, mem, GIB, 16 * VU_PAGE));
		raise_one(f);
		assert_arrives(fd);
		assert_dma_reaches(f, 0, mem, GIB);
		assert_unmaps(f->container, GIB, 16 * VU_PAGE, 16 * VU_PAGE);
	}
	set_msi(f, -1);
	close(fd);
	vu_free(mem, 16 * VU_PAGE);
}

/* Nothing can be mapped over the doorbell, and GET_INFO says so. */
static void the_msi_window_is_no_valid_iova(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1);
	struct info info;
	__u64 first, last;
	__u32 i;

	msi_window(&first, &last);
	info_get(f->container, &info);
	for (i = 0; i < info.iova->nr_iovas; i++)
		assert_true(info.iova->iova_ranges[i].end < first ||
			    info.iova->iova_ranges[i].start > last);
	assert_ret(vu_map_rw(f->container, mem, first, VU_PAGE), -EINVAL);
	assert_ret(vu_map_rw(f->container, mem, last + 1 - VU_PAGE, VU_PAGE), -EINVAL);
	assert_ok(vu_map_rw(f->container, mem, first - VU_PAGE, VU_PAGE));
	assert_ok(vu_map_rw(f->container, mem, last + 1, VU_PAGE));
	assert_unmaps_all(f->container, 2 * VU_PAGE);
	vu_free(mem, VU_PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(interrupts_arrive_amid_mappings),
		TEST_V2(the_msi_window_is_no_valid_iova),
	};

	return cmocka_run_group_tests_name("msi", tests, NULL, NULL);
}
