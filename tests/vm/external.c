// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the programs about in-kernel users share: see external.h.
 */
#include "external.h"

__u64 held_by(const struct vu_pci *dev)
{
	struct emu_state s;

	emu_state(dev, &s);
	return s.held;
}

void assert_told(const struct vu_pci *dev, __u64 times, __u64 iova, __u64 len)
{
	struct emu_state s;

	emu_state(dev, &s);
	assert_int_equal(s.notified, times);
	if (times) {
		assert_int_equal(s.iova, iova);
		assert_int_equal(s.len, len);
	}
}
