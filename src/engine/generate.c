/* engine/generate.c - see generate.h. */
#include "engine/generate.h"

#include <stdlib.h>
#include <string.h>

static void send(const struct generate *g, const struct sluice_event *event)
{
    if (g->on_event)
        g->on_event(g->ctx, event);
}

static void forward_answer(void *ctx, const struct answer_event *e)
{
    static const enum sluice_event_kind kinds[] = {
        [ANSWER_REASONING] = SLUICE_EVENT_REASONING,
        [ANSWER_CONTENT] = SLUICE_EVENT_CONTENT,
        [ANSWER_CALL_BEGIN] = SLUICE_EVENT_CALL_BEGIN,
        [ANSWER_CALL_ARGS] = SLUICE_EVENT_CALL_ARGS,
        [ANSWER_CALL_END] = SLUICE_EVENT_CALL_END,
        [ANSWER_CALL_ABORT] = SLUICE_EVENT_CALL_ABORT,
    };
    struct generate *g = ctx;
    g->n_calls += e->kind == ANSWER_CALL_END;
    /* Texts are NUL-terminated for callers; the parser's are views. */
    char *copy = strndup(e->text.at, e->text.len);
    struct sluice_event event = {
        .kind = kinds[e->kind], .text = copy ? copy : "", .len = copy ? e->text.len : 0,
        .n = e->index};
    send(g, &event);
    free(copy);
}

static enum sluice_status copy_stops(struct generate *g,
                                     const struct sluice_request_options *options,
                                     struct sluice_error *err)
{
    FAIL_IF(options->n_stop < 0 || options->n_stop > DETOK_MAX_STOPS, err, SLUICE_ERR_ARG,
            "stop strings: expected at most %d, found %d", DETOK_MAX_STOPS, options->n_stop);
    if (options->n_stop == 0)
        return SLUICE_OK;
    g->stop = calloc((size_t)options->n_stop, sizeof *g->stop);
    FAIL_IF(!g->stop, err, SLUICE_ERR_NOMEM, "out of memory for stop strings");
    for (int i = 0; i < options->n_stop; i++) {
        char *text = strdup(options->stop[i]);
        FAIL_IF(!text, err, SLUICE_ERR_NOMEM, "out of memory for stop strings");
        g->stop[g->n_stop++] = str_of(text);
    }
    return SLUICE_OK;
}

static enum sluice_status open_detok(struct generate *g, struct sluice_error *err)
{
    return detok_init(&g->detok, g->vocab, g->thinking ? NULL : g->stop,
                      g->thinking ? 0 : g->n_stop, err);
}

enum sluice_status generate_init(struct generate *g, const struct vocab *vocab,
                                 const struct sluice_request_options *options,
                                 struct sluice_error *err)
{
    *g = (struct generate){
        .vocab = vocab,
        .on_event = options->on_event,
        .ctx = options->ctx,
        .raw = options->raw,
        .ignore_eos = options->ignore_eos,
        .max_tokens = options->max_tokens,
        .think_budget = options->think_budget,
        .thinking = options->thinking,
    };
    buf_init(&g->text, 0);
    reasoning_init(&g->reasoning, g->thinking, (struct answer_sink){g, forward_answer});
    enum sluice_status st = copy_stops(g, options, err);
    struct detok probe; /* the answer's stop strings are checked now, not when it begins */
    if (st == SLUICE_OK)
        st = detok_init(&probe, vocab, g->stop, g->n_stop, err);
    if (st == SLUICE_OK) {
        detok_deinit(&probe);
        st = open_detok(g, err);
    }
    if (st != SLUICE_OK)
        generate_deinit(g);
    return st;
}

void generate_deinit(struct generate *g)
{
    for (int i = 0; i < g->n_stop; i++)
        free((char *)g->stop[i].at);
    free(g->stop);
    detok_deinit(&g->detok);
    reasoning_deinit(&g->reasoning);
    buf_deinit(&g->text);
    *g = (struct generate){0};
}

int32_t generate_forced(const struct generate *g)
{
    bool spent = g->thinking && g->think_budget > 0 && g->n_answer >= g->think_budget;
    return spent ? vocab_special(g->vocab, VOCAB_THINK_END) : -1;
}

/* Passes the text that detok has released on to the caller. */
static enum sluice_status release(struct generate *g, struct sluice_error *err)
{
    struct str text = {g->text.data ? g->text.data : "", g->text.len};
    enum sluice_status st = buf_status(&g->text, err);
    if (st == SLUICE_OK && text.len > 0 && g->raw) {
        struct answer_event e = {.kind = ANSWER_CONTENT, .text = text};
        forward_answer(g, &e);
    } else if (st == SLUICE_OK && text.len > 0) {
        st = reasoning_push(&g->reasoning, text, err);
    }
    buf_clear(&g->text);
    return st;
}

/* The answer begins with a detokenizer of its own, which knows the stop strings. */
static enum sluice_status end_thinking(struct generate *g, struct sluice_error *err)
{
    TRY(detok_finish(&g->detok, &g->text, err));
    TRY(release(g, err));
    detok_deinit(&g->detok);
    g->thinking = false;
    return open_detok(g, err);
}

/* A model whose thinking was cut short goes on with it in the answer and closes it there, once
 * more: that token shows as a break of the text. */
static enum sluice_status push_token(struct generate *g, int32_t id, struct sluice_error *err)
{
    bool again = g->cut && !g->thinking && id == vocab_special(g->vocab, VOCAB_THINK_END);
    if (!again)
        return detok_push(&g->detok, id, &g->text, err);
    TRY(detok_finish(&g->detok, &g->text, err));
    buf_add(&g->text, "\n\n", 2);
    detok_deinit(&g->detok);
    return open_detok(g, err);
}

static void send_token(struct generate *g, const struct sampler_result *token)
{
    struct sluice_event event = {
        .kind = SLUICE_EVENT_TOKEN, .text = "", .id = token->id, .own = token->own,
        .top = token->top, .n_top = token->n_top};
    send(g, &event);
}

enum sluice_status generate_token(struct generate *g, const struct sampler_result *token,
                                  bool *ended, enum sluice_finish *finish,
                                  struct sluice_error *err)
{
    *ended = true;
    g->cut |= generate_forced(g) >= 0;
    g->n_answer++;
    g->n_reasoning += g->thinking;
    if (token->id == vocab_special(g->vocab, VOCAB_EOS) && !g->ignore_eos) {
        *finish = SLUICE_FINISH_STOP;
        return SLUICE_OK;
    }
    send_token(g, token);
    TRY(push_token(g, token->id, err));
    TRY(release(g, err));
    if (g->thinking && token->id == vocab_special(g->vocab, VOCAB_THINK_END))
        TRY(end_thinking(g, err));
    if (detok_stop(&g->detok) >= 0) {
        *finish = SLUICE_FINISH_STOP_STRING;
        return SLUICE_OK;
    }
    *finish = SLUICE_FINISH_LENGTH;
    *ended = g->n_answer >= g->max_tokens;
    return SLUICE_OK;
}

void generate_done(struct generate *g, enum sluice_finish finish, struct sluice_usage usage,
                   const struct sluice_error *error)
{
    struct sluice_error late;
    if (finish != SLUICE_FINISH_ERROR) {
        enum sluice_status st = detok_finish(&g->detok, &g->text, &late);
        if (st == SLUICE_OK)
            st = release(g, &late);
        if (st == SLUICE_OK && !g->raw)
            st = reasoning_finish(&g->reasoning, &late);
        if (st != SLUICE_OK) {
            finish = SLUICE_FINISH_ERROR;
            error = &late;
        }
    }
    if (finish == SLUICE_FINISH_STOP && g->n_calls > 0)
        finish = SLUICE_FINISH_TOOL_CALLS;
    usage.answer = g->n_answer;
    usage.reasoning = g->n_reasoning;
    int stop = detok_stop(&g->detok);
    struct sluice_event event = {
        .kind = SLUICE_EVENT_DONE, .text = "", .finish = finish, .usage = usage,
        .stop = finish == SLUICE_FINISH_STOP_STRING && stop >= 0 ? g->stop[stop].at : NULL,
        .error = finish == SLUICE_FINISH_ERROR ? error : NULL};
    send(g, &event);
}
