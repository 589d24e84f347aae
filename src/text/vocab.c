#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "text/utf8.h"

static const char *const special_texts[VOCAB_SPECIALS] = {
    [VOCAB_BOS] = "<｜begin▁of▁sentence｜>",
    [VOCAB_EOS] = "<｜end▁of▁sentence｜>",
    [VOCAB_USER] = "<｜User｜>",
    [VOCAB_ASSISTANT] = "<｜Assistant｜>",
    [VOCAB_THINK] = "<think>",
    [VOCAB_THINK_END] = "</think>",
    [VOCAB_DSML] = "｜DSML｜",
    [VOCAB_PAD] = "<｜▁pad▁｜>",
    [VOCAB_FIM_HOLE] = "<｜fim▁hole｜>",
    [VOCAB_FIM_BEGIN] = "<｜fim▁begin｜>",
    [VOCAB_FIM_END] = "<｜fim▁end｜>",
    [VOCAB_EOT] = "<|EOT|>",
    [VOCAB_LATEST_REMINDER] = "<｜latest_reminder｜>",
    [VOCAB_ACTION] = "<｜action｜>",
    [VOCAB_QUERY] = "<｜query｜>",
    [VOCAB_AUTHORITY] = "<｜authority｜>",
    [VOCAB_DOMAIN] = "<｜domain｜>",
    [VOCAB_TITLE] = "<｜title｜>",
    [VOCAB_READ_URL] = "<｜read_url｜>",
};

struct merge_slot {
    int32_t left; /* -1: empty */
    int32_t right;
    struct vocab_merge merge;
};

/* All set once by vocab_open. */
struct vocab {
    int32_t n;
    int32_t n_merges;
    int32_t n_added;
    char *pool;       /* the raw bytes of all tokens, back to back */
    uint32_t *offset; /* [n + 1] into pool */
    uint8_t *type;    /* [n] enum vocab_type */
    int32_t byte_id[256];
    int32_t special[VOCAB_SPECIALS];
    struct merge_slot *merges; /* open addressing */
    uint32_t merge_mask;
    int32_t *added; /* [n_added] ids, sorted by bytes */
    /* added tokens with first byte b: added[added_first[b] .. added_first[b + 1]) */
    int32_t added_first[257];
};

/* What only loading needs. raw text -> id, by open addressing over ids. */
struct loader {
    struct vocab *v;
    const struct gguf *g;
    struct str *text; /* [n] as in the file, borrowed from it */
    int32_t *slots;
    uint32_t mask;
    int32_t guess; /* the id after the last merge's result */
    int16_t byte_of[0x144]; /* code point of the byte alphabet -> byte, or -1 */
};

static bool is_added_type(enum vocab_type t)
{
    return t == VOCAB_CONTROL || t == VOCAB_USER_DEFINED;
}

/* The GPT-2 byte alphabet: printable Latin-1 stands for itself, the others for U+0100 and up in
 * order. */
static void byte_alphabet(int16_t byte_of[0x144])
{
    int next = 0x100;
    memset(byte_of, 0xFF, 0x144 * sizeof byte_of[0]);
    for (int b = 0; b < 256; b++) {
        bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        byte_of[itself ? b : next++] = (int16_t)b;
    }
}

static uint32_t table_mask(uint64_t entries)
{
    uint32_t size = 16;
    while (size < entries * 2)
        size *= 2;
    return size - 1;
}

static int32_t find_text(const struct loader *ld, struct str text)
{
    uint32_t i = (uint32_t)XXH3_64bits(text.at, text.len) & ld->mask;
    for (; ld->slots[i] >= 0; i = (i + 1) & ld->mask) {
        if (str_eq(ld->text[ld->slots[i]], text))
            return ld->slots[i];
    }
    return -1;
}

static enum sluice_status insert_text(struct loader *ld, int32_t id, struct sluice_error *err)
{
    struct str text = ld->text[id];
    uint32_t i = (uint32_t)XXH3_64bits(text.at, text.len) & ld->mask;
    for (; ld->slots[i] >= 0; i = (i + 1) & ld->mask) {
        FAIL_IF(str_eq(ld->text[ld->slots[i]], text), err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.tokens: ids %d and %d have the same text '%.*s'", ld->slots[i], id,
                STR_ARG(text));
    }
    ld->slots[i] = id;
    return SLUICE_OK;
}

static enum sluice_status find_array(const struct gguf *g, const char *key, bool strings,
                                     const struct gguf_kv **out, struct sluice_error *err)
{
    const struct gguf_kv *kv = gguf_kv_find(g, key);
    FAIL_IF(!kv, err, SLUICE_ERR_MODEL, "%s: missing; the file has no usable tokenizer", key);
    FAIL_IF(kv->type != GGUF_ARRAY || (kv->elem == GGUF_STRING) != strings, err, SLUICE_ERR_MODEL,
            "%s: expected an array of %s, found %s of %s", key, strings ? "strings" : "integers",
            gguf_type_name(kv->type), gguf_type_name(kv->elem));
    FAIL_IF(kv->count > VOCAB_MAX_TOKENS, err, SLUICE_ERR_LIMIT,
            "%s: %llu elements, at most %d are supported", key, (unsigned long long)kv->count,
            VOCAB_MAX_TOKENS);
    *out = kv;
    return SLUICE_OK;
}

static enum sluice_status expect_kind(const struct gguf *g, struct sluice_error *err)
{
    struct str model, pre;
    TRY(gguf_get_str(g, "tokenizer.ggml.model", &model, err));
    FAIL_IF(!str_is(model, "gpt2"), err, SLUICE_ERR_MODEL,
            "tokenizer.ggml.model: expected 'gpt2' (byte-level BPE), found '%.*s'", STR_ARG(model));
    TRY(gguf_get_str(g, "tokenizer.ggml.pre", &pre, err));
    FAIL_IF(!str_is(pre, "joyai-llm") && !str_is(pre, "deepseek-v3"), err, SLUICE_ERR_MODEL,
            "tokenizer.ggml.pre: expected 'joyai-llm' or 'deepseek-v3', found '%.*s'",
            STR_ARG(pre));
    return SLUICE_OK;
}

/* Raw bytes of a token written in the byte alphabet; to has room for text.len bytes. */
static enum sluice_status decode_alphabet(const struct loader *ld, int32_t id, char *to,
                                          uint32_t *len, struct sluice_error *err)
{
    struct str text = ld->text[id];
    size_t n = 0;
    for (size_t at = 0; at < text.len;) {
        int32_t cp;
        size_t step = utf8_next(text.at + at, text.len - at, &cp);
        bool known = step > 0 && cp >= 0 && cp < 0x144 && ld->byte_of[cp] >= 0;
        FAIL_IF(!known, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.tokens: token %d '%.*s' has a character at byte %zu that is not in "
                "the byte alphabet, and its type (%d) is not an added token's",
                id, STR_ARG(text), at, ld->v->type[id]);
        to[n++] = (char)ld->byte_of[cp];
        at += step;
    }
    *len = (uint32_t)n;
    return SLUICE_OK;
}

static enum sluice_status read_tokens(struct loader *ld, const struct gguf_kv *tokens,
                                      const struct gguf_kv *types, struct sluice_error *err)
{
    struct vocab *v = ld->v;
    struct gguf_str_iter it;
    uint32_t used = 0;
    TRY(gguf_str_iter_init(&it, tokens, err));
    for (int32_t id = 0; id < v->n; id++) {
        int64_t type;
        SLUICE_ASSERT(gguf_str_iter_next(&it, &ld->text[id]));
        struct str text = ld->text[id];
        TRY(gguf_kv_i64_at(types, (uint64_t)id, &type, err));
        FAIL_IF(type < VOCAB_NORMAL || type > VOCAB_BYTE, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.token_type: token %d has type %lld, expected 1 to 6", id,
                (long long)type);
        v->type[id] = (uint8_t)type;
        FAIL_IF(text.len > VOCAB_MAX_TOKEN_BYTES, err, SLUICE_ERR_LIMIT,
                "tokenizer.ggml.tokens: token %d has %zu bytes, at most %d are supported", id,
                text.len, VOCAB_MAX_TOKEN_BYTES);
        FAIL_IF(text.len == 0 && type != VOCAB_UNUSED, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.tokens: token %d is empty, and its type is not 'unused'", id);
        v->offset[id] = used;
        if (type == VOCAB_NORMAL) {
            uint32_t len = 0;
            TRY(decode_alphabet(ld, id, v->pool + used, &len, err));
            used += len;
        } else {
            memcpy(v->pool + used, text.at, text.len);
            used += (uint32_t)text.len;
        }
        if (type != VOCAB_UNUSED)
            TRY(insert_text(ld, id, err));
        v->n_added += is_added_type((enum vocab_type)type);
    }
    v->offset[v->n] = used;
    return SLUICE_OK;
}

static enum sluice_status index_bytes(struct loader *ld, struct sluice_error *err)
{
    for (int b = 0; b < 256; b++)
        ld->v->byte_id[b] = -1;
    for (int cp = 0; cp < 0x144; cp++) {
        int b = ld->byte_of[cp];
        if (b < 0)
            continue;
        char text[2] = {(char)(cp < 0x80 ? cp : 0xC0 | cp >> 6), (char)(0x80 | (cp & 0x3F))};
        int32_t id = find_text(ld, (struct str){text, cp < 0x80 ? 1 : 2});
        FAIL_IF(id < 0 || ld->v->type[id] != VOCAB_NORMAL, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.tokens: no normal token for the single byte 0x%02X", (unsigned)b);
        ld->v->byte_id[b] = id;
    }
    return SLUICE_OK;
}

static uint32_t pair_slot(int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) ^ (uint32_t)(key >> 35);
}

static enum sluice_status insert_merge(struct vocab *v, int32_t left, int32_t right,
                                       struct vocab_merge m, struct sluice_error *err)
{
    uint32_t i = pair_slot(left, right) & v->merge_mask;
    for (; v->merges[i].left >= 0; i = (i + 1) & v->merge_mask) {
        const struct merge_slot *s = &v->merges[i];
        FAIL_IF(s->left == left && s->right == right, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.merges: merge %u repeats the pair of merge %u", m.rank,
                s->merge.rank);
    }
    v->merges[i] = (struct merge_slot){left, right, m};
    return SLUICE_OK;
}

/* Trained vocabularies number the results in merge order, so the next id is tried first. */
static int32_t find_result(struct loader *ld, struct str text)
{
    int32_t id = ld->guess;
    bool hit = id < ld->v->n && ld->v->type[id] == VOCAB_NORMAL && str_eq(ld->text[id], text);
    if (!hit)
        id = find_text(ld, text);
    ld->guess = id + 1;
    return id;
}

/* One merge "left right": both parts and their concatenation must be tokens. */
static enum sluice_status read_merge(struct loader *ld, struct str text, uint32_t rank,
                                     struct sluice_error *err)
{
    char joined[2 * VOCAB_MAX_TOKEN_BYTES];
    const char *space = text.len ? memchr(text.at, ' ', text.len) : NULL;
    FAIL_IF(!space || space == text.at || space == text.at + text.len - 1, err, SLUICE_ERR_MODEL,
            "tokenizer.ggml.merges: merge %u is '%.*s', expected two parts and one space", rank,
            STR_ARG(text));
    FAIL_IF(text.len > sizeof joined, err, SLUICE_ERR_LIMIT,
            "tokenizer.ggml.merges: merge %u has %zu bytes, at most %zu are supported", rank,
            text.len, sizeof joined);
    struct str left = {text.at, (size_t)(space - text.at)};
    struct str right = {space + 1, text.len - left.len - 1};
    memcpy(joined, left.at, left.len);
    memcpy(joined + left.len, right.at, right.len);
    struct str parts[3] = {left, right, {joined, left.len + right.len}};
    int32_t ids[3];
    for (int i = 0; i < 3; i++) {
        ids[i] = i < 2 ? find_text(ld, parts[i]) : find_result(ld, parts[i]);
        FAIL_IF(ids[i] < 0 || ld->v->type[ids[i]] != VOCAB_NORMAL, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.merges: merge %u '%.*s': '%.*s' is not a normal token", rank,
                STR_ARG(text), STR_ARG(parts[i]));
    }
    return insert_merge(ld->v, ids[0], ids[1], (struct vocab_merge){rank, ids[2]}, err);
}

static enum sluice_status read_merges(struct loader *ld, struct sluice_error *err)
{
    struct vocab *v = ld->v;
    const struct gguf_kv *kv;
    struct gguf_str_iter it;
    struct str text;
    TRY(find_array(ld->g, "tokenizer.ggml.merges", /*strings=*/true, &kv, err));
    TRY(gguf_str_iter_init(&it, kv, err));
    v->n_merges = (int32_t)kv->count;
    v->merge_mask = table_mask(kv->count);
    v->merges = malloc((v->merge_mask + (size_t)1) * sizeof v->merges[0]);
    FAIL_IF(!v->merges, err, SLUICE_ERR_NOMEM, "out of memory for %d merges", v->n_merges);
    memset(v->merges, 0xFF, (v->merge_mask + (size_t)1) * sizeof v->merges[0]);
    for (uint32_t rank = 0; gguf_str_iter_next(&it, &text); rank++)
        TRY(read_merge(ld, text, rank, err));
    return SLUICE_OK;
}

static int compare_bytes(struct str a, struct str b)
{
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_added(const void *a, const void *b, void *vocab)
{
    return compare_bytes(vocab_bytes(vocab, *(const int32_t *)a),
                         vocab_bytes(vocab, *(const int32_t *)b));
}

static enum sluice_status index_added(struct vocab *v, struct sluice_error *err)
{
    int32_t n = 0;
    v->added = malloc(((size_t)v->n_added + 1) * sizeof v->added[0]);
    FAIL_IF(!v->added, err, SLUICE_ERR_NOMEM, "out of memory for %d added tokens", v->n_added);
    for (int32_t id = 0; id < v->n; id++) {
        if (vocab_is_added(v, id))
            v->added[n++] = id;
    }
    qsort_r(v->added, (size_t)n, sizeof v->added[0], compare_added, v);
    int32_t at = 0;
    for (int b = 0; b < 256; b++) {
        v->added_first[b] = at;
        while (at < n && (uint8_t)vocab_bytes(v, v->added[at]).at[0] == b)
            at++;
    }
    v->added_first[256] = n;
    return SLUICE_OK;
}

static enum sluice_status check_id_key(const struct loader *ld, const char *key,
                                       enum vocab_special which, struct sluice_error *err)
{
    uint32_t id;
    if (!gguf_kv_find(ld->g, key))
        return SLUICE_OK;
    TRY(gguf_get_u32(ld->g, key, &id, err));
    FAIL_IF(id != (uint32_t)ld->v->special[which], err, SLUICE_ERR_MODEL,
            "%s: expected %d, the id of '%s', found %u", key, ld->v->special[which],
            special_texts[which], id);
    return SLUICE_OK;
}

static enum sluice_status find_specials(const struct loader *ld, struct sluice_error *err)
{
    for (int i = 0; i < VOCAB_SPECIALS; i++) {
        int32_t id = vocab_find_added(ld->v, str_of(special_texts[i]));
        FAIL_IF(id < 0 && i < VOCAB_MANDATORY, err, SLUICE_ERR_MODEL,
                "tokenizer.ggml.tokens: the protocol token '%s' is missing or not marked as an "
                "added token (type 3 or 4)",
                special_texts[i]);
        ld->v->special[i] = id;
    }
    TRY(check_id_key(ld, "tokenizer.ggml.bos_token_id", VOCAB_BOS, err));
    return check_id_key(ld, "tokenizer.ggml.eos_token_id", VOCAB_EOS, err);
}

static enum sluice_status allocate(struct loader *ld, const struct gguf_kv *tokens,
                                   struct sluice_error *err)
{
    struct vocab *v = ld->v;
    size_t n = (size_t)tokens->count;
    v->n = (int32_t)n;
    ld->mask = table_mask(n);
    ld->text = malloc(n * sizeof ld->text[0]);
    ld->slots = malloc((ld->mask + (size_t)1) * sizeof ld->slots[0]);
    /* The array's bytes include a length per string, so they bound the raw bytes of all tokens. */
    FAIL_IF(tokens->size > UINT32_MAX, err, SLUICE_ERR_LIMIT,
            "tokenizer.ggml.tokens: %llu bytes of tokens, at most %u are supported",
            (unsigned long long)tokens->size, UINT32_MAX);
    v->pool = malloc((size_t)tokens->size);
    v->offset = malloc((n + 1) * sizeof v->offset[0]);
    v->type = malloc(n);
    FAIL_IF(!ld->text || !ld->slots || !v->pool || !v->offset || !v->type, err, SLUICE_ERR_NOMEM,
            "out of memory for a vocabulary of %zu tokens", n);
    memset(ld->slots, 0xFF, (ld->mask + (size_t)1) * sizeof ld->slots[0]);
    byte_alphabet(ld->byte_of);
    return SLUICE_OK;
}

static enum sluice_status load(struct loader *ld, struct sluice_error *err)
{
    const struct gguf_kv *tokens, *types;
    TRY(expect_kind(ld->g, err));
    TRY(find_array(ld->g, "tokenizer.ggml.tokens", /*strings=*/true, &tokens, err));
    TRY(find_array(ld->g, "tokenizer.ggml.token_type", /*strings=*/false, &types, err));
    FAIL_IF(tokens->count == 0, err, SLUICE_ERR_MODEL, "tokenizer.ggml.tokens: empty");
    FAIL_IF(tokens->count != types->count, err, SLUICE_ERR_MODEL,
            "tokenizer.ggml.token_type: expected %llu elements, one a token, found %llu",
            (unsigned long long)tokens->count, (unsigned long long)types->count);
    TRY(allocate(ld, tokens, err));
    TRY(read_tokens(ld, tokens, types, err));
    TRY(index_added(ld->v, err));
    TRY(find_specials(ld, err));
    TRY(index_bytes(ld, err));
    return read_merges(ld, err);
}

enum sluice_status vocab_open(const struct gguf *g, struct vocab **out, struct sluice_error *err)
{
    struct loader ld = {.g = g, .v = calloc(1, sizeof(struct vocab))};
    *out = NULL;
    FAIL_IF(!ld.v, err, SLUICE_ERR_NOMEM, "out of memory for a vocabulary");
    enum sluice_status st = load(&ld, err);
    free(ld.text);
    free(ld.slots);
    if (st == SLUICE_OK)
        *out = ld.v;
    else
        vocab_close(ld.v);
    return st;
}

void vocab_close(struct vocab *v)
{
    if (!v)
        return;
    free(v->pool);
    free(v->offset);
    free(v->type);
    free(v->merges);
    free(v->added);
    free(v);
}

int32_t vocab_count(const struct vocab *v)
{
    return v->n;
}

int32_t vocab_merge_count(const struct vocab *v)
{
    return v->n_merges;
}

int32_t vocab_added_count(const struct vocab *v)
{
    return v->n_added;
}

struct str vocab_bytes(const struct vocab *v, int32_t id)
{
    SLUICE_ASSERT(id >= 0 && id < v->n);
    return (struct str){v->pool + v->offset[id], v->offset[id + 1] - v->offset[id]};
}

enum vocab_type vocab_type(const struct vocab *v, int32_t id)
{
    SLUICE_ASSERT(id >= 0 && id < v->n);
    return (enum vocab_type)v->type[id];
}

bool vocab_is_added(const struct vocab *v, int32_t id)
{
    return is_added_type(vocab_type(v, id));
}

int32_t vocab_special(const struct vocab *v, enum vocab_special which)
{
    SLUICE_ASSERT((unsigned)which < VOCAB_SPECIALS);
    return v->special[which];
}

const char *vocab_special_text(enum vocab_special which)
{
    SLUICE_ASSERT((unsigned)which < VOCAB_SPECIALS);
    return special_texts[which];
}

int32_t vocab_byte_id(const struct vocab *v, uint8_t byte)
{
    return v->byte_id[byte];
}

bool vocab_find_merge(const struct vocab *v, int32_t left, int32_t right, struct vocab_merge *out)
{
    uint32_t i = pair_slot(left, right) & v->merge_mask;
    for (; v->merges[i].left >= 0; i = (i + 1) & v->merge_mask) {
        if (v->merges[i].left == left && v->merges[i].right == right) {
            *out = v->merges[i].merge;
            return true;
        }
    }
    return false;
}

/* First index in the sorted added[lo..hi), whose tokens agree before byte depth, with byte >= b
 * there. */
static int32_t lower_bound(const struct vocab *v, int32_t lo, int32_t hi, size_t depth, int b)
{
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        struct str s = vocab_bytes(v, v->added[mid]);
        int at = s.len > depth ? (uint8_t)s.at[depth] : -1;
        if (at < b)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest added token that text starts with, or -1. */
static int32_t longest_added(const struct vocab *v, struct str text)
{
    uint8_t first = (uint8_t)text.at[0];
    int32_t lo = v->added_first[first], hi = v->added_first[first + 1], best = -1;
    for (size_t depth = 1; lo < hi; depth++) {
        /* Sorted, so the one token that ends here, if any, comes first. */
        if (vocab_bytes(v, v->added[lo]).len == depth)
            best = v->added[lo];
        if (depth == text.len)
            break;
        int b = (uint8_t)text.at[depth];
        lo = lower_bound(v, lo, hi, depth, b);
        hi = lower_bound(v, lo, hi, depth, b + 1);
    }
    return best;
}

int32_t vocab_match_added(const struct vocab *v, struct str text, size_t *at)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t b = (uint8_t)text.at[i];
        if (v->added_first[b] == v->added_first[b + 1])
            continue;
        int32_t id = longest_added(v, (struct str){text.at + i, text.len - i});
        if (id >= 0) {
            *at = i;
            return id;
        }
    }
    *at = text.len;
    return -1;
}

int32_t vocab_find_added(const struct vocab *v, struct str text)
{
    size_t at;
    int32_t id = vocab_match_added(v, text, &at);
    return id >= 0 && at == 0 && vocab_bytes(v, id).len == text.len ? id : -1;
}
