/* model/indexer.c - which compressed entries a row of a ratio-4 layer attends to (section 3.8). */
#include "model/run.h"

#include <math.h>

void indexer_select(struct model_run *r, int l)
{
    const struct shape *s = &r->s;
    struct index_query_args query = {
        .n = r->rows.n, .heads = s->n_index_head, .dim = s->index_dim, .rot_dim = s->rot_dim,
        .format = r->c.layout->format, .rope = run_rope(r, l), .q = r->index_q,
    };
    if (run_scores(r, l))
        r->c.ops->index_query(r->c.ops->ctx, &query);

    struct index_select_args select = {
        .rows = &r->rows, .heads = s->n_index_head, .ratio = s->ratio[l],
        .top_k = s->index_top_k, .dim = s->index_dim,
        .weight_scale = (float)(1.0 / sqrt((double)(s->index_dim * s->n_index_head))),
        .format = r->c.layout->format, .q = r->index_q, .w = r->index_w,
        .page_offset = run_layout(r, l)->index_page_offset, .page_tokens = KV_PAGE_TOKENS,
        .sel = r->sel, .count = r->sel_count,
    };
    r->c.ops->index_select(r->c.ops->ctx, &select);
    run_tap(r, TAP_INDEX, l, NULL, 0);
}
