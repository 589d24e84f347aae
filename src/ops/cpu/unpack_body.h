/* ops/cpu/unpack_body.h - every quantised format to struct unit, in portable C; each instruction
 * set compiles it with its own flags. Formulas: section 2.5, multiplied out so that scale and value
 * of a sub-block are one integer. The largest, 128 * 32 of Q6_K, times ACT_MAX times 256 stays
 * below 2^31. */
#ifndef SLUICE_OPS_CPU_UNPACK_BODY_H
#define SLUICE_OPS_CPU_UNPACK_BODY_H

#include <string.h>

#include "base/check.h"
#include "ops/cpu/leaf.h"
#include "ops/ref/numfmt.h"

/* ---- blocks of 32: n_blocks <= 8 of them; the rest of the unit becomes zero ---- */

static inline void unpack_q8_0(const uint8_t *src, int n_blocks, struct unit *u)
{
    for (int k = 0; k < n_blocks; k++) {
        struct block_q8_0 b;
        memcpy(&b, src + (size_t)k * sizeof(b), sizeof(b));
        u->d[k] = f16_to_f32(b.d);
        for (int j = 0; j < 32; j++)
            u->w[32 * k + j] = b.q[j];
    }
}

static inline void unpack_q4_0(const uint8_t *src, int n_blocks, struct unit *u)
{
    for (int k = 0; k < n_blocks; k++) {
        struct block_q4_0 b;
        memcpy(&b, src + (size_t)k * sizeof(b), sizeof(b));
        u->d[k] = f16_to_f32(b.d);
        for (int j = 0; j < 16; j++) {
            u->w[32 * k + j] = (int16_t)((b.qs[j] & 15) - 8);
            u->w[32 * k + 16 + j] = (int16_t)((b.qs[j] >> 4) - 8);
        }
    }
}

static inline void unpack_iq4_nl(const uint8_t *src, int n_blocks, struct unit *u)
{
    for (int k = 0; k < n_blocks; k++) {
        struct block_iq4_nl b;
        memcpy(&b, src + (size_t)k * sizeof(b), sizeof(b));
        u->d[k] = f16_to_f32(b.d);
        for (int j = 0; j < 16; j++) {
            u->w[32 * k + j] = quant_iq4_values[b.qs[j] & 15];
            u->w[32 * k + 16 + j] = quant_iq4_values[b.qs[j] >> 4];
        }
    }
}

/* Twice the value of an e2m1 code. */
static const int8_t e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static inline void unpack_mxfp4(const uint8_t *src, int n_blocks, struct unit *u)
{
    for (int k = 0; k < n_blocks; k++) {
        struct block_mxfp4 b;
        memcpy(&b, src + (size_t)k * sizeof(b), sizeof(b));
        u->d[k] = e8m0_to_f32(b.e) * 0.5f;
        for (int j = 0; j < 16; j++) {
            u->w[32 * k + j] = e2m1_doubled[b.qs[j] & 15];
            u->w[32 * k + 16 + j] = e2m1_doubled[b.qs[j] >> 4];
        }
    }
}

/* ---- K blocks ---- */

static inline void unpack_q2_k(const uint8_t *src, struct unit *u)
{
    struct block_q2_k b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    u->dmin = -f16_to_f32(b.dmin);
    for (int g = 0; g < 16; g++) {
        int s = b.sc[g] & 15, shift = 2 * (g / 2 % 4);
        const uint8_t *q = b.qs + 32 * (g / 8) + 16 * (g % 2);
        u->m[g] = b.sc[g] >> 4;
        for (int l = 0; l < 16; l++)
            u->w[16 * g + l] = (int16_t)((q[l] >> shift & 3) * s);
    }
}

static inline int unpack_q3_k_scale(const uint8_t *sc, int k)
{
    int low = k < 8 ? sc[k] & 15 : sc[k - 8] >> 4;
    return (low | (sc[8 + k % 4] >> (2 * (k / 4)) & 3) << 4) - 32;
}

static inline void unpack_q3_k(const uint8_t *src, struct unit *u)
{
    struct block_q3_k b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    for (int g = 0; g < 16; g++) {
        int s = unpack_q3_k_scale(b.sc, g), shift = 2 * (g / 2 % 4), bit = g / 2;
        const uint8_t *q = b.qs + 32 * (g / 8) + 16 * (g % 2), *hm = b.hm + 16 * (g % 2);
        for (int l = 0; l < 16; l++)
            u->w[16 * g + l] = (int16_t)(((q[l] >> shift & 3) + (hm[l] >> bit & 1) * 4 - 4) * s);
    }
}

static inline void unpack_six_bits(const uint8_t *sc, int k, int *scale, int *min)
{
    if (k < 4) {
        *scale = sc[k] & 63;
        *min = sc[k + 4] & 63;
    } else {
        *scale = (sc[k + 4] & 15) | sc[k - 4] >> 6 << 4;
        *min = sc[k + 4] >> 4 | sc[k] >> 6 << 4;
    }
}

static inline void unpack_q4_k(const uint8_t *src, struct unit *u)
{
    struct block_q4_k b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    u->dmin = -f16_to_f32(b.dmin);
    for (int k = 0; k < 8; k++) {
        int scale, min, shift = 4 * (k & 1);
        const uint8_t *q = b.qs + k / 2 * 32;
        unpack_six_bits(b.sc, k, &scale, &min);
        u->m[2 * k] = u->m[2 * k + 1] = (int16_t)min;
        for (int l = 0; l < 32; l++)
            u->w[32 * k + l] = (int16_t)((q[l] >> shift & 15) * scale);
    }
}

static inline void unpack_q5_k(const uint8_t *src, struct unit *u)
{
    struct block_q5_k b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    u->dmin = -f16_to_f32(b.dmin);
    for (int k = 0; k < 8; k++) {
        int scale, min, shift = 4 * (k & 1);
        const uint8_t *q = b.qs + k / 2 * 32;
        unpack_six_bits(b.sc, k, &scale, &min);
        u->m[2 * k] = u->m[2 * k + 1] = (int16_t)min;
        for (int l = 0; l < 32; l++)
            u->w[32 * k + l] =
                (int16_t)(((q[l] >> shift & 15) + (b.qh[l] >> k & 1) * 16) * scale);
    }
}

static inline void unpack_q6_k(const uint8_t *src, struct unit *u)
{
    struct block_q6_k b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    for (int g = 0; g < 16; g++) {
        int part = g / 2 % 4, at = 16 * (g % 2), s = b.sc[g];
        const uint8_t *ql = b.ql + 64 * (g / 8) + 32 * (part & 1) + at;
        const uint8_t *qh = b.qh + 32 * (g / 8) + at;
        for (int l = 0; l < 16; l++) {
            int low = ql[l] >> (part / 2 * 4) & 15, high = qh[l] >> (2 * part) & 3;
            u->w[16 * g + l] = (int16_t)((low + high * 16 - 32) * s);
        }
    }
}

static inline void unpack_iq4_xs(const uint8_t *src, struct unit *u)
{
    struct block_iq4_xs b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    for (int k = 0; k < 8; k++) {
        int s = ((b.sl[k / 2] >> (4 * (k & 1)) & 15) | (b.sh >> (2 * k) & 3) << 4) - 32;
        const uint8_t *q = b.qs + 16 * k;
        for (int j = 0; j < 16; j++) {
            u->w[32 * k + j] = (int16_t)(quant_iq4_values[q[j] & 15] * s);
            u->w[32 * k + 16 + j] = (int16_t)(quant_iq4_values[q[j] >> 4] * s);
        }
    }
}

/* ---- lattice blocks ---- */

/* n values of a grid row times a scale, negative where signs has a bit. */
static inline void unpack_grid(uint64_t grid, int n, int signs, int scale, int16_t *w)
{
    for (int j = 0; j < n; j++) {
        int negative = -(signs >> j & 1);
        w[j] = (int16_t)((((int)(grid >> (8 * j) & 255) ^ negative) - negative) * scale);
    }
}

static inline void unpack_iq2_xxs(const uint8_t *src, struct unit *u)
{
    struct block_iq2_xxs b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d) * 0.125f;
    for (int k = 0; k < 8; k++) {
        uint32_t rows = b.qs[4 * k] | (uint32_t)b.qs[4 * k + 1] << 16;
        uint32_t rest = b.qs[4 * k + 2] | (uint32_t)b.qs[4 * k + 3] << 16;
        int scale = 2 * (int)(rest >> 28) + 1;
        for (int l = 0; l < 4; l++)
            unpack_grid(quant_grid_iq2_xxs[rows >> (8 * l) & 255], 8,
                        quant_ksigns[rest >> (7 * l) & 127], scale, u->w + 32 * k + 8 * l);
    }
}

static inline void unpack_iq2_xs(const uint8_t *src, struct unit *u)
{
    struct block_iq2_xs b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d) * 0.125f;
    for (int g = 0; g < 32; g++) {
        int scale = 2 * (b.sc[g / 4] >> (g % 4 / 2 * 4) & 15) + 1;
        unpack_grid(quant_grid_iq2_xs[b.qs[g] & 511], 8, quant_ksigns[b.qs[g] >> 9], scale,
                    u->w + 8 * g);
    }
}

static inline void unpack_iq2_s(const uint8_t *src, struct unit *u)
{
    struct block_iq2_s b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d) * 0.125f;
    for (int g = 0; g < 32; g++) {
        int scale = 2 * (b.sc[g / 4] >> (g % 4 / 2 * 4) & 15) + 1;
        int row = b.qs[g] | (b.qh[g / 4] << (8 - 2 * (g % 4)) & 0x300);
        unpack_grid(quant_grid_iq2_s[row], 8, b.signs[g], scale, u->w + 8 * g);
    }
}

static inline void unpack_iq3_xxs(const uint8_t *src, struct unit *u)
{
    struct block_iq3_xxs b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d) * 0.25f;
    for (int k = 0; k < 8; k++) {
        uint32_t ss;
        memcpy(&ss, b.ss + 4 * k, sizeof(ss));
        int scale = 2 * (int)(ss >> 28) + 1;
        for (int l = 0; l < 4; l++) {
            int signs = quant_ksigns[ss >> (7 * l) & 127];
            const uint8_t *q = b.qs + 8 * k + 2 * l;
            uint64_t grid = quant_grid_iq3_xxs[q[0]] | (uint64_t)quant_grid_iq3_xxs[q[1]] << 32;
            unpack_grid(grid, 8, signs, scale, u->w + 32 * k + 8 * l);
        }
    }
}

static inline void unpack_iq3_s(const uint8_t *src, struct unit *u)
{
    struct block_iq3_s b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d);
    for (int k = 0; k < 8; k++) {
        int scale = 1 + 2 * (b.sc[k / 2] >> (4 * (k & 1)) & 15);
        for (int l = 0; l < 4; l++) {
            const uint8_t *q = b.qs + 8 * k + 2 * l;
            int row0 = q[0] | (b.qh[k] << (8 - 2 * l) & 256);
            int row1 = q[1] | (b.qh[k] << (7 - 2 * l) & 256);
            uint64_t grid = quant_grid_iq3_s[row0] | (uint64_t)quant_grid_iq3_s[row1] << 32;
            unpack_grid(grid, 8, b.signs[4 * k + l], scale, u->w + 32 * k + 8 * l);
        }
    }
}

static inline void unpack_iq1_s(const uint8_t *src, struct unit *u)
{
    struct block_iq1_s b;
    memcpy(&b, src, sizeof(b));
    u->d[0] = f16_to_f32(b.d) * 0.125f;
    for (int k = 0; k < 8; k++) {
        int scale = 2 * (b.qh[k] >> 12 & 7) + 1, delta = b.qh[k] & 0x8000 ? -1 : 1;
        for (int l = 0; l < 4; l++) {
            uint64_t row = quant_grid_iq1_s[b.qs[4 * k + l] | (b.qh[k] >> (3 * l) & 7) << 8];
            for (int j = 0; j < 8; j++)
                u->w[32 * k + 8 * l + j] =
                    (int16_t)((8 * (int8_t)(row >> (8 * j) & 255) + delta) * scale);
        }
    }
}

/* n_blocks blocks at src: up to 8 of 32 values, or 1 of 256. */
static inline void unpack_unit(enum quant_type type, const uint8_t *src, int n_blocks,
                               struct unit *u)
{
    switch (type) {
    case QUANT_Q8_0: unpack_q8_0(src, n_blocks, u); return;
    case QUANT_Q4_0: unpack_q4_0(src, n_blocks, u); return;
    case QUANT_IQ4_NL: unpack_iq4_nl(src, n_blocks, u); return;
    case QUANT_MXFP4: unpack_mxfp4(src, n_blocks, u); return;
    case QUANT_Q2_K: unpack_q2_k(src, u); return;
    case QUANT_Q3_K: unpack_q3_k(src, u); return;
    case QUANT_Q4_K: unpack_q4_k(src, u); return;
    case QUANT_Q5_K: unpack_q5_k(src, u); return;
    case QUANT_Q6_K: unpack_q6_k(src, u); return;
    case QUANT_IQ4_XS: unpack_iq4_xs(src, u); return;
    case QUANT_IQ2_XXS: unpack_iq2_xxs(src, u); return;
    case QUANT_IQ2_XS: unpack_iq2_xs(src, u); return;
    case QUANT_IQ2_S: unpack_iq2_s(src, u); return;
    case QUANT_IQ3_XXS: unpack_iq3_xxs(src, u); return;
    case QUANT_IQ3_S: unpack_iq3_s(src, u); return;
    case QUANT_IQ1_S: unpack_iq1_s(src, u); return;
    default: SLUICE_ASSERT(!"a quantised type");
    }
}

/* The minima of two neighbouring groups, interleaved as the values are. */
static inline void tile_put_mins(const struct tile *t, int64_t unit, int row, const struct unit *u)
{
    for (int k = 0; k < 8; k++)
        memcpy(t->m + ((unit * 8 + k) * TILE_ROWS + row) * 2, u->m + 2 * k, 4);
}

static inline void tile_put_row(const struct tile *t, int64_t first, int n, int row,
                                const int16_t *w)
{
    int16_t *to = t->w + (first / 2 * TILE_ROWS + row) * 2;
    for (int k = 0; k < n / 2; k++)
        memcpy(to + (size_t)k * TILE_ROWS * 2, w + 2 * k, 4);
}

static inline void tile_zero_row(const struct tile *t, int row)
{
    static const struct unit zero;
    for (int64_t at = 0; at < t->n; at += 256) {
        int n = t->n - at < 256 ? (int)(t->n - at) : 256;
        tile_put_row(t, at, n, row, zero.w);
        if (t->has_min)
            tile_put_mins(t, at / 256, row, &zero);
    }
    for (int64_t b = 0; b < t->n / t->block; b++)
        t->d[b * TILE_ROWS + row] = 0;
    for (int64_t b = 0; t->has_min && b < t->n / 256; b++)
        t->dmin[b * TILE_ROWS + row] = 0;
}

static inline void tile_unpack_row(const struct qrows *w, const uint8_t *src, const struct tile *t,
                                   int row)
{
    uint32_t unit_bytes = quant_info(w->type)->block_bytes * (t->block == 32 ? 8 : 1);
    for (int64_t at = 0; at < t->n; at += 256) {
        struct unit u;
        int n = t->n - at < 256 ? (int)(t->n - at) : 256, blocks = n / t->block;
        unpack_unit(w->type, src + at / 256 * unit_bytes, blocks, &u);
        tile_put_row(t, at, n, row, u.w);
        for (int b = 0; b < blocks; b++)
            t->d[(at / t->block + b) * TILE_ROWS + row] = u.d[b];
        if (t->has_min) {
            tile_put_mins(t, at / 256, row, &u);
            t->dmin[at / 256 * TILE_ROWS + row] = u.dmin;
        }
    }
}

static inline void tile_unpack_body(const struct qrows *w, int n_rows, const struct tile *t)
{
    for (int row = 0; row < TILE_ROWS; row++) {
        if (row < n_rows)
            tile_unpack_row(w, w->data + (uint64_t)row * w->row_bytes, t, row);
        else
            tile_zero_row(t, row);
    }
}

#endif
