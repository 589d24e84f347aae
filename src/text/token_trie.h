/* text/token_trie.h - the ordinary tokens of a vocabulary as a tree of their bytes; private to
 * text/grammar.c. Nodes stand in preorder, so a walk is one pass over arrays that leaves out the
 * subtrees of bytes that cannot follow. */
#ifndef SLUICE_TEXT_TOKEN_TRIE_H
#define SLUICE_TEXT_TOKEN_TRIE_H

#include "text/grammar.h"

struct token_trie {
    const struct vocab *vocab;
    int32_t n_vocab, eos;
    int32_t symbol[GRAMMAR_SYMBOLS]; /* their tokens, or -1 */
    int32_t longest; /* bytes of a token */
    int32_t n_node; /* node 0 is the empty text */
    uint8_t *byte; /* [n_node] the last of the node's text */
    uint16_t *depth; /* [n_node] bytes of the node's text */
    int32_t *end; /* [n_node] the first node behind the subtree */
    int32_t *first; /* [n_node + 1] tokens of the node: first[i] to first[i + 1] */
    int32_t *token; /* ids, in order of their bytes */
};

#endif
