// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users of a container: maps, unmaps and pins at the same time.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "external.h"

/* What one thread does; the main thread maps and unmaps. */
struct racer {
	struct fixture *f;
	const struct vu_pci *dev;
	atomic_bool stop;
	atomic_ulong done;	/* what it can do while something is mapped */
	atomic_ulong refused;	/* because nothing is */
	atomic_ulong wrong;
};

#define RACE_PAGES	512UL

/* A pin gets all of its pages, or the mapping is not there. */
static void *pin_and_unpin(void *arg)
{
	struct racer *r = arg;
	unsigned int seed = 1;

	while (!r->stop) {
		const __u64 iova = BASE + PAGES(rand_r(&seed) % (RACE_PAGES - 16));
		const __u32 flags = rand_r(&seed) % 2 ? EMU_KTHREAD : 0;
		int ret = emu_pin_at(r->dev, iova, 16, EMU_PROT_RW, flags, NULL);

		r->done += ret == 16;
		r->refused += ret == -EINVAL;
		r->wrong += ret != 16 && ret != -EINVAL;
		/* An unmap may have come first. */
		if (ret == 16)
			emu_unpin(r->dev, iova, 16);
	}
	return NULL;
}

static void *read_and_write(void *arg)
{
	struct racer *r = arg;
	char buf[64] = "";

	while (!r->stop) {
		int ret = emu_rw(r->dev, BASE + 4000, buf, sizeof(buf), EMU_KTHREAD | EMU_WRITE);

		r->done += !ret;
		r->refused += ret == -EINVAL;
		r->wrong += ret && ret != -EINVAL;
	}
	return NULL;
}

/* Another IOMMU group, which is never refused. */
static void *come_and_go(void *arg)
{
	struct racer *r = arg;

	while (!r->stop) {
		int ret = vu_group_open(&r->f->pci[1]);

		if (!ret)
			ret = vu_group_attach(&r->f->pci[1], r->f->container);
		r->done += !ret;
		r->refused += !ret;
		r->wrong += !!ret;
		vu_pci_close(&r->f->pci[1]);
	}
	return NULL;
}

static bool raced_enough(const struct racer *r)
{
	return r->done > 50 && r->refused > 50;
}

static void race(struct fixture *f, const struct vu_pci *dev1, void *(*first)(void *),
		 const struct vu_pci *dev2, void *(*second)(void *))
{
	struct racer r[2] = { { .f = f, .dev = dev1 }, { .f = f, .dev = dev2 } };
	char *mem = mem_scattered(PAGES(RACE_PAGES));
	const time_t end = time(NULL) + TEST_TIMEOUT;
	unsigned long rounds = 0;
	pthread_t thread[2];
	unsigned int i;

	assert_int_equal(pthread_create(&thread[0], NULL, first, &r[0]), 0);
	assert_int_equal(pthread_create(&thread[1], NULL, second, &r[1]), 0);
	while ((rounds < 500 || !raced_enough(&r[0]) || !raced_enough(&r[1])) &&
	       time(NULL) < end) {
		assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(RACE_PAGES)));
		/* Let them find it, most of the time. */
		if (rounds++ % 4)
			usleep(200);
		assert_unmaps(f->container, BASE, PAGES(RACE_PAGES), PAGES(RACE_PAGES));
	}
	for (i = 0; i < 2; i++) {
		r[i].stop = true;
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		print_message("%lu done, %lu refused, %lu wrong in %lu rounds\n",
			      r[i].done, r[i].refused, r[i].wrong, rounds);
	}
	for (i = 0; i < 2; i++) {
		assert_int_equal(r[i].wrong, 0);
		assert_true(raced_enough(&r[i]));
		assert_int_equal(held_by(r[i].dev), 0);
	}
	assert_nothing_held(f);
	vu_free(mem, PAGES(RACE_PAGES));
}

static void map_and_unmap_race_with_pins_of_two(void **state)
{
	struct emu_fixture *e = *state;

	emu_attach(e, 1);
	emu_open_device(e, 1);
	race(e->f, &e->emu[0], pin_and_unpin, &e->emu[1], pin_and_unpin);
}

static void map_and_unmap_race_with_pins_and_dma_rw(void **state)
{
	struct emu_fixture *e = *state;

	race(e->f, &e->emu[0], pin_and_unpin, &e->emu[0], read_and_write);
}

/* The device sits behind an IOMMU, and no other is there. */
static void map_and_unmap_race_with_an_iommu_devices_pins(void **state)
{
	struct emu_fixture *e = *state;

	race(e->f, &e->f->pci[0], pin_and_unpin, &e->f->pci[0], read_and_write);
}

static void map_and_unmap_race_with_pins_and_attach(void **state)
{
	struct emu_fixture *e = *state;

	race(e->f, &e->emu[0], pin_and_unpin, &e->emu[0], come_and_go);
}

/* A map that takes long: of memory that is not there yet. */
struct long_map {
	const struct emu_fixture *e;
	char *mem;
	atomic_bool done;
	int map, pin;
};

#define LONG_SIZE	(512 * MIB)

static void *map_slowly(void *arg)
{
	struct long_map *m = arg;

	m->map = vu_map_rw(m->e->f->container, m->mem, BASE + PAGES(1), LONG_SIZE);
	m->done = true;
	return NULL;
}

static void *pin_across(void *arg)
{
	struct long_map *m = arg;

	m->pin = emu_pin_at(&m->e->emu[0], BASE, 2, EMU_PROT_RW, EMU_UNLOCKED, NULL);
	return NULL;
}

/*
 * A pin of two pages waits for the second one to be mapped. Meanwhile the first
 * one goes, although the device knows of no pin that it could give back.
 */
static void a_pin_that_waits_holds_nothing(void **state)
{
	struct long_map m = { .e = *state };
	struct fixture *f = m.e->f;
	char *mem = mem_pages(1);
	pthread_t thread[2];

	not_on_intree("an unmap waits for any map");
	m.mem = mmap(NULL, LONG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(m.mem != MAP_FAILED);
	assert_int_equal(madvise(m.mem, LONG_SIZE, MADV_NOHUGEPAGE), 0);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	assert_int_equal(pthread_create(&thread[0], NULL, map_slowly, &m), 0);
	while (vu_locked_kib() - f->locked_kib == KIB(1) && !m.done)
		sched_yield();
	assert_int_equal(pthread_create(&thread[1], NULL, pin_across, &m), 0);
	usleep(50000);
	assert_unmaps(f->container, BASE, PAGES(1), PAGES(1));
	/* Else it was no test. */
	assert_false(m.done);
	assert_int_equal(pthread_join(thread[0], NULL), 0);
	assert_int_equal(pthread_join(thread[1], NULL), 0);
	assert_ok(m.map);
	assert_ret(m.pin, -EINVAL);
	assert_int_equal(held_by(&m.e->emu[0]), 0);
	assert_pinned(f, LONG_SIZE / VU_PAGE);
	assert_unmaps_all(f->container, LONG_SIZE);
	assert_nothing_held(f);
	vu_free(m.mem, LONG_SIZE);
	vu_free(mem, PAGES(1));
}

/* A pin in a mapping that is being made gets it when it is whole. */
static void a_pin_waits_for_the_map(void **state)
{
	struct long_map m = { .e = *state };
	struct fixture *f = m.e->f;
	pthread_t thread;

	m.mem = mmap(NULL, LONG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(m.mem != MAP_FAILED);
	assert_int_equal(madvise(m.mem, LONG_SIZE, MADV_NOHUGEPAGE), 0);
	assert_int_equal(pthread_create(&thread, NULL, map_slowly, &m), 0);
	while (vu_locked_kib() == f->locked_kib && !m.done)
		sched_yield();
	assert_false(m.done);
	assert_ret(emu_pin(&m.e->emu[0], BASE + LONG_SIZE, 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_ok(m.map);
	assert_pinned(f, LONG_SIZE / VU_PAGE + 1);
	assert_unmaps_all(f->container, LONG_SIZE);
	vu_free(m.mem, LONG_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_EMU(map_and_unmap_race_with_pins_of_two),
		TEST_MIXED(map_and_unmap_race_with_pins_of_two),
		TEST_EMU(map_and_unmap_race_with_pins_and_dma_rw),
		TEST_EMU_EDU(map_and_unmap_race_with_an_iommu_devices_pins),
		TEST_EMU(map_and_unmap_race_with_pins_and_attach),
		TEST_MIXED(a_pin_that_waits_holds_nothing),
		TEST_MIXED(a_pin_waits_for_the_map),
	};

	return cmocka_run_group_tests_name("external_race", tests, NULL, NULL);
}
