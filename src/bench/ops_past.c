/* What a step does with the past of a sequence: attention, indexer, compressors, at growing
 * contexts over random rows. */
#include <math.h>

#include "base/check.h"
#include "base/status.h"
#include "bench/bench_internal.h"

static const int64_t contexts[] = {1024, 8192, 32768};
#define CONTEXTS (sizeof contexts / sizeof contexts[0])
/* Rows of a batch over a past; their scores and heads need room. */
#define PAST_ROWS 64

struct past {
    struct kv_layout layout;
    struct kv_state *kv;
    /* the rows at hand: the last n positions of the context */
    struct span span;
    struct row_table rows;
    int64_t pos[PAST_ROWS];
    int layer;
    /* from the ops' memory */
    uint8_t *batch_rows;           /* [PAST_ROWS] main rows */
    int32_t *sel, *count;          /* [PAST_ROWS][T], [PAST_ROWS] */
};

static int32_t ratio_of(const struct bench_run *r, const struct past *p)
{
    return r->s.ratio[p->layer];
}

static void set_rows(struct bench_run *r, struct past *p, int64_t context, int32_t n)
{
    p->span = (struct span){.n_rows = n, .pos0 = context - n, .fixed = p->kv->fixed,
                            .pages = (uint8_t *const *)p->kv->page_table};
    for (int32_t i = 0; i < n; i++)
        p->pos[i] = context - n + i;
    p->rows = r->rows;
    p->rows.n = n;
    p->rows.pos = p->pos;
    p->rows.spans = &p->span;
    p->rows.pos_max = context - 1;
}

static void run_rope(struct bench_run *r, const void *arg, int turn)
{
    const struct past *p = arg;
    struct rope_table_args a = {&p->rows, (int32_t)(r->s.rot_dim / 2), r->x, r->y};
    r->ops.rope_table(r->ops.ctx, &a);
}

static void run_kv_encode(struct bench_run *r, const void *arg, int turn)
{
    const struct past *p = arg;
    struct kv_encode_args a = {p->rows.n, r->s.head_dim, r->s.rot_dim, r->s.rms_eps,
                               p->layout.format, r->x, r->x, r->x, p->batch_rows};
    r->ops.kv_encode(r->ops.ctx, &a);
}

static void run_attention(struct bench_run *r, const void *arg, int turn)
{
    const struct past *p = arg;
    const struct kv_layer_layout *k = &p->layout.layer[p->layer];
    bool selected = p->layer == LAYER_4;
    struct attention_args a = {
        .rows = &p->rows, .heads = r->s.n_head, .window = r->s.window, .ratio = ratio_of(r, p),
        .head_dim = r->s.head_dim, .rot_dim = r->s.rot_dim,
        .scale = 1 / sqrtf((float)r->s.head_dim), .format = p->layout.format, .q = r->x,
        .batch_rows = p->batch_rows, .sinks = r->x, .rope = r->x,
        .sel = selected ? p->sel : NULL, .sel_count = selected ? p->count : NULL,
        .sel_stride = selected ? r->s.index_top_k : 0, .ring_offset = k->ring_offset,
        .ring_rows = k->ring_rows, .page_offset = k->page_offset, .page_tokens = KV_PAGE_TOKENS,
        .o = r->y};
    r->ops.attention(r->ops.ctx, &a);
}

static void run_index_query(struct bench_run *r, const void *arg, int turn)
{
    const struct past *p = arg;
    struct index_query_args a = {p->rows.n, r->s.n_index_head, r->s.index_dim, r->s.rot_dim,
                                 p->layout.format, r->x, r->y};
    r->ops.index_query(r->ops.ctx, &a);
}

static void run_index_select(struct bench_run *r, const void *arg, int turn)
{
    const struct past *p = arg;
    struct index_select_args a = {
        .rows = &p->rows, .heads = r->s.n_index_head, .ratio = 4, .top_k = r->s.index_top_k,
        .dim = r->s.index_dim,
        .weight_scale = 1 / sqrtf((float)(r->s.index_dim * r->s.n_index_head)),
        .format = p->layout.format, .q = r->x, .w = r->x,
        .page_offset = p->layout.layer[LAYER_4].index_page_offset, .page_tokens = KV_PAGE_TOKENS,
        .sel = p->sel, .count = p->count};
    r->ops.index_select(r->ops.ctx, &a);
}

static void run_compress(struct bench_run *r, const void *arg, int turn)
{
    const struct past *p = arg;
    const struct kv_layer_layout *k = &p->layout.layer[p->layer];
    int64_t width = (p->layer == LAYER_4 ? 2 : 1) * r->s.head_dim;
    struct compress_args a = {
        .rows = &p->rows, .ratio = ratio_of(r, p), .dim = r->s.head_dim, .rot_dim = r->s.rot_dim,
        .eps = r->s.rms_eps, .format = p->layout.format, .u = r->x, .z = r->y,
        .ape = {QUANT_F16, width, ratio_of(r, p), 1, r->weights}, .norm = r->x, .freq = r->x,
        .tail_offset = k->tail_offset, .tail_rows = k->tail_rows, .page_offset = k->page_offset,
        .page_tokens = KV_PAGE_TOKENS};
    memset(r->y, 0, (size_t)(p->rows.n * width) * sizeof(float));
    r->ops.compress(r->ops.ctx, &a);
}

/* keys: rows of row_bytes that each row of the batch meets, with macs multiply-adds each */
static void time_past(struct bench_run *r, struct past *p, const char *name, bench_fn *fn,
                      const double *keys_bytes_macs)
{
    double keys = keys_bytes_macs[0];
    struct bench_op op = {.rows = p->rows.n, .bytes = keys * keys_bytes_macs[1],
                          .macs = keys * keys_bytes_macs[2] * p->rows.n};
    snprintf(op.name, sizeof op.name, "%s", name);
    snprintf(op.what, sizeof op.what, "%lld tokens", (long long)p->rows.pos_max + 1);
    bench_time(r, &op, fn, p);
}

static double keys_of(const struct bench_run *r, const struct past *p)
{
    int64_t n = p->rows.pos_max + 1, window = n < r->s.window ? n : r->s.window;
    int64_t entries = ratio_of(r, p) ? n / ratio_of(r, p) : 0;
    if (p->layer == LAYER_4 && entries > r->s.index_top_k)
        entries = r->s.index_top_k;
    return (double)(window + entries);
}

static void time_context(struct bench_run *r, struct past *p)
{
    static const char *const names[] = {"attention /0", "attention /4", "attention /128"};
    int64_t visible = (p->rows.pos_max + 1) / 4;
    /* up to top_k entries are all taken, and nothing is scored */
    double entries = visible > r->s.index_top_k ? (double)visible : 0;
    double index[] = {entries, (double)p->layout.index_row_bytes,
                      (double)(r->s.n_index_head * r->s.index_dim)};
    p->layer = LAYER_4;
    time_past(r, p, "index select", run_index_select, index);
    for (p->layer = 0; p->layer < LAYER_KINDS; p->layer++) {
        double main[] = {keys_of(r, p), (double)p->layout.main_row_bytes,
                         2.0 * (double)(r->s.n_head * r->s.head_dim)};
        time_past(r, p, names[p->layer], run_attention, main);
    }
}

/* What does not grow with the context. The rows end where windows of both ratios close. */
static void time_fixed(struct bench_run *r, struct past *p)
{
    static const double none[3];
    time_past(r, p, "rope table", run_rope, none);
    time_past(r, p, "KV encode", run_kv_encode, none);
    time_past(r, p, "index query", run_index_query, none);
    p->layer = LAYER_4;
    time_past(r, p, "compress /4", run_compress, none);
    p->layer = LAYER_128;
    time_past(r, p, "compress /128", run_compress, none);
}

static enum sluice_status take_past(struct bench_run *r, struct past *p, struct sluice_error *err)
{
    DEV void *at;
    TRY(r->ops.alloc(r->ops.ctx, PAST_ROWS * p->layout.main_row_bytes, &at, err));
    p->batch_rows = at;
    TRY(r->ops.alloc(r->ops.ctx, PAST_ROWS * (size_t)r->s.index_top_k * sizeof *p->sel, &at, err));
    p->sel = at;
    TRY(r->ops.alloc(r->ops.ctx, PAST_ROWS * sizeof *p->count, &at, err));
    p->count = at;
    TRY(kv_state_new(&p->layout, &r->ops, contexts[CONTEXTS - 1], &p->kv, err));
    return kv_state_random(p->kv, &r->s, 0, contexts[CONTEXTS - 1], err);
}

enum sluice_status bench_past(struct bench_run *r, enum kv_format format, struct sluice_error *err)
{
    static const int32_t rows[] = {1, PAST_ROWS};
    struct past p = {0};
    kv_layout_make(&r->s, 0, LAYER_KINDS, format, &p.layout);
    enum sluice_status st = take_past(r, &p, err);
    for (size_t k = 0; st == SLUICE_OK && k < sizeof rows / sizeof rows[0]; k++) {
        set_rows(r, &p, contexts[0], rows[k]);
        time_fixed(r, &p);
        for (size_t c = 0; c < CONTEXTS; c++) {
            set_rows(r, &p, contexts[c], rows[k]);
            time_context(r, &p);
        }
    }
    kv_state_free(p.kv);
    r->ops.free(r->ops.ctx, p.batch_rows);
    r->ops.free(r->ops.ctx, p.sel);
    r->ops.free(r->ops.ctx, p.count);
    return st;
}
