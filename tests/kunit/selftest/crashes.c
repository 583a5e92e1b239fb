// SPDX-License-Identifier: GPL-2.0-only
/* The kernel dies after a suite has passed, with another one to come. */

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/reboot.h>

static void passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1 + 1, 2);
}

/* Without a line that anybody could look for. */
static void dies(struct kunit *test)
{
	kernel_power_off();
}

static struct kunit_case good[] = { KUNIT_CASE(passes), {} };
static struct kunit_case bad[] = { KUNIT_CASE(passes), KUNIT_CASE(dies), {} };
static struct kunit_suite first = { .name = "first", .test_cases = good };
static struct kunit_suite second = { .name = "second", .test_cases = bad };

kunit_test_suites(&first, &second);

MODULE_DESCRIPTION("KUnit runner self-test: the kernel dies");
MODULE_LICENSE("GPL");
