/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For test programs: containers with in-kernel users, which are emulated devices
 * (emu.c) that do what the test says. The module is loaded from /EMU_KO.
 *
 * As in testlib.h, a test opens what it needs through one of the setup functions,
 * and leaves the closing to emu_teardown(). Functions return 0, or what they are
 * said to return, or a negative errno.
 */
#ifndef EMU_USER_H
#define EMU_USER_H

#include "../testlib.h"
#include "emu.h"

#define EMU_KO		"/vfio_type1_emu.ko"

/* Of mappings and pins. */
#define EMU_PROT_READ	1U
#define EMU_PROT_WRITE	2U
#define EMU_PROT_RW	(EMU_PROT_READ | EMU_PROT_WRITE)

struct emu_fixture {
	struct fixture *f;			/* container and edus */
	struct vu_pci emu[EMU_DEVICES];		/* named and in a group like a PCI device */
};

/* ---- The state of a test ---- */

/* Nothing open yet. */
int emu_setup_closed(void **state);
/* A v2 container with just emu[0] in it, open. */
int emu_setup_only(void **state);
/* A v2 container with the first edu and emu[0], both open. */
int emu_setup_mixed(void **state);
/* A v2 container with the first edu as a device that pins behind a real IOMMU: pci[0]. */
int emu_setup_edu(void **state);
/* Close what is open; nothing may be left pinned or charged. */
int emu_teardown(void **state);

#define TEST_EMU_CLOSED(name) \
	cmocka_unit_test_setup_teardown(name, emu_setup_closed, emu_teardown)
#define TEST_EMU(name)	cmocka_unit_test_setup_teardown(name, emu_setup_only, emu_teardown)
#define TEST_MIXED(name) cmocka_unit_test_setup_teardown(name, emu_setup_mixed, emu_teardown)
#define TEST_EMU_EDU(name) cmocka_unit_test_setup_teardown(name, emu_setup_edu, emu_teardown)

/* Put the nth emulated device's group into the container; then open the device. */
void emu_attach(struct emu_fixture *e, unsigned int nth);
void emu_open_device(struct emu_fixture *e, unsigned int nth);
/* Close its device and group, which takes it out of the container. */
void emu_close(struct emu_fixture *e, unsigned int nth);

/* ---- What a device does ---- */

/* vfio_pin_pages(): pages that were pinned. pfns, if not NULL, gets where they are. */
int emu_pin_at(const struct vu_pci *dev, __u64 iova, __u64 npages, __u32 prot, __u32 flags,
	       __u64 *pfns);
int emu_pin(const struct vu_pci *dev, __u64 iova, __u64 npages);
/* vfio_unpin_pages(); -ENOENT if the device has not pinned all of it. */
int emu_unpin(const struct vu_pci *dev, __u64 iova, __u64 npages);
int emu_unpin_not_pinned(const struct vu_pci *dev, __u64 iova, __u64 npages);
/* vfio_dma_rw() by the caller, or with EMU_KTHREAD by a kernel thread; EMU_WRITE writes. */
int emu_rw(const struct vu_pci *dev, __u64 iova, void *data, size_t len, __u32 flags);
/* Unpin when told for the nth time, from 1; start to count what it is told. */
void emu_unpin_when_told(const struct vu_pci *dev, unsigned int nth);
void emu_state(const struct vu_pci *dev, struct emu_state *state);
/* It never unpins by itself before it is closed; or not even then. */
void emu_never_unpin(const struct vu_pci *dev);
void emu_forget(const struct vu_pci *dev);
/* It unpins all so many milliseconds after it was told. */
void emu_unpin_late(const struct vu_pci *dev, unsigned int ms);
/* With EMU_UNLOCKED it notes only so many milliseconds later what it has pinned. */
void emu_note_late(const struct vu_pci *dev, unsigned int ms);

/*
 * The device's area becomes npages pages, those of this process at the addresses in from, or
 * where that is NULL or has a NULL in it, pages of the device's own. It is mapped and touched:
 * at an address, or anywhere if that is NULL. emu_teardown() unmaps it, if not the test.
 */
char *emu_area(const struct vu_pci *dev, void *at, unsigned int npages, void *const *from,
	       __u32 flags);
void emu_area_unmap(void);
void emu_refs(const struct vu_pci *dev, struct emu_refs *refs);

/* Where a page of this process is: its frame number. */
__u64 pfn_of(const void *mem);

#endif /* EMU_USER_H */
