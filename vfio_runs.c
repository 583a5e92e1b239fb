// SPDX-License-Identifier: GPL-2.0-only
/*
 * The run list: which frames a mapping consists of, a word per run.
 *
 * MAP appends run after run, UNMAP and replay read them front to back, without
 * asking the IOMMU.  Memory made of large pages needs next to nothing, fully
 * fragmented memory 8 bytes per page.  The first runs are kept in place, so that
 * a small mapping needs no memory at all; later ones in chunks, which grow from
 * two cache lines to a page.
 *
 * Losing the list is mostly allowed at any time (there was no memory): the runs are then
 * found by walking the IOMMU.  A list that was lost never comes back.  Which frames are
 * pinned, but not charged, the IOMMU does not know: a list with some of those is kept,
 * or MAP fails.
 *
 * Pure: knows nothing of the IOMMU or of user memory.
 */

#include <linux/slab.h>

#include "vfio_runs.h"
#include "vfio_spares.h"

/* Bytes of the first chunks; all later ones are as large as the last. */
static const unsigned int chunk_size[] = { 128, 512, 4096 };

/**
 * struct vfio_runs_chunk - some runs of a list
 * @next: the chunk after it
 * @used: runs in @runs
 * @capacity: runs that fit
 * @runs: the runs
 */
struct vfio_runs_chunk {
	struct vfio_runs_chunk *next;
	unsigned int used;
	unsigned int capacity;
	struct vfio_run runs[] __counted_by(capacity);
};

/**
 * vfio_runs_init() - make an empty run list
 * @runs: what to initialise
 */
void vfio_runs_init(struct vfio_runs *runs)
{
	*runs = (struct vfio_runs) {};
}

/**
 * vfio_runs_free() - forget all runs
 * @runs: run list, empty afterwards
 */
void vfio_runs_free(struct vfio_runs *runs)
{
	struct vfio_runs_chunk *chunk, *next;

	for (chunk = runs->first; chunk; chunk = next) {
		next = chunk->next;
		kfree(chunk);
	}
	vfio_runs_init(runs);
}

/* Append a chunk.  Return: the chunk, or NULL. */
static struct vfio_runs_chunk *runs_grow(struct vfio_runs *runs)
{
	unsigned int size = chunk_size[runs->nchunks];
	struct vfio_runs_chunk *chunk = kmalloc(size, VFIO_GFP_OPTIONAL);

	if (!chunk)
		return NULL;
	chunk->next = NULL;
	chunk->used = 0;
	chunk->capacity = (size - sizeof(*chunk)) / sizeof(*chunk->runs);
	if (runs->last)
		runs->last->next = chunk;
	else
		runs->first = chunk;
	runs->last = chunk;
	runs->nchunks = min_t(unsigned int, runs->nchunks + 1, ARRAY_SIZE(chunk_size) - 1);
	return chunk;
}

/* Append runs.  Return: false if there was no memory for some of them. */
static bool runs_append(struct vfio_runs *runs, const struct vfio_run *run, unsigned int nr)
{
	struct vfio_runs_chunk *chunk;
	unsigned int i, n;

	while (nr) {
		if (runs->ninplace < ARRAY_SIZE(runs->inplace)) {
			runs->inplace[runs->ninplace++] = *run++;
			nr--;
			continue;
		}
		chunk = runs->last;
		if (!chunk || chunk->used == chunk->capacity)
			chunk = runs_grow(runs);
		if (!chunk)
			return false;
		n = min(nr, chunk->capacity - chunk->used);
		for (i = 0; i < n; i++)
			chunk->runs[chunk->used + i] = run[i];
		chunk->used += n;
		run += n;
		nr -= n;
	}
	return true;
}

/* Append runs to a list that has to be exact from now on: all of them, or none. */
static int runs_append_exact(struct vfio_runs *runs, const struct vfio_run *run, unsigned int nr)
{
	unsigned int used = runs->last ? runs->last->used : 0;
	struct vfio_runs_chunk *chunk, *next;
	struct vfio_runs old = *runs;

	if (runs->lost)
		return -ENOMEM;
	runs->exact = true;
	if (runs_append(runs, run, nr))
		return 0;
	for (chunk = old.last ? old.last->next : runs->first; chunk; chunk = next) {
		next = chunk->next;
		kfree(chunk);
	}
	*runs = old;
	if (runs->last) {
		runs->last->next = NULL;
		runs->last->used = used;
	}
	return -ENOMEM;
}

/**
 * vfio_runs_append() - append runs
 * @runs: run list; unless it has to be exact, nothing happens if it is lost
 * @run: the runs, of one kind
 * @nr: how many, at least one
 *
 * Context: may sleep; may lose the list.
 * Return: 0; -ENOMEM if the list would be lost and has to be exact: it is as before then.
 */
int vfio_runs_append(struct vfio_runs *runs, const struct vfio_run *run, unsigned int nr)
{
	if (unlikely(runs->exact || (run->word & VFIO_RUN_KIND) == VFIO_RUN_PINNED))
		return runs_append_exact(runs, run, nr);
	if (!runs->lost && !runs_append(runs, run, nr)) {
		vfio_runs_free(runs);
		runs->lost = true;
	}
	return 0;
}

/**
 * vfio_runs_begin() - begin to read a run list
 * @runs: run list, which stays as it is
 * @iter: for vfio_runs_next()
 */
void vfio_runs_begin(const struct vfio_runs *runs, struct vfio_runs_iter *iter)
{
	iter->at = runs->inplace;
	iter->nr = runs->ninplace;
	iter->chunk = runs->first;
}

/**
 * vfio_runs_more() - go on to the next chunk of a run list
 * @iter: where the reader is, at the end of a chunk
 *
 * Return: false if there is none.
 */
bool vfio_runs_more(struct vfio_runs_iter *iter)
{
	const struct vfio_runs_chunk *chunk = iter->chunk;

	if (!chunk)
		return false;
	iter->at = chunk->runs;
	iter->nr = chunk->used;
	iter->chunk = chunk->next;
	return true;
}
