/* What unpacking with AVX-512 begins with. */
#ifndef SLUICE_OPS_AVX512_WORDS_AVX512_H
#define SLUICE_OPS_AVX512_WORDS_AVX512_H

#include "ops/avx2/unpack_avx2.h"

/* Asks memory for `bytes` that lie `ahead` of a row. */
static inline __attribute__((always_inline)) void ask_rows_ahead(const uint8_t *row,
                                                                 uint64_t ahead, uint32_t bytes)
{
    for (uint32_t k = 0; k < bytes; k += 64)
        _mm_prefetch((const char *)row + ahead + k, _MM_HINT_T1);
}

/* 32 bytes as 32 words */
static inline __m512i words_of(const uint8_t *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

#endif
