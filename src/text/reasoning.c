/* text/reasoning.c - see reasoning.h. */
#include "text/reasoning.h"

#include <json-c/json.h>
#include <string.h>

#include "text/vocab.h"

#define THINK "<think>"
#define THINK_END "</think>"

void reasoning_init(struct reasoning *r, bool thinking, struct answer_sink sink)
{
    toolcall_init(&r->calls, sink);
    r->thinking = thinking;
    r->began = false;
    buf_init(&r->held, 0);
}

void reasoning_deinit(struct reasoning *r)
{
    toolcall_deinit(&r->calls);
    buf_deinit(&r->held);
}

static void emit_reasoning(struct reasoning *r, size_t n)
{
    if (n == 0)
        return;
    struct answer_event e = {.kind = ANSWER_REASONING, .text = {r->held.data, n}, .index = -1};
    r->calls.sink.event(r->calls.sink.ctx, &e);
    buf_drop_front(&r->held, n);
}

/* Length of the longest end of text that begins mark. */
static size_t begun(struct str text, const char *mark)
{
    size_t n = strlen(mark) - 1;
    if (n > text.len)
        n = text.len;
    while (n > 0 && memcmp(text.at + text.len - n, mark, n) != 0)
        n--;
    return n;
}

/* Some models say the opening mark again. True when it is decided. */
static bool skip_opening(struct reasoning *r)
{
    size_t n = strlen(THINK), k = r->held.len < n ? r->held.len : n;
    bool same = k == 0 || memcmp(r->held.data, THINK, k) == 0;
    if (same && k < n)
        return false;
    if (same)
        buf_drop_front(&r->held, n);
    r->began = true;
    return true;
}

static enum sluice_status step_thinking(struct reasoning *r, struct sluice_error *err)
{
    if (!r->began && !skip_opening(r))
        return SLUICE_OK;
    if (r->held.len == 0)
        return SLUICE_OK;
    const char *end = memmem(r->held.data, r->held.len, THINK_END, strlen(THINK_END));
    if (!end) {
        struct str held = {r->held.data, r->held.len};
        emit_reasoning(r, held.len - begun(held, THINK_END));
        return SLUICE_OK;
    }
    emit_reasoning(r, (size_t)(end - r->held.data));
    buf_drop_front(&r->held, strlen(THINK_END));
    r->thinking = false;
    struct str rest = {r->held.data, r->held.len};
    enum sluice_status st = toolcall_push(&r->calls, rest, err);
    buf_clear(&r->held);
    return st;
}

enum sluice_status reasoning_push(struct reasoning *r, struct str text, struct sluice_error *err)
{
    if (!r->thinking)
        return toolcall_push(&r->calls, text, err);
    buf_add(&r->held, text.at, text.len);
    TRY(buf_status(&r->held, err));
    return step_thinking(r, err);
}

enum sluice_status reasoning_finish(struct reasoning *r, struct sluice_error *err)
{
    if (r->thinking)
        emit_reasoning(r, r->held.len);
    return toolcall_finish(&r->calls, err);
}

/* ---- a whole completion ---- */

struct collector {
    struct buf reasoning, content, arguments;
    struct json_object *calls, *open;    /* open: the function of a call that has begun */
};

static void collect(void *ctx, const struct answer_event *e)
{
    struct collector *c = ctx;
    switch (e->kind) {
    case ANSWER_REASONING:
        buf_add(&c->reasoning, e->text.at, e->text.len);
        break;
    case ANSWER_CONTENT:
        buf_add(&c->content, e->text.at, e->text.len);
        break;
    case ANSWER_CALL_BEGIN:
        buf_clear(&c->arguments);
        c->open = json_object_new_object();
        json_object_object_add(c->open, "name",
                               json_object_new_string_len(e->text.at, (int)e->text.len));
        break;
    case ANSWER_CALL_ARGS:
        buf_add(&c->arguments, e->text.at, e->text.len);
        break;
    case ANSWER_CALL_END: {
        struct json_object *call = json_object_new_object();
        json_object_object_add(
            c->open, "arguments",
            json_object_new_string_len(c->arguments.data, (int)c->arguments.len));
        json_object_object_add(call, "type", json_object_new_string("function"));
        json_object_object_add(call, "function", c->open);
        json_object_array_add(c->calls, call);
        c->open = NULL;
        break;
    }
    case ANSWER_CALL_ABORT:
        json_object_put(c->open);
        c->open = NULL;
        break;
    }
}

static struct json_object *text_of(const struct buf *b)
{
    return json_object_new_string_len(b->data ? b->data : "", (int)b->len);
}

enum sluice_status answer_parse(struct str text, bool thinking, struct json_object **out,
                                struct sluice_error *err)
{
    struct str eos = str_of(vocab_special_text(VOCAB_EOS));
    if (text.len >= eos.len && memcmp(text.at + text.len - eos.len, eos.at, eos.len) == 0)
        text.len -= eos.len;
    struct collector c = {.calls = json_object_new_array()};
    buf_init(&c.reasoning, 0);
    buf_init(&c.content, 0);
    buf_init(&c.arguments, 0);
    struct reasoning r;
    reasoning_init(&r, thinking, (struct answer_sink){&c, collect});
    *out = NULL;
    enum sluice_status st;
    TRY_OUT(reasoning_push(&r, text, err));
    TRY_OUT(reasoning_finish(&r, err));
    TRY_OUT(buf_status(&c.reasoning, err));
    TRY_OUT(buf_status(&c.content, err));
    *out = json_object_new_object();
    json_object_object_add(*out, "reasoning_content", text_of(&c.reasoning));
    json_object_object_add(*out, "content", text_of(&c.content));
    json_object_object_add(*out, "tool_calls", json_object_get(c.calls));
out:
    json_object_put(c.calls);
    reasoning_deinit(&r);
    buf_deinit(&c.reasoning);
    buf_deinit(&c.content);
    buf_deinit(&c.arguments);
    return st;
}
