/* Panels: quantised batch rows packed for the products of a table that has `struct panels`.
 *
 * A matrix product packs all its rows once, before the loop over weights: part p of the rows (a
 * matrix of a grouped weight) has its panels side by side, then those of part p + 1. Experts gather
 * the rows that picked them, PANEL_BATCH panels at a time, in the worker's own room. */
#include "ops/cpu/cpu.h"

bool cpu_wants_panels(const struct cpu_ctx *ctx, enum quant_type type, int64_t n_rows)
{
    return ctx->leaf->panels && n_rows >= ctx->leaf->panels->from(type);
}

/* Up to PANEL_ROWS rows of the operand from row i on, n values of each. */
static void pack(const struct cpu_ctx *ctx, const struct operand *x, int64_t i, int64_t n,
                 enum act_kind kind, uint8_t *panel)
{
    struct act act[PANEL_ROWS];
    int rows = x->n - i < PANEL_ROWS ? (int)(x->n - i) : PANEL_ROWS;
    for (int k = 0; k < rows; k++)
        act[k] = cpu_operand_act(x, i + k, kind);
    ctx->leaf->panels->pack(act, rows, n, kind, panel);
}

/* ---- the rows of a matrix product ---- */

struct pack_job {
    const struct cpu_ctx *ctx;
    const struct operand *x;
    struct panel_set set;
    enum act_kind kind;
};

static void pack_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct pack_job *job = arg;
    for (int64_t at = first; at < last; at++) {
        int64_t group = at % job->set.groups, part = at / job->set.groups;
        struct operand x = *job->x;
        x.offset = part * job->set.n;
        pack(job->ctx, &x, group * PANEL_ROWS, job->set.n, job->kind,
             job->set.at + (size_t)at * job->set.stride);
    }
}

struct panel_set cpu_pack(struct cpu_ctx *ctx, const struct operand *x, int64_t part,
                          enum act_kind kind, size_t *used)
{
    struct panel_set set = {.n = part, .stride = ctx->leaf->panels->bytes(part, kind),
                            .groups = (x->n + PANEL_ROWS - 1) / PANEL_ROWS};
    int64_t items = set.groups * (x->width / part);
    if (*used + (size_t)items * set.stride > ctx->panel_room)
        return (struct panel_set){0};
    set.at = ctx->panels + *used;
    *used += (size_t)items * set.stride;
    struct pack_job job = {.ctx = ctx, .x = x, .set = set, .kind = kind};
    cpu_parallel(ctx, items, 1, pack_items, &job);
    return set;
}

const uint8_t *cpu_panel_at(const struct panel_set *set, int64_t row, int64_t part)
{
    if (!set->at)
        return NULL;
    return set->at + (size_t)(part * set->groups + row / PANEL_ROWS) * set->stride;
}

/* ---- the rows that picked an expert ---- */

void cpu_gather(const struct cpu_ctx *ctx, struct operand *x, enum act_kind kind, uint8_t *room)
{
    SLUICE_ASSERT(x->n <= PANEL_BATCH * PANEL_ROWS);
    size_t stride = ctx->leaf->panels->bytes(x->width, kind);
    for (int64_t i = 0; i < x->n; i += PANEL_ROWS)
        pack(ctx, x, i, x->width, kind, room + (size_t)(i / PANEL_ROWS) * stride);
    x->panels[kind] = room;
}
