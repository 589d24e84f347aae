/* tests/support/cpu_case.h - what the tests of the cpu backend share: random values, random weights
 * of every format, backends, and checks. It needs nothing but libc, so that the tests also run
 * under an emulator of another processor. */
#ifndef SLUICE_TESTS_SUPPORT_CPU_CASE_H
#define SLUICE_TESTS_SUPPORT_CPU_CASE_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "ops/cpu/cpu.h"
#include "ops/ref/numfmt.h"

static int case_failures;

/* A failure is counted and printed (the first 20); the test goes on. */
static inline __attribute__((format(printf, 2, 3))) void case_check(bool ok, const char *fmt, ...)
{
    va_list args;
    if (ok)
        return;
    if (++case_failures > 20)
        return;
    va_start(args, fmt);
    fputs("FAILED: ", stdout);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
}

/* In the form that tools/run_tests counts. */
static inline void case_done(const char *name, int failures_before)
{
    if (case_failures == failures_before)
        printf("[       OK ] %s\n", name);
    else
        printf("[  FAILED  ] %s\n", name);
    fflush(stdout);
}

#define CASE(fn, ...)                                                                              \
    do {                                                                                           \
        int before_ = case_failures;                                                               \
        fn(__VA_ARGS__);                                                                           \
        case_done(#fn, before_);                                                                   \
    } while (0)

static uint64_t case_state = 88172645463325252u;

static inline uint64_t case_random(void)
{
    case_state ^= case_state << 13;
    case_state ^= case_state >> 7;
    case_state ^= case_state << 17;
    return case_state;
}

/* Roughly normal, mean 0, deviation 1. */
static inline float case_normal(void)
{
    float sum = 0;
    for (int k = 0; k < 12; k++)
        sum += (float)(case_random() >> 40) / (1 << 24);
    return sum - 6.0f;
}

static inline float *case_floats(int64_t n, float scale)
{
    float *x = malloc(((size_t)n + 1) * sizeof(*x));
    for (int64_t i = 0; i < n; i++)
        x[i] = case_normal() * scale;
    return x;
}

/* n floats of NaN, aligned as the ops' memory is. */
static inline float *case_poison(int64_t n)
{
    float *x = aligned_alloc(64, ((size_t)n * sizeof(*x) + 127) / 64 * 64);
    memset(x, 0xff, (size_t)n * sizeof(*x));
    return x;
}

static const enum quant_type case_types[] = {
    QUANT_Q8_0,  QUANT_Q4_0, QUANT_IQ4_NL, QUANT_MXFP4,  QUANT_Q2_K,  QUANT_Q3_K,
    QUANT_Q4_K,  QUANT_Q5_K, QUANT_Q6_K,   QUANT_IQ4_XS, QUANT_IQ2_XXS, QUANT_IQ2_XS,
    QUANT_IQ2_S, QUANT_IQ3_XXS, QUANT_IQ3_S, QUANT_IQ1_S, QUANT_F16, QUANT_BF16, QUANT_F32,
};
#define CASE_TYPES ((int)(sizeof(case_types) / sizeof(case_types[0])))

/* Offsets of the f16 scales of a block, -1 where there is none. */
static inline void case_scales(enum quant_type type, int *d, int *dmin)
{
    *d = 0;
    *dmin = -1;
    switch (type) {
    case QUANT_Q2_K: *d = 80; *dmin = 82; return;
    case QUANT_Q3_K: *d = 108; return;
    case QUANT_Q6_K: *d = 208; return;
    case QUANT_Q4_K: case QUANT_Q5_K: *dmin = 2; return;
    case QUANT_MXFP4: *d = -1; return;
    default: return;
    }
}

static inline void case_float_weights(enum quant_type type, uint8_t *at, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float v = case_normal() * 0.05f;
        uint16_t h = type == QUANT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
        if (type == QUANT_F32)
            memcpy(at + 4 * i, &v, 4);
        else
            memcpy(at + 2 * i, &h, 2);
    }
}

/* Random bytes with scales of a sane size; the caller frees .data. Data begins at an odd address
 * where the format allows it. */
static inline struct weight case_weight(enum quant_type type, int64_t n_in, int64_t n_out,
                                        int64_t n_mat)
{
    uint64_t bytes = quant_row_bytes(type, n_in) * (uint64_t)(n_out * n_mat);
    const struct quant_info *info = quant_info(type);
    uint8_t *at = malloc(bytes + 64);
    int d, dmin;
    if (act_block(type) == 0) {
        case_float_weights(type, at, n_in * n_out * n_mat);
        return (struct weight){type, n_in, n_out, n_mat, at};
    }
    case_scales(type, &d, &dmin);
    for (uint64_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(case_random() >> 32);
    for (uint64_t b = 0; b < bytes; b += info->block_bytes) {
        uint16_t v = f32_to_f16((1.0f + (float)(case_random() % 64) / 64) * 0.01f);
        uint16_t m = f32_to_f16((1.0f + (float)(case_random() % 64) / 64) * 0.005f);
        if (d >= 0)
            memcpy(at + b + d, &v, 2);
        else
            at[b] = (uint8_t)(118 + case_random() % 4);
        if (dmin >= 0)
            memcpy(at + b + dmin, &m, 2);
    }
    return (struct weight){type, n_in, n_out, n_mat, at};
}

static inline void case_free(const struct weight *w)
{
    free((void *)(uintptr_t)w->data);
}

struct backend {
    struct pool *pool;
    struct ops ops;
};

static inline struct ops_limits case_limits(void)
{
    return (struct ops_limits){
        .max_rows = 80, .max_in = 2048, .max_out = 2048, .dim = 512, .inner = 512,
        .n_expert = 16, .n_used = 4, .heads = 20, .streams = 4, .head_dim = 96, .groups = 40,
        .index_heads = 20, .top_k = 24, .index_dim = 64, .max_positions = 8192, .window = 32,
    };
}

static inline void backend_open(struct backend *b, const char *name, const char *isa, int threads)
{
    struct sluice_error err = {0};
    struct ops_limits limits = case_limits();
    if (pool_open(threads, /*pin=*/false, &b->pool, &err) != SLUICE_OK ||
        ops_open(name, isa, b->pool, &b->ops, &err) != SLUICE_OK ||
        b->ops.plan(b->ops.ctx, &limits, &err) != SLUICE_OK) {
        printf("cannot open %s: %s\n", name, err.message);
        exit(1);
    }
}

static inline void backend_close(struct backend *b)
{
    ops_close(&b->ops);
    pool_close(b->pool);
}

/* Distance of two vectors relative to the length of the second; NaN where NaN is. */
static inline double case_distance(const float *a, const float *b, int64_t n)
{
    double diff = 0, len = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        len += (double)b[i] * b[i];
    }
    return sqrt(diff / (len > 0 ? len : 1));
}

/* Relative distances that products may have from the reference's, from rounding activations.
 * Experts round twice, and random weights give gates of some hundreds, where a relative error is a
 * large one of what is between closed and open; BYTE_EXPERTS_ERROR where activations are bytes. */
#define FLOAT_ERROR 2e-5
#define EXPERTS_ERROR 1e-2
#define BYTE_EXPERTS_ERROR 1.3e-2

static inline double case_error(enum quant_type type, enum numerics numerics)
{
    if (act_block(type) == 0)
        return FLOAT_ERROR;
    if (act_kind(type) == ACT_256_BYTE)
        return 1e-2;
    /* AMX rounds both sides of products of blocks of 32 to 8 significant bits */
    if (act_block(type) == 32)
        return numerics == NUMERICS_AMX ? 4e-3 : 2e-3;
    return 3e-3; /* products and minima of a few outputs may cancel */
}

#endif
