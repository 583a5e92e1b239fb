/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vfio_debugfs.c has from vfio_debugfs_lists.c.
 *
 * The words and the locks are in vfio_type1.h.
 */
#ifndef _VFIO_DEBUGFS_FILES_H
#define _VFIO_DEBUGFS_FILES_H

#include <linux/fs.h>
#include <linux/seq_file.h>

struct vfio_type1_container;

extern const struct file_operations vfio_debugfs_mappings_fops;
extern const struct file_operations vfio_debugfs_regions_fops;

int vfio_debugfs_show_locked(struct seq_file *m,
			     int (*show)(struct seq_file *m,
					 struct vfio_type1_container *container));

#endif /* _VFIO_DEBUGFS_FILES_H */
