// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory of a chosen physical layout: see user_mem.h.
 *
 * Cases run in kernel threads, which have no memory of their own: they borrow
 * that of the task that loads the module. Built-in suites run before there is a
 * user process, and make themselves an empty memory.
 */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/log2.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "fault.h"
#include "user_mem.h"

#define USER_BLOCK_ORDER	ilog2(USER_BLOCK_PAGES)

static struct mm_struct *loader_mm;

#ifdef MODULE
static struct mm_struct *get_user_mm(void)
{
	return get_task_mm(current);
}
#else
static struct mm_struct *get_user_mm(void)
{
	struct mm_struct *mm = mm_alloc();

	if (!mm)
		return NULL;
	/* What exec does, as far as mmap needs it. */
	arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	mm->task_size = TASK_SIZE;
	return mm;
}
#endif

/* Most of these suites also let allocations fail. */
int user_mem_suite_init(struct kunit_suite *suite)
{
	loader_mm = get_user_mm();
	return loader_mm ? fault_suite_init(suite) : -EINVAL;
}

void user_mem_suite_exit(struct kunit_suite *suite)
{
	mmput(loader_mm);
	/* Kernel threads leave closing a file to a worker: the module must outlive that. */
	flush_delayed_fput();
}

/* Lend the loader's memory to the thread of a case. */
void user_mem_attach(struct kunit *test)
{
	KUNIT_ASSERT_NULL(test, current->mm);
	/* For the thread's exit, which drops a user's reference. */
	mmget(loader_mm);
	kthread_use_mm(loader_mm);
}

/* Called from the exit of a case, which may run in another thread. */
void user_mem_detach(void)
{
	/* Of kthread_use_mm(), which the thread's exit does not know about. */
	mmdrop(loader_mm);
}

/* The same for a thread that a case starts, until user_mem_return(). */
void user_mem_borrow(void)
{
	kthread_use_mm(loader_mm);
}

void user_mem_return(void)
{
	kthread_unuse_mm(loader_mm);
}

static int user_call_thread(void *data)
{
	struct user_call *thread = data;

	user_mem_borrow();
	allow_signal(SIGKILL);
	if (thread->killed)
		send_sig(SIGKILL, current, 1);
	thread->ret = thread->call(thread->data);
	flush_signals(current);
	user_mem_return();
	complete(&thread->done);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

void user_call_start(struct kunit *test, struct user_call *thread)
{
	init_completion(&thread->done);
	thread->task = kthread_run(user_call_thread, thread, "vfio-request");
	KUNIT_ASSERT_FALSE(test, IS_ERR(thread->task));
}

/* Returns whether the call has not returned, nor does soon. */
bool user_call_waits(struct user_call *thread)
{
	return !wait_for_completion_timeout(&thread->done, msecs_to_jiffies(50));
}

/* Collect it. Returns whether it came to its end in time. */
bool user_call_finish(struct user_call *thread)
{
	bool done = wait_for_completion_timeout(&thread->done, 10 * HZ);

	if (done)
		kthread_stop(thread->task);
	return done;
}

/* Returns what @call returns in a thread that has this memory, and was killed. */
int user_call_killed(struct kunit *test, int (*call)(void *data), void *data)
{
	struct user_call thread = { .call = call, .data = data, .killed = true };

	user_call_start(test, &thread);
	wait_for_completion(&thread.done);
	kthread_stop(thread.task);
	return thread.ret;
}

/*
 * As much of another process's memory as who owns, charges and refunds needs to see,
 * until the end of the case: it has users if it is @alive, and no pages.
 */
struct mm_struct *user_other_mm(struct kunit *test, bool alive)
{
	struct mm_struct *mm = kunit_kzalloc(test, sizeof(*mm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mm);
	atomic_set(&mm->mm_users, alive);
	/* Never the last one: the case's own memory is not for mmdrop() to free. */
	atomic_set(&mm->mm_count, 1000);
	mmap_init_lock(mm);
	return mm;
}

struct page *user_block_alloc(struct kunit *test)
{
	struct page *block = alloc_pages(GFP_KERNEL | __GFP_ZERO, USER_BLOCK_ORDER);

	KUNIT_ASSERT_NOT_NULL(test, block);
	split_page(block, USER_BLOCK_ORDER);
	return block;
}

void user_block_free(struct page *block)
{
	unsigned int i;

	for (i = 0; i < USER_BLOCK_PAGES; i++)
		__free_page(block + i);
}

/* Of the pages of a block that are mapped to user space, none is pinned. */
void user_expect_unpinned(struct kunit *test, struct page **pages, unsigned int npages)
{
	unsigned int i;

	for (i = 0; i < npages; i++)
		KUNIT_EXPECT_EQ_MSG(test, page_ref_count(pages[i]), REFS_UNPINNED, "page %u", i);
}

struct layout {
	struct page **pages;
	unsigned long pfn;
	struct user_faults *faults;
	bool is_short;
};

static vm_fault_t layout_fault(struct vm_fault *vmf)
{
	struct user_faults *faults = vmf->vma->vm_private_data;
	unsigned long page = (vmf->address - vmf->vma->vm_start) >> PAGE_SHIFT;
	struct completion *gate = xchg(&faults->gate, NULL);

	faults->nr++;
	if (gate) {
		complete(&faults->entered);
		wait_for_completion(gate);
	}
	if (faults->retry && vmf->flags & FAULT_FLAG_ALLOW_RETRY) {
		faults->retry = false;
		if (faults->kill)
			send_sig(SIGKILL, current, 1);
		mmap_read_unlock(vmf->vma->vm_mm);
		if (faults->amid)
			faults->amid(faults->data);
		return VM_FAULT_RETRY;
	}
	if (page >= faults->missing)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(vmf->vma, vmf->address,
			      faults->pfn + (faults->scattered ? page ^ 1 : page));
}

static const struct vm_operations_struct layout_vm_ops = {
	.fault = layout_fault,
};

static vm_fault_t short_fault(struct vm_fault *vmf)
{
	return VM_FAULT_OOM;
}

static const struct vm_operations_struct short_vm_ops = {
	.fault = short_fault,
};

static int layout_mmap(struct file *file, struct vm_area_struct *vma)
{
	const struct layout *layout = file->private_data;
	unsigned long n = vma_pages(vma), i;
	int ret = 0;

	if (layout->is_short) {
		vma->vm_ops = &short_vm_ops;
		return 0;
	}
	if (!layout->pages)
		ret = remap_pfn_range(vma, vma->vm_start, layout->pfn, n << PAGE_SHIFT,
				      vma->vm_page_prot);
	if (!ret && layout->faults) {
		/* What stays is the kind of area. */
		zap_vma_ptes(vma, vma->vm_start, n << PAGE_SHIFT);
		vma->vm_private_data = layout->faults;
		vma->vm_ops = &layout_vm_ops;
	}
	if (!layout->pages)
		return ret;
	for (i = 0; i < n && !ret; i++)
		ret = vm_insert_page(vma, vma->vm_start + i * PAGE_SIZE, layout->pages[i]);
	return ret;
}

static const struct file_operations layout_fops = {
	.owner = THIS_MODULE,
	.mmap = layout_mmap,
};

static unsigned long map_layout(struct kunit *test, struct layout *layout, unsigned long at,
				unsigned int npages, unsigned long prot)
{
	struct file *file = anon_inode_getfile("layout", &layout_fops, layout, O_RDWR);
	unsigned long vaddr;

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	vaddr = vm_mmap(file, at, (unsigned long)npages << PAGE_SHIFT, prot,
			MAP_SHARED | (at ? MAP_FIXED : 0), 0);
	/* The mapping keeps the file, but needs its layout no more. */
	file->private_data = NULL;
	fput(file);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR_VALUE(vaddr), "mmap: %ld", (long)vaddr);
	return vaddr;
}

/* Shared memory made of @pages, in this order. */
unsigned long user_map_pages(struct kunit *test, struct page **pages, unsigned int npages,
			     unsigned long prot)
{
	struct layout layout = { .pages = pages };

	return map_layout(test, &layout, 0, npages, prot);
}

/* Put another page where one is, or the same for other access. */
void user_remap_page(struct kunit *test, unsigned long vaddr, struct page *page,
		     unsigned long prot)
{
	struct layout layout = { .pages = &page };

	map_layout(test, &layout, vaddr, 1, prot);
}

/* Put a page there for which there is no memory, when it is faulted in. */
void user_remap_short(struct kunit *test, unsigned long vaddr)
{
	struct layout layout = { .is_short = true };

	map_layout(test, &layout, vaddr, 1, PROT_READ | PROT_WRITE);
}

/*
 * A VM_PFNMAP area, as a device's BAR would be; at @at, or anywhere if that is 0.
 * It must be gone when the module's loader gets back to user space: UML knows no
 * way to give it frames that are not RAM.
 */
unsigned long user_map_pfns(struct kunit *test, unsigned long at, unsigned long pfn,
			    unsigned int npages)
{
	struct layout layout = { .pfn = pfn };

	return map_layout(test, &layout, at, npages, PROT_READ | PROT_WRITE);
}

/* An area like a BAR's whose driver inserts frames one at a time; @faults must outlive it. */
unsigned long user_map_faults(struct kunit *test, struct user_faults *faults, unsigned int npages,
			      unsigned long prot)
{
	struct layout layout = { .pfn = faults->pfn, .faults = faults };

	return map_layout(test, &layout, faults->at, npages, prot);
}

/* Private memory that nobody has touched. */
unsigned long user_map_anon(struct kunit *test, unsigned int npages, unsigned long prot)
{
	unsigned long vaddr = vm_mmap(NULL, 0, (unsigned long)npages << PAGE_SHIFT, prot,
				      MAP_PRIVATE | MAP_ANONYMOUS, 0);

	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR_VALUE(vaddr), "mmap: %ld", (long)vaddr);
	return vaddr;
}

/* From any thread: the exit of a case may run in another one than the case. */
void user_unmap(unsigned long vaddr, unsigned int npages)
{
	bool borrow = !current->mm;

	if (borrow)
		user_mem_borrow();
	vm_munmap(vaddr, (unsigned long)npages << PAGE_SHIFT);
	if (borrow)
		user_mem_return();
}

unsigned long user_locked_vm(void)
{
	return READ_ONCE(loader_mm->locked_vm);
}
