// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a container looks like from outside: files below
 * /sys/kernel/debug/vfio_type1/, for root.  Their format, which has a version, is
 * in Documentation/debugfs.rst.
 *
 * Whoever maps and unmaps must not notice that somebody reads:
 *
 *  - The set of mappings is read under tree->lock, some mappings at a time, from
 *    an IOVA on.  What comes or goes meanwhile is seen or not.
 *  - A run list may be long.  Its mapping is made HELD, which excludes who would
 *    unmap it and nobody else, for as long as the list is read.
 *  - Counters are kept per CPU, and added up here.
 *
 * Files go before their container does: debugfs_remove() waits for whoever reads
 * one, and whoever still has one open finds nothing in it.
 */

#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>

#include "vfio_type1.h"

#define FORMAT_VERSION	1
/* Mappings looked at before tree->lock is dropped. */
#define TREE_STEP	256

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

/* ---- all mappings, step by step ---- */

typedef void (*mapping_fn_t)(const struct vfio_dma *dma, void *data);

/* Call @fn, which must not sleep, for each mapping. */
static void walk_mappings(struct vfio_dma_tree *tree, mapping_fn_t fn, void *data)
{
	struct vfio_dma *dma;
	u64 iova = 0;
	unsigned int n;

	do {
		spin_lock(&tree->lock);
		dma = vfio_dma_tree_first(tree, iova, U64_MAX);
		for (n = 0; dma && n < TREE_STEP; n++) {
			fn(dma, data);
			/* If it is the last byte of all, no mapping comes after it. */
			iova = dma->last + 1;
			dma = vfio_dma_tree_next(dma);
		}
		spin_unlock(&tree->lock);
		cond_resched();
	} while (dma);
}

/* ---- status ---- */

struct mapping_sums {
	unsigned long mappings;
	u64 bytes;
	unsigned long locked_pages;
};

static void sum_mapping(const struct vfio_dma *dma, void *data)
{
	struct mapping_sums *sums = data;

	sums->mappings++;
	sums->bytes += dma->last - dma->iova + 1;
	sums->locked_pages += READ_ONCE(dma->locked_vm);
}

static const char *container_type(const struct vfio_type1_container *container)
{
	if (container->nesting)
		return "nesting";
	if (container->strict)
		return "strict";
	return container->v2 ? "v2" : "v1";
}

/* Single words, which need no lock: nobody should wait for an attach here. */
static int status_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;
	struct mapping_sums sums = {};

	walk_mappings(&container->tree, sum_mapping, &sums);
	seq_printf(m, "type %s\n", container_type(container));
	seq_printf(m, "pid %d\n", container->opener_pid);
	seq_puts(m, "comm ");
	show_comm(m, container->opener_comm);
	seq_printf(m, "open_ms %llu\n",
		   (ktime_get_ns() - container->opened_ns) / NSEC_PER_MSEC);
	seq_printf(m, "mappings %lu\n", sums.mappings);
	seq_printf(m, "bytes %llu\n", sums.bytes);
	seq_printf(m, "locked_pages %lu\n", sums.locked_pages);
	seq_printf(m, "entry_limit %u\n", container->entry_limit);
	seq_printf(m, "entries_left %u\n", READ_ONCE(container->tree.avail));
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

static int domains_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;
	const struct iommu_domain_geometry *geometry;
	struct vfio_domain *domain;
	unsigned int nr = 0;
	char name[12];

	if (down_read_killable(&container->lock))
		return -EINTR;
	list_for_each_entry(domain, &container->domains, next) {
		geometry = &domain->domain->geometry;
		snprintf(name, sizeof(name), "%u", nr++);
		seq_printf(m, "domain %s pgsizes 0x%lx fgsp %d coherent %d first 0x%llx last 0x%llx\n",
			   name, domain->domain->pgsize_bitmap, domain->fgsp, domain->coherent,
			   (u64)geometry->aperture_start, (u64)geometry->aperture_end);
		show_groups(m, &domain->groups, name);
	}
	show_groups(m, &container->emulated, "-");
	up_read(&container->lock);
	return 0;
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

static int iova_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;
	const struct vfio_iova_set *iova = &container->iova;
	unsigned int i;
	int ret;

	if (down_read_killable(&container->lock))
		return -EINTR;
	/* In a container that never had a domain all are valid. */
	if (!iova->nr)
		seq_printf(m, "valid 0x0 0x%llx\n", U64_MAX);
	for (i = 0; i < iova->nr; i++)
		seq_printf(m, "valid 0x%llx 0x%llx\n", iova->ranges[i].first,
			   iova->ranges[i].last);
	ret = vfio_container_walk_cuts(container, show_cut, m);
	up_read(&container->lock);
	return ret;
}
DEFINE_SHOW_ATTRIBUTE(iova);

/* ---- mappings ---- */

/* Bytes of a run that pages of @size can hold, if the IOMMU has them. */
static u64 survey_fit(u64 iova, u64 phys, u64 bytes, u64 size, unsigned long pgsizes)
{
	u64 before = -iova & (size - 1);

	if (!(pgsizes & size) || (iova ^ phys) & (size - 1) || bytes < before)
		return 0;
	return ALIGN_DOWN(bytes - before, size);
}

static void survey_run(struct vfio_survey *survey, struct vfio_run run, u64 iova,
		       unsigned long pgsizes)
{
	u64 phys = PFN_PHYS(vfio_run_pfn(run)), bytes = PFN_PHYS(vfio_run_npages(run));
	u64 in_1g = survey_fit(iova, phys, bytes, SZ_1G, pgsizes);
	/* A page of 1 GiB is one that 2 MiB would fit into, too. */
	u64 in_2m = max(survey_fit(iova, phys, bytes, SZ_2M, pgsizes), in_1g) - in_1g;

	survey->runs++;
	survey->hist[ilog2(vfio_run_npages(run))]++;
	survey->bytes_1g += in_1g;
	survey->bytes_2m += in_2m;
	survey->bytes_4k += bytes - in_1g - in_2m;
}

/**
 * vfio_survey() - what does a run list amount to?
 * @runs: run list, which stays as it is
 * @iova: where its first page is mapped
 * @pgsizes: the IOMMU's page sizes, as a bitmap
 * @survey: set to the answer
 *
 * Context: may sleep.
 */
void vfio_survey(const struct vfio_runs *runs, u64 iova, unsigned long pgsizes,
		 struct vfio_survey *survey)
{
	const struct vfio_run *run, *end;
	struct vfio_runs_iter iter;

	*survey = (struct vfio_survey) {};
	vfio_runs_begin(runs, &iter);
	do {
		for (run = iter.at, end = run + iter.nr; run < end; run++) {
			survey_run(survey, *run, iova, pgsizes);
			iova += PFN_PHYS(vfio_run_npages(*run));
		}
		cond_resched();
	} while (vfio_runs_more(&iter));
}

/* The same for a mapping of registered memory, which has no run list of its own. */
static void survey_registered(const struct vfio_dma *dma, unsigned long pgsizes,
			      struct vfio_survey *survey)
{
	unsigned long page;
	struct vfio_run run;

	for (page = 0; page < dma->mapped; page += vfio_run_npages(run)) {
		run = vfio_map_region_run(dma, page);
		survey_run(survey, run, dma->iova + PFN_PHYS(page), pgsizes);
		cond_resched();
	}
}

/**
 * struct mappings_reader - an open mappings file
 * @container: the container, until its files are removed
 * @dma: copy of the mapping that is shown; only what needs no reference is used
 * @pid: thread group that mapped it
 * @region: vaddr of the registered memory that it is of; 0: none
 * @survey: of its runs, if it was LIVE, else empty
 */
struct mappings_reader {
	struct vfio_type1_container *container;
	struct vfio_dma dma;
	pid_t pid;
	unsigned long region;
	struct vfio_survey survey;
};

/* The first mapping from @iova on, whole, or what is KEPT of one. */
static struct vfio_dma *mappings_first(struct vfio_dma_tree *tree, u64 iova)
{
	struct vfio_dma *dma = vfio_dma_tree_first(tree, iova, U64_MAX);
	struct vfio_dma *kept = vfio_dma_tree_first_kept(tree, iova, U64_MAX);

	/* One that came after a part of it was shown. */
	if (dma && dma->iova < iova)
		dma = vfio_dma_tree_next(dma);
	if (kept && kept->iova < iova)
		kept = vfio_dma_tree_next(kept);
	return kept && (!dma || kept->iova < dma->iova) ? kept : dma;
}

/*
 * Take a look at the first mapping from @iova on.  Its pages and its run list are its
 * owner's, so they are read only if nobody owns it.
 */
static bool mappings_look(struct mappings_reader *reader, u64 iova)
{
	struct vfio_type1_container *container = reader->container;
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma;

	spin_lock(&tree->lock);
	dma = mappings_first(tree, iova);
	if (dma) {
		/* What may change meanwhile is read once more, or not used. */
		reader->dma = data_race(*dma);
		reader->dma.mapped = READ_ONCE(dma->mapped);
		reader->dma.locked_vm = READ_ONCE(dma->locked_vm);
		reader->pid = dma->owner.task->tgid;
		reader->region = 0;
		if (dma->state == VFIO_DMA_LIVE && dma->region)
			reader->region = dma->region->vaddr;
		if (dma->state == VFIO_DMA_LIVE)
			dma->state = VFIO_DMA_HELD;
	}
	spin_unlock(&tree->lock);
	if (!dma)
		return false;

	reader->survey = (struct vfio_survey) {};
	if (reader->dma.state != VFIO_DMA_LIVE)
		return true;
	if (dma->region)
		survey_registered(dma, container->pgsize_bitmap, &reader->survey);
	else
		vfio_survey(&dma->runs, dma->iova, container->pgsize_bitmap, &reader->survey);
	spin_lock(&tree->lock);
	vfio_dma_tree_settle(tree, dma);
	spin_unlock(&tree->lock);
	vfio_dma_tree_wake(tree);
	return true;
}

/*
 * seq_file's positions are page numbers of IOVA: where to look for the next mapping.
 * Between two mappings container->lock is not held.
 */
static void *mappings_at(struct mappings_reader *reader, loff_t *pos)
{
	struct rw_semaphore *lock = &reader->container->lock;
	bool found;

	/* For one mapping at a time: it may have very many runs. Who is killed reads no more. */
	if (*pos > U64_MAX >> PAGE_SHIFT || down_read_killable(lock))
		return NULL;
	found = mappings_look(reader, (u64)*pos << PAGE_SHIFT);
	up_read(lock);
	if (!found)
		return NULL;
	*pos = reader->dma.iova >> PAGE_SHIFT;
	return reader;
}

static void *mappings_start(struct seq_file *m, loff_t *pos)
{
	struct mappings_reader *reader = m->private;

	if (mutex_lock_killable(&reader->container->debugfs_lock))
		return ERR_PTR(-EINTR);
	return mappings_at(reader, pos);
}

static void *mappings_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct mappings_reader *reader = v;

	*pos = (reader->dma.last >> PAGE_SHIFT) + 1;
	return mappings_at(reader, pos);
}

static void mappings_stop(struct seq_file *m, void *v)
{
	struct mappings_reader *reader = m->private;

	if (!IS_ERR(v))
		mutex_unlock(&reader->container->debugfs_lock);
}

static int mappings_show(struct seq_file *m, void *v)
{
	static const char *const states[] = {
		[VFIO_DMA_PENDING] = "pending",
		[VFIO_DMA_LIVE] = "live",
		[VFIO_DMA_DYING] = "dying",
		[VFIO_DMA_KEPT] = "kept",
	};
	const struct mappings_reader *reader = v;
	const struct vfio_survey *survey = &reader->survey;
	const struct vfio_dma *dma = &reader->dma;
	unsigned int i;

	seq_printf(m, "mapping 0x%llx size %llu vaddr 0x%lx prot %s%s state %s pid %d",
		   (u64)dma->iova, (u64)(dma->last - dma->iova) + 1, dma->vaddr,
		   dma->prot & IOMMU_READ ? "r" : "", dma->prot & IOMMU_WRITE ? "w" : "",
		   states[dma->state], reader->pid);
	seq_printf(m, " pages %lu charged %lu runs %lu lost %d", dma->mapped, dma->locked_vm,
		   survey->runs,
		   dma->state == VFIO_DMA_LIVE && !dma->region && dma->runs.lost);
	seq_printf(m, " bytes_4k %llu bytes_2m %llu bytes_1g %llu hist", survey->bytes_4k,
		   survey->bytes_2m, survey->bytes_1g);
	for (i = 0; i < VFIO_SURVEY_CLASSES; i++)
		seq_printf(m, " %lu", survey->hist[i]);
	if (reader->region)
		seq_printf(m, " region 0x%lx", reader->region);
	seq_putc(m, '\n');
	return 0;
}

static const struct seq_operations mappings_seq = {
	.start = mappings_start,
	.next = mappings_next,
	.stop = mappings_stop,
	.show = mappings_show,
};

static int mappings_open(struct inode *inode, struct file *file)
{
	struct mappings_reader *reader = __seq_open_private(file, &mappings_seq, sizeof(*reader));

	if (!reader)
		return -ENOMEM;
	reader->container = inode->i_private;
	return 0;
}

static const struct file_operations mappings_fops = {
	.owner = THIS_MODULE,
	.open = mappings_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

/* ---- counters ---- */

static u64 counter_sum(const struct vfio_type1_container *container, enum vfio_count which)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(container->counters, cpu)->value[which]);
	return sum;
}

static int counters_show(struct seq_file *m, void *unused)
{
	static const char *const names[VFIO_COUNT_NR] = {
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
		[VFIO_COUNT_PIN_CYCLES] = "pin_ns",
		[VFIO_COUNT_MAP_CYCLES] = "map_ns",
		[VFIO_COUNT_UNMAP_CYCLES] = "unmap_ns",
	};
	struct vfio_type1_container *container = m->private;
	const char *name;
	unsigned int i;
	u64 sum;

	for (i = 0; i < VFIO_COUNT_NR; i++) {
		sum = counter_sum(container, i);
		if (i >= VFIO_COUNT_PIN_CYCLES)
			sum = vfio_container_ns(container, sum);
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

/* ---- registered memory ---- */

static void show_region(const struct vfio_region *region, void *data)
{
	struct seq_file *m = data;

	seq_printf(m, "region 0x%lx size %llu prot %s pid %d registered %lu mappings %u charged %lu marked %u kept %d\n",
		   region->vaddr, PFN_PHYS(region->npages), region->read_only ? "r" : "rw",
		   region->owner.task->tgid, READ_ONCE(region->registered),
		   vfio_region_mappings(region), region->locked_vm,
		   READ_ONCE(region->nr_marked), READ_ONCE(region->kept));
}

static int regions_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;

	if (down_read_killable(&container->lock))
		return -EINTR;
	vfio_registry_for_each(container, show_region, m);
	up_read(&container->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(regions);

/* ---- progress ---- */

/* A PENDING mapping keeps its owner: that changes with container->lock held for write. */
static void show_progress(const struct vfio_dma *dma, void *data)
{
	struct seq_file *m = data;
	const struct vfio_type1_container *container = m->private;
	char comm[TASK_COMM_LEN];

	if (dma->state != VFIO_DMA_PENDING)
		return;
	seq_printf(m, "map 0x%llx size %llu done %llu ms %llu pid %d comm ", (u64)dma->iova,
		   (u64)(dma->last - dma->iova) + 1, PFN_PHYS(READ_ONCE(dma->mapped)),
		   vfio_container_ns(container, vfio_clock_since(dma->begun)) / NSEC_PER_MSEC,
		   dma->owner.task->tgid);
	get_task_comm(comm, dma->owner.task);
	show_comm(m, comm);
}

static int progress_show(struct seq_file *m, void *unused)
{
	struct vfio_type1_container *container = m->private;

	walk_mappings(&container->tree, show_progress, m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(progress);

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
 * Return: 0, or -ENOMEM.
 */
int vfio_debugfs_add(struct vfio_type1_container *container)
{
	struct dentry *dir;
	char name[24];

	mutex_init(&container->debugfs_lock);
	container->counters = alloc_percpu_gfp(struct vfio_counters, GFP_KERNEL_ACCOUNT);
	if (!container->counters)
		return -ENOMEM;
	if (!debugfs_root)
		return 0;

	snprintf(name, sizeof(name), "%llu", container->id);
	dir = create_dir(name, debugfs_root);
	debugfs_create_file("status", 0400, dir, container, &status_fops);
	debugfs_create_file("domains", 0400, dir, container, &domains_fops);
	debugfs_create_file("iova", 0400, dir, container, &iova_fops);
	debugfs_create_file("mappings", 0400, dir, container, &mappings_fops);
	debugfs_create_file("regions", 0400, dir, container, &regions_fops);
	debugfs_create_file("counters", 0400, dir, container, &counters_fops);
	debugfs_create_file("progress", 0400, dir, container, &progress_fops);
	container->debugfs = dir;
	return 0;
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
