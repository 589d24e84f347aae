/* model/experts.c - routed and shared experts of a layer, over a lease of their bytes
 * (section 3.11).
 *
 * Resident layer: the ops find expert e at base + e * stride; nothing is read back from the device.
 * Any other layer: the picks are downloaded, just those experts are leased, and a table tells the
 * ops where each lies. */
#include "model/run.h"

#include "base/check.h"

/* The picks of all rows, then the places of their experts, into the device's slot table. */
static enum sluice_status lease_picked(struct model_run *r, int layer, struct expert_lease *lease,
                                       struct sluice_error *err)
{
    struct ops *ops = r->c.ops;
    int n = r->rows.n * r->s.n_used;
    ops->download(ops->ctx, r->ids_host, r->ids, (size_t)n * sizeof(int32_t));
    TRY(expert_store_acquire(r->c.experts, layer, r->ids_host, n, lease, err));
    for (int e = 0; e < r->s.n_expert; e++)
        r->slots_host[e] = (struct expert_slot){
            .gate = lease->place[e].gate, .up = lease->place[e].up, .down = lease->place[e].down,
        };
    ops->upload(ops->ctx, r->slots, r->slots_host,
                (size_t)r->s.n_expert * sizeof(*r->slots_host));
    return SLUICE_OK;
}

enum sluice_status experts_apply(struct model_run *r, int l, struct sluice_error *err)
{
    const struct layer_weights *w = run_weights(r, l);
    struct ops *ops = r->c.ops;
    int layer = l - r->c.lo;
    bool resident = expert_store_resident(r->c.experts, layer);
    struct expert_lease lease;
    if (resident)
        TRY(expert_store_acquire(r->c.experts, layer, NULL, 0, &lease, err));
    else
        TRY(lease_picked(r, layer, &lease, err));

    struct experts_args a = {
        .n = r->rows.n, .n_expert = r->s.n_expert, .n_used = r->s.n_used,
        .table = {
            .gate_type = w->gate.type, .up_type = w->up.type, .down_type = w->down.type,
            .n_in = r->s.dim, .n_inner = r->s.inner,
            .gate = lease.all.gate, .gate_stride = lease.all.gate_stride,
            .up = lease.all.up, .up_stride = lease.all.up_stride,
            .down = lease.all.down, .down_stride = lease.all.down_stride,
            .slot = resident ? NULL : r->slots,
        },
        .limit = r->s.limit[l], .shared_limit = r->s.shared_limit[l],
        .shared_gate = w->shared_gate, .shared_up = w->shared_up, .shared_down = w->shared_down,
        .ids = r->ids, .weights = r->id_weights, .x = r->y, .y = r->f,
    };
    ops->experts(ops->ctx, &a);
    /* A lease that can be evicted must outlast the op that reads it. */
    if (!resident)
        ops->sync(ops->ctx);
    expert_store_release(r->c.experts, &lease);
    run_tap(r, TAP_EXPERTS, l, r->f, r->s.dim);
    return SLUICE_OK;
}
