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
 * Losing the list is allowed at any time (there was no memory): the runs are then
 * found by walking the IOMMU.  A list that was lost never comes back.
 *
 * Pure: knows nothing of the IOMMU or of user memory.
 */

#include <linux/slab.h>

#include "vfio_type1.h"

/* A word: the length in pages, the kind, the first frame. */
#define RUN_NPAGES_BITS	20
#define RUN_RESERVED	BIT_ULL(RUN_NPAGES_BITS)
#define RUN_PFN_SHIFT	(RUN_NPAGES_BITS + 1)

static_assert(VFIO_RUN_PAGES_MAX < BIT_ULL(RUN_NPAGES_BITS));

/* Bytes of the first chunks; all later ones are as large as the last. */
static const unsigned int chunk_size[] = { 128, 512, 4096 };

/**
 * struct vfio_runs_chunk - some runs of a list
 * @next: the chunk after it
 * @used: runs in @words
 * @capacity: runs that fit
 * @words: the runs
 */
struct vfio_runs_chunk {
	struct vfio_runs_chunk *next;
	unsigned int used;
	unsigned int capacity;
	u64 words[] __counted_by(capacity);
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
	chunk->capacity = (size - sizeof(*chunk)) / sizeof(*chunk->words);
	if (runs->last)
		runs->last->next = chunk;
	else
		runs->first = chunk;
	runs->last = chunk;
	runs->nchunks = min_t(unsigned int, runs->nchunks + 1, ARRAY_SIZE(chunk_size) - 1);
	return chunk;
}

/**
 * vfio_runs_add() - append a run
 * @runs: run list; nothing happens if it is lost
 * @run: the run, of at most VFIO_RUN_PAGES_MAX pages
 *
 * Context: may sleep; may lose the list.
 */
void vfio_runs_add(struct vfio_runs *runs, const struct vfio_run *run)
{
	u64 word = (u64)run->pfn << RUN_PFN_SHIFT | (run->reserved ? RUN_RESERVED : 0) |
		   run->npages;
	struct vfio_runs_chunk *chunk = runs->last;

	if (runs->lost)
		return;
	if (runs->ninplace < ARRAY_SIZE(runs->inplace)) {
		runs->inplace[runs->ninplace++] = word;
		return;
	}
	if (!chunk || chunk->used == chunk->capacity)
		chunk = runs_grow(runs);
	if (!chunk) {
		vfio_runs_free(runs);
		runs->lost = true;
		return;
	}
	chunk->words[chunk->used++] = word;
}

/**
 * vfio_runs_next() - read a run list front to back
 * @runs: run list
 * @iter: where the reader is; all zeroes to begin with
 * @run: set to the next run; its @write is left alone
 *
 * Return: false after the last run.
 */
bool vfio_runs_next(const struct vfio_runs *runs, struct vfio_runs_iter *iter,
		    struct vfio_run *run)
{
	u64 word;

	if (iter->chunk) {
		if (iter->pos == iter->chunk->used) {
			if (!iter->chunk->next)
				return false;
			iter->chunk = iter->chunk->next;
			iter->pos = 0;
		}
		word = iter->chunk->words[iter->pos++];
	} else if (iter->pos < runs->ninplace) {
		word = runs->inplace[iter->pos++];
	} else if (runs->first) {
		iter->chunk = runs->first;
		iter->pos = 1;
		word = iter->chunk->words[0];
	} else {
		return false;
	}
	run->pfn = word >> RUN_PFN_SHIFT;
	run->reserved = !!(word & RUN_RESERVED);
	run->npages = word & (RUN_RESERVED - 1);
	return true;
}
