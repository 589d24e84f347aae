/* server/api_completions.c - OpenAI's Completions: text that goes on, with no conversation around
 * it. */
#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/server_internal.h"
#include "server/sse.h"

/* ---- reading ---- */

static bool all_of(struct json_object *list, enum json_type a, enum json_type b)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);
        if (!json_object_is_type(item, a) && !json_object_is_type(item, b))
            return false;
    }
    return json_object_array_length(list) > 0;
}

/* A string, an array of ids, or an array of either. */
static enum sluice_status read_prompt(struct ask *a, struct json_object *prompt,
                                      struct sluice_error *err)
{
    bool list = json_object_is_type(prompt, json_type_array);
    bool one = json_object_is_type(prompt, json_type_string) ||
               (list && all_of(prompt, json_type_int, json_type_int));
    bool many = list && !one && all_of(prompt, json_type_string, json_type_array);
    FAIL_IF(!one && !many, err, SLUICE_ERR_ARG,
            "prompt: expected a text, token ids, or an array of these, found %.60s",
            json_object_to_json_string(prompt));
    a->prompts = many ? json_object_get(prompt) : json_object_new_array();
    if (one)
        json_object_array_add(a->prompts, json_object_get(prompt));
    return SLUICE_OK;
}

static enum sluice_status parse(struct server *s, struct json_object *body, struct ask *a,
                                struct sluice_error *err)
{
    static const char *const limits[] = {"max_tokens", "n_predict", NULL};
    int64_t n = 1, best_of = 0, top = -1;
    struct json_object *stream = NULL;
    a->effort = SLUICE_EFFORT_NONE;
    TRY(ask_read_common(a, body, err));
    TRY(read_prompt(a, field(body, "prompt"), err));
    a->max_tokens = 16;
    TRY(ask_read_max_tokens(a, body, limits, err));
    TRY(ask_read_stop(a, body, "stop", err));
    TRY(ask_read_bias(a, body, err));
    TRY(field_int(body, "n", (struct range){1, LIMIT_ASK_ANSWERS}, &n, err));
    a->n = (int)n;
    best_of = n;
    TRY(field_int(body, "best_of", (struct range){1, LIMIT_ASK_ANSWERS}, &best_of, err));
    FAIL_IF(best_of != n, err, SLUICE_ERR_ARG, "best_of: expected n (%lld), found %lld",
            (long long)n, (long long)best_of);
    TRY(field_bool(body, "echo", &a->echo, err));
    TRY(field_int(body, "logprobs", (struct range){0, 20}, &top, err));
    a->sampling.logprobs = (int32_t)top;
    FAIL_IF(a->echo && top >= 0, err, SLUICE_ERR_ARG,
            "logprobs: of an echoed prompt are not supported");
    const char *suffix = NULL;
    TRY(field_string(body, "suffix", &suffix, err));
    FAIL_IF(suffix && *suffix, err, SLUICE_ERR_ARG, "suffix: not supported");
    TRY(ask_read_held(a, body, err));
    TRY(ask_read_format(a, field(body, "response_format"), "response_format", err));
    TRY(field_typed(body, "stream_options", json_type_object, &stream, err));
    a->usage = field_true(stream, "include_usage");
    return SLUICE_OK;
}

/* ---- writing ---- */

static void head(struct buf *out, const struct reply *r)
{
    buf_addf(out, "{\"id\": \"cmpl-%s\", \"object\": \"text_completion\", \"created\": %lld", r->id,
             (long long)r->created);
    json_member(out, "model", str_of(r->model));
}

static struct str echo_of(const struct reply *r, int index)
{
    if (!r->ask->echo || !r->ask->texts)
        return STR_LIT("");
    return json_str(json_object_array_get_idx(r->ask->texts, (size_t)(index / r->ask->n)));
}

static void write_token_list(struct buf *out, const struct reply *r, const struct answer *a,
                             int32_t from)
{
    for (int32_t i = from; i < a->n_token; i++) {
        buf_add_str(out, i > from ? ", " : "");
        json_token(out, r, a->token[i].id, /*with_bytes=*/false);
    }
}

static void write_logprobs(struct buf *out, const struct reply *r, const struct answer *a,
                           int32_t from)
{
    if (r->ask->sampling.logprobs < 0 || from >= a->n_token) {
        buf_add_str(out, "null");
        return;
    }
    buf_add_str(out, "{\"tokens\": [");
    write_token_list(out, r, a, from);
    buf_add_str(out, "], \"token_logprobs\": [");
    for (int32_t i = from; i < a->n_token; i++) {
        buf_add_str(out, i > from ? ", " : "");
        json_logprob(out, a->token[i].logprob);
    }
    buf_add_str(out, "], \"top_logprobs\": [");
    for (int32_t i = from; i < a->n_token; i++) {
        buf_add_str(out, i > from ? ", {" : "{");
        for (int32_t k = 0; k < a->token[i].n; k++) {
            const struct sluice_logprob *top = &a->top[a->token[i].first + k];
            buf_add_str(out, k ? ", " : "");
            json_token(out, r, top->id, /*with_bytes=*/false);
            buf_add_str(out, ": ");
            json_logprob(out, top->logprob);
        }
        buf_add_str(out, "}");
    }
    buf_add_str(out, "]}");
}

static void write_usage(struct buf *out, const struct sluice_usage *u)
{
    buf_addf(out,
             "\"usage\": {\"prompt_tokens\": %d, \"completion_tokens\": %d, \"total_tokens\": %d, "
             "\"prompt_tokens_details\": {\"cached_tokens\": %d}}",
             u->prompt, u->answer, u->prompt + u->answer, u->cached);
}

struct piece {
    int index;
    struct str text;
    int32_t token;
    const char *finish;
};

static void chunk(const struct reply *r, struct piece p, struct buf *out)
{
    sse_begin(out, NULL);
    head(out, r);
    buf_addf(out, ", \"choices\": [{\"index\": %d", p.index);
    json_member(out, "text", p.text);
    buf_add_str(out, ", \"logprobs\": ");
    write_logprobs(out, r, &r->answer[p.index], p.token);
    if (p.finish)
        buf_addf(out, ", \"finish_reason\": \"%s\"}]}", p.finish);
    else
        buf_add_str(out, ", \"finish_reason\": null}]}");
    sse_end(out);
}

static void begin(void *state, const struct reply *r, struct buf *out)
{
    for (int i = 0; i < r->n && r->ask->echo; i++)
        chunk(r, (struct piece){.index = i, .text = echo_of(r, i)}, out);
}

static void event(void *state, const struct reply *r, const struct event_out *e, struct buf *out)
{
    chunk(r,
          (struct piece){.index = e->index,
                         .text = e->text.at ? e->text : STR_LIT(""),
                         .token = e->token,
                         .finish = e->kind == EVENT_END ? answer_finish_word(e->answer) : NULL},
          out);
}

static void alive(void *state, const struct reply *r, int64_t done, int64_t total, struct buf *out)
{
    char text[64];
    snprintf(text, sizeof text, "prefill %lld/%lld", (long long)done, (long long)total);
    sse_comment(out, text);
    chunk(r, (struct piece){.text = STR_LIT(""), .token = INT32_MAX}, out);
}

static void end(void *state, const struct reply *r, struct buf *out)
{
    struct sluice_usage u = reply_usage(r);
    if (r->ask->usage) {
        sse_begin(out, NULL);
        head(out, r);
        buf_add_str(out, ", \"choices\": [], ");
        write_usage(out, &u);
        buf_add_str(out, ", \"timings\": ");
        answer_write_timings(&u, out);
        buf_add_str(out, "}");
        sse_end(out);
    }
    buf_add_str(out, "data: [DONE]\n\n");
}

static void failed(void *state, const struct reply *r, const struct fault *f, struct buf *out)
{
    sse_begin(out, NULL);
    fault_write_openai(f, out);
    sse_end(out);
    buf_add_str(out, "data: [DONE]\n\n");
}

static void whole(const struct reply *r, struct buf *out)
{
    struct sluice_usage u = reply_usage(r);
    head(out, r);
    buf_add_str(out, ", \"choices\": [");
    for (int i = 0; i < r->n; i++) {
        const struct answer *a = &r->answer[i];
        struct str echo = echo_of(r, i);
        buf_addf(out, "%s{\"index\": %d, \"text\": \"", i ? ", " : "", i);
        json_text_escape(out, echo);
        json_text_escape(out, buf_text(&a->content));
        buf_add_str(out, "\", \"logprobs\": ");
        write_logprobs(out, r, a, 0);
        buf_addf(out, ", \"finish_reason\": \"%s\"", answer_finish_word(a));
        if (a->stop)
            json_member(out, "stop_reason", str_of(a->stop));
        buf_add_str(out, "}");
    }
    buf_add_str(out, "], ");
    write_usage(out, &u);
    buf_add_str(out, ", \"timings\": ");
    answer_write_timings(&u, out);
    buf_add_str(out, "}");
}

static const struct encoder encoder = {
    .stream_type = SSE_TYPE,
    .begin = begin,
    .event = event,
    .alive = alive,
    .end = end,
    .failed = failed,
    .whole = whole,
    .fault = fault_write_openai,
};

const struct api api_completions = {"completions", &encoder, parse};
