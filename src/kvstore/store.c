/* kvstore/store.c - the store of kvstore.h.
 *
 * Invariants: (1) an entry of the index is on disk, or its job is queued or being written;
 *             (2) every entry goes on from another or from the root, so that all that is there can
 *                 be used; only leaves are evicted, and what goes on from a lost record goes too;
 *             (3) queued bytes stay below a cap: what is put beyond it is refused;
 *             (4) bytes of all records of the folder, whatever model they are of, stay within the
 *                 budget at every moment (a budget that was lowered: once the folder is open);
 *             (5) while saving fails nothing waits to be written.
 *
 *   (put) -> QUEUED --writer--> ON DISK --evicted, found harmed, or its parent lost--> gone
 *               '--a write failed------------------------------------------------------^
 *
 *   saving --a write fails--> FAILING: puts are refused for a while, then one is tried
 *      ^-----------a write succeeds------'
 *
 * Threads: the sink's calls on the engine's thread, which never waits for the disk but to read what
 * it asks for; the writer on its own, which alone changes files once the store is open; `lock`
 * guards all that is not set once and is not held during I/O. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "kvstore/store_internal.h"

/* ---- opening ---- */

static void set_sink(struct kvstore *s);

enum sluice_status kvstore_open(const struct kvstore_options *options, struct kvstore **out,
                                struct sluice_error *err)
{
    *out = NULL;
    struct kvstore_options o = *options;
    o.bytes = o.bytes ? o.bytes : STORE_DEFAULT_BYTES;
    struct kvstore *s;
    enum sluice_status st = store_load(&o, STORE_OPEN, &s, err);
    if (st == SLUICE_OK) {
        set_sink(s);
        if (s->lock_fd >= 0)
            store_make_room(s, 0);
        else
            store_log(s, SLUICE_LOG_WARN,
                      "%s: another process writes here; this one only reads", s->dir);
        if (pthread_create(&s->writer, NULL, store_write_loop, s) != 0)
            st = status_fail(err, SLUICE_ERR_NOMEM, -1, "cannot start the store's thread");
        s->started = st == SLUICE_OK;
    }
    if (st != SLUICE_OK) {
        kvstore_close(s);
        return st;
    }
    *out = s;
    return SLUICE_OK;
}

void kvstore_close(struct kvstore *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->writer, NULL);
    SLUICE_ASSERT(!s->first);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    index_deinit(&s->index);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
}

/* ---- the sink ---- */

static bool sink_put_page(void *ctx, const struct page_link *page, const void *bytes, size_t n)
{
    struct index_entry e = {
        .r = {RECORD_PAGE, page->key, page->parent, 0}, .last_use = store_io.now()};
    return store_put(ctx, &e, page->ids, bytes, n);
}

static bool sink_put_checkpoint(void *ctx, const struct page_checkpoint *at, const int32_t *tail,
                                const void *bytes, size_t n)
{
    struct index_entry e = {
        .r = {RECORD_CHECKPOINT, record_checkpoint_key(at->key), at->parent, at->n},
        .last_use = store_io.now()};
    return store_put(ctx, &e, tail, bytes, n);
}

static void sink_done(void *ctx)
{
    struct kvstore *s = ctx;
    pthread_mutex_lock(&s->lock);
    index_release(&s->index);
    pthread_mutex_unlock(&s->lock);
}

static bool sink_has_page(void *ctx, struct page_key key)
{
    struct kvstore *s = ctx;
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, key);
    if (e) {
        index_touch(&s->index, e, store_io.now());
        index_pin(&s->index, e);
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

static bool sink_has_checkpoint(void *ctx, struct page_key key)
{
    struct kvstore *s = ctx;
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, record_checkpoint_key(key));
    if (e)
        index_touch(&s->index, e, store_io.now());
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

/* The longest checkpoint right after `pages` pages that is a prefix of the ids; under lock. An
 * empty tail's key does not say how many pages are before it, so that is checked too. */
static bool longest_below(struct kvstore *s, const struct page_key *chain, size_t pages,
                          const int32_t *ids, size_t n, struct page_checkpoint *out)
{
    struct page_key parent = chain[pages];
    size_t from = pages * PAGE_SINK_TOKENS, most = n - from;
    const uint32_t *tails = index_tails(&s->index, parent);
    if (!tails)
        return false;
    most = most < PAGE_SINK_TOKENS - 1 ? most : PAGE_SINK_TOKENS - 1;
    for (size_t tail = most + 1; tail-- > 0;) {
        if (!tails[tail])
            continue;
        struct page_key key = page_key_next(parent, ids + from, tail);
        const struct index_entry *e = index_find(&s->index, record_checkpoint_key(key));
        if (!e || e->r.n != (int64_t)(from + tail))
            continue;
        *out = (struct page_checkpoint){parent, key, e->r.n};
        return true;
    }
    return false;
}

static bool sink_find(void *ctx, const struct page_key *chain, const int32_t *ids, size_t n,
                      struct page_checkpoint *out)
{
    struct kvstore *s = ctx;
    size_t pages = 0;
    bool found = false;
    if (!page_key_same(chain[0], s->root))
        return false; /* another model's records are in the index too */
    pthread_mutex_lock(&s->lock);
    while (pages < n / PAGE_SINK_TOKENS && index_find(&s->index, chain[pages + 1]))
        pages++;
    for (size_t i = pages + 1; i-- > 0 && !found;)
        found = longest_below(s, chain, i, ids, n, out);
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* After a failed read: the record is forgotten, unless it went by itself meanwhile. */
static void lose(struct kvstore *s, struct page_key key, const char *path, const char *why)
{
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, key);
    if (e && !e->job) {
        store_say_gone(s, path, why);
        store_forget(s, e);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Copies from a job that waits; false: it is on disk (*r says what), or not there (*there). */
static bool get_waiting(struct kvstore *s, struct page_key key, void *bytes, size_t n,
                        struct record *r, bool *there)
{
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, key);
    bool waiting = e && e->job && e->job->n == n;
    *there = e && (!e->job || waiting);
    if (waiting)
        memcpy(bytes, e->job->bytes, n);
    if (*there) {
        *r = e->r;
        index_touch(&s->index, e, store_io.now());
    }
    pthread_mutex_unlock(&s->lock);
    return waiting;
}

static enum sluice_status get(struct kvstore *s, struct page_key key, void *bytes, size_t n,
                              struct sluice_error *err)
{
    struct record r;
    struct sluice_error why;
    bool there;
    char path[4096];
    if (get_waiting(s, key, bytes, n, &r, &there))
        return SLUICE_OK;
    FAIL_IF(!there, err, SLUICE_ERR_IO, "the store has no such record of %zu bytes", n);
    store_path(s, &r, store_suffix(&r), path);
    enum sluice_status st = store_read(s, &r, bytes, n, &why);
    if (st == SLUICE_OK) {
        struct timespec used = {.tv_sec = (time_t)store_io.now()};
        if (s->lock_fd >= 0 && r.kind == RECORD_CHECKPOINT)
            utimensat(AT_FDCWD, path, (struct timespec[]){used, used}, 0);
        return SLUICE_OK;
    }
    if (st != SLUICE_ERR_NOMEM)
        lose(s, key, path, why.message);
    if (err)
        *err = why;
    return st;
}

static enum sluice_status sink_get_page(void *ctx, struct page_key key, void *bytes, size_t n,
                                        struct sluice_error *err)
{
    return get(ctx, key, bytes, n, err);
}

static enum sluice_status sink_get_checkpoint(void *ctx, struct page_key key, void *bytes,
                                              size_t n, struct sluice_error *err)
{
    return get(ctx, record_checkpoint_key(key), bytes, n, err);
}

static void set_sink(struct kvstore *s)
{
    s->sink = (struct page_sink){
        .ctx = s, .put_page = sink_put_page, .put_checkpoint = sink_put_checkpoint,
        .done = sink_done,
        .has_page = sink_has_page, .has_checkpoint = sink_has_checkpoint, .find = sink_find,
        .get_page = sink_get_page, .get_checkpoint = sink_get_checkpoint};
}

const struct page_sink *kvstore_sink(struct kvstore *s)
{
    return &s->sink;
}

void kvstore_flush(struct kvstore *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->first || s->writing)
        pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void kvstore_stats(struct kvstore *s, struct kvstore_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    out->records = (int64_t)s->index.n;
    out->bytes = s->index.disk_bytes;
    pthread_mutex_unlock(&s->lock);
}
