/* server/prompts.c - from what a client asks to the ids that the model reads. Any thread. */
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/server_internal.h"
#include "server/turns.h"
#include "text/vocab.h"

static enum sluice_status append(struct server *s, struct sluice_tokens *to,
                                 struct sluice_tokens more, struct sluice_error *err)
{
    int32_t *ids = realloc(to->ids, (to->n + more.n + 1) * sizeof *ids);
    if (ids) {
        to->ids = ids;
        memcpy(ids + to->n, more.ids, more.n * sizeof *ids);
        to->n += more.n;
    }
    s->source.fn->free(more.ids);
    FAIL_IF(!ids, err, SLUICE_ERR_NOMEM, "out of memory for a prompt");
    return SLUICE_OK;
}

static enum sluice_status append_text(struct server *s, struct sluice_tokens *to, struct str text,
                                      bool special, struct sluice_error *err)
{
    struct sluice_tokens more;
    TRY(s->source.fn->tokenize(s->source.ctx, text, special, &more, err));
    return append(s, to, more, err);
}

/* A conversation's last turn must leave the word to the model. */
static enum sluice_status check_last(struct ask *a, struct sluice_error *err)
{
    size_t n = json_object_array_length(a->messages);
    struct json_object *last = json_object_array_get_idx(a->messages, n - 1);
    if (strcmp(field_text(last, "role"), "assistant") != 0)
        return SLUICE_OK;
    FAIL_IF(field(last, "tool_calls"), err, SLUICE_ERR_ARG,
            "messages: expected the results of the last message's tool calls");
    a->continue_last = true;
    return SLUICE_OK;
}

/* An answer that goes on from a beginning with text is past its thinking. */
static void thinking_of_continued(struct ask *a)
{
    size_t n = json_object_array_length(a->messages);
    struct json_object *last = json_object_array_get_idx(a->messages, n - 1);
    if (a->continue_last && json_str(field(last, "content")).len > 0)
        a->past_thinking = true;
}

static enum sluice_status conversation(struct server *s, struct ask *a, struct sluice_tokens *out,
                                       struct sluice_error *err)
{
    struct buf messages = {0}, tools = {0};
    struct sluice_tokens ids;
    enum sluice_status st;
    TRY_OUT(turns_settle(&a->messages, a->format, s->calls, err));
    TRY_OUT(check_last(a, err));
    if (a->choice == ASK_CALL && a->continue_last) {
        st = status_fail(err, SLUICE_ERR_ARG, -1,
                         "tool_choice: a call cannot follow an answer that was begun");
        goto out;
    }
    thinking_of_continued(a);
    json_text_write(&messages, a->messages);
    if (a->tools)
        json_text_write(&tools, a->tools);
    TRY_OUT(buf_status(&messages, err));
    TRY_OUT(buf_status(&tools, err));
    struct sluice_chat chat = {
        .messages = messages.data,
        .messages_len = messages.len,
        .tools = tools.data,
        .tools_len = tools.len,
        .effort = a->effort,
        .preview = a->preview,
        .keep_reasoning = a->keep_reasoning,
        .trust_text = a->trust_text,
        .continue_last = a->continue_last,
    };
    TRY_OUT(s->source.fn->chat_tokens(s->source.ctx, &chat, &ids, err));
    st = append(s, out, ids, err);
out:
    buf_deinit(&messages);
    buf_deinit(&tools);
    return st;
}

static enum sluice_status forbid_calls(struct server *s, struct ask *a, struct sluice_error *err)
{
    struct sluice_tokens mark;
    struct str text = str_of(vocab_special_text(VOCAB_DSML));
    struct sluice_sampling *p = &a->sampling;
    if (a->choice != ASK_NO_CALL)
        return SLUICE_OK;
    TRY(s->source.fn->tokenize(s->source.ctx, text, /*allow_special=*/true, &mark, err));
    int32_t id = mark.n == 1 ? mark.ids[0] : -1;
    s->source.fn->free(mark.ids);
    if (id < 0)
        return SLUICE_OK;
    struct sluice_bias *bias = realloc((void *)p->bias, ((size_t)p->n_bias + 1) * sizeof *bias);
    FAIL_IF(!bias, err, SLUICE_ERR_NOMEM, "out of memory for a bias");
    bias[p->n_bias++] = (struct sluice_bias){id, -INFINITY};
    p->bias = bias;
    return SLUICE_OK;
}

static enum sluice_status ids_of(struct server *s, struct json_object *list,
                                 struct sluice_tokens *out, struct sluice_error *err)
{
    size_t n = json_object_array_length(list);
    int32_t n_vocab = s->source.fn->info(s->source.ctx)->n_vocab;
    out->ids = malloc((n + 1) * sizeof *out->ids);
    FAIL_IF(!out->ids, err, SLUICE_ERR_NOMEM, "out of memory for a prompt");
    for (size_t i = 0; i < n; i++) {
        struct json_object *id = json_object_array_get_idx(list, i);
        int64_t value = json_object_get_int64(id);
        FAIL_IF(!json_object_is_type(id, json_type_int) || value < 0 || value >= n_vocab, err,
                SLUICE_ERR_ARG, "prompt: expected token ids below %d, found %.40s", n_vocab,
                json_object_to_json_string(id));
        out->ids[out->n++] = (int32_t)value;
    }
    return SLUICE_OK;
}

/* A prompt that is to be gone on from, as it is; a text begins with the first token of all. */
static enum sluice_status raw_prompt(struct server *s, struct ask *a, struct json_object *prompt,
                                     struct sluice_tokens *out, struct sluice_error *err)
{
    if (json_object_is_type(prompt, json_type_array)) {
        TRY(ids_of(s, prompt, out, err));
    } else {
        struct str text = json_str(prompt);
        int32_t bos = s->source.fn->info(s->source.ctx)->bos;
        TRY(append_text(s, out, text, a->trust_text, err));
        if (bos >= 0 && (out->n == 0 || out->ids[0] != bos)) {
            int32_t *ids = realloc(out->ids, (out->n + 1) * sizeof *ids);
            FAIL_IF(!ids, err, SLUICE_ERR_NOMEM, "out of memory for a prompt");
            memmove(ids + 1, ids, out->n * sizeof *ids);
            ids[0] = bos;
            *out = (struct sluice_tokens){ids, out->n + 1};
        }
    }
    FAIL_IF(out->n == 0, err, SLUICE_ERR_ARG, "prompt: expected at least one token");
    if (!a->echo)
        return SLUICE_OK;
    struct sluice_text text;
    if (json_object_is_type(prompt, json_type_string)) {
        json_object_array_add(a->texts, json_object_get(prompt));
        return SLUICE_OK;
    }
    TRY(s->source.fn->detokenize(s->source.ctx, out->ids, out->n, &text, err));
    json_object_array_add(a->texts, json_of((struct str){text.at, text.len}));
    s->source.fn->free(text.at);
    return SLUICE_OK;
}

enum sluice_status prompts_make(struct server *s, struct ask *a, struct sluice_tokens **out,
                                struct sluice_error *err)
{
    int n = ask_prompts(a);
    struct sluice_tokens *prompts = calloc((size_t)n, sizeof *prompts);
    FAIL_IF(!prompts, err, SLUICE_ERR_NOMEM, "out of memory for %d prompts", n);
    enum sluice_status st = SLUICE_OK;
    if (a->messages) {
        TRY_OUT(conversation(s, a, prompts, err));
        TRY_OUT(forbid_calls(s, a, err));
    }
    if (a->echo)
        a->texts = json_object_new_array();
    for (int i = 0; a->prompts && i < n; i++)
        TRY_OUT(
            raw_prompt(s, a, json_object_array_get_idx(a->prompts, (size_t)i), &prompts[i], err));
    *out = prompts;
    prompts = NULL;
out:
    prompts_free(prompts, n);
    return st;
}

void prompts_free(struct sluice_tokens *prompts, int n)
{
    for (int i = 0; prompts && i < n; i++)
        free(prompts[i].ids);
    free(prompts);
}
