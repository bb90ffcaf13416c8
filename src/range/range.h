/* One range of a store as its own replicas know it.  SPDX-License-Identifier: Apache-2.0
 *
 * Part of the replicated state: the same on every replica at the same index.  Kept beside the
 * applied index, carried
 * in snapshots. */
#pragma once

#include "range/command.h"

/* What becomes of two neighbours is decided by the log of the left one, the merger: of COMMIT and
 * CANCEL the first counts.  Between BEGIN and the decision, and until a mergee that was cancelled
 * has been thawed, the merger's bounds and members stand still; those of a frozen mergee, and all
 * it holds, until it is thawed or gone. */
enum range_merge_state {
    RANGE_MERGE_NONE = 0,
    RANGE_MERGE_BEGUN,
    RANGE_MERGE_CANCELLED, /* the mergee may still be frozen */
};

struct range_merge {
    enum range_merge_state state;
    uint64_t serial;
    struct range_id mergee;
    struct range_version version; /* at which the mergee may be frozen */
};

struct range {
    struct range_id id;
    struct range_version version;
    struct range_bounds bounds; /* owned */
    uint64_t hlc;               /* the latest time applied: a command never goes back behind it */
    struct range_merge merge;   /* as merger */
    uint64_t frozen;            /* as mergee: serial of the merge; 0: not */
};

/* The whole key space, version 1|0. */
void range_init(struct range *r, struct range_id id);
void range_deinit(struct range *r);

enum range_verdict {
    RANGE_OK = 0,
    RANGE_E_VERSION =
        1,        /* another version: nothing happened, the proposer may look anew and repeat */
    RANGE_E_KEY,  /* SPLIT: the key is not inside */
    RANGE_E_BUSY, /* SPLIT, MERGE_: a merge is in the way, or this is not the one under way */
};

/* Decides one committed command, in the order of the log.  WRITE: RANGE_OK tells the host to give
 * the commands to the machine, at c->hlc, which is never before the one of the command before (it
 * is raised if it was). SPLIT: r keeps [start, key), *out_right (yours: range_deinit) is [key, end)
 * at the same, raised boundary version.  MERGE_COMMIT: RANGE_OK: the bounds are those of both, at a
 * boundary version higher than either's; the host must bring the mergee's rows. */
must_use int range_apply(struct range *r, struct range_command *c, struct range *out_right);

/* Every row that a command wrote is inside: one that is not (a damaged or forged command, a fault of the
 * machine) is to be refused whole, the same on every replica. */
bool range_has_rows(const struct range *r, const struct range_out *out);

/* Would this MERGE_COMMIT be carried out if it were applied now? */
bool range_can_commit(const struct range *r, const struct range_command *c);

/* A committed configuration took effect. */
void range_config_changed(struct range *r);

/* Asserts: bounds are valid, versions are not 0. */
void range_check(const struct range *r);

void range_encode(const struct range *r, struct buf *out);
enum range_decode_outcome {
    RANGE_DECODE_E_BAD = 1,
};
/* *out is yours on 0. */
must_use int range_decode(struct str record, struct range *out);
