/* model/forward.c - the forward pass as a table of contents (section 3). Every step has its file;
 * start reading here. */
#include "model/run.h"

enum sluice_status run_layers(struct model_run *r, struct sluice_error *err)
{
    for (int l = r->c.lo; l < r->c.hi; l++) {
        hyper_gather(r, l, HALF_ATTN);               /* x -> y [n][D]                         */
        attention(r, l);                             /* y -> f [n][D], appends to KV state    */
        hyper_spread(r, l, HALF_ATTN);               /* f -> x [n][S][D]                      */
        hyper_gather(r, l, HALF_FFN);                /* x -> y                                */
        router_pick(r, l);                           /* y -> ids, weights [n][K]              */
        TRY(experts_apply(r, l, err));               /* y, picks -> f; leases experts         */
        hyper_spread(r, l, HALF_FFN);                /* f -> x                                */
    }
    return SLUICE_OK;
}

enum sluice_status forward(struct model_run *r, const struct batch *b, struct sluice_error *err)
{
    TRY(run_begin(r, b, err));                       /* batch -> row table; KV pages          */
    if (r->c.lo == 0)
        embed_tokens(r);                             /* ids -> x [n][S][D]                    */
    run_tap(r, TAP_EMBED, -1, r->x, r->s.n_stream * r->s.dim);
    TRY(run_layers(r, err));
    if (b->n_logits)
        head_logits(r);                              /* x -> logits [n_logits][V]             */
    run_end(r, b);
    return SLUICE_OK;
}
