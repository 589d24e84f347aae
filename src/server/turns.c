/* server/turns.c - see turns.h. */
#include "server/turns.h"

#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "server/fields.h"

/* ---- building ---- */

static void set_text(struct json_object *object, const char *key, struct str text)
{
    if (text.at)
        json_object_object_add(object, key, json_of(text));
}

void turns_add(struct json_object *messages, const struct turn *turn)
{
    struct json_object *m = json_object_new_object();
    json_object_object_add(m, "role", json_object_new_string(turn->role));
    set_text(m, "content", turn->content);
    set_text(m, "reasoning_content", turn->reasoning);
    if (turn->calls && json_object_array_length(turn->calls) > 0)
        json_object_object_add(m, "tool_calls", turn->calls);
    else
        json_object_put(turn->calls);
    if (turn->call_id)
        json_object_object_add(m, "tool_call_id", json_object_new_string(turn->call_id));
    json_object_array_add(messages, m);
}

struct json_object *turns_call(const char *id, const char *name, struct str arguments)
{
    struct json_object *call = json_object_new_object();
    struct json_object *function = json_object_new_object();
    json_object_object_add(function, "name", json_object_new_string(name));
    json_object_object_add(function, "arguments", json_of(arguments));
    json_object_object_add(call, "id", json_object_new_string(id));
    json_object_object_add(call, "type", json_object_new_string("function"));
    json_object_object_add(call, "function", function);
    return call;
}

/* ---- content ---- */

/* The text of one part, or NULL for what is no text. */
static struct json_object *part_text(struct json_object *part)
{
    if (json_object_is_type(part, json_type_string))
        return part;
    struct json_object *text = field(part, "text");
    if (!text)
        text = field(part, "refusal");
    return json_object_is_type(text, json_type_string) ? text : NULL;
}

enum sluice_status turns_text(struct json_object *content, const char *between, const char *where,
                              struct buf *out, bool *only_those, struct sluice_error *err)
{
    int texts = 0, others = 0;
    if (json_object_is_type(content, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(content); i++) {
            struct json_object *part = json_object_array_get_idx(content, i);
            struct json_object *text = part_text(part);
            const char *type = field_text(part, "type");
            FAIL_IF(!text && !type, err, SLUICE_ERR_ARG,
                    "%s: expected a string or parts with a type, found %.60s", where,
                    json_object_to_json_string(part));
            if (texts + others > 0)
                buf_add_str(out, between);
            if (text)
                buf_add(out, json_str(text).at, json_str(text).len);
            else
                buf_addf(out, "[Unsupported %.40s]", type);
            *(text ? &texts : &others) += 1;
            FAIL_IF(others > LIMIT_ASK_IMAGES, err, SLUICE_ERR_ARG,
                    "%s: expected at most %d parts that are no text", where, LIMIT_ASK_IMAGES);
        }
    } else {
        FAIL_IF(content && !json_object_is_type(content, json_type_string), err, SLUICE_ERR_ARG,
                "%s: expected a string or parts, found %.60s", where,
                json_object_to_json_string(content));
        buf_add(out, json_str(content).at, json_str(content).len);
    }
    *only_those = others > 0 && texts == 0;
    return buf_status(out, err);
}

/* ---- Chat Completions ---- */

static enum sluice_status read_calls(struct json_object *calls, size_t i, struct json_object **out,
                                     struct sluice_error *err)
{
    *out = json_object_new_array();
    for (size_t k = 0; calls && k < json_object_array_length(calls); k++) {
        struct json_object *call = json_object_array_get_idx(calls, k);
        struct json_object *function = field(call, "function");
        const char *name = field_text(function, "name"), *id = field_text(call, "id");
        struct json_object *arguments = field(function, "arguments");
        FAIL_IF(!name, err, SLUICE_ERR_ARG,
                "messages[%zu].tool_calls[%zu]: expected a function with a name, found %.60s", i, k,
                json_object_to_json_string(call));
        struct buf text = {0};
        if (json_object_is_type(arguments, json_type_string))
            buf_add(&text, json_str(arguments).at, json_str(arguments).len);
        else if (arguments)
            json_text_write(&text, arguments);
        else
            buf_add_str(&text, "{}");
        json_object_array_add(*out,
                              turns_call(id ? id : "", name, (struct str){text.data, text.len}));
        enum sluice_status st = buf_status(&text, err);
        buf_deinit(&text);
        TRY(st);
    }
    return SLUICE_OK;
}

static struct str reasoning_of(struct json_object *m)
{
    struct json_object *text = field(m, "reasoning_content");
    text = text ? text : field(m, "reasoning");
    return json_object_is_type(text, json_type_string) ? json_str(text) : (struct str){0};
}

static enum sluice_status add_openai(struct json_object *m, size_t i, struct json_object *out,
                                     struct sluice_error *err)
{
    static const char *const roles[][2] = {
        {"system", "system"},
        {"developer", "system"},
        {"user", "user"},
        {"assistant", "assistant"},
        {"tool", "tool"},
        {"function", "tool"},
        {"latest_reminder", "latest_reminder"},
    };
    const char *role = field_text(m, "role"), *mine = NULL;
    for (size_t k = 0; role && k < sizeof roles / sizeof *roles; k++)
        mine = strcmp(role, roles[k][0]) == 0 ? roles[k][1] : mine;
    FAIL_IF(!mine, err, SLUICE_ERR_ARG,
            "messages[%zu].role: expected system, developer, user, assistant or tool, found %.40s",
            i, json_object_to_json_string(field(m, "role")));
    char where[48];
    snprintf(where, sizeof where, "messages[%zu].content", i);
    bool assistant = strcmp(mine, "assistant") == 0, only;
    struct buf text = {0};
    struct json_object *calls = NULL, *given = NULL;
    enum sluice_status st;
    TRY_OUT(turns_text(field(m, "content"), assistant ? "" : "\n\n", where, &text, &only, err));
    if (only && strcmp(mine, "user") == 0) {
        st = status_fail(err, SLUICE_ERR_ARG, -1, "%s: this model reads text only, found %.100s",
                         where, text.data);
        goto out;
    }
    TRY_OUT(field_typed(m, "tool_calls", json_type_array, &given, err));
    if (assistant)
        TRY_OUT(read_calls(given, i, &calls, err));
    const char *call_id = field_text(m, "tool_call_id");
    turns_add(out, &(struct turn){
                       .role = mine,
                       .content = {text.data ? text.data : "", text.len},
                       .reasoning = assistant ? reasoning_of(m) : (struct str){0},
                       .calls = calls,
                       .call_id = strcmp(mine, "tool") ? NULL
                                  : call_id            ? call_id
                                                       : "",
                   });
    calls = NULL;
out:
    json_object_put(calls);
    buf_deinit(&text);
    return st;
}

enum sluice_status turns_from_openai(struct json_object *in, struct json_object *out,
                                     struct sluice_error *err)
{
    FAIL_IF(!json_object_is_type(in, json_type_array) || json_object_array_length(in) == 0, err,
            SLUICE_ERR_ARG, "messages: expected an array of at least one message, found %.60s",
            json_object_to_json_string(in));
    for (size_t i = 0; i < json_object_array_length(in); i++)
        TRY(add_openai(json_object_array_get_idx(in, i), i, out, err));
    return SLUICE_OK;
}

/* ---- settling ---- */

static bool has_role(struct json_object *m, const char *role)
{
    const char *is = field_text(m, "role");
    return is && strcmp(is, role) == 0;
}

static void join_text(struct json_object *to, struct json_object *from)
{
    struct buf b = {0};
    struct str a = json_str(field(to, "content")), c = json_str(field(from, "content"));
    buf_add(&b, a.at, a.len);
    if (a.len && c.len)
        buf_add_str(&b, "\n\n");
    buf_add(&b, c.at, c.len);
    json_object_object_add(to, "content", json_of((struct str){b.data, b.len}));
    buf_deinit(&b);
}

/* Does a user's turn come before the next answer? */
static bool user_follows(struct json_object *messages, size_t i)
{
    for (i++; i < json_object_array_length(messages); i++) {
        struct json_object *m = json_object_array_get_idx(messages, i);
        if (!has_role(m, "system"))
            return has_role(m, "user");
    }
    return false;
}

static struct json_object *place_systems(struct json_object *in)
{
    struct json_object *out = json_object_new_array(), *last = NULL;
    for (size_t i = 0; i < json_object_array_length(in); i++) {
        struct json_object *m = json_object_array_get_idx(in, i);
        if (has_role(m, "system")) {
            bool began = last && !has_role(last, "system");
            if (began && !user_follows(in, i))
                json_object_object_add(m, "role", json_object_new_string("user"));
            if (last && has_role(last, "system")) {
                join_text(last, m);
                continue;
            }
        }
        last = m;
        json_object_array_add(out, json_object_get(m));
    }
    if (!last || has_role(last, "system"))
        turns_add(out, &(struct turn){.role = "user", .content = STR_LIT("")});
    return out;
}

/* What was remembered of a message's calls, if it says the same as the message. */
static struct json_object *recalled(struct json_object *calls, struct shelf *shelf)
{
    const char *id = field_text(json_object_array_get_idx(calls, 0), "id");
    struct buf text = {0};
    struct json_object *kept = NULL;
    if (id && shelf_get(shelf, str_of(id), &text))
        json_text_parse(text.data, text.len, &kept, NULL);
    buf_deinit(&text);
    struct json_object *theirs = field(kept, "calls");
    size_t n = theirs ? json_object_array_length(theirs) : 0;
    bool same = n > 0 && n == json_object_array_length(calls);
    for (size_t i = 0; same && i < n; i++) {
        struct json_object *a = json_object_array_get_idx(calls, i);
        struct json_object *b = json_object_array_get_idx(theirs, i);
        struct json_object *f = field(a, "function"), *g = field(b, "function");
        struct json_object *x = NULL, *y = NULL;
        struct str ax = json_str(field(f, "arguments")), ay = json_str(field(g, "arguments"));
        same = json_object_equal(field(a, "id"), field(b, "id")) &&
               json_object_equal(field(f, "name"), field(g, "name")) &&
               json_text_parse(ax.at, ax.len, &x, NULL) == SLUICE_OK &&
               json_text_parse(ay.at, ay.len, &y, NULL) == SLUICE_OK && json_object_equal(x, y);
        json_object_put(x);
        json_object_put(y);
    }
    if (same)
        return kept;
    json_object_put(kept);
    return NULL;
}

static void restore(struct json_object *m, struct shelf *shelf)
{
    struct json_object *calls = field(m, "tool_calls");
    struct json_object *kept = calls && shelf ? recalled(calls, shelf) : NULL;
    if (!kept)
        return;
    if (field(kept, "text"))
        json_object_object_add(m, "tool_calls_text", json_object_get(field(kept, "text")));
    /* Also over the client's: some of them lose it, or keep its last piece only. */
    if (field(kept, "reasoning"))
        json_object_object_add(m, "reasoning_content", json_object_get(field(kept, "reasoning")));
    json_object_put(kept);
}

enum sluice_status turns_settle(struct json_object **messages, struct json_object *format,
                                struct shelf *calls, struct sluice_error *err)
{
    size_t n = json_object_array_length(*messages);
    FAIL_IF(n > LIMIT_CHAT_MESSAGES, err, SLUICE_ERR_ARG,
            "messages: expected at most %d, found %zu", LIMIT_CHAT_MESSAGES, n);
    struct json_object *first = n ? json_object_array_get_idx(*messages, 0) : NULL;
    if (format && !has_role(first, "system")) {
        struct json_object *with = json_object_new_array();
        turns_add(with, &(struct turn){.role = "system", .content = STR_LIT("")});
        for (size_t i = 0; i < n; i++)
            json_object_array_add(with, json_object_get(json_object_array_get_idx(*messages, i)));
        json_object_put(*messages);
        *messages = with;
    }
    struct json_object *out = place_systems(*messages);
    json_object_put(*messages);
    *messages = out;
    if (format)
        json_object_object_add(json_object_array_get_idx(out, 0), "response_format",
                               json_object_get(format));
    for (size_t i = 0; i < json_object_array_length(out); i++)
        restore(json_object_array_get_idx(out, i), calls);
    return SLUICE_OK;
}

void turns_remember(struct shelf *shelf, struct json_object *calls, struct str text,
                    struct str reasoning)
{
    struct json_object *kept = json_object_new_object();
    struct buf b = {0};
    const char *id = field_text(json_object_array_get_idx(calls, 0), "id");
    json_object_object_add(kept, "calls", json_object_get(calls));
    if (text.len)
        json_object_object_add(kept, "text", json_of(text));
    json_object_object_add(kept, "reasoning", json_of(reasoning));
    json_text_write(&b, kept);
    if (id && buf_status(&b, NULL) == SLUICE_OK)
        shelf_put(shelf, str_of(id), (struct str){b.data, b.len});
    buf_deinit(&b);
    json_object_put(kept);
}
