/* Bounded queues between loops.  SPDX-License-Identifier: Apache-2.0
 *
 * 1. len counts items between a successful push and the end of their receive; it never exceeds
 * len_max.
 * 2. A waiter is in the list or on its way as a mail, never both.
 *
 * Never: allocates per item, blocks a pusher. */
#include "net/mailbox.h"

#include <pthread.h>

#include "base/mem.h"

struct net_mailbox {
    struct net_loop *to;
    void (*receive)(void *arg, struct net_mailbox_item *item);
    void *arg;
    size_t len_max;
    _Atomic size_t len;
    _Atomic int has_waiter;
    pthread_mutex_t lock; /* of waiter */
    struct net_mailbox_waiter *waiter;
};

struct net_mailbox *net_mailbox_new(struct net_loop *to, size_t len_max,
                                    void (*receive)(void *arg, struct net_mailbox_item *item),
                                    void *arg)
{
    struct net_mailbox *m = mem_new(sizeof *m);
    m->to = to;
    m->receive = receive;
    m->arg = arg;
    m->len_max = len_max;
    must(pthread_mutex_init(&m->lock, NULL) == 0);
    return m;
}

struct net_mailbox *net_mailbox_free(struct net_mailbox *m)
{
    if (!m)
        return NULL;
    must(net_mailbox_len(m) == 0);
    pthread_mutex_destroy(&m->lock);
    return mem_free(m);
}

static void waiter_call(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    struct net_mailbox_waiter *w = container_of(mail, struct net_mailbox_waiter, mail);
    w->fn(w->arg);
}

static void waiters_call(struct net_mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    struct net_mailbox_waiter *w = m->waiter;
    m->waiter = NULL;
    atomic_store(&m->has_waiter, 0);
    pthread_mutex_unlock(&m->lock);
    while (w) {
        struct net_mailbox_waiter *next = w->next;
        net_loop_post(NULL, w->here, &w->mail, waiter_call);
        w = next;
    }
}

static void item_receive(struct net_loop *here, struct net_mail *mail)
{
    (void)here;
    struct net_mailbox_item *item = container_of(mail, struct net_mailbox_item, mail);
    struct net_mailbox *m = item->box;
    m->receive(m->arg, item);
    size_t left = atomic_fetch_sub(&m->len, 1) - 1;
    if (unlikely(left <= m->len_max / 2 && atomic_load(&m->has_waiter)))
        waiters_call(m);
}

int net_mailbox_push(struct net_mailbox *m, struct net_loop *from, struct net_mailbox_item *item)
{
    if (unlikely(atomic_fetch_add(&m->len, 1) >= m->len_max)) {
        atomic_fetch_sub(&m->len, 1);
        return NET_MAILBOX_E_FULL;
    }
    item->box = m;
    net_loop_post(from, m->to, &item->mail, item_receive);
    return 0;
}

size_t net_mailbox_len(const struct net_mailbox *m)
{
    return atomic_load_explicit(&m->len, memory_order_relaxed);
}

bool net_mailbox_is_tight(const struct net_mailbox *m)
{
    return net_mailbox_len(m) > m->len_max / 4 * 3;
}

void net_mailbox_wait(struct net_mailbox *m, struct net_loop *here, struct net_mailbox_waiter *w,
                      void (*fn)(void *arg), void *arg)
{
    w->here = here;
    w->fn = fn;
    w->arg = arg;
    pthread_mutex_lock(&m->lock);
    w->next = m->waiter;
    m->waiter = w;
    atomic_store(&m->has_waiter, 1);
    pthread_mutex_unlock(&m->lock);
    /* The last receive may have come before the flag. */
    if (atomic_load(&m->len) <= m->len_max / 2)
        waiters_call(m);
}
