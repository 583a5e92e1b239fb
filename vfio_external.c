// SPDX-License-Identifier: GPL-2.0-only
/*
 * In-kernel users: drivers of devices without an IOMMU of their own (mdev),
 * which reach the memory of a container's mappings through the VFIO core.
 *
 * They pin single pages.  A pinned page is remembered by its IOVA, with a count,
 * and stays the same page until the last unpin, whatever the process does to its
 * memory.  If a domain is attached, all pages of a mapping are pinned and charged
 * anyway, and the external pin is not charged again; if not, it is.  Pages of
 * registered memory are pinned and charged by their region.
 *
 * Who holds external_lock and finds a LIVE mapping may use it until the lock is
 * dropped: UNMAP passes through the lock before it empties a mapping.  Who finds
 * any mapping may look for pins in it: mappings leave the tree under the lock.
 */

#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat/compiler.h"
#include "vfio_account.h"
#include "vfio_count.h"
#include "vfio_dirty.h"
#include "vfio_dma_tree.h"
#include "vfio_external.h"
#include "vfio_group.h"
#include "vfio_pin.h"
#include "vfio_pinned.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_type1.h"

/* Remember a page that was pinned for the first time.  Return: the page. */
static struct page *external_add(struct vfio_type1_container *container, struct vfio_dma *dma,
				 struct vfio_pinned_page *pin, u64 iova, struct vfio_run run)
{
	pin->iova = iova;
	pin->pfn = vfio_run_pfn(run);
	pin->refs = 1;
	pin->kind = run.word & VFIO_RUN_KIND;
	pin->own = false;
	vfio_pinned_insert(dma, pin);
	vfio_dirty_mark(container, dma, iova, PAGE_SIZE);
	return pfn_to_page(pin->pfn);
}

/* The run of one page at @iova in a mapping of registered memory. */
static struct vfio_run external_region_page(const struct vfio_dma *dma, u64 iova)
{
	return vfio_region_run(dma->region,
			       dma->region_page + ((iova - dma->iova) >> PAGE_SHIFT), 1);
}

/* A device wrote to the page at @iova, or may have, and it stays pinned. */
static void external_written(const struct vfio_dma *dma, u64 iova)
{
	if (vfio_dma_writeback(dma))
		vfio_pin_dirty(external_region_page(dma, iova));
}

/* Pin a page that is registered: its mapping keeps it, and it is charged. */
static int external_pin_registered(struct vfio_type1_container *container, struct vfio_dma *dma,
				   u64 iova, struct page **result)
{
	struct vfio_pinned_page *pin = kzalloc(sizeof(*pin), GFP_KERNEL_ACCOUNT);

	if (!pin)
		return -ENOMEM;
	*result = external_add(container, dma, pin, iova, external_region_page(dma, iova));
	return 0;
}

/**
 * struct external_absent - memory that pinning has to wait for
 * @mm: whose memory; a reference is held
 * @iova: where the first page of it is mapped
 * @vaddr: its user address
 * @npages: how many pages are wanted from there on
 * @prot: of the mapping
 */
struct external_absent {
	struct mm_struct *mm;
	u64 iova;
	unsigned long vaddr;
	unsigned long npages;
	int prot;
};

/*
 * Tell why an in-kernel user does not get what it asks for: of its driver an errno is all that
 * can be seen, and what it asks for is often what a guest wrote into its tables.
 */
static __cold
void external_refuse(struct vfio_type1_container *container, const char *request, u64 iova,
		     const char *why, int error)
{
	vfio_refuse(container, VFIO_REFUSE_PIN, "%s iova 0x%llx: %s: error %d", request, iova, why,
		    error);
}

/* Beside 0 and errnos: what pin_pages has to wait for, without a lock, before it tries again. */
enum external_again {
	EXTERNAL_WAIT = 1,	/* somebody else's mapping is being filled */
	EXTERNAL_ABSENT,	/* struct external_absent */
};

/*
 * Pages that may have to be charged yet, if in-kernel users pin all that is mapped: what a
 * limit has to allow for, as they pin page by page, and whichever they need.
 */
static unsigned long external_uncharged(struct vfio_type1_container *container)
{
	unsigned long npages = READ_ONCE(container->tree.bytes) >> PAGE_SHIFT;
	s64 charged = vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES);

	return charged < 0 || charged >= npages ? 1 : npages - charged;
}

/*
 * Pin the page at @iova, or count it once more if it is pinned already.  Return: 0; an errno;
 * or EXTERNAL_ABSENT with all of @absent but its number of pages set.
 */
static int external_pin_page(struct vfio_type1_container *container, struct vfio_dma *dma,
			     u64 iova, struct page **result, struct external_absent *absent)
{
	struct vfio_pinned_page *pin = vfio_pinned_find(dma, iova);
	unsigned long vaddr = dma->vaddr + (iova - dma->iova);
	struct page *page;
	struct vfio_pin_batch batch = {
		.mm = dma->owner.mm, .prot = dma->prot, .pages = &page, .capacity = 1,
	};
	struct vfio_run run;
	struct vfio_run_queue queue = { .runs = &run, .capacity = 1 };
	unsigned long ram;
	int ret;

	if (pin) {
		pin->refs++;
		*result = pfn_to_page(pin->pfn);
		return 0;
	}
	if (dma->region)
		return external_pin_registered(container, dma, iova, result);

	/* The owner may have died; its memory must not go while we look at it. */
	if (!mmget_not_zero(dma->owner.mm)) {
		external_refuse(container, "pin_pages", iova, "its process has exited", -ENODEV);
		return -ENODEV;
	}
	pin = kzalloc(sizeof(*pin), GFP_KERNEL_ACCOUNT);
	ret = -ENOMEM;
	if (!pin)
		goto put;
	ret = vfio_pin_fill_at_hand(&batch, vaddr, 1);
	if (ret == -EINTR)
		goto free;
	if (ret < 0) {
		kfree(pin);
		*absent = (struct external_absent) {
			.mm = dma->owner.mm, .iova = iova, .vaddr = vaddr, .prot = dma->prot,
		};
		return EXTERNAL_ABSENT;
	}
	vfio_pin_cut(&batch, &queue, 1);
	ram = vfio_run_charged(run) ? 1 : 0;
	if (!pfn_valid(vfio_run_pfn(run))) {
		ret = -EINVAL;
		external_refuse(container, "pin_pages", iova,
				"it is device memory, without a struct page", ret);
		goto free;
	}
	if (!vfio_container_has_iommu(container)) {
		ret = vfio_account_charge(&dma->owner, ram);
		if (ret)
			goto unpin;
		vfio_dma_note_charge(container, dma, ram);
	}
	*result = external_add(container, dma, pin, iova, run);
	mmput(dma->owner.mm);
	return 0;

unpin:
	if (ret == -ENOMEM)
		vfio_refuse_memlock(container, &dma->owner, "pin_pages iova", iova,
				    external_uncharged(container));
	vfio_unpin_runs(&run, 1);
free:
	kfree(pin);
put:
	mmput(dma->owner.mm);
	return ret;
}

/* Drop the reference to a page that was registered. */
static void external_put_own(const struct vfio_dma *dma, unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);

	if (dma->prot & IOMMU_WRITE)
		set_page_dirty_lock(page);
	put_page(page);
}

/* Unpin a page, and give back what was charged for it by itself. */
static void external_put_page(struct vfio_type1_container *container, struct vfio_dma *dma,
			      const struct vfio_pinned_page *pin)
{
	struct vfio_run run = vfio_run_make(pin->pfn, 1, vfio_run_flags(dma->prot) | pin->kind);

	/* If it is in a domain, its charge is the mapping's. */
	if (!dma->mapped && vfio_run_charged(run) && dma->locked_vm) {
		vfio_dma_note_charge(container, dma, -1);
		vfio_account_refund(&dma->owner, 1);
	}
	vfio_unpin_runs(&run, 1);
}

/* Undo one external_pin_page(). */
static void external_unpin_page(struct vfio_type1_container *container, struct vfio_dma *dma,
				u64 iova)
{
	struct vfio_pinned_page *pin = vfio_pinned_find(dma, iova);

	if (!pin || --pin->refs)
		return;
	rb_erase(&pin->node, &dma->external);
	if (pin->own)
		external_put_own(dma, pin->pfn);
	else if (dma->region)
		external_written(dma, iova);
	else
		external_put_page(container, dma, pin);
	kfree(pin);
	/* An UNMAP may be waiting for this. */
	if (RB_EMPTY_ROOT(&dma->external))
		vfio_dma_tree_wake(&container->tree);
}

/* The last page of a KEPT mapping was unpinned. */
static void external_free_kept(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	spin_lock(&tree->lock);
	vfio_dma_tree_remove(tree, dma);
	spin_unlock(&tree->lock);
	vfio_owner_put(&dma->owner);
	kfree(dma);
}

/* Undo the pinning of pages, of which some may not be pinned. */
static void external_unpin_pages(struct vfio_type1_container *container, u64 iova, int npages)
{
	struct vfio_dma_tree *tree = &container->tree;
	struct vfio_dma *dma, *kept;

	lockdep_assert_held(&container->external_lock);
	for (; npages > 0; npages--, iova += PAGE_SIZE) {
		spin_lock(&tree->lock);
		dma = vfio_dma_tree_first(tree, iova, iova);
		kept = dma ? NULL : vfio_dma_tree_first_kept(tree, iova, iova);
		spin_unlock(&tree->lock);
		if (WARN_ON_ONCE(!dma && !kept))
			return;
		external_unpin_page(container, dma ?: kept, iova);
		if (kept && RB_EMPTY_ROOT(&kept->external))
			external_free_kept(tree, kept);
	}
}

/**
 * struct external_look - a mapping that an in-kernel user looks for
 * @request: what for, in a message
 * @iova: where
 * @prot: what it has to allow
 * @dma: the mapping
 * @changes: for vfio_dma_tree_wait(), with EXTERNAL_WAIT
 */
struct external_look {
	const char *request;
	u64 iova;
	int prot;
	struct vfio_dma *dma;
	unsigned long changes;
};

/*
 * Find a mapping and check that it allows what it has to.  Return: 0, an errno, or EXTERNAL_WAIT
 * while MAP fills it.
 */
static int external_get_dma(struct vfio_type1_container *container, struct external_look *look)
{
	struct vfio_dma_tree *tree = &container->tree;
	const char *why = NULL;
	struct vfio_dma *dma;
	int ret = 0;

	spin_lock(&tree->lock);
	dma = vfio_dma_tree_first(tree, look->iova, look->iova);
	if (!dma) {
		why = "nothing is mapped there";
		ret = -EINVAL;
	} else if (dma->state == VFIO_DMA_DYING) {
		why = "it is being unmapped";
		ret = -EINVAL;
	} else if (dma->state == VFIO_DMA_PENDING) {
		look->changes = tree->changes;
		ret = EXTERNAL_WAIT;
	} else if ((dma->prot & look->prot) != look->prot) {
		why = "its mapping does not allow that access";
		ret = -EPERM;
	}
	spin_unlock(&tree->lock);
	if (why)
		external_refuse(container, look->request, look->iova, why, ret);
	look->dma = dma;
	return ret;
}

/* Take both locks, unless user space is exchanging addresses. */
static int external_enter(struct vfio_type1_container *container)
{
	down_read(&container->lock);
	if (container->tree.vaddr_invalid) {
		vfio_refuse(container, VFIO_REFUSE_VADDR,
			    "pin_pages or dma_rw: %u mappings wait for a new address (VFIO_DMA_MAP_FLAG_VADDR)",
			    container->tree.vaddr_invalid);
		up_read(&container->lock);
		return -EBUSY;
	}
	mutex_lock(&container->external_lock);
	return 0;
}

static void external_leave(struct vfio_type1_container *container)
{
	mutex_unlock(&container->external_lock);
	up_read(&container->lock);
}

/* Pages faulted in at a time. */
#define ABSENT_BATCH	32

/* Have pages at hand that pinning was missing, as far as one mapping has them. */
static int external_fetch(struct vfio_type1_container *container,
			  const struct external_absent *absent)
{
	struct page *pages[ABSENT_BATCH] __uninitialized;
	struct vfio_pin_batch batch = {
		.mm = absent->mm, .prot = absent->prot, .pages = pages, .capacity = ABSENT_BATCH,
	};
	int ret = vfio_pin_fill(&batch, absent->vaddr,
				min_t(unsigned long, absent->npages, ABSENT_BATCH));

	/* Nobody wrote to them. */
	batch.prot = IOMMU_READ;
	if (ret > 0)
		vfio_pin_drop(&batch);
	else if (ret != -EINTR)
		vfio_refuse(container, VFIO_REFUSE_PIN,
			    "pin_pages iova 0x%llx: cannot pin memory at vaddr 0x%lx for %s: %s: error %d",
			    absent->iova, absent->vaddr,
			    absent->prot & IOMMU_WRITE ? "writing" : "reading",
			    vfio_pin_why_not(absent->mm, absent->vaddr, absent->prot, ret), ret);
	mmput(absent->mm);
	return min(ret, 0);
}

/*
 * Pin all pages, or none.  Return: 0; an errno; EXTERNAL_WAIT with @changes set; or
 * EXTERNAL_ABSENT with @absent set.
 */
static int external_pin_pages(struct vfio_type1_container *container,
			      const struct vfio_external_want *want, unsigned long *changes,
			      struct external_absent *absent)
{
	struct external_look look = { .request = "pin_pages", .prot = want->prot };
	struct page **pages = want->pages;
	int i, ret;

	for (i = 0; i < want->npages; i++) {
		look.iova = want->iova + (u64)i * PAGE_SIZE;
		ret = external_get_dma(container, &look) ?:
		      external_pin_page(container, look.dma, look.iova, &pages[i], absent);
		if (ret)
			goto undo;
	}
	return 0;

undo:
	if (ret == EXTERNAL_ABSENT)
		absent->npages = min_t(u64, want->npages - i,
				       ((look.dma->last - absent->iova) >> PAGE_SHIFT) + 1);
	*changes = look.changes;
	external_unpin_pages(container, want->iova, i);
	memset(pages, 0, (i + 1) * sizeof(*pages));
	return ret;
}

/**
 * vfio_external_pin() - vfio_iommu_driver_ops.pin_pages
 * @container: the container
 * @group: the caller's group
 * @request: the pages; where in the first one its IOVA is does not matter, as the VFIO core
 *	promises
 *
 * Context: may sleep; takes container->lock and container->external_lock.
 * Return: how many pages; -EINVAL if a page is not mapped, cannot be described by a
 * struct page, or no device is registered that could be told of an unmap;
 * -EACCES on a v1 container; -EBUSY while addresses are exchanged; -EPERM if a
 * mapping does not allow the access; -EOVERFLOW if the range wraps around; -ENODEV if
 * a mapping's owner is dead; else as vfio_pin_fill() and vfio_account_charge().
 * On failure nothing is pinned.
 */
int vfio_external_pin(struct vfio_type1_container *container, struct iommu_group *group,
		      const struct vfio_external_want *request)
{
	struct vfio_external_want want = *request;
	struct vfio_group_entry *entry;
	struct external_absent absent;
	struct vfio_domain *domain;
	unsigned int fetched = 0;
	unsigned long changes;
	u64 last;
	int ret;

	if (!want.pages || want.npages <= 0)
		return -EINVAL;
	if (!container->v2) {
		external_refuse(container, "pin_pages", want.iova, "not with VFIO_TYPE1_IOMMU",
				-EACCES);
		return -EACCES;
	}
	want.iova &= PAGE_MASK;
	if (check_add_overflow(want.iova, (u64)want.npages * PAGE_SIZE - 1, &last))
		return -EOVERFLOW;

	for (;;) {
		ret = external_enter(container);
		if (ret)
			return ret;
		ret = -EINVAL;
		if (list_empty(&container->devices))
			external_refuse(container, "pin_pages", want.iova,
					"no device of the container wants to be told of UNMAP_DMA",
					ret);
		else
			ret = external_pin_pages(container, &want, &changes, &absent);
		if (ret <= 0)
			break;
		/* Not with pins that a device which is told to unpin knows nothing of. */
		external_leave(container);
		if (ret == EXTERNAL_WAIT)
			ret = vfio_dma_tree_wait(&container->tree, changes);
		else
			ret = external_fetch(container, &absent) ?:
			      ++fetched > VFIO_FAULT_IN_MAX ? -EFAULT : 0;
		if (ret)
			return ret;
	}

	entry = ret ? NULL : vfio_container_find_group(container, group, &domain);
	if (entry && !entry->pins_only) {
		WRITE_ONCE(entry->pins_only, true);
		WRITE_ONCE(container->dirty_groups, container->dirty_groups - 1);
	}
	external_leave(container);
	return ret ?: want.npages;
}

/**
 * vfio_external_unpin() - vfio_iommu_driver_ops.unpin_pages
 * @container: the container
 * @iova: in the first page, as for vfio_external_pin()
 * @npages: pages to unpin, each pinned by vfio_external_pin()
 *
 * Also works while the mapping is being unmapped: that is when devices are told
 * to unpin; and afterwards, if it is KEPT.
 *
 * Context: may sleep; takes container->lock and container->external_lock.
 */
void vfio_external_unpin(struct vfio_type1_container *container, u64 iova, int npages)
{
	if (WARN_ON_ONCE(!container->v2 || npages <= 0))
		return;
	down_read(&container->lock);
	mutex_lock(&container->external_lock);
	external_unpin_pages(container, iova & PAGE_MASK, npages);
	external_leave(container);
}

/**
 * struct external_copy - what is left of a dma_rw
 * @iova: first byte
 * @data: kernel memory to copy from or to
 * @count: bytes
 * @write: write to user memory
 * @faults: how often memory had to be faulted in since something was copied
 */
struct external_copy {
	u64 iova;
	void *data;
	size_t count;
	bool write;
	unsigned int faults;
};

/* Copy within a page of registered memory, which may not be the process's any more. */
static ssize_t external_rw_registered(struct vfio_type1_container *container,
				      struct vfio_dma *dma, const struct external_copy *copy,
				      size_t count)
{
	u64 iova = copy->iova;
	struct page *page = pfn_to_page(vfio_run_pfn(external_region_page(dma, iova)));
	unsigned int offset = offset_in_page(iova);

	count = min(count, PAGE_SIZE - offset);
	/* A page with a memory error, or a huge page with one, may be mapped nowhere any more. */
	if (is_page_hwpoison(page))
		return -EFAULT;
	if (copy->write) {
		memcpy_to_page(page, offset, copy->data, count);
		external_written(dma, iova);
		vfio_dirty_mark(container, dma, iova, count);
	} else {
		memcpy_from_page(copy->data, page, offset, count);
	}
	return count;
}

/* User memory that has to be faulted in, without a lock; a reference to @mm is held. */
struct external_missing {
	struct mm_struct *mm;
	void __user *at;
	size_t size;
};

/*
 * Copy within one mapping, without waiting for user memory.  Return: bytes copied; an
 * errno; or 0 with @missing set.
 */
static ssize_t external_rw_one(struct vfio_type1_container *container, struct vfio_dma *dma,
			       const struct external_copy *copy,
			       struct external_missing *missing)
{
	size_t count = copy->count;
	u64 iova = copy->iova;
	struct mm_struct *mm = dma->owner.mm;
	bool borrow = !current->mm;
	void __user *at = (void __user *)(dma->vaddr + (iova - dma->iova));
	long failed;

	if (dma->last - iova < count - 1)
		count = dma->last - iova + 1;
	if (dma->region)
		return external_rw_registered(container, dma, copy, count);
	if (!mmget_not_zero(mm)) {
		external_refuse(container, "dma_rw", iova, "its process has exited", -EPERM);
		return -EPERM;
	}
	if (!borrow && current->mm != mm) {
		mmput(mm);
		return -EFAULT;
	}
	/* Also of a copy that ends halfway. */
	if (copy->write)
		vfio_dirty_mark(container, dma, iova, count);
	if (borrow)
		kthread_use_mm(mm);
	failed = copy->write ? copy_to_user_nofault(at, copy->data, count) :
			       copy_from_user_nofault(copy->data, at, count);
	if (borrow)
		kthread_unuse_mm(mm);
	if (failed) {
		*missing = (struct external_missing) { mm, at, count };
		return 0;
	}
	mmput(mm);
	return count;
}

/* Return: as vfio_user_fault_in(). */
static int external_fault_in(const struct external_missing *missing, bool write)
{
	bool borrow = !current->mm;
	int ret;

	if (borrow)
		kthread_use_mm(missing->mm);
	ret = vfio_user_fault_in(missing->at, missing->size, write);
	if (borrow)
		kthread_unuse_mm(missing->mm);
	mmput(missing->mm);
	return ret;
}

/*
 * Copy a piece: as much as one mapping has of it.  Return: bytes copied; an errno; or 0
 * after what had to be waited for, which is to be looked up again.
 */
static ssize_t external_rw_piece(struct vfio_type1_container *container,
				 struct external_copy *copy)
{
	struct external_look look = {
		.request = "dma_rw",
		.iova = copy->iova,
		/* Writing takes a mapping that may be read as well, as it always did. */
		.prot = IOMMU_READ | (copy->write ? IOMMU_WRITE : 0),
	};
	struct external_missing missing;
	ssize_t done;
	int ret;

	ret = external_enter(container);
	if (ret)
		return ret;
	ret = external_get_dma(container, &look);
	if (!ret)
		done = external_rw_one(container, look.dma, copy, &missing);
	external_leave(container);
	if (ret > 0)
		return vfio_dma_tree_wait(&container->tree, look.changes);
	if (ret || done)
		return ret ?: done;
	ret = external_fault_in(&missing, copy->write);
	return ret ?: ++copy->faults > VFIO_FAULT_IN_MAX ? -EFAULT : 0;
}

/**
 * vfio_external_rw() - vfio_iommu_driver_ops.dma_rw
 * @container: the container
 * @iova: first byte
 * @data: kernel memory to copy from or to
 * @count: bytes
 * @write: write to user memory
 *
 * Context: may sleep; a kernel thread, or the process that mapped the memory;
 * takes container->lock and container->external_lock.
 * Return: 0; -EINVAL if something is not mapped; -EPERM if a mapping does not
 * allow reading, or writing for @write, or its owner is dead; -EFAULT; -EINTR on a fatal
 * signal; -EBUSY while addresses are exchanged.  What was copied before stays copied.
 */
int vfio_external_rw(struct vfio_type1_container *container, u64 iova, void *data,
		     size_t count, bool write)
{
	struct external_copy copy = {
		.iova = iova, .data = data, .count = count, .write = write,
	};
	ssize_t done;

	while (copy.count) {
		done = external_rw_piece(container, &copy);
		if (done < 0)
			return done;
		if (done)
			copy.faults = 0;
		copy.iova += done;
		copy.data += done;
		copy.count -= done;
	}
	return 0;
}
