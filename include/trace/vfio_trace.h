/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints, as events/vfio_type1/ of tracefs.  Documentation/tracing.rst says
 * when each is hit.  All carry the container's number in debugfs; times are
 * nanoseconds, addresses and sizes bytes.
 *
 * Switched off, each is a no-op in the instruction stream.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_type1

#if !defined(_VFIO_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VFIO_TRACE_H

#include <linux/tracepoint.h>

#include <linux/iommu.h>

#include "../vfio_count.h"
#include "../vfio_type1.h"

TRACE_EVENT(map_begin,
	TP_PROTO(const struct vfio_type1_container *container, u64 iova, u64 vaddr, u64 size,
		 int prot),
	TP_ARGS(container, iova, vaddr, size, prot),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(u64, vaddr)
		__field(u64, size)
		__field(int, prot)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->iova = iova;
		__entry->vaddr = vaddr;
		__entry->size = size;
		__entry->prot = prot;
	),
	TP_printk("container=%llu iova=0x%llx vaddr=0x%llx size=%llu prot=%s%s", __entry->container,
		  __entry->iova, __entry->vaddr, __entry->size,
		  __entry->prot & IOMMU_READ ? "r" : "", __entry->prot & IOMMU_WRITE ? "w" : "")
);

TRACE_EVENT(unmap_begin,
	TP_PROTO(const struct vfio_type1_container *container, u64 iova, u64 size, bool all),
	TP_ARGS(container, iova, size, all),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(u64, size)
		__field(bool, all)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->iova = iova;
		__entry->size = size;
		__entry->all = all;
	),
	TP_printk("container=%llu iova=0x%llx size=%llu all=%d", __entry->container, __entry->iova,
		  __entry->size, __entry->all)
);

DECLARE_EVENT_CLASS(request_end,
	TP_PROTO(const struct vfio_type1_container *container, u64 iova, int ret, u64 pages,
		 u64 cycles),
	TP_ARGS(container, iova, ret, pages, cycles),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(int, ret)
		__field(u64, pages)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->iova = iova;
		__entry->ret = ret;
		__entry->pages = pages;
		__entry->ns = vfio_count_ns(container, cycles);
	),
	TP_printk("container=%llu iova=0x%llx ret=%d pages=%llu ns=%llu", __entry->container,
		  __entry->iova, __entry->ret, __entry->pages, __entry->ns)
);

DEFINE_EVENT(request_end, map_end,
	TP_PROTO(const struct vfio_type1_container *container, u64 iova, int ret, u64 pages,
		 u64 cycles),
	TP_ARGS(container, iova, ret, pages, cycles)
);

DEFINE_EVENT(request_end, unmap_end,
	TP_PROTO(const struct vfio_type1_container *container, u64 iova, int ret, u64 pages,
		 u64 cycles),
	TP_ARGS(container, iova, ret, pages, cycles)
);

TRACE_EVENT(pin_batch,
	TP_PROTO(const struct vfio_type1_container *container, u64 vaddr, u64 wanted, int got,
		 u64 cycles),
	TP_ARGS(container, vaddr, wanted, got, cycles),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, vaddr)
		__field(u64, wanted)
		__field(int, got)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->vaddr = vaddr;
		__entry->wanted = wanted;
		__entry->got = got;
		__entry->ns = vfio_count_ns(container, cycles);
	),
	TP_printk("container=%llu vaddr=0x%llx wanted=%llu got=%d ns=%llu", __entry->container,
		  __entry->vaddr, __entry->wanted, __entry->got, __entry->ns)
);

TRACE_EVENT(run,
	TP_PROTO(const struct vfio_type1_container *container, u64 iova, u64 pfn, u32 npages),
	TP_ARGS(container, iova, pfn, npages),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u64, iova)
		__field(u64, pfn)
		__field(u32, npages)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->iova = iova;
		__entry->pfn = pfn;
		__entry->npages = npages;
	),
	TP_printk("container=%llu iova=0x%llx pfn=0x%llx npages=%u", __entry->container,
		  __entry->iova, __entry->pfn, __entry->npages)
);

TRACE_EVENT(window,
	TP_PROTO(const struct vfio_type1_container *container, u32 runs, u64 bytes, u32 spans),
	TP_ARGS(container, runs, bytes, spans),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(u32, runs)
		__field(u64, bytes)
		__field(u32, spans)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->runs = runs;
		__entry->bytes = bytes;
		__entry->spans = spans;
	),
	TP_printk("container=%llu runs=%u bytes=%llu spans=%u", __entry->container, __entry->runs,
		  __entry->bytes, __entry->spans)
);

DECLARE_EVENT_CLASS(group_change,
	TP_PROTO(const struct vfio_type1_container *container, int group, int ret, u64 cycles),
	TP_ARGS(container, group, ret, cycles),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(int, group)
		__field(int, ret)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->group = group;
		__entry->ret = ret;
		__entry->ns = vfio_count_ns(container, cycles);
	),
	TP_printk("container=%llu group=%d ret=%d ns=%llu", __entry->container, __entry->group,
		  __entry->ret, __entry->ns)
);

DEFINE_EVENT(group_change, attach,
	TP_PROTO(const struct vfio_type1_container *container, int group, int ret, u64 cycles),
	TP_ARGS(container, group, ret, cycles)
);

DEFINE_EVENT(group_change, detach,
	TP_PROTO(const struct vfio_type1_container *container, int group, int ret, u64 cycles),
	TP_ARGS(container, group, ret, cycles)
);

TRACE_EVENT(fgsp,
	TP_PROTO(const struct vfio_type1_container *container, int group, bool fgsp),
	TP_ARGS(container, group, fgsp),
	TP_STRUCT__entry(
		__field(u64, container)
		__field(int, group)
		__field(bool, fgsp)
	),
	TP_fast_assign(
		__entry->container = container->id;
		__entry->group = group;
		__entry->fgsp = fgsp;
	),
	TP_printk("container=%llu group=%d fgsp=%d", __entry->container, __entry->group,
		  __entry->fgsp)
);

TRACE_EVENT(refusal,
	TP_PROTO(const struct vfio_type1_container *container, const char *reason,
		 const struct va_format *text),
	TP_ARGS(container, reason, text),
	TP_STRUCT__entry(
		__field(u64, container)
		__array(char, reason, 16)
		__vstring(text, text->fmt, text->va)
	),
	TP_fast_assign(
		__entry->container = container->id;
		strscpy_pad(__entry->reason, reason, sizeof(__entry->reason));
		__assign_vstr(text, text->fmt, text->va);
	),
	TP_printk("container=%llu reason=%s text=\"%s\"", __entry->container, __entry->reason,
		  __get_str(text))
);

#endif /* _VFIO_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH trace
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vfio_trace
#include <trace/define_trace.h>
