/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * REGISTER_MEMORY and UNREGISTER_MEMORY (vfio_register.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_REGISTER_H
#define _VFIO_REGISTER_H

#include <linux/types.h>

struct vfio_type1_container;

int vfio_registry_register(struct vfio_type1_container *container, u64 vaddr, u64 size,
			   bool read_only);
int vfio_registry_unregister(struct vfio_type1_container *container, u64 vaddr, u64 size);

#endif /* _VFIO_REGISTER_H */
