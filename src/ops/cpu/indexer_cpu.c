/* Indexer (section 3.8): scores of the visible index rows, DOTS_W rows against all heads at a time,
 * then the best top_k without sorting: the k-th largest is found by partition, what lies above it
 * is taken in order, and ties fill up from the lowest entry. */
#include "ops/cpu/cpu.h"

struct query_job {
    const struct cpu_ctx *ctx;
    const struct index_query_args *a;
};

/* Items: heads of all rows. */
static void query_heads(void *arg, int64_t first, int64_t last, int worker)
{
    const struct query_job *job = arg;
    const struct index_query_args *a = job->a;
    (void)worker;
    for (int64_t at = first; at < last; at++) {
        float *q = a->q + at * a->dim;
        ref_rope(q + a->dim - a->rot_dim, a->rot_dim, a->rope + at / a->heads * a->rot_dim,
                 /*inverse=*/false);
        if (a->format != KV_EXACT)
            job->ctx->leaf->index_query(q, a->dim);
    }
}

void cpu_index_query(void *ctx, const struct index_query_args *a)
{
    struct query_job job = {ctx, a};
    cpu_parallel(ctx, (int64_t)a->n * a->heads, 4, query_heads, &job);
}

/* Entries of an item. */
#define SCORE_ENTRIES 256

struct select_job {
    struct cpu_ctx *ctx;
    const struct index_select_args *a;
    size_t row_bytes;
    int64_t row0, stride;          /* of the pass: first row; scores of a row */
    int64_t pieces;                /* items of a row */
};

static int64_t visible_of(const struct index_select_args *a, int64_t i)
{
    return (a->rows->pos[i] + 1) / a->ratio;
}

/* score[j] for the entries first .. first + n - 1; scratch: keys [DOTS_W][J] */
static void score_entries(const struct select_job *job, int64_t i, int64_t first, int n,
                          float *scratch, float *score)
{
    const struct index_select_args *a = job->a;
    const struct span *s = &a->rows->spans[a->rows->span_of[i]];
    const float *q = a->q + i * a->heads * a->dim, *keys[DOTS_W], *heads[DOTS_X];
    for (int j = 0; j < n; j++) {
        const uint8_t *row = ref_entry(s, first + j, a->ratio, a->page_tokens, a->page_offset,
                                       job->row_bytes);
        float *key = scratch + j * a->dim;
        keys[j] = key;
        if (a->format == KV_EXACT)
            memcpy(key, row, (size_t)a->dim * sizeof(float));
        else
            job->ctx->leaf->fp4_decode(row, row + a->dim / 2, a->dim, key);
        score[j] = 0;
    }
    for (int32_t h = 0; h < a->heads; h += DOTS_X) {
        int n_h = a->heads - h < DOTS_X ? a->heads - h : DOTS_X;
        float y[DOTS_X][DOTS_W];
        for (int k = 0; k < n_h; k++)
            heads[k] = q + (h + k) * a->dim;
        job->ctx->leaf->dots(keys, n, heads, n_h, a->dim, y);
        for (int k = 0; k < n_h; k++)
            job->ctx->leaf->relu_add(y[k], a->w[i * a->heads + h + k] * a->weight_scale, n, score);
    }
}

static void score_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct select_job *job = arg;
    float *scratch = cpu_worker(job->ctx, worker).free;
    for (int64_t at = first; at < last; at++) {
        int64_t i = at / job->pieces, e = at % job->pieces * SCORE_ENTRIES;
        int64_t visible = visible_of(job->a, job->row0 + i);
        if (visible <= job->a->top_k)
            continue;
        int64_t end = visible - e < SCORE_ENTRIES ? visible : e + SCORE_ENTRIES;
        for (; e < end; e += DOTS_W) {
            int n = end - e < DOTS_W ? (int)(end - e) : DOTS_W;
            score_entries(job, job->row0 + i, e, n, scratch, job->ctx->score + i * job->stride + e);
        }
    }
}

/* The k-th largest (from 0) of v[n], which is reordered: quickselect with the middle as pivot. */
static float kth_largest(float *v, int64_t n, int64_t k)
{
    int64_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float pivot = v[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (v[i] > pivot)
                i++;
            while (v[j] < pivot)
                j--;
            if (i <= j) {
                float t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            break;
    }
    return v[k];
}

/* scratch: [visible] */
static void take_best(const struct select_job *job, int64_t i, float *scratch)
{
    const struct index_select_args *a = job->a;
    const float *score = job->ctx->score + (i - job->row0) * job->stride;
    int64_t visible = visible_of(a, i);
    int32_t *sel = a->sel + i * a->top_k, n = 0, ties = a->top_k;
    if (visible <= a->top_k) {
        for (int32_t e = 0; e < visible; e++)
            sel[e] = e;
        a->count[i] = (int32_t)visible;
        return;
    }
    memcpy(scratch, score, (size_t)visible * sizeof(float));
    float least = kth_largest(scratch, visible, a->top_k - 1);
    for (int64_t e = 0; e < visible; e++)
        ties -= score[e] > least;
    for (int64_t e = 0; e < visible && n < a->top_k; e++)
        if (score[e] > least || (score[e] == least && ties-- > 0))
            sel[n++] = (int32_t)e;
    a->count[i] = n;
}

static void select_rows(void *arg, int64_t first, int64_t last, int worker)
{
    const struct select_job *job = arg;
    for (int64_t i = first; i < last; i++)
        take_best(job, job->row0 + i, cpu_worker(job->ctx, worker).free);
}

void cpu_index_select(void *ctx, const struct index_select_args *a)
{
    struct select_job job = {.ctx = ctx, .a = a,
                             .row_bytes = kv_index_row_bytes(a->format, a->dim)};
    job.stride = (a->rows->pos_max + 1) / a->ratio;
    int64_t rows = a->rows->n;
    if (job.stride > 0) {
        SLUICE_ASSERT(job.stride <= job.ctx->score_room);
        rows = job.ctx->score_room / job.stride;
    }
    job.pieces = (job.stride + SCORE_ENTRIES - 1) / SCORE_ENTRIES;
    for (job.row0 = 0; job.row0 < a->rows->n; job.row0 += rows) {
        int64_t n = a->rows->n - job.row0 < rows ? a->rows->n - job.row0 : rows;
        if (job.stride > a->top_k)
            cpu_parallel(ctx, n * job.pieces, 1, score_items, &job);
        cpu_parallel(ctx, n, 1, select_rows, &job);
    }
}
