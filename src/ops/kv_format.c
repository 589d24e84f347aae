#include "ops/args.h"

static size_t round_up_4(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

size_t kv_main_row_bytes(enum kv_format format, int64_t head_dim, int64_t rot_dim)
{
    if (format == KV_EXACT)
        return (size_t)head_dim * sizeof(float);
    size_t plain = (size_t)(head_dim - rot_dim);
    return round_up_4(plain + (plain + 63) / 64) + (size_t)rot_dim * sizeof(float);
}

size_t kv_index_row_bytes(enum kv_format format, int64_t index_dim)
{
    if (format == KV_EXACT)
        return (size_t)index_dim * sizeof(float);
    return round_up_4((size_t)index_dim / 2 + ((size_t)index_dim + 31) / 32);
}
