// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory: see registered.h.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "registered.h"

int second_container(struct fixture *f, int type)
{
	int container = vu_container_open();

	assert_true(container >= 0);
	assert_ok(vu_group_open(&f->pci[1]));
	assert_ok(vu_group_attach(&f->pci[1], container));
	if (type) {
		assert_ok(vu_set_iommu(container, type));
		fixture_open_device(f, 1);
	}
	return container;
}

char *memory(void)
{
	return mem_scattered(SIZE);
}

void assert_logged(int fd, const char *regex)
{
	assert_int_equal(kmsg_count(fd, regex), 1);
}

char *private_memory(void)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	assert_ptr_not_equal(mem, MAP_FAILED);
	return mem;
}

char *registered(const struct fixture *f, char *mem)
{
	assert_ok(vu_register(f->container, mem, SIZE, 0));
	assert_ok(vu_map_rw(f->container, mem, BASE, SIZE));
	return mem;
}

void child_case_init(struct child_case *c, struct fixture *f)
{
	c->f = f;
	c->mem = private_memory();
	assert_int_equal(pipe(c->to_child), 0);
	assert_int_equal(pipe(c->to_parent), 0);
}

void child_case_end(struct child_case *c)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		close(c->to_child[i]);
		close(c->to_parent[i]);
	}
	vu_free(c->mem, SIZE);
}
