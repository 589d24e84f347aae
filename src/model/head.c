/* model/head.c - residual streams to logits, for the rows that need them (section 3.4). */
#include "model/run.h"

void head_logits(struct model_run *r)
{
    const struct head_weights *h = &r->c.weights->head;
    struct hyper_head_args mix = {
        .n_out = r->n_logits, .streams = r->s.n_stream, .dim = r->s.dim,
        .hc_eps = r->s.hc_eps, .rms_eps = r->s.rms_eps,
        .fn = h->hyper_fn, .base = h->hyper_base, .scale = h->hyper_scale, .norm = h->norm,
        .row = r->logit_row, .x = r->x, .y = r->head_y,
    };
    r->c.ops->hyper_head(r->c.ops->ctx, &mix);
    struct matmul_args out = {
        .n = r->n_logits, .n_w = 1, .x = r->head_y, .x_stride = r->s.dim,
        .w = {h->output}, .y = {r->logits},
    };
    r->c.ops->matmul(r->c.ops->ctx, &out);
    run_tap(r, TAP_HEAD, -1, r->logits, r->s.n_vocab);
}
