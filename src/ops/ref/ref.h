/* ops/ref/ref.h - the reference backend: plain scalar float32, one file per step of the forward
 * pass. It is the truth that every fast kernel is compared with, so it is written to be read
 * against the model specification, not to be fast.
 *
 * Memory: DEV addresses are host addresses. Threads: rows (or output elements) are divided over the
 * pool; each element is computed by one worker in one order, so that results do not depend on the
 * division. */
#ifndef SLUICE_OPS_REF_REF_H
#define SLUICE_OPS_REF_REF_H

#include "ops/ops.h"

struct ref_ctx {
    struct pool *pool;             /* borrowed */
    struct ops_limits limits;
    /* per worker, then shared parts; owned; laid out by plan (backend_ref.c) */
    float *scratch;
    size_t per_worker;             /* floats of each worker's part */
    float *hyper_fn;               /* [2S + S*S][S*D] */
    /* [max_rows * (K + 1)][F] activations of the chosen experts, then of the shared one */
    float *inner;
    float *expert_out;             /* [max_rows * (K + 1)][D] */
};

/* Worker w's private floats (ctx->per_worker of them). */
float *ref_scratch(const struct ref_ctx *ctx, int worker);

/* y = sum of a[i] * b[i], i ascending. */
float ref_dot(const float *a, const float *b, int64_t n);
/* 1 / sqrt(mean(x^2) + eps) */
float ref_inv_rms(const float *x, int64_t n, float eps);
float ref_sigmoid(float x);
float ref_silu(float x);
/* Rotates the pairs of v[R] by table[R/2][2] = {cos, sin}; inverse uses the negative angle (section
 * 3.5). */
void ref_rope(float *v, int64_t rot_dim, const float *table, bool inverse);
/* table for one position */
void ref_rope_angles(int64_t pos, const float *freq, int64_t half, float *table);

/* Quantise-dequantise of section 3.12, in place over n values; the encoders write codes and scale
 * bytes as kv_format rows hold them. */
void ref_fp8_encode(const float *x, int64_t n, uint8_t *codes, uint8_t *scales);
void ref_fp8_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x);
void ref_fp4_encode(const float *x, int64_t n, uint8_t *codes, uint8_t *scales);
void ref_fp4_decode(const uint8_t *codes, const uint8_t *scales, int64_t n, float *x);
/* Sylvester Hadamard transform times n^-0.5; n a power of two. */
void ref_hadamard(float *x, int64_t n);

/* One main or index row of kv_format. */
void ref_main_row_encode(enum kv_format format, const float *x, int64_t dim, int64_t rot_dim,
                         uint8_t *row);
void ref_main_row_decode(enum kv_format format, const uint8_t *row, int64_t dim, int64_t rot_dim,
                         float *x);
void ref_index_row_encode(enum kv_format format, float *x, int64_t dim, uint8_t *row);
void ref_index_row_decode(enum kv_format format, const uint8_t *row, int64_t dim, float *x);
/* Address of entry i in a span's pages. */
uint8_t *ref_entry(const struct span *s, int64_t entry, int32_t ratio, int32_t page_tokens,
                   size_t page_offset, size_t row_bytes);

/* One expert's gated inner activations for one row: inner[F] = silu(min(gate.x, limit)) *
 * clamp(up.x, +-limit) * scale. */
struct ref_expert {
    const uint8_t *gate, *up, *down;
    enum quant_type gate_type, up_type, down_type;
    int64_t n_in, n_inner;
    float limit, scale;
};
/* y = w . x for one row of weights in any format; row_scratch holds n_in floats. */
float ref_row_dot(enum quant_type type, const void *row, const float *x, int64_t n_in,
                  float *row_scratch);

/* Runs fn over [0, n) in pieces on the pool. */
void ref_parallel(struct ref_ctx *ctx, int64_t n,
                  void (*fn)(void *arg, int64_t first, int64_t last, int worker), void *arg);

void ref_embed(void *ctx, const struct embed_args *a);
void ref_hyper_gather(void *ctx, const struct hyper_gather_args *a);
void ref_hyper_spread(void *ctx, const struct hyper_spread_args *a);
void ref_hyper_head(void *ctx, const struct hyper_head_args *a);
void ref_matmul(void *ctx, const struct matmul_args *a);
void ref_grouped_matmul(void *ctx, const struct grouped_matmul_args *a);
void ref_rms_norm(void *ctx, const struct rms_norm_args *a);
void ref_rope_table(void *ctx, const struct rope_table_args *a);
void ref_query(void *ctx, const struct query_args *a);
void ref_kv_encode(void *ctx, const struct kv_encode_args *a);
void ref_compress(void *ctx, const struct compress_args *a);
void ref_index_query(void *ctx, const struct index_query_args *a);
void ref_index_select(void *ctx, const struct index_select_args *a);
void ref_attention(void *ctx, const struct attention_args *a);
void ref_ring_store(void *ctx, const struct ring_store_args *a);
void ref_route(void *ctx, const struct route_args *a);
void ref_experts(void *ctx, const struct experts_args *a);
void ref_add_streams(void *ctx, const struct add_streams_args *a);

/* Opens the backend; ops/open.c calls it. */
enum sluice_status ref_open(struct pool *pool, struct ops *out, struct sluice_error *err);

#endif
