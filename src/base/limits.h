/* base/limits.h - every cap of the program, by the module that enforces it. Input beyond a cap is
 * refused with an error that names it. */
#ifndef SLUICE_BASE_LIMITS_H
#define SLUICE_BASE_LIMITS_H

/* formats/gguf */
#define LIMIT_GGUF_KEYS 65536
#define LIMIT_GGUF_TENSORS 1048576
#define LIMIT_GGUF_NAME 4096               /* bytes of a key or tensor name */
#define LIMIT_GGUF_ARRAY (1u << 26)        /* elements of an array value */
#define LIMIT_GGUF_DIM ((int64_t)1 << 40)  /* of one tensor dimension */
#define LIMIT_GGUF_ALIGNMENT 65536
#define LIMIT_GGUF_PARTS 1024              /* files of one model */

/* model/shape */
#define LIMIT_CONTEXT (1 << 24)
#define LIMIT_VOCAB (1 << 22)
#define LIMIT_DIM (1 << 20)                /* hidden, ranks, inner, head counts times head size */
#define LIMIT_EXPERTS 4096
#define LIMIT_STREAMS 8
#define LIMIT_SINKHORN_ITERS 1000

/* base/json_text */
#define LIMIT_JSON_BYTES (1u << 30)
#define LIMIT_JSON_DEPTH 128

/* text/chat */
#define LIMIT_CHAT_MESSAGES 65536
#define LIMIT_CHAT_TEXT ((size_t)1 << 28)  /* bytes of a rendered prompt */

/* text/toolcall */
#define LIMIT_CALLS 128                    /* of one answer */
#define LIMIT_CALL_NAME 1024               /* bytes of a call's or a parameter's name */
#define LIMIT_CALL_DEPTH 16 /* of parameters inside parameters */
#define LIMIT_CALL_BYTES ((size_t)1 << 24) /* of one block of calls */

/* text/grammar */
#define LIMIT_GRAMMAR_TEXT ((size_t)1 << 20)   /* bytes of a grammar, and of its literals */
#define LIMIT_GRAMMAR_NODES (1 << 17)      /* of the tree, and of what it is lowered to */
#define LIMIT_GRAMMAR_NEST 64              /* groups or schemas inside each other */
#define LIMIT_GRAMMAR_COUNT 1000000        /* of a repetition */
#define LIMIT_GRAMMAR_DEPTH 256            /* calls of rules on a stack */
#define LIMIT_GRAMMAR_STACKS 2048          /* of one state */
#define LIMIT_GRAMMAR_STATES 16384         /* remembered */
#define LIMIT_GRAMMAR_FRAMES 131072        /* remembered */
#define LIMIT_GRAMMAR_WORK (1 << 23)       /* stacks looked at for one mask */
#define LIMIT_GRAMMAR_MASKS ((size_t)1 << 23) /* bytes of remembered masks of one grammar */

/* cmd */
#define LIMIT_CMD_INPUT ((size_t)64 << 20) /* bytes of a prompt file or a line of JSON */
#define LIMIT_CMD_IDS ((size_t)1 << 26)    /* bytes of a file of token ids */
#define LIMIT_CMD_HISTORY 1000             /* lines that the editor remembers */
#define LIMIT_CMD_MESSAGES 65536           /* of a conversation */
#define LIMIT_CMD_STOPS 16
#define LIMIT_CMD_PARALLEL 256             /* requests of `debug generate` at once */

/* server */
#define LIMIT_HTTP_CONNECTIONS 1024
#define LIMIT_HTTP_READ_SECONDS 120        /* for a whole request; idle connections too */
#define LIMIT_HTTP_HEADERS 65536           /* bytes */
#define LIMIT_HTTP_BODY ((size_t)1 << 26)  /* bytes, also after decompression */
#define LIMIT_HTTP_UNSENT ((size_t)1 << 24) /* bytes that wait for a slow reader */
#define LIMIT_ASK_STOPS 16
#define LIMIT_ASK_BIASES 1024
#define LIMIT_ASK_TOOLS 1024
#define LIMIT_ASK_TOOL_NAME 256
#define LIMIT_ASK_ANSWERS 128              /* prompts times answers of one request */
#define LIMIT_ASK_IMAGES 256               /* parts that are no text, of one request */
#define LIMIT_SERVER_KEYS 256
#define LIMIT_SERVER_KEY 512               /* bytes of an API key */
#define LIMIT_SERVER_SHELF ((size_t)1 << 27) /* bytes of remembered responses, and of calls */

#endif
