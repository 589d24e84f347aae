/* engine/text.c - the text functions of sluice.h over text/. */
#include <json-c/json.h>

#include "base/json_text.h"
#include "engine/engine.h"
#include "text/bpe.h"
#include "text/chat.h"
#include "text/reasoning.h"

static enum sluice_status need_vocab(const struct sluice *e, struct sluice_error *err)
{
    FAIL_IF(!e->vocab, err, SLUICE_ERR_MODEL, "%s holds no tokenizer", e->path);
    return SLUICE_OK;
}

static enum sluice_status take_tokens(struct token_list *list, enum sluice_status st,
                                      struct sluice_tokens *out)
{
    if (st != SLUICE_OK) {
        token_list_deinit(list);
        return st;
    }
    *out = (struct sluice_tokens){list->at, list->n};
    return SLUICE_OK;
}

static enum sluice_status take_text(struct buf *b, enum sluice_status st, struct sluice_text *out,
                                    struct sluice_error *err)
{
    buf_add(b, "", 0);
    if (st == SLUICE_OK)
        st = buf_status(b, err);
    if (st == SLUICE_OK)
        out->at = buf_take(b, &out->len);
    buf_deinit(b);
    return st;
}

enum sluice_status sluice_tokenize(const struct sluice *e, const char *text, size_t len,
                                   bool allow_special, struct sluice_tokens *out,
                                   struct sluice_error *err)
{
    *out = (struct sluice_tokens){0};
    TRY(need_vocab(e, err));
    struct token_list list = {0};
    return take_tokens(
        &list, bpe_encode(e->vocab, (struct str){text, len}, allow_special, &list, err), out);
}

enum sluice_status sluice_detokenize(const struct sluice *e, const int32_t *ids, size_t n,
                                     struct sluice_text *out, struct sluice_error *err)
{
    *out = (struct sluice_text){0};
    TRY(need_vocab(e, err));
    struct buf b;
    buf_init(&b, 0);
    return take_text(&b, bpe_decode(e->vocab, ids, n, &b, err), out, err);
}

static enum chat_effort effort_of(enum sluice_effort effort)
{
    static const enum chat_effort map[] = {
        [SLUICE_EFFORT_NONE] = CHAT_NO_THINKING,
        [SLUICE_EFFORT_DEFAULT] = CHAT_THINKING,
        [SLUICE_EFFORT_HIGH] = CHAT_THINKING_HIGH,
        [SLUICE_EFFORT_MAX] = CHAT_THINKING_MAX,
    };
    return map[effort];
}

static enum sluice_status render(const struct sluice_chat *chat, struct chat_text *out,
                                 struct sluice_error *err)
{
    struct json_object *messages = NULL, *tools = NULL;
    enum sluice_status st = json_text_parse(chat->messages, chat->messages_len, &messages, err);
    if (st == SLUICE_OK && chat->tools)
        st = json_text_parse(chat->tools, chat->tools_len, &tools, err);
    if (st == SLUICE_OK) {
        struct chat_request request = {
            .messages = messages,
            .tools = tools,
            .effort = effort_of(chat->effort),
            .preview = chat->preview,
            .keep_reasoning = chat->keep_reasoning,
            .continue_last = chat->continue_last,
        };
        st = chat_render(&request, out, err);
    }
    json_object_put(messages);
    json_object_put(tools);
    return st;
}

enum sluice_status sluice_chat_tokens(const struct sluice *e, const struct sluice_chat *chat,
                                      struct sluice_tokens *out, struct sluice_error *err)
{
    *out = (struct sluice_tokens){0};
    TRY(need_vocab(e, err));
    struct chat_text text;
    TRY(render(chat, &text, err));
    struct token_list list = {0};
    struct str all = {text.text.data, text.text.len};
    struct text_range whole = {0, all.len};
    enum sluice_status st = bpe_encode_marked(
        e->vocab, all, chat->trust_text ? &whole : text.trusted,
        chat->trust_text ? 1 : text.n_trusted, &list, err);
    chat_text_deinit(&text);
    return take_tokens(&list, st, out);
}

enum sluice_status sluice_chat_text(const struct sluice_chat *chat, struct sluice_text *out,
                                    struct sluice_error *err)
{
    *out = (struct sluice_text){0};
    struct chat_text text;
    TRY(render(chat, &text, err));
    enum sluice_status st = take_text(&text.text, SLUICE_OK, out, err);
    chat_text_deinit(&text);
    return st;
}

enum sluice_status sluice_parse_answer(const char *text, size_t len, bool thinking,
                                       struct sluice_text *out, struct sluice_error *err)
{
    *out = (struct sluice_text){0};
    struct json_object *answer;
    TRY(answer_parse((struct str){text, len}, thinking, &answer, err));
    struct buf b;
    buf_init(&b, 0);
    json_text_write(&b, answer);
    json_object_put(answer);
    return take_text(&b, SLUICE_OK, out, err);
}
