// SPDX-License-Identifier: GPL-2.0-only
/* A module without suites proves nothing. */

#include <linux/module.h>

MODULE_DESCRIPTION("KUnit runner self-test: no suites");
MODULE_LICENSE("GPL");
