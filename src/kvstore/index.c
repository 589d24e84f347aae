/* kvstore/index.c - see index.h. */
#include "kvstore/index.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"

struct index_family {
    struct page_key key;             /* of the parent */
    struct index_entry *parent;      /* NULL: a root, or not there */
    struct index_entry *first;
    uint32_t *tails;                 /* NULL while it has no checkpoint */
    size_t n_checkpoint, n_page;
    struct index_family *next;       /* in the bucket */
};

/* ---- tables ---- */

static size_t slot(const struct index *x, struct page_key key)
{
    return (size_t)(key.low ^ key.high >> 7) & (x->n_bucket - 1);
}

static enum sluice_status alloc_buckets(struct index *x, size_t n, struct sluice_error *err)
{
    x->key_bucket = calloc(n, sizeof *x->key_bucket);
    x->family_bucket = calloc(n, sizeof *x->family_bucket);
    x->n_bucket = n;
    FAIL_IF(!x->key_bucket || !x->family_bucket, err, SLUICE_ERR_NOMEM,
            "out of memory for the store's index");
    return SLUICE_OK;
}

enum sluice_status index_init(struct index *x, struct sluice_error *err)
{
    *x = (struct index){0};
    return alloc_buckets(x, 1024, err);
}

static void family_free(struct index_family *f)
{
    free(f->tails);
    free(f);
}

void index_deinit(struct index *x)
{
    for (size_t i = 0; x->key_bucket && x->family_bucket && i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i], *next; e; e = next) {
            next = e->by_key;
            free(e);
        }
        for (struct index_family *f = x->family_bucket[i], *next; f; f = next) {
            next = f->next;
            family_free(f);
        }
    }
    free(x->key_bucket);
    free(x->family_bucket);
    free(x->heap);
    *x = (struct index){0};
}

static void link_entry(struct index *x, struct index_entry *e)
{
    struct index_entry **at = &x->key_bucket[slot(x, e->r.key)];
    e->by_key = *at;
    *at = e;
}

static void link_family(struct index *x, struct index_family *f)
{
    struct index_family **at = &x->family_bucket[slot(x, f->key)];
    f->next = *at;
    *at = f;
}

/* Longer chains are slower, not wrong: without memory the tables stay as they are. */
static void grow(struct index *x)
{
    struct index wider = *x;
    if (alloc_buckets(&wider, 2 * x->n_bucket, NULL) != SLUICE_OK) {
        free(wider.key_bucket);
        free(wider.family_bucket);
        return;
    }
    for (size_t i = 0; i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i], *next; e; e = next) {
            next = e->by_key;
            link_entry(&wider, e);
        }
        for (struct index_family *f = x->family_bucket[i], *next; f; f = next) {
            next = f->next;
            link_family(&wider, f);
        }
    }
    free(x->key_bucket);
    free(x->family_bucket);
    *x = wider;
}

struct index_entry *index_find(const struct index *x, struct page_key key)
{
    struct index_entry *e = x->key_bucket[slot(x, key)];
    while (e && !page_key_same(e->r.key, key))
        e = e->by_key;
    return e;
}

static struct index_family *family_find(const struct index *x, struct page_key key)
{
    struct index_family *f = x->family_bucket[slot(x, key)];
    while (f && !page_key_same(f->key, key))
        f = f->next;
    return f;
}

const uint32_t *index_tails(const struct index *x, struct page_key parent)
{
    const struct index_family *f = family_find(x, parent);
    return f ? f->tails : NULL;
}

/* ---- the heap ---- */

double index_rank(const struct index_entry *e)
{
    enum { HOUR = 3600, PASSED = 24, DOUBLED = 6, PAGE_WORTH = 4096 };
    double hours = 0;
    if (e->r.kind == RECORD_CHECKPOINT)
        hours = e->among && e->among->n_page ? -PASSED
                                             : DOUBLED * log2((double)e->r.n / PAGE_WORTH);
    return (double)e->last_use + HOUR * hours;
}

static void heap_set(struct index *x, size_t i, struct index_entry *e)
{
    x->heap[i] = e;
    e->heap_at = i + 1;
}

/* Moves the entry at i to where its rank belongs. */
static void heap_settle(struct index *x, size_t i)
{
    struct index_entry *e = x->heap[i];
    double rank = index_rank(e);
    for (; i > 0 && rank < index_rank(x->heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap_set(x, i, x->heap[(i - 1) / 2]);
    for (size_t child; (child = 2 * i + 1) < x->n_heap; i = child) {
        if (child + 1 < x->n_heap && index_rank(x->heap[child + 1]) < index_rank(x->heap[child]))
            child++;
        if (rank <= index_rank(x->heap[child]))
            break;
        heap_set(x, i, x->heap[child]);
    }
    heap_set(x, i, e);
}

/* Puts the entry into the heap, or takes it out, as invariant (3) says. */
static void heap_update(struct index *x, struct index_entry *e)
{
    bool in = !e->job && !e->below && !e->pinned;
    if (in && !e->heap_at) {
        heap_set(x, x->n_heap++, e);
        heap_settle(x, e->heap_at - 1);
    } else if (in) {
        heap_settle(x, e->heap_at - 1);
    } else if (e->heap_at) {
        size_t i = e->heap_at - 1;
        e->heap_at = 0;
        struct index_entry *last = x->heap[--x->n_heap];
        if (last != e) {
            heap_set(x, i, last);
            heap_settle(x, i);
        }
    }
}

static bool make_heap_room(struct index *x)
{
    if (x->n < x->heap_room)
        return true;
    size_t room = x->heap_room ? 2 * x->heap_room : 256;
    void *p = realloc(x->heap, room * sizeof *x->heap);
    if (!p)
        return false;
    x->heap = p;
    x->heap_room = room;
    return true;
}

struct index_entry *index_worst(const struct index *x)
{
    return x->n_heap ? x->heap[0] : NULL;
}

/* ---- families ---- */

/* The family of the parent, made where it is not there; NULL when out of memory. */
static struct index_family *family_of(struct index *x, const struct record *r)
{
    struct index_family *f = family_find(x, r->parent);
    bool made = !f;
    if (made)
        f = calloc(1, sizeof *f);
    if (f && r->kind == RECORD_CHECKPOINT && !f->tails)
        f->tails = calloc(PAGE_SINK_TOKENS, sizeof *f->tails);
    if (!f || (r->kind == RECORD_CHECKPOINT && !f->tails)) {
        if (made)
            free(f);
        return NULL;
    }
    if (made) {
        f->key = r->parent;
        f->parent = index_find(x, r->parent);
        link_family(x, f);
    }
    return f;
}

/* The first page of a family has come, or the last has gone: its states' ranks change. */
static void rank_states(struct index *x, struct index_family *f)
{
    for (struct index_entry *e = f->n_checkpoint ? f->first : NULL; e; e = e->next)
        if (e->r.kind == RECORD_CHECKPOINT)
            heap_update(x, e);
}

static void join_family(struct index *x, struct index_family *f, struct index_entry *e)
{
    e->among = f;
    e->next = f->first;
    if (e->next)
        e->next->before = e;
    f->first = e;
    if (e->r.kind == RECORD_CHECKPOINT) {
        f->tails[e->r.n % PAGE_SINK_TOKENS]++;
        f->n_checkpoint++;
    } else if (f->n_page++ == 0) {
        rank_states(x, f);
    }
    if (f->parent && !f->parent->below) {
        f->parent->below = f;
        heap_update(x, f->parent);
    }
}

static void unlink_family(struct index *x, struct index_family *f)
{
    struct index_family **at = &x->family_bucket[slot(x, f->key)];
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    if (f->parent) {
        f->parent->below = NULL;
        heap_update(x, f->parent);
    }
    family_free(f);
}

static void leave_family(struct index *x, struct index_entry *e)
{
    struct index_family *f = e->among;
    if (e->before)
        e->before->next = e->next;
    else
        f->first = e->next;
    if (e->next)
        e->next->before = e->before;
    if (e->r.kind == RECORD_CHECKPOINT) {
        f->tails[e->r.n % PAGE_SINK_TOKENS]--;
        f->n_checkpoint--;
    } else if (--f->n_page == 0) {
        rank_states(x, f);
    }
    if (f->n_checkpoint == 0) {
        free(f->tails);
        f->tails = NULL;
    }
    if (!f->first)
        unlink_family(x, f);
}

/* ---- entries ---- */

struct index_entry *index_add(struct index *x, const struct index_entry *entry)
{
    SLUICE_ASSERT(!index_find(x, entry->r.key) && entry->r.n >= 0);
    if (x->n >= x->n_bucket)
        grow(x);
    struct index_entry *e = make_heap_room(x) ? malloc(sizeof *e) : NULL;
    struct index_family *f = e ? family_of(x, &entry->r) : NULL;
    if (!f) {
        free(e);
        return NULL;
    }
    *e = (struct index_entry){
        .r = entry->r, .at_root = entry->at_root, .bytes = entry->bytes,
        .last_use = entry->last_use, .job = entry->job, .below = family_find(x, entry->r.key)};
    if (e->below)
        e->below->parent = e;
    link_entry(x, e);
    x->n++;
    x->disk_bytes += e->job ? 0 : e->bytes;
    join_family(x, f, e);
    heap_update(x, e);
    return e;
}

void index_written(struct index *x, struct index_entry *e, int64_t bytes)
{
    SLUICE_ASSERT(e->job);
    e->job = NULL;
    e->bytes = bytes;
    x->disk_bytes += bytes;
    heap_update(x, e);
}

void index_touch(struct index *x, struct index_entry *e, int64_t last_use)
{
    e->last_use = last_use;
    heap_update(x, e);
}

void index_pin(struct index *x, struct index_entry *e)
{
    if (e->pinned)
        return;
    e->pinned = true;
    e->next_pinned = x->pinned;
    x->pinned = e;
    heap_update(x, e);
}

void index_release(struct index *x)
{
    while (x->pinned) {
        struct index_entry *e = x->pinned;
        x->pinned = e->next_pinned;
        e->pinned = false;
        heap_update(x, e);
    }
}

static void unpin(struct index *x, struct index_entry *e)
{
    struct index_entry **at = &x->pinned;
    while (*at != e)
        at = &(*at)->next_pinned;
    *at = e->next_pinned;
}

/* An entry without children. */
static void remove_leaf(struct index *x, struct index_entry *e)
{
    SLUICE_ASSERT(!e->below);
    if (e->pinned)
        unpin(x, e);
    e->pinned = true; /* keeps it out of the heap */
    heap_update(x, e);
    struct index_entry **at = &x->key_bucket[slot(x, e->r.key)];
    while (*at != e)
        at = &(*at)->by_key;
    *at = e->by_key;
    leave_family(x, e);
    x->n--;
    x->disk_bytes -= e->job ? 0 : e->bytes;
    free(e);
}

void index_remove(struct index *x, struct index_entry *entry,
                  void (*fn)(void *ctx, struct index_entry *entry), void *ctx)
{
    for (bool done = false; !done;) {
        struct index_entry *e = entry;
        while (e->below)
            e = e->below->first;
        done = e == entry;
        if (fn)
            fn(ctx, e);
        remove_leaf(x, e);
    }
}

/* Marks e and all below it, without recursion: chains of pages are long. */
static void mark_tree(struct index_entry *e)
{
    for (const struct index_entry *top = e;;) {
        e->reached = true;
        if (e->below) {
            e = e->below->first;
            continue;
        }
        while (e != top && !e->next)
            e = e->among->parent;
        if (e == top)
            return;
        e = e->next;
    }
}

void index_remove_orphans(struct index *x, void (*fn)(void *ctx, struct index_entry *entry),
                          void *ctx)
{
    for (size_t i = 0; i < x->n_bucket; i++)
        for (struct index_entry *e = x->key_bucket[i]; e; e = e->by_key)
            if (e->at_root)
                mark_tree(e);
    for (size_t i = 0; i < x->n_bucket; i++) {
        for (struct index_entry *e = x->key_bucket[i], *next; e; e = next) {
            next = e->by_key;
            if (e->reached)
                continue;
            /* Forged records may even form a ring, which has no leaf to begin with. */
            if (e->below) {
                e->below->parent = NULL;
                e->below = NULL;
            }
            fn(ctx, e);
            remove_leaf(x, e);
        }
    }
}
