/* text/token_trie.c - see token_trie.h. */
#include "text/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

static int by_bytes(const void *a, const void *b, void *vocab)
{
    int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    struct str x = vocab_bytes(vocab, i), y = vocab_bytes(vocab, k);
    int c = memcmp(x.at, y.at, x.len < y.len ? x.len : y.len);
    if (c)
        return c;
    return x.len != y.len ? (x.len < y.len ? -1 : 1) : i < k ? -1 : 1;
}

static bool ordinary(const struct vocab *v, int32_t id)
{
    return !vocab_is_added(v, id) && vocab_type(v, id) != VOCAB_UNUSED &&
           vocab_type(v, id) != VOCAB_UNKNOWN && vocab_bytes(v, id).len > 0;
}

static size_t common(struct str a, struct str b)
{
    size_t n = 0;
    while (n < a.len && n < b.len && a.at[n] == b.at[n])
        n++;
    return n;
}

/* Nodes of the n sorted tokens; open: [longest + 1] scratch. */
static void fill(struct token_trie *t, int32_t n, int32_t *open)
{
    struct str last = {"", 0};
    t->n_node = 1;
    t->first[0] = 0;
    open[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        struct str text = vocab_bytes(t->vocab, t->token[i]);
        size_t same = common(last, text);
        for (size_t d = last.len; d > same; d--)
            t->end[open[d]] = t->n_node;
        for (size_t d = same + 1; d <= text.len; d++) {
            t->byte[t->n_node] = (uint8_t)text.at[d - 1];
            t->depth[t->n_node] = (uint16_t)d;
            t->first[t->n_node] = i;
            open[d] = t->n_node++;
        }
        last = text;
    }
    for (size_t d = 0; d <= last.len; d++)
        t->end[open[d]] = t->n_node;
    t->first[t->n_node] = n;
}

enum sluice_status token_trie_new(const struct vocab *v, struct token_trie **out,
                                  struct sluice_error *err)
{
    *out = NULL;
    struct token_trie *t = calloc(1, sizeof *t);
    FAIL_IF(!t, err, SLUICE_ERR_NOMEM, "out of memory for the tokens of grammars");
    t->vocab = v;
    t->n_vocab = vocab_count(v);
    t->eos = vocab_special(v, VOCAB_EOS);
    t->symbol[GRAMMAR_DSML] = vocab_special(v, VOCAB_DSML);
    size_t bytes = 1;
    int32_t n = 0;
    t->token = malloc((size_t)t->n_vocab * sizeof *t->token);
    for (int32_t id = 0; t->token && id < t->n_vocab; id++) {
        if (!ordinary(v, id))
            continue;
        int32_t len = (int32_t)vocab_bytes(v, id).len;
        t->longest = len > t->longest ? len : t->longest;
        bytes += (size_t)len;
        t->token[n++] = id;
    }
    t->byte = calloc(bytes, sizeof *t->byte);
    t->depth = calloc(bytes, sizeof *t->depth);
    t->end = calloc(bytes, sizeof *t->end);
    t->first = calloc(bytes + 1, sizeof *t->first);
    int32_t *open = calloc((size_t)t->longest + 1, sizeof *open);
    if (!t->token || !t->byte || !t->depth || !t->end || !t->first || !open) {
        free(open);
        token_trie_free(t);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for the tokens of grammars");
    }
    qsort_r(t->token, (size_t)n, sizeof *t->token, by_bytes, (void *)v);
    fill(t, n, open);
    free(open);
    *out = t;
    return SLUICE_OK;
}

void token_trie_free(struct token_trie *t)
{
    if (!t)
        return;
    free(t->token);
    free(t->byte);
    free(t->depth);
    free(t->end);
    free(t->first);
    free(t);
}
