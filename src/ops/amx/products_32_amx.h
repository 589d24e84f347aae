/* Products of formats of 32, and of floats in planes (thirds_amx.h), with panels.
 *
 * Registers 0 to 3 take sums of two tiles of weight rows with one panel or two, 4 and 5 weights, 6
 * and 7 batch rows. A piece is a chunk or two of CHUNK_ROWS weight rows: between the products of
 * one, the next is unpacked into another buffer, a few rows after each step. Products take long,
 * and what follows one is not done with before it: many in a row would fill the processor's buffers
 * with stores, and loads wait for earlier stores that share their low 12 bits.
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
#include "ops/amx/tiles_amx.h"

/* Rows of a chunk that are unpacked after a step, as measured; of two chunks half as many. */
#define ROWS_AT_ONCE 16
#define PIECE_CHUNKS 2
/* Chunks of a piece at most: of floats one for each plane. */
#define MOST_CHUNKS 3

/* Sums of CHUNK_ROWS weight rows with two panels: tile 2 * panel + weight. */
struct pair_sums {
    _Alignas(64) float tile[4][TILE_ROWS][PANEL_ROWS];
};

typedef void (*unpack_fn)(const struct qrows *w, const struct part_32 *p, struct chunk *c);

struct products_32 {
    const struct qrows *w;
    int n_rows;                    /* weight rows */
    const struct panel_view *x;
    unpack_fn unpack;
    float scale;                   /* of sums */
    struct pair_sums *sums;        /* [groups][pairs] */
    struct chunk (*chunk)[MOST_CHUNKS]; /* [2], of pieces in turn */
    size_t step_bytes;             /* of a panel */
    uint64_t piece_bytes;          /* of a weight row */
    int64_t pieces;                /* of a row */
    int planes, x_planes;          /* of weights and batch rows; formats of 32: 1 */
    int wide;                      /* chunks of a piece */
    int groups, panels;            /* of CHUNK_ROWS weight rows; of PANEL_ROWS batch rows */
};

static inline int pairs_of(const struct products_32 *p)
{
    return (p->panels + 1) / 2;
}

/* Which rows and values a piece has. */
struct piece {
    int group;
    int64_t at;                    /* of the pieces of a row */
};

/* Whether pieces of the same rows follow each other. */
static inline bool along_rows(int panels)
{
    return panels <= 2;
}

static inline struct piece piece_of(const struct products_32 *p, int64_t number)
{
    if (along_rows(p->panels))
        return (struct piece){(int)(number / p->pieces), number % p->pieces};
    return (struct piece){(int)(number % p->groups), number / p->groups};
}

/* Along rows, memory is asked for this many pieces ahead. */
#define PIECES_AHEAD 4

/* Bytes from a row of a piece to what is asked for meanwhile. Along rows: values of the same rows
 * that follow, at the end of rows of the next. Otherwise the same values of the next group; after
 * the last group the first one's next values; at the end of rows those that follow all groups. The
 * difference may be negative: it wraps around. */
static inline uint64_t ahead_of(const struct products_32 *p, struct piece at)
{
    uint64_t row_bytes = p->w->row_bytes, group = CHUNK_ROWS * row_bytes;
    if (along_rows(p->panels)) {
        bool same_rows = at.at + PIECES_AHEAD < p->pieces;
        return PIECES_AHEAD * p->piece_bytes + (same_rows ? 0 : (CHUNK_ROWS - 1) * row_bytes);
    }
    if (at.group + 1 < p->groups)
        return group;
    if (at.at + 1 < p->pieces)
        return p->piece_bytes - (uint64_t)(p->groups - 1) * group;
    return group - (uint64_t)at.at * p->piece_bytes;
}

/* Unpacks the rows [*done, rows) of a piece, of which those from n_rows on do not exist. */
static inline void unpack_rows(struct products_32 *p, int64_t number, int *done, int rows)
{
    struct piece at = piece_of(p, number);
    int row = at.group * CHUNK_ROWS, end = row + rows;
    struct part_32 part = {.first = row + *done, .last = end < p->n_rows ? end : p->n_rows,
                           .at = at.at * p->wide * CHUNK, .ahead = ahead_of(p, at)};
    *done = rows;
    for (int k = 0; k < p->wide && part.first < part.last && part.at < p->w->n; k++) {
        p->unpack(p->w, &part, &p->chunk[number % 2][k]);
        part.at += CHUNK;
    }
}

/* A step of a piece with the panel at x, and the one that is `apart` bytes after it; 0: none. */
static inline void dot_step(const struct chunk *c, int s, const uint8_t *x, size_t stride,
                            size_t apart)
{
    tile_load(6, x, stride);
    tile_load(4, c->half[s], 64);
    tile_dot_half(0, 4, 6);
    tile_load(5, c->half[s] + TILE_ROWS, 64);
    tile_dot_half(1, 5, 6);
    if (apart) {
        tile_load(7, x + apart, stride);
        tile_dot_half(2, 4, 7);
        tile_dot_half(3, 5, 7);
    }
}

/* A step of planes: pairs of those of the weights, then of the batch rows, in turn. */
static inline void dot_step_planes(const struct products_32 *p, const struct chunk *c, int s,
                                   const uint8_t *x, size_t apart)
{
    size_t stride = (size_t)p->x->columns * 4, plane_bytes = step_bytes_32(p->x->columns);
    for (int i = 0; i < p->planes; i++) {
        tile_load(4, c[i].half[s], 64);
        tile_load(5, c[i].half[s] + TILE_ROWS, 64);
        for (int j = 0; i + j < p->x_planes; j++) {
            const uint8_t *from = x + (size_t)j * plane_bytes;
            tile_load(6, from, stride);
            tile_dot_half(0, 4, 6);
            tile_dot_half(1, 5, 6);
            tile_load(7, from + apart, stride);
            tile_dot_half(2, 4, 7);
            tile_dot_half(3, 5, 7);
        }
    }
}

/* The same with one panel: its three planes stay in registers, one of them that of a sum which
 * nobody wants. */
static inline void dot_step_planes_one(const struct products_32 *p, const struct chunk *c, int s,
                                       const uint8_t *x)
{
    size_t stride = (size_t)p->x->columns * 4, plane_bytes = step_bytes_32(p->x->columns);
    tile_load(6, x, stride);
    tile_load(7, x + plane_bytes, stride);
    tile_load(3, x + 2 * plane_bytes, stride);
    for (int i = 0; i < p->planes; i++) {
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

/* Asks for a part of a step of the next piece of a panel: groups share the step's lines. */
static inline void ask_step(const struct products_32 *p, const uint8_t *x, int group)
{
    size_t bytes = p->step_bytes;
    size_t first = bytes / 64 * (size_t)group / (size_t)p->groups * 64;
    size_t last = bytes / 64 * (size_t)(group + 1) / (size_t)p->groups * 64;
    for (size_t k = first; k < last; k += 64)
        _mm_prefetch((const char *)x + (size_t)p->wide * CHUNK_STEPS * bytes + k, _MM_HINT_T1);
}

/* Products of a piece; the next is unpacked meanwhile. */
static inline void multiply_piece(struct products_32 *p, int64_t number, int64_t pieces)
{
    const struct panel_view *x = p->x;
    struct piece at = piece_of(p, number);
    int64_t step0 = at.at * p->wide * CHUNK_STEPS, left = steps_32(p->w->n) - step0;
    int steps = left < p->wide * CHUNK_STEPS ? (int)left : p->wide * CHUNK_STEPS;
    int pairs = pairs_of(p), at_once = ROWS_AT_ONCE / p->wide;
    int done = number + 1 < pieces ? 0 : CHUNK_ROWS;
    bool kept = along_rows(p->panels), first = at.at == 0, last = at.at == p->pieces - 1;
    for (int k = 0; k < pairs; k++) {
        struct pair_sums *sums = &p->sums[at.group * pairs + k];
        const uint8_t *from = x->at + 2 * (size_t)k * x->stride + (size_t)step0 * p->step_bytes;
        if (first)
            tile_zero_sums();
        else if (!kept)
            tile_load_sums(sums->tile);
        for (int s = 0; s < steps; s++, from += p->step_bytes) {
            const struct chunk *c = p->chunk[number % 2];
            size_t apart = 2 * k + 1 < p->panels ? x->stride : 0;
            if (p->x_planes > 1 && apart)
                dot_step_planes(p, c, s, from, apart);
            else if (p->x_planes > 1)
                dot_step_planes_one(p, c, s, from);
            else
                dot_step(&c[s / CHUNK_STEPS], s % CHUNK_STEPS, from, (size_t)x->columns * 4, apart);
            if (!kept) {
                ask_step(p, from, at.group);
                ask_step(p, from + x->stride, at.group);
            }
            int due = CHUNK_ROWS * (k * steps + s + 1) / (pairs * steps);
            if (due >= done + at_once)
                unpack_rows(p, number + 1, &done, due / at_once * at_once);
        }
        if (last || !kept)
            tile_store_sums(sums->tile);
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
            const struct pair_sums *s = &p->sums[group * pairs_of(p) + k / 2];
            put_tile(s->tile[2 * (k % 2) + upper], left < PANEL_ROWS ? left : PANEL_ROWS, width,
                     p->scale, y + row, stride);
        }
    }
}

static inline void run_products_32(struct products_32 *p)
{
    int64_t pieces = p->groups * p->pieces;
    int done = 0;
    unpack_rows(p, 0, &done, CHUNK_ROWS);
    for (int64_t k = 0; k < pieces; k++)
        multiply_piece(p, k, pieces);
}

#endif
