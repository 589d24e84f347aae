/* engine/profile.c - seconds of a step by part, from the model's taps. */
#include "engine/engine.h"
#include "os/clock.h"

static const enum sluice_stage stage_of[TAP_STAGES] = {
    [TAP_EMBED] = SLUICE_STAGE_EMBED,          [TAP_GATHER_ATTN] = SLUICE_STAGE_HYPER,
    [TAP_PROJECT] = SLUICE_STAGE_ATTENTION,    [TAP_COMPRESS] = SLUICE_STAGE_COMPRESSOR,
    [TAP_INDEX] = SLUICE_STAGE_INDEXER,        [TAP_ATTEND] = SLUICE_STAGE_ATTENTION,
    [TAP_ATTN_OUT] = SLUICE_STAGE_ATTENTION,   [TAP_SPREAD_ATTN] = SLUICE_STAGE_HYPER,
    [TAP_GATHER_FFN] = SLUICE_STAGE_HYPER,     [TAP_ROUTE] = SLUICE_STAGE_ROUTER,
    [TAP_EXPERTS] = SLUICE_STAGE_EXPERTS,      [TAP_LAYER_OUT] = SLUICE_STAGE_HYPER,
    [TAP_HEAD] = SLUICE_STAGE_HEAD,
};

static void observe(void *ctx, const struct tap_event *event)
{
    struct sluice *e = ctx;
    e->ops.sync(e->ops.ctx);
    double now = clock_seconds();
    e->profile[stage_of[event->stage]] += now - e->profile_at;
    e->profile_at = now;
}

void engine_profile_init(struct sluice *e)
{
    e->tap = (struct tap){.ctx = e, .fn = observe};
}

void engine_profile_begin(struct sluice *e, double *seconds)
{
    e->profile = seconds;
    e->tap.stages = seconds ? (1u << TAP_STAGES) - 1 : 0;
    e->profile_at = clock_seconds();
}

void engine_profile_end(struct sluice *e)
{
    e->tap.stages = 0;
}

const char *sluice_stage_name(enum sluice_stage stage)
{
    static const char *const names[SLUICE_STAGES] = {
        "embed", "hyper", "attention", "compressor", "indexer", "router", "experts", "head"};
    return names[stage];
}
