// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's parameters: what root may set.
 */

#include <linux/limits.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "vfio_params.h"

struct vfio_type1_params vfio_type1_params = {
	.dma_entry_limit = U16_MAX,
	.flush_noncoherent = true,
};

module_param_named(allow_unsafe_interrupts, vfio_type1_params.allow_unsafe_interrupts, bool, 0644);
MODULE_PARM_DESC(allow_unsafe_interrupts,
		 "Attach devices also without interrupt remapping, which keeps them from injecting interrupts (default N).");

module_param_named(disable_hugepages, vfio_type1_params.disable_hugepages, bool, 0644);
MODULE_PARM_DESC(disable_hugepages,
		 "Map every page by itself, so that the IOMMU uses no superpages (default N).");

module_param_named(dma_entry_limit, vfio_type1_params.dma_entry_limit, uint, 0644);
MODULE_PARM_DESC(dma_entry_limit,
		 "Maximum number of mappings of a container that is opened from now on (default 65535).");

static int set_unmap_walk(const char *val, const struct kernel_param *param)
{
	return param_set_uint_minmax(val, param, VFIO_UNMAP_RUNS, VFIO_UNMAP_COARSE);
}

static const struct kernel_param_ops unmap_walk_ops = {
	.set = set_unmap_walk,
	.get = param_get_uint,
};

module_param_cb(unmap_walk, &unmap_walk_ops, &vfio_type1_params.unmap_walk, 0644);
MODULE_PARM_DESC(unmap_walk,
		 "For tests: how UNMAP finds contiguous memory: 0 by the run list (default), 1 by unmapping single pages, 2 by reading the IOMMU page by page.");

module_param_named(flush_noncoherent, vfio_type1_params.flush_noncoherent, bool, 0644);
MODULE_PARM_DESC(flush_noncoherent,
		 "Flush the CPU's caches around mapping where the IOMMU lets devices bypass them (default Y).");
