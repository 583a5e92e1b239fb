// SPDX-License-Identifier: GPL-2.0-only
/* A failing case, in the second of three suites. */

#include <kunit/test.h>
#include <linux/module.h>

static void passes(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1 + 1, 2);
}

static void fails(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 1 + 1, 3);
}

static struct kunit_case good[] = { KUNIT_CASE(passes), {} };
static struct kunit_case bad[] = { KUNIT_CASE(passes), KUNIT_CASE(fails), {} };
static struct kunit_suite first = { .name = "first", .test_cases = good };
static struct kunit_suite second = { .name = "second", .test_cases = bad };
static struct kunit_suite third = { .name = "third", .test_cases = good };

kunit_test_suites(&first, &second, &third);

MODULE_DESCRIPTION("KUnit runner self-test: a case fails");
MODULE_LICENSE("GPL");
