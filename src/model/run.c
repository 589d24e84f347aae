/* model/run.c - a run's memory, and the bookkeeping around a step: batch checks, row table,
 * results. The maths starts in forward.c. */
#include "model/run.h"

#include "base/check.h"

/* --- arena --- */

/* First pass with base NULL measures, second pass hands out addresses; both walk the same code, so
 * that they cannot disagree. */
struct carve {
    DEV uint8_t *base;
    size_t used, peak;
};

static DEV void *carve(struct carve *c, int64_t count, size_t size)
{
    SLUICE_ASSERT(count >= 0);
    DEV void *at = c->base ? c->base + c->used : NULL;
    c->used += ((size_t)count * size + 63) & ~(size_t)63;
    if (c->used > c->peak)
        c->peak = c->used;
    return count ? at : NULL;
}

static DEV float *carve_floats(struct carve *c, int64_t count)
{
    return carve(c, count, sizeof(float));
}

static bool has_ratio(const struct model_run *r, int32_t ratio)
{
    for (int l = r->c.lo; l < r->c.hi; l++)
        if (r->s.ratio[l] == ratio)
            return true;
    return false;
}

static void carve_call(struct model_run *r, struct carve *c)
{
    const struct shape *s = &r->s;
    int64_t n = r->c.max_rows, streams = s->n_stream;
    r->row_dev = carve(c, (int64_t)r->row_bytes, 1);
    r->freq_plain = carve_floats(c, s->rot_dim / 2);
    r->freq_compressed = carve_floats(c, s->rot_dim / 2);
    r->rope_plain = carve_floats(c, r->n_rope_plain ? n * s->rot_dim : 0);
    r->rope_compressed = carve_floats(c, r->n_rope_compressed ? n * s->rot_dim : 0);
    r->x = carve_floats(c, n * streams * s->dim);
    r->mix = carve_floats(c, n * (streams + streams * streams));
    r->y = carve_floats(c, n * s->dim);
    r->f = carve_floats(c, n * s->dim);
}

static void carve_attention(struct model_run *r, struct carve *c)
{
    const struct shape *s = &r->s;
    int64_t n = r->c.max_rows;
    int64_t n4 = has_ratio(r, 4) ? n : 0;
    int64_t width = n4 ? 2 * s->head_dim : has_ratio(r, 128) ? s->head_dim : 0;
    r->qr = carve_floats(c, n * s->q_rank);
    r->q = carve_floats(c, n * s->n_head * s->head_dim);
    r->kv = carve_floats(c, n * s->head_dim);
    r->kv_rows = carve(c, n, r->c.layout->main_row_bytes);
    r->o = carve_floats(c, n * s->n_head * s->head_dim);
    r->low = carve_floats(c, n * s->n_group * s->o_rank);
    r->u = carve_floats(c, n * width);
    r->z = carve_floats(c, n * width);
    r->index_u = carve_floats(c, n4 * 2 * s->index_dim);
    r->index_z = carve_floats(c, n4 * 2 * s->index_dim);
    r->index_q = carve_floats(c, n4 * s->n_index_head * s->index_dim);
    r->index_w = carve_floats(c, n4 * s->n_index_head);
    r->sel = carve(c, n4 * s->index_top_k, sizeof(int32_t));
    r->sel_count = carve(c, n4, sizeof(int32_t));
}

static void carve_ffn(struct model_run *r, struct carve *c)
{
    int64_t n = r->c.max_rows;
    r->router_logits = carve_floats(c, n * r->s.n_expert);
    r->ids = carve(c, n * r->s.n_used, sizeof(int32_t));
    r->id_weights = carve_floats(c, n * r->s.n_used);
    r->slots = carve(c, r->s.n_expert, sizeof(struct expert_slot));
}

static void carve_draft(struct model_run *r, struct carve *c)
{
    int64_t n = r->c.max_rows, d = r->s.dim;
    r->draft_e = carve_floats(c, n * d);
    r->draft_a = carve_floats(c, n * d);
    r->draft_h = carve_floats(c, n * r->s.n_stream * d);
    r->draft_b = carve_floats(c, n * r->s.n_stream * d);
}

static void carve_head(struct model_run *r, struct carve *c)
{
    int64_t n = r->c.hi == r->s.n_layer ? r->c.max_logits : 0;
    r->head_y = carve_floats(c, n * r->s.dim);
    r->logits = carve_floats(c, n * r->s.n_vocab);
}

static void carve_all(struct model_run *r, bool mtp, struct carve *c)
{
    carve_call(r, c);
    size_t overlay = c->used;
    carve_attention(r, c);
    c->used = overlay;
    carve_ffn(r, c);
    c->used = overlay;
    if (mtp)
        carve_draft(r, c);
    c->used = overlay;
    carve_head(r, c);
}

/* --- life --- */

static void layout_rows(struct model_run *r)
{
    size_t n = (size_t)r->c.max_rows;
    r->row_spans = n * sizeof(int64_t);
    r->row_token = r->row_spans + (size_t)r->c.max_spans * sizeof(struct span);
    r->row_span_of = r->row_token + n * sizeof(int32_t);
    r->row_logit = r->row_span_of + n * sizeof(int32_t);
    r->row_bytes = r->row_logit + (size_t)r->c.max_logits * sizeof(int32_t);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static enum sluice_status plan_ops(const struct model_run *r, struct sluice_error *err)
{
    const struct shape *s = &r->s;
    int64_t heads = s->n_head * s->head_dim, low = s->n_group * s->o_rank;
    int64_t in = larger(larger(s->dim, s->q_rank), larger(larger(low, s->inner), heads));
    int64_t out = larger(larger(in, s->n_vocab), larger(s->n_expert, 2 * s->head_dim));
    struct ops_limits limits = {
        .max_rows = (int32_t)larger(r->c.max_rows, r->c.max_logits),
        .max_in = in,
        .max_out = larger(out, s->n_index_head * s->index_dim),
        .dim = s->dim, .inner = s->inner,
        .n_expert = s->n_expert, .n_used = s->n_used,
        .heads = s->n_head, .streams = s->n_stream, .head_dim = s->head_dim,
        .groups = s->n_group,
        .index_heads = s->n_index_head, .top_k = s->index_top_k, .index_dim = s->index_dim,
        .max_positions = r->c.max_positions, .window = s->window,
    };
    return r->c.ops->plan(r->c.ops->ctx, &limits, err);
}

static enum sluice_status alloc_run(struct model_run *r, bool mtp, struct sluice_error *err)
{
    struct ops *ops = r->c.ops;
    layout_rows(r);
    struct carve measure = {0};
    carve_all(r, mtp, &measure);
    DEV void *at;
    TRY(ops->alloc(ops->ctx, measure.peak, &at, err));
    r->arena = at;
    struct carve place = {.base = r->arena};
    carve_all(r, mtp, &place);
    SLUICE_ASSERT(place.peak == measure.peak);

    r->row_host = calloc(1, r->row_bytes);
    r->ids_host = calloc((size_t)r->c.max_rows * (size_t)r->s.n_used, sizeof(int32_t));
    r->slots_host = calloc((size_t)r->s.n_expert, sizeof(*r->slots_host));
    FAIL_IF(!r->row_host || !r->ids_host || !r->slots_host, err, SLUICE_ERR_NOMEM,
            "out of memory for a run of %d rows", r->c.max_rows);
    return SLUICE_OK;
}

static enum sluice_status upload_freqs(struct model_run *r, struct sluice_error *err)
{
    struct ops *ops = r->c.ops;
    size_t bytes = (size_t)r->s.rot_dim / 2 * sizeof(float);
    float *freq = malloc(bytes);
    FAIL_IF(!freq, err, SLUICE_ERR_NOMEM, "out of memory for rope frequencies");
    if (r->n_rope_plain) {
        shape_rope_freqs(&r->s, /*compressed=*/false, freq);
        ops->upload(ops->ctx, r->freq_plain, freq, bytes);
    }
    if (r->n_rope_compressed) {
        shape_rope_freqs(&r->s, /*compressed=*/true, freq);
        ops->upload(ops->ctx, r->freq_compressed, freq, bytes);
    }
    free(freq);
    return SLUICE_OK;
}

static enum sluice_status check_config(const struct model_run_config *c, struct sluice_error *err)
{
    FAIL_IF(c->lo < c->weights->lo || c->hi > c->weights->hi || c->lo >= c->hi, err,
            SLUICE_ERR_ARG, "run of layers [%d, %d): expected a range of the bound [%d, %d)",
            c->lo, c->hi, c->weights->lo, c->weights->hi);
    FAIL_IF(c->layout->n_layer != c->hi - c->lo, err, SLUICE_ERR_ARG,
            "KV layout: expected %d layers, found %d", c->hi - c->lo, c->layout->n_layer);
    FAIL_IF(c->max_rows < 1 || c->max_spans < 1 || c->max_logits < 0 || c->max_positions < 1, err,
            SLUICE_ERR_ARG, "run: expected rows, spans and positions, found %d, %d and %lld",
            c->max_rows, c->max_spans, (long long)c->max_positions);
    return SLUICE_OK;
}

static void set_config(struct model_run *r, const struct model_run_config *config)
{
    r->c = *config;
    r->s = *config->shape;
    for (int l = r->c.lo; l < r->c.hi; l++) {
        r->n_rope_plain += r->s.ratio[l] == 0;
        r->n_rope_compressed += r->s.ratio[l] != 0;
    }
}

size_t model_run_bytes(const struct model_run_config *config)
{
    struct model_run r = {0};
    struct carve measure = {0};
    set_config(&r, config);
    layout_rows(&r);
    carve_all(&r, /*mtp=*/false, &measure);
    return measure.peak + r.row_bytes;
}

enum sluice_status run_new(const struct model_run_config *config, bool mtp, struct model_run **out,
                           struct sluice_error *err)
{
    *out = NULL;
    TRY(check_config(config, err));
    struct model_run *r = calloc(1, sizeof(*r));
    FAIL_IF(!r, err, SLUICE_ERR_NOMEM, "out of memory for a run");
    enum sluice_status st;
    set_config(r, config);
    TRY_OUT(plan_ops(r, err));
    TRY_OUT(alloc_run(r, mtp, err));
    TRY_OUT(upload_freqs(r, err));
    *out = r;
    r = NULL;
out:
    model_run_free(r);
    return st;
}

enum sluice_status model_run_new(const struct model_run_config *config, struct model_run **out,
                                 struct sluice_error *err)
{
    return run_new(config, /*mtp=*/false, out, err);
}

void model_run_free(struct model_run *r)
{
    if (!r)
        return;
    r->c.ops->free(r->c.ops->ctx, r->arena);
    free(r->row_host);
    free(r->ids_host);
    free(r->slots_host);
    free(r);
}

/* --- begin --- */

static enum sluice_status check_spans(const struct model_run *r, const struct batch *b,
                                      struct sluice_error *err)
{
    int64_t total = 0;
    for (int32_t i = 0; i < b->n_spans; i++) {
        const struct batch_span *span = &b->span[i];
        FAIL_IF(span->n < 1, err, SLUICE_ERR_ARG, "batch span %d: expected rows, found %d", i,
                span->n);
        FAIL_IF(span->kv->layout != r->c.layout, err, SLUICE_ERR_ARG,
                "batch span %d: its KV state has another layout", i);
        FAIL_IF(span->n > r->c.max_positions - span->kv->n_tokens, err, SLUICE_ERR_LIMIT,
                "batch span %d: expected positions below %lld, found %lld", i,
                (long long)r->c.max_positions, (long long)(span->kv->n_tokens + span->n));
        for (int32_t j = 0; j < i; j++)
            FAIL_IF(b->span[j].kv == span->kv, err, SLUICE_ERR_ARG,
                    "batch spans %d and %d are the same sequence", j, i);
        total += span->n;
    }
    FAIL_IF(total != b->n, err, SLUICE_ERR_ARG, "batch: expected spans of %d rows, found %lld",
            b->n, (long long)total);
    return SLUICE_OK;
}

static enum sluice_status check_batch(const struct model_run *r, const struct batch *b,
                                      struct sluice_error *err)
{
    FAIL_IF(b->n < 1 || b->n > r->c.max_rows, err, SLUICE_ERR_ARG,
            "batch: expected 1 to %d rows, found %d", r->c.max_rows, b->n);
    FAIL_IF(b->n_spans < 1 || b->n_spans > r->c.max_spans, err, SLUICE_ERR_ARG,
            "batch: expected 1 to %d spans, found %d", r->c.max_spans, b->n_spans);
    int32_t max_logits = r->c.hi == r->s.n_layer ? r->c.max_logits : 0;
    FAIL_IF(b->n_logits < 0 || b->n_logits > max_logits, err, SLUICE_ERR_ARG,
            "batch: expected 0 to %d rows with logits, found %d", max_logits, b->n_logits);
    for (int32_t i = 0; i < b->n; i++)
        FAIL_IF(b->token[i] < 0 || b->token[i] >= r->s.n_vocab, err, SLUICE_ERR_ARG,
                "batch row %d: expected a token of 0 to %d, found %d", i, r->s.n_vocab - 1,
                b->token[i]);
    for (int32_t i = 0; i < b->n_logits; i++)
        FAIL_IF(b->logit_row[i] <= (i ? b->logit_row[i - 1] : -1) || b->logit_row[i] >= b->n, err,
                SLUICE_ERR_ARG, "batch: expected ascending rows with logits below %d, found %d",
                b->n, b->logit_row[i]);
    return check_spans(r, b, err);
}

/* Fills and uploads the row table. */
static void upload_rows(struct model_run *r, const struct batch *b)
{
    int64_t *pos = (int64_t *)r->row_host;
    struct span *spans = (struct span *)(r->row_host + r->row_spans);
    int32_t *span_of = (int32_t *)(r->row_host + r->row_span_of);
    int64_t pos_max = 0;
    int32_t row = 0;
    for (int32_t i = 0; i < b->n_spans; i++) {
        const struct kv_state *kv = b->span[i].kv;
        spans[i] = (struct span){
            .row0 = row, .n_rows = b->span[i].n, .pos0 = kv->n_tokens,
            .fixed = kv->fixed, .pages = kv->page_table,
        };
        for (int32_t k = 0; k < b->span[i].n; k++, row++) {
            pos[row] = kv->n_tokens + k;
            span_of[row] = i;
        }
        pos_max = larger(pos_max, kv->n_tokens + b->span[i].n - 1);
    }
    memcpy(r->row_host + r->row_token, b->token, (size_t)b->n * sizeof(int32_t));
    if (b->n_logits)
        memcpy(r->row_host + r->row_logit, b->logit_row, (size_t)b->n_logits * sizeof(int32_t));
    r->c.ops->upload(r->c.ops->ctx, r->row_dev, r->row_host, r->row_bytes);
    r->rows = (struct row_table){
        .n = b->n, .n_spans = b->n_spans,
        .token = (DEV const int32_t *)(r->row_dev + r->row_token),
        .span_of = (DEV const int32_t *)(r->row_dev + r->row_span_of),
        .pos = (DEV const int64_t *)r->row_dev,
        .spans = (DEV const struct span *)(r->row_dev + r->row_spans),
        .pos_max = pos_max,
    };
    r->logit_row = (DEV const int32_t *)(r->row_dev + r->row_logit);
    r->n_logits = b->n_logits;
}

static void fill_rope(struct model_run *r, DEV const float *freq, DEV float *table)
{
    struct rope_table_args a = {
        .rows = &r->rows, .half = (int32_t)(r->s.rot_dim / 2), .freq = freq, .table = table,
    };
    r->c.ops->rope_table(r->c.ops->ctx, &a);
}

enum sluice_status run_begin(struct model_run *r, const struct batch *b, struct sluice_error *err)
{
    r->n_logits = 0;
    TRY(check_batch(r, b, err));
    for (int32_t i = 0; i < b->n_spans; i++)
        TRY(kv_state_reserve(b->span[i].kv, b->span[i].n, err));
    upload_rows(r, b);
    /* From here rings are overwritten: should the call fail, high tells how far. */
    for (int32_t i = 0; i < b->n_spans; i++) {
        struct kv_state *kv = b->span[i].kv;
        kv->high = larger(kv->high, kv->n_tokens + b->span[i].n);
    }
    if (r->n_rope_plain)
        fill_rope(r, r->freq_plain, r->rope_plain);
    if (r->n_rope_compressed)
        fill_rope(r, r->freq_compressed, r->rope_compressed);
    return SLUICE_OK;
}

void run_end(struct model_run *r, const struct batch *b)
{
    for (int32_t i = 0; i < b->n_spans; i++) {
        struct kv_state *kv = b->span[i].kv;
        kv->n_tokens += b->span[i].n;
        SLUICE_ASSERT(kv->n_tokens <= kv->high && kv->n_tokens <= kv->max_tokens);
    }
    SLUICE_ASSERT(r->n_logits == b->n_logits);
}

/* --- results --- */

void model_run_logits(struct model_run *r, int32_t first, int32_t n, float *out)
{
    SLUICE_ASSERT(first >= 0 && n >= 0 && first + n <= r->n_logits);
    size_t row = (size_t)r->s.n_vocab;
    r->c.ops->download(r->c.ops->ctx, out, r->logits + (size_t)first * row,
                       (size_t)n * row * sizeof(float));
}

DEV const float *model_run_streams(const struct model_run *r)
{
    return r->x;
}

static size_t stream_bytes(const struct model_run *r, int32_t n)
{
    SLUICE_ASSERT(n >= 0 && n <= r->c.max_rows);
    return (size_t)n * (size_t)r->s.n_stream * (size_t)r->s.dim * sizeof(float);
}

void model_run_streams_write(struct model_run *r, const float *streams, int32_t n)
{
    SLUICE_ASSERT(r->c.lo > 0);
    r->c.ops->upload(r->c.ops->ctx, r->x, streams, stream_bytes(r, n));
}

void model_run_streams_read(struct model_run *r, float *streams, int32_t n)
{
    r->c.ops->download(r->c.ops->ctx, streams, r->x, stream_bytes(r, n));
}
