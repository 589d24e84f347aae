/* Quantised rows with up to DIRECT_ROWS batch rows, where they lie: blocks are unpacked into
 * registers and meet the batch rows there. Included by the leaves of AVX-512. */
#ifndef SLUICE_OPS_AVX512_ROWS_AVX512_H
#define SLUICE_OPS_AVX512_ROWS_AVX512_H

#include "ops/avx2/sums_avx2.h"
#include "ops/avx512/bytes_avx512.h"

/* ---- with one batch row ---- */

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

static inline __m256i halves(__m512i v)
{
    return _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
}

/* Rows follow each other in memory, and so do tiles: memory is asked for this far ahead. */
#define ROW_AHEAD 8192

static inline __attribute__((always_inline)) void ask_ahead(const uint8_t *src, uint32_t bytes)
{
    for (uint32_t k = 0; k < bytes; k += 64)
        _mm_prefetch((const char *)src + ROW_AHEAD + k, _MM_HINT_T1);
}

/* Products of the words w[8] with 256 of a batch row, in 16 sums. */
static inline __m512i dot_words(const __m512i *w, const int16_t *q)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0;
#pragma GCC unroll 4
    for (int j = 0; j < 8; j += 2) {
        s0 = _mm512_dpwssd_epi32(s0, w[j], words(q + 32 * j));
        s1 = _mm512_dpwssd_epi32(s1, w[j + 1], words(q + 32 * j + 32));
    }
    return _mm512_add_epi32(s0, s1);
}

/* Products of w[4] with 256 bytes of a batch row, in 16 sums that begin with `first`. */
static inline __m512i dot_bytes(const __m512i *w, const int8_t *x, __m512i first)
{
    __m512i s0 = _mm512_dpbusd_epi32(first, w[0], _mm512_loadu_si512(x));
    __m512i s1 = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[1], _mm512_loadu_si512(x + 64));
    s0 = _mm512_dpbusd_epi32(s0, w[2], _mm512_loadu_si512(x + 128));
    s1 = _mm512_dpbusd_epi32(s1, w[3], _mm512_loadu_si512(x + 192));
    return _mm512_add_epi32(s0, s1);
}

/* ---- bytes that meet the planes of words, and then their scales ---- */

/* A block's numbers without scales in the order of pairs, and its scales as words: of Q4_K pairs of
 * two 32, twice, then 8 times those, for each 64 values; of Q2_K two pairs of 16 for each 64, of
 * each 128. */
struct plane_block {
    __m512i w[4];
    _Alignas(64) int32_t scale[4][4];
    __m512i groups[2];
};

static inline void plane_block_q4_k(const uint8_t *src, struct plane_block *b, struct unit *u)
{
    const __m512i by_tile = _mm512_setr_epi32(0, 0, 4, 4, 1, 1, 5, 5, 2, 2, 6, 6, 3, 3, 7, 7);
    __m128i s = _mm_cvtepu8_epi16(_mm256_castsi256_si128(avx2_q45_head(src, u)));
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(s), _mm_slli_epi16(s, 3), 1);
    _mm512_store_si512(b->scale, _mm512_permutexvar_epi32(by_tile, _mm512_castsi256_si512(both)));
    KEEP_IN_MEMORY(b->scale);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = _mm512_multishift_epi64_epi8(pairs_at(0, 4), twice_32(src + 16 + 32 * k));
        b->w[k] = _mm512_and_si512(v, _mm512_set1_epi8(15));
    }
}

static inline void plane_block_q2_k(const uint8_t *src, struct plane_block *b, struct unit *u)
{
    const __m512i groups = _mm512_broadcast_i64x4(_mm256_setr_epi32(
        (int)0x80028000, (int)0x80028000, (int)0x80068004, (int)0x80068004, (int)0x80038001,
        (int)0x80038001, (int)0x80078005, (int)0x80078005));
    __m512i scales = q2_k_head(src, u);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i v = twice_32(src + 16 + 32 * h), low = _mm512_set1_epi8(3);
        b->w[2 * h] = _mm512_and_si512(_mm512_multishift_epi64_epi8(pairs_at(0, 2), v), low);
        b->w[2 * h + 1] = _mm512_and_si512(_mm512_multishift_epi64_epi8(pairs_at(4, 6), v), low);
        __m512i group = _mm512_add_epi8(groups, _mm512_set1_epi16((short)(8 * h)));
        b->groups[h] = _mm512_shuffle_epi8(scales, group);
    }
}

/* sum + products of the bytes w[k] with 64 of a plane, in sums of four */
static inline __m512i plane_dot(__m512i sum, const struct plane_block *b, const int8_t *plane,
                                int k)
{
    return _mm512_dpbusd_epi32(sum, b->w[k], _mm512_loadu_si512(plane + 64 * k));
}

/* Products with the planes at x, in 16 sums. Sums of four products with either plane are words. Of
 * Q2_K 8 times those with the high plane and those with the low one are words together. */
static inline __attribute__((always_inline)) __m512i
plane_products(enum quant_type type, const struct plane_block *b, const int8_t *x)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i sum = zero, part[4];
#pragma GCC unroll 4
    for (int k = 0; type == QUANT_Q4_K && k < 4; k++) {
        __m128i times = _mm_load_si128((const __m128i *)(const void *)b->scale[k]);
        part[0] = _mm512_packs_epi32(plane_dot(zero, b, x, k), plane_dot(zero, b, x + 256, k));
        sum = _mm512_dpwssd_epi32(sum, part[0], _mm512_broadcast_i32x4(times));
    }
    if (type == QUANT_Q4_K)
        return sum;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        part[k] = plane_dot(_mm512_slli_epi32(plane_dot(zero, b, x + 256, k), 3), b, x, k);
    sum = _mm512_dpwssd_epi32(sum, _mm512_packs_epi32(part[0], part[1]), b->groups[0]);
    return _mm512_dpwssd_epi32(sum, _mm512_packs_epi32(part[2], part[3]), b->groups[1]);
}

static inline __attribute__((always_inline)) void
plane_block(enum quant_type type, const uint8_t *src, struct plane_block *b, struct unit *u)
{
    if (type == QUANT_Q4_K)
        plane_block_q4_k(src, b, u);
    else
        plane_block_q2_k(src, b, u);
}

/* ---- words with one batch row ---- */

/* Products of a block of Q4_K with 256 of one batch row, in 16 sums. Nibbles meet the batch row
 * first: their sums of two are words, which meet the scales in pairs. */
static inline __m512i q4_k_products(const uint8_t *src, const int16_t *x, struct unit *u)
{
    const __m512i low = _mm512_set1_epi16(15);
    int32_t scale[4]; /* pairs of words */
    __m128i scales = _mm256_castsi256_si128(avx2_q45_head(src, u));
    _mm_storeu_si128((__m128i *)scale, _mm_cvtepu8_epi16(scales));
    __m512i sum = _mm512_setzero_si512(), zero = sum;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        __m512i v = words_of(src + 16 + 32 * k);
        __m512i a = _mm512_dpwssd_epi32(zero, _mm512_and_si512(v, low), words(x + 64 * k));
        __m512i b = _mm512_dpwssd_epi32(zero, _mm512_srli_epi16(v, 4), words(x + 64 * k + 32));
        a = _mm512_mask_mov_epi16(a, 0xaaaaaaaa, _mm512_slli_epi32(b, 16));
        sum = _mm512_dpwssd_epi32(sum, a, _mm512_set1_epi32(scale[k]));
    }
    return sum;
}

/* Products of a block with block b of one batch row, in 16 sums. */
static inline __attribute__((always_inline)) __m512i
block_products(enum quant_type type, bool planes, const uint8_t *src, const struct act *x,
               int64_t b, struct unit *u)
{
    __m512i w[8];
    struct plane_block block;
    if (planes) {
        plane_block(type, src, &block, u);
        return plane_products(type, &block, x->planes + b * 512);
    }
    if (type == QUANT_Q4_K)
        return q4_k_products(src, x->q + b * 256, u);
    expand_256(type, src, w, u);
    return dot_words(w, x->q + b * 256);
}

/* planes: as bytes with the planes of the batch row. */
static inline __attribute__((always_inline)) float row_256(enum quant_type type, bool planes,
                                                           const uint8_t *row, int64_t n,
                                                           const struct act *x)
{
    __m256 sum = _mm256_setzero_ps();
    bool has_min = type_has_min(type);
    uint32_t bytes = block_bytes(type);
    for (int64_t b = 0; b < n / 256; b += 8) {
        int blocks = n / 256 - b < 8 ? (int)(n / 256 - b) : 8;
        __m256i v[8], m[8];
        float d[8] = {0}, dmin[8] = {0};
        for (int k = 0; k < 8; k++)
            v[k] = m[k] = _mm256_setzero_si256();
        for (int k = 0; k < blocks; k++) {
            struct unit u;
            ask_ahead(row + (b + k) * bytes, bytes);
            v[k] = halves(block_products(type, planes, row + (b + k) * bytes, x, b + k, &u));
            d[k] = u.d[0];
            if (has_min) {
                __m256i s = _mm256_loadu_si256((const __m256i *)(x->sum16 + (b + k) * 16));
                m[k] = _mm256_madd_epi16(_mm256_load_si256((const __m256i *)u.m), s);
                dmin[k] = u.dmin;
            }
        }
        __m256 dx = floats(x->d + b, blocks);
        sum = add_eight(sum, v, d, dx);
        if (has_min)
            sum = add_eight(sum, m, dmin, dx);
    }
    return tree8(sum);
}

/* The same of a lattice. */
static inline __attribute__((always_inline)) float
row_lattice(enum quant_type type, const uint8_t *row, int64_t n, const struct act *x)
{
    __m256 sum = _mm256_setzero_ps();
    uint32_t bytes = block_bytes(type);
    for (int64_t b = 0; b < n / 256; b += 8) {
        int blocks = n / 256 - b < 8 ? (int)(n / 256 - b) : 8, share = lattice_share(type);
        __m256i v[8];
        float d[8] = {0};
        for (int k = 0; k < 8; k++)
            v[k] = _mm256_setzero_si256();
        struct looked_up l;
        for (int k = 0; k < blocks; k++) {
            const uint8_t *src = row + (uint64_t)(b + k) * bytes;
            struct unit u;
            __m512i w[8];
            if (k % share == 0)
                lattice_look_up(type, src, bytes, blocks - k, share, &l);
            ask_ahead(src, bytes);
            expand_looked_up(type, src, &l, k % share, w, &u);
            v[k] = halves(dot_words(w, x->q + (b + k) * 256));
            d[k] = u.d[0];
        }
        sum = add_eight(sum, v, d, floats(x->d + b, blocks));
    }
    return tree8(sum);
}

/* ---- bytes with one batch row ---- */

/* The block at src and the next; left: 1 if there is no next. */
static inline __attribute__((always_inline)) void bytes_two(const uint8_t *src, int64_t left,
                                                            struct bytes_256 two[2])
{
    bytes_iq2_xxs_two(src, left == 1 ? src : src + sizeof(struct block_iq2_xxs), two);
}

/* Products with block b of a batch row, in 16 sums. */
static inline __m512i bytes_products(const struct bytes_256 *v, const struct act *x, int64_t b)
{
    const struct act_bytes *a = act_bytes(x, b);
    __m512i first = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)a->bias));
    /* at most BYTE_TIMES * 31: words, whose products are cheaper */
    __m512i times = _mm512_mullo_epi16(_mm512_loadu_si512(a->times), v->scale);
    return _mm512_mullo_epi32(dot_bytes(v->w, a->q, first), times);
}

static float row_iq2_xxs(const uint8_t *row, int64_t n, const struct act *x)
{
    __m256 sum = _mm256_setzero_ps();
    for (int64_t b = 0; b < n / 256; b += 8) {
        int blocks = n / 256 - b < 8 ? (int)(n / 256 - b) : 8;
        __m256i v[8];
        float d[8] = {0};
        for (int k = 0; k < 8; k++)
            v[k] = _mm256_setzero_si256();
        const uint8_t *src = row + b * (int64_t)sizeof(struct block_iq2_xxs);
        for (int k = 0; k < blocks; k += 2, src += 2 * sizeof(struct block_iq2_xxs)) {
            struct bytes_256 two[2];
            ask_ahead(src, 2 * sizeof(struct block_iq2_xxs));
            bytes_two(src, blocks - k, two);
            v[k] = halves(bytes_products(&two[0], x, b + k));
            d[k] = two[0].d;
            if (k + 1 == blocks)
                break;
            v[k + 1] = halves(bytes_products(&two[1], x, b + k + 1));
            d[k + 1] = two[1].d;
        }
        sum = add_eight(sum, v, d, floats(x->d + b, blocks));
    }
    return tree8(sum);
}

/* ---- with several batch rows ---- */

/* Up to this many batch rows meet the weights where they lie; of some formats fewer: as measured,
 * more of them are faster with a tile. */
#define DIRECT_ROWS 4

static inline int direct_rows(enum quant_type type)
{
    return act_block(type) == 256 ? DIRECT_ROWS : type == QUANT_Q8_0 ? 3 : 2;
}

static inline __m512i add_pairs(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

/* The totals of 4 registers of 16 sums, and of 8. */
static inline __m128i totals4(const __m512i *v)
{
    __m512i a = add_pairs(v[0], v[1]), b = add_pairs(v[2], v[3]);
    __m256i s = halves(_mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

static inline __m128i least4(const __m256i *m)
{
    __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(m[0], m[1]), _mm256_hadd_epi32(m[2], m[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

/* Up to 4 blocks of a weight row against n_x batch rows: the scales and minima of the blocks side
 * by side, and for each batch row the products of each block. */
#define GROUP 4
struct group {
    __m512i v[DIRECT_ROWS][GROUP];
    __m256i m[DIRECT_ROWS][GROUP];
    float d[GROUP], dmin[GROUP];
    int n;
};

static inline __attribute__((always_inline)) void
group_bytes(const uint8_t *src, const struct act *x, int64_t b, int n_x, struct group *g)
{
    for (int k = 0; k < g->n; k += 2, src += 2 * sizeof(struct block_iq2_xxs)) {
        struct bytes_256 two[2];
        ask_ahead(src, 2 * sizeof(struct block_iq2_xxs));
        bytes_two(src, g->n - k, two);
        g->d[k] = two[0].d;
        for (int i = 0; i < n_x; i++)
            g->v[i][k] = bytes_products(&two[0], &x[i], b + k);
        if (k + 1 == g->n)
            break;
        g->d[k + 1] = two[1].d;
        for (int i = 0; i < n_x; i++)
            g->v[i][k + 1] = bytes_products(&two[1], &x[i], b + k + 1);
    }
}

static inline __attribute__((always_inline)) void
group_blocks(enum quant_type type, const uint8_t *src, const struct act *x, int64_t b, int n_x,
             struct group *g)
{
    uint32_t bytes = block_bytes(type);
    struct looked_up l;
    if (is_lattice(type))
        lattice_look_up(type, src, bytes, g->n, GROUP, &l);
    for (int k = 0; k < g->n; k++) {
        struct unit u;
        __m512i w[8];
        struct plane_block block;
        ask_ahead(src + (uint64_t)k * bytes, bytes);
        if (type == QUANT_Q2_K)
            plane_block(type, src + (uint64_t)k * bytes, &block, &u);
        else if (is_lattice(type))
            expand_looked_up(type, src + (uint64_t)k * bytes, &l, k, w, &u);
        else
            expand_256(type, src + (uint64_t)k * bytes, w, &u);
        g->d[k] = u.d[0];
        for (int i = 0; i < n_x; i++)
            g->v[i][k] = type == QUANT_Q2_K
                             ? plane_products(type, &block, x[i].planes + (b + k) * 512)
                             : dot_words(w, x[i].q + (b + k) * 256);
        if (!type_has_min(type))
            continue;
        __m256i least = half_words(u.m);
        g->dmin[k] = u.dmin;
        for (int i = 0; i < n_x; i++)
            g->m[i][k] = _mm256_madd_epi16(least, half_words(x[i].sum16 + (b + k) * 16));
    }
}

static inline __attribute__((always_inline)) void
group_products(enum quant_type type, const uint8_t *src, const struct act *x, int64_t b, int n_x,
               struct group *g)
{
    if (has_bytes(type))
        group_bytes(src, x, b, n_x, g);
    else
        group_blocks(type, src, x, b, n_x, g);
    for (int k = g->n; k < GROUP; k++) {
        g->d[k] = g->dmin[k] = 0;
        for (int i = 0; i < n_x; i++) {
            g->v[i][k] = _mm512_setzero_si512();
            g->m[i][k] = _mm256_setzero_si256();
        }
    }
}

/* s += the group's products with batch row i */
static inline __attribute__((always_inline)) void
group_add(enum quant_type type, const struct group *g, int i, const float *dx, float *s)
{
    __m128 d = _mm_maskz_loadu_ps((__mmask8)((1u << g->n) - 1), dx), sum = _mm_load_ps(s);
    sum = _mm_fmadd_ps(_mm_cvtepi32_ps(totals4(g->v[i])), _mm_mul_ps(_mm_loadu_ps(g->d), d), sum);
    if (type_has_min(type))
        sum = _mm_fmadd_ps(_mm_cvtepi32_ps(least4(g->m[i])), _mm_mul_ps(_mm_loadu_ps(g->dmin), d),
                           sum);
    _mm_store_ps(s, sum);
}

/* One weight row after the other, as they lie: many short streams of memory are slower. */
static inline __attribute__((always_inline)) void
rows_many(enum quant_type type, const struct qrows *w, int n_rows, const struct act *x, int n_x,
          float (*y)[TILE_ROWS])
{
    for (int o = 0; o < n_rows; o++) {
        _Alignas(32) float sum[DIRECT_ROWS][8] = {{0}};
        const uint8_t *row = w->data + (uint64_t)o * w->row_bytes;
        struct group g;
        for (int64_t b = 0; b < w->n / 256; b += GROUP) {
            g.n = w->n / 256 - b < GROUP ? (int)(w->n / 256 - b) : GROUP;
            group_products(type, row + (uint64_t)b * block_bytes(type), x, b, n_x, &g);
            for (int i = 0; i < n_x; i++)
                group_add(type, &g, i, x[i].d + b, sum[i] + b % 8);
        }
        for (int i = 0; i < n_x; i++)
            y[i][o] = tree8(_mm256_load_ps(sum[i]));
    }
}

/* 16 words at q, and those of the next block. */
static inline __m512i two_blocks(const int16_t *q)
{
    const __m256i *p = (const __m256i *)(const void *)q;
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(p)),
                              _mm256_loadu_si256(p + 2), 1);
}

/* The totals of 8 blocks in pairs, each in half of a register. */
static inline __m256i pair_totals(const __m512i *v)
{
    __m512i a = add_pairs(v[0], v[1]), b = add_pairs(v[2], v[3]);
    __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i even = _mm512_castsi512_si256(c), odd = _mm512_extracti64x4_epi64(c, 1);
    __m128i e = _mm_add_epi32(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    __m128i o = _mm_add_epi32(_mm256_castsi256_si128(odd), _mm256_extracti128_si256(odd, 1));
    return _mm256_set_m128i(_mm_unpackhi_epi32(e, o), _mm_unpacklo_epi32(e, o));
}

/* sum[i] += 8 blocks of 32 of a weight row, of which the value `at` is the first, with batch row
 * i. */
static inline __attribute__((always_inline)) void
eight_blocks(const struct qrows *row, int64_t at, const struct act *x, int n_x, __m256 *sum)
{
    enum quant_type type = row->type;
    const uint8_t *src = row->data + (uint64_t)(at / 32) * block_bytes(type);
    __m512i w[8];
    ask_ahead(src, 8 * block_bytes(type));
    __m256 d = expand_32_pairs(type, src, w);
#pragma GCC unroll 4
    for (int i = 0; i < n_x; i++) {
        const int16_t *q = x[i].q + at;
        __m512i products[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            products[k] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), w[2 * k],
                                              two_blocks(q + 64 * k));
            products[k] = _mm512_dpwssd_epi32(products[k], w[2 * k + 1],
                                              two_blocks(q + 64 * k + 16));
        }
        __m256 scale = _mm256_mul_ps(d, _mm256_loadu_ps(x[i].d + at / 32));
        sum[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(pair_totals(products)), scale, sum[i]);
    }
}

/* The same of fewer blocks, the last of a row. */
static inline __attribute__((always_inline)) void
last_blocks(const struct qrows *row, int64_t at, int blocks, const struct act *x, int n_x,
            __m256 *sum)
{
    enum quant_type type = row->type;
    struct unit u;
    __m512i w[8];
    expand(type, row->data + (uint64_t)(at / 32) * block_bytes(type), blocks, w, &u);
    for (int i = 0; i < n_x; i++) {
        __m256i products[8];
        for (int k = 0; k < 8; k++)
            products[k] = k < blocks ? halves(_mm512_dpwssd_epi32(_mm512_setzero_si512(), w[k],
                                                                  words(x[i].q + at + 32 * k)))
                                     : _mm256_setzero_si256();
        sum[i] = add_eight(sum[i], products, u.d, floats(x[i].d + at / 32, blocks));
    }
}

static inline __attribute__((always_inline)) void
rows_32(enum quant_type type, const struct qrows *w, int n_rows, const struct act *x, int n_x,
        float (*y)[TILE_ROWS])
{
    for (int o = 0; o < n_rows; o++) {
        struct qrows row = {.type = type, .data = w->data + (uint64_t)o * w->row_bytes};
        __m256 sum[DIRECT_ROWS];
        int64_t at = 0;
#pragma GCC unroll 4
        for (int i = 0; i < n_x; i++)
            sum[i] = _mm256_setzero_ps();
        for (; at + 256 <= w->n; at += 256)
            eight_blocks(&row, at, x, n_x, sum);
        if (at < w->n)
            last_blocks(&row, at, (int)(w->n - at) / 32, x, n_x, sum);
#pragma GCC unroll 4
        for (int i = 0; i < n_x; i++)
            y[i][o] = tree8(sum[i]);
    }
}

#endif
