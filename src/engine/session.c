/* engine/session.c - one private timeline for evaluation: tokens in, logits out. */
#include <stdlib.h>

#include "engine/engine.h"

struct sluice_session {
    struct sluice *e;
    struct kv_state *kv;
    double *profile;                 /* or NULL */
};

enum sluice_status sluice_session_open(struct sluice *e, int64_t context,
                                       struct sluice_session **out, struct sluice_error *err)
{
    *out = NULL;
    int64_t most = e->info.context;
    FAIL_IF(e->options.vocab_only, err, SLUICE_ERR_STATE, "only the tokenizer of %s is open",
            e->path);
    FAIL_IF(context < 0 || context > most, err, SLUICE_ERR_ARG,
            "session: expected a context of at most %lld tokens, found %lld", (long long)most,
            (long long)context);
    struct sluice_session *s = calloc(1, sizeof *s);
    FAIL_IF(!s, err, SLUICE_ERR_NOMEM, "out of memory for a session");
    s->e = e;
    enum sluice_status st =
        kv_state_new(&e->layout, &e->ops, context ? context : most, &s->kv, err);
    if (st != SLUICE_OK) {
        free(s);
        return st;
    }
    *out = s;
    return SLUICE_OK;
}

void sluice_session_close(struct sluice_session *s)
{
    if (!s)
        return;
    kv_state_free(s->kv);
    free(s);
}

int64_t sluice_session_length(const struct sluice_session *s)
{
    return s->kv->n_tokens;
}

/* Rows of one step at most: logits have less room than rows. */
static int32_t most_rows(const struct sluice *e, const struct sluice_eval *eval)
{
    int32_t most = eval->chunk ? eval->chunk : e->info.chunk;
    if (most > e->max_rows)
        most = e->max_rows;
    return eval->logits && most > e->max_logits ? e->max_logits : most;
}

static size_t width(const struct sluice *e)
{
    return (size_t)(e->shape.n_stream * e->shape.dim);
}

/* Tokens [at, at + n) of eval as a batch. */
static struct batch batch_of(const struct sluice *e, const struct sluice_eval *eval, size_t at,
                             const struct batch_span *span)
{
    return (struct batch){
        .n = span->n, .n_spans = 1, .token = eval->ids + at, .span = span,
        .logit_row = eval->logits ? e->all_rows : NULL,
        .n_logits = eval->logits ? span->n : 0,
    };
}

static enum sluice_status eval_step(struct sluice_session *s, const struct sluice_eval *eval,
                                    size_t at, int32_t n, struct sluice_error *err)
{
    struct sluice *e = s->e;
    struct batch_span span = {.kv = s->kv, .n = n};
    struct batch batch = batch_of(e, eval, at, &span);
    engine_profile_begin(e, s->profile);
    enum sluice_status st = forward(e->run, &batch, err);
    engine_profile_end(e);
    TRY(st);
    if (eval->logits)
        model_run_logits(e->run, 0, n, eval->logits + at * (size_t)e->shape.n_vocab);
    if (eval->streams)
        model_run_streams_read(e->run, eval->streams + at * width(e), n);
    return SLUICE_OK;
}

enum sluice_status sluice_session_eval(struct sluice_session *s, const struct sluice_eval *eval,
                                       struct sluice_error *err)
{
    struct sluice *e = s->e;
    FAIL_IF(eval->chunk < 0, err, SLUICE_ERR_ARG, "chunk: expected 1 or more, found %d",
            eval->chunk);
    size_t most = (size_t)most_rows(e, eval);
    for (size_t at = 0; at < eval->n; at += most) {
        size_t n = eval->n - at < most ? eval->n - at : most;
        turn_take(&e->turn);
        enum sluice_status st = eval_step(s, eval, at, (int32_t)n, err);
        turn_give(&e->turn);
        if (st != SLUICE_OK)
            return st;
    }
    return SLUICE_OK;
}

void sluice_session_profile(struct sluice_session *s, double seconds[SLUICE_STAGES])
{
    s->profile = seconds;
}

enum sluice_status sluice_session_rewind(struct sluice_session *s, int64_t length,
                                         struct sluice_error *err)
{
    return kv_state_truncate(s->kv, length, err);
}

enum sluice_status sluice_session_random_past(struct sluice_session *s, int64_t length,
                                              struct sluice_error *err)
{
    FAIL_IF(length < 0, err, SLUICE_ERR_ARG, "random past: expected 0 tokens or more, found %lld",
            (long long)length);
    return kv_state_random(s->kv, &s->e->shape, /*lo=*/0, length, err);
}

static enum sluice_status open_draft(struct sluice *e, struct sluice_error *err)
{
    FAIL_IF(!e->mtp_weights, err, SLUICE_ERR_STATE, "%s has no MTP block: name a file that has one",
            e->path);
    if (e->draft)
        return SLUICE_OK;
    if (!e->draft_input) {
        DEV void *at;
        TRY(e->ops.alloc(e->ops.ctx, (size_t)e->max_rows * width(e) * sizeof(float), &at, err));
        e->draft_input = at;
    }
    struct draft_config config = {
        .weights = e->mtp_weights, .ops = &e->ops, .experts = e->mtp_experts,
        .layout = &e->mtp_layout, .max_rows = e->max_rows, .max_spans = 1,
        .max_logits = e->max_logits, .max_positions = e->info.context,
    };
    return draft_run_new(&config, &e->draft, err);
}

static enum sluice_status draft_step(struct sluice *e, struct kv_state *kv,
                                     const struct sluice_eval *eval, size_t at, int32_t n,
                                     struct sluice_error *err)
{
    struct batch_span span = {.kv = kv, .n = n};
    struct batch batch = batch_of(e, eval, at, &span);
    e->ops.upload(e->ops.ctx, e->draft_input, eval->streams + at * width(e),
                  (size_t)n * width(e) * sizeof(float));
    TRY(draft_forward(e->draft, &batch, e->draft_input, err));
    draft_logits(e->draft, 0, n, eval->logits + at * (size_t)e->shape.n_vocab);
    return SLUICE_OK;
}

static enum sluice_status draft_all(struct sluice *e, const struct sluice_eval *eval,
                                    struct sluice_error *err)
{
    TRY(open_draft(e, err));
    struct kv_state *kv;
    TRY(kv_state_new(&e->mtp_layout, &e->ops, e->info.context, &kv, err));
    enum sluice_status st = SLUICE_OK;
    size_t most = (size_t)most_rows(e, eval);
    for (size_t at = 0; at < eval->n && st == SLUICE_OK; at += most) {
        size_t n = eval->n - at < most ? eval->n - at : most;
        st = draft_step(e, kv, eval, at, (int32_t)n, err);
    }
    kv_state_free(kv);
    return st;
}

enum sluice_status sluice_session_draft(struct sluice_session *s, const struct sluice_eval *eval,
                                        struct sluice_error *err)
{
    struct sluice *e = s->e;
    FAIL_IF(eval->chunk < 0 || !eval->logits || !eval->streams, err, SLUICE_ERR_ARG,
            "draft: expected streams, logits and a chunk of 1 or more, found a chunk of %d",
            eval->chunk);
    turn_take(&e->turn);
    enum sluice_status st = draft_all(e, eval, err);
    turn_give(&e->turn);
    return st;
}
