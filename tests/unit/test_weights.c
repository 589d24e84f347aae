/* Binding tensors: every one by name and shape, presence rules, small vectors of every type,
 * slices, MTP blocks of both flavours. */
#include "model/draft.h"
#include "model/weights.h"

#include "support/tiny_model.h"

static struct pool *pool;
static struct ops ops;
static struct sluice_error err;

static int setup(void **state)
{
    assert_int_equal(pool_open(1, /*pin=*/false, &pool, &err), SLUICE_OK);
    return ops_open("ref", NULL, pool, &ops, &err) != SLUICE_OK;
}

static int teardown(void **state)
{
    ops_close(&ops);
    pool_close(pool);
    return 0;
}

/* The shape of the unedited model. */
static struct shape tiny_shape(void)
{
    struct tiny_model t;
    struct shape s;
    tiny_make(&t, (struct tiny_edit){0});
    struct gguf *g = tiny_open(&t);
    assert_int_equal(shape_read(g, &s, &err), SLUICE_OK);
    gguf_close(g);
    free(t.bytes);
    return s;
}

/* A bound model with what it borrows. */
struct bound {
    struct tiny_model t;
    struct gguf *g;
    struct weights *w;
};

static enum sluice_status bind_range(struct bound *b, struct tiny_edit edit, int lo, int hi)
{
    struct shape s = tiny_shape();
    tiny_make(&b->t, edit);
    b->g = tiny_open(&b->t);
    const struct gguf *file = b->g;
    struct weights_config c = {
        .file = &file, .n_file = 1, .shape = &s, .ops = &ops, .lo = lo, .hi = hi};
    err.message[0] = '\0';
    return weights_load(&c, &b->w, &err);
}

static void unbind(struct bound *b)
{
    weights_free(b->w);
    gguf_close(b->g);
    free(b->t.bytes);
}

static void accept(struct bound *b, struct tiny_edit edit)
{
    if (bind_range(b, edit, 0, TINY_L) != SLUICE_OK)
        fail_msg("%s", err.message);
}

static void refuse(struct tiny_edit edit, const char *words)
{
    struct bound b;
    char word[128];
    assert_int_equal(bind_range(&b, edit, 0, TINY_L), SLUICE_ERR_MODEL);
    assert_null(b.w);
    for (const char *at = words; *at;) {
        size_t n = strcspn(at, "|");
        memcpy(word, at, n);
        word[n] = '\0';
        if (!strstr(err.message, word))
            fail_msg("\"%s\" does not say \"%s\"", err.message, word);
        at += n + (at[n] == '|');
    }
    unbind(&b);
}

static void all_tensors_are_bound_in_place(void **state)
{
    struct bound b;
    accept(&b, (struct tiny_edit){0});
    const struct layer_weights *l = &b.w->layer[1];
    assert_ptr_equal(l->q_b.data, gguf_tensor_find(b.g, "blk.1.attn_q_b.weight")->data);
    assert_int_equal(l->q_b.n_in, TINY_Q);
    assert_int_equal(l->q_b.n_out, TINY_H * TINY_C);
    assert_int_equal(l->output_a.n_out, TINY_O);
    assert_int_equal(l->output_a.n_mat, TINY_G);
    assert_int_equal(l->down.n_mat, TINY_E);
    assert_int_equal(l->down.n_in, TINY_F);
    assert_ptr_equal(l->file_down, gguf_tensor_find(b.g, "blk.1.ffn_down_exps.weight"));
    assert_int_equal(l->index_compress.ape.n_out, 4);
    assert_non_null(l->index_proj.data);
    assert_non_null(l->bias);
    assert_null(l->token_to_expert);
    assert_non_null(b.w->layer[0].token_to_expert);
    assert_null(b.w->layer[0].bias);
    assert_null(b.w->layer[0].compress.kv.data);
    assert_int_equal(b.w->layer[2].compress.ape.n_out, 128);
    assert_null(b.w->layer[2].index_q_b.data);
    assert_int_equal(b.w->head.hyper_fn.n_in, TINY_S * TINY_D);
    assert_int_equal(b.w->embed.n_out, TINY_V);

    struct expert_bytes e[TINY_L];
    weights_expert_bytes(b.w, e);
    assert_ptr_equal(e[1].up, l->up.data);
    assert_int_equal(e[1].up_stride, TINY_F * TINY_D * 4);
    unbind(&b);
}

/* Drops, reshapes and retypes every tensor in turn: each is refused by its name. */
static void every_tensor_is_needed_with_its_shape(void **state)
{
    struct tiny_model whole;
    tiny_make(&whole, (struct tiny_edit){0});
    struct gguf *g = tiny_open(&whole);
    for (uint64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[96], words[256];
        snprintf(name, sizeof(name), "%.*s", STR_ARG(t->name));
        snprintf(words, sizeof(words), "%s|missing", name);
        refuse((struct tiny_edit){name, .what = TINY_DROP}, words);
        int64_t last = t->ne[t->n_dims - 1];
        snprintf(words, sizeof(words), "%s|expected shape|%lld|%lld", name, (long long)last,
                 (long long)last + 1);
        refuse((struct tiny_edit){name, TINY_SHAPE, .number = (double)last + 1}, words);
        enum quant_type wrong = t->type == QUANT_I32 ? QUANT_F32 : QUANT_I32;
        snprintf(words, sizeof(words), "%s|expected type|found %s", name, quant_info(wrong)->name);
        refuse((struct tiny_edit){name, TINY_TYPE, .number = wrong}, words);
    }
    gguf_close(g);
    free(whole.bytes);
}

static void parts_that_a_layer_must_not_have_are_refused(void **state)
{
    struct shape s = tiny_shape();
    static const struct {
        int layer;
        int32_t ratio;
        const char *words;
    } cases[] = {
        {1, 0, "blk.1.attn_compressor_kv.weight|ratio 0"},
        {1, 128, "blk.1.attn_compressor_kv.weight"},
        {2, 0, "blk.2.attn_compressor_kv.weight|ratio 0"},
        {0, 4, "blk.0.attn_compressor_kv.weight|missing"},
        {2, 4, "blk.2.attn_compressor_kv.weight"},
    };
    struct tiny_model t;
    tiny_make(&t, (struct tiny_edit){0});
    struct gguf *g = tiny_open(&t);
    const struct gguf *file = g;
    struct weights *w;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct shape wrong = s;
        wrong.ratio[cases[i].layer] = cases[i].ratio;
        struct weights_config c = {
            .file = &file, .n_file = 1, .shape = &wrong, .ops = &ops, .hi = TINY_L};
        assert_int_equal(weights_load(&c, &w, &err), SLUICE_ERR_MODEL);
        for (const char *at = cases[i].words; at;
             at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
            char word[64];
            snprintf(word, sizeof(word), "%.*s", (int)strcspn(at, "|"), at);
            if (!strstr(err.message, word))
                fail_msg("\"%s\" does not say \"%s\"", err.message, word);
        }
    }
    gguf_close(g);
    free(t.bytes);
    refuse((struct tiny_edit){"blk.2.ffn_up_exps.weight", TINY_RENAME,
                              .text = "blk.2.indexer.proj.weight"},
           "blk.2.indexer.proj.weight|ratio 128");
}

static void bias_and_token_table_exclude_each_other(void **state)
{
    refuse((struct tiny_edit){"blk.0.ffn_up_exps.weight", TINY_RENAME,
                              .text = "blk.0.exp_probs_b.bias"},
           "blk.0.exp_probs_b.bias|hash");
    refuse((struct tiny_edit){"blk.1.ffn_up_exps.weight", TINY_RENAME,
                              .text = "blk.1.ffn_gate_tid2eid.weight"},
           "blk.1.ffn_gate_tid2eid.weight|score");
}

static void token_tables_are_checked(void **state)
{
    int32_t table[TINY_K * TINY_V] = {0};
    int64_t wide[TINY_K * TINY_V];
    struct bound b;
    const char *name = "blk.0.ffn_gate_tid2eid.weight";
    table[7] = TINY_E;
    refuse((struct tiny_edit){name, TINY_BYTES, .data = table}, "tid2eid|token 3|found 3");
    table[7] = -1;
    refuse((struct tiny_edit){name, TINY_BYTES, .data = table}, "tid2eid|token 3|found -1");
    table[7] = 2;
    accept(&b, (struct tiny_edit){name, TINY_BYTES, .data = table});
    assert_memory_equal(b.w->layer[0].token_to_expert, table, sizeof(table));
    unbind(&b);

    /* I64, as the published tensors have it. */
    struct shape s = tiny_shape();
    for (int i = 0; i < TINY_K * TINY_V; i++)
        wide[i] = i % TINY_E;
    struct gguf_build build;
    struct buf bytes;
    gguf_build_init(&build);
    gguf_add_tensor(&build, name, QUANT_I64, (uint64_t[]){TINY_K, TINY_V}, 2, wide);
    gguf_build_finish(&build, &bytes);
    struct tiny_model extra = {.bytes = aligned_alloc(64, (bytes.len + 63) / 64 * 64),
                               .len = bytes.len};
    memcpy(extra.bytes, bytes.data, bytes.len);
    buf_deinit(&bytes);
    tiny_make(&b.t, (struct tiny_edit){0});
    const struct gguf *file[] = {tiny_open(&extra), tiny_open(&b.t)};
    struct weights_config c = {.file = file, .n_file = 2, .shape = &s, .ops = &ops, .hi = 1};
    assert_int_equal(weights_load(&c, &b.w, &err), SLUICE_OK);
    for (int i = 0; i < TINY_K * TINY_V; i++)
        assert_int_equal(b.w->layer[0].token_to_expert[i], i % TINY_E);
    weights_free(b.w);
    gguf_close((struct gguf *)file[0]);
    gguf_close((struct gguf *)file[1]);
    free(extra.bytes);
    free(b.t.bytes);
}

static void small_vectors_become_floats(void **state)
{
    struct bound b;
    const char *name = "blk.0.attn_norm.weight";
    uint16_t half[TINY_D] = {0x3c00, 0xc000, 0x0001, 0x7c00, 0x3555, 0x8000, 0x0400};
    struct shape s = tiny_shape();
    struct { enum quant_type type; const void *bytes; float expected[4]; } cases[] = {
        {QUANT_F16, half, {1, -2, 0x1p-24f, INFINITY}},
        {QUANT_BF16, (uint16_t[TINY_D]){0x3f80, 0xc000, 0x3f81, 0}, {1, -2, 1.0078125f, 0}},
        {QUANT_Q8_0, &(struct block_q8_0){.d = 0x3800, .q = {2, -4, 127, 0}}, {1, -2, 63.5f, 0}},
        {QUANT_F32, (float[TINY_D]){1, -2, 3, 4}, {1, -2, 3, 4}},
    };
    for (size_t i = 0; i < 4; i++) {
        struct gguf_build build;
        struct buf bytes;
        gguf_build_init(&build);
        gguf_add_tensor(&build, name, cases[i].type, (uint64_t[]){TINY_D}, 1, cases[i].bytes);
        gguf_build_finish(&build, &bytes);
        struct tiny_model extra = {.bytes = aligned_alloc(64, (bytes.len + 63) / 64 * 64),
                                   .len = bytes.len};
        memcpy(extra.bytes, bytes.data, bytes.len);
        buf_deinit(&bytes);
        tiny_make(&b.t, (struct tiny_edit){0});
        const struct gguf *file[] = {tiny_open(&extra), tiny_open(&b.t)};
        struct weights_config c = {.file = file, .n_file = 2, .shape = &s, .ops = &ops, .hi = 1};
        assert_int_equal(weights_load(&c, &b.w, &err), SLUICE_OK);
        for (int k = 0; k < 4; k++)
            assert_true(b.w->layer[0].attn_norm[k] == cases[i].expected[k]);
        if (cases[i].type == QUANT_F16) {
            assert_close(b.w->layer[0].attn_norm[4], 0.333251953125, 0);
            assert_true(signbit(b.w->layer[0].attn_norm[5]));
            assert_close(b.w->layer[0].attn_norm[6], 0x1p-14, 0);
        }
        weights_free(b.w);
        gguf_close((struct gguf *)file[0]);
        gguf_close((struct gguf *)file[1]);
        free(extra.bytes);
        free(b.t.bytes);
    }
}

static void slices_need_just_their_layers(void **state)
{
    struct bound b;
    assert_int_equal(
        bind_range(&b, (struct tiny_edit){"blk.0.attn_q_a.weight", .what = TINY_DROP}, 1, 3),
        SLUICE_OK);
    assert_non_null(b.w->head.output.data);
    assert_non_null(b.w->embed.data);
    unbind(&b);
    assert_int_equal(
        bind_range(&b, (struct tiny_edit){"token_embd.weight", .what = TINY_DROP}, 1, 2),
        SLUICE_OK);
    assert_null(b.w->head.output.data);
    assert_null(b.w->embed.data);
    unbind(&b);
    assert_int_equal(bind_range(&b, (struct tiny_edit){"output.weight", .what = TINY_DROP}, 0, 2),
                     SLUICE_OK);
    unbind(&b);
    assert_int_equal(bind_range(&b, (struct tiny_edit){0}, 2, 4), SLUICE_ERR_ARG);
    unbind(&b);
    assert_int_equal(bind_range(&b, (struct tiny_edit){0}, 1, 1), SLUICE_ERR_ARG);
    unbind(&b);
}

static void experts_may_be_left_to_a_store(void **state)
{
    struct shape s = tiny_shape();
    struct tiny_model t;
    tiny_make(&t, (struct tiny_edit){0});
    const struct gguf *file = tiny_open(&t);
    struct weights_config c = {
        .file = &file, .n_file = 1, .shape = &s, .ops = &ops, .hi = TINY_L, .leave_experts = true,
    };
    struct weights *w;
    assert_int_equal(weights_load(&c, &w, &err), SLUICE_OK);
    assert_null(w->layer[0].gate.data);
    assert_int_equal(w->layer[0].gate.n_out, TINY_F);
    assert_non_null(w->layer[0].file_gate);
    assert_non_null(w->layer[0].shared_gate.data);
    weights_free(w);
    gguf_close((struct gguf *)file);
    free(t.bytes);
}

/* --- MTP blocks --- */

/* Binds the only file's block beside a trunk. */
static enum sluice_status bind_mtp(struct tiny_model *block, struct weights **out,
                                   struct bound *trunk, struct gguf **g)
{
    struct shape s = tiny_shape();
    accept(trunk, (struct tiny_edit){0});
    *g = tiny_open(block);
    const struct gguf *file = *g;
    struct weights_config c = {.file = &file, .n_file = 1, .shape = &s, .ops = &ops};
    return weights_load_mtp(&c, trunk->w, out, &err);
}

static void make_sidecar(struct tiny_model *t, struct tiny_edit edit)
{
    const char *prefix = "mtp.0.";
    tiny_start(t, edit);
    tiny_layer(t, prefix, 0, /*hash=*/false);
    TINY("e_proj.weight", QUANT_F32, TINY_D, TINY_D);
    TINY("h_proj.weight", QUANT_F32, TINY_D, TINY_D);
    TINY("enorm.weight", QUANT_F32, TINY_D);
    TINY("hnorm.weight", QUANT_F32, TINY_D);
    TINY("norm.weight", QUANT_F32, TINY_D);
    tiny_head(t, "mtp.0.hc_head");
    tiny_finish(t);
}

/* The same numbers as blk.3.nextn.*: eh_proj's rows are e_proj's and h_proj's side by side. */
static void make_embedded(struct tiny_model *t, const struct weights *same, bool trunk_names)
{
    const char *prefix = "blk.3.nextn.";
    float both[TINY_D][2][TINY_D];
    for (int o = 0; o < TINY_D; o++) {
        memcpy(both[o][0], (const float *)same->mtp.e_proj.data + o * TINY_D, sizeof(both[o][0]));
        memcpy(both[o][1], (const float *)same->mtp.h_proj.data + o * TINY_D, sizeof(both[o][1]));
    }
    tiny_start(t, (struct tiny_edit){"blk.3.nextn.eh_proj.weight", TINY_BYTES, .data = both});
    tiny_layer(t, "blk.3.", 0, /*hash=*/false);
    TINY("eh_proj.weight", QUANT_F32, 2 * TINY_D, TINY_D);
    TINY("enorm.weight", QUANT_F32, TINY_D);
    TINY("hnorm.weight", QUANT_F32, TINY_D);
    TINY("shared_head_norm.weight", QUANT_F32, TINY_D);
    tiny_head(t, trunk_names ? "output_hc" : "blk.3.nextn.hc_head");
    tiny_finish(t);
}

static void a_sidecar_is_bound(void **state)
{
    struct tiny_model t;
    struct bound trunk;
    struct weights *w;
    struct gguf *g;
    make_sidecar(&t, (struct tiny_edit){0});
    assert_int_equal(bind_mtp(&t, &w, &trunk, &g), SLUICE_OK);
    assert_int_equal(w->shape.n_layer, 1);
    assert_ptr_equal(w->embed.data, trunk.w->embed.data);
    assert_ptr_equal(w->head.output.data, trunk.w->head.output.data);
    assert_ptr_equal(w->head.hyper_fn.data, gguf_tensor_find(g, "mtp.0.hc_head_fn.weight")->data);
    assert_non_null(w->layer[0].bias);
    weights_free(w);
    gguf_close(g);
    free(t.bytes);
    unbind(&trunk);
}

static void an_embedded_block_equals_the_sidecar(void **state)
{
    for (int trunk_names = 0; trunk_names < 2; trunk_names++) {
        struct tiny_model side, inner;
        struct bound trunk, again;
        struct weights *a, *b;
        struct gguf *ga, *gb;
        make_sidecar(&side, (struct tiny_edit){0});
        assert_int_equal(bind_mtp(&side, &a, &trunk, &ga), SLUICE_OK);
        make_embedded(&inner, a, trunk_names);
        if (bind_mtp(&inner, &b, &again, &gb) != SLUICE_OK)
            fail_msg("%s", err.message);
        size_t matrix = TINY_D * TINY_D * sizeof(float);
        assert_memory_equal(a->mtp.e_proj.data, b->mtp.e_proj.data, matrix);
        assert_memory_equal(a->mtp.h_proj.data, b->mtp.h_proj.data, matrix);
        assert_memory_equal(a->mtp.e_norm, b->mtp.e_norm, TINY_D * sizeof(float));
        assert_memory_equal(a->layer[0].q_a.data, b->layer[0].q_a.data, matrix);
        assert_non_null(b->head.hyper_fn.data);
        assert_true(b->head.hyper_fn.data != trunk.w->head.hyper_fn.data);
        weights_free(a);
        weights_free(b);
        gguf_close(ga);
        gguf_close(gb);
        free(side.bytes);
        free(inner.bytes);
        unbind(&trunk);
        unbind(&again);
    }
}

static void refuse_mtp(struct tiny_model *t, const char *word)
{
    struct bound trunk;
    struct weights *w;
    struct gguf *g;
    assert_int_equal(bind_mtp(t, &w, &trunk, &g), SLUICE_ERR_MODEL);
    assert_null(w);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not say \"%s\"", err.message, word);
    gguf_close(g);
    free(t->bytes);
    unbind(&trunk);
}

static void wrong_mtp_files_are_refused(void **state)
{
    struct tiny_model t;
    make_sidecar(&t, (struct tiny_edit){"mtp.0.h_proj.weight", .what = TINY_DROP});
    refuse_mtp(&t, "mtp.0.h_proj.weight");
    make_sidecar(&t, (struct tiny_edit){"mtp.0.hc_head_base.weight", .what = TINY_DROP});
    refuse_mtp(&t, "mtp.0.hc_head_base.weight");
    make_sidecar(&t, (struct tiny_edit){"mtp.0.e_proj.weight", TINY_RENAME,
                                        .text = "mtp.0.main_proj.weight"});
    refuse_mtp(&t, "DSpark");
    tiny_make(&t, (struct tiny_edit){0});
    refuse_mtp(&t, "no MTP block");
    /* Inside a trunk's file the trunk's head must not be taken for the block's. */
    tiny_start(&t, (struct tiny_edit){0});
    tiny_trunk(&t);
    tiny_tensor(&t, "blk.3.", "nextn.eh_proj.weight", QUANT_F32,
                (uint64_t[]){2 * TINY_D, TINY_D, 0});
    tiny_finish(&t);
    refuse_mtp(&t, "blk.3.nextn.hc_head_fn.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_tensors_are_bound_in_place),
        cmocka_unit_test(every_tensor_is_needed_with_its_shape),
        cmocka_unit_test(parts_that_a_layer_must_not_have_are_refused),
        cmocka_unit_test(bias_and_token_table_exclude_each_other),
        cmocka_unit_test(token_tables_are_checked),
        cmocka_unit_test(small_vectors_become_floats),
        cmocka_unit_test(slices_need_just_their_layers),
        cmocka_unit_test(experts_may_be_left_to_a_store),
        cmocka_unit_test(a_sidecar_is_bound),
        cmocka_unit_test(an_embedded_block_equals_the_sidecar),
        cmocka_unit_test(wrong_mtp_files_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
