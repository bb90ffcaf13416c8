/* This process's routes where no range of their table is: the index has them as the host's (DIST_OWNER_HOST).
 * SPDX-License-Identifier: Apache-2.0
 *
 * A node without all ranges of dist asks others what matches (stores_match); its live subscriptions need an entry in
 * its own index all the same, as the broker hangs its subscribers there. */
#pragma once

#include "dist/index.h"
#include "net/loop.h"

struct stores_client;

/* A route on its way to the index's writer and back. */
struct stores_own {
    struct net_mail mail;
    struct stores_client *client;   /* whose loop asks */
    const struct dist_route *route; /* lives until done */
    bool is_add;
    void (*done)(struct stores_own *o); /* on that loop; may come at once */
};
void stores_own_send(struct stores_own *o);

/* Others came back into sight: whether they still have our routes is not known to an index without ranges, so that each
 * is said to be lost (stores_host.route_lost), soon. */
void stores_own_doubt(struct stores_client *c);

/* What no table has is lost, which only an index knows that has all of them: false, this one has not. */
bool stores_own_settle(struct stores_client *c);

void stores_own_init(struct stores_client *c);
void stores_own_deinit(struct stores_client *c);
