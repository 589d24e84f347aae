/* The leaves with AMX: those of AVX-512, and panels of batch rows that meet weights in tiles.
 *
 * Blocks of 32 are products of bfloat16, blocks of 256 of signed bytes, with both sides split into
 * value = 128 * high + low: the sums are the same integers as those of products of words
 * (docs/NUMERICS.md). A tile of sums has 16 weight rows and 16 batch rows. */
#include "base/check.h"
#include "ops/amx/products_256_amx.h"
#include "ops/amx/products_32_amx.h"
#include "ops/avx512/leaf_avx512.h"

/* One loop over a row for each format, with the unpacking inlined. */
#define PRODUCTS_32(type, block)                                                                   \
    static void products_##block(const struct products *p)                                         \
    {                                                                                              \
        products_32(p, type);                                                                      \
    }
#define PRODUCTS_256(type, block)                                                                  \
    static void products_##block(const struct products *p)                                         \
    {                                                                                              \
        products_256(p, type);                                                                     \
    }
FORMATS_32(PRODUCTS_32)
FORMATS_256(PRODUCTS_256)

static void products(const struct products *p)
{
#define PRODUCTS_OF(type, block)                                                                   \
    case type:                                                                                     \
        products_##block(p);                                                                       \
        return;
    switch (p->w->type) {
        FORMATS_32(PRODUCTS_OF)
        FORMATS_256(PRODUCTS_OF)
    default:
        SLUICE_ASSERT(!"a quantised type");
    }
}

/* y[i] for the first n batch rows of a panel. */
static void panel_sums(const struct parts *part, int n, float (*y)[TILE_ROWS])
{
    __m512i row[TILE_ROWS];
    _Alignas(64) float t[PANEL_ROWS][TILE_ROWS];
    for (int m = 0; m < TILE_ROWS; m++) {
        __m512 p[8];
        for (int k = 0; k < 8; k++)
            p[k] = _mm512_load_ps(part->of[k][m]);
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
    _Alignas(PAGE) struct parts part[PANEL_BATCH];
    struct products p = {.w = w, .n_rows = n_rows, .panels = panels, .part = part};
    int blocks = (int)(w->n / act_block(w->type));
    p.n_panels = (n + PANEL_ROWS - 1) / PANEL_ROWS;
    p.stride = panel_bytes(w->n, act_kind(w->type));
    SLUICE_ASSERT(p.n_panels <= PANEL_BATCH);
    for (int k = 0; k < p.n_panels; k++)
        for (int b = blocks; b < 8; b++) /* to which nothing is added */
            memset(part[k].of[b], 0, sizeof(part[k].of[b]));
    products(&p);
    for (int k = 0; k < p.n_panels; k++) {
        int left = n - k * PANEL_ROWS;
        panel_sums(&part[k], left < PANEL_ROWS ? left : PANEL_ROWS, y + k * PANEL_ROWS);
    }
}

#define EIGHT(x) x, x, x, x, x, x, x, x
static const struct tile_shape_table shapes = {
    .palette = 1, .row_bytes = {EIGHT(64)}, .rows = {EIGHT(16)}};

static void panels_begin(void)
{
    tile_shapes(&shapes);
}

static void panels_end(void)
{
    tile_release();
}

/* A panel costs the same however many of its rows are there: as measured, with a machine's other
 * tenants in mind, who slow tiles down more than the rest. */
static int panels_from(enum quant_type type)
{
    switch (type) {
    case QUANT_MXFP4:
    case QUANT_Q2_K:
        return 3;
    case QUANT_IQ2_XXS:
    case QUANT_Q8_0:
    case QUANT_Q4_0:
    case QUANT_IQ4_NL:
        return 4;
    default:
        return 5;
    }
}

static const struct panels amx_panels = {
    .from = panels_from,
    .bytes = panel_bytes,
    .pack = panel_pack,
    .begin = panels_begin,
    .dot = panel_dot,
    .end = panels_end,
};

const struct leaves leaves_amx = {LEAVES_AVX512, .name = "amx", .panels = &amx_panels};
