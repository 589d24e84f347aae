/* ops/ref/dequant_ref.h - any weight format to float32: the formulas of section 2.5, one plain loop
 * each. */
#ifndef SLUICE_OPS_REF_DEQUANT_REF_H
#define SLUICE_OPS_REF_DEQUANT_REF_H

#include <stdint.h>

#include "formats/quant.h"

/* dst[n] = the values of n / block_elems consecutive blocks at src (unaligned). n is a multiple of
 * the block. type is a matrix type (checked). */
void dequant_row(enum quant_type type, const void *src, float *dst, int64_t n);

#endif
