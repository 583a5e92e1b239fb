// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a container looks like from outside: files below
 * /sys/kernel/debug/vfio_type1/, for root.  Their format, which has a version, is
 * in Documentation/debugfs.rst.
 *
 * Whoever maps and unmaps must not notice that somebody reads:
 *
 *  - What grows with the number of mappings or regions is read in steps: one step per
 *    lock, and the next one from the address after it.  What comes or goes meanwhile
 *    is seen or not.
 *  - A run list may be long.  Its mapping is made HELD, which excludes who would
 *    unmap it and nobody else, for as long as the list is read.
 *  - Sums are kept, not counted: per CPU, or with the set of mappings.
 *
 * Nor must a reader hang because somebody holds a lock for as long as he likes: after a
 * second it says that the container is busy, and its file ends.
 *
 * Files go before their container does: debugfs_remove() waits for whoever reads
 * one, and whoever still has one open finds nothing in it.
 */

#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>

#include "vfio_count.h"
#include "vfio_cut.h"
#include "vfio_debugfs.h"
#include "vfio_debugfs_files.h"
#include "vfio_dma_tree.h"
#include "vfio_domain.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_refuse.h"
#include "vfio_type1.h"

#define FORMAT_VERSION	1
/* Mappings looked at before tree->lock is dropped. */
#define TREE_STEP	16

/* NULL without vfio_debugfs_init(), as in the KUnit module. */
static struct dentry *debugfs_root;

/* A process may have any name: it must not look like a line of ours, or steer a terminal. */
static void show_comm(struct seq_file *m, const char *comm)
{
	for (; *comm; comm++)
		seq_putc(m, isascii(*comm) && isprint(*comm) ? *comm : '?');
	seq_putc(m, '\n');
}

static int version_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%d\n", FORMAT_VERSION);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(version);

/* ---- status ---- */

static const char *container_type(const struct vfio_type1_container *container)
{
	if (container->nesting)
		return "nesting";
	if (container->strict)
		return "strict";
	return container->v2 ? "v2" : "v1";
}

/* Single words, which need no lock. */
static int status_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;
	s64 locked = vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES);
	unsigned int avail = READ_ONCE(container->tree.avail);

	seq_printf(m, "type %s\n", container_type(container));
	seq_printf(m, "pid %d\n", container->opener_pid);
	seq_puts(m, "comm ");
	show_comm(m, container->opener_comm);
	seq_printf(m, "open_ms %llu\n",
		   (ktime_get_ns() - container->opened_ns) / NSEC_PER_MSEC);
	seq_printf(m, "mappings %u\n", container->entry_limit - avail);
	seq_printf(m, "bytes %llu\n", READ_ONCE(container->tree.bytes));
	seq_printf(m, "locked_pages %lld\n", max_t(s64, locked, 0));
	seq_printf(m, "entry_limit %u\n", container->entry_limit);
	seq_printf(m, "entries_left %u\n", avail);
	seq_printf(m, "pgsizes 0x%lx\n", READ_ONCE(container->pgsize_bitmap));
	seq_printf(m, "dirty_tracking %d\n", READ_ONCE(container->dirty_tracking));
	seq_printf(m, "vaddr_invalid %u\n", READ_ONCE(container->tree.vaddr_invalid));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(status);

/* ---- domains ---- */

struct device_line {
	struct seq_file *m;
	int group;
};

static int show_device(struct device *dev, void *data)
{
	const struct device_line *line = data;

	seq_printf(line->m, "device %s group %d\n", dev_name(dev), line->group);
	return 0;
}

static void show_groups(struct seq_file *m, const struct list_head *groups, const char *domain)
{
	struct device_line line = { .m = m };
	struct vfio_group_entry *entry;

	list_for_each_entry(entry, groups, next) {
		line.group = iommu_group_id(entry->group);
		seq_printf(m, "group %d domain %s pins_only %d\n", line.group, domain,
			   READ_ONCE(entry->pins_only));
		iommu_group_for_each_dev(entry->group, &line, show_device);
	}
}

static int show_domains(struct seq_file *m, struct vfio_type1_container *container)
{
	const struct iommu_domain_geometry *geometry;
	struct vfio_domain *domain;
	unsigned int nr = 0;
	char name[12];

	list_for_each_entry(domain, &container->domains, next) {
		geometry = &domain->domain->geometry;
		snprintf(name, sizeof(name), "%u", nr++);
		seq_printf(m, "domain %s pgsizes 0x%lx fgsp %d coherent %d first 0x%llx last 0x%llx\n",
			   name, domain->domain->pgsize_bitmap, domain->fgsp, domain->coherent,
			   (u64)geometry->aperture_start, (u64)geometry->aperture_end);
		show_groups(m, &domain->groups, name);
	}
	show_groups(m, &container->emulated, "-");
	return 0;
}

static int domains_show(struct seq_file *m, void *unused)
{
	return vfio_debugfs_show_locked(m, show_domains);
}
DEFINE_SHOW_ATTRIBUTE(domains);

/* ---- iova ---- */

static int show_cut(const struct vfio_iova_cut *cut, void *data)
{
	static const char *const names[] = {
		[VFIO_CUT_APERTURE] = "aperture domain",
		[VFIO_CUT_DIRECT] = "direct group",
		[VFIO_CUT_RESERVED] = "reserved group",
		[VFIO_CUT_MSI] = "msi group",
		[VFIO_CUT_SW_MSI] = "sw-msi group",
	};

	seq_printf(data, "cut 0x%llx 0x%llx %s %d\n", cut->range.first, cut->range.last,
		   names[cut->kind], cut->nr);
	return 0;
}

static int show_iova(struct seq_file *m, struct vfio_type1_container *container)
{
	const struct vfio_iova_set *iova = &container->iova;
	unsigned int i;

	/* In a container that never had a domain all are valid. */
	if (!iova->nr)
		seq_printf(m, "valid 0x0 0x%llx\n", U64_MAX);
	for (i = 0; i < iova->nr; i++)
		seq_printf(m, "valid 0x%llx 0x%llx\n", iova->ranges[i].first,
			   iova->ranges[i].last);
	return vfio_cut_walk(container, show_cut, m);
}

static int iova_show(struct seq_file *m, void *unused)
{
	return vfio_debugfs_show_locked(m, show_iova);
}
DEFINE_SHOW_ATTRIBUTE(iova);

/* ---- counters ---- */

static int counters_show(struct seq_file *m, void *unused)
{
	static const char *const names[VFIO_COUNT_LOCKED_PAGES] = {
		[VFIO_COUNT_MAPS] = "maps",
		[VFIO_COUNT_UNMAPS] = "unmaps",
		[VFIO_COUNT_MAPPED_PAGES] = "mapped_pages",
		[VFIO_COUNT_UNMAPPED_PAGES] = "unmapped_pages",
		[VFIO_COUNT_PIN_CALLS] = "pin_calls",
		[VFIO_COUNT_PINNED_PAGES] = "pinned_pages",
		[VFIO_COUNT_IOMMU_MAPS] = "iommu_maps",
		[VFIO_COUNT_IOMMU_UNMAPS] = "iommu_unmaps",
		[VFIO_COUNT_SYNCS] = "syncs",
		[VFIO_COUNT_WINDOWS] = "windows",
		[VFIO_COUNT_ATTACHES] = "attaches",
		[VFIO_COUNT_DETACHES] = "detaches",
		[VFIO_COUNT_FLUSHED_PAGES] = "flushed_pages",
		[VFIO_COUNT_PIN_CYCLES] = "pin_ns",
		[VFIO_COUNT_MAP_CYCLES] = "map_ns",
		[VFIO_COUNT_UNMAP_CYCLES] = "unmap_ns",
	};
	struct vfio_type1_container *container = m->private;
	const char *name;
	unsigned int i;
	u64 sum;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		sum = vfio_count_sum(container, i);
		if (i >= VFIO_COUNT_PIN_CYCLES)
			sum = vfio_count_ns(container, sum);
		seq_printf(m, "%s %llu\n", names[i], sum);
	}
	for (i = 0; i < VFIO_REFUSE_NR; i++) {
		seq_puts(m, "refused_");
		for (name = vfio_refusal_names[i]; *name; name++)
			seq_putc(m, *name == '-' ? '_' : *name);
		seq_printf(m, " %ld\n", atomic_long_read(&container->refused[i]));
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

/* ---- progress ---- */

/* A PENDING mapping keeps its owner: that changes with container->lock held for write. */
static void show_progress(struct seq_file *m, const struct vfio_dma *dma)
{
	const struct vfio_type1_container *container = m->private;
	char comm[TASK_COMM_LEN];

	if (dma->state != VFIO_DMA_PENDING)
		return;
	seq_printf(m, "map 0x%llx size %llu done %llu ms %llu pid %d comm ", (u64)dma->iova,
		   (u64)(dma->last - dma->iova) + 1, PFN_PHYS(READ_ONCE(dma->mapped)),
		   vfio_count_ns(container, vfio_clock_since(dma->begun)) / NSEC_PER_MSEC,
		   dma->owner.task->tgid);
	get_task_comm(comm, dma->owner.task);
	show_comm(m, comm);
}

static int progress_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma;
	unsigned int n;
	u64 iova = 0;

	do {
		spin_lock(&tree->lock);
		dma = vfio_dma_tree_first(tree, iova, U64_MAX);
		for (n = 0; dma && n < TREE_STEP; n++) {
			show_progress(m, dma);
			/* If it is the last byte of all, no mapping comes after it. */
			iova = dma->last + 1;
			dma = vfio_dma_tree_next(dma);
		}
		spin_unlock(&tree->lock);
		cond_resched();
	} while (dma && !fatal_signal_pending(current));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(progress);

/* ---- all containers ---- */

static int lost_mappings_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%lu\n", vfio_count_lost_sum());
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(lost_mappings);

/* ---- directories ---- */

/* Only for root, whatever those above it are. */
static struct dentry *create_dir(const char *name, struct dentry *parent)
{
	struct dentry *dir = debugfs_create_dir(name, parent);

	if (!IS_ERR(dir))
		d_inode(dir)->i_mode &= ~0077;
	return dir;
}

/**
 * vfio_debugfs_init() - make the directory of all containers
 *
 * If that fails, there are just no files.
 *
 * Context: process context.
 */
void vfio_debugfs_init(void)
{
	debugfs_root = create_dir("vfio_type1", NULL);
	debugfs_create_file("version", 0400, debugfs_root, NULL, &version_fops);
	debugfs_create_file("lost_mappings", 0400, debugfs_root, NULL, &lost_mappings_fops);
}

/**
 * vfio_debugfs_exit() - remove the directory
 *
 * Context: process context; there is no container any more.
 */
void vfio_debugfs_exit(void)
{
	debugfs_remove(debugfs_root);
	debugfs_root = NULL;
}

/**
 * vfio_debugfs_add() - show a container
 * @container: a new container
 *
 * Context: process context.
 */
void vfio_debugfs_add(struct vfio_type1_container *container)
{
	struct dentry *dir;
	char name[24];

	mutex_init(&container->debugfs_lock);
	if (!debugfs_root)
		return;

	snprintf(name, sizeof(name), "%llu", container->id);
	dir = create_dir(name, debugfs_root);
	debugfs_create_file("status", 0400, dir, container, &status_fops);
	debugfs_create_file("domains", 0400, dir, container, &domains_fops);
	debugfs_create_file("iova", 0400, dir, container, &iova_fops);
	debugfs_create_file("mappings", 0400, dir, container, &vfio_debugfs_mappings_fops);
	debugfs_create_file("regions", 0400, dir, container, &vfio_debugfs_regions_fops);
	debugfs_create_file("counters", 0400, dir, container, &counters_fops);
	debugfs_create_file("progress", 0400, dir, container, &progress_fops);
	container->debugfs = dir;
}

/**
 * vfio_debugfs_remove() - hide a container
 * @container: the container; afterwards nobody reads it
 *
 * Context: may sleep; container->lock not held, as readers take it.
 */
void vfio_debugfs_remove(struct vfio_type1_container *container)
{
	debugfs_remove(container->debugfs);
}
