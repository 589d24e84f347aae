/* Core attention (section 3.9). An item is a row and some of its heads, which share each decoded
 * key row: all of them where there are rows enough for every thread, else ATTEND_HEADS. Keys are
 * taken in blocks; scores of all keys first, then the softmax, then the weighted sum in key
 * order. */
#include "ops/cpu/cpu.h"

struct attention_job {
    const struct cpu_ctx *ctx;
    const struct attention_args *a;
    size_t row_bytes;
    int32_t groups, group_heads;   /* items of a row, and heads of an item */
};

/* The key rows of one query: raw positions first, then compressed entries. */
struct key_list {
    const struct span *span;
    int64_t first_pos, n_raw, n;
    const int32_t *sel;            /* NULL: entry j is j */
};

static struct key_list keys_of(const struct attention_args *a, int64_t i)
{
    int64_t pos = a->rows->pos[i];
    struct key_list k = {.span = &a->rows->spans[a->rows->span_of[i]]};
    k.first_pos = pos >= a->window ? pos - a->window + 1 : 0;
    k.n_raw = k.n = pos - k.first_pos + 1;
    if (a->ratio && a->sel) {
        k.sel = a->sel + i * a->sel_stride;
        k.n += a->sel_count[i];
    } else if (a->ratio) {
        k.n += (pos + 1) / a->ratio;
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

static void decode_key(const struct attention_job *job, const uint8_t *row, float *key)
{
    const struct attention_args *a = job->a;
    int64_t plain = a->head_dim - a->rot_dim;
    size_t rot_bytes = (size_t)a->rot_dim * sizeof(float);
    if (a->format == KV_EXACT) {
        memcpy(key, row, (size_t)a->head_dim * sizeof(float));
        return;
    }
    job->ctx->leaf->fp8_decode(row, row + plain, plain, key);
    memcpy(key + plain, row + job->row_bytes - rot_bytes, rot_bytes);
}

/* Scores of some heads: s[head][n]. */
struct score_rows {
    float *s;
    int64_t n;
};

/* Heads whose maxima and sums are taken side by side: the next term of a sum waits for the one
 * before it. */
#define SOFTMAX_HEADS 8

/* Softmax with the sinks in the denominators only. */
static inline __attribute__((always_inline)) void
softmax_heads(const struct leaves *leaf, const struct score_rows *to, int heads, const float *sinks)
{
    float max[SOFTMAX_HEADS], den[SOFTMAX_HEADS];
    memcpy(max, sinks, (size_t)heads * sizeof(float));
    memcpy(den, sinks, (size_t)heads * sizeof(float));
    for (int64_t j = 0; j < to->n; j++)
        for (int h = 0; h < heads; h++) {
            float s = to->s[h * to->n + j];
            max[h] = s > max[h] ? s : max[h];
        }
    for (int h = 0; h < heads; h++) {
        leaf->exp_minus(to->s + h * to->n, to->n, max[h]);
        leaf->exp_minus(&den[h], 1, max[h]);
    }
    for (int64_t j = 0; j < to->n; j++)
        for (int h = 0; h < heads; h++)
            den[h] += to->s[h * to->n + j];
    for (int h = 0; h < heads; h++)
        leaf->divide(to->s + h * to->n, den[h], to->n);
}

static void softmax(const struct leaves *leaf, struct score_rows to, int heads, const float *sinks)
{
    for (; heads >= SOFTMAX_HEADS; heads -= SOFTMAX_HEADS, sinks += SOFTMAX_HEADS) {
        softmax_heads(leaf, &to, SOFTMAX_HEADS, sinks);
        to.s += SOFTMAX_HEADS * to.n;
    }
    if (heads > 0)
        softmax_heads(leaf, &to, heads, sinks);
}

/* The n keys from j on. */
static void decode_keys(const struct attention_job *job, const struct key_list *k, int64_t j,
                        int n, float *key)
{
    for (int l = 0; l < n; l++)
        decode_key(job, key_row(job, k, j + l), key + l * job->a->head_dim);
}

/* A row's heads, their keys, and scratch. */
struct attend_item {
    struct key_list keys;
    int n_heads;
    const float *heads[ATTEND_MOST_HEADS];
    float *out[ATTEND_MOST_HEADS];
    float *key;                    /* [ATTEND_KEYS or ATTEND_BLOCK][C] */
    float *s;                      /* [n_heads][keys.n] scores, then what keys weigh */
    uint8_t *room;                 /* of tiles */
};

static int keys_from(const struct attend_item *t, int64_t j, int most)
{
    return t->keys.n - j < most ? (int)(t->keys.n - j) : most;
}

static void score_keys(const struct attention_job *job, const struct attend_item *t)
{
    const struct attention_args *a = job->a;
    const float *keys[ATTEND_KEYS];
    float y[DOTS_X][DOTS_W];
    for (int l = 0; l < ATTEND_KEYS; l++)
        keys[l] = t->key + l * a->head_dim;
    for (int64_t j = 0; j < t->keys.n; j += ATTEND_KEYS) {
        int n = keys_from(t, j, ATTEND_KEYS);
        decode_keys(job, &t->keys, j, n, t->key);
        for (int h = 0; h < t->n_heads; h += DOTS_X) {
            int n_x = t->n_heads - h < DOTS_X ? t->n_heads - h : DOTS_X;
            job->ctx->leaf->dots(keys, n, t->heads + h, n_x, a->head_dim, y);
            for (int i = 0; i < n_x; i++)
                for (int l = 0; l < n; l++)
                    t->s[(h + i) * t->keys.n + j + l] = y[i][l] * a->scale;
        }
    }
}

static void mix_keys(const struct attention_job *job, const struct attend_item *t)
{
    int64_t dim = job->a->head_dim;
    for (int h = 0; h < t->n_heads; h++)
        memset(t->out[h], 0, (size_t)dim * sizeof(float));
    for (int64_t j = 0; j < t->keys.n; j += ATTEND_KEYS) {
        int n = keys_from(t, j, ATTEND_KEYS);
        decode_keys(job, &t->keys, j, n, t->key);
        struct mix_keys keys = {t->s + j, t->keys.n, t->key, n, dim};
        job->ctx->leaf->mix(t->out, t->n_heads, &keys);
    }
}

/* The keys from j on for tiles. */
static struct attend_keys keys_for_tiles(const struct attention_job *job,
                                         const struct attend_item *t, int64_t j)
{
    const struct attention_args *a = job->a;
    struct attend_keys k = {.key = t->key, .n = keys_from(t, j, ATTEND_BLOCK),
                            .n_heads = t->n_heads, .dim = a->head_dim};
    k.plain = a->format == KV_EXACT ? 0 : a->head_dim - a->rot_dim;
    decode_keys(job, &t->keys, j, k.n, t->key);
    return k;
}

static void score_keys_tiles(const struct attention_job *job, const struct attend_item *t)
{
    const struct attend_tiles *tiles = job->ctx->leaf->attend;
    tiles->queries(t->heads, t->n_heads, job->a->head_dim, t->room);
    for (int64_t j = 0; j < t->keys.n; j += ATTEND_BLOCK) {
        struct attend_keys k = keys_for_tiles(job, t, j);
        struct attend_scores to = {t->s + j, t->keys.n, job->a->scale};
        tiles->score(&k, t->room, &to);
    }
}

static void mix_keys_tiles(const struct attention_job *job, const struct attend_item *t)
{
    const struct attend_tiles *tiles = job->ctx->leaf->attend;
    for (int64_t j = 0; j < t->keys.n; j += ATTEND_BLOCK) {
        struct attend_keys k = keys_for_tiles(job, t, j);
        struct attend_scores from = {.s = t->s + j, .stride = t->keys.n};
        tiles->mix(&k, &from, j == 0, t->room);
    }
    tiles->outputs(t->room, t->n_heads, job->a->head_dim, t->out);
}

/* scratch: room of tiles, keys, scores */
static void attend(const struct attention_job *job, int64_t i, int32_t head0, float *scratch)
{
    const struct attention_args *a = job->a;
    const struct attend_tiles *tiles = job->ctx->leaf->attend;
    struct attend_item t = {.keys = keys_of(a, i), .room = (uint8_t *)scratch};
    t.n_heads = a->heads - head0 < job->group_heads ? a->heads - head0 : job->group_heads;
    t.key = scratch + (tiles ? tiles->bytes(a->head_dim) / sizeof(float) : 0);
    t.s = t.key + (tiles ? ATTEND_BLOCK : ATTEND_KEYS) * a->head_dim;
    for (int h = 0; h < t.n_heads; h++) {
        t.heads[h] = a->q + (i * a->heads + head0 + h) * a->head_dim;
        t.out[h] = a->o + (i * a->heads + head0 + h) * a->head_dim;
    }
    (tiles ? score_keys_tiles : score_keys)(job, &t);
    softmax(job->ctx->leaf, (struct score_rows){t.s, t.keys.n}, t.n_heads, a->sinks + head0);
    (tiles ? mix_keys_tiles : mix_keys)(job, &t);
    for (int h = 0; h < t.n_heads; h++)
        ref_rope(t.out[h] + a->head_dim - a->rot_dim, a->rot_dim, a->rope + i * a->rot_dim,
                 /*inverse=*/true);
}

static void attend_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct attention_job *job = arg;
    float *scratch = cpu_worker(job->ctx, worker).free;
    for (int64_t at = first; at < last; at++)
        attend(job, at / job->groups, (int32_t)(at % job->groups) * job->group_heads, scratch);
}

/* Heads of an item of n rows: keys are decoded once for them, and a row is no smaller piece. */
static int32_t heads_together(const struct cpu_ctx *ctx, int32_t n)
{
    return n >= 4 * pool_threads(ctx->pool) ? ATTEND_MOST_HEADS : ATTEND_HEADS;
}

void cpu_attention(void *ctx, const struct attention_args *a)
{
    struct attention_job job = {
        .ctx = ctx, .a = a,
        .row_bytes = kv_main_row_bytes(a->format, a->head_dim, a->rot_dim),
        .group_heads = heads_together(ctx, a->rows->n),
    };
    job.groups = (a->heads + job.group_heads - 1) / job.group_heads;
    cpu_parallel(ctx, (int64_t)a->rows->n * job.groups, 1, attend_items, &job);
}
