// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: what others do while REGISTER or MAP waits for user memory.
 */

#include <linux/mman.h>

#include "registry_fixture.h"

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
		expect_region_pins(m->test, 0, NPAGES, 0);
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
	expect_region_pins(test, 3, 40, 1);
	expect_charge(test, 40);
	KUNIT_EXPECT_EQ(test, fake_watch_count(), 1U);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	expect_no_region(test);

	KUNIT_EXPECT_EQ(test, -EINVAL, reg_while(test, &cuts, 40));
	KUNIT_ASSERT_EQ(test, 0, cuts.ret);
	expect_region_pins(test, 3, 27, 0);
	expect_region_pins(test, 30, 40, 1);
	expect_charge(test, 40);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 30, 40));
	expect_no_region(test);

	KUNIT_EXPECT_EQ(test, 0, reg_while(test, &apart, 40));
	KUNIT_ASSERT_EQ(test, 0, apart.ret);
	expect_charge(test, 80);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 43, 40));
	expect_no_region(test);

	KUNIT_EXPECT_EQ(test, 0, reg_while(test, &unregister, 40));
	KUNIT_ASSERT_EQ(test, -ENOENT, unregister.ret);
	KUNIT_ASSERT_EQ(test, 0, unreg(test, 0, 3, 40));
	expect_no_region(test);

	KUNIT_EXPECT_EQ(test, -ENODEV, reg_while(test, &closing, 40));
	KUNIT_ASSERT_EQ(test, 0, closing.ret);
	expect_no_region(test);
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
		expect_no_region(test);
	}

	KUNIT_ASSERT_EQ(test, 0, reg(test, 0, 3, 40, false));
	change_page(test, 5, false);
	KUNIT_EXPECT_EQ(test, -ENODEV, reg_while(test, &closing, 40));
	KUNIT_ASSERT_EQ(test, 0, closing.ret);
	expect_no_region(test);
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
		expect_no_region(test);
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
		expect_no_region(test);
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
		expect_region_pins(test, 0, 4, 0);
		expect_region_pins(test, 4, 3, !changed);
		expect_region_pins(test, 7, 33, 0);
		expect_charge(test, changed ? 0 : 3);
		if (changed)
			change_back(test, 5);
		else
			must_unmap(test, 0, 0, 3);
		expect_no_region(test);
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
	expect_no_region(test);
}

static struct kunit_case registry_meanwhile_cases[] = {
	KUNIT_CASE(registering_keeps_nobody_waiting),
	KUNIT_CASE(registering_again_keeps_nobody_waiting),
	KUNIT_CASE(mark_goes_once),
	KUNIT_CASE(registering_again_is_no_mapping),
	KUNIT_CASE(a_map_outlives_the_process),
	KUNIT_CASE(change_of_access_counts_while_registering),
	{}
};

SUITE("vfio_registered_meanwhile", registry_meanwhile_cases, REGISTRY_SUITE);
