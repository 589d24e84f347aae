/* server/seal.c - see seal.h. */
#include "server/seal.h"

#include <stdlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/limits.h"

static const char magic[4] = "slc1";
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode(const unsigned char *at, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)at[i] << 16 | (i + 1 < n ? (unsigned)at[i + 1] << 8 : 0) |
                     (i + 2 < n ? (unsigned)at[i + 2] : 0);
        char four[4] = {letters[v >> 18], letters[v >> 12 & 63],
                        i + 1 < n ? letters[v >> 6 & 63] : '=', i + 2 < n ? letters[v & 63] : '='};
        buf_add(out, four, 4);
    }
}

/* False if a byte is none of the alphabet's. */
static bool decode(struct str text, unsigned char *out, size_t *n)
{
    unsigned v = 0;
    int bits = 0;
    *n = 0;
    while (text.len > 0 && text.at[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len; i++) {
        const char *letter = text.at[i] ? strchr(letters, text.at[i]) : NULL;
        if (!letter)
            return false;
        v = v << 6 | (unsigned)(letter - letters);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[(*n)++] = (unsigned char)(v >> bits);
        }
    }
    return true;
}

void seal_write(struct str reasoning, struct buf *out)
{
    size_t room = sizeof magic + ZSTD_compressBound(reasoning.len);
    unsigned char *packed = malloc(room);
    ZSTD_CCtx *z = ZSTD_createCCtx();
    size_t n = 0;
    if (packed && z) {
        memcpy(packed, magic, sizeof magic);
        ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
        n = ZSTD_compress2(z, packed + sizeof magic, room - sizeof magic,
                           reasoning.len ? reasoning.at : "", reasoning.len);
        if (!ZSTD_isError(n))
            encode(packed, sizeof magic + n, out);
    }
    ZSTD_freeCCtx(z);
    free(packed);
}

bool seal_read(struct str sealed, struct buf *out)
{
    size_t n = 0;
    if (sealed.len < 12 || sealed.len > LIMIT_HTTP_BODY)
        return false;
    unsigned char *packed = malloc(sealed.len);
    char *text = NULL;
    bool ok = packed && decode(sealed, packed, &n) && n > sizeof magic &&
              memcmp(packed, magic, sizeof magic) == 0;
    unsigned long long size =
        ok ? ZSTD_getFrameContentSize(packed + sizeof magic, n - sizeof magic) : 0;
    ok = ok && size != ZSTD_CONTENTSIZE_ERROR && size != ZSTD_CONTENTSIZE_UNKNOWN &&
         size <= LIMIT_HTTP_BODY && (text = malloc(size + 1)) != NULL &&
         ZSTD_decompress(text, size, packed + sizeof magic, n - sizeof magic) == size;
    if (ok)
        buf_add(out, text, size);
    free(text);
    free(packed);
    return ok;
}
