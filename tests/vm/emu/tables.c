// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether VT-d before 7.0 flushes all IOVA that a page table translated, and without the hint
 * that no table changed, before it frees one that unmapping emptied; and whether a map frees
 * one, which it does before it flushes.
 *
 * Who writes to the parameter watch has the calls that it makes from then on watched, and
 * each of the others is zero again:
 *
 *  - freed: page tables that were freed
 *  - early: of them, those that were freed before such a flush
 *  - replaced: of these, those that a map freed
 *  - flushes: flushes of the IOTLB
 *  - hinted: of them, those with the hint
 *
 * Whose a table is: it came to the driver's list of what to free in a certain call of unmap,
 * and is one of some that translated all of the call's IOVA.
 */

#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#define TABLES_MAX	2048
/* Of qi_flush_iotlb(): only some pages, and the hint in their address. */
#define TYPE_PAGES	(3ULL << 60)
#define HINT		BIT(6)

/* A table that is in the list, and the IOVA of the call that put it there, inclusive. */
struct table {
	struct page *page;
	u64 first;
	u64 last;
	bool flushed;
};

/* A call of unmap. */
struct call {
	const struct iommu_iotlb_gather *gather;
	u64 first;
	u64 last;
};

static struct task_struct *victim;
static struct call *running;
static bool mapping;
/* The last page that the map which runs has got. */
static struct page *newest;
static struct table tables[TABLES_MAX];
static unsigned int nr_tables;
static unsigned int freed, early, replaced, flushes, hinted;

static struct table *table_find(const struct page *page)
{
	unsigned int i;

	for (i = 0; i < nr_tables; i++)
		if (tables[i].page == page)
			return &tables[i];
	return NULL;
}

/* Tables that are new in the list are those of the call that runs. */
static void tables_learn(void)
{
	/* Later kernels have a structure with only that in it. */
	const struct list_head *list = (const struct list_head *)&running->gather->freelist;
	struct page *page;

	list_for_each_entry(page, list, lru) {
		if (table_find(page))
			continue;
		if (WARN_ON_ONCE(nr_tables == TABLES_MAX))
			return;
		tables[nr_tables++] = (struct table) { page, running->first, running->last };
	}
}

/* size_t intel_iommu_unmap_pages(domain, iova, pgsize, pgcount, gather) */
static int unmap_begins(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct call *call = (struct call *)ri->data;

	if (current != victim)
		return 1;
	call->first = regs_get_kernel_argument(regs, 1);
	call->last = call->first - 1 +
		     regs_get_kernel_argument(regs, 2) * regs_get_kernel_argument(regs, 3);
	call->gather = (const struct iommu_iotlb_gather *)regs_get_kernel_argument(regs, 4);
	running = call;
	return 0;
}

static int unmap_ends(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	tables_learn();
	running = NULL;
	return 0;
}

/* void intel_iommu_tlb_sync(domain, gather): maybe from within a call, with its tables. */
static int sync_begins(struct kprobe *kp, struct pt_regs *regs)
{
	if (current == victim && running)
		tables_learn();
	return 0;
}

/* int intel_iommu_map_pages(...) */
static int map_begins(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (current != victim)
		return 1;
	mapping = true;
	newest = NULL;
	return 0;
}

static int map_ends(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	mapping = false;
	return 0;
}

static void flushed(u64 first, u64 last, bool hint)
{
	unsigned int i;

	flushes++;
	hinted += hint;
	for (i = 0; i < nr_tables; i++)
		if (!hint && first <= tables[i].first && tables[i].last <= last)
			tables[i].flushed = true;
}

/* void cache_tag_flush_range(domain, start, end, ih) */
static int range_flush_begins(struct kprobe *kp, struct pt_regs *regs)
{
	if (current == victim)
		flushed(regs_get_kernel_argument(regs, 1), regs_get_kernel_argument(regs, 2),
			(int)regs_get_kernel_argument(regs, 3));
	return 0;
}

/* void qi_flush_iotlb(iommu, did, addr, size_order, type) */
static int qi_flush_begins(struct kprobe *kp, struct pt_regs *regs)
{
	u64 addr = regs_get_kernel_argument(regs, 2);
	u64 mask = (PAGE_SIZE << (unsigned int)regs_get_kernel_argument(regs, 3)) - 1;

	if (current != victim)
		return 0;
	if (regs_get_kernel_argument(regs, 4) == TYPE_PAGES)
		flushed(addr & ~mask, addr | mask, addr & HINT);
	else
		flushed(0, U64_MAX, false);
	return 0;
}

/* The event mm_page_alloc. */
static void page_allocated(void *data, struct page *page, unsigned int order, gfp_t gfp,
			   int migratetype)
{
	if (current == victim && mapping && in_task())
		newest = page;
}

/* The event mm_page_free. */
static void page_freed(void *data, struct page *page, unsigned int order)
{
	struct table *table;

	/* Not what an interrupt frees. */
	if (current != victim || !in_task())
		return;
	if (mapping) {
		/* What the map, or nomem.c for it, gives back was no table yet. */
		if (page == newest)
			return;
		freed++;
		early++;
		replaced++;
		return;
	}
	table = table_find(page);
	if (!table)
		return;
	freed++;
	early += !table->flushed;
	*table = tables[--nr_tables];
}

static struct kretprobe unmap_probe = {
	.kp.symbol_name = "intel_iommu_unmap_pages",
	.entry_handler = unmap_begins,
	.handler = unmap_ends,
	.data_size = sizeof(struct call),
};

static struct kretprobe map_probe = {
	.kp.symbol_name = "intel_iommu_map_pages",
	.entry_handler = map_begins,
	.handler = map_ends,
};

static struct kprobe sync_probe = {
	.symbol_name = "intel_iommu_tlb_sync",
	.pre_handler = sync_begins,
};

/* The newest first. */
static struct kprobe flush_probes[] = {
	{ .symbol_name = "cache_tag_flush_range", .pre_handler = range_flush_begins },
	{ .symbol_name = "qi_flush_iotlb", .pre_handler = qi_flush_begins },
};

static struct kprobe *flush_probe;
static struct tracepoint *alloc_event, *free_event;

static int watch_set(const char *val, const struct kernel_param *kp)
{
	nr_tables = 0;
	running = NULL;
	freed = 0;
	early = 0;
	replaced = 0;
	mapping = false;
	flushes = 0;
	hinted = 0;
	/* Never followed, and a task that has gone does not unmap. */
	victim = current;
	return 0;
}

static const struct kernel_param_ops watch_ops = {
	.set = watch_set,
};

module_param_cb(watch, &watch_ops, NULL, 0200);
MODULE_PARM_DESC(watch, "watch the writer's calls from now on");
module_param(freed, uint, 0400);
MODULE_PARM_DESC(freed, "page tables freed");
module_param(early, uint, 0400);
MODULE_PARM_DESC(early, "page tables freed before their IOVA were flushed");
module_param(replaced, uint, 0400);
MODULE_PARM_DESC(replaced, "page tables freed by a map, before a flush");
module_param(flushes, uint, 0400);
MODULE_PARM_DESC(flushes, "flushes of the IOTLB");
module_param(hinted, uint, 0400);
MODULE_PARM_DESC(hinted, "flushes that said that no table changed");

static void find_event(struct tracepoint *tp, void *data)
{
	if (!strcmp(tp->name, "mm_page_free"))
		free_event = tp;
	if (!strcmp(tp->name, "mm_page_alloc"))
		alloc_event = tp;
}

static int __init tables_init(void)
{
	unsigned int i;
	int ret;

	for_each_kernel_tracepoint(find_event, NULL);
	if (!alloc_event || !free_event)
		return -ENOENT;
	for (i = 0; i < ARRAY_SIZE(flush_probes); i++) {
		ret = register_kprobe(&flush_probes[i]);
		if (ret != -ENOENT)
			break;
	}
	if (ret)
		return ret;
	flush_probe = &flush_probes[i];
	ret = register_kprobe(&sync_probe);
	if (ret)
		goto unregister_flush;
	ret = register_kretprobe(&unmap_probe);
	if (ret)
		goto unregister_sync;
	ret = register_kretprobe(&map_probe);
	if (ret)
		goto unregister_unmap;
	ret = tracepoint_probe_register(alloc_event, page_allocated, NULL);
	if (ret)
		goto unregister_map;
	ret = tracepoint_probe_register(free_event, page_freed, NULL);
	if (!ret)
		return 0;

	tracepoint_probe_unregister(alloc_event, page_allocated, NULL);
	tracepoint_synchronize_unregister();
unregister_map:
	unregister_kretprobe(&map_probe);
unregister_unmap:
	unregister_kretprobe(&unmap_probe);
unregister_sync:
	unregister_kprobe(&sync_probe);
unregister_flush:
	unregister_kprobe(flush_probe);
	return ret;
}

static void __exit tables_exit(void)
{
	tracepoint_probe_unregister(free_event, page_freed, NULL);
	tracepoint_probe_unregister(alloc_event, page_allocated, NULL);
	tracepoint_synchronize_unregister();
	unregister_kretprobe(&map_probe);
	unregister_kretprobe(&unmap_probe);
	unregister_kprobe(&sync_probe);
	unregister_kprobe(flush_probe);
}

module_init(tables_init);
module_exit(tables_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-type1 authors");
MODULE_DESCRIPTION("When VT-d frees page tables, for tests");
