/* text/chat.h - messages, tools and thinking mode to the text that the model was trained on
 * (model-spec section 7).
 *
 * The result is one text with the ranges that are protocol: role and thinking marks, the fixed
 * words around tools, the syntax of calls. Only there may literal text become a protocol token
 * (bpe_encode_marked); what a user, a tool or a system prompt wrote is ordinary text, unless the
 * caller wants it as the reference encoder does, which trusts all.
 *
 * Threads: no shared state. */
#ifndef SLUICE_TEXT_CHAT_H
#define SLUICE_TEXT_CHAT_H

#include <json-c/json_object.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/bpe.h"

enum chat_effort { CHAT_NO_THINKING, CHAT_THINKING, CHAT_THINKING_HIGH, CHAT_THINKING_MAX };

/* Borrowed for the call. */
struct chat_request {
    /* Array of messages in OpenAI's shape: role system, developer, user, assistant, tool or
     * latest_reminder; content a string, null or an array of parts; on system and developer also
     * "tools" and "response_format", on assistant "reasoning_content" and "tool_calls", on tool
     * "tool_call_id", on user and assistant "task", on assistant "wo_eos" and "tool_calls_text":
     * the text of its calls as it was sampled, which stands in for the rendered one; never to
     * be taken from a client. */
    struct json_object *messages;
    struct json_object *tools;   /* array, or NULL: joins the first system message, or an empty one
                                    put in front */
    enum chat_effort effort;
    bool preview;                /* effort texts of the April checkpoint */
    bool keep_reasoning;         /* of earlier turns; always so where tools are */
    bool continue_last;          /* the last message is the beginning of the answer */
};

/* Zero-initialise; free with chat_text_deinit. */
struct chat_text {
    struct buf text;
    struct text_range *trusted;  /* [n_trusted], ascending, apart */
    size_t n_trusted, room;
};

void chat_text_deinit(struct chat_text *t);

/* SLUICE_ERR_FORMAT names the message, what was expected and what was found. */
enum sluice_status chat_render(const struct chat_request *request, struct chat_text *out,
                               struct sluice_error *err);

#endif
