/* Blocks of the lattice formats as words in registers (expand_avx512.h). A row of the lattice is
 * eight or four values without signs; a block names rows, signs and scales.
 *
 * Tables are looked up in registers, which hold 64 bytes: rows of four as four tables of a byte. A
 * row of eight becomes two bytes, a bit of each for each value, and with a third byte, of signs, a
 * matrix of bits that is then turned, so that each value has a byte. Several blocks share the
 * lookups: to load the tables takes as long as to use them once. */
#ifndef SLUICE_OPS_AVX512_LATTICE_AVX512_H
#define SLUICE_OPS_AVX512_LATTICE_AVX512_H

#include "ops/avx512/words_avx512.h"

/* ---- scales and signs ---- */

/* 2 * s + 1 in both words of a dword */
static inline __m256i odd_scales(__m256i s)
{
    s = _mm256_or_si256(s, _mm256_slli_epi32(s, 16));
    return _mm256_or_si256(_mm256_add_epi32(s, s), _mm256_set1_epi32(0x00010001));
}

/* Scales as dwords of two words: of each 32 values, or of each 16. */
struct lattice_scales {
    _Alignas(64) uint32_t of[16];
};

static inline void put_scales_32(struct lattice_scales *to, __m256i s)
{
    _mm256_store_si256((__m256i *)(void *)to->of, odd_scales(s));
    KEEP_IN_MEMORY(to->of);
}

/* Eight bytes of two scales each, those of 16 values. */
static inline void put_scales_16(struct lattice_scales *to, const uint8_t *sc)
{
    const __m512i twice = _mm512_set_epi32(
        (int)0x80078007, (int)0x80078007, (int)0x80068006, (int)0x80068006, (int)0x80058005,
        (int)0x80058005, (int)0x80048004, (int)0x80048004, (int)0x80038003, (int)0x80038003,
        (int)0x80028002, (int)0x80028002, (int)0x80018001, (int)0x80018001, (int)0x80008000,
        (int)0x80008000);
    const __m512i nibble = _mm512_set1_epi64(0x0000000400000000), low = _mm512_set1_epi16(15);
    __m512i s = _mm512_set1_epi64((long long)avx2_qword(sc));
    s = _mm512_srlv_epi32(_mm512_shuffle_epi8(s, twice), nibble);
    s = _mm512_and_si512(s, low);
    _mm512_store_si512(to->of, _mm512_or_si512(_mm512_add_epi16(s, s), _mm512_set1_epi16(1)));
    KEEP_IN_MEMORY(to->of);
}

/* What the values 32 * j to 32 * j + 31 are multiplied by; size: of a group of values. */
static inline __attribute__((always_inline)) __m512i scale_of(const struct lattice_scales *s,
                                                              int size, int j)
{
    if (size == 32)
        return _mm512_set1_epi32((int)s->of[j]);
    return _mm512_mask_set1_epi32(_mm512_set1_epi32((int)s->of[2 * j]), 0xff00,
                                  (int)s->of[2 * j + 1]);
}

/* 256 bytes times scales, as words. */
static inline __attribute__((always_inline)) void
scaled_words(const __m512i *v, const struct lattice_scales *s, int size, __m512i *w)
{
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        __m256i half = j % 2 ? _mm512_extracti64x4_epi64(v[j / 2], 1)
                             : _mm512_castsi512_si256(v[j / 2]);
        w[j] = _mm512_mullo_epi16(_mm512_cvtepi8_epi16(half), scale_of(s, size, j));
    }
}

/* Fields of seven bits: the eighth is their parity. */
static inline __m256i signs_of_sevens(__m256i v)
{
    return _mm256_gf2p8affine_epi64_epi8(v, _mm256_set1_epi64x(0x010204081020407f), 0);
}

/* 256 values, negative where `signs` (32 bytes) has a bit. */
static inline void put_signs(__m512i *v, const uint8_t *signs)
{
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        v[k] = _mm512_mask_sub_epi8(v[k], avx2_qword(signs + 8 * k), _mm512_setzero_si512(), v[k]);
    }
}

/* ---- formats ---- */

static inline __attribute__((always_inline)) bool rows_of_eight(enum quant_type type)
{
    return type == QUANT_IQ2_XS || type == QUANT_IQ2_S || type == QUANT_IQ1_S;
}

static inline __attribute__((always_inline)) bool is_lattice(enum quant_type type)
{
    return rows_of_eight(type) || type == QUANT_IQ3_XXS || type == QUANT_IQ3_S;
}

/* Tables of a byte for each row: of values, or of codes. */
static inline __attribute__((always_inline)) int lattice_tables(enum quant_type type)
{
    return rows_of_eight(type) ? 2 : 4;
}

static inline __attribute__((always_inline)) int lattice_rows(enum quant_type type)
{
    return type == QUANT_IQ1_S   ? 2048
           : type == QUANT_IQ2_S ? 1024
           : type == QUANT_IQ3_XXS ? 256
                                   : 512;
}

static inline __attribute__((always_inline)) const uint8_t *lattice_table(enum quant_type type)
{
    return type == QUANT_IQ2_XS    ? quant_codes_iq2_xs[0]
           : type == QUANT_IQ2_S   ? quant_codes_iq2_s[0]
           : type == QUANT_IQ1_S   ? quant_codes_iq1_s[0]
           : type == QUANT_IQ3_XXS ? quant_planes_iq3_xxs[0]
                                   : quant_planes_iq3_s[0];
}

/* ---- lookups ---- */

/* Vectors that are looked up together, at most: tables are loaded once for all of them. */
#define LOOKED_UP 4

/* Numbers of 64 rows, in two bytes: low has all bits below the eighth, part those from it on. */
struct row_numbers {
    __m512i low[LOOKED_UP], part[LOOKED_UP];
};

/* to[v][t]: what the table t of a format has for the rows of vector v. */
static inline __attribute__((always_inline)) void
look_up_rows(enum quant_type type, const struct row_numbers *n, int vectors,
             __m512i (*to)[LOOKED_UP])
{
    const uint8_t *table = lattice_table(type);
    int rows = lattice_rows(type), tables = lattice_tables(type);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 4
        for (int t = 0; t < tables; t++)
            to[v][t] = n->low[v];
#pragma GCC unroll 16
    for (int k = 0; k < rows / 128; k++) {
        __m512i lower[4], upper[4];
#pragma GCC unroll 4
        for (int t = 0; t < tables; t++) {
            lower[t] = _mm512_loadu_si512(table + t * rows + 128 * k);
            upper[t] = _mm512_loadu_si512(table + t * rows + 128 * k + 64);
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            __mmask64 here = _mm512_cmpeq_epi8_mask(n->part[v], _mm512_set1_epi8((char)k));
#pragma GCC unroll 4
            for (int t = 0; t < tables; t++)
                to[v][t] = _mm512_mask2_permutex2var_epi8(lower[t], to[v][t], here, upper[t]);
        }
    }
}

/* ---- rows of eight ---- */

/* Bytes of eight, for four words each. */
static inline __m512i four_times(const uint8_t *p)
{
    const __m256i at = _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4,
                                        5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
    __m256i v = _mm256_set1_epi64x((long long)avx2_qword(p));
    return _mm512_cvtepu8_epi16(_mm256_shuffle_epi8(v, at));
}

/* The heads of 32 values of IQ1_S, for four words each. */
static inline __m512i heads_iq1_s(const uint8_t *src)
{
    const struct block_iq1_s *b = (const struct block_iq1_s *)(const void *)src;
    const __m512i four = _mm512_setr_epi64(0, 0x0001000100010001, 0x0002000200020002,
                                           0x0003000300030003, 0x0004000400040004,
                                           0x0005000500050005, 0x0006000600060006,
                                           0x0007000700070007);
    __m128i heads = _mm_loadu_si128((const __m128i *)(const void *)b->qh);
    return _mm512_permutexvar_epi16(four, _mm512_castsi128_si512(heads));
}

/* The numbers of a block's 32 rows; above the bits of a number there may be anything. */
static inline __attribute__((always_inline)) __m512i numbers_of(enum quant_type type,
                                                                const uint8_t *src)
{
    if (type == QUANT_IQ2_XS)
        return _mm512_loadu_si512(src + 2);
    __m512i low = words_of(src + 2), high;
    if (type == QUANT_IQ2_S) {
        const struct block_iq2_s *b = (const struct block_iq2_s *)(const void *)src;
        high = _mm512_sllv_epi16(four_times(b->qh), _mm512_set1_epi64(0x0002000400060008));
    } else {
        high = _mm512_srlv_epi16(heads_iq1_s(src), _mm512_set1_epi64(0x0009000600030000));
        high = _mm512_slli_epi16(high, 8);
    }
    return _mm512_ternarylogic_epi64(low, high, _mm512_set1_epi16((short)0xff00), 0xf8);
}

/* The codes of a block's rows: 32 bytes of low bits, then of high ones. Two blocks share a
 * vector. */
static inline __attribute__((always_inline)) void
codes_of_eights(enum quant_type type, const struct row_numbers *n, int blocks, __m512i *codes)
{
    __m512i bits[LOOKED_UP][LOOKED_UP];
    look_up_rows(type, n, blocks / 2, bits);
#pragma GCC unroll 8
    for (int i = 0; i < blocks; i++) {
        const __m512i *b = bits[i / 2];
        codes[i] = i % 2 ? _mm512_shuffle_i64x2(b[0], b[1], _MM_SHUFFLE(3, 2, 3, 2))
                         : _mm512_shuffle_i64x2(b[0], b[1], _MM_SHUFFLE(1, 0, 1, 0));
    }
}

/* Of the 32 rows of the blocks at a and b. */
static inline __attribute__((always_inline)) void
numbers_of_two(enum quant_type type, const uint8_t *a, const uint8_t *b, int v,
               struct row_numbers *n)
{
    const __m512i even = _mm512_set_epi8(
        126, 124, 122, 120, 118, 116, 114, 112, 110, 108, 106, 104, 102, 100, 98, 96, 94, 92, 90,
        88, 86, 84, 82, 80, 78, 76, 74, 72, 70, 68, 66, 64, 62, 60, 58, 56, 54, 52, 50, 48, 46, 44,
        42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512i first = numbers_of(type, a), second = numbers_of(type, b);
    n->low[v] = _mm512_permutex2var_epi8(first, even, second);
    __m512i part = _mm512_permutex2var_epi8(_mm512_srli_epi16(first, 7), even,
                                            _mm512_srli_epi16(second, 7));
    n->part[v] = _mm512_and_si512(part, _mm512_set1_epi8((char)(lattice_rows(type) / 128 - 1)));
}

/* A third bit of each value, 32 bytes: its sign, or which of two shifts it has. */
static inline __attribute__((always_inline)) __m256i third_bits(enum quant_type type,
                                                                const uint8_t *src)
{
    if (type == QUANT_IQ2_XS) {
        __m512i q = _mm512_loadu_si512(src + 2);
        return signs_of_sevens(_mm512_cvtepi16_epi8(_mm512_srli_epi16(q, 9)));
    }
    if (type == QUANT_IQ1_S)
        return _mm512_cvtepi16_epi8(_mm512_srai_epi16(heads_iq1_s(src), 15));
    const struct block_iq2_s *b = (const struct block_iq2_s *)(const void *)src;
    return _mm256_loadu_si256((const __m256i *)(const void *)b->signs);
}

/* The values of codes; of[c]: of a code with its third bit above it. */
static inline __attribute__((always_inline)) void values_of_codes(__m512i codes, __m256i third,
                                                                  uint64_t of, __m512i *v)
{
    /* of row j the bytes 7, 6 and 5 of a matrix: low bits, high bits, third ones */
    const __m512i first = _mm512_setr_epi64(
        0x0020400000000000, 0x0121410000000000, 0x0222420000000000, 0x0323430000000000,
        0x0424440000000000, 0x0525450000000000, 0x0626460000000000, 0x0727470000000000);
    /* byte j has the bit j of each byte of the matrix, its last byte's first */
    const __m512i turn = _mm512_set1_epi64((long long)0x8040201008040201);
    const __m512i value = _mm512_set1_epi64((long long)of);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i at = _mm512_add_epi8(first, _mm512_set1_epi8((char)(8 * k)));
        __m512i matrix = _mm512_permutex2var_epi8(codes, at, _mm512_castsi256_si512(third));
        v[k] = _mm512_permutexvar_epi8(_mm512_gf2p8affine_epi64_epi8(turn, matrix, 0), value);
    }
}

/* A block of which the codes are known. */
static inline __attribute__((always_inline)) void
expand_codes(enum quant_type type, const uint8_t *src, __m512i codes, __m512i *w, struct unit *u)
{
    struct lattice_scales s;
    __m512i v[4];
    u->d[0] = avx2_half(src) * 0.125f;
    if (type == QUANT_IQ1_S) { /* 8 * v + 1, 8 * v - 1 */
        const struct block_iq1_s *b = (const struct block_iq1_s *)(const void *)src;
        __m128i heads = _mm_loadu_si128((const __m128i *)(const void *)b->qh);
        __m256i scale = _mm256_srli_epi32(_mm256_cvtepu16_epi32(heads), 12);
        put_scales_32(&s, _mm256_and_si256(scale, _mm256_set1_epi32(7)));
        values_of_codes(codes, third_bits(type, src), 0x00f707ff00f90901, v);
        scaled_words(v, &s, 32, w);
        return;
    }
    put_scales_16(&s, src + (type == QUANT_IQ2_XS ? offsetof(struct block_iq2_xs, sc)
                                                  : offsetof(struct block_iq2_s, sc)));
    /* 8, 25, 43, then their opposites */
    values_of_codes(codes, third_bits(type, src), 0x00d5e7f8002b1908, v);
    scaled_words(v, &s, 16, w);
}

/* ---- rows of four ---- */

/* Four bytes after the other in another order: sixteen of them, of which each lane gets every
 * fourth. */
static inline __m512i every_fourth(__m512i v)
{
    const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(at, v);
}

/* Of the 64 rows of a block, by every_fourth. */
static inline __attribute__((always_inline)) void
numbers_of_fours(enum quant_type type, const uint8_t *src, int v, struct row_numbers *n)
{
    const __m512i one = _mm512_set1_epi8(1);
    n->low[v] = every_fourth(_mm512_loadu_si512(src + 2));
    n->part[v] = _mm512_maskz_mov_epi8(_mm512_movepi8_mask(n->low[v]), one);
    if (type == QUANT_IQ3_S) {
        const struct block_iq3_s *b = (const struct block_iq3_s *)(const void *)src;
        __m512i upper = every_fourth(_mm512_maskz_set1_epi8(avx2_qword(b->qh), 2));
        n->part[v] = _mm512_or_si512(n->part[v], upper);
    }
}

/* The values of rows whose numbers are in the order of every_fourth, in their own. */
static inline void values_of_fours(const __m512i *p, __m512i *v)
{
    __m512i a = _mm512_unpacklo_epi8(p[0], p[1]), b = _mm512_unpackhi_epi8(p[0], p[1]);
    __m512i c = _mm512_unpacklo_epi8(p[2], p[3]), d = _mm512_unpackhi_epi8(p[2], p[3]);
    v[0] = _mm512_unpacklo_epi16(a, c);
    v[1] = _mm512_unpackhi_epi16(a, c);
    v[2] = _mm512_unpacklo_epi16(b, d);
    v[3] = _mm512_unpackhi_epi16(b, d);
}

static inline void expand_iq3_xxs(const uint8_t *src, const __m512i *planes, __m512i *w,
                                  struct unit *u)
{
    const struct block_iq3_xxs *b = (const struct block_iq3_xxs *)(const void *)src;
    const __m512i sevens = _mm512_set1_epi64(0x150e0700); /* bits 0, 7, 14, 21 on */
    _Alignas(32) uint8_t signs[32];
    struct lattice_scales s;
    __m512i v[4];
    __m256i rest = _mm256_loadu_si256((const __m256i *)(const void *)b->ss);
    __m512i parts = _mm512_multishift_epi64_epi8(sevens, _mm512_cvtepu32_epi64(rest));
    _mm256_store_si256((__m256i *)(void *)signs, signs_of_sevens(_mm512_cvtepi64_epi32(parts)));
    KEEP_IN_MEMORY(signs);
    put_scales_32(&s, _mm256_srli_epi32(rest, 28));
    values_of_fours(planes, v);
    put_signs(v, signs);
    scaled_words(v, &s, 32, w);
    u->d[0] = avx2_half(src) * 0.25f;
}

static inline void expand_iq3_s(const uint8_t *src, const __m512i *planes, __m512i *w,
                                struct unit *u)
{
    const struct block_iq3_s *b = (const struct block_iq3_s *)(const void *)src;
    const __m256i nibble = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    struct lattice_scales s;
    __m512i v[4];
    __m256i sc = _mm256_srlv_epi32(_mm256_set1_epi32((int)avx2_dword(b->sc)), nibble);
    put_scales_32(&s, _mm256_and_si256(sc, _mm256_set1_epi32(15)));
    values_of_fours(planes, v);
    put_signs(v, b->signs);
    scaled_words(v, &s, 32, w);
    u->d[0] = avx2_half(src);
}

/* ---- blocks ---- */

/* Blocks that share lookups, at most. */
#define LATTICE_SHARE 8

static inline __attribute__((always_inline)) int lattice_share(enum quant_type type)
{
    return rows_of_eight(type) ? LATTICE_SHARE : LOOKED_UP;
}

/* What was looked up for some blocks: of rows of eight codes, else planes of values. */
struct looked_up {
    __m512i codes[LATTICE_SHARE], planes[LOOKED_UP][LOOKED_UP];
};

/* The first blocks that lie `stride` bytes apart: `share` of them, a constant up to lattice_share,
 * or n, if there are no more. */
static inline __attribute__((always_inline)) void
lattice_look_up(enum quant_type type, const uint8_t *src, uint64_t stride, int n, int share,
                struct looked_up *to)
{
    struct row_numbers numbers;
#pragma GCC unroll 8
    for (int i = 0; i < share; i++) {
        const uint8_t *at = src + (uint64_t)(i < n ? i : 0) * stride;
        if (!rows_of_eight(type))
            numbers_of_fours(type, at, i, &numbers);
        else if (i % 2 == 0)
            numbers_of_two(type, at, i + 1 < n ? at + stride : at, i / 2, &numbers);
    }
    if (rows_of_eight(type))
        codes_of_eights(type, &numbers, share, to->codes);
    else
        look_up_rows(type, &numbers, share, to->planes);
}

/* Block i of them, at src. */
static inline __attribute__((always_inline)) void
expand_looked_up(enum quant_type type, const uint8_t *src, const struct looked_up *l, int i,
                 __m512i *w, struct unit *u)
{
    if (type == QUANT_IQ3_XXS)
        expand_iq3_xxs(src, l->planes[i], w, u);
    else if (type == QUANT_IQ3_S)
        expand_iq3_s(src, l->planes[i], w, u);
    else
        expand_codes(type, src, l->codes[i], w, u);
}

#endif
