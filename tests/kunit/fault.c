// SPDX-License-Identifier: GPL-2.0-only
/*
 * How failslab is set up for fault.h: it hits tasks that ask for it, whatever kind of
 * memory they allocate, and without a word.
 *
 * User space has files for that in debugfs. Built-in suites run before there is any
 * user space, so that the variables behind these files are set instead.
 */

#include <linux/debugfs.h>
#include <linux/fault-inject.h>

#include "fault.h"

/* What a file of debugfs/failslab stands for, or NULL. */
static void *behind(const char *name)
{
	struct dentry *dir = debugfs_lookup("failslab", NULL), *file;
	void *variable = NULL;

	if (IS_ERR_OR_NULL(dir))
		return NULL;
	file = debugfs_lookup(name, dir);
	if (!IS_ERR_OR_NULL(file)) {
		variable = d_inode(file)->i_private;
		dput(file);
	}
	dput(dir);
	return variable;
}

int fault_suite_init(struct kunit_suite *suite)
{
	unsigned long *probability = behind("probability");
	bool *ignore_gfp_wait = behind("ignore-gfp-wait");
	struct fault_attr *attr;

	if (!probability || !ignore_gfp_wait)
		return -ENOENT;
	attr = container_of(probability, struct fault_attr, probability);
	attr->task_filter = true;
	attr->verbose = 0;
	atomic_set(&attr->times, -1);
	attr->probability = 100;
	*ignore_gfp_wait = false;
	return 0;
}
