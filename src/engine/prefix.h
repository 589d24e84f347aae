/* engine/prefix.h - which of many kept sequences has most of a prompt's beginning: a radix tree
 * over token ids. Finding costs one comparison with the prompt, however many sequences there are.
 *
 * A *mark* stands for a sequence of n ids that may serve prompts which agree with it in its first
 * `from` ids or more: it then serves as many as agree. A state that can only be used as a whole has
 * from == n; one that may also be shortened by k ids has from == n - k.
 *
 *   node (root, depth 0) --[5 7 7]--> node (depth 3) --[2]--> node (depth 4)  marks: n == 4
 *                                          '--------[9 1]--> node (depth 5)  marks: n == 5
 *
 * Invariants: (1) the labels from the root to a node spell the first `depth` ids of every mark in
 *                 its subtree; a mark hangs at the node whose depth is its n;
 *             (2) no two children of a node begin with the same id; they are sorted by it;
 *             (3) `least` of a node is the smallest `from` in its subtree;
 *             (4) a node has a mark or a child, except the root.
 *
 * Threads: the owner's. */
#ifndef SLUICE_ENGINE_PREFIX_H
#define SLUICE_ENGINE_PREFIX_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct prefix;
struct prefix_node;

struct prefix_mark {
    /* set once */
    int64_t n, from;                 /* 0 <= from <= n */
    void *owner, *item;              /* the caller's */
    /* the tree's */
    struct prefix_node *at;
    struct prefix_mark *next, *before;
};

enum sluice_status prefix_open(struct prefix **out, struct sluice_error *err);
/* Frees the marks that are left too. Accepts NULL. */
void prefix_close(struct prefix *t);

/* Adds a mark with the caller's four fields for ids[0 .. mark->n), which are copied. The result
 * lives until it is removed. */
enum sluice_status prefix_add(struct prefix *t, const int32_t *ids, const struct prefix_mark *mark,
                              struct prefix_mark **out, struct sluice_error *err);
void prefix_remove(struct prefix *t, struct prefix_mark *mark);   /* accepts NULL */

/* The mark that serves most of ids[0 .. n), and how many in *same; of equals one with the smallest
 * from. NULL if none serves any. */
struct prefix_mark *prefix_find(const struct prefix *t, const int32_t *ids, size_t n,
                                int64_t *same);

#endif
