/* Products of formats of 256 with AMX, in signed bytes, with both sides split into value = 128 *
 * high + low: the sums are the same integers as those of products of words (docs/NUMERICS.md). */
#include "base/check.h"
#include "ops/amx/amx.h"
#include "ops/amx/products_256_amx.h"

/* ---- panels ---- */

size_t amx_panel_bytes_256(int64_t n, int columns)
{
    int c = columns_256(columns);
    size_t bytes = (size_t)(n / 256) * (BLOCK_256(c) + TAIL_256(c));
    return (bytes + PANEL_END + PANEL_ALIGN - 1) & ~(size_t)(PANEL_ALIGN - 1);
}

void amx_pack_256(const struct act *x, int n_rows, const struct panel_form *form, uint8_t *panel)
{
    static const int16_t none[16];
    const __m512i zero = _mm512_setzero_si512();
    int columns = columns_256(form->columns);
    size_t bytes = 64 * (size_t)columns;
    uint8_t *to = panel, *tail = panel + (size_t)(form->n / 256) * BLOCK_256(columns);
    for (int64_t b = 0; b < form->n / 256; b++, to += 8 * bytes, tail += TAIL_256(columns)) {
        for (int k = 0; k < 4; k++) {
            __m512i low[PANEL_ROWS], high[PANEL_ROWS];
            for (int i = 0; i < PANEL_ROWS; i++) {
                low[i] = high[i] = zero;
                if (i < n_rows)
                    planes_256(&x[i], b, k, form->kind, &low[i], &high[i]);
            }
            put_columns(low, columns, to + (size_t)k * bytes);
            put_columns(high, columns, to + (size_t)(4 + k) * bytes);
        }
        for (int i = 0; i < columns; i++) {
            float d = i < n_rows ? x[i].d[b] : 0;
            pack_sums(i < n_rows ? x[i].sum16 + b * 16 : none, i, columns, tail);
            memcpy(tail + 48 * columns + 4 * i, &d, sizeof(d));
        }
    }
    memset(tail, 0, PANEL_END);
}

/* ---- products ---- */

/* One loop over a row for each format and width of panels, with the unpacking inlined. */
#define PRODUCTS_COLUMNS(type, block, columns)                                                     \
    static void products_##block##_##columns(const struct products_256 *p)                         \
    {                                                                                              \
        products_256(p, type, columns);                                                            \
    }
#define PRODUCTS_256(type, block)                                                                  \
    PRODUCTS_COLUMNS(type, block, 4)                                                               \
    PRODUCTS_COLUMNS(type, block, 8)                                                               \
    PRODUCTS_COLUMNS(type, block, 16)
FORMATS_256(PRODUCTS_256)

static void products(const struct products_256 *p)
{
#define PRODUCTS_OF(type, block)                                                                   \
    case type:                                                                                     \
        (p->columns == 4   ? products_##block##_4                                                  \
         : p->columns == 8 ? products_##block##_8                                                  \
                           : products_##block##_16)(p);                                            \
        return;
    switch (p->w->type) {
        FORMATS_256(PRODUCTS_OF)
    default:
        SLUICE_ASSERT(!"a format of 256");
    }
}

/* Partial sums of a tile and a panel: weight rows one after the other. */
static void add_parts(const struct parts *part, int columns, float (*to)[PANEL_ROWS])
{
    for (int m = 0; m < columns; m++) {
        __m512 p[8];
        for (int k = 0; k < 8; k++)
            p[k] = _mm512_load_ps(part->of[k][m]);
        for (int k = 4; k; k /= 2) /* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
            for (int j = 0; j < k; j++)
                p[j] = _mm512_add_ps(p[j], p[j + k]);
        _mm512_store_ps(to[m], p[0]);
    }
}

/* Where sums of a tile go: n batch rows of `width` values. */
struct panel_out {
    float *y;
    int64_t stride;
    int n, width;
};

/* Sums of less than PANEL_ROWS columns. */
static void put_few(const float *sum, int columns, const struct panel_out *to)
{
    for (int i = 0; i < to->n; i++)
        for (int o = 0; o < to->width; o++)
            to->y[i * to->stride + o] = sum[columns * o + i];
}

/* Up to TILES_256 tiles of weight rows with the n batch rows of up to PANELS_256 panels. */
static void dot_tiles_256(const struct qrows *w, int n_rows, const struct panel_view *x, float *y,
                          int64_t stride)
{
    _Alignas(PAGE) struct parts part[TILES_256][PANELS_256];
    struct products_256 p = {.w = w, .n_rows = n_rows, .panels = x->at, .stride = x->stride,
                             .part = part, .columns = columns_256(x->columns),
                             .n_panels = (x->n + PANEL_ROWS - 1) / PANEL_ROWS};
    for (int t = 0; t < tiles_of(&p); t++)
        for (int k = 0; k < p.n_panels; k++)
            for (int b = (int)(w->n / 256); b < 8; b++) /* to which nothing is added */
                memset(part[t][k].of[b], 0, sizeof(part[t][k].of[b]));
    products(&p);
    for (int k = 0; k < p.n_panels; k++) {
        int left = x->n - k * PANEL_ROWS;
        for (int t = 0; t < tiles_of(&p); t++) {
            /* narrow panels fill the beginning: compilers do not see that no more is read */
            _Alignas(64) float sum[TILE_ROWS][PANEL_ROWS] = {{0}};
            int rows = n_rows - t * TILE_ROWS;
            struct panel_out to = {.y = y + (int64_t)k * PANEL_ROWS * stride + t * TILE_ROWS,
                                   .stride = stride, .n = left < PANEL_ROWS ? left : PANEL_ROWS,
                                   .width = rows < TILE_ROWS ? rows : TILE_ROWS};
            add_parts(&part[t][k], p.columns, sum);
            if (p.columns < PANEL_ROWS)
                put_few(sum[0], p.columns, &to);
            else
                put_tile(sum, to.n, to.width, 1.0f, to.y, stride);
        }
    }
}

/* A few panels at a time, so that they stay in the cache while all weights meet them. */
void amx_dot_256(const struct panel_dot *d, const struct panel_view *x, float *y,
                 int64_t stride)
{
    const int most = TILES_256 * TILE_ROWS;
    tile_shapes_of(columns_256(x->columns));
    for (int i = 0; i < x->n; i += PANELS_256 * PANEL_ROWS) {
        struct panel_view some = *x;
        some.at += (size_t)(i / PANEL_ROWS) * x->stride;
        some.n = x->n - i < PANELS_256 * PANEL_ROWS ? x->n - i : PANELS_256 * PANEL_ROWS;
        for (int r = 0; r < d->n_rows; r += most) {
            struct qrows w = d->w;
            w.data += (uint64_t)r * w.row_bytes;
            dot_tiles_256(&w, d->n_rows - r < most ? d->n_rows - r : most, &some,
                          y + i * stride + r, stride);
        }
    }
    tile_release();
}
