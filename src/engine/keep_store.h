/* engine/keep_store.h - between conversations in memory and a page sink; private to keep.c. All
 * accept a store without a sink and then do nothing.
 *
 * What is written: whole pages at once, since each is written but once. A state, by contrast, is as
 * large as the rows of thousands of tokens, and the next one makes it nearly worthless. So states
 * live on credit: each page adds a fifth of its size, and a state is put while the credit covers
 * it; once half the first credit is gone, only where it saves enough tokens from being read again.
 * A conversation that leaves memory is saved beyond the credit, unless that would save next to
 * nothing; the debt is paid by later pages. Thus all states together are about a fifth of the
 * pages.
 *
 * Threads: the scheduler's. */
#ifndef SLUICE_ENGINE_KEEP_STORE_H
#define SLUICE_ENGINE_KEEP_STORE_H

#include "engine/keep.h"

#define KEEP_STORE_CREDIT ((int64_t)32 << 20)    /* bytes, at first and at most */

struct keep_store {
    const struct kv_layout *layout;
    const struct page_sink *sink;    /* or NULL */
    struct page_key root;            /* of its keys */
    int64_t credit;                  /* bytes of states */
};

/* Gives the sink the pages it lacks, and the state at kv->n_tokens if it is worth it. leaving: the
 * conversation will not be in memory any more. */
void keep_store_put(struct keep_store *k, const struct conversation *c, bool leaving);
/* The longest stored prefix of ids[0 .. n). */
bool keep_store_find(const struct keep_store *k, const int32_t *ids, size_t n,
                     struct page_checkpoint *out);
/* Fills an empty conversation, whose ids are set, up to at->n. On failure it is to be freed. */
enum sluice_status keep_store_get(const struct keep_store *k, const struct page_checkpoint *at,
                                  struct conversation *c);

#endif
