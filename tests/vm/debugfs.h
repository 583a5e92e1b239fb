/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What debugfs shows of containers.
 */
#ifndef DEBUGFS_H
#define DEBUGFS_H

#include "testlib.h"

#define DEBUGFS			"/sys/kernel/debug/vfio_type1"
/* Runs are counted by length, by powers of two. */
#define DEBUGFS_CLASSES		19
#define DEBUGFS_FILES		7
/* More containers than any test has open. */
#define DEBUGFS_IDS		64

/* The names of a container's files. */
extern const char *const debugfs_files[DEBUGFS_FILES];

/* A line of mappings. */
struct debugfs_mapping {
	__u64 iova, size, vaddr;
	char prot[4], state[16];
	int pid;
	__u64 pages, charged, runs;
	int lost;
	__u64 bytes_4k, bytes_2m, bytes_1g;
	__u64 hist[DEBUGFS_CLASSES];
};

/* The containers' numbers, of which there are no more than max; returns how many they are. */
unsigned int debugfs_ids(unsigned int *ids, unsigned int max);
/* The newest container's number; 0 if there is none. *count, if not NULL, gets how many. */
unsigned int debugfs_newest(unsigned int *count);
/* A file of a container, or -1. */
int debugfs_open(unsigned int id, const char *name);
/* All of a file, in reads of this size; to be freed. */
char *debugfs_read_fd(int fd, size_t step);
/* All of a file of the newest container; to be freed. */
char *debugfs_read(const char *name);
/* The rest of the line of text that begins with this word. */
const char *debugfs_line(const char *text, const char *word);
/* The same, as a number. */
__u64 debugfs_number(const char *text, const char *word);
/* A counter of the newest container. */
__u64 debugfs_counter(const char *name);
/* How many lines of text begin with this word. */
unsigned int debugfs_count(const char *text, const char *word);
/* Returns what follows the line, or NULL at the end. */
const char *debugfs_parse_mapping(const char *text, struct debugfs_mapping *m);
/* The only mapping is this one, live, and its line says what its memory is like. */
void debugfs_assert_only_mapping(const char *mem, __u64 iova, size_t size);

#endif /* DEBUGFS_H */
