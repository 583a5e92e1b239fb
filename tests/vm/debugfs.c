// SPDX-License-Identifier: GPL-2.0-only
/*
 * What debugfs shows of containers: see debugfs.h.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "debugfs.h"

const char *const debugfs_files[DEBUGFS_FILES] = {
	"status", "domains", "iova", "mappings", "regions", "counters", "progress",
};

/* ---- Reading ---- */

unsigned int debugfs_ids(unsigned int *ids, unsigned int max)
{
	struct dirent *entry;
	unsigned int id, n = 0;
	DIR *dir = opendir(DEBUGFS);

	while (dir && n < max && (entry = readdir(dir))) {
		id = strtoul(entry->d_name, NULL, 10);
		if (id)
			ids[n++] = id;
	}
	if (dir)
		closedir(dir);
	return n;
}

unsigned int debugfs_newest(unsigned int *count)
{
	unsigned int ids[DEBUGFS_IDS], n, i, max = 0;

	assert_int_equal(access(DEBUGFS, F_OK), 0);
	n = debugfs_ids(ids, DEBUGFS_IDS);
	assert_true(n < DEBUGFS_IDS);
	for (i = 0; i < n; i++)
		if (ids[i] > max)
			max = ids[i];
	if (count)
		*count = n;
	return max;
}

int debugfs_open(unsigned int id, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), DEBUGFS "/%u/%s", id, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

char *debugfs_read_fd(int fd, size_t step)
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

char *debugfs_read(const char *name)
{
	int fd = debugfs_open(debugfs_newest(NULL), name);
	char *text;

	assert_true(fd >= 0);
	text = debugfs_read_fd(fd, 1 << 15);
	close(fd);
	return text;
}

const char *debugfs_line(const char *text, const char *word)
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

__u64 debugfs_number(const char *text, const char *word)
{
	return strtoull(debugfs_line(text, word), NULL, 0);
}

__u64 debugfs_counter(const char *name)
{
	char *text = debugfs_read("counters");
	__u64 value = debugfs_number(text, name);

	free(text);
	return value;
}

unsigned int debugfs_count(const char *text, const char *word)
{
	size_t len = strlen(word);
	unsigned int n = 0;

	for (; *text; text = strchr(text, '\n') + 1)
		n += !strncmp(text, word, len) && text[len] == ' ';
	return n;
}

/* ---- A line of mappings ---- */

const char *debugfs_parse_mapping(const char *text, struct debugfs_mapping *m)
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
	for (i = 0; i < DEBUGFS_CLASSES; i++) {
		assert_int_equal(*text, ' ');
		m->hist[i] = strtoull(text, &end, 10);
		text = end;
	}
	assert_int_equal(*text, '\n');
	return text + 1;
}

/* What the page table of this process says a mapping's line has to be. */
static void survey(const char *mem, __u64 iova, size_t size, __u64 pgsizes,
		   struct debugfs_mapping *want)
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
		__u64 first = iova + i * VU_PAGE, phys = (pfns[i] & pfn_mask) * VU_PAGE;

		n = 1;
		while (i + n < npages && (pfns[i + n] & pfn_mask) == (pfns[i] & pfn_mask) + n &&
		       (first + n * VU_PAGE) % GIB)
			n++;
		want->runs++;
		for (k = 0; n >> (k + 1); k++)
			;
		want->hist[k]++;
		/* Page by page, the largest IOPTE that fits. */
		for (at = first, end = first + n * VU_PAGE; at < end;) {
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

void debugfs_assert_only_mapping(const char *mem, __u64 iova, size_t size)
{
	char *status = debugfs_read("status"), *text = debugfs_read("mappings");
	struct debugfs_mapping got, want;

	survey(mem, iova, size, debugfs_number(status, "pgsizes"), &want);
	assert_string_equal(debugfs_parse_mapping(text, &got), "");
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
