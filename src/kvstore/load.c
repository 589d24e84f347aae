/* kvstore/load.c - opening a folder: what is there becomes the index, what is harmed goes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvstore/store_internal.h"

struct loading {
    struct kvstore *s;
    bool deep;
    enum sluice_status status;
};

void store_say_gone(struct kvstore *s, const char *path, const char *why)
{
    bool ours = s->lock_fd >= 0;
    store_log(s, SLUICE_LOG_WARN, "%s: %s: %s", path, ours ? "removed" : "left out", why);
    s->stats.removed++;
}

/* Before the writer starts: at once. */
static void discard(struct kvstore *s, const char *path, const char *why)
{
    store_say_gone(s, path, why);
    if (s->lock_fd >= 0)
        unlink(path);
}

static void load_record(struct loading *l, const char *path)
{
    struct kvstore *s = l->s;
    struct record_header h;
    struct stat st;
    struct sluice_error err;
    int32_t ids[PAGE_SINK_TOKENS];
    if (stat(path, &st) != 0)
        return; /* gone meanwhile */
    enum sluice_status status = l->deep ? store_check_deep(path, &h, &err)
                                        : store_read_head(path, &h, ids, &err);
    if (status == SLUICE_ERR_IO)
        return; /* not ours to read */
    struct index_entry e = {0};
    if (status == SLUICE_OK) {
        char name[4096];
        struct page_key root = page_key_root(&h.identity);
        e = (struct index_entry){
            .r = {(enum record_kind)h.kind, h.key, h.parent, h.n}, .bytes = st.st_size,
            .at_root = page_key_same(h.parent, root), .last_use = (int64_t)st.st_mtime};
        store_path(s, &e.r, store_suffix(&e.r), name);
        if (strcmp(name, path) != 0)
            status = status_fail(&err, SLUICE_ERR_FORMAT, -1, "its name is not that of its key");
    }
    if (status == SLUICE_ERR_NOMEM)
        l->status = status;
    else if (status != SLUICE_OK)
        discard(s, path, err.message);
    else if (!index_find(&s->index, e.r.key) && !index_add(&s->index, &e))
        l->status = SLUICE_ERR_NOMEM;
}

static void load_file(void *ctx, const char *path)
{
    struct loading *l = ctx;
    if (strcmp(strrchr(path, '.'), ".tmp") != 0)
        load_record(l, path);
    else if (l->s->lock_fd >= 0)
        unlink(path);
}

static void drop_orphan(void *ctx, struct index_entry *e)
{
    char path[4096];
    store_path(ctx, &e->r, store_suffix(&e->r), path);
    discard(ctx, path, "what it goes on from is not there");
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
    return SLUICE_OK;
}

static enum sluice_status fill(struct kvstore *s, enum store_how how, struct sluice_error *err)
{
    struct loading l = {.s = s, .deep = how == STORE_DEEP};
    s->dir = strdup(s->o.dir);
    FAIL_IF(!s->dir, err, SLUICE_ERR_NOMEM, "out of memory for a store");
    TRY(index_init(&s->index, err));
    if (how != STORE_LOOK)
        TRY(take_lock(s, err));
    TRY(store_walk(s->dir, load_file, &l, err));
    FAIL_IF(l.status != SLUICE_OK, err, l.status, "out of memory for the store's index");
    index_remove_orphans(&s->index, drop_orphan, s);
    return SLUICE_OK;
}

enum sluice_status store_load(const struct kvstore_options *options, enum store_how how,
                              struct kvstore **out, struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(strlen(options->dir) > 3800, err, SLUICE_ERR_ARG, "%.60s...: too long a path",
            options->dir);
    struct kvstore *s = calloc(1, sizeof *s);
    FAIL_IF(!s, err, SLUICE_ERR_NOMEM, "out of memory for a store");
    s->o = *options;
    s->root = page_key_root(&options->identity);
    s->lock_fd = -1;
    s->last = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    *out = s;
    return fill(s, how, err);
}
