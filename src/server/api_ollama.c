/* server/api_ollama.c - Ollama's /api/chat, as far as its clients need it: one JSON object a
 * line. */
#include <json-c/json.h>
#include <time.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/server_internal.h"
#include "server/sse.h"
#include "server/turns.h"

/* ---- reading ---- */

static enum sluice_status read_options(struct ask *a, struct json_object *o,
                                       struct sluice_error *err)
{
    static const char *const limits[] = {"num_predict", NULL};
    TRY(ask_read_common(a, o, err));
    TRY(ask_read_stop(a, o, "stop", err));
    return ask_read_max_tokens(a, o, limits, err);
}

static enum sluice_status parse(struct server *s, struct json_object *body, struct ask *a,
                                struct sluice_error *err)
{
    struct json_object *options = NULL, *tools = NULL, *format = field(body, "format");
    struct json_object *think = field(body, "think");
    a->stream = true;
    TRY(ask_read_common(a, body, err));
    TRY(field_typed(body, "options", json_type_object, &options, err));
    if (options)
        TRY(read_options(a, options, err));
    a->messages = json_object_new_array();
    TRY(turns_from_openai(field(body, "messages"), a->messages, err));
    TRY(field_typed(body, "tools", json_type_array, &tools, err));
    for (size_t i = 0; tools && i < json_object_array_length(tools); i++) {
        struct json_object *function = field(json_object_array_get_idx(tools, i), "function");
        if (function)
            TRY(ask_add_tool(a, json_object_get(function), err));
    }
    if (json_object_is_type(think, json_type_boolean))
        a->effort = json_object_get_boolean(think) ? SLUICE_EFFORT_DEFAULT : SLUICE_EFFORT_NONE;
    else
        TRY(ask_effort(a, think, "think", err));
    if (json_object_is_type(format, json_type_object))
        a->format = json_object_get(format);
    FAIL_IF(json_object_is_type(format, json_type_string) && json_str(format).len &&
                strcmp(json_object_get_string(format), "json") != 0,
            err, SLUICE_ERR_ARG, "format: expected json or a schema, found %.40s",
            json_object_get_string(format));
    return SLUICE_OK;
}

/* ---- writing ---- */

static void head(struct buf *out, const struct reply *r)
{
    char text[32];
    time_t t = (time_t)r->created;
    struct tm utc;
    gmtime_r(&t, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    buf_add_str(out, "{\"model\": ");
    json_text_write_str(out, str_of(r->model));
    json_member(out, "created_at", str_of(text));
    buf_add_str(out, ", \"message\": {\"role\": \"assistant\"");
}

static void write_calls(struct buf *out, const struct answer *a, int from, int to)
{
    for (int i = from; i < to; i++) {
        buf_add_str(out, i > from ? ", {" : ", \"tool_calls\": [{");
        buf_add_str(out, "\"function\": {\"name\": ");
        json_text_write_str(out, str_of(a->call[i].name));
        buf_addf(out, ", \"arguments\": %.*s}}%s", (int)a->call[i].args.len, a->call[i].args.data,
                 i + 1 == to ? "]" : "");
    }
}

static void write_done(struct buf *out, const struct reply *r)
{
    struct sluice_usage u = reply_usage(r);
    const struct answer *a = &r->answer[0];
    buf_addf(out,
             "}, \"done\": true, \"done_reason\": \"%s\", \"total_duration\": %.0f, "
             "\"load_duration\": 0, \"prompt_eval_count\": %d, \"prompt_eval_duration\": %.0f, "
             "\"eval_count\": %d, \"eval_duration\": %.0f}\n",
             a->finish == SLUICE_FINISH_LENGTH ? "length" : "stop",
             1e9 * (u.queue_s + u.prefill_s + u.decode_s), u.prompt, 1e9 * u.prefill_s, u.answer,
             1e9 * u.decode_s);
}

static void event(void *state, const struct reply *r, const struct event_out *e, struct buf *out)
{
    /* Its calls are sent whole. */
    bool call = e->kind == EVENT_CALL_END && !e->answer->call[e->call].broken;
    if (e->kind != EVENT_CONTENT && e->kind != EVENT_REASONING && !call)
        return;
    head(out, r);
    json_member(out, "content", e->kind == EVENT_CONTENT ? e->text : STR_LIT(""));
    if (e->kind == EVENT_REASONING)
        json_member(out, "thinking", e->text);
    if (call)
        write_calls(out, e->answer, e->call, e->call + 1);
    buf_add_str(out, "}, \"done\": false}\n");
}

static void alive(void *state, const struct reply *r, int64_t done, int64_t total, struct buf *out)
{
    head(out, r);
    buf_add_str(out, ", \"content\": \"\"}, \"done\": false}\n");
}

static void end(void *state, const struct reply *r, struct buf *out)
{
    head(out, r);
    buf_add_str(out, ", \"content\": \"\"");
    write_done(out, r);
}

static void write_fault(const struct fault *f, struct buf *out)
{
    buf_add_str(out, "{\"error\": ");
    json_text_write_str(out, str_of(f->message));
    buf_add_str(out, "}");
}

static void failed(void *state, const struct reply *r, const struct fault *f, struct buf *out)
{
    write_fault(f, out);
    buf_add_str(out, "\n");
}

static void whole(const struct reply *r, struct buf *out)
{
    const struct answer *a = &r->answer[0];
    head(out, r);
    json_member(out, "content", buf_text(&a->content));
    if (a->reasoning.len)
        json_member(out, "thinking", buf_text(&a->reasoning));
    write_calls(out, a, 0, a->n_call);
    write_done(out, r);
}

static const struct encoder encoder = {
    .stream_type = "application/x-ndjson",
    .tells_cut = true,
    .tells_malformed = true, /* by not sending them */
    .event = event,
    .alive = alive,
    .end = end,
    .failed = failed,
    .whole = whole,
    .fault = write_fault,
};

const struct api api_ollama_chat = {"ollama", &encoder, parse};
