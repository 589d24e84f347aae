/* server/ask.c - see ask.h. */
#include "server/ask.h"

#include <ctype.h>
#include <strings.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json_text.h"

struct ask *ask_new(const struct ask_defaults *d)
{
    struct ask *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    *a = (struct ask){
        .call_prefix = "call_",
        .effort = d->effort,
        .preview = d->preview,
        .keep_reasoning = d->keep_reasoning,
        .trust_text = d->trust_text,
        .n = 1,
        .sampling = {.temperature = d->temperature,
                     .top_p = d->top_p,
                     .min_p = d->min_p,
                     .top_k = d->top_k,
                     .logprobs = -1},
    };
    return a;
}

void ask_free(struct ask *a)
{
    if (!a)
        return;
    free(a->model);
    free(a->tool_name);
    free((void *)a->sampling.bias);
    for (int i = 0; i < a->n_stop; i++)
        free(a->stop[i]);
    json_object_put(a->messages);
    json_object_put(a->tools);
    json_object_put(a->names);
    json_object_put(a->format);
    json_object_put(a->schema);
    free(a->gbnf);
    json_object_put(a->prompts);
    json_object_put(a->texts);
    json_object_put(a->echoed);
    json_object_put(a->items);
    free(a);
}

bool ask_thinks(const struct ask *a)
{
    return a->messages && a->effort != SLUICE_EFFORT_NONE && !a->past_thinking;
}

int ask_prompts(const struct ask *a)
{
    return a->prompts ? (int)json_object_array_length(a->prompts) : 1;
}

/* ---- members ---- */

static enum sluice_status copy_text(char **to, const char *text, struct sluice_error *err)
{
    free(*to);
    *to = strdup(text);
    FAIL_IF(!*to, err, SLUICE_ERR_NOMEM, "out of memory for a request");
    return SLUICE_OK;
}

enum sluice_status ask_read_common(struct ask *a, struct json_object *body,
                                   struct sluice_error *err)
{
    struct sluice_sampling *s = &a->sampling;
    const char *model = NULL;
    int64_t top_k = s->top_k, seed = 0;
    TRY(field_string(body, "model", &model, err));
    if (model)
        TRY(copy_text(&a->model, model, err));
    TRY(field_bool(body, "stream", &a->stream, err));
    TRY(field_real(body, "temperature", (struct range){0, 2}, &s->temperature, err));
    TRY(field_real(body, "top_p", (struct range){0, 1}, &s->top_p, err));
    TRY(field_real(body, "min_p", (struct range){0, 1}, &s->min_p, err));
    TRY(field_int(body, "top_k", (struct range){-1, INT32_MAX}, &top_k, err));
    s->top_k = top_k < 0 ? 0 : (int32_t)top_k;
    struct range penalty = {-2, 2}, repetition = {0, 100};
    TRY(field_real(body, "presence_penalty", penalty, &s->presence_penalty, err));
    TRY(field_real(body, "frequency_penalty", penalty, &s->frequency_penalty, err));
    TRY(field_real(body, "repeat_penalty", repetition, &s->repetition_penalty, err));
    TRY(field_real(body, "repetition_penalty", repetition, &s->repetition_penalty, err));
    if (field(body, "seed")) {
        TRY(field_int(body, "seed", (struct range){-9.3e18, 1.9e19}, &seed, err));
        s->seed = (uint64_t)seed;
        a->seeded = true;
    }
    return SLUICE_OK;
}

enum sluice_status ask_read_max_tokens(struct ask *a, struct json_object *body,
                                       const char *const *names, struct sluice_error *err)
{
    for (; *names; names++) {
        if (!field(body, *names))
            continue;
        /* -1 is some clients' "no limit". */
        TRY(field_int(body, *names, (struct range){-1, 1e15}, &a->max_tokens, err));
        FAIL_IF(a->max_tokens == 0, err, SLUICE_ERR_ARG, "%s: expected at least 1, found 0",
                *names);
        a->max_tokens = a->max_tokens < 0 ? 0 : a->max_tokens;
        return SLUICE_OK;
    }
    return SLUICE_OK;
}

static enum sluice_status add_stop(struct ask *a, struct json_object *value, const char *key,
                                   struct sluice_error *err)
{
    struct str text = json_str(value);
    FAIL_IF(!json_object_is_type(value, json_type_string), err, SLUICE_ERR_ARG,
            "%s: expected a string or an array of strings, found %.60s", key,
            json_object_to_json_string(value));
    FAIL_IF(text.len == 0 || strlen(text.at) != text.len, err, SLUICE_ERR_ARG,
            "%s: expected texts that are not empty and have no NUL", key);
    FAIL_IF(a->n_stop == LIMIT_ASK_STOPS, err, SLUICE_ERR_ARG, "%s: expected at most %d texts", key,
            LIMIT_ASK_STOPS);
    a->stop[a->n_stop] = NULL;
    TRY(copy_text(&a->stop[a->n_stop], text.at, err));
    a->n_stop++;
    return SLUICE_OK;
}

enum sluice_status ask_read_stop(struct ask *a, struct json_object *body, const char *key,
                                 struct sluice_error *err)
{
    struct json_object *value = field(body, key);
    if (!value)
        return SLUICE_OK;
    if (!json_object_is_type(value, json_type_array))
        return add_stop(a, value, key, err);
    for (size_t i = 0; i < json_object_array_length(value); i++)
        TRY(add_stop(a, json_object_array_get_idx(value, i), key, err));
    return SLUICE_OK;
}

enum sluice_status ask_read_bias(struct ask *a, struct json_object *body, struct sluice_error *err)
{
    struct json_object *value = NULL;
    TRY(field_typed(body, "logit_bias", json_type_object, &value, err));
    int n = value ? json_object_object_length(value) : 0;
    if (n == 0)
        return SLUICE_OK;
    FAIL_IF(n > LIMIT_ASK_BIASES, err, SLUICE_ERR_ARG, "logit_bias: expected at most %d, found %d",
            LIMIT_ASK_BIASES, n);
    struct sluice_bias *bias = calloc((size_t)n, sizeof *bias);
    FAIL_IF(!bias, err, SLUICE_ERR_NOMEM, "out of memory for %d biases", n);
    a->sampling.bias = bias;
    json_object_object_foreach(value, key, add)
    {
        char *end;
        long id = strtol(key, &end, 10);
        bool number =
            json_object_is_type(add, json_type_int) || json_object_is_type(add, json_type_double);
        double by = json_object_get_double(add);
        FAIL_IF(!isdigit((unsigned char)key[0]) || *end || id > INT32_MAX || !number ||
                    !(fabs(by) <= 100),
                err, SLUICE_ERR_ARG, "logit_bias: expected {token id: -100 to 100}, found %.40s",
                key);
        /* -100 bans and 100 demands: so the API's own description. */
        bias[a->sampling.n_bias++] =
            (struct sluice_bias){(int32_t)id, by <= -100 ? -INFINITY : (float)by};
    }
    return SLUICE_OK;
}

/* ---- thinking ---- */

static bool effort_of_word(const char *word, enum sluice_effort *out)
{
    static const struct {
        const char *word;
        enum sluice_effort effort;
    } words[] = {
        {"none", SLUICE_EFFORT_NONE},       {"off", SLUICE_EFFORT_NONE},
        {"disabled", SLUICE_EFFORT_NONE},   {"minimal", SLUICE_EFFORT_DEFAULT},
        {"low", SLUICE_EFFORT_DEFAULT},     {"medium", SLUICE_EFFORT_DEFAULT},
        {"default", SLUICE_EFFORT_DEFAULT}, {"auto", SLUICE_EFFORT_DEFAULT},
        {"on", SLUICE_EFFORT_DEFAULT},      {"enabled", SLUICE_EFFORT_DEFAULT},
        {"high", SLUICE_EFFORT_HIGH},       {"xhigh", SLUICE_EFFORT_MAX},
        {"max", SLUICE_EFFORT_MAX},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(words[i].word, word) == 0) {
            *out = words[i].effort;
            return true;
        }
    }
    return false;
}

static void effort_of_number(struct ask *a, int64_t n)
{
    a->effort = n == 0    ? SLUICE_EFFORT_NONE
                : n <= 50 ? SLUICE_EFFORT_DEFAULT
                : n <= 90 ? SLUICE_EFFORT_HIGH
                          : SLUICE_EFFORT_MAX;
    if (n > 100) {
        a->effort = SLUICE_EFFORT_DEFAULT;
        a->think_budget = n;
    }
}

enum sluice_status ask_effort(struct ask *a, struct json_object *value, const char *key,
                              struct sluice_error *err)
{
    if (!value)
        return SLUICE_OK;
    const char *text = json_object_get_string(value);
    bool string = json_object_is_type(value, json_type_string);
    if (string && effort_of_word(text, &a->effort))
        return SLUICE_OK;
    char *end;
    long long n = strtoll(text, &end, 10);
    bool number = (string || json_object_is_type(value, json_type_int)) && *text && !*end;
    FAIL_IF(!number || n < 0, err, SLUICE_ERR_ARG,
            "%s: expected none, minimal, low, medium, high, xhigh, max or a number, found %.40s",
            key, json_object_to_json_string(value));
    effort_of_number(a, n);
    return SLUICE_OK;
}

enum sluice_status ask_thinking(struct ask *a, struct json_object *value, struct sluice_error *err)
{
    if (!value)
        return SLUICE_OK;
    FAIL_IF(!json_object_is_type(value, json_type_object), err, SLUICE_ERR_ARG,
            "thinking: expected an object, found %.60s", json_object_to_json_string(value));
    const char *type = field_text(value, "type");
    bool off = type && strcmp(type, "disabled") == 0;
    bool on = type && (strcmp(type, "enabled") == 0 || strcmp(type, "adaptive") == 0);
    FAIL_IF(type && !off && !on, err, SLUICE_ERR_ARG,
            "thinking: expected the type enabled, disabled or adaptive, found %.40s", type);
    if (off) {
        a->effort = SLUICE_EFFORT_NONE;
        return SLUICE_OK;
    }
    if (a->effort == SLUICE_EFFORT_NONE)
        a->effort = SLUICE_EFFORT_DEFAULT;
    TRY(field_int(value, "budget_tokens", (struct range){0, 1e12}, &a->think_budget, err));
    const char *display = field_text(value, "display");
    a->hide_thinking = display && strcmp(display, "omitted") == 0;
    return SLUICE_OK;
}

void ask_settle(struct ask *a)
{
    if (a->effort == SLUICE_EFFORT_NONE)
        a->think_budget = 0;
    /* A quarter of what may be said, up to a page, is for the answer. */
    int64_t answer = a->max_tokens / 4 < 1024 ? a->max_tokens / 4 : 1024;
    if (a->think_budget && a->max_tokens && a->think_budget > a->max_tokens - answer)
        a->think_budget = a->max_tokens - answer > 0 ? a->max_tokens - answer : 1;
    if (!a->tools)
        a->choice = ASK_AUTO;
}

/* ---- the format of the reply ---- */

enum sluice_status ask_read_format(struct ask *a, struct json_object *format, const char *key,
                                   struct sluice_error *err)
{
    if (!format)
        return SLUICE_OK;
    const char *type = field_text(format, "type");
    FAIL_IF(!type, err, SLUICE_ERR_ARG, "%s: expected an object with a type, found %.60s", key,
            json_object_to_json_string(format));
    if (strcmp(type, "text") == 0)
        return SLUICE_OK;
    if (strcmp(type, "json_object") == 0) {
        a->format = json_object_new_object();
        FAIL_IF(!a->format, err, SLUICE_ERR_NOMEM, "out of memory for a request");
        json_object_object_add(a->format, "type", json_object_new_string("object"));
        return ask_hold(a, a->format, key, err);
    }
    FAIL_IF(strcmp(type, "json_schema") != 0, err, SLUICE_ERR_ARG,
            "%s: expected the type text, json_object or json_schema, found %.40s", key, type);
    struct json_object *inner = field(format, "json_schema");
    struct json_object *schema = field(inner ? inner : format, "schema");
    FAIL_IF(!json_object_is_type(schema, json_type_object), err, SLUICE_ERR_ARG,
            "%s: expected a schema object, found %.60s", key, json_object_to_json_string(schema));
    a->format = json_object_get(schema);
    return ask_hold(a, schema, key, err);
}

/* ---- other ways to the same ---- */

enum sluice_status ask_hold(struct ask *a, struct json_object *schema, const char *key,
                            struct sluice_error *err)
{
    FAIL_IF(!json_object_is_type(schema, json_type_object), err, SLUICE_ERR_ARG,
            "%s: expected a schema object, found %.60s", key, json_object_to_json_string(schema));
    FAIL_IF(a->held_by, err, SLUICE_ERR_ARG, "%s: %s says already what the answer must be", key,
            a->held_by);
    a->schema = json_object_get(schema);
    a->held_by = key;
    return SLUICE_OK;
}

static enum sluice_status hold_gbnf(struct ask *a, struct json_object *text, const char *key,
                                    struct sluice_error *err)
{
    FAIL_IF(!json_object_is_type(text, json_type_string), err, SLUICE_ERR_ARG,
            "%s: expected a string, found %.60s", key, json_object_to_json_string(text));
    FAIL_IF(a->held_by, err, SLUICE_ERR_ARG, "%s: %s says already what the answer must be", key,
            a->held_by);
    a->held_by = key;
    return copy_text(&a->gbnf, json_object_get_string(text), err);
}

/* One of some texts, as a GBNF. */
static enum sluice_status hold_choice(struct ask *a, struct json_object *list, const char *key,
                                      struct sluice_error *err)
{
    struct buf out;
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    FAIL_IF(n == 0, err, SLUICE_ERR_ARG, "%s: expected an array of strings, found %.60s", key,
            json_object_to_json_string(list));
    buf_init(&out, 0);
    buf_add_str(&out, "root ::= ");
    bool strings = true;
    for (size_t i = 0; i < n; i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        struct str text = json_str(one);
        strings &= json_object_is_type(one, json_type_string);
        buf_add_str(&out, i ? " | \"" : "\"");
        for (size_t k = 0; k < text.len; k++) {
            unsigned char c = (unsigned char)text.at[k];
            if (c < 0x20 || c == '"' || c == '\\')
                buf_addf(&out, "\\x%02x", c);
            else
                buf_add_char(&out, (char)c);
        }
        buf_add_str(&out, "\"");
    }
    struct json_object *gbnf = json_of((struct str){out.data ? out.data : "", out.len});
    enum sluice_status st = buf_status(&out, err);
    if (st == SLUICE_OK && !strings)
        st = status_fail(err, SLUICE_ERR_ARG, -1, "%s: expected an array of strings", key);
    if (st == SLUICE_OK)
        st = hold_gbnf(a, gbnf, key, err);
    json_object_put(gbnf);
    buf_deinit(&out);
    return st;
}

/* A schema as an object, or as the text of one. */
static enum sluice_status hold_json(struct ask *a, struct json_object *value, const char *key,
                                    struct sluice_error *err)
{
    struct json_object *parsed = NULL;
    if (!json_object_is_type(value, json_type_string))
        return ask_hold(a, value, key, err);
    struct str text = json_str(value);
    enum sluice_status st = json_text_parse(text.at, text.len, &parsed, err);
    if (st != SLUICE_OK)
        status_prefix(err, "%s: ", key);
    else
        st = ask_hold(a, parsed, key, err);
    json_object_put(parsed);
    return st;
}

enum sluice_status ask_read_held(struct ask *a, struct json_object *body, struct sluice_error *err)
{
    typedef enum sluice_status hold(struct ask *, struct json_object *, const char *,
                                    struct sluice_error *);
    static const struct {
        const char *key;
        hold *read;
    } rows[] = {{"grammar", hold_gbnf},        {"json_schema", hold_json},
                {"guided_json", hold_json},    {"guided_grammar", hold_gbnf},
                {"guided_choice", hold_choice}},
      inner[] = {{"json", hold_json}, {"grammar", hold_gbnf}, {"choice", hold_choice}};
    struct json_object *structured = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (field(body, rows[i].key))
            TRY(rows[i].read(a, field(body, rows[i].key), rows[i].key, err));
    TRY(field_typed(body, "structured_outputs", json_type_object, &structured, err));
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
        if (field(structured, inner[i].key))
            TRY(inner[i].read(a, field(structured, inner[i].key), "structured_outputs", err));
    static const char *const refused[] = {"guided_regex", "guided_whitespace_pattern"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        FAIL_IF(field(body, refused[i]), err, SLUICE_ERR_ARG,
                "%s: not supported; a string's pattern in a schema is", refused[i]);
    FAIL_IF(field(structured, "regex") || field(structured, "structural_tag"), err, SLUICE_ERR_ARG,
            "structured_outputs: expected json, grammar or choice");
    return SLUICE_OK;
}

/* ---- tools ---- */

enum sluice_status ask_add_tool(struct ask *a, struct json_object *function,
                                struct sluice_error *err)
{
    const char *name = field_text(function, "name");
    bool good = name && *name && strlen(name) <= LIMIT_ASK_TOOL_NAME;
    for (const char *c = name; good && *c; c++)
        good = isalnum((unsigned char)*c) || strchr("_-.:/", *c);
    if (!a->tools)
        a->tools = json_object_new_array();
    struct json_object *tool = json_object_new_object();
    bool room = a->tools && tool && json_object_array_length(a->tools) < LIMIT_ASK_TOOLS;
    if (!good || !room) {
        enum sluice_status st =
            good ? status_fail(err, SLUICE_ERR_ARG, -1, "tools: expected at most %d",
                               LIMIT_ASK_TOOLS)
                 : status_fail(err, SLUICE_ERR_ARG, -1,
                               "tools: expected names of letters, digits, _ - . : /, at most %d, "
                               "found %.60s",
                               LIMIT_ASK_TOOL_NAME, name ? name : "none");
        json_object_put(function);
        json_object_put(tool);
        return st;
    }
    json_object_object_add(tool, "type", json_object_new_string("function"));
    json_object_object_add(tool, "function", function);
    json_object_array_add(a->tools, tool);
    return SLUICE_OK;
}

enum sluice_status ask_force(struct ask *a, const char *name, struct sluice_error *err)
{
    size_t n = a->tools ? json_object_array_length(a->tools) : 0;
    bool known = !name && n > 0;
    for (size_t i = 0; name && i < n; i++) {
        struct json_object *tool = json_object_array_get_idx(a->tools, i);
        known |= strcmp(field_text(field(tool, "function"), "name"), name) == 0;
    }
    FAIL_IF(!known, err, SLUICE_ERR_ARG, "tool_choice: expected one of the tools, found %.60s",
            name ? name : "no tools");
    a->choice = ASK_CALL;
    /* Any of one is that one. */
    if (!name && n == 1)
        name = field_text(field(json_object_array_get_idx(a->tools, 0), "function"), "name");
    if (name)
        TRY(copy_text(&a->tool_name, name, err));
    return SLUICE_OK;
}

const char *ask_client_name(const struct ask *a, const char *name, const char **space)
{
    struct json_object *entry = field(a->names, name);
    *space = field_text(entry, "namespace");
    const char *theirs = field_text(entry, "name");
    return theirs ? theirs : name;
}
