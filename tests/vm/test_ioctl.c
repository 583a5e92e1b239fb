// SPDX-License-Identifier: GPL-2.0-only
/*
 * The container's interface around mapping: versions, extensions, SET_IOMMU,
 * and what GET_INFO says under each of its argsz rules.
 */
#include <sys/ioctl.h>

#include "testlib.h"

/* VFIO_TYPE1_NESTING_IOMMU, which newer headers call reserved. */
#define EXT_NESTING	6
#define EXT_NEVER_USED	0x7fff

/* GET_INFO as it was before capabilities: up to and with iova_pgsizes. */
#define INFO_MINSZ	16

#define IOCTL_UNKNOWN	_IO(VFIO_TYPE, VFIO_BASE + 99)

/* ---- Before and after SET_IOMMU ---- */

static void api_version_is_0(void **state)
{
	const struct fixture *f = *state;

	assert_int_equal(ioctl(f->container, VFIO_GET_API_VERSION), VFIO_API_VERSION);
}

static int extension(int container, unsigned long ext)
{
	return ioctl(container, VFIO_CHECK_EXTENSION, ext);
}

/* The extensions whose answer doesn't depend on what is in the container. */
static void assert_constant_extensions(int container)
{
	assert_int_equal(extension(container, VFIO_TYPE1_IOMMU), 1);
	assert_int_equal(extension(container, VFIO_TYPE1v2_IOMMU), 1);
	assert_int_equal(extension(container, VFIO_UNMAP_ALL), 1);
	assert_int_equal(extension(container, VFIO_SPAPR_TCE_IOMMU), 0);
	assert_int_equal(extension(container, VFIO_SPAPR_TCE_v2_IOMMU), 0);
	assert_int_equal(extension(container, VFIO_EEH), 0);
	assert_int_equal(extension(container, VFIO_NOIOMMU_IOMMU), 0);
	assert_int_equal(extension(container, EXT_NEVER_USED), 0);
	/* Kernels lost nesting in 6.13. */
	assert_int_equal(extension(container, EXT_NESTING), !kernel_at_least(6, 13));
}

static void extensions_without_a_group(void **state)
{
	struct fixture *f = *state;

	fixture_open_container(f);
	assert_constant_extensions(f->container);
	assert_int_equal(extension(f->container, VFIO_DMA_CC_IOMMU), 0);
	assert_int_equal(extension(f->container, VFIO_UPDATE_VADDR), 0);
}

static void extensions_with_a_group(void **state)
{
	const struct fixture *f = *state;

	assert_constant_extensions(f->container);
	/*
	 * VT-d is told to have snoop control; AMD-Vi always enforces coherency. The
	 * others have no way to.
	 */
	assert_int_equal(extension(f->container, VFIO_DMA_CC_IOMMU),
			 iommu_kind() == IOMMU_VTD || iommu_kind() == IOMMU_AMD);
}

/* MAP with VADDR over nothing is ENOENT where the flag is known, else EINVAL. */
static void update_vaddr_is_offered_only_if_it_is_there(void **state)
{
	const struct fixture *f = *state;
	void *mem = mem_pages(1);
	int offered = extension(f->container, VFIO_UPDATE_VADDR);

	assert_ret(vu_map(f->container, mem, 0, VU_PAGE, VFIO_DMA_MAP_FLAG_VADDR),
		   offered ? -ENOENT : -EINVAL);
	vu_free(mem, VU_PAGE);
}

static void set_iommu_needs_a_group(void **state)
{
	struct fixture *f = *state;

	fixture_open_container(f);
	assert_ret(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU), -EINVAL);
}

static void set_iommu_refuses_what_is_not_type1(void **state)
{
	struct fixture *f = *state;

	fixture_open_container(f);
	fixture_attach(f, 0);
	assert_ret(vu_set_iommu(f->container, VFIO_SPAPR_TCE_IOMMU), -ENODEV);
	assert_ret(vu_set_iommu(f->container, EXT_NEVER_USED), -ENODEV);
	assert_ret(vu_set_iommu(f->container, 0), -ENODEV);
	/* It is an extension, but no type of IOMMU. */
	assert_ret(vu_set_iommu(f->container, VFIO_UNMAP_ALL), -EINVAL);
	/* And the container still works. */
	assert_ok(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU));
}

static void set_iommu_works_once(void **state)
{
	const struct fixture *f = *state;

	assert_ret(vu_set_iommu(f->container, VFIO_TYPE1v2_IOMMU), -EINVAL);
	assert_ret(vu_set_iommu(f->container, VFIO_TYPE1_IOMMU), -EINVAL);
}

static void unknown_ioctls_are_enotty(void **state)
{
	const struct fixture *f = *state;

	assert_int_equal(ioctl(f->container, IOCTL_UNKNOWN, 0), -1);
	assert_int_equal(errno, ENOTTY);
	/* Known to the header, but only to POWER's IOMMU. */
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_ENABLE), -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(ioctl(f->container, VFIO_IOMMU_DISABLE), -1);
	assert_int_equal(errno, ENOTTY);
}

/* ---- GET_INFO: argsz ---- */

struct raw_info {
	union {
		struct vfio_iommu_type1_info head;
		unsigned char bytes[INFO_MAX];
	};
};

/* GET_INFO with this argsz, into a buffer full of 0xee. */
static int get_raw(int container, __u32 argsz, struct raw_info *raw)
{
	memset(raw, 0xee, sizeof(*raw));
	raw->head.argsz = argsz;
	return ioctl(container, VFIO_IOMMU_GET_INFO, raw) ? -errno : 0;
}

static void assert_untouched_from(const struct raw_info *raw, size_t offset)
{
	for (; offset < sizeof(*raw); offset++) {
		if (raw->bytes[offset] != 0xee)
			fail_msg("byte %zu was written", offset);
	}
}

static void info_refuses_a_short_argsz(void **state)
{
	const struct fixture *f = *state;
	struct raw_info raw;
	__u32 argsz;

	for (argsz = 0; argsz < INFO_MINSZ; argsz++) {
		assert_ret(get_raw(f->container, argsz, &raw), -EINVAL);
		assert_int_equal(raw.head.argsz, argsz);
		assert_untouched_from(&raw, sizeof(argsz));
	}
}

/*
 * Whoever has no room for all capabilities gets none, but learns how much room
 * they need; nothing is written past argsz.
 */
static void info_without_room_says_how_much_it_needs(void **state)
{
	const struct fixture *f = *state;
	struct raw_info raw;
	struct info info;
	__u32 argsz;

	info_get(f->container, &info);
	for (argsz = INFO_MINSZ; argsz < info.end; argsz++) {
		assert_ok(get_raw(f->container, argsz, &raw));
		assert_int_equal(raw.head.flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
		assert_int_equal(raw.head.iova_pgsizes, info.head.iova_pgsizes);
		assert_int_equal(raw.head.argsz, info.end);
		if (argsz >= offsetof(struct vfio_iommu_type1_info, cap_offset) + sizeof(__u32))
			assert_int_equal(raw.head.cap_offset, 0);
		assert_untouched_from(&raw, argsz < sizeof(raw.head) ? argsz : sizeof(raw.head));
	}
}

static void info_with_exactly_enough_room(void **state)
{
	const struct fixture *f = *state;
	struct raw_info raw;
	struct info info;

	info_get(f->container, &info);
	assert_ok(get_raw(f->container, info.end, &raw));
	assert_int_equal(raw.head.argsz, info.end);
	assert_int_equal(raw.head.cap_offset, sizeof(raw.head));
	assert_memory_equal(raw.bytes + sizeof(raw.head), info.raw + sizeof(raw.head),
			    info.end - sizeof(raw.head));
	assert_untouched_from(&raw, info.end);
}

static void info_keeps_a_generous_argsz(void **state)
{
	const struct fixture *f = *state;
	struct raw_info raw;

	assert_ok(get_raw(f->container, sizeof(raw), &raw));
	assert_int_equal(raw.head.argsz, sizeof(raw));
}

/* ---- GET_INFO: what it says ---- */

/* And, last, what the in-tree module does not have. */
static void info_lists_capabilities_in_order(void **state)
{
	const struct fixture *f = *state;
	struct info info;

	info_get(f->container, &info);
	assert_int_equal(info.ncaps, is_intree() ? 3 : 4);
	assert_int_equal(info.cap_id[0], VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
	assert_int_equal(info.cap_id[1], VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
	assert_int_equal(info.cap_id[2], VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	if (!is_intree())
		assert_int_equal(info.cap_id[3], VFIO_TYPE1_INFO_CAP_MEMORY);
}

static void info_migration_capability(void **state)
{
	const struct fixture *f = *state;
	struct info info;

	info_get(f->container, &info);
	assert_non_null(info.migration);
	assert_int_equal(info.migration->flags, 0);
	assert_int_equal(info.migration->pgsize_bitmap, VU_PAGE);
	assert_int_equal(info.migration->max_dirty_bitmap_size, 256 * MIB);
}

static void info_dma_avail_starts_at_the_entry_limit(void **state)
{
	const struct fixture *f = *state;

	assert_int_equal(module_param_read("dma_entry_limit"), 65535);
	assert_int_equal(dma_avail(f->container), 65535);
}

/*
 * Every size that the IOMMU's page tables know, none below a page. AMD-Vi knows
 * all powers of two but 512 GiB; kernels differ in those beyond its page tables.
 * SMMUv3 with 4K pages has the sizes that VT-d has, virtio-iommu as QEMU makes it all.
 */
/* AMD-Vi's tables have 6 levels; since 6.19 only as many as it takes for 48 bits. */
static bool amd_has_48_bits(void)
{
	return kernel_at_least(6, 19);
}

static void info_page_sizes(void **state)
{
	const __u64 below_52_bits = (1ULL << 52) - 1;
	const __u64 amd = (amd_has_48_bits() ? (1ULL << 47) - 1 : below_52_bits) & -VU_PAGE &
			  ~(512 * GIB);
	const __u64 want = iommu_kind() == IOMMU_AMD ? amd :
			   iommu_kind() == IOMMU_VIRTIO ? below_52_bits & -VU_PAGE :
			   VU_PAGE | VU_2M | VU_1G;
	const struct fixture *f = *state;
	struct info info;

	info_get(f->container, &info);
	assert_int_equal(info.head.iova_pgsizes & below_52_bits, want);
}

struct range {
	__u64 first, last;
};

/* Around 0xfee00000 are the message-signalled interrupts of x86. */
static const struct range ranges_vtd[] = {
	{ 0, 0xfedfffff },
	{ 0xfef00000, 0xffffffffffff },
};

/* Below 1 TiB is HyperTransport's own range. */
static const struct range ranges_amd[] = {
	{ 0, 0xfedfffff },
	{ 0xfef00000, 0xfcffffffff },
	{ 0x10000000000, 0xffffffffffffffff },
};

/* Where user space's MSIs go. */
static const struct range ranges_smmu[] = {
	{ 0, 0x7ffffff },
	{ 0x8100000, 0xffffffffffff },
};

static const struct range ranges_virtio[] = {
	{ 0, 0xfedfffff },
	{ 0xfef00000, 0xffffffffffffffff },
};

/*
 * VT-d that has first-stage tables only, those of the CPU: 48 bits with a sign, of which
 * the positive half is used.
 */
static bool vtd_first_stage(void)
{
	FILE *f = fopen("/sys/class/iommu/dmar0/intel-iommu/ecap", "r");
	unsigned long long ecap;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llx", &ecap), 1);
	fclose(f);
	return (ecap >> 46 & 3) == 2;	/* FLTS without SLTS */
}

static void info_valid_iova_ranges(void **state)
{
	static const struct {
		const struct range *ranges;
		unsigned int nr;
	} kinds[] = {
		[IOMMU_VTD] = { ranges_vtd, ARRAY_SIZE(ranges_vtd) },
		[IOMMU_AMD] = { ranges_amd, ARRAY_SIZE(ranges_amd) },
		[IOMMU_SMMU] = { ranges_smmu, ARRAY_SIZE(ranges_smmu) },
		[IOMMU_VIRTIO] = { ranges_virtio, ARRAY_SIZE(ranges_virtio) },
	};
	const struct range *want = kinds[iommu_kind()].ranges;
	unsigned int i, n = kinds[iommu_kind()].nr;
	const struct fixture *f = *state;
	struct info info;
	__u64 last;

	info_get(f->container, &info);
	assert_non_null(info.iova);
	assert_int_equal(info.iova->nr_iovas, n);
	for (i = 0; i < n; i++) {
		assert_int_equal(info.iova->iova_ranges[i].start, want[i].first);
		last = want[i].last;
		if (iommu_kind() == IOMMU_AMD && amd_has_48_bits() && i == n - 1)
			last = (1ULL << 48) - 1;
		if (iommu_kind() == IOMMU_VTD && vtd_first_stage() && i == n - 1)
			last = (1ULL << 47) - 1;
		assert_int_equal(info.iova->iova_ranges[i].end, last);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(api_version_is_0),
		TEST_CLOSED(extensions_without_a_group),
		TEST_V2(extensions_with_a_group),
		TEST_V2(update_vaddr_is_offered_only_if_it_is_there),
		TEST_CLOSED(set_iommu_needs_a_group),
		TEST_CLOSED(set_iommu_refuses_what_is_not_type1),
		TEST_V2(set_iommu_works_once),
		TEST_V2(unknown_ioctls_are_enotty),
		TEST_V2(info_refuses_a_short_argsz),
		TEST_V2(info_without_room_says_how_much_it_needs),
		TEST_V2(info_with_exactly_enough_room),
		TEST_V2(info_keeps_a_generous_argsz),
		TEST_V1(info_lists_capabilities_in_order),
		TEST_V2(info_lists_capabilities_in_order),
		TEST_V2(info_migration_capability),
		TEST_V2(info_dma_avail_starts_at_the_entry_limit),
		TEST_V2(info_page_sizes),
		TEST_V2(info_valid_iova_ranges),
	};

	return cmocka_run_group_tests_name("ioctl", tests, NULL, NULL);
}
