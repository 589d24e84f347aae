/* Unpacking of every format with AVX2; the layouts are in formats/quant.h. Included by the leaves
 * of AVX2 and AVX-512. */
#ifndef SLUICE_OPS_AVX2_UNPACK_AVX2_H
#define SLUICE_OPS_AVX2_UNPACK_AVX2_H

#include <immintrin.h>

#include "ops/cpu/leaf.h"
#include "ops/cpu/unpack_body.h"

/* Forgets what the compiler knows of this array: it would take values out of a register, one
 * permutation each, instead of broadcasting them from memory, which costs nothing. */
#define KEEP_IN_MEMORY(array) __asm__("" : "+m"(array))

/* Every quantised format and its block, of 32 values and of 256: one loop of a kernel for each. */
#define FORMATS_32(X)                                                                              \
    X(QUANT_Q8_0, block_q8_0)                                                                      \
    X(QUANT_Q4_0, block_q4_0)                                                                      \
    X(QUANT_IQ4_NL, block_iq4_nl)                                                                  \
    X(QUANT_MXFP4, block_mxfp4)
#define FORMATS_256(X)                                                                             \
    X(QUANT_Q2_K, block_q2_k)                                                                      \
    X(QUANT_Q3_K, block_q3_k)                                                                      \
    X(QUANT_Q4_K, block_q4_k)                                                                      \
    X(QUANT_Q5_K, block_q5_k)                                                                      \
    X(QUANT_Q6_K, block_q6_k)                                                                      \
    X(QUANT_IQ4_XS, block_iq4_xs)                                                                  \
    X(QUANT_IQ2_XXS, block_iq2_xxs)                                                                \
    X(QUANT_IQ2_XS, block_iq2_xs)                                                                  \
    X(QUANT_IQ2_S, block_iq2_s)                                                                    \
    X(QUANT_IQ3_XXS, block_iq3_xxs)                                                                \
    X(QUANT_IQ3_S, block_iq3_s)                                                                    \
    X(QUANT_IQ1_S, block_iq1_s)

/* As quant_info says, and a constant where the type is one. */
static inline __attribute__((always_inline)) uint32_t block_bytes(enum quant_type type)
{
#define BLOCK_BYTES(type, block)                                                                   \
    case type:                                                                                     \
        return sizeof(struct block);
    switch (type) {
        FORMATS_32(BLOCK_BYTES)
        FORMATS_256(BLOCK_BYTES)
    default:
        return quant_info(type)->block_bytes;
    }
}

/* 16 bytes as 16 words */
static inline __m256i words_u8(const uint8_t *p)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}

static inline void put16(int16_t *w, __m256i v)
{
    _mm256_store_si256((__m256i *)w, v);
}

static inline float f16_avx2(uint16_t h)
{
    return _cvtsh_ss(h);
}

/* What lies at p, which need not be aligned. */
static inline uint64_t avx2_qword(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint32_t avx2_dword(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline float avx2_half(const uint8_t *src)
{
    uint16_t d;
    memcpy(&d, src, sizeof(d));
    return f16_avx2(d);
}

static inline void avx2_q8_0(const uint8_t *src, int n_blocks, struct unit *u)
{
    for (int k = 0; k < n_blocks; k++) {
        const struct block_q8_0 *b = (const struct block_q8_0 *)(src + k * 34);
        uint16_t d;
        memcpy(&d, src + k * 34, 2);
        u->d[k] = f16_avx2(d);
        for (int h = 0; h < 2; h++)
            put16(u->w + 32 * k + 16 * h,
                  _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b->q + 16 * h))));
    }
}

/* Nibbles through a table of 16 bytes. */
static inline void avx2_nibble_block(const uint8_t *qs, __m128i table, int16_t *w)
{
    __m128i q = _mm_loadu_si128((const __m128i *)qs), low = _mm_set1_epi8(15);
    __m128i a = _mm_shuffle_epi8(table, _mm_and_si128(q, low));
    __m128i b = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(q, 4), low));
    put16(w, _mm256_cvtepi8_epi16(a));
    put16(w + 16, _mm256_cvtepi8_epi16(b));
}

static inline __m128i avx2_table(const int8_t *values)
{
    return _mm_loadu_si128((const __m128i *)values);
}

static inline void avx2_q4_0(const uint8_t *src, int n_blocks, struct unit *u)
{
    const __m128i table =
        _mm_setr_epi8(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    for (int k = 0; k < n_blocks; k++) {
        uint16_t d;
        memcpy(&d, src + k * 18, 2);
        u->d[k] = f16_avx2(d);
        avx2_nibble_block(src + k * 18 + 2, table, u->w + 32 * k);
    }
}

static inline void avx2_iq4_nl(const uint8_t *src, int n_blocks, struct unit *u)
{
    const __m128i table = avx2_table(quant_iq4_values);
    for (int k = 0; k < n_blocks; k++) {
        uint16_t d;
        memcpy(&d, src + k * 18, 2);
        u->d[k] = f16_avx2(d);
        avx2_nibble_block(src + k * 18 + 2, table, u->w + 32 * k);
    }
}

static inline void avx2_mxfp4(const uint8_t *src, int n_blocks, struct unit *u)
{
    const __m128i table = avx2_table(e2m1_doubled);
    for (int k = 0; k < n_blocks; k++) {
        u->d[k] = e8m0_to_f32(src[k * 17]) * 0.5f;
        avx2_nibble_block(src + k * 17 + 1, table, u->w + 32 * k);
    }
}

/* The byte at an even place i of a register of words, in all 16 words. */
static inline __m256i word_of(__m256i both_halves, int i)
{
    return _mm256_shuffle_epi8(both_halves, _mm256_set1_epi16((short)(0x8000 | i)));
}

static inline void avx2_q2_k(const uint8_t *src, struct unit *u)
{
    const struct block_q2_k *b = (const struct block_q2_k *)src;
    const __m256i three = _mm256_set1_epi16(3);
    __m128i sc = _mm_loadu_si128((const __m128i *)b->sc), low = _mm_set1_epi8(15);
    __m256i scales = _mm256_broadcastsi128_si256(_mm_and_si128(sc, low));
    put16(u->m, _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(sc, 4), low)));
    uint16_t d, dmin;
    memcpy(&d, src + 80, 2);
    memcpy(&dmin, src + 82, 2);
    u->d[0] = f16_avx2(d);
    u->dmin = -f16_avx2(dmin);
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++) {
        __m256i q = words_u8(b->qs + 16 * part);
        int16_t *w = u->w + 128 * (part / 2) + 16 * (part % 2);
        int g = 8 * (part / 2) + part % 2;
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m256i v = _mm256_and_si256(_mm256_srli_epi16(q, 2 * j), three);
            put16(w + 32 * j, _mm256_mullo_epi16(v, word_of(scales, g + 2 * j)));
        }
    }
}

/* The 8 scales of a block of Q4_K or Q5_K, then its 8 minima: those of the upper four have their
 * low bits in the last four bytes, their high ones above the first six of the lower four. */
static inline __m128i avx2_six_bits(const uint8_t *src)
{
    const __m128i low = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f);
    const __m128i high = _mm_setr_epi32(0, 0x30303030, 0, 0x30303030);
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)src);
    __m128i a = _mm_srlv_epi32(_mm_shuffle_epi32(v, _MM_SHUFFLE(3, 2, 3, 1)),
                               _mm_setr_epi32(0, 0, 0, 4));
    __m128i b = _mm_srli_epi32(_mm_shuffle_epi32(v, _MM_SHUFFLE(2, 2, 1, 1)), 2);
    return _mm_or_si128(_mm_and_si128(a, low), _mm_and_si128(b, high));
}

static inline __m256i avx2_q45_head(const uint8_t *src, struct unit *u)
{
    uint16_t d, dmin;
    memcpy(&d, src, 2);
    memcpy(&dmin, src + 2, 2);
    u->d[0] = f16_avx2(d);
    u->dmin = -f16_avx2(dmin);
    __m128i packed = avx2_six_bits(src), mins = _mm_unpackhi_epi8(packed, packed);
    put16(u->m, _mm256_cvtepu8_epi16(mins));
    return _mm256_broadcastsi128_si256(packed);
}

static inline void avx2_q4_k(const uint8_t *src, struct unit *u)
{
    const __m256i low = _mm256_set1_epi16(15);
    __m256i scales = avx2_q45_head(src, u);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m256i s0 = word_of(scales, 2 * k), s1 = word_of(scales, 2 * k + 1);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m256i q = words_u8(src + 16 + 32 * k + 16 * h);
            put16(u->w + 64 * k + 16 * h, _mm256_mullo_epi16(_mm256_and_si256(q, low), s0));
            put16(u->w + 64 * k + 32 + 16 * h, _mm256_mullo_epi16(_mm256_srli_epi16(q, 4), s1));
        }
    }
}

static inline void avx2_q5_k(const uint8_t *src, struct unit *u)
{
    const __m256i low = _mm256_set1_epi16(15), bit = _mm256_set1_epi16(16);
    __m256i scales = avx2_q45_head(src, u);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256i high = _mm256_slli_epi16(words_u8(src + 16 + 16 * h), 4);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m256i q = words_u8(src + 48 + 32 * k + 16 * h);
            __m256i a = _mm256_or_si256(_mm256_and_si256(q, low),
                                        _mm256_and_si256(_mm256_srli_epi16(high, 2 * k), bit));
            __m256i b =
                _mm256_or_si256(_mm256_srli_epi16(q, 4),
                                _mm256_and_si256(_mm256_srli_epi16(high, 2 * k + 1), bit));
            put16(u->w + 64 * k + 16 * h, _mm256_mullo_epi16(a, word_of(scales, 2 * k)));
            put16(u->w + 64 * k + 32 + 16 * h,
                  _mm256_mullo_epi16(b, word_of(scales, 2 * k + 1)));
        }
    }
}

static inline void avx2_q6_k(const uint8_t *src, struct unit *u)
{
    const struct block_q6_k *b = (const struct block_q6_k *)src;
    const __m256i low = _mm256_set1_epi16(15), bits = _mm256_set1_epi16(48);
    const __m256i offset = _mm256_set1_epi16(32);
    uint16_t d;
    memcpy(&d, src + 208, 2);
    u->d[0] = f16_avx2(d);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int half = i / 2, at = 16 * (i % 2);
        __m256i h = _mm256_slli_epi16(words_u8(b->qh + 32 * half + at), 4);
        __m256i l0 = words_u8(b->ql + 64 * half + at), l1 = words_u8(b->ql + 64 * half + 32 + at);
        __m256i q[4] = {_mm256_and_si256(l0, low), _mm256_and_si256(l1, low),
                        _mm256_srli_epi16(l0, 4), _mm256_srli_epi16(l1, 4)};
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++) {
            __m256i high = _mm256_and_si256(_mm256_srli_epi16(h, 2 * part), bits);
            __m256i v = _mm256_sub_epi16(_mm256_or_si256(q[part], high), offset);
            __m256i s = _mm256_set1_epi16(b->sc[8 * half + 2 * part + i % 2]);
            put16(u->w + 128 * half + 32 * part + at, _mm256_mullo_epi16(v, s));
        }
    }
}

static inline void avx2_iq4_xs(const uint8_t *src, struct unit *u)
{
    const struct block_iq4_xs *b = (const struct block_iq4_xs *)src;
    const __m128i table = avx2_table(quant_iq4_values), low = _mm_set1_epi8(15);
    uint16_t d, sh;
    memcpy(&d, src, 2);
    memcpy(&sh, src + 2, 2);
    u->d[0] = f16_avx2(d);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        int s = ((b->sl[k / 2] >> (4 * (k & 1)) & 15) | (sh >> (2 * k) & 3) << 4) - 32;
        __m256i scale = _mm256_set1_epi16((short)s);
        __m128i q = _mm_loadu_si128((const __m128i *)(b->qs + 16 * k));
        __m128i v0 = _mm_shuffle_epi8(table, _mm_and_si128(q, low));
        __m128i v1 = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(q, 4), low));
        put16(u->w + 32 * k, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(v0), scale));
        put16(u->w + 32 * k + 16, _mm256_mullo_epi16(_mm256_cvtepi8_epi16(v1), scale));
    }
}

/* Fields of seven bits, in bytes without their eighth, get it: the parity of the others. */
static inline __m256i avx2_parity(__m256i v)
{
    const __m256i parity =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0));
    const __m256i low = _mm256_set1_epi8(15);
    __m256i p = _mm256_shuffle_epi8(parity, _mm256_and_si256(v, low));
    p = _mm256_xor_si256(
        p, _mm256_shuffle_epi8(parity, _mm256_and_si256(_mm256_srli_epi16(v, 4), low)));
    return _mm256_or_si256(v, _mm256_slli_epi16(p, 7));
}

/* The signs (a bit for each of 32 values) and scales (in both halves of a word of 32 bits) that the
 * 8 groups of IQ2_XXS and IQ3_XXS keep in 32 bits each. */
static inline void avx2_signs_scales(__m256i rest, uint32_t *signs, uint32_t *scales)
{
    __m256i v = _mm256_and_si256(rest, _mm256_set1_epi32(0x7f));
    v = _mm256_or_si256(v, _mm256_and_si256(_mm256_slli_epi32(rest, 1),
                                            _mm256_set1_epi32(0x7f00)));
    v = _mm256_or_si256(v, _mm256_and_si256(_mm256_slli_epi32(rest, 2),
                                            _mm256_set1_epi32(0x7f0000)));
    v = _mm256_or_si256(v, _mm256_and_si256(_mm256_slli_epi32(rest, 3),
                                            _mm256_set1_epi32(0x7f000000)));
    _mm256_storeu_si256((__m256i *)signs, avx2_parity(v));
    __m256i s = _mm256_or_si256(_mm256_slli_epi32(_mm256_srli_epi32(rest, 28), 1),
                                _mm256_set1_epi32(1));
    _mm256_storeu_si256((__m256i *)scales, _mm256_or_si256(s, _mm256_slli_epi32(s, 16)));
}

/* -1 where signs has a bit, else 1. */
static inline __m256i factors_of(uint32_t signs)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                            2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i s = _mm256_shuffle_epi8(_mm256_set1_epi32((int)signs), spread);
    s = _mm256_cmpeq_epi8(_mm256_and_si256(s, bit), bit);
    return _mm256_or_si256(s, _mm256_set1_epi8(1));
}

/* Four grid rows of 8 bytes, negative where a sign bit is set, times a scale for each half. */
static inline void avx2_lattice(const uint64_t *g, uint32_t signs, const __m256i *scale,
                                int16_t *w)
{
    __m256i v = _mm256_set_epi64x((int64_t)g[3], (int64_t)g[2], (int64_t)g[1], (int64_t)g[0]);
    v = _mm256_sign_epi8(v, factors_of(signs));
    __m256i lo = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(v));
    __m256i hi = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(v, 1));
    put16(w, _mm256_mullo_epi16(lo, scale[0]));
    put16(w + 16, _mm256_mullo_epi16(hi, scale[1]));
}

/* The second halves of eight groups of eight bytes. */
static inline __m256i second_dwords(const uint8_t *p)
{
    __m256 a = _mm256_loadu_ps((const float *)(const void *)p);
    __m256 b = _mm256_loadu_ps((const float *)(const void *)(p + 32));
    return _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8);
}

static inline void avx2_iq2_xxs(const uint8_t *src, struct unit *u)
{
    const uint64_t *grid = quant_grid_iq2_xxs;
    uint32_t signs[8], scales[8];
    u->d[0] = avx2_half(src) * 0.125f;
    avx2_signs_scales(second_dwords(src + 2), signs, scales);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        const uint8_t *q = src + 2 + 8 * k;
        uint64_t g[4] = {grid[q[0]], grid[q[1]], grid[q[2]], grid[q[3]]};
        __m256i scale[2];
        scale[0] = scale[1] = _mm256_set1_epi32((int)scales[k]);
        avx2_lattice(g, signs[k], scale, u->w + 32 * k);
    }
}

/* A scale in each nibble, for 16 values. */
static inline void avx2_nibble_scales(uint8_t sc, __m256i *scale)
{
    scale[0] = _mm256_set1_epi16((short)(2 * (sc & 15) + 1));
    scale[1] = _mm256_set1_epi16((short)(2 * (sc >> 4) + 1));
}

static inline void avx2_iq2_xs(const uint8_t *src, struct unit *u)
{
    const uint64_t *grid = quant_grid_iq2_xs;
    uint32_t signs[8];
    __m256i a = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(src + 2)), 9);
    __m256i b = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(src + 34)), 9);
    a = _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8);
    _mm256_storeu_si256((__m256i *)signs, avx2_parity(a));
    u->d[0] = avx2_half(src) * 0.125f;
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        uint64_t q = avx2_qword(src + 2 + 8 * k);
        uint64_t g[4] = {grid[q & 511], grid[q >> 16 & 511], grid[q >> 32 & 511],
                         grid[q >> 48 & 511]};
        __m256i scale[2];
        avx2_nibble_scales(src[66 + k], scale);
        avx2_lattice(g, signs[k], scale, u->w + 32 * k);
    }
}

static inline void avx2_iq2_s(const uint8_t *src, struct unit *u)
{
    const uint64_t *grid = quant_grid_iq2_s;
    u->d[0] = avx2_half(src) * 0.125f;
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        uint32_t q = avx2_dword(src + 2 + 4 * k), high = src[66 + k];
        uint64_t g[4] = {grid[(q & 255) | (high << 8 & 0x300)],
                         grid[(q >> 8 & 255) | (high << 6 & 0x300)],
                         grid[(q >> 16 & 255) | (high << 4 & 0x300)],
                         grid[q >> 24 | (high << 2 & 0x300)]};
        __m256i scale[2];
        avx2_nibble_scales(src[74 + k], scale);
        avx2_lattice(g, avx2_dword(src + 34 + 4 * k), scale, u->w + 32 * k);
    }
}

static inline uint64_t avx2_two_fours(const uint32_t *grid, unsigned lower, unsigned upper)
{
    return grid[lower] | (uint64_t)grid[upper] << 32;
}

static inline void avx2_iq3_xxs(const uint8_t *src, struct unit *u)
{
    const uint32_t *grid = quant_grid_iq3_xxs;
    uint32_t signs[8], scales[8];
    u->d[0] = avx2_half(src) * 0.25f;
    avx2_signs_scales(_mm256_loadu_si256((const __m256i *)(src + 66)), signs, scales);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        const uint8_t *q = src + 2 + 8 * k;
        uint64_t g[4];
        __m256i scale[2];
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++)
            g[l] = avx2_two_fours(grid, q[2 * l], q[2 * l + 1]);
        scale[0] = scale[1] = _mm256_set1_epi32((int)scales[k]);
        avx2_lattice(g, signs[k], scale, u->w + 32 * k);
    }
}

static inline void avx2_iq3_s(const uint8_t *src, struct unit *u)
{
    const uint32_t *grid = quant_grid_iq3_s;
    u->d[0] = avx2_half(src);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        const uint8_t *q = src + 2 + 8 * k;
        uint32_t high = src[66 + k];
        uint64_t g[4];
        __m256i scale[2];
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++)
            g[l] = avx2_two_fours(grid, q[2 * l] | (high << (8 - 2 * l) & 256),
                                  q[2 * l + 1] | (high << (7 - 2 * l) & 256));
        scale[0] = scale[1] =
            _mm256_set1_epi16((short)(1 + 2 * (src[106 + k / 2] >> (4 * (k & 1)) & 15)));
        avx2_lattice(g, avx2_dword(src + 74 + 4 * k), scale, u->w + 32 * k);
    }
}

static inline void avx2_iq1_s(const uint8_t *src, struct unit *u)
{
    const uint64_t *grid = quant_grid_iq1_s;
    u->d[0] = avx2_half(src) * 0.125f;
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        uint32_t q = avx2_dword(src + 2 + 4 * k), head = src[34 + 2 * k] | src[35 + 2 * k] << 8;
        uint64_t g[4] = {grid[(q & 255) | (head << 8 & 0x700)],
                         grid[(q >> 8 & 255) | (head << 5 & 0x700)],
                         grid[(q >> 16 & 255) | (head << 2 & 0x700)],
                         grid[q >> 24 | (head >> 1 & 0x700)]};
        __m256i scale = _mm256_set1_epi16((short)(2 * (head >> 12 & 7) + 1));
        __m256i delta = _mm256_set1_epi16(head & 0x8000 ? -1 : 1);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m256i v = _mm256_cvtepi8_epi16(
                _mm_set_epi64x((int64_t)g[2 * h + 1], (int64_t)g[2 * h]));
            v = _mm256_add_epi16(_mm256_slli_epi16(v, 3), delta);
            put16(u->w + 32 * k + 16 * h, _mm256_mullo_epi16(v, scale));
        }
    }
}

static inline void avx2_q3_k(const uint8_t *src, struct unit *u)
{
    const struct block_q3_k *b = (const struct block_q3_k *)src;
    const __m256i three = _mm256_set1_epi16(3), four = _mm256_set1_epi16(4);
    uint16_t d;
    memcpy(&d, src + 108, 2);
    u->d[0] = f16_avx2(d);
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++) {
        int h = part / 2, t = part % 2;
        __m256i q = words_u8(b->qs + 16 * part);
        /* the third bits of this half, the one of its first row in bit 2 */
        __m256i high = _mm256_srli_epi16(_mm256_slli_epi16(words_u8(b->hm + 16 * t), 2), 4 * h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            int g = 8 * h + 2 * j + t;
            __m256i v = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(q, 2 * j), three),
                                        _mm256_and_si256(_mm256_srli_epi16(high, j), four));
            __m256i s = _mm256_set1_epi16((short)unpack_q3_k_scale(b->sc, g));
            put16(u->w + 16 * g, _mm256_mullo_epi16(_mm256_sub_epi16(v, four), s));
        }
    }
}

static inline void avx2_unpack(enum quant_type type, const uint8_t *src, int n_blocks,
                               struct unit *u)
{
    switch (type) {
    case QUANT_Q8_0: avx2_q8_0(src, n_blocks, u); return;
    case QUANT_Q4_0: avx2_q4_0(src, n_blocks, u); return;
    case QUANT_IQ4_NL: avx2_iq4_nl(src, n_blocks, u); return;
    case QUANT_MXFP4: avx2_mxfp4(src, n_blocks, u); return;
    case QUANT_Q2_K: avx2_q2_k(src, u); return;
    case QUANT_Q4_K: avx2_q4_k(src, u); return;
    case QUANT_Q5_K: avx2_q5_k(src, u); return;
    case QUANT_Q6_K: avx2_q6_k(src, u); return;
    case QUANT_IQ4_XS: avx2_iq4_xs(src, u); return;
    case QUANT_IQ2_XXS: avx2_iq2_xxs(src, u); return;
    case QUANT_IQ2_XS: avx2_iq2_xs(src, u); return;
    case QUANT_IQ2_S: avx2_iq2_s(src, u); return;
    case QUANT_IQ3_XXS: avx2_iq3_xxs(src, u); return;
    case QUANT_IQ3_S: avx2_iq3_s(src, u); return;
    case QUANT_IQ1_S: avx2_iq1_s(src, u); return;
    case QUANT_Q3_K: avx2_q3_k(src, u); return;
    default: SLUICE_ASSERT(!"a quantised type");
    }
}

#endif
