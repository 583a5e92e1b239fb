// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs says of a container: every file of Documentation/debugfs.rst against
 * what the test did, who may read it, and that reading disturbs nobody.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "emu/emu_user.h"

#define ROOT		"/sys/kernel/debug/vfio_type1"
#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define CLASSES		19

static const char *const file_names[] = {
	"status", "domains", "iova", "mappings", "regions", "counters", "progress",
};

/* ---- Reading ---- */

/* The newest container's number; 0 if there is none. *count, if not NULL, gets how many. */
static unsigned int newest(unsigned int *count)
{
	unsigned int id, max = 0, n = 0;
	struct dirent *entry;
	DIR *dir = opendir(ROOT);

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		id = strtoul(entry->d_name, NULL, 10);
		if (!id)
			continue;
		n++;
		if (id > max)
			max = id;
	}
	closedir(dir);
	if (count)
		*count = n;
	return max;
}

static int open_file(unsigned int id, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), ROOT "/%u/%s", id, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* All of a file, in reads of this size; to be freed. */
static char *read_fd(int fd, size_t step)
{
	size_t len = 0, room = 1 << 16;
	char *text = malloc(room);
	ssize_t got;

	assert_non_null(text);
	while ((got = read(fd, text + len, step)) > 0) {
		len += got;
		if (len + step >= room) {
			room *= 2;
			text = realloc(text, room);
			assert_non_null(text);
		}
	}
	assert_int_equal(got, 0);
	text[len] = '\0';
	return text;
}

static char *read_file(const char *name)
{
	int fd = open_file(newest(NULL), name);
	char *text;

	assert_true(fd >= 0);
	text = read_fd(fd, 1 << 15);
	close(fd);
	return text;
}

/* The rest of the line of text that begins with this word. */
static const char *line_of(const char *text, const char *word)
{
	static char line[256];
	const char *at = text;
	size_t len = strlen(word);

	for (; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, word, len) && at[len] == ' ') {
			snprintf(line, sizeof(line), "%.*s", (int)strcspn(at + len + 1, "\n"),
				 at + len + 1);
			return line;
		}
	}
	fail_msg("there is no line '%s' in:\n%s", word, text);
	return NULL;
}

static __u64 number_of(const char *text, const char *word)
{
	return strtoull(line_of(text, word), NULL, 0);
}

static __u64 counter(const char *name)
{
	char *text = read_file("counters");
	__u64 value = number_of(text, name);

	free(text);
	return value;
}

static unsigned int count_lines(const char *text, const char *word)
{
	size_t len = strlen(word);
	unsigned int n = 0;

	for (; *text; text = strchr(text, '\n') + 1)
		n += !strncmp(text, word, len) && text[len] == ' ';
	return n;
}

/* ---- A line of mappings ---- */

struct mapping {
	__u64 iova, size, vaddr;
	char prot[4], state[16];
	int pid;
	__u64 pages, charged, runs;
	int lost;
	__u64 bytes_4k, bytes_2m, bytes_1g;
	__u64 hist[CLASSES];
};

/* Returns what follows the line, or NULL at the end. */
static const char *parse_mapping(const char *text, struct mapping *m)
{
	unsigned int i;
	int n, len = 0;
	char *end;

	if (!*text)
		return NULL;
	n = sscanf(text, "mapping %llx size %llu vaddr %llx prot %3s state %15s pid %d %n",
		   &m->iova, &m->size, &m->vaddr, m->prot, m->state, &m->pid, &len);
	assert_int_equal(n, 6);
	text += len;
	len = 0;
	n = sscanf(text, "pages %llu charged %llu runs %llu lost %d bytes_4k %llu bytes_2m %llu %n",
		   &m->pages, &m->charged, &m->runs, &m->lost, &m->bytes_4k, &m->bytes_2m, &len);
	assert_int_equal(n, 6);
	text += len;
	len = 0;
	n = sscanf(text, "bytes_1g %llu hist%n", &m->bytes_1g, &len);
	assert_int_equal(n, 1);
	assert_true(len > 0);
	text += len;
	for (i = 0; i < CLASSES; i++) {
		assert_int_equal(*text, ' ');
		m->hist[i] = strtoull(text, &end, 10);
		text = end;
	}
	assert_int_equal(*text, '\n');
	return text + 1;
}

/* What the page table of this process says a mapping's line has to be. */
static void survey(const char *mem, __u64 iova, size_t size, __u64 pgsizes, struct mapping *want)
{
	const __u64 pfn_mask = (1ULL << 55) - 1, sizes[] = { GIB, 2 * MIB };
	size_t npages = size / VU_PAGE, i, n, k;
	__u64 *pfns = calloc(npages, sizeof(*pfns)), at, end, *bytes[2];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && pfns);
	assert_int_equal(pread(fd, pfns, npages * sizeof(*pfns),
			       (unsigned long)mem / VU_PAGE * sizeof(*pfns)),
			 npages * sizeof(*pfns));
	close(fd);
	memset(want, 0, sizeof(*want));
	bytes[0] = &want->bytes_1g;
	bytes[1] = &want->bytes_2m;
	for (i = 0; i < npages; i += n) {
		__u64 first = iova + PAGES(i), phys = (pfns[i] & pfn_mask) * VU_PAGE;

		n = 1;
		while (i + n < npages && (pfns[i + n] & pfn_mask) == (pfns[i] & pfn_mask) + n &&
		       (first + PAGES(n)) % GIB)
			n++;
		want->runs++;
		for (k = 0; n >> (k + 1); k++)
			;
		want->hist[k]++;
		/* Page by page, the largest IOPTE that fits. */
		for (at = first, end = first + PAGES(n); at < end;) {
			for (k = 0; k < 2; k++) {
				if (pgsizes & sizes[k] && !(at % sizes[k]) &&
				    !((phys + (at - first)) % sizes[k]) && at + sizes[k] <= end)
					break;
			}
			*(k < 2 ? bytes[k] : &want->bytes_4k) += k < 2 ? sizes[k] : VU_PAGE;
			at += k < 2 ? sizes[k] : VU_PAGE;
		}
	}
	free(pfns);
}

/* The only mapping is this one, live, and its line says what its memory is like. */
static void assert_only_mapping(const char *mem, __u64 iova, size_t size)
{
	char *status = read_file("status"), *text = read_file("mappings");
	struct mapping got, want;

	survey(mem, iova, size, number_of(status, "pgsizes"), &want);
	assert_string_equal(parse_mapping(text, &got), "");
	assert_int_equal(got.iova, iova);
	assert_int_equal(got.size, size);
	assert_int_equal(got.vaddr, (unsigned long)mem);
	assert_string_equal(got.prot, "rw");
	assert_string_equal(got.state, "live");
	assert_int_equal(got.pid, getpid());
	assert_int_equal(got.pages, size / VU_PAGE);
	assert_int_equal(got.charged, size / VU_PAGE);
	assert_int_equal(got.lost, 0);
	if (got.runs != want.runs || got.bytes_4k != want.bytes_4k ||
	    got.bytes_2m != want.bytes_2m || got.bytes_1g != want.bytes_1g ||
	    memcmp(got.hist, want.hist, sizeof(got.hist)))
		fail_msg("%sis wrong: want runs %llu bytes_4k %llu bytes_2m %llu bytes_1g %llu",
			 text, want.runs, want.bytes_4k, want.bytes_2m, want.bytes_1g);
	assert_int_equal(got.bytes_4k + got.bytes_2m + got.bytes_1g, size);
	free(status);
	free(text);
}

/* ---- Who sees what ---- */

static void assert_mode(const char *name, mode_t mode)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), ROOT "/%s", name);
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
	snprintf(name, sizeof(name), "%u", newest(NULL));
	assert_mode(name, S_IFDIR | 0700);
	for (i = 0; i < ARRAY_SIZE(file_names); i++) {
		snprintf(name, sizeof(name), "%u/%s", newest(NULL), file_names[i]);
		assert_mode(name, S_IFREG | 0400);
	}
}

static void the_format_has_a_version(void **state)
{
	int fd = open(ROOT "/version", O_RDONLY);
	char *text;

	(void)state;
	assert_true(fd >= 0);
	text = read_fd(fd, 64);
	assert_string_equal(text, "1\n");
	free(text);
	close(fd);
}

/* From VFIO_SET_IOMMU on until the container is closed, with numbers that count up. */
static void a_container_has_a_directory_while_it_is_open(void **state)
{
	struct fixture *f = *state;
	unsigned int count, first, round;

	assert_int_equal(newest(&count), 0);
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_int_equal(newest(&count), 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	first = newest(&count);
	assert_int_equal(count, 1);
	fixture_close_device(f, 0);
	fixture_close_container(f);
	assert_int_equal(newest(&count), 0);
	assert_int_equal(count, 0);
	for (round = 1; round < 4; round++) {
		fixture_open_container(f);
		fixture_attach(f, 0);
		assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
		assert_int_equal(newest(&count), first + round);
		assert_int_equal(count, 1);
		fixture_close(f);
	}
}

static void a_file_that_is_open_ends_with_its_container(void **state)
{
	struct fixture *f = *state;
	int fds[ARRAY_SIZE(file_names)];
	void *mem = mem_pages(1);
	unsigned int i;
	char c;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = open_file(newest(NULL), file_names[i]);
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
		text = read_file("status");
		assert_string_equal(line_of(text, "type"), types[i].name);
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
	text = read_file("status");
	assert_string_equal(line_of(text, "comm"), "a b?bytes 1?");
	assert_int_equal(number_of(text, "pid"), getpid());
	assert_int_equal(count_lines(text, "bytes"), 1);
	free(text);
}

static void status_says_how_long(void **state)
{
	struct timespec pause = { .tv_nsec = 200000000 };
	__u64 before, after;
	char *text;

	(void)state;
	text = read_file("status");
	before = number_of(text, "open_ms");
	free(text);
	nanosleep(&pause, NULL);
	text = read_file("status");
	after = number_of(text, "open_ms");
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
	text = read_file("status");
	assert_int_equal(number_of(text, "mappings"), 3);
	assert_int_equal(number_of(text, "bytes"), PAGES(120));
	assert_int_equal(number_of(text, "locked_pages"), 120);
	assert_int_equal(number_of(text, "entry_limit"), limit);
	assert_int_equal(number_of(text, "entries_left"), limit - 3);
	info_get(f->container, &info);
	assert_int_equal(number_of(text, "pgsizes"), info.head.iova_pgsizes);
	free(text);
	assert_unmaps_all(f->container, PAGES(120));
	text = read_file("status");
	assert_int_equal(number_of(text, "mappings"), 0);
	assert_int_equal(number_of(text, "bytes"), 0);
	assert_int_equal(number_of(text, "locked_pages"), 0);
	assert_int_equal(number_of(text, "entries_left"), limit);
	free(text);
	vu_free(mem, PAGES(60));
}

/* A line's value of a key. */
static __u64 value_of(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	assert_non_null(at);
	return strtoull(at + strlen(key), NULL, 10);
}

/* What status says of all mappings is what mappings says of each. */
static void assert_sums(const char *stage)
{
	char *status = read_file("status"), *text = read_file("mappings"), *rest = text, *line;
	__u64 n = 0, bytes = 0, charged = 0;

	at_step("%s", stage);
	while ((line = strsep(&rest, "\n")) && *line) {
		n++;
		bytes += value_of(line, " size ");
		charged += value_of(line, " charged ");
	}
	if (number_of(status, "mappings") != n || number_of(status, "bytes") != bytes ||
	    number_of(status, "locked_pages") != charged)
		fail_msg("%s: %llu mappings of %llu bytes, %llu pages charged, but:\n%s", stage, n,
			 bytes, charged, status);
	assert_int_equal(number_of(status, "entry_limit") - number_of(status, "entries_left"), n);
	free(status);
	free(text);
}

static void assert_no_sums(void)
{
	char *text = read_file("status");

	assert_int_equal(number_of(text, "mappings"), 0);
	assert_int_equal(number_of(text, "bytes"), 0);
	assert_int_equal(number_of(text, "locked_pages"), 0);
	free(text);
}

static void the_sums_are_those_of_the_mappings(void **state)
{
	const struct emu_fixture *e = *state;
	struct fixture *f = e->f;
	char *mem = mem_scattered(PAGES(64));

	assert_sums("nothing");
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(20)));
	assert_ok(vu_map_rw(f->container, mem, BASE + GIB, PAGES(3)));
	assert_sums("mapped, not pinned");
	assert_int_equal(emu_pin(&e->emu[0], BASE, 5), 5);
	assert_sums("pinned by a device");
	fixture_attach(f, 0);
	assert_sums("attached");
	assert_ret(vu_map_rw(f->container, mem, BASE + PAGES(19), PAGES(2)), -EEXIST);
	assert_ret(vu_map_rw(f->container, mem - GIB, BASE + 2 * GIB, PAGES(2)), -EFAULT);
	assert_sums("refused");
	assert_ok(vu_register(f->container, mem + PAGES(32), PAGES(32), 0));
	assert_ok(vu_map_rw(f->container, mem + PAGES(40), BASE + 3 * GIB, PAGES(4)));
	assert_ok(vu_map_rw(f->container, mem, BASE + 4 * GIB, PAGES(30)));
	assert_sums("registered memory, too");
	assert_unmaps(f->container, BASE + GIB, PAGES(3), PAGES(3));
	assert_sums("one less");
	fixture_close_device(f, 0);
	assert_sums("detached");
	assert_int_equal(emu_unpin(&e->emu[0], BASE, 5), 0);
	assert_sums("unpinned");
	assert_unmaps_all(f->container, PAGES(54));
	assert_sums("unmapped");
	assert_no_sums();
	assert_ok(vu_unregister(f->container, mem + PAGES(32), PAGES(32)));
	vu_free(mem, PAGES(64));
}

struct handover {
	int container;
	char *mem;
};

static void take_over(void *arg)
{
	const struct handover *h = arg;

	child_check(!vu_map(h->container, h->mem, BASE, PAGES(8), VFIO_DMA_MAP_FLAG_VADDR));
	child_check(!vu_map(h->container, h->mem + PAGES(32), BASE + GIB, PAGES(8),
			    VFIO_DMA_MAP_FLAG_VADDR));
}

/* Of registered memory the new owner is charged for the mapping, too. */
static void the_sums_follow_a_mapping_to_its_new_owner(void **state)
{
	const struct fixture *f = *state;
	struct handover h = { .container = f->container, .mem = mem_scattered(PAGES(64)) };

	assert_ok(vu_map_rw(f->container, h.mem, BASE, PAGES(8)));
	assert_ok(vu_register(f->container, h.mem + PAGES(32), PAGES(32), 0));
	assert_ok(vu_map_rw(f->container, h.mem + PAGES(32), BASE + GIB, PAGES(8)));
	assert_sums("mapped");
	assert_ok(vu_unmap(f->container, 0, 0,
			   VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR, NULL));
	assert_sums("without addresses");
	in_child(take_over, &h);
	assert_sums("handed over");
	assert_unmaps_all(f->container, PAGES(16));
	assert_sums("unmapped");
	assert_no_sums();
	assert_ok(vu_unregister(f->container, h.mem + PAGES(32), PAGES(32)));
	vu_free(h.mem, PAGES(64));
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
	text = read_file("status");
	assert_int_equal(number_of(text, "dirty_tracking"), 0);
	assert_int_equal(number_of(text, "vaddr_invalid"), 0);
	free(text);
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DIRTY_PAGES, &dirty), 0);
	assert_ok(vu_unmap(f->container, BASE, PAGES(1), VFIO_DMA_UNMAP_FLAG_VADDR, NULL));
	text = read_file("status");
	assert_int_equal(number_of(text, "dirty_tracking"), 1);
	assert_int_equal(number_of(text, "vaddr_invalid"), 1);
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
	char *text = read_file("domains"), *status = read_file("status");
	__u64 pgsizes, first, last;
	int n, fgsp, coherent;
	unsigned int i;

	assert_int_equal(count_lines(text, "domain"), 1);
	n = sscanf(line_of(text, "domain"),
		   "0 pgsizes %llx fgsp %d coherent %d first %llx last %llx", &pgsizes, &fgsp,
		   &coherent, &first, &last);
	assert_int_equal(n, 5);
	assert_int_equal(pgsizes, number_of(status, "pgsizes"));
	assert_int_equal(fgsp, iommu_kind() == IOMMU_AMD);
	assert_int_equal(coherent, !!ioctl(f->container, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU));
	assert_int_equal(first, 0);
	assert_true(last >= (1ULL << 39) - 1);
	assert_int_equal(count_lines(text, "group"), 2);
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
	char *text = read_file("domains");

	assert_has_line(text, "\ngroup %d domain 0 pins_only 0\n", e->f->pci[0].group);
	assert_has_line(text, "\ngroup %d domain - pins_only 1\n", e->emu[0].group);
	assert_int_equal(count_lines(text, "device"), 2);
	free(text);
}

/* ---- iova ---- */

/* What is valid is what GET_INFO says; all the rest is cut by something. */
static void iova_says_what_is_valid_and_what_cut_it(void **state)
{
	const struct fixture *f = *state;
	char *text = read_file("iova"), *line, *rest = text;
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

/* ---- mappings ---- */

static void mappings_tell_the_layout_of_each_kind_of_memory(void **state)
{
	const struct fixture *f = *state;
	/* Aligned like 2 MiB of memory, one page further, and across a multiple of 1 GiB. */
	const __u64 iovas[] = { BASE, BASE + PAGES(1), BASE - 2 * MIB };
	const size_t size = 8 * MIB;
	unsigned int i, j;

	for (i = 0; i < NBACKINGS; i++) {
		char *mem = backings[i].alloc(size);

		for (j = 0; j < ARRAY_SIZE(iovas); j++) {
			at_step("%s at %#llx", backings[i].name, iovas[j]);
			assert_ok(vu_map_rw(f->container, mem, iovas[j], size));
			assert_only_mapping(mem, iovas[j], size);
			assert_unmaps_all(f->container, size);
		}
		vu_free(mem, size);
	}
}

/* How the only mapping's memory lies: from its runs on. */
static char *only_layout(void)
{
	char *text = read_file("mappings"), *layout = strstr(text, " runs ");

	assert_int_equal(count_lines(text, "mapping"), 1);
	assert_non_null(layout);
	layout = strdup(layout);
	free(text);
	assert_non_null(layout);
	return layout;
}

/* A mapping of registered memory looks like any other, but says so, and is not charged. */
static void registered_memory_is_told(void **state)
{
	const struct fixture *f = *state;
	const size_t size = 8 * MIB;
	unsigned int i;

	for (i = 0; i < NBACKINGS; i++) {
		char *mem = backings[i].alloc(size), *ordinary, *layout, *text, want[256];

		at_step("%s", backings[i].name);
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		ordinary = only_layout();
		assert_unmaps_all(f->container, size);
		text = read_file("regions");
		assert_string_equal(text, "");
		free(text);

		assert_ok(vu_register(f->container, mem, size, 0));
		assert_ok(vu_register(f->container, mem, size, 0));
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		layout = only_layout();
		*strchr(ordinary, '\n') = '\0';
		snprintf(want, sizeof(want), "%s region 0x%lx\n", ordinary, (unsigned long)mem);
		assert_string_equal(layout, want);
		free(ordinary);
		free(layout);
		text = read_file("status");
		assert_int_equal(number_of(text, "locked_pages"), 0);
		free(text);
		text = read_file("regions");
		snprintf(want, sizeof(want),
			 "region 0x%lx size %zu prot rw pid %d registered 2 mappings 1 charged %zu marked 0 kept 0\n",
			 (unsigned long)mem, size, getpid(), size / VU_PAGE);
		assert_string_equal(text, want);
		free(text);
		assert_unmaps_all(f->container, size);
		assert_ok(vu_unregister(f->container, mem, size));
		assert_ok(vu_unregister(f->container, mem, size));
		vu_free(mem, size);
	}
}

/* Marks of the only region. */
static __u64 region_marks(void)
{
	char *text = read_file("regions"), *at = strstr(text, " marked ");
	__u64 n;

	assert_non_null(at);
	n = strtoull(at + strlen(" marked "), NULL, 10);
	free(text);
	return n;
}

/*
 * Memory that was touched and is the same is looked at once, also if only small pieces of
 * it are mapped; memory that is another one keeps its mark.
 */
static void marks_go_where_memory_is_the_same(void **state)
{
	const struct fixture *f = *state;
	const size_t size = 8 * MIB;
	char *mem;
	size_t at;
	int fd;

	mem = mem_memfd_open(size, &fd);
	assert_ok(vu_register(f->container, mem, size, 0));
	assert_int_equal(region_marks(), 0);
	assert_int_equal(madvise(mem, size, MADV_DONTNEED), 0);
	assert_true(region_marks() >= size / VU_2M);
	memset(mem, 1, size);
	/* The last page, too: it may be all that is in its 2 MiB of addresses. */
	for (at = 0; at <= size; at += size / 16) {
		assert_ok(vu_map_rw(f->container, mem + (at < size ? at : size - VU_PAGE), BASE,
				    VU_PAGE));
		assert_unmaps(f->container, BASE, VU_PAGE, VU_PAGE);
	}
	assert_int_equal(region_marks(), 0);

	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size / 2,
				   VU_PAGE), 0);
	memset(mem, 2, size);
	for (at = 0; at < size; at += size / 16) {
		assert_ret(vu_map_rw(f->container, mem + at, BASE, VU_PAGE),
			   at == size / 2 ? -ESTALE : 0);
		if (at != size / 2)
			assert_unmaps(f->container, BASE, VU_PAGE, VU_PAGE);
	}
	assert_int_equal(region_marks(), 1);
	assert_ok(vu_unregister(f->container, mem, size));
	vu_free(mem, size);
	close(fd);
}

/* What lies next to memory that goes gets no mark: it would be looked at in vain. */
static void marks_end_where_the_change_does(void **state)
{
	static void *(*const alloc[])(size_t size) = { mem_scattered, mem_thp };
	const struct fixture *f = *state;
	const size_t size = 8 * MIB;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(alloc); i++) {
		char *mem = alloc[i](size);

		at_step("memory %u", i);
		assert_int_equal((unsigned long)mem % VU_2M, 0);
		assert_ok(vu_register(f->container, mem, size, 0));
		assert_int_equal(region_marks(), 0);
		/* The last page of 2 MiB, and the first. */
		assert_int_equal(munmap(mem + VU_2M - VU_PAGE, VU_PAGE), 0);
		assert_int_equal(region_marks(), 1);
		assert_int_equal(munmap(mem + 2 * VU_2M, VU_PAGE), 0);
		assert_int_equal(region_marks(), 2);
		assert_ok(vu_unregister(f->container, mem, size));
		vu_free(mem, size);
	}
}

static void mappings_tell_protections(void **state)
{
	static const struct {
		__u32 flags;
		const char *prot;
	} prots[] = {
		{ VFIO_DMA_MAP_FLAG_READ, "r" },
		{ VFIO_DMA_MAP_FLAG_WRITE, "w" },
		{ RW, "rw" },
	};
	const struct fixture *f = *state;
	void *mem = mem_pages(1);
	struct mapping m;
	unsigned int i;
	char *text;

	for (i = 0; i < ARRAY_SIZE(prots); i++) {
		assert_ok(vu_map(f->container, mem, BASE, PAGES(1), prots[i].flags));
		text = read_file("mappings");
		assert_string_equal(parse_mapping(text, &m), "");
		assert_string_equal(m.prot, prots[i].prot);
		free(text);
		assert_unmaps(f->container, BASE, PAGES(1), PAGES(1));
	}
	vu_free(mem, PAGES(1));
}

/* Far more than fit into one read, by reads of any size. */
static void mappings_are_all_there_and_in_order(void **state)
{
	static const size_t steps[] = { 7, 512, 1 << 15 };
	const struct fixture *f = *state;
	const unsigned int n = 1000;
	void *mem = mem_pages(1);
	unsigned int i, j;

	/* From the highest to the lowest. */
	for (i = n; i--;)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * PAGES(3), PAGES(1)));
	for (j = 0; j < ARRAY_SIZE(steps); j++) {
		int fd = open_file(newest(NULL), "mappings");
		char *text = read_fd(fd, steps[j]);
		const char *at = text;
		struct mapping m;

		for (i = 0; (at = parse_mapping(at, &m)); i++) {
			assert_int_equal(m.iova, BASE + i * PAGES(3));
			assert_int_equal(m.runs, 1);
			assert_int_equal(m.hist[0], 1);
		}
		assert_int_equal(i, n);
		free(text);
		close(fd);
	}
	assert_unmaps_all(f->container, n * PAGES(1));
	vu_free(mem, PAGES(1));
}

/* ---- counters ---- */

static void counters_count_requests_pages_and_calls(void **state)
{
	static const char *const names[] = {
		"maps", "unmaps", "mapped_pages", "unmapped_pages", "pin_calls",
		"pinned_pages", "iommu_maps", "iommu_unmaps", "syncs", "windows",
		"flushed_pages",
	};
	/* The IOMMU enforces cache coherency. */
	static const __u64 want[] = { 2, 1, 4097, 4097, 3, 4097, 9, 9, 9, 9, 0 };
	const struct fixture *f = *state;
	char *mem = mem_scattered(PAGES(4097));
	__u64 before[ARRAY_SIZE(names)], got;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		before[i] = counter(names[i]);
	/* By batches of 2048 pages, queues and windows of 512 runs. */
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(4096)));
	assert_ok(vu_map_rw(f->container, mem + PAGES(4096), BASE + GIB, PAGES(1)));
	assert_unmaps_all(f->container, PAGES(4097));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		got = counter(names[i]) - before[i];
		if (got != want[i])
			fail_msg("%s rose by %llu, want %llu", names[i], got, want[i]);
	}
	vu_free(mem, PAGES(4097));
}

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static bool within_a_tenth(__u64 value, __u64 of)
{
	return value >= of - of / 10 && value <= of + of / 10;
}

/*
 * To a tenth of what this process measures, unless it lost the CPU between its own look
 * at the clock and the module's: so in one round of many.
 */
static void counters_measure_time(void **state)
{
	const struct fixture *f = *state;
	const size_t size = 64 * MIB;
	void *mem = mem_scattered(size);
	bool map_right = false, unmap_right = false;
	__u64 map_ns, unmap_ns, pin_ns, start, mapped, unmapped;
	unsigned int round;

	for (round = 0; round < 50 && !(map_right && unmap_right); round++) {
		map_ns = counter("map_ns");
		unmap_ns = counter("unmap_ns");
		pin_ns = counter("pin_ns");
		start = now_ns();
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		mapped = now_ns() - start;
		start = now_ns();
		assert_unmaps_all(f->container, size);
		unmapped = now_ns() - start;
		map_ns = counter("map_ns") - map_ns;
		unmap_ns = counter("unmap_ns") - unmap_ns;
		pin_ns = counter("pin_ns") - pin_ns;
		map_right |= within_a_tenth(map_ns, mapped);
		unmap_right |= within_a_tenth(unmap_ns, unmapped);
		assert_in_range(pin_ns, 1, map_ns);
	}
	if (!map_right || !unmap_right)
		fail_msg("map_ns rose by %llu of %llu, unmap_ns by %llu of %llu", map_ns, mapped,
			 unmap_ns, unmapped);
	vu_free(mem, size);
}

static void counters_count_groups(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(counter("attaches"), 2);
	assert_int_equal(counter("detaches"), 0);
	fixture_close_device(f, 1);
	assert_int_equal(counter("attaches"), 2);
	assert_int_equal(counter("detaches"), 1);
}

static void counters_count_refusals(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(2);
	char *text;

	text = read_file("counters");
	assert_int_equal(number_of(text, "refused_overlap"), 0);
	assert_int_equal(number_of(text, "refused_v1_none"), 0);
	free(text);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(2)));
	assert_ret(vu_map_rw(f->container, mem, BASE, PAGES(1)), -EEXIST);
	assert_ret(vu_map_rw(f->container, mem, BASE + 1, PAGES(1)), -EINVAL);
	assert_ret(vu_unmap(f->container, BASE, PAGES(1), 0, NULL), -EINVAL);
	text = read_file("counters");
	assert_int_equal(number_of(text, "refused_overlap"), 1);
	assert_int_equal(number_of(text, "refused_align"), 1);
	assert_int_equal(number_of(text, "refused_bisect"), 1);
	assert_int_equal(number_of(text, "refused_pin"), 0);
	/* The refused ones are not requests that were served. */
	assert_int_equal(number_of(text, "maps"), 1);
	assert_int_equal(number_of(text, "unmaps"), 0);
	free(text);
	vu_free(mem, PAGES(2));
}

/* ---- progress ---- */

struct request {
	int container;
	void *mem;
	size_t size;
	int ret;
	atomic_bool done;
};

static void *map_it(void *arg)
{
	struct request *r = arg;

	r->ret = vu_map_rw(r->container, r->mem, BASE, r->size);
	atomic_store(&r->done, true);
	return NULL;
}

/* Memory that was never touched: it is found while MAP goes. */
static void progress_shows_a_map_under_way(void **state)
{
	const struct fixture *f = *state;
	struct request r = { .container = f->container, .size = GIB };
	__u64 iova, size, done, ms, last_done = 0, last_ms = 0, start;
	unsigned int seen = 0, pending = 0;
	char before[16], *text;
	struct mapping m;
	pthread_t thread;
	int n, pid;

	r.mem = mmap(NULL, r.size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(r.mem != MAP_FAILED);
	assert_int_equal(madvise(r.mem, r.size, MADV_NOHUGEPAGE), 0);
	text = read_file("progress");
	assert_string_equal(text, "");
	free(text);

	/* The process's name, which may be anything, ends the line. */
	assert_int_equal(prctl(PR_GET_NAME, before), 0);
	assert_int_equal(prctl(PR_SET_NAME, " ns=9\n\033[31m\xff"), 0);
	start = now_ns();
	assert_int_equal(pthread_create(&thread, NULL, map_it, &r), 0);
	while (!atomic_load(&r.done)) {
		text = read_file("progress");
		if (*text) {
			n = sscanf(text, "map %llx size %llu done %llu ms %llu pid %d comm ",
				   &iova, &size, &done, &ms, &pid);
			assert_int_equal(n, 5);
			assert_string_equal(strstr(text, " comm "), " comm  ns=9??[31m?\n");
			assert_int_equal(iova, BASE);
			assert_int_equal(size, r.size);
			assert_int_equal(pid, getpid());
			assert_in_range(done, last_done, r.size);
			assert_in_range(ms, last_ms, (now_ns() - start) / 1000000 + 50);
			last_done = done;
			last_ms = ms;
			seen += done > 0 && done < r.size;
		}
		free(text);
		text = read_file("mappings");
		if (parse_mapping(text, &m) && !strcmp(m.state, "pending")) {
			/* Its run list is still being made. */
			assert_int_equal(m.runs, 0);
			pending++;
		}
		free(text);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(prctl(PR_SET_NAME, before), 0);
	assert_ok(r.ret);
	assert_true(seen > 2 && pending > 2);
	assert_true(last_ms > 0);
	text = read_file("progress");
	assert_string_equal(text, "");
	free(text);
	assert_unmaps_all(f->container, r.size);
	munmap(r.mem, r.size);
}

/* ---- Readers beside everything else ---- */

struct crowd {
	const struct fixture *f;
	unsigned int nth;
	char *mem;
	atomic_bool *stop;
	unsigned int rounds;
	int ret;
};

static void *map_and_unmap(void *arg)
{
	struct crowd *c = arg;
	const __u64 iova = BASE + c->nth * GIB, size = PAGES(2048);
	__u64 unmapped;

	for (; !atomic_load(c->stop) && !c->ret; c->rounds++) {
		c->ret = vu_map_rw(c->f->container, c->mem, iova, size);
		if (!c->ret)
			c->ret = vu_unmap(c->f->container, iova, size, 0, &unmapped);
		if (!c->ret && unmapped != size)
			c->ret = -ENODATA;
	}
	return NULL;
}

/* A container of its own, which comes and goes. */
static void *open_and_close(void *arg)
{
	struct crowd *c = arg;
	struct vu_pci pci = c->f->pci[1];
	int container;

	for (; !atomic_load(c->stop) && !c->ret; c->rounds++) {
		container = vu_container_open();
		c->ret = vu_group_open(&pci);
		if (!c->ret)
			c->ret = vu_group_attach(&pci, container);
		if (!c->ret)
			c->ret = vu_set_iommu(container, VFIO_TYPE1v2_IOMMU);
		if (!c->ret)
			c->ret = vu_map_rw(container, c->mem, BASE, PAGES(2048));
		vu_pci_close(&pci);
		close(container);
	}
	return NULL;
}

/* Every file of whatever container is there; one that goes away ends with EIO. */
static void *read_all(void *arg)
{
	struct crowd *c = arg;
	struct dirent *entry;
	char buf[3000];
	unsigned int i;
	ssize_t got;
	int fd;

	for (; !atomic_load(c->stop) && !c->ret; c->rounds++) {
		DIR *dir = opendir(ROOT);

		while (dir && (entry = readdir(dir))) {
			for (i = 0; i < ARRAY_SIZE(file_names); i++) {
				if (atoi(entry->d_name) <= 0)
					continue;
				fd = open_file(atoi(entry->d_name), file_names[i]);
				if (fd < 0)
					continue;
				while ((got = read(fd, buf, sizeof(buf))) > 0)
					;
				if (got < 0 && errno != EIO)
					c->ret = -errno;
				close(fd);
			}
		}
		closedir(dir);
	}
	return NULL;
}

static void reading_disturbs_nobody(void **state)
{
	static void *(*const bodies[])(void *arg) = {
		map_and_unmap, map_and_unmap, open_and_close, read_all, read_all,
	};
	const struct fixture *f = *state;
	const size_t size = PAGES(2048);
	pthread_t threads[ARRAY_SIZE(bodies)];
	struct crowd crowd[ARRAY_SIZE(bodies)];
	const struct timespec length = { .tv_sec = 8 };
	char *still = mem_scattered(size);
	atomic_bool stop = false;
	unsigned int i;

	/* One with a run list that is always there to be read. */
	assert_ok(vu_map_rw(f->container, still, BASE - GIB, size));
	for (i = 0; i < ARRAY_SIZE(bodies); i++) {
		crowd[i] = (struct crowd) {
			.f = f, .nth = i, .mem = mem_scattered(size), .stop = &stop,
		};
		assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], &crowd[i]), 0);
	}
	nanosleep(&length, NULL);
	atomic_store(&stop, true);
	for (i = 0; i < ARRAY_SIZE(bodies); i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		at_step("thread %u after %u rounds", i, crowd[i].rounds);
		assert_ok(crowd[i].ret);
		assert_true(crowd[i].rounds > 3);
	}
	assert_charged(f, 2048);
	assert_unmaps_all(f->container, size);
	assert_nothing_held(f);
	for (i = 0; i < ARRAY_SIZE(bodies); i++)
		vu_free(crowd[i].mem, size);
	vu_free(still, size);
}

/* ---- How long others wait for a reader ---- */

#define SAMPLES		1000
/* One round of so many has to be right: the machine has other things to do, too. */
#define ROUNDS		5
#define MANY_MAPS	20000U
#define MANY_REGIONS	5000U

/* From the shortest to the longest, what is in the middle, and where the last tenth begins. */
struct times {
	__u64 half;
	__u64 most;
};

static int compare_ns(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static struct times times_of(__u64 ns[SAMPLES])
{
	qsort(ns, SAMPLES, sizeof(ns[0]), compare_ns);
	return (struct times) { ns[SAMPLES / 2], ns[SAMPLES - SAMPLES / 10] };
}

/* As many mappings of one page, from BASE on. */
static void map_many(const struct fixture *f, char *mem)
{
	unsigned int i;

	for (i = 0; i < MANY_MAPS; i++)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * PAGES(1), PAGES(1)));
}

static __u64 time_to_read_status(void)
{
	int fd = open_file(newest(NULL), "status");
	__u64 ns[SAMPLES];
	unsigned int i;
	char buf[1024];

	assert_true(fd >= 0);
	for (i = 0; i < SAMPLES; i++) {
		__u64 start = now_ns();

		assert_true(pread(fd, buf, sizeof(buf), 0) > 0);
		ns[i] = now_ns() - start;
	}
	close(fd);
	return times_of(ns).half;
}

/* Its sums are kept, not counted. */
static void status_does_not_look_at_mappings(void **state)
{
	const struct fixture *f = *state;
	char *mem = mem_pages(1);
	__u64 few, many;
	unsigned int i;

	few = time_to_read_status();
	map_many(f, mem);
	many = time_to_read_status();
	for (i = 1; i < ROUNDS && many > 3 * few; i++)
		many = time_to_read_status();
	if (many > 3 * few)
		fail_msg("%llu ns without mappings, %llu ns with many", few, many);
	assert_unmaps_all(f->container, MANY_MAPS * PAGES(1));
	vu_free(mem, PAGES(1));
}

/* Reads a file of the newest container, again and again. */
struct reading {
	const char *name;
	atomic_bool stop;
};

static void *read_again(void *arg)
{
	struct reading *r = arg;

	while (!atomic_load(&r->stop))
		free(read_file(r->name));
	return NULL;
}

/* Requests about a page that undo each other. */
typedef void (*requests_fn_t)(const struct fixture *f, char *mem);

static void map_one(const struct fixture *f, char *mem)
{
	assert_ok(vu_map_rw(f->container, mem, BASE - GIB, PAGES(1)));
	assert_unmaps(f->container, BASE - GIB, PAGES(1), PAGES(1));
}

static void register_one(const struct fixture *f, char *mem)
{
	assert_ok(vu_register(f->container, mem, PAGES(1), 0));
	map_one(f, mem);
	assert_ok(vu_unregister(f->container, mem, PAGES(1)));
}

/* How long requests take while a file is read. */
static struct times time_requests(const struct fixture *f, requests_fn_t requests, char *mem,
				  const char *name)
{
	struct reading reading = { .name = name };
	__u64 ns[SAMPLES];
	pthread_t thread;
	unsigned int i;

	assert_int_equal(pthread_create(&thread, NULL, read_again, &reading), 0);
	for (i = 0; i < SAMPLES; i++) {
		__u64 start = now_ns();

		requests(f, mem);
		ns[i] = now_ns() - start;
	}
	atomic_store(&reading.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return times_of(ns);
}

/*
 * Against who reads what needs no lock and is as busy. One request in ten may find a lock
 * held by a CPU of this VM that the host has stopped, for so long.
 */
#define STOPPED_NS	5000000ULL

static void assert_does_not_wait(const struct fixture *f, requests_fn_t requests, char *mem,
				 const char *name)
{
	struct times without, with;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		without = time_requests(f, requests, mem, "counters");
		with = time_requests(f, requests, mem, name);
		if (with.half <= 2 * without.half && with.most <= 4 * without.most + STOPPED_NS)
			return;
	}
	fail_msg("%s: half take up to %llu ns instead of %llu, most up to %llu instead of %llu",
		 name, with.half, without.half, with.most, without.most);
}

static void nobody_waits_for_a_reader(void **state)
{
	static const char *const names[] = { "status", "domains", "iova", "mappings", "progress" };
	const struct fixture *f = *state;
	char *mem = mem_pages(1), *more = mem_pages(MANY_REGIONS + 1);
	unsigned int i;

	map_many(f, mem);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		assert_does_not_wait(f, map_one, mem, names[i]);
	assert_unmaps_all(f->container, MANY_MAPS * PAGES(1));
	for (i = 0; i < MANY_REGIONS; i++)
		assert_ok(vu_register(f->container, more + PAGES(i), PAGES(1), 0));
	assert_does_not_wait(f, register_one, more + PAGES(MANY_REGIONS), "regions");
	for (i = 0; i < MANY_REGIONS; i++)
		assert_ok(vu_unregister(f->container, more + PAGES(i), PAGES(1)));
	vu_free(mem, PAGES(1));
	vu_free(more, PAGES(MANY_REGIONS + 1));
}

/* Far more than fit into one read, by reads of any size. */
static void regions_are_all_there_and_in_order(void **state)
{
	static const size_t steps[] = { 7, 512, 1 << 15 };
	const struct fixture *f = *state;
	const unsigned int n = 1000;
	char *mem = mem_pages(2 * n);
	unsigned int i, j;

	/* From the highest to the lowest. */
	for (i = n; i--;)
		assert_ok(vu_register(f->container, mem + PAGES(2 * i), PAGES(1), 0));
	for (j = 0; j < ARRAY_SIZE(steps); j++) {
		int fd = open_file(newest(NULL), "regions");
		char *text = read_fd(fd, steps[j]), *rest = text, *line, want[64];

		for (i = 0; i < n; i++) {
			line = strsep(&rest, "\n");
			snprintf(want, sizeof(want), "region 0x%lx size %lu ",
				 (unsigned long)mem + PAGES(2 * i), PAGES(1));
			assert_non_null(line);
			assert_memory_equal(line, want, strlen(want));
		}
		assert_string_equal(rest, "");
		free(text);
		close(fd);
	}
	for (i = n; i--;)
		assert_ok(vu_unregister(f->container, mem + PAGES(2 * i), PAGES(1)));
	vu_free(mem, PAGES(2 * n));
}

/* ---- A container that somebody keeps locked ---- */

#define TOOL		"vfio-type1-stat"
/* Files wait for a second; the rest is for a slow machine. */
#define FILE_NS		(5 * 1000000000ULL / 2)
#define LOCKED_SIZE	(64 * MIB)
/* Below what AMD-Vi can't map; longer than any test takes. */
#define LOCKED_MAPS	12000U

/*
 * A child attaches a group to a container with mappings and no IOMMU yet: all of them are
 * pinned and mapped then, and nobody has the container's lock meanwhile. Returns the child.
 */
static pid_t lock_container(const struct emu_fixture *e, unsigned int id)
{
	unsigned int i;
	__u64 pin_calls = 0;
	pid_t pid;

	assert_ok(vu_group_open(&e->f->pci[0]));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* It is killed before it is done. */
		vu_group_attach(&e->f->pci[0], e->f->container);
		_exit(1);
	}
	for (i = 0; i < TEST_TIMEOUT * 100 && !pin_calls; i++) {
		int fd = open_file(id, "counters");
		char *text = read_fd(fd, 1 << 15);

		pin_calls = number_of(text, "pin_calls");
		free(text);
		close(fd);
		usleep(10000);
	}
	assert_true(pin_calls > 0);
	return pid;
}

static void unlock_container(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Not before: all that was said is of a container that was locked. */
	assert_true(WIFSIGNALED(status));
}

/* What the tool says; to be freed. *ns gets how long it takes. */
static char *run_tool(const char *args, __u64 *ns)
{
	__u64 start = now_ns();
	char command[64], *text;
	FILE *f;

	snprintf(command, sizeof(command), TOOL " %s", args);
	f = popen(command, "r");
	assert_non_null(f);
	text = read_fd(fileno(f), 1 << 15);
	assert_int_equal(pclose(f), 0);
	*ns = now_ns() - start;
	return text;
}

static void assert_file_ends(unsigned int id, const char *name, bool busy)
{
	int fd = open_file(id, name);
	__u64 start = now_ns();
	char *text;

	assert_true(fd >= 0);
	text = read_fd(fd, 1 << 15);
	if (now_ns() - start > FILE_NS)
		fail_msg("%s took %llu ms", name, (now_ns() - start) / 1000000);
	if (busy != !strcmp(text, "busy\n"))
		fail_msg("%s says:\n%s", name, text);
	free(text);
	close(fd);
}

/* Who maps for long keeps no reader waiting, and no tool from the next container. */
static void a_locked_container_is_busy(void **state)
{
	static const char *const locked[] = { "domains", "iova", "mappings", "regions" };
	static const char *const free_ones[] = { "status", "counters", "progress" };
	const struct emu_fixture *e = *state;
	struct fixture *f = e->f;
	char *mem = mem_scattered(LOCKED_SIZE), *text;
	unsigned int id = newest(NULL), i;
	__u64 before, ns;
	int container;
	pid_t pid;

	/* Who hangs is killed. */
	alarm(4 * TEST_TIMEOUT);
	container = vu_container_open();
	assert_true(container >= 0);
	assert_ok(vu_group_open(&f->pci[1]));
	assert_ok(vu_group_attach(&f->pci[1], container));
	assert_ok(vu_set_iommu(container, VFIO_TYPE1v2_IOMMU));
	assert_ok(vu_map_rw(container, mem, BASE, PAGES(1)));
	free(run_tool("", &before));

	for (i = 0; i < LOCKED_MAPS; i++)
		assert_ok(vu_map_rw(f->container, mem, BASE + i * LOCKED_SIZE, LOCKED_SIZE));
	pid = lock_container(e, id);
	for (i = 0; i < ARRAY_SIZE(locked); i++)
		assert_file_ends(id, locked[i], true);
	for (i = 0; i < ARRAY_SIZE(free_ones); i++)
		assert_file_ends(id, free_ones[i], false);
	text = run_tool("--json", &ns);
	assert_non_null(strstr(text, "\"busy\": true"));
	assert_non_null(strstr(text, "\"busy\": false"));
	assert_non_null(strstr(strstr(text, "\"busy\": false"), "\"mapping\": \"0x140000000\""));
	free(text);
	text = run_tool("", &ns);
	assert_non_null(strstr(text, " busy    -    - "));
	assert_non_null(strstr(text, " 4K      4K  100    0    0 "));
	free(text);
	/* It waits for one file. */
	if (ns > 2 * before + FILE_NS)
		fail_msg("%s took %llu ms, and %llu before", TOOL, ns / 1000000, before / 1000000);
	unlock_container(pid);
	alarm(0);
	vu_pci_close(&f->pci[1]);
	close(container);
	for (i = 0; i < ARRAY_SIZE(locked); i++)
		assert_file_ends(id, locked[i], false);
	vu_free(mem, LOCKED_SIZE);
}

/* An unmap of what a reader is looking at waits for it, and succeeds. */
static void unmap_waits_for_a_reader(void **state)
{
	const struct fixture *f = *state;
	const size_t size = 256 * MIB;
	char *mem = mem_scattered(size);
	atomic_bool stop = false;
	struct crowd reader = { .f = f, .stop = &stop };
	pthread_t thread;
	unsigned int i;

	assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
	for (i = 0; i < 4; i++) {
		assert_ok(vu_map_rw(f->container, mem, BASE, size));
		assert_ret(vu_map_rw(f->container, mem, BASE, size), -EEXIST);
		assert_only_mapping(mem, BASE, size);
		assert_unmaps(f->container, BASE, size, size);
		assert_nothing_held(f);
	}
	atomic_store(&stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_ok(reader.ret);
	vu_free(mem, size);
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
		TEST_EMU(the_sums_are_those_of_the_mappings),
		TEST_V2(the_sums_follow_a_mapping_to_its_new_owner),
		TEST_V2(status_has_the_modes),
		TEST_TWO(domains_lists_groups_and_devices),
		TEST_MIXED(domains_lists_in_kernel_users),
		TEST_V2(iova_says_what_is_valid_and_what_cut_it),
		TEST_V2(mappings_tell_the_layout_of_each_kind_of_memory),
		TEST_V2(registered_memory_is_told),
		TEST_V2(regions_are_all_there_and_in_order),
		TEST_V2(marks_go_where_memory_is_the_same),
		TEST_V2(marks_end_where_the_change_does),
		TEST_V2(mappings_tell_protections),
		TEST_V2(mappings_are_all_there_and_in_order),
		TEST_V2(counters_count_requests_pages_and_calls),
		TEST_V2(counters_measure_time),
		TEST_TWO(counters_count_groups),
		TEST_V2(counters_count_refusals),
		TEST_V2(progress_shows_a_map_under_way),
		TEST_V2(reading_disturbs_nobody),
		TEST_V2(unmap_waits_for_a_reader),
		TEST_V2(status_does_not_look_at_mappings),
		TEST_V2(nobody_waits_for_a_reader),
		TEST_EMU(a_locked_container_is_busy),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module has no debugfs");
		return 0;
	}
	return cmocka_run_group_tests_name("debugfs", tests, NULL, NULL);
}
