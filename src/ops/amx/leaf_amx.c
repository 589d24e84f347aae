/* The leaves with AMX: those of AVX-512, and panels of batch rows that meet weights in tiles.
 *
 * Blocks of 32 are products of bfloat16, blocks of 256 of signed bytes, with both sides split into
 * value = 128 * high + low: the sums are the same integers as those of products of words
 * (docs/NUMERICS.md). A tile of sums has 16 weight rows and 16 batch rows. */
#include "base/check.h"
#include "ops/amx/planes_amx.h"
#include "ops/amx/tiles_amx.h"
#include "ops/avx512/leaf_avx512.h"
#include "ops/avx512/transpose_avx512.h"

/* ---- panels ---- */

/* Values of PANEL_ROWS batch rows: two or four of one row side by side, then those of the next row.
 * Of 32 values as bfloat16, in the pairs of planes_amx.h, and of 256 as bytes. */
struct panel_32 {
    uint16_t q[16][PANEL_ROWS][2];
    float d[PANEL_ROWS];
};
struct panel_256 {
    int8_t low[4][16][PANEL_ROWS][4], high[4][16][PANEL_ROWS][4];
    int8_t sum_low[4][PANEL_ROWS][4], sum_high[4][PANEL_ROWS][4]; /* of 16 values each */
    float d[PANEL_ROWS];
};

/* Tiles of sums of 16 values are loaded as 16 rows, of which the last 12 meet zeros. */
#define PANEL_END 1024

static size_t panel_bytes(int64_t n, enum act_kind kind)
{
    if (kind == ACT_32)
        return (size_t)(n / 32) * sizeof(struct panel_32);
    return (size_t)(n / 256) * sizeof(struct panel_256) + PANEL_END;
}

static void pack_32(const struct act *x, int n_rows, int64_t n, uint8_t *panel)
{
    struct panel_32 *to = (struct panel_32 *)(void *)panel;
    for (int64_t b = 0; b < n / 32; b++, to++) {
        __m512i v[PANEL_ROWS];
        for (int i = 0; i < PANEL_ROWS; i++) {
            v[i] = i < n_rows ? halves_of_words(_mm512_loadu_si512(x[i].q + 32 * b))
                              : _mm512_setzero_si512();
            to->d[i] = i < n_rows ? x[i].d[b] : 0;
        }
        transpose16(v, (int16_t *)(void *)to->q);
    }
}

/* 64 values of each row as words, [2] of 32, to 16 rows of the two planes of a panel. */
static inline void put_planes(const __m512i (*v)[2], int8_t *low, int8_t *high)
{
    __m512i a[PANEL_ROWS], b[PANEL_ROWS];
    for (int i = 0; i < PANEL_ROWS; i++) {
        __m512i h0 = words_high(v[i][0]), h1 = words_high(v[i][1]);
        __m256i l0 = _mm512_cvtepi16_epi8(words_low(v[i][0], h0));
        __m256i l1 = _mm512_cvtepi16_epi8(words_low(v[i][1], h1));
        a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(l0), l1, 1);
        b[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(h0)),
                                  _mm512_cvtepi16_epi8(h1), 1);
    }
    transpose16(a, (int16_t *)(void *)low);
    transpose16(b, (int16_t *)(void *)high);
}

/* 64 values, number k of the block b, as words. */
static inline void words_256(const struct act *x, int64_t b, int k, enum act_kind kind, __m512i *v)
{
    if (kind == ACT_256) {
        v[0] = _mm512_loadu_si512(x->q + b * 256 + 64 * k);
        v[1] = _mm512_loadu_si512(x->q + b * 256 + 64 * k + 32);
        return;
    }
    const struct act_bytes *a = act_bytes(x, b);
    /* of each 8 values: their qword's place is that of their 32 */
    __m512i times = _mm512_loadu_si512(a->times);
    times = _mm512_or_si512(times, _mm512_slli_epi32(times, 16));
    for (int h = 0; h < 2; h++) {
        const __m256i *q = (const __m256i *)(const void *)(a->q + 64 * k + 32 * h);
        __m512i at = _mm512_add_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                      _mm512_set1_epi64(4 * h));
        v[h] = _mm512_mullo_epi16(_mm512_cvtepi8_epi16(_mm256_loadu_si256(q)),
                                  _mm512_permutexvar_epi64(at, times));
    }
}

/* The sums of 16 values each of a block of row i, for formats with minima: those of ACT_256_BYTE,
 * which has none, may not fit. */
static void pack_sums(const int16_t *sum, int i, struct panel_256 *to)
{
    for (int k = 0; k < 16; k++) {
        int high = (sum[k] + 64) >> 7;
        to->sum_high[k / 4][i][k % 4] = (int8_t)high;
        to->sum_low[k / 4][i][k % 4] = (int8_t)(sum[k] - 128 * high);
    }
}

static void pack_256(const struct act *x, int n_rows, int64_t n, enum act_kind kind,
                     uint8_t *panel)
{
    static const int16_t none[16];
    for (int64_t b = 0; b < n / 256; b++) {
        struct panel_256 *to = (struct panel_256 *)(void *)panel + b;
        for (int k = 0; k < 4; k++) {
            __m512i v[PANEL_ROWS][2];
            memset(v, 0, sizeof(v));
            for (int i = 0; i < n_rows; i++)
                words_256(&x[i], b, k, kind, v[i]);
            put_planes(v, &to->low[k][0][0][0], &to->high[k][0][0][0]);
        }
        for (int i = 0; i < PANEL_ROWS; i++) {
            pack_sums(i < n_rows ? x[i].sum16 + b * 16 : none, i, to);
            to->d[i] = i < n_rows ? x[i].d[b] : 0;
        }
    }
}

static void panel_pack(const struct act *x, int n_rows, int64_t n, enum act_kind kind,
                       uint8_t *panel)
{
    if (kind == ACT_32) {
        pack_32(x, n_rows, n, panel);
        return;
    }
    pack_256(x, n_rows, n, kind, panel);
    memset(panel + panel_bytes(n, kind) - PANEL_END, 0, PANEL_END);
}

/* ---- weights ---- */

/* Rows [first, last) of a chunk that begins with value `at`. The same rows of the next tile, whose
 * memory follows this one's, are asked for meanwhile. */
typedef void (*unpack_fn)(const struct qrows *w, int first, int last, int64_t at, struct chunk *c);

static inline __attribute__((always_inline)) void
unpack_rows(enum quant_type type, const struct qrows *w, int first, int last, int64_t at,
            struct chunk *c)
{
    int64_t block = act_block(type);
    int blocks = w->n - at < 256 ? (int)((w->n - at) / 32) : 8;
    uint32_t bytes = block_bytes(type);
    uint32_t ahead = block == 32 ? 8 * bytes : bytes;
    const uint8_t *src = w->data + (uint64_t)(at / block) * bytes;
    for (int i = first; i < last; i++) {
        const uint8_t *row = src + (uint64_t)i * w->row_bytes;
        ask_next_tile(row, w->row_bytes, ahead);
        if (type == QUANT_IQ2_XXS && i + 1 < last) {
            const uint8_t *two[2] = {row, row + w->row_bytes};
            ask_next_tile(two[1], w->row_bytes, ahead);
            planes_iq2_xxs_two(two, i++, c);
        } else if (type == QUANT_IQ2_XXS) {
            planes_iq2_xxs(row, i, c);
        } else if (block == 32) {
            planes_32(type, row, blocks, i, c);
        } else if (type == QUANT_Q2_K) {
            planes_q2_k(row, i, c);
        } else if (type == QUANT_Q4_K) {
            planes_q4_k(row, i, c);
        } else {
            planes_words(type, row, i, c);
        }
    }
}

#define UNPACK(type, block)                                                                        \
    static void unpack_##block(const struct qrows *w, int first, int last, int64_t at,             \
                               struct chunk *c)                                                    \
    {                                                                                              \
        unpack_rows(type, w, first, last, at, c);                                                  \
    }
FORMATS_32(UNPACK)
FORMATS_256(UNPACK)

static unpack_fn unpack_of(enum quant_type type)
{
#define UNPACK_OF(type, block)                                                                     \
    case type:                                                                                     \
        return unpack_##block;
    switch (type) {
        FORMATS_32(UNPACK_OF)
        FORMATS_256(UNPACK_OF)
    default:
        SLUICE_ASSERT(!"a quantised type");
    }
    return NULL;
}

/* ---- products ----
 *
 * Registers 0 to 3 take sums, 4 and 5 weights, 6 and 7 batch rows. All have 16 rows of 64 bytes.
 *
 * A step is what the registers sum up at a time. Its sums go through memory and are added to the
 * partial sums a step or two later. The order matters: a load that shares its low 12 bits with a
 * store before it waits for that store, and a store of sums waits for its products. So nothing is
 * loaded between products and the store of their sums but what is needed for the next products, and
 * the weights of the next chunk are unpacked meanwhile. */
#define EIGHT(x) x, x, x, x, x, x, x, x
static const struct tile_shape_table shapes = {
    .palette = 1, .row_bytes = {EIGHT(64)}, .rows = {EIGHT(16)}};

typedef int32_t sums[TILE_ROWS][PANEL_ROWS];
typedef float half_sums[TILE_ROWS][PANEL_ROWS];
/* Partial sums of 16 weight rows with 16 batch rows; the end keeps the same places of neighbouring
 * panels from sharing their low bits. */
struct parts {
    float at[8][TILE_ROWS][PANEL_ROWS];
    float end[TILE_ROWS][PANEL_ROWS];
};

struct products {
    const struct qrows *w;
    int n_rows, n_panels;
    unpack_fn unpack;
    const uint8_t *panels;
    size_t stride;
    struct chunk chunk[2];
    struct parts part[PANEL_BATCH];
};

/* Rows of the chunk after value `at`, in `slots` portions. */
static inline void unpack_next(struct products *p, int64_t at, int slot, int slots)
{
    if (at + 256 < p->w->n)
        p->unpack(p->w, p->n_rows * slot / slots, p->n_rows * (slot + 1) / slots, at + 256,
                  &p->chunk[(at / 256 + 1) % 2]);
}

/* ---- formats of 32: a step is a block with one panel or two ----
 *
 * Steps take the registers 0 and 1, and 2 and 3, in turn: products of step n, then the store of the
 * sums of n - 1, then the addition of those of n - 2. */

struct step_32 {
    _Alignas(64) float d[TILE_ROWS];
    const struct panel_32 *panel[2];
    float (*part[2])[PANEL_ROWS];
    int n;
};

struct pipe_32 {
    _Alignas(64) half_sums s[4][2];
    struct step_32 step[4];
    int n;                         /* steps begun */
};

static inline __attribute__((always_inline)) void add_n_32(const struct step_32 *step, int n,
                                                           const half_sums *s)
{
    __m512 dx[2];
#pragma GCC unroll 2
    for (int k = 0; k < n; k++)
        dx[k] = _mm512_load_ps(step->panel[k]->d);
#pragma GCC unroll 16
    for (int m = 0; m < TILE_ROWS; m++) {
        __m512 dw = _mm512_set1_ps(step->d[m]);
#pragma GCC unroll 2
        for (int k = 0; k < n; k++) {
            float *part = step->part[k][m];
            __m512 sum = _mm512_load_ps(s[k][m]), scale = _mm512_mul_ps(dw, dx[k]);
            _mm512_store_ps(part, _mm512_fmadd_ps(sum, scale, _mm512_load_ps(part)));
        }
    }
}

static inline void add_32(const struct pipe_32 *t, int n)
{
    const struct step_32 *step = &t->step[n & 3];
    if (step->n == 2)
        add_n_32(step, 2, t->s[n & 3]);
    else
        add_n_32(step, 1, t->s[n & 3]);
}

/* The sums of step n; odd: whether it is. */
static inline __attribute__((always_inline)) void store_32(struct pipe_32 *t, int n, bool odd)
{
    half_sums *s = t->s[n & 3];
    bool two = t->step[n & 3].n == 2;
    if (odd) {
        tile_store(2, s[0], 64);
        if (two)
            tile_store(3, s[1], 64);
    } else {
        tile_store(0, s[0], 64);
        if (two)
            tile_store(1, s[1], 64);
    }
}

static inline __attribute__((always_inline)) void tiles_32(const uint16_t (*w)[32],
                                                           const struct step_32 *step, bool odd)
{
    tile_load(4, w, 64);
    tile_load(6, step->panel[0]->q, 64);
    if (odd) {
        tile_zero(2);
        tile_dot_half(2, 4, 6);
    } else {
        tile_zero(0);
        tile_dot_half(0, 4, 6);
    }
    if (step->n < 2)
        return;
    tile_load(7, step->panel[1]->q, 64);
    if (odd) {
        tile_zero(3);
        tile_dot_half(3, 4, 7);
    } else {
        tile_zero(1);
        tile_dot_half(1, 4, 7);
    }
}

/* Block b of the chunk at value `at` with one panel or two from `first` on. */
static inline __attribute__((always_inline)) void
step_32(struct products *p, struct pipe_32 *t, int64_t at, int b, int first, bool odd)
{
    const struct chunk *c = &p->chunk[at / 256 % 2];
    struct step_32 *now = &t->step[t->n & 3];
    now->n = first + 1 < p->n_panels ? 2 : 1;
    _mm512_store_ps(now->d, scales_of(p->w->type, c->head[b]));
    for (int k = 0; k < now->n; k++) {
        const uint8_t *start = p->panels + (size_t)(first + k) * p->stride;
        now->panel[k] = (const struct panel_32 *)(const void *)start + at / 32 + b;
        now->part[k] = p->part[first + k].at[b];
    }
    tiles_32(c->half[b], now, odd);
    if (t->n >= 1)
        store_32(t, t->n - 1, !odd);
    if (t->n >= 2)
        add_32(t, t->n - 2);
    t->n++;
}

static void products_32(struct products *p)
{
    struct pipe_32 t;
    t.n = 0;
    for (int64_t at = 0; at < p->w->n; at += 256) {
        int blocks = p->w->n - at < 256 ? (int)((p->w->n - at) / 32) : 8;
        for (int b = 0; b < blocks; b++) {
            if (p->n_panels > 2) {
                step_32(p, &t, at, b, 0, false);
                step_32(p, &t, at, b, 2, true);
            } else if (b % 2 == 0) {
                step_32(p, &t, at, b, 0, false);
            } else {
                step_32(p, &t, at, b, 0, true);
            }
            unpack_next(p, at, b, 8);
        }
    }
    if (t.n % 2)
        store_32(&t, t.n - 1, false);
    else
        store_32(&t, t.n - 1, true);
    if (t.n >= 2)
        add_32(&t, t.n - 2);
    add_32(&t, t.n - 1);
}

/* ---- formats of 256: a step is a block with one panel ---- */

/* How a format's sums add up. */
struct form_256 {
    bool two, has_min;
};

struct step_256 {
    const struct chunk *c;
    const struct panel_256 *x;
    float (*part)[PANEL_ROWS];
    float d[TILE_ROWS], dmin[TILE_ROWS]; /* of c, which another chunk takes over meanwhile */
};

static inline __m512i sums_row(const sums *s, int m)
{
    return _mm512_load_si512((*s)[m]);
}

/* 128 * high + low */
static inline __m512i with_high(__m512i low, __m512i high)
{
    return _mm512_add_epi32(low, _mm512_slli_epi32(high, 7));
}

/* Of two planes, the sums are low weights with low and high bytes of the batch, then high weights
 * with both; then, or of one plane after the first two, minima with low and high bytes. */
static inline __attribute__((always_inline)) void
add_256(const struct step_256 *step, struct form_256 form, const sums *s)
{
    __m512 dx = _mm512_load_ps(step->x->d);
    const sums *least = s + (form.two ? 4 : 2);
#pragma GCC unroll 16
    for (int m = 0; m < TILE_ROWS; m++) {
        __m512i high = sums_row(&s[1], m);
        if (form.two)
            high = with_high(_mm512_add_epi32(high, sums_row(&s[2], m)), sums_row(&s[3], m));
        __m512i sum = with_high(sums_row(&s[0], m), high);
        __m512 scale = _mm512_mul_ps(_mm512_set1_ps(step->d[m]), dx);
        __m512 part = _mm512_load_ps(step->part[m]);
        part = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, part);
        if (form.has_min) {
            sum = with_high(sums_row(&least[0], m), sums_row(&least[1], m));
            scale = _mm512_mul_ps(_mm512_set1_ps(step->dmin[m]), dx);
            part = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, part);
        }
        _mm512_store_ps(step->part[m], part);
    }
}

static inline __attribute__((always_inline)) void load_quarter(const struct step_256 *step,
                                                               struct form_256 form, int k)
{
    tile_load(4, step->c->low[k], 64);
    tile_load(6, step->x->low[k], 64);
    tile_load(7, step->x->high[k], 64);
    if (form.two)
        tile_load(5, step->c->high[k], 64);
}

static inline __attribute__((always_inline)) void dot_quarter(struct form_256 form)
{
    tile_dot(0, 4, 6);
    tile_dot(1, 4, 7);
    if (form.two) {
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
    }
}

/* Registers 2 and 3 take the minima where they are free. */
static inline void load_least(const struct step_256 *step)
{
    tile_load(5, step->c->least, 64);
    tile_load(6, step->x->sum_low, 64);
    tile_load(7, step->x->sum_high, 64);
}

static inline __attribute__((always_inline)) void store_256(struct form_256 form, sums *s)
{
    tile_store(0, s[0], 64);
    tile_store(1, s[1], 64);
    if (form.two || form.has_min) {
        tile_store(2, s[2], 64);
        tile_store(3, s[3], 64);
    }
}

static inline void zero_sums(void)
{
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
}

/* What precedes the quarters: the minima, and the store of the step before. */
static inline __attribute__((always_inline)) void
begin_256(const struct step_256 *now, struct form_256 form, sums *s, sums *before)
{
    if (form.two && form.has_min) {
        if (before)
            store_256(form, before);
        load_least(now);
        tile_zero(0);
        tile_zero(1);
        tile_dot(0, 5, 6);
        tile_dot(1, 5, 7);
        tile_store(0, s[4], 64);
        tile_store(1, s[5], 64);
        load_quarter(now, form, 0);
        zero_sums();
        return;
    }
    if (form.has_min)
        load_least(now);
    else
        load_quarter(now, form, 0);
    if (before)
        store_256(form, before);
    zero_sums();
    if (form.has_min) {
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
        load_quarter(now, form, 0);
    }
}

static inline void step_begin(struct products *p, int64_t at, int k, struct step_256 *step)
{
    const uint8_t *panel = p->panels + (size_t)k * p->stride;
    step->c = &p->chunk[at / 256 % 2];
    step->x = (const struct panel_256 *)(const void *)panel + at / 256;
    step->part = p->part[k].at[at / 256 % 8];
    memcpy(step->d, step->c->d, sizeof(step->d));
    memcpy(step->dmin, step->c->dmin, sizeof(step->dmin));
}

static inline __attribute__((always_inline)) void
products_256(struct products *p, struct form_256 form)
{
    _Alignas(64) sums s[2][6];
    struct step_256 step[2];
    int n = 0, slots = p->n_panels * 4;
    for (int64_t at = 0; at < p->w->n; at += 256) {
        for (int k = 0; k < p->n_panels; k++, n++) {
            struct step_256 *now = &step[n % 2], *before = &step[(n + 1) % 2];
            sums *s_before = s[(n + 1) % 2];
            step_begin(p, at, k, now);
            begin_256(now, form, s[n % 2], n ? s_before : NULL);
            dot_quarter(form);
            unpack_next(p, at, k * 4, slots);
            load_quarter(now, form, 1);
            dot_quarter(form);
            unpack_next(p, at, k * 4 + 1, slots);
            load_quarter(now, form, 2);
            dot_quarter(form);
            if (n)
                add_256(before, form, s_before);
            unpack_next(p, at, k * 4 + 2, slots);
            load_quarter(now, form, 3);
            dot_quarter(form);
            unpack_next(p, at, k * 4 + 3, slots);
        }
    }
    store_256(form, s[(n + 1) % 2]);
    add_256(&step[(n + 1) % 2], form, s[(n + 1) % 2]);
}

static void products_any_256(struct products *p)
{
    if (!planes_two(p->w->type))
        products_256(p, (struct form_256){.has_min = true});
    else if (type_has_min(p->w->type))
        products_256(p, (struct form_256){.two = true, .has_min = true});
    else
        products_256(p, (struct form_256){.two = true});
}

/* ---- whole rows ---- */

/* y[i] for the first n batch rows of a panel. */
static void panel_sums(const struct parts *part, int n, float (*y)[TILE_ROWS])
{
    __m512i row[TILE_ROWS];
    _Alignas(64) float t[PANEL_ROWS][TILE_ROWS];
    for (int m = 0; m < TILE_ROWS; m++) {
        __m512 p[8];
        for (int k = 0; k < 8; k++)
            p[k] = _mm512_load_ps(part->at[k][m]);
        for (int k = 4; k; k /= 2) /* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
            for (int j = 0; j < k; j++)
                p[j] = _mm512_add_ps(p[j], p[j + k]);
        row[m] = _mm512_castps_si512(p[0]);
    }
    transpose16(row, (int16_t *)(void *)t);
    memcpy(y, t, (size_t)n * sizeof(t[0]));
}

static void panel_dot(const struct qrows *w, int n_rows, const uint8_t *panels, int n,
                      float (*y)[TILE_ROWS])
{
    _Alignas(64) struct products p;
    p.w = w;
    p.n_rows = n_rows;
    p.n_panels = (n + PANEL_ROWS - 1) / PANEL_ROWS;
    p.unpack = unpack_of(w->type);
    p.panels = panels;
    p.stride = panel_bytes(w->n, act_kind(w->type));
    SLUICE_ASSERT(p.n_panels <= PANEL_BATCH);
    memset(p.chunk[0].least, 0, sizeof(p.chunk[0].least));
    memset(p.chunk[1].least, 0, sizeof(p.chunk[1].least));
    if (n_rows < TILE_ROWS)
        memset(p.chunk, 0, sizeof(p.chunk));
    memset(p.part, 0, (size_t)p.n_panels * sizeof(p.part[0]));
    p.unpack(w, 0, n_rows, 0, &p.chunk[0]);
    tile_shapes(&shapes);
    if (act_block(w->type) == 32)
        products_32(&p);
    else
        products_any_256(&p);
    tile_release();
    for (int k = 0; k < p.n_panels; k++) {
        int left = n - k * PANEL_ROWS;
        panel_sums(&p.part[k], left < PANEL_ROWS ? left : PANEL_ROWS, y + k * PANEL_ROWS);
    }
}

static const struct panels amx_panels = {
    .from = 5,
    .bytes = panel_bytes,
    .pack = panel_pack,
    .dot = panel_dot,
};

const struct leaves leaves_amx = {LEAVES_AVX512, .name = "amx", .panels = &amx_panels};
