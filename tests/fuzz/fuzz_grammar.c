/* Grammars from the network: a GBNF, a JSON schema or a list of tools is compiled or refused; what
 * is compiled reads any bytes, and a mask agrees with its tokens tried one by one. First byte:
 * which of the three; then the grammar, a byte 1, and the bytes that are read. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json_text.h"
#include "text/grammar.h"
#include "vocab_fixture.h"

static struct vocab *vocab;
static struct token_trie *trie;

static void open_vocab(void)
{
    vocab = fixture_vocab();
    SLUICE_ASSERT(vocab && token_trie_new(vocab, &trie, NULL) == SLUICE_OK);
}

/* A state that a mask was asked for takes exactly the mask's tokens. */
static void try_mask(struct grammar *g, struct str read)
{
    uint32_t mask[32];
    struct grammar_state s, t;
    SLUICE_ASSERT(vocab_count(vocab) <= 1024);
    if (grammar_state_init(&s, g, NULL) != SLUICE_OK)
        return;
    bool inside = grammar_state_bytes(&s, read, NULL) == SLUICE_OK;
    for (int32_t id = 0;
         inside && grammar_state_mask(&s, mask, NULL) == SLUICE_OK && id < vocab_count(vocab);
         id += 7) {
        bool end = id == vocab_special(vocab, VOCAB_EOS), may;
        if (grammar_state_init(&t, g, NULL) != SLUICE_OK)
            break;
        enum sluice_status st = grammar_state_bytes(&t, read, NULL);
        if (st == SLUICE_OK && !end && vocab_bytes(vocab, id).len > 0)
            st = grammar_state_token(&t, id, NULL);
        may = end ? grammar_state_ends(&t) : st == SLUICE_OK && vocab_bytes(vocab, id).len > 0;
        bool known = end || st == SLUICE_OK || st == SLUICE_ERR_FORMAT;
        SLUICE_ASSERT(!known || may == (mask[id / 32] >> id % 32 & 1));
        grammar_state_deinit(&t);
    }
    grammar_state_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!vocab)
        open_vocab();
    if (len < 2 || len > 4096)
        return 0;
    struct str text = {(const char *)data + 1, len - 1}, read = {"", 0};
    const char *cut = memchr(text.at, 1, text.len);
    if (cut) {
        read = (struct str){cut + 1, (size_t)(text.at + text.len - cut - 1)};
        text.len = (size_t)(cut - text.at);
    }
    struct json_object *value = NULL;
    struct grammar *g = NULL;
    struct grammar_ask ask = {.loose = data[0] & 4, .one_call = data[0] & 8};
    enum json_type type = data[0] & 1 ? json_type_object : json_type_array;
    if (data[0] % 3 == 0)
        ask.gbnf = text;
    else if (json_text_parse(text.at, text.len, &value, NULL) != SLUICE_OK ||
             !json_object_is_type(value, type))
        goto out;
    if (value)
        *(data[0] & 1 ? &ask.schema : &ask.tools) = value;
    if (grammar_new(&ask, trie, &g, NULL) == SLUICE_OK)
        try_mask(g, read);
out:
    grammar_free(g);
    json_object_put(value);
    return 0;
}
