/* Norms, query norm with RoPE, and the sum of MTP's two inputs (sections 3.5, 3.6, 5.1). */
#include <math.h>

#include "ops/cpu/cpu.h"

float cpu_inv_rms(const struct cpu_ctx *ctx, const float *x, int64_t n, float eps)
{
    float sum[1][DOTS_W];
    ctx->leaf->dots(&x, 1, &x, 1, n, sum);
    return 1.0f / sqrtf(sum[0][0] / (float)n + eps);
}

struct norm_job {
    const struct cpu_ctx *ctx;
    const void *a;
};

static void norm_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct norm_job *job = arg;
    const struct rms_norm_args *a = job->a;
    for (int64_t i = first; i < last; i++) {
        const float *x = a->x + i * a->dim;
        float r = cpu_inv_rms(job->ctx, x, a->dim, a->eps);
        job->ctx->leaf->scaled(x, a->weight, r, a->dim, a->y + i * a->dim);
    }
}

void cpu_rms_norm(void *ctx, const struct rms_norm_args *a)
{
    struct norm_job job = {ctx, a};
    cpu_parallel(ctx, a->n, 2, norm_rows, &job);
}

/* Items: heads of all rows. */
static void query_heads(void *arg, int64_t first, int64_t last, int worker)
{
    const struct norm_job *job = arg;
    const struct query_args *a = job->a;
    for (int64_t at = first; at < last; at++) {
        float *q = a->q + at * a->head_dim;
        float r = cpu_inv_rms(job->ctx, q, a->head_dim, a->eps);
        job->ctx->leaf->scaled(q, NULL, r, a->head_dim, q);
        ref_rope(q + a->head_dim - a->rot_dim, a->rot_dim, a->rope + at / a->heads * a->rot_dim,
                 /*inverse=*/false);
    }
}

void cpu_query(void *ctx, const struct query_args *a)
{
    struct norm_job job = {ctx, a};
    cpu_parallel(ctx, (int64_t)a->n * a->heads, 64, query_heads, &job);
}

static void add_stream_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct add_streams_args *a = arg;
    for (int64_t at = first; at < last; at++) {
        const float *from = a->a + at / a->streams * a->dim, *b = a->b + at * a->dim;
        float *x = a->x + at * a->dim;
        for (int64_t k = 0; k < a->dim; k++)
            x[k] = from[k] + b[k];
    }
}

void cpu_add_streams(void *ctx, const struct add_streams_args *a)
{
    cpu_parallel(ctx, (int64_t)a->n * a->streams, 4, add_stream_rows, (void *)a);
}
