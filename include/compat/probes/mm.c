// SPDX-License-Identifier: GPL-2.0-only
/*
 * What memory management looks like.  Each answer names the commit that it asks for.
 */
#include <linux/mm.h>
#include <linux/uaccess.h>
#include "probe.h"

/* 0b295316b3a9, 6.5: "mm/gup: remove unused vmas parameter from pin_user_pages_remote()" */
ANSWER(PIN_REMOTE, NO_VMAS)
IS(pin_user_pages_remote, long (struct mm_struct *, unsigned long, unsigned long, unsigned int,
				struct page **, int *));
ANSWER(PIN_REMOTE, VMAS)
IS(pin_user_pages_remote, long (struct mm_struct *, unsigned long, unsigned long, unsigned int,
				struct page **, struct vm_area_struct **, int *));

/* ca5e863233e8, 6.5: "mm/gup: remove vmas parameter from get_user_pages_remote()" */
ANSWER(GET_REMOTE, NO_VMAS)
IS(get_user_pages_remote, long (struct mm_struct *, unsigned long, unsigned long, unsigned int,
				struct page **, int *));
ANSWER(GET_REMOTE, VMAS)
IS(get_user_pages_remote, long (struct mm_struct *, unsigned long, unsigned long, unsigned int,
				struct page **, struct vm_area_struct **, int *));

/*
 * 84209e87c696, 6.2: "mm/gup: reliable R/O long-term pinning in COW mappings", which gave this
 * function the area.  6.3 made it private.
 */
ANSWER(GUP_MUST_UNSHARE, NO_VMA)
IS(gup_must_unshare, bool (unsigned int, struct page *));
ANSWER(GUP_MUST_UNSHARE, VMA)
IS(gup_must_unshare, bool (struct vm_area_struct *, unsigned int, struct page *));
ANSWER(GUP_MUST_UNSHARE, NOT_THERE)
IS_NOT_THERE(gup_must_unshare);

/*
 * 2c2241081f7d, 6.3: "mm/gup: move private gup FOLL_ flags to internal.h", the last of the series
 * of b2a72dff85fa, "mm/gup: have internal functions get the mmap_read_lock()".
 */
ANSWER(FOLL_REMOTE, THERE)
_Static_assert(FOLL_REMOTE, "FOLL_REMOTE");
ANSWER(FOLL_REMOTE, NOT_THERE)
IS_NOT_THERE(FOLL_REMOTE);

/* 428e106ae1ad, 6.4: "mm: Introduce untagged_addr_remote()", which is a macro */
ANSWER(UNTAGGED_ADDR_REMOTE, THERE)
#ifndef untagged_addr_remote
IS(untagged_addr_remote, unsigned long (struct mm_struct *, unsigned long));
#endif
ANSWER(UNTAGGED_ADDR_REMOTE, NOT_THERE)
#ifdef untagged_addr_remote
_Static_assert(0, "untagged_addr_remote");
#endif
IS_NOT_THERE(untagged_addr_remote);

/* 6da8e9634bb7, 6.12: "mm: new follow_pfnmap API" */
ANSWER(FOLLOW_PFNMAP, THERE)
IS(follow_pfnmap_start, int (struct follow_pfnmap_args *));
ANSWER(FOLLOW_PFNMAP, NOT_THERE)
IS_NOT_THERE(follow_pfnmap_start);

/* 29ae7d96d166, 6.10: "mm: pass VMA instead of MM to follow_pte()".  6.12 took it away. */
ANSWER(FOLLOW_PTE, VMA)
IS(follow_pte, int (struct vm_area_struct *, unsigned long, pte_t **, spinlock_t **));
ANSWER(FOLLOW_PTE, MM)
IS(follow_pte, int (struct mm_struct *, unsigned long, pte_t **, spinlock_t **));
ANSWER(FOLLOW_PTE, NOT_THERE)
IS_NOT_THERE(follow_pte);
