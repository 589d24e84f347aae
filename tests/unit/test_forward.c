/* What forward() refuses, what a refused or failed step leaves behind, and what observers see. */
#include "support/model.h"
#include "support/oracle.h"

static struct model m;
static struct kv_state *kv;
static struct sluice_error err;

static int setup(void **state)
{
    model_open(&m, model_path("mini-a", ".gguf"),
               (struct model_options){.format = KV_EXACT, .max_rows = 16});
    return 0;
}

static int teardown(void **state)
{
    model_close(&m);
    return 0;
}

static int setup_kv(void **state)
{
    kv = model_kv(&m);
    return 0;
}

static int teardown_kv(void **state)
{
    kv_state_free(kv);
    return 0;
}

static const int32_t tokens[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

static void refuse(struct batch b, enum sluice_status code, const char *word)
{
    int64_t before = kv->n_tokens;
    assert_int_equal(forward(m.run, &b, &err), code);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not say \"%s\"", err.message, word);
    assert_int_equal(kv->n_tokens, before);
}

static void batches_are_checked(void **state)
{
    struct batch_span one = {kv, 4}, none = {kv, 0}, twice[2] = {{kv, 2}, {kv, 2}},
                      long_span = {kv, 17};
    const int32_t high[4] = {0, 1, 288, 0}, low[4] = {0, -1, 0, 0};
    const int32_t falling[2] = {2, 1}, same[2] = {1, 1}, beyond[1] = {4};
    refuse((struct batch){.n = 0, .n_spans = 0, .token = tokens}, SLUICE_ERR_ARG, "1 to 16 rows");
    refuse((struct batch){.n = 17, .n_spans = 1, .token = tokens, .span = &long_span},
           SLUICE_ERR_ARG, "16");
    refuse((struct batch){.n = 4, .n_spans = 0, .token = tokens, .span = &one}, SLUICE_ERR_ARG,
           "spans");
    refuse((struct batch){.n = 4, .n_spans = 9, .token = tokens, .span = &one}, SLUICE_ERR_ARG,
           "8 spans");
    refuse((struct batch){.n = 3, .n_spans = 1, .token = tokens, .span = &one}, SLUICE_ERR_ARG,
           "3 rows");
    refuse((struct batch){.n = 4, .n_spans = 1, .token = tokens, .span = &none}, SLUICE_ERR_ARG,
           "span 0");
    refuse((struct batch){.n = 4, .n_spans = 2, .token = tokens, .span = twice}, SLUICE_ERR_ARG,
           "same sequence");
    refuse((struct batch){.n = 4, .n_spans = 1, .token = high, .span = &one}, SLUICE_ERR_ARG,
           "found 288");
    refuse((struct batch){.n = 4, .n_spans = 1, .token = low, .span = &one}, SLUICE_ERR_ARG,
           "found -1");
    struct batch b = {
        .n = 4, .n_spans = 1, .token = tokens, .span = &one, .logit_row = falling, .n_logits = 2};
    refuse(b, SLUICE_ERR_ARG, "ascending");
    b.logit_row = same;
    refuse(b, SLUICE_ERR_ARG, "ascending");
    b.logit_row = beyond;
    b.n_logits = 1;
    refuse(b, SLUICE_ERR_ARG, "below 4");
    b.n_logits = 17;
    refuse(b, SLUICE_ERR_ARG, "0 to 16");
    b.n_logits = -1;
    refuse(b, SLUICE_ERR_ARG, "0 to 16");
}

static void a_state_of_another_layout_is_refused(void **state)
{
    struct kv_layout other;
    struct kv_state *foreign;
    kv_layout_make(&m.shape, 0, m.shape.n_layer, KV_FP8, &other);
    assert_ok(kv_state_new(&other, &m.ops, 64, &foreign, &err));
    struct batch_span span = {foreign, 1};
    refuse((struct batch){.n = 1, .n_spans = 1, .token = tokens, .span = &span}, SLUICE_ERR_ARG,
           "layout");
    kv_state_free(foreign);
}

static void a_full_context_is_refused_before_anything_is_written(void **state)
{
    struct kv_state *small;
    assert_ok(kv_state_new(&m.layout, &m.ops, 5, &small, &err));
    struct batch_span spans[2] = {{kv, 2}, {small, 6}};
    struct batch b = {.n = 8, .n_spans = 2, .token = tokens, .span = spans};
    refuse(b, SLUICE_ERR_LIMIT, "context of 5");
    assert_int_equal(kv->high, 0);
    assert_int_equal(small->n_tokens, 0);
    spans[1].n = 5;
    b.n = 7;
    assert_ok(forward(m.run, &b, &err));
    assert_int_equal(kv->n_tokens, 2);
    assert_int_equal(small->n_tokens, 5);
    kv_state_free(small);
}

static void only_rows_that_ask_get_logits(void **state)
{
    size_t vocab = (size_t)m.shape.n_vocab;
    float *all = malloc(4 * vocab * sizeof(float)), *some = malloc(2 * vocab * sizeof(float));
    const int32_t rows[2] = {1, 3};
    struct batch_span span = {kv, 4};
    struct batch b = {.n = 4,
                      .n_spans = 1,
                      .token = tokens,
                      .span = &span,
                      .logit_row = all_rows(),
                      .n_logits = 4};
    assert_ok(forward(m.run, &b, &err));
    model_run_logits(m.run, 0, 4, all);
    kv_state_reset(kv);
    b.logit_row = rows;
    b.n_logits = 2;
    assert_ok(forward(m.run, &b, &err));
    model_run_logits(m.run, 0, 1, some);
    model_run_logits(m.run, 1, 1, some + vocab);
    assert_memory_equal(some, all + vocab, vocab * sizeof(float));
    assert_memory_equal(some + vocab, all + 3 * vocab, vocab * sizeof(float));
    b.n_logits = 0;
    b.logit_row = NULL;
    assert_ok(forward(m.run, &b, &err));
    assert_int_equal(kv->n_tokens, 8);
    free(all);
    free(some);
}

/* --- observers --- */

struct trail {
    int n;
    struct {
        enum tap_stage stage;
        int layer;
    } step[200];
    float weights[8 * 16];
    int32_t ids[8 * 16];
};

static void follow(void *ctx, const struct tap_event *e)
{
    struct trail *t = ctx;
    assert_true(t->n < 200);
    t->step[t->n].stage = e->stage;
    t->step[t->n++].layer = e->layer;
    assert_non_null(tap_stage_name(e->stage));
    if (e->stage != TAP_ROUTE)
        return;
    assert_int_equal(e->n, 4);
    assert_int_equal(e->width, 2);
    tap_read(e, t->weights);
    tap_read_ids(e, t->ids);
    for (int i = 0; i < 4; i++) {
        assert_close(t->weights[2 * i] + t->weights[2 * i + 1], 1.5, 1e-5);
        assert_true(t->ids[2 * i] >= 0 && t->ids[2 * i] < 8);
    }
}

static void observers_see_every_stage_in_order(void **state)
{
    struct model seen;
    struct trail t = {0};
    struct tap tap = {.ctx = &t, .stages = (1u << TAP_STAGES) - 1, .fn = follow};
    model_open(&seen, model_path("mini-a", ".gguf"),
               (struct model_options){.format = KV_EXACT, .tap = &tap});
    struct kv_state *own = model_kv(&seen);
    float *logits = malloc(4 * (size_t)seen.shape.n_vocab * sizeof(float));
    model_feed(&seen, own, tokens, 4, 4, logits);
    int at = 0;
    assert_int_equal(t.step[at++].stage, TAP_EMBED);
    for (int l = 0; l < seen.shape.n_layer; l++)
        for (enum tap_stage s = TAP_GATHER_ATTN; s < TAP_HEAD; s++) {
            if ((s == TAP_COMPRESS && seen.shape.ratio[l] == 0) ||
                (s == TAP_INDEX && seen.shape.ratio[l] != 4))
                continue;
            assert_int_equal(t.step[at].stage, s);
            assert_int_equal(t.step[at++].layer, l);
        }
    assert_int_equal(t.step[at++].stage, TAP_HEAD);
    assert_int_equal(t.n, at);
    free(logits);
    kv_state_free(own);
    model_close(&seen);
}

/* --- failure half-way --- */

/* Experts fail in layer 1 and later: the store covers fewer experts than the router knows. */
static void a_failed_step_keeps_the_count_and_guards_the_window(void **state)
{
    struct expert_bytes bytes[SHAPE_MAX_LAYERS];
    weights_expert_bytes(m.weights, bytes);
    struct expert_store_config sc = {
        .layer = bytes, .n_layer = m.shape.n_layer, .n_expert = 1, .by_expert = true};
    struct expert_store *short_store;
    assert_ok(expert_store_open_resident(&sc, &short_store, &err));
    struct model_run_config rc = {
        .shape = &m.shape,
        .weights = m.weights,
        .ops = &m.ops,
        .experts = short_store,
        .layout = &m.layout,
        .lo = 0,
        .hi = m.shape.n_layer,
        .max_rows = 32,
        .max_spans = 1,
        .max_logits = 1,
        .max_positions = MODEL_CONTEXT,
    };
    struct model_run *failing;
    assert_ok(model_run_new(&rc, &failing, &err));
    float *logits = malloc(32 * (size_t)m.shape.n_vocab * sizeof(float));
    model_feed(&m, kv, tokens, 10, 10, logits);

    struct batch_span span = {kv, KV_SLACK};
    struct batch b = {.n = KV_SLACK, .n_spans = 1, .token = tokens, .span = &span};
    assert_int_equal(forward(failing, &b, &err), SLUICE_ERR_ARG);
    assert_int_equal(kv->n_tokens, 10);
    model_feed(&m, kv, tokens, 1, 1, logits);
    span.n = b.n = KV_SLACK + 6;
    assert_int_equal(forward(failing, &b, &err), SLUICE_ERR_ARG);
    assert_int_equal(kv->n_tokens, 11);
    span.n = b.n = 1;
    assert_int_equal(forward(m.run, &b, &err), SLUICE_ERR_STATE);
    kv_state_reset(kv);
    assert_ok(forward(m.run, &b, &err));
    free(logits);
    model_run_free(failing);
    expert_store_close(short_store);
}

static void runs_are_checked(void **state)
{
    struct model_run_config bad, good = {
        .shape = &m.shape, .weights = m.weights, .ops = &m.ops, .experts = m.experts,
        .layout = &m.layout, .lo = 0, .hi = m.shape.n_layer, .max_rows = 1, .max_spans = 1,
        .max_logits = 1, .max_positions = 64,
    };
    struct model_run *r;
    bad = good;
    bad.hi++;
    assert_int_equal(model_run_new(&bad, &r, &err), SLUICE_ERR_ARG);
    bad = good;
    bad.lo = 1;
    assert_int_equal(model_run_new(&bad, &r, &err), SLUICE_ERR_ARG);
    assert_non_null(strstr(err.message, "layout"));
    bad = good;
    bad.max_rows = 0;
    assert_int_equal(model_run_new(&bad, &r, &err), SLUICE_ERR_ARG);
    assert_null(r);
    assert_ok(model_run_new(&good, &r, &err));
    model_run_free(r);
    model_run_free(NULL);
}

#define WITH_KV(test) cmocka_unit_test_setup_teardown(test, setup_kv, teardown_kv)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_KV(batches_are_checked),
        WITH_KV(a_state_of_another_layout_is_refused),
        WITH_KV(a_full_context_is_refused_before_anything_is_written),
        WITH_KV(only_rows_that_ask_get_logits),
        WITH_KV(a_failed_step_keeps_the_count_and_guards_the_window),
        cmocka_unit_test(observers_see_every_stage_in_order),
        cmocka_unit_test(runs_are_checked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
