/* tests/support/tiny_model.h - a complete model of three layers (ratios 0, 4, 128) in memory, with
 * one thing at a time made wrong. */
#ifndef SLUICE_TESTS_SUPPORT_TINY_MODEL_H
#define SLUICE_TESTS_SUPPORT_TINY_MODEL_H

#include "support/gguf_build.h"
#include "support/unit.h"

/* A test that needs room for a tokenizer defines it larger. */
#ifndef TINY_VOCAB
#define TINY_VOCAB 10
#endif

enum {
    TINY_D = 32,
    TINY_S = 4,
    TINY_H = 2,
    TINY_C = 16,
    TINY_R = 4,
    TINY_Q = 32,
    TINY_G = 2,
    TINY_O = 8,
    TINY_E = 3,
    TINY_K = 2,
    TINY_F = 64,
    TINY_V = TINY_VOCAB,
    TINY_W = 8,
    TINY_I = 2,
    TINY_J = 8,
    TINY_T = 3,
    TINY_L = 3,
};

enum tiny_what {
    TINY_NOTHING,
    TINY_DROP,
    TINY_U32,
    TINY_U64,
    TINY_F32,
    TINY_STRING,
    TINY_I32S,
    TINY_F32S,
    TINY_F64S,
    TINY_SHAPE,
    TINY_TYPE,
    TINY_BYTES,
    TINY_RENAME
};

/* One change: of the key or tensor `name`. Keys and tensors that the model does not have are added
 * by TINY_U32 and TINY_RENAME. */
struct tiny_edit {
    const char *name;
    enum tiny_what what;
    double number; /* U32, U64, F32: the value; SHAPE: the new last dimension; TYPE: the type */
    const char *text;          /* STRING; RENAME: the new name */
    const void *data;          /* I32S, F32S, F64S, BYTES */
    uint32_t count;            /* elements of an array */
};

struct tiny_model {
    struct gguf_build b;
    struct tiny_edit edit;
    bool done;                 /* the edit found what it names */
    uint8_t *bytes;            /* the file, aligned */
    size_t len;
};

/* True if the edit has dealt with this key. */
static inline bool tiny_edited_key(struct tiny_model *t, const char *key)
{
    const struct tiny_edit *e = &t->edit;
    if (e->what == TINY_NOTHING || strcmp(e->name, key))
        return false;
    t->done = true;
    uint64_t wide;
    switch (e->what) {
    case TINY_DROP:
        break;
    case TINY_U32:
        gguf_add_u32(&t->b, key, (uint32_t)(int64_t)e->number);
        break;
    case TINY_U64:
        wide = (uint64_t)e->number;
        gguf_add_value(&t->b, key, GGUF_U64, &wide, 8);
        break;
    case TINY_F32:
        gguf_add_f32(&t->b, key, (float)e->number);
        break;
    case TINY_STRING:
        gguf_add_string(&t->b, key, e->text);
        break;
    case TINY_I32S:
        gguf_add_array(&t->b, key, GGUF_I32, e->count, e->data, 4 * e->count);
        break;
    case TINY_F32S:
        gguf_add_array(&t->b, key, GGUF_F32, e->count, e->data, 4 * e->count);
        break;
    case TINY_F64S:
        gguf_add_array(&t->b, key, GGUF_F64, e->count, e->data, 8 * e->count);
        break;
    default:
        fail_msg("edit of key %s", key);
    }
    return true;
}

static inline void tiny_keys(struct tiny_model *t)
{
    static const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        {"block_count", TINY_L}, {"context_length", 4096}, {"embedding_length", TINY_D},
        {"vocab_size", TINY_V}, {"attention.head_count", TINY_H}, {"attention.head_count_kv", 1},
        {"attention.key_length", TINY_C}, {"attention.value_length", TINY_C},
        {"rope.dimension_count", TINY_R}, {"attention.q_lora_rank", TINY_Q},
        {"attention.output_lora_rank", TINY_O}, {"attention.output_group_count", TINY_G},
        {"attention.sliding_window", TINY_W}, {"attention.indexer.head_count", TINY_I},
        {"attention.indexer.key_length", TINY_J}, {"attention.indexer.top_k", TINY_T},
        {"expert_count", TINY_E}, {"expert_used_count", TINY_K}, {"expert_shared_count", 1},
        {"expert_feed_forward_length", TINY_F}, {"expert_gating_func", 4}, {"hash_layer_count", 1},
        {"hyper_connection.count", TINY_S}, {"hyper_connection.sinkhorn_iterations", 20},
        {"rope.scaling.original_context_length", 64},
    };
    static const struct {
        const char *key;
        float value;
    } numbers[] = {
        {"rope.freq_base", 10000}, {"attention.compress_rope_freq_base", 160000},
        {"rope.scaling.factor", 16}, {"rope.scaling.yarn_beta_fast", 32},
        {"rope.scaling.yarn_beta_slow", 1}, {"attention.layer_norm_rms_epsilon", 1e-6f},
        {"hyper_connection.epsilon", 1e-6f}, {"expert_weights_scale", 1.5f},
    };
    static const int32_t ratios[TINY_L] = {0, 4, 128};
    static const float clamps[TINY_L] = {10, 9, 8};
    static const uint8_t yes = 1;
    char key[96];
    if (!tiny_edited_key(t, "general.architecture"))
        gguf_add_string(&t->b, "general.architecture", "deepseek4");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        snprintf(key, sizeof(key), "deepseek4.%s", sizes[i].key);
        if (!tiny_edited_key(t, key))
            gguf_add_u32(&t->b, key, sizes[i].value);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        snprintf(key, sizeof(key), "deepseek4.%s", numbers[i].key);
        if (!tiny_edited_key(t, key))
            gguf_add_f32(&t->b, key, numbers[i].value);
    }
    if (!tiny_edited_key(t, "deepseek4.rope.scaling.type"))
        gguf_add_string(&t->b, "deepseek4.rope.scaling.type", "yarn");
    if (!tiny_edited_key(t, "deepseek4.expert_weights_norm"))
        gguf_add_value(&t->b, "deepseek4.expert_weights_norm", GGUF_BOOL, &yes, 1);
    if (!tiny_edited_key(t, "deepseek4.attention.compress_ratios"))
        gguf_add_array(&t->b, "deepseek4.attention.compress_ratios", GGUF_I32, TINY_L, ratios,
                       sizeof(ratios));
    if (!tiny_edited_key(t, "deepseek4.swiglu_clamp_exp"))
        gguf_add_array(&t->b, "deepseek4.swiglu_clamp_exp", GGUF_F32, TINY_L, clamps,
                       sizeof(clamps));
}

/* Values that differ from tensor to tensor and fit every role: |v| < 0.5, or experts for I32. */
static inline void tiny_tensor(struct tiny_model *t, const char *prefix, const char *suffix,
                               enum quant_type type, const uint64_t ne[3])
{
    char name[96];
    snprintf(name, sizeof(name), "%s%s", prefix, suffix);
    const struct tiny_edit *e = &t->edit;
    bool edited = e->what >= TINY_DROP && e->name && !strcmp(e->name, name);
    uint64_t dim[3] = {ne[0], ne[1], ne[2]};
    int n_dims = ne[2] ? 3 : ne[1] ? 2 : 1;
    t->done |= edited;
    if (edited && e->what == TINY_DROP)
        return;
    if (edited && e->what == TINY_SHAPE)
        dim[n_dims - 1] = (uint64_t)e->number;
    if (edited && e->what == TINY_TYPE)
        type = (enum quant_type)e->number;
    if (edited && e->what == TINY_RENAME)
        snprintf(name, sizeof(name), "%s", e->text);

    size_t n = dim[0] * (n_dims > 1 ? dim[1] : 1) * (n_dims > 2 ? dim[2] : 1);
    uint32_t seed = 2166136261u;
    for (const char *c = suffix; *c; c++)
        seed = (seed ^ (uint8_t)*c) * 16777619u;
    union {
        float f;
        int32_t i;
    } *v = calloc(n + 16, 8);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        if (type == QUANT_I32)
            v[i].i = (int32_t)(i % TINY_E);
        else
            v[i].f = (float)(seed >> 8) / (1 << 24) - 0.5f;
    }
    gguf_add_tensor(&t->b, name, type, dim, n_dims,
                    edited && e->what == TINY_BYTES ? e->data : (const void *)v);
    free(v);
}

#define TINY(suffix, type, ...) tiny_tensor(t, prefix, suffix, type, (uint64_t[3]){__VA_ARGS__})
enum { TINY_M = 2 * TINY_S + TINY_S * TINY_S };

static inline void tiny_layer(struct tiny_model *t, const char *prefix, int ratio, bool hash)
{
    TINY("hc_attn_fn.weight", QUANT_F32, TINY_S * TINY_D, TINY_M);
    TINY("hc_attn_base.weight", QUANT_F32, TINY_M);
    TINY("hc_attn_scale.weight", QUANT_F32, 3);
    TINY("hc_ffn_fn.weight", QUANT_F32, TINY_S * TINY_D, TINY_M);
    TINY("hc_ffn_base.weight", QUANT_F32, TINY_M);
    TINY("hc_ffn_scale.weight", QUANT_F32, 3);
    TINY("attn_norm.weight", QUANT_F32, TINY_D);
    TINY("ffn_norm.weight", QUANT_F32, TINY_D);
    TINY("attn_q_a.weight", QUANT_F32, TINY_D, TINY_Q);
    TINY("attn_q_a_norm.weight", QUANT_F32, TINY_Q);
    TINY("attn_q_b.weight", QUANT_F32, TINY_Q, TINY_H * TINY_C);
    TINY("attn_kv.weight", QUANT_F32, TINY_D, TINY_C);
    TINY("attn_kv_a_norm.weight", QUANT_F32, TINY_C);
    TINY("attn_sinks.weight", QUANT_F32, TINY_H);
    TINY("attn_output_a.weight", QUANT_F32, TINY_H / TINY_G * TINY_C, TINY_G * TINY_O);
    TINY("attn_output_b.weight", QUANT_F32, TINY_G * TINY_O, TINY_D);
    uint64_t coff = ratio == 4 ? 2 : 1;
    if (ratio) {
        TINY("attn_compressor_kv.weight", QUANT_F32, TINY_D, coff * TINY_C);
        TINY("attn_compressor_gate.weight", QUANT_F32, TINY_D, coff * TINY_C);
        TINY("attn_compressor_ape.weight", QUANT_F32, coff * TINY_C, (uint64_t)ratio);
        TINY("attn_compressor_norm.weight", QUANT_F32, TINY_C);
    }
    if (ratio == 4) {
        TINY("indexer.attn_q_b.weight", QUANT_F32, TINY_Q, TINY_I * TINY_J);
        TINY("indexer.proj.weight", QUANT_F32, TINY_D, TINY_I);
        TINY("indexer_compressor_kv.weight", QUANT_F32, TINY_D, 2 * TINY_J);
        TINY("indexer_compressor_gate.weight", QUANT_F32, TINY_D, 2 * TINY_J);
        TINY("indexer_compressor_ape.weight", QUANT_F32, 2 * TINY_J, 4);
        TINY("indexer_compressor_norm.weight", QUANT_F32, TINY_J);
    }
    TINY("ffn_gate_inp.weight", QUANT_F32, TINY_D, TINY_E);
    if (hash)
        TINY("ffn_gate_tid2eid.weight", QUANT_I32, TINY_K, TINY_V);
    else
        TINY("exp_probs_b.bias", QUANT_F32, TINY_E);
    TINY("ffn_gate_exps.weight", QUANT_F32, TINY_D, TINY_F, TINY_E);
    TINY("ffn_up_exps.weight", QUANT_F32, TINY_D, TINY_F, TINY_E);
    TINY("ffn_down_exps.weight", QUANT_F32, TINY_F, TINY_D, TINY_E);
    TINY("ffn_gate_shexp.weight", QUANT_F32, TINY_D, TINY_F);
    TINY("ffn_up_shexp.weight", QUANT_F32, TINY_D, TINY_F);
    TINY("ffn_down_shexp.weight", QUANT_F32, TINY_F, TINY_D);
}

static inline void tiny_head(struct tiny_model *t, const char *prefix)
{
    TINY("_fn.weight", QUANT_F32, TINY_S * TINY_D, TINY_S);
    TINY("_base.weight", QUANT_F32, TINY_S);
    TINY("_scale.weight", QUANT_F32, 1);
}

static inline void tiny_trunk(struct tiny_model *t)
{
    static const int ratios[TINY_L] = {0, 4, 128};
    const char *prefix = "";
    TINY("token_embd.weight", QUANT_F32, TINY_D, TINY_V);
    TINY("output_norm.weight", QUANT_F32, TINY_D);
    TINY("output.weight", QUANT_F32, TINY_D, TINY_V);
    tiny_head(t, "output_hc");
    for (int l = 0; l < TINY_L; l++) {
        char layer[24];
        snprintf(layer, sizeof(layer), "blk.%d.", l);
        tiny_layer(t, layer, ratios[l], /*hash=*/l == 0);
    }
}

/* Starts a file with its metadata; tensors follow, then tiny_finish. */
static inline void tiny_start(struct tiny_model *t, struct tiny_edit edit)
{
    *t = (struct tiny_model){.edit = edit};
    gguf_build_init(&t->b);
    tiny_keys(t);
}

static inline void tiny_finish(struct tiny_model *t)
{
    struct buf file;
    if (!t->done && t->edit.what == TINY_U32)
        tiny_edited_key(t, t->edit.name);
    assert_true(t->done || t->edit.what == TINY_NOTHING);
    gguf_build_finish(&t->b, &file);
    t->len = file.len;
    t->bytes = aligned_alloc(64, (file.len + 63) / 64 * 64);
    memcpy(t->bytes, file.data, file.len);
    buf_deinit(&file);
}

static inline void tiny_make(struct tiny_model *t, struct tiny_edit edit)
{
    tiny_start(t, edit);
    tiny_trunk(t);
    tiny_finish(t);
}

static inline struct gguf *tiny_open(const struct tiny_model *t)
{
    struct sluice_error err;
    struct gguf *g;
    if (gguf_open_memory(t->bytes, t->len, &g, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return g;
}

#endif
