/* model/hyper.c - residual streams before and after each half of a layer (sections 3.1, 3.2). */
#include "model/run.h"

void hyper_gather(struct model_run *r, int l, enum half h)
{
    const struct layer_weights *w = run_weights(r, l);
    const struct hyper_weights *hyper = h == HALF_ATTN ? &w->hyper_attn : &w->hyper_ffn;
    struct hyper_gather_args a = {
        .n = r->rows.n, .streams = r->s.n_stream, .sinkhorn_iters = r->s.sinkhorn_iters,
        .dim = r->s.dim, .hc_eps = r->s.hc_eps, .rms_eps = r->s.rms_eps,
        .fn = hyper->fn, .base = hyper->base, .scale = hyper->scale,
        .norm = h == HALF_ATTN ? w->attn_norm : w->ffn_norm,
        .x = r->x, .y = r->y, .mix = r->mix,
    };
    r->c.ops->hyper_gather(r->c.ops->ctx, &a);
    run_tap(r, h == HALF_ATTN ? TAP_GATHER_ATTN : TAP_GATHER_FFN, l, r->y, r->s.dim);
}

void hyper_spread(struct model_run *r, int l, enum half h)
{
    struct hyper_spread_args a = {
        .n = r->rows.n, .streams = r->s.n_stream, .dim = r->s.dim,
        .f = r->f, .mix = r->mix, .x = r->x,
    };
    r->c.ops->hyper_spread(r->c.ops->ctx, &a);
    run_tap(r, h == HALF_ATTN ? TAP_SPREAD_ATTN : TAP_LAYER_OUT, l, r->x,
            r->s.n_stream * r->s.dim);
}
