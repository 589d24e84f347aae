/* tests/support/schema.h - JSON schemas for tests of grammars, apart from the product's reading of
 * them: does a value follow one, and a random value that does. What it does not know it does not
 * check: the schemas of tests are such that it knows all. In schemas' texts ' stands for ". */
#ifndef SLUICE_TESTS_SUPPORT_SCHEMA_H
#define SLUICE_TESTS_SUPPORT_SCHEMA_H

#include <json-c/json.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/json_text.h"
#include "base/rng.h"

/* In the text ' may stand for ". NULL if it is no JSON (or null). */
static inline struct json_object *schema_read(const char *text)
{
    struct json_object *value = NULL;
    char *copy = strdup(text);
    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_text_parse(copy, strlen(copy), &value, NULL);
    free(copy);
    return value;
}

static inline struct json_object *schema_member(struct json_object *schema, const char *key)
{
    return json_object_object_get(schema, key);
}

/* "#" or "#/$defs/NAME". */
static inline struct json_object *schema_target(struct json_object *root,
                                                struct json_object *schema)
{
    struct json_object *ref = schema_member(schema, "$ref");
    if (!ref)
        return schema;
    const char *text = json_object_get_string(ref);
    if (strcmp(text, "#") == 0)
        return root;
    return schema_member(schema_member(root, "$defs"), text + strlen("#/$defs/"));
}

static inline bool schema_type_is(const char *type, struct json_object *value)
{
    enum json_type t = json_object_get_type(value);
    if (strcmp(type, "number") == 0)
        return t == json_type_int || t == json_type_double;
    if (strcmp(type, "integer") == 0)
        return t == json_type_int;
    return strcmp(type, json_type_to_name(t)) == 0;
}

static inline double schema_bound(struct json_object *schema, const char *key, double none)
{
    struct json_object *value = schema_member(schema, key);
    return value ? json_object_get_double(value) : none;
}

static inline size_t schema_characters(struct json_object *value)
{
    size_t n = 0;
    const char *text = json_object_get_string(value);
    for (int i = 0; i < json_object_get_string_len(value); i++)
        n += (text[i] & 0xC0) != 0x80;
    return n;
}

static inline bool schema_valid(struct json_object *root, struct json_object *schema,
                                struct json_object *value);

static inline bool schema_object_valid(struct json_object *root, struct json_object *schema,
                                       struct json_object *value)
{
    struct json_object *properties = schema_member(schema, "properties"), *known;
    struct json_object *extra = schema_member(schema, "additionalProperties");
    struct json_object *required = schema_member(schema, "required");
    for (size_t i = 0; required && i < json_object_array_length(required); i++)
        if (!json_object_object_get_ex(
                value, json_object_get_string(json_object_array_get_idx(required, i)), NULL))
            return false;
    json_object_object_foreach(value, key, member)
    {
        if (properties && json_object_object_get_ex(properties, key, &known)) {
            if (!schema_valid(root, known, member))
                return false;
        } else if (extra && json_object_is_type(extra, json_type_boolean)) {
            if (!json_object_get_boolean(extra))
                return false;
        } else if (extra && !schema_valid(root, extra, member)) {
            return false;
        }
    }
    return true;
}

static inline bool schema_valid(struct json_object *root, struct json_object *schema,
                                struct json_object *value)
{
    schema = schema_target(root, schema);
    struct json_object *type = schema_member(schema, "type"), *list = schema_member(schema, "enum");
    struct json_object *any = schema_member(schema, "anyOf"),
                       *items = schema_member(schema, "items");
    bool ok = !type;
    if (json_object_is_type(type, json_type_string))
        ok = schema_type_is(json_object_get_string(type), value);
    for (size_t i = 0;
         json_object_is_type(type, json_type_array) && i < json_object_array_length(type); i++)
        ok |= schema_type_is(json_object_get_string(json_object_array_get_idx(type, i)), value);
    bool listed = !list, one = !any;
    for (size_t i = 0; list && i < json_object_array_length(list); i++)
        listed |= json_object_equal(json_object_array_get_idx(list, i), value);
    for (size_t i = 0; any && i < json_object_array_length(any); i++)
        one |= schema_valid(root, json_object_array_get_idx(any, i), value);
    if (!ok || !listed || !one)
        return false;
    double size = 0, x = json_object_get_double(value);
    switch (json_object_get_type(value)) {
    case json_type_string:
        size = (double)schema_characters(value);
        return size >= schema_bound(schema, "minLength", 0) &&
               size <= schema_bound(schema, "maxLength", INFINITY);
    case json_type_int:
    case json_type_double:
        return x >= schema_bound(schema, "minimum", -INFINITY) &&
               x <= schema_bound(schema, "maximum", INFINITY) &&
               x > schema_bound(schema, "exclusiveMinimum", -INFINITY) &&
               x < schema_bound(schema, "exclusiveMaximum", INFINITY);
    case json_type_array:
        size = (double)json_object_array_length(value);
        for (size_t i = 0; items && i < json_object_array_length(value); i++)
            if (!schema_valid(root, items, json_object_array_get_idx(value, i)))
                return false;
        return size >= schema_bound(schema, "minItems", 0) &&
               size <= schema_bound(schema, "maxItems", INFINITY);
    case json_type_object:
        return schema_object_valid(root, schema, value);
    default:
        return true;
    }
}

/* ---- random values ---- */

struct schema_rng {
    uint64_t seed, n;
};

static inline uint64_t schema_draw(struct schema_rng *r, uint64_t below)
{
    return rng_u64(r->seed, r->n++) % below;
}

static inline void schema_random(struct schema_rng *r, struct json_object *root,
                                 struct json_object *schema, int depth, struct buf *out);

static inline int64_t schema_between(struct schema_rng *r, double lo, double hi)
{
    return (int64_t)lo + (int64_t)schema_draw(r, (uint64_t)(hi - lo) + 1);
}

static inline void schema_random_string(struct schema_rng *r, struct json_object *schema,
                                        struct buf *out)
{
    static const char *const pieces[] = {
        "a",   "Z",    " ",       "\xc3\xa9",         "\xe4\xb8\xad",
        "\\n", "\\\"", "\\u00e9", "\xf0\x9f\x98\x80", "\\ud83d\\ude00",
        "{",   ","};
    double least = schema_bound(schema, "minLength", 0);
    int64_t n = schema_between(r, least, fmin(schema_bound(schema, "maxLength", 8), least + 8));
    buf_add_str(out, "\"");
    while (n-- > 0)
        buf_add_str(out, pieces[schema_draw(r, sizeof pieces / sizeof *pieces)]);
    buf_add_str(out, "\"");
}

static inline void schema_random_object(struct schema_rng *r, struct json_object *root,
                                        struct json_object *schema, int depth, struct buf *out)
{
    struct json_object *properties = schema_member(schema, "properties");
    struct json_object *required = schema_member(schema, "required");
    bool first = true;
    buf_add_str(out, "{");
    if (properties) {
        json_object_object_foreach(properties, key, member)
        {
            bool must = false;
            for (size_t i = 0; required && i < json_object_array_length(required); i++)
                must |= strcmp(json_object_get_string(json_object_array_get_idx(required, i)),
                               key) == 0;
            if (!must && (depth > 4 || schema_draw(r, 2)))
                continue;
            buf_addf(out, "%s\"%s\":%s", first ? "" : ", ", key, schema_draw(r, 2) ? " " : "");
            schema_random(r, root, member, depth + 1, out);
            first = false;
        }
    }
    buf_add_str(out, "}");
}

/* A value that follows the schema, in the form that the model would give it. */
static inline void schema_random(struct schema_rng *r, struct json_object *root,
                                 struct json_object *schema, int depth, struct buf *out)
{
    schema = schema_target(root, schema);
    struct json_object *list = schema_member(schema, "enum"), *any = schema_member(schema, "anyOf"),
                       *type = schema_member(schema, "type");
    if (list) {
        size_t i = schema_draw(r, json_object_array_length(list));
        json_text_write(out, json_object_array_get_idx(list, i));
        return;
    }
    if (any) { /* the first branch is one that ends */
        size_t i = depth > 4 ? 0 : schema_draw(r, json_object_array_length(any));
        schema_random(r, root, json_object_array_get_idx(any, i), depth + 1, out);
        return;
    }
    if (json_object_is_type(type, json_type_array))
        type = json_object_array_get_idx(type, schema_draw(r, json_object_array_length(type)));
    const char *name = json_object_get_string(type);
    if (strcmp(name, "string") == 0) {
        schema_random_string(r, schema, out);
    } else if (strcmp(name, "integer") == 0 || strcmp(name, "number") == 0) {
        double lo = schema_bound(schema, "minimum", -1000) +
                    (schema_member(schema, "exclusiveMinimum") ? 1 : 0);
        buf_addf(out, "%lld",
                 (long long)schema_between(r, lo, schema_bound(schema, "maximum", 5000)));
        if (name[0] == 'n' && !schema_member(schema, "maximum") && schema_draw(r, 2))
            buf_add_str(out, ".25");
    } else if (strcmp(name, "boolean") == 0) {
        buf_add_str(out, schema_draw(r, 2) ? "true" : "false");
    } else if (strcmp(name, "array") == 0) {
        double least = schema_bound(schema, "minItems", 0);
        double most = schema_bound(schema, "maxItems", least + 3);
        int64_t n = depth > 4 ? (int64_t)least : schema_between(r, least, most);
        buf_add_str(out, "[");
        for (int64_t i = 0; i < n; i++) {
            buf_add_str(out, i == 0 ? "" : schema_draw(r, 2) ? "," : ", ");
            schema_random(r, root, schema_member(schema, "items"), depth + 1, out);
        }
        buf_add_str(out, "]");
    } else if (strcmp(name, "object") == 0) {
        schema_random_object(r, root, schema, depth, out);
    } else {
        buf_add_str(out, "null");
    }
}

/* Schemas that tests share: all that schema_valid knows is in one of them. */
static const char *const schema_samples[] = {
    "{'type': 'object', 'properties': {'name': {'type': 'string', 'maxLength': 12}, "
    "'age': {'type': 'integer', 'minimum': 0, 'maximum': 150}, "
    "'tags': {'type': 'array', 'maxItems': 3, 'items': {'enum': ['red', 'green', 'grey']}}}, "
    "'required': ['name', 'tags'], 'additionalProperties': false}",
    "{'type': 'array', 'minItems': 1, 'maxItems': 4, 'items': {'anyOf': [{'type': 'null'}, "
    "{'type': 'number', 'minimum': -3}, {'type': 'string', 'minLength': 1, 'maxLength': 2}]}}",
    "{'$ref': '#/$defs/node', '$defs': {'node': {'type': 'object', 'properties': "
    "{'v': {'type': 'integer', 'minimum': -25, 'maximum': 1203}, "
    "'next': {'anyOf': [{'type': 'null'}, {'$ref': '#/$defs/node'}]}}, "
    "'required': ['v', 'next'], 'additionalProperties': false}}}",
    "{'type': 'object', 'properties': {'ok': {'type': 'boolean'}, "
    "'what': {'type': ['string', 'null'], 'maxLength': 6}, "
    "'rows': {'type': 'array', 'maxItems': 2, 'items': {'type': 'array', 'minItems': 2, "
    "'maxItems': 2, 'items': {'type': 'integer', 'exclusiveMinimum': 6, 'minimum': 6, "
    "'maximum': 1000}}}}, 'required': ['ok'], 'additionalProperties': false}",
};
enum { SCHEMA_SAMPLES = sizeof schema_samples / sizeof *schema_samples };

#endif
