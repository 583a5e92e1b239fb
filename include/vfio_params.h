/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's parameters (vfio_params.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_PARAMS_H
#define _VFIO_PARAMS_H

#include <linux/types.h>

/* How UNMAP finds the physically contiguous stretches of a mapping. */
enum vfio_unmap_walk {
	VFIO_UNMAP_RUNS,	/* run list; where it was lost, by what the probe found */
	VFIO_UNMAP_FGSP,	/* unmap one page, take what comes back */
	VFIO_UNMAP_COARSE,	/* walk iova_to_phys() to the end of the chunk */
};

/**
 * struct vfio_type1_params - the module's parameters
 * @allow_unsafe_interrupts: attach groups without MSI isolation
 * @disable_hugepages: make every page a run of its own
 * @dma_entry_limit: mappings per container, read when a container is opened
 * @unmap_walk: enum vfio_unmap_walk, for tests and comparison
 * @flush_noncoherent: keep the CPU's caches out of the way of devices that do not look there
 */
struct vfio_type1_params {
	bool allow_unsafe_interrupts;
	bool disable_hugepages;
	unsigned int dma_entry_limit;
	unsigned int unmap_walk;
	bool flush_noncoherent;
};

extern struct vfio_type1_params vfio_type1_params;

#endif /* _VFIO_PARAMS_H */
