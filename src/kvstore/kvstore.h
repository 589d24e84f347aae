/* kvstore/kvstore.h - conversations on disk: a page sink over a folder of records.
 *
 *   DIR/lock                 held while a process writes
 *   DIR/xx/KEY.page .ckpt    one record a file (record.h), in 256 folders by the key's first byte
 *   DIR/xx/KEY.tmp           being written; removed when the store is opened
 *
 * A record is written under a temporary name, synced and renamed, by a thread of its own; so a
 * record is there whole or not at all. What cannot be read unharmed is removed with all that goes
 * on from it, said once, and never served. While the disk is full, fails or is too slow nothing is
 * saved; it is tried again after a pause. Either change is said once.
 *
 * Two processes: the first to come writes; a second one on the same folder only reads what was
 * there when it came. */
#ifndef SLUICE_KVSTORE_KVSTORE_H
#define SLUICE_KVSTORE_KVSTORE_H

#include "engine/page_sink.h"
#include "sluice.h"

struct kvstore;

struct kvstore_options {
    const char *dir;             /* made if it is not there; 0700 */
    int64_t bytes;               /* budget of all records in dir; 0: 16 GiB */
    struct page_identity identity;
    /* Or NULL. Called from any thread, also under the store's lock: must not call the store. */
    void (*log)(void *ctx, enum sluice_log_level level, const char *text);
    void *log_ctx;
};

/* Reads the headers of all records, gives up what is beyond the budget. SLUICE_ERR_IO when the
 * folder cannot be used. */
enum sluice_status kvstore_open(const struct kvstore_options *options, struct kvstore **out,
                                struct sluice_error *err);
/* Writes what is queued, then frees. Accepts NULL. */
void kvstore_close(struct kvstore *s);
/* The store as the engine sees it; valid until kvstore_close. */
const struct page_sink *kvstore_sink(struct kvstore *s);
/* Waits until all that was put is on disk (or dropped). Any thread. */
void kvstore_flush(struct kvstore *s);

struct kvstore_stats {
    int64_t records;             /* on disk, or about to be */
    int64_t bytes;               /* on disk */
    /* records since the start: saved; not saved; found harmed; given up for the budget */
    int64_t written, dropped, removed, evicted;
    int64_t written_bytes;       /* of the files of those that were saved */
};
void kvstore_stats(struct kvstore *s, struct kvstore_stats *out);   /* any thread */

/* One record of a folder, for people. */
struct kvstore_item {
    const char *path;
    struct page_identity identity;
    bool checkpoint;
    int64_t n, bytes, last_use;  /* tokens of a checkpoint; of the file; seconds since the epoch */
    enum sluice_status status;   /* of checking it: header, and with deep the payload */
    const char *message;         /* what is wrong */
};

/* Calls fn for every record of any model in dir. */
enum sluice_status kvstore_list(const char *dir, bool deep,
                                void (*fn)(void *ctx, const struct kvstore_item *item), void *ctx,
                                struct sluice_error *err);

/* A conversation as far as a state of it is kept. */
struct kvstore_state {
    char id[33];                 /* of the state; 32 hexadecimal digits */
    struct page_identity identity;
    int64_t n, last_use;         /* tokens; seconds since the epoch */
    int64_t bytes;               /* of its own file */
    int64_t page_bytes;          /* of the files of its pages, which others may share */
    int32_t pages;
    const int32_t *ids;          /* [n_ids] its first, valid during the call */
    size_t n_ids;
};

/* Calls fn for every state in dir, the last used first, with the ids of its first page; or, where
 * id is not NULL, for the one whose id begins so, with all n ids. SLUICE_ERR_ARG if that is not
 * one. Changes nothing. */
enum sluice_status kvstore_show(const char *dir, const char *id,
                                void (*fn)(void *ctx, const struct kvstore_state *state), void *ctx,
                                struct sluice_error *err);

/* Removes harmed records (every byte is checked) and what goes on from them, then gives up records
 * of any model until they fit options->bytes (0: none is left; identity is not used).
 * SLUICE_ERR_STATE while another process writes there. */
enum sluice_status kvstore_prune(const struct kvstore_options *options, struct kvstore_stats *out,
                                 struct sluice_error *err);

#endif
