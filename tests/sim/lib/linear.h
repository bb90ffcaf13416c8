/* Is a history of one value linearizable?  SPDX-License-Identifier: Apache-2.0
 *
 * Wing and Gong's search with Lowe's memory of (set of operations done, value): an order of the
 * operations in which each takes effect between its call and its return and every read returns
 * what the writes before it left. */
#pragma once

#include "base/buf.h"
#include "base/usec.h"

enum linear_kind {
    LINEAR_READ,   /* value: what it returned */
    LINEAR_WRITE,  /* value becomes arg */
    LINEAR_APPEND, /* value becomes linear_append(value, arg) */
};

struct linear_op {
    enum linear_kind kind;
    uint64_t arg; /* written, or returned by a read */
    usec_t call;
    /* USEC_NEVER: it is not known whether or when it took effect (a read of that kind says
     * nothing) */
    usec_t ret;
};

/* A list told by one number: never the same for two different lists, but for chance. */
uint64_t linear_append(uint64_t list, uint64_t item);

enum linear_verdict {
    LINEAR_OK = 0,
    LINEAR_E_VIOLATION = 1,
    LINEAR_E_TOO_HARD, /* step_max looked at without an answer */
};

/* op is put in order of call.  The value starts as 0. */
int linear_check(struct linear_op *op, size_t count, size_t step_max);
