// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups come and go: who reaches which mapping, what stays, and that closing
 * in any order gives everything back.
 */
#include "testlib.h"

#define BASE		(5 * GIB)
#define NPAGES		1024UL
#define SIZE		(NPAGES * VU_PAGE)

static void two_groups_share_the_mappings(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_scattered(SIZE);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	/* Two devices, one container: pinned and charged once. */
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_dma_reaches(f, 0, mem, BASE);
	assert_dma_reaches(f, 1, mem, BASE);
	assert_dma_reaches(f, 1, mem + SIZE - VU_PAGE, BASE + SIZE - VU_PAGE);

	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_dma_blocked(f, 0, mem, BASE);
	assert_dma_blocked(f, 1, mem, BASE);
	vu_free(mem, SIZE);
}

/* A group that is attached late finds what was mapped before, at no cost. */
static void a_late_group_reaches_earlier_mappings(void **state)
{
	struct fixture *f = *state;
	char *small = mem_scattered(SIZE), *huge = mem_hugetlb(VU_2M);

	assert_ok(vu_map_rw(f->container, small, BASE, SIZE));
	assert_ok(vu_map_rw(f->container, huge, 0, VU_2M));
	fixture_attach(f, 1);
	assert_charged(f, NPAGES + 512);
	assert_pinned(f, NPAGES + 512);
	fixture_open_device(f, 1);
	assert_dma_reaches(f, 1, small, BASE);
	assert_dma_reaches(f, 1, small + SIZE / 2, BASE + SIZE / 2);
	assert_dma_reaches(f, 1, small + SIZE - VU_PAGE, BASE + SIZE - VU_PAGE);
	assert_dma_reaches(f, 1, huge, 0);
	assert_dma_reaches(f, 1, huge + VU_2M - VU_PAGE, VU_2M - VU_PAGE);
	assert_dma_reaches(f, 0, small, BASE);

	assert_unmaps_all(f->container, SIZE + VU_2M);
	assert_dma_blocked(f, 1, small, BASE);
	assert_dma_blocked(f, 1, huge, 0);
	vu_free(small, SIZE);
	vu_free(huge, VU_2M);
}

/* Which of two groups leaves: the one that came first, or second. */
static void leave_and_go_on(struct fixture *f, unsigned int leaves, unsigned int stays)
{
	char *mem = mem_scattered(SIZE);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	fixture_close_device(f, leaves);
	assert_charged(f, NPAGES);
	assert_pinned(f, NPAGES);
	assert_dma_reaches(f, stays, mem, BASE);

	/* The rest of its life is the usual one. */
	assert_ok(vu_map_rw(f->container, mem, 0, VU_PAGE));
	assert_dma_reaches(f, stays, mem, 0);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	assert_dma_blocked(f, stays, mem, BASE);

	/* And back again. */
	fixture_attach(f, leaves);
	fixture_open_device(f, leaves);
	assert_dma_reaches(f, leaves, mem, 0);
	assert_unmaps_all(f->container, VU_PAGE);
	vu_free(mem, SIZE);
}

static void mappings_stay_when_the_second_group_leaves(void **state)
{
	leave_and_go_on(*state, 1, 0);
}

static void mappings_stay_when_the_first_group_leaves(void **state)
{
	leave_and_go_on(*state, 0, 1);
}

/* A device that has left for another container has left the mappings behind. */
static void containers_are_apart(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_pages(1), *other_mem = mem_pages(1);
	int first = f->container, second;

	assert_ok(vu_map_rw(f->container, mem, BASE, VU_PAGE));
	fixture_close_device(f, 1);

	fixture_open_container(f);
	second = f->container;
	fixture_attach(f, 1);
	assert_ok(vu_set_iommu(second, VFIO_TYPE1v2_IOMMU));
	fixture_open_device(f, 1);
	assert_dma_blocked(f, 1, mem, BASE);

	/* The same IOVA is free there, and means something else. */
	assert_ok(vu_map_rw(second, other_mem, BASE, VU_PAGE));
	assert_dma_reaches(f, 1, other_mem, BASE);
	assert_dma_reaches(f, 0, mem, BASE);
	assert_dma_blocked(f, 1, mem, BASE);
	assert_charged(f, 2);
	assert_unmaps(first, BASE, VU_PAGE, VU_PAGE);
	assert_dma_reaches(f, 1, other_mem, BASE);
	assert_charged(f, 1);

	close(first);
	vu_free(mem, VU_PAGE);
	vu_free(other_mem, VU_PAGE);
}

static void a_group_is_attached_once(void **state)
{
	struct fixture *f = *state;
	struct vu_pci again = f->pci[0];
	int other = vu_container_open();

	assert_ret(vu_group_attach(&f->pci[0], f->container), -EINVAL);
	assert_ret(vu_group_attach(&f->pci[0], other), -EINVAL);
	assert_ret(vu_group_open(&again), -EBUSY);
	close(other);
}

static void a_group_with_an_open_device_stays(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1);

	assert_ok(vu_map_rw(f->container, mem, BASE, VU_PAGE));
	assert_ret(vu_group_detach(&f->pci[0]), -EBUSY);
	assert_dma_reaches(f, 0, mem, BASE);
	assert_unmaps_all(f->container, VU_PAGE);
	vu_free(mem, VU_PAGE);
}

/* The last group takes everything along; the container is as good as new. */
static void the_last_group_takes_all_mappings_along(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_scattered(SIZE);

	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	fixture_close_device(f, 0);
	assert_charged(f, NPAGES);
	fixture_close_device(f, 1);
	assert_nothing_held(f);
	assert_ret(vu_map_rw(f->container, mem, BASE, SIZE), -EINVAL);

	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1_IOMMU));
	fixture_open_device(f, 0);
	assert_dma_blocked(f, 0, mem, BASE);
	assert_unmaps(f->container, BASE, SIZE, 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	assert_dma_reaches(f, 0, mem, BASE);
	assert_unmaps(f->container, BASE, SIZE, SIZE);
	vu_free(mem, SIZE);
}

/* ---- Closing without an unmap ---- */

static void map_some(const struct fixture *f)
{
	assert_ok(vu_map_rw(f->container, mem_scattered(SIZE), BASE, SIZE));
	assert_ok(vu_map_rw(f->container, mem_thp(SIZE), 0, SIZE));
	assert_charged(f, 2 * NPAGES);
}

static void close_devices_first(void **state)
{
	struct fixture *f = *state;

	map_some(f);
	fixture_close(f);
	assert_nothing_held(f);
}

static void close_the_container_first(void **state)
{
	struct fixture *f = *state;

	map_some(f);
	fixture_close_container(f);
	/* The groups keep it. */
	assert_charged(f, 2 * NPAGES);
	fixture_close_device(f, 1);
	assert_charged(f, 2 * NPAGES);
	fixture_close_device(f, 0);
	assert_nothing_held(f);
}

static void close_groups_before_devices(void **state)
{
	struct fixture *f = *state;
	unsigned int i;

	map_some(f);
	for (i = 0; i < 2; i++) {
		close(f->pci[i].group_fd);
		f->pci[i].group_fd = -1;
	}
	fixture_close_container(f);
	assert_charged(f, 2 * NPAGES);
	fixture_close(f);
	assert_nothing_held(f);
}

static void exit_without_closing(void *arg)
{
	struct vu_pci pci;
	int container = vu_open(&pci, VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);

	child_check(container >= 0);
	child_check(!vu_map_rw(container, arg, BASE, SIZE));
}

static void a_process_that_exits_leaves_nothing(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_scattered(SIZE);

	in_child(exit_without_closing, mem);
	assert_nothing_held(f);
	vu_free(mem, SIZE);
}

/* ---- Who is told that all mappings are gone ---- */

#define TOLD	"test_attach\\[[0-9]+\\]: detach of group [0-9]+: it was the last one: " \
		"2 mappings removed"

static unsigned long count_lost(void)
{
	FILE *f = fopen("/sys/kernel/debug/vfio_type1/lost_mappings", "r");
	unsigned long n;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &n), 1);
	fclose(f);
	return n;
}

/* Who closes the last group and goes on; not who ends, or had unmapped all. */
static void who_goes_on_is_told_what_is_gone(void **state)
{
	struct fixture *f = *state;
	char *mem = mem_scattered(SIZE);
	unsigned int round, kmsg;
	unsigned long before;

	if (is_intree())
		return;
	kmsg = kmsg_open();
	before = count_lost();
	in_child(exit_without_closing, mem);
	assert_int_equal(kmsg_count(kmsg, "mappings removed"), 0);
	assert_int_equal(count_lost(), before);
	for (round = 0; round < 2; round++) {
		fixture_open_container(f);
		fixture_attach(f, 0);
		assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
		assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
		assert_ok(vu_map_rw(f->container, mem, 0, SIZE));
		if (round)
			assert_unmaps_all(f->container, 2 * SIZE);
		assert_ok(vu_group_detach(&f->pci[0]));
		assert_int_equal(kmsg_count(kmsg, TOLD), !round);
		assert_int_equal(count_lost() - before, 2);
		fixture_close(f);
	}
	close(kmsg);
	vu_free(mem, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_TWO(two_groups_share_the_mappings),
		TEST_V2(a_late_group_reaches_earlier_mappings),
		TEST_TWO(mappings_stay_when_the_second_group_leaves),
		TEST_TWO(mappings_stay_when_the_first_group_leaves),
		TEST_TWO(containers_are_apart),
		TEST_V2(a_group_is_attached_once),
		TEST_V2(a_group_with_an_open_device_stays),
		TEST_TWO(the_last_group_takes_all_mappings_along),
		TEST_TWO(close_devices_first),
		TEST_TWO(close_the_container_first),
		TEST_TWO(close_groups_before_devices),
		TEST_CLOSED(a_process_that_exits_leaves_nothing),
		TEST_CLOSED(who_goes_on_is_told_what_is_gone),
	};

	return cmocka_run_group_tests_name("attach", tests, NULL, NULL);
}
