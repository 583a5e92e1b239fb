// SPDX-License-Identifier: GPL-2.0-only
/* Every case passes, but memory is read behind its end: for KASAN. */

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/slab.h>

static void overruns(struct kunit *test)
{
	char *p = kmalloc(77, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	OPTIMIZER_HIDE_VAR(p);
	READ_ONCE(p[77]);
	kfree(p);
}

static struct kunit_case cases[] = { KUNIT_CASE(overruns), {} };
static struct kunit_suite suite = { .name = "overruns", .test_cases = cases };

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit runner self-test: memory is overrun");
MODULE_LICENSE("GPL");
