/* model/tap.c - what observers use. */
#include "model/tap.h"

#include "base/check.h"

void tap_read(const struct tap_event *e, float *out)
{
    SLUICE_ASSERT(e->data);
    e->ops->download(e->ops->ctx, out, e->data, (size_t)e->n * (size_t)e->width * sizeof(float));
}

void tap_read_ids(const struct tap_event *e, int32_t *out)
{
    SLUICE_ASSERT(e->ids);
    e->ops->download(e->ops->ctx, out, e->ids, (size_t)e->n * (size_t)e->n_ids * sizeof(int32_t));
}

const char *tap_stage_name(enum tap_stage stage)
{
    static const char *const name[TAP_STAGES] = {
        "embed", "gather_attn", "project", "compress", "index", "attend", "attn_out",
        "spread_attn", "gather_ffn", "route", "experts", "layer_out", "head",
    };
    SLUICE_ASSERT(stage < TAP_STAGES);
    return name[stage];
}
