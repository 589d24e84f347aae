/* ops/cpu/cpu.h - the fast CPU backend; private to this folder and ops/open.c.
 *
 * The ops are written once over a table of leaves (leaf.h); one table per instruction set. Scratch
 * is laid out by plan():
 *
 *   | worker 0 | worker 1 | ... | acts, by kind | panels | inner act | inner | expert out | mix |
 *   | score |
 *
 *   worker: tile, rows of float32 weights, results of a tile, then what the op at hand needs.
 *
 * Invariants: (1) an op's result for a row depends on nothing but that row's inputs; (2) nothing is
 * allocated outside open, plan and alloc; (3) a worker writes only its own scratch and the outputs
 * of the items it claimed. */
#ifndef SLUICE_OPS_CPU_CPU_H
#define SLUICE_OPS_CPU_CPU_H

#include "base/check.h"
#include "ops/cpu/leaf.h"
#include "ops/ops.h"
#include "ops/ref/ref.h"
#include "os/cpu.h"

/* Query heads that share a decoded key row at least, and keys decoded at a time without tiles. */
#define ATTEND_HEADS 16
#define ATTEND_KEYS 16
/* Scores of the indexer kept at a time, in floats, if a single row does not need more. */
#define SCORE_ROOM (1 << 22)

struct cpu_ctx {
    /* set once */
    struct pool *pool;             /* borrowed */
    const struct leaves *leaf;
    /* set by plan */
    struct ops_limits limits;
    uint8_t *scratch;              /* owned */
    size_t worker_bytes;
    struct cpu_work *workers;      /* [threads] */
    int64_t max_act;               /* values of the widest activation row */
    uint8_t *act[ACT_KINDS];       /* [max_rows] rows; of ACT_NONE none */
    size_t act_stride;
    uint8_t *panels;               /* [panel_room] of the op at hand; where the leaves have them */
    size_t panel_room, gather_room;
    uint8_t *inner_act;            /* [max_rows * (K + 1)] */
    size_t inner_stride;
    float *inner;                  /* [max_rows * (K + 1)][F] */
    float *expert_out;             /* [max_rows * (K + 1)][D] */
    float *mix;                    /* [max_rows][S * (S + 2)] */
    float *score;                  /* [score_room] */
    int64_t score_room;
    int32_t *expert_first;         /* [E + 2] into expert_slot */
    int32_t *expert_slot;          /* [max_rows * (K + 1)] row * (K + 1) + slot, by expert */
    int32_t *expert_used;          /* [E + 1] experts with rows */
    /* what the reference's stateless ops need */
    struct ref_ctx scalar;
};

/* A worker's part of the scratch. */
struct cpu_work {
    struct tile tile;
    float *rows;                   /* [DOTS_W][widest row] */
    float (*tile_out)[TILE_ROWS];  /* [max_rows] */
    float *out[2];                 /* [rows of a pass][cpu_tile_rows] each */
    uint8_t *gather[2];            /* [gather_room] each: GATHER_PANELS panels */
    float *sums;                   /* [PANEL_SUMS] */
    float *free;                   /* the rest: attention, indexer */
};
struct cpu_work cpu_worker(const struct cpu_ctx *ctx, int worker);

/* Runs fn over n items in pieces of at least `least`: a piece should be worth the few microseconds
 * that waking a thread takes. */
void cpu_parallel(struct cpu_ctx *ctx, int64_t n, int64_t least, pool_fn fn, void *arg);

/* ---- matmul_cpu.c ---- */

size_t cpu_act_bytes(int64_t n);
/* Rows of n values, of which each `part` is an operand of its own. */
struct float_rows {
    const float *x;
    int64_t stride, n_rows, n, part;
};
void cpu_quantise(struct cpu_ctx *ctx, const struct float_rows *rows, enum act_kind kind);
/* The values [offset, ...) of row i of an area of rows of n values; the offset begins a part. */
struct act cpu_act(uint8_t *area, size_t stride, int64_t i, int64_t n, int64_t offset,
                   enum act_kind kind);

/* Packed rows of an operand: parts of n values, each `groups` panels side by side. */
struct panel_set {
    uint8_t *at;                   /* NULL: none */
    size_t stride;                 /* bytes of a panel */
    int64_t n, groups;
    int columns;
};

/* The batch rows that meet a weight. */
struct operand {
    int64_t n;
    const int32_t *pick;           /* row of the i-th is pick[i] / pick_div; NULL: i */
    int32_t pick_div;
    int64_t first;                 /* added to the row */
    const float *x;                /* float32 rows */
    int64_t x_stride;
    uint8_t *const *act;           /* [ACT_KINDS] quantised rows */
    size_t act_stride;
    int64_t width, offset;         /* values of a whole row; where the operand begins in it */
    bool exact;                    /* float32 activations whatever the weight */
    /* [ACT_KINDS] the same rows as panels; at NULL: not packed */
    struct panel_view panels[ACT_KINDS];
};
/* Row i, quantised; of ACT_NONE as it is, in d. */
struct act cpu_operand_act(const struct operand *x, int64_t i, enum act_kind kind);

struct weight_rows {
    enum quant_type type;
    const uint8_t *data;
    int64_t n_in, n_out;
};
/* Weight rows of a call of cpu_tile at most, and of the smallest call that is worth it. */
int cpu_tile_rows(const struct cpu_ctx *ctx);
int cpu_tile_unit(const struct cpu_ctx *ctx);
/* Rows [first, first + n_rows) of a weight; n_rows <= cpu_tile_rows. */
struct tile_call {
    const struct cpu_ctx *ctx;
    int worker;
    const struct weight_rows *w;
    int64_t first;
    int n_rows;
};
/* out[i * stride + r] = row first + r of the weight . row i of x */
void cpu_tile(const struct tile_call *call, const struct operand *x, float *out, int64_t stride);

/* ---- panels_cpu.c ---- */

/* Panels of an expert's rows that are gathered at a time. */
#define GATHER_PANELS 8

/* Whether that many rows are met as panels by weights of a type. */
bool cpu_wants_panels(const struct cpu_ctx *ctx, enum quant_type type, int64_t n_rows);
/* Batch rows that cpu_tile takes at a time. */
int64_t cpu_pass_rows(const struct cpu_ctx *ctx);
/* Packs the rows of x in parts of `part` values. The set lies behind the first *used
 * bytes of ctx->panels, which grow by it. */
struct panel_set cpu_pack(struct cpu_ctx *ctx, const struct operand *x, int64_t part,
                          enum act_kind kind, size_t *used);
/* n rows of a part from `row` on, a multiple of PANEL_ROWS; at NULL of an empty set. */
struct panel_view cpu_panel_view(const struct panel_set *set, int64_t row, int64_t n, int64_t part);
/* Packs whole rows, at most GATHER_PANELS panels of them, into room[gather_room]: x->panels. */
void cpu_gather(const struct cpu_ctx *ctx, struct operand *x, enum act_kind kind, uint8_t *room);
/* Bytes that a panel of whole rows of up to n values takes at most, quantised; and that panels of
 * every kind take together, in up to `parts` parts. */
size_t cpu_panel_most(const struct cpu_ctx *ctx, int64_t n);
size_t cpu_panel_all(const struct cpu_ctx *ctx, int64_t n, int32_t parts);

/* 1 / sqrt(mean(x^2) + eps) */
float cpu_inv_rms(const struct cpu_ctx *ctx, const float *x, int64_t n, float eps);

void cpu_matmul(void *ctx, const struct matmul_args *a);
void cpu_grouped_matmul(void *ctx, const struct grouped_matmul_args *a);
void cpu_experts(void *ctx, const struct experts_args *a);
void cpu_hyper_gather(void *ctx, const struct hyper_gather_args *a);
void cpu_hyper_spread(void *ctx, const struct hyper_spread_args *a);
void cpu_hyper_head(void *ctx, const struct hyper_head_args *a);
void cpu_rms_norm(void *ctx, const struct rms_norm_args *a);
void cpu_query(void *ctx, const struct query_args *a);
void cpu_index_query(void *ctx, const struct index_query_args *a);
void cpu_index_select(void *ctx, const struct index_select_args *a);
void cpu_attention(void *ctx, const struct attention_args *a);
void cpu_route(void *ctx, const struct route_args *a);
void cpu_add_streams(void *ctx, const struct add_streams_args *a);

/* The tables of leaves of this build, best first, ended by a NULL leaf; ops/open.c. */
enum cpu_isa { CPU_ISA_C, CPU_ISA_AVX2, CPU_ISA_AVX512, CPU_ISA_AMX, CPU_ISA_NEON };
struct cpu_choice {
    const struct leaves *leaf;
    enum cpu_isa isa;
};
extern const struct cpu_choice cpu_choices[];
/* Whether this machine has it. */
bool cpu_has(enum cpu_isa isa);

/* isa: NULL for the best, or a name; ops/open.c calls it. */
enum sluice_status cpu_open(const char *isa, struct pool *pool, struct ops *out,
                            struct sluice_error *err);
/* "cpu, avx2, 8 threads" */
void cpu_ops_describe(const void *ctx, char *text, size_t room);

#endif
