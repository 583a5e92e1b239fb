/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs about in-kernel users share.
 */
#ifndef EXTERNAL_H
#define EXTERNAL_H

#include "emu/emu_user.h"

#define BASE		(5 * GIB)
#define PAGES(n)	((n) * VU_PAGE)

__u64 held_by(const struct vu_pci *dev);
void assert_told(const struct vu_pci *dev, __u64 times, __u64 iova, __u64 len);

#endif /* EXTERNAL_H */
