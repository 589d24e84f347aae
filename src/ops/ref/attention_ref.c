/* Core attention (section 3.9): every head attends to the raw window and to compressed entries; key
 * and value are the same row. The sink enlarges the denominator only. The output is rotated
 * back. */
#include <math.h>

#include "base/check.h"
#include "ops/ref/ref.h"

struct attention_job {
    const struct ref_ctx *ctx;
    const struct attention_args *a;
    size_t row_bytes;
};

/* The encoded key row number j of a query: raw positions first, then compressed entries. */
struct key_list {
    const struct span *span;
    int64_t first_pos, n_raw, n_entries;
    const int32_t *sel;            /* NULL: entry j is j */
};

static struct key_list keys_of(const struct attention_args *a, int64_t i)
{
    int64_t pos = a->rows->pos[i];
    struct key_list k = {.span = &a->rows->spans[a->rows->span_of[i]]};
    k.first_pos = pos >= a->window ? pos - a->window + 1 : 0;
    k.n_raw = pos - k.first_pos + 1;
    if (a->ratio == 0)
        return k;
    k.n_entries = (pos + 1) / a->ratio;
    if (a->sel) {
        k.sel = a->sel + i * a->sel_stride;
        k.n_entries = a->sel_count[i];
    }
    return k;
}

static const uint8_t *key_row(const struct attention_job *job, const struct key_list *k, int64_t j)
{
    const struct attention_args *a = job->a;
    if (j >= k->n_raw) {
        int64_t entry = k->sel ? k->sel[j - k->n_raw] : j - k->n_raw;
        return ref_entry(k->span, entry, a->ratio, a->page_tokens, a->page_offset, job->row_bytes);
    }
    int64_t pos = k->first_pos + j;
    if (pos >= k->span->pos0)
        return a->batch_rows + (size_t)(k->span->row0 + (pos - k->span->pos0)) * job->row_bytes;
    return k->span->fixed + a->ring_offset + (size_t)(pos % a->ring_rows) * job->row_bytes;
}

/* scratch: key[C], scores[H][n_keys] */
static void attend_row(const struct attention_job *job, int64_t i, float *scratch)
{
    const struct attention_args *a = job->a;
    struct key_list k = keys_of(a, i);
    int64_t n = k.n_raw + k.n_entries, dim = a->head_dim;
    float *key = scratch, *scores = scratch + dim;
    const float *q = a->q + i * a->heads * dim;
    float *o = a->o + i * a->heads * dim;
    for (int64_t j = 0; j < n; j++) {
        ref_main_row_decode(a->format, key_row(job, &k, j), dim, a->rot_dim, key);
        for (int32_t h = 0; h < a->heads; h++)
            scores[h * n + j] = ref_dot(q + h * dim, key, dim) * a->scale;
    }
    for (int32_t h = 0; h < a->heads; h++) {
        float *s = scores + h * n, max = a->sinks[h], den;
        for (int64_t j = 0; j < n; j++)
            max = fmaxf(max, s[j]);
        den = expf(a->sinks[h] - max);
        for (int64_t j = 0; j < n; j++)
            den += s[j] = expf(s[j] - max);
        for (int64_t j = 0; j < n; j++)
            s[j] /= den;
    }
    for (int64_t d = 0; d < a->heads * dim; d++)
        o[d] = 0;
    for (int64_t j = 0; j < n; j++) {
        ref_main_row_decode(a->format, key_row(job, &k, j), dim, a->rot_dim, key);
        for (int32_t h = 0; h < a->heads; h++)
            for (int64_t d = 0; d < dim; d++)
                o[h * dim + d] += scores[h * n + j] * key[d];
    }
    for (int32_t h = 0; h < a->heads; h++)
        ref_rope(o + (h + 1) * dim - a->rot_dim, a->rot_dim, a->rope + i * a->rot_dim,
                 /*inverse=*/true);
}

static void attend_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct attention_job *job = arg;
    for (int64_t i = first; i < last; i++)
        attend_row(job, i, ref_scratch(job->ctx, worker));
}

void ref_attention(void *ctx, const struct attention_args *a)
{
    struct attention_job job = {ctx, a, kv_main_row_bytes(a->format, a->head_dim, a->rot_dim)};
    ref_parallel(ctx, a->rows->n, attend_rows, &job);
}
