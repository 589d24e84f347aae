/* text/toolcall.c - see toolcall.h. */
#include "text/toolcall.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/json_text.h"
#include "base/limits.h"

#define BAR "｜"
#define DSML BAR "DSML" BAR
#define HALF_DSML "DSML" BAR

/* ---- tags ---- */

/* What may stand between "<" or "</" and a tag's name. */
static const char *const prefixes[] = {DSML, HALF_DSML, ""};
enum { PREFIX_PLAIN = 2, N_PREFIXES };

enum match { NO, MAYBE, YES };

/* Does text begin with want? MAYBE: as far as text goes. */
static enum match begins(struct str text, const char *want)
{
    size_t n = strlen(want), k = text.len < n ? text.len : n;
    if (memcmp(text.at, want, k) != 0)
        return NO;
    return k == n ? YES : MAYBE;
}

/* Does text begin with open ("<" or "</"), a prefix and name? On YES *len is their length and
 * *prefix says which. plain: the empty prefix is accepted. */
static enum match begins_tag(struct str text, const char *open, const char *name, bool plain,
                             size_t *len, int *prefix)
{
    char want[64];
    enum match best = NO;
    for (int i = 0; i < (plain ? N_PREFIXES : PREFIX_PLAIN); i++) {
        int n = snprintf(want, sizeof want, "%s%s%s", open, prefixes[i], name);
        enum match m = begins(text, want);
        if (m == YES) {
            *len = (size_t)n;
            *prefix = i;
            return YES;
        }
        if (m > best)
            best = m;
    }
    return best;
}

/* A whole tag at the start of text: open, prefix, name, attributes, ">". *attributes is what lies
 * between name and ">". */
static enum match whole_tag(struct str text, const char *open, const char *name, bool plain,
                            struct str *attributes, size_t *len)
{
    int prefix;
    size_t n;
    enum match m = begins_tag(text, open, name, plain, &n, &prefix);
    if (m != YES)
        return m;
    bool quoted = false;
    size_t last = n + LIMIT_CALL_NAME + 64; /* however much of text is there */
    for (size_t i = n; i < text.len && i <= last; i++) {
        if (text.at[i] == '"')
            quoted = !quoted;
        if (text.at[i] == '>' && !quoted) {
            *attributes = (struct str){text.at + n, i - n};
            *len = i + 1;
            return YES;
        }
        if (i == n && text.at[i] != ' ' && text.at[i] != '\n')
            return NO;
    }
    return text.len > last ? NO : MAYBE;
}

/* The value of name="..." among attributes; false if it is not there. */
static bool attribute(struct str attributes, const char *name, struct str *value)
{
    size_t n = strlen(name);
    for (size_t i = 0; i + n + 2 <= attributes.len; i++) {
        const char *p = attributes.at + i;
        bool border = i == 0 || p[-1] == ' ' || p[-1] == '\n';
        if (!border || memcmp(p, name, n) != 0 || p[n] != '=' || p[n + 1] != '"')
            continue;
        const char *from = p + n + 2;
        const char *to = memchr(from, '"', (size_t)(attributes.at + attributes.len - from));
        if (!to)
            return false;
        *value = (struct str){from, (size_t)(to - from)};
        return true;
    }
    return false;
}

/* ---- events ---- */

static void emit(struct toolcall *t, enum answer_event_kind kind, struct str text)
{
    bool pieces = kind == ANSWER_CONTENT || kind == ANSWER_CALL_ARGS;
    if (pieces && text.len == 0)
        return;
    struct answer_event e = {.kind = kind, .text = text, .index = t->n_calls - 1};
    t->sink.event(t->sink.ctx, &e);
}

static struct str view(const struct buf *b)
{
    return (struct str){b->data ? b->data : "", b->len};
}

static void emit_piece(struct toolcall *t)
{
    emit(t, ANSWER_CALL_ARGS, view(&t->piece));
    buf_clear(&t->piece);
}

/* The first n held bytes are understood as syntax; they stay in raw until a call ends. */
static void consume(struct toolcall *t, size_t n)
{
    buf_add(&t->raw, t->held.data, n);
    buf_drop_front(&t->held, n);
}

/* What was taken for calls since the last call's end is content after all. */
static void give_up(struct toolcall *t)
{
    t->giving_up = true;
    if (t->state >= TOOLCALL_CALL) {
        emit(t, ANSWER_CALL_ABORT, STR_LIT(""));
        t->n_calls--;
    }
    t->state = TOOLCALL_CONTENT;
    emit(t, ANSWER_CONTENT, view(&t->raw));
    buf_clear(&t->raw);
    t->giving_up = false;
}

/* ---- states; each returns false when it needs more input ---- */

/* Where held may begin a block: the offset of the opener's "<", *syntax of the line breaks before
 * it. held.len if nowhere. */
static size_t find_opener(const struct toolcall *t, size_t *syntax, enum match *found, size_t *len)
{
    const char *at = t->held.data;
    size_t n = t->held.len;
    struct str attributes;
    *found = NO;
    for (size_t i = 0; i < n; i++) {
        if (at[i] != '<')
            continue;
        *found = whole_tag((struct str){at + i, n - i}, "<", "tool_calls", /*plain=*/true,
                           &attributes, len);
        if (*found == NO)
            continue;
        *syntax = i;
        while (*syntax > 0 && i - *syntax < 2 && at[*syntax - 1] == '\n')
            --*syntax;
        return i;
    }
    *syntax = n;
    while (*syntax > 0 && n - *syntax < 2 && at[*syntax - 1] == '\n')
        --*syntax;
    return n;
}

static size_t space_length(const struct toolcall *t)
{
    size_t n = 0;
    while (n < t->held.len && strchr(" \t\r\n", t->held.data[n]))
        n++;
    return n;
}

static bool step_content(struct toolcall *t)
{
    if (t->after_block)
        buf_drop_front(&t->held, space_length(t));
    if (t->held.len == 0)
        return false;
    t->after_block = false;
    size_t syntax, len = 0;
    enum match found;
    size_t at = find_opener(t, &syntax, &found, &len);
    emit(t, ANSWER_CONTENT, (struct str){t->held.data, syntax});
    buf_drop_front(&t->held, syntax);
    if (found != YES)
        return false;
    at -= syntax;
    int prefix;
    struct str tag = {t->held.data + at, len};
    begins_tag(tag, "<", "tool_calls", /*plain=*/true, &len, &prefix);
    t->plain = prefix == PREFIX_PLAIN;
    consume(t, at + tag.len);
    t->block_calls = 0;
    t->state = TOOLCALL_BLOCK;
    return true;
}

static size_t skip_space(struct toolcall *t)
{
    consume(t, space_length(t));
    return t->held.len;
}

static void begin_call(struct toolcall *t, struct str name)
{
    t->n_calls++;
    t->block_calls++;
    t->n_params = 0;
    buf_clear(&t->keys);
    t->state = TOOLCALL_CALL;
    emit(t, ANSWER_CALL_BEGIN, name);
    emit(t, ANSWER_CALL_ARGS, STR_LIT("{"));
}

static bool step_block(struct toolcall *t)
{
    if (skip_space(t) == 0)
        return false;
    struct str attributes, name;
    size_t len;
    enum match closer = whole_tag(view(&t->held), "</", "tool_calls", t->plain, &attributes, &len);
    if (closer == YES) {
        consume(t, len);
        if (t->block_calls == 0) { /* a block without a call is text */
            give_up(t);
            return true;
        }
        buf_clear(&t->raw);
        t->state = TOOLCALL_CONTENT;
        t->after_block = true;
        return true;
    }
    enum match invoke = whole_tag(view(&t->held), "<", "invoke", t->plain, &attributes, &len);
    if (invoke == YES && attribute(attributes, "name", &name) && name.len > 0 &&
        name.len <= LIMIT_CALL_NAME && t->n_calls < LIMIT_CALLS) {
        begin_call(t, name);
        consume(t, len);
        return true;
    }
    if (invoke == MAYBE || closer == MAYBE)
        return false;
    give_up(t);
    return true;
}

/* Remembers a parameter's name; false if the call has it already. */
static bool add_key(struct toolcall *t, struct str key)
{
    for (size_t at = 0; at < t->keys.len; at += strlen(t->keys.data + at) + 1)
        if (str_eq(str_of(t->keys.data + at), key))
            return false;
    buf_add(&t->keys, key.at, key.len);
    buf_add(&t->keys, "", 1);
    return true;
}

/* A parameter's name and kind; false if it has no name that can be used. */
static bool read_parameter(struct str attributes, struct str *key, bool *as_string)
{
    struct str string = STR_LIT("true");
    if (!attribute(attributes, "name", key) || key->len > LIMIT_CALL_NAME ||
        memchr(key->at, 0, key->len))
        return false;
    attribute(attributes, "string", &string);
    *as_string = !str_is(string, "false");
    return true;
}

static bool begin_value(struct toolcall *t, struct str attributes)
{
    struct str key;
    struct toolcall_level *l = &t->level[0];
    *l = (struct toolcall_level){0};
    if (!read_parameter(attributes, &key, &l->as_string) || !add_key(t, key))
        return false;
    if (t->n_params++ > 0)
        buf_add_str(&t->piece, ", ");
    json_text_write_str(&t->piece, key);
    buf_add_str(&t->piece, l->as_string ? ": \"" : ": ");
    emit_piece(t);
    buf_clear(&t->value);
    buf_clear(&t->object);
    t->depth = 0;
    t->state = TOOLCALL_VALUE;
    return true;
}

/* A parameter inside the open one. */
static bool begin_member(struct toolcall *t, struct str attributes)
{
    struct str key;
    struct toolcall_level *l = &t->level[t->depth], inner = {0};
    if (t->depth + 1 == LIMIT_CALL_DEPTH || !read_parameter(attributes, &key, &inner.as_string))
        return false;
    if (!l->object) {
        l->object = true;
        l->from = t->object.len;
        buf_add_str(&t->object, "{");
    }
    if (l->members++ > 0)
        buf_add_str(&t->object, ", ");
    json_text_write_str(&t->object, key);
    buf_add_str(&t->object, inner.as_string ? ": \"" : ": ");
    buf_clear(&t->value);
    t->level[++t->depth] = inner;
    return true;
}

static bool step_call(struct toolcall *t)
{
    if (skip_space(t) == 0)
        return false;
    struct str attributes;
    size_t len;
    enum match closer = whole_tag(view(&t->held), "</", "invoke", t->plain, &attributes, &len);
    if (closer == YES) {
        emit(t, ANSWER_CALL_ARGS, STR_LIT("}"));
        emit(t, ANSWER_CALL_END, STR_LIT(""));
        buf_drop_front(&t->held, len);
        buf_clear(&t->raw);
        t->state = TOOLCALL_BLOCK;
        return true;
    }
    enum match param = whole_tag(view(&t->held), "<", "parameter", t->plain, &attributes, &len);
    if (param == YES && begin_value(t, attributes)) {
        consume(t, len);
        return true;
    }
    if (param == MAYBE || closer == MAYBE)
        return false;
    give_up(t);
    return true;
}

/* n bytes of a value. */
static void add_value(struct toolcall *t, struct str text)
{
    if (!t->level[t->depth].as_string) {
        buf_add(&t->value, text.at, text.len);
    } else if (t->depth > 0) {
        json_text_escape(&t->object, text);
    } else {
        json_text_escape(&t->piece, text);
        emit_piece(t);
    }
}

static struct str trimmed(struct str text)
{
    while (text.len && strchr(" \t\r\n", text.at[text.len - 1]))
        text.len--;
    while (text.len && strchr(" \t\r\n", text.at[0]))
        text.at++, text.len--;
    return text;
}

/* What should be JSON, to the end of b: as it is, or as a string. */
static void settle_value(struct toolcall *t, struct buf *b)
{
    struct str text = trimmed(view(&t->value));
    struct json_object *parsed;
    if (json_text_parse(text.at, text.len, &parsed, NULL) == SLUICE_OK) {
        json_object_put(parsed);
        buf_add(b, text.at, text.len);
    } else {
        json_text_write_str(b, view(&t->value));
    }
}

/* False if a member occurs twice. */
static bool end_object(struct toolcall *t, const struct toolcall_level *l)
{
    struct json_object *parsed = NULL;
    buf_add_str(&t->object, "}");
    struct str text = {t->object.data + l->from, t->object.len - l->from};
    bool ok = t->object.status == SLUICE_OK &&
              json_text_parse(text.at, text.len, &parsed, NULL) == SLUICE_OK &&
              json_object_object_length(parsed) == l->members;
    json_object_put(parsed);
    return ok;
}

/* The open parameter's closer came; false if the call is malformed. */
static bool end_value(struct toolcall *t)
{
    const struct toolcall_level *l = &t->level[t->depth];
    struct buf *b = t->depth > 0 ? &t->object : &t->piece;
    if (l->object) {
        if (!end_object(t, l))
            return false;
        if (t->depth == 0)
            buf_add(b, t->object.data, t->object.len);
    } else if (l->as_string) {
        buf_add_str(b, "\"");
    } else {
        settle_value(t, b);
    }
    if (t->depth > 0) {
        t->depth--;
        return true;
    }
    emit_piece(t);
    t->state = TOOLCALL_CALL;
    return true;
}

/* The next place in held where a value may end or holds an escaped closer. */
static size_t find_value_mark(const struct toolcall *t)
{
    for (size_t i = 0; i < t->held.len; i++)
        if (t->held.data[i] == '<' || t->held.data[i] == '&')
            return i;
    return t->held.len;
}

/* Between the parameters inside a parameter. */
static bool step_object(struct toolcall *t)
{
    if (skip_space(t) == 0)
        return false;
    struct str attributes;
    size_t len;
    enum match closer = whole_tag(view(&t->held), "</", "parameter", t->plain, &attributes, &len);
    if (closer == YES && end_value(t)) {
        consume(t, len);
        return true;
    }
    enum match member = whole_tag(view(&t->held), "<", "parameter", t->plain, &attributes, &len);
    if (member == YES && begin_member(t, attributes)) {
        consume(t, len);
        return true;
    }
    if (member == MAYBE || closer == MAYBE)
        return false;
    give_up(t);
    return true;
}

/* held begins with "<" inside a value. */
static bool step_value_tag(struct toolcall *t)
{
    struct str attributes;
    size_t len;
    enum match m = whole_tag(view(&t->held), "</", "parameter", t->plain, &attributes, &len);
    if (m == MAYBE)
        return false;
    if (m == YES) {
        end_value(t); /* not an object's, so it is sound */
        consume(t, len);
        return true;
    }
    if (!t->level[t->depth].as_string && trimmed(view(&t->value)).len == 0) {
        m = whole_tag(view(&t->held), "<", "parameter", t->plain, &attributes, &len);
        if (m == MAYBE)
            return false;
        if (m == YES && begin_member(t, attributes)) {
            consume(t, len);
            return true;
        }
    }
    add_value(t, STR_LIT("<"));
    consume(t, 1);
    return true;
}

static bool step_value(struct toolcall *t)
{
    if (t->level[t->depth].object)
        return step_object(t);
    size_t at = find_value_mark(t);
    add_value(t, (struct str){t->held.data, at});
    consume(t, at);
    if (t->held.len == 0)
        return false;
    if (t->held.data[0] == '<')
        return step_value_tag(t);
    size_t len;
    int prefix;
    enum match m = begins_tag(view(&t->held), "&lt;/", "parameter", t->plain, &len, &prefix);
    if (m == MAYBE)
        return false;
    add_value(t, m == YES ? STR_LIT("<") : STR_LIT("&"));
    consume(t, m == YES ? strlen("&lt;") : 1);
    return true;
}

/* ---- the parser ---- */

void toolcall_init(struct toolcall *t, struct answer_sink sink)
{
    memset(t, 0, sizeof *t);
    t->sink = sink;
    struct buf *all[] = {&t->held, &t->raw, &t->value, &t->object, &t->keys, &t->piece};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_init(all[i], 0);
}

void toolcall_deinit(struct toolcall *t)
{
    struct buf *all[] = {&t->held, &t->raw, &t->value, &t->object, &t->keys, &t->piece};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        buf_deinit(all[i]);
}

static enum sluice_status failed(struct toolcall *t, struct sluice_error *err)
{
    struct buf *all[] = {&t->held, &t->raw, &t->value, &t->object, &t->keys, &t->piece};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (t->status == SLUICE_OK && all[i]->status != SLUICE_OK)
            t->status = all[i]->status;
    FAIL_IF(t->status != SLUICE_OK, err, t->status, "out of memory while reading an answer");
    return SLUICE_OK;
}

enum sluice_status toolcall_push(struct toolcall *t, struct str text, struct sluice_error *err)
{
    static bool (*const step[])(struct toolcall *) = {
        [TOOLCALL_CONTENT] = step_content,
        [TOOLCALL_BLOCK] = step_block,
        [TOOLCALL_CALL] = step_call,
        [TOOLCALL_VALUE] = step_value,
    };
    TRY(failed(t, err));
    buf_add(&t->held, text.at, text.len);
    while (t->status == SLUICE_OK && t->held.len > 0) {
        if (t->raw.len > LIMIT_CALL_BYTES)
            give_up(t);
        if (!step[t->state](t))
            break;
        TRY(failed(t, err));
    }
    return failed(t, err);
}

/* Does the input end after a call, perhaps inside the closer of its block? */
static bool closer_missing(const struct toolcall *t)
{
    struct str attributes;
    size_t len;
    bool space = t->raw.len == 0 || strspn(t->raw.data, " \t\r\n") == t->raw.len;
    return t->state == TOOLCALL_BLOCK && t->block_calls > 0 && space &&
           (t->held.len == 0 ||
            whole_tag(view(&t->held), "</", "tool_calls", t->plain, &attributes, &len) == MAYBE);
}

enum sluice_status toolcall_finish(struct toolcall *t, struct sluice_error *err)
{
    TRY(failed(t, err));
    if (closer_missing(t)) {
        buf_clear(&t->raw);
        buf_clear(&t->held);
        t->state = TOOLCALL_CONTENT;
    }
    if (t->state != TOOLCALL_CONTENT)
        give_up(t);
    emit(t, ANSWER_CONTENT, view(&t->held));
    buf_clear(&t->held);
    return failed(t, err);
}

/* ---- the renderer ---- */

/* What stands in b from there on is no syntax. */
static void mark(const struct buf *b, struct buf *foreign, size_t from)
{
    if (foreign && b->len > from)
        buf_add(foreign, (size_t[2]){from, b->len}, 2 * sizeof(size_t));
}

static void render_parameter(struct buf *b, const char *key, struct json_object *value,
                             struct buf *foreign)
{
    bool string = json_object_is_type(value, json_type_string);
    buf_add_str(b, "<" DSML "parameter name=\"");
    size_t from = b->len;
    buf_add_str(b, key);
    mark(b, foreign, from);
    buf_addf(b, "\" string=\"%s\">", string ? "true" : "false");
    from = b->len;
    if (string)
        buf_add(b, json_object_get_string(value), (size_t)json_object_get_string_len(value));
    else
        json_text_write(b, value);
    mark(b, foreign, from);
    buf_add_str(b, "</" DSML "parameter>");
}

static void render_arguments(struct buf *b, struct json_object *arguments, struct buf *foreign)
{
    bool first = true;
    struct json_object_iterator it = json_object_iter_begin(arguments),
                                end = json_object_iter_end(arguments);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        if (!first)
            buf_add_char(b, '\n');
        first = false;
        render_parameter(b, json_object_iter_peek_name(&it), json_object_iter_peek_value(&it),
                         foreign);
    }
}

static enum sluice_status render_call(struct buf *b, struct json_object *call, size_t i,
                                      struct buf *foreign, struct sluice_error *err)
{
    struct json_object *function = NULL, *name = NULL, *arguments = NULL, *parsed = NULL;
    if (!json_object_is_type(call, json_type_object) ||
        !json_object_object_get_ex(call, "function", &function))
        function = call;
    bool ok = json_object_is_type(function, json_type_object) &&
              json_object_object_get_ex(function, "name", &name) &&
              json_object_is_type(name, json_type_string);
    FAIL_IF(!ok, err, SLUICE_ERR_FORMAT,
            "tool_calls[%zu]: expected a function with a \"name\", found %.60s", i,
            json_object_to_json_string(call));
    json_object_object_get_ex(function, "arguments", &arguments);
    struct json_object *object = arguments;
    if (json_object_is_type(arguments, json_type_string) &&
        json_text_parse(json_object_get_string(arguments),
                        (size_t)json_object_get_string_len(arguments), &parsed, NULL) == SLUICE_OK)
        object = parsed;
    buf_add_str(b, "<" DSML "invoke name=\"");
    size_t from = b->len;
    buf_add_str(b, json_object_get_string(name));
    mark(b, foreign, from);
    buf_add_str(b, "\">\n");
    if (json_object_is_type(object, json_type_object))
        render_arguments(b, object, foreign);
    else if (arguments)
        render_parameter(b, "arguments", arguments, foreign);
    buf_add_str(b, "\n</" DSML "invoke>");
    json_object_put(parsed);
    return SLUICE_OK;
}

enum sluice_status toolcall_render_marked(struct buf *b, struct json_object *calls,
                                          struct buf *foreign, struct sluice_error *err)
{
    FAIL_IF(!json_object_is_type(calls, json_type_array), err, SLUICE_ERR_FORMAT,
            "tool_calls: expected an array, found %.60s", json_object_to_json_string(calls));
    buf_add_str(b, "\n\n<" DSML "tool_calls>\n");
    for (size_t i = 0; i < json_object_array_length(calls); i++) {
        if (i)
            buf_add_char(b, '\n');
        TRY(render_call(b, json_object_array_get_idx(calls, i), i, foreign, err));
    }
    buf_add_str(b, "\n</" DSML "tool_calls>");
    return SLUICE_OK;
}

enum sluice_status toolcall_render(struct buf *b, struct json_object *calls,
                                   struct sluice_error *err)
{
    return toolcall_render_marked(b, calls, NULL, err);
}
