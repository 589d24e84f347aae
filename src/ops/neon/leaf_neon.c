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
    float sum[ROW_BATCH][8] = {{0}};
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
/* Weight rows anywhere. */
struct row_list {
    const uint8_t *row[DOTS_W];
    int n_rows;
    int64_t n;
};

/* 16 values of a weight row: float32, or halves. */
static inline __attribute__((always_inline)) void sixteen(enum quant_type type, const uint8_t *p,
                                                          float32x4_t *v)
{
#pragma GCC unroll 4
    for (int h = 0; h < 4; h++) {
        if (type == QUANT_F32) {
            v[h] = vreinterpretq_f32_u8(vld1q_u8(p + 16 * h));
        } else if (type == QUANT_F16) {
            v[h] = vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p + 8 * h)));
        } else {
            uint16x4_t half = vreinterpret_u16_u8(vld1_u8(p + 8 * h));
            v[h] = vreinterpretq_f32_u32(vshll_n_u16(half, 16));
        }
    }
}

/* 16 values of a weight row and of nx <= 3 activation rows, for one row's sums. */
static inline __attribute__((always_inline)) void
dots_step(enum quant_type type, const uint8_t *w, const float *const *x, int nx,
          float32x4_t (*s)[4])
{
    float32x4_t v[4];
    sixteen(type, w, v);
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int h = 0; h < 4; h++)
            s[i][h] = vfmaq_f32(s[i][h], v[h], vld1q_f32(x[i] + 4 * h));
}

/* 2 weight rows; the end of a row is padded with zeros. */
static inline __attribute__((always_inline)) void
dots_block(enum quant_type type, const uint8_t *const *w, const float *const *x, int nx, int64_t n,
           float (*y)[2])
{
    float32x4_t s[2][3][4];
    size_t size = type == QUANT_F32 ? 4 : 2;
    int64_t whole = n / 16 * 16;
    const float *at[3];
    for (int k = 0; k < 2 * nx * 4; k++)
        s[k / 4 / nx][k / 4 % nx][k % 4] = vdupq_n_f32(0);
    for (int64_t k = 0; k < whole; k += 16) {
#pragma GCC unroll 4
        for (int i = 0; i < nx; i++)
            at[i] = x[i] + k;
        dots_step(type, w[0] + (size_t)k * size, at, nx, s[0]);
        dots_step(type, w[1] + (size_t)k * size, at, nx, s[1]);
    }
    if (whole < n) {
        uint8_t a[2][64] = {{0}};
        float b[3][16] = {{0}};
        for (int i = 0; i < nx; i++) {
            memcpy(b[i], x[i] + whole, (size_t)(n - whole) * sizeof(float));
            at[i] = b[i];
        }
        for (int j = 0; j < 2; j++) {
            memcpy(a[j], w[j] + (size_t)whole * size, (size_t)(n - whole) * size);
            dots_step(type, a[j], at, nx, s[j]);
        }
    }
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < 2; j++)
            y[i][j] = fold16(s[j][i]);
}

static inline __attribute__((always_inline)) void
dots_rows(enum quant_type type, const struct row_list *w, const float *const *x, int nx,
          float (*y)[DOTS_W])
{
    int64_t n = w->n;
    for (int j = 0; j < w->n_rows; j += 2) {
        bool both = j + 1 < w->n_rows;
        const uint8_t *two[2] = {w->row[j], w->row[both ? j + 1 : j]};
        float part[3][2];
        for (int i = 0; i < nx; i += 3) {
            int ni = nx - i < 3 ? nx - i : 3;
            if (ni == 3)
                dots_block(type, two, x + i, 3, n, part);
            else if (ni == 2)
                dots_block(type, two, x + i, 2, n, part);
            else
                dots_block(type, two, x + i, 1, n, part);
            for (int l = 0; l < ni; l++)
                memcpy(y[i + l] + j, part[l], (both ? 2 : 1) * sizeof(float));
        }
    }
}

static void neon_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                      float (*y)[DOTS_W])
{
    struct row_list rows = {.n_rows = nw, .n = n};
    for (int j = 0; j < nw; j++)
        rows.row[j] = (const uint8_t *)w[j];
    dots_rows(QUANT_F32, &rows, x, nx, y);
}

static void neon_half_dots(const struct qrows *w, int n_rows, const float *const *x, int nx,
                           float (*y)[DOTS_W])
{
    struct row_list rows = {.n_rows = n_rows, .n = w->n};
    for (int j = 0; j < n_rows; j++)
        rows.row[j] = w->data + (uint64_t)j * w->row_bytes;
    if (w->type == QUANT_F16)
        dots_rows(QUANT_F16, &rows, x, nx, y);
    else
        dots_rows(QUANT_BF16, &rows, x, nx, y);
}

/* Whether 64 codes hold no NaN, and their scale times 2^8 is a number. */
static inline bool is_plain_fp8(const uint8_t *codes, uint8_t scale)
{
    const uint8x16_t magnitude = vdupq_n_u8(0x7f);
    uint8x16_t nan = vdupq_n_u8(0);
    for (int j = 0; j < 64; j += 16)
        nan = vorrq_u8(nan, vceqq_u8(vandq_u8(vld1q_u8(codes + j), magnitude), magnitude));
    return scale <= 254 - 8 && vmaxvq_u8(nan) == 0;
}

/* The bits of e4m3 one place to the right of f16's sign are an f16 of 2^-8 times the value, also
 * below the normal numbers; but not of NaN. */
static void neon_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    int64_t at = 0;
    for (; at + 64 <= n; at += 64) {
        if (!is_plain_fp8(codes + at, scales[at / 64])) {
            elem_fp8_decode(codes + at, scales + at / 64, 64, x + at);
            continue;
        }
        float s = e8m0_to_f32(scales[at / 64]) * 0x1p8f;
        for (int j = 0; j < 64; j += 8) {
            int16x8_t b = vmovl_s8(vreinterpret_s8_u8(vld1_u8(codes + at + j)));
            b = vandq_s16(vshlq_n_s16(b, 7), vdupq_n_s16((int16_t)0xbfff));
            float16x8_t h = vreinterpretq_f16_s16(b);
            vst1q_f32(x + at + j, vmulq_n_f32(vcvt_f32_f16(vget_low_f16(h)), s));
            vst1q_f32(x + at + j + 4, vmulq_n_f32(vcvt_high_f32_f16(h), s));
        }
    }
    elem_fp8_decode(codes + at, scales + at / 64, n - at, x + at);
}

/* 16 signed bytes times s */
static inline void store_sixteen(int8x16_t v, float s, float *x)
{
    int16x8_t half[2] = {vmovl_s8(vget_low_s8(v)), vmovl_s8(vget_high_s8(v))};
    for (int h = 0; h < 2; h++) {
        float32x4_t lo = vcvtq_f32_s32(vmovl_s16(vget_low_s16(half[h])));
        float32x4_t hi = vcvtq_f32_s32(vmovl_s16(vget_high_s16(half[h])));
        vst1q_f32(x + 8 * h, vmulq_n_f32(lo, s));
        vst1q_f32(x + 8 * h + 4, vmulq_n_f32(hi, s));
    }
}

static void neon_fp4_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    const int8x16_t table = vld1q_s8(e2m1_doubled);
    int64_t at = 0;
    for (; at + 32 <= n; at += 32) {
        float s = e8m0_to_f32(scales[at / 32]) * 0.5f;
        uint8x16_t b = vld1q_u8(codes + at / 2);
        int8x16_t even = vqtbl1q_s8(table, vandq_u8(b, vdupq_n_u8(15)));
        int8x16_t odd = vqtbl1q_s8(table, vshrq_n_u8(b, 4));
        store_sixteen(vzip1q_s8(even, odd), s, x + at);
        store_sixteen(vzip2q_s8(even, odd), s, x + at + 16);
    }
    elem_fp4_decode(codes + at / 2, scales + at / 32, n - at, x + at);
}

/* 8 dims of n_o <= 4 outputs, which share each key. */
static inline __attribute__((always_inline)) void
mix_eight(float *const *o, int n_o, const float *p, const struct mix_keys *m, int64_t k)
{
    const float *key = m->key + k;
    float32x4_t s[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < n_o; i++) {
        s[i][0] = vld1q_f32(o[i] + k);
        s[i][1] = vld1q_f32(o[i] + k + 4);
    }
    for (int j = 0; j < m->n_key; j++) {
        float32x4_t a = vld1q_f32(key + j * m->dim), b = vld1q_f32(key + j * m->dim + 4);
#pragma GCC unroll 4
        for (int i = 0; i < n_o; i++) {
            float w = p[i * m->p_stride + j];
            s[i][0] = vfmaq_n_f32(s[i][0], a, w);
            s[i][1] = vfmaq_n_f32(s[i][1], b, w);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_o; i++) {
        vst1q_f32(o[i] + k, s[i][0]);
        vst1q_f32(o[i] + k + 4, s[i][1]);
    }
}

static void mix_rest(float *o, const float *p, const struct mix_keys *m, int64_t k)
{
    for (; k < m->dim; k++)
        for (int j = 0; j < m->n_key; j++)
            o[k] = __builtin_fmaf(p[j], m->key[j * m->dim + k], o[k]);
}

static void neon_mix(float *const *o, int n_o, const struct mix_keys *m)
{
    for (int i = 0; i < n_o; i += 4) {
        int64_t k = 0;
        int n = n_o - i < 4 ? n_o - i : 4;
        const float *p = m->p + i * m->p_stride;
        for (; k + 8 <= m->dim; k += 8) {
            if (n == 4)
                mix_eight(o + i, 4, p, m, k);
            else
                for (int l = 0; l < n; l++)
                    mix_eight(o + i + l, 1, p + l * m->p_stride, m, k);
        }
        for (int l = 0; l < n; l++)
            mix_rest(o[i + l], p + l * m->p_stride, m, k);
    }
}

const struct leaves leaves_neon = {
    .name = "neon",
    .quantise = elem_quantise,
    .row_dot = neon_row_dot,
    .direct = 3,
    .tile_unpack = tile_unpack_body,
    .tile_dot = neon_tile_dot,
    .widen = elem_widen,
    .dots = neon_dots,
    .half_dots = neon_half_dots,
    .mix = neon_mix,
    .fp8_decode = neon_fp8_decode,
    .fp4_decode = neon_fp4_decode,
    .index_query = elem_index_query,
    .exp_minus = elem_exp_minus,
    .gated = elem_gated,
    .scaled = elem_scaled,
    .divide = elem_divide,
    .relu_add = elem_relu_add,
    .combine = elem_combine,
    .spread = elem_spread,
};
