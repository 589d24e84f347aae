/* server/api_anthropic.c - Anthropic's Messages. */
#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/seal.h"
#include "server/server_internal.h"
#include "server/sse.h"
#include "server/turns.h"

/* A line that Claude Code puts in front of its system text; it differs from session to session,
 * says nothing to the model, and would spoil every prefix. */
#define BILLING "x-anthropic-billing-header:"

/* ---- reading ---- */

/* Tools that come into view only where a result refers to them. */
struct reader {
    struct ask *a;
    struct json_object *deferred; /* object: name -> function */
};

static bool is_type(struct json_object *block, const char *type)
{
    const char *is = field_text(block, "type");
    return is && strcmp(is, type) == 0;
}

static void add_system(struct json_object *messages, struct str text)
{
    if (text.len >= strlen(BILLING) && memcmp(text.at, BILLING, strlen(BILLING)) == 0) {
        const char *end = memchr(text.at, '\n', text.len);
        size_t skip = end ? (size_t)(end + 1 - text.at) : text.len;
        text = (struct str){text.at + skip, text.len - skip};
    }
    if (text.len)
        turns_add(messages, &(struct turn){.role = "system", .content = text});
}

static enum sluice_status read_system(struct json_object *messages, struct json_object *system,
                                      struct sluice_error *err)
{
    if (json_object_is_type(system, json_type_string))
        add_system(messages, json_str(system));
    FAIL_IF(system && !json_object_is_type(system, json_type_string) &&
                !json_object_is_type(system, json_type_array),
            err, SLUICE_ERR_ARG, "system: expected a string or blocks, found %.60s",
            json_object_to_json_string(system));
    for (size_t i = 0;
         json_object_is_type(system, json_type_array) && i < json_object_array_length(system); i++)
        add_system(messages, json_str(field(json_object_array_get_idx(system, i), "text")));
    return SLUICE_OK;
}

/* A result's content with the tools that it refers to written out. */
static struct json_object *expand(const struct reader *r, struct json_object *content)
{
    if (!json_object_is_type(content, json_type_array))
        return json_object_get(content);
    struct json_object *out = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        const char *name = field_text(part, "tool_name");
        struct json_object *function = name ? field(r->deferred, name) : NULL;
        if (is_type(part, "tool_reference") && function) {
            struct buf text = {0};
            json_text_write(&text, function);
            json_object_array_add(out, json_of(buf_text(&text)));
            buf_deinit(&text);
        } else {
            json_object_array_add(out, json_object_get(part));
        }
    }
    return out;
}

static enum sluice_status add_result(const struct reader *r, struct json_object *block,
                                     const char *where, struct sluice_error *err)
{
    const char *id = field_text(block, "tool_use_id");
    struct json_object *content = expand(r, field(block, "content"));
    struct buf text = {0};
    bool only;
    if (field_true(block, "is_error"))
        buf_add_str(&text, "Error: ");
    enum sluice_status st = turns_text(content, "\n\n", where, &text, &only, err);
    if (st == SLUICE_OK)
        turns_add(
            r->a->messages,
            &(struct turn){.role = "tool", .content = buf_text(&text), .call_id = id ? id : ""});
    buf_deinit(&text);
    json_object_put(content);
    return st;
}

static enum sluice_status user_blocks(const struct reader *r, struct json_object *blocks,
                                      const char *where, struct sluice_error *err)
{
    int said = 0, others = 0;
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *block = json_object_array_get_idx(blocks, i);
        struct buf text = {0};
        bool only;
        if (is_type(block, "tool_result")) {
            TRY(add_result(r, block, where, err));
            said++;
            continue;
        }
        struct json_object *one = json_object_new_array();
        json_object_array_add(one, json_object_get(block));
        enum sluice_status st = turns_text(one, "", where, &text, &only, err);
        json_object_put(one);
        if (st == SLUICE_OK)
            turns_add(r->a->messages, &(struct turn){.role = "user", .content = buf_text(&text)});
        buf_deinit(&text);
        TRY(st);
        *(only ? &others : &said) += 1;
    }
    FAIL_IF(others > 0 && said == 0, err, SLUICE_ERR_ARG,
            "%s: this model reads text only, found only other blocks", where);
    return SLUICE_OK;
}

static void add_thinking(struct json_object *block, struct buf *reasoning)
{
    struct str plain = json_str(field(block, "thinking"));
    struct str sealed = json_str(field(block, "signature"));
    if (is_type(block, "redacted_thinking"))
        sealed = json_str(field(block, "data"));
    if (!seal_read(sealed, reasoning))
        buf_add(reasoning, plain.at, plain.len);
}

static enum sluice_status assistant_blocks(const struct reader *r, struct json_object *blocks,
                                           const char *where, struct sluice_error *err)
{
    struct buf content = {0}, reasoning = {0};
    struct json_object *calls = json_object_new_array();
    bool thought = false;
    enum sluice_status st = SLUICE_OK;
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *block = json_object_array_get_idx(blocks, i);
        if (is_type(block, "thinking") || is_type(block, "redacted_thinking")) {
            thought = true;
            add_thinking(block, &reasoning);
        } else if (is_type(block, "tool_use")) {
            const char *id = field_text(block, "id"), *name = field_text(block, "name");
            struct buf input = {0};
            if (!id || !name) {
                st = status_fail(err, SLUICE_ERR_ARG, -1, "%s: expected tool_use with id and name",
                                 where);
                break;
            }
            if (field(block, "input"))
                json_text_write(&input, field(block, "input"));
            json_object_array_add(
                calls, turns_call(id, name, input.len ? buf_text(&input) : STR_LIT("{}")));
            buf_deinit(&input);
        } else {
            struct str text = json_str(field(block, "text"));
            buf_add(&content, text.at, text.len);
        }
    }
    if (st == SLUICE_OK)
        turns_add(r->a->messages,
                  &(struct turn){.role = "assistant",
                                 .content = buf_text(&content),
                                 .reasoning = thought ? buf_text(&reasoning) : (struct str){0},
                                 .calls = calls});
    else
        json_object_put(calls);
    buf_deinit(&content);
    buf_deinit(&reasoning);
    return st;
}

static enum sluice_status read_message(const struct reader *r, struct json_object *m, size_t i,
                                       struct sluice_error *err)
{
    char where[48];
    const char *role = field_text(m, "role");
    struct json_object *content = field(m, "content");
    bool user = role && strcmp(role, "user") == 0;
    bool assistant = role && strcmp(role, "assistant") == 0;
    bool system = role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
    FAIL_IF(!user && !assistant && !system, err, SLUICE_ERR_ARG,
            "messages[%zu].role: expected user, assistant or system, found %.40s", i,
            json_object_to_json_string(field(m, "role")));
    snprintf(where, sizeof where, "messages[%zu].content", i);
    if (system)
        return read_system(r->a->messages, content, err);
    if (json_object_is_type(content, json_type_string)) {
        turns_add(r->a->messages, &(struct turn){.role = role, .content = json_str(content)});
        return SLUICE_OK;
    }
    FAIL_IF(!json_object_is_type(content, json_type_array), err, SLUICE_ERR_ARG,
            "%s: expected a string or blocks, found %.60s", where,
            json_object_to_json_string(content));
    return user ? user_blocks(r, content, where, err) : assistant_blocks(r, content, where, err);
}

static enum sluice_status read_tools(struct reader *r, struct json_object *body,
                                     struct sluice_error *err)
{
    struct json_object *tools = NULL;
    TRY(field_typed(body, "tools", json_type_array, &tools, err));
    for (size_t i = 0; tools && i < json_object_array_length(tools); i++) {
        struct json_object *tool = json_object_array_get_idx(tools, i);
        struct json_object *schema = field(tool, "input_schema");
        const char *name = field_text(tool, "name");
        /* Tools without a schema run on the vendor's servers. */
        if (!schema || !name)
            continue;
        struct json_object *function = json_object_new_object();
        json_object_object_add(function, "name", json_object_new_string(name));
        if (field_text(tool, "description"))
            json_object_object_add(function, "description",
                                   json_object_get(field(tool, "description")));
        json_object_object_add(function, "parameters", json_object_get(schema));
        if (field_true(tool, "defer_loading"))
            json_object_object_add(r->deferred, name, function);
        else
            TRY(ask_add_tool(r->a, function, err));
    }
    return SLUICE_OK;
}

static enum sluice_status read_choice(struct ask *a, struct json_object *choice,
                                      struct sluice_error *err)
{
    const char *type = field_text(choice, "type");
    a->one_call = field_true(choice, "disable_parallel_tool_use");
    if (!choice || (type && strcmp(type, "auto") == 0))
        return SLUICE_OK;
    if (type && strcmp(type, "none") == 0) {
        a->choice = ASK_NO_CALL;
        return SLUICE_OK;
    }
    if (type && strcmp(type, "any") == 0)
        return ask_force(a, NULL, err);
    FAIL_IF(!type || strcmp(type, "tool") != 0 || !field_text(choice, "name"), err, SLUICE_ERR_ARG,
            "tool_choice: expected the type auto, any, none, or tool with a name, found %.60s",
            json_object_to_json_string(choice));
    return ask_force(a, field_text(choice, "name"), err);
}

static enum sluice_status read_all(struct reader *r, struct json_object *body,
                                   struct sluice_error *err)
{
    struct ask *a = r->a;
    struct json_object *messages = NULL, *config = NULL;
    TRY(read_tools(r, body, err));
    TRY(read_system(a->messages, field(body, "system"), err));
    TRY(field_typed(body, "messages", json_type_array, &messages, err));
    FAIL_IF(!messages || json_object_array_length(messages) == 0, err, SLUICE_ERR_ARG,
            "messages: expected at least one message");
    for (size_t i = 0; i < json_object_array_length(messages); i++)
        TRY(read_message(r, json_object_array_get_idx(messages, i), i, err));
    TRY(read_choice(a, field(body, "tool_choice"), err));
    TRY(field_typed(body, "output_config", json_type_object, &config, err));
    a->effort = SLUICE_EFFORT_NONE;
    TRY(ask_thinking(a, field(body, "thinking"), err));
    if (a->effort != SLUICE_EFFORT_NONE)
        TRY(ask_effort(a, field(config, "effort"), "output_config", err));
    struct json_object *format = field(config, "format");
    return ask_read_format(a, format ? format : field(body, "output_format"), "output_config", err);
}

enum sluice_status messages_parse(struct server *s, struct json_object *body, struct ask *a,
                                  struct sluice_error *err)
{
    static const char *const limits[] = {"max_tokens", NULL};
    a->call_prefix = "toolu_";
    TRY(ask_read_common(a, body, err));
    TRY(ask_read_max_tokens(a, body, limits, err));
    TRY(ask_read_stop(a, body, "stop_sequences", err));
    a->messages = json_object_new_array();
    struct reader r = {a, json_object_new_object()};
    enum sluice_status st = read_all(&r, body, err);
    json_object_put(r.deferred);
    return st;
}

static enum sluice_status parse(struct server *s, struct json_object *body, struct ask *a,
                                struct sluice_error *err)
{
    FAIL_IF(!field(body, "max_tokens"), err, SLUICE_ERR_ARG, "max_tokens: expected a number");
    return messages_parse(s, body, a, err);
}

/* ---- writing ---- */

static const char *stop_reason(const struct answer *a)
{
    switch (a->finish) {
    case SLUICE_FINISH_LENGTH:
        return "max_tokens";
    case SLUICE_FINISH_TOOL_CALLS:
        return "tool_use";
    case SLUICE_FINISH_STOP_STRING:
        return "stop_sequence";
    default:
        return "end_turn";
    }
}

static void write_stop(struct buf *out, const struct answer *a)
{
    buf_addf(out, "\"stop_reason\": \"%s\", \"stop_sequence\": ", stop_reason(a));
    if (a->stop)
        json_text_write_str(out, str_of(a->stop));
    else
        buf_add_str(out, "null");
}

static void write_usage(struct buf *out, const struct sluice_usage *u)
{
    buf_addf(out,
             "\"usage\": {\"input_tokens\": %d, \"cache_creation_input_tokens\": 0, "
             "\"cache_read_input_tokens\": %d, \"output_tokens\": %d}",
             u->prompt - u->cached, u->cached, u->answer);
}

static void write_head(struct buf *out, const struct reply *r)
{
    buf_addf(out, "\"id\": \"msg_%s\", \"type\": \"message\", \"role\": \"assistant\"", r->id);
    json_member(out, "model", str_of(r->model));
}

enum open_block { NO_BLOCK, THINKING_BLOCK, TEXT_BLOCK, CALL_BLOCK };

struct stream {
    enum open_block open;
    int n; /* blocks that began */
};

static void close_block(struct stream *s, const struct answer *a, struct buf *out)
{
    if (s->open == THINKING_BLOCK) {
        sse_begin(out, "content_block_delta");
        buf_addf(out,
                 "{\"type\": \"content_block_delta\", \"index\": %d, \"delta\": {\"type\": "
                 "\"signature_delta\", \"signature\": \"",
                 s->n - 1);
        seal_write(buf_text(&a->reasoning), out);
        buf_add_str(out, "\"}}");
        sse_end(out);
    }
    if (s->open != NO_BLOCK) {
        sse_begin(out, "content_block_stop");
        buf_addf(out, "{\"type\": \"content_block_stop\", \"index\": %d}", s->n - 1);
        sse_end(out);
    }
    s->open = NO_BLOCK;
}

static void open_block(struct stream *s, const struct answer *a, enum open_block kind,
                       struct buf *out)
{
    if (s->open == kind)
        return;
    close_block(s, a, out);
    sse_begin(out, "content_block_start");
    buf_addf(out, "{\"type\": \"content_block_start\", \"index\": %d, \"content_block\": %s}", s->n,
             kind == THINKING_BLOCK
                 ? "{\"type\": \"thinking\", \"thinking\": \"\", \"signature\": \"\"}"
                 : "{\"type\": \"text\", \"text\": \"\"}");
    sse_end(out);
    s->open = kind;
    s->n++;
}

static void delta(const struct stream *s, const char *type, const char *key, struct str text,
                  struct buf *out)
{
    sse_begin(out, "content_block_delta");
    buf_addf(out, "{\"type\": \"content_block_delta\", \"index\": %d, \"delta\": {\"type\": \"%s\"",
             s->n - 1, type);
    json_member(out, key, text);
    buf_add_str(out, "}}");
    sse_end(out);
}

static void open_call(struct stream *s, const struct reply *r, const struct event_out *e,
                      struct buf *out)
{
    const struct answer_call *call = &e->answer->call[e->call];
    const char *space;
    close_block(s, e->answer, out);
    sse_begin(out, "content_block_start");
    buf_addf(out,
             "{\"type\": \"content_block_start\", \"index\": %d, \"content_block\": {\"type\": "
             "\"tool_use\", \"id\": \"%s\"",
             s->n, call->id);
    json_member(out, "name", str_of(ask_client_name(r->ask, call->name, &space)));
    buf_add_str(out, ", \"input\": {}}}");
    sse_end(out);
    s->open = CALL_BLOCK;
    s->n++;
}

static void begin(void *state, const struct reply *r, struct buf *out)
{
    sse_begin(out, "message_start");
    buf_add_str(out, "{\"type\": \"message_start\", \"message\": {");
    write_head(out, r);
    buf_add_str(out, ", \"content\": [], \"stop_reason\": null, \"stop_sequence\": null, ");
    write_usage(out, &(struct sluice_usage){0});
    buf_add_str(out, "}}");
    sse_end(out);
}

static void event(void *state, const struct reply *r, const struct event_out *e, struct buf *out)
{
    struct stream *s = state;
    switch (e->kind) {
    case EVENT_REASONING:
        open_block(s, e->answer, THINKING_BLOCK, out);
        if (!r->ask->hide_thinking)
            delta(s, "thinking_delta", "thinking", e->text, out);
        break;
    case EVENT_CONTENT:
        open_block(s, e->answer, TEXT_BLOCK, out);
        delta(s, "text_delta", "text", e->text, out);
        break;
    case EVENT_CALL_BEGIN:
        open_call(s, r, e, out);
        break;
    case EVENT_CALL_ARGS:
        delta(s, "input_json_delta", "partial_json", e->text, out);
        break;
    case EVENT_CALL_END:
        close_block(s, e->answer, out);
        break;
    case EVENT_END:
        if (s->n == 0)
            open_block(s, e->answer, TEXT_BLOCK, out);
        close_block(s, e->answer, out);
        break;
    }
}

static void alive(void *state, const struct reply *r, int64_t done, int64_t total, struct buf *out)
{
    sse_begin(out, "ping");
    buf_addf(out, "{\"type\": \"ping\", \"prefill\": {\"done\": %lld, \"total\": %lld}}",
             (long long)done, (long long)total);
    sse_end(out);
}

static void end(void *state, const struct reply *r, struct buf *out)
{
    struct sluice_usage u = reply_usage(r);
    sse_begin(out, "message_delta");
    buf_add_str(out, "{\"type\": \"message_delta\", \"delta\": {");
    write_stop(out, &r->answer[0]);
    buf_add_str(out, "}, ");
    write_usage(out, &u);
    buf_add_str(out, ", \"timings\": ");
    answer_write_timings(&u, out);
    buf_add_str(out, "}");
    sse_end(out);
    sse_begin(out, "message_stop");
    buf_add_str(out, "{\"type\": \"message_stop\"}");
    sse_end(out);
}

static void failed(void *state, const struct reply *r, const struct fault *f, struct buf *out)
{
    sse_begin(out, "error");
    fault_write_anthropic(f, out);
    sse_end(out);
}

static void write_content(struct buf *out, const struct reply *r)
{
    const struct answer *a = &r->answer[0];
    const char *space, *comma = "";
    if (a->reasoning.len) {
        buf_add_str(out, "{\"type\": \"thinking\"");
        json_member(out, "thinking", r->ask->hide_thinking ? STR_LIT("") : buf_text(&a->reasoning));
        buf_add_str(out, ", \"signature\": \"");
        seal_write(buf_text(&a->reasoning), out);
        buf_add_str(out, "\"}");
        comma = ", ";
    }
    if (a->content.len || (a->n_call == 0 && !a->reasoning.len)) {
        buf_addf(out, "%s{\"type\": \"text\"", comma);
        json_member(out, "text", buf_text(&a->content));
        buf_add_str(out, "}");
        comma = ", ";
    }
    for (int i = 0; i < a->n_call; i++) {
        buf_addf(out, "%s{\"type\": \"tool_use\", \"id\": \"%s\"", comma, a->call[i].id);
        json_member(out, "name", str_of(ask_client_name(r->ask, a->call[i].name, &space)));
        buf_add_str(out, ", \"input\": ");
        buf_add(out, a->call[i].args.data, a->call[i].args.len);
        buf_add_str(out, "}");
        comma = ", ";
    }
}

static void whole(const struct reply *r, struct buf *out)
{
    struct sluice_usage u = reply_usage(r);
    buf_add_str(out, "{");
    write_head(out, r);
    buf_add_str(out, ", \"content\": [");
    write_content(out, r);
    buf_add_str(out, "], ");
    write_stop(out, &r->answer[0]);
    buf_add_str(out, ", ");
    write_usage(out, &u);
    buf_add_str(out, ", \"timings\": ");
    answer_write_timings(&u, out);
    buf_add_str(out, "}");
}

static const struct encoder encoder = {
    .stream_type = SSE_TYPE,
    .tells_cut = true,
    .tells_malformed = true,
    .state_size = sizeof(struct stream),
    .begin = begin,
    .event = event,
    .alive = alive,
    .end = end,
    .failed = failed,
    .whole = whole,
    .fault = fault_write_anthropic,
};

const struct api api_messages = {"messages", &encoder, parse};
