// SPDX-License-Identifier: GPL-2.0-only
/* A suite that passes: what the runner must call green. */

#include <kunit/test.h>
#include <linux/module.h>

static void passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1 + 1, 2);
}

static struct kunit_case cases[] = { KUNIT_CASE(passes), {} };
static struct kunit_suite suite = { .name = "green", .test_cases = cases };

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit runner self-test: green");
MODULE_LICENSE("GPL");
