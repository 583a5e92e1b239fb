/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Compiler attributes, bridged towards the newest kernel.
 */
#ifndef _VFIO_TYPE1_COMPAT_COMPILER_H
#define _VFIO_TYPE1_COMPAT_COMPILER_H

#include <linux/compiler_attributes.h>

/*
 * 6.12 added __uninitialized ("compiler_types: Introduce the __uninitialized
 * attribute"): kernels with CONFIG_INIT_STACK_ALL_ZERO clear every variable on the
 * stack, also arrays of which only a part is used.
 */
#ifndef __uninitialized
#if __has_attribute(__uninitialized__)
#define __uninitialized __attribute__((__uninitialized__))
#else
#define __uninitialized
#endif
#endif

#endif /* _VFIO_TYPE1_COMPAT_COMPILER_H */
