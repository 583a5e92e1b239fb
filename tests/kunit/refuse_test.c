// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refusals: what is counted, what gets into the log, and what does not any more.
 * The texts of requests are checked in the VM, which has user space.
 */

#include <linux/ratelimit.h>
#include <linux/string.h>

#include "klog.h"
#include "suite.h"

/* What a container may say for each reason, and what all may, before a pause. */
#define LINES_CONTAINER	10
#define LINES_ALL	50
/* So many containers that they would say more than all may. */
#define CONTAINERS	8

/**
 * struct fixture - what each case starts with
 * @containers: without groups
 * @log: what was logged since the case began
 */
struct fixture {
	struct vfio_type1_container *containers[CONTAINERS];
	struct klog log;
};

/* Does the next line of ours say this? */
static bool log_says(struct fixture *fx, const char *text)
{
	const char *line = klog_next(&fx->log), *said = line ? strstr(line, "]: ") : NULL;

	return said && !strcmp(said + 3, text);
}

static int refuse_case_init(struct kunit *test)
{
	struct fixture *fx = kunit_kzalloc(test, sizeof(*fx), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, fx);
	for (i = 0; i < CONTAINERS; i++) {
		fx->containers[i] = vfio_container_create(VFIO_CONTAINER_V2);
		KUNIT_ASSERT_FALSE(test, IS_ERR(fx->containers[i]));
	}
	klog_begin(&fx->log);
	test->priv = fx;
	return 0;
}

static void refuse_case_exit(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; fx && i < CONTAINERS; i++)
		vfio_container_destroy(fx->containers[i]);
}

static long refused(struct vfio_type1_container *container, enum vfio_refusal reason)
{
	return atomic_long_read(&container->refused[reason]);
}

/* Who, and what: in one line; and a counter that says why. */
static void a_refusal_is_told_and_counted(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_type1_container *container = fx->containers[0];
	enum vfio_refusal i;
	char want[128];

	vfio_refuse(container, VFIO_REFUSE_BISECT, "MAP_DMA iova 0x%llx: %s", 0x1000ULL, "no");
	snprintf(want, sizeof(want), "%s[%d]: MAP_DMA iova 0x1000: no", current->comm,
		 task_pid_nr(current));
	KUNIT_EXPECT_STREQ(test, klog_next(&fx->log), want);
	KUNIT_EXPECT_NULL(test, klog_next(&fx->log));
	for (i = 0; i < VFIO_REFUSE_NR; i++)
		KUNIT_EXPECT_EQ_MSG(test, refused(container, i), (long)(i == VFIO_REFUSE_BISECT),
				    "%s", vfio_refusal_names[i]);
}

/* Counters and tracepoints are found by name: each reason has one of its own. */
static void reasons_have_names(struct kunit *test)
{
	enum vfio_refusal i, j;

	for (i = 0; i < VFIO_REFUSE_NR; i++) {
		KUNIT_ASSERT_NOT_NULL(test, vfio_refusal_names[i]);
		for (j = 0; j < i; j++)
			KUNIT_EXPECT_STRNEQ(test, vfio_refusal_names[i], vfio_refusal_names[j]);
	}
}

/* A flood is cut short, and hides neither another reason nor another container. */
static void a_flood_hides_nothing_else(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < 1000; i++)
		vfio_refuse(fx->containers[0], VFIO_REFUSE_ARGSZ, "flood");
	vfio_refuse(fx->containers[0], VFIO_REFUSE_FLAGS, "another reason");
	vfio_refuse(fx->containers[1], VFIO_REFUSE_ARGSZ, "another container");
	for (i = 0; i < LINES_CONTAINER; i++)
		KUNIT_EXPECT_TRUE(test, log_says(fx, "flood"));
	KUNIT_EXPECT_TRUE(test, log_says(fx, "another reason"));
	KUNIT_EXPECT_TRUE(test, log_says(fx, "another container"));
	KUNIT_EXPECT_NULL(test, klog_next(&fx->log));
	KUNIT_EXPECT_EQ(test, refused(fx->containers[0], VFIO_REFUSE_ARGSZ), 1000L);
}

/* Who opens container after container does not get around the limit. */
static void many_containers_do_not_flood_either(struct kunit *test)
{
	struct fixture *fx = test->priv;
	unsigned int i;

	for (i = 0; i < CONTAINERS * LINES_CONTAINER; i++)
		vfio_refuse(fx->containers[i % CONTAINERS], VFIO_REFUSE_IOCTL, "flood");
	vfio_refuse(fx->containers[0], VFIO_REFUSE_SIZE, "another reason");
	KUNIT_EXPECT_EQ(test, klog_count(&fx->log, "]: flood"), (unsigned int)LINES_ALL);
	for (i = 0; i < CONTAINERS; i++)
		KUNIT_EXPECT_EQ(test, refused(fx->containers[i], VFIO_REFUSE_IOCTL),
				(long)LINES_CONTAINER);
}

/* A process cannot make its name look like a line of its own. */
static void names_are_escaped(struct kunit *test)
{
	struct fixture *fx = test->priv;
	char before[TASK_COMM_LEN], want[64];

	strscpy(before, current->comm, sizeof(before));
	strscpy(current->comm, "a\n\033[31m%s b\\", sizeof(current->comm));
	vfio_refuse(fx->containers[0], VFIO_REFUSE_MSI, "refused");
	strscpy(current->comm, before, sizeof(current->comm));
	snprintf(want, sizeof(want), "a\\n\\e[31m%%s b\\[%d]: refused", task_pid_nr(current));
	KUNIT_EXPECT_STREQ(test, klog_next(&fx->log), want);
	KUNIT_EXPECT_NULL(test, klog_next(&fx->log));
}

static struct kunit_case refuse_cases[] = {
	KUNIT_CASE(a_refusal_is_told_and_counted),
	KUNIT_CASE(reasons_have_names),
	KUNIT_CASE(a_flood_hides_nothing_else),
	KUNIT_CASE(many_containers_do_not_flood_either),
	KUNIT_CASE(names_are_escaped),
	{}
};

SUITE("vfio_refuse", refuse_cases, .init = refuse_case_init, .exit = refuse_case_exit);
