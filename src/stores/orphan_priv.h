/* What dead processes left: sessions that nobody detached, routes of sessions that are no more.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The leader of each range looks for them when it begins to lead, when a member dies, and now and
 * then; it proposes the commands that detach those sessions (so that wills and expiry run) and
 * remove those routes. */
#pragma once

#include "base/list.h"
#include "net/loop.h"
#include "stores/port_priv.h"
#include "stores/stores.h"

struct stores_orphans {
    struct list led; /* struct led: ranges that lead on this loop */
    struct net_timer timer;
    struct net_timer
        sweep;       /* routes that a range here once had and no other range here took over */
    usec_t known_at; /* from then on a node that we never heard of counts as dead */
};

void stores_orphans_init(struct stores_client *c);
void stores_orphans_deinit(struct stores_client *c);

/* A range of `table` on this loop leads, or leads no more (struct kv_host.leader). */
void stores_orphans_leader(struct stores_client *c, enum stores_table table,
                           const struct kv_range_view *r, bool is_leader);

/* A member came or went: look again soon. */
void stores_orphans_look(struct stores_client *c);

/* A range of the dist table is complete on this loop: what is left over of ranges whose bounds
 * moved goes soon, when the ranges that have it now had time to load. */
void stores_orphans_sweep(struct stores_client *c);

/* Has this process ended, as far as this node knows? */
bool stores_orphans_is_dead(const struct stores_client *c, const struct uuid *node, uint64_t epoch);
