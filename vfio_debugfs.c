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
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>

#include "vfio_type1.h"

#define FORMAT_VERSION	1
/* Mappings looked at before tree->lock is dropped. */
#define TREE_STEP	16
/* For how long, in ticks, who reads a file waits for locks in all. */
#define PATIENCE	HZ

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

/* ---- locks that somebody may hold for long ---- */

static bool try_lock(struct vfio_type1_container *container)
{
	return down_read_trylock(&container->lock);
}

/* The same, and the lock of the regions, if there are any. */
static bool try_regions(struct vfio_type1_container *container)
{
	if (!try_lock(container))
		return false;
	if (!container->registry || down_read_trylock(&container->registry->lock))
		return true;
	up_read(&container->lock);
	return false;
}

static bool try_turn(struct vfio_type1_container *container)
{
	return mutex_trylock(&container->debugfs_lock);
}

/*
 * Take a lock by @try: there is no down_read() that gives up.  Return: 0; -EBUSY once
 * @patience, which waiting takes away from, is gone; -EINTR on a fatal signal.
 */
static int wait_for(bool (*try)(struct vfio_type1_container *container),
		    struct vfio_type1_container *container, unsigned long *patience)
{
	unsigned long begun;

	while (!try(container)) {
		if (!*patience)
			return -EBUSY;
		begun = jiffies;
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
		*patience -= min(*patience, jiffies - begun);
	}
	return 0;
}

static int say_busy(struct seq_file *m)
{
	seq_puts(m, "busy\n");
	return 0;
}

/* Show what fits into one look under container->lock. */
static int show_locked(struct seq_file *m,
		       int (*show)(struct seq_file *m, struct vfio_type1_container *container))
{
	struct vfio_type1_container *container = m->private;
	unsigned long patience = PATIENCE;
	int ret = wait_for(try_lock, container, &patience);

	if (ret)
		return ret == -EBUSY ? say_busy(m) : ret;
	ret = show(m, container);
	up_read(&container->lock);
	return ret;
}

/* ---- files that are read step by step ---- */

/**
 * struct steps - an open file with a line for each of many things, by address
 * @container: the container, until its files are removed
 * @look: take a look at the first thing that begins at @from or after it, and set @first
 *	and @last; returns 1, 0 if there is none, -EBUSY, or -EINTR
 * @patience: ticks that it may still wait for locks
 * @left: lines that it may still show: as many as there may be things at a time
 * @busy: it could not have a lock: that is the last line
 * @first: first byte of the thing that is shown
 * @last: last byte
 */
struct steps {
	struct vfio_type1_container *container;
	int (*look)(struct steps *steps, u64 from);
	unsigned long patience;
	unsigned int left;
	bool busy;
	u64 first;
	u64 last;
};

/*
 * seq_file's positions are page numbers: where to look for the next thing.  Between two
 * of them no lock is held.
 */
#define POS_MAX	((loff_t)(U64_MAX >> PAGE_SHIFT))

static void *steps_at(struct steps *steps, loff_t *pos)
{
	int ret;

	if (*pos > POS_MAX)
		return NULL;
	ret = steps->look(steps, (u64)*pos << PAGE_SHIFT);
	steps->busy = ret == -EBUSY;
	if (steps->busy)
		return steps;
	if (ret <= 0)
		return ERR_PTR(ret);
	*pos = steps->first >> PAGE_SHIFT;
	return steps;
}

static void *steps_start(struct seq_file *m, loff_t *pos)
{
	struct steps *steps = m->private;

	if (!*pos) {
		steps->patience = PATIENCE;
		steps->left = max_t(unsigned int, steps->container->entry_limit, U16_MAX);
	}
	return steps_at(steps, pos);
}

static void *steps_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct steps *steps = v;

	*pos = steps->busy ? POS_MAX + 1 : (loff_t)(steps->last >> PAGE_SHIFT) + 1;
	/* Who makes new ones ahead of the reader does not keep it for ever. */
	if (!steps->left || !--steps->left)
		*pos = POS_MAX + 1;
	return steps_at(steps, pos);
}

static void steps_stop(struct seq_file *m, void *v)
{
}

/* @size bytes are the file's own, and begin with struct steps. */
static int steps_open(struct inode *inode, struct file *file, const struct seq_operations *ops,
		      int size, int (*look)(struct steps *steps, u64 from))
{
	struct steps *steps = __seq_open_private(file, ops, size);

	if (!steps)
		return -ENOMEM;
	steps->container = inode->i_private;
	steps->look = look;
	return 0;
}

/* ---- status ---- */

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

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu_ptr(container->counters, cpu)->value[which]);
	return sum;
}

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
	return show_locked(m, show_domains);
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
	return vfio_container_walk_cuts(container, show_cut, m);
}

static int iova_show(struct seq_file *m, void *unused)
{
	return show_locked(m, show_iova);
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
 * @steps: how it is read
 * @dma: copy of the mapping that is shown; only what needs no reference is used
 * @pid: thread group that mapped it
 * @region: vaddr of the registered memory that it is of; 0: none
 * @survey: of its runs, if it was LIVE, else empty
 */
struct mappings_reader {
	struct steps steps;
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
 * Take a look at the first mapping from @iova on, with both locks held.  Its pages and its
 * run list are its owner's, so they are read only if nobody owns it.
 */
static bool mappings_find(struct mappings_reader *reader, u64 iova)
{
	struct vfio_type1_container *container = reader->steps.container;
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

/* One mapping: it may have very many runs. */
static int mappings_look(struct steps *steps, u64 from)
{
	struct mappings_reader *reader = container_of(steps, struct mappings_reader, steps);
	struct vfio_type1_container *container = steps->container;
	bool found = false;
	int ret;

	ret = wait_for(try_turn, container, &steps->patience);
	if (ret)
		return ret;
	ret = wait_for(try_lock, container, &steps->patience);
	if (!ret) {
		found = mappings_find(reader, from);
		up_read(&container->lock);
	}
	mutex_unlock(&container->debugfs_lock);
	if (!found)
		return ret;
	steps->first = reader->dma.iova;
	steps->last = reader->dma.last;
	return 1;
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

	if (reader->steps.busy)
		return say_busy(m);
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
	.start = steps_start,
	.next = steps_next,
	.stop = steps_stop,
	.show = mappings_show,
};

static int mappings_open(struct inode *inode, struct file *file)
{
	BUILD_BUG_ON(offsetof(struct mappings_reader, steps));
	return steps_open(inode, file, &mappings_seq, sizeof(struct mappings_reader),
			  mappings_look);
}

static const struct file_operations mappings_fops = {
	.owner = THIS_MODULE,
	.open = mappings_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

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

/**
 * struct regions_reader - an open regions file
 * @steps: how it is read
 * @view: the region that is shown
 */
struct regions_reader {
	struct steps steps;
	struct vfio_region_view view;
};

static int regions_look(struct steps *steps, u64 from)
{
	struct regions_reader *reader = container_of(steps, struct regions_reader, steps);
	struct vfio_region_view *view = &reader->view;
	struct vfio_type1_container *container = steps->container;
	bool found;
	int ret;

	ret = wait_for(try_regions, container, &steps->patience);
	if (ret)
		return ret;
	found = vfio_registry_look(container, from, view);
	if (container->registry)
		up_read(&container->registry->lock);
	up_read(&container->lock);
	if (!found)
		return 0;
	steps->first = view->vaddr;
	steps->last = view->vaddr + (view->npages << PAGE_SHIFT) - 1;
	return 1;
}

static int regions_show(struct seq_file *m, void *v)
{
	const struct regions_reader *reader = v;
	const struct vfio_region_view *view = &reader->view;

	if (reader->steps.busy)
		return say_busy(m);
	seq_printf(m, "region 0x%lx size %llu prot %s pid %d registered %lu mappings %u charged %lu marked %u kept %d\n",
		   view->vaddr, PFN_PHYS(view->npages), view->read_only ? "r" : "rw", view->pid,
		   view->registered, view->mappings, view->locked_vm, view->nr_marked, view->kept);
	return 0;
}

static const struct seq_operations regions_seq = {
	.start = steps_start,
	.next = steps_next,
	.stop = steps_stop,
	.show = regions_show,
};

static int regions_open(struct inode *inode, struct file *file)
{
	BUILD_BUG_ON(offsetof(struct regions_reader, steps));
	return steps_open(inode, file, &regions_seq, sizeof(struct regions_reader), regions_look);
}

static const struct file_operations regions_fops = {
	.owner = THIS_MODULE,
	.open = regions_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

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
		   vfio_container_ns(container, vfio_clock_since(dma->begun)) / NSEC_PER_MSEC,
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

static atomic_long_t lost_mappings = ATOMIC_LONG_INIT(0);

/**
 * vfio_debugfs_lost() - count mappings that nobody had asked to remove
 * @nr: how many went with the last group of a container, and so, mostly, with the container
 *
 * Context: any.
 */
void vfio_debugfs_lost(unsigned long nr)
{
	atomic_long_add(nr, &lost_mappings);
}

static int lost_mappings_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%ld\n", atomic_long_read(&lost_mappings));
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
