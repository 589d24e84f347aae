/* Panels of batch rows for formats of 32 and for floats, as tiles take them: bfloat16, two values
 * of one row side by side, then those of the next row: half[step][plane][pair][column][2]. Rows for
 * floats have three planes. A panel has as many columns as its set; those without a row are zeros.
 * A quantised row (struct act) has its bfloat16 in the place of words, step by step, and nothing
 * else; a step's values have the order of halves_amx.h. */
#ifndef SLUICE_OPS_AMX_PANELS_32_AMX_H
#define SLUICE_OPS_AMX_PANELS_32_AMX_H

#include "ops/amx/halves_amx.h"
#include "ops/avx512/transpose_avx512.h"

static inline int64_t steps_32(int64_t n)
{
    return (n + STEP - 1) / STEP;
}

static inline size_t step_bytes_32(int columns)
{
    return (size_t)columns * STEP * sizeof(uint16_t);
}

#endif
