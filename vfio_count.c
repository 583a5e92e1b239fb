// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a container counts, per CPU, and how long things took.
 */

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/percpu.h>

#include "vfio_count.h"
#include "vfio_type1.h"

/**
 * vfio_count_init() - begin to count
 * @container: a new container
 *
 * Without debugfs nobody could see it, and nothing is counted.
 *
 * Context: may sleep.
 * Return: 0, or -ENOMEM.
 */
int vfio_count_init(struct vfio_type1_container *container)
{
	if (!IS_ENABLED(CONFIG_DEBUG_FS))
		return 0;
	container->counters = alloc_percpu_gfp(struct vfio_counters, GFP_KERNEL_ACCOUNT);
	return container->counters ? 0 : -ENOMEM;
}

/**
 * vfio_count_free() - nobody counts any more
 * @container: a container that is being freed
 */
void vfio_count_free(struct vfio_type1_container *container)
{
	free_percpu(container->counters);
}

/**
 * vfio_count_sum() - what all CPUs have counted
 * @container: the container
 * @which: of what
 *
 * Return: the sum; of what goes down, too, it may be less than 0 while that changes.
 */
u64 vfio_count_sum(const struct vfio_type1_container *container, enum vfio_count which)
{
	u64 sum = 0;
	int cpu;

	if (!IS_ENABLED(CONFIG_DEBUG_FS))
		return 0;
	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(container->counters, cpu)->value[which]);
	return sum;
}

/**
 * vfio_count_ns() - how long is that?
 * @container: a container, whose age is known in cycles and in nanoseconds
 * @cycles: from vfio_clock_since()
 *
 * Return: nanoseconds; 0 on a machine whose counter stands still.
 */
u64 vfio_count_ns(const struct vfio_type1_container *container, u64 cycles)
{
	u64 age = vfio_clock_since(container->opened);
	u64 age_ns = ktime_get_ns() - container->opened_ns;
	int excess = max(fls64(age_ns) - 32, 0);

	age >>= excess;
	age_ns >>= excess;
	return age ? mul_u64_u64_shr(cycles, div64_u64(age_ns << 32, age), 32) : 0;
}

static atomic_long_t lost_mappings = ATOMIC_LONG_INIT(0);

/**
 * vfio_count_lost() - count mappings that nobody had asked to remove
 * @nr: how many went with the last group of a container, and so, mostly, with the container
 *
 * Context: any.
 */
void vfio_count_lost(unsigned long nr)
{
	atomic_long_add(nr, &lost_mappings);
}

/**
 * vfio_count_lost_sum() - how many mappings were lost so far
 *
 * Return: mappings of all containers.
 */
unsigned long vfio_count_lost_sum(void)
{
	return atomic_long_read(&lost_mappings);
}
