// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program for tests/vm/stat to look at. It opens two containers, prints "ready",
 * and then does what it is told on stdin, a word per line, each answered by "done".
 *
 * The first container, v2, with an edu:
 *
 *	64 MiB	scattered 4K pages
 *	32 MiB	transparent huge pages, aligned
 *	16 MiB	hugetlbfs, at an IOVA a page off
 *
 * and two requests that are refused. The second, v1, with the other edu: a page.
 *
 * Words: "large" maps 1 GiB more, of small pages that nobody has touched yet, which
 * takes a while; "close" closes the second container.
 */
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vfio_user.h"

#define MIB	1048576UL

static void check(int ret, int want, const char *what)
{
	if (ret != want)
		errx(1, "%s: %s", what, strerror(-ret));
}

static int open_container(struct vu_pci *pci, unsigned int nth, int type)
{
	int container = vu_open(pci, VU_EDU_VENDOR, VU_EDU_DEVICE, nth, type);

	if (container < 0)
		errx(1, "container: %s", strerror(-container));
	return container;
}

static void map(int container, enum vu_backing backing, size_t size, __u64 iova)
{
	void *mem = vu_alloc(backing, size);

	if (!mem)
		err(1, "%zu MiB of memory", size / MIB);
	check(vu_map_rw(container, mem, iova, size), 0, "map");
}

int main(void)
{
	struct vu_pci pci[2];
	char word[16];
	int v2, v1;
	void *mem;

	/* What a process may be called. */
	prctl(PR_SET_NAME, "a \"b\" \\\033c");
	v2 = open_container(&pci[0], 0, VFIO_TYPE1v2_IOMMU);
	map(v2, VU_SCATTERED, 64 * MIB, 256 * MIB);
	map(v2, VU_THP, 32 * MIB, 512 * MIB);
	map(v2, VU_HUGETLB, 16 * MIB, 768 * MIB + VU_PAGE);
	prctl(PR_SET_NAME, "other");
	v1 = open_container(&pci[1], 1, VFIO_TYPE1_IOMMU);
	map(v1, VU_SCATTERED, VU_PAGE, 0);

	mem = mmap(NULL, VU_1G, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || madvise(mem, VU_1G, MADV_NOHUGEPAGE))
		err(1, "1 GiB of address space");
	check(vu_map_rw(v2, mem, 256 * MIB, VU_PAGE), -EEXIST, "overlap");
	if (ioctl(v2, _IO(VFIO_TYPE, VFIO_BASE + 99)) != -1 || errno != ENOTTY)
		errx(1, "type1 knows ioctl 99");

	setlinebuf(stdout);
	puts("ready");
	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "large")) {
			check(vu_map_rw(v2, mem, 8 * VU_1G, VU_1G), 0, "large map");
		} else if (!strcmp(word, "close")) {
			vu_pci_close(&pci[1]);
			close(v1);
		} else {
			errx(1, "what is %s?", word);
		}
		puts("done");
	}
	return 0;
}
