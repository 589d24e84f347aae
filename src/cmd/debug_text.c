/* `sluice debug tokenize | detokenize | render | parse`: text in, text out, as JSON lines. */
#include "base/buf.h"
#include "base/check.h"
#include "base/json_text.h"
#include "base/str.h"
#include "cmd/cmd.h"
#include "cmd/jsonl.h"

struct text_ctx {
    struct sluice *e;
    bool special;
};

static enum sluice_status out_of_memory(struct sluice_error *err)
{
    return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for an answer");
}

/* {"key": value}; takes value, which may be NULL (out of memory). */
static enum sluice_status answer_one(const char *key, struct json_object *value,
                                     struct json_object **answer, struct sluice_error *err)
{
    struct json_object *row = json_object_new_object();
    if (!row || !value || json_object_object_add(row, key, value) != 0) {
        json_object_put(row);
        json_object_put(value);
        return out_of_memory(err);
    }
    *answer = row;
    return SLUICE_OK;
}

static enum sluice_status required_string(struct json_object *row, const char *key, struct str *out,
                                          struct sluice_error *err)
{
    TRY(jsonl_string(row, key, &out->at, &out->len, err));
    FAIL_IF(!out->at, err, SLUICE_ERR_ARG, "\"%s\" is missing", key);
    return SLUICE_OK;
}

/* ---- tokenize, detokenize ---- */

static enum sluice_status tokenize_row(void *arg, struct json_object *row,
                                       struct json_object **answer, struct sluice_error *err)
{
    struct text_ctx *ctx = arg;
    struct str text;
    struct sluice_tokens tokens;
    TRY(required_string(row, "text", &text, err));
    TRY(sluice_tokenize(ctx->e, text.at, text.len, ctx->special, &tokens, err));
    struct json_object *ids = json_object_new_array();
    for (size_t i = 0; ids && i < tokens.n; i++)
        json_object_array_add(ids, json_object_new_int(tokens.ids[i]));
    sluice_free(tokens.ids);
    return answer_one("ids", ids, answer, err);
}

static enum sluice_status read_ids(struct json_object *row, int32_t **ids, size_t *n,
                                   struct sluice_error *err)
{
    struct json_object *list;
    FAIL_IF(!json_object_object_get_ex(row, "ids", &list) ||
                !json_object_is_type(list, json_type_array),
            err, SLUICE_ERR_ARG, "\"ids\": expected an array of token ids");
    *n = json_object_array_length(list);
    *ids = malloc((*n + 1) * sizeof **ids);
    FAIL_IF(!*ids, err, SLUICE_ERR_NOMEM, "out of memory for %zu token ids", *n);
    for (size_t i = 0; i < *n; i++) {
        struct json_object *id = json_object_array_get_idx(list, i);
        int64_t value = json_object_get_int64(id);
        if (!json_object_is_type(id, json_type_int) || value < 0 || value > INT32_MAX) {
            free(*ids);
            return status_fail(err, SLUICE_ERR_ARG, -1, "\"ids\": element %zu is not a token id",
                               i);
        }
        (*ids)[i] = (int32_t)value;
    }
    return SLUICE_OK;
}

/* Length of the UTF-8 character at text, or 0 if there is none. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char c = text[0];
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : 4;
    if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool bad = (c == 0xe0 && text[1] < 0xa0) || (c == 0xed && text[1] > 0x9f) ||
               (c == 0xf0 && text[1] < 0x90) || (c == 0xf4 && text[1] > 0x8f);
    return bad ? 0 : n;
}

/* JSON holds whole characters only; other bytes become U+FFFD. */
static struct json_object *string_of_bytes(const char *bytes, size_t len)
{
    struct buf b;
    buf_init(&b, 0);
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length((const unsigned char *)bytes + i, len - i);
        buf_add(&b, n ? bytes + i : "\xef\xbf\xbd", n ? n : 3);
        i += n ? n : 1;
    }
    struct json_object *text = NULL;
    if (buf_status(&b, NULL) == SLUICE_OK)
        text = json_object_new_string_len(b.data ? b.data : "", (int)b.len);
    buf_deinit(&b);
    return text;
}

static enum sluice_status detokenize_row(void *arg, struct json_object *row,
                                         struct json_object **answer, struct sluice_error *err)
{
    struct text_ctx *ctx = arg;
    int32_t *ids = NULL;
    size_t n = 0;
    struct sluice_text text;
    TRY(read_ids(row, &ids, &n, err));
    enum sluice_status st = sluice_detokenize(ctx->e, ids, n, &text, err);
    free(ids);
    TRY(st);
    struct json_object *value = string_of_bytes(text.at, text.len);
    sluice_free(text.at);
    return answer_one("text", value, answer, err);
}

static int with_vocabulary(const struct options *o, jsonl_fn fn)
{
    struct text_ctx ctx = {.special = !options_flag(o, OPT_PLAIN)};
    struct sluice_options engine;
    cmd_engine_options(o, &engine);
    engine.vocab_only = true;
    int code = cmd_open(o, &engine, &ctx.e);
    if (code != EXIT_OK)
        return code;
    code = jsonl_answer(o, fn, &ctx);
    sluice_close(ctx.e);
    return code;
}

int cmd_debug_tokenize(const struct options *o)
{
    return with_vocabulary(o, tokenize_row);
}

int cmd_debug_detokenize(const struct options *o)
{
    return with_vocabulary(o, detokenize_row);
}

/* ---- render, parse ---- */

/* Rows of another kind belong to another command. */
static enum sluice_status is_kind(struct json_object *row, const char *kind, bool *yes,
                                  struct sluice_error *err)
{
    struct str found;
    TRY(jsonl_string(row, "kind", &found.at, &found.len, err));
    *yes = !found.at || str_is(found, kind);
    return SLUICE_OK;
}

static enum sluice_status read_thinking(struct json_object *row, bool *thinking,
                                        struct sluice_error *err)
{
    struct str mode;
    TRY(jsonl_string(row, "mode", &mode.at, &mode.len, err));
    FAIL_IF(mode.at && !str_is(mode, "thinking") && !str_is(mode, "chat"), err, SLUICE_ERR_ARG,
            "\"mode\": expected chat or thinking, found '%.*s'", STR_ARG(mode));
    if (mode.at) {
        *thinking = str_is(mode, "thinking");
        return SLUICE_OK;
    }
    return jsonl_bool(row, "thinking", false, thinking, err);
}

static enum sluice_status read_effort(struct json_object *row, enum sluice_effort *effort,
                                      struct sluice_error *err)
{
    bool thinking;
    struct str text;
    TRY(read_thinking(row, &thinking, err));
    TRY(jsonl_string(row, "effort", &text.at, &text.len, err));
    *effort = thinking ? SLUICE_EFFORT_DEFAULT : SLUICE_EFFORT_NONE;
    if (!text.at || !thinking)
        return SLUICE_OK;
    if (str_is(text, "high"))
        *effort = SLUICE_EFFORT_HIGH;
    else if (str_is(text, "max"))
        *effort = SLUICE_EFFORT_MAX;
    else
        FAIL_IF(!str_is(text, "low") && !str_is(text, "medium") && !str_is(text, "default"), err,
                SLUICE_ERR_ARG, "\"effort\": expected low, medium, high or max, found '%.*s'",
                STR_ARG(text));
    return SLUICE_OK;
}

/* The JSON text of an array, nothing if it is absent. */
static enum sluice_status json_member(struct json_object *row, const char *key, struct buf *out,
                                      struct sluice_error *err)
{
    struct json_object *value;
    if (!json_object_object_get_ex(row, key, &value) || !value)
        return SLUICE_OK;
    FAIL_IF(!json_object_is_type(value, json_type_array), err, SLUICE_ERR_ARG,
            "\"%s\": expected an array", key);
    json_text_write(out, value);
    return buf_status(out, err);
}

static enum sluice_status read_chat(struct json_object *row, struct sluice_chat *chat,
                                    struct sluice_error *err)
{
    struct str revision;
    bool drop;
    TRY(read_effort(row, &chat->effort, err));
    TRY(jsonl_bool(row, "drop_thinking", true, &drop, err));
    TRY(jsonl_string(row, "revision", &revision.at, &revision.len, err));
    chat->keep_reasoning = !drop;
    chat->preview = revision.at && str_is(revision, "preview");
    return SLUICE_OK;
}

static enum sluice_status render(struct json_object *row, struct buf *messages, struct buf *tools,
                                 struct json_object **answer, struct sluice_error *err)
{
    struct sluice_chat chat = {.trust_text = true};
    struct sluice_text text;
    TRY(json_member(row, "messages", messages, err));
    FAIL_IF(!messages->len, err, SLUICE_ERR_ARG, "\"messages\" is missing");
    TRY(json_member(row, "tools", tools, err));
    TRY(read_chat(row, &chat, err));
    chat.messages = messages->data;
    chat.messages_len = messages->len;
    chat.tools = tools->data;
    chat.tools_len = tools->len;
    TRY(sluice_chat_text(&chat, &text, err));
    struct json_object *value = string_of_bytes(text.at, text.len);
    sluice_free(text.at);
    return answer_one("text", value, answer, err);
}

static enum sluice_status render_row(void *arg, struct json_object *row,
                                     struct json_object **answer, struct sluice_error *err)
{
    struct buf messages, tools;
    bool wanted;
    TRY(is_kind(row, "encode", &wanted, err));
    if (!wanted)
        return SLUICE_OK;
    buf_init(&messages, 0);
    buf_init(&tools, 0);
    enum sluice_status st = render(row, &messages, &tools, answer, err);
    buf_deinit(&messages);
    buf_deinit(&tools);
    return st;
}

static enum sluice_status parse_row(void *arg, struct json_object *row,
                                    struct json_object **answer, struct sluice_error *err)
{
    struct sluice_text parsed;
    struct str text;
    bool thinking, wanted;
    TRY(is_kind(row, "parse", &wanted, err));
    if (!wanted)
        return SLUICE_OK;
    TRY(required_string(row, "text", &text, err));
    TRY(read_thinking(row, &thinking, err));
    TRY(sluice_parse_answer(text.at, text.len, thinking, &parsed, err));
    enum sluice_status st = json_text_parse(parsed.at, parsed.len, answer, err);
    sluice_free(parsed.at);
    return st;
}

int cmd_debug_render(const struct options *o)
{
    return jsonl_answer(o, render_row, NULL);
}

int cmd_debug_parse(const struct options *o)
{
    return jsonl_answer(o, parse_row, NULL);
}
