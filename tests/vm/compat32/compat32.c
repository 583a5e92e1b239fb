// SPDX-License-Identifier: GPL-2.0-only
/*
 * A 32-bit user of a container; test_compat32.c runs it, once for each case.
 *
 *	compat32 CASE
 *
 * It has no C library, so that nothing but a compiler is needed to build it:
 * system calls are made by hand, and by the 32-bit entry. File descriptors 3
 * and 4 are a v2 container, and an edu device in it that may do DMA.
 *
 * Exits with 0, or says which check failed and exits with 1.
 */
#include <stdbool.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/mman.h>
#include <linux/time_types.h>
#include <linux/vfio.h>

#define CONTAINER	3
#define DEVICE		4

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE		4096U
#define RW		(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define LOW		0x10000000ULL		/* edu is told so by 32-bit writes */
#define HIGH		0x12300000000ULL

/* ---- System calls ---- */

static long syscall3(long nr, long a, long b, long c)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
	return ret;
}

static long ioctl(int fd, unsigned long cmd, const void *arg)
{
	return syscall3(__NR_ioctl, fd, cmd, (long)arg);
}

/* This one takes its arguments in memory: there are more than registers. */
static void *mmap(unsigned long size, int fd)
{
	const unsigned long args[6] = {
		0, size, PROT_READ | PROT_WRITE,
		fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0,
	};

	return (void *)syscall3(__NR_mmap, (long)args, 0, 0);
}

static void sleep_ms(unsigned int ms)
{
	const struct __kernel_old_timespec ts = { .tv_nsec = ms * 1000000L };

	syscall3(__NR_nanosleep, (long)&ts, 0, 0);
}

static void print(const char *text)
{
	unsigned int len = 0;

	while (text[len])
		len++;
	syscall3(__NR_write, 2, (long)text, len);
}

static _Noreturn void leave(int status)
{
	for (;;)
		syscall3(__NR_exit, status, 0, 0);
}

#define check(cond) do { \
	if (!(cond)) { \
		print("# compat32: not true: " #cond "\n"); \
		leave(1); \
	} \
} while (0)

/* ---- The container ---- */

/* 64 bits wide, like all addresses in the structures but one. */
static __u64 address(const void *mem)
{
	return (unsigned long)mem;
}

static long map(__u64 vaddr, __u64 iova, __u64 size)
{
	const struct vfio_iommu_type1_dma_map arg = {
		.argsz = sizeof(arg),
		.flags = RW,
		.vaddr = vaddr,
		.iova = iova,
		.size = size,
	};

	return ioctl(CONTAINER, VFIO_IOMMU_MAP_DMA, &arg);
}

/* Bytes unmapped, or a negative errno. */
static long long unmap(__u64 iova, __u64 size, __u32 flags)
{
	struct vfio_iommu_type1_dma_unmap arg = {
		.argsz = sizeof(arg),
		.flags = flags,
		.iova = iova,
		.size = size,
	};
	long ret = ioctl(CONTAINER, VFIO_IOMMU_UNMAP_DMA, &arg);

	return ret ? ret : (long long)arg.size;
}

static bool is_address(const void *mem)
{
	return (unsigned long)mem < -4095UL;
}

/* Memory where a 32-bit process has most of its memory: in its highest GiB. */
static char *pages(unsigned int npages)
{
	char *mem = mmap(npages * PAGE, -1);

	check(is_address(mem));
	check((unsigned long)mem >= 0xc0000000UL);
	return mem;
}

/* ---- edu, see vfio_user.c; 32-bit accesses will do for an IOVA below 4 GiB ---- */

#define EDU_BAR_SIZE	0x100000
#define EDU_BUFFER	0x40000

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND	0x98
#define EDU_DMA_START	1
#define EDU_DMA_TO_RAM	2

static void edu_write(char *regs, unsigned int offset, __u32 val)
{
	__atomic_store_n((__u32 *)(regs + offset), val, __ATOMIC_RELEASE);
}

static __u32 edu_read(char *regs, unsigned int offset)
{
	return __atomic_load_n((__u32 *)(regs + offset), __ATOMIC_ACQUIRE);
}

static void edu_transfer(char *regs, __u32 src, __u32 dst, __u32 len, __u32 command)
{
	unsigned int tries;

	edu_write(regs, EDU_DMA_SRC, src);
	edu_write(regs, EDU_DMA_DST, dst);
	edu_write(regs, EDU_DMA_COUNT, len);
	edu_write(regs, EDU_DMA_COMMAND, command | EDU_DMA_START);
	for (tries = 0; edu_read(regs, EDU_DMA_COMMAND) & EDU_DMA_START; tries++) {
		check(tries < 1000);
		sleep_ms(10);
	}
}

static void edu_load(char *regs, __u32 iova, __u32 len)
{
	edu_transfer(regs, iova, EDU_BUFFER, len, 0);
}

static void edu_store(char *regs, __u32 iova, __u32 len)
{
	edu_transfer(regs, EDU_BUFFER, iova, len, EDU_DMA_TO_RAM);
}

/* ---- Cases ---- */

static void extensions(void)
{
	check(ioctl(CONTAINER, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) == 1);
	check(ioctl(CONTAINER, VFIO_CHECK_EXTENSION, (void *)VFIO_UNMAP_ALL) == 1);
	check(ioctl(CONTAINER, VFIO_CHECK_EXTENSION, (void *)VFIO_UPDATE_VADDR) == 1);
	check(ioctl(CONTAINER, VFIO_CHECK_EXTENSION, (void *)VFIO_SPAPR_TCE_IOMMU) == 0);
	check(ioctl(CONTAINER, VFIO_IOMMU_ENABLE, 0) == -ENOTTY);
}

/* The structure is 20 bytes here, and 24 for the kernel: argsz is what counts. */
static void info(void)
{
	union {
		struct vfio_iommu_type1_info head;
		__u32 words[256];
	} arg = { .words[5] = 0x5a5a5a5a };
	const __u32 argsz = 20;
	const struct vfio_info_cap_header *cap;

	arg.head.argsz = argsz;
	check(!ioctl(CONTAINER, VFIO_IOMMU_GET_INFO, &arg));
	check(arg.head.iova_pgsizes & PAGE);
	check(arg.words[5] == 0x5a5a5a5a);
	check(arg.head.argsz > argsz && arg.head.argsz <= sizeof(arg));
	check(!arg.head.cap_offset);

	check(!ioctl(CONTAINER, VFIO_IOMMU_GET_INFO, &arg));
	check(arg.head.cap_offset);
	cap = (const void *)arg.words + arg.head.cap_offset;
	check(cap->id == VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
	check(cap->version == 1);
}

static void map_and_unmap(void)
{
	char *mem = pages(4);

	check(!map(address(mem), LOW, 4 * PAGE));
	check(!map(address(mem), HIGH, 4 * PAGE));
	check(map(address(mem), HIGH + 3 * PAGE, PAGE) == -EEXIST);
	check(unmap(HIGH, PAGE, 0) == -EINVAL);
	check(unmap(HIGH, 4 * PAGE, 0) == 4 * PAGE);
	check(unmap(HIGH, 4 * PAGE, 0) == 0);
	check(!map(address(mem), HIGH, PAGE));
	check(unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL) == 5 * PAGE);
}

/* There is no memory above 4 GiB, not even where a 64-bit process has some. */
static void addresses(void)
{
	char *mem = pages(1);

	check(map(1ULL << 32 | address(mem), LOW, PAGE) == -EFAULT);
	check(map(0xfffff000ULL, LOW, 2 * PAGE) == -EFAULT);
	check(map(-2ULL * PAGE, LOW, PAGE) == -EFAULT);
	check(!map(address(mem), LOW, PAGE));
	check(unmap(LOW, PAGE, 0) == PAGE);
}

static void dma(void)
{
	char *regs = mmap(EDU_BAR_SIZE, DEVICE), *mem = pages(2);
	const unsigned int len = 256;
	unsigned int i;

	check(is_address(regs));
	for (i = 0; i < len; i++)
		mem[i] = i + 1;
	check(!map(address(mem), LOW, 2 * PAGE));
	edu_load(regs, LOW, len);
	edu_store(regs, LOW + PAGE, len);
	for (i = 0; i < len; i++)
		check(mem[PAGE + i] == (char)(i + 1));
	check(mem[PAGE + len] == 0);

	check(unmap(LOW, 2 * PAGE, 0) == 2 * PAGE);
	mem[PAGE] = 0;
	edu_store(regs, LOW + PAGE, len);
	check(mem[PAGE] == 0);
}

/*
 * The address of a dirty bitmap is the one address that the structures have as
 * a pointer: 4 bytes short here. The kernel wants the 64-bit structure.
 */
struct bitmap64 {
	__u64 pgsize;
	__u64 size;
	__u64 data;
};

struct get64 {
	struct vfio_iommu_type1_dirty_bitmap head;
	__u64 iova;
	__u64 size;
	struct bitmap64 bitmap;
};

struct get32 {
	struct vfio_iommu_type1_dirty_bitmap head;
	struct vfio_iommu_type1_dirty_bitmap_get get;
};

struct unmap64 {
	struct vfio_iommu_type1_dma_unmap head;
	struct bitmap64 bitmap;
};

static long dirty_pages(__u32 flags)
{
	const struct vfio_iommu_type1_dirty_bitmap arg = {
		.argsz = sizeof(arg),
		.flags = flags,
	};

	return ioctl(CONTAINER, VFIO_IOMMU_DIRTY_PAGES, &arg);
}

static void dirty(void)
{
	__u64 *bits = (__u64 *)pages(1);
	struct get64 get = {
		.head.argsz = sizeof(get),
		.head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		.iova = HIGH,
		.size = 3 * PAGE,
		.bitmap = { PAGE, sizeof(*bits), address(bits) },
	};
	const struct get32 narrow = {
		.head.argsz = sizeof(narrow),
		.head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
		.get.iova = HIGH,
		.get.size = 3 * PAGE,
		.get.bitmap = { PAGE, sizeof(*bits), bits },
	};
	struct unmap64 last = {
		.head.argsz = sizeof(last),
		.head.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
		.head.iova = HIGH,
		.head.size = 3 * PAGE,
		.bitmap = { PAGE, sizeof(*bits), address(bits) },
	};

	check(!map(address(pages(3)), HIGH, 3 * PAGE));
	check(!dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START));
	check(ioctl(CONTAINER, VFIO_IOMMU_DIRTY_PAGES, &narrow) == -EINVAL);
	check(*bits == 0);
	check(!ioctl(CONTAINER, VFIO_IOMMU_DIRTY_PAGES, &get));
	check(*bits == 7);

	/* No bitmap at addresses that only a 64-bit process has. */
	get.bitmap.data |= 1ULL << 32;
	check(ioctl(CONTAINER, VFIO_IOMMU_DIRTY_PAGES, &get) == -EFAULT);

	*bits = 0;
	check(!ioctl(CONTAINER, VFIO_IOMMU_UNMAP_DMA, &last));
	check(last.head.size == 3 * PAGE);
	check(*bits == 7);
	check(!dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP));
}

static void vaddr(void)
{
	char *mem = pages(2);
	const struct vfio_iommu_type1_dma_map update = {
		.argsz = sizeof(update),
		.flags = VFIO_DMA_MAP_FLAG_VADDR,
		.vaddr = address(mem + PAGE),
		.iova = HIGH,
		.size = PAGE,
	};

	check(!map(address(mem), HIGH, PAGE));
	check(unmap(HIGH, PAGE, VFIO_DMA_UNMAP_FLAG_VADDR) == PAGE);
	check(!ioctl(CONTAINER, VFIO_IOMMU_MAP_DMA, &update));
	check(unmap(HIGH, PAGE, 0) == PAGE);
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

#define CASE(name) { #name, name }

/* Called by _start with what is on the stack: argc, argv. Does not return. */
void start(const unsigned long *stack)
{
	static const struct {
		const char *name;
		void (*body)(void);
	} cases[] = {
		CASE(extensions), CASE(info), CASE(map_and_unmap), CASE(addresses), CASE(dma),
		CASE(dirty), CASE(vaddr),
	};
	unsigned int i;

	check(stack[0] == 2);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (same(cases[i].name, (const char *)stack[2])) {
			cases[i].body();
			leave(0);
		}
	}
	print("# compat32: no such case\n");
	leave(1);
}

asm(".globl _start\n"
	"_start:\n"
	"	mov %esp, %eax\n"
	"	and $-16, %esp\n"
	"	sub $12, %esp\n"
	"	push %eax\n"
	"	call start\n"
);
