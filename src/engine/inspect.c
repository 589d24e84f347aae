/* sluice_inspect: a model's files as JSON text. Reads metadata and the tensor directory only. */
#include <inttypes.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "formats/gguf.h"
#include "model/forward.h"
#include "model/shape.h"
#include "model/weights.h"
#include "sluice.h"
#include "text/utf8.h"
#include "text/vocab.h"

extern const uint8_t sluice_builtin_model[], sluice_builtin_model_end[];

/* As sluice_open takes them. */
#define DEFAULT_CONTEXT 32768
#define DEFAULT_CHUNK 512

struct inspect {
    const struct gguf *g;
    struct buf b;
    struct shape shape;
    bool has_shape;
    enum kv_format format;
    int64_t context;
    int32_t chunk;
};

/* A name out of a file may be any bytes; what is not UTF-8 becomes U+FFFD, since JSON cannot hold
 * it. */
static void add_string(struct buf *b, struct str s)
{
    buf_add_char(b, '"');
    for (size_t i = 0, n; i < s.len; i += n) {
        int32_t cp;
        n = utf8_next(s.at + i, s.len - i, &cp);
        bool bad = n == 0 || cp < 0;
        n = n ? n : s.len - i;
        json_text_escape(b, bad ? STR_LIT("\xef\xbf\xbd") : (struct str){s.at + i, n});
    }
    buf_add_char(b, '"');
}

static void add_meta_string(struct inspect *in, const char *name, const char *key)
{
    struct str s;
    if (!gguf_kv_find(in->g, key) || gguf_get_str(in->g, key, &s, NULL) != SLUICE_OK)
        return;
    buf_addf(&in->b, ", \"%s\": ", name);
    add_string(&in->b, s);
}

static void add_files(struct inspect *in, const char *path)
{
    buf_add_str(&in->b, "\"files\": [");
    for (int i = 0; i < gguf_file_count(in->g); i++) {
        buf_add_str(&in->b, i ? ", {\"path\": " : "{\"path\": ");
        add_string(&in->b, str_of(path ? gguf_file_path(in->g, i) : "built-in"));
        buf_addf(&in->b, ", \"bytes\": %" PRIu64 "}", gguf_file_size(in->g, i));
    }
    buf_add_str(&in->b, "]");
}

/* The layer of "blk.N.…" or -1. */
static int layer_of(struct str name)
{
    int layer = 0;
    size_t i = 4;
    if (!str_starts(name, STR_LIT("blk.")))
        return -1;
    for (; i < name.len && name.at[i] >= '0' && name.at[i] <= '9' && layer < SHAPE_MAX_LAYERS; i++)
        layer = layer * 10 + (name.at[i] - '0');
    return i > 4 && i < name.len && name.at[i] == '.' ? layer : -1;
}

/* The layers that have tensors: "0-2", "0-20 43". */
static void add_layers(struct inspect *in)
{
    bool has[SHAPE_MAX_LAYERS + 1] = {false};
    const char *gap = "";
    for (uint64_t i = 0; i < gguf_tensor_count(in->g); i++) {
        int layer = layer_of(gguf_tensor_at(in->g, i)->name);
        if (layer >= 0 && layer < SHAPE_MAX_LAYERS)
            has[layer] = true;
    }
    buf_add_str(&in->b, ", \"layers_present\": \"");
    for (int first = 0; first < SHAPE_MAX_LAYERS; first++) {
        if (!has[first])
            continue;
        int last = first;
        while (has[last + 1])
            last++;
        buf_addf(&in->b, last > first ? "%s%d-%d" : "%s%d", gap, first, last);
        gap = " ";
        first = last;
    }
    buf_add_str(&in->b, "\"");
}

static void add_shape(struct inspect *in)
{
    const struct shape *s = &in->shape;
    struct buf *b = &in->b;
    buf_addf(b, ", \"family\": \"%s\", \"shape\": {\"layers\": %d, \"context\": %d, "
                "\"vocabulary\": %d, \"hidden\": %" PRId64 ", \"streams\": %d, \"heads\": %d, "
                "\"head_dim\": %" PRId64 ", \"rotated_dims\": %" PRId64 ", ",
             shape_name(s), s->n_layer, s->n_ctx_max, s->n_vocab, s->dim, s->n_stream, s->n_head,
             s->head_dim, s->rot_dim);
    buf_addf(b, "\"q_rank\": %" PRId64 ", \"output_groups\": %d, \"output_rank\": %" PRId64 ", "
                "\"experts\": %d, \"experts_used\": %d, \"expert_inner\": %" PRId64 ", "
                "\"hash_layers\": %d, \"window\": %d, \"indexer_heads\": %d, "
                "\"indexer_dim\": %" PRId64 ", \"indexer_top_k\": %d, \"ratios\": [",
             s->q_rank, s->n_group, s->o_rank, s->n_expert, s->n_used, s->inner, s->n_hash_layer,
             s->window, s->n_index_head, s->index_dim, s->index_top_k);
    for (int l = 0; l < s->n_layer; l++)
        buf_addf(b, l ? ", %d" : "%d", s->ratio[l]);
    buf_addf(b, "]}, \"mtp\": %s", weights_has_mtp(&in->g, 1, s) ? "true" : "false");
}

static void add_types(struct inspect *in)
{
    uint64_t count[QUANT_TYPE_LIMIT] = {0}, bytes[QUANT_TYPE_LIMIT] = {0}, params = 0, all = 0;
    const char *gap = "";
    for (uint64_t i = 0; i < gguf_tensor_count(in->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(in->g, i);
        count[t->type]++;
        bytes[t->type] += t->bytes;
        all += t->bytes;
        params += (uint64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
    }
    buf_addf(&in->b, ", \"parameters\": %" PRIu64 ", \"weight_bytes\": %" PRIu64 ", \"types\": [",
             params, all);
    for (int t = 0; t < QUANT_TYPE_LIMIT; t++) {
        if (!count[t])
            continue;
        buf_addf(&in->b, "%s{\"type\": \"%s\", \"tensors\": %" PRIu64 ", \"bytes\": %" PRIu64 "}",
                 gap, quant_info((uint32_t)t)->name, count[t], bytes[t]);
        gap = ", ";
    }
    buf_add_str(&in->b, "], \"tensors\": [");
    for (uint64_t i = 0; i < gguf_tensor_count(in->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(in->g, i);
        buf_add_str(&in->b, i ? ", {\"name\": " : "{\"name\": ");
        add_string(&in->b, t->name);
        buf_addf(&in->b, ", \"type\": \"%s\", \"shape\": [", quant_info(t->type)->name);
        for (int d = 0; d < t->n_dims; d++)
            buf_addf(&in->b, d ? ", %" PRId64 : "%" PRId64, t->ne[d]);
        buf_addf(&in->b, "], \"bytes\": %" PRIu64 ", \"file\": %d}", t->bytes, t->file);
    }
    buf_add_str(&in->b, "]");
}

static void add_tokenizer(struct inspect *in)
{
    struct vocab *v;
    struct sluice_error err;
    if (!gguf_kv_find(in->g, "tokenizer.ggml.tokens"))
        return;
    buf_add_str(&in->b, ", \"tokenizer\": {");
    if (vocab_open(in->g, &v, &err) != SLUICE_OK) {
        buf_add_str(&in->b, "\"unusable\": ");
        add_string(&in->b, str_of(err.message));
    } else {
        buf_addf(&in->b, "\"tokens\": %d, \"merges\": %d, \"added\": %d, \"bos\": %d, \"eos\": %d",
                 vocab_count(v), vocab_merge_count(v), vocab_added_count(v),
                 vocab_special(v, VOCAB_BOS), vocab_special(v, VOCAB_EOS));
        add_meta_string(in, "model", "tokenizer.ggml.model");
        add_meta_string(in, "split", "tokenizer.ggml.pre");
        vocab_close(v);
    }
    buf_add_str(&in->b, "}");
}

static void add_memory(struct inspect *in)
{
    struct kv_layout layout;
    kv_layout_make(&in->shape, 0, in->shape.n_layer, in->format, &layout);
    int64_t context = in->context;
    if (!context)
        context = in->shape.n_ctx_max < DEFAULT_CONTEXT ? in->shape.n_ctx_max : DEFAULT_CONTEXT;
    struct model_run_config run = {
        .shape = &in->shape, .layout = &layout, .hi = in->shape.n_layer, .max_rows = in->chunk,
        .max_spans = 1, .max_logits = 1, .max_positions = context,
    };
    int64_t pages = (context + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    uint64_t total = layout.fixed_bytes + (uint64_t)pages * layout.page_bytes;
    buf_addf(&in->b, ", \"memory\": {\"kv\": \"%s\", \"context\": %" PRId64 ", \"kv_fixed\": %zu, "
                     "\"kv_page_tokens\": %d, \"kv_page\": %zu, \"kv_total\": %" PRIu64
                     ", \"chunk\": %d, \"step\": %zu}",
             in->format == KV_FP8 ? "fp8" : "exact", context, layout.fixed_bytes, KV_PAGE_TOKENS,
             layout.page_bytes, total, in->chunk, model_run_bytes(&run));
}

/* Why these files alone are no model, or nothing. */
static void add_unusable(struct inspect *in, const struct sluice_error *err)
{
    char text[128];
    const char *why = in->has_shape ? NULL : err->message;
    const struct gguf *g = in->g;
    if (gguf_tensor_count(g) == 0)
        why = "the file has no tensors";
    else if (!why && gguf_tensor_find(g, "mtp.0.attn_norm.weight"))
        why = "an MTP block, which runs with its model";
    for (int l = 0; !why && l < in->shape.n_layer; l++) {
        snprintf(text, sizeof text, "blk.%d.attn_norm.weight", l);
        why = gguf_tensor_find(g, text) ? NULL : text;
    }
    if (!why && !gguf_tensor_find(g, "token_embd.weight"))
        why = "token_embd.weight";
    if (!why && !gguf_tensor_find(g, "output.weight"))
        why = "output.weight";
    if (!why)
        return;
    char whole[256];
    snprintf(whole, sizeof whole, strchr(why, ' ') ? "%s" : "a slice: %s is not in it", why);
    buf_add_str(&in->b, ", \"unusable\": ");
    add_string(&in->b, str_of(whole));
}

static void add_all(struct inspect *in, const struct sluice_options *options)
{
    struct sluice_error err = {.message = ""};
    in->has_shape = shape_read(in->g, &in->shape, &err) == SLUICE_OK;
    buf_add_char(&in->b, '{');
    add_files(in, options->model);
    add_meta_string(in, "name", "general.name");
    add_meta_string(in, "architecture", "general.architecture");
    buf_addf(&in->b, ", \"fingerprint\": \"%016" PRIx64 "\"", gguf_fingerprint(in->g));
    add_unusable(in, &err);
    add_layers(in);
    if (in->has_shape)
        add_shape(in);
    add_types(in);
    add_tokenizer(in);
    if (in->has_shape)
        add_memory(in);
    buf_add_char(&in->b, '}');
}

enum sluice_status sluice_inspect(const struct sluice_options *options, struct sluice_text *out,
                                  struct sluice_error *err)
{
    struct inspect in = {.format = options->kv == SLUICE_KV_EXACT ? KV_EXACT : KV_FP8,
                         .context = options->context,
                         .chunk = options->chunk ? options->chunk : DEFAULT_CHUNK};
    struct gguf *g;
    size_t builtin = (size_t)(sluice_builtin_model_end - sluice_builtin_model);
    FAIL_IF(in.context < 0 || in.context > LIMIT_CONTEXT, err, SLUICE_ERR_ARG,
            "context: expected at most %d tokens, found %" PRId64, LIMIT_CONTEXT, in.context);
    FAIL_IF(!options->model && !builtin, err, SLUICE_ERR_MODEL,
            "this build has no built-in model: expected a model file");
    if (options->model)
        TRY(gguf_open(&options->model, 1, &g, err));
    else
        TRY(gguf_open_memory(sluice_builtin_model, builtin, &g, err));
    in.g = g;
    buf_init(&in.b, 0);
    add_all(&in, options);
    enum sluice_status st = buf_status(&in.b, err);
    if (st == SLUICE_OK)
        out->at = buf_take(&in.b, &out->len);
    buf_deinit(&in.b);
    gguf_close(g);
    return st;
}
