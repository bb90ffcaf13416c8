/* The search for an order.  SPDX-License-Identifier: Apache-2.0
 *
 * Depth first.  At each step any operation may come next whose call is not after the earliest
 * return of those not yet done.  A (done, value) seen before is not entered again.  Reads that
 * fit are taken at once: they change nothing, so taking them early never hurts.  Operations
 * with unknown end need not be done. */
#include "sim/lib/linear.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"

struct search {
    const struct linear_op *op;
    size_t count, words;
    uint64_t *done; /* bits */
    uint64_t *seen; /* hash set of (done, value), 0: free */
    size_t seen_cap, seen_count;
    size_t must_left; /* operations with a known end that are not done */
    size_t steps;
    size_t low; /* all before are done */
};

uint64_t linear_append(uint64_t list, uint64_t item)
{
    return hash_u64(list * 31 + item + 0x9e3779b97f4a7c15u);
}

static bool is_done(const struct search *s, size_t i)
{
    return s->done[i / 64] >> (i % 64) & 1;
}

static void flip(struct search *s, size_t i)
{
    s->done[i / 64] ^= (uint64_t)1 << (i % 64);
}

static void grow(struct search *s)
{
    size_t cap = s->seen_cap ? s->seen_cap * 2 : 1024;
    uint64_t *seen = mem_new(cap * sizeof *seen);
    for (size_t i = 0; i < s->seen_cap; i++) {
        uint64_t h = s->seen[i];
        if (h == 0)
            continue;
        size_t at = h & (cap - 1);
        while (seen[at] != 0)
            at = (at + 1) & (cap - 1);
        seen[at] = h;
    }
    mem_free(s->seen);
    s->seen = seen;
    s->seen_cap = cap;
}

/* True when it was not there. */
static bool remember(struct search *s, uint64_t value)
{
    /* the two must not cancel each other out, as seed and short input of one hash can */
    uint64_t h = hash_bytes(s->done, s->words * sizeof *s->done, 0);
    h = hash_u64(h + hash_u64(value + 1)) | 1;
    if (2 * s->seen_count >= s->seen_cap)
        grow(s);
    size_t at = h & (s->seen_cap - 1);
    for (; s->seen[at] != 0; at = (at + 1) & (s->seen_cap - 1))
        if (s->seen[at] == h)
            return false;
    s->seen[at] = h;
    s->seen_count++;
    return true;
}

static uint64_t effect(const struct linear_op *o, uint64_t value)
{
    switch (o->kind) {
    case LINEAR_READ:
        return value;
    case LINEAR_WRITE:
        return o->arg;
    case LINEAR_APPEND:
        return linear_append(value, o->arg);
    }
    return value;
}

static int search(struct search *s, uint64_t value, size_t step_max)
{
    if (s->must_left == 0)
        return LINEAR_OK;
    if (++s->steps > step_max)
        return LINEAR_E_TOO_HARD;
    if (!remember(s, value))
        return LINEAR_E_VIOLATION;
    size_t low = s->low;
    while (s->low < s->count && is_done(s, s->low))
        s->low++;
    usec_t ret_min = USEC_NEVER;
    for (size_t i = s->low; i < s->count && s->op[i].call <= ret_min; i++)
        if (!is_done(s, i) && s->op[i].ret < ret_min)
            ret_min = s->op[i].ret;
    int verdict = LINEAR_E_VIOLATION;
    bool took_read = false;
    for (int pass = 0; pass < 2 && verdict == LINEAR_E_VIOLATION && !took_read; pass++) {
        for (size_t i = s->low; i < s->count && s->op[i].call <= ret_min; i++) {
            const struct linear_op *o = &s->op[i];
            if (is_done(s, i) || (o->kind == LINEAR_READ) != (pass == 0) ||
                (o->kind == LINEAR_READ && o->arg != value))
                continue;
            flip(s, i);
            s->must_left -= o->ret != USEC_NEVER;
            verdict = search(s, effect(o, value), step_max);
            s->must_left += o->ret != USEC_NEVER;
            flip(s, i);
            took_read = pass == 0;
            if (verdict != LINEAR_E_VIOLATION || took_read)
                break;
        }
    }
    s->low = low;
    return verdict;
}

static int by_call(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    return x->call < y->call ? -1 : x->call > y->call;
}

int linear_check(struct linear_op *op, size_t count, size_t step_max)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) /* a read without an answer says nothing */
        if (op[i].kind != LINEAR_READ || op[i].ret != USEC_NEVER)
            op[n++] = op[i];
    if (n == 0)
        return LINEAR_OK;
    qsort(op, n, sizeof *op, by_call);
    struct search s = {.op = op, .count = n, .words = (n + 63) / 64};
    s.done = mem_new(s.words * sizeof *s.done);
    for (size_t i = 0; i < n; i++)
        s.must_left += op[i].ret != USEC_NEVER;
    int verdict = search(&s, 0, step_max);
    mem_free(s.done);
    mem_free(s.seen);
    return verdict;
}
