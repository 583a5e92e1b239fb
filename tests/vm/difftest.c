// SPDX-License-Identifier: GPL-2.0-only
/*
 * The differential test's program: a long, seeded, random stream of requests,
 * good and bad, to one container. It says what came of each, so that what two
 * modules say of the same stream can be compared (tests/vm/difftest does):
 *
 *	difftest SEED COMBINATION OPS		a hash of every 1000 operations
 *	difftest SEED COMBINATION OPS FROM TO	in words, operations FROM to TO
 *
 * A COMBINATION is a container type and whether the process has CAP_IPC_LOCK.
 *
 * Nothing random but the seed gets into the stream or into what is said: memory
 * is at fixed addresses, and results that may differ between correct modules
 * are made equal in one place, "The listed differences" in difftest_call.c.
 *
 * A list of the mappings that should be there is kept on the way. It only
 * guides the stream; nothing is checked against it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "difftest.h"

/* ---- The stream ---- */

static const struct combination {
	const char *name;
	bool v2;
	bool ipc_lock;
} combinations[] = {
	{ "v1-locked", false, true },
	{ "v1-limited", false, false },
	{ "v2-locked", true, true },
	{ "v2-limited", true, false },
};

/* VmLck, from a file that stays open. */
static long locked_kib(int status_fd)
{
	char buf[2048], *at;
	ssize_t len = pread(status_fd, buf, sizeof(buf) - 1, 0);

	require(len > 0);
	buf[len] = '\0';
	at = strstr(buf, "VmLck:");
	require(at);
	return strtol(at + strlen("VmLck:"), NULL, 10);
}

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	require(!syscall(SYS_capget, &header, data));
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	data[0].permitted &= ~(1U << CAP_IPC_LOCK);
	require(!syscall(SYS_capset, &header, data));
}

static __u64 find_vvar(void)
{
	__u64 addr = 0;
	char buf[256];
	FILE *f = fopen("/proc/self/maps", "r");

	require(f);
	while (fgets(buf, sizeof(buf), f)) {
		if (strstr(buf, "[vvar]"))
			addr = strtoull(buf, NULL, 16);
	}
	fclose(f);
	require(addr);
	return addr;
}

static void setup(const struct combination *comb)
{
	unsigned int i;

	v2 = comb->v2;
	make_arena();
	make_argument_memory();
	vvar = find_vvar();
	for (i = 0; i < ARRAY_SIZE(edu); i++) {
		require(!vu_pci_find(&edu[i], VU_EDU_VENDOR, VU_EDU_DEVICE, i));
		require(!vu_pci_bind(&edu[i]));
		require(!vu_group_open(&edu[i]));
	}
	require(!limit_locked(1024 * PAGE));
	if (!comb->ipc_lock)
		drop_ipc_lock();
	write_param("disable_hugepages", "N");
}

void stream(const char *name, unsigned int nops, unsigned int from, unsigned int to)
{
	int status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	__u64 h = HASH_INIT;
	unsigned int n;

	require(status_fd >= 0);
	container_begin();
	for (n = 1; n <= nops; n++) {
		some_op();
		say("; %ld kB locked", locked_kib(status_fd));
		h = hash(h, line, line_len);
		if (n >= from && n <= to)
			printf("%s %u %s\n", name, n, line);
		if (!to && (n % 1000 == 0 || n == nops)) {
			printf("%s %u %016llx\n", name, n, h);
			fflush(stdout);
		}
		line_len = 0;
	}
	container_end();
	printf("%s end: %u operations, %u of them successful; %ld kB locked\n", name, nops,
	       nsuccesses, locked_kib(status_fd));
	/* There is little to see in a stream that is mostly refused. */
	require(nsuccesses > nops / 3);
}

int main(int argc, char **argv)
{
	const struct combination *comb = combinations;
	struct utsname uts;
	unsigned int nops;

	if (argc != 4 && argc != 6)
		return 2;
	while (strcmp(comb->name, argv[2])) {
		if (++comb == combinations + ARRAY_SIZE(combinations))
			return 2;
	}
	nops = strtoul(argv[3], NULL, 0);
	rng = strtoull(argv[1], NULL, 0) * ARRAY_SIZE(combinations) + (comb - combinations);

	/* The in-tree module logs each time a limit is hit; the VM's serial port is slow. */
	klogctl(8, NULL, 4);
	uname(&uts);
	kernel_6_1 = !strncmp(uts.release, "6.1.", 4);
	setup(comb);
	stream(comb->name, nops, argc > 4 ? strtoul(argv[4], NULL, 0) : 0,
	       argc > 4 ? strtoul(argv[5], NULL, 0) : 0);
	return 0;
}
