// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: the end of regions, containers and processes.
 */

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "fault.h"
#include "queue.h"
#include "registry_fixture.h"

static void unregister_waits_for_no_mapping(struct kunit *test)
{
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 3, 1));
	KUNIT_ASSERT_EQ(test, 0, map(test, 1, SZ_1G, 0, 20));
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));
	must_unmap(test, 0, 0, 1);
	/* Also if the mapping is another container's. */
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));
	/* What was registered twice can be unregistered once. */
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));
	expect_region_pins(test, 0, 20, 1);
	must_unmap(test, 1, SZ_1G, 20);
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

/* Whoever registered: memory stays with the process until its last container goes. */
static void last_container_takes_everything(struct kunit *test)
{
	unsigned int first;

	make_memory(test, EIGHTS);
	for (first = 0; first < CONTAINERS; first++) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 100, 20, true));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 3, 1));
		KUNIT_ASSERT_EQ(test, 0, map(test, 1, SZ_1G, 0, 20));
		close_container(test, first);
		expect_region_pins(test, 0, 20, 1);
		expect_region_pins(test, 100, 20, 1);
		expect_charge(test, 40);
		KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, !first, 0, 20) ?:
				unreg(test, !first, 0, 20));
		close_container(test, !first);
		expect_no_region(test);
		reopen_containers(test);
	}
}

struct closing {
	struct kunit *test;
	struct completion done;
};

static int closing_thread(void *data)
{
	struct closing *closing = data;

	close_container(closing->test, 1);
	complete_all(&closing->done);
	return 0;
}

/*
 * The core may release a container that was never used while all processes wait. If it is
 * the last one of a process that has something registered, that goes, but later.
 */
static void unused_containers_close_at_once(struct kunit *test)
{
	struct closing closing = { .test = test };
	struct vfio_region *region;

	make_memory(test, EIGHTS);
	init_completion(&closing.done);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	region = only_region(test);
	refcount_inc(&region->users);
	close_container(test, 0);
	/* Nobody can unpin now; rather fail than hang. */
	mutex_lock(&region->mapped_lock);
	KUNIT_EXPECT_FALSE(test, IS_ERR(kthread_run(closing_thread, &closing, "vfio-closing")));
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&closing.done, 10 * HZ), 0UL);
	expect_region_pins(test, 0, 20, 1);
	mutex_unlock(&region->mapped_lock);
	wait_for_completion(&closing.done);
	queue_flush();
	vfio_region_put(region);
	expect_no_region(test);
	reopen_containers(test);
}

/* What is mapped outlives the process that registered it, and no more. */
static void end_of_the_process_takes_what_is_not_mapped(struct kunit *test)
{
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 20, 20, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 1, SZ_1G, 5, 10));
	process_dies(test);
	expect_region_pins(test, 0, 5, 0);
	expect_region_pins(test, 5, 10, 1);
	expect_region_pins(test, 15, 25, 0);
	expect_charge(test, 10);
	expect_mapped_at(test, 1, SZ_1G, 5, 10, RW);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 0, 20));
	must_unmap(test, 1, SZ_1G, 10);
	expect_no_region(test);
}

/* Mappings of a region, each at an IOVA of its own. */
#define COVERS	(2 * ENTRIES)

struct cover {
	unsigned int page, npages;
};

static u64 cover_iova(unsigned int n)
{
	return (u64)n * SZ_16M;
}

/* Pinned and charged are those pages of a region that some mapping covers. */
static void expect_covered(struct kunit *test, const struct cover *covers)
{
	unsigned int page, n, charged = 0;

	for (page = 0; page < NPAGES; page++) {
		bool covered = false;

		for (n = 0; n < COVERS; n++)
			covered |= page - covers[n].page < covers[n].npages;
		expect_region_pins(test, page, 1, covered);
		charged += covered;
	}
	expect_charge(test, charged);
}

static void uncover(struct kunit *test, struct cover *cover, unsigned int n)
{
	if (cover->npages)
		must_unmap(test, n % CONTAINERS, cover_iova(n), cover->npages);
	cover->npages = 0;
}

/*
 * A page that several mappings share stays for the last of them, in whatever order, and
 * containers, they go: also if some went before the process did.
 */
static void what_is_mapped_outlives_the_process(struct kunit *test)
{
	unsigned int round, n, i;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 25);
	for (round = 0; round < 4 * NR_LAYOUTS; round++) {
		unsigned int first = prandom_u32_state(&rnd) % 8;
		struct cover covers[COVERS] = {};
		struct fixture *fx = test->priv;

		make_memory(test, round % NR_LAYOUTS);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, first, NPAGES - 8, false));
		for (n = 0; n < COVERS; n++) {
			unsigned int left, len = 1 + prandom_u32_state(&rnd) % (n % 4 ? 40 : 700);

			covers[n].page = first + prandom_u32_state(&rnd) % (NPAGES - 8);
			left = first + NPAGES - 8 - covers[n].page;
			covers[n].npages = min(len, left);
			KUNIT_ASSERT_EQ(test, 0, map(test, n % CONTAINERS, cover_iova(n),
						     covers[n].page, covers[n].npages));
		}
		for (n = 0; n < round; n++)
			uncover(test, &covers[n], n);
		process_dies(test);
		expect_covered(test, covers);
		for (i = 0; i < COVERS; i++) {
			n = (i * 7 + round) % COVERS;
			uncover(test, &covers[n], n);
			if (i % 4 == 3)
				expect_covered(test, covers);
		}
		expect_no_region(test);
		drop_memory(fx);
		close_container(test, 0);
		close_container(test, 1);
		reopen_containers(test);
	}
}

/* Groups, in-kernel users and other addresses: all that is left is as good as before. */
static void what_outlives_the_process_is_used(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	u64 bytes;

	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 700, 200));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, SZ_1G, 5, 2));
	process_dies(test);
	/* One more domain. */
	attach(test, 0, 2, &amdvi);
	expect_mapped_at(test, 2, 0, 700, 200, RW);
	expect_mapped_at(test, 2, SZ_1G, 5, 2, RW);
	detach(test, 0, 2);
	/* A first one again, after some time with none. */
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container[0], fx->emulated));
	detach(test, 0, 0);
	expect_charge(test, 202);
	vfio_external_register(fx->container[0], &fx->device);
	KUNIT_ASSERT_EQ(test, 1, call_external_pin(fx->container[0], fx->emulated, 0, 1, RW,
						   &page));
	KUNIT_EXPECT_PTR_EQ(test, page, fx->pages[700]);
	attach(test, 0, 0, &vtd);
	expect_mapped_at(test, 0, 0, 700, 200, RW);
	expect_region_pins(test, 0, 5, 0);
	expect_region_pins(test, 5, 2, 1);
	expect_region_pins(test, 7, 693, 0);
	expect_region_pins(test, 700, 200, 1);
	expect_region_pins(test, 900, NPAGES - 900, 0);
	expect_charge(test, 202);
	/* The device is told, and unpins. */
	must_unmap(test, 0, 0, 200);
	expect_region_pins(test, 700, 200, 0);
	expect_charge(test, 2);
	vfio_external_unregister(fx->container[0], &fx->device);
	vfio_container_detach(fx->container[0], fx->emulated);

	KUNIT_ASSERT_EQ(test, 0, call_vaddr_invalidate(fx->container[0], 0, 0, true, &bytes));
	KUNIT_ASSERT_EQ(test, 0, call_map_dma(fx->container[0], SZ_1G, vaddr_of(test, 500),
					      2 * PAGE_SIZE, 0, true));
	expect_charge(test, 2);
	must_unmap(test, 0, SZ_1G, 2);
	expect_no_region(test);
}

/* Nor does the end of the process let go of what an IOMMU keeps. */
static void what_an_iommu_keeps_outlives_the_process(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int dies_first, i;

	make_memory(test, EIGHTS);
	for (dies_first = 0; dies_first < 2; dies_first++) {
		/* What was not mapped any more is gone by then. */
		unsigned int first = dies_first ? 10 : 0, npages = dies_first ? 8 : 64;

		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 64, false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 10, 8));
		KUNIT_ASSERT_EQ(test, 0, map(test, 1, 0, 12, 2));
		if (dies_first)
			process_dies(test);
		mock(0)->stuck = 7 * PAGE_SIZE;
		must_unmap(test, 0, 0, 8);
		mock(0)->stuck = MOCK_NOT_STUCK;
		if (!dies_first)
			process_dies(test);
		must_unmap(test, 1, 0, 2);
		expect_region_pins(test, 0, first, 0);
		expect_region_pins(test, first, npages, 1);
		expect_region_pins(test, first + npages, 64 - first - npages, 0);
		expect_charge(test, 0);
		for (i = first; i < first + npages; i++)
			unpin_user_page(fx->pages[i]);
		mock_iommu_lose(mock(0), 7 * PAGE_SIZE);
		expect_no_region(test);
		close_container(test, 0);
		close_container(test, 1);
		reopen_containers(test);
	}
}

/* Why a region is busy: as many mappings as there are, and where the latest is. */
static void busy_regions_name_a_mapping(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_region_busy busy;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_FALSE(test, vfio_region_busy(only_region(test), &busy));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 3, 1));
	KUNIT_ASSERT_EQ(test, 0, map(test, 1, SZ_1G, 0, 20));
	KUNIT_ASSERT_TRUE(test, vfio_region_busy(only_region(test), &busy));
	KUNIT_EXPECT_EQ(test, busy.nr_mappings, 2U);
	KUNIT_EXPECT_EQ(test, busy.iova.first, (u64)SZ_1G);
	KUNIT_EXPECT_EQ(test, busy.iova.last, (u64)SZ_1G + 20 * PAGE_SIZE - 1);
	KUNIT_EXPECT_PTR_EQ(test, busy.container,
			    (const struct vfio_type1_container *)fx->container[1]);
	must_unmap(test, 1, SZ_1G, 20);
	KUNIT_ASSERT_TRUE(test, vfio_region_busy(only_region(test), &busy));
	KUNIT_EXPECT_EQ(test, busy.nr_mappings, 1U);
	KUNIT_EXPECT_EQ(test, busy.iova.first, 0ULL);
	KUNIT_EXPECT_PTR_EQ(test, busy.container,
			    (const struct vfio_type1_container *)fx->container[0]);
	must_unmap(test, 0, 0, 1);
	KUNIT_EXPECT_FALSE(test, vfio_region_busy(only_region(test), &busy));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_no_region(test);
}

/*
 * All processes share a lock. Who holds it must not wait for memory, or one that is out of
 * it (of its cgroup) keeps all of them waiting: lockdep tells, if the lock is ever taken
 * where memory is made free.
 */
static void joining_waits_for_no_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[1];

	down_write(&container->lock);
	fs_reclaim_acquire(GFP_KERNEL);
	vfio_registry_leave(container);
	fs_reclaim_release(GFP_KERNEL);
	KUNIT_EXPECT_EQ(test, 0, vfio_registry_join(container));
	up_write(&container->lock);
	KUNIT_EXPECT_PTR_EQ(test, container->registry, fx->container[0]->registry);
}

/* The process's registry is there already: it needs no other one. */
static void joining_siblings_needs_no_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[1];
	int ret;

	down_write(&container->lock);
	vfio_registry_leave(container);
	fault_all();
	ret = vfio_registry_join(container);
	fault_end();
	up_write(&container->lock);
	KUNIT_EXPECT_EQ(test, 0, ret);
}

static struct kunit_case registry_end_cases[] = {
	KUNIT_CASE(unregister_waits_for_no_mapping),
	KUNIT_CASE(last_container_takes_everything),
	KUNIT_CASE(unused_containers_close_at_once),
	KUNIT_CASE(end_of_the_process_takes_what_is_not_mapped),
	KUNIT_CASE(what_is_mapped_outlives_the_process),
	KUNIT_CASE(what_outlives_the_process_is_used),
	KUNIT_CASE(what_an_iommu_keeps_outlives_the_process),
	KUNIT_CASE(busy_regions_name_a_mapping),
	KUNIT_CASE(joining_waits_for_no_memory),
	KUNIT_CASE(joining_siblings_needs_no_memory),
	{}
};

SUITE("vfio_registered_end", registry_end_cases, REGISTRY_SUITE);
