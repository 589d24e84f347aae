/* The leaves with AMX: those of AVX-512, and panels of batch rows that meet weights in tiles. A
 * tile of sums has 16 weight rows and as many batch rows as a panel has columns. */
#include "base/check.h"
#include "ops/amx/amx.h"
#include "ops/avx512/leaf_avx512.h"

static void quantise(const float *x, int64_t n, enum act_kind kind, const struct act *to)
{
    if (act_kind_block(kind) == 32)
        amx_quantise_32(x, n, kind, to);
    else
        avx512_quantise(x, n, kind, to);
}

static void row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                    float (*y)[TILE_ROWS])
{
    if (w->type == QUANT_Q4_K && n == 1)
        avx512_row_q4_k_planes(w, n_rows, x, y[0]);
    else
        avx512_row_dot(w, n_rows, x, n, y);
}

static size_t panel_bytes(int64_t n, enum act_kind kind, int columns)
{
    return act_kind_block(kind) == 256 ? amx_panel_bytes_256(n, columns)
                                       : amx_panel_bytes_32(n, kind, columns);
}

static void panel_pack(const struct act *x, int n_rows, const struct panel_form *form,
                       uint8_t *panel)
{
    if (act_kind_block(form->kind) == 256)
        amx_pack_256(x, n_rows, form, panel);
    else
        amx_pack_32(x, n_rows, form, panel);
}

static void panel_dot(const struct panel_dot *d, const struct panel_view *x, float *y,
                      int64_t stride)
{
    SLUICE_ASSERT(d->n_rows <= PANEL_WEIGHTS && x->n <= PANEL_MOST * PANEL_ROWS);
    if (act_block(d->w.type) == 256)
        amx_dot_256(d, x, y, stride);
    else
        amx_dot_32(d, x, y, stride);
}

/* From how many rows on panels of bytes cost less than vectors, as measured. Up to four rows they
 * cost the same; formats that are unpacked by way of words take long. */
static int panels_from(enum quant_type type)
{
    if (act_block(type) != 256)
        return 1;
    return type == QUANT_Q2_K || type == QUANT_Q4_K ? 2 : type == QUANT_IQ2_XXS ? 3 : 5;
}

static const struct panels amx_panels = {
    .numerics = NUMERICS_AMX,
    .from = panels_from,
    .bytes = panel_bytes,
    .pack = panel_pack,
    .dot = panel_dot,
};

const struct leaves leaves_amx = {
    LEAVES_AVX512, .quantise = quantise, .row_dot = row_dot, .name = "amx", .panels = &amx_panels,
    .attend = &amx_attend_tiles};
