// SPDX-License-Identifier: GPL-2.0-only
/*
 * The front door: the operations registered with the VFIO core, and the ioctls as user
 * space sees them.
 *
 * Each ioctl is copied in, checked as far as that needs no state, handed to its
 * room, and copied out.  Nothing here knows about pages or page tables.
 */

#include <linux/compat.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "compat/iommu.h"
#include "trace/vfio_trace.h"
#include "uapi/linux/vfio_type1.h"
#include "vfio_attach.h"
#include "vfio_container.h"
#include "vfio_count.h"
#include "vfio_debugfs.h"
#include "vfio_dirty.h"
#include "vfio_driver_abi.h"
#include "vfio_evict.h"
#include "vfio_external.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_map.h"
#include "vfio_queue.h"
#include "vfio_refuse.h"
#include "vfio_register.h"
#include "vfio_registry.h"
#include "vfio_type1.h"
#include "vfio_unmap.h"
#include "vfio_vaddr.h"
#include "vfio_watch.h"

#define VFIO_TYPE1_VERSION "1.1"

/* VFIO_TYPE1_NESTING_IOMMU, but newer kernels only reserve the number. */
#define TYPE1_NESTING_IOMMU 6

#define DIRTY_BITMAP_BYTES(npages) (ALIGN((u64)(npages), BITS_PER_TYPE(u64)) / BITS_PER_BYTE)

/* Numbers of <linux/vfio.h> count up, and are nowhere near ours. */
static_assert(VFIO_UPDATE_VADDR < 100);
static_assert(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL < 100);
static_assert(_IOC_NR(VFIO_IOMMU_DIRTY_PAGES) < _IOC_NR(VFIO_TYPE1_REGISTER_MEMORY) - 50);

static struct vfio_type1_container *container_create(unsigned long arg)
{
	switch (arg) {
	case VFIO_TYPE1_IOMMU:
		return vfio_container_create(0);
	case VFIO_TYPE1v2_IOMMU:
		return vfio_container_create(VFIO_CONTAINER_V2);
	case TYPE1_NESTING_IOMMU:
		return vfio_container_create(VFIO_CONTAINER_V2 | VFIO_CONTAINER_NESTING);
	case VFIO_TYPE1_STRICT_IOMMU:
		/* Without MMU notifiers no memory could be registered. */
		if (vfio_watch_supported)
			return vfio_container_create(VFIO_CONTAINER_V2 | VFIO_CONTAINER_STRICT);
		fallthrough;
	default:
		return ERR_PTR(-EINVAL);
	}
}

/* What the VFIO core keeps for a container is its number: see vfio_container.c. */
static void *type1_open(unsigned long arg)
{
	struct vfio_type1_container *container = container_create(arg);

	return IS_ERR(container) ? container : (void *)(unsigned long)container->id;
}

/* The container that the core means, if it is still there; vfio_container_put() it. */
static struct vfio_type1_container *container_get(void *iommu_data)
{
	return vfio_container_get((unsigned long)iommu_data);
}

static void type1_release(void *iommu_data)
{
	struct vfio_type1_container *container = container_get(iommu_data);

	if (!container)
		return;
	vfio_container_destroy(container);
	vfio_container_put(container);
}

static int type1_attach_group(void *iommu_data, struct iommu_group *group,
			      enum vfio_group_type type)
{
	struct vfio_type1_container *container = container_get(iommu_data);
	u64 begun = vfio_clock();
	int ret;

	if (!container)
		return -EINVAL;
	ret = type == VFIO_EMULATED_IOMMU ? vfio_container_attach_emulated(container, group) :
					    vfio_container_attach(container, group);
	if (!ret)
		vfio_count(container, VFIO_COUNT_ATTACHES, 1);
	trace_attach(container, iommu_group_id(group), ret, vfio_clock_since(begun));
	vfio_container_put(container);
	return ret;
}

static void type1_detach_group(void *iommu_data, struct iommu_group *group)
{
	struct vfio_type1_container *container = container_get(iommu_data);
	u64 begun = vfio_clock();

	if (!container)
		return;
	vfio_container_detach(container, group);
	vfio_count(container, VFIO_COUNT_DETACHES, 1);
	trace_detach(container, iommu_group_id(group), 0, vfio_clock_since(begun));
	vfio_container_put(container);
}

static int type1_pin_pages(void *iommu_data, struct iommu_group *group, dma_addr_t user_iova,
			   int npage, int prot, struct page **pages)
{
	struct vfio_type1_container *container = container_get(iommu_data);
	const struct vfio_external_want want = {
		.iova = user_iova, .npages = npage, .prot = prot, .pages = pages,
	};
	int ret;

	if (!container)
		return -EINVAL;
	ret = vfio_external_pin(container, group, &want);
	vfio_container_put(container);
	return ret;
}

static void type1_unpin_pages(void *iommu_data, dma_addr_t user_iova, int npage)
{
	struct vfio_type1_container *container = container_get(iommu_data);

	if (!container)
		return;
	vfio_external_unpin(container, user_iova, npage);
	vfio_container_put(container);
}

static void type1_register_device(void *iommu_data, struct vfio_device *vdev)
{
	struct vfio_type1_container *container = container_get(iommu_data);

	if (!container)
		return;
	vfio_external_register(container, vdev);
	vfio_container_put(container);
}

static void type1_unregister_device(void *iommu_data, struct vfio_device *vdev)
{
	struct vfio_type1_container *container = container_get(iommu_data);

	if (!container)
		return;
	vfio_external_unregister(container, vdev);
	vfio_container_put(container);
}

static int type1_dma_rw(void *iommu_data, dma_addr_t user_iova, void *data, size_t count,
			bool write)
{
	struct vfio_type1_container *container = container_get(iommu_data);
	int ret;

	if (!container)
		return -EINVAL;
	ret = vfio_external_rw(container, user_iova, data, count, write);
	vfio_container_put(container);
	return ret;
}

/* @container is NULL as long as user space has not chosen a type. */
static long check_extension(struct vfio_type1_container *container, unsigned long arg)
{
	switch (arg) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case TYPE1_NESTING_IOMMU:
		return VFIO_COMPAT_HAS_NESTING;
	case VFIO_TYPE1_MEMORY:
	case VFIO_TYPE1_STRICT_IOMMU:
		/* The version of the interface. */
		return vfio_watch_supported;
	case VFIO_DMA_CC_IOMMU:
		return container && vfio_container_coherent(container);
	case VFIO_UPDATE_VADDR:
		return container && !vfio_container_has_emulated(container);
	default:
		return 0;
	}
}

static int info_add_migration(struct vfio_type1_container *container, struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_cap_migration cap = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
		.header.version = 1,
		.pgsize_bitmap = vfio_container_pgsize(container),
		.max_dirty_bitmap_size = DIRTY_BITMAP_BYTES(VFIO_DIRTY_PAGES_MAX),
	};

	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static int info_add_dma_avail(struct vfio_type1_container *container, struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_dma_avail cap = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
		.header.version = 1,
		.avail = READ_ONCE(container->tree.avail),
	};

	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static int info_add_iova_ranges(struct vfio_type1_container *container, struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	const struct vfio_iova_set *iova = &container->iova;
	struct vfio_info_cap_header *header;
	unsigned int i;

	/* Without a domain so far there is no range to name: all is valid. */
	if (!iova->nr)
		return 0;
	header = vfio_info_cap_add(caps, struct_size(cap, iova_ranges, iova->nr),
				   VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1);
	if (IS_ERR(header))
		return PTR_ERR(header);
	cap = container_of(header, struct vfio_iommu_type1_info_cap_iova_range, header);
	cap->nr_iovas = iova->nr;
	for (i = 0; i < iova->nr; i++) {
		cap->iova_ranges[i].start = iova->ranges[i].first;
		cap->iova_ranges[i].end = iova->ranges[i].last;
	}
	return 0;
}

static int info_add_memory(struct vfio_type1_container *container, struct vfio_info_cap *caps)
{
	struct vfio_type1_info_cap_memory cap = {
		.header.id = VFIO_TYPE1_INFO_CAP_MEMORY,
		.header.version = 1,
		.flags = container->strict ? VFIO_TYPE1_INFO_MEMORY_STRICT : 0,
	};

	if (!vfio_watch_supported)
		return 0;
	vfio_registry_count(container, &cap.regions, &cap.size);
	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static long get_info(struct vfio_type1_container *container, void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_iommu_type1_info, iova_pgsizes);
	struct vfio_iommu_type1_info info = {};
	struct vfio_info_cap caps = {};
	int ret;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz) {
		vfio_refuse(container, VFIO_REFUSE_ARGSZ,
			    "GET_INFO: argsz %u is less than %lu", info.argsz, minsz);
		return -EINVAL;
	}
	minsz = min_t(unsigned long, info.argsz, sizeof(info));

	down_read(&container->lock);
	info.flags = VFIO_IOMMU_INFO_PGSIZES;
	info.iova_pgsizes = container->pgsize_bitmap;
	ret = info_add_migration(container, &caps) ?:
	      info_add_dma_avail(container, &caps) ?:
	      info_add_iova_ranges(container, &caps) ?:
	      info_add_memory(container, &caps);
	up_read(&container->lock);
	if (ret)
		goto out;

	info.flags |= VFIO_IOMMU_INFO_CAPS;
	if (info.argsz < sizeof(info) + caps.size) {
		info.argsz = sizeof(info) + caps.size;
	} else {
		vfio_info_cap_shift(&caps, sizeof(info));
		if (copy_to_user(arg + sizeof(info), caps.buf, caps.size)) {
			ret = -EFAULT;
			goto out;
		}
		info.cap_offset = sizeof(info);
	}
	if (copy_to_user(arg, &info, minsz))
		ret = -EFAULT;
out:
	kfree(caps.buf);
	return ret;
}

static long map_dma(struct vfio_type1_container *container, void __user *arg)
{
	const u32 known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE |
			  VFIO_DMA_MAP_FLAG_VADDR;
	unsigned long minsz = offsetofend(struct vfio_iommu_type1_dma_map, size);
	struct vfio_iommu_type1_dma_map map;
	struct vfio_map_request request;

	if (copy_from_user(&map, arg, minsz))
		return -EFAULT;
	if (map.argsz < minsz) {
		vfio_refuse(container, VFIO_REFUSE_ARGSZ,
			    "MAP_DMA: argsz %u is less than %lu", map.argsz, minsz);
		return -EINVAL;
	}
	if (map.flags & ~known) {
		vfio_refuse(container, VFIO_REFUSE_FLAGS,
			    "MAP_DMA iova 0x%llx: flags 0x%x: only 0x%x are known", map.iova,
			    map.flags, known);
		return -EINVAL;
	}
	request = (struct vfio_map_request) {
		.iova = map.iova,
		.vaddr = map.vaddr,
		.size = map.size,
		.prot = (map.flags & VFIO_DMA_MAP_FLAG_READ ? IOMMU_READ : 0) |
			(map.flags & VFIO_DMA_MAP_FLAG_WRITE ? IOMMU_WRITE : 0),
		.set_vaddr = map.flags & VFIO_DMA_MAP_FLAG_VADDR,
	};
	return request.set_vaddr ? vfio_vaddr_update(container, &request) :
				   vfio_map_dma(container, &request);
}

/* Take in a struct vfio_bitmap, which has to have room for @size bytes of IOVA. */
static int copy_bitmap(struct vfio_type1_container *container, struct vfio_dirty_request *request,
		       void __user *arg, u64 size)
{
	struct vfio_bitmap bitmap;
	u64 npages;

	if (copy_from_user(&bitmap, arg, sizeof(bitmap)))
		return -EFAULT;
	/*
	 * Any page size is taken here; only the smallest is served later.
	 * Rounded up to a word, a bitmap may have a page more than a mapping.
	 */
	npages = bitmap.pgsize ? size >> __ffs64(bitmap.pgsize) : 0;
	if (!npages || bitmap.size > DIRTY_BITMAP_BYTES(VFIO_DIRTY_PAGES_MAX) ||
	    npages > VFIO_DIRTY_PAGES_MAX + 1 || bitmap.size < DIRTY_BITMAP_BYTES(npages) ||
	    !access_ok(bitmap.data, bitmap.size)) {
		vfio_refuse(container, VFIO_REFUSE_DIRTY,
			    "dirty bitmap of 0x%llx bytes for 0x%llx bytes of IOVA in pages of 0x%llx: bad address, or a size other than 0x%llx to 0x%llx",
			    bitmap.size, size, bitmap.pgsize, DIRTY_BITMAP_BYTES(npages),
			    DIRTY_BITMAP_BYTES(VFIO_DIRTY_PAGES_MAX));
		return -EINVAL;
	}
	request->bitmap = bitmap.data;
	request->pgsize = bitmap.pgsize;
	return 0;
}

static long unmap_dma(struct vfio_type1_container *container, void __user *arg)
{
	const u32 known = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL |
			  VFIO_DMA_UNMAP_FLAG_VADDR;
	unsigned long minsz = offsetofend(struct vfio_iommu_type1_dma_unmap, size);
	struct vfio_dirty_request request, *dirty = NULL;
	struct vfio_iommu_type1_dma_unmap unmap;
	struct vfio_unmap_request what;
	u64 unmapped;
	int ret;

	if (copy_from_user(&unmap, arg, minsz))
		return -EFAULT;
	if (unmap.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
		dirty = &request;
	if (unmap.flags & ~known ||
	    (dirty && unmap.flags & ~VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)) {
		vfio_refuse(container, VFIO_REFUSE_FLAGS,
			    "UNMAP_DMA iova 0x%llx: flags 0x%x: only 0x%x are known, and GET_DIRTY_BITMAP goes with no other",
			    unmap.iova, unmap.flags, known);
		return -EINVAL;
	}
	if (dirty)
		minsz += sizeof(struct vfio_bitmap);
	if (unmap.argsz < minsz) {
		vfio_refuse(container, VFIO_REFUSE_ARGSZ,
			    "UNMAP_DMA: argsz %u is less than %lu", unmap.argsz, minsz);
		return -EINVAL;
	}
	if (dirty) {
		ret = copy_bitmap(container, dirty, arg + sizeof(unmap), unmap.size);
		if (ret)
			return ret;
	}

	what = (struct vfio_unmap_request) {
		.iova = unmap.iova,
		.size = unmap.size,
		.all = unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL,
		.dirty = dirty,
	};
	if (unmap.flags & VFIO_DMA_UNMAP_FLAG_VADDR)
		ret = vfio_vaddr_invalidate(container, &what, &unmapped);
	else
		ret = vfio_unmap_dma(container, &what, &unmapped);
	if (ret)
		return ret;
	unmap.size = unmapped;
	return copy_to_user(arg, &unmap, sizeof(unmap)) ? -EFAULT : 0;
}

static long dirty_get(struct vfio_type1_container *container, void __user *arg, u32 argsz)
{
	struct vfio_iommu_type1_dirty_bitmap_get range;
	struct vfio_dirty_request request;
	int ret;

	if (argsz < sizeof(struct vfio_iommu_type1_dirty_bitmap) + sizeof(range)) {
		vfio_refuse(container, VFIO_REFUSE_ARGSZ,
			    "DIRTY_PAGES: argsz %u is less than %zu", argsz,
			    sizeof(struct vfio_iommu_type1_dirty_bitmap) + sizeof(range));
		return -EINVAL;
	}
	if (copy_from_user(&range, arg + sizeof(struct vfio_iommu_type1_dirty_bitmap),
			   sizeof(range)))
		return -EFAULT;
	if (range.size && range.iova + range.size - 1 < range.iova) {
		vfio_refuse(container, VFIO_REFUSE_SIZE,
			    "DIRTY_PAGES iova 0x%llx size 0x%llx: wraps around the end of the address space",
			    range.iova, range.size);
		return -EOVERFLOW;
	}
	ret = copy_bitmap(container, &request,
			  arg + sizeof(struct vfio_iommu_type1_dirty_bitmap) +
			  offsetof(struct vfio_iommu_type1_dirty_bitmap_get, bitmap),
			  range.size);
	return ret ?: vfio_dirty_get(container, range.iova, range.size, &request);
}

static long dirty_pages(struct vfio_type1_container *container, void __user *arg)
{
	struct vfio_iommu_type1_dirty_bitmap dirty;

	if (!container->v2) {
		vfio_refuse(container, VFIO_REFUSE_IOCTL,
			    "DIRTY_PAGES: not with VFIO_TYPE1_IOMMU");
		return -EACCES;
	}
	if (copy_from_user(&dirty, arg, sizeof(dirty)))
		return -EFAULT;
	if (dirty.argsz < sizeof(dirty)) {
		vfio_refuse(container, VFIO_REFUSE_ARGSZ,
			    "DIRTY_PAGES: argsz %u is less than %zu", dirty.argsz, sizeof(dirty));
		return -EINVAL;
	}
	switch (dirty.flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		return vfio_dirty_start(container);
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		vfio_dirty_stop(container);
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return dirty_get(container, arg, dirty.argsz);
	default:
		vfio_refuse(container, VFIO_REFUSE_FLAGS,
			    "DIRTY_PAGES: flags 0x%x: one of 1, 2 and 4 expected", dirty.flags);
		return -EINVAL;
	}
}

static long register_memory(struct vfio_type1_container *container, unsigned int cmd,
			    void __user *arg)
{
	bool undo = cmd == VFIO_TYPE1_UNREGISTER_MEMORY;
	const char *request = undo ? "UNREGISTER_MEMORY" : "REGISTER_MEMORY";
	unsigned long minsz = offsetofend(struct vfio_type1_memory, size);
	const u32 known = undo ? 0 : VFIO_TYPE1_MEMORY_READ_ONLY;
	struct vfio_type1_memory memory;

	if (copy_from_user(&memory, arg, minsz))
		return -EFAULT;
	if (memory.argsz < minsz) {
		vfio_refuse(container, VFIO_REFUSE_ARGSZ, "%s: argsz %u is less than %lu", request,
			    memory.argsz, minsz);
		return -EINVAL;
	}
	if (memory.flags & ~known) {
		vfio_refuse(container, VFIO_REFUSE_FLAGS, "%s vaddr 0x%llx: unknown flags 0x%x",
			    request, memory.vaddr, memory.flags & ~known);
		return -EINVAL;
	}
	if (undo)
		return vfio_registry_unregister(container, memory.vaddr, memory.size);
	return vfio_registry_register(container, memory.vaddr, memory.size,
				      memory.flags & VFIO_TYPE1_MEMORY_READ_ONLY);
}

static long container_ioctl(struct vfio_type1_container *container, unsigned int cmd,
			    unsigned long arg)
{
	switch (cmd) {
	case VFIO_IOMMU_GET_INFO:
		return get_info(container, (void __user *)arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(container, (void __user *)arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(container, (void __user *)arg);
	case VFIO_TYPE1_REGISTER_MEMORY:
	case VFIO_TYPE1_UNREGISTER_MEMORY:
		return register_memory(container, cmd, (void __user *)arg);
	case VFIO_IOMMU_DIRTY_PAGES:
		return dirty_pages(container, (void __user *)arg);
	default:
		vfio_refuse(container, VFIO_REFUSE_IOCTL, "unknown ioctl 0x%x", cmd);
		return -ENOTTY;
	}
}

/*
 * 32-bit callers have the same structures; the core has converted the pointer.
 * An ioctl that is late gets what it would get without a driver.
 */
static long type1_ioctl(void *iommu_data, unsigned int cmd, unsigned long arg)
{
	struct vfio_type1_container *container = container_get(iommu_data);
	long ret = -EINVAL;

	if (cmd == VFIO_CHECK_EXTENSION)
		ret = check_extension(container, arg);
	else if (container)
		ret = container_ioctl(container, cmd, arg);
	if (container)
		vfio_container_put(container);
	return ret;
}

static const struct vfio_iommu_driver_ops type1_ops = {
	.name = "vfio-iommu-type1",
	.owner = THIS_MODULE,
	.open = type1_open,
	.release = type1_release,
	.ioctl = type1_ioctl,
	.attach_group = type1_attach_group,
	.detach_group = type1_detach_group,
	.pin_pages = type1_pin_pages,
	.unpin_pages = type1_unpin_pages,
	.register_device = type1_register_device,
	.unregister_device = type1_unregister_device,
	.dma_rw = type1_dma_rw,
};

static int __init type1_init(void)
{
	int ret = vfio_queue_init();

	if (ret)
		return ret;
	vfio_debugfs_init();
	ret = vfio_register_iommu_driver(&type1_ops);
	if (ret) {
		vfio_debugfs_exit();
		vfio_queue_exit();
	}
	return ret;
}

/*
 * No container is left, as each has a reference to the module until its last user has gone.
 * But a thread may be on its way out of the module, from where it dropped the last one, or, in
 * the core, between its look at which driver a container has and its call of that driver.
 * Neither sleeps before it is out of the module again:
 *
 *  - after vfio_container_put() each operation above only returns;
 *  - who comes now finds no container, and nothing to wait for without one;
 *  - the core clears what the second looks at right after it has put the module.
 *
 * So one grace period of RCU tasks, which waits until each task has slept of its own accord or
 * was in user space, lets that be cleared, and another one gets rid of those who had looked
 * before.  (Kernels that do not preempt have no such thing: there it is a grace period of RCU,
 * which waits for any switch of tasks.)  Only then may the core free what it knows of the driver.
 * In-kernel users and readers of debugfs are not late: a device that is open keeps its group,
 * and so the container; files are waited for.
 */
static void __exit type1_exit(void)
{
	synchronize_rcu_tasks();
	synchronize_rcu_tasks();
	vfio_unregister_iommu_driver(&type1_ops);
	vfio_debugfs_exit();
	vfio_queue_exit();
}

module_init(type1_init);
module_exit(type1_exit);

MODULE_VERSION(VFIO_TYPE1_VERSION);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-type1 authors");
MODULE_DESCRIPTION("Type1 IOMMU backend for VFIO: run lists and windows");
