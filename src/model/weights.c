/* model/weights.c - binds tensors to roles. One struct binder walks a model; every tensor passes
 * bind_matrix or bind_vector, which compare its shape with the one of the model's shape. */
#include "model/weights.h"

#include <math.h>

#include "base/check.h"

#define NAME_ROOM 96

struct binder {
    const struct weights_config *config;
    struct weights *w;
    char prefix[32];               /* "blk.7.", "mtp.0.", or "" for the tensors outside layers */
    struct sluice_error *err;
};

/* --- finding --- */

static const struct gguf_tensor *find_named(const struct weights_config *c, const char *name)
{
    for (int i = 0; i < c->n_file; i++) {
        const struct gguf_tensor *t = gguf_tensor_find(c->file[i], name);
        if (t)
            return t;
    }
    return NULL;
}

static const struct gguf_tensor *find(const struct binder *b, const char *suffix)
{
    char name[NAME_ROOM];
    snprintf(name, sizeof(name), "%s%s", b->prefix, suffix);
    return find_named(b->config, name);
}

static enum sluice_status need(const struct binder *b, const char *suffix,
                               const struct gguf_tensor **out)
{
    *out = find(b, suffix);
    FAIL_IF(!*out, b->err, SLUICE_ERR_MODEL, "tensor %s%s: missing", b->prefix, suffix);
    return SLUICE_OK;
}

static enum sluice_status check_shape(const struct binder *b, const struct gguf_tensor *t,
                                      const int64_t ne[3])
{
    FAIL_IF(t->ne[0] != ne[0] || t->ne[1] != ne[1] || t->ne[2] != ne[2] || t->ne[3] != 1, b->err,
            SLUICE_ERR_MODEL,
            "tensor %.*s: expected shape {%lld, %lld, %lld}, found {%lld, %lld, %lld, %lld}",
            STR_ARG(t->name), (long long)ne[0], (long long)ne[1], (long long)ne[2],
            (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3]);
    return SLUICE_OK;
}

static enum sluice_status fail_type(const struct binder *b, const struct gguf_tensor *t,
                                    const char *expected)
{
    const struct quant_info *q = quant_info((uint32_t)t->type);
    return status_fail(b->err, SLUICE_ERR_MODEL, -1, "tensor %.*s: expected type %s, found %s",
                       STR_ARG(t->name), expected, q ? q->name : "unknown");
}

/* --- bytes in the backend's memory --- */

/* A copy of host bytes that the weights own. */
static enum sluice_status upload(struct binder *b, const void *bytes, size_t n,
                                 DEV const void **out)
{
    struct weights *w = b->w;
    if (w->n_owned == w->owned_room) {
        size_t room = w->owned_room ? 2 * w->owned_room : 64;
        void **grown = realloc(w->owned, room * sizeof(*grown));
        FAIL_IF(!grown, b->err, SLUICE_ERR_NOMEM, "out of memory binding weights");
        w->owned = grown;
        w->owned_room = room;
    }
    DEV void *copy;
    TRY(w->ops->alloc(w->ops->ctx, n, &copy, b->err));
    w->owned[w->n_owned++] = copy;
    w->ops->upload(w->ops->ctx, copy, bytes, n);
    *out = copy;
    return SLUICE_OK;
}

static enum sluice_status place(struct binder *b, const struct gguf_tensor *t,
                                DEV const void **out)
{
    if (!b->w->ops->host_memory)
        return upload(b, t->data, (size_t)t->bytes, out);
    *out = t->data;
    return SLUICE_OK;
}

/* --- matrices --- */

/* Everything of a matrix but its bytes. As in the file, several matrices are one more dimension, or
 * (output_a) more rows. */
static enum sluice_status describe_matrix(struct binder *b, const char *suffix,
                                          const int64_t ne[3], struct weight *out,
                                          const struct gguf_tensor **tensor)
{
    const struct gguf_tensor *t;
    TRY(need(b, suffix, &t));
    TRY(check_shape(b, t, ne));
    if (!quant_info((uint32_t)t->type) || !quant_info((uint32_t)t->type)->is_matrix)
        return fail_type(b, t, "of a matrix");
    *out = (struct weight){
        .type = t->type, .n_in = ne[0], .n_out = ne[1], .n_mat = ne[2], .data = NULL,
    };
    *tensor = t;
    return SLUICE_OK;
}

static enum sluice_status bind_matrix(struct binder *b, const char *suffix, int64_t n_in,
                                      int64_t n_out, struct weight *out)
{
    const struct gguf_tensor *t;
    TRY(describe_matrix(b, suffix, (int64_t[]){n_in, n_out, 1}, out, &t));
    return place(b, t, &out->data);
}

/* The experts of a layer, n_mat E; bytes only if they are not left to a store. */
static enum sluice_status bind_experts(struct binder *b, const char *suffix, int64_t n_in,
                                       int64_t n_out, struct weight *out,
                                       const struct gguf_tensor **tensor)
{
    int64_t ne[] = {n_in, n_out, b->w->shape.n_expert};
    TRY(describe_matrix(b, suffix, ne, out, tensor));
    return b->config->leave_experts ? SLUICE_OK : place(b, *tensor, &out->data);
}

/* --- vectors --- */

static float float_of_half(uint16_t h)
{
    int exponent = h >> 10 & 31;
    int mantissa = h & 1023;
    float magnitude;
    if (exponent == 31)
        magnitude = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        magnitude = ldexpf((float)mantissa, -24);
    else
        magnitude = ldexpf((float)(mantissa | 1024), exponent - 25);
    return h >> 15 ? -magnitude : magnitude;
}

/* n values of any type that publishers use for small vectors; false for other types. */
static bool floats_of(const struct gguf_tensor *t, int64_t n, float *out)
{
    const uint8_t *bytes = t->data;
    for (int64_t i = 0; i < n; i++) {
        uint16_t u;
        uint32_t bits;
        struct block_q8_0 block;
        switch (t->type) {
        case QUANT_F32:
            memcpy(&out[i], bytes + 4 * i, 4);
            break;
        case QUANT_F16:
            memcpy(&u, bytes + 2 * i, 2);
            out[i] = float_of_half(u);
            break;
        case QUANT_BF16:
            memcpy(&u, bytes + 2 * i, 2);
            bits = (uint32_t)u << 16;
            memcpy(&out[i], &bits, 4);
            break;
        case QUANT_Q8_0:
            memcpy(&block, bytes + i / 32 * (int64_t)sizeof(block), sizeof(block));
            out[i] = float_of_half(block.d) * (float)block.q[i % 32];
            break;
        default:
            return false;
        }
    }
    return true;
}

static enum sluice_status bind_vector(struct binder *b, const char *suffix, int64_t n,
                                      DEV const float **out)
{
    const struct gguf_tensor *t;
    TRY(need(b, suffix, &t));
    TRY(check_shape(b, t, (int64_t[]){n, 1, 1}));
    float *values = malloc((size_t)n * sizeof(float));
    FAIL_IF(!values, b->err, SLUICE_ERR_NOMEM, "out of memory binding weights");
    DEV const void *copy = NULL;
    enum sluice_status st = SLUICE_OK;
    if (!floats_of(t, n, values))
        st = fail_type(b, t, "F32, F16, BF16 or Q8_0");
    else
        st = upload(b, values, (size_t)n * sizeof(float), &copy);
    *out = copy;
    free(values);
    return st;
}

/* Token -> experts of a hash layer, {K, V}; every entry is checked here so that no op has to. */
static enum sluice_status bind_token_table(struct binder *b, const char *suffix,
                                           DEV const int32_t **out)
{
    const struct shape *s = &b->w->shape;
    const struct gguf_tensor *t;
    TRY(need(b, suffix, &t));
    TRY(check_shape(b, t, (int64_t[]){s->n_used, s->n_vocab, 1}));
    if (t->type != QUANT_I32 && t->type != QUANT_I64)
        return fail_type(b, t, "I32 or I64");

    int64_t n = (int64_t)s->n_used * s->n_vocab;
    int32_t *table = malloc((size_t)n * sizeof(int32_t));
    FAIL_IF(!table, b->err, SLUICE_ERR_NOMEM, "out of memory binding weights");
    enum sluice_status st = SLUICE_OK;
    DEV const void *copy = NULL;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = 0;
        if (t->type == QUANT_I64)
            memcpy(&id, (const uint8_t *)t->data + 8 * i, 8);
        else
            id = ((const int32_t *)t->data)[i];
        if (id < 0 || id >= s->n_expert) {
            st = status_fail(b->err, SLUICE_ERR_MODEL, -1,
                             "tensor %.*s: token %lld: expected experts 0 to %d, found %lld",
                             STR_ARG(t->name), (long long)(i / s->n_used), s->n_expert - 1,
                             (long long)id);
            goto out;
        }
        table[i] = (int32_t)id;
    }
    st = upload(b, table, (size_t)n * sizeof(int32_t), &copy);
    *out = copy;
out:
    free(table);
    return st;
}

/* --- a layer --- */

static const char *const compressor_names[] = {
    "attn_compressor_kv.weight", "attn_compressor_gate.weight", "attn_compressor_ape.weight",
    "attn_compressor_norm.weight",
};
static const char *const indexer_names[] = {
    "indexer_compressor_kv.weight", "indexer_compressor_gate.weight",
    "indexer_compressor_ape.weight", "indexer_compressor_norm.weight",
    "indexer.attn_q_b.weight", "indexer.proj.weight",
};

static enum sluice_status refuse_present(const struct binder *b, const char *const *names, int n,
                                         int32_t ratio)
{
    for (int i = 0; i < n; i++)
        FAIL_IF(find(b, names[i]), b->err, SLUICE_ERR_MODEL,
                "tensor %s%s: expected none in a layer of ratio %d, found one", b->prefix,
                names[i], ratio);
    return SLUICE_OK;
}

static enum sluice_status bind_hyper(struct binder *b, const char *half, struct hyper_weights *out)
{
    const struct shape *s = &b->w->shape;
    int64_t m = 2 * s->n_stream + (int64_t)s->n_stream * s->n_stream;
    char name[32];
    snprintf(name, sizeof(name), "hc_%s_fn.weight", half);
    TRY(bind_matrix(b, name, s->n_stream * s->dim, m, &out->fn));
    snprintf(name, sizeof(name), "hc_%s_base.weight", half);
    TRY(bind_vector(b, name, m, &out->base));
    snprintf(name, sizeof(name), "hc_%s_scale.weight", half);
    return bind_vector(b, name, 3, &out->scale);
}

static enum sluice_status bind_attention(struct binder *b, struct layer_weights *lw)
{
    const struct shape *s = &b->w->shape;
    int64_t group_in = s->n_head / s->n_group * s->head_dim;
    TRY(bind_vector(b, "attn_norm.weight", s->dim, &lw->attn_norm));
    TRY(bind_matrix(b, "attn_q_a.weight", s->dim, s->q_rank, &lw->q_a));
    TRY(bind_vector(b, "attn_q_a_norm.weight", s->q_rank, &lw->q_a_norm));
    TRY(bind_matrix(b, "attn_q_b.weight", s->q_rank, s->n_head * s->head_dim, &lw->q_b));
    TRY(bind_matrix(b, "attn_kv.weight", s->dim, s->head_dim, &lw->kv));
    TRY(bind_vector(b, "attn_kv_a_norm.weight", s->head_dim, &lw->kv_norm));
    TRY(bind_vector(b, "attn_sinks.weight", s->n_head, &lw->sinks));
    TRY(bind_matrix(b, "attn_output_a.weight", group_in, s->n_group * s->o_rank, &lw->output_a));
    lw->output_a.n_out = s->o_rank;
    lw->output_a.n_mat = s->n_group;
    return bind_matrix(b, "attn_output_b.weight", s->n_group * s->o_rank, s->dim, &lw->output_b);
}

static enum sluice_status bind_compressor(struct binder *b, const char *const *names,
                                          int32_t ratio, int64_t dim,
                                          struct compressor_weights *out)
{
    int64_t width = ratio == 4 ? 2 * dim : dim;
    TRY(bind_matrix(b, names[0], b->w->shape.dim, width, &out->kv));
    TRY(bind_matrix(b, names[1], b->w->shape.dim, width, &out->gate));
    TRY(bind_matrix(b, names[2], width, ratio, &out->ape));
    return bind_vector(b, names[3], dim, &out->norm);
}

static enum sluice_status bind_compression(struct binder *b, int32_t ratio,
                                           struct layer_weights *lw)
{
    const struct shape *s = &b->w->shape;
    if (ratio == 0)
        TRY(refuse_present(b, compressor_names, 4, ratio));
    else
        TRY(bind_compressor(b, compressor_names, ratio, s->head_dim, &lw->compress));
    if (ratio != 4)
        return refuse_present(b, indexer_names, 6, ratio);
    TRY(bind_compressor(b, indexer_names, ratio, s->index_dim, &lw->index_compress));
    TRY(bind_matrix(b, indexer_names[4], s->q_rank, s->n_index_head * s->index_dim,
                    &lw->index_q_b));
    return bind_matrix(b, indexer_names[5], s->dim, s->n_index_head, &lw->index_proj);
}

static enum sluice_status bind_router(struct binder *b, bool hash, struct layer_weights *lw)
{
    const struct shape *s = &b->w->shape;
    const char *bias = "exp_probs_b.bias";
    const char *table = "ffn_gate_tid2eid.weight";
    TRY(bind_matrix(b, "ffn_gate_inp.weight", s->dim, s->n_expert, &lw->router));
    const char *wrong = hash ? bias : table;
    FAIL_IF(find(b, wrong), b->err, SLUICE_ERR_MODEL,
            "tensor %s%s: expected none in a %s-routed layer, found one", b->prefix, wrong,
            hash ? "hash" : "score");
    if (hash)
        return bind_token_table(b, table, &lw->token_to_expert);
    return bind_vector(b, bias, s->n_expert, &lw->bias);
}

static enum sluice_status bind_ffn(struct binder *b, struct layer_weights *lw)
{
    const struct shape *s = &b->w->shape;
    TRY(bind_vector(b, "ffn_norm.weight", s->dim, &lw->ffn_norm));
    TRY(bind_experts(b, "ffn_gate_exps.weight", s->dim, s->inner, &lw->gate, &lw->file_gate));
    TRY(bind_experts(b, "ffn_up_exps.weight", s->dim, s->inner, &lw->up, &lw->file_up));
    TRY(bind_experts(b, "ffn_down_exps.weight", s->inner, s->dim, &lw->down, &lw->file_down));
    TRY(bind_matrix(b, "ffn_gate_shexp.weight", s->dim, s->inner, &lw->shared_gate));
    TRY(bind_matrix(b, "ffn_up_shexp.weight", s->dim, s->inner, &lw->shared_up));
    return bind_matrix(b, "ffn_down_shexp.weight", s->inner, s->dim, &lw->shared_down);
}

static enum sluice_status bind_layer(struct binder *b, int l)
{
    const struct shape *s = &b->w->shape;
    struct layer_weights *lw = &b->w->layer[l];
    TRY(bind_hyper(b, "attn", &lw->hyper_attn));
    TRY(bind_hyper(b, "ffn", &lw->hyper_ffn));
    TRY(bind_attention(b, lw));
    TRY(bind_compression(b, s->ratio[l], lw));
    TRY(bind_router(b, l < s->n_hash_layer, lw));
    return bind_ffn(b, lw);
}

/* --- head and embedding --- */

/* prefix of the three hyper tensors and the norm's name differ between trunk and MTP flavours;
 * b->prefix applies to both. */
static enum sluice_status bind_head(struct binder *b, const char *hyper, const char *norm)
{
    const struct shape *s = &b->w->shape;
    struct head_weights *h = &b->w->head;
    char name[NAME_ROOM];
    snprintf(name, sizeof(name), "%s_fn.weight", hyper);
    TRY(bind_matrix(b, name, s->n_stream * s->dim, s->n_stream, &h->hyper_fn));
    snprintf(name, sizeof(name), "%s_base.weight", hyper);
    TRY(bind_vector(b, name, s->n_stream, &h->hyper_base));
    snprintf(name, sizeof(name), "%s_scale.weight", hyper);
    TRY(bind_vector(b, name, 1, &h->hyper_scale));
    return norm ? bind_vector(b, norm, s->dim, &h->norm) : SLUICE_OK;
}

static enum sluice_status bind_trunk(struct binder *b)
{
    struct weights *w = b->w;
    const struct shape *s = &w->shape;
    b->prefix[0] = '\0';
    if (w->lo == 0 || find(b, "token_embd.weight"))
        TRY(bind_matrix(b, "token_embd.weight", s->dim, s->n_vocab, &w->embed));
    if (w->hi == s->n_layer) {
        TRY(bind_head(b, "output_hc", "output_norm.weight"));
        TRY(bind_matrix(b, "output.weight", s->dim, s->n_vocab, &w->head.output));
    }
    for (int l = w->lo; l < w->hi; l++) {
        snprintf(b->prefix, sizeof(b->prefix), "blk.%d.", l);
        TRY(bind_layer(b, l));
    }
    return SLUICE_OK;
}

/* --- MTP block --- */

static bool has_embedded_mtp(const struct weights_config *c, const struct shape *trunk)
{
    char name[NAME_ROOM];
    snprintf(name, sizeof(name), "blk.%d.nextn.eh_proj.weight", trunk->n_layer);
    return find_named(c, name) != NULL;
}

static enum sluice_status bind_sidecar_mtp(struct binder *b)
{
    struct weights *w = b->w;
    int64_t d = w->shape.dim;
    snprintf(b->prefix, sizeof(b->prefix), "mtp.0.");
    TRY(bind_matrix(b, "e_proj.weight", d, d, &w->mtp.e_proj));
    TRY(bind_matrix(b, "h_proj.weight", d, d, &w->mtp.h_proj));
    TRY(bind_vector(b, "enorm.weight", d, &w->mtp.e_norm));
    TRY(bind_vector(b, "hnorm.weight", d, &w->mtp.h_norm));
    TRY(bind_head(b, "hc_head", "norm.weight"));
    return bind_layer(b, 0);
}

/* eh_proj {2D, D} = [e_proj | h_proj] along the input: each half becomes a matrix. */
static enum sluice_status split_eh_proj(struct binder *b)
{
    struct mtp_weights *m = &b->w->mtp;
    int64_t d = b->w->shape.dim;
    const struct gguf_tensor *t;
    struct weight both;
    TRY(describe_matrix(b, "nextn.eh_proj.weight", (int64_t[]){2 * d, d, 1}, &both, &t));
    FAIL_IF(d % quant_info((uint32_t)t->type)->block_elems, b->err, SLUICE_ERR_MODEL,
            "tensor %.*s: expected a type whose blocks divide %lld, found %s", STR_ARG(t->name),
            (long long)d, quant_info((uint32_t)t->type)->name);

    size_t half = (size_t)quant_row_bytes(t->type, d);
    uint8_t *rows = malloc((size_t)d * half);
    FAIL_IF(!rows, b->err, SLUICE_ERR_NOMEM, "out of memory binding weights");
    enum sluice_status st = SLUICE_OK;
    struct weight *part[] = {&m->e_proj, &m->h_proj};
    for (size_t p = 0; p < 2 && st == SLUICE_OK; p++) {
        for (size_t o = 0; o < (size_t)d; o++)
            memcpy(rows + o * half, (const uint8_t *)t->data + (2 * o + p) * half, half);
        *part[p] = (struct weight){.type = t->type, .n_in = d, .n_out = d, .n_mat = 1};
        st = upload(b, rows, (size_t)d * half, &part[p]->data);
    }
    free(rows);
    return st;
}

/* The block's own stream mix lies under nextn.*, or, in files that hold nothing but the block,
 * under the trunk's names. */
static enum sluice_status bind_embedded_head(struct binder *b)
{
    if (find(b, "nextn.hc_head_fn.weight") ||
        find_named(b->config, "blk.0.attn_norm.weight"))
        return bind_head(b, "nextn.hc_head", NULL);
    b->prefix[0] = '\0';
    return bind_head(b, "output_hc", NULL);
}

static enum sluice_status bind_embedded_mtp(struct binder *b, int block)
{
    struct weights *w = b->w;
    int64_t d = w->shape.dim;
    TRY(bind_embedded_head(b));
    snprintf(b->prefix, sizeof(b->prefix), "blk.%d.", block);
    TRY(split_eh_proj(b));
    TRY(bind_vector(b, "nextn.enorm.weight", d, &w->mtp.e_norm));
    TRY(bind_vector(b, "nextn.hnorm.weight", d, &w->mtp.h_norm));
    TRY(bind_vector(b, "nextn.shared_head_norm.weight", d, &w->head.norm));
    return bind_layer(b, 0);
}

/* --- life --- */

static enum sluice_status weights_new(const struct weights_config *config, struct weights **out,
                                      struct sluice_error *err)
{
    *out = calloc(1, sizeof(**out));
    FAIL_IF(!*out, err, SLUICE_ERR_NOMEM, "out of memory binding weights");
    (*out)->ops = config->ops;
    (*out)->shape = *config->shape;
    return SLUICE_OK;
}

enum sluice_status weights_load(const struct weights_config *config, struct weights **out,
                                struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(config->lo < 0 || config->lo >= config->hi || config->hi > config->shape->n_layer, err,
            SLUICE_ERR_ARG, "layers [%d, %d): expected a range within the model's %d layers",
            config->lo, config->hi, config->shape->n_layer);
    struct weights *w;
    TRY(weights_new(config, &w, err));
    w->lo = config->lo;
    w->hi = config->hi;
    struct binder b = {.config = config, .w = w, .err = err};
    enum sluice_status st = bind_trunk(&b);
    if (st != SLUICE_OK) {
        weights_free(w);
        return st;
    }
    *out = w;
    return SLUICE_OK;
}

bool weights_has_mtp(const struct gguf *const *file, int n_file, const struct shape *shape)
{
    struct weights_config c = {.file = file, .n_file = n_file};
    return find_named(&c, "mtp.0.e_proj.weight") || has_embedded_mtp(&c, shape);
}

enum sluice_status weights_load_mtp(const struct weights_config *config,
                                    const struct weights *trunk, struct weights **out,
                                    struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(find_named(config, "mtp.0.main_proj.weight"), err, SLUICE_ERR_MODEL,
            "tensor mtp.0.main_proj.weight: a DSpark block: expected an MTP block (mtp.0.e_proj)");
    bool sidecar = find_named(config, "mtp.0.e_proj.weight") != NULL;
    FAIL_IF(!sidecar && !has_embedded_mtp(config, config->shape), err, SLUICE_ERR_MODEL,
            "no MTP block: expected tensors mtp.0.* or blk.%d.nextn.*, found neither",
            config->shape->n_layer);
    FAIL_IF(!trunk->embed.data || !trunk->head.output.data, err, SLUICE_ERR_ARG,
            "an MTP block needs the trunk's embedding and output matrix");

    struct weights *w;
    TRY(weights_new(config, &w, err));
    shape_mtp(config->shape, &w->shape);
    w->hi = 1;
    w->embed = trunk->embed;
    w->head.output = trunk->head.output;
    struct binder b = {.config = config, .w = w, .err = err};
    snprintf(b.prefix, sizeof(b.prefix), "blk.%d.", config->shape->n_layer);
    enum sluice_status st =
        sidecar ? bind_sidecar_mtp(&b) : bind_embedded_mtp(&b, config->shape->n_layer);
    if (st != SLUICE_OK) {
        weights_free(w);
        return st;
    }
    *out = w;
    return SLUICE_OK;
}

void weights_free(struct weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_owned; i++)
        w->ops->free(w->ops->ctx, w->owned[i]);
    free(w->owned);
    free(w);
}

static size_t expert_stride(const struct weight *w)
{
    return (size_t)w->n_out * quant_row_bytes(w->type, w->n_in);
}

void weights_expert_bytes(const struct weights *w, struct expert_bytes *out)
{
    for (int l = w->lo; l < w->hi; l++) {
        const struct layer_weights *lw = &w->layer[l];
        SLUICE_ASSERT(lw->gate.data && lw->up.data && lw->down.data);
        out[l - w->lo] = (struct expert_bytes){
            .gate = lw->gate.data, .gate_stride = expert_stride(&lw->gate),
            .up = lw->up.data, .up_stride = expert_stride(&lw->up),
            .down = lw->down.data, .down_stride = expert_stride(&lw->down),
        };
    }
}
