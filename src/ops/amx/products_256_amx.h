/* Products of formats of 256 with panels. A step is a block with one panel.
 *
 * Registers 0 to 3 take sums, 4 and 5 weights, 6 and 7 batch rows. All have 16 rows of 64 bytes.
 *
 * Sums go through memory and are added to partial sums some steps later; the next weights are
 * unpacked meanwhile. A load waits for an earlier store that shares its low 12 bits, and a store of
 * sums waits for its products. So everything lies in pages, and what a step stores has other
 * quarters of a page than what is loaded soon after it. What is in use at a time fits into the
 * first-level cache.
 *
 * In a step: the store of the step before, then the products of one quarter of the block after
 * another, with a part of the next block unpacked after each, and after three of them the addition
 * of the step before. */
#ifndef SLUICE_OPS_AMX_PRODUCTS_256_AMX_H
#define SLUICE_OPS_AMX_PRODUCTS_256_AMX_H

#include "ops/amx/panels_256_amx.h"
#include "ops/amx/tiles_amx.h"

/* Panels of a pass over weights. */
#define PANELS_256 4

/* Partial sums of 16 weight rows with 16 batch rows, and those of block b % 8. */
typedef float part_sums[TILE_ROWS][PANEL_ROWS];
struct parts {
    part_sums of[8];
    part_sums unused[2];           /* neighbours have other quarters of a page */
};

/* Weight rows, the panels that they meet, and partial sums of both. */
struct products_256 {
    const struct qrows *w;
    int n_rows, n_panels;
    const uint8_t *panels;
    size_t stride;
    struct parts *part;            /* [n_panels] */
};

static inline const uint8_t *panel_of(const struct products_256 *p, int k)
{
    return p->panels + (size_t)k * p->stride;
}

/* part + sum * (dw * dx) */
static inline __m512 add_scaled(__m512 part, __m512 sum, float dw, __m512 dx)
{
    return _mm512_fmadd_ps(sum, _mm512_mul_ps(_mm512_set1_ps(dw), dx), part);
}

/* What sums are added to; first: there is nothing yet. */
static inline __attribute__((always_inline)) __m512 part_row(float (*part)[PANEL_ROWS], int m,
                                                             bool first)
{
    return first ? _mm512_setzero_ps() : _mm512_load_ps(part[m]);
}

/* Memory is asked into the first-level cache so many rows before it is unpacked. */
#define ROWS_NEAR 4

/* Asks for the same block of the next tile, whose memory follows; and for the rows that are
 * unpacked soon after [first, last), where lookups leave time for it. */
static inline __attribute__((always_inline)) void
ask_rows(enum quant_type type, const struct qrows *w, int first, int last, int64_t at)
{
    uint32_t bytes = block_bytes(type);
    const uint8_t *src = w->data + (uint64_t)(at / 256) * bytes;
    for (int i = first; i < last; i++) {
        int near = i + ROWS_NEAR;
        const uint8_t *soon = src + (uint64_t)(near % TILE_ROWS) * w->row_bytes +
                              (uint64_t)(near / TILE_ROWS) * bytes;
        for (uint32_t k = 0; type == QUANT_IQ2_XXS && k < bytes; k += 64)
            _mm_prefetch((const char *)soon + k, _MM_HINT_T0);
        ask_rows_ahead(src + (uint64_t)i * w->row_bytes, TILE_ROWS * w->row_bytes, bytes);
    }
}

/* How a format's sums add up. */
struct form_256 {
    bool two, has_min;
    int bits;                      /* of the weights' high plane */
};

static inline __attribute__((always_inline)) struct form_256 form_of(enum quant_type type)
{
    return (struct form_256){.two = planes_two(type), .has_min = type_has_min(type),
                             .bits = planes_bits(type)};
}

typedef int32_t sums[TILE_ROWS][PANEL_ROWS];

struct run_256 {
    struct chunk chunk[2];
    /* of steps, in the last quarters of pages */
    struct {
        uint8_t unused[PAGE / 2];
        sums s[2];
    } sums[2];
    struct heads heads[4];         /* of the chunks in turn */
    /* the rows of the next chunk that follow a quarter of a step end here */
    int row_at[4 * PANELS_256 + 1];
    const struct products_256 *p;
};

/* The chunk to which value `at` goes. */
static inline struct chunk *chunk_at(struct run_256 *r, int64_t at)
{
    struct chunk *c = &r->chunk[at / 256 % 2];
    c->heads = &r->heads[at / 256 % 4];
    return c;
}

struct step_256 {
    const struct chunk *c;
    const struct heads *heads;
    const struct panel_256 *x;
    const struct tail_256 *tail;
    part_sums *part;
    bool first;
};

/* The sums of a step, of two planes: low weights with low and high bytes of the batch, then high
 * weights with both; of one plane: the first two, then minima with low and high bytes. */
static inline sums *sums_256(struct run_256 *r, int i)
{
    return &r->sums[i / 2].s[i % 2];
}

static inline __m512i sums_row(const sums *s, int m)
{
    return _mm512_load_si512((*s)[m]);
}

/* 128 * high + low */
static inline __m512i with_high(__m512i low, __m512i high)
{
    return _mm512_add_epi32(low, _mm512_slli_epi32(high, 7));
}

/* Minima of a weight row, of 32 values each, with the sums of those of the batch. */
static inline __m512i least_row(const struct step_256 *step, int m)
{
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        int32_t pair;
        memcpy(&pair, &step->heads->least_32[m][2 * k], sizeof(pair));
        sum = _mm512_dpwssd_epi32(sum, _mm512_loadu_si512(step->tail->sum_32[k]),
                                  _mm512_set1_epi32(pair));
    }
    return sum;
}

static inline __attribute__((always_inline)) void
add_n_256(struct run_256 *r, const struct step_256 *step, struct form_256 form, bool first)
{
    __m512 dx = _mm512_loadu_ps(step->tail->d);
#pragma GCC unroll 16
    for (int m = 0; m < TILE_ROWS; m++) {
        __m512 part = part_row(*step->part, m, first);
        __m512i sum = with_high(sums_row(sums_256(r, 0), m), sums_row(sums_256(r, 1), m));
        if (form.two) {
            __m512i high = with_high(sums_row(sums_256(r, 2), m), sums_row(sums_256(r, 3), m));
            sum = _mm512_add_epi32(sum, _mm512_slli_epi32(high, (unsigned)form.bits));
        }
        part = add_scaled(part, _mm512_cvtepi32_ps(sum), step->heads->d[m], dx);
        if (form.has_min) {
            sum = form.two ? least_row(step, m)
                           : with_high(sums_row(sums_256(r, 2), m), sums_row(sums_256(r, 3), m));
            part = add_scaled(part, _mm512_cvtepi32_ps(sum), step->heads->dmin[m], dx);
        }
        _mm512_store_ps((*step->part)[m], part);
    }
}

static inline __attribute__((always_inline)) void
add_256(struct run_256 *r, const struct step_256 *step, struct form_256 form)
{
    if (step->first)
        add_n_256(r, step, form, true);
    else
        add_n_256(r, step, form, false);
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
    tile_load(6, step->tail->sum_low, 64);
    tile_load(7, step->tail->sum_high, 64);
}

static inline __attribute__((always_inline)) void store_256(struct run_256 *r,
                                                            struct form_256 form)
{
    tile_store(0, sums_256(r, 0), 64);
    tile_store(1, sums_256(r, 1), 64);
    if (form.two || form.has_min) {
        tile_store(2, sums_256(r, 2), 64);
        tile_store(3, sums_256(r, 3), 64);
    }
}

/* What precedes the quarters: minima by tiles, and the store of the step before, if there is
 * one. */
static inline __attribute__((always_inline)) void
begin_256(struct run_256 *r, const struct step_256 *now, struct form_256 form, bool before)
{
    bool least = form.has_min && !form.two;
    if (least)
        load_least(now);
    else
        load_quarter(now, form, 0);
    if (before)
        store_256(r, form);
    tile_zero_sums();
    if (least) {
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
        load_quarter(now, form, 0);
    }
}

static inline void step_begin(struct run_256 *r, int64_t at, int k, int n, struct step_256 *step)
{
    const uint8_t *panel = panel_of(r->p, k);
    step->c = chunk_at(r, at);
    step->heads = step->c->heads;
    step->x = (const struct panel_256 *)(const void *)panel + at / 256;
    step->tail = tails_256(panel, r->p->w->n) + at / 256;
    step->part = &r->p->part[k].of[at / 256 % 8];
    step->first = at < 8 * 256;
}

/* Rows [first, last) of a block of 256, of which `at` is the first value. */
static inline __attribute__((always_inline)) void
unpack_rows(enum quant_type type, const struct qrows *w, int first, int last, int64_t at,
            struct chunk *c)
{
    const uint8_t *src = w->data + (uint64_t)(at / 256) * block_bytes(type);
    for (int i = first; i < last; i++) {
        const uint8_t *row = src + (uint64_t)i * w->row_bytes;
        if (type == QUANT_IQ2_XXS && i + 1 < last) {
            const uint8_t *two[2] = {row, row + w->row_bytes};
            planes_iq2_xxs_two(two, i++, c);
        } else if (type == QUANT_IQ2_XXS) {
            planes_iq2_xxs(row, i, c);
        } else if (type == QUANT_Q2_K) {
            planes_q2_k(row, i, c);
        } else if (type == QUANT_Q4_K) {
            planes_q4_k(row, i, c);
        } else {
            planes_words(type, row, i, c);
        }
    }
}

/* A portion of the rows of the chunk that begins with value `at`. */
static inline __attribute__((always_inline)) void
unpack_after_256(struct run_256 *r, enum quant_type type, int64_t at, int slot)
{
    int first = r->row_at[slot], last = r->row_at[slot + 1];
    if (at >= r->p->w->n)
        return;
    ask_rows(type, r->p->w, first, last, at);
    unpack_rows(type, r->p->w, first, last, at, chunk_at(r, at));
}

static inline __attribute__((always_inline)) void steps_256(struct run_256 *r, enum quant_type type)
{
    struct form_256 form = form_of(type);
    struct step_256 step[2];
    int n = 0;
    unpack_rows(type, r->p->w, 0, r->p->n_rows, 0, chunk_at(r, 0));
    for (int64_t at = 0; at < r->p->w->n; at += 256) {
        for (int k = 0; k < r->p->n_panels; k++, n++) {
            struct step_256 *now = &step[n % 2];
            step_begin(r, at, k, n, now);
            begin_256(r, now, form, n > 0);
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) {
                if (q > 0)
                    load_quarter(now, form, q);
                dot_quarter(form);
                if (q == 2 && n > 0)
                    add_256(r, &step[(n + 1) % 2], form);
                unpack_after_256(r, type, at + 256, 4 * k + q);
            }
        }
    }
    store_256(r, form);
    add_256(r, &step[(n + 1) % 2], form);
}

/* Zeros where nothing is unpacked or added. */
static void clear_256(struct run_256 *r)
{
    const struct products_256 *p = r->p;
    if (p->n_rows < TILE_ROWS) {
        memset(r->chunk, 0, sizeof(r->chunk));
        memset(r->heads, 0, sizeof(r->heads));
    } else if (type_has_min(p->w->type)) {
        memset(r->chunk[0].least, 0, sizeof(r->chunk[0].least));
        memset(r->chunk[1].least, 0, sizeof(r->chunk[1].least));
    }
}

static inline __attribute__((always_inline)) void products_256(const struct products_256 *p,
                                                               enum quant_type type)
{
    _Alignas(PAGE) struct run_256 r;
    r.p = p;
    for (int i = 0; i <= 4 * p->n_panels; i++)
        r.row_at[i] = p->n_rows * i / (4 * p->n_panels);
    clear_256(&r);
    steps_256(&r, type);
}

#endif
