/* What the leaves of AVX-512 take over from those of AVX2. */
#ifndef SLUICE_OPS_AVX2_LEAF_AVX2_H
#define SLUICE_OPS_AVX2_LEAF_AVX2_H

#include "ops/cpu/leaf.h"

void avx2_tile_unpack(const struct qrows *w, int n_rows, const struct tile *t);
void avx2_widen(enum quant_type type, const uint8_t *src, float *dst, int64_t n);

#endif
