/* text/schema_merge.c - keywords of a JSON schema: which say nothing, which are refused;
 * references, and several schemas that must all hold put in one. See grammar_build.h. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/limits.h"
#include "text/grammar_build.h"

/* ---- keywords ---- */

static const char *const notes[] = {
    "title",    "description", "default",  "examples",  "$schema", "$id",
    "$comment", "deprecated",  "readOnly", "writeOnly", "$defs",   "strict",
    "$anchor",  "definitions", "example",  "nullable",  "id",      "discriminator"};

bool schema_is_note(const char *key)
{
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (strcmp(key, notes[i]) == 0)
            return true;
    return false;
}

void schema_check(struct schema *s, struct json_object *schema)
{
    static const char *const refused[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "dependentRequired",
                                          "dependentSchemas",
                                          "dependencies",
                                          "patternProperties",
                                          "propertyNames",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "unevaluatedItems",
                                          "multipleOf",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "contentSchema"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (schema_has(schema, refused[i]))
            schema_refuse(s, refused[i], "is not supported");
    if (json_object_get_boolean(schema_get(schema, "uniqueItems")))
        schema_refuse(s, "uniqueItems", "is not supported");
    struct json_object *unevaluated = schema_get(schema, "unevaluatedProperties");
    if (unevaluated && !json_object_is_type(unevaluated, json_type_boolean))
        schema_refuse(s, "unevaluatedProperties", "is not supported");
}

/* ---- references and allOf ---- */

static struct json_object *step_pointer(struct json_object *at, char *part)
{
    char *to = part;
    for (char *p = part; *p; p++) { /* ~1 is /, ~0 is ~ */
        bool escape = *p == '~' && (p[1] == '0' || p[1] == '1');
        *to++ = !escape ? *p : p[1] == '0' ? '~' : '/';
        p += escape;
    }
    *to = 0;
    if (json_object_is_type(at, json_type_array)) {
        char *end;
        unsigned long i = strtoul(part, &end, 10);
        return *end || i >= json_object_array_length(at) ? NULL : json_object_array_get_idx(at, i);
    }
    return schema_get(at, part);
}

struct json_object *schema_follow(struct schema *s, struct json_object *ref)
{
    const char *text =
        json_object_is_type(ref, json_type_string) ? json_object_get_string(ref) : "";
    if (text[0] != '#' || (text[1] && text[1] != '/')) {
        schema_refuse(s, "$ref", "must point into the same schema (\"#/...\")");
        return NULL;
    }
    struct json_object *at = s->root;
    char *copy = strdup(text[1] ? text + 2 : ""), *rest = copy;
    for (char *part; text[1] && rest && at && (part = strsep(&rest, "/"));)
        at = step_pointer(at, part);
    free(copy);
    if (!at)
        schema_refuse(s, "$ref", "points at nothing");
    return at;
}

static struct json_object *keep(struct schema *s, struct json_object *made)
{
    if (!made || json_object_array_add(s->made, made) != 0) {
        gb_fail(s->b, SLUICE_ERR_NOMEM, "out of memory for a schema");
        return NULL;
    }
    return made;
}

static bool lists(struct json_object *array, struct json_object *value)
{
    for (size_t i = 0; i < json_object_array_length(array); i++)
        if (json_object_equal(json_object_array_get_idx(array, i), value))
            return true;
    return false;
}

static void merge_lists(struct json_object *into, struct json_object *from)
{
    for (size_t i = 0; i < json_object_array_length(from); i++)
        if (!lists(into, json_object_array_get_idx(from, i)))
            json_object_array_add(into, json_object_get(json_object_array_get_idx(from, i)));
}

static struct json_object *shallow(struct json_object *from)
{
    struct json_object *to = json_object_new_object();
    json_object_object_foreach(from, key, value)
        json_object_object_add(to, key, json_object_get(value));
    return to;
}

/* Adds what `more` demands to `into`; false (and a failure) where both say something about the same
 * that cannot be put in one. */
static bool merge(struct schema *s, struct json_object *into, struct json_object *more)
{
    json_object_object_foreach(more, key, value)
    {
        struct json_object *old;
        if (!json_object_object_get_ex(into, key, &old)) {
            bool list = strcmp(key, "required") == 0 && json_object_is_type(value, json_type_array);
            struct json_object *own = list ? json_object_new_array() : json_object_get(value);
            if (list)
                merge_lists(own, value);
            json_object_object_add(into, key, own);
            continue;
        }
        if (schema_is_note(key) || json_object_equal(old, value))
            continue;
        bool arrays = json_object_is_type(old, json_type_array) &&
                      json_object_is_type(value, json_type_array);
        bool objects = json_object_is_type(old, json_type_object) &&
                       json_object_is_type(value, json_type_object);
        if (strcmp(key, "required") == 0 && arrays) {
            struct json_object *both = json_object_new_array();
            merge_lists(both, old);
            merge_lists(both, value);
            json_object_object_add(into, key, both);
        } else if (strcmp(key, "properties") == 0 && objects) {
            struct json_object *both = shallow(old);
            json_object_object_add(into, key, both);
            json_object_object_foreach(value, name, property)
            {
                struct json_object *same = schema_get(both, name);
                if (same && !json_object_equal(same, property)) {
                    schema_refuse(s, "allOf", "says different things about one property");
                    return false;
                }
                json_object_object_add(both, name, json_object_get(property));
            }
        } else {
            schema_refuse(s, key,
                          "stands in two schemas that must both hold, which is not "
                          "supported");
            return false;
        }
    }
    return true;
}

bool schema_asserts(struct json_object *schema, const char *but)
{
    json_object_object_foreach(schema, key, value)
    {
        (void)value;
        if (!schema_is_note(key) && strcmp(key, but) != 0)
            return true;
    }
    return false;
}

/* schema without key, together with more. */
struct json_object *schema_together(struct schema *s, struct json_object *schema, const char *key,
                                    struct json_object *more)
{
    if (!schema_asserts(schema, key))
        return more;
    if (!json_object_is_type(more, json_type_object)) {
        schema_refuse(s, key, "holds no schema object");
        return NULL;
    }
    struct json_object *both = keep(s, shallow(schema));
    if (!both)
        return NULL;
    json_object_object_del(both, key);
    return merge(s, both, more) ? both : NULL;
}

struct json_object *schema_resolve(struct schema *s, struct json_object *schema)
{
    for (int i = 0; s->b->status == SLUICE_OK && json_object_is_type(schema, json_type_object);
         i++) {
        struct json_object *all = schema_get(schema, "allOf");
        if (i == LIMIT_GRAMMAR_NEST) {
            schema_refuse(s, schema_has(schema, "$ref") ? "$ref" : "allOf", "refers to itself");
            return NULL;
        }
        if (schema_has(schema, "$ref")) {
            struct json_object *target = schema_follow(s, schema_get(schema, "$ref"));
            schema = target ? schema_together(s, schema, "$ref", target) : NULL;
        } else if (all) {
            struct json_object *sum = keep(s, shallow(schema));
            bool ok = sum && json_object_is_type(all, json_type_array);
            if (sum)
                json_object_object_del(sum, "allOf");
            for (size_t k = 0; ok && k < json_object_array_length(all); k++) {
                struct json_object *part = json_object_array_get_idx(all, k);
                if (++s->depth > LIMIT_GRAMMAR_NEST)
                    schema_refuse(s, "allOf", "lies too deep");
                part = schema_resolve(s, part);
                s->depth--;
                ok = json_object_is_type(part, json_type_object) && merge(s, sum, part);
            }
            if (!ok)
                schema_refuse(s, "allOf", "must be a list of schemas");
            schema = sum;
        } else {
            return schema;
        }
    }
    return s->b->status == SLUICE_OK ? schema : NULL;
}
