/* server/generate.h - a request's answers while they come; private to generate.c,
 * answer_events.c and again.c. */
#ifndef SLUICE_SERVER_GENERATE_H
#define SLUICE_SERVER_GENERATE_H

#include "server/server_internal.h"
#include "text/reasoning.h"

enum choice_state { CHOICE_QUEUED, CHOICE_PREFILL, CHOICE_DECODE, CHOICE_DONE };
struct choice;

/* The last event; part of the choice, so that it cannot fail to come. */
struct ending {
    struct loop_post post;
    struct choice *c;
    enum sluice_finish finish;
    int stop; /* index among the ask's, or -1 */
    struct sluice_usage usage;
    struct sluice_error error;
};

struct choice {
    struct gen *g;
    int index;
    struct source_request *r;
    struct reasoning parser;
    struct answer *answer;
    struct buf raw; /* everything that came, thinking included */
    struct answer_call open; /* a call that has begun and was not shown */
    bool call_open, call_shown; /* shown: it is the answer's last */
    bool cut; /* nothing after this place is read */
    bool was_cut; /* it was so when the source's request ended */
    bool aside; /* raw has a block from block_at on that cannot be read: go on from there */
    size_t block_at;
    int32_t spent; /* tokens of the answer, of requests to the source that ended */
    enum choice_state state;
    int64_t read, total, cached, place;
    int64_t n_token;
    int32_t told; /* tokens of the answer that an event has shown */
    struct ending ending;
    /* any thread */
    atomic_bool lost; /* an event could not be kept */
};

struct gen {
    struct gen *next, **slot;
    struct server *s;
    struct exchange *x;
    const struct api *api;
    struct reply reply;
    struct choice *choice; /* [reply.n] */
    struct sluice_tokens *prompts; /* [ask_prompts] */
    struct sluice_grammar *grammar; /* or NULL */
    bool cancelled;
    int running;
    struct event *alive;
    void *state; /* of the encoder */
    struct buf out;
    bool begun, over; /* the stream; everything that is sent */
    double started, wrote;
};

/* ---- generate.c; the loop's thread ---- */

/* Asks the source for the rest of the answer. */
enum sluice_status choice_submit(struct choice *c, const struct sluice_tokens *prompt,
                                 struct sluice_grammar *grammar, struct sluice_error *err);
void choice_emit(struct choice *c, struct event_out *e);
/* The answer is whole: tells the client, and ends the choice. */
void choice_conclude(struct choice *c);
/* The reply ends with the fault, if it has not ended. */
void gen_fail(struct gen *g, const struct fault *f);

/* ---- answer_events.c ---- */

void choice_on_answer(void *choice, const struct answer_event *e);
/* A call that was open and not sent is none. */
void choice_drop_call(struct choice *c);
/* Nothing more of the source's answer is wanted. */
void choice_cut(struct choice *c);

/* ---- again.c ---- */

/* The parser gives up a block of calls. True if it is put aside: nothing of it was sent, and
 * another may be asked for. */
bool again_put_aside(struct choice *c);
/* Begins to ask for another; false if that is not possible. */
bool again_ask(struct choice *c);
/* What was put aside is text after all. */
void again_bring_back(struct choice *c);

#endif
