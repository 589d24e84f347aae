/* model/compress.c - the KV compressors of ratio-4 and ratio-128 layers, and the indexer's
 * (section 3.7).
 *
 * An entry pools the tokens of a window when the window closes. Which windows close, and which
 * older tokens they need, follows from the positions of the batch's rows alone: the tails are rings
 * by absolute position (kv_state.h), so there is no window state to carry or to roll back. */
#include "model/run.h"

void compress_project(struct model_run *r, int l)
{
    const struct layer_weights *w = run_weights(r, l);
    struct matmul_args a = {
        .n = r->rows.n, .n_w = run_scores(r, l) ? 5 : r->s.ratio[l] == 4 ? 4 : 2,
        .f32_activations = true,
        .x = r->y, .x_stride = r->s.dim,
        .w = {w->compress.kv, w->compress.gate, w->index_compress.kv, w->index_compress.gate,
              w->index_proj},
        .y = {r->u, r->z, r->index_u, r->index_z, r->index_w},
    };
    r->c.ops->matmul(r->c.ops->ctx, &a);
}

void compress_windows(struct model_run *r, int l)
{
    const struct layer_weights *w = run_weights(r, l);
    const struct kv_layer_layout *k = run_layout(r, l);
    struct compress_args a = {
        .rows = &r->rows, .ratio = r->s.ratio[l], .index = false,
        .dim = r->s.head_dim, .rot_dim = r->s.rot_dim, .eps = r->s.rms_eps,
        .format = r->c.layout->format, .u = r->u, .z = r->z,
        .ape = w->compress.ape, .norm = w->compress.norm, .freq = r->freq_compressed,
        .tail_offset = k->tail_offset, .tail_rows = k->tail_rows,
        .page_offset = k->page_offset, .page_tokens = KV_PAGE_TOKENS,
    };
    r->c.ops->compress(r->c.ops->ctx, &a);
    if (r->s.ratio[l] == 4) {
        a.index = true;
        a.dim = r->s.index_dim;
        a.u = r->index_u;
        a.z = r->index_z;
        a.ape = w->index_compress.ape;
        a.norm = w->index_compress.norm;
        a.tail_offset = k->index_tail_offset;
        a.tail_rows = k->index_tail_rows;
        a.page_offset = k->index_page_offset;
        r->c.ops->compress(r->c.ops->ctx, &a);
    }
    run_tap(r, TAP_COMPRESS, l, NULL, 0);
}
