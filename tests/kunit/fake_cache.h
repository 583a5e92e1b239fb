/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * In place of vfio_cache.c: UML has no caches of its own to flush.
 */
#ifndef _TESTS_KUNIT_FAKE_CACHE_H
#define _TESTS_KUNIT_FAKE_CACHE_H

/**
 * struct fake_cache - what was flushed
 * @npages: how many pages since a case began
 * @look: called for each page at that time, if not NULL
 * @data: for @look
 */
struct fake_cache {
	unsigned long npages;
	void (*look)(unsigned long pfn, void *data);
	void *data;
};

extern struct fake_cache fake_cache;

#endif /* _TESTS_KUNIT_FAKE_CACHE_H */
