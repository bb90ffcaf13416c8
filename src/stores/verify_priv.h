/* Attached sessions compared with their inboxes.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/list.h"
#include "net/loop.h"

struct stores_client;

struct stores_verify {
    struct list doubted; /* stores_held.doubt: to be compared */
    unsigned flight_count;
    struct net_timer timer;
};

void stores_verify_init(struct stores_client *c);
void stores_verify_deinit(struct stores_client *c);

/* A member came, or came back: it may have taken this node for dead. */
void stores_verify_all(struct stores_client *c);
