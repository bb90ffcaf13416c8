/* The inside of the balancers, for this room.  SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "balance/balance.h"

#define BALANCE_LAG_MAX 1000 /* entries a learner may be behind to be made a voter */

struct balance_tally { /* of one node in this store */
    unsigned votes, leads, replicas;
    unsigned votes_before, leads_before; /* and in the stores before this one */
};

/* What moving one of something from here to there helps; 0: nothing.  The store's own spread counts
 * first; where that stays as it is, the spread over this store and those before it. */
unsigned balance_gain(unsigned here, unsigned here_before, unsigned there, unsigned there_before);

struct balance_lead {                 /* a leadership that is best moved */
    const struct range_descriptor *d; /* NULL: none */
    const struct range_member *to;
    const char *why;
};

/* A view with what is counted once. */
struct balance_sight {
    const struct balance_view *v;
    size_t node_count;
    struct balance_tally tally[BALANCE_NODE_MAX]; /* by node of the view */
    unsigned moving;                              /* members on live nodes that are catching up */
    struct balance_lead lead;
    struct {                              /* a vote that would be better elsewhere */
        const struct range_descriptor *d; /* NULL: none */
        struct uuid from, to;
        unsigned gain;
    } swap;
};

/* All nodes with the same view find the same ones. */
void balance_lead_find(struct balance_sight *s);
void balance_swap_find(struct balance_sight *s);

typedef bool balance_ask(const struct balance_sight *s, const struct range_descriptor *d,
                         struct balance_step *out);
balance_ask balance_unreachable, balance_replicas, balance_leader, balance_split, balance_merge;

/* Its place in the view; node_count: it is not there. */
size_t balance_index_of(const struct balance_sight *s, const struct uuid *u);
const struct balance_node *balance_node_of(const struct balance_sight *s, const struct uuid *u);
/* Zeros for a node that the view does not have. */
struct balance_tally balance_tally_of(const struct balance_sight *s, const struct uuid *u);
bool balance_is_live(const struct balance_sight *s, const struct uuid *u);
/* Alive and to be given something. */
bool balance_is_usable(const struct balance_sight *s, const struct uuid *u);
/* Dead for longer than its grace. */
bool balance_is_lost(const struct balance_sight *s, const struct uuid *u);
bool balance_is_removed(const struct balance_sight *s, const struct uuid *u);
const struct range_member *balance_member_of(const struct range_descriptor *d,
                                             const struct uuid *u);
/* Could vote or lead at once: keeps up, on a usable node. */
bool balance_is_ready(const struct balance_sight *s, const struct range_member *m);

struct balance_plan { /* members of one range as they are to be */
    const struct balance_sight *s;
    const struct range_descriptor *d;
    struct uuid voter[RANGE_MEMBER_MAX], learner[RANGE_MEMBER_MAX];
    unsigned voters, learners;
};

/* The members as they are. */
void balance_plan_init(struct balance_plan *p, const struct balance_sight *s,
                       const struct range_descriptor *d);
bool balance_plan_has(const struct balance_plan *p, const struct uuid *u);
bool balance_plan_votes(const struct balance_plan *p, const struct uuid *u);
void balance_plan_drop(struct balance_plan *p, const struct uuid *u);
/* The step that makes the plan true; false: it is true already, or must not be done. */
bool balance_plan_step(const struct balance_plan *p, enum balance_kind kind, const char *why,
                       struct balance_step *out);
