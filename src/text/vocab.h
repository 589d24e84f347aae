/* text/vocab.h - the tokenizer's tables, read from a model file's metadata and checked once.
 *
 * Invariants after vocab_open:
 *   (1) every id in [0, n) has a byte string; ids of unused tokens may have an empty one
 *   (2) no two tokens in use have the same text; each of the 256 single bytes has an id
 *   (3) both parts and the result of every merge are tokens of the vocabulary, none of them an
 *       added token, and a pair of ids occurs in at most one merge
 *   (4) special[] of the mandatory protocol tokens are added tokens found by their text; ids are
 *       never assumed
 *
 * Ownership: a vocab borrows the bytes of the gguf it was opened from only while vocab_open runs;
 * afterwards it owns all its memory (about 8 MB for 129k tokens, in a handful of allocations).
 * Threads: immutable after vocab_open; share one vocab among any number of sessions and threads. */
#ifndef SLUICE_TEXT_VOCAB_H
#define SLUICE_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "formats/gguf.h"

/* Values of tokenizer.ggml.token_type. */
enum vocab_type {
    VOCAB_NORMAL = 1,
    VOCAB_UNKNOWN = 2,
    VOCAB_CONTROL = 3,      /* added: special, as <｜User｜> */
    VOCAB_USER_DEFINED = 4, /* added: matched in text like a special token, as <think> */
    VOCAB_UNUSED = 5,       /* never produced by encoding */
    VOCAB_BYTE = 6,
};

/* Protocol tokens (model-spec sections 6.4 and 7). Up to VOCAB_MANDATORY a model file without them
 * is refused; the others are -1 where the vocabulary lacks them. */
enum vocab_special {
    VOCAB_BOS,
    VOCAB_EOS,
    VOCAB_USER,
    VOCAB_ASSISTANT,
    VOCAB_THINK,
    VOCAB_THINK_END,
    VOCAB_DSML,
    VOCAB_MANDATORY,
    VOCAB_PAD = VOCAB_MANDATORY,
    VOCAB_FIM_HOLE,
    VOCAB_FIM_BEGIN,
    VOCAB_FIM_END,
    VOCAB_EOT,
    VOCAB_LATEST_REMINDER,
    VOCAB_ACTION,
    VOCAB_QUERY,
    VOCAB_AUTHORITY,
    VOCAB_DOMAIN,
    VOCAB_TITLE,
    VOCAB_READ_URL,
    VOCAB_SPECIALS,
};

struct vocab;

#define VOCAB_MAX_TOKENS (1 << 21)
#define VOCAB_MAX_TOKEN_BYTES 4096

/* Reads tokenizer.ggml.{model,pre,tokens,token_type,merges} and checks bos_token_id and
 * eos_token_id, where present, against the texts. SLUICE_ERR_MODEL names the key or token, what
 * was expected and what was found; *out is NULL on failure. */
enum sluice_status vocab_open(const struct gguf *g, struct vocab **out, struct sluice_error *err);
void vocab_close(struct vocab *v); /* accepts NULL */

int32_t vocab_count(const struct vocab *v);
int32_t vocab_merge_count(const struct vocab *v);
int32_t vocab_added_count(const struct vocab *v);

/* The raw bytes that a token stands for (not the byte-alphabet text of the file); not
 * NUL-terminated; may be a fragment of a UTF-8 character. Valid as long as v. The id must be in
 * [0, vocab_count). */
struct str vocab_bytes(const struct vocab *v, int32_t id);
enum vocab_type vocab_type(const struct vocab *v, int32_t id);
/* Control or user-defined: matched as a whole in text that may form special tokens. */
bool vocab_is_added(const struct vocab *v, int32_t id);
/* Id of a protocol token, -1 where the vocabulary lacks an optional one. */
int32_t vocab_special(const struct vocab *v, enum vocab_special which);
/* The text of a protocol token, whether or not this vocabulary has it: "<｜User｜>". */
const char *vocab_special_text(enum vocab_special which);
/* Id of the added token with exactly this text, or -1. */
int32_t vocab_find_added(const struct vocab *v, struct str text);

/* For bpe.c: */
int32_t vocab_byte_id(const struct vocab *v, uint8_t byte);
/* The merge of two adjacent tokens: its rank (lower merges first) and the id of the result; false
 * if none. */
struct vocab_merge {
    uint32_t rank;
    int32_t id;
};
bool vocab_find_merge(const struct vocab *v, int32_t left, int32_t right, struct vocab_merge *out);
/* The leftmost, then longest, added token in text: its offset in *at and its id; -1 (and *at =
 * text.len) if there is none. Time is linear in the distance to the match for any text that the
 * added tokens do not start in. */
int32_t vocab_match_added(const struct vocab *v, struct str text, size_t *at);

#endif
