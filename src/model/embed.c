/* model/embed.c - token ids to residual streams (section 3.0). */
#include "model/run.h"

void embed_tokens(struct model_run *r)
{
    struct embed_args a = {
        .rows = &r->rows, .table = r->c.weights->embed, .streams = r->s.n_stream, .x = r->x,
    };
    r->c.ops->embed(r->c.ops->ctx, &a);
}
