/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a container looks like from outside (vfio_debugfs.c, vfio_debugfs_lists.c).
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_DEBUGFS_H
#define _VFIO_DEBUGFS_H

#include <linux/kconfig.h>

struct vfio_type1_container;

#if IS_ENABLED(CONFIG_DEBUG_FS)
void vfio_debugfs_init(void);
void vfio_debugfs_exit(void);
void vfio_debugfs_add(struct vfio_type1_container *container);
void vfio_debugfs_remove(struct vfio_type1_container *container);
#else
static inline void vfio_debugfs_init(void) {}
static inline void vfio_debugfs_exit(void) {}
static inline void vfio_debugfs_add(struct vfio_type1_container *container) {}
static inline void vfio_debugfs_remove(struct vfio_type1_container *container) {}
#endif

#endif /* _VFIO_DEBUGFS_H */
