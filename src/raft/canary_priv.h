/* Faults that the simulator plants to prove that it would see them.  SPDX-License-Identifier:
 * Apache-2.0
 *
 * Only objects that are compiled with -DRAFT_CANARY, for build/sim/raft_canary, ask; in the
 * product every question is the constant false.  Each is a fault that a real store has had. */
#pragma once

#include "base/must.h"

enum raft_canary_fault {
    RAFT_CANARY_NONE,
    /* a follower takes its whole log for committed while some of it is not durable */
    RAFT_CANARY_OVER_COMMIT,
    RAFT_CANARY_TRUNCATE,        /* every append cuts the log behind itself */
    RAFT_CANARY_DOUBLE_VOTE,     /* a candidate's own vote does not reach the disk */
    RAFT_CANARY_ACK_UNFLUSHED,   /* an acknowledgement does not wait for the disk */
    RAFT_CANARY_NOT_ACK_CLOCKED, /* an acknowledgement lets nothing more go */
    RAFT_CANARY_LYING_DISK,      /* the host reports a write as durable before it is */
    RAFT_CANARY_ENDLESS_LEASE,   /* the lease does not look at the clock */
    RAFT_CANARY_COUNT,
};

#ifdef RAFT_CANARY
bool raft_canary(enum raft_canary_fault f);
#else
#define raft_canary(f) false
#endif
