/* Hash table of pointers to things that carry their own key.  SPDX-License-Identifier: Apache-2.0
 *
 * Open addressing with linear probing and backward-shift deletion: no tombstones, at most 3/4 full.
 * The caller hashes (base/hash.h) and says whether an item has a key. */
#pragma once

#include "base/must.h"

struct map_slot {
    uint64_t hash;
    void *item; /* NULL: free */
};

struct map {
    struct map_slot *slot;
    size_t count;
    size_t cap; /* 0 or a power of two */
};

typedef bool map_eq(const void *item, const void *key);

void map_deinit(struct map *m);

/* The item with this key, or NULL. */
void *map_find(const struct map *m, uint64_t hash, map_eq *eq, const void *key);

/* Puts an item whose key is not there. */
void map_put(struct map *m, uint64_t hash, void *item);

/* Takes this very item out; false when it was not there. */
bool map_del(struct map *m, uint64_t hash, const void *item);

/* Moves the items that `is_cut` says true for into `out`, which is empty; O(n).  Each item is asked
 * about once, in no order.  Their addresses are even. */
void map_cut(struct map *m, struct map *out, bool (*is_cut)(void *arg, void *item), void *arg);

/* Walks all items in no order: start with *at = 0; NULL at the end.  No put or del meanwhile. */
void *map_next(const struct map *m, size_t *at);
