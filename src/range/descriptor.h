/* What one replica tells the whole cluster about itself and its range.  SPDX-License-Identifier: Apache-2.0
 *
 * Gossiped, so possibly old, and never a base for a decision that must be right: routers, balancers
 * and status pages read
 * it, Raft and the versions guard what they then do.  Only the leader's has members. */
#pragma once

#include "base/uuid.h"
#include "range/bounds.h"

#define RANGE_MEMBER_MAX 16
#define RANGE_FACT_MAX 1024 /* bytes; a longer fact is left out */

enum range_replica_role {
    RANGE_ROLE_NONE = 0,
    RANGE_ROLE_LEARNER = 1,
    RANGE_ROLE_FOLLOWER = 2,
    RANGE_ROLE_CANDIDATE = 3,
    RANGE_ROLE_LEADER = 4,
};

struct range_member {
    struct uuid node;
    uint64_t replica;
    uint64_t lag;       /* entries behind */
    uint64_t silent_ms; /* since the leader last heard of it */
    bool is_voter, is_learner, is_next_voter,
        is_next_learner; /* the next ones only in a joint configuration */
    bool is_current;     /* replicating, neither probed nor sent a snapshot */
};

struct range_descriptor {
    struct range_id id;
    struct range_version version;
    struct range_bounds bounds; /* views */
    uint64_t replica;
    enum range_replica_role role;
    struct uuid leader; /* zero: unknown */
    uint64_t term;
    uint64_t commit, applied;
    uint64_t bytes, log_bytes;
    uint32_t rate; /* commands a second, lately */
    /* of the node's own only, not told: receivers of what has the most of them, when last looked, and
     * whether the range can be split beside it */
    uint64_t fanout;
    bool has_crowd;
    bool is_ready; /* the machine is complete */
    bool is_joint;
    struct range_member member[RANGE_MEMBER_MAX];
    unsigned member_count;
    struct str fact; /* the machine's; a view */
};

void range_descriptor_encode(const struct range_descriptor *d, struct buf *out);

enum range_descriptor_outcome {
    RANGE_DESCRIPTOR_E_BAD = 1,
};
/* Views into record. */
must_use int range_descriptor_decode(struct str record, struct range_descriptor *out);

/* The key of a descriptor under a store: epoch and id in hexadecimal. */
#define RANGE_ID_TEXT 34 /* 16 + '-' + 16 and NUL */
void range_id_format(struct range_id id, char out[RANGE_ID_TEXT]);
bool range_id_parse(struct str s, struct range_id *out);
