# SPDX-License-Identifier: GPL-2.0-only
#
# The kernels that the module is for, both ends included. Others are refused:
# one that is newer may build without a word, and mean something else.
# UNTESTED_KERNEL=y on make's command line builds anyway.

oldest := 6.1
newest := 7.3
this := $(VERSION).$(PATCHLEVEL)

ifneq ($(UNTESTED_KERNEL),y)
ifneq ($(shell printf '%s\n' $(oldest) $(this) $(newest) | sort -VC && echo in),in)
$(error vfio-type1 is for Linux $(oldest) to $(newest), and this is $(this): \
	UNTESTED_KERNEL=y builds anyway)
endif
endif
