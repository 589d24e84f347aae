/* The leaves of AVX-512, which those of AMX take over but for quantise and row_dot. */
#ifndef SLUICE_OPS_AVX512_LEAF_AVX512_H
#define SLUICE_OPS_AVX512_LEAF_AVX512_H

#include "ops/avx2/elem_avx2.h"
#include "ops/avx2/leaf_avx2.h"

void avx512_quantise(const float *x, int64_t n, enum act_kind kind, const struct act *to);
void avx512_row_dot(const struct qrows *w, int n_rows, const struct act *x, int n,
                    float (*y)[TILE_ROWS]);
/* One batch row with Q4_K by bytes instead of words: faster where there is AMX (as measured on
 * Emerald Rapids), slower on Zen 4. */
void avx512_row_q4_k_planes(const struct qrows *w, int n_rows, const struct act *x, float *y);
void avx512_tile_unpack(const struct qrows *w, int n_rows, const struct tile *t);
void avx512_tile_dot(const struct tile *t, const struct act *x, int n, float (*y)[TILE_ROWS]);
void avx512_dots(const float *const *w, int nw, const float *const *x, int nx, int64_t n,
                 float (*y)[DOTS_W]);
void avx512_half_dots(const struct qrows *w, int n_rows, const float *const *x, int nx,
                      float (*y)[DOTS_W]);
void avx512_mix(float *const *o, int n_o, const struct mix_keys *m);
void avx512_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x);

#define LEAVES_AVX512                                                                              \
    .direct = 2 * ROW_BATCH,                                                                       \
    .tile_unpack = avx512_tile_unpack, .tile_dot = avx512_tile_dot, .widen = avx2_widen,           \
    .dots = avx512_dots, .half_dots = avx512_half_dots, .mix = avx512_mix,                         \
    .fp8_decode = avx512_fp8_decode, .fp4_decode = avx2_fp4_decode,                                \
    .index_query = avx2_index_query,                                                               \
    .exp_minus = avx2_exp_minus, .gated = avx2_gated, .scaled = elem_scaled,                       \
    .divide = elem_divide, .relu_add = elem_relu_add, .combine = elem_combine, .spread = elem_spread

#endif
