/* Intrusive doubly linked ring.  A head is a link of its own; an unlinked link points to itself.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/must.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Puts x in front of at: with the head as at, x becomes the last. */
static inline void list_insert(struct list *at, struct list *x)
{
    x->prev = at->prev;
    x->next = at;
    at->prev->next = x;
    at->prev = x;
}

static inline void list_push_back(struct list *head, struct list *x)
{
    list_insert(head, x);
}

static inline void list_push_front(struct list *head, struct list *x)
{
    list_insert(head->next, x);
}

/* Safe on a link that is in no list. */
static inline void list_del(struct list *x)
{
    x->prev->next = x->next;
    x->next->prev = x->prev;
    list_init(x);
}

/* The first link, taken out; NULL when empty. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *x = head->next;
    if (x == head)
        return NULL;
    list_del(x);
    return x;
}

/* The body may delete the current item, and nothing else. */
#define list_each(head, it)                                                                          \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                        \
         it = it##_next, it##_next = it->next)
