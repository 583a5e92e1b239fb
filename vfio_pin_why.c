// SPDX-License-Identifier: GPL-2.0-only
/*
 * Why memory could not be pinned, for messages; and to have it at hand without pinning it.
 */

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/statfs.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>

#include "compat/mm.h"
#include "vfio_pin.h"

/*
 * Is there a page that could be pinned, if it had not a memory error? What has to be waited
 * for has none.
 */
static bool page_is_broken(struct mm_struct *mm, unsigned long vaddr)
{
	struct page *page;
	long got;

	mmap_read_lock(mm);
	got = get_user_pages_remote(mm, vaddr, 1, FOLL_HWPOISON | FOLL_NOWAIT, &page, NULL);
	mmap_read_unlock(mm);
	if (got > 0)
		put_page(page);
	return got == -EHWPOISON;
}

/*
 * Has a file no room for more pages? Only tmpfs is asked, which does not wait for anybody;
 * up to 6.7 a file of overlayfs has the overlay's path.
 */
static bool file_is_full(struct file *file)
{
	struct kstatfs stat;

	return file && file_inode(file)->i_sb->s_magic == TMPFS_MAGIC &&
	       file->f_path.dentry->d_sb == file_inode(file)->i_sb &&
	       !vfs_statfs(&file->f_path, &stat) && stat.f_blocks && !stat.f_bfree;
}

/* What an area says of a page that does not fault in.  Return: the reason, or NULL. */
static const char *area_why_not(struct vm_area_struct *vma, unsigned long vaddr, int prot,
				int error)
{
	loff_t offset = ((loff_t)vma->vm_pgoff << PAGE_SHIFT) + (vaddr - vma->vm_start);

	if (prot & IOMMU_WRITE && !(vma->vm_flags & VM_WRITE))
		return "it is not writable";
	if (!(prot & IOMMU_WRITE) && !(vma->vm_flags & VM_READ))
		return "it is not readable";
	if (error == -ENOMEM)
		return "it, or a page soon after it, found no memory to fault or be moved into";
	if (vma->vm_flags & (VM_PFNMAP | VM_IO))
		return "it is device memory that cannot be mapped so";
	if (vma->vm_file && offset >= i_size_read(file_inode(vma->vm_file)))
		return "it is beyond the end of the file";
	if (!VFIO_COMPAT_PIN_WAITS && userfaultfd_armed(vma))
		return "its userfaultfd has yet to provide it";
	if (is_vm_hugetlb_page(vma))
		return "no huge page is left for it";
	if (prot & IOMMU_WRITE && vfio_compat_tracks_writes(vma))
		return "it is a file's, whose file system has to know of each write";
	return NULL;
}

/**
 * vfio_pin_why_not() - find out why a page could not be pinned
 * @mm: whose memory; the caller's own, or one that cannot go away
 * @vaddr: user address of the page that vfio_pin_fill() stopped at
 * @prot: IOMMU_WRITE if the device would have written
 * @error: what vfio_pin_fill() returned
 *
 * Looks at the memory as it is now, which may be another than before.
 *
 * Context: may sleep; takes mm's mmap_lock; no lock held but those that vfio_pin_fill() was
 * called with.
 * Return: the reason in words.
 */
const char *vfio_pin_why_not(struct mm_struct *mm, unsigned long vaddr, int prot, int error)
{
	struct vm_area_struct *vma;
	struct file *file = NULL;
	const char *why;

	if (error == -EFAULT && page_is_broken(mm, vaddr))
		return "it has a memory error";
	mmap_read_lock(mm);
	vaddr = untagged_addr_remote(mm, vaddr);
	vma = vma_lookup(mm, vaddr);
	if (!vma)
		why = "nothing is mapped there";
	else
		why = area_why_not(vma, vaddr, prot, error);
	if (!why && vma->vm_file)
		file = get_file(vma->vm_file);
	mmap_read_unlock(mm);
	if (!why)
		why = file_is_full(file) ? "its file system is full" : "it does not fault in";
	if (file)
		fput(file);
	return why;
}

/**
 * vfio_user_fault_in() - have user memory at hand, so that copying it need not wait
 * @at: first byte, in the memory that the caller has
 * @size: bytes
 * @write: it is going to be written; what is there stays as it is
 *
 * It may be gone again by the time that it is copied: who copies under a lock, without
 * faults, comes back here if that fails.
 *
 * Context: no lock held, for whoever provides the memory may take for ever.
 * Return: 0; -EFAULT if there is no memory, or none that may be accessed so; -EINTR on
 * a fatal signal.
 */
int vfio_user_fault_in(const void __user *at, unsigned long size, bool write)
{
	const char __user *from = at, *end = from + size;
	unsigned long n;

	/* A page at a time: what comes back then tells whether it is there, on any kernel. */
	for (; from < end; from += n) {
		n = min_t(unsigned long, end - from, PAGE_SIZE - offset_in_page(from));
		if (fatal_signal_pending(current))
			return -EINTR;
		if (write ? fault_in_safe_writeable(from, n) : fault_in_readable(from, n))
			return fatal_signal_pending(current) ? -EINTR : -EFAULT;
		cond_resched();
	}
	return 0;
}
