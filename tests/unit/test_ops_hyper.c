/* Hyper-connections and embedding against values worked out by hand. */
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

/* With fn = 0 the mix is what base says: pre = sigmoid(base) + eps, post = 2 sigmoid(base), comb
 * from base alone. */
static void gather_from_base_only(void **state)
{
    enum { S = 2, D = 2, MIX = 2 * S + S * S };
    float fn[MIX * S * D] = {0};
    float base[MIX] = {0, logf(3), 0, logf(3), logf(2), 0, 0, 0}, scale[3] = {1, 1, 1},
          norm[D] = {1, 2};
    float x[S * D] = {2, 0, 0, 4}, y[D], mix[S + S * S];
    poison(y, D);
    poison(mix, S + S * S);
    struct hyper_gather_args a = {
        .n = 1,
        .streams = S,
        .sinkhorn_iters = 1,
        .dim = D,
        .hc_eps = 0,
        .rms_eps = 0,
        .fn = {QUANT_F32, S * D, MIX, 1, fn},
        .base = base,
        .scale = scale,
        .norm = norm,
        .x = x,
        .y = y,
        .mix = mix,
    };
    fx.ops.hyper_gather(fx.ops.ctx, &a);
    /* pre = 0.5, 0.75: y = (1, 3) before the norm, rms = sqrt(5) */
    assert_close(y[0], 1 / sqrt(5), 1e-6);
    assert_close(y[1], 2 * 3 / sqrt(5), 1e-6);
    assert_close(mix[0], 1.0, 1e-6);
    assert_close(mix[1], 1.5, 1e-6);
    /* row softmax: (2/3, 1/3), (1/2, 1/2); columns divided by 7/6 and 5/6 */
    assert_close(mix[2], 4.0 / 7, 1e-6);
    assert_close(mix[3], 2.0 / 5, 1e-6);
    assert_close(mix[4], 3.0 / 7, 1e-6);
    assert_close(mix[5], 3.0 / 5, 1e-6);
}

static void gather_scales_logits_by_unweighted_rms(void **state)
{
    enum { S = 2, D = 1, MIX = 2 * S + S * S };
    float fn[MIX * S * D] = {0}, base[MIX] = {0}, scale[3] = {2, 1, 1}, norm[D] = {1};
    fn[0] = 1;                     /* pre[0] sees x[0] */
    float x[S * D] = {3, 4}, y[D], mix[S + S * S];
    struct hyper_gather_args a = {
        .n = 1,
        .streams = S,
        .sinkhorn_iters = 20,
        .dim = D,
        .hc_eps = 1e-6f,
        .rms_eps = 0,
        .fn = {QUANT_F32, S * D, MIX, 1, fn},
        .base = base,
        .scale = scale,
        .norm = norm,
        .x = x,
        .y = y,
        .mix = mix,
    };
    fx.ops.hyper_gather(fx.ops.ctx, &a);
    /* the norm of a single value is its sign, so look at the head instead, which shares the mix */
    assert_close(y[0], 1.0, 1e-6);
    float head_scale[1] = {2}, head_base[S] = {0};
    int32_t row[1] = {0};
    float norm2[D] = {1};
    struct hyper_head_args h = {
        .n_out = 1,
        .streams = S,
        .dim = D,
        .hc_eps = 0,
        .rms_eps = 100,
        .fn = {QUANT_F32, S * D, S, 1, fn},
        .base = head_base,
        .scale = head_scale,
        .norm = norm2,
        .row = row,
        .x = x,
        .y = y,
    };
    fx.ops.hyper_head(fx.ops.ctx, &h);
    double rs = 1 / sqrt(12.5 + 100), pre0 = 1 / (1 + exp(-2 * 3 * rs)), mixed = pre0 * 3 + 0.5 * 4;
    assert_close(y[0], mixed / sqrt(mixed * mixed + 100), 1e-6);
}

static void sinkhorn_is_doubly_stochastic(void **state)
{
    enum { S = 4, D = 3, MIX = 2 * S + S * S };
    float fn[MIX * S * D], base[MIX], scale[3] = {1, 1, 1}, norm[D] = {1, 1, 1};
    for (int i = 0; i < MIX * S * D; i++)
        fn[i] = 0.1f * sinf((float)i);
    for (int i = 0; i < MIX; i++)
        base[i] = cosf(2.0f * (float)i);
    float x[S * D], y[D], mix[S + S * S];
    for (int i = 0; i < S * D; i++)
        x[i] = (float)(i % 5) - 1.5f;
    struct hyper_gather_args a = {
        .n = 1,
        .streams = S,
        .sinkhorn_iters = 20,
        .dim = D,
        .hc_eps = 1e-6f,
        .rms_eps = 1e-6f,
        .fn = {QUANT_F32, S * D, MIX, 1, fn},
        .base = base,
        .scale = scale,
        .norm = norm,
        .x = x,
        .y = y,
        .mix = mix,
    };
    fx.ops.hyper_gather(fx.ops.ctx, &a);
    for (int j = 0; j < S; j++) {
        float row = 0, col = 0;
        for (int k = 0; k < S; k++) {
            row += mix[S + j * S + k];
            col += mix[S + k * S + j];
        }
        assert_close(row, 1, 1e-3);
        assert_close(col, 1, 1e-5);
    }
}

/* comb is consumed by its first index: stream 1 of the result takes comb[0][1] of stream 0. */
static void spread_sums_over_first_index(void **state)
{
    enum { S = 2, D = 2 };
    float mix[S + S * S] = {10, 20, 1, 2, 3, 4}, f[D] = {1, -1}, x[S * D] = {1, 2, 3, 4};
    struct hyper_spread_args a = {.n = 1, .streams = S, .dim = D, .f = f, .mix = mix, .x = x};
    fx.ops.hyper_spread(fx.ops.ctx, &a);
    assert_close(x[0], 10 * 1 + 1 * 1 + 3 * 3, 1e-6);
    assert_close(x[1], 10 * -1 + 1 * 2 + 3 * 4, 1e-6);
    assert_close(x[2], 20 * 1 + 2 * 1 + 4 * 3, 1e-6);
    assert_close(x[3], 20 * -1 + 2 * 2 + 4 * 4, 1e-6);
}

static void embed_copies_to_every_stream(void **state)
{
    float table[3 * 2] = {0, 1, 2, 3, 4, 5}, x[2 * 3 * 2];
    int32_t token[2] = {2, 0};
    poison(x, 12);
    struct row_table rows = one_span(2, 0, NULL, NULL, token);
    struct embed_args a = {
        .rows = &rows, .table = {QUANT_F32, 2, 3, 1, table}, .streams = 3, .x = x};
    fx.ops.embed(fx.ops.ctx, &a);
    for (int s = 0; s < 3; s++) {
        assert_close(x[2 * s], 4, 0);
        assert_close(x[2 * s + 1], 5, 0);
        assert_close(x[6 + 2 * s], 0, 0);
        assert_close(x[6 + 2 * s + 1], 1, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gather_from_base_only),
        cmocka_unit_test(gather_scales_logits_by_unweighted_rms),
        cmocka_unit_test(sinkhorn_is_doubly_stochastic),
        cmocka_unit_test(spread_sums_over_first_index),
        cmocka_unit_test(embed_copies_to_every_stream),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
