/* Sums of a weight row's products. Included by the leaves of AVX2 and AVX-512. */
#ifndef SLUICE_OPS_AVX2_SUMS_AVX2_H
#define SLUICE_OPS_AVX2_SUMS_AVX2_H

#include <immintrin.h>
#include <string.h>

/* Eight registers of eight sums to one register of the eight totals. */
static inline __m256i sum8(const __m256i *v)
{
    __m256i a = _mm256_hadd_epi32(v[0], v[1]), b = _mm256_hadd_epi32(v[2], v[3]);
    __m256i c = _mm256_hadd_epi32(v[4], v[5]), d = _mm256_hadd_epi32(v[6], v[7]);
    __m256i e = _mm256_hadd_epi32(a, b), f = _mm256_hadd_epi32(c, d);
    return _mm256_add_epi32(_mm256_permute2x128_si256(e, f, 0x20),
                            _mm256_permute2x128_si256(e, f, 0x31));
}

/* The first n <= 8 floats, then zeros. */
static inline __m256 first_floats(const float *p, int n)
{
    if (n == 8)
        return _mm256_loadu_ps(p);
    float part[8] = {0};
    memcpy(part, p, (size_t)n * sizeof(float));
    return _mm256_loadu_ps(part);
}

/* The sum of 8 partial sums in their order (ops/cpu/leaf.h). */
static inline float tree8(__m256 s)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

/* sum + the totals of eight blocks, each times its two scales. */
static inline __m256 add_eight(__m256 sum, const __m256i *v, const float *dw, __m256 dx)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(v)), _mm256_mul_ps(_mm256_loadu_ps(dw), dx),
                           sum);
}

#endif
