// SPDX-License-Identifier: GPL-2.0-only
/*
 * A QEMU plugin that counts, instruction by instruction, what a VM executes between
 * the markers of bench.c: for TCG, one CPU, on a little-endian host.
 *
 *	qemu-system-x86_64 ... -plugin profile.so,out=FILE
 *
 * At the end FILE has a line for each block of code that was executed in a section:
 *
 *	SECTION ADDRESS INSTRUCTIONS EXECUTIONS
 *
 * with the address in hexadecimal and the instructions of one execution. A block may
 * come more than once. tests/bench/profile makes a table of it.
 *
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* Section 0 is what lies between sections, and isn't counted. */
#define SECTIONS	3

struct block {
	struct block *next;
	uint64_t address;
	uint64_t instructions;
	uint64_t executions[SECTIONS];
};

static struct block *blocks;
static unsigned int section;
static const char *out;

static void block_runs(unsigned int cpu, void *data)
{
	struct block *block = data;

	(void)cpu;
	block->executions[section]++;
}

static void marker_runs(unsigned int cpu, void *data)
{
	(void)cpu;
	section = (uintptr_t)data;
}

/* The section that a marker switches to, if this is one: nop with a number. */
static bool is_marker(const struct qemu_plugin_insn *insn, uintptr_t *to)
{
	static const uint8_t nop[4] = { 0x0f, 0x1f, 0x84, 0x00 };
	uint8_t code[8];

	if (qemu_plugin_insn_size(insn) != sizeof(code))
		return false;
#if QEMU_PLUGIN_VERSION < 3
	memcpy(code, qemu_plugin_insn_data(insn), sizeof(code));
#else
	qemu_plugin_insn_data(insn, code, sizeof(code));
#endif
	if (memcmp(code, nop, sizeof(nop)) || code[4] >= SECTIONS || code[5] || code[7] != 0x56)
		return false;
	*to = code[6] == 0x51 ? code[4] : 0;
	return code[6] == 0x51 || code[6] == 0x52;
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));
	uintptr_t to;
	size_t i;

	(void)id;
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, block_runs, 0, block);
	for (i = 0; i < block->instructions; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (is_marker(insn, &to))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, marker_runs, 0, (void *)to);
	}
}

static void write_profile(qemu_plugin_id_t id, void *data)
{
	const struct block *block;
	unsigned int i;
	FILE *f;

	(void)id;
	(void)data;
	f = fopen(out, "w");
	if (!f)
		return;
	for (block = blocks; block; block = block->next) {
		for (i = 1; i < SECTIONS; i++) {
			if (block->executions[i])
				fprintf(f, "%u %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", i,
					block->address, block->instructions,
					block->executions[i]);
		}
	}
	fclose(f);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = strdup(argv[0] + 4);
	qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
	qemu_plugin_register_atexit_cb(id, write_profile, NULL);
	return 0;
}
