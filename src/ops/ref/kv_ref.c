/* Encoding of KV and index rows (section 3.12), and where they lie in rings and pages. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "ops/ref/numfmt.h"
#include "ops/ref/ref.h"

/* Exponent byte of the smallest power of two s >= amax / max: e8m0, exact because it looks at the
 * bits. */
static uint8_t scale_byte(float amax, float max)
{
    float ratio = amax / max;
    uint32_t bits;
    memcpy(&bits, &ratio, sizeof bits);
    return (uint8_t)((bits >> 23) + ((bits & 0x7fffff) != 0));
}

static float abs_max(const float *x, int64_t n, float floor)
{
    float max = floor;
    for (int64_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    return max;
}

static float clampf(float x, float limit)
{
    return fminf(fmaxf(x, -limit), limit);
}

void ref_fp8_encode(const float *x, int64_t n, uint8_t *codes, uint8_t *scales)
{
    for (int64_t at = 0; at < n; at += 64) {
        int64_t len = n - at < 64 ? n - at : 64;
        uint8_t e = scale_byte(abs_max(x + at, len, 1e-4f), 448.0f);
        float s = e8m0_to_f32(e);
        scales[at / 64] = e;
        for (int64_t i = at; i < at + len; i++)
            codes[i] = f32_to_e4m3(clampf(x[i] / s, 448.0f));
    }
}

void ref_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = e4m3_to_f32(codes[i]) * e8m0_to_f32(scales[i / 64]);
}

void ref_fp4_encode(const float *x, int64_t n, uint8_t *codes, uint8_t *scales)
{
    memset(codes, 0, (size_t)n / 2);
    for (int64_t at = 0; at < n; at += 32) {
        int64_t len = n - at < 32 ? n - at : 32;
        uint8_t e = scale_byte(abs_max(x + at, len, 6 * 0x1p-126f), 6.0f);
        float s = e8m0_to_f32(e);
        scales[at / 32] = e;
        for (int64_t i = at; i < at + len; i++)
            codes[i / 2] |= (uint8_t)(f32_to_e2m1(clampf(x[i] / s, 6.0f)) << (4 * (i & 1)));
    }
}

void ref_fp4_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = e2m1_to_f32((codes[i / 2] >> (4 * (i & 1))) & 15) * e8m0_to_f32(scales[i / 32]);
}

void ref_hadamard(float *x, int64_t n)
{
    SLUICE_ASSERT((n & (n - 1)) == 0);
    for (int64_t half = 1; half < n; half *= 2) {
        for (int64_t i = 0; i < n; i++) {
            if (i & half)
                continue;
            float a = x[i], b = x[i + half];
            x[i] = a + b;
            x[i + half] = a - b;
        }
    }
    float scale = 1.0f / sqrtf((float)n);
    for (int64_t i = 0; i < n; i++)
        x[i] *= scale;
}

/* Where a KV_FP8 main row keeps its parts. */
static size_t rot_offset(int64_t dim, int64_t rot_dim)
{
    return kv_main_row_bytes(KV_FP8, dim, rot_dim) - (size_t)rot_dim * sizeof(float);
}

void ref_main_row_encode(enum kv_format format, const float *x, int64_t dim, int64_t rot_dim,
                         uint8_t *row)
{
    if (format == KV_EXACT) {
        memcpy(row, x, (size_t)dim * sizeof(float));
        return;
    }
    int64_t plain = dim - rot_dim;
    memset(row, 0, kv_main_row_bytes(format, dim, rot_dim));
    ref_fp8_encode(x, plain, row, row + plain);
    memcpy(row + rot_offset(dim, rot_dim), x + plain, (size_t)rot_dim * sizeof(float));
}

void ref_main_row_decode(enum kv_format format, const uint8_t *row, int64_t dim, int64_t rot_dim,
                         float *x)
{
    if (format == KV_EXACT) {
        memcpy(x, row, (size_t)dim * sizeof(float));
        return;
    }
    int64_t plain = dim - rot_dim;
    ref_fp8_decode(row, row + plain, plain, x);
    memcpy(x + plain, row + rot_offset(dim, rot_dim), (size_t)rot_dim * sizeof(float));
}

void ref_index_row_encode(enum kv_format format, float *x, int64_t dim, uint8_t *row)
{
    if (format == KV_EXACT) {
        memcpy(row, x, (size_t)dim * sizeof(float));
        return;
    }
    memset(row, 0, kv_index_row_bytes(format, dim));
    ref_hadamard(x, dim);
    ref_fp4_encode(x, dim, row, row + dim / 2);
}

void ref_index_row_decode(enum kv_format format, const uint8_t *row, int64_t dim, float *x)
{
    if (format == KV_EXACT)
        memcpy(x, row, (size_t)dim * sizeof(float));
    else
        ref_fp4_decode(row, row + dim / 2, dim, x);
}

uint8_t *ref_entry(const struct span *s, int64_t entry, int32_t ratio, int32_t page_tokens,
                   size_t page_offset, size_t row_bytes)
{
    int64_t pos = entry * ratio;
    return s->pages[pos / page_tokens] + page_offset +
           (size_t)(pos % page_tokens / ratio) * row_bytes;
}

struct encode_job {
    const struct ref_ctx *ctx;
    const struct kv_encode_args *a;
};

static void encode_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct encode_job *job = arg;
    const struct kv_encode_args *a = job->a;
    float *kv = ref_scratch(job->ctx, worker);
    size_t row_bytes = kv_main_row_bytes(a->format, a->head_dim, a->rot_dim);
    for (int64_t i = first; i < last; i++) {
        const float *x = a->kv + i * a->head_dim;
        float r = ref_inv_rms(x, a->head_dim, a->eps);
        for (int64_t k = 0; k < a->head_dim; k++)
            kv[k] = a->norm[k] * (x[k] * r);
        ref_rope(kv + a->head_dim - a->rot_dim, a->rot_dim, a->rope + i * a->rot_dim,
                 /*inverse=*/false);
        ref_main_row_encode(a->format, kv, a->head_dim, a->rot_dim,
                            a->rows + (size_t)i * row_bytes);
    }
}

void ref_kv_encode(void *ctx, const struct kv_encode_args *a)
{
    struct encode_job job = {ctx, a};
    ref_parallel(ctx, a->n, encode_rows, &job);
}

void ref_ring_store(void *ctx, const struct ring_store_args *a)
{
    for (int32_t k = 0; k < a->rows->n_spans; k++) {
        const struct span *s = &a->rows->spans[k];
        int32_t skip = s->n_rows > a->ring_rows ? s->n_rows - a->ring_rows : 0;
        for (int32_t i = skip; i < s->n_rows; i++) {
            size_t slot = (size_t)((s->pos0 + i) % a->ring_rows);
            memcpy(s->fixed + a->ring_offset + slot * a->row_bytes,
                   a->batch_rows + (size_t)(s->row0 + i) * a->row_bytes, a->row_bytes);
        }
    }
}
