/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the module has logged since a case began.
 */
#ifndef _TESTS_KUNIT_KLOG_H
#define _TESTS_KUNIT_KLOG_H

#include <linux/kmsg_dump.h>
#include <linux/string.h>

#define KLOG_TAG	"vfio_iommu_type1: "

/**
 * struct klog - a reader of the log
 * @iter: where it is
 * @line: the line that klog_next() found
 */
struct klog {
	struct kmsg_dump_iter iter;
	char line[1024];
};

/* Find the next line of ours.  Return: its text, or NULL. */
static inline const char *klog_next(struct klog *log)
{
	const char *text;
	size_t len;

	while (kmsg_dump_get_line(&log->iter, false, log->line, sizeof(log->line) - 1, &len)) {
		log->line[len] = '\0';
		strim(log->line);
		text = strstr(log->line, KLOG_TAG);
		if (text)
			return text + strlen(KLOG_TAG);
	}
	return NULL;
}

/* How many of the next lines have @text; none is left. */
static inline unsigned int klog_count(struct klog *log, const char *text)
{
	unsigned int count = 0;
	const char *line;

	while ((line = klog_next(log)))
		count += !!strstr(line, text);
	return count;
}

/* What was logged before is of no interest. */
static inline void klog_begin(struct klog *log)
{
	kmsg_dump_rewind(&log->iter);
	klog_count(log, "");
}

#endif /* _TESTS_KUNIT_KLOG_H */
