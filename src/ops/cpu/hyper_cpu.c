/* Hyper-connections (sections 3.1, 3.2, 3.4), all in float32: the mix logits as a matrix product,
 * then each row's Sinkhorn, mix and norm. */
#include <math.h>

#include "ops/cpu/cpu.h"

#define HYPER_MAX_STREAMS 8
/* Items of the logits: rows of fn and of the batch, whose streams stay in the second-level cache
 * while groups of fn's rows take turns. */
#define FN_ROWS 4
#define FN_BATCH 16

struct logits_job {
    const struct cpu_ctx *ctx;
    const struct weight *fn;
    const float *x;                /* [.][S*D] */
    const int32_t *row;            /* rows of x; NULL: all */
    int64_t n, groups;             /* groups of fn's rows: items of FN_BATCH rows */
    float *logits;                 /* [n][n_out] */
};

static void logits_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct logits_job *job = arg;
    const struct weight *fn = job->fn;
    struct cpu_work work = cpu_worker(job->ctx, worker);
    uint64_t row_bytes = quant_row_bytes(fn->type, fn->n_in);
    for (int64_t at = first; at < last; at++) {
        int64_t r = at % job->groups * FN_ROWS, i = at / job->groups * FN_BATCH;
        int n_w = fn->n_out - r < FN_ROWS ? (int)(fn->n_out - r) : FN_ROWS;
        int n_x = job->n - i < FN_BATCH ? (int)(job->n - i) : FN_BATCH;
        const float *w[FN_ROWS], *x[FN_BATCH];
        const uint8_t *at_r = (const uint8_t *)fn->data + (uint64_t)r * row_bytes;
        struct qrows rows = {fn->type, at_r, fn->n_in, row_bytes};
        float y[FN_BATCH][DOTS_W];
        bool half = n_x <= HALF_X && (fn->type == QUANT_F16 || fn->type == QUANT_BF16);
        for (int k = 0; k < n_w && !half; k++) {
            float *wide = work.rows + k * fn->n_in;
            w[k] = wide;
            job->ctx->leaf->widen(fn->type, at_r + (uint64_t)k * row_bytes, wide, fn->n_in);
        }
        for (int k = 0; k < n_x; k++)
            x[k] = job->x + (job->row ? job->row[i + k] : i + k) * fn->n_in;
        if (half)
            job->ctx->leaf->half_dots(&rows, n_w, x, n_x, y);
        else
            job->ctx->leaf->dots(w, n_w, x, n_x, fn->n_in, y);
        for (int k = 0; k < n_x; k++)
            memcpy(job->logits + (i + k) * fn->n_out + r, y[k], (size_t)n_w * sizeof(float));
    }
}

static void mix_logits(struct cpu_ctx *ctx, struct logits_job *job)
{
    SLUICE_ASSERT(job->n <= ctx->limits.max_rows && job->fn->n_in <= ctx->max_act);
    int64_t parts = (job->n + FN_BATCH - 1) / FN_BATCH;
    job->groups = (job->fn->n_out + FN_ROWS - 1) / FN_ROWS;
    cpu_parallel(ctx, job->groups * parts, 1, logits_items, job);
}

/* Row softmax, then alternating column and row normalisation: `iters` iterations, the first being
 * softmax + column. */
static void sinkhorn(float *c, int32_t n, int32_t iters, float eps)
{
    for (int32_t j = 0; j < n; j++) {
        float max = c[j * n], sum = 0;
        for (int32_t k = 1; k < n; k++)
            max = fmaxf(max, c[j * n + k]);
        for (int32_t k = 0; k < n; k++)
            sum += c[j * n + k] = expf(c[j * n + k] - max);
        for (int32_t k = 0; k < n; k++)
            c[j * n + k] = c[j * n + k] / sum + eps;
    }
    for (int32_t it = 0; it < iters; it++) {
        for (int32_t j = 0; it > 0 && j < n; j++) {
            float sum = 0;
            for (int32_t k = 0; k < n; k++)
                sum += c[j * n + k];
            for (int32_t k = 0; k < n; k++)
                c[j * n + k] /= sum + eps;
        }
        for (int32_t k = 0; k < n; k++) {
            float sum = 0;
            for (int32_t j = 0; j < n; j++)
                sum += c[j * n + k];
            for (int32_t j = 0; j < n; j++)
                c[j * n + k] /= sum + eps;
        }
    }
}

/* y = RMSNorm_w(norm, sum_s pre[s] * x[s]) */
struct mixed_norm {
    const struct cpu_ctx *ctx;
    int32_t streams;
    int64_t dim;
    const float *norm;
    float eps;
};

static void mixed_norm(const struct mixed_norm *m, const float *x, const float *pre, float *y)
{
    m->ctx->leaf->combine(pre, x, m->dim, m->streams, m->dim, y);
    m->ctx->leaf->scaled(y, m->norm, cpu_inv_rms(m->ctx, y, m->dim, m->eps), m->dim, y);
}

struct gather_job {
    const struct cpu_ctx *ctx;
    const struct hyper_gather_args *a;
};

static void gather_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct gather_job *job = arg;
    const struct hyper_gather_args *a = job->a;
    int32_t n = a->streams, n_mix = 2 * n + n * n;
    struct mixed_norm norm = {job->ctx, n, a->dim, a->norm, a->rms_eps};
    for (int64_t i = first; i < last; i++) {
        const float *x = a->x + i * n * a->dim;
        float *m = job->ctx->mix + i * n_mix, pre[HYPER_MAX_STREAMS];
        float *post = a->mix + i * (n + n * n), *comb = post + n;
        float rs = cpu_inv_rms(job->ctx, x, n * a->dim, a->rms_eps);
        for (int32_t k = 0; k < n_mix; k++)
            m[k] *= rs;
        for (int32_t s = 0; s < n; s++) {
            pre[s] = ref_sigmoid(m[s] * a->scale[0] + a->base[s]) + a->hc_eps;
            post[s] = 2 * ref_sigmoid(m[n + s] * a->scale[1] + a->base[n + s]);
        }
        for (int32_t k = 0; k < n * n; k++)
            comb[k] = m[2 * n + k] * a->scale[2] + a->base[2 * n + k];
        sinkhorn(comb, n, a->sinkhorn_iters, a->hc_eps);
        mixed_norm(&norm, x, pre, a->y + i * a->dim);
    }
}

void cpu_hyper_gather(void *ctx, const struct hyper_gather_args *a)
{
    struct cpu_ctx *cpu = ctx;
    SLUICE_ASSERT(a->streams <= HYPER_MAX_STREAMS);
    struct logits_job logits = {.ctx = cpu, .fn = &a->fn, .x = a->x, .n = a->n,
                                .logits = cpu->mix};
    mix_logits(cpu, &logits);
    struct gather_job job = {cpu, a};
    cpu_parallel(cpu, a->n, 1, gather_rows, &job);
}

/* Items: pieces of SPREAD_DIMS dims of a row. */
#define SPREAD_DIMS 512

struct spread_job {
    const struct cpu_ctx *ctx;
    const struct hyper_spread_args *a;
    int64_t pieces;
};

static void spread_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct spread_job *job = arg;
    const struct hyper_spread_args *a = job->a;
    int32_t n = a->streams;
    for (int64_t at = first; at < last; at++) {
        int64_t i = at / job->pieces, d = at % job->pieces * SPREAD_DIMS;
        int64_t len = a->dim - d < SPREAD_DIMS ? a->dim - d : SPREAD_DIMS;
        const float *post = a->mix + i * (n + n * n);
        struct stream_piece x = {n, len, a->dim, a->x + i * n * a->dim + d};
        job->ctx->leaf->spread(post, post + n, a->f + i * a->dim + d, &x);
    }
}

void cpu_hyper_spread(void *ctx, const struct hyper_spread_args *a)
{
    SLUICE_ASSERT(a->streams <= HYPER_MAX_STREAMS);
    struct spread_job job = {ctx, a, (a->dim + SPREAD_DIMS - 1) / SPREAD_DIMS};
    cpu_parallel(ctx, a->n * job.pieces, 8, spread_items, &job);
}

struct head_job {
    const struct cpu_ctx *ctx;
    const struct hyper_head_args *a;
};

static void head_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct head_job *job = arg;
    const struct hyper_head_args *a = job->a;
    struct mixed_norm norm = {job->ctx, a->streams, a->dim, a->norm, a->rms_eps};
    for (int64_t i = first; i < last; i++) {
        const float *x = a->x + (int64_t)a->row[i] * a->streams * a->dim;
        float *pre = job->ctx->mix + i * a->streams;
        float rs = cpu_inv_rms(job->ctx, x, a->streams * a->dim, a->rms_eps);
        for (int32_t s = 0; s < a->streams; s++)
            pre[s] = ref_sigmoid(pre[s] * rs * a->scale[0] + a->base[s]) + a->hc_eps;
        mixed_norm(&norm, x, pre, a->y + i * a->dim);
    }
}

void cpu_hyper_head(void *ctx, const struct hyper_head_args *a)
{
    struct cpu_ctx *cpu = ctx;
    SLUICE_ASSERT(a->streams <= HYPER_MAX_STREAMS);
    struct logits_job logits = {.ctx = cpu, .fn = &a->fn, .x = a->x, .row = a->row,
                                .n = a->n_out, .logits = cpu->mix};
    mix_logits(cpu, &logits);
    struct head_job job = {cpu, a};
    cpu_parallel(cpu, a->n_out, 1, head_rows, &job);
}
