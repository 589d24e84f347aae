/* RoPE, KV rows, compressor, indexer and attention against values worked out by hand. */
#include "ops/ref/ref.h"
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

/* ---- RoPE ---- */

static void rope_rotates_interleaved_pairs(void **state)
{
    float freq[2] = {0.5f, 0.25f}, table[4], v[4] = {1, 0, 0, 2};
    int32_t token[1] = {0};
    struct row_table rows = one_span(1, 3, NULL, NULL, token);
    struct rope_table_args t = {.rows = &rows, .half = 2, .freq = freq, .table = table};
    fx.ops.rope_table(fx.ops.ctx, &t);
    ref_rope(v, 4, table, /*inverse=*/false);
    assert_close(v[0], cos(1.5), 1e-6);
    assert_close(v[1], sin(1.5), 1e-6);
    assert_close(v[2], -2 * sin(0.75), 1e-6);
    assert_close(v[3], 2 * cos(0.75), 1e-6);
    ref_rope(v, 4, table, /*inverse=*/true);
    assert_close(v[0], 1, 1e-6);
    assert_close(v[3], 2, 1e-6);
}

static void rope_angle_is_the_float_product(void **state)
{
    float freq[1] = {0.1f}, table[2];
    int32_t token[1] = {0};
    struct row_table rows = one_span(1, 1000003, NULL, NULL, token);
    struct rope_table_args t = {.rows = &rows, .half = 1, .freq = freq, .table = table};
    fx.ops.rope_table(fx.ops.ctx, &t);
    float angle = 1000003.0f * 0.1f;
    assert_close(table[0], cos((double)angle), 1e-7);
    assert_close(table[1], sin((double)angle), 1e-7);
}

static void query_norm_has_no_weight_and_only_the_tail_turns(void **state)
{
    float q[2 * 4] = {3, 4, 0, 0, 0, 0, 2, 0}, rope[2] = {0, 1};   /* a quarter turn */
    struct query_args a = {
        .n = 1, .heads = 2, .head_dim = 4, .rot_dim = 2, .eps = 0, .rope = rope, .q = q};
    fx.ops.query(fx.ops.ctx, &a);
    assert_close(q[0], 3 / 2.5, 1e-6);
    assert_close(q[1], 4 / 2.5, 1e-6);
    assert_close(q[6], 0, 1e-6);
    assert_close(q[7], 2, 1e-6);
}

/* ---- FP8 and FP4 rounding ---- */

static float fp8(float x, float amax)
{
    float in[2] = {x, amax}, out[2];
    uint8_t codes[2], scale[1];
    ref_fp8_encode(in, 2, codes, scale);
    ref_fp8_decode(codes, scale, 2, out);
    return out[0];
}

static float fp4(float x, float amax)
{
    float in[2] = {x, amax}, out[2];
    uint8_t codes[1], scale[1];
    ref_fp4_encode(in, 2, codes, scale);
    ref_fp4_decode(codes, scale, 2, out);
    return out[0];
}

static void fp8_rounds_to_even_at_ties_and_powers_of_two(void **state)
{
    assert_close(fp8(448, 448), 448, 0);      /* scale exactly 1 */
    /* steps of 2 above 16: 17 is a tie, 16 has the even mantissa */
    assert_close(fp8(17, 448), 16, 0);
    assert_close(fp8(19, 448), 20, 0);
    assert_close(fp8(17.01f, 448), 18, 0);
    assert_close(fp8(17, 449), 16, 0);        /* scale 2: 8.5 is between 8 and 9, tie to 8 */
    assert_close(fp8(0x1p-9f, 448), 0x1p-9, 0);   /* smallest subnormal */
    assert_close(fp8(0x1p-10f, 448), 0, 0);   /* half of it: tie to zero */
    assert_close(fp8(0x1.8p-9f, 448), 0x1p-8, 0);
    assert_close(fp8(-17, 448), -16, 0);
    assert_close(fp8(0, 0), 0, 0);            /* all-zero block uses the floor 1e-4 */
    assert_close(fp8(1e-4f, 0), 1e-4, 1e-4 / 16);
}

static void fp8_blocks_of_64_have_their_own_scale(void **state)
{
    float x[70], y[70];
    uint8_t codes[70], scales[2];
    for (int i = 0; i < 70; i++)
        x[i] = i < 64 ? 1000.0f : 0.5f;
    ref_fp8_encode(x, 70, codes, scales);
    assert_int_equal(scales[0], 127 + 2);     /* 1000 / 448 rounds up to 4 */
    assert_int_equal(scales[1], 127 - 9);     /* 0.5 / 448 = 2^-9.8 rounds up to 2^-9 */
    ref_fp8_decode(codes, scales, 70, y);
    assert_close(y[0], 1024, 0);              /* 250 in steps of 16, tie-free: 256 */
    assert_close(y[69], 0.5, 0);
}

static void fp4_ties_go_to_the_even_code(void **state)
{
    assert_close(fp4(0.25f, 6), 0, 0);
    assert_close(fp4(0.75f, 6), 1, 0);
    assert_close(fp4(1.25f, 6), 1, 0);
    assert_close(fp4(1.75f, 6), 2, 0);
    assert_close(fp4(2.5f, 6), 2, 0);
    assert_close(fp4(3.5f, 6), 4, 0);
    assert_close(fp4(5, 6), 4, 0);
    assert_close(fp4(-5, 6), -4, 0);
    assert_close(fp4(5, 6.01f), 4, 0);        /* scale 2: 2.5 is a tie, to 2 */
    assert_close(fp4(12, 12), 12, 0);         /* power of two exactly: scale 2, not 4 */
}

static void hadamard_is_sylvester_and_orthonormal(void **state)
{
    float x[4] = {1, 2, 3, 4};
    ref_hadamard(x, 4);
    assert_close(x[0], 5, 1e-6);
    assert_close(x[1], -1, 1e-6);
    assert_close(x[2], -2, 1e-6);
    assert_close(x[3], 0, 1e-6);
    ref_hadamard(x, 4);
    assert_close(x[2], 3, 1e-6);
}

static void rows_round_trip_in_both_formats(void **state)
{
    float x[80], y[80];
    for (int i = 0; i < 80; i++)
        x[i] = sinf((float)i) * 3;
    uint8_t row[80 * 4];
    assert_int_equal(kv_main_row_bytes(KV_EXACT, 80, 8), 320);
    /* 72 codes, 2 scales, 2 zero bytes */
    assert_int_equal(kv_main_row_bytes(KV_FP8, 80, 8), 76 + 32);
    assert_int_equal(kv_main_row_bytes(KV_FP8, 512, 64), 456 + 256);
    assert_int_equal(kv_index_row_bytes(KV_FP8, 128), 68);
    ref_main_row_encode(KV_EXACT, x, 80, 8, row);
    ref_main_row_decode(KV_EXACT, row, 80, 8, y);
    assert_memory_equal(x, y, sizeof x);
    ref_main_row_encode(KV_FP8, x, 80, 8, row);
    ref_main_row_decode(KV_FP8, row, 80, 8, y);
    for (int i = 0; i < 80; i++)
        assert_close(y[i], x[i], i < 72 ? fabs(x[i]) / 16 + 1e-3 : 0);
}

/* ---- compressor ---- */

enum { DIM = 4, PAGE = 256 };

/* A tiny sequence memory: one page, tail ring of 32 slots. */
struct memory {
    float tail[32 * 2 * 2 * DIM];
    uint8_t page[64 * DIM * 4];
    uint8_t *pages[1];
};

static void compress_tokens(struct memory *m, int32_t ratio, int64_t pos0, int32_t n,
                            const float *u, const float *z)
{
    int64_t width = ratio == 4 ? 2 * DIM : DIM;
    float ape[128 * 2 * DIM] = {0}, norm[DIM] = {1, 1, 1, 1}, freq[1] = {0}, zs[300 * DIM],
                        us[300 * DIM];
    int32_t token[300] = {0};
    m->pages[0] = m->page;
    memcpy(us, u, (size_t)(n * width) * sizeof *u);
    memcpy(zs, z, (size_t)(n * width) * sizeof *z);
    ape[1] = 0.5f;                            /* token 0 of a window, dim 1 */
    struct row_table rows = one_span(n, pos0, (uint8_t *)m->tail, m->pages, token);
    struct compress_args a = {
        .rows = &rows,
        .ratio = ratio,
        .dim = DIM,
        .rot_dim = 2,
        .eps = 0,
        .format = KV_EXACT,
        .u = us,
        .z = zs,
        .ape = {QUANT_F32, width, ratio, 1, ape},
        .norm = norm,
        .freq = freq,
        .tail_rows = 32,
        .page_tokens = PAGE,
    };
    fx.ops.compress(fx.ops.ctx, &a);
}

static void entry_of(const struct memory *m, int i, float *out)
{
    memcpy(out, m->page + i * DIM * 4, DIM * 4);
}

/* Equal scores pool to the mean; the first window has no predecessor; the second takes the first's
 * first half. */
static void compressor_overlaps_windows_of_four(void **state)
{
    struct memory m;
    float u[8 * 2 * DIM], z[8 * 2 * DIM] = {0}, e[DIM];
    memset(&m, 0xff, sizeof m);
    for (int t = 0; t < 8; t++)
        for (int k = 0; k < 2 * DIM; k++)
            u[t * 2 * DIM + k] =
                (float)(k < DIM ? (t + 1) * (k == 0) : 10 * (t + 1) * (k == DIM + 2));
    compress_tokens(&m, 4, 0, 8, u, z);
    /* window 0: only second halves count: (0, 0, 25, 0), normalised to rms 1 */
    entry_of(&m, 0, e);
    assert_close(e[0], 0, 1e-6);
    assert_close(e[2], 2, 1e-6);
    /* window 1: mean over 8 slots: first half of tokens 0..3: 10/8; second half of tokens 4..7:
     * 260/8 */
    double a = 10.0 / 8, b = 260.0 / 8, rms = sqrt((a * a + b * b) / 4);
    entry_of(&m, 1, e);
    assert_close(e[0], a / rms, 1e-5);
    assert_close(e[2], b / rms, 1e-5);
}

static void compressor_ape_weighs_by_position_in_window(void **state)
{
    struct memory m;
    float u[4 * 2 * DIM] = {0}, z[4 * 2 * DIM] = {0}, e[DIM];
    memset(&m, 0xff, sizeof m);
    for (int t = 0; t < 4; t++) {
        u[t * 2 * DIM + DIM + 0] = 1;
        u[t * 2 * DIM + DIM + 1] = t == 0;
        z[t * 2 * DIM + DIM + 1] = t == 0 ? logf(3) : 0;
    }
    compress_tokens(&m, 4, 0, 4, u, z);
    entry_of(&m, 0, e);
    /* dim 1: softmax weights 3 : 1 : 1 : 1 (its ape is in the first half, which window 0 does not
     * use) */
    assert_close(e[1] / e[0], 0.5, 1e-6);
}

/* Chunks of any size give the same entries: windows that began earlier are read from the tail
 * ring. */
static void compressor_odd_tails_equal_one_chunk(void **state)
{
    static const int cuts[] = {1, 3, 2, 7, 1, 1, 5};
    struct memory whole, parts;
    float u[20 * 2 * DIM], z[20 * 2 * DIM];
    for (int i = 0; i < 20 * 2 * DIM; i++) {
        u[i] = sinf((float)i);
        z[i] = cosf(0.7f * (float)i);
    }
    memset(&whole, 0xff, sizeof whole);
    memset(&parts, 0xff, sizeof parts);
    compress_tokens(&whole, 4, 0, 20, u, z);
    int at = 0;
    for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
        compress_tokens(&parts, 4, at, cuts[c], u + at * 2 * DIM, z + at * 2 * DIM);
        at += cuts[c];
    }
    assert_int_equal(at, 20);
    assert_memory_equal(whole.page, parts.page, sizeof whole.page);
    assert_memory_equal(whole.tail, parts.tail, sizeof whole.tail);
}

static void compressor_single_window_is_rotated_at_its_first_token(void **state)
{
    struct memory m;
    float u[16 * DIM], z[16 * DIM] = {0}, norm[DIM] = {1, 2, 1, 1}, ape[8 * DIM] = {0}, e[DIM];
    float freq[1] = {0.125f};
    int32_t token[16] = {0};
    memset(&m, 0xff, sizeof m);
    m.pages[0] = m.page;
    for (int t = 0; t < 16; t++)
        for (int k = 0; k < DIM; k++)
            u[t * DIM + k] = k == 3 ? 0 : 1;
    struct row_table rows = one_span(16, 0, (uint8_t *)m.tail, m.pages, token);
    struct compress_args a = {
        .rows = &rows,
        .ratio = 8,
        .dim = DIM,
        .rot_dim = 2,
        .eps = 0,
        .format = KV_EXACT,
        .u = u,
        .z = z,
        .ape = {QUANT_F32, DIM, 8, 1, ape},
        .norm = norm,
        .freq = freq,
        .tail_rows = 16,
        .page_tokens = PAGE,
    };
    fx.ops.compress(fx.ops.ctx, &a);
    entry_of(&m, 1, e);                       /* window 8..15: angle 8 * 0.125 = 1 */
    double v = 1 / sqrt(0.75);
    assert_close(e[0], v, 1e-6);
    assert_close(e[1], 2 * v, 1e-6);
    assert_close(e[2], v * cos(1), 1e-6);
    assert_close(e[3], v * sin(1), 1e-6);
}

/* ---- indexer ---- */

static void index_keeps_best_ties_low_and_ascending(void **state)
{
    float keys[64 * 2] = {0}, q[1 * 2 * 2] = {1, 0, 0, 1}, w[2] = {1, -1};
    uint8_t *pages[1] = {(uint8_t *)keys};
    /* head 0 reads x, head 1 (negative weight) reads y; ReLU first */
    float x[6] = {1, 5, -9, 5, 2, 5}, y[6] = {0, 0, -100, 2, 0, 0};
    for (int e = 0; e < 6; e++) {
        keys[2 * e] = x[e];
        keys[2 * e + 1] = y[e];
    }
    int32_t sel[3], count[1], token[1] = {0};
    memset(sel, 0xff, sizeof sel);
    struct row_table rows = one_span(1, 23, NULL, pages, token);   /* 24 / 4 = 6 visible */
    struct index_select_args a = {
        .rows = &rows,
        .heads = 2,
        .ratio = 4,
        .top_k = 3,
        .dim = 2,
        .weight_scale = 0.5f,
        .format = KV_EXACT,
        .q = q,
        .w = w,
        .page_tokens = PAGE,
        .sel = sel,
        .count = count,
    };
    fx.ops.index_select(fx.ops.ctx, &a);
    /* scores (halved): 1, 5, 0, 3, 2, 5 */
    assert_int_equal(count[0], 3);
    assert_int_equal(sel[0], 1);
    assert_int_equal(sel[1], 3);
    assert_int_equal(sel[2], 5);
    /* now 1, 3 and 5 tie; two places: the lower entries win */
    keys[2 * 3 + 1] = 0;
    a.top_k = 2;
    fx.ops.index_select(fx.ops.ctx, &a);
    assert_int_equal(sel[0], 1);
    assert_int_equal(sel[1], 3);
}

static void index_takes_all_when_they_fit(void **state)
{
    uint8_t *pages[1] = {NULL};               /* no key may be read */
    int32_t sel[8], count[2], token[2] = {0};
    struct row_table rows = one_span(2, 6, NULL, pages, token);
    struct index_select_args a = {.rows = &rows,
                                  .heads = 1,
                                  .ratio = 4,
                                  .top_k = 4,
                                  .dim = 2,
                                  .format = KV_EXACT,
                                  .page_tokens = PAGE,
                                  .sel = sel,
                                  .count = count};
    fx.ops.index_select(fx.ops.ctx, &a);
    /* position 6: the entry that closes at 7 is not visible yet */
    assert_int_equal(count[0], 1);
    assert_int_equal(count[1], 2);            /* position 7 sees it */
    assert_int_equal(sel[4], 0);
    assert_int_equal(sel[5], 1);
}

/* ---- attention ---- */

struct attend {
    float q[2 * 4], rows[8 * 4], ring[8 * 4], entries[64 * 4], sinks[2], rope[8 * 2], o[2 * 2 * 4];
};

static struct attention_args attend_args(struct attend *m, const struct row_table *rows)
{
    return (struct attention_args){
        .rows = rows,
        .heads = 2,
        .window = 4,
        .ratio = 0,
        .head_dim = 4,
        .rot_dim = 2,
        .scale = 0.5f,
        .format = KV_EXACT,
        .q = m->q,
        .batch_rows = (uint8_t *)m->rows,
        .sinks = m->sinks,
        .rope = m->rope,
        .ring_rows = 8,
        .page_tokens = PAGE,
        .o = m->o,
    };
}

/* One key: its weight is 1 / (1 + exp(sink - score)). */
static void sink_takes_weight_but_gives_no_value(void **state)
{
    struct attend m = {.q = {2, 0, 0, 0, 0, 0, 0, 0}, .rows = {3, 1, 0, 0}, .sinks = {1, -1000},
                       .rope = {1, 0}};
    int32_t token[1] = {0};
    struct row_table rows = one_span(1, 0, (uint8_t *)m.ring, NULL, token);
    struct attention_args a = attend_args(&m, &rows);
    poison(m.o, 8);
    fx.ops.attention(fx.ops.ctx, &a);
    double w = 1 / (1 + exp(1.0 - 3.0));
    assert_close(m.o[0], 3 * w, 1e-6);
    assert_close(m.o[1], 1 * w, 1e-6);
    assert_close(m.o[4], 3, 1e-6);
    assert_close(m.o[5], 1, 1e-6);
}

/* Zero queries weigh all keys alike: the output is the mean over exactly the window. */
static void window_reaches_into_the_ring_and_no_further(void **state)
{
    struct attend m = {.sinks = {-1000, -1000}, .rope = {1, 0, 1, 0}};
    int32_t token[2] = {0};
    float q[2 * 2 * 4] = {0};
    for (int p = 0; p < 8; p++)
        m.ring[p * 4] = (float)(1 << p);      /* positions 0..7 in slots 0..7 */
    m.rows[0] = 100;                          /* position 8 */
    m.rows[4] = 1000;                         /* position 9 */
    struct row_table rows = one_span(2, 8, (uint8_t *)m.ring, NULL, token);
    struct attention_args a = attend_args(&m, &rows);
    a.q = q;
    fx.ops.attention(fx.ops.ctx, &a);
    assert_close(m.o[0], (32 + 64 + 128 + 100) / 4.0, 1e-4);
    assert_close(m.o[8], (64 + 128 + 100 + 1000) / 4.0, 1e-4);
}

static void unselected_entries_have_no_effect(void **state)
{
    struct attend m = {.sinks = {-1000, -1000}, .rope = {1, 0}};
    int32_t token[1] = {0}, sel[2] = {1, 3}, count[1] = {2};
    uint8_t *pages[1] = {(uint8_t *)m.entries};
    m.rows[0] = 10;
    for (int e = 0; e < 5; e++)
        m.entries[e * 4] = (float)(e + 1);
    struct row_table rows = one_span(1, 20, (uint8_t *)m.ring, pages, token);
    struct attention_args a = attend_args(&m, &rows);
    a.window = 1;
    a.ratio = 4;
    a.sel = sel;
    a.sel_count = count;
    a.sel_stride = 2;
    fx.ops.attention(fx.ops.ctx, &a);
    assert_close(m.o[0], (10 + 2 + 4) / 3.0, 1e-5);
    m.entries[0] = m.entries[2 * 4] = m.entries[4 * 4] = NAN;
    fx.ops.attention(fx.ops.ctx, &a);
    assert_close(m.o[0], (10 + 2 + 4) / 3.0, 1e-5);
    a.sel = NULL;                             /* all five visible ones */
    for (int e = 0; e < 5; e++)
        m.entries[e * 4] = (float)(e + 1);
    m.entries[5 * 4] = NAN;                   /* closes at 23: not visible at 20 */
    fx.ops.attention(fx.ops.ctx, &a);
    assert_close(m.o[0], (10 + 1 + 2 + 3 + 4 + 5) / 6.0, 1e-5);
}

static void output_is_rotated_back(void **state)
{
    struct attend m = {.rows = {0, 0, 1, 0}, .sinks = {-1000, -1000}, .rope = {0, 1}};
    int32_t token[1] = {0};
    struct row_table rows = one_span(1, 0, (uint8_t *)m.ring, NULL, token);
    struct attention_args a = attend_args(&m, &rows);
    fx.ops.attention(fx.ops.ctx, &a);
    assert_close(m.o[2], 0, 1e-6);            /* (1, 0) turned by minus a quarter is (0, -1) */
    assert_close(m.o[3], -1, 1e-6);
}

static void ring_keeps_the_newest_rows(void **state)
{
    uint8_t ring[4] = {0}, batch[6] = {10, 11, 12, 13, 14, 15};
    int32_t token[6] = {0};
    struct row_table rows = one_span(6, 3, ring, NULL, token);
    struct ring_store_args a = {.rows = &rows, .row_bytes = 1, .batch_rows = batch, .ring_rows = 4};
    fx.ops.ring_store(fx.ops.ctx, &a);
    /* positions 5..8 remain: 12, 13, 14, 15 in slots 1, 2, 3, 0 */
    const uint8_t expected[4] = {15, 12, 13, 14};
    assert_memory_equal(ring, expected, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope_rotates_interleaved_pairs),
        cmocka_unit_test(rope_angle_is_the_float_product),
        cmocka_unit_test(query_norm_has_no_weight_and_only_the_tail_turns),
        cmocka_unit_test(fp8_rounds_to_even_at_ties_and_powers_of_two),
        cmocka_unit_test(fp8_blocks_of_64_have_their_own_scale),
        cmocka_unit_test(fp4_ties_go_to_the_even_code),
        cmocka_unit_test(hadamard_is_sylvester_and_orthonormal),
        cmocka_unit_test(rows_round_trip_in_both_formats),
        cmocka_unit_test(compressor_overlaps_windows_of_four),
        cmocka_unit_test(compressor_ape_weighs_by_position_in_window),
        cmocka_unit_test(compressor_odd_tails_equal_one_chunk),
        cmocka_unit_test(compressor_single_window_is_rotated_at_its_first_token),
        cmocka_unit_test(index_keeps_best_ties_low_and_ascending),
        cmocka_unit_test(index_takes_all_when_they_fit),
        cmocka_unit_test(sink_takes_weight_but_gives_no_value),
        cmocka_unit_test(window_reaches_into_the_ring_and_no_further),
        cmocka_unit_test(unselected_entries_have_no_effect),
        cmocka_unit_test(output_is_rotated_back),
        cmocka_unit_test(ring_keeps_the_newest_rows),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
