/* ops/amx/amx.h - products of panels by tiles; private to this folder. struct panels of
 * ops/cpu/leaf.h says what the functions do. */
#ifndef SLUICE_OPS_AMX_AMX_H
#define SLUICE_OPS_AMX_AMX_H

#include "ops/avx512/transpose_avx512.h"
#include "ops/cpu/leaf.h"

/* Formats of 32, and floats (ACT_NONE) in planes: bfloat16, sums in an order of their own.
 * dot_32_amx.c */
void amx_quantise_32(const float *x, int64_t n, enum act_kind kind, const struct act *to);
size_t amx_panel_bytes_32(int64_t n, enum act_kind kind, int columns);
void amx_pack_32(const struct act *x, int n_rows, const struct panel_form *form, uint8_t *panel);
void amx_dot_32(const struct panel_dot *d, const struct panel_view *x, float *y, int64_t stride);

/* Formats of 256: signed bytes, the sums of the other tables. dot_256_amx.c */
size_t amx_panel_bytes_256(int64_t n, int columns);
void amx_pack_256(const struct act *x, int n_rows, const struct panel_form *form, uint8_t *panel);
void amx_dot_256(const struct panel_dot *d, const struct panel_view *x, float *y, int64_t stride);

/* attend_amx.c */
extern const struct attend_tiles amx_attend_tiles;

/* A step of up to 16 batch rows, v[i] of row i, as a panel of some columns has it: pairs of halves
 * or fours of bytes, 16 of them, one after the other. */
static inline void put_columns(const __m512i *v, int columns, uint8_t *to)
{
    _Alignas(64) int16_t t[16][32];
    if (columns == PANEL_ROWS) {
        transpose16(v, (int16_t *)(void *)to);
        return;
    }
    if (columns == 1) {
        _mm512_storeu_si512(to, v[0]);
        return;
    }
    transpose16(v, t[0]);
    for (int p = 0; p < 16; p++)
        _mm512_mask_storeu_epi32(to + (size_t)p * (size_t)columns * 4,
                                 (__mmask16)((1u << columns) - 1), _mm512_load_si512(t[p]));
}

/* Sums of a tile of weight rows with a panel, scaled, to n batch rows of `width` values. */
static inline void put_tile(const float (*tile)[PANEL_ROWS], int n, int width, float scale,
                            float *y, int64_t stride)
{
    __m512i row[TILE_ROWS];
    _Alignas(64) float t[PANEL_ROWS][TILE_ROWS];
    for (int m = 0; m < TILE_ROWS; m++)
        row[m] = _mm512_load_si512(tile[m]);
    transpose16(row, (int16_t *)(void *)t);
    for (int i = 0; i < n; i++)
        _mm512_mask_storeu_ps(y + i * stride, (__mmask16)((1u << width) - 1),
                              _mm512_mul_ps(_mm512_load_ps(t[i]), _mm512_set1_ps(scale)));
}

#endif
