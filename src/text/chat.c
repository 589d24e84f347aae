/* text/chat.c - see chat.h. Every literal below is part of the model's training (section 7). */
#include "text/chat.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/limits.h"
#include "text/chat_messages.h"
#include "text/toolcall.h"

static const char effort_1[] =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to "
    "resolve the root cause, rigorously stress-testing your logic against all potential paths, "
    "edge cases, and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, "
    "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
    "unchecked.\n\n";
static const char effort_2[] =
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: "
    "exhaustively decompose the problem into its most fundamental components, trace every causal "
    "chain to its root, and resolve the underlying cause rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple "
    "angles and are certain that no assumption remains unchecked and no error remains "
    "undiscovered.\n\n";
static const char tools_before[] =
    "## Tools\n\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools "
    "by writing a \"<｜DSML｜tool_calls>\" block like the following:\n\n"
    "<｜DSML｜tool_calls>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE"
    "</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types "
    "(numbers, booleans, arrays, objects), pass the value in JSON format and set "
    "`string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning "
    "inside <think>...</think> BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"
    "### Available Tool Schemas\n\n";
static const char tools_after[] = "\n\nYou MUST strictly follow the above defined tool name and "
                                  "parameter schemas to invoke tool calls.\n";
static const char format_before[] =
    "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

/* A prompt being written. */
struct writer {
    const struct chat_request *request;
    const struct chat_list *list;
    struct chat_text *out;
    enum sluice_status status;
};

static void trust_range(struct writer *w, size_t from, size_t to)
{
    struct chat_text *t = w->out;
    if (from == to || w->status != SLUICE_OK)
        return;
    if (t->n_trusted && t->trusted[t->n_trusted - 1].to == from) {
        t->trusted[t->n_trusted - 1].to = to;
        return;
    }
    if (t->n_trusted == t->room) {
        size_t room = t->room ? t->room * 2 : 16;
        struct text_range *p = realloc(t->trusted, room * sizeof *p);
        if (!p) {
            w->status = SLUICE_ERR_NOMEM;
            return;
        }
        t->trusted = p;
        t->room = room;
    }
    t->trusted[t->n_trusted++] = (struct text_range){from, to};
}

static void trust_from(struct writer *w, size_t from)
{
    trust_range(w, from, w->out->text.len);
}

static void protocol(struct writer *w, const char *text)
{
    size_t from = w->out->text.len;
    buf_add_str(&w->out->text, text);
    trust_from(w, from);
}

static void special(struct writer *w, enum vocab_special which)
{
    protocol(w, vocab_special_text(which));
}

static void plain_string(struct writer *w, struct json_object *text)
{
    if (text)
        buf_add(&w->out->text, json_object_get_string(text),
                (size_t)json_object_get_string_len(text));
}

/* The text parts of an array, others as a note. */
static void plain_parts(struct writer *w, struct json_object *parts, const char *between)
{
    for (size_t i = 0; i < json_object_array_length(parts); i++) {
        struct json_object *part = json_object_array_get_idx(parts, i), *text = NULL, *type = NULL;
        if (i)
            protocol(w, between);
        if (json_object_is_type(part, json_type_string)) {
            plain_string(w, part);
            continue;
        }
        json_object_object_get_ex(part, "type", &type);
        json_object_object_get_ex(part, "text", &text);
        if (json_object_is_type(text, json_type_string))
            plain_string(w, text);
        else
            buf_addf(&w->out->text, "[Unsupported %s]", json_object_get_string(type));
    }
}

static void plain(struct writer *w, struct json_object *content, const char *between)
{
    if (json_object_is_type(content, json_type_array))
        plain_parts(w, content, between);
    else
        plain_string(w, content);
}

static void write_tools(struct writer *w, struct json_object *tools)
{
    protocol(w, "\n\n");
    protocol(w, tools_before);
    for (size_t i = 0; i < json_object_array_length(tools); i++) {
        struct json_object *tool = json_object_array_get_idx(tools, i), *function = tool;
        if (json_object_is_type(tool, json_type_object))
            json_object_object_get_ex(tool, "function", &function);
        if (i)
            protocol(w, "\n");
        json_text_write(&w->out->text, function ? function : tool);
    }
    protocol(w, tools_after);
}

/* What follows the text of a system or developer message. */
static void write_extras(struct writer *w, const struct chat_message *m)
{
    if (m->tools && json_object_array_length(m->tools) > 0)
        write_tools(w, m->tools);
    if (m->response_format) {
        protocol(w, "\n\n");
        protocol(w, format_before);
        json_text_write(&w->out->text, m->response_format);
    }
}

static void write_user(struct writer *w, const struct chat_message *m)
{
    special(w, VOCAB_USER);
    for (size_t i = 0; i < m->n_block; i++) {
        bool result = m->block[i].call_id != NULL;
        protocol(w, i ? "\n\n" : "");
        protocol(w, result ? "<tool_result>" : "");
        plain(w, m->block[i].content, "\n\n");
        protocol(w, result ? "</tool_result>" : "");
    }
}

static bool thinks(const struct writer *w)
{
    return w->request->effort != CHAT_NO_THINKING;
}

/* The syntax is protocol, names and values are not. */
static enum sluice_status write_calls(struct writer *w, struct json_object *calls,
                                      struct sluice_error *err)
{
    struct buf foreign = {0};
    size_t from = w->out->text.len;
    enum sluice_status st = toolcall_render_marked(&w->out->text, calls, &foreign, err);
    if (st == SLUICE_OK)
        st = buf_status(&foreign, err);
    const size_t *place = (const size_t *)(void *)foreign.data;
    for (size_t i = 0; st == SLUICE_OK && i < foreign.len / sizeof *place; i += 2) {
        trust_range(w, from, place[i]);
        from = place[i + 1];
    }
    if (st == SLUICE_OK)
        trust_from(w, from);
    buf_deinit(&foreign);
    return st;
}

/* In calls as they were sampled the mark of the syntax is a token, and nothing else is: the values
 * may quote what users wrote. */
static void write_sampled_calls(struct writer *w, struct json_object *text)
{
    struct str mark = str_of(vocab_special_text(VOCAB_DSML));
    size_t from = w->out->text.len;
    plain_string(w, text);
    const struct buf *b = &w->out->text;
    for (const char *at; b->status == SLUICE_OK && b->len > from &&
                         (at = memmem(b->data + from, b->len - from, mark.at, mark.len));) {
        size_t place = (size_t)(at - b->data);
        trust_range(w, place, place + mark.len);
        from = place + mark.len;
    }
}

static enum sluice_status write_assistant(struct writer *w, size_t i, struct sluice_error *err)
{
    const struct chat_list *list = w->list;
    const struct chat_message *m = &list->at[i];
    bool after_task = i > 0 && list->at[i - 1].task;
    bool open = w->request->continue_last && i + 1 == list->n;
    bool empty = !m->calls && (!m->content || (json_object_is_type(m->content, json_type_string) &&
                                               json_object_get_string_len(m->content) == 0));
    if (thinks(w) && !after_task && (!list->drop || (long)i > list->last_user)) {
        plain_string(w, m->reasoning);
        if (!(open && empty && m->reasoning)) /* else: goes on thinking */
            special(w, VOCAB_THINK_END);
    }
    plain(w, m->content, "");
    if (m->calls && json_object_array_length(m->calls) > 0) {
        if (m->calls_text)
            write_sampled_calls(w, m->calls_text);
        else
            TRY(write_calls(w, m->calls, err));
    }
    if (!m->no_eos && !open)
        special(w, VOCAB_EOS);
    return SLUICE_OK;
}

static enum sluice_status write_message(struct writer *w, size_t i, struct sluice_error *err)
{
    const struct chat_message *m = &w->list->at[i];
    switch (m->role) {
    case CHAT_DEVELOPER: {
        bool empty = !m->content || (json_object_is_type(m->content, json_type_string) &&
                                     json_object_get_string_len(m->content) == 0);
        FAIL_IF(empty, err, SLUICE_ERR_FORMAT,
                "developer message: expected content, found an empty one");
        special(w, VOCAB_USER);
        plain(w, m->content, "\n\n");
        write_extras(w, m);
        return SLUICE_OK;
    }
    case CHAT_USER:
        write_user(w, m);
        return SLUICE_OK;
    case CHAT_ASSISTANT:
        return write_assistant(w, i, err);
    case CHAT_REMINDER:
        special(w, VOCAB_LATEST_REMINDER);
        plain(w, m->content, "\n\n");
        return SLUICE_OK;
    default:
        plain(w, m->content, "\n\n");
        write_extras(w, m);
        return SLUICE_OK;
    }
}

/* The token of a task, or -1 if there is none of that name. */
static int task_token(const char *task)
{
    static const struct {
        const char *name;
        enum vocab_special token;
    } tasks[] = {
        {"action", VOCAB_ACTION}, {"query", VOCAB_QUERY}, {"authority", VOCAB_AUTHORITY},
        {"domain", VOCAB_DOMAIN}, {"title", VOCAB_TITLE}, {"read_url", VOCAB_READ_URL},
    };
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strcmp(task, tasks[i].name) == 0)
            return (int)tasks[i].token;
    return -1;
}

/* What stands between message i and the answer that follows it. */
static enum sluice_status write_transition(struct writer *w, size_t i, struct sluice_error *err)
{
    const struct chat_list *list = w->list;
    const struct chat_message *m = &list->at[i];
    bool last = i + 1 == list->n;
    if (!last && list->at[i + 1].role != CHAT_ASSISTANT && list->at[i + 1].role != CHAT_REMINDER)
        return SLUICE_OK;
    bool user = m->role == CHAT_USER || m->role == CHAT_DEVELOPER;
    bool think = thinks(w) && (!list->drop || (long)i >= list->last_user);
    if (m->task) {
        int token = task_token(m->task);
        FAIL_IF(token < 0, err, SLUICE_ERR_FORMAT,
                "task: expected action, query, authority, domain, title or read_url, found %.40s",
                m->task);
        if (token == VOCAB_ACTION) {
            special(w, VOCAB_ASSISTANT);
            special(w, thinks(w) ? VOCAB_THINK : VOCAB_THINK_END);
        }
        special(w, (enum vocab_special)token);
    } else if (user) {
        special(w, VOCAB_ASSISTANT);
        special(w, think ? VOCAB_THINK : VOCAB_THINK_END);
    }
    return SLUICE_OK;
}

static const char *effort_text(const struct chat_request *request)
{
    switch (request->effort) {
    case CHAT_THINKING_HIGH:
        return request->preview ? "" : effort_1;
    case CHAT_THINKING_MAX:
        return request->preview ? effort_1 : effort_2;
    default:
        return "";
    }
}

static enum sluice_status write_all(struct writer *w, struct sluice_error *err)
{
    special(w, VOCAB_BOS);
    if (w->list->n > 0)
        protocol(w, effort_text(w->request));
    for (size_t i = 0; i < w->list->n; i++) {
        TRY(write_message(w, i, err));
        TRY(write_transition(w, i, err));
    }
    FAIL_IF(w->status != SLUICE_OK, err, w->status, "out of memory for a prompt");
    return buf_status(&w->out->text, err);
}

void chat_text_deinit(struct chat_text *t)
{
    buf_deinit(&t->text);
    free(t->trusted);
    *t = (struct chat_text){0};
}

enum sluice_status chat_render(const struct chat_request *request, struct chat_text *out,
                               struct sluice_error *err)
{
    *out = (struct chat_text){0};
    buf_init(&out->text, LIMIT_CHAT_TEXT);
    struct chat_list list;
    enum sluice_status st = chat_list_make(request, &list, err);
    if (st == SLUICE_OK) {
        struct writer w = {.request = request, .list = &list, .out = out};
        st = write_all(&w, err);
    }
    chat_list_deinit(&list);
    if (st != SLUICE_OK)
        chat_text_deinit(out);
    return st;
}
