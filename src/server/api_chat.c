/* server/api_chat.c - OpenAI's Chat Completions, with the additions that local clients use:
 * reasoning_content, thinking, top_k and min_p, timings. */
#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/server_internal.h"
#include "server/sse.h"
#include "server/turns.h"

/* ---- reading ---- */

static enum sluice_status read_tools(struct ask *a, struct json_object *body,
                                     struct sluice_error *err)
{
    struct json_object *tools = NULL;
    TRY(field_typed(body, "tools", json_type_array, &tools, err));
    for (size_t i = 0; tools && i < json_object_array_length(tools); i++) {
        struct json_object *tool = json_object_array_get_idx(tools, i);
        struct json_object *function = field(tool, "function");
        const char *type = field_text(tool, "type");
        /* Types that run on some vendor's servers are passed over, as clients expect. */
        if (type && strcmp(type, "function") != 0)
            continue;
        FAIL_IF(!function, err, SLUICE_ERR_ARG, "tools[%zu]: expected a function, found %.60s", i,
                json_object_to_json_string(tool));
        TRY(ask_add_tool(a, json_object_get(function), err));
    }
    return SLUICE_OK;
}

static enum sluice_status read_choice(struct ask *a, struct json_object *choice,
                                      struct sluice_error *err)
{
    const char *word = json_object_is_type(choice, json_type_string)
                           ? json_object_get_string(choice)
                           : field_text(choice, "type");
    if (!choice || (word && strcmp(word, "auto") == 0))
        return SLUICE_OK;
    if (word && strcmp(word, "none") == 0) {
        a->choice = ASK_NO_CALL;
        return SLUICE_OK;
    }
    if (word && (strcmp(word, "required") == 0 || strcmp(word, "any") == 0))
        return ask_force(a, NULL, err);
    const char *name = field_text(field(choice, "function"), "name");
    FAIL_IF(!word || strcmp(word, "function") != 0 || !name, err, SLUICE_ERR_ARG,
            "tool_choice: expected none, auto, required or a function with its name, found %.60s",
            json_object_to_json_string(choice));
    return ask_force(a, name, err);
}

static enum sluice_status read_effort(struct ask *a, struct json_object *body,
                                      struct sluice_error *err)
{
    struct json_object *reasoning = field(body, "reasoning");
    struct json_object *template = field(body, "chat_template_kwargs");
    struct json_object *words[] = {field(template, "thinking"), field(template, "enable_thinking"),
                                   field(body, "enable_thinking"), field(reasoning, "enabled")};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!json_object_is_type(words[i], json_type_boolean))
            continue;
        if (!json_object_get_boolean(words[i]))
            a->effort = SLUICE_EFFORT_NONE;
        else if (a->effort == SLUICE_EFFORT_NONE)
            a->effort = SLUICE_EFFORT_DEFAULT;
    }
    TRY(ask_effort(a, field(template, "reasoning_effort"), "chat_template_kwargs", err));
    TRY(ask_effort(a, field(reasoning, "effort"), "reasoning", err));
    TRY(field_int(reasoning, "max_tokens", (struct range){0, 1e12}, &a->think_budget, err));
    TRY(ask_effort(a, field(body, "reasoning_effort"), "reasoning_effort", err));
    struct json_object *thinking = field(body, "thinking");
    enum sluice_effort before = a->effort;
    TRY(ask_thinking(a, thinking, err));
    /* "enabled" says nothing about how much. */
    if (a->effort != SLUICE_EFFORT_NONE && before != SLUICE_EFFORT_NONE)
        a->effort = before;
    return SLUICE_OK;
}

static enum sluice_status refuse(struct json_object *body, struct sluice_error *err)
{
    struct json_object *modalities = field(body, "modalities");
    for (size_t i = 0; json_object_is_type(modalities, json_type_array) &&
                       i < json_object_array_length(modalities);
         i++)
        FAIL_IF(strcmp(json_str(json_object_array_get_idx(modalities, i)).at, "text") != 0, err,
                SLUICE_ERR_ARG, "modalities: this model writes text only");
    FAIL_IF(field(body, "audio"), err, SLUICE_ERR_ARG, "audio: this model writes text only");
    FAIL_IF(field(body, "functions") || field(body, "function_call"), err, SLUICE_ERR_ARG,
            "functions: expected tools instead");
    return SLUICE_OK;
}

static enum sluice_status read_logprobs(struct ask *a, struct json_object *body,
                                        struct sluice_error *err)
{
    bool wanted = false;
    int64_t top = 0;
    TRY(field_bool(body, "logprobs", &wanted, err));
    TRY(field_int(body, "top_logprobs", (struct range){0, 20}, &top, err));
    FAIL_IF(top > 0 && !wanted, err, SLUICE_ERR_ARG, "top_logprobs: expected logprobs to be true");
    a->sampling.logprobs = wanted ? (int32_t)top : -1;
    return SLUICE_OK;
}

enum sluice_status chat_parse(struct server *s, struct json_object *body, struct ask *a,
                              struct sluice_error *err)
{
    static const char *const limits[] = {"max_completion_tokens", "max_tokens", "n_predict", NULL};
    int64_t n = 1;
    bool parallel = true;
    struct json_object *stream = NULL;
    TRY(refuse(body, err));
    TRY(ask_read_common(a, body, err));
    TRY(ask_read_max_tokens(a, body, limits, err));
    TRY(ask_read_stop(a, body, "stop", err));
    TRY(ask_read_bias(a, body, err));
    TRY(read_logprobs(a, body, err));
    TRY(field_int(body, "n", (struct range){1, LIMIT_ASK_ANSWERS}, &n, err));
    a->n = (int)n;
    TRY(field_typed(body, "stream_options", json_type_object, &stream, err));
    a->usage = field_true(stream, "include_usage");
    TRY(field_bool(body, "parallel_tool_calls", &parallel, err));
    a->one_call = !parallel;
    a->messages = json_object_new_array();
    TRY(turns_from_openai(field(body, "messages"), a->messages, err));
    TRY(read_tools(a, body, err));
    TRY(read_choice(a, field(body, "tool_choice"), err));
    TRY(read_effort(a, body, err));
    TRY(ask_read_held(a, body, err));
    return ask_read_format(a, field(body, "response_format"), "response_format", err);
}

/* ---- writing ---- */

static void head(struct buf *out, const struct reply *r, const char *object)
{
    buf_addf(out, "{\"id\": \"chatcmpl-%s\", \"object\": \"%s\", \"created\": %lld", r->id, object,
             (long long)r->created);
    json_member(out, "model", str_of(r->model));
    buf_add_str(out, ", \"system_fingerprint\": \"sluice\"");
}

static void write_usage(struct buf *out, const struct sluice_usage *u)
{
    buf_addf(out,
             "\"usage\": {\"prompt_tokens\": %d, \"completion_tokens\": %d, \"total_tokens\": %d, "
             "\"prompt_tokens_details\": {\"cached_tokens\": %d}, "
             "\"completion_tokens_details\": {\"reasoning_tokens\": %d}, "
             "\"prompt_cache_hit_tokens\": %d, \"prompt_cache_miss_tokens\": %d}",
             u->prompt, u->answer, u->prompt + u->answer, u->cached, u->reasoning, u->cached,
             u->prompt - u->cached);
}

static void write_logprobs(struct buf *out, const struct reply *r, const struct answer *a,
                           int32_t from)
{
    if (r->ask->sampling.logprobs < 0 || from >= a->n_token) {
        buf_add_str(out, "null");
        return;
    }
    buf_add_str(out, "{\"content\": ");
    json_tokens(out, r, a, from);
    buf_add_str(out, ", \"refusal\": null}");
}

static void write_call(struct buf *out, const struct ask *ask, const struct answer_call *call,
                       struct str args)
{
    const char *space;
    buf_addf(out, "\"id\": \"%s\", \"type\": \"function\", \"function\": {\"name\": ", call->id);
    json_text_write_str(out, str_of(ask_client_name(ask, call->name, &space)));
    json_member(out, "arguments", args);
    buf_add_str(out, "}");
}

static void write_call_fault(struct buf *out, const struct answer *a)
{
    if (answer_call_fault(a))
        json_member(out, "tool_call_error", str_of(answer_call_fault(a)));
}

static void open_chunk(struct buf *out, const struct reply *r, int index)
{
    sse_begin(out, NULL);
    head(out, r, "chat.completion.chunk");
    buf_addf(out, ", \"choices\": [{\"index\": %d, \"delta\": {", index);
}

static void begin(void *state, const struct reply *r, struct buf *out)
{
    for (int i = 0; i < r->n; i++) {
        open_chunk(out, r, i);
        buf_add_str(out, "\"role\": \"assistant\", \"content\": \"\"}, \"logprobs\": null, "
                         "\"finish_reason\": null}]}");
        sse_end(out);
    }
}

static void event(void *state, const struct reply *r, const struct event_out *e, struct buf *out)
{
    const char *finish = NULL;
    /* Calls have no end of their own here; it may still have log-probabilities to tell. */
    if (e->kind == EVENT_CALL_END && e->token >= e->answer->n_token)
        return;
    open_chunk(out, r, e->index);
    switch (e->kind) {
    case EVENT_CALL_END:
        break;
    case EVENT_REASONING:
        buf_add_str(out, "\"reasoning_content\": ");
        json_text_write_str(out, e->text);
        break;
    case EVENT_CONTENT:
        buf_add_str(out, "\"content\": ");
        json_text_write_str(out, e->text);
        break;
    case EVENT_CALL_BEGIN:
        buf_addf(out, "\"tool_calls\": [{\"index\": %d, ", e->call);
        write_call(out, r->ask, &e->answer->call[e->call], STR_LIT(""));
        buf_add_str(out, "}]");
        break;
    case EVENT_CALL_ARGS:
        buf_addf(out, "\"tool_calls\": [{\"index\": %d, \"function\": {\"arguments\": ", e->call);
        json_text_write_str(out, e->text);
        buf_add_str(out, "}}]");
        break;
    case EVENT_END:
        finish = answer_finish_word(e->answer);
        break;
    }
    buf_add_str(out, "}, \"logprobs\": ");
    write_logprobs(out, r, e->answer, e->token);
    if (finish) {
        buf_addf(out, ", \"finish_reason\": \"%s\"", finish);
        if (e->answer->stop)
            json_member(out, "stop_reason", str_of(e->answer->stop));
        write_call_fault(out, e->answer);
        buf_add_str(out, "}], \"timings\": ");
        answer_write_timings(&e->answer->usage, out);
        buf_add_str(out, "}");
    } else {
        buf_add_str(out, ", \"finish_reason\": null}]}");
    }
    sse_end(out);
}

static void alive(void *state, const struct reply *r, int64_t done, int64_t total, struct buf *out)
{
    char text[64];
    snprintf(text, sizeof text, "prefill %lld/%lld", (long long)done, (long long)total);
    sse_comment(out, text);
    open_chunk(out, r, 0);
    buf_add_str(out, "}, \"logprobs\": null, \"finish_reason\": null}]}");
    sse_end(out);
}

static void end(void *state, const struct reply *r, struct buf *out)
{
    struct sluice_usage u = reply_usage(r);
    if (r->ask->usage) {
        sse_begin(out, NULL);
        head(out, r, "chat.completion.chunk");
        buf_add_str(out, ", \"choices\": [], ");
        write_usage(out, &u);
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

static void write_choice(struct buf *out, const struct reply *r, int i)
{
    const struct answer *a = &r->answer[i];
    buf_addf(out, "%s{\"index\": %d, \"message\": {\"role\": \"assistant\", \"content\": ",
             i ? ", " : "", i);
    if (a->content.len || a->n_call == 0)
        json_text_write_str(out, buf_text(&a->content));
    else
        buf_add_str(out, "null");
    if (a->reasoning.len)
        json_member(out, "reasoning_content", buf_text(&a->reasoning));
    buf_add_str(out, ", \"refusal\": null");
    for (int k = 0; k < a->n_call; k++) {
        buf_add_str(out, k ? ", {" : ", \"tool_calls\": [{");
        write_call(out, r->ask, &a->call[k], buf_text(&a->call[k].args));
        buf_add_str(out, k + 1 < a->n_call ? "}" : "}]");
    }
    buf_add_str(out, "}, \"logprobs\": ");
    write_logprobs(out, r, a, 0);
    buf_addf(out, ", \"finish_reason\": \"%s\"", answer_finish_word(a));
    if (a->stop)
        json_member(out, "stop_reason", str_of(a->stop));
    write_call_fault(out, a);
    buf_add_str(out, "}");
}

static void whole(const struct reply *r, struct buf *out)
{
    struct sluice_usage u = reply_usage(r);
    head(out, r, "chat.completion");
    buf_add_str(out, ", \"choices\": [");
    for (int i = 0; i < r->n; i++)
        write_choice(out, r, i);
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

const struct api api_chat = {"chat", &encoder, chat_parse};
