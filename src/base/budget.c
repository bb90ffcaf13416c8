/* Charges that come back.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: used is the sum of the charges outstanding; at the end of the process it is 0. */
#include "base/budget.h"

void budget_init(struct budget *b, struct budget *parent, uint64_t limit)
{
    b->parent = parent;
    atomic_init(&b->used, 0);
    atomic_init(&b->limit, limit);
}

void budget_take(struct budget *b, uint64_t n)
{
    for (; b != NULL; b = b->parent)
        atomic_fetch_add_explicit(&b->used, n, memory_order_relaxed);
}

void budget_return(struct budget *b, uint64_t n)
{
    for (; b != NULL; b = b->parent) {
        uint64_t was = atomic_fetch_sub_explicit(&b->used, n, memory_order_relaxed);
        must(was >= n);
    }
}

int budget_charge(struct budget *b, uint64_t n)
{
    for (struct budget *at = b; at != NULL; at = at->parent) {
        uint64_t was = atomic_fetch_add_explicit(&at->used, n, memory_order_relaxed);
        uint64_t limit = atomic_load_explicit(&at->limit, memory_order_relaxed);
        if (likely(was <= limit && n <= limit - was))
            continue;
        for (struct budget *back = b;; back = back->parent) {
            atomic_fetch_sub_explicit(&back->used, n, memory_order_relaxed);
            if (back == at)
                return BUDGET_E_FULL;
        }
    }
    return 0;
}
