/* Panels of quantised batch rows for formats of 256, as tiles take them: four bytes of one row lie
 * side by side, then those of the next row, in two planes. All blocks of a panel come first, then
 * what belongs to each. A panel has 4, 8 or 16 columns:
 *
 *   block   int8_t low[4][16][columns][4], high[4][16][columns][4]
 *   tail    int8_t sum_low[4][columns][4], sum_high[4][columns][4]   of 16 values each
 *           int16_t sum_32[4][columns][2]                            of 32 values each
 *           float d[columns] */
#ifndef SLUICE_OPS_AMX_PANELS_256_AMX_H
#define SLUICE_OPS_AMX_PANELS_256_AMX_H

#include "ops/amx/planes_amx.h"
#include "ops/avx512/transpose_avx512.h"

/* Tiles of sums of 16 values are loaded as 16 rows, of which the last 12 meet zeros. */
#define PANEL_END 1024

/* A set of less than 4 columns has 4. */
static inline int columns_256(int columns)
{
    return columns < 4 ? 4 : columns;
}

#define BLOCK_256(columns) ((size_t)(columns) * 512)
#define TAIL_256(columns) ((size_t)(columns) * 52)

static inline const int8_t *low_256(const uint8_t *block, int columns, int k)
{
    return (const int8_t *)block + 64 * columns * k;
}

static inline const int8_t *high_256(const uint8_t *block, int columns, int k)
{
    return low_256(block, columns, 4 + k);
}

static inline const uint8_t *tail_256(const uint8_t *panel, int64_t n, int columns, int64_t block)
{
    return panel + (size_t)(n / 256) * BLOCK_256(columns) + (size_t)block * TAIL_256(columns);
}

static inline const int8_t *sum_low_256(const uint8_t *tail)
{
    return (const int8_t *)tail;
}

static inline const int8_t *sum_high_256(const uint8_t *tail, int columns)
{
    return (const int8_t *)tail + 16 * columns;
}

static inline const int16_t *sum_32_256(const uint8_t *tail, int columns, int k)
{
    return (const int16_t *)(const void *)(tail + 32 * columns) + 2 * columns * k;
}

static inline const float *d_256(const uint8_t *tail, int columns)
{
    return (const float *)(const void *)(tail + 48 * columns);
}

/* Of the batch's high plane: value = (high << bits) + low. */
static inline __attribute__((always_inline)) int panel_bits(enum act_kind kind)
{
    return kind == ACT_256 ? 3 : 7; /* +-1016 and +-2032 */
}

/* 64 values, number k of the block b, as two planes. */
static inline void planes_256(const struct act *x, int64_t b, int k, enum act_kind kind,
                              __m512i *low, __m512i *high)
{
    if (kind == ACT_256) {
        *low = _mm512_loadu_si512(x->planes + b * 512 + 64 * k);
        *high = _mm512_loadu_si512(x->planes + b * 512 + 256 + 64 * k);
        return;
    }
    const struct act_bytes *a = act_bytes(x, b);
    unsigned bits = (unsigned)panel_bits(kind);
    /* of each 8 values: their qword's place is that of their 32 */
    __m512i times = _mm512_loadu_si512(a->times), h[2], l[2];
    times = _mm512_or_si512(times, _mm512_slli_epi32(times, 16));
    for (int i = 0; i < 2; i++) {
        const __m256i *q = (const __m256i *)(const void *)(a->q + 64 * k + 32 * i);
        __m512i at = _mm512_add_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                      _mm512_set1_epi64(4 * i));
        __m512i v = _mm512_mullo_epi16(_mm512_cvtepi8_epi16(_mm256_loadu_si256(q)),
                                       _mm512_permutexvar_epi64(at, times));
        h[i] = _mm512_srai_epi16(v, bits);
        l[i] = _mm512_sub_epi16(v, _mm512_slli_epi16(h[i], bits));
    }
    *low = bytes_of(l[0], l[1]);
    *high = bytes_of(h[0], h[1]);
}

/* The sums of 16 values each of a block of row i, for formats with minima: those of ACT_256_BYTE,
 * which has none, may not fit. */
static inline void pack_sums(const int16_t *sum, int i, int columns, uint8_t *tail)
{
    int8_t *low = (int8_t *)tail, *high = low + 16 * columns;
    int16_t *sum_32 = (int16_t *)(void *)(tail + 32 * columns);
    for (int k = 0; k < 8; k++)
        sum_32[(k / 2 * columns + i) * 2 + k % 2] = (int16_t)(sum[2 * k] + sum[2 * k + 1]);
    for (int k = 0; k < 16; k++) {
        int upper = (sum[k] + 64) >> 7;
        high[(k / 4 * columns + i) * 4 + k % 4] = (int8_t)upper;
        low[(k / 4 * columns + i) * 4 + k % 4] = (int8_t)(sum[k] - 128 * upper);
    }
}

#endif
