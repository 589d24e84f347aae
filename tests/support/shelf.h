/* tests/support/shelf.h - a page sink that keeps all in lists. */
#ifndef SLUICE_TESTS_SUPPORT_SHELF_H
#define SLUICE_TESTS_SUPPORT_SHELF_H

#include "engine/page_sink.h"
#include "support/unit.h"

enum { SHELF_MAX = 8192 };

struct record {
    struct page_key key;
    struct page_checkpoint at;
    uint8_t *bytes;
    size_t n;
};
struct shelf {
    struct record page[SHELF_MAX], checkpoint[SHELF_MAX];
    int n_page, n_checkpoint;
    bool broken;                 /* reads fail */
    int n_done;
};

static inline struct record *shelf_find(struct record *r, int n, struct page_key key)
{
    for (int i = 0; i < n; i++)
        if (page_key_same(r[i].key, key))
            return &r[i];
    return NULL;
}

static inline void shelf_add(struct record *r, int *n, struct page_key key, const void *bytes,
                             size_t size)
{
    assert_null(shelf_find(r, *n, key));
    r[*n] = (struct record){.key = key, .bytes = malloc(size), .n = size};
    memcpy(r[(*n)++].bytes, bytes, size);
}

static inline bool shelf_put_page(void *ctx, const struct page_link *page, const void *bytes,
                                  size_t n)
{
    struct shelf *s = ctx;
    assert_true(s->n_page < SHELF_MAX);
    shelf_add(s->page, &s->n_page, page->key, bytes, n);
    return true;
}

static inline bool shelf_put_checkpoint(void *ctx, const struct page_checkpoint *c,
                                        const int32_t *tail, const void *bytes, size_t n)
{
    struct shelf *s = ctx;
    assert_true(s->n_checkpoint < SHELF_MAX);
    shelf_add(s->checkpoint, &s->n_checkpoint, c->key, bytes, n);
    s->checkpoint[s->n_checkpoint - 1].at = *c;
    return true;
}

static inline bool shelf_has_page(void *ctx, struct page_key key)
{
    struct shelf *s = ctx;
    return shelf_find(s->page, s->n_page, key) != NULL;
}

static inline bool shelf_has_checkpoint(void *ctx, struct page_key key)
{
    struct shelf *s = ctx;
    return shelf_find(s->checkpoint, s->n_checkpoint, key) != NULL;
}

static inline bool shelf_find_longest(void *ctx, const struct page_key *chain, const int32_t *ids,
                               size_t n, struct page_checkpoint *out)
{
    struct shelf *s = ctx;
    out->n = 0;
    for (int i = 0; i < s->n_checkpoint; i++) {
        const struct page_checkpoint *at = &s->checkpoint[i].at;
        size_t pages = (size_t)at->n / PAGE_SINK_TOKENS;
        if (at->n > (int64_t)n || at->n <= out->n || !page_key_same(chain[pages], at->parent))
            continue;
        struct page_key key = page_key_next(at->parent, ids + pages * PAGE_SINK_TOKENS,
                                            (size_t)at->n % PAGE_SINK_TOKENS);
        if (page_key_same(key, at->key))
            *out = *at;
    }
    return out->n > 0;
}

static inline enum sluice_status shelf_get(struct shelf *s, const struct record *r, void *bytes,
                                           size_t n)
{
    if (!r || r->n != n || s->broken)
        return SLUICE_ERR_IO;
    memcpy(bytes, r->bytes, n);
    return SLUICE_OK;
}

static inline enum sluice_status shelf_get_page(void *ctx, struct page_key key, void *bytes,
                                                size_t n, struct sluice_error *err)
{
    struct shelf *s = ctx;
    return shelf_get(s, shelf_find(s->page, s->n_page, key), bytes, n);
}

static inline enum sluice_status shelf_get_checkpoint(void *ctx, struct page_key key, void *bytes,
                                               size_t n, struct sluice_error *err)
{
    struct shelf *s = ctx;
    return shelf_get(s, shelf_find(s->checkpoint, s->n_checkpoint, key), bytes, n);
}

static inline void shelf_done(void *ctx)
{
    ((struct shelf *)ctx)->n_done++;
}

static inline struct page_sink shelf_sink(struct shelf *s)
{
    return (struct page_sink){
        .ctx = s, .put_page = shelf_put_page, .put_checkpoint = shelf_put_checkpoint,
        .done = shelf_done,
        .has_page = shelf_has_page, .has_checkpoint = shelf_has_checkpoint,
        .find = shelf_find_longest, .get_page = shelf_get_page,
        .get_checkpoint = shelf_get_checkpoint};
}

static inline void shelf_empty(struct shelf *s)
{
    for (int i = 0; i < s->n_page; i++)
        free(s->page[i].bytes);
    for (int i = 0; i < s->n_checkpoint; i++)
        free(s->checkpoint[i].bytes);
    s->n_page = s->n_checkpoint = 0;
}

#endif
