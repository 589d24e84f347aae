/* kvstore/record.c - see record.h. */
#include "kvstore/record.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

/* The fastest level: rows of FP8 pack to about nine tenths at any of them. That is not worth
 * unpacking when they are needed again: one thread unpacks at half the speed of a fast disk. So a
 * payload is packed only where that saves a quarter. */
#define ZSTD_LEVEL 1
#define WORTH_PACKING(packed, raw) ((packed) <= (raw) / 4 * 3)

static const char magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'K', 'V'};
enum { VERSION = 2 };

size_t record_ids(enum record_kind kind, int64_t n)
{
    return kind == RECORD_PAGE ? PAGE_SINK_TOKENS : (size_t)(n % PAGE_SINK_TOKENS);
}

struct page_key record_checkpoint_key(struct page_key key)
{
    key.low ^= RECORD_CHECKPOINT;
    return key;
}

static size_t id_bytes(const struct record_header *h)
{
    return record_ids((enum record_kind)h->kind, h->n) * sizeof(int32_t);
}

size_t record_head_bytes(const struct record_header *h)
{
    return RECORD_HEADER_BYTES + id_bytes(h);
}

uint64_t record_bytes(const struct record_header *h)
{
    return record_head_bytes(h) + h->packed_bytes;
}

/* Header (empty as yet), ids, and the stored payload. */
static enum sluice_status pack_body(const struct record *r, const struct record_body *body,
                                    struct buf *out, struct sluice_error *err)
{
    static const uint8_t header[RECORD_HEADER_BYTES];
    size_t room = ZSTD_compressBound(body->n);
    char *packed = malloc(room);
    FAIL_IF(!packed, err, SLUICE_ERR_NOMEM, "out of memory for a record of %zu bytes", body->n);
    size_t bytes = ZSTD_compress(packed, room, body->payload, body->n, ZSTD_LEVEL);
    enum sluice_status st = SLUICE_OK;
    if (ZSTD_isError(bytes)) {
        st = status_fail(err, SLUICE_ERR_INTERNAL, -1, "zstd: %s", ZSTD_getErrorName(bytes));
    } else {
        buf_add(out, header, sizeof header);
        buf_add(out, body->ids, record_ids(r->kind, r->n) * sizeof *body->ids);
        bool worth = WORTH_PACKING(bytes, body->n);
        buf_add(out, worth ? packed : body->payload, worth ? bytes : body->n);
        st = buf_status(out, err);
    }
    free(packed);
    return st;
}

enum sluice_status record_pack(const struct record *r, const struct page_identity *identity,
                               const struct record_body *body, struct buf *out,
                               struct sluice_error *err)
{
    size_t begin = out->len;
    TRY(pack_body(r, body, out, err));
    char *file = out->data + begin;
    struct record_header h = {
        .version = VERSION, .kind = r->kind, .identity = *identity, .key = r->key,
        .parent = r->parent, .n = r->n, .raw_bytes = body->n};
    size_t head = record_head_bytes(&h);
    h.packed_bytes = out->len - begin - head;
    XXH128_hash_t sum = XXH3_128bits(file + head, h.packed_bytes);
    h.sum_low = sum.low64;
    h.sum_high = sum.high64;
    memcpy(h.magic, magic, sizeof magic);
    h.header_sum = XXH3_64bits(&h, offsetof(struct record_header, header_sum));
    memcpy(file, &h, sizeof h);
    return SLUICE_OK;
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
    FAIL_IF(out->kind == RECORD_PAGE ? out->n != 0 : out->n < 1, err, SLUICE_ERR_FORMAT,
            "kind %u with %lld tokens", out->kind, (long long)out->n);
    FAIL_IF(out->raw_bytes > RECORD_MAX_BYTES || out->packed_bytes > RECORD_MAX_BYTES, err,
            SLUICE_ERR_FORMAT, "a payload of %llu bytes, packed %llu: expected at most %llu",
            (unsigned long long)out->raw_bytes, (unsigned long long)out->packed_bytes,
            (unsigned long long)RECORD_MAX_BYTES);
    bool same = !identity || memcmp(&out->identity, identity, sizeof *identity) == 0;
    FAIL_IF(!same, err, SLUICE_ERR_FORMAT, "belongs to another model, KV format or backend");
    return SLUICE_OK;
}

void record_read_ids(const void *head, const struct record_header *h, int32_t *ids)
{
    memcpy(ids, (const uint8_t *)head + RECORD_HEADER_BYTES, id_bytes(h));
}

enum sluice_status record_check_key(const void *head, const struct record_header *h,
                                    struct sluice_error *err)
{
    int32_t ids[PAGE_SINK_TOKENS];
    record_read_ids(head, h, ids);
    struct page_key key =
        page_key_next(h->parent, ids, record_ids((enum record_kind)h->kind, h->n));
    if (h->kind == RECORD_CHECKPOINT)
        key = record_checkpoint_key(key);
    FAIL_IF(!page_key_same(key, h->key), err, SLUICE_ERR_FORMAT,
            "the key is not that of the parent and the ids");
    return SLUICE_OK;
}

enum sluice_status record_check_body(const struct record_file *file, const struct record_header *h,
                                     struct sluice_error *err)
{
    FAIL_IF(h->packed_bytes != file->n_stored, err, SLUICE_ERR_FORMAT,
            "expected %llu bytes of payload, found %zu", (unsigned long long)h->packed_bytes,
            file->n_stored);
    XXH128_hash_t sum = XXH3_128bits(file->stored, file->n_stored);
    FAIL_IF(sum.low64 != h->sum_low || sum.high64 != h->sum_high, err, SLUICE_ERR_FORMAT,
            "the payload's checksum does not match");
    return record_check_key(file->head, h, err);
}

enum sluice_status record_unpack(const struct record_file *file, const struct record_header *h,
                                 void *out, size_t room, struct sluice_error *err)
{
    TRY(record_check_body(file, h, err));
    FAIL_IF(h->raw_bytes != room, err, SLUICE_ERR_FORMAT,
            "expected a payload of %zu bytes, found %llu", room, (unsigned long long)h->raw_bytes);
    if (h->packed_bytes == h->raw_bytes) {
        if (out != file->stored)
            memcpy(out, file->stored, room);
        return SLUICE_OK;
    }
    size_t got = ZSTD_decompress(out, room, file->stored, file->n_stored);
    FAIL_IF(ZSTD_isError(got) || got != room, err, SLUICE_ERR_FORMAT,
            "expected a zstd payload of %zu bytes", room);
    return SLUICE_OK;
}

enum sluice_status record_check_file(const void *bytes, size_t n, struct record_header *h,
                                     struct record_file *file, struct sluice_error *err)
{
    TRY(record_check(bytes, n, NULL, h, err));
    FAIL_IF(record_bytes(h) != n, err, SLUICE_ERR_FORMAT,
            "expected a file of %llu bytes, found %zu", (unsigned long long)record_bytes(h), n);
    size_t head = record_head_bytes(h);
    *file = (struct record_file){bytes, (const uint8_t *)bytes + head, n - head};
    return record_check_body(file, h, err);
}
