/* Typed reads of metadata values. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "formats/gguf_internal.h"

static const struct {
    const char *name;
    uint64_t size;
} types[] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(enum gguf_type type)
{
    return (unsigned)type <= GGUF_F64 ? types[type].name : "unknown";
}

uint64_t gguf_type_size(enum gguf_type type)
{
    return (unsigned)type <= GGUF_F64 ? types[type].size : 0;
}

static enum sluice_status wrong_kind(const struct gguf_kv *kv, const char *expected,
                                     struct sluice_error *err)
{
    return status_fail(err, SLUICE_ERR_MODEL, -1, "key '%.*s': expected %s, found %s%s",
                       STR_ARG(kv->key), expected, kv->type == GGUF_ARRAY ? "an array of " : "",
                       gguf_type_name(kv->elem));
}

enum sluice_status gguf_kv_i64_at(const struct gguf_kv *kv, uint64_t i, int64_t *out,
                                  struct sluice_error *err)
{
    SLUICE_ASSERT(i < kv->count);
    uint64_t size = gguf_type_size(kv->elem);
    const uint8_t *at = kv->bytes + i * size;
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } v = {0};
    if (kv->elem != GGUF_STRING)
        memcpy(&v, at, size);
    switch (kv->elem) {
    case GGUF_U8: *out = v.u8; return SLUICE_OK;
    case GGUF_I8: *out = v.i8; return SLUICE_OK;
    case GGUF_U16: *out = v.u16; return SLUICE_OK;
    case GGUF_I16: *out = v.i16; return SLUICE_OK;
    case GGUF_U32: *out = v.u32; return SLUICE_OK;
    case GGUF_I32: *out = v.i32; return SLUICE_OK;
    case GGUF_I64: *out = v.i64; return SLUICE_OK;
    case GGUF_U64:
        FAIL_IF(v.u64 > INT64_MAX, err, SLUICE_ERR_MODEL, "key '%.*s': %" PRIu64 " is too large",
                STR_ARG(kv->key), v.u64);
        *out = v.i64;
        return SLUICE_OK;
    default: return wrong_kind(kv, "an integer", err);
    }
}

enum sluice_status gguf_kv_f32_at(const struct gguf_kv *kv, uint64_t i, float *out,
                                  struct sluice_error *err)
{
    SLUICE_ASSERT(i < kv->count);
    if (kv->elem == GGUF_F32) {
        memcpy(out, kv->bytes + i * sizeof *out, sizeof *out);
    } else if (kv->elem == GGUF_F64) {
        double d;
        memcpy(&d, kv->bytes + i * sizeof d, sizeof d);
        *out = (float)d;
    } else {
        return wrong_kind(kv, "a floating-point number", err);
    }
    FAIL_IF(!isfinite(*out), err, SLUICE_ERR_MODEL, "key '%.*s': expected a finite number",
            STR_ARG(kv->key));
    return SLUICE_OK;
}

static enum sluice_status find_scalar(const struct gguf *g, const char *key, const char *expected,
                                      const struct gguf_kv **out, struct sluice_error *err)
{
    *out = gguf_kv_find(g, key);
    FAIL_IF(!*out, err, SLUICE_ERR_MODEL, "key '%s' is missing: expected %s", key, expected);
    if ((*out)->type == GGUF_ARRAY)
        return wrong_kind(*out, expected, err);
    return SLUICE_OK;
}

enum sluice_status gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out,
                                struct sluice_error *err)
{
    const struct gguf_kv *kv;
    int64_t v;
    TRY(find_scalar(g, key, "an integer", &kv, err));
    TRY(gguf_kv_i64_at(kv, 0, &v, err));
    FAIL_IF(v < 0 || v > UINT32_MAX, err, SLUICE_ERR_MODEL,
            "key '%s': expected 0 to 4294967295, found %" PRId64, key, v);
    *out = (uint32_t)v;
    return SLUICE_OK;
}

enum sluice_status gguf_get_f32(const struct gguf *g, const char *key, float *out,
                                struct sluice_error *err)
{
    const struct gguf_kv *kv;
    TRY(find_scalar(g, key, "a floating-point number", &kv, err));
    return gguf_kv_f32_at(kv, 0, out, err);
}

enum sluice_status gguf_get_bool(const struct gguf *g, const char *key, bool *out,
                                 struct sluice_error *err)
{
    const struct gguf_kv *kv;
    TRY(find_scalar(g, key, "a bool", &kv, err));
    if (kv->type != GGUF_BOOL)
        return wrong_kind(kv, "a bool", err);
    *out = kv->bytes[0] != 0;
    return SLUICE_OK;
}

enum sluice_status gguf_get_str(const struct gguf *g, const char *key, struct str *out,
                                struct sluice_error *err)
{
    const struct gguf_kv *kv;
    struct gguf_str_iter it = {0};
    TRY(find_scalar(g, key, "a string", &kv, err));
    TRY(gguf_str_iter_init(&it, kv, err));
    return gguf_str_iter_next(&it, out) ? SLUICE_OK : wrong_kind(kv, "a string", err);
}

enum sluice_status gguf_str_iter_init(struct gguf_str_iter *it, const struct gguf_kv *kv,
                                      struct sluice_error *err)
{
    if (kv->elem != GGUF_STRING)
        return wrong_kind(kv, "strings", err);
    *it = (struct gguf_str_iter){kv->bytes, kv->bytes + kv->size, kv->count};
    return SLUICE_OK;
}

bool gguf_str_iter_next(struct gguf_str_iter *it, struct str *out)
{
    if (it->left == 0)
        return false;
    uint64_t len;
    memcpy(&len, it->at, sizeof len);
    *out = (struct str){(const char *)it->at + sizeof len, len};
    it->at += sizeof len + len;
    it->left--;
    return true;
}
