/* The leaves with NEON: arm64 with the dot-product extension, as os/cpu.h has it. Unpacking is the
 * portable C, which compilers turn into vector code well. */
#include <arm_neon.h>

#include "ops/cpu/elem_body.h"
#include "ops/cpu/leaf.h"
#include "ops/cpu/unpack_body.h"

/* ---- quantised rows, one at a time ---- */

static inline int32_t dot_words(const int16_t *a, const int16_t *b, int n)
{
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0;
    for (int j = 0; j < n; j += 8) {
        int16x8_t x = vld1q_s16(a + j), y = vld1q_s16(b + j);
        s0 = vmlal_s16(s0, vget_low_s16(x), vget_low_s16(y));
        s1 = vmlal_high_s16(s1, x, y);
    }
    return vaddvq_s32(vaddq_s32(s0, s1));
}

static inline float fma_one(float sum, int32_t dot, float scale)
{
    return __builtin_fmaf((float)dot, scale, sum);
}

static inline float tree8(const float *s)
{
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* One weight row against n_x batch rows. */
static inline __attribute__((always_inline)) void
one_row(enum quant_type type, const uint8_t *row, int64_t n, const struct act *x, int n_x,
        float (*y)[TILE_ROWS])
{
    float sum[TILE_BATCH][8] = {{0}};
    int block = act_block(type);
    uint32_t unit_bytes = quant_info(type)->block_bytes * (block == 32 ? 8 : 1);
    for (int64_t at = 0; at < n; at += 256) {
        struct unit u;
        int len = n - at < 256 ? (int)(n - at) : 256, lane = (int)(at / 256 % 8);
        unpack_unit(type, row + at / 256 * unit_bytes, len / block, &u);
        for (int i = 0; i < n_x; i++) {
            float *s = sum[i];
            for (int b = 0; block == 32 && b < len / 32; b++)
                s[b] = fma_one(s[b], dot_words(u.w + 32 * b, x[i].q + at + 32 * b, 32),
                               u.d[b] * x[i].d[at / 32 + b]);
            if (block == 32)
                continue;
            float dx = x[i].d[at / 256];
            s[lane] = fma_one(s[lane], dot_words(u.w, x[i].q + at, 256), u.d[0] * dx);
            if (type_has_min(type))
                s[lane] =
                    fma_one(s[lane], dot_words(u.m, x[i].sum16 + at / 16, 16), u.dmin * dx);
        }
    }
    for (int i = 0; i < n_x; i++)
        y[i][0] = tree8(sum[i]);
}

/* One loop over rows for each format, with the unpacking inlined. */
#define ROWS(type)                                                                                 \
    case type:                                                                                     \
        for (int o = 0; o < n_rows; o++)                                                           \
            one_row(type, w->data + (uint64_t)o * w->row_bytes, w->n, x, n,                        \
                    (float (*)[TILE_ROWS])(y[0] + o));                                             \
        return

static void neon_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                         float (*y)[TILE_ROWS])
{
    switch (w->type) {
        ROWS(QUANT_Q8_0);
        ROWS(QUANT_MXFP4);
        ROWS(QUANT_Q2_K);
        ROWS(QUANT_Q4_K);
        ROWS(QUANT_Q6_K);
        ROWS(QUANT_IQ2_XXS);
    default:
        for (int o = 0; o < n_rows; o++)
            one_row(w->type, w->data + (uint64_t)o * w->row_bytes, w->n, x, n,
                    (float (*)[TILE_ROWS])(y[0] + o));
    }
}

/* ---- quantised rows, a tile of them against several activation rows ---- */

/* Sums of 16 weight rows for one batch row: register k has rows 2k and 2k + 1, two halves each. */
struct sums {
    int32x4_t v[8];
};

static inline struct sums sums_zero(void)
{
    struct sums s;
    for (int k = 0; k < 8; k++)
        s.v[k] = vdupq_n_s32(0);
    return s;
}

static inline struct sums pairs_dot(const int16_t *w, const int16_t *x, int pairs)
{
    struct sums s = sums_zero();
    for (int k = 0; k < pairs; k++) {
        int32_t pair;
        memcpy(&pair, x + 2 * k, 4);
        int16x8_t p = vreinterpretq_s16_s32(vdupq_n_s32(pair));
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            int16x8_t v = vld1q_s16(w + k * TILE_ROWS * 2 + 8 * r);
            s.v[2 * r] = vmlal_s16(s.v[2 * r], vget_low_s16(v), vget_low_s16(p));
            s.v[2 * r + 1] = vmlal_high_s16(s.v[2 * r + 1], v, p);
        }
    }
    return s;
}

static inline void scale_add(const struct sums *s, const float *dw, float dx, float *sum)
{
    for (int r = 0; r < 4; r++) {
        float32x4_t dot = vcvtq_f32_s32(vpaddq_s32(s->v[2 * r], s->v[2 * r + 1]));
        float32x4_t scale = vmulq_n_f32(vld1q_f32(dw + 4 * r), dx);
        vst1q_f32(sum + 4 * r, vfmaq_f32(vld1q_f32(sum + 4 * r), dot, scale));
    }
}

static void neon_tile_dot(const struct tile *t, const struct act *x, int n, float (*y)[TILE_ROWS])
{
    int64_t blocks = t->n / t->block;
    for (int i = 0; i < n; i++) {
        float sum[8][TILE_ROWS] = {{0}};
        for (int64_t b = 0; b < blocks; b++) {
            int64_t at = b * t->block;
            struct sums s = t->block == 32 ? pairs_dot(t->w + at * TILE_ROWS, x[i].q + at, 16)
                                           : pairs_dot(t->w + at * TILE_ROWS, x[i].q + at, 128);
            scale_add(&s, t->d + b * TILE_ROWS, x[i].d[b], sum[b % 8]);
            if (!t->has_min)
                continue;
            s = pairs_dot(t->m + at / 16 * TILE_ROWS, x[i].sum16 + at / 16, 8);
            scale_add(&s, t->dmin + b * TILE_ROWS, x[i].d[b], sum[b % 8]);
        }
        for (int r = 0; r < TILE_ROWS; r++)
            y[i][r] = ((sum[0][r] + sum[4][r]) + (sum[2][r] + sum[6][r])) +
                      ((sum[1][r] + sum[5][r]) + (sum[3][r] + sum[7][r]));
    }
}

/* ---- float32 ---- */

static inline float fold16(const float32x4_t *s)
{
    float32x4_t a = vaddq_f32(vaddq_f32(s[0], s[2]), vaddq_f32(s[1], s[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}

/* Two weight rows against one activation row. */
static inline void dots_two(const float *w0, const float *w1, const float *x, int64_t n, float *y)
{
    float32x4_t s[2][4];
    int64_t k = 0;
    for (int h = 0; h < 4; h++)
        s[0][h] = s[1][h] = vdupq_n_f32(0);
    for (; k + 16 <= n; k += 16) {
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++) {
            float32x4_t v = vld1q_f32(x + k + 4 * h);
            s[0][h] = vfmaq_f32(s[0][h], vld1q_f32(w0 + k + 4 * h), v);
            s[1][h] = vfmaq_f32(s[1][h], vld1q_f32(w1 + k + 4 * h), v);
        }
    }
    if (k < n) {
        float a[2][16] = {{0}}, b[16] = {0};
        size_t rest = (size_t)(n - k) * sizeof(float);
        memcpy(a[0], w0 + k, rest);
        memcpy(a[1], w1 + k, rest);
        memcpy(b, x + k, rest);
        for (int h = 0; h < 4; h++)
            for (int j = 0; j < 2; j++)
                s[j][h] = vfmaq_f32(s[j][h], vld1q_f32(a[j] + 4 * h), vld1q_f32(b + 4 * h));
    }
    y[0] = fold16(s[0]);
    y[1] = fold16(s[1]);
}

static void neon_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                      float (*y)[DOTS_W])
{
    for (int i = 0; i < nx; i++) {
        for (int j = 0; j < nw; j += 2) {
            float two[2];
            dots_two(w[j], w[j + 1 < nw ? j + 1 : j], x[i], n, two);
            y[i][j] = two[0];
            if (j + 1 < nw)
                y[i][j + 1] = two[1];
        }
    }
}

static inline void mix_sixteen(float *o, const float *p, const float *key, int n_key, int64_t dim)
{
    float32x4_t s[4];
    for (int h = 0; h < 4; h++)
        s[h] = vld1q_f32(o + 4 * h);
    for (int j = 0; j < n_key; j++)
        for (int h = 0; h < 4; h++)
            s[h] = vfmaq_n_f32(s[h], vld1q_f32(key + j * dim + 4 * h), p[j]);
    for (int h = 0; h < 4; h++)
        vst1q_f32(o + 4 * h, s[h]);
}

static void neon_mix(float *const *o, int n_o, const struct mix_keys *m)
{
    for (int i = 0; i < n_o; i++) {
        const float *p = m->p + i * m->p_stride;
        int64_t k = 0;
        for (; k + 16 <= m->dim; k += 16)
            mix_sixteen(o[i] + k, p, m->key + k, m->n_key, m->dim);
        for (; k < m->dim; k++)
            for (int j = 0; j < m->n_key; j++)
                o[i][k] = __builtin_fmaf(p[j], m->key[j * m->dim + k], o[i][k]);
    }
}

const struct leaves leaves_neon = {
    .name = "neon",
    .quantise = elem_quantise,
    .row_dot = neon_row_dot,
    .tile_unpack = tile_unpack_body,
    .tile_dot = neon_tile_dot,
    .widen = elem_widen,
    .dots = neon_dots,
    .mix = neon_mix,
    .fp8_decode = elem_fp8_decode,
    .fp4_decode = elem_fp4_decode,
    .exp_minus = elem_exp_minus,
    .gated = elem_gated,
    .scaled = elem_scaled,
    .relu_add = elem_relu_add,
    .combine = elem_combine,
    .spread = elem_spread,
};
