/* What to do next about the ranges this node leads: a function of the landscape.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every node asks the same questions of its own view, acts only on ranges it leads, and one command
 * at a time; the version in the command makes an old view harmless.  Balancers, in the order in
 * which they are asked:
 *   UnreachableReplicaRemovalBalancer  a member on a live node that never answers
 *   ReplicaCntBalancer                 voters (odd) and learners as wanted; the dead replaced after a
 *                                      grace
 *   RangeLeaderBalancer                leaders spread evenly; away from a node that drains
 *   RangeSplitBalancer                 a range that has grown too large */
#pragma once

#include "base/usec.h"
#include "range/descriptor.h"

struct balance_node {
    struct uuid node;
    bool is_live;     /* alive, perhaps suspected */
    bool is_left;     /* has said that it leaves for good */
    bool is_draining; /* takes nothing new and gives its leaderships away */
    usec_t dead_usec; /* how long it has been dead */
};

struct balance_rule {
    unsigned voter_count;   /* wanted: odd */
    int learner_count;      /* -1: every other live node */
    usec_t dead_usec;       /* grace before a dead member is replaced */
    usec_t unreachable_usec;/* silence of a member on a live node; 0: 15 s */
    uint64_t split_bytes;   /* 0: never */
    bool is_off[4];         /* by enum balance_kind */
};

enum balance_kind {
    BALANCE_UNREACHABLE,
    BALANCE_REPLICAS,
    BALANCE_LEADER,
    BALANCE_SPLIT,
};
#define BALANCE_KIND_COUNT 4

/* The landscape of one store: the leaders' descriptors (one per range), all nodes ever heard of. */
struct balance_view {
    struct uuid self;
    const struct balance_node *node;
    size_t node_count;
    const struct range_descriptor *range;
    size_t range_count;
    struct balance_rule rule;
};

enum balance_action {
    BALANCE_DO_NOTHING = 0,
    BALANCE_DO_CONFIG,   /* node[0 .. voter_count) vote, the others learn */
    BALANCE_DO_TRANSFER, /* leadership to node[0] */
    BALANCE_DO_SPLIT,
};

struct balance_step {
    enum balance_action action;
    enum balance_kind kind; /* who says so */
    struct range_id id;
    struct range_version version;
    struct uuid node[RANGE_MEMBER_MAX];
    unsigned node_count, voter_count;
    const char *why; /* for people */
};

/* The next command for a range that self leads; BALANCE_DO_NOTHING when all is well or only time can
 * help. */
void balance_next(const struct balance_view *v, struct balance_step *out);

/* The name users know ("ReplicaCntBalancer"). */
const char *balance_name(enum balance_kind k);

/* The odd number of voters that n usable nodes allow, at most wanted. */
unsigned balance_voters(unsigned wanted, unsigned n);
