/* tools/synth.c - writes a model of real geometry with random weights, to measure speed on: every
 * block is valid, every tensor has the name, shape and type that published files have (section
 * 2.1), and activations stay finite.
 *
 *   synth -o FILE [--shape flash|pro|small] [--layers N | --ratios 0,4,128] [--experts
 *       TYPE[,TYPE,TYPE]] [--dense TYPE]
 *         [--hash N] [--mtp] [--skew S] [--vocab FILE] [--seed N]
 *
 * Random bytes come from one block-aligned pool per format, written again and again from another
 * start: generating every byte anew would be slower than the disk. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/check.h"
#include "formats/gguf.h"
#include "ops/ref/numfmt.h"
#include "os/file.h"
#include "quantize/gguf_write.h"

#define POOL_BYTES ((size_t)48 << 20)
#define MAX_LAYERS 128
#define MAX_TENSORS (MAX_LAYERS * 40)

struct geometry {
    const char *name;
    int64_t dim, head_dim, rot, q_rank, o_rank, inner, index_dim;
    int heads, groups, experts, used, streams, index_heads, top_k, window, layers, hash, vocab;
    float scale;
    bool first_two_128;            /* Pro: layers 0 and 1 have ratio 128, Flash: 0 */
};

static const struct geometry geometries[] = {
    {.name = "flash",
     .dim = 4096,
     .head_dim = 512,
     .rot = 64,
     .q_rank = 1024,
     .o_rank = 1024,
     .inner = 2048,
     .index_dim = 128,
     .heads = 64,
     .groups = 8,
     .experts = 256,
     .used = 6,
     .streams = 4,
     .index_heads = 64,
     .top_k = 512,
     .window = 128,
     .layers = 43,
     .hash = 3,
     .vocab = 129280,
     .scale = 1.5f},
    {.name = "pro",
     .dim = 7168,
     .head_dim = 512,
     .rot = 64,
     .q_rank = 1536,
     .o_rank = 1024,
     .inner = 3072,
     .index_dim = 128,
     .heads = 128,
     .groups = 16,
     .experts = 384,
     .used = 6,
     .streams = 4,
     .index_heads = 64,
     .top_k = 1024,
     .window = 128,
     .layers = 61,
     .hash = 3,
     .vocab = 129280,
     .scale = 2.5f,
     .first_two_128 = true},
    {.name = "small",
     .dim = 512,
     .head_dim = 128,
     .rot = 32,
     .q_rank = 256,
     .o_rank = 128,
     .inner = 256,
     .index_dim = 64,
     .heads = 8,
     .groups = 2,
     .experts = 16,
     .used = 4,
     .streams = 4,
     .index_heads = 8,
     .top_k = 64,
     .window = 64,
     .layers = 6,
     .hash = 1,
     .vocab = 1024,
     .scale = 1.5f},
};

struct options {
    const char *out, *vocab;
    struct geometry g;
    int ratio[MAX_LAYERS];
    enum quant_type gate, up, down, dense;
    bool mtp;
    double skew;
    uint64_t seed;
};

/* What fills a tensor. */
enum fill { FILL_RANDOM, FILL_ONES, FILL_ZEROS, FILL_SKEW, FILL_HASH };

struct planned {
    uint64_t offset, bytes;
    enum quant_type type;
    enum fill fill;
};

struct plan {
    struct gguf_out out;
    struct planned tensor[MAX_TENSORS];
    int n;
};

_Noreturn __attribute__((format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("synth: ", stderr);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

/* ---- random blocks ---- */

static uint64_t random_state;

static uint64_t random_u64(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double random_unit(void)
{
    return (double)(random_u64() >> 11) * 0x1p-53;
}

/* Scale d, and minimum dmin in units of d, that give random bits of a format values of about 0.02
 * around zero. */
static const struct {
    enum quant_type type;
    size_t d_at;
    double d, dmin;
} scales[] = {
    {QUANT_Q8_0, 0, 2.7e-4, 0},
    {QUANT_Q4_0, 0, 4.3e-3, 0},
    {QUANT_IQ4_NL, 0, 3e-4, 0},
    {QUANT_Q2_K, offsetof(struct block_q2_k, d), 1.8e-3, 1.5},
    {QUANT_Q3_K, offsetof(struct block_q3_k, d), 5e-4, 0},
    {QUANT_Q4_K, 0, 1e-4, 7.5},
    {QUANT_Q5_K, 0, 5e-5, 15.5},
    {QUANT_Q6_K, offsetof(struct block_q6_k, d), 1.5e-5, 0},
    {QUANT_IQ2_XXS, 0, 4e-4, 0},
    {QUANT_IQ2_XS, 0, 4e-4, 0},
    {QUANT_IQ2_S, 0, 4e-4, 0},
    {QUANT_IQ3_XXS, 0, 1.6e-4, 0},
    {QUANT_IQ3_S, 0, 1.6e-4, 0},
    {QUANT_IQ1_S, 0, 3e-3, 0},
    {QUANT_IQ4_XS, 0, 1.8e-5, 0},
};

/* Makes the random bytes of one block valid. */
static void settle_block(enum quant_type type, uint8_t *block)
{
    if (type == QUANT_MXFP4) {
        block[0] = (uint8_t)(118 + random_u64() % 4);
        return;
    }
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        if (scales[i].type != type)
            continue;
        double d = scales[i].d * (0.75 + random_unit() / 2);
        uint16_t half = f32_to_f16((float)d);
        memcpy(block + scales[i].d_at, &half, sizeof half);
        if (scales[i].dmin > 0) {
            half = f32_to_f16((float)(d * scales[i].dmin));
            memcpy(block + scales[i].d_at + 2, &half, sizeof half);
        }
    }
}

static void random_float(enum quant_type type, uint8_t *at)
{
    float v = (float)((random_unit() - 0.5) * 0.07);
    uint16_t half = type == QUANT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
    if (type == QUANT_F32)
        memcpy(at, &v, sizeof v);
    else
        memcpy(at, &half, sizeof half);
}

static void fill_pool(enum quant_type type, uint8_t *pool, size_t bytes)
{
    const struct quant_info *info = quant_info(type);
    if (info->block_elems == 1) {
        for (size_t i = 0; i + info->block_bytes <= bytes; i += info->block_bytes)
            random_float(type, pool + i);
        return;
    }
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t r = random_u64();
        memcpy(pool + i, &r, sizeof r);
    }
    for (size_t i = 0; i + info->block_bytes <= bytes; i += info->block_bytes)
        settle_block(type, pool + i);
}

/* ---- the list of tensors ---- */

static void add(struct plan *p, const char *name, enum quant_type type, enum fill fill, int n_dims,
                const int64_t *ne)
{
    SLUICE_ASSERT(p->n < MAX_TENSORS);
    struct planned *t = &p->tensor[p->n++];
    uint64_t bytes = quant_row_bytes(type, ne[0]);
    for (int d = 1; d < n_dims; d++)
        bytes *= (uint64_t)ne[d];
    *t = (struct planned){.offset = gguf_out_tensor(&p->out, name, type, n_dims, ne),
                          .bytes = bytes,
                          .type = type,
                          .fill = fill};
}

static void add_vector(struct plan *p, const char *name, enum fill fill, int64_t n)
{
    add(p, name, QUANT_F32, fill, 1, &n);
}

static void add_matrix(struct plan *p, const char *name, enum quant_type type, int64_t in,
                       int64_t out)
{
    const int64_t ne[2] = {in, out};
    add(p, name, type, FILL_RANDOM, 2, ne);
}

/* "prefix" + "name"; the buffer is reused. */
static const char *joined(const char *prefix, const char *name)
{
    static char text[128];
    snprintf(text, sizeof text, "%s%s", prefix, name);
    return text;
}

static void add_hyper(struct plan *p, const struct geometry *g, const char *prefix,
                      const char *half)
{
    char name[96];
    int64_t mix = 2 * g->streams + g->streams * g->streams;
    snprintf(name, sizeof name, "%shc_%s_fn.weight", prefix, half);
    add_matrix(p, name, QUANT_F16, g->streams * g->dim, mix);
    snprintf(name, sizeof name, "%shc_%s_base.weight", prefix, half);
    add_vector(p, name, FILL_RANDOM, mix);
    snprintf(name, sizeof name, "%shc_%s_scale.weight", prefix, half);
    add_vector(p, name, FILL_ONES, 3);
}

static void add_attention(struct plan *p, const struct options *o, const char *prefix)
{
    const struct geometry *g = &o->g;
    add_vector(p, joined(prefix, "attn_norm.weight"), FILL_ONES, g->dim);
    add_matrix(p, joined(prefix, "attn_q_a.weight"), o->dense, g->dim, g->q_rank);
    add_vector(p, joined(prefix, "attn_q_a_norm.weight"), FILL_ONES, g->q_rank);
    add_matrix(p, joined(prefix, "attn_q_b.weight"), o->dense, g->q_rank, g->heads * g->head_dim);
    add_matrix(p, joined(prefix, "attn_kv.weight"), o->dense, g->dim, g->head_dim);
    add_vector(p, joined(prefix, "attn_kv_a_norm.weight"), FILL_ONES, g->head_dim);
    add_vector(p, joined(prefix, "attn_sinks.weight"), FILL_ZEROS, g->heads);
    add_matrix(p, joined(prefix, "attn_output_a.weight"), o->dense,
               g->heads / g->groups * g->head_dim, g->groups * g->o_rank);
    add_matrix(p, joined(prefix, "attn_output_b.weight"), o->dense, g->groups * g->o_rank, g->dim);
}

static void add_compressor(struct plan *p, const struct geometry *g, const char *prefix,
                           const char *stem, int64_t dim, int ratio)
{
    char name[96];
    int64_t width = ratio == 4 ? 2 * dim : dim;
    snprintf(name, sizeof name, "%s%s_kv.weight", prefix, stem);
    add_matrix(p, name, QUANT_F16, g->dim, width);
    snprintf(name, sizeof name, "%s%s_gate.weight", prefix, stem);
    add_matrix(p, name, QUANT_F16, g->dim, width);
    snprintf(name, sizeof name, "%s%s_ape.weight", prefix, stem);
    add_matrix(p, name, QUANT_F16, width, ratio);
    snprintf(name, sizeof name, "%s%s_norm.weight", prefix, stem);
    add_vector(p, name, FILL_ONES, dim);
}

static void add_moe(struct plan *p, const struct options *o, const char *prefix, bool hash)
{
    const struct geometry *g = &o->g;
    const int64_t up[3] = {g->dim, g->inner, g->experts}, down[3] = {g->inner, g->dim, g->experts};
    const int64_t table[2] = {g->used, g->vocab};
    add_vector(p, joined(prefix, "ffn_norm.weight"), FILL_ONES, g->dim);
    add_matrix(p, joined(prefix, "ffn_gate_inp.weight"), QUANT_F16, g->dim, g->experts);
    if (hash)
        add(p, joined(prefix, "ffn_gate_tid2eid.weight"), QUANT_I32, FILL_HASH, 2, table);
    else
        add_vector(p, joined(prefix, "exp_probs_b.bias"), FILL_SKEW, g->experts);
    add(p, joined(prefix, "ffn_gate_exps.weight"), o->gate, FILL_RANDOM, 3, up);
    add(p, joined(prefix, "ffn_up_exps.weight"), o->up, FILL_RANDOM, 3, up);
    add(p, joined(prefix, "ffn_down_exps.weight"), o->down, FILL_RANDOM, 3, down);
    add_matrix(p, joined(prefix, "ffn_gate_shexp.weight"), o->dense, g->dim, g->inner);
    add_matrix(p, joined(prefix, "ffn_up_shexp.weight"), o->dense, g->dim, g->inner);
    add_matrix(p, joined(prefix, "ffn_down_shexp.weight"), o->dense, g->inner, g->dim);
}

static void add_head(struct plan *p, const struct geometry *g, const char *prefix, const char *norm)
{
    add_vector(p, joined(prefix, norm), FILL_ONES, g->dim);
    const char *stem = *prefix ? "hc_head" : "output_hc";
    char name[96];
    snprintf(name, sizeof name, "%s%s_fn.weight", prefix, stem);
    add_matrix(p, name, QUANT_F16, g->streams * g->dim, g->streams);
    snprintf(name, sizeof name, "%s%s_base.weight", prefix, stem);
    add_vector(p, name, FILL_RANDOM, g->streams);
    snprintf(name, sizeof name, "%s%s_scale.weight", prefix, stem);
    add_vector(p, name, FILL_ONES, 1);
}

static void add_layer(struct plan *p, const struct options *o, int l)
{
    const struct geometry *g = &o->g;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "blk.%d.", l);
    add_hyper(p, g, prefix, "attn");
    add_hyper(p, g, prefix, "ffn");
    add_attention(p, o, prefix);
    if (o->ratio[l])
        add_compressor(p, g, prefix, "attn_compressor", g->head_dim, o->ratio[l]);
    if (o->ratio[l] == 4) {
        add_matrix(p, joined(prefix, "indexer.attn_q_b.weight"), o->dense, g->q_rank,
                   g->index_heads * g->index_dim);
        add_matrix(p, joined(prefix, "indexer.proj.weight"), QUANT_F16, g->dim, g->index_heads);
        add_compressor(p, g, prefix, "indexer_compressor", g->index_dim, 4);
    }
    add_moe(p, o, prefix, l < g->hash);
}

static void add_mtp(struct plan *p, const struct options *o)
{
    const struct geometry *g = &o->g;
    const char *prefix = "mtp.0.";
    add_matrix(p, "mtp.0.e_proj.weight", o->dense, g->dim, g->dim);
    add_matrix(p, "mtp.0.h_proj.weight", o->dense, g->dim, g->dim);
    add_vector(p, "mtp.0.enorm.weight", FILL_ONES, g->dim);
    add_vector(p, "mtp.0.hnorm.weight", FILL_ONES, g->dim);
    add_head(p, g, prefix, "norm.weight");
    add_hyper(p, g, prefix, "attn");
    add_hyper(p, g, prefix, "ffn");
    add_attention(p, o, prefix);
    add_moe(p, o, prefix, false);
}

static void add_tensors(struct plan *p, const struct options *o)
{
    add_matrix(p, "token_embd.weight", QUANT_F16, o->g.dim, o->g.vocab);
    add_head(p, &o->g, "", "output_norm.weight");
    add_matrix(p, "output.weight", o->dense, o->g.dim, o->g.vocab);
    for (int l = 0; l < o->g.layers; l++)
        add_layer(p, o, l);
    if (o->mtp)
        add_mtp(p, o);
}

/* ---- metadata ---- */

static void add_shape(struct gguf_out *out, const struct options *o)
{
    const struct geometry *g = &o->g;
    const struct { const char *key; int64_t value;
    } sizes[] = {
        {"block_count", g->layers},
        {"context_length", 1048576},
        {"embedding_length", g->dim},
        {"vocab_size", g->vocab},
        {"attention.head_count", g->heads},
        {"attention.head_count_kv", 1},
        {"attention.key_length", g->head_dim},
        {"attention.value_length", g->head_dim},
        {"rope.dimension_count", g->rot},
        {"rope.scaling.original_context_length", 65536},
        {"attention.q_lora_rank", g->q_rank},
        {"attention.output_lora_rank", g->o_rank},
        {"attention.output_group_count", g->groups},
        {"attention.sliding_window", g->window},
        {"attention.indexer.head_count", g->index_heads},
        {"attention.indexer.key_length", g->index_dim},
        {"attention.indexer.top_k", g->top_k},
        {"expert_count", g->experts},
        {"expert_used_count", g->used},
        {"expert_shared_count", 1},
        {"expert_feed_forward_length", g->inner},
        {"expert_gating_func", 4},
        {"expert_group_count", 0},
        {"expert_group_used_count", 0},
        {"hash_layer_count", g->hash},
        {"hyper_connection.count", g->streams},
        {"hyper_connection.sinkhorn_iterations", 20},
    };
    const struct { const char *key; float value; } reals[] = {
        {"rope.freq_base", 10000}, {"rope.scaling.factor", 16}, {"rope.scaling.yarn_beta_fast", 32},
        {"rope.scaling.yarn_beta_slow", 1}, {"attention.compress_rope_freq_base", 160000},
        {"attention.layer_norm_rms_epsilon", 1e-6f}, {"expert_weights_scale", g->scale},
        {"hyper_connection.epsilon", 1e-6f},
    };
    float clamp[MAX_LAYERS];
    gguf_out_str(out, "general.architecture", "deepseek4");
    gguf_out_str(out, "general.name", joined("synthetic ", g->name));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        gguf_out_u32(out, joined("deepseek4.", sizes[i].key), (uint32_t)sizes[i].value);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        gguf_out_f32(out, joined("deepseek4.", reals[i].key), reals[i].value);
    for (int l = 0; l < g->layers; l++)
        clamp[l] = 10;
    gguf_out_f32s(out, "deepseek4.swiglu_clamp_exp", clamp, (uint64_t)g->layers);
    gguf_out_i32s(out, "deepseek4.attention.compress_ratios", o->ratio, (uint64_t)g->layers);
    gguf_out_str(out, "deepseek4.rope.scaling.type", "yarn");
    gguf_out_bool(out, "deepseek4.expert_weights_norm", true);
}

/* The tokenizer of another file, so that real text can be fed. */
static void copy_vocab(struct gguf_out *out, const struct options *o)
{
    struct sluice_error err;
    struct gguf *g;
    if (!o->vocab)
        return;
    if (gguf_open(&o->vocab, 1, &g, &err) != SLUICE_OK)
        die("%s", err.message);
    for (uint64_t i = 0; i < gguf_kv_count(g); i++)
        if (str_starts(gguf_kv_at(g, i)->key, STR_LIT("tokenizer.")))
            gguf_out_copy(out, gguf_kv_at(g, i));
    const struct gguf_kv *tokens = gguf_kv_find(g, "tokenizer.ggml.tokens");
    if (!tokens || tokens->count != (uint64_t)o->g.vocab)
        die("%s: its vocabulary has another size than the shape's", o->vocab);
    gguf_close(g);
}

/* ---- writing ---- */

struct writer {
    int fd;
    uint64_t data_at;
    uint8_t *pool[QUANT_TYPE_LIMIT];
};

static void write_all(int fd, const void *bytes, uint64_t n, uint64_t at)
{
    struct sluice_error err;
    if (file_write_exact(fd, bytes, n, at, &err) != SLUICE_OK)
        die("%s", err.message);
}

static void write_random(struct writer *w, const struct planned *t)
{
    const struct quant_info *info = quant_info(t->type);
    uint64_t size = POOL_BYTES / info->block_bytes * info->block_bytes;
    if (!w->pool[t->type]) {
        w->pool[t->type] = malloc(size);
        if (!w->pool[t->type])
            die("%s", "out of memory");
        fill_pool(t->type, w->pool[t->type], size);
    }
    uint64_t from = random_u64() % (size / info->block_bytes) * info->block_bytes;
    for (uint64_t done = 0; done < t->bytes;) {
        uint64_t n = size - from < t->bytes - done ? size - from : t->bytes - done;
        write_all(w->fd, w->pool[t->type] + from, n, w->data_at + t->offset + done);
        done += n;
        from = 0;
    }
}

/* Zipf-like popularity: the bias of the expert of rank r falls by S * ln(r + 1) / 10; ranks are
 * shuffled per layer. */
static void skewed_bias(float *v, int n, double skew)
{
    for (int e = 0; e < n; e++)
        v[e] = (float)(-skew * log(e + 1.0) / 10);
    for (int e = n - 1; e > 0; e--) {
        int other = (int)(random_u64() % (uint64_t)(e + 1));
        float swap = v[e];
        v[e] = v[other];
        v[other] = swap;
    }
}

static void hash_table(int32_t *v, const struct geometry *g)
{
    for (int64_t i = 0; i < (int64_t)g->vocab * g->used; i++) {
        bool again;
        do {
            again = false;
            v[i] = (int32_t)(random_u64() % (uint64_t)g->experts);
            for (int64_t j = i / g->used * g->used; j < i; j++)
                again |= v[j] == v[i];
        } while (again);
    }
}

static void write_tensor(struct writer *w, const struct options *o, const struct planned *t)
{
    if (t->fill == FILL_RANDOM) {
        write_random(w, t);
        return;
    }
    float *v = calloc(1, t->bytes);
    if (!v)
        die("%s", "out of memory");
    if (t->fill == FILL_HASH)
        hash_table((int32_t *)v, &o->g);
    else if (t->fill == FILL_SKEW)
        skewed_bias(v, o->g.experts, o->skew);
    for (uint64_t i = 0; t->fill == FILL_ONES && i < t->bytes / 4; i++)
        v[i] = 1;
    write_all(w->fd, v, t->bytes, w->data_at + t->offset);
    free(v);
}

static void write_model(const struct options *o)
{
    static struct plan p;
    struct sluice_error err;
    const void *header;
    struct writer w = {0};
    gguf_out_init(&p.out);
    add_shape(&p.out, o);
    copy_vocab(&p.out, o);
    add_tensors(&p, o);
    if (gguf_out_finish(&p.out, &header, &w.data_at, &err) != SLUICE_OK)
        die("%s", err.message);
    w.fd = open(o->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w.fd < 0 || ftruncate(w.fd, (off_t)(w.data_at + p.out.data_bytes)) != 0)
        die("cannot create the output: %s", strerror(errno));
    write_all(w.fd, header, w.data_at, 0);
    for (int i = 0; i < p.n; i++)
        write_tensor(&w, o, &p.tensor[i]);
    if (close(w.fd) != 0)
        die("cannot finish the output: %s", strerror(errno));
    printf("%s: %d tensors, %.2f GB\n", o->out, p.n, (double)(w.data_at + p.out.data_bytes) / 1e9);
    for (int i = 0; i < QUANT_TYPE_LIMIT; i++)
        free(w.pool[i]);
    gguf_out_deinit(&p.out);
}

/* ---- options ---- */

static enum quant_type type_named(const char *name, size_t len)
{
    for (uint32_t id = 0; id < QUANT_TYPE_LIMIT; id++) {
        const struct quant_info *info = quant_info(id);
        if (info && info->is_matrix && strlen(info->name) == len &&
            strncasecmp(info->name, name, len) == 0)
            return (enum quant_type)id;
    }
    die("unknown tensor type in '%s'", name);
}

static void parse_experts(struct options *o, const char *text)
{
    enum quant_type t[3];
    int n = 0;
    for (const char *at = text; n < 3; n++) {
        size_t len = strcspn(at, ",");
        t[n] = type_named(at, len);
        at += len;
        if (!*at++) {
            n++;
            break;
        }
    }
    if (n != 1 && n != 3)
        die("--experts '%s': expected one type or three (gate,up,down)", text);
    o->gate = t[0];
    o->up = n == 3 ? t[1] : t[0];
    o->down = n == 3 ? t[2] : t[0];
}

static long number(const char *text, long min, long max, const char *option)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < min || v > max)
        die("%s: expected a number in range", option);
    return v;
}

static void parse_ratios(struct options *o, const char *text)
{
    char *copy = strdup(text), *rest = copy, *item;
    int n = 0;
    while ((item = strsep(&rest, ",")) != NULL) {
        if (n == MAX_LAYERS)
            die("--ratios '%s': too many layers", text);
        long r = number(item, 0, 128, "--ratios");
        if (r != 0 && r != 4 && r != 128)
            die("--ratios '%s': expected 0, 4 or 128", text);
        o->ratio[n++] = (int)r;
    }
    free(copy);
    o->g.layers = n;
}

static void set_shape(struct options *o, const char *name)
{
    for (size_t i = 0; i < sizeof geometries / sizeof geometries[0]; i++) {
        if (strcmp(geometries[i].name, name) != 0)
            continue;
        o->g = geometries[i];
        return;
    }
    die("unknown shape '%s': expected flash, pro or small", name);
}

static void default_ratios(struct options *o)
{
    for (int l = 0; l < o->g.layers; l++)
        o->ratio[l] = l >= 2 ? (l % 2 ? 128 : 4) : o->g.first_two_128 ? 128 : 0;
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"shape", 1, 0, 's'}, {"layers", 1, 0, 'l'}, {"ratios", 1, 0, 'r'}, {"experts", 1, 0, 'e'},
        {"dense", 1, 0, 'd'}, {"hash", 1, 0, 'h'},   {"mtp", 0, 0, 'm'},    {"skew", 1, 0, 'k'},
        {"vocab", 1, 0, 'v'}, {"seed", 1, 0, 'x'},   {0, 0, 0, 0},
    };
    const char *ratios = NULL, *layers = NULL, *hash = NULL;
    *o = (struct options){.gate = QUANT_IQ2_XXS,
                          .up = QUANT_IQ2_XXS,
                          .down = QUANT_Q2_K,
                          .dense = QUANT_Q8_0,
                          .seed = 1};
    set_shape(o, "flash");
    for (int c; (c = getopt_long(argc, argv, "o:", longs, NULL)) != -1;) {
        switch (c) {
        case 'o': o->out = optarg; break;
        case 's': set_shape(o, optarg); break;
        case 'l': layers = optarg; break;
        case 'r': ratios = optarg; break;
        case 'e': parse_experts(o, optarg); break;
        case 'd': o->dense = type_named(optarg, strlen(optarg)); break;
        case 'h': hash = optarg; break;
        case 'm': o->mtp = true; break;
        case 'k': o->skew = strtod(optarg, NULL); break;
        case 'v': o->vocab = optarg; break;
        case 'x': o->seed = (uint64_t)number(optarg, 0, 1L << 40, "--seed"); break;
        default: die("see the head of %s", "tools/synth.c");
        }
    }
    if (!o->out || optind != argc)
        die("usage: synth -o FILE [options], see the head of %s", "tools/synth.c");
    if (layers)
        o->g.layers = (int)number(layers, 1, MAX_LAYERS, "--layers");
    default_ratios(o);
    if (ratios)
        parse_ratios(o, ratios);
    if (hash)
        o->g.hash = (int)number(hash, 0, o->g.layers, "--hash");
    else if (o->g.hash >= o->g.layers)
        o->g.hash = o->g.layers > 1 ? 1 : 0;
    random_state = o->seed;
}

int main(int argc, char **argv)
{
    struct options o;
    parse(argc, argv, &o);
    write_model(&o);
    return 0;
}
