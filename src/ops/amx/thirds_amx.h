/* A float32 as the sum of three bfloat16, its planes: itself, rounded, then what is missing,
 * rounded, then the rest. Of a product of two, what the planes i and j with i + j > 2 make up lies
 * below the last place. F16 has two planes and BF16 one, which are exact. */
#ifndef SLUICE_OPS_AMX_THIRDS_AMX_H
#define SLUICE_OPS_AMX_THIRDS_AMX_H

#include "ops/amx/halves_amx.h"

#define PLANES 3

static inline __m512 floats_of_halves(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* The planes of 32 floats. */
static inline __attribute__((always_inline)) void split(__m512 lower, __m512 upper, int planes,
                                                        __m512i *half)
{
#pragma GCC unroll 3
    for (int k = 0; k < planes; k++) {
        half[k] = halves_of(lower, upper);
        if (k + 1 == planes)
            break;
        lower = _mm512_sub_ps(lower, floats_of_halves(_mm512_castsi512_si256(half[k])));
        upper = _mm512_sub_ps(upper, floats_of_halves(_mm512_extracti64x4_epi64(half[k], 1)));
    }
}

/* Which of 16 values from `at` on there are of n. */
static inline __mmask16 mask_to(int64_t at, int64_t n)
{
    int64_t left = n - at;
    return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
}

/* Values [at, at + 16) of n; those that are missing are 0. */
static inline __m512 floats_to(const float *x, int64_t at, int64_t n)
{
    return _mm512_maskz_loadu_ps(mask_to(at, n), x + at);
}

/* ---- weights ---- */

#define FORMATS_FLOAT(X) X(QUANT_F32, f32) X(QUANT_F16, f16) X(QUANT_BF16, bf16)

static inline __attribute__((always_inline)) int weight_planes(enum quant_type type)
{
    return type == QUANT_F32 ? 3 : type == QUANT_F16 ? 2 : 1;
}

/* Values [at, at + 16) of a row of n; those that are missing are 0. */
static inline __attribute__((always_inline)) __m512 weights_to(enum quant_type type,
                                                               const uint8_t *row, int64_t at,
                                                               int64_t n)
{
    if (type == QUANT_F32)
        return _mm512_maskz_loadu_ps(mask_to(at, n), row + 4 * at);
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask_to(at, n), row + 2 * at));
}

/* The planes of the values [at, at + 32) of a row of n. */
static inline __attribute__((always_inline)) void
weight_thirds(enum quant_type type, const uint8_t *row, int64_t at, int64_t n, __m512i *half)
{
    if (type == QUANT_BF16) {
        __mmask32 in = mask_to(at, n) | (__mmask32)mask_to(at + 16, n) << 16;
        half[0] = _mm512_maskz_loadu_epi16(in, row + 2 * at);
        return;
    }
    split(weights_to(type, row, at, n), weights_to(type, row, at + 16, n), weight_planes(type),
          half);
}

/* A part of the rows of a weight to chunks, one for each plane. */
static inline __attribute__((always_inline)) void
thirds_rows(enum quant_type type, const struct qrows *w, const struct part_32 *p, struct chunk *c)
{
    const uint8_t *row = w->data + (uint64_t)p->first * w->row_bytes;
    int i = p->first % CHUNK_ROWS, end = i + p->last - p->first;
    uint32_t bytes = type == QUANT_F32 ? 4 : 2;
    for (; i < end; i++, row += w->row_bytes) {
        ask_rows_ahead(row + (uint64_t)p->at * bytes, p->ahead, CHUNK * bytes);
        for (int s = 0; s < CHUNK_STEPS; s++) {
            __m512i half[PLANES];
            weight_thirds(type, row, p->at + s * STEP, w->n, half);
#pragma GCC unroll 3
            for (int k = 0; k < weight_planes(type); k++)
                put_step(&c[k], s, i, half[k]);
        }
    }
}

#endif
