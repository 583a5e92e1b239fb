# SPDX-License-Identifier: GPL-2.0-only
#
# The answers of probe.sh, before any of the objects $(vfio-probed) is made of them. For a
# Kbuild file, which says where this one is in $(vfio-compat).

vfio-answers := $(obj)/.probes/vfio_answers.h
ccflags-y += -I$(obj)/.probes
clean-files += .probes

# gcc shall name the line that uses a macro, not that of the macro.
vfio-probe-flags = $(if $(CONFIG_CC_IS_CLANG),-ferror-limit=0,-fmax-errors=0 -ftrack-macro-expansion=0)

$(vfio-answers): FORCE
	$(Q)$(CONFIG_SHELL) $(vfio-compat)/probe.sh $@ $(CC) $(c_flags) $(vfio-probe-flags)

$(addprefix $(obj)/,$(vfio-probed)): $(vfio-answers)
