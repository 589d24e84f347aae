/* Router and experts: hash tables, bias, normalisation, clamps, the order of the sum. */
#include "support/ref_ops.h"

static struct ref_fixture fx;

static int setup(void **state)
{
    ref_fixture_open(&fx);
    return 0;
}

static int teardown(void **state)
{
    ref_fixture_close(&fx);
    return 0;
}

static double score(double logit)
{
    return sqrt(log1p(exp(logit)));
}

static void bias_chooses_but_does_not_weigh(void **state)
{
    float logits[4] = {0, 1, 2, 3}, bias[4] = {10, 0, 0, 0}, weights[2];
    int32_t ids[2], token[1] = {0};
    struct row_table rows = one_span(1, 0, NULL, NULL, token);
    struct route_args a = {.rows = &rows,
                           .n_expert = 4,
                           .n_used = 2,
                           .scale = 1.5f,
                           .logits = logits,
                           .bias = bias,
                           .ids = ids,
                           .weights = weights};
    fx.ops.route(fx.ops.ctx, &a);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 3);
    assert_close(weights[0], 1.5 * score(0) / (score(0) + score(3)), 1e-6);
    assert_close(weights[1], 1.5 * score(3) / (score(0) + score(3)), 1e-6);
}

static void ties_go_to_the_lower_id(void **state)
{
    float logits[4] = {1, 1, 1, 1}, bias[4] = {0}, weights[3];
    int32_t ids[3], token[1] = {0};
    struct row_table rows = one_span(1, 0, NULL, NULL, token);
    struct route_args a = {.rows = &rows, .n_expert = 4, .n_used = 3, .scale = 3, .logits = logits,
                           .bias = bias, .ids = ids, .weights = weights};
    fx.ops.route(fx.ops.ctx, &a);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(ids[k], k);
        assert_close(weights[k], 1, 1e-6);
    }
}

static void hash_layers_choose_by_token(void **state)
{
    float logits[8] = {-100, 100, 0, 5, 1, 2, 3, 4}, weights[4];
    int32_t table[3 * 2] = {0, 1, 2, 3, 3, 0}, ids[4], token[2] = {2, 1};
    struct row_table rows = one_span(2, 0, NULL, NULL, token);
    struct route_args a = {.rows = &rows, .n_expert = 4, .n_used = 2, .scale = 1, .logits = logits,
                           .token_to_expert = table, .ids = ids, .weights = weights};
    fx.ops.route(fx.ops.ctx, &a);
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], 0);
    assert_int_equal(ids[2], 2);
    assert_int_equal(ids[3], 3);
    /* softplus(-100) underflows to about e^-100: its weight is nothing, and nothing is NaN */
    assert_close(weights[0], 1, 1e-6);
    assert_close(weights[1], 0, 1e-6);
    assert_close(weights[2], score(3) / (score(3) + score(4)), 1e-6);
}

/* D = F = 1 experts: expert e is (gate g, up u, down d). */
static void clamps_and_slot_sum(void **state)
{
    float gate[3] = {1, 20, -20}, up[3] = {1, 20, -20}, down[3] = {1, 2, 3};
    float sg[1] = {1}, su[1] = {30}, sd[1] = {1};
    int32_t ids[3] = {0, 1, 2};
    float weights[3] = {1, 0.5f, 0.25f}, x[1] = {1}, y[1];
    struct experts_args a = {
        .n = 1,
        .n_expert = 3,
        .n_used = 3,
        .limit = 10,
        .shared_limit = 7,
        .table = {.gate_type = QUANT_F32,
                  .up_type = QUANT_F32,
                  .down_type = QUANT_F32,
                  .n_in = 1,
                  .n_inner = 1,
                  .gate = (uint8_t *)gate,
                  .up = (uint8_t *)up,
                  .down = (uint8_t *)down,
                  .gate_stride = 4,
                  .up_stride = 4,
                  .down_stride = 4},
        .shared_gate = {QUANT_F32, 1, 1, 1, sg},
        .shared_up = {QUANT_F32, 1, 1, 1, su},
        .shared_down = {QUANT_F32, 1, 1, 1, sd},
        .ids = ids,
        .weights = weights,
        .x = x,
        .y = y,
    };
    poison(y, 1);
    fx.ops.experts(fx.ops.ctx, &a);
    double silu1 = 1 / (1 + exp(-1)), silu10 = 10 / (1 + exp(-10)), silu_20 = -20 / (1 + exp(20));
    double expected = silu1 * 1 * 1 + 2 * silu10 * 10 * 0.5 + 3 * silu_20 * -10 * 0.25 + silu1 * 7;
    assert_close(y[0], expected, 1e-4);
}

static void experts_behind_slots_equal_resident_ones(void **state)
{
    enum { D = 4, F = 3, E = 5, K = 2, N = 3 };
    float gate[E * F * D], up[E * F * D], down[E * D * F], x[N * D], y1[N * D], y2[N * D];
    for (int i = 0; i < E * F * D; i++) {
        gate[i] = sinf((float)i);
        up[i] = cosf(1.7f * (float)i);
        down[i] = sinf(0.3f * (float)i + 1);
    }
    for (int i = 0; i < N * D; i++)
        x[i] = cosf((float)i);
    struct expert_slot slot[E] = {{0}};
    int32_t ids[N * K] = {4, 1, 1, 3, 4, 3};
    float weights[N * K] = {1, .5f, .25f, 1, 2, .5f};
    for (int i = 0; i < N * K; i++) {
        int e = ids[i];
        slot[e] = (struct expert_slot){(uint8_t *)(gate + e * F * D), (uint8_t *)(up + e * F * D),
                                       (uint8_t *)(down + e * D * F)};
    }
    struct experts_args a = {
        .n = N,
        .n_expert = E,
        .n_used = K,
        .limit = 10,
        .shared_limit = 10,
        .table = {.gate_type = QUANT_F32,
                  .up_type = QUANT_F32,
                  .down_type = QUANT_F32,
                  .n_in = D,
                  .n_inner = F,
                  .gate = (uint8_t *)gate,
                  .up = (uint8_t *)up,
                  .down = (uint8_t *)down,
                  .gate_stride = sizeof(float) * F * D,
                  .up_stride = sizeof(float) * F * D,
                  .down_stride = sizeof(float) * F * D},
        .shared_gate = {QUANT_F32, D, F, 1, gate},
        .shared_up = {QUANT_F32, D, F, 1, up},
        .shared_down = {QUANT_F32, F, D, 1, down},
        .ids = ids,
        .weights = weights,
        .x = x,
        .y = y1,
    };
    fx.ops.experts(fx.ops.ctx, &a);
    a.table.gate = a.table.up = a.table.down = NULL;
    a.table.gate_stride = a.table.up_stride = a.table.down_stride = 0;
    a.table.slot = slot;
    a.y = y2;
    fx.ops.experts(fx.ops.ctx, &a);
    assert_memory_equal(y1, y2, sizeof y1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bias_chooses_but_does_not_weigh),
        cmocka_unit_test(ties_go_to_the_lower_id),
        cmocka_unit_test(hash_layers_choose_by_token),
        cmocka_unit_test(clamps_and_slot_sum),
        cmocka_unit_test(experts_behind_slots_equal_resident_ones),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
