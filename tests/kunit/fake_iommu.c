// SPDX-License-Identifier: GPL-2.0-only
/*
 * An IOMMU that is known to the kernel, with devices behind it: see fake_iommu.h.
 *
 * Domains come from domain_alloc(), which 6.1 and 6.12 both call, and which does
 * not know for which device: hence the traits at the first attach.
 */

#include <linux/err.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "fake_iommu.h"
#include "user_mem.h"

#define FAKE_NAME	"vfio-type1-fake"

struct fake_iommu fake_iommu;

/**
 * struct fake_domain - a paging domain
 * @mock: its page table
 * @traits: those of the devices in it; NULL before the first one
 * @nr_devices: how many are attached
 */
struct fake_domain {
	struct mock_iommu mock;
	const struct fake_traits *traits;
	unsigned int nr_devices;
};

static struct iommu_domain_ops paging_ops[FAKE_DRIVERS];

static struct fake_domain *to_fake(struct iommu_domain *domain)
{
	return container_of(domain, struct fake_domain, mock.domain);
}

/* The page table of a paging domain. */
struct mock_iommu *fake_mock(struct iommu_domain *domain)
{
	return &to_fake(domain)->mock;
}

static struct fake_device *fake_device(struct device *dev)
{
	return &fake_iommu.devices[to_platform_device(dev)->id];
}

static void violation(const char *what)
{
	if (!fake_iommu.violation[0])
		strscpy(fake_iommu.violation, what, sizeof(fake_iommu.violation));
}

/* ---- paging domains ---- */

static void domain_adopt_traits(struct fake_domain *fake, const struct fake_traits *traits)
{
	struct iommu_domain *domain = &fake->mock.domain;

	fake->traits = traits;
	fake->mock.fail_map = fake_iommu.fail_map;
	fake->mock.hides = traits->hides;
	fake_iommu.fail_map = 0;
	domain->ops = &paging_ops[traits->driver];
	domain->pgsize_bitmap = traits->pgsize_bitmap;
	domain->geometry.aperture_start = traits->aperture_first;
	domain->geometry.aperture_end = traits->aperture_last ?: BIT_ULL(48) - 1;
	domain->geometry.force_aperture = true;
}

static bool attach_fails(void)
{
	bool fails = fake_iommu.fail_attach & 1;

	fake_iommu.fail_attach >>= 1;
	return fails;
}

static void move_device(struct fake_device *device, struct iommu_domain *domain)
{
	if (device->domain)
		to_fake(device->domain)->nr_devices--;
	if (domain)
		to_fake(domain)->nr_devices++;
	device->domain = domain;
}

static int paging_attach_dev(struct iommu_domain *domain, struct device *dev)
{
	struct fake_device *device = fake_device(dev);
	const struct fake_traits *traits = device->traits;
	struct fake_domain *fake = to_fake(domain);

	if (attach_fails())
		return fake_iommu.attach_error ?: -ENOMEM;
	if (!fake->traits)
		domain_adopt_traits(fake, traits);
	if (fake->traits->pgsize_bitmap != traits->pgsize_bitmap ||
	    fake->traits->aperture_first != traits->aperture_first ||
	    fake->traits->aperture_last != traits->aperture_last)
		return -EINVAL;
	if (fake->traits->incoherent != traits->incoherent)
		violation("devices of different coherency in one domain");
	if (fake->traits->driver != traits->driver)
		violation("devices of different drivers in one domain");
	move_device(device, domain);
	return 0;
}

/* Like VT-d's of 6.12: not once there was a mapping. */
static bool paging_enforce_cache_coherency(struct iommu_domain *domain)
{
	struct fake_domain *fake = to_fake(domain);

	return !fake->traits->incoherent && !fake->mock.nr_map;
}

static int paging_enable_nesting(struct iommu_domain *domain)
{
	return fake_iommu.nesting ? 0 : -ENODEV;
}

static void paging_free(struct iommu_domain *domain)
{
	struct fake_domain *fake = to_fake(domain);

	if (fake->mock.violation[0])
		violation(fake->mock.violation);
	if (fake->nr_devices)
		violation("domain freed while a device uses it");
	if (!list_empty(&fake->mock.stale))
		violation("domain freed without an IOTLB sync");
	mock_iommu_fini(&fake->mock);
	kfree(fake);
	fake_iommu.nr_domains--;
}

static struct iommu_domain *paging_alloc(void)
{
	struct fake_domain *fake = kzalloc(sizeof(*fake), GFP_KERNEL);

	if (!fake)
		return NULL;
	mock_iommu_init(&fake->mock);
	fake->mock.domain.ops = &paging_ops[0];
	fake_iommu.nr_domains++;
	return &fake->mock.domain;
}

/* ---- the kernel's own domains, with which a device is detached ---- */

static int core_attach_dev(struct iommu_domain *domain, struct device *dev)
{
	move_device(fake_device(dev), NULL);
	return 0;
}

static void core_free(struct iommu_domain *domain)
{
	kfree(domain);
}

static const struct iommu_domain_ops core_ops = {
	.attach_dev = core_attach_dev,
	.free = core_free,
};

static struct iommu_domain *core_alloc(void)
{
	struct iommu_domain *domain = kzalloc(sizeof(*domain), GFP_KERNEL);

	if (domain)
		domain->ops = &core_ops;
	return domain;
}

/* ---- the IOMMU ---- */

static struct iommu_domain *fake_domain_alloc(unsigned int type)
{
	switch (type) {
	case IOMMU_DOMAIN_UNMANAGED:
		return paging_alloc();
	case IOMMU_DOMAIN_IDENTITY:
	case IOMMU_DOMAIN_BLOCKED:
		return core_alloc();
	default:
		return NULL;
	}
}

static struct iommu_device *fake_probe_device(struct device *dev)
{
	/* The kernel asks for each device of the bus. */
	if (strcmp(to_platform_device(dev)->name, FAKE_NAME))
		return ERR_PTR(-ENODEV);
	return &fake_iommu.iommu;
}

static bool fake_capable(struct device *dev, enum iommu_cap cap)
{
	return fake_iommu.capable;
}

static int fake_def_domain_type(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

static void fake_get_resv_regions(struct device *dev, struct list_head *list)
{
	const struct fake_traits *traits = fake_device(dev)->traits;
	const struct fake_region *region;

	if (!traits)
		return;
	for (region = traits->regions;
	     region < traits->regions + FAKE_REGIONS; region++) {
		struct iommu_resv_region *resv;

		if (!region->start && !region->length)
			continue;

		/* A driver that cannot tell its regions has no way to say so. */
		resv = iommu_alloc_resv_region(region->start, region->length, 0, region->type,
					       GFP_KERNEL | __GFP_NOFAIL);
		list_add_tail(&resv->list, list);
	}
}

static const struct iommu_ops fake_ops = {
	.owner = THIS_MODULE,
	.capable = fake_capable,
	.domain_alloc = fake_domain_alloc,
	.probe_device = fake_probe_device,
	.device_group = generic_device_group,
	.def_domain_type = fake_def_domain_type,
	.get_resv_regions = fake_get_resv_regions,
};

/* Make a device, and claim its group as the VFIO core would. */
static int fake_device_add(struct fake_device *device, int id)
{
	int ret;

	device->pdev = platform_device_register_simple(FAKE_NAME, id, NULL, 0);
	if (IS_ERR(device->pdev))
		return PTR_ERR(device->pdev);
	device->group = iommu_group_get(&device->pdev->dev);
	ret = device->group ? iommu_group_claim_dma_owner(device->group, device) : -ENODEV;
	if (ret) {
		iommu_group_put(device->group);
		platform_device_unregister(device->pdev);
	}
	return ret;
}

static void fake_device_remove(struct fake_device *device)
{
	iommu_group_release_dma_owner(device->group);
	iommu_group_put(device->group);
	platform_device_unregister(device->pdev);
}

/* Bring the IOMMU and its devices to life. Returns 0 or an errno. */
static int fake_iommu_register(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < FAKE_DRIVERS; i++) {
		paging_ops[i] = mock_iommu_ops;
		paging_ops[i].attach_dev = paging_attach_dev;
		paging_ops[i].enforce_cache_coherency = paging_enforce_cache_coherency;
		paging_ops[i].enable_nesting = paging_enable_nesting;
		paging_ops[i].free = paging_free;
	}
	paging_ops[FAKE_SILENT].enforce_cache_coherency = NULL;
	ret = iommu_device_sysfs_add(&fake_iommu.iommu, NULL, NULL, FAKE_NAME);
	if (ret)
		return ret;
	ret = iommu_device_register(&fake_iommu.iommu, &fake_ops, NULL);
	if (ret)
		goto remove_sysfs;
	for (i = 0; i < FAKE_DEVICES; i++) {
		ret = fake_device_add(&fake_iommu.devices[i], i);
		if (ret)
			goto remove_devices;
	}
	return 0;

remove_devices:
	while (i--)
		fake_device_remove(&fake_iommu.devices[i]);
	iommu_device_unregister(&fake_iommu.iommu);
remove_sysfs:
	iommu_device_sysfs_remove(&fake_iommu.iommu);
	return ret;
}

/* 6.1 goes on to know the operations: afterwards no device may be added any more. */
static void fake_iommu_unregister(void)
{
	unsigned int i;

	for (i = 0; i < FAKE_DEVICES; i++)
		fake_device_remove(&fake_iommu.devices[i]);
	iommu_device_unregister(&fake_iommu.iommu);
	iommu_device_sysfs_remove(&fake_iommu.iommu);
}

int fake_iommu_suite_init(struct kunit_suite *suite)
{
	int ret = user_mem_suite_init(suite);

	return ret ?: fake_iommu_register();
}

void fake_iommu_suite_exit(struct kunit_suite *suite)
{
	fake_iommu_unregister();
	user_mem_suite_exit(suite);
}

/* Forget what a case asked for and saw. */
void fake_iommu_reset(void)
{
	unsigned int i;

	for (i = 0; i < FAKE_DEVICES; i++)
		fake_iommu.devices[i].traits = NULL;
	fake_iommu.fail_attach = 0;
	fake_iommu.attach_error = 0;
	fake_iommu.fail_map = 0;
	fake_iommu.nesting = false;
	fake_iommu.capable = false;
	fake_iommu.violation[0] = '\0';
}
