/* Products of a tile of weight rows with panels.
 *
 * Registers 0 to 3 take sums, 4 and 5 weights, 6 and 7 batch rows. All have 16 rows of 64 bytes.
 *
 * Sums go through memory and are added to partial sums some steps later; the next weights are
 * unpacked meanwhile. A load waits for an earlier store that shares its low 12 bits, and a store of
 * sums waits for its products. So everything lies in pages, and what a step stores has other
 * quarters of a page than what is loaded soon after it. What is in use at a time fits into the
 * first-level cache. */
#ifndef SLUICE_OPS_AMX_PRODUCTS_AMX_H
#define SLUICE_OPS_AMX_PRODUCTS_AMX_H

#include "ops/amx/panels_amx.h"
#include "ops/amx/tiles_amx.h"

/* Partial sums of 16 weight rows with 16 batch rows, and those of block b % 8. */
typedef float part_sums[TILE_ROWS][PANEL_ROWS];
struct parts {
    part_sums of[8];
    part_sums unused[2];           /* neighbours have other quarters of a page */
};

/* Weight rows, the panels that they meet, and partial sums of both. */
struct products {
    const struct qrows *w;
    int n_rows, n_panels;
    const uint8_t *panels;
    size_t stride;
    struct parts *part;            /* [n_panels] */
};

static inline const uint8_t *panel_of(const struct products *p, int k)
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

/* Asks for the same values of the rows [first, last) of the next tile, whose memory follows this
 * one's: 256 of them from `at` on. */
static inline __attribute__((always_inline)) void
ask_rows(enum quant_type type, const struct qrows *w, int first, int last, int64_t at)
{
    int block = act_block(type);
    uint32_t bytes = block_bytes(type);
    const uint8_t *src = w->data + (uint64_t)(at / block) * bytes;
    for (int i = first; i < last; i++)
        ask_next_tile(src + (uint64_t)i * w->row_bytes, w->row_bytes, 256 / block * bytes);
}

#endif
