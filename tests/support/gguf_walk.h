/* tests/support/gguf_walk.h - reads everything a parsed GGUF file offers, so that sanitizers see
 * every byte it points to. */
#ifndef SLUICE_TESTS_SUPPORT_GGUF_WALK_H
#define SLUICE_TESTS_SUPPORT_GGUF_WALK_H

#include "base/check.h"
#include "formats/gguf.h"

static inline uint64_t gguf_walk_bytes(const void *at, uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += ((const uint8_t *)at)[i];
    return sum;
}

static inline uint64_t gguf_walk_kv(const struct gguf_kv *kv)
{
    uint64_t sum = gguf_walk_bytes(kv->key.at, kv->key.len) + gguf_walk_bytes(kv->bytes, kv->size),
             n = 0;
    struct gguf_str_iter it;
    struct str s;
    if (gguf_str_iter_init(&it, kv, NULL) == SLUICE_OK) {
        for (; gguf_str_iter_next(&it, &s); n++)
            sum += gguf_walk_bytes(s.at, s.len);
        SLUICE_ASSERT(n == kv->count && it.at == it.end);
    }
    for (uint64_t i = 0; i < kv->count && i < 64; i++) {
        struct sluice_error err;
        int64_t v;
        float f;
        if (gguf_kv_i64_at(kv, i, &v, &err) == SLUICE_OK)
            sum += (uint64_t)v;
        if (gguf_kv_f32_at(kv, i, &f, &err) == SLUICE_OK)
            sum += f > 0;
    }
    return sum;
}

/* A sum over everything; its value matters to nobody, its computation does. */
static inline uint64_t gguf_walk(const struct gguf *g)
{
    uint64_t sum = gguf_fingerprint(g);
    for (uint64_t i = 0; i < gguf_kv_count(g); i++)
        sum += gguf_walk_kv(gguf_kv_at(g, i));
    for (uint64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        SLUICE_ASSERT(t->file_offset + t->bytes <= gguf_file_size(g, t->file));
        sum += gguf_walk_bytes(t->data, t->bytes) + gguf_walk_bytes(t->name.at, t->name.len);
    }
    return sum;
}

#endif
