// SPDX-License-Identifier: GPL-2.0-only
/*
 * Something to trace: one container, 20 mappings of 16 MiB of fragmented memory, the
 * same again, which is refused, and one unmap of all. For tests/vm/trace-tools.
 *
 *	trace_load [NAME]	what the task calls itself, to look like something else
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "vfio_user.h"

#define MAPS	20
#define SIZE	(16UL << 20)

static int load(int container, const void *mem)
{
	unsigned int i, round;
	int ret;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < MAPS; i++) {
			ret = vu_map_rw(container, mem, (1ULL << 32) + i * SIZE, SIZE);
			if (ret != (round ? -EEXIST : 0))
				return ret;
		}
	}
	return vu_unmap(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL);
}

int main(int argc, char **argv)
{
	struct vu_pci pci = { .group_fd = -1, .device_fd = -1 };
	void *mem = vu_alloc(VU_SCATTERED, SIZE);
	int container, ret;

	if (argc > 1)
		prctl(PR_SET_NAME, argv[1]);
	container = vu_open(&pci, VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);
	ret = container < 0 ? container : !mem ? -ENOMEM : load(container, mem);
	if (ret)
		fprintf(stderr, "trace_load: %s\n", strerror(-ret));
	return !!ret;
}
