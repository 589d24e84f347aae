/* engine/keep_store.c - see keep_store.h. A checkpoint's bytes: the fixed block, then the last page
 * if it is not whole. */
#include "engine/keep_store.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

_Static_assert(PAGE_SINK_TOKENS == KV_PAGE_TOKENS, "a page of the store is a page of the model");

/* Keys after 0, 1, ... whole pages of ids[0 .. n); NULL when out of memory. The caller frees. */
static struct page_key *chain_of(struct page_key root, const int32_t *ids, size_t n)
{
    size_t pages = n / PAGE_SINK_TOKENS;
    struct page_key *chain = malloc((pages + 1) * sizeof *chain);
    if (!chain)
        return NULL;
    chain[0] = root;
    for (size_t i = 0; i < pages; i++)
        chain[i + 1] = page_key_next(chain[i], ids + i * PAGE_SINK_TOKENS, PAGE_SINK_TOKENS);
    return chain;
}

static size_t checkpoint_bytes(const struct keep_config *k, int64_t n)
{
    return k->layout->fixed_bytes + (n % PAGE_SINK_TOKENS ? k->layout->page_bytes : 0);
}

/* False: not all pages are kept. */
static bool put_pages(const struct keep_config *k, const struct conversation *c,
                      const struct page_key *chain, int32_t pages, uint8_t *scratch)
{
    for (int32_t j = 0; j < pages; j++) {
        struct page_link page = {chain[j], chain[j + 1],
                                 c->ids + (int64_t)j * PAGE_SINK_TOKENS};
        if (k->sink->has_page(k->sink->ctx, page.key))
            continue;
        kv_state_page_read(c->kv, j, scratch);
        if (!k->sink->put_page(k->sink->ctx, &page, scratch, k->layout->page_bytes))
            return false;
    }
    return true;
}

static void put_checkpoint(const struct keep_config *k, const struct conversation *c,
                           struct page_key parent, uint8_t *scratch)
{
    int64_t n = c->kv->n_tokens;
    int32_t pages = (int32_t)(n / PAGE_SINK_TOKENS);
    const int32_t *tail = c->ids + (int64_t)pages * PAGE_SINK_TOKENS;
    struct page_checkpoint at = {.parent = parent, .n = n};
    at.key = page_key_next(parent, tail, (size_t)(n % PAGE_SINK_TOKENS));
    if (k->sink->has_checkpoint(k->sink->ctx, at.key))
        return;
    kv_state_fixed_read(c->kv, scratch);
    if (n % PAGE_SINK_TOKENS)
        kv_state_page_read(c->kv, pages, scratch + k->layout->fixed_bytes);
    k->sink->put_checkpoint(k->sink->ctx, &at, tail, scratch, checkpoint_bytes(k, n));
}

void keep_store_put(const struct keep_config *k, const struct conversation *c)
{
    if (!k->sink)
        return;
    int64_t n = c->kv->n_tokens;
    int32_t pages = (int32_t)(n / PAGE_SINK_TOKENS);
    struct page_key *chain = chain_of(k->root, c->ids, (size_t)n);
    uint8_t *bytes = malloc(k->layout->fixed_bytes + k->layout->page_bytes);
    if (chain && bytes && put_pages(k, c, chain, pages, bytes))
        put_checkpoint(k, c, chain[pages], bytes);
    free(chain);
    free(bytes);
}

bool keep_store_find(const struct keep_config *k, const int32_t *ids, size_t n,
                     struct page_checkpoint *out)
{
    if (!k->sink)
        return false;
    struct page_key *chain = chain_of(k->root, ids, n);
    bool found = chain && k->sink->find(k->sink->ctx, chain, ids, n, out);
    free(chain);
    return found;
}

static enum sluice_status get_pages(const struct keep_config *k, const struct page_key *chain,
                                    struct conversation *c, uint8_t *scratch, int32_t pages)
{
    for (int32_t j = 0; j < pages; j++) {
        TRY(k->sink->get_page(k->sink->ctx, chain[j + 1], scratch, k->layout->page_bytes, NULL));
        kv_state_page_write(c->kv, j, scratch);
    }
    return SLUICE_OK;
}

enum sluice_status keep_store_get(const struct keep_config *k, const struct page_checkpoint *at,
                                  struct conversation *c)
{
    SLUICE_ASSERT(c->kv->n_tokens == 0 && at->n <= (int64_t)c->n_ids);
    int32_t pages = (int32_t)(at->n / PAGE_SINK_TOKENS);
    struct page_key *chain = chain_of(k->root, c->ids, (size_t)at->n);
    size_t size = checkpoint_bytes(k, at->n);
    uint8_t *bytes = malloc(k->layout->fixed_bytes + k->layout->page_bytes);
    enum sluice_status st = chain && bytes ? SLUICE_OK : SLUICE_ERR_NOMEM;
    if (st == SLUICE_OK)
        st = kv_state_reserve(c->kv, at->n, NULL);
    if (st == SLUICE_OK)
        st = get_pages(k, chain, c, bytes, pages);
    if (st == SLUICE_OK)
        st = k->sink->get_checkpoint(k->sink->ctx, at->key, bytes, size, NULL);
    if (st == SLUICE_OK) {
        if (at->n % PAGE_SINK_TOKENS)
            kv_state_page_write(c->kv, pages, bytes + k->layout->fixed_bytes);
        kv_state_fixed_write(c->kv, bytes, at->n);
    }
    free(chain);
    free(bytes);
    return st;
}
