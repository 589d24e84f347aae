/* engine/constraint.h - where a request's answer stands in its grammar.
 *
 *   THINKING (anything but the end of the answer) --the end of thinking--> ANSWER (the grammar)
 *
 * Threads: the scheduler's only, after init. */
#ifndef SLUICE_ENGINE_CONSTRAINT_H
#define SLUICE_ENGINE_CONSTRAINT_H

#include "engine/generate.h"
#include "text/grammar.h"

/* Zero-initialised: nothing is constrained. */
struct constraint {
    struct grammar_state state;
    uint32_t *mask;                  /* [(n_vocab + 31) / 32]; NULL: no grammar */
    size_t words;
    int32_t eos;
};

/* SLUICE_ERR_ARG where what the answer was begun with is outside of the grammar. */
enum sluice_status constraint_init(struct constraint *c,
                                   const struct sluice_request_options *options,
                                   const struct vocab *vocab, struct sluice_error *err);
void constraint_deinit(struct constraint *c);

/* The tokens that may come next, or NULL: all. */
enum sluice_status constraint_mask(struct constraint *c, const struct generate *g,
                                   const uint32_t **mask, struct sluice_error *err);
/* Takes the next token; thinking: it is part of the thinking, or its end. */
enum sluice_status constraint_token(struct constraint *c, int32_t id, bool thinking,
                                    struct sluice_error *err);

#endif
