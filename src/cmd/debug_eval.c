/* `sluice debug logits | draft`: token ids in, logits out, as raw numbers. */
#include <errno.h>
#include <inttypes.h>

#include "base/check.h"
#include "cmd/cmd.h"
#include "os/file.h"

/* Bytes of logits held at a time. */
#define PIECE_BYTES ((size_t)256 << 20)

struct eval {
    const struct options *o;
    int32_t *ids;
    size_t n;
    FILE *to;
    struct sluice *e;
    struct sluice_session *s;
    size_t vocab, width;         /* width: floats of the streams of a token */
};

static enum sluice_status read_ids(struct eval *v, struct sluice_error *err)
{
    const char *path = options_text(v->o, OPT_IDS, NULL);
    char *bytes;
    size_t size;
    TRY(file_read_all(path, LIMIT_CMD_IDS, &bytes, &size, err));
    if (size == 0 || size % sizeof v->ids[0]) {
        free(bytes);
        return status_fail(err, SLUICE_ERR_FORMAT, -1,
                           "%s: expected 4-byte token ids, found %zu bytes", path, size);
    }
    v->ids = (int32_t *)bytes;
    v->n = size / sizeof v->ids[0];
    return SLUICE_OK;
}

static enum sluice_status put(struct eval *v, const float *logits, size_t rows,
                              struct sluice_error *err)
{
    FAIL_IF(fwrite(logits, v->vocab * sizeof logits[0], rows, v->to) != rows, err, SLUICE_ERR_IO,
            "%s: %s", options_text(v->o, OPT_OUT, ""), strerror(errno));
    return SLUICE_OK;
}

/* In pieces of whole chunks, so that --chunk means the same as without pieces. */
static enum sluice_status eval_logits(struct eval *v, struct sluice_error *err)
{
    size_t chunk = (size_t)sluice_info(v->e)->chunk;
    size_t piece = PIECE_BYTES / (v->vocab * sizeof(float)) / chunk * chunk;
    piece = piece < chunk ? chunk : piece;
    piece = piece < v->n ? piece : v->n;
    enum sluice_status st = SLUICE_OK;
    float *logits = malloc(piece * v->vocab * sizeof logits[0]);
    FAIL_IF(!logits, err, SLUICE_ERR_NOMEM, "out of memory for logits of %zu tokens", piece);
    for (size_t at = 0; at < v->n && st == SLUICE_OK; at += piece) {
        size_t rows = v->n - at < piece ? v->n - at : piece;
        struct sluice_eval eval = {v->ids + at, rows, (int)chunk, logits, NULL};
        st = sluice_session_eval(v->s, &eval, err);
        if (st == SLUICE_OK)
            st = put(v, logits, rows, err);
    }
    free(logits);
    return st;
}

static enum sluice_status eval_draft(struct eval *v, struct sluice_error *err)
{
    int chunk = sluice_info(v->e)->chunk;
    size_t rows = v->n - 1;
    enum sluice_status st = SLUICE_OK;
    FAIL_IF(rows == 0, err, SLUICE_ERR_ARG, "expected at least two token ids, found one");
    float *streams = malloc(v->n * v->width * sizeof streams[0]);
    float *logits = malloc(rows * v->vocab * sizeof logits[0]);
    struct sluice_eval trunk = {v->ids, v->n, chunk, NULL, streams};
    struct sluice_eval draft = {v->ids + 1, rows, chunk, logits, streams};
    if (!streams || !logits)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for logits of %zu tokens", rows);
    if (st == SLUICE_OK)
        st = sluice_session_eval(v->s, &trunk, err);
    if (st == SLUICE_OK)
        st = sluice_session_draft(v->s, &draft, err);
    if (st == SLUICE_OK)
        st = put(v, logits, rows, err);
    free(logits);
    free(streams);
    return st;
}

static enum sluice_status run(struct eval *v, bool draft, struct sluice_error *err)
{
    const struct sluice_info *info = sluice_info(v->e);
    const char *path = options_text(v->o, OPT_OUT, NULL);
    v->vocab = (size_t)info->n_vocab;
    v->width = (size_t)info->n_stream * (size_t)info->dim;
    TRY(sluice_session_open(v->e, (int64_t)v->n, &v->s, err));
    v->to = strcmp(path, "-") == 0 ? stdout : fopen(path, "wb");
    FAIL_IF(!v->to, err, SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    TRY(draft ? eval_draft(v, err) : eval_logits(v, err));
    FAIL_IF(fflush(v->to) != 0, err, SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    return SLUICE_OK;
}

static int evaluate(const struct options *o, bool draft)
{
    struct eval v = {.o = o};
    struct sluice_options engine;
    struct sluice_error err;
    if (!options_given(o, OPT_IDS))
        return cmd_usage(o, "--ids is missing");
    if (!options_given(o, OPT_OUT))
        return cmd_usage(o, "--out is missing");
    enum sluice_status st = read_ids(&v, &err);
    int code = EXIT_OK;
    if (st == SLUICE_OK) {
        cmd_engine_options(o, &engine);
        engine.context = (int64_t)v.n;
        engine.max_requests = 1;
        code = cmd_open(o, &engine, &v.e);
    }
    if (v.e)
        st = run(&v, draft, &err);
    if (st != SLUICE_OK) {
        cmd_error(o, &err);
        code = st == SLUICE_ERR_NOMEM ? EXIT_MEMORY : EXIT_FAILED;
    }
    if (v.to && v.to != stdout)
        fclose(v.to);
    sluice_session_close(v.s);
    sluice_close(v.e);
    free(v.ids);
    return code;
}

int cmd_debug_logits(const struct options *o)
{
    return evaluate(o, /*draft=*/false);
}

int cmd_debug_draft(const struct options *o)
{
    return evaluate(o, /*draft=*/true);
}
