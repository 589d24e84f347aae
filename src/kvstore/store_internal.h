/* kvstore/store_internal.h - the parts of a store; private to this folder and its tests. */
#ifndef SLUICE_KVSTORE_STORE_INTERNAL_H
#define SLUICE_KVSTORE_STORE_INTERNAL_H

#include <pthread.h>

#include "kvstore/index.h"
#include "kvstore/kvstore.h"

/* A record of any kind, packed or not, is smaller. */
#define RECORD_MAX_BYTES ((size_t)1 << 31)

/* What a test may replace to make the disk fail. */
struct store_io {
    enum sluice_status (*write)(int fd, const void *bytes, size_t n, uint64_t offset,
                                struct sluice_error *err);
    int (*sync)(int fd);
};
extern struct store_io store_io;

/* A record on its way to the disk. */
struct store_job {
    struct store_job *next;
    struct record r;
    size_t n;
    uint8_t bytes[];
};

struct kvstore {
    /* set once */
    char *dir;
    int lock_fd;                 /* -1: somebody else writes */
    struct kvstore_options o;
    struct page_sink sink;
    pthread_t writer;
    bool started;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct index index;
    struct store_job *first, **last;
    size_t queued_bytes;
    bool writing, stopping, full;
    struct kvstore_stats stats;
};

/* files.c: paths and whole files. */
void store_path(const struct kvstore *s, const struct record *r, const char *suffix,
                char out[4096]);
const char *store_suffix(const struct record *r);
enum sluice_status store_write(struct kvstore *s, const struct record *r, const struct buf *file,
                               struct sluice_error *err);
enum sluice_status store_read(const char *path, struct buf *out, struct sluice_error *err);
/* Calls fn(path, last use) for each file in dir that has one of the suffixes. */
enum sluice_status store_walk(const char *dir, void (*fn)(void *ctx, const char *path), void *ctx,
                              struct sluice_error *err);

void store_log(const struct kvstore *s, enum sluice_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
