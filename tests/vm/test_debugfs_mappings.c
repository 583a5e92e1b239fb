// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs shows of mappings and regions, and what status says of them all.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "emu/emu_user.h"
#include "debugfs.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

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
	char *status = debugfs_read("status"), *text = debugfs_read("mappings");
	char *rest = text, *line;
	__u64 n = 0, bytes = 0, charged = 0;

	at_step("%s", stage);
	while ((line = strsep(&rest, "\n")) && *line) {
		n++;
		bytes += value_of(line, " size ");
		charged += value_of(line, " charged ");
	}
	if (debugfs_number(status, "mappings") != n || debugfs_number(status, "bytes") != bytes ||
	    debugfs_number(status, "locked_pages") != charged)
		fail_msg("%s: %llu mappings of %llu bytes, %llu pages charged, but:\n%s", stage, n,
			 bytes, charged, status);
	assert_int_equal(debugfs_number(status, "entry_limit") -
			 debugfs_number(status, "entries_left"), n);
	free(status);
	free(text);
}

static void assert_no_sums(void)
{
	char *text = debugfs_read("status");

	assert_int_equal(debugfs_number(text, "mappings"), 0);
	assert_int_equal(debugfs_number(text, "bytes"), 0);
	assert_int_equal(debugfs_number(text, "locked_pages"), 0);
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
			debugfs_assert_only_mapping(mem, iovas[j], size);
			assert_unmaps_all(f->container, size);
		}
		vu_free(mem, size);
	}
}

/* How the only mapping's memory lies: from its runs on. */
static char *only_layout(void)
{
	char *text = debugfs_read("mappings"), *layout = strstr(text, " runs ");

	assert_int_equal(debugfs_count(text, "mapping"), 1);
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
		text = debugfs_read("regions");
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
		text = debugfs_read("status");
		assert_int_equal(debugfs_number(text, "locked_pages"), 0);
		free(text);
		text = debugfs_read("regions");
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
	char *text = debugfs_read("regions"), *at = strstr(text, " marked ");
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
	struct debugfs_mapping m;
	unsigned int i;
	char *text;

	for (i = 0; i < ARRAY_SIZE(prots); i++) {
		assert_ok(vu_map(f->container, mem, BASE, PAGES(1), prots[i].flags));
		text = debugfs_read("mappings");
		assert_string_equal(debugfs_parse_mapping(text, &m), "");
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
		int fd = debugfs_open(debugfs_newest(NULL), "mappings");
		char *text = debugfs_read_fd(fd, steps[j]);
		const char *at = text;
		struct debugfs_mapping m;

		for (i = 0; (at = debugfs_parse_mapping(at, &m)); i++) {
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
		int fd = debugfs_open(debugfs_newest(NULL), "regions");
		char *text = debugfs_read_fd(fd, steps[j]), *rest = text, *line, want[64];

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_EMU(the_sums_are_those_of_the_mappings),
		TEST_V2(the_sums_follow_a_mapping_to_its_new_owner),
		TEST_V2(mappings_tell_the_layout_of_each_kind_of_memory),
		TEST_V2(registered_memory_is_told),
		TEST_V2(regions_are_all_there_and_in_order),
		TEST_V2(marks_go_where_memory_is_the_same),
		TEST_V2(marks_end_where_the_change_does),
		TEST_V2(mappings_tell_protections),
		TEST_V2(mappings_are_all_there_and_in_order),
	};

	if (is_intree()) {
		puts("1..0 # the in-tree module has no debugfs");
		return 0;
	}
	return cmocka_run_group_tests_name("debugfs_mappings", tests, NULL, NULL);
}
