// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: regions, and what MAP, UNMAP, attach, in-kernel users and the end
 * of containers and processes do with them.
 *
 * The memory is a block of physically contiguous pages, mapped to user space in
 * some order. Cases run on behalf of one process, with two containers; changes of its
 * memory are told by the fake watch.
 */

#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/prandom.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "fake_iommu.h"
#include "fake_watch.h"
#include "fault.h"
#include "queue.h"
#include "suite.h"
#include "user_mem.h"

#define ENTRIES		16
#define CONTAINERS	2U
#define NPAGES		USER_BLOCK_PAGES

static const struct fake_traits vtd = {
	.name = "VT-d", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G, .hides = true,
};

static const struct fake_traits amdvi = {
	.name = "AMD-Vi", .pgsize_bitmap = ~0xfffUL,
};

/**
 * struct fixture - what each case starts with
 * @container: v2; number n has group n, unless closed or detached
 * @emulated: a group without an IOMMU
 * @device: its in-kernel user
 * @block: USER_BLOCK_PAGES contiguous pages
 * @pages: pages of @block in the order of the user mapping
 * @vaddr: where
 * @mapped: there is a user mapping
 * @locked_vm: before anything was charged
 */
struct fixture {
	struct vfio_type1_container *container[CONTAINERS];
	struct iommu_group *emulated;
	struct vfio_device device;
	struct page *block;
	struct page *pages[NPAGES];
	unsigned long vaddr;
	bool mapped;
	unsigned long locked_vm;
};

static void device_dma_unmap(struct vfio_device *device, u64 iova, u64 length)
{
	struct fixture *fx = container_of(device, struct fixture, device);

	/* Cases pin the first page of what they map, once. */
	vfio_external_unpin(fx->container[0], iova, 1);
}

static const struct vfio_device_ops device_ops = {
	.dma_unmap = device_dma_unmap,
};

static struct vfio_type1_container *open_container(struct kunit *test, bool strict)
{
	struct vfio_type1_container *container = vfio_container_create(true, false, strict);

	KUNIT_ASSERT_FALSE(test, IS_ERR(container));
	return container;
}

static void attach(struct kunit *test, unsigned int c, unsigned int group,
		   const struct fake_traits *traits)
{
	struct fixture *fx = test->priv;

	fake_iommu.devices[group].traits = traits;
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach(fx->container[c],
						       fake_iommu.devices[group].group));
}

static void detach(struct kunit *test, unsigned int c, unsigned int group)
{
	struct fixture *fx = test->priv;

	vfio_container_detach(fx->container[c], fake_iommu.devices[group].group);
}

static void close_container(struct kunit *test, unsigned int c)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[c];

	kref_get(&container->users);
	vfio_container_destroy(container);
	fx->container[c] = NULL;
	/* No mapping, and nothing charged for any. */
	KUNIT_EXPECT_EQ(test, container->tree.bytes, 0ULL);
	KUNIT_EXPECT_EQ(test, vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES), 0ULL);
	vfio_container_put(container);
}

/* The page table that a group's device uses. */
static struct mock_iommu *mock(unsigned int group)
{
	return fake_mock(fake_iommu.devices[group].domain);
}

static int registry_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);
	unsigned int c;

	KUNIT_ASSERT_NOT_NULL(test, fx);
	user_mem_attach(test);
	fake_iommu_reset();
	vfio_type1_params.allow_unsafe_interrupts = true;
	suite_set_params(ENTRIES);
	test->priv = fx;
	fx->block = user_block_alloc(test);
	fx->emulated = iommu_group_alloc();
	KUNIT_ASSERT_FALSE(test, IS_ERR(fx->emulated));
	fx->device.ops = &device_ops;
	fx->locked_vm = user_locked_vm();
	for (c = 0; c < CONTAINERS; c++) {
		fx->container[c] = open_container(test, false);
		attach(test, c, c, &vtd);
	}
	return 0;
}

static void drop_memory(struct fixture *fx)
{
	if (fx->mapped)
		user_unmap(fx->vaddr, NPAGES);
	fx->mapped = false;
}

static void registry_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int c;

	if (!fx)
		return;
	for (c = 0; c < CONTAINERS; c++)
		if (fx->container[c])
			close_container(test, c);
	/* What goes with the process's last container may go later, if that was not used. */
	queue_flush();
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);
	KUNIT_EXPECT_EQ(test, fake_iommu.nr_domains, 0U);
	KUNIT_EXPECT_STREQ(test, fake_iommu.violation, "");
	KUNIT_EXPECT_EQ(test, user_locked_vm(), fx->locked_vm);
	vfio_type1_params.allow_unsafe_interrupts = false;
	drop_memory(fx);
	iommu_group_put(fx->emulated);
	user_block_free(fx->block);
	user_mem_detach();
}

/* ---- layouts ---- */

/* A layout cuts the block into chunks and lines these up in reverse. */
enum layout { SEQUENTIAL, SINGLES, EIGHTS, RANDOM, NR_LAYOUTS };

static unsigned int chunk_len(enum layout layout, struct rnd_state *rnd)
{
	switch (layout) {
	case SEQUENTIAL:
		return NPAGES;
	case SINGLES:
		return 1;
	case EIGHTS:
		return 8;
	default:
		return 1 + prandom_u32_state(rnd) % 600;
	}
}

static void make_memory(struct kunit *test, enum layout layout)
{
	unsigned int start, len, i, at = NPAGES;
	struct fixture *fx = test->priv;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 9);
	for (start = 0; start < NPAGES; start += len) {
		len = min(chunk_len(layout, &rnd), NPAGES - start);
		at -= len;
		for (i = 0; i < len; i++)
			fx->pages[at + i] = fx->block + start + i;
	}
	fx->vaddr = user_map_pages(test, fx->pages, NPAGES, PROT_READ | PROT_WRITE);
	fx->mapped = true;
}

/* ---- requests, by pages of the memory ---- */

static unsigned long vaddr_of(struct kunit *test, unsigned int page)
{
	struct fixture *fx = test->priv;

	return fx->vaddr + page * PAGE_SIZE;
}

static int reg(struct kunit *test, unsigned int c, unsigned int page, unsigned int npages,
	       bool read_only)
{
	struct fixture *fx = test->priv;

	return vfio_registry_register(fx->container[c], vaddr_of(test, page),
				      (u64)npages * PAGE_SIZE, read_only);
}

static int unreg(struct kunit *test, unsigned int c, unsigned int page, unsigned int npages)
{
	struct fixture *fx = test->priv;

	return vfio_registry_unregister(fx->container[c], vaddr_of(test, page),
					(u64)npages * PAGE_SIZE);
}

static int map_prot(struct kunit *test, unsigned int c, u64 iova, unsigned int page,
		    unsigned int npages, int prot)
{
	struct fixture *fx = test->priv;

	return vfio_map_dma(fx->container[c], iova, vaddr_of(test, page), (u64)npages * PAGE_SIZE,
			    prot, false);
}

static int map(struct kunit *test, unsigned int c, u64 iova, unsigned int page,
	       unsigned int npages)
{
	return map_prot(test, c, iova, page, npages, RW);
}

static void must_unmap(struct kunit *test, unsigned int c, u64 iova, unsigned int npages)
{
	u64 size = (u64)npages * PAGE_SIZE, unmapped = 0;
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, vfio_unmap_dma(fx->container[c], iova, size, false, NULL,
						&unmapped));
	KUNIT_ASSERT_EQ(test, unmapped, size);
}

/* ---- what is expected ---- */

/* The pages from @first on have @pins pins each. */
static void expect_pins(struct kunit *test, unsigned int first, unsigned int npages,
			unsigned int pins)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = first; i < first + npages; i++)
		KUNIT_ASSERT_EQ_MSG(test, (page_ref_count(fx->pages[i]) - REFS_UNPINNED) /
				    GUP_PIN_COUNTING_BIAS, (int)pins, "page %u", i);
}

static void expect_charge(struct kunit *test, unsigned int npages)
{
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, user_locked_vm(), fx->locked_vm + npages);
}

/* Nothing is registered or mapped: no pin, no charge, no watch. */
static void expect_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int c;

	expect_pins(test, 0, NPAGES, 0);
	expect_charge(test, 0);
	KUNIT_ASSERT_EQ(test, fake_watch_count(), 0U);
	for (c = 0; c < CONTAINERS; c++) {
		if (!fx->container[c])
			continue;
		KUNIT_ASSERT_TRUE(test, RB_EMPTY_ROOT(&fx->container[c]->tree.root));
		KUNIT_ASSERT_EQ(test, fx->container[c]->tree.avail, (unsigned int)ENTRIES);
		mock_iommu_expect_empty(test, mock(c));
	}
}

static void expect_mapped(struct kunit *test, unsigned int group, u64 iova, unsigned int page,
			  unsigned int npages, int prot)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < npages; i++) {
		KUNIT_ASSERT_EQ_MSG(test, iommu_iova_to_phys(&mock(group)->domain,
							     iova + i * PAGE_SIZE),
				    page_to_phys(fx->pages[page + i]), "page %u of %u", i, npages);
		KUNIT_ASSERT_EQ(test, mock_iommu_prot(mock(group), iova + i * PAGE_SIZE),
				prot | IOMMU_CACHE);
	}
	KUNIT_ASSERT_STREQ(test, mock(group)->violation, "");
}

static struct vfio_dma *mapping(struct kunit *test, unsigned int c, u64 iova)
{
	struct fixture *fx = test->priv;
	struct vfio_dma *dma = suite_mapping(fx->container[c], iova);

	KUNIT_ASSERT_NOT_NULL(test, dma);
	return dma;
}

static struct vfio_region *only_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct rb_node *node = rb_first(&fx->container[0]->registry->regions);

	KUNIT_ASSERT_NOT_NULL(test, node);
	KUNIT_ASSERT_NULL(test, rb_next(node));
	return rb_entry(node, struct vfio_region, node);
}

/* ---- regions ---- */

/* The run from @page on is right, and ends where the next page does not follow. */
static void expect_run(struct kunit *test, unsigned int first, unsigned int npages,
		       unsigned int page)
{
	struct vfio_run run = vfio_region_run(only_region(test), page, NPAGES);
	unsigned int len = vfio_run_npages(run), i;
	struct fixture *fx = test->priv;
	struct page **pages = &fx->pages[first + page];

	KUNIT_ASSERT_GE(test, len, 1U);
	KUNIT_ASSERT_LE(test, page + len, npages);
	for (i = 0; i < len; i++)
		KUNIT_ASSERT_EQ(test, vfio_run_pfn(run) + i, page_to_pfn(pages[i]));
	if (page + len < npages)
		KUNIT_ASSERT_NE(test, vfio_run_pfn(run) + len, page_to_pfn(pages[len]));
}

/* Whatever the layout, and wherever the region starts, each page is found from each. */
static void every_page_of_every_layout_is_found(struct kunit *test)
{
	static const unsigned int firsts[] = { 0, 1, 7, 300, 511, 512, 513, NPAGES - 1 };
	static const unsigned int sizes[] = { 1, 2, 9, 511, 512, 513, NPAGES };
	struct fixture *fx = test->priv;
	unsigned int layout, f, s, page, npages;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		for (f = 0; f < ARRAY_SIZE(firsts); f++) {
			for (s = 0; s < ARRAY_SIZE(sizes); s++) {
				npages = min(sizes[s], NPAGES - firsts[f]);
				KUNIT_ASSERT_EQ(test, 0, reg(test, 0, firsts[f], npages, false));
				for (page = 0; page < npages; page++)
					expect_run(test, firsts[f], npages, page);
				expect_pins(test, firsts[f], npages, 1);
				expect_charge(test, npages);
				KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, firsts[f], npages));
				expect_nothing(test);
			}
		}
		drop_memory(fx);
	}
}

/* Reserved pages are pinned, and unpinned, but not charged, also as the region's end comes. */
static void reserved_pages_are_unpinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, i;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		for (i = 100; i < 120; i++)
			SetPageReserved(fx->pages[i]);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		expect_pins(test, 0, NPAGES, 1);
		expect_charge(test, NPAGES - 20);
		KUNIT_EXPECT_EQ(test, vfio_region_count_ram(only_region(test), 0, NPAGES),
				NPAGES - 20UL);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 90, 30));
		expect_mapped(test, 0, 0, 90, 30, RW);
		must_unmap(test, 0, 0, 30);
		expect_pins(test, 0, NPAGES, 1);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		expect_nothing(test);

		/* What is mapped stays longer. */
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 110, 30));
		vfio_registry_orphan(fx->container[0]->registry);
		queue_flush();
		expect_pins(test, 0, 110, 0);
		expect_pins(test, 110, 30, 1);
		expect_pins(test, 140, NPAGES - 140, 0);
		expect_charge(test, 20);
		must_unmap(test, 0, 0, 30);
		expect_nothing(test);
		for (i = 100; i < 120; i++)
			ClearPageReserved(fx->pages[i]);
		drop_memory(fx);
	}
}

/* No more than a word per slot where frames follow each other, and one per page else. */
static void contiguous_memory_needs_a_word_per_slot(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, slot, slots, tables;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		slots = DIV_ROUND_UP(((fx->vaddr >> PAGE_SHIFT) % VFIO_SLOT_PAGES) + NPAGES,
				     VFIO_SLOT_PAGES);
		for (slot = 0, tables = 0; slot < slots; slot++)
			tables += only_region(test)->slots[slot] & 1;
		if (layout == SEQUENTIAL)
			KUNIT_EXPECT_EQ(test, tables, 0U);
		else if (layout != RANDOM)
			KUNIT_EXPECT_EQ(test, tables, slots);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		drop_memory(fx);
	}
}

static void same_region_again_takes_a_reference(struct kunit *test)
{
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
	/* By way of any container of the process. */
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 3, 40, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
	expect_pins(test, 3, 40, 1);
	expect_charge(test, 40);
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 1U);
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 1, 3, 40));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 1, 3, 40));
	expect_pins(test, 3, 40, 1);
	expect_charge(test, 40);
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 1, 3, 40));
	expect_nothing(test);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 1, 3, 40));
}

/* Who registers what was registered learns if it is something else now. */
static void changed_memory_is_not_registered_again(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int page;

	make_memory(test, EIGHTS);
	for (page = 3; page < 43; page += 13) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		/* Touched only. */
		fake_watch_change(vaddr_of(test, page), vaddr_of(test, page));
		KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 3, 40, false));
		KUNIT_ASSERT_EQ(test, only_region(test)->nr_marked, 0U);

		fake_watch_change(vaddr_of(test, page), vaddr_of(test, page));
		get_page(fx->pages[page]);
		user_remap_page(test, vaddr_of(test, page), fx->pages[500],
				PROT_READ | PROT_WRITE);
		KUNIT_EXPECT_EQ(test, -ESTALE, reg(test, 1, 3, 40, false));
		/* It was not counted. */
		KUNIT_EXPECT_EQ(test, only_region(test)->registered, 2UL);
		expect_charge(test, 40);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		/* Anew, it is what is there now. */
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, page, 1));
		KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 3, 40, false));
		must_unmap(test, 0, 0, 1);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		user_remap_page(test, vaddr_of(test, page), fx->pages[page],
				PROT_READ | PROT_WRITE);
		put_page(fx->pages[page]);
		expect_nothing(test);
	}
}

/* The process is gone, and all is done about it. */
static void process_dies(struct kunit *test)
{
	struct fixture *fx = test->priv;

	fake_watch_release();
	flush_work(&fx->container[0]->registry->orphaned);
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);
}

/* ---- requests that meet in the middle ---- */

/* What others do while a REGISTER waits for user memory. */
struct meanwhile {
	struct kunit *test;
	struct vfio_registry *registry;
	unsigned int page, npages, c;
	enum {
		NOTHING, REGISTER, UNREGISTER, UNREGISTER_ALL, MAP, COUNT_MAPPINGS, CLOSE, DIE
	} what;
	int ret;
};

static void do_meanwhile(void *data)
{
	struct meanwhile *m = data;

	/* Rather fail than hang. */
	m->ret = -EDEADLK;
	if (mutex_is_locked(&m->registry->mutex))
		return;
	switch (m->what) {
	case NOTHING:
		m->ret = 0;
		break;
	case REGISTER:
		m->ret = reg(m->test, m->c, m->page, m->npages, false);
		break;
	case UNREGISTER:
		m->ret = unreg(m->test, m->c, m->page, m->npages);
		break;
	case UNREGISTER_ALL:
		do
			m->ret = unreg(m->test, m->c, m->page, m->npages);
		while (!m->ret);
		break;
	case MAP:
		m->ret = map(m->test, m->c, 0, m->page, m->npages);
		break;
	case COUNT_MAPPINGS:
		m->ret = vfio_region_mappings(only_region(m->test));
		break;
	case CLOSE:
		for (m->c = 0; m->c < CONTAINERS; m->c++)
			close_container(m->test, m->c);
		/* Who compares keeps no page. */
		expect_pins(m->test, 0, NPAGES, 0);
		m->ret = 0;
		break;
	case DIE:
		process_dies(m->test);
		m->ret = 0;
	}
}

/* Register @npages pages from 3 on; while that looks at them, others do something. */
static int reg_while(struct kunit *test, struct meanwhile *m, unsigned int npages)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[0];
	int ret;

	m->test = test;
	m->registry = container->registry;
	/* The front door holds one. */
	kref_get(&container->users);
	fake_watch_wait(do_meanwhile, m);
	ret = vfio_registry_register(container, vaddr_of(test, 3), (u64)npages * PAGE_SIZE, false);
	vfio_container_put(container);
	return ret;
}

static void reopen_containers(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int c;

	for (c = 0; c < CONTAINERS; c++) {
		fx->container[c] = open_container(test, false);
		attach(test, c, c, &vtd);
	}
}

/* A REGISTER may wait for the process's memory for ever; nobody waits for the REGISTER. */
static void registering_keeps_nobody_waiting(struct kunit *test)
{
	struct meanwhile same = { .what = REGISTER, .page = 3, .npages = 40, .c = 1 };
	struct meanwhile cuts = { .what = REGISTER, .page = 30, .npages = 40, .c = 1 };
	struct meanwhile apart = { .what = REGISTER, .page = 43, .npages = 40, .c = 1 };
	struct meanwhile unregister = { .what = UNREGISTER, .page = 3, .npages = 40, .c = 1 };
	struct meanwhile closing = { .what = CLOSE };

	make_memory(test, EIGHTS);
	/* Somebody was faster: as if this one had come after. */
	KUNIT_EXPECT_EQ(test, 0, reg_while(test, &same, 40));
	KUNIT_ASSERT_EQ(test, 0, same.ret);
	KUNIT_EXPECT_EQ(test, only_region(test)->registered, 2UL);
	expect_pins(test, 3, 40, 1);
	expect_charge(test, 40);
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 1U);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	expect_nothing(test);

	KUNIT_EXPECT_EQ(test, -EINVAL, reg_while(test, &cuts, 40));
	KUNIT_ASSERT_EQ(test, 0, cuts.ret);
	expect_pins(test, 3, 27, 0);
	expect_pins(test, 30, 40, 1);
	expect_charge(test, 40);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 30, 40));
	expect_nothing(test);

	KUNIT_EXPECT_EQ(test, 0, reg_while(test, &apart, 40));
	KUNIT_ASSERT_EQ(test, 0, apart.ret);
	expect_charge(test, 80);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 43, 40));
	expect_nothing(test);

	KUNIT_EXPECT_EQ(test, 0, reg_while(test, &unregister, 40));
	KUNIT_ASSERT_EQ(test, -ENOENT, unregister.ret);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	expect_nothing(test);

	KUNIT_EXPECT_EQ(test, -ENODEV, reg_while(test, &closing, 40));
	KUNIT_ASSERT_EQ(test, 0, closing.ret);
	expect_nothing(test);
	reopen_containers(test);
}

/* Other memory than was registered, or only a mark. */
static void change_page(struct kunit *test, unsigned int page, bool really)
{
	struct fixture *fx = test->priv;

	fake_watch_change(vaddr_of(test, page), vaddr_of(test, page));
	if (!really)
		return;
	get_page(fx->pages[page]);
	user_remap_page(test, vaddr_of(test, page), fx->pages[500], PROT_READ | PROT_WRITE);
}

static void change_back(struct kunit *test, unsigned int page)
{
	struct fixture *fx = test->priv;

	user_remap_page(test, vaddr_of(test, page), fx->pages[page], PROT_READ | PROT_WRITE);
	put_page(fx->pages[page]);
}

/*
 * The same while it looks whether memory that is registered is still the same. As long as
 * it does so it has registered nothing: others may unregister what is theirs, and then what
 * is there by now is registered.
 */
static void registering_again_keeps_nobody_waiting(struct kunit *test)
{
	struct meanwhile unregister = { .what = UNREGISTER, .page = 3, .npages = 40, .c = 1 };
	struct meanwhile all = { .what = UNREGISTER_ALL, .page = 3, .npages = 40, .c = 1 };
	struct meanwhile closing = { .what = CLOSE };
	unsigned int changed, times;

	make_memory(test, EIGHTS);
	for (changed = 0; changed < 2; changed++) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		change_page(test, 5, changed);
		KUNIT_EXPECT_EQ(test, 0, reg_while(test, &unregister, 40));
		KUNIT_EXPECT_EQ(test, 0, unregister.ret);
		KUNIT_EXPECT_EQ(test, only_region(test)->registered, 1UL);
		KUNIT_EXPECT_EQ(test, refcount_read(&only_region(test)->users), 1U);
		expect_charge(test, 40);
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 5, 1));
		must_unmap(test, 0, 0, 1);
		KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 40));
		expect_charge(test, 0);
		KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);
		if (changed)
			change_back(test, 5);

		/* They take no more than there is. */
		for (times = 0; times < 2; times++)
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		change_page(test, 5, changed);
		KUNIT_EXPECT_EQ(test, 0, reg_while(test, &all, 40));
		KUNIT_EXPECT_EQ(test, -ENOENT, all.ret);
		KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 3, 40));
		if (changed)
			change_back(test, 5);

		/* One of two: the region stays. */
		for (times = 0; times < 2; times++)
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		change_page(test, 5, changed);
		KUNIT_EXPECT_EQ(test, changed ? -ESTALE : 0, reg_while(test, &unregister, 40));
		KUNIT_EXPECT_EQ(test, 0, unregister.ret);
		KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_EXPECT_EQ(test, changed ? -ENOENT : 0, unreg(test, 0, 3, 40));
		if (changed)
			change_back(test, 5);
		expect_nothing(test);
	}

	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
	change_page(test, 5, false);
	KUNIT_EXPECT_EQ(test, -ENODEV, reg_while(test, &closing, 40));
	KUNIT_ASSERT_EQ(test, 0, closing.ret);
	expect_nothing(test);
	reopen_containers(test);
}

/* Two that look at the same marked memory at once: its mark goes once. */
static void mark_goes_once(struct kunit *test)
{
	struct meanwhile whole = { .what = MAP, .page = 3, .npages = 40, .c = 1 };
	struct meanwhile part = { .what = MAP, .page = 4, .npages = 3, .c = 1 };
	struct meanwhile *const others[] = { &whole, &part };
	unsigned int i;

	make_memory(test, EIGHTS);
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		change_page(test, 5, false);
		KUNIT_EXPECT_EQ(test, 0, reg_while(test, others[i], 40));
		KUNIT_ASSERT_EQ(test, 0, others[i]->ret);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		/* The next change is seen. */
		change_page(test, 5, true);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
		KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 5, 1));
		change_back(test, 5);
		must_unmap(test, 1, 0, others[i]->npages);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
		expect_nothing(test);
	}
}

/* Who looks at a region is no mapping of it; and what is mapped stays registered. */
static void registering_again_is_no_mapping(struct kunit *test)
{
	struct meanwhile unregister = { .what = UNREGISTER, .page = 3, .npages = 40, .c = 1 };
	struct meanwhile count = { .what = COUNT_MAPPINGS };
	unsigned int changed;

	make_memory(test, EIGHTS);
	for (changed = 0; changed < 2; changed++) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 10, 1));
		change_page(test, 5, changed);
		KUNIT_EXPECT_EQ(test, changed ? -ESTALE : 0, reg_while(test, &count, 40));
		KUNIT_EXPECT_EQ(test, 1, count.ret);
		KUNIT_EXPECT_EQ(test, changed ? -EBUSY : 0, unreg(test, 0, 3, 40));

		change_page(test, 6, false);
		KUNIT_EXPECT_EQ(test, changed ? -ESTALE : 0, reg_while(test, &unregister, 40));
		KUNIT_EXPECT_EQ(test, -EBUSY, unregister.ret);
		KUNIT_EXPECT_EQ(test, only_region(test)->registered, changed ? 1UL : 2UL);
		expect_charge(test, 40);
		must_unmap(test, 0, 0, 1);
		KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 40));
		KUNIT_EXPECT_EQ(test, changed ? -ENOENT : 0, unreg(test, 0, 3, 40));
		if (changed)
			change_back(test, 5);
		expect_nothing(test);
	}
}

/* All pairs of small regions. */
static void regions_do_not_overlap(struct kunit *test)
{
	unsigned int a, na, b, nb;

	make_memory(test, SINGLES);
	for (a = 0; a < 5; a++) {
		for (na = 1; a + na <= 5; na++) {
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, a, na, false));
			for (b = 0; b < 5; b++) {
				for (nb = 1; b + nb <= 5; nb++) {
					bool same = a == b && na == nb;
					bool apart = b >= a + na || a >= b + nb;

					KUNIT_ASSERT_EQ_MSG(test, same || apart ? 0 : -EINVAL,
							    reg(test, 1, b, nb, false),
							    "%u+%u %u+%u", a, na, b, nb);
					KUNIT_ASSERT_EQ(test, same || apart ? 0 : -ENOENT,
							unreg(test, 1, b, nb));
				}
			}
			/* The same range, but for other access. */
			KUNIT_ASSERT_EQ(test, -EINVAL, reg(test, 0, a, na, true));
			KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, a, na));
		}
	}
	expect_nothing(test);
}

static void wrong_values_are_refused(struct kunit *test)
{
	static const struct { u64 vaddr, size; int error; } wrong[] = {
		{ PAGE_SIZE, 0, -EINVAL },
		{ PAGE_SIZE + 1, PAGE_SIZE, -EINVAL },
		{ PAGE_SIZE, PAGE_SIZE + 1, -EINVAL },
		{ 0, 0, -EINVAL },
		{ U64_MAX - PAGE_SIZE + 1, 2 * PAGE_SIZE, -EOVERFLOW },
		{ 2 * PAGE_SIZE, U64_MAX - PAGE_SIZE + 1, -EOVERFLOW },
		/* Not user memory. */
		{ PAGE_SIZE, U64_MAX - 2 * PAGE_SIZE + 1, -EFAULT },
		{ U64_MAX - PAGE_SIZE + 1, PAGE_SIZE, -EFAULT },
	};
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		KUNIT_EXPECT_EQ_MSG(test, wrong[i].error,
				    vfio_registry_register(fx->container[0], wrong[i].vaddr,
							   wrong[i].size, false), "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, -ENOENT,
				    vfio_registry_unregister(fx->container[0], wrong[i].vaddr,
							     wrong[i].size), "%u", i);
	}
	make_memory(test, SEQUENTIAL);
	expect_nothing(test);
}

/* A region of any size may be asked for, but that alone costs nothing. */
static void more_than_there_is_costs_no_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int ret;

	make_memory(test, SEQUENTIAL);
	fault_all();
	ret = vfio_registry_register(fx->container[0], SZ_4K, SZ_128M, false);
	fault_end();
	KUNIT_EXPECT_EQ(test, -EFAULT, ret);
	expect_nothing(test);
}

/* As many regions as the container that is asked may have mappings; then pages are let go. */
static void number_of_regions_is_limited(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	close_container(test, 1);
	vfio_type1_params.dma_entry_limit = ENTRIES + 1;
	fx->container[1] = open_container(test, false);
	attach(test, 1, 1, &vtd);
	make_memory(test, EIGHTS);
	for (i = 0; i < ENTRIES; i++)
		KUNIT_ASSERT_EQ(test, 0, reg(test, i % 2, i, 1, false));
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, -ENOSPC, reg(test, 0, 500, 10, false));
		KUNIT_EXPECT_EQ(test, fake_watch_count(), (unsigned int)ENTRIES);
		expect_pins(test, 500, 10, 0);
		expect_charge(test, ENTRIES);
	}
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_ENTRIES]),
			2L);
	/* What is there already is no more. */
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 3, 1, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 1));
	/* The other one may have one more. */
	KUNIT_EXPECT_EQ(test, 0, reg(test, 1, 500, 10, false));
	KUNIT_EXPECT_EQ(test, -ENOSPC, reg(test, 1, 600, 10, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 3, 1));
	KUNIT_EXPECT_EQ(test, -ENOSPC, reg(test, 0, 600, 10, false));
	KUNIT_EXPECT_EQ(test, 0, reg(test, 1, 600, 10, false));
	expect_charge(test, ENTRIES - 1 + 20);
	close_container(test, 1);
	close_container(test, 0);
	expect_nothing(test);
}

/* Memory that is missing anywhere. */
static void hole_leaves_nothing(struct kunit *test)
{
	static const unsigned int hole_at[] = { 0, 1, 511, 512, 600, NPAGES - 1 };
	struct fixture *fx = test->priv;
	unsigned int i, layout;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (i = 0; i < ARRAY_SIZE(hole_at); i++) {
			make_memory(test, layout);
			user_unmap(vaddr_of(test, hole_at[i]), 1);
			get_page(fx->pages[hole_at[i]]);
			KUNIT_EXPECT_EQ(test, -EFAULT, reg(test, 0, 0, NPAGES, false));
			expect_nothing(test);
			put_page(fx->pages[hole_at[i]]);
			drop_memory(fx);
		}
	}
}

/* Whichever allocation fails, nothing is left. */
static void failed_allocation_leaves_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, nth, failed;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		bool came = true;

		make_memory(test, layout);
		for (nth = 1, failed = 0; came; nth++) {
			int ret;

			fault_nth(nth);
			ret = reg(test, 0, 5, NPAGES - 5, false);
			came = fault_end();
			if (ret) {
				KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
				KUNIT_ASSERT_TRUE(test, came);
				failed++;
			} else {
				KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 5, NPAGES - 5));
			}
			expect_nothing(test);
		}
		/* The region, and tables. */
		KUNIT_EXPECT_GE(test, failed, layout == SEQUENTIAL ? 1U : 2U);
		fake_watch_fail();
		KUNIT_EXPECT_EQ(test, -ENOMEM, reg(test, 0, 0, 4, false));
		expect_nothing(test);
		drop_memory(fx);
	}
}

/* Registering and unregistering take no page for another. */
static void memlock_limit_is_exact(struct kunit *test)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct cred *unprivileged = prepare_creds();
	struct fixture *fx = test->priv;
	const struct cred *old;
	int ret[3], again, i;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	make_memory(test, EIGHTS);
	old = override_creds(unprivileged);
	for (i = 0; i < 3; i++) {
		limit->rlim_cur = (fx->locked_vm + 99 + i) << PAGE_SHIFT;
		ret[i] = reg(test, 0, 0, 100, false);
		again = ret[i] ?: reg(test, 0, 0, 100, false);
		if (!again)
			unreg(test, 0, 0, 100);
		/* Mapping it needs nothing. */
		if (!ret[i])
			ret[i] = map(test, 0, 0, 0, 100) ?: map(test, 1, 0, 0, 100);
		if (!ret[i]) {
			must_unmap(test, 0, 0, 100);
			must_unmap(test, 1, 0, 100);
			ret[i] = unreg(test, 0, 0, 100);
		}
	}
	*limit = old_limit;
	revert_creds(old);
	put_cred(unprivileged);
	KUNIT_EXPECT_EQ(test, ret[0], -ENOMEM);
	KUNIT_EXPECT_EQ(test, ret[1], 0);
	KUNIT_EXPECT_EQ(test, ret[2], 0);
	expect_nothing(test);
}

/*
 * Register the first pages without CAP_IPC_LOCK, where @limit_pages more may be locked, and
 * with no kernel memory left, if @starved.
 */
static int reg_within(struct kunit *test, unsigned int limit_pages, unsigned int npages,
		      bool read_only, bool starved)
{
	struct rlimit *limit = &current->signal->rlim[RLIMIT_MEMLOCK], old_limit = *limit;
	struct cred *unprivileged = prepare_creds();
	const struct cred *old;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, unprivileged);
	cap_lower(unprivileged->cap_effective, CAP_IPC_LOCK);
	limit->rlim_cur = (user_locked_vm() + limit_pages) << PAGE_SHIFT;
	old = override_creds(unprivileged);
	if (starved)
		fault_all();
	ret = reg(test, 0, 0, npages, read_only);
	fault_end();
	revert_creds(old);
	put_cred(unprivileged);
	*limit = old_limit;
	return ret;
}

/*
 * What a range costs before its memory is looked at goes by its size, so it is the limit
 * that has to bound it.
 */
static void memlock_limit_comes_before_memory(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int read_only;
	int ret;

	make_memory(test, EIGHTS);
	for (read_only = 0; read_only < 2; read_only++) {
		long refused = atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_MEMLOCK]);

		KUNIT_EXPECT_EQ(test, -ENOMEM, reg_within(test, 99, 100, read_only, true));
		KUNIT_EXPECT_EQ(test, refused + 1,
				atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_MEMLOCK]));
		KUNIT_EXPECT_EQ(test, 0, reg_within(test, 100, 100, read_only, false));
		expect_charge(test, 100);
		KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 100));
	}
	/* Who may lock memory has no limit. */
	fault_all();
	ret = reg(test, 0, 0, 100, false);
	fault_end();
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	KUNIT_EXPECT_EQ(test, 2L,
			atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_MEMLOCK]));
	expect_nothing(test);
}

/* ---- mapping ---- */

/* From the region's frames, whatever they are; without a pin or a charge. */
static void mapping_takes_the_regions_frames(struct kunit *test)
{
	static const struct { unsigned int page, npages; u64 iova; } part[] = {
		{ 10, 1, 0 }, { 10, 2, PAGE_SIZE }, { 11, 16, SZ_2M - PAGE_SIZE },
		{ 500, 33, SZ_1G - 8 * PAGE_SIZE }, { 10, NPAGES - 10, SZ_2M },
		{ 512, 512, SZ_4G }, { NPAGES - 1, 1, 0 },
	};
	struct fixture *fx = test->priv;
	unsigned int layout, i, huge;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 10, NPAGES - 10, false));
		for (i = 0; i < ARRAY_SIZE(part); i++) {
			for (huge = 0; huge < 2; huge++) {
				vfio_type1_params.disable_hugepages = !huge;
				KUNIT_ASSERT_EQ(test, 0, map(test, 1, part[i].iova, part[i].page,
							     part[i].npages));
				vfio_type1_params.disable_hugepages = false;
				expect_mapped(test, 1, part[i].iova, part[i].page, part[i].npages,
					      RW);
				expect_pins(test, 0, 10, 0);
				expect_pins(test, 10, NPAGES - 10, 1);
				expect_charge(test, NPAGES - 10);
				must_unmap(test, 1, part[i].iova, part[i].npages);
				mock_iommu_expect_empty(test, mock(1));
				expect_pins(test, 10, NPAGES - 10, 1);
				expect_charge(test, NPAGES - 10);
			}
		}
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 10, NPAGES - 10));
		expect_nothing(test);
		drop_memory(fx);
	}
}

/* As many containers as there are: one pin, one charge. */
static void containers_share_pins_and_charge(struct kunit *test)
{
	make_memory(test, RANDOM);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, SZ_1G, 0, NPAGES));
	KUNIT_ASSERT_EQ(test, 0, map(test, 1, 0, 0, NPAGES));
	expect_pins(test, 0, NPAGES, 1);
	expect_charge(test, NPAGES);
	expect_mapped(test, 0, SZ_1G, 0, NPAGES, RW);
	expect_mapped(test, 1, 0, 0, NPAGES, RW);
	must_unmap(test, 0, SZ_1G, NPAGES);
	must_unmap(test, 0, 0, NPAGES);
	must_unmap(test, 1, 0, NPAGES);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 1, 0, NPAGES));
	expect_nothing(test);
}

/* What lies partly outside of a region, or in two, is pinned as ever. */
static void memory_partly_inside_is_pinned(struct kunit *test)
{
	static const struct { unsigned int page, npages; } part[] = {
		{ 9, 1 }, { 9, 2 }, { 19, 2 }, { 9, 12 }, { 20, 1 }, { 15, 10 }, { 29, 5 },
	};
	unsigned int i;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 10, 10, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 20, 10, true));
	for (i = 0; i < ARRAY_SIZE(part); i++) {
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, part[i].page, part[i].npages));
		KUNIT_EXPECT_NULL(test, mapping(test, 0, 0)->region);
		expect_charge(test, 20 + part[i].npages);
		expect_mapped(test, 0, 0, part[i].page, part[i].npages, RW);
		must_unmap(test, 0, 0, part[i].npages);
		expect_charge(test, 20);
	}
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 10, 10));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 20, 10));
	expect_nothing(test);
}

static void read_only_regions_are_not_written(struct kunit *test)
{
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, true));
	KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, 0, 0, 20, IOMMU_READ));
	KUNIT_EXPECT_NOT_NULL(test, mapping(test, 0, 0)->region);
	expect_mapped(test, 0, 0, 0, 20, IOMMU_READ);
	expect_charge(test, 20);
	KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, SZ_1G, 0, 20, IOMMU_WRITE));
	KUNIT_EXPECT_NULL(test, mapping(test, 0, SZ_1G)->region);
	expect_charge(test, 40);
	must_unmap(test, 0, 0, 20);
	must_unmap(test, 0, SZ_1G, 20);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
	/* Memory that the process may only read can be registered so, and not otherwise. */
	drop_memory(test->priv);
	((struct fixture *)test->priv)->vaddr =
		user_map_pages(test, ((struct fixture *)test->priv)->pages, NPAGES, PROT_READ);
	((struct fixture *)test->priv)->mapped = true;
	KUNIT_EXPECT_EQ(test, -EFAULT, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 0, 20, true));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

/*
 * Nobody can pin it, so nobody could promise that it stays. It is mapped the ordinary
 * way, but not where only registered memory is.
 */
static void mmio_is_not_registered(struct kunit *test)
{
	static const unsigned int at[] = { 0, 20, 500, NPAGES - 24 };
	struct fixture *fx = test->priv;
	unsigned int i, page, end;

	close_container(test, 1);
	fx->container[1] = open_container(test, true);
	attach(test, 1, 1, &vtd);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		make_memory(test, SEQUENTIAL);
		end = at[i] + 24;
		user_map_pfns(test, vaddr_of(test, at[i]), MMIO_PFN, 24);
		KUNIT_ASSERT_EQ(test, -EFAULT, reg(test, 0, 0, NPAGES, false));
		KUNIT_ASSERT_EQ(test, -EFAULT, reg(test, 0, 0, NPAGES, true));
		KUNIT_ASSERT_EQ(test, -EFAULT, reg(test, 0, at[i], 24, false));
		KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_PIN]),
				3L * (i + 1));
		expect_charge(test, 0);
		expect_pins(test, 0, at[i], 0);
		expect_pins(test, end, NPAGES - end, 0);
		KUNIT_EXPECT_EQ(test, fake_watch_count(), 0U);

		if (at[i])
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, at[i], false));
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, at[i], 24));
		KUNIT_ASSERT_EQ(test, -EPERM, map(test, 1, 0, at[i], 24));
		expect_charge(test, at[i]);
		for (page = 0; page < 24; page++)
			KUNIT_ASSERT_EQ(test, iommu_iova_to_phys(&mock(0)->domain,
								 page * PAGE_SIZE),
					PFN_PHYS(MMIO_PFN + page));
		must_unmap(test, 0, 0, 24);
		if (at[i])
			KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, at[i]));
		expect_charge(test, 0);
		drop_memory(fx);
	}
}

/* Nothing is left of a mapping, in whichever call the IOMMU fails. */
static void failed_map_call_leaves_the_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout, nth, calls;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 200, false));
		calls = mock(0)->nr_map;
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 200));
		calls = mock(0)->nr_map - calls;
		must_unmap(test, 0, 0, 200);
		for (nth = 1; nth <= calls; nth++) {
			mock(0)->fail_map = nth;
			KUNIT_ASSERT_EQ(test, -ENOMEM, map(test, 0, 0, 0, 200));
			KUNIT_ASSERT_EQ(test, mock(0)->fail_map, 0U);
			mock_iommu_expect_empty(test, mock(0));
			KUNIT_ASSERT_EQ(test, refcount_read(&only_region(test)->users), 1U);
		}
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 200));
		expect_nothing(test);
		drop_memory(fx);
	}
}

/* Whichever allocation of MAP fails, the use of the region goes with the mapping. */
static void failed_map_allocation_leaves_the_region(struct kunit *test)
{
	bool came = true;
	unsigned int nth;

	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 200, false));
	for (nth = 1; came; nth++) {
		int ret;

		fault_nth(nth);
		ret = map(test, 0, 0, 0, 200);
		came = fault_end();
		if (!ret)
			must_unmap(test, 0, 0, 200);
		else
			KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
		mock_iommu_expect_empty(test, mock(0));
		KUNIT_ASSERT_EQ(test, refcount_read(&only_region(test)->users), 1U);
	}
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 200));
	expect_nothing(test);
}

/* What an IOMMU does not give back stays pinned, with all that was registered with it. */
static void what_an_iommu_keeps_stays_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 64, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 64));
	mock(0)->stuck = 8 * PAGE_SIZE;
	must_unmap(test, 0, 0, 64);
	mock(0)->stuck = MOCK_NOT_STUCK;
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 64));
	expect_pins(test, 0, 64, 1);
	expect_charge(test, 0);
	for (i = 0; i < 64; i++) {
		unpin_user_page(fx->pages[i]);
		if (mock_iommu_prot(mock(0), i * PAGE_SIZE) >= 0)
			mock_iommu_lose(mock(0), i * PAGE_SIZE);
	}
	expect_nothing(test);
}

/* Nor does what it failed to map, and kept. */
static void what_a_failed_map_keeps_stays_pinned(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 64, false));
	/* Of eight runs, the second one: half of it is there then, and is said not to be. */
	mock(0)->fail_map = 2;
	mock(0)->stuck = 8 * PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, -ENOMEM, map(test, 0, 0, 0, 64));
	mock(0)->stuck = MOCK_NOT_STUCK;
	KUNIT_EXPECT_GE(test, mock_iommu_prot(mock(0), 8 * PAGE_SIZE), 0);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 64));
	expect_pins(test, 0, 64, 1);
	for (i = 0; i < 64; i++) {
		unpin_user_page(fx->pages[i]);
		if (mock_iommu_prot(mock(0), i * PAGE_SIZE) >= 0)
			mock_iommu_lose(mock(0), i * PAGE_SIZE);
	}
	expect_nothing(test);
}

static void strict_containers_map_registered_memory_only(struct kunit *test)
{
	struct fixture *fx = test->priv;

	close_container(test, 1);
	fx->container[1] = open_container(test, true);
	attach(test, 1, 1, &vtd);
	make_memory(test, EIGHTS);
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 0, 1));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 10, 10, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 20, 10, true));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 0, 1));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 9, 2));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 19, 2));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 20, 1));
	KUNIT_EXPECT_EQ(test, 0, map_prot(test, 1, 0, 20, 1, IOMMU_READ));
	KUNIT_EXPECT_EQ(test, 0, map(test, 1, SZ_1G, 10, 10));
	expect_charge(test, 20);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[1]->refused[VFIO_REFUSE_REGISTRY]),
			5L);
	must_unmap(test, 1, 0, 1);
	must_unmap(test, 1, SZ_1G, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 10, 10));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 20, 10));
	expect_nothing(test);
}

/* ---- the end ---- */

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
	expect_pins(test, 0, 20, 1);
	must_unmap(test, 1, SZ_1G, 20);
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
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
		expect_pins(test, 0, 20, 1);
		expect_pins(test, 100, 20, 1);
		expect_charge(test, 40);
		KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, !first, 0, 20) ?:
				unreg(test, !first, 0, 20));
		close_container(test, !first);
		expect_nothing(test);
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
	expect_pins(test, 0, 20, 1);
	mutex_unlock(&region->mapped_lock);
	wait_for_completion(&closing.done);
	queue_flush();
	vfio_region_put(region);
	expect_nothing(test);
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
	expect_pins(test, 0, 5, 0);
	expect_pins(test, 5, 10, 1);
	expect_pins(test, 15, 25, 0);
	expect_charge(test, 10);
	expect_mapped(test, 1, SZ_1G, 5, 10, RW);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 0, 20));
	must_unmap(test, 1, SZ_1G, 10);
	expect_nothing(test);
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
		expect_pins(test, page, 1, covered);
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
		expect_nothing(test);
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
	expect_mapped(test, 2, 0, 700, 200, RW);
	expect_mapped(test, 2, SZ_1G, 5, 2, RW);
	detach(test, 0, 2);
	/* A first one again, after some time with none. */
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container[0], fx->emulated));
	detach(test, 0, 0);
	expect_charge(test, 202);
	vfio_external_register(fx->container[0], &fx->device);
	KUNIT_ASSERT_EQ(test, 1, vfio_external_pin(fx->container[0], fx->emulated, 0, 1, RW,
						   &page));
	KUNIT_EXPECT_PTR_EQ(test, page, fx->pages[700]);
	attach(test, 0, 0, &vtd);
	expect_mapped(test, 0, 0, 700, 200, RW);
	expect_pins(test, 0, 5, 0);
	expect_pins(test, 5, 2, 1);
	expect_pins(test, 7, 693, 0);
	expect_pins(test, 700, 200, 1);
	expect_pins(test, 900, NPAGES - 900, 0);
	expect_charge(test, 202);
	/* The device is told, and unpins. */
	must_unmap(test, 0, 0, 200);
	expect_pins(test, 700, 200, 0);
	expect_charge(test, 2);
	vfio_external_unregister(fx->container[0], &fx->device);
	vfio_container_detach(fx->container[0], fx->emulated);

	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_invalidate(fx->container[0], 0, 0, true, &bytes));
	KUNIT_ASSERT_EQ(test, 0, vfio_map_dma(fx->container[0], SZ_1G, vaddr_of(test, 500),
					      2 * PAGE_SIZE, 0, true));
	expect_charge(test, 2);
	must_unmap(test, 0, SZ_1G, 2);
	expect_nothing(test);
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
		expect_pins(test, 0, first, 0);
		expect_pins(test, first, npages, 1);
		expect_pins(test, first + npages, 64 - first - npages, 0);
		expect_charge(test, 0);
		for (i = first; i < first + npages; i++)
			unpin_user_page(fx->pages[i]);
		mock_iommu_lose(mock(0), 7 * PAGE_SIZE);
		expect_nothing(test);
		close_container(test, 0);
		close_container(test, 1);
		reopen_containers(test);
	}
}

/* For a region it makes no difference that a MAP is under way when the process ends. */
static void a_map_outlives_the_process(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct meanwhile dies = { .test = test, .what = DIE };
	unsigned int changed;

	make_memory(test, EIGHTS);
	for (changed = 0; changed < 2; changed++) {
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 40, false));
		dies.registry = fx->container[0]->registry;
		change_page(test, 5, changed);
		fake_watch_wait(do_meanwhile, &dies);
		KUNIT_EXPECT_EQ(test, changed ? -ESTALE : 0, map(test, 0, 0, 4, 3));
		KUNIT_EXPECT_EQ(test, 0, dies.ret);
		expect_pins(test, 0, 4, 0);
		expect_pins(test, 4, 3, !changed);
		expect_pins(test, 7, 33, 0);
		expect_charge(test, changed ? 0 : 3);
		if (changed)
			change_back(test, 5);
		else
			must_unmap(test, 0, 0, 3);
		expect_nothing(test);
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
	expect_nothing(test);
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

/* ---- whose it is ---- */

/* Make all that is registered another process's, which lives. */
static struct mm_struct *give_away(struct kunit *test)
{
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;

	mmdrop(fx->container[0]->registry->mm);
	fx->container[0]->registry->mm = other;
	return other;
}

static void expect_count(struct kunit *test, unsigned int c, u32 regions, unsigned int npages)
{
	struct fixture *fx = test->priv;
	u32 nr = U32_MAX;
	u64 size = 1;

	vfio_registry_count(fx->container[c], &nr, &size);
	KUNIT_EXPECT_EQ(test, nr, regions);
	KUNIT_EXPECT_EQ(test, size, (u64)npages * PAGE_SIZE);
}

/* As long as it lives, and has something registered, its containers are its own. */
static void memory_of_others_is_not_used(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_registry *others = fx->container[0]->registry;
	struct mm_struct *other;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 30, 10, true));
	expect_count(test, 0, 2, 30);
	other = give_away(test);
	expect_count(test, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, -EPERM, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, -EPERM, reg(test, 0, 50, 20, false));
	KUNIT_EXPECT_EQ(test, -EPERM, unreg(test, 1, 0, 20));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 20));
	KUNIT_EXPECT_NULL(test, mapping(test, 0, 0)->region);
	expect_charge(test, 50);
	must_unmap(test, 0, 0, 20);

	/* When it is gone they are the next one's, one by one. */
	atomic_set(&other->mm_users, 0);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 50, 20, false));
	KUNIT_EXPECT_PTR_NE(test, fx->container[0]->registry, others);
	KUNIT_EXPECT_PTR_EQ(test, fx->container[1]->registry, others);
	expect_count(test, 0, 1, 20);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 0, 20));
	expect_pins(test, 0, 20, 1);
	expect_pins(test, 30, 10, 1);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 50, 20, false));
	KUNIT_EXPECT_PTR_EQ(test, fx->container[0]->registry, fx->container[1]->registry);
	/* With its last container, what it had registered is gone. */
	expect_pins(test, 0, 40, 0);
	expect_charge(test, 20);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 50, 20));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 50, 20));
	expect_nothing(test);
}

/* Who has nothing registered does not keep a container; nor does a failure lose it. */
static void container_without_registrations_is_free(struct kunit *test)
{
	struct fixture *fx = test->priv;
	int ret;

	make_memory(test, EIGHTS);
	give_away(test);
	fault_nth(1);
	ret = reg(test, 0, 0, 20, false);
	KUNIT_ASSERT_TRUE(test, fault_end());
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	/* It is nobody's: all are pinned as ever. */
	KUNIT_EXPECT_NULL(test, fx->container[0]->registry);
	expect_count(test, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 0, 20));
	must_unmap(test, 0, 0, 20);
	KUNIT_EXPECT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

/* Nor does who asks for what is not there get it. */
static void unregistering_takes_no_container(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_registry *others = fx->container[0]->registry;
	int ret;

	make_memory(test, EIGHTS);
	give_away(test);
	fault_all();
	ret = unreg(test, 0, 0, 20);
	fault_end();
	KUNIT_EXPECT_EQ(test, -ENOENT, ret);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 1, 0, 20));
	KUNIT_EXPECT_PTR_EQ(test, fx->container[0]->registry, others);
	KUNIT_EXPECT_PTR_EQ(test, fx->container[1]->registry, others);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_REGISTRY]),
			1L);
	/* Also if it is nobody's. */
	down_write(&fx->container[0]->lock);
	vfio_registry_leave(fx->container[0]);
	up_write(&fx->container[0]->lock);
	KUNIT_EXPECT_EQ(test, -ENOENT, unreg(test, 0, 0, 20));
	KUNIT_EXPECT_NULL(test, fx->container[0]->registry);
}

static void strict_containers_of_others_map_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;

	make_memory(test, EIGHTS);
	close_container(test, 1);
	fx->container[1] = open_container(test, true);
	attach(test, 1, 1, &vtd);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	give_away(test);
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 0, 20));
	KUNIT_EXPECT_EQ(test, -EPERM, map(test, 1, 0, 50, 20));
	expect_charge(test, 20);
}

static void kernel_threads_register_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned long vaddr;
	int ret[2];

	make_memory(test, EIGHTS);
	vaddr = fx->vaddr;
	user_mem_return();
	ret[0] = vfio_registry_register(fx->container[0], vaddr, PAGE_SIZE, false);
	ret[1] = vfio_registry_unregister(fx->container[0], vaddr, PAGE_SIZE);
	user_mem_borrow();
	KUNIT_EXPECT_EQ(test, -ENODEV, ret[0]);
	KUNIT_EXPECT_EQ(test, -ENODEV, ret[1]);
	expect_nothing(test);
}

/* A call that is under way as the container is closed. */
static void closed_containers_register_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *closed = fx->container[0];

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	kref_get(&closed->users);
	close_container(test, 0);
	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_registry_register(closed, fx->vaddr, PAGE_SIZE, false));
	KUNIT_EXPECT_EQ(test, -ENODEV, vfio_registry_unregister(closed, fx->vaddr,
								20 * PAGE_SIZE));
	vfio_container_put(closed);
	expect_charge(test, 20);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 1, 0, 20));
	expect_charge(test, 0);
}

static int register_first_pages(void *data)
{
	struct kunit *test = data;

	return reg(test, 0, 0, 20, false);
}

static int map_first_pages(void *data)
{
	struct kunit *test = data;

	return map(test, 0, 0, 0, 20);
}

/* Wherever it is: at the lock, at the first page, at the look whether it is the same. */
static void killed_callers_leave_nothing(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_registry *registry = fx->container[0]->registry;
	int ret;

	make_memory(test, EIGHTS);
	mutex_lock(&registry->mutex);
	ret = user_call_killed(test, register_first_pages, test);
	mutex_unlock(&registry->mutex);
	KUNIT_EXPECT_EQ(test, -EINTR, ret);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, register_first_pages, test));
	expect_nothing(test);

	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	fake_watch_change(fx->vaddr, fx->vaddr);
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, register_first_pages, test));
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, map_first_pages, test));
	KUNIT_EXPECT_EQ(test, only_region(test)->registered, 1UL);
	KUNIT_EXPECT_EQ(test, refcount_read(&only_region(test)->users), 1U);
	KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

/* What a signal keeps from being watched is registered once the signal was handled. */
static void signals_put_registering_off(struct kunit *test)
{
	make_memory(test, EIGHTS);
	fake_watch_interrupt();
	KUNIT_EXPECT_EQ(test, -ERESTARTNOINTR, reg(test, 0, 0, 20, false));
	expect_nothing(test);
	fake_watch_interrupt();
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, register_first_pages, test));
	expect_nothing(test);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

static int map_all_pages(void *data)
{
	struct kunit *test = data;

	return map(test, 0, 0, 0, NPAGES);
}

/* A killed caller's MAP of much registered memory ends, without a look at the memory. */
static void killed_map_of_a_region_leaves_nothing(struct kunit *test)
{
	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
	fake_watch_looks();
	KUNIT_EXPECT_EQ(test, -EINTR, user_call_killed(test, map_all_pages, test));
	KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
	KUNIT_EXPECT_EQ(test, refcount_read(&only_region(test)->users), 1U);
	expect_pins(test, 0, NPAGES, 1);
	expect_charge(test, NPAGES);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
	expect_nothing(test);
}

static void regions_are_listed_in_order(struct kunit *test)
{
	static const unsigned int first[] = { 30, 0, 600, 20 };
	static const unsigned int sorted[] = { 0, 20, 30, 600 };
	struct fixture *fx = test->priv;
	struct vfio_region_view view = {};
	unsigned int i;

	make_memory(test, EIGHTS);
	for (i = 0; i < ARRAY_SIZE(first); i++)
		KUNIT_ASSERT_EQ(test, 0, reg(test, i % 2, first[i], 10, i % 2));
	for (i = 0; i < ARRAY_SIZE(sorted); i++) {
		KUNIT_ASSERT_TRUE(test, vfio_registry_look(fx->container[1],
							   view.vaddr + PFN_PHYS(view.npages),
							   &view));
		KUNIT_EXPECT_EQ(test, view.vaddr, vaddr_of(test, sorted[i]));
		KUNIT_EXPECT_EQ(test, view.npages, 10UL);
	}
	KUNIT_EXPECT_FALSE(test, vfio_registry_look(fx->container[1],
						    view.vaddr + PFN_PHYS(view.npages), &view));
	/* Who comes to the middle of one has not seen its beginning, and goes on after it. */
	KUNIT_ASSERT_TRUE(test, vfio_registry_look(fx->container[1], vaddr_of(test, 25), &view));
	KUNIT_EXPECT_EQ(test, view.vaddr, vaddr_of(test, 30));
	KUNIT_EXPECT_FALSE(test, vfio_registry_look(fx->container[1], vaddr_of(test, 601),
						    &view));
}

/* ---- what debugfs shows ---- */

/**
 * struct reading - a file of a container in debugfs, opened
 * @mnt: debugfs
 * @mounts: references to @mnt
 * @file: the file
 * @to: user memory, a page
 */
struct reading {
	struct vfsmount *mnt;
	int mounts;
	struct file *file;
	char __user *to;
};

static void reading_open(struct kunit *test, struct reading *r, unsigned int c, const char *name)
{
	struct fixture *fx = test->priv;
	struct path path;

	KUNIT_ASSERT_EQ(test, 0, simple_pin_fs(get_fs_type("debugfs"), &r->mnt, &r->mounts));
	path.mnt = r->mnt;
	path.dentry = debugfs_lookup(name, fx->container[c]->debugfs);
	KUNIT_ASSERT_FALSE(test, IS_ERR_OR_NULL(path.dentry));
	r->file = dentry_open(&path, O_RDONLY, current_cred());
	dput(path.dentry);
	KUNIT_ASSERT_FALSE(test, IS_ERR(r->file));
	r->to = (char __user *)fx->vaddr;
}

static void reading_close(struct reading *r)
{
	fput(r->file);
	flush_delayed_fput();
	simple_release_fs(&r->mnt, &r->mounts);
}

/* Have container 1 in debugfs, with a region and a mapping of it. */
static void readable_container(struct kunit *test)
{
	struct fixture *fx = test->priv;

	close_container(test, 1);
	vfio_debugfs_init();
	fx->container[1] = open_container(test, false);
	attach(test, 1, 1, &vtd);
	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 1, 500, 10, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 1, 0, 500, 10));
}

static int reading_read(void *data)
{
	struct reading *r = data;
	loff_t pos = 0;

	return r->file->f_op->read(r->file, r->to, PAGE_SIZE, &pos);
}

/* Whoever holds the lock, for however long. */
static void killed_readers_wait_for_no_lock(struct kunit *test)
{
	static const char *const names[] = { "domains", "iova", "mappings", "regions" };
	struct fixture *fx = test->priv;
	struct reading r = {};
	unsigned int i;
	int ret;

	readable_container(test);
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		reading_open(test, &r, 1, names[i]);
		down_write(&fx->container[1]->lock);
		ret = user_call_killed(test, reading_read, &r);
		up_write(&fx->container[1]->lock);
		KUNIT_EXPECT_EQ_MSG(test, -EINTR, ret, "%s", names[i]);
		KUNIT_EXPECT_GT_MSG(test, reading_read(&r), 0, "%s", names[i]);
		reading_close(&r);
	}
	close_container(test, 1);
	vfio_debugfs_exit();
}

static void expect_busy(struct kunit *test, const char *name)
{
	char line[8] = {};
	struct reading r = {};
	u64 begun = ktime_get_ns();

	reading_open(test, &r, 1, name);
	KUNIT_EXPECT_EQ_MSG(test, reading_read(&r), 5, "%s", name);
	KUNIT_EXPECT_EQ(test, copy_from_user(line, r.to, 5), 0UL);
	KUNIT_EXPECT_STREQ(test, line, "busy\n");
	KUNIT_EXPECT_LT(test, ktime_get_ns() - begun, 5 * NSEC_PER_SEC);
	reading_close(&r);
}

/* Who holds a lock for as long as he likes has no reader wait longer than a second. */
static void readers_say_that_a_container_is_busy(struct kunit *test)
{
	struct fixture *fx = test->priv;

	readable_container(test);
	down_write(&fx->container[1]->lock);
	expect_busy(test, "iova");
	expect_busy(test, "regions");
	up_write(&fx->container[1]->lock);
	mutex_lock(&fx->container[1]->debugfs_lock);
	expect_busy(test, "mappings");
	mutex_unlock(&fx->container[1]->debugfs_lock);
	close_container(test, 1);
	vfio_debugfs_exit();
}

/* ---- changes of the process's memory ---- */

/* Other memory than was registered is not mapped; the same is, and so is the rest. */
static void changed_memory_is_refused(struct kunit *test)
{
	static const unsigned int at[] = { 0, 1, 300, 511, 512, NPAGES - 2 };
	struct fixture *fx = test->priv;
	unsigned int layout, i, other = NPAGES - 1;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			unsigned long vaddr;

			make_memory(test, layout);
			vaddr = vaddr_of(test, at[i]);
			KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, other, false));
			KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, other));
			fake_watch_change(vaddr, vaddr + PAGE_SIZE - 1);
			/* The region has a reference to the page that goes. */
			get_page(fx->pages[at[i]]);
			user_remap_page(test, vaddr, fx->pages[other], PROT_READ | PROT_WRITE);
			KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 1, 0, at[i], 1));
			KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 1, 0, 0, other));
			if (at[i])
				KUNIT_EXPECT_EQ(test, 0, map(test, 1, 0, 0, at[i]));
			if (at[i] + 1 < other)
				KUNIT_EXPECT_EQ(test, 0, map(test, 1, SZ_1G, at[i] + 1,
							     other - at[i] - 1));
			/* What is mapped stays what it was. */
			expect_mapped(test, 0, 0, 0, other, RW);
			expect_charge(test, other);
			must_unmap(test, 0, 0, other);
			if (at[i])
				must_unmap(test, 1, 0, at[i]);
			if (at[i] + 1 < other)
				must_unmap(test, 1, SZ_1G, other - at[i] - 1);
			KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 1, 0, at[i], 1));
			KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, other));
			user_unmap(vaddr, 1);
			expect_nothing(test);
			put_page(fx->pages[at[i]]);
			drop_memory(fx);
		}
	}
}

/* Memory that is gone. */
static void lost_memory_is_refused(struct kunit *test)
{
	struct fixture *fx = test->priv;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
	user_unmap(vaddr_of(test, 7), 1);
	get_page(fx->pages[7]);
	KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 0, 20));
	KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 7, 1));
	KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 8, 12));
	must_unmap(test, 0, 0, 12);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
	put_page(fx->pages[7]);
}

/* Who has no memory to look with has not lost what he would look at. */
static void shortage_of_memory_is_no_change(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int at;

	for (at = 0; at < 20; at += 7) {
		make_memory(test, EIGHTS);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
		get_page(fx->pages[at]);
		user_remap_short(test, vaddr_of(test, at));
		KUNIT_EXPECT_EQ(test, -ENOMEM, map(test, 0, 0, 0, 20));
		KUNIT_EXPECT_EQ(test, -ENOMEM, map(test, 0, 0, at, 1));
		KUNIT_EXPECT_EQ(test, -ENOMEM, reg(test, 0, 0, 20, false));
		KUNIT_EXPECT_EQ(test, 0L,
				atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_REGISTRY]));
		KUNIT_EXPECT_EQ(test, only_region(test)->registered, 1UL);
		/* With memory again, it is what it was. */
		user_remap_page(test, vaddr_of(test, at), fx->pages[at], PROT_READ | PROT_WRITE);
		put_page(fx->pages[at]);
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 0, 20));
		must_unmap(test, 0, 0, 20);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		expect_nothing(test);
		drop_memory(fx);
	}
}

/* The process took access from itself: it is the same memory, for who looks. */
static void memory_of_other_access_is_the_same(struct kunit *test)
{
	static const unsigned long prot[] = { PROT_READ, PROT_NONE };
	struct fixture *fx = test->priv;
	unsigned int i, page;

	for (i = 0; i < ARRAY_SIZE(prot); i++) {
		make_memory(test, EIGHTS);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		for (page = 0; page < 20; page++)
			user_remap_page(test, vaddr_of(test, page), fx->pages[page], prot[i]);
		fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, 0, 7, 3));
		KUNIT_EXPECT_EQ(test, 0, map(test, 0, SZ_1G, 0, 20));
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		expect_mapped(test, 0, SZ_1G, 0, 20, RW);
		must_unmap(test, 0, 0, 3);
		must_unmap(test, 0, SZ_1G, 20);
		/* Other memory is not. */
		fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
		get_page(fx->pages[7]);
		user_remap_page(test, vaddr_of(test, 7), fx->pages[500], prot[i]);
		KUNIT_EXPECT_EQ(test, -ESTALE, map(test, 0, 0, 7, 3));
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		put_page(fx->pages[7]);
		drop_memory(fx);
	}
}

/* Who touched memory and put it back has cost a look, once. */
static void unchanged_memory_is_looked_at_once(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		fake_watch_looks();
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
		/* What lies outside does not matter. */
		fake_watch_change(0, fx->vaddr - 1);
		fake_watch_change(fx->vaddr + NPAGES * PAGE_SIZE, ULONG_MAX);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		fake_watch_change(0, fx->vaddr);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
		/* Nor does another slot, but for a test. */
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, VFIO_SLOT_PAGES, 1));
		must_unmap(test, 0, 0, 1);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 1U);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, fake_watch_looks(), 0U);
		expect_pins(test, 0, NPAGES, 1);

		/* A change during the look leaves the mark. */
		fake_watch_change(fx->vaddr, fx->vaddr);
		fake_watch_collide();
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		expect_nothing(test);
		drop_memory(fx);
	}
}

/* However large a region is, its marks are set a few at a time, and none is left out. */
static void large_regions_are_marked_in_pieces(struct kunit *test)
{
	const unsigned long slots = 10000, base = SZ_1G + PAGE_SIZE, end = SZ_1G + slots * SZ_2M;
	static const unsigned long skip[] = { 0, SZ_2M - PAGE_SIZE, 5 * SZ_2M + 5 };
	struct vfio_region *region;
	unsigned long vaddr, first;
	unsigned int i, holds, before;
	bool more;

	for (i = 0; i < ARRAY_SIZE(skip); i++) {
		region = kvzalloc(struct_size(region, slots, slots), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, region);
		region->vaddr = base;
		region->npages = (end - base) >> PAGE_SHIFT;
		spin_lock_init(&region->lock);
		vaddr = base + skip[i];
		first = slots - (vaddr - SZ_1G) / SZ_2M;
		for (holds = 0, more = true; more && holds < 10; holds++) {
			before = region->nr_marked;
			spin_lock(&region->lock);
			more = vfio_region_mark(region, &vaddr, i ? end : ULONG_MAX);
			spin_unlock(&region->lock);
			KUNIT_EXPECT_LE(test, region->nr_marked - before, 5000U);
			/* It goes on with the first that has none. */
			if (more)
				KUNIT_EXPECT_EQ(test, vaddr, end - (first - region->nr_marked) *
						SZ_2M);
		}
		KUNIT_EXPECT_FALSE(test, more);
		KUNIT_EXPECT_EQ(test, region->nr_marked, (unsigned int)first);
		kvfree(region);
	}
}

/* ---- with others ---- */

/* An attach copies the region's frames; the IOMMU is asked for none. */
static void attach_replays_from_the_region(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int layout;

	for (layout = 0; layout < NR_LAYOUTS; layout++) {
		make_memory(test, layout);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, NPAGES, false));
		/* As a further domain. */
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		mock(0)->nr_to_phys = 0;
		attach(test, 0, 2, &amdvi);
		KUNIT_EXPECT_EQ(test, mock(0)->nr_to_phys, 0U);
		KUNIT_ASSERT_PTR_NE(test, mock(0), mock(2));
		expect_mapped(test, 2, 0, 0, NPAGES, RW);
		must_unmap(test, 0, 0, NPAGES);
		mock_iommu_expect_empty(test, mock(2));
		detach(test, 0, 2);

		/* As the first one, which has to pin nothing. */
		detach(test, 0, 0);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, NPAGES));
		expect_charge(test, NPAGES);
		user_unmap(fx->vaddr, NPAGES);
		fx->mapped = false;
		attach(test, 0, 0, &vtd);
		expect_mapped(test, 0, 0, 0, NPAGES, RW);
		must_unmap(test, 0, 0, NPAGES);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, NPAGES));
		expect_charge(test, 0);
		mock_iommu_expect_empty(test, mock(0));
	}
}

static void change_access(void *data)
{
	struct kunit *test = data;

	fake_watch_protect(vaddr_of(test, 5), vaddr_of(test, 6) - 1);
}

/* Not known to be no hugetlb memory yet, it may be parted from the process by mprotect(). */
static void change_of_access_counts_while_registering(struct kunit *test)
{
	make_memory(test, EIGHTS);
	fake_watch_wait(change_access, test);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 1U);
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 0, 20));
	must_unmap(test, 0, 0, 20);
	KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
	/* It is not: nobody has to look. */
	change_access(test);
	KUNIT_EXPECT_EQ(test, only_region(test)->nr_marked, 0U);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

static void clean(struct kunit *test, unsigned int npages)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < npages; i++)
		ClearPageDirty(fx->pages[i]);
}

static void expect_dirty(struct kunit *test, unsigned int first, unsigned int npages, bool dirty)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = first; i < first + npages; i++)
		KUNIT_ASSERT_EQ_MSG(test, (bool)PageDirty(fx->pages[i]), dirty, "page %u", i);
}

/* The memory is a file's: whoever writes it back hears of what devices wrote at UNMAP. */
static void written_pages_are_dirty_when_unmapped(struct kunit *test)
{
	static const enum layout layouts[] = { SEQUENTIAL, SINGLES };
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		make_memory(test, layouts[i]);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
		/* Pinning for writing may say so, too. */
		clean(test, NPAGES);
		KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, 0, 4, 10, IOMMU_READ));
		must_unmap(test, 0, 0, 10);
		expect_dirty(test, 0, NPAGES, false);
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
		expect_dirty(test, 0, NPAGES, false);
		mock(0)->clean = fx->pages[4];
		must_unmap(test, 0, 0, 10);
		mock(0)->clean = NULL;
		expect_dirty(test, 4, 10, true);
		/* While another mapping is written to, and when the last group goes. */
		KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
		KUNIT_ASSERT_EQ(test, 0, map(test, 1, 0, 4, 10));
		clean(test, NPAGES);
		must_unmap(test, 0, 0, 10);
		expect_dirty(test, 4, 10, true);
		clean(test, NPAGES);
		detach(test, 1, 1);
		expect_dirty(test, 4, 10, true);
		attach(test, 1, 1, &vtd);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		/* Registered for reading, none can be written to. */
		clean(test, NPAGES);
		KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, true));
		KUNIT_ASSERT_EQ(test, 0, map_prot(test, 0, 0, 4, 10, IOMMU_READ));
		must_unmap(test, 0, 0, 10);
		KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
		expect_dirty(test, 0, NPAGES, false);
		expect_nothing(test);
		drop_memory(fx);
	}
}

/* In-kernel users write to registered pages, too: when they unpin, or at once. */
static void pages_that_users_wrote_are_dirty(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	u64 word = 7;

	make_memory(test, SINGLES);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	clean(test, NPAGES);
	detach(test, 0, 0);
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container[0], fx->emulated));
	vfio_external_register(fx->container[0], &fx->device);
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
	KUNIT_ASSERT_EQ(test, 1, vfio_external_pin(fx->container[0], fx->emulated, 0, 1, RW,
						   &page));
	expect_dirty(test, 0, NPAGES, false);
	vfio_external_unpin(fx->container[0], 0, 1);
	expect_dirty(test, 4, 1, true);
	clean(test, NPAGES);
	KUNIT_ASSERT_EQ(test, 0, vfio_external_rw(fx->container[0], 0, &word, sizeof(word),
						  false));
	expect_dirty(test, 0, NPAGES, false);
	KUNIT_ASSERT_EQ(test, 0, vfio_external_rw(fx->container[0], 0, &word, sizeof(word), true));
	expect_dirty(test, 4, 1, true);
	must_unmap(test, 0, 0, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_charge(test, 0);
	vfio_external_unregister(fx->container[0], &fx->device);
	vfio_container_detach(fx->container[0], fx->emulated);
}

/* In-kernel users get the region's pages; not pinned or charged again. */
static void in_kernel_users_share_pins_and_charge(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct page *page;
	u64 word = 0;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	detach(test, 0, 0);
	KUNIT_ASSERT_EQ(test, 0, vfio_container_attach_emulated(fx->container[0], fx->emulated));
	vfio_external_register(fx->container[0], &fx->device);
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
	KUNIT_ASSERT_EQ(test, 1, vfio_external_pin(fx->container[0], fx->emulated, 0, 1, RW,
						   &page));
	KUNIT_EXPECT_PTR_EQ(test, page, fx->pages[4]);
	expect_pins(test, 0, 20, 1);
	expect_charge(test, 20);
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));

	/* They see what was registered, also if the process does not any more. */
	fake_watch_change(fx->vaddr, fx->vaddr + 20 * PAGE_SIZE - 1);
	get_page(fx->pages[4]);
	user_remap_page(test, vaddr_of(test, 4), fx->pages[500], PROT_READ | PROT_WRITE);
	*(u64 *)page_address(fx->pages[4]) = 0x0123456789abcdef;
	*(u64 *)page_address(fx->pages[500]) = 1;
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container[0], 0, &word, sizeof(word), false));
	KUNIT_EXPECT_EQ(test, word, 0x0123456789abcdefULL);
	word = 7;
	KUNIT_EXPECT_EQ(test, 0, vfio_external_rw(fx->container[0], PAGE_SIZE - 4, &word,
						  sizeof(word), true));
	KUNIT_EXPECT_EQ(test, *(u32 *)(page_address(fx->pages[4]) + PAGE_SIZE - 4), 7U);
	KUNIT_EXPECT_EQ(test, *(u32 *)page_address(fx->pages[5]), 0U);

	/* Unmapping tells the device, which unpins. */
	must_unmap(test, 0, 0, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	user_unmap(vaddr_of(test, 4), 1);
	expect_pins(test, 0, 20, 0);
	expect_charge(test, 0);
	put_page(fx->pages[4]);
	vfio_external_unregister(fx->container[0], &fx->device);
	vfio_container_detach(fx->container[0], fx->emulated);
}

static void addresses_can_be_exchanged(struct kunit *test)
{
	struct fixture *fx = test->priv;
	u64 bytes;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_invalidate(fx->container[0], 0, 10 * PAGE_SIZE, false,
						       &bytes));
	KUNIT_EXPECT_EQ(test, -EBUSY, unreg(test, 0, 0, 20));
	KUNIT_ASSERT_EQ(test, 0, vfio_map_dma(fx->container[0], 0, vaddr_of(test, 500),
					      10 * PAGE_SIZE, 0, true));
	/* The memory is what it was, and charged once. */
	expect_charge(test, 20);
	attach(test, 0, 2, &amdvi);
	expect_mapped(test, 2, 0, 4, 10, RW);
	detach(test, 0, 2);
	must_unmap(test, 0, 0, 10);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

/* Who is given a mapping of what another process has registered is charged for it, too. */
static void a_new_owner_is_charged_for_a_mapping(struct kunit *test)
{
	struct mm_struct *other = user_other_mm(test, true);
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->container[0];
	struct mm_struct *mine = current->mm;
	struct vfio_dma *dma;
	u64 bytes;

	make_memory(test, EIGHTS);
	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 0, 20, false));
	KUNIT_ASSERT_EQ(test, 0, map(test, 0, 0, 4, 10));
	KUNIT_ASSERT_EQ(test, 0, vfio_vaddr_invalidate(container, 0, 10 * PAGE_SIZE, false,
						       &bytes));
	/* As if the other process had done that. */
	dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX);
	mmdrop(dma->owner.mm);
	dma->owner.mm = other;
	only_region(test)->owner.mm = other;
	KUNIT_EXPECT_EQ(test, 0, vfio_map_dma(container, 0, vaddr_of(test, 4), 10 * PAGE_SIZE, 0,
					      true));
	only_region(test)->owner.mm = mine;
	KUNIT_EXPECT_PTR_EQ(test, dma->owner.mm, mine);
	expect_charge(test, 30);
	KUNIT_EXPECT_EQ(test, vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES), 10ULL);
	must_unmap(test, 0, 0, 10);
	expect_charge(test, 20);
	KUNIT_EXPECT_EQ(test, vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES), 0ULL);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 0, 20));
	expect_nothing(test);
}

/* ---- a random walk ---- */

#define WALK_REGIONS	6
#define WALK_MAPS	8
#define WALK_PAGES	1000U
#define WALK_STEPS	3000
#define OTHER_PAGE	(NPAGES - 1)

struct model_region {
	unsigned int page, npages, registered, users;
	bool read_only;
	unsigned int frame[WALK_PAGES];
};

struct model_map {
	bool used;
	unsigned int c, page, npages;
	u64 iova;
	struct model_region *region;
};

/**
 * struct model - what has to be there
 * @regions: those that are registered
 * @maps: mappings; number n is at IOVA n GiB
 * @frame: number of the block page that the process has at each address
 */
struct model {
	struct model_region regions[WALK_REGIONS];
	struct model_map maps[WALK_MAPS];
	unsigned int frame[WALK_PAGES];
};

static struct model_region *model_touched(struct model *m, unsigned int page, unsigned int npages)
{
	unsigned int i;

	for (i = 0; i < WALK_REGIONS; i++) {
		struct model_region *r = &m->regions[i];

		if (r->registered && page < r->page + r->npages && r->page < page + npages)
			return r;
	}
	return NULL;
}

static void walk_register(struct kunit *test, struct model *m, unsigned int c, unsigned int page,
			  unsigned int npages, bool read_only)
{
	struct model_region *r = model_touched(m, page, npages);
	unsigned int i;

	if (r) {
		bool same = r->page == page && r->npages == npages && r->read_only == read_only;
		int want = !same ? -EINVAL :
			   memcmp(r->frame, m->frame + page, npages * sizeof(*r->frame)) ? -ESTALE :
			   0;

		KUNIT_ASSERT_EQ(test, want, reg(test, c, page, npages, read_only));
		r->registered += !want;
		return;
	}
	for (i = 0; i < WALK_REGIONS && m->regions[i].registered; i++)
		;
	if (i == WALK_REGIONS)
		return;
	r = &m->regions[i];
	KUNIT_ASSERT_EQ(test, 0, reg(test, c, page, npages, read_only));
	r->page = page;
	r->npages = npages;
	r->registered = 1;
	r->users = 0;
	r->read_only = read_only;
	memcpy(r->frame, m->frame + page, npages * sizeof(*r->frame));
}

static void walk_unregister(struct kunit *test, struct model_region *r, unsigned int c)
{
	int want = !r->registered ? -ENOENT : r->registered == 1 && r->users ? -EBUSY : 0;

	if (!r->npages)
		return;
	KUNIT_ASSERT_EQ(test, want, unreg(test, c, r->page, r->npages));
	if (!want)
		r->registered--;
}

static void walk_map(struct kunit *test, struct model *m, unsigned int n, unsigned int c,
		     unsigned int page, unsigned int npages, int prot)
{
	struct model_region *r = model_touched(m, page, npages);
	struct model_map *map = &m->maps[n];
	int want = 0;

	if (map->used) {
		must_unmap(test, map->c, map->iova, map->npages);
		if (map->region)
			map->region->users--;
		map->used = false;
		return;
	}
	if (r && (page < r->page || page + npages > r->page + r->npages ||
		  (r->read_only && prot & IOMMU_WRITE)))
		r = NULL;
	if (r && memcmp(&r->frame[page - r->page], &m->frame[page], npages * sizeof(*m->frame)))
		want = -ESTALE;
	KUNIT_ASSERT_EQ(test, want, map_prot(test, c, (u64)n * SZ_1G, page, npages, prot));
	if (want)
		return;
	*map = (struct model_map) { true, c, page, npages, (u64)n * SZ_1G, r };
	if (r)
		r->users++;
}

/* Put page @frame of the block where @page is, or touch it only. */
static void walk_change(struct kunit *test, struct model *m, unsigned int page, unsigned int frame)
{
	struct fixture *fx = test->priv;
	unsigned long vaddr = vaddr_of(test, page);

	fake_watch_change(vaddr, vaddr + PAGE_SIZE - 1);
	if (frame == m->frame[page])
		return;
	user_remap_page(test, vaddr, fx->block + frame, PROT_READ | PROT_WRITE);
	m->frame[page] = frame;
}

static unsigned int model_charge(const struct model *m)
{
	unsigned int n, charge = 0;

	for (n = 0; n < WALK_REGIONS; n++)
		if (m->regions[n].registered)
			charge += m->regions[n].npages;
	for (n = 0; n < WALK_MAPS; n++)
		if (m->maps[n].used && !m->maps[n].region)
			charge += m->maps[n].npages;
	return charge;
}

static void random_requests_match_a_model(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct fixture *fx = test->priv;
	unsigned int step, i, n, refused = 0, used = 0;
	struct rnd_state rnd;

	KUNIT_ASSERT_NOT_NULL(test, m);
	make_memory(test, RANDOM);
	for (i = 0; i < WALK_PAGES; i++)
		m->frame[i] = fx->pages[i] - fx->block;
	prandom_seed_state(&rnd, 7);
	for (step = 0; step < WALK_STEPS; step++) {
		unsigned int page = prandom_u32_state(&rnd) % WALK_PAGES;
		unsigned int npages = 1 + prandom_u32_state(&rnd) % min(WALK_PAGES - page, 400U);
		struct model_region *r = &m->regions[prandom_u32_state(&rnd) % WALK_REGIONS];
		unsigned int c = prandom_u32_state(&rnd) % CONTAINERS;
		int prot = prandom_u32_state(&rnd) % 4 ? RW : IOMMU_READ;

		switch (prandom_u32_state(&rnd) % 8) {
		case 0:
			walk_register(test, m, c, page, npages, prot == IOMMU_READ);
			break;
		case 1:
			if (r->registered)
				walk_register(test, m, c, r->page, r->npages, r->read_only);
			break;
		case 2:
		case 3:
			walk_unregister(test, r, c);
			break;
		case 4:
			walk_change(test, m, page, prandom_u32_state(&rnd) % 2 ? m->frame[page] :
				    fx->pages[OTHER_PAGE] - fx->block);
			break;
		default:
			if (r->registered && prandom_u32_state(&rnd) % 4) {
				page = r->page + page % r->npages;
				npages = 1 + npages % (r->page + r->npages - page);
			}
			walk_map(test, m, prandom_u32_state(&rnd) % WALK_MAPS, c, page, npages,
				 prot);
		}

		KUNIT_ASSERT_EQ_MSG(test, user_locked_vm() - fx->locked_vm,
				    (unsigned long)model_charge(m), "step %u", step);
		n = prandom_u32_state(&rnd) % WALK_MAPS;
		for (i = 0; m->maps[n].used && m->maps[n].region && i < m->maps[n].npages; i++) {
			const struct model_map *map = &m->maps[n];
			unsigned int frame = map->region->frame[map->page - map->region->page + i];

			KUNIT_ASSERT_EQ_MSG(test, page_to_phys(fx->block + frame),
					    iommu_iova_to_phys(&mock(map->c)->domain,
							       map->iova + i * PAGE_SIZE),
					    "step %u", step);
			used++;
		}
	}
	refused = atomic_long_read(&fx->container[0]->refused[VFIO_REFUSE_REGISTRY]);
	KUNIT_EXPECT_GT(test, used, 1000U);
	KUNIT_EXPECT_GT(test, refused, 50U);
	for (n = 0; n < WALK_MAPS; n++)
		if (m->maps[n].used)
			walk_map(test, m, n, 0, 0, 1, RW);
	for (n = 0; n < WALK_REGIONS; n++)
		while (m->regions[n].registered)
			walk_unregister(test, &m->regions[n], 0);
	expect_charge(test, 0);
	/* Pages that the process has lost have one reference less. */
	drop_memory(fx);
	for (i = 0; i < NPAGES; i++)
		KUNIT_ASSERT_EQ_MSG(test, page_ref_count(fx->block + i), 1, "page %u", i);
}

static struct kunit_case registry_cases[] = {
	KUNIT_CASE(every_page_of_every_layout_is_found),
	KUNIT_CASE(contiguous_memory_needs_a_word_per_slot),
	KUNIT_CASE(reserved_pages_are_unpinned),
	KUNIT_CASE(same_region_again_takes_a_reference),
	KUNIT_CASE(changed_memory_is_not_registered_again),
	KUNIT_CASE(registering_keeps_nobody_waiting),
	KUNIT_CASE(registering_again_keeps_nobody_waiting),
	KUNIT_CASE(mark_goes_once),
	KUNIT_CASE(registering_again_is_no_mapping),
	KUNIT_CASE(regions_do_not_overlap),
	KUNIT_CASE(wrong_values_are_refused),
	KUNIT_CASE(more_than_there_is_costs_no_memory),
	KUNIT_CASE(number_of_regions_is_limited),
	KUNIT_CASE(hole_leaves_nothing),
	KUNIT_CASE(failed_allocation_leaves_nothing),
	KUNIT_CASE(memlock_limit_is_exact),
	KUNIT_CASE(memlock_limit_comes_before_memory),
	KUNIT_CASE(mapping_takes_the_regions_frames),
	KUNIT_CASE(containers_share_pins_and_charge),
	KUNIT_CASE(memory_partly_inside_is_pinned),
	KUNIT_CASE(read_only_regions_are_not_written),
	KUNIT_CASE(mmio_is_not_registered),
	KUNIT_CASE(failed_map_call_leaves_the_region),
	KUNIT_CASE(failed_map_allocation_leaves_the_region),
	KUNIT_CASE(what_an_iommu_keeps_stays_pinned),
	KUNIT_CASE(what_a_failed_map_keeps_stays_pinned),
	KUNIT_CASE(strict_containers_map_registered_memory_only),
	KUNIT_CASE(unregister_waits_for_no_mapping),
	KUNIT_CASE(last_container_takes_everything),
	KUNIT_CASE(unused_containers_close_at_once),
	KUNIT_CASE(end_of_the_process_takes_what_is_not_mapped),
	KUNIT_CASE(what_is_mapped_outlives_the_process),
	KUNIT_CASE(what_outlives_the_process_is_used),
	KUNIT_CASE(what_an_iommu_keeps_outlives_the_process),
	KUNIT_CASE(a_map_outlives_the_process),
	KUNIT_CASE(busy_regions_name_a_mapping),
	KUNIT_CASE(joining_waits_for_no_memory),
	KUNIT_CASE(joining_siblings_needs_no_memory),
	KUNIT_CASE(memory_of_others_is_not_used),
	KUNIT_CASE(container_without_registrations_is_free),
	KUNIT_CASE(unregistering_takes_no_container),
	KUNIT_CASE(strict_containers_of_others_map_nothing),
	KUNIT_CASE(kernel_threads_register_nothing),
	KUNIT_CASE(closed_containers_register_nothing),
	KUNIT_CASE(killed_callers_leave_nothing),
	KUNIT_CASE(killed_map_of_a_region_leaves_nothing),
	KUNIT_CASE(signals_put_registering_off),
	KUNIT_CASE(regions_are_listed_in_order),
	KUNIT_CASE(killed_readers_wait_for_no_lock),
	KUNIT_CASE(readers_say_that_a_container_is_busy),
	KUNIT_CASE(changed_memory_is_refused),
	KUNIT_CASE(lost_memory_is_refused),
	KUNIT_CASE(shortage_of_memory_is_no_change),
	KUNIT_CASE(memory_of_other_access_is_the_same),
	KUNIT_CASE(unchanged_memory_is_looked_at_once),
	KUNIT_CASE(large_regions_are_marked_in_pieces),
	KUNIT_CASE(attach_replays_from_the_region),
	KUNIT_CASE(change_of_access_counts_while_registering),
	KUNIT_CASE(written_pages_are_dirty_when_unmapped),
	KUNIT_CASE(pages_that_users_wrote_are_dirty),
	KUNIT_CASE(in_kernel_users_share_pins_and_charge),
	KUNIT_CASE(addresses_can_be_exchanged),
	KUNIT_CASE(a_new_owner_is_charged_for_a_mapping),
	KUNIT_CASE(random_requests_match_a_model),
	{}
};

SUITE("vfio_registered_memory", registry_cases,
	FAKE_IOMMU_SUITE, .init = registry_case_init, .exit = registry_case_exit);
