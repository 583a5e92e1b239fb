// SPDX-License-Identifier: GPL-2.0-only
/*
 * Vfio devices that use a container's memory from within the kernel, as mediated
 * devices do: emulated ones without an IOMMU, which are there as soon as the
 * module is loaded, and a driver for the edu PCI device that also pins what it
 * is told to, but sits behind a real IOMMU.
 *
 * User space says what to pin, unpin, read and write, and how patient the device
 * is when it is told of an unmap; emu.h is the interface.
 *
 * The device remembers what it has pinned, so that it can unpin when told, and
 * when it is closed.
 *
 * It can also be mapped: an area of pages, of its own and of others, in any order.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "emu.h"

#define EMU_RW_MAX	SZ_1M

/* Since 6.3 there is a function for it, and the flags themselves are constant. */
#ifdef EMU_SETS_VM_FLAGS
static void emu_set_io(struct vm_area_struct *vma)
{
	vma->vm_flags |= VM_IO;
}
#else
static void emu_set_io(struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_IO);
}
#endif

/**
 * struct emu - a device
 * @vdev: as the VFIO core knows it
 * @lock: protects what follows; unless user space wants it otherwise held while
 *	the container is called, so that dma_unmap finds all that is pinned
 * @held: by page of IOVA, how often it is pinned
 * @patience: calls of dma_unmap that pass before pages are unpinned
 * @slow_ms: time between pinning without @lock, and noting it in @held
 * @late_ms: time that @late waits
 * @late: unpins all, if it is not to be done at once when told
 * @state: what user space may see
 * @area: pages of the area, with a reference each
 * @area_pages: how many
 * @area_flags: EMU_AREA_IO, EMU_AREA_RESERVED
 * @area_own: pages that are the device's own, a bit each
 */
struct emu {
	struct vfio_device vdev;
	struct mutex lock; /* what follows */
	struct xarray held;
	unsigned long patience;
	unsigned int slow_ms;
	unsigned int late_ms;
	struct delayed_work late;
	struct emu_state state;
	struct page *area[EMU_AREA_MAX];
	unsigned int area_pages;
	u32 area_flags;
	unsigned long area_own;
};

static struct emu *to_emu(struct vfio_device *vdev)
{
	return container_of(vdev, struct emu, vdev);
}

/* ---- What is pinned ---- */

static unsigned long emu_count(struct emu *emu, unsigned long index)
{
	void *entry = xa_load(&emu->held, index);

	return entry ? xa_to_value(entry) : 0;
}

/* Count page @index once more (@add 1) or less (-1). */
static int emu_remember(struct emu *emu, unsigned long index, int add)
{
	unsigned long count = emu_count(emu, index) + add;
	int ret = 0;

	if (count)
		ret = xa_err(xa_store(&emu->held, index, xa_mk_value(count), GFP_KERNEL));
	else
		xa_erase(&emu->held, index);
	if (!ret)
		emu->state.held += add;
	return ret;
}

/* Unpin all that is held between two pages. */
static void emu_release_range(struct emu *emu, unsigned long first, unsigned long last)
{
	unsigned long index;
	void *entry;

	lockdep_assert_held(&emu->lock);
	xa_for_each_range(&emu->held, index, entry, first, last) {
		while (emu_count(emu, index)) {
			vfio_unpin_pages(&emu->vdev, (dma_addr_t)index << PAGE_SHIFT, 1);
			emu_remember(emu, index, -1);
		}
	}
}

static void emu_release_late(struct work_struct *work)
{
	struct emu *emu = container_of(to_delayed_work(work), struct emu, late);

	mutex_lock(&emu->lock);
	emu_release_range(emu, 0, ULONG_MAX);
	mutex_unlock(&emu->lock);
}

static void emu_forget(struct emu *emu)
{
	mutex_lock(&emu->lock);
	xa_destroy(&emu->held);
	emu->state.held = 0;
	mutex_unlock(&emu->lock);
}

/* ---- The area ---- */

static void emu_area_drop(struct emu *emu)
{
	lockdep_assert_held(&emu->lock);
	while (emu->area_pages) {
		struct page *page = emu->area[--emu->area_pages];

		if (test_bit(emu->area_pages, &emu->area_own) &&
		    emu->area_flags & EMU_AREA_RESERVED)
			ClearPageReserved(page);
		put_page(page);
	}
	emu->area_own = 0;
}

static int emu_area_add(struct emu *emu, u64 vaddr)
{
	unsigned int i = emu->area_pages;
	int ret = 1;

	if (vaddr) {
		ret = get_user_pages_fast(vaddr, 1, FOLL_WRITE, &emu->area[i]);
	} else {
		emu->area[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!emu->area[i])
			return -ENOMEM;
		if (emu->area_flags & EMU_AREA_RESERVED)
			SetPageReserved(emu->area[i]);
		__set_bit(i, &emu->area_own);
	}
	if (ret == 1)
		emu->area_pages++;
	return ret == 1 ? 0 : -EFAULT;
}

static int emu_area(struct emu *emu, void __user *arg)
{
	struct emu_area area;
	int ret = 0;
	u32 i;

	if (copy_from_user(&area, arg, sizeof(area)))
		return -EFAULT;
	if (area.npages > EMU_AREA_MAX)
		return -EINVAL;
	mutex_lock(&emu->lock);
	emu_area_drop(emu);
	emu->area_flags = area.flags;
	for (i = 0; i < area.npages && !ret; i++)
		ret = emu_area_add(emu, area.pages[i]);
	mutex_unlock(&emu->lock);
	return ret;
}

static int emu_refs(struct emu *emu, void __user *arg)
{
	struct emu_refs refs = {};
	unsigned int i;

	mutex_lock(&emu->lock);
	for (i = 0; i < emu->area_pages; i++)
		refs.refs[i] = page_count(emu->area[i]);
	mutex_unlock(&emu->lock);
	return copy_to_user(arg, &refs, sizeof(refs)) ? -EFAULT : 0;
}

/*
 * Up to 6.1 a page of a huge page that is inserted by itself is counted as one page as it
 * comes, and as the whole as it goes.  Balance that beforehand.
 */
#ifdef EMU_COUNTS_HUGE
static void emu_count_huge(struct page *page)
{
	if (PageHuge(page)) {
		atomic_dec(&page->_mapcount);
		atomic_inc(compound_mapcount_ptr(page));
	}
}
#else
static void emu_count_huge(struct page *page)
{
}
#endif

/* Whoever has the area mapped has the device open. */
static vm_fault_t emu_fault(struct vm_fault *vmf)
{
	struct emu *emu = vmf->vma->vm_private_data;

	if (vmf->pgoff >= emu->area_pages)
		return VM_FAULT_SIGBUS;
	vmf->page = emu->area[vmf->pgoff];
	get_page(vmf->page);
	emu_count_huge(vmf->page);
	return 0;
}

static const struct vm_operations_struct emu_vm_ops = {
	.fault = emu_fault,
};

static int emu_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct emu *emu = to_emu(vdev);

	vma->vm_private_data = emu;
	vma->vm_ops = &emu_vm_ops;
	if (emu->area_flags & EMU_AREA_IO)
		emu_set_io(vma);
	return 0;
}

/* ---- What user space asks for ---- */

/**
 * struct emu_work - one operation, which may run in a kernel thread
 * @work: for the kernel thread
 * @emu: the device
 * @cmd: EMU_PIN, EMU_UNPIN or EMU_RW
 * @op: what to do
 * @pages: result of EMU_PIN
 * @data: kernel memory for EMU_RW
 * @ret: what came of it
 */
struct emu_work {
	struct work_struct work;
	struct emu *emu;
	unsigned int cmd;
	struct emu_op op;
	struct page **pages;
	void *data;
	int ret;
};

static int emu_pin(struct emu_work *w)
{
	int npages = min_t(u64, w->op.len, INT_MAX);
	bool unlocked = w->op.flags & EMU_UNLOCKED;
	struct emu *emu = w->emu;
	int i, ret, err = 0;

	if (!unlocked)
		mutex_lock(&emu->lock);
	ret = vfio_pin_pages(&emu->vdev, w->op.iova, npages, w->op.prot, w->pages);
	if (unlocked) {
		msleep(READ_ONCE(emu->slow_ms));
		mutex_lock(&emu->lock);
	}
	for (i = 0; i < ret && !err; i++)
		err = emu_remember(emu, (w->op.iova >> PAGE_SHIFT) + i, 1);
	if (err) {
		i--; /* this one could not be remembered */
		vfio_unpin_pages(&emu->vdev, w->op.iova + i * PAGE_SIZE, ret - i);
		ret = err;
	}
	mutex_unlock(&emu->lock);
	return ret;
}

static bool emu_holds(struct emu *emu, unsigned long index, u64 npages)
{
	while (npages--) {
		if (!emu_count(emu, index++))
			return false;
	}
	return true;
}

static int emu_unpin(struct emu_work *w)
{
	unsigned long index = w->op.iova >> PAGE_SHIFT;
	struct emu *emu = w->emu;
	int ret = 0;
	u64 i;

	mutex_lock(&emu->lock);
	if (w->op.flags & EMU_NOT_PINNED) {
		vfio_unpin_pages(&emu->vdev, w->op.iova, w->op.len);
	} else if (!emu_holds(emu, index, w->op.len)) {
		ret = -ENOENT;
	} else {
		vfio_unpin_pages(&emu->vdev, w->op.iova, w->op.len);
		for (i = 0; i < w->op.len; i++)
			emu_remember(emu, index + i, -1);
	}
	mutex_unlock(&emu->lock);
	return ret;
}

static void emu_do(struct work_struct *work)
{
	struct emu_work *w = container_of(work, struct emu_work, work);

	if (w->cmd == EMU_PIN)
		w->ret = emu_pin(w);
	else if (w->cmd == EMU_UNPIN)
		w->ret = emu_unpin(w);
	else
		w->ret = vfio_dma_rw(&w->emu->vdev, w->op.iova, w->data, w->op.len,
				     w->op.flags & EMU_WRITE);
}

static int emu_run(struct emu_work *w)
{
	INIT_WORK_ONSTACK(&w->work, emu_do);
	if (w->op.flags & EMU_KTHREAD) {
		queue_work(system_unbound_wq, &w->work);
		flush_work(&w->work);
	} else {
		emu_do(&w->work);
	}
	destroy_work_on_stack(&w->work);
	return w->ret;
}

static int emu_pin_or_unpin(struct emu_work *w)
{
	u64 __user *pfns = u64_to_user_ptr(w->op.data);
	int i, ret;

	w->pages = kcalloc(VFIO_PIN_PAGES_MAX_ENTRIES, sizeof(*w->pages), GFP_KERNEL);
	if (!w->pages)
		return -ENOMEM;
	ret = emu_run(w);
	for (i = 0; pfns && i < ret; i++) {
		if (put_user((u64)page_to_pfn(w->pages[i]), &pfns[i])) {
			ret = -EFAULT;
			break;
		}
	}
	kfree(w->pages);
	return ret;
}

static int emu_rw(struct emu_work *w)
{
	void __user *data = u64_to_user_ptr(w->op.data);
	int ret;

	if (w->op.len > EMU_RW_MAX)
		return -E2BIG;
	w->data = w->op.flags & EMU_WRITE ? vmemdup_user(data, w->op.len) :
					    kvzalloc(w->op.len, GFP_KERNEL);
	if (IS_ERR_OR_NULL(w->data))
		return w->data ? PTR_ERR(w->data) : -ENOMEM;
	ret = emu_run(w);
	if (!ret && !(w->op.flags & EMU_WRITE) && copy_to_user(data, w->data, w->op.len))
		ret = -EFAULT;
	kvfree(w->data);
	return ret;
}

static int emu_get_state(struct emu *emu, void __user *arg)
{
	struct emu_state state;

	mutex_lock(&emu->lock);
	state = emu->state;
	mutex_unlock(&emu->lock);
	return copy_to_user(arg, &state, sizeof(state)) ? -EFAULT : 0;
}

static void emu_set_patience(struct emu *emu, unsigned long patience)
{
	mutex_lock(&emu->lock);
	emu->patience = patience;
	emu->state.notified = 0;
	mutex_unlock(&emu->lock);
}

static long emu_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct emu_work w = { .emu = to_emu(vdev), .cmd = cmd };

	switch (cmd) {
	case EMU_STATE:
		return emu_get_state(w.emu, (void __user *)arg);
	case EMU_PATIENCE:
		emu_set_patience(w.emu, arg);
		return 0;
	case EMU_SLOW:
		WRITE_ONCE(w.emu->slow_ms, arg);
		return 0;
	case EMU_LATE:
		WRITE_ONCE(w.emu->late_ms, arg);
		return 0;
	case EMU_FORGET:
		emu_forget(w.emu);
		return 0;
	case EMU_AREA:
		return emu_area(w.emu, (void __user *)arg);
	case EMU_REFS:
		return emu_refs(w.emu, (void __user *)arg);
	case EMU_PIN:
	case EMU_UNPIN:
	case EMU_RW:
		if (copy_from_user(&w.op, (void __user *)arg, sizeof(w.op)))
			return -EFAULT;
		return cmd == EMU_RW ? emu_rw(&w) : emu_pin_or_unpin(&w);
	default:
		return -ENOTTY;
	}
}

/* ---- What the VFIO core asks for ---- */

static int emu_init(struct vfio_device *vdev)
{
	struct emu *emu = to_emu(vdev);

	mutex_init(&emu->lock);
	xa_init(&emu->held);
	INIT_DELAYED_WORK(&emu->late, emu_release_late);
	return 0;
}

static void emu_free(struct vfio_device *vdev)
{
	xa_destroy(&to_emu(vdev)->held);
#ifdef EMU_FREES_DEVICE
	vfio_free_device(vdev);
#endif
}

static int emu_open(struct vfio_device *vdev)
{
	struct emu *emu = to_emu(vdev);

	emu_set_patience(emu, 0);
	emu->slow_ms = 0;
	emu->late_ms = 0;
	return 0;
}

static void emu_close(struct vfio_device *vdev)
{
	struct emu *emu = to_emu(vdev);

	cancel_delayed_work_sync(&emu->late);
	mutex_lock(&emu->lock);
	emu_release_range(emu, 0, ULONG_MAX);
	emu_area_drop(emu);
	mutex_unlock(&emu->lock);
}

static void emu_dma_unmap(struct vfio_device *vdev, u64 iova, u64 len)
{
	struct emu *emu = to_emu(vdev);

	mutex_lock(&emu->lock);
	emu->state.iova = iova;
	emu->state.len = len;
	if (emu->late_ms)
		schedule_delayed_work(&emu->late, msecs_to_jiffies(emu->late_ms));
	else if (emu->state.notified++ >= emu->patience)
		emu_release_range(emu, iova >> PAGE_SHIFT, (iova + len - 1) >> PAGE_SHIFT);
	mutex_unlock(&emu->lock);
}

static const struct vfio_device_ops emu_ops = {
	.name = EMU_NAME,
	.init = emu_init,
	.release = emu_free,
	.open_device = emu_open,
	.close_device = emu_close,
	.ioctl = emu_ioctl,
	.mmap = emu_mmap,
	.dma_unmap = emu_dma_unmap,
};

static const struct vfio_device_ops emu_deaf_ops = {
	.name = EMU_NAME,
	.init = emu_init,
	.release = emu_free,
	.open_device = emu_open,
	.close_device = emu_close,
	.ioctl = emu_ioctl,
};

/* ---- Devices and drivers ---- */

static void emu_remove(void *data)
{
	struct emu *emu = data;

	vfio_unregister_group_dev(&emu->vdev);
	vfio_put_device(&emu->vdev);
}

static int emu_add(struct device *dev, const struct vfio_device_ops *ops,
		   int (*register_dev)(struct vfio_device *vdev))
{
	struct emu *emu = vfio_alloc_device(emu, vdev, dev, ops);
	int ret;

	if (IS_ERR(emu))
		return PTR_ERR(emu);
	ret = register_dev(&emu->vdev);
	if (ret) {
		vfio_put_device(&emu->vdev);
		return ret;
	}
	return devm_add_action_or_reset(dev, emu_remove, emu);
}

static int emu_platform_probe(struct platform_device *pdev)
{
	return emu_add(&pdev->dev, pdev->id == EMU_DEAF ? &emu_deaf_ops : &emu_ops,
		       vfio_register_emulated_iommu_dev);
}

static struct platform_driver emu_platform_driver = {
	.probe = emu_platform_probe,
	.driver.name = EMU_NAME,
};

static int emu_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return emu_add(&pdev->dev, &emu_ops, vfio_register_group_dev);
}

/* edu, and only if user space says so by driver_override. */
static const struct pci_device_id emu_pci_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(0x1234, 0x11e8) },
	{}
};

static struct pci_driver emu_pci_driver = {
	.name = EMU_NAME,
	.id_table = emu_pci_ids,
	.probe = emu_pci_probe,
	.driver_managed_dma = true,
};

static struct platform_device *emu_devices[EMU_DEVICES];

static void emu_devices_del(void)
{
	int i;

	for (i = 0; i < EMU_DEVICES; i++)
		platform_device_unregister(emu_devices[i]);
}

static int emu_devices_add(void)
{
	struct platform_device *pdev;
	int i;

	for (i = 0; i < EMU_DEVICES; i++) {
		pdev = platform_device_register_simple(EMU_NAME, i, NULL, 0);
		if (IS_ERR(pdev)) {
			emu_devices_del();
			return PTR_ERR(pdev);
		}
		emu_devices[i] = pdev;
	}
	return 0;
}

static int __init emu_module_init(void)
{
	int ret = platform_driver_register(&emu_platform_driver);

	if (ret)
		return ret;
	ret = pci_register_driver(&emu_pci_driver);
	if (ret)
		goto unregister_platform;
	ret = emu_devices_add();
	if (ret)
		goto unregister_pci;
	return 0;

unregister_pci:
	pci_unregister_driver(&emu_pci_driver);
unregister_platform:
	platform_driver_unregister(&emu_platform_driver);
	return ret;
}

static void __exit emu_module_exit(void)
{
	emu_devices_del();
	pci_unregister_driver(&emu_pci_driver);
	platform_driver_unregister(&emu_platform_driver);
}

module_init(emu_module_init);
module_exit(emu_module_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-type1 authors");
MODULE_DESCRIPTION("Emulated vfio devices that pin what they are told to, for tests");
