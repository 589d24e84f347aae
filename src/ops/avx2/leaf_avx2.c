/* The leaves with AVX2, FMA and F16C. */
#include "ops/avx2/leaf_avx2.h"
#include "ops/avx2/bytes_avx2.h"
#include "ops/avx2/elem_avx2.h"
#include "ops/avx2/sums_avx2.h"
#include "ops/avx2/unpack_avx2.h"

static void avx2_quantise(const float *x, int64_t n, enum act_kind kind, const struct act *to)
{
    elem_quantise(x, n, kind, to);
    for (int64_t b = 0; kind == ACT_256_BYTE && b < n / 256; b++)
        put_row_bytes(x + 256 * b, row_bytes_at(to, b));
}

/* ---- quantised rows, one at a time ---- */

static inline __m256i words(const int16_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline __m256i dot_step(__m256i sum, __m256i w, const int16_t *x)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, words(x)));
}

static inline __m256i dot_32(const int16_t *w, const int16_t *x)
{
    return dot_step(_mm256_madd_epi16(words(w), words(x)), words(w + 16), x + 16);
}

static inline __m256i dot_256(const int16_t *w, const int16_t *x)
{
    __m256i s0 = _mm256_setzero_si256(), s1 = s0;
#pragma GCC unroll 8
    for (int j = 0; j < 256; j += 32) {
        s0 = dot_step(s0, words(w + j), x + j);
        s1 = dot_step(s1, words(w + j + 16), x + j + 16);
    }
    return _mm256_add_epi32(s0, s1);
}

static inline __attribute__((always_inline)) float row_32(enum quant_type type, const uint8_t *row,
                                                          int64_t n, const struct act *x)
{
    uint32_t bytes = type == QUANT_Q8_0 ? 34 : type == QUANT_MXFP4 ? 17 : 18;
    __m256 sum = _mm256_setzero_ps();
    struct unit u;
    for (int64_t b = 0; b < n / 32; b += 8) {
        int blocks = n / 32 - b < 8 ? (int)(n / 32 - b) : 8;
        __m256i v[8];
        if (blocks == 8) {
            avx2_unpack(type, row + b * bytes, 8, &u);
        } else {
            memset(&u, 0, sizeof(u));
            avx2_unpack(type, row + b * bytes, blocks, &u);
        }
        for (int k = 0; k < 8; k++) {
            v[k] = _mm256_setzero_si256();
            if (k >= blocks)
                continue;
            v[k] = dot_32(u.w + 32 * k, x->q + (b + k) * 32);
        }
        sum = add_eight(sum, v, u.d, first_floats(x->d + b, blocks));
    }
    return tree8(sum);
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
            avx2_unpack(type, row + (b + k) * bytes, 1, &u);
            v[k] = dot_256(u.w, x->q + (b + k) * 256);
            d[k] = u.d[0];
            if (has_min) {
                m[k] = _mm256_madd_epi16(words(u.m), words(x->sum16 + (b + k) * 16));
                dmin[k] = u.dmin;
            }
        }
        __m256 dx = first_floats(x->d + b, blocks);
        sum = add_eight(sum, v, d, dx);
        if (has_min)
            sum = add_eight(sum, m, dmin, dx);
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
        __m256i w0 = words(w + j), w1 = words(w + j + 16);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            s[i][0] = dot_step(s[i][0], w0, x[i] + j);
            s[i][1] = dot_step(s[i][1], w1, x[i] + j + 16);
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
                m[i][k] = _mm256_madd_epi16(words(u->u[k].m),
                                            words(x[i].sum16 + (b + k) * 16));
        }
    }
    for (int i = 0; i < n_x; i++) {
        __m256 dx = first_floats(x[i].d + b, u->n);
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
    uint32_t bytes = block_bytes(type);
    __m256 sum[ROW_BATCH];
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
#define ROWS_32(type, block)                                                                       \
    case type:                                                                                     \
        for (int o = 0; o < n_rows; o++)                                                           \
            for (int i = 0; i < n; i++)                                                            \
                y[i][o] = row_32(type, w->data + (uint64_t)o * w->row_bytes, w->n, x + i);         \
        return;
#define ROWS_256(type, block)                                                                      \
    case type:                                                                                     \
        for (int o = 0; o < n_rows; o++) {                                                         \
            const uint8_t *row = w->data + (uint64_t)o * w->row_bytes;                             \
            float(*to)[TILE_ROWS] = (float (*)[TILE_ROWS])(y[0] + o);                              \
            if (type == QUANT_IQ2_XXS && n == 1)                                                   \
                y[0][o] = row_iq2_xxs(row, w->n, x);                                               \
            else if (type == QUANT_IQ2_XXS)                                                        \
                rows_iq2_xxs(row, w->n, x, n, to);                                                 \
            else if (n == 1)                                                                       \
                y[0][o] = row_256(type, sizeof(struct block), row, w->n, x);                       \
            else                                                                                   \
                row_many(type, row, w->n, x, n, to);                                               \
        }                                                                                          \
        return;

static void avx2_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                         float (*y)[TILE_ROWS])
{
    switch (w->type) {
        FORMATS_32(ROWS_32)
        FORMATS_256(ROWS_256)
    default:
        SLUICE_ASSERT(!"a quantised type");
    }
}

/* ---- quantised rows, a tile of them against several activation rows ---- */

/* 8 x 8 words of 32 bits, rows to columns. */
static inline void transpose8(__m256i *r)
{
    __m256i t[8], s[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        s[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        s[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        s[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        s[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(s[i], s[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(s[i], s[i + 4], 0x31);
    }
}

/* n words of 8 rows, `stride` words apart, interleaved in pairs into columns row0 .. row0 + 7. */
static inline void put_pairs(const int16_t *w, int64_t stride, int n, int16_t *to, int row0)
{
    for (int k = 0; k < n; k += 16) {
        __m256i r[8];
        for (int i = 0; i < 8; i++)
            r[i] = words(w + i * stride + k);
        transpose8(r);
        for (int i = 0; i < 8; i++)
            _mm256_storeu_si256(
                (__m256i *)(to + ((size_t)(k / 2 + i) * TILE_ROWS + (size_t)row0) * 2), r[i]);
    }
}

/* Up to 256 values from `at` on of the rows row0 .. row0 + 7, of which n_rows are there. */
static inline __attribute__((always_inline)) void
unpack_eight(enum quant_type type, const struct qrows *w, int n_rows, const struct tile *t,
             int64_t at, int row0)
{
    int block = act_block(type);
    int n = t->n - at < 256 ? (int)(t->n - at) : 256, blocks = n / block;
    int64_t from = at / block * block_bytes(type);
    struct unit u[8];
    for (int i = 0; i < 8; i++) {
        float *d = t->d + at / block * TILE_ROWS + row0 + i;
        if (i < n_rows)
            avx2_unpack(type, w->data + (uint64_t)(row0 + i) * w->row_bytes + from, blocks, &u[i]);
        else
            memset(&u[i], 0, sizeof(u[i]));
        for (int b = 0; b < blocks; b++)
            d[b * TILE_ROWS] = u[i].d[b];
        if (type_has_min(type))
            t->dmin[at / 256 * TILE_ROWS + row0 + i] = u[i].dmin;
    }
    put_pairs(u[0].w, sizeof(u[0]) / 2, n, t->w + at * TILE_ROWS, row0);
    if (type_has_min(type))
        put_pairs(u[0].m, sizeof(u[0]) / 2, 16, t->m + at / 16 * TILE_ROWS, row0);
}

#define UNPACK(type)                                                                               \
    case type:                                                                                     \
        for (int64_t at = 0; at < t->n; at += 256)                                                 \
            for (int row0 = 0; row0 < TILE_ROWS; row0 += 8)                                        \
                unpack_eight(type, w, n_rows - row0, t, at, row0);                                 \
        return

void avx2_tile_unpack(const struct qrows *w, int n_rows, const struct tile *t)
{
    switch (w->type) {
        UNPACK(QUANT_Q8_0);
        UNPACK(QUANT_MXFP4);
        UNPACK(QUANT_Q2_K);
        UNPACK(QUANT_Q4_K);
        UNPACK(QUANT_Q6_K);
        UNPACK(QUANT_IQ2_XXS);
    default:
        for (int64_t at = 0; at < t->n; at += 256)
            for (int row0 = 0; row0 < TILE_ROWS; row0 += 8)
                unpack_eight(w->type, w, n_rows - row0, t, at, row0);
    }
}

static inline __m256i pair_of(const int16_t *x)
{
    int32_t pair;
    memcpy(&pair, x, 4);
    return _mm256_set1_epi32(pair);
}

/* acc[i][h] = the products of 2 * pairs values of 16 weight rows with those of n batch rows. */
static inline __attribute__((always_inline)) void
pairs_dot(const int16_t *w, const int16_t *const *x, int n, int pairs, __m256i (*acc)[2])
{
    __m256i s[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        s[i][0] = s[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int k = 0; k < pairs; k++) {
        __m256i w0 = words(w + k * TILE_ROWS * 2), w1 = words(w + k * TILE_ROWS * 2 + 16);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            __m256i p = pair_of(x[i] + 2 * k);
            s[i][0] = _mm256_add_epi32(s[i][0], _mm256_madd_epi16(w0, p));
            s[i][1] = _mm256_add_epi32(s[i][1], _mm256_madd_epi16(w1, p));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        acc[i][0] = s[i][0];
        acc[i][1] = s[i][1];
    }
}

/* part[i] += the sums acc[i] times the scales of 16 weight rows times that of batch row i. */
static inline __attribute__((always_inline)) void
scale_add(__m256i (*acc)[2], const float *dw, const float *dx, int n, float *part)
{
    __m256 d[2] = {_mm256_loadu_ps(dw), _mm256_loadu_ps(dw + 8)};
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            float *to = part + i * 16 + 8 * h;
            __m256 scale = _mm256_mul_ps(d[h], _mm256_set1_ps(dx[i]));
            __m256 dot = _mm256_cvtepi32_ps(acc[i][h]);
            _mm256_store_ps(to, _mm256_fmadd_ps(dot, scale, _mm256_load_ps(to)));
        }
    }
}

static inline __attribute__((always_inline)) void
tile_dot_n(const struct tile *t, const struct act *x, int n, int block, float (*y)[TILE_ROWS])
{
    _Alignas(32) float part[8][4 * 16];
    __m256i acc[4][2];
    const int16_t *q[4];
    float dx[4];
    memset(part, 0, sizeof(part));
    for (int64_t b = 0; b < t->n / block; b++) {
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            q[i] = x[i].q + b * block;
            dx[i] = x[i].d[b];
        }
        pairs_dot(t->w + b * block * TILE_ROWS, q, n, block / 2, acc);
        scale_add(acc, t->d + b * TILE_ROWS, dx, n, part[b % 8]);
        if (block == 32 || !t->has_min)
            continue;
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            q[i] = x[i].sum16 + b * 16;
        pairs_dot(t->m + b * 16 * TILE_ROWS, q, n, 8, acc);
        scale_add(acc, t->dmin + b * TILE_ROWS, dx, n, part[b % 8]);
    }
    for (int k = 0; k < n * 16; k++)
        y[k / 16][k % 16] = ((part[0][k] + part[4][k]) + (part[2][k] + part[6][k])) +
                            ((part[1][k] + part[5][k]) + (part[3][k] + part[7][k]));
}

#define TILE_DOT(n) block == 32 ? tile_dot_n(t, x, n, 32, y) : tile_dot_n(t, x, n, 256, y)

static void avx2_tile_dot(const struct tile *t, const struct act *x, int n, float (*y)[TILE_ROWS])
{
    int block = t->block;
    for (; n >= 4; n -= 4, x += 4, y += 4)
        TILE_DOT(4);
    if (n == 3)
        TILE_DOT(3);
    else if (n == 2)
        TILE_DOT(2);
    else if (n == 1)
        TILE_DOT(1);
}

/* ---- float32 ---- */

void avx2_widen(enum quant_type type, const uint8_t *src, float *dst, int64_t n)
{
    int64_t i = 0;
    if (type == QUANT_F16) {
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(dst + i,
                             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + 2 * i))));
        src += 2 * i;
    } else if (type == QUANT_BF16) {
        for (; i + 8 <= n; i += 8) {
            __m128i h = _mm_loadu_si128((const __m128i *)(src + 2 * i));
            _mm256_storeu_si256((__m256i *)(dst + i),
                                _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
        }
        src += 2 * i;
    }
    elem_widen(type, src, dst + i, n - i);
}

static inline float fold16(__m256 lo, __m256 hi)
{
    return tree8(_mm256_add_ps(lo, hi));
}

/* nw <= 2 rows against nx <= 3; the end of a row is padded with zeros. */
static inline __attribute__((always_inline)) void
dots_block(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
           float (*y)[DOTS_W])
{
    __m256 s[3][2][2];
    int64_t k = 0;
#pragma GCC unroll 4
    for (int i = 0; i < nx; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nw; j++)
            s[i][j][0] = s[i][j][1] = _mm256_setzero_ps();
    for (; k + 16 <= n; k += 16) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m256 a[2];
#pragma GCC unroll 2
            for (int j = 0; j < nw; j++)
                a[j] = _mm256_loadu_ps(w[j] + k + 8 * h);
#pragma GCC unroll 4
            for (int i = 0; i < nx; i++) {
                __m256 b = _mm256_loadu_ps(x[i] + k + 8 * h);
#pragma GCC unroll 2
                for (int j = 0; j < nw; j++)
                    s[i][j][h] = _mm256_fmadd_ps(a[j], b, s[i][j][h]);
            }
        }
    }
    for (int i = 0; i < nx; i++) {
        for (int j = 0; j < nw; j++) {
            if (k < n) {
                float a[16] = {0}, b[16] = {0};
                memcpy(a, w[j] + k, (size_t)(n - k) * sizeof(float));
                memcpy(b, x[i] + k, (size_t)(n - k) * sizeof(float));
                for (int h = 0; h < 2; h++)
                    s[i][j][h] = _mm256_fmadd_ps(_mm256_loadu_ps(a + 8 * h),
                                                 _mm256_loadu_ps(b + 8 * h), s[i][j][h]);
            }
            y[i][j] = fold16(s[i][j][0], s[i][j][1]);
        }
    }
}

static void avx2_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                      float (*y)[DOTS_W])
{
    for (int i = 0; i < nx; i += 3) {
        int ni = nx - i < 3 ? nx - i : 3;
        for (int j = 0; j < nw; j += 2) {
            int nj = nw - j < 2 ? nw - j : 2;
            float (*to)[DOTS_W] = (float (*)[DOTS_W])(y[i] + j);
            if (ni == 3 && nj == 2)
                dots_block(w + j, 2, x + i, 3, n, to);
            else if (ni == 2 && nj == 2)
                dots_block(w + j, 2, x + i, 2, n, to);
            else if (ni == 1 && nj == 2)
                dots_block(w + j, 2, x + i, 1, n, to);
            else
                for (int l = 0; l < ni; l++)
                    dots_block(w + j, 1, x + i + l, 1, n, (float (*)[DOTS_W])(y[i + l] + j));
        }
    }
}

static inline __attribute__((always_inline)) void
mix_block(float *const *o, int n_o, const float *p, const struct mix_keys *m, int64_t k)
{
    const float *key = m->key + k;
    int64_t dim = m->dim, p_stride = m->p_stride;
    __m256 s[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < n_o; i++) {
        s[i][0] = _mm256_loadu_ps(o[i] + k);
        s[i][1] = _mm256_loadu_ps(o[i] + k + 8);
    }
    for (int j = 0; j < m->n_key; j++) {
        __m256 a = _mm256_loadu_ps(key + j * dim), b = _mm256_loadu_ps(key + j * dim + 8);
#pragma GCC unroll 4
        for (int i = 0; i < n_o; i++) {
            __m256 w = _mm256_set1_ps(p[i * p_stride + j]);
            s[i][0] = _mm256_fmadd_ps(w, a, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(w, b, s[i][1]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n_o; i++) {
        _mm256_storeu_ps(o[i] + k, s[i][0]);
        _mm256_storeu_ps(o[i] + k + 8, s[i][1]);
    }
}

static void mix_rest(float *o, const float *p, const struct mix_keys *m, int64_t k)
{
    for (; k < m->dim; k++)
        for (int j = 0; j < m->n_key; j++)
            o[k] = __builtin_fmaf(p[j], m->key[j * m->dim + k], o[k]);
}

/* 8 halves as floats */
static inline __m256 half8(enum quant_type type, const uint8_t *p)
{
    __m128i h = _mm_loadu_si128((const __m128i *)p);
    if (type == QUANT_F16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* 16 values of a weight row and of nx activation rows. */
static inline __attribute__((always_inline)) void
half_step(enum quant_type type, const uint8_t *w, const float *const *x, int nx, __m256 (*s)[2])
{
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256 v = half8(type, w + 16 * h);
#pragma GCC unroll 6
        for (int i = 0; i < nx; i++)
            s[i][h] = _mm256_fmadd_ps(v, _mm256_loadu_ps(x[i] + 8 * h), s[i][h]);
    }
}

/* A weight row against nx rows: row by row, memory is read in the order in which it lies, which is
 * worth more than several sums at a time. The end of a row is padded with zeros. */
static inline __attribute__((always_inline)) void
half_row(enum quant_type type, const uint8_t *w, const float *const *x, int nx, int64_t n, float *y)
{
    __m256 s[HALF_X][2];
    const float *at[HALF_X];
    int64_t whole = n / 16 * 16;
#pragma GCC unroll 6
    for (int i = 0; i < nx; i++)
        s[i][0] = s[i][1] = _mm256_setzero_ps();
    for (int64_t k = 0; k < whole; k += 16) {
#pragma GCC unroll 6
        for (int i = 0; i < nx; i++)
            at[i] = x[i] + k;
        _mm_prefetch((const char *)w + 2 * k + HALF_AHEAD, _MM_HINT_T1);
        half_step(type, w + 2 * k, at, nx, s);
    }
    if (whole < n) {
        uint8_t a[32] = {0};
        float b[HALF_X][16] = {{0}};
        memcpy(a, w + 2 * whole, 2 * (size_t)(n - whole));
        for (int i = 0; i < nx; i++) {
            memcpy(b[i], x[i] + whole, (size_t)(n - whole) * sizeof(float));
            at[i] = b[i];
        }
        half_step(type, a, at, nx, s);
    }
    for (int i = 0; i < nx; i++)
        y[i] = fold16(s[i][0], s[i][1]);
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

static void avx2_half_dots(const struct qrows *w, int n_rows, const float *const *x, int nx,
                          float (*y)[DOTS_W])
{
    if (w->type == QUANT_F16)
        half_rows(QUANT_F16, w, n_rows, x, nx, y);
    else
        half_rows(QUANT_BF16, w, n_rows, x, nx, y);
}

static void avx2_mix(float *const *o, int n_o, const struct mix_keys *m)
{
    for (int i = 0; i < n_o; i += 4) {
        int64_t k = 0;
        int n = n_o - i < 4 ? n_o - i : 4;
        const float *p = m->p + i * m->p_stride;
        for (; k + 16 <= m->dim; k += 16) {
            if (n == 4)
                mix_block(o + i, 4, p, m, k);
            else
                for (int l = 0; l < n; l++)
                    mix_block(o + i + l, 1, p + l * m->p_stride, m, k);
        }
        for (int l = 0; l < n; l++)
            mix_rest(o[i + l], p + l * m->p_stride, m, k);
    }
}

const struct leaves leaves_avx2 = {
    .name = "avx2",
    .quantise = avx2_quantise,
    .row_dot = avx2_row_dot,
    .direct = 3,
    .tile_unpack = avx2_tile_unpack,
    .tile_dot = avx2_tile_dot,
    .widen = avx2_widen,
    .dots = avx2_dots,
    .half_dots = avx2_half_dots,
    .mix = avx2_mix,
    .fp8_decode = avx2_fp8_decode,
    .fp4_decode = avx2_fp4_decode,
    .index_query = avx2_index_query,
    .exp_minus = avx2_exp_minus,
    .gated = avx2_gated,
    .scaled = elem_scaled,
    .divide = elem_divide,
    .relu_add = elem_relu_add,
    .combine = elem_combine,
    .spread = elem_spread,
};
