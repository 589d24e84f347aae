/* Products of formats of 32, and of floats in planes (thirds_amx.h), with panels.
 *
 * Registers 0 to 3 take sums of two tiles of weight rows with one panel or two, 4 and 5 weights, 6
 * and 7 batch rows. A piece is a chunk or two of CHUNK_ROWS weight rows: between the products of
 * one, the next is unpacked into another buffer, a few rows after each product or two. Many
 * products in a row would leave the vector units idle: what follows them is only taken up as far as
 * the processor's buffers reach.
 *
 * Up to two panels: the pieces of the same rows follow each other, and their sums stay in
 * registers. Two buffers of a chunk, the weights' memory and the panels' then share the
 * first-level cache; buffers of two chunks would not fit. More panels: the pieces of the same
 * values follow each other, so that these values of all panels stay in the second-level cache, and
 * sums wait in memory, which is worth longer pieces. An element's sum is the same, step by step
 * from the first value on. */
#ifndef SLUICE_OPS_AMX_PRODUCTS_32_AMX_H
#define SLUICE_OPS_AMX_PRODUCTS_32_AMX_H

#include "ops/amx/amx.h"
#include "ops/amx/panels_32_amx.h"
#include "ops/amx/thirds_amx.h"
#include "ops/amx/tiles_amx.h"

/* Rows of a piece that are unpacked after a step, of which there are CHUNK_STEPS. */
#define STEP_ROWS (CHUNK_ROWS / CHUNK_STEPS)
/* Across panels: chunks of a piece, and rows that are unpacked at a time, as measured. */
#define PIECE_CHUNKS 2
#define ROWS_AT_ONCE 8
/* Chunks of a piece at most: of floats one for each plane. */
#define MOST_CHUNKS 3

/* Sums of CHUNK_ROWS weight rows with two panels: tile 2 * panel + weight. */
struct pair_sums {
    _Alignas(64) float tile[4][TILE_ROWS][PANEL_ROWS];
};

struct products_32 {
    const struct qrows *w;
    int n_rows;                    /* weight rows */
    const struct panel_view *x;
    float scale;                   /* of sums */
    struct pair_sums *sums;        /* [groups][pairs] */
    struct chunk (*chunk)[MOST_CHUNKS]; /* [2], of pieces in turn */
    size_t step_bytes;             /* of a panel */
    int64_t pieces;                /* of a row */
    int groups, panels;            /* of CHUNK_ROWS weight rows; of PANEL_ROWS batch rows */
};

static inline int pairs_of(const struct products_32 *p)
{
    return (p->panels + 1) / 2;
}

static inline struct pair_sums *sums_of(const struct products_32 *p, int group, int pair)
{
    return &p->sums[group * pairs_of(p) + pair];
}

/* ---- formats ---- */

static inline __attribute__((always_inline)) bool is_floats(enum quant_type type)
{
    return act_kind(type) == ACT_NONE;
}

/* Planes of weights and of batch rows; formats of 32: 1. */
static inline __attribute__((always_inline)) int planes_of(enum quant_type type)
{
    return is_floats(type) ? weight_planes(type) : 1;
}

static inline __attribute__((always_inline)) int batch_planes(enum act_kind kind)
{
    return kind == ACT_NONE ? PLANES : 1;
}

/* Bytes of CHUNK values of a row. */
static inline __attribute__((always_inline)) uint32_t chunk_bytes(enum quant_type type)
{
    return is_floats(type) ? CHUNK * (type == QUANT_F32 ? 4 : 2) : CHUNK_BLOCKS * block_bytes(type);
}

/* `left` values of a row, as a constant where there are CHUNK of them. */
static inline __attribute__((always_inline)) void
unpack_row(enum quant_type type, const uint8_t *src, int64_t left, int i, struct chunk *c)
{
    if (is_floats(type))
        thirds_row(type, src, left, i, c);
    else if (left >= CHUNK)
        halves_row(type, src, i, c);
    else
        halves_end(type, src, (int)left / 32, i, c);
}

/* ---- pieces ---- */

/* Whether pieces of the same rows follow each other. */
static inline bool along_rows(int panels)
{
    return panels <= 2;
}

static inline __attribute__((always_inline)) int chunks_of(enum quant_type type, bool along)
{
    return along || is_floats(type) ? 1 : PIECE_CHUNKS;
}

/* Which rows and values a piece has. */
struct piece {
    int64_t number, at;            /* at: of the pieces of a row */
    int group;
};

static inline struct piece next_piece(const struct products_32 *p, struct piece at, bool along)
{
    at.number++;
    if (along && ++at.at == p->pieces) {
        at.at = 0;
        at.group++;
    } else if (!along && ++at.group == p->groups) {
        at.group = 0;
        at.at++;
    }
    return at;
}

/* Along rows, memory is asked for this many pieces ahead. */
#define PIECES_AHEAD 4

/* Bytes from a row of a piece to what is asked for meanwhile. Along rows: values of the same rows
 * that follow, at the end of rows of the next. Otherwise the same values of the next group; after
 * the last group the first one's next values; at the end of rows those that follow all groups. The
 * difference may be negative: it wraps around. */
static inline uint64_t ahead_of(const struct products_32 *p, struct piece at, bool along,
                                uint64_t piece_bytes)
{
    uint64_t row_bytes = p->w->row_bytes, group = CHUNK_ROWS * row_bytes;
    if (along) {
        bool same_rows = at.at + PIECES_AHEAD < p->pieces;
        return PIECES_AHEAD * piece_bytes + (same_rows ? 0 : (CHUNK_ROWS - 1) * row_bytes);
    }
    if (at.group + 1 < p->groups)
        return group;
    if (at.at + 1 < p->pieces)
        return piece_bytes - (uint64_t)(p->groups - 1) * group;
    return group - (uint64_t)at.at * piece_bytes;
}

/* ---- unpacking ---- */

/* What of a piece is not unpacked yet: the rows [i, end). */
struct unpacking {
    const uint8_t *row;
    uint64_t ahead;
    struct chunk *to;
    int i, end;
};

/* A piece to be unpacked; the last of a row, where values are missing, is unpacked here. */
static inline __attribute__((always_inline)) struct unpacking
unpack_begin(const struct products_32 *p, enum quant_type type, bool along, struct piece at)
{
    int wide = chunks_of(type, along), row = at.group * CHUNK_ROWS;
    uint64_t bytes = (uint64_t)wide * chunk_bytes(type);
    int64_t left = p->w->n - at.at * wide * CHUNK;
    struct unpacking u = {.to = p->chunk[at.number % 2]};
    if (at.number == p->groups * p->pieces)
        return u;
    u.end = p->n_rows - row < CHUNK_ROWS ? p->n_rows - row : CHUNK_ROWS;
    u.row = p->w->data + (uint64_t)row * p->w->row_bytes + (uint64_t)at.at * bytes;
    u.ahead = ahead_of(p, at, along, bytes);
    for (; left < wide * CHUNK && u.i < u.end; u.i++, u.row += p->w->row_bytes)
        for (int k = 0; k * CHUNK < left; k++)
            unpack_row(type, u.row + (uint64_t)k * chunk_bytes(type),
                       left - k * CHUNK < CHUNK ? left - k * CHUNK : CHUNK, u.i, &u.to[k]);
    return u;
}

/* The next n rows. */
static inline __attribute__((always_inline)) void unpack_some(const struct products_32 *p,
                                                              enum quant_type type, bool along,
                                                              struct unpacking *u, int n)
{
    int wide = chunks_of(type, along), end = u->end - u->i < n ? u->end : u->i + n;
    for (; u->i < end; u->i++, u->row += p->w->row_bytes) {
        ask_rows_ahead(u->row, u->ahead, (uint32_t)wide * chunk_bytes(type));
#pragma GCC unroll 2
        for (int k = 0; k < wide; k++)
            unpack_row(type, u->row + (uint64_t)k * chunk_bytes(type), CHUNK, u->i, &u->to[k]);
    }
}

/* ---- steps ---- */

/* A step of planes: pairs of those of the weights, then of the batch rows, in turn. */
static inline __attribute__((always_inline)) void
dot_step_planes(const struct products_32 *p, enum quant_type type, const struct chunk *c, int s,
                const uint8_t *x)
{
    size_t stride = (size_t)p->x->columns * 4, plane_bytes = step_bytes_32(p->x->columns);
    for (int i = 0; i < planes_of(type); i++) {
        tile_load(4, c[i].half[s], 64);
        tile_load(5, c[i].half[s] + TILE_ROWS, 64);
        for (int j = 0; i + j < PLANES; j++) {
            const uint8_t *from = x + (size_t)j * plane_bytes;
            tile_load(6, from, stride);
            tile_dot_half(0, 4, 6);
            tile_dot_half(1, 5, 6);
            tile_load(7, from + p->x->stride, stride);
            tile_dot_half(2, 4, 7);
            tile_dot_half(3, 5, 7);
        }
    }
}

/* The same with one panel: its three planes stay in registers, one of them that of a sum which
 * nobody wants. */
static inline __attribute__((always_inline)) void
dot_step_planes_one(const struct products_32 *p, enum quant_type type, const struct chunk *c, int s,
                    const uint8_t *x)
{
    size_t stride = (size_t)p->x->columns * 4, plane_bytes = step_bytes_32(p->x->columns);
    tile_load(6, x, stride);
    tile_load(7, x + plane_bytes, stride);
    tile_load(3, x + 2 * plane_bytes, stride);
    for (int i = 0; i < planes_of(type); i++) {
        tile_load(4, c[i].half[s], 64);
        tile_load(5, c[i].half[s] + TILE_ROWS, 64);
        tile_dot_half(0, 4, 6);
        tile_dot_half(1, 5, 6);
        if (i < 2) {
            tile_dot_half(0, 4, 7);
            tile_dot_half(1, 5, 7);
        }
        if (i < 1) {
            tile_dot_half(0, 4, 3);
            tile_dot_half(1, 5, 3);
        }
    }
}

static inline __attribute__((always_inline)) void
dot_step_floats(const struct products_32 *p, enum quant_type type, const struct chunk *c, int s,
                const uint8_t *x, bool two)
{
    if (two)
        dot_step_planes(p, type, c, s, x);
    else
        dot_step_planes_one(p, type, c, s, x);
}

/* A step with the panel at x and, if there are two, the one after it. */
static inline __attribute__((always_inline)) void
dot_step(const struct products_32 *p, const struct chunk *c, int s, const uint8_t *x, bool two)
{
    size_t stride = (size_t)p->x->columns * 4;
    tile_load(6, x, stride);
    tile_load(4, c->half[s], 64);
    tile_dot_half(0, 4, 6);
    tile_load(5, c->half[s] + TILE_ROWS, 64);
    tile_dot_half(1, 5, 6);
    if (two) {
        tile_load(7, x + p->x->stride, stride);
        tile_dot_half(2, 4, 7);
        tile_dot_half(3, 5, 7);
    }
}

/* ---- along rows ---- */

/* A step, and rows of the next piece after the products of either tile of weights. */
static inline __attribute__((always_inline)) void
step_along(const struct products_32 *p, enum quant_type type, const struct chunk *c, int s,
           const uint8_t *x, struct unpacking *u)
{
    size_t stride = (size_t)p->x->columns * 4;
    bool two = p->panels == 2;
    tile_load(6, x, stride);
    tile_load(4, c->half[s], 64);
    tile_dot_half(0, 4, 6);
    if (two) {
        tile_load(7, x + p->x->stride, stride);
        tile_dot_half(2, 4, 7);
    }
    unpack_some(p, type, true, u, STEP_ROWS / 2);
    tile_load(5, c->half[s] + TILE_ROWS, 64);
    tile_dot_half(1, 5, 6);
    if (two)
        tile_dot_half(3, 5, 7);
    unpack_some(p, type, true, u, STEP_ROWS / 2);
}

static inline __attribute__((always_inline)) void multiply_along(const struct products_32 *p,
                                                                 enum quant_type type,
                                                                 struct piece at,
                                                                 struct unpacking *u)
{
    int64_t step0 = at.at * CHUNK_STEPS, left = steps_32(p->w->n) - step0;
    int steps = left < CHUNK_STEPS ? (int)left : CHUNK_STEPS;
    const struct chunk *c = p->chunk[at.number % 2];
    const uint8_t *x = p->x->at + (size_t)step0 * p->step_bytes;
    if (at.at == 0)
        tile_zero_sums();
    for (int s = 0; s < steps; s++, x += p->step_bytes) {
        if (!is_floats(type)) {
            step_along(p, type, c, s, x, u);
            continue;
        }
        dot_step_floats(p, type, c, s, x, p->panels == 2);
        unpack_some(p, type, true, u, STEP_ROWS);
    }
    unpack_some(p, type, true, u, CHUNK_ROWS);
    if (at.at == p->pieces - 1)
        tile_store_sums(sums_of(p, at.group, 0)->tile);
}

/* ---- across panels ---- */

/* Which part of a step of the next piece of a panel is asked for: groups share the step's lines. */
struct ask_step {
    size_t first, last;
};

static inline struct ask_step ask_step_of(const struct products_32 *p, int group)
{
    size_t lines = p->step_bytes / 64, groups = (size_t)p->groups, at = (size_t)group;
    return (struct ask_step){lines * at / groups * 64, lines * (at + 1) / groups * 64};
}

static inline void ask_step(const uint8_t *x, struct ask_step part)
{
    for (size_t k = part.first; k < part.last; k += 64)
        _mm_prefetch((const char *)x + k, _MM_HINT_T1);
}

static inline __attribute__((always_inline)) void multiply_across(const struct products_32 *p,
                                                                  enum quant_type type,
                                                                  struct piece at,
                                                                  struct unpacking *u)
{
    int piece_steps = chunks_of(type, false) * CHUNK_STEPS, pairs = pairs_of(p);
    int64_t step0 = at.at * piece_steps, left = steps_32(p->w->n) - step0;
    int steps = left < piece_steps ? (int)left : piece_steps;
    size_t soon = (size_t)piece_steps * p->step_bytes;
    struct ask_step part = ask_step_of(p, at.group);
    const struct chunk *c = p->chunk[at.number % 2];
    /* the same share of the next piece is unpacked as is done of this one */
    int due = 0, worth = pairs * steps * ROWS_AT_ONCE;
    for (int k = 0; k < pairs; k++) {
        struct pair_sums *sums = sums_of(p, at.group, k);
        const uint8_t *x = p->x->at + 2 * (size_t)k * p->x->stride + (size_t)step0 * p->step_bytes;
        bool two = 2 * k + 1 < p->panels;
        if (at.at == 0)
            tile_zero_sums();
        else
            tile_load_sums(sums->tile);
        for (int s = 0; s < steps; s++, x += p->step_bytes) {
            if (is_floats(type))
                dot_step_floats(p, type, c, s, x, two);
            else
                dot_step(p, &c[s / CHUNK_STEPS], s % CHUNK_STEPS, x, two);
            ask_step(x + soon, part);
            ask_step(x + soon + p->x->stride, part);
            due += CHUNK_ROWS;
            if (due >= worth) {
                due -= worth;
                unpack_some(p, type, false, u, ROWS_AT_ONCE);
            }
        }
        tile_store_sums(sums->tile);
    }
    unpack_some(p, type, false, u, CHUNK_ROWS);
}

/* ---- all ---- */

static inline __attribute__((always_inline)) void
run_products(const struct products_32 *p, enum quant_type type, bool along)
{
    struct piece at = {0}, next;
    struct unpacking u = unpack_begin(p, type, along, at);
    unpack_some(p, type, along, &u, CHUNK_ROWS);
    for (; at.number < p->groups * p->pieces; at = next) {
        next = next_piece(p, at, along);
        u = unpack_begin(p, type, along, next);
        if (along)
            multiply_along(p, type, at, &u);
        else
            multiply_across(p, type, at, &u);
    }
}

/* One panel after the other: a batch row's outputs lie side by side, those of the next far away. */
static inline void put_sums(const struct products_32 *p, float *y, int64_t stride)
{
    for (int k = 0; k < p->panels; k++, y += PANEL_ROWS * stride) {
        int left = p->x->n - k * PANEL_ROWS;
        for (int row = 0; row < p->n_rows; row += TILE_ROWS) {
            int width = p->n_rows - row < TILE_ROWS ? p->n_rows - row : TILE_ROWS;
            int group = row / CHUNK_ROWS, upper = row % CHUNK_ROWS / TILE_ROWS;
            put_tile(sums_of(p, group, k / 2)->tile[2 * (k % 2) + upper],
                     left < PANEL_ROWS ? left : PANEL_ROWS, width, p->scale, y + row, stride);
        }
    }
}

#endif
