/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How a probe asks (see ../probe.sh).  All of it is at file scope, and none of it leaves any code.
 */
#ifndef _VFIO_TYPE1_PROBE_H
#define _VFIO_TYPE1_PROBE_H

/*
 * Of a probe, and one of its answers: what follows, up to an empty line or the next of these,
 * compiles if that is the answer.
 */
#define ANSWER(...)

/* A function has just that type: those that differ in what they take or give are others. */
#define IS(name, type) \
	_Static_assert(__builtin_types_compatible_p(typeof(name), typeof(type)), #name)

/* Nobody declared that name.  Of macros, it notices those that take no arguments. */
#define IS_NOT_THERE(name) extern struct vfio_probe name

#endif /* _VFIO_TYPE1_PROBE_H */
