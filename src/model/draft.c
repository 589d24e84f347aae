/* model/draft.c - the MTP block (section 5.1): its own input, then the same layer and head code as
 * the trunk, as a run of one layer. */
#include "model/draft.h"

#include "base/check.h"
#include "model/run.h"

struct draft_run {
    struct model_run *run;
};

void draft_kv_layout(const struct shape *trunk, enum kv_format format, struct kv_layout *out)
{
    struct shape block;
    shape_mtp(trunk, &block);
    kv_layout_make(&block, 0, 1, format, out);
}

enum sluice_status draft_run_new(const struct draft_config *config, struct draft_run **out,
                                 struct sluice_error *err)
{
    *out = NULL;
    struct draft_run *d = calloc(1, sizeof(*d));
    FAIL_IF(!d, err, SLUICE_ERR_NOMEM, "out of memory for a draft");
    struct model_run_config c = {
        .shape = &config->weights->shape, .weights = config->weights, .ops = config->ops,
        .experts = config->experts, .layout = config->layout, .lo = 0, .hi = 1,
        .max_rows = config->max_rows, .max_spans = config->max_spans,
        .max_logits = config->max_logits, .max_positions = config->max_positions,
        .tap = config->tap,
    };
    enum sluice_status st = run_new(&c, /*mtp=*/true, &d->run, err);
    if (st != SLUICE_OK) {
        free(d);
        return st;
    }
    *out = d;
    return SLUICE_OK;
}

void draft_run_free(struct draft_run *d)
{
    if (!d)
        return;
    model_run_free(d->run);
    free(d);
}

static void norm(struct model_run *r, int64_t n, DEV const float *weight, DEV const float *x,
                 DEV float *y)
{
    struct rms_norm_args a = {
        .n = n, .dim = r->s.dim, .eps = r->s.rms_eps, .weight = weight, .x = x, .y = y,
    };
    r->c.ops->rms_norm(r->c.ops->ctx, &a);
}

static void project(struct model_run *r, const struct weight *w, DEV const float *x, DEV float *y)
{
    struct matmul_args a = {
        .n = r->rows.n, .n_w = 1, .x = x, .x_stride = r->s.dim, .w = {*w}, .y = {y},
    };
    r->c.ops->matmul(r->c.ops->ctx, &a);
}

/* x[s] = e_proj . norm(embed[token]) + h_proj . norm(streams[s]) */
static void draft_input(struct model_run *r, DEV const float *streams)
{
    const struct mtp_weights *m = &r->c.weights->mtp;
    int64_t n = r->rows.n, d = r->s.dim;
    struct embed_args embed = {
        .rows = &r->rows, .table = r->c.weights->embed, .streams = 1, .x = r->draft_e,
    };
    r->c.ops->embed(r->c.ops->ctx, &embed);
    norm(r, n, m->e_norm, r->draft_e, r->draft_e);
    project(r, &m->e_proj, r->draft_e, r->draft_a);

    norm(r, n * r->s.n_stream, m->h_norm, streams, r->draft_h);
    /* n rows at a time: the backend's scratch is planned for the rows of a batch, not for their
     * streams. */
    for (int64_t s = 0; s < r->s.n_stream; s++)
        project(r, &m->h_proj, r->draft_h + s * n * d, r->draft_b + s * n * d);

    struct add_streams_args add = {
        .n = r->rows.n, .streams = r->s.n_stream, .dim = d,
        .a = r->draft_a, .b = r->draft_b, .x = r->x,
    };
    r->c.ops->add_streams(r->c.ops->ctx, &add);
    run_tap(r, TAP_EMBED, -1, r->x, r->s.n_stream * d);
}

enum sluice_status draft_forward(struct draft_run *d, const struct batch *b,
                                 DEV const float *streams, struct sluice_error *err)
{
    struct model_run *r = d->run;
    TRY(run_begin(r, b, err));
    draft_input(r, streams);
    TRY(run_layers(r, err));
    if (b->n_logits)
        head_logits(r);
    run_end(r, b);
    return SLUICE_OK;
}

void draft_logits(struct draft_run *d, int32_t first, int32_t n, float *out)
{
    model_run_logits(d->run, first, n, out);
}

DEV const float *draft_streams(const struct draft_run *d)
{
    return model_run_streams(d->run);
}

void draft_streams_read(struct draft_run *d, float *streams, int32_t n)
{
    model_run_streams_read(d->run, streams, n);
}
