/* A block of 256 of 16 weight rows as tiles take it: signed bytes in four tiles of 64 a row, weight
 * = 128 * high + low (Q4_K: 8 * high + low), where high is missing in the formats of one plane.
 * Minima of one plane meet their sums in tiles too, which takes two registers; with two planes one
 * is free at most, and they do in vectors.
 *
 * Formats whose activations are bytes (ACT_256_BYTE) have the order "eights" of bytes_avx512.h, the
 * others "pairs". */
#ifndef SLUICE_OPS_AMX_PLANES_AMX_H
#define SLUICE_OPS_AMX_PLANES_AMX_H

#include "ops/avx512/bytes_avx512.h"

#define PAGE PANEL_ALIGN

/* What multiplies the products of a block of 256. */
struct heads {
    _Alignas(64) float d[TILE_ROWS];
    float dmin[TILE_ROWS];         /* -dmin: added */
    uint32_t half[TILE_ROWS];      /* d, above it dmin, before they are widened (widen_heads) */
    int16_t least_32[TILE_ROWS][8]; /* two planes: minima of 32 values */
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
        _mm_storeu_si128((__m128i *)(void *)c->heads->least_32[i], _mm256_cvtepi32_epi16(m));
    else
        _mm_storeu_si128((__m128i *)(void *)c->least[i], _mm256_cvtepi16_epi8(m));
}

/* Whether rows leave d and dmin as halves, for all of them to be widened at once. */
static inline __attribute__((always_inline)) bool heads_half(enum quant_type type)
{
    return type == QUANT_IQ2_XXS || type == QUANT_Q2_K || type == QUANT_Q4_K;
}

static inline __m512 widened(__m512i halves)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(halves));
}

static inline __attribute__((always_inline)) void widen_heads(enum quant_type type,
                                                              struct heads *h)
{
    __m512i half = _mm512_load_si512(h->half);
    __m512 d = widened(half);
    if (type == QUANT_IQ2_XXS)
        d = _mm512_mul_ps(d, _mm512_set1_ps(0.125f));
    _mm512_store_ps(h->d, d);
    if (type_has_min(type))
        _mm512_store_ps(h->dmin, _mm512_xor_ps(widened(_mm512_srli_epi32(half, 16)),
                                               _mm512_set1_ps(-0.0f)));
}

/* Any format, by way of words; u: its head. */
static inline __attribute__((always_inline)) void
planes_of_words(enum quant_type type, const __m512i *w, const struct unit *u, int i,
                struct chunk *c)
{
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i high[2], low[2];
        for (int h = 0; h < 2; h++) {
            __m512i v = _mm512_add_epi16(w[2 * k + h], _mm512_set1_epi16(64));
            high[h] = _mm512_srai_epi16(v, 7);
            low[h] = _mm512_sub_epi16(_mm512_and_si512(v, _mm512_set1_epi16(127)),
                                      _mm512_set1_epi16(64));
        }
        _mm512_store_si512(c->high[k][i], in_pairs(high[0], high[1]));
        _mm512_store_si512(c->low[k][i], in_pairs(low[0], low[1]));
    }
    put_head(type, u, i, c);
}

static inline __attribute__((always_inline)) void
planes_words(enum quant_type type, const uint8_t *src, int i, struct chunk *c)
{
    struct unit u;
    __m512i w[8];
    expand_256(type, src, w, &u);
    planes_of_words(type, w, &u, i, c);
}

/* Row i of a lattice; l: what was looked up for it and its neighbours. */
static inline __attribute__((always_inline)) void
planes_lattice(enum quant_type type, const uint8_t *src, const struct looked_up *l, int i,
               struct chunk *c)
{
    struct unit u;
    __m512i w[8];
    expand_looked_up(type, src, l, i % lattice_share(type), w, &u);
    planes_of_words(type, w, &u, i, c);
}

/* Of the 64 values of tile k: in each 16 bytes, where values of two groups of 16 meet, the words 0,
 * s, 2 * s, 3 * s of the scale s of either: products of all values of two bits. */
static inline __m512i q2_products(__m512i scales, int k)
{
    const __m512i times = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 1, 0, 2, 0, 3, 0, 0, 0, 1, 0,
                                                               2, 0, 3, 0));
    const __m512i groups = _mm512_broadcast_i64x4(
        _mm256_setr_epi64x(0, 0x0202020202020202, 0x0101010101010101, 0x0303030303030303));
    __m512i group = _mm512_add_epi8(groups, _mm512_set1_epi8((char)(4 * k)));
    return _mm512_maddubs_epi16(_mm512_shuffle_epi8(scales, group), times);
}

static inline void planes_q2_k(const uint8_t *src, int i, struct chunk *c)
{
    const __m512i twice = _mm512_set1_epi8(6), second = _mm512_set1_epi64(0x0808080800000000);
    __m512i sc = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)src));
    __m512i scales = _mm512_and_si512(sc, _mm512_set1_epi8(15));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        /* of each 2 bits, from the one before them on */
        __m512i at = _mm512_multishift_epi64_epi8(k % 2 ? pairs_at(3, 5) : pairs_at(-1, 1),
                                                  twice_32(src + 16 + 32 * (k / 2)));
        at = _mm512_ternarylogic_epi64(at, twice, second, 0xea); /* at & 6 | second */
        _mm512_store_si512(c->low[k][i], _mm512_shuffle_epi8(q2_products(scales, k), at));
    }
    __m128i least = _mm_srli_epi16(_mm512_castsi512_si128(sc), 4);
    _mm_storeu_si128((__m128i *)(void *)c->least[i], _mm_and_si128(least, _mm_set1_epi8(15)));
    memcpy(&c->heads->half[i], src + 80, sizeof(c->heads->half[i]));
}

/* Scales of 16 rows of Q4_K, each as two words: 8 * upper + lower. */
struct scales_q4_k {
    _Alignas(64) uint32_t lower[TILE_ROWS][8], upper[TILE_ROWS][8];
};

/* Scales and minima of four blocks of Q4_K, in 16 bytes each: avx2_six_bits. */
static inline __m512i six_bits(__m512i v)
{
    const __m512i low = _mm512_broadcast_i32x4(_mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f,
                                                              0x0f0f0f0f));
    const __m512i high = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    const __m512i shift = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4));
    __m512i a = _mm512_srlv_epi32(_mm512_shuffle_epi32(v, _MM_SHUFFLE(3, 2, 3, 1)), shift);
    __m512i b = _mm512_srli_epi32(_mm512_shuffle_epi32(v, _MM_SHUFFLE(2, 2, 1, 1)), 2);
    return _mm512_or_si512(_mm512_and_si512(a, low), _mm512_and_si512(b, high));
}

/* Heads of the rows [i, i + 4) of n, of which the last stands for those that do not exist. */
static inline void heads_q4_k(const uint8_t *src, uint64_t row_bytes, int i, int n,
                              struct heads *h, struct scales_q4_k *s)
{
    /* a scale in both words of a dword, of a row's 16 bytes in two lanes */
    const __m512i twice = _mm512_broadcast_i64x4(_mm256_setr_epi32(
        (int)0x80008000, (int)0x80018001, (int)0x80028002, (int)0x80038003, (int)0x80048004,
        (int)0x80058005, (int)0x80068006, (int)0x80078007));
    __m128i v[4];
    for (int k = 0; k < 4; k++) {
        const uint8_t *row = src + (uint64_t)(i + k < n ? i + k : n - 1) * row_bytes;
        v[k] = _mm_loadu_si128((const __m128i *)(const void *)row);
        memcpy(&h->half[i + k], row, sizeof(h->half[i + k]));
    }
    __m512i all = _mm512_inserti32x4(_mm512_castsi128_si512(v[0]), v[1], 1);
    all = six_bits(_mm512_inserti32x4(_mm512_inserti32x4(all, v[2], 2), v[3], 3));
    _mm512_storeu_si512(h->least_32[i], _mm512_unpackhi_epi8(all, _mm512_setzero_si512()));
    for (int k = 0; k < 2; k++) {
        __m512i two = k ? _mm512_shuffle_i64x2(all, all, _MM_SHUFFLE(3, 3, 2, 2))
                        : _mm512_shuffle_i64x2(all, all, _MM_SHUFFLE(1, 1, 0, 0));
        two = _mm512_shuffle_epi8(two, twice);
        _mm512_store_si512(s->lower[i + 2 * k], _mm512_and_si512(two, _mm512_set1_epi16(7)));
        _mm512_store_si512(s->upper[i + 2 * k], _mm512_srli_epi16(two, 3));
    }
}

/* The dwords at p and after it, in each qword. */
static inline __m512i two_dwords(const uint32_t *p)
{
    uint64_t both;
    memcpy(&both, p, sizeof(both));
    return _mm512_set1_epi64((long long)both);
}

/* Either part of a scale times a nibble is below 128: words of two nibbles are multiplied at
 * once. */
static inline void planes_q4_k(const uint8_t *src, const struct scales_q4_k *s, int i,
                               struct chunk *c)
{
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = _mm512_multishift_epi64_epi8(pairs_at(0, 4), twice_32(src + 16 + 32 * k));
        v = _mm512_and_si512(v, _mm512_set1_epi8(15));
        _mm512_store_si512(c->low[k][i], _mm512_mullo_epi16(v, two_dwords(s->lower[i] + 2 * k)));
        _mm512_store_si512(c->high[k][i], _mm512_mullo_epi16(v, two_dwords(s->upper[i] + 2 * k)));
    }
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
        if (k >= 2)
            at = _mm512_ternarylogic_epi64(at, low_bits, odd, 0xea); /* at & 7 | odd */
        _mm512_store_si512(c->low[k][i], _mm512_shuffle_epi8(low, at));
        _mm512_store_si512(c->high[k][i], _mm512_shuffle_epi8(high, at));
    }
}

static inline void put_half(const uint8_t *src, int i, struct chunk *c)
{
    uint16_t half;
    memcpy(&half, src, sizeof(half));
    c->heads->half[i] = half;
}

static inline void planes_iq2_xxs(const uint8_t *src, int i, struct chunk *c)
{
    __m512i v = _mm512_loadu_si512(src + 2);
    struct iq2_xxs parts = iq2_xxs_parts(v);
    planes_of_parts(&parts, v, i, c);
    put_half(src, i, c);
}

/* Of the rows i and i + 1, which begin at src[0] and src[1]. */
static inline void planes_iq2_xxs_two(const uint8_t *const src[2], int i, struct chunk *c)
{
    __m512i v[2] = {_mm512_loadu_si512(src[0] + 2), _mm512_loadu_si512(src[1] + 2)};
    struct iq2_xxs parts[2];
    iq2_xxs_two_parts(v, parts);
    for (int k = 0; k < 2; k++) {
        planes_of_parts(&parts[k], v[k], i + k, c);
        put_half(src[k], i + k, c);
    }
}

#endif
