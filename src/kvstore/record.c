/* kvstore/record.c - see record.h. */
#include "kvstore/record.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

/* The fastest level: rows of FP8 pack to about nine tenths at any of them. */
#define ZSTD_LEVEL 1

static const char magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'K', 'V'};
enum { VERSION = 1 };

enum sluice_status record_pack(const struct record *r, const struct page_identity *identity,
                               const void *payload, size_t n, struct buf *out,
                               struct sluice_error *err)
{
    size_t room = ZSTD_compressBound(n);
    char *packed = malloc(room);
    FAIL_IF(!packed, err, SLUICE_ERR_NOMEM, "out of memory for a record of %zu bytes", n);
    size_t bytes = ZSTD_compress(packed, room, payload, n, ZSTD_LEVEL);
    if (ZSTD_isError(bytes)) {
        free(packed);
        return status_fail(err, SLUICE_ERR_INTERNAL, -1, "zstd: %s", ZSTD_getErrorName(bytes));
    }
    XXH128_hash_t sum = XXH3_128bits(packed, bytes);
    struct record_header h = {
        .version = VERSION, .kind = r->kind, .identity = *identity, .key = r->key,
        .parent = r->parent, .n = r->n, .raw_bytes = n, .packed_bytes = bytes,
        .sum_low = sum.low64, .sum_high = sum.high64};
    memcpy(h.magic, magic, sizeof magic);
    h.header_sum = XXH3_64bits(&h, offsetof(struct record_header, header_sum));
    buf_add(out, &h, sizeof h);
    buf_add(out, packed, bytes);
    free(packed);
    return buf_status(out, err);
}

enum sluice_status record_check(const void *bytes, size_t n, const struct page_identity *identity,
                                struct record_header *out, struct sluice_error *err)
{
    FAIL_IF(n < RECORD_HEADER_BYTES, err, SLUICE_ERR_FORMAT,
            "expected a header of %d bytes, found %zu", RECORD_HEADER_BYTES, n);
    memcpy(out, bytes, sizeof *out);
    FAIL_IF(memcmp(out->magic, magic, sizeof magic) != 0, err, SLUICE_ERR_FORMAT,
            "expected \"SLUICEKV\" at the start");
    FAIL_IF(out->version != VERSION, err, SLUICE_ERR_FORMAT, "expected version %d, found %u",
            VERSION, out->version);
    uint64_t sum = XXH3_64bits(out, offsetof(struct record_header, header_sum));
    FAIL_IF(sum != out->header_sum, err, SLUICE_ERR_FORMAT, "the header's checksum does not match");
    FAIL_IF(out->kind != RECORD_PAGE && out->kind != RECORD_CHECKPOINT, err, SLUICE_ERR_FORMAT,
            "expected kind 1 or 2, found %u", out->kind);
    bool same = !identity || memcmp(&out->identity, identity, sizeof *identity) == 0;
    FAIL_IF(!same, err, SLUICE_ERR_FORMAT, "belongs to another model, KV format or backend");
    return SLUICE_OK;
}

enum sluice_status record_unpack(const void *bytes, size_t n, const struct page_identity *identity,
                                 void *out, size_t room, struct sluice_error *err)
{
    struct record_header h;
    TRY(record_check(bytes, n, identity, &h, err));
    const uint8_t *packed = (const uint8_t *)bytes + RECORD_HEADER_BYTES;
    size_t left = n - RECORD_HEADER_BYTES;
    FAIL_IF(h.packed_bytes != left, err, SLUICE_ERR_FORMAT,
            "expected %llu bytes of payload, found %zu", (unsigned long long)h.packed_bytes, left);
    FAIL_IF(h.raw_bytes != room, err, SLUICE_ERR_FORMAT,
            "expected a payload of %zu bytes, found %llu", room, (unsigned long long)h.raw_bytes);
    XXH128_hash_t sum = XXH3_128bits(packed, left);
    FAIL_IF(sum.low64 != h.sum_low || sum.high64 != h.sum_high, err, SLUICE_ERR_FORMAT,
            "the payload's checksum does not match");
    size_t got = ZSTD_decompress(out, room, packed, left);
    FAIL_IF(ZSTD_isError(got) || got != room, err, SLUICE_ERR_FORMAT,
            "expected a zstd payload of %zu bytes", room);
    return SLUICE_OK;
}
