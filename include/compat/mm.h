/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory management differences, bridged towards the newest kernel.
 */
#ifndef _VFIO_TYPE1_COMPAT_MM_H
#define _VFIO_TYPE1_COMPAT_MM_H

#include <linux/backing-dev.h>
#include <linux/fs.h>
#include <linux/mm.h>

#include "vfio_answers.h"
#include "versions.h"

/*
 * 6.5 dropped the vmas argument ("mm/gup: remove unused vmas parameter from
 * pin_user_pages_remote()").
 */
#if VFIO_PROBE_PIN_REMOTE_VMAS
static inline long vfio_compat_pin_remote(struct mm_struct *mm, unsigned long start,
					  unsigned long npages, unsigned int flags,
					  struct page **pages, int *locked)
{
	return pin_user_pages_remote(mm, start, npages, flags, pages, NULL, locked);
}

#define pin_user_pages_remote vfio_compat_pin_remote
#endif

/* 6.5 dropped it there, too ("mm/gup: remove vmas parameter from get_user_pages_remote()"). */
#if VFIO_PROBE_GET_REMOTE_VMAS
static inline long vfio_compat_get_remote(struct mm_struct *mm, unsigned long start,
					  unsigned long npages, unsigned int flags,
					  struct page **pages, int *locked)
{
	return get_user_pages_remote(mm, start, npages, flags, pages, NULL, locked);
}

#define get_user_pages_remote vfio_compat_get_remote
#endif

/*
 * Since 6.3 a long-term pin of the caller's own memory waits for a userfaultfd ("mm/gup: have
 * internal functions get the mmap_read_lock()").  Its series ends with a change of headers.
 */
#define VFIO_COMPAT_PIN_WAITS VFIO_PROBE_FOLL_REMOTE_NOT_THERE

/* 6.4 made the tag mask a property of the mm ("mm: Introduce untagged_addr_remote()"). */
#if VFIO_PROBE_UNTAGGED_ADDR_REMOTE_NOT_THERE
static inline unsigned long vfio_compat_untagged_addr(struct mm_struct *mm, unsigned long addr)
{
	return untagged_addr(addr);
}

#define untagged_addr_remote vfio_compat_untagged_addr
#endif

#if VFIO_COMPAT_TRACKS_WRITES
static inline bool vfio_compat_tracks_writes(const struct vm_area_struct *vma)
{
	const struct vm_operations_struct *ops = vma->vm_ops;

	if ((vma->vm_flags & (VM_SHARED | VM_WRITE)) != (VM_SHARED | VM_WRITE))
		return false;
	return (ops && (ops->page_mkwrite || ops->pfn_mkwrite)) ||
	       (vma->vm_file && mapping_can_writeback(vma->vm_file->f_mapping));
}
#else
static inline bool vfio_compat_tracks_writes(const struct vm_area_struct *vma)
{
	return false;
}
#endif

/*
 * Since 6.2 a long-term pin of private memory for reading gets the process's own page, also
 * where nothing was written yet ("mm/gup: reliable R/O long-term pinning in COW mappings").
 * Before, it gets the zero page, or that of the page cache.  The commit gave gup_must_unshare()
 * an argument.
 */
#define VFIO_COMPAT_PIN_UNSHARES (!VFIO_PROBE_GUP_MUST_UNSHARE_NO_VMA)

/*
 * 6.12 replaced follow_pte() for drivers by follow_pfnmap_start() ("mm: new
 * follow_pfnmap API"), which also understands huge entries.
 */
#if VFIO_PROBE_FOLLOW_PFNMAP_NOT_THERE
/* 6.10: "mm: pass VMA instead of MM to follow_pte()". */
#if VFIO_PROBE_FOLLOW_PTE_VMA
#define vfio_compat_follow_pte(vma, address, ptep, ptl) follow_pte(vma, address, ptep, ptl)
#else
#define vfio_compat_follow_pte(vma, address, ptep, ptl) \
	follow_pte((vma)->vm_mm, address, ptep, ptl)
#endif

struct follow_pfnmap_args {
	struct vm_area_struct *vma;
	unsigned long address;
	unsigned long pfn;
	bool writable;
};

/* The page table is not kept locked: callers only want to know. */
static inline int follow_pfnmap_start(struct follow_pfnmap_args *args)
{
	spinlock_t *ptl; /* the page table's */
	pte_t *ptep;
	int ret = vfio_compat_follow_pte(args->vma, args->address, &ptep, &ptl);

	if (ret)
		return ret;
	__acquire(ptl); /* for sparse: follow_pte() does not say so */
	args->pfn = pte_pfn(*ptep);
	args->writable = pte_write(*ptep);
	pte_unmap_unlock(ptep, ptl);
	return 0;
}

static inline void follow_pfnmap_end(struct follow_pfnmap_args *args)
{
}
#endif

#endif /* _VFIO_TYPE1_COMPAT_MM_H */
