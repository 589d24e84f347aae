/* text/reasoning.h - splits thinking from answer while it streams (model-spec section 7.6), and the
 * whole reading of a completion: thinking, then content and calls (text/toolcall.h).
 *
 * Invariants: (1) the events, their texts joined, do not depend on how the input is cut;
 *             (2) a block of calls inside the thinking is thinking.
 *
 *   THINKING --"</think>"--> ANSWER     (a completion without thinking begins in ANSWER)
 *
 * Threads: as toolcall. */
#ifndef SLUICE_TEXT_REASONING_H
#define SLUICE_TEXT_REASONING_H

#include "text/toolcall.h"

/* Caller-owned; fields are private to reasoning.c. */
struct reasoning {
    struct toolcall calls;
    bool thinking;      /* still inside the thinking part */
    bool began;         /* a repeated "<think>" can no longer come */
    struct buf held;    /* may be the beginning of a mark */
};

/* thinking: the completion begins inside the thinking part. */
void reasoning_init(struct reasoning *r, bool thinking, struct answer_sink sink);
void reasoning_deinit(struct reasoning *r);

/* As toolcall_push and toolcall_finish. A completion that ends inside its thinking has no answer.
 */
enum sluice_status reasoning_push(struct reasoning *r, struct str text, struct sluice_error *err);
enum sluice_status reasoning_finish(struct reasoning *r, struct sluice_error *err);

/* A whole completion -> {"reasoning_content": "", "content": "", "tool_calls": [{"type":
 * "function", "function": {"name", "arguments"}}]}; a trailing end-of-sentence mark is dropped. The
 * caller owns *out. */
enum sluice_status answer_parse(struct str text, bool thinking, struct json_object **out,
                                struct sluice_error *err);

#endif
