/* bench/bench_internal.h - what the parts of the op benchmark share; private to this folder. */
#ifndef SLUICE_BENCH_BENCH_INTERNAL_H
#define SLUICE_BENCH_BENCH_INTERNAL_H

#include "bench/bench.h"
#include "model/kv_state.h"
#include "model/shape.h"
#include "ops/ops.h"

/* Most rows of a batch that is measured. */
#define BENCH_ROWS 512
/* Layers of the sizes: one of each ratio. */
enum { LAYER_PLAIN, LAYER_4, LAYER_128, LAYER_KINDS };

struct bench_run {
    struct bench_ops_result *out;
    struct shape s;                /* n_layer LAYER_KINDS */
    struct pool *pool;
    struct ops ops;
    /* weights that are used in turn */
    uint8_t *weights;
    size_t weight_room, one_room;  /* of experts together, and of any other matrix */
    uint8_t *blocks;               /* a MiB of random ones, which the weights repeat */
    /* activations and results, random or written over */
    float *x, *y;
    int64_t x_room, y_room;        /* floats */
    int32_t *ids;                  /* [BENCH_ROWS * K] */
    float *id_weights;             /* [BENCH_ROWS * K], 1 / K each */
    struct row_table rows;         /* tokens 0, 1, ... without a past */
};

/* Fills memory with random blocks of a format. */
void bench_fill(struct bench_run *r, enum quant_type type, uint8_t *to, size_t bytes);
/* n in whole blocks of any format: small models may have less than one. */
int64_t bench_in_blocks(int64_t n);

/* One call of what is measured; turn counts up from 0. */
typedef void bench_fn(struct bench_run *r, const void *arg, int turn);
/* Calls fn for a while and enters op with its least time. */
void bench_time(struct bench_run *r, const struct bench_op *op, bench_fn *fn, const void *arg);

/* The ops, by what they need: weights; rows only; a past. */
enum sluice_status bench_products(struct bench_run *r, struct sluice_error *err);
void bench_rows(struct bench_run *r);
enum sluice_status bench_past(struct bench_run *r, enum kv_format format,
                              struct sluice_error *err);

#endif
