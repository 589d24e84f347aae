/* text/grammar_build.h - a grammar while it is made; private to text/grammar*.c.
 *
 * Two forms. The *tree*: rules, each a tree of literals, classes, sequences, choices, repetitions
 * and references; whoever reads a notation (GBNF, JSON schema, tools) makes it with the gb_
 * functions. The *program*: what the tree is lowered to, nodes that read one byte or symbol, or
 * none; node 0 is the end of a rule or of a repeated body.
 *
 *   notation --gb_...--> tree --gb_finish: checks, lowering--> program --> grammar.c
 *
 * Errors are sticky: after the first one every gb_ function returns 0 and does nothing. */
#ifndef SLUICE_TEXT_GRAMMAR_BUILD_H
#define SLUICE_TEXT_GRAMMAR_BUILD_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "text/grammar.h"

#define GB_NO_LIMIT INT32_MAX

enum gb_kind { GB_LITERAL, GB_CLASS, GB_SYMBOL, GB_SEQUENCE, GB_CHOICE, GB_REPEAT, GB_RULE };

/* a, b: of a literal its place in bytes and length, of a class its place in ranges and their number
 * (negation is done), of a symbol its number, of a repetition least and most, of a reference the
 * rule. */
struct gb_node {
    enum gb_kind kind;
    int32_t a, b;
    int32_t first, last, next; /* children, the next sibling; 0: none */
};

struct gb_rule {
    char *name;
    int32_t body; /* -1: not defined yet */
    int32_t line; /* where it was first named; 0: not from a text */
    bool nullable, productive;
};

struct gb_range {
    int32_t lo, hi; /* code points */
};

enum program_kind { P_END, P_SET, P_SYMBOL, P_SPLIT, P_CALL, P_REPEAT };

/* next: what follows. a: of a set its index, of a symbol its number, of a split the other way, of a
 * call the rule's first node, of a repetition the body's. */
struct program_node {
    enum program_kind kind;
    int32_t a, next, least, most;
    bool nullable; /* a repetition whose body may be empty */
};

struct program {
    struct program_node *node; /* [n_node] */
    int32_t n_node, node_room, start;
    uint32_t (*set)[8]; /* [n_set] bits of bytes */
    int32_t n_set, set_room;
};

struct gb {
    struct gb_node *node; /* [n_node]; 0 is nothing */
    int32_t n_node, node_room;
    struct gb_rule *rule; /* [n_rule] */
    int32_t n_rule, rule_room;
    struct gb_range *range; /* [n_range] */
    int32_t n_range, range_room;
    struct buf bytes;
    enum sluice_status status;
    struct sluice_error *err;
};

void gb_init(struct gb *b, struct sluice_error *err);
void gb_deinit(struct gb *b);
/* Fails with the message unless something failed before; returns 0. */
int32_t gb_fail(struct gb *b, enum sluice_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Nodes. Each may be the child of one other. */
int32_t gb_literal(struct gb *b, struct str text);
/* ranges: sorted or not, they may overlap; inverted: all code points but these. */
int32_t gb_class(struct gb *b, const struct gb_range *ranges, int n, bool inverted);
int32_t gb_symbol(struct gb *b, int symbol);
int32_t gb_list(struct gb *b, enum gb_kind kind); /* GB_SEQUENCE or GB_CHOICE, empty */
void gb_add(struct gb *b, int32_t list, int32_t child);
void gb_add_text(struct gb *b, int32_t list, const char *text);
int32_t gb_repeat(struct gb *b, int32_t child, int32_t least, int32_t most);
int32_t gb_ref(struct gb *b, int32_t rule);
/* A new rule without a body; name is for messages. */
int32_t gb_rule(struct gb *b, const char *name);
void gb_define(struct gb *b, int32_t rule, int32_t body);

/* Sorts, joins and perhaps inverts ranges; returns their number. out: room for n + 1. */
int gb_ranges(const struct gb_range *in, int n, bool inverted, struct gb_range *out);

/* Checks all rules (undefined ones, left recursion, rules that never end) and lowers them.
 * SLUICE_ERR_FORMAT, or SLUICE_ERR_LIMIT where it is too large. On success free the members of
 * *out with program_deinit. */
enum sluice_status gb_finish(struct gb *b, int32_t root, struct program *out);
void program_deinit(struct program *p);
/* Its second half, grammar_lower.c: the rules are sound. */
enum sluice_status gb_lower(struct gb *b, int32_t root, struct program *out);
bool gb_nullable(const struct gb *b, int32_t node);

/* ---- notations: each returns a rule ---- */

int32_t gb_read_gbnf(struct gb *b, struct str text);

/* A JSON schema while it is turned into rules. */
struct schema {
    struct gb *b;
    struct json_object *root; /* where "#" points */
    struct buf path; /* of the place, for messages */
    struct json_object *made; /* array: schemas that were merged, to be freed */
    struct schema_known *known; /* [n_known] schemas that have rules */
    int n_known, room;
    int depth;
    int32_t any, string, space, object, array, number, raw; /* rules, or -1 */
};

/* Where a string stands: in JSON between quotes, or as it is in the parameter of a call. */
enum schema_quote { SCHEMA_JSON, SCHEMA_RAW };

void schema_init(struct schema *s, struct gb *b, struct json_object *root, const char *path);
void schema_deinit(struct schema *s);
/* A node: values that follow the schema, as JSON. */
int32_t schema_value(struct schema *s, struct json_object *schema);
/* A node: any object. */
int32_t schema_any_object(struct schema *s);
int32_t schema_any(struct schema *s);
/* Fails: this keyword at the present place. Returns 0. */
int32_t schema_refuse(struct schema *s, const char *keyword, const char *why);
/* The schema behind references and merged with all of "allOf"; NULL on failure. */
struct json_object *schema_resolve(struct schema *s, struct json_object *schema);
bool schema_enter(struct schema *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void schema_leave(struct schema *s, size_t path);
/* Refuses keywords that cannot be followed. */
void schema_check(struct schema *s, struct json_object *schema);

/* A number of things, from 0 to LIMIT_GRAMMAR_COUNT; none where the keyword is not there. */
int32_t schema_count(struct schema *s, struct json_object *schema, const char *key, int32_t none);

static inline struct json_object *schema_get(struct json_object *schema, const char *key)
{
    bool object = json_object_is_type(schema, json_type_object);
    return object ? json_object_object_get(schema, key) : NULL;
}
static inline bool schema_has(struct json_object *schema, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(schema, key, &value);
}

/* Blanks where JSON may have them; a comma and such. */
int32_t schema_space(struct schema *s);
void schema_comma(struct schema *s, int32_t list);

/* text/schema_object.c */
int32_t schema_object(struct schema *s, struct json_object *schema);
int32_t schema_array(struct schema *s, struct json_object *schema);

/* text/schema_merge.c; also schema_resolve and schema_check. */
/* A keyword that is for people, or that says nothing by itself. */
bool schema_is_note(const char *key);
/* Has it a keyword that is neither a note nor this one? */
bool schema_asserts(struct json_object *schema, const char *but);
/* What a reference points at, or NULL and a failure. */
struct json_object *schema_follow(struct schema *s, struct json_object *ref);
/* The schema without key, together with more; or NULL and a failure. */
struct json_object *schema_together(struct schema *s, struct json_object *schema, const char *key,
                                    struct json_object *more);

/* text/schema_text.c: nodes for what may stand between the quotes. */
int32_t schema_text(struct schema *s, struct json_object *schema, enum schema_quote quote);
/* A class of characters, as they are spelled. */
int32_t schema_class(struct gb *b, const struct gb_range *ranges, int n, enum schema_quote quote);
/* text/schema_number.c */
int32_t schema_number(struct schema *s, struct json_object *schema, bool integer);
/* text/schema_pattern.c: a regular expression; 0 and the reason in *why if it is not understood. */
int32_t schema_pattern(struct gb *b, struct str pattern, enum schema_quote quote, const char **why);

/* A rule: a block of calls of these tools (grammar.h). */
int32_t gb_calls(struct gb *b, const struct grammar_ask *ask);

#endif
