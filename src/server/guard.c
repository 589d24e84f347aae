/* server/guard.c - who may come in: API keys, the Host header, the Origin header. */
#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "base/check.h"
#include "os/file.h"
#include "server/server_internal.h"

struct keys {
    int n;
    struct {
        unsigned char at[LIMIT_SERVER_KEY]; /* zeros behind the key */
        size_t len;
    } key[];
};

enum sluice_status keys_open(const char *path, struct keys **out, struct sluice_error *err)
{
    char *bytes;
    size_t n;
    TRY(file_read_all(path, (size_t)LIMIT_SERVER_KEYS * LIMIT_SERVER_KEY, &bytes, &n, err));
    struct keys *k = calloc(1, sizeof *k + LIMIT_SERVER_KEYS * sizeof k->key[0]);
    enum sluice_status st = SLUICE_OK;
    if (!k)
        st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for API keys");
    char *save = NULL;
    for (char *line = strtok_r(bytes, "\r\n", &save); line && st == SLUICE_OK;
         line = strtok_r(NULL, "\r\n", &save)) {
        size_t len = strlen(line);
        while (len > 0 && isspace((unsigned char)line[len - 1]))
            len--;
        if (len == 0 || *line == '#')
            continue;
        if (len >= LIMIT_SERVER_KEY || k->n == LIMIT_SERVER_KEYS) {
            st = status_fail(err, SLUICE_ERR_LIMIT, -1,
                             "%s: expected at most %d keys of less than %d bytes", path,
                             LIMIT_SERVER_KEYS, LIMIT_SERVER_KEY);
            break;
        }
        memcpy(k->key[k->n].at, line, len);
        k->key[k->n++].len = len;
    }
    if (st == SLUICE_OK && k->n == 0)
        st = status_fail(err, SLUICE_ERR_FORMAT, -1, "%s: holds no key", path);
    memset(bytes, 0, n);
    free(bytes);
    if (st != SLUICE_OK) {
        keys_close(k);
        return st;
    }
    *out = k;
    return SLUICE_OK;
}

void keys_close(struct keys *k)
{
    free(k);
}

/* Takes the same time whatever is found. */
static bool key_known(const struct keys *k, const char *given)
{
    unsigned char padded[LIMIT_SERVER_KEY] = {0};
    size_t len = strnlen(given, LIMIT_SERVER_KEY);
    memcpy(padded, given, len < LIMIT_SERVER_KEY ? len : 0);
    unsigned known = 0;
    for (int i = 0; i < k->n; i++) {
        unsigned differ = (unsigned)(len ^ k->key[i].len);
        for (size_t b = 0; b < LIMIT_SERVER_KEY; b++)
            differ |= (unsigned)(padded[b] ^ k->key[i].at[b]);
        known |= differ == 0;
    }
    return known && len > 0 && len < LIMIT_SERVER_KEY;
}

static bool check_key(const struct server *s, const struct exchange *x)
{
    const char *bearer = http_header(x, "Authorization"), *own = http_header(x, "x-api-key");
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0 && key_known(s->keys, bearer + 7))
        return true;
    return own && key_known(s->keys, own);
}

/* Is name among words with commas between? */
static bool among(const char *list, const char *name, size_t len)
{
    for (const char *at = list; at && *at;) {
        at += strspn(at, ", ");
        size_t n = strcspn(at, ", ");
        if (n == len && strncasecmp(at, name, n) == 0)
            return true;
        at += n;
    }
    return false;
}

/* "[::1]:8000" -> "[::1]". */
static size_t host_len(const char *host)
{
    if (*host == '[') {
        const char *end = strchr(host, ']');
        return end ? (size_t)(end + 1 - host) : strlen(host);
    }
    return strcspn(host, ":");
}

static bool loopback_name(const char *host, size_t len)
{
    return among("localhost,127.0.0.1,[::1]", host, len) ||
           (len > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len);
}

static bool numeric(const char *host, size_t len)
{
    return *host == '[' || strspn(host, "0123456789.") == len;
}

/* A page of another site whose name was made to lead here (DNS rebinding) has that name in Host.
 * Addresses, and the names that the operator gave, are no such names. */
static bool check_host(const struct server *s, const struct exchange *x)
{
    const char *host = http_header(x, "Host");
    if (!host)
        return true;
    size_t len = host_len(host);
    const char *own = s->options->host ? s->options->host : "";
    return loopback_name(host, len) || numeric(host, len) ||
           (strlen(own) == len && strncasecmp(own, host, len) == 0) ||
           among(s->options->hosts, host, len);
}

bool guard_origin_allowed(const struct server *s, const struct exchange *x)
{
    const char *origin = http_header(x, "Origin"), *host = http_header(x, "Host");
    const char *cors = s->options->cors;
    if (!origin)
        return true;
    if (cors && (strcmp(cors, "*") == 0 || among(cors, origin, strlen(origin))))
        return true;
    const char *site = strstr(origin, "://");
    return site && host && strcasecmp(site + 3, host) == 0;
}

bool guard_check(const struct server *s, const struct exchange *x, struct fault *f)
{
    const char *path = http_path(x);
    if (!check_host(s, x)) {
        fault_set(f, 403, "host_not_allowed",
                  "the Host header names none of this server's names; --allow-host adds one");
        return false;
    }
    if (!guard_origin_allowed(s, x)) {
        fault_set(f, 403, "origin_not_allowed",
                  "requests from the origin %.100s are not allowed; --cors allows one",
                  http_header(x, "Origin"));
        return false;
    }
    bool free_path = strcmp(path, "/health") == 0 || strcmp(path, "/v1/health") == 0 ||
                     strcmp(path, "/") == 0 || http_method(x) == HTTP_OPTIONS;
    if (s->keys && !free_path && !check_key(s, x)) {
        fault_set(f, 401, "invalid_api_key",
                  "expected an API key in Authorization: Bearer or x-api-key, found %s",
                  http_header(x, "Authorization") || http_header(x, "x-api-key")
                      ? "one that is not known"
                      : "none");
        return false;
    }
    return true;
}
