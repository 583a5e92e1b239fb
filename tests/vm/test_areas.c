// SPDX-License-Identifier: GPL-2.0-only
/*
 * Areas that drivers make: of pages that are PageReserved, of single pages of a huge page
 * amid others, and of a device's registers.  What is pinned of them is unpinned, whatever
 * kind of page it is, and what may not be pinned is not.
 */
#include <sys/auxv.h>
#include <sys/mman.h>

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)
#define NPAGES		8U

/* Values of the parameter unmap_walk. */
enum walk { WALK_RUNS, WALK_SINGLE_PAGES, WALK_IOMMU };

static int areas_teardown(void **state)
{
	if (!is_intree())
		module_param_write("unmap_walk", WALK_RUNS);
	return emu_teardown(state);
}

#define TEST_AREAS(name) cmocka_unit_test_setup_teardown(name, emu_setup_mixed, areas_teardown)
#define TEST_AREAS_EMU(name) cmocka_unit_test_setup_teardown(name, emu_setup_only, areas_teardown)

/* Each page of the device's area has as many references as it had. */
static void assert_refs(const struct vu_pci *dev, const struct emu_refs *before)
{
	struct emu_refs now;
	unsigned int i;

	emu_refs(dev, &now);
	for (i = 0; i < EMU_AREA_MAX; i++) {
		at_step("page %u: %llu references, not %llu", i, now.refs[i], before->refs[i]);
		assert_true(now.refs[i] == before->refs[i]);
	}
}

/* MAP, let the device copy in each page, UNMAP. */
static void map_and_unmap(const struct emu_fixture *e, char *mem, size_t npages, size_t charged)
{
	const struct fixture *f = e->f;
	struct emu_refs before;
	unsigned int i;

	emu_refs(&e->emu[0], &before);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(npages)));
	assert_charged(f, charged);
	assert_pinned(f, npages);
	for (i = 0; i < npages; i++)
		assert_dma_reaches(f, 0, mem + PAGES(i), BASE + PAGES(i));
	assert_unmaps(f->container, BASE, PAGES(npages), PAGES(npages));
	assert_nothing_held(f);
	assert_refs(&e->emu[0], &before);
}

/* REGISTER, MAP, let the device copy in each page, UNMAP, UNREGISTER. */
static void register_and_unregister(const struct emu_fixture *e, char *mem, size_t npages,
				    size_t charged)
{
	const struct fixture *f = e->f;
	struct emu_refs before;
	__u64 pfns[NPAGES];
	unsigned int i;

	emu_refs(&e->emu[0], &before);
	assert_ok(vu_register(f->container, mem, PAGES(npages), 0));
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(npages)));
	assert_charged(f, charged);
	assert_pinned(f, npages);
	assert_ret(emu_pin_at(&e->emu[0], BASE, npages, EMU_PROT_RW, 0, pfns), npages);
	for (i = 0; i < npages; i++) {
		assert_int_equal(pfns[i], pfn_of(mem + PAGES(i)));
		assert_dma_reaches(f, 0, mem + PAGES(i), BASE + PAGES(i));
	}
	assert_ok(emu_unpin(&e->emu[0], BASE, npages));
	assert_unmaps(f->container, BASE, PAGES(npages), PAGES(npages));
	assert_ok(vu_unregister(f->container, mem, PAGES(npages)));
	assert_nothing_held(f);
	assert_refs(&e->emu[0], &before);
}

/* A page is pinned once, and unpinned with the last pin. */
static void pin_and_unpin(const struct emu_fixture *e, char *mem, size_t npages, size_t charged)
{
	const struct vu_pci *dev = &e->emu[0];
	const struct fixture *f = e->f;
	struct emu_refs before;
	__u64 pfns[NPAGES];
	unsigned int i;

	emu_refs(dev, &before);
	assert_ok(vu_map_rw(f->container, mem, BASE, PAGES(npages)));
	assert_nothing_held(f);
	assert_ret(emu_pin_at(dev, BASE, npages, EMU_PROT_RW, 0, pfns), npages);
	for (i = 0; i < npages; i++)
		assert_int_equal(pfns[i], pfn_of(mem + PAGES(i)));
	assert_ret(emu_pin(dev, BASE, npages), npages);
	assert_charged(f, charged);
	assert_pinned(f, npages);
	assert_ok(emu_unpin(dev, BASE, npages));
	assert_ok(emu_unpin(dev, BASE, npages));
	assert_nothing_held(f);
	assert_refs(dev, &before);
	/* As it is told of an UNMAP it unpins. */
	assert_ret(emu_pin(dev, BASE, npages), npages);
	assert_unmaps(f->container, BASE, PAGES(npages), PAGES(npages));
	assert_nothing_held(f);
	assert_refs(dev, &before);
}

/* ---- Pages that are PageReserved ---- */

static void reserved_pages_are_unpinned(void **state)
{
	const struct emu_fixture *e = *state;
	unsigned int walk;
	char *mem;

	not_on_intree("it pins them, and never unpins them");
	mem = emu_area(&e->emu[0], NULL, NPAGES, NULL, EMU_AREA_RESERVED);
	/* Also where the runs would be asked of the IOMMU, which does not know. */
	for (walk = WALK_RUNS; walk <= WALK_IOMMU; walk++) {
		at_step("unmap_walk=%u", walk);
		module_param_write("unmap_walk", walk);
		map_and_unmap(e, mem, NPAGES, 0);
	}
}

static void reserved_pages_can_be_registered(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem;

	not_on_intree("it has nothing like that");
	mem = emu_area(&e->emu[0], NULL, NPAGES, NULL, EMU_AREA_RESERVED);
	register_and_unregister(e, mem, NPAGES, 0);
}

static void reserved_pages_are_unpinned_by_in_kernel_users(void **state)
{
	const struct emu_fixture *e = *state;
	char *mem;

	not_on_intree("it pins them, and never unpins them");
	mem = emu_area(&e->emu[0], NULL, NPAGES, NULL, EMU_AREA_RESERVED);
	pin_and_unpin(e, mem, NPAGES, 0);
}

/* They are told apart by the page, and pinned as often as they are mapped. */
static void reserved_pages_amid_ram(void **state)
{
	const struct emu_fixture *e = *state;
	const struct fixture *f = e->f;
	struct emu_refs before;
	char *mem, *ram;

	not_on_intree("it pins them, and never unpins them");
	ram = mem_pages(3 * NPAGES);
	mem = emu_area(&e->emu[0], ram + PAGES(NPAGES), NPAGES, NULL, EMU_AREA_RESERVED);
	emu_refs(&e->emu[0], &before);
	assert_ok(vu_map_rw(f->container, ram, BASE, PAGES(3 * NPAGES)));
	assert_charged(f, 2 * NPAGES);
	assert_pinned(f, 3 * NPAGES);
	assert_dma_reaches(f, 0, mem, BASE + PAGES(NPAGES));
	assert_dma_reaches(f, 0, mem + PAGES(NPAGES), BASE + PAGES(2 * NPAGES));
	/* Whoever maps it pins it. */
	assert_ok(vu_map_rw(f->container, mem, BASE + GIB, PAGES(NPAGES)));
	assert_pinned(f, 4 * NPAGES);
	assert_unmaps(f->container, BASE, PAGES(3 * NPAGES), PAGES(3 * NPAGES));
	assert_pinned(f, NPAGES);
	assert_charged(f, 0);
	assert_unmaps_all(f->container, PAGES(NPAGES));
	assert_nothing_held(f);
	assert_refs(&e->emu[0], &before);
	emu_area_unmap();
	vu_free(ram, PAGES(3 * NPAGES));
}

/*
 * The vDSO is the kernel's, and reserved, but mapped privately: what is pinned for a device
 * that reads it is a copy since 6.2, and with this module before.
 */
static void the_vdso_is_unpinned(void **state)
{
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR);
	const struct emu_fixture *e = *state;
	const struct fixture *f = e->f;
	char *mem = mem_pages(1);

	not_on_intree("up to 6.1 it pins the kernel's own page, and never unpins it");
	assert_non_null(vdso);
	assert_ret(vu_map_rw(f->container, vdso, BASE, PAGES(1)), -EFAULT);
	assert_ok(vu_map(f->container, vdso, BASE, PAGES(1), VFIO_DMA_MAP_FLAG_READ));
	assert_ok(vu_map_rw(f->container, mem, BASE + GIB, PAGES(1)));
	assert_charged(f, 2);
	assert_pinned(f, 2);
	assert_ok(vu_edu_copy(&f->edu[0], BASE + GIB, BASE, VU_EDU_MAX));
	assert_memory_equal(mem, vdso, VU_EDU_MAX);
	assert_unmaps(f->container, BASE, PAGES(1), PAGES(1));
	assert_pinned(f, 1);
	assert_unmaps_all(f->container, PAGES(1));
	assert_nothing_held(f);
	vu_free(mem, PAGES(1));
}

/* ---- Pages of a huge page, amid others ---- */

/* Layouts of four pages: which page of a huge page, or a page of the device's own (-1). */
static const int mixtures[][4] = {
	{ 0, -1, -1, -1 },
	{ 0, 2, 1, 3 },
	{ 3, 2, 1, 0 },
	{ 0, 0, 0, 0 },
	{ 0, 1, 2, 4 },
	{ 508, 509, 510, -1 },
};

/*
 * Since 6.15 a huge page of hugetlb keeps something else where others count who maps single
 * pages of them, so that no driver can do that ("mm/rmap: basic MM owner tracking for large
 * folios").
 */
static bool single_pages_are_counted(void)
{
	return !kernel_at_least(6, 15);
}

/*
 * Since 6.10 a huge page's type is where its first page counts how often it is mapped by
 * itself: it is no one's to map so.
 */
static char *single_pages(char *huge)
{
	return kernel_at_least(6, 10) ? huge + PAGES(1) : huge;
}

static char *mixture(const struct vu_pci *dev, char *huge, const int *which)
{
	void *from[4];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(from); i++)
		from[i] = which[i] < 0 ? NULL : single_pages(huge) + PAGES(which[i]);
	return emu_area(dev, NULL, ARRAY_SIZE(from), from, 0);
}

static void pages_of_a_huge_page_in_any_order(void **state)
{
	const struct emu_fixture *e = *state;
	char *huge = mem_hugetlb_shared(VU_2M), *mem;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mixtures); i++) {
		at_step("mixture %u", i);
		mem = mixture(&e->emu[0], huge, mixtures[i]);
		map_and_unmap(e, mem, 4, 4);
		if (!is_intree())
			register_and_unregister(e, mem, 4, 4);
	}
	emu_area_unmap();
	vu_free(huge, VU_2M);
}

static void in_kernel_users_of_pages_of_a_huge_page(void **state)
{
	const struct emu_fixture *e = *state;
	char *huge = mem_hugetlb_shared(VU_2M), *mem;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mixtures); i++) {
		at_step("mixture %u", i);
		mem = mixture(&e->emu[0], huge, mixtures[i]);
		pin_and_unpin(e, mem, 4, 4);
	}
	emu_area_unmap();
	vu_free(huge, VU_2M);
}

/* ---- Device memory that has pages ---- */

/* Pages of hugetlb memory are found without a look at the area on every kernel. */
static char *io_area(const struct vu_pci *dev, void *at, bool own, char *huge)
{
	char *first = single_pages(huge);
	void *from[] = { first, first + PAGES(1), first + PAGES(2) };

	return emu_area(dev, at, ARRAY_SIZE(from), own ? NULL : from, EMU_AREA_IO);
}

static void device_memory_is_refused(void **state)
{
	const struct emu_fixture *e = *state;
	const struct fixture *f = e->f;
	char *huge = mem_hugetlb_shared(VU_2M), *ram, *mem;
	struct emu_refs before;
	unsigned int own, write;

	for (own = !single_pages_are_counted(); own < 2; own++) {
		ram = mem_pages(9);
		mem = io_area(&e->emu[0], ram + PAGES(3), own, huge);
		emu_refs(&e->emu[0], &before);
		for (write = 0; write < 2; write++) {
			const __u32 flags = write ? RW : VFIO_DMA_MAP_FLAG_READ;

			at_step("own %u, write %u", own, write);
			/* By itself, after other memory, before it. */
			assert_ret(vu_map(f->container, mem, BASE, PAGES(3), flags), -EFAULT);
			assert_ret(vu_map(f->container, ram, BASE, PAGES(9), flags), -EFAULT);
			assert_ret(vu_map(f->container, mem, BASE, PAGES(6), flags), -EFAULT);
			if (!is_intree())
				assert_ret(vu_register(f->container, ram, PAGES(9), write ? 0 :
						       VFIO_TYPE1_MEMORY_READ_ONLY), -EFAULT);
			assert_nothing_held(f);
			assert_refs(&e->emu[0], &before);
			/* What lies around it is as good as ever. */
			assert_ok(vu_map(f->container, ram, BASE, PAGES(3), flags));
			assert_ok(vu_map(f->container, ram + PAGES(6), BASE + GIB, PAGES(3),
					 flags));
			assert_pinned(f, 6);
			assert_unmaps_all(f->container, PAGES(6));
		}
		emu_area_unmap();
		vu_free(ram, PAGES(9));
	}
	emu_area_unmap();
	vu_free(huge, VU_2M);
}

static void in_kernel_users_are_refused_device_memory(void **state)
{
	const struct emu_fixture *e = *state;
	const struct vu_pci *dev = &e->emu[0];
	char *huge = mem_hugetlb_shared(VU_2M), *mem;
	struct emu_refs before;
	unsigned int own;

	for (own = !single_pages_are_counted(); own < 2; own++) {
		at_step("own %u", own);
		mem = io_area(dev, NULL, own, huge);
		emu_refs(dev, &before);
		assert_ok(vu_map_rw(e->f->container, mem, BASE, PAGES(3)));
		assert_ret(emu_pin(dev, BASE, 3), -EFAULT);
		assert_ret(emu_pin_at(dev, BASE, 3, EMU_PROT_RW, EMU_KTHREAD, NULL), -EFAULT);
		assert_nothing_held(e->f);
		assert_refs(dev, &before);
		assert_unmaps_all(e->f->container, PAGES(3));
	}
	emu_area_unmap();
	vu_free(huge, VU_2M);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_AREAS(reserved_pages_are_unpinned),
		TEST_AREAS(reserved_pages_can_be_registered),
		TEST_AREAS_EMU(reserved_pages_are_unpinned_by_in_kernel_users),
		TEST_AREAS(reserved_pages_amid_ram),
		TEST_AREAS(the_vdso_is_unpinned),
		TEST_AREAS(device_memory_is_refused),
		TEST_AREAS_EMU(in_kernel_users_are_refused_device_memory),
		TEST_AREAS(pages_of_a_huge_page_in_any_order),
		TEST_AREAS_EMU(in_kernel_users_of_pages_of_a_huge_page),
	};
	const struct CMUnitTest of_reserved_pages[] = {
		TEST_AREAS(reserved_pages_are_unpinned),
		TEST_AREAS(reserved_pages_can_be_registered),
		TEST_AREAS_EMU(reserved_pages_are_unpinned_by_in_kernel_users),
		TEST_AREAS(reserved_pages_amid_ram),
		TEST_AREAS(the_vdso_is_unpinned),
		TEST_AREAS(device_memory_is_refused),
		TEST_AREAS_EMU(in_kernel_users_are_refused_device_memory),
	};

	if (!single_pages_are_counted())
		return cmocka_run_group_tests_name("areas", of_reserved_pages, NULL, NULL);
	return cmocka_run_group_tests_name("areas", tests, NULL, NULL);
}
