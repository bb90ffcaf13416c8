/* What to do next about the ranges this node leads: a function of the landscape.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every node asks the same questions of its own view, acts only on ranges it leads, and one command
 * at a time; the version in the command makes an old view harmless.  Balancers, in the order in
 * which they are asked:
 *   UnreachableReplicaRemovalBalancer  a member on a live node that never answers
 *   ReplicaCntBalancer                 voters (odd) and learners as wanted; the dead replaced after
 *                                      a grace, the removed at once; voters spread evenly
 *   RangeLeaderBalancer                leaders spread evenly; away from a node that drains
 *   RangeSplitBalancer                 a range that has grown too large, has too much to do, or has
 *                                      a filter with so many receivers that it is to be alone
 *   RangeMergeBalancer                 two small neighbours that nobody uses much
 * RangeBootstrapBalancer is kv's: it needs the disk's word. */
#pragma once

#include "base/usec.h"
#include "range/descriptor.h"

#define BALANCE_NODE_MAX 256 /* nodes of a view beyond this many are not looked at */

struct balance_node {
    struct uuid node;
    bool is_live;     /* alive, perhaps suspected */
    bool is_draining; /* takes nothing new and gives its leaderships away */
    bool is_removed;  /* an operator wants nothing to be left on it, alive or dead */
    usec_t dead_usec; /* how long it has been dead, or has left */
    unsigned votes_before, leads_before; /* in the stores whose names come before this one's */
};

enum balance_kind {
    BALANCE_UNREACHABLE,
    BALANCE_REPLICAS,
    BALANCE_LEADER,
    BALANCE_SPLIT,
    BALANCE_MERGE,
    BALANCE_BOOTSTRAP, /* from here on not asked by balance_next */
    BALANCE_REDUNDANT,
    BALANCE_RECOVERY, /* an old name: accepted, does nothing */
};
#define BALANCE_KIND_COUNT 8

struct balance_rule {
    unsigned voter_count;    /* wanted: odd */
    int learner_count;       /* -1: every other live node */
    unsigned move_max;       /* members that are catching up at a time, in the whole store; 0: 4 */
    usec_t dead_usec;        /* grace before a dead member is replaced */
    usec_t unreachable_usec; /* silence of a member on a live node; 0: 15 s */
    uint64_t split_bytes;    /* 0: never by size */
    uint64_t split_rate;     /* commands a second; 0: never by load */
    uint64_t split_fanout;   /* receivers of one filter; 0: never by fan-out */
    uint64_t merge_bytes;    /* both together; 0: never */
    uint64_t merge_rate;     /* commands a second of both together */
    bool is_off[BALANCE_KIND_COUNT];
};

/* The landscape of one store: the leaders' descriptors (one per range), all nodes ever heard of. */
struct balance_view {
    struct uuid self;
    const struct balance_node *node;
    size_t node_count;
    const struct range_descriptor *range;
    size_t range_count;
    size_t mine_count; /* the first of the ranges: led here and to be acted on by the caller */
    usec_t known_usec; /* how long we know the cluster: who was not heard of in that time is dead */
    struct balance_rule rule;
};

enum balance_action {
    BALANCE_DO_NOTHING = 0,
    BALANCE_DO_CONFIG,   /* node[0 .. voter_count) vote, the others learn */
    BALANCE_DO_TRANSFER, /* leadership to node[0] */
    BALANCE_DO_SPLIT,
    BALANCE_DO_MERGE, /* with its right neighbour, which is led here too */
};

struct balance_step {
    enum balance_action action;
    enum balance_kind kind; /* who says so */
    struct range_id id;
    struct range_version version;
    struct range_id neighbour; /* DO_MERGE */
    bool is_beside_crowd; /* DO_SPLIT: not in the middle, but next to what has the most receivers */
    struct uuid node[RANGE_MEMBER_MAX];
    unsigned node_count, voter_count;
    const char *why; /* for people */
};

/* The next command for a range of the first mine_count; BALANCE_DO_NOTHING when all is well or only
 * time can help. */
void balance_next(const struct balance_view *v, struct balance_step *out);

/* What holds where nobody said otherwise: of everything but voters, learners and split_bytes. */
struct balance_rule balance_rule_default(void);

/* The name users know ("ReplicaCntBalancer"). */
const char *balance_name(enum balance_kind k);

/* BALANCE_KIND_COUNT when there is none of this name.  A Java class name or factory ends in it and
 * is understood too. */
enum balance_kind balance_kind_of(struct str name);

/* The odd number of voters that n usable nodes allow, at most wanted. */
unsigned balance_voters(unsigned wanted, unsigned n);
