/* Rows in order: a skip list.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariant: on every level the keys grow from head to end. */
#include "stores/rows_priv.h"

#include "base/mem.h"
#include "base/rng.h"

#define LEVEL_MAX 20 /* matters little: good for some millions of rows */

struct row {
    struct str key, value;
    unsigned levels;
    struct row *next[];
};

struct stores_rows {
    struct rng rng;
    size_t count;
    struct row *head; /* a row without a key, LEVEL_MAX high */
};

static struct row *row_new(unsigned levels)
{
    struct row *x = mem_new(sizeof *x + levels * sizeof x->next[0]);
    x->levels = levels;
    return x;
}

static void row_free(struct row *x)
{
    mem_free((void *)(uintptr_t)x->key.p);
    mem_free((void *)(uintptr_t)x->value.p);
    mem_free(x);
}

struct stores_rows *stores_rows_new(uint64_t seed)
{
    struct stores_rows *r = mem_new(sizeof *r);
    rng_init(&r->rng, seed);
    r->head = row_new(LEVEL_MAX);
    return r;
}

struct stores_rows *stores_rows_free(struct stores_rows *r)
{
    if (r == NULL)
        return NULL;
    for (struct row *x = r->head, *next; x != NULL; x = next) {
        next = x->next[0];
        row_free(x);
    }
    return mem_free(r);
}

/* The last row before key on every level, and the first one not before it. */
static struct row *seek(const struct stores_rows *r, struct str key, struct row *before[LEVEL_MAX])
{
    struct row *x = r->head;
    for (unsigned level = LEVEL_MAX; level-- > 0;) {
        while (x->next[level] != NULL && str_cmp(x->next[level]->key, key) < 0)
            x = x->next[level];
        before[level] = x;
    }
    return x->next[0];
}

void stores_rows_put(struct stores_rows *r, struct str key, struct str value)
{
    struct row *before[LEVEL_MAX], *x = seek(r, key, before);
    if (x != NULL && str_eq(x->key, key)) {
        mem_free((void *)(uintptr_t)x->value.p);
        x->value = str_dup(value);
        return;
    }
    unsigned levels = 1;
    while (levels < LEVEL_MAX && rng_below(&r->rng, 4) == 0)
        levels++;
    x = row_new(levels);
    x->key = str_dup(key);
    x->value = str_dup(value);
    for (unsigned level = 0; level < levels; level++) {
        x->next[level] = before[level]->next[level];
        before[level]->next[level] = x;
    }
    r->count++;
}

void stores_rows_del(struct stores_rows *r, struct str key)
{
    struct row *before[LEVEL_MAX], *x = seek(r, key, before);
    if (x == NULL || !str_eq(x->key, key))
        return;
    for (unsigned level = 0; level < x->levels; level++)
        before[level]->next[level] = x->next[level];
    row_free(x);
    r->count--;
}

void stores_rows_scan(const struct stores_rows *r, const struct range_scan *s, struct buf *reply)
{
    struct row *before[LEVEL_MAX];
    size_t from_n = reply->n;
    uint32_t rows = 0;
    /* from and to may be views into the reply, which is about to grow */
    struct str to = str_dup(s->to);
    for (struct row *x = seek(r, s->from, before); x != NULL; x = x->next[0]) {
        if (rows++ == s->row_max || reply->n - from_n >= s->byte_max || str_cmp(x->key, to) >= 0)
            break;
        buf_put_varint(reply, x->key.n);
        buf_put_str(reply, x->key);
        buf_put_varint(reply, x->value.n);
        buf_put_str(reply, x->value);
    }
    mem_free((void *)(uintptr_t)to.p);
}

size_t stores_rows_count(const struct stores_rows *r)
{
    return r->count;
}
