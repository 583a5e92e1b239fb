// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which page tables a domain may have, so that no superpage is mapped where one is.
 *
 * A table stays behind, empty, where no single call of unmap covered all that it
 * translates.  If a superpage comes there, VT-d before 7.0, and AMD-Vi with v2 tables
 * before 7.0, free the table and flush afterwards: in between the IOMMU may walk it.  A
 * table that gets small IOPTEs again is just used.  So it is known, for each 2 MiB of
 * IOVA, whether there may be a table of 4K IOPTEs, and for each GiB, whether there may be
 * one of 2M IOPTEs; and a run that a driver would map with a superpage there is mapped in
 * two calls, cut in the middle of that superpage, so that none fits.
 *
 * A table is noted before a map that may need it, where memory may be short, and is
 * forgotten when a call of unmap that covers all it translates gave the driver tables to
 * free: VT-d's frees all of those, AMD-Vi's v2 none.  One that is noted and not there
 * costs a superpage; one that is there and not noted there must not be.
 *
 * Who maps or unmaps IOVA owns them, all that a superpage would cover as well as all that
 * a call of unmap covers: so nobody else notes, looks for, or forgets a table there
 * meanwhile.  Neighbours may change other bits of the same bitmap.
 */

#include <linux/bitmap.h>
#include <linux/iommu.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

#include "vfio_domain.h"
#include "vfio_tables.h"

/* Tables of 4K IOPTEs below one of 2M IOPTEs, which translates a GiB. */
#define GIB_TABLES	(SZ_1G / VFIO_TABLE_BYTES)

static u64 gib_of(u64 iova)
{
	return iova / SZ_1G;
}

static unsigned int table_of(u64 iova)
{
	return iova / VFIO_TABLE_BYTES % GIB_TABLES;
}

/* Bytes from @iova on, @size at most, to the end of its GiB. */
static size_t within_gib(u64 iova, size_t size)
{
	return min_t(u64, size, SZ_1G - (iova & (SZ_1G - 1)));
}

/* The part of a stretch that all of a number of tables translate, which begins at @head. */
static size_t whole_tables(u64 iova, size_t size, size_t *head)
{
	*head = -iova & (VFIO_TABLE_BYTES - 1);
	return size < *head ? 0 : round_down(size - *head, VFIO_TABLE_BYTES);
}

/* The bitmap of a GiB that has a table of 2M IOPTEs, or gets one; NULL without memory. */
static unsigned long *gib_note(struct vfio_domain *domain, u64 gib)
{
	unsigned long *tables = xa_load(&domain->tables, gib), *other;

	if (likely(tables))
		return tables;
	tables = bitmap_zalloc(GIB_TABLES, GFP_KERNEL_ACCOUNT);
	if (!tables)
		return NULL;
	other = xa_cmpxchg(&domain->tables, gib, NULL, tables, GFP_KERNEL_ACCOUNT);
	if (!other)
		return tables;
	bitmap_free(tables);
	return xa_is_err(other) ? NULL : other;
}

/**
 * vfio_tables_init() - a new domain has no tables
 * @domain: the domain
 *
 * Context: any.
 */
void vfio_tables_init(struct vfio_domain *domain)
{
	xa_init_flags(&domain->tables, XA_FLAGS_ACCOUNT);
}

/**
 * vfio_tables_destroy() - forget the tables of a domain
 * @domain: the domain, which nobody maps into any more
 *
 * Context: may sleep.
 */
void vfio_tables_destroy(struct vfio_domain *domain)
{
	unsigned long gib;
	void *tables;

	xa_for_each(&domain->tables, gib, tables)
		bitmap_free(tables);
	xa_destroy(&domain->tables);
}

/**
 * vfio_tables_note_small() - the driver is about to use 4K IOPTEs
 * @domain: a domain that vfio_tables_matter() for
 * @iova: first byte
 * @size: bytes
 *
 * Context: may sleep; the caller owns the IOVA.
 * Return: 0; -ENOMEM.
 */
int vfio_tables_note_small(struct vfio_domain *domain, u64 iova, size_t size)
{
	unsigned long *tables;
	unsigned int table, last;
	size_t part;

	for (; size; size -= part, iova += part) {
		part = within_gib(iova, size);
		tables = gib_note(domain, gib_of(iova));
		if (!tables)
			return -ENOMEM;
		last = table_of(iova + part - 1);
		for (table = table_of(iova); table <= last; table++)
			if (!test_bit(table, tables))
				set_bit(table, tables);
	}
	return 0;
}

/* Does a superpage of 1 GiB, which needs no table, fit in there? */
static bool is_gib(const struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t part)
{
	return part == SZ_1G && domain->domain->pgsize_bitmap & SZ_1G &&
	       !((iova ^ phys) & (SZ_1G - 1));
}

/* The part of a stretch that the driver maps with superpages, which begins at @head. */
static size_t superpages(u64 iova, phys_addr_t phys, size_t size, size_t *head)
{
	size_t whole = whole_tables(iova, size, head);

	return (iova ^ phys) & (VFIO_TABLE_BYTES - 1) ? 0 : whole;
}

/**
 * vfio_tables_note() - the driver is about to map something
 * @domain: a domain that vfio_tables_matter() for
 * @iova: first byte
 * @phys: where it points
 * @size: bytes, contiguous
 *
 * Context: may sleep; the caller owns the IOVA.
 * Return: 0; -ENOMEM.
 */
int vfio_tables_note(struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t size)
{
	size_t head, part, super = superpages(iova, phys, size, &head);
	int ret;

	if (!super)
		return vfio_tables_note_small(domain, iova, size);
	ret = vfio_tables_note_small(domain, iova, head);
	for (iova += head, phys += head, size -= head; !ret && super; super -= part) {
		part = within_gib(iova, super);
		if (!is_gib(domain, iova, phys, part) && !gib_note(domain, gib_of(iova)))
			ret = -ENOMEM;
		iova += part;
		phys += part;
		size -= part;
	}
	return ret ?: vfio_tables_note_small(domain, iova, size);
}

/**
 * vfio_tables_cut() - up to where no superpage comes where a table is
 * @domain: a domain that vfio_tables_matter() for
 * @iova: first byte
 * @phys: where it is to point
 * @size: bytes, contiguous, of which the driver's tables have been noted
 *
 * Context: may sleep; the caller owns the IOVA.
 * Return: bytes that may be given to iommu_map(); @size mostly.
 */
size_t vfio_tables_cut(struct vfio_domain *domain, u64 iova, phys_addr_t phys, size_t size)
{
	size_t done, part, super = superpages(iova, phys, size, &done);
	unsigned int first, end, table;
	unsigned long *tables;

	for (; super; super -= part, done += part) {
		part = within_gib(iova + done, super);
		tables = xa_load(&domain->tables, gib_of(iova + done));
		if (!tables)
			continue;
		first = table_of(iova + done);
		end = first + part / VFIO_TABLE_BYTES;
		table = find_next_bit(tables, end, first);
		if (table < end)
			return done + (table - first) * VFIO_TABLE_BYTES + VFIO_TABLE_BYTES / 2;
		if (is_gib(domain, iova + done, phys + done, part))
			return done + SZ_1G / 2;
	}
	return size;
}

/**
 * vfio_tables_freed() - a call of unmap made the driver free tables
 * @domain: the domain
 * @iova: first byte that the call unmapped
 * @size: bytes
 *
 * Context: may sleep; the caller owns the IOVA.
 */
void vfio_tables_freed(struct vfio_domain *domain, u64 iova, size_t size)
{
	unsigned int table, end;
	unsigned long *tables;
	size_t head, part, left = whole_tables(iova, size, &head);

	for (iova += head; left; left -= part, iova += part) {
		part = within_gib(iova, left);
		if (part == SZ_1G) {
			bitmap_free(xa_erase(&domain->tables, gib_of(iova)));
			continue;
		}
		tables = xa_load(&domain->tables, gib_of(iova));
		if (!tables)
			continue;
		table = table_of(iova);
		for (end = table + part / VFIO_TABLE_BYTES; table < end; table++)
			clear_bit(table, tables);
	}
}
