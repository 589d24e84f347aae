/* engine/request.h - one request on its way through the scheduler; states are in schedule.h. */
#ifndef SLUICE_ENGINE_REQUEST_H
#define SLUICE_ENGINE_REQUEST_H

#include <pthread.h>

#include "engine/constraint.h"
#include "engine/generate.h"
#include "engine/keep.h"
#include "engine/sampler.h"

enum request_state { REQUEST_QUEUED, REQUEST_RUNNING, REQUEST_DONE };

struct sluice_request {
    /* set once */
    struct schedule *schedule;
    int priority;
    uint64_t number;                 /* of submission */
    size_t n_prompt;
    /* scheduler's thread; before admission the submitter's */
    /* [n_ids] prompt and answer while no conversation holds them */
    int32_t *ids;
    size_t n_ids;
    struct conversation *c;          /* RUNNING only */
    struct sampler sampler;
    struct generate generate;
    struct constraint constraint;
    struct sluice_usage usage;
    double submitted, admitted, prefilled;
    bool first;                      /* the first token has come */
    int32_t place;                   /* in the queue, as last reported; -1: never */
    /* this step */
    int32_t rows;                    /* tokens that go in */
    int32_t logit;                   /* index among the step's logits, or -1 */
    /* under the schedule's lock */
    enum request_state state;
    bool cancelled;
    pthread_cond_t done;
};

/* Copies the options. SLUICE_ERR_ARG as in sluice_submit. */
enum sluice_status request_new(struct schedule *s, const struct vocab *vocab, int64_t context,
                               const struct sluice_request_options *options,
                               struct sluice_request **out, struct sluice_error *err);
void request_free(struct sluice_request *r);   /* accepts NULL; without a conversation */

#endif
