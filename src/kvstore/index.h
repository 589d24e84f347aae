/* kvstore/index.h - which records there are: a hash table by key, and by parent. In memory only:
 * the files' headers say all of it, so there is no second truth to repair.
 *
 * Invariants: (1) a key is in the table once; (2) n_children of an entry counts the entries whose
 *             parent is its key; (3) bytes is the sum over entries.
 *
 * Threads: the store's lock. */
#ifndef SLUICE_KVSTORE_INDEX_H
#define SLUICE_KVSTORE_INDEX_H

#include "kvstore/record.h"

struct index_entry {
    struct record r;
    int64_t bytes;               /* of the file */
    int64_t last_use;            /* seconds since the epoch */
    int32_t n_children;
    bool on_disk;                /* else the writer has it */
    struct index_entry *by_key, *by_parent;   /* next in the bucket */
};

struct index {
    struct index_entry **key_bucket, **parent_bucket;   /* [n_bucket], a power of two */
    size_t n_bucket, n;
    int64_t bytes;
};

enum sluice_status index_init(struct index *x, struct sluice_error *err);
void index_deinit(struct index *x);
/* Copies the entry in; NULL when out of memory. The key must not be there. */
struct index_entry *index_add(struct index *x, const struct index_entry *entry);
struct index_entry *index_find(const struct index *x, struct page_key key);
/* The entries with this parent, by next: start with NULL. */
struct index_entry *index_child(const struct index *x, struct page_key parent,
                                const struct index_entry *after);
void index_remove(struct index *x, struct index_entry *entry);
/* Tokens that keeping an entry saves, per byte and second since its last use: the larger, the
 * longer it stays. Pages without children stand for nothing. */
double index_value(const struct index_entry *entry, int64_t now);
/* The entry to give up first among those that nothing depends on; NULL if there are none. */
struct index_entry *index_worst(const struct index *x, int64_t now);

#endif
