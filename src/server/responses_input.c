/* server/responses_input.c - reading OpenAI's Responses: items to turns. */
#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/seal.h"
#include "server/server_internal.h"
#include "server/sse.h"
#include "server/turns.h"

/* An assistant's turn comes as several items in a row. */
struct reader {
    struct server *s;
    struct ask *a;
    struct buf content, reasoning;
    struct json_object *calls;
    bool open, thought;
};

static void close_turn(struct reader *r)
{
    if (r->open) {
        struct turn turn = {.role = "assistant",
                            .content = buf_text(&r->content),
                            .reasoning = r->thought ? buf_text(&r->reasoning) : (struct str){0},
                            .calls = r->calls};
        turns_add(r->a->messages, &turn);
        r->calls = NULL;
    }
    buf_clear(&r->content);
    buf_clear(&r->reasoning);
    r->open = r->thought = false;
}

static void open_turn(struct reader *r)
{
    r->open = true;
    if (!r->calls)
        r->calls = json_object_new_array();
}

static enum sluice_status read_message(struct reader *r, struct json_object *item,
                                       const char *where, struct sluice_error *err)
{
    const char *role = field_text(item, "role");
    bool assistant = role && strcmp(role, "assistant") == 0;
    bool user = role && strcmp(role, "user") == 0;
    bool system = role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0);
    FAIL_IF(!assistant && !user && !system, err, SLUICE_ERR_ARG,
            "%s.role: expected user, assistant, system or developer, found %.40s", where,
            json_object_to_json_string(field(item, "role")));
    struct buf text = {0};
    bool only;
    enum sluice_status st;
    TRY_OUT(turns_text(field(item, "content"), assistant ? "" : "\n\n", where, &text, &only, err));
    if (only && user) {
        st = status_fail(err, SLUICE_ERR_ARG, -1, "%s: this model reads text only, found %.100s",
                         where, text.data);
        goto out;
    }
    if (assistant) {
        if (r->open && json_object_array_length(r->calls) > 0)
            close_turn(r);
        open_turn(r);
        buf_add(&r->content, text.data, text.len);
    } else {
        close_turn(r);
        turns_add(r->a->messages,
                  &(struct turn){.role = system ? "system" : "user", .content = buf_text(&text)});
    }
out:
    buf_deinit(&text);
    return st;
}

static void add_texts(struct json_object *parts, struct buf *out)
{
    if (!json_object_is_type(parts, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(parts); i++) {
        struct str text = json_str(field(json_object_array_get_idx(parts, i), "text"));
        buf_add(out, text.at, text.len);
    }
}

static void read_reasoning(struct reader *r, struct json_object *item)
{
    if (r->open && (r->content.len > 0 || json_object_array_length(r->calls) > 0))
        close_turn(r);
    open_turn(r);
    r->thought = true;
    size_t before = r->reasoning.len;
    if (seal_read(json_str(field(item, "encrypted_content")), &r->reasoning))
        return;
    add_texts(field(item, "content"), &r->reasoning);
    if (r->reasoning.len == before)
        add_texts(field(item, "summary"), &r->reasoning);
}

/* The name that the model knows a tool of a namespace by. */
static void inner_name(const char *space, const char *name, struct buf *out)
{
    if (space)
        buf_addf(out, "%s__", space);
    buf_add_str(out, name);
}

static enum sluice_status read_call(struct reader *r, struct json_object *item, bool custom,
                                    const char *where, struct sluice_error *err)
{
    const char *id = field_text(item, "call_id"), *name = field_text(item, "name");
    struct str given = json_str(field(item, custom ? "input" : "arguments"));
    FAIL_IF(!id || !name, err, SLUICE_ERR_ARG, "%s: expected a call with call_id and name", where);
    struct buf inner = {0}, arguments = {0};
    inner_name(field_text(item, "namespace"), name, &inner);
    if (custom) {
        buf_add_str(&arguments, "{\"input\": ");
        json_text_write_str(&arguments, given);
        buf_add_str(&arguments, "}");
    } else {
        buf_add(&arguments, given.at, given.len);
    }
    open_turn(r);
    if (buf_status(&inner, NULL) == SLUICE_OK)
        json_object_array_add(r->calls, turns_call(id, inner.data, buf_text(&arguments)));
    buf_deinit(&inner);
    buf_deinit(&arguments);
    return SLUICE_OK;
}

static enum sluice_status read_output(struct reader *r, struct json_object *item, const char *where,
                                      struct sluice_error *err)
{
    const char *id = field_text(item, "call_id");
    struct json_object *output = field(item, "output");
    struct buf text = {0};
    bool only;
    FAIL_IF(!id, err, SLUICE_ERR_ARG, "%s: expected an output with its call_id", where);
    close_turn(r);
    enum sluice_status st = SLUICE_OK;
    if (json_object_is_type(output, json_type_object))
        json_text_write(&text, output);
    else
        st = turns_text(output, "\n\n", where, &text, &only, err);
    if (st == SLUICE_OK)
        turns_add(r->a->messages,
                  &(struct turn){.role = "tool", .content = buf_text(&text), .call_id = id});
    buf_deinit(&text);
    return st;
}

/* ---- tools ---- */

static void map_name(struct ask *a, const char *inner, const char *name, const char *space,
                     bool custom)
{
    if (!a->names)
        a->names = json_object_new_object();
    struct json_object *entry = json_object_new_object();
    json_object_object_add(entry, "name", json_object_new_string(name));
    if (space)
        json_object_object_add(entry, "namespace", json_object_new_string(space));
    json_object_object_add(entry, "custom", json_object_new_boolean(custom));
    json_object_object_add(a->names, inner, entry);
}

static const char text_schema[] =
    "{\"type\": \"object\", \"properties\": {\"input\": {\"type\": \"string\"}}, \"required\": "
    "[\"input\"]}";

static enum sluice_status read_tool(struct ask *a, struct json_object *tool, const char *space,
                                    bool custom, struct sluice_error *err)
{
    const char *name = field_text(tool, "name");
    struct json_object *schema = NULL;
    struct buf inner = {0};
    FAIL_IF(!name, err, SLUICE_ERR_ARG, "tools: expected a name, found %.60s",
            json_object_to_json_string(tool));
    inner_name(space, name, &inner);
    TRY(buf_status(&inner, err));
    struct json_object *function = json_object_new_object();
    json_object_object_add(function, "name", json_object_new_string(inner.data));
    if (field_text(tool, "description"))
        json_object_object_add(function, "description",
                               json_object_get(field(tool, "description")));
    if (custom)
        json_text_parse(text_schema, strlen(text_schema), &schema, NULL);
    else
        schema = json_object_get(field(tool, "parameters"));
    if (schema)
        json_object_object_add(function, "parameters", schema);
    if (space || custom)
        map_name(a, inner.data, name, space, custom);
    buf_deinit(&inner);
    return ask_add_tool(a, function, err);
}

static enum sluice_status read_tools(struct ask *a, struct json_object *tools,
                                     struct sluice_error *err)
{
    FAIL_IF(tools && !json_object_is_type(tools, json_type_array), err, SLUICE_ERR_ARG,
            "tools: expected an array, found %.60s", json_object_to_json_string(tools));
    for (size_t i = 0; tools && i < json_object_array_length(tools); i++) {
        struct json_object *tool = json_object_array_get_idx(tools, i);
        struct json_object *inner = field(tool, "tools");
        const char *type = field_text(tool, "type");
        if (type && strcmp(type, "namespace") == 0 && json_object_is_type(inner, json_type_array)) {
            for (size_t k = 0; k < json_object_array_length(inner); k++)
                TRY(read_tool(a, json_object_array_get_idx(inner, k), field_text(tool, "name"),
                              /*custom=*/false, err));
        } else if (type && strcmp(type, "function") == 0) {
            TRY(read_tool(a, tool, NULL, /*custom=*/false, err));
        } else if (type && strcmp(type, "custom") == 0) {
            TRY(read_tool(a, tool, NULL, /*custom=*/true, err));
        }
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
    if (word && strcmp(word, "required") == 0)
        return ask_force(a, NULL, err);
    FAIL_IF(!word || (strcmp(word, "function") != 0 && strcmp(word, "custom") != 0) ||
                !field_text(choice, "name"),
            err, SLUICE_ERR_ARG,
            "tool_choice: expected none, auto, required or a function with its name, found %.60s",
            json_object_to_json_string(choice));
    return ask_force(a, field_text(choice, "name"), err);
}

/* ---- items ---- */

static enum sluice_status read_items(struct reader *r, struct json_object *items, bool referred,
                                     struct sluice_error *err);

static enum sluice_status read_reference(struct reader *r, struct json_object *item,
                                         const char *where, struct sluice_error *err)
{
    const char *id = field_text(item, "id");
    struct buf text = {0};
    struct json_object *kept = NULL;
    if (id && shelf_get(r->s->items, str_of(id), &text))
        json_text_parse(text.data, text.len, &kept, NULL);
    buf_deinit(&text);
    FAIL_IF(!kept, err, SLUICE_ERR_ARG, "%s: no item %.60s is kept; send the items themselves",
            where, id ? id : "without id");
    struct json_object *one = json_object_new_array();
    json_object_array_add(one, kept);
    enum sluice_status st = read_items(r, one, /*referred=*/true, err);
    json_object_put(one);
    return st;
}

static enum sluice_status read_item(struct reader *r, struct json_object *item, const char *where,
                                    bool referred, struct sluice_error *err)
{
    const char *type = field_text(item, "type");
    FAIL_IF(!json_object_is_type(item, json_type_object), err, SLUICE_ERR_ARG,
            "%s: expected an item, found %.60s", where, json_object_to_json_string(item));
    if (!type || strcmp(type, "message") == 0)
        return read_message(r, item, where, err);
    if (strcmp(type, "function_call") == 0 || strcmp(type, "custom_tool_call") == 0)
        return read_call(r, item, *type == 'c', where, err);
    if (strcmp(type, "function_call_output") == 0 || strcmp(type, "custom_tool_call_output") == 0)
        return read_output(r, item, where, err);
    if (strcmp(type, "item_reference") == 0 && !referred)
        return read_reference(r, item, where, err);
    if (strcmp(type, "additional_tools") == 0)
        return read_tools(r->a, field(item, "tools"), err);
    if (strcmp(type, "reasoning") == 0)
        read_reasoning(r, item);
    /* Others belong to tools that run on the vendor's servers. */
    return SLUICE_OK;
}

static enum sluice_status read_items(struct reader *r, struct json_object *items, bool referred,
                                     struct sluice_error *err)
{
    char where[48];
    for (size_t i = 0; i < json_object_array_length(items); i++) {
        struct json_object *item = json_object_array_get_idx(items, i);
        snprintf(where, sizeof where, "input[%zu]", i);
        TRY(read_item(r, item, where, referred, err));
        if (!referred && r->a->items)
            json_object_array_add(r->a->items, json_object_get(item));
    }
    return SLUICE_OK;
}

static enum sluice_status read_previous(struct reader *r, const char *id, struct sluice_error *err)
{
    struct buf text = {0};
    struct json_object *kept = NULL;
    if (shelf_get(r->s->items, str_of(id), &text))
        json_text_parse(text.data, text.len, &kept, NULL);
    buf_deinit(&text);
    struct json_object *items = field(kept, "items");
    enum sluice_status st = SLUICE_OK;
    if (items)
        st = read_items(r, items, /*referred=*/false, err);
    else
        st = status_fail(err, SLUICE_ERR_ARG, -1, "previous_response_id: no response %.60s is kept",
                         id);
    json_object_put(kept);
    return st;
}

static enum sluice_status read_input(struct reader *r, struct json_object *body,
                                     struct sluice_error *err)
{
    const char *instructions = NULL, *previous = NULL;
    struct json_object *input = field(body, "input");
    TRY(field_string(body, "instructions", &instructions, err));
    TRY(field_string(body, "previous_response_id", &previous, err));
    if (instructions)
        turns_add(r->a->messages,
                  &(struct turn){.role = "system", .content = str_of(instructions)});
    if (previous)
        TRY(read_previous(r, previous, err));
    bool text = json_object_is_type(input, json_type_string);
    FAIL_IF(!text && !json_object_is_type(input, json_type_array), err, SLUICE_ERR_ARG,
            "input: expected a string or items, found %.60s", json_object_to_json_string(input));
    struct json_object *items = text ? json_object_new_array() : json_object_get(input);
    if (text) {
        struct json_object *m = json_object_new_object();
        json_object_object_add(m, "role", json_object_new_string("user"));
        json_object_object_add(m, "content", json_object_get(input));
        json_object_array_add(items, m);
    }
    enum sluice_status st = read_items(r, items, /*referred=*/false, err);
    json_object_put(items);
    close_turn(r);
    return st;
}

/* ---- the request ---- */

static void echo_members(struct ask *a, struct json_object *body)
{
    static const char *const keys[] = {
        "instructions",
        "max_output_tokens",
        "metadata",
        "previous_response_id",
        "parallel_tool_calls",
        "reasoning",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
        "user",
        "prompt_cache_key",
    };
    a->echoed = json_object_new_object();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (field(body, keys[i]))
            json_object_object_add(a->echoed, keys[i], json_object_get(field(body, keys[i])));
}

static enum sluice_status refuse(struct json_object *body, struct sluice_error *err)
{
    FAIL_IF(field_true(body, "background"), err, SLUICE_ERR_ARG, "background: not supported");
    FAIL_IF(field(body, "conversation"), err, SLUICE_ERR_ARG,
            "conversation: not supported; previous_response_id is");
    FAIL_IF(field(body, "prompt"), err, SLUICE_ERR_ARG, "prompt: templates are not supported");
    return SLUICE_OK;
}

static enum sluice_status read_include(struct ask *a, struct json_object *body,
                                       struct sluice_error *err)
{
    struct json_object *include = NULL;
    int64_t top = 0;
    TRY(field_typed(body, "include", json_type_array, &include, err));
    TRY(field_int(body, "top_logprobs", (struct range){0, 20}, &top, err));
    for (size_t i = 0; include && i < json_object_array_length(include); i++)
        if (strcmp(json_str(json_object_array_get_idx(include, i)).at,
                   "message.output_text.logprobs") == 0)
            a->sampling.logprobs = (int32_t)top;
    return SLUICE_OK;
}

enum sluice_status responses_parse(struct server *s, struct json_object *body, struct ask *a,
                                   struct sluice_error *err)
{
    static const char *const limits[] = {"max_output_tokens", NULL};
    struct json_object *reasoning = NULL, *text = NULL;
    bool parallel = true;
    a->store = true;
    TRY(refuse(body, err));
    TRY(ask_read_common(a, body, err));
    TRY(ask_read_max_tokens(a, body, limits, err));
    TRY(field_bool(body, "store", &a->store, err));
    TRY(field_bool(body, "parallel_tool_calls", &parallel, err));
    a->one_call = !parallel;
    TRY(read_include(a, body, err));
    TRY(field_typed(body, "reasoning", json_type_object, &reasoning, err));
    TRY(ask_effort(a, field(reasoning, "effort"), "reasoning", err));
    a->summary = field_text(reasoning, "summary") != NULL;
    TRY(field_typed(body, "text", json_type_object, &text, err));
    a->messages = json_object_new_array();
    a->items = json_object_new_array();
    echo_members(a, body);
    TRY(read_tools(a, field(body, "tools"), err));
    struct reader r = {.s = s, .a = a};
    enum sluice_status st = read_input(&r, body, err);
    json_object_put(r.calls);
    buf_deinit(&r.content);
    buf_deinit(&r.reasoning);
    TRY(st);
    TRY(read_choice(a, field(body, "tool_choice"), err));
    return ask_read_format(a, field(text, "format"), "text", err);
}
