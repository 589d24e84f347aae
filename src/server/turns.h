/* server/turns.h - the turns of a conversation, from any API to the messages that the chat encoder
 * takes (text/chat.h). Built from known members only, so that a client cannot reach the encoder's
 * own ones, and flattened, so that what means the same is the same text: content as a string or as
 * parts, cache marks, the order of keys.
 *
 * Roles: developer is system. Several system texts in a row are one. A system text after the
 * conversation began, with no user's turn after it, is shown to the model as the user's: an answer
 * always follows a user's turn. */
#ifndef SLUICE_SERVER_TURNS_H
#define SLUICE_SERVER_TURNS_H

#include <json-c/json_object.h>

#include "base/status.h"
#include "base/str.h"
#include "server/shelf.h"

/* Appends a message to an array. content and reasoning may be empty (at NULL: absent); calls is
 * taken over, or NULL. */
struct turn {
    const char *role;
    struct str content, reasoning;
    struct json_object *calls; /* of {"id", "function": {"name", "arguments"}} */
    const char *call_id; /* of role tool */
};
void turns_add(struct json_object *messages, const struct turn *turn);
/* {"id", "type", "function"} for turn.calls. */
struct json_object *turns_call(const char *id, const char *name, struct str arguments);

/* Messages in the shape of Chat Completions. SLUICE_ERR_ARG names the message. */
enum sluice_status turns_from_openai(struct json_object *in, struct json_object *out,
                                     struct sluice_error *err);

/* The text of a content: a string, null, or parts, joined by between. Parts that are no text become
 * "[Unsupported TYPE]"; *only_those says that there was nothing else. where is for messages. */
enum sluice_status turns_text(struct json_object *content, const char *between, const char *where,
                              struct buf *out, bool *only_those, struct sluice_error *err);

/* The last step: system texts to their places, remembered calls and reasoning put back, the format
 * of the reply; *messages is replaced. */
enum sluice_status turns_settle(struct json_object **messages, struct json_object *format,
                                struct shelf *calls, struct sluice_error *err);

/* Remembers the exact text of an answer's calls, with its reasoning, under the ids of the calls.
 * calls: as turn.calls. */
void turns_remember(struct shelf *shelf, struct json_object *calls, struct str text,
                    struct str reasoning);

#endif
