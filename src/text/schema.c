/* text/schema.c - a JSON schema to rules: the values that follow it, as the model writes JSON.
 *
 * The rules are narrower than the schema where a choice must be made, never wider: properties come
 * in the schema's order; where properties are named, others come only if additionalProperties says
 * so; a list after prefixItems goes on only if items says so; oneOf is read as anyOf. A keyword of
 * the standard that says something and cannot be followed is refused, by name and path. */
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "text/grammar_build.h"

struct schema_known {
    struct json_object *schema;
    int32_t rule;
};

void schema_init(struct schema *s, struct gb *b, struct json_object *root, const char *path)
{
    *s = (struct schema){.b = b,
                         .root = root,
                         .made = json_object_new_array(),
                         .any = -1,
                         .string = -1,
                         .space = -1,
                         .object = -1,
                         .array = -1,
                         .number = -1,
                         .raw = -1};
    buf_init(&s->path, 0);
    buf_add_str(&s->path, path);
    if (!s->made)
        gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a schema");
}

void schema_deinit(struct schema *s)
{
    buf_deinit(&s->path);
    json_object_put(s->made);
    free(s->known);
}

int32_t schema_refuse(struct schema *s, const char *keyword, const char *why)
{
    return gb_fail(s->b, SLUICE_ERR_ARG, "%.200s: \"%.60s\" %s", s->path.data, keyword, why);
}

bool schema_enter(struct schema *s, const char *fmt, ...)
{
    char part[80];
    va_list args;
    va_start(args, fmt);
    vsnprintf(part, sizeof part, fmt, args);
    va_end(args);
    buf_add_str(&s->path, part);
    if (++s->depth > LIMIT_GRAMMAR_NEST)
        gb_fail(s->b, SLUICE_ERR_LIMIT, "%.200s: schemas lie more than %d deep in each other",
                s->path.data, LIMIT_GRAMMAR_NEST);
    return s->b->status == SLUICE_OK;
}

void schema_leave(struct schema *s, size_t path)
{
    s->depth--;
    s->path.len = path;
    s->path.data[path] = 0;
}

/* ---- rules that every schema may need ---- */

static int32_t choice_of(struct gb *b, int32_t one, int32_t other)
{
    int32_t list = gb_list(b, GB_CHOICE);
    gb_add(b, list, one);
    gb_add(b, list, other);
    return list;
}

/* Nothing, a blank, or a line break and its indent: what JSON looks like, and no endless blanks. */
int32_t schema_space(struct schema *s)
{
    struct gb *b = s->b;
    if (s->space < 0) {
        static const struct gb_range blank[] = {{' ', ' '}, {'\t', '\t'}};
        s->space = gb_rule(b, "space");
        int32_t list = gb_list(b, GB_CHOICE), line = gb_list(b, GB_SEQUENCE);
        gb_add_text(b, list, "");
        gb_add_text(b, list, " ");
        gb_add_text(b, line, "\n");
        gb_add(b, line, gb_repeat(b, gb_class(b, blank, 2, false), 0, 40));
        gb_add(b, list, line);
        gb_define(b, s->space, list);
    }
    return gb_ref(b, s->space);
}

void schema_comma(struct schema *s, int32_t list)
{
    gb_add_text(s->b, list, ",");
    gb_add(s->b, list, schema_space(s));
}

static int32_t any_string(struct schema *s)
{
    if (s->string < 0) {
        s->string = gb_rule(s->b, "string");
        int32_t list = gb_list(s->b, GB_SEQUENCE);
        gb_add_text(s->b, list, "\"");
        gb_add(s->b, list, schema_text(s, NULL, SCHEMA_JSON));
        gb_add_text(s->b, list, "\"");
        gb_define(s->b, s->string, list);
    }
    return gb_ref(s->b, s->string);
}

/* open (space item (, space item)*)? space close */
static int32_t any_list(struct schema *s, const char *open, int32_t item, int32_t again,
                        const char *close)
{
    struct gb *b = s->b;
    int32_t list = gb_list(b, GB_SEQUENCE), inner = gb_list(b, GB_SEQUENCE),
            more = gb_list(b, GB_SEQUENCE);
    schema_comma(s, more);
    gb_add(b, more, again);
    gb_add(b, inner, item);
    gb_add(b, inner, gb_repeat(b, more, 0, GB_NO_LIMIT));
    gb_add(b, inner, schema_space(s));
    gb_add_text(b, list, open);
    gb_add(b, list, schema_space(s));
    gb_add(b, list, gb_repeat(b, inner, 0, 1));
    gb_add_text(b, list, close);
    return list;
}

static int32_t any_member(struct schema *s)
{
    int32_t list = gb_list(s->b, GB_SEQUENCE);
    gb_add(s->b, list, any_string(s));
    gb_add_text(s->b, list, ":");
    gb_add(s->b, list, schema_space(s));
    gb_add(s->b, list, schema_any(s));
    return list;
}

int32_t schema_any_object(struct schema *s)
{
    if (s->object < 0) {
        s->object = gb_rule(s->b, "object");
        gb_define(s->b, s->object, any_list(s, "{", any_member(s), any_member(s), "}"));
    }
    return gb_ref(s->b, s->object);
}

static int32_t any_array(struct schema *s)
{
    if (s->array < 0) {
        s->array = gb_rule(s->b, "array");
        gb_define(s->b, s->array, any_list(s, "[", schema_any(s), schema_any(s), "]"));
    }
    return gb_ref(s->b, s->array);
}

static int32_t any_number(struct schema *s)
{
    if (s->number < 0) {
        s->number = gb_rule(s->b, "number");
        gb_define(s->b, s->number, schema_number(s, NULL, false));
    }
    return gb_ref(s->b, s->number);
}

int32_t schema_any(struct schema *s)
{
    if (s->any < 0) {
        s->any = gb_rule(s->b, "value");
        int32_t list = gb_list(s->b, GB_CHOICE);
        gb_add(s->b, list, any_string(s));
        gb_add(s->b, list, any_number(s));
        gb_add(s->b, list, schema_any_object(s));
        gb_add(s->b, list, any_array(s));
        gb_add_text(s->b, list, "true");
        gb_add_text(s->b, list, "false");
        gb_add_text(s->b, list, "null");
        gb_define(s->b, s->any, list);
    }
    return gb_ref(s->b, s->any);
}

/* ---- values ---- */

static const char *const types[] = {"string", "integer", "number", "boolean",
                                    "null",   "object",  "array"};
enum { N_TYPES = sizeof types / sizeof *types };

static int32_t string(struct schema *s, struct json_object *schema)
{
    if (!schema_has(schema, "pattern") && !schema_has(schema, "format") &&
        !schema_has(schema, "minLength") && !schema_has(schema, "maxLength"))
        return any_string(s);
    int32_t list = gb_list(s->b, GB_SEQUENCE);
    gb_add_text(s->b, list, "\"");
    gb_add(s->b, list, schema_text(s, schema, SCHEMA_JSON));
    gb_add_text(s->b, list, "\"");
    return list;
}

static int32_t typed(struct schema *s, struct json_object *schema, const char *type)
{
    struct gb *b = s->b;
    if (strcmp(type, "string") == 0)
        return string(s, schema);
    if (strcmp(type, "integer") == 0 || strcmp(type, "number") == 0)
        return schema_number(s, schema, type[0] == 'i');
    if (strcmp(type, "boolean") == 0)
        return choice_of(b, gb_literal(b, STR_LIT("true")), gb_literal(b, STR_LIT("false")));
    if (strcmp(type, "null") == 0)
        return gb_literal(b, STR_LIT("null"));
    if (strcmp(type, "object") == 0)
        return schema_object(s, schema);
    if (strcmp(type, "array") == 0)
        return schema_array(s, schema);
    return schema_refuse(s, "type",
                         "must be one of string, integer, number, boolean, null, object "
                         "and array, or a list of them");
}

static bool is_of(struct json_object *value, const char *type)
{
    enum json_type t = json_object_get_type(value);
    switch (t) {
    case json_type_null:
        return strcmp(type, "null") == 0;
    case json_type_boolean:
        return strcmp(type, "boolean") == 0;
    case json_type_int:
        return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case json_type_double:
        return strcmp(type, "number") == 0;
    case json_type_string:
        return strcmp(type, "string") == 0;
    case json_type_array:
        return strcmp(type, "array") == 0;
    case json_type_object:
        return strcmp(type, "object") == 0;
    }
    return false;
}

static bool type_allows(struct json_object *type, struct json_object *value)
{
    if (!type)
        return true;
    if (!json_object_is_type(type, json_type_array))
        return is_of(value, json_object_get_string(type));
    for (size_t i = 0; i < json_object_array_length(type); i++)
        if (is_of(value, json_object_get_string(json_object_array_get_idx(type, i))))
            return true;
    return false;
}

/* Values that are listed, one of them. */
static int32_t listed(struct schema *s, struct json_object *schema, const char *key)
{
    struct gb *b = s->b;
    struct json_object *values = schema_get(schema, key), *one = NULL;
    bool constant = strcmp(key, "const") == 0;
    json_object_object_foreach(schema, other, unused)
    {
        (void)unused;
        if (!schema_is_note(other) && strcmp(other, key) != 0 && strcmp(other, "type") != 0)
            return schema_refuse(s, other, "beside enum or const is not supported");
    }
    if (!constant && !json_object_is_type(values, json_type_array))
        return schema_refuse(s, "enum", "must be a list");
    int32_t list = gb_list(b, GB_CHOICE);
    size_t n = constant ? 1 : json_object_array_length(values), kept = 0;
    for (size_t i = 0; i < n; i++) {
        one = constant ? values : json_object_array_get_idx(values, i);
        if (!type_allows(schema_get(schema, "type"), one))
            continue;
        struct buf text;
        buf_init(&text, 0);
        json_text_write(&text, one);
        gb_add(b, list, gb_literal(b, (struct str){text.data ? text.data : "", text.len}));
        buf_deinit(&text);
        kept++;
    }
    return kept ? list : schema_refuse(s, key, "leaves no value");
}

static int32_t branches(struct schema *s, struct json_object *schema, const char *key)
{
    struct json_object *list = schema_get(schema, key);
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) == 0)
        return schema_refuse(s, key, "must be a list of schemas");
    int32_t made = gb_list(s->b, GB_CHOICE);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        size_t path = s->path.len;
        struct json_object *branch = json_object_array_get_idx(list, i);
        if (schema_enter(s, ".%s[%zu]", key, i)) {
            if (schema_asserts(schema, key))
                branch = schema_resolve(s, branch);
            if (branch)
                branch = schema_together(s, schema, key, branch);
            if (branch)
                gb_add(s->b, made, schema_value(s, branch));
        }
        schema_leave(s, path);
    }
    return made;
}

/* The type that keywords speak of where none is named, or NULL. */
static const char *implied(struct json_object *schema)
{
    static const struct {
        const char *key;
        int type;
    } signs[] = {{"properties", 5},    {"required", 5},         {"additionalProperties", 5},
                 {"items", 6},         {"prefixItems", 6},      {"minItems", 6},
                 {"maxItems", 6},      {"pattern", 0},          {"minLength", 0},
                 {"maxLength", 0},     {"format", 0},           {"minimum", 2},
                 {"maximum", 2},       {"exclusiveMinimum", 2}, {"exclusiveMaximum", 2},
                 {"minProperties", 5}, {"maxProperties", 5}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (schema_has(schema, signs[i].key))
            return types[signs[i].type];
    return NULL;
}

static int32_t value_of(struct schema *s, struct json_object *schema)
{
    schema_check(s, schema);
    struct json_object *type = schema_get(schema, "type");
    if (schema_has(schema, "const"))
        return listed(s, schema, "const");
    if (schema_has(schema, "enum"))
        return listed(s, schema, "enum");
    if (schema_has(schema, "anyOf"))
        return branches(s, schema, "anyOf");
    if (schema_has(schema, "oneOf"))
        return branches(s, schema, "oneOf");
    if (json_object_is_type(type, json_type_string))
        return typed(s, schema, json_object_get_string(type));
    if (json_object_is_type(type, json_type_array) && json_object_array_length(type) > 0) {
        int32_t list = gb_list(s->b, GB_CHOICE);
        for (size_t i = 0; i < json_object_array_length(type); i++) {
            const char *name = json_object_get_string(json_object_array_get_idx(type, i));
            gb_add(s->b, list, typed(s, schema, name ? name : ""));
        }
        return list;
    }
    if (type)
        return typed(s, schema, "");
    const char *name = implied(schema);
    return name ? typed(s, schema, name) : schema_any(s);
}

int32_t schema_value(struct schema *s, struct json_object *schema)
{
    if (json_object_is_type(schema, json_type_boolean) && json_object_get_boolean(schema))
        return schema_any(s);
    if (!json_object_is_type(schema, json_type_object))
        return gb_fail(s->b, SLUICE_ERR_ARG, "%.200s: expected a schema, found %.60s", s->path.data,
                       json_object_to_json_string(schema));
    /* What is referred to has one rule, so that it may refer to itself. */
    struct json_object *target = schema;
    for (int i = 0;
         schema_has(target, "$ref") && !schema_asserts(target, "$ref") && i < LIMIT_GRAMMAR_NEST;
         i++) {
        target = schema_follow(s, schema_get(target, "$ref"));
        if (!json_object_is_type(target, json_type_object))
            return target ? schema_value(s, target) : 0;
    }
    if (target == schema) {
        schema = schema_resolve(s, schema);
        return schema ? value_of(s, schema) : 0;
    }
    for (int i = 0; i < s->n_known; i++)
        if (s->known[i].schema == target)
            return gb_ref(s->b, s->known[i].rule);
    if (s->n_known == s->room) {
        int room = s->room ? 2 * s->room : 16;
        void *p = realloc(s->known, (size_t)room * sizeof *s->known);
        if (!p)
            return gb_fail(s->b, SLUICE_ERR_NOMEM, "out of memory for a schema");
        s->known = p;
        s->room = room;
    }
    int32_t rule = gb_rule(s->b, "$ref");
    s->known[s->n_known++] = (struct schema_known){target, rule};
    target = schema_resolve(s, target);
    gb_define(s->b, rule, target ? value_of(s, target) : 0);
    return gb_ref(s->b, rule);
}
