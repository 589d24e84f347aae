/* model/router.c - which experts a row meets, and with what weight (section 3.11). The picks stay
 * where the ops run. */
#include "model/run.h"

void router_pick(struct model_run *r, int l)
{
    const struct layer_weights *w = run_weights(r, l);
    struct matmul_args logits = {
        .n = r->rows.n, .n_w = 1, .f32_activations = true, .x = r->y, .x_stride = r->s.dim,
        .w = {w->router}, .y = {r->router_logits},
    };
    r->c.ops->matmul(r->c.ops->ctx, &logits);
    struct route_args route = {
        .rows = &r->rows, .n_expert = r->s.n_expert, .n_used = r->s.n_used,
        .scale = r->s.expert_scale, .logits = r->router_logits,
        .bias = w->bias, .token_to_expert = w->token_to_expert,
        .ids = r->ids, .weights = r->id_weights,
    };
    r->c.ops->route(r->c.ops->ctx, &route);
    run_tap(r, TAP_ROUTE, l, r->id_weights, r->s.n_used);
}
