// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users that do not unpin in time when a mapping goes: a moment late, seconds
 * late, when they are closed, or never. UNMAP succeeds all the same, and nothing that is
 * still pinned becomes anybody else's.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "debugfs.h"
#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		64UL
#define SIZE		PAGES(NPAGES)
/* What is pinned. */
#define FIRST		10UL
#define PINNED		3UL
#define PINNED_AT	(BASE + PAGES(FIRST))
#define MSEC		1000000ULL
/* After this time UNMAP goes on. */
#define PATIENCE	(4095 * MSEC)

/* ---- What is seen of it ---- */

/* Lines of the log that say that these devices are late. */
static unsigned int log_late(int log, const char *devices)
{
	char regex[128];

	snprintf(regex, sizeof(regex), "IOVA 0x%lx-0x%lx: a driver \\(%s\\) was told", BASE,
		 BASE + SIZE - 1, devices);
	return kmsg_count(log, regex);
}

/* Does debugfs show BASE in this state? */
static bool shown_as(const char *state)
{
	unsigned int ids[DEBUGFS_IDS], n = debugfs_ids(ids, DEBUGFS_IDS), i;
	struct debugfs_mapping m;
	bool shown = false;

	assert_true(n > 0);
	for (i = 0; i < n; i++) {
		int fd = debugfs_open(ids[i], "mappings");
		char *text = debugfs_read_fd(fd, 1 << 15);
		const char *line = text;

		while ((line = debugfs_parse_mapping(line, &m)))
			shown |= m.iova == BASE && !strcmp(m.state, state);
		free(text);
		close(fd);
	}
	return shown;
}

static int dirty_ioctl(int container, __u32 flags)
{
	struct vfio_iommu_type1_dirty_bitmap head = { .argsz = sizeof(head), .flags = flags };

	return ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &head) ? -errno : 0;
}

static int get_bitmap(int container, __u64 iova, __u64 size)
{
	__u64 words[2] = {};
	struct {
		__u32 argsz;
		__u32 flags;
		struct vfio_iommu_type1_dirty_bitmap_get range;
	} get = {
		.argsz = sizeof(get),
		.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		.range.iova = iova,
		.range.size = size,
		.range.bitmap.pgsize = VU_PAGE,
		.range.bitmap.size = sizeof(words),
		.range.bitmap.data = words,
	};

	if (ioctl(container, VFIO_IOMMU_DIRTY_PAGES, &get))
		return -errno;
	/* Nothing is mapped there, so nothing is dirty. */
	assert_int_equal(words[0] | words[1], 0);
	return 0;
}

/* To all but a MAP it is as if nothing was there. */
static void assert_kept(const struct emu_fixture *e, const struct vu_pci *dev)
{
	const int container = e->f->container;
	char *mem = mem_pages(2), byte;

	assert_true(shown_as("kept"));
	assert_ret(vu_map_rw(container, mem, BASE, PAGES(1)), -EBUSY);
	assert_ret(vu_map_rw(container, mem, PINNED_AT, PAGES(1)), -EBUSY);
	assert_ret(vu_map_rw(container, mem, BASE - PAGES(1), PAGES(2)), -EBUSY);
	assert_ok(vu_map_rw(container, mem, BASE - PAGES(1), PAGES(1)));
	assert_ok(vu_map_rw(container, mem, BASE + SIZE, PAGES(1)));
	assert_unmaps(container, BASE, SIZE, 0);
	assert_unmaps(container, PINNED_AT, PAGES(1), 0);
	assert_unmaps(container, BASE - PAGES(1), SIZE + PAGES(2), PAGES(2));
	assert_unmaps_all(container, 0);
	assert_ret(emu_pin(dev, PINNED_AT, 1), -EINVAL);
	assert_ret(emu_rw(dev, PINNED_AT, &byte, 1, 0), -EINVAL);

	assert_ok(dirty_ioctl(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START));
	assert_ok(get_bitmap(container, BASE, SIZE));
	assert_ok(get_bitmap(container, PINNED_AT, SIZE));
	assert_ok(dirty_ioctl(container, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP));
	vu_free(mem, PAGES(2));
}

/* Map, pin, and unmap in vain for as long as UNMAP has patience; what is pinned stays so. */
static char *keep(const struct emu_fixture *e, const struct vu_pci *dev, const char *names)
{
	char *mem = mem_pages(NPAGES);
	int log = kmsg_open();
	__u64 begun;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, SIZE));
	assert_ret(emu_pin(dev, PINNED_AT, PINNED), PINNED);
	emu_never_unpin(dev);
	begun = vu_now();
	assert_unmaps(e->f->container, BASE, SIZE, SIZE);
	assert_true(vu_now() - begun >= PATIENCE);
	assert_int_equal(log_late(log, names), 1);
	close(log);
	assert_charged(e->f, PINNED);
	assert_pinned(e->f, PINNED);
	return mem;
}

/* The IOVA is free, for memory of which nothing is pinned but what a device pins now. */
static void assert_free(const struct emu_fixture *e, const struct vu_pci *dev)
{
	char *mem = mem_pages(NPAGES);
	__u64 pfn;

	assert_false(shown_as("kept"));
	assert_ok(vu_map_rw(e->f->container, mem, BASE, SIZE));
	emu_unpin_when_told(dev, 1);
	assert_ret(emu_pin_at(dev, PINNED_AT, 1, EMU_PROT_RW, 0, &pfn), 1);
	assert_int_equal(pfn, pfn_of(mem + PAGES(FIRST)));
	assert_unmaps(e->f->container, BASE, SIZE, SIZE);
	assert_nothing_held(e->f);
	vu_free(mem, SIZE);
}

/* ---- Late, but not too late ---- */

struct pinner {
	pthread_t thread;
	const struct vu_pci *dev;
	int ret;
};

static void *pin_unlocked(void *arg)
{
	struct pinner *p = arg;

	p->ret = emu_pin_at(p->dev, PINNED_AT, PINNED, EMU_PROT_RW, EMU_UNLOCKED, NULL);
	return NULL;
}

/* It is told before it knows what it has to unpin. */
static void a_driver_may_note_late_what_it_pinned(void **state)
{
	const struct emu_fixture *e = *state;
	struct pinner p = { .dev = &e->emu[0] };
	char *mem = mem_pages(NPAGES);
	struct emu_state s;
	int log = kmsg_open();

	assert_ok(vu_map_rw(e->f->container, mem, BASE, SIZE));
	emu_note_late(p.dev, 500);
	assert_int_equal(pthread_create(&p.thread, NULL, pin_unlocked, &p), 0);
	wait_pinned(e->f, PINNED);
	assert_unmaps(e->f->container, BASE, SIZE, SIZE);
	assert_int_equal(pthread_join(p.thread, NULL), 0);
	assert_int_equal(p.ret, PINNED);
	emu_state(p.dev, &s);
	assert_int_equal(s.held, 0);
	assert_nothing_held(e->f);
	assert_int_equal(log_late(log, ".*"), 0);
	close(log);
	assert_free(e, p.dev);
	vu_free(mem, SIZE);
}

/* UNMAP goes on at once when it has unpinned. */
static void a_driver_may_be_seconds_late(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem = mem_pages(NPAGES);
	int log = kmsg_open();
	__u64 begun, took;

	assert_ok(vu_map_rw(e->f->container, mem, BASE, SIZE));
	assert_ret(emu_pin(&e->emu[0], PINNED_AT, PINNED), PINNED);
	/* Early in a wait of UNMAP that begins at 1023 ms and would end at 2047. */
	emu_unpin_late(&e->emu[0], 1200);
	begun = vu_now();
	assert_unmaps(e->f->container, BASE, SIZE, SIZE);
	took = vu_now() - begun;
	assert_true(took >= 1200 * MSEC && took < PATIENCE);
	assert_nothing_held(e->f);
	assert_int_equal(log_late(log, ".*"), 0);
	close(log);
	emu_unpin_late(&e->emu[0], 0);
	assert_free(e, &e->emu[0]);
	vu_free(mem, SIZE);
}

/* ---- Too late ---- */

static void what_is_pinned_is_kept_until_it_is_not(void **state)
{
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	char *mem = keep(e, dev, EMU_NAME ".0");

	/* The device with the IOMMU reaches nothing of it. */
	if (e->f->edu[0].regs)
		assert_dma_blocked(e->f, 0, mem + PAGES(FIRST), PINNED_AT);
	assert_kept(e, dev);
	assert_ok(emu_unpin(dev, PINNED_AT, PINNED - 1));
	assert_charged(e->f, 1);
	assert_pinned(e->f, 1);
	assert_kept(e, dev);
	assert_ok(emu_unpin(dev, PINNED_AT + PAGES(PINNED - 1), 1));
	assert_nothing_held(e->f);
	assert_free(e, dev);
	vu_free(mem, SIZE);
}

/* A device that unpins only when it is closed, and another that goes on. */
static void closing_the_device_frees_the_range(void **state)
{
	struct emu_fixture *e = *state;
	char *mem;

	emu_attach(e, 1);
	emu_open_device(e, 1);
	mem = keep(e, &e->emu[0], EMU_NAME ".1, " EMU_NAME ".0");
	assert_kept(e, &e->emu[1]);
	emu_close(e, 0);
	assert_nothing_held(e->f);
	assert_free(e, &e->emu[1]);
	vu_free(mem, SIZE);
}

/*
 * Two devices, one IOVA. Were other memory mapped and pinned there while the first one has
 * not unpinned, its late unpin would take the second one's pin.
 */
static void a_late_unpin_takes_no_other_pin(void **state)
{
	struct emu_fixture *e = *state;
	const struct vu_pci *late = &e->emu[0], *other = &e->emu[1];
	char *mem, *new = mem_pages(NPAGES);

	emu_attach(e, 1);
	emu_open_device(e, 1);
	mem = mem_pages(NPAGES);
	assert_ok(vu_map_rw(e->f->container, mem, BASE, SIZE));
	assert_ret(emu_pin(late, PINNED_AT, 1), 1);
	/* The same page of the same mapping; this one unpins when told. */
	assert_ret(emu_pin(other, PINNED_AT, 1), 1);
	emu_never_unpin(late);
	assert_unmaps(e->f->container, BASE, SIZE, SIZE);
	assert_pinned(e->f, 1);

	assert_ret(vu_map_rw(e->f->container, new, BASE, SIZE), -EBUSY);
	assert_ret(emu_pin(other, PINNED_AT, 1), -EINVAL);
	assert_ok(emu_unpin(late, PINNED_AT, 1));
	assert_nothing_held(e->f);
	assert_ok(vu_map_rw(e->f->container, new, BASE, SIZE));
	assert_ret(emu_pin(other, PINNED_AT, 1), 1);
	assert_pinned(e->f, 1);
	emu_close(e, 0);
	assert_pinned(e->f, 1);
	assert_ok(emu_unpin(other, PINNED_AT, 1));
	assert_nothing_held(e->f);
	vu_free(mem, SIZE);
	vu_free(new, SIZE);
}

/* A kept range counts among the mappings that a container may have. */
static void what_is_kept_takes_an_entry(void **state)
{
	const unsigned int limit = module_param_read("dma_entry_limit");
	struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	char *mem;

	module_param_write("dma_entry_limit", 2);
	fixture_open_container(e->f);
	emu_attach(e, 0);
	assert_ok(vu_set_iommu(e->f->container, VFIO_TYPE1v2_IOMMU));
	emu_open_device(e, 0);
	module_param_write("dma_entry_limit", limit);

	mem = keep(e, dev, EMU_NAME ".0");
	assert_ok(vu_map_rw(e->f->container, mem, 0, PAGES(1)));
	assert_int_equal(dma_avail(e->f->container), 0);
	assert_ret(vu_map_rw(e->f->container, mem, PAGES(1), PAGES(1)), -ENOSPC);
	assert_ok(emu_unpin(dev, PINNED_AT, PINNED));
	assert_int_equal(dma_avail(e->f->container), 1);
	assert_ok(vu_map_rw(e->f->container, mem, PAGES(1), PAGES(1)));
	vu_free(mem, SIZE);
}

/* Of registered memory no more is kept than of other memory. */
static void of_registered_memory_pages_are_kept(void **state)
{
	const size_t size = 256 * MIB;
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	char *mem = mem_sequential(size);
	int log = kmsg_open();
	long before, now;
	unsigned int i;

	assert_ok(vu_register(e->f->container, mem, size, 0));
	assert_ok(vu_map_rw(e->f->container, mem, BASE, size));
	assert_ret(emu_pin(dev, PINNED_AT, 1), 1);
	emu_never_unpin(dev);
	before = vu_vmstat("nr_free_pages");
	now = before;
	assert_unmaps(e->f->container, BASE, size, size);
	assert_int_equal(kmsg_count(log, "a driver \\(" EMU_NAME ".0\\) was told"), 1);
	assert_ok(vu_unregister(e->f->container, mem, size));
	assert_nothing_held(e->f);
	vu_free(mem, size);
	/* Some of it may be on its way. */
	for (i = 0; i < TEST_TIMEOUT && now - before <= (long)(size / VU_PAGE) * 9 / 10; i++) {
		sleep(i > 0);
		now = vu_vmstat("nr_free_pages");
	}
	if (now - before <= (long)(size / VU_PAGE) * 9 / 10)
		fail_msg("%ld pages are free, before it were %ld", now, before);
	/* The page itself is still the device's. */
	assert_true(shown_as("kept"));
	assert_ok(emu_unpin(dev, PINNED_AT, 1));
	assert_free(e, dev);
	assert_int_equal(kmsg_count(log, "stays? pinned"), 0);
	close(log);
}

/* ---- Never ---- */

/* Close everything; what the device forgot stays pinned, and is said to, and no more. */
static void close_and_leak(struct emu_fixture *e)
{
	int log = kmsg_open();

	emu_forget(&e->emu[0]);
	emu_close(e, 0);
	fixture_close(e->f);
	assert_int_equal(kmsg_count(log, ": 3 pages were pinned by drivers, and not unpinned"), 1);
	close(log);
	assert_charged(e->f, 0);
	assert_pinned(e->f, PINNED);
	/* For ever: tests/vm/check is told. */
	e->f->pinned += PINNED;
	printf("# stays pinned %u\n", (unsigned int)PINNED);
}

static void what_is_kept_at_the_end_stays_pinned(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = keep(e, &e->emu[0], EMU_NAME ".0");

	close_and_leak(e);
	vu_free(mem, SIZE);
}

static void what_is_mapped_and_pinned_at_the_end_stays_pinned(void **state)
{
	struct emu_fixture *e = *state;
	char *mem = mem_pages(NPAGES);

	assert_ok(vu_map_rw(e->f->container, mem, BASE, SIZE));
	assert_ret(emu_pin(&e->emu[0], PINNED_AT, PINNED), PINNED);
	close_and_leak(e);
	vu_free(mem, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_EMU(a_driver_may_note_late_what_it_pinned),
		TEST_EMU(a_driver_may_be_seconds_late),
		TEST_EMU(what_is_pinned_is_kept_until_it_is_not),
		TEST_MIXED(what_is_pinned_is_kept_until_it_is_not),
		TEST_EMU(closing_the_device_frees_the_range),
		TEST_EMU(a_late_unpin_takes_no_other_pin),
		TEST_EMU_CLOSED(what_is_kept_takes_an_entry),
		TEST_EMU(of_registered_memory_pages_are_kept),
		TEST_EMU(what_is_kept_at_the_end_stays_pinned),
		TEST_MIXED(what_is_kept_at_the_end_stays_pinned),
		TEST_EMU(what_is_mapped_and_pinned_at_the_end_stays_pinned),
		TEST_MIXED(what_is_mapped_and_pinned_at_the_end_stays_pinned),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module does not survive this");
		return 0;
	}
	return cmocka_run_group_tests_name("evict", tests, NULL, NULL);
}
