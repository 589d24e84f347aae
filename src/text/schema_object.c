/* text/schema_object.c - objects and arrays of a JSON schema; see grammar_build.h.
 *
 * The members of an object are a chain of rules, two for each property: what may come from there on
 * when nothing stands before, and when something does, so that a comma must come first. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json_text.h"
#include "base/limits.h"
#include "text/grammar_build.h"

/* ---- objects ---- */

struct member {
    const char *name;
    struct json_object *schema;
    bool required;
};

struct object {
    struct schema *s;
    struct member *member; /* [n] */
    int n;
    struct json_object *extra; /* schema of others; or NULL: none may come */
    bool any_extra;
};

static int32_t quoted(struct gb *b, const char *text)
{
    struct buf out;
    buf_init(&out, 0);
    json_text_write_str(&out, str_of(text));
    int32_t made = gb_literal(b, (struct str){out.data ? out.data : "", out.len});
    buf_deinit(&out);
    return made;
}

static int32_t declared(struct object *o, int i)
{
    struct schema *s = o->s;
    int32_t list = gb_list(s->b, GB_SEQUENCE);
    size_t path = s->path.len;
    gb_add(s->b, list, quoted(s->b, o->member[i].name));
    gb_add_text(s->b, list, ":");
    gb_add(s->b, list, schema_space(s));
    if (schema_enter(s, ".properties.%s", o->member[i].name))
        gb_add(s->b, list, schema_value(s, o->member[i].schema));
    schema_leave(s, path);
    return list;
}

/* What may be a key beside the declared ones, behind the first `at` bytes of members from..to,
 * which they share. Keys are spelled without \u, so that a name has one spelling. */
static int32_t other_key(struct object *o, const char **names, int n, size_t at)
{
    struct gb *b = o->s->b;
    int32_t list = gb_list(b, GB_CHOICE), other = gb_list(b, GB_SEQUENCE);
    struct gb_range used[256];
    int n_used = 0, i = 0;
    bool taken = n > 0 && names[0][at] == 0;
    if (!taken)
        gb_add_text(b, list, "");
    i += taken;
    for (int k; i < n; i = k) {
        unsigned char c = (unsigned char)names[i][at];
        for (k = i + 1; k < n && (unsigned char)names[k][at] == c;)
            k++;
        int32_t go = gb_list(b, GB_SEQUENCE);
        struct gb_range one = {c, c};
        gb_add(b, go, schema_class(b, &one, 1, SCHEMA_JSON));
        gb_add(b, go, other_key(o, names + i, k - i, at + 1));
        gb_add(b, list, go);
        used[n_used++] = one;
    }
    struct gb_range rest[257];
    int n_rest = gb_ranges(used, n_used, /*inverted=*/true, rest);
    static const struct gb_range all = {0x20, 0x10FFFF};
    gb_add(b, other, schema_class(b, rest, n_rest, SCHEMA_JSON));
    gb_add(b, other, gb_repeat(b, schema_class(b, &all, 1, SCHEMA_JSON), 0, GB_NO_LIMIT));
    gb_add(b, list, other);
    return list;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A rule: a member that is not declared. */
static int32_t other_member(struct object *o)
{
    struct schema *s = o->s;
    struct gb *b = s->b;
    const char **names = calloc((size_t)o->n + 1, sizeof *names);
    if (!names)
        return gb_fail(b, SLUICE_ERR_NOMEM, "out of memory for a schema");
    for (int i = 0; i < o->n; i++) {
        names[i] = o->member[i].name;
        for (const char *c = names[i]; *c; c++)
            if ((unsigned char)*c >= 0x80 || (unsigned char)*c < 0x20)
                schema_refuse(s, "additionalProperties",
                              "beside property names that are not ASCII "
                              "is not supported");
        if (strlen(names[i]) > LIMIT_GRAMMAR_NEST)
            schema_refuse(s, "additionalProperties", "beside long property names is not supported");
    }
    qsort(names, (size_t)o->n, sizeof *names, by_name);
    int32_t rule = gb_rule(b, "other property"), list = gb_list(b, GB_SEQUENCE);
    size_t path = s->path.len;
    gb_add_text(b, list, "\"");
    if (b->status == SLUICE_OK)
        gb_add(b, list, other_key(o, names, o->n, 0));
    gb_add_text(b, list, "\":");
    gb_add(b, list, schema_space(s));
    if (schema_enter(s, ".additionalProperties"))
        gb_add(b, list, o->extra ? schema_value(s, o->extra) : schema_any(s));
    schema_leave(s, path);
    gb_define(b, rule, list);
    free(names);
    return rule;
}

/* Members i and on. begun: one stands before, so a comma comes first. after: the rule of the same
 * for i + 1, begun or not. */
static int32_t members_from(struct object *o, int i, bool begun, int32_t member,
                            const int32_t *after)
{
    struct schema *s = o->s;
    struct gb *b = s->b;
    int32_t list = gb_list(b, GB_CHOICE), with = gb_list(b, GB_SEQUENCE);
    if (begun)
        schema_comma(s, with);
    gb_add(b, with, gb_ref(b, member));
    gb_add(b, with, gb_ref(b, after[1]));
    gb_add(b, list, with);
    if (!o->member[i].required)
        gb_add(b, list, gb_ref(b, after[begun]));
    return list;
}

/* What may come behind the declared members. */
static void close_members(struct object *o, int32_t rule[2], int32_t least, int32_t most)
{
    struct schema *s = o->s;
    struct gb *b = s->b;
    for (int i = 0; i < 2; i++)
        rule[i] = gb_rule(b, "members");
    if (!o->extra && !o->any_extra) {
        gb_define(b, rule[0], gb_list(b, GB_SEQUENCE));
        gb_define(b, rule[1], gb_list(b, GB_SEQUENCE));
        return;
    }
    int32_t other = other_member(o), more[2], first = gb_list(b, GB_SEQUENCE);
    for (int i = 0; i < 2; i++) {
        more[i] = gb_list(b, GB_SEQUENCE);
        schema_comma(s, more[i]);
        gb_add(b, more[i], gb_ref(b, other));
    }
    int32_t rest = most == GB_NO_LIMIT ? most : most - 1;
    gb_add(b, first, gb_ref(b, other));
    gb_add(b, first, gb_repeat(b, more[0], least > 0 ? least - 1 : 0, rest < 0 ? 0 : rest));
    gb_define(b, rule[0],
              most == 0 ? gb_list(b, GB_SEQUENCE)
              : least   ? first
                        : gb_repeat(b, first, 0, 1));
    gb_define(b, rule[1], gb_repeat(b, more[1], 0, GB_NO_LIMIT));
}

int32_t schema_count(struct schema *s, struct json_object *schema, const char *key, int32_t none)
{
    struct json_object *value = schema_get(schema, key);
    int64_t n = json_object_get_int64(value);
    if (!value)
        return none;
    bool number = json_object_is_type(value, json_type_int) ||
                  (json_object_is_type(value, json_type_double) &&
                   json_object_get_double(value) == (double)n);
    if (!number || n < 0 || n > LIMIT_GRAMMAR_COUNT)
        return schema_refuse(s, key, "must be a number from 0 to 1000000");
    return (int32_t)n;
}

static int32_t object_rules(struct object *o, struct json_object *schema)
{
    struct schema *s = o->s;
    struct gb *b = s->b;
    int32_t least = schema_count(s, schema, "minProperties", 0);
    int32_t most = schema_count(s, schema, "maxProperties", GB_NO_LIMIT);
    if (o->n > 0 && (least > 0 || most != GB_NO_LIMIT))
        return schema_refuse(s, least ? "minProperties" : "maxProperties",
                             "beside properties is not supported");
    if (least > most || (least > 0 && !o->extra && !o->any_extra))
        return schema_refuse(s, "minProperties", "leaves no object");
    int32_t after[2];
    close_members(o, after, least, most);
    for (int i = o->n - 1; i >= 0 && b->status == SLUICE_OK; i--) {
        int32_t member = gb_rule(b, o->member[i].name), now[2];
        gb_define(b, member, declared(o, i));
        for (int begun = 0; begun < 2; begun++) {
            now[begun] = gb_rule(b, "members");
            gb_define(b, now[begun], members_from(o, i, begun, member, after));
        }
        memcpy(after, now, sizeof after);
    }
    int32_t list = gb_list(b, GB_SEQUENCE);
    gb_add_text(b, list, "{");
    gb_add(b, list, schema_space(s));
    gb_add(b, list, gb_ref(b, after[0]));
    gb_add(b, list, schema_space(s));
    gb_add_text(b, list, "}");
    return list;
}

int32_t schema_object(struct schema *s, struct json_object *schema)
{
    struct json_object *properties = schema_get(schema, "properties"),
                       *required = schema_get(schema, "required");
    struct json_object *extra = schema_get(schema, "additionalProperties");
    bool closed =
        schema_has(schema, "additionalProperties")
            ? json_object_is_type(extra, json_type_boolean) && !json_object_get_boolean(extra)
            : properties != NULL;
    bool lists_names = json_object_is_type(required, json_type_array);
    if ((properties && !json_object_is_type(properties, json_type_object)) ||
        (required && !lists_names))
        return schema_refuse(s, required && !lists_names ? "required" : "properties",
                             "has not the form of the standard");
    if (!properties && !lists_names && !extra && !schema_has(schema, "minProperties") &&
        !schema_has(schema, "maxProperties") && !closed)
        return schema_any_object(s);
    int n = properties ? json_object_object_length(properties) : 0;
    size_t n_required = lists_names ? json_object_array_length(required) : 0;
    struct object o = {.s = s,
                       .any_extra = !closed,
                       .extra = json_object_is_type(extra, json_type_object) ? extra : NULL,
                       .member = calloc((size_t)n + n_required + 1, sizeof *o.member)};
    if (!o.member)
        return gb_fail(s->b, SLUICE_ERR_NOMEM, "out of memory for a schema");
    if (properties) {
        json_object_object_foreach(properties, key, value) o.member[o.n++] =
            (struct member){key, value, false};
    }
    for (size_t i = 0; i < n_required; i++) {
        struct json_object *name = json_object_array_get_idx(required, i);
        const char *text = json_object_get_string(name);
        int k = 0;
        while (k < o.n && strcmp(o.member[k].name, text ? text : "") != 0)
            k++;
        if (!json_object_is_type(name, json_type_string) || (k == o.n && closed && properties))
            schema_refuse(s, "required", "names what is no property");
        if (k == o.n)
            o.member[o.n++] = (struct member){.name = text ? text : "", .schema = o.extra};
        o.member[k].required = true;
    }
    int32_t made = s->b->status == SLUICE_OK ? object_rules(&o, schema) : 0;
    free(o.member);
    return made;
}

/* ---- arrays ---- */

/* A node for an item: of the schema, of any kind if there is none. */
static int32_t item(struct schema *s, const char *key, struct json_object *schema)
{
    size_t path = s->path.len;
    int32_t made = 0;
    if (schema_enter(s, ".%s", key))
        made = schema ? schema_value(s, schema) : schema_any(s);
    schema_leave(s, path);
    return made;
}

/* The items behind the first n_prefix, least to most in all. */
static int32_t items_after(struct schema *s, struct json_object *items, int32_t n_prefix,
                           int32_t least, int32_t most)
{
    struct gb *b = s->b;
    int32_t rule = gb_rule(b, "item");
    gb_define(b, rule, item(s, "items", items));
    least = least > n_prefix ? least - n_prefix : 0;
    most = most == GB_NO_LIMIT ? most : most > n_prefix ? most - n_prefix : 0;
    int32_t more = gb_list(b, GB_SEQUENCE);
    schema_comma(s, more);
    gb_add(b, more, gb_ref(b, rule));
    if (n_prefix > 0)
        return gb_repeat(b, more, least, most);
    if (most == 0)
        return gb_list(b, GB_SEQUENCE);
    int32_t list = gb_list(b, GB_SEQUENCE);
    gb_add(b, list, gb_ref(b, rule));
    gb_add(b, list,
           gb_repeat(b, more, least > 0 ? least - 1 : 0, most == GB_NO_LIMIT ? most : most - 1));
    return least > 0 ? list : gb_repeat(b, list, 0, 1);
}

int32_t schema_array(struct schema *s, struct json_object *schema)
{
    struct gb *b = s->b;
    struct json_object *items = schema_get(schema, "items"),
                       *prefix = schema_get(schema, "prefixItems");
    bool closed = json_object_is_type(items, json_type_boolean) && !json_object_get_boolean(items);
    int32_t least = schema_count(s, schema, "minItems", 0);
    int32_t most = schema_count(s, schema, "maxItems", GB_NO_LIMIT);
    if (json_object_is_type(items, json_type_array)) { /* what prefixItems was called once */
        prefix = items;
        items = schema_get(schema, "additionalItems");
        closed = json_object_is_type(items, json_type_boolean) && !json_object_get_boolean(items);
    }
    if (prefix && !json_object_is_type(prefix, json_type_array))
        return schema_refuse(s, "prefixItems", "must be a list");
    if (least > most)
        return schema_refuse(s, "minItems", "is more than maxItems");
    int32_t n = prefix ? (int32_t)json_object_array_length(prefix) : 0;
    n = n > most ? most : n;
    bool open = !prefix || (items && !closed) || (least > n && !closed);
    if ((closed || !open) && least > n)
        return schema_refuse(s, "minItems", "is more than there may be items");
    int32_t list = gb_list(b, GB_SEQUENCE);
    gb_add_text(b, list, "[");
    gb_add(b, list, schema_space(s));
    for (int32_t i = 0; i < n; i++) {
        if (i)
            schema_comma(s, list);
        gb_add(b, list, item(s, "prefixItems", json_object_array_get_idx(prefix, (size_t)i)));
    }
    if (open && !closed)
        gb_add(b, list, items_after(s, items, n, least, most));
    gb_add(b, list, schema_space(s));
    gb_add_text(b, list, "]");
    return list;
}
