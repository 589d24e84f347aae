/* Hyper-connections (sections 3.1, 3.2, 3.4), all in float32. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "ops/ref/dequant_ref.h"
#include "ops/ref/ref.h"

#define HYPER_MAX_STREAMS 8

/* m[r] = (fn[r] . flat) * rs for the rows of fn, rs over all S*D values. */
static void mix_logits(const float *fn, int32_t n_rows, const float *flat, int64_t width, float eps,
                       float *m)
{
    float rs = ref_inv_rms(flat, width, eps);
    for (int32_t r = 0; r < n_rows; r++)
        m[r] = ref_dot(fn + r * width, flat, width) * rs;
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

/* y = sum_s pre[s] * x[s] */
static void mix_streams(const float *x, const float *pre, int32_t streams, int64_t dim, float *y)
{
    for (int64_t d = 0; d < dim; d++) {
        float sum = 0;
        for (int32_t s = 0; s < streams; s++)
            sum += pre[s] * x[s * dim + d];
        y[d] = sum;
    }
}

/* y = RMSNorm_w(norm, y) */
static void norm_in_place(float *y, const float *norm, float eps, int64_t dim)
{
    float r = ref_inv_rms(y, dim, eps);
    for (int64_t d = 0; d < dim; d++)
        y[d] = norm[d] * (y[d] * r);
}

struct gather_job {
    const struct hyper_gather_args *a;
    const float *fn;
};

static void gather_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct gather_job *job = arg;
    const struct hyper_gather_args *a = job->a;
    int32_t s_n = a->streams, n_mix = 2 * s_n + s_n * s_n;
    for (int64_t i = first; i < last; i++) {
        const float *x = a->x + i * s_n * a->dim;
        float m[2 * HYPER_MAX_STREAMS + HYPER_MAX_STREAMS * HYPER_MAX_STREAMS];
        mix_logits(job->fn, n_mix, x, s_n * a->dim, a->rms_eps, m);
        float pre[HYPER_MAX_STREAMS];
        float *post = a->mix + i * (s_n + s_n * s_n), *comb = post + s_n;
        for (int32_t s = 0; s < s_n; s++) {
            pre[s] = ref_sigmoid(m[s] * a->scale[0] + a->base[s]) + a->hc_eps;
            post[s] = 2 * ref_sigmoid(m[s_n + s] * a->scale[1] + a->base[s_n + s]);
        }
        for (int32_t k = 0; k < s_n * s_n; k++)
            comb[k] = m[2 * s_n + k] * a->scale[2] + a->base[2 * s_n + k];
        sinkhorn(comb, s_n, a->sinkhorn_iters, a->hc_eps);
        mix_streams(x, pre, s_n, a->dim, a->y + i * a->dim);
        norm_in_place(a->y + i * a->dim, a->norm, a->rms_eps, a->dim);
    }
}

void ref_hyper_gather(void *ctx, const struct hyper_gather_args *a)
{
    struct ref_ctx *ref = ctx;
    SLUICE_ASSERT(a->streams <= HYPER_MAX_STREAMS);
    dequant_row(a->fn.type, a->fn.data, ref->hyper_fn, a->fn.n_in * a->fn.n_out);
    struct gather_job job = {a, ref->hyper_fn};
    ref_parallel(ref, a->n, gather_rows, &job);
}

static void spread_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct hyper_spread_args *a = arg;
    int32_t n = a->streams;
    for (int64_t i = first; i < last; i++) {
        const float *post = a->mix + i * (n + n * n), *comb = post + n;
        float *x = a->x + i * n * a->dim;
        for (int64_t d = 0; d < a->dim; d++) {
            float old[HYPER_MAX_STREAMS];
            for (int32_t j = 0; j < n; j++)
                old[j] = x[j * a->dim + d];
            for (int32_t k = 0; k < n; k++) {
                float sum = post[k] * a->f[i * a->dim + d];
                for (int32_t j = 0; j < n; j++)
                    sum += comb[j * n + k] * old[j];
                x[k * a->dim + d] = sum;
            }
        }
    }
}

void ref_hyper_spread(void *ctx, const struct hyper_spread_args *a)
{
    SLUICE_ASSERT(a->streams <= HYPER_MAX_STREAMS);
    ref_parallel(ctx, a->n, spread_rows, (void *)a);
}

struct head_job {
    const struct hyper_head_args *a;
    const float *fn;
};

static void head_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct head_job *job = arg;
    const struct hyper_head_args *a = job->a;
    for (int64_t i = first; i < last; i++) {
        const float *x = a->x + (int64_t)a->row[i] * a->streams * a->dim;
        float pre[HYPER_MAX_STREAMS];
        mix_logits(job->fn, a->streams, x, a->streams * a->dim, a->rms_eps, pre);
        for (int32_t s = 0; s < a->streams; s++)
            pre[s] = ref_sigmoid(pre[s] * a->scale[0] + a->base[s]) + a->hc_eps;
        mix_streams(x, pre, a->streams, a->dim, a->y + i * a->dim);
        norm_in_place(a->y + i * a->dim, a->norm, a->rms_eps, a->dim);
    }
}

void ref_hyper_head(void *ctx, const struct hyper_head_args *a)
{
    struct ref_ctx *ref = ctx;
    SLUICE_ASSERT(a->streams <= HYPER_MAX_STREAMS);
    dequant_row(a->fn.type, a->fn.data, ref->hyper_fn, a->fn.n_in * a->fn.n_out);
    struct head_job job = {a, ref->hyper_fn};
    ref_parallel(ref, a->n_out, head_rows, &job);
}
