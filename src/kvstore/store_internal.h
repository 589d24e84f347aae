/* kvstore/store_internal.h - the parts of a store; private to this folder and its tests. */
#ifndef SLUICE_KVSTORE_STORE_INTERNAL_H
#define SLUICE_KVSTORE_STORE_INTERNAL_H

#include <pthread.h>

#include "kvstore/index.h"
#include "kvstore/kvstore.h"

#define STORE_DEFAULT_BYTES ((int64_t)16 << 30)

/* What a test may replace, to make the disk fail and time pass. */
struct store_io {
    enum sluice_status (*write)(int fd, const void *bytes, size_t n, uint64_t offset,
                                struct sluice_error *err);
    int (*sync)(int fd);
    double (*clock)(void);           /* seconds, monotonic */
    int64_t (*now)(void);            /* seconds since the epoch */
    size_t queue_bytes;              /* most that waits to be written */
};
extern struct store_io store_io;

/* Work of the writer: a record on its way to the disk, or a file to remove. */
struct store_job {
    struct store_job *next;
    struct record r;
    bool remove;
    struct index_entry *entry;       /* under lock; NULL: no longer wanted */
    size_t n;                        /* of the payload */
    int32_t ids[PAGE_SINK_TOKENS];   /* the first record_ids of them */
    uint8_t bytes[];                 /* [n] */
};

struct kvstore {
    /* set once */
    char *dir;
    int lock_fd;                     /* -1: somebody else writes */
    struct kvstore_options o;
    struct page_key root;
    struct page_sink sink;
    pthread_t writer;
    bool started;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct index index;
    struct store_job *first, **last;
    size_t queued_bytes;
    bool writing, stopping;
    bool failing, crowded;           /* nothing is saved: the disk fails, or is too slow */
    double pause, retry_at;          /* while failing; seconds, and of store_io.clock */
    struct kvstore_stats stats;
};

/* files.c: paths and whole files. */
void store_path(const struct kvstore *s, const struct record *r, const char *suffix,
                char out[4096]);
const char *store_suffix(const struct record *r);
enum sluice_status store_write(struct kvstore *s, const struct record *r, const struct buf *file,
                               struct sluice_error *err);
/* The payload [n] of the record r, checked. SLUICE_ERR_NOMEM where it could be had at another time:
 * memory or files are short. */
enum sluice_status store_read(const struct kvstore *s, const struct record *r, void *bytes,
                              size_t n, struct sluice_error *err);
/* Header and ids of a file, checked but for the payload. ids: [PAGE_SINK_TOKENS]. */
enum sluice_status store_read_head(const char *path, struct record_header *h, int32_t *ids,
                                   struct sluice_error *err);
/* Checks the payload of a file too; *h is filled once the header is right. */
enum sluice_status store_check_deep(const char *path, struct record_header *h,
                                    struct sluice_error *err);
/* Calls fn(path) for each record and temporary file below dir. */
enum sluice_status store_walk(const char *dir, void (*fn)(void *ctx, const char *path), void *ctx,
                              struct sluice_error *err);
void store_log(const struct kvstore *s, enum sluice_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* load.c: a folder becomes an index. A store without a thread as yet; *out is to be closed also on
 * failure, unless NULL. */
enum store_how {
    STORE_OPEN,                      /* the folder is made and locked, harmed records removed */
    STORE_DEEP,                      /* the same, and payloads are checked */
    STORE_LOOK,                      /* nothing is changed */
};
enum sluice_status store_load(const struct kvstore_options *options, enum store_how how,
                              struct kvstore **out, struct sluice_error *err);
/* Says that a record is not, or no longer, of use. Under lock once the store is open. */
void store_say_gone(struct kvstore *s, const char *path, const char *why);

/* writer.c */
void *store_write_loop(void *s);
/* Takes a copy of the payload [n] to be written; false: not now. Pins the entry. */
bool store_put(struct kvstore *s, const struct index_entry *entry, const int32_t *ids,
               const void *bytes, size_t n);
/* Gives up records until `bytes` more fit the budget; false if they do not. The writer's thread,
 * or before it starts; not under lock. */
bool store_make_room(struct kvstore *s, int64_t bytes);
/* Forgets a record and all that depends on it; their files go in time. Under lock. */
void store_forget(struct kvstore *s, struct index_entry *e);

#endif
