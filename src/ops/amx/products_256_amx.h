/* Products of formats of 256 with panels. A step is a block with one panel.
 *
 * Registers 0 to 3 take sums, 4 and 5 weights, 6 and 7 batch rows. All have 16 rows, weights of 64
 * bytes, the others of as many columns as panels have.
 *
 * Sums go through memory and are added to partial sums some steps later; the next weights are
 * unpacked meanwhile. A load waits for an earlier store that shares its low 12 bits, and a store of
 * sums waits for its products. So everything lies in pages, and what a step stores has other
 * quarters of a page than what is loaded soon after it. What is in use at a time fits into the
 * first-level cache.
 *
 * A block of the panels meets several tiles of weight rows, one after the other, so that it comes
 * from the second-level cache once for all of them.
 *
 * In a step: the store of the step before, then the products of one quarter of the block after
 * another, with a row or two of the next block unpacked after each product or two, and after three
 * quarters the addition of the step before. */
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

/* Tiles of weight rows that meet a block of panels while it is in the first-level cache, as
 * measured: eight gain a little where weights are near, and lose where they come from memory. */
#define TILES_256 4

/* Weight rows, the panels that they meet, and partial sums of both. */
struct products_256 {
    const struct qrows *w;
    int n_rows, n_panels, columns;
    const uint8_t *panels;
    size_t stride;
    struct parts (*part)[PANELS_256]; /* [tiles] */
};

static inline int tiles_of(const struct products_256 *p)
{
    return (p->n_rows + TILE_ROWS - 1) / TILE_ROWS;
}

static inline const uint8_t *panel_of(const struct products_256 *p, int k)
{
    return p->panels + (size_t)k * p->stride;
}

/* part + sum * (dw * dx) */
static inline __m512 add_scaled(__m512 part, __m512 sum, __m512 dw, __m512 dx)
{
    return _mm512_fmadd_ps(sum, _mm512_mul_ps(dw, dx), part);
}

/* What sums are added to; first: there is nothing yet. */
static inline __attribute__((always_inline)) __m512 part_row(float (*part)[PANEL_ROWS], int m,
                                                             bool first)
{
    return first ? _mm512_setzero_ps() : _mm512_load_ps(part[m]);
}

/* Memory is asked into the first-level cache so many rows before it is unpacked. */
#define ROWS_NEAR 4

/* What is asked for while rows are unpacked: the same block `ahead` bytes away; and where lookups
 * leave time for it, the rows that are unpacked soon after. Those from TILE_ROWS on belong to the
 * next chunk, and are `wrap` bytes from where they would follow. */
struct ask {
    uint64_t ahead;
    int64_t wrap;
};

static inline __attribute__((always_inline)) void ask_row(enum quant_type type, const uint8_t *row,
                                                          uint64_t row_bytes, int i, struct ask ask)
{
    uint32_t bytes = block_bytes(type);
    const uint8_t *soon = row + ROWS_NEAR * row_bytes + (i + ROWS_NEAR < TILE_ROWS ? 0 : ask.wrap);
    for (uint32_t k = 0; type == QUANT_IQ2_XXS && k < bytes; k += 64)
        _mm_prefetch((const char *)soon + k, _MM_HINT_T0);
    ask_rows_ahead(row, ask.ahead, bytes);
}

/* How a format's sums add up. */
struct form_256 {
    bool two, has_min;
    int columns;
    int bits, x_bits;              /* of the high planes of weights and of the batch */
};

static inline __attribute__((always_inline)) struct form_256 form_of(enum quant_type type,
                                                                     int columns)
{
    return (struct form_256){.columns = columns, .two = planes_two(type),
                             .has_min = type_has_min(type), .bits = planes_bits(type),
                             .x_bits = panel_bits(act_kind(type))};
}

/* Whether products of low with high and of high with low planes have one sum. */
static inline __attribute__((always_inline)) bool crossed(struct form_256 form)
{
    return form.two && form.bits == form.x_bits;
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
    struct scales_q4_k scales;     /* of the chunk that is unpacked */
    struct looked_up looked_up;    /* of some rows of it */
    int tiles;
    const struct products_256 *p;
};

/* A chunk: a block of 256 of a tile of weight rows. */
struct spot_256 {
    int number, tile;
    int64_t block;
};

static inline struct spot_256 next_spot(const struct run_256 *r, struct spot_256 at)
{
    at.number++;
    if (++at.tile == r->tiles) {
        at.tile = 0;
        at.block++;
    }
    return at;
}

static inline struct chunk *chunk_at(struct run_256 *r, struct spot_256 at)
{
    struct chunk *c = &r->chunk[at.number % 2];
    c->heads = &r->heads[at.number % 4];
    return c;
}

struct step_256 {
    const struct chunk *c;
    const struct heads *heads;
    const uint8_t *x, *tail;       /* of the panel's block */
    part_sums *part;
    bool first;
};

/* The sums of a step. Low weights with the low plane of the batch, then with the high one. Of two
 * planes: high weights with the high plane; with the low one, where those are not part of the
 * second. Of one plane: minima with low and high bytes. */
static inline sums *sums_256(struct run_256 *r, int i)
{
    return &r->sums[i / 2].s[i % 2];
}

static inline __m512i sums_row(const sums *s, int m)
{
    return _mm512_load_si512((*s)[m]);
}

static inline __m512i add_shifted(__m512i sum, const sums *s, int m, int bits)
{
    return _mm512_add_epi32(sum, _mm512_slli_epi32(sums_row(s, m), (unsigned)bits));
}

/* Of the products of a weight row with a panel. */
static inline __attribute__((always_inline)) __m512i product_row(struct run_256 *r, int m,
                                                                 struct form_256 form)
{
    __m512i sum = add_shifted(sums_row(sums_256(r, 0), m), sums_256(r, 1), m, form.x_bits);
    if (form.two)
        sum = add_shifted(sum, sums_256(r, 2), m, form.bits + form.x_bits);
    if (form.two && !crossed(form))
        sum = add_shifted(sum, sums_256(r, 3), m, form.bits);
    return sum;
}

/* Products and partial sums of a weight row lie side by side, then those of the next: a register
 * has one weight row of 16 columns, two of 8 or four of 4. What belongs to the columns, for each of
 * its rows: */
static inline __attribute__((always_inline)) __m512i of_columns(const void *p, int columns)
{
    if (columns == 4)
        return _mm512_broadcast_i32x4(_mm_loadu_si128(p));
    return columns == 8 ? _mm512_broadcast_i64x4(_mm256_loadu_si256(p)) : _mm512_loadu_si512(p);
}

/* Which weight row of a register a place belongs to. */
static inline __attribute__((always_inline)) __m512i row_of_place(int columns)
{
    return columns == 4 ? _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3)
                        : _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
}

/* What belongs to the weight rows of register m, for each column. */
static inline __attribute__((always_inline)) __m512 of_rows(const float *v, int m, int columns)
{
    if (columns == 16)
        return _mm512_set1_ps(v[m]);
    __m128 some = columns == 4 ? _mm_load_ps(v + 4 * m)
                               : _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(v + 2 * m)));
    return _mm512_permutexvar_ps(row_of_place(columns), _mm512_castps128_ps512(some));
}

/* The minima number 2 * k and 2 * k + 1 of the weight rows of register m. */
static inline __attribute__((always_inline)) __m512i
least_pairs(const struct heads *h, int m, int k, int columns)
{
    if (columns == 4) {
        __m512i at = _mm512_add_epi32(_mm512_slli_epi32(row_of_place(4), 2), _mm512_set1_epi32(k));
        return _mm512_permutexvar_epi32(at, _mm512_loadu_si512(h->least_32[4 * m]));
    }
    int32_t pair[2];
    for (int i = 0; i < 16 / columns; i++)
        memcpy(&pair[i], &h->least_32[16 / columns * m + i][2 * k], sizeof(pair[i]));
    if (columns == 16)
        return _mm512_set1_epi32(pair[0]);
    return _mm512_mask_set1_epi32(_mm512_set1_epi32(pair[0]), 0xff00, pair[1]);
}

/* Minima of the weight rows of register m, of 32 values each, with the sums of those of the
 * batch. */
static inline __attribute__((always_inline)) __m512i least_row(const struct step_256 *step, int m,
                                                               int columns)
{
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        sum = _mm512_dpwssd_epi32(sum, of_columns(sum_32_256(step->tail, columns, k), columns),
                                  least_pairs(step->heads, m, k, columns));
    return sum;
}

static inline __attribute__((always_inline)) void
add_n_256(struct run_256 *r, const struct step_256 *step, struct form_256 form, bool first)
{
    __m512 dx = _mm512_castsi512_ps(of_columns(d_256(step->tail, form.columns), form.columns));
#pragma GCC unroll 16
    for (int m = 0; m < form.columns; m++) {
        __m512 part = part_row(*step->part, m, first);
        __m512i sum = product_row(r, m, form);
        part = add_scaled(part, _mm512_cvtepi32_ps(sum), of_rows(step->heads->d, m, form.columns),
                          dx);
        if (form.has_min) {
            sum = form.two ? least_row(step, m, form.columns)
                           : add_shifted(sums_row(sums_256(r, 2), m), sums_256(r, 3), m, 7);
            part = add_scaled(part, _mm512_cvtepi32_ps(sum),
                              of_rows(step->heads->dmin, m, form.columns), dx);
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
    size_t stride = (size_t)form.columns * 4;
    tile_load(4, step->c->low[k], 64);
    tile_load(6, low_256(step->x, form.columns, k), stride);
    tile_load(7, high_256(step->x, form.columns, k), stride);
    if (form.two)
        tile_load(5, step->c->high[k], 64);
}

/* Registers 2 and 3 take the minima where they are free. */
static inline __attribute__((always_inline)) void load_least(const struct step_256 *step,
                                                             int columns)
{
    tile_load(5, step->c->least, 64);
    tile_load(6, sum_low_256(step->tail), (size_t)columns * 4);
    tile_load(7, sum_high_256(step->tail, columns), (size_t)columns * 4);
}

static inline __attribute__((always_inline)) void store_256(struct run_256 *r,
                                                            struct form_256 form)
{
    tile_store(0, sums_256(r, 0), (size_t)form.columns * 4);
    tile_store(1, sums_256(r, 1), (size_t)form.columns * 4);
    if (form.two || form.has_min)
        tile_store(2, sums_256(r, 2), (size_t)form.columns * 4);
    if (!crossed(form) && (form.two || form.has_min))
        tile_store(3, sums_256(r, 3), (size_t)form.columns * 4);
}

/* What precedes the quarters: minima by tiles, and the store of the step before, if there is
 * one. */
static inline __attribute__((always_inline)) void
begin_256(struct run_256 *r, const struct step_256 *now, struct form_256 form, bool before)
{
    bool least = form.has_min && !form.two;
    if (least)
        load_least(now, form.columns);
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

static inline __attribute__((always_inline)) void
step_begin(struct run_256 *r, enum quant_type type, struct spot_256 at, int k, int columns,
           struct step_256 *step)
{
    const uint8_t *panel = panel_of(r->p, k);
    struct chunk *c = chunk_at(r, at);
    if (heads_half(type) && k == 0)
        widen_heads(type, c->heads);
    step->c = c;
    step->heads = c->heads;
    step->x = panel + (size_t)at.block * BLOCK_256(columns);
    step->tail = tail_256(panel, r->p->w->n, columns, at.block);
    step->part = &r->p->part[at.tile][k].of[at.block % 8];
    step->first = at.block < 8;
}

/* Row i of a chunk; where lookups are shared, also the next if `two`. */
static inline __attribute__((always_inline)) void
unpack_row(struct run_256 *r, enum quant_type type, const uint8_t *row, bool two, int i,
           struct chunk *c)
{
    const uint8_t *rows[2] = {row, row + r->p->w->row_bytes};
    if (type == QUANT_IQ2_XXS && two)
        planes_iq2_xxs_two(rows, i, c);
    else if (type == QUANT_IQ2_XXS)
        planes_iq2_xxs(row, i, c);
    else if (type == QUANT_Q2_K)
        planes_q2_k(row, i, c);
    else if (type == QUANT_Q4_K)
        planes_q4_k(row, &r->scales, i, c);
    else if (is_lattice(type))
        planes_lattice(type, row, &r->looked_up, i, c);
    else
        planes_words(type, row, i, c);
}

/* Rows that are unpacked at a time, and the products of tiles after which they are, for each panel:
 * in a step of 16 products (Q2_K: 8) all 16 rows of the next chunk. IQ2_XXS shares lookups between
 * two rows. */
static inline __attribute__((always_inline)) int unit_rows(enum quant_type type)
{
    return type == QUANT_IQ2_XXS || type == QUANT_Q2_K ? 2 : 1;
}

static inline __attribute__((always_inline)) int unit_products(enum quant_type type)
{
    return type == QUANT_IQ2_XXS ? 2 : 1;
}

/* What of a chunk is not unpacked yet: the rows [i, end). */
struct unpacking {
    const uint8_t *row;
    struct chunk *to;
    struct ask ask;
    int i, end;
    int products;                  /* until the next rows */
};

static inline __attribute__((always_inline)) struct unpacking
unpack_begin(struct run_256 *r, enum quant_type type, struct spot_256 at)
{
    const struct qrows *w = r->p->w;
    int left = r->p->n_rows - at.tile * TILE_ROWS;
    struct unpacking u = {.products = r->p->n_panels * unit_products(type)};
    if (at.block == w->n / 256)
        return u;
    u.to = chunk_at(r, at);
    u.end = left < TILE_ROWS ? left : TILE_ROWS;
    u.row = w->data + (uint64_t)at.block * block_bytes(type) +
            (uint64_t)(at.tile * TILE_ROWS) * w->row_bytes;
    u.ask.ahead = (uint64_t)(r->tiles * TILE_ROWS) * w->row_bytes;
    if (at.tile + 1 == r->tiles)
        u.ask.wrap = block_bytes(type) - (int64_t)u.ask.ahead;
    for (int i = 0; type == QUANT_Q4_K && i < u.end; i += 4)
        heads_q4_k(u.row, w->row_bytes, i, u.end, u.to->heads, &r->scales);
    return u;
}

static inline __attribute__((always_inline)) void
unpack_next(struct run_256 *r, enum quant_type type, struct unpacking *u)
{
    uint64_t row_bytes = r->p->w->row_bytes;
    int n = u->end - u->i < unit_rows(type) ? u->end - u->i : unit_rows(type);
    for (int k = 0; k < n; k++)
        ask_row(type, u->row + (uint64_t)k * row_bytes, row_bytes, u->i + k, u->ask);
    if (is_lattice(type) && n > 0 && u->i % lattice_share(type) == 0)
        lattice_look_up(type, u->row, row_bytes, u->end - u->i, lattice_share(type), &r->looked_up);
    for (int k = 0; k < n; k += type == QUANT_IQ2_XXS ? 2 : 1)
        unpack_row(r, type, u->row + (uint64_t)k * row_bytes, k + 1 < n, u->i + k, u->to);
    u->i += unit_rows(type);
    u->row += (uint64_t)unit_rows(type) * row_bytes;
}

/* What follows a product. */
static inline __attribute__((always_inline)) void
unpack_due(struct run_256 *r, enum quant_type type, struct unpacking *u)
{
    if (--u->products)
        return;
    u->products = r->p->n_panels * unit_products(type);
    unpack_next(r, type, u);
}

/* Products of a quarter of a step, whose tiles are loaded. */
static inline __attribute__((always_inline)) void
dot_quarter(struct run_256 *r, enum quant_type type, struct form_256 form, struct unpacking *u)
{
    tile_dot(0, 4, 6);
    unpack_due(r, type, u);
    tile_dot(1, 4, 7);
    unpack_due(r, type, u);
    if (!form.two)
        return;
    tile_dot(2, 5, 7);
    unpack_due(r, type, u);
    if (crossed(form))
        tile_dot(1, 5, 6);
    else
        tile_dot(3, 5, 6);
    unpack_due(r, type, u);
}

static inline __attribute__((always_inline)) void steps_256(struct run_256 *r, enum quant_type type,
                                                            int columns)
{
    struct form_256 form = form_of(type, columns);
    struct step_256 step[2];
    struct spot_256 at = {0}, next;
    struct unpacking u = unpack_begin(r, type, at);
    int n = 0;
    while (u.i < u.end)
        unpack_next(r, type, &u);
    for (; at.block < r->p->w->n / 256; at = next) {
        next = next_spot(r, at);
        u = unpack_begin(r, type, next);
        for (int k = 0; k < r->p->n_panels; k++, n++) {
            struct step_256 *now = &step[n % 2];
            step_begin(r, type, at, k, columns, now);
            begin_256(r, now, form, n > 0);
#pragma GCC unroll 1
            for (int q = 0; q < 4; q++) {
                if (q > 0)
                    load_quarter(now, form, q);
                dot_quarter(r, type, form, &u);
                if (q == 2 && n > 0)
                    add_256(r, &step[(n + 1) % 2], form);
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
    if (p->n_rows % TILE_ROWS) {
        memset(r->chunk, 0, sizeof(r->chunk));
        memset(r->heads, 0, sizeof(r->heads));
    } else if (type_has_min(p->w->type)) {
        memset(r->chunk[0].least, 0, sizeof(r->chunk[0].least));
        memset(r->chunk[1].least, 0, sizeof(r->chunk[1].least));
    }
}

static inline __attribute__((always_inline)) void products_256(const struct products_256 *p,
                                                               enum quant_type type, int columns)
{
    _Alignas(PAGE) struct run_256 r;
    r.p = p;
    r.tiles = tiles_of(p);
    clear_256(&r);
    steps_256(&r, type, columns);
}

#endif
