/* formats/gguf_internal.h - what gguf.c (open, look up), gguf_read.c (parse one file) and
 * gguf_value.c (typed reads) share. */
#ifndef SLUICE_FORMATS_GGUF_INTERNAL_H
#define SLUICE_FORMATS_GGUF_INTERNAL_H

#include "formats/gguf.h"
#include "os/file.h"

/* Open addressing over indices + 1; 0 is free. size is a power of two, at least twice the
 * entries. */
struct gguf_index {
    uint32_t *slot;
    uint64_t size;
};

struct gguf_part {
    char *path;                    /* owned; "memory" for gguf_open_memory */
    struct file_map map;           /* owned if mapped */
    bool mapped;
    /* what split.no and split.count must say; count 0: not checked */
    int split_no, split_count;
    const uint8_t *bytes;
    uint64_t size;
};

struct gguf {
    struct gguf_part *part;
    int n_part;
    struct gguf_kv *kv;            /* of the first part */
    uint64_t n_kv;
    struct gguf_tensor *tensor;    /* of all parts */
    uint64_t n_tensor, tensor_room;
    struct gguf_index kv_index, tensor_index;
};

/* Parses part number `part`: appends its tensors, and keeps its keys if it is the first. */
enum sluice_status gguf_read_part(struct gguf *g, int part, struct sluice_error *err);

/* Bytes of one element of a fixed-size value type; 0 for strings and arrays. */
uint64_t gguf_type_size(enum gguf_type type);

/* Makes an empty index with room for n names. */
enum sluice_status gguf_index_build(struct gguf_index *index, uint64_t n, struct sluice_error *err);
/* Index of the entry with this name among names[i] = at + i * stride, or -1. */
int64_t gguf_index_find(const struct gguf_index *index, const void *at, size_t stride,
                        struct str name);
/* Adds entry i; false if its name is there already. */
bool gguf_index_add(struct gguf_index *index, const void *at, size_t stride, uint64_t i);

#endif
