/* server/ask.h - what a client asks for, whatever API it speaks: the neutral request. Each api_*.c
 * fills one from its own JSON; generate.c knows nothing else. */
#ifndef SLUICE_SERVER_ASK_H
#define SLUICE_SERVER_ASK_H

#include <json-c/json_object.h>

#include "base/limits.h"
#include "server/fields.h"
#include "sluice.h"

enum ask_choice { ASK_AUTO, ASK_NO_CALL, ASK_CALL };

/* What the operator set for requests that leave it open. */
struct ask_defaults {
    float temperature, top_p, min_p;
    int32_t top_k;
    enum sluice_effort effort;
    bool preview, keep_reasoning, trust_text;
};

/* Owns everything it points to. Zero-initialise by ask_new. */
struct ask {
    char *model; /* as the client named it, or NULL */
    const char *call_prefix; /* of the ids of calls: "call_", "toolu_" */

    /* A conversation: OpenAI's shapes, built from known members only (turns.h). */
    struct json_object *messages; /* array */
    struct json_object *tools; /* array of {"type": "function", "function"}, or NULL */
    struct json_object *names; /* object: a tool's name here -> {"name", "namespace"} of the
                                  client, where they differ; or NULL */
    struct json_object *format; /* schema that the model is told to follow, or NULL */
    enum sluice_effort effort;
    bool preview, keep_reasoning, trust_text, continue_last;
    bool past_thinking; /* the answer goes on behind its thinking part */
    enum ask_choice choice;
    char *tool_name; /* of ASK_CALL: this one, or NULL: any */
    bool one_call; /* the answer ends with its first call */

    /* What the answer is held to, token by token; beside calls, where choice allows them. One of
     * the two or none. */
    struct json_object *schema; /* or NULL */
    char *gbnf; /* or NULL */
    const char *held_by; /* the member that says so, for messages; static */

    /* Or raw prompts: array of strings and of arrays of ids; messages is NULL. */
    struct json_object *prompts;
    bool echo;
    struct json_object *texts; /* array of the prompts' texts, for echo; or NULL */

    struct sluice_sampling sampling; /* bias is owned */
    bool seeded;
    int64_t max_tokens, think_budget; /* 0: none */
    char *stop[LIMIT_ASK_STOPS];
    int n_stop;
    int n; /* answers to each prompt */

    bool stream, usage; /* usage: a last chunk of the stream has it */
    bool summary; /* Responses: reasoning as a summary */
    bool hide_thinking; /* Messages: the thinking's text is left out */
    bool store; /* Responses: the response can be asked for later */
    struct json_object *echoed; /* Responses: members of the request that the response
                                   repeats; or NULL */
    struct json_object *items; /* Responses: the input items, for store; or NULL */
};

/* With the defaults; NULL if memory is short. */
struct ask *ask_new(const struct ask_defaults *defaults);
void ask_free(struct ask *a); /* accepts NULL */

bool ask_thinks(const struct ask *a);
/* Prompts and answers: 1 for a conversation times n. */
int ask_prompts(const struct ask *a);

/* Members that all APIs have, by their usual names: model, stream, temperature, top_p, top_k,
 * min_p, penalties, seed. */
enum sluice_status ask_read_common(struct ask *a, struct json_object *body,
                                   struct sluice_error *err);
/* The first of the names that is there; a limit on the answer's tokens. */
enum sluice_status ask_read_max_tokens(struct ask *a, struct json_object *body,
                                       const char *const *names, struct sluice_error *err);
/* A string or an array of strings. */
enum sluice_status ask_read_stop(struct ask *a, struct json_object *body, const char *key,
                                 struct sluice_error *err);
/* {"id": bias}. */
enum sluice_status ask_read_bias(struct ask *a, struct json_object *body, struct sluice_error *err);

/* How much to think: a word (none, minimal, low, medium, high, xhigh, max), a level from 0 to 100,
 * or above that a number of tokens; a string or a number. key is for the message. */
enum sluice_status ask_effort(struct ask *a, struct json_object *value, const char *key,
                              struct sluice_error *err);
/* {"type": "enabled" | "disabled" | "adaptive", "budget_tokens": N, "display": ...}. */
enum sluice_status ask_thinking(struct ask *a, struct json_object *value, struct sluice_error *err);
/* After everything was read: a budget leaves room for an answer. */
void ask_settle(struct ask *a);

/* What other servers' clients hold an answer to a form with: grammar (GBNF), json_schema, and
 * guided_json, guided_grammar, guided_choice or the same in structured_outputs. */
enum sluice_status ask_read_held(struct ask *a, struct json_object *body, struct sluice_error *err);
/* The answer is held to follow a schema, an object; key is static. */
enum sluice_status ask_hold(struct ask *a, struct json_object *schema, const char *key,
                            struct sluice_error *err);

/* {"type": "json_schema", "json_schema": {"schema"}} or {"type": "json_object" | "text"}; in the
 * Responses shape the schema stands one level higher. */
enum sluice_status ask_read_format(struct ask *a, struct json_object *format, const char *key,
                                   struct sluice_error *err);

/* Adds a tool. function: {"name", "description", "parameters"}, taken over. */
enum sluice_status ask_add_tool(struct ask *a, struct json_object *function,
                                struct sluice_error *err);
/* ASK_CALL of a name that is among the tools; name NULL: of any. */
enum sluice_status ask_force(struct ask *a, const char *name, struct sluice_error *err);
/* The client's name of a tool; *space is its namespace or NULL. */
const char *ask_client_name(const struct ask *a, const char *name, const char **space);

#endif
