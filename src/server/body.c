/* server/body.c - bodies of requests: decompression and JSON. */
#include <json-c/json.h>
#include <stdlib.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/server_internal.h"

#define BODY_PIECE 65536

static enum sluice_status unpack_zlib(const char *bytes, size_t len, struct buf *out,
                                      struct sluice_error *err)
{
    z_stream z = {.next_in = (Bytef *)bytes, .avail_in = (uInt)len};
    unsigned char piece[BODY_PIECE];
    /* 32: gzip and zlib are told apart by their header. */
    FAIL_IF(inflateInit2(&z, 15 + 32) != Z_OK, err, SLUICE_ERR_NOMEM,
            "out of memory for a compressed body");
    int r;
    do {
        z.next_out = piece;
        z.avail_out = sizeof piece;
        r = inflate(&z, Z_NO_FLUSH);
        if (r == Z_OK || r == Z_STREAM_END)
            buf_add(out, piece, sizeof piece - z.avail_out);
    } while (r == Z_OK && out->status == SLUICE_OK && (z.avail_in > 0 || z.avail_out == 0));
    inflateEnd(&z);
    FAIL_IF(out->status == SLUICE_ERR_LIMIT, err, SLUICE_ERR_LIMIT,
            "body: more than %zu bytes after decompression", LIMIT_HTTP_BODY);
    TRY(buf_status(out, err));
    FAIL_IF(r != Z_STREAM_END, err, SLUICE_ERR_FORMAT, "body: not a whole gzip or deflate stream");
    return SLUICE_OK;
}

static enum sluice_status unpack_zstd(const char *bytes, size_t len, struct buf *out,
                                      struct sluice_error *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    char piece[BODY_PIECE];
    FAIL_IF(!z, err, SLUICE_ERR_NOMEM, "out of memory for a compressed body");
    ZSTD_inBuffer in = {bytes, len, 0};
    size_t r = 1;
    bool more = true;
    while (more && out->status == SLUICE_OK) {
        ZSTD_outBuffer to = {piece, sizeof piece, 0};
        r = ZSTD_decompressStream(z, &to, &in);
        if (!ZSTD_isError(r))
            buf_add(out, piece, to.pos);
        more = !ZSTD_isError(r) && (in.pos < in.size || to.pos == to.size);
    }
    ZSTD_freeDStream(z);
    FAIL_IF(out->status == SLUICE_ERR_LIMIT, err, SLUICE_ERR_LIMIT,
            "body: more than %zu bytes after decompression", LIMIT_HTTP_BODY);
    TRY(buf_status(out, err));
    FAIL_IF(ZSTD_isError(r) || r != 0, err, SLUICE_ERR_FORMAT, "body: not a whole zstd stream");
    return SLUICE_OK;
}

static enum sluice_status unpack(const char *bytes, size_t len, const char *encoding,
                                 struct buf *out, struct sluice_error *err)
{
    if (strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "deflate") == 0 ||
        strcasecmp(encoding, "x-gzip") == 0)
        return unpack_zlib(bytes, len, out, err);
    if (strcasecmp(encoding, "zstd") == 0)
        return unpack_zstd(bytes, len, out, err);
    return status_fail(err, SLUICE_ERR_FORMAT, -1,
                       "body: expected the encoding gzip, deflate or zstd, found %.15s", encoding);
}

enum sluice_status body_parse(const char *bytes, size_t len, const char *encoding,
                              struct json_object **out, struct sluice_error *err)
{
    struct buf plain;
    buf_init(&plain, LIMIT_HTTP_BODY);
    *out = NULL;
    enum sluice_status st = SLUICE_OK;
    if (encoding && *encoding && strcasecmp(encoding, "identity") != 0) {
        TRY_OUT(unpack(bytes, len, encoding, &plain, err));
        bytes = plain.data ? plain.data : "";
        len = plain.len;
    }
    st = json_text_parse(bytes, len, out, err);
    if (st != SLUICE_OK) {
        status_prefix(err, "body: ");
    } else if (!json_object_is_type(*out, json_type_object)) {
        st = status_fail(err, SLUICE_ERR_FORMAT, -1, "body: expected a JSON object");
        json_object_put(*out);
        *out = NULL;
    }
out:
    buf_deinit(&plain);
    return st;
}
