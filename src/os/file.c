#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"

static enum sluice_status io_fail(struct sluice_error *err, const char *what, const char *path)
{
    return status_fail(err, SLUICE_ERR_IO, -1, "%s: cannot %s: %s", path, what, strerror(errno));
}

enum sluice_status file_map_open(const char *path, struct file_map *out, struct sluice_error *err)
{
    enum sluice_status st = SLUICE_OK;
    struct stat info;
    *out = (struct file_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_fail(err, "open", path);
    if (fstat(fd, &info) != 0) {
        st = io_fail(err, "stat", path);
        goto out;
    }
    if (!S_ISREG(info.st_mode)) {
        st = status_fail(err, SLUICE_ERR_IO, -1, "%s: expected a regular file", path);
        goto out;
    }
    if (info.st_size == 0)
        goto out;
    void *at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
        st = io_fail(err, "map", path);
        goto out;
    }
    /* a wish: the system reads and maps such files in huge pages where it can */
    madvise(at, (size_t)info.st_size, MADV_HUGEPAGE);
    *out = (struct file_map){at, (uint64_t)info.st_size};
out:
    close(fd);
    return st;
}

void file_map_close(struct file_map *m)
{
    if (m->bytes)
        munmap((void *)m->bytes, (size_t)m->size);
    *m = (struct file_map){0};
}

/* In the kernel since 5.14; older ones refuse it, and headers may lack it. */
#define POPULATE_READ 22

void file_map_load(const struct file_map *m, uint64_t offset, uint64_t n)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), skip = offset % page;
    if (offset >= m->size)
        return;
    n = n < m->size - offset ? n : m->size - offset;
    if (madvise((void *)(uintptr_t)(m->bytes + offset - skip), (size_t)(n + skip),
                POPULATE_READ) == 0)
        return;
    const volatile uint8_t *at = m->bytes + offset;
    for (uint64_t i = 0; i < n; i += page)
        (void)at[i];
}

enum sluice_status file_read_exact(int fd, void *bytes, size_t n, uint64_t offset,
                                   struct sluice_error *err)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(fd, (char *)bytes + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return status_fail(err, SLUICE_ERR_IO, (int64_t)(offset + done), "cannot read: %s",
                               strerror(errno));
        if (got == 0)
            return status_fail(err, SLUICE_ERR_IO, (int64_t)(offset + done),
                               "file ends early: expected %zu bytes at offset %llu, found %zu", n,
                               (unsigned long long)offset, done);
        done += (size_t)got;
    }
    return SLUICE_OK;
}

enum sluice_status file_write_exact(int fd, const void *bytes, size_t n, uint64_t offset,
                                    struct sluice_error *err)
{
    size_t done = 0;
    while (done < n) {
        ssize_t put = pwrite(fd, (const char *)bytes + done, n - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return status_fail(err, SLUICE_ERR_IO, (int64_t)(offset + done), "cannot write: %s",
                               strerror(errno));
        done += (size_t)put;
    }
    return SLUICE_OK;
}

/* Appends what fd still has; pipes have no offsets, so this is the one plain read loop. */
static enum sluice_status read_stream(int fd, const char *path, struct buf *b,
                                      struct sluice_error *err)
{
    char piece[65536];
    for (;;) {
        ssize_t got = read(fd, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return io_fail(err, "read", path);
        if (got == 0)
            return SLUICE_OK;
        buf_add(b, piece, (size_t)got);
        if (b->status != SLUICE_OK)
            return buf_status(b, err);
    }
}

enum sluice_status file_read_all(const char *path, size_t cap, char **bytes, size_t *n,
                                 struct sluice_error *err)
{
    struct buf b;
    *bytes = NULL;
    *n = 0;
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return io_fail(err, "open", path);
    buf_init(&b, cap);
    enum sluice_status st = read_stream(fd, is_stdin ? "standard input" : path, &b, err);
    if (!is_stdin)
        close(fd);
    if (st == SLUICE_OK) {
        *bytes = buf_take(&b, n);
        st = *bytes ? SLUICE_OK : buf_status(&b, err);
    }
    buf_deinit(&b);
    return st;
}

/* Makes the rename itself durable. */
static enum sluice_status sync_directory_of(const char *path, struct sluice_error *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    FAIL_IF(!dir, err, SLUICE_ERR_NOMEM, "out of memory replacing %s", path);
    enum sluice_status st = SLUICE_OK;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        st = io_fail(err, "sync directory", dir);
    if (fd >= 0)
        close(fd);
    free(dir);
    return st;
}

enum sluice_status file_replace(const char *path, const void *bytes, size_t n, int mode,
                                struct sluice_error *err)
{
    struct buf temp;
    buf_init(&temp, 65536);
    buf_addf(&temp, "%s.%ld.tmp", path, (long)getpid());
    enum sluice_status st = buf_status(&temp, err);
    if (st != SLUICE_OK) {
        buf_deinit(&temp);
        return st;
    }
    int fd = open(temp.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        st = io_fail(err, "create", temp.data);
        buf_deinit(&temp);
        return st;
    }
    st = file_write_exact(fd, bytes, n, 0, err);
    if (st != SLUICE_OK)
        status_prefix(err, "%s: ", temp.data);
    else if (fsync(fd) != 0)
        st = io_fail(err, "sync", temp.data);
    if (close(fd) != 0 && st == SLUICE_OK)
        st = io_fail(err, "close", temp.data);
    if (st == SLUICE_OK && rename(temp.data, path) != 0)
        st = io_fail(err, "rename to", path);
    if (st != SLUICE_OK)
        unlink(temp.data);
    else
        st = sync_directory_of(path, err);
    buf_deinit(&temp);
    return st;
}
