// SPDX-License-Identifier: GPL-2.0-only
/*
 * Something to trace: one container, 20 mappings of 16 MiB of fragmented memory, the
 * same again, which is refused, and one unmap of all. For tests/vm/trace-tools.
 *
 * Every other request is made by a thread that has a name that looks like something else.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "vfio_user.h"

#define MAPS	20
#define SIZE	(16UL << 20)
#define NAMES	5

/* As long as names can be. */
static const char *const names[NAMES] = {
	" ns=99999999999",
	" container=777 ",
	"\033[31m\033[2J\a",
	"x\ny ns=88888888",
	"1] 1: map_end: ",
};

struct request {
	int container;
	const void *mem;
	unsigned int nth;
	int ret;
};

static void *request_map(void *arg)
{
	struct request *r = arg;

	if (r->nth % 2)
		prctl(PR_SET_NAME, names[r->nth / 2 % NAMES]);
	r->ret = vu_map_rw(r->container, r->mem, (1ULL << 32) + r->nth * SIZE, SIZE);
	return NULL;
}

static int map(int container, const void *mem, unsigned int nth)
{
	struct request r = { .container = container, .mem = mem, .nth = nth };
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, request_map, &r);

	if (ret)
		return -ret;
	pthread_join(thread, NULL);
	return r.ret;
}

static int load(int container, const void *mem)
{
	unsigned int i, round;
	int ret;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < MAPS; i++) {
			ret = map(container, mem, i);
			if (ret != (round ? -EEXIST : 0))
				return ret;
		}
	}
	return vu_unmap(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL);
}

int main(void)
{
	struct vu_pci pci = { .group_fd = -1, .device_fd = -1 };
	void *mem = vu_alloc(VU_SCATTERED, SIZE);
	int container, ret;

	container = vu_open(&pci, VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);
	ret = container < 0 ? container : !mem ? -ENOMEM : load(container, mem);
	if (ret)
		fprintf(stderr, "trace_load: %s\n", strerror(-ret));
	return !!ret;
}
