/* Ordered things by a key of bytes: an intrusive skip list.  SPDX-License-Identifier: Apache-2.0
 *
 * Search, insertion and removal are O(log n) on average, walking on is O(1).  Heights come from a
 * seeded generator, so that replicas and simulations repeat; order never depends on them. */
#pragma once

#include "base/rng.h"
#include "base/str.h"

#define SKIP_HEIGHT_MAX 20 /* good for some millions; more only get slower */

/* The first member of what is kept; allocate it with skip_height() pointers behind it (SKIP_SIZE).
 */
struct skip_node {
    struct str key; /* owned by whoever made the node; must not change while it is in */
    unsigned height;
    struct skip_node *next[];
};

struct skip {
    struct rng rng;
    struct skip_node *head[SKIP_HEIGHT_MAX];
};

void skip_init(struct skip *s, uint64_t seed);

/* How high the next node shall be: it has that many pointers in `next`, set its height to this. */
unsigned skip_height(struct skip *s);

/* The first node whose key is not before `key`, or NULL. */
struct skip_node *skip_seek(const struct skip *s, struct str key);

/* The node with exactly this key, or NULL. */
struct skip_node *skip_find(const struct skip *s, struct str key);

/* Puts a node whose key is not there. */
void skip_put(struct skip *s, struct skip_node *x);

/* Takes a node out that is there. */
void skip_del(struct skip *s, struct skip_node *x);

/* Moves the nodes from `key` on into `out`, which is empty and was initialised; O(log n). */
void skip_cut(struct skip *s, struct str key, struct skip *out);

static inline struct skip_node *skip_first(const struct skip *s)
{
    return s->head[0];
}
