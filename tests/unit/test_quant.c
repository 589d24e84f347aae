/* Block formats against values worked out by hand from section 2.5, and the small number formats
 * exhaustively. */
#include "support/unit.h"

#include "formats/quant.h"
#include "ops/ref/dequant_ref.h"
#include "ops/ref/numfmt.h"

#define F16_HALF 0x3800
#define F16_ONE 0x3c00
#define F16_TWO 0x4000
#define F16_FOUR 0x4400

struct want {
    int i;
    float y;
};

/* The block gives these values, fills every value and writes nothing beyond; also from an odd
 * address. */
static void check_values(enum quant_type type, const void *block, const struct want *want,
                         size_t n_want)
{
    const struct quant_info *info = quant_info(type);
    uint8_t moved[512];
    float y[258];
    for (int shift = 0; shift < 2; shift++) {
        memcpy(moved + shift, block, info->block_bytes);
        poison(y, 258);
        dequant_row(type, moved + shift, y + 1, info->block_elems);
        assert_true(isnan(y[0]) && isnan(y[info->block_elems + 1]));
        for (uint32_t i = 0; i < info->block_elems; i++)
            assert_true(isfinite(y[i + 1]));
        for (size_t k = 0; k < n_want; k++)
            if (y[want[k].i + 1] != want[k].y)
                fail_msg("%s value %d: found %g, expected %g", info->name, want[k].i,
                         y[want[k].i + 1], want[k].y);
    }
}

#define CHECK(type, block, ...)                                                                    \
    do {                                                                                           \
        const struct want want_[] = {__VA_ARGS__};                                                 \
        check_values(type, block, want_, sizeof want_ / sizeof want_[0]);                          \
    } while (0)

static void test_blocks_of_32(void **state)
{
    (void)state;
    struct block_q8_0 q8 = {.d = F16_HALF, .q = {[0] = -128, [31] = 127}};
    CHECK(QUANT_Q8_0, &q8, {0, -64}, {1, 0}, {31, 63.5f});
    struct block_q4_0 q4 = {.d = F16_TWO, .qs = {[0] = 0xf0, [15] = 0x08}};
    CHECK(QUANT_Q4_0, &q4, {0, -16}, {16, 14}, {15, 0}, {31, -16});
    struct block_iq4_nl nl = {.d = F16_ONE, .qs = {[0] = 0xf0, [3] = 0x87}};
    CHECK(QUANT_IQ4_NL, &nl, {0, -127}, {16, 113}, {3, -10}, {19, 1});
    struct block_mxfp4 mx = {.e = 128, .qs = {[0] = 0x9f, [15] = 0x70}};
    CHECK(QUANT_MXFP4, &mx, {0, -12}, {16, -1}, {15, 0}, {31, 12});
    mx.e = 0;
    CHECK(QUANT_MXFP4, &mx, {0, -6 * 0x1p-127f}, {31, 6 * 0x1p-127f});
}

static void test_plain(void **state)
{
    (void)state;
    float y[3];
    poison(y, 3);
    dequant_row(QUANT_F16, (uint16_t[]){F16_ONE, 0xc000, 0x0001}, y, 3);
    assert_true(y[0] == 1 && y[1] == -2 && y[2] == 0x1p-24f);
    poison(y, 3);
    dequant_row(QUANT_BF16, (uint16_t[]){0x3f80, 0xc040, 0x0001}, y, 3);
    assert_true(y[0] == 1 && y[1] == -3 && y[2] == 0x1p-133f);
    poison(y, 3);
    dequant_row(QUANT_F32, (float[]){1, -0.1f, 3}, y, 3);
    assert_true(y[0] == 1 && y[1] == -0.1f && y[2] == 3);
}

static void test_k_small(void **state)
{
    (void)state;
    struct block_q2_k q2 = {.d = F16_ONE, .dmin = F16_HALF, .qs = {[0] = 0xe4, [53] = 0xc0},
                            .sc = {[0] = 0x23, [2] = 0x01, [4] = 0x10, [6] = 0x0f, [15] = 0x72}};
    CHECK(QUANT_Q2_K, &q2, {0, -1}, {32, 1}, {64, -0.5f}, {96, 45}, {245, 2.5f}, {244, -3.5f},
          {16, 0});
    /* scales 0, 8, 4, 12: 33, 50, 10, 5; every other is 0 and counts as -32 */
    struct block_q3_k q3 = {.d = F16_ONE, .hm = {0x11}, .qs = {[0] = 0x02, [32] = 0x03},
                            .sc = {[0] = 0x21, [4] = 0x5a, [8] = 0x32}};
    CHECK(QUANT_Q3_K, &q3, {0, 2}, {1, -4}, {128, 54}, {129, -72}, {64, 88}, {192, 108}, {16, 128});
}

static void test_k_large(void **state)
{
    (void)state;
    struct block_q4_k q4 = {.d = F16_ONE,
                            .dmin = F16_HALF,
                            .qs = {[0] = 0x73, [64] = 0x0a, [127] = 0x90},
                            .sc = {0xc1, 0x05, 0, 0x40, 0x82, 0x04, 0, 0, 0x53, 0, 0, 0xf1}};
    CHECK(QUANT_Q4_K, &q4, {0, 2}, {1, -1}, {32, 33}, {33, -2}, {128, 491.5f}, {129, -18.5f},
          {255, 145.5f}, {223, 0});
    struct block_q5_k q5 = {.d = F16_ONE, .dmin = F16_HALF, .qh = {[0] = 0x13, [31] = 0x80}};
    memcpy(q5.sc, q4.sc, sizeof q5.sc);
    memcpy(q5.qs, q4.qs, sizeof q5.qs);
    CHECK(QUANT_Q5_K, &q5, {0, 18}, {1, -1}, {32, 113}, {128, 1307.5f}, {129, -18.5f},
          {255, 417.5f});
    struct block_q6_k q6 = {.d = F16_HALF, .ql = {[0] = 0x21, [32] = 0x43}, .qh = {0xe4},
                            .sc = {[0] = 2, [2] = -1, [4] = 4, [6] = 127, [9] = -128}};
    CHECK(QUANT_Q6_K, &q6, {0, -31}, {32, 6.5f}, {64, 4}, {96, 1270}, {159, 2048}, {16, 0});
    struct block_iq4_xs xs = {
        .d = F16_ONE, .sh = 0x0006, .sl = {0xf3}, .qs = {[0] = 0xf0, [16] = 0x08}};
    CHECK(QUANT_IQ4_XS, &xs, {0, -381}, {16, 339}, {32, -1}, {48, 127}, {255, 4064}, {239, 4064});
}

static void test_iq2(void **state)
{
    (void)state;
    struct block_iq2_xxs xxs = {.d = F16_FOUR,
                                .qs = {[0] = 1, [2] = 1, [29] = 0xff00, [31] = 0x1040}};
    CHECK(QUANT_IQ2_XXS, &xxs, {0, -21.5f}, {1, 4}, {7, -4}, {8, 4}, {249, -37.5f}, {253, 64.5f},
          {255, -64.5f}, {248, 12});
    struct block_iq2_xs xs = {.d = F16_FOUR, .sc = {[0] = 0x10, [7] = 0xf0},
                              .qs = {[0] = 1 | 1 << 9, [2] = 511, [31] = 0xffff}};
    CHECK(QUANT_IQ2_XS, &xs, {0, -21.5f}, {1, 4}, {7, -4}, {16, 64.5f}, {23, 64.5f}, {248, -666.5f},
          {255, -666.5f});
    struct block_iq2_s s = {.d = F16_FOUR, .sc = {[7] = 0xf0}, .qs = {[0] = 1, [31] = 255},
                            .signs = {[0] = 0x01, [31] = 0x80}, .qh = {[7] = 0xc0}};
    CHECK(QUANT_IQ2_S, &s, {0, -21.5f}, {7, 4}, {254, 666.5f}, {255, -666.5f});
}

static void test_iq3_iq1(void **state)
{
    (void)state;
    struct block_iq3_xxs xxs = {.d = F16_TWO, .qs = {[0] = 1, [63] = 255}, .ss = {[31] = 0x18}};
    CHECK(QUANT_IQ3_XXS, &xxs, {0, 10}, {1, 2}, {252, 6}, {253, 42}, {254, -78}, {255, -93});
    struct block_iq3_s s = {.d = F16_HALF,
                            .sc = {[0] = 0x10, [3] = 0xf0},
                            .qs = {[0] = 1, [63] = 255},
                            .signs = {0x81},
                            .qh = {[7] = 0x80}};
    CHECK(QUANT_IQ3_S, &s, {0, -1.5f}, {1, 0.5f}, {7, -0.5f}, {32, 1.5f}, {248, 15.5f},
          {253, 15.5f}, {254, 232.5f}, {255, 232.5f});
    struct block_iq1_s one = {.d = F16_TWO, .qs = {[0] = 1, [31] = 255}, .qh = {[7] = 0x9e00}};
    CHECK(QUANT_IQ1_S, &one, {0, 2.25f}, {1, -1.75f}, {255, 5.25f}, {224, -6.75f});
}

static void test_sizes(void **state)
{
    (void)state;
    assert_null(quant_info(QUANT_TYPE_LIMIT));
    assert_null(quant_info(UINT32_MAX));
    assert_null(quant_info(3));
    assert_true(quant_row_bytes(QUANT_IQ2_XXS, 4096) == 16 * 66);
    assert_true(quant_row_bytes(QUANT_MXFP4, 4096) == 128 * 17);
    assert_true(quant_row_bytes(QUANT_F32, 7) == 28);
    assert_true(quant_row_bytes(QUANT_Q4_K, 0) == 0);
    /* one Flash expert: gate and up {4096, 2048}, down {2048, 4096} */
    assert_true(2 * 2048 * quant_row_bytes(QUANT_IQ2_XXS, 4096) +
                    4096 * quant_row_bytes(QUANT_Q2_K, 2048) ==
                7077888);
    assert_true(3 * 2048 * quant_row_bytes(QUANT_Q4_K, 4096) == 14155776);
    assert_true(3 * 2048 * quant_row_bytes(QUANT_MXFP4, 4096) == 13369344);
    assert_string_equal(quant_info(QUANT_IQ3_XXS)->name, "IQ3_XXS");
}

/* Value of a binary format with `mant` mantissa bits and this exponent bias; no infinities. */
static double field_value(unsigned code, int mant, int bias)
{
    unsigned e = code >> mant, m = code & ((1u << mant) - 1);
    return e ? ldexp(1 + ldexp(m, -mant), (int)e - bias) : ldexp(m, 1 - bias - mant);
}

static void test_f16(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float x = f16_to_f32((uint16_t)h);
        unsigned a = h & 0x7fff;
        if (a > 0x7c00) {
            assert_true(isnan(x) && isnan(f16_to_f32(f32_to_f16(x))));
            continue;
        }
        assert_int_equal(f32_to_f16(x), h);
        assert_true(!signbit(x) == !(h & 0x8000));
        if (a < 0x7c00)
            assert_true(fabs((double)x) == field_value(a, 10, 15));
    }
    for (unsigned h = 0; h < 0x7bff; h++) {
        float middle = (f16_to_f32((uint16_t)h) + f16_to_f32((uint16_t)(h + 1))) / 2;
        assert_int_equal(f32_to_f16(middle), h + (h & 1));
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(f32_to_f16(-nextafterf(middle, INFINITY)), (h + 1) | 0x8000);
    }
    assert_int_equal(f32_to_f16(nextafterf(65520, 0)), 0x7bff);
    assert_int_equal(f32_to_f16(65520), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
}

static void test_bf16(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float x = bf16_to_f32((uint16_t)h);
        if (isnan(x))
            assert_true(isnan(bf16_to_f32(f32_to_bf16(x))));
        else
            assert_int_equal(f32_to_bf16(x), h);
    }
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3f808000)), 0x3f80);
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3f818000)), 0x3f82);
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3f808001)), 0x3f81);
    assert_true(isnan(bf16_to_f32(f32_to_bf16(f32_from_bits(0x7f800001)))));
    assert_int_equal(f32_to_bf16(3.4e38f), 0x7f80);
}

static void test_e4m3(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 256; b++) {
        float x = e4m3_to_f32((uint8_t)b);
        if ((b & 0x7f) == 0x7f) {
            assert_true(isnan(x));
            continue;
        }
        assert_true(fabs((double)x) == field_value(b & 0x7f, 3, 7));
        assert_int_equal(f32_to_e4m3(x), b);
    }
    for (unsigned b = 0; b < 0x7e; b++) {
        float middle = (e4m3_to_f32((uint8_t)b) + e4m3_to_f32((uint8_t)(b + 1))) / 2;
        assert_int_equal(f32_to_e4m3(middle), b + (b & 1));
        assert_int_equal(f32_to_e4m3(nextafterf(middle, 0)), b);
        assert_int_equal(f32_to_e4m3(-nextafterf(middle, INFINITY)), (b + 1) | 0x80);
    }
    assert_int_equal(f32_to_e4m3(448), 0x7e);
    assert_int_equal(f32_to_e4m3(1e30f), 0x7e);
    assert_int_equal(f32_to_e4m3(-INFINITY), 0xfe);
    assert_int_equal(f32_to_e4m3(NAN) & 0x7f, 0x7f);
    assert_int_equal(f32_to_e4m3(0x1p-149f), 0);
}

static void test_e2m1_e8m0(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 16; c++)
        assert_int_equal(f32_to_e2m1(e2m1_to_f32((uint8_t)c)), c);
    for (unsigned c = 0; c < 7; c++) {
        float middle = (e2m1_to_f32((uint8_t)c) + e2m1_to_f32((uint8_t)(c + 1))) / 2;
        assert_true(fabs((double)e2m1_to_f32((uint8_t)c)) == field_value(c, 1, 1));
        assert_int_equal(f32_to_e2m1(middle), c + (c & 1));
        assert_int_equal(f32_to_e2m1(nextafterf(middle, 0)), c);
        assert_int_equal(f32_to_e2m1(-nextafterf(middle, INFINITY)), (c + 1) | 8);
    }
    assert_int_equal(f32_to_e2m1(INFINITY), 7);
    for (int e = 0; e < 255; e++)
        assert_true((double)e8m0_to_f32((uint8_t)e) == ldexp(1, e - 127));
    assert_true(isnan(e8m0_to_f32(255)));
}

static void test_tables(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 128; i++) {
        assert_int_equal(quant_ksigns[i] & 127, i);
        assert_int_equal(__builtin_popcount(quant_ksigns[i]) % 2, 0);
    }
    for (int i = 1; i < 16; i++)
        assert_true(quant_iq4_values[i] > quant_iq4_values[i - 1]);
    /* code 0xa904 of the last entry: levels 0 1 0 0 1 2 2 2 */
    assert_true(quant_grid_iq2_xxs[255] == 0x2b2b2b1908081908);
    assert_true(quant_grid_iq3_xxs[255] == 0x3e341c04);
    assert_true(quant_grid_iq3_s[511] == 0x0f0f0101);
    assert_true(quant_grid_iq1_s[0] == UINT64_MAX && quant_grid_iq1_s[2047] == 0x0101010101010101);
    assert_true(quant_grid_iq2_xs[511] == 0x2b2b2b2b2b2b2b2b &&
                quant_grid_iq2_s[1023] == 0x2b2b2b2b2b2b2b2b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_of_32), cmocka_unit_test(test_plain),
        cmocka_unit_test(test_k_small),      cmocka_unit_test(test_k_large),
        cmocka_unit_test(test_iq2),          cmocka_unit_test(test_iq3_iq1),
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),         cmocka_unit_test(test_e4m3),
        cmocka_unit_test(test_e2m1_e8m0),    cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
