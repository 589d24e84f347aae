/* Indexer (section 3.8): scores the visible index rows and keeps the best top_k. */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "ops/ref/ref.h"

struct query_job {
    const struct ref_ctx *ctx;
    const struct index_query_args *a;
};

static void index_query_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct query_job *job = arg;
    const struct index_query_args *a = job->a;
    uint8_t *row = (uint8_t *)(void *)ref_scratch(job->ctx, worker);
    for (int64_t i = first; i < last; i++) {
        for (int32_t h = 0; h < a->heads; h++) {
            float *q = a->q + (i * a->heads + h) * a->dim;
            ref_rope(q + a->dim - a->rot_dim, a->rot_dim, a->rope + i * a->rot_dim,
                     /*inverse=*/false);
            if (a->format == KV_EXACT)
                continue;
            ref_index_row_encode(a->format, q, a->dim, row);
            ref_index_row_decode(a->format, row, a->dim, q);
        }
    }
}

void ref_index_query(void *ctx, const struct index_query_args *a)
{
    struct query_job job = {ctx, a};
    ref_parallel(ctx, a->n, index_query_rows, &job);
}

struct select_job {
    const struct ref_ctx *ctx;
    const struct index_select_args *a;
};

static float entry_score(const struct index_select_args *a, const float *q, const float *w,
                         const float *key)
{
    float score = 0;
    for (int32_t h = 0; h < a->heads; h++)
        score += w[h] * a->weight_scale * fmaxf(0, ref_dot(q + h * a->dim, key, a->dim));
    return score;
}

/* Sorts (score, entry) pairs: higher score first, lower entry on ties. */
struct scored {
    float score;
    int32_t entry;
};

static int by_score(const void *pa, const void *pb)
{
    const struct scored *a = pa, *b = pb;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->entry < b->entry ? -1 : 1;
}

static int by_entry(const void *pa, const void *pb)
{
    const int32_t *a = pa, *b = pb;
    return (*a > *b) - (*a < *b);
}

static void select_row(const struct select_job *job, int64_t i, float *scratch)
{
    const struct index_select_args *a = job->a;
    const struct span *s = &a->rows->spans[a->rows->span_of[i]];
    int64_t visible = (a->rows->pos[i] + 1) / a->ratio;
    int32_t *sel = a->sel + i * a->top_k;
    if (visible <= a->top_k) {
        for (int32_t e = 0; e < visible; e++)
            sel[e] = e;
        a->count[i] = (int32_t)visible;
        return;
    }
    size_t row_bytes = kv_index_row_bytes(a->format, a->dim);
    float *key = scratch;
    struct scored *scored = (struct scored *)(void *)(scratch + a->dim);
    for (int64_t e = 0; e < visible; e++) {
        const uint8_t *row = ref_entry(s, e, a->ratio, a->page_tokens, a->page_offset, row_bytes);
        ref_index_row_decode(a->format, row, a->dim, key);
        scored[e].entry = (int32_t)e;
        scored[e].score = entry_score(a, a->q + i * a->heads * a->dim, a->w + i * a->heads, key);
    }
    qsort(scored, (size_t)visible, sizeof *scored, by_score);
    for (int32_t k = 0; k < a->top_k; k++)
        sel[k] = scored[k].entry;
    qsort(sel, (size_t)a->top_k, sizeof *sel, by_entry);
    a->count[i] = a->top_k;
}

static void select_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct select_job *job = arg;
    for (int64_t i = first; i < last; i++)
        select_row(job, i, ref_scratch(job->ctx, worker));
}

void ref_index_select(void *ctx, const struct index_select_args *a)
{
    struct select_job job = {ctx, a};
    ref_parallel(ctx, a->rows->n, select_rows, &job);
}
