// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs shows of containers: who sees what, status, domains, valid IOVA.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "emu/emu_user.h"
#include "debugfs.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

static void assert_mode(const char *name, mode_t mode)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), DEBUGFS "/%s", name);
	assert_int_equal(stat(path, &st), 0);
	if (st.st_mode != mode || st.st_uid || st.st_gid)
		fail_msg("%s: mode %o of user %u, want %o of root", path, st.st_mode, st.st_uid,
			 mode);
}

static void only_root_may_look(void **state)
{
	char name[64];
	unsigned int i;

	(void)state;
	assert_mode("", S_IFDIR | 0700);
	assert_mode("version", S_IFREG | 0400);
	snprintf(name, sizeof(name), "%u", debugfs_newest(NULL));
	assert_mode(name, S_IFDIR | 0700);
	for (i = 0; i < ARRAY_SIZE(debugfs_files); i++) {
		snprintf(name, sizeof(name), "%u/%s", debugfs_newest(NULL), debugfs_files[i]);
		assert_mode(name, S_IFREG | 0400);
	}
}

static void the_format_has_a_version(void **state)
{
	int fd = open(DEBUGFS "/version", O_RDONLY);
	char *text;

	(void)state;
	assert_true(fd >= 0);
	text = debugfs_read_fd(fd, 64);
	assert_string_equal(text, "1\n");
	free(text);
	close(fd);
}

/* From VFIO_SET_IOMMU on until the container is closed, with numbers that count up. */
static void a_container_has_a_directory_while_it_is_open(void **state)
{
	struct fixture *f = *state;
	unsigned int count, first, round;

	assert_int_equal(debugfs_newest(&count), 0);
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_int_equal(debugfs_newest(&count), 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	first = debugfs_newest(&count);
	assert_int_equal(count, 1);
	fixture_close_device(f, 0);
	fixture_close_container(f);
	assert_int_equal(debugfs_newest(&count), 0);
	assert_int_equal(count, 0);
	for (round = 1; round < 4; round++) {
		fixture_open_container(f);
		fixture_attach(f, 0);
		assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
		assert_int_equal(debugfs_newest(&count), first + round);
		assert_int_equal(count, 1);
		fixture_close(f);
	}
}

static void a_file_that_is_open_ends_with_its_container(void **state)
{
	struct fixture *f = *state;
	int fds[ARRAY_SIZE(debugfs_files)];
	void *mem = mem_pages(1);
	unsigned int i;
	char c;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = debugfs_open(debugfs_newest(NULL), debugfs_files[i]);
		assert_true(fds[i] >= 0);
		assert_true(read(fds[i], &c, 1) >= 0);
	}
	fixture_close(f);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_int_equal(read(fds[i], &c, 1), -1);
		assert_int_equal(errno, EIO);
		close(fds[i]);
	}
	vu_free(mem, PAGES(1));
}

/* ---- status ---- */

static void status_names_the_type(void **state)
{
	static const struct {
		int type;
		const char *name;
	} types[] = {
		{ VFIO_TYPE1_IOMMU, "v1" },
		{ VFIO_TYPE1v2_IOMMU, "v2" },
		{ VFIO_TYPE1_STRICT_IOMMU, "strict" },
	};
	struct fixture *f = *state;
	unsigned int i;
	char *text;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		fixture_open_container(f);
		fixture_attach(f, 0);
		assert_ok(vu_set_iommu(f->container, types[i].type));
		text = debugfs_read("status");
		assert_string_equal(debugfs_line(text, "type"), types[i].name);
		free(text);
		fixture_close(f);
	}
}

/* Names may be chosen so as to look like something else. */
static void status_says_who_opened_the_container(void **state)
{
	struct fixture *f = *state;
	char before[16], *text;

	assert_int_equal(prctl(PR_GET_NAME, before), 0);
	assert_int_equal(prctl(PR_SET_NAME, "a b\nbytes 1\x7f"), 0);
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	assert_int_equal(prctl(PR_SET_NAME, before), 0);
	text = debugfs_read("status");
	assert_string_equal(debugfs_line(text, "comm"), "a b?bytes 1?");
	assert_int_equal(debugfs_number(text, "pid"), getpid());
	assert_int_equal(debugfs_count(text, "bytes"), 1);
	free(text);
}

static void status_says_how_long(void **state)
{
	struct timespec pause = { .tv_nsec = 200000000 };
	__u64 before, after;
	char *text;

	(void)state;
	text = debugfs_read("status");
	before = debugfs_number(text, "open_ms");
	free(text);
	nanosleep(&pause, NULL);
	text = debugfs_read("status");
	after = debugfs_number(text, "open_ms");
	free(text);
	assert_in_range(after - before, 199, 10000);
}

static void status_sums_up(void **state)
{
	const struct fixture *f = *state;
	const unsigned int limit = module_param_read("dma_entry_limit");
	char *mem = mem_pages(60), *text;
	struct info info;
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * GIB, PAGES(20 * (i + 1))));
	text = debugfs_read("status");
	assert_int_equal(debugfs_number(text, "mappings"), 3);
	assert_int_equal(debugfs_number(text, "bytes"), PAGES(120));
	assert_int_equal(debugfs_number(text, "locked_pages"), 120);
	assert_int_equal(debugfs_number(text, "entry_limit"), limit);
	assert_int_equal(debugfs_number(text, "entries_left"), limit - 3);
	info_get(f->container, &info);
	assert_int_equal(debugfs_number(text, "pgsizes"), info.head.iova_pgsizes);
	free(text);
	assert_unmaps_all(f->container, PAGES(120));
	text = debugfs_read("status");
	assert_int_equal(debugfs_number(text, "mappings"), 0);
	assert_int_equal(debugfs_number(text, "bytes"), 0);
	assert_int_equal(debugfs_number(text, "locked_pages"), 0);
	assert_int_equal(debugfs_number(text, "entries_left"), limit);
	free(text);
	vu_free(mem, PAGES(60));
}

static void status_has_the_modes(void **state)
{
	const struct fixture *f = *state;
	struct vfio_iommu_type1_dirty_bitmap dirty = {
		.argsz = sizeof(dirty), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
	};
	void *mem = mem_pages(1);
	char *text;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	text = debugfs_read("status");
	assert_int_equal(debugfs_number(text, "dirty_tracking"), 0);
	assert_int_equal(debugfs_number(text, "vaddr_invalid"), 0);
	free(text);
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DIRTY_PAGES, &dirty), 0);
	assert_ok(vu_unmap(f->container, BASE, PAGES(1), VFIO_DMA_UNMAP_FLAG_VADDR, NULL));
	text = debugfs_read("status");
	assert_int_equal(debugfs_number(text, "dirty_tracking"), 1);
	assert_int_equal(debugfs_number(text, "vaddr_invalid"), 1);
	free(text);
	vu_free(mem, PAGES(1));
}

/* ---- domains ---- */

static void assert_has_line(const char *text, const char *fmt, ...)
{
	char line[256];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (!strstr(text, line))
		fail_msg("no line '%s' in:\n%s", line, text);
}

static void domains_lists_groups_and_devices(void **state)
{
	const struct fixture *f = *state;
	char *text = debugfs_read("domains"), *status = debugfs_read("status");
	__u64 pgsizes, first, last;
	int n, fgsp, coherent;
	unsigned int i;

	assert_int_equal(debugfs_count(text, "domain"), 1);
	n = sscanf(debugfs_line(text, "domain"),
		   "0 pgsizes %llx fgsp %d coherent %d first %llx last %llx", &pgsizes, &fgsp,
		   &coherent, &first, &last);
	assert_int_equal(n, 5);
	assert_int_equal(pgsizes, debugfs_number(status, "pgsizes"));
	assert_int_equal(fgsp, iommu_kind() == IOMMU_AMD);
	assert_int_equal(coherent, !!ioctl(f->container, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU));
	assert_int_equal(first, 0);
	assert_true(last >= (1ULL << 39) - 1);
	assert_int_equal(debugfs_count(text, "group"), 2);
	for (i = 0; i < 2; i++) {
		assert_has_line(text, "\ngroup %d domain 0 pins_only 0\n", f->pci[i].group);
		assert_has_line(text, "\ndevice %s group %d\n", f->pci[i].bdf, f->pci[i].group);
	}
	free(text);
	free(status);
}

static void domains_lists_in_kernel_users(void **state)
{
	const struct emu_fixture *e = *state;
	char *text = debugfs_read("domains");

	assert_has_line(text, "\ngroup %d domain 0 pins_only 0\n", e->f->pci[0].group);
	assert_has_line(text, "\ngroup %d domain - pins_only 1\n", e->emu[0].group);
	assert_int_equal(debugfs_count(text, "device"), 2);
	free(text);
}

/* ---- iova ---- */

/* What is valid is what GET_INFO says; all the rest is cut by something. */
static void iova_says_what_is_valid_and_what_cut_it(void **state)
{
	const struct fixture *f = *state;
	char *text = debugfs_read("iova"), *line, *rest = text;
	unsigned int nvalid = 0, ncuts = 0, i;
	struct { __u64 first, last; } cuts[64];
	__u64 msi_first, msi_last, at = 0;
	bool msi = false, moved = true;
	struct info info;

	info_get(f->container, &info);
	assert_non_null(info.iova);
	msi_window(&msi_first, &msi_last);
	while ((line = strsep(&rest, "\n")) && *line) {
		__u64 first, last;
		char kind[16], of[16];
		int n, nr;

		n = sscanf(line, "valid %llx %llx", &first, &last);
		if (n == 2) {
			assert_true(nvalid < info.iova->nr_iovas);
			assert_int_equal(first, info.iova->iova_ranges[nvalid].start);
			assert_int_equal(last, info.iova->iova_ranges[nvalid].end);
			nvalid++;
			continue;
		}
		n = sscanf(line, "cut %llx %llx %15s %15s %d", &first, &last, kind, of, &nr);
		assert_int_equal(n, 5);
		assert_true(ncuts < ARRAY_SIZE(cuts));
		cuts[ncuts].first = first;
		cuts[ncuts++].last = last;
		if (!strcmp(kind, "aperture")) {
			assert_string_equal(of, "domain");
			assert_int_equal(nr, 0);
			continue;
		}
		assert_string_equal(of, "group");
		assert_int_equal(nr, f->pci[0].group);
		if (!strcmp(kind, "msi") || !strcmp(kind, "sw-msi")) {
			assert_int_equal(first, msi_first);
			assert_int_equal(last, msi_last);
			msi = true;
		} else if (strcmp(kind, "direct") && strcmp(kind, "reserved")) {
			fail_msg("unknown kind: %s", line);
		}
	}
	assert_int_equal(nvalid, info.iova->nr_iovas);
	assert_true(msi);
	/* From 0 to the last IOVA by valid ranges and cuts, which may overlap each other. */
	for (nvalid = 0; moved && at != ~0ULL;) {
		moved = false;
		if (nvalid < info.iova->nr_iovas && info.iova->iova_ranges[nvalid].start == at) {
			at = info.iova->iova_ranges[nvalid++].end + 1;
			moved = true;
			if (!at)
				break;
		}
		for (i = 0; i < ncuts; i++) {
			if (cuts[i].first > at || cuts[i].last < at)
				continue;
			moved = true;
			at = cuts[i].last == ~0ULL ? ~0ULL : cuts[i].last + 1;
		}
	}
	if (at && at != ~0ULL)
		fail_msg("IOVA %#llx is neither valid nor cut", at);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CLOSED(a_container_has_a_directory_while_it_is_open),
		TEST_V2(only_root_may_look),
		TEST_V2(the_format_has_a_version),
		TEST_V2(a_file_that_is_open_ends_with_its_container),
		TEST_CLOSED(status_names_the_type),
		TEST_CLOSED(status_says_who_opened_the_container),
		TEST_V2(status_says_how_long),
		TEST_V2(status_sums_up),
		TEST_V2(status_has_the_modes),
		TEST_TWO(domains_lists_groups_and_devices),
		TEST_MIXED(domains_lists_in_kernel_users),
		TEST_V2(iova_says_what_is_valid_and_what_cut_it),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module has no debugfs");
		return 0;
	}
	return cmocka_run_group_tests_name("debugfs", tests, NULL, NULL);
}
