// SPDX-License-Identifier: GPL-2.0-only
/*
 * No memory for the IOMMU's page tables: who writes a number n to the parameter nth
 * gets none for the nth table page, counted from there, that a map of its own asks
 * for.  Reading it tells how far that is away; 0: it came.
 *
 * Works with every driver, as it is the page allocator that fails, between the beginning
 * and the end of iommu_map() or iommu_map_sg() of that task.
 */

#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/sched.h>

static struct task_struct *victim;
static unsigned int nth;
static bool mapping;

static int map_begins(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	/* Of nobody else's map is the end of interest. */
	if (current != victim)
		return 1;
	mapping = true;
	return 0;
}

static int map_ends(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	mapping = false;
	return 0;
}

/* Return: 0 to be told of the end of this one. */
static int alloc_begins(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	return !(mapping && current == victim && nth && !--nth);
}

static int alloc_ends(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct page *page = (struct page *)regs_return_value(regs);

	if (page) {
		/* The frozen ones come without a reference. */
		init_page_count(page);
		__free_page(page);
	}
	regs_set_return_value(regs, 0);
	return 0;
}

static struct kretprobe probes[] = {
	{ .kp.symbol_name = "iommu_map", .entry_handler = map_begins, .handler = map_ends },
	{ .kp.symbol_name = "iommu_map_sg", .entry_handler = map_begins, .handler = map_ends },
	{ .entry_handler = alloc_begins, .handler = alloc_ends },
};

/*
 * The page allocator, the newest first: 6.10 renamed it ("mm: enable page allocation
 * tagging"), and later gave it a part without references, which is all that others call
 * ("mm/page_alloc: add __alloc_frozen_pages()").
 */
static const char *const allocators[] = {
	"__alloc_frozen_pages_noprof", "__alloc_pages_noprof", "__alloc_pages",
};

static int nth_set(const char *val, const struct kernel_param *kp)
{
	unsigned int n;
	int ret = kstrtouint(val, 0, &n);

	if (ret)
		return ret;
	/* Never followed, and a task that has gone does not map. */
	victim = current;
	nth = n;
	return 0;
}

static const struct kernel_param_ops nth_ops = {
	.set = nth_set,
	.get = param_get_uint,
};

module_param_cb(nth, &nth_ops, &nth, 0600);
MODULE_PARM_DESC(nth, "the nth table page that the writer's maps ask for cannot be had");

static int __init nomem_init(void)
{
	unsigned int i, registered;
	int ret = 0;

	for (registered = 0; registered < ARRAY_SIZE(probes) - 1; registered++) {
		ret = register_kretprobe(&probes[registered]);
		if (ret)
			goto unregister;
	}
	for (i = 0; i < ARRAY_SIZE(allocators); i++) {
		probes[registered].kp.symbol_name = allocators[i];
		ret = register_kretprobe(&probes[registered]);
		if (ret != -ENOENT)
			break;
	}
	if (!ret)
		return 0;
unregister:
	while (registered--)
		unregister_kretprobe(&probes[registered]);
	return ret;
}

static void __exit nomem_exit(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		unregister_kretprobe(&probes[i]);
}

module_init(nomem_init);
module_exit(nomem_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-type1 authors");
MODULE_DESCRIPTION("No memory for IOMMU page tables, for tests");
