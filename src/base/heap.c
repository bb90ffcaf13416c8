/* Intrusive binary heap of deadlines.  SPDX-License-Identifier: Apache-2.0
 *
 * Invariants: node[i]->place == i + 1;  node[parent(i)]->at <= node[i]->at. */
#include "base/heap.h"

#include "base/mem.h"

void heap_deinit(struct heap *h)
{
    h->node = mem_free(h->node);
    h->count = h->cap = 0;
}

static void set(struct heap *h, size_t i, struct heap_node *x)
{
    h->node[i] = x;
    x->place = i + 1;
}

static void sift_up(struct heap *h, size_t i, struct heap_node *x)
{
    while (i > 0 && h->node[(i - 1) / 2]->at > x->at) {
        set(h, i, h->node[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set(h, i, x);
}

static void sift_down(struct heap *h, size_t i, struct heap_node *x)
{
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= h->count)
            break;
        if (kid + 1 < h->count && h->node[kid + 1]->at < h->node[kid]->at)
            kid++;
        if (h->node[kid]->at >= x->at)
            break;
        set(h, i, h->node[kid]);
        i = kid;
    }
    set(h, i, x);
}

void heap_put(struct heap *h, struct heap_node *x, usec_t at)
{
    if (x->place == 0) {
        h->node = mem_grow(h->node, &h->cap, h->count + 1, sizeof *h->node);
        x->at = at;
        h->count++;
        sift_up(h, h->count - 1, x);
        return;
    }
    size_t i = x->place - 1;
    must(i < h->count && h->node[i] == x);
    usec_t old = x->at;
    x->at = at;
    if (at < old)
        sift_up(h, i, x);
    else
        sift_down(h, i, x);
}

void heap_del(struct heap *h, struct heap_node *x)
{
    if (x->place == 0)
        return;
    size_t i = x->place - 1;
    must(i < h->count && h->node[i] == x);
    x->place = 0;
    struct heap_node *last = h->node[--h->count];
    if (last == x)
        return;
    if (i > 0 && h->node[(i - 1) / 2]->at > last->at)
        sift_up(h, i, last);
    else
        sift_down(h, i, last);
}

static void order(struct heap *h)
{
    for (size_t i = 0; i < h->count; i++)
        h->node[i]->place = i + 1;
    for (size_t i = h->count / 2; i-- > 0;)
        sift_down(h, i, h->node[i]);
}

void heap_cut(struct heap *h, struct heap *out,
              bool (*is_cut)(void *arg, const struct heap_node *x), void *arg)
{
    size_t kept = 0;
    must(out->count == 0);
    for (size_t i = 0; i < h->count; i++) {
        struct heap_node *x = h->node[i];
        if (!is_cut(arg, x)) {
            h->node[kept++] = x;
            continue;
        }
        out->node = mem_grow(out->node, &out->cap, out->count + 1, sizeof *out->node);
        out->node[out->count++] = x;
    }
    h->count = kept;
    order(h);
    order(out);
}
