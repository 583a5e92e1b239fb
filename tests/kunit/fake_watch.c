// SPDX-License-Identifier: GPL-2.0-only
/*
 * Changes of user memory, as the suites want them: see fake_watch.h.
 */

#include <linux/errno.h>
#include <linux/mutex.h>

#include "vfio_queue.h"
#include "vfio_watch.h"
#include "fake_watch.h"

#define WATCHED_MAX	128

const bool vfio_watch_supported = true;

static DEFINE_MUTEX(watched_lock);
static struct vfio_watch *watched[WATCHED_MAX];
static unsigned long changes;
static unsigned int looks;
static int fail;
static bool collide;
static void (*wait_for)(void *data);
static void *wait_data;

int vfio_watch_start(struct vfio_watch *watch, struct mm_struct *mm, unsigned long vaddr,
		     unsigned long size)
{
	unsigned int i;
	int ret = xchg(&fail, 0);

	if (ret)
		return ret;
	ret = -ENOMEM;
	mutex_lock(&watched_lock);
	for (i = 0; i < WATCHED_MAX && ret; i++) {
		if (!watched[i]) {
			watched[i] = watch;
			ret = 0;
		}
	}
	mutex_unlock(&watched_lock);
	return ret;
}

void vfio_watch_stop(struct vfio_watch *watch)
{
	unsigned int i, found = 0;

	mutex_lock(&watched_lock);
	for (i = 0; i < WATCHED_MAX; i++) {
		if (watched[i] == watch) {
			watched[i] = NULL;
			found++;
		}
	}
	mutex_unlock(&watched_lock);
	WARN_ON(found != 1);
}

unsigned long vfio_watch_read(struct vfio_watch *watch)
{
	void (*fn)(void *data);

	looks++;
	fn = xchg(&wait_for, NULL);
	if (fn)
		fn(wait_data);
	return READ_ONCE(changes);
}

bool vfio_watch_changed(struct vfio_watch *watch, unsigned long seq)
{
	return xchg(&collide, false) || READ_ONCE(changes) != seq;
}

void fake_watch_fail(void)
{
	fail = -ENOMEM;
}

void fake_watch_interrupt(void)
{
	fail = -EINTR;
}

void fake_watch_collide(void)
{
	collide = true;
}

void fake_watch_wait(void (*fn)(void *data), void *data)
{
	wait_data = data;
	wait_for = fn;
}

static void change(unsigned long vaddr, unsigned long last, bool protection)
{
	unsigned int i;

	mutex_lock(&watched_lock);
	for (i = 0; i < WATCHED_MAX; i++) {
		unsigned long at = vaddr;

		if (!watched[i] || (protection && !READ_ONCE(watched[i]->hugetlb)))
			continue;
		spin_lock(watched[i]->lock);
		changes++;
		while (watched[i]->changed(watched[i], &at, last))
			;
		spin_unlock(watched[i]->lock);
	}
	mutex_unlock(&watched_lock);
}

void fake_watch_change(unsigned long vaddr, unsigned long last)
{
	change(vaddr, last, false);
}

void fake_watch_protect(unsigned long vaddr, unsigned long last)
{
	change(vaddr, last, true);
}

void fake_watch_release(void)
{
	unsigned int i;

	mutex_lock(&watched_lock);
	for (i = 0; i < WATCHED_MAX; i++)
		if (watched[i])
			vfio_type1_queue(watched[i]->gone);
	mutex_unlock(&watched_lock);
}

unsigned int fake_watch_count(void)
{
	unsigned int i, nr = 0;

	for (i = 0; i < WATCHED_MAX; i++)
		nr += !!watched[i];
	return nr;
}

unsigned int fake_watch_looks(void)
{
	unsigned int nr = looks;

	looks = 0;
	return nr;
}
