/* tests/support/gguf_build.h - writes GGUF bytes, valid ones and, through its fields, invalid ones.
 *
 *   struct gguf_build b;  gguf_build_init(&b);
 *   gguf_add_u32(&b, "key", 1);  gguf_add_tensor(&b, "name", QUANT_F32, (uint64_t[]){4}, 1, NULL);
 *   struct buf file;  gguf_build_finish(&b, &file);        (frees b; the caller deinits file) */
#ifndef SLUICE_TESTS_SUPPORT_GGUF_BUILD_H
#define SLUICE_TESTS_SUPPORT_GGUF_BUILD_H

#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "formats/gguf.h"

struct gguf_build {
    struct buf kv, dir, data;
    uint64_t n_kv, n_tensor;   /* as the header will say: change them to make it lie */
    uint32_t version;
    uint64_t align;            /* of the data; does not write the key general.alignment */
};

static inline void gguf_build_init(struct gguf_build *b)
{
    *b = (struct gguf_build){.version = 3, .align = 32};
    buf_init(&b->kv, 0);
    buf_init(&b->dir, 0);
    buf_init(&b->data, 0);
}

static inline void gguf_put_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof v);
}

static inline void gguf_put_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof v);
}

static inline void gguf_put_str(struct buf *b, const char *text)
{
    gguf_put_u64(b, strlen(text));
    buf_add_str(b, text);
}

/* A key and its type; the caller appends the value to b->kv. */
static inline void gguf_add_key(struct gguf_build *b, const char *key, uint32_t type)
{
    gguf_put_str(&b->kv, key);
    gguf_put_u32(&b->kv, type);
    b->n_kv++;
}

static inline void gguf_add_value(struct gguf_build *b, const char *key, enum gguf_type type,
                                  const void *value, size_t size)
{
    gguf_add_key(b, key, type);
    buf_add(&b->kv, value, size);
}

static inline void gguf_add_u32(struct gguf_build *b, const char *key, uint32_t v)
{
    gguf_add_value(b, key, GGUF_U32, &v, sizeof v);
}

static inline void gguf_add_f32(struct gguf_build *b, const char *key, float v)
{
    gguf_add_value(b, key, GGUF_F32, &v, sizeof v);
}

static inline void gguf_add_string(struct gguf_build *b, const char *key, const char *v)
{
    gguf_add_key(b, key, GGUF_STRING);
    gguf_put_str(&b->kv, v);
}

/* size: bytes of all n elements. */
static inline void gguf_add_array(struct gguf_build *b, const char *key, uint32_t elem, uint64_t n,
                                  const void *values, size_t size)
{
    gguf_add_key(b, key, GGUF_ARRAY);
    gguf_put_u32(&b->kv, elem);
    gguf_put_u64(&b->kv, n);
    buf_add(&b->kv, values, size);
}

static inline void gguf_add_strings(struct gguf_build *b, const char *key, const char *const *v,
                                    uint64_t n)
{
    gguf_add_array(b, key, GGUF_STRING, n, "", 0);
    for (uint64_t i = 0; i < n; i++)
        gguf_put_str(&b->kv, v[i]);
}

/* A directory entry as given, right or wrong. */
static inline void gguf_add_entry(struct gguf_build *b, const char *name, uint32_t type,
                                  const uint64_t *ne, int n_dims, uint64_t offset)
{
    gguf_put_str(&b->dir, name);
    gguf_put_u32(&b->dir, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++)
        gguf_put_u64(&b->dir, ne[d]);
    gguf_put_u32(&b->dir, type);
    gguf_put_u64(&b->dir, offset);
    b->n_tensor++;
}

/* A tensor with its bytes; NULL fills them with 0, 1, 2, ... */
static inline void gguf_add_tensor(struct gguf_build *b, const char *name, enum quant_type type,
                                   const uint64_t *ne, int n_dims, const void *bytes)
{
    uint64_t size = quant_row_bytes(type, (int64_t)ne[0]);
    for (int d = 1; d < n_dims; d++)
        size *= ne[d];
    while (b->data.len % b->align)
        buf_add_char(&b->data, 0);
    gguf_add_entry(b, name, type, ne, n_dims, b->data.len);
    for (uint64_t i = 0; i < size; i++)
        buf_add_char(&b->data, bytes ? ((const char *)bytes)[i] : (char)i);
}

static inline void gguf_build_finish(struct gguf_build *b, struct buf *file)
{
    buf_init(file, 0);
    buf_add_str(file, "GGUF");
    gguf_put_u32(file, b->version);
    gguf_put_u64(file, b->n_tensor);
    gguf_put_u64(file, b->n_kv);
    buf_add(file, b->kv.data, b->kv.len);
    buf_add(file, b->dir.data, b->dir.len);
    while (b->data.len && file->len % b->align)
        buf_add_char(file, 0);
    buf_add(file, b->data.data, b->data.len);
    SLUICE_ASSERT(buf_status(file, NULL) == SLUICE_OK);
    buf_deinit(&b->kv);
    buf_deinit(&b->dir);
    buf_deinit(&b->data);
}

#endif
