/* text/toolcall.h - tool calls in the model's text (DSML, model-spec sections 7.5 and 7.6): the one
 * parser, incremental, and the one renderer.
 *
 *   "\n\n<｜DSML｜tool_calls>\n"
 *   "<｜DSML｜invoke name="NAME">\n"
 *   "<｜DSML｜parameter name="KEY" string="true|false">VALUE</｜DSML｜parameter>\n"
 *   "</｜DSML｜invoke>\n"
 *   "</｜DSML｜tool_calls>"
 *
 * Invariants:
 *   (1) the events, their texts joined, do not depend on how the input is cut
 *   (2) every byte of the input is syntax, content, a name or part of an argument: what turns out
 *       not to be a call comes back as content, in order
 *   (3) the arguments of a call that ended are a JSON object
 *   (4) content is held back only while it may be the beginning of a block of calls
 *
 *   CONTENT --opener--> BLOCK --invoke--> CALL --parameter--> VALUE
 *      ^  <--closer------'  ^ <--closer----'  ^ <--closer------'
 *      '---- anything else, in any of them: the text since the last call's end is content ----
 *
 * Lenient: the first bar may be missing (<DSML｜...), or all of ｜DSML｜; the line breaks around
 * tags may be missing or more; the block's closer may be missing at the end; a value that should be
 * JSON and is not becomes a string; "&lt;/｜DSML｜parameter>" in a value is the text of a closer. A
 * value that should be JSON may be parameters instead, which are an object's members. A parameter
 * that occurs twice ends the call as malformed.
 *
 * Threads: one parser belongs to one thread at a time. */
#ifndef SLUICE_TEXT_TOOLCALL_H
#define SLUICE_TEXT_TOOLCALL_H

#include <json-c/json_object.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"

enum answer_event_kind {
    ANSWER_REASONING,  /* text (text/reasoning.h) */
    ANSWER_CONTENT,    /* text */
    ANSWER_CALL_BEGIN, /* text: the name; index: 0, 1, ... within the answer */
    ANSWER_CALL_ARGS,  /* text: the next piece of the arguments' JSON */
    ANSWER_CALL_END,
    ANSWER_CALL_ABORT, /* the open call was malformed and is void; its text follows as content */
};

/* text is borrowed for the call. */
struct answer_event {
    enum answer_event_kind kind;
    struct str text;
    int index;
};

struct answer_sink {
    void *ctx;
    void (*event)(void *ctx, const struct answer_event *e);
};

enum toolcall_state { TOOLCALL_CONTENT, TOOLCALL_BLOCK, TOOLCALL_CALL, TOOLCALL_VALUE };

/* A parameter, of the call or inside the one before it. */
struct toolcall_level {
    bool as_string;
    bool object; /* it is made of parameters */
    int members; /* of the object */
    size_t from; /* the object's place in toolcall.object */
};

/* Caller-owned; fields are private to toolcall.c. */
struct toolcall {
    struct answer_sink sink;
    enum toolcall_state state;
    bool plain;         /* the block has tags without DSML */
    struct toolcall_level level[LIMIT_CALL_DEPTH];
    int depth; /* level[depth] is the open one, in VALUE */
    int n_calls;        /* that began and were not aborted */
    int block_calls;    /* that began in the open block */
    int n_params;       /* of the open call */
    bool giving_up;     /* the events are those of text that turned out to be no call */
    bool after_block;   /* line breaks between a block's end and what follows are syntax */
    struct buf held;    /* input not yet understood */
    struct buf raw;     /* input since the last call's end, to give back as content */
    struct buf value; /* the open value, if it should be JSON */
    struct buf object; /* JSON of a parameter that is made of parameters, as far as it came */
    struct buf keys;    /* NUL-terminated names of the open call's parameters */
    struct buf piece;   /* scratch for an event's text */
    enum sluice_status status;
};

void toolcall_init(struct toolcall *t, struct answer_sink sink);
void toolcall_deinit(struct toolcall *t);

/* Takes the next bytes of an answer without its thinking part. SLUICE_ERR_NOMEM is sticky. A block
 * beyond the caps of base/limits.h is content. */
enum sluice_status toolcall_push(struct toolcall *t, struct str text, struct sluice_error *err);
/* No more bytes: what was held back becomes content, an open call is aborted. */
enum sluice_status toolcall_finish(struct toolcall *t, struct sluice_error *err);

/* Appends the calls of an assistant message to b (section 7.5), from the "\n\n" on: an array of
 * {"function": {"name", "arguments"}} or of {"name", "arguments"}; arguments is a JSON text or an
 * object. SLUICE_ERR_FORMAT names the call and what it lacks. */
enum sluice_status toolcall_render(struct buf *b, struct json_object *calls,
                                   struct sluice_error *err);
/* The same; foreign (or NULL) gets the places in b that are no syntax but the call's own names and
 * values: pairs of size_t, from and to, ascending. */
enum sluice_status toolcall_render_marked(struct buf *b, struct json_object *calls,
                                          struct buf *foreign, struct sluice_error *err);

#endif
