/* base/rng.h - a counter-based random number generator: the number is a hash of (seed, counter), so
 * that a draw depends on nothing that happened before it. */
#ifndef SLUICE_BASE_RNG_H
#define SLUICE_BASE_RNG_H

#include <stdint.h>

/* SplitMix64's finaliser, twice. */
static inline uint64_t rng_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t rng_u64(uint64_t seed, uint64_t counter)
{
    return rng_mix(rng_mix(seed + 0x9e3779b97f4a7c15u) + counter * 0x9e3779b97f4a7c15u);
}

/* Uniform in [0, 1), 53 bits. */
static inline double rng_double(uint64_t seed, uint64_t counter)
{
    return (double)(rng_u64(seed, counter) >> 11) * 0x1p-53;
}

#endif
