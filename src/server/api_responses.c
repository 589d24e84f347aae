/* server/api_responses.c - writing OpenAI's Responses (reading: responses_input.c).
 *
 * An answer is a list of items: its reasoning, its message, its calls. In a stream each item is
 * added, grows, and is done before the next one begins; clients take what counts from "done". */
#include <json-c/json.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/seal.h"
#include "server/server_internal.h"
#include "server/sse.h"

enum item_kind { ITEM_REASONING, ITEM_MESSAGE, ITEM_CALL };

struct item {
    enum item_kind kind;
    size_t from, to; /* of the content */
    int call;
};

struct stream {
    struct item *item; /* [n]; the last one may be open */
    int n, messages;
    bool open;
    int64_t sequence;
};

static void deinit(void *state)
{
    free(((struct stream *)state)->item);
}

static struct item *add_item(struct stream *s, enum item_kind kind)
{
    struct item *p = realloc(s->item, ((size_t)s->n + 1) * sizeof *p);
    if (!p)
        return NULL;
    s->item = p;
    p[s->n] = (struct item){.kind = kind};
    return &p[s->n++];
}

/* ---- items ---- */

static void write_id(struct buf *out, const struct reply *r, const struct stream *s, int index)
{
    const struct item *item = &s->item[index];
    int messages = 0;
    for (int i = 0; i < index; i++)
        messages += s->item[i].kind == ITEM_MESSAGE;
    switch (item->kind) {
    case ITEM_REASONING:
        buf_addf(out, "rs_%s", r->id);
        break;
    case ITEM_MESSAGE:
        buf_addf(out, "msg_%s_%d", r->id, messages);
        break;
    case ITEM_CALL:
        buf_addf(out, "fc_%s_%d", r->id, item->call);
        break;
    }
}

static void write_part(struct buf *out, const struct reply *r, const struct item *item, bool done)
{
    const struct answer *a = &r->answer[0];
    struct str text = {a->content.data ? a->content.data + item->from : "", item->to - item->from};
    buf_add_str(out, "{\"type\": \"output_text\"");
    json_member(out, "text", done ? text : STR_LIT(""));
    buf_add_str(out, ", \"annotations\": [], \"logprobs\": ");
    if (done && r->ask->sampling.logprobs >= 0)
        json_tokens(out, r, a, 0);
    else
        buf_add_str(out, "[]");
    buf_add_str(out, "}");
}

static void write_reasoning(struct buf *out, const struct reply *r, bool done)
{
    struct str text = buf_text(&r->answer[0].reasoning);
    const char *as = r->ask->summary ? "summary_text" : "reasoning_text";
    struct buf part = {0};
    if (done) {
        buf_addf(&part, "{\"type\": \"%s\"", as);
        json_member(&part, "text", text);
        buf_add_str(&part, "}");
    }
    buf_addf(out, ", \"summary\": [%s]", r->ask->summary && done ? part.data : "");
    if (!r->ask->summary)
        buf_addf(out, ", \"content\": [%s]", done ? part.data : "");
    buf_deinit(&part);
    if (done) {
        buf_add_str(out, ", \"encrypted_content\": \"");
        seal_write(text, out);
        buf_add_str(out, "\"");
    }
}

static bool is_custom(const struct reply *r, const char *name)
{
    return field_true(field(r->ask->names, name), "custom");
}

/* The one string of a custom tool's call. */
static void write_input(struct buf *out, const struct answer_call *call)
{
    struct json_object *args = NULL;
    if (json_text_parse(call->args.data, call->args.len, &args, NULL) == SLUICE_OK)
        json_text_write_str(out, json_str(field(args, "input")));
    else
        buf_add_str(out, "\"\"");
    json_object_put(args);
}

static void write_call(struct buf *out, const struct reply *r, const struct item *item, bool done)
{
    const struct answer_call *call = &r->answer[0].call[item->call];
    const char *space, *name = ask_client_name(r->ask, call->name, &space);
    buf_addf(out, ", \"call_id\": \"%s\"", call->id);
    json_member(out, "name", str_of(name));
    if (space)
        json_member(out, "namespace", str_of(space));
    if (is_custom(r, call->name)) {
        buf_add_str(out, ", \"input\": ");
        if (done)
            write_input(out, call);
        else
            buf_add_str(out, "\"\"");
        return;
    }
    json_member(out, "arguments", done ? buf_text(&call->args) : STR_LIT(""));
}

static void write_item(struct buf *out, const struct reply *r, const struct stream *s, int index,
                       bool done)
{
    const struct item *item = &s->item[index];
    const char *type = item->kind == ITEM_REASONING                       ? "reasoning"
                       : item->kind == ITEM_MESSAGE                       ? "message"
                       : is_custom(r, r->answer[0].call[item->call].name) ? "custom_tool_call"
                                                                          : "function_call";
    buf_add_str(out, "{\"id\": \"");
    write_id(out, r, s, index);
    buf_addf(out, "\", \"type\": \"%s\", \"status\": \"%s\"", type,
             done ? "completed" : "in_progress");
    switch (item->kind) {
    case ITEM_REASONING:
        write_reasoning(out, r, done);
        break;
    case ITEM_MESSAGE:
        buf_add_str(out, ", \"role\": \"assistant\", \"content\": [");
        if (done)
            write_part(out, r, item, /*done=*/true);
        buf_add_str(out, "]");
        break;
    case ITEM_CALL:
        write_call(out, r, item, done);
        break;
    }
    buf_add_str(out, "}");
}

/* ---- the response ---- */

static void write_member(struct buf *out, const struct reply *r, const char *key, const char *other)
{
    struct json_object *value = field(r->ask->echoed, key);
    buf_addf(out, ", \"%s\": ", key);
    if (value)
        json_text_write(out, value);
    else
        buf_add_str(out, other);
}

static void write_usage(struct buf *out, const struct sluice_usage *u)
{
    buf_addf(out,
             "{\"input_tokens\": %d, \"input_tokens_details\": {\"cached_tokens\": %d}, "
             "\"output_tokens\": %d, \"output_tokens_details\": {\"reasoning_tokens\": %d}, "
             "\"total_tokens\": %d}",
             u->prompt, u->cached, u->answer, u->reasoning, u->prompt + u->answer);
}

static const char *status_of(const struct reply *r)
{
    const struct answer *a = &r->answer[0];
    return !a->done                               ? "in_progress"
           : a->finish == SLUICE_FINISH_LENGTH    ? "incomplete"
           : a->finish == SLUICE_FINISH_CANCELLED ? "cancelled"
                                                  : "completed";
}

static void write_response(struct buf *out, const struct reply *r, const struct stream *s,
                           const struct fault *f)
{
    const char *status = f ? "failed" : status_of(r);
    struct sluice_usage u = reply_usage(r);
    bool done = r->answer[0].done && !f;
    buf_addf(out,
             "{\"id\": \"resp_%s\", \"object\": \"response\", \"created_at\": %lld, "
             "\"status\": \"%s\", \"error\": ",
             r->id, (long long)r->created, status);
    if (f) {
        buf_addf(out, "{\"code\": \"%s\"", f->code ? f->code : "server_error");
        json_member(out, "message", str_of(f->message));
        buf_add_str(out, "}");
    } else {
        buf_add_str(out, "null");
    }
    buf_addf(out, ", \"incomplete_details\": %s",
             strcmp(status, "incomplete") == 0 ? "{\"reason\": \"max_output_tokens\"}" : "null");
    json_member(out, "model", str_of(r->model));
    buf_add_str(out, ", \"output\": [");
    for (int i = 0; i < s->n; i++) {
        buf_add_str(out, i ? ", " : "");
        write_item(out, r, s, i, /*done=*/true);
    }
    buf_add_str(out, "]");
    write_member(out, r, "instructions", "null");
    write_member(out, r, "max_output_tokens", "null");
    write_member(out, r, "metadata", "{}");
    write_member(out, r, "previous_response_id", "null");
    write_member(out, r, "parallel_tool_calls", "true");
    write_member(out, r, "reasoning", "{\"effort\": null, \"summary\": null}");
    write_member(out, r, "temperature", "1.0");
    write_member(out, r, "text", "{\"format\": {\"type\": \"text\"}}");
    write_member(out, r, "tool_choice", "\"auto\"");
    write_member(out, r, "tools", "[]");
    write_member(out, r, "top_p", "1.0");
    write_member(out, r, "truncation", "\"disabled\"");
    write_member(out, r, "user", "null");
    buf_addf(out, ", \"store\": %s, \"background\": false, \"usage\": ",
             r->ask->store ? "true" : "false");
    if (done)
        write_usage(out, &u);
    else
        buf_add_str(out, "null");
    if (done) {
        buf_add_str(out, ", \"timings\": ");
        answer_write_timings(&u, out);
    }
    buf_add_str(out, "}");
}

/* The items of an answer that is whole. */
static void list_items(const struct reply *r, struct stream *s)
{
    const struct answer *a = &r->answer[0];
    struct item *item;
    if (a->reasoning.len)
        add_item(s, ITEM_REASONING);
    if ((a->content.len || a->n_call == 0) && (item = add_item(s, ITEM_MESSAGE)))
        item->to = a->content.len;
    for (int i = 0; i < a->n_call; i++)
        if (!a->call[i].broken && (item = add_item(s, ITEM_CALL)))
            item->call = i;
}

static void whole(const struct reply *r, struct buf *out)
{
    struct stream s = {0};
    list_items(r, &s);
    write_response(out, r, &s, NULL);
    deinit(&s);
}

/* ---- the stream ---- */

/* Opens the JSON of an event; the rest of its members and "}" follow, then sse_end. */
static void open_event(struct stream *s, const char *type, struct buf *out)
{
    sse_begin(out, type);
    buf_addf(out, "{\"type\": \"%s\", \"sequence_number\": %lld", type, (long long)s->sequence++);
}

static void send_response(struct stream *s, const struct reply *r, const char *type,
                          const struct fault *f, struct buf *out)
{
    open_event(s, type, out);
    buf_add_str(out, ", \"response\": ");
    write_response(out, r, s, f);
    buf_add_str(out, "}");
    sse_end(out);
}

static void send_item(struct stream *s, const struct reply *r, bool done, struct buf *out)
{
    open_event(s, done ? "response.output_item.done" : "response.output_item.added", out);
    buf_addf(out, ", \"output_index\": %d, \"item\": ", s->n - 1);
    write_item(out, r, s, s->n - 1, done);
    buf_add_str(out, "}");
    sse_end(out);
}

/* An event inside the last item; index is the name of the part's number, or NULL. */
static void open_inner(struct stream *s, const struct reply *r, const char *type, const char *index,
                       struct buf *out)
{
    open_event(s, type, out);
    buf_add_str(out, ", \"item_id\": \"");
    write_id(out, r, s, s->n - 1);
    buf_addf(out, "\", \"output_index\": %d", s->n - 1);
    if (index)
        buf_addf(out, ", \"%s\": 0", index);
}

static void send_part(struct stream *s, const struct reply *r, bool done, struct buf *out)
{
    const struct item *item = &s->item[s->n - 1];
    if (item->kind == ITEM_MESSAGE) {
        open_inner(s, r, done ? "response.content_part.done" : "response.content_part.added",
                   "content_index", out);
        buf_add_str(out, ", \"part\": ");
        write_part(out, r, item, done);
    } else {
        open_inner(s, r,
                   done ? "response.reasoning_summary_part.done"
                        : "response.reasoning_summary_part.added",
                   "summary_index", out);
        buf_add_str(out, ", \"part\": {\"type\": \"summary_text\"");
        json_member(out, "text", done ? buf_text(&r->answer[0].reasoning) : STR_LIT(""));
        buf_add_str(out, "}");
    }
    buf_add_str(out, "}");
    sse_end(out);
}

static void send_text(struct stream *s, const struct reply *r, const char *key, struct str text,
                      struct buf *out)
{
    const struct item *item = &s->item[s->n - 1];
    bool message = item->kind == ITEM_MESSAGE, summary = r->ask->summary;
    char type[64];
    snprintf(type, sizeof type, "response.%s.%s",
             message   ? "output_text"
             : summary ? "reasoning_summary_text"
                       : "reasoning_text",
             strcmp(key, "delta") == 0 ? "delta" : "done");
    open_inner(s, r, type, !message && summary ? "summary_index" : "content_index", out);
    json_member(out, key, text);
    if (message)
        buf_add_str(out, ", \"logprobs\": []");
    buf_add_str(out, "}");
    sse_end(out);
}

/* "delta" or "done" of the last item, a call; text: JSON. */
static void send_args(struct stream *s, const struct reply *r, const char *key, struct str text,
                      struct buf *out)
{
    bool custom = is_custom(r, r->answer[0].call[s->item[s->n - 1].call].name);
    bool done = strcmp(key, "done") == 0;
    char type[64];
    snprintf(type, sizeof type, "response.%s.%s",
             custom ? "custom_tool_call_input" : "function_call_arguments", key);
    open_inner(s, r, type, NULL, out);
    buf_addf(out, ", \"%s\": ", !done ? "delta" : custom ? "input" : "arguments");
    buf_add(out, text.at, text.len);
    buf_add_str(out, "}");
    sse_end(out);
}

/* A custom tool's input is one string among the arguments, known when they are whole. */
static void close_call(struct stream *s, const struct reply *r, struct buf *out)
{
    const struct answer_call *call = &r->answer[0].call[s->item[s->n - 1].call];
    struct buf text = {0};
    if (is_custom(r, call->name)) {
        write_input(&text, call);
        send_args(s, r, "delta", buf_text(&text), out);
    } else {
        json_text_write_str(&text, buf_text(&call->args));
    }
    send_args(s, r, "done", buf_text(&text), out);
    buf_deinit(&text);
}

static void close_item(struct stream *s, const struct reply *r, struct buf *out)
{
    const struct answer *a = &r->answer[0];
    if (!s->open)
        return;
    s->open = false;
    struct item *item = &s->item[s->n - 1];
    if (item->kind == ITEM_CALL && a->call[item->call].broken) {
        s->n--; /* never done, and no part of the response */
        return;
    }
    if (item->kind == ITEM_CALL) {
        close_call(s, r, out);
    } else if (item->kind == ITEM_MESSAGE) {
        send_text(s, r, "text",
                  (struct str){a->content.data ? a->content.data + item->from : "",
                               item->to - item->from},
                  out);
        send_part(s, r, /*done=*/true, out);
    } else {
        send_text(s, r, "text", buf_text(&a->reasoning), out);
        if (r->ask->summary)
            send_part(s, r, /*done=*/true, out);
    }
    send_item(s, r, /*done=*/true, out);
}

/* The open item of this kind, after what came before was closed; NULL if memory is short. */
static struct item *open_item(struct stream *s, const struct reply *r, enum item_kind kind,
                              size_t from, struct buf *out)
{
    if (s->open && s->item[s->n - 1].kind == kind)
        return &s->item[s->n - 1];
    close_item(s, r, out);
    struct item *item = add_item(s, kind);
    if (!item)
        return NULL;
    item->from = item->to = from;
    s->open = true;
    send_item(s, r, /*done=*/false, out);
    if (kind == ITEM_MESSAGE || r->ask->summary)
        send_part(s, r, /*done=*/false, out);
    return item;
}

static void open_call(struct stream *s, const struct reply *r, int call, struct buf *out)
{
    close_item(s, r, out);
    struct item *item = add_item(s, ITEM_CALL);
    if (!item)
        return;
    item->call = call;
    s->open = true;
    send_item(s, r, /*done=*/false, out);
}

static void add_args(struct stream *s, const struct reply *r, const struct event_out *e,
                     struct buf *out)
{
    struct buf text = {0};
    if (!s->open || is_custom(r, e->answer->call[e->call].name))
        return;
    json_text_write_str(&text, e->text);
    send_args(s, r, "delta", buf_text(&text), out);
    buf_deinit(&text);
}

static void begin(void *state, const struct reply *r, struct buf *out)
{
    send_response(state, r, "response.created", NULL, out);
    send_response(state, r, "response.in_progress", NULL, out);
}

static void event(void *state, const struct reply *r, const struct event_out *e, struct buf *out)
{
    struct stream *s = state;
    struct item *item;
    switch (e->kind) {
    case EVENT_REASONING:
        if (open_item(s, r, ITEM_REASONING, 0, out))
            send_text(s, r, "delta", e->text, out);
        break;
    case EVENT_CONTENT:
        item = open_item(s, r, ITEM_MESSAGE, e->answer->content.len - e->text.len, out);
        if (item) {
            item->to = e->answer->content.len;
            send_text(s, r, "delta", e->text, out);
        }
        break;
    case EVENT_CALL_BEGIN:
        open_call(s, r, e->call, out);
        break;
    case EVENT_CALL_ARGS:
        add_args(s, r, e, out);
        break;
    case EVENT_CALL_END:
        close_item(s, r, out);
        break;
    case EVENT_END:
        if (s->n == 0)
            open_item(s, r, ITEM_MESSAGE, 0, out);
        close_item(s, r, out);
        break;
    }
}

static void alive(void *state, const struct reply *r, int64_t done, int64_t total, struct buf *out)
{
    struct stream *s = state;
    open_event(s, "response.in_progress", out);
    buf_addf(out,
             ", \"prefill\": {\"done\": %lld, \"total\": %lld}, \"response\": ", (long long)done,
             (long long)total);
    struct stream none = {0};
    write_response(out, r, &none, NULL);
    buf_add_str(out, "}");
    sse_end(out);
}

static void end(void *state, const struct reply *r, struct buf *out)
{
    const char *status = status_of(r);
    send_response(state, r,
                  strcmp(status, "incomplete") == 0 ? "response.incomplete" : "response.completed",
                  NULL, out);
}

static void failed(void *state, const struct reply *r, const struct fault *f, struct buf *out)
{
    struct stream none = {.sequence = ((struct stream *)state)->sequence};
    send_response(&none, r, "response.failed", f, out);
}

static const struct encoder encoder = {
    .stream_type = SSE_TYPE,
    .tells_cut = true,
    .state_size = sizeof(struct stream),
    .state_deinit = deinit,
    .begin = begin,
    .event = event,
    .alive = alive,
    .end = end,
    .failed = failed,
    .whole = whole,
    .fault = fault_write_openai,
};

const struct api api_responses = {"responses", &encoder, responses_parse};

/* ---- keeping ---- */

void responses_keep(struct server *s, const struct reply *r)
{
    struct stream list = {0};
    struct buf text = {0}, id = {0};
    if (!r->ask->store)
        return;
    list_items(r, &list);
    buf_add_str(&text, "{\"response\": ");
    write_response(&text, r, &list, NULL);
    buf_add_str(&text, ", \"items\": [");
    size_t n = json_object_array_length(r->ask->items);
    for (size_t i = 0; i < n; i++) {
        buf_add_str(&text, i ? ", " : "");
        json_text_write(&text, json_object_array_get_idx(r->ask->items, i));
    }
    for (int i = 0; i < list.n; i++) {
        size_t from;
        buf_add_str(&text, n + (size_t)i > 0 ? ", " : "");
        from = text.len;
        write_item(&text, r, &list, i, /*done=*/true);
        buf_clear(&id);
        write_id(&id, r, &list, i);
        if (buf_status(&text, NULL) == SLUICE_OK && buf_status(&id, NULL) == SLUICE_OK)
            shelf_put(s->items, buf_text(&id), (struct str){text.data + from, text.len - from});
    }
    buf_add_str(&text, "]}");
    buf_clear(&id);
    buf_addf(&id, "resp_%s", r->id);
    if (buf_status(&text, NULL) == SLUICE_OK && buf_status(&id, NULL) == SLUICE_OK)
        shelf_put(s->items, buf_text(&id), buf_text(&text));
    buf_deinit(&text);
    buf_deinit(&id);
    deinit(&list);
}
