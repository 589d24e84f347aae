/* engine/open.c - opening a model and closing it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/schedule.h"
#include "text/grammar.h"
#include "os/cpu.h"
#include "os/memory.h"

extern const uint8_t sluice_builtin_model[], sluice_builtin_model_end[];

void engine_log(const struct sluice *e, enum sluice_log_level level, const char *fmt, ...)
{
    if (!e->options.log || level > e->options.log_level)
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    e->options.log(e->options.log_ctx, level, text);
}

static enum sluice_status open_file(struct sluice *e, const char *path, struct sluice_error *err)
{
    if (path) {
        TRY(gguf_open(&path, 1, &e->file, err));
        e->path = strdup(path);
    } else {
        size_t len = (size_t)(sluice_builtin_model_end - sluice_builtin_model);
        FAIL_IF(len == 0, err, SLUICE_ERR_MODEL,
                "this build has no built-in model: name a model file");
        TRY(gguf_open_memory(sluice_builtin_model, len, &e->file, err));
        e->path = strdup("built-in");
        e->info.builtin = true;
    }
    FAIL_IF(!e->path, err, SLUICE_ERR_NOMEM, "out of memory for a path");
    return SLUICE_OK;
}

/* general.name, or the file's name without folders. */
static enum sluice_status read_name(struct sluice *e, struct sluice_error *err)
{
    struct str name;
    if (gguf_get_str(e->file, "general.name", &name, NULL) == SLUICE_OK && name.len > 0 &&
        name.len < 256) {
        e->name = strndup(name.at, name.len);
    } else {
        const char *slash = strrchr(e->path, '/');
        e->name = strdup(slash ? slash + 1 : e->path);
    }
    FAIL_IF(!e->name, err, SLUICE_ERR_NOMEM, "out of memory for a name");
    return SLUICE_OK;
}

static enum sluice_status open_store(const struct weights *w, struct expert_store **out,
                                     struct sluice_error *err)
{
    int n = w->hi - w->lo;
    struct expert_bytes *bytes = calloc((size_t)n, sizeof *bytes);
    FAIL_IF(!bytes, err, SLUICE_ERR_NOMEM, "out of memory for experts");
    weights_expert_bytes(w, bytes);
    struct expert_store_config config = {
        .layer = bytes, .n_layer = n, .n_expert = w->shape.n_expert};
    enum sluice_status st = expert_store_open_resident(&config, out, err);
    free(bytes);
    return st;
}

static enum sluice_status open_weights(struct sluice *e, struct sluice_error *err)
{
    const struct gguf *files[] = {e->mtp_file ? e->mtp_file : e->file, e->file};
    struct weights_config config = {
        .file = files + 1, .n_file = 1, .shape = &e->shape, .ops = &e->ops,
        .lo = 0, .hi = e->shape.n_layer,
    };
    TRY(weights_load(&config, &e->weights, err));
    TRY(open_store(e->weights, &e->experts, err));
    config.file = files;
    config.n_file = e->mtp_file ? 2 : 1;
    bool has = weights_has_mtp(files, config.n_file, &e->shape);
    FAIL_IF(e->mtp_file && !has, err, SLUICE_ERR_MODEL, "the MTP file holds no MTP block");
    if (!has)
        return SLUICE_OK;
    TRY(weights_load_mtp(&config, e->weights, &e->mtp_weights, err));
    return open_store(e->mtp_weights, &e->mtp_experts, err);
}

static enum sluice_status open_backend(struct sluice *e, const struct sluice_options *o,
                                       struct sluice_error *err)
{
    /* Memory lies on all nodes: on several, threads that wander gain nothing and lose caches. */
    bool pin = o->pin == SLUICE_PIN_ON || (o->pin == SLUICE_PIN_AUTO && memory_nodes() > 1);
    TRY(pool_open(o->threads, pin, &e->pool, err));
    TRY(ops_open(o->backend, o->isa, e->pool, &e->ops, err));
    ops_describe(&e->ops, e->backend, sizeof e->backend);
    e->info.threads = pool_threads(e->pool);
    return SLUICE_OK;
}

static enum sluice_status open_run(struct sluice *e, struct sluice_error *err)
{
    e->all_rows = malloc((size_t)e->max_logits * sizeof *e->all_rows);
    FAIL_IF(!e->all_rows, err, SLUICE_ERR_NOMEM, "out of memory for row numbers");
    for (int32_t i = 0; i < e->max_logits; i++)
        e->all_rows[i] = i;
    struct model_run_config config = {
        .shape = &e->shape, .weights = e->weights, .ops = &e->ops, .experts = e->experts,
        .layout = &e->layout, .lo = 0, .hi = e->shape.n_layer, .max_rows = e->max_rows,
        .max_spans = e->info.max_requests + 1, .max_logits = e->max_logits,
        .max_positions = e->info.context, .tap = &e->tap,
    };
    engine_profile_init(e);
    return model_run_new(&config, &e->run, err);
}

static void fill_info(struct sluice *e)
{
    struct sluice_info *info = &e->info;
    info->name = e->name;
    info->family = e->options.vocab_only ? "tokenizer" : shape_name(&e->shape);
    info->model_path = e->path;
    info->backend = e->backend;
    info->has_mtp = e->mtp_weights != NULL;
    info->n_vocab = e->options.vocab_only ? vocab_count(e->vocab) : e->shape.n_vocab;
    info->n_layer = e->shape.n_layer;
    info->n_expert = e->shape.n_expert;
    info->n_expert_used = e->shape.n_used;
    info->dim = (int32_t)e->shape.dim;
    info->n_stream = e->shape.n_stream;
    info->bos = e->vocab ? vocab_special(e->vocab, VOCAB_BOS) : -1;
    info->eos = e->vocab ? vocab_special(e->vocab, VOCAB_EOS) : -1;
}

static bool has_vocab(const struct gguf *g)
{
    return gguf_kv_find(g, "tokenizer.ggml.tokens") != NULL;
}

/* A file without a tokenizer can still be evaluated by token ids. */
static enum sluice_status open_vocab(struct sluice *e, struct sluice_error *err)
{
    if (!has_vocab(e->file))
        return SLUICE_OK;
    TRY(vocab_open(e->file, &e->vocab, err));
    FAIL_IF(!e->options.vocab_only && vocab_count(e->vocab) > e->shape.n_vocab, err,
            SLUICE_ERR_MODEL,
            "tokenizer.ggml.tokens: expected at most the %d rows of token_embd.weight, found %d",
            e->shape.n_vocab, vocab_count(e->vocab));
    return SLUICE_OK;
}

static enum sluice_status open_all(struct sluice *e, const struct sluice_options *o,
                                   struct sluice_error *err)
{
    TRY(open_file(e, o->model, err));
    TRY(read_name(e, err));
    if (o->vocab_only) {
        FAIL_IF(!has_vocab(e->file), err, SLUICE_ERR_MODEL, "%s holds no tokenizer", e->path);
        TRY(open_vocab(e, err));
        fill_info(e);
        return SLUICE_OK;
    }
    TRY(shape_read(e->file, &e->shape, err));
    TRY(open_vocab(e, err));
    if (o->mtp)
        TRY(gguf_open(&o->mtp, 1, &e->mtp_file, err));
    TRY(engine_plan(e, err));
    TRY(open_backend(e, o, err));
    TRY(open_weights(e, err));
    TRY(open_run(e, err));
    fill_info(e);
    load_begin(e);
    return schedule_open(e, &e->schedule, err);
}

enum sluice_status sluice_open(const struct sluice_options *options, struct sluice **out,
                               struct sluice_error *err)
{
    *out = NULL;
    struct sluice *e = calloc(1, sizeof *e);
    FAIL_IF(!e, err, SLUICE_ERR_NOMEM, "out of memory for an engine");
    e->options = *options;
    turn_init(&e->turn);
    pthread_mutex_init(&e->trie_lock, NULL);
    load_init(&e->load);
    enum sluice_status st = open_all(e, options, err);
    if (st != SLUICE_OK) {
        sluice_close(e);
        return st;
    }
    engine_log(e, SLUICE_LOG_INFO, "%s: %s, %s", e->path, e->info.family, e->backend);
    *out = e;
    return SLUICE_OK;
}

void sluice_close(struct sluice *e)
{
    if (!e)
        return;
    schedule_close(e->schedule);
    load_end(&e->load);
    draft_run_free(e->draft);
    if (e->draft_input)
        e->ops.free(e->ops.ctx, e->draft_input);
    model_run_free(e->run);
    expert_store_close(e->mtp_experts);
    expert_store_close(e->experts);
    weights_free(e->mtp_weights);
    weights_free(e->weights);
    ops_close(&e->ops);
    pool_close(e->pool);
    token_trie_free(e->trie);
    pthread_mutex_destroy(&e->trie_lock);
    vocab_close(e->vocab);
    gguf_close(e->mtp_file);
    gguf_close(e->file);
    turn_deinit(&e->turn);
    free(e->all_rows);
    free(e->name);
    free(e->path);
    free(e);
}

void sluice_store_identity(const struct sluice *e, struct page_identity *out)
{
    *out = (struct page_identity){
        .model = gguf_fingerprint(e->file),
        .kv_format = (uint32_t)e->layout.format,
        .numerics = e->ops.numerics,
        .page_bytes = e->layout.page_bytes,
        .fixed_bytes = e->layout.fixed_bytes,
    };
}

void sluice_store_set(struct sluice *e, const struct page_sink *sink)
{
    struct page_identity identity;
    sluice_store_identity(e, &identity);
    if (e->schedule && e->layout.page_bytes > 0) /* else there is nothing to keep */
        schedule_set_store(e->schedule, sink, page_key_root(&identity));
}

const struct sluice_info *sluice_info(const struct sluice *e)
{
    return &e->info;
}

const char *sluice_cpu_features(void)
{
    return cpu_describe();
}

void sluice_free(void *p)
{
    free(p);
}
