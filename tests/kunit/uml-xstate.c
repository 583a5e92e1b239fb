// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preloaded into UML, so that it also runs on hosts whose extended register
 * state is larger than it knows (AMX: 11 KiB, UML before 6.13: 2696 bytes).
 *
 * UML asks once whether PTRACE_GETREGSET can read that state. On such a host
 * the answer is a truncated state, which cannot be set again, and every
 * user process dies with EFAULT. A full buffer is therefore turned into an
 * error here, and UML does with the legacy state, which is enough for busybox.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...)
{
	long (*libc_ptrace)(enum __ptrace_request request, ...) = dlsym(RTLD_NEXT, "ptrace");
	struct iovec *iov;
	size_t room = 0;
	va_list args;
	void *addr;
	pid_t pid;
	long ret;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	addr = va_arg(args, void *);
	iov = va_arg(args, struct iovec *);
	va_end(args);

	if (request == PTRACE_GETREGSET && (long)addr == NT_X86_XSTATE)
		room = iov->iov_len;
	ret = libc_ptrace(request, pid, addr, iov);
	if (ret == 0 && room && iov->iov_len == room) {
		errno = EINVAL;
		return -1;
	}
	return ret;
}
