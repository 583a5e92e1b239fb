// SPDX-License-Identifier: GPL-2.0-only
/*
 * The set of mappings, against an array with one entry per cell of IOVA space.
 */

#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/prandom.h>
#include <linux/sched/signal.h>

#include "suite.h"

#define CELLS_MAX	256

/* Cells of @size bytes from @base on; @owner tells which mapping holds each. */
struct model {
	u64 base;
	u64 size;
	unsigned int cells;
	struct vfio_dma *owner[CELLS_MAX];
};

static u64 cell_first(const struct model *m, unsigned int cell)
{
	return m->base + cell * m->size;
}

static u64 cell_last(const struct model *m, unsigned int cell)
{
	return cell_first(m, cell) + (m->size - 1);
}

static unsigned int cell_of(const struct model *m, u64 iova)
{
	return (iova - m->base) / m->size;
}

/* What the tree does under its lock, so that no check fails while it is held. */
static int locked_insert(struct vfio_dma_tree *tree, struct vfio_dma *dma,
			 struct vfio_dma **overlap)
{
	int ret;

	spin_lock(&tree->lock);
	ret = vfio_dma_tree_insert(tree, dma, overlap);
	spin_unlock(&tree->lock);
	return ret;
}

static void locked_remove(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	spin_lock(&tree->lock);
	vfio_dma_tree_remove(tree, dma);
	spin_unlock(&tree->lock);
	vfio_dma_tree_wake(tree);
}

static void locked_settle(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	spin_lock(&tree->lock);
	vfio_dma_tree_settle(tree, dma);
	spin_unlock(&tree->lock);
	vfio_dma_tree_wake(tree);
}

static void locked_keep(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	spin_lock(&tree->lock);
	vfio_dma_tree_keep(tree, dma);
	spin_unlock(&tree->lock);
	vfio_dma_tree_wake(tree);
}

static struct vfio_dma *locked_first_kept(struct vfio_dma_tree *tree, u64 iova, u64 last)
{
	struct vfio_dma *dma;

	spin_lock(&tree->lock);
	dma = vfio_dma_tree_first_kept(tree, iova, last);
	spin_unlock(&tree->lock);
	return dma;
}

static struct vfio_dma *locked_first(struct vfio_dma_tree *tree, u64 iova, u64 last)
{
	struct vfio_dma *dma;

	spin_lock(&tree->lock);
	dma = vfio_dma_tree_first(tree, iova, last);
	spin_unlock(&tree->lock);
	return dma;
}

static struct vfio_dma *locked_next(struct vfio_dma_tree *tree, struct vfio_dma *dma)
{
	struct vfio_dma *next;

	spin_lock(&tree->lock);
	next = vfio_dma_tree_next(dma);
	spin_unlock(&tree->lock);
	return next;
}

static struct vfio_dma *locked_range(struct vfio_dma_tree *tree, u64 iova, u64 last,
				     struct vfio_dma **first)
{
	struct vfio_dma *cut;

	spin_lock(&tree->lock);
	*first = vfio_dma_tree_range(tree, iova, last, &cut);
	spin_unlock(&tree->lock);
	return cut;
}

static struct vfio_dma *model_first(const struct model *m, unsigned int from, unsigned int to)
{
	for (; from <= to; from++) {
		if (m->owner[from])
			return m->owner[from];
	}
	return NULL;
}

static bool cuts(const struct model *m, const struct vfio_dma *dma, u64 iova, u64 last)
{
	bool touches = dma->iova <= last && dma->last >= iova;

	return touches && (dma->iova < iova || dma->last > last);
}

static void expect_range(struct kunit *test, struct vfio_dma_tree *tree,
			 const struct model *m, unsigned int from, unsigned int to)
{
	u64 iova = cell_first(m, from), last = cell_last(m, to);
	struct vfio_dma *first, *dma = locked_range(tree, iova, last, &first);
	bool any = (m->owner[from] && cuts(m, m->owner[from], iova, last)) ||
		   (m->owner[to] && cuts(m, m->owner[to], iova, last));

	KUNIT_ASSERT_PTR_EQ(test, first, model_first(m, from, to));
	KUNIT_ASSERT_EQ(test, !!dma, any);
	if (dma)
		KUNIT_ASSERT_TRUE_MSG(test, cuts(m, dma, iova, last),
				      "%#llx-%#llx is not cut by %#llx-%#llx", (u64)dma->iova,
				      (u64)dma->last, iova, last);
}

/* Insert as the model says it must go. Returns whether it went in. */
static bool expect_insert(struct kunit *test, struct vfio_dma_tree *tree, struct model *m,
			  struct vfio_dma *dma, unsigned int from, unsigned int to)
{
	struct vfio_dma *overlap = NULL, *in_the_way = model_first(m, from, to);
	unsigned int avail = tree->avail;
	u64 bytes = tree->bytes;
	int ret;

	dma->iova = cell_first(m, from);
	dma->last = cell_last(m, to);
	ret = locked_insert(tree, dma, &overlap);
	if (in_the_way) {
		KUNIT_ASSERT_EQ(test, ret, -EEXIST);
		KUNIT_ASSERT_NOT_NULL(test, overlap);
		KUNIT_ASSERT_TRUE(test, overlap->iova <= dma->last && overlap->last >= dma->iova);
		KUNIT_ASSERT_EQ(test, tree->avail, avail);
		KUNIT_ASSERT_EQ(test, tree->bytes, bytes);
		return false;
	}
	KUNIT_ASSERT_EQ(test, ret, avail ? 0 : -ENOSPC);
	KUNIT_ASSERT_EQ(test, tree->avail, avail - !!avail);
	KUNIT_ASSERT_EQ(test, tree->bytes, bytes + (ret ? 0 : (to - from + 1) * m->size));
	KUNIT_ASSERT_NULL(test, overlap);
	if (ret)
		return false;
	KUNIT_ASSERT_EQ(test, (int)dma->state, (int)VFIO_DMA_PENDING);
	for (; from <= to; from++)
		m->owner[from] = dma;
	return true;
}

static void expect_remove(struct kunit *test, struct vfio_dma_tree *tree, struct model *m,
			  struct vfio_dma *dma)
{
	unsigned int cell, avail = tree->avail;
	u64 bytes = tree->bytes - (dma->last - dma->iova + 1);
	unsigned long changes = tree->changes;

	locked_remove(tree, dma);
	KUNIT_ASSERT_EQ(test, tree->avail, avail + 1);
	KUNIT_ASSERT_EQ(test, tree->bytes, bytes);
	KUNIT_ASSERT_NE(test, tree->changes, changes);
	for (cell = cell_of(m, dma->iova); cell <= cell_of(m, dma->last); cell++)
		m->owner[cell] = NULL;
}

/* Walking the tree meets the model's mappings, in order, and no others. */
static void expect_order(struct kunit *test, struct vfio_dma_tree *tree, const struct model *m)
{
	struct vfio_dma *dma = locked_first(tree, 0, U64_MAX);
	unsigned int cell = 0;

	while (cell < m->cells) {
		if (!m->owner[cell]) {
			cell++;
			continue;
		}
		KUNIT_ASSERT_PTR_EQ(test, dma, m->owner[cell]);
		cell = cell_of(m, dma->last) + 1;
		dma = locked_next(tree, dma);
	}
	KUNIT_ASSERT_NULL(test, dma);
}

#define SMALL	6

/* The same cases at the bottom, in the middle and at the very top of IOVA space. */
static const struct model small[] = {
	{ .base = 0, .size = 1, .cells = SMALL },
	{ .base = 0, .size = PAGE_SIZE, .cells = SMALL },
	{ .base = (1ULL << 63) - 3 * PAGE_SIZE, .size = PAGE_SIZE, .cells = SMALL },
	{ .base = U64_MAX - (SMALL - 1), .size = 1, .cells = SMALL },
	{ .base = U64_MAX - (SMALL * PAGE_SIZE - 1), .size = PAGE_SIZE, .cells = SMALL },
};

static void small_desc(const struct model *m, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u cells of %llu bytes at %#llx", m->cells,
		 m->size, m->base);
}

KUNIT_ARRAY_PARAM(small, small, small_desc);

/*
 * Every set of mappings in six cells, built upwards and downwards, and every
 * range: first, range, insert, remove.
 */
static void every_small_set(struct kunit *test)
{
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	unsigned int taken, starts, from, to, n;
	struct vfio_dma dma[SMALL + 1];
	struct vfio_dma_tree tree;
	bool down;

	KUNIT_ASSERT_NOT_NULL(test, m);
	/* A set: which cells are taken, and which of these start a mapping. */
	for (n = 0; n < 2U << (2 * SMALL); n++) {
		down = n & 1;
		taken = (n >> 1) & (BIT(SMALL) - 1);
		starts = (n >> 1) >> SMALL;
		if ((starts & ~taken) || (taken & ~(taken << 1) & ~starts))
			continue;

		*m = *(const struct model *)test->param_value;
		vfio_dma_tree_init(&tree, SMALL + 1);
		for (from = down ? SMALL : 0; down ? from-- : from < SMALL; from += !down) {
			if (!(starts & BIT(from)))
				continue;
			to = from;
			while (to + 1 < SMALL && (taken & ~starts & BIT(to + 1)))
				to++;
			KUNIT_ASSERT_TRUE(test, expect_insert(test, &tree, m, &dma[from], from,
							      to));
		}
		expect_order(test, &tree, m);

		for (from = 0; from < SMALL; from++) {
			for (to = from; to < SMALL; to++) {
				u64 iova = cell_first(m, from), last = cell_last(m, to);

				KUNIT_ASSERT_PTR_EQ(test, locked_first(&tree, iova, last),
						    model_first(m, from, to));
				expect_range(test, &tree, m, from, to);
				if (expect_insert(test, &tree, m, &dma[SMALL], from, to)) {
					expect_order(test, &tree, m);
					expect_remove(test, &tree, m, &dma[SMALL]);
				}
			}
		}
		/* Taking each one out leaves the others. */
		for (from = 0; from < SMALL; from++) {
			if (!(starts & BIT(from)))
				continue;
			expect_remove(test, &tree, m, &dma[from]);
			expect_order(test, &tree, m);
		}
		KUNIT_ASSERT_TRUE(test, RB_EMPTY_ROOT(&tree.root));
		KUNIT_ASSERT_EQ(test, tree.avail, SMALL + 1);
	}
}

/* Long walks with few and with many mappings, and a budget that runs out. */
static void random_walk(struct kunit *test)
{
	struct vfio_dma *pool = kunit_kcalloc(test, CELLS_MAX, sizeof(*pool), GFP_KERNEL);
	struct model *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	struct vfio_dma_tree tree;
	struct rnd_state rnd;
	unsigned int seed, step, from, to, i, full = 0;

	KUNIT_ASSERT_NOT_NULL(test, pool);
	KUNIT_ASSERT_NOT_NULL(test, m);
	for (seed = 1; seed <= 10; seed++) {
		unsigned int in = 0, budget = seed * 12, longest = 1 << (seed % 5);

		prandom_seed_state(&rnd, seed);
		memset(m, 0, sizeof(*m));
		m->size = 1ULL << 56;
		m->cells = CELLS_MAX;
		vfio_dma_tree_init(&tree, budget);
		for (step = 0; step < 20000; step++) {
			from = prandom_u32_state(&rnd) % m->cells;
			to = min(from + prandom_u32_state(&rnd) % longest, m->cells - 1);
			KUNIT_ASSERT_PTR_EQ(test,
					    locked_first(&tree, cell_first(m, from),
							 cell_last(m, to)),
					    model_first(m, from, to));
			expect_range(test, &tree, m, from, to);

			if (m->owner[from] && step % 2) {
				struct vfio_dma *dma = m->owner[from];

				expect_remove(test, &tree, m, dma);
				in--;
				/* The pool's used entries are the first ones. */
				if (dma != &pool[in]) {
					struct vfio_dma *moved = &pool[in];

					from = cell_of(m, moved->iova);
					to = cell_of(m, moved->last);
					expect_remove(test, &tree, m, moved);
					KUNIT_ASSERT_TRUE(test,
							  expect_insert(test, &tree, m, dma, from,
									to));
				}
			} else {
				full += in == budget;
				in += expect_insert(test, &tree, m, &pool[in], from, to);
			}
			KUNIT_ASSERT_EQ(test, tree.avail, budget - in);
			if (step % 64 == 0)
				expect_order(test, &tree, m);
		}
		expect_order(test, &tree, m);
		for (i = 0; i < in; i++)
			expect_remove(test, &tree, m, &pool[i]);
		KUNIT_ASSERT_TRUE(test, RB_EMPTY_ROOT(&tree.root));
	}
	KUNIT_EXPECT_GT_MSG(test, full, 0U, "no walk ever ran into the budget");
}

/* The budget counts mappings, an overlap is told before an empty budget. */
static void budget_is_exact(struct kunit *test)
{
	struct vfio_dma a = { .iova = 0, .last = 9 }, b = { .iova = 10, .last = 19 };
	struct vfio_dma c = { .iova = 20, .last = 29 }, d = { .iova = 5, .last = 5 };
	struct vfio_dma *overlap = NULL;
	struct vfio_dma_tree tree;

	vfio_dma_tree_init(&tree, 2);
	KUNIT_EXPECT_EQ(test, 0, locked_insert(&tree, &a, &overlap));
	KUNIT_EXPECT_EQ(test, -EEXIST, locked_insert(&tree, &d, &overlap));
	KUNIT_EXPECT_PTR_EQ(test, overlap, &a);
	KUNIT_EXPECT_EQ(test, 0, locked_insert(&tree, &b, &overlap));
	KUNIT_EXPECT_EQ(test, -ENOSPC, locked_insert(&tree, &c, &overlap));
	KUNIT_EXPECT_EQ(test, -EEXIST, locked_insert(&tree, &d, &overlap));
	locked_remove(&tree, &a);
	KUNIT_EXPECT_EQ(test, 0, locked_insert(&tree, &c, &overlap));
	KUNIT_EXPECT_EQ(test, -ENOSPC, locked_insert(&tree, &a, &overlap));

	vfio_dma_tree_init(&tree, 0);
	KUNIT_EXPECT_EQ(test, -ENOSPC, locked_insert(&tree, &a, &overlap));
}

/* A mapping takes its IOVA in whatever state it is. */
static void every_state_takes_the_iova(struct kunit *test)
{
	struct vfio_dma a = { .iova = 0, .last = 9 }, b = { .iova = 9, .last = 10 };
	struct vfio_dma *overlap = NULL;
	struct vfio_dma_tree tree;

	vfio_dma_tree_init(&tree, 2);
	KUNIT_ASSERT_EQ(test, 0, locked_insert(&tree, &a, &overlap));
	KUNIT_EXPECT_EQ(test, (int)a.state, (int)VFIO_DMA_PENDING);
	KUNIT_EXPECT_EQ(test, -EEXIST, locked_insert(&tree, &b, &overlap));
	locked_settle(&tree, &a);
	KUNIT_EXPECT_EQ(test, (int)a.state, (int)VFIO_DMA_LIVE);
	KUNIT_EXPECT_EQ(test, -EEXIST, locked_insert(&tree, &b, &overlap));
	a.state = VFIO_DMA_DYING;
	KUNIT_EXPECT_EQ(test, -EEXIST, locked_insert(&tree, &b, &overlap));
	KUNIT_EXPECT_PTR_EQ(test, &a, locked_first(&tree, 0, U64_MAX));
	locked_remove(&tree, &a);
	KUNIT_EXPECT_EQ(test, 0, locked_insert(&tree, &b, &overlap));
}

/* What is KEPT takes its IOVA and its entry, and is not there to anybody who looks. */
static void kept_ones_are_in_the_way_only(struct kunit *test)
{
	static const unsigned int orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 0, 2 } };
	unsigned int order, i;

	for (order = 0; order < ARRAY_SIZE(orders); order++) {
		struct vfio_dma dma[4] = {
			{ .iova = 10, .last = 19 }, { .iova = 20, .last = 29 },
			{ .iova = 40, .last = 49 }, { .iova = 30, .last = 39 },
		};
		struct vfio_dma beside = { .iova = 0, .last = 9 }, over = { .iova = 5 };
		struct vfio_dma *overlap = NULL, *first;
		struct vfio_dma_tree tree;
		unsigned long changes;

		vfio_dma_tree_init(&tree, 5);
		for (i = 0; i < 4; i++)
			KUNIT_ASSERT_EQ(test, 0, locked_insert(&tree, &dma[i], &overlap));
		dma[1].vaddr_invalid = true;
		tree.vaddr_invalid = 1;
		changes = tree.changes;
		for (i = 0; i < 3; i++)
			locked_keep(&tree, &dma[orders[order][i]]);
		KUNIT_EXPECT_EQ(test, tree.changes, changes + 3);
		KUNIT_EXPECT_EQ(test, tree.avail, 1U);
		KUNIT_EXPECT_EQ(test, tree.vaddr_invalid, 0U);
		KUNIT_EXPECT_EQ(test, (int)dma[1].state, (int)VFIO_DMA_KEPT);

		KUNIT_EXPECT_PTR_EQ(test, locked_first(&tree, 0, 29), NULL);
		KUNIT_EXPECT_PTR_EQ(test, locked_first(&tree, 0, U64_MAX), &dma[3]);
		KUNIT_EXPECT_PTR_EQ(test, locked_next(&tree, &dma[3]), NULL);
		KUNIT_EXPECT_PTR_EQ(test, locked_range(&tree, 15, 45, &first), NULL);
		KUNIT_EXPECT_PTR_EQ(test, first, &dma[3]);
		KUNIT_EXPECT_PTR_EQ(test, locked_first_kept(&tree, 0, 9), NULL);
		KUNIT_EXPECT_PTR_EQ(test, locked_first_kept(&tree, 0, U64_MAX), &dma[0]);
		KUNIT_EXPECT_PTR_EQ(test, locked_first_kept(&tree, 20, 35), &dma[1]);
		KUNIT_EXPECT_PTR_EQ(test, locked_next(&tree, &dma[1]), &dma[2]);

		KUNIT_ASSERT_EQ(test, 0, locked_insert(&tree, &beside, &overlap));
		/* A mapping is the better answer than what is KEPT, and that than a full set. */
		over.last = 15;
		KUNIT_EXPECT_EQ(test, -EEXIST, locked_insert(&tree, &over, &overlap));
		over.iova = 19;
		over.last = 25;
		KUNIT_EXPECT_EQ(test, -EBUSY, locked_insert(&tree, &over, &overlap));
		KUNIT_EXPECT_PTR_EQ(test, overlap, &dma[0]);
		locked_remove(&tree, &dma[0]);
		KUNIT_EXPECT_EQ(test, -EBUSY, locked_insert(&tree, &over, &overlap));
		KUNIT_EXPECT_PTR_EQ(test, overlap, &dma[1]);
		locked_remove(&tree, &dma[1]);
		KUNIT_EXPECT_EQ(test, tree.avail, 2U);
		KUNIT_EXPECT_EQ(test, 0, locked_insert(&tree, &over, &overlap));
		KUNIT_EXPECT_PTR_EQ(test, locked_first_kept(&tree, 0, U64_MAX), &dma[2]);
		locked_remove(&tree, &dma[2]);
		KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&tree.kept));
	}
}

struct waiter {
	struct vfio_dma_tree *tree;
	unsigned long changes;
	struct completion done;
	int ret;
};

static int wait_thread(void *data)
{
	struct waiter *w = data;

	allow_signal(SIGKILL);
	w->ret = vfio_dma_tree_wait(w->tree, w->changes);
	complete(&w->done);
	/* Until the test collects it. */
	while (!kthread_should_stop())
		schedule_timeout_interruptible(1);
	return 0;
}

/* Start to wait for the tree to change from what it is now, or was at @changes. */
static struct task_struct *start_waiter(struct kunit *test, struct waiter *w,
					struct vfio_dma_tree *tree, unsigned long changes)
{
	struct task_struct *task;

	w->tree = tree;
	w->changes = changes;
	w->ret = 1;
	init_completion(&w->done);
	task = kthread_run(wait_thread, w, "vfio-waiter");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	return task;
}

static bool still_waits(struct waiter *w)
{
	return !wait_for_completion_timeout(&w->done, msecs_to_jiffies(50));
}

static bool woke_up(struct waiter *w)
{
	return wait_for_completion_timeout(&w->done, 10 * HZ);
}

/* All that wait are woken by settle, and by remove, and by nothing else. */
static void waiters_wake_on_settle_and_remove(struct kunit *test)
{
	struct vfio_dma a = { .iova = 0, .last = 9 }, b = { .iova = 10, .last = 19 };
	struct vfio_dma *overlap = NULL;
	struct vfio_dma_tree tree;
	struct task_struct *task[2];
	struct waiter w[2];
	unsigned int i, round;

	vfio_dma_tree_init(&tree, 2);
	KUNIT_ASSERT_EQ(test, 0, locked_insert(&tree, &a, &overlap));
	for (round = 0; round < 2; round++) {
		bool early[2], woke[2];

		for (i = 0; i < 2; i++)
			task[i] = start_waiter(test, &w[i], &tree, tree.changes);
		/* A new mapping frees nobody's way. */
		if (!round)
			KUNIT_EXPECT_EQ(test, 0, locked_insert(&tree, &b, &overlap));
		vfio_dma_tree_wake(&tree);
		for (i = 0; i < 2; i++)
			early[i] = !still_waits(&w[i]);
		if (!round)
			locked_settle(&tree, &a);
		else
			locked_remove(&tree, &a);
		for (i = 0; i < 2; i++) {
			woke[i] = woke_up(&w[i]);
			KUNIT_EXPECT_FALSE_MSG(test, early[i], "woke up before any change");
			KUNIT_ASSERT_TRUE_MSG(test, woke[i], "slept through the change");
			KUNIT_EXPECT_EQ(test, w[i].ret, 0);
			kthread_stop(task[i]);
		}
	}
}

/* A change between looking and waiting is not slept through. */
static void change_before_the_wait_counts(struct kunit *test)
{
	struct vfio_dma a = { .iova = 0, .last = 9 }, *overlap = NULL;
	struct vfio_dma_tree tree;
	struct task_struct *task;
	unsigned long changes;
	struct waiter w;

	vfio_dma_tree_init(&tree, 1);
	KUNIT_ASSERT_EQ(test, 0, locked_insert(&tree, &a, &overlap));
	changes = tree.changes;
	locked_settle(&tree, &a);
	task = start_waiter(test, &w, &tree, changes);
	KUNIT_ASSERT_TRUE(test, woke_up(&w));
	KUNIT_EXPECT_EQ(test, w.ret, 0);
	kthread_stop(task);
}

/* A killed process does not wait for others. */
static void fatal_signal_ends_the_wait(struct kunit *test)
{
	struct vfio_dma_tree tree;
	struct task_struct *task;
	struct waiter w;
	bool waits;

	vfio_dma_tree_init(&tree, 1);
	task = start_waiter(test, &w, &tree, tree.changes);
	waits = still_waits(&w);
	send_sig(SIGKILL, task, 1);
	KUNIT_ASSERT_TRUE(test, woke_up(&w));
	KUNIT_EXPECT_TRUE(test, waits);
	KUNIT_EXPECT_EQ(test, w.ret, -EINTR);
	kthread_stop(task);
}

static struct kunit_case tree_cases[] = {
	KUNIT_CASE_PARAM(every_small_set, small_gen_params),
	KUNIT_CASE(random_walk),
	KUNIT_CASE(budget_is_exact),
	KUNIT_CASE(every_state_takes_the_iova),
	KUNIT_CASE(kept_ones_are_in_the_way_only),
	KUNIT_CASE(waiters_wake_on_settle_and_remove),
	KUNIT_CASE(change_before_the_wait_counts),
	KUNIT_CASE(fatal_signal_ends_the_wait),
	{}
};

SUITE("vfio_dma_tree", tree_cases);
