// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attach and detach of groups.
 *
 * A container has a list of IOMMU domains, each shared by the groups that can
 * share it, and every mapping is in every domain.  A group that cannot join a
 * domain gets a new one, and the mappings are replayed onto it.  The first
 * domain in the list is the primary; new ones are put behind it.
 *
 * Attach builds everything that the container will have afterwards, and changes
 * the container only when nothing can fail any more.
 */

#include <linux/iommu.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "compat/iommu.h"
#include "trace/vfio_trace.h"
#include "vfio_attach.h"
#include "vfio_cache.h"
#include "vfio_count.h"
#include "vfio_cut.h"
#include "vfio_dirty.h"
#include "vfio_dma_tree.h"
#include "vfio_domain.h"
#include "vfio_empty.h"
#include "vfio_fgsp.h"
#include "vfio_fill.h"
#include "vfio_group.h"
#include "vfio_iova.h"
#include "vfio_params.h"
#include "vfio_refuse.h"
#include "vfio_region.h"
#include "vfio_runs.h"
#include "vfio_tables.h"
#include "vfio_type1.h"
#include "vfio_unmap.h"

static void domain_free(struct vfio_domain *domain)
{
	iommu_domain_free(domain->domain);
	vfio_tables_destroy(domain);
	kfree(domain);
}

static int domain_alloc_for(struct device *dev, void *data)
{
	struct iommu_domain **domain = data;

	*domain = iommu_paging_domain_alloc(dev);
	return 1; /* any device of the group will do */
}

/* Make a domain that fits a group.  Return: the domain, or an ERR_PTR. */
static struct vfio_domain *domain_create(struct vfio_type1_container *container,
					 struct iommu_group *group)
{
	struct iommu_domain *iommu_domain = ERR_PTR(-ENODEV);
	struct vfio_domain *domain;
	int ret;

	iommu_group_for_each_dev(group, &iommu_domain, domain_alloc_for);
	if (IS_ERR(iommu_domain))
		return ERR_CAST(iommu_domain);
	ret = container->nesting ? iommu_enable_nesting(iommu_domain) : 0;
	domain = ret ? NULL : kzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);
	if (!domain) {
		iommu_domain_free(iommu_domain);
		return ERR_PTR(ret ?: -ENOMEM);
	}
	INIT_LIST_HEAD(&domain->groups);
	domain->domain = iommu_domain;
	vfio_tables_init(domain);
	return domain;
}

/* Are interrupts of this group isolated, or does the administrator not mind? */
static int group_check_msi(struct vfio_type1_container *container, struct iommu_group *group)
{
	if (iommu_group_has_isolated_msi(group) ||
	    READ_ONCE(vfio_type1_params.allow_unsafe_interrupts))
		return 0;
	vfio_refuse(container, VFIO_REFUSE_MSI,
		    "attach of group %d: no interrupt remapping, so a device could inject interrupts; module parameter allow_unsafe_interrupts=1 permits it",
		    iommu_group_id(group));
	return -EPERM;
}

/*
 * If MSIs are written through the IOMMU, reserve the doorbell's IOVA.  A real
 * MSI region makes the software-managed one unnecessary.
 */
static int domain_prepare_msi(struct vfio_domain *domain, struct iommu_group *group)
{
	struct iommu_resv_region *region;
	bool sw_msi = false, hw_msi = false;
	phys_addr_t base = 0;
	LIST_HEAD(regions);
	int ret;

	ret = iommu_get_group_resv_regions(group, &regions);
	list_for_each_entry(region, &regions, list) {
		hw_msi |= region->type == IOMMU_RESV_MSI;
		if (region->type == IOMMU_RESV_SW_MSI) {
			sw_msi = true;
			base = region->start;
		}
	}
	vfio_cut_free_regions(&regions);
	if (!ret && sw_msi && !hw_msi)
		ret = iommu_get_msi_cookie(domain->domain, base);
	return ret == -ENODEV ? 0 : ret;
}

/*
 * Move a group from its new domain to one that is there already, if they are
 * alike.  Return: 1 if it moved; 0 if not, and it is in @domain as before; an
 * errno if it is in neither.
 */
static int domain_try_join(struct vfio_type1_container *container, struct vfio_domain *domain,
			   struct vfio_group_entry *entry)
{
	struct vfio_domain *other;
	int ret;

	list_for_each_entry(other, &container->domains, next) {
		if (other->domain->ops != domain->domain->ops ||
		    other->coherent != domain->coherent)
			continue;
		iommu_detach_group(domain->domain, entry->group);
		if (!iommu_attach_group(other->domain, entry->group)) {
			list_move_tail(&entry->next, &other->groups);
			return 1;
		}
		ret = iommu_attach_group(domain->domain, entry->group);
		if (ret)
			return ret;
	}
	return 0;
}

static void container_set_iova(struct vfio_type1_container *container, struct vfio_iova_set *iova)
{
	swap(container->iova, *iova);
	vfio_iova_destroy(iova);
}

/* ---- replay ---- */

/*
 * Map a mapping's runs, its region's, or what the primary domain has, into a new domain.
 * What a failed map leaves there needs no vfio_domain_sweep(): the mappings hold on to
 * their pages, in the other domains, and cannot change until the caller has detached the
 * group from this domain and freed it.
 */
static int replay_copy(struct vfio_type1_container *container, struct vfio_domain *to,
		       const struct vfio_dma *dma)
{
	struct vfio_domain_piece piece = { .prot = dma->prot | IOMMU_CACHE };
	struct iommu_domain *from = vfio_container_primary(container)->domain;
	struct vfio_runs_iter iter;
	struct vfio_run run;
	unsigned long page;
	int ret;

	if (!dma->region)
		vfio_runs_begin(&dma->runs, &iter);
	else if (container->noncoherent)
		WRITE_ONCE(dma->region->flush, true);
	for (page = 0; page < dma->mapped; page += vfio_run_npages(run)) {
		u64 iova = dma->iova + ((u64)page << PAGE_SHIFT);

		if (fatal_signal_pending(current))
			return -EINTR;
		if (dma->region)
			run = vfio_region_mapping_run(dma, page);
		else if (!vfio_runs_next(&iter, &run))
			run = vfio_fgsp_chunk(from, iova, dma->mapped - page, dma->prot);
		if (!vfio_run_npages(run))
			return -EIO;
		if (!to->coherent)
			vfio_container_flush(container, &run, 1);
		piece.iova = iova;
		piece.phys = PFN_PHYS(vfio_run_pfn(run));
		piece.size = vfio_run_npages(run) << PAGE_SHIFT;
		ret = vfio_domain_map(container, to, &piece);
		if (ret) {
			vfio_refuse(container, VFIO_REFUSE_IOMMU,
				    "attach: the IOMMU refused the mapping 0x%llx-0x%llx at iova 0x%llx: error %d",
				    (u64)dma->iova, (u64)dma->last, iova, ret);
			return ret;
		}
		cond_resched();
	}
	return 0;
}

/*
 * Put all mappings into a new domain and the domain into the container.  With
 * the first domain the memory is pinned, for every further one IOPTEs are
 * copied.  What a MAP is filling has those pages that are in the others; the MAP will
 * start over, and need not have any.  On failure the pages that were pinned here are
 * unpinned again; what was copied goes away with the domain.
 */
static int container_add_domain(struct vfio_type1_container *container, struct vfio_domain *domain)
{
	bool first = !vfio_container_has_iommu(container);
	struct vfio_dma *dma;
	int ret = 0;

	container->generation++;
	if (first)
		list_add(&domain->next, &container->domains);
	for (dma = vfio_dma_tree_first(&container->tree, 0, U64_MAX); dma && !ret;
	     dma = vfio_dma_tree_next(dma)) {
		if (!first)
			ret = replay_copy(container, domain, dma);
		else if (dma->state != VFIO_DMA_PENDING)
			ret = vfio_fill_locked(container, dma);
	}
	if (!ret && !first)
		list_add_tail(&domain->next, &container->domains);
	if (ret && first) {
		vfio_empty_all(container);
		list_del(&domain->next);
	}
	vfio_container_forget_reach(container);
	return ret;
}

/* ---- attach ---- */

/* Tell why a group cannot be attached whose IOVA is not enough for mapping @dma, or any. */
static void attach_refuse_iova(struct vfio_type1_container *container,
			       const struct vfio_domain *domain, int group,
			       const struct vfio_dma *dma)
{
	struct vfio_cut_text cut;

	if (!dma) {
		vfio_refuse(container, VFIO_REFUSE_ATTACH,
			    "attach of group %d: its aperture and reserved regions, and those of other groups, leave no valid IOVA",
			    group);
		return;
	}
	vfio_cut_describe(container, domain, (struct vfio_iova_span) { dma->iova, dma->last },
			  &cut);
	vfio_refuse(container, VFIO_REFUSE_ATTACH,
		    "attach of group %d: no valid IOVA for the mapping 0x%llx-0x%llx (%s); unmap it first",
		    group, (u64)dma->iova, (u64)dma->last, cut.s);
}

static int cut_find_direct(const struct vfio_iova_cut *cut, void *data)
{
	*(struct vfio_iova_cut *)data = *cut;
	return cut->kind == VFIO_CUT_DIRECT;
}

/*
 * Tell why the IOMMU's driver refused a group, as far as that can be known: VT-d gives none to
 * user space whose memory firmware goes on using.
 */
static void attach_refuse_driver(struct vfio_type1_container *container,
				 struct iommu_group *group, int error)
{
	struct vfio_cut_text why = { "see the lines of its driver before this one" };
	struct vfio_iova_cut cut;

	if (error == -ENOMEM)
		strscpy(why.s, "no memory for its tables", sizeof(why.s));
	else if (error == -EBUSY)
		strscpy(why.s, "its devices are in another domain", sizeof(why.s));
	else if (error == -EPERM && vfio_cut_walk_group(group, cut_find_direct, &cut) > 0)
		snprintf(why.s, sizeof(why.s),
			 "firmware goes on using its direct region 0x%llx-0x%llx",
			 cut.range.first, cut.range.last);
	vfio_refuse(container, VFIO_REFUSE_ATTACH,
		    "attach of group %d: the IOMMU refused it: %s: error %d",
		    iommu_group_id(group), why.s, error);
}

/* May this group be attached at all, now? */
static int group_check_attach(struct vfio_type1_container *container, struct iommu_group *group)
{
	struct vfio_domain *domain;

	/* Memory may have to be pinned, whose address is not known. */
	if (container->tree.vaddr_invalid) {
		vfio_refuse(container, VFIO_REFUSE_ATTACH,
			    "attach of group %d: %u mappings wait for a new address (VFIO_DMA_MAP_FLAG_VADDR)",
			    iommu_group_id(group), container->tree.vaddr_invalid);
		return -EBUSY;
	}
	if (vfio_container_find_group(container, group, &domain)) {
		vfio_refuse(container, VFIO_REFUSE_ATTACH,
			    "attach of group %d: it is attached already", iommu_group_id(group));
		return -EINVAL;
	}
	return 0;
}

/**
 * vfio_container_attach_emulated() - let a group's drivers use a container's
 * mappings
 * @container: the container
 * @group: a group without an IOMMU, whose drivers pin what they use
 *
 * Context: may sleep; takes container->lock for writing.
 * Return: 0; -EBUSY while addresses are exchanged; -EINVAL if the group is
 * attached already; -ENOMEM.
 */
int vfio_container_attach_emulated(struct vfio_type1_container *container,
				   struct iommu_group *group)
{
	struct vfio_group_entry *entry = kzalloc(sizeof(*entry), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!entry)
		return -ENOMEM;
	entry->group = group;
	entry->pins_only = true;

	down_write(&container->lock);
	ret = group_check_attach(container, group);
	if (!ret)
		list_add_tail(&entry->next, &container->emulated);
	up_write(&container->lock);
	if (ret)
		kfree(entry);
	return ret;
}

/**
 * vfio_container_attach() - let a group's devices use a container's mappings
 * @container: the container
 * @group: the group, behind a real IOMMU
 *
 * Context: may sleep; takes container->lock for writing.
 * Return: 0; -EBUSY while addresses are exchanged, or if the group's devices are
 * in use; -EINVAL if the group is attached already, has no page size in common
 * with the others, or a mapping lies outside of what is valid for it; -EPERM
 * without MSI isolation; -ENOMEM; -EINTR on a
 * fatal signal; whatever the IOMMU says.  On failure the container is unchanged.
 */
int vfio_container_attach(struct vfio_type1_container *container, struct iommu_group *group)
{
	struct vfio_group_entry *entry;
	struct vfio_iova_set iova;
	struct vfio_domain *domain;
	struct vfio_dma *dma;
	int ret;

	entry = kzalloc(sizeof(*entry), GFP_KERNEL_ACCOUNT);
	if (!entry)
		return -ENOMEM;
	entry->group = group;
	vfio_iova_init(&iova);

	/*
	 * No MAP calls the IOMMU meanwhile: VT-d's driver changes flags of a domain, which
	 * share a byte, when the first page is mapped and when a device is attached.
	 */
	down_write(&container->lock);
	ret = group_check_attach(container, group);
	if (ret)
		goto unlock;

	domain = domain_create(container, group);
	if (IS_ERR(domain)) {
		ret = PTR_ERR(domain);
		vfio_refuse(container, VFIO_REFUSE_ATTACH,
			    "attach of group %d: the IOMMU gives no domain for it: error %d",
			    iommu_group_id(group), ret);
		goto unlock;
	}
	ret = iommu_attach_group(domain->domain, group);
	if (ret)
		goto refused;
	list_add(&entry->next, &domain->groups);

	ret = vfio_cut_build_iova(container, &iova, domain);
	if (ret)
		goto detach;
	ret = -EINVAL;
	dma = vfio_cut_find_conflict(container, &iova);
	if (!iova.nr || dma) {
		attach_refuse_iova(container, domain, iommu_group_id(group), dma);
		goto detach;
	}

	ret = group_check_msi(container, group);
	if (ret)
		goto detach;

	/*
	 * KVM relies on it for skipping WBINVD, and VT-d can only do it before
	 * the domain has a mapping: also before the probe's.
	 */
	if (domain->domain->ops->enforce_cache_coherency)
		domain->coherent = domain->domain->ops->enforce_cache_coherency(domain->domain);

	/* For good: what it reached is flushed before it is unpinned, if that is later, too. */
	if (!domain->coherent && vfio_cache_can_flush)
		container->noncoherent = true;

	ret = domain_try_join(container, domain, entry);
	if (ret < 0)
		goto refused;
	if (ret) {
		domain_free(domain);
	} else {
		ret = -EINVAL;
		if (!vfio_container_common_pgsizes(container, domain)) {
			vfio_refuse(container, VFIO_REFUSE_ATTACH,
				    "attach of group %d: its page sizes 0x%lx have none in common with 0x%lx",
				    iommu_group_id(group), domain->domain->pgsize_bitmap,
				    container->pgsize_bitmap);
			goto detach;
		}
		vfio_fgsp_probe(domain, &iova);
		trace_fgsp(container, iommu_group_id(group), domain->fgsp);
		ret = domain_prepare_msi(domain, group) ?: container_add_domain(container, domain);
		if (ret) {
			vfio_refuse(container, VFIO_REFUSE_ATTACH,
				    "attach of group %d: its MSI window or the mappings could not be put into its domain: error %d",
				    iommu_group_id(group), ret);
			goto detach;
		}
		WRITE_ONCE(container->pgsize_bitmap,
			   vfio_container_common_pgsizes(container, NULL));
	}
	container_set_iova(container, &iova);
	container->generation++;
	container->dirty_groups++;
	up_write(&container->lock);
	return 0;

refused:
	attach_refuse_driver(container, group, ret);
	goto free;
detach:
	iommu_detach_group(domain->domain, group);
free:
	domain_free(domain);
unlock:
	up_write(&container->lock);
	vfio_iova_destroy(&iova);
	kfree(entry);
	return ret;
}

/* ---- detach ---- */

/*
 * The last group, @group, has left, and takes all mappings along. A process that goes on may
 * not know; one that ends has no more use for them.
 */
static void container_lose_all(struct vfio_type1_container *container, struct iommu_group *group)
{
	unsigned long nr = vfio_unmap_all(container);

	if (!nr || current->flags & PF_EXITING)
		return;
	vfio_count_lost(nr);
	vfio_refuse(container, VFIO_REFUSE_LAST_GROUP,
		    "detach of group %d: it was the last one: %lu mappings removed",
		    iommu_group_id(group), nr);
}

/* The last group of a domain, @group, has left. */
static void container_remove_domain(struct vfio_type1_container *container,
				    struct vfio_domain *domain, struct iommu_group *group)
{
	/* In-kernel users keep the mappings; without them nobody uses any. */
	if (list_is_singular(&container->domains)) {
		if (list_empty(&container->emulated))
			container_lose_all(container, group);
		else
			vfio_empty_all(container);
	}
	list_del(&domain->next);
	domain_free(domain);
	WRITE_ONCE(container->pgsize_bitmap, vfio_container_common_pgsizes(container, NULL));
}

/**
 * vfio_container_detach() - take a group out of a container
 * @container: the container
 * @group: the group
 *
 * With the last group all mappings go.  Never fails: if there is no memory for
 * the new valid ranges, the old ones, which are a part of them, stay.
 *
 * Context: may sleep; takes container->lock for writing.
 */
void vfio_container_detach(struct vfio_type1_container *container, struct iommu_group *group)
{
	struct vfio_group_entry *entry;
	struct vfio_iova_set iova;
	struct vfio_domain *domain;

	vfio_iova_init(&iova);
	down_write(&container->lock);
	entry = vfio_container_find_group(container, group, &domain);
	if (!entry)
		goto unlock;

	list_del(&entry->next);
	container->generation++;
	if (domain) {
		iommu_detach_group(domain->domain, group);
		if (list_empty(&domain->groups))
			container_remove_domain(container, domain, group);
		if (!vfio_cut_build_iova(container, &iova, NULL))
			container_set_iova(container, &iova);
	} else if (list_empty(&container->emulated) && !vfio_container_has_iommu(container)) {
		container_lose_all(container, group);
	}
	if (!entry->pins_only) {
		/* What it wrote before it left is dirty, whatever the others do. */
		container->dirty_groups--;
		if (container->dirty_tracking)
			vfio_dirty_mark_all(container);
	}
	kfree(entry);
unlock:
	up_write(&container->lock);
	vfio_iova_destroy(&iova);
}

/**
 * vfio_container_detach_all() - take all groups out of a container
 * @container: a container without mappings
 *
 * Context: may sleep; container->lock held for write.
 */
void vfio_container_detach_all(struct vfio_type1_container *container)
{
	struct vfio_group_entry *entry, *next_entry;
	struct vfio_domain *domain, *next;

	list_for_each_entry_safe(entry, next_entry, &container->emulated, next)
		kfree(entry);
	INIT_LIST_HEAD(&container->emulated);
	list_for_each_entry_safe(domain, next, &container->domains, next) {
		list_for_each_entry_safe(entry, next_entry, &domain->groups, next) {
			iommu_detach_group(domain->domain, entry->group);
			kfree(entry);
		}
		domain_free(domain);
	}
	INIT_LIST_HEAD(&container->domains);
}
