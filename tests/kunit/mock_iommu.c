// SPDX-License-Identifier: GPL-2.0-only
/* IOMMU domains without an IOMMU: see mock_iommu.h. */

#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "mock_iommu.h"
#include "rooms.h"

/**
 * struct mock_pte - an IOPTE
 * @node: in mock_iommu.ptes
 * @stale: in mock_iommu.stale
 * @iova: first byte
 * @phys: where it points
 * @size: bytes
 * @prot: IOMMU_READ and so on
 * @pinned: its pages were pinned when it was made
 */
struct mock_pte {
	struct rb_node node;
	struct list_head stale;
	u64 iova;
	phys_addr_t phys;
	size_t size;
	int prot;
	bool pinned;
};

/**
 * struct mock_table - a page table
 * @unlinked: in mock_iommu.unlinked
 * @freelist: in the list of the gather whose sync frees it
 * @iova: first byte that it translates
 * @size: bytes
 */
struct mock_table {
	struct list_head unlinked;
	struct list_head freelist;
	u64 iova;
	u64 size;
};

static const unsigned int table_shifts[MOCK_LEVELS] = { 21, 30 };

/* AMD-Vi's v1 tables have an IOPTE for every power of two; VT-d and its v2 have three. */
static const struct mock_flavour mock_flavours[] = {
	{ "VT-d", SZ_4K | SZ_2M | SZ_1G, false, false },
	{ "VT-d that hides", SZ_4K | SZ_2M | SZ_1G, false, false, true },
	{ "AMD-Vi", ~0xfffUL, true, false },
	{ "AMD-Vi v2", SZ_4K | SZ_2M | SZ_1G, false, false, false, true },
	{ "4K only", SZ_4K, false, false },
#ifdef MOCK_HAS_SINGLE_OPS
	{ "VT-d, page by page", SZ_4K | SZ_2M | SZ_1G, false, true },
	{ "AMD-Vi, page by page", ~0xfffUL, true, true },
	{ "4K only, page by page", SZ_4K, false, true },
#endif
};

/* For KUNIT_CASE_PARAM(): each flavour in turn. */
const void *mock_flavour_gen(const void *prev, char *desc)
{
	const struct mock_flavour *flavour = prev;

	flavour = flavour ? flavour + 1 : mock_flavours;
	if (flavour == mock_flavours + ARRAY_SIZE(mock_flavours))
		return NULL;
	strscpy(desc, flavour->name, KUNIT_PARAM_DESC_SIZE);
	return flavour;
}

static struct mock_iommu *to_mock(struct iommu_domain *domain)
{
	return container_of(domain, struct mock_iommu, domain);
}

static void violation(struct mock_iommu *mock, const char *what, u64 iova, u64 size)
{
	if (!mock->violation[0])
		snprintf(mock->violation, sizeof(mock->violation), "%s: iova %#llx size %#llx",
			 what, iova, size);
}

static struct mock_pte *pte_find(struct mock_iommu *mock, u64 iova)
{
	struct rb_node *node = mock->ptes.rb_node;

	while (node) {
		struct mock_pte *pte = rb_entry(node, struct mock_pte, node);

		if (iova < pte->iova)
			node = node->rb_left;
		else if (iova - pte->iova >= pte->size)
			node = node->rb_right;
		else
			return pte;
	}
	return NULL;
}

static bool pte_insert(struct mock_iommu *mock, struct mock_pte *new)
{
	struct rb_node **link = &mock->ptes.rb_node, *parent = NULL;

	while (*link) {
		struct mock_pte *pte = rb_entry(*link, struct mock_pte, node);

		parent = *link;
		if (new->iova + (new->size - 1) < pte->iova)
			link = &parent->rb_left;
		else if (new->iova > pte->iova + (pte->size - 1))
			link = &parent->rb_right;
		else
			return false;
	}
	rb_link_node(&new->node, parent, link);
	rb_insert_color(&new->node, &mock->ptes);
	mock->nr_ptes++;
	return true;
}

static void pte_erase(struct mock_iommu *mock, struct mock_pte *pte)
{
	rb_erase(&pte->node, &mock->ptes);
	mock->nr_ptes--;
}

/* Frames that nobody pins count as pinned. */
static bool pte_pinned(const struct mock_pte *pte)
{
	unsigned long pfn = PHYS_PFN(pte->phys), stop = pfn + (pte->size >> PAGE_SHIFT);

	for (; pfn < stop; pfn++) {
		struct page *page = pfn_to_page(pfn);

		if (!vfio_pfn_is_reserved(pfn) && !folio_maybe_dma_pinned(page_folio(page)))
			return false;
	}
	return true;
}

/* ---- page tables ---- */

/*
 * Only as VT-d does it, or AMD-Vi's v2: where pages are of any size, as with its v1, it frees
 * none when it unmaps, and flushes before it does when it maps.  No driver that is asked page
 * by page has any.
 */
static bool has_tables(const struct mock_iommu *mock)
{
	return mock->domain.pgsize_bitmap & SZ_4K && !(mock->domain.pgsize_bitmap & SZ_8K) &&
	       mock->domain.ops->unmap_pages;
}

/* Tables in the way of an IOPTE are freed at once, before any sync. */
static void tables_replace(struct mock_iommu *mock, unsigned int level, u64 iova, size_t size)
{
	struct mock_table *table;
	unsigned long at;

	xa_for_each_range(&mock->tables[level], at, table, iova >> table_shifts[level],
			  (iova + (size - 1)) >> table_shifts[level]) {
		violation(mock, "page table freed by a map", table->iova, table->size);
		kfree(xa_erase(&mock->tables[level], at));
	}
}

/* The tables that an IOPTE needs; those that are in its way go. */
static int tables_for(struct mock_iommu *mock, u64 iova, size_t size, gfp_t gfp)
{
	struct mock_table *table;
	unsigned int level;

	if (!has_tables(mock))
		return 0;
	for (level = 0; level < MOCK_LEVELS; level++) {
		const unsigned long at = iova >> table_shifts[level];

		if (size >> table_shifts[level]) {
			tables_replace(mock, level, iova, size);
			continue;
		}
		if (xa_load(&mock->tables[level], at))
			continue;
		table = kzalloc(sizeof(*table), gfp);
		if (!table)
			return -ENOMEM;
		table->iova = (u64)at << table_shifts[level];
		table->size = BIT_ULL(table_shifts[level]);
		if (xa_err(xa_store(&mock->tables[level], at, table, gfp))) {
			kfree(table);
			return -ENOMEM;
		}
	}
	return 0;
}

/* Tables of which a call unmaps all go out of the tree, and are freed with the next sync. */
static void tables_unlink(struct mock_iommu *mock, u64 iova, size_t size,
			  struct iommu_iotlb_gather *gather)
{
	const u64 last = iova + size - 1;
	struct mock_table *table;
	unsigned int level;
	unsigned long at;

	for (level = 0; level < MOCK_LEVELS; level++)
		xa_for_each_range(&mock->tables[level], at, table, iova >> table_shifts[level],
				  last >> table_shifts[level]) {
			if (table->iova < iova || table->iova + (table->size - 1) > last)
				continue;
			xa_erase(&mock->tables[level], at);
			list_add_tail(&table->unlinked, &mock->unlinked);
			list_add_tail(&table->freelist, vfio_compat_freelist(gather));
		}
}

static void tables_free(struct mock_iommu *mock, struct iommu_iotlb_gather *gather)
{
	struct mock_table *table, *next;

	list_for_each_entry_safe(table, next, vfio_compat_freelist(gather), freelist) {
		if (table->iova < gather->start || table->iova + (table->size - 1) > gather->end)
			violation(mock, "page table freed before its sync", table->iova,
				  table->size);
		list_del(&table->unlinked);
		list_del(&table->freelist);
		kfree(table);
		mock->nr_freed++;
	}
}

/* ---- operations ---- */

static int mock_map_pages(struct iommu_domain *domain, unsigned long iova, phys_addr_t phys,
			  size_t pgsize, size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{
	struct mock_iommu *mock = to_mock(domain);
	struct completion *gate = xchg(&mock->gate, NULL);
	size_t i, stop = pgcount;
	int ret = 0;

	mock->nr_map++;
	if (gate) {
		complete(&mock->entered);
		wait_for_completion(gate);
	}
	if (mock->fail_map && !--mock->fail_map) {
		stop = mock->hides ? DIV_ROUND_UP(pgcount, 2) : pgcount / 2;
		ret = -ENOMEM;
	}
	if (!(domain->pgsize_bitmap & pgsize) || (iova | phys) & (pgsize - 1))
		violation(mock, "no such IOPTE", iova, pgsize);

	for (i = 0; i < stop; i++) {
		struct mock_pte *pte = kzalloc(sizeof(*pte), gfp);

		if (!pte || tables_for(mock, iova + i * pgsize, pgsize, gfp)) {
			kfree(pte);
			ret = -ENOMEM;
			break;
		}
		pte->iova = iova + i * pgsize;
		pte->phys = phys + i * pgsize;
		pte->size = pgsize;
		pte->prot = prot;
		pte->pinned = pte_pinned(pte);
		if (!pte_insert(mock, pte)) {
			violation(mock, "mapped twice", pte->iova, pgsize);
			kfree(pte);
			ret = -EADDRINUSE;
			break;
		}
	}
	if (!ret || !mock->hides)
		*mapped += i * pgsize;
	return ret;
}

/* Unmapping must not allocate: the IOPTE itself goes to the stale list. */
static void mock_unmap_pte(struct mock_iommu *mock, struct mock_pte *pte,
			   struct iommu_iotlb_gather *gather)
{
	if (pte->pinned && !pte_pinned(pte))
		violation(mock, "unpinned while mapped", pte->iova, pte->size);
	pte_erase(mock, pte);
	list_add_tail(&pte->stale, &mock->stale);
	if (!has_tables(mock))
		iommu_iotlb_gather_add_range(gather, pte->iova, pte->size);
}

static size_t mock_unmap_pages(struct iommu_domain *domain, unsigned long iova, size_t pgsize,
			       size_t pgcount, struct iommu_iotlb_gather *gather)
{
	struct mock_iommu *mock = to_mock(domain);
	size_t size = pgsize * pgcount, unmapped = 0;

	mock->nr_unmap++;
	while (unmapped < size) {
		struct mock_pte *pte = pte_find(mock, iova + unmapped);

		if (!pte) {
			violation(mock, "unmap of a hole", iova + unmapped, size - unmapped);
			break;
		}
		if (pte->iova == mock->stuck)
			break;
		if (pte->iova != iova + unmapped)
			violation(mock, "unmap starts inside an IOPTE", iova, size);
		if (unmapped && pte->size > size - unmapped)
			violation(mock, "unmap ends inside an IOPTE", iova, size);
		unmapped += pte->size;
		mock_unmap_pte(mock, pte, gather);
	}
	/* In VT-d's order, and with its notion of a page: all of a call. */
	if (unmapped && has_tables(mock)) {
		if (!mock->keeps_tables)
			tables_unlink(mock, iova, unmapped, gather);
		iommu_iotlb_gather_add_page(domain, gather, iova, unmapped);
	}
	return unmapped;
}

static void mock_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather)
{
	struct mock_iommu *mock = to_mock(domain);
	struct mock_pte *pte, *next;

	mock->nr_sync++;
	if (mock->clean && PageDirty(mock->clean))
		violation(mock, "dirty before the IOTLB sync", gather->start, 0);
	list_for_each_entry_safe(pte, next, &mock->stale, stale) {
		/* Another caller's gather holds the others. */
		if (pte->iova < gather->start || pte->iova + (pte->size - 1) > gather->end)
			continue;
		if (pte->pinned && !pte_pinned(pte))
			violation(mock, "unpinned before the IOTLB sync", pte->iova, pte->size);
		list_del(&pte->stale);
		kfree(pte);
	}
	tables_free(mock, gather);
}

#ifdef MOCK_SYNC_MAP_IS_VOID
static void mock_sync_map(struct iommu_domain *domain, unsigned long iova, size_t size)
{
	to_mock(domain)->nr_sync_map++;
}
#else
static int mock_sync_map(struct iommu_domain *domain, unsigned long iova, size_t size)
{
	to_mock(domain)->nr_sync_map++;
	return 0;
}
#endif

static phys_addr_t mock_iova_to_phys(struct iommu_domain *domain, dma_addr_t iova)
{
	struct mock_iommu *mock = to_mock(domain);
	struct mock_pte *pte = pte_find(mock, iova);

	mock->nr_to_phys++;
	return pte ? pte->phys + (iova - pte->iova) : 0;
}

const struct iommu_domain_ops mock_iommu_ops = {
	.map_pages = mock_map_pages,
	.unmap_pages = mock_unmap_pages,
	.iotlb_sync = mock_sync,
	.iotlb_sync_map = mock_sync_map,
	.iova_to_phys = mock_iova_to_phys,
};

#ifdef MOCK_HAS_SINGLE_OPS
static int mock_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t phys,
		    size_t size, int prot, gfp_t gfp)
{
	size_t mapped = 0;

	return mock_map_pages(domain, iova, phys, size, 1, prot, gfp, &mapped);
}

static size_t mock_unmap(struct iommu_domain *domain, unsigned long iova, size_t size,
			 struct iommu_iotlb_gather *gather)
{
	return mock_unmap_pages(domain, iova, size, 1, gather);
}

static const struct iommu_domain_ops mock_single_ops = {
	.map = mock_map,
	.unmap = mock_unmap,
	.iotlb_sync = mock_sync,
	.iotlb_sync_map = mock_sync_map,
	.iova_to_phys = mock_iova_to_phys,
};
#else
static const struct iommu_domain_ops mock_single_ops;
#endif

/* Make an empty page table of zeroed memory; @domain is the caller's to fill in. */
void mock_iommu_init(struct mock_iommu *mock)
{
	unsigned int level;

	mock->ptes = RB_ROOT;
	INIT_LIST_HEAD(&mock->stale);
	for (level = 0; level < MOCK_LEVELS; level++)
		xa_init(&mock->tables[level]);
	INIT_LIST_HEAD(&mock->unlinked);
	init_completion(&mock->entered);
	mock->stuck = MOCK_NOT_STUCK;
}

void mock_iommu_fini(struct mock_iommu *mock)
{
	struct mock_table *table, *next_table;
	struct mock_pte *pte, *next;
	unsigned int level;
	unsigned long at;

	rbtree_postorder_for_each_entry_safe(pte, next, &mock->ptes, node)
		kfree(pte);
	list_for_each_entry_safe(pte, next, &mock->stale, stale)
		kfree(pte);
	list_for_each_entry_safe(table, next_table, &mock->unlinked, unlinked)
		kfree(table);
	for (level = 0; level < MOCK_LEVELS; level++) {
		xa_for_each(&mock->tables[level], at, table)
			kfree(table);
		xa_destroy(&mock->tables[level]);
	}
}

struct mock_iommu *mock_iommu_create(struct kunit *test, const struct mock_flavour *flavour)
{
	struct mock_iommu *mock = kzalloc(sizeof(*mock), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mock);
	mock_iommu_init(mock);
	mock->domain.type = IOMMU_DOMAIN_UNMANAGED;
	mock->domain.ops = flavour->single ? &mock_single_ops : &mock_iommu_ops;
	mock->domain.pgsize_bitmap = flavour->pgsize_bitmap;
	mock->hides = flavour->hides;
	mock->keeps_tables = flavour->keeps_tables;
	return mock;
}

void mock_iommu_destroy(struct mock_iommu *mock)
{
	mock_iommu_fini(mock);
	kfree(mock);
}

/* Forget the IOPTE at @iova, as hardware or a driver gone wrong might. */
void mock_iommu_lose(struct mock_iommu *mock, u64 iova)
{
	struct mock_pte *pte = pte_find(mock, iova);

	pte_erase(mock, pte);
	kfree(pte);
}

/* What the IOPTE at @iova allows; negative if there is none. */
int mock_iommu_prot(struct mock_iommu *mock, u64 iova)
{
	struct mock_pte *pte = pte_find(mock, iova);

	return pte ? pte->prot : -ENOENT;
}

void mock_iommu_expect_empty(struct kunit *test, struct mock_iommu *mock)
{
	KUNIT_EXPECT_STREQ(test, mock->violation, "");
	KUNIT_EXPECT_EQ_MSG(test, mock->nr_ptes, 0U, "IOPTEs are left");
	KUNIT_EXPECT_TRUE_MSG(test, list_empty(&mock->stale), "unmapped IOVA was not synced");
	KUNIT_EXPECT_TRUE_MSG(test, list_empty(&mock->unlinked), "page tables were not freed");
}

void mock_iommu_join(struct kunit *test, struct mock_iommu *mock, struct vfio_domain *domain,
		     struct vfio_type1_container *container)
{
	INIT_LIST_HEAD(&domain->groups);
	domain->domain = &mock->domain;
	vfio_tables_init(domain);
	KUNIT_ASSERT_EQ(test, 0, vfio_iova_reset(&container->iova, 0, U64_MAX));
	list_add_tail(&domain->next, &container->domains);
	container->pgsize_bitmap = PAGE_MASK & mock->domain.pgsize_bitmap;
}

void mock_iommu_release(struct vfio_type1_container *container)
{
	struct vfio_domain *domain;

	down_write(&container->lock);
	vfio_unmap_all(container);
	list_for_each_entry(domain, &container->domains, next)
		vfio_tables_destroy(domain);
	INIT_LIST_HEAD(&container->domains);
	up_write(&container->lock);
	/* The runner fails on a warning. */
	WARN_ON(container->tree.bytes || vfio_count_sum(container, VFIO_COUNT_LOCKED_PAGES));
	vfio_container_destroy(container);
}
