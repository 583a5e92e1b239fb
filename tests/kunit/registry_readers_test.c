// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: what debugfs shows of it, and how its readers wait.
 */

#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/uaccess.h>

#include "registry_fixture.h"

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

static struct kunit_case registry_readers_cases[] = {
	KUNIT_CASE(regions_are_listed_in_order),
	KUNIT_CASE(killed_readers_wait_for_no_lock),
	KUNIT_CASE(readers_say_that_a_container_is_busy),
	{}
};

SUITE("vfio_registered_readers", registry_readers_cases, REGISTRY_SUITE);
