/* This node's live subscriptions: one route in the match index per (tenant, filter), however many clients have it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The index keeps one pointer for us beside each filter (its host slot): there hangs a broker_filter
 * with, for each loop,
 * that loop's subscribers.  Which loops have any is a mask that all loops read.  Every filter has a home loop
 * (by hash) that alone adds and removes the node's route and the mask's bits, so that a last unsubscribe and a first
 * subscribe on two loops cannot cross each other. */
#pragma once

#include "broker/loop_priv.h"

/* One subscription of one connected clean session. */
struct broker_sub {
    struct broker_filter *filter; /* NULL: not in the hub (yet): joining, or a shared one */
    struct broker_conn *conn;     /* NULL: the client left while it joined */
    struct broker_sub *next;      /* of the same connection */
    uint32_t place : 31;          /* in filter's list of this loop */
    uint32_t is_checked : 1;      /* access rules allow some of its topics only: ask for each */
    uint32_t sub_id : 28;         /* Subscription Identifier, 0: none */
    uint32_t qos : 2;
    uint32_t no_local : 1;
    uint32_t as_published : 1; /* Retain As Published */
};

/* The subscribers of one filter on one loop; only that loop looks inside. */
struct broker_members {
    struct broker_sub **sub;
    uint32_t count, cap;
};

struct broker_filter {
    _Atomic uint64_t mask; /* loops with members */
    struct broker_tenant *tenant;
    uint32_t text_len;
    struct broker_members loop[]; /* [loop_count], then the text */
};

struct str broker_filter_text(const struct broker *b, const struct broker_filter *f);

/* How a join ended: 0, or of enum stores_outcome.  sub is in the filter's list when 0. */
typedef void broker_hub_done(struct broker_loop *l, struct broker_sub *sub, int outcome, void *arg);

/* Makes sub (of a connection of l) a member; done comes now or in a later turn, when this node's index matches it. */
void broker_hub_join(struct broker_loop *l, struct broker_tenant *tenant, struct str filter,
                     struct broker_sub *sub, broker_hub_done *done, void *arg);

/* Takes it out of its filter's list; the last one of the loop tells the home loop.  sub is the caller's again. */
void broker_hub_leave(struct broker_loop *l, struct broker_sub *sub);

/* The loop that alone adds and removes the node's route of this filter.  Any thread. */
struct broker_loop *broker_hub_home(struct broker *b, const struct broker_tenant *tenant,
                                    struct str filter);

/* Does anybody here have, or just join, this filter?  On its home loop. */
bool broker_hub_wants(struct broker_loop *home, struct broker_tenant *tenant, struct str filter);

/* Asserts the invariants of one filter's list of this loop. */
void broker_hub_check(const struct broker_loop *l, const struct broker_filter *f);
