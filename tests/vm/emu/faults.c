// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where fail-nth must not hit: as the kernel takes a group back into its own domain. That may
 * allocate, cannot fail, and says so in a warning; the group is nobody's any more then. While
 * a thread is in there its count stands still.
 */

#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>

/* Return: 0 to be told of the end of this one. */
static int pause_begins(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	unsigned int *count = (unsigned int *)ri->data;

	*count = current->fail_nth;
	current->fail_nth = 0;
	return !*count;
}

static int pause_ends(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	current->fail_nth = *(unsigned int *)ri->data;
	return 0;
}

#define PAUSE_IN(name) { \
	.kp.symbol_name = name, .data_size = sizeof(unsigned int), \
	.entry_handler = pause_begins, .handler = pause_ends, \
}

static struct kretprobe probes[] = {
	PAUSE_IN("iommu_detach_group"),
	PAUSE_IN("iommu_group_release_dma_owner"),
};

static struct kretprobe *all[] = { &probes[0], &probes[1] };

static int __init faults_init(void)
{
	return register_kretprobes(all, ARRAY_SIZE(all));
}

static void __exit faults_exit(void)
{
	unregister_kretprobes(all, ARRAY_SIZE(all));
}

module_init(faults_init);
module_exit(faults_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-type1 authors");
MODULE_DESCRIPTION("Where no allocation fails, for tests");
