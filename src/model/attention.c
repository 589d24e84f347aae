/* model/attention.c - the attention half of a layer (sections 3.6, 3.9, 3.10). What compressed
 * layers add is in compress.c and indexer.c. */
#include "model/run.h"

#include <math.h>

/* Everything that one matrix product over the layer's input gives at full precision of the
 * activations is in compress_project; these two may meet rounded ones. */
static void project(struct model_run *r, int l)
{
    const struct layer_weights *w = run_weights(r, l);
    struct ops *ops = r->c.ops;
    struct matmul_args in = {
        .n = r->rows.n, .n_w = 2, .x = r->y, .x_stride = r->s.dim,
        .w = {w->q_a, w->kv}, .y = {r->qr, r->kv},
    };
    ops->matmul(ops->ctx, &in);

    struct rms_norm_args norm = {
        .n = r->rows.n, .dim = r->s.q_rank, .eps = r->s.rms_eps,
        .weight = w->q_a_norm, .x = r->qr, .y = r->qr,
    };
    ops->rms_norm(ops->ctx, &norm);

    struct matmul_args up = {
        .n = r->rows.n, .n_w = run_scores(r, l) ? 2 : 1, .x = r->qr, .x_stride = r->s.q_rank,
        .w = {w->q_b, w->index_q_b}, .y = {r->q, r->index_q},
    };
    ops->matmul(ops->ctx, &up);
}

static void encode(struct model_run *r, int l)
{
    struct ops *ops = r->c.ops;
    struct query_args query = {
        .n = r->rows.n, .heads = r->s.n_head, .head_dim = r->s.head_dim, .rot_dim = r->s.rot_dim,
        .eps = r->s.rms_eps, .rope = run_rope(r, l), .q = r->q,
    };
    ops->query(ops->ctx, &query);
    run_tap(r, TAP_PROJECT, l, r->q, r->s.n_head * r->s.head_dim);

    struct kv_encode_args kv = {
        .n = r->rows.n, .head_dim = r->s.head_dim, .rot_dim = r->s.rot_dim, .eps = r->s.rms_eps,
        .format = r->c.layout->format, .norm = run_weights(r, l)->kv_norm,
        .rope = run_rope(r, l), .kv = r->kv, .rows = r->kv_rows,
    };
    ops->kv_encode(ops->ctx, &kv);
}

static void attend(struct model_run *r, int l)
{
    const struct kv_layer_layout *k = run_layout(r, l);
    bool selected = r->s.ratio[l] == 4;
    struct attention_args a = {
        .rows = &r->rows, .heads = r->s.n_head, .window = r->s.window, .ratio = r->s.ratio[l],
        .head_dim = r->s.head_dim, .rot_dim = r->s.rot_dim,
        .scale = (float)(1.0 / sqrt((double)r->s.head_dim)), .format = r->c.layout->format,
        .q = r->q, .batch_rows = r->kv_rows, .sinks = run_weights(r, l)->sinks,
        .rope = run_rope(r, l),
        .sel = selected ? r->sel : NULL, .sel_count = selected ? r->sel_count : NULL,
        .sel_stride = selected ? r->s.index_top_k : 0,
        .ring_offset = k->ring_offset, .ring_rows = k->ring_rows,
        .page_offset = k->page_offset, .page_tokens = KV_PAGE_TOKENS, .o = r->o,
    };
    r->c.ops->attention(r->c.ops->ctx, &a);
    run_tap(r, TAP_ATTEND, l, r->o, r->s.n_head * r->s.head_dim);

    /* After attention: a batch longer than the ring's slack overwrites rows that its first rows
     * still attend to. */
    struct ring_store_args store = {
        .rows = &r->rows, .row_bytes = r->c.layout->main_row_bytes, .batch_rows = r->kv_rows,
        .ring_offset = k->ring_offset, .ring_rows = k->ring_rows,
    };
    r->c.ops->ring_store(r->c.ops->ctx, &store);
}

/* Low-rank output: each group of heads through its matrix, then all together. */
static void project_out(struct model_run *r, int l)
{
    const struct layer_weights *w = run_weights(r, l);
    struct grouped_matmul_args low = {
        .n = r->rows.n, .w = w->output_a, .x = r->o, .y = r->low,
    };
    r->c.ops->grouped_matmul(r->c.ops->ctx, &low);
    struct matmul_args out = {
        .n = r->rows.n, .n_w = 1, .x = r->low, .x_stride = r->s.n_group * r->s.o_rank,
        .w = {w->output_b}, .y = {r->f},
    };
    r->c.ops->matmul(r->c.ops->ctx, &out);
    run_tap(r, TAP_ATTN_OUT, l, r->f, r->s.dim);
}

void attention(struct model_run *r, int l)
{
    project(r, l);
    encode(r, l);
    if (r->s.ratio[l]) {
        compress_project(r, l);
        compress_windows(r, l);
    }
    if (r->s.ratio[l] == 4)
        indexer_select(r, l);
    attend(r, l);
    project_out(r, l);
}
