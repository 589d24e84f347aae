/* text/pretok.h - cuts text into the pieces that byte-pair merges never cross (model-spec 6.3).
 *
 * Three successive splits, each keeping its matches and the gaps between them:
 *   1. \p{N}{1,3}
 *   2. [U+4E00-U+9FA5 U+3040-U+309F U+30A0-U+30FF]+
 *   3. [ascii punctuation][A-Za-z]+ | [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
 *      | ' '?[\p{P}\p{S}]+[\r\n]* | \s*[\r\n]+ | \s+(?!\S) | \s+
 * matched by hand over the general categories of libutf8proc (Unicode 15); \s is the White_Space
 * property. A byte that is not part of valid UTF-8 counts as one unassigned character, so any
 * bytes can be cut.
 *
 * Threads: a struct pretok belongs to its caller; there is no shared state. Never fails, never
 * allocates. */
#ifndef SLUICE_TEXT_PRETOK_H
#define SLUICE_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct pretok {
    struct str text;    /* borrowed */
    size_t at;          /* start of the next piece */
    size_t part_end;    /* end of the current part of splits 1 and 2; split 3 stays inside it */
    size_t match_end;   /* end of a match of split 3 found behind a gap, or <= at */
};

void pretok_init(struct pretok *p, struct str text);
/* The next piece, a view into text; pieces are not empty and cover the text without holes. False
 * at the end. */
bool pretok_next(struct pretok *p, struct str *piece);

#endif
