/* The leaves with AVX-512 (F, BW, VL, DQ, VNNI). A sum of products of two words in one instruction
 * (vpdpwssd) halves the work of the quantised products; the other formats unpack as with AVX2. */
#include "ops/avx2/leaf_avx2.h"
#include "ops/avx2/elem_avx2.h"
#include "ops/avx2/unpack_avx2.h"


/* ---- quantised rows, one at a time ---- */

static inline __m256i sum8(const __m256i *v)
{
    __m256i a = _mm256_hadd_epi32(v[0], v[1]), b = _mm256_hadd_epi32(v[2], v[3]);
    __m256i c = _mm256_hadd_epi32(v[4], v[5]), d = _mm256_hadd_epi32(v[6], v[7]);
    __m256i e = _mm256_hadd_epi32(a, b), f = _mm256_hadd_epi32(c, d);
    return _mm256_add_epi32(_mm256_permute2x128_si256(e, f, 0x20),
                            _mm256_permute2x128_si256(e, f, 0x31));
}

static inline float tree8(__m256 s)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

static inline __m256 floats(const float *p, int n)
{
    return _mm256_maskz_loadu_ps((__mmask8)((1u << n) - 1), p);
}

static inline __m512i words(const int16_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline __m256i half_words(const int16_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Units are written 16 words at a time: wider loads would have to wait for the stores. */
static inline __m256i dot_256(const int16_t *w, const int16_t *x)
{
    __m256i s[4];
    for (int j = 0; j < 4; j++)
        s[j] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 256; j += 64)
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++)
            s[l] = _mm256_dpwssd_epi32(s[l], half_words(w + j + 16 * l),
                                       half_words(x + j + 16 * l));
    return _mm256_add_epi32(_mm256_add_epi32(s[0], s[1]), _mm256_add_epi32(s[2], s[3]));
}

static inline __m512i words_of(const uint8_t *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

static inline __m256i halves(__m512i v)
{
    return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

/* The byte at place i (and i + step in the upper half) of 16 bytes, in all words. */
static inline __m512i scale_words(__m512i bytes, int i, int step)
{
    __m512i at = _mm512_inserti64x4(_mm512_set1_epi16((short)(0x8000 | i)),
                                    _mm256_set1_epi16((short)(0x8000 | (i + step))), 1);
    return _mm512_shuffle_epi8(bytes, at);
}

/* Products of a block of 256 values with q, in 16 sums; the head has d, dmin and the minima. */

static inline __m512i dot_q4_k(const uint8_t *src, const int16_t *q, struct unit *u)
{
    const __m512i low = _mm512_set1_epi16(15);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0;
    __m512i scales = _mm512_broadcast_i64x4(avx2_q45_head(src, u));
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = words_of(src + 16 + 32 * k);
        __m512i a = _mm512_mullo_epi16(_mm512_and_si512(v, low), scale_words(scales, 2 * k, 0));
        __m512i b =
            _mm512_mullo_epi16(_mm512_srli_epi16(v, 4), scale_words(scales, 2 * k + 1, 0));
        s0 = _mm512_dpwssd_epi32(s0, a, words(q + 64 * k));
        s1 = _mm512_dpwssd_epi32(s1, b, words(q + 64 * k + 32));
    }
    return _mm512_add_epi32(s0, s1);
}

static inline __m512i dot_q2_k(const uint8_t *src, const int16_t *q, struct unit *u)
{
    const __m512i three = _mm512_set1_epi16(3);
    __m128i sc = _mm_loadu_si128((const __m128i *)src), low = _mm_set1_epi8(15);
    __m512i scales = _mm512_broadcast_i32x4(_mm_and_si128(sc, low));
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    uint16_t d, dmin;
    put16(u->m, _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(sc, 4), low)));
    memcpy(&d, src + 80, 2);
    memcpy(&dmin, src + 82, 2);
    u->d[0] = f16_avx2(d);
    u->dmin = -f16_avx2(dmin);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i v = words_of(src + 16 + 32 * h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512i a = _mm512_and_si512(_mm512_srli_epi16(v, 2 * j), three);
            a = _mm512_mullo_epi16(a, scale_words(scales, 8 * h + 2 * j, 1));
            sum[h] = _mm512_dpwssd_epi32(sum[h], a, words(q + 128 * h + 32 * j));
        }
    }
    return _mm512_add_epi32(sum[0], sum[1]);
}

static inline __m512i dot_iq2_xxs(const uint8_t *src, const int16_t *q, struct unit *u)
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    uint32_t signs[8], scales[8];
    uint16_t d;
    memcpy(&d, src, 2);
    u->d[0] = f16_avx2(d) * 0.125f;
    __m256 lo = _mm256_loadu_ps((const float *)(const void *)(src + 2));
    __m256 hi = _mm256_loadu_ps((const float *)(const void *)(src + 34));
    avx2_signs_scales(_mm256_permute4x64_epi64(
                          _mm256_castps_si256(_mm256_shuffle_ps(lo, hi, 0xdd)), 0xd8),
                      signs, scales);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        const uint64_t *grid = quant_grid_iq2_xxs;
        uint32_t g;
        memcpy(&g, src + 2 + 8 * k, 4);
        __m128i a = _mm_loadl_epi64((const __m128i *)&grid[g & 255]);
        __m128i b = _mm_loadl_epi64((const __m128i *)&grid[g >> 16 & 255]);
        a = _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(a), (const __m64 *)&grid[g >> 8 & 255]));
        b = _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(b), (const __m64 *)&grid[g >> 24]));
        __m512i v = _mm512_cvtepu8_epi16(_mm256_set_m128i(b, a));
        v = _mm512_mullo_epi16(v, _mm512_set1_epi32((int)scales[k]));
        v = _mm512_mask_sub_epi16(v, signs[k], _mm512_setzero_si512(), v);
        sum[k % 2] = _mm512_dpwssd_epi32(sum[k % 2], v, words(q + 32 * k));
    }
    return _mm512_add_epi32(sum[0], sum[1]);
}

static inline __m256i dot_block(enum quant_type type, const uint8_t *src, const int16_t *q,
                                struct unit *u)
{
    switch (type) {
    case QUANT_Q4_K:
        return halves(dot_q4_k(src, q, u));
    case QUANT_Q2_K:
        return halves(dot_q2_k(src, q, u));
    case QUANT_IQ2_XXS:
        return halves(dot_iq2_xxs(src, q, u));
    default:
        avx2_unpack(type, src, 1, u);
        return dot_256(u->w, q);
    }
}

static inline __attribute__((always_inline)) float row_256(enum quant_type type, uint32_t bytes,
                                                           const uint8_t *row, int64_t n,
                                                           const struct act *x)
{
    __m256 sum = _mm256_setzero_ps();
    bool has_min = type_has_min(type);
    for (int64_t b = 0; b < n / 256; b += 8) {
        int blocks = n / 256 - b < 8 ? (int)(n / 256 - b) : 8;
        __m256i v[8], m[8];
        float d[8] = {0}, dmin[8] = {0};
        for (int k = 0; k < 8; k++)
            v[k] = m[k] = _mm256_setzero_si256();
        for (int k = 0; k < blocks; k++) {
            struct unit u;
            v[k] = dot_block(type, row + (b + k) * bytes, x->q + (b + k) * 256, &u);
            d[k] = u.d[0];
            if (has_min) {
                __m256i s = _mm256_loadu_si256((const __m256i *)(x->sum16 + (b + k) * 16));
                m[k] = _mm256_madd_epi16(_mm256_load_si256((const __m256i *)u.m), s);
                dmin[k] = u.dmin;
            }
        }
        __m256 dx = floats(x->d + b, blocks);
        sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(v)),
                              _mm256_mul_ps(_mm256_loadu_ps(d), dx), sum);
        if (has_min)
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(m)),
                                  _mm256_mul_ps(_mm256_loadu_ps(dmin), dx), sum);
    }
    return tree8(sum);
}

/* 32 signed bytes of nibbles through a table, in the order of the values. */
static inline __m512i nibbles(const uint8_t *qs, __m128i table)
{
    __m128i v = _mm_loadu_si128((const __m128i *)qs), low = _mm_set1_epi8(15);
    __m128i a = _mm_shuffle_epi8(table, _mm_and_si128(v, low));
    __m128i b = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(v, 4), low));
    return _mm512_cvtepi8_epi16(_mm256_set_m128i(b, a));
}

/* The 32 values of a block as words, and its scale. */
static inline __m512i block_words(enum quant_type type, const uint8_t *src, float *d)
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

static inline __attribute__((always_inline)) float row_32(enum quant_type type, const uint8_t *row,
                                                          int64_t n, const struct act *x)
{
    uint32_t bytes = type == QUANT_Q8_0 ? 34 : type == QUANT_MXFP4 ? 17 : 18;
    __m256 sum = _mm256_setzero_ps();
    for (int64_t b = 0; b < n / 32; b += 8) {
        int blocks = n / 32 - b < 8 ? (int)(n / 32 - b) : 8;
        __m256i v[8];
        float d[8] = {0};
        const int16_t *q = x->q + b * 32;
        if (blocks == 8) {
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                v[k] = halves(_mm512_dpwssd_epi32(
                    _mm512_setzero_si512(), block_words(type, row + (b + k) * bytes, &d[k]),
                    words(q + 32 * k)));
        } else {
            for (int k = 0; k < 8; k++)
                v[k] = _mm256_setzero_si256();
            for (int k = 0; k < blocks; k++)
                v[k] = halves(_mm512_dpwssd_epi32(
                    _mm512_setzero_si512(), block_words(type, row + (b + k) * bytes, &d[k]),
                    words(q + 32 * k)));
        }
        __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(d), floats(x->d + b, blocks));
        sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(v)), scale, sum);
    }
    return tree8(sum);
}

/* One weight row against n_x batch rows: each block of 256 is unpacked to memory once. Blocks of 32
 * are cheaper to unpack again. */

/* Two batch rows share each load of the weights. */
static inline void dot_two(const int16_t *w, const int16_t *const *x, __m256i *v)
{
    __m256i s[2][2];
    for (int i = 0; i < 2; i++)
        s[i][0] = s[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 256; j += 32) {
        __m256i w0 = half_words(w + j), w1 = half_words(w + j + 16);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            s[i][0] = _mm256_dpwssd_epi32(s[i][0], w0, half_words(x[i] + j));
            s[i][1] = _mm256_dpwssd_epi32(s[i][1], w1, half_words(x[i] + j + 16));
        }
    }
    for (int i = 0; i < 2; i++)
        v[i] = _mm256_add_epi32(s[i][0], s[i][1]);
}

/* Up to 8 blocks: scales and minima side by side. */
struct units8 {
    struct unit u[8];
    float d[8], dmin[8];
    int n;
    bool has_min;
};

/* n_x = 1 or 2 batch rows */
static inline __attribute__((always_inline)) void
many_256(const struct units8 *u, const struct act *x, int64_t b, int n_x, __m256 *sum)
{
    __m256i v[2][8], m[2][8];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < n_x; i++)
            v[i][k] = m[i][k] = _mm256_setzero_si256();
    for (int k = 0; k < u->n; k++) {
        const int16_t *q[2] = {x[0].q + (b + k) * 256, x[n_x - 1].q + (b + k) * 256};
        __m256i two[2];
        if (n_x == 2)
            dot_two(u->u[k].w, q, two);
        else
            two[0] = dot_256(u->u[k].w, q[0]);
        for (int i = 0; i < n_x; i++) {
            v[i][k] = two[i];
            if (u->has_min)
                m[i][k] = _mm256_madd_epi16(half_words(u->u[k].m),
                                            half_words(x[i].sum16 + (b + k) * 16));
        }
    }
    for (int i = 0; i < n_x; i++) {
        __m256 dx = floats(x[i].d + b, u->n);
        sum[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(v[i])),
                                 _mm256_mul_ps(_mm256_loadu_ps(u->d), dx), sum[i]);
        if (u->has_min)
            sum[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(m[i])),
                                     _mm256_mul_ps(_mm256_loadu_ps(u->dmin), dx), sum[i]);
    }
}

static inline __attribute__((always_inline)) void
row_many(enum quant_type type, const uint8_t *row, int64_t n, const struct act *x, int n_x,
         float (*y)[TILE_ROWS])
{
    uint32_t bytes = quant_info(type)->block_bytes;
    __m256 sum[TILE_BATCH];
    struct units8 u;
    u.has_min = type_has_min(type);
    for (int i = 0; i < n_x; i++)
        sum[i] = _mm256_setzero_ps();
    for (int64_t b = 0; b < n / 256; b += 8) {
        u.n = n / 256 - b < 8 ? (int)(n / 256 - b) : 8;
        for (int k = 0; k < 8; k++) {
            u.d[k] = u.dmin[k] = 0;
            if (k >= u.n)
                continue;
            avx2_unpack(type, row + (b + k) * bytes, 1, &u.u[k]);
            u.d[k] = u.u[k].d[0];
            u.dmin[k] = u.has_min ? u.u[k].dmin : 0;
        }
        int i = 0;
        for (; i + 2 <= n_x; i += 2)
            many_256(&u, x + i, b, 2, sum + i);
        if (i < n_x)
            many_256(&u, x + i, b, 1, sum + i);
    }
    for (int i = 0; i < n_x; i++)
        y[i][0] = tree8(sum[i]);
}

/* One loop over rows for each format, with the unpacking inlined. */
#define ROWS_32(type)                                                                              \
    case type:                                                                                     \
        for (int o = 0; o < n_rows; o++)                                                           \
            for (int i = 0; i < n; i++)                                                            \
                y[i][o] = row_32(type, w->data + (uint64_t)o * w->row_bytes, w->n, x + i);         \
        return
#define ROWS_256(type, block)                                                                      \
    case type:                                                                                     \
        for (int o = 0; o < n_rows; o++) {                                                         \
            const uint8_t *row = w->data + (uint64_t)o * w->row_bytes;                             \
            if (n == 1)                                                                            \
                y[0][o] = row_256(type, sizeof(struct block), row, w->n, x);                       \
            else                                                                                   \
                row_many(type, row, w->n, x, n, (float (*)[TILE_ROWS])(y[0] + o));                 \
        }                                                                                          \
        return

static void avx512_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                           float (*y)[TILE_ROWS])
{
    switch (w->type) {
        ROWS_32(QUANT_Q8_0);
        ROWS_32(QUANT_Q4_0);
        ROWS_32(QUANT_IQ4_NL);
        ROWS_32(QUANT_MXFP4);
        ROWS_256(QUANT_Q2_K, block_q2_k);
        ROWS_256(QUANT_Q3_K, block_q3_k);
        ROWS_256(QUANT_Q4_K, block_q4_k);
        ROWS_256(QUANT_Q5_K, block_q5_k);
        ROWS_256(QUANT_Q6_K, block_q6_k);
        ROWS_256(QUANT_IQ4_XS, block_iq4_xs);
        ROWS_256(QUANT_IQ2_XXS, block_iq2_xxs);
        ROWS_256(QUANT_IQ2_XS, block_iq2_xs);
        ROWS_256(QUANT_IQ2_S, block_iq2_s);
        ROWS_256(QUANT_IQ3_XXS, block_iq3_xxs);
        ROWS_256(QUANT_IQ3_S, block_iq3_s);
        ROWS_256(QUANT_IQ1_S, block_iq1_s);
    default:
        SLUICE_ASSERT(!"a quantised type");
    }
}

/* ---- quantised rows, a tile of them against several activation rows ---- */

static inline __m512i pair_of(const int16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, 4);
    return _mm512_set1_epi32(pair);
}

/* acc[i] = the products of 2 * pairs values of 16 weight rows with those of n batch rows. */
static inline __attribute__((always_inline)) void
pairs_dot(const int16_t *w, const int16_t *const *x, int n, int pairs, __m512i *acc)
{
    __m512i s[8];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        s[i] = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int k = 0; k < pairs; k++) {
        __m512i v = words(w + k * TILE_ROWS * 2);
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            s[i] = _mm512_dpwssd_epi32(s[i], v, pair_of(x[i] + 2 * k));
    }
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        acc[i] = s[i];
}

/* part[i] += the sums acc[i] times the scales of 16 weight rows times that of batch row i. */
static inline __attribute__((always_inline)) void
scale_add(const __m512i *acc, const float *dw, const float *dx, int n, float *part)
{
    __m512 d = _mm512_loadu_ps(dw);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(dx[i]));
        __m512 sum = _mm512_load_ps(part + i * 16);
        _mm512_store_ps(part + i * 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i]), scale, sum));
    }
}

static inline __attribute__((always_inline)) void
tile_dot_n(const struct tile *t, const struct act *x, int n, int block, float (*y)[TILE_ROWS])
{
    _Alignas(64) float part[8][8 * 16];
    __m512i acc[8];
    const int16_t *q[8];
    float dx[8];
    memset(part, 0, sizeof(part));
    for (int64_t b = 0; b < t->n / block; b++) {
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            q[i] = x[i].q + b * block;
            dx[i] = x[i].d[b];
        }
        pairs_dot(t->w + b * block * TILE_ROWS, q, n, block / 2, acc);
        scale_add(acc, t->d + b * TILE_ROWS, dx, n, part[b % 8]);
        if (block == 32 || !t->has_min)
            continue;
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            q[i] = x[i].sum16 + b * 16;
        pairs_dot(t->m + b * 16 * TILE_ROWS, q, n, 8, acc);
        scale_add(acc, t->dmin + b * TILE_ROWS, dx, n, part[b % 8]);
    }
    for (int k = 0; k < n * 16; k++)
        y[k / 16][k % 16] = ((part[0][k] + part[4][k]) + (part[2][k] + part[6][k])) +
                            ((part[1][k] + part[5][k]) + (part[3][k] + part[7][k]));
}

#define TILE_DOT(n)                                                                                \
    case n:                                                                                        \
        if (t->block == 32)                                                                        \
            tile_dot_n(t, x, n, 32, y);                                                            \
        else                                                                                       \
            tile_dot_n(t, x, n, 256, y);                                                           \
        return

static void avx512_tile_dot(const struct tile *t, const struct act *x, int n,
                            float (*y)[TILE_ROWS])
{
    switch (n) {
        TILE_DOT(8);
        TILE_DOT(7);
        TILE_DOT(6);
        TILE_DOT(5);
        TILE_DOT(4);
        TILE_DOT(3);
        TILE_DOT(2);
        TILE_DOT(1);
    default:
        SLUICE_ASSERT(!"a batch of at most TILE_BATCH rows");
    }
}

/* ---- float32 ---- */

static inline float fold16(__m512 s)
{
    return tree8(_mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1)));
}

/* nw <= 4 rows against nx <= 4; the end of a row is padded with zeros. */
static inline __attribute__((always_inline)) void
dots_block(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
           float (*y)[DOTS_W])
{
    __m512 s[4][4], a[4];
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            s[i][j] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n; k += 16) {
        __mmask16 in = n - k < 16 ? (__mmask16)((1u << (n - k)) - 1) : 0xffff;
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            a[j] = _mm512_maskz_loadu_ps(in, w[j] + k);
#pragma GCC unroll 4
        for (int i = 0; i < nx; i++) {
            __m512 b = _mm512_maskz_loadu_ps(in, x[i] + k);
#pragma GCC unroll 4
            for (int j = 0; j < nw; j++)
                s[i][j] = _mm512_fmadd_ps(a[j], b, s[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            y[i][j] = fold16(s[i][j]);
}

static void avx512_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                        float (*y)[DOTS_W])
{
    for (int j = 0; j < nw; j += 4) {
        int nj = nw - j < 4 ? nw - j : 4, i = 0;
        for (; nj == 4 && i + 4 <= nx; i += 4)
            dots_block(w + j, 4, x + i, 4, n, (float (*)[DOTS_W])(y[i] + j));
        for (; nj == 4 && i < nx; i++)
            dots_block(w + j, 4, x + i, 1, n, (float (*)[DOTS_W])(y[i] + j));
        for (; i < nx; i++)
            for (int l = 0; l < nj; l++)
                dots_block(w + j + l, 1, x + i, 1, n, (float (*)[DOTS_W])(y[i] + j + l));
    }
}

/* 16 halves as floats; those not in the mask are zero. */
static inline __m512 half16(enum quant_type type, __mmask16 in, const uint8_t *p)
{
    __m256i h = _mm256_maskz_loadu_epi16(in, p);
    if (type == QUANT_F16)
        return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* A weight row against nx rows: row by row, memory is read in the order in which it lies, which is
 * worth more than several sums at a time. */
static inline __attribute__((always_inline)) void
half_row(enum quant_type type, const uint8_t *w, const float *const *x, int nx, int64_t n, float *y)
{
    __m512 s[HALF_X];
#pragma GCC unroll 6
    for (int i = 0; i < nx; i++)
        s[i] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n; k += 16) {
        __mmask16 in = n - k < 16 ? (__mmask16)((1u << (n - k)) - 1) : 0xffff;
        __m512 a = half16(type, in, w + 2 * k);
        _mm_prefetch((const char *)w + 2 * k + HALF_AHEAD, _MM_HINT_T0);
#pragma GCC unroll 6
        for (int i = 0; i < nx; i++)
            s[i] = _mm512_fmadd_ps(a, _mm512_maskz_loadu_ps(in, x[i] + k), s[i]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < nx; i++)
        y[i] = fold16(s[i]);
}

#define HALF_ROW(n_x)                                                                              \
    case n_x:                                                                                      \
        half_row(type, row, x, n_x, w->n, part);                                                   \
        break

static inline __attribute__((always_inline)) void
half_rows(enum quant_type type, const struct qrows *w, int n_rows, const float *const *x, int nx,
          float (*y)[DOTS_W])
{
    for (int j = 0; j < n_rows; j++) {
        const uint8_t *row = w->data + (uint64_t)j * w->row_bytes;
        float part[HALF_X] = {0};
        switch (nx) {
            HALF_ROW(1);
            HALF_ROW(2);
            HALF_ROW(3);
            HALF_ROW(4);
            HALF_ROW(5);
            HALF_ROW(6);
        }
        for (int i = 0; i < nx; i++)
            y[i][j] = part[i];
    }
}

static void avx512_half_dots(const struct qrows *w, int n_rows, const float *const *x, int nx,
                          float (*y)[DOTS_W])
{
    if (w->type == QUANT_F16)
        half_rows(QUANT_F16, w, n_rows, x, nx, y);
    else
        half_rows(QUANT_BF16, w, n_rows, x, nx, y);
}

static inline __attribute__((always_inline)) void
mix_block(float *const *o, int n_o, const float *p, const struct mix_keys *m, int64_t k)
{
    __mmask16 in[2] = {0xffff, 0xffff};
    __m512 s[4][2];
    for (int h = 0; h < 2; h++) {
        int64_t left = m->dim - k - 16 * h;
        if (left < 16)
            in[h] = left > 0 ? (__mmask16)((1u << left) - 1) : 0;
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_o; i++)
        for (int h = 0; h < 2; h++)
            s[i][h] = _mm512_maskz_loadu_ps(in[h], o[i] + k + 16 * h);
    for (int j = 0; j < m->n_key; j++) {
        const float *key = m->key + j * m->dim + k;
        __m512 a = _mm512_maskz_loadu_ps(in[0], key), b = _mm512_maskz_loadu_ps(in[1], key + 16);
#pragma GCC unroll 4
        for (int i = 0; i < n_o; i++) {
            __m512 w = _mm512_set1_ps(p[i * m->p_stride + j]);
            s[i][0] = _mm512_fmadd_ps(w, a, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(w, b, s[i][1]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_o; i++)
        for (int h = 0; h < 2; h++)
            _mm512_mask_storeu_ps(o[i] + k + 16 * h, in[h], s[i][h]);
}

static void avx512_mix(float *const *o, int n_o, const struct mix_keys *m)
{
    for (int i = 0; i < n_o; i += 4) {
        int n = n_o - i < 4 ? n_o - i : 4;
        const float *p = m->p + i * m->p_stride;
        for (int64_t k = 0; k < m->dim; k += 32) {
            if (n == 4)
                mix_block(o + i, 4, p, m, k);
            else
                for (int l = 0; l < n; l++)
                    mix_block(o + i + l, 1, p + l * m->p_stride, m, k);
        }
    }
}

/* As avx2_fp8_decode, 16 floats at a time. */
static void avx512_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
{
    int64_t at = 0;
    for (; at + 64 <= n; at += 64) {
        if (!is_plain_fp8(codes + at, scales[at / 64])) {
            elem_fp8_decode(codes + at, scales + at / 64, 64, x + at);
            continue;
        }
        __m512 s = _mm512_set1_ps(e8m0_to_f32(scales[at / 64]) * 0x1p8f);
        for (int j = 0; j < 64; j += 16) {
            __m256i h = e4m3_as_f16(_mm_loadu_si128((const __m128i *)(codes + at + j)));
            _mm512_storeu_ps(x + at + j, _mm512_mul_ps(_mm512_cvtph_ps(h), s));
        }
    }
    elem_fp8_decode(codes + at, scales + at / 64, n - at, x + at);
}

const struct leaves leaves_avx512 = {
    .name = "avx512",
    .quantise = elem_quantise,
    .row_dot = avx512_row_dot,
    .tile_unpack = avx2_tile_unpack,
    .tile_dot = avx512_tile_dot,
    .widen = avx2_widen,
    .dots = avx512_dots,
    .half_dots = avx512_half_dots,
    .mix = avx512_mix,
    .fp8_decode = avx512_fp8_decode,
    .fp4_decode = avx2_fp4_decode,
    .exp_minus = avx2_exp_minus,
    .gated = avx2_gated,
    .scaled = elem_scaled,
    .relu_add = elem_relu_add,
    .combine = elem_combine,
    .spread = elem_spread,
};
