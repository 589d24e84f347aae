/* Products of formats of 32 and of floats with AMX, in bfloat16 (docs/NUMERICS.md). */
#include "base/check.h"
#include "ops/amx/products_32_amx.h"
#include "ops/amx/thirds_amx.h"

/* ---- panels ---- */

/* The same values of neighbouring panels fall into different sets of a cache. */
size_t amx_panel_bytes_32(int64_t n, enum act_kind kind, int columns)
{
    size_t bytes = (size_t)(batch_planes(kind) * steps_32(n)) * step_bytes_32(columns);
    size_t unit = 2 * PANEL_ALIGN;
    if (columns < PANEL_ROWS)
        return (bytes + PANEL_ALIGN - 1) & ~(size_t)(PANEL_ALIGN - 1);
    return ((bytes + unit - 1) / unit | 1) * unit;
}

/* 32 values at x, rounded. */
static inline __m512i rounded_32(const float *x, __m512 scale)
{
    return halves_of(_mm512_mul_ps(_mm512_loadu_ps(x), scale),
                     _mm512_mul_ps(_mm512_loadu_ps(x + 16), scale));
}

void amx_quantise_32(const float *x, int64_t n, enum act_kind kind, const struct act *to)
{
    const __m512i in_turn = nibbles_in_turn();
    __m512 scale = _mm512_set1_ps(kind == ACT_32_Q8 ? Q8_0_ROW_SCALE : 1.0f);
    for (int64_t k = 0; k < n; k += 32) {
        __m512i h = rounded_32(x + k, scale);
        if (kind == ACT_32)
            h = _mm512_permutexvar_epi16(in_turn, h);
        _mm512_storeu_si512(to->q + k, h);
    }
}

static void pack_halves(const struct act *x, int n_rows, const struct panel_form *form,
                        uint8_t *panel)
{
    for (int64_t s = 0; s < steps_32(form->n); s++) {
        __m512i v[PANEL_ROWS];
        for (int i = 0; i < PANEL_ROWS; i++)
            v[i] = i < n_rows ? _mm512_loadu_si512(x[i].q + s * STEP) : _mm512_setzero_si512();
        put_columns(v, form->columns, panel + (size_t)s * step_bytes_32(form->columns));
    }
}

/* Of a float row d has the values. */
static void pack_floats(const struct act *x, int n_rows, const struct panel_form *form,
                        uint8_t *panel)
{
    size_t bytes = step_bytes_32(form->columns);
    for (int64_t s = 0; s < steps_32(form->n); s++) {
        __m512i v[PLANES][PANEL_ROWS], half[PLANES];
        for (int i = 0; i < PANEL_ROWS; i++) {
            const float *row = x[i < n_rows ? i : 0].d;
            int64_t n = i < n_rows ? form->n : 0;
            split(floats_to(row, s * STEP, n), floats_to(row, s * STEP + 16, n), PLANES, half);
            for (int k = 0; k < PLANES; k++)
                v[k][i] = half[k];
        }
        for (int k = 0; k < PLANES; k++, panel += bytes)
            put_columns(v[k], form->columns, panel);
    }
}

void amx_pack_32(const struct act *x, int n_rows, const struct panel_form *form, uint8_t *panel)
{
    if (form->kind == ACT_NONE)
        pack_floats(x, n_rows, form, panel);
    else
        pack_halves(x, n_rows, form, panel);
}

/* ---- products ---- */

/* One loop over pieces for each format and either order, with the unpacking inlined. */
#define PRODUCTS_32(type, name)                                                                    \
    static void along_##name(const struct products_32 *p)                                          \
    {                                                                                              \
        run_products(p, type, true);                                                               \
    }                                                                                              \
    static void across_##name(const struct products_32 *p)                                         \
    {                                                                                              \
        run_products(p, type, false);                                                              \
    }
FORMATS_32(PRODUCTS_32)
FORMATS_FLOAT(PRODUCTS_32)

static void products(const struct products_32 *p)
{
    bool along = along_rows(p->panels);
#define PRODUCTS_OF(type, name)                                                                    \
    case type:                                                                                     \
        (along ? along_##name : across_##name)(p);                                                 \
        return;
    switch (p->w->type) {
        FORMATS_32(PRODUCTS_OF)
        FORMATS_FLOAT(PRODUCTS_OF)
    default:
        SLUICE_ASSERT(!"a format of 32 or floats");
    }
}

static void dot_panels(const struct panel_dot *d, const struct panel_view *x, float *y,
                       int64_t stride)
{
    struct chunk chunk[2][MOST_CHUNKS];
    enum quant_type type = d->w.type;
    struct products_32 p = {
        .chunk = chunk, .w = &d->w, .n_rows = d->n_rows, .x = x,
        .scale = type == QUANT_Q8_0 ? Q8_0_SUM_SCALE : 1.0f,
        .sums = (struct pair_sums *)(void *)d->room,
        .step_bytes = (size_t)batch_planes(act_kind(type)) * step_bytes_32(x->columns),
        .groups = (d->n_rows + CHUNK_ROWS - 1) / CHUNK_ROWS,
        .panels = (x->n + PANEL_ROWS - 1) / PANEL_ROWS,
    };
    int piece = chunks_of(type, along_rows(p.panels)) * CHUNK;
    p.pieces = (d->w.n + piece - 1) / piece;
    products(&p);
    put_sums(&p, y, stride);
}

/* Up to this many panels, to unpack weights for each two costs less than to keep sums in memory. */
#define PANELS_APART 6

void amx_dot_32(const struct panel_dot *d, const struct panel_view *x, float *y, int64_t stride)
{
    int most = x->n <= PANELS_APART * PANEL_ROWS ? 2 * PANEL_ROWS : x->n;
    tile_shapes_of(x->columns);
    for (int i = 0; i < x->n; i += most) {
        struct panel_view part = *x;
        part.at += (size_t)(i / PANEL_ROWS) * x->stride;
        part.n = x->n - i < most ? x->n - i : most;
        dot_panels(d, &part, y + i * stride, stride);
    }
    tile_release();
}
