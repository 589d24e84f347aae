/* 16 rows side by side to 16 columns. */
#ifndef SLUICE_OPS_AVX512_TRANSPOSE_AVX512_H
#define SLUICE_OPS_AVX512_TRANSPOSE_AVX512_H

#include <immintrin.h>
#include <stdint.h>

/* 16 registers of 16 pairs of words, one a row, to 16 of 16 rows, one a pair: those of pairs 0 and
 * 1 side by side, those of 2 and 3 `step` words after them, and so on. */
static inline void transpose16_to(const __m512i *r, int16_t *to, int step)
{
    __m512i a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    /* b[4 * g + c] has in lane l the rows 4 * g .. 4 * g + 3 of pair 4 * l + c */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        int16_t *at = to + c / 2 * step + c % 2 * 32;
        __m512i p = _mm512_shuffle_i64x2(b[c], b[4 + c], 0x44);
        __m512i q = _mm512_shuffle_i64x2(b[8 + c], b[12 + c], 0x44);
        __m512i s = _mm512_shuffle_i64x2(b[c], b[4 + c], 0xee);
        __m512i t = _mm512_shuffle_i64x2(b[8 + c], b[12 + c], 0xee);
        _mm512_storeu_si512(at, _mm512_shuffle_i64x2(p, q, 0x88));
        _mm512_storeu_si512(at + 2 * step, _mm512_shuffle_i64x2(p, q, 0xdd));
        _mm512_storeu_si512(at + 4 * step, _mm512_shuffle_i64x2(s, t, 0x88));
        _mm512_storeu_si512(at + 6 * step, _mm512_shuffle_i64x2(s, t, 0xdd));
    }
}

static inline void transpose16(const __m512i *r, int16_t *to)
{
    transpose16_to(r, to, 64);
}

#endif
