/* A block of 256 of 16 weight rows as tiles take it: signed bytes in four tiles of 64 a row, weight
 * = 128 * high + low (Q4_K: 8 * high + low), where high is missing in the formats of one plane.
 * Minima of one plane meet their sums in tiles too; with two planes all registers are taken, and
 * they do in vectors. Formats whose activations are bytes (ACT_256_BYTE) have the order "eights" of
 * bytes_avx512.h, the others that of the values. */
#ifndef SLUICE_OPS_AMX_PLANES_AMX_H
#define SLUICE_OPS_AMX_PLANES_AMX_H

#include "ops/avx512/bytes_avx512.h"

#define PAGE PANEL_ALIGN

/* What multiplies the products of a block of 256. */
struct heads {
    float d[TILE_ROWS], dmin[TILE_ROWS]; /* -dmin: added */
    _Alignas(16) int16_t least_32[TILE_ROWS][8]; /* two planes: minima of 32 values */
};

/* A block of 256. */
struct chunk {
    _Alignas(PAGE) int8_t low[4][TILE_ROWS][64], high[4][TILE_ROWS][64];
    int8_t least[TILE_ROWS][64];   /* 16 minima of a row, then zeros */
    struct heads *heads;
};

/* Two planes? */
static inline bool planes_two(enum quant_type type)
{
    return act_block(type) == 256 && type != QUANT_Q2_K;
}

/* Of the weights' high plane. */
static inline __attribute__((always_inline)) int planes_bits(enum quant_type type)
{
    return type == QUANT_Q4_K ? 3 : 7;
}

/* low and high byte of v, -16256 <= v < 16320: v = 128 * high + low, -64 <= low < 64 */
#define PLANE_HIGH(v) (((v) + 64 + 16384) / 128 - 128)
#define PLANE_LOW(v) ((v) - 128 * PLANE_HIGH(v))

static inline __m512i words_high(__m512i v)
{
    return _mm512_srai_epi16(_mm512_add_epi16(v, _mm512_set1_epi16(64)), 7);
}

static inline __m512i words_low(__m512i v, __m512i high)
{
    return _mm512_sub_epi16(v, _mm512_slli_epi16(high, 7));
}

static inline void put_bytes(int8_t *to, __m512i v)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi16_epi8(v));
}

static inline __attribute__((always_inline)) void put_head(enum quant_type type,
                                                           const struct unit *u, int i,
                                                           struct chunk *c)
{
    c->heads->d[i] = u->d[0];
    if (!type_has_min(type))
        return;
    c->heads->dmin[i] = u->dmin;
    __m256i m = _mm256_load_si256((const __m256i *)(const void *)u->m);
    if (planes_two(type)) /* neighbours of 16 values have the same */
        _mm_store_si128((__m128i *)(void *)c->heads->least_32[i], _mm256_cvtepi32_epi16(m));
    else
        _mm_storeu_si128((__m128i *)(void *)c->least[i], _mm256_cvtepi16_epi8(m));
}

/* Any format, by way of words. */
static inline __attribute__((always_inline)) void
planes_words(enum quant_type type, const uint8_t *src, int i, struct chunk *c)
{
    struct unit u;
    __m512i w[8];
    expand_256(type, src, w, &u);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        __m512i high = words_high(w[k]);
        put_bytes(c->high[k / 2][i] + k % 2 * 32, high);
        put_bytes(c->low[k / 2][i] + k % 2 * 32, words_low(w[k], high));
    }
    put_head(type, &u, i, c);
}

/* In each 16 bytes, of a group of 16 values, the words 0, s, 2 * s, 3 * s of its scale s: products
 * of all values of two bits. */
static inline __m512i q2_products(__m512i scales, int k)
{
    const __m512i times = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0,
                                                               0, 0, 0, 0));
    __m512i group = _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm256_set_m128i(_mm_set1_epi8((char)(2 * k + 1)),
                                                _mm_set1_epi8((char)(2 * k)))),
        _mm256_set_m128i(_mm_set1_epi8((char)(2 * k + 9)), _mm_set1_epi8((char)(2 * k + 8))), 1);
    return _mm512_maddubs_epi16(_mm512_shuffle_epi8(scales, group), times);
}

static inline void planes_q2_k(const uint8_t *src, int i, struct chunk *c)
{
    const __m512i twice = _mm512_set1_epi8(6);
    struct unit u;
    __m512i scales = q2_k_head(src, &u), v = _mm512_loadu_si512(src + 16);
    __m512i at[4] = {_mm512_slli_epi16(v, 1), _mm512_srli_epi16(v, 1), _mm512_srli_epi16(v, 3),
                     _mm512_srli_epi16(v, 5)};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* values 32 * k on, then those from 128 + 32 * k on */
        __m512i x = _mm512_shuffle_epi8(q2_products(scales, k), _mm512_and_si512(at[k], twice));
        _mm256_storeu_si256((__m256i *)(void *)(c->low[k / 2][i] + k % 2 * 32),
                            _mm512_castsi512_si256(x));
        _mm256_storeu_si256((__m256i *)(void *)(c->low[2 + k / 2][i] + k % 2 * 32),
                            _mm512_extracti64x4_epi64(x, 1));
    }
    put_head(QUANT_Q2_K, &u, i, c);
}

/* The dwords at p and after it, each in half of a register. */
static inline __m512i two_dwords(const int32_t *p)
{
    return _mm512_mask_set1_epi32(_mm512_set1_epi32(p[0]), 0xff00, p[1]);
}

/* A scale is 8 * upper + lower, and either times a nibble is below 128: words of two nibbles are
 * multiplied at once. */
static inline void planes_q4_k(const uint8_t *src, int i, struct chunk *c)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i shift = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi64x(4), 1);
    /* a scale in both words of a dword */
    const __m256i twice = _mm256_setr_epi32(
        (int)0x80008000, (int)0x80018001, (int)0x80028002, (int)0x80038003, (int)0x80048004,
        (int)0x80058005, (int)0x80068006, (int)0x80078007);
    _Alignas(32) int32_t lower[8], upper[8];
    __m128i scales = avx2_six_bits(src);
    __m256i s = _mm256_broadcastsi128_si256(scales);
    s = _mm256_shuffle_epi8(s, twice);
    _mm256_store_si256((__m256i *)lower, _mm256_and_si256(s, _mm256_set1_epi16(7)));
    _mm256_store_si256((__m256i *)upper, _mm256_srli_epi16(s, 3));
    KEEP_IN_MEMORY(lower);
    KEEP_IN_MEMORY(upper);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m256i qs = _mm256_loadu_si256((const __m256i *)(const void *)(src + 16 + 32 * k));
        __m512i v = _mm512_srlv_epi64(_mm512_broadcast_i64x4(qs), shift);
        v = _mm512_and_si512(v, nibble);
        _mm512_store_si512(c->low[k][i], _mm512_mullo_epi16(v, two_dwords(lower + 2 * k)));
        _mm512_store_si512(c->high[k][i], _mm512_mullo_epi16(v, two_dwords(upper + 2 * k)));
    }
    uint32_t heads;
    memcpy(&heads, src, sizeof(heads));
    __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)heads));
    c->heads->d[i] = _mm_cvtss_f32(d);
    c->heads->dmin[i] = -_mm_cvtss_f32(_mm_movehdup_ps(d));
    _mm_store_si128((__m128i *)(void *)c->heads->least_32[i],
                    _mm_cvtepu8_epi16(_mm_unpackhi_epi64(scales, scales)));
}

/* 2 * s + 1 times the values of the lattice's two bits, then times their opposites. */
#define IQ2_HALF(part, s, sign)                                                                    \
    part((sign) * 8 * (2 * (s) + 1)), part((sign) * 25 * (2 * (s) + 1)),                           \
        part((sign) * 43 * (2 * (s) + 1)), 0
#define IQ2_ROW(part, s) {IQ2_HALF(part, s, 1), IQ2_HALF(part, s, -1)}
#define IQ2_TABLE(part)                                                                            \
    {IQ2_ROW(part, 0), IQ2_ROW(part, 1), IQ2_ROW(part, 2), IQ2_ROW(part, 3), IQ2_ROW(part, 4),     \
     IQ2_ROW(part, 5), IQ2_ROW(part, 6), IQ2_ROW(part, 7), IQ2_ROW(part, 8), IQ2_ROW(part, 9),     \
     IQ2_ROW(part, 10), IQ2_ROW(part, 11), IQ2_ROW(part, 12), IQ2_ROW(part, 13),                   \
     IQ2_ROW(part, 14), IQ2_ROW(part, 15)}
static const _Alignas(64) int8_t iq2_low[16][8] = IQ2_TABLE(PLANE_LOW);
static const _Alignas(64) int8_t iq2_high[16][8] = IQ2_TABLE(PLANE_HIGH);

/* The rows of a table that the qwords of `at` name. */
static inline __m512i rows_of(const int8_t (*table)[8], __m512i at)
{
    return _mm512_permutex2var_epi64(_mm512_load_si512(table), at, _mm512_load_si512(table + 8));
}

/* A value is looked up by its code and sign, in the rows of the scales that its 16 bytes have. */
static inline void planes_of_parts(const struct iq2_xxs *parts, __m512i v, int i, struct chunk *c)
{
    const __m512i low_bits = _mm512_set1_epi8(7);
    const __m512i odd = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0808080808080808, 0));
    __m512i scale = _mm512_srli_epi64(v, 60);
    __m512i low = rows_of(iq2_low, scale), high = rows_of(iq2_high, scale);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i at = iq2_xxs_index(parts, k);
        at = _mm512_ternarylogic_epi64(at, low_bits, odd, 0xea); /* at & 7 | odd */
        _mm512_store_si512(c->low[k][i], _mm512_shuffle_epi8(low, at));
        _mm512_store_si512(c->high[k][i], _mm512_shuffle_epi8(high, at));
    }
}

static inline void planes_iq2_xxs(const uint8_t *src, int i, struct chunk *c)
{
    __m512i v = _mm512_loadu_si512(src + 2);
    struct iq2_xxs parts = iq2_xxs_parts(v);
    planes_of_parts(&parts, v, i, c);
    c->heads->d[i] = iq2_xxs_d(src);
}

/* Of the rows i and i + 1, which begin at src[0] and src[1]. */
static inline void planes_iq2_xxs_two(const uint8_t *const src[2], int i, struct chunk *c)
{
    __m512i v[2] = {_mm512_loadu_si512(src[0] + 2), _mm512_loadu_si512(src[1] + 2)};
    struct iq2_xxs parts[2];
    iq2_xxs_two_parts(v, parts);
    for (int k = 0; k < 2; k++) {
        planes_of_parts(&parts[k], v[k], i + k, c);
        c->heads->d[i + k] = iq2_xxs_d(src[k]);
    }
}

#endif
