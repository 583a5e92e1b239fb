/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Make memory allocations of the running test fail, and only these. Suites that
 * do so begin with fault_suite_init(), or with user_mem_suite_init().
 *
 * A failed expectation allocates: don't check anything in between.
 */
#ifndef _TESTS_KUNIT_FAULT_H
#define _TESTS_KUNIT_FAULT_H

#include <kunit/test.h>
#include <linux/kconfig.h>
#include <linux/sched.h>

/*
 * Does a failure hit the code under test? kmemleak allocates a record of its own with
 * each allocation, and can do without.
 */
#define FAULT_IS_EXACT	(!IS_ENABLED(CONFIG_DEBUG_KMEMLEAK))

int fault_suite_init(struct kunit_suite *suite);

/* For SUITE(): one whose cases let allocations fail. */
#define FAULT_SUITE	.suite_init = fault_suite_init

/* From here on, every allocation fails. */
static inline void fault_all(void)
{
	current->make_it_fail = 1;
}

/* The @nth allocation from here on fails, counted from 1; those after it do not. */
static inline void fault_nth(unsigned int nth)
{
	current->fail_nth = nth;
}

/* Back to normal. Returns whether the failure that fault_nth() asked for came. */
static inline bool fault_end(void)
{
	bool came = !current->fail_nth;

	current->make_it_fail = 0;
	current->fail_nth = 0;
	return came;
}

#endif /* _TESTS_KUNIT_FAULT_H */
