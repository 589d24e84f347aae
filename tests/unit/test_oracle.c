/* The forward pass against logits that a float64 implementation of the architecture gave for small
 * models of every ratio and format. */
#include "support/model.h"
#include "support/oracle.h"

struct oracle_case {
    const char *name;
    enum kv_format format;
    const char *base;          /* model with the tensors that this one's file lacks */
};

/* A tap that keeps the streams of some positions. The whole text is one batch, so that row ==
 * position. */
struct stream_log {
    const struct oracle *o;
    float *all;                /* one event's rows */
    double worst;
    int events;
};

static void log_streams(void *ctx, const struct tap_event *e)
{
    struct stream_log *log = ctx;
    const struct oracle *o = log->o;
    size_t level = (size_t)(e->layer + 1), width = (size_t)o->streams * o->dim;
    assert_int_equal(e->width, width);
    tap_read(e, log->all);
    for (uint32_t i = 0; i < o->n_pos; i++) {
        const float *expected = o->x + (i * (o->layers + 1) + level) * width;
        const float *found = log->all + o->pos[i] * width;
        for (size_t k = 0; k < width; k++) {
            double d = fabs((double)found[k] - expected[k]);
            if (!(d <= log->worst))
                log->worst = d;
        }
    }
    log->events++;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Exact: every position within 2e-3. fp8: rounding boundaries make a few positions jump, so the
 * bounds are on the median and the 95th percentile. */
static void judge(const struct oracle *o, const struct oracle_case *c, const float *logits)
{
    double *worst = malloc(o->n * sizeof(*worst));
    for (uint32_t p = 0; p < o->n; p++)
        worst[p] = oracle_row_difference(o, logits, p);
    qsort(worst, o->n, sizeof(*worst), by_value);
    double median = worst[o->n / 2], p95 = worst[(size_t)o->n * 95 / 100], max = worst[o->n - 1];
    print_message("%s %s: logits max %.2e median %.2e p95 %.2e\n", c->name,
                  c->format == KV_FP8 ? "fp8" : "exact", max, median, p95);
    free(worst);
    if (c->format == KV_EXACT)
        assert_true(max <= 2e-3);
    else
        assert_true(median <= 5e-3 && p95 <= 5e-2);
}

static void logits_match(void **state)
{
    const struct oracle_case *c = *state;
    struct oracle o;
    oracle_open(&o, model_path(c->name, c->format == KV_FP8 ? ".fp8.oracle" : ".oracle"));
    size_t width = (size_t)o.streams * o.dim;
    struct stream_log log = {.o = &o, .all = malloc(o.n * width * sizeof(float))};
    struct tap tap = {
        .ctx = &log, .fn = log_streams, .stages = 1u << TAP_EMBED | 1u << TAP_LAYER_OUT,
    };
    struct model m;
    model_open(&m, model_path(c->name, ".gguf"), (struct model_options){
        .format = c->format, .base = c->base ? model_path(c->base, ".gguf") : NULL,
        .tap = c->format == KV_EXACT ? &tap : NULL,
    });
    assert_int_equal(m.shape.n_vocab, o.vocab);
    assert_int_equal(m.shape.n_layer, o.layers);
    struct kv_state *kv = model_kv(&m);
    float *logits = malloc((size_t)o.n * o.vocab * sizeof(float));
    model_feed(&m, kv, o.ids, (int32_t)o.n, (int32_t)o.n, logits);
    judge(&o, c, logits);
    if (c->format == KV_EXACT) {
        assert_int_equal(log.events, o.layers + 1);
        print_message("%s: streams max %.2e\n", c->name, log.worst);
        assert_true(log.worst <= 2e-3);
    }
    free(logits);
    free(log.all);
    kv_state_free(kv);
    model_close(&m);
    oracle_close(&o);
}

/* Row p is fed the trunk's streams at p and the trunk's token p + 1. */
static void draft_logits_match(void **state)
{
    struct sluice_error err;
    const char *sidecar = model_path("mini-mtp.mtp", ".gguf");
    struct oracle trunk, o;
    oracle_open(&trunk, model_path("mini-mtp", ".oracle"));
    oracle_open(&o, model_path("mini-mtp.mtp", ".oracle"));
    assert_int_equal(o.n + 1, trunk.n);
    assert_memory_equal(o.ids, trunk.ids + 1, o.n * sizeof(int32_t));

    struct model m;
    model_open(&m, model_path("mini-mtp", ".gguf"), (struct model_options){.format = KV_EXACT});
    struct gguf *file;
    assert_ok(gguf_open(&sidecar, 1, &file, &err));
    const struct gguf *files = file;
    struct weights_config wc = {.file = &files, .n_file = 1, .shape = &m.shape, .ops = &m.ops};
    struct weights *w;
    assert_true(weights_has_mtp(&files, 1, &m.shape));
    assert_ok(weights_load_mtp(&wc, m.weights, &w, &err));
    struct expert_store *store = store_over(w, /*by_expert=*/false);
    struct kv_layout layout;
    draft_kv_layout(&m.shape, KV_EXACT, &layout);
    struct draft_config dc = {
        .weights = w, .ops = &m.ops, .experts = store, .layout = &layout, .max_rows = 512,
        .max_spans = 1, .max_logits = 512, .max_positions = MODEL_CONTEXT,
    };
    struct draft_run *draft;
    assert_ok(draft_run_new(&dc, &draft, &err));
    struct kv_state *kv = model_kv(&m), *draft_kv;
    assert_ok(kv_state_new(&layout, &m.ops, MODEL_CONTEXT, &draft_kv, &err));

    float *logits = malloc((size_t)trunk.n * trunk.vocab * sizeof(float));
    model_feed(&m, kv, trunk.ids, (int32_t)trunk.n, (int32_t)trunk.n, logits);
    /* In two uneven steps: the block keeps its own KV between them. */
    size_t width = (size_t)o.streams * o.dim;
    float *x = malloc(o.n * width * sizeof(float));
    poison(logits, (size_t)o.n * o.vocab);
    for (int32_t at = 0, n = 100; at < (int32_t)o.n; at += n, n = (int32_t)o.n - 100) {
        struct batch_span span = {.kv = draft_kv, .n = n};
        struct batch b = {
            .n = n, .n_spans = 1, .token = o.ids + at, .span = &span, .logit_row = all_rows(),
            .n_logits = n,
        };
        assert_ok(draft_forward(draft, &b, model_run_streams(m.run) + (size_t)at * width, &err));
        draft_logits(draft, 0, n, logits + (size_t)at * o.vocab);
        draft_streams_read(draft, x + (size_t)at * width, n);
    }
    judge(&o, &(struct oracle_case){"mini-mtp.mtp", KV_EXACT, NULL}, logits);
    for (uint32_t i = 0; i < o.n_pos; i++)
        for (size_t k = 0; k < width; k++)
            assert_close(x[o.pos[i] * width + k], o.x[(i * 2 + 1) * width + k], 2e-3);

    free(x);
    free(logits);
    kv_state_free(draft_kv);
    kv_state_free(kv);
    draft_run_free(draft);
    expert_store_close(store);
    weights_free(w);
    gguf_close(file);
    model_close(&m);
    oracle_close(&o);
    oracle_close(&trunk);
}

static struct oracle_case cases[] = {
    {"mini-a", KV_EXACT, NULL},      {"mini-b", KV_EXACT, NULL},
    {"mini-mtp", KV_EXACT, NULL},    {"fmt-q2", KV_EXACT, NULL},
    {"fmt-mix", KV_EXACT, "fmt-q2"}, {"fmt-mx", KV_EXACT, "fmt-q2"},
    {"mini-a", KV_FP8, NULL},        {"mini-b", KV_FP8, NULL},
    {"fmt-q2", KV_FP8, NULL},        {"fmt-mx", KV_FP8, "fmt-q2"},
};
static struct oracle_case case_of_full_set = {"fmt-q4", KV_EXACT, NULL};

int main(void)
{
    struct CMUnitTest tests[16];
    size_t n = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        tests[n++] = (struct CMUnitTest){cases[i].name, logits_match, NULL, NULL, &cases[i]};
    if (getenv("SLUICE_ORACLE_DIR"))
        tests[n++] = (struct CMUnitTest){"fmt-q4", logits_match, NULL, NULL, &case_of_full_set};
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(draft_logits_match);
    return _cmocka_run_group_tests("oracle", tests, n, NULL, NULL);
}
