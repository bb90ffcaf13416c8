/* Rows in order, in memory.  SPDX-License-Identifier: Apache-2.0 */
#include "stores/rows_priv.h"

#include "base/mem.h"
#include "base/skip.h"

struct row {
    struct str value;
    struct skip_node node; /* last: its pointers follow */
};

struct stores_rows {
    struct skip list;
    size_t count;
};

static void row_free(struct row *x)
{
    mem_free((void *)(uintptr_t)x->node.key.p);
    mem_free((void *)(uintptr_t)x->value.p);
    mem_free(x);
}

struct stores_rows *stores_rows_new(uint64_t seed)
{
    struct stores_rows *r = mem_new(sizeof *r);
    skip_init(&r->list, seed);
    return r;
}

struct stores_rows *stores_rows_free(struct stores_rows *r)
{
    if (r == NULL)
        return NULL;
    for (struct skip_node *x = skip_first(&r->list), *next; x != NULL; x = next) {
        next = x->next[0];
        row_free(container_of(x, struct row, node));
    }
    return mem_free(r);
}

void stores_rows_put(struct stores_rows *r, struct str key, struct str value)
{
    struct skip_node *old = skip_find(&r->list, key);
    if (old != NULL) {
        struct row *x = container_of(old, struct row, node);
        mem_free((void *)(uintptr_t)x->value.p);
        x->value = str_dup(value);
        return;
    }
    unsigned height = skip_height(&r->list);
    struct row *x = mem_new(sizeof *x + height * sizeof x->node.next[0]);
    x->node.key = str_dup(key);
    x->node.height = height;
    x->value = str_dup(value);
    skip_put(&r->list, &x->node);
    r->count++;
}

void stores_rows_del(struct stores_rows *r, struct str key)
{
    struct skip_node *x = skip_find(&r->list, key);
    if (x == NULL)
        return;
    skip_del(&r->list, x);
    r->count--;
    row_free(container_of(x, struct row, node));
}

void stores_rows_scan(const struct stores_rows *r, const struct range_scan *s, struct buf *reply)
{
    size_t from_n = reply->n;
    uint32_t rows = 0;
    struct str to = str_dup(s->to); /* it may be a view into the reply, which is about to grow */
    for (struct skip_node *n = skip_seek(&r->list, s->from); n != NULL; n = n->next[0]) {
        if (rows++ == s->row_max || reply->n - from_n >= s->byte_max || str_cmp(n->key, to) >= 0)
            break;
        const struct row *x = container_of(n, struct row, node);
        buf_put_varint(reply, n->key.n);
        buf_put_str(reply, n->key);
        buf_put_varint(reply, x->value.n);
        buf_put_str(reply, x->value);
    }
    mem_free((void *)(uintptr_t)to.p);
}

size_t stores_rows_count(const struct stores_rows *r)
{
    return r->count;
}
