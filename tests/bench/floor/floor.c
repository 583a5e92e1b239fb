// SPDX-License-Identifier: GPL-2.0-only
/*
 * The least that mapping and unmapping user memory for a device can cost: pin in
 * the largest batches, one iommu_map() per run, where runs are known; one
 * iommu_unmap_fast() for all, one sync, one unpin per run. No accounting, no
 * checks, no locks, no bookkeeping. The benchmark measures ours against this.
 *
 * The IOMMU domain is a real one, with the VM's e1000e in it, which has no driver.
 *
 * One user at a time. If something fails, the benchmark is over: nothing is undone.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat/iommu.h"
#include "floor.h"

#define FLOOR_BATCH	SZ_64K	/* pages pinned per call */
#define FLOOR_RUNS	SZ_128K	/* that can be known */
#define FLOOR_PROT	(IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE)

struct floor_run {
	phys_addr_t phys;
	unsigned long npages;
};

/**
 * struct floor - all there is
 * @pdev: a device without a driver
 * @group: its group
 * @domain: that the group is in
 * @pages: result of GUP
 * @runs: runs known
 * @nr: how many
 * @mapped: how many were mapped, from the first on
 * @unmapped: how many of these were unmapped
 */
static struct floor {
	struct pci_dev *pdev;
	struct iommu_group *group;
	struct iommu_domain *domain;
	struct page **pages;
	struct floor_run *runs;
	unsigned long nr;
	unsigned long mapped;
	unsigned long unmapped;
} floor;

/* Know @npages pinned pages; the first run not before run @first. */
static void floor_cut(unsigned long first, unsigned long npages)
{
	unsigned long i;

	for (i = 0; i < npages; i++) {
		struct floor_run *last = &floor.runs[floor.nr - 1];
		phys_addr_t phys = page_to_phys(floor.pages[i]);

		if (floor.nr > first && phys == last->phys + PFN_PHYS(last->npages)) {
			last->npages++;
			continue;
		}
		if (WARN_ON(floor.nr == FLOOR_RUNS))
			return;
		floor.runs[floor.nr++] = (struct floor_run) { .phys = phys, .npages = 1 };
	}
}

static long floor_pin(const struct floor_range *range, unsigned long done)
{
	unsigned long left = (range->size >> PAGE_SHIFT) - done;
	long got;

	got = pin_user_pages_fast(range->vaddr + PFN_PHYS(done),
				  min_t(unsigned long, left, FLOOR_BATCH),
				  FOLL_WRITE | FOLL_LONGTERM, floor.pages);
	return got ?: -EFAULT;
}

static long floor_know(const struct floor_range *range)
{
	unsigned long first = floor.nr, npages = range->size >> PAGE_SHIFT, done;
	long got;

	for (done = 0; done < npages; done += got) {
		got = floor_pin(range, done);
		if (got < 0)
			return got;
		floor_cut(first, got);
		unpin_user_pages(floor.pages, got);
	}
	return 0;
}

static long floor_map(const struct floor_range *range)
{
	unsigned long first = floor.nr, npages = range->size >> PAGE_SHIFT, done;
	bool known = floor.mapped < floor.nr;
	u64 iova = range->iova;
	long ret;

	for (done = 0; done < npages; done += ret) {
		ret = floor_pin(range, done);
		if (ret < 0)
			return ret;
		if (!known)
			floor_cut(first, ret);
	}
	for (done = 0; done < npages && floor.mapped < floor.nr; floor.mapped++) {
		const struct floor_run *run = &floor.runs[floor.mapped];

		ret = iommu_map(floor.domain, iova, run->phys, PFN_PHYS(run->npages), FLOOR_PROT,
				GFP_KERNEL);
		if (ret)
			return ret;
		iova += PFN_PHYS(run->npages);
		done += run->npages;
	}
	return done == npages ? 0 : -EINVAL;
}

static long floor_unmap(const struct floor_range *range)
{
	unsigned long npages = range->size >> PAGE_SHIFT, done;
	struct iommu_iotlb_gather gather;

	iommu_iotlb_gather_init(&gather);
	if (iommu_unmap_fast(floor.domain, range->iova, range->size, &gather) != range->size)
		return -EIO;
	iommu_iotlb_sync(floor.domain, &gather);
	for (done = 0; done < npages && floor.unmapped < floor.mapped; floor.unmapped++) {
		const struct floor_run *run = &floor.runs[floor.unmapped];

		unpin_user_page_range_dirty_lock(pfn_to_page(PHYS_PFN(run->phys)), run->npages,
						 true);
		done += run->npages;
	}
	return done == npages ? 0 : -EINVAL;
}

/* ---- Domains that take one group ---- */

static struct iommu_domain *taken_domain;
static struct iommu_group *taken_by;

/* Called instead of iommu_attach_group(). */
static int floor_refuse_attach(struct iommu_domain *domain, struct iommu_group *group)
{
	return -EBUSY;
}

static int floor_before_attach(struct kprobe *p, struct pt_regs *regs)
{
	struct iommu_domain *domain = (void *)regs_get_kernel_argument(regs, 0);
	struct iommu_group *group = (void *)regs_get_kernel_argument(regs, 1);

	if (!taken_domain) {
		taken_domain = domain;
		taken_by = group;
	}
	if (domain != taken_domain || group == taken_by)
		return 0;
	instruction_pointer_set(regs, (unsigned long)floor_refuse_attach);
	return 1;
}

/* That it is there keeps the kprobe one that may change where to go on. */
static void floor_after_attach(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe floor_attach_probe = {
	.pre_handler = floor_before_attach,
	.post_handler = floor_after_attach,
};

static bool floor_not_sharing;

static long floor_no_sharing(void)
{
	int ret;

	/* What registering filled in has to go before it is done again. */
	floor_attach_probe.addr = NULL;
	floor_attach_probe.flags = 0;
	floor_attach_probe.symbol_name = "iommu_attach_group";
	taken_domain = NULL;
	ret = register_kprobe(&floor_attach_probe);
	floor_not_sharing = !ret;
	return ret;
}

/* ---- The device file ---- */

static long floor_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct floor_range range = {};

	if (_IOC_SIZE(cmd) == sizeof(range) &&
	    copy_from_user(&range, (void __user *)arg, sizeof(range)))
		return -EFAULT;
	switch (cmd) {
	case FLOOR_KNOW:
		return floor_know(&range);
	case FLOOR_MAP:
		return floor_map(&range);
	case FLOOR_UNMAP:
		return floor_unmap(&range);
	case FLOOR_FORGET:
		floor.nr = 0;
		floor.mapped = 0;
		floor.unmapped = 0;
		return 0;
	case FLOOR_NO_SHARING:
		return floor_no_sharing();
	default:
		return -ENOTTY;
	}
}

static int floor_release(struct inode *inode, struct file *file)
{
	if (floor_not_sharing)
		unregister_kprobe(&floor_attach_probe);
	floor_not_sharing = false;
	return 0;
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = floor_ioctl,
	.release = floor_release,
};

static struct miscdevice floor_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vfio_type1_floor",
	.fops = &floor_fops,
};

static int __init floor_init(void)
{
	int ret = -ENOMEM;

	floor.pages = vmalloc_array(FLOOR_BATCH, sizeof(*floor.pages));
	floor.runs = vmalloc_array(FLOOR_RUNS, sizeof(*floor.runs));
	if (!floor.pages || !floor.runs)
		goto free;
	ret = -ENODEV;
	floor.pdev = pci_get_device(PCI_VENDOR_ID_INTEL, 0x10d3, NULL);
	if (!floor.pdev)
		goto free;
	floor.group = iommu_group_get(&floor.pdev->dev);
	if (!floor.group)
		goto put_device;
	floor.domain = iommu_paging_domain_alloc(&floor.pdev->dev);
	ret = PTR_ERR_OR_ZERO(floor.domain);
	if (ret)
		goto put_group;
	ret = iommu_attach_group(floor.domain, floor.group);
	if (ret)
		goto free_domain;
	ret = misc_register(&floor_misc);
	if (ret)
		goto detach;
	return 0;

detach:
	iommu_detach_group(floor.domain, floor.group);
free_domain:
	iommu_domain_free(floor.domain);
put_group:
	iommu_group_put(floor.group);
put_device:
	pci_dev_put(floor.pdev);
free:
	vfree(floor.runs);
	vfree(floor.pages);
	return ret;
}

static void __exit floor_exit(void)
{
	misc_deregister(&floor_misc);
	iommu_detach_group(floor.domain, floor.group);
	iommu_domain_free(floor.domain);
	iommu_group_put(floor.group);
	pci_dev_put(floor.pdev);
	vfree(floor.runs);
	vfree(floor.pages);
}

module_init(floor_init);
module_exit(floor_exit);
MODULE_DESCRIPTION("VFIO type1: what a MAP and an UNMAP cost at least");
MODULE_LICENSE("GPL");
