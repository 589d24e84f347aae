/* Weights in blocks of 32 as bfloat16, as tiles take them: 32 values of a row are one step.
 *
 * A value is the float32 product of its scale and its number, rounded (docs/NUMERICS.md). Where
 * numbers are nibbles, the products are computed and rounded as a table, of which five bits choose.
 *
 * Two blocks a and b are unpacked side by side: the first step has their values 0 to 15, the next
 * 16 to 31. The order is a[0] to a[15], b[0] to b[15], but for Q8_0 a[0], b[0], a[1], b[1] and so
 * on. Panels have the same. */
#ifndef SLUICE_OPS_AMX_HALVES_AMX_H
#define SLUICE_OPS_AMX_HALVES_AMX_H

#include "ops/avx512/expand_avx512.h"

#define CHUNK 256
#define CHUNK_ROWS 32
#define STEP 32
#define CHUNK_STEPS (CHUNK / STEP)

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

static inline __m128i load_16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* v where mask is set, else w. */
static inline __m512i select_bits(__m512i v, __m512i w, __m512i mask)
{
    return _mm512_ternarylogic_epi32(mask, v, w, 0xca);
}

/* Forgets what the compiler knows of these floats: it would take them out of a register, one
 * permutation each, instead of broadcasting them from memory, which costs nothing. */
#define KEEP_IN_MEMORY(floats) __asm__("" : "+m"(floats))

/* ---- two blocks side by side ---- */

/* The scales of 8 blocks of 34 or 18 bytes. Taken word by word, no two are at the same place of
 * registers loaded 64 bytes apart, so that masked loads gather them in one. */
static inline __m256 scales_34(const uint8_t *src)
{
    const __m512i at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 17, 2, 19, 4, 21, 6, 23, 0, 0, 0, 0, 0, 0, 0, 0));
    __m512i v = _mm512_loadu_si512(src);
    v = _mm512_mask_loadu_epi16(v, 1u << 2 | 1u << 19, src + 64);
    v = _mm512_mask_loadu_epi16(v, 1u << 4 | 1u << 21, src + 128);
    v = _mm512_mask_loadu_epi16(v, 1u << 6 | 1u << 23, src + 192);
    return _mm256_cvtph_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi16(at, v)));
}

static inline __m256 scales_18(const uint8_t *src)
{
    const __m512i at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 9, 18, 27, 4, 13, 22, 31, 0, 0, 0, 0, 0, 0, 0, 0));
    __m512i v = _mm512_loadu_si512(src);
    v = _mm512_mask_loadu_epi16(v, 1u << 4 | 1u << 13 | 1u << 22 | 1u << 31, src + 64);
    return _mm256_cvtph_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi16(at, v)));
}

/* 32 halves cut off from floats, those of a and b in turn: in one permutation. */
static inline __m512i cut_to_halves(__m512 a, __m512 b)
{
    const __m512i upper = _mm512_broadcast_i32x4(
        _mm_setr_epi8(2, 3, 0, 0, 6, 7, 0, 0, 10, 11, 0, 0, 14, 15, 0, 0));
    return _mm512_mask_shuffle_epi8(_mm512_castps_si512(b), 0x3333333333333333,
                                    _mm512_castps_si512(a), upper);
}

/* A cut value is short by half of its last place on average, which is 2^-7 of it or less: with
 * this factor before the cut the mean is right, and a value that needs no cut stays. */
#define BEFORE_CUT 1.00275f

static inline void halves_q8_0(const uint8_t *src, int i, struct chunk *c)
{
    _Alignas(32) float d[8];
    _mm256_store_ps(d, _mm256_mul_ps(scales_34(src), _mm256_set1_ps(BEFORE_CUT)));
    KEEP_IN_MEMORY(d);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const uint8_t *a = src + 68 * k + 2, *b = a + 34;
        __m512 da = _mm512_set1_ps(d[2 * k]), db = _mm512_set1_ps(d[2 * k + 1]);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            put_step(c, 2 * k + h, i,
                     cut_to_halves(_mm512_mul_ps(floats_of_signed(load_16(a + 16 * h)), da),
                                   _mm512_mul_ps(floats_of_signed(load_16(b + 16 * h)), db)));
    }
}

/* Blocks of nibbles: a table of both blocks' values, of which five bits choose. */
static inline __attribute__((always_inline)) void
put_nibbles(const uint8_t *qs, int bytes, __m512i table, int k, int i, struct chunk *c)
{
    const __m512i low = _mm512_set1_epi16(15);
    const __m512i second = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    __m512i v = _mm512_cvtepu8_epi16(two_16(qs, bytes));
    put_step(c, 2 * k, i, _mm512_permutexvar_epi16(select_bits(v, second, low), table));
    v = _mm512_or_si512(_mm512_srli_epi16(v, 4), second);
    put_step(c, 2 * k + 1, i, _mm512_permutexvar_epi16(v, table));
}

static inline __attribute__((always_inline)) void
halves_nibbles(enum quant_type type, const uint8_t *src, int i, struct chunk *c)
{
    const __m512 value = floats_of_signed(nibble_values(type));
    _Alignas(32) float d[8];
    _mm256_store_ps(d, scales_18(src));
    KEEP_IN_MEMORY(d);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        put_nibbles(src + 2 + 36 * k, 18,
                    halves_of(_mm512_mul_ps(value, _mm512_set1_ps(d[2 * k])),
                              _mm512_mul_ps(value, _mm512_set1_ps(d[2 * k + 1]))),
                    k, i, c);
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
    for (int k = 0; k < 4; k++) {
        const uint8_t *a = src + 34 * k;
        const __m256i *ta = (const __m256i *)(const void *)mx_halves[a[0]];
        const __m256i *tb = (const __m256i *)(const void *)mx_halves[a[17]];
        __m512i table = _mm512_castsi256_si512(_mm256_load_si256(ta));
        table = _mm512_mask_broadcast_i64x4(table, 0xf0, _mm256_load_si256(tb));
        put_nibbles(a + 1, 17, table, k, i, c);
    }
}

/* ---- rows ---- */

/* 8 blocks of a row. */
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

/* The last blocks of 32 of a row, less than 8 of them; those that are missing become zeros. */
static inline __attribute__((always_inline)) void
halves_end(enum quant_type type, const uint8_t *src, int blocks, int i, struct chunk *c)
{
    uint8_t padded[8 * 34] = {0};
    memcpy(padded, src, (size_t)blocks * block_bytes(type));
    halves_row(type, padded, i, c);
}

/* Values from `at` on of the rows [first, last) to the rows [first % CHUNK_ROWS, ...) of a chunk;
 * asks for the same values of the next rows, whose memory follows. */
static inline __attribute__((always_inline)) void
halves_rows(enum quant_type type, const struct qrows *w, int first, int last, int64_t at,
            struct chunk *c)
{
    uint64_t row_bytes = w->row_bytes;
    const uint8_t *src = w->data + (uint64_t)(at / 32) * block_bytes(type) +
                         (uint64_t)first * row_bytes;
    uint32_t bytes = CHUNK / 32 * block_bytes(type);
    int i = first % CHUNK_ROWS, end = i + last - first;
    if (w->n - at < CHUNK) {
        for (; i < end; i++, src += row_bytes)
            halves_end(type, src, (int)(w->n - at) / 32, i, c);
        return;
    }
    for (; i < end; i++, src += row_bytes) {
        ask_rows_ahead(src, CHUNK_ROWS * row_bytes, bytes);
        halves_row(type, src, i, c);
    }
}

#endif
