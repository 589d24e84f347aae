/* engine/generate.h - tokens of an answer to events: text, thinking, calls, the end.
 *
 *   THINKING --</think> or the budget's end--> ANSWER --stop token, stop string, length--> ended
 *
 * Stop strings count in the answer only, not in the thinking. Threads: the scheduler's only. */
#ifndef SLUICE_ENGINE_GENERATE_H
#define SLUICE_ENGINE_GENERATE_H

#include "engine/sampler.h"
#include "text/detok.h"
#include "text/reasoning.h"

struct generate {
    /* set once */
    const struct vocab *vocab;
    void (*on_event)(void *ctx, const struct sluice_event *event);
    void *ctx;
    bool raw, ignore_eos;
    int64_t max_tokens, think_budget;
    struct str *stop;                /* owned, [n_stop] */
    int n_stop;
    /* so far */
    struct detok detok;              /* of the thinking, then of the answer */
    bool thinking;                   /* until the end mark's token */
    struct reasoning reasoning;
    struct buf text;                 /* scratch */
    int32_t n_answer, n_reasoning, n_calls;
    bool cut;                        /* thinking was closed by its budget */
};

enum sluice_status generate_init(struct generate *g, const struct vocab *vocab,
                                 const struct sluice_request_options *options,
                                 struct sluice_error *err);
void generate_deinit(struct generate *g);

/* The token that must come next whatever the sampler says (the end of thinking when its budget is
 * spent), or -1. */
int32_t generate_forced(const struct generate *g);
/* Takes the next token. *ended: the answer is complete, *finish says how. */
enum sluice_status generate_token(struct generate *g, const struct sampler_result *token,
                                  bool *ended, enum sluice_finish *finish,
                                  struct sluice_error *err);
/* Hands out what was held back, then the last event. usage's token counts of the answer are filled
 * here. error: for SLUICE_FINISH_ERROR. */
void generate_done(struct generate *g, enum sluice_finish finish, struct sluice_usage usage,
                   const struct sluice_error *error);

#endif
