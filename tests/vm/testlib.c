// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the cmocka programs share; testlib.h says what it does. Memory is in testmem.c.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <regex.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <linux/capability.h>

#include "testlib.h"

#define MODULE		"vfio_iommu_type1"
#define NOBODY		65534

/* ---- The state of a test ---- */

static char step[128];

void at_step(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(step, sizeof(step), fmt, args);
	va_end(args);
}

int test_setup_closed(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	unsigned int i;

	assert_non_null(f);
	f->container = -1;
	at_step("start");
	for (i = 0; i < ARRAY_SIZE(f->pci); i++) {
		assert_ok(vu_pci_find(&f->pci[i], VU_EDU_VENDOR, VU_EDU_DEVICE, i));
		assert_ok(vu_pci_bind(&f->pci[i]));
	}
	f->locked_kib = vu_locked_kib();
	f->pinned = vu_foll_pinned();
	assert_true(f->locked_kib >= 0 && f->pinned >= 0);
	*state = f;
	return 0;
}

void fixture_open_container(struct fixture *f)
{
	f->container = vu_container_open();
	assert_true(f->container >= 0);
}

void fixture_close_container(struct fixture *f)
{
	close(f->container);
	f->container = -1;
}

void fixture_attach(struct fixture *f, unsigned int nth)
{
	assert_ok(vu_group_open(&f->pci[nth]));
	assert_ok(vu_group_attach(&f->pci[nth], f->container));
}

void fixture_open_device(struct fixture *f, unsigned int nth)
{
	assert_ok(vu_device_open(&f->pci[nth]));
	assert_ok(vu_edu_open(&f->edu[nth], &f->pci[nth]));
}

void fixture_close_device(struct fixture *f, unsigned int nth)
{
	if (f->edu[nth].regs)
		vu_edu_close(&f->edu[nth]);
	vu_pci_close(&f->pci[nth]);
}

void fixture_close(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(f->pci); i++)
		fixture_close_device(f, i);
	if (f->container >= 0)
		fixture_close_container(f);
}

static int setup_container(void **state, int type)
{
	struct fixture *f;

	test_setup_closed(state);
	f = *state;
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, type));
	fixture_open_device(f, 0);
	return 0;
}

int test_setup_v1(void **state)
{
	return setup_container(state, VFIO_TYPE1_IOMMU);
}

int test_setup_v2(void **state)
{
	return setup_container(state, VFIO_TYPE1v2_IOMMU);
}

int test_setup_two(void **state)
{
	setup_container(state, VFIO_TYPE1v2_IOMMU);
	fixture_attach(*state, 1);
	fixture_open_device(*state, 1);
	return 0;
}

int test_teardown(void **state)
{
	struct fixture *f = *state;

	fixture_close(f);
	assert_nothing_held(f);
	free(f);
	return 0;
}

void assert_charged(const struct fixture *f, size_t npages)
{
	long kib = vu_locked_kib() - f->locked_kib;

	if (kib != KIB(npages))
		fail_msg("at %s: %ld KiB are charged, want %ld", step, kib, KIB(npages));
}

void assert_pinned(const struct fixture *f, size_t npages)
{
	long pinned = vu_foll_pinned() - f->pinned;

	if (pinned != (long)npages)
		fail_msg("at %s: %ld pages are pinned, want %zu", step, pinned, npages);
}

void wait_pinned(const struct fixture *f, size_t npages)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;

	while (vu_foll_pinned() - f->pinned != (long)npages && vu_now() < deadline)
		usleep(10000);
	assert_pinned(f, npages);
}

void assert_nothing_held(const struct fixture *f)
{
	assert_charged(f, 0);
	assert_pinned(f, 0);
}

/* ---- Assertions ---- */

void assert_ret_at(const char *what, int ret, int want, const char *file, int line)
{
	if (ret == want)
		return;
	print_error("at %s: %s: %d (%s), want %d (%s)\n", step, what, ret, strerror(-ret), want,
		    strerror(-want));
	_fail(file, line);
}

void assert_unmaps_at(int container, __u64 iova, __u64 size, __u32 flags, __u64 want,
		      const char *file, int line)
{
	__u64 unmapped = 0;
	int ret = vu_unmap(container, iova, size, flags, &unmapped);

	if (!ret && unmapped == want)
		return;
	print_error("at %s: unmap of %#llx+%#llx: %d (%s), %#llx bytes, want 0 and %#llx\n", step,
		    iova, size, ret, strerror(-ret), unmapped, want);
	_fail(file, line);
}

static uint64_t pattern_word(unsigned int seed, size_t i)
{
	return (((uint64_t)seed << 32) + i) * 0x9e3779b97f4a7c15ULL;
}

void pattern_fill(void *mem, size_t len, unsigned int seed)
{
	uint64_t *words = mem;
	size_t i;

	for (i = 0; i < len / sizeof(*words); i++)
		words[i] = pattern_word(seed, i);
}

bool pattern_matches(const void *mem, size_t len, unsigned int seed)
{
	const uint64_t *words = mem;
	size_t i;

	for (i = 0; i < len / sizeof(*words); i++) {
		if (words[i] != pattern_word(seed, i))
			return false;
	}
	return true;
}

unsigned int pattern_new_seed(void)
{
	static unsigned int seed = 1;

	return seed++;
}

void assert_dma_reaches(const struct fixture *f, unsigned int nth, void *mem, __u64 iova)
{
	const size_t len = VU_PAGE / 4;
	unsigned int i, seed[4];
	char *page = mem;

	for (i = 0; i < ARRAY_SIZE(seed); i++) {
		seed[i] = pattern_new_seed();
		pattern_fill(page + i * len, len, seed[i]);
	}
	assert_ok(vu_edu_copy(&f->edu[nth], iova + 2 * len, iova, len));
	seed[2] = seed[0];
	for (i = 0; i < ARRAY_SIZE(seed); i++) {
		if (!pattern_matches(page + i * len, len, seed[i]))
			fail_msg("at %s: edu %u at iova %#llx: quarter %u of the page is wrong",
				 step, nth, iova, i);
	}
}

void assert_dma_blocked(const struct fixture *f, unsigned int nth, void *mem, __u64 iova)
{
	unsigned int seed = pattern_new_seed();

	pattern_fill(mem, VU_PAGE, seed);
	assert_ok(vu_edu_store(&f->edu[nth], iova, VU_PAGE / 4));
	if (!pattern_matches(mem, VU_PAGE, seed))
		fail_msg("at %s: edu %u wrote through %#llx, where it must not", step, nth, iova);
}

/* ---- GET_INFO ---- */

void info_get(int container, struct info *info)
{
	const struct vfio_info_cap_header *cap;
	__u32 offset;

	memset(info, 0, sizeof(*info));
	info->head.argsz = sizeof(info->raw);
	assert_int_equal(ioctl(container, VFIO_IOMMU_GET_INFO, info->raw), 0);
	assert_int_equal(info->head.flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
	for (offset = info->head.cap_offset; offset; offset = cap->next) {
		assert_true(offset >= sizeof(info->head) && offset < sizeof(info->raw));
		assert_true(info->ncaps < ARRAY_SIZE(info->cap_id));
		cap = (const void *)(info->raw + offset);
		info->cap_id[info->ncaps++] = cap->id;
		assert_int_equal(cap->version, 1);
		switch (cap->id) {
		case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
			info->migration = (const void *)cap;
			info->end = offset + sizeof(*info->migration);
			break;
		case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
			info->dma_avail = (const void *)cap;
			info->end = offset + sizeof(*info->dma_avail);
			break;
		case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
			info->iova = (const void *)cap;
			info->end = offset + sizeof(*info->iova) +
				    info->iova->nr_iovas * sizeof(info->iova->iova_ranges[0]);
			break;
		case VFIO_TYPE1_INFO_CAP_MEMORY:
			info->memory = (const void *)cap;
			info->end = offset + sizeof(*info->memory);
			break;
		default:
			fail_msg("capability %u is unknown", cap->id);
		}
	}
}

__u32 dma_avail(int container)
{
	struct info info;

	info_get(container, &info);
	assert_non_null(info.dma_avail);
	return info.dma_avail->avail;
}

/* ---- The kernel's log ---- */

int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(lseek(fd, 0, SEEK_END) != -1);
	return fd;
}

unsigned int kmsg_count(int fd, const char *regex)
{
	unsigned int count = 0;
	char line[8192];
	regex_t re;
	ssize_t len;

	assert_int_equal(regcomp(&re, regex, REG_EXTENDED | REG_NOSUB), 0);
	/* A read gives one line; EPIPE says that old ones were overwritten. */
	while ((len = read(fd, line, sizeof(line) - 1)) > 0 || (len < 0 && errno == EPIPE)) {
		if (len < 0)
			continue;
		line[len] = '\0';
		count += !regexec(&re, line, 0, NULL, 0);
	}
	regfree(&re);
	return count;
}

void kmsg_hush(bool on)
{
	assert_true(klogctl(8, NULL, on ? 1 : 7) >= 0);
}

/* ---- Child processes ---- */

static void drop_privileges(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct cap[2];

	child_check(!setgroups(0, NULL));
	child_check(!setresgid(NOBODY, NOBODY, NOBODY));
	child_check(!setresuid(NOBODY, NOBODY, NOBODY));
	child_check(!syscall(SYS_capget, &head, cap));
	child_check(!cap[0].effective && !cap[1].effective);
}

void in_child(void (*body)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		body(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("the child failed, wait status %#x", status);
}

struct limited {
	size_t memlock_bytes;
	void (*body)(void *arg);
	void *arg;
};

/* Runs in a child. */
static void limit_and_run(void *arg)
{
	const struct limited *l = arg;
	const struct rlimit limit = { l->memlock_bytes, l->memlock_bytes };

	child_check(!setrlimit(RLIMIT_MEMLOCK, &limit));
	drop_privileges();
	l->body(l->arg);
}

void in_child_nobody(size_t memlock_bytes, void (*body)(void *arg), void *arg)
{
	struct limited l = { memlock_bytes, body, arg };

	in_child(limit_and_run, &l);
}

/* ---- What is being tested ---- */

enum iommu_kind iommu_kind(void)
{
	if (!access("/sys/class/iommu/dmar0", F_OK))
		return IOMMU_VTD;
	if (!access("/sys/module/virtio_iommu", F_OK))
		return IOMMU_VIRTIO;
	return access("/sys/class/iommu/ivhd0", F_OK) ? IOMMU_SMMU : IOMMU_AMD;
}

void msi_window(__u64 *first, __u64 *last)
{
	const bool arm = iommu_kind() == IOMMU_SMMU;

	*first = arm ? 0x8000000 : 0xfee00000;
	*last = arm ? 0x80fffff : 0xfeefffff;
}

bool is_intree(void)
{
	char version[32] = "";
	FILE *f = fopen("/sys/module/vfio_iommu_type1/version", "r");

	assert_non_null(f);
	assert_non_null(fgets(version, sizeof(version), f));
	fclose(f);
	return !strcmp(version, "0.2\n");
}

bool kernel_at_least(unsigned int major, unsigned int minor)
{
	unsigned int running_major, running_minor;
	struct utsname uts;
	int n;

	assert_int_equal(uname(&uts), 0);
	n = sscanf(uts.release, "%u.%u", &running_major, &running_minor);
	assert_int_equal(n, 2);
	return running_major > major || (running_major == major && running_minor >= minor);
}

bool kernel_debugs(void)
{
	struct utsname uts;

	assert_int_equal(uname(&uts), 0);
	return strstr(uts.release, "-kasan") || strstr(uts.release, "-kcsan");
}

void not_on_intree(const char *why)
{
	if (!is_intree())
		return;
	print_message("not with the in-tree module: %s\n", why);
	skip();
}

static FILE *param_open(const char *module, const char *name, const char *mode)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
	f = fopen(path, mode);
	assert_non_null(f);
	return f;
}

unsigned int param_read(const char *module, const char *name)
{
	FILE *f = param_open(module, name, "r");
	unsigned int val;

	assert_int_equal(fscanf(f, "%u", &val), 1);
	fclose(f);
	return val;
}

void param_write(const char *module, const char *name, unsigned int val)
{
	FILE *f = param_open(module, name, "w");

	assert_true(fprintf(f, "%u", val) > 0);
	assert_int_equal(fclose(f), 0);
}

unsigned int module_param_read(const char *name)
{
	return param_read(MODULE, name);
}

void module_param_write(const char *name, unsigned int val)
{
	param_write(MODULE, name, val);
}

void module_load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(!syscall(SYS_finit_module, fd, "", 0) || errno == EEXIST);
	close(fd);
}
