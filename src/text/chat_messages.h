/* text/chat_messages.h - messages as the encoder sees them: merged, ordered, thinned (section 7.1,
 * steps 1 to 4); private to chat.c. */
#ifndef SLUICE_TEXT_CHAT_MESSAGES_H
#define SLUICE_TEXT_CHAT_MESSAGES_H

#include "text/chat.h"

enum chat_role {
    CHAT_SYSTEM,
    CHAT_DEVELOPER,
    CHAT_USER,
    CHAT_ASSISTANT,
    CHAT_TOOL,
    CHAT_REMINDER,
    CHAT_ROLES
};

/* A piece of a user message. */
struct chat_block {
    struct json_object *content;     /* string, null or array of parts; borrowed */
    const char *call_id;             /* of a tool result, else NULL */
};

/* All borrowed from the request but blocks. */
struct chat_message {
    enum chat_role role;
    struct json_object *content, *tools, *response_format, *reasoning, *calls, *calls_text;
    const char *task;                /* or NULL */
    bool no_eos;
    struct chat_block *block;        /* owned, [n_block]; user messages */
    size_t n_block, room;
};

struct chat_list {
    struct chat_message *at;         /* owned, [n] */
    size_t n;
    bool drop;                       /* reasoning of earlier turns is not shown */
    long last_user;                  /* index of the last user or developer message, or -1 */
};

enum sluice_status chat_list_make(const struct chat_request *request, struct chat_list *out,
                                  struct sluice_error *err);
void chat_list_deinit(struct chat_list *list);

#endif
