// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that have to be refused. For each: the errno, one line in the kernel
 * log that says why, and no change at all, neither in the container nor in the
 * caller's struct, in what it is charged or in what devices reach.
 *
 * The kernel's own module passes this too, except that it logs nothing, and
 * that up to 6.12 it says EINVAL where newer kernels, and this project, say
 * EOVERFLOW.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "testlib.h"

#define READ		VFIO_DMA_MAP_FLAG_READ
#define VADDR		VFIO_DMA_MAP_FLAG_VADDR
#define ALL		VFIO_DMA_UNMAP_FLAG_ALL
#define DIRTY		VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
#define UNKNOWN		0x80000000U
#define PAGE		VU_PAGE

/* Four pages that are mapped all the time, and have to survive. */
#define MAPPED		(16 * MIB)
#define MAPPED_SIZE	(4 * PAGE)

/* Nothing is mapped here, but could be. */
#define FREE		(5 * GIB)

/* The range of message-signalled interrupts, which no mapping may touch. */
#define MSI		0xfee00000ULL
#define MSI_SIZE	0x100000ULL
#define OVER_MAPPED	"overlaps the mapping 0x1000000-0x1003fff, which "
#define FOR_WRITING	"for writing: "
#define NEEDS_64_KIB	"locked 0 KiB, up to 64 KiB more needed; raise the limit to 64 KiB"
#define NEEDS_4_KIB	"locked 0 KiB, up to 4 KiB more needed; raise the limit to 4 KiB"
#define IN_MSI		"valid IOVA range \\(MSI window of group [0-9]+: 0xfee00000-0xfeefffff\\)"
#define NO_APERTURE	"valid IOVA range \\((outside the aperture of domain 0|" \
			"reserved region of group [0-9]+): 0x"
#define BEFORE_MSI	"; the nearest is 0x[0-9a-f]+-0xfedfffff"
#define AFTER_MSI	"; the nearest is 0xfef00000-0x[0-9a-f]+"

/* The last page of all addresses. */
#define TOP		(~(PAGE - 1))

enum call { MAP, UNMAP, INFO, NO_SUCH_IOCTL };

/* The memory under a MAP: 16 pages, in some way peculiar. */
enum memory {
	GOOD,
	MAPPED_ALREADY,
	HOLE_AT_START,
	HOLE_INSIDE,
	HOLE_AT_END,
	READ_ONLY,
	READ_ONLY_AT_END,
	NO_ACCESS,
	BEYOND_END_OF_FILE,
	NO_HUGE_PAGE,
	FULL_TMPFS,
	BROKEN,
	OF_THE_KERNEL,
	TOP_OF_ALL,
};

#define AREA		(16 * PAGE)

/* Where the ioctl's argument is. */
enum argument { FINE, NULL_POINTER, KERNEL_POINTER, HALF_READABLE };

struct bad_case {
	const char *name;
	enum call call;
	__u64 iova, size;
	__u32 flags;
	int want;		/* errno */
	const char *reason;	/* regular expression for the log; NULL: no line is due */

	/* What most cases leave alone. */
	int want_intree;	/* errno, where the in-tree module has another one */
	enum memory memory;
	__u64 vaddr_offset;	/* from the start of that memory */
	int bad_page;		/* of that memory, counted from 1: the log names it */
	bool after_range;	/* iova counts from where the second valid range ends */
	__u32 argsz_less;	/* than it should be */
	enum argument argument;
	unsigned int entry_limit;
	size_t memlock;		/* as user nobody, with this limit */
};

static const struct bad_case cases[] = {
	/* ---- MAP: the struct ---- */
	{ "map: argsz is 0", MAP, FREE, PAGE, RW, EINVAL, .reason = "argsz", .argsz_less = 32 },
	{ "map: argsz is a byte short", MAP, FREE, PAGE, RW, EINVAL, .reason = "argsz",
	  .argsz_less = 1 },
	{ "map: argument is NULL", MAP, FREE, PAGE, RW, EFAULT, .argument = NULL_POINTER },
	{ "map: argument is in the kernel", MAP, FREE, PAGE, RW, EFAULT,
	  .argument = KERNEL_POINTER },
	{ "map: argument is half readable", MAP, FREE, PAGE, RW, EFAULT,
	  .argument = HALF_READABLE },
	{ "map: unknown flag", MAP, FREE, PAGE, RW | UNKNOWN, EINVAL,
	  .reason = "flags 0x8000000[03]: only 0x7 are known" },
	{ "map: only an unknown flag", MAP, FREE, PAGE, UNKNOWN, EINVAL,
	  .reason = "flags 0x8000000[03]: only 0x7 are known" },
	{ "map: VADDR together with READ", MAP, FREE, PAGE, READ | VADDR, EINVAL,
	  .reason = "flag|VADDR" },
	{ "map: neither READ nor WRITE", MAP, FREE, PAGE, 0, EINVAL, .reason = "READ" },

	/* ---- MAP: alignment and size ---- */
	{ "map: unaligned iova", MAP, FREE + 1, PAGE, RW, EINVAL, .reason = "align" },
	{ "map: iova aligned to half a page", MAP, FREE + PAGE / 2, PAGE, RW, EINVAL,
	  .reason = "align" },
	{ "map: unaligned vaddr", MAP, FREE, PAGE, RW, EINVAL, .reason = "align",
	  .vaddr_offset = 8 },
	{ "map: unaligned size", MAP, FREE, PAGE + 1, RW, EINVAL, .reason = "align" },
	{ "map: size less than a page", MAP, FREE, 1, RW, EINVAL, .reason = "align" },
	{ "map: size 0", MAP, FREE, 0, RW, EINVAL, .reason = "zero size" },

	/* ---- MAP: the IOVA range ---- */
	{ "map: iova wraps around", MAP, TOP, 2 * PAGE, RW, EOVERFLOW, .reason = "wrap",
	  .want_intree = EINVAL },
	{ "map: iova wraps around by far", MAP, FREE, TOP, RW, EOVERFLOW, .reason = "wrap",
	  .want_intree = EINVAL },
	{ "map: vaddr wraps around", MAP, FREE, 2 * PAGE, RW, EOVERFLOW, .reason = "wrap",
	  .want_intree = EINVAL, .memory = TOP_OF_ALL },
	{ "map: just outside the valid ranges", MAP, 0, PAGE, RW, EINVAL, .reason = NO_APERTURE,
	  .after_range = true },
	{ "map: partly outside the valid ranges", MAP, -PAGE, 2 * PAGE, RW, EINVAL,
	  .reason = NO_APERTURE, .after_range = true },
	{ "map: first page of the MSI range", MAP, MSI, PAGE, RW, EINVAL,
	  .reason = IN_MSI BEFORE_MSI },
	{ "map: last page of the MSI range", MAP, MSI + MSI_SIZE - PAGE, PAGE, RW, EINVAL,
	  .reason = IN_MSI AFTER_MSI },
	{ "map: into the MSI range", MAP, MSI - PAGE, 2 * PAGE, RW, EINVAL,
	  .reason = IN_MSI BEFORE_MSI },
	{ "map: out of the MSI range", MAP, MSI + MSI_SIZE - PAGE, 2 * PAGE, RW, EINVAL,
	  .reason = IN_MSI AFTER_MSI },
	{ "map: over the MSI range", MAP, MSI - PAGE, MSI_SIZE + 2 * PAGE, RW, EINVAL,
	  .reason = IN_MSI BEFORE_MSI },

	/* ---- MAP: what is mapped already ---- */
	{ "map: identical to a mapping", MAP, MAPPED, MAPPED_SIZE, RW, EEXIST,
	  .reason = OVER_MAPPED "is identical", .memory = MAPPED_ALREADY },
	{ "map: identical to a mapping but for its memory", MAP, MAPPED, MAPPED_SIZE, RW, EEXIST,
	  .reason = OVER_MAPPED "covers the same IOVA with other" },
	{ "map: identical to a mapping but for its access", MAP, MAPPED, MAPPED_SIZE, READ, EEXIST,
	  .reason = OVER_MAPPED "covers the same IOVA with other",
	  .memory = MAPPED_ALREADY },
	{ "map: over a mapping's start", MAP, MAPPED - PAGE, 2 * PAGE, RW, EEXIST,
	  .reason = OVER_MAPPED "covers other IOVA" },
	{ "map: over a mapping's end", MAP, MAPPED + MAPPED_SIZE - PAGE, 2 * PAGE, RW, EEXIST,
	  .reason = OVER_MAPPED "covers other IOVA" },
	{ "map: around a mapping", MAP, MAPPED - PAGE, MAPPED_SIZE + 2 * PAGE, RW, EEXIST,
	  .reason = OVER_MAPPED "covers other IOVA" },
	{ "map: within a mapping", MAP, MAPPED + PAGE, PAGE, RW, EEXIST,
	  .reason = OVER_MAPPED "covers other IOVA" },

	/* ---- MAP: the memory ---- */
	{ "map: hole at the start", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "nothing is mapped there", .memory = HOLE_AT_START,
	  .bad_page = 1 },
	{ "map: hole inside", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "nothing is mapped there", .memory = HOLE_INSIDE, .bad_page = 8 },
	{ "map: hole at the end", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "nothing is mapped there", .memory = HOLE_AT_END, .bad_page = 16 },
	{ "map: read-only memory for writing", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "it is not writable", .memory = READ_ONLY, .bad_page = 1 },
	{ "map: last page is read-only", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "it is not writable", .memory = READ_ONLY_AT_END, .bad_page = 16 },
	{ "map: memory without access", MAP, FREE, AREA, READ, EFAULT,
	  .reason = "for reading: it is not readable", .memory = NO_ACCESS, .bad_page = 1 },
	{ "map: beyond the end of a file", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "it is beyond the end of the file", .memory = BEYOND_END_OF_FILE,
	  .bad_page = 2 },
	{ "map: hugetlb memory, and the pool is empty", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "no huge page is left for it", .memory = NO_HUGE_PAGE,
	  .bad_page = 1 },
	{ "map: file of a full tmpfs", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "its file system is full", .memory = FULL_TMPFS, .bad_page = 5 },
	{ "map: hole in a file of a full tmpfs, to be read", MAP, FREE, AREA, READ, EFAULT,
	  .reason = "for reading: its file system is full", .memory = FULL_TMPFS, .bad_page = 5 },
	{ "map: page with a memory error", MAP, FREE, AREA, RW, EFAULT,
	  .reason = FOR_WRITING "it has a memory error", .memory = BROKEN, .bad_page = 4 },
	{ "map: page with a memory error, to be read", MAP, FREE, AREA, READ, EFAULT,
	  .reason = "for reading: it has a memory error", .memory = BROKEN, .bad_page = 4 },
	{ "map: memory of the kernel", MAP, FREE, PAGE, RW, EFAULT,
	  .reason = "nothing is mapped there", .memory = OF_THE_KERNEL, .bad_page = 1 },
	{ "map: last page of all addresses", MAP, FREE, PAGE, RW, EFAULT,
	  .reason = "nothing is mapped there", .memory = TOP_OF_ALL, .bad_page = 1 },
	{ "map: far more than there is", MAP, 1ULL << 41, 1ULL << 46, RW, EFAULT,
	  .reason = "cannot pin page [0-9]+, memory at vaddr" },

	/* ---- MAP: limits ---- */
	{ "map: over RLIMIT_MEMLOCK", MAP, FREE, AREA, RW, ENOMEM,
	  .reason = "RLIMIT_MEMLOCK of process [0-9]+ exceeded: limit 60 KiB, " NEEDS_64_KIB,
	  .memlock = AREA - PAGE },
	{ "map: RLIMIT_MEMLOCK less than a page", MAP, FREE, PAGE, RW, ENOMEM,
	  .reason = "limit 3 KiB, " NEEDS_4_KIB,
	  .memlock = PAGE - 1 },
	{ "map: over dma_entry_limit", MAP, FREE, PAGE, RW, ENOSPC,
	  .reason = "dma_entry_limit was 1 when the container was opened", .entry_limit = 1 },

	/* ---- UNMAP ---- */
	{ "unmap: argsz is 0", UNMAP, MAPPED, MAPPED_SIZE, 0, EINVAL, .reason = "argsz",
	  .argsz_less = 24 },
	{ "unmap: argsz is a byte short", UNMAP, MAPPED, MAPPED_SIZE, 0, EINVAL,
	  .reason = "argsz", .argsz_less = 1 },
	{ "unmap: argument is NULL", UNMAP, MAPPED, MAPPED_SIZE, 0, EFAULT,
	  .argument = NULL_POINTER },
	{ "unmap: argument is half readable", UNMAP, MAPPED, MAPPED_SIZE, 0, EFAULT,
	  .argument = HALF_READABLE },
	{ "unmap: unknown flag", UNMAP, MAPPED, MAPPED_SIZE, UNKNOWN, EINVAL,
	  .reason = "flags 0x80000000: only 0x7 are known" },
	{ "unmap: all with the dirty bitmap", UNMAP, 0, 0, ALL | DIRTY, EINVAL,
	  .reason = "GET_DIRTY_BITMAP goes with no other" },
	{ "unmap: all with an iova", UNMAP, MAPPED, 0, ALL, EINVAL, .reason = "ALL" },
	{ "unmap: all with a size", UNMAP, 0, MAPPED_SIZE, ALL, EINVAL, .reason = "ALL" },
	{ "unmap: unaligned iova", UNMAP, MAPPED + 1, MAPPED_SIZE, 0, EINVAL,
	  .reason = "not all aligned to the IOMMU's smallest page, 0x1000" },
	{ "unmap: unaligned size", UNMAP, MAPPED, MAPPED_SIZE + 1, 0, EINVAL,
	  .reason = "not all aligned to the IOMMU's smallest page, 0x1000" },
	{ "unmap: size 0", UNMAP, MAPPED, 0, 0, EINVAL, .reason = "zero size" },
	{ "unmap: iova wraps around", UNMAP, TOP, 2 * PAGE, 0, EOVERFLOW, .reason = "wrap",
	  .want_intree = EINVAL },
	{ "unmap: iova wraps around by far", UNMAP, MAPPED, TOP, 0, EOVERFLOW, .reason = "wrap",
	  .want_intree = EINVAL },
	{ "unmap: a mapping's first page", UNMAP, MAPPED, PAGE, 0, EINVAL,
	  .reason = "cuts the mapping" },
	{ "unmap: a mapping's last page", UNMAP, MAPPED + MAPPED_SIZE - PAGE, PAGE, 0, EINVAL,
	  .reason = "cuts the mapping" },
	{ "unmap: a page inside a mapping", UNMAP, MAPPED + PAGE, PAGE, 0, EINVAL,
	  .reason = "cuts the mapping" },
	{ "unmap: into a mapping", UNMAP, MAPPED - PAGE, 2 * PAGE, 0, EINVAL,
	  .reason = "cuts the mapping" },
	{ "unmap: out of a mapping", UNMAP, MAPPED + PAGE, MAPPED_SIZE, 0, EINVAL,
	  .reason = "cuts the mapping" },

	/* ---- The others ---- */
	{ "info: argsz is 0", INFO, 0, 0, 0, EINVAL, .reason = "argsz", .argsz_less = 16 },
	{ "info: argsz is a byte short", INFO, 0, 0, 0, EINVAL, .reason = "argsz",
	  .argsz_less = 1 },
	{ "info: argument is NULL", INFO, 0, 0, 0, EFAULT, .argument = NULL_POINTER },
	{ "an ioctl that does not exist", NO_SUCH_IOCTL, 0, 0, 0, ENOTTY,
	  .reason = "unknown ioctl" },
};

/* ---- Making the request ---- */

#define HUGE_PAGES	"/proc/sys/vm/nr_hugepages"
#define TMPFS		"/tmp/full"

static char huge_pages[16];

/* Memory that there is no huge page for, nor one reserved. */
static char *memory_without_huge_page(void)
{
	FILE *f = fopen(HUGE_PAGES, "r");
	char *mem;

	assert_non_null(f);
	assert_non_null(fgets(huge_pages, sizeof(huge_pages), f));
	fclose(f);
	assert_ok(vu_write_file(HUGE_PAGES, "0"));
	mem = mmap(NULL, VU_2M, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	return mem;
}

/* A file of 16 pages on a file system that has room for four of them. */
static char *memory_of_full_tmpfs(void)
{
	char *mem;
	int fd;

	assert_true(!mkdir(TMPFS, 0700) || errno == EEXIST);
	assert_int_equal(mount("tmpfs", TMPFS, "tmpfs", 0, "size=16k"), 0);
	fd = open(TMPFS "/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, AREA), 0);
	mem = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	close(fd);
	return mem;
}

static void survive(int sig)
{
	(void)sig;
}

/* The kernel may tell that the page has gone. */
static void break_page(void *page)
{
	const struct sigaction action = { .sa_handler = survive };
	struct sigaction old;

	assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
	assert_int_equal(madvise(page, PAGE, MADV_HWPOISON), 0);
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
}

static char *memory_make(enum memory kind)
{
	char *mem;

	if (kind == OF_THE_KERNEL)
		return (char *)0xffff888000100000;
	if (kind == TOP_OF_ALL)
		return (char *)TOP;
	if (kind == BEYOND_END_OF_FILE) {
		/* The file ends after one page. */
		char *file = mem_memfd(PAGE);

		mem = mremap(file, PAGE, AREA, MREMAP_MAYMOVE);
		assert_ptr_not_equal(mem, MAP_FAILED);
		return mem;
	}

	if (kind == NO_HUGE_PAGE)
		return memory_without_huge_page();
	if (kind == FULL_TMPFS)
		return memory_of_full_tmpfs();

	mem = mem_sequential(AREA);
	switch (kind) {
	case BROKEN:
		break_page(mem + 3 * PAGE);
		break;
	case HOLE_AT_START:
		assert_int_equal(munmap(mem, PAGE), 0);
		break;
	case HOLE_INSIDE:
		assert_int_equal(munmap(mem + 7 * PAGE, PAGE), 0);
		break;
	case HOLE_AT_END:
		assert_int_equal(munmap(mem + AREA - PAGE, PAGE), 0);
		break;
	case READ_ONLY:
		assert_int_equal(mprotect(mem, AREA, PROT_READ), 0);
		break;
	case READ_ONLY_AT_END:
		assert_int_equal(mprotect(mem + AREA - PAGE, PAGE, PROT_READ), 0);
		break;
	case NO_ACCESS:
		assert_int_equal(mprotect(mem, AREA, PROT_NONE), 0);
		break;
	default:
		break;
	}
	return mem;
}

static void memory_free(enum memory kind, char *mem)
{
	if (kind == NO_HUGE_PAGE) {
		vu_free(mem, VU_2M);
		assert_ok(vu_write_file(HUGE_PAGES, huge_pages));
	} else if (kind != OF_THE_KERNEL && kind != TOP_OF_ALL && kind != MAPPED_ALREADY) {
		vu_free(mem, AREA);
	}
	if (kind == FULL_TMPFS)
		assert_int_equal(umount(TMPFS), 0);
}

union request {
	struct vfio_iommu_type1_dma_map map;
	struct {
		struct vfio_iommu_type1_dma_unmap unmap;
		struct vfio_bitmap bitmap;	/* follows if asked for */
	};
	struct vfio_iommu_type1_info info;
};

/* Everything that belongs to the test of one case. */
struct bad_test {
	const struct bad_case *c;
	struct fixture *f;
	char *mapped;		/* at MAPPED */
	char *memory;		/* under a MAP */
	char *two_pages;	/* the second one without access */
	unsigned long cmd;
	union request *request;
};

static void request_make(struct bad_test *t)
{
	const size_t minsz = offsetof(struct vfio_iommu_type1_info, cap_offset);
	const struct bad_case *c = t->c;
	union request *r;
	struct info info;
	__u64 iova = c->iova;

	info_get(t->f->container, &info);
	if (c->after_range)
		iova += info.iova->iova_ranges[1].end + 1;

	/* It ends with its page, or half of it does. */
	r = (void *)(t->two_pages + PAGE - sizeof(*r));
	switch (c->call) {
	case MAP:
		t->cmd = VFIO_IOMMU_MAP_DMA;
		r->map = (struct vfio_iommu_type1_dma_map) {
			.argsz = sizeof(r->map) - c->argsz_less,
			.flags = c->flags,
			.vaddr = (unsigned long)t->memory + c->vaddr_offset,
			.iova = iova,
			.size = c->size,
		};
		break;
	case UNMAP:
		t->cmd = VFIO_IOMMU_UNMAP_DMA;
		r->unmap = (struct vfio_iommu_type1_dma_unmap) {
			.argsz = sizeof(r->unmap) - c->argsz_less +
				 (c->flags & DIRTY ? sizeof(r->bitmap) : 0),
			.flags = c->flags,
			.iova = iova,
			.size = c->size,
		};
		break;
	case INFO:
		t->cmd = VFIO_IOMMU_GET_INFO;
		r->info.argsz = minsz - c->argsz_less;
		break;
	case NO_SUCH_IOCTL:
		t->cmd = _IO(VFIO_TYPE, VFIO_BASE + 99);
		break;
	}
	t->request = r;
}

static void *argument_pointer(const struct bad_test *t)
{
	switch (t->c->argument) {
	case NULL_POINTER:
		return NULL;
	case KERNEL_POINTER:
		return (void *)0xffff888000100000;
	case HALF_READABLE:
		return memmove(t->two_pages + PAGE - 12, t->request, 12);
	default:
		return t->request;
	}
}

static int request_send(const struct bad_test *t)
{
	return ioctl(t->f->container, t->cmd, argument_pointer(t)) ? errno : 0;
}

static int errno_wanted(const struct bad_case *c)
{
	return is_intree() && c->want_intree ? c->want_intree : c->want;
}

/* Runs in a child. */
static void request_send_limited(void *arg)
{
	const struct bad_test *t = arg;

	child_check(request_send(t) == errno_wanted(t->c));
	child_check(!vu_locked_kib());
}

/* ---- The test ---- */

static const char *call_name(enum call call)
{
	static const char *const names[] = { " MAP_DMA", "UNMAP_DMA", "GET_INFO", "" };

	return names[call];
}

/* One line, which begins with who asked for what and ends with the reason. */
static void assert_reason_logged(const struct bad_test *t, int kmsg)
{
	const struct bad_case *c = t->c;
	char regex[512], page[64] = "";

	if (c->bad_page)
		snprintf(page, sizeof(page), "cannot pin page %d, memory at vaddr %p, .*",
			 c->bad_page - 1, t->memory + (c->bad_page - 1) * PAGE);
	snprintf(regex, sizeof(regex), "vfio_iommu_type1: test_bad_input\\[[0-9]+\\]:.*%s.*%s(%s)",
		 call_name(c->call), page, c->reason);
	assert_int_equal(kmsg_count(kmsg, regex), 1);
}

/* The device keeps what it has loaded, so that each test only has to store it. */
static unsigned int in_the_device;

static int load_the_device(void **group_state)
{
	void *mem = mem_pages(1), *state;
	struct fixture *f;

	(void)group_state;
	test_setup_v2(&state);
	f = state;
	in_the_device = pattern_new_seed();
	pattern_fill(mem, PAGE, in_the_device);
	assert_ok(vu_map_rw(f->container, mem, 0, PAGE));
	assert_ok(vu_edu_load(&f->edu[0], 0, VU_EDU_MAX));
	assert_unmaps_all(f->container, PAGE);
	vu_free(mem, PAGE);
	return test_teardown(&state);
}

static int bad_test_setup(void **state)
{
	const unsigned int limit = module_param_read("dma_entry_limit");
	struct bad_test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->c = *state;
	if (t->c->entry_limit)
		module_param_write("dma_entry_limit", t->c->entry_limit);
	test_setup_v2((void **)&t->f);
	module_param_write("dma_entry_limit", limit);
	t->mapped = mem_pages(4);
	assert_ok(vu_map_rw(t->f->container, t->mapped, MAPPED, MAPPED_SIZE));
	t->two_pages = mem_pages(2);
	assert_int_equal(mprotect(t->two_pages + PAGE, PAGE, PROT_NONE), 0);
	/* Last: what is mapped after it may fill its holes. */
	t->memory = t->c->memory == MAPPED_ALREADY ? t->mapped : memory_make(t->c->memory);
	*state = t;
	return 0;
}

static int bad_test_teardown(void **state)
{
	struct bad_test *t = *state;

	vu_free(t->mapped, MAPPED_SIZE);
	vu_free(t->two_pages, 2 * PAGE);
	memory_free(t->c->memory, t->memory);
	test_teardown((void **)&t->f);
	free(t);
	return 0;
}

static void refuse(void **state)
{
	struct bad_test *t = *state;
	struct info before, after;
	union request copy;
	int kmsg, ret;

	request_make(t);
	copy = *t->request;
	info_get(t->f->container, &before);
	kmsg = kmsg_open();

	if (t->c->memlock) {
		in_child_nobody(t->c->memlock, request_send_limited, t);
	} else {
		ret = request_send(t);
		assert_ret(-ret, -errno_wanted(t->c));
	}

	if (t->c->reason && !is_intree())
		assert_reason_logged(t, kmsg);
	close(kmsg);

	/* Nothing has changed. */
	if (t->c->argument != HALF_READABLE)
		assert_memory_equal(t->request, &copy, sizeof(copy));
	info_get(t->f->container, &after);
	assert_memory_equal(after.raw, before.raw, sizeof(after.raw));
	assert_charged(t->f, MAPPED_SIZE / PAGE);
	assert_pinned(t->f, MAPPED_SIZE / PAGE);
	assert_ok(vu_edu_store(&t->f->edu[0], MAPPED + PAGE, VU_EDU_MAX));
	assert_true(pattern_matches(t->mapped + PAGE, VU_EDU_MAX, in_the_device));
	assert_unmaps_all(t->f->container, MAPPED_SIZE);
	assert_nothing_held(t->f);
}

/* ---- The log ---- */

static void what_is_right_is_not_logged(void **state)
{
	const struct fixture *f = *state;
	int kmsg = kmsg_open();
	void *mem = mem_pages(1);
	struct info info;

	assert_ok(vu_map_rw(f->container, mem, FREE, PAGE));
	info_get(f->container, &info);
	assert_unmaps(f->container, FREE, PAGE, PAGE);
	assert_unmaps_all(f->container, 0);
	assert_int_equal(kmsg_count(kmsg, "vfio_iommu_type1"), 0);
	close(kmsg);
	vu_free(mem, PAGE);
}

/* Lines that a container gets for one reason before it has to pause. */
#define LINES_MAX	10

/* A program that goes wrong in a loop must drown neither others nor its next mistake. */
static void the_log_is_not_flooded(void **state)
{
	const struct fixture *f = *state;
	const int want = !is_intree();
	int i, kmsg = kmsg_open(), again = kmsg_open();

	for (i = 0; i < 1000; i++)
		assert_ret(vu_map_rw(f->container, NULL, FREE + 1, PAGE), -EINVAL);
	assert_ret(vu_map_rw(f->container, NULL, FREE, 0), -EINVAL);
	assert_int_equal(kmsg_count(kmsg, "vfio_iommu_type1: .*MAP_DMA .*aligned"),
			 want * LINES_MAX);
	assert_int_equal(kmsg_count(again, "vfio_iommu_type1: .*MAP_DMA .*zero size"), want);
	close(kmsg);
	close(again);
}

/* v1 says yes to an UNMAP of nothing; the log tells what was strange about it. */
static void an_unmap_of_nothing_is_logged(void **state)
{
	const struct fixture *f = *state;
	int kmsg = kmsg_open(), again = kmsg_open();
	void *mem = mem_pages(4);

	assert_ok(vu_map_rw(f->container, mem, MAPPED, MAPPED_SIZE));
	assert_unmaps(f->container, FREE, PAGE, 0);
	assert_unmaps(f->container, MAPPED + PAGE, MAPPED_SIZE, 0);
	assert_unmaps_all(f->container, MAPPED_SIZE);
	assert_unmaps_all(f->container, 0);
	if (!is_intree()) {
		assert_int_equal(kmsg_count(kmsg, "removed nothing: nothing is mapped there"), 1);
		assert_int_equal(kmsg_count(again, "removed nothing: .* 0x1000000-0x1003fff"), 1);
	}
	close(kmsg);
	close(again);
	vu_free(mem, MAPPED_SIZE);
}

int main(void)
{
	struct CMUnitTest tests[ARRAY_SIZE(cases) + 3];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		tests[i] = (struct CMUnitTest) {
			cases[i].name, refuse, bad_test_setup, bad_test_teardown,
			(void *)&cases[i],
		};
	tests[i++] = (struct CMUnitTest)TEST_V2(what_is_right_is_not_logged);
	tests[i++] = (struct CMUnitTest)TEST_V2(the_log_is_not_flooded);
	tests[i++] = (struct CMUnitTest)TEST_V1(an_unmap_of_nothing_is_logged);

	return cmocka_run_group_tests_name("bad_input", tests, load_the_device, NULL);
}
