/* kvstore/show.c - one kept conversation, put together from its records, for people. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvstore/store_internal.h"

struct showing {
    struct kvstore *s;
    void (*fn)(void *ctx, const struct kvstore_state *state);
    void *ctx;
    struct index_entry **state;      /* [n] those to show */
    size_t n;
    bool whole;                      /* all ids, all paths */
};

static void hex(const struct record *r, char out[33])
{
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, r->key.high, r->key.low);
}

/* Header and ids of a record, which must be the one that is asked for. Its key follows from the
 * ids, so that they are right although the payload is not looked at. */
static enum sluice_status read_ids(const struct kvstore *s, const struct index_entry *e,
                                   struct record_header *h, int32_t *ids,
                                   struct sluice_error *err)
{
    char path[4096];
    store_path(s, &e->r, store_suffix(&e->r), path);
    enum sluice_status st = store_read_head(path, h, ids, err);
    if (st == SLUICE_OK && (!page_key_same(h->key, e->r.key) || h->n != e->r.n))
        st = status_fail(err, SLUICE_ERR_FORMAT, -1, "changed while it was read");
    if (st != SLUICE_OK)
        status_prefix(err, "%s: ", path);
    return st;
}

/* The page before an entry, or NULL. */
static struct index_entry *before(const struct kvstore *s, const struct index_entry *e)
{
    return e->at_root ? NULL : index_find(&s->index, e->r.parent);
}

/* A state's records from the first page to itself: [pages + 1] of *chain. */
static enum sluice_status chain_of(const struct kvstore *s, struct index_entry *state,
                                   struct index_entry ***chain, struct kvstore_state *out,
                                   struct sluice_error *err)
{
    for (struct index_entry *e = before(s, state); e; e = before(s, e)) {
        out->pages++;
        out->page_bytes += e->bytes;
    }
    *chain = malloc((size_t)(out->pages + 1) * sizeof **chain);
    FAIL_IF(!*chain, err, SLUICE_ERR_NOMEM, "out of memory for a conversation");
    struct index_entry *e = state;
    for (int32_t i = out->pages; i >= 0; i--, e = before(s, e))
        (*chain)[i] = e;
    FAIL_IF(out->n / PAGE_SINK_TOKENS != out->pages, err, SLUICE_ERR_FORMAT,
            "%s: a state of %" PRId64 " tokens after %d pages", out->id, out->n, out->pages);
    return SLUICE_OK;
}

static enum sluice_status show_one(struct showing *w, struct index_entry *e,
                                   struct sluice_error *err)
{
    struct kvstore_state out = {.n = e->r.n, .last_use = e->last_use, .bytes = e->bytes};
    struct index_entry **chain = NULL;
    struct record_header h;
    hex(&e->r, out.id);
    enum sluice_status st = chain_of(w->s, e, &chain, &out, err);
    int32_t n = w->whole ? out.pages + 1 : 1;
    int32_t *ids = calloc((size_t)n * PAGE_SINK_TOKENS, sizeof *ids);
    if (st == SLUICE_OK && !ids)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a conversation's ids");
    for (int32_t i = 0; i < n && st == SLUICE_OK; i++) {
        st = read_ids(w->s, chain[i], &h, ids + out.n_ids, err);
        out.n_ids += record_ids(chain[i]->r.kind, chain[i]->r.n);
    }
    if (st == SLUICE_OK) {
        out.ids = ids;
        out.identity = h.identity;
        w->fn(w->ctx, &out);
    }
    free(ids);
    free(chain);
    return st;
}

static int by_last_use(const void *a, const void *b)
{
    const struct index_entry *x = *(struct index_entry *const *)a;
    const struct index_entry *y = *(struct index_entry *const *)b;
    if (x->last_use != y->last_use)
        return x->last_use < y->last_use ? 1 : -1;
    return memcmp(&x->r.key, &y->r.key, sizeof x->r.key);
}

/* The states whose id begins with `id`. */
static enum sluice_status collect(struct showing *w, const char *id, struct sluice_error *err)
{
    const struct index *x = &w->s->index;
    w->state = malloc((x->n + 1) * sizeof *w->state);
    FAIL_IF(!w->state, err, SLUICE_ERR_NOMEM, "out of memory for a list of states");
    for (size_t i = 0; i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i]; e; e = e->by_key) {
            char own[33];
            hex(&e->r, own);
            if (e->r.kind == RECORD_CHECKPOINT && strncmp(own, id, strlen(id)) == 0)
                w->state[w->n++] = e;
        }
    }
    qsort(w->state, w->n, sizeof *w->state, by_last_use);
    FAIL_IF(w->whole && w->n != 1, err, SLUICE_ERR_ARG,
            "expected the beginning of one state's id, found '%s', with which %zu begin", id, w->n);
    return SLUICE_OK;
}

enum sluice_status kvstore_show(const char *dir, const char *id,
                                void (*fn)(void *ctx, const struct kvstore_state *state), void *ctx,
                                struct sluice_error *err)
{
    struct kvstore_options o = {.dir = dir};
    struct showing w = {.fn = fn, .ctx = ctx, .whole = id != NULL};
    enum sluice_status st = store_load(&o, STORE_LOOK, &w.s, err);
    if (st == SLUICE_OK)
        st = collect(&w, id ? id : "", err);
    for (size_t i = 0; i < w.n && st == SLUICE_OK; i++)
        st = show_one(&w, w.state[i], err);
    free(w.state);
    kvstore_close(w.s);
    return st;
}
