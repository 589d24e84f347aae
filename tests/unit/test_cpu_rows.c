/* Every op of the cpu backend against the reference at the numbers of rows where kernels change
 * their ways: 1, just below, at and above 32, 64, 128. Outputs begin as NaN. The reference computes
 * each case once; every instruction set of this machine is compared with it. */
#include "support/cpu_case.h"

static const int row_counts[] = {1, 31, 32, 33, 64, 128, 129};
#define ROW_COUNTS (int)(sizeof(row_counts) / sizeof(row_counts[0]))
#define MOST_ROWS 129

static struct backend ref, cpu[8];
static const char *isa[8];
static int n_isa;

/* An op with its output of n floats: `run` calls it on a backend. */
struct trial {
    void (*run)(const struct ops *ops, const void *arg, float *out);
    const void *arg;
    int64_t n;
    const float *begin;            /* what out holds before the call; NULL: NaN */
    double limit;
};

static float *begin_of(const struct trial *t)
{
    float *out = case_poison(t->n);
    if (t->begin)
        memcpy(out, t->begin, (size_t)t->n * sizeof(float));
    return out;
}

/* amx_limit: the limit where the numerics are those of AMX. */
static void try_within(const struct trial *t, double amx_limit, const char *what, int rows)
{
    float *expected = begin_of(t);
    t->run(&ref.ops, t->arg, expected);
    for (int k = 0; k < n_isa; k++) {
        float *found = begin_of(t);
        t->run(&cpu[k].ops, t->arg, found);
        double limit = cpu[k].ops.numerics == NUMERICS_AMX ? amx_limit : t->limit;
        double d = case_distance(found, expected, t->n);
        case_check(d <= limit, "%s: %s of %d rows: distance %.3g, expected at most %.3g", isa[k],
                   what, rows, d, limit);
        free(found);
    }
    free(expected);
}

static void try_all(const struct trial *t, const char *what, int rows)
{
    try_within(t, t->limit, what, rows);
}

/* ---- products ---- */

static void run_matmul(const struct ops *ops, const void *arg, float *out)
{
    struct matmul_args a = *(const struct matmul_args *)arg;
    a.y[0] = out;
    ops->matmul(ops->ctx, &a);
}

static void run_grouped(const struct ops *ops, const void *arg, float *out)
{
    struct grouped_matmul_args a = *(const struct grouped_matmul_args *)arg;
    a.y = out;
    ops->grouped_matmul(ops->ctx, &a);
}

static void products(void)
{
    enum { OUT = 19, GROUPS = 2 };
    for (int t = 0; t < CASE_TYPES; t++) {
        enum quant_type type = case_types[t];
        int64_t n_in = act_block(type) == 0 ? 77 : 256;
        double limit = case_error(type, NUMERICS_CPU), amx = case_error(type, NUMERICS_AMX);
        struct weight w = case_weight(type, n_in, OUT, 1), g = case_weight(type, n_in, OUT, GROUPS);
        float *x = case_floats(MOST_ROWS * GROUPS * n_in, 1);
        for (int k = 0; k < ROW_COUNTS; k++) {
            int n = row_counts[k];
            struct matmul_args a = {.n = n, .n_w = 1, .x = x, .x_stride = n_in, .w = {w}};
            struct grouped_matmul_args b = {.n = n, .w = g, .x = x};
            struct trial one = {run_matmul, &a, n * OUT, NULL, limit};
            struct trial grouped = {run_grouped, &b, n * OUT * GROUPS, NULL, limit};
            try_within(&one, amx, quant_info(type)->name, n);
            try_within(&grouped, amx, quant_info(type)->name, n);
            a.f32_activations = true;
            one.limit = FLOAT_ERROR;
            try_all(&one, quant_info(type)->name, n);
        }
        free(x);
        case_free(&w);
        case_free(&g);
    }
}

/* ---- experts: 8 of them, which meet 129, 1, 0, 64, 31, 128, 32 and 33 rows ---- */

enum { E = 8, K = 2, PICKS = 418, ROWS = PICKS / K, DIM = 256, INNER = 256 };

static void run_experts(const struct ops *ops, const void *arg, float *out)
{
    struct experts_args a = *(const struct experts_args *)arg;
    a.y = out;
    ops->experts(ops->ctx, &a);
}

/* The picks in order of experts, cut in two: nobody meets more than half of the rows, so that the
 * two picks of a row differ. Then rows are shuffled. */
static void uneven_picks(int32_t *ids)
{
    static const int met[E] = {129, 1, 0, 64, 31, 128, 32, 33};
    int at = 0;
    for (int32_t e = 0; e < E; e++)
        for (int i = 0; i < met[e]; i++, at++)
            ids[at % ROWS * K + at / ROWS] = e;
    case_check(at == PICKS, "%d picks, expected %d", at, PICKS);
    for (int i = ROWS - 1; i > 0; i--) {
        int j = (int)(case_random() % (uint64_t)(i + 1));
        for (int k = 0; k < K; k++) {
            int32_t swap = ids[i * K + k];
            ids[i * K + k] = ids[j * K + k];
            ids[j * K + k] = swap;
        }
    }
}

static void experts_of(enum quant_type up, enum quant_type down)
{
    struct weight w[6] = {
        case_weight(up, DIM, INNER, E),   case_weight(up, DIM, INNER, E),
        case_weight(down, INNER, DIM, E), case_weight(up, DIM, INNER, 1),
        case_weight(up, DIM, INNER, 1),   case_weight(down, INNER, DIM, 1),
    };
    int32_t ids[PICKS];
    uneven_picks(ids);
    float *x = case_floats(ROWS * DIM, 0.5f), *weights = case_floats(PICKS, 1);
    size_t stride = quant_row_bytes(up, DIM) * INNER;
    struct experts_args a = {
        .n = ROWS, .n_expert = E, .n_used = K,
        .table = {.gate_type = up, .up_type = up, .down_type = down, .n_in = DIM, .n_inner = INNER,
                  .gate = w[0].data, .up = w[1].data, .down = w[2].data, .gate_stride = stride,
                  .up_stride = stride, .down_stride = quant_row_bytes(down, INNER) * DIM},
        .limit = 3, .shared_limit = 2, .shared_gate = w[3], .shared_up = w[4], .shared_down = w[5],
        .ids = ids, .weights = weights, .x = x,
    };
    char what[64];
    snprintf(what, sizeof(what), "experts %s, %s", quant_info(up)->name, quant_info(down)->name);
    bool bytes = act_kind(up) == ACT_256_BYTE;
    struct trial t = {run_experts, &a, ROWS * DIM, NULL,
                      bytes ? BYTE_EXPERTS_ERROR : EXPERTS_ERROR};
    try_all(&t, what, ROWS);
    free(x);
    free(weights);
    for (int k = 0; k < 6; k++)
        case_free(&w[k]);
}

static void experts(void)
{
    for (int t = 0; t < CASE_TYPES; t++)
        experts_of(case_types[t], case_types[t]);
    experts_of(QUANT_IQ2_XXS, QUANT_Q2_K);
    experts_of(QUANT_Q4_K, QUANT_Q8_0);
}

/* ---- the rest, float32 throughout ---- */

static void run_norm(const struct ops *ops, const void *arg, float *out)
{
    struct rms_norm_args a = *(const struct rms_norm_args *)arg;
    a.y = out;
    ops->rms_norm(ops->ctx, &a);
}

static void run_query(const struct ops *ops, const void *arg, float *out)
{
    struct query_args a = *(const struct query_args *)arg;
    a.q = out;
    ops->query(ops->ctx, &a);
}

static void run_index_query(const struct ops *ops, const void *arg, float *out)
{
    struct index_query_args a = *(const struct index_query_args *)arg;
    a.q = out;
    ops->index_query(ops->ctx, &a);
}

/* y, then mix */
static void run_gather(const struct ops *ops, const void *arg, float *out)
{
    struct hyper_gather_args a = *(const struct hyper_gather_args *)arg;
    a.y = out;
    a.mix = out + a.n * a.dim;
    ops->hyper_gather(ops->ctx, &a);
}

static void run_spread(const struct ops *ops, const void *arg, float *out)
{
    struct hyper_spread_args a = *(const struct hyper_spread_args *)arg;
    a.x = out;
    ops->hyper_spread(ops->ctx, &a);
}

static void run_head(const struct ops *ops, const void *arg, float *out)
{
    struct hyper_head_args a = *(const struct hyper_head_args *)arg;
    a.y = out;
    ops->hyper_head(ops->ctx, &a);
}

static void run_streams(const struct ops *ops, const void *arg, float *out)
{
    struct add_streams_args a = *(const struct add_streams_args *)arg;
    a.x = out;
    ops->add_streams(ops->ctx, &a);
}

/* weights, then ids as they are in memory, which are the same or not */
static void run_route(const struct ops *ops, const void *arg, float *out)
{
    struct route_args a = *(const struct route_args *)arg;
    int32_t ids[MOST_ROWS * K];
    int64_t n = (int64_t)a.rows->n * a.n_used;
    a.ids = ids;
    a.weights = out;
    ops->route(ops->ctx, &a);
    for (int64_t i = 0; i < n; i++)
        out[n + i] = (float)ids[i];
}

static void norms(void)
{
    enum { D = 75, HEADS = 3, C = 48, R = 16 };
    float *x = case_floats(MOST_ROWS * HEADS * C, 2), *w = case_floats(D, 1);
    float *rope = case_floats(MOST_ROWS * R, 1);
    for (int k = 0; k < ROW_COUNTS; k++) {
        int n = row_counts[k];
        struct rms_norm_args norm = {n, D, 1e-6f, w, x, NULL};
        struct query_args query = {n, HEADS, C, R, 1e-6f, rope, NULL};
        struct trial t[] = {{run_norm, &norm, n * D, NULL, FLOAT_ERROR},
                            {run_query, &query, n * HEADS * C, x, FLOAT_ERROR}};
        try_all(&t[0], "norm", n);
        try_all(&t[1], "query", n);
    }
    free(x);
    free(w);
    free(rope);
}

static void index_queries(void)
{
    enum { HEADS = 3, J = 32, R = 16 };
    float *x = case_floats(MOST_ROWS * HEADS * J, 2), *rope = case_floats(MOST_ROWS * R, 1);
    for (int k = 0; k < ROW_COUNTS; k++) {
        for (int format = KV_EXACT; format <= KV_FP8; format++) {
            struct index_query_args a = {row_counts[k], HEADS, J, R, (enum kv_format)format, rope,
                                         NULL};
            struct trial t = {run_index_query, &a, row_counts[k] * HEADS * J, x, FLOAT_ERROR};
            try_all(&t, "index query", row_counts[k]);
        }
    }
    free(x);
    free(rope);
}

static void hyper(void)
{
    enum { S = 4, D = 75, MIX = 2 * S + S * S };
    struct weight fn = case_weight(QUANT_F16, S * D, MIX, 1);
    struct weight head_fn = case_weight(QUANT_F16, S * D, S, 1);
    float *x = case_floats(MOST_ROWS * S * D, 1), *base = case_floats(MIX, 1);
    float *norm = case_floats(D, 1), scale[3] = {0.5f, 0.3f, 0.7f};
    int32_t rows[MOST_ROWS];
    for (int i = 0; i < MOST_ROWS; i++)
        rows[i] = (i * 5) % MOST_ROWS;
    for (int k = 0; k < ROW_COUNTS; k++) {
        int n = row_counts[k];
        struct hyper_gather_args gather = {n, S, 20, D, 1e-6f, 1e-6f, fn, base, scale, norm, x,
                                           NULL, NULL};
        struct hyper_spread_args spread = {n, S, D, x, x, NULL};
        struct hyper_head_args head = {n, S, D, 1e-6f, 1e-6f, head_fn, base, scale, norm, rows, x,
                                       NULL};
        struct add_streams_args add = {n, S, D, x, x, NULL};
        struct trial t[] = {{run_gather, &gather, n * (D + S + S * S), NULL, 1e-4},
                            {run_spread, &spread, n * S * D, x, FLOAT_ERROR},
                            {run_head, &head, n * D, NULL, 1e-4},
                            {run_streams, &add, n * S * D, NULL, 0}};
        try_all(&t[0], "hyper gather", n);
        try_all(&t[1], "hyper spread", n);
        try_all(&t[2], "hyper head", n);
        try_all(&t[3], "add streams", n);
    }
    free(x);
    free(base);
    free(norm);
    case_free(&fn);
    case_free(&head_fn);
}

static void route(void)
{
    float *logits = case_floats(MOST_ROWS * E, 3), bias[E] = {0.1f, 0, -0.3f, 0.2f, 0, 0, 0.4f, 0};
    for (int k = 0; k < ROW_COUNTS; k++) {
        struct row_table rows = {.n = row_counts[k]};
        struct route_args a = {.rows = &rows, .n_expert = E, .n_used = K, .scale = 1.5f,
                               .logits = logits, .bias = bias};
        struct trial t = {run_route, &a, 2 * row_counts[k] * K, NULL, 0};
        try_all(&t, "route", row_counts[k]);
    }
    free(logits);
}

/* ---- rows over a past ---- */

enum { PAGE = 256, PAGES = 3, RING = 40, WINDOW = 32 };
/* More heads than any item of attention takes. */
enum { HEADS = 67, C = 48, R = 16, J = 32, TOP = 24 };

struct past {
    enum kv_format format;
    int32_t ratio;
    size_t row_bytes, index_bytes;
    uint8_t *fixed, *pages[PAGES], *batch;
    struct span span;
    struct row_table rows;
    int32_t span_of[MOST_ROWS];
    int64_t pos[MOST_ROWS];
    float *q, *w, *rope;
};

static void encode_rows(const struct past *p, uint8_t *to, int n, bool index)
{
    for (int i = 0; i < n; i++) {
        float *x = case_floats(C, 1);
        if (index)
            ref_index_row_encode(p->format, x, J, to + (size_t)i * p->index_bytes);
        else
            ref_main_row_encode(p->format, x, C, R, to + (size_t)i * p->row_bytes);
        free(x);
    }
}

/* Rows that end at position 600, in a sequence of its own. */
static void past_make(struct past *p, enum kv_format format, int32_t ratio)
{
    *p = (struct past){.format = format, .ratio = ratio};
    p->row_bytes = kv_main_row_bytes(format, C, R);
    p->index_bytes = kv_index_row_bytes(format, J);
    p->fixed = calloc(RING, p->row_bytes);
    p->batch = calloc(MOST_ROWS, p->row_bytes);
    encode_rows(p, p->fixed, RING, false);
    encode_rows(p, p->batch, MOST_ROWS, false);
    for (int k = 0; ratio && k < PAGES; k++) {
        size_t n = (size_t)(PAGE / ratio);
        p->pages[k] = calloc(n, p->row_bytes + p->index_bytes);
        encode_rows(p, p->pages[k], (int)n, false);
        encode_rows(p, p->pages[k] + n * p->row_bytes, (int)n, true);
    }
    p->q = case_floats(MOST_ROWS * HEADS * C, 1);
    p->w = case_floats(MOST_ROWS * HEADS, 1);
    p->rope = case_floats(MOST_ROWS * R, 1);
}

static void past_rows(struct past *p, int n)
{
    p->span = (struct span){0, n, 600 - n, p->fixed, p->pages};
    p->rows = (struct row_table){.n = n, .n_spans = 1, .span_of = p->span_of, .pos = p->pos,
                                 .spans = &p->span, .pos_max = 599};
    for (int i = 0; i < n; i++)
        p->pos[i] = 600 - n + i;
}

static void past_free(struct past *p)
{
    free(p->fixed);
    free(p->batch);
    for (int k = 0; k < PAGES; k++)
        free(p->pages[k]);
    free(p->q);
    free(p->w);
    free(p->rope);
}

struct attend {
    const struct past *p;
    const int32_t *sel, *count;
};

static void run_attention(const struct ops *ops, const void *arg, float *out)
{
    const struct attend *at = arg;
    const struct past *p = at->p;
    static const float sinks[HEADS] = {0.1f, -0.4f, 0.3f, 0, 1};
    struct attention_args a = {
        .rows = &p->rows, .heads = HEADS, .window = WINDOW, .ratio = p->ratio, .head_dim = C,
        .rot_dim = R, .scale = 0.2f, .format = p->format, .q = p->q, .batch_rows = p->batch,
        .sinks = sinks, .rope = p->rope, .sel = at->sel, .sel_count = at->count,
        .sel_stride = at->sel ? TOP : 0, .ring_rows = RING, .page_tokens = PAGE, .o = out,
    };
    ops->attention(ops->ctx, &a);
}

/* What is selected, as numbers; -1 where nothing is. */
static void run_select(const struct ops *ops, const void *arg, float *out)
{
    const struct past *p = arg;
    int32_t sel[MOST_ROWS * TOP], count[MOST_ROWS];
    struct index_select_args a = {
        .rows = &p->rows, .heads = HEADS, .ratio = 4, .top_k = TOP, .dim = J, .weight_scale = 0.1f,
        .format = p->format, .q = p->q, .w = p->w, .page_offset = PAGE / 4 * p->row_bytes,
        .page_tokens = PAGE, .sel = sel, .count = count,
    };
    memset(sel, 0x7f, sizeof(sel));
    ops->index_select(ops->ctx, &a);
    for (int i = 0; i < p->rows.n; i++)
        for (int k = 0; k < TOP; k++)
            out[i * TOP + k] = k < count[i] ? (float)sel[i * TOP + k] : -1;
}

static void attention_over(enum kv_format format, int32_t ratio)
{
    struct past p;
    int32_t sel[MOST_ROWS * TOP], count[MOST_ROWS];
    past_make(&p, format, ratio);
    for (int i = 0; i < MOST_ROWS; i++) {
        count[i] = i % 7 ? TOP : i % TOP;
        for (int k = 0; k < TOP; k++)
            sel[i * TOP + k] = 4 * k + i % 4;
    }
    for (int k = 0; k < ROW_COUNTS; k++) {
        int n = row_counts[k];
        past_rows(&p, n);
        struct attend at = {&p, ratio == 4 ? sel : NULL, ratio == 4 ? count : NULL};
        struct trial t = {run_attention, &at, n * HEADS * C, NULL, FLOAT_ERROR};
        try_all(&t, "attention", n);
        /* a score that is rounded otherwise may swap the last place of a row */
        struct trial select = {run_select, &p, n * TOP, NULL, 0.02};
        if (ratio == 4)
            try_all(&select, "index select", n);
    }
    past_free(&p);
}

static void attention(void)
{
    for (int format = KV_EXACT; format <= KV_FP8; format++) {
        attention_over((enum kv_format)format, 0);
        attention_over((enum kv_format)format, 4);
        attention_over((enum kv_format)format, 128);
    }
}

int main(void)
{
    struct ops_limits limits = case_limits();
    struct sluice_error err;
    limits.max_rows = ROWS;
    limits.heads = limits.index_heads = HEADS;
    backend_open(&ref, "ref", NULL, 2);
    ref.ops.plan(ref.ops.ctx, &limits, &err);
    for (int k = 0; cpu_choices[k].leaf; k++) {
        if (!cpu_has(cpu_choices[k].isa))
            continue;
        isa[n_isa] = cpu_choices[k].leaf->name;
        backend_open(&cpu[n_isa], "cpu", isa[n_isa], 2);
        cpu[n_isa].ops.plan(cpu[n_isa].ops.ctx, &limits, &err);
        n_isa++;
    }
    CASE(products);
    CASE(experts);
    CASE(norms);
    CASE(index_queries);
    CASE(hyper);
    CASE(route);
    CASE(attention);
    for (int k = 0; k < n_isa; k++)
        backend_close(&cpu[k]);
    backend_close(&ref);
    return case_failures ? 1 : 0;
}
