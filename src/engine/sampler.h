/* engine/sampler.h - logits to the next token.
 *
 * Order: bias, penalties, mask, (greedy: argmax, lowest id of equals), temperature, top_k, top_p,
 * min_p, draw. The draw for the i-th token of an answer is a hash of (seed, i): the same seed gives
 * the same text whatever ran beside it. Sums run in float64 in one order: candidates by id, or,
 * with top_k or top_p, from the most likely down and equals by id.
 *
 * Threads: a sampler belongs to one thread at a time. */
#ifndef SLUICE_ENGINE_SAMPLER_H
#define SLUICE_ENGINE_SAMPLER_H

#include "base/status.h"
#include "sluice.h"

struct sampler_candidate {
    float logit;
    int32_t id;
};

struct sampler {
    struct sluice_sampling s;        /* bias: owned copy */
    int32_t n_vocab;
    float *logits;                   /* [V] scratch */
    struct sampler_candidate *pick;  /* [V] scratch */
    uint32_t *n_prompt, *n_answer;   /* [V] how often a token occurred; NULL without penalties */
};

/* What a pick reports. */
struct sampler_result {
    int32_t id;
    struct sluice_logprob own;
    int32_t n_top;
    struct sluice_logprob top[20];
};

/* SLUICE_ERR_ARG names the value, what was expected and what was found. */
enum sluice_status sampler_init(struct sampler *s, const struct sluice_sampling *sampling,
                                int32_t n_vocab, struct sluice_error *err);
void sampler_deinit(struct sampler *s);
/* Takes note of tokens for the penalties. */
void sampler_note(struct sampler *s, const int32_t *ids, size_t n, bool answer);
/* The token number i of the answer from logits [V], which are left alone. mask: bits of the tokens
 * that may be picked (text/grammar.h), or NULL: all. out->id is -1 if none may: by the mask, or by
 * the bias among those. What is reported as likely is the model's own, whatever the mask. */
void sampler_pick(struct sampler *s, const float *logits, const uint32_t *mask, uint64_t i,
                  struct sampler_result *out);

#endif
