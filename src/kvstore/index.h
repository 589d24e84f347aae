/* kvstore/index.h - which records there are: a hash table by key, and the children of each key. In
 * memory only: the files' headers say all of it, so there is no second truth to repair.
 *
 * A *family* is the entries with one parent. The parent may be a root, which has no record of its
 * own, or, while a folder is being read, a record that has not been met yet or is lost.
 *
 * Invariants: (1) a key is in the table once;
 *             (2) a family has at least one entry; its tails count its checkpoints by the number of
 *                 ids after the last page;
 *             (3) the heap holds the entries that are on disk, have no children and are not pinned;
 *                 its top has the lowest rank;
 *             (4) disk_bytes is the sum over entries that are on disk.
 *
 * Threads: the store's lock. */
#ifndef SLUICE_KVSTORE_INDEX_H
#define SLUICE_KVSTORE_INDEX_H

#include "kvstore/record.h"

struct store_job;
struct index_family;

struct index_entry {
    /* the caller's */
    struct record r;
    bool at_root;                /* its parent is a root, not a record */
    int64_t bytes;               /* of the file; on disk only */
    int64_t last_use;            /* seconds since the epoch */
    struct store_job *job;       /* its bytes wait to be written; NULL: on disk */
    /* the index's */
    bool pinned, reached;        /* reached: from a root, when orphans were last looked for */
    size_t heap_at;              /* 1 + place in the heap; 0: not in it */
    struct index_family *among, *below;   /* below: its children, or NULL */
    struct index_entry *by_key, *next, *before, *next_pinned;
};

struct index {
    struct index_entry **key_bucket;         /* [n_bucket], a power of two */
    struct index_family **family_bucket;     /* [n_bucket] */
    struct index_entry **heap;               /* [n_heap] of heap_room >= n */
    struct index_entry *pinned;              /* list */
    size_t n_bucket, n, n_heap, heap_room;
    int64_t disk_bytes;
};

enum sluice_status index_init(struct index *x, struct sluice_error *err);
void index_deinit(struct index *x);
/* Copies the caller's part of the entry in; NULL when out of memory. The key must not be there. */
struct index_entry *index_add(struct index *x, const struct index_entry *entry);
struct index_entry *index_find(const struct index *x, struct page_key key);
/* Checkpoints by ids after the page `parent`: [PAGE_SINK_TOKENS], or NULL where there are none. */
const uint32_t *index_tails(const struct index *x, struct page_key parent);

/* The entry's job is done: a file of this size. */
void index_written(struct index *x, struct index_entry *entry, int64_t bytes);
void index_touch(struct index *x, struct index_entry *entry, int64_t last_use);
/* A pinned entry is not given up until all are released. */
void index_pin(struct index *x, struct index_entry *entry);
void index_release(struct index *x);

/* The entry to give up first among those that nothing depends on; NULL if there are none. */
struct index_entry *index_worst(const struct index *x);
/* Seconds since the epoch; the larger, the longer it stays. A page: its last use. A state: six
 * hours more for each doubling of its tokens from 4,096 on (what they cost to read again grows with
 * the model, and so do its records); or a day less, if pages go beyond it: then a later state of
 * most likely the same conversation does too. What many share stays: only what has no children is
 * given up. */
double index_rank(const struct index_entry *entry);

/* Removes an entry and all that depends on it, children first; fn, if not NULL, sees each before it
 * is freed. */
void index_remove(struct index *x, struct index_entry *entry,
                  void (*fn)(void *ctx, struct index_entry *entry), void *ctx);
/* Removes, in any order, what no chain of records connects to a root. */
void index_remove_orphans(struct index *x, void (*fn)(void *ctx, struct index_entry *entry),
                          void *ctx);

#endif
