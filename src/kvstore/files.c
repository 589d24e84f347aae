/* kvstore/files.c - paths of records, and whole files in and out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kvstore/store_internal.h"
#include "os/clock.h"
#include "os/file.h"

static int64_t now(void)
{
    return (int64_t)time(NULL);
}

struct store_io store_io = {file_write_exact, fsync, clock_seconds, now, (size_t)512 << 20};

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

const char *store_suffix(const struct record *r)
{
    return r->kind == RECORD_PAGE ? ".page" : ".ckpt";
}

void store_path(const struct kvstore *s, const struct record *r, const char *suffix,
                char out[4096])
{
    snprintf(out, 4096, "%s/%02x/%016" PRIx64 "%016" PRIx64 "%s", s->dir,
             (unsigned)(r->key.high >> 56), r->key.high, r->key.low, suffix);
}

static enum sluice_status failed(const char *what, const char *path, struct sluice_error *err)
{
    return status_fail(err, SLUICE_ERR_IO, -1, "%s: cannot %s: %s", path, what, strerror(errno));
}

static enum sluice_status write_all(int fd, const struct buf *file, const char *path,
                                    struct sluice_error *err)
{
    enum sluice_status st = store_io.write(fd, file->data, file->len, 0, err);
    if (st != SLUICE_OK) {
        status_prefix(err, "%s: ", path);
        return st;
    }
    return store_io.sync(fd) == 0 ? SLUICE_OK : failed("sync", path, err);
}

/* The folder's entry must be on disk before the record counts as saved. */
static void sync_folder(const char *path)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        store_io.sync(fd);
        close(fd);
    }
}

enum sluice_status store_write(struct kvstore *s, const struct record *r, const struct buf *file,
                               struct sluice_error *err)
{
    char path[4096], temporary[4096];
    store_path(s, r, store_suffix(r), path);
    store_path(s, r, ".tmp", temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 && errno == ENOENT) {
        char *slash = strrchr(temporary, '/');
        *slash = 0;
        if (mkdir(temporary, 0700) != 0 && errno != EEXIST)
            return failed("make", temporary, err);
        sync_folder(temporary);
        *slash = '/';
        fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (fd < 0)
        return failed("create", temporary, err);
    enum sluice_status st = write_all(fd, file, temporary, err);
    if (close(fd) != 0 && st == SLUICE_OK)
        st = failed("close", temporary, err);
    if (st == SLUICE_OK && rename(temporary, path) != 0)
        st = failed("rename", temporary, err);
    if (st == SLUICE_OK)
        sync_folder(path);
    else
        unlink(temporary);
    return st;
}

/* ---- reading ---- */

/* A record that is being read. */
struct reading {
    int fd;
    struct record_header h;
    uint8_t head[RECORD_HEADER_BYTES + PAGE_SINK_TOKENS * sizeof(int32_t)];
};

static enum sluice_status read_head(struct reading *r, const char *path,
                                    const struct page_identity *identity, struct sluice_error *err)
{
    struct stat st;
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    int error = errno;
    bool later = r->fd < 0 && (error == EMFILE || error == ENFILE || error == ENOMEM);
    FAIL_IF(r->fd < 0, err, later ? SLUICE_ERR_NOMEM : SLUICE_ERR_IO, "cannot open: %s",
            strerror(error));
    FAIL_IF(fstat(r->fd, &st) != 0, err, SLUICE_ERR_IO, "cannot read: %s", strerror(errno));
    size_t there = st.st_size < (off_t)sizeof r->head ? (size_t)st.st_size : sizeof r->head;
    TRY(file_read_exact(r->fd, r->head, there, 0, err));
    TRY(record_check(r->head, there, identity, &r->h, err));
    FAIL_IF(record_bytes(&r->h) != (uint64_t)st.st_size, err, SLUICE_ERR_FORMAT,
            "expected a file of %llu bytes, found %lld", (unsigned long long)record_bytes(&r->h),
            (long long)st.st_size);
    return SLUICE_OK;
}

/* The payload into out [n]; stored as it is, it is read right there. */
static enum sluice_status read_payload(const struct reading *r, void *out, size_t n,
                                       struct sluice_error *err)
{
    size_t stored = (size_t)r->h.packed_bytes;
    bool plain = stored == r->h.raw_bytes && stored == n;
    void *bytes = plain ? out : malloc(stored + 1);
    FAIL_IF(!bytes, err, SLUICE_ERR_NOMEM, "out of memory for a record of %zu bytes", stored);
    enum sluice_status st =
        file_read_exact(r->fd, bytes, stored, record_head_bytes(&r->h), err);
    struct record_file file = {r->head, bytes, stored};
    if (st == SLUICE_OK)
        st = record_unpack(&file, &r->h, out, n, err);
    if (!plain)
        free(bytes);
    return st;
}

static void close_reading(struct reading *r)
{
    if (r->fd >= 0)
        close(r->fd);
}

/* A whole record under a name that is not its own must not be served as another. */
static enum sluice_status check_same(const struct record_header *h, const struct record *r,
                                     struct sluice_error *err)
{
    FAIL_IF(h->kind != r->kind || h->n != r->n || !page_key_same(h->key, r->key) ||
                !page_key_same(h->parent, r->parent),
            err, SLUICE_ERR_FORMAT, "expected the record that the name says, found another");
    return SLUICE_OK;
}

enum sluice_status store_read(const struct kvstore *s, const struct record *r, void *bytes,
                              size_t n, struct sluice_error *err)
{
    struct reading reading;
    char path[4096];
    store_path(s, r, store_suffix(r), path);
    enum sluice_status st = read_head(&reading, path, &s->o.identity, err);
    if (st == SLUICE_OK)
        st = check_same(&reading.h, r, err);
    if (st == SLUICE_OK)
        st = read_payload(&reading, bytes, n, err);
    close_reading(&reading);
    return st;
}

enum sluice_status store_read_head(const char *path, struct record_header *h, int32_t *ids,
                                   struct sluice_error *err)
{
    struct reading reading;
    enum sluice_status st = read_head(&reading, path, NULL, err);
    if (st == SLUICE_OK)
        st = record_check_key(reading.head, &reading.h, err);
    if (st == SLUICE_OK) {
        *h = reading.h;
        record_read_ids(reading.head, h, ids);
    }
    close_reading(&reading);
    return st;
}

enum sluice_status store_check_deep(const char *path, struct record_header *h,
                                    struct sluice_error *err)
{
    struct reading reading;
    enum sluice_status st = read_head(&reading, path, NULL, err);
    if (st == SLUICE_OK)
        *h = reading.h;
    void *payload = st == SLUICE_OK ? malloc(reading.h.raw_bytes + 1) : NULL;
    if (payload)
        st = read_payload(&reading, payload, reading.h.raw_bytes, err);
    else if (st == SLUICE_OK)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a payload");
    free(payload);
    close_reading(&reading);
    return st;
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && strcmp(name + n - k, suffix) == 0;
}

static void walk_folder(const char *folder, void (*fn)(void *ctx, const char *path), void *ctx)
{
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        bool record = ends_with(e->d_name, ".page") || ends_with(e->d_name, ".ckpt") ||
                      ends_with(e->d_name, ".tmp");
        char path[4096 + sizeof e->d_name];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (record)
            fn(ctx, path);
    }
    closedir(d);
}

enum sluice_status store_walk(const char *dir, void (*fn)(void *ctx, const char *path), void *ctx,
                              struct sluice_error *err)
{
    struct stat st;
    if (stat(dir, &st) != 0)
        return failed("open", dir, err);
    FAIL_IF(!S_ISDIR(st.st_mode), err, SLUICE_ERR_IO, "%s: expected a folder", dir);
    for (unsigned i = 0; i < 256; i++) {
        char folder[4096];
        if (snprintf(folder, sizeof folder, "%s/%02x", dir, i) < (int)sizeof folder)
            walk_folder(folder, fn, ctx);
    }
    return SLUICE_OK;
}
