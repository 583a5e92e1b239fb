/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs that measure in the VM share: they end at the first error, and
 * exchange the type1 module while memory and devices stay as they are.
 */
#ifndef BENCH_LIB_H
#define BENCH_LIB_H

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIB		1048576UL

/* The two modules, by where they are below lib/modules/RELEASE. */
#define TYPE1_INTREE	"kernel"
#define TYPE1_OURS	"updates"

/* Pass on what a library function returned; exit, saying what, if that's an errno. */
int must(const char *what, int ret);

void module_load(const char *path, const char *params);

/* Make this type1 module the one that containers get. None may be open. */
void type1_select(const char *module);

#endif /* BENCH_LIB_H */
