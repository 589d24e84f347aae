/* engine/constraint.c - see constraint.h; and grammars of sluice.h. */
#include "engine/constraint.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "engine/engine.h"

static struct grammar *grammar_of(struct sluice_grammar *g)
{
    return (struct grammar *)g;
}

enum sluice_status constraint_init(struct constraint *c,
                                   const struct sluice_request_options *options,
                                   const struct vocab *vocab, struct sluice_error *err)
{
    *c = (struct constraint){0};
    if (!options->grammar)
        return SLUICE_OK;
    FAIL_IF(options->ignore_eos, err, SLUICE_ERR_ARG,
            "a grammar says where the answer ends: expected no ignore_eos beside it");
    TRY(grammar_state_init(&c->state, grammar_of(options->grammar), err));
    enum sluice_status st = SLUICE_OK;
    if (options->grammar_begun)
        st = grammar_state_bytes(&c->state, str_of(options->grammar_begun), err);
    if (st == SLUICE_ERR_FORMAT)
        st = status_fail(err, SLUICE_ERR_ARG, -1,
                         "the text that the answer was begun with is outside of its grammar");
    c->words = ((size_t)vocab_count(vocab) + 31) / 32;
    c->mask = calloc(c->words, sizeof *c->mask);
    c->eos = vocab_special(vocab, VOCAB_EOS);
    if (st == SLUICE_OK && !c->mask)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a mask of tokens");
    if (st != SLUICE_OK)
        constraint_deinit(c);
    return st;
}

void constraint_deinit(struct constraint *c)
{
    grammar_state_deinit(&c->state);
    free(c->mask);
    *c = (struct constraint){0};
}

enum sluice_status constraint_mask(struct constraint *c, const struct generate *g,
                                   const uint32_t **mask, struct sluice_error *err)
{
    *mask = NULL;
    if (!c->mask)
        return SLUICE_OK;
    *mask = c->mask;
    if (!g->thinking)
        return grammar_state_mask(&c->state, c->mask, err);
    memset(c->mask, 0xff, c->words * sizeof *c->mask);
    c->mask[c->eos / 32] &= ~(1u << c->eos % 32);
    return SLUICE_OK;
}

enum sluice_status constraint_token(struct constraint *c, int32_t id, bool thinking,
                                    struct sluice_error *err)
{
    if (!c->mask || thinking || id == c->eos)
        return SLUICE_OK;
    return grammar_state_token(&c->state, id, err);
}

/* ---- grammars ---- */

static enum sluice_status trie_of(struct sluice *e, const struct token_trie **out,
                                  struct sluice_error *err)
{
    enum sluice_status st = SLUICE_OK;
    pthread_mutex_lock(&e->trie_lock);
    if (!e->trie)
        st = token_trie_new(e->vocab, &e->trie, err);
    *out = e->trie;
    pthread_mutex_unlock(&e->trie_lock);
    return st;
}

static enum sluice_status parse(const char *what, const char *text, size_t len,
                                struct json_object **out, struct sluice_error *err)
{
    if (!text)
        return SLUICE_OK;
    enum sluice_status st = json_text_parse(text, len, out, err);
    if (st != SLUICE_OK) {
        status_prefix(err, "%s: ", what);
        return st;
    }
    enum json_type type = what[0] == 't' ? json_type_array : json_type_object;
    FAIL_IF(!json_object_is_type(*out, type), err, SLUICE_ERR_ARG, "%s: expected %s, found %.60s",
            what, json_type_to_name(type), json_object_to_json_string(*out));
    return SLUICE_OK;
}

enum sluice_status sluice_grammar_new(struct sluice *e,
                                      const struct sluice_grammar_options *options,
                                      struct sluice_grammar **out, struct sluice_error *err)
{
    struct json_object *schema = NULL, *tools = NULL;
    struct grammar_ask ask = {.gbnf = {options->gbnf, options->gbnf_len},
                              .schema_name = options->schema_name,
                              .tool = options->tool,
                              .one_call = options->one_call,
                              .loose = options->loose};
    const struct token_trie *trie;
    struct grammar *g;
    enum sluice_status st;
    *out = NULL;
    FAIL_IF(!e->vocab, err, SLUICE_ERR_MODEL, "%s holds no tokenizer", e->path);
    FAIL_IF(!options->gbnf && !options->schema && !options->tools, err, SLUICE_ERR_ARG,
            "a grammar: expected a GBNF, a schema or tools");
    FAIL_IF(options->gbnf && options->schema, err, SLUICE_ERR_ARG,
            "a grammar: expected a GBNF or a schema, found both");
    TRY_OUT(parse("schema", options->schema, options->schema_len, &schema, err));
    TRY_OUT(parse("tools", options->tools, options->tools_len, &tools, err));
    TRY_OUT(trie_of(e, &trie, err));
    ask.schema = schema;
    ask.tools = tools;
    TRY_OUT(grammar_new(&ask, trie, &g, err));
    *out = (struct sluice_grammar *)g;
out:
    json_object_put(schema);
    json_object_put(tools);
    return st;
}

void sluice_grammar_free(struct sluice_grammar *g)
{
    grammar_free(grammar_of(g));
}
