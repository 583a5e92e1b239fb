// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of a container with a line for each of many things: its mappings, and the memory
 * that its process has registered.  They are read step by step.
 */

#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>

#include "vfio_debugfs_files.h"
#include "vfio_dma_tree.h"
#include "vfio_region.h"
#include "vfio_registry.h"
#include "vfio_survey.h"
#include "vfio_type1.h"

/* For how long, in ticks, who reads a file waits for locks in all. */
#define PATIENCE	HZ

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

/**
 * vfio_debugfs_show_locked() - show what fits into one look under container->lock
 * @m: an open file of a container
 * @show: shows it, with the lock held
 *
 * Context: may sleep; takes container->lock.
 * Return: 0, or -EINTR on a fatal signal.
 */
int vfio_debugfs_show_locked(struct seq_file *m,
			     int (*show)(struct seq_file *m,
					 struct vfio_type1_container *container))
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

/* ---- mappings ---- */

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
	vfio_survey_mapping(dma, container->pgsize_bitmap, &reader->survey);
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

const struct file_operations vfio_debugfs_mappings_fops = {
	.owner = THIS_MODULE,
	.open = mappings_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

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

const struct file_operations vfio_debugfs_regions_fops = {
	.owner = THIS_MODULE,
	.open = regions_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};
