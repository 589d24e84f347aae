/* kvstore/index.c - see index.h. */
#include "kvstore/index.h"

#include <stdlib.h>

#include "base/check.h"

static size_t slot(const struct index *x, struct page_key key)
{
    return (size_t)(key.low ^ key.high >> 7) & (x->n_bucket - 1);
}

static enum sluice_status alloc_buckets(struct index *x, size_t n, struct sluice_error *err)
{
    x->key_bucket = calloc(n, sizeof *x->key_bucket);
    x->parent_bucket = calloc(n, sizeof *x->parent_bucket);
    x->n_bucket = n;
    FAIL_IF(!x->key_bucket || !x->parent_bucket, err, SLUICE_ERR_NOMEM,
            "out of memory for the store's index");
    return SLUICE_OK;
}

enum sluice_status index_init(struct index *x, struct sluice_error *err)
{
    *x = (struct index){0};
    return alloc_buckets(x, 1024, err);
}

void index_deinit(struct index *x)
{
    for (size_t i = 0; x->key_bucket && i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i], *next; e; e = next) {
            next = e->by_key;
            free(e);
        }
    }
    free(x->key_bucket);
    free(x->parent_bucket);
    *x = (struct index){0};
}

static void link_entry(struct index *x, struct index_entry *e)
{
    struct index_entry **k = &x->key_bucket[slot(x, e->r.key)];
    struct index_entry **p = &x->parent_bucket[slot(x, e->r.parent)];
    e->by_key = *k;
    e->by_parent = *p;
    *k = *p = e;
}

/* Longer chains are slower, not wrong: without memory the table stays as it is. */
static void grow(struct index *x)
{
    struct index wider = *x;
    if (alloc_buckets(&wider, 2 * x->n_bucket, NULL) != SLUICE_OK) {
        free(wider.key_bucket);
        free(wider.parent_bucket);
        return;
    }
    for (size_t i = 0; i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i], *next; e; e = next) {
            next = e->by_key;
            link_entry(&wider, e);
        }
    }
    free(x->key_bucket);
    free(x->parent_bucket);
    *x = wider;
}

struct index_entry *index_find(const struct index *x, struct page_key key)
{
    struct index_entry *e = x->key_bucket[slot(x, key)];
    while (e && !page_key_same(e->r.key, key))
        e = e->by_key;
    return e;
}

struct index_entry *index_child(const struct index *x, struct page_key parent,
                                const struct index_entry *after)
{
    struct index_entry *e = after ? after->by_parent : x->parent_bucket[slot(x, parent)];
    while (e && !page_key_same(e->r.parent, parent))
        e = e->by_parent;
    return e;
}

struct index_entry *index_add(struct index *x, const struct index_entry *entry)
{
    SLUICE_ASSERT(!index_find(x, entry->r.key));
    struct index_entry *e = malloc(sizeof *e);
    if (!e)
        return NULL;
    if (x->n >= x->n_bucket)
        grow(x);
    *e = *entry;
    e->n_children = 0;
    for (struct index_entry *c = NULL; (c = index_child(x, e->r.key, c));)
        e->n_children++;
    link_entry(x, e);
    struct index_entry *parent = index_find(x, e->r.parent);
    if (parent)
        parent->n_children++;
    x->n++;
    x->bytes += e->bytes;
    return e;
}

void index_remove(struct index *x, struct index_entry *entry)
{
    struct index_entry **p = &x->key_bucket[slot(x, entry->r.key)];
    while (*p != entry)
        p = &(*p)->by_key;
    *p = entry->by_key;
    p = &x->parent_bucket[slot(x, entry->r.parent)];
    while (*p != entry)
        p = &(*p)->by_parent;
    *p = entry->by_parent;
    struct index_entry *parent = index_find(x, entry->r.parent);
    if (parent)
        parent->n_children--;
    x->n--;
    x->bytes -= entry->bytes;
    free(entry);
}

double index_value(const struct index_entry *entry, int64_t now)
{
    double age = (double)(now > entry->last_use ? now - entry->last_use : 0) + 60;
    double tokens = entry->r.kind == RECORD_CHECKPOINT ? (double)entry->r.n : 0;
    return tokens / ((double)entry->bytes + 1) / age;
}

struct index_entry *index_worst(const struct index *x, int64_t now)
{
    struct index_entry *worst = NULL;
    double least = 0;
    for (size_t i = 0; i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i]; e; e = e->by_key) {
            if (e->n_children > 0 || !e->on_disk)
                continue;
            double value = index_value(e, now);
            if (!worst || value < least) {
                worst = e;
                least = value;
            }
        }
    }
    return worst;
}
