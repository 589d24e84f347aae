/* Blocks of 256 quantised values as bytes in registers, for products of bytes (vpdpbusd): unsigned
 * weights, signed activations.
 *
 * w[k] holds of each 32 values the 8 from 8 * k on ("eights"), so that the four registers' products
 * of the same 32 values meet in the same two lanes. Signed values have 128 added. An activation row
 * (struct act) has in the place of 256 words first its bytes in this order, then
 *   int32_t times[16]   what the bytes of each 32 values are multiplied by, twice
 *   int32_t bias[8]     -128 times the sum of the bytes of each 32 values. */
#ifndef SLUICE_OPS_AVX512_BYTES_AVX512_H
#define SLUICE_OPS_AVX512_BYTES_AVX512_H

#include "ops/avx512/expand_avx512.h"

struct act_bytes {
    int8_t q[256];
    int32_t times[16], bias[8];
};
_Static_assert(sizeof(struct act_bytes) <= 256 * sizeof(int16_t), "in the place of 256 words");

static inline const struct act_bytes *act_bytes(const struct act *x, int64_t block)
{
    return (const struct act_bytes *)(const void *)(x->q + block * 256);
}

/* ---- words as planes ---- */

/* A block of words (ACT_256) is also kept as two planes of bytes, value = 8 * high + low: 256 low
 * bytes, then the high ones. Of each 64 values first four of the lower 32 come, then four of the
 * upper, then those of each after the next four; at last what that left out ("pairs"): a shift of
 * bits takes values of both 32 out of the same bytes of weights. */

/* 64 words, none of them beyond a byte, as bytes in that order. */
static inline __m512i in_pairs(__m512i first, __m512i last)
{
    /* each lane has eight of the first, then eight of the last */
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    return _mm512_permutexvar_epi32(at, _mm512_packs_epi16(first, last));
}

/* 64 words as bytes. */
static inline __m512i bytes_of(__m512i first, __m512i last)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(first)),
                              _mm512_cvtepi16_epi8(last), 1);
}

static inline void put_word_planes(const int16_t *q, int8_t *to)
{
    for (int k = 0; k < 4; k++) {
        __m512i high[2], low[2];
        for (int h = 0; h < 2; h++) {
            __m512i v = _mm512_loadu_si512(q + 64 * k + 32 * h);
            high[h] = _mm512_srai_epi16(v, 3);
            low[h] = _mm512_and_si512(v, _mm512_set1_epi16(7));
        }
        _mm512_storeu_si512(to + 64 * k, in_pairs(low[0], low[1]));
        _mm512_storeu_si512(to + 256 + 64 * k, in_pairs(high[0], high[1]));
    }
}

/* 32 bytes, in both halves. */
static inline __m512i twice_32(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* Of 32 bytes in either half of a register 64 bytes in the order of pairs: of a qword's first dword
 * eight bits from 8 * j + first on, then from 8 * j + last on, for j < 4; in the upper half of the
 * second dword. */
static inline __attribute__((always_inline)) __m512i pairs_at(int first, int last)
{
    uint64_t at[2] = {0, 0};
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < 8; j++) {
            int bit = 8 * (j % 4) + (j < 4 ? first : last) + 32 * half;
            at[half] |= (uint64_t)(bit & 63) << 8 * j;
        }
    long long lower = (long long)at[0], upper = (long long)at[1];
    return _mm512_setr_epi64(lower, lower, lower, lower, upper, upper, upper, upper);
}

/* Whether a format's products are of bytes, with an integer scale for each 32 values. */
static inline __attribute__((always_inline)) bool has_bytes(enum quant_type type)
{
    return act_kind(type) == ACT_256_BYTE;
}

/* v[k]: the values from 32 * k on, then those from 128 + 32 * k on. */
static inline void eights_of_halves(const __m512i *v, __m512i *w)
{
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const __m512i high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    __m512i a = _mm512_unpacklo_epi64(v[0], v[1]), b = _mm512_unpacklo_epi64(v[2], v[3]);
    __m512i c = _mm512_unpackhi_epi64(v[0], v[1]), d = _mm512_unpackhi_epi64(v[2], v[3]);
    w[0] = _mm512_permutex2var_epi64(a, low, b);
    w[1] = _mm512_permutex2var_epi64(c, low, d);
    w[2] = _mm512_permutex2var_epi64(a, high, b);
    w[3] = _mm512_permutex2var_epi64(c, high, d);
}

/* A table of 256 bytes, in registers. */
static inline __m512i look_up(const uint8_t *table, __m512i at)
{
    __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), at,
                                           _mm512_loadu_si512(table + 64));
    __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), at,
                                            _mm512_loadu_si512(table + 192));
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(at), high);
}

/* Of each 32 values, in 8 bytes: four entries of the lattice, then four times seven signs, of which
 * the eighth is the parity, and the scale.
 *
 * An entry becomes four bytes with a bit for each of its 8 values: 8 where their 32 are the second
 * of two, else 0; signs; high and low bits of the codes. As a matrix of bits, with another entry's
 * bytes before them, they are then turned, so that each value has a byte. */
struct iq2_xxs {
    __m512i even, odd;         /* the entries 2 and 0, 3 and 1 */
};

#define EVEN_BYTES 0x5555555555555555u
#define ODD_BYTES 0xaaaaaaaaaaaaaaaau

/* In the bytes 1, 3, 5 and 7 signs of the entries 2, 3, 0 and 1; in 4 and 6 which of two 32 they
 * have. */
static inline __m512i iq2_xxs_signs(__m512i v)
{
    const __m512i sevens = _mm512_set1_epi64(0x2700200035002e00); /* bits 46, 53, 32, 39 on */
    /* bits 0 to 6, and their sum */
    const __m512i parity = _mm512_set1_epi64(0x010204081020407f);
    const __m512i second = _mm512_broadcast_i32x4(_mm_set_epi64x(0x00ff00ff00000000, 0));
    return _mm512_mask_gf2p8affine_epi64_epi8(second, ODD_BYTES,
                                              _mm512_multishift_epi64_epi8(sevens, v), parity, 0);
}

/* Numbers of entries from the last of four on, twice each. */
static inline __m512i iq2_xxs_entries(__m512i v)
{
    const __m512i twice = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 3, 2, 2, 1, 1, 0, 0, 11, 11, 10,
                                                               10, 9, 9, 8, 8));
    return _mm512_shuffle_epi8(v, twice);
}

static inline struct iq2_xxs iq2_xxs_join(__m512i codes, __m512i signs)
{
    return (struct iq2_xxs){
        .even = _mm512_mask_mov_epi16(codes, 0x55555555, signs),
        .odd = _mm512_shldi_epi32(codes, signs, 16),
    };
}

static inline struct iq2_xxs iq2_xxs_parts(__m512i v)
{
    __m512i at = iq2_xxs_entries(v);
    __m512i codes = _mm512_mask_mov_epi8(look_up(quant_codes_iq2_xxs[1], at), ODD_BYTES,
                                         look_up(quant_codes_iq2_xxs[0], at));
    return iq2_xxs_join(codes, iq2_xxs_signs(v));
}

/* Of two blocks, with as many lookups as of one. */
static inline void iq2_xxs_two_parts(const __m512i v[2], struct iq2_xxs parts[2])
{
    __m512i at = _mm512_mask_mov_epi8(iq2_xxs_entries(v[0]), ODD_BYTES, iq2_xxs_entries(v[1]));
    __m512i high = look_up(quant_codes_iq2_xxs[1], at), low = look_up(quant_codes_iq2_xxs[0], at);
    __m512i first = _mm512_mask_mov_epi8(high, ODD_BYTES, _mm512_slli_epi16(low, 8));
    __m512i last = _mm512_mask_mov_epi8(low, EVEN_BYTES, _mm512_srli_epi16(high, 8));
    parts[0] = iq2_xxs_join(first, iq2_xxs_signs(v[0]));
    parts[1] = iq2_xxs_join(last, iq2_xxs_signs(v[1]));
}

/* Of 8 of each 32 values, from 8 * k on: the code in bits 0 and 1, the sign in bit 2; for k < 2 in
 * bit 3 whether those are the second of two 32, and 0 in bit 7; anything in the other bits. */
static inline __attribute__((always_inline)) __m512i iq2_xxs_index(const struct iq2_xxs *p, int k)
{
    /* byte j has the bit j of each byte of the matrix, its last byte's first */
    const __m512i turn = _mm512_set1_epi64((long long)0x8040201008040201);
    __m512i two = _mm512_gf2p8affine_epi64_epi8(turn, k % 2 ? p->odd : p->even, 0);
    return k < 2 ? two : _mm512_srli_epi16(two, 4);
}

/* A block's bytes from its parts; v: what follows its scale d. scale: of each 32 values, twice. */
static inline void bytes_of_parts(const struct iq2_xxs *parts, __m512i v, __m512i *w,
                                  __m512i *scale)
{
    /* 128 + the value of a code, then 128 - the value */
    const __m512i value = _mm512_set1_epi64((long long)0x8055677880ab9988);
    __m512i s = _mm512_srli_epi32(_mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0xf5), 28);
    *scale = _mm512_or_si512(_mm512_add_epi32(s, s), _mm512_set1_epi32(1));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        w[k] = _mm512_permutexvar_epi8(iq2_xxs_index(parts, k), value);
}

static inline float iq2_xxs_d(const uint8_t *src)
{
    return avx2_half(src) * 0.125f;
}

/* A block's bytes, the scales of each 32 values, twice, and its own. */
struct bytes_256 {
    __m512i w[4], scale;
    float d;
};

static inline void bytes_iq2_xxs(const uint8_t *src, struct bytes_256 *to)
{
    __m512i v = _mm512_loadu_si512(src + 2);
    struct iq2_xxs parts = iq2_xxs_parts(v);
    bytes_of_parts(&parts, v, to->w, &to->scale);
    to->d = iq2_xxs_d(src);
}

/* Two blocks, with as many lookups as one. */
static inline void bytes_iq2_xxs_two(const uint8_t *first, const uint8_t *second,
                                     struct bytes_256 to[2])
{
    __m512i v[2] = {_mm512_loadu_si512(first + 2), _mm512_loadu_si512(second + 2)};
    struct iq2_xxs parts[2];
    iq2_xxs_two_parts(v, parts);
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++)
        bytes_of_parts(&parts[k], v[k], to[k].w, &to[k].scale);
    to[0].d = iq2_xxs_d(first);
    to[1].d = iq2_xxs_d(second);
}

#endif
