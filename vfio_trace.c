// SPDX-License-Identifier: GPL-2.0-only
/*
 * The code behind the tracepoints of include/trace/vfio_trace.h, which the
 * kernel's macros make.
 */

#define CREATE_TRACE_POINTS
#include "trace/vfio_trace.h"
