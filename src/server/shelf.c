/* server/shelf.c - see shelf.h. A hash table of chains, and a list by use, newest first. */
#include "server/shelf.h"

#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"

#define SHELF_CHAINS 4096 /* a power of two */

struct book {
    struct book *next; /* of the chain */
    struct book *newer, *older;
    uint64_t hash;
    size_t name_len, value_len;
    char bytes[]; /* name, value */
};

struct shelf {
    pthread_mutex_t lock;
    size_t cap, used;
    struct book *newest, *oldest;
    struct book *chain[SHELF_CHAINS];
};

static size_t weight(const struct book *b)
{
    return sizeof *b + b->name_len + b->value_len;
}

struct shelf *shelf_new(size_t cap)
{
    struct shelf *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    pthread_mutex_init(&s->lock, NULL);
    s->cap = cap;
    return s;
}

void shelf_free(struct shelf *s)
{
    if (!s)
        return;
    for (struct book *b = s->newest, *older; b; b = older) {
        older = b->older;
        free(b);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static struct book **find(struct shelf *s, struct str name, uint64_t hash)
{
    struct book **slot = &s->chain[hash & (SHELF_CHAINS - 1)];
    while (*slot && !((*slot)->hash == hash && (*slot)->name_len == name.len &&
                      memcmp((*slot)->bytes, name.at, name.len) == 0))
        slot = &(*slot)->next;
    return slot;
}

static void list_remove(struct shelf *s, struct book *b)
{
    *(b->newer ? &b->newer->older : &s->newest) = b->older;
    *(b->older ? &b->older->newer : &s->oldest) = b->newer;
}

static void list_push(struct shelf *s, struct book *b)
{
    b->newer = NULL;
    b->older = s->newest;
    *(s->newest ? &s->newest->newer : &s->oldest) = b;
    s->newest = b;
}

static void take_out(struct shelf *s, struct book **slot)
{
    struct book *b = *slot;
    *slot = b->next;
    list_remove(s, b);
    s->used -= weight(b);
    free(b);
}

void shelf_put(struct shelf *s, struct str name, struct str value)
{
    uint64_t hash = XXH3_64bits(name.at, name.len);
    if (name.len + value.len + sizeof(struct book) > s->cap / 4)
        return;
    struct book *b = malloc(sizeof *b + name.len + value.len);
    if (!b)
        return;
    *b = (struct book){.hash = hash, .name_len = name.len, .value_len = value.len};
    memcpy(b->bytes, name.at, name.len);
    if (value.len)
        memcpy(b->bytes + name.len, value.at, value.len);
    pthread_mutex_lock(&s->lock);
    struct book **slot = find(s, name, hash);
    if (*slot)
        take_out(s, slot);
    struct book **chain = &s->chain[hash & (SHELF_CHAINS - 1)];
    b->next = *chain;
    *chain = b;
    list_push(s, b);
    s->used += weight(b);
    while (s->used > s->cap) {
        struct str oldest = {s->oldest->bytes, s->oldest->name_len};
        take_out(s, find(s, oldest, s->oldest->hash));
    }
    pthread_mutex_unlock(&s->lock);
}

bool shelf_get(struct shelf *s, struct str name, struct buf *out)
{
    uint64_t hash = XXH3_64bits(name.at, name.len);
    pthread_mutex_lock(&s->lock);
    struct book *b = *find(s, name, hash);
    if (b) {
        buf_add(out, b->bytes + b->name_len, b->value_len);
        list_remove(s, b);
        list_push(s, b);
    }
    pthread_mutex_unlock(&s->lock);
    return b != NULL;
}

bool shelf_drop(struct shelf *s, struct str name)
{
    pthread_mutex_lock(&s->lock);
    struct book **slot = find(s, name, XXH3_64bits(name.at, name.len));
    bool found = *slot != NULL;
    if (found)
        take_out(s, slot);
    pthread_mutex_unlock(&s->lock);
    return found;
}
