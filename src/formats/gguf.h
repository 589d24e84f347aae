/* formats/gguf.h - reader of GGUF model files (versions 2 and 3, little endian, single or split).
 *
 *   offset  size  field                          (model-file layout; all integers little endian)
 *   0       4     "GGUF"
 *   4       4     u32 version                2 or 3
 *   8       8     u64 n_tensors
 *   16      8     u64 n_kv
 *   24      ...   n_kv    x { string key; u32 value type; value }
 *   ...     ...   n_tensors x { string name; u32 n_dims; u64 ne[n_dims]; u32 type; u64 offset }
 *   ...     ...   zeros up to a multiple of general.alignment (u32 key, default 32)
 *   data    ...   tensor bytes; a tensor's offset is relative to `data` and a multiple
 *                 of the alignment
 *   string = u64 byte length, bytes (no NUL);  array value = u32 element type, u64 count, elements
 *
 * Every count, length, offset, dimension product and alignment is checked without overflow before
 * memory is allocated or mapped from it; each tensor's bytes are checked once, at open, to lie
 * inside its file. After a successful open nothing about the file needs to be checked again.
 *
 * Threads: a struct gguf is immutable after open and may be read from any thread. */
#ifndef SLUICE_FORMATS_GGUF_H
#define SLUICE_FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "formats/quant.h"

enum gguf_type {
    GGUF_U8 = 0, GGUF_I8 = 1, GGUF_U16 = 2, GGUF_I16 = 3, GGUF_U32 = 4, GGUF_I32 = 5, GGUF_F32 = 6,
    GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9, GGUF_U64 = 10, GGUF_I64 = 11, GGUF_F64 = 12,
};

#define GGUF_MAX_DIMS 4

/* One metadata value. All pointers are into the mapped file. */
struct gguf_kv {
    struct str key;
    enum gguf_type type;       /* GGUF_ARRAY: elem and count say more; otherwise count == 1 */
    enum gguf_type elem;       /* element type of an array, else == type; never GGUF_ARRAY */
    uint64_t count;
    /* first element, unaligned; for strings the u64 length of the first string */
    const uint8_t *bytes;
    uint64_t size;             /* bytes of all elements */
};

/* One tensor: shape, type and its bytes, mapped read-only. ne[0] is the fastest-varying (input)
 * dimension; unused ne are 1. */
struct gguf_tensor {
    struct str name;
    enum quant_type type;
    int n_dims;
    int64_t ne[GGUF_MAX_DIMS];
    uint64_t bytes;            /* size of the data: rows x row bytes */
    const void *data;          /* mapped; aligned to general.alignment of its file */
    int file;                  /* index of the part (split files) that holds it */
    /* absolute offset in that part's file, for readers that bypass the mapping */
    uint64_t file_offset;
};

struct gguf;

/* Opens path; if it is one part of a split model (-00001-of-0000N), opens all parts. Several
 * explicit paths are given for layer slices (each with its own subset of tensors and no split.*
 * keys): metadata comes from the first. Refuses: bad magic or version, big-endian files, duplicate
 * keys or tensors, unknown tensor types, tensors outside their file, counts or sizes beyond
 * base/limits.h, truncation anywhere. The error names the file and the key or tensor, what was
 * expected and what was found; position is the byte offset. On failure *out is NULL and nothing
 * stays open. */
enum sluice_status gguf_open(const char *const *paths, int n_paths, struct gguf **out,
                             struct sluice_error *err);
/* The same parser over bytes in memory (borrowed, must outlive the object; 32-byte aligned); used
 * by fuzzing, by tests and for the built-in model. */
enum sluice_status gguf_open_memory(const void *bytes, size_t len, struct gguf **out,
                                    struct sluice_error *err);
void gguf_close(struct gguf *g);   /* accepts NULL */

int gguf_file_count(const struct gguf *g);
const char *gguf_file_path(const struct gguf *g, int file);
uint64_t gguf_file_size(const struct gguf *g, int file);
/* Reads n bytes from offset of a file into memory, where they are not; nothing for bytes in memory.
 * Any thread. */
void gguf_file_load(const struct gguf *g, int file, uint64_t offset, uint64_t n);

uint64_t gguf_kv_count(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint64_t i);
/* NULL when absent. O(1). */
const struct gguf_kv *gguf_kv_find(const struct gguf *g, const char *key);
uint64_t gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint64_t i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);

/* Typed reads that accept every width of the kind: any integer type for u32/i64 (if the value
 * fits), f32 or f64 for f32; wrong kinds are SLUICE_ERR_MODEL naming the key, what was expected and
 * what was found. A missing key is SLUICE_ERR_MODEL too; test with gguf_kv_find first where a key
 * is optional. The array forms read element i < count. */
enum sluice_status gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out,
                                struct sluice_error *err);
enum sluice_status gguf_get_f32(const struct gguf *g, const char *key, float *out,
                                struct sluice_error *err);
enum sluice_status gguf_get_bool(const struct gguf *g, const char *key, bool *out,
                                 struct sluice_error *err);
enum sluice_status gguf_get_str(const struct gguf *g, const char *key, struct str *out,
                                struct sluice_error *err);
enum sluice_status gguf_kv_i64_at(const struct gguf_kv *kv, uint64_t i, int64_t *out,
                                  struct sluice_error *err);
enum sluice_status gguf_kv_f32_at(const struct gguf_kv *kv, uint64_t i, float *out,
                                  struct sluice_error *err);

/* Walks a string array front to back (strings have no fixed stride). */
struct gguf_str_iter {
    const uint8_t *at, *end;
    uint64_t left;
};
enum sluice_status gguf_str_iter_init(struct gguf_str_iter *it, const struct gguf_kv *kv,
                                      struct sluice_error *err);
bool gguf_str_iter_next(struct gguf_str_iter *it, struct str *out);

/* xxh3-64 over the tensor directory, the metadata and samples of the data: names a model for
 * caches. Same for a file and its copy; changes when any tensor's type, shape or sampled bytes
 * change. */
uint64_t gguf_fingerprint(const struct gguf *g);

const char *gguf_type_name(enum gguf_type type);

#endif
