/* model/shape.c - reads and checks the model's shape. */
#include "model/shape.h"

#include <math.h>

#include "base/check.h"

#define PREFIX "deepseek4."

/* Caps far above any known model, low enough that no product of them overflows 63 bits. */
#define CAP_DIM (1 << 17)
#define CAP_COUNT (1 << 14)
#define CAP_VOCAB (1 << 24)
#define CAP_CONTEXT (1 << 28)
#define CAP_ITERATIONS 1000
#define CAP_STREAMS 16

/* A whole number in [1, cap]. */
static enum sluice_status read_size(const struct gguf *g, const char *key, int64_t cap,
                                    int64_t *out, struct sluice_error *err)
{
    uint32_t value;
    TRY(gguf_get_u32(g, key, &value, err));
    FAIL_IF(value < 1 || value > cap, err, SLUICE_ERR_MODEL, "%s: expected 1 to %lld, found %u",
            key, (long long)cap, value);
    *out = value;
    return SLUICE_OK;
}

static enum sluice_status read_size32(const struct gguf *g, const char *key, int64_t cap,
                                      int32_t *out, struct sluice_error *err)
{
    int64_t value = 0;
    TRY(read_size(g, key, cap, &value, err));
    *out = (int32_t)value;
    return SLUICE_OK;
}

/* A finite number above zero. */
static enum sluice_status read_positive(const struct gguf *g, const char *key, float *out,
                                        struct sluice_error *err)
{
    TRY(gguf_get_f32(g, key, out, err));
    FAIL_IF(!isfinite(*out) || *out <= 0.0f, err, SLUICE_ERR_MODEL,
            "%s: expected a finite number above 0, found %g", key, (double)*out);
    return SLUICE_OK;
}

/* A key that, where present, must have the one value this architecture has. */
static enum sluice_status require_value(const struct gguf *g, const char *key, uint32_t expected,
                                        struct sluice_error *err)
{
    uint32_t value;
    if (!gguf_kv_find(g, key))
        return SLUICE_OK;
    TRY(gguf_get_u32(g, key, &value, err));
    FAIL_IF(value != expected, err, SLUICE_ERR_MODEL, "%s: expected %u, found %u", key, expected,
            value);
    return SLUICE_OK;
}

static bool str_contains(struct str s, const char *part)
{
    return s.len && memmem(s.at, s.len, part, strlen(part));
}

static enum sluice_status refuse_v41(const struct gguf *g, struct sluice_error *err)
{
    for (uint64_t i = 0; i < gguf_kv_count(g); i++) {
        struct str key = gguf_kv_at(g, i)->key;
        FAIL_IF(str_contains(key, ".engram"), err, SLUICE_ERR_MODEL,
                "a DeepSeek V4.1 model (key %.*s): expected a V4 model; V4.1 is another "
                "architecture and is not supported", STR_ARG(key));
    }
    for (uint64_t i = 0; i < gguf_tensor_count(g); i++) {
        struct str name = gguf_tensor_at(g, i)->name;
        FAIL_IF(str_contains(name, "engram"), err, SLUICE_ERR_MODEL,
                "a DeepSeek V4.1 model (tensor %.*s): expected a V4 model; V4.1 is another "
                "architecture and is not supported", STR_ARG(name));
    }
    return SLUICE_OK;
}

static enum sluice_status check_architecture(const struct gguf *g, struct sluice_error *err)
{
    struct str arch;
    TRY(gguf_get_str(g, "general.architecture", &arch, err));
    FAIL_IF(str_is(arch, "deepseek41") || str_is(arch, "deepseek4.1") ||
                str_is(arch, "deepseek4_1") || str_is(arch, "deepseek_v41"),
            err, SLUICE_ERR_MODEL,
            "general.architecture: a DeepSeek V4.1 model (%.*s): expected deepseek4; V4.1 is "
            "another architecture and is not supported", STR_ARG(arch));
    FAIL_IF(!str_is(arch, "deepseek4"), err, SLUICE_ERR_MODEL,
            "general.architecture: expected deepseek4, found %.*s", STR_ARG(arch));
    return refuse_v41(g, err);
}

/* Files of the first converters lack keys without which the maths cannot be known. */
static enum sluice_status refuse_early_fork(const struct gguf *g, struct sluice_error *err)
{
    static const char *const key[] = {
        PREFIX "attention.compress_ratios",
        PREFIX "hash_layer_count",
        PREFIX "hyper_connection.sinkhorn_iterations",
        PREFIX "hyper_connection.epsilon",
    };
    char missing[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
        if (!gguf_kv_find(g, key[i]))
            used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s%s",
                                     used ? ", " : "", key[i]);
    FAIL_IF(used, err, SLUICE_ERR_MODEL,
            "a file of an early DeepSeek V4 converter: missing %s; convert the model again with a "
            "current converter", missing);
    return SLUICE_OK;
}

/* Layers of the trunk: block_count may or may not include an embedded MTP block, and the key that
 * announces one may be there without its tensors. */
static enum sluice_status read_layers(const struct gguf *g, struct shape *s,
                                      struct sluice_error *err)
{
    TRY(read_size32(g, PREFIX "block_count", SHAPE_MAX_LAYERS - 1, &s->n_layer, err));
    uint32_t announced = 0;
    if (gguf_kv_find(g, PREFIX "nextn_predict_layers"))
        TRY(gguf_get_u32(g, PREFIX "nextn_predict_layers", &announced, err));

    char name[64];
    snprintf(name, sizeof(name), "blk.%d.nextn.eh_proj.weight", s->n_layer - 1);
    if (gguf_tensor_find(g, name)) {
        FAIL_IF(announced > 1 || s->n_layer < 2, err, SLUICE_ERR_MODEL,
                PREFIX "nextn_predict_layers: expected 1 block beside a trunk, found %u in %d "
                "layers", announced, s->n_layer);
        s->n_layer--;
        s->n_mtp = 1;
        return SLUICE_OK;
    }
    snprintf(name, sizeof(name), "blk.%d.nextn.eh_proj.weight", s->n_layer);
    s->n_mtp = gguf_tensor_find(g, name) != NULL;
    return SLUICE_OK;
}

static enum sluice_status read_sizes(const struct gguf *g, struct shape *s,
                                     struct sluice_error *err)
{
    TRY(read_size32(g, PREFIX "context_length", CAP_CONTEXT, &s->n_ctx_max, err));
    TRY(read_size32(g, PREFIX "vocab_size", CAP_VOCAB, &s->n_vocab, err));
    TRY(read_size(g, PREFIX "embedding_length", CAP_DIM, &s->dim, err));
    TRY(read_size32(g, PREFIX "hyper_connection.count", CAP_STREAMS, &s->n_stream, err));
    TRY(read_size32(g, PREFIX "hyper_connection.sinkhorn_iterations", CAP_ITERATIONS,
                    &s->sinkhorn_iters, err));
    TRY(read_size32(g, PREFIX "attention.head_count", CAP_COUNT, &s->n_head, err));
    TRY(read_size(g, PREFIX "attention.key_length", CAP_DIM, &s->head_dim, err));
    TRY(read_size(g, PREFIX "rope.dimension_count", CAP_DIM, &s->rot_dim, err));
    TRY(read_size(g, PREFIX "attention.q_lora_rank", CAP_DIM, &s->q_rank, err));
    TRY(read_size(g, PREFIX "attention.output_lora_rank", CAP_DIM, &s->o_rank, err));
    TRY(read_size32(g, PREFIX "attention.output_group_count", CAP_COUNT, &s->n_group, err));
    TRY(read_size32(g, PREFIX "attention.sliding_window", CAP_DIM, &s->window, err));
    TRY(read_size32(g, PREFIX "expert_count", CAP_COUNT, &s->n_expert, err));
    TRY(read_size32(g, PREFIX "expert_used_count", CAP_COUNT, &s->n_used, err));
    TRY(read_size(g, PREFIX "expert_feed_forward_length", CAP_DIM, &s->inner, err));

    uint32_t hash;
    TRY(gguf_get_u32(g, PREFIX "hash_layer_count", &hash, err));
    FAIL_IF(hash > (uint32_t)s->n_layer, err, SLUICE_ERR_MODEL,
            PREFIX "hash_layer_count: expected at most the %d layers, found %u", s->n_layer, hash);
    s->n_hash_layer = (int32_t)hash;
    return SLUICE_OK;
}

static enum sluice_status read_numbers(const struct gguf *g, struct shape *s,
                                       struct sluice_error *err)
{
    TRY(read_positive(g, PREFIX "attention.layer_norm_rms_epsilon", &s->rms_eps, err));
    TRY(read_positive(g, PREFIX "hyper_connection.epsilon", &s->hc_eps, err));
    TRY(read_positive(g, PREFIX "expert_weights_scale", &s->expert_scale, err));
    TRY(read_positive(g, PREFIX "rope.freq_base", &s->rope_base, err));
    TRY(require_value(g, PREFIX "attention.head_count_kv", 1, err));
    TRY(require_value(g, PREFIX "attention.value_length", (uint32_t)s->head_dim, err));
    TRY(require_value(g, PREFIX "expert_shared_count", 1, err));
    TRY(require_value(g, PREFIX "expert_gating_func", /* sqrt(softplus) */ 4, err));

    bool norm;
    TRY(gguf_get_bool(g, PREFIX "expert_weights_norm", &norm, err));
    FAIL_IF(!norm, err, SLUICE_ERR_MODEL,
            PREFIX "expert_weights_norm: expected true, found false");
    if (gguf_kv_find(g, PREFIX "expert_group_count")) {
        uint32_t groups;
        TRY(gguf_get_u32(g, PREFIX "expert_group_count", &groups, err));
        FAIL_IF(groups > 1, err, SLUICE_ERR_MODEL,
                PREFIX "expert_group_count: expected 0 or 1, found %u", groups);
    }
    return SLUICE_OK;
}

/* An array with at least n elements: publishers append entries for MTP blocks. */
static enum sluice_status find_array(const struct gguf *g, const char *key, int32_t n,
                                     const struct gguf_kv **out, struct sluice_error *err)
{
    *out = gguf_kv_find(g, key);
    FAIL_IF(!*out, err, SLUICE_ERR_MODEL, "%s: missing", key);
    FAIL_IF((*out)->type != GGUF_ARRAY, err, SLUICE_ERR_MODEL, "%s: expected an array, found %s",
            key, gguf_type_name((*out)->type));
    FAIL_IF((*out)->count < (uint64_t)n, err, SLUICE_ERR_MODEL,
            "%s: expected at least %d elements, found %llu", key, n,
            (unsigned long long)(*out)->count);
    return SLUICE_OK;
}

static enum sluice_status read_ratios(const struct gguf *g, struct shape *s,
                                      struct sluice_error *err)
{
    const char *key = PREFIX "attention.compress_ratios";
    const struct gguf_kv *kv;
    TRY(find_array(g, key, s->n_layer, &kv, err));
    for (int l = 0; l < s->n_layer; l++) {
        int64_t ratio;
        TRY(gguf_kv_i64_at(kv, (uint64_t)l, &ratio, err));
        FAIL_IF(ratio != 0 && ratio != 4 && ratio != 128, err, SLUICE_ERR_MODEL,
                "%s[%d]: expected 0, 4 or 128, found %lld", key, l, (long long)ratio);
        s->ratio[l] = (int32_t)ratio;
    }
    return SLUICE_OK;
}

/* Clamps of all layers and of what follows them: an MTP block has the array's next element, or the
 * last one. */
static enum sluice_status read_limits(const struct gguf *g, const char *key, int32_t n_layer,
                                      float *limit, struct sluice_error *err)
{
    const struct gguf_kv *kv;
    TRY(find_array(g, key, n_layer, &kv, err));
    for (int l = 0; l < SHAPE_MAX_LAYERS; l++) {
        if ((uint64_t)l >= kv->count) {
            limit[l] = limit[l - 1];
            continue;
        }
        TRY(gguf_kv_f32_at(kv, (uint64_t)l, &limit[l], err));
        FAIL_IF(!isfinite(limit[l]) || limit[l] <= 0.0f, err, SLUICE_ERR_MODEL,
                "%s[%d]: expected a finite number above 0, found %g", key, l, (double)limit[l]);
    }
    return SLUICE_OK;
}

static enum sluice_status read_indexer(const struct gguf *g, struct shape *s,
                                       struct sluice_error *err)
{
    TRY(read_size32(g, PREFIX "attention.indexer.head_count", CAP_COUNT, &s->n_index_head, err));
    TRY(read_size(g, PREFIX "attention.indexer.key_length", CAP_DIM, &s->index_dim, err));
    TRY(read_size32(g, PREFIX "attention.indexer.top_k", CAP_DIM, &s->index_top_k, err));
    FAIL_IF(s->index_dim < s->rot_dim, err, SLUICE_ERR_MODEL,
            PREFIX "attention.indexer.key_length: expected at least the %lld rotated dims, found "
            "%lld", (long long)s->rot_dim, (long long)s->index_dim);
    FAIL_IF(s->index_dim & (s->index_dim - 1), err, SLUICE_ERR_MODEL,
            PREFIX "attention.indexer.key_length: expected a power of two, found %lld",
            (long long)s->index_dim);
    return SLUICE_OK;
}

/* What only compressed layers need. */
static enum sluice_status read_compressed(const struct gguf *g, struct shape *s,
                                          struct sluice_error *err)
{
    struct str type;
    TRY(gguf_get_str(g, PREFIX "rope.scaling.type", &type, err));
    FAIL_IF(!str_is(type, "yarn"), err, SLUICE_ERR_MODEL,
            PREFIX "rope.scaling.type: expected yarn, found %.*s", STR_ARG(type));
    TRY(read_positive(g, PREFIX "attention.compress_rope_freq_base", &s->rope_base_compressed,
                      err));
    FAIL_IF(s->rope_base_compressed <= 1.0f, err, SLUICE_ERR_MODEL,
            PREFIX "attention.compress_rope_freq_base: expected more than 1, found %g",
            (double)s->rope_base_compressed);
    TRY(read_positive(g, PREFIX "rope.scaling.factor", &s->yarn_factor, err));
    TRY(read_positive(g, PREFIX "rope.scaling.yarn_beta_fast", &s->yarn_beta_fast, err));
    TRY(read_positive(g, PREFIX "rope.scaling.yarn_beta_slow", &s->yarn_beta_slow, err));
    return read_size(g, PREFIX "rope.scaling.original_context_length", CAP_CONTEXT,
                     &s->yarn_original_ctx, err);
}

static enum sluice_status check_together(const struct shape *s, struct sluice_error *err)
{
    FAIL_IF(s->rot_dim % 2 || s->rot_dim > s->head_dim, err, SLUICE_ERR_MODEL,
            PREFIX "rope.dimension_count: expected an even number up to the head's %lld, found "
            "%lld", (long long)s->head_dim, (long long)s->rot_dim);
    FAIL_IF(s->n_head % s->n_group, err, SLUICE_ERR_MODEL,
            PREFIX "attention.output_group_count: expected a divisor of the %d heads, found %d",
            s->n_head, s->n_group);
    FAIL_IF(s->n_used > s->n_expert, err, SLUICE_ERR_MODEL,
            PREFIX "expert_used_count: expected at most the %d experts, found %d", s->n_expert,
            s->n_used);
    return SLUICE_OK;
}

static bool has_ratio(const struct shape *s, int32_t ratio)
{
    for (int l = 0; l < s->n_layer; l++)
        if (s->ratio[l] == ratio)
            return true;
    return false;
}

enum sluice_status shape_read(const struct gguf *g, struct shape *out, struct sluice_error *err)
{
    struct shape s = {0};
    TRY(check_architecture(g, err));
    TRY(refuse_early_fork(g, err));
    TRY(read_layers(g, &s, err));
    TRY(read_sizes(g, &s, err));
    TRY(read_numbers(g, &s, err));
    TRY(read_ratios(g, &s, err));
    TRY(check_together(&s, err));
    if (has_ratio(&s, 4) || has_ratio(&s, 128))
        TRY(read_compressed(g, &s, err));
    if (has_ratio(&s, 4))
        TRY(read_indexer(g, &s, err));

    const char *shared = PREFIX "swiglu_clamp_shexp";
    TRY(read_limits(g, PREFIX "swiglu_clamp_exp", s.n_layer, s.limit, err));
    if (gguf_kv_find(g, shared))
        TRY(read_limits(g, shared, s.n_layer, s.shared_limit, err));
    else
        memcpy(s.shared_limit, s.limit, sizeof(s.limit));
    *out = s;
    return SLUICE_OK;
}

void shape_mtp(const struct shape *trunk, struct shape *out)
{
    int next = trunk->n_layer;
    SLUICE_ASSERT(next < SHAPE_MAX_LAYERS);
    *out = *trunk;
    out->n_layer = 1;
    out->n_hash_layer = 0;
    out->n_mtp = 0;
    out->n_index_head = out->index_top_k = 0;
    out->index_dim = 0;
    memset(out->ratio, 0, sizeof(out->ratio));
    out->limit[0] = trunk->limit[next];
    out->shared_limit[0] = trunk->shared_limit[next];
}

void shape_rope_freqs(const struct shape *s, bool compressed, float *freq)
{
    double base = compressed ? s->rope_base_compressed : s->rope_base;
    int64_t n = s->rot_dim;
    double low = 0.0, high = 0.0;
    if (compressed) {
        double turns = (double)s->yarn_original_ctx / (2.0 * M_PI);
        low = floor((double)n * log(turns / s->yarn_beta_fast) / (2.0 * log(base)));
        high = ceil((double)n * log(turns / s->yarn_beta_slow) / (2.0 * log(base)));
        low = fmax(low, 0.0);
        high = fmin(high, (double)(n - 1));
        if (low == high)
            high += 0.001;
    }
    for (int64_t i = 0; i < n / 2; i++) {
        double g = pow(base, -2.0 * (double)i / (double)n);
        if (compressed) {
            double t = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0);
            g = g / s->yarn_factor * t + g * (1.0 - t);
        }
        freq[i] = (float)g;
    }
}

const char *shape_name(const struct shape *s)
{
    if (s->n_layer == 43 && s->dim == 4096 && s->n_expert == 256)
        return "Flash";
    if (s->n_layer == 61 && s->dim == 7168 && s->n_expert == 384)
        return "Pro";
    return "custom";
}
