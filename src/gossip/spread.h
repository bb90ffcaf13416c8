/* Rumours on their way: the transmit-limited queue.  SPDX-License-Identifier: Apache-2.0
 *
 * SWIM 4.1; a newer rumour about a subject replaces the older one, what was sent least goes first.
 */
#pragma once

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"

enum gossip_rank { /* what goes first */
                   GOSSIP_RANK_REFUTE,
                   GOSSIP_RANK_GONE, /* dead, left */
                   GOSSIP_RANK_ALIVE,
                   GOSSIP_RANK_SUSPECT,
                   GOSSIP_RANK_ROW,
                   GOSSIP_RANK_COUNT,
};

#define GOSSIP_TRANSMITS_MAX                                                                       \
    32 /* matters: not below twice the limit of the largest cluster, 4 * ceil(log10(4097)) = 16 */
#define GOSSIP_SPREAD_FEW 8 /* so many rumours of a rank fit into a packet beside others */
#define GOSSIP_SPREAD_ROWS_MAX                                                                     \
    2048 /* rumours about rows; beyond it the most transmitted is dropped, syncs repair */

struct gossip_spread {
    struct map by_subject;
    struct list queue[GOSSIP_RANK_COUNT][GOSSIP_TRANSMITS_MAX];
    size_t rank_count[GOSSIP_RANK_COUNT];
};

void gossip_spread_init(struct gossip_spread *q);
void gossip_spread_deinit(struct gossip_spread *q);

/* Queues a copy of msg; an older one with this subject (a hash) goes. */
void gossip_spread_put(struct gossip_spread *q, uint64_t subject, enum gossip_rank rank,
                       struct str msg);

void gossip_spread_del(struct gossip_spread *q, uint64_t subject);

/* Drops all of this rank. */
void gossip_spread_clear(struct gossip_spread *q, enum gossip_rank rank);

/* Still to be sent? */
bool gossip_spread_has(const struct gossip_spread *q, uint64_t subject);

/* Fills a packet: calls put for each rumour that still fits into `room` bytes, in order; each
 * counts one transmit and is gone when it has `limit` of them, or twice as many while its rank has
 * few: a member is missed by all who know with a chance of e^-transmits, and then has to wait for an
 * exchange.  A flood has the plain limit and is no longer than it must be. */
void gossip_spread_take(struct gossip_spread *q, unsigned limit, size_t room,
                        void (*put)(void *arg, struct str msg), void *arg);

static inline size_t gossip_spread_len(const struct gossip_spread *q)
{
    return q->by_subject.count;
}

void gossip_spread_check(const struct gossip_spread *q);
