/* text/grammar_calls.c - blocks of calls (text/toolcall.h) as rules: each of an offered tool, with
 * arguments after its schema.
 *
 * A parameter whose schema is a string's is written as it is (string="true"), any other as JSON.
 * Parameters come in the order of the schema. A tool without properties that is not closed takes
 * any; where there are properties, only those. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "text/grammar_build.h"

struct calls {
    struct gb *b;
    struct schema *s; /* of the present tool */
    int32_t anything; /* rule: a parameter of any name; or -1 */
};

/* A tag: "<" or "</", the mark, and what follows it. */
static void add_tag(struct gb *b, int32_t list, const char *open, const char *rest)
{
    gb_add_text(b, list, open);
    gb_add(b, list, gb_symbol(b, GRAMMAR_DSML));
    gb_add_text(b, list, rest);
}

/* ---- values of parameters ---- */

/* value is written raw or as JSON, and says which. */
static int32_t as(struct gb *b, enum schema_quote quote, int32_t value)
{
    int32_t list = gb_list(b, GB_SEQUENCE);
    gb_add_text(b, list, quote == SCHEMA_RAW ? " string=\"true\">" : " string=\"false\">");
    gb_add(b, list, value);
    return list;
}

/* Listed values: strings raw, others as JSON. */
static int32_t listed(struct calls *c, struct json_object *values, bool constant)
{
    struct gb *b = c->b;
    int32_t list = gb_list(b, GB_CHOICE);
    size_t n = constant ? 1 : json_object_array_length(values);
    for (size_t i = 0; i < n; i++) {
        struct json_object *one = constant ? values : json_object_array_get_idx(values, i), *only;
        if (json_object_is_type(one, json_type_string)) {
            const char *text = json_object_get_string(one);
            if (strstr(text, "</"))
                schema_refuse(c->s, "enum",
                              "has a text with \"</\", which a parameter cannot hold");
            gb_add(b, list, as(b, SCHEMA_RAW, gb_literal(b, str_of(text))));
            continue;
        }
        only = json_object_new_object();
        json_object_object_add(only, "const", json_object_get(one));
        gb_add(b, list, as(b, SCHEMA_JSON, schema_value(c->s, only)));
        json_object_put(only);
    }
    return list;
}

static int32_t value(struct calls *c, struct json_object *schema);

static int32_t branches(struct calls *c, const char *key, struct json_object *list)
{
    int32_t made = gb_list(c->b, GB_CHOICE);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        size_t path = c->s->path.len;
        if (schema_enter(c->s, ".%s[%zu]", key, i))
            gb_add(c->b, made, value(c, json_object_array_get_idx(list, i)));
        schema_leave(c->s, path);
    }
    return made;
}

/* Does the schema demand nothing beside key and notes for people? */
static bool alone(struct json_object *schema, const char *key)
{
    static const char *const notes[] = {"title", "description", "default", "examples"};
    json_object_object_foreach(schema, other, unused)
    {
        (void)unused;
        bool note = strcmp(other, key) == 0;
        for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
            note |= strcmp(other, notes[i]) == 0;
        if (!note)
            return false;
    }
    return true;
}

/* One of the schema's types, by itself. */
static int32_t typed(struct calls *c, struct json_object *schema, struct json_object *type)
{
    if (strcmp(json_object_get_string(type), "string") == 0)
        return as(c->b, SCHEMA_RAW, schema_text(c->s, schema, SCHEMA_RAW));
    struct json_object *own = json_object_new_object();
    json_object_object_foreach(schema, key, member)
        json_object_object_add(own, key, json_object_get(member));
    json_object_object_add(own, "type", json_object_get(type));
    int32_t made = as(c->b, SCHEMA_JSON, schema_value(c->s, own));
    json_object_array_add(c->s->made, own); /* references may have it */
    return made;
}

static int32_t value(struct calls *c, struct json_object *schema)
{
    struct gb *b = c->b;
    if (json_object_is_type(schema, json_type_object))
        schema = schema_resolve(c->s, schema);
    if (b->status != SLUICE_OK)
        return 0;
    if (!json_object_is_type(schema, json_type_object))
        return as(b, SCHEMA_JSON, schema_value(c->s, schema));
    schema_check(c->s, schema);
    struct json_object *type = schema_get(schema, "type"), *list = schema_get(schema, "enum"),
                       *any = schema_get(schema, "anyOf"), *one = schema_get(schema, "oneOf");
    struct json_object *constant = schema_get(schema, "const");
    if (constant && json_object_is_type(constant, json_type_string))
        return listed(c, constant, /*constant=*/true);
    if (json_object_is_type(list, json_type_array) && json_object_array_length(list) > 0 &&
        !constant)
        return listed(c, list, /*constant=*/false);
    if (json_object_is_type(any, json_type_array) && alone(schema, "anyOf"))
        return branches(c, "anyOf", any);
    if (json_object_is_type(one, json_type_array) && alone(schema, "oneOf"))
        return branches(c, "oneOf", one);
    if (constant || list || any || one)
        return as(b, SCHEMA_JSON, schema_value(c->s, schema));
    if (json_object_is_type(type, json_type_array)) {
        int32_t made = gb_list(b, GB_CHOICE);
        for (size_t i = 0; i < json_object_array_length(type); i++) {
            struct json_object *name = json_object_array_get_idx(type, i);
            if (json_object_is_type(name, json_type_string))
                gb_add(b, made, typed(c, schema, name));
        }
        return json_object_array_length(type) ? made
                                              : schema_refuse(c->s, "type", "leaves no value");
    }
    if (json_object_is_type(type, json_type_string))
        return typed(c, schema, type);
    if (!alone(schema, ""))
        return as(b, SCHEMA_JSON, schema_value(c->s, schema));
    int32_t made = gb_list(b, GB_CHOICE);
    gb_add(b, made, as(b, SCHEMA_RAW, schema_text(c->s, NULL, SCHEMA_RAW)));
    gb_add(b, made, as(b, SCHEMA_JSON, schema_any(c->s)));
    return made;
}

/* ---- parameters ---- */

static int32_t parameter(struct calls *c, const char *name, struct json_object *schema)
{
    struct gb *b = c->b;
    int32_t list = gb_list(b, GB_SEQUENCE);
    size_t path = c->s->path.len;
    if (strpbrk(name, "\"<>") || !*name || strlen(name) > LIMIT_CALL_NAME)
        schema_refuse(c->s, "properties", "has a name that a parameter cannot have");
    add_tag(b, list, "<", "parameter name=\"");
    gb_add_text(b, list, name);
    gb_add_text(b, list, "\"");
    if (schema_enter(c->s, ".properties.%s", name))
        gb_add(b, list, value(c, schema));
    schema_leave(c->s, path);
    add_tag(b, list, "</", "parameter>");
    return list;
}

/* Any number of parameters of any name. */
static int32_t any_parameters(struct calls *c)
{
    static const struct gb_range name[] = {
        {'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}, {'-', '-'}};
    struct gb *b = c->b;
    if (c->anything < 0) {
        int32_t list = gb_list(b, GB_SEQUENCE), both = gb_list(b, GB_CHOICE);
        c->anything = gb_rule(b, "parameter");
        add_tag(b, list, "<", "parameter name=\"");
        gb_add(b, list, gb_repeat(b, gb_class(b, name, 5, false), 1, 64));
        gb_add_text(b, list, "\"");
        gb_add(b, both, as(b, SCHEMA_RAW, schema_text(c->s, NULL, SCHEMA_RAW)));
        gb_add(b, both, as(b, SCHEMA_JSON, schema_any(c->s)));
        gb_add(b, list, both);
        add_tag(b, list, "</", "parameter>");
        gb_define(b, c->anything, list);
    }
    int32_t all = gb_list(b, GB_SEQUENCE), more = gb_list(b, GB_SEQUENCE);
    gb_add(b, all, gb_ref(b, c->anything));
    gb_add_text(b, more, "\n");
    gb_add(b, more, gb_ref(b, c->anything));
    gb_add(b, all, gb_repeat(b, more, 0, 15));
    return gb_repeat(b, all, 0, 1);
}

static bool is_required(struct json_object *required, const char *name)
{
    for (size_t i = 0; required && i < json_object_array_length(required); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(required, i));
        if (text && strcmp(text, name) == 0)
            return true;
    }
    return false;
}

/* The declared ones, from the last to the first: after[0] when none stands before, after[1] when
 * one does. Returns the rule of all. */
static int32_t declared(struct calls *c, struct json_object *properties,
                        struct json_object *required)
{
    struct gb *b = c->b;
    int32_t after[2], now[2];
    for (int i = 0; i < 2; i++) {
        after[i] = gb_rule(b, "parameters");
        gb_define(b, after[i], gb_list(b, GB_SEQUENCE));
    }
    int n = json_object_object_length(properties), at = 0;
    const char **names = calloc((size_t)n + 1, sizeof *names);
    if (!names)
        return gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a schema");
    json_object_object_foreach(properties, key, unused)
    {
        (void)unused;
        names[at++] = key;
    }
    while (at-- > 0 && b->status == SLUICE_OK) {
        int32_t rule = gb_rule(b, names[at]);
        gb_define(b, rule, parameter(c, names[at], schema_get(properties, names[at])));
        for (int begun = 0; begun < 2; begun++) {
            int32_t list = gb_list(b, GB_CHOICE), with = gb_list(b, GB_SEQUENCE);
            gb_add_text(b, with, begun ? "\n" : "");
            gb_add(b, with, gb_ref(b, rule));
            gb_add(b, with, gb_ref(b, after[1]));
            gb_add(b, list, with);
            if (!is_required(required, names[at]))
                gb_add(b, list, gb_ref(b, after[begun]));
            now[begun] = gb_rule(b, "parameters");
            gb_define(b, now[begun], list);
        }
        memcpy(after, now, sizeof after);
    }
    free(names);
    return after[0];
}

/* A node. schema: NULL for none. */
static int32_t parameters(struct calls *c, struct json_object *schema)
{
    struct gb *b = c->b;
    if (!schema)
        return gb_list(b, GB_SEQUENCE);
    if (!json_object_is_type(schema, json_type_object))
        return schema_refuse(c->s, "parameters", "must be a schema object");
    schema = schema_resolve(c->s, schema);
    if (!schema)
        return 0;
    schema_check(c->s, schema);
    static const char *const refused[] = {"anyOf", "oneOf",         "enum",
                                          "const", "minProperties", "maxProperties"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (schema_get(schema, refused[i]))
            return schema_refuse(c->s, refused[i], "is not supported for a tool's parameters");
    struct json_object *type = schema_get(schema, "type"),
                       *properties = schema_get(schema, "properties"),
                       *required = schema_get(schema, "required"),
                       *extra = schema_get(schema, "additionalProperties");
    if (type && (!json_object_is_type(type, json_type_string) ||
                 strcmp(json_object_get_string(type), "object") != 0))
        return schema_refuse(c->s, "type", "must be object for a tool's parameters");
    if ((properties && !json_object_is_type(properties, json_type_object)) ||
        (required && !json_object_is_type(required, json_type_array)))
        return schema_refuse(c->s, "properties", "has not the form of the standard");
    for (size_t i = 0; required && i < json_object_array_length(required); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(required, i));
        if (!name || !properties || !json_object_object_get_ex(properties, name, NULL))
            return schema_refuse(c->s, "required", "names what is no property");
    }
    if (properties)
        return gb_ref(b, declared(c, properties, required));
    bool closed = json_object_is_type(extra, json_type_boolean) && !json_object_get_boolean(extra);
    return closed ? gb_list(b, GB_SEQUENCE) : any_parameters(c);
}

/* ---- calls ---- */

/* A rule: a call of the tool. any: with whatever arguments. */
static int32_t call(struct gb *b, struct json_object *function, bool any, int32_t *anything)
{
    const char *name = json_object_get_string(schema_get(function, "name"));
    struct json_object *schema = schema_get(function, "parameters");
    char path[300];
    struct schema s;
    snprintf(path, sizeof path, "tool %.200s: parameters", name ? name : "?");
    schema_init(&s, b, schema, path);
    struct calls c = {.b = b, .s = &s, .anything = *anything};
    int32_t rule = gb_rule(b, "call"), list = gb_list(b, GB_SEQUENCE);
    if (!name || strpbrk(name, "\"<>"))
        gb_fail(b, SLUICE_ERR_ARG, "tools: expected a function with a name");
    add_tag(b, list, "<", "invoke name=\"");
    gb_add_text(b, list, name ? name : "");
    gb_add_text(b, list, "\">\n");
    gb_add(b, list, any ? any_parameters(&c) : parameters(&c, schema));
    add_tag(b, list, "\n</", "invoke>");
    gb_define(b, rule, list);
    *anything = c.anything;
    schema_deinit(&s);
    return rule;
}

/* Can the tool's schema be followed? */
static bool can_follow(struct json_object *function)
{
    struct gb b;
    struct program p;
    int32_t anything = -1;
    gb_init(&b, NULL);
    int32_t root = call(&b, function, /*any=*/false, &anything);
    bool ok = gb_finish(&b, root, &p) == SLUICE_OK;
    program_deinit(&p);
    gb_deinit(&b);
    return ok;
}

int32_t gb_calls(struct gb *b, const struct grammar_ask *ask)
{
    int32_t one = gb_rule(b, "any call"), choice = gb_list(b, GB_CHOICE), anything = -1;
    bool found = false;
    for (size_t i = 0; i < json_object_array_length(ask->tools); i++) {
        struct json_object *tool = json_object_array_get_idx(ask->tools, i);
        struct json_object *function = schema_get(tool, "function");
        const char *name = json_object_get_string(schema_get(function, "name"));
        if (!name || (ask->tool && strcmp(name, ask->tool) != 0))
            continue;
        found = true;
        bool any = ask->loose && !can_follow(function);
        gb_add(b, choice, gb_ref(b, call(b, function, any, &anything)));
    }
    if (!found)
        return gb_fail(b, SLUICE_ERR_ARG, "tools: expected a tool to call%s%.60s",
                       ask->tool ? " named " : "", ask->tool ? ask->tool : "");
    gb_define(b, one, choice);
    int32_t block = gb_rule(b, "calls"), list = gb_list(b, GB_SEQUENCE),
            more = gb_list(b, GB_SEQUENCE);
    add_tag(b, list, "\n\n<", "tool_calls>\n");
    gb_add(b, list, gb_ref(b, one));
    gb_add_text(b, more, "\n");
    gb_add(b, more, gb_ref(b, one));
    if (!ask->one_call)
        gb_add(b, list, gb_repeat(b, more, 0, LIMIT_CALLS - 1));
    add_tag(b, list, "\n</", "tool_calls>");
    gb_define(b, block, list);
    return block;
}
