/* kvstore/writer.c - records on their way to the disk, and off it; the opening of store.c says how.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "kvstore/store_internal.h"

/* Seconds until a failed write is tried again: doubled from the first to the last. */
enum { PAUSE_FIRST = 1, PAUSE_LAST = 60 };

static void append(struct kvstore *s, struct store_job *job)
{
    job->next = NULL;
    *s->last = job;
    s->last = &job->next;
    s->queued_bytes += job->n;
    pthread_cond_signal(&s->work);
}

/* ---- forgetting ---- */

/* What is about to be removed from the index: its job is void, or its file goes. */
static void leave(void *ctx, struct index_entry *e)
{
    struct kvstore *s = ctx;
    if (e->job) {
        e->job->entry = NULL;
        s->stats.dropped++;
        return;
    }
    struct store_job *job = s->lock_fd >= 0 ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return; /* not ours; or found again, as an orphan, when the folder is opened next */
    job->r = e->r;
    job->remove = true;
    append(s, job);
}

void store_forget(struct kvstore *s, struct index_entry *e)
{
    index_remove(&s->index, e, leave, s);
}

bool store_make_room(struct kvstore *s, int64_t bytes)
{
    for (;;) {
        char path[4096];
        pthread_mutex_lock(&s->lock);
        bool fits = s->index.disk_bytes + bytes <= s->o.bytes;
        struct index_entry *e = fits ? NULL : index_worst(&s->index);
        if (e) {
            store_path(s, &e->r, store_suffix(&e->r), path);
            index_remove(&s->index, e, NULL, NULL);
            s->stats.evicted++;
        }
        pthread_mutex_unlock(&s->lock);
        if (!e)
            return fits;
        unlink(path);
    }
}

/* ---- putting ---- */

/* May a record of n bytes be queued now? Says so when that changes. Under lock. */
static bool accepts(struct kvstore *s, size_t n)
{
    if (s->failing && store_io.clock() < s->retry_at)
        return false;
    bool crowded = s->queued_bytes > 0 && s->queued_bytes + n > store_io.queue_bytes;
    /* Half empty again, so that a slow disk does not fill the log. */
    if (s->crowded && s->queued_bytes > store_io.queue_bytes / 2)
        return false;
    if (crowded && !s->crowded)
        store_log(s, SLUICE_LOG_WARN,
                  "conversations are not saved for now: %zu MB wait for the disk already",
                  s->queued_bytes >> 20);
    if (!crowded && s->crowded)
        store_log(s, SLUICE_LOG_WARN, "conversations are saved again");
    s->crowded = crowded;
    return !crowded;
}

/* Under lock. */
static bool queue(struct kvstore *s, const struct index_entry *entry, struct store_job *job)
{
    struct index_entry e = *entry;
    e.job = job;
    e.at_root = page_key_same(e.r.parent, s->root);
    if (!e.at_root && !index_find(&s->index, e.r.parent))
        return false;
    if (!accepts(s, job->n))
        return false;
    job->entry = index_add(&s->index, &e);
    if (!job->entry)
        return false;
    index_pin(&s->index, job->entry);
    append(s, job);
    return true;
}

static struct store_job *job_new(const struct record *r, const int32_t *ids, const void *bytes,
                                 size_t n)
{
    struct store_job *job = malloc(sizeof *job + n);
    if (!job)
        return NULL;
    job->r = *r;
    job->remove = false;
    job->n = n;
    memcpy(job->ids, ids, record_ids(r->kind, r->n) * sizeof *ids);
    memcpy(job->bytes, bytes, n);
    return job;
}

bool store_put(struct kvstore *s, const struct index_entry *entry, const int32_t *ids,
               const void *bytes, size_t n)
{
    if (s->lock_fd < 0)
        return false;
    struct store_job *job = job_new(&entry->r, ids, bytes, n);
    pthread_mutex_lock(&s->lock);
    struct index_entry *there = index_find(&s->index, entry->r.key);
    if (there)
        index_pin(&s->index, there);
    bool queued = !there && job && queue(s, entry, job);
    s->stats.dropped += !there && !queued;
    pthread_mutex_unlock(&s->lock);
    if (!queued)
        free(job);
    return queued || there;
}

/* ---- the thread ---- */

/* Nothing that waits has a better chance now. Under lock. */
static void give_up(struct kvstore *s, const struct sluice_error *err)
{
    if (!s->failing)
        store_log(s, SLUICE_LOG_WARN, "conversations are not saved for now: %s", err->message);
    s->pause = !s->failing              ? PAUSE_FIRST
               : 2 * s->pause < PAUSE_LAST ? 2 * s->pause
                                           : PAUSE_LAST;
    s->failing = true;
    s->retry_at = store_io.clock() + s->pause;
    for (struct store_job *job = s->first; job; job = job->next)
        if (job->entry)
            store_forget(s, job->entry);
}

/* After a write: what the index knows about the record. */
static void settle(struct kvstore *s, struct store_job *job, int64_t bytes, enum sluice_status st,
                   const struct sluice_error *err)
{
    char path[4096];
    bool unwanted = false;
    pthread_mutex_lock(&s->lock);
    struct index_entry *e = job->entry;
    if (st != SLUICE_OK) {
        if (e)
            store_forget(s, e);
        give_up(s, err);
    } else {
        if (s->failing)
            store_log(s, SLUICE_LOG_WARN, "conversations are saved again");
        s->failing = false;
        s->stats.written++;
        s->stats.written_bytes += bytes;
        if (e)
            index_written(&s->index, e, bytes);
        else
            unwanted = true;
    }
    pthread_mutex_unlock(&s->lock);
    if (unwanted) {
        store_path(s, &job->r, store_suffix(&job->r), path);
        unlink(path);
    }
}

static void write_job(struct kvstore *s, struct store_job *job)
{
    struct buf file;
    struct sluice_error err;
    struct record_body body = {job->ids, job->bytes, job->n};
    buf_init(&file, 0);
    enum sluice_status st = record_pack(&job->r, &s->o.identity, &body, &file, &err);
    if (st == SLUICE_OK && !store_make_room(s, (int64_t)file.len))
        st = status_fail(&err, SLUICE_ERR_LIMIT, -1,
                         "%s: a record of %zu bytes does not fit the %lld that are allowed", s->dir,
                         file.len, (long long)s->o.bytes);
    if (st == SLUICE_OK)
        st = store_write(s, &job->r, &file, &err);
    settle(s, job, (int64_t)file.len, st, &err);
    buf_deinit(&file);
}

static void do_job(struct kvstore *s, struct store_job *job)
{
    char path[4096];
    pthread_mutex_lock(&s->lock);
    bool wanted = job->remove || job->entry;
    pthread_mutex_unlock(&s->lock);
    if (wanted && job->remove) {
        store_path(s, &job->r, store_suffix(&job->r), path);
        unlink(path);
    } else if (wanted) {
        write_job(s, job);
    }
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

void *store_write_loop(void *arg)
{
    struct kvstore *s = arg;
    for (struct store_job *job; (job = next_job(s)); free(job)) {
        do_job(s, job);
        pthread_mutex_lock(&s->lock);
        s->queued_bytes -= job->n;
        s->writing = false;
        pthread_cond_broadcast(&s->idle);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}
