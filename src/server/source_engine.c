/* server/source_engine.c - answers from a model: sluice.h as it is. */
#include "server/source.h"

#include <stdlib.h>

#include "kvstore/kvstore.h"
#include "server/server.h"

struct engine_source {
    struct sluice *e;
    struct kvstore *store; /* or NULL; outlives the engine */
};

static struct sluice *engine_of(void *ctx)
{
    return ((struct engine_source *)ctx)->e;
}

static const struct sluice_info *info(void *ctx)
{
    return sluice_info(engine_of(ctx));
}

static enum sluice_status chat_tokens(void *ctx, const struct sluice_chat *chat,
                                      struct sluice_tokens *out, struct sluice_error *err)
{
    return sluice_chat_tokens(engine_of(ctx), chat, out, err);
}

static enum sluice_status tokenize(void *ctx, struct str text, bool allow_special,
                                   struct sluice_tokens *out, struct sluice_error *err)
{
    return sluice_tokenize(engine_of(ctx), text.at, text.len, allow_special, out, err);
}

static enum sluice_status detokenize(void *ctx, const int32_t *ids, size_t n,
                                     struct sluice_text *out, struct sluice_error *err)
{
    return sluice_detokenize(engine_of(ctx), ids, n, out, err);
}

static enum sluice_status grammar(void *ctx, const struct sluice_grammar_options *options,
                                  struct sluice_grammar **out, struct sluice_error *err)
{
    return sluice_grammar_new(engine_of(ctx), options, out, err);
}

static enum sluice_status submit(void *ctx, const struct sluice_request_options *options,
                                 struct source_request **out, struct sluice_error *err)
{
    return sluice_submit(engine_of(ctx), options, (struct sluice_request **)out, err);
}

static void cancel(struct source_request *r)
{
    sluice_cancel((struct sluice_request *)r);
}

static void release(struct source_request *r)
{
    sluice_release((struct sluice_request *)r);
}

static void stats(void *ctx, struct sluice_stats *out)
{
    sluice_stats(engine_of(ctx), out);
}

static void close_engine(void *ctx)
{
    struct engine_source *x = ctx;
    sluice_close(x->e);
    kvstore_close(x->store);
    free(x);
}

static const struct source_fns engine_fns = {
    .info = info,
    .chat_tokens = chat_tokens,
    .tokenize = tokenize,
    .detokenize = detokenize,
    .free = sluice_free,
    .grammar = grammar,
    .submit = submit,
    .cancel = cancel,
    .release = release,
    .stats = stats,
    .close = close_engine,
};

static enum sluice_status open_store(struct engine_source *x, const struct server_model *model,
                                     struct sluice_error *err)
{
    struct kvstore_options o = {
        .dir = model->kv_dir, .bytes = model->kv_dir_bytes, .log = model->engine.log,
        .log_ctx = model->engine.log_ctx};
    sluice_store_identity(x->e, &o.identity);
    TRY(kvstore_open(&o, &x->store, err));
    sluice_store_set(x->e, kvstore_sink(x->store));
    return SLUICE_OK;
}

enum sluice_status source_engine_open(const void *model, struct source *out,
                                      struct sluice_error *err)
{
    const struct server_model *m = model;
    struct engine_source *x = calloc(1, sizeof *x);
    FAIL_IF(!x, err, SLUICE_ERR_NOMEM, "out of memory for a model");
    enum sluice_status st = sluice_open(&m->engine, &x->e, err);
    if (st == SLUICE_OK && m->kv_dir)
        st = open_store(x, m, err);
    if (st != SLUICE_OK) {
        close_engine(x);
        return st;
    }
    *out = (struct source){&engine_fns, x};
    return SLUICE_OK;
}
