/* os/cpu.h - what this processor offers to the kernels. Any thread. */
#ifndef SLUICE_OS_CPU_H
#define SLUICE_OS_CPU_H

#include <stdbool.h>

/* avx2 (with fma, f16c): Intel Haswell, AMD Zen and later. avx512 (f, bw, vl, dq, vnni, vbmi,
 * vbmi2, gfni): Ice Lake, Sapphire Rapids, Zen 4 and later. avx512_bf16 (and avx512): Sapphire
 * Rapids, Zen 4 and later. amx (tile, int8, bf16, and avx512_bf16, avx512_fp16): Sapphire Rapids
 * and later; asks the kernel for its state at the first call. neon (with dot product): Apple M,
 * Graviton 2 and later. */
struct cpu_features {
    bool avx2, avx512, avx512_bf16, amx, neon;
};

const struct cpu_features *cpu_features(void);
/* "x86-64: avx2 avx512 amx"; static. */
const char *cpu_describe(void);

#endif
