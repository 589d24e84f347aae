/* kvstore/record.h - one file of the store: a page or a checkpoint.
 *
 *   offset  size  field                                             (all integers little endian)
 *   0       8     "SLUICEKV"
 *   8       4     u32 version, 2
 *   12      4     u32 kind: 1 page, 2 checkpoint
 *   16      32    identity: u64 model, u32 KV format, u32 numerics, u64 page and fixed bytes
 *   48      16    key
 *   64      16    parent: key of the page before, or the root
 *   80      8     i64 tokens up to a checkpoint; 0 for a page
 *   88      8     u64 bytes of the payload
 *   96      8     u64 bytes of the payload as stored
 *   104     16    xxh3-128 of the stored payload
 *   120     8     xxh3-64 of the 120 bytes before
 *   128           i32 ids: those of the page, or those of a checkpoint after the last whole page
 *                 the stored payload: as it is where both sizes are the same, else a zstd frame
 *
 * Nothing of a file is believed before its checksum; the key must be that of the parent and the ids
 * (engine/page_sink.h), so that a record cannot stand for other tokens than its own. Threads: no
 * state. */
#ifndef SLUICE_KVSTORE_RECORD_H
#define SLUICE_KVSTORE_RECORD_H

#include "base/buf.h"
#include "engine/page_sink.h"

enum record_kind { RECORD_PAGE = 1, RECORD_CHECKPOINT = 2 };

#define RECORD_HEADER_BYTES 128
/* A payload of any kind, packed or not, is smaller. */
#define RECORD_MAX_BYTES ((size_t)1 << 30)

struct record_header {
    char magic[8];
    uint32_t version, kind;
    struct page_identity identity;
    struct page_key key, parent;
    int64_t n;
    uint64_t raw_bytes, packed_bytes;
    uint64_t sum_low, sum_high;
    uint64_t header_sum;
};
_Static_assert(sizeof(struct record_header) == RECORD_HEADER_BYTES, "the file's layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the header is an image of the file");

/* What a record is, without its payload. */
struct record {
    enum record_kind kind;
    struct page_key key, parent;
    int64_t n;
};

/* How many ids a record holds. */
size_t record_ids(enum record_kind kind, int64_t n);
/* The key under which a checkpoint is kept: at a page's end it has the page's, and must differ. */
struct page_key record_checkpoint_key(struct page_key key);

/* What a record holds; borrowed. */
struct record_body {
    const int32_t *ids;          /* [record_ids] */
    const void *payload;         /* [n] */
    size_t n;
};

/* Appends a whole file to out: header, ids, and the payload packed. */
enum sluice_status record_pack(const struct record *r, const struct page_identity *identity,
                               const struct record_body *body, struct buf *out,
                               struct sluice_error *err);
/* Checks a header of at least RECORD_HEADER_BYTES bytes: magic, version, kind, checksum and, where
 * identity is not NULL, that. SLUICE_ERR_FORMAT says what was expected and found. */
enum sluice_status record_check(const void *bytes, size_t n, const struct page_identity *identity,
                                struct record_header *out, struct sluice_error *err);
/* Bytes before the stored payload, and of the whole file, of a checked header. */
size_t record_head_bytes(const struct record_header *h);
uint64_t record_bytes(const struct record_header *h);

/* A file as it was read: its head (record_head_bytes), and the rest. */
struct record_file {
    const void *head, *stored;
    size_t n_stored;
};
/* Checks that the key follows from the parent and the ids; h is head's, checked. */
enum sluice_status record_check_key(const void *head, const struct record_header *h,
                                    struct sluice_error *err);
/* The ids [record_ids], which are right once record_check_key has said so. */
void record_read_ids(const void *head, const struct record_header *h, int32_t *ids);
/* Checks all but what is in a zstd frame; h is head's, checked. */
enum sluice_status record_check_body(const struct record_file *file, const struct record_header *h,
                                     struct sluice_error *err);
/* Checks all and unpacks the payload into out [room], which it must fill exactly. stored may be out
 * where the payload is stored as it is. */
enum sluice_status record_unpack(const struct record_file *file, const struct record_header *h,
                                 void *out, size_t room, struct sluice_error *err);

/* For a whole file in memory [n]: header, and then the two parts. */
enum sluice_status record_check_file(const void *bytes, size_t n, struct record_header *h,
                                     struct record_file *file, struct sluice_error *err);

#endif
