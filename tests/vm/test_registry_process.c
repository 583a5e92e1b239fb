// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registered memory, and other processes: limits, fork, exit, exec, and mappings that are
 * handed over.
 *
 * The program executes itself for some tests; main() says with what arguments.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "registered.h"

/* ---- Other processes ---- */

static void register_within_a_limit(void *arg)
{
	const struct child_case *c = arg;
	const int container = c->second;
	char *mem = c->mem;

	child_check(!vu_set_iommu(container, VFIO_TYPE1v2_IOMMU));
	child_check(vu_register(container, mem, SIZE, 0) == -ENOMEM);
	child_check(!vu_locked_kib());
	child_check(!vu_register(container, mem, SIZE - VU_PAGE, 0));
	child_check(vu_locked_kib() == KIB(NPAGES - 1));
	child_check(!vu_map_rw(container, mem, BASE, SIZE - VU_PAGE));
	child_check(!vu_map_rw(container, mem, 0, SIZE - VU_PAGE));
	child_check(vu_map_rw(container, mem + PAGES(1), 2 * BASE, SIZE - VU_PAGE) == -ENOMEM);
	child_check(vu_locked_kib() == KIB(NPAGES - 1));
	child_check(vu_unregister(container, mem, SIZE - VU_PAGE) == -EBUSY);
	child_check(!vu_unmap(container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, NULL));
	child_check(!vu_unregister(container, mem, SIZE - VU_PAGE));
	child_check(!vu_locked_kib());
}

static void the_limit_counts_once(void **state)
{
	struct child_case c;
	int fd = kmsg_open();

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child_nobody(SIZE - VU_PAGE, register_within_a_limit, &c);
	assert_logged(fd, "REGISTER_MEMORY vaddr 0x[0-9a-f]+: RLIMIT_MEMLOCK .*exceeded");
	close(fd);
	wait_pinned(c.f, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

/* In a child that shares the parent's container. */
static void try_to_use_the_parents(void *arg)
{
	struct child_case *c = arg;

	/* The same addresses, but not the same memory. */
	memset(c->mem, 0x11, SIZE);
	child_check(!vu_locked_kib());
	child_check(vu_unregister(c->f->container, c->mem, SIZE) == -EPERM);
	child_check(vu_register(c->f->container, c->mem, SIZE, 0) == -EPERM);
	/* Its own memory is pinned, and charged to it. */
	child_check(!vu_map_rw(c->f->container, c->mem, 0, SIZE));
	child_check(vu_locked_kib() == KIB(NPAGES));
	child_check(vu_map_rw(c->second, c->mem, 0, PAGES(1)) == -EPERM);
	child_check(!vu_unmap(c->f->container, 0, SIZE, 0, NULL));
	child_check(!vu_locked_kib());
}

static void what_a_process_registers_is_its_own(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, VFIO_TYPE1_STRICT_IOMMU);
	registered(c.f, c.mem);
	in_child(try_to_use_the_parents, &c);
	/* Of fork() the parent notices nothing: its pages are its own. */
	assert_dma_reaches(c.f, 0, c.mem + PAGES(100), BASE + PAGES(100));
	assert_ok(vu_map_rw(c.f->container, c.mem, 0, SIZE));
	assert_dma_reaches(c.f, 0, c.mem + PAGES(7), PAGES(7));
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

static void fork_and_wait(void *arg)
{
	struct child_case *c = arg;
	char byte;

	memset(c->mem, 0x22, SIZE);
	child_check(write(c->to_parent[1], "", 1) == 1);
	child_check(read(c->to_child[0], &byte, 1) == 1);
}

/* The parent writes while a child has a copy: it must not be the parent that gets one. */
static void fork_does_not_part_memory_from_the_device(void **state)
{
	struct child_case c;
	int status;
	char byte;
	pid_t pid;

	child_case_init(&c, *state);
	registered(c.f, c.mem);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		fork_and_wait(&c);
		_exit(0);
	}
	memset(c.mem, 0x33, SIZE);
	assert_int_equal(read(c.to_parent[0], &byte, 1), 1);
	assert_ok(vu_map_rw(c.f->container, c.mem, 0, SIZE));
	assert_dma_reaches(c.f, 0, c.mem + PAGES(100), PAGES(100));
	assert_dma_reaches(c.f, 0, c.mem, BASE);
	assert_int_equal(write(c.to_child[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	child_case_end(&c);
}

/* In a child, which the second container belongs to. */
static void register_and_map(void *arg)
{
	struct child_case *c = arg;

	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	child_check(!vu_register(c->second, c->mem, SIZE / 2, 0));
	child_check(!vu_register(c->second, c->mem, SIZE / 2, 0));
	child_check(!vu_register(c->second, c->mem + SIZE / 2, SIZE / 2, 0));
	child_check(!vu_map_rw(c->second, c->mem, BASE, PAGES(10)));
	child_check(vu_locked_kib() == KIB(NPAGES));
}

/* A container may outlive its process, and so may what is mapped in it. */
static void exit_leaves_what_is_mapped(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child(register_and_map, &c);
	wait_pinned(c.f, 10);
	/* The container is free for somebody else. */
	assert_ok(vu_register(c.second, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.second, c.mem, 0, SIZE));
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES + 10);
	assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
	wait_pinned(c.f, NPAGES);
	fixture_open_device(c.f, 1);
	assert_dma_reaches(c.f, 1, c.mem, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	/* This process still has the other one. */
	assert_pinned(c.f, NPAGES);
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	child_case_end(&c);
}

#define LARGE		PAGES(16384)

/* In a child: memory of its own kind, mapped here and there, and twice in part. */
static void register_much_and_wait(struct child_case *c)
{
	child_check(!vu_set_iommu(c->second, VFIO_TYPE1v2_IOMMU));
	child_check(!vu_register(c->second, c->mem, LARGE, 0));
	child_check(!vu_map_rw(c->second, c->mem + PAGES(5), BASE, PAGES(10)));
	child_check(!vu_map_rw(c->second, c->mem + PAGES(10), 0, PAGES(10)));
	child_check(!vu_map_rw(c->second, c->mem + LARGE - PAGES(1), GIB, PAGES(1)));
	child_check(write(c->to_parent[1], "", 1) == 1);
	pause();
}

/* A few mapped pages keep no more than themselves of all that a dead process registered. */
static void a_kill_leaves_what_is_mapped(void **state)
{
	const struct backing kinds[] = {
		{ "memfd", mem_memfd }, { "hugetlb", mem_hugetlb_shared },
	};
	struct fixture *f = *state;
	struct child_case c;
	unsigned int i;
	int status;
	pid_t pid;
	char byte;

	child_case_init(&c, f);
	vu_free(c.mem, SIZE);
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		at_step("%s", kinds[i].name);
		c.mem = kinds[i].alloc(LARGE);
		c.second = second_container(f, 0);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			register_much_and_wait(&c);
			_exit(1);
		}
		assert_int_equal(read(c.to_parent[0], &byte, 1), 1);
		assert_pinned(f, LARGE / VU_PAGE);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		wait_pinned(f, 16);
		fixture_open_device(f, 1);
		assert_dma_reaches(f, 1, c.mem + PAGES(5), BASE);
		assert_dma_reaches(f, 1, c.mem + LARGE - PAGES(1), GIB);
		/* What two mappings share stays for the other. */
		assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
		assert_pinned(f, 11);
		assert_dma_reaches(f, 1, c.mem + PAGES(10), 0);
		assert_dma_blocked(f, 1, c.mem + PAGES(5), BASE);
		assert_unmaps(c.second, GIB, PAGES(1), PAGES(1));
		assert_pinned(f, 10);
		assert_unmaps(c.second, 0, PAGES(10), PAGES(10));
		assert_nothing_held(f);
		fixture_close_device(f, 1);
		close(c.second);
		vu_free(c.mem, LARGE);
	}
	c.mem = private_memory();
	child_case_end(&c);
}

/* Replace the program by itself, with the second container; main() says what WHAT is. */
static void exec_with_container(const char *what, const struct child_case *c)
{
	char second[16];

	child_check(!fcntl(c->second, F_SETFD, 0));
	snprintf(second, sizeof(second), "%d", c->second);
	execl("/proc/self/exe", "test_registry_process", what, second, NULL);
	child_check(false);
}

static void register_map_and_exec(void *arg)
{
	register_and_map(arg);
	exec_with_container("exec", arg);
}

/* What the executed program does, with the container. */
static int after_exec(int container)
{
	char *mem = private_memory();

	child_check(!vu_locked_kib());
	/* What was mapped is there, what was registered is not. */
	child_check(vu_map_rw(container, mem, BASE, PAGES(10)) == -EEXIST);
	child_check(vu_unregister(container, mem, SIZE) == -ENOENT);
	child_check(!vu_register(container, mem, SIZE, 0));
	child_check(!vu_map_rw(container, mem, 0, SIZE));
	child_check(vu_locked_kib() == KIB(NPAGES));
	child_check(!vu_unmap(container, 0, SIZE, 0, NULL));
	child_check(!vu_unregister(container, mem, SIZE));
	child_check(!vu_locked_kib());
	return 0;
}

static void exec_leaves_what_is_mapped(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child(register_map_and_exec, &c);
	wait_pinned(c.f, 10);
	assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
	wait_pinned(c.f, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

/* In a child that has the only descriptor of its container. */
static void register_map_and_exec_without(void *arg)
{
	struct child_case *c = arg;
	char pinned[16];

	c->second = vu_container_open();
	child_check(!vu_group_open(&c->f->pci[0]) && !vu_group_attach(&c->f->pci[0], c->second));
	register_and_map(arg);
	child_check(fcntl(c->second, F_GETFD) == FD_CLOEXEC);
	snprintf(pinned, sizeof(pinned), "%ld", c->f->pinned);
	execl("/proc/self/exe", "test_registry_process", "exec-without", pinned, NULL);
	child_check(false);
}

/* What the executed program does, without: all is gone as long as it lives. */
static int after_exec_without(long pinned)
{
	const __u64 deadline = vu_now() + TEST_TIMEOUT * 1000000000ULL;

	while (vu_foll_pinned() != pinned && vu_now() < deadline)
		usleep(10000);
	child_check(vu_foll_pinned() == pinned);
	child_check(!vu_locked_kib());
	return 0;
}

static void exec_closes_the_container(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	in_child(register_map_and_exec_without, &c);
	assert_nothing_held(c.f);
	child_case_end(&c);
}

static int give_address(int container, char *mem)
{
	return vu_map(container, mem, BASE, PAGES(10), VFIO_DMA_MAP_FLAG_VADDR);
}

static int take_address(int container)
{
	return vu_unmap(container, BASE, PAGES(10), VFIO_DMA_UNMAP_FLAG_VADDR, NULL);
}

/* In a child. */
static void take_over(void *arg)
{
	struct child_case *c = arg;

	child_check(!vu_locked_kib());
	child_check(!give_address(c->f->container, c->mem));
	child_check(vu_locked_kib() == KIB(10));
}

/* A mapping that another process is given is charged to it; the region stays. */
static void a_mapping_can_be_handed_over(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	assert_ok(vu_register(c.f->container, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.f->container, c.mem, BASE, PAGES(10)));
	assert_ok(take_address(c.f->container));
	in_child(take_over, &c);
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES);
	assert_dma_reaches(c.f, 0, c.mem, BASE);
	assert_ret(vu_unregister(c.f->container, c.mem, SIZE), -EBUSY);
	/* And back. */
	assert_ok(take_address(c.f->container));
	assert_ok(give_address(c.f->container, c.mem));
	assert_charged(c.f, NPAGES);
	assert_unmaps(c.f->container, BASE, PAGES(10), PAGES(10));
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	child_case_end(&c);
}

/* In a child: take a mapping over, and say what is charged for it, whenever asked. */
static void take_over_and_stay(void *arg)
{
	struct child_case *c = arg;
	long kib;
	char byte;

	take_over(arg);
	/* If the test fails, this is not what keeps the container from the next one. */
	fixture_close(c->f);
	do {
		kib = vu_locked_kib();
		child_check(write(c->to_parent[1], &kib, sizeof(kib)) == sizeof(kib));
	} while (read(c->to_child[0], &byte, 1) == 1 && byte);
}

static long charged_to_child(const struct child_case *c)
{
	long kib = -1;

	assert_int_equal(read(c->to_parent[0], &kib, sizeof(kib)), (int)sizeof(kib));
	return kib;
}

static void fail_to_take_over(void *arg)
{
	struct child_case *c = arg;

	child_check(give_address(c->f->container, c->mem) == -ENOMEM);
	child_check(!vu_locked_kib());
}

/* The limit is raised to what it may be only when it was too low. */
static void fail_to_take_over_once(void *arg)
{
	const struct rlimit low = { PAGES(9), PAGES(10) }, enough = { PAGES(10), PAGES(10) };

	child_check(!setrlimit(RLIMIT_MEMLOCK, &low));
	fail_to_take_over(arg);
	child_check(!setrlimit(RLIMIT_MEMLOCK, &enough));
	take_over(arg);
}

/* Who may not be charged is not given the mapping; it stays as it was. */
static void taking_over_may_be_too_much(void **state)
{
	int fd = kmsg_open(), status;
	struct child_case c;
	pid_t pid;

	child_case_init(&c, *state);
	assert_ok(vu_register(c.f->container, c.mem, SIZE, 0));
	assert_ok(vu_map_rw(c.f->container, c.mem, BASE, PAGES(10)));
	assert_ok(take_address(c.f->container));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		take_over_and_stay(&c);
		_exit(0);
	}
	assert_int_equal(charged_to_child(&c), KIB(10));

	assert_ok(take_address(c.f->container));
	in_child_nobody(PAGES(9), fail_to_take_over, &c);
	assert_logged(fd, "MAP_DMA with VADDR iova 0x140000000: RLIMIT_MEMLOCK .*exceeded");
	assert_int_equal(write(c.to_child[1], "1", 1), 1);
	assert_int_equal(charged_to_child(&c), KIB(10));
	assert_ret(take_address(c.f->container), -EINVAL);
	assert_ok(vu_group_open(&c.f->pci[1]));
	assert_ret(vu_group_attach(&c.f->pci[1], c.f->container), -EBUSY);
	assert_dma_reaches(c.f, 0, c.mem, BASE);

	in_child_nobody(PAGES(10), fail_to_take_over_once, &c);
	assert_int_equal(write(c.to_child[1], "1", 1), 1);
	assert_int_equal(charged_to_child(&c), 0);
	assert_ok(vu_group_attach(&c.f->pci[1], c.f->container));
	assert_ret(give_address(c.f->container, c.mem), -EINVAL);
	assert_dma_reaches(c.f, 0, c.mem, BASE);
	assert_charged(c.f, NPAGES);
	assert_pinned(c.f, NPAGES);
	assert_unmaps(c.f->container, BASE, PAGES(10), PAGES(10));
	assert_ok(vu_unregister(c.f->container, c.mem, SIZE));
	assert_nothing_held(c.f);
	assert_int_equal(write(c.to_child[1], "", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	child_case_end(&c);
	close(fd);
}

static void register_map_and_leave(void *arg)
{
	struct child_case *c = arg;

	register_and_map(arg);
	child_check(!take_address(c->second));
}

/* The process that registered it is gone: who takes it over is charged for the mapping. */
static void a_mapping_can_be_handed_over_by_the_dead(void **state)
{
	struct child_case c;
	int fd;

	child_case_init(&c, *state);
	vu_free(c.mem, SIZE);
	c.mem = mem_memfd_open(SIZE, &fd);
	c.second = second_container(*state, 0);
	in_child(register_map_and_leave, &c);
	wait_pinned(c.f, 10);
	assert_charged(c.f, 0);
	assert_ret(take_address(c.second), -EINVAL);
	assert_ok(give_address(c.second, c.mem));
	assert_charged(c.f, 10);
	fixture_open_device(c.f, 1);
	assert_dma_reaches(c.f, 1, c.mem, BASE);
	/* What is registered now has nothing to do with it. */
	assert_ok(vu_register(c.second, c.mem, SIZE, 0));
	assert_charged(c.f, NPAGES + 10);
	assert_ok(vu_unregister(c.second, c.mem, SIZE));
	assert_dma_reaches(c.f, 1, c.mem + PAGES(9), BASE + PAGES(9));
	assert_charged(c.f, 10);
	assert_pinned(c.f, 10);
	assert_unmaps(c.second, BASE, PAGES(10), PAGES(10));
	assert_nothing_held(c.f);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
	close(fd);
}

static void register_map_leave_and_exec(void *arg)
{
	register_map_and_leave(arg);
	exec_with_container("exec-vaddr", arg);
}

/* What the executed program does, with the container. */
static int after_exec_vaddr(int container)
{
	char *mem = private_memory();

	child_check(!vu_locked_kib());
	child_check(!give_address(container, mem));
	child_check(vu_locked_kib() == KIB(10));
	child_check(!vu_unmap(container, BASE, PAGES(10), 0, NULL));
	child_check(!vu_locked_kib());
	return 0;
}

/* As a VMM that replaces itself does it: nothing is registered any more, and it pays. */
static void a_mapping_can_be_handed_over_by_exec(void **state)
{
	struct child_case c;

	child_case_init(&c, *state);
	c.second = second_container(*state, 0);
	in_child(register_map_leave_and_exec, &c);
	wait_pinned(c.f, 0);
	fixture_close_device(c.f, 1);
	close(c.second);
	child_case_end(&c);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST_V2(the_limit_counts_once),
		TEST_V2(what_a_process_registers_is_its_own),
		TEST_V2(fork_does_not_part_memory_from_the_device),
		TEST_V2(exit_leaves_what_is_mapped),
		TEST_V2(a_kill_leaves_what_is_mapped),
		TEST_V2(exec_leaves_what_is_mapped),
		TEST_CLOSED(exec_closes_the_container),
		TEST_V2(a_mapping_can_be_handed_over),
		TEST_V2(taking_over_may_be_too_much),
		TEST_V2(a_mapping_can_be_handed_over_by_the_dead),
		TEST_V2(a_mapping_can_be_handed_over_by_exec),
	};

	/* What tests of exec() go on with: exec[-vaddr] CONTAINER, exec-without PINNED. */
	if (argc == 3 && !strcmp(argv[1], "exec"))
		return after_exec(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "exec-vaddr"))
		return after_exec_vaddr(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "exec-without"))
		return after_exec_without(atol(argv[2]));
	return cmocka_run_group_tests_name("registry_process", tests, NULL, NULL);
}
