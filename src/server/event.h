/* server/event.h - an answer while it comes and when it is whole, in no API's terms. */
#ifndef SLUICE_SERVER_EVENT_H
#define SLUICE_SERVER_EVENT_H

#include "base/buf.h"
#include "base/str.h"
#include "server/fault.h"
#include "sluice.h"

#define ANSWER_ID 48 /* bytes of an id, with its NUL */

struct answer_call {
    char id[ANSWER_ID];
    char *name; /* as the model knows it */
    struct buf args; /* a JSON object when the call is whole */
    bool broken; /* it was being sent when it turned out to be none, or when the answer ended: its
                    arguments stay an open JSON text */
};

/* A token of the visible answer, with what was as likely. */
struct answer_token {
    int32_t id;
    float logprob;
    int32_t first, n; /* of answer.top */
};

/* One of the answers to a request; grows until done. */
struct answer {
    struct buf reasoning, content;
    struct answer_call *call; /* [n_call] */
    int n_call;
    struct answer_token *token; /* [n_token]; only if logprobs were asked for */
    int32_t n_token;
    struct sluice_logprob *top; /* [n_top] */
    int32_t n_top;
    bool malformed; /* it holds a call that could not be read: as text, or broken */
    bool done;
    enum sluice_finish finish;
    char *stop; /* the stop string found, or NULL */
    struct sluice_usage usage;
};

enum event_kind {
    EVENT_REASONING, /* text */
    EVENT_CONTENT, /* text */
    EVENT_CALL_BEGIN, /* call: its id and name */
    EVENT_CALL_ARGS, /* call, text: the next piece of its arguments */
    EVENT_CALL_END, /* call: whole or broken */
    EVENT_END, /* of this answer */
};

struct event_out {
    enum event_kind kind;
    int index; /* of the answer */
    const struct answer *answer; /* with the event already in it */
    struct str text;
    int call; /* index of answer->call */
    int32_t token; /* tokens of answer->token from here on are new */
};

/* What an encoder may ask of a request that it writes for. */
struct reply {
    const struct ask *ask;
    const struct source *source;
    const char *model; /* the name to say */
    char id[ANSWER_ID]; /* without an API's prefix */
    int64_t created; /* Unix time */
    int n_prompt; /* tokens of all prompts */
    struct answer *answer; /* [n] */
    int n;
};

/* The sum of the answers' usage; the prompt counts once. */
struct sluice_usage reply_usage(const struct reply *r);

/* How one API writes answers. The functions append to out and fail only by out's own status.
 * Stateless ones have state_size 0. */
struct encoder {
    const char *stream_type; /* content type of a stream */
    /* Do its clients leave a call alone that they got in part: one that the answer's limit cut, one
     * that is malformed? Else the stream fails, because some run what they have. */
    bool tells_cut, tells_malformed;
    size_t state_size; /* zeroed memory that the stream functions get */
    void (*state_deinit)(void *state);
    void (*begin)(void *state, const struct reply *r, struct buf *out);
    void (*event)(void *state, const struct reply *r, const struct event_out *e, struct buf *out);
    /* done of total prompt tokens are read; total 0: not known */
    void (*alive)(void *state, const struct reply *r, int64_t done, int64_t total, struct buf *out);
    void (*end)(void *state, const struct reply *r, struct buf *out);
    /* An error after the stream began; the stream ends with it. */
    void (*failed)(void *state, const struct reply *r, const struct fault *f, struct buf *out);
    /* The reply to a request that is not streamed. */
    void (*whole)(const struct reply *r, struct buf *out);
    void (*fault)(const struct fault *f, struct buf *out);
};

/* "stop", "length", "tool_calls" and so on: the word of Chat Completions. */
const char *answer_finish_word(const struct answer *a);
/* {"prompt_n", "prompt_ms", ...}: times, as llama.cpp's clients read them. */
void answer_write_timings(const struct sluice_usage *u, struct buf *out);

#endif
