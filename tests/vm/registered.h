/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Registered memory: what the programs about it share.
 */
#ifndef REGISTERED_H
#define REGISTERED_H

#include "testlib.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		1200UL	/* two slots at least, and unaligned */
#define SIZE		PAGES(NPAGES)
#define RO		VFIO_TYPE1_MEMORY_READ_ONLY

struct child_case {
	struct fixture *f;
	char *mem;
	int second;
	int to_child[2], to_parent[2];
};

/* A second container, with the second edu in it. */
int second_container(struct fixture *f, int type);
char *memory(void);
/* One line that matches was logged since the last look. */
void assert_logged(int fd, const char *regex);
char *private_memory(void);
char *registered(const struct fixture *f, char *mem);
void child_case_init(struct child_case *c, struct fixture *f);
void child_case_end(struct child_case *c);

#endif /* REGISTERED_H */
