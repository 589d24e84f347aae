/* Panels of batch rows for formats of 32 and for floats, as tiles take them: bfloat16, two values
 * of one row side by side, then those of the next row: half[step][plane][pair][column][2], in the
 * order of halves_amx.h. Rows for floats have three planes and the values' own order. A panel has
 * as many columns as its set; those without a row are zeros. A quantised row (struct act) has its
 * bfloat16 in the place of words, and nothing else. */
#ifndef SLUICE_OPS_AMX_PANELS_32_AMX_H
#define SLUICE_OPS_AMX_PANELS_32_AMX_H

#include "ops/amx/halves_amx.h"
#include "ops/avx512/transpose_avx512.h"

/* Steps of rows of n values; a pair of blocks is never divided. */
static inline int64_t steps_32(int64_t n)
{
    return (n + 2 * STEP - 1) / (2 * STEP) * 2;
}

static inline size_t step_bytes_32(int columns)
{
    return (size_t)columns * STEP * sizeof(uint16_t);
}

static inline __attribute__((always_inline)) __m512i
step_of_32(const int16_t *q, int64_t n, int64_t step, enum act_kind kind)
{
    if (kind == ACT_32_Q8)
        return step * STEP < n ? _mm512_loadu_si512(q + step * STEP) : _mm512_setzero_si512();
    const __m256i *at = (const __m256i *)(const void *)(q + step / 2 * 64 + step % 2 * 16);
    __m256i upper = step / 2 * 64 + 32 < n ? _mm256_loadu_si256(at + 2) : _mm256_setzero_si256();
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(at)), upper, 1);
}

/* One step of all columns. */
static inline void put_columns(const __m512i *v, int columns, uint8_t *to)
{
    _Alignas(64) int16_t t[16][32];
    if (columns == PANEL_ROWS) {
        transpose16(v, (int16_t *)(void *)to);
        return;
    }
    if (columns == 1) {
        _mm512_storeu_si512(to, v[0]);
        return;
    }
    transpose16(v, t[0]);
    for (int p = 0; p < 16; p++)
        _mm512_mask_storeu_epi32(to + (size_t)p * (size_t)columns * 4,
                                 (__mmask16)((1u << columns) - 1), _mm512_load_si512(t[p]));
}

#endif
