#include "ops/ref/dequant_ref.h"

#include <string.h>

#include "base/check.h"
#include "ops/ref/numfmt.h"

static void dequant_f32(const void *src, float *y, int64_t n)
{
    memcpy(y, src, (size_t)n * sizeof *y);
}

static uint16_t u16_at(const void *src, int64_t i)
{
    uint16_t v;
    memcpy(&v, (const uint8_t *)src + 2 * i, sizeof v);
    return v;
}

static void dequant_f16(const void *src, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = f16_to_f32(u16_at(src, i));
}

static void dequant_bf16(const void *src, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = bf16_to_f32(u16_at(src, i));
}

/* ---- blocks of 32 ---- */

static void block_q8_0_values(const struct block_q8_0 *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 32; j++)
        y[j] = d * b->q[j];
}

static void block_q4_0_values(const struct block_q4_0 *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 16; j++) {
        y[j] = d * ((b->qs[j] & 15) - 8);
        y[j + 16] = d * ((b->qs[j] >> 4) - 8);
    }
}

static void block_iq4_nl_values(const struct block_iq4_nl *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 16; j++) {
        y[j] = d * quant_iq4_values[b->qs[j] & 15];
        y[j + 16] = d * quant_iq4_values[b->qs[j] >> 4];
    }
}

static void block_mxfp4_values(const struct block_mxfp4 *b, float *y)
{
    float d = e8m0_to_f32(b->e);
    for (int j = 0; j < 16; j++) {
        y[j] = e2m1_to_f32(b->qs[j] & 15) * d;
        y[j + 16] = e2m1_to_f32(b->qs[j] >> 4) * d;
    }
}

/* ---- K blocks of 256 ---- */

static void block_q2_k_values(const struct block_q2_k *b, float *y)
{
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, t = i / 16 % 2, l = i % 16;
        int q = b->qs[32 * h + 16 * t + l] >> (2 * j) & 3, s = b->sc[8 * h + 2 * j + t];
        y[i] = d * (float)((s & 15) * q) - dmin * (float)(s >> 4);
    }
}

static int q3_k_scale(const uint8_t *sc, int k)
{
    if (k < 4)
        return (sc[k] & 15) | (sc[8 + k] & 3) << 4;
    if (k < 8)
        return (sc[k] & 15) | (sc[4 + k] >> 2 & 3) << 4;
    if (k < 12)
        return sc[k - 8] >> 4 | (sc[k] >> 4 & 3) << 4;
    return sc[k - 8] >> 4 | (sc[k - 4] >> 6 & 3) << 4;
}

static void block_q3_k_values(const struct block_q3_k *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, t = i / 16 % 2, l = i % 16;
        int q = b->qs[32 * h + 16 * t + l] >> (2 * j) & 3;
        if (!(b->hm[16 * t + l] >> (4 * h + j) & 1))
            q -= 4;
        y[i] = d * (float)((q3_k_scale(b->sc, 8 * h + 2 * j + t) - 32) * q);
    }
}

/* Six-bit scale and minimum of sub-block k of Q4_K and Q5_K. */
static void q4_k_scale(const uint8_t *sc, int k, int *scale, int *min)
{
    if (k < 4) {
        *scale = sc[k] & 63;
        *min = sc[k + 4] & 63;
    } else {
        *scale = (sc[k + 4] & 15) | sc[k - 4] >> 6 << 4;
        *min = sc[k + 4] >> 4 | sc[k] >> 6 << 4;
    }
}

static void block_q4_k_values(const struct block_q4_k *b, float *y)
{
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int k = 0; k < 8; k++) {
        int scale, min;
        q4_k_scale(b->sc, k, &scale, &min);
        for (int l = 0; l < 32; l++) {
            int q = b->qs[k / 2 * 32 + l] >> (4 * (k & 1)) & 15;
            y[32 * k + l] = d * (float)(scale * q) - dmin * (float)min;
        }
    }
}

static void block_q5_k_values(const struct block_q5_k *b, float *y)
{
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int k = 0; k < 8; k++) {
        int scale, min;
        q4_k_scale(b->sc, k, &scale, &min);
        for (int l = 0; l < 32; l++) {
            int q = (b->qs[k / 2 * 32 + l] >> (4 * (k & 1)) & 15) | (b->qh[l] >> k & 1) << 4;
            y[32 * k + l] = d * (float)(scale * q) - dmin * (float)min;
        }
    }
}

static void block_q6_k_values(const struct block_q6_k *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int h = 0; h < 2; h++) {
        const uint8_t *ql = b->ql + 64 * h, *qh = b->qh + 32 * h;
        for (int part = 0; part < 4; part++) {
            for (int l = 0; l < 32; l++) {
                int low = ql[l + 32 * (part & 1)] >> (part / 2 * 4) & 15;
                int q = (low | (qh[l] >> (2 * part) & 3) << 4) - 32;
                y[128 * h + 32 * part + l] = d * (float)(b->sc[8 * h + 2 * part + l / 16] * q);
            }
        }
    }
}

static void block_iq4_xs_values(const struct block_iq4_xs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int k = 0; k < 8; k++) {
        int scale = (b->sl[k / 2] >> (4 * (k & 1)) & 15) | (b->sh >> (2 * k) & 3) << 4;
        for (int j = 0; j < 32; j++) {
            int nibble = b->qs[16 * k + j % 16] >> (j / 16 * 4) & 15;
            y[32 * k + j] = d * (float)((scale - 32) * quant_iq4_values[nibble]);
        }
    }
}

/* ---- lattice formats: rows of a grid, times signs ---- */

static void grid_values(uint64_t grid, int n, uint8_t signs, float scale, float *y)
{
    for (int j = 0; j < n; j++) {
        float v = scale * (float)(grid >> (8 * j) & 255);
        y[j] = signs >> j & 1 ? -v : v;
    }
}

static void block_iq2_xxs_values(const struct block_iq2_xxs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int k = 0; k < 8; k++) {
        uint32_t rows = b->qs[4 * k] | (uint32_t)b->qs[4 * k + 1] << 16;
        uint32_t rest = b->qs[4 * k + 2] | (uint32_t)b->qs[4 * k + 3] << 16;
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
        for (int l = 0; l < 4; l++)
            grid_values(quant_grid_iq2_xxs[rows >> (8 * l) & 255], 8,
                        quant_ksigns[rest >> (7 * l) & 127], scale, y + 32 * k + 8 * l);
    }
}

static void block_iq2_xs_values(const struct block_iq2_xs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 32; g++) {
        float scale = d * (0.5f + (float)(b->sc[g / 4] >> (g % 4 / 2 * 4) & 15)) * 0.25f;
        uint16_t q = b->qs[g];
        grid_values(quant_grid_iq2_xs[q & 511], 8, quant_ksigns[q >> 9], scale, y + 8 * g);
    }
}

static void block_iq2_s_values(const struct block_iq2_s *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 32; g++) {
        float scale = d * (0.5f + (float)(b->sc[g / 4] >> (g % 4 / 2 * 4) & 15)) * 0.25f;
        int row = b->qs[g] | (b->qh[g / 4] << (8 - 2 * (g % 4)) & 0x300);
        grid_values(quant_grid_iq2_s[row], 8, b->signs[g], scale, y + 8 * g);
    }
}

static void block_iq3_xxs_values(const struct block_iq3_xxs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int k = 0; k < 8; k++) {
        uint32_t ss;
        memcpy(&ss, b->ss + 4 * k, sizeof ss);
        float scale = d * (0.5f + (float)(ss >> 28)) * 0.5f;
        for (int l = 0; l < 4; l++) {
            uint8_t signs = quant_ksigns[ss >> (7 * l) & 127];
            const uint8_t *q = b->qs + 8 * k + 2 * l;
            grid_values(quant_grid_iq3_xxs[q[0]], 4, signs, scale, y + 32 * k + 8 * l);
            grid_values(quant_grid_iq3_xxs[q[1]], 4, signs >> 4, scale, y + 32 * k + 8 * l + 4);
        }
    }
}

static void block_iq3_s_values(const struct block_iq3_s *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int k = 0; k < 8; k++) {
        float scale = d * (float)(1 + 2 * (b->sc[k / 2] >> (4 * (k & 1)) & 15));
        for (int l = 0; l < 4; l++) {
            uint8_t signs = b->signs[4 * k + l];
            const uint8_t *q = b->qs + 8 * k + 2 * l;
            int row0 = q[0] | (b->qh[k] << (8 - 2 * l) & 256),
                row1 = q[1] | (b->qh[k] << (7 - 2 * l) & 256);
            grid_values(quant_grid_iq3_s[row0], 4, signs, scale, y + 32 * k + 8 * l);
            grid_values(quant_grid_iq3_s[row1], 4, signs >> 4, scale, y + 32 * k + 8 * l + 4);
        }
    }
}

static void block_iq1_s_values(const struct block_iq1_s *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int k = 0; k < 8; k++) {
        uint16_t qh = b->qh[k];
        float scale = d * (float)(2 * (qh >> 12 & 7) + 1), delta = qh & 0x8000 ? -0.125f : 0.125f;
        for (int l = 0; l < 4; l++) {
            uint64_t row = quant_grid_iq1_s[b->qs[4 * k + l] | (qh >> (3 * l) & 7) << 8];
            for (int j = 0; j < 8; j++)
                y[32 * k + 8 * l + j] = scale * ((float)(int8_t)(row >> (8 * j) & 255) + delta);
        }
    }
}

/* Walks the blocks of a row; each is copied first because rows are not aligned. */
#define DEQUANT_BLOCKS(name, elems)                                                                \
    static void dequant_##name(const void *src, float *y, int64_t n)                               \
    {                                                                                              \
        struct block_##name b;                                                                     \
        for (int64_t i = 0; i < n / (elems); i++) {                                                \
            memcpy(&b, (const uint8_t *)src + (size_t)i * sizeof b, sizeof b);                     \
            block_##name##_values(&b, y + i * (elems));                                            \
        }                                                                                          \
    }

DEQUANT_BLOCKS(q8_0, 32)
DEQUANT_BLOCKS(q4_0, 32)
DEQUANT_BLOCKS(iq4_nl, 32)
DEQUANT_BLOCKS(mxfp4, 32)
DEQUANT_BLOCKS(q2_k, 256)
DEQUANT_BLOCKS(q3_k, 256)
DEQUANT_BLOCKS(q4_k, 256)
DEQUANT_BLOCKS(q5_k, 256)
DEQUANT_BLOCKS(q6_k, 256)
DEQUANT_BLOCKS(iq4_xs, 256)
DEQUANT_BLOCKS(iq2_xxs, 256)
DEQUANT_BLOCKS(iq2_xs, 256)
DEQUANT_BLOCKS(iq2_s, 256)
DEQUANT_BLOCKS(iq3_xxs, 256)
DEQUANT_BLOCKS(iq3_s, 256)
DEQUANT_BLOCKS(iq1_s, 256)

void dequant_row(enum quant_type type, const void *src, float *dst, int64_t n)
{
    static void (*const by_type[QUANT_TYPE_LIMIT])(const void *src, float *y, int64_t n) = {
        [QUANT_F32] = dequant_f32,         [QUANT_F16] = dequant_f16,
        [QUANT_BF16] = dequant_bf16,       [QUANT_Q8_0] = dequant_q8_0,
        [QUANT_Q4_0] = dequant_q4_0,       [QUANT_IQ4_NL] = dequant_iq4_nl,
        [QUANT_MXFP4] = dequant_mxfp4,     [QUANT_Q2_K] = dequant_q2_k,
        [QUANT_Q3_K] = dequant_q3_k,       [QUANT_Q4_K] = dequant_q4_k,
        [QUANT_Q5_K] = dequant_q5_k,       [QUANT_Q6_K] = dequant_q6_k,
        [QUANT_IQ4_XS] = dequant_iq4_xs,   [QUANT_IQ2_XXS] = dequant_iq2_xxs,
        [QUANT_IQ2_XS] = dequant_iq2_xs,   [QUANT_IQ2_S] = dequant_iq2_s,
        [QUANT_IQ3_XXS] = dequant_iq3_xxs, [QUANT_IQ3_S] = dequant_iq3_s,
        [QUANT_IQ1_S] = dequant_iq1_s,
    };
    const struct quant_info *info = quant_info(type);
    SLUICE_ASSERT(info && by_type[type] && n % info->block_elems == 0);
    by_type[type](src, dst, n);
}
