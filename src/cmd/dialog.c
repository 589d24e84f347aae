#include "cmd/dialog.h"

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "os/file.h"

enum sluice_status dialog_init(struct dialog *c, struct sluice_error *err)
{
    c->messages = json_object_new_array();
    FAIL_IF(!c->messages, err, SLUICE_ERR_NOMEM, "out of memory for a conversation");
    return SLUICE_OK;
}

void dialog_deinit(struct dialog *c)
{
    json_object_put(c->messages);
    c->messages = NULL;
}

int dialog_count(const struct dialog *c)
{
    return (int)json_object_array_length(c->messages);
}

static bool is_system(const struct dialog *c)
{
    if (dialog_count(c) == 0)
        return false;
    struct json_object *role, *first = json_object_array_get_idx(c->messages, 0);
    return json_object_object_get_ex(first, "role", &role) &&
           strcmp(json_object_get_string(role), "system") == 0;
}

void dialog_clear(struct dialog *c)
{
    size_t keep = is_system(c), n = json_object_array_length(c->messages);
    if (n > keep)
        json_object_array_del_idx(c->messages, keep, n - keep);
}

static struct json_object *message_new(const char *role, struct str content, struct str reasoning)
{
    struct json_object *m = json_object_new_object();
    if (!m)
        return NULL;
    int failed = json_object_object_add(m, "role", json_object_new_string(role));
    if (reasoning.len)
        failed |= json_object_object_add(m, "reasoning_content",
                                         json_object_new_string_len(reasoning.at,
                                                                    (int)reasoning.len));
    failed |= json_object_object_add(m, "content",
                                     json_object_new_string_len(content.at ? content.at : "",
                                                                (int)content.len));
    if (failed) {
        json_object_put(m);
        return NULL;
    }
    return m;
}

enum sluice_status dialog_add(struct dialog *c, const char *role, struct str content,
                              struct str reasoning, struct sluice_error *err)
{
    FAIL_IF(dialog_count(c) >= LIMIT_CMD_MESSAGES, err, SLUICE_ERR_LIMIT,
            "conversation: expected at most %d messages", LIMIT_CMD_MESSAGES);
    struct json_object *m = message_new(role, content, reasoning);
    FAIL_IF(!m, err, SLUICE_ERR_NOMEM, "out of memory for a message");
    if (json_object_array_add(c->messages, m) != 0) {
        json_object_put(m);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a message");
    }
    return SLUICE_OK;
}

void dialog_drop_last(struct dialog *c)
{
    size_t n = json_object_array_length(c->messages);
    if (n)
        json_object_array_del_idx(c->messages, n - 1, 1);
}

enum sluice_status dialog_system_set(struct dialog *c, const char *text,
                                     struct sluice_error *err)
{
    if (is_system(c))
        json_object_array_del_idx(c->messages, 0, 1);
    if (!text)
        return SLUICE_OK;
    struct json_object *m = message_new("system", str_of(text), (struct str){0});
    FAIL_IF(!m, err, SLUICE_ERR_NOMEM, "out of memory for a message");
    /* Appended, then moved to the front: arrays insert nowhere else in older libraries. */
    struct json_object *all = json_object_new_array();
    if (!all || json_object_array_add(all, m) != 0) {
        json_object_put(m);
        json_object_put(all);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a message");
    }
    for (int i = 0; i < dialog_count(c); i++)
        json_object_array_add(all, json_object_get(json_object_array_get_idx(c->messages,
                                                                             (size_t)i)));
    json_object_put(c->messages);
    c->messages = all;
    return SLUICE_OK;
}

const char *dialog_system(const struct dialog *c)
{
    struct json_object *content;
    if (!is_system(c))
        return NULL;
    json_object_object_get_ex(json_object_array_get_idx(c->messages, 0), "content", &content);
    return json_object_get_string(content);
}

enum sluice_status dialog_tokens(const struct dialog *c, const struct sluice *e,
                                 enum sluice_effort effort, struct sluice_tokens *out,
                                 struct sluice_error *err)
{
    struct buf b;
    buf_init(&b, 0);
    json_text_write(&b, c->messages);
    enum sluice_status st = buf_status(&b, err);
    if (st == SLUICE_OK) {
        struct sluice_chat chat = {.messages = b.data, .messages_len = b.len, .effort = effort};
        st = sluice_chat_tokens(e, &chat, out, err);
    }
    buf_deinit(&b);
    return st;
}

enum sluice_status dialog_save(const struct dialog *c, const char *path,
                               struct sluice_error *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_add_str(&b, "[");
    /* A message per line, for people who look into the file. */
    for (int i = 0; i < dialog_count(c); i++) {
        buf_add_str(&b, i ? ",\n " : "\n ");
        json_text_write(&b, json_object_array_get_idx(c->messages, (size_t)i));
    }
    buf_add_str(&b, "\n]\n");
    enum sluice_status st = buf_status(&b, err);
    if (st == SLUICE_OK)
        st = file_replace(path, b.data, b.len, 0600, err);
    buf_deinit(&b);
    return st;
}

static bool is_message(struct json_object *m)
{
    struct json_object *role, *content;
    return json_object_is_type(m, json_type_object) &&
           json_object_object_get_ex(m, "role", &role) &&
           json_object_is_type(role, json_type_string) &&
           json_object_object_get_ex(m, "content", &content) &&
           json_object_is_type(content, json_type_string);
}

enum sluice_status dialog_load(struct dialog *c, const char *path,
                               struct sluice_error *err)
{
    char *text;
    size_t n;
    struct json_object *all;
    TRY(file_read_all(path, LIMIT_CMD_INPUT, &text, &n, err));
    enum sluice_status st = json_text_parse(text, n, &all, err);
    free(text);
    if (st != SLUICE_OK) {
        status_prefix(err, "%s: ", path);
        return st;
    }
    bool good = json_object_is_type(all, json_type_array) &&
                json_object_array_length(all) <= LIMIT_CMD_MESSAGES;
    for (size_t i = 0; good && i < json_object_array_length(all); i++)
        good = is_message(json_object_array_get_idx(all, i));
    if (!good) {
        json_object_put(all);
        return status_fail(err, SLUICE_ERR_FORMAT, -1,
                           "%s: expected a JSON array of messages with role and content", path);
    }
    json_object_put(c->messages);
    c->messages = all;
    return SLUICE_OK;
}
