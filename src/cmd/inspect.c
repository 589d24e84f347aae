/* `sluice inspect`: what a model file holds, from the JSON that the engine gives. */
#include <inttypes.h>
#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "cmd/cmd.h"

static struct json_object *get(struct json_object *from, const char *key)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(from, key, &value);
    return value;
}

static int64_t number(struct json_object *from, const char *key)
{
    return json_object_get_int64(get(from, key));
}

/* For names out of the file: what a terminal would obey is left out. */
static const char *text(struct json_object *from, const char *key, char *out, size_t size)
{
    const char *s = json_object_get_string(get(from, key));
    size_t n = 0;
    for (; s && *s && n + 1 < size; s++)
        if ((unsigned char)*s >= 0x20 && *s != 0x7f)
            out[n++] = *s;
    out[n] = '\0';
    return out;
}

/* "12.3 GiB" */
static const char *size_text(int64_t bytes, char out[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    snprintf(out, 32, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return out;
}

static const char *count_text(int64_t n, char out[32])
{
    snprintf(out, 32, n >= 1000000000 ? "%.1f billion" : n >= 1000000 ? "%.1f million" : "%.0f",
             n >= 1000000000 ? (double)n / 1e9
             : n >= 1000000  ? (double)n / 1e6
                             : (double)n);
    return out;
}

static void print_files(struct json_object *all)
{
    char s[32], path[1024];
    struct json_object *files = get(all, "files");
    for (size_t i = 0; i < json_object_array_length(files); i++) {
        struct json_object *file = json_object_array_get_idx(files, i);
        printf("%-12s%s, %s\n", i ? "" : "file", text(file, "path", path, sizeof path),
               size_text(number(file, "bytes"), s));
    }
    printf("%-12s%s\n", "name", text(all, "name", path, sizeof path));
    printf("%-12s%s", "type", text(all, "architecture", path, sizeof path));
    if (get(all, "family"))
        printf(" (%s)", text(all, "family", path, sizeof path));
    printf("\n");
    if (get(all, "unusable"))
        printf("%-12s%s\n", "cannot run", text(all, "unusable", path, sizeof path));
}

static void print_ratios(struct json_object *ratios)
{
    size_t n = json_object_array_length(ratios);
    int count[3] = {0};
    for (size_t i = 0; i < n; i++) {
        int ratio = json_object_get_int(json_object_array_get_idx(ratios, i));
        count[ratio == 0 ? 0 : ratio == 4 ? 1 : 2]++;
    }
    printf("%-12s%d window only, %d with ratio 4, %d with ratio 128\n", "attention", count[0],
           count[1], count[2]);
}

static void print_shape(struct json_object *all)
{
    struct json_object *s = get(all, "shape");
    char layers[256];
    if (!s)
        return;
    printf("%-12s%" PRId64, "layers", number(s, "layers"));
    text(all, "layers_present", layers, sizeof layers);
    printf(" (in this file: %s)\n", *layers ? layers : "none");
    print_ratios(get(s, "ratios"));
    printf("%-12s%" PRId64 " wide, %" PRId64 " streams, %" PRId64 " heads of %" PRId64 "\n",
           "hidden", number(s, "hidden"), number(s, "streams"), number(s, "heads"),
           number(s, "head_dim"));
    printf("%-12s%" PRId64 " of %" PRId64 " per token, %" PRId64 " wide; %" PRId64
           " layers choose by token\n",
           "experts", number(s, "experts_used"), number(s, "experts"), number(s, "expert_inner"),
           number(s, "hash_layers"));
    printf("%-12swindow %" PRId64 ", indexer %" PRId64 " heads, best %" PRId64 "; at most %" PRId64
           " tokens\n",
           "context", number(s, "window"), number(s, "indexer_heads"), number(s, "indexer_top_k"),
           number(s, "context"));
    printf("%-12s%s\n", "draft block",
           json_object_get_boolean(get(all, "mtp")) ? "yes (MTP)" : "no");
}

static void print_tokenizer(struct json_object *all)
{
    struct json_object *t = get(all, "tokenizer");
    char a[128], b[128];
    if (!t) {
        printf("%-12snone\n", "tokenizer");
        return;
    }
    if (get(t, "unusable")) {
        printf("%-12sunusable: %s\n", "tokenizer",
               json_object_get_string(get(t, "unusable")));
        return;
    }
    printf("%-12s%s/%s, %" PRId64 " tokens, %" PRId64 " merges, %" PRId64 " added; bos %" PRId64
           ", eos %" PRId64 "\n",
           "tokenizer", text(t, "model", a, sizeof a), text(t, "split", b, sizeof b),
           number(t, "tokens"), number(t, "merges"), number(t, "added"), number(t, "bos"),
           number(t, "eos"));
}

static void print_memory(struct json_object *all)
{
    struct json_object *m = get(all, "memory");
    char a[32], b[32], c[32];
    int64_t weights = number(all, "weight_bytes");
    printf("%-12s%s in %s parameters\n", "weights", size_text(weights, a),
           count_text(number(all, "parameters"), b));
    if (!m)
        return;
    char format[16];
    int64_t kv = number(m, "kv_total");
    printf("%-12s%s for %" PRId64 " tokens (%s): %s and %s for each %" PRId64 " tokens\n",
           "KV memory", size_text(kv, a), number(m, "context"),
           text(m, "kv", format, sizeof format), size_text(number(m, "kv_fixed"), b),
           size_text(number(m, "kv_page"), c),
           number(m, "kv_page_tokens"));
    int64_t step = number(m, "step");
    printf("%-12s%s for steps of %" PRId64 " tokens\n", "work", size_text(step, a),
           number(m, "chunk"));
    printf("%-12s%s with one conversation\n", "a run needs", size_text(weights + kv + step, a));
}

static void print_types(struct json_object *all)
{
    struct json_object *types = get(all, "types");
    char name[64], s[32];
    if (json_object_array_length(types) == 0)
        return;
    printf("\n%-12s%8s  %s\n", "type", "tensors", "size");
    for (size_t i = 0; i < json_object_array_length(types); i++) {
        struct json_object *t = json_object_array_get_idx(types, i);
        printf("%-12s%8" PRId64 "  %s\n", text(t, "type", name, sizeof name),
               number(t, "tensors"), size_text(number(t, "bytes"), s));
    }
}

static void print_tensors(struct json_object *all)
{
    struct json_object *tensors = get(all, "tensors");
    char name[256], type[64], shape[128], s[32];
    if (json_object_array_length(tensors) == 0)
        return;
    printf("\n%-40s%-9s%-22s%s\n", "tensor", "type", "shape", "size");
    for (size_t i = 0; i < json_object_array_length(tensors); i++) {
        struct json_object *t = json_object_array_get_idx(tensors, i), *dims = get(t, "shape");
        int n = 0;
        for (size_t d = 0; d < json_object_array_length(dims); d++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, d ? " x %" PRId64 : "%" PRId64,
                          json_object_get_int64(json_object_array_get_idx(dims, d)));
        printf("%-39s %-9s%-22s%s\n", text(t, "name", name, sizeof name),
               text(t, "type", type, sizeof type), n ? shape : "",
               size_text(number(t, "bytes"), s));
    }
}

int cmd_inspect(const struct options *o)
{
    struct sluice_options engine;
    struct sluice_text json;
    struct sluice_error err;
    struct json_object *all;
    if (o->n_arg && options_given(o, OPT_MODEL) && o->value[OPT_MODEL].rank > 1)
        return cmd_usage(o, "expected a file or --model, found both");
    cmd_engine_options(o, &engine);
    if (o->n_arg)
        engine.model = o->arg[0];
    enum sluice_status st = sluice_inspect(&engine, &json, &err);
    if (st != SLUICE_OK) {
        cmd_error(o, &err);
        return cmd_open_code(st);
    }
    if (options_flag(o, OPT_JSON)) {
        printf("%s\n", json.at);
        sluice_free(json.at);
        return EXIT_OK;
    }
    st = json_text_parse(json.at, json.len, &all, &err);
    sluice_free(json.at);
    if (st != SLUICE_OK) {
        cmd_error(o, &err);
        return EXIT_FAILED;
    }
    print_files(all);
    print_shape(all);
    print_tokenizer(all);
    print_memory(all);
    print_types(all);
    print_tensors(all);
    json_object_put(all);
    return EXIT_OK;
}
