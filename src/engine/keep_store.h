/* engine/keep_store.h - between conversations in memory and a page sink; private to keep.c. All
 * accept a store without a sink and then do nothing.
 *
 * What is written: whole pages at once, since each is written but once. A state, by contrast, is as
 * large as the rows of thousands of tokens, and the next one makes it nearly worthless. So states
 * live on credit: some to begin with, and a thirty-second of the pages. While half of it is there a
 * state is put after every prompt and every answer; below it, where it saves config->every tokens
 * or more from being read again; on the way through a prompt only every fourth time. Beyond the
 * credit the state of a conversation that leaves memory is put if it saves as much: it is never
 * further from one on disk than from a checkpoint in memory. When the engine ends all are put.
 * Where a checkpoint shortly before the end is smaller than the state at the end, it is put
 * instead: fewer than KEEP_STORE_STRIDE tokens are then read again.
 *
 * Threads: the scheduler's. */
#ifndef SLUICE_ENGINE_KEEP_STORE_H
#define SLUICE_ENGINE_KEEP_STORE_H

#include "engine/keep.h"

/* Where checkpoints are smallest: multiples of the largest ratio of compression. */
#define KEEP_STORE_STRIDE 128

struct keep_store {
    const struct kv_layout *layout;
    const struct page_sink *sink;    /* or NULL */
    struct page_key root;            /* of its keys */
    int64_t every;                   /* as in keep_config */
    int64_t credit;                  /* bytes of states */
};

/* What the credit is at first, and at most: some states. */
int64_t keep_store_credit(const struct keep_store *k);
/* Gives the sink the pages it lacks, and the state at kv->n_tokens or shortly before it if it is
 * worth it. */
enum keep_store_why { STORE_STAYS, STORE_LEAVES, STORE_ENDS };   /* the conversation; the engine */
void keep_store_put(struct keep_store *k, const struct conversation *c, enum keep_store_why why);
/* The longest stored prefix of ids[0 .. n). */
bool keep_store_find(const struct keep_store *k, const int32_t *ids, size_t n,
                     struct page_checkpoint *out);
/* Fills an empty conversation, whose ids are set, up to at->n. On failure it is to be freed. */
enum sluice_status keep_store_get(const struct keep_store *k, const struct page_checkpoint *at,
                                  struct conversation *c);

#endif
