/* Charge before you store for a stranger; the charge lives beside what it pays for.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A budget may have a parent (client -> tenant -> process): a charge is taken from all or from
 * none.  Counters are atomic, so loops may share a parent. */
#pragma once

#include <stdatomic.h>

#include "base/must.h"

enum budget_outcome {
    BUDGET_E_FULL = 1,
};

struct budget {
    struct budget *parent; /* NULL: the top */
    _Atomic uint64_t used;
    _Atomic uint64_t limit; /* may change while in use */
};

void budget_init(struct budget *b, struct budget *parent, uint64_t limit);

/* Takes n from b and its parents: 0, or BUDGET_E_FULL and nothing is taken. */
must_use int budget_charge(struct budget *b, uint64_t n);

/* Counts n that is there already, also above the limit: from then on others are told that it is
 * full. */
void budget_take(struct budget *b, uint64_t n);

/* Gives n back. */
void budget_return(struct budget *b, uint64_t n);

static inline uint64_t budget_used(const struct budget *b)
{
    return atomic_load_explicit(&b->used, memory_order_relaxed);
}
