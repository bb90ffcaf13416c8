/* Intrusive binary heap of deadlines: the earliest first, ties in no order.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/usec.h"
#include "base/must.h"

struct heap_node {
    usec_t at;
    size_t place; /* 1-based; 0: not in a heap */
};

struct heap {
    struct heap_node **node;
    size_t count, cap;
};

void heap_deinit(struct heap *h);

/* Sets x's time, putting it in if it was not there.  O(log n). */
void heap_put(struct heap *h, struct heap_node *x, usec_t at);

/* Takes x out; fine when it is not in. */
void heap_del(struct heap *h, struct heap_node *x);

/* Moves what `is_cut` says true for into `out`, which is empty; O(n). */
void heap_cut(struct heap *h, struct heap *out,
              bool (*is_cut)(void *arg, const struct heap_node *x), void *arg);

/* The earliest, or NULL. */
static inline struct heap_node *heap_top(const struct heap *h)
{
    return h->count ? h->node[0] : NULL;
}

/* Its time, or USEC_NEVER. */
static inline usec_t heap_deadline(const struct heap *h)
{
    return h->count ? h->node[0]->at : USEC_NEVER;
}
