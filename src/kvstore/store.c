/* kvstore/store.c - the store of kvstore.h.
 *
 * Invariants: (1) an entry of the index is on disk, or its job is queued or being written;
 *             (2) entries of pages and checkpoints form trees by parent; only leaves are evicted,
 *                 so that what is left can be used;
 *             (3) queued bytes stay below a cap: what is put beyond it is dropped;
 *             (4) bytes of all files stay within the budget after every write.
 *
 *   (put) -> QUEUED --writer--> ON DISK --evicted or found harmed--> gone
 *               '--dropped: cap, full disk, failed write---------------^
 *
 * Threads: the sink's calls on the engine's thread, the writer on its own; `lock` guards all that
 * is not set once. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "kvstore/store_internal.h"

#define DEFAULT_BYTES ((int64_t)16 << 30)
#define QUEUE_BYTES ((size_t)512 << 20)

void store_log(const struct kvstore *s, enum sluice_log_level level, const char *fmt, ...)
{
    if (!s->o.log)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    s->o.log(s->o.log_ctx, level, text);
}

static int64_t now(void)
{
    return (int64_t)time(NULL);
}

/* ---- opening ---- */

/* Removes a file that is no record of ours any more, and says so. */
static void discard(struct kvstore *s, const char *path, const char *why)
{
    store_log(s, SLUICE_LOG_WARN, "%s: removed: %s", path, why);
    s->stats.removed++;
    if (s->lock_fd >= 0)
        unlink(path);
}

static void load_file(void *ctx, const char *path)
{
    struct kvstore *s = ctx;
    const char *dot = strrchr(path, '.');
    if (strcmp(dot, ".tmp") == 0) {
        if (s->lock_fd >= 0)
            unlink(path);
        return;
    }
    uint8_t bytes[RECORD_HEADER_BYTES];
    struct record_header h;
    struct stat st;
    struct sluice_error err;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, bytes, sizeof bytes, 0);
    bool stated = fd >= 0 && fstat(fd, &st) == 0;
    if (fd >= 0)
        close(fd);
    if (n < 0 || !stated)
        return;
    if (record_check(bytes, (size_t)n, NULL, &h, &err) != SLUICE_OK) {
        discard(s, path, err.message);
        return;
    }
    /* Another model's records share the folder and the budget's figure is ours alone. */
    if (memcmp(&h.identity, &s->o.identity, sizeof h.identity) != 0)
        return;
    if ((uint64_t)st.st_size != RECORD_HEADER_BYTES + h.packed_bytes) {
        discard(s, path, "its size is not what its header says");
        return;
    }
    struct index_entry e = {
        .r = {(enum record_kind)h.kind, h.key, h.parent, h.n}, .bytes = st.st_size,
        .last_use = (int64_t)st.st_mtime, .on_disk = true};
    if (!index_find(&s->index, h.key))
        index_add(&s->index, &e);
}

static enum sluice_status take_lock(struct kvstore *s, struct sluice_error *err)
{
    char path[4096];
    if (mkdir(s->dir, 0700) != 0 && errno != EEXIST)
        return status_fail(err, SLUICE_ERR_IO, -1, "%s: cannot make: %s", s->dir, strerror(errno));
    snprintf(path, sizeof path, "%s/lock", s->dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    FAIL_IF(s->lock_fd < 0, err, SLUICE_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return SLUICE_OK;
    close(s->lock_fd);
    s->lock_fd = -1;
    store_log(s, SLUICE_LOG_WARN, "%s: another process writes here; this one only reads", s->dir);
    return SLUICE_OK;
}

static void *write_loop(void *arg);
static void set_sink(struct kvstore *s);

enum sluice_status kvstore_open(const struct kvstore_options *options, struct kvstore **out,
                                struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(strlen(options->dir) > 3800, err, SLUICE_ERR_ARG, "%.60s...: too long a path",
            options->dir);
    struct kvstore *s = calloc(1, sizeof *s);
    FAIL_IF(!s, err, SLUICE_ERR_NOMEM, "out of memory for a store");
    s->o = *options;
    s->o.bytes = options->bytes ? options->bytes : DEFAULT_BYTES;
    s->lock_fd = -1;
    s->last = &s->first;
    set_sink(s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    s->dir = strdup(options->dir);
    enum sluice_status st = s->dir ? SLUICE_OK : SLUICE_ERR_NOMEM;
    if (st == SLUICE_OK)
        st = index_init(&s->index, err);
    if (st == SLUICE_OK)
        st = take_lock(s, err);
    if (st == SLUICE_OK)
        st = store_walk(s->dir, load_file, s, err);
    if (st == SLUICE_OK && pthread_create(&s->writer, NULL, write_loop, s) != 0)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "cannot start the store's thread");
    s->started = st == SLUICE_OK;
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

/* ---- the writer ---- */

/* Evicts leaves until the files fit; under lock. */
static void fit_budget(struct kvstore *s)
{
    while (s->index.bytes > s->o.bytes) {
        struct index_entry *e = index_worst(&s->index, now());
        if (!e)
            return;
        char path[4096];
        store_path(s, &e->r, store_suffix(&e->r), path);
        unlink(path);
        index_remove(&s->index, e);
    }
}

/* After a write: what the index knows about the record. */
static void settle(struct kvstore *s, const struct store_job *job, int64_t bytes,
                   enum sluice_status st, const struct sluice_error *err)
{
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, job->r.key);
    if (st != SLUICE_OK) {
        if (!s->full)
            store_log(s, SLUICE_LOG_WARN, "conversations are no longer saved: %s", err->message);
        s->full = true;
        s->stats.dropped++;
        index_remove(&s->index, e);
    } else {
        s->index.bytes += bytes - e->bytes;
        e->bytes = bytes;
        e->on_disk = true;
        s->stats.written++;
        fit_budget(s);
    }
    s->queued_bytes -= job->n;
    s->writing = false;
    pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

static void write_job(struct kvstore *s, const struct store_job *job)
{
    struct buf file;
    struct sluice_error err;
    buf_init(&file, 0);
    enum sluice_status st =
        record_pack(&job->r, &s->o.identity, job->bytes, job->n, &file, &err);
    if (st == SLUICE_OK)
        st = store_write(s, &job->r, &file, &err);
    settle(s, job, (int64_t)file.len, st, &err);
    buf_deinit(&file);
}

static struct store_job *next_job(struct kvstore *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->first && !s->stopping)
        pthread_cond_wait(&s->work, &s->lock);
    struct store_job *job = s->first;
    if (job) {
        s->first = job->next;
        if (!s->first)
            s->last = &s->first;
        s->writing = true;
    }
    pthread_mutex_unlock(&s->lock);
    return job;
}

static void *write_loop(void *arg)
{
    struct kvstore *s = arg;
    for (struct store_job *job; (job = next_job(s)); free(job))
        write_job(s, job);
    return NULL;
}

/* ---- the sink ---- */

static void put(struct kvstore *s, const struct record *r, const void *bytes, size_t n)
{
    if (s->lock_fd < 0)
        return;
    struct store_job *job = malloc(sizeof *job + n);
    struct index_entry entry = {.r = *r, .bytes = (int64_t)n, .last_use = now()};
    pthread_mutex_lock(&s->lock);
    bool wanted = job && !s->full && s->queued_bytes + n <= QUEUE_BYTES &&
                  !index_find(&s->index, r->key);
    if (wanted && index_add(&s->index, &entry)) {
        job->next = NULL;
        job->r = *r;
        job->n = n;
        memcpy(job->bytes, bytes, n);
        *s->last = job;
        s->last = &job->next;
        s->queued_bytes += n;
        pthread_cond_signal(&s->work);
        job = NULL;
    } else if (!index_find(&s->index, r->key)) {
        s->stats.dropped++;
    }
    pthread_mutex_unlock(&s->lock);
    free(job);
}

static void sink_put_page(void *ctx, const struct page_link *page, const void *bytes, size_t n)
{
    struct record r = {.kind = RECORD_PAGE, .key = page->key, .parent = page->parent};
    put(ctx, &r, bytes, n);
}

static void sink_put_checkpoint(void *ctx, const struct page_checkpoint *at, const void *bytes,
                                size_t n)
{
    struct record r = {RECORD_CHECKPOINT, at->key, at->parent, at->n};
    /* At a page's end the state has the page's key; its own must differ. */
    r.key.low ^= RECORD_CHECKPOINT;
    put(ctx, &r, bytes, n);
}

static bool has(struct kvstore *s, struct page_key key)
{
    pthread_mutex_lock(&s->lock);
    bool found = index_find(&s->index, key) != NULL;
    pthread_mutex_unlock(&s->lock);
    return found;
}

static struct page_key checkpoint_key(struct page_key key)
{
    key.low ^= RECORD_CHECKPOINT;
    return key;
}

static bool sink_has_page(void *ctx, struct page_key key)
{
    return has(ctx, key);
}

static bool sink_has_checkpoint(void *ctx, struct page_key key)
{
    return has(ctx, checkpoint_key(key));
}

/* The longest checkpoint right after `pages` pages that is a prefix of the ids; under lock. An
 * empty tail's key does not say how many pages are before it, so that is checked too. */
static bool longest_below(struct kvstore *s, const struct page_key *chain, size_t pages,
                          const int32_t *ids, size_t n, struct page_checkpoint *out)
{
    struct page_key parent = chain[pages];
    size_t from = pages * PAGE_SINK_TOKENS;
    out->n = 0;
    for (struct index_entry *e = NULL; (e = index_child(&s->index, parent, e));) {
        if (e->r.kind != RECORD_CHECKPOINT || e->r.n > (int64_t)n || e->r.n <= out->n)
            continue;
        if ((size_t)e->r.n / PAGE_SINK_TOKENS != pages)
            continue;
        struct page_key key = page_key_next(parent, ids + from, (size_t)e->r.n - from);
        if (page_key_same(checkpoint_key(key), e->r.key))
            *out = (struct page_checkpoint){parent, key, e->r.n};
    }
    return out->n > 0;
}

static bool sink_find(void *ctx, const struct page_key *chain, const int32_t *ids, size_t n,
                      struct page_checkpoint *out)
{
    struct kvstore *s = ctx;
    size_t pages = 0;
    bool found = false;
    pthread_mutex_lock(&s->lock);
    while (pages < n / PAGE_SINK_TOKENS && index_find(&s->index, chain[pages + 1]))
        pages++;
    for (size_t i = pages + 1; i-- > 0 && !found;)
        found = longest_below(s, chain, i, ids, n, out);
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* Waits until the record is on disk and marks it used; false if there is none. */
static bool wait_for(struct kvstore *s, struct page_key key, struct record *r)
{
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, key);
    while (e && !e->on_disk) {
        pthread_cond_wait(&s->idle, &s->lock);
        e = index_find(&s->index, key);
    }
    if (e) {
        *r = e->r;
        e->last_use = now();
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

/* A whole record under a name that is not its own must not be served as another. */
static enum sluice_status check_same(const void *file, const struct record *r,
                                     struct sluice_error *err)
{
    struct record_header h;
    memcpy(&h, file, sizeof h);
    FAIL_IF(h.kind != r->kind || h.n != r->n || !page_key_same(h.key, r->key) ||
                !page_key_same(h.parent, r->parent),
            err, SLUICE_ERR_FORMAT, "expected the record that the name says, found another");
    return SLUICE_OK;
}

static enum sluice_status get(struct kvstore *s, struct page_key key, void *bytes, size_t n,
                              struct sluice_error *err)
{
    struct record r;
    struct sluice_error why;
    FAIL_IF(!wait_for(s, key, &r), err, SLUICE_ERR_IO, "the store has no such record");
    char path[4096];
    struct buf file;
    buf_init(&file, 0);
    store_path(s, &r, store_suffix(&r), path);
    enum sluice_status st = store_read(path, &file, &why);
    if (st == SLUICE_OK)
        st = record_unpack(file.data, file.len, &s->o.identity, bytes, n, &why);
    if (st == SLUICE_OK)
        st = check_same(file.data, &r, &why);
    buf_deinit(&file);
    if (st == SLUICE_OK) {
        if (s->lock_fd >= 0)
            utimensat(AT_FDCWD, path, NULL, 0);
        return SLUICE_OK;
    }
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = index_find(&s->index, key);
    if (e)
        index_remove(&s->index, e);
    discard(s, path, why.message);
    pthread_mutex_unlock(&s->lock);
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
    return get(ctx, checkpoint_key(key), bytes, n, err);
}

static void set_sink(struct kvstore *s)
{
    s->sink = (struct page_sink){
        .ctx = s, .put_page = sink_put_page, .put_checkpoint = sink_put_checkpoint,
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
    out->bytes = s->index.bytes;
    pthread_mutex_unlock(&s->lock);
}
