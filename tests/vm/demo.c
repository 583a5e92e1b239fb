// SPDX-License-Identifier: GPL-2.0-only
/*
 * What 'make demo' runs in the VM: map memory of each kind for the edu device,
 * let the device copy data through it, look at every byte, unmap, and see that
 * the device can't reach it any more.
 *
 *	demo UNIT	UNIT names what the VM's clock counts
 *
 * Lines that start with "- " are progress. The rest is the table and, if
 * something is wrong, one line that says what. Exit status 0 if all is well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include "vfio_user.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define BUF_SIZE	(32 * VU_2M)
#define NPAGES		(BUF_SIZE / VU_PAGE)
#define SCRATCH_IOVA	0x100000ULL
#define ROUNDS		5	/* of map and unmap; the quickest counts */
#define KLOG_SIZE	(64 * VU_PAGE)

struct row {
	const char *name;
	enum vu_backing backing;
	__u64 iova;
	struct vu_layout layout;
	__u64 map_time, unmap_time;
};

static struct row rows[] = {
	{ .name = "scattered 4K", .backing = VU_SCATTERED, .iova = 0x10000000ULL },
	{ .name = "THP", .backing = VU_THP, .iova = 0x20000000ULL },
	{ .name = "hugetlb 2M", .backing = VU_HUGETLB, .iova = 0x40000000ULL },
	{ .name = "hugetlb 2M, high IOVA", .backing = VU_HUGETLB, .iova = 0x10000000000ULL },
};

static struct vu_pci pci;
static struct vu_edu edu;
static int container;
static __u32 *scratch;		/* one page, mapped all the time */
static unsigned int nr_copied;	/* bytes that the device moved and that were right */
static unsigned int nr_blocked;	/* transfers that the IOMMU stopped, as it should */

#define fail(...) do { printf(__VA_ARGS__); printf("\n"); exit(1); } while (0)

static void must(const char *what, int ret)
{
	if (ret < 0)
		fail("%s: %s", what, strerror(-ret));
}

/* ---- Bytes: each word of a page tells where it belongs ---- */

#define PAGE_WORDS	(VU_PAGE / sizeof(__u32))

static __u32 word(__u32 seed, size_t page, size_t i)
{
	return (seed + page * PAGE_WORDS + i) * 2654435761U;
}

static void fill_page(__u32 *mem, __u32 seed, size_t page)
{
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++)
		mem[i] = word(seed, page, i);
}

static bool page_is(const __u32 *mem, __u32 seed, size_t page)
{
	size_t i;

	for (i = 0; i < PAGE_WORDS; i++) {
		if (mem[i] != word(seed, page, i))
			return false;
	}
	return true;
}

static __u32 *page_of(__u32 *mem, size_t page)
{
	return mem + page * PAGE_WORDS;
}

/* ---- DMA ---- */

#define SEED_OLD	0x01000000U	/* what the memory is filled with */
#define SEED_NEW	0x02000000U	/* what the device brings */
#define SEED_EVIL	0x03000000U	/* what the device must not bring */

static const size_t probes[] = { 0, NPAGES / 2, NPAGES - 1 };

static void device_copies_page(__u64 dst, __u64 src)
{
	must("DMA", vu_edu_copy(&edu, dst, src, VU_EDU_MAX));
	must("DMA", vu_edu_copy(&edu, dst + VU_EDU_MAX, src + VU_EDU_MAX, VU_EDU_MAX));
}

/* The device reads the page of the mapping, then writes it. */
static void check_dma(const struct row *row, __u32 *mem, size_t page)
{
	const __u64 iova = row->iova + page * VU_PAGE;

	memset(scratch, 0, VU_PAGE);
	device_copies_page(SCRATCH_IOVA, iova);
	if (!page_is(scratch, SEED_OLD, page))
		fail("%s: the device read wrong bytes from page %zu", row->name, page);

	fill_page(scratch, SEED_NEW, page);
	device_copies_page(iova, SCRATCH_IOVA);
	if (!page_is(page_of(mem, page), SEED_NEW, page))
		fail("%s: the device wrote wrong bytes to page %zu", row->name, page);
	nr_copied += 2 * VU_PAGE;
}

static bool is_probe(size_t page)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (probes[i] == page)
			return true;
	}
	return false;
}

/* Pages that the device wrote hold what it brought, all others what they held before. */
static void check_all_bytes(const struct row *row, __u32 *mem, const char *when)
{
	size_t page;

	for (page = 0; page < NPAGES; page++) {
		if (!page_is(page_of(mem, page), is_probe(page) ? SEED_NEW : SEED_OLD, page))
			fail("%s: wrong bytes in page %zu %s", row->name, page, when);
	}
}

/* ---- After unmap ---- */

/* VT-d reports faults; the emulated AMD-Vi says nothing, and the bytes are all we have. */
static bool faults_are_logged(void)
{
	return !access("/sys/class/iommu/dmar0", F_OK);
}

/*
 * A transfer that has to be stopped. The kernel logs three faults in five
 * seconds at most, so let some time pass; idle time costs nothing in the VM.
 */
static void device_tries(const struct row *row, __u64 dst, __u64 src, const char *access)
{
	const struct timespec pause = { .tv_sec = 2 };
	static char log[KLOG_SIZE + 1];
	char report[128];
	int len;

	nanosleep(&pause, NULL);
	must("DMA", vu_edu_copy(&edu, dst, src, VU_EDU_MAX));
	nr_blocked++;
	if (!faults_are_logged())
		return;
	snprintf(report, sizeof(report),
		 "DMAR: [DMA %s NO_PASID] Request device [%s] fault addr 0x%llx ",
		 access, pci.bdf + strlen("0000:"), strcmp(access, "Write") ? src : dst);
	len = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, KLOG_SIZE);
	log[len < 0 ? 0 : len] = '\0';
	if (!strstr(log, report))
		fail("%s: no fault report \"%s\" in the kernel's log", row->name, report);
}

static void check_blocked(const struct row *row, __u32 *mem)
{
	size_t i;

	fill_page(scratch, SEED_EVIL, 0);
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		device_tries(row, row->iova + probes[i] * VU_PAGE, SCRATCH_IOVA, "Write");
	check_all_bytes(row, mem, "after a DMA write to unmapped memory");

	/* The device still holds SEED_EVIL: a read that fails must not replace it by mem. */
	device_tries(row, SCRATCH_IOVA, row->iova, "Read");
	if (!memcmp(scratch, mem, VU_EDU_MAX))
		fail("%s: the device read memory after unmap", row->name);
}

/* ---- One kind of memory ---- */

static void map(struct row *row, const void *mem)
{
	__u64 start = vu_now(), time;

	must(row->name, vu_map_rw(container, mem, row->iova, BUF_SIZE));
	time = vu_now() - start;
	if (!row->map_time || time < row->map_time)
		row->map_time = time;
}

static void unmap(struct row *row)
{
	__u64 start = vu_now(), time, unmapped;

	must(row->name, vu_unmap(container, row->iova, BUF_SIZE, 0, &unmapped));
	time = vu_now() - start;
	if (unmapped != BUF_SIZE)
		fail("%s: %llu bytes unmapped instead of %lu", row->name, unmapped, BUF_SIZE);
	if (!row->unmap_time || time < row->unmap_time)
		row->unmap_time = time;
}

static void check_locked(const struct row *row, long kib)
{
	long now = vu_locked_kib();

	if (now != kib)
		fail("%s: %ld KiB are accounted as locked, not %ld", row->name, now, kib);
}

static void run_row(struct row *row)
{
	const long locked = vu_locked_kib();
	__u32 *mem;
	size_t i;

	printf("- %s: allocate and fill\n", row->name);
	mem = vu_alloc(row->backing, BUF_SIZE);
	if (!mem)
		fail("%s: can't allocate: %m", row->name);
	for (i = 0; i < NPAGES; i++)
		fill_page(page_of(mem, i), SEED_OLD, i);
	must("pagemap", vu_layout(mem, BUF_SIZE, row->iova, &row->layout));

	printf("- %s: map and unmap %d times\n", row->name, ROUNDS);
	for (i = 0; i < ROUNDS; i++) {
		map(row, mem);
		check_locked(row, locked + BUF_SIZE / 1024);
		unmap(row);
		check_locked(row, locked);
	}

	printf("- %s: the device copies through first, middle and last page\n", row->name);
	map(row, mem);
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		check_dma(row, mem, probes[i]);
	check_all_bytes(row, mem, "after DMA");
	unmap(row);

	printf("- %s: the device tries again after unmap\n", row->name);
	check_blocked(row, mem);
	vu_free(mem, BUF_SIZE);
}

static const char *size_name(size_t size)
{
	return size == VU_1G ? "1G" : size == VU_2M ? "2M" : "4K";
}

static void print_table(const char *unit)
{
	size_t i;

	printf("\n%52s %9s %20s\n", "", "largest", unit);
	printf("%-22s %13s %8s %6s %9s %9s %10s\n", "mapping", "IOVA", "bytes", "runs", "IOPTE",
	       "map/page", "unmap/page");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];

		printf("%-22s %#13llx %5lu MiB %6zu %9s %9.1f %10.1f\n", row->name, row->iova,
		       BUF_SIZE >> 20, row->layout.nruns, size_name(row->layout.largest_iopte),
		       (double)row->map_time / NPAGES, (double)row->unmap_time / NPAGES);
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	long pinned;
	size_t i;

	if (argc != 2) {
		fprintf(stderr, "usage: demo UNIT\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);

	container = vu_open(&pci, VU_EDU_VENDOR, VU_EDU_DEVICE, 0, VFIO_TYPE1v2_IOMMU);
	must("opening the edu device", container);
	must("mapping edu's registers", vu_edu_open(&edu, &pci));
	printf("- edu at %s is bound to vfio-pci, IOMMU group %d\n", pci.bdf, pci.group);

	pinned = vu_foll_pinned();
	scratch = vu_alloc(VU_SCATTERED, VU_PAGE);
	if (!scratch)
		fail("can't allocate: %m");
	must("mapping the scratch page", vu_map_rw(container, scratch, SCRATCH_IOVA, VU_PAGE));

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		run_row(&rows[i]);

	must("unmapping the scratch page", vu_unmap(container, SCRATCH_IOVA, VU_PAGE, 0, NULL));
	vu_edu_close(&edu);
	vu_pci_close(&pci);
	close(container);
	if (vu_foll_pinned() != pinned)
		fail("%ld pages are still pinned", vu_foll_pinned() - pinned);

	print_table(argv[1]);
	printf("A run is physically contiguous; the figures are %s per 4 KiB page, the best\n"
	       "of %d rounds, for the ioctl as a whole.\n\n", argv[1], ROUNDS + 1);
	printf("The device copied %u bytes, all of them right. After unmap the IOMMU stopped\n"
	       "%u transfers%s, and not one byte changed.\n", nr_copied, nr_blocked,
	       faults_are_logged() ? ", each with a fault report in the kernel's log" : "");
	return 0;
}
