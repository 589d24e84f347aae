/* Panels: batch rows, quantised or as they are, packed for the products of a table that has `struct
 * panels`.
 *
 * A matrix product packs all its rows once, before the loop over weights: part p of the rows (a
 * matrix of a grouped weight) has its panels side by side, then those of part p + 1. Experts gather
 * the rows that picked them, GATHER_PANELS panels at a time, in the worker's own room. */
#include "ops/cpu/cpu.h"

/* What each part may add to the bytes of a panel: it is rounded up. */
#define PART_SLACK (16 << 10)
/* Rows that one thread packs faster than others wake up. */
#define PACK_ALONE 4

bool cpu_wants_panels(const struct cpu_ctx *ctx, enum quant_type type, int64_t n_rows)
{
    return ctx->leaf->panels && n_rows >= ctx->leaf->panels->from(type);
}

int64_t cpu_pass_rows(const struct cpu_ctx *ctx)
{
    int64_t most = PANEL_MOST * PANEL_ROWS, rows = ctx->limits.max_rows;
    return ctx->leaf->panels && most < rows ? most : rows;
}

static size_t bytes_of(const struct cpu_ctx *ctx, int64_t n, int32_t parts, enum act_kind kind)
{
    return ctx->leaf->panels->bytes((n + 255) / 256 * 256, kind, PANEL_ROWS) +
           (size_t)(parts > 1 ? parts : 1) * PART_SLACK;
}

size_t cpu_panel_most(const struct cpu_ctx *ctx, int64_t n)
{
    size_t most = 0;
    for (enum act_kind k = ACT_NONE + 1; k < ACT_KINDS; k++) {
        size_t bytes = bytes_of(ctx, n, 1, k);
        most = bytes > most ? bytes : most;
    }
    return most;
}

size_t cpu_panel_all(const struct cpu_ctx *ctx, int64_t n, int32_t parts)
{
    size_t all = 0;
    for (enum act_kind k = ACT_NONE; k < ACT_KINDS; k++)
        all += bytes_of(ctx, n, parts, k);
    return all;
}

/* The columns of panels of n rows. */
static int columns_of(int64_t n)
{
    int columns = 1;
    while (columns < n && columns < PANEL_ROWS)
        columns *= 2;
    return columns;
}

/* Up to PANEL_ROWS rows of the operand from row i on. */
static void pack(const struct cpu_ctx *ctx, const struct operand *x, int64_t i,
                 const struct panel_form *form, uint8_t *panel)
{
    struct act act[PANEL_ROWS];
    int rows = x->n - i < PANEL_ROWS ? (int)(x->n - i) : PANEL_ROWS;
    for (int k = 0; k < rows; k++)
        act[k] = cpu_operand_act(x, i + k, form->kind);
    ctx->leaf->panels->pack(act, rows, form, panel);
}

/* ---- the rows of a matrix product ---- */

struct pack_job {
    const struct cpu_ctx *ctx;
    const struct operand *x;
    struct panel_set set;
    struct panel_form form;
};

static void pack_items(void *arg, int64_t first, int64_t last, int worker)
{
    const struct pack_job *job = arg;
    for (int64_t at = first; at < last; at++) {
        int64_t group = at % job->set.groups, part = at / job->set.groups;
        struct operand x = *job->x;
        x.offset = part * job->set.n;
        pack(job->ctx, &x, group * PANEL_ROWS, &job->form,
             job->set.at + (size_t)at * job->set.stride);
    }
}

struct panel_set cpu_pack(struct cpu_ctx *ctx, const struct operand *x, int64_t part,
                          enum act_kind kind, size_t *used)
{
    struct panel_form form = {.kind = kind, .n = part, .columns = columns_of(x->n)};
    struct panel_set set = {.columns = form.columns,
                            .groups = (x->n + PANEL_ROWS - 1) / PANEL_ROWS, .n = part};
    set.stride = ctx->leaf->panels->bytes(part, kind, form.columns);
    int64_t items = set.groups * (x->width / part);
    set.at = ctx->panels + *used;
    *used += (size_t)items * set.stride;
    SLUICE_ASSERT(*used <= ctx->panel_room);
    struct pack_job job = {.ctx = ctx, .x = x, .set = set, .form = form};
    cpu_parallel(ctx, items, x->n <= PACK_ALONE ? items : 1, pack_items, &job);
    return set;
}

struct panel_view cpu_panel_view(const struct panel_set *set, int64_t row, int64_t n, int64_t part)
{
    if (!set->at)
        return (struct panel_view){0};
    int64_t panel = part * set->groups + row / PANEL_ROWS;
    return (struct panel_view){.at = set->at + (size_t)panel * set->stride, .stride = set->stride,
                               .columns = set->columns, .n = (int)n};
}

/* ---- the rows that picked an expert ---- */

void cpu_gather(const struct cpu_ctx *ctx, struct operand *x, enum act_kind kind, uint8_t *room)
{
    SLUICE_ASSERT(x->n <= GATHER_PANELS * PANEL_ROWS);
    struct panel_form form = {.kind = kind, .n = x->width, .columns = columns_of(x->n)};
    struct panel_view view = {.at = room, .columns = form.columns, .n = (int)x->n};
    view.stride = ctx->leaf->panels->bytes(x->width, kind, form.columns);
    for (int64_t i = 0; i < x->n; i += PANEL_ROWS)
        pack(ctx, x, i, &form, room + (size_t)(i / PANEL_ROWS) * view.stride);
    x->panels[kind] = view;
}
