/* engine/prefix.c - see prefix.h. */
#include "engine/prefix.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define NEVER INT64_MAX

/* `least` is kept beside the pointer, so that a node with many children looks through one array. */
struct child {
    int64_t least;                   /* of node */
    struct prefix_node *node;
    int32_t first;                   /* of node's label */
};

struct prefix_node {
    struct prefix_node *parent;      /* NULL: the root */
    int32_t *label;                  /* [n_label], n_label > 0 except of the root */
    size_t n_label;
    int64_t depth;                   /* after the label */
    int64_t least;
    struct child *child;             /* [n_child], sorted by first */
    size_t n_child, child_room;
    struct prefix_mark *mark;        /* list */
};

struct prefix {
    struct prefix_node root;
};

/* ---- nodes ---- */

/* Index of the child that begins with id, or where it would be. */
static size_t child_place(const struct prefix_node *node, int32_t id)
{
    size_t lo = 0, hi = node->n_child;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (node->child[mid].first < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct prefix_node *child_of(const struct prefix_node *node, int32_t id)
{
    size_t i = child_place(node, id);
    return i < node->n_child && node->child[i].first == id ? node->child[i].node : NULL;
}

static struct child *slot_of(const struct prefix_node *node)
{
    struct child *slot = &node->parent->child[child_place(node->parent, node->label[0])];
    SLUICE_ASSERT(slot->node == node);
    return slot;
}

static void node_free(struct prefix_node *node)
{
    free(node->label);
    free(node->child);
    free(node);
}

/* A node without a parent; its label is ids[0 .. n). NULL when out of memory. */
static struct prefix_node *node_new(const int32_t *ids, size_t n, int64_t depth)
{
    struct prefix_node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->label = malloc(n * sizeof *ids);
    if (!node->label) {
        free(node);
        return NULL;
    }
    memcpy(node->label, ids, n * sizeof *ids);
    node->n_label = n;
    node->depth = depth;
    node->least = NEVER;
    return node;
}

static bool make_child_room(struct prefix_node *node)
{
    if (node->n_child < node->child_room)
        return true;
    size_t room = node->child_room ? 2 * node->child_room : 2;
    struct child *p = realloc(node->child, room * sizeof *p);
    if (!p)
        return false;
    node->child = p;
    node->child_room = room;
    return true;
}

/* There is room. */
static void attach(struct prefix_node *node, struct prefix_node *child)
{
    size_t i = child_place(node, child->label[0]);
    memmove(node->child + i + 1, node->child + i, (node->n_child - i) * sizeof *node->child);
    node->child[i] = (struct child){child->least, child, child->label[0]};
    node->n_child++;
    child->parent = node;
}

static void detach(struct prefix_node *child)
{
    struct prefix_node *node = child->parent;
    size_t i = (size_t)(slot_of(child) - node->child);
    node->n_child--;
    memmove(node->child + i, node->child + i + 1, (node->n_child - i) * sizeof *node->child);
}

static int64_t least_below(const struct prefix_node *node)
{
    int64_t least = NEVER;
    for (const struct prefix_mark *m = node->mark; m; m = m->next)
        least = m->from < least ? m->from : least;
    for (size_t i = 0; i < node->n_child; i++)
        least = node->child[i].least < least ? node->child[i].least : least;
    return least;
}

/* Restores invariant (3) from node up to the root. */
static void update_least(struct prefix_node *node)
{
    for (;; node = node->parent) {
        int64_t least = least_below(node);
        if (least == node->least)
            return;
        node->least = least;
        if (!node->parent)
            return;
        slot_of(node)->least = least;
    }
}

/* As update_least after one more `from` below node, without looking at what else there is. */
static void lower_least(struct prefix_node *node, int64_t from)
{
    for (; from < node->least; node = node->parent) {
        node->least = from;
        if (!node->parent)
            return;
        slot_of(node)->least = from;
    }
}

/* ---- walking ---- */

/* How many of the label's ids agree with ids[0 .. n). */
static size_t agree(const struct prefix_node *node, const int32_t *ids, size_t n)
{
    enum { BLOCK = 64 };
    size_t most = n < node->n_label ? n : node->n_label, i = 0;
    while (i + BLOCK <= most && memcmp(node->label + i, ids + i, BLOCK * sizeof *ids) == 0)
        i += BLOCK;
    while (i < most && node->label[i] == ids[i])
        i++;
    return i;
}

/* A mark of the subtree with the smallest `from`. */
static struct prefix_mark *least_mark(const struct prefix_node *node)
{
    for (;;) {
        for (struct prefix_mark *m = node->mark; m; m = m->next)
            if (m->from == node->least)
                return m;
        size_t i = 0;
        while (node->child[i].least != node->least)
            i++;
        node = node->child[i].node;
    }
}

struct prefix_mark *prefix_find(const struct prefix *t, const int32_t *ids, size_t n, int64_t *same)
{
    const struct prefix_node *node = &t->root, *best = NULL;
    size_t at = 0;
    *same = 0;
    while (at < n) {
        const struct prefix_node *child = child_of(node, ids[at]);
        if (!child)
            break;
        size_t more = agree(child, ids + at, n - at);
        at += more;
        if (child->least <= (int64_t)at) {
            best = child;
            *same = (int64_t)at;
        }
        if (more < child->n_label)
            break;
        node = child;
    }
    return best ? least_mark(best) : NULL;
}

/* ---- adding ---- */

/* Cuts child's label after `keep` ids by a new node above it, which is returned. */
static struct prefix_node *split(struct prefix_node *child, size_t keep)
{
    struct prefix_node *above = node_new(child->label, keep,
                                         child->depth - (int64_t)(child->n_label - keep));
    if (!above || !make_child_room(above)) {
        if (above)
            node_free(above);
        return NULL;
    }
    struct child *slot = slot_of(child);
    above->parent = child->parent;
    above->least = child->least;
    slot->node = above;
    child->n_label -= keep;
    memmove(child->label, child->label + keep, child->n_label * sizeof *child->label);
    attach(above, child);
    return above;
}

static struct prefix_node *leaf(struct prefix_node *node, const int32_t *ids, size_t n)
{
    struct prefix_node *child = node_new(ids, n, node->depth + (int64_t)n);
    if (!child)
        return NULL;
    if (!make_child_room(node)) {
        node_free(child);
        return NULL;
    }
    attach(node, child);
    return child;
}

/* The node of ids[0 .. n), made where it is not there; NULL when out of memory. */
static struct prefix_node *node_at(struct prefix *t, const int32_t *ids, size_t n)
{
    struct prefix_node *node = &t->root;
    for (size_t at = 0; at < n;) {
        struct prefix_node *child = child_of(node, ids[at]);
        if (!child)
            return leaf(node, ids + at, n - at);
        size_t more = agree(child, ids + at, n - at);
        at += more;
        node = more < child->n_label ? split(child, more) : child;
        if (!node)
            return NULL;
    }
    return node;
}

enum sluice_status prefix_add(struct prefix *t, const int32_t *ids, const struct prefix_mark *mark,
                              struct prefix_mark **out, struct sluice_error *err)
{
    SLUICE_ASSERT(mark->from >= 0 && mark->from <= mark->n);
    struct prefix_mark *m = malloc(sizeof *m);
    struct prefix_node *node = m ? node_at(t, ids, (size_t)mark->n) : NULL;
    if (!node) {
        free(m);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for the tree of prefixes");
    }
    *m = *mark;
    m->at = node;
    m->before = NULL;
    m->next = node->mark;
    if (m->next)
        m->next->before = m;
    node->mark = m;
    lower_least(node, m->from);
    *out = m;
    return SLUICE_OK;
}

/* ---- removing ---- */

/* A node that has become a mere link is joined with its only child; without memory it stays. */
static void join(struct prefix_node *node)
{
    struct prefix_node *child = node->child[0].node;
    int32_t *label = realloc(node->label, (node->n_label + child->n_label) * sizeof *label);
    if (!label)
        return;
    memcpy(label + node->n_label, child->label, child->n_label * sizeof *label);
    free(child->label);
    child->label = label;
    child->n_label += node->n_label;
    child->parent = node->parent;
    node->parent->child[child_place(node->parent, label[0])].node = child;
    node->label = NULL;
    node_free(node);
}

/* Restores invariant (4) at a node that has lost a mark or a child. */
static void tidy(struct prefix *t, struct prefix_node *node)
{
    if (node == &t->root || node->mark)
        return;
    if (node->n_child == 1) {
        join(node);
        return;
    }
    if (node->n_child > 1)
        return;
    struct prefix_node *parent = node->parent;
    detach(node);
    node_free(node);
    update_least(parent);
    tidy(t, parent);
}

void prefix_remove(struct prefix *t, struct prefix_mark *mark)
{
    if (!mark)
        return;
    struct prefix_node *node = mark->at;
    if (mark->before)
        mark->before->next = mark->next;
    else
        node->mark = mark->next;
    if (mark->next)
        mark->next->before = mark->before;
    free(mark);
    update_least(node);
    tidy(t, node);
}

/* ---- open and close ---- */

enum sluice_status prefix_open(struct prefix **out, struct sluice_error *err)
{
    struct prefix *t = calloc(1, sizeof *t);
    *out = t;
    FAIL_IF(!t, err, SLUICE_ERR_NOMEM, "out of memory for the tree of prefixes");
    t->root.least = NEVER;
    return SLUICE_OK;
}

/* Depth first without recursion: prefixes may be deep. */
static void free_below(struct prefix_node *root)
{
    for (struct prefix_node *node = root;;) {
        if (node->n_child) {
            node = node->child[--node->n_child].node;
            continue;
        }
        for (struct prefix_mark *m = node->mark, *next; m; m = next) {
            next = m->next;
            free(m);
        }
        node->mark = NULL;
        if (node == root)
            return;
        struct prefix_node *parent = node->parent;
        node_free(node);
        node = parent;
    }
}

void prefix_close(struct prefix *t)
{
    if (!t)
        return;
    free_below(&t->root);
    free(t->root.child);
    free(t);
}
