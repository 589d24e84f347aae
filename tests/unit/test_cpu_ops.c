/* Every op of the cpu backend against the reference, at odd sizes, on every instruction set of this
 * machine. Outputs begin as NaN, so that an element that is not written shows. */
#include "support/cpu_case.h"


static struct backend ref, cpu;
static const char *isa;
static double worst[QUANT_TYPE_LIMIT];

static void close_to(const float *found, const float *expected, int64_t n, double limit,
                     const char *what)
{
    double d = case_distance(found, expected, n);
    case_check(d <= limit, "%s: %s: distance %.3g, expected at most %.3g", isa, what, d, limit);
}

/* Runs one op on both backends. */
#define BOTH(op, a_ref, a_cpu)                                                                     \
    do {                                                                                           \
        ref.ops.op(ref.ops.ctx, (a_ref));                                                          \
        cpu.ops.op(cpu.ops.ctx, (a_cpu));                                                          \
    } while (0)

static void matmul_case(enum quant_type type, int64_t n_in, int64_t n_out, int n, bool exact)
{
    struct weight w[2] = {case_weight(type, n_in, n_out, 1), case_weight(type, n_in, 3, 1)};
    float *x = case_floats(n * (n_in + 5), 1.0f);
    float *y[2][2] = {{case_poison(n * n_out), case_poison(n * 3)},
                      {case_poison(n * n_out), case_poison(n * 3)}};
    struct matmul_args a = {.n = n, .n_w = 2, .f32_activations = exact, .x = x,
                            .x_stride = n_in + 5, .w = {w[0], w[1]}};
    struct matmul_args r = a;
    for (int j = 0; j < 2; j++) {
        r.y[j] = y[0][j];
        a.y[j] = y[1][j];
    }
    BOTH(matmul, &r, &a);
    double limit = exact ? FLOAT_ERROR : case_error(type, cpu.ops.numerics);
    double d = case_distance(y[1][0], y[0][0], n * n_out);
    worst[type] = d > worst[type] && !exact ? d : worst[type];
    close_to(y[1][0], y[0][0], n * n_out, limit, quant_info(type)->name);
    close_to(y[1][1], y[0][1], n * 3, limit * 4, quant_info(type)->name);
    for (int j = 0; j < 2; j++) {
        free(y[0][j]);
        free(y[1][j]);
        case_free(&w[j]);
    }
    free(x);
}

static void matmul(void)
{
    static const int rows[] = {1, 2, 3, 9, 37};
    for (int t = 0; t < CASE_TYPES; t++) {
        int block = act_block(case_types[t]);
        for (int k = 0; k < 5; k++) {
            int64_t n_in = block == 256 ? 256 * (k + 1) : block == 32 ? 32 * (2 * k + 1) : 61 + k;
            matmul_case(case_types[t], n_in, 19 + 15 * k, rows[k], /*exact=*/false);
            matmul_case(case_types[t], n_in, 19 + 15 * k, rows[k], /*exact=*/true);
        }
    }
}

/* As many groups as the limits have, of one block. */
static void many_groups(void)
{
    int64_t groups = case_limits().groups, n = case_limits().max_rows;
    struct weight w = case_weight(QUANT_Q8_0, 32, 5, groups);
    float *x = case_floats(n * groups * 32, 1), *y[2];
    for (int k = 0; k < 2; k++)
        y[k] = case_poison(n * groups * 5);
    struct grouped_matmul_args r = {(int32_t)n, w, x, y[0]}, a = {(int32_t)n, w, x, y[1]};
    BOTH(grouped_matmul, &r, &a);
    close_to(y[1], y[0], n * groups * 5, case_error(w.type, cpu.ops.numerics), "many groups");
    free(x);
    free(y[0]);
    free(y[1]);
    case_free(&w);
}

static void grouped_matmul(void)
{
    many_groups();
    for (int t = 0; t < CASE_TYPES; t++) {
        int64_t n_in = act_block(case_types[t]) == 256 ? 512 : 96;
        struct weight w = case_weight(case_types[t], n_in, 21, 3);
        for (int n = 1; n <= 9; n += 4) {
            float *x = case_floats(n * 3 * n_in, 1), *y[2];
            for (int k = 0; k < 2; k++)
                y[k] = case_poison(n * 63);
            struct grouped_matmul_args r = {n, w, x, y[0]}, a = {n, w, x, y[1]};
            BOTH(grouped_matmul, &r, &a);
            close_to(y[1], y[0], n * 63, case_error(case_types[t], cpu.ops.numerics),
                     "grouped matmul");
            free(x);
            free(y[0]);
            free(y[1]);
        }
        case_free(&w);
    }
}

static void norms(void)
{
    static const int64_t dims[] = {1, 7, 16, 33, 512};
    for (int k = 0; k < 5; k++) {
        int64_t n = 5, dim = dims[k];
        float *x = case_floats(n * dim, 2), *w = case_floats(dim, 1);
        float *y[2] = {case_poison(n * dim), case_poison(n * dim)};
        struct rms_norm_args r = {n, dim, 1e-6f, k % 2 ? w : NULL, x, y[0]}, a = r;
        a.y = y[1];
        BOTH(rms_norm, &r, &a);
        close_to(y[1], y[0], n * dim, FLOAT_ERROR, "rms norm");
        free(x);
        free(w);
        free(y[0]);
        free(y[1]);
    }
    float *q[2] = {case_floats(3 * 5 * 48, 1), case_poison(3 * 5 * 48)}, *rope;
    rope = case_floats(3 * 8, 1);
    memcpy(q[1], q[0], 3 * 5 * 48 * sizeof(float));
    struct query_args r = {3, 5, 48, 8, 1e-6f, rope, q[0]}, a = {3, 5, 48, 8, 1e-6f, rope, q[1]};
    BOTH(query, &r, &a);
    close_to(q[1], q[0], 3 * 5 * 48, FLOAT_ERROR, "query");
    free(q[0]);
    free(q[1]);
    free(rope);
}

static void hyper_case(int32_t s, int64_t dim, int32_t n, enum quant_type type)
{
    struct weight fn = case_weight(type, s * dim, 2 * s + s * s, 1);
    struct weight head_fn = case_weight(type, s * dim, s, 1);
    float *x = case_floats(n * s * dim, 1), *base = case_floats(2 * s + s * s, 1);
    float *norm = case_floats(dim, 1), scale[3] = {0.5f, 0.3f, 0.7f}, *y[2], *mix[2], *xs[2];
    int32_t row[2] = {n - 1, 0};
    for (int k = 0; k < 2; k++) {
        y[k] = case_poison(n * dim);
        mix[k] = case_poison(n * (s + s * s));
        xs[k] = case_poison(n * s * dim);
        memcpy(xs[k], x, (size_t)(n * s * dim) * sizeof(float));
        struct ops *ops = k ? &cpu.ops : &ref.ops;
        struct hyper_gather_args g = {n, s, 20, dim, 1e-6f, 1e-6f, fn, base, scale, norm, x, y[k],
                                      mix[k]};
        ops->hyper_gather(ops->ctx, &g);
        struct hyper_spread_args sp = {n, s, dim, y[0], mix[0], xs[k]};
        ops->hyper_spread(ops->ctx, &sp);
    }
    close_to(y[1], y[0], n * dim, 1e-4, "hyper gather");
    close_to(mix[1], mix[0], n * (s + s * s), 1e-4, "hyper mix");
    close_to(xs[1], xs[0], n * s * dim, FLOAT_ERROR, "hyper spread");
    for (int k = 0; k < 2; k++) {
        struct ops *ops = k ? &cpu.ops : &ref.ops;
        int32_t n_out = n > 1 ? 2 : 1;
        memset(y[k], 0xff, (size_t)(n_out * dim) * sizeof(float));
        struct hyper_head_args h = {n_out, s, dim, 1e-6f, 1e-6f, head_fn, base, scale, norm, row,
                                    x, y[k]};
        ops->hyper_head(ops->ctx, &h);
    }
    close_to(y[1], y[0], (n > 1 ? 2 : 1) * dim, 1e-4, "hyper head");
    struct add_streams_args r = {n, s, dim, y[0], x, xs[0]}, a = {n, s, dim, y[0], x, xs[1]};
    BOTH(add_streams, &r, &a);
    case_check(n > 2 || !memcmp(xs[0], xs[1], (size_t)(n * s * dim) * sizeof(float)),
               "%s: add_streams", isa);
    for (int k = 0; k < 2; k++) {
        free(y[k]);
        free(mix[k]);
        free(xs[k]);
    }
    free(x);
    free(base);
    free(norm);
    case_free(&fn);
    case_free(&head_fn);
}

static void hyper(void)
{
    hyper_case(4, 512, 1, QUANT_F16);
    hyper_case(4, 48, 2, QUANT_F32);
    hyper_case(2, 33, 37, QUANT_BF16);
    hyper_case(4, 64, 5, QUANT_Q8_0);
}

/* ---- experts ---- */

static void experts_case(enum quant_type gate, enum quant_type down, enum quant_type shared, int n,
                         bool leased)
{
    enum { E = 7, K = 3 };
    int64_t dim = 512, inner = 256;
    bool bytes = act_kind(gate) == ACT_256_BYTE;
    struct weight w[6] = {
        case_weight(gate, dim, inner, E), case_weight(gate, dim, inner, E),
        case_weight(down, inner, dim, E), case_weight(shared, dim, inner, 1),
        case_weight(shared, dim, inner, 1), case_weight(shared, inner, dim, 1),
    };
    size_t stride[2] = {quant_row_bytes(gate, dim) * (size_t)inner,
                        quant_row_bytes(down, inner) * (size_t)dim};
    struct expert_slot slot[E];
    for (int e = 0; e < E; e++)
        slot[e] = (struct expert_slot){(const uint8_t *)w[0].data + (size_t)e * stride[0],
                                       (const uint8_t *)w[1].data + (size_t)e * stride[0],
                                       (const uint8_t *)w[2].data + (size_t)e * stride[1]};
    int32_t *ids = malloc((size_t)(n * K) * sizeof(*ids));
    for (int i = 0; i < n; i++)
        for (int k = 0, first = (int)(case_random() % E); k < K; k++)
            ids[i * K + k] = (first + 2 * k) % E;
    /* gates of about the size of the limits */
    float *x = case_floats(n * dim, 0.2f), *weights = case_floats(n * K, 1), *y[2];
    y[0] = case_poison(n * dim);
    y[1] = case_poison(n * dim);
    struct experts_args r = {
        .n = n, .n_expert = E, .n_used = K,
        .table = {.gate_type = gate, .up_type = gate, .down_type = down, .n_in = dim,
                  .n_inner = inner, .gate = w[0].data, .up = w[1].data, .down = w[2].data,
                  .gate_stride = stride[0], .up_stride = stride[0], .down_stride = stride[1]},
        .limit = 3, .shared_limit = 2, .shared_gate = w[3], .shared_up = w[4],
        .shared_down = w[5], .ids = ids, .weights = weights, .x = x, .y = y[0],
    };
    struct experts_args a = r;
    a.y = y[1];
    if (leased) {
        a.table.gate_stride = a.table.up_stride = a.table.down_stride = 0;
        a.table.gate = a.table.up = a.table.down = NULL;
        a.table.slot = slot;
    }
    BOTH(experts, &r, &a);
    close_to(y[1], y[0], n * dim, bytes ? EXPERTS_ERROR : 6e-3, "experts");
    free(y[0]);
    free(y[1]);
    free(x);
    free(weights);
    free(ids);
    for (int k = 0; k < 6; k++)
        case_free(&w[k]);
}

static void experts(void)
{
    experts_case(QUANT_IQ2_XXS, QUANT_Q2_K, QUANT_Q8_0, 1, false);
    experts_case(QUANT_IQ2_XXS, QUANT_Q2_K, QUANT_Q8_0, 33, false);
    experts_case(QUANT_MXFP4, QUANT_MXFP4, QUANT_BF16, 4, true);
    experts_case(QUANT_Q4_K, QUANT_Q6_K, QUANT_Q4_K, 9, true);
    experts_case(QUANT_F32, QUANT_F16, QUANT_F32, 3, false);
}

static void route(void)
{
    enum { E = 13, K = 4, N = 6 };
    float *logits = case_floats(N * E, 3), *bias = case_floats(E, 0.5f), w[2][N * K];
    int32_t ids[2][N * K], token[N] = {3, 1, 0, 2, 2, 1}, hash[4 * K];
    for (int k = 0; k < 4 * K; k++)
        hash[k] = (k * 5 + k / K) % E;
    logits[2] = logits[7];             /* ties go to the lower id */
    bias[2] = bias[7];
    struct row_table rows = {.n = N, .token = token};
    for (int by_hash = 0; by_hash < 2; by_hash++) {
        for (int k = 0; k < 2; k++) {
            struct ops *ops = k ? &cpu.ops : &ref.ops;
            struct route_args a = {.rows = &rows, .n_expert = E, .n_used = K, .scale = 1.5f,
                                   .logits = logits, .ids = ids[k], .weights = w[k],
                                   .bias = by_hash ? NULL : bias,
                                   .token_to_expert = by_hash ? hash : NULL};
            ops->route(ops->ctx, &a);
        }
        case_check(!memcmp(ids[0], ids[1], sizeof(ids[0])), "%s: route ids", isa);
        case_check(!memcmp(w[0], w[1], sizeof(w[0])), "%s: route weights", isa);
    }
    free(logits);
    free(bias);
}

/* ---- attention and indexer, over two spans of one layer with rings and pages ---- */

enum { PAGE = 256, PAGES = 32, RING = 40, WINDOW = 32 };

struct kv_case {
    enum kv_format format;
    int32_t ratio, top_k;
    int64_t dim, rot, index_dim, pos[2];
    int32_t n[2], heads;
    /* made from these */
    size_t row_bytes, index_bytes, page_bytes;
    uint8_t *fixed[2], *pages[2][PAGES], *batch;
    struct span span[2];
    struct row_table rows;
    int32_t span_of[64], token[64], *sel, *count;
    int64_t row_pos[64];
};

/* Encodes n random rows one after the other. */
static void fill_rows(const struct kv_case *c, uint8_t *to, int n, bool index)
{
    int64_t dim = index ? c->index_dim : c->dim;
    for (int i = 0; i < n; i++) {
        float *x = case_floats(dim, 1);
        if (index)
            ref_index_row_encode(c->format, x, dim, to + (size_t)i * c->index_bytes);
        else
            ref_main_row_encode(c->format, x, dim, c->rot, to + (size_t)i * c->row_bytes);
        free(x);
    }
}

static void kv_case_make(struct kv_case *c)
{
    int32_t row = 0;
    c->row_bytes = kv_main_row_bytes(c->format, c->dim, c->rot);
    c->index_bytes = kv_index_row_bytes(c->format, c->index_dim);
    int per_page = c->ratio ? PAGE / c->ratio : 0;
    size_t main_bytes = (size_t)per_page * c->row_bytes;
    c->page_bytes = main_bytes + (size_t)per_page * c->index_bytes + 64;
    for (int k = 0; k < 2; k++) {
        c->fixed[k] = calloc(RING, c->row_bytes);
        fill_rows(c, c->fixed[k], RING, false);
        for (int p = 0; p < PAGES; p++) {
            c->pages[k][p] = calloc(1, c->page_bytes);
            if (p * PAGE > c->pos[k] + c->n[k])
                continue;
            fill_rows(c, c->pages[k][p], per_page, false);
            fill_rows(c, c->pages[k][p] + main_bytes, per_page, true);
        }
        c->span[k] = (struct span){row, c->n[k], c->pos[k], c->fixed[k], c->pages[k]};
        for (int i = 0; i < c->n[k]; i++, row++) {
            c->span_of[row] = k;
            c->row_pos[row] = c->pos[k] + i;
            c->rows.pos_max = c->row_pos[row] > c->rows.pos_max ? c->row_pos[row] : c->rows.pos_max;
        }
    }
    c->rows.n = row;
    c->rows.n_spans = 2;
    c->rows.token = c->token;
    c->rows.span_of = c->span_of;
    c->rows.pos = c->row_pos;
    c->rows.spans = c->span;
    c->batch = calloc((size_t)row, c->row_bytes);
    fill_rows(c, c->batch, row, false);
    c->sel = calloc((size_t)(row * c->top_k), sizeof(int32_t));
    c->count = calloc((size_t)row, sizeof(int32_t));
}

static void kv_case_free(struct kv_case *c)
{
    for (int k = 0; k < 2; k++) {
        free(c->fixed[k]);
        for (int p = 0; p < PAGES; p++)
            free(c->pages[k][p]);
    }
    free(c->batch);
    free(c->sel);
    free(c->count);
}

static void select_case(struct kv_case *c)
{
    int32_t n = c->rows.n;
    float *q = case_floats(n * c->heads * c->index_dim, 1), *w = case_floats(n * c->heads, 1);
    int32_t *sel = calloc((size_t)(n * c->top_k), sizeof(int32_t));
    int32_t *count = calloc((size_t)n, sizeof(int32_t));
    struct index_select_args r = {
        .rows = &c->rows, .heads = c->heads, .ratio = c->ratio, .top_k = c->top_k,
        .dim = c->index_dim, .weight_scale = 0.1f, .format = c->format, .q = q, .w = w,
        .page_offset = (size_t)(PAGE / c->ratio) * c->row_bytes, .page_tokens = PAGE,
        .sel = c->sel, .count = c->count,
    };
    struct index_select_args a = r;
    a.sel = sel;
    a.count = count;
    BOTH(index_select, &r, &a);
    int differ = 0, all = 0;
    for (int32_t i = 0; i < n; i++) {
        case_check(count[i] == c->count[i], "%s: row %d selects %d, expected %d", isa, i, count[i],
                   c->count[i]);
        for (int32_t k = 0; k < count[i]; k++, all++) {
            case_check(k == 0 || sel[i * c->top_k + k] > sel[i * c->top_k + k - 1],
                       "%s: selection of row %d is not ascending", isa, i);
            differ += sel[i * c->top_k + k] != c->sel[i * c->top_k + k];
        }
    }
    /* rounding may swap the last places of a row */
    case_check(differ <= all / 50, "%s: %d of %d selected entries differ", isa, differ, all);
    free(q);
    free(w);
    free(sel);
    free(count);
}

static void attention_case(enum kv_format format, int32_t ratio, int64_t dim, int64_t rot,
                           int32_t heads)
{
    struct kv_case c = {
        .format = format, .ratio = ratio, .top_k = 24, .dim = dim, .rot = rot, .index_dim = 64,
        .pos = {0, 1500}, .n = {7, 5}, .heads = heads,
    };
    kv_case_make(&c);
    int32_t n = c.rows.n;
    if (ratio == 4)
        select_case(&c);
    float *q = case_floats(n * heads * dim, 1), *sinks = case_floats(heads, 1);
    float *rope = case_floats(n * rot, 1), *o[2];
    o[0] = case_poison(n * heads * dim);
    o[1] = case_poison(n * heads * dim);
    struct attention_args r = {
        .rows = &c.rows, .heads = heads, .window = WINDOW, .ratio = ratio, .head_dim = dim,
        .rot_dim = rot, .scale = 0.2f, .format = format, .q = q, .batch_rows = c.batch,
        .sinks = sinks, .rope = rope, .sel = ratio == 4 ? c.sel : NULL,
        .sel_count = ratio == 4 ? c.count : NULL, .sel_stride = c.top_k, .ring_rows = RING,
        .page_tokens = PAGE, .o = o[0],
    };
    struct attention_args a = r;
    a.o = o[1];
    BOTH(attention, &r, &a);
    close_to(o[1], o[0], n * heads * dim, FLOAT_ERROR, "attention");
    free(q);
    free(sinks);
    free(rope);
    free(o[0]);
    free(o[1]);
    kv_case_free(&c);
}

static void attention(void)
{
    attention_case(KV_FP8, 0, 96, 16, 20);
    attention_case(KV_FP8, 4, 96, 32, 17);
    attention_case(KV_FP8, 128, 80, 8, 3);
    attention_case(KV_EXACT, 4, 24, 8, 5);
    attention_case(KV_EXACT, 128, 33, 2, 1);
}

static void run(const char *name)
{
    isa = name;
    backend_open(&cpu, "cpu", name, 2);
    CASE(matmul);
    CASE(grouped_matmul);
    CASE(norms);
    CASE(hyper);
    CASE(experts);
    CASE(route);
    CASE(attention);
    backend_close(&cpu);
}

int main(void)
{
    backend_open(&ref, "ref", NULL, 2);
    for (int k = 0; cpu_choices[k].leaf; k++)
        if (cpu_has(cpu_choices[k].isa))
            run(cpu_choices[k].leaf->name);
    for (int t = 0; t < CASE_TYPES; t++)
        printf("%s %.1e  ", quant_info(case_types[t])->name, worst[case_types[t]]);
    putchar('\n');
    backend_close(&ref);
    return case_failures ? 1 : 0;
}
