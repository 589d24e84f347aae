/* Blocks of quantised values as words in registers: w[j] holds the values 32 * j to 32 * j + 31.
 * The layouts are in formats/quant.h. Included by the leaves of AVX-512. */
#ifndef SLUICE_OPS_AVX512_EXPAND_AVX512_H
#define SLUICE_OPS_AVX512_EXPAND_AVX512_H

#include "ops/avx512/lattice_avx512.h"

/* The byte at place i (and i + step in the upper half) of each 16 bytes, in all words. */
static inline __m512i scale_words(__m512i bytes, int i, int step)
{
    __m512i at = _mm512_inserti64x4(_mm512_set1_epi16((short)(0x8000 | i)),
                                    _mm256_set1_epi16((short)(0x8000 | (i + step))), 1);
    return _mm512_shuffle_epi8(bytes, at);
}

static inline void expand_q4_k(const uint8_t *src, __m512i *w, struct unit *u)
{
    const __m512i low = _mm512_set1_epi16(15);
    __m512i scales = _mm512_broadcast_i64x4(avx2_q45_head(src, u));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = words_of(src + 16 + 32 * k);
        w[2 * k] = _mm512_mullo_epi16(_mm512_and_si512(v, low), scale_words(scales, 2 * k, 0));
        w[2 * k + 1] =
            _mm512_mullo_epi16(_mm512_srli_epi16(v, 4), scale_words(scales, 2 * k + 1, 0));
    }
}

/* The head of a block; returns the 16 scales, in each 16 bytes. */
static inline __m512i q2_k_head(const uint8_t *src, struct unit *u)
{
    __m128i sc = _mm_loadu_si128((const __m128i *)src), low = _mm_set1_epi8(15);
    uint16_t d, dmin;
    put16(u->m, _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(sc, 4), low)));
    memcpy(&d, src + 80, 2);
    memcpy(&dmin, src + 82, 2);
    u->d[0] = f16_avx2(d);
    u->dmin = -f16_avx2(dmin);
    return _mm512_broadcast_i32x4(_mm_and_si128(sc, low));
}

static inline void expand_q2_k(const uint8_t *src, __m512i *w, struct unit *u)
{
    const __m512i three = _mm512_set1_epi16(3);
    __m512i scales = q2_k_head(src, u);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i v = words_of(src + 16 + 32 * h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            w[4 * h + j] =
                _mm512_mullo_epi16(_mm512_and_si512(_mm512_srli_epi16(v, 2 * j), three),
                                   scale_words(scales, 8 * h + 2 * j, 1));
    }
}

/* The words of groups 2 * j and 2 * j + 1, sixteen times each. */
static inline __attribute__((always_inline)) __m512i of_groups(__m512i words, int j)
{
    const __m512i second = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(1), 1);
    return _mm512_permutexvar_epi16(_mm512_add_epi16(second, _mm512_set1_epi16((short)(2 * j))),
                                    words);
}

static inline void expand_q6_k(const uint8_t *src, __m512i *w, struct unit *u)
{
    const struct block_q6_k *b = (const struct block_q6_k *)(const void *)src;
    const __m512i low = _mm512_set1_epi16(15), bits = _mm512_set1_epi16(48);
    __m512i scales = _mm512_castsi256_si512(
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)b->sc)));
    u->d[0] = avx2_half(src + 208);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i high = _mm512_slli_epi16(words_of(b->qh + 32 * h), 4);
        __m512i l0 = words_of(b->ql + 64 * h), l1 = words_of(b->ql + 64 * h + 32);
        __m512i q[4] = {_mm512_and_si512(l0, low), _mm512_and_si512(l1, low),
                        _mm512_srli_epi16(l0, 4), _mm512_srli_epi16(l1, 4)};
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512i v = _mm512_or_si512(
                q[j], _mm512_and_si512(_mm512_srli_epi16(high, 2 * j), bits));
            w[4 * h + j] = _mm512_mullo_epi16(_mm512_sub_epi16(v, _mm512_set1_epi16(32)),
                                              of_groups(scales, 4 * h + j));
        }
    }
}

/* The scales of 16 values, six bits each: four in nibbles, two in the last four bytes. Loaded from
 * two bytes before them on: after the block there may be nothing. */
static inline __m512i q3_k_scales(const struct block_q3_k *b)
{
    const __m128i low_at = _mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
    const __m128i high_at = _mm_setr_epi8(10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11,
                                          12, 13);
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(b->sc - 2));
    __m128i low = _mm_srlv_epi64(_mm_shuffle_epi8(v, low_at), _mm_set_epi64x(4, 0));
    __m128i high = _mm_srlv_epi32(_mm_shuffle_epi8(v, high_at), _mm_setr_epi32(0, 2, 4, 6));
    v = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(15)),
                     _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4));
    return _mm512_castsi256_si512(_mm256_cvtepi8_epi16(_mm_sub_epi8(v, _mm_set1_epi8(32))));
}

static inline void expand_q3_k(const uint8_t *src, __m512i *w, struct unit *u)
{
    const struct block_q3_k *b = (const struct block_q3_k *)(const void *)src;
    const __m512i three = _mm512_set1_epi16(3), four = _mm512_set1_epi16(4);
    __m512i scales = q3_k_scales(b), high = _mm512_slli_epi16(words_of(b->hm), 2);
    u->d[0] = avx2_half(src + 108);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m512i v = words_of(b->qs + 32 * (j / 4));
        v = _mm512_and_si512(_mm512_srli_epi16(v, (unsigned)(2 * (j % 4))), three);
        v = _mm512_ternarylogic_epi64(v, _mm512_srli_epi16(high, (unsigned)j), four, 0xf8);
        w[j] = _mm512_mullo_epi16(_mm512_sub_epi16(v, four), of_groups(scales, j));
    }
}

static inline void expand_iq4_xs(const uint8_t *src, __m512i *w, struct unit *u)
{
    const struct block_iq4_xs *b = (const struct block_iq4_xs *)(const void *)src;
    const __m512i table = _mm512_cvtepi8_epi16(
        _mm256_broadcastsi128_si256(avx2_table(quant_iq4_values)));
    const __m256i each = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _Alignas(32) int32_t scale[8];
    uint16_t sh;
    memcpy(&sh, &b->sh, sizeof(sh));
    __m256i low = _mm256_set1_epi32((int)avx2_dword(b->sl)), high = _mm256_set1_epi32(sh);
    __m256i s = _mm256_srlv_epi32(low, _mm256_slli_epi32(each, 2));
    high = _mm256_srlv_epi32(high, _mm256_add_epi32(each, each));
    s = _mm256_or_si256(_mm256_and_si256(s, _mm256_set1_epi32(15)),
                        _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    s = _mm256_or_si256(s, _mm256_slli_epi32(s, 16));
    _mm256_store_si256((__m256i *)(void *)scale, _mm256_sub_epi16(s, _mm256_set1_epi16(32)));
    KEEP_IN_MEMORY(scale);
    u->d[0] = avx2_half(src);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i v = words_u8(b->qs + 16 * j); /* five bits of a word choose: a table twice */
        __m512i at = _mm512_inserti64x4(_mm512_castsi256_si512(v), _mm256_srli_epi16(v, 4), 1);
        w[j] = _mm512_mullo_epi16(_mm512_permutexvar_epi16(at, table),
                                  _mm512_set1_epi32(scale[j]));
    }
}

/* A block of 256 values; the head has d, and dmin and the minima where the format has them. The
 * formats without a function here go through memory, in halves: a load waits for the stores that it
 * covers. */
static inline __attribute__((always_inline)) void
expand_256(enum quant_type type, const uint8_t *src, __m512i *w, struct unit *u)
{
    switch (type) {
    case QUANT_Q2_K: expand_q2_k(src, w, u); return;
    case QUANT_Q3_K: expand_q3_k(src, w, u); return;
    case QUANT_Q4_K: expand_q4_k(src, w, u); return;
    case QUANT_Q6_K: expand_q6_k(src, w, u); return;
    case QUANT_IQ4_XS: expand_iq4_xs(src, w, u); return;
    default: break;
    }
    if (is_lattice(type)) {
        struct looked_up l;
        lattice_look_up(type, src, 0, 1, rows_of_eight(type) ? 2 : 1, &l);
        expand_looked_up(type, src, &l, 0, w, u);
        return;
    }
    avx2_unpack(type, src, 1, u);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const __m256i *half = (const __m256i *)(const void *)(u->w + 32 * j);
        w[j] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_load_si256(half)),
                                  _mm256_load_si256(half + 1), 1);
    }
}

/* 32 signed bytes of nibbles through a table, in the order of the values. */
static inline __m512i nibbles(const uint8_t *qs, __m128i table)
{
    __m128i v = _mm_loadu_si128((const __m128i *)qs), low = _mm_set1_epi8(15);
    __m128i a = _mm_shuffle_epi8(table, _mm_and_si128(v, low));
    __m128i b = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(v, 4), low));
    return _mm512_cvtepi8_epi16(_mm256_set_m128i(b, a));
}

/* The 32 values of a block of 32, and its scale. */
static inline __m512i expand_32(enum quant_type type, const uint8_t *src, float *d)
{
    uint16_t h;
    memcpy(&h, src, 2);
    *d = type == QUANT_MXFP4 ? e8m0_to_f32(src[0]) * 0.5f : f16_avx2(h);
    switch (type) {
    case QUANT_Q8_0:
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(src + 2)));
    case QUANT_MXFP4:
        return nibbles(src + 1, avx2_table(e2m1_doubled));
    case QUANT_IQ4_NL:
        return nibbles(src + 2, avx2_table(quant_iq4_values));
    default:
        return nibbles(src + 2,
                       _mm_setr_epi8(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7));
    }
}

/* The scales of 8 blocks of 32, `bytes` apart. */
static inline __m256 scales_f16(const uint8_t *src, int bytes)
{
    uint16_t h[8];
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++)
        memcpy(&h[k], src + k * bytes, 2);
    __m128i a = _mm_cvtsi32_si128(h[0] | h[1] << 16), b = _mm_cvtsi32_si128(h[2] | h[3] << 16);
    __m128i c = _mm_cvtsi32_si128(h[4] | h[5] << 16), d = _mm_cvtsi32_si128(h[6] | h[7] << 16);
    return _mm256_cvtph_ps(
        _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d)));
}

/* Half of 2^(e - 127): by its bits, with the subnormal numbers and NaN of the ends. */
static inline __m256 scales_mxfp4(const uint8_t *src)
{
    __m256i e = _mm256_setr_epi32(src[0], src[17], src[34], src[51], src[68], src[85], src[102],
                                  src[119]);
    __m256i bits = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __mmask8 tiny = _mm256_cmplt_epi32_mask(e, _mm256_set1_epi32(2));
    __mmask8 nan = _mm256_cmpeq_epi32_mask(e, _mm256_set1_epi32(255));
    bits = _mm256_mask_sllv_epi32(bits, tiny, _mm256_set1_epi32(0x00200000), e);
    return _mm256_castsi256_ps(_mm256_mask_mov_epi32(bits, nan, _mm256_set1_epi32(0x7fc00000)));
}

/* The values of 16 nibbles, as bytes. */
static inline __attribute__((always_inline)) __m128i nibble_values(enum quant_type type)
{
    if (type == QUANT_MXFP4)
        return avx2_table(e2m1_doubled);
    if (type == QUANT_IQ4_NL)
        return avx2_table(quant_iq4_values);
    return _mm_setr_epi8(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
}

/* 16 bytes of each of 4 blocks, `bytes` apart. */
static inline __m512i four_16(const uint8_t *qs, int bytes)
{
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)qs));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(qs + bytes)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(qs + 2 * bytes)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(qs + 3 * bytes)), 3);
}

/* The values of 16 nibbles as words, twice: five bits of a word choose. */
static inline __attribute__((always_inline)) __m512i nibble_words(enum quant_type type)
{
    return _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(nibble_values(type)));
}

/* 16 bytes at p, and 16 that are `step` after them. */
static inline __m256i two_16(const uint8_t *p, int step)
{
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)),
        _mm_loadu_si128((const __m128i *)(p + step)), 1);
}

/* 8 blocks of 32 in pairs, and their scales: the first 16 values of the blocks 2 * k and 2 * k + 1
 * in w[2 * k], the others in w[2 * k + 1]. */
static inline __attribute__((always_inline)) __m256
expand_32_pairs(enum quant_type type, const uint8_t *src, __m512i *w)
{
    const __m512i values = nibble_words(type);
    int bytes = (int)block_bytes(type), head = type == QUANT_MXFP4 ? 1 : 2;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const uint8_t *q = src + head + 2 * k * bytes;
        if (type == QUANT_Q8_0) {
            w[2 * k] = _mm512_cvtepi8_epi16(two_16(q, bytes));
            w[2 * k + 1] = _mm512_cvtepi8_epi16(two_16(q + 16, bytes));
        } else {
            __m512i v = _mm512_cvtepu8_epi16(two_16(q, bytes));
            w[2 * k] = _mm512_permutexvar_epi16(v, values);
            w[2 * k + 1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 4), values);
        }
    }
    return type == QUANT_MXFP4 ? scales_mxfp4(src) : scales_f16(src, bytes);
}

/* A block of 256, or the last of 32, less than 8: the scales are in u->d. */
static inline __attribute__((always_inline)) void
expand(enum quant_type type, const uint8_t *src, int blocks, __m512i *w, struct unit *u)
{
    uint32_t bytes = block_bytes(type);
    if (act_block(type) == 256) {
        expand_256(type, src, w, u);
        return;
    }
    for (int k = 0; k < blocks; k++)
        w[k] = expand_32(type, src + (uint32_t)k * bytes, &u->d[k]);
    for (int k = blocks; k < 8; k++) {
        w[k] = _mm512_setzero_si512();
        u->d[k] = 0;
    }
}

#endif
