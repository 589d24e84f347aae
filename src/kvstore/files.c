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

struct store_io store_io = {file_write_exact, fsync, clock_seconds, (size_t)512 << 20};

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

int64_t store_now(void)
{
    return (int64_t)time(NULL);
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

enum sluice_status store_read(const char *path, char **bytes, size_t *n, struct sluice_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int error = errno;
    bool later = fd < 0 && (error == EMFILE || error == ENFILE || error == ENOMEM);
    FAIL_IF(fd < 0, err, later ? SLUICE_ERR_NOMEM : SLUICE_ERR_IO, "cannot open: %s",
            strerror(error));
    bool fits = fstat(fd, &st) == 0 && st.st_size >= RECORD_HEADER_BYTES &&
                (uint64_t)st.st_size <= 2 * (uint64_t)RECORD_MAX_BYTES;
    char *file = fits ? malloc((size_t)st.st_size) : NULL;
    enum sluice_status status = SLUICE_OK;
    if (!fits)
        status = status_fail(err, SLUICE_ERR_FORMAT, -1, "a file of this size is no record");
    else if (!file)
        status = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a record");
    else
        status = file_read_exact(fd, file, (size_t)st.st_size, 0, err);
    close(fd);
    if (status != SLUICE_OK) {
        free(file);
        return status;
    }
    *bytes = file;
    *n = (size_t)st.st_size;
    return SLUICE_OK;
}

enum sluice_status store_check_deep(const char *path, struct record_header *h,
                                    struct sluice_error *err)
{
    char *file;
    size_t n;
    TRY(store_read(path, &file, &n, err));
    enum sluice_status st = record_check_all(file, n, NULL, h, err);
    void *payload = st == SLUICE_OK ? malloc(h->raw_bytes + 1) : NULL;
    if (payload)
        st = record_unpack(file, n, NULL, payload, h->raw_bytes, err);
    else if (st == SLUICE_OK)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a payload");
    free(payload);
    free(file);
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
