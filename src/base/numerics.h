/* base/numerics.h - what decides the bits of a backend's results. */
#ifndef SLUICE_BASE_NUMERICS_H
#define SLUICE_BASE_NUMERICS_H

/* Backends with the same number give the same bits. A new number whenever one gives others: what
 * an earlier one kept is not gone on from. CPU_WORDS: before activations of IQ2_XXS were bytes;
 * CPU_BYTES: before those of the formats of 32 had 8 significant bits; CPU_HALVES: while they
 * had. AMX_CUT: before weights of Q8_0 were rounded and attention went by tiles; AMX_DOTS: before
 * floats did; AMX_PAIRS: while two blocks of nibbles shared their steps. */
enum numerics {
    NUMERICS_REF,
    NUMERICS_CPU_WORDS,
    NUMERICS_CPU_BYTES,
    NUMERICS_CPU_HALVES,
    NUMERICS_CPU,
    NUMERICS_AMX_CUT,
    NUMERICS_AMX_DOTS,
    NUMERICS_AMX_PAIRS,
    NUMERICS_AMX,              /* the cpu backend, formats of 32, floats and attention by tiles */
    NUMERICS_COUNT
};

#endif
