/* engine/request.c - see request.h. */
#include "engine/request.h"

#include <stdlib.h>
#include <string.h>

#include "os/clock.h"

static enum sluice_status check(const struct vocab *vocab, int64_t context,
                                const struct sluice_request_options *o, struct sluice_error *err)
{
    FAIL_IF(o->n_prompt == 0 || !o->prompt, err, SLUICE_ERR_ARG,
            "prompt: expected at least one token, found none");
    FAIL_IF((int64_t)o->n_prompt >= context, err, SLUICE_ERR_LIMIT,
            "prompt of %zu tokens: the context is %lld tokens, and the answer needs at least one",
            o->n_prompt, (long long)context);
    for (size_t i = 0; i < o->n_prompt; i++)
        if (o->prompt[i] < 0 || o->prompt[i] >= vocab_count(vocab))
            return status_fail(err, SLUICE_ERR_ARG, (int64_t)i,
                               "prompt token %zu: expected an id from 0 to %d, found %d", i,
                               vocab_count(vocab) - 1, o->prompt[i]);
    FAIL_IF(o->max_tokens < 0, err, SLUICE_ERR_ARG,
            "max_tokens: expected 1 or more, found %lld", (long long)o->max_tokens);
    FAIL_IF(o->think_budget < 0, err, SLUICE_ERR_ARG,
            "thinking budget: expected 1 or more tokens, found %lld", (long long)o->think_budget);
    return SLUICE_OK;
}

enum sluice_status request_new(struct schedule *s, const struct vocab *vocab, int64_t context,
                               const struct sluice_request_options *options,
                               struct sluice_request **out, struct sluice_error *err)
{
    *out = NULL;
    TRY(check(vocab, context, options, err));
    struct sluice_request *r = calloc(1, sizeof *r);
    FAIL_IF(!r, err, SLUICE_ERR_NOMEM, "out of memory for a request");
    r->schedule = s;
    r->priority = options->priority;
    r->n_prompt = r->n_ids = options->n_prompt;
    r->submitted = clock_seconds();
    r->place = -1;
    pthread_cond_init(&r->done, NULL);
    struct sluice_request_options o = *options;
    int64_t most = context - (int64_t)options->n_prompt;
    if (o.max_tokens == 0 || o.max_tokens > most)
        o.max_tokens = most;
    enum sluice_status st;
    r->ids = malloc(r->n_ids * sizeof *r->ids);
    if (!r->ids) {
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a prompt");
        goto out;
    }
    memcpy(r->ids, options->prompt, r->n_ids * sizeof *r->ids);
    TRY_OUT(sampler_init(&r->sampler, &options->sampling, vocab_count(vocab), err));
    sampler_note(&r->sampler, r->ids, r->n_ids, /*answer=*/false);
    TRY_OUT(generate_init(&r->generate, vocab, &o, err));
    TRY_OUT(constraint_init(&r->constraint, &o, vocab, err));
    *out = r;
    r = NULL;
out:
    request_free(r);
    return st;
}

void request_free(struct sluice_request *r)
{
    if (!r)
        return;
    constraint_deinit(&r->constraint);
    generate_deinit(&r->generate);
    sampler_deinit(&r->sampler);
    pthread_cond_destroy(&r->done);
    free(r->ids);
    free(r);
}
