/* ops/cpu/elem_body.h - the element-wise inner loops in portable C; each instruction set compiles
 * them with its own flags, and since every operation is one IEEE operation in the order written,
 * the results are the same bits. */
#ifndef SLUICE_OPS_CPU_ELEM_BODY_H
#define SLUICE_OPS_CPU_ELEM_BODY_H

#include <math.h>
#include <string.h>

#include "ops/cpu/leaf.h"
#include "ops/cpu/unpack_body.h"
#include "ops/ref/numfmt.h"

/* Adding it rounds a float below 2^22 to an integer in the low bits. */
#define ROUND_MAGIC 12582912.0f
#define ROUND_MAGIC_BITS 0x4b400000

/* The bits of the largest |x|. */
static inline uint32_t most_bits(const float *restrict x, int n)
{
    uint32_t max = 0;
    for (int j = 0; j < n; j++) {
        uint32_t a = f32_bits(x[j]) & 0x7fffffff;
        max = a > max ? a : max;
    }
    return max;
}

/* q = round(x * inv) */
static inline void round_all(const float *restrict x, int n, float inv, int16_t *restrict q)
{
    for (int j = 0; j < n; j++) {
        float t = x[j] * inv + ROUND_MAGIC;
        q[j] = (int16_t)((int32_t)f32_bits(t) - ROUND_MAGIC_BITS);
    }
}

/* The scale of a block whose largest value becomes `most`; *inv: its inverse, 0 where the block
 * becomes zeros. */
static inline float block_scale(uint32_t max, int most, float *inv)
{
    float amax = f32_from_bits(max);
    bool usable = max < 0x7f800000 && amax > 1e-30f;
    *inv = usable ? (float)most / amax : 0.0f;
    return usable ? amax / (float)most : max < 0x7f800000 ? 0.0f : NAN;
}

static inline void quantise_block(const float *restrict x, int block, int16_t *restrict q, float *d)
{
    float inv;
    *d = block_scale(most_bits(x, block), ACT_MAX, &inv);
    if (inv <= 0)
        memset(q, 0, (size_t)block * sizeof(*q));
    else
        round_all(x, block, inv, q);
}

/* 256 values; those of number k of the 32 are q times times[k]. */
static inline void quantise_bytes(const float *restrict x, int16_t *restrict q, int *times,
                                  float *d)
{
    uint32_t max[8], most = 0;
    float inv;
    for (int k = 0; k < 8; k++) {
        max[k] = most_bits(x + 32 * k, 32);
        most = max[k] > most ? max[k] : most;
        times[k] = 1;
    }
    *d = block_scale(most, BYTE_TIMES * 127, &inv);
    memset(q, 0, 256 * sizeof(*q));
    for (int k = 0; inv > 0 && k < 8; k++) {
        float need = f32_from_bits(max[k]) * inv / 127.0f;
        times[k] = need > 1 ? (int)ceilf(need) : 1;
        times[k] = times[k] < BYTE_TIMES ? times[k] : BYTE_TIMES;
        round_all(x + 32 * k, 32, inv / (float)times[k], q + 32 * k);
    }
}

static inline void elem_quantise(const float *x, int64_t n, enum act_kind kind,
                                 const struct act *to)
{
    int16_t *q = to->q, *sum16 = to->sum16;
    int times[8];
    for (int64_t at = 0; at < n; at += act_kind_block(kind)) {
        if (act_kind_block(kind) == 32) {
            quantise_block(x + at, 32, q + at, to->d + at / 32);
        } else if (kind == ACT_256) {
            quantise_block(x + at, 256, q + at, to->d + at / 256);
        } else {
            quantise_bytes(x + at, q + at, times, to->d + at / 256);
            for (int j = 0; j < 256; j++)
                q[at + j] = (int16_t)(q[at + j] * times[j / 32]);
        }
    }
    for (int64_t g = 0; g < n / 16; g++) {
        int sum = 0;
        for (int j = 0; j < 16; j++)
            sum += q[g * 16 + j];
        sum16[g] = (int16_t)sum;
    }
}

static inline void elem_widen_quant(enum quant_type type, const uint8_t *src, float *dst, int64_t n)
{
    int block = act_block(type);
    uint32_t unit_bytes = quant_info(type)->block_bytes * (block == 32 ? 8 : 1);
    for (int64_t at = 0; at < n; at += 256) {
        struct unit u;
        int len = n - at < 256 ? (int)(n - at) : 256;
        unpack_unit(type, src + at / 256 * unit_bytes, len / block, &u);
        for (int g = 0; g < len / 16; g++) {
            float d = u.d[block == 32 ? g / 2 : 0], min = type_has_min(type) ? u.dmin * u.m[g] : 0;
            for (int j = 0; j < 16; j++)
                dst[at + 16 * g + j] = d * (float)u.w[16 * g + j] + min;
        }
    }
}

static inline void elem_widen(enum quant_type type, const uint8_t *src, float *dst, int64_t n)
{
    uint16_t h;
    if (type == QUANT_F32) {
        memcpy(dst, src, (size_t)n * sizeof(*dst));
    } else if (type == QUANT_F16) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, src + 2 * i, sizeof(h));
            dst[i] = f16_to_f32(h);
        }
    } else if (type == QUANT_BF16) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, src + 2 * i, sizeof(h));
            dst[i] = bf16_to_f32(h);
        }
    } else {
        elem_widen_quant(type, src, dst, n);
    }
}

/* As e4m3_to_f32, without branches. */
static inline float elem_e4m3(uint8_t b)
{
    uint32_t m = b & 0x7f, normal = (m << 20) + (120u << 23);
    uint32_t small = f32_bits((float)(int32_t)m * 0x1p-9f);
    uint32_t bits = m < 8 ? small : normal;
    bits = m == 0x7f ? 0x7fc00000 : bits;
    return f32_from_bits(bits | (uint32_t)(b & 0x80) << 24);
}

static inline void elem_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    for (int64_t at = 0; at < n; at += 64) {
        float s = e8m0_to_f32(scales[at / 64]);
        int64_t len = n - at < 64 ? n - at : 64;
        if (len == 64) {
            for (int j = 0; j < 64; j++)
                x[at + j] = elem_e4m3(codes[at + j]) * s;
        } else {
            for (int64_t j = 0; j < len; j++)
                x[at + j] = elem_e4m3(codes[at + j]) * s;
        }
    }
}

static inline void elem_fp4_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    for (int64_t at = 0; at < n; at += 32) {
        float s = e8m0_to_f32(scales[at / 32]) * 0.5f;
        int64_t len = n - at < 32 ? n - at : 32;
        for (int64_t j = 0; j < len; j++)
            x[at + j] = (float)e2m1_doubled[codes[(at + j) / 2] >> (4 * (j & 1)) & 15] * s;
    }
}

/* The stages of a Hadamard transform from pairs `half` apart on. */
static inline void elem_hadamard(float *x, int64_t n, int64_t half)
{
    for (; half < n; half *= 2)
        for (int64_t at = 0; at < n; at += 2 * half)
            for (int64_t i = at; i < at + half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
}

/* To the nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6 times s and their opposites, half to even: multiples
 * of a step below 2, below 4, and above. NaN becomes -6 * s, as in the reference. */
static inline void elem_to_fp4(float *x, int64_t n, float s)
{
    for (int64_t j = 0; j < n; j++) {
        float v = x[j] / s;
        v = v > -6.0f ? v : -6.0f;
        v = v < 6.0f ? v : 6.0f;
        float a = fabsf(v), step = a < 2.0f ? 0.5f : a < 4.0f ? 1.0f : 2.0f;
        float magic = step * ROUND_MAGIC;
        x[j] = copysignf((a + magic) - magic, v) * s;
    }
}

/* The power of two that 32 values become multiples of: the least with which 6 of it cover them. */
static inline float elem_fp4_scale(const float *x, int64_t n)
{
    uint32_t max = f32_bits(6 * 0x1p-126f);
    for (int64_t j = 0; j < n; j++) {
        uint32_t a = f32_bits(x[j]) & 0x7fffffff;
        a = a > 0x7f800000 ? 0 : a; /* NaN */
        max = a > max ? a : max;
    }
    uint32_t ratio = f32_bits(f32_from_bits(max) / 6.0f);
    return e8m0_to_f32((uint8_t)((ratio >> 23) + ((ratio & 0x7fffff) != 0)));
}

/* From the stages `half` of the transform on. */
static inline void elem_index_query_from(float *x, int64_t n, int64_t half)
{
    float scale = 1.0f / sqrtf((float)n);
    elem_hadamard(x, n, half);
    for (int64_t j = 0; j < n; j++)
        x[j] *= scale;
    for (int64_t at = 0; at < n; at += 32) {
        int64_t len = n - at < 32 ? n - at : 32;
        elem_to_fp4(x + at, len, elem_fp4_scale(x + at, len));
    }
}

static inline void elem_index_query(float *x, int64_t n)
{
    elem_index_query_from(x, n, 1);
}

/* exp(x) within 3 ulp: 2^n * p(r), |r| <= ln2 / 2. 0 below -87, infinity above 88.7. */
static inline float elem_exp(float x)
{
    float c = x > 89.0f ? 89.0f : x;
    c = c < -88.0f ? -88.0f : c;
    float t = c * 1.44269504088896f + ROUND_MAGIC;
    int32_t n = (int32_t)f32_bits(t) - ROUND_MAGIC_BITS;
    float k = t - ROUND_MAGIC;
    float r = c - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    float p = 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    /* in two steps, so that 2^128 does not overflow before it must */
    int32_t half = n / 2;
    float y = p * f32_from_bits((uint32_t)(half + 127) << 23);
    y = y * f32_from_bits((uint32_t)(n - half + 127) << 23);
    return x < -87.0f ? 0.0f : y;
}

static inline void elem_exp_minus(float *s, int64_t n, float max)
{
    for (int64_t j = 0; j < n; j++)
        s[j] = elem_exp(s[j] - max);
}

static inline void elem_gated(const float *restrict g, const float *restrict u, int64_t n,
                              float limit, float scale, float *restrict y)
{
    for (int64_t k = 0; k < n; k++) {
        float a = g[k] > limit ? limit : g[k], b = u[k] > limit ? limit : u[k];
        b = b < -limit ? -limit : b;
        y[k] = a / (1.0f + elem_exp(-a)) * b * scale;
    }
}

/* y[k] = weight[k] * (y[k] * r) */
static inline void elem_scaled_in_place(float *restrict y, const float *restrict weight, float r,
                                        int64_t n)
{
    if (weight) {
        for (int64_t k = 0; k < n; k++)
            y[k] = weight[k] * (y[k] * r);
    } else {
        for (int64_t k = 0; k < n; k++)
            y[k] = y[k] * r;
    }
}

static inline void elem_scaled(const float *x, const float *weight, float r, int64_t n, float *y)
{
    if (x != y)
        memcpy(y, x, (size_t)n * sizeof(*y));
    elem_scaled_in_place(y, weight, r, n);
}

static inline void elem_divide(float *restrict y, float by, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        y[k] /= by;
}

static inline void elem_relu_add(const float *restrict dot, float w, int64_t n,
                                 float *restrict score)
{
    for (int64_t j = 0; j < n; j++)
        score[j] += w * (dot[j] > 0 ? dot[j] : 0.0f);
}

static inline void elem_combine(const float *a, const float *restrict x, int64_t stride, int n_s,
                         int64_t n, float *restrict y)
{
    for (int64_t k = 0; k < n; k++)
        y[k] = a[0] * x[k];
    for (int s = 1; s < n_s; s++)
        for (int64_t k = 0; k < n; k++)
            y[k] += a[s] * x[s * stride + k];
}

/* Old values of a piece of all streams are kept aside, since every new one needs all of them. */
static inline void elem_spread(const float *post, const float *comb, const float *f,
                        const struct stream_piece *p)
{
    float old[8][64], sum[64];
    int streams = p->streams;
    for (int64_t at = 0; at < p->n; at += 64) {
        int len = p->n - at < 64 ? (int)(p->n - at) : 64;
        for (int j = 0; j < streams; j++)
            memcpy(old[j], p->x + j * p->stride + at, (size_t)len * sizeof(float));
        for (int k = 0; k < streams; k++) {
            for (int d = 0; d < len; d++)
                sum[d] = post[k] * f[at + d];
            for (int j = 0; j < streams; j++)
                for (int d = 0; d < len; d++)
                    sum[d] += comb[j * streams + k] * old[j][d];
            memcpy(p->x + k * p->stride + at, sum, (size_t)len * sizeof(float));
        }
    }
}

#endif
