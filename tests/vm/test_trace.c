// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracepoints of Documentation/tracing.rst: each is hit when it says, in order,
 * with the values of what was done. Read through an instance of tracefs of our own.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "emu/emu_user.h"

#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/test_trace"
#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

static const char *const events[] = {
	"map_begin", "map_end", "unmap_begin", "unmap_end", "pin_batch", "run", "window",
	"attach", "detach", "fgsp", "refusal",
};

static void write_path(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void write_file(const char *name, const char *text)
{
	char path[sizeof(INSTANCE) + PATH_MAX];

	snprintf(path, sizeof(path), INSTANCE "/%s", name);
	write_path(path, text);
}

/* ---- What was recorded ---- */

#define MAX_RECORDS	4096

/* One line of the trace: the event's name, and what it prints. */
struct record {
	const char *name;
	const char *text;
};

static char trace_text[1 << 20];
static struct record records[MAX_RECORDS];
static unsigned int nrecords;

/* Take the trace in, and forget it; other events of this machine are not switched on. */
static void trace_take(void)
{
	char *rest = trace_text, *line, *name, *end;
	size_t len = 0;
	ssize_t got;
	int fd;

	fd = open(INSTANCE "/trace", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	while ((got = read(fd, trace_text + len, sizeof(trace_text) - 1 - len)) > 0)
		len += got;
	close(fd);
	assert_int_equal(got, 0);
	trace_text[len] = '\0';
	write_file("trace", "");

	nrecords = 0;
	while ((line = strsep(&rest, "\n"))) {
		if (!*line || *line == '#')
			continue;
		/* TASK-PID [CPU] FLAGS TIME: NAME: TEXT */
		name = strstr(line, ": ");
		assert_non_null(name);
		name += 2;
		end = strstr(name, ": ");
		assert_non_null(end);
		*end = '\0';
		assert_true(nrecords < MAX_RECORDS);
		records[nrecords++] = (struct record) { name, end + 2 };
	}
}

static unsigned int count_records(const char *name)
{
	unsigned int i, n = 0;

	for (i = 0; i < nrecords; i++)
		n += !strcmp(records[i].name, name);
	return n;
}

static const char *nth_record(const char *name, unsigned int nth)
{
	unsigned int i;

	for (i = 0; i < nrecords; i++)
		if (!strcmp(records[i].name, name) && !nth--)
			return records[i].text;
	fail_msg("there is no such record of %s", name);
	return NULL;
}

/* A value that a record prints as NAME=NUMBER. */
static __u64 field(const char *text, const char *name)
{
	size_t len = strlen(name);
	const char *at = text;

	while ((at = strstr(at, name))) {
		if ((at == text || at[-1] == ' ') && at[len] == '=')
			return strtoull(at + len + 1, NULL, 0);
		at += len;
	}
	fail_msg("no %s in '%s'", name, text);
	return 0;
}

static void assert_text(const char *name, const char *want)
{
	const char *text = nth_record(name, 0);

	if (strncmp(text, want, strlen(want)))
		fail_msg("%s: '%s', want '%s'", name, text, want);
}

static void assert_order(const char *const *names, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n && i < nrecords; i++)
		if (strcmp(records[i].name, names[i]))
			break;
	if (i < n || nrecords != n)
		fail_msg("record %u of %u is %s, want %s of %u", i, nrecords,
			 i < nrecords ? records[i].name : "missing",
			 i < n ? names[i] : "nothing more", n);
}

/* ---- The state of a test ---- */

static int trace_group_setup(void **state)
{
	char path[PATH_MAX];
	unsigned int i;

	(void)state;
	/*
	 * Nobody reads the names of tasks. To learn them, the kernel patches the scheduler's
	 * code each time that an event is switched, and now and then QEMU's TCG lets one
	 * CPU run the breakpoint that another has taken away: an oops, int3.
	 */
	write_path(TRACEFS "/options/record-cmd", "0");
	assert_int_equal(mkdir(INSTANCE, 0700), 0);
	write_file("buffer_size_kb", "4096");
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		snprintf(path, sizeof(path), INSTANCE "/events/vfio_type1/%s/format", events[i]);
		assert_int_equal(access(path, R_OK), 0);
	}
	return 0;
}

static int trace_group_teardown(void **state)
{
	(void)state;
	return rmdir(INSTANCE);
}

static int trace_on(void)
{
	write_file("trace", "");
	write_file("events/vfio_type1/enable", "1");
	return 0;
}

static int trace_setup_v2(void **state)
{
	test_setup_v2(state);
	return trace_on();
}

static int trace_setup_closed(void **state)
{
	test_setup_closed(state);
	return trace_on();
}

static int trace_teardown(void **state)
{
	write_file("events/vfio_type1/enable", "0");
	return test_teardown(state);
}

#define TRACE_V2(name)	cmocka_unit_test_setup_teardown(name, trace_setup_v2, trace_teardown)
#define TRACE_CLOSED(name) \
	cmocka_unit_test_setup_teardown(name, trace_setup_closed, trace_teardown)

/* ---- Requests ---- */

static void a_map_is_traced_from_begin_to_end(void **state)
{
	static const char *const order[] = { "map_begin", "pin_batch", "run", "map_end" };
	const struct fixture *f = *state;
	void *mem = mem_pages(1);
	char want[256];
	__u64 id;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	trace_take();
	assert_order(order, ARRAY_SIZE(order));
	id = field(nth_record("map_begin", 0), "container");
	assert_true(id > 0);
	snprintf(want, sizeof(want), "container=%llu iova=%#lx vaddr=%p size=4096 prot=rw", id,
		 BASE, mem);
	assert_text("map_begin", want);
	snprintf(want, sizeof(want), "container=%llu vaddr=%p wanted=1 got=1 ns=", id, mem);
	assert_text("pin_batch", want);
	snprintf(want, sizeof(want), "container=%llu iova=%#lx pfn=%#llx npages=1", id, BASE,
		 pfn_of(mem));
	assert_text("run", want);
	snprintf(want, sizeof(want), "container=%llu iova=%#lx ret=0 pages=1 ns=", id, BASE);
	assert_text("map_end", want);
	assert_in_range(field(nth_record("pin_batch", 0), "ns"), 1,
			field(nth_record("map_end", 0), "ns"));
	assert_unmaps_all(f->container, PAGES(1));
	vu_free(mem, PAGES(1));
}

static void an_unmap_is_traced_from_begin_to_end(void **state)
{
	static const char *const order[] = { "unmap_begin", "window", "unmap_end" };
	const struct fixture *f = *state;
	char *mem = mem_scattered(PAGES(8));
	char want[256];
	__u64 id;

	/* Two spans, with a hole between them. */
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(4)));
	assert_ok(vu_map_rw(f->container, mem + PAGES(4), BASE + PAGES(5), PAGES(4)));
	trace_take();
	id = field(nth_record("map_begin", 0), "container");
	assert_unmaps(f->container, BASE, PAGES(9), PAGES(8));
	trace_take();
	assert_order(order, ARRAY_SIZE(order));
	snprintf(want, sizeof(want), "container=%llu iova=%#lx size=%lu all=0", id, BASE, PAGES(9));
	assert_text("unmap_begin", want);
	snprintf(want, sizeof(want), "container=%llu runs=8 bytes=%lu spans=2", id, PAGES(8));
	assert_text("window", want);
	snprintf(want, sizeof(want), "container=%llu iova=%#lx ret=0 pages=8 ns=", id, BASE);
	assert_text("unmap_end", want);
	assert_true(field(nth_record("unmap_end", 0), "ns") > 0);
	assert_unmaps_all(f->container, 0);
	trace_take();
	snprintf(want, sizeof(want), "container=%llu iova=0x0 size=0 all=1", id);
	assert_text("unmap_begin", want);
	vu_free(mem, PAGES(8));
}

/* Batches of 2048 pages, a record for each run, windows of 512. */
static void batches_runs_and_windows_add_up(void **state)
{
	const struct fixture *f = *state;
	const unsigned int npages = 3000;
	char *mem = mem_scattered(PAGES(npages));
	unsigned int i;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(npages)));
	trace_take();
	assert_int_equal(count_records("pin_batch"), 2);
	assert_int_equal(field(nth_record("pin_batch", 0), "wanted"), npages);
	assert_int_equal(field(nth_record("pin_batch", 0), "got"), 2048);
	assert_int_equal(field(nth_record("pin_batch", 1), "wanted"), npages - 2048);
	assert_int_equal(field(nth_record("pin_batch", 1), "got"), npages - 2048);
	assert_int_equal(count_records("run"), npages);
	for (i = 0; i < npages; i += 97) {
		assert_int_equal(field(nth_record("run", i), "iova"), BASE + PAGES(i));
		assert_int_equal(field(nth_record("run", i), "pfn"), pfn_of(mem + PAGES(i)));
		assert_int_equal(field(nth_record("run", i), "npages"), 1);
	}
	assert_unmaps_all(f->container, PAGES(npages));
	trace_take();
	assert_int_equal(count_records("window"), (npages + 511) / 512);
	assert_int_equal(field(nth_record("window", 0), "runs"), 512);
	assert_int_equal(field(nth_record("window", 5), "runs"), npages - 5 * 512);
	vu_free(mem, PAGES(npages));
}

/* ---- Refusals ---- */

static void a_refusal_says_why(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(1);
	unsigned int i;

	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	trace_take();
	/* More often than the log has lines for. */
	for (i = 0; i < 30; i++)
		assert_ret(vu_map_rw(f->container, mem, BASE, PAGES(1)), -EEXIST);
	trace_take();
	assert_int_equal(count_records("refusal"), 30);
	for (i = 0; i < 30; i++) {
		const char *text = nth_record("refusal", i);

		assert_non_null(strstr(text, " reason=overlap text=\"MAP_DMA iova 0x140000000 "));
		assert_int_equal(text[strlen(text) - 1], '"');
		assert_int_equal((int)field(nth_record("map_end", i), "ret"), -EEXIST);
		assert_int_equal(field(nth_record("map_end", i), "pages"), 0);
	}
	/* A value that is wrong by itself is refused before anything begins. */
	assert_ret(vu_map_rw(f->container, mem, BASE, 0), -EINVAL);
	trace_take();
	assert_int_equal(nrecords, 1);
	assert_non_null(strstr(nth_record("refusal", 0), " reason=size "));
	assert_unmaps_all(f->container, PAGES(1));
	vu_free(mem, PAGES(1));
}

/* ---- Groups ---- */

static void groups_are_traced(void **state)
{
	static const char *const order[] = { "fgsp", "attach" };
	struct fixture *f = *state;
	char want[256];
	__u64 id;

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	trace_take();
	assert_order(order, ARRAY_SIZE(order));
	id = field(nth_record("attach", 0), "container");
	snprintf(want, sizeof(want), "container=%llu group=%d fgsp=%d", id, f->pci[0].group,
		 iommu_kind() == IOMMU_AMD);
	assert_text("fgsp", want);
	snprintf(want, sizeof(want), "container=%llu group=%d ret=0 ns=", id, f->pci[0].group);
	assert_text("attach", want);
	assert_true(field(nth_record("attach", 0), "ns") > 0);
	/* Into the domain that is there. */
	fixture_attach(f, 1);
	trace_take();
	assert_order(order + 1, 1);
	assert_int_equal(field(nth_record("attach", 0), "group"), f->pci[1].group);
	fixture_close_device(f, 1);
	trace_take();
	assert_text("detach", "container=");
	assert_int_equal(field(nth_record("detach", 0), "group"), f->pci[1].group);
	assert_int_equal(field(nth_record("detach", 0), "ret"), 0);
	assert_true(field(nth_record("detach", 0), "ns") > 0);
	fixture_close(f);
	trace_take();
	assert_int_equal(count_records("detach"), 1);
	/* Containers count up. */
	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
	trace_take();
	assert_int_equal(field(nth_record("attach", 0), "container"), id + 1);
}

/* ---- Switches ---- */

static void events_are_switched_one_by_one(void **state)
{
	const struct fixture *f = *state;
	char path[PATH_MAX], *mem = mem_pages(1);
	unsigned int i;

	write_file("events/vfio_type1/enable", "0");
	write_file("trace", "");
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
	assert_unmaps_all(f->container, PAGES(1));
	trace_take();
	assert_int_equal(nrecords, 0);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		snprintf(path, sizeof(path), "events/vfio_type1/%s/enable", events[i]);
		write_file(path, "1");
		assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(1)));
		assert_ret(vu_map_rw(f->container, mem, BASE, 0), -EINVAL);
		assert_unmaps_all(f->container, PAGES(1));
		write_file(path, "0");
		trace_take();
		assert_int_equal(count_records(events[i]), nrecords);
		/* Groups neither come nor go here. */
		if (strcmp(events[i], "attach") && strcmp(events[i], "detach") &&
		    strcmp(events[i], "fgsp"))
			assert_int_equal(nrecords, 1);
	}
	vu_free(mem, PAGES(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TRACE_V2(a_map_is_traced_from_begin_to_end),
		TRACE_V2(an_unmap_is_traced_from_begin_to_end),
		TRACE_V2(batches_runs_and_windows_add_up),
		TRACE_V2(a_refusal_says_why),
		TRACE_CLOSED(groups_are_traced),
		TRACE_V2(events_are_switched_one_by_one),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module has no tracepoints");
		return 0;
	}
	return cmocka_run_group_tests_name("trace", tests, trace_group_setup,
					   trace_group_teardown);
}
