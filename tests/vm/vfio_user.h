/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A small user-space library over the real /dev/vfio interface, shared by the
 * programs that run in the test VM: containers, groups, PCI devices, mapping,
 * the edu device's DMA engine, memory of a known physical layout, and what the
 * kernel says about pinned and locked pages.
 *
 * Unless a function says otherwise it returns 0 (or the file descriptor, or
 * the count, that it is named after), or a negative errno. Nothing here prints
 * or exits: what a failure means is the caller's business.
 */
#ifndef VFIO_USER_H
#define VFIO_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/vfio.h>

#include "../../include/uapi/linux/vfio_type1.h"

#define VU_PAGE	4096UL
#define VU_2M	(512 * VU_PAGE)
#define VU_1G	(512 * VU_2M)

/* ---- A PCI device, its IOMMU group and its vfio device ---- */

struct vu_pci {
	char bdf[16];	/* as sysfs names it, "0000:00:02.0" */
	int group;	/* number of its IOMMU group */
	int group_fd;	/* /dev/vfio/GROUP, -1 while closed */
	int device_fd;	/* the vfio device, -1 while closed */
};

#define VU_EDU_VENDOR		0x1234
#define VU_EDU_DEVICE		0x11e8	/* does DMA, see below */
#define VU_TESTDEV_VENDOR	0x1b36
#define VU_TESTDEV_DEVICE	0x0005	/* pci-testdev: BAR 2 is big, prefetchable memory */

/* Find the nth (from 0) device of this kind; -ENODEV if there are fewer. */
int vu_pci_find(struct vu_pci *pci, __u16 vendor, __u16 device, unsigned int nth);

/* Take the device from its driver, if any, and give it to vfio-pci, if it isn't there yet. */
int vu_pci_bind(const struct vu_pci *pci);

/* Open /dev/vfio/GROUP into group_fd. */
int vu_group_open(struct vu_pci *pci);

/* VFIO_GROUP_SET_CONTAINER and VFIO_GROUP_UNSET_CONTAINER. */
int vu_group_attach(const struct vu_pci *pci, int container);
int vu_group_detach(const struct vu_pci *pci);

/* VFIO_GROUP_GET_DEVICE_FD into device_fd; bus mastering is switched on. */
int vu_device_open(struct vu_pci *pci);

/* Close device_fd and group_fd, those that are open. */
void vu_pci_close(struct vu_pci *pci);

int vu_config_read(const struct vu_pci *pci, unsigned int offset, void *buf, size_t len);
int vu_config_write(const struct vu_pci *pci, unsigned int offset, const void *buf, size_t len);
int vu_bus_master(const struct vu_pci *pci, bool on);

/* VFIO_DEVICE_GET_REGION_INFO for VFIO_PCI_BARn_REGION_INDEX and its friends. */
int vu_region_info(const struct vu_pci *pci, __u32 index, struct vfio_region_info *info);

/* mmap a whole region; *size gets its length. NULL with errno set on failure. */
void *vu_region_mmap(const struct vu_pci *pci, __u32 index, size_t *size);

/* ---- Containers ---- */

/* Open /dev/vfio/vfio; the descriptor is closed with close(). */
int vu_container_open(void);

/* type is VFIO_TYPE1_IOMMU or VFIO_TYPE1v2_IOMMU; a group has to be attached. */
int vu_set_iommu(int container, int type);

/*
 * All that a program which just wants DMA needs: find, bind, open the group,
 * attach it, set the IOMMU type, open the device. Returns the container.
 */
int vu_open(struct vu_pci *pci, __u16 vendor, __u16 device, unsigned int nth, int type);

int vu_map(int container, const void *vaddr, __u64 iova, __u64 size, __u32 flags);

/* The usual map: device may read and write. */
int vu_map_rw(int container, const void *vaddr, __u64 iova, __u64 size);

/* *unmapped, if not NULL, gets the size that the kernel reports, also on error. */
int vu_unmap(int container, __u64 iova, __u64 size, __u32 flags, __u64 *unmapped);

/* VFIO_TYPE1_REGISTER_MEMORY; flags are 0 or VFIO_TYPE1_MEMORY_READ_ONLY. */
int vu_register(int container, const void *vaddr, __u64 size, __u32 flags);
int vu_unregister(int container, const void *vaddr, __u64 size);

/* ---- The edu device: a DMA engine with a buffer of its own ---- */

/*
 * edu moves data between any IOVA and its private buffer, which the CPU can't
 * see. A transfer takes about 100 ms; a longer one than VU_EDU_MAX, or one of
 * the whole buffer, makes QEMU give up.
 */
#define VU_EDU_MAX	2048UL

struct vu_edu {
	char *regs;	/* BAR 0 */
	size_t size;
};

int vu_edu_open(struct vu_edu *edu, const struct vu_pci *pci);
void vu_edu_close(struct vu_edu *edu);

/*
 * load: memory at iova -> edu's buffer; store: edu's buffer -> memory at iova.
 * Both return when the engine is done, or -ETIMEDOUT. The device does not say
 * whether the IOMMU let it through: look at the bytes.
 */
int vu_edu_load(const struct vu_edu *edu, __u64 iova, size_t len);
int vu_edu_store(const struct vu_edu *edu, __u64 iova, size_t len);

/* load from src, then store to dst. */
int vu_edu_copy(const struct vu_edu *edu, __u64 dst, __u64 src, size_t len);

/* ---- Memory of a known physical layout, and how it is laid out ---- */

enum vu_backing {
	VU_SCATTERED,	/* 4K pages, no two neighbours physically contiguous */
	VU_THP,		/* anonymous, 2M aligned, transparent huge pages */
	VU_HUGETLB,	/* 2M pages of hugetlbfs */
};

/* Private, writable, populated, zeroed. NULL with errno set on failure. */
void *vu_alloc(enum vu_backing backing, size_t size);
void vu_free(void *mem, size_t size);

struct vu_layout {
	size_t nruns;		/* physically contiguous stretches */
	size_t largest_iopte;	/* of VU_PAGE, VU_2M, VU_1G: fits if mapped at iova */
};

/* Read from /proc/self/pagemap: needs CAP_SYS_ADMIN and populated memory. */
int vu_layout(const void *mem, size_t size, __u64 iova, struct vu_layout *layout);

/* ---- Small files of sysfs, procfs and cgroups ---- */

int vu_write_file(const char *path, const char *text);

/* ---- What the kernel counts; -1 if it does not say ---- */

long vu_locked_kib(void);	/* VmLck of this process: mm->locked_vm */
long vu_pinned_kib(void);	/* VmPin of this process: mm->pinned_vm */
long vu_vmstat(const char *name);	/* brought up to date first */

/*
 * Pages pinned by anyone in the whole system (nr_foll_pin_acquired minus
 * nr_foll_pin_released): back to the old figure when nothing has leaked.
 */
long vu_foll_pinned(void);

/* Nanoseconds of the monotonic clock (instructions, under QEMU's -icount). */
__u64 vu_now(void);

#endif /* VFIO_USER_H */
