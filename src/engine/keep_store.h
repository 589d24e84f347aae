/* engine/keep_store.h - between conversations in memory and a page sink; private to keep.c. All
 * accept a configuration without a sink and then do nothing. */
#ifndef SLUICE_ENGINE_KEEP_STORE_H
#define SLUICE_ENGINE_KEEP_STORE_H

#include "engine/keep.h"

/* Gives the sink the pages it lacks and the state at kv->n_tokens. */
void keep_store_put(const struct keep_config *k, const struct conversation *c);
/* The longest stored prefix of ids[0 .. n). */
bool keep_store_find(const struct keep_config *k, const int32_t *ids, size_t n,
                     struct page_checkpoint *out);
/* Fills an empty conversation, whose ids are set, up to at->n. On failure it is to be freed. */
enum sluice_status keep_store_get(const struct keep_config *k, const struct page_checkpoint *at,
                                  struct conversation *c);

#endif
