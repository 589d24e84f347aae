/* Products of formats of 32. A step is a block with one panel or two.
 *
 * Step t: products of block t, addition of block t - 4, unpacking of block t + 4, and when its
 * products are surely done, the store of the sums of block t - 1. */
#ifndef SLUICE_OPS_AMX_PRODUCTS_32_AMX_H
#define SLUICE_OPS_AMX_PRODUCTS_32_AMX_H

#include "ops/amx/products_amx.h"

typedef float half_sums[TILE_ROWS][PANEL_ROWS];

#define PANELS_32 2
#define LAG_32 4
#define AHEAD_32 4

struct run_32 {
    struct ring ring;
    uint8_t unused[PAGE / 4];
    half_sums s[PANELS_32][4];     /* of the blocks in turn, a quarter after their weights' */
    float scale[8][TILE_ROWS];     /* of the ring's blocks */
    struct products p;
};

static inline __attribute__((always_inline)) void
add_n_32(struct run_32 *r, int64_t t, int n_panels, bool first)
{
    const float *dw = r->scale[t % 8];
    for (int k = 0; k < n_panels; k++) {
        float (*part)[PANEL_ROWS] = r->p.part[k].of[t % 8];
        __m512 dx = _mm512_loadu_ps(tails_32(panel_of(&r->p, k), r->p.w->n)[t].d);
#pragma GCC unroll 16
        for (int m = 0; m < TILE_ROWS; m++) {
            __m512 sum = _mm512_load_ps(r->s[k][t % 4][m]);
            _mm512_store_ps(part[m], add_scaled(part_row(part, m, first), sum, dw[m], dx));
        }
    }
}

static inline __attribute__((always_inline)) void add_32(struct run_32 *r, int64_t t,
                                                         int n_panels)
{
    if (t < 8)
        add_n_32(r, t, n_panels, true);
    else
        add_n_32(r, t, n_panels, false);
}

static inline const void *panel_block_32(const struct run_32 *r, int k, int64_t t)
{
    return panel_of(&r->p, k) + (size_t)t * sizeof(struct panel_32);
}

/* odd: whether t is. */
static inline __attribute__((always_inline)) void dot_32(struct run_32 *r, int64_t t, bool odd,
                                                         int n_panels)
{
    if (odd) {
        tile_load(5, r->ring.half[t % 8], 64);
        tile_load(6, panel_block_32(r, 0, t), 64);
        tile_zero(2);
        tile_dot_half(2, 5, 6);
    } else {
        tile_load(4, r->ring.half[t % 8], 64);
        tile_load(6, panel_block_32(r, 0, t), 64);
        tile_zero(0);
        tile_dot_half(0, 4, 6);
    }
    if (n_panels < 2)
        return;
    tile_load(7, panel_block_32(r, 1, t), 64);
    if (odd) {
        tile_zero(3);
        tile_dot_half(3, 5, 7);
    } else {
        tile_zero(1);
        tile_dot_half(1, 4, 7);
    }
}

static inline __attribute__((always_inline)) void store_32(struct run_32 *r, int64_t t, bool odd,
                                                           int n_panels)
{
    if (odd)
        tile_store(2, r->s[0][t % 4], 64);
    else
        tile_store(0, r->s[0][t % 4], 64);
    if (n_panels < 2)
        return;
    if (odd)
        tile_store(3, r->s[1][t % 4], 64);
    else
        tile_store(1, r->s[1][t % 4], 64);
}

static inline __attribute__((always_inline)) void unpack_32(struct run_32 *r, enum quant_type type,
                                                            int64_t t)
{
    const struct products *p = &r->p;
    int first = (int)(t % 8) * 2, last = first + 2 < p->n_rows ? first + 2 : p->n_rows;
    ask_rows(type, p->w, first, last, t / 8 * 256);
    planes_32(type, p->w, p->n_rows, t, &r->ring);
}

static inline __attribute__((always_inline)) void
step_32(struct run_32 *r, enum quant_type type, int64_t t, bool odd, int n_panels)
{
    int64_t blocks = r->p.w->n / 32;
    if (t < blocks) {
        dot_32(r, t, odd, n_panels);
        _mm512_store_ps(r->scale[t % 8], scales_of(type, r->ring.scale[t % 8]));
    }
    if (t >= LAG_32 && t - LAG_32 < blocks)
        add_32(r, t - LAG_32, n_panels);
    if (t + AHEAD_32 < blocks)
        unpack_32(r, type, t + AHEAD_32);
    if (t > 0 && t - 1 < blocks)
        store_32(r, t - 1, !odd, n_panels);
}

static inline __attribute__((always_inline)) void
steps_32(struct run_32 *r, enum quant_type type, int n_panels)
{
    for (int64_t t = 0; t < AHEAD_32 && t < r->p.w->n / 32; t++)
        unpack_32(r, type, t);
    for (int64_t t = 0; t < r->p.w->n / 32 + LAG_32; t += 2) {
        step_32(r, type, t, false, n_panels);
        step_32(r, type, t + 1, true, n_panels);
    }
}

/* A pair of panels at a time: partial sums of more would not stay in the first-level cache. */
static inline __attribute__((always_inline)) void products_32(const struct products *p,
                                                              enum quant_type type)
{
    _Alignas(PAGE) struct run_32 r;
    if (p->n_rows < TILE_ROWS)
        memset(&r.ring, 0, sizeof(r.ring));
    for (int k = 0; k < p->n_panels; k += PANELS_32) {
        r.p = *p;
        r.p.panels = panel_of(p, k);
        r.p.part = p->part + k;
        if (k + 1 < p->n_panels)
            steps_32(&r, type, 2);
        else
            steps_32(&r, type, 1);
    }
}

#endif
