/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Changes of user memory, as the suites want them: UML has no MMU notifiers. Stands in
 * for vfio_watch.c.
 */
#ifndef _TESTS_KUNIT_FAKE_WATCH_H
#define _TESTS_KUNIT_FAKE_WATCH_H

#include <linux/types.h>

/* The next start of a watch fails, or meets a signal. */
void fake_watch_fail(void);
void fake_watch_interrupt(void);
/* The next look at user memory meets a change of what it looks at. */
void fake_watch_collide(void);
/* The next look at user memory waits until @fn has returned. */
void fake_watch_wait(void (*fn)(void *data), void *data);
/* User memory changes, or only might have. */
void fake_watch_change(unsigned long vaddr, unsigned long last);
/* The process may access its memory in another way, which matters to hugetlb memory. */
void fake_watch_protect(unsigned long vaddr, unsigned long last);
/* The process is gone. */
void fake_watch_release(void);
unsigned int fake_watch_count(void);
/* Looks at user memory since the last call. */
unsigned int fake_watch_looks(void);

#endif /* _TESTS_KUNIT_FAKE_WATCH_H */
