/* engine/plan.c - what a model needs and what there is, before anything large is allocated. */
#include "engine/engine.h"

#include "base/check.h"
#include "os/memory.h"

#define MIB (1024.0 * 1024.0)
#define DEFAULT_CONTEXT 32768
#define DEFAULT_REQUESTS 64
#define DEFAULT_CHUNK 512
#define DEFAULT_CHECKPOINT 2048
#define LOGIT_BYTES ((int64_t)64 << 20)

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static enum sluice_status check_options(const struct sluice *e, struct sluice_error *err)
{
    const struct sluice_options *o = &e->options;
    FAIL_IF(o->context < 0 || o->context > e->shape.n_ctx_max, err, SLUICE_ERR_ARG,
            "context: expected 1 to %d tokens, which is the model's limit, found %lld",
            e->shape.n_ctx_max, (long long)o->context);
    FAIL_IF(o->max_requests < 0 || o->max_requests > 4096, err, SLUICE_ERR_ARG,
            "requests at once: expected 1 to 4096, found %d", o->max_requests);
    FAIL_IF(o->chunk < 0 || o->chunk > 65536, err, SLUICE_ERR_ARG,
            "chunk: expected 1 to 65536 rows, found %d", o->chunk);
    FAIL_IF(o->kv_bytes < 0, err, SLUICE_ERR_ARG, "memory of conversations: found %lld bytes",
            (long long)o->kv_bytes);
    FAIL_IF(o->checkpoint < 0, err, SLUICE_ERR_ARG, "checkpoint interval: found %lld tokens",
            (long long)o->checkpoint);
    return SLUICE_OK;
}

static bool contains(struct str name, const char *part)
{
    return memmem(name.at, name.len, part, strlen(part)) != NULL;
}

/* Of one tensor, what a decoded token reads: the experts it picks, a row of the embedding, nothing
 * of the MTP block, else all. */
static int64_t token_bytes(const struct sluice *e, const struct gguf_tensor *t)
{
    char mtp[32];
    snprintf(mtp, sizeof mtp, "blk.%d.", e->shape.n_layer);
    if (str_starts(t->name, str_of(mtp)) || str_starts(t->name, STR_LIT("mtp.")))
        return 0;
    if (contains(t->name, "_exps."))
        return (int64_t)t->bytes * e->shape.n_used / e->shape.n_expert;
    bool table = contains(t->name, "token_embd.") || contains(t->name, "tid2eid");
    return table ? (int64_t)t->bytes / e->shape.n_vocab : (int64_t)t->bytes;
}

static void count_weights(struct sluice *e)
{
    for (uint64_t i = 0; i < gguf_tensor_count(e->file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(e->file, i);
        e->info.n_params += (int64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
        e->info.weight_bytes += (int64_t)t->bytes;
        e->info.token_bytes += token_bytes(e, t);
    }
}

static int64_t conversation_bytes(const struct sluice *e, int64_t tokens)
{
    int64_t pages = (tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    return (int64_t)e->layout.fixed_bytes + pages * (int64_t)e->layout.page_bytes;
}

static int64_t step_bytes(const struct sluice *e)
{
    struct model_run_config config = {
        .shape = &e->shape, .layout = &e->layout, .lo = 0, .hi = e->shape.n_layer,
        .max_rows = e->max_rows, .max_spans = e->info.max_requests + 1,
        .max_logits = e->max_logits, .max_positions = e->info.context,
    };
    return (int64_t)model_run_bytes(&config);
}

/* Weights are mapped: they may be larger than the memory, at the price of reading them again. So
 * they claim at most half of it. */
static enum sluice_status budget(struct sluice *e, struct sluice_error *err)
{
    struct sluice_info *info = &e->info;
    int64_t available = memory_available();
    int64_t weights = least(info->weight_bytes, available / 2);
    int64_t together = e->options.all_at_once ? info->max_requests : 1;
    int64_t need = together * conversation_bytes(e, info->context);
    int64_t left = available - weights - info->step_bytes;
    info->kv_budget = e->options.kv_bytes ? e->options.kv_bytes : most(left / 2, least(need, left));
    FAIL_IF(info->kv_budget < need || left < need, err, SLUICE_ERR_NOMEM,
            "%lld conversation%s of %lld tokens %s %.0f MiB, but only %.0f MiB can be given to "
            "conversations: %.0f MiB available - %.0f MiB weights - %.0f MiB for steps of %d rows "
            "= %.0f MiB%s; ask for a smaller context%s",
            (long long)together, together == 1 ? "" : "s", (long long)info->context,
            together == 1 ? "needs" : "need", (double)need / MIB, (double)info->kv_budget / MIB,
            (double)available / MIB, (double)weights / MIB, (double)info->step_bytes / MIB,
            e->max_rows, (double)left / MIB, e->options.kv_bytes ? ", limit set by option" : "",
            together == 1 ? "" : " or fewer at once");
    e->weights_fit = info->weight_bytes <= available - info->kv_budget - info->step_bytes;
    return SLUICE_OK;
}

enum sluice_status engine_plan(struct sluice *e, struct sluice_error *err)
{
    const struct sluice_options *o = &e->options;
    struct sluice_info *info = &e->info;
    TRY(check_options(e, err));
    info->context_max = e->shape.n_ctx_max;
    info->context = o->context ? o->context : least(DEFAULT_CONTEXT, info->context_max);
    info->max_requests = o->max_requests ? o->max_requests : DEFAULT_REQUESTS;
    info->chunk = o->chunk ? o->chunk : DEFAULT_CHUNK;
    info->kv = o->kv;
    e->checkpoint = o->checkpoint ? o->checkpoint : DEFAULT_CHECKPOINT;
    e->max_rows = (int32_t)most(info->chunk, info->max_requests);
    int64_t logits = LOGIT_BYTES / ((int64_t)sizeof(float) * e->shape.n_vocab);
    e->max_logits = (int32_t)least(most(logits, info->max_requests), e->max_rows);
    enum kv_format format = o->kv == SLUICE_KV_EXACT ? KV_EXACT : KV_FP8;
    kv_layout_make(&e->shape, 0, e->shape.n_layer, format, &e->layout);
    e->layout.used = &e->kv_used;
    draft_kv_layout(&e->shape, format, &e->mtp_layout);
    count_weights(e);
    info->kv_bytes_fixed = (int64_t)e->layout.fixed_bytes;
    info->kv_bytes_per_1k = (int64_t)e->layout.page_bytes * 1024 / KV_PAGE_TOKENS;
    info->step_bytes = step_bytes(e);
    return budget(e, err);
}
