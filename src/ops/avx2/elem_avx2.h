/* Element-wise loops that compilers leave scalar, with AVX2; the same operations in the same order
 * as in elem_body.h. Included by the leaves of AVX2 and AVX-512. */
#ifndef SLUICE_OPS_AVX2_ELEM_AVX2_H
#define SLUICE_OPS_AVX2_ELEM_AVX2_H

#include <immintrin.h>

#include "ops/cpu/elem_body.h"

/* Bytes ahead of where a row in halves is read: processors stop reading ahead at pages. */
#define HALF_AHEAD 8192

static inline __m256 exp_avx2(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(ROUND_MAGIC);
    __m256 c = _mm256_max_ps(_mm256_set1_ps(-88.0f), _mm256_min_ps(_mm256_set1_ps(89.0f), x));
    __m256 t = _mm256_add_ps(_mm256_mul_ps(c, _mm256_set1_ps(1.44269504088896f)), magic);
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(ROUND_MAGIC_BITS));
    __m256 k = _mm256_sub_ps(t, magic);
    __m256 r = _mm256_sub_ps(c, _mm256_mul_ps(k, _mm256_set1_ps(0.693359375f)));
    r = _mm256_sub_ps(r, _mm256_mul_ps(k, _mm256_set1_ps(-2.12194440e-4f)));
    static const float factor[6] = {8.3333333e-3f, 4.1666667e-2f, 1.6666667e-1f, 0.5f, 1.0f, 1.0f};
    __m256 p = _mm256_set1_ps(1.3888889e-3f);
    for (int j = 0; j < 6; j++)
        p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(factor[j]));
    __m256i half = _mm256_srai_epi32(_mm256_add_epi32(n, _mm256_srli_epi32(n, 31)), 1);
    const __m256i bias = _mm256_set1_epi32(127);
    __m256i s0 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i s1 = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23);
    __m256 y = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(s0)), _mm256_castsi256_ps(s1));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_LT_OQ), y);
}

static inline void avx2_exp_minus(float *s, int64_t n, float max)
{
    int64_t j = 0;
    for (; j + 8 <= n; j += 8)
        _mm256_storeu_ps(s + j, exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(s + j),
                                                       _mm256_set1_ps(max))));
    elem_exp_minus(s + j, n - j, max);
}

static inline void avx2_gated(const float *restrict g, const float *restrict u, int64_t n,
                              float limit, float scale, float *restrict y)
{
    const __m256 top = _mm256_set1_ps(limit), bottom = _mm256_set1_ps(-limit);
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    int64_t k = 0;
    for (; k + 8 <= n; k += 8) {
        __m256 a = _mm256_min_ps(top, _mm256_loadu_ps(g + k));
        __m256 b = _mm256_max_ps(bottom, _mm256_min_ps(top, _mm256_loadu_ps(u + k)));
        __m256 e = _mm256_add_ps(one, exp_avx2(_mm256_xor_ps(a, sign)));
        __m256 v = _mm256_mul_ps(_mm256_div_ps(a, e), b);
        _mm256_storeu_ps(y + k, _mm256_mul_ps(v, _mm256_set1_ps(scale)));
    }
    elem_gated(g + k, u + k, n - k, limit, scale, y + k);
}

/* Values of one lane of a pair and of the other: their sum, and the first less the second. */
static inline __m256 butterfly(__m256 x, __m256 other, __m256 second)
{
    return _mm256_blendv_ps(_mm256_add_ps(x, other), _mm256_sub_ps(other, x), second);
}

/* The three stages inside of a register. */
static inline void avx2_index_query(float *x, int64_t n)
{
    const __m256 odd = _mm256_castsi256_ps(_mm256_setr_epi32(0, -1, 0, -1, 0, -1, 0, -1));
    const __m256 upper2 = _mm256_castsi256_ps(_mm256_setr_epi32(0, 0, -1, -1, 0, 0, -1, -1));
    const __m256 upper4 = _mm256_castsi256_ps(_mm256_setr_epi32(0, 0, 0, 0, -1, -1, -1, -1));
    if (n % 8) {
        elem_index_query(x, n);
        return;
    }
    for (int64_t j = 0; j < n; j += 8) {
        __m256 v = _mm256_loadu_ps(x + j);
        v = butterfly(v, _mm256_permute_ps(v, 0xb1), odd);
        v = butterfly(v, _mm256_permute_ps(v, 0x4e), upper2);
        v = butterfly(v, _mm256_permute2f128_ps(v, v, 1), upper4);
        _mm256_storeu_ps(x + j, v);
    }
    elem_index_query_from(x, n, 8);
}

/* The bits of e4m3 one place to the right of f16's sign are an f16 of 2^-8 times the value, also
 * below the normal numbers; but not of NaN. */
static inline __m256i e4m3_as_f16(__m128i codes)
{
    __m256i words = _mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7);
    return _mm256_and_si256(words, _mm256_set1_epi16((short)0xbfff));
}

static inline bool has_e4m3_nan(const uint8_t *codes)
{
    const __m256i magnitude = _mm256_set1_epi8(0x7f);
    __m256i lo = _mm256_loadu_si256((const __m256i *)codes);
    __m256i hi = _mm256_loadu_si256((const __m256i *)(codes + 32));
    __m256i nan = _mm256_or_si256(
        _mm256_cmpeq_epi8(_mm256_and_si256(lo, magnitude), magnitude),
        _mm256_cmpeq_epi8(_mm256_and_si256(hi, magnitude), magnitude));
    return !_mm256_testz_si256(nan, nan);
}

/* Whether 64 codes can be taken as f16 times the scale times 2^8: the product with the scale is
 * then the only one that rounds, as in the portable loop. */
static inline bool is_plain_fp8(const uint8_t *codes, uint8_t scale)
{
    return scale <= 254 - 8 && !has_e4m3_nan(codes);
}

static inline void avx2_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n,
                                   float *x)
{
    int64_t at = 0;
    for (; at + 64 <= n; at += 64) {
        if (!is_plain_fp8(codes + at, scales[at / 64])) {
            elem_fp8_decode(codes + at, scales + at / 64, 64, x + at);
            continue;
        }
        __m256 s = _mm256_set1_ps(e8m0_to_f32(scales[at / 64]) * 0x1p8f);
        for (int j = 0; j < 64; j += 16) {
            __m256i h = e4m3_as_f16(_mm_loadu_si128((const __m128i *)(codes + at + j)));
            __m256 lo = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
            __m256 hi = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
            _mm256_storeu_ps(x + at + j, _mm256_mul_ps(lo, s));
            _mm256_storeu_ps(x + at + j + 8, _mm256_mul_ps(hi, s));
        }
    }
    elem_fp8_decode(codes + at, scales + at / 64, n - at, x + at);
}

static inline void avx2_fp4_decode(const uint8_t *codes, const uint8_t *scales, int64_t n,
                                   float *x)
{
    const __m128i table = _mm_loadu_si128((const __m128i *)e2m1_doubled), low = _mm_set1_epi8(15);
    int64_t at = 0;
    for (; at + 32 <= n; at += 32) {
        __m256 s = _mm256_set1_ps(e8m0_to_f32(scales[at / 32]) * 0.5f);
        __m128i b = _mm_loadu_si128((const __m128i *)(codes + at / 2));
        __m128i even = _mm_shuffle_epi8(table, _mm_and_si128(b, low));
        __m128i odd = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(b, 4), low));
        __m128i v[2] = {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)};
        for (int h = 0; h < 2; h++) {
            __m256 a = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v[h]));
            __m256 c = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v[h], 8)));
            _mm256_storeu_ps(x + at + 16 * h, _mm256_mul_ps(a, s));
            _mm256_storeu_ps(x + at + 16 * h + 8, _mm256_mul_ps(c, s));
        }
    }
    elem_fp4_decode(codes + at / 2, scales + at / 32, n - at, x + at);
}

#endif
