/* The leaves with AVX-512 (F, BW, VL, DQ, VNNI, VBMI, VBMI2, GFNI). Products of quantised weights
 * are sums of four products of bytes in one instruction (vpdpbusd) for the formats of
 * bytes_avx512.h and for rows of Q2_K, of two products of words (vpdpwssd) for the others, which
 * unpack as with AVX2. */
#include "ops/avx2/leaf_avx2.h"
#include "ops/avx2/elem_avx2.h"
#include "ops/avx512/bytes_avx512.h"
#include "ops/avx512/columns_avx512.h"
#include "ops/avx512/leaf_avx512.h"
#include "ops/avx512/rows_avx512.h"
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
        for (int64_t b = 0; kind == ACT_256 && b < n / 256; b++)
            put_word_planes(to->q + b * 256, to->planes + b * 512);
        return;
    }
    for (int64_t b = 0; b < n / 256; b++)
        quantise_256(x + b * 256, (struct act_bytes *)(void *)(to->q + b * 256),
                     to->sum16 + b * 16, to->d + b);
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
        struct bytes_256 v = {.d = 0};
        const uint8_t *row = src + (uint64_t)i * w->row_bytes;
        ask_rows_ahead(row, TILE_ROWS * w->row_bytes, sizeof(struct block_iq2_xxs));
        if (i < n_rows)
            bytes_iq2_xxs(row, &v);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            r[k][i] = v.w[k];
        sub[i] = v.scale;
        t->d[to / 256 * TILE_ROWS + i] = v.d;
    }
    int16_t *unit = t->w + to * TILE_ROWS;
    for (int k = 0; k < 4; k++)
        transpose16_to(r[k], unit + k * 64, 256);
    transpose16(sub, unit + TILE_SCALES / 2);
}

/* A block of 256 of all rows, or their last of 32, less than 8, of which the value `at` is the
 * first, to the value `to` of the tile. */
static inline __attribute__((always_inline)) void
unpack_256(enum quant_type type, const struct qrows *w, int n_rows, int64_t at,
           const struct tile *t, int64_t to)
{
    int block = act_block(type);
    int blocks = block == 256 ? 1 : (int)(t->n - to) / 32;
    int words = blocks * block / 32;
    const uint8_t *src = w->data + (uint64_t)(at / block) * block_bytes(type);
    __m512i r[8][TILE_ROWS], least[TILE_ROWS];
    struct looked_up l;
    for (int i = 0; i < TILE_ROWS; i++) {
        struct unit u;
        __m512i v[8];
        const uint8_t *row = src + (uint64_t)i * w->row_bytes;
        ask_rows_ahead(row, TILE_ROWS * w->row_bytes, (uint32_t)blocks * block_bytes(type));
        if (is_lattice(type) && i % lattice_share(type) == 0 && i < n_rows)
            lattice_look_up(type, row, w->row_bytes, n_rows - i, lattice_share(type), &l);
        if (i >= n_rows) {
            u = (struct unit){0};
            for (int j = 0; j < 8; j++)
                v[j] = _mm512_setzero_si512();
        } else if (is_lattice(type)) {
            expand_looked_up(type, row, &l, i % lattice_share(type), v, &u);
        } else {
            expand(type, row, blocks, v, &u);
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
            else if (has_columns(type) && t->n - to >= 256)                                        \
                unpack_columns(type, w, n_rows, from + to, t, to);                                 \
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

static inline __attribute__((always_inline)) float row_of(enum quant_type type, const uint8_t *row,
                                                          int64_t n, const struct act *x)
{
    if (has_bytes(type))
        return row_iq2_xxs(row, n, x);
    return is_lattice(type) ? row_lattice(type, row, n, x)
                            : row_256(type, type == QUANT_Q2_K, row, n, x);
}

/* One loop over rows for each format, with the unpacking inlined. */
#define ROWS_32(type, block)                                                                       \
    case type:                                                                                     \
        if (n == 1)                                                                                \
            rows_32(type, w, n_rows, x, 1, y);                                                     \
        else if (n == 2)                                                                           \
            rows_32(type, w, n_rows, x, 2, y);                                                     \
        else                                                                                       \
            rows_32(type, w, n_rows, x, 3, y);                                                     \
        return;
#define ROWS_256(type, block)                                                                      \
    case type:                                                                                     \
        if (n > 1) {                                                                               \
            rows_many(type, w, n_rows, x, n, y);                                                   \
            return;                                                                                \
        }                                                                                          \
        for (int o = 0; o < n_rows; o++)                                                           \
            y[0][o] = row_of(type, w->data + (uint64_t)o * w->row_bytes, w->n, x);                 \
        return;

void avx512_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                           float (*y)[TILE_ROWS])
{
    if (n > direct_rows(w->type)) {
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

void avx512_row_q4_k_planes(const struct qrows *w, int n_rows, const struct act *x, float *y)
{
    for (int o = 0; o < n_rows; o++)
        y[o] = row_256(QUANT_Q4_K, true, w->data + (uint64_t)o * w->row_bytes, w->n, x);
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
    LEAVES_AVX512, .quantise = avx512_quantise, .row_dot = avx512_row_dot, .name = "avx512"};
