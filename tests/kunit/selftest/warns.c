// SPDX-License-Identifier: GPL-2.0-only
/* Every case passes, but the kernel warns. */

#include <kunit/test.h>
#include <linux/module.h>

static void warns(struct kunit *test)
{
	WARN(1, "on purpose\n");
}

static struct kunit_case cases[] = { KUNIT_CASE(warns), {} };
static struct kunit_suite suite = { .name = "warns", .test_cases = cases };

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit runner self-test: the kernel warns");
MODULE_LICENSE("GPL");
