/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * User memory of a chosen physical layout, for suites that run in kernel
 * threads. UML has neither huge pages nor any other way to ask for it.
 */
#ifndef _TESTS_KUNIT_USER_MEM_H
#define _TESTS_KUNIT_USER_MEM_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/mm.h>

/* Physically contiguous pages, aligned to their size. */
#define USER_BLOCK_PAGES	1024U
/* References to a page of a block: the case's, and that of a user mapping. */
#define REFS_UNPINNED		2
#define REFS_PINNED		(REFS_UNPINNED + GUP_PIN_COUNTING_BIAS)
/* Above all RAM: frames without a struct page, as of a BAR. */
#define MMIO_PFN		((64ULL << 30) >> PAGE_SHIFT)

int user_mem_suite_init(struct kunit_suite *suite);
void user_mem_suite_exit(struct kunit_suite *suite);

/* For SUITE(): one whose cases have user memory, and may let allocations fail. */
#define USER_MEM_SUITE	\
	.suite_init = user_mem_suite_init, .suite_exit = user_mem_suite_exit

void user_mem_attach(struct kunit *test);
void user_mem_detach(void);
void user_mem_borrow(void);
void user_mem_return(void);
/**
 * struct user_call - a call in a thread of its own, which has this memory
 * @call: the call
 * @data: for it
 * @killed: the thread is killed before
 * @task: the thread, which can be killed meanwhile
 * @done: completed when @call has returned
 * @ret: what @call returned
 */
struct user_call {
	int (*call)(void *data);
	void *data;
	bool killed;
	struct task_struct *task;
	struct completion done;
	int ret;
};

void user_call_start(struct kunit *test, struct user_call *thread);
bool user_call_waits(struct user_call *thread);
bool user_call_finish(struct user_call *thread);
int user_call_killed(struct kunit *test, int (*call)(void *data), void *data);

struct mm_struct *user_other_mm(struct kunit *test, bool alive);

struct page *user_block_alloc(struct kunit *test);
void user_block_free(struct page *block);
void user_expect_unpinned(struct kunit *test, struct page **pages, unsigned int npages);

unsigned long user_map_pages(struct kunit *test, struct page **pages, unsigned int npages,
			     unsigned long prot);
void user_remap_page(struct kunit *test, unsigned long vaddr, struct page *page,
		     unsigned long prot);
void user_remap_short(struct kunit *test, unsigned long vaddr);
unsigned long user_map_pfns(struct kunit *test, unsigned long at, unsigned long pfn,
			    unsigned int npages);
/**
 * struct user_faults - a VM_PFNMAP area whose frames come when they are needed
 * @pfn: frame of its first page; the area may be read and written if it is RAM
 * @scattered: pages of an even number come after those of an odd one
 * @missing: pages from this one on have no frame
 * @nr: faults so far
 * @retry: the next fault drops the mmap_lock and has to be repeated
 * @kill: and whoever it is gets killed then
 * @entered: completed by the fault that waits for @gate
 * @gate: the next fault waits for it, if not NULL
 * @amid: called then with @data, without a lock, if not NULL: whatever others do meanwhile
 * @data: for @amid
 * @at: where to, in place of what is there; 0: anywhere
 */
struct user_faults {
	unsigned long pfn;
	bool scattered;
	unsigned int missing;
	unsigned int nr;
	bool retry;
	bool kill;
	struct completion entered;
	struct completion *gate;
	void (*amid)(void *data);
	void *data;
	unsigned long at;
};

unsigned long user_map_faults(struct kunit *test, struct user_faults *faults, unsigned int npages,
			      unsigned long prot);
unsigned long user_map_anon(struct kunit *test, unsigned int npages, unsigned long prot);
void user_unmap(unsigned long vaddr, unsigned int npages);
unsigned long user_locked_vm(void);

#endif /* _TESTS_KUNIT_USER_MEM_H */
