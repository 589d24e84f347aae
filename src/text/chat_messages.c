/* text/chat_messages.c - see chat_messages.h. */
#include "text/chat_messages.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

static const char *const role_names[CHAT_ROLES] = {
    [CHAT_SYSTEM] = "system",       [CHAT_DEVELOPER] = "developer", [CHAT_USER] = "user",
    [CHAT_ASSISTANT] = "assistant", [CHAT_TOOL] = "tool",
    [CHAT_REMINDER] = "latest_reminder",
};

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(object, key, &value);
    return value;
}

static const char *text_member(struct json_object *object, const char *key)
{
    struct json_object *value = member(object, key);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

static enum sluice_status check_type(struct json_object *value, enum json_type type, size_t i,
                                     const char *key, struct sluice_error *err)
{
    FAIL_IF(value && !json_object_is_type(value, type), err, SLUICE_ERR_FORMAT,
            "messages[%zu].%s: expected %s, found %.40s", i, key, json_type_to_name(type),
            json_object_to_json_string(value));
    return SLUICE_OK;
}

static enum sluice_status check_content(struct json_object *content, size_t i,
                                        struct sluice_error *err)
{
    if (!json_object_is_type(content, json_type_array))
        return check_type(content, json_type_string, i, "content", err);
    for (size_t k = 0; k < json_object_array_length(content); k++) {
        struct json_object *part = json_object_array_get_idx(content, k);
        bool ok = json_object_is_type(part, json_type_string) ||
                  (json_object_is_type(part, json_type_object) && text_member(part, "type"));
        FAIL_IF(!ok, err, SLUICE_ERR_FORMAT,
                "messages[%zu].content[%zu]: expected a part with a \"type\", found %.40s", i, k,
                json_object_to_json_string(part));
    }
    return SLUICE_OK;
}

static enum sluice_status read_role(struct json_object *source, size_t i, enum chat_role *out,
                                    struct sluice_error *err)
{
    FAIL_IF(!json_object_is_type(source, json_type_object), err, SLUICE_ERR_FORMAT,
            "messages[%zu]: expected an object, found %.40s", i,
            json_object_to_json_string(source));
    const char *role = text_member(source, "role");
    for (int r = 0; role && r < CHAT_ROLES; r++) {
        if (strcmp(role, role_names[r]) == 0) {
            *out = (enum chat_role)r;
            return SLUICE_OK;
        }
    }
    return status_fail(err, SLUICE_ERR_FORMAT, -1,
                       "messages[%zu].role: expected system, developer, user, assistant, tool or "
                       "latest_reminder, found %.40s",
                       i, json_object_to_json_string(member(source, "role")));
}

static enum sluice_status read_message(struct json_object *source, size_t i,
                                       struct chat_message *m, struct sluice_error *err)
{
    *m = (struct chat_message){0};
    TRY(read_role(source, i, &m->role, err));
    m->content = member(source, "content");
    TRY(check_content(m->content, i, err));
    m->tools = member(source, "tools");
    TRY(check_type(m->tools, json_type_array, i, "tools", err));
    m->response_format = member(source, "response_format");
    m->reasoning = member(source, "reasoning_content");
    TRY(check_type(m->reasoning, json_type_string, i, "reasoning_content", err));
    m->calls = member(source, "tool_calls");
    TRY(check_type(m->calls, json_type_array, i, "tool_calls", err));
    m->calls_text = member(source, "tool_calls_text");
    TRY(check_type(m->calls_text, json_type_string, i, "tool_calls_text", err));
    m->task = text_member(source, "task");
    m->no_eos = json_object_get_boolean(member(source, "wo_eos"));
    return SLUICE_OK;
}

static enum sluice_status add_block(struct chat_message *m, struct json_object *content,
                                    const char *call_id, struct sluice_error *err)
{
    if (m->n_block == m->room) {
        size_t room = m->room ? m->room * 2 : 2;
        struct chat_block *p = realloc(m->block, room * sizeof *p);
        FAIL_IF(!p, err, SLUICE_ERR_NOMEM, "out of memory for a message's parts");
        m->block = p;
        m->room = room;
    }
    m->block[m->n_block++] = (struct chat_block){content, call_id};
    return SLUICE_OK;
}

/* Step 1: tool results are parts of user messages, and neighbours fuse. */
static enum sluice_status append(struct chat_list *list, struct json_object *source, size_t i,
                                 struct sluice_error *err)
{
    struct chat_message m;
    TRY(read_message(source, i, &m, err));
    if (m.role != CHAT_USER && m.role != CHAT_TOOL) {
        list->at[list->n++] = m;
        return SLUICE_OK;
    }
    const char *call_id = NULL;
    if (m.role == CHAT_TOOL) {
        call_id = text_member(source, "tool_call_id");
        call_id = call_id ? call_id : "";
        m.role = CHAT_USER;
    }
    struct chat_message *last = list->n ? &list->at[list->n - 1] : NULL;
    bool fuse = last && last->role == CHAT_USER && !last->task;
    if (!fuse)
        list->at[list->n++] = m;
    struct chat_message *user = &list->at[list->n - 1];
    if (fuse) {
        user->task = m.task;
        user->tools = user->tools ? user->tools : m.tools;
    }
    return add_block(user, m.content, call_id, err);
}

static size_t call_index(const struct chat_message *assistant, const char *id)
{
    size_t n = assistant && assistant->calls ? json_object_array_length(assistant->calls) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *call = json_object_array_get_idx(assistant->calls, i);
        const char *call_id =
            json_object_is_type(call, json_type_object) ? text_member(call, "id") : NULL;
        if (call_id && strcmp(call_id, id) == 0)
            return i;
    }
    return 0;
}

/* Step 2: results in the order of their calls; other parts keep their places. */
static void order_results(struct chat_message *user, const struct chat_message *assistant)
{
    for (size_t i = 1; i < user->n_block; i++) {
        if (!user->block[i].call_id)
            continue;
        struct chat_block moving = user->block[i];
        size_t hole = i, key = call_index(assistant, moving.call_id);
        for (size_t k = i; k-- > 0;) {
            const char *id = user->block[k].call_id;
            if (!id)
                continue;
            if (call_index(assistant, id) <= key)
                break;
            user->block[hole] = user->block[k];
            hole = k;
        }
        user->block[hole] = moving;
    }
}

static void find_last_user(struct chat_list *list)
{
    list->last_user = -1;
    for (size_t i = 0; i < list->n; i++)
        if (list->at[i].role == CHAT_USER || list->at[i].role == CHAT_DEVELOPER)
            list->last_user = (long)i;
}

/* Step 4: before the last question no reasoning is shown and developer messages are gone. */
static void thin(struct chat_list *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        struct chat_message *m = &list->at[i];
        bool before = (long)i < list->last_user;
        if (before && m->role == CHAT_DEVELOPER)
            continue;
        if (before)
            m->reasoning = NULL;
        list->at[n++] = *m;
    }
    list->n = n;
    find_last_user(list);
}

/* Tools of the request join the first system message, or an empty one in front. */
static void add_tools(struct chat_list *list, struct json_object *tools)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].role == CHAT_SYSTEM) {
            list->at[i].tools = tools;
            return;
        }
    }
    memmove(list->at + 1, list->at, list->n * sizeof *list->at);
    list->at[0] = (struct chat_message){.role = CHAT_SYSTEM, .tools = tools};
    list->n++;
}

enum sluice_status chat_list_make(const struct chat_request *request, struct chat_list *out,
                                  struct sluice_error *err)
{
    *out = (struct chat_list){.last_user = -1};
    FAIL_IF(!json_object_is_type(request->messages, json_type_array), err, SLUICE_ERR_FORMAT,
            "messages: expected an array, found %.40s",
            json_object_to_json_string(request->messages));
    FAIL_IF(request->tools && !json_object_is_type(request->tools, json_type_array), err,
            SLUICE_ERR_FORMAT, "tools: expected an array, found %.40s",
            json_object_to_json_string(request->tools));
    size_t n = json_object_array_length(request->messages);
    FAIL_IF(n > LIMIT_CHAT_MESSAGES, err, SLUICE_ERR_LIMIT, "%zu messages: at most %d", n,
            LIMIT_CHAT_MESSAGES);
    out->at = calloc(n + 1, sizeof *out->at);
    FAIL_IF(!out->at, err, SLUICE_ERR_NOMEM, "out of memory for %zu messages", n);
    for (size_t i = 0; i < n; i++)
        TRY(append(out, json_object_array_get_idx(request->messages, i), i, err));
    const struct chat_message *assistant = NULL;
    for (size_t i = 0; i < out->n; i++) {
        if (out->at[i].role == CHAT_ASSISTANT)
            assistant = &out->at[i];
        if (out->at[i].role == CHAT_USER)
            order_results(&out->at[i], assistant);
    }
    if (request->tools && json_object_array_length(request->tools) > 0)
        add_tools(out, request->tools);
    out->drop = !request->keep_reasoning;
    for (size_t i = 0; i < out->n; i++)
        if (out->at[i].tools && json_object_array_length(out->at[i].tools) > 0)
            out->drop = false;
    find_last_user(out);
    if (request->effort != CHAT_NO_THINKING && out->drop)
        thin(out);
    return SLUICE_OK;
}

void chat_list_deinit(struct chat_list *list)
{
    for (size_t i = 0; list->at && i < list->n; i++)
        free(list->at[i].block);
    free(list->at);
}
