/* os/file.h - files: whole-file mappings, exact reads and writes, atomic replacement. Nothing else
 * in the tree loops on read or write. */
#ifndef SLUICE_OS_FILE_H
#define SLUICE_OS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A read-only mapping of a whole file. An empty file has bytes == NULL, size == 0. */
struct file_map {
    const uint8_t *bytes;
    uint64_t size;
};

/* SLUICE_ERR_IO names the path and the system's reason. The mapping is private: later writes to the
 * file may show, truncation under it may fault. */
enum sluice_status file_map_open(const char *path, struct file_map *out, struct sluice_error *err);
void file_map_close(struct file_map *m);   /* accepts a zeroed struct */
/* Reads a part of the mapping that is not in memory yet, so that nobody waits for it later. Clipped
 * to the file. Any thread. */
void file_map_load(const struct file_map *m, uint64_t offset, uint64_t n);

/* Exactly n bytes at offset, or SLUICE_ERR_IO; end of file before n is an error that says how much
 * was there. Interrupted calls are repeated. */
enum sluice_status file_read_exact(int fd, void *bytes, size_t n, uint64_t offset,
                                   struct sluice_error *err);
enum sluice_status file_write_exact(int fd, const void *bytes, size_t n, uint64_t offset,
                                    struct sluice_error *err);

/* The whole of a file (or of a pipe), at most cap bytes, in memory that the caller frees; a NUL
 * follows the bytes. "-" is standard input. */
enum sluice_status file_read_all(const char *path, size_t cap, char **bytes, size_t *n,
                                 struct sluice_error *err);

/* Replaces path by these bytes so that a crash leaves either the old or the new file: a temporary
 * file beside it, fsync, rename, fsync of the directory. mode as for open(2). */
enum sluice_status file_replace(const char *path, const void *bytes, size_t n, int mode,
                                struct sluice_error *err);

#endif
