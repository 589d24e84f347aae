/* Weights in blocks of 32 as bfloat16, as tiles take them: a block of a row is one step.
 *
 * A value is the product of its scale and its number, rounded (docs/NUMERICS.md). Where numbers are
 * nibbles, the products are computed and rounded as a table, and a step has the even values of the
 * lower 16 first, then those of the upper 16, then the odd ones of both. Panels have the same
 * order. */
#ifndef SLUICE_OPS_AMX_HALVES_AMX_H
#define SLUICE_OPS_AMX_HALVES_AMX_H

#include "ops/avx512/expand_avx512.h"

#define CHUNK 128
#define CHUNK_ROWS 32
#define STEP 32
#define CHUNK_STEPS (CHUNK / STEP)
#define CHUNK_BLOCKS (CHUNK / 32)

/* CHUNK values of each of CHUNK_ROWS weight rows, by step. */
struct chunk {
    _Alignas(PANEL_ALIGN) uint16_t half[CHUNK_STEPS][CHUNK_ROWS][STEP];
};

static inline void put_step(struct chunk *c, int step, int row, __m512i v)
{
    _mm512_store_si512(c->half[step][row], v);
}

/* 32 halves, of which the lower 16 come first. */
static inline __m512i halves_of(__m512 lower, __m512 upper)
{
    return (__m512i)_mm512_cvtne2ps_pbh(upper, lower);
}

static inline __m512 floats_of_signed(__m128i v)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v));
}

static inline uint16_t load_word(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* ---- nibbles ---- */

/* Which values of a block of nibbles a step has in turn. */
static inline __m512i nibbles_in_turn(void)
{
    return _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26,
                            24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
}

/* The scales of CHUNK_BLOCKS blocks of 18 bytes. */
static inline __m128 scales_18(const uint8_t *src)
{
    const __m512i at = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 0, 0, 0, 0));
    __m512i v = _mm512_permutexvar_epi16(at, _mm512_loadu_si512(src));
    return _mm_cvtph_ps(_mm512_castsi512_si128(v));
}

/* A block of nibbles, four times, each copy shifted to another nibble of its words, which chooses
 * by the lower five bits of a word: the table has its 16 values twice. */
static inline __attribute__((always_inline)) void
put_nibbles(const uint8_t *qs, __m512i table, int step, int i, struct chunk *c)
{
    const __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    __m512i v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)qs));
    put_step(c, step, i, _mm512_permutexvar_epi16(_mm512_srlv_epi32(v, shift), table));
}

static inline __attribute__((always_inline)) void
halves_nibbles(enum quant_type type, const uint8_t *src, int i, struct chunk *c)
{
    const __m512 value = floats_of_signed(nibble_values(type));
    _Alignas(16) float d[CHUNK_BLOCKS];
    _mm_store_ps(d, scales_18(src));
    KEEP_IN_MEMORY(d);
#pragma GCC unroll 4
    for (int k = 0; k < CHUNK_BLOCKS; k++) {
        __m512 v = _mm512_mul_ps(value, _mm512_set1_ps(d[k]));
        put_nibbles(src + 2 + 18 * k, halves_of(v, v), k, i, c);
    }
}

/* e2m1 times 2^(e - 127) for each e, as bfloat16: f(exponent, bit after the point), 0 where that
 * has no normal number. */
#define MX_HALF(e, up, bit)                                                                        \
    ((e) == 255          ? 0x7fc0                                                                  \
     : (e) + (up) < 1    ? 0                                                                       \
     : (e) + (up) > 254  ? 0x7f80                                                                  \
                         : ((e) + (up)) * 128 | (bit))
#define MX_ZERO(e) ((e) == 255 ? 0x7fc0 : 0)
#define MX_SIGNED(e, sign)                                                                         \
    MX_ZERO(e), (sign) | MX_HALF(e, -1, 0), (sign) | MX_HALF(e, 0, 0),                             \
        (sign) | MX_HALF(e, 0, 0x40), (sign) | MX_HALF(e, 1, 0), (sign) | MX_HALF(e, 1, 0x40),     \
        (sign) | MX_HALF(e, 2, 0), (sign) | MX_HALF(e, 2, 0x40)
#define MX_1(e) {MX_SIGNED(e, 0), MX_SIGNED(e, 0x8000)}
#define MX_4(e) MX_1(e), MX_1((e) + 1), MX_1((e) + 2), MX_1((e) + 3)
#define MX_16(e) MX_4(e), MX_4((e) + 4), MX_4((e) + 8), MX_4((e) + 12)
#define MX_64(e) MX_16(e), MX_16((e) + 16), MX_16((e) + 32), MX_16((e) + 48)
static const _Alignas(64) uint16_t mx_halves[256][16] = {MX_64(0), MX_64(64), MX_64(128),
                                                         MX_64(192)};

static inline void halves_mxfp4(const uint8_t *src, int i, struct chunk *c)
{
#pragma GCC unroll 4
    for (int k = 0; k < CHUNK_BLOCKS; k++) {
        const uint8_t *block = src + 17 * k;
        const __m256i *table = (const __m256i *)(const void *)mx_halves[block[0]];
        put_nibbles(block + 1, _mm512_broadcast_i64x4(_mm256_load_si256(table)), k, i, c);
    }
}

/* ---- Q8_0 ---- */

/* Weights of Q8_0 are 2^-104 of what they are: then the exponent of a binary16, 256 times the
 * weight, is the one of its bfloat16. Batch rows make up for a part of it, sums for the rest. */
#define Q8_0_ROW_SCALE 0x1p64f
#define Q8_0_SUM_SCALE 0x1p40f

#ifdef AMX_EMULATED
/* 32 words times a scale, as binary16. The product is exact before it is rounded. */
static inline __m512i words_times(__m512i words, const void *scale)
{
    __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16(load_word(scale)));
    __m512 lower = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(words)));
    __m512 upper =
        _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(words, 1)));
    return _mm512_inserti64x4(
        _mm512_castsi256_si512(_mm512_cvtps_ph(_mm512_mul_ps(lower, d), _MM_FROUND_NO_EXC)),
        _mm512_cvtps_ph(_mm512_mul_ps(upper, d), _MM_FROUND_NO_EXC), 1);
}
#else
static inline __m512i words_times(__m512i words, const void *scale)
{
    _Float16 d;
    memcpy(&d, scale, sizeof(d));
    return _mm512_castph_si512(_mm512_mul_ph(_mm512_cvtepi16_ph(words), _mm512_set1_ph(d)));
}
#endif

/* The numbers of a block times 256 times a scale below 2, as bfloat16. */
static inline __m512i block_q8_0(const uint8_t *block, const void *scale)
{
    const __m256i in_turn =
        _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                         21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    /* to the upper bytes of words; the lower are 0 */
    const __m512i to_upper = _mm512_slli_epi16(_mm512_cvtepu8_epi16(in_turn), 8);
    __m512i q = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(block + 2)));
    q = _mm512_maskz_permutexvar_epi8(0xaaaaaaaaaaaaaaaa, to_upper, q);
    /* an eighth, rounded; copies of the sign go */
    __m512i v = _mm512_mulhrs_epi16(words_times(q, scale), _mm512_set1_epi16(4096));
    return _mm512_and_si512(v, _mm512_set1_epi16((short)0x8fff));
}

/* The same with a scale from 2 on, of which 2^-15 is taken. */
static __attribute__((noinline)) __m512i block_q8_0_large(const uint8_t *block)
{
    uint16_t d = load_word(block), smaller = (uint16_t)(d - (15 << 10));
    if ((d & 0x7c00) == 0x7c00)
        return _mm512_set1_epi16(0x7fc0);
    __m512i v = block_q8_0(block, &smaller);
    __mmask32 any = _mm512_test_epi16_mask(v, _mm512_set1_epi16(0x7fff));
    return _mm512_mask_add_epi16(v, any, v, _mm512_set1_epi16(15 << 7));
}

static inline void halves_q8_0(const uint8_t *src, int i, struct chunk *c)
{
    unsigned scales = 0, large = 0x4000;
#pragma GCC unroll 4
    for (int k = 0; k < CHUNK_BLOCKS; k++, src += 34) {
        scales |= load_word(src);
        put_step(c, k, i, block_q8_0(src, src));
    }
    src -= CHUNK_BLOCKS * 34;
    for (int k = 0; (scales & large) && k < CHUNK_BLOCKS; k++, src += 34)
        if (load_word(src) & large)
            put_step(c, k, i, block_q8_0_large(src));
}

/* ---- rows ---- */

/* CHUNK_BLOCKS blocks of a row. */
static inline __attribute__((always_inline)) void
halves_row(enum quant_type type, const uint8_t *src, int i, struct chunk *c)
{
    if (type == QUANT_Q8_0)
        halves_q8_0(src, i, c);
    else if (type == QUANT_MXFP4)
        halves_mxfp4(src, i, c);
    else
        halves_nibbles(type, src, i, c);
}

/* The last blocks of 32 of a row, less than CHUNK_BLOCKS; those that are missing become zeros. */
static inline __attribute__((always_inline)) void
halves_end(enum quant_type type, const uint8_t *src, int blocks, int i, struct chunk *c)
{
    uint8_t padded[CHUNK_BLOCKS * 34] = {0};
    memcpy(padded, src, (size_t)blocks * block_bytes(type));
    halves_row(type, padded, i, c);
}

#endif
