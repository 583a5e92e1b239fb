// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dirty tracking, against a model.
 */
#include <stdlib.h>

#include "dirty.h"

#define ORACLE_PAGES	300UL
#define ORACLE_MAX	8	/* mappings */
#define ORACLE_STEPS	20000

struct oracle {
	const struct emu_fixture *e;
	char *mem;
	unsigned int seed;
	bool tracking;
	struct extent mappings[ORACLE_MAX];	/* npages 0: not mapped */
	unsigned int pins[ORACLE_PAGES];	/* of each page, by the device */
	bool dirty[ORACLE_PAGES];
};

static size_t below(struct oracle *o, size_t n)
{
	return rand_r(&o->seed) % n;
}

static bool oracle_mapped(const struct oracle *o, size_t page)
{
	unsigned int i;

	for (i = 0; i < ORACLE_MAX; i++) {
		if (page - o->mappings[i].first < o->mappings[i].npages)
			return true;
	}
	return false;
}

/* How many of n pages from first on are mapped before the first that is not. */
static size_t oracle_reach(const struct oracle *o, size_t first, size_t n)
{
	size_t i;

	for (i = 0; i < n && first + i < ORACLE_PAGES && oracle_mapped(o, first + i); i++)
		;
	return i;
}

static void oracle_map(struct oracle *o)
{
	struct extent *m = &o->mappings[below(o, ORACLE_MAX)];
	struct extent new = { below(o, ORACLE_PAGES), 1 + below(o, 100) };
	size_t i;
	int ret = 0;

	if (m->npages)
		return;
	if (new.npages > ORACLE_PAGES - new.first)
		new.npages = ORACLE_PAGES - new.first;
	for (i = 0; i < new.npages; i++) {
		if (oracle_mapped(o, new.first + i))
			ret = -EEXIST;
	}
	assert_ret(vu_map_rw(o->e->f->container, o->mem + PAGES(new.first),
			     BASE + PAGES(new.first), PAGES(new.npages)), ret);
	if (ret)
		return;
	*m = new;
	for (i = 0; i < new.npages; i++) {
		o->dirty[new.first + i] = false;
		assert_int_equal(o->pins[new.first + i], 0);
	}
}

/* The words of a range whose mappings are those of the model. */
static void oracle_words(const struct oracle *o, size_t first, size_t npages, __u64 *want)
{
	size_t page, b;
	unsigned int i;

	/* Bits that belong to no mapping are cleared where a mapping's last word has them. */
	for (page = first; page < first + npages; page++) {
		for (i = 0; i < ORACLE_MAX; i++) {
			const struct extent *m = &o->mappings[i];

			if (!m->npages || m->first != page)
				continue;
			for (b = page - first; b < WORDS(page - first + m->npages) * BITS; b++)
				want[b / BITS] &= ~(1ULL << (b % BITS));
		}
		if (oracle_mapped(o, page) && o->dirty[page])
			set_bits(want, page - first, 1);
	}
}

/* Of all, or of one mapping and the gap before it. */
static void oracle_range(struct oracle *o, size_t *first, size_t *npages)
{
	const struct extent *m = &o->mappings[below(o, ORACLE_MAX)];

	*first = 0;
	*npages = ORACLE_PAGES;
	if (!m->npages || below(o, 2))
		return;
	*first = m->first;
	while (*first && !oracle_mapped(o, *first - 1) && below(o, 40))
		(*first)--;
	*npages = m->first + m->npages - *first;
}

/* In the in-tree module a mapping's random bits end up in the next one, too. */
static void oracle_compare(__u64 *words, const __u64 *want)
{
	ignore_on_intree(words, want, WORDS(ORACLE_PAGES));
	assert_words(words, want, WORDS(ORACLE_PAGES));
}

static void oracle_get(struct oracle *o)
{
	__u64 words[WORDS(ORACLE_PAGES)], want[WORDS(ORACLE_PAGES)];
	size_t first, npages, page;

	oracle_range(o, &first, &npages);
	memset(words, what_was_there(), sizeof(words));
	memcpy(want, words, sizeof(want));
	assert_ret(get_dirty(o->e->f->container, BASE + PAGES(first), npages, words),
		   o->tracking ? 0 : -EINVAL);
	if (o->tracking) {
		oracle_words(o, first, npages, want);
		for (page = first; page < first + npages; page++)
			o->dirty[page] = o->pins[page];
	}
	oracle_compare(words, want);
}

static void oracle_unmap(struct oracle *o)
{
	__u64 words[WORDS(ORACLE_PAGES)], want[WORDS(ORACLE_PAGES)];
	size_t first, npages, page, mapped = 0;
	struct unmap_bitmap unmap;
	unsigned int i;

	oracle_range(o, &first, &npages);
	for (page = first; page < first + npages; page++)
		mapped += oracle_mapped(o, page);
	memset(words, what_was_there(), sizeof(words));
	memcpy(want, words, sizeof(want));
	emu_unpin_when_told(&o->e->emu[0], 1 + below(o, 3));
	unmap = unmap_request(BASE + PAGES(first), PAGES(npages), words, WORDS(npages) * 8);
	if (o->tracking)
		oracle_words(o, first, npages, want);
	else
		unmap.flags = 0;
	assert_ok(unmap_ioctl(o->e->f->container, &unmap));
	assert_int_equal(unmap.size, PAGES(mapped));
	oracle_compare(words, want);

	for (i = 0; i < ORACLE_MAX; i++) {
		if (o->mappings[i].first - first < npages)
			o->mappings[i].npages = 0;
	}
	memset(o->pins + first, 0, npages * sizeof(o->pins[0]));
}

static void oracle_pin(struct oracle *o)
{
	const size_t first = below(o, ORACLE_PAGES), n = 1 + below(o, 20);
	const size_t reach = oracle_reach(o, first, n);
	size_t i;

	assert_ret(emu_pin_at(&o->e->emu[0], BASE + PAGES(first), n, EMU_PROT_RW,
			      below(o, 2) ? EMU_KTHREAD : 0, NULL),
		   reach == n ? (int)n : -EINVAL);
	for (i = 0; i < reach; i++) {
		o->dirty[first + i] |= !o->pins[first + i];
		o->pins[first + i] += reach == n;
	}
}

static void oracle_unpin(struct oracle *o)
{
	const size_t first = below(o, ORACLE_PAGES);
	size_t n = 0;

	while (first + n < ORACLE_PAGES && n < 20 && o->pins[first + n])
		o->pins[first + n++]--;
	if (n)
		assert_ok(emu_unpin(&o->e->emu[0], BASE + PAGES(first), n));
}

static void oracle_write(struct oracle *o)
{
	const size_t at = below(o, ORACLE_PAGES * VU_PAGE), len = 1 + below(o, PAGES(5));
	const size_t first = at / VU_PAGE, n = (at + len - 1) / VU_PAGE - first + 1;
	const size_t reach = oracle_reach(o, first, n);
	const __u32 flags = (below(o, 2) ? EMU_WRITE : 0) | (below(o, 2) ? EMU_KTHREAD : 0);
	char buf[PAGES(5)] = "";
	size_t i;

	assert_ret(emu_rw(&o->e->emu[0], BASE + at, buf, len, flags), reach == n ? 0 : -EINVAL);
	for (i = 0; i < reach && flags & EMU_WRITE; i++)
		o->dirty[first + i] = true;
}

static void oracle_start_or_stop(struct oracle *o)
{
	const bool start = below(o, 2);
	size_t page;

	assert_ok(dirty_ioctl(o->e->f->container, start ? START : STOP));
	for (page = 0; page < ORACLE_PAGES && start && !o->tracking; page++)
		o->dirty[page] = o->pins[page];
	o->tracking = start;
}

/* What is charged are the pages that are pinned. */
static void oracle_check(const struct oracle *o)
{
	size_t page, pinned = 0;

	for (page = 0; page < ORACLE_PAGES; page++)
		pinned += !!o->pins[page];
	assert_charged(o->e->f, pinned);
}

static void bitmaps_agree_with_a_model(void **state)
{
	static void (*const steps[])(struct oracle *o) = {
		oracle_map, oracle_map, oracle_unmap, oracle_pin, oracle_pin, oracle_pin,
		oracle_unpin, oracle_unpin, oracle_write, oracle_write, oracle_get, oracle_get,
	};
	struct oracle o = { .e = *state, .mem = mem_pages(ORACLE_PAGES), .seed = 20 };
	size_t page, mapped = 0;
	unsigned int step;

	for (step = 0; step < ORACLE_STEPS; step++) {
		if (step % 50 == 10)
			oracle_start_or_stop(&o);
		steps[below(&o, ARRAY_SIZE(steps))](&o);
		oracle_check(&o);
	}
	for (page = 0; page < ORACLE_PAGES; page++)
		mapped += oracle_mapped(&o, page);
	assert_unmaps_all(o.e->f->container, PAGES(mapped));
	assert_nothing_held(o.e->f);
	vu_free(o.mem, PAGES(ORACLE_PAGES));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_EMU(bitmaps_agree_with_a_model),
	};

	return cmocka_run_group_tests_name("dirty_model", tests, NULL, NULL);
}
