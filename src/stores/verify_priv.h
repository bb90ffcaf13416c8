/* Attached sessions compared with their inboxes.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/list.h"
#include "net/loop.h"

struct stores_client;

struct stores_verify {
    struct list doubted; /* stores_held.doubt: to be compared */
    unsigned flight_count;
    struct net_timer timer;
    struct net_timer round; /* all in turn */
    size_t round_at;
};

void stores_verify_init(struct stores_client *c);
void stores_verify_deinit(struct stores_client *c);
void stores_verify_start(struct stores_client *c); /* in a cluster; before the loop runs */

/* A member came, or came back: it may have taken this node for dead. */
void stores_verify_all(struct stores_client *c);
