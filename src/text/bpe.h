/* text/bpe.h - text to token ids and back (model-spec section 6.2).
 *
 * Encoding: cut at added tokens (leftmost, then longest) if they may form, cut the rest into
 * pieces (text/pretok.h), and inside each piece merge the adjacent pair of lowest rank, leftmost
 * first, until none is left. A piece of n bytes takes O(n log n) time.
 * Any bytes can be encoded, valid UTF-8 or not, and decoding gives them back exactly. No token is
 * ever added: a beginning-of-sentence token is text that the chat encoder writes.
 *
 * Threads: a vocab is immutable, so any number of calls may run at once, each with its own list. */
#ifndef SLUICE_TEXT_BPE_H
#define SLUICE_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "text/vocab.h"

/* A growable list of token ids. Zero-initialise; free with token_list_deinit. */
struct token_list {
    int32_t *at; /* owned; NULL until the first append */
    size_t n;
    size_t room;
};

/* Longest text of one bpe_encode call, in bytes. */
#define BPE_TEXT_MAX ((size_t)1 << 28)

void token_list_deinit(struct token_list *list);
enum sluice_status token_list_add(struct token_list *list, int32_t id, struct sluice_error *err);

/* Appends the ids of text to *out. With allow_added, the literal text of an added token
 * (<｜User｜>, <think>) becomes its id, as the reference encoder does everywhere; without, it is
 * encoded as ordinary text, so that untrusted text cannot forge protocol tokens. On failure
 * (SLUICE_ERR_NOMEM, SLUICE_ERR_LIMIT) *out has its former contents. */
enum sluice_status bpe_encode(const struct vocab *v, struct str text, bool allow_added,
                              struct token_list *out, struct sluice_error *err);

/* Bytes [from, to) of a text. */
struct text_range {
    size_t from, to;
};

/* bpe_encode of a text of which only some ranges may form added tokens: ascending, apart, within
 * the text. Elsewhere, or across a border, their literal text is ordinary. For a text without such
 * literals outside the ranges this is what the reference encoder gives for the whole text. */
enum sluice_status bpe_encode_marked(const struct vocab *v, struct str text,
                                     const struct text_range *trusted, size_t n_trusted,
                                     struct token_list *out, struct sluice_error *err);

/* Appends the raw bytes of n ids to *out. SLUICE_ERR_ARG for an id outside the vocabulary, with
 * position = its index; the ids before it have been appended. Bytes may end inside a UTF-8
 * character; to show text while it is produced use text/detok.h. */
enum sluice_status bpe_decode(const struct vocab *v, const int32_t *ids, size_t n, struct buf *out,
                              struct sluice_error *err);

#endif
