/* Panels of PANEL_ROWS quantised batch rows for formats of 256, as tiles take them: four bytes of
 * one row lie side by side, then those of the next row, in two planes. All blocks of a panel come
 * first, then what belongs to each. */
#ifndef SLUICE_OPS_AMX_PANELS_256_AMX_H
#define SLUICE_OPS_AMX_PANELS_256_AMX_H

#include "ops/amx/planes_amx.h"
#include "ops/avx512/transpose_avx512.h"

struct panel_256 {
    int8_t low[4][16][PANEL_ROWS][4], high[4][16][PANEL_ROWS][4];
};
struct tail_256 {
    int8_t sum_low[4][PANEL_ROWS][4], sum_high[4][PANEL_ROWS][4]; /* of 16 values each */
    int16_t sum_32[4][PANEL_ROWS][2]; /* of 32 values each */
    float d[PANEL_ROWS];
};

/* Tiles of sums of 16 values are loaded as 16 rows, of which the last 12 meet zeros. */
#define PANEL_END 1024

static inline struct tail_256 *tails_256(const uint8_t *panel, int64_t n)
{
    const uint8_t *end = panel + (size_t)(n / 256) * sizeof(struct panel_256);
    return (struct tail_256 *)(void *)(uintptr_t)end;
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
static inline void pack_sums(const int16_t *sum, int i, struct tail_256 *to)
{
    for (int k = 0; k < 8; k++)
        to->sum_32[k / 2][i][k % 2] = (int16_t)(sum[2 * k] + sum[2 * k + 1]);
    for (int k = 0; k < 16; k++) {
        int high = (sum[k] + 64) >> 7;
        to->sum_high[k / 4][i][k % 4] = (int8_t)high;
        to->sum_low[k / 4][i][k % 4] = (int8_t)(sum[k] - 128 * high);
    }
}

#endif
