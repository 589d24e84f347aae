/* The leaves with AVX-512 (F, BW, VL, DQ, VNNI, VBMI, GFNI). Products of quantised weights are sums
 * of four products of bytes in one instruction (vpdpbusd) for the formats of bytes_avx512.h, of two
 * products of words (vpdpwssd) for the others, which unpack as with AVX2. */
#include "ops/avx2/leaf_avx2.h"
#include "ops/avx2/elem_avx2.h"
#include "ops/avx512/bytes_avx512.h"
#include "ops/avx512/leaf_avx512.h"
#include "ops/avx512/transpose_avx512.h"

/* ---- activations ---- */

/* A block of 256 as struct act_bytes, and the sums of 16 of its values. */
static void quantise_256(const float *x, struct act_bytes *to, int16_t *sum16, float *d)
{
    const __m512i pairs = _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 10, 11);
    _Alignas(64) int16_t q[256];
    int times[8];
    __m512i half[8], v[4], w[4];
    quantise_bytes(x, q, times, d);
    for (int k = 0; k < 8; k++)
        half[k] = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_load_si512(q + 32 * k)));
    for (int k = 0; k < 4; k++)
        v[k] = _mm512_permutex2var_epi64(half[k], pairs, half[4 + k]);
    eights_of_halves(v, w);
    for (int k = 0; k < 4; k++)
        _mm512_storeu_si512(to->q + 64 * k, w[k]);
    for (int k = 0; k < 16; k++) {
        int sum = 0;
        for (int j = 0; j < 16; j++)
            sum += q[16 * k + j];
        sum16[k] = (int16_t)(sum * times[k / 2]);
        to->times[k] = times[k / 2];
        to->bias[k / 2] = (k % 2 ? to->bias[k / 2] : 0) - 128 * sum;
    }
}

void avx512_quantise(const float *x, int64_t n, enum act_kind kind, const struct act *to)
{
    if (kind != ACT_256_BYTE) {
        elem_quantise(x, n, kind, to);
        return;
    }
    for (int64_t b = 0; b < n / 256; b++)
        quantise_256(x + b * 256, (struct act_bytes *)(void *)(to->q + b * 256),
                     to->sum16 + b * 16, to->d + b);
}

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

/* A block of 256 in registers, and its products with block b of a batch row, in 16 sums. */
struct whole {
    __m512i w[8], scale;
};

static inline __attribute__((always_inline)) void
whole_load(enum quant_type type, const uint8_t *src, struct whole *v, struct unit *u)
{
    if (has_bytes(type))
        bytes_iq2_xxs(src, v->w, &v->scale, u);
    else
        expand_256(type, src, v->w, u);
}

static inline __attribute__((always_inline)) __m512i
whole_dot(enum quant_type type, const struct whole *v, const struct act *x, int64_t b)
{
    if (!has_bytes(type))
        return dot_words(v->w, x->q + b * 256);
    const struct act_bytes *a = act_bytes(x, b);
    __m512i first = _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)a->bias));
    /* at most BYTE_TIMES * 31: words, whose products are cheaper */
    __m512i times = _mm512_mullo_epi16(_mm512_loadu_si512(a->times), v->scale);
    return _mm512_mullo_epi32(dot_bytes(v->w, a->q, first), times);
}

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
block_products(enum quant_type type, const uint8_t *src, const struct act *x, int64_t b,
               struct unit *u)
{
    struct whole w;
    if (type == QUANT_Q4_K)
        return q4_k_products(src, x->q + b * 256, u);
    whole_load(type, src, &w, u);
    return whole_dot(type, &w, x, b);
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
            ask_ahead(row + (b + k) * bytes, bytes);
            v[k] = halves(block_products(type, row + (b + k) * bytes, x, b + k, &u));
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

/* ---- quantised rows against several batch rows, without a tile ---- */

/* Up to this many batch rows meet the weights where they lie. */
#define DIRECT_ROWS 4

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
group_products(enum quant_type type, const uint8_t *src, const struct act *x, int64_t b, int n_x,
               struct group *g)
{
    uint32_t bytes = block_bytes(type);
    for (int k = 0; k < g->n; k++) {
        struct unit u;
        struct whole w;
        ask_ahead(src + (uint64_t)k * bytes, bytes);
        whole_load(type, src + (uint64_t)k * bytes, &w, &u);
        g->d[k] = u.d[0];
        for (int i = 0; i < n_x; i++)
            g->v[i][k] = whole_dot(type, &w, &x[i], b + k);
        if (!type_has_min(type))
            continue;
        __m256i least = half_words(u.m);
        g->dmin[k] = u.dmin;
        for (int i = 0; i < n_x; i++)
            g->m[i][k] = _mm256_madd_epi16(least, half_words(x[i].sum16 + (b + k) * 16));
    }
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
        __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(u.d), floats(x[i].d + at / 32, blocks));
        sum[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum8(products)), scale, sum[i]);
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

/* ---- quantised rows, a tile of them against several activation rows ---- */

static void put_minima(const __m512i *least, const struct tile *t, int64_t to)
{
    int16_t pairs[32 * TILE_ROWS];
    transpose16(least, pairs);
    memcpy(t->m + to / 16 * TILE_ROWS, pairs, sizeof(pairs) / 2);
}

/* 256 values of a tile of bytes: [64][TILE_ROWS][4], then the scales [16][TILE_ROWS] of each 32 of
 * them, twice. */
#define TILE_SCALES (256 * TILE_ROWS)

/* A block of all rows, of which the value `at` is the first, to the value `to` of the tile. */
static void unpack_bytes_256(const struct qrows *w, int n_rows, int64_t at, const struct tile *t,
                             int64_t to)
{
    const uint8_t *src = w->data + (uint64_t)(at / 256) * block_bytes(w->type);
    __m512i r[4][TILE_ROWS], sub[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) {
        struct unit u = {.d = {0}};
        __m512i v[4] = {0};
        sub[i] = _mm512_setzero_si512();
        const uint8_t *row = src + (uint64_t)i * w->row_bytes;
        ask_rows_ahead(row, TILE_ROWS * w->row_bytes, sizeof(struct block_iq2_xxs));
        if (i < n_rows)
            bytes_iq2_xxs(row, v, &sub[i], &u);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            r[k][i] = v[k];
        t->d[to / 256 * TILE_ROWS + i] = u.d[0];
    }
    int16_t *unit = t->w + to * TILE_ROWS;
    for (int k = 0; k < 4; k++)
        transpose16_to(r[k], unit + k * 64, 256);
    transpose16(sub, unit + TILE_SCALES / 2);
}

/* Up to 256 values of all rows, from the value `at` on, to the value `to` of the tile. */
static inline __attribute__((always_inline)) void
unpack_256(enum quant_type type, const struct qrows *w, int n_rows, int64_t at,
           const struct tile *t, int64_t to)
{
    int block = act_block(type);
    int blocks = block == 256 ? 1 : t->n - to < 256 ? (int)(t->n - to) / 32 : 8;
    int words = blocks * block / 32;
    const uint8_t *src = w->data + (uint64_t)(at / block) * block_bytes(type);
    __m512i r[8][TILE_ROWS], least[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) {
        struct unit u;
        __m512i v[8];
        const uint8_t *row = src + (uint64_t)i * w->row_bytes;
        ask_rows_ahead(row, TILE_ROWS * w->row_bytes, (uint32_t)blocks * block_bytes(type));
        if (i < n_rows) {
            expand(type, row, blocks, v, &u);
        } else {
            u = (struct unit){0};
            for (int j = 0; j < 8; j++)
                v[j] = _mm512_setzero_si512();
        }
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            r[j][i] = v[j];
        for (int k = 0; k < blocks; k++)
            t->d[(to / block + k) * TILE_ROWS + i] = u.d[k];
        if (type_has_min(type)) {
            least[i] = _mm512_castsi256_si512(half_words(u.m));
            t->dmin[to / 256 * TILE_ROWS + i] = u.dmin;
        }
    }
    for (int j = 0; j < words; j++)
        transpose16(r[j], t->w + (to + 32 * j) * TILE_ROWS);
    if (type_has_min(type))
        put_minima(least, t, to);
}

#define UNPACK(type, block)                                                                        \
    case type:                                                                                     \
        for (int64_t to = 0; to < t->n; to += 256)                                                 \
            if (has_bytes(type))                                                                   \
                unpack_bytes_256(w, n_rows, from + to, t, to);                                     \
            else                                                                                   \
                unpack_256(type, w, n_rows, from + to, t, to);                                     \
        return;

/* t->n values of the rows, from the value `from` on. */
static void unpack_from(const struct qrows *w, int n_rows, int64_t from, const struct tile *t)
{
    switch (w->type) {
        FORMATS_32(UNPACK)
        FORMATS_256(UNPACK)
    default:
        SLUICE_ASSERT(!"a quantised type");
    }
}

void avx512_tile_unpack(const struct qrows *w, int n_rows, const struct tile *t)
{
    unpack_from(w, n_rows, 0, t);
}

static inline __m512i pair_of(const int16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, 4);
    return _mm512_set1_epi32(pair);
}

/* acc[i] = the products of 2 * pairs values of 16 weight rows with those of n batch rows; pairs is
 * even. Few batch rows have two sums each, or every product would wait for the one before. */
static inline __attribute__((always_inline)) void
pairs_dot(const int16_t *w, const int16_t *const *x, int n, int pairs, __m512i *acc)
{
    __m512i s[2][TILE_BATCH];
    int sums = n <= TILE_BATCH / 2 ? 2 : 1;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        s[0][i] = s[1][i] = _mm512_setzero_si512();
    for (int k = 0; k < pairs; k += 2) {
#pragma GCC unroll 2
        for (int l = 0; l < 2; l++) {
            __m512i v = words(w + (k + l) * TILE_ROWS * 2);
            __m512i *to = s[l % sums];
#pragma GCC unroll 8
            for (int i = 0; i < n; i++)
                to[i] = _mm512_dpwssd_epi32(to[i], v, pair_of(x[i] + 2 * (k + l)));
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        acc[i] = sums == 2 ? _mm512_add_epi32(s[0][i], s[1][i]) : s[0][i];
}

/* part[i] += the sums acc[i] times the scales of 16 weight rows times that of batch row i. */
static inline __attribute__((always_inline)) void
scale_add(const __m512i *acc, const float *dw, const float *const *dx, int n, float *part)
{
    __m512 d = _mm512_loadu_ps(dw);
#pragma GCC unroll 16
    for (int i = 0; i < n; i++) {
        __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(*dx[i]));
        __m512 sum = _mm512_load_ps(part + i * 16);
        _mm512_store_ps(part + i * 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i]), scale, sum));
    }
}

static inline __m512i four_of(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

/* acc[i] = the products of 32 values of 16 weight rows, number `sub` of the block at w, with those
 * of n batch rows. Few batch rows have two sums each, as in pairs_dot. */
static inline __attribute__((always_inline)) void
bytes_32(const uint8_t *w, const struct act_bytes *const *x, int n, int sub,
         __m512i *acc)
{
    __m512i s[2][TILE_BATCH];
    int sums = n <= TILE_BATCH / 2 ? 2 : 1;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        s[0][i] = _mm512_set1_epi32(x[i]->bias[sub]);
        s[1][i] = _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        __m512i v = _mm512_loadu_si512(w + (8 * sub + k) * TILE_ROWS * 4);
        __m512i *to = s[k % sums];
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            to[i] = _mm512_dpbusd_epi32(to[i], v,
                                        four_of(x[i]->q + 64 * (k / 2) + 8 * sub + 4 * (k % 2)));
    }
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        acc[i] = sums == 2 ? _mm512_add_epi32(s[0][i], s[1][i]) : s[0][i];
}

/* acc[i] = the products of a block of 16 weight rows with those of n batch rows. */
static inline __attribute__((always_inline)) void
bytes_dot(const int16_t *unit, const struct act_bytes *const *x, int n,
          __m512i *acc)
{
    const uint8_t *w = (const uint8_t *)(const void *)unit;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        acc[i] = _mm512_setzero_si512();
    for (int sub = 0; sub < 8; sub++) {
        __m512i part[TILE_BATCH];
        __m512i scale = _mm512_loadu_si512(w + TILE_SCALES + 2 * sub * TILE_ROWS * 4);
        bytes_32(w, x, n, sub, part);
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            __m512i times = _mm512_set1_epi32(x[i]->times[2 * sub]);
            part[i] = _mm512_mullo_epi32(part[i], scale);
            acc[i] = _mm512_add_epi32(acc[i], _mm512_mullo_epi32(part[i], times));
        }
    }
}

/* Partial sums of TILE_BATCH batch rows with 16 weight rows. */
typedef float parts[8][TILE_BATCH * TILE_ROWS];

/* Adds the products of the tile, whose first value is value `from` of the rows. */
static inline __attribute__((always_inline)) void
tile_add_n(const struct tile *t, int64_t from, const struct act *x, int n, bool of_bytes,
           parts part)
{
    __m512i acc[TILE_BATCH];
    const int16_t *q[TILE_BATCH];
    const struct act_bytes *bytes[TILE_BATCH];
    int block = t->block;
    const float *dx[TILE_BATCH];
    for (int64_t b = 0; b < t->n / block; b++) {
        int64_t at = from / block + b;
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            q[i] = x[i].q + at * block;
            bytes[i] = act_bytes(&x[i], at);
            dx[i] = x[i].d + at;
        }
        if (of_bytes)
            bytes_dot(t->w + b * 256 * TILE_ROWS, bytes, n, acc);
        else
            pairs_dot(t->w + b * block * TILE_ROWS, q, n, block / 2, acc);
        scale_add(acc, t->d + b * TILE_ROWS, dx, n, part[at % 8]);
        if (block == 32 || !t->has_min)
            continue;
#pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            q[i] = x[i].sum16 + at * 16;
        pairs_dot(t->m + b * 16 * TILE_ROWS, q, n, 8, acc);
        scale_add(acc, t->dmin + b * TILE_ROWS, dx, n, part[at % 8]);
    }
}

static inline __attribute__((always_inline)) void
tile_add_kind(const struct tile *t, int64_t from, const struct act *x, int n, parts part)
{
    /* loops of known lengths */
    struct tile of_32 = *t, of_256 = *t;
    of_32.block = 32;
    of_32.has_min = false;
    of_256.block = 256;
    if (t->block == 32)
        tile_add_n(&of_32, from, x, n, false, part);
    else
        tile_add_n(&of_256, from, x, n, has_bytes(t->type), part);
}

#define TILE_ADD(n)                                                                                \
    case n:                                                                                        \
        tile_add_kind(t, from, x, n, part);                                                        \
        return

static void tile_add(const struct tile *t, int64_t from, const struct act *x, int n, parts part)
{
    switch (n) {
        TILE_ADD(8);
        TILE_ADD(7);
        TILE_ADD(6);
        TILE_ADD(5);
        TILE_ADD(4);
        TILE_ADD(3);
        TILE_ADD(2);
        TILE_ADD(1);
    default:
        SLUICE_ASSERT(!"a batch of at most TILE_BATCH rows");
    }
}

static void parts_sum(parts part, int n, float (*y)[TILE_ROWS])
{
    for (int k = 0; k < n * TILE_ROWS; k++)
        y[k / TILE_ROWS][k % TILE_ROWS] =
            ((part[0][k] + part[4][k]) + (part[2][k] + part[6][k])) +
            ((part[1][k] + part[5][k]) + (part[3][k] + part[7][k]));
}

void avx512_tile_dot(const struct tile *t, const struct act *x, int n,
                            float (*y)[TILE_ROWS])
{
    _Alignas(64) parts part;
    memset(part, 0, sizeof(part));
    tile_add(t, 0, x, n, part);
    parts_sum(part, n, y);
}

/* A tile of 256 values at a time, which stays in the first-level cache: for batches that would not
 * pay for writing the whole tile to memory. */
static void tiles_in_cache(const struct qrows *w, int n_rows, const struct act *x, int n,
                           float (*y)[TILE_ROWS])
{
    _Alignas(64) parts part[(ROW_BATCH + TILE_BATCH - 1) / TILE_BATCH];
    _Alignas(64) int16_t values[256 * TILE_ROWS], least[16 * TILE_ROWS];
    float d[8 * TILE_ROWS], dmin[TILE_ROWS];
    struct tile t = {.w = values, .m = least, .d = d, .dmin = dmin, .type = w->type,
                     .block = act_block(w->type), .has_min = type_has_min(w->type)};
    memset(part, 0, sizeof(part));
    for (int64_t at = 0; at < w->n; at += 256) {
        t.n = w->n - at < 256 ? w->n - at : 256;
        unpack_from(w, n_rows, at, &t);
        for (int i = 0; i < n; i += TILE_BATCH)
            tile_add(&t, at, x + i, n - i < TILE_BATCH ? n - i : TILE_BATCH, part[i / TILE_BATCH]);
    }
    for (int i = 0; i < n; i += TILE_BATCH)
        parts_sum(part[i / TILE_BATCH], n - i < TILE_BATCH ? n - i : TILE_BATCH, y + i);
}

/* One loop over rows for each format, with the unpacking inlined. */
#define ROWS_32(type, block)                                                                       \
    case type:                                                                                     \
        if (n == 1)                                                                                \
            rows_32(type, w, n_rows, x, 1, y);                                                     \
        else if (n == 2)                                                                           \
            rows_32(type, w, n_rows, x, 2, y);                                                     \
        else if (n == 3)                                                                           \
            rows_32(type, w, n_rows, x, 3, y);                                                     \
        else                                                                                       \
            rows_32(type, w, n_rows, x, 4, y);                                                     \
        return;
#define ROWS_256(type, block)                                                                      \
    case type:                                                                                     \
        if (n > 1) {                                                                               \
            rows_many(type, w, n_rows, x, n, y);                                                   \
            return;                                                                                \
        }                                                                                          \
        for (int o = 0; o < n_rows; o++)                                                           \
            y[0][o] = row_256(type, sizeof(struct block), w->data + (uint64_t)o * w->row_bytes,    \
                              w->n, x);                                                            \
        return;

void avx512_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                           float (*y)[TILE_ROWS])
{
    if (n > DIRECT_ROWS) {
        tiles_in_cache(w, n_rows, x, n, y);
        return;
    }
    switch (w->type) {
        FORMATS_32(ROWS_32)
        FORMATS_256(ROWS_256)
    default:
        SLUICE_ASSERT(!"a quantised type");
    }
}

/* ---- float32 ---- */

static inline float fold16(__m512 s)
{
    return tree8(_mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1)));
}

/* nw <= 4 rows against nx <= 4 */
struct dot_rows {
    const float *const *w, *const *x;
    int nw, nx;
};

/* s[i][j] += 16 values, or as many as the mask has, from k on. */
static inline __attribute__((always_inline)) void
dots_step(const struct dot_rows *r, int64_t k, __mmask16 in, __m512 (*s)[4])
{
    __m512 a[4];
#pragma GCC unroll 4
    for (int j = 0; j < r->nw; j++)
        a[j] = _mm512_maskz_loadu_ps(in, r->w[j] + k);
#pragma GCC unroll 4
    for (int i = 0; i < r->nx; i++) {
        __m512 b = _mm512_maskz_loadu_ps(in, r->x[i] + k);
#pragma GCC unroll 4
        for (int j = 0; j < r->nw; j++)
            s[i][j] = _mm512_fmadd_ps(a[j], b, s[i][j]);
    }
}

/* The folds of 16 registers, which go on together as soon as halves of them are free. */
static inline __m512 fold16_all(const __m512 *s)
{
    __m512 a[8], b[4], c[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) /* of two registers, i + (i + 8) */
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(s[2 * i], s[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(s[2 * i], s[2 * i + 1], 0xee));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) /* of four, each in a lane, i + (i + 4) */
        b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xdd));
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) /* i + (i + 2) */
        c[i] = _mm512_add_ps(_mm512_shuffle_ps(b[2 * i], b[2 * i + 1], 0x44),
                             _mm512_shuffle_ps(b[2 * i], b[2 * i + 1], 0xee));
    /* lane l has the registers l, l + 4, l + 8 and l + 12 */
    __m512 y = _mm512_add_ps(_mm512_shuffle_ps(c[0], c[1], 0x88),
                             _mm512_shuffle_ps(c[0], c[1], 0xdd));
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11,
                                                   15), y);
}

/* The end of a row is padded with zeros. */
static inline __attribute__((always_inline)) void
dots_block(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
           float (*y)[DOTS_W])
{
    const struct dot_rows r = {w, x, nw, nx};
    __m512 s[4][4];
    int64_t k = 0;
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            s[i][j] = _mm512_setzero_ps();
    for (; k + 16 <= n; k += 16)
        dots_step(&r, k, 0xffff, s);
    if (k < n)
        dots_step(&r, k, (__mmask16)((1u << (n - k)) - 1), s);
    if (nw == 4 && nx == 4) {
        __m512 all = fold16_all(s[0]);
        _mm_storeu_ps(y[0], _mm512_extractf32x4_ps(all, 0));
        _mm_storeu_ps(y[1], _mm512_extractf32x4_ps(all, 1));
        _mm_storeu_ps(y[2], _mm512_extractf32x4_ps(all, 2));
        _mm_storeu_ps(y[3], _mm512_extractf32x4_ps(all, 3));
        return;
    }
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            y[i][j] = fold16(s[i][j]);
}

void avx512_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
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
        _mm_prefetch((const char *)w + 2 * k + HALF_AHEAD, _MM_HINT_T1);
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

void avx512_half_dots(const struct qrows *w, int n_rows, const float *const *x, int nx,
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

void avx512_mix(float *const *o, int n_o, const struct mix_keys *m)
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
void avx512_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x)
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
    LEAVES_AVX512, .quantise = avx512_quantise, .name = "avx512"};
