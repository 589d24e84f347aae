/* Products of IQ2_XXS as bytes: values without signs with bytes of a batch row that have taken
 * them (vpmaddubsw). Sums of two products are words; they meet the scale of their 32 values times
 * what their bytes are multiplied by. The integers are those of products of words.
 *
 * A batch row (struct act) has its bytes in `planes`, for each block a struct row_bytes. */
#ifndef SLUICE_OPS_AVX2_BYTES_AVX2_H
#define SLUICE_OPS_AVX2_BYTES_AVX2_H

#include "ops/avx2/sums_avx2.h"
#include "ops/avx2/unpack_avx2.h"
#include "ops/cpu/elem_body.h"

struct row_bytes {
    int8_t q[256];
    uint32_t times[8];             /* of each 32, in both words */
};
_Static_assert(sizeof(struct row_bytes) <= 512, "in the place of two planes");

static inline struct row_bytes *row_bytes_at(const struct act *x, int64_t block)
{
    return (struct row_bytes *)(void *)(x->planes + 512 * block);
}

/* Rounded again: the bytes of a row are not what it keeps as words, which have been multiplied. */
static inline void put_row_bytes(const float *x, struct row_bytes *to)
{
    _Alignas(32) int16_t q[256];
    int times[8];
    float d;
    quantise_bytes(x, q, times, &d);
    for (int k = 0; k < 256; k++)
        to->q[k] = (int8_t)q[k];
    for (int k = 0; k < 8; k++)
        to->times[k] = (uint32_t)times[k] * 0x00010001;
}

/* A block of weights: values, their signs as factors, scales in both words. */
struct lattice_bytes {
    _Alignas(32) uint8_t v[256];
    int8_t sign[256];
    uint32_t scale[8];
    float d;
};

/* 32 values without signs. */
static inline __m256i values_iq2_xxs(const uint8_t *q)
{
    const uint64_t *grid = quant_grid_iq2_xxs;
    uint32_t rows = avx2_dword(q); /* one load for four */
    return _mm256_set_epi64x((int64_t)grid[rows >> 24], (int64_t)grid[rows >> 16 & 255],
                             (int64_t)grid[rows >> 8 & 255], (int64_t)grid[rows & 255]);
}

/* sum + products of 32 values with those of a batch row */
static inline __m256i dot_bytes_32(__m256i sum, __m256i v, __m256i factors, const int8_t *x,
                                   uint32_t times)
{
    __m256i q = _mm256_loadu_si256((const __m256i *)(const void *)x);
    __m256i p = _mm256_maddubs_epi16(v, _mm256_sign_epi8(q, factors));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(p, _mm256_set1_epi32((int)times)));
}

/* Scales times those of a batch row. */
static inline void put_times(const uint32_t *scale, const struct row_bytes *x, uint32_t *times)
{
    __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)scale);
    __m256i t = _mm256_loadu_si256((const __m256i *)(const void *)x->times);
    _mm256_storeu_si256((__m256i *)(void *)times, _mm256_mullo_epi16(s, t));
}

/* Products of a block with a batch row's, in eight sums. */
static inline __m256i dot_iq2_xxs(const uint8_t *src, const struct row_bytes *x)
{
    uint32_t signs[8], scales[8], times[8];
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    avx2_signs_scales(second_dwords(src + 2), signs, scales);
    put_times(scales, x, times);
    KEEP_IN_MEMORY(signs);
    KEEP_IN_MEMORY(times);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++)
        sum[k % 2] = dot_bytes_32(sum[k % 2], values_iq2_xxs(src + 2 + 8 * k),
                                  factors_of(signs[k]), x->q + 32 * k, times[k]);
    return _mm256_add_epi32(sum[0], sum[1]);
}

static inline float row_iq2_xxs(const uint8_t *row, int64_t n, const struct act *x)
{
    __m256 sum = _mm256_setzero_ps();
    for (int64_t b = 0; b < n / 256; b += 8) {
        int blocks = n / 256 - b < 8 ? (int)(n / 256 - b) : 8;
        __m256i v[8];
        float d[8] = {0};
        for (int k = 0; k < 8; k++)
            v[k] = _mm256_setzero_si256();
        for (int k = 0; k < blocks; k++) {
            const uint8_t *src = row + (uint64_t)(b + k) * sizeof(struct block_iq2_xxs);
            v[k] = dot_iq2_xxs(src, row_bytes_at(x, b + k));
            d[k] = avx2_half(src) * 0.125f;
        }
        sum = add_eight(sum, v, d, first_floats(x->d + b, blocks));
    }
    return tree8(sum);
}

/* ---- several batch rows ---- */

static inline void bytes_iq2_xxs(const uint8_t *src, struct lattice_bytes *to)
{
    uint32_t signs[8];
    avx2_signs_scales(second_dwords(src + 2), signs, to->scale);
    KEEP_IN_MEMORY(signs);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        __m256i *v = (__m256i *)(void *)(to->v + 32 * k);
        __m256i *sign = (__m256i *)(void *)(to->sign + 32 * k);
        _mm256_store_si256(v, values_iq2_xxs(src + 2 + 8 * k));
        _mm256_store_si256(sign, factors_of(signs[k]));
    }
    to->d = avx2_half(src) * 0.125f;
}

static inline __m256i dot_lattice_bytes(const struct lattice_bytes *w, const struct row_bytes *x)
{
    uint32_t times[8];
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    put_times(w->scale, x, times);
    KEEP_IN_MEMORY(times);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        const __m256i *v = (const __m256i *)(const void *)(w->v + 32 * k);
        const __m256i *sign = (const __m256i *)(const void *)(w->sign + 32 * k);
        sum[k % 2] = dot_bytes_32(sum[k % 2], _mm256_load_si256(v), _mm256_load_si256(sign),
                                  x->q + 32 * k, times[k]);
    }
    return _mm256_add_epi32(sum[0], sum[1]);
}

/* A weight row with n_x batch rows; of row i at y[i][0]. */
static inline void rows_iq2_xxs(const uint8_t *row, int64_t n, const struct act *x, int n_x,
                                float (*y)[TILE_ROWS])
{
    struct lattice_bytes w[8];
    __m256 sum[ROW_BATCH];
    for (int i = 0; i < n_x; i++)
        sum[i] = _mm256_setzero_ps();
    for (int64_t b = 0; b < n / 256; b += 8) {
        int blocks = n / 256 - b < 8 ? (int)(n / 256 - b) : 8;
        float d[8] = {0};
        for (int k = 0; k < blocks; k++) {
            bytes_iq2_xxs(row + (uint64_t)(b + k) * sizeof(struct block_iq2_xxs), &w[k]);
            d[k] = w[k].d;
        }
        for (int i = 0; i < n_x; i++) {
            __m256i v[8];
            for (int k = 0; k < 8; k++)
                v[k] = k < blocks ? dot_lattice_bytes(&w[k], row_bytes_at(&x[i], b + k))
                                  : _mm256_setzero_si256();
            sum[i] = add_eight(sum[i], v, d, first_floats(x[i].d + b, blocks));
        }
    }
    for (int i = 0; i < n_x; i++)
        y[i][0] = tree8(sum[i]);
}

#endif
