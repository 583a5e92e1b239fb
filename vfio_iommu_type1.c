// SPDX-License-Identifier: GPL-2.0-only
/*
 * The front door: module parameters, the operations registered with the VFIO
 * core, and the ioctls as user space sees them.
 *
 * Each ioctl is copied in, checked as far as that needs no state, handed to its
 * room, and copied out.  Nothing here knows about pages or page tables.
 */

#include <linux/compat.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "vfio_type1.h"

#define VFIO_TYPE1_VERSION "1.0"

/* 6, and known by this name up to 7.1; later kernels only reserve the number. */
#define TYPE1_NESTING_IOMMU 6

/* Bits in the largest dirty bitmap: bitmap_set() counts them in an int. */
#define DIRTY_PAGES_MAX ((u64)INT_MAX)

struct vfio_type1_params vfio_type1_params = {
	.dma_entry_limit = U16_MAX,
};

module_param_named(allow_unsafe_interrupts, vfio_type1_params.allow_unsafe_interrupts, bool, 0644);
MODULE_PARM_DESC(allow_unsafe_interrupts,
		 "Attach devices also without interrupt remapping, which keeps them from injecting interrupts (default N).");

module_param_named(disable_hugepages, vfio_type1_params.disable_hugepages, bool, 0644);
MODULE_PARM_DESC(disable_hugepages,
		 "Map every page by itself, so that the IOMMU uses no superpages (default N).");

module_param_named(dma_entry_limit, vfio_type1_params.dma_entry_limit, uint, 0644);
MODULE_PARM_DESC(dma_entry_limit,
		 "Maximum number of mappings of a container that is opened from now on (default 65535).");

module_param_named(unmap_walk, vfio_type1_params.unmap_walk, uint, 0644);
MODULE_PARM_DESC(unmap_walk,
		 "For tests: how UNMAP finds contiguous memory: 0 by the run map (default), 1 by unmapping single pages, 2 by reading the IOMMU page by page.");

static void *type1_open(unsigned long arg)
{
	switch (arg) {
	case VFIO_TYPE1_IOMMU:
		return vfio_container_create(false, false);
	case VFIO_TYPE1v2_IOMMU:
		return vfio_container_create(true, false);
	case TYPE1_NESTING_IOMMU:
		return vfio_container_create(true, true);
	default:
		return ERR_PTR(-EINVAL);
	}
}

static void type1_release(void *iommu_data)
{
	vfio_container_destroy(iommu_data);
}

static int type1_attach_group(void *iommu_data, struct iommu_group *group,
			      enum vfio_group_type type)
{
	if (type != VFIO_IOMMU)
		return -EINVAL;
	return vfio_container_attach(iommu_data, group);
}

static void type1_detach_group(void *iommu_data, struct iommu_group *group)
{
	vfio_container_detach(iommu_data, group);
}

/* A container that is not there yet has no domain that could be incoherent, or be asked. */
static long check_extension(struct vfio_type1_container *container, unsigned long arg)
{
	switch (arg) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case TYPE1_NESTING_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case VFIO_DMA_CC_IOMMU:
		return container && vfio_container_coherent(container);
	default:
		return 0;
	}
}

static int info_add_migration(struct vfio_type1_container *container, struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_cap_migration cap = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
		.header.version = 1,
		.pgsize_bitmap = 1UL << __ffs(container->pgsize_bitmap),
		.max_dirty_bitmap_size = ALIGN(DIRTY_PAGES_MAX, BITS_PER_TYPE(u64)) /
					 BITS_PER_BYTE,
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

	/* Without a domain there is no range to name: all is valid. */
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

static long get_info(struct vfio_type1_container *container, void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_iommu_type1_info, iova_pgsizes);
	struct vfio_iommu_type1_info info = {};
	struct vfio_info_cap caps = {};
	int ret;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz) {
		vfio_refuse(container, "GET_INFO: argsz %u is less than %lu", info.argsz, minsz);
		return -EINVAL;
	}
	minsz = min_t(unsigned long, info.argsz, sizeof(info));

	down_read(&container->lock);
	info.flags = VFIO_IOMMU_INFO_PGSIZES;
	info.iova_pgsizes = container->pgsize_bitmap;
	ret = info_add_migration(container, &caps) ?:
	      info_add_dma_avail(container, &caps) ?:
	      info_add_iova_ranges(container, &caps);
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
	const u32 known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	unsigned long minsz = offsetofend(struct vfio_iommu_type1_dma_map, size);
	struct vfio_iommu_type1_dma_map map;

	if (copy_from_user(&map, arg, minsz))
		return -EFAULT;
	if (map.argsz < minsz) {
		vfio_refuse(container, "MAP_DMA: argsz %u is less than %lu", map.argsz, minsz);
		return -EINVAL;
	}
	if (map.flags & ~known) {
		vfio_refuse(container, "MAP_DMA iova 0x%llx: unknown flags 0x%x", map.iova,
			    map.flags & ~known);
		return -EINVAL;
	}
	return vfio_map_dma(container, map.iova, map.vaddr, map.size,
			    (map.flags & VFIO_DMA_MAP_FLAG_READ ? IOMMU_READ : 0) |
			    (map.flags & VFIO_DMA_MAP_FLAG_WRITE ? IOMMU_WRITE : 0));
}

static long unmap_dma(struct vfio_type1_container *container, void __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_iommu_type1_dma_unmap, size);
	struct vfio_iommu_type1_dma_unmap unmap;
	u64 unmapped;
	int ret;

	if (copy_from_user(&unmap, arg, minsz))
		return -EFAULT;
	if (unmap.argsz < minsz) {
		vfio_refuse(container, "UNMAP_DMA: argsz %u is less than %lu", unmap.argsz, minsz);
		return -EINVAL;
	}
	if (unmap.flags & ~VFIO_DMA_UNMAP_FLAG_ALL) {
		vfio_refuse(container, "UNMAP_DMA iova 0x%llx: unknown flags 0x%x", unmap.iova,
			    unmap.flags & ~VFIO_DMA_UNMAP_FLAG_ALL);
		return -EINVAL;
	}
	ret = vfio_unmap_dma(container, unmap.iova, unmap.size,
			     unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL, &unmapped);
	if (ret)
		return ret;
	unmap.size = unmapped;
	return copy_to_user(arg, &unmap, minsz) ? -EFAULT : 0;
}

/* 32-bit callers have the same structures; the core has converted the pointer. */
static long type1_ioctl(void *iommu_data, unsigned int cmd, unsigned long arg)
{
	struct vfio_type1_container *container = iommu_data;

	switch (cmd) {
	case VFIO_CHECK_EXTENSION:
		return check_extension(container, arg);
	case VFIO_IOMMU_GET_INFO:
		return get_info(container, (void __user *)arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(container, (void __user *)arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(container, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static const struct vfio_iommu_driver_ops type1_ops = {
	.name = "vfio-iommu-type1",
	.owner = THIS_MODULE,
	.open = type1_open,
	.release = type1_release,
	.ioctl = type1_ioctl,
	.attach_group = type1_attach_group,
	.detach_group = type1_detach_group,
};

static int __init type1_init(void)
{
	return vfio_register_iommu_driver(&type1_ops);
}

static void __exit type1_exit(void)
{
	vfio_unregister_iommu_driver(&type1_ops);
}

module_init(type1_init);
module_exit(type1_exit);

MODULE_VERSION(VFIO_TYPE1_VERSION);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-type1 authors");
MODULE_DESCRIPTION("Type1 IOMMU backend for VFIO: run maps and windows");
