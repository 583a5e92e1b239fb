// SPDX-License-Identifier: GPL-2.0-only
/* Every case passes, but memory is lost: for kmemleak. */

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/slab.h>

static void leaks(struct kunit *test)
{
	unsigned int i;

	/* Many, as a stale pointer to some may still lie on a stack. */
	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_NOT_NULL(test, kmalloc(777, GFP_KERNEL));
}

static struct kunit_case cases[] = { KUNIT_CASE(leaks), {} };
static struct kunit_suite suite = { .name = "leaks", .test_cases = cases };

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit runner self-test: memory leaks");
MODULE_LICENSE("GPL");
