#include "quantize/gguf_write.h"

#include <string.h>

#include "base/check.h"

void gguf_out_init(struct gguf_out *o)
{
    *o = (struct gguf_out){0};
    buf_init(&o->kv, 0);
    buf_init(&o->directory, 0);
    buf_init(&o->header, 0);
}

void gguf_out_deinit(struct gguf_out *o)
{
    buf_deinit(&o->kv);
    buf_deinit(&o->directory);
    buf_deinit(&o->header);
}

static void add_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof v);
}

static void add_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof v);
}

static void add_string(struct buf *b, const char *at, size_t len)
{
    add_u64(b, len);
    buf_add(b, at, len);
}

static void begin(struct gguf_out *o, const char *key, enum gguf_type type)
{
    add_string(&o->kv, key, strlen(key));
    add_u32(&o->kv, type);
    o->n_kv++;
}

void gguf_out_u32(struct gguf_out *o, const char *key, uint32_t v)
{
    begin(o, key, GGUF_U32);
    add_u32(&o->kv, v);
}

void gguf_out_f32(struct gguf_out *o, const char *key, float v)
{
    begin(o, key, GGUF_F32);
    buf_add(&o->kv, &v, sizeof v);
}

void gguf_out_bool(struct gguf_out *o, const char *key, bool v)
{
    begin(o, key, GGUF_BOOL);
    buf_add_char(&o->kv, (char)v);
}

void gguf_out_str(struct gguf_out *o, const char *key, const char *v)
{
    begin(o, key, GGUF_STRING);
    add_string(&o->kv, v, strlen(v));
}

static void add_array(struct gguf_out *o, const char *key, enum gguf_type elem, const void *v,
                      uint64_t n)
{
    begin(o, key, GGUF_ARRAY);
    add_u32(&o->kv, elem);
    add_u64(&o->kv, n);
    buf_add(&o->kv, v, n * 4);
}

void gguf_out_i32s(struct gguf_out *o, const char *key, const int32_t *v, uint64_t n)
{
    add_array(o, key, GGUF_I32, v, n);
}

void gguf_out_f32s(struct gguf_out *o, const char *key, const float *v, uint64_t n)
{
    add_array(o, key, GGUF_F32, v, n);
}

void gguf_out_copy(struct gguf_out *o, const struct gguf_kv *kv)
{
    add_string(&o->kv, kv->key.at, kv->key.len);
    add_u32(&o->kv, kv->type);
    if (kv->type == GGUF_ARRAY) {
        add_u32(&o->kv, kv->elem);
        add_u64(&o->kv, kv->count);
    }
    buf_add(&o->kv, kv->bytes, kv->size);
    o->n_kv++;
}

uint64_t gguf_out_tensor(struct gguf_out *o, const char *name, enum quant_type type, int n_dims,
                         const int64_t *ne)
{
    SLUICE_ASSERT(n_dims >= 1 && n_dims <= GGUF_MAX_DIMS);
    uint64_t offset = o->data_bytes, bytes = quant_row_bytes(type, ne[0]);
    add_string(&o->directory, name, strlen(name));
    add_u32(&o->directory, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++)
        add_u64(&o->directory, (uint64_t)ne[d]);
    for (int d = 1; d < n_dims; d++)
        bytes *= (uint64_t)ne[d];
    add_u32(&o->directory, type);
    add_u64(&o->directory, offset);
    o->data_bytes += (bytes + GGUF_OUT_ALIGNMENT - 1) / GGUF_OUT_ALIGNMENT * GGUF_OUT_ALIGNMENT;
    o->n_tensor++;
    return offset;
}

enum sluice_status gguf_out_finish(struct gguf_out *o, const void **bytes, uint64_t *n,
                                   struct sluice_error *err)
{
    TRY(buf_status(&o->kv, err));
    TRY(buf_status(&o->directory, err));
    buf_clear(&o->header);
    buf_add(&o->header, "GGUF", 4);
    add_u32(&o->header, 3);
    add_u64(&o->header, o->n_tensor);
    add_u64(&o->header, o->n_kv);
    buf_add(&o->header, o->kv.data, o->kv.len);
    buf_add(&o->header, o->directory.data, o->directory.len);
    while (o->header.len % GGUF_OUT_ALIGNMENT && o->header.status == SLUICE_OK)
        buf_add_char(&o->header, 0);
    TRY(buf_status(&o->header, err));
    *bytes = o->header.data;
    *n = o->header.len;
    return SLUICE_OK;
}
