/* Tiles of words (struct tile), of formats whose blocks change places while they are packed: four
 * bytes of 16 rows side by side, a column, become words of 16 rows, and scales that rows have for
 * themselves meet them there. As words they would be twice to eight times as many. Included by the
 * leaves of AVX-512. */
#ifndef SLUICE_OPS_AVX512_COLUMNS_AVX512_H
#define SLUICE_OPS_AVX512_COLUMNS_AVX512_H

#include "ops/avx512/expand_avx512.h"
#include "ops/avx512/transpose_avx512.h"

/* 16 columns of four bytes of 16 rows. Those of values have the order 0, 2, 1, 3, so that the first
 * two are the low bytes of words and the last two the high ones. */
struct columns {
    _Alignas(64) int16_t of[16][2 * TILE_ROWS];
};

static inline __m512i column(const struct columns *c, int k)
{
    return _mm512_load_si512(c->of[k]);
}

/* The bytes of values in the order of columns; the first `as_they_are` dwords stay. */
static inline __m512i in_columns(__m512i v, int as_they_are)
{
    const __m512i middle = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    return _mm512_mask_mov_epi32(_mm512_shuffle_epi8(v, middle),
                                 (__mmask16)((1u << as_they_are) - 1), v);
}

/* The first two values of a column, and the last two, to their places in a tile. */
static inline void put_pairs(__m512i first, __m512i last, int16_t *to)
{
    _mm512_storeu_si512(to, first);
    _mm512_storeu_si512(to + 2 * TILE_ROWS, last);
}

/* Where a value of the 256 begins. */
static inline int16_t *value_at(int16_t *to, int value)
{
    return to + value * TILE_ROWS;
}

/* ---- signed bytes ---- */

static inline void put_bytes_of(__m512i v, int16_t *to)
{
    put_pairs(_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8), to);
}

/* 4 blocks of nibbles. */
static inline void columns_of_nibbles(const struct columns *c, __m512i table, int16_t *to)
{
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int k = 0; k < 16; k++) {
        __m512i v = column(c, k);
        int16_t *at = value_at(to, k / 4 * 32 + k % 4 * 4);
        put_bytes_of(_mm512_shuffle_epi8(table, _mm512_and_si512(v, low)), at);
        v = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
        put_bytes_of(_mm512_shuffle_epi8(table, v), value_at(at, 16));
    }
}

/* 2 blocks of Q8_0. */
static inline void columns_of_bytes(const struct columns *c, int16_t *to)
{
#pragma GCC unroll 4
    for (int k = 0; k < 16; k++)
        put_bytes_of(column(c, k), value_at(to, 4 * k));
}

static inline __m256i half_of_64(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* 8 blocks of a row: its scales to the column i of d, its bytes to r[.][i]. */
static inline __attribute__((always_inline)) void
load_32(enum quant_type type, const uint8_t *row, int i, float *d, __m512i (*r)[TILE_ROWS])
{
    int bytes = (int)block_bytes(type), head = type == QUANT_MXFP4 ? 1 : 2;
    const uint8_t *q = row + head;
    float scale[8];
    _mm256_storeu_ps(scale, type == QUANT_MXFP4 ? scales_mxfp4(row) : scales_f16(row, bytes));
    for (int k = 0; k < 8; k++)
        d[k * TILE_ROWS + i] = scale[k];
    if (type != QUANT_Q8_0) {
        r[0][i] = in_columns(four_16(q, bytes), 0);
        r[1][i] = in_columns(four_16(q + 4 * bytes, bytes), 0);
        return;
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++, q += 2 * bytes)
        r[k][i] = in_columns(_mm512_inserti64x4(_mm512_castsi256_si512(half_of_64(q)),
                                                half_of_64(q + bytes), 1), 0);
}

static inline __attribute__((always_inline)) void
put_32(enum quant_type type, const __m512i (*r)[TILE_ROWS], int16_t *to)
{
    const __m512i table = _mm512_broadcast_i32x4(nibble_values(type));
    int parts = type == QUANT_Q8_0 ? 4 : 2;
    struct columns c;
    for (int j = 0; j < parts; j++) {
        int16_t *at = value_at(to, 256 / parts * j);
        transpose16(r[j], c.of[0]);
        if (type == QUANT_Q8_0)
            columns_of_bytes(&c, at);
        else
            columns_of_nibbles(&c, table, at);
    }
}

/* ---- Q4_K and Q2_K ---- */

/* d and dmin of 16 rows, side by side in a column. */
static inline void put_scales(__m512i v, const struct tile *t, int64_t to)
{
    __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
    __m512 dmin = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
    _mm512_storeu_ps(t->d + to / 256 * TILE_ROWS, d);
    _mm512_storeu_ps(t->dmin + to / 256 * TILE_ROWS,
                     _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0f)));
}

/* The bytes `first` and `second` of each dword as words. */
static inline __m512i two_bytes(__m512i v, int first, int second)
{
    const __m512i dword = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x040004, 0x080008, 0x0c000c));
    __m512i at = _mm512_set1_epi32((int)0x80008000 | first | second << 16);
    return _mm512_shuffle_epi8(v, _mm512_add_epi32(dword, at));
}

/* Where the minima of the block go, pairs of groups of 16 values side by side. */
static inline void put_least(__m512i v, const struct tile *t, int64_t to, int pair)
{
    _mm512_storeu_si512(t->m + (to / 16 + 2 * pair) * TILE_ROWS, v);
}

/* Columns: d and dmin, 3 of scales, 32 of nibbles. */
static inline void put_q4_k(const __m512i (*r)[TILE_ROWS], const struct tile *t, int64_t to)
{
    const __m512i nibble = _mm512_set1_epi16(15), six = _mm512_set1_epi32(0x3f3f3f3f);
    const __m512i four = _mm512_set1_epi32(0x0f0f0f0f), high = _mm512_set1_epi32(0x30303030);
    struct columns c[3];
    for (int k = 0; k < 3; k++)
        transpose16(r[k], c[k].of[0]);
    put_scales(column(&c[0], 0), t, to);
    __m512i a = column(&c[0], 1), b = column(&c[0], 2), last = column(&c[0], 3);
    __m512i scale[2] = {_mm512_and_si512(a, six),
                        _mm512_or_si512(_mm512_and_si512(last, four),
                                        _mm512_and_si512(_mm512_srli_epi32(a, 2), high))};
    __m512i least[2] = {_mm512_and_si512(b, six),
                        _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(last, 4), four),
                                        _mm512_and_si512(_mm512_srli_epi32(b, 2), high))};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* of 32 bytes */
        int j = 2 * k % 4;
        __m512i lower = two_bytes(scale[k / 2], j, j);
        __m512i upper = two_bytes(scale[k / 2], j + 1, j + 1);
        put_least(two_bytes(least[k / 2], j, j), t, to, 2 * k);
        put_least(two_bytes(least[k / 2], j + 1, j + 1), t, to, 2 * k + 1);
#pragma GCC unroll 8
        for (int n = 0; n < 8; n++) {
            int at = 4 + 8 * k + n;
            __m512i v = at < 32 ? column(&c[at / 16], at % 16) : column(&c[2], at - 20);
            int16_t *p = value_at(t->w + to * TILE_ROWS, 64 * k + 4 * n);
            put_pairs(_mm512_mullo_epi16(_mm512_and_si512(v, nibble), lower),
                      _mm512_mullo_epi16(_mm512_and_si512(_mm512_srli_epi16(v, 8), nibble), lower),
                      p);
            put_pairs(_mm512_mullo_epi16(_mm512_and_si512(_mm512_srli_epi16(v, 4), nibble), upper),
                      _mm512_mullo_epi16(_mm512_srli_epi16(v, 12), upper), value_at(p, 32));
        }
    }
}

/* Columns: 4 of scales and minima, 16 of bits, d and dmin. */
static inline void put_q2_k(const __m512i (*r)[TILE_ROWS], const struct tile *t, int64_t to)
{
    const __m512i three = _mm512_set1_epi16(3), low = _mm512_set1_epi8(15);
    struct columns c[2];
    __m512i scale[4];
    for (int k = 0; k < 2; k++)
        transpose16(r[k], c[k].of[0]);
    put_scales(column(&c[1], 15), t, to);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = column(&c[0], k), least = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
        scale[k] = _mm512_and_si512(v, low);
        put_least(two_bytes(least, 0, 1), t, to, 2 * k);
        put_least(two_bytes(least, 2, 3), t, to, 2 * k + 1);
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) { /* of 16 bytes, which have bits of four groups of values */
        __m512i s[4];
        for (int j = 0; j < 4; j++) {
            int group = g / 2 * 8 + 2 * j + g % 2;
            s[j] = two_bytes(scale[group / 4], group % 4, group % 4);
        }
#pragma GCC unroll 4
        for (int n = 0; n < 4; n++) {
            int at = 4 + 4 * g + n;
            __m512i v = at < 16 ? column(&c[0], at) : column(&c[1], at - 5);
            int16_t *p = value_at(t->w + to * TILE_ROWS, 128 * (g / 2) + 16 * (g % 2) + 4 * n);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                __m512i first = _mm512_and_si512(_mm512_srli_epi16(v, (unsigned)(2 * j)), three);
                __m512i last = _mm512_and_si512(_mm512_srli_epi16(v, (unsigned)(8 + 2 * j)), three);
                put_pairs(_mm512_mullo_epi16(first, s[j]), _mm512_mullo_epi16(last, s[j]),
                          value_at(p, 32 * j));
            }
        }
    }
}

/* ---- any of them ---- */

static inline __attribute__((always_inline)) bool has_columns(enum quant_type type)
{
    return act_block(type) == 32 || type == QUANT_Q4_K || type == QUANT_Q2_K;
}

/* A block of a row to r[.][i], columns of scales as they are. */
static inline void load_q4_k(const uint8_t *row, int i, __m512i (*r)[TILE_ROWS])
{
    r[0][i] = in_columns(_mm512_loadu_si512(row), 4);
    r[1][i] = in_columns(_mm512_loadu_si512(row + 64), 0);
    r[2][i] = in_columns(_mm512_loadu_si512(row + 80), 0); /* the last four are new */
}

static inline void load_q2_k(const uint8_t *row, int i, __m512i (*r)[TILE_ROWS])
{
    __m512i last = _mm512_loadu_si512(row + 20);
    r[0][i] = in_columns(_mm512_loadu_si512(row), 4);
    r[1][i] = _mm512_mask_mov_epi32(in_columns(last, 0), 0x8000, last);
}

/* 256 values of all rows, from the value `at` on, to the value `to` of the tile. Rows that do not
 * exist are zeros, or have scales of zero. */
static inline __attribute__((always_inline)) void
unpack_columns(enum quant_type type, const struct qrows *w, int n_rows, int64_t at,
               const struct tile *t, int64_t to)
{
    int block = act_block(type), blocks = 256 / block;
    float *d = t->d + to / block * TILE_ROWS;
    const uint8_t *row = w->data + (uint64_t)(at / block) * block_bytes(type);
    __m512i r[4][TILE_ROWS];
    if (n_rows < TILE_ROWS) {
        memset(r, 0, sizeof(r));
        memset(d, 0, (size_t)blocks * TILE_ROWS * sizeof(*d));
    }
    for (int i = 0; i < n_rows; i++, row += w->row_bytes) {
        ask_rows_ahead(row, TILE_ROWS * w->row_bytes, (uint32_t)blocks * block_bytes(type));
        if (type == QUANT_Q4_K)
            load_q4_k(row, i, r);
        else if (type == QUANT_Q2_K)
            load_q2_k(row, i, r);
        else
            load_32(type, row, i, d, r);
    }
    if (type == QUANT_Q4_K)
        put_q4_k(r, t, to);
    else if (type == QUANT_Q2_K)
        put_q2_k(r, t, to);
    else
        put_32(type, r, t->w + to * TILE_ROWS);
}

#endif
