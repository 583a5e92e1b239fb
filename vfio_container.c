// SPDX-License-Identifier: GPL-2.0-only
/*
 * Containers: open and release, attach and detach of groups, domains.
 *
 * A container has a list of IOMMU domains, each shared by the groups that can
 * share it, and every mapping is in every domain.  A group that cannot join a
 * domain gets a new one, and the mappings are replayed onto it.  The first
 * domain in the list is the primary; new ones are put behind it.
 *
 * Attach builds everything that the container will have afterwards, and changes
 * the container only when nothing can fail any more.
 *
 * The VFIO core does not keep a pointer to a container, but its number.  The core reads
 * what it keeps without a lock, in each ioctl: it may be about to call us with what it
 * read before the container was released, or with the driver that it has stored already
 * and the data that it has not (vfio_fops_unl_ioctl() in drivers/vfio/container.c, up to
 * 7.3).  A reference that is taken at the entry comes too late for a pointer; a number is
 * looked up.  Numbers count up and are 64 bits wide, so that none is ever used again while
 * somebody could still hold it, however long he was stopped.
 */

#include <linux/hashtable.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <uapi/linux/vfio.h>

#include "trace/vfio_trace.h"
#include "vfio_type1.h"

/* What a page table of the smallest depth in use reaches: three levels. */
#define TABLE_LAST_MIN	(BIT_ULL(39) - 1)

static atomic64_t last_id = ATOMIC64_INIT(0);

/*
 * The containers that were not released, by number; each has a group, so that there are
 * not many.  What is not there, or has no reference left, can't be found; what was found
 * under RCU stays for a grace period.
 */
static DEFINE_HASHTABLE(containers, 6);
static DEFINE_SPINLOCK(containers_lock);

static void container_publish(struct vfio_type1_container *container)
{
	spin_lock(&containers_lock);
	hash_add_rcu(containers, &container->published, container->id);
	spin_unlock(&containers_lock);
}

static void container_unpublish(struct vfio_type1_container *container)
{
	spin_lock(&containers_lock);
	hash_del_rcu(&container->published);
	spin_unlock(&containers_lock);
}

/**
 * vfio_container_create() - make a container
 * @v2: VFIO_TYPE1v2_IOMMU semantics
 * @nesting: ask for nested translation in each domain
 * @strict: only registered memory can be mapped
 *
 * Return: the container, or an ERR_PTR with -ENOMEM.
 */
struct vfio_type1_container *vfio_container_create(bool v2, bool nesting, bool strict)
{
	struct vfio_type1_container *container = kzalloc(sizeof(*container), GFP_KERNEL_ACCOUNT);

	if (!container)
		return ERR_PTR(-ENOMEM);
	kref_init(&container->users);
	init_rwsem(&container->lock);
	INIT_LIST_HEAD(&container->domains);
	INIT_LIST_HEAD(&container->emulated);
	INIT_LIST_HEAD(&container->devices);
	mutex_init(&container->external_lock);
	mutex_init(&container->device_lock);
	vfio_iova_init(&container->iova);
	container->pgsize_bitmap = PAGE_MASK;
	container->table_last = TABLE_LAST_MIN;
	container->entry_limit = READ_ONCE(vfio_type1_params.dma_entry_limit);
	container->evict_waits = VFIO_EVICT_WAITS;
	vfio_dma_tree_init(&container->tree, container->entry_limit);
	vfio_refuse_init(container);
	container->v2 = v2;
	container->nesting = nesting;
	container->strict = strict;
	container->id = atomic64_inc_return(&last_id);
	container->opener_pid = current->tgid;
	get_task_comm(container->opener_comm, current->group_leader);
	container->opened = vfio_clock();
	container->opened_ns = ktime_get_ns();
	/* A kernel thread has no memory to register. */
	if (current->mm && vfio_registry_join(container))
		goto free;
	if (vfio_debugfs_add(container)) {
		vfio_registry_leave(container);
		goto free;
	}
	/* A call may outlast the core's interest in the container, and its reference. */
	__module_get(THIS_MODULE);
	container_publish(container);
	return container;

free:
	kfree(container);
	return ERR_PTR(-ENOMEM);
}

/**
 * vfio_container_get() - find a container by its number, and take a reference
 * @id: any number
 *
 * Context: any.
 * Return: the container, for vfio_container_put(); it may be closed at any time.  NULL if
 * there is none of this number, or it was released.
 */
struct vfio_type1_container *vfio_container_get(u64 id)
{
	struct vfio_type1_container *container, *found = NULL;

	rcu_read_lock();
	hash_for_each_possible_rcu(containers, container, published, id) {
		if (container->id == id && kref_get_unless_zero(&container->users)) {
			found = container;
			break;
		}
	}
	rcu_read_unlock();
	return found;
}

/**
 * vfio_container_ns() - how long is that?
 * @container: a container, whose age is known in cycles and in nanoseconds
 * @cycles: from vfio_clock_since()
 *
 * Return: nanoseconds; 0 on a machine whose counter stands still.
 */
u64 vfio_container_ns(const struct vfio_type1_container *container, u64 cycles)
{
	u64 age = vfio_clock_since(container->opened);
	u64 age_ns = ktime_get_ns() - container->opened_ns;
	int excess = max(fls64(age_ns) - 32, 0);

	age >>= excess;
	age_ns >>= excess;
	return age ? mul_u64_u64_shr(cycles, div64_u64(age_ns << 32, age), 32) : 0;
}

static void domain_free(struct vfio_domain *domain)
{
	iommu_domain_free(domain->domain);
	vfio_tables_destroy(domain);
	kfree(domain);
}

static void container_free(struct kref *users)
{
	struct vfio_type1_container *container =
		container_of(users, struct vfio_type1_container, users);
	void *spare;

	while ((spare = vfio_spares_take(&container->map_scratch)))
		kvfree(spare);
	while ((spare = vfio_spares_take(&container->window_runs)))
		kvfree(spare);
	vfio_iova_destroy(&container->iova);
	free_percpu(container->counters);
	/* Somebody may be looking at @users. */
	kfree_rcu(container, rcu);
	/*
	 * Last, and only once: the core's own reference may be gone since it released the
	 * container.  There is some way to go from here out of the module, on which nobody
	 * sleeps: see type1_exit().
	 */
	module_put(THIS_MODULE);
}

/**
 * vfio_container_put() - let go of a container
 * @container: the container, freed by its last user
 */
void vfio_container_put(struct vfio_type1_container *container)
{
	kref_put(&container->users, container_free);
}

/**
 * vfio_container_destroy() - remove all mappings, domains and groups
 * @container: the container; calls still under way find it empty and closed, and new ones
 *	do not find it
 *
 * Context: may sleep; takes container->lock for writing.
 */
void vfio_container_destroy(struct vfio_type1_container *container)
{
	struct vfio_group_entry *entry, *next_entry;
	struct vfio_domain *domain, *next;

	container_unpublish(container);
	vfio_debugfs_remove(container);
	down_write(&container->lock);
	container->closed = true;
	container->generation++;
	vfio_unmap_all(container);
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
	vfio_registry_leave(container);
	up_write(&container->lock);
	vfio_container_put(container);
}

/**
 * vfio_container_coherent() - do all domains enforce cache coherency?
 * @container: the container
 *
 * Context: takes container->lock.
 * Return: true also if there is no domain.
 */
bool vfio_container_coherent(struct vfio_type1_container *container)
{
	struct vfio_domain *domain;
	bool coherent = true;

	down_read(&container->lock);
	list_for_each_entry(domain, &container->domains, next)
		coherent &= domain->coherent;
	up_read(&container->lock);
	return coherent;
}

/* ---- page table depth ---- */

/*
 * Let every domain's page table reach @last, by mapping the page there for a
 * moment.  Only needed for IOVA that is valid and where nothing is mapped; anything else
 * fails later anyway.
 */
static int container_grow_tables(struct vfio_type1_container *container, u64 last)
{
	u64 iova = last & PAGE_MASK;
	struct vfio_dma *dma = vfio_dma_tree_first(&container->tree, iova, last);
	struct vfio_domain *domain;
	unsigned int bits;
	int ret;

	/* What is mapped there is within reach; what a MAP has yet to map need not be. */
	if (dma && (iova - dma->iova) >> PAGE_SHIFT < dma->mapped)
		return 0;
	if (!vfio_iova_contains(&container->iova, iova, last) ||
	    !(container->pgsize_bitmap & PAGE_SIZE))
		return 0;
	list_for_each_entry(domain, &container->domains, next) {
		ret = vfio_domain_map(container, domain, iova, page_to_phys(ZERO_PAGE(0)),
				      PAGE_SIZE, IOMMU_READ | IOMMU_CACHE);
		if (!ret) {
			vfio_count(container, VFIO_COUNT_IOMMU_UNMAPS, 1);
			if (iommu_unmap(domain->domain, iova, PAGE_SIZE) != PAGE_SIZE)
				ret = -EIO;
		}
		if (ret) {
			vfio_domain_sweep(domain->domain, iova, PAGE_SIZE);
			return ret;
		}
	}
	/* Each level adds nine bits to the twelve of a page. */
	bits = roundup(fls64(last) - 12, 9) + 12;
	container->table_last = bits < 64 ? BIT_ULL(bits) - 1 : U64_MAX;
	return 0;
}

/**
 * vfio_container_lock_reach() - lock a container in order to map into it
 * @container: the container
 * @last: highest IOVA that will be mapped, not validated yet
 *
 * AMD-Vi's v1 page table grows a level when an IOVA above its reach is mapped.
 * Before "iommu/amd/pgtbl: Fix possible race while increase page table level"
 * (6.17, and some releases of older series), a walk that runs at the same time
 * may combine the old root with the new level.  So tables are made to reach @last
 * while nobody else walks them.
 *
 * Context: may sleep; takes container->lock for reading, unless it fails.
 * Return: 0; -ENODEV if the container was closed; whatever iommu_map() says.
 */
int vfio_container_lock_reach(struct vfio_type1_container *container, u64 last)
{
	int ret = 0;

	down_read(&container->lock);
	if (last > container->table_last) {
		up_read(&container->lock);
		down_write(&container->lock);
		if (last > container->table_last)
			ret = container_grow_tables(container, last);
		if (ret)
			vfio_refuse(container, VFIO_REFUSE_IOMMU,
				    "MAP_DMA up to iova 0x%llx: the IOMMU's page table does not reach it: error %d",
				    last, ret);
		downgrade_write(&container->lock);
	}
	if (container->closed)
		ret = -ENODEV;
	if (ret)
		up_read(&container->lock);
	return ret;
}

/* ---- what follows from the domains and groups ---- */

/*
 * Page sizes that all domains have, and @extra, if not NULL, which is not in the
 * list yet.  Sizes below PAGE_SIZE are hidden behind PAGE_SIZE: memory is pinned by
 * pages, and a page can be mapped by any of them.
 */
static unsigned long container_common_pgsizes(struct vfio_type1_container *container,
					      const struct vfio_domain *extra)
{
	unsigned long pgsizes = extra ? extra->domain->pgsize_bitmap : ULONG_MAX;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &container->domains, next)
		pgsizes &= domain->domain->pgsize_bitmap;
	if (pgsizes & ~PAGE_MASK)
		pgsizes = (pgsizes & PAGE_MASK) | PAGE_SIZE;
	return pgsizes;
}

static void resv_free(struct list_head *regions)
{
	struct iommu_resv_region *region, *next;

	list_for_each_entry_safe(region, next, regions, list)
		kfree(region);
	INIT_LIST_HEAD(regions);
}

/* What people call each kind of cut. */
const char *const vfio_cut_names[] = {
	[VFIO_CUT_APERTURE] = "outside the aperture",
	[VFIO_CUT_DIRECT] = "direct region",
	[VFIO_CUT_RESERVED] = "reserved region",
	[VFIO_CUT_MSI] = "MSI window",
	[VFIO_CUT_SW_MSI] = "software MSI window",
};

/* Tell @fn of a reserved region, if it is one that nothing may be mapped in. */
static int cut_tell_region(const struct iommu_resv_region *region, int group,
			   vfio_cut_fn_t fn, void *data)
{
	struct vfio_iova_cut cut = {
		.range = { region->start, region->start + region->length - 1 },
		.nr = group,
	};

	switch (region->type) {
	case IOMMU_RESV_DIRECT_RELAXABLE:
		/* Firmware used these before the driver took over; they may be remapped. */
		return 0;
	case IOMMU_RESV_DIRECT:
		cut.kind = VFIO_CUT_DIRECT;
		break;
	case IOMMU_RESV_MSI:
		cut.kind = VFIO_CUT_MSI;
		break;
	case IOMMU_RESV_SW_MSI:
		cut.kind = VFIO_CUT_SW_MSI;
		break;
	default:
		cut.kind = VFIO_CUT_RESERVED;
	}
	return region->length ? fn(&cut, data) : 0;
}

/* Tell @fn what one group cuts. */
static int group_walk_cuts(struct iommu_group *group, vfio_cut_fn_t fn, void *data)
{
	struct iommu_resv_region *region;
	LIST_HEAD(regions);
	int ret = iommu_get_group_resv_regions(group, &regions);

	list_for_each_entry(region, &regions, list)
		ret = ret ?: cut_tell_region(region, iommu_group_id(group), fn, data);
	resv_free(&regions);
	return ret;
}

/* Tell @fn what domain number @nr and its groups cut. */
static int domain_walk_cuts(const struct vfio_domain *domain, int nr, vfio_cut_fn_t fn,
			    void *data)
{
	const struct iommu_domain_geometry *geometry = &domain->domain->geometry;
	struct vfio_iova_cut cut = { .kind = VFIO_CUT_APERTURE, .nr = nr };
	struct vfio_group_entry *entry;
	int ret = 0;

	if (geometry->aperture_start) {
		cut.range = (struct vfio_iova_span) { 0, geometry->aperture_start - 1 };
		ret = fn(&cut, data);
	}
	if (geometry->aperture_end < U64_MAX) {
		cut.range = (struct vfio_iova_span) { geometry->aperture_end + 1, U64_MAX };
		ret = ret ?: fn(&cut, data);
	}
	list_for_each_entry(entry, &domain->groups, next)
		ret = ret ?: group_walk_cuts(entry->group, fn, data);
	return ret;
}

/* The same for all domains, and for @extra, if not NULL, which is not in the list yet. */
static int container_walk_cuts(struct vfio_type1_container *container,
			       const struct vfio_domain *extra, vfio_cut_fn_t fn, void *data)
{
	struct vfio_domain *domain;
	int nr = 0, ret = 0;

	list_for_each_entry(domain, &container->domains, next)
		ret = ret ?: domain_walk_cuts(domain, nr++, fn, data);
	if (extra)
		ret = ret ?: domain_walk_cuts(extra, nr, fn, data);
	return ret;
}

/**
 * vfio_container_walk_cuts() - what makes IOVA invalid, piece by piece
 * @container: the container
 * @fn: called for each piece, in no order, and possibly for overlapping ones; by
 *	returning other than 0 it ends the walk
 * @data: for @fn
 *
 * What is valid is all IOVA without these pieces.
 *
 * Context: may sleep; container->lock held.
 * Return: 0; -ENOMEM; whatever @fn returned.
 */
int vfio_container_walk_cuts(struct vfio_type1_container *container, vfio_cut_fn_t fn,
			     void *data)
{
	return container_walk_cuts(container, NULL, fn, data);
}

/* The lowest piece so far that a range touches. */
struct cut_search {
	struct vfio_iova_span range;
	struct vfio_iova_cut lowest;
	bool found;
};

static int cut_compare(const struct vfio_iova_cut *cut, void *data)
{
	struct cut_search *search = data;

	if (cut->range.first > search->range.last || cut->range.last < search->range.first ||
	    (search->found && cut->range.first >= search->lowest.range.first))
		return 0;
	search->lowest = *cut;
	search->found = true;
	return 0;
}

/* Describe the lowest piece that makes a range invalid; for @extra see above. */
static void cut_describe(struct vfio_type1_container *container, const struct vfio_domain *extra,
			 u64 first, u64 last, struct vfio_cut_text *text)
{
	struct cut_search search = { .range = { first, last } };
	const struct vfio_iova_cut *cut = &search.lowest;

	container_walk_cuts(container, extra, cut_compare, &search);
	if (search.found)
		snprintf(text->s, sizeof(text->s), "%s of %s %d: 0x%llx-0x%llx",
			 vfio_cut_names[cut->kind],
			 cut->kind == VFIO_CUT_APERTURE ? "domain" : "group", cut->nr,
			 cut->range.first, cut->range.last);
	else
		strscpy(text->s, "unknown, memory is short", sizeof(text->s));
}

/**
 * vfio_container_describe_cut() - say what makes a range invalid
 * @container: the container
 * @first: first byte of the range
 * @last: last byte of the range
 * @text: set to what it is, whose, and where
 *
 * Context: may sleep; container->lock held.
 */
void vfio_container_describe_cut(struct vfio_type1_container *container, u64 first, u64 last,
				 struct vfio_cut_text *text)
{
	cut_describe(container, NULL, first, last, text);
}

static int iova_take_out(const struct vfio_iova_cut *cut, void *data)
{
	return vfio_iova_exclude(data, cut->range.first, cut->range.last);
}

/*
 * Build the ranges that are valid for all domains, and for @extra, if not NULL,
 * which is not in the list yet.
 */
static int container_build_iova(struct vfio_type1_container *container, struct vfio_iova_set *iova,
				const struct vfio_domain *extra)
{
	return vfio_iova_reset(iova, 0, U64_MAX) ?:
	       container_walk_cuts(container, extra, iova_take_out, iova);
}

static void container_set_iova(struct vfio_type1_container *container, struct vfio_iova_set *iova)
{
	swap(container->iova, *iova);
	vfio_iova_destroy(iova);
}

/* Is there a mapping between the valid ranges?  Return: the mapping, or NULL. */
static struct vfio_dma *container_iova_conflict(struct vfio_type1_container *container,
						const struct vfio_iova_set *iova)
{
	u64 gap = 0;
	unsigned int i;

	for (i = 0; i < iova->nr; i++) {
		const struct vfio_iova_span *r = &iova->ranges[i];
		struct vfio_dma *dma = NULL;

		if (r->first > gap)
			dma = vfio_dma_tree_first(&container->tree, gap, r->first - 1);
		if (dma)
			return dma;
		if (r->last == U64_MAX)
			return NULL;
		gap = r->last + 1;
	}
	return vfio_dma_tree_first(&container->tree, gap, U64_MAX);
}

/* ---- attach ---- */

/**
 * vfio_container_find_group() - is a group attached?
 * @container: the container
 * @group: the group
 * @found: set to the group's domain, or to NULL if it is an emulated group
 *
 * Context: container->lock held.
 * Return: the group's entry, or NULL.
 */
struct vfio_group_entry *vfio_container_find_group(struct vfio_type1_container *container,
						   struct iommu_group *group,
						   struct vfio_domain **found)
{
	struct vfio_group_entry *entry;
	struct vfio_domain *domain;

	list_for_each_entry(domain, &container->domains, next) {
		list_for_each_entry(entry, &domain->groups, next) {
			if (entry->group == group) {
				*found = domain;
				return entry;
			}
		}
	}
	*found = NULL;
	list_for_each_entry(entry, &container->emulated, next)
		if (entry->group == group)
			return entry;
	return NULL;
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
	resv_free(&regions);
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

/*
 * Map a mapping's runs, its region's, or what the primary domain has, into a new domain.
 * What a failed map leaves there needs no vfio_domain_sweep(): the mappings hold on to
 * their pages, in the other domains, and cannot change until the caller has detached the
 * group from this domain and freed it.
 */
static int replay_copy(struct vfio_type1_container *container, struct vfio_domain *to,
		       const struct vfio_dma *dma)
{
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
			run = vfio_map_region_run(dma, page);
		else if (!vfio_runs_next(&iter, &run))
			run = vfio_fgsp_chunk(from, iova, dma->mapped - page, dma->prot);
		if (!vfio_run_npages(run))
			return -EIO;
		if (!to->coherent)
			vfio_container_flush(container, &run, 1);
		ret = vfio_domain_map(container, to, iova, PFN_PHYS(vfio_run_pfn(run)),
				      vfio_run_npages(run) << PAGE_SHIFT, dma->prot | IOMMU_CACHE);
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
			ret = vfio_map_fill(container, dma);
	}
	if (!ret && !first)
		list_add_tail(&domain->next, &container->domains);
	if (ret && first) {
		vfio_unmap_empty_all(container);
		list_del(&domain->next);
	}
	container->table_last = TABLE_LAST_MIN;
	return ret;
}

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
	cut_describe(container, domain, dma->iova, dma->last, &cut);
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
	else if (error == -EPERM && group_walk_cuts(group, cut_find_direct, &cut) > 0)
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
 * vfio_container_has_emulated() - are there in-kernel users?
 * @container: the container
 *
 * Context: takes container->lock.
 * Return: true if an emulated group is attached.
 */
bool vfio_container_has_emulated(struct vfio_type1_container *container)
{
	bool emulated;

	down_read(&container->lock);
	emulated = !list_empty(&container->emulated);
	up_read(&container->lock);
	return emulated;
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

	ret = container_build_iova(container, &iova, domain);
	if (ret)
		goto detach;
	ret = -EINVAL;
	dma = container_iova_conflict(container, &iova);
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
		if (!container_common_pgsizes(container, domain)) {
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
		container->pgsize_bitmap = container_common_pgsizes(container, NULL);
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

/*
 * The last group, @group, has left, and takes all mappings along. A process that goes on may
 * not know; one that ends has no more use for them.
 */
static void container_lose_all(struct vfio_type1_container *container, struct iommu_group *group)
{
	unsigned long nr = vfio_unmap_all(container);

	if (!nr || current->flags & PF_EXITING)
		return;
	vfio_debugfs_lost(nr);
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
			vfio_unmap_empty_all(container);
	}
	list_del(&domain->next);
	domain_free(domain);
	container->pgsize_bitmap = container_common_pgsizes(container, NULL);
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
		if (!container_build_iova(container, &iova, NULL))
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
