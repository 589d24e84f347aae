/* Reading the shape: what is accepted, what is refused and how it is named. */
#include "model/shape.h"

#include "support/tiny_model.h"

#define P "deepseek4."

static struct sluice_error err;

static enum sluice_status read_edited(struct tiny_edit edit, struct shape *s)
{
    struct tiny_model t;
    tiny_make(&t, edit);
    struct gguf *g = tiny_open(&t);
    err.message[0] = '\0';
    enum sluice_status st = shape_read(g, s, &err);
    gguf_close(g);
    free(t.bytes);
    return st;
}

static void accept(struct tiny_edit edit, struct shape *s)
{
    if (read_edited(edit, s) != SLUICE_OK)
        fail_msg("%s: %s", edit.name ? edit.name : "unedited", err.message);
}

/* Refused with a message that has every one of the words (separated by |). */
static void refuse(struct tiny_edit edit, const char *words)
{
    struct shape s;
    char word[128];
    assert_int_equal(read_edited(edit, &s), SLUICE_ERR_MODEL);
    for (const char *at = words; *at;) {
        size_t n = strcspn(at, "|");
        memcpy(word, at, n);
        word[n] = '\0';
        if (!strstr(err.message, word))
            fail_msg("\"%s\" does not say \"%s\"", err.message, word);
        at += n + (at[n] == '|');
    }
}

static void every_field_is_read(void **state)
{
    struct shape s;
    accept((struct tiny_edit){0}, &s);
    assert_int_equal(s.n_layer, 3);
    assert_int_equal(s.n_ctx_max, 4096);
    assert_int_equal(s.n_vocab, 10);
    assert_int_equal(s.dim, 32);
    assert_int_equal(s.n_stream, 4);
    assert_int_equal(s.n_head, 2);
    assert_int_equal(s.head_dim, 16);
    assert_int_equal(s.rot_dim, 4);
    assert_int_equal(s.q_rank, 32);
    assert_int_equal(s.n_group, 2);
    assert_int_equal(s.o_rank, 8);
    assert_int_equal(s.n_expert, 3);
    assert_int_equal(s.n_used, 2);
    assert_int_equal(s.inner, 64);
    assert_int_equal(s.n_hash_layer, 1);
    assert_int_equal(s.window, 8);
    assert_int_equal(s.n_index_head, 2);
    assert_int_equal(s.index_dim, 8);
    assert_int_equal(s.index_top_k, 3);
    assert_int_equal(s.sinkhorn_iters, 20);
    assert_int_equal(s.yarn_original_ctx, 64);
    assert_close(s.expert_scale, 1.5, 0);
    assert_close(s.rope_base, 10000, 0);
    assert_close(s.rope_base_compressed, 160000, 0);
    assert_int_equal(s.ratio[1], 4);
    assert_int_equal(s.ratio[2], 128);
    assert_close(s.limit[2], 8, 0);
    assert_close(s.shared_limit[1], 9, 0);
    assert_int_equal(s.n_mtp, 0);
    assert_string_equal(shape_name(&s), "custom");
}

static void widths_vary(void **state)
{
    static const double clamps[] = {1, 2, 3};
    struct shape s;
    accept((struct tiny_edit){P "rope.scaling.original_context_length", TINY_U64, .number = 65536},
           &s);
    assert_int_equal(s.yarn_original_ctx, 65536);
    accept((struct tiny_edit){P "swiglu_clamp_exp", TINY_F64S, .data = clamps, .count = 3}, &s);
    assert_close(s.limit[1], 2, 0);
    assert_close(s.shared_limit[2], 3, 0);
    accept((struct tiny_edit){P "block_count", TINY_U64, .number = 3}, &s);
}

static void arrays_may_be_longer(void **state)
{
    static const int32_t ratios[] = {128, 128, 4, 0, 77};
    static const float clamps[] = {1, 2, 3, 4};
    struct shape s, mtp;
    accept((struct tiny_edit){P "attention.compress_ratios", TINY_I32S, .data = ratios, .count = 5},
           &s);
    assert_int_equal(s.ratio[0], 128);
    assert_int_equal(s.ratio[3], 0);
    accept((struct tiny_edit){P "swiglu_clamp_exp", TINY_F32S, .data = clamps, .count = 4}, &s);
    assert_close(s.limit[2], 3, 0);
    /* What follows the layers belongs to the MTP block. */
    shape_mtp(&s, &mtp);
    assert_int_equal(mtp.n_layer, 1);
    assert_int_equal(mtp.ratio[0], 0);
    assert_int_equal(mtp.n_hash_layer, 0);
    assert_close(mtp.limit[0], 4, 0);
}

static void arrays_may_not_be_shorter_or_wrong(void **state)
{
    static const int32_t ratios[] = {0, 4, 64};
    static const float clamps[] = {10, -1, 10};
    refuse((struct tiny_edit){P "attention.compress_ratios", TINY_I32S, .data = ratios, .count = 2},
           "compress_ratios|at least 3|found 2");
    refuse((struct tiny_edit){P "attention.compress_ratios", TINY_I32S, .data = ratios, .count = 3},
           "compress_ratios[2]|0, 4 or 128|found 64");
    refuse((struct tiny_edit){P "attention.compress_ratios", TINY_U32, .number = 4},
           "compress_ratios|an array");
    refuse((struct tiny_edit){P "swiglu_clamp_exp", TINY_F32S, .data = clamps, .count = 3},
           "swiglu_clamp_exp[1]|above 0|-1");
    refuse((struct tiny_edit){P "swiglu_clamp_exp", TINY_F32S, .data = clamps, .count = 1},
           "swiglu_clamp_exp|at least 3|found 1");
}

static void other_architectures_are_refused_by_name(void **state)
{
    refuse((struct tiny_edit){"general.architecture", TINY_STRING, .text = "llama"},
           "expected deepseek4|found llama");
    refuse((struct tiny_edit){"general.architecture", TINY_STRING, .text = "deepseek41"},
           "V4.1|not supported");
    refuse((struct tiny_edit){P "engram.count", TINY_U32, .number = 2}, "V4.1|engram.count");
    refuse(
        (struct tiny_edit){"blk.1.attn_q_a.weight", TINY_RENAME, .text = "blk.1.engram_k.weight"},
        "V4.1|blk.1.engram_k.weight");
}

static void early_forks_are_refused_with_what_they_lack(void **state)
{
    refuse((struct tiny_edit){P "attention.compress_ratios", .what = TINY_DROP},
           "early|compress_ratios");
    refuse((struct tiny_edit){P "hash_layer_count", .what = TINY_DROP}, "early|hash_layer_count");
    refuse((struct tiny_edit){P "hyper_connection.sinkhorn_iterations", .what = TINY_DROP},
           "early|sinkhorn");
    refuse((struct tiny_edit){P "hyper_connection.epsilon", .what = TINY_DROP}, "early|epsilon");
}

static void missing_keys_are_named(void **state)
{
    static const char *const key[] = {
        "general.architecture",
        P "block_count",
        P "context_length",
        P "embedding_length",
        P "vocab_size",
        P "attention.head_count",
        P "attention.key_length",
        P "rope.dimension_count",
        P "attention.q_lora_rank",
        P "attention.output_lora_rank",
        P "attention.output_group_count",
        P "attention.sliding_window",
        P "attention.indexer.head_count",
        P "attention.indexer.key_length",
        P "attention.indexer.top_k",
        P "expert_count",
        P "expert_used_count",
        P "expert_feed_forward_length",
        P "hyper_connection.count",
        P "rope.scaling.original_context_length",
        P "rope.freq_base",
        P "attention.compress_rope_freq_base",
        P "rope.scaling.factor",
        P "rope.scaling.yarn_beta_fast",
        P "rope.scaling.yarn_beta_slow",
        P "rope.scaling.type",
        P "attention.layer_norm_rms_epsilon",
        P "expert_weights_scale",
        P "expert_weights_norm",
        P "swiglu_clamp_exp",
    };
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
        refuse((struct tiny_edit){key[i], .what = TINY_DROP}, key[i]);
}

static void zero_and_absurd_sizes_are_refused(void **state)
{
    static const char *const key[] = {
        "block_count",
        "context_length",
        "embedding_length",
        "vocab_size",
        "attention.head_count",
        "attention.key_length",
        "rope.dimension_count",
        "attention.q_lora_rank",
        "attention.output_lora_rank",
        "attention.output_group_count",
        "attention.sliding_window",
        "attention.indexer.head_count",
        "attention.indexer.key_length",
        "attention.indexer.top_k",
        "expert_count",
        "expert_used_count",
        "expert_feed_forward_length",
        "hyper_connection.count",
        "hyper_connection.sinkhorn_iterations",
        "rope.scaling.original_context_length",
    };
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
        char name[96];
        snprintf(name, sizeof(name), P "%s", key[i]);
        refuse((struct tiny_edit){name, TINY_U32, .number = 0}, name);
        refuse((struct tiny_edit){name, TINY_U32, .number = 4294967295.0}, name);
        refuse((struct tiny_edit){name, TINY_F32, .number = 4}, name);
    }
}

static void sizes_must_fit_together(void **state)
{
    refuse((struct tiny_edit){P "rope.dimension_count", TINY_U32, .number = 3},
           "dimension_count|even");
    refuse((struct tiny_edit){P "rope.dimension_count", TINY_U32, .number = 18},
           "dimension_count|16|18");
    refuse((struct tiny_edit){P "attention.output_group_count", TINY_U32, .number = 4},
           "group_count|divisor");
    refuse((struct tiny_edit){P "expert_used_count", TINY_U32, .number = 4},
           "expert_used_count|3|4");
    refuse((struct tiny_edit){P "hash_layer_count", TINY_U32, .number = 4}, "hash_layer_count|3|4");
    refuse((struct tiny_edit){P "attention.value_length", TINY_U32, .number = 8},
           "value_length|16|8");
    refuse((struct tiny_edit){P "attention.head_count_kv", TINY_U32, .number = 2},
           "head_count_kv|1|2");
    refuse((struct tiny_edit){P "expert_shared_count", TINY_U32, .number = 2},
           "expert_shared_count");
    refuse((struct tiny_edit){P "expert_gating_func", TINY_U32, .number = 2}, "expert_gating_func");
    refuse((struct tiny_edit){P "expert_group_count", TINY_U32, .number = 8}, "expert_group_count");
    refuse((struct tiny_edit){P "attention.indexer.key_length", TINY_U32, .number = 2},
           "key_length|4");
    refuse((struct tiny_edit){P "attention.indexer.key_length", TINY_U32, .number = 12},
           "power of two");
    refuse((struct tiny_edit){P "rope.scaling.type", TINY_STRING, .text = "linear"}, "yarn|linear");
    refuse((struct tiny_edit){P "rope.freq_base", TINY_F32, .number = -1}, "freq_base|above 0");
    refuse((struct tiny_edit){P "hyper_connection.epsilon", TINY_F32, .number = (double)NAN},
           "epsilon|finite");
}

/* Without ratio-4 layers the indexer's keys are not needed; without compressed layers neither is
 * YaRN. */
static void unused_keys_may_be_missing(void **state)
{
    static const int32_t plain[] = {0, 0, 0};
    struct tiny_model t;
    struct shape s;
    tiny_start(&t, (struct tiny_edit){P "attention.compress_ratios", TINY_I32S, .data = plain,
                                      .count = 3});
    tiny_finish(&t);
    struct gguf *g = tiny_open(&t);
    assert_int_equal(shape_read(g, &s, &err), SLUICE_OK);
    assert_int_equal(s.n_index_head, 0);
    assert_int_equal(s.index_top_k, 0);
    gguf_close(g);
    free(t.bytes);
}

static void announced_mtp_blocks_count_only_with_tensors(void **state)
{
    struct shape s;
    accept((struct tiny_edit){P "nextn_predict_layers", TINY_U32, .number = 1}, &s);
    assert_int_equal(s.n_layer, 3);
    assert_int_equal(s.n_mtp, 0);
    /* The block counted among the layers, then not counted. */
    accept((struct tiny_edit){"blk.2.attn_q_a.weight", TINY_RENAME,
                              .text = "blk.2.nextn.eh_proj.weight"},
           &s);
    assert_int_equal(s.n_layer, 2);
    assert_int_equal(s.n_mtp, 1);
    accept((struct tiny_edit){"blk.2.attn_q_a.weight", TINY_RENAME,
                              .text = "blk.3.nextn.eh_proj.weight"},
           &s);
    assert_int_equal(s.n_layer, 3);
    assert_int_equal(s.n_mtp, 1);
}

/* Section 3.5's figures for Flash: low 15, high 25. */
static void frequencies_follow_yarn(void **state)
{
    struct shape s = {.rot_dim = 64,
                      .rope_base = 10000,
                      .rope_base_compressed = 160000,
                      .yarn_factor = 16,
                      .yarn_beta_fast = 32,
                      .yarn_beta_slow = 1,
                      .yarn_original_ctx = 65536};
    float f[32];
    shape_rope_freqs(&s, /*compressed=*/false, f);
    assert_close(f[0], 1, 0);
    assert_close(f[8], 0.1, 1e-8);
    assert_close(f[16], 0.01, 1e-9);
    shape_rope_freqs(&s, /*compressed=*/true, f);
    double g15 = pow(160000, -30.0 / 64), g20 = pow(160000, -40.0 / 64),
           g25 = pow(160000, -50.0 / 64);
    assert_close(f[0], 1, 0);
    assert_close(f[15] / g15, 1, 1e-6);
    assert_close(f[20] / g20, 0.5 / 16 + 0.5, 1e-6);
    assert_close(f[25] / g25, 1.0 / 16, 1e-7);
    assert_close(f[31], pow(160000, -62.0 / 64) / 16, 1e-12);
    /* A short original context: both ends of the ramp meet at 0. */
    s.rot_dim = 4;
    s.yarn_original_ctx = 4;
    shape_rope_freqs(&s, /*compressed=*/true, f);
    assert_true(isfinite(f[0]) && isfinite(f[1]));
    assert_close(f[1], pow(160000, -0.5) / 16, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(widths_vary),
        cmocka_unit_test(arrays_may_be_longer),
        cmocka_unit_test(arrays_may_not_be_shorter_or_wrong),
        cmocka_unit_test(other_architectures_are_refused_by_name),
        cmocka_unit_test(early_forks_are_refused_with_what_they_lack),
        cmocka_unit_test(missing_keys_are_named),
        cmocka_unit_test(zero_and_absurd_sizes_are_refused),
        cmocka_unit_test(sizes_must_fit_together),
        cmocka_unit_test(unused_keys_may_be_missing),
        cmocka_unit_test(announced_mtp_blocks_count_only_with_tensors),
        cmocka_unit_test(frequencies_follow_yarn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
