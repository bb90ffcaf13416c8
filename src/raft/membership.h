/* Who takes part in a group, and what makes a quorum.  SPDX-License-Identifier: Apache-2.0
 *
 * A replica id is given once and never again, not even to the same store: a wiped disk comes
 * back as another replica. Joint consensus (Raft thesis 4.3): while a change is under way a
 * member has a role now and a role next, and every decision needs a majority of the voters now
 * and a majority of the voters next. */
#pragma once

#include "base/buf.h"
#include "base/uuid.h"
#include "codec/cursor.h"

#define RAFT_MEMBER_MAX 64 /* matters: bounds the record and the work of every quorum */

/* Roles are bits.  A plain configuration uses the first two; a joint one also says what comes
 * next. */
enum raft_role_bit {
    RAFT_VOTER = 1,
    RAFT_LEARNER = 2,
    RAFT_NEXT_VOTER = 4,
    RAFT_NEXT_LEARNER = 8,
};

struct raft_member {
    uint64_t id;       /* of the replica, never 0 */
    struct uuid store; /* where it lives; only the host looks at it */
    uint8_t role;      /* raft_role_bit, at least one */
};

/* Members in ascending order of id, no id twice. */
struct raft_config {
    /* the largest replica id that was ever a member: an id <= id_max that is no member is gone
     * for good */
    uint64_t id_max;
    uint16_t count;
    bool is_joint;
    struct raft_member member[];
};

/* The bytes of a configuration with count members. */
static inline size_t raft_config_size(size_t count)
{
    return sizeof(struct raft_config) + count * sizeof(struct raft_member);
}

/* A new one of these members (any order; they are sorted); id_max is the larger of the one
 * given and the largest id. Yours: mem_free.  NULL when it is not well-formed: an id of 0 or
 * twice, no role, both roles of one kind, too many. */
struct raft_config *raft_config_new(const struct raft_member *member, size_t count,
                                    uint64_t id_max) must_use;
struct raft_config *raft_config_dup(const struct raft_config *c) must_use;
bool raft_config_eq(const struct raft_config *a, const struct raft_config *b);

/* The member with this id, or NULL. */
const struct raft_member *raft_config_find(const struct raft_config *c, uint64_t id);

/* Votes now or next. */
bool raft_config_is_voter(const struct raft_config *c, uint64_t id);

/* The record of a configuration: the payload of a RAFT_ENTRY_CONFIG entry, and what a host
 * keeps beside the applied index. */
void raft_config_encode(const struct raft_config *c, struct buf *b);

/* Yours: mem_free.  NULL when the bytes are not a well-formed configuration. */
struct raft_config *raft_config_decode(struct str record) must_use;

/* The joint configuration that leads from c (not joint) to the plain one of target, or target
 * itself when the voters stay the same.  NULL when target has no voter, or an id that is gone
 * for good. */
struct raft_config *raft_config_enter(const struct raft_config *c, const struct raft_member *target,
                                      size_t count) must_use;

/* What comes after the joint one. */
struct raft_config *raft_config_leave(const struct raft_config *c) must_use;

/* The largest value that a majority of the voters now, and of the voters next when joint, have
 * reached.  value[i] is that of member[i].  0 when there is no voter. */
uint64_t raft_quorum_value(const struct raft_config *c, const uint64_t value[RAFT_MEMBER_MAX]);

enum raft_tally {
    RAFT_TALLY_OPEN,
    RAFT_TALLY_WON,
    RAFT_TALLY_LOST,
};

/* vote[i] of member[i]: > 0 granted, < 0 refused, 0 not heard of. */
enum raft_tally raft_quorum_tally(const struct raft_config *c, const int8_t vote[RAFT_MEMBER_MAX]);
