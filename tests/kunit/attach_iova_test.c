// SPDX-License-Identifier: GPL-2.0-only
/*
 * Groups and valid IOVA: what they cut, who said so, and mappings in the way.
 */

#include "attach_fixture.h"
#include "fault.h"

static void expect_ranges(struct kunit *test, const struct vfio_iova_span *ranges,
			  unsigned int nr, const char *when)
{
	const struct vfio_iova_set *iova = &((struct fixture *)test->priv)->container->iova;
	unsigned int i;

	KUNIT_ASSERT_EQ_MSG(test, iova->nr, nr, "%s", when);
	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_EQ_MSG(test, iova->ranges[i].first, ranges[i].first, "%s, %u", when,
				    i);
		KUNIT_EXPECT_EQ_MSG(test, iova->ranges[i].last, ranges[i].last, "%s, %u", when, i);
	}
}

#define EXPECT_RANGES(test, when, ...) do {						\
	static const struct vfio_iova_span expected[] = { __VA_ARGS__ };		\
	expect_ranges(test, expected, ARRAY_SIZE(expected), when);			\
} while (0)

static const struct fake_traits arm_like = {
	.name = "Arm-like", .pgsize_bitmap = SZ_4K | SZ_64K | SZ_2M,
	.aperture_first = 0x1000, .aperture_last = BIT_ULL(39) - 1,
	.regions = {
		{ 0xc0000000, 0x10000, IOMMU_RESV_RESERVED },
		{ 0x8000000, 0x100000, IOMMU_RESV_SW_MSI },
	},
};

static const struct fake_traits x86_like_too = {
	.name = "x86-like, another", .pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G,
	.regions = {
		{ 0xfee00000, 0x100000, IOMMU_RESV_MSI },
		{ 0x200000, 0x1000, IOMMU_RESV_DIRECT },
	},
};

/* Valid is what lies in all apertures and in no group's reserved regions, at any time. */
static void valid_iova_is_what_all_groups_allow(struct kunit *test)
{
	must_attach(test, 0, &x86_like);
	EXPECT_RANGES(test, "the first", { 0, 0xfedfffff }, { 0xfef00000, BIT_ULL(48) - 1 });
	must_attach(test, 1, &arm_like);
	EXPECT_RANGES(test, "another domain",
		      { 0x1000, 0x7ffffff }, { 0x8100000, 0xbfffffff },
		      { 0xc0010000, 0xfedfffff }, { 0xfef00000, BIT_ULL(39) - 1 });
	must_attach(test, 2, &x86_like_too);
	KUNIT_EXPECT_PTR_EQ(test, mock(2), mock(0));
	EXPECT_RANGES(test, "another group of the first domain",
		      { 0x1000, 0x1fffff }, { 0x201000, 0x7ffffff }, { 0x8100000, 0xbfffffff },
		      { 0xc0010000, 0xfedfffff }, { 0xfef00000, BIT_ULL(39) - 1 });
	detach(test, 1);
	EXPECT_RANGES(test, "the other domain left", { 0, 0x1fffff }, { 0x201000, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
	detach(test, 2);
	EXPECT_RANGES(test, "one group left", { 0, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
	detach(test, 0);
	EXPECT_RANGES(test, "all left", { 0, U64_MAX });
}

/* What cuts() noted. */
struct cut_list {
	struct vfio_iova_cut cuts[8];
	unsigned int nr;
	unsigned int stop_at;
};

static int note_cut(const struct vfio_iova_cut *cut, void *data)
{
	struct cut_list *list = data;

	if (list->nr == ARRAY_SIZE(list->cuts))
		return -E2BIG;
	list->cuts[list->nr++] = *cut;
	return list->nr == list->stop_at;
}

static int cuts(struct kunit *test, struct cut_list *list)
{
	struct fixture *fx = test->priv;
	int ret;

	list->nr = 0;
	down_read(&fx->container->lock);
	ret = vfio_cut_walk(fx->container, note_cut, list);
	up_read(&fx->container->lock);
	return ret;
}

/* Each piece of invalid IOVA has somebody who is to blame. */
static void each_cut_has_an_owner(struct kunit *test)
{
	struct cut_list list = {};
	const struct {
		struct vfio_iova_span range;
		enum vfio_cut_kind kind;
		int nr;
	} want[] = {
		{ { BIT_ULL(48), U64_MAX }, VFIO_CUT_APERTURE, 0 },
		{ { 0xfee00000, 0xfeefffff }, VFIO_CUT_MSI, iommu_group_id(group(0)) },
		{ { 0x200000, 0x200fff }, VFIO_CUT_DIRECT, iommu_group_id(group(2)) },
		{ { 0xfee00000, 0xfeefffff }, VFIO_CUT_MSI, iommu_group_id(group(2)) },
		{ { 0, 0xfff }, VFIO_CUT_APERTURE, 1 },
		{ { BIT_ULL(39), U64_MAX }, VFIO_CUT_APERTURE, 1 },
		{ { 0x8000000, 0x80fffff }, VFIO_CUT_SW_MSI, iommu_group_id(group(1)) },
		{ { 0xc0000000, 0xc000ffff }, VFIO_CUT_RESERVED, iommu_group_id(group(1)) },
	};
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 0, cuts(test, &list));
	KUNIT_EXPECT_EQ(test, list.nr, 0U);
	must_attach(test, 0, &x86_like);
	must_attach(test, 1, &arm_like);
	must_attach(test, 2, &x86_like_too);
	KUNIT_EXPECT_EQ(test, 0, cuts(test, &list));
	KUNIT_ASSERT_EQ(test, list.nr, (unsigned int)ARRAY_SIZE(want));
	for (i = 0; i < ARRAY_SIZE(want); i++) {
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].range.first, want[i].range.first, "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].range.last, want[i].range.last, "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].kind, want[i].kind, "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, list.cuts[i].nr, want[i].nr, "%u", i);
	}
	for (i = 1; i <= ARRAY_SIZE(want); i++) {
		list.stop_at = i;
		KUNIT_EXPECT_EQ(test, 1, cuts(test, &list));
		KUNIT_EXPECT_EQ(test, list.nr, i);
	}
	list.stop_at = 0;
	fault_all();
	i = cuts(test, &list);
	fault_end();
	KUNIT_EXPECT_EQ(test, (int)i, -ENOMEM);
}

/* In words: the lowest piece that a range touches. */
static void cuts_are_described(struct kunit *test)
{
	struct fixture *fx = test->priv;
	struct vfio_cut_text text;
	char msi[sizeof(text.s)], direct[sizeof(text.s)];
	const struct {
		u64 first, last;
		const char *want;
	} ranges[] = {
		{ 0xfee00000, 0xfee00fff, msi },
		{ 0xfeeff000, 0xfef00fff, msi },
		{ 0xfed00000, 0xfee00000, msi },
		{ 0x200fff, U64_MAX, direct },
		{ BIT_ULL(48), BIT_ULL(48),
		  "outside the aperture of domain 0: 0x1000000000000-0xffffffffffffffff" },
		{ 0xfef00000, BIT_ULL(48) - 1, "unknown, memory is short" },
	};
	unsigned int i;

	must_attach(test, 0, &plain);
	must_attach(test, 1, &x86_like_too);
	snprintf(msi, sizeof(msi), "MSI window of group %d: 0xfee00000-0xfeefffff",
		 iommu_group_id(group(1)));
	snprintf(direct, sizeof(direct), "direct region of group %d: 0x200000-0x200fff",
		 iommu_group_id(group(1)));
	down_read(&fx->container->lock);
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		call_cut_describe(fx->container, ranges[i].first, ranges[i].last, &text);
		KUNIT_EXPECT_STREQ(test, text.s, ranges[i].want);
	}
	up_read(&fx->container->lock);
}

/* An aperture may be all there is, and a reserved region nothing at all. */
static void all_iova_may_be_valid(struct kunit *test)
{
	static const struct fake_traits all = {
		.name = "all IOVA", .pgsize_bitmap = SZ_4K, .aperture_last = U64_MAX,
		.regions = { { 0x5000, 0, IOMMU_RESV_RESERVED } },
	};
	struct fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	KUNIT_ASSERT_EQ(test, 0, map_bytes(test, U64_MAX - PAGE_SIZE + 1, fx->vaddr, PAGE_SIZE,
					   RW));
	must_attach(test, 0, &all);
	EXPECT_RANGES(test, "all", { 0, U64_MAX });
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(&mock(0)->domain, U64_MAX - PAGE_SIZE + 1),
			page_to_phys(fx->pages[0]));
}

/* MAP minds what the last attach and detach have said. */
static void map_minds_the_valid_iova(struct kunit *test)
{
	struct fixture *fx = test->priv;
	static const u64 iova[] = { 0, 0x8000000, 0xc0000000, BIT_ULL(39) };
	unsigned int i;

	must_attach(test, 0, &x86_like);
	must_attach(test, 1, &arm_like);
	for (i = 0; i < ARRAY_SIZE(iova); i++)
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL,
				    map_bytes(test, iova[i], fx->vaddr, PAGE_SIZE, RW),
				    "%#llx", iova[i]);
	expect_no_mappings(test);
	detach(test, 1);
	for (i = 0; i < ARRAY_SIZE(iova); i++)
		KUNIT_EXPECT_EQ_MSG(test, 0,
				    map_bytes(test, iova[i], fx->vaddr, PAGE_SIZE, RW),
				    "%#llx", iova[i]);
	KUNIT_EXPECT_EQ(test, -EINVAL, map_bytes(test, 0xfee00000, fx->vaddr, PAGE_SIZE, RW));
}

/* Detach cannot fail: without memory for new ranges the old ones stay. */
static void detach_without_memory_keeps_the_ranges(struct kunit *test)
{
	must_attach(test, 0, &x86_like);
	must_attach(test, 1, &x86_like_too);
	map_both(test);
	fault_all();
	detach(test, 1);
	fault_end();
	EXPECT_RANGES(test, "no memory", { 0, 0x1fffff }, { 0x201000, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
	expect_contents(test, mock(0));
	must_attach(test, 1, &plain);
	EXPECT_RANGES(test, "the next attach", { 0, 0xfedfffff },
		      { 0xfef00000, BIT_ULL(48) - 1 });
}

#define ROOM_FOR_LOW	(LOW_IOVA + LOW_PAGES * PAGE_SIZE)

/* Groups whose IOMMU could not hold what is mapped. */
static const struct fake_traits conflicting[] = {
	{ "reserved: the first page", SZ_4K,
	  .regions = { { LOW_IOVA, PAGE_SIZE, IOMMU_RESV_DIRECT } } },
	{ "reserved: a page inside", SZ_4K,
	  .regions = { { LOW_IOVA + 5 * PAGE_SIZE, PAGE_SIZE, IOMMU_RESV_RESERVED } } },
	{ "reserved: the last page", SZ_4K,
	  .regions = { { ROOM_FOR_LOW - PAGE_SIZE, PAGE_SIZE, IOMMU_RESV_RESERVED } } },
	{ "reserved: the last byte", SZ_4K,
	  .regions = { { ROOM_FOR_LOW - 1, SZ_1M, IOMMU_RESV_MSI } } },
	{ "reserved: everything around", SZ_4K,
	  .regions = { { 0, SZ_16M, IOMMU_RESV_SW_MSI } } },
	{ "reserved: the higher mapping", SZ_4K,
	  .regions = { { HIGH_IOVA, SZ_2M, IOMMU_RESV_RESERVED } } },
	{ "aperture starts too late", SZ_4K, .aperture_first = LOW_IOVA + PAGE_SIZE },
	{ "aperture ends too early", SZ_4K,
	  .aperture_last = HIGH_IOVA + (HIGH_PAGES - 1) * PAGE_SIZE - 1 },
	{ "aperture ends before the higher mapping", SZ_4K, .aperture_last = SZ_4G - 1 },
	{ "no room at all", SZ_4K, .aperture_last = SZ_2M,
	  .regions = { { 0, SZ_1G, IOMMU_RESV_RESERVED } } },
};

static void mappings_in_the_way_keep_a_group_out(struct kunit *test)
{
	struct state before;
	unsigned int i;

	must_attach(test, 0, &plain);
	map_both(test);
	before = state_of(test);
	for (i = 0; i < ARRAY_SIZE(conflicting); i++) {
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, attach(test, 1, &conflicting[i]), "%s",
				    conflicting[i].name);
		expect_state(test, &before, conflicting[i].name);
	}
	expect_contents(test, mock(0));
	expect_iommu_pins(test, NPAGES, NPAGES);
}

/* Also if nothing of them is in an IOMMU yet. */
static void mappings_in_the_way_keep_the_first_group_out(struct kunit *test)
{
	struct state before;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, attach_emulated(test));
	map_both(test);
	before = state_of(test);
	for (i = 0; i < ARRAY_SIZE(conflicting); i++) {
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, attach(test, 0, &conflicting[i]), "%s",
				    conflicting[i].name);
		expect_state(test, &before, conflicting[i].name);
	}
	expect_iommu_pins(test, 0, 0);
}

/* Right beside a reserved region, and as far as the aperture goes, there is room. */
static void mappings_just_beside_let_a_group_in(struct kunit *test)
{
	static const struct fake_traits tight = {
		.name = "tight", .pgsize_bitmap = SZ_4K,
		.aperture_first = LOW_IOVA,
		.aperture_last = HIGH_IOVA + HIGH_PAGES * PAGE_SIZE - 1,
		.regions = { { ROOM_FOR_LOW, HIGH_IOVA - ROOM_FOR_LOW, IOMMU_RESV_RESERVED } },
	};

	must_attach(test, 0, &plain);
	map_both(test);
	must_attach(test, 1, &tight);
	expect_both_in_two_domains(test);
}

static struct kunit_case attach_iova_cases[] = {
	KUNIT_CASE(valid_iova_is_what_all_groups_allow),
	KUNIT_CASE(each_cut_has_an_owner),
	KUNIT_CASE(cuts_are_described),
	KUNIT_CASE(all_iova_may_be_valid),
	KUNIT_CASE(map_minds_the_valid_iova),
	KUNIT_CASE(detach_without_memory_keeps_the_ranges),
	KUNIT_CASE(mappings_in_the_way_keep_a_group_out),
	KUNIT_CASE(mappings_in_the_way_keep_the_first_group_out),
	KUNIT_CASE(mappings_just_beside_let_a_group_in),
	{}
};

SUITE("vfio_attach_iova", attach_iova_cases, ATTACH_SUITE);
