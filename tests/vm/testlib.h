/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the cmocka programs test_*.c share: the state that each test starts
 * from and has to come back to, assertions that print what was seen, memory of
 * every kind, GET_INFO taken apart, the kernel's log, child processes without
 * privileges, and which module, kernel and IOMMU is being tested.
 *
 * A test opens what it needs through a setup function below and leaves the
 * closing to test_teardown(), which fails the test if a page is still pinned or
 * charged after everything is closed.
 */
#ifndef TESTLIB_H
#define TESTLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vfio_user.h"

#define KIB(npages)	((long)((npages) * (VU_PAGE / 1024)))
#define MIB		(1024 * 1024UL)
#define GIB		(1024 * MIB)
#define RW		(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* ---- The state of a test ---- */

struct fixture {
	int container;
	struct vu_pci pci[2];	/* two edu devices in groups of their own */
	struct vu_edu edu[2];
	long locked_kib;	/* before the container was opened */
	long pinned;
};

/* Nothing open yet; the devices are found and bound to vfio-pci. */
int test_setup_closed(void **state);
/* A container of this type with the first edu in it, ready for DMA. */
int test_setup_v1(void **state);
int test_setup_v2(void **state);
/* A v2 container with both. */
int test_setup_two(void **state);
/* Close what is open; nothing may be left pinned or charged. */
int test_teardown(void **state);

/* A test that starts from one of these, by name of the function. */
#define TEST_CLOSED(name) cmocka_unit_test_setup_teardown(name, test_setup_closed, test_teardown)
#define TEST_V1(name)	cmocka_unit_test_setup_teardown(name, test_setup_v1, test_teardown)
#define TEST_V2(name)	cmocka_unit_test_setup_teardown(name, test_setup_v2, test_teardown)
#define TEST_TWO(name)	cmocka_unit_test_setup_teardown(name, test_setup_two, test_teardown)

/* Open the nth edu's group and put it into f's container; then open its device. */
void fixture_attach(struct fixture *f, unsigned int nth);
void fixture_open_device(struct fixture *f, unsigned int nth);
/* Close the nth edu's device and group, which takes it out of the container. */
void fixture_close_device(struct fixture *f, unsigned int nth);
/* Close f's container, and open a new one. */
void fixture_close_container(struct fixture *f);
void fixture_open_container(struct fixture *f);

/* Close everything, in the order device, group, container. */
void fixture_close(struct fixture *f);

/* Nothing is charged or pinned beyond what was when the test began. */
void assert_nothing_held(const struct fixture *f);
/* Exactly this many pages are charged to this process since the test began. */
void assert_charged(const struct fixture *f, size_t npages);
/* Exactly this many pages were pinned since the test began. */
void assert_pinned(const struct fixture *f, size_t npages);
/* The same, soon: what goes with the end of a process goes after it. */
void wait_pinned(const struct fixture *f, size_t npages);

/* ---- Assertions ---- */

/* What the test is at, in a loop: the assertions below say so when they fail. */
void at_step(const char *fmt, ...) CMOCKA_PRINTF_ATTRIBUTE(1, 2);

void assert_ret_at(const char *what, int ret, int want, const char *file, int line);
/* expr is 0 or -errno, as want. */
#define assert_ret(expr, want)	assert_ret_at(#expr, expr, want, __FILE__, __LINE__)
#define assert_ok(expr)		assert_ret(expr, 0)

void assert_unmaps_at(int container, __u64 iova, __u64 size, __u32 flags, __u64 want,
		      const char *file, int line);
/* UNMAP_DMA succeeds and reports want bytes. */
#define assert_unmaps(container, iova, size, want) \
	assert_unmaps_at(container, iova, size, 0, want, __FILE__, __LINE__)
#define assert_unmaps_all(container, want) \
	assert_unmaps_at(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, want, __FILE__, __LINE__)

/* A seed that no memory and no device's buffer has seen. */
unsigned int pattern_new_seed(void);
/* Fill or check len bytes with a pattern that differs from word to word and by seed. */
void pattern_fill(void *mem, size_t len, unsigned int seed);
bool pattern_matches(const void *mem, size_t len, unsigned int seed);

/*
 * One page that the nth edu can read and write at iova is the one that the CPU
 * sees at mem: the device copies its first quarter to the third one.
 */
void assert_dma_reaches(const struct fixture *f, unsigned int nth, void *mem, __u64 iova);
/* A write by the nth edu to iova doesn't land in the page at mem. */
void assert_dma_blocked(const struct fixture *f, unsigned int nth, void *mem, __u64 iova);

/* ---- Memory ---- */

struct backing {
	const char *name;
	void *(*alloc)(size_t size);
};

#define NBACKINGS 7
extern const struct backing backings[NBACKINGS];

/* Each fails the test if there is no such memory; given back with vu_free(). */
void *mem_scattered(size_t size);
void *mem_sequential(size_t size);
void *mem_thp(size_t size);
void *mem_hugetlb(size_t size);
void *mem_hugetlb_shared(size_t size);
/* So many huge pages, in several runs if they are several: every other one of a file. */
char *mem_huge_runs(unsigned int nr);
void *mem_memfd(size_t size);
/* The same, populated, with *FD left open. */
void *mem_memfd_open(size_t size, int *fd);
void *mem_file(size_t size);
/* A few pages that are there, wherever they are. */
void *mem_pages(size_t npages);
/* Reserved address space without access; parts of it can be replaced with MAP_FIXED. */
void *mem_reserve(size_t size);

/* Memory that is not there before the test says so: who touches it waits. */
struct late {
	char *mem;
	size_t size;
	int uffd;
};

/* mem becomes that: private memory, of which some may be there already. */
bool late_begin(struct late *late, void *mem, size_t size);
/* Wait until somebody waits for a page. */
bool late_wait(const struct late *late);
/* size bytes from offset on are there: zeroes. */
void late_come(const struct late *late, size_t offset, size_t size);
void late_end(struct late *late);

/* ---- Memory cgroups ---- */

/* Make one, in which processes may use max bytes, or as much as there is if it is NULL. */
void cgroup_begin(const char *max);
/* Who was in it has gone. */
void cgroup_end(void);
/* In a child, without cmocka's assertions: go into it. */
void cgroup_enter(void);
/* In a child, too: what the kernel has allocated on behalf of it, in bytes. */
long cgroup_kernel(void);

/* ---- GET_INFO ---- */

#define INFO_MAX 1024

struct info {
	union {
		struct vfio_iommu_type1_info head;
		char raw[INFO_MAX];
	};
	unsigned int ncaps;
	__u16 cap_id[5];	/* in the order of the chain */
	size_t end;		/* where the last capability ends */
	const struct vfio_iommu_type1_info_cap_migration *migration;
	const struct vfio_iommu_type1_info_dma_avail *dma_avail;
	const struct vfio_iommu_type1_info_cap_iova_range *iova;
	const struct vfio_type1_info_cap_memory *memory;
};

/* GET_INFO with room for everything; capabilities that are not there stay NULL. */
void info_get(int container, struct info *info);
__u32 dma_avail(int container);

/* ---- The kernel's log ---- */

/* A descriptor that sees only the lines logged from now on; close() it. */
int kmsg_open(void);
/* Count the lines that match the extended regular expression, and forget them. */
unsigned int kmsg_count(int fd, const char *regex);

/*
 * The console, which the VM's runner reads, is not to see what comes now: the killer's call
 * trace, where a test has somebody killed for want of memory.
 */
void kmsg_hush(bool on);

/* ---- Child processes ---- */

/* In a child, where cmocka's assertions must not be used: leave with status 1. */
#define child_check(cond) do { \
	if (!(cond)) { \
		fprintf(stderr, "# child: %s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
		_exit(1); \
	} \
} while (0)

/* Run body(arg) in a child; it fails the test unless the child gets to the end of it. */
void in_child(void (*body)(void *arg), void *arg);
/* The same as user nobody, without any capability, and with this RLIMIT_MEMLOCK. */
void in_child_nobody(size_t memlock_bytes, void (*body)(void *arg), void *arg);

/* ---- What is being tested ---- */

enum iommu_kind { IOMMU_VTD, IOMMU_AMD, IOMMU_SMMU, IOMMU_VIRTIO };

enum iommu_kind iommu_kind(void);
/*
 * What devices write to in order to interrupt: no valid IOVA. On arm64, where user
 * space's MSIs go; in bytes, both ends inclusive.
 */
void msi_window(__u64 *first, __u64 *last);
/* The kernel's own module (true), or the one of this project. */
bool is_intree(void);
bool kernel_at_least(unsigned int major, unsigned int minor);
/* One of tools/debug: with detectors, and full preemption. */
bool kernel_debugs(void);
/* The in-tree module does this wrong: leave the test. */
void not_on_intree(const char *why);
/* Read or write a parameter of the module that is being tested. */
unsigned int module_param_read(const char *name);
void module_param_write(const char *name, unsigned int val);
/* The same of any module. */
unsigned int param_read(const char *module, const char *name);
void param_write(const char *module, const char *name, unsigned int val);
/* Load a module, a file of the VM, unless it is loaded already. */
void module_load(const char *path);

/* Seconds, as a deadline for loops that wait for something. */
#define TEST_TIMEOUT	30

#endif /* TESTLIB_H */
