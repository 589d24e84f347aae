/* Compressor (section 3.7): softmax pooling, separately for every dim, over the tokens of a window.
 *
 *   ratio 4     entry i pools tokens 4(i-1) .. 4(i-1)+3 by their first half, and 4i .. 4i+3 by
 *       their second half
 *   otherwise   entry i pools tokens ratio*i .. ratio*i + ratio-1
 *
 * A token's (u, z) is read from the batch when its position is in the span, else from the tail
 * ring. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "ops/ref/dequant_ref.h"
#include "ops/ref/ref.h"

struct compress_job {
    struct ref_ctx *ctx;
    const struct compress_args *a;
    const struct span *span;
    int64_t first_entry;
    int64_t width;
};

/* (u, z) of position p: u[width] then z[width] lie apart in the batch and together in the ring. */
static void token_rows(const struct compress_job *job, int64_t p, const float **u, const float **z)
{
    const struct compress_args *a = job->a;
    if (p >= job->span->pos0) {
        int64_t row = job->span->row0 + (p - job->span->pos0);
        *u = a->u + row * job->width;
        *z = a->z + row * job->width;
        return;
    }
    const float *slot = (const float *)(const void *)(job->span->fixed + a->tail_offset) +
                        p % a->tail_rows * 2 * job->width;
    *u = slot;
    *z = slot + job->width;
}

/* One more term of the running softmax over tokens, kept as (max, sum, weighted sum) per dim. */
static void pool_token(const float *u, const float *z, int64_t dim, float *max, float *sum,
                       float *acc)
{
    for (int64_t k = 0; k < dim; k++) {
        float m = fmaxf(max[k], z[k]);
        float keep = expf(max[k] - m), add = expf(z[k] - m);
        sum[k] = sum[k] * keep + add;
        acc[k] = acc[k] * keep + add * u[k];
        max[k] = m;
    }
}

static void pool_window(const struct compress_job *job, int64_t first_pos, int64_t half,
                        float *work)
{
    int64_t dim = job->a->dim;
    for (int32_t t = 0; t < job->a->ratio; t++) {
        const float *u, *z;
        token_rows(job, first_pos + t, &u, &z);
        pool_token(u + half, z + half, dim, work, work + dim, work + 2 * dim);
    }
}

static void emit_entry(const struct compress_job *job, int64_t entry, float *work)
{
    const struct compress_args *a = job->a;
    int64_t dim = a->dim;
    for (int64_t k = 0; k < dim; k++) {
        work[k] = -INFINITY;
        work[dim + k] = work[2 * dim + k] = 0;
    }
    bool overlap = a->ratio == 4;
    if (overlap && entry > 0)
        pool_window(job, (entry - 1) * a->ratio, 0, work);
    pool_window(job, entry * a->ratio, overlap ? dim : 0, work);

    float *out = work + 2 * dim;
    for (int64_t k = 0; k < dim; k++)
        out[k] /= work[dim + k];
    float r = ref_inv_rms(out, dim, a->eps);
    for (int64_t k = 0; k < dim; k++)
        out[k] = a->norm[k] * (out[k] * r);
    ref_rope_angles(entry * a->ratio, a->freq, a->rot_dim / 2, work);
    ref_rope(out + dim - a->rot_dim, a->rot_dim, work, /*inverse=*/false);

    size_t row_bytes = a->index ? kv_index_row_bytes(a->format, dim)
                                : kv_main_row_bytes(a->format, dim, a->rot_dim);
    uint8_t *row = ref_entry(job->span, entry, a->ratio, a->page_tokens, a->page_offset, row_bytes);
    if (a->index)
        ref_index_row_encode(a->format, out, dim, row);
    else
        ref_main_row_encode(a->format, out, dim, a->rot_dim, row);
}

static void emit_entries(void *arg, int64_t first, int64_t last, int worker)
{
    const struct compress_job *job = arg;
    for (int64_t e = first; e < last; e++)
        emit_entry(job, job->first_entry + e, ref_scratch(job->ctx, worker));
}

static void store_tail(const struct compress_job *job)
{
    const struct compress_args *a = job->a;
    const struct span *s = job->span;
    int32_t skip = s->n_rows > a->tail_rows ? s->n_rows - a->tail_rows : 0;
    size_t bytes = (size_t)job->width * sizeof(float);
    for (int32_t i = skip; i < s->n_rows; i++) {
        float *slot = (float *)(void *)(s->fixed + a->tail_offset) +
                      (s->pos0 + i) % a->tail_rows * 2 * job->width;
        memcpy(slot, a->u + (s->row0 + i) * job->width, bytes);
        memcpy(slot + job->width, a->z + (s->row0 + i) * job->width, bytes);
    }
}

static void add_ape(struct compress_job *job)
{
    const struct compress_args *a = job->a;
    float *ape = ref_scratch(job->ctx, 0);
    uint64_t row_bytes = quant_row_bytes(a->ape.type, job->width);
    for (int32_t i = 0; i < a->rows->n; i++) {
        uint64_t row = (uint64_t)(a->rows->pos[i] % a->ratio);
        dequant_row(a->ape.type, (const uint8_t *)a->ape.data + row * row_bytes, ape, job->width);
        for (int64_t k = 0; k < job->width; k++)
            a->z[i * job->width + k] += ape[k];
    }
}

void ref_compress(void *ctx, const struct compress_args *a)
{
    struct compress_job job = {.ctx = ctx, .a = a, .width = a->ratio == 4 ? 2 * a->dim : a->dim};
    SLUICE_ASSERT(a->ape.n_in == job.width);
    add_ape(&job);
    for (int32_t k = 0; k < a->rows->n_spans; k++) {
        job.span = &a->rows->spans[k];
        job.first_entry = job.span->pos0 / a->ratio;
        int64_t end = (job.span->pos0 + job.span->n_rows) / a->ratio;
        ref_parallel(job.ctx, end - job.first_entry, emit_entries, &job);
        store_tail(&job);
    }
}
