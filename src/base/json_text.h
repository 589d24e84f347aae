/* base/json_text.h - JSON in and out; the only place where the program parses or writes it.
 *
 * Reading: strict JSON (RFC 8259) in UTF-8 with a cap on depth. Escaped surrogate pairs become one
 * character; an escaped half without its other half becomes U+FFFD. Integers that no 64-bit type
 * holds are refused, so that a number never changes its value in silence.
 *
 * Writing: byte for byte what Python's json.dumps(value, ensure_ascii=False) gives, which is what
 * the model has seen in training: ", " and ": ", keys in the order received, floats as the shortest
 * text that reads back ("1e-07", "100000.0").
 *
 * Threads: no shared state. */
#ifndef SLUICE_BASE_JSON_TEXT_H
#define SLUICE_BASE_JSON_TEXT_H

#include <json-c/json_object.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

/* *out is NULL for the value null. SLUICE_ERR_FORMAT with the byte offset. The caller owns *out
 * (json_object_put). */
enum sluice_status json_text_parse(const char *text, size_t len, struct json_object **out,
                                   struct sluice_error *err);

/* Appends value; buf_status tells of failure. */
void json_text_write(struct buf *b, struct json_object *value);
/* Appends text as a JSON string, quotes included. */
void json_text_write_str(struct buf *b, struct str text);
/* The inside of such a string, without quotes: for writing a long one in pieces. */
void json_text_escape(struct buf *b, struct str text);
/* Appends a float as Python's json does (1e999 comes back as Infinity, as there). */
void json_text_write_double(struct buf *b, double x);

#endif
