/* ops/ops.h - the op table: what a backend (ref, cpu, later cuda) implements. The model is written
 * once against it.
 *
 * A backend keeps every intermediate in its own memory. Ops are enqueued in call order and may run
 * asynchronously; download and sync wait. Nothing here allocates after plan(), so that a sequence
 * of ops can be recorded once and replayed.
 *
 * Exactness: each output element has one order of accumulation that depends on nothing but the op's
 * arguments for that element: not on n, on other rows, on threads or, where `numerics` are the
 * same, on the instruction set.
 *
 * Threads: one caller at a time per struct ops; a backend parallelises inside an op over its own
 * pool. */
#ifndef SLUICE_OPS_OPS_H
#define SLUICE_OPS_OPS_H

#include "base/numerics.h"
#include "base/status.h"
#include "ops/args.h"
#include "os/pool.h"

/* Upper bounds of every later call, for the backend's private scratch. */
struct ops_limits {
    int32_t max_rows;              /* n of any op with a row table; hyper_head's n_out too */
    int64_t max_in, max_out;       /* of any matmul's n_in, n_out */
    int64_t dim, inner;            /* D, F */
    int32_t n_expert, n_used;      /* E, K */
    int32_t heads, streams;        /* H, S */
    int32_t groups;                /* n_mat of any grouped matmul */
    int64_t head_dim;              /* C */
    int32_t index_heads, top_k;    /* I, T */
    int64_t index_dim;             /* J */
    int64_t max_positions;         /* no row has a position at or beyond this */
    int32_t window;                /* W */
};

/* Ops that can fail only by a programmer's error return nothing; misuse is caught by assertions. */
struct ops {
    const char *name;              /* "ref", "cpu" */
    enum numerics numerics;        /* what decides the bits of its results */
    void *ctx;                     /* the backend's state */
    /* DEV addresses are host addresses: weights may be used where they are mapped */
    bool host_memory;

    void (*close)(void *ctx);
    /* May be called again (a draft run beside the trunk's): the bounds are then the larger of
     * both. */
    enum sluice_status (*plan)(void *ctx, const struct ops_limits *limits,
                               struct sluice_error *err);

    /* memory: zero-filled, 64-byte aligned. free accepts NULL. */
    enum sluice_status (*alloc)(void *ctx, size_t bytes, DEV void **out, struct sluice_error *err);
    void (*free)(void *ctx, DEV void *p);
    void (*upload)(void *ctx, DEV void *dst, const void *src, size_t bytes);
    /* waits for earlier ops */
    void (*download)(void *ctx, void *dst, DEV const void *src, size_t bytes);
    void (*copy)(void *ctx, DEV void *dst, DEV const void *src, size_t bytes);
    void (*sync)(void *ctx);

    void (*embed)(void *ctx, const struct embed_args *a);
    void (*hyper_gather)(void *ctx, const struct hyper_gather_args *a);
    void (*hyper_spread)(void *ctx, const struct hyper_spread_args *a);
    void (*hyper_head)(void *ctx, const struct hyper_head_args *a);
    void (*matmul)(void *ctx, const struct matmul_args *a);
    void (*grouped_matmul)(void *ctx, const struct grouped_matmul_args *a);
    void (*rms_norm)(void *ctx, const struct rms_norm_args *a);
    void (*rope_table)(void *ctx, const struct rope_table_args *a);
    void (*query)(void *ctx, const struct query_args *a);
    void (*kv_encode)(void *ctx, const struct kv_encode_args *a);
    void (*compress)(void *ctx, const struct compress_args *a);
    void (*index_query)(void *ctx, const struct index_query_args *a);
    void (*index_select)(void *ctx, const struct index_select_args *a);
    void (*attention)(void *ctx, const struct attention_args *a);
    void (*ring_store)(void *ctx, const struct ring_store_args *a);
    void (*route)(void *ctx, const struct route_args *a);
    void (*experts)(void *ctx, const struct experts_args *a);
    void (*add_streams)(void *ctx, const struct add_streams_args *a);
};

/* Backend by name: "ref" (plain scalar float32, the truth every other backend is compared with),
 * "cpu" (fast kernels), or NULL / "auto" for the best of this machine. isa (cpu only): NULL for the
 * best, or "c", "avx2", "avx512", "amx", "neon" to pin one for tests; an unknown or unavailable
 * name is SLUICE_ERR_ARG listing what there is. pool is borrowed and must outlive the ops. */
enum sluice_status ops_open(const char *name, const char *isa, struct pool *pool, struct ops *out,
                            struct sluice_error *err);
void ops_close(struct ops *ops);   /* accepts a zeroed struct */

/* One line for people: backend, instruction set, threads. */
void ops_describe(const struct ops *ops, char *text, size_t room);

#endif
