/* engine/keep_store.c - see keep_store.h. A state's bytes: those of a checkpoint (kv_state.h), then
 * the rows of the last page if it is not whole. */
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

/* Of the rows after the last whole page. */
static size_t rest_bytes(const struct keep_store *k, int64_t n)
{
    return kv_state_rows_bytes(k->layout, n % PAGE_SINK_TOKENS);
}

static size_t state_bytes(const struct keep_store *k, int64_t n)
{
    return kv_state_checkpoint_bytes(k->layout, n) + rest_bytes(k, n);
}

int64_t keep_store_credit(const struct keep_store *k)
{
    enum { STATES = 4, LEAST = 16 << 20 };
    int64_t some = STATES * (int64_t)k->layout->fixed_bytes;
    return some > LEAST ? some : LEAST;
}

/* Room for a page or any state; the caller frees. */
static uint8_t *scratch_for(const struct keep_store *k)
{
    return malloc(k->layout->fixed_bytes + k->layout->page_bytes);
}

/* False: not all pages are kept. */
static bool put_pages(struct keep_store *k, const struct conversation *c,
                      const struct page_key *chain, int32_t pages, uint8_t *scratch)
{
    int64_t page_bytes = (int64_t)k->layout->page_bytes;
    for (int32_t j = 0; j < pages; j++) {
        struct page_link page = {chain[j], chain[j + 1],
                                 c->ids + (int64_t)j * PAGE_SINK_TOKENS};
        if (k->sink->has_page(k->sink->ctx, page.key))
            continue;
        kv_state_page_read(c->kv, j, scratch);
        if (!k->sink->put_page(k->sink->ctx, &page, scratch, (size_t)page_bytes))
            return false;
        k->credit += page_bytes / 32;
        k->credit = k->credit < keep_store_credit(k) ? k->credit : keep_store_credit(k);
    }
    return true;
}

/* Is the state at n tokens to be put, when the longest that is kept has `best`? */
static bool worth(const struct keep_store *k, int64_t n, int64_t best, enum keep_store_why why)
{
    enum { HARDLY = 64, PASSING = 4 };
    if (n <= best)
        return false;
    /* Within a prompt another one follows soon. */
    if (why == STORE_STAYS && n % k->every == 0 && n - best < PASSING * k->every)
        return false;
    int64_t left = k->credit - (int64_t)state_bytes(k, n);
    if (left >= keep_store_credit(k) / 2)
        return true;
    if (why == STORE_ENDS)
        return n - best >= HARDLY;
    return n - best >= k->every && (why == STORE_LEAVES || left >= 0);
}

/* A checkpoint that is put instead of the state at the end; NULL: none is near and small. */
static const struct checkpoint *smaller(const struct keep_store *k, const struct conversation *c)
{
    int64_t n = c->kv->n_tokens;
    size_t most = kv_state_checkpoint_bytes(k->layout, n) / 8 * 7;
    for (size_t i = c->n_place; i-- > 0;) {
        const struct checkpoint *p = c->place[i].checkpoint;
        if (n - p->n >= KEEP_STORE_STRIDE)
            break;
        if (p->size <= most)
            return p;
    }
    return NULL;
}

static void put_state(struct keep_store *k, const struct conversation *c,
                      const struct page_key *chain, uint8_t *scratch, enum keep_store_why why)
{
    const struct checkpoint *p = smaller(k, c);
    int64_t n = p ? p->n : c->kv->n_tokens;
    int32_t pages = (int32_t)(n / PAGE_SINK_TOKENS);
    const int32_t *tail = c->ids + (int64_t)pages * PAGE_SINK_TOKENS;
    struct page_checkpoint at = {.parent = chain[pages], .n = n}, best = {.n = 0};
    at.key = page_key_next(at.parent, tail, (size_t)(n % PAGE_SINK_TOKENS));
    bool found = k->sink->find(k->sink->ctx, chain, c->ids, (size_t)c->kv->n_tokens, &best);
    if (!worth(k, n, found ? best.n : 0, why)) {
        if (found)
            k->sink->has_checkpoint(k->sink->ctx, best.key); /* it is in use: not to be given up */
        return;
    }
    size_t first = kv_state_checkpoint_bytes(k->layout, n);
    if (p)
        memcpy(scratch, p->bytes, p->size);
    else
        kv_state_checkpoint_read(c->kv, scratch);
    if (rest_bytes(k, n))
        kv_state_rows_read(c->kv, pages, n % PAGE_SINK_TOKENS, scratch + first);
    if (k->sink->put_checkpoint(k->sink->ctx, &at, tail, scratch, state_bytes(k, n)))
        k->credit -= (int64_t)state_bytes(k, n);
}

void keep_store_put(struct keep_store *k, const struct conversation *c, enum keep_store_why why)
{
    if (!k->sink)
        return;
    int64_t n = c->kv->n_tokens;
    int32_t pages = (int32_t)(n / PAGE_SINK_TOKENS);
    struct page_key *chain = chain_of(k->root, c->ids, (size_t)n);
    uint8_t *scratch = scratch_for(k);
    if (chain && scratch && put_pages(k, c, chain, pages, scratch))
        put_state(k, c, chain, scratch, why);
    k->sink->done(k->sink->ctx);
    free(chain);
    free(scratch);
}

bool keep_store_find(const struct keep_store *k, const int32_t *ids, size_t n,
                     struct page_checkpoint *out)
{
    if (!k->sink)
        return false;
    struct page_key *chain = chain_of(k->root, ids, n);
    bool found = chain && k->sink->find(k->sink->ctx, chain, ids, n, out);
    free(chain);
    return found;
}

static enum sluice_status get_pages(const struct keep_store *k, const struct page_key *chain,
                                    struct conversation *c, uint8_t *scratch, int32_t pages)
{
    for (int32_t j = 0; j < pages; j++) {
        TRY(k->sink->get_page(k->sink->ctx, chain[j + 1], scratch, k->layout->page_bytes, NULL));
        kv_state_page_write(c->kv, j, scratch);
    }
    return SLUICE_OK;
}

enum sluice_status keep_store_get(const struct keep_store *k, const struct page_checkpoint *at,
                                  struct conversation *c)
{
    SLUICE_ASSERT(c->kv->n_tokens == 0 && at->n <= (int64_t)c->n_ids);
    int64_t n = at->n;
    int32_t pages = (int32_t)(n / PAGE_SINK_TOKENS);
    struct page_key *chain = chain_of(k->root, c->ids, (size_t)n);
    uint8_t *bytes = scratch_for(k);
    enum sluice_status st = chain && bytes ? SLUICE_OK : SLUICE_ERR_NOMEM;
    if (st == SLUICE_OK)
        st = kv_state_reserve(c->kv, n, NULL);
    if (st == SLUICE_OK)
        st = get_pages(k, chain, c, bytes, pages);
    if (st == SLUICE_OK)
        st = k->sink->get_checkpoint(k->sink->ctx, at->key, bytes, state_bytes(k, n), NULL);
    if (st == SLUICE_OK) {
        if (rest_bytes(k, n))
            kv_state_rows_write(c->kv, pages, n % PAGE_SINK_TOKENS,
                                bytes + kv_state_checkpoint_bytes(k->layout, n));
        kv_state_checkpoint_write(c->kv, bytes, n);
    }
    free(chain);
    free(bytes);
    return st;
}
