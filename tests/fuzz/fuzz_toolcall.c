/* The reading of completions: any bytes, cut anywhere; the events must not depend on the cuts and
 * arguments must be JSON. First byte: thinking, size of the pieces. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json_text.h"
#include "text/reasoning.h"

struct trace {
    struct buf all, arguments;
};

static void note(void *ctx, const struct answer_event *e)
{
    struct trace *t = ctx;
    buf_addf(&t->all, "%.*s", (int)e->text.len, e->text.at);
    if (e->kind == ANSWER_CALL_BEGIN)
        buf_clear(&t->arguments);
    if (e->kind == ANSWER_CALL_ARGS)
        buf_add(&t->arguments, e->text.at, e->text.len);
    if (e->kind == ANSWER_CALL_END) {
        struct json_object *value;
        enum sluice_status st =
            json_text_parse(t->arguments.data, t->arguments.len, &value, NULL);
        SLUICE_ASSERT(st == SLUICE_OK && json_object_is_type(value, json_type_object));
        json_object_put(value);
    }
}

static void run(struct trace *t, struct str text, bool thinking, size_t step)
{
    buf_init(&t->all, 0);
    buf_init(&t->arguments, 0);
    struct reasoning r;
    reasoning_init(&r, thinking, (struct answer_sink){t, note});
    for (size_t i = 0; i < text.len; i += step)
        reasoning_push(&r,
                       (struct str){text.at + i, text.len - i < step ? text.len - i : step}, NULL);
    reasoning_finish(&r, NULL);
    reasoning_deinit(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct str text = {(const char *)data + 1, len - 1};
    /* Only valid text reaches the parser (text/detok.h). */
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == 0)
            return 0;
    struct json_object *probe = json_object_new_string_len(text.at, (int)text.len), *same = NULL;
    struct buf b;
    buf_init(&b, 0);
    json_text_write(&b, probe);
    bool utf8 = json_text_parse(b.data, b.len, &same, NULL) == SLUICE_OK;
    json_object_put(same);
    json_object_put(probe);
    buf_deinit(&b);
    if (!utf8)
        return 0;
    struct trace whole, cut;
    run(&whole, text, data[0] & 1, text.len);
    run(&cut, text, data[0] & 1, 1 + (data[0] >> 1) % 16);
    SLUICE_ASSERT(whole.all.len == cut.all.len &&
                  (whole.all.len == 0 || memcmp(whole.all.data, cut.all.data, cut.all.len) == 0));
    buf_deinit(&whole.all);
    buf_deinit(&whole.arguments);
    buf_deinit(&cut.all);
    buf_deinit(&cut.arguments);
    return 0;
}
