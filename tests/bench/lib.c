// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the programs that measure in the VM share; lib.h says what it does.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib.h"

int must(const char *what, int ret)
{
	if (ret < 0)
		errx(1, "%s: %s", what, strerror(-ret));
	return ret;
}

void module_load(const char *path, const char *params)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, params, 0))
		err(1, "loading %s", path);
	close(fd);
}

void type1_select(const char *module)
{
	static const char *loaded = "";
	struct utsname uts;
	char path[256];

	if (!strcmp(loaded, module))
		return;
	uname(&uts);
	snprintf(path, sizeof(path), "/lib/modules/%s/%s/vfio_iommu_type1.ko", uts.release, module);
	if (syscall(SYS_delete_module, "vfio_iommu_type1", O_NONBLOCK))
		err(1, "unloading vfio_iommu_type1");
	/* There may be more mappings than the default allows. */
	module_load(path, "dma_entry_limit=2000000");
	loaded = module;
}
