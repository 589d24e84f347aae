/* text/grammar.h - what an answer may be, token by token.
 *
 * A grammar is compiled once into a pushdown program over bytes. The *state* of an answer is the
 * set of stacks that its text so far may have led to. Sets and stacks are kept once each in the
 * grammar, with the steps between them and the masks of tokens that were asked for, so that a
 * state that comes again costs a look-up.
 *
 * Invariants:
 *   (1) a mask has exactly the tokens whose bytes, appended, still begin a text of the grammar, and
 *       the end of the answer where the text is one
 *   (2) what a mask holds depends on the grammar, the text so far and the vocabulary; never on what
 *       else used the grammar
 *   (3) sizes are capped by base/limits.h; text that nests deeper than LIMIT_GRAMMAR_DEPTH is
 *       outside the grammar; what else exceeds a cap is an error
 *
 * GBNF: rules `name ::= ...`, "literals" and [classes] with the escapes \n \r \t \\ \" \[ \] \^ \-
 * \xHH \uHHHH \UHHHHHHHH, `.`, groups, | ? * + {n} {n,} {n,m}, # comments; the first is `root`.
 * Left recursion is refused.
 *
 * Threads: a grammar may be shared (its lock is held in each call); a state belongs to one thread
 * at a time. */
#ifndef SLUICE_TEXT_GRAMMAR_H
#define SLUICE_TEXT_GRAMMAR_H

#include <json-c/json_object.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

struct grammar;
struct token_trie;
struct vocab;

/* Tokens that are no text, by what a grammar calls them. */
enum grammar_symbol { GRAMMAR_DSML, GRAMMAR_SYMBOLS };

/* ---- vocabulary ---- */

/* The ordinary tokens of a vocabulary by their bytes. Borrows v. Immutable; any thread. */
enum sluice_status token_trie_new(const struct vocab *v, struct token_trie **out,
                                  struct sluice_error *err);
void token_trie_free(struct token_trie *t); /* accepts NULL */

/* ---- grammars ---- */

/* What an answer may be: a text of the GBNF, or JSON after the schema, or a block of calls of the
 * tools; with tools and one of the others, either. */
struct grammar_ask {
    struct str gbnf; /* at NULL: none */
    struct json_object *schema; /* or NULL; an object */
    const char *schema_name; /* of the schema, where a path begins in messages */
    struct json_object *tools; /* array of {"type": "function", "function"}, or NULL */
    const char *tool; /* only this one may be called, or NULL */
    bool one_call;
    bool loose; /* a tool whose schema cannot be followed takes any arguments;
                   else that is an error */
};

/* trie: NULL where no masks will be asked for; borrowed until the grammar is freed. SLUICE_ERR_ARG
 * names the line of the GBNF, or the keyword and the path of the schema; SLUICE_ERR_LIMIT a cap. */
enum sluice_status grammar_new(const struct grammar_ask *ask, const struct token_trie *trie,
                               struct grammar **out, struct sluice_error *err);
struct grammar *grammar_hold(struct grammar *g); /* one more owner */
void grammar_free(struct grammar *g); /* accepts NULL; one owner less */

/* ---- states ---- */

/* Caller-owned; fields are private to grammar.c. */
struct grammar_state {
    struct grammar *g; /* held */
    int32_t id;
    struct grammar_state *next, **slot; /* all states of the grammar */
};

enum sluice_status grammar_state_init(struct grammar_state *s, struct grammar *g,
                                      struct sluice_error *err);
void grammar_state_deinit(struct grammar_state *s); /* zeroed: does nothing */
/* The text goes on with these bytes. SLUICE_ERR_FORMAT and the offset where they leave the grammar;
 * the state is as before then. */
enum sluice_status grammar_state_bytes(struct grammar_state *s, struct str bytes,
                                       struct sluice_error *err);
enum sluice_status grammar_state_token(struct grammar_state *s, int32_t id,
                                       struct sluice_error *err);
/* May the text end here? */
bool grammar_state_ends(const struct grammar_state *s);
/* Bit id % 32 of mask[id / 32]: may token id follow? mask: (n_vocab + 31) / 32 words. */
enum sluice_status grammar_state_mask(struct grammar_state *s, uint32_t *mask,
                                      struct sluice_error *err);

#endif
