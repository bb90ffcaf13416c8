/* A bounded queue into one loop, fed by many.  SPDX-License-Identifier: Apache-2.0
 *
 * Items are intrusive mails: nothing is allocated.  What one loop pushes during a turn crosses in
 * one batch at its end with at most one wake-up of the target, however many mailboxes it has.  From
 * one pushing thread to one mailbox (and to any set of mailboxes and posts of one loop) order is
 * kept.  Bounded: the count of items pushed and not yet received never exceeds len_max; a push
 * beyond it is refused and the pusher slows what feeds it. */
#pragma once

#include <stdatomic.h>

#include "net/loop.h"

enum net_mailbox_outcome {
    NET_MAILBOX_E_FULL = 1, /* not taken: the item is still yours */
};

struct net_mailbox; /* opaque; one per purpose and target loop */

/* One item.  Embed it; it belongs to the mailbox between push and receive. */
struct net_mailbox_item {
    struct net_mail mail;
    struct net_mailbox *box;
};

/* receive is called on the target's thread, item by item, in the turn the batch arrives. */
struct net_mailbox *net_mailbox_new(struct net_loop *to, size_t len_max,
                                    void (*receive)(void *arg, struct net_mailbox_item *item),
                                    void *arg) must_use;

/* Nothing is in it and nobody pushes any more.  NULL is fine; returns NULL. */
struct net_mailbox *net_mailbox_free(struct net_mailbox *m);

/* from: the loop whose thread we are, NULL on any other thread.  0 or NET_MAILBOX_E_FULL. */
must_use int net_mailbox_push(struct net_mailbox *m, struct net_loop *from,
                              struct net_mailbox_item *item);

/* Items pushed and not yet received.  Any thread; a moment old. */
size_t net_mailbox_len(const struct net_mailbox *m);

/* True above 3/4 of len_max: time to stop reading what feeds it.  Any thread. */
bool net_mailbox_is_tight(const struct net_mailbox *m);

/* Calls fn once on loop here (whose thread we are) when the mailbox has fallen to half or less; at
 * once (in the next turn) when it already is.  The waiter is embedded and must live until then. */
struct net_mailbox_waiter {
    struct net_mail mail;
    struct net_loop *here;
    struct net_mailbox_waiter *next;
    void (*fn)(void *arg);
    void *arg;
};

void net_mailbox_wait(struct net_mailbox *m, struct net_loop *here, struct net_mailbox_waiter *w,
                      void (*fn)(void *arg), void *arg);
