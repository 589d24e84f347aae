/* server/seal.h - reasoning as an opaque text that a client carries and sends back: `signature` of
 * Messages, `encrypted_content` of Responses. It holds the reasoning itself, compressed and with a
 * checksum, so that it survives a restart of the server. Nothing is trusted because of it: the text
 * is shown to the model as reasoning that the client could also have sent in plain.
 *
 *   base64( "slc1" | zstd frame with checksum )
 *
 * Any thread. */
#ifndef SLUICE_SERVER_SEAL_H
#define SLUICE_SERVER_SEAL_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

/* Appends the sealed text. */
void seal_write(struct str reasoning, struct buf *out);
/* Appends what was sealed; false, and nothing appended, for texts of other servers and damaged
 * ones. */
bool seal_read(struct str sealed, struct buf *out);

#endif
