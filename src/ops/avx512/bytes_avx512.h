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
static inline __m512i in_pairs(__m512i v)
{
    const __m512i at = _mm512_setr_epi32(0, 8, 2, 10, 4, 12, 6, 14, 1, 9, 3, 11, 5, 13, 7, 15);
    return _mm512_permutexvar_epi32(at, v);
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
        _mm512_storeu_si512(to + 64 * k, in_pairs(bytes_of(low[0], low[1])));
        _mm512_storeu_si512(to + 256 + 64 * k, in_pairs(bytes_of(high[0], high[1])));
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

/* quant_grid_iq2_xxs, of whose 8 values each has a code of two bits: the low bits of an entry, the
 * high ones. */
static const uint8_t iq2_xxs_low[256] = {
    0x00, 0x00, 0x03, 0x00, 0x00, 0x05, 0x06, 0x00, 0x00, 0x00, 0x00, 0x09, 0x0a, 0x0c, 0x0c, 0x09,
    0x0a, 0x00, 0x00, 0x00, 0x00, 0x11, 0x12, 0x14, 0x17, 0x18, 0x12, 0x14, 0x00, 0x00, 0x00, 0x00,
    0x21, 0x22, 0x24, 0x21, 0x22, 0x28, 0x28, 0x28, 0x28, 0x21, 0x22, 0x24, 0x22, 0x30, 0x30, 0x30,
    0x30, 0x3a, 0x39, 0x30, 0x35, 0x21, 0x24, 0x28, 0x22, 0x22, 0x00, 0x03, 0x00, 0x06, 0x00, 0x09,
    0x0a, 0x0c, 0x0c, 0x00, 0x12, 0x18, 0x00, 0x06, 0x41, 0x42, 0x44, 0x41, 0x48, 0x48, 0x42, 0x44,
    0x47, 0x50, 0x50, 0x50, 0x5c, 0x5c, 0x50, 0x42, 0x4b, 0x60, 0x60, 0x60, 0x63, 0x69, 0x60, 0x74,
    0x78, 0x60, 0x66, 0x41, 0x42, 0x44, 0x48, 0x41, 0x50, 0x53, 0x50, 0x4d, 0x00, 0x00, 0x00, 0x0a,
    0x09, 0x00, 0x00, 0x11, 0x18, 0x00, 0x00, 0x21, 0x22, 0x24, 0x28, 0x2e, 0x30, 0x39, 0x3a, 0x24,
    0x00, 0x00, 0x06, 0x0a, 0x81, 0x82, 0x84, 0x84, 0x81, 0x82, 0x88, 0x88, 0x8e, 0x88, 0x81, 0x82,
    0x84, 0x90, 0x90, 0x99, 0x90, 0x93, 0x81, 0x84, 0x88, 0x8e, 0x88, 0xa0, 0xa0, 0xa0, 0xa0, 0xa5,
    0xb4, 0xb2, 0xa0, 0x81, 0x82, 0x84, 0x88, 0x8b, 0x90, 0x9c, 0x99, 0x90, 0x8b, 0x84, 0xc0, 0xc0,
    0xc5, 0xc5, 0xc0, 0xc0, 0xc0, 0xd2, 0xd8, 0xd2, 0xc5, 0xe4, 0xe4, 0xf0, 0xe1, 0xee, 0xc0, 0xc5,
    0xc5, 0xca, 0xd8, 0xc0, 0x82, 0x84, 0x88, 0x88, 0x90, 0x9f, 0x84, 0x88, 0xa0, 0xa3, 0xb4, 0xb4,
    0xb2, 0x88, 0x00, 0x00, 0x00, 0x09, 0x00, 0x12, 0x14, 0x18, 0x05, 0x21, 0x22, 0x24, 0x27, 0x28,
    0x28, 0x30, 0x3a, 0x36, 0x21, 0x28, 0x28, 0x00, 0x12, 0x05, 0x42, 0x44, 0x42, 0x48, 0x41, 0x56,
    0x50, 0x4b, 0x60, 0x60, 0x6a, 0x7d, 0x41, 0x50, 0x00, 0x0c, 0x03, 0x11, 0x00, 0x24, 0x0c, 0x12,
};
static const uint8_t iq2_xxs_high[256] = {
    0x00, 0x01, 0x00, 0x02, 0x03, 0x00, 0x00, 0x04, 0x05, 0x06, 0x07, 0x00, 0x00, 0x00, 0x02, 0x04,
    0x04, 0x08, 0x09, 0x0b, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x0a, 0x10, 0x11, 0x15, 0x19,
    0x00, 0x00, 0x00, 0x04, 0x04, 0x00, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08, 0x0c, 0x00, 0x01, 0x02,
    0x04, 0x01, 0x06, 0x08, 0x08, 0x12, 0x10, 0x10, 0x18, 0x1c, 0x20, 0x20, 0x22, 0x20, 0x26, 0x20,
    0x20, 0x20, 0x21, 0x2a, 0x20, 0x20, 0x31, 0x30, 0x00, 0x00, 0x00, 0x04, 0x00, 0x04, 0x08, 0x08,
    0x08, 0x00, 0x02, 0x04, 0x00, 0x03, 0x08, 0x14, 0x10, 0x00, 0x02, 0x04, 0x04, 0x02, 0x08, 0x02,
    0x05, 0x10, 0x11, 0x20, 0x20, 0x20, 0x20, 0x28, 0x20, 0x20, 0x2c, 0x30, 0x40, 0x41, 0x43, 0x40,
    0x44, 0x48, 0x49, 0x46, 0x42, 0x50, 0x51, 0x40, 0x40, 0x40, 0x40, 0x41, 0x40, 0x40, 0x44, 0x58,
    0x62, 0x64, 0x68, 0x70, 0x00, 0x00, 0x00, 0x02, 0x04, 0x04, 0x00, 0x02, 0x01, 0x04, 0x08, 0x08,
    0x08, 0x00, 0x04, 0x04, 0x08, 0x08, 0x10, 0x10, 0x12, 0x11, 0x16, 0x00, 0x02, 0x04, 0x08, 0x0a,
    0x01, 0x04, 0x10, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x22, 0x24, 0x29, 0x30, 0x38, 0x00, 0x02,
    0x00, 0x02, 0x04, 0x08, 0x0a, 0x00, 0x01, 0x0c, 0x18, 0x08, 0x09, 0x03, 0x10, 0x10, 0x20, 0x20,
    0x22, 0x24, 0x20, 0x32, 0x40, 0x40, 0x40, 0x46, 0x40, 0x40, 0x52, 0x54, 0x40, 0x40, 0x40, 0x41,
    0x48, 0x61, 0x80, 0x81, 0x83, 0x80, 0x89, 0x80, 0x82, 0x80, 0x90, 0x80, 0x80, 0x80, 0x80, 0x80,
    0x84, 0x80, 0x81, 0x88, 0x92, 0x90, 0x94, 0xa1, 0xa0, 0xb0, 0x80, 0x80, 0x84, 0x80, 0x8c, 0x81,
    0x88, 0x90, 0x80, 0x85, 0x80, 0x80, 0xa8, 0xa4, 0xc1, 0xc0, 0xc8, 0xc2, 0xd0, 0xc2, 0xe0, 0xe0,
};

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
    __m512i codes = _mm512_mask_mov_epi8(look_up(iq2_xxs_high, at), ODD_BYTES,
                                         look_up(iq2_xxs_low, at));
    return iq2_xxs_join(codes, iq2_xxs_signs(v));
}

/* Of two blocks, with as many lookups as of one. */
static inline void iq2_xxs_two_parts(const __m512i v[2], struct iq2_xxs parts[2])
{
    __m512i at = _mm512_mask_mov_epi8(iq2_xxs_entries(v[0]), ODD_BYTES, iq2_xxs_entries(v[1]));
    __m512i high = look_up(iq2_xxs_high, at), low = look_up(iq2_xxs_low, at);
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
    uint16_t d;
    memcpy(&d, src, 2);
    return f16_avx2(d) * 0.125f;
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
