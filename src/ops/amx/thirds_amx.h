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

/* 16 values at p; those not in the mask are 0. */
static inline __attribute__((always_inline)) __m512 weights_16(enum quant_type type, __mmask16 in,
                                                               const uint8_t *p)
{
    if (type == QUANT_F32)
        return _mm512_maskz_loadu_ps(in, p);
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(in, p));
}

/* The planes of 32 values at p, of which there are `left`. */
static inline __attribute__((always_inline)) void
weight_thirds(enum quant_type type, const uint8_t *p, int64_t left, __m512i *half)
{
    __mmask16 first = mask_to(0, left), last = mask_to(16, left);
    if (type == QUANT_BF16) {
        half[0] = _mm512_maskz_loadu_epi16(first | (__mmask32)last << 16, p);
        return;
    }
    split(weights_16(type, first, p), weights_16(type, last, p + 16 * (type == QUANT_F32 ? 4 : 2)),
          weight_planes(type), half);
}

/* CHUNK values of row i, of which there are `left`; as a constant it spares the masks. */
static inline __attribute__((always_inline)) void
thirds_row(enum quant_type type, const uint8_t *p, int64_t left, int i, struct chunk *c)
{
    for (int s = 0; s < CHUNK_STEPS; s++, p += STEP * (type == QUANT_F32 ? 4 : 2)) {
        __m512i half[PLANES];
        weight_thirds(type, p, left - s * STEP, half);
#pragma GCC unroll 3
        for (int k = 0; k < weight_planes(type); k++)
            put_step(&c[k], s, i, half[k]);
    }
}

#endif
