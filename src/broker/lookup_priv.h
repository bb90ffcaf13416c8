/* What matches a topic, asked of other nodes: while this node does not have the whole table of subscriptions.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One question serves all that ask for a topic before it is on its way, so each gets every subscription that was there
 * when it asked. */
#pragma once

#include "broker/loop_priv.h"

struct broker_lookup {
    struct list link; /* of loop.lookups.open, or .asked */
    uint64_t hash;
    struct broker_loop *loop; /* NULL: it has ended */
    struct broker_tenant *tenant;
    uint32_t refs; /* one is the question's */
    bool is_done;
    struct dist_index *index; /* once done: what matches, and nothing else; NULL: nobody answered */
    struct str topic;
    char text[];
};

/* For somebody who asks now: one that is not on its way yet, or a new one; broker_hold_look is called when it is
 * done, which is in a later turn. */
struct broker_lookup *broker_lookup_get(struct broker_loop *l, struct broker_tenant *tenant,
                                        struct str topic) must_use;
struct broker_lookup *broker_lookup_ref(struct broker_lookup *x) must_use;
void broker_lookup_unref(struct broker_lookup *x);

/* Nobody answered lately.  Then each call sees to it that somebody is being asked. */
bool broker_lookup_is_vain(struct broker_loop *l, struct broker_tenant *tenant, struct str topic);

/* Sends the questions, at the end of the turn. */
void broker_lookup_flush(struct broker_loop *l);

void broker_lookup_init(struct broker_loop *l);
/* Nobody is told any more. */
void broker_lookup_deinit(struct broker_loop *l);
