// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code behind the tracepoints of include/trace/vfio_trace.h, which the
 * kernel's macros make.
 */

/* The functions that take a refusal's text look to W=1 as if they were like printf(). */
#pragma GCC diagnostic ignored "-Wsuggest-attribute=format"

#define CREATE_TRACE_POINTS
#include "trace/vfio_trace.h"
